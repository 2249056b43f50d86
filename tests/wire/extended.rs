//! The extended query protocol: statements, portals, pipelines, Flush.

use super::common::raw::{
    Message, Raw, bind, bind_with, close, describe, execute, flush, frame, parse, rows, sync, tags,
};
use super::common::{QUICK, Stage, on_both};
use super::{check, query};

on_both!(
    extended_query_is_answered_alike,
    five_thousand_messages_in_one_pipeline,
    a_flush_without_a_sync_brings_what_is_there,
    no_order_of_messages_gets_ddl_past_the_judge,
    portals_outlive_a_judged_statement_of_their_group,
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
    stage.direct("CREATE TABLE t (id int PRIMARY KEY)");
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
