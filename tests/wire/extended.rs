//! The extended query protocol: statements, portals, pipelines, Flush.

use super::{check, query};
use lockkeeper_testkit::raw::{
    Message, Raw, bind, bind_with, close, describe, execute, flush, frame, parse, rows, sync, tags,
};
use lockkeeper_testkit::{QUICK, Stage, on_both};

on_both!(
    extended_query_is_answered_alike,
    five_thousand_messages_in_one_pipeline,
    a_flush_without_a_sync_brings_what_is_there,
    no_order_of_messages_gets_ddl_past_the_judge,
    portals_outlive_a_judged_statement_of_their_group,
    what_follows_a_commit_in_its_group_is_one_transaction,
    a_portal_is_executed_once,
    a_portal_ends_with_its_part_of_the_transaction,
    a_judged_simple_query_ends_the_unnamed_portal,
    a_flush_before_the_sync_makes_no_pipeline,
    a_judged_simple_query_shares_the_transaction_of_an_unfinished_group,
);

pub fn extended_query_is_answered_alike(major: u32) {
    let stage = Stage::with(major, "extended", QUICK);
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
        &[
            &[
                parse("", "SELECT * FROM t WHERE id < $1 ORDER BY id"),
                bind_with("", "", &["5"]),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ],
            &[parse("s", "SELECT v FROM t ORDER BY id"), describe(b'S', "s"), sync()],
            &[
                bind("p", "s"),
                execute("p", 3),
                execute("p", 3),
                close(b'P', "p"),
                sync(),
            ],
            &[bind("p", "missing"), execute("p", 0), sync()],
            &[parse("u", "UPDATE t SET v = $2 WHERE id = $1"), sync()],
            &[bind_with("", "u", &["3", "x"]), execute("", 0), sync()],
            &[
                bind_with("", "u", &["4", "y"]),
                execute("", 0),
                bind_with("", "u", &["5", "z"]),
                execute("", 0),
                sync(),
            ],
            &[bind_with("", "u", &["no number", "y"]), execute("", 0), sync()],
            &[parse("u", "SELECT 1"), sync()],
            &[close(b'S', "u"), sync()],
            &[parse("u", "SELECT 1"), sync()],
            &[parse("", ""), bind("", ""), execute("", 0), sync()],
            &[sync(), sync()],
            &[parse("", "BEGIN"), bind("", ""), execute("", 0), sync()],
            &[
                parse("", "SELECT 1/0"),
                bind("", ""),
                execute("", 0),
                parse("", "SELECT 1"),
                bind("", ""),
                execute("", 0),
                sync(),
            ],
            &[query("ROLLBACK")],
        ],
    );
}

pub fn five_thousand_messages_in_one_pipeline(major: u32) {
    let stage = Stage::with(major, "pipeline", QUICK);
    let mut part = Vec::new();
    for n in 0..5_000 {
        part.extend([
            parse("", &format!("SELECT {n}")),
            bind("", ""),
            describe(b'P', ""),
            execute("", 0),
        ]);
        if n % 1_000 == 999 {
            part.push(sync());
        }
    }
    part.push(sync());
    let played = check(&stage, "", &[&part]);
    assert_eq!(rows(&played[0]).len(), 5_000);
}

pub fn a_flush_without_a_sync_brings_what_is_there(major: u32) {
    let stage = Stage::with(major, "flush", QUICK);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY)");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&[parse("", "SELECT 1"), bind("", ""), execute("", 0), flush()].concat());
    let got: Vec<Message> = (0..4).filter_map(|_| raw.receive()).collect();
    assert_eq!(tags(&got), "12DC");
    // As asyncpg does: Parse, Describe, Flush; then Bind, Execute, Sync.
    raw.send(&[sync()].concat());
    raw.until_ready();
    raw.send(
        &[
            parse("a", "ALTER TABLE t ADD COLUMN v int"),
            describe(b'S', "a"),
            flush(),
        ]
        .concat(),
    );
    let got: Vec<Message> = (0..3).filter_map(|_| raw.receive()).collect();
    assert_eq!(tags(&got), "1tn");
    raw.send(&[bind("", "a"), execute("", 0), sync()].concat());
    assert_eq!(tags(&raw.until_ready()), "2CZ");
}

