//! What a person may let through, and how it is recorded: `lockkeeper.override` in all the ways that PostgreSQL has for a setting,
//! the comment in front of a statement, and the policy's `[[override]]` blocks; on both servers, as the client, the catalog
//! and the audit log see it.

use lockkeeper_testkit::{QUICK, Stage, cluster, on_both};
use serde_json::Value;

on_both!(
    a_comment_lets_its_own_statement_through,
    a_comment_counts_in_the_extended_protocol,
    a_wrong_comment_is_refused,
    what_is_not_in_front_does_not_count,
    the_policy_decides_whose_comment_counts,
    a_setting_of_the_role_counts,
    a_rollback_takes_the_setting_back,
    blocks_of_the_policy_are_told_and_audited,
    every_table_of_a_statement_counts,
    a_tool_is_told_in_its_own_words,
);

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, x int); CREATE TABLE b (id int PRIMARY KEY, x int);
    CREATE SCHEMA scratch; CREATE TABLE scratch.a (id int, x int); INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1);
    INSERT INTO scratch.a VALUES (1, 1);";

fn stage(major: u32, policy: &str) -> Stage {
    let stage = Stage::on(cluster(major), "overrides", &format!("{QUICK}{policy}"), &[]);
    stage.direct(TABLES);
    stage
}

fn tables(stage: &Stage) -> String {
    stage.direct("SELECT string_agg(oid::regclass::text, ' ' ORDER BY oid::regclass::text) FROM pg_class WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'scratch'::regnamespace)")
}

/// Of each statement's last event that let a rule off: the statement, the rule, by what and why.
fn let_off(stage: &Stage) -> Vec<[String; 4]> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut found = Vec::new();
    for line in stage.audit_lines().iter().filter(|line| line["event"] == "statement") {
        for finding in line["findings"].as_array().into_iter().flatten() {
            if !finding["overridden"].is_null() {
                found.push([
                    text(&line["statement"]),
                    text(&finding["rule"]),
                    text(&finding["overridden_by"]),
                    text(&finding["overridden"]),
                ]);
            }
        }
    }
    found
}

fn a_comment_lets_its_own_statement_through(major: u32) {
    let stage = stage(major, "");
    let sql = "/* lockkeeper: allow=drop-table reason=\"ticket 42\" */ DROP TABLE a";
    let ran = stage.psql(&format!("{sql};\nDROP TABLE b;\n"));
    assert_eq!(ran.status, 3, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("drop-table is overridden: ticket 42 (by comment)"),
        "{}",
        ran.stderr
    );
    // The one after it is judged as ever, and told how to do it.
    assert!(
        ran.stderr
            .contains("/* lockkeeper: allow=drop-table reason=\"<why>\" */"),
        "{}",
        ran.stderr
    );
    assert_eq!(tables(&stage), "b scratch.a");
    let expect = [sql, "drop-table", "comment", "ticket 42"].map(str::to_string);
    assert_eq!(let_off(&stage), [expect]);
    // Several statements in one message, several rules in one comment.
    let sql = "SELECT 1; -- lockkeeper: allow=truncate,drop-column reason='old'\nTRUNCATE b; SELECT 2";
    stage.psql_args(&["-v", "ON_ERROR_STOP=1", "-c", sql], "").ok();
    let ran = stage.psql_args(
        &["-v", "ON_ERROR_STOP=1", "-c", &format!("{sql}; TRUNCATE scratch.a")],
        "",
    );
    assert_ne!(ran.status, 0);
    assert_eq!(stage.direct("SELECT count(*) FROM b").trim(), "0");
    assert_eq!(stage.direct("SELECT count(*) FROM scratch.a").trim(), "1");
}

