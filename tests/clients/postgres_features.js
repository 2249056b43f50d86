// What people do with postgres.js. Everything printed must be the same through the proxy and without it.
const postgres = require('postgres');
const { Readable } = require('stream');
const { pipeline } = require('stream/promises');

const show = (...what) => console.log(...what.map((one) => JSON.stringify(one)));
const told = (e) => show(e.name, e.code, e.message, e.detail, e.hint, e.position, e.constraint_name, e.severity);
const notices = [];
const options = { max: 3, connection: { application_name: 'features' }, onnotice: (n) => notices.push([n.severity, n.message]) };

async function statements(sql) {
  const result = await sql`SELECT 1 AS a, 'x' AS b, NULL AS c, ARRAY[1,2] AS d, '{"k": 1}'::jsonb AS e, true AS f`;
  show(result.command, result.count, result, result.columns.map((c) => [c.name, c.type]));
  show(await sql`SELECT ${1}::int + 1 AS n, ${"it's ☃"}::text AS t, ${sql.json({ a: [1] })}::jsonb AS j, ${[1, 2]}::int[] AS l`);
  show(await sql`SELECT ${new Date(0)}::timestamptz AS d, ${Buffer.from([0, 255])}::bytea AS b, ${null}::int AS z`);
  show(await sql`SELECT id, tenant FROM users WHERE id IN ${sql([1, 2, 3])} ORDER BY id`.values());
  show(await sql`SELECT ${sql('id')} FROM ${sql('users')} WHERE ${sql`id < ${3}`} ORDER BY id`);
  const many = [...Array(200).keys()].map((n) => ({ id: 5000 + n, tenant: n }));
  show((await sql`INSERT INTO users ${sql(many)}`).count);
  show(await sql`UPDATE users SET ${sql({ tenant: 8, email_verified: true })} WHERE id = ${4} RETURNING *`);
  for (let n = 1; n < 8; n++) {
    show(await sql`UPDATE users SET tenant = ${n} WHERE id = ${n} RETURNING id, tenant`);
  }
  show((await sql.unsafe("SELECT 1 AS a; UPDATE users SET tenant = 5 WHERE id = 1; SELECT 'z' AS b")).map((one) => [one.command, one.count, one]));
  show(await sql.unsafe('SELECT $1::int AS n', [7], { prepare: true }), await sql`SELECT 'simple' AS s`.simple());
  const described = await sql`SELECT id, tenant FROM users WHERE id = ${1}`.describe();
  show(described.types, described.columns.map((c) => [c.name, c.type]));
  show((await sql`SELECT id FROM users WHERE id < 3 ORDER BY id`.raw()).map((row) => row.map(String)));
  // All at once: postgres.js pipelines them on few connections.
  const queued = [];
  for (let n = 0; n < 100; n++) {
    queued.push(sql`UPDATE users SET tenant = ${n} WHERE id = ${n + 1}`, sql`SELECT ${n}::int AS n`);
  }
  show((await Promise.all(queued)).map((one) => one.count));
  const seen = [];
  for await (const rows of sql`SELECT id FROM users ORDER BY id LIMIT 25`.cursor(10)) seen.push(rows.length);
  await sql`SELECT id FROM users ORDER BY id`.cursor(5, (rows) => { seen.push(rows[0].id); return sql.CLOSE; });
  let each = 0;
  await sql`SELECT id FROM users`.forEach(() => { each++; });
  show(seen, each);
}

async function errors(sql) {
  await sql`SELECT nothing FROM users`.catch(told);
  await sql`SELECT 1 / ${0}::int AS n`.catch(told);
  await sql`INSERT INTO users (id) VALUES (1)`.catch(told);
  await sql.unsafe('SELEC 1').catch(told);
  await sql.unsafe('SELECT 1; SELECT nothing; SELECT 2').catch(told);
  await sql`SELECT ${'x'}::int AS n`.catch(told);
  const sleeping = sql`SELECT pg_sleep(60), 'to be cancelled'`;
  const ended = sleeping.catch(told);
  const asleep = () => sql`SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`;
  while ((await asleep())[0].n === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  sleeping.cancel();
  await ended;
  show((await sql`SELECT 'after the cancel' AS s`)[0]);
}

async function transactions(sql) {
  show(await sql.begin(async (sql) => {
    await sql`INSERT INTO users (id) VALUES (9000)`;
    await sql.savepoint(async (sql) => {
      await sql`INSERT INTO users (id) VALUES (9001)`;
      await sql`INSERT INTO users (id) VALUES (9000)`;
    }).catch(told);
    return sql`SELECT count(*)::int AS n FROM users WHERE id >= 9000`;
  }));
  await sql.begin('read only', (sql) => sql`DELETE FROM users WHERE id = 9000`).catch(told);
  // A pipeline within a transaction: the error undoes it all.
  await sql.begin((sql) => [sql`INSERT INTO users (id) VALUES (9100)`, sql`SELECT 1 / 0`, sql`SELECT 1`]).catch(told);
  show(await sql.begin((sql) => [sql`DELETE FROM users WHERE id = ${9000}`, sql`SELECT count(*)::int AS n FROM users WHERE id >= 9000`]));
  const reserved = await sql.reserve();
  await reserved`SET lock_timeout = '7s'`;
  show(await reserved`SHOW lock_timeout`);
  await reserved`RESET lock_timeout`;
  reserved.release();
}

async function schema(sql) {
  await sql`CREATE TABLE mine (a int, b text)`;
  await sql`CREATE INDEX mine_a ON mine (a)`;
  show(await sql`SELECT * FROM mine`, (await sql`ALTER TABLE mine ADD COLUMN d int DEFAULT 7`).command);
  await sql`ALTER TABLE mine ADD CONSTRAINT d_positive CHECK (d > 0)`.simple();
  await sql`ALTER TABLE nobody ADD COLUMN d int`.catch(told);
  await sql.begin((sql) => [sql`CREATE TABLE other (id int PRIMARY KEY)`, sql`CREATE INDEX ON other ((id + 1))`]);
  await sql.unsafe('CREATE TABLE third (id int); CREATE INDEX third_id ON third (id);');
  await sql`DROP TABLE IF EXISTS nobody`;
}

async function copies(sql) {
  const lines = [...Array(20000).keys()].map((n) => `${n}\trow ${n}\n`);
  await pipeline(Readable.from(lines), await sql`COPY mine (a, b) FROM stdin`.writable());
  show(await sql`SELECT count(*)::int AS n, sum(a)::int AS sum FROM mine`);
  let bytes = 0;
  for await (const chunk of await sql`COPY mine TO stdout`.readable()) bytes += chunk.length;
  show(bytes);
}

async function main() {
  const sql = postgres(options);
  await statements(sql);
  await errors(sql);
  await transactions(sql);
  await schema(sql);
  await copies(sql);
  const heard = new Promise((resolve) => sql.listen('channel', (payload) => resolve(payload), () => sql.notify('channel', 'told')));
  show(await heard);
  await sql`DO $$ BEGIN RAISE NOTICE 'hello'; END $$`;
  show(notices);
  // As behind a pooler: nothing is prepared by name.
  const unnamed = postgres({ ...options, max: 1, prepare: false });
  for (let n = 0; n < 3; n++) show(await unnamed`SELECT tenant FROM users WHERE id = ${n + 1}`);
  await unnamed.end();
  await sql.end();
  console.log('end');
}

main().catch((error) => { console.error(error); process.exit(1); });
