//! No client can tell the proxy from the server: the same bytes go to both, and both answers must be equal.

mod common;

use common::Stage;
use common::raw::{
    Message, Raw, bind, bind_with, c, close, command_tags, describe, error_field, execute, flush, frame, parse, rows,
    startup, startup_version, status, sync, tags,
};

/// Plays the same messages straight and through the proxy, each side in a copy of one database; each part is sent in
/// one write and read to the ReadyForQuery that answers its last Sync or Query.
#[track_caller]
fn check(stage: &Stage, setup: &str, parts: &[&[Vec<u8>]]) -> Vec<Vec<Message>> {
    stage.direct(setup);
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    let into_copy = stage.direct_args(&["-d", &copy, "-q", "-v", "ON_ERROR_STOP=1"], setup);
    into_copy.ok();
    let play = |port: u16, database: &str| -> Vec<Vec<Message>> {
        let mut raw = Raw::connect(port, database);
        parts
            .iter()
            .map(|part| {
                raw.send(&part.concat());
                let ends = part.iter().filter(|f| matches!(f[0], b'S' | b'Q')).count();
                (0..ends).flat_map(|_| raw.until_ready()).collect()
            })
            .collect()
    };
    let direct = play(stage.cluster.port(), &copy);
    let proxied = play(stage.port, &stage.database);
    for (n, (proxied, direct)) in proxied.iter().zip(&direct).enumerate() {
        let sent: Vec<String> = parts[n]
            .iter()
            .map(|f| String::from_utf8_lossy(&f[5..]).replace('\0', "|"))
            .collect();
        let sent = sent.iter().take(12).cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(readable(proxied), readable(direct), "part {n}: {sent}");
    }
    proxied
}