fn a_comment_counts_in_the_extended_protocol(major: u32) {
    let stage = stage(major, "");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let connection = stage.connect().await;
        let refused = connection.client.execute("DROP TABLE a", &[]).await;
        assert!(refused.is_err());
        let sql = "-- lockkeeper: allow=drop-table reason=\"by driver\"\nDROP TABLE a";
        connection.client.execute(sql, &[]).await.expect("it is let through");
    });
    assert_eq!(tables(&stage), "b scratch.a");
    assert_eq!(let_off(&stage)[0][2..], ["comment", "by driver"].map(str::to_string));
}

fn a_wrong_comment_is_refused(major: u32) {
    let stage = stage(major, "");
    for (comment, told) in [
        (
            "allow=drop-tabel reason=\"x\"",
            "names no rule `drop-tabel`; the nearest is `drop-table`",
        ),
        ("alow=drop-table", "cannot be read: write /* lockkeeper: allow=RULE"),
        ("allow=drop-table", "needs a reason"),
        ("allow=drop-table reason=\" \"", "needs a reason"),
        ("allow=truncate reason=\"x\"", "DROP TABLE"),
    ] {
        let ran = stage.psql(&format!("/* lockkeeper: {comment} */ DROP TABLE a;"));
        assert!(
            ran.status != 0 && ran.stderr.contains(told),
            "{comment}: {}",
            ran.stderr
        );
    }
    // Also where nothing would have been found: who wrote it wanted something.
    let ran = stage.psql("/* lockkeeper: allow=nonconcurent-index reason=\"x\" */ CREATE TABLE c (id int);");
    assert!(
        ran.stderr.contains("the nearest is `nonconcurrent-index`"),
        "{}",
        ran.stderr
    );
    assert_eq!(tables(&stage), "a b scratch.a");
    let without = stage
        .audit_lines()
        .iter()
        .filter(|line| line["outcome"] == "rejected")
        .count();
    assert_eq!((without, let_off(&stage).len()), (6, 0));
}

fn what_is_not_in_front_does_not_count(major: u32) {
    let stage = stage(major, "");
    let comment = "/* lockkeeper: allow=drop-table reason=\"x\" */";
    for sql in [
        format!("DROP TABLE a {comment}"),
        format!("DROP {comment} TABLE a"),
        // As sqlcommenter and Rails' query log tags write what a request has put into it.
        "/*action:index,path:/?q=lockkeeper: allow=drop-table reason=\"x\"*/ DROP TABLE a".to_string(),
        format!("DROP TABLE a /*path='%2F*/ {comment}"),
        format!("{comment} SELECT 1; DROP TABLE a"),
        format!("SELECT '{comment}'; DROP TABLE a"),
    ] {
        let ran = stage.psql_args(&["-v", "ON_ERROR_STOP=1", "-c", &sql], "");
        assert!(
            ran.status != 0 && ran.stderr.contains("loses the data"),
            "{sql}: {}",
            ran.stderr
        );
    }
    assert_eq!(tables(&stage), "a b scratch.a");
}

fn the_policy_decides_whose_comment_counts(major: u32) {
    let mut stage = stage(major, "");
    let dba = format!("dba_{}", stage.database);
    stage.direct(&format!("CREATE ROLE {dba} SUPERUSER"));
    let policy =
        format!("extends = \"strict\"\n[[override]]\nrole = \"{dba}\"\nmay_override = true\nreason_required = false\n");
    std::fs::write(stage.policy_file(), policy).unwrap();
    stage.kill_proxy();
    stage.start_proxy(&[]);
    let ran = stage.psql("/* lockkeeper: allow=drop-table reason=\"x\" */ DROP TABLE a;");
    assert!(
        ran.stderr.contains("the policy does not let postgres use it"),
        "{}",
        ran.stderr
    );
    // Nothing is advised that would not help.
    assert!(
        ran.stderr
            .contains("3. DROP TABLE a;  -- by a role that the policy lets override drop-table, as postgres is none")
            && !ran.stderr.contains("SET lockkeeper"),
        "{}",
        ran.stderr
    );
    assert_eq!(tables(&stage), "a b scratch.a");
    stage
        .psql(&format!(
            "SET ROLE {dba};\n/* lockkeeper: allow=drop-table */ DROP TABLE a;\n"
        ))
        .ok();
    assert_eq!(tables(&stage), "b scratch.a");
    stage.direct(&format!("DROP ROLE {dba}"));
}

