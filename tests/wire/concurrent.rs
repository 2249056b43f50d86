//! CREATE INDEX, which becomes concurrent where it can, in every place that a client can send it from.

use super::query;
use lockkeeper_testkit::raw::{Raw, bind, close, command_tags, error_field, execute, parse, status, sync, tags};
use lockkeeper_testkit::{Stage, on_both, until};

on_both!(
    alone_it_is_built_concurrently_in_each_protocol,
    behind_an_insert_without_a_sync_it_is_refused_and_nothing_is_committed,
    in_front_of_an_insert_without_a_sync_only_the_client_s_own_is_built,
    in_a_block_or_script_it_is_refused_and_the_transaction_fails,
    a_build_that_fails_names_and_removes_its_invalid_index,
);

const LARGE: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n";
const INDEX: &str = "CREATE INDEX by_v ON t (v)";

fn stage(major: u32, name: &str) -> Stage {
    let mut stage = Stage::with(major, name, LARGE);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i; ANALYZE t");
    stage.mark();
    stage
}

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

/// None, or whether it is valid.
fn index(stage: &Stage) -> String {
    stage.direct("SELECT string_agg(indisvalid::text, ',') FROM pg_index WHERE indexrelid = to_regclass('by_v')")
}

fn built_concurrently(stage: &Stage) -> bool {
    stage
        .received()
        .iter()
        .any(|sql| sql == "CREATE INDEX CONCURRENTLY by_v ON t (v)")
}

pub fn alone_it_is_built_concurrently_in_each_protocol(major: u32) {
    for message in [
        query(INDEX),
        [run(INDEX), sync()].concat(),
        query(&format!("; {INDEX} ;")),
    ] {
        let stage = stage(major, "alone");
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.send(&message);
        assert_eq!(command_tags(&raw.until_ready()), ["CREATE INDEX"]);
        assert_eq!(index(&stage), "true");
        assert!(built_concurrently(&stage), "{:#?}", stage.received());
    }
    // As the client wrote it itself.
    let stage = stage(major, "own");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&[run("CREATE INDEX CONCURRENTLY by_v ON t (v)"), sync()].concat());
    assert_eq!(tags(&raw.until_ready()), "12CZ");
    assert_eq!(index(&stage), "true");
}

pub fn behind_an_insert_without_a_sync_it_is_refused_and_nothing_is_committed(major: u32) {
    for sql in [INDEX, "CREATE INDEX CONCURRENTLY by_v ON t (v)"] {
        let stage = stage(major, "behind");
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.send(
            &[
                run("INSERT INTO t VALUES (500)"),
                run(sql),
                run("INSERT INTO t VALUES (501)"),
                sync(),
            ]
            .concat(),
        );
        let answer = raw.until_ready();
        assert_eq!(tags(&answer), "12C12EZ");
        assert_eq!(
            (error_field(&answer, b'C').as_deref(), status(&answer)),
            (Some("25001"), Some('I'))
        );
        assert!(error_field(&answer, b'H').unwrap().contains("outside"), "{answer:?}");
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE id >= 500"), "0");
        assert_eq!(index(&stage), "");
    }
}

