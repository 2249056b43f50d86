//! Everything has a limit; what the limits do is told to the client that meets them.

use super::query;
use lockkeeper_testkit::raw::{
    Raw, bind, bind_with, close, command_tags, describe, error_field, execute, parse, rows, status, sync,
};
use lockkeeper_testkit::{QUICK, Stage, cluster, on_both, start_proxy};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

on_both!(
    what_a_session_prepares_to_be_judged_is_bounded,
    a_large_value_of_an_update_by_key_passes_unheld,
    a_pipeline_over_the_limit_waits_and_comes_through,
    a_row_of_256_mb_passes_both_ways_in_bounded_memory,
    a_large_answer_to_a_client_that_reads_slowly_takes_little_memory,
    a_silent_peer_is_asked_whether_it_is_there,
);

/// What the proxy has ever taken, in kB.
#[track_caller]
fn memory_peak_kb(stage: &Stage) -> u64 {
    let memory = std::fs::read_to_string(format!("/proc/{}/status", stage.proxy().pid())).unwrap();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

pub fn what_a_session_prepares_to_be_judged_is_bounded(major: u32) {
    let stage = Stage::on(cluster(major), "held", QUICK, &["--held-bytes-max", "100000"]);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let ddl = |n: usize| parse(&format!("s{n}"), &format!("ALTER TABLE t ADD COLUMN c{n} int"));
    let mut prepared = 0;
    let refused = loop {
        raw.send(&[ddl(prepared), sync()].concat());
        let answer = raw.until_ready();
        if error_field(&answer, b'C').is_some() {
            break answer;
        }
        prepared += 1;
        assert!(prepared < 1_000, "there is no bound");
    };
    assert!(prepared > 100, "{prepared}");
    assert_eq!(
        (error_field(&refused, b'C').as_deref(), status(&refused)),
        (Some("54000"), Some('I'))
    );
    assert!(error_field(&refused, b'H').unwrap().contains("--held-bytes-max"));
    // What needs no judging is not counted, and what is closed is counted no longer.
    raw.send(&[parse("more", "SELECT 1"), bind("", "more"), execute("", 0), sync()].concat());
    assert_eq!(rows(&raw.until_ready()), ["1"]);
    raw.send(&[close(b'S', "s0"), ddl(prepared), sync()].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C'), None);
    raw.query("DEALLOCATE ALL");
    raw.send(&[ddl(0), bind("", "s0"), execute("", 0), sync()].concat());
    assert_eq!(command_tags(&raw.until_ready()), ["ALTER TABLE"]);
    // In a block the server must know of the refusal.
    raw.query("BEGIN");
    raw.send(&[parse("", "ALTER TABLE t ADD COLUMN x int; --"), sync()].concat());
    raw.until_ready();
    let long = format!("ALTER TABLE t ADD COLUMN y int -- {}", "y".repeat(100_000));
    raw.send(&[parse("", &long), bind("", ""), execute("", 0), sync()].concat());
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('E'))
    );
    assert_eq!(command_tags(&raw.query("COMMIT")), ["ROLLBACK"]);
}