/// ALTER ROLE … SET, ALTER DATABASE … SET and PGOPTIONS give the setting to a session from its start.
fn a_setting_of_the_role_counts(major: u32) {
    let stage = stage(major, "");
    let role = format!("role_{}", stage.database);
    stage.direct(&format!(
        "CREATE ROLE {role} SUPERUSER LOGIN; ALTER ROLE {role} SET lockkeeper.override = 'drop-table: the role''s'"
    ));
    stage
        .psql_args(&["-v", "ON_ERROR_STOP=1", "-U", &role, "-c", "DROP TABLE a"], "")
        .ok();
    let ran = stage.psql("DROP TABLE b;");
    assert_ne!(ran.status, 0);
    stage.direct(&format!(
        "ALTER DATABASE {} SET lockkeeper.override = 'drop-table,truncate: the database''s'",
        stage.database
    ));
    stage.psql("DROP TABLE b;").ok();
    assert_eq!(tables(&stage), "scratch.a");
    let reasons: Vec<String> = let_off(&stage)
        .into_iter()
        .map(|[_, _, by, why]| format!("{by}: {why}"))
        .collect();
    assert_eq!(
        reasons,
        ["lockkeeper.override: the role's", "lockkeeper.override: the database's"]
    );
    stage.direct(&format!("DROP ROLE {role}"));
}

fn a_rollback_takes_the_setting_back(major: u32) {
    let stage = stage(major, "");
    for script in [
        "BEGIN;\nSET lockkeeper.override = 'drop-table: x';\nROLLBACK;\nDROP TABLE a;\n",
        "BEGIN;\nSAVEPOINT s;\nSET LOCAL lockkeeper.override = 'drop-table: x';\nROLLBACK TO s;\nDROP TABLE a;\n",
        "BEGIN;\nSET LOCAL lockkeeper.override = 'drop-table: x';\nCOMMIT;\nDROP TABLE a;\n",
        "SET lockkeeper.override = 'drop-table: x';\nRESET lockkeeper.override;\nDROP TABLE a;\n",
        "SET lockkeeper.override = 'drop-table: x';\nDISCARD ALL;\nDROP TABLE a;\n",
    ] {
        assert_ne!(stage.psql(script).status, 0, "{script}");
    }
    assert_eq!(tables(&stage), "a b scratch.a");
    stage
        .psql("SET lockkeeper.override = 'drop-table, truncate: both';\nTRUNCATE b;\nDROP TABLE a;\n")
        .ok();
    assert_eq!(tables(&stage), "b scratch.a");
}

