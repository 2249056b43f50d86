//! What other sessions wait for while a brief step tries for its lock.

use lockkeeper_testkit::raw::{Raw, error_field};
use lockkeeper_testkit::{Connection, Stage, own_cluster, until};
use std::time::{Duration, Instant};
use tokio_postgres::error::DbError;

const TABLES: &str = "CREATE TABLE events (id int PRIMARY KEY, v int); CREATE TABLE latest (id int PRIMARY KEY, v int);
     INSERT INTO events SELECT g, 0 FROM generate_series(1, 100) g; INSERT INTO latest VALUES (1, 0)";

/// Far longer than any test waits for what ends at once.
const PATIENT: &str =
    "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\ngive_up_after_s = 300\ngive_up_in_transaction_s = 300\n";

async fn run(connection: &Connection, sql: &str) -> Result<(), DbError> {
    let done = connection.client.batch_execute(sql).await;
    done.map_err(|error| error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone())
}

/// It ends by itself, though nobody ends what it waits for.
async fn ends(connection: &Connection, sql: &str) -> DbError {
    match tokio::time::timeout(Duration::from_secs(60), run(connection, sql)).await {
        Ok(ended) => ended.expect_err(sql),
        Err(_) => panic!("{sql}: it does not end"),
    }
}

/// Two sessions that take the same two tables in the other order: the one of the migration gives way, while the application waits.
#[tokio::test]
async fn a_circle_of_locks_is_left_at_once() {
    for (major, first, second, writes) in [
        (
            15,
            "ALTER TABLE latest ADD COLUMN a int",
            "ALTER TABLE events ADD COLUMN a int",
            "UPDATE latest SET v = 1",
        ),
        (
            18,
            "DROP INDEX latest_v",
            "CREATE TRIGGER x BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "INSERT INTO latest VALUES (2, 0)",
        ),
        (
            18,
            "UPDATE latest SET v = 2",
            "ALTER TABLE events ADD CONSTRAINT f FOREIGN KEY (v) REFERENCES latest NOT VALID",
            "UPDATE latest SET v = 3",
        ),
    ] {
        let stage = Stage::with(major, "circle", PATIENT);
        stage.direct(TABLES);
        stage.direct("CREATE INDEX latest_v ON latest (v)");
        let (migration, application) = (stage.connect().await, stage.connect().await);
        run(&application, "BEGIN; UPDATE events SET v = 1 WHERE id = 1")
            .await
            .unwrap();
        run(&migration, "BEGIN").await.unwrap();
        run(&migration, first)
            .await
            .unwrap_or_else(|e| panic!("{first}: {e:?}"));
        let pid =
            stage.direct("SELECT pid FROM pg_locks WHERE relation = 'events'::regclass AND mode = 'RowExclusiveLock'");
        let waiting = tokio::spawn(async move {
            run(&application, writes).await?;
            run(&application, "COMMIT").await
        });
        let waits = format!(
            "SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND NOT granted",
            pid.trim()
        );
        lockkeeper_testkit::until_true(&stage, &waits).await;
        let error = ends(&migration, second).await;
        assert_eq!(error.code().code(), "40P01", "{major} {second}: {error:?}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("events before"), "{error:?}");
        // It is aborted: nobody waits for its locks any more, whatever the client does.
        run(&migration, "ROLLBACK").await.unwrap();
        waiting.await.unwrap().unwrap_or_else(|e| panic!("{second}: {e:?}"));
    }
}

/// No circle, but somebody waits for what the transaction holds while it waits for a third: it does not keep it for minutes.
#[tokio::test]
async fn what_others_wait_for_is_not_kept_while_trying() {
    let stage = Stage::with(18, "kept", PATIENT);
    stage.direct(TABLES);
    let (migration, reader) = (stage.connect().await, stage.connect_direct().await);
    run(&reader, "BEGIN; SELECT FROM events").await.unwrap();
    run(&migration, "BEGIN; ALTER TABLE latest ADD COLUMN a int")
        .await
        .unwrap();
    let application = stage.connect().await;
    let waiting = tokio::spawn(async move { run(&application, "UPDATE latest SET v = 1").await });
    let error = ends(&migration, "ALTER TABLE events ADD COLUMN a int").await;
    assert_eq!(error.code().code(), "55P03", "{error:?}");
    assert!(
        error.detail().unwrap_or_default().contains("is not kept waiting"),
        "{error:?}"
    );
    assert!(
        error.hint().unwrap_or_default().contains("give_up_in_transaction_s"),
        "{error:?}"
    );
    run(&migration, "ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// What the client set, in whatever way, ends what is done for it, with the server's own SQLSTATE.
#[tokio::test]
async fn the_client_s_own_timeouts_bound_what_is_done_for_it() {
    let stage = Stage::with(18, "own", PATIENT);
    stage.direct(TABLES);
    stage.direct("CREATE ROLE hasty SUPERUSER LOGIN; ALTER ROLE hasty SET lock_timeout = '300ms'");
    let holder = stage.connect_direct().await;
    run(&holder, "BEGIN; INSERT INTO events VALUES (1000, 1)")
        .await
        .unwrap();
    let session = stage.connect().await;
    let alter = "ALTER TABLE events ADD COLUMN a int";
    for (set, sql, reset, sqlstate) in [
        ("SET lock_timeout = '300ms'", alter, "RESET lock_timeout", "55P03"),
        (
            "SET statement_timeout = '300ms'",
            alter,
            "RESET statement_timeout",
            "57014",
        ),
        ("BEGIN; SET LOCAL lock_timeout = '300ms'", alter, "ROLLBACK", "55P03"),
        (
            "BEGIN; SET LOCAL statement_timeout = '300ms'",
            alter,
            "ROLLBACK",
            "57014",
        ),
        (
            "SET statement_timeout = '300ms'",
            "CREATE INDEX i ON events (v)",
            "RESET statement_timeout",
            "57014",
        ),
        (
            "SET statement_timeout = '300ms'",
            "ALTER TABLE events ADD CHECK (v < 9)",
            "RESET statement_timeout",
            "57014",
        ),
        (
            "BEGIN; SET LOCAL lock_timeout = '300ms'",
            "LOCK TABLE events",
            "ROLLBACK",
            "55P03",
        ),
    ] {
        run(&session, set).await.unwrap();
        let error = ends(&session, sql).await;
        assert_eq!(error.code().code(), sqlstate, "{set}; {sql}: {error:?}");
        run(&session, reset).await.unwrap();
    }
    let ran = stage.psql_args(&["-U", "hasty", "-v", "VERBOSITY=verbose", "-c", alter], "");
    assert!(
        ran.stderr.contains("55P03") && ran.stderr.contains("lock_timeout of 300 ms"),
        "{}",
        ran.stderr
    );
    stage.direct("DROP ROLE hasty");
    run(&holder, "COMMIT").await.unwrap();
    // What could not be removed while the holder was there.
    run(&session, "CREATE INDEX i ON events (v)").await.unwrap();
    run(&session, "SET lock_timeout = '300ms'; SET statement_timeout = '100s'")
        .await
        .unwrap();
    run(&session, "CREATE INDEX j ON events (v)").await.unwrap();
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_index WHERE indrelid = 'events'::regclass AND NOT indisvalid"),
        "0"
    );
}

/// An application's own LOCK TABLE waits as long as the server does, and a deadlock is the server's.
#[tokio::test]
async fn lock_table_waits_as_on_the_server() {
    let stage = Stage::with(18, "lock", lockkeeper_testkit::QUICK);
    stage.direct(TABLES);
    let (one, two) = (stage.connect().await, stage.connect().await);
    run(&one, "BEGIN; LOCK TABLE events").await.unwrap();
    run(&two, "BEGIN; LOCK TABLE latest").await.unwrap();
    let waiting = tokio::spawn(async move {
        let done = run(&one, "LOCK latest").await;
        (done, run(&one, "ROLLBACK").await)
    });
    let done = run(&two, "LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE").await;
    run(&two, "ROLLBACK").await.unwrap();
    let (other, _) = waiting.await.unwrap();
    assert_ne!(done.is_ok(), other.is_ok(), "{done:?} {other:?}");
    let error = done.err().or(other.err()).unwrap();
    assert_eq!(error.code().code(), "40P01", "{error:?}");
}

/// pg_cancel_backend, which only the server hears of, also in a pause between two tries.
#[test]
fn a_cancel_on_the_server_is_not_lost_in_a_pause() {
    let policy = "extends = \"standard\"\n[lock]\ntimeout_ms = 1\npause_ms = 1000\ngive_up_after_s = 300\n";
    let stage = Stage::with(18, "pause", policy);
    stage.direct(TABLES);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM events");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let pid = i32::from_be_bytes(raw.key[..4].try_into().unwrap());
    for begin in ["SELECT 1", "BEGIN"] {
        raw.query(begin);
        for _ in 0..4 {
            raw.send(&lockkeeper_testkit::raw::frame(
                b'Q',
                &lockkeeper_testkit::raw::c("ALTER TABLE events ADD COLUMN a int"),
            ));
            // Seen and cancelled at once: what comes between two statements, the server forgets.
            let cancel = format!(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
            );
            until("it is cancelled in a pause", || stage.direct(&cancel) == "t");
            let answer = raw.until_ready();
            assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"), "{answer:?}");
            raw.query("ROLLBACK");
            raw.query(begin);
        }
        raw.query("ROLLBACK");
    }
    assert!(!stage.schema().contains("column a"), "{}", stage.schema());
}

/// Autovacuum gives way only to one who waits for deadlock_timeout, so short tries alone would never get through.
#[test]
fn a_brief_step_gets_past_autovacuum_without_a_queue() {
    let slow_vacuum = [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_cost_delay", "100ms"),
        ("autovacuum_vacuum_cost_limit", "1"),
        ("autovacuum_vacuum_threshold", "1"),
        ("autovacuum_vacuum_scale_factor", "0"),
        ("autovacuum_analyze_scale_factor", "100"),
    ];
    for major in [15, 18] {
        // Ends with the test process, as the shared ones do.
        let cluster = Box::leak(Box::new(own_cluster(major, &slow_vacuum)));
        let stage = Stage::on(cluster, "autovacuum", lockkeeper_testkit::QUICK, &[]);
        stage.direct(
            "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 50000) i;
             DELETE FROM t WHERE id % 2 = 0;
             ALTER TABLE t RESET (autovacuum_enabled)",
        );
        let vacuuming = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND granted
             AND mode = 'ShareUpdateExclusiveLock' AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')";
        let started = Instant::now();
        while stage.direct(vacuuming).trim() != "1" {
            assert!(started.elapsed() < Duration::from_secs(60), "autovacuum does not come");
            std::thread::sleep(Duration::from_millis(50));
        }
        let sampler = stage.sample_locks("t");
        let started = Instant::now();
        assert_eq!(stage.psql("ALTER TABLE t ADD COLUMN w int").ok().trim(), "ALTER TABLE");
        let took = started.elapsed();
        let samples = sampler.stop();
        assert!(took < Duration::from_secs(20), "PostgreSQL {major}: it took {took:?}");
        let queued = samples
            .0
            .iter()
            .filter(|s| !s.granted && s.mode == "AccessExclusiveLock");
        let waited = queued.filter_map(|s| s.wait_ms).fold(0.0, f64::max);
        assert!(
            waited < 500.0,
            "PostgreSQL {major}: ACCESS EXCLUSIVE stood in the queue for {waited} ms"
        );
        let log = cluster.log();
        assert!(log.contains("canceling autovacuum task"), "PostgreSQL {major}: {log}");
    }
}
