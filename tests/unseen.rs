//! Writes whose rows only the server can tell: in DO blocks with variables, by rules and foreign keys, through views, in what is prepared.

use lockkeeper_testkit::raw::{self, Raw};
use lockkeeper_testkit::{Stage, on_both};

/// Small numbers of rows are many here.
const POLICY: &str =
    "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 50\npause_ms = 1\n";

/// Parent 1 has all 5,000 children; the others have none.
const TABLES: &str = "
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 5000) i;
CREATE INDEX ON t (a);
CREATE TABLE p (id int PRIMARY KEY, n int);
INSERT INTO p SELECT i, i FROM generate_series(1, 50) i;
CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
INSERT INTO c SELECT i, 1 FROM generate_series(1, 5000) i;
CREATE INDEX ON c (p);
CREATE VIEW pv AS SELECT * FROM p;
CREATE VIEW renamed AS SELECT id AS nr, n FROM pv;
CREATE TABLE few (id int PRIMARY KEY);
INSERT INTO few VALUES (1);
CREATE TABLE inbox (id int);
CREATE RULE also AS ON INSERT TO inbox DO ALSO UPDATE t SET b = 'y' WHERE id > 0;
CREATE TABLE ruled (id int PRIMARY KEY, a int);
INSERT INTO ruled VALUES (1, 1);
CREATE RULE also AS ON UPDATE TO ruled DO ALSO UPDATE t SET b = 'y' WHERE id > 0;
CREATE TABLE later (id int);
VACUUM ANALYZE;";

on_both!(
    what_a_block_does_with_its_variables,
    what_a_block_does_with_its_variables_in_a_pipeline,
    ranges_between_values_that_are_not_known,
    check_says_what_the_proxy_says,
    what_a_rule_makes_of_a_block_s_statements,
    an_insert_that_was_prepared_before_its_rule,
    what_foreign_keys_take_along_with_parts_of_statements,
    a_question_does_not_stand_before_a_vacuum,
    an_execute_is_what_its_name_means_then,
    what_sql_has_prepared_is_judged_when_it_is_bound,
);

fn stage(major: u32, name: &str) -> Stage {
    let stage = Stage::with(major, name, POLICY);
    stage.direct(TABLES);
    stage
}

const STATE: &str =
    "SELECT (SELECT count(*) FROM t WHERE b = 'x'), (SELECT count(*) FROM c WHERE p = 1), (SELECT count(*) FROM p)";

#[track_caller]
fn refused(stage: &Stage, sql: &str, why: &str) {
    let before = stage.direct(STATE);
    let told = stage.psql(sql).stderr;
    assert!(told.contains("ERROR") && told.contains(why), "{sql}: {told}");
    assert_eq!(stage.direct(STATE), before, "{sql}");
}

#[track_caller]
fn passes(stage: &Stage, sql: &str) {
    let told = stage.psql(sql);
    assert!(told.stderr.is_empty(), "{sql}: {}", told.stderr);
}

fn run(sql: &str) -> Vec<u8> {
    [raw::parse("", sql), raw::bind("", ""), raw::execute("", 0)].concat()
}

/// The error that these messages and a Sync are answered with; empty: none.
fn said(raw: &mut Raw, messages: &[Vec<u8>]) -> String {
    raw.send(&[messages.concat(), raw::sync()].concat());
    raw::error_field(&raw.until_ready(), b'M').unwrap_or_default()
}

const LARGE: &str = "would lock about";

