//! Replication connections: what they stream passes, in both directions.

use super::query;
use lockkeeper_cluster::{Cluster, Guarded, clean_environment};
use lockkeeper_testkit::raw::{Message, Raw, command_tags, error_field, frame, rows, startup, tags};
use lockkeeper_testkit::{QUICK, Stage, on_both, own_cluster, run, until};
use std::process::Command;
use std::sync::OnceLock;

on_both!(
    a_subscription_gets_its_rows_through_the_proxy,
    pg_recvlogical_hears_of_every_change,
    a_base_backup_and_the_wal_are_streamed,
    a_stream_does_not_keep_the_proxy_from_its_end,
);

fn server(major: u32) -> &'static Cluster {
    static V15: OnceLock<Cluster> = OnceLock::new();
    static V18: OnceLock<Cluster> = OnceLock::new();
    let settings = [
        ("wal_level", "logical"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
    ];
    let shared = if major == 15 { &V15 } else { &V18 };
    shared.get_or_init(|| own_cluster(major, &settings))
}

/// The subscriber is another database of the same server, whose worker connects to the proxy.
pub fn a_subscription_gets_its_rows_through_the_proxy(major: u32) {
    let stage = Stage::on(server(major), "published", QUICK, &[]);
    let subscriber = Stage::without_proxy(server(major), "subscriber");
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', i) FROM generate_series(1, 1000) i");
    stage.direct("CREATE PUBLICATION p FOR TABLE t");
    stage.direct("SELECT pg_create_logical_replication_slot('sub', 'pgoutput')");
    subscriber.direct("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let connection = format!(
        "host=127.0.0.1 port={} user=postgres dbname={}",
        stage.port, stage.database
    );
    // To the same server: the slot must be there before.
    subscriber.direct(&format!(
        "CREATE SUBSCRIPTION sub CONNECTION '{connection}' PUBLICATION p WITH (create_slot = false, slot_name = 'sub')"
    ));
    let rows_there = |n: u32| {
        until("the rows are there", || {
            subscriber.direct("SELECT count(*) || ' ' || sum(length(v)) FROM t")
                == stage.direct("SELECT count(*) || ' ' || sum(length(v)) FROM t")
                && stage.direct("SELECT count(*) FROM t") == n.to_string()
        });
    };
    rows_there(1000);
    // And what changes from now on, through the proxy as well.
    stage
        .psql("INSERT INTO t SELECT i, repeat('y', 100) FROM generate_series(1001, 3000) i")
        .ok();
    stage.psql("DELETE FROM t WHERE id = 7").ok();
    rows_there(2999);
    subscriber.direct("ALTER SUBSCRIPTION sub DISABLE");
    subscriber.direct("ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
    subscriber.direct("DROP SUBSCRIPTION sub");
    until("the slot is free", || {
        stage.direct("SELECT active FROM pg_replication_slots WHERE slot_name = 'sub'") == "f"
    });
    stage.direct("SELECT pg_drop_replication_slot('sub')");
}

pub fn pg_recvlogical_hears_of_every_change(major: u32) {
    let stage = Stage::on(server(major), "recv", QUICK, &[]);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text)");
    // What it is told, and what it says itself when it is interrupted.
    let listen = |port: u16, slot: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("changes");
        // Debian's is of version 15, and speaks to every server.
        let tool = |arguments: &[&str]| {
            let mut command = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical");
            clean_environment(&mut command);
            command.args([
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
                &port.to_string(),
                "-d",
                &stage.database,
            ]);
            command.args(["-S", slot, "-P", "test_decoding"]).args(arguments);
            command
        };
        run(tool(&["--create-slot"]), "").ok();
        let mut start = tool(&[
            "--start",
            "--no-loop",
            "-s",
            "1",
            "-o",
            "include-xids=off",
            "-o",
            "skip-empty-xacts=on",
            "-f",
        ]);
        start.arg(&file);
        let receiver = Guarded::spawn(&start, &dir.path().join("log")).unwrap();
        stage.direct("TRUNCATE t");
        for n in 0..4 {
            stage.psql(&format!("INSERT INTO t VALUES ({n}, 'v{n}')")).ok();
        }
        stage
            .psql("INSERT INTO t SELECT i, repeat('z', 1000) FROM generate_series(1000, 4999) i")
            .ok();
        let heard = || std::fs::read_to_string(&file).unwrap_or_default();
        until("the last row and its COMMIT have come", || {
            heard().ends_with("COMMIT\n") && heard().contains("id[integer]:4999 ")
        });
        receiver.signal(libc::SIGINT).unwrap();
        assert!(receiver.ends_within(std::time::Duration::from_secs(20)));
        let free = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
        until("the slot is free", || stage.direct(&free) == "f");
        run(tool(&["--drop-slot"]), "").ok();
        (heard(), std::fs::read_to_string(dir.path().join("log")).unwrap())
    };
    let direct = listen(stage.cluster.port(), "direct");
    let proxied = listen(stage.port, "proxied");
    assert!(
        direct.0 == proxied.0,
        "{} and {} bytes",
        direct.0.len(),
        proxied.0.len()
    );
    assert_eq!(direct.1, proxied.1);
    assert_eq!(proxied.0.matches("table public.t: INSERT").count(), 4_004);
}

