//! Webhooks with real receivers: one that fails first, and one that never answers.

use lockkeeper_cluster::Guarded;
use lockkeeper_testkit::raw::{Raw, frame};
use lockkeeper_testkit::{Ran, Stage, cluster, program, run, start_proxy, until};
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

/// Batches of 1,000 rows, one after the other at leisure.
const SLOW: &str = "extends = \"standard\"\n[audit]\nliterals = \"redact\"\n[table]\nsmall_bytes = 0\n[rules]\nchange-type = \"rewrite\"\nrename-column = \"rewrite\"\n\
                    [backfill]\nrows_max = 1000\nbatch_rows = 1000\nbatch_rows_max = 1000\npause_ms = 300\nin_transaction = \"defer\"\n[drop]\nquiet_for_s = 1\n";

/// A server's database with jobs, and what several proxies in front of it tell one receiver.
struct Watched {
    stage: Stage,
    url: String,
    control: String,
    all: Arc<Mutex<Vec<Received>>>,
}

/// A proxy beside the stage's own.
struct Other {
    proxy: Guarded,
    port: u16,
    dir: tempfile::TempDir,
}

impl Watched {
    /// The receiver answers 503 to the first `failing` requests.
    fn new(major: u32, name: &str, failing: usize) -> Watched {
        let stage = Stage::without_proxy(cluster(major), name);
        std::fs::write(stage.policy_file(), SLOW).expect("a policy");
        let watch = format!("{name}_watch");
        // Of the column that is left behind only its owner is told, and who may be that.
        stage.direct(&format!(
            "CREATE ROLE {name}_owner; CREATE ROLE {watch} LOGIN BYPASSRLS; GRANT pg_monitor, {name}_owner TO {watch};
             CREATE TABLE t (id int PRIMARY KEY, n int, name text); INSERT INTO t SELECT g, 0, 'x' FROM generate_series(1, 20000) g;
             CREATE TABLE u AS TABLE t; ALTER TABLE u ADD PRIMARY KEY (id); ALTER TABLE t OWNER TO {name}_owner; ANALYZE t, u"
        ));
        let (port, all) = receiver(failing);
        let watched = Watched {
            control: format!("user={watch} dbname={}", stage.database),
            stage,
            url: format!("http://127.0.0.1:{port}/hook?a=b"),
            all,
        };
        watched.lockkeeper("init", &["--control-role", &watch]);
        watched
    }

    fn lockkeeper(&self, command: &str, arguments: &[&str]) -> String {
        let (port, database) = (self.stage.cluster.port(), &self.stage.database);
        let mut process = std::process::Command::new(program());
        process
            .args([command, "--dsn"])
            .arg(format!("host=127.0.0.1 port={port} user=postgres dbname={database}"))
            .args(arguments);
        run(process, "").ok()
    }

    fn arguments<'a>(&'a self, events: &'a str) -> [&'a str; 6] {
        [
            "--control-dsn",
            &self.control,
            "--webhook",
            &self.url,
            "--webhook-events",
            events,
        ]
    }

    fn other(&self, events: &str) -> Other {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("policy.toml"), SLOW).expect("a policy");
        let upstream = format!("127.0.0.1:{}", self.stage.cluster.port());
        let (proxy, port) = start_proxy(dir.path(), &upstream, &self.arguments(events));
        Other { proxy, port, dir }
    }

    /// What has arrived.
    fn told(&self) -> Vec<Value> {
        let all = self.all.lock().expect("whole");
        all.iter()
            .filter(|one| one.answered == 200)
            .map(Received::json)
            .collect()
    }

    fn jobs_told(&self) -> Vec<(i64, String)> {
        let job = |one: &Value| {
            (
                one["job"].as_i64().unwrap_or_default(),
                one["state"].as_str().unwrap_or_default().to_owned(),
            )
        };
        self.told().iter().map(job).collect()
    }

    /// Statements of one session; nobody waits for the last one, once the job of `update` is under way.
    fn begins(&self, port: u16, statements: &[&str], update: &str) -> Raw {
        let mut raw = Raw::connect(port, &self.stage.database);
        let (last, before) = statements.split_last().expect("a statement");
        before.iter().for_each(|sql| drop(raw.query(sql)));
        raw.send(&frame(b'Q', format!("{last}\0").as_bytes()));
        until("the job is under way", || {
            let under_way =
                format!("SELECT count(*) FROM lockkeeper.job WHERE statement = '{update}' AND rows_done > 0");
            self.stage.direct(&under_way) == "1"
        });
        raw
    }

    /// As if that were long ago.
    fn has_written_down_that_all_is_delivered(&self) {
        let open = "SELECT count(*) FROM lockkeeper.told WHERE NOT delivered";
        until("it is written down", || self.stage.direct(open) == "0");
        self.stage.direct("UPDATE lockkeeper.told SET at = at - interval '1 h'");
    }

    fn begins_one(&self, port: u16, update: &str) -> Raw {
        self.begins(port, &[update], update)
    }
}

