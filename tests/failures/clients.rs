//! Clients that vanish, stall, or come in crowds.

use super::{LARGE, USERS, at, gone, large, query, session, wait_for, works};
use lockkeeper_testkit::raw::{Raw, error_field, frame, rows, startup, status, tags};
use lockkeeper_testkit::{Stage, cluster, own_cluster, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

lockkeeper_testkit::on_both!(
    a_client_that_vanishes_in_a_long_query_or_in_copy_takes_its_session_along,
    a_client_that_vanishes_while_its_statement_waits_for_a_lock_changes_nothing,
    a_client_that_never_reads_costs_no_memory,
    a_client_that_sends_no_startup_packet_is_let_go,
    three_hundred_sessions_at_once,
    more_than_connections_max_is_refused_until_one_ends,
    large_objects_and_function_calls_pass,
);

fn a_client_that_vanishes_in_a_long_query_or_in_copy_takes_its_session_along(major: u32) {
    let stage = Stage::with(major, "vanish", lockkeeper_testkit::QUICK);
    stage.direct("CREATE TABLE t (v text)");
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let scripts: [(&str, Vec<Vec<u8>>); 4] = [
        ("%pg_sleep(60)%", vec![query("SELECT pg_sleep(60)")]),
        (
            "COPY t FROM%",
            vec![query("COPY t FROM STDIN"), frame(b'd', b"half\nhal")],
        ),
        // The rest of these frames never comes.
        ("", vec![query("INSERT INTO t VALUES ('x')")[..20].to_vec()]),
        (
            "COPY t FROM%",
            vec![query("COPY t FROM STDIN"), frame(b'd', b"half\n")[..7].to_vec()],
        ),
    ];
    for (seen, script) in scripts {
        let mut raw = session(stage.port, &stage.database, "vanishing");
        for part in script {
            raw.send(&part);
        }
        wait_for(&mut watch, &at("vanishing", seen));
        drop(raw);
        wait_for(&mut watch, &gone("vanishing"));
        assert_eq!(rows(&watch.query("SELECT count(*) FROM t")), ["0"]);
    }
    works(&stage);
}

fn a_client_that_vanishes_while_its_statement_waits_for_a_lock_changes_nothing(major: u32) {
    let stage = large(major, "waiting");
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("LOCK TABLE users IN ACCESS SHARE MODE");
    let mut raw = session(stage.port, &stage.database, "vanishing");
    raw.send(&query("ALTER TABLE users ADD COLUMN later int"));
    until("two tries have failed", || {
        let failed = |line: &&lockkeeper_testkit::Logged| line.message.contains("lock timeout");
        stage.server_log().iter().filter(failed).count() >= 2
    });
    drop(raw);
    wait_for(&mut watch, &gone("vanishing"));
    holder.query("COMMIT");
    assert!(!stage.schema().contains("later"));
    until("the audit log has its end", || {
        stage.audit_lines().iter().any(|line| line["outcome"] == "disconnected")
    });
    works(&stage);
}

#[test]
fn a_client_that_vanishes_in_a_batch_run_leaves_whole_batches() {
    let stage = Stage::on(
        cluster(18),
        "batches",
        &LARGE.replace("pause_ms = 1\n", "pause_ms = 100\n"),
        &[],
    );
    stage.direct(USERS);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut raw = session(stage.port, &stage.database, "vanishing");
    raw.send(&query("UPDATE users SET seen = false WHERE seen IS NULL"));
    wait_for(&mut watch, "SELECT count(*) >= 200 FROM users WHERE seen = false");
    drop(raw);
    wait_for(&mut watch, &gone("vanishing"));
    let changed: u32 = stage
        .direct("SELECT count(*) FROM users WHERE seen = false")
        .parse()
        .unwrap();
    assert!(
        changed.is_multiple_of(100) && (200..1000).contains(&changed),
        "{changed}"
    );
    until("the audit log has its end", || {
        stage.audit_lines().iter().any(|line| line["outcome"] == "disconnected")
    });
}

fn a_client_that_never_reads_costs_no_memory(major: u32) {
    let stage = Stage::with(major, "unread", lockkeeper_testkit::QUICK);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut many = session(stage.port, &stage.database, "many rows");
    many.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 500000)"));
    let mut one = session(stage.port, &stage.database, "one row");
    one.send(&query("SELECT repeat('x', 300000000)"));
    for name in ["many rows", "one row"] {
        wait_for(
            &mut watch,
            &format!("SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE application_name = '{name}'"),
        );
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/status", stage.proxy().pid())).unwrap();
    let resident: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap();
    assert!(resident < 80_000, "the proxy took {resident} kB");
    works(&stage);
    // Once it is read, all of it is there.
    assert_eq!(rows(&many.until_ready()).len(), 500_000);
}

/// Reads to the end of the stream and tells how long that took.
fn end_of(stream: &mut TcpStream) -> (Vec<u8>, Duration) {
    let started = Instant::now();
    let mut all = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.read_to_end(&mut all).unwrap();
    (all, started.elapsed())
}

fn a_client_that_sends_no_startup_packet_is_let_go(major: u32) {
    let stage = Stage::on(cluster(major), "silent", LARGE, &["--startup-timeout-s", "1"]);
    for sent in [&b""[..], &[0, 0, 0, 50, 0, 3, 0, 0, b'u', b's']] {
        let mut stream = TcpStream::connect(("127.0.0.1", stage.port)).unwrap();
        stream.write_all(sent).unwrap();
        let (heard, after) = end_of(&mut stream);
        assert!(heard.is_empty(), "{heard:?}");
        assert!(
            (Duration::from_millis(900)..Duration::from_secs(10)).contains(&after),
            "{after:?}"
        );
    }
    works(&stage);
}

fn three_hundred_sessions_at_once(major: u32) {
    // A leaked cluster is stopped by its guardian when this process ends.
    let server = Box::leak(Box::new(own_cluster(major, &[("max_connections", "350")])));
    let stage = Stage::on(server, "crowd", LARGE, &[]);
    stage.direct("CREATE TABLE t (id int)");
    let open = |_| {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
        raw
    };
    let mut sessions: Vec<Raw> = (0..300).map(open).collect();
    for raw in &mut sessions {
        assert_eq!(status(&raw.until_ready()), Some('I'));
    }
    for (n, raw) in sessions.iter_mut().enumerate() {
        raw.send(&query(&format!("INSERT INTO t VALUES ({n}) RETURNING id")));
    }
    for (n, raw) in sessions.iter_mut().enumerate() {
        assert_eq!(rows(&raw.until_ready()), [n.to_string()]);
    }
    assert_eq!(
        stage.direct(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ),
        "300"
    );
    // All of them change the schema at once.
    for (n, raw) in sessions.iter_mut().enumerate().take(30) {
        raw.send(&query(&format!(
            "CREATE TABLE t{n} (id int); ALTER TABLE t{n} ADD COLUMN v int"
        )));
    }
    for raw in sessions.iter_mut().take(30) {
        let answer = raw.until_ready();
        assert_eq!(error_field(&answer, b'M'), None);
    }
    drop(sessions);
    works(&stage);
}

fn more_than_connections_max_is_refused_until_one_ends(major: u32) {
    let stage = Stage::on(cluster(major), "full", LARGE, &["--connections-max", "3"]);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut open: Vec<Raw> = (0..3).map(|_| session(stage.port, &stage.database, "in")).collect();
    let mut more = Raw::open(stage.port);
    more.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
    let answer = more.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("53300"));
    assert!(
        error_field(&answer, b'H').unwrap().contains("connections-max"),
        "{answer:?}"
    );
    assert!(more.receive().is_none());
    // A cancel request is no session: it passes all the same.
    open[0].send(&query("SELECT pg_sleep(60)"));
    wait_for(&mut watch, &at("in", "%pg_sleep%"));
    cancel(stage.port, &open[0].key);
    assert_eq!(error_field(&open[0].until_ready(), b'C').as_deref(), Some("57014"));
    open.pop();
    until("the place is free", || {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
        status(&raw.until_ready()) == Some('I')
    });
}

