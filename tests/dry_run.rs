//! `SET lockkeeper.dry_run = on`: what a statement would do is told as rows, and nothing is done; on both servers, in both protocols, alone
//! and within a transaction.

use lockkeeper_testkit::raw::{
    Message, Raw, bind, bind_with, command_tags, describe, error_field, execute, parse, rows, sync, tags,
};
use lockkeeper_testkit::{Stage, on_both, runs};

on_both!(
    a_plan_is_told_and_nothing_is_done,
    what_would_change_something_is_refused,
    rights_are_looked_at,
    a_transaction_stays_usable,
    a_comment_asks_for_one_statement,
    several_statements_of_a_message,
    a_prepared_statement_is_described_as_rows,
    what_was_prepared_before_is_prepared_again,
    parameters_are_planned_with,
    a_driver_reads_the_rows,
    the_startup_packet_and_the_role_turn_it_on,
    who_holds_the_lock_is_told,
    a_measured_step_tells_the_time_of_the_next,
    what_is_too_long_is_not_let_go,
    code_that_no_text_names_writes_nothing,
    planning_writes_nothing,
    the_setting_is_the_server_s_at_each_moment,
    names_of_prepared_statements_do_not_deceive,
    check_tells_the_same_plan,
);

const POLICY: &str =
    "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\nbatch_rows = 500\npause_ms = 1\n";
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 20000) i;
    CREATE TABLE u (id int PRIMARY KEY, t_id int); CREATE SEQUENCE s;
    CREATE TABLE x (id int PRIMARY KEY, t_id int); INSERT INTO x SELECT i, i FROM generate_series(1, 5000) i; ANALYZE t, u, x;
    CREATE FUNCTION reads(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
    CREATE FUNCTION writes(int) RETURNS int LANGUAGE sql AS 'INSERT INTO u VALUES ($1, 1) RETURNING id';";

fn stage(major: u32, policy: &str) -> Stage {
    let stage = Stage::with(major, "dry_run", &format!("{POLICY}{policy}"));
    stage.direct(TABLE);
    stage
}

/// All that a dry run must leave as it is.
fn all_of(stage: &Stage) -> String {
    let rows = stage.direct(
        "SELECT sum(a), count(*), (SELECT count(*) FROM u), (SELECT last_value FROM s), (SELECT count(*) FROM pg_class), to_regclass('lockkeeper.job') FROM t",
    );
    format!("{}{rows}", stage.schema())
}

/// A session's answers, unaligned and without headings.
fn told(stage: &Stage, script: &str) -> String {
    stage
        .psql_args(&["-v", "ON_ERROR_STOP=1", "-XqAt", "-F", "|"], script)
        .ok()
}

/// All values of all rows; a null is empty.
fn cells(messages: &[Message]) -> Vec<String> {
    let mut found = Vec::new();
    for (_, body) in messages.iter().filter(|(tag, _)| *tag == b'D') {
        let mut rest = &body[2..];
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
            found.push(String::from_utf8_lossy(&after[..len]).into_owned());
            rest = &after[len..];
        }
    }
    found
}

fn events(stage: &Stage) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
    stage
        .audit_lines()
        .iter()
        .map(|line| (text(&line["event"]), text(&line["action"]), text(&line["outcome"])))
        .collect()
}

