exports.up = async (knex) => {
  await knex.schema.createTable("authors", (t) => {
    t.bigIncrements();
    t.text("name").notNullable();
    t.text("email");
  });
  await knex.schema.createTable("books", (t) => {
    t.bigIncrements();
    t.bigInteger("author_id");
    t.text("title");
    t.text("isbn");
    t.integer("pages");
    t.index("isbn", "books_isbn");
  });
};
exports.down = async () => {};
