//! What a hostile client, or only an unlucky order of messages, does to get past the judge or to confuse the session: the
//! server tells whether it succeeded.

use lockkeeper_testkit::raw::{
    Message, Raw, bind, c, close, command_tags, describe, error_field, execute, frame, parse, rows, status, sync,
};
use lockkeeper_testkit::{MAJOR, Stage};

/// Small tables count as large, and nothing sleeps.
const LARGE: &str = "extends = \"standard\"\n\n[table]\nsmall_bytes = 0\n\n[backfill]\npause_ms = 1\nrows_max = 100\nbatch_rows = 33\nbatch_target_ms = 0\n";
const USERS: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, email text); \
                     INSERT INTO users SELECT i, 'n' || i, 'e' || i FROM generate_series(1, 1000) i; ANALYZE users";

fn stage(name: &str) -> Stage {
    let stage = Stage::with(MAJOR, name, LARGE);
    stage.direct(USERS);
    stage
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c(sql))
}

/// Parse, Bind and Execute with the unnamed statement and portal.
fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", ""), execute("", 0)].concat()
}

fn play(stage: &Stage, parts: &[Vec<u8>]) -> Vec<Vec<Message>> {
    let mut raw = Raw::connect(stage.port, &stage.database);
    parts
        .iter()
        .map(|part| {
            raw.send(part);
            raw.until_ready()
        })
        .collect()
}

#[track_caller]
fn name_is_there(stage: &Stage) {
    let column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'name'";
    assert_eq!(stage.direct(column).trim(), "1", "users.name was dropped");
}

const DROP: &str = "ALTER TABLE users DROP COLUMN name";

#[test]
fn a_rollback_in_the_pipeline_does_not_open_the_gate() {
    let stage = stage("rollback_pipe");
    let answers = play(
        &stage,
        &[
            query("BEGIN"),
            query("SELECT 1/0"),
            [run("ROLLBACK"), run(DROP), sync()].concat(),
            query("SELECT 5"),
        ],
    );
    assert_eq!(error_field(&answers[2], b'C').as_deref(), Some("55000"));
    assert_eq!(status(&answers[2]), Some('I'));
    assert_eq!(rows(&answers[3]), ["5"]);
    name_is_there(&stage);
    // Back to a savepoint, the block goes on: what is refused in it must fail on the server too.
    let answers = play(
        &stage,
        &[
            query("BEGIN; INSERT INTO users VALUES (5000); SAVEPOINT s"),
            query("SELECT 1/0"),
            [run("ROLLBACK TO SAVEPOINT s"), run(DROP), sync()].concat(),
            query("COMMIT"),
        ],
    );
    assert_eq!(error_field(&answers[2], b'C').as_deref(), Some("55000"));
    assert_eq!(status(&answers[2]), Some('E'));
    assert_eq!(command_tags(&answers[3]), ["ROLLBACK"]);
    assert_eq!(stage.direct("SELECT count(*) FROM users WHERE id = 5000").trim(), "0");
    name_is_there(&stage);
}

#[test]
fn a_portal_outlives_its_statement_and_is_judged_all_the_same() {
    let stage = stage("portal");
    for replace in [
        parse("", "SELECT 1"),
        close(b'S', ""),
        parse("", "INSERT INTO users VALUES (0)"),
    ] {
        let answers = play(
            &stage,
            &[[parse("", DROP), bind("p", ""), replace, execute("p", 0), sync()].concat()],
        );
        assert_eq!(error_field(&answers[0], b'C').as_deref(), Some("55000"), "{answers:?}");
        name_is_there(&stage);
    }
    // One that is let through runs as the statement that it was bound to.
    let answers = play(
        &stage,
        &[[
            parse("", "ALTER TABLE users ADD COLUMN more int"),
            bind("p", ""),
            parse("", "SELECT 1"),
            execute("p", 0),
            sync(),
        ]
        .concat()],
    );
    assert_eq!(command_tags(&answers[0]), ["ALTER TABLE"], "{answers:?}");
    // A point UPDATE is forwarded, so that the portal itself is executed.
    let update = "UPDATE users SET email = 'new' WHERE id = 7";
    let answers = play(
        &stage,
        &[[
            parse("", update),
            bind("p", ""),
            parse("", "SELECT 1"),
            execute("p", 0),
            sync(),
        ]
        .concat()],
    );
    assert_eq!(command_tags(&answers[0]), ["UPDATE 1"], "{answers:?}");
    assert_eq!(
        stage.direct("SELECT count(*) FROM users WHERE email = 'new'").trim(),
        "1"
    );
}