#[test]
fn a_job_that_stopped_is_told_of_once_by_one_of_several_proxies() {
    stopped_is_told_of(18);
}

#[test]
fn a_job_that_stopped_is_told_of_once_by_one_of_several_proxies_on_15() {
    stopped_is_told_of(15);
}

fn stopped_is_told_of(major: u32) {
    let mut watched = Watched::new(major, "stopped", 1);
    let events = watched.arguments("stopped").map(str::to_owned);
    let events = events.each_ref().map(String::as_str);
    watched.stage.start_proxy(&events);
    let other = watched.other("stopped");
    // A row in the middle cannot be computed.
    let fails = "UPDATE t SET n = 1 / (10050 - id), name = 'geheim'";
    let failed = sends(&watched.stage, fails);
    assert!(failed.stderr.contains("division by zero"), "{}", failed.stderr);
    until("the failed job is told of", || !watched.told().is_empty());
    let told = watched.told().remove(0);
    let expect = serde_json::json!({"event": "stopped", "job": 1, "state": "failed", "user": "postgres", "database": watched.stage.database,
        "relation": "public.t", "message": null, "rows_done": watched.stage.number("SELECT rows_done FROM lockkeeper.job")});
    for (key, value) in expect.as_object().expect("an object") {
        assert_eq!(&told[key], value, "{key}: {told}");
    }
    assert!(!told.to_string().contains("geheim"), "{told}");
    assert!(
        told["hint"].as_str().is_some_and(|hint| hint.contains("resume 1")),
        "{told}"
    );
    // A client that goes away.
    drop(watched.begins_one(other.port, "UPDATE t SET n = 2"));
    until("the client's job is told of", || watched.told().len() == 2);
    // Whom a person has paused, he need not be told of.
    let mut paused = watched.begins_one(other.port, "UPDATE t SET n = 3");
    watched.lockkeeper("jobs", &["pause", "3"]);
    paused.until_ready();
    // A proxy that is killed in the middle of a job, and another waits behind it.
    let transaction = ["BEGIN", "UPDATE t SET n = 4", "UPDATE u SET n = 4", "COMMIT"];
    let _raw = watched.begins(watched.stage.port, &transaction, transaction[1]);
    watched.stage.kill_proxy();
    until("the killed proxy's jobs are told of", || watched.told().len() == 4);
    // The next run of a job stops again.
    watched.stage.start_proxy(&events);
    let failed = sends(&watched.stage, fails);
    assert!(failed.stderr.contains("division by zero"), "{}", failed.stderr);
    until("the failed job is told of again", || watched.told().len() == 5);
    // Proxies that start anew find all of them again, and one more.
    watched.has_written_down_that_all_is_delivered();
    watched.stage.kill_proxy();
    drop(other);
    let others = [watched.other("stopped"), watched.other("stopped,refused")];
    drop(watched.begins_one(others[1].port, "UPDATE t SET n = 5"));
    until("the last job is told of", || watched.told().len() >= 6);
    let mut told = watched.jobs_told();
    told.sort();
    let expect = [
        (1, "failed"),
        (1, "failed"),
        (2, "paused"),
        (4, "interrupted"),
        (5, "interrupted"),
        (6, "paused"),
    ];
    assert_eq!(told, expect.map(|(job, state)| (job, state.to_owned())));
    for other in &others {
        let log = std::fs::read_to_string(other.dir.path().join("proxy.log")).expect("a log");
        assert!(
            other.proxy.is_alive() && !log.contains("does not tell of jobs"),
            "{log}"
        );
    }
}

#[test]
fn what_is_due_to_be_dropped_is_told_of_once() {
    due_is_told_of(18);
}

#[test]
fn what_is_due_to_be_dropped_is_told_of_once_on_15() {
    due_is_told_of(15);
}

