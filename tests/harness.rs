//! The harness itself: that it would see what the other tests rely on it to see.

use lockkeeper_testkit::{Logged, Stage, cluster, read_log};
use std::time::{Duration, Instant};

#[test]
fn the_log_is_read_entry_by_entry() {
    let text = "2026-01-01 00:00:00.000 UTC [7] LOG:  database system is ready to accept connections\n\
        2026-01-01 00:00:00.001 UTC [8] mine_0/my app LOG:  statement: SELECT 1,\n\t2;\n\
        2026-01-01 00:00:00.002 UTC [9] mine_01/x LOG:  statement: SELECT 3\n\
        \tFROM other\n\
        2026-01-01 00:00:00.003 UTC [8] mine_0/my app LOG:  execute s:1: SELECT $1\n\
        2026-01-01 00:00:00.003 UTC [8] mine_0/my app ERROR:  deadlock detected\n";
    let log = read_log(text, "mine_0");
    let first = Logged {
        pid: 8,
        application_name: "my app".into(),
        severity: "LOG".into(),
        message: "statement: SELECT 1,\n2;".into(),
    };
    assert_eq!(log[0], first);
    assert_eq!(
        log.iter().filter_map(Logged::sql).collect::<Vec<_>>(),
        ["SELECT 1,\n2;", "SELECT $1"]
    );
    assert_eq!(log.len(), 3);
}

/// A reader holds the table, a TRUNCATE queues behind it, a second reader queues behind that: the sampler sees all three.
fn the_sampler_sees_a_lock_queue(major: u32) {
    let stage = Stage::without_proxy(cluster(major), "sampler");
    stage.direct("CREATE TABLE t (a int)");
    let sampler = stage.sample_locks("t");
    std::thread::scope(|scope| {
        let start = |sql: &'static str| scope.spawn(|| stage.direct_args(&["-v", "ON_ERROR_STOP=1"], sql));
        // Each step begins when the server shows that the one before has come as far as it can.
        let until = |condition: &str| {
            let deadline = Instant::now() + Duration::from_secs(30);
            let look = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
            while stage.direct(&look) == "0" {
                assert!(Instant::now() < deadline, "nobody has {condition}");
            }
        };
        start("SET application_name = 'holder'; BEGIN; SELECT * FROM t; SELECT pg_sleep(60)");
        until("application_name = 'holder' AND wait_event = 'PgSleep'");
        let ddl = start("SET application_name = 'ddl'; TRUNCATE t");
        until("application_name = 'ddl' AND wait_event = 'relation'");
        let reader = start("SET application_name = 'reader'; SELECT * FROM t");
        until("application_name = 'reader' AND wait_event = 'relation'");
        std::thread::sleep(Duration::from_millis(150));
        stage.direct("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'");
        ddl.join().unwrap().ok();
        reader.join().unwrap().ok();
    });
    let samples = sampler.stop();
    let (ddl, reader) = (samples.longest_wait_ms("ddl"), samples.longest_wait_ms("reader"));
    assert!(
        (50.0..ddl).contains(&reader),
        "the reader waited {reader} ms, the TRUNCATE {ddl} ms"
    );
    assert!(samples.longest_held_ms("AccessShareLock") > 50.0);
    assert!(!samples.was_granted("ShareLock"));
}

#[test]
fn the_sampler_sees_a_lock_queue_15() {
    the_sampler_sees_a_lock_queue(15);
}

#[test]
fn the_sampler_sees_a_lock_queue_18() {
    the_sampler_sees_a_lock_queue(18);
}

#[test]
fn the_schema_tells_what_a_migration_leaves() {
    let stage = Stage::without_proxy(cluster(18), "schema");
    stage.direct("CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL DEFAULT 'x')");
    stage.direct("ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0) NOT VALID");
    stage.direct("INSERT INTO t VALUES (1), (2)");
    assert!(
        stage
            .direct_args(&[], "CREATE UNIQUE INDEX CONCURRENTLY twice ON t (b)")
            .stderr
            .contains("twice")
    );
    let schema = stage.schema();
    for line in [
        "t column a integer NOT NULL",
        "t column b text NOT NULL DEFAULT 'x'::text",
        "t constraint positive CHECK ((a > 0)) NOT VALID",
        "t index CREATE UNIQUE INDEX t_pkey ON public.t USING btree (a)",
        "t index CREATE UNIQUE INDEX twice ON public.t USING btree (b) INVALID",
    ] {
        assert!(schema.lines().any(|have| have == line), "no line {line:?} in\n{schema}");
    }
}

#[test]
fn clients_run_as_installed() {
    let stage = Stage::without_proxy(cluster(18), "clients");
    let python = stage.python_at(
        cluster(18).port(),
        "import psycopg\nwith psycopg.connect() as c: print(c.execute('SELECT %s::int + 1', [1]).fetchone()[0])",
    );
    assert_eq!(python.ok().trim(), "2");
    let node = stage.node_at(
        cluster(18).port(),
        "const { Client } = require('pg');
         (async () => { const c = new Client(); await c.connect();
           console.log((await c.query('SELECT $1::int + 1 AS n', [2])).rows[0].n); await c.end(); })()",
    );
    assert_eq!(node.ok().trim(), "3");
}

#[test]
fn notices_and_marks_are_seen() {
    let mut stage = Stage::without_proxy(cluster(15), "notices");
    stage.direct("SELECT 'before'");
    stage.mark();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut session = stage.connect_direct().await;
        session
            .client
            .batch_execute("DO $$ BEGIN RAISE NOTICE 'told'; END $$")
            .await
            .unwrap();
        let notice = tokio::time::timeout(Duration::from_secs(5), session.notices.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(notice.message(), "told");
        assert_eq!(
            session
                .client
                .query_one("SELECT $1::int", &[&7])
                .await
                .unwrap()
                .get::<_, i32>(0),
            7
        );
    });
    assert_eq!(
        stage.received(),
        ["DO $$ BEGIN RAISE NOTICE 'told'; END $$", "SELECT $1::int"]
    );
    assert!(stage.pg_dump_schema().contains("PostgreSQL database dump"));
}
