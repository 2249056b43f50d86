//! The policy's action `ask`: a second person, as another role, decides; what was approved runs, and the audit log says by whom and why.

use lockkeeper_testkit::raw::{Raw, bind_with, command_tags, error_field, execute, parse, rows, startup, sync};
use lockkeeper_testkit::{Stage, cluster, on_both, runs, until};
use std::process::Command;

on_both!(a_second_person_decides, a_statement_waits_for_the_second_person,);

const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 10\n[rules]\ndrop-table = \"ask\"\nnonconcurrent-index = \"ask\"\nlarge-write = \"ask\"\n";

fn session(stage: &Stage, user: &str) -> Raw {
    let mut raw = Raw::open(stage.port);
    raw.start(&startup(&[("user", user), ("database", &stage.database)]));
    raw
}

fn command(stage: &Stage, user: &str, arguments: &[&str]) -> (bool, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["approvals", "--dsn"])
        .arg(format!("host=127.0.0.1 port={} user={user}", stage.port))
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    (ran.status.success(), text)
}

/// The number under which it waits.
fn asked(raw: &mut Raw, sql: &str) -> String {
    let answer = raw.query(sql);
    let message = error_field(&answer, b'M').expect("it is refused");
    let (_, number) = message.split_once("asked for as number ").expect(&message);
    let hint = error_field(&answer, b'H').unwrap_or_default();
    assert!(hint.contains(&format!("approve {number} --reason")), "{hint}");
    number.to_owned()
}

