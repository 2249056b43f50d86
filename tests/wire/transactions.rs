//! The transaction status is the server's own, whatever happens in a group, a block or a script.

use super::{check, query};
use lockkeeper_testkit::raw::{
    Raw, bind, close, command_tags, describe, error_field, execute, flush, parse, rows, status, sync, tags,
};
use lockkeeper_testkit::{QUICK, Stage, on_both};

on_both!(
    after_an_error_everything_up_to_the_sync_is_skipped,
    blocks_scripts_and_savepoints_have_their_status,
    a_refusal_in_a_block_is_an_error_of_the_server_s_too,
    named_ddl_is_looked_at_where_it_is_executed,
    settings_that_change_the_reading_hold_from_where_they_are_made,
);

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i; ANALYZE t";

fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

pub fn after_an_error_everything_up_to_the_sync_is_skipped(major: u32) {
    let stage = Stage::with(major, "skipped", QUICK);
    let ddl = |n: u32| format!("ALTER TABLE t ADD COLUMN c{n} int");
    check(
        &stage,
        TABLE,
        &[
            &[run("SELECT 1/0"), run(&ddl(1)), flush(), run("SELECT 3"), sync()],
            &[run(&ddl(2)), run("SELECT 1/0"), run(&ddl(3)), sync()],
            &[
                parse("s", "SELECT wobble"),
                describe(b'S', "s"),
                parse("d", &ddl(4)),
                bind("d", "d"),
                execute("d", 0),
                close(b'S', "d"),
                sync(),
            ],
            &[bind("d", "d"), sync()],
            &[bind("", "missing"), flush(), run(&ddl(5)), sync(), run(&ddl(6)), sync()],
            &[
                run("INSERT INTO t VALUES (1)"),
                run("UPDATE t SET v = 'x' WHERE id = 2"),
                sync(),
            ],
            &[
                run("UPDATE t SET v = 'x' WHERE id = 2"),
                run("INSERT INTO t VALUES (1)"),
                run(&ddl(7)),
                sync(),
            ],
            &[run(""), run(&ddl(8)), run(""), sync(), query(""), query(" ; ")],
            &[
                query("SELECT v FROM t WHERE id = 2"),
                query("SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 2 ORDER BY 1"),
            ],
        ],
    );
}

pub fn blocks_scripts_and_savepoints_have_their_status(major: u32) {
    let stage = Stage::with(major, "status", QUICK);
    let ddl = |n: u32| format!("ALTER TABLE t ADD COLUMN c{n} int");
    check(
        &stage,
        TABLE,
        &[
            &[query(&format!(
                "SELECT 1; BEGIN; {}; SELECT c1 FROM t WHERE id = 1",
                ddl(1)
            ))],
            &[query("SELECT 2"), query("ROLLBACK")],
            &[
                query(&format!("BEGIN; {}", ddl(1))),
                query("SELECT 1/0"),
                query(&ddl(2)),
                query("COMMIT"),
            ],
            &[
                query("BEGIN"),
                query("SAVEPOINT a"),
                query(&ddl(2)),
                query("SAVEPOINT b"),
                query(&ddl(2)),
            ],
            &[
                query("ROLLBACK TO b"),
                query(&ddl(3)),
                query("ROLLBACK TO a"),
                query("SELECT c2 FROM t"),
            ],
            &[
                query("ROLLBACK TO a"),
                query(&ddl(4)),
                query("RELEASE a"),
                query("COMMIT"),
            ],
            &[
                query(&format!("{}; ROLLBACK; SELECT 1", ddl(5))),
                query("SELECT c5 FROM t"),
            ],
            &[query(&format!("BEGIN; SELECT 1/0; {}", ddl(6))), query("ROLLBACK")],
            &[
                query("COMMIT"),
                query("ROLLBACK"),
                query(&format!("COMMIT; {}", ddl(7))),
            ],
            &[
                run("BEGIN"),
                run(&ddl(8)),
                run("SAVEPOINT a"),
                run(&ddl(8)),
                sync(),
                run("ROLLBACK TO a"),
                run(&ddl(9)),
                run("COMMIT"),
                sync(),
            ],
            &[query("BEGIN READ ONLY"), query(&ddl(10)), query("ROLLBACK")],
            &[
                query("BEGIN ISOLATION LEVEL SERIALIZABLE"),
                query(&ddl(10)),
                query("COMMIT AND CHAIN"),
                query(&ddl(11)),
                query("SHOW transaction_isolation"),
                query("ROLLBACK"),
            ],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 2 ORDER BY 1",
            )],
        ],
    );
}

