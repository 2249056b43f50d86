ALTER TABLE books ADD CONSTRAINT books_author FOREIGN KEY (author_id) REFERENCES authors;
ALTER TABLE books ALTER title SET NOT NULL;
ALTER TABLE authors ADD CONSTRAINT authors_email UNIQUE (email);
