CREATE TABLE authors (id bigserial PRIMARY KEY, name text NOT NULL, email text);
CREATE TABLE books (id bigserial PRIMARY KEY, author_id bigint, title text, isbn text, pages int);
CREATE INDEX books_isbn ON books (isbn);