pub fn a_large_value_of_an_update_by_key_passes_unheld(major: u32) {
    let stage = Stage::on(
        cluster(major),
        "large_value",
        &format!("{QUICK}\n[table]\nsmall_bytes = 0\n"),
        &["--held-bytes-max", "100000"],
    );
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i; ANALYZE t");
    let big = "y".repeat(3_000_000);
    let mut raw = Raw::connect(stage.port, &stage.database);
    let update = parse("u", "UPDATE t SET v = $1 WHERE id = $2");
    raw.send(
        &[
            update,
            bind_with("", "u", &[&big, "1"]),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1"]);
    // In a pipeline behind other work, and again in a block.
    let insert = [
        parse("", "INSERT INTO t VALUES (500, 'a')"),
        bind("", ""),
        execute("", 0),
    ]
    .concat();
    let fresh = parse("w", "UPDATE t SET v = $1 || 'w' WHERE id = $2");
    raw.send(&[insert, fresh, bind_with("", "w", &[&big, "2"]), execute("", 0), sync()].concat());
    assert_eq!(command_tags(&raw.until_ready()), ["INSERT 0 1", "UPDATE 1"]);
    raw.query("BEGIN");
    raw.send(&[bind_with("", "u", &[&big, "3"]), execute("", 0), sync()].concat());
    assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1"]);
    // Behind one with the same portal that was small enough to be held, and where nothing is remembered of shapes.
    raw.query("SET LOCAL search_path = public");
    let small = parse("small", "UPDATE t SET v = $1 || 's' WHERE id = $2");
    let large = parse("large", "UPDATE t SET v = $1 || 'l' WHERE id = $2");
    raw.send(&[small, bind_with("", "small", &["x", "4"]), execute("", 0), sync()].concat());
    raw.send(&[large, bind_with("", "large", &[&big, "5"]), execute("", 0), sync()].concat());
    for _ in 0..2 {
        assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1"]);
    }
    raw.query("COMMIT");
    assert_eq!(
        rows(&raw.query("SELECT count(*) FROM t WHERE length(v) >= 3000000")),
        ["4"]
    );
    // One that may touch many rows has to be held, and so has a schema change with parameters, which the server refuses.
    let mut raw = Raw::connect(stage.port, &stage.database);
    let wide = parse("w", "UPDATE t SET v = $1 WHERE v <> $2");
    raw.send(&[wide, bind_with("", "w", &[&big, "1"]), execute("", 0), sync()].concat());
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('I'))
    );
    // How many rows these mean follows from their parameters.
    for (n, text) in [
        "WITH n AS (SELECT unnest(string_to_array($1, 'y')) AS v), u AS (UPDATE t SET v = 'z' WHERE $2 = '1' RETURNING 1) SELECT count(*) FROM u, n",
        "MERGE INTO t USING (SELECT $1 AS a, $2 AS b) AS s ON true WHEN MATCHED THEN UPDATE SET v = s.a",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("mixed{n}");
        raw.send(&[parse(&name, text), bind_with("", &name, &[&big, "1"]), execute("", 0), sync()].concat());
        let answer = raw.until_ready();
        assert_eq!(
            (error_field(&answer, b'C').as_deref(), status(&answer)),
            (Some("54000"), Some('I')),
            "{text}"
        );
    }
    assert_eq!(
        rows(&raw.query("SELECT count(*) FROM t WHERE length(v) >= 3000000")),
        ["4"]
    );
    // A Bind that fails leaves the portal as it was: no way around the judge.
    raw.send(
        &[
            query("BEGIN"),
            parse("d", "DROP TABLE t"),
            bind("p", "d"),
            sync(),
            query("SAVEPOINT s"),
            parse("u", "UPDATE t SET v = $1 WHERE id = $2"),
            bind_with("p", "u", &[&big]),
            sync(),
            query("ROLLBACK TO s"),
            execute("p", 0),
            sync(),
            query("COMMIT"),
        ]
        .concat(),
    );
    for _ in 0..7 {
        raw.until_ready();
    }
    assert_eq!(stage.direct("SELECT to_regclass('t') IS NOT NULL"), "t");
}