/// A name that is prepared again, wrongly, in a group that fails: what it stood for is still judged.
pub fn no_order_of_messages_gets_ddl_past_the_judge(major: u32) {
    let stage = Stage::with(major, "bypass", QUICK);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let drop = || parse("s", "DROP TABLE t");
    let attempts: Vec<Vec<Vec<Vec<u8>>>> = vec![
        vec![
            vec![drop(), sync()],
            vec![parse("s", "SELECT 1"), sync()],
            vec![bind("", "s"), execute("", 0), sync()],
        ],
        vec![
            vec![drop(), sync()],
            vec![bind("", "missing"), parse("s", "SELECT 1"), close(b'S', "s"), sync()],
            vec![bind("", "s"), execute("", 0), sync()],
        ],
        vec![
            vec![parse("", "DROP TABLE t"), sync()],
            vec![bind("", "missing"), parse("", "SELECT 1"), sync()],
            vec![bind("", ""), execute("", 0), sync()],
        ],
        vec![
            vec![query("BEGIN")],
            vec![drop(), bind("p", "s"), sync()],
            vec![query("SAVEPOINT a")],
            vec![bind("p", "s"), sync()],
            vec![query("ROLLBACK TO a")],
            vec![execute("p", 0), sync()],
            vec![query("COMMIT")],
        ],
        vec![
            vec![query("BEGIN")],
            vec![query("SELECT 1/0")],
            vec![query("ROLLBACK; DROP TABLE t")],
        ],
        vec![vec![query("SELECT 1; DROP TABLE t")]],
        vec![vec![query("/* SELECT 1 */ DROP TABLE t")]],
        vec![
            vec![query("SET standard_conforming_strings = off")],
            vec![query(r"SELECT 'a\'; DROP TABLE t; --'")],
            vec![query(r"SELECT '\\'; DROP TABLE t; --'")],
        ],
        vec![vec![query("SELECT 5 >--\n 2; DROP TABLE t --")]],
        vec![vec![query("SELECT E'a'\n'\\'' ; DROP TABLE t; --'")]],
        vec![vec![query("COPY t FROM STDIN; DROP TABLE t"), frame(b'c', b"")]],
    ];
    for attempt in attempts {
        let mut raw = Raw::connect(stage.port, &stage.database);
        for part in &attempt {
            raw.send(&part.concat());
            let ends = part.iter().filter(|f| matches!(f[0], b'S' | b'Q')).count();
            for _ in 0..ends {
                raw.until_ready();
            }
        }
        assert_eq!(
            stage.direct("SELECT to_regclass('t') IS NOT NULL").trim(),
            "t",
            "{attempt:?}"
        );
    }
}

