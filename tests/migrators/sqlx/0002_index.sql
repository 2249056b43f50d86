-- The index that the search page needs; the column comes with it.
CREATE INDEX books_title ON books (title);
ALTER TABLE books ADD COLUMN status text NOT NULL DEFAULT 'draft';
