//! psycopg 3 and node-postgres as people use them: the same script prints the same through the proxy as straight at the server,
//! and the usual loop around `UPDATE … LIMIT` runs as written.

use lockkeeper_testkit::alike::check_alike;
use lockkeeper_testkit::{Stage, on_both};
use std::time::{Duration, Instant};

const TABLE: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, email_verified boolean, tenant integer NOT NULL DEFAULT 1, n integer NOT NULL DEFAULT 0);
CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.email_verified IS DISTINCT FROM OLD.email_verified THEN NEW.n := OLD.n + 1; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER count_up BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION count_up();
INSERT INTO users (id) SELECT * FROM generate_series(1, 3000);
VACUUM ANALYZE users;";
const QUICK: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 1\n";

on_both!(
    psycopg_is_not_told_apart,
    node_postgres_is_not_told_apart,
    psycopg_loops,
    node_postgres_loops,
    executemany_is_left_alone,
    large_writes_from_drivers,
);

fn psycopg_is_not_told_apart(major: u32) {
    let script = include_str!("clients/features.py");
    check_alike(major, "psycopg", QUICK, TABLE, |stage| stage.python(script));
}

fn node_postgres_is_not_told_apart(major: u32) {
    let script = include_str!("clients/features.js");
    check_alike(major, "node", QUICK, TABLE, |stage| stage.node(script));
}

/// Runs the loop while another session holds some of the rows; it lets them go once the loop waits for them.
#[track_caller]
fn check_loop(stage: &Stage, name: &str, play: impl FnOnce(&Stage) -> lockkeeper_testkit::Ran + Send) {
    stage.direct("TRUNCATE users; INSERT INTO users (id) SELECT * FROM generate_series(1, 3000); VACUUM ANALYZE users");
    let holder_name = format!("holder {name}");
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let holder = stage.connect_direct().await;
                let hold = format!(
                    "SET application_name = '{holder_name}'; BEGIN; UPDATE users SET tenant = 2 WHERE id % 100 = 7"
                );
                holder.client.batch_execute(&hold).await.expect("the rows are free");
                let deadline = Instant::now() + Duration::from_secs(30);
                let blocked = "SELECT EXISTS (SELECT 1 FROM pg_locks l WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)))";
                while !holder.client.query_one(blocked, &[]).await.expect("an answer").get::<_, bool>(0) {
                    assert!(Instant::now() < deadline, "{name}: the loop never waited for the held rows");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                holder.client.batch_execute("COMMIT").await.expect("the holder commits");
            });
        });
        let held = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{holder_name}' AND state = 'idle in transaction'"
        );
        let deadline = Instant::now() + Duration::from_secs(30);
        while stage.direct(&held).trim() != "1" {
            assert!(Instant::now() < deadline, "{name}: the holder never began");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = play(stage).ok();
        holder.join().expect("the holder");
        assert_eq!(output, "total 3000 ids 3000\n", "{name}");
    });
    let state = stage.direct("SELECT count(*) FILTER (WHERE email_verified = false AND n = 1), count(*) FILTER (WHERE tenant = 2) FROM users");
    assert_eq!(state.trim(), "3000|30", "{name}");
}

fn psycopg_loops(major: u32) {
    let stage = Stage::with(major, "psycopg_loop", QUICK);
    stage.direct(TABLE);
    let script = |connect: &str, execute: &str, after: &str| {
        format!(
            r#"
import psycopg
SQL = "UPDATE users SET email_verified = false WHERE email_verified IS NULL LIMIT %s RETURNING id"
with psycopg.connect({connect}) as connection:
    total, ids = 0, set()
    while True:
        cursor = {execute}
        rows = cursor.fetchall()
        total += cursor.rowcount
        ids.update(row[0] for row in rows)
        {after}
        if cursor.rowcount < 700:
            break
print("total", total, "ids", len(ids))
"#
        )
    };
    let cases = [
        (
            "autocommit",
            "autocommit=True",
            "connection.execute(SQL, [700])",
            "pass",
        ),
        (
            "prepared",
            "autocommit=True",
            "connection.execute(SQL, [700], prepare=True)",
            "pass",
        ),
        (
            "commit per batch",
            "",
            "connection.execute(SQL, (700,))",
            "connection.commit()",
        ),
        (
            "client-side parameters",
            "autocommit=True, cursor_factory=psycopg.ClientCursor",
            "connection.execute(SQL, [700])",
            "pass",
        ),
        (
            "binary",
            "autocommit=True",
            "connection.cursor(binary=True).execute(SQL, [700])",
            "pass",
        ),
    ];
    for (name, connect, execute, after) in cases {
        check_loop(&stage, name, |stage| stage.python(&script(connect, execute, after)));
    }
    // Without RETURNING and without parameters, in a transaction block of its own each time.
    let block = "
import psycopg
total = 0
with psycopg.connect(autocommit=True) as connection:
    while True:
        with connection.transaction():
            count = connection.execute('UPDATE users SET email_verified = false WHERE email_verified IS NULL LIMIT 700').rowcount
        total += count
        if count < 700:
            break
print('total', total, 'ids', total)
";
    check_loop(&stage, "block", |stage| stage.python(block));
    let total = "
import psycopg
total, count = 0, 700
with psycopg.connect(autocommit=True) as connection:
    while count == 700:
        count = connection.execute('DELETE FROM users WHERE tenant < %s LIMIT %s', [9, 700]).rowcount
        total += count
print(total)
";
    assert_eq!(stage.python(total).ok(), "3000\n");
    assert_eq!(stage.direct("SELECT count(*) FROM users").trim(), "0");
}