/// Without what differs between any two sessions: OIDs of tables, and where in PostgreSQL's source a report comes from.
fn readable(messages: &[Message]) -> Vec<(char, String)> {
    let text = |(tag, body): &Message| {
        let mut body = body.clone();
        if *tag == b'T' {
            let mut at = 2;
            while at < body.len() {
                at += body[at..].iter().position(|b| *b == 0).unwrap() + 1;
                body[at..at + 4].fill(b'.');
                at += 18;
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let kept = text
            .split('\0')
            .filter(|field| !matches!(tag, b'E' | b'N') || !field.starts_with(['F', 'L', 'R', 'W']));
        (char::from(*tag), kept.collect::<Vec<_>>().join("|"))
    };
    messages.iter().map(text).collect()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c(sql))
}

#[test]
fn queries_of_all_kinds_are_answered_alike() {
    let stage = Stage::new("alike");
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

#[test]
fn what_cannot_be_parsed_gets_the_server_s_own_error() {
    let stage = Stage::new("syntax");
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

#[test]
fn extended_query_is_answered_alike() {
    let stage = Stage::new("extended");
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

/// A rule fires in every place it can; the client's unnamed statement, portals and state are what they would have been.
#[test]
fn what_the_proxy_puts_in_between_is_not_seen() {
    let stage = Stage::new("unseen");
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
        &[
            // A suspended portal and a prepared statement outlive DDL between them.
            &[query("BEGIN")],
            &[
                parse("kept", "SELECT id FROM t ORDER BY id"),
                bind("cursor", "kept"),
                execute("cursor", 2),
                sync(),
            ],
            &[
                parse("", "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'x'"),
                bind("", ""),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ],
            &[query("SHOW lock_timeout")],
            &[query("COMMIT")],
            &[query("SHOW lock_timeout")],
            &[query("SELECT name FROM pg_prepared_statements")],
            // DDL prepared idle and run in a block, and the reverse; run twice; with a row limit.
            &[parse("ddl", "ALTER TABLE t ALTER COLUMN v DROP DEFAULT"), sync()],
            &[query("BEGIN")],
            &[bind("", "ddl"), execute("", 0), sync()],
            &[bind("", "ddl"), execute("", 5), sync()],
            &[query("COMMIT")],
            &[bind("", "ddl"), execute("", 0), sync()],
            &[close(b'S', "ddl"), sync()],
            &[bind("", "ddl"), execute("", 0), sync()],
            // Pipelined behind an INSERT of the same implicit transaction, and in front of one.
            &[
                parse("", "INSERT INTO t VALUES (500, 'a')"),
                bind("", ""),
                execute("", 0),
                parse("", "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'y'"),
                bind("", ""),
                execute("", 0),
                parse("", "INSERT INTO t VALUES (501)"),
                bind("", ""),
                execute("", 0),
                sync(),
            ],
            &[query("SELECT v FROM t WHERE id >= 500 ORDER BY id")],
            // BEGIN and DDL before any ReadyForQuery says T.
            &[
                parse("", "BEGIN"),
                bind("", ""),
                execute("", 0),
                parse("", "ALTER TABLE t ADD COLUMN w int"),
                bind("", ""),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ],
            &[query("ROLLBACK")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            // Errors of DDL, in and out of a block, with their positions.
            &[query("  ALTER TABLE t ADD COLUMN w wobbletype")],
            &[query("SELECT 1; ALTER TABLE t ADD COLUMN é wobbletype; SELECT 2")],
            &[query("SELECT 'é'; ALTER TABLE t ADD COLUMN w wobbletype; SELECT 2")],
            &[
                parse("", "ALTER TABLE t ADD COLUMN w wobbletype"),
                bind("", ""),
                execute("", 0),
                parse("", "SELECT 1"),
                sync(),
            ],
            &[query("BEGIN")],
            &[query("ALTER TABLE t ADD COLUMN w wobbletype")],
            &[query("SELECT 1")],
            &[query("ROLLBACK")],
            &[query("DISCARD ALL")],
        ],
    );
}

#[test]
fn a_message_of_several_statements_is_one_transaction() {
    let stage = Stage::new("script");
    check(
        &stage,
        "",
        &[
            &[query(
                "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN v text; INSERT INTO t VALUES (1, 'a'); SELECT * FROM t",
            )],
            &[query("ALTER TABLE t ADD COLUMN w int; SELECT 1/0; SELECT 2")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            &[query("BEGIN; ALTER TABLE t ADD COLUMN x int; COMMIT; SELECT x FROM t")],
            &[query("SELECT 1; BEGIN; ALTER TABLE t ADD COLUMN y int; SELECT 2")],
            &[query("ROLLBACK")],
            &[query(
                "INSERT INTO t VALUES (2, 'b'); COMMIT; ALTER TABLE t ADD COLUMN z int; SELECT 1/0",
            )],
            &[query("SELECT id, v FROM t ORDER BY id")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            &[query("ALTER TABLE t ADD COLUMN z int; ROLLBACK; SELECT 1")],
            &[query("SELECT 1; COMMIT AND CHAIN; ALTER TABLE t ADD COLUMN z int")],
            &[query("BEGIN")],
            &[query("SELECT 1/0")],
            &[query("ALTER TABLE t ADD COLUMN z int; ROLLBACK")],
            &[query("ROLLBACK; ALTER TABLE t ADD COLUMN q int; SELECT q FROM t")],
            &[query("SELECT 1; ALTER TABLE t WOBBLE")],
            &[query(
                "/* one */ ALTER TABLE t ADD COLUMN r int /* two */; -- three\n COMMENT ON TABLE t IS 'é;ü'; ; ",
            )],
            &[query("SELECT obj_description('t'::regclass)")],
        ],
    );
}

#[test]
fn copy_passes_in_both_directions() {
    let stage = Stage::new("copy");
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

#[test]
fn five_thousand_messages_in_one_pipeline() {
    let stage = Stage::new("pipeline");
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

#[test]
fn bytes_may_come_one_at_a_time() {
    let stage = Stage::new("fragments");
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

#[test]
fn text_that_is_not_utf8_passes_where_it_is_data_and_is_refused_where_it_is_ddl() {
    let stage = Stage::new("latin");
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

#[test]
fn frames_that_no_client_may_send_harm_only_their_session() {
    let stage = Stage::new("hostile");
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

#[test]
fn startup_packets_of_all_kinds() {
    let stage = Stage::new("startup");
    // Requests for encryption are declined, each once.
    let mut raw = Raw::open(stage.port);
    for code in [80_877_104u32, 80_877_103] {
        raw.send(&[&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat());
        assert_eq!(raw.byte(), Some(b'N'));
    }
    raw.send(&startup(&[
        ("user", "postgres"),
        ("database", &stage.database),
        ("options", "-c geqo=off"),
    ]));
    assert_eq!(status(&raw.until_ready()), Some('I'));
    assert_eq!(rows(&raw.query("SHOW geqo")), ["off"]);

    let mut raw = Raw::open(stage.port);
    raw.send(&[&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat());
    assert_eq!(raw.byte(), Some(b'N'));
    raw.send(&[&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));

    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 7, 0, 3, 0, 0]] {
        let mut raw = Raw::open(stage.port);
        raw.send(junk);
        assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));
    }

    // A newer protocol and unknown options are negotiated by the server itself.
    for version in [196_610, 196_608 + 9_999] {
        let packet = startup_version(
            version,
            &[
                ("user", "postgres"),
                ("database", &stage.database),
                ("_pq_.wobble", "1"),
            ],
        );
        let play = |port| {
            let mut raw = Raw::open(port);
            raw.send(&packet);
            let mut answer = raw.until_ready();
            answer.retain(|(tag, _)| *tag != b'K');
            answer
        };
        assert_eq!(play(stage.port), play(stage.cluster.port()));
    }
    // An unknown database and an unknown role: the server's own words.
    for (user, database) in [("postgres", "nowhere"), ("nobody_here", "postgres")] {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[("user", user), ("database", database)]));
        assert!(matches!(
            error_field(&raw.until_ready(), b'C').as_deref(),
            Some("3D000" | "28000")
        ));
    }
}

#[test]
fn a_cancel_request_reaches_the_server() {
    let stage = Stage::new("cancel");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&query("SELECT pg_sleep(30)"));
    let key = raw.key.clone();
    let port = stage.port;
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut cancel = Raw::open(port);
        let len = (8 + key.len()) as u32;
        cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &key].concat());
        assert_eq!(cancel.byte(), None);
    });
    let started = std::time::Instant::now();
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"));
    assert!(started.elapsed().as_secs() < 20);
    assert_eq!(rows(&raw.query("SELECT 1")), ["1"]);
}

#[test]
fn large_rows_and_texts_pass_and_too_large_ddl_is_refused() {
    let stage = Stage::on(
        common::cluster(18),
        "large",
        common::QUICK,
        &["--statement-bytes-max", "1000000"],
    );
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
    let answer = raw.query(&format!("INSERT INTO t VALUES (2, '{big}')"));
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('I'))
    );
    raw.send(
        &[
            parse("", &format!("SELECT '{big}'")),
            bind("", ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    let answer = raw.until_ready();
    assert_eq!(
        (error_field(&answer, b'C').as_deref(), status(&answer)),
        (Some("54000"), Some('I'))
    );
    assert_eq!(rows(&raw.query("SELECT length(v) FROM t")), ["5000000"]);
}

#[test]
fn a_flush_without_a_sync_brings_what_is_there() {
    let stage = Stage::new("flush");
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
#[test]
fn no_order_of_messages_gets_ddl_past_the_judge() {
    let stage = Stage::new("bypass");
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

/// What PostgreSQL ends too, as a loss of synchronization.
#[test]
fn a_judged_statement_in_the_middle_of_copy_data_ends_the_session() {
    let stage = Stage::new("copybreak");
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