fn what_a_block_does_with_its_variables(major: u32) {
    let stage = stage(major, "variables");
    for code in [
        "DECLARE v int := 0; BEGIN UPDATE t SET b = 'y' WHERE a > v; END",
        "DECLARE v int := 0; w text := 'y'; BEGIN UPDATE t SET b = w WHERE a BETWEEN v AND 4000 OR a > v; END",
        "<<o>> DECLARE v int := 0; BEGIN UPDATE t SET b = 'y' WHERE a > o.v; END",
        "DECLARE v t.a%TYPE := 0; BEGIN UPDATE t SET b = 'y' WHERE a > v; END",
        "DECLARE r record; BEGIN FOR r IN SELECT id FROM few LOOP UPDATE t SET b = 'y' WHERE a > r.id; END LOOP; END",
        "DECLARE r t%ROWTYPE; BEGIN SELECT * INTO r FROM t WHERE id = 1; DELETE FROM t WHERE a > r.a; END",
        "BEGIN FOR i IN 0..1 LOOP DELETE FROM t WHERE a > i * 2; END LOOP; END",
        "DECLARE v int := 0; BEGIN EXECUTE 'UPDATE t SET b = ''y'' WHERE a > $1' USING v; END",
        "DECLARE v int := 0; n int; BEGIN WITH d AS (DELETE FROM t WHERE a > v RETURNING id) SELECT count(*) INTO n FROM d; END",
        "DECLARE v int := 0; BEGIN CREATE TABLE made (id int); UPDATE t SET b = 'y' WHERE a > v; END",
    ] {
        refused(&stage, &format!("DO $$ {code} $$"), LARGE);
        refused(&stage, &format!("BEGIN;\nDO $$ {code} $$;\n"), LARGE);
    }
    // Nothing stays prepared, whether the planner could tell or not.
    let unknown = "DO $$ DECLARE v int[] := '{1}'; r record; BEGIN IF false THEN UPDATE t SET b = 'z' WHERE a > nowhere(r); END IF; END $$";
    let told = stage.psql(&format!(
        "{unknown};\nDO $$ DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id = v; END $$;\nSELECT count(*) FROM pg_prepared_statements WHERE from_sql;\n"
    ));
    assert!(told.stdout.contains("0\n"), "{told:?}");
    assert!(
        told.stderr.contains("is not known before the DO block runs"),
        "{told:?}"
    );
    for code in [
        "DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id = v; END",
        "DECLARE r record; BEGIN FOR r IN SELECT id FROM t LIMIT 300 LOOP UPDATE t SET b = b WHERE id = r.id; END LOOP; END",
        "DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id = ANY (ARRAY[v, v + 1]); END",
        "DECLARE v text := 'x'; BEGIN UPDATE t SET b = v WHERE id = 5; END",
        "DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id IN (SELECT id FROM t WHERE a > v LIMIT 10); END",
        "DECLARE v int := 3; BEGIN EXECUTE 'UPDATE t SET b = b WHERE id = $1' USING v; END",
    ] {
        passes(&stage, &format!("DO $$ {code} $$"));
    }
    // What a LIMIT leaves is not guessed.
    let limited =
        "DO $$ DECLARE v int := 7; BEGIN UPDATE t SET b = b WHERE ctid IN (SELECT ctid FROM t LIMIT v); END $$";
    let told = stage.psql(limited);
    assert!(
        told.status == 0 && told.stderr.contains("is not known before the DO block runs"),
        "{told:?}"
    );
}