/// Statements of ours end with a Sync only where it costs the client nothing: its group's portals end with a Sync.
pub fn portals_outlive_a_judged_statement_of_their_group(major: u32) {
    let stage = Stage::with(major, "portals", QUICK);
    let kept = || [parse("a", "SELECT id FROM o ORDER BY id"), bind("a", "a")].concat();
    let played = check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i;
         CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o SELECT generate_series(1, 10)",
        &[
            &[
                kept(),
                parse("b", "ALTER TABLE t ADD COLUMN w int"),
                bind("b", "b"),
                execute("b", 0),
                execute("a", 3),
                execute("a", 2),
                sync(),
            ],
            &[close(b'S', "a"), close(b'S', "b"), sync()],
            // Behind the end of a transaction, which may have begun another.
            &[
                parse("", "BEGIN"),
                bind("", ""),
                execute("", 0),
                parse("", "COMMIT"),
                bind("", ""),
                execute("", 0),
                kept(),
                parse("b", "ALTER TABLE t ADD COLUMN x int"),
                bind("b", "b"),
                execute("b", 0),
                execute("a", 3),
                sync(),
            ],
            &[close(b'S', "a"), close(b'S', "b"), sync()],
            // Two judged ones that go on as they are.
            &[
                parse("c", "UPDATE t SET v = 'c' WHERE id = 1"),
                parse("d", "UPDATE t SET v = 'd' WHERE id = 2"),
                bind("c", "c"),
                bind("d", "d"),
                execute("d", 0),
                execute("c", 0),
                sync(),
            ],
            // One that is bound a second time, while the server has not answered the group before.
            &[
                bind("c", "c"),
                sync(),
                bind("a", "c"),
                bind("b", "d"),
                execute("b", 0),
                execute("a", 0),
                sync(),
            ],
            &[query("SELECT v FROM t WHERE id < 3 ORDER BY id")],
        ],
    );
    assert_eq!(rows(&played[0]).len(), 5);
}

/// As any simple query does: else the portal of a driver's parameterised SELECT keeps the table open (55006).
pub fn a_judged_simple_query_ends_the_unnamed_portal(major: u32) {
    let stage = Stage::with(major, "unnamed", QUICK);
    let selects = |sql: &str, row_limit: u32| {
        vec![
            parse("", sql),
            bind_with("", "", &["5"]),
            execute("", row_limit),
            sync(),
        ]
    };
    let select = "SELECT * FROM t WHERE id < $1 ORDER BY id";
    let played = check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
        &[
            &[query("BEGIN")],
            &selects(select, 0),
            &[query("ALTER TABLE t ADD COLUMN w int")],
            // Suspended, its rows not all fetched.
            &selects(select, 2),
            &[query("CREATE INDEX ON t (v)")],
            &selects(select, 2),
            &[query("SELECT 1; ALTER TABLE t ALTER COLUMN w SET DEFAULT 1")],
            &selects("UPDATE t SET v = 'x' WHERE id < $1 RETURNING id", 0),
            &[query(
                "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'x'; COMMENT ON TABLE t IS 'x'",
            )],
            &[query("ROLLBACK")],
            // A named one stays, and is in the way straight too.
            &[query("BEGIN")],
            &[parse("", select), bind_with("p", "", &["5"]), execute("p", 2), sync()],
            &[query("ALTER TABLE t ADD COLUMN w int")],
            &[query("ROLLBACK")],
            // A refused or failed one has ended nothing that the server itself would have kept.
            &[parse("", select), sync()],
            &[query("ALTER TABLE missing ADD COLUMN w int")],
            &[bind_with("", "", &["5"]), execute("", 0), sync()],
        ],
    );
    assert_eq!(tags(&played[2]), "CZ");
}

