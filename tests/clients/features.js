// What people do with node-postgres. Everything printed must be the same through the proxy and without it.
const { Client, Pool } = require('pg');

const show = (...what) => console.log(...what.map((one) => JSON.stringify(one)));
const told = (e) => show(e.name, e.code, e.message, e.detail, e.hint, e.position, e.constraint, e.severity);

async function main() {
  const c = new Client({ application_name: 'features' });
  c.on('notice', (notice) => show('notice', notice.severity, notice.message));
  await c.connect();
  let r = await c.query("SELECT 1 AS a, 'x' AS b, NULL AS c, ARRAY[1,2] AS d, '{\"k\": 1}'::jsonb AS e, true AS f");
  show(r.command, r.rowCount, r.rows, r.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeModifier, f.format]));
  show((await c.query('SELECT $1::int + 1 AS n, $2::text AS t, $3::jsonb AS j', [1, "it's ☃", { a: [1] }])).rows);
  show((await c.query({ text: 'SELECT id, tenant FROM users WHERE id < $1 ORDER BY id', values: [3], rowMode: 'array' })).rows);
  show((await c.query({ text: 'SELECT id FROM users WHERE id = ANY($1::bigint[]) ORDER BY id', values: [[1, 2]], binary: true })).rows);
  for (let n = 1; n < 6; n++) {
    show((await c.query({ name: 'by-id', text: 'SELECT tenant FROM users WHERE id = $1', values: [n] })).rows);
    show((await c.query({ name: 'set', text: 'UPDATE users SET tenant = $2 WHERE id = $1 RETURNING *', values: [n, n] })).rows);
    show((await c.query('UPDATE users SET tenant = tenant + $2 WHERE id = $1', [n, n])).rowCount);
  }
  show((await c.query("SELECT 1 AS a; UPDATE users SET tenant = 5 WHERE id = 1; SELECT 'z' AS b")).map((one) => [one.command, one.rowCount, one.rows]));
  show((await c.query('')).rowCount, (await c.query('INSERT INTO users (id) VALUES ($1), ($2)', [5000, 5001])).rowCount);
  await c.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");

  for (const [text, values] of [
    ['SELECT nothing FROM users'],
    ['SELECT 1/$1::int', [0]],
    ['INSERT INTO users (id) VALUES (1)'],
    ['UPDATE users SET nothing = $1 WHERE id = 4', [1]],
    ['UPDATE users SET tenant = $1 WHERE nothing = 4', [1]],
    ['SELEC 1'],
    ['SELECT $1::int', ['x']],
    ['SELECT $1', []],
  ]) {
    await c.query(text, values).then(() => show('no error', text), told);
  }

  // Queued without waiting: the driver sends one after the other.
  const queued = [];
  for (let n = 0; n < 50; n++) {
    queued.push(c.query('UPDATE users SET tenant = $1 WHERE id = $2', [n, n]), c.query('SELECT $1::int AS n', [n]));
  }
  show((await Promise.all(queued)).map((one) => one.rowCount));

  await c.query('BEGIN');
  await c.query('INSERT INTO users (id) VALUES ($1)', [6000]);
  await c.query('SAVEPOINT s');
  await c.query('INSERT INTO users (id) VALUES ($1)', [1]).catch(told);
  await c.query('SELECT 1').catch(told);
  await c.query('ROLLBACK TO s');
  show((await c.query('DELETE FROM users WHERE id = $1', [6000])).rowCount);
  show((await c.query('ROLLBACK')).command);
  show((await c.query('SELECT count(*) FROM users WHERE id >= 6000')).rows);

  await c.query('BEGIN');
  await c.query('DECLARE walk CURSOR FOR SELECT id FROM users ORDER BY id');
  show((await c.query('FETCH 3 FROM walk')).rows, (await c.query('MOVE 2 FROM walk')).command);
  show((await c.query('COMMIT')).command);

  const heard = new Promise((resolve) => c.on('notification', (n) => resolve([n.channel, n.payload])));
  await c.query('LISTEN channel');
  const pool = new Pool({ max: 4 });
  await pool.query("SELECT pg_notify('channel', 'told')");
  show(await heard);
  const many = await Promise.all([...Array(20).keys()].map((n) => pool.query('SELECT $1::int * 2 AS n', [n])));
  show(many.map((one) => one.rows[0].n));

  await c.query('CREATE TEMP TABLE mine (a int)');
  await c.query('INSERT INTO mine SELECT generate_series(1, 10)');
  show((await c.query('UPDATE mine SET a = a + 1')).rowCount, (await c.query('DELETE FROM mine')).rowCount);

  // Cancel by the function and by a timeout of the server's.
  const pid = (await c.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
  const sleeping = c.query('SELECT pg_sleep(60)').catch(told);
  const asleep = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
  while ((await pool.query(asleep, [pid])).rows[0].n === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  await pool.query('SELECT pg_cancel_backend($1)', [pid]);
  await sleeping;
  await c.query("SET statement_timeout = '50ms'");
  await c.query('SELECT pg_sleep(60)').catch(told);
  show((await c.query('SHOW statement_timeout')).rows);

  await pool.end();
  await c.end();
  console.log('end');
}

main().catch((error) => { console.error(error); process.exit(1); });
