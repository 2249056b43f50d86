exports.up = (pgm) => {
  pgm.createIndex("books", "title", { name: "books_title" });
  pgm.addColumn("books", { status: { type: "text", notNull: true, default: "draft" } });
};
exports.down = false;
