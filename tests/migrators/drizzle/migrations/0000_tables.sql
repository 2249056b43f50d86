CREATE TABLE "authors" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"email" text
);
--> statement-breakpoint
CREATE TABLE "books" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"author_id" bigint,
	"title" text,
	"isbn" text,
	"pages" integer
);
--> statement-breakpoint
CREATE INDEX "books_isbn" ON "books" USING btree ("isbn");
