ALTER TABLE books ADD CONSTRAINT books_pages CHECK (pages > 0);
UPDATE authors SET name = upper(name) WHERE id <= 5;
DROP INDEX books_isbn;