fn node_postgres_loops(major: u32) {
    let stage = Stage::with(major, "node_loop", QUICK);
    stage.direct(TABLE);
    let script = |take: &str, query: &str, after: &str, give: &str| {
        format!(
            r#"
const {{ Pool, Client }} = require('pg');
const sql = 'UPDATE users SET email_verified = false WHERE email_verified IS NULL LIMIT $1 RETURNING id';
(async () => {{
  const pool = new Pool({{ max: 3 }});
  const client = {take};
  let total = 0; const ids = new Set();
  for (;;) {{
    const result = {query};
    total += result.rowCount;
    for (const row of result.rows) ids.add(row.id);
    {after}
    if (result.rows.length < 700) break;
  }}
  {give};
  await pool.end();
  console.log('total', total, 'ids', ids.size);
}})().catch((error) => {{ console.error(error); process.exit(1); }});
"#
        )
    };
    let cases = [
        ("pool", "null", "await pool.query(sql, [700])", "", ""),
        (
            "client",
            "await pool.connect()",
            "await client.query(sql, [700])",
            "",
            "client.release()",
        ),
        (
            "named",
            "await pool.connect()",
            "await client.query({ name: 'fill', text: sql, values: ['700'] })",
            "",
            "client.release()",
        ),
        (
            "commit per batch",
            "await pool.connect()",
            "(await client.query('BEGIN'), await client.query(sql, [700]))",
            "await client.query('COMMIT');",
            "client.release()",
        ),
        ("text", "null", "await pool.query(sql.replace('$1', '700'))", "", ""),
    ];
    for (name, take, query, after, give) in cases {
        check_loop(&stage, name, |stage| stage.node(&script(take, query, after, give)));
    }
    // Three workers at once beside the holder.
    let workers = r#"
const { Pool } = require('pg');
const pool = new Pool({ max: 3 });
const worker = async () => {
  let total = 0;
  for (;;) {
    let count;
    try {
      count = (await pool.query('UPDATE users SET email_verified = false WHERE email_verified IS NULL LIMIT $1', [200])).rowCount;
    } catch (error) {
      if (error.code !== '40P01') throw error;
      continue;
    }
    total += count;
    if (count < 200) return total;
  }
};
(async () => {
  const totals = await Promise.all([worker(), worker(), worker()]);
  await pool.end();
  const total = totals.reduce((a, b) => a + b);
  console.log('total', total, 'ids', total);
})().catch((error) => { console.error(error); process.exit(1); });
"#;
    check_loop(&stage, "workers", |stage| stage.node(workers));
}

/// executemany sends one statement with many parameters in a pipeline: as it is, and without questions after the first.
fn executemany_is_left_alone(major: u32) {
    let mut stage = Stage::with(major, "many", QUICK);
    stage.direct(TABLE);
    stage.mark();
    let script = "
import psycopg
with psycopg.connect(autocommit=True) as connection:
    for _ in range(2):
        cursor = connection.cursor()
        cursor.executemany('UPDATE users SET tenant = %s WHERE id = %s', [(i, i) for i in range(1, 201)])
        print(cursor.rowcount)
    cursor.executemany('UPDATE users SET tenant = %s WHERE id = %s RETURNING id', [(0, 5), (0, 6)], returning=True)
    print([result.fetchone()[0] for result in cursor.results()])
";
    assert_eq!(stage.python(script).ok(), "200\n200\n[5, 6]\n");
    assert_eq!(
        stage
            .direct("SELECT count(*) FROM users WHERE tenant = id AND id <= 200")
            .trim(),
        "198"
    );
    let received = stage.received();
    let (own, other): (Vec<_>, Vec<_>) = received
        .iter()
        .partition(|sql| sql.starts_with("UPDATE users SET tenant = $1 WHERE id = $2"));
    assert_eq!(own.len(), 402);
    assert!(!received.iter().any(|sql| sql.starts_with("EXPLAIN")));
    // Two texts, and the transactions around them.
    assert!(other.len() <= 10, "{} other statements: {other:#?}", other.len());
}

fn large_writes_from_drivers(major: u32) {
    let mut stage = Stage::with(major, "large", QUICK);
    stage.direct(TABLE);
    stage.mark();
    let python = "
import psycopg
with psycopg.connect(autocommit=True) as connection:
    heard = []
    connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    print(connection.execute('UPDATE users SET email_verified = %s WHERE tenant = %s', [False, 1]).rowcount)
    print(any('3000 rows' in text for text in heard))
with psycopg.connect() as connection:
    try:
        connection.execute('UPDATE users SET tenant = 5')
    except psycopg.errors.ActiveSqlTransaction as error:
        print('refused', 'outside' in error.diag.message_hint)
    try:
        connection.execute('SELECT 1')
    except psycopg.errors.InFailedSqlTransaction:
        print('failed')
    connection.rollback()
    print(connection.execute('SELECT count(*) FROM users WHERE tenant = 5').fetchone()[0])
";
    assert_eq!(stage.python(python).ok(), "3000\nTrue\nrefused True\nfailed\n0\n");
    stage.direct("VACUUM ANALYZE users");
    let node = "
const { Client } = require('pg');
(async () => {
  const client = new Client();
  await client.connect();
  const heard = [];
  client.on('notice', (notice) => heard.push(notice.message));
  const result = await client.query('UPDATE users SET tenant = $2::int WHERE tenant = $1::int', [1, 7]);
  console.log(result.command, result.rowCount, heard.some((text) => text.includes('3000 rows')));
  console.log((await client.query('DELETE FROM users')).rowCount);
  await client.end();
})().catch((error) => { console.error(error); process.exit(1); });
";
    assert_eq!(stage.node(node).ok(), "UPDATE 3000 true\n3000\n");
    let batches = stage
        .received()
        .iter()
        .filter(|sql| sql.starts_with("WITH lockkeeper_changed"))
        .count();
    assert_eq!(batches, 18);
}
