ALTER TABLE "books" ADD CONSTRAINT "books_pages" CHECK ("books"."pages" > 0);--> statement-breakpoint
UPDATE authors SET name = upper(name) WHERE id <= 5;--> statement-breakpoint
DROP INDEX "books_isbn";