/// What is refused must fail on the server as well, or the block would be committed without it.
pub fn a_refusal_in_a_block_is_an_error_of_the_server_s_too(major: u32) {
    let stage = Stage::with(major, "refused", QUICK);
    stage.direct(TABLE);
    let drop = "ALTER TABLE t DROP COLUMN v";
    let mut raw = Raw::connect(stage.port, &stage.database);
    for refused in [
        query(drop),
        [run(drop), sync()].concat(),
        query(&format!("SELECT 1; {drop}; SELECT 2")),
    ] {
        raw.query("BEGIN");
        raw.query("INSERT INTO t VALUES (500)");
        // At once, so that nothing waits for the refusal before it is sent.
        raw.send(
            &[
                refused,
                run("INSERT INTO t VALUES (501)"),
                run("SELECT 5"),
                sync(),
                query("SELECT 6"),
                query("COMMIT"),
            ]
            .concat(),
        );
        let answers = [(); 4].map(|()| raw.until_ready());
        assert_eq!(
            error_field(&answers[0], b'C').as_deref(),
            Some("55000"),
            "{:?}",
            answers[0]
        );
        assert_eq!(answers.each_ref().map(|a| status(a).unwrap()), ['E', 'E', 'E', 'I']);
        assert_eq!(error_field(&answers[1], b'C').as_deref(), Some("25P02"));
        assert_eq!(tags(&answers[1]), "EZ");
        assert_eq!(error_field(&answers[2], b'C').as_deref(), Some("25P02"));
        assert_eq!(command_tags(&answers[3]), ["ROLLBACK"]);
    }
    // In one group: the server skips to the Sync by itself, or we do.
    raw.send(
        &[
            run("INSERT INTO t VALUES (502)"),
            run(drop),
            run("INSERT INTO t VALUES (503)"),
            query("SELECT 1"),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(tags(&raw.until_ready()), "12C12EZ");
    raw.send(
        &[
            run(drop),
            run("INSERT INTO t VALUES (504)"),
            query("SELECT 1"),
            sync(),
            query("SELECT 7"),
        ]
        .concat(),
    );
    assert_eq!(tags(&raw.until_ready()), "12EZ");
    assert_eq!(rows(&raw.until_ready()), ["7"]);
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE id >= 500"), "0");
    assert!(stage.schema().contains("t column v text"));
}

pub fn named_ddl_is_looked_at_where_it_is_executed(major: u32) {
    let stage = Stage::with(major, "named", QUICK);
    let again = |n: u32| [bind("p", &format!("s{n}")), execute("p", n), close(b'P', "p"), sync()].concat();
    check(
        &stage,
        TABLE,
        &[
            // Parsed idle and run in a block, and the reverse.
            &[
                parse("s1", "ALTER TABLE t ADD COLUMN IF NOT EXISTS a int"),
                describe(b'S', "s1"),
                sync(),
            ],
            &[
                query("BEGIN"),
                again(1),
                again(1),
                query("ROLLBACK"),
                again(1),
                again(1),
            ],
            &[
                query("BEGIN"),
                parse("s2", "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'd'"),
                sync(),
                query("COMMIT"),
                again(2),
            ],
            // In a block that has failed, then back.
            &[
                query("BEGIN; SAVEPOINT a"),
                query("SELECT 1/0"),
                again(2),
                query("ROLLBACK TO a"),
                again(2),
                query("COMMIT"),
            ],
            // Bound before another statement took the name, and after.
            &[
                query("BEGIN"),
                bind("p", "s2"),
                close(b'S', "s2"),
                parse("s2", "SELECT 42"),
                execute("p", 0),
                bind("q", "s2"),
                execute("q", 0),
                sync(),
                query("COMMIT"),
            ],
            &[again(2), again(1)],
            &[
                query("DEALLOCATE s1"),
                again(1),
                parse("s1", "SELECT 43"),
                sync(),
                again(1),
            ],
            &[
                parse("s3", "ALTER TABLE t ALTER COLUMN v DROP DEFAULT"),
                sync(),
                query("DISCARD ALL"),
                again(3),
                again(2),
            ],
            &[
                parse("s3", "ALTER TABLE t ALTER COLUMN v DROP DEFAULT"),
                sync(),
                query("DEALLOCATE ALL"),
                again(3),
            ],
            // A row limit means nothing to DDL.
            &[
                parse("s3", "ALTER TABLE t ALTER COLUMN v DROP DEFAULT"),
                bind("", "s3"),
                execute("", 1),
                sync(),
                again(3),
            ],
        ],
    );
}

pub fn settings_that_change_the_reading_hold_from_where_they_are_made(major: u32) {
    let stage = Stage::with(major, "reading", QUICK);
    // One statement or two, as the setting is.
    let comment = r"COMMENT ON TABLE t IS 'a\'; DROP TABLE t; --'";
    let latin = |sql: &[u8]| super::frame(b'Q', &[sql, b"\0"].concat());
    check(
        &stage,
        TABLE,
        &[
            &[query("SET escape_string_warning = off")],
            // Pipelined behind the change, as simple and as extended messages.
            &[
                query("SET standard_conforming_strings = off"),
                query(r"SELECT 'a\'; DROP TABLE t; --'"),
                query("RESET standard_conforming_strings"),
                query(r"SELECT 'a\'; SELECT 2; --'"),
            ],
            &[
                run("SET standard_conforming_strings = off"),
                run(r"SELECT 'a\'; DROP TABLE t; --'"),
                sync(),
                query("SELECT obj_description('t'::regclass)"),
                run("RESET standard_conforming_strings"),
                run(r"COMMENT ON TABLE t IS 'a\'"),
                sync(),
                query("SELECT obj_description('t'::regclass)"),
            ],
            &[
                query("BEGIN"),
                query("SET LOCAL standard_conforming_strings = off"),
                query(r"SELECT '\'b'"),
                query("COMMIT"),
                query(r"COMMENT ON TABLE t IS 'c\'"),
            ],
            &[query("SELECT obj_description('t'::regclass)")],
            // Encodings.
            &[
                query("SET client_encoding = 'LATIN1'"),
                latin(b"INSERT INTO t VALUES (300, 'M\xfcller')"),
                latin(b"UPDATE t SET v = 'M\xf6ller' WHERE id = 300"),
                query("SELECT v FROM t WHERE id = 300"),
            ],
            &[
                query("SET client_encoding = 'UTF8'"),
                query("COMMENT ON TABLE t IS 'Müller'"),
                query("SELECT obj_description('t'::regclass)"),
            ],
            &[
                query("SET client_encoding = 'SJIS'"),
                query("ALTER TABLE t ADD COLUMN sjis int"),
                query("RESET client_encoding"),
            ],
        ],
    );
    assert!(stage.schema().contains("column sjis"));
    // Read in one way these are harmless, in the other they drop a table or a column. The setting changes in the same group,
    // where the server has not reported it yet, or between Parse and Execute; and back again by a rollback.
    let drop_when_on = r"SELECT '\'; DROP TABLE t; --'";
    let column_when_on = r"ALTER TABLE t ALTER COLUMN v SET DEFAULT '\', DROP COLUMN v --'''";
    let column_when_off = r"ALTER TABLE t ALTER COLUMN v SET DEFAULT '\'' , DROP COLUMN v --'";
    let (on, off) = (
        "SET standard_conforming_strings = on",
        "SET standard_conforming_strings = off",
    );
    let config = "SELECT set_config('standard_conforming_strings', 'on', false)";
    let execute = |name: &str| [bind("", name), execute("", 0), sync()].concat();
    let attacks = [
        vec![query(off), run(on), query(drop_when_on)],
        vec![query(off), run(config), query(drop_when_on)],
        vec![query("BEGIN"), run(off), sync(), run("ROLLBACK"), query(drop_when_on)],
        vec![query(off), run(on), run(column_when_on), sync()],
        vec![query(off), run(config), run(column_when_on), sync()],
        vec![query(on), run(off), run(column_when_off), sync()],
        vec![query(off), parse("s", column_when_on), sync(), run(on), execute("s")],
        vec![query(off), parse("s", column_when_on), sync(), query(on), execute("s")],
        vec![query(on), parse("s", column_when_off), sync(), query(off), execute("s")],
        vec![query(off), parse("s", column_when_off), sync(), query(on), execute("s")],
        vec![
            query(off),
            run("BEGIN"),
            run(on),
            run("COMMIT"),
            run(column_when_on),
            sync(),
        ],
    ];
    for (n, attack) in attacks.into_iter().enumerate() {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.send(&[attack.concat(), sync(), query("SELECT 77")].concat());
        while rows(&raw.until_ready()) != ["77"] {}
        assert!(stage.schema().contains("t column v text"), "attack {n}");
    }
    stage.direct("ALTER TABLE t ALTER COLUMN v DROP DEFAULT");
    // With the setting off, a schema change with a backslash is refused, with what to do in the message.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET standard_conforming_strings = off; SET escape_string_warning = off");
    raw.send(&[parse("", comment), execute("")].concat());
    let answer = raw.until_ready();
    let told = error_field(&answer, b'M').unwrap() + &error_field(&answer, b'D').unwrap();
    assert!(told.contains("SET standard_conforming_strings = on"), "{told}");
}
