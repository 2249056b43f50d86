//! Webhooks with real receivers: one that fails first, and one that never answers.

use lockkeeper_testkit::{Ran, Stage, cluster, until};
use ring::hmac;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SECRET: &str = "not to be guessed";
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[rules]\ndrop-table = \"ask\"\ndrop-column = \"reject\"\n\
                      [lock]\ntimeout_ms = 20\npause_ms = 20\ngive_up_after_s = 6\n[drop]\nquiet_for_s = 0\n";

#[derive(Clone, Debug)]
struct Received {
    head: Vec<(String, String)>,
    body: String,
    answered: u16,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// Answers 503 to the first `failing` requests.
fn receiver(failing: usize) -> (u16, Arc<Mutex<Vec<Received>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let all = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&all);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answered = if kept.lock().expect("whole").len() < failing {
                503
            } else {
                200
            };
            if let Some(received) = answer(stream.expect("a connection"), answered) {
                kept.lock().expect("whole").push(received);
            }
        }
    });
    (port, all)
}

fn answer(stream: TcpStream, status: u16) -> Option<Received> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    assert!(line.starts_with("POST /hook?a=b HTTP/1.1"), "{line}");
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        head.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = head.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n").ok()?;
    Some(Received {
        head,
        body: String::from_utf8(body).ok()?,
        answered: status,
    })
}

fn stage(name: &str, port: u16, more: &[&str]) -> Stage {
    let url = format!("http://127.0.0.1:{port}/hook?a=b");
    let stage = Stage::on(
        cluster(18),
        name,
        POLICY,
        &[&["--webhook", &url, "--console-users", "postgres,second"], more].concat(),
    );
    stage.direct(
        "CREATE TABLE t AS SELECT 1 AS id, 'secret value' AS a; CREATE TABLE gone AS SELECT 1 AS id; ANALYZE t",
    );
    stage
}

fn sends(stage: &Stage, sql: &str) -> Ran {
    stage.psql_args(&["-q"], sql)
}

#[test]
fn messages_are_signed_and_sent_again_until_they_arrive() {
    let (port, all) = receiver(2);
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).expect("written");
    let stage = stage(
        "webhook",
        port,
        &[
            "--webhook-secret-file",
            &secret.display().to_string(),
            "--webhook-long-s",
            "1",
        ],
    );
    sends(&stage, "ALTER TABLE t DROP COLUMN a");
    until("the refusal has arrived", || all.lock().expect("whole").len() == 3);
    let tries = all.lock().expect("whole").clone();
    assert_eq!(
        tries.iter().map(|one| one.answered).collect::<Vec<_>>(),
        [503, 503, 200]
    );
    let last = &tries[2];
    let body = last.json();
    assert_eq!(
        (&body["event"], &body["user"], &body["rules"][0]),
        (&"refused".into(), &"postgres".into(), &"drop-column".into())
    );
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|text| text.contains("dropping column a of t")),
        "{body}"
    );
    assert_eq!(body["id"], stage.audit_lines()[0]["id"]);
    for one in &tries {
        assert_eq!(one.header("lockkeeper-delivery"), last.header("lockkeeper-delivery"));
        assert_eq!((one.header("lockkeeper-event"), &one.body), ("refused", &last.body));
        let signed = format!("{}.{}", one.header("lockkeeper-timestamp"), one.body);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
        let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(one.header("lockkeeper-signature"), format!("v1={hex}"));
    }
    // What is asked, and what a second person has decided.
    sends(&stage, "DROP TABLE gone");
    sends(&stage, "DROP TABLE gone");
    stage.direct("DO $$ BEGIN CREATE ROLE second LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    let decided = stage.psql_args(&["-d", "lockkeeper", "-U", "second"], "APPROVE 1 'ticket 42';");
    assert!(decided.stdout.contains("is approved"), "{}", decided.stderr);
    // A plan that waits for a lock for long, and then fails.
    std::thread::scope(|scope| {
        let holds = "BEGIN; LOCK t; SELECT pg_sleep(120)";
        let holder = scope.spawn(|| stage.cluster.psql(&stage.database, holds));
        until("the table is locked", || {
            let locked = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock' AND granted";
            stage.direct(locked) == "1"
        });
        let failed = sends(&stage, "ALTER TABLE t ADD CONSTRAINT c CHECK (id > 0)");
        assert!(
            failed.stderr.contains("55P03") || failed.stderr.contains("lock"),
            "{}",
            failed.stderr
        );
        stage.direct("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(120)%' AND pid <> pg_backend_pid()");
        holder.join().expect("no panic").expect_err("it was ended");
    });
    let events = || -> Vec<String> {
        let all = all.lock().expect("whole");
        all[3..]
            .iter()
            .map(|one| one.header("lockkeeper-event").to_owned())
            .collect()
    };
    until("all has arrived", || {
        events().last().is_some_and(|last| last == "failed")
    });
    assert_eq!(events(), ["asked", "refused", "refused", "decided", "long", "failed"]);
    let all = all.lock().expect("whole");
    let decided = all[6].json();
    assert_eq!(
        (&decided["by"], &decided["reason"], &decided["approved"]),
        (&"second".into(), &"ticket 42".into(), &true.into())
    );
    assert_eq!(
        (&all[3].json()["approval"], &decided["approval"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_receiver_that_never_answers_is_in_nobodys_way() {
    // The system takes connections for it; nobody ever reads.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let stage = stage("deaf", port, &["--webhook-events", "refused"]);
    let many = "ALTER TABLE t DROP COLUMN a;\n".repeat(1_010);
    let ran = stage.psql_args(&["-q"], &many);
    assert_eq!(ran.stderr.matches("ERROR:").count(), 1_010);
    until("what has no place is left out, and said to be", || {
        stage.proxy_log().contains("the webhook's queue is full")
    });
    assert_eq!(stage.psql("SELECT 1").status, 0);
}

#[test]
fn slack_has_a_text() {
    let (port, all) = receiver(0);
    let stage = stage(
        "slack",
        port,
        &["--webhook-format", "slack", "--webhook-events", "asked"],
    );
    sends(&stage, "ALTER TABLE t DROP COLUMN a");
    sends(&stage, "DROP TABLE gone");
    until("it has arrived", || !all.lock().expect("whole").is_empty());
    let all = all.lock().expect("whole");
    let text = all[0].json()["text"].as_str().unwrap_or_default().to_owned();
    assert!(
        text.contains("waits for the approval of a second person") && text.contains("DROP TABLE gone"),
        "{text}"
    );
    assert!(text.contains("lockkeeper approvals --dsn … approve 1"), "{text}");
}