fn what_a_block_does_with_its_variables_in_a_pipeline(major: u32) {
    let stage = stage(major, "piped");
    let pipe = |code: &str| {
        let mut raw = Raw::connect(stage.port, &stage.database);
        said(&mut raw, &[run("SELECT 1"), run(&format!("DO $$ {code} $$"))])
    };
    for code in [
        "DECLARE v int := 0; BEGIN UPDATE t SET b = 'y' WHERE a > v; END",
        "BEGIN CREATE TABLE made (id int); UPDATE t SET b = 'y' WHERE a > 0; END",
    ] {
        let told = pipe(code);
        assert!(told.contains(LARGE), "{code}: {told}");
    }
    for code in [
        "DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id = v; END",
        "DECLARE r record; BEGIN IF false THEN UPDATE t SET b = 'z' WHERE a > nowhere(r); END IF; END",
        "BEGIN CREATE TABLE made (id int); UPDATE made SET id = 1; END",
    ] {
        assert_eq!(pipe(code), "", "{code}");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'").trim(), "5000");
}

/// For a range between two of them the planner guesses half a percent: here, 250 rows.
fn ranges_between_values_that_are_not_known(major: u32) {
    let stage = stage(major, "ranges");
    stage.direct(
        "CREATE TABLE l (id int PRIMARY KEY, a int, b text); INSERT INTO l SELECT i, i % 5000, 'x' FROM generate_series(1, 50000) i; ANALYZE l",
    );
    let loops = |write: &str| {
        format!(
            "DO $$ DECLARE v int := 0; w int; BEGIN LOOP w := v + 10000; {write}; COMMIT; v := w; EXIT WHEN v >= 50000; END LOOP; END $$"
        )
    };
    for (write, rows) in [
        ("UPDATE l SET b = 'a' WHERE id > v AND id <= v + 10000", "a"),
        ("UPDATE l SET b = 'b' WHERE id BETWEEN v + 1 AND w", "b"),
        (
            "UPDATE l SET b = 'c' FROM few WHERE v < l.id AND (w >= l.id AND a >= 0)",
            "c",
        ),
        (
            "EXECUTE 'UPDATE l SET b = ''d'' WHERE id > $1 AND id <= $2' USING v, w",
            "d",
        ),
        (
            "UPDATE l SET b = 'e' WHERE id IN (SELECT id FROM l WHERE id > v AND id <= w)",
            "e",
        ),
        (
            "WITH n AS (UPDATE l SET b = 'f' WHERE (id, a) > (v, 5001) AND (id, a) <= (w, 5001) RETURNING id) SELECT max(id) INTO w FROM n",
            "f",
        ),
        (
            "UPDATE l SET b = 'g' WHERE id > v AND id <= (SELECT max(id) FROM (SELECT id FROM l WHERE id > v ORDER BY id LIMIT 10000) x)",
            "g",
        ),
        ("DELETE FROM l WHERE id > v AND id <= w AND id > 100", ""),
    ] {
        let told = stage.psql(&loops(write));
        assert!(
            told.status == 0 && told.stderr.contains("is not known before the DO block runs"),
            "{write}: {told:?}"
        );
        let changed = format!("SELECT count(*) FROM l WHERE b = '{rows}' OR '{rows}' = ''");
        let expect = if rows.is_empty() { "100" } else { "50000" };
        assert_eq!(stage.direct(&changed).trim(), expect, "{write}");
    }
    // One of them is known, or says nothing about the other's column; or it is not the range that chooses the rows.
    for condition in [
        "a > v AND a <= 4000",
        "a BETWEEN 0 AND v",
        "a > 0 AND v >= a",
        "a >= v AND id <= v + 10",
        "a > v AND a <= v + 10 OR id > 4",
        "NOT (a > v AND a <= v + 10)",
        "id NOT IN (SELECT id FROM few WHERE id > v AND id < v + 10)",
    ] {
        refused(
            &stage,
            &format!("DO $$ DECLARE v int := 0; BEGIN DELETE FROM t WHERE {condition}; END $$"),
            LARGE,
        );
    }
    refused(
        &stage,
        "DO $$ DECLARE v int := 0; BEGIN WITH d AS (DELETE FROM few WHERE id > v AND id < v + 9) UPDATE t SET b = 'y'; END $$",
        LARGE,
    );
    // All that there may be are few.
    passes(
        &stage,
        "DO $$ DECLARE v int := 0; BEGIN UPDATE t SET b = 'x' WHERE a > v AND a <= v + 10 AND id < 50; END $$",
    );
}

/// The action of each statement.
fn checked(stage: &Stage, statements: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let (policy, file) = (directory.path().join("policy.toml"), directory.path().join("a.sql"));
    std::fs::write(&policy, POLICY).expect("written");
    std::fs::write(&file, statements.join(";\n") + ";\n").expect("written");
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname={}",
        stage.cluster.port(),
        stage.database
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut command);
    command.args(["check", "--format", "json", "--dsn", &dsn, "--policy"]);
    let output = command.arg(&policy).arg(&file).output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    let action = |line: &str| {
        let verdict: serde_json::Value = serde_json::from_str(line).expect(line);
        verdict["action"].as_str().unwrap_or_default().to_owned()
    };
    out.lines().map(action).collect()
}

