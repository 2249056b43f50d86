const { DataSource } = require("typeorm");

class Tables1700000000001 {
  async up(runner) {
    await runner.query("CREATE TABLE authors (id bigserial PRIMARY KEY, name text NOT NULL, email text)");
    await runner.query("CREATE TABLE books (id bigserial PRIMARY KEY, author_id bigint, title text, isbn text, pages int)");
    await runner.query("CREATE INDEX books_isbn ON books (isbn)");
  }
}
class Index1700000000002 {
  async up(runner) {
    await runner.query('CREATE INDEX "books_title" ON "books" ("title")');
    await runner.query(`ALTER TABLE "books" ADD "status" text NOT NULL DEFAULT 'draft'`);
  }
}
class Constraints1700000000003 {
  async up(runner) {
    await runner.query(
      'ALTER TABLE "books" ADD CONSTRAINT "books_author" FOREIGN KEY ("author_id") REFERENCES "authors"("id") ON DELETE NO ACTION ON UPDATE NO ACTION',
    );
    await runner.query('ALTER TABLE "books" ALTER COLUMN "title" SET NOT NULL');
    await runner.query('ALTER TABLE "authors" ADD CONSTRAINT "authors_email" UNIQUE ("email")');
  }
}
class More1700000000004 {
  async up(runner) {
    await runner.query("ALTER TABLE books ADD CONSTRAINT books_pages CHECK (pages > 0)");
    await runner.query("UPDATE authors SET name = upper(name) WHERE id <= $1", [5]);
    await runner.query("DROP INDEX books_isbn");
  }
}

const all = [Tables1700000000001, Index1700000000002, Constraints1700000000003, More1700000000004];
const source = new DataSource({
  type: "postgres",
  host: "127.0.0.1",
  port: Number(process.env.PGPORT),
  username: "postgres",
  database: process.env.PGDATABASE,
  migrations: process.argv[2] === "first" ? all.slice(0, 1) : all,
});
(async () => {
  await source.initialize();
  try {
    await source.runMigrations({ transaction: "each" });
  } finally {
    await source.destroy();
  }
})().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
