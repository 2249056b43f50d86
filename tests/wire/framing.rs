//! Messages of every shape and size, and those that no client may send.

use super::{check, query};
use lockkeeper_testkit::raw::{
    Raw, bind, bind_with, c, command_tags, error_field, execute, frame, parse, rows, status, sync, tags,
};
use lockkeeper_testkit::{QUICK, Stage, cluster, on_both};

on_both!(
    queries_of_all_kinds_are_answered_alike,
    what_cannot_be_parsed_gets_the_server_s_own_error,
    bytes_may_come_one_at_a_time,
    text_that_is_not_utf8_passes_where_it_is_data_and_is_refused_where_it_is_ddl,
    frames_that_no_client_may_send_harm_only_their_session,
    large_rows_and_texts_pass_and_too_large_ddl_is_refused,
);

pub fn queries_of_all_kinds_are_answered_alike(major: u32) {
    let stage = Stage::with(major, "alike", QUICK);
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
        &[
            &[query("SELECT * FROM t ORDER BY id LIMIT 3")],
            &[query("")],
            &[query(" ; ;")],
            &[query("SELECT 1; SELECT 2; SELECT 3")],
            &[query("SELECT 1/0")],
            &[query("SELECT wobble")],
            &[query("SELECT 'a;b', \"id\" FROM t WHERE v = 'x;y' -- c;d")],
            &[query("BEGIN")],
            &[query("UPDATE t SET v = 'w' WHERE id = 7")],
            &[query("SELECT 1/0")],
            &[query("SELECT 1")],
            &[query("COMMIT")],
            &[query("BEGIN; SELECT 1; COMMIT; SELECT 2")],
            &[query("SELECT 1; SELECT 1/0; SELECT 3")],
            &[query("SET standard_conforming_strings = off")],
            &[query(r"SELECT 'a\'; SELECT 2; --'")],
            &[query("RESET standard_conforming_strings")],
            &[query("SET application_name = 'x'; SHOW application_name")],
        ],
    );
}

pub fn what_cannot_be_parsed_gets_the_server_s_own_error(major: u32) {
    let stage = Stage::with(major, "syntax", QUICK);
    check(
        &stage,
        "",
        &[
            &[query("SELECT 5 5")],
            &[query("ALTER TABLE t WOBBLE")],
            &[query("  ALTER TABLE t ADD COLUMN x int, WOBBLE")],
            &[query("CREATE")],
            &[query("nonsense")],
            &[query("DROP TABLE \"unterminated")],
            &[query("ALTER TABLE nowhere ADD COLUMN x int")],
            &[query("BEGIN")],
            &[query("ALTER TABLE t WOBBLE")],
            &[query("SELECT 1")],
            &[query("ROLLBACK")],
            &[parse("", "ALTER TABLE t WOBBLE"), sync()],
            &[parse("", "SELECT 1; SELECT 2"), sync()],
        ],
    );
}

pub fn bytes_may_come_one_at_a_time(major: u32) {
    let stage = Stage::with(major, "fragments", QUICK);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY)");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let script = [
        query("ALTER TABLE t ADD COLUMN v text"),
        parse("", "ALTER TABLE t ADD COLUMN w text"),
        bind("", ""),
        execute("", 0),
        sync(),
        query("INSERT INTO t VALUES (1, 'é', 'ü')"),
    ]
    .concat();
    for byte in script {
        raw.send(&[byte]);
    }
    let answers: Vec<String> = (0..3).flat_map(|_| command_tags(&raw.until_ready())).collect();
    assert_eq!(answers, ["ALTER TABLE", "ALTER TABLE", "INSERT 0 1"]);
}

pub fn text_that_is_not_utf8_passes_where_it_is_data_and_is_refused_where_it_is_ddl(major: u32) {
    let stage = Stage::with(major, "latin", QUICK);
    let latin = |sql: &[u8]| frame(b'Q', &[sql, b"\0"].concat());
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        &[
            &[query("SET client_encoding = 'LATIN1'")],
            &[latin(b"INSERT INTO t VALUES (1, 'M\xfcller')")],
            &[latin(b"UPDATE t SET v = 'M\xf6ller' WHERE id = 1")],
            &[latin(b"SELECT v FROM t; SELECT 'M\xf6;ller'")],
        ],
    );
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET client_encoding = 'LATIN1'");
    raw.send(&latin(b"ALTER TABLE t ADD COLUMN \"M\xfcller\" int"));
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("22021"));
    assert_eq!(
        rows(&raw.query("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")),
        ["2"]
    );
}

pub fn frames_that_no_client_may_send_harm_only_their_session(major: u32) {
    let stage = Stage::with(major, "hostile", QUICK);
    stage.direct("CREATE TABLE t (id int)");
    let smuggled = frame(b'Q', &[c("SELECT 1"), frame(b'Q', &c("DROP TABLE t"))].concat());
    let cases: Vec<Vec<u8>> = vec![
        vec![b'Q', 0, 0, 0, 0],
        vec![b'Q', 0, 0, 0, 3],
        vec![b'Q', 0xff, 0xff, 0xff, 0xff],
        vec![b'Q', 0x7f, 0xff, 0xff, 0xff],
        vec![b'P', 0x40, 0, 0, 0],
        vec![0, 0, 0, 0, 4],
        frame(b'Q', b""),
        frame(b'Q', b"DROP TABLE t"),
        smuggled,
        frame(b'P', b"\0DROP TABLE t\0"),
        frame(b'P', b"\0DROP TABLE t\0\0\x05"),
        frame(b'B', b"\0"),
        frame(b'y', b"what"),
        frame(b'Q', b"DROP TABLE t\0DROP TABLE t\0"),
    ];
    for case in cases {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.send(&case);
        raw.send(&sync());
        if case[1] == 0 {
            let answer = raw.until_ready();
            assert!(
                error_field(&answer, b'C').is_some(),
                "{case:?} was answered with {}",
                tags(&answer)
            );
        }
    }
    let mut raw = Raw::connect(stage.port, &stage.database);
    assert_eq!(rows(&raw.query("SELECT count(*) FROM t")), ["0"]);
}

pub fn large_rows_and_texts_pass_and_too_large_ddl_is_refused(major: u32) {
    let stage = Stage::on(cluster(major), "large", QUICK, &["--statement-bytes-max", "1000000"]);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let answer = raw.query("SELECT repeat('x', 50000000)");
    assert_eq!(rows(&answer)[0].len(), 50_000_000);
    // Bound values are data: they pass at any size.
    let big = "y".repeat(5_000_000);
    raw.send(
        &[
            parse("", "INSERT INTO t VALUES (1, $1)"),
            bind_with("", "", &[&big]),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(command_tags(&raw.until_ready()), ["INSERT 0 1"]);
    // So do texts that nobody judges.
    let answer = raw.query(&format!("INSERT INTO t VALUES (2, '{big}')"));
    assert_eq!((error_field(&answer, b'C'), status(&answer)), (None, Some('I')));
    raw.send(
        &[
            parse("", &format!("SELECT '{big}'")),
            bind("", ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(rows(&raw.until_ready())[0].len(), big.len());
    let comment = format!("COMMENT ON TABLE t IS '{big}'");
    let answer = raw.query(&comment);
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('I'))
    );
    raw.send(&[parse("", &comment), bind("", ""), execute("", 0), sync()].concat());
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('I'))
    );
    assert_eq!(rows(&raw.query("SELECT length(v) FROM t")), ["5000000", "5000000"]);
}