#[test]
fn execute_in_sql_does_not_run_what_was_prepared_over_the_protocol() {
    let stage = stage("sql_execute");
    for how in ["EXECUTE s", "SELECT 1; EXECUTE s", "/* x */ execute \"s\";"] {
        let answers = play(
            &stage,
            &[[parse("s", DROP), sync()].concat(), query(how), query("SELECT 1")],
        );
        assert!(error_field(&answers[1], b'C').is_some(), "{how}: {answers:?}");
        assert_eq!(status(&answers[1]), Some('I'));
        assert_eq!(rows(&answers[2]), ["1"]);
        name_is_there(&stage);
        let extended = [run(how), sync()].concat();
        play(&stage, &[[parse("s", DROP), sync()].concat(), extended]);
        name_is_there(&stage);
        // Nor where only the server knows what else is prepared.
        let answers = play(
            &stage,
            &[
                query("DO $$ BEGIN EXECUTE 'PREPARE ' || 'other AS SELECT 1'; END $$"),
                [parse("s", DROP), sync()].concat(),
                query(how),
            ],
        );
        assert_eq!(
            error_field(&answers[2], b'C').as_deref(),
            Some("0A000"),
            "{how}: {answers:?}"
        );
        name_is_there(&stage);
    }
}

#[test]
fn a_name_that_was_deallocated_in_sql_means_the_new_statement() {
    let stage = stage("deallocate");
    for forget in [
        "DEALLOCATE s",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "DEALLOCATE PREPARE \"s\"",
    ] {
        let answers = play(
            &stage,
            &[
                [parse("s", "ALTER TABLE users ADD COLUMN surprise int"), sync()].concat(),
                query(forget),
                query("PREPARE s AS SELECT 42"),
                [bind("", "s"), execute("", 0), sync()].concat(),
            ],
        );
        assert_eq!(rows(&answers[3]), ["42"], "{forget}: {:?}", answers[3]);
    }
    let added = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'surprise'";
    assert_eq!(stage.direct(added).trim(), "0");
}

#[test]
fn what_a_suspended_portal_did_is_not_committed_before_its_time() {
    let stage = stage("suspended");
    let answers = play(
        &stage,
        &[[
            parse(
                "",
                "INSERT INTO users SELECT i FROM generate_series(6000, 6009) i RETURNING id",
            ),
            bind("", ""),
            execute("", 3),
            parse("a", "ALTER TABLE users ADD COLUMN more int"),
            bind("a", "a"),
            execute("a", 0),
            run("SELECT 1/0"),
            sync(),
        ]
        .concat()],
    );
    assert_eq!(error_field(&answers[0], b'C').as_deref(), Some("22012"), "{answers:?}");
    assert_eq!(stage.direct("SELECT count(*) FROM users WHERE id >= 6000").trim(), "0");
    let added = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'more'";
    assert_eq!(stage.direct(added).trim(), "0");
}

#[test]
fn commit_and_chain_in_a_pipeline_leaves_a_block_open() {
    let stage = stage("chain");
    let answers = play(
        &stage,
        &[
            query("BEGIN"),
            [
                run("COMMIT AND CHAIN"),
                run("ALTER TABLE users ADD COLUMN more int"),
                sync(),
            ]
            .concat(),
            query("SHOW lock_timeout"),
            query("ROLLBACK"),
            query("BEGIN"),
            [
                run("COMMIT AND CHAIN"),
                run("CREATE INDEX by_name ON users (name)"),
                sync(),
            ]
            .concat(),
            query("ROLLBACK"),
        ],
    );
    assert_eq!(command_tags(&answers[1]), ["COMMIT", "ALTER TABLE"], "{answers:?}");
    assert_eq!(status(&answers[1]), Some('T'));
    assert_eq!(rows(&answers[2]), ["0"], "lock_timeout");
    // Left for after the COMMIT that never comes, as in any block.
    assert_eq!(command_tags(&answers[5]), ["COMMIT", "CREATE INDEX"], "{answers:?}");
    assert_eq!(status(&answers[5]), Some('T'));
    let added = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'more'";
    assert_eq!(stage.direct(added).trim(), "0");
    let left = "SELECT to_regclass('by_name') IS NULL AND to_regclass('lockkeeper.job') IS NULL";
    assert_eq!(stage.direct(left).trim(), "t");
}

