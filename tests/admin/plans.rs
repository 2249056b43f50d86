//! Plans that others than their client pause, resume and cancel: from the console, over HTTP and by the command line.

use super::http::ask;
use super::{Admin, LARGE, TOKEN, until};
use lockkeeper_testkit::raw::{Raw, command_tags, error_field, frame, rows};
use serde_json::Value;
use std::time::Duration;

/// So slow that it can be steered in the middle.
const SLOW: &str = "extends = \"standard\"\n\n[backfill]\nbatch_rows = 100\nbatch_rows_max = 100\npause_ms = 50\n\n[rules]\ntruncate = \"warn\"\n\n[[override]]\nrole = \"dba\"\nmay_override = true\nreason = \"on call\"\n";

fn plan(admin: &Admin) -> Option<Value> {
    let live = admin.live();
    let sessions = live["sessions"].as_array()?;
    let plan = sessions
        .iter()
        .map(|session| &session["plan"])
        .find(|plan| plan.is_object());
    plan.cloned()
}

fn begun(admin: &Admin, sql: &str) -> (Raw, String) {
    let mut raw = Raw::connect(admin.stage.port, &admin.stage.database);
    raw.send(&frame(b'Q', &[sql.as_bytes(), b"\0"].concat()));
    until("the plan is seen", || plan(admin).is_some());
    let id = plan(admin).expect("a plan")["id"].as_str().expect("an ID").to_owned();
    (raw, id)
}

fn command(admin: &Admin, arguments: &[&str]) -> (bool, String) {
    let dsn = format!("host=127.0.0.1 port={} user=postgres", admin.stage.port);
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["plans", "--dsn", &dsn])
        .args(arguments)
        .output()
        .expect("it runs");
    let text = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn post(admin: &Admin, path: &str) -> (u16, String) {
    let headers = [
        &format!("Authorization: Bearer {TOKEN}"),
        "Content-Type: application/json",
    ];
    let answer = ask(admin.port, &format!("POST {path}"), &headers);
    (answer.status, answer.body)
}

fn changed(admin: &Admin) -> i64 {
    admin.stage.number("SELECT count(*) FROM users WHERE name = 'x'")
}

#[test]
fn batches_are_paused_resumed_and_cancelled() {
    let admin = Admin::with("plans", SLOW);
    admin.stage.direct(LARGE);
    let (mut raw, id) = begun(&admin, "UPDATE users SET name = 'x'");
    until("rows are changed", || changed(&admin) > 0);
    let (ok, list) = command(&admin, &["list"]);
    assert!(
        ok && list.contains(&id) && list.contains("step 1 of 1 (change rows in batches)"),
        "{list}"
    );
    // By the command line.
    let (ok, said) = command(&admin, &["pause", &id]);
    assert!(ok && said.contains("is paused after the batch"), "{said}");
    until("it is paused", || {
        plan(&admin).is_some_and(|plan| plan["paused_by"] == "postgres, at the console")
    });
    let before = changed(&admin);
    // It waits on the server, without a lock on the table, for far longer than between two batches.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(changed(&admin), before);
    let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'users'::regclass AND pid <> pg_backend_pid()";
    assert_eq!(admin.stage.number(locks), 0);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(admin.stage.number(waits), 1);
    // Over HTTP, with the token.
    assert_eq!(
        ask(
            admin.port,
            &format!("POST /api/plans/{id}/resume"),
            &["Content-Type: application/json"]
        )
        .status,
        401
    );
    assert_eq!(post(&admin, &format!("/api/plans/{id}/resume")).0, 200);
    assert_eq!(post(&admin, &format!("/api/plans/{id}/resume")).0, 409);
    until("it goes on", || changed(&admin) > before);
    // In the console.
    let said = admin
        .stage
        .psql_args(&["-d", "lockkeeper", "-At"], &format!("CANCEL PLAN {id};"))
        .ok();
    assert!(said.contains("is cancelled: step 1 of 1"), "{said}");
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"));
    let detail = error_field(&answer, b'D').unwrap_or_default();
    assert!(detail.contains("cancelled by postgres, at the console"), "{detail}");
    until("no plan runs", || plan(&admin).is_none());
    let (ok, said) = command(&admin, &["cancel", &id]);
    assert!(!ok && said.contains("there is no plan"), "{said}");
    assert_eq!(rows(&raw.query("SELECT 1")), ["1"]);
}

