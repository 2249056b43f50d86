//! Replication connections pass; a schema change over one is refused.

use super::{LARGE, query, works};
use lockkeeper_cluster::{Cluster, Guarded, clean_environment};
use lockkeeper_testkit::raw::{Raw, c, error_field, frame, parse, rows, startup, sync};
use lockkeeper_testkit::{Stage, own_cluster, run, until};
use std::process::Command;

fn server() -> &'static Cluster {
    let settings = [
        ("wal_level", "logical"),
        ("max_wal_senders", "10"),
        ("wal_keep_size", "64MB"),
    ];
    // A leaked cluster is stopped by its guardian when this process ends. Debian's tools are of this version.
    Box::leak(Box::new(own_cluster(15, &settings)))
}

fn tool(stage: &Stage, name: &str) -> Command {
    let mut command = Command::new(
        stage
            .cluster
            .bin(name)
            .unwrap_or_else(|| panic!("{name} is not installed")),
    );
    clean_environment(&mut command);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &stage.port.to_string()]);
    command
}

#[test]
fn base_backups_and_streams_of_wal_pass() {
    let stage = Stage::on(server(), "wal", LARGE, &[]);
    stage.direct("CREATE TABLE t AS SELECT generate_series(1, 10000) AS id");
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let mut command = tool(&stage, "pg_basebackup");
    command
        .args(["-X", "stream", "-c", "fast", "--no-sync", "-D"])
        .arg(&backup);
    run(command, "").ok();
    let mut verify = Command::new(stage.cluster.bin("pg_verifybackup").unwrap());
    verify.arg(&backup);
    run(verify, "").ok();

    let wal = dir.path().join("wal");
    std::fs::create_dir(&wal).unwrap();
    let mut command = tool(&stage, "pg_receivewal");
    command.args(["--no-sync", "--no-loop", "-D"]).arg(&wal);
    let receiver = Guarded::spawn(&command, &dir.path().join("receivewal.log")).unwrap();
    let files = || std::fs::read_dir(&wal).map_or(0, |dir| dir.count());
    until("a segment is begun", || files() > 0);
    stage.direct("INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()");
    until("a segment is finished and the next one begun", || {
        stage.direct("INSERT INTO t VALUES (1)");
        files() > 1
    });
    // It ends its stream in good order: CopyDone from both sides.
    receiver.signal(libc::SIGINT).unwrap();
    let ended = receiver.ends_within(std::time::Duration::from_secs(10));
    let said = std::fs::read_to_string(dir.path().join("receivewal.log")).unwrap();
    assert!(ended && !said.contains("error"), "{said}");
}

/// A connection with `replication=database` takes SQL as well.
#[test]
fn a_schema_change_over_a_replication_connection_is_refused() {
    let stage = Stage::on(server(), "walsender", LARGE, &[]);
    stage.direct("CREATE TABLE t (id int)");
    let connect = || {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[
            ("user", "postgres"),
            ("database", &stage.database),
            ("replication", "database"),
        ]));
        raw.until_ready();
        raw
    };
    let mut raw = connect();
    assert_eq!(rows(&raw.query("IDENTIFY_SYSTEM")).len(), 1);
    assert_eq!(rows(&raw.query("SHOW wal_level")), ["logical"]);
    assert_eq!(rows(&raw.query("SELECT 1; SELECT 2")), ["1", "2"]);
    let created = raw.query("CREATE_REPLICATION_SLOT s LOGICAL pgoutput");
    assert_eq!(rows(&created), ["s"]);
    assert_eq!(error_field(&raw.query("DROP_REPLICATION_SLOT s WAIT"), b'M'), None);
    assert_eq!(
        error_field(&raw.query("SELECT wobble("), b'C').as_deref(),
        Some("42601")
    );
    raw.query("SET client_encoding = 'LATIN1'");
    let deep = format!("{}{}DROP TABLE t", "/*".repeat(100_000), "*/".repeat(100_000));
    let nested = format!("DROP TABLE t; SELECT {}1{}", "(".repeat(3_000), ")".repeat(3_000));
    let disguises: Vec<Vec<u8>> = vec![
        query("DROP TABLE t"),
        query("SELECT 1; DROP TABLE t"),
        query("/* IDENTIFY_SYSTEM */ DROP TABLE t"),
        frame(b'Q', b"DROP TABLE t -- \xfc\0"),
        frame(b'Q', b"SELECT '\xfc'; DROP TABLE t\0"),
        query(&deep),
        query(&nested),
        query("DROP TABLE t; IDENTIFY_SYSTEM"),
        query("IDENTIFY_SYSTEM; DROP TABLE t"),
        query("DO $$ BEGIN EXECUTE 'SELECT 1'; END $$; DROP TABLE t"),
        [parse("", "DROP TABLE t"), sync()].concat(),
        frame(b'F', &c("DROP TABLE t")),
    ];
    for disguise in disguises {
        let mut raw = connect();
        raw.query("SET client_encoding = 'LATIN1'");
        raw.send(&disguise);
        let answer = raw.until_ready();
        assert!(error_field(&answer, b'C').is_some(), "{answer:?}");
        assert_eq!(
            stage.direct("SELECT to_regclass('t') IS NOT NULL"),
            "t",
            "{}",
            String::from_utf8_lossy(&disguise[..disguise.len().min(60)])
        );
    }
    works(&stage);
}