#[test]
fn a_shape_is_forgotten_when_its_table_may_be_another() {
    let stage = stage("shapes");
    stage.direct(
        "CREATE SCHEMA other; CREATE TABLE other.users (id int, k int PRIMARY KEY, name text); \
         INSERT INTO other.users SELECT 7, i, 'n' FROM generate_series(1, 1000) i; ANALYZE other.users",
    );
    let update = "UPDATE users SET name = 'x' WHERE id = 7";
    for (change, back) in [
        ("SET search_path = other", "RESET search_path"),
        ("SELECT set_config('search_path', 'other', false)", "RESET ALL"),
    ] {
        let answers = play(
            &stage,
            &[
                query(update),
                query(update),
                query(change),
                query(update),
                query(back),
                query(update),
            ],
        );
        assert_eq!(command_tags(&answers[1]), ["UPDATE 1"]);
        assert_eq!(command_tags(&answers[3]), ["UPDATE 1000"]);
        assert_eq!(command_tags(&answers[5]), ["UPDATE 1"]);
    }
    assert_eq!(in_batches(&stage), 2);
    // SET LOCAL ends with its transaction.
    let answers = play(
        &stage,
        &[
            query("BEGIN"),
            query("SET LOCAL search_path = public"),
            query(update),
            query("COMMIT"),
            query("SHOW search_path"),
        ],
    );
    assert_eq!(command_tags(&answers[2]), ["UPDATE 1"]);
    let answers = play(
        &stage,
        &[
            query("SET search_path = other"),
            query("BEGIN"),
            query("SET LOCAL search_path = public"),
            query(update),
            query("COMMIT"),
            query(update),
        ],
    );
    assert_eq!(command_tags(&answers[3]), ["UPDATE 1"]);
    assert_eq!(command_tags(&answers[5]), ["UPDATE 1000"]);
    assert_eq!(in_batches(&stage), 3);
    // A temporary table hides the real one only until it is gone.
    let answers = play(
        &stage,
        &[
            query("CREATE TEMP TABLE hider (id int PRIMARY KEY, name text)"),
            query("INSERT INTO hider VALUES (7, 'n'); ALTER TABLE hider RENAME TO users"),
            query("UPDATE users SET name = 'y' WHERE id > 0"),
            query("DROP TABLE users"),
            query("UPDATE users SET name = 'z' WHERE id > 0"),
        ],
    );
    assert_eq!(command_tags(&answers[2]), ["UPDATE 1"], "{answers:?}");
    assert_eq!(command_tags(&answers[4]), ["UPDATE 1000"], "{answers:?}");
    assert_eq!(in_batches(&stage), 4);
}

/// How many statements the audit log says were carried out in steps.
fn in_batches(stage: &Stage) -> usize {
    let lines = stage.audit_lines();
    lines
        .iter()
        .filter(|line| line["event"] == "statement" && line["action"] == "rewrite")
        .count()
}

