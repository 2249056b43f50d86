//! `lockkeeper doctor` and `serve --check`: what is lacking, and the SQL that mends it.

use lockkeeper_testkit::{Stage, cluster, on_both};
use std::io::Write;
use std::process::{Command, Output};

on_both!(what_is_lacking_is_told_with_what_mends_it,);

fn doctor(stage: &Stage, user: &str) -> (Option<i32>, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["doctor", "--dsn"])
        .arg(format!(
            "host=127.0.0.1 port={} user={user} dbname={}",
            stage.port, stage.database
        ))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    (ran.status.code(), text)
}

fn what_is_lacking_is_told_with_what_mends_it(major: u32) {
    let stage = Stage::without_proxy(cluster(major), "doctor");
    let role = format!("doctor_{major}");
    stage.direct(&format!(
        "CREATE ROLE {role} LOGIN; REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC;
         CREATE TABLE t (id int, a int); INSERT INTO t VALUES (1, 1), (1, 1); ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;
         CREATE PUBLICATION p FOR TABLE t",
        stage.database
    ));
    // A build that failed has left its index.
    stage.direct_args(&[], "CREATE UNIQUE INDEX CONCURRENTLY broken ON t (id);");
    let (code, text) = doctor(&stage, &role);
    assert_eq!(code, Some(1), "{text}");
    for part in [
        "ok       PostgreSQL ",
        "ok       no connection pooler",
        "lacking  jobs: there is no table lockkeeper.job",
        "a superuser runs once: lockkeeper init",
        "lacking  TEMPORARY is missing",
        &format!("GRANT TEMPORARY ON DATABASE {} TO {role};", stage.database),
        "note     pg_monitor is missing",
        "without a replica identity, so that UPDATE and DELETE fail: public.t",
        "DROP INDEX CONCURRENTLY public.broken;",
        "ALTER TABLE public.t VALIDATE CONSTRAINT c;",
        "idle_in_transaction_session_timeout is 0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What it says, done.
    let grants: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("GRANT"))
        .collect();
    stage.direct(&grants.join("\n"));
    let init = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["init", "--dsn"])
        .arg(format!(
            "host=127.0.0.1 port={} user=postgres dbname={}",
            stage.port, stage.database
        ))
        .output()
        .expect("it runs");
    assert!(init.status.success(), "{init:?}");
    let (code, text) = doctor(&stage, &role);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok       jobs: lockkeeper.job is postgres's"), "{text}");
    // It changes nothing, and says who it is that is not let in.
    let (code, text) = doctor(&stage, "nobody_at_all");
    assert!(code == Some(1) && text.contains("nobody_at_all"), "{text}");
}

fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let ran: Output = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["serve", "--check"])
        .args(arguments)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    (ran.status.code(), text)
}

#[test]
fn serve_is_checked_before_it_serves() {
    let stage = Stage::without_proxy(cluster(lockkeeper_testkit::MAJOR), "serve_check");
    let server = format!("127.0.0.1:{}", stage.port);
    let dir = tempfile::tempdir().expect("a directory");
    let audit = dir.path().join("audit.jsonl").display().to_string();
    let (code, text) = check(&["--upstream", &server, "--audit", &audit]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("ok  policy standard") && text.contains(": it answers"),
        "{text}"
    );
    let nobody = lockkeeper_cluster::free_port().expect("a port");
    let (code, text) = check(&["--upstream", &format!("127.0.0.1:{nobody}")]);
    assert!(code == Some(1) && text.contains("refused"), "{text}");
    // Something else answers there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an address");
    let other = listener.local_addr().expect("an address").to_string();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("it is written");
    });
    let (code, text) = check(&["--upstream", &other]);
    answers.join().expect("it has answered");
    assert!(code == Some(1) && text.contains("no PostgreSQL server"), "{text}");
    let (code, text) = check(&["--upstream", &server, "--policy", "strct"]);
    assert!(code == Some(2) && text.contains("strict"), "{text}");
}
