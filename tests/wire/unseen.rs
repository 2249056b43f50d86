//! A rule fires in every place it can, and the client sees nothing of it but its effect.

use super::{check, check_with, query};
use lockkeeper_testkit::raw::{
    Raw, bind, bind_with, close, command_tags, describe, error_field, execute, flush, parse, rows, sync,
};
use lockkeeper_testkit::{QUICK, Stage, cluster, on_both};

on_both!(
    what_the_proxy_puts_in_between_is_not_seen,
    settings_are_what_the_client_made_of_them,
    statements_portals_and_cursors_outlive_an_injection,
    errors_have_their_own_positions,
    statements_of_ours_that_fail_leave_nothing_behind,
    the_kept_question_is_asked_again,
    a_message_is_no_block,
    a_strangers_statement_is_not_taken_for_ours,
    a_parse_that_is_skipped_replaces_nothing,
    a_portal_is_executed_long_after_its_bind,
    the_jit_compiler_does_not_work_on_our_questions,
    what_is_known_is_not_asked_while_others_wait,
    what_makes_nobody_wait_is_only_forwarded,
);

/// Every table counts as large, so that every rule fires.
const LARGE: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 1\nrows_max = 50\nbatch_rows = 30\nbatch_target_ms = 0\n";
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i; ANALYZE t;";

/// The transaction of a message of several statements takes no savepoint, unless it has begun a block.
pub fn a_message_is_no_block(major: u32) {
    let stage = Stage::with(major, "message", LARGE);
    check(
        &stage,
        TABLE,
        &[
            &[query(
                "UPDATE t SET v = 'a' WHERE id = 1; SAVEPOINT a; UPDATE t SET v = 'b' WHERE id = 2",
            )],
            &[query("ALTER TABLE t ADD w int; SELECT 1; SAVEPOINT a; SELECT 2")],
            &[query("SAVEPOINT a; ALTER TABLE t ADD w int")],
            &[query("ALTER TABLE t ADD w int; RELEASE a")],
            &[query("ALTER TABLE t ADD w int; ROLLBACK TO a")],
            &[query(
                "BEGIN; SAVEPOINT a; ALTER TABLE t ADD w int; ROLLBACK TO a; RELEASE a; SELECT * FROM t WHERE id = 1; COMMIT",
            )],
            &[query(
                "ALTER TABLE t ADD w int; BEGIN; SAVEPOINT a; SELECT 1/0; ROLLBACK TO a; COMMIT",
            )],
            &[query("ROLLBACK")],
            &[query("SELECT * FROM t WHERE id < 3 ORDER BY id")],
        ],
    );
}

