ALTER TABLE "books" ADD COLUMN "status" text DEFAULT 'draft' NOT NULL;--> statement-breakpoint
CREATE INDEX "books_title" ON "books" USING btree ("title");
