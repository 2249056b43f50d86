//! The statement itself, through the proxy, has a table rewritten by copy and swap: with the client's rights alone, and leaving the session as it was.

#[path = "rewrite_through/persistence.rs"]
mod persistence;

use lockkeeper_testkit::{QUICK, Stage, on_both, run, runs, until, until_true};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio_postgres::NoTls;

const POLICY: &str = "extends = \"standard\"
[rules]
change-type = \"rewrite\"
exclusion-constraint = \"rewrite\"
stored-generated-column = \"rewrite\"
constrained-domain = \"rewrite\"
set-expression = \"rewrite\"
[table]
small_bytes = 0
[lock]
pause_ms = 10
[backfill]
pause_ms = 1
notice_s = 1
[rewrite]
keep_old_s = 0
";

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, pad text, day daterange);
CREATE TABLE child (t_id int CONSTRAINT of_t REFERENCES t ON DELETE CASCADE); CREATE INDEX ON child (t_id);
CREATE VIEW seen AS SELECT n, pad FROM t;
INSERT INTO t SELECT g, g, repeat('x', 50), daterange('2026-01-01'::date + g, '2026-01-01'::date + g + 1) FROM generate_series(1, 5000) g;
INSERT INTO child SELECT g FROM generate_series(1, 1000) g; CREATE INDEX by_n ON t (n); ANALYZE t;";

fn stage(major: u32, name: &str) -> Stage {
    let stage = Stage::with(major, name, POLICY);
    stage.direct(TABLE);
    stage
}

#[track_caller]
fn leaves_nothing(stage: &Stage) {
    let left = "SELECT count(*) FROM (SELECT oid FROM pg_namespace WHERE nspname ~ '^lockkeeper_' UNION ALL SELECT oid FROM pg_trigger \
                WHERE tgname ~ '^lockkeeper_' UNION ALL SELECT oid FROM pg_proc WHERE prosrc ~ 'lockkeeper_[0-9]') x";
    assert_eq!(stage.number(left), 0);
}

fn file(stage: &Stage) -> i64 {
    stage.number("SELECT 't'::regclass::oid::int8")
}

const ROWS: &str = "SELECT sum(hashtext((id, n, pad, day)::text)) FROM t";

/// Each step is followed by a pause without end.
fn slow() -> String {
    POLICY.replace("pause_ms = 1\n", "pause_ms = 600000\n")
}

const COPIES: &str = "SELECT to_regclass('lockkeeper_1.state') IS NOT NULL";
const HAS_COPIED: &str = "SELECT cursor IS NOT NULL FROM lockkeeper_1.state";

fn lockkeeper(stage: &Stage, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut command);
    let (port, database) = (stage.cluster.port(), &stage.database);
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    command.args(["jobs", "--dsn", &dsn]).args(arguments);
    run(command, "").ok()
}

