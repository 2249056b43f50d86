//! One process hands over to the next.

use lockkeeper_cluster::{Guarded, clean_environment, free_port};
use lockkeeper_testkit::raw::{Raw, c, error_field, frame, rows};
use lockkeeper_testkit::{Stage, cluster, on_both, until};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

on_both!(
    a_cancel_request_that_comes_to_the_next_process_ends_a_pause_of_the_old_one,
    the_next_process_passes_on_cancel_requests_for_what_runs_in_the_old_one,
);

/// One batch, and then a pause that no test waits for; tries for a lock with the same pause between them.
const LONG_PAUSES: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\npause_ms = 300000\n\
                           [backfill]\npause_ms = 300000\nrows_max = 10\nbatch_rows = 20\n";

fn serve(stage: &Stage, dir: &Path, name: &str, port: u16) -> Guarded {
    let policy = dir.join("policy.toml");
    std::fs::write(&policy, LONG_PAUSES).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.args([
        "serve",
        "--reuse-port",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--upstream",
    ]);
    command.arg(format!("127.0.0.1:{}", stage.cluster.port()));
    command.arg("--policy").arg(policy);
    let proxy = Guarded::spawn(&command, &dir.join(name)).unwrap();
    until("it listens", || proxy.listens_on(port));
    proxy
}

/// What is sent runs in a session of the old process until `seen`; the cancel request then comes to the new one. The answer.
fn cancelled_elsewhere(stage: &Stage, sql: &str, seen: &str) -> Vec<(u8, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let old = serve(stage, dir.path(), "old.log", port);
    let mut raw = Raw::connect(port, &stage.database);
    let pid = i32::from_be_bytes(raw.key[..4].try_into().unwrap());
    raw.send(&frame(b'Q', &c(sql)));
    let new = serve(stage, dir.path(), "new.log", port);
    old.signal(libc::SIGTERM).unwrap();
    until("the old process listens no longer", || !old.listens_on(port));
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let runs = format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND query LIKE '{seen}'"
    );
    let key = raw.key.clone();
    until("it runs on the server", || rows(&watch.query(&runs)) == ["t"]);
    let answer = std::thread::spawn(move || {
        let answer = raw.until_ready();
        // The old process ends what is idle.
        assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57P01"));
        answer
    });
    // One request can come in the moment between two statements, where PostgreSQL ignores it.
    until("the statement ends", || {
        let mut cancel = Raw::open(port);
        let len = (8 + key.len()) as u32;
        cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &key].concat());
        assert_eq!(cancel.byte(), None);
        answer.is_finished()
    });
    assert!(old.ends_within(Duration::from_secs(20)));
    assert!(new.is_alive());
    answer.join().unwrap()
}

pub fn a_cancel_request_that_comes_to_the_next_process_ends_a_pause_of_the_old_one(major: u32) {
    let stage = Stage::without_proxy(cluster(major), "elsewhere");
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i FROM generate_series(1, 100) i; ANALYZE t",
    );
    let answer = cancelled_elsewhere(&stage, "UPDATE t SET v = 1 WHERE v IS NULL", "%pg_sleep%");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"), "{answer:?}");
    let told = error_field(&answer, b'D').unwrap();
    assert!(
        told.contains("20 rows of public.t were changed and committed in 1 batches"),
        "{told}"
    );
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE v = 1"), "20");

    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("LOCK TABLE t IN ACCESS SHARE MODE");
    let answer = cancelled_elsewhere(&stage, "ALTER TABLE t ADD COLUMN w int", "%pg_sleep%");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"), "{answer:?}");
    assert!(!stage.schema().contains("column w"));
}

pub fn the_next_process_passes_on_cancel_requests_for_what_runs_in_the_old_one(major: u32) {
    let stage = Stage::without_proxy(cluster(major), "passed_on");
    let answer = cancelled_elsewhere(&stage, "SELECT pg_sleep(600)", "%pg_sleep(600)%");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"), "{answer:?}");
}
