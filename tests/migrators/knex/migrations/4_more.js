exports.up = async (knex) => {
  await knex.raw("ALTER TABLE books ADD CONSTRAINT books_pages CHECK (pages > 0)");
  await knex("authors").where("id", "<=", 5).update({ name: knex.raw("upper(name)") });
  await knex.schema.alterTable("books", (t) => t.dropIndex("isbn", "books_isbn"));
};
exports.down = async () => {};