fn due_is_told_of(major: u32) {
    let mut watched = Watched::new(major, "due", 0);
    let events = watched.arguments("refused").map(str::to_owned);
    watched.stage.start_proxy(&events.each_ref().map(String::as_str));
    watched
        .stage
        .direct("CREATE TABLE small (id int PRIMARY KEY); CREATE TABLE kept (id int PRIMARY KEY)");
    watched.lockkeeper("rewrite", &["small", "--keep-old=0"]);
    watched.lockkeeper("rewrite", &["kept", "--keep-old=3600"]);
    watched.stage.psql("ALTER TABLE t RENAME name TO called").ok();
    let watched_for = "SELECT max(until - since) > '2 s' FROM lockkeeper.usage_watch";
    until("it has been watched", || watched.stage.direct(watched_for) == "t");
    let _others = [watched.other("due"), watched.other("due")];
    until("both are told of", || watched.told().len() == 2);
    let told = watched.told();
    let (table, column) = (&told[0], &told[1]);
    assert_eq!(
        (&table["event"], &table["job"], &table["relation"], &table["column"]),
        (&"due".into(), &1.into(), &"public.small".into(), &Value::Null)
    );
    assert_eq!(
        (&column["event"], &column["job"], &column["relation"], &column["column"]),
        (&"due".into(), &Value::Null, &"public.t".into(), &"name".into())
    );
    for one in &told {
        assert_eq!(one["database"].as_str(), Some(watched.stage.database.as_str()), "{one}");
        assert!(
            one["unused"]
                .as_str()
                .is_some_and(|text| text.starts_with("unused since")),
            "{one}"
        );
    }
    assert!(
        table["hint"].as_str().is_some_and(|hint| hint.contains("finish 1")),
        "{table}"
    );
    assert!(
        column["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("drop the column name")),
        "{column}"
    );
    // What is due later is told of by the next proxy that looks, and nothing of it twice.
    watched
        .stage
        .direct("UPDATE lockkeeper.job SET finished_at = finished_at - interval '2 h' WHERE id = 2");
    watched.has_written_down_that_all_is_delivered();
    let _one_more = watched.other("due");
    until("what is due now is told of", || watched.told().len() >= 3);
    let jobs: Vec<i64> = watched.jobs_told().into_iter().map(|(job, _)| job).collect();
    assert_eq!(jobs, [1, 0, 2]);
}

#[test]
fn what_a_killed_proxy_has_not_delivered_another_one_tells() {
    let watched = Watched::new(18, "undelivered", 2);
    watched.stage.direct("CREATE TABLE small (id int PRIMARY KEY)");
    watched.lockkeeper("rewrite", &["small", "--keep-old=0"]);
    let killed = watched.other("due");
    until("a try has failed", || !watched.all.lock().expect("whole").is_empty());
    drop(killed);
    let claim = "SELECT count(*) FROM lockkeeper.told WHERE NOT delivered";
    assert_eq!(watched.stage.number(claim), 1);
    watched
        .stage
        .direct("UPDATE lockkeeper.told SET at = at - interval '1 h'");
    let _other = watched.other("due");
    until("it is told of", || !watched.told().is_empty());
    watched.has_written_down_that_all_is_delivered();
    // Nor a third time.
    watched.stage.direct("CREATE TABLE other (id int PRIMARY KEY)");
    watched.lockkeeper("rewrite", &["other", "--keep-old=0"]);
    let _one_more = watched.other("due");
    until("the other job is told of", || watched.told().len() >= 2);
    let jobs: Vec<i64> = watched.jobs_told().into_iter().map(|(job, _)| job).collect();
    assert_eq!(jobs, [1, 2]);
}

#[test]
fn without_its_table_nothing_is_told_of_jobs_and_that_is_said() {
    let mut watched = Watched::new(18, "no_table", 0);
    // A stranger's code is not called either.
    watched.stage.direct(
        "CREATE TABLE called (who text); GRANT INSERT ON called TO PUBLIC; CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN INSERT INTO public.called VALUES (current_user); RETURN new; END';
         CREATE TRIGGER t BEFORE INSERT OR DELETE ON lockkeeper.told FOR EACH STATEMENT EXECUTE FUNCTION calls()",
    );
    let events = watched.arguments("stopped,due,refused").map(str::to_owned);
    watched.stage.start_proxy(&events.each_ref().map(String::as_str));
    let is_said = |what: &str| watched.stage.proxy_log().contains(what);
    until("the trigger is said", || is_said("lockkeeper.told has a trigger"));
    assert_eq!(watched.stage.number("SELECT count(*) FROM called"), 0);
    watched.stage.direct("DROP TABLE lockkeeper.told");
    until("it is said", || is_said("there is no table lockkeeper.told"));
    sends(&watched.stage, "TRUNCATE t");
    until("the refusal is told of", || !watched.told().is_empty());
    assert_eq!(watched.told()[0]["event"], "refused");
}
