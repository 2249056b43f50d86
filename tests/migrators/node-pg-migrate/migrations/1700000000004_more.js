exports.up = (pgm) => {
  pgm.addConstraint("books", "books_pages", { check: "pages > 0" });
  pgm.sql("UPDATE authors SET name = upper(name) WHERE id <= 5");
  pgm.dropIndex("books", "isbn", { name: "books_isbn" });
};
exports.down = false;
