exports.up = (pgm) => {
  pgm.createTable("authors", { id: { type: "bigserial", primaryKey: true }, name: { type: "text", notNull: true }, email: "text" });
  pgm.createTable("books", {
    id: { type: "bigserial", primaryKey: true },
    author_id: "bigint",
    title: "text",
    isbn: "text",
    pages: "integer",
  });
  pgm.createIndex("books", "isbn", { name: "books_isbn" });
};
exports.down = false;
