exports.up = (pgm) => {
  pgm.addConstraint("books", "books_author", { foreignKeys: { columns: "author_id", references: "authors" } });
  pgm.alterColumn("books", "title", { notNull: true });
  pgm.addConstraint("authors", "authors_email", { unique: "email" });
};
exports.down = false;