fn a_second_person_decides(major: u32) {
    let (amy, dba) = (format!("amy_{major}"), format!("dba_{major}"));
    let users = format!("{amy},{dba}");
    let stage = Stage::on(cluster(major), "approvals", POLICY, &["--console-users", &users]);
    stage.direct(&format!(
        "CREATE ROLE {amy} LOGIN; CREATE ROLE {dba} LOGIN; CREATE TABLE t (id int PRIMARY KEY, a int);
         INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i; CREATE TABLE old (id int); INSERT INTO old VALUES (1); ANALYZE;
         ALTER TABLE t OWNER TO {amy}; ALTER TABLE old OWNER TO {amy}; GRANT CREATE ON SCHEMA public TO {amy}"
    ));
    let mut raw = session(&stage, &amy);
    let number = asked(&mut raw, "DROP TABLE old");
    assert_eq!(asked(&mut raw, "DROP TABLE old"), number, "asked again it is the same");
    // Nobody overrides alone what two decide, and who asks does not decide.
    raw.query("SET lockkeeper.override = 'drop-table: I say so'");
    assert_eq!(asked(&mut raw, "DROP TABLE old"), number);
    raw.query("RESET lockkeeper.override");
    let (ok, said) = command(&stage, &amy, &["approve", &number, "--reason", "mine"]);
    assert!(!ok && said.contains("somebody else decides"), "{said}");
    let (ok, list) = command(&stage, &dba, &["list"]);
    assert!(
        ok && list.contains("waiting") && list.contains("DROP TABLE old"),
        "{list}"
    );
    // Declined, with the reason.
    let (ok, said) = command(&stage, &dba, &["decline", &number, "--reason", "it's read; by reports"]);
    assert!(ok, "{said}");
    let message = error_field(&raw.query("DROP TABLE old"), b'M').unwrap_or_default();
    assert!(
        message.contains(&format!("{dba} has declined it: it's read; by reports")),
        "{message}"
    );
    assert_eq!(stage.number("SELECT count(*) FROM old"), 1);

    // Approved, a statement runs in its safe way where it has one.
    let number = asked(&mut raw, "CREATE INDEX i ON t (a)");
    let (ok, said) = command(&stage, &dba, &["approve", &number, "--reason", "ticket 42"]);
    assert!(ok && said.contains("within an hour"), "{said}");
    // Another text, or somebody else's, is not meant.
    asked(&mut raw, "CREATE INDEX other ON t (a)");
    asked(&mut session(&stage, "postgres"), "CREATE INDEX i ON t (a)");
    assert_eq!(command_tags(&raw.query("CREATE INDEX i ON t (a)")), ["CREATE INDEX"]);
    let end = stage.audit_lines();
    let end = end.iter().rfind(|line| line["event"] == "statement").expect("the end");
    assert_eq!(end["outcome"], "done");
    assert!(
        end["steps"][0]["sql"]
            .as_str()
            .is_some_and(|sql| sql.contains("CONCURRENTLY")),
        "{end}"
    );
    assert_eq!(end["findings"][0]["overridden"], "ticket 42");
    assert_eq!(
        end["findings"][0]["overridden_by"],
        format!("approval {number} of {dba}")
    );
    // What the text means now was approved: neither another table of that name, nor another role's, nor one that was made since.
    let number = asked(&mut raw, "DROP TABLE old /* which */");
    let (ok, said) = command(&stage, &dba, &["approve", &number, "--reason", "this one"]);
    assert!(ok, "{said}");
    stage.direct(&format!(
        "CREATE SCHEMA other AUTHORIZATION {amy}; CREATE TABLE other.old AS SELECT 2 AS id; ALTER TABLE other.old OWNER TO {amy}; GRANT {dba} TO {amy}"
    ));
    for change in ["SET search_path = other, public".to_owned(), format!("SET ROLE {dba}")] {
        raw.query(&change);
        asked(&mut raw, "DROP TABLE old /* which */");
        raw.query("RESET ALL");
        raw.query("RESET ROLE");
    }
    stage.direct(&format!(
        "DROP TABLE old; CREATE TABLE old AS SELECT 1 AS id; ALTER TABLE old OWNER TO {amy}"
    ));
    asked(&mut raw, "DROP TABLE old /* which */");

    // And as it is where it has none.
    let number = asked(&mut raw, "DROP TABLE old /* again */");
    let said = stage
        .psql_args(
            &["-d", "lockkeeper", "-U", &dba, "-At"],
            &format!("APPROVE {number} 'nobody reads it';"),
        )
        .ok();
    assert!(said.contains("is approved"), "{said}");
    assert_eq!(command_tags(&raw.query("DROP TABLE old /* again */")), ["DROP TABLE"]);

    // Parameters are a part of it.
    let update = |raw: &mut Raw, value: &str| {
        let sql = "UPDATE t SET a = $1 WHERE id > 0";
        raw.send(&[parse("", sql), bind_with("", "", &[value]), execute("", 0), sync()].concat());
        let answer = raw.until_ready();
        (error_field(&answer, b'M'), command_tags(&answer))
    };
    let (message, _) = update(&mut raw, "5");
    let message = message.expect("it is refused");
    let (_, number) = message.split_once("asked for as number ").expect(&message);
    let (ok, said) = command(&stage, &dba, &["approve", number, "--reason", "five is right"]);
    assert!(ok, "{said}");
    assert!(update(&mut raw, "6").0.is_some());
    // What an approval would not help is refused as ever.
    let message = error_field(&raw.query("ALTER TABLE t DROP COLUMN a"), b'M').unwrap_or_default();
    assert!(!message.is_empty() && !message.contains("approval"), "{message}");
    // A dry run asks nobody.
    raw.query("SET lockkeeper.dry_run = on");
    assert_eq!(rows(&raw.query("DROP TABLE t")), ["refused"]);
    let (_, list) = command(&stage, &dba, &["list"]);
    assert!(!list.contains("DROP TABLE t\n"), "{list}");
}

/// The numbers of the approvals that were decided, as the log has them: with the statement's own id, before the decision counts.
fn decisions(stage: &Stage) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let lines = stage.audit_lines();
    let decided = lines.iter().filter(|line| line["event"] == "decided");
    decided
        .map(|line| (text(&line["id"]), text(&line["outcome"]), text(&line["detail"])))
        .collect()
}