pub fn a_pipeline_over_the_limit_waits_and_comes_through(major: u32) {
    let stage = Stage::on(cluster(major), "deep", QUICK, &["--pipeline-max", "10000"]);
    let mut part = Vec::new();
    for n in 0..6_000 {
        part.extend([
            parse("", &format!("SELECT {n}")),
            bind("", ""),
            execute("", 0),
            close(b'P', ""),
            close(b'S', ""),
        ]);
    }
    part.push(sync());
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut writer = raw.writer();
    let sender = std::thread::spawn(move || writer.write_all(&part.concat()));
    let answer = raw.until_ready();
    sender.join().unwrap().unwrap();
    assert_eq!(rows(&answer), (0..6_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Neither side's message is ever held as a whole.
pub fn a_row_of_256_mb_passes_both_ways_in_bounded_memory(major: u32) {
    const SIZE: usize = 256 << 20;
    let stage = Stage::with(major, "huge", QUICK);
    stage.direct("CREATE UNLOGGED TABLE t (v text); ALTER TABLE t ALTER COLUMN v SET STORAGE EXTERNAL");
    let mut raw = Raw::connect(stage.port, &stage.database);
    // The server's log would have the value too.
    raw.query("SET log_statement = 'none'");
    let mut stream = raw.writer();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    // Written by a Bind: the length of its value, then 256 MB, then the end.
    let empty = bind_with("", "", &[""]);
    let mut head = empty[..empty.len() - 6].to_vec();
    head[1..5].copy_from_slice(&((empty.len() - 1 + SIZE) as u32).to_be_bytes());
    head.extend((SIZE as u32).to_be_bytes());
    stream
        .write_all(&[parse("", "INSERT INTO t VALUES ($1)"), head].concat())
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..SIZE / piece.len() {
        stream.write_all(&piece).unwrap();
    }
    stream
        .write_all(&[vec![0, 0], execute("", 0), sync()].concat())
        .unwrap();
    let expect = b"1\0\0\0\x042\0\0\0\x04C\0\0\0\x0fINSERT 0 1\0Z\0\0\0\x05I";
    let mut answer = vec![0; expect.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer.escape_ascii().to_string(), expect.escape_ascii().to_string());
    // Read again, and counted.
    stream.write_all(&query("SELECT v FROM t")).unwrap();
    let mut header = [0; 5];
    let mut seen = String::new();
    loop {
        stream.read_exact(&mut header).unwrap();
        seen.push(char::from(header[0]));
        let mut left = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize - 4;
        if header[0] == b'D' {
            assert_eq!(left, SIZE + 6);
        }
        let mut here = vec![0; piece.len()];
        while left > 0 {
            let n = here.len().min(left);
            stream.read_exact(&mut here[..n]).unwrap();
            left -= n;
            // The first six bytes are the number of columns and the length.
            assert!(header[0] != b'D' || here[6..n.max(6)] == piece[6..n.max(6)]);
        }
        if header[0] == b'Z' {
            break;
        }
    }
    assert_eq!(seen, "TDCZ");
    let peak = memory_peak_kb(&stage);
    assert!(peak < 60_000, "the proxy took {peak} kB");
}

pub fn a_large_answer_to_a_client_that_reads_slowly_takes_little_memory(major: u32) {
    let stage = Stage::with(major, "slow", QUICK);
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    raw.send(&query("SELECT repeat('x', 100000000)"));
    let waits = format!(
        "SELECT wait_event = 'ClientWrite' FROM pg_stat_activity WHERE pid = {}",
        i32::from_be_bytes(raw.key[..4].try_into().unwrap())
    );
    let started = Instant::now();
    while rows(&watch.query(&waits)) != ["t"] {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the server is never held up"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let peak = memory_peak_kb(&stage);
    assert!(peak < 60_000, "the proxy took {peak} kB");
    assert_eq!(rows(&raw.until_ready())[0].len(), 100_000_000);
}

/// As the system's table of connections tells: a timer of that length runs for the client's and for the server's.
pub fn a_silent_peer_is_asked_whether_it_is_there(major: u32) {
    let stage = Stage::on(cluster(major), "keepalive", QUICK, &["--keepalive-s", "1000"]);
    let raw = Raw::connect(stage.port, &stage.database);
    let client = raw.writer().local_addr().unwrap().port();
    let timers = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut found = [None, None];
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = |n: usize| u16::from_str_radix(words[n].rsplit_once(':').unwrap().1, 16).unwrap();
            // Timer 2 is keepalive's; its time is in hundredths of a second.
            let (kind, when) = words[5].split_once(':').unwrap();
            let seconds = u64::from_str_radix(when, 16).unwrap() / 100;
            let waits = (kind == "02").then_some(seconds);
            if (port(1), port(2)) == (stage.port, client) {
                found[0] = found[0].max(waits);
            }
            if port(2) == stage.cluster.port() && port(1) != stage.port && waits.is_some_and(|s| s > 900) {
                found[1] = found[1].max(waits);
            }
        }
        found
    };
    let started = Instant::now();
    loop {
        let found = timers();
        if found
            .iter()
            .all(|timer| timer.is_some_and(|seconds| (900..=1000).contains(&seconds)))
        {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server that takes the request and never closes the connection, as one behind a stuck network.
#[test]
fn a_cancel_request_is_given_up_in_time() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), QUICK).unwrap();
    let upstream = server.local_addr().unwrap().to_string();
    let (_proxy, port) = start_proxy(dir.path(), &upstream, &["--cancel-timeout-s", "1"]);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = [
        &16u32.to_be_bytes()[..],
        &80_877_102u32.to_be_bytes(),
        &[0, 0, 0, 1, 0, 0, 0, 2],
    ]
    .concat();
    stream.write_all(&request).unwrap();
    let (mut taken, _) = server.accept().unwrap();
    let mut passed_on = [0; 16];
    taken.read_exact(&mut passed_on).unwrap();
    assert_eq!(passed_on, request.as_slice());
    let started = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(
        started.elapsed() > Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    let log = std::fs::read_to_string(dir.path().join("proxy.log")).unwrap();
    assert!(log.contains("a cancel request took too long"), "{log}");
}