#[test]
fn a_script_s_text_keeps_the_meaning_that_it_had_as_a_whole() {
    let stage = stage("script_meaning");
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    stage.direct_args(&["-d", &copy, "-q"], USERS).ok();
    let scripts = [
        r"SET standard_conforming_strings = off; ALTER TABLE users ADD COLUMN x1 int; INSERT INTO users VALUES (2001, 'a\\b')",
        r"SET standard_conforming_strings = on; ALTER TABLE users ADD COLUMN x2 int; INSERT INTO users VALUES (2002, 'a\\b')",
        "SET client_encoding = 'LATIN1'; ALTER TABLE users ADD COLUMN x3 int; INSERT INTO users VALUES (2003, '\u{e9}')",
    ];
    for script in scripts {
        let mut direct = Raw::connect(stage.cluster.port(), &copy);
        direct.query(script);
        let answer = play(&stage, &[query(script)]);
        let held = "SELECT coalesce(string_agg(name, ',' ORDER BY id), 'none') FROM users WHERE id = (SELECT max(id) FROM users WHERE id > 2000)";
        let there = stage.direct(held);
        let expected = stage.direct_args(&["-d", &copy, "-A", "-t", "-c", held], "").ok();
        if error_field(&answer[0], b'C').is_none() {
            assert_eq!(there.trim(), expected.trim(), "{script}");
        } else {
            // Refused: nothing of it is left.
            assert!(
                !stage.schema().contains("column x1") && !stage.schema().contains("column x3"),
                "{script}: {answer:?}"
            );
        }
    }
}

#[test]
fn statements_that_no_transaction_takes_run_as_they_would_directly() {
    let stage = Stage::with(MAJOR, "no_transaction", "extends = \"standard\"\n");
    let setup = "CREATE TABLE p (id int, v int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); CREATE INDEX p_v ON p (v); CREATE INDEX p_id ON p (id); \
         CREATE TABLE s (id int PRIMARY KEY, v int); CREATE INDEX s_v ON s (v); CREATE TYPE mood AS ENUM ('a'); \
         CREATE MATERIALIZED VIEW m AS SELECT * FROM s; CREATE UNIQUE INDEX m_id ON m (id)";
    stage.direct(setup);
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    stage.direct_args(&["-d", &copy, "-q"], setup).ok();
    let mut direct = Raw::connect(stage.cluster.port(), &copy);
    let mut proxied = Raw::connect(stage.port, &stage.database);
    for sql in [
        "VACUUM FULL s",
        "VACUUM (FULL, ANALYZE) s",
        "CLUSTER s USING s_v",
        "CLUSTER p USING p_id",
        "REINDEX TABLE s",
        "REINDEX INDEX s_v",
        "REINDEX TABLE p",
        "REINDEX INDEX p_v",
        "REINDEX SCHEMA public",
        "REINDEX TABLE CONCURRENTLY p",
        "DROP INDEX CONCURRENTLY s_v",
        "CREATE INDEX CONCURRENTLY s_v ON s (v)",
        "ALTER TABLE p DETACH PARTITION p2 CONCURRENTLY",
        "ALTER TYPE mood ADD VALUE 'b'",
        "REFRESH MATERIALIZED VIEW m",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
        "CREATE PUBLICATION pub FOR ALL TABLES",
        "ALTER PUBLICATION pub SET (publish = 'insert')",
        "DROP PUBLICATION pub",
        "COMMENT ON DATABASE postgres IS 'x'",
        "CREATE STATISTICS st ON id, v FROM s",
        "DROP STATISTICS st",
        "ALTER SEQUENCE IF EXISTS nothing RESTART",
        "DROP INDEX p_v",
        "DROP OWNED BY pg_monitor",
        "CREATE INDEX ON p (v)",
        "ALTER TABLE s ADD COLUMN \"We\"\"ird é\" int",
        "CREATE INDEX ON s (\"We\"\"ird é\")",
        "CREATE VIEW vw AS SELECT * FROM s",
        "CREATE OR REPLACE VIEW vw AS SELECT *, 1 AS one FROM s",
        "DROP VIEW vw",
    ] {
        let (expected, got) = (direct.query(sql), proxied.query(sql));
        assert_eq!(
            (command_tags(&got), error_field(&got, b'C')),
            (command_tags(&expected), error_field(&expected, b'C')),
            "{sql}: {:?}",
            error_field(&got, b'M')
        );
    }
    let held = "SELECT string_agg(relname || ' ' || relkind::text, ',' ORDER BY relname) FROM pg_class \
                WHERE oid > 16384 AND relname !~ 'toast'";
    let expected = stage.direct_args(&["-d", &copy, "-A", "-t", "-c", held], "").ok();
    assert_eq!(stage.direct(held).trim(), expected.trim());
}

