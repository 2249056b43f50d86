const knex = require("knex")({
  client: "pg",
  connection: { host: "127.0.0.1", port: Number(process.env.PGPORT), user: "postgres", database: process.env.PGDATABASE },
});
const step = process.argv[2] === "first" ? knex.migrate.up() : knex.migrate.latest();
step.then(
  () => knex.destroy(),
  (error) => {
    console.error(error.message);
    process.exitCode = 1;
    return knex.destroy();
  },
);
