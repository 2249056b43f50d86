//! Cancel requests, wherever they find a session.

use super::query;
use lockkeeper_testkit::raw::{Message, Raw, error_field, rows, startup_version, status, tags};
use lockkeeper_testkit::{QUICK, Stage, on_both, until};

on_both!(
    a_running_statement_ends_whatever_the_key_is_like,
    an_idle_session_and_a_wrong_key_are_left_alone,
    a_statement_of_ours_that_is_cancelled_ends_the_client_s,
    a_batch_that_waits_is_cancelled_once,
    a_concurrent_build_that_is_cancelled_ends_at_once,
);

const LARGE: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 1\nrows_max = 10\nbatch_rows = 50\nbatch_target_ms = 0\n";
const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i FROM generate_series(1, 200) i; ANALYZE t";

fn cancel(port: u16, key: &[u8]) {
    let mut cancel = Raw::open(port);
    let len = (8 + key.len()) as u32;
    cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat());
    // The server closes when it has sent the signal, and the proxy only then.
    assert_eq!(cancel.byte(), None);
}

fn pid_of(raw: &Raw) -> i32 {
    i32::from_be_bytes(raw.key[..4].try_into().unwrap())
}

/// Cancels once the session waits for a lock.
#[track_caller]
fn cancel_when_it_waits(stage: &Stage, raw: &Raw) {
    let waits = format!(
        "SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND NOT granted",
        pid_of(raw)
    );
    until("it waits for a lock", || stage.direct(&waits) == "t");
    cancel(stage.port, &raw.key);
}

#[track_caller]
fn is_cancelled(raw: &mut Raw) -> Vec<Message> {
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("57014"), Some('I')),
        "{answer:?}"
    );
    assert_eq!(tags(&answer).matches('E').count(), 1, "{answer:?}");
    // It was meant for that statement alone.
    assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ");
    answer
}

/// 4 bytes, and 32 where the client asks for protocol 3.2 and the server has it.
pub fn a_running_statement_ends_whatever_the_key_is_like(major: u32) {
    let stage = Stage::with(major, "cancel", QUICK);
    for version in [196_608, 196_610] {
        let mut raw = Raw::open(stage.port);
        raw.start(&startup_version(
            version,
            &[("user", "postgres"), ("database", &stage.database)],
        ));
        let long = version == 196_610 && major == 18;
        assert_eq!(raw.key.len(), 4 + if long { 32 } else { 4 });
        raw.send(&query("SELECT pg_sleep(600)"));
        let runs = format!(
            "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {} AND wait_event = 'PgSleep'",
            pid_of(&raw)
        );
        until("it runs", || stage.direct(&runs) == "t");
        cancel(stage.port, &raw.key);
        is_cancelled(&mut raw);
    }
}

pub fn an_idle_session_and_a_wrong_key_are_left_alone(major: u32) {
    let stage = Stage::with(major, "idle", LARGE);
    stage.direct(TABLE);
    let mut raw = Raw::connect(stage.port, &stage.database);
    cancel(stage.port, &raw.key);
    assert_eq!(tags(&raw.query("SELECT 1")), "TDCZ");
    // Nor is a plan that begins later cancelled by it.
    cancel(stage.port, &raw.key);
    let answer = raw.query("UPDATE t SET v = 'w' WHERE v IS NULL");
    assert_eq!(error_field(&answer, b'C'), None);
    let mut wrong = raw.key.clone();
    wrong[4] ^= 1;
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM t WHERE id = 70 FOR UPDATE");
    raw.send(&query("UPDATE t SET v = 'x' WHERE v = 'w'"));
    let waits = format!(
        "SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND NOT granted",
        pid_of(&raw)
    );
    until("it waits for the row", || stage.direct(&waits) == "t");
    for key in [&wrong[..], &raw.key[..4], &[&raw.key[..], b"more"].concat(), &[0; 200]] {
        cancel(stage.port, key);
    }
    holder.query("COMMIT");
    assert_eq!(error_field(&raw.until_ready(), b'C'), None);
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE v = 'x'"), "200");
}