fn each_statement_is_carried_out(major: u32) {
    let stage = stage(major, "each");
    let rows = stage.number(ROWS);
    let is_done = |sql: &str, tag: &str| {
        let before = file(&stage);
        let ran = stage.psql(sql);
        assert_eq!(
            (ran.status, ran.stdout.trim()),
            (0, tag),
            "{sql}\n{}\n{}",
            ran.stderr,
            stage.proxy_log()
        );
        assert!(
            ran.stderr.contains("to take the place of public.t"),
            "{sql}\n{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("WARNING"), "{sql}\n{}", ran.stderr);
        assert_ne!(file(&stage), before, "{sql}");
        assert_eq!(stage.number(ROWS), rows, "{sql}");
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_constraint WHERE conname = 'of_t' AND convalidated"),
            1
        );
        leaves_nothing(&stage);
    };
    is_done("VACUUM FULL t", "VACUUM");
    is_done("VACUUM (FULL, ANALYZE) public.t", "VACUUM");
    is_done("CLUSTER t USING t_pkey", "CLUSTER");
    is_done("CLUSTER t", "CLUSTER");
    is_done("ALTER TABLE t ALTER COLUMN id TYPE bigint", "ALTER TABLE");
    assert_eq!(stage.direct("SELECT pg_typeof(id) FROM t LIMIT 1").trim(), "bigint");
    is_done(
        "ALTER TABLE t ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) STORED",
        "ALTER TABLE",
    );
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE twice = n * 2"), 5000);
    if major >= 17 {
        is_done(
            "ALTER TABLE t ALTER COLUMN twice SET EXPRESSION AS (n * 3)",
            "ALTER TABLE",
        );
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE twice = n * 3"), 5000);
    }
    is_done(
        "ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING gist (day WITH &&)",
        "ALTER TABLE",
    );
    stage.direct("CREATE DOMAIN positive AS int CHECK (VALUE > 0)");
    is_done("ALTER TABLE t ADD COLUMN d positive", "ALTER TABLE");
    is_done(
        "ALTER TABLE t ALTER COLUMN d TYPE bigint USING d, ADD COLUMN e positive, ALTER COLUMN pad SET DEFAULT 'a;b'",
        "ALTER TABLE",
    );
    assert_eq!(
        stage.number("SELECT count(*) FROM lockkeeper.job WHERE state <> 'done'"),
        0
    );
}

/// Behind what applications see, and not behind what only moves rows.
fn the_policy_keeps_the_old_table(major: u32) {
    let stage = Stage::with(major, "keeps", &POLICY.replace("keep_old_s = 0", "keep_old_s = 86400"));
    stage.direct(TABLE);
    stage.psql("VACUUM FULL t").ok();
    leaves_nothing(&stage);
    let ran = stage.psql("ALTER TABLE t ALTER id TYPE bigint");
    assert!(ran.stderr.contains("the old table is kept"), "{}", ran.stderr);
    let label = "rewrite the table by copy and swap, and keep the old one for 86400 s";
    let is_told = |line: &serde_json::Value| line["steps"][0]["label"].as_str() == Some(label);
    assert!(stage.audit_lines().iter().any(is_told));
    let id = stage.number("SELECT max(id) FROM lockkeeper.job");
    assert!(
        ran.stderr.contains(&format!("jobs --dsn … finish {id}")),
        "{}",
        ran.stderr
    );
    assert!(lockkeeper(&stage, &["list"]).contains("kept"));
    stage.psql("INSERT INTO t VALUES (10000, 1)").ok();
    let again = stage.psql("VACUUM FULL t");
    let kept = format!(
        "the table that public.t was before job {id} is kept; to go back to it: lockkeeper jobs --dsn … back {id}"
    );
    assert!(again.stderr.contains(&kept), "{}", again.stderr);
    lockkeeper(&stage, &["back", &id.to_string()]);
    let kind = "SELECT pg_typeof(id) || ' ' || id FROM t WHERE id = 10000";
    assert_eq!(stage.direct(kind).trim(), "integer 10000");
    leaves_nothing(&stage);

    stage.psql("ALTER TABLE t ALTER id TYPE bigint").ok();
    let id = stage.number("SELECT max(id) FROM lockkeeper.job");
    lockkeeper(&stage, &["finish", &id.to_string()]);
    leaves_nothing(&stage);
    assert_eq!(stage.direct(kind).trim(), "bigint 10000");
}