fn check_says_what_the_proxy_says(major: u32) {
    let stage = stage(major, "checked");
    let refused = [
        "DO $$ DECLARE v int := 0; BEGIN UPDATE t SET b = 'y' WHERE a > v; END $$",
        "DO $$ DECLARE v int := 0; BEGIN DELETE FROM t WHERE a BETWEEN 0 AND v; END $$",
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM few LOOP UPDATE t SET b = 'y' WHERE a > r.id; END LOOP; END $$",
        "DO $$ DECLARE v int := 0; BEGIN EXECUTE 'UPDATE t SET b = ''y'' WHERE a > $1' USING v; END $$",
        "DO $$ BEGIN DELETE FROM p WHERE id = 1; END $$",
        "DO $$ BEGIN UPDATE p SET id = 1001 WHERE id = 1; END $$",
        "DO $$ DECLARE v int := 50; BEGIN DELETE FROM p WHERE id <= v; END $$",
        "DO $$ BEGIN INSERT INTO inbox VALUES (1); END $$",
        "INSERT INTO p (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001",
        "INSERT INTO p (n, id) VALUES (3, 44), (2, 1) ON CONFLICT (id) DO UPDATE SET n = 3, id = EXCLUDED.id + 1000",
        "DO $$ BEGIN INSERT INTO p (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001; END $$",
        "INSERT INTO pv (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001",
        "INSERT INTO renamed (nr, n) VALUES (1, 2) ON CONFLICT (nr) DO UPDATE SET nr = 1001",
        "DELETE FROM p WHERE id = 1",
        "UPDATE p SET id = 1001 WHERE n = 1",
        "WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d",
        "\n/* x */ WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d",
    ];
    let passes = [
        "DO $$ DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id = v; END $$",
        "DO $$ DECLARE v int := 3; BEGIN UPDATE t SET b = b WHERE id > v AND id <= v + 10; END $$",
        "DO $$ BEGIN DELETE FROM p WHERE id = 7; END $$",
        "DO $$ BEGIN INSERT INTO later VALUES (1); END $$",
        "DO $$ BEGIN UPDATE p SET n = 1 WHERE id = 1; END $$",
        "DELETE FROM p WHERE id = 7",
        "UPDATE p SET n = 1 WHERE id = 1",
        "WITH d AS (DELETE FROM p WHERE id = 7 RETURNING id) SELECT * FROM d",
    ];
    let state = stage.direct(STATE);
    for (sql, refuses) in refused
        .iter()
        .map(|sql| (sql, true))
        .chain(passes.iter().map(|sql| (sql, false)))
    {
        let told = stage.psql(&format!("BEGIN;\n{sql};\nROLLBACK;\n"));
        assert_eq!(told.stderr.contains("ERROR"), refuses, "{sql}: {told:?}");
    }
    assert_eq!(checked(&stage, &refused), vec!["reject"; refused.len()]);
    assert_eq!(checked(&stage, &passes), vec!["forward"; passes.len()]);
    assert_eq!(stage.direct(STATE), state);
    assert_eq!(
        stage.direct("SELECT pg_catalog.count(*) FROM later").trim(),
        "0",
        "nothing is run"
    );
}

fn what_a_rule_makes_of_a_block_s_statements(major: u32) {
    let stage = stage(major, "ruled");
    for code in [
        "BEGIN INSERT INTO inbox VALUES (1); END",
        "DECLARE v int := 1; BEGIN INSERT INTO inbox VALUES (v); END",
        "BEGIN EXECUTE 'INSERT INTO inbox VALUES (1)'; END",
        "BEGIN DO 'BEGIN INSERT INTO inbox VALUES (1); END'; END",
        "BEGIN UPDATE ruled SET a = 2 WHERE id = 1; END",
    ] {
        refused(&stage, &format!("DO $$ {code} $$"), "CREATE RULE) of ");
    }
    refused(
        &stage,
        "DO $$ BEGIN CREATE RULE r AS ON INSERT TO later DO ALSO DELETE FROM t; INSERT INTO later VALUES (1); END $$",
        "what later means may change within the DO block",
    );
    refused(
        &stage,
        "DO $$ BEGIN EXECUTE 'PREPARE zi AS INSERT INTO inbox VALUES (1)'; END $$;\nEXECUTE zi;\n",
        LARGE,
    );
    passes(
        &stage,
        "DO $$ DECLARE v int := 1; BEGIN INSERT INTO later VALUES (v); END $$",
    );
    assert_eq!(stage.direct("SELECT count(*) FROM later").trim(), "1");
}

