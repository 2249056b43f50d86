module.exports = {
  development: {
    dialect: "postgres",
    host: "127.0.0.1",
    port: Number(process.env.PGPORT),
    username: "postgres",
    database: process.env.PGDATABASE,
    logging: false,
  },
};
