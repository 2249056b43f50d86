exports.up = async (query, types) => {
  const id = { type: types.BIGINT, primaryKey: true, autoIncrement: true };
  await query.createTable("authors", { id, name: { type: types.TEXT, allowNull: false }, email: types.TEXT });
  await query.createTable("books", {
    id,
    author_id: types.BIGINT,
    title: types.TEXT,
    isbn: types.TEXT,
    pages: types.INTEGER,
  });
  await query.addIndex("books", ["isbn"], { name: "books_isbn" });
};