/// kill -9 of the proxy: rows that are written meanwhile are not lost, and the same statement goes on.
fn killed_it_goes_on(major: u32) {
    let mut stage = Stage::with(major, "killed", &slow());
    stage.direct(TABLE);
    let change = "ALTER TABLE t ALTER COLUMN id TYPE bigint";
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.batch_execute(change).await });
        until_true(&stage, COPIES).await;
        until_true(&stage, HAS_COPIED).await;
        stage.kill_proxy();
        running.await.unwrap().unwrap_err();
    });
    let alone =
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    runs(until_true(&stage, alone));
    stage.direct("UPDATE t SET n = n + 1 WHERE id % 7 = 0; DELETE FROM t WHERE id = 5; INSERT INTO t VALUES (-5, 1, 'new', NULL)");
    let rows = stage.number(ROWS);
    std::fs::write(stage.policy_file(), POLICY).unwrap();
    stage.start_proxy(&[]);
    let other = stage.psql("VACUUM FULL t");
    assert!(
        other
            .stderr
            .contains("job 1 rewrites public.t already, with: ALTER TABLE t ALTER"),
        "{}",
        other.stderr
    );
    let ran = stage.psql(change);
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("job 1 goes on"), "{}", ran.stderr);
    assert_eq!(stage.number(ROWS), rows);
    assert_eq!(stage.direct("SELECT pg_typeof(id) FROM t LIMIT 1").trim(), "bigint");
    leaves_nothing(&stage);
}

/// What has got the name of a table whose job is not done is no part of that job.
fn another_table_of_the_name_is_told_apart(major: u32) {
    let mut stage = Stage::with(major, "renamed", &slow());
    stage.direct(TABLE);
    init(&stage);
    let change = "ALTER TABLE t ALTER COLUMN id TYPE bigint";
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.batch_execute(change).await });
        until_true(&stage, COPIES).await;
        stage.kill_proxy();
        running.await.unwrap().unwrap_err();
    });
    let alone =
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    runs(until_true(&stage, alone));
    stage.direct("ALTER TABLE t RENAME TO away; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    std::fs::write(stage.policy_file(), POLICY).unwrap();
    stage.start_proxy(&[]);
    let told = stage.psql(change).stderr;
    assert!(
        told.contains("job 1 rewrites a table that was public.t when it began"),
        "{told}"
    );
    assert_eq!(stage.direct("SELECT pg_typeof(id) FROM t").trim(), "integer");
    let cancelled = lockkeeper(&stage, &["cancel", "1"]);
    let ran = stage.psql(change);
    assert_eq!(ran.status, 0, "{cancelled}: {}", ran.stderr);
    assert_eq!(stage.direct("SELECT pg_typeof(id) FROM t").trim(), "bigint");
}

/// A cancel leaves a job that says so, and a session that is what it was.
fn cancelled_it_is_paused(major: u32) {
    let stage = Stage::with(major, "cancelled", &slow());
    stage.direct(TABLE);
    let settings = "SELECT md5(string_agg(name || '=' || setting, ' ' ORDER BY name)) || current_setting('role') || current_user || \
                    current_setting('search_path') || current_setting('lock_timeout') FROM pg_settings WHERE name NOT LIKE '%.%'";
    runs(async {
        let connection = stage.connect().await;
        let client = Arc::new(connection.client);
        client
            .batch_execute("SET search_path = public, pg_catalog; SET work_mem = '5MB'; SET lock_timeout = '70s'")
            .await
            .unwrap();
        let before: String = client.query_one(settings, &[]).await.unwrap().get(0);
        let (token, running) = (client.cancel_token(), Arc::clone(&client));
        let running = tokio::spawn(async move { running.batch_execute("VACUUM FULL t").await });
        until_true(&stage, COPIES).await;
        until_true(&stage, HAS_COPIED).await;
        let listed = lockkeeper(&stage, &["list"]);
        assert!(listed.contains("VACUUM"), "{listed}");
        token.cancel_query(NoTls).await.unwrap();
        let error = running.await.unwrap().unwrap_err();
        let error = error.as_db_error().expect("a report");
        assert_eq!(error.code().code(), "57014");
        let (detail, hint) = (error.detail().unwrap_or_default(), error.hint().unwrap_or_default());
        assert!(
            detail.contains("Job 1 is paused: t is as it was, and a trigger goes on logging its writes."),
            "{error:?}"
        );
        assert!(hint.contains("cancel 1"), "{error:?}");
        let after: String = client.query_one(settings, &[]).await.unwrap().get(0);
        assert_eq!(before, after);
        let left = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) + (SELECT count(*) FROM pg_class \
                    WHERE relname = 'lockkeeper_keys')";
        assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    });
    assert_eq!(stage.direct("SELECT state FROM lockkeeper.job").trim(), "paused");
    lockkeeper(&stage, &["cancel", "1"]);
    leaves_nothing(&stage);
    // Events: planned, and the end with its step.
    let lines = stage.audit_lines();
    let of_it: Vec<_> = lines
        .iter()
        .filter(|line| line["statement"] == "VACUUM FULL t")
        .collect();
    let events: Vec<&str> = of_it.iter().filter_map(|line| line["event"].as_str()).collect();
    assert!(
        ["planned", "step", "statement"]
            .iter()
            .all(|event| events.contains(event)),
        "{events:?}"
    );
}