#[test]
fn large_writes_on_trees_of_tables_change_what_they_would_directly() {
    let stage = stage("trees");
    let setup = "CREATE TABLE kid () INHERITS (users); INSERT INTO kid SELECT i, 'k', 'k' FROM generate_series(1, 500) i; \
         CREATE VIEW every AS SELECT * FROM users; ANALYZE";
    stage.direct(setup);
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    stage
        .direct_args(&["-d", &copy, "-q"], &format!("{USERS};{setup}"))
        .ok();
    let mut direct = Raw::connect(stage.cluster.port(), &copy);
    let mut proxied = Raw::connect(stage.port, &stage.database);
    for sql in [
        "UPDATE users SET name = 'x1' WHERE name <> 'x1'",
        "UPDATE ONLY users SET name = 'x2' WHERE name <> 'x2'",
        "UPDATE users AS \"U u\" SET name = 'x3' WHERE \"U u\".name <> 'x3'",
        "UPDATE every SET name = 'x4' WHERE name <> 'x4'",
        "DELETE FROM ONLY users WHERE id > 900",
        "DELETE FROM users WHERE id > 300",
        "UPDATE users SET name = 'l' WHERE name <> 'l' RETURNING id",
    ] {
        let (expected, got) = (direct.query(sql), proxied.query(sql));
        // A refusal is safe too; a wrong count is not.
        if error_field(&got, b'C').is_none() {
            assert_eq!(command_tags(&got), command_tags(&expected), "{sql}");
        } else {
            println!("{sql}: {:?} {:?}", error_field(&got, b'M'), error_field(&got, b'H'));
            let again = stage.direct(sql);
            drop(again);
        }
        let held = "SELECT md5(string_agg(tableoid::regclass || ' ' || id || name, ',' ORDER BY tableoid::regclass::text, id)) FROM users";
        let expected = stage.direct_args(&["-d", &copy, "-A", "-t", "-c", held], "").ok();
        assert_eq!(stage.direct(held).trim(), expected.trim(), "{sql}");
    }
}

#[test]
fn a_script_ends_at_an_error_of_any_length() {
    let stage = stage("long_error");
    let script = "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 100000); END $$; ALTER TABLE users ADD COLUMN more int";
    let answers = play(&stage, &[query(script), query("SELECT 1")]);
    assert_eq!(answers[0].iter().filter(|(tag, _)| *tag == b'E').count(), 1);
    assert_eq!(status(&answers[0]), Some('I'));
    assert_eq!(rows(&answers[1]), ["1"]);
}

/// Two deployments that run the same migration at once: it is there once, as it should be, with nothing left over.
#[test]
fn the_same_change_from_two_sessions_at_once_ends_as_one() {
    for major in [15, 18] {
        let stage = Stage::with(major, "twice", LARGE);
        stage.direct(USERS);
        stage.direct("CREATE TABLE orders (id int PRIMARY KEY, user_id int); INSERT INTO orders SELECT i, i FROM generate_series(1, 1000) i; ANALYZE orders");
        let single = format!("{}_single", stage.database);
        stage.create_database(&single);
        let setup = format!("{USERS}; CREATE TABLE orders (id int PRIMARY KEY, user_id int)");
        stage.direct_args(&["-d", &single, "-q"], &setup).ok();
        for sql in [
            "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
            "CREATE INDEX users_name ON users (name)",
            "CREATE UNIQUE INDEX IF NOT EXISTS users_email ON users (email)",
            "ALTER TABLE orders ADD CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users",
            "ALTER TABLE users ADD CONSTRAINT long_name CHECK (length(name) < 100)",
            "ALTER TABLE users ADD COLUMN uid uuid DEFAULT gen_random_uuid()",
            "ALTER TABLE users ADD COLUMN number serial",
            "ALTER TABLE orders ADD CONSTRAINT orders_key UNIQUE (user_id)",
            "UPDATE users SET email = 'same' WHERE email <> 'same' AND id < 0",
        ] {
            let results: Vec<Vec<Message>> = std::thread::scope(|scope| {
                let players: Vec<_> = (0..2)
                    .map(|_| scope.spawn(|| Raw::connect(stage.port, &stage.database).query(sql)))
                    .collect();
                players.into_iter().map(|player| player.join().unwrap()).collect()
            });
            let told: Vec<_> = results
                .iter()
                .map(|r| (command_tags(r), error_field(r, b'M'), error_field(r, b'D')))
                .collect();
            assert!(
                told.iter().any(|(tags, ..)| !tags.is_empty()),
                "{major} {sql}: {told:?}"
            );
            // What both would be told at the server itself.
            if sql.contains("SET NOT NULL") || sql.contains("IF NOT EXISTS") {
                assert!(
                    told.iter().all(|(tags, ..)| !tags.is_empty()),
                    "{major} {sql}: {told:?}"
                );
            }
            stage
                .direct_args(&["-d", &single, "-q", "-v", "ON_ERROR_STOP=1"], sql)
                .ok();
            let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
            assert_eq!(stage.direct(invalid).trim(), "0", "{major} {sql}: {told:?}");
        }
        let schema = stage.schema();
        let database = stage.database.clone();
        let mut other = Stage::without_proxy(stage.cluster, "unused");
        other.database = single;
        assert_eq!(schema, other.schema(), "{major} {database}");
    }
}