fn blocks_of_the_policy_are_told_and_audited(major: u32) {
    let blocks = "
        [[override]]
        application_name = \"night-*\"
        database = \"overrides_*\"
        table = \"a\"
        rules = { drop-table = \"allow\", truncate = \"warn\" }
        reason = \"nobody is there at night\"
        [[override]]
        table = \"b\"
        rules = { drop-table = \"allow\" }
        ";
    let stage = stage(major, blocks);
    assert_ne!(stage.psql("DROP TABLE a;").status, 0);
    let ran = stage.psql("SET application_name = 'night-7';\nTRUNCATE a;\nDROP TABLE a;\n");
    let told = "is overridden: nobody is there at night (by [[override]] database = \"overrides_*\", application_name = \"night-*\", table = \"a\")";
    assert!(ran.stderr.contains(&format!("drop-table {told}")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("truncate {told}")), "{}", ran.stderr);
    ran.ok();
    let ran = stage.psql("DROP TABLE b;");
    assert!(
        ran.stderr
            .contains("drop-table is overridden by [[override]] table = \"b\""),
        "{}",
        ran.stderr
    );
    let audited: Vec<String> = let_off(&stage)
        .into_iter()
        .map(|[sql, rule, by, why]| format!("{sql}: {rule} {by}: {why}"))
        .collect();
    let block = "[[override]] database = \"overrides_*\", application_name = \"night-*\", table = \"a\": nobody is there at night";
    assert_eq!(
        audited,
        [
            format!("TRUNCATE a: truncate {block}"),
            format!("DROP TABLE a: drop-table {block}"),
            "DROP TABLE b: drop-table [[override]] table = \"b\": ".to_string(),
        ]
    );
    assert_eq!(tables(&stage), "scratch.a");
}

fn every_table_of_a_statement_counts(major: u32) {
    let blocks = "
        [[override]]
        table = \"scratch.*\"
        rules = { drop-table = \"allow\", truncate = \"allow\", drop-column = \"allow\" }
        ";
    let stage = stage(major, blocks);
    for sql in [
        "DROP TABLE scratch.a, b",
        "DROP TABLE b, scratch.a",
        "TRUNCATE scratch.a, a",
        "ALTER TABLE a DROP COLUMN x",
    ] {
        let ran = stage.psql(sql);
        assert_ne!(ran.status, 0, "{sql}");
    }
    stage
        .psql("ALTER TABLE scratch.a DROP COLUMN x;\nTRUNCATE scratch.a;\nDROP TABLE scratch.a;\n")
        .ok();
    assert_eq!(tables(&stage), "a b");
}

/// What the hint gives a migration is done as it stands there.
fn a_tool_is_told_in_its_own_words(major: u32) {
    let stage = stage(major, "");
    let tools = [
        ("SELECT 1 AS django_migrations", "migrations.RunSQL(\"", "\")"),
        ("SELECT 1 AS alembic_version", "op.execute(\"", "\")"),
        ("SELECT 1 AS ar_internal_metadata", "execute \"", "\""),
        ("SELECT 1 AS knex_migrations", "knex.raw(\"", "\")"),
        ("SELECT 1 AS pgmigrations", "pgm.sql(\"", "\")"),
        ("SELECT 1 AS \"SequelizeMeta\"", ".query(\"", "\")"),
    ];
    for (known_by, before, after) in tools {
        let given = |hint: &str| -> Vec<String> {
            let calls = hint.split(before).skip(1);
            calls
                .map(|call| {
                    call.split_once(after)
                        .expect("an end of the call")
                        .0
                        .replace("<why>", "ticket 42")
                })
                .collect()
        };
        let run = |statements: &[&str]| stage.psql_args(&["-v", "ON_ERROR_STOP=1"], &statements.join(";\n"));
        let drop = "ALTER TABLE a DROP COLUMN x";
        let refused = run(&[known_by, "BEGIN", drop]);
        let told = given(&refused.stderr);
        let [set] = told.as_slice() else {
            panic!("{}", refused.stderr)
        };
        assert!(
            refused.stderr.contains("DETAIL:  Rule drop-column: the lock is"),
            "{}",
            refused.stderr
        );
        run(&["BEGIN", set, drop, "ROLLBACK"]).ok();
        // It ends with its transaction.
        assert_ne!(run(&["BEGIN", set, "COMMIT", drop]).status, 0);
        let refused = run(&[known_by, drop]);
        let told = given(&refused.stderr);
        let [set, reset] = told.as_slice() else {
            panic!("{}", refused.stderr)
        };
        run(&[set, "BEGIN", drop, "ROLLBACK"]).ok();
        assert_ne!(run(&[set, reset, drop]).status, 0);
        assert_eq!(
            stage.direct("SELECT count(*) FROM pg_attribute WHERE attrelid = 'a'::regclass AND attname = 'x'"),
            "1"
        );
    }
    let refused = stage.psql("SELECT 1 AS flyway_schema_history;\nALTER TABLE a DROP COLUMN x");
    assert!(
        refused
            .stderr
            .contains("in the migration's file, in front of it /* lockkeeper: allow=drop-column"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("SET lockkeeper"), "{}", refused.stderr);
}
