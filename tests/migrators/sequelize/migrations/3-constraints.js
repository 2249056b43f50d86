exports.up = async (query, types) => {
  await query.sequelize.transaction(async (transaction) => {
    await query.addConstraint("books", {
      fields: ["author_id"],
      type: "foreign key",
      name: "books_author",
      references: { table: "authors", field: "id" },
      transaction,
    });
    await query.changeColumn("books", "title", { type: types.TEXT, allowNull: false }, { transaction });
  });
  await query.addConstraint("authors", { fields: ["email"], type: "unique", name: "authors_email" });
};