#[test]
fn a_wait_for_a_lock_is_cancelled_at_every_moment() {
    let admin = Admin::new("plans_lock");
    admin.stage.direct(LARGE);
    let mut holder = Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    holder.query("BEGIN");
    holder.query("SELECT count(*) FROM users");
    // Between the tries too: whoever asks meets another moment each time.
    for round in 0..12 {
        let (mut raw, id) = begun(&admin, "ALTER TABLE users ADD COLUMN c int");
        std::thread::sleep(Duration::from_millis(37 * round));
        if round % 2 == 0 {
            let (ok, said) = command(&admin, &["cancel", &id]);
            assert!(ok, "{said}");
        } else {
            let pid = admin.live()["sessions"]
                .as_array()
                .and_then(|all| all.iter().find(|session| session["plan"].is_object()))
                .and_then(|session| session["backend_pid"].as_i64())
                .expect("a process");
            // Between two statements a backend is idle for a moment, and one that is idle does not hear of it (manual section 9.28.2): whoever
            // cancels sees that and does it again.
            until("it is cancelled", || {
                let cancelled = admin.stage.direct(&format!("SELECT pg_cancel_backend({pid})"));
                assert_eq!(cancelled.trim(), "t");
                std::thread::sleep(Duration::from_millis(300));
                plan(&admin).is_none()
            });
        }
        let answer = raw.until_ready();
        assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"), "{round}");
    }
    // In a transaction a pause would keep the locks.
    let mut raw = Raw::connect(admin.stage.port, &admin.stage.database);
    raw.query("BEGIN");
    raw.send(&frame(b'Q', b"ALTER TABLE users ADD COLUMN c int\0"));
    until("the plan is seen", || plan(&admin).is_some());
    let id = plan(&admin).expect("a plan")["id"].as_str().expect("an ID").to_owned();
    let (ok, said) = command(&admin, &["pause", &id]);
    assert!(!ok && said.contains("runs in a transaction"), "{said}");
    command(&admin, &["cancel", &id]);
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57014"));
    holder.query("ROLLBACK");
}

#[test]
fn a_lock_that_is_waited_for_is_paused_between_the_tries() {
    let admin = Admin::with("plans_pause", "extends = \"standard\"\n[lock]\ngive_up_after_s = 4\n");
    admin.stage.direct(LARGE);
    let mut holder = Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    holder.query("BEGIN");
    holder.query("SELECT count(*) FROM users");
    let (mut raw, id) = begun(&admin, "ALTER TABLE users ADD COLUMN c int");
    command(&admin, &["pause", &id]);
    until("it is paused", || {
        plan(&admin).is_some_and(|plan| plan["paused_by"].is_string())
    });
    let tries = || plan(&admin).map(|plan| plan["lock_tries"].clone());
    let before = tries();
    std::thread::sleep(Duration::from_millis(4_500));
    assert_eq!(tries(), before, "it does not try while it is paused");
    command(&admin, &["resume", &id]);
    // The time in which it was paused is no wait for the lock: it does not give up, though others hold it still.
    until("it tries again", || tries() != before);
    std::thread::sleep(Duration::from_millis(500));
    holder.query("ROLLBACK");
    assert_eq!(command_tags(&raw.until_ready()), ["ALTER TABLE"]);
}

#[test]
fn the_whole_policy_is_shown_and_the_version_in_every_session() {
    let admin = Admin::with("shown", SLOW);
    let out = admin.stage.psql_args(&["-d", "lockkeeper", "-At"], "SHOW POLICY;").ok();
    for line in [
        "defaults.rule|rewrite",
        "defaults.may_override|true",
        "lock.give_up_after_s|300",
        "backfill.batch_rows|100",
        "backfill.wal_max_percent|150",
        "backfill.in_transaction|reject",
        "audit.literals|keep",
        "rules.drop-column|reject",
        "rules.truncate|warn",
        "[[override]] role = \"dba\"|may_override = true, reason: on call",
    ] {
        assert!(out.lines().any(|shown| shown == line), "{line}: {out}");
    }
    let mut raw = Raw::connect(admin.stage.port, &admin.stage.database);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(rows(&raw.query("SHOW lockkeeper.version")), [version]);
    raw.query("BEGIN");
    assert_eq!(rows(&raw.query("show LockKeeper.version;")), [version]);
    raw.query("ROLLBACK");
    use lockkeeper_testkit::raw::{bind, describe, execute, parse, sync};
    raw.send(
        &[
            parse("", "SHOW lockkeeper.version"),
            bind("", ""),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(rows(&raw.until_ready()), [version]);
}
