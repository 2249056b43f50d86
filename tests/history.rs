//! What happened at 02:13? Lists by overlap of begin and end, times as people write them, filters for what a person asks on the morning after,
//! and the statements of one deployment together.

use lockkeeper_testkit::raw::Raw;
use lockkeeper_testkit::{QUICK, Stage, on_both, until};
use std::path::Path;
use std::process::Command;

on_both!(the_morning_after_is_told,);

fn audit(arguments: &[&str], log: &Path) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .arg("audit")
        .args(arguments)
        .arg(log)
        .output()
        .expect("it runs");
    assert!(
        ran.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// A line of a log, as far as lists need it.
fn line(time: &str, id: &str, duration_ms: f64, outcome: &str) -> String {
    format!(
        "{{\"time\":\"{time}\",\"event\":\"statement\",\"id\":\"{id}\",\"session\":1,\"backend_pid\":1,\"user\":\"u\",\"database\":\"d\",\
         \"application_name\":\"tool\",\"client\":\"127.0.0.1:{}\",\"statement\":\"S{id}\",\"action\":\"rewrite\",\"steps\":[{{\"duration_ms\":1.0}}],\
         \"outcome\":\"{outcome}\",\"duration_ms\":{duration_ms},\"lock_tries\":0}}\n",
        id.len()
    )
}

#[test]
fn what_went_on_at_a_moment_is_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("audit.jsonl");
    let text = [
        line("2026-03-01T02:00:00.000000Z", "k-1.1", 1_000.0, "done"),
        line("2026-03-01T02:14:00.000000Z", "k-2.1", 120_000.0, "done"),
        line("2026-03-01T02:30:00.000000Z", "k-3.1", 3_600_000.0, "failed"),
        line("2026-03-01T02:31:00.000000Z", "k-4.1", 1_000.0, "done"),
    ]
    .concat();
    std::fs::write(&log, text).expect("a log");
    let ids = |arguments: &[&str]| -> Vec<String> {
        let out = audit(&[&["list", "--format", "csv"], arguments].concat(), &log);
        let rows = out.lines().skip(1);
        rows.map(|row| row.split(',').nth(1).unwrap_or_default().to_owned())
            .collect()
    };
    let at = ["--since", "2026-03-01 02:13", "--until", "2026-03-01 02:13:01"];
    assert_eq!(ids(&at), ["k-2.1", "k-3.1"]);
    assert_eq!(ids(&["--until", "2026-03-01 02:00"]), ["k-1.1", "k-3.1"]);
    assert_eq!(ids(&["--since", "2026-03-01 02:30:30"]), ["k-4.1"]);
    assert!(ids(&["--since", "yesterday"]).is_empty());
    // Both ends are shown.
    let out = audit(&["list"], &log);
    let row = out.lines().find(|row| row.contains("k-3.1")).expect("a row");
    assert!(row.starts_with("2026-03-01 01:30:00 02:30:00"), "{row}");
    // One program's connections one behind the other are one deployment.
    let out = audit(&["deployments"], &log);
    let heads: Vec<&str> = out.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads.len(), 2, "{out}");
    assert!(
        heads[1].starts_with("2026-03-01 01:30:00 to 02:31:00  failed  u@d with tool, 3 statements"),
        "{out}"
    );
}

fn the_morning_after_is_told(major: u32) {
    let stage = Stage::with(major, "history", QUICK);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i; CREATE TABLE u (id int); INSERT INTO u VALUES (1)");
    stage.psql("BEGIN; ALTER TABLE t ADD COLUMN b int; ROLLBACK;");
    stage
        .psql("SET lockkeeper.override = 'drop-column: ticket 42'; ALTER TABLE t DROP COLUMN a;")
        .ok();
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT * FROM u");
    let mut waits = Raw::connect(stage.port, &stage.database);
    waits.send(&lockkeeper_testkit::raw::frame(
        b'Q',
        b"ALTER TABLE u ADD COLUMN c int\0",
    ));
    until("it has waited", || {
        stage.audit_lines().iter().any(|line| line["event"] == "waiting")
    });
    holder.query("COMMIT");
    waits.until_ready();
    let log = stage.audit_file();
    for (filter, expect) in [
        ("--rolled-back", "ADD COLUMN b"),
        ("--overridden", "DROP COLUMN a"),
        ("--waited", "ADD COLUMN c"),
    ] {
        let out = audit(&["list", filter], &log);
        assert_eq!(out.lines().count(), 2, "{filter}: {out}");
        assert!(out.contains(expect), "{filter}: {out}");
    }
    let out = audit(&["list", "--outcome", "rolled back"], &log);
    assert!(out.contains("ADD COLUMN b"), "{out}");
    let out = audit(&["deployments", "--format", "json"], &log);
    let sessions: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all: usize = sessions
        .iter()
        .map(|one| one["statements"].as_array().unwrap().len())
        .sum();
    assert!(all >= 3 && sessions[0]["outcome"] == "rolled back", "{out}");
}