fn a_statement_waits_for_the_second_person(major: u32) {
    let (eve, chief) = (format!("eve_{major}"), format!("chief_{major}"));
    let users = format!("{eve},{chief}");
    let policy = format!("{POLICY}[approval]\nwait_s = 60\n");
    let stage = Stage::on(cluster(major), "waiting", &policy, &["--console-users", &users]);
    stage.direct(&format!(
        "CREATE ROLE {eve} LOGIN; CREATE ROLE {chief} LOGIN; GRANT CREATE ON SCHEMA public TO {eve};
         CREATE TABLE a AS SELECT 1; CREATE TABLE b AS SELECT 1; CREATE TABLE c AS SELECT 1; CREATE TABLE d AS SELECT 1;
         ALTER TABLE a OWNER TO {eve}; ALTER TABLE b OWNER TO {eve}; ALTER TABLE c OWNER TO {eve}; ALTER TABLE d OWNER TO {eve}"
    ));
    let decide = |what: &str, statement: &str| {
        let number = waiting(&stage, &chief, statement);
        let (ok, said) = command(&stage, &chief, &[what, &number, "--reason", "ticket 42"]);
        assert!(ok, "{said}");
        number
    };
    // Approved while it waits: it runs, and its lines in the log have one id.
    let mut raw = session(&stage, &eve);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| raw.query("DROP TABLE a"));
        let number = decide("approve", "DROP TABLE a");
        let answer = sent.join().expect("an answer");
        assert_eq!(command_tags(&answer), ["DROP TABLE"]);
        let lines = stage.audit_lines();
        let end = lines
            .iter()
            .rfind(|line| line["event"] == "statement")
            .expect("the end");
        let id = end["id"].as_str().unwrap_or_default().to_owned();
        let detail = format!("approval {number}: approved by {chief}: ticket 42");
        assert_eq!(decisions(&stage), [(id.clone(), "approved".into(), detail.clone())]);
        assert!(!lines.iter().any(|line| line["outcome"] == "rejected"));
        let shown = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
            .args(["audit", "show", &id])
            .arg(stage.audit_file())
            .env("COLUMNS", "140")
            .output()
            .expect("it runs");
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(&detail), "{shown}");
    });
    // Prepared, too; declined it is refused with the reason.
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            raw.send(
                &[
                    parse("", "DROP TABLE b"),
                    bind_with("", "", &[]),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            );
            raw.until_ready()
        });
        decide("decline", "DROP TABLE b");
        let message = error_field(&sent.join().expect("an answer"), b'M').unwrap_or_default();
        assert!(message.contains("has declined it: ticket 42"), "{message}");
    });
    // In a transaction nothing waits, since its locks would wait as well.
    raw.query("BEGIN");
    asked(&mut raw, "DROP TABLE c");
    raw.query("ROLLBACK");
    // A cancel request ends the wait.
    runs(async {
        let dsn = format!(
            "host=127.0.0.1 port={} user={eve} dbname={}",
            stage.port, stage.database
        );
        let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
            .await
            .expect("a session");
        tokio::spawn(connection);
        let token = client.cancel_token();
        let sent = tokio::spawn(async move { client.simple_query("DROP TABLE d").await });
        waiting(&stage, &chief, "DROP TABLE d");
        token.cancel_query(tokio_postgres::NoTls).await.expect("sent");
        let ended = sent.await.expect("no panic").expect_err("cancelled");
        assert_eq!(ended.code(), Some(&tokio_postgres::error::SqlState::QUERY_CANCELED));
    });
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_class WHERE relname IN ('b', 'c', 'd')"),
        "3"
    );
}

/// Its number, once the statement waits.
fn waiting(stage: &Stage, user: &str, statement: &str) -> String {
    let mut number = String::new();
    until("the statement waits", || {
        let list = command(stage, user, &["list"]).1;
        let lines: Vec<&str> = list.lines().collect();
        let found = lines
            .windows(2)
            .find(|two| two[1].trim() == statement && two[0].contains("waiting"));
        number = found
            .and_then(|two| two[0].split_whitespace().next())
            .unwrap_or_default()
            .to_owned();
        !number.is_empty()
    });
    number
}