pub fn cancel(port: u16, key: &[u8]) {
    let mut cancel = Raw::open(port);
    let len = (8 + key.len()) as u32;
    cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat());
    assert_eq!(cancel.byte(), None);
}

/// Large objects: lo_import speaks FunctionCall, not SQL.
fn large_objects_and_function_calls_pass(major: u32) {
    let stage = Stage::with(major, "lo", lockkeeper_testkit::QUICK);
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in"), dir.path().join("out"));
    let data: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(&from, &data).unwrap();
    let script = format!(
        "\\lo_import {}\n\\lo_export :LASTOID {}\nALTER TABLE nothing ADD COLUMN v int;\n\\lo_unlink :LASTOID\n",
        from.display(),
        to.display()
    );
    let ran = stage.psql_args(&["-A", "-t"], &script);
    assert!(ran.stderr.contains("\"nothing\" does not exist"), "{ran:?}");
    assert_eq!(std::fs::read(&to).unwrap(), data, "{ran:?}");
    assert_eq!(stage.direct("SELECT count(*) FROM pg_largeobject_metadata"), "0");
    // A FunctionCall of an unknown function and one that is cut short.
    let mut raw = Raw::connect(stage.port, &stage.database);
    for body in [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0, 0][..]] {
        raw.send(&frame(b'F', body));
        let answer = raw.until_ready();
        assert_eq!(tags(&answer), "EZ");
    }
    assert_eq!(rows(&raw.query("SELECT 1")), ["1"]);
    raw.send(&frame(b'X', b""));
    assert!(raw.receive().is_none());
}
