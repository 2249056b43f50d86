exports.up = async (query) => {
  await query.sequelize.query("ALTER TABLE books ADD CONSTRAINT books_pages CHECK (pages > 0)");
  await query.sequelize.query("UPDATE authors SET name = upper(name) WHERE id <= 5");
  await query.removeIndex("books", "books_isbn");
};