fn a_plan_is_told_and_nothing_is_done(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let out = told(
        &stage,
        "SET lockkeeper.dry_run = on;
         ALTER TABLE x ADD CONSTRAINT fk FOREIGN KEY (t_id) REFERENCES t;
         CREATE INDEX i ON t (a);
         UPDATE t SET a = a + 1;
         UPDATE t SET a = 5 WHERE id = 7;
         DELETE FROM t WHERE id < 100;
         DROP TABLE x;
         CREATE TABLE v (id int);
         ALTER TABLE missing ADD COLUMN x int;",
    );
    for part in [
        "1 of 2|",
        "NOT VALID",
        "VALIDATE CONSTRAINT",
        "CREATE INDEX CONCURRENTLY",
        "|SHARE UPDATE EXCLUSIVE on ",
        "other schema changes",
        "UPDATE t SET a = a + 1|ROW EXCLUSIVE",
        "|20000|",
        "1 of 1|goes to the server as it is|UPDATE t SET a = 5 WHERE id = 7",
        "refused|it would be refused|DROP TABLE x|",
        "1 of 1|goes to the server as it is|CREATE TABLE v (id int)",
        "there is no missing here",
        "DROP INDEX",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(all_of(&stage), before);
    let events = events(&stage);
    assert_eq!(events.len(), 8, "{events:?}");
    let dry = ("statement".to_string(), "dry_run".to_string(), "dry run".to_string());
    assert!(events.iter().all(|event| *event == dry), "{events:?}");
    // And is done once it is off.
    told(
        &stage,
        "SET lockkeeper.dry_run = on; RESET lockkeeper.dry_run; CREATE INDEX i ON t (a);",
    );
    assert!(
        stage
            .direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")
            .contains('t')
    );
}

/// What the role may not do is not said to run.
fn rights_are_looked_at(major: u32) {
    let stage = stage(major, "");
    let other = format!("{}_other", stage.database);
    stage.direct(&format!(
        "CREATE ROLE {other}; GRANT SELECT ON t TO {other}; GRANT DELETE ON t TO {other}"
    ));
    let out = told(
        &stage,
        &format!(
            "SET ROLE {other}; SET lockkeeper.dry_run = on;
             UPDATE t SET a = 5 WHERE id = 7;
             DELETE FROM t WHERE id = 7;
             ALTER TABLE t ADD COLUMN z int;
             CREATE INDEX i ON t (a);
             UPDATE missing SET a = 5;
             CREATE TEMP TABLE v (id int);"
        ),
    );
    for part in [
        "refused|the server would refuse it|UPDATE t SET a = 5 WHERE id = 7|",
        "permission denied for table t",
        "1 of 1|goes to the server as it is|DELETE FROM t WHERE id = 7",
        "refused|the server would refuse it|ALTER TABLE t ADD COLUMN z int|",
        "refused|the server would refuse it|CREATE INDEX i ON t (a)|",
        "your role does not own t",
        "there is no missing here",
        "1 of 1|goes to the server as it is|CREATE TEMP TABLE v (id int)",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

fn what_would_change_something_is_refused(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    for sql in [
        "INSERT INTO u VALUES (1, 1)",
        "INSERT INTO u SELECT 1, 2",
        "WITH a AS (INSERT INTO u VALUES (1, 1) RETURNING *) SELECT * FROM a",
        "COPY u FROM STDIN",
        "SELECT nextval('s')",
        "SELECT setval('s', 100)",
        "SELECT writes(7)",
        "SELECT * INTO w FROM u",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DO $$ BEGIN PERFORM writes(9); END $$",
        "CALL nothing()",
        "GRANT SELECT ON t TO PUBLIC",
        "EXPLAIN ANALYZE INSERT INTO u VALUES (1, 1)",
        "NOTIFY a",
        "CREATE TABLE w AS SELECT 1",
    ] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("SET lockkeeper.dry_run = on");
        let answer = raw.query(sql);
        assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"), "{sql}");
        // The session goes on.
        assert_eq!(rows(&raw.query("SELECT 1")), ["1"], "{sql}");
        let answer = [parse("", sql), bind("", ""), execute("", 0), sync()].concat();
        if !sql.contains("; ") {
            raw.send(&answer);
            assert_eq!(
                error_field(&raw.until_ready(), b'C').as_deref(),
                Some("25006"),
                "{sql}, extended"
            );
        }
    }
    // A function by its number, as libpq calls those of large objects.
    let oid: u32 = stage.number("SELECT 'writes'::regproc::oid").try_into().unwrap();
    let call = [
        &oid.to_be_bytes()[..],
        &[0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 0, 1],
    ]
    .concat();
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    raw.send(&lockkeeper_testkit::raw::frame(b'F', &call));
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("25006"));
    // What cannot be read, and what is hidden in text.
    for sql in [
        "/* lockkeeper: dry_run */ INSERT INTO u VALUES (1, 1) RETURNING SOMETHING NOBODY KNOWS",
        "SELECT query_to_xml('SELECT writes(8)', true, true, '')",
    ] {
        assert_eq!(error_field(&raw.query(sql), b'C').as_deref(), Some("25006"), "{sql}");
    }
    raw.query("RESET lockkeeper.dry_run");
    raw.send(&lockkeeper_testkit::raw::frame(b'F', &call));
    assert_eq!(error_field(&raw.until_ready(), b'M'), None);
    assert_eq!(
        stage.number("SELECT count(*) FROM u WHERE id = 7"),
        1,
        "it is called once it is off"
    );
    stage.direct("DELETE FROM u");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    for sql in [
        "SELECT count(*), max(a), now(), random() > 2, current_setting('lockkeeper.dry_run') FROM t",
        "SELECT reads(1)",
        "SHOW lockkeeper.dry_run",
        "EXPLAIN SELECT * FROM t",
        "EXPLAIN ANALYZE SELECT reads(1) FROM t LIMIT 1",
        "COPY u TO STDOUT",
        "SELECT pg_get_constraintdef(oid), pg_relation_size(conrelid) FROM pg_constraint",
        "SET search_path = public",
        "",
    ] {
        let answer = raw.query(sql);
        assert_eq!(error_field(&answer, b'M'), None, "{sql}");
    }
    assert_eq!(all_of(&stage), before);
}

fn a_transaction_stays_usable(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let out = told(
        &stage,
        "BEGIN; SET LOCAL lockkeeper.dry_run = on;
         ALTER TABLE t ALTER COLUMN a SET NOT NULL;
         CREATE INDEX i ON t (a);
         UPDATE t SET a = 0;
         SAVEPOINT p; RESET lockkeeper.dry_run; INSERT INTO u VALUES (1, 1); ROLLBACK TO p;
         SELECT 'still', count(*) FROM u;
         CREATE INDEX j ON t (b);
         COMMIT;
         INSERT INTO u VALUES (5, 5);",
    );
    assert!(out.contains("still|0"), "{out}");
    assert!(out.contains("after COMMIT, as a job"), "{out}");
    assert!(out.matches("CREATE INDEX").count() >= 2, "{out}");
    stage.direct("DELETE FROM u");
    assert_eq!(all_of(&stage), before);
    // What is refused fails the transaction, as any error does.
    let mut raw = Raw::connect(stage.port, &stage.database);
    for sql in [
        "BEGIN",
        "SET LOCAL lockkeeper.dry_run = on",
        "ALTER TABLE t ADD COLUMN c int",
    ] {
        assert_eq!(error_field(&raw.query(sql), b'M'), None);
    }
    let failed = raw.query("INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&failed, b'C').as_deref(), Some("25006"));
    assert_eq!(lockkeeper_testkit::raw::status(&failed), Some('E'));
    raw.query("ROLLBACK");
    // Its end is the setting's.
    assert_eq!(command_tags(&raw.query("INSERT INTO u VALUES (1, 1)")), ["INSERT 0 1"]);
}

fn a_comment_asks_for_one_statement(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let out = told(
        &stage,
        "/* lockkeeper: dry_run */ CREATE INDEX i ON t (a);
         /* lockkeeper: dry_run */ UPDATE t SET a = 0;
         /* lockkeeper: dry_run allow=drop-table reason=\"ticket 7\" */ DROP TABLE x;",
    );
    assert!(
        out.contains("CREATE INDEX CONCURRENTLY") && out.contains("|20000|"),
        "{out}"
    );
    assert!(out.contains("DROP TABLE x|ACCESS EXCLUSIVE"), "{out}");
    let mut raw = Raw::connect(stage.port, &stage.database);
    // psql leaves such a comment out.
    assert!(!rows(&raw.query("-- lockkeeper: dry_run\nUPDATE t SET a = 0")).is_empty());
    let refused = raw.query("/* lockkeeper: dry_run */ INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&refused, b'C').as_deref(), Some("25006"));
    assert_eq!(all_of(&stage), before);
    // The next one is not meant.
    assert_eq!(command_tags(&raw.query("INSERT INTO u VALUES (1, 1)")), ["INSERT 0 1"]);
    raw.send(
        &[
            parse("s", "/* lockkeeper: dry_run */ UPDATE t SET a = 0"),
            bind("", "s"),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    let answer = raw.until_ready();
    assert!(
        tags(&answer).contains('T') && rows(&answer).len() == 1,
        "{}",
        tags(&answer)
    );
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE a = 0"), 0);
}

fn several_statements_of_a_message(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let mut raw = Raw::connect(stage.port, &stage.database);
    let answer =
        raw.query("SET lockkeeper.dry_run = on; CREATE INDEX i ON t (a); UPDATE t SET a = 1; SHOW lockkeeper.dry_run");
    assert_eq!(error_field(&answer, b'M'), None);
    assert_eq!(command_tags(&answer).len(), 4);
    // Nothing of a message runs of which a part would change something.
    let mut raw = Raw::connect(stage.port, &stage.database);
    let answer = raw.query("SELECT 1; SET lockkeeper.dry_run = on; INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"));
    assert_eq!(
        rows(&raw.query("SELECT current_setting('lockkeeper.dry_run', true)")),
        ["NULL"]
    );
    let answer = raw.query("SELECT set_config('lockkeeper.dry_run', 'on', false); INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"));
    assert_eq!(all_of(&stage), before);
}

fn a_prepared_statement_is_described_as_rows(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    for sql in [
        "CREATE INDEX i ON t (a)",
        "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
        "UPDATE t SET a = 1",
    ] {
        raw.send(
            &[
                parse("", sql),
                describe(b'S', ""),
                bind("", ""),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        let answer = raw.until_ready();
        let seen = tags(&answer);
        assert!(
            seen.replace('N', "").starts_with("1tT2TD") && !seen.contains('E'),
            "{sql}: {seen}"
        );
        let described = answer.iter().find(|message| message.0 == b'T').unwrap();
        assert!(String::from_utf8_lossy(&described.1).contains("held_by"), "{sql}");
        assert!(!rows(&answer).is_empty(), "{sql}");
    }
    // A few rows at a time, in a transaction.
    raw.query("BEGIN");
    raw.send(
        &[
            parse("s", "ALTER TABLE t ALTER COLUMN a SET NOT NULL"),
            bind("p", "s"),
            execute("p", 1),
            execute("p", 0),
            sync(),
        ]
        .concat(),
    );
    let answer = raw.until_ready();
    assert_eq!(
        tags(&answer).replace('N', ""),
        format!("12Ds{}CZ", "D".repeat(rows(&answer).len() - 1))
    );
    raw.query("COMMIT");
    assert_eq!(all_of(&stage), before);
}

fn what_was_prepared_before_is_prepared_again(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            parse("w", "UPDATE t SET a = a"),
            parse("i", "INSERT INTO u VALUES (1, 1)"),
            parse("r", "SELECT 1"),
            sync(),
        ]
        .concat(),
    );
    raw.until_ready();
    raw.query("SET lockkeeper.dry_run = on");
    for name in ["w", "i", "r"] {
        raw.send(&[bind("", name), execute("", 0), sync()].concat());
        assert_eq!(
            error_field(&raw.until_ready(), b'C').as_deref(),
            Some("0A000"),
            "{name}"
        );
    }
    raw.send(&[parse("d", "CREATE INDEX i ON t (a)"), sync()].concat());
    raw.until_ready();
    raw.query("RESET lockkeeper.dry_run");
    raw.send(&[bind("", "d"), execute("", 0), sync()].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("0A000"));
    assert_eq!(all_of(&stage), before);
    raw.send(&[bind("", "i"), execute("", 0), sync()].concat());
    assert_eq!(command_tags(&raw.until_ready()), ["INSERT 0 1"]);
    // Bound before and executed after, within a group.
    raw.send(
        &[
            parse("set", "SET lockkeeper.dry_run = on"),
            parse("i2", "INSERT INTO u VALUES (2, 1)"),
            bind("p", "i2"),
            bind("", "set"),
            execute("", 0),
            execute("p", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("0A000"));
    assert_eq!(stage.number("SELECT count(*) FROM u"), 1);
}

fn parameters_are_planned_with(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    let sql = "UPDATE t SET b = $1 WHERE id < $2";
    for (id, expect) in [("30000", "20000"), ("2", "goes to the server as it is")] {
        raw.send(
            &[
                parse("", sql),
                bind_with("", "", &["x", id]),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        let answer = raw.until_ready();
        assert_eq!(error_field(&answer, b'M'), None, "{id}");
        let told = cells(&answer).join("|");
        assert!(told.contains(expect), "{id}: {told}");
    }
    assert_eq!(all_of(&stage), before);
}

fn a_driver_reads_the_rows(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    runs(async {
        let connection = stage.connect().await;
        connection
            .client
            .batch_execute("SET lockkeeper.dry_run = on")
            .await
            .unwrap();
        let rows = connection
            .client
            .query("DELETE FROM t WHERE id < $1", &[&15_000_i32])
            .await
            .unwrap();
        assert_eq!(rows.len(), 1);
        let (step, expected): (&str, i64) = (rows[0].get("step"), rows[0].get("rows"));
        assert_eq!(step, "1 of 1");
        assert!((14_000..16_000).contains(&expected), "{expected}");
        let rows = connection.client.query("CREATE INDEX ix ON t (a)", &[]).await.unwrap();
        assert!(rows[0].get::<_, &str>("sql").contains("CONCURRENTLY"));
        let refused = connection.client.execute("INSERT INTO u VALUES (1, 1)", &[]).await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");
        connection
            .client
            .batch_execute("RESET lockkeeper.dry_run")
            .await
            .unwrap();
    });
    assert_eq!(all_of(&stage), before);
}

fn the_startup_packet_and_the_role_turn_it_on(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let options = [
        ("user", "postgres"),
        ("database", stage.database.as_str()),
        ("options", "-c lockkeeper.dry_run=on"),
    ];
    let mut raw = Raw::open(stage.port);
    raw.start(&lockkeeper_testkit::raw::startup(&options));
    let refused = raw.query("INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&refused, b'C').as_deref(), Some("25006"));
    assert!(!rows(&raw.query("UPDATE t SET a = 0")).is_empty());
    // A setting of the database is seen by the first statement that is judged with the catalog's help.
    stage.direct(&format!(
        "ALTER DATABASE {} SET lockkeeper.dry_run = on",
        stage.database
    ));
    let mut raw = Raw::connect(stage.port, &stage.database);
    assert!(!rows(&raw.query("CREATE INDEX i ON t (a)")).is_empty());
    let refused = raw.query("INSERT INTO u VALUES (1, 1)");
    assert_eq!(error_field(&refused, b'C').as_deref(), Some("25006"));
    stage.direct(&format!("ALTER DATABASE {} RESET lockkeeper.dry_run", stage.database));
    assert_eq!(all_of(&stage), before);
}

fn who_holds_the_lock_is_told(major: u32) {
    let stage = stage(major, "");
    runs(async {
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("SET application_name = 'nightly'; BEGIN; SELECT count(*) FROM t")
            .await
            .unwrap();
        let out = told(&stage, "SET lockkeeper.dry_run = on; ALTER TABLE t ADD COLUMN c int;");
        assert!(out.contains("idle in transaction") && out.contains("nightly"), "{out}");
        assert!(
            out.contains("ACCESS EXCLUSIVE on") && out.contains("to end it: SELECT pg_terminate_backend("),
            "{out}"
        );
    });
}

fn a_measured_step_tells_the_time_of_the_next(major: u32) {
    let stage = stage(major, "");
    stage.direct(
        "ALTER TABLE t ADD COLUMN filler text; UPDATE t SET filler = repeat('x', 400); VACUUM FULL t; ANALYZE t",
    );
    let out = told(&stage, "SET lockkeeper.dry_run = on; CREATE INDEX i ON t (a);");
    assert!(out.contains("not known: two readings of a table of "), "{out}");
    told(&stage, "CREATE INDEX i ON t (a); UPDATE t SET b = 'y';");
    let out = told(
        &stage,
        "SET lockkeeper.dry_run = on; CREATE INDEX j ON t (a); UPDATE t SET b = 'z';",
    );
    assert_eq!(out.matches("as measured on this server").count(), 2, "{out}");
}

/// Of a text that is too long to be held only the front is seen.
fn what_is_too_long_is_not_let_go(major: u32) {
    for policy in ["", "[defaults]\nunparsed = \"allow\"\n"] {
        let stage = Stage::on(
            lockkeeper_testkit::cluster(major),
            "dry_large",
            &format!("{POLICY}{policy}"),
            &["--statement-bytes-max", "20000"],
        );
        stage.direct(TABLE);
        let before = all_of(&stage);
        let rows = vec!["(1, 1)"; 5_000].join(", ").replacen("(1, 1)", "(2, 2)", 1);
        let long = format!("INSERT INTO u VALUES {rows} ON CONFLICT DO NOTHING");
        let mut raw = Raw::connect(stage.port, &stage.database);
        let refused = raw.query(&format!("/* lockkeeper: dry_run */ {long}"));
        assert_eq!(error_field(&refused, b'C').as_deref(), Some("54000"));
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("SET lockkeeper.dry_run = on");
        assert_eq!(error_field(&raw.query(&long), b'C').as_deref(), Some("54000"));
        assert_eq!(all_of(&stage), before);
        let mut raw = Raw::connect(stage.port, &stage.database);
        assert_eq!(command_tags(&raw.query(&long)), ["INSERT 0 2"]);
    }
}

/// Operators, casts, aggregates and functions within functions: the server itself keeps them from writing.
fn code_that_no_text_names_writes_nothing(major: u32) {
    let stage = stage(major, "");
    stage.direct(
        "CREATE FUNCTION wrapped(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN writes($1); END';
         CREATE FUNCTION hidden(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM writes($1); RETURN true; END';
         CREATE OPERATOR ### (FUNCTION = hidden, LEFTARG = int, RIGHTARG = int);
         CREATE DOMAIN dom AS int CHECK (hidden(VALUE, 1));
         CREATE FUNCTION of_row(t) RETURNS int LANGUAGE sql STABLE AS 'SELECT wrapped($1.id)';
         CREATE AGGREGATE agw(int) (SFUNC = int4pl, STYPE = int, FINALFUNC = wrapped);
         CREATE VIEW v AS SELECT wrapped(3) AS n;",
    );
    let before = all_of(&stage);
    for sql in [
        "SELECT wrapped(1)",
        "SELECT 1 ### id FROM t LIMIT 1",
        "SELECT id::dom FROM t LIMIT 1",
        "SELECT t.of_row FROM t LIMIT 1",
        "SELECT agw(id) FROM t",
        "SELECT n FROM v",
        "COPY (SELECT id ### 2 FROM t LIMIT 1) TO STDOUT",
        "EXPLAIN SELECT 1 WHERE 1 ### 2",
    ] {
        let extended = [parse("", sql), bind("", ""), execute("", 0), sync()].concat();
        for message in [
            lockkeeper_testkit::raw::frame(b'Q', format!("{sql}\0").as_bytes()),
            extended,
        ] {
            for block in [false, true] {
                let mut raw = Raw::connect(stage.port, &stage.database);
                raw.query("SET lockkeeper.dry_run = on");
                if block {
                    raw.query("BEGIN READ WRITE");
                }
                raw.send(&message);
                assert_eq!(
                    error_field(&raw.until_ready(), b'C').as_deref(),
                    Some("25006"),
                    "{sql}, {block}"
                );
                if block {
                    raw.query("ROLLBACK");
                }
                // The plan of a judged statement comes as before, with what a trial says.
                assert!(
                    !rows(&raw.query("ALTER TABLE t ADD COLUMN n int DEFAULT 1")).is_empty(),
                    "{sql}"
                );
                // And what is no dry run writes again.
                raw.query("RESET lockkeeper.dry_run");
                let answer = raw.query("BEGIN; INSERT INTO u VALUES (1, 1); ROLLBACK");
                assert_eq!(error_field(&answer, b'M'), None, "{sql}");
            }
        }
    }
    assert_eq!(all_of(&stage), before);
}

/// To plan a statement the server calls functions that are said to change nothing, and the planner is asked about what is judged.
fn planning_writes_nothing(major: u32) {
    let stage = stage(major, "");
    stage.direct(
        "CREATE FUNCTION wrapped(int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN writes($1); END';
         CREATE FUNCTION numbers() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN pg_catalog.nextval(''s''); END';
         CREATE FUNCTION hidden(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN writes($1); END'",
    );
    let before = all_of(&stage);
    for sql in [
        "UPDATE t SET a = hidden(1)",
        "UPDATE t SET a = 1 WHERE id > numbers()",
        "UPDATE t SET a = 1 WHERE id = 1 AND a = hidden(1)",
        "DELETE FROM t WHERE id > wrapped(1)",
        "DO $$ BEGIN DELETE FROM t WHERE id > wrapped(1); END $$",
        "WITH d AS (DELETE FROM t WHERE id > hidden(1) RETURNING 1) SELECT 1",
        "INSERT INTO t SELECT hidden(1), 1 ON CONFLICT (id) DO UPDATE SET a = 1",
    ] {
        let extended = [parse("", sql), bind("", ""), execute("", 0), sync()].concat();
        let query = lockkeeper_testkit::raw::frame(b'Q', format!("{sql}\0").as_bytes());
        let group = [parse("", sql), bind("", ""), execute("", 0), extended.clone()].concat();
        for (message, block) in [
            (&query, false),
            (&query, true),
            (&extended, false),
            (&extended, true),
            (&group, false),
            (&group, true),
        ] {
            let mut raw = Raw::connect(stage.port, &stage.database);
            raw.query("SET lockkeeper.dry_run = on");
            if block {
                raw.query("BEGIN READ WRITE");
            }
            raw.send(message);
            let answer = raw.until_ready();
            assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"), "{sql}, {block}");
            let told = error_field(&answer, b'M').unwrap_or_default();
            assert!(told.contains("its plan is not known"), "{sql}: {told}");
            raw.query(if block { "COMMIT" } else { "SELECT 1" });
        }
    }
    assert_eq!(all_of(&stage), before);
}

fn the_setting_is_the_server_s_at_each_moment(major: u32) {
    let stage = stage(major, "in_transaction = \"defer\"\n");
    let before = all_of(&stage);
    let refuses = |raw: &mut Raw, what: &str| {
        let answer = raw.query("INSERT INTO u VALUES (1, 1)");
        assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"), "{what}");
    };
    let long = format!("/*{}*/ SET lockkeeper.dry_run = on", "x".repeat(5_000));
    for sql in [
        long.as_str(),
        "SET lockkeeper.dry_run = on; BEGIN; SET LOCAL lockkeeper.dry_run = off; COMMIT",
    ] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query(sql);
        refuses(&mut raw, sql);
    }
    // Its name and value are parameters.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            parse("", "SELECT set_config($1, $2, false)"),
            bind_with("", "", &["lockkeeper.dry_run", "on"]),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    raw.until_ready();
    refuses(&mut raw, "set_config");
    // With the transaction ends what was set in it.
    for end in ["COMMIT", "ROLLBACK"] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("SET lockkeeper.dry_run = on");
        for sql in ["BEGIN", "SET LOCAL lockkeeper.dry_run = off", end] {
            raw.query(sql);
        }
        refuses(&mut raw, end);
    }
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    raw.query("SET lockkeeper.dry_run = off; TRUNCATE t");
    refuses(&mut raw, "a message that was undone");
    let answer = raw
        .query("BEGIN; SAVEPOINT a; SET lockkeeper.dry_run = off; ROLLBACK TO a; INSERT INTO u VALUES (1, 1); COMMIT");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25006"));
    // Options, as the server reads them.
    let options = [
        ("user", "postgres"),
        ("database", stage.database.as_str()),
        ("options", "--lockkeeper.dry-run=on"),
    ];
    let mut raw = Raw::open(stage.port);
    raw.start(&lockkeeper_testkit::raw::startup(&options));
    refuses(&mut raw, "options");
    // A comment that is nearly the right one.
    let mut raw = Raw::connect(stage.port, &stage.database);
    for comment in [
        "lockkeeper: dry-run",
        "lockkeeper: dry_run=on",
        "lockkeeper : dry_run",
        "lockkeeper: dryrun",
    ] {
        let answer = raw.query(&format!("/* {comment} */ INSERT INTO u VALUES (1, 1)"));
        assert!(error_field(&answer, b'M').is_some(), "{comment}");
    }
    assert_eq!(all_of(&stage), before);
}

fn names_of_prepared_statements_do_not_deceive(major: u32) {
    let stage = stage(major, "");
    let before = all_of(&stage);
    let insert = "INSERT INTO u VALUES (1, 1)";
    let run = [bind("", "s"), execute("", 0), sync()].concat();
    // The name is taken by what was prepared before.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&[parse("s", insert), sync()].concat());
    raw.until_ready();
    raw.query("SET lockkeeper.dry_run = on");
    raw.send(&[parse("s", "SELECT 1"), sync()].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("42P05"));
    raw.send(&run);
    assert!(error_field(&raw.until_ready(), b'C').is_some());
    // The name goes to another.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("SET lockkeeper.dry_run = on");
    raw.send(&[parse("s", "SELECT 1"), sync()].concat());
    raw.until_ready();
    for sql in ["DEALLOCATE s", &format!("PREPARE s AS {insert}")] {
        raw.query(sql);
    }
    raw.send(&run);
    assert!(error_field(&raw.until_ready(), b'C').is_some());
    // A portal that was bound before.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.query("BEGIN");
    raw.send(&[parse("s", &format!("{insert} RETURNING id")), bind("p", "s"), sync()].concat());
    raw.until_ready();
    raw.query("SET lockkeeper.dry_run = on");
    assert_eq!(
        error_field(&raw.query("FETCH 3 FROM p"), b'C').as_deref(),
        Some("25006")
    );
    raw.query("ROLLBACK");
    assert_eq!(all_of(&stage), before);
}

/// `check --plan` says of a statement what the proxy's dry run answers, but for how long it takes here and who is in the way.
fn check_tells_the_same_plan(major: u32) {
    let stage = stage(major, "");
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), POLICY).unwrap();
    let port = stage.cluster.port();
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname={}", stage.database);
    for sql in [
        "CREATE INDEX ON t (a)",
        "ALTER TABLE t ADD CONSTRAINT above CHECK (a > 0)",
        "ALTER TABLE t ALTER a SET NOT NULL",
        "ALTER TABLE x ADD FOREIGN KEY (t_id) REFERENCES t",
        "ALTER TABLE t ADD CONSTRAINT once UNIQUE (a)",
        "ALTER TABLE t ALTER a SET DEFAULT 1",
        "DROP INDEX IF EXISTS t_a_idx",
        "UPDATE t SET a = a + 1",
        "DROP TABLE t",
        "COMMENT ON TABLE t IS 'x'",
        "SELECT 1",
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        lockkeeper_cluster::clean_environment(&mut command);
        command.args([
            "check", "--plan", "--format", "json", "--dsn", &dsn, "-c", sql, "--policy",
        ]);
        let out = command.arg(policy.path()).output().unwrap();
        let line: serde_json::Value =
            serde_json::from_slice(out.stdout.split(|b| *b == b'\n').next().unwrap()).unwrap();
        let of_check: Vec<String> = line["plan"].as_array().unwrap().iter().map(in_short).collect();
        if sql == "SELECT 1" || sql.starts_with("COMMENT") {
            assert!(of_check[0].contains("goes to the server as it is"), "{of_check:?}");
            continue;
        }
        let mut session = Raw::connect(stage.port, &stage.database);
        session.query("SET lockkeeper.dry_run = on");
        let answer = session.query(sql);
        let cells = cells(&answer);
        // step, action, sql, lock, blocks, rows, time, held_by, runs, rollback, why
        let of_proxy: Vec<String> = cells
            .chunks(11)
            .map(|row| [0, 1, 2, 3, 4, 5, 8, 9, 10].map(|at| row[at].clone()).join(" | "))
            .collect();
        assert!(!of_proxy.is_empty(), "{sql}");
        // Who has used it, no file tells.
        let without_uses = |told: &[String]| told.join("\n").split("Rule drop-table").next().unwrap().to_owned();
        assert_eq!(without_uses(&of_check), without_uses(&of_proxy), "{sql}");
    }
}

fn in_short(step: &serde_json::Value) -> String {
    let text = |key: &str| match &step[key] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        number => number.to_string(),
    };
    [
        "step", "action", "sql", "lock", "blocks", "rows", "runs", "rollback", "why",
    ]
    .map(text)
    .join(" | ")
}
