const fs = require("node:fs");
const { Pool } = require("pg");
const { drizzle } = require("drizzle-orm/node-postgres");
const { migrate } = require("drizzle-orm/node-postgres/migrator");

// The journal is what drizzle-kit writes; the first step has only its first entry.
const folder = "migrations";
if (process.argv[2] === "first") {
  const journal = JSON.parse(fs.readFileSync(`${folder}/meta/_journal.json`));
  fs.cpSync(folder, "first", { recursive: true });
  fs.writeFileSync("first/meta/_journal.json", JSON.stringify({ ...journal, entries: journal.entries.slice(0, 1) }));
}
const pool = new Pool({ host: "127.0.0.1", port: Number(process.env.PGPORT), user: "postgres", database: process.env.PGDATABASE });
migrate(drizzle(pool), { migrationsFolder: process.argv[2] === "first" ? "first" : folder })
  .catch((error) => {
    console.error(error.message, error.cause?.message);
    process.exitCode = 1;
  })
  .finally(() => pool.end());