/// What stands behind it in the group may fail, and then takes along what is of the same transaction.
pub fn in_front_of_an_insert_without_a_sync_only_the_client_s_own_is_built(major: u32) {
    let behind = stage(major, "front");
    let mut raw = Raw::connect(behind.port, &behind.database);
    raw.send(&[run(INDEX), run("INSERT INTO t VALUES (500)"), sync()].concat());
    let answer = raw.until_ready();
    assert_eq!(tags(&answer), "12EZ");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25001"));
    assert_eq!(behind.direct("SELECT count(*) FROM t WHERE id = 500"), "0");
    assert_eq!(index(&behind), "");
    // One that says CONCURRENTLY is left INVALID when a later one fails, by the server alone as well.
    let own = stage(major, "front_own");
    for port in [own.cluster.port(), own.port] {
        let mut raw = Raw::connect(port, &own.database);
        let concurrently = run("CREATE INDEX CONCURRENTLY by_v ON t (v)");
        raw.send(
            &[
                concurrently,
                run("INSERT INTO t VALUES (500)"),
                run("SELECT 1/(id - id) FROM t"),
                sync(),
            ]
            .concat(),
        );
        let answer = raw.until_ready();
        assert!(tags(&answer).starts_with("12C12C12E"), "{answer:?}");
        assert_eq!(own.direct("SELECT count(*) FROM t WHERE id = 500"), "0");
        assert_eq!(index(&own), "false");
        own.direct("DROP INDEX by_v");
    }
    // A Close belongs to no other statement.
    let closed = stage(major, "front_closed");
    let mut raw = Raw::connect(closed.port, &closed.database);
    raw.send(
        &[
            parse("s", INDEX),
            bind("", "s"),
            execute("", 0),
            close(b'P', ""),
            close(b'S', "s"),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(tags(&raw.until_ready()), "12C33Z");
    assert!(built_concurrently(&closed));
}

pub fn in_a_block_or_script_it_is_refused_and_the_transaction_fails(major: u32) {
    let mut stage = stage(major, "block");
    let refusing = format!("{LARGE}\n[defaults]\nin_transaction = \"reject\"\n");
    std::fs::write(stage.policy_file(), refusing).expect("the policy is written");
    stage.kill_proxy();
    stage.start_proxy(&[]);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("BEGIN");
    raw.query("INSERT INTO t VALUES (500)");
    let answer = raw.query(INDEX);
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("25001"), Some('E'))
    );
    // The server knows it too: what is pipelined behind it is not run.
    raw.send(&[run("INSERT INTO t VALUES (501)"), sync(), query("SELECT 1")].concat());
    let answer = [raw.until_ready(), raw.until_ready()];
    assert_eq!(
        answer.each_ref().map(|a| error_field(a, b'C').unwrap()),
        ["25P02", "25P02"]
    );
    assert_eq!(command_tags(&raw.query("COMMIT")), ["ROLLBACK"]);
    raw.query("BEGIN");
    raw.send(
        &[
            run("INSERT INTO t VALUES (502)"),
            run(INDEX),
            run("INSERT INTO t VALUES (503)"),
            sync(),
        ]
        .concat(),
    );
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("25001"), Some('E'))
    );
    assert_eq!(status(&raw.query("ROLLBACK")), Some('I'));
    for script in [
        format!("INSERT INTO t VALUES (504); {INDEX}; INSERT INTO t VALUES (505)"),
        format!("{INDEX}; INSERT INTO t VALUES (506)"),
    ] {
        let answer = raw.query(&script);
        assert_eq!(
            (error_field(&answer, b'C').as_deref(), status(&answer)),
            (Some("25001"), Some('I')),
            "{script}"
        );
    }
    // Back at a savepoint, the block goes on.
    raw.query("BEGIN; INSERT INTO t VALUES (600); SAVEPOINT s");
    assert_eq!(status(&raw.query(INDEX)), Some('E'));
    assert_eq!(status(&raw.query("ROLLBACK TO s")), Some('T'));
    assert_eq!(command_tags(&raw.query("COMMIT")), ["COMMIT"]);
    assert_eq!(
        stage.direct("SELECT string_agg(id::text, ',') FROM t WHERE id >= 500"),
        "600"
    );
    assert_eq!(index(&stage), "");
}

pub fn a_build_that_fails_names_and_removes_its_invalid_index(major: u32) {
    // A duplicate, found when rows are read.
    let first = stage(major, "fails");
    let mut raw = Raw::connect(first.port, &first.database);
    let answer = raw.query("CREATE UNIQUE INDEX by_v ON t (v)");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("23505"));
    assert!(
        error_field(&answer, b'D')
            .unwrap()
            .contains("removed the INVALID index by_v"),
        "{answer:?}"
    );
    assert_eq!(index(&first), "");
    // Lock trouble: the build comes to wait for a transaction that waits for the build.
    let second = stage(major, "trouble");
    let mut raw = Raw::connect(second.port, &second.database);
    let mut holder = Raw::connect(second.cluster.port(), &second.database);
    holder.query("BEGIN");
    holder.query("UPDATE t SET v = 'w' WHERE id = 1");
    raw.query("SET deadlock_timeout = '10ms'");
    raw.send(&query(INDEX));
    let waits = |raw: &Raw| {
        let pid = i32::from_be_bytes(raw.key[..4].try_into().unwrap());
        let waits = format!("SELECT count(*) > 0 FROM pg_locks WHERE pid = {pid} AND NOT granted");
        until("it waits", || second.direct(&waits) == "t");
    };
    waits(&raw);
    // Later than the transactions for which the build waits first; it will wait for this one before it reads the rows again.
    let mut other = Raw::connect(second.cluster.port(), &second.database);
    other.query("SET deadlock_timeout = '600s'");
    other.query("BEGIN");
    other.query("UPDATE t SET v = 'w' WHERE id = 2");
    // The build holds SHARE UPDATE EXCLUSIVE.
    other.send(&query("LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE"));
    waits(&other);
    holder.query("COMMIT");
    other.until_ready();
    other.query("COMMIT");
    let answer = raw.until_ready();
    // The invalid index of the first try is removed and told, and the build comes through.
    assert_eq!(command_tags(&answer), ["CREATE INDEX"], "{answer:?}");
    let notices: Vec<String> = answer
        .iter()
        .filter(|(tag, _)| *tag == b'N')
        .map(|(_, body)| String::from_utf8_lossy(body).into_owned())
        .collect();
    assert!(notices.iter().any(|n| n.contains("deadlock")), "{notices:?}");
    assert_eq!(index(&second), "true");
}