/// It is not committed before, and falls with the query.
pub fn a_judged_simple_query_shares_the_transaction_of_an_unfinished_group(major: u32) {
    let stage = Stage::with(major, "unfinished", QUICK);
    let inserts = |table: &str, value: &str| {
        [
            parse("", &format!("INSERT INTO {table} VALUES ({value})")),
            bind("", ""),
            execute("", 0),
        ]
        .concat()
    };
    let setup = "CREATE TABLE t (id int PRIMARY KEY, v text);
         CREATE TABLE o (id int PRIMARY KEY);
         CREATE TABLE d (o int REFERENCES o DEFERRABLE INITIALLY DEFERRED)";
    let left = "SELECT (SELECT string_agg(id::text, ',' ORDER BY id) FROM t), (SELECT count(*) FROM d),
        (SELECT string_agg(attname, ',' ORDER BY attname) FROM pg_attribute WHERE attnum > 0 AND attrelid IN ('t'::regclass, 'o'::regclass))";
    let parts: Vec<Vec<Vec<u8>>> = vec![
        vec![inserts("t", "1"), query("ALTER TABLE o ADD COLUMN w int"), sync()],
        vec![inserts("t", "2"), query("ALTER TABLE o ADD COLUMN w int"), sync()],
        vec![inserts("t", "3"), query("ALTER TABLE missing ADD COLUMN w int"), sync()],
        vec![inserts("t", "4"), query("ALTER TABLE o WOBBLE"), sync()],
        // What is deferred fails at the end of both.
        vec![inserts("d", "7"), query("ALTER TABLE t ADD COLUMN x int"), sync()],
        // A later error takes all of it along, where the server's own query would not have ended the transaction.
        vec![
            inserts("t", "5"),
            query("ALTER TABLE o ADD COLUMN y int"),
            inserts("nowhere", "1"),
            sync(),
        ],
        vec![
            parse("", "BEGIN"),
            bind("", ""),
            execute("", 0),
            inserts("t", "6"),
            query("ALTER TABLE o ADD COLUMN z int"),
            query("ROLLBACK"),
        ],
    ];
    stage.direct(setup);
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    stage
        .direct_args(&["-d", &copy, "-q", "-v", "ON_ERROR_STOP=1"], setup)
        .ok();
    for part in &parts {
        // Each in a session of its own: 18 itself is confused by such a group for the rest of the session (XX000).
        let sides = [(stage.cluster.port(), &copy), (stage.port, &stage.database)];
        let [direct, proxied] = sides.map(|(port, database)| {
            let mut raw = Raw::connect(port, database);
            raw.send(&[part.concat(), frame(b'X', b"")].concat());
            let mut heard = Vec::new();
            while let Some(message) = raw.receive() {
                heard.push(message);
            }
            let left = stage.direct_args(&["-d", database, "-At"], left).ok();
            (super::readable(&heard), left)
        });
        assert_eq!(proxied, direct, "{}", String::from_utf8_lossy(&part.concat()));
    }
    // Several statements: as one before 18, and afterwards refused before anything of them is done.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&[inserts("t", "8"), query("ALTER TABLE o ADD COLUMN z int; SELECT 1/0")].concat());
    raw.until_ready();
    raw.send(&[inserts("t", "9"), query("ALTER TABLE o ADD COLUMN z int; SELECT 1")].concat());
    raw.until_ready();
    let done = stage.direct("SELECT (SELECT count(*) FROM t WHERE id > 7), count(*) FROM pg_attribute WHERE attrelid = 'o'::regclass AND attname = 'z'");
    assert_eq!(done, if major < 18 { "1|1" } else { "0|0" });
}

/// As pg8000 sends every statement: Bind, Execute, Flush, Sync.
pub fn a_flush_before_the_sync_makes_no_pipeline(major: u32) {
    let stage = Stage::with(major, "flushsync", QUICK);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('v', 1000) FROM generate_series(1, 20000) i");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let run = |raw: &mut Raw, end: &[Vec<u8>]| {
        raw.send(&[parse("", "CREATE INDEX ON t (v)"), flush(), sync()].concat());
        raw.until_ready();
        raw.send(&[bind("", ""), execute("", 0)].concat());
        for part in end {
            std::thread::sleep(std::time::Duration::from_millis(1));
            raw.send(part);
        }
        raw.until_ready()
    };
    // Outside a pipeline it is built concurrently.
    for end in [vec![[flush(), sync()].concat()], vec![flush(), sync()]] {
        let answer = run(&mut raw, &end);
        assert!(tags(&answer).ends_with("CZ"), "{}", tags(&answer));
    }
    let built = stage
        .direct("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND NOT indisprimary AND indisvalid");
    assert_eq!(built, "2");
}

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i";
const COLUMNS: &str = "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum";