/// A rule fires in every place it can; the client's unnamed statement, portals and state are what they would have been.
pub fn what_the_proxy_puts_in_between_is_not_seen(major: u32) {
    let stage = Stage::with(major, "unseen", QUICK);
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
            &[query(&prepared("name"))],
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

/// lock_timeout and statement_timeout by every way in which a client can have set them, looked at after every injection.
pub fn settings_are_what_the_client_made_of_them(major: u32) {
    let database =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''7s''', current_database()); END $$;";
    /// Its name, SQL before the session, parameters of its startup packet, its first messages.
    type Origin = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        Vec<Vec<u8>>,
    );
    let cases: [Origin; 5] = [
        ("nowhere", "", &[], vec![]),
        (
            "set",
            "",
            &[],
            vec![query(
                "SET lock_timeout = '5s'; SET statement_timeout = '50s'; SET jit = off",
            )],
        ),
        ("database", database, &[], vec![]),
        (
            "options",
            "",
            &[("options", "-c lock_timeout=9s -c statement_timeout=90s")],
            vec![],
        ),
        (
            "both",
            database,
            &[("lock_timeout", "8s")],
            vec![query("SET lock_timeout = '3s'"), query("RESET lock_timeout")],
        ),
    ];
    for (name, setup, parameters, first) in cases {
        let stage = Stage::with(major, name, LARGE);
        let probe = || {
            query(
                "SELECT name, setting, reset_val FROM pg_settings
                 WHERE name IN ('lock_timeout', 'statement_timeout', 'search_path', 'jit') OR name LIKE 'lockkeeper%'",
            )
        };
        let run = |sql: &str| [parse("", sql), bind("", ""), execute("", 0)].concat();
        let mut parts: Vec<Vec<Vec<u8>>> = first.into_iter().map(|part| vec![part]).collect();
        let mut and_look = |part: Vec<Vec<u8>>| {
            parts.push(part);
            parts.push(vec![probe()]);
        };
        and_look(vec![query("SET client_min_messages = warning")]);
        // Alone, by steps of every kind, and each once more with an error.
        and_look(vec![query("ALTER TABLE t ADD COLUMN a int")]);
        and_look(vec![query("ALTER TABLE t ADD COLUMN a int")]);
        and_look(vec![query("CREATE INDEX by_v ON t (v)")]);
        and_look(vec![query("CREATE INDEX by_v ON t (v)")]);
        and_look(vec![query("CREATE UNIQUE INDEX by_a ON t ((id / 50))")]);
        and_look(vec![run("ALTER TABLE t ALTER COLUMN v SET NOT NULL"), sync()]);
        and_look(vec![run("ALTER TABLE t ADD CHECK (id > 1)"), sync()]);
        and_look(vec![query("UPDATE t SET v = 'w' WHERE id > 0")]);
        and_look(vec![query("DROP INDEX by_v")]);
        // In a pipeline.
        for sql in [
            "INSERT INTO t VALUES (500, 'x')",
            "INSERT INTO t VALUES (501, 'x')",
            "SET LOCAL lock_timeout = '2s'",
        ] {
            and_look(vec![
                run(sql),
                run("ALTER TABLE t ADD COLUMN b int"),
                run("SHOW lock_timeout"),
                sync(),
            ]);
        }
        // In scripts.
        and_look(vec![query(
            "SET LOCAL lock_timeout = '2s'; ALTER TABLE t ADD COLUMN d int; SHOW lock_timeout",
        )]);
        and_look(vec![query(
            "SELECT 1; ALTER TABLE t ADD COLUMN d int; SHOW lock_timeout",
        )]);
        // In blocks that end in every way.
        and_look(vec![query("BEGIN")]);
        and_look(vec![query("ALTER TABLE t ADD COLUMN e int")]);
        and_look(vec![query("ROLLBACK")]);
        for end in ["COMMIT", "ROLLBACK"] {
            and_look(vec![query("BEGIN")]);
            and_look(vec![query("SET LOCAL lock_timeout = '2s'")]);
            and_look(vec![query("ALTER TABLE t ADD COLUMN e int")]);
            and_look(vec![query("SAVEPOINT s")]);
            and_look(vec![query("SET LOCAL lock_timeout = '4s'")]);
            and_look(vec![run("ALTER TABLE t ADD COLUMN f int"), sync()]);
            and_look(vec![query("SET statement_timeout = '44s'")]);
            and_look(vec![query("ROLLBACK TO s")]);
            and_look(vec![query("ALTER TABLE t ADD COLUMN f int")]);
            and_look(vec![query("SET lock_timeout = '6s'")]);
            and_look(vec![query("ALTER TABLE t ADD COLUMN g int")]);
            and_look(vec![query("RELEASE s")]);
            and_look(vec![query(end)]);
            and_look(vec![query(
                "BEGIN; SET LOCAL lock_timeout = '1s'; ALTER TABLE t ADD COLUMN a int",
            )]);
            and_look(vec![query("ROLLBACK")]);
        }
        let parts: Vec<&[Vec<u8>]> = parts.iter().map(Vec::as_slice).collect();
        check_with(&stage, &format!("{TABLE}{setup}"), parameters, &parts);
        assert!(stage.received().iter().any(|sql| sql.contains("CONCURRENTLY")));
    }
}

pub fn statements_portals_and_cursors_outlive_an_injection(major: u32) {
    let stage = Stage::with(major, "outlive", LARGE);
    let in_session = || query(&prepared("name, statement, from_sql"));
    let cursors = || query("SELECT name, is_holdable FROM pg_cursors ORDER BY name");
    let ddl = |n: u32| format!("ALTER TABLE t ADD COLUMN c{n} int");
    let select = || parse("", "SELECT id FROM o ORDER BY id");
    check(
        &stage,
        &format!("{TABLE} CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o SELECT generate_series(1, 50)"),
        &[
            &[query("SET client_min_messages = warning")],
            // The unnamed statement, alone and over groups.
            &[parse("", "SELECT $1::text"), sync()],
            &[
                parse("d", &ddl(1)),
                bind("d", "d"),
                describe(b'P', "d"),
                execute("d", 0),
                sync(),
            ],
            &[bind_with("", "", &["still here"]), execute("", 0), sync()],
            &[
                parse("i", "CREATE INDEX by_v ON t (v)"),
                bind("i", "i"),
                execute("i", 0),
                sync(),
            ],
            &[bind_with("", "", &["still here"]), execute("", 0), sync()],
            &[
                parse("u", "UPDATE t SET v = $1 WHERE id < 90"),
                bind_with("u", "u", &["x"]),
                execute("u", 0),
                sync(),
            ],
            &[bind_with("", "", &["still here"]), execute("", 0), sync()],
            &[in_session(), cursors()],
            // A suspended unnamed portal, in one group and in a block.
            &[
                select(),
                bind("", ""),
                execute("", 2),
                parse("e", &ddl(2)),
                bind("e", "e"),
                execute("e", 0),
                execute("", 2),
                sync(),
            ],
            &[query("BEGIN")],
            &[select(), bind("", ""), execute("", 2), flush(), sync()],
            &[parse("f", &ddl(3)), bind("f", "f"), execute("f", 0), sync()],
            &[execute("", 2), bind_with("w", "u", &["y"]), sync()],
            &[cursors()],
            &[query("ROLLBACK")],
            // Cursors of SQL.
            &[query(
                "BEGIN; DECLARE a CURSOR FOR SELECT id FROM o ORDER BY id; DECLARE b CURSOR WITH HOLD FOR SELECT id FROM o ORDER BY id DESC",
            )],
            &[query("FETCH 2 FROM a"), query("FETCH 2 FROM b")],
            &[query(&ddl(4))],
            &[query("FETCH 2 FROM a"), query("MOVE 3 FROM b"), cursors()],
            &[query(&format!("FETCH 1 FROM a; {}; FETCH 1 FROM a", ddl(5)))],
            &[query("COMMIT")],
            &[
                query("FETCH 2 FROM b"),
                query(&ddl(6)),
                query("CREATE INDEX by_id ON t (id)"),
            ],
            &[query("FETCH 2 FROM b"), cursors(), in_session()],
            &[query("CLOSE b")],
            // SQL's own PREPARE.
            &[
                query("PREPARE p AS SELECT 7"),
                query(&ddl(7)),
                query("EXECUTE p"),
                in_session(),
            ],
            // Closed, closed twice, and by DEALLOCATE and DISCARD in each protocol.
            &[close(b'S', "d"), close(b'S', "d"), close(b'P', "d"), sync()],
            &[bind("", "d"), execute("", 0), sync()],
            &[query("DEALLOCATE e"), bind("", "e"), execute("", 0), sync()],
            &[
                parse("", "DEALLOCATE f"),
                bind("", ""),
                execute("", 0),
                bind("", "f"),
                execute("", 0),
                sync(),
            ],
            &[
                query(&ddl(8)),
                query("DISCARD ALL"),
                query(&ddl(9)),
                in_session(),
                bind("", "u"),
                execute("", 0),
                sync(),
            ],
        ],
    );
}

pub fn errors_have_their_own_positions(major: u32) {
    let stage = Stage::with(major, "positions", LARGE);
    let wrong = [
        "ALTER TABLE t ADD COLUMN w wobbletype",
        "/* é */ ALTER TABLE t ADD CONSTRAINT c CHECK (wobble > 0) NOT VALID",
        "ALTER TABLE t ALTER COLUMN v SET DEFAULT wobble()",
        "UPDATE t SET wobble = 1 WHERE id > 0",
        "DELETE FROM t WHERE wobble > 0",
        "CREATE VIEW w AS SELECT 'é', wobble FROM t",
        "DELETE FROM nowhere WHERE id > 0",
        "ALTER TABLE t ADD COLUMN",
    ];
    let mut parts: Vec<Vec<Vec<u8>>> = Vec::new();
    for sql in wrong {
        let run = || [parse("", sql), bind("", ""), execute("", 0)].concat();
        let select = || [parse("", "SELECT 1"), bind("", ""), execute("", 0)].concat();
        parts.push(vec![query(sql)]);
        parts.push(vec![query(&format!("  SELECT 'ü'; {sql}; SELECT 3"))]);
        parts.push(vec![run(), sync()]);
        parts.push(vec![select(), run(), run(), sync()]);
        parts.push(vec![query("BEGIN"), query(&format!("   {sql}")), query("ROLLBACK")]);
        parts.push(vec![
            query("BEGIN"),
            run(),
            sync(),
            query("SELECT 1"),
            query("ROLLBACK"),
        ]);
        parts.push(vec![
            query("BEGIN; SAVEPOINT s"),
            run(),
            sync(),
            query("ROLLBACK TO s"),
            query("SELECT 1"),
            query("COMMIT"),
        ]);
    }
    let parts: Vec<&[Vec<u8>]> = parts.iter().map(Vec::as_slice).collect();
    check(&stage, TABLE, &parts);
}

/// What the session has prepared, less the questions to the catalog, which are kept so that they are planned once.
fn prepared(columns: &str) -> String {
    format!(
        "SELECT {columns} FROM pg_prepared_statements WHERE name !~ '^lockkeeper_[0-9a-f]{{16}}_(facts|spot|jobs|rules|depends)' ORDER BY name"
    )
}

/// The question to the catalog is kept prepared; where the client or its functions throw that away, it is asked again, and neither the
/// client's transaction nor its settings are other than without us.
pub fn the_kept_question_is_asked_again(major: u32) {
    kept_question(major, TABLE);
    // With the table of jobs there is one more.
    let jobs: String = lockkeeper::plan::jobs::create_statements()
        .iter()
        .map(|sql| format!("{sql};\n"))
        .collect();
    kept_question(major, &format!("{TABLE}; {jobs}"));
}

fn kept_question(major: u32, table: &str) {
    let stage = Stage::with(major, "kept", LARGE);
    let add = |n: u32| query(&format!("ALTER TABLE t ADD COLUMN c{n} int"));
    let gone = "DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$";
    let settings =
        || query("SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'jit', 'search_path')");
    check(
        &stage,
        table,
        &[
            &[query("SET client_min_messages = warning")],
            &[query("SET statement_timeout = '50s'")],
            &[add(1)],
            &[query("DISCARD ALL")],
            &[query(
                "SET client_min_messages = warning; SET statement_timeout = '40s'",
            )],
            &[add(2)],
            &[query("DEALLOCATE ALL")],
            &[add(3)],
            &[query("BEGIN")],
            &[query("INSERT INTO t VALUES (500, 'a')")],
            &[query(gone)],
            &[add(4)],
            &[settings()],
            &[query("SAVEPOINT a")],
            &[query("DEALLOCATE ALL")],
            &[
                parse("", "ALTER TABLE t ADD COLUMN c5 int"),
                bind("", ""),
                execute("", 0),
                sync(),
            ],
            &[query("ROLLBACK TO a")],
            &[query("DEALLOCATE ALL")],
            &[add(6)],
            &[query("RELEASE a")],
            &[query("COMMIT")],
            &[settings()],
            &[query(gone)],
            &[query(
                "BEGIN; INSERT INTO t VALUES (501, 'a'); ALTER TABLE t ADD COLUMN c7 int; COMMIT",
            )],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum",
            )],
            &[query("SELECT id FROM t WHERE id >= 500 ORDER BY id")],
            &[settings()],
        ],
    );
    // Planned once: all later statements use what is kept.
    let mut raw = Raw::connect(stage.port, &stage.database);
    for n in 0..6 {
        raw.query(&format!("ALTER TABLE t ALTER COLUMN v SET DEFAULT '{n}'"));
    }
    let kept =
        raw.query("SELECT count(*) FROM pg_prepared_statements WHERE name ~ '^lockkeeper_[0-9a-f]{16}_(facts|spot)'");
    assert_eq!(rows(&kept), ["1"]);
}

/// A function that runs with its owner's rights can put a statement of its own in the place of one that the session has prepared. It is
/// not run with the session's rights.
pub fn a_strangers_statement_is_not_taken_for_ours(major: u32) {
    let stage = Stage::with(major, "swapped", LARGE);
    let role = format!("swapper_{}", stage.database);
    lockkeeper::plan::jobs::create_statements()
        .iter()
        .for_each(|sql| drop(stage.direct(sql)));
    stage.direct(&format!(
        "{TABLE} CREATE ROLE {role}; CREATE SCHEMA s AUTHORIZATION {role}; SET ROLE {role};
         CREATE SEQUENCE s.called;
         CREATE FUNCTION s.trap() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('s.called'); RETURN ''; END$$;
         CREATE FUNCTION s.swap() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
           DECLARE r record; n int := 0;
           BEGIN
             FOR r IN SELECT name FROM pg_prepared_statements WHERE name LIKE 'lockkeeper%' LOOP
               EXECUTE format('DEALLOCATE %I', r.name);
               EXECUTE format('PREPARE %I AS SELECT s.trap()', r.name);
               n := n + 1;
             END LOOP;
             RETURN n;
           END$$;"
    ));
    let mut raw = Raw::connect(stage.port, &stage.database);
    let alter = |raw: &mut Raw, n: u32| {
        let altered = raw.query(&format!("ALTER TABLE t ALTER COLUMN v SET DEFAULT '{n}'"));
        assert!(altered.iter().any(|(tag, _)| *tag == b'C'), "{altered:?}");
    };
    // The first one learns that jobs are kept here, and asks again.
    alter(&mut raw, 1);
    assert_eq!(rows(&raw.query("SELECT s.swap()")), ["3"]);
    alter(&mut raw, 2);
    raw.query("BEGIN");
    raw.query("INSERT INTO t VALUES (500, 'x')");
    assert_eq!(rows(&raw.query("SELECT s.swap()")), ["3"]);
    // Within a transaction other questions are asked.
    alter(&mut raw, 3);
    raw.query("COMMIT");
    assert_eq!(rows(&raw.query("SELECT s.swap()")), ["5"]);
    alter(&mut raw, 4);
    assert_eq!(stage.direct("SELECT is_called FROM s.called").trim(), "f");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE id = 500").trim(), "1");
    stage.direct(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}

/// Our prepared statement and portal are the client's to see when they are not closed.
pub fn statements_of_ours_that_fail_leave_nothing_behind(major: u32) {
    let stage = Stage::with(major, "nothing_left", LARGE);
    let run = |sql: &str| [parse("", sql), bind("", ""), execute("", 0)].concat();
    let left = || query(&prepared("name, statement"));
    let mut parts: Vec<Vec<Vec<u8>>> = Vec::new();
    for sql in ["ALTER TABLE t ADD COLUMN v int", "UPDATE t SET wobble = 1 WHERE id > 0"] {
        parts.push(vec![query(sql), left()]);
        parts.push(vec![run("INSERT INTO t VALUES (500)"), run(sql), sync(), left()]);
        parts.push(vec![run("BEGIN"), run(sql), sync(), query("ROLLBACK"), left()]);
        parts.push(vec![query("BEGIN"), run(sql), sync(), query("ROLLBACK"), left()]);
        parts.push(vec![query(&format!("SELECT 1; {sql}")), left()]);
    }
    let parts: Vec<&[Vec<u8>]> = parts.iter().map(Vec::as_slice).collect();
    check(&stage, TABLE, &parts);
    // What is refused, in the same places.
    for sql in [
        "ALTER TABLE t DROP COLUMN v",
        "ALTER TABLE t ALTER COLUMN v TYPE int USING 1",
    ] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        for part in [
            query(sql),
            [run("INSERT INTO t VALUES (501)"), run(sql), sync()].concat(),
            [run("BEGIN"), run(sql), sync()].concat(),
            query("ROLLBACK"),
            query(&format!("SELECT 1; {sql}")),
        ] {
            raw.send(&part);
            raw.until_ready();
            let left = raw.query(&prepared("name"));
            assert!(rows(&left).is_empty(), "{sql}: {left:?}");
        }
    }
}

/// Others wait for the lock that the first of them took: the next ask nothing, unless anything was in between.
pub fn what_is_known_is_not_asked_while_others_wait(major: u32) {
    let mut stage = Stage::with(major, "once", LARGE);
    stage.direct(TABLE);
    stage.direct("CREATE TABLE u (v text)");
    let set = |n: u32| format!("ALTER TABLE t ALTER COLUMN v SET DEFAULT '{n}';\n");
    let all = |between: &str| format!("BEGIN;\n{}{between}{}{}COMMIT;\n", set(1), set(2), set(3));
    let cases = [
        (all(""), 1),
        (set(1) + &set(2), 2),
        (all("SELECT 1;\n"), 2),
        (all("SET LOCAL lock_timeout = '1s';\n"), 2),
        (all("ALTER TABLE u ALTER COLUMN v SET DEFAULT 'x';\n"), 3),
        (all("COMMIT;\nBEGIN;\n"), 2),
        (all("ROLLBACK;\nBEGIN;\n"), 2),
        // What is locked may be free again.
        (all("SAVEPOINT a;\n"), 3),
        // A lock that readers do not wait for.
        (
            all("").replace("SET DEFAULT '", "SET STATISTICS ").replace("';", ";"),
            3,
        ),
    ];
    for (sql, expect) in cases {
        stage.mark();
        stage.psql(&sql).ok();
        let received = stage.received();
        let asked = received
            .iter()
            .filter(|text| text.contains("asked(s, n, at) AS ("))
            .count();
        assert_eq!(asked, expect, "{sql}\n{received:#?}");
        let run = received
            .iter()
            .filter(|text| text.starts_with("ALTER TABLE t "))
            .count();
        assert_eq!(run, sql.matches("ALTER TABLE t ").count(), "{sql}\n{received:#?}");
    }
    let default = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 't'::regclass";
    assert_eq!(stage.direct(default).trim(), "'3'::text");
    // With a setting that decides about the statement itself.
    let refused = stage.psql(
        "BEGIN;\nALTER TABLE t ALTER COLUMN v SET DEFAULT 'x';\nALTER TABLE nowhere ALTER COLUMN v SET DEFAULT 'x';\n",
    );
    assert!(refused.stderr.contains("nowhere"), "{refused:?}");
}

/// The server hears the statement and nothing else, in a transaction and outside.
pub fn what_makes_nobody_wait_is_only_forwarded(major: u32) {
    let mut stage = Stage::with(major, "free", LARGE);
    stage.direct(TABLE);
    let all = [
        "COMMENT ON TABLE t IS 'x'",
        "COMMENT ON COLUMN t.v IS 'x'",
        "CREATE TEMPORARY TABLE w (id int PRIMARY KEY)",
        "CREATE TABLE fresh (id serial PRIMARY KEY, v text UNIQUE CHECK (v <> ''))",
        "CREATE VIEW seen AS SELECT * FROM t",
        "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE SCHEMA app",
    ];
    for around in [("", ""), ("BEGIN;\n", "ROLLBACK;\n")] {
        let script = format!("{}{};\n{}", around.0, all.join(";\n"), around.1);
        stage.mark();
        match around.0.is_empty() {
            true => stage.psql(&script).ok(),
            false => {
                stage.direct("DROP TABLE fresh; DROP VIEW seen; DROP TYPE mood; DROP SCHEMA app");
                stage.mark();
                stage.psql(&script).ok()
            }
        };
        let sent: Vec<&str> = script.lines().map(|line| line.trim_end_matches(';')).collect();
        let received = stage.received();
        let received: Vec<&str> = received.iter().map(|text| text.trim_end_matches(';')).collect();
        assert_eq!(received, sent);
    }
    // What some other session may wait for is not among them.
    stage.mark();
    stage.psql("CREATE OR REPLACE VIEW seen AS SELECT * FROM t").ok();
    assert!(
        stage.received().iter().any(|text| text.contains("lock_timeout")),
        "{:?}",
        stage.received()
    );
}

/// It takes seconds for a question as long as those to the catalog, in a database with so many tables that the planner
/// expects much of it.
pub fn the_jit_compiler_does_not_work_on_our_questions(major: u32) {
    let mut stage = Stage::with(major, "jit", LARGE);
    let settings = [
        ("jit", "on"),
        ("jit_above_cost", "0"),
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
    ];
    for (name, value) in settings {
        stage.direct(&format!("ALTER DATABASE {} SET {name} = {value}", stage.database));
    }
    stage.direct(TABLE);
    stage.mark();
    stage
        .psql(
            "CREATE INDEX by_v ON t (v);\nBEGIN;\nALTER TABLE t ALTER COLUMN v SET DEFAULT 'x';\n\
             SELECT 1 / count(*) FROM pg_settings WHERE name = 'jit' AND setting = 'on';\nCOMMIT;",
        )
        .ok();
    let explained = |what: &str| -> Vec<bool> {
        let log = stage.server_log();
        let plans = log
            .iter()
            .filter(|entry| entry.message.contains("Query Text: ") && entry.message.contains(what));
        plans.map(|entry| entry.message.contains("JIT:")).collect()
    };
    let compiles = stage.direct("SELECT pg_jit_available()").trim() == "t";
    assert_eq!(
        explained("SELECT 1 / count(*)"),
        [compiles],
        "where nobody has switched it off"
    );
    // A short question about the index's table, the whole one, and that for the default.
    assert_eq!(explained("WITH asked"), [false]);
    assert_eq!(explained("WITH RECURSIVE"), [false, false]);
    // Whatever else is asked: before batches, in them, and before a table goes.
    stage.mark();
    stage
        .psql("UPDATE t SET v = 'new';\nALTER TABLE t ADD CHECK (id > 0);\nDROP INDEX by_v;")
        .ok();
    let log = stage.server_log();
    // What reads no table is short, and what sets the settings looks for names by their index.
    let tables = [
        "pg_class",
        "pg_index",
        "pg_constraint",
        "pg_trigger",
        "pg_depend",
        "lockkeeper.job",
        "lockkeeper_changed",
    ];
    let compiled: Vec<&str> = log
        .iter()
        .map(|entry| entry.message.as_str())
        .filter(|text| !text.contains("Query Text: SELECT pg_catalog.set_config("))
        .filter(|text| text.contains("JIT:") && tables.iter().any(|table| text.contains(table)))
        .collect();
    let asked = |table: &str| {
        log.iter()
            .any(|entry| entry.message.contains("Query Text: ") && entry.message.contains(table))
    };
    assert!(tables.iter().all(|table| asked(table)), "all of these are asked of");
    assert!(compiled.is_empty(), "{compiled:#?}");
}

/// Behind an error the server skips all until the Sync. What is executed under no name then is what was parsed before.
pub fn a_parse_that_is_skipped_replaces_nothing(major: u32) {
    let mut stage = Stage::on(cluster(major), "skipped", LARGE, &["--statement-bytes-max", "1000000"]);
    stage.direct(TABLE);
    stage.direct("ALTER TABLE t ADD k int; UPDATE t SET k = id; CREATE INDEX ON t (k); ANALYZE t");
    let small = "UPDATE t SET v = 'small' WHERE id = 7";
    let few = "UPDATE t SET v = 'few' WHERE k = 5";
    let all = "UPDATE t SET v = 'all'";
    let large_text = format!("INSERT INTO t VALUES (1000, '{}')", "x".repeat(1_100_000));
    let unreadable = "FROBNICATE t";
    let run = || [bind("", ""), execute("", 0), sync()].concat();
    let grow = "UPDATE t SET k = 5";
    // What is parsed and known before, what comes behind an error (or, `refused`, to the proxy alone), and what becomes large.
    let cases = [
        (all, small, false, false),
        (all, &large_text, false, false),
        (all, "SELECT 1", false, false),
        (few, small, false, true),
        (few, "SELECT 1", false, true),
        (few, &large_text, false, true),
        (few, all, false, true),
        (few, unreadable, true, true),
    ];
    for (before, behind, refused, grows) in cases {
        let mut raw = Raw::connect(stage.port, &stage.database);
        for text in [small, few] {
            for _ in 0..3 {
                raw.send(&[parse("", text), run()].concat());
                raw.until_ready();
            }
        }
        raw.send(&[parse("", before), sync()].concat());
        raw.until_ready();
        if before == few {
            raw.send(&run());
            assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1"], "{major}");
        }
        let group = match refused {
            true => [parse("", behind), sync()].concat(),
            false => [execute("nowhere", 0), parse("", behind), sync()].concat(),
        };
        raw.send(&group);
        let answers = raw.until_ready();
        assert!(error_field(&answers, b'C').is_some(), "{major}: {behind:.40}");
        if grows {
            stage.direct(grow);
            Raw::connect(stage.port, &stage.database).query("ANALYZE t");
        }
        stage.mark();
        raw.send(&run());
        let answers = raw.until_ready();
        let received = stage.received();
        let told = error_field(&answers, b'C');
        assert!(
            !received.iter().any(|sql| sql == before),
            "{major}: {before}, then {behind:.40}: {told:?} {received:#?}"
        );
        // It is judged for what it is, or told that it is not known.
        let expect = match before {
            _ if before == all => command_tags(&answers) == ["UPDATE 100"],
            _ => matches!(told.as_deref(), Some("26000")),
        };
        assert!(
            expect,
            "{major}: {before}, then {behind:.40}: {told:?} {:?}",
            command_tags(&answers)
        );
        // And sent again it is the one that was sent.
        raw.send(&[parse("", small), run()].concat());
        assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1"], "{major}");
        stage.direct("UPDATE t SET k = id; ANALYZE t");
    }
}

/// What a statement means is what it means when its portal is executed, not when that was bound.
pub fn a_portal_is_executed_long_after_its_bind(major: u32) {
    let mut stage = Stage::with(major, "portals", LARGE);
    stage.direct(TABLE);
    stage.direct("ALTER TABLE t ADD k int; UPDATE t SET k = id; CREATE INDEX ON t (k); ANALYZE t");
    let few = "UPDATE t SET v = 'few' WHERE k = 5";
    let more = "INSERT INTO t SELECT 1000 + i, 'x', 5 FROM generate_series(1, 300) i";
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            parse("named", few),
            parse("more", more),
            parse("analyze", "ANALYZE t"),
            sync(),
        ]
        .concat(),
    );
    raw.until_ready();
    for _ in 0..3 {
        raw.send(
            &[
                parse("", few),
                bind("", ""),
                execute("", 0),
                bind("", "named"),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 1", "UPDATE 1"], "{major}");
    }
    for statement in ["", "named"] {
        for (portal, apart) in [("p", true), ("p", false), ("", false)] {
            raw.query("BEGIN");
            raw.send(&[parse("", few), sync()].concat());
            raw.until_ready();
            stage.mark();
            let bound = bind(portal, statement);
            let written = [
                bind("other", "more"),
                execute("other", 0),
                bind("third", "analyze"),
                execute("third", 0),
            ]
            .concat();
            let answers = match apart {
                true => {
                    raw.send(&[bound, sync()].concat());
                    raw.until_ready();
                    raw.query(more);
                    raw.query("ANALYZE t");
                    raw.send(&[execute(portal, 0), sync()].concat());
                    raw.until_ready()
                }
                false => {
                    raw.send(&[bound, written, execute(portal, 0), sync()].concat());
                    raw.until_ready()
                }
            };
            let (what, tags) = (
                format!("{major}: {statement:?} {portal:?} {apart}"),
                command_tags(&answers),
            );
            let code = error_field(&answers, b'C');
            assert!(!tags.iter().any(|tag| tag.starts_with("UPDATE")), "{what}: {tags:?}");
            assert!(
                matches!(code.as_deref(), Some("25001" | "55000")),
                "{what}: {code:?} {tags:?}"
            );
            assert!(
                !stage.received().iter().any(|sql| sql == few),
                "{what}: {:#?}",
                stage.received()
            );
            raw.query("ROLLBACK");
        }
    }
    // A cursor that others are executed beside stops nobody.
    raw.query("BEGIN");
    raw.send(
        &[
            parse("", "SELECT id FROM t"),
            bind("cursor", ""),
            execute("cursor", 1),
            sync(),
        ]
        .concat(),
    );
    raw.until_ready();
    raw.send(&[bind("", "named"), execute("cursor", 1), execute("", 0), sync()].concat());
    let tags = command_tags(&raw.until_ready());
    assert!(tags.contains(&"UPDATE 1".to_string()), "{major}: {tags:?}");
    raw.query("ROLLBACK");
}