/// With standard_conforming_strings off, the server reads a backslash in a plain string in a way that no rewrite is safe for.
#[test]
fn what_cannot_be_read_is_warned_of_or_refused_and_audited() {
    let create = "CREATE VIEW odd AS SELECT 'a\\'b' AS c";
    for (unparsed, tag) in [
        ("warn", Some("CREATE VIEW")),
        ("reject", None),
        ("allow", Some("CREATE VIEW")),
    ] {
        let policy = format!("extends = \"standard\"\n\n[defaults]\nunparsed = \"{unparsed}\"\n");
        let stage = Stage::with(MAJOR, "unparsed", &policy);
        let setting = query("SET standard_conforming_strings = off");
        let drop = query("DO 'BEGIN DROP VIEW IF EXISTS odd; END'");
        let answers = play(&stage, &[setting, query(create), drop, [run(create), sync()].concat()]);
        for answer in [&answers[1], &answers[3]] {
            assert_eq!(
                command_tags(answer).first().map(String::as_str),
                tag,
                "{unparsed}: {answer:?}"
            );
            let told = answer
                .iter()
                .filter(|(tag, body)| *tag == b'N' && String::from_utf8_lossy(body).contains("unparsed"));
            assert_eq!(told.count(), usize::from(unparsed == "warn"));
            assert_eq!(status(answer), Some('I'));
        }
        let mut lines = stage.audit_lines();
        // The schema change within the DO block is judged, too.
        lines.retain(|line| line["statement"] == create);
        // What runs as it was written is announced before, as everything that runs.
        let announced = lines.iter().filter(|line| line["event"] == "planned").count();
        assert_eq!(announced, if unparsed == "warn" { 2 } else { 0 }, "{unparsed}");
        let ends = lines.iter().filter(|line| line["event"] == "statement");
        let actions: Vec<_> = ends
            .map(|line| (line["action"].as_str(), line["outcome"].as_str()))
            .collect();
        let expected = match unparsed {
            "warn" => vec![(Some("warn"), Some("warned")); 2],
            "reject" => vec![(Some("reject"), Some("rejected")); 2],
            _ => Vec::new(),
        };
        assert_eq!(actions, expected, "{unparsed}");
    }
}