pub fn what_follows_a_commit_in_its_group_is_one_transaction(major: u32) {
    let stage = Stage::with(major, "behind_commit", QUICK);
    let fails = || run("SELECT 1/0");
    check(
        &stage,
        TABLE,
        &[
            &[
                run("BEGIN"),
                run("SELECT 1"),
                run("COMMIT"),
                run("UPDATE t SET v = 'a' WHERE id < 50"),
                run("UPDATE t SET v = 'b' WHERE id > 60"),
                sync(),
            ],
            &[
                run("COMMIT"),
                run("ALTER TABLE t ADD COLUMN a int"),
                run("ALTER TABLE t ADD COLUMN a int"),
                sync(),
            ],
            &[run("COMMIT"), run("CREATE INDEX i ON t (v)"), fails(), sync()],
            &[run("COMMIT"), run("UPDATE t SET v = 'c'"), fails(), sync()],
            &[
                run("BEGIN"),
                run("COMMIT AND CHAIN"),
                run("ALTER TABLE t ADD COLUMN b int"),
                fails(),
                sync(),
            ],
            &[query("ROLLBACK"), query(COLUMNS)],
            &[query("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")],
            &[query("SELECT to_regclass('i')")],
        ],
    );
}

pub fn a_portal_ends_with_its_part_of_the_transaction(major: u32) {
    let stage = Stage::with(major, "rolled_back", QUICK);
    let alter = |name: &str| {
        [
            parse(name, &format!("ALTER TABLE t ADD COLUMN {name} int")),
            bind("p", name),
        ]
        .concat()
    };
    check(
        &stage,
        TABLE,
        &[
            &[run("BEGIN"), alter("a"), run("ROLLBACK"), execute("p", 0), sync()],
            &[
                run("BEGIN"),
                run("SAVEPOINT s"),
                alter("b"),
                run("ROLLBACK TO s"),
                execute("p", 0),
                run("COMMIT"),
                sync(),
            ],
            &[query("ROLLBACK")],
            // Bound before, it lives on.
            &[
                run("BEGIN"),
                alter("c"),
                run("SAVEPOINT s"),
                run("ROLLBACK TO s"),
                execute("p", 0),
                run("COMMIT"),
                sync(),
            ],
            &[query("BEGIN"), query("SAVEPOINT s"), alter("d"), sync()],
            &[query("ROLLBACK TO s"), execute("p", 0), sync()],
            &[query("COMMIT"), query(COLUMNS)],
            &[query("BEGIN"), alter("e"), sync()],
            &[query("SAVEPOINT s"), query("ROLLBACK TO s"), execute("p", 0), sync()],
            &[query("COMMIT"), query(COLUMNS)],
        ],
    );
}

pub fn a_portal_is_executed_once(major: u32) {
    let stage = Stage::with(major, "executed_once", QUICK);
    let twice = |sql: &str| [run(sql), execute("", 0), sync()].concat();
    check(
        &stage,
        TABLE,
        &[
            &[twice("CREATE INDEX ON t (v)")],
            &[twice("ALTER TABLE t ALTER COLUMN v SET DEFAULT 'd'")],
            &[twice("UPDATE t SET v = 'c' WHERE id = 3")],
            // A portal ends with its transaction.
            &[
                parse("s", "UPDATE t SET v = 'd' WHERE id = 4"),
                bind("p", "s"),
                run("COMMIT"),
                execute("p", 0),
                sync(),
            ],
            &[
                run("BEGIN"),
                parse("a", "ALTER TABLE t ADD COLUMN a int"),
                bind("p", "a"),
                run("COMMIT"),
                execute("p", 0),
                sync(),
            ],
            &[query("BEGIN"), bind("p", "a"), execute("p", 0), sync()],
            &[execute("p", 0), sync()],
            &[query("ROLLBACK"), query(COLUMNS)],
            &[query("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass")],
            &[query("SELECT count(*) FROM t WHERE v IN ('c', 'd')")],
        ],
    );
}