/// Why it is not carried out is true of this very statement, and nothing is changed.
fn init(stage: &Stage) {
    let mut init = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut init);
    let (port, database) = (stage.cluster.port(), &stage.database);
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    init.args(["init", "--dsn", &dsn]);
    run(init, "").ok();
}

fn refused_with_the_reason(major: u32) {
    let stage = stage(major, "refused");
    let database = &stage.database;
    stage.direct(&format!(
        "CREATE TABLE keyless AS SELECT 1 AS a;
         CREATE MATERIALIZED VIEW m AS SELECT n FROM t; CREATE ROLE {database}_u LOGIN; CREATE TABLE theirs (id int PRIMARY KEY); \
         INSERT INTO theirs VALUES (1); ALTER TABLE theirs OWNER TO {database}_u; GRANT ALL ON t TO {database}_u; CREATE INDEX by_pad ON t (pad); \
         CREATE ROLE {database}_m LOGIN IN ROLE {database}_u"
    ));
    init(&stage);
    let before = stage.schema();
    let refused = |sql: &str, code: &str, why: &[&str]| {
        let ran = stage.psql_args(&["-v", "VERBOSITY=verbose"], sql);
        assert!(ran.stderr.contains("ERROR"), "{sql} {}", ran.stderr);
        for why in why.iter().chain(&[code]) {
            assert!(ran.stderr.contains(why), "{sql}: {why}\n{}", ran.stderr);
        }
    };
    refused(
        "VACUUM FULL keyless",
        "55000",
        &["no primary key", "Nothing was changed", "rewriting-table"],
    );
    refused(
        "VACUUM FULL t",
        "55000",
        &["materialized view public.m", "Nothing was changed"],
    );
    refused("CLUSTER t USING by_n", "55000", &["materialized view public.m"]);
    refused(
        "ALTER TABLE t SET UNLOGGED",
        "42P16",
        &[
            "could not change table \"t\" to unlogged because it references logged table \"child\"",
            "Nothing was changed",
        ],
    );
    refused(
        "BEGIN; ALTER TABLE t SET UNLOGGED",
        "25001",
        &["inside a transaction", "replaced by a copy"],
    );
    refused(
        "VACUUM FULL theirs",
        "55000",
        &["a superuser's session", "Nothing was changed"],
    );
    // The login behind the role counts, whichever way it has become the owner; and a member's is another login than the owner's.
    refused(
        &format!("SET ROLE {database}_u; VACUUM FULL theirs"),
        "55000",
        &["a superuser's session", "Nothing was changed"],
    );
    refused(
        &format!("SET SESSION AUTHORIZATION {database}_u; VACUUM FULL theirs"),
        "55000",
        &["SET SESSION AUTHORIZATION", "Nothing was changed"],
    );
    let member = format!("{database}_m");
    for sql in [
        "VACUUM FULL theirs".to_owned(),
        format!("SET ROLE {database}_u; VACUUM FULL theirs"),
    ] {
        let ran = stage.psql_args(&["-U", &member], &sql);
        assert!(
            ran.stderr.contains("in the session of another login"),
            "{sql}: {}",
            ran.stderr
        );
        assert!(ran.stderr.contains("Nothing was changed"), "{sql}: {}", ran.stderr);
    }
    refused("VACUUM FULL t, theirs", "55000", &["one table at a time"]);
    refused(
        "BEGIN; ALTER TABLE t ALTER COLUMN id TYPE bigint",
        "25001",
        &["inside a transaction", "replaced by a copy"],
    );
    stage.direct("DROP MATERIALIZED VIEW m");
    refused(
        "CLUSTER t USING by_pad",
        "55000",
        &["in the order of a primary key", "by_pad is none"],
    );
    refused("CLUSTER t", "42704", &["no previously clustered index"]);
    refused(
        "SET default_transaction_read_only = on; VACUUM FULL t",
        "25006",
        &["read-only"],
    );
    refused(
        "SET client_encoding = 'LATIN1'; VACUUM FULL t",
        "0A000",
        &["LATIN1", "UTF8"],
    );
    stage.direct("CREATE MATERIALIZED VIEW m AS SELECT n FROM t");
    assert_eq!(stage.schema(), before);
    leaves_nothing(&stage);
    // Who only writes the table may not.
    let as_other = format!("SET ROLE {database}_u; ");
    refused(
        &format!("{as_other}ALTER TABLE t ALTER COLUMN id TYPE bigint"),
        "42501",
        &["must be owner of table t"],
    );
}

