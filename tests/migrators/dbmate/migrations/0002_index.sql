-- migrate:up
CREATE INDEX books_title ON books (title);
ALTER TABLE books ADD COLUMN status text NOT NULL DEFAULT 'draft';

-- migrate:down