fn an_insert_that_was_prepared_before_its_rule(major: u32) {
    let stage = Stage::with(major, "before_rule", POLICY);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i;
        CREATE TABLE later (id int); CREATE TABLE other (id int); ANALYZE",
    );
    let all = "SELECT count(*) FROM t WHERE b = 'x'";
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            raw::parse("s", "INSERT INTO later VALUES ($1)"),
            raw::parse("o", "INSERT INTO other VALUES (1)"),
            raw::sync(),
        ]
        .concat(),
    );
    raw.until_ready();
    let run = |raw: &mut Raw, name: &str, values: &[&str]| {
        said(raw, &[raw::bind_with("", name, values), raw::execute("", 0)])
    };
    assert_eq!(
        raw::error_field(&raw.query("PREPARE q (int) AS INSERT INTO later VALUES ($1)"), b'M'),
        None
    );
    assert_eq!(run(&mut raw, "s", &["1"]), "");
    assert_eq!(raw::error_field(&raw.query("EXECUTE q (1)"), b'M'), None);
    stage
        .psql("CREATE RULE also AS ON INSERT TO later DO ALSO UPDATE t SET b = 'y' WHERE id > 0")
        .ok();
    for _ in 0..2 {
        let told = run(&mut raw, "s", &["2"]);
        assert!(told.contains("CREATE RULE) of "), "{told}");
        // By the rows that the planner expects, or by the rule.
        let told = raw::error_field(&raw.query("EXECUTE q (2)"), b'M').unwrap_or_default();
        assert!(told.contains("CREATE RULE) of ") || told.contains(LARGE), "{told}");
        assert_eq!(run(&mut raw, "o", &[]), "");
    }
    assert_eq!(stage.direct(all).trim(), "5000");
    stage.psql("DROP RULE also ON later").ok();
    assert_eq!(run(&mut raw, "s", &["3"]), "");
    assert_eq!(raw::error_field(&raw.query("EXECUTE q (3)"), b'M'), None);
    assert_eq!(stage.direct("SELECT count(*) FROM later").trim(), "4");
}