/// The policy that nobody has changed: what is seen of the table stays as it is, or the hint says how to ask for it.
fn by_the_standard_policy(major: u32) {
    let stage = Stage::with(major, "standard", &format!("{QUICK}\n[table]\nsmall_bytes = 0\n"));
    stage.direct(TABLE);
    let refused = stage.psql("ALTER TABLE t ALTER COLUMN id TYPE bigint");
    for told in [
        "change-type = \"rewrite\" under [rules]",
        "lockkeeper rewrite --dsn … public.t --with 'ALTER TABLE t ALTER COLUMN id TYPE bigint'",
    ] {
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    let before = file(&stage);
    stage.psql("VACUUM FULL t").ok();
    assert_ne!(file(&stage), before);
    let dry = stage.psql("SET lockkeeper.dry_run = on; VACUUM FULL t").ok();
    assert!(dry.contains("rewrite the table by copy and swap"), "{dry}");
    leaves_nothing(&stage);
}

/// By a role that is no superuser, while others write.
fn under_writers_no_row_is_lost(major: u32) {
    let stage = stage(major, "writers");
    let database = &stage.database;
    stage.direct(&format!(
        "CREATE ROLE {database}_o LOGIN; ALTER TABLE t OWNER TO {database}_o; ALTER TABLE child OWNER TO {database}_o; ALTER VIEW seen OWNER TO {database}_o; \
         GRANT CREATE, TEMP ON DATABASE {database} TO {database}_o; GRANT CREATE ON SCHEMA public TO {database}_o;"
    ));
    init(&stage);
    let sum = stage.number("SELECT sum(n) FROM t");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    runs(async {
        let mut writers = Vec::new();
        for lot in 0..3i32 {
            let (connection, stop, done) = (stage.connect().await, Arc::clone(&stop), Arc::clone(&done));
            writers.push(tokio::spawn(async move {
                let mut id = lot;
                while !stop.load(Ordering::Relaxed) {
                    id = (id + 7) % 5000;
                    let sql = format!("UPDATE t SET n = n + 1 WHERE id = {}", id + 1);
                    connection.client.batch_execute(&sql).await.expect("a write");
                    done.fetch_add(1, Ordering::Relaxed);
                    // The swap needs a moment in which nothing is written.
                    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                }
            }));
        }
        let login = format!("host=127.0.0.1 port={} user={database}_o dbname={database}", stage.port);
        let (owner, connection) = tokio_postgres::connect(&login, NoTls).await.unwrap();
        tokio::spawn(connection);
        owner
            .batch_execute("ALTER TABLE t ALTER COLUMN id TYPE bigint")
            .await
            .expect("rewritten");
        owner.batch_execute("VACUUM FULL t").await.expect("rewritten");
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    });
    assert_eq!(
        stage.number("SELECT sum(n) FROM t"),
        sum + done.load(Ordering::Relaxed) as i64
    );
    assert!(done.load(Ordering::Relaxed) > 30);
    leaves_nothing(&stage);
}

/// A transaction whose snapshot is older sees all rows, and is waited for.
fn an_old_snapshot_is_waited_for(major: u32) {
    let stage = stage(major, "snapshot");
    runs(async {
        let reader = stage.connect_direct().await;
        reader
            .client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
            .await
            .unwrap();
        let writer = stage.connect_direct().await;
        writer
            .client
            .batch_execute("UPDATE t SET n = n + 1 WHERE id < 100")
            .await
            .unwrap();
        let mut connection = stage.connect().await;
        let client = Arc::new(connection.client);
        let running = Arc::clone(&client);
        let running = tokio::spawn(async move { running.batch_execute("VACUUM FULL t").await });
        until_true(
            &stage,
            "SELECT coalesce(to_regclass('lockkeeper_1.state') IS NOT NULL, false)",
        )
        .await;
        until_true(&stage, "SELECT phase = 'ready' FROM lockkeeper_1.state").await;
        let mut told = Vec::new();
        until("it says whom it waits for", || {
            while let Ok(notice) = connection.notices.try_recv() {
                told.push(notice.message().to_owned());
            }
            told.iter().any(|text| text.contains("has a snapshot from before"))
        });
        let count: i64 = reader
            .client
            .query_one("SELECT count(*) FROM t WHERE n = id", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(count, 5000);
        reader.client.batch_execute("COMMIT").await.unwrap();
        running.await.unwrap().unwrap();
    });
    leaves_nothing(&stage);
}

/// Reports that overlap, each longer than a try, are held back for a moment: else there would be no moment for the swap.
fn a_table_that_is_never_idle_is_swapped(major: u32) {
    let stage = Stage::on(
        lockkeeper_testkit::cluster(major),
        "busy",
        POLICY,
        &["--console-users", "postgres"],
    );
    stage.direct(TABLE);
    let stop = Arc::new(AtomicBool::new(false));
    runs(async {
        let mut reports = Vec::new();
        let done = Arc::new(AtomicU64::new(0));
        for n in 1..4 {
            let (connection, stop, done) = (stage.connect().await, Arc::clone(&stop), Arc::clone(&done));
            reports.push(tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(333 * n)).await;
                while !stop.load(Ordering::Relaxed) {
                    let sql = format!("SELECT id, pg_sleep(1) FROM t WHERE id = {n}");
                    connection.client.batch_execute(&sql).await.expect("a report");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        until("the reports are known", || done.load(Ordering::Relaxed) >= 6);
        let connection = stage.connect().await;
        connection
            .client
            .batch_execute("VACUUM FULL t")
            .await
            .expect("rewritten");
        stop.store(true, Ordering::Relaxed);
        for report in reports {
            report.await.unwrap();
        }
    });
    let out = stage.psql_args(&["-d", "lockkeeper", "-At"], "SHOW STATS").ok();
    let held = out
        .lines()
        .find(|line| line.starts_with("held_statements|"))
        .expect("a count");
    assert!(!held.ends_with("|0"), "{held}");
    leaves_nothing(&stage);
}

on_both!(
    the_policy_keeps_the_old_table,
    each_statement_is_carried_out,
    killed_it_goes_on,
    another_table_of_the_name_is_told_apart,
    cancelled_it_is_paused,
    refused_with_the_reason,
    by_the_standard_policy,
    under_writers_no_row_is_lost,
    an_old_snapshot_is_waited_for,
    a_table_that_is_never_idle_is_swapped,
);
