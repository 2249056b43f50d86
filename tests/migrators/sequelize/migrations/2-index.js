exports.up = async (query, types) => {
  await query.addIndex("books", ["title"], { name: "books_title" });
  await query.addColumn("books", "status", { type: types.TEXT, allowNull: false, defaultValue: "draft" });
};