fn what_foreign_keys_take_along_with_parts_of_statements(major: u32) {
    let stage = stage(major, "parts");
    for sql in [
        "MERGE INTO p USING few ON p.id = few.id WHEN MATCHED THEN DELETE",
        "MERGE INTO p USING few ON p.id = few.id WHEN MATCHED THEN UPDATE SET id = 1001",
        "BEGIN; MERGE INTO p USING few ON p.id = few.id WHEN MATCHED THEN DELETE",
        "WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d",
        "WITH x AS (SELECT 1 AS id), d AS (DELETE FROM p USING x WHERE p.id = x.id RETURNING p.id) SELECT * FROM d",
        "WITH d AS (DELETE FROM few RETURNING id), e AS (DELETE FROM p WHERE n = 1) SELECT 1",
        "WITH d AS (DELETE FROM few RETURNING id) DELETE FROM p WHERE id = 1",
        "CREATE TABLE n AS WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d",
        "EXPLAIN ANALYZE DELETE FROM p WHERE id = 1",
        "COPY (DELETE FROM p WHERE id = 1 RETURNING id) TO STDOUT",
        "PREPARE q (bigint) AS DELETE FROM p WHERE id = $1; EXECUTE q (1)",
        "PREPARE q AS DELETE FROM p WHERE id = $1;\nEXPLAIN ANALYZE EXECUTE q (1);\n",
        "DO $$ BEGIN DELETE FROM p WHERE id = 1; END $$",
        "INSERT INTO p (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001",
        "INSERT INTO p (n, id) VALUES (3, 44), (2, 1) ON CONFLICT (id) DO UPDATE SET n = 3, id = EXCLUDED.id + 1000",
        "DO $$ BEGIN INSERT INTO p (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001; END $$",
        "INSERT INTO pv (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 1001",
        "INSERT INTO renamed (nr, n) VALUES (1, 2) ON CONFLICT (nr) DO UPDATE SET nr = 1001",
        "DELETE FROM pv WHERE id = 1",
        "UPDATE pv SET id = 1001 WHERE id = 1",
        "BEGIN; DELETE FROM renamed WHERE nr = 1",
        "UPDATE renamed SET nr = 1001 WHERE nr = 1",
        "WITH d AS (DELETE FROM renamed WHERE nr = 1 RETURNING nr) SELECT * FROM d",
    ] {
        refused(&stage, sql, "would by foreign keys change or delete more than 100 rows");
    }
    // One of all has 5,000; which one a variable means is not known.
    let told = stage.psql("DO $$ DECLARE v int := 50; BEGIN DELETE FROM p WHERE id = v; END $$");
    assert!(
        told.status == 0 && told.stderr.contains("is not known before the DO block runs"),
        "{told:?}"
    );
    for sql in [
        "MERGE INTO p USING few ON p.id = few.id WHEN MATCHED THEN UPDATE SET n = 7",
        "WITH d AS (DELETE FROM p WHERE id = 2 RETURNING id) SELECT * FROM d",
        "PREPARE q AS DELETE FROM p WHERE id = $1;\nEXECUTE q (3);\n",
        "DO $$ BEGIN DELETE FROM p WHERE id = 4; END $$",
        "INSERT INTO p (id, n) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
        "INSERT INTO renamed (nr, n) VALUES (1, 2) ON CONFLICT (nr) DO UPDATE SET n = EXCLUDED.n",
        "INSERT INTO p (id, n) VALUES (9, 2) ON CONFLICT (id) DO UPDATE SET id = 9",
        "DELETE FROM pv WHERE id = 5",
        "UPDATE pv SET n = 8 WHERE id = 1",
        "DELETE FROM renamed WHERE nr = 6",
        "UPDATE renamed SET nr = 1007 WHERE nr = 7",
        "EXPLAIN ANALYZE DELETE FROM p WHERE id = 8",
    ] {
        passes(&stage, sql);
    }
    assert_eq!(stage.direct("SELECT count(*) FROM p").trim(), "43");
    // Over the protocol too, and behind something else.
    let mut raw = Raw::connect(stage.port, &stage.database);
    for before in ["SELECT 1; ", "\n/* x */ ", "SELECT ';'; "] {
        for sql in [
            "WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d",
            "WITH x AS (SELECT 1) DELETE FROM p WHERE id = 1",
            "UPDATE p SET id = 1001 WHERE n = 8",
        ] {
            let told = raw::error_field(&raw.query(&format!("{before}{sql}")), b'M').unwrap_or_default();
            assert!(told.contains("would by foreign keys"), "{before}{sql}: {told}");
        }
    }
    let sql = "WITH d AS (DELETE FROM p WHERE id = $1 RETURNING id) SELECT * FROM d";
    raw.send(&[raw::parse("s", sql), raw::sync()].concat());
    raw.until_ready();
    let upsert = "INSERT INTO p (id, n) VALUES ($1, 2) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id + 2000";
    raw.send(&[raw::parse("u", upsert), raw::sync()].concat());
    raw.until_ready();
    for (name, id, large) in [
        ("s", "9", false),
        ("s", "1", true),
        ("s", "10", false),
        ("u", "1", true),
        ("u", "11", false),
    ] {
        raw.send(&[raw::bind_with("", name, &[id]), raw::execute("", 0), raw::sync()].concat());
        let told = raw::error_field(&raw.until_ready(), b'M').unwrap_or_default();
        assert_eq!(told.contains("would by foreign keys"), large, "{id}: {told}");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM c").trim(), "5000");
}

fn a_question_does_not_stand_before_a_vacuum(major: u32) {
    let stage = stage(major, "vacuum");
    let mut raw = Raw::connect(stage.port, &stage.database);
    let all = [
        raw::parse("i", "INSERT INTO later VALUES (1)"),
        raw::parse("", "VACUUM later"),
        raw::bind("", ""),
        raw::execute("", 0),
        raw::sync(),
    ];
    raw.send(&all.concat());
    let answer = raw.until_ready();
    assert_eq!(raw::error_field(&answer, b'M'), None);
    assert_eq!(raw::command_tags(&answer), ["VACUUM"]);
    raw.send(&[raw::bind("", "i"), raw::execute("", 0), raw::sync()].concat());
    assert_eq!(raw::command_tags(&raw.until_ready()), ["INSERT 0 1"]);
}

fn an_execute_is_what_its_name_means_then(major: u32) {
    let stage = stage(major, "execute");
    let write = "PREPARE q AS UPDATE t SET b = 'y'";
    for sql in [
        format!("{write}; SELECT 1;\nEXECUTE q;\n"),
        format!("PREPARE q AS SELECT 1;\nDEALLOCATE q; {write}; EXECUTE q;\n"),
        format!("PREPARE q AS SELECT 1;\nDISCARD ALL;\n{write};\nEXECUTE q;\n"),
        format!("BEGIN;\n{write};\nROLLBACK;\nEXECUTE q;\n"),
        format!("{write} RETURNING id;\nCREATE TABLE n AS EXECUTE q;\n"),
        format!("{write} RETURNING id;\nEXPLAIN (ANALYZE) CREATE TABLE n AS EXECUTE q;\n"),
    ] {
        let before = stage.direct(STATE);
        let told = stage.psql(&sql).stderr;
        assert!(told.contains(LARGE), "{sql}: {told}");
        assert_eq!(stage.direct(STATE), before, "{sql}");
    }
    // Parsed before the name has a meaning, or while it has another.
    for first in ["SELECT 1", "UPDATE t SET b = b WHERE id = 1"] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query(&format!("PREPARE q AS {first}"));
        raw.send(
            &[
                raw::parse("e", "EXECUTE q"),
                raw::parse("x", "EXPLAIN ANALYZE EXECUTE q"),
                raw::sync(),
            ]
            .concat(),
        );
        raw.until_ready();
        raw.query("DEALLOCATE q");
        raw.query(write);
        for name in ["e", "x"] {
            let told = said(&mut raw, &[raw::bind("", name), raw::execute("", 0)]);
            assert!(told.contains(LARGE), "{first}: {name}: {told}");
        }
        for sql in ["DISCARD ALL", write] {
            assert_eq!(said(&mut raw, &[run(sql)]), "", "{first}: {sql}");
        }
        let told = said(&mut raw, &[run("EXECUTE q")]);
        assert!(told.contains(LARGE), "{first}: {told}");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'").trim(), "5000");
}

/// SQL and the protocol have the same names for what is prepared.
fn what_sql_has_prepared_is_judged_when_it_is_bound(major: u32) {
    let stage = stage(major, "bound");
    let write = "PREPARE q AS UPDATE t SET b = 'y'";
    let returning = format!("{write} RETURNING id");
    let several = format!("SELECT 1; {write}");
    let code = "DO $$ BEGIN EXECUTE 'PRE' || 'PARE q AS UPDATE t SET b = ''y'''; END $$";
    for ways in [
        vec![write],
        vec![&several],
        vec![&returning],
        vec![code],
        vec!["PREPARE q AS SELECT 1", "DEALLOCATE q", write],
    ] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        for way in &ways {
            raw.query(way);
        }
        // Where it is not done in batches.
        raw.query("BEGIN");
        let told = said(&mut raw, &[raw::bind("", "q"), raw::execute("", 0)]);
        assert!(told.contains("rows of t"), "{ways:?}: {told}");
    }
    // In the same group, where nothing but its text tells what it will prepare.
    let mut raw = Raw::connect(stage.port, &stage.database);
    let told = said(&mut raw, &[run(write), raw::bind("", "q"), raw::execute("", 0)]);
    assert!(told.contains("rows of t"), "{told}");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'").trim(), "5000");
    // With values, of which it is known how many rows they mean.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("PREPARE q (int) AS UPDATE t SET b = 'y' WHERE id <= $1");
    for (value, large) in [("4000", true), ("7", false)] {
        raw.query("BEGIN");
        let told = said(&mut raw, &[raw::bind_with("", "q", &[value]), raw::execute("", 0)]);
        assert_eq!(told.contains("rows of t"), large, "{value}: {told}");
        assert!(large || told.is_empty(), "{value}: {told}");
        raw.query("COMMIT");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'y'").trim(), "7");
    raw.query("PREPARE r AS SELECT id FROM t WHERE id = 1");
    raw.send(&[raw::bind("", "r"), raw::execute("", 0), raw::sync()].concat());
    assert_eq!(raw::rows(&raw.until_ready()), ["1"]);
}
