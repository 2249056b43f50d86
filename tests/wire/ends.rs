//! Clients that go away, half or altogether: they hear what the server alone would have told them.

use super::query;
use lockkeeper_testkit::raw::{
    Message, Raw, bind, error_field, execute, flush, frame, parse, rows, startup, sync, tags,
};
use lockkeeper_testkit::{QUICK, Stage, on_both, until};
use std::io::Write;
use std::net::Shutdown;

on_both!(
    a_half_closed_client_hears_what_the_server_alone_would_say,
    terminate_during_a_plan_lets_it_come_to_its_end,
    a_client_that_vanishes_during_a_plan_leaves_whole_batches,
    a_client_that_breaks_off_in_the_middle_of_a_message_changes_nothing,
);

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i FROM generate_series(1, 1000) i; ANALYZE t";
const BATCHES: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 20\nrows_max = 10\nbatch_rows = 50\nbatch_target_ms = 0\n";

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

/// All is sent, then the client only listens.
fn listen_only(port: u16, database: &str, script: &[Vec<u8>]) -> Vec<Message> {
    let mut raw = Raw::open(port);
    let start = startup(&[("user", "postgres"), ("database", database)]);
    raw.send(&[vec![start], script.to_vec()].concat().concat());
    raw.writer().shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    while let Some(message) = raw.receive() {
        heard.push(message);
    }
    // The session's own greeting.
    let ready = heard.iter().position(|(tag, _)| *tag == b'Z').expect("a session");
    heard.split_off(ready + 1)
}

pub fn a_half_closed_client_hears_what_the_server_alone_would_say(major: u32) {
    let stage = Stage::with(major, "half", QUICK);
    stage.direct(TABLE);
    let terminate = || frame(b'X', b"");
    let scripts: [Vec<Vec<u8>>; 12] = [
        vec![],
        vec![terminate()],
        vec![query("SELECT 1"), query("SELECT pg_sleep(0.2), 2")],
        vec![query("SELECT 1"), terminate()],
        vec![query("SELECT repeat('x', 10000000)")],
        vec![query("BEGIN"), query("INSERT INTO t VALUES (5000)")],
        vec![
            query("SELECT 1/0"),
            query("ALTER TABLE nowhere ADD COLUMN x int"),
            query("SELECT 2"),
        ],
        vec![
            run("SELECT 1"),
            sync(),
            run("ALTER TABLE nowhere ADD COLUMN x int"),
            run("SELECT 2"),
            sync(),
        ],
        // Without a Sync nothing is committed.
        vec![run("INSERT INTO t VALUES (5001)"), run("SELECT 2")],
        vec![run("INSERT INTO t VALUES (5002)"), flush()],
        vec![query("COPY t FROM STDIN"), frame(b'd', b"5003\t\n")],
        vec![
            query("COPY t FROM STDIN"),
            frame(b'd', b"6000\tcopied\n"),
            frame(b'c', b""),
            query("SELECT 3"),
        ],
    ];
    for script in scripts {
        let heard = [stage.cluster.port(), stage.port].map(|port| {
            let heard = listen_only(port, &stage.database, &script);
            stage.direct("DELETE FROM t WHERE id >= 6000");
            (tags(&heard), rows(&heard), error_field(&heard, b'M'))
        });
        let sent: String = script
            .iter()
            .map(|frame| String::from_utf8_lossy(frame).into_owned())
            .collect();
        assert!(heard[0] == heard[1], "{sent:?}: {:.300?}", heard);
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE id >= 5000"), "0", "{sent:?}");
    }
    // What is judged comes to its end as well, in each protocol and in a script.
    let judged = [
        query("ALTER TABLE t ADD COLUMN a int"),
        [run("ALTER TABLE t ADD COLUMN b int"), sync()].concat(),
        query("SELECT 1; ALTER TABLE t ADD COLUMN c int; SELECT 2"),
    ];
    let heard = listen_only(stage.port, &stage.database, &judged);
    assert_eq!(tags(&heard), "CZ12CZTDCCTDCZ");
    assert_eq!(
        stage.direct("SELECT count(*) FROM t WHERE a IS NULL AND b IS NULL AND c IS NULL"),
        "1000"
    );
    let open =
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until("all sessions have ended", || stage.direct(open) == "t");
}

/// Terminate is read when the statement before it is done, as by the server.
pub fn terminate_during_a_plan_lets_it_come_to_its_end(major: u32) {
    let stage = Stage::with(major, "terminate", BATCHES);
    stage.direct(TABLE);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&[query("UPDATE t SET v = 'w' WHERE v IS NULL"), frame(b'X', b"")].concat());
    let mut heard = Vec::new();
    while let Some(message) = raw.receive() {
        heard.push(message);
    }
    assert!(tags(&heard).ends_with("CZ"), "{heard:?}");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE v = 'w'"), "1000");
}

pub fn a_client_that_vanishes_during_a_plan_leaves_whole_batches(major: u32) {
    let stage = Stage::with(major, "vanishes", BATCHES);
    stage.direct(TABLE);
    for terminates in [false, true] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        let pid = i32::from_be_bytes(raw.key[..4].try_into().unwrap());
        raw.send(&query("UPDATE t SET v = 'w' WHERE v IS NULL"));
        until("a batch is done", || {
            stage.direct("SELECT count(*) >= 50 FROM t WHERE v = 'w'") == "t"
        });
        if terminates {
            raw.send(&frame(b'X', b""));
        }
        drop(raw);
        let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}");
        until("its session ends", || stage.direct(&gone) == "t");
        let changed: u32 = stage.direct("SELECT count(*) FROM t WHERE v = 'w'").parse().unwrap();
        assert!(changed.is_multiple_of(50) && (50..1000).contains(&changed), "{changed}");
        stage.direct("UPDATE t SET v = NULL");
    }
}

pub fn a_client_that_breaks_off_in_the_middle_of_a_message_changes_nothing(major: u32) {
    let stage = Stage::with(major, "cut", QUICK);
    stage.direct(TABLE);
    let whole = [
        query("INSERT INTO t VALUES (7000)"),
        query("ALTER TABLE t ADD COLUMN w int"),
        [run("INSERT INTO t VALUES (7001)"), sync()].concat(),
        [query("COPY t FROM STDIN"), frame(b'd', b"7002\t\n"), frame(b'c', b"")].concat(),
    ];
    for script in whole {
        for cut in [1, 3, 4, 5, script.len() / 2] {
            let raw = Raw::connect(stage.port, &stage.database);
            let pid = i32::from_be_bytes(raw.key[..4].try_into().unwrap());
            raw.writer().write_all(&script[..script.len() - cut]).unwrap();
            drop(raw);
            let gone = format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {pid}");
            until("its session ends", || stage.direct(&gone) == "t");
        }
    }
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE id >= 7000"), "0");
    assert!(!stage.schema().contains("column w"));
}
