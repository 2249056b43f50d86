exports.up = async (knex) => {
  await knex.schema.alterTable("books", (t) => {
    t.foreign("author_id", "books_author").references("authors.id");
    t.dropNullable("title");
  });
  await knex.schema.alterTable("authors", (t) => t.unique("email", { indexName: "authors_email" }));
};
exports.down = async () => {};