/// By hand, since the tools of one version refuse servers of a newer one.
pub fn a_base_backup_and_the_wal_are_streamed(major: u32) {
    let stage = Stage::on(server(major), "base", QUICK, &[]);
    stage.direct("CREATE TABLE t AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 20000) i");
    let connect = |port: u16| {
        let mut raw = Raw::open(port);
        raw.start(&startup(&[("user", "postgres"), ("replication", "true")]));
        raw
    };
    let backup = |port: u16| -> (String, usize, Vec<String>) {
        let mut raw = connect(port);
        raw.send(&query(
            "BASE_BACKUP (LABEL 'base', CHECKPOINT 'fast', WAL false, MANIFEST 'yes')",
        ));
        let (mut seen, mut bytes) = (String::new(), 0);
        let mut last = Vec::new();
        while let Some((tag, body)) = raw.receive() {
            if tag == b'd' {
                bytes += body.len();
            }
            if !seen.ends_with(char::from(tag)) {
                seen.push(char::from(tag));
            }
            if tag == b'C' {
                last.push((tag, body));
            } else if tag == b'Z' {
                break;
            }
        }
        (seen, bytes, command_tags(&last))
    };
    let direct = backup(stage.cluster.port());
    let proxied = backup(stage.port);
    assert_eq!(direct.0.trim_matches('N'), proxied.0.trim_matches('N'));
    assert_eq!(direct.2, proxied.2);
    assert!(proxied.1 > 15_000_000, "{} bytes", proxied.1);

    // START_REPLICATION: COPY in both directions at once.
    let mut raw = connect(stage.port);
    assert_eq!(rows(&raw.query("IDENTIFY_SYSTEM")).len(), 1);
    let at = stage.direct("SELECT pg_current_wal_flush_lsn()");
    raw.send(&query(&format!("START_REPLICATION PHYSICAL {at}")));
    assert_eq!(raw.receive().map(|(tag, _)| tag), Some(b'W'));
    stage.direct("INSERT INTO t SELECT i, 'streamed ' || i FROM generate_series(1, 2000) i");
    let mut wal: Vec<u8> = Vec::new();
    while !wal.windows(13).any(|w| w == b"streamed 2000") {
        let (tag, body) = raw.receive().expect("more of the WAL");
        assert_eq!(tag, b'd');
        if body[0] == b'w' {
            wal.extend_from_slice(&body[25..]);
            let from = wal.len().saturating_sub(1 << 20);
            wal.drain(..from);
        }
        // A standby's status update, so that both directions are used.
        let status = [&[b'r'][..], &[0; 32], &[0]].concat();
        raw.send(&frame(b'd', &status));
    }
    raw.send(&frame(b'c', b""));
    let mut rest: Vec<Message> = Vec::new();
    while let Some((tag, body)) = raw.receive() {
        if tag != b'd' {
            rest.push((tag, body));
        }
        if tag == b'Z' {
            break;
        }
    }
    assert!(tags(&rest).starts_with('c') && tags(&rest).ends_with("CZ"), "{rest:?}");
    assert_eq!(error_field(&rest, b'M'), None);
    // The session goes on.
    assert_eq!(rows(&raw.query("SHOW wal_level")), ["logical"]);
}

/// It has no end to wait for, and is begun again elsewhere.
pub fn a_stream_does_not_keep_the_proxy_from_its_end(major: u32) {
    let stage = Stage::on(server(major), "ends", QUICK, &["--drain-timeout-s", "300"]);
    let mut raw = Raw::open(stage.port);
    raw.send(&startup(&[
        ("user", "postgres"),
        ("database", &stage.database),
        ("replication", "database"),
    ]));
    raw.until_ready();
    raw.query("CREATE_REPLICATION_SLOT ends TEMPORARY LOGICAL test_decoding");
    raw.send(&frame(b'Q', b"START_REPLICATION SLOT ends LOGICAL 0/0\0"));
    assert_eq!(raw.receive().map(|(tag, _)| tag), Some(b'W'));
    stage.proxy().signal(libc::SIGTERM).unwrap();
    let mut last = None;
    while let Some(message) = raw.receive() {
        last = Some(message);
    }
    assert_eq!(
        error_field(&[last.expect("a last word")], b'C').as_deref(),
        Some("57P01")
    );
    assert!(stage.proxy().ends_within(std::time::Duration::from_secs(60)));
}