/// A named portal waits for its Execute, and FETCH knows it by its name.
#[test]
fn a_portal_is_not_fetched_before_it_is_judged() {
    let stage = stage("fetch");
    let whole = [
        "DELETE FROM users RETURNING id",
        "WITH gone AS (DELETE FROM users) SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM users",
        "UPDATE users SET name = 'x' RETURNING id",
    ];
    let fetches = [
        "FETCH ALL FROM p",
        "MOVE FORWARD ALL IN p",
        "DO $$ DECLARE c refcursor := 'p'; BEGIN MOVE FORWARD ALL IN c; END $$",
    ];
    for sql in whole {
        for fetch in fetches {
            let answers = play(
                &stage,
                &[
                    query("BEGIN"),
                    [parse("s", sql), bind("p", "s"), describe(b'P', "p"), sync()].concat(),
                    query(fetch),
                    query("COMMIT"),
                    [
                        parse("f", fetch),
                        parse("t", sql),
                        bind("p", "t"),
                        bind("", "f"),
                        execute("", 0),
                        sync(),
                    ]
                    .concat(),
                ],
            );
            // The client has been told of its columns all the same.
            assert!(answers[1].iter().any(|m| m.0 == b'T'), "{sql}: {answers:?}");
            for answer in [&answers[2], &answers[4]] {
                assert_eq!(
                    error_field(answer, b'C').as_deref(),
                    Some("34000"),
                    "{sql}; {fetch}: {answer:?}"
                );
            }
            let left = stage.direct("SELECT count(*) FROM users WHERE name <> 'x'");
            assert_eq!(left.trim(), "1000", "{sql}; {fetch}");
        }
    }
    // Code reaches the unnamed portal too.
    let unnamed = "DO $$ DECLARE c refcursor := ''; BEGIN MOVE FORWARD ALL IN c; END $$";
    for sql in whole {
        let pipeline = [
            parse("d", unnamed),
            bind("x", "d"),
            parse("t", sql),
            bind("", "t"),
            execute("x", 0),
            sync(),
        ];
        let answers = play(&stage, &[query("BEGIN"), pipeline.concat(), query("COMMIT")]);
        assert_eq!(
            error_field(&answers[1], b'C').as_deref(),
            Some("34000"),
            "{sql}: {answers:?}"
        );
        let left = stage.direct("SELECT count(*) FROM users WHERE name <> 'x'");
        assert_eq!(left.trim(), "1000", "{sql}");
    }
    // What is let pass is there when it is executed, piece by piece, also if its statement is gone by then.
    let few = "UPDATE users SET name = 'x' WHERE id < 4 RETURNING id";
    let alone = [
        parse("s", few),
        bind("p", "s"),
        describe(b'P', "p"),
        execute("p", 2),
        execute("p", 0),
        sync(),
    ]
    .concat();
    let closed = [
        parse("s", few),
        bind("p", "s"),
        close(b'S', "s"),
        execute("p", 2),
        execute("p", 0),
        sync(),
    ]
    .concat();
    let another = [
        parse("", few),
        bind("p", ""),
        parse("", "SELECT 1"),
        describe(b'P', "p"),
        execute("p", 0),
        sync(),
    ]
    .concat();
    for part in [alone, closed, another] {
        let answers = play(&stage, &[query("BEGIN"), part, query("ROLLBACK")]);
        assert_eq!(error_field(&answers[1], b'C'), None, "{answers:?}");
        assert_eq!(rows(&answers[1]), ["1", "2", "3"], "{answers:?}");
    }
}

/// What decides a refusal is counted, and counting calls the statement's operators and casts before anything was let run.
#[test]
fn counting_the_rows_writes_nothing() {
    let stage = stage("counting_writes");
    stage.direct(
        "CREATE TABLE seen (n int);
         CREATE FUNCTION noted(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES ($1); RETURN true; END';
         CREATE OPERATOR ### (FUNCTION = noted, LEFTARG = int, RIGHTARG = int);
         CREATE DOMAIN counted AS int CHECK (noted(VALUE, 1));
         CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER once AFTER UPDATE OR DELETE ON users FOR EACH STATEMENT EXECUTE FUNCTION once();",
    );
    for sql in [
        "DELETE FROM users WHERE id ### 1",
        "UPDATE users SET name = 'x' WHERE id::counted > 0",
    ] {
        let refused = Raw::connect(stage.port, &stage.database).query(sql);
        let why = error_field(&refused, b'M').unwrap_or_default();
        assert!(why.contains("would lock"), "{sql}: {why}");
        assert_eq!(stage.direct("SELECT count(*) FROM seen").trim(), "0", "{sql}");
    }
}