/// The questions to the catalog are asked in the client's name: whoever cancels means the client's statement.
pub fn a_statement_of_ours_that_is_cancelled_ends_the_client_s(major: u32) {
    let stage = Stage::with(major, "injected", LARGE);
    stage.direct(TABLE);
    let mut raw = Raw::connect(stage.port, &stage.database);
    // So that only our own question waits for the catalog that is locked.
    raw.query("SELECT count(*) FROM pg_constraint");
    for sql in [
        "ALTER TABLE t ADD COLUMN w int",
        "SELECT 1; ALTER TABLE t ADD COLUMN w int",
    ] {
        let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
        holder.query("BEGIN");
        holder.query("LOCK TABLE pg_constraint IN ACCESS EXCLUSIVE MODE");
        raw.send(&query(sql));
        let waits = format!(
            "SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND NOT granted AND relation = 'pg_constraint'::regclass",
            pid_of(&raw)
        );
        until("the question waits", || rows(&holder.query(&waits)) == ["t"]);
        cancel(stage.port, &raw.key);
        let answer = raw.until_ready();
        assert_eq!(
            (error_field(&answer, b'C').as_deref(), status(&answer)),
            (Some("57014"), Some('I')),
            "{answer:?}"
        );
        holder.query("COMMIT");
    }
    assert!(!stage.schema().contains("column w"));
    assert_eq!(tags(&raw.query("ALTER TABLE t ADD COLUMN w int")), "CZ");
}

pub fn a_batch_that_waits_is_cancelled_once(major: u32) {
    let stage = Stage::with(major, "batch", LARGE);
    stage.direct(TABLE);
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM t WHERE id = 70 FOR UPDATE");
    raw.send(&query("UPDATE t SET v = 'w' WHERE v IS NULL"));
    cancel_when_it_waits(&stage, &raw);
    let answer = is_cancelled(&mut raw);
    let told = error_field(&answer, b'D').unwrap();
    assert!(
        told.contains("50 rows of public.t were changed and committed in 1 batches"),
        "{told}"
    );
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE v = 'w'"), "50");
}

pub fn a_concurrent_build_that_is_cancelled_ends_at_once(major: u32) {
    let stage = Stage::with(major, "build", LARGE);
    stage.direct(TABLE);
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("UPDATE t SET v = 'held' WHERE id = 1");
    raw.send(&query("CREATE INDEX by_v ON t (v)"));
    let begun = "SELECT count(*) = 1 FROM pg_index WHERE indexrelid = to_regclass('by_v') AND NOT indisvalid";
    until("the build has begun", || stage.direct(begun) == "t");
    cancel_when_it_waits(&stage, &raw);
    // The removal would wait for the holder too: it is not waited for, and told.
    let answer = is_cancelled(&mut raw);
    let told = error_field(&answer, b'D').unwrap();
    assert!(
        told.contains("could not be removed") && told.contains("DROP INDEX CONCURRENTLY IF EXISTS"),
        "{told}"
    );
    assert_eq!(
        stage.direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_v'::regclass"),
        "f"
    );
    holder.query("COMMIT");
    // As it says.
    let answer = raw.query("CREATE INDEX by_v ON t (v)");
    assert_eq!(error_field(&answer, b'C'), None, "{answer:?}");
    assert_eq!(
        stage.direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_v'::regclass"),
        "t"
    );
    // An old snapshot, which holds no lock on the table, is no obstacle to a removal.
    holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
    holder.query("SELECT 1");
    raw.send(&query("CREATE INDEX by_id ON t (id, v)"));
    cancel_when_it_waits(&stage, &raw);
    let told = error_field(&is_cancelled(&mut raw), b'D').unwrap();
    assert!(told.contains("removed the INVALID index by_id"), "{told}");
    assert_eq!(stage.direct("SELECT to_regclass('by_id') IS NULL"), "t");
}
