//! COPY in both directions.

use super::{check, query};
use lockkeeper_testkit::raw::{Message, Raw, bind, c, command_tags, error_field, execute, flush, frame, parse, sync};
use lockkeeper_testkit::{QUICK, Stage, on_both};

on_both!(
    copy_passes_in_both_directions,
    a_judged_statement_in_the_middle_of_copy_data_ends_the_session,
    syncs_early_and_late_are_counted_as_the_server_counts_them,
    a_statement_behind_copy_is_judged_once_the_copy_is_answered,
    syncs_among_the_data_of_a_copy_that_failed_are_counted,
    a_statement_behind_what_cannot_be_counted_is_not_run,
    function_calls_are_answered_alike,
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

/// In COPY the server swallows a Sync; after an error in it each late Sync is answered.
pub fn syncs_early_and_late_are_counted_as_the_server_counts_them(major: u32) {
    let stage = Stage::with(major, "syncs", QUICK);
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = || frame(b'c', b"");
    let copy = || [parse("", "COPY t FROM STDIN"), bind("", ""), execute("", 0)].concat();
    let fail = || frame(b'f', &c("enough"));
    let run = |sql: &str| [parse("", sql), bind("", ""), execute("", 0)].concat();
    let scripts: Vec<Vec<Vec<u8>>> = vec![
        vec![copy(), sync(), data("1\n"), done(), sync()],
        vec![copy(), data("2\n"), sync(), data("3\n"), sync(), done(), sync(), sync()],
        vec![copy(), sync(), data("no number\n"), data("4\n"), done(), sync()],
        vec![copy(), data("5\n"), fail(), sync(), query("SELECT 1")],
        vec![copy(), fail(), sync(), sync(), sync()],
        vec![
            copy(),
            data("6\n"),
            done(),
            run("SELECT 2"),
            sync(),
            run("SELECT 3"),
            sync(),
        ],
        vec![
            copy(),
            data("7\n"),
            done(),
            run("SELECT 1/(count(*) - count(*)) FROM t"),
            sync(),
        ],
        vec![
            query("COPY t FROM STDIN"),
            sync(),
            data("8\n"),
            sync(),
            done(),
            query("SELECT 4"),
            sync(),
        ],
        vec![
            query("COPY t FROM STDIN"),
            data("no number\n"),
            done(),
            sync(),
            query("SELECT 5"),
        ],
        vec![
            query("COPY t FROM STDIN; COPY t FROM STDIN"),
            data("9\n"),
            done(),
            data("10\n"),
            done(),
            query("SELECT 6"),
        ],
        vec![
            query("BEGIN"),
            query("COPY t FROM STDIN"),
            data("11\n"),
            fail(),
            query("SELECT 7"),
            query("ROLLBACK"),
        ],
        vec![
            run("COPY t TO STDOUT"),
            run("COPY (SELECT 1/(id - id) FROM t) TO STDOUT"),
            sync(),
        ],
        vec![query("COPY t TO STDOUT; SELECT 8; COPY t TO STDOUT (FORMAT binary)")],
        // Nobody copies: the server ignores these.
        vec![data("12\n"), done(), fail(), query("SELECT 9")],
        // A query in COPY data is no query, and the session's end.
        vec![query("COPY t FROM STDIN"), data("13\n"), query("SELECT 10"), done()],
    ];
    for script in scripts {
        // The first answers tell where the server is, so that each of these is sent only in its state.
        let heard = [stage.cluster.port(), stage.port].map(|port| {
            stage.direct("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY)");
            let mut raw = Raw::connect(port, &stage.database);
            raw.send(&[script.concat(), flush(), frame(b'X', b"")].concat());
            let mut heard = Vec::new();
            while let Some(message) = raw.receive() {
                heard.push(message);
            }
            (
                super::readable(&heard),
                stage.direct("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"),
            )
        });
        let sent: String = script
            .iter()
            .map(|frame| String::from_utf8_lossy(frame).into_owned())
            .collect();
        assert_eq!(heard[0], heard[1], "{sent:?}");
    }
}

const COLUMN: &str = "ALTER TABLE t ADD COLUMN v int";

/// Sends each part once the answer to the one before has brought a message of its type; then what a session hears to its end,
/// and whether the statement was run.
fn play(stage: &Stage, port: u16, parts: &[(&[Vec<u8>], u8)], last: &[Vec<u8>]) -> (Vec<Message>, bool) {
    stage.direct("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY)");
    let mut raw = Raw::connect(port, &stage.database);
    let mut heard = Vec::new();
    for (part, awaited) in parts {
        raw.send(&part.concat());
        while heard.last().is_none_or(|(tag, _)| tag != awaited) {
            heard.push(raw.receive().expect("the session goes on"));
        }
    }
    raw.send(&[last.concat(), query(COLUMN), frame(b'X', b"")].concat());
    while let Some(message) = raw.receive() {
        heard.push(message);
    }
    let columns = stage.direct("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'");
    (heard, columns == "1")
}

/// For that nothing may be owed, and all that was owed must have come: else it would wait for ever, or run among answers.
pub fn a_statement_behind_copy_is_judged_once_the_copy_is_answered(major: u32) {
    let stage = Stage::with(major, "behindcopy", QUICK);
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = || frame(b'c', b"");
    let copy = |table: &str| {
        let sql = format!("COPY {table} FROM STDIN");
        [parse("", &sql), bind("", ""), execute("", 0)].concat()
    };
    let both = || query("COPY t FROM STDIN; COPY t FROM STDIN");
    let simple = || query("COPY t FROM STDIN");
    let other = || query("SELECT 1");
    let same = |parts: &[(&[Vec<u8>], u8)], last: &[Vec<u8>], runs: bool| {
        let [direct, proxied] = [stage.cluster.port(), stage.port].map(|port| {
            let (heard, ran) = play(&stage, port, parts, last);
            (super::readable(&heard), ran)
        });
        assert_eq!(proxied, direct, "{parts:?} {last:?}");
        assert_eq!(proxied.1, runs, "{parts:?} {last:?}");
    };
    // A Sync behind the COPY of a simple query is swallowed too.
    same(&[(&[simple(), sync()], b'G')], &[data("1\n"), done()], true);
    same(&[(&[simple(), sync(), data("1\n"), sync(), done()], b'Z')], &[], true);
    same(&[(&[both(), done(), data("1\n")], b'C')], &[done()], true);
    // What ends no COPY is ignored, also in front of one.
    same(&[(&[other(), done(), simple()], b'G')], &[data("1\n"), done()], true);
    same(&[], &[copy("nowhere"), sync(), done(), sync()], true);
    // The error skips to the next Sync, and that is behind the data.
    let fails = [
        copy("t"),
        sync(),
        data("no number\n"),
        done(),
        other(),
        parse("", "SELECT 2"),
        sync(),
    ];
    same(&[], &fails, true);
    // Any other message makes the COPY fail, and the server ends the session.
    same(&[(&[simple()], b'G')], &[other()], false);
    same(
        &[(&[copy("t"), flush()], b'G')],
        &[parse("", "SELECT 2"), sync()],
        false,
    );
    same(&[], &[simple(), data("1\n"), other()], false);
}

/// The server answers a Sync among the data of a COPY only if the COPY has failed before, which the order of the messages does
/// not tell: it is asked.
pub fn syncs_among_the_data_of_a_copy_that_failed_are_counted(major: u32) {
    let stage = Stage::with(major, "counted", QUICK);
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = || frame(b'c', b"");
    let fail = || frame(b'f', &c("enough"));
    let copy = || [parse("", "COPY t FROM STDIN"), bind("", ""), execute("", 0)].concat();
    let simple = || query("COPY t FROM STDIN");
    let select = || [parse("", "SELECT 2"), bind("", ""), execute("", 0), sync()].concat();
    let same = |parts: &[(&[Vec<u8>], u8)], last: &[Vec<u8>], runs: bool| {
        let [direct, proxied] = [stage.cluster.port(), stage.port].map(|port| {
            let (heard, ran) = play(&stage, port, parts, last);
            (super::readable(&heard), ran)
        });
        assert_eq!(proxied, direct, "{parts:?} {last:?}");
        assert_eq!(proxied.1, runs, "{parts:?} {last:?}");
    };
    let begun: (&[Vec<u8>], u8) = (&[copy(), flush()], b'G');
    // Answered, since the error came before it.
    same(
        &[],
        &[copy(), data("no number\n"), sync(), data("1\n"), done(), sync()],
        true,
    );
    same(&[begun], &[data("no number\n"), sync(), done(), sync(), sync()], true);
    // Swallowed, as that of a driver whose Sync comes late, and the next one answered.
    same(
        &[begun, (&[sync(), data("no number\n")], b'E')],
        &[done(), sync()],
        true,
    );
    same(
        &[begun, (&[sync(), data("no number\n")], b'E')],
        &[fail(), sync(), select()],
        true,
    );
    same(
        &[
            begun,
            (&[data("1\n"), sync(), data("no number\n"), done(), sync()], b'Z'),
        ],
        &[select()],
        true,
    );
    same(&[begun, (&[sync(), fail(), sync()], b'Z')], &[], true);
    // All were swallowed: the server skips to the next one, and so what stands before it.
    same(
        &[begun, (&[sync(), data("no number\n")], b'E')],
        &[done(), select()],
        true,
    );
    same(&[begun, (&[sync(), data("no number\n")], b'E')], &[done()], false);
    // Of a simple query each later one is answered.
    same(
        &[(&[simple()], b'G'), (&[sync(), data("no number\n"), sync()], b'Z')],
        &[sync(), select()],
        true,
    );
    // In a block, which has failed with it.
    same(
        &[
            (&[query("BEGIN")], b'Z'),
            begun,
            (&[sync(), data("no number\n"), done(), sync()], b'Z'),
        ],
        &[select(), query("ROLLBACK"), select()],
        true,
    );
}

/// What was sent behind them as well cannot be told from the answer to a question; and while the server reads data, what is no data
/// ends the session.
pub fn a_statement_behind_what_cannot_be_counted_is_not_run(major: u32) {
    let stage = Stage::with(major, "uncounted", QUICK);
    let data = |text: &str| frame(b'd', text.as_bytes());
    let done = || frame(b'c', b"");
    let copy = || [parse("", "COPY t FROM STDIN"), bind("", ""), execute("", 0)].concat();
    let ends = |parts: &[(&[Vec<u8>], u8)], last: &[Vec<u8>]| {
        let (heard, ran) = play(&stage, stage.port, parts, last);
        let codes: Vec<_> = heard
            .iter()
            .filter_map(|message| error_field(std::slice::from_ref(message), b'C'))
            .collect();
        assert_eq!(
            codes.last().map(String::as_str),
            Some("08P01"),
            "{parts:?} {last:?} {codes:?}"
        );
        assert!(!ran, "{parts:?} {last:?}");
    };
    ends(
        &[(&[copy(), flush()], b'G')],
        &[data("no number\n"), sync(), data("1\n")],
    );
    ends(
        &[],
        &[
            copy(),
            data("no number\n"),
            sync(),
            data("1\n"),
            done(),
            parse("", "SELECT 2"),
            sync(),
        ],
    );
    ends(
        &[(&[query("SELECT 1"), done(), query("COPY t FROM STDIN")], b'G')],
        &[data("1\n")],
    );
}

/// The fast-path interface, here of length(text), which has the OID 1317.
pub fn function_calls_are_answered_alike(major: u32) {
    let stage = Stage::with(major, "calls", QUICK);
    let call = |oid: u32, arguments: &[&[u8]]| {
        let mut body = [&oid.to_be_bytes()[..], &[0, 0]].concat();
        body.extend((arguments.len() as u16).to_be_bytes());
        for argument in arguments {
            body.extend((argument.len() as u32).to_be_bytes());
            body.extend(*argument);
        }
        body.extend([0, 0]);
        frame(b'F', &body)
    };
    let play = |port: u16| {
        let mut raw = Raw::connect(port, &stage.database);
        let mut heard = Vec::new();
        for part in [
            call(1317, &[b"seven b"]),
            call(1317, &[]),
            call(999_999, &[]),
            query("BEGIN"),
            call(1317, &[b"in a block"]),
            call(999_999, &[]),
            call(1317, &[b"failed"]),
            query("ROLLBACK"),
            call(1317, &[b"bb"]),
            frame(b'F', &[0, 0]),
            query("ALTER TABLE nowhere ADD COLUMN v int"),
            call(1317, &[b"behind it"]),
        ] {
            raw.send(&part);
            heard.extend(raw.until_ready());
        }
        super::readable(&heard)
    };
    let direct = play(stage.cluster.port());
    assert_eq!(play(stage.port), direct);
    assert_eq!(direct.iter().filter(|(tag, _)| *tag == 'V').count(), 4);
}
