exports.up = (knex) =>
  knex.schema.alterTable("books", (t) => {
    t.index("title", "books_title");
    t.text("status").notNullable().defaultTo("draft");
  });
exports.down = async () => {};
