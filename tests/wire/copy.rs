//! COPY in both directions.

use super::common::raw::{Raw, bind, c, command_tags, error_field, execute, frame, parse, sync};
use super::common::{QUICK, Stage, on_both};
use super::{check, query};

on_both!(
    copy_passes_in_both_directions,
    a_judged_statement_in_the_middle_of_copy_data_ends_the_session,
);

pub fn copy_passes_in_both_directions(major: u32) {
    let stage = Stage::with(major, "copy", QUICK);
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = || frame(b'c', b"");
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY)",
        &[
            &[query("COPY t FROM STDIN"), data("1\n2\n"), data("3\n"), done()],
            &[query("COPY t TO STDOUT")],
            &[query("COPY t FROM STDIN"), data("4\n"), frame(b'f', &c("enough"))],
            &[query("COPY t FROM STDIN"), data("no number\n"), data("5\n"), done()],
            &[
                parse("", "COPY t FROM STDIN"),
                bind("", ""),
                execute("", 0),
                data("6\n"),
                done(),
                sync(),
            ],
            &[query("SELECT count(*) FROM t")],
            &[
                query("CREATE TABLE u (id int); COPY u FROM STDIN; ALTER TABLE u ADD COLUMN v int; SELECT * FROM u"),
                data("1\n"),
                done(),
            ],
            &[query("SELECT count(*) FROM u")],
        ],
    );
}

/// What PostgreSQL ends too, as a loss of synchronization.
pub fn a_judged_statement_in_the_middle_of_copy_data_ends_the_session(major: u32) {
    let stage = Stage::with(major, "copybreak", QUICK);
    stage.direct("CREATE TABLE t (id int)");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&query("COPY t FROM STDIN"));
    assert_eq!(raw.receive().map(|(tag, _)| tag), Some(b'G'));
    raw.send(&[frame(b'd', b"1\n"), query("DROP TABLE t")].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));
    // Pipelined data is no such thing.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            query("COPY t FROM STDIN"),
            frame(b'd', b"1\n"),
            frame(b'c', b""),
            query("ALTER TABLE t ADD COLUMN v int"),
        ]
        .concat(),
    );
    assert_eq!(command_tags(&raw.until_ready()), ["COPY 1"]);
    assert_eq!(command_tags(&raw.until_ready()), ["ALTER TABLE"]);
    assert_eq!(stage.direct("SELECT count(*) FROM t").trim(), "1");
}
