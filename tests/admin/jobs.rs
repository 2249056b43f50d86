//! Jobs on the review page, in the console and over HTTP: seen, paused, gone on with and given up.

use super::http::{ask, get};
use super::{LARGE, TOKEN, until};
use lockkeeper_cluster::free_port;
use lockkeeper_testkit::raw::{Raw, error_field, frame, startup};
use lockkeeper_testkit::{self, QUICK, Stage, cluster};
use serde_json::{Value, json};

/// So slow that it can be steered in the middle.
const SLOW: &str = "extends = \"standard\"\n\n[backfill]\nbatch_rows = 100\nbatch_rows_max = 100\npause_ms = 300\n";

struct Work {
    stage: Stage,
    port: u16,
    owner: String,
    _dir: tempfile::TempDir,
}

impl Work {
    /// A table of a role's own, and a control connection whose role may see its jobs and be it.
    fn new(name: &str) -> Work {
        Work::with(name, SLOW)
    }

    fn with(name: &str, policy: &str) -> Work {
        let mut stage = Stage::without_proxy(cluster(lockkeeper_testkit::MAJOR), name);
        let (owner, watch) = (format!("{name}_owner"), format!("{name}_watch"));
        stage.direct(&format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {watch} LOGIN BYPASSRLS; GRANT pg_monitor, {owner} TO {watch};
             {LARGE}; ALTER TABLE users OWNER TO {owner}"
        ));
        let init = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
            .args(["init", "--dsn"])
            .arg(format!(
                "host=127.0.0.1 port={} user=postgres dbname={}",
                stage.port, stage.database
            ))
            .output()
            .expect("it runs");
        assert!(init.status.success(), "{init:?}");
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        std::fs::write(&token, TOKEN).expect("the token is written");
        std::fs::write(stage.policy_file(), policy).expect("a policy");
        let port = free_port().expect("a free port");
        let (listen, token) = (format!("127.0.0.1:{port}"), token.display().to_string());
        let dsn = format!("user={watch} dbname={}", stage.database);
        let arguments = ["--admin", &listen, "--admin-token-file", &token, "--control-dsn", &dsn];
        stage.start_proxy(&[&arguments[..], &["--console-users", "postgres"]].concat());
        let work = Work {
            stage,
            port,
            owner,
            _dir: dir,
        };
        until("the control connection is up", || work.jobs()["known"] == true);
        work
    }

    fn jobs(&self) -> Value {
        get(self.port, "/api/live").json()["jobs"].clone()
    }

    fn job(&self) -> Value {
        self.jobs()["rows"][0].clone()
    }

    #[track_caller]
    fn steer(&self, what: &str, status: u16) -> String {
        let id = self.job()["id"].as_i64().unwrap_or(4711);
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let headers = ["Content-Type: application/json", "Content-Length: 0", &bearer];
        let answer = ask(self.port, &format!("POST /api/jobs/{id}/{what}"), &headers);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answer.body
    }

    /// The owner's session, which has sent an UPDATE that cannot be repeated.
    fn begin(&self) -> Raw {
        let mut raw = Raw::open(self.stage.port);
        raw.start(&startup(&[("user", &self.owner), ("database", &self.stage.database)]));
        raw.send(&frame(b'Q', b"UPDATE users SET name = name || '!'\0"));
        until("it is under way", || self.job()["rows_done"].as_i64() > Some(0));
        raw
    }
}

#[test]
fn a_job_is_paused_resumed_and_done_exactly_once() {
    let work = Work::new("steered");
    let mut raw = work.begin();
    let job = work.job();
    assert_eq!(
        (&job["state"], &job["owner"]),
        (&json!("running"), &json!(work.owner)),
        "{job}"
    );
    assert!(job["parameters"].is_null() && job["settings"].is_null(), "{job}");
    let console = work
        .stage
        .psql_args(&["-d", "lockkeeper", "-At", "-F", ";"], "SHOW JOBS")
        .ok();
    assert!(console.contains(&format!(";running;{};", work.owner)), "{console}");
    let plan = get(work.port, "/api/live").json();
    let plan = plan["sessions"]
        .as_array()
        .expect("sessions")
        .iter()
        .find(|session| !session["plan"].is_null());
    assert!(
        plan.is_some_and(|session| session["plan"]["done"].as_f64() > Some(0.0)),
        "{plan:?}"
    );

    assert!(work.steer("pause", 200).contains("is paused"));
    assert!(error_field(&raw.until_ready(), b'M').is_some(), "its client is told");
    assert_eq!(work.job()["state"], "paused");
    assert!(work.steer("pause", 409).contains("it cannot be paused"));
    std::fs::write(work.stage.policy_file(), QUICK).expect("a policy");
    work.stage.psql_args(&["-d", "lockkeeper"], "RELOAD").ok();
    work.steer("resume", 200);
    until("it is done", || work.jobs()["rows"] == json!([]));
    let odd = work
        .stage
        .direct("SELECT count(*) FROM users WHERE name <> 'name ' || id || '!'");
    assert_eq!(odd.trim(), "0", "every row is changed once");
    work.steer("resume", 409);
}

#[test]
fn a_job_is_given_up_in_the_browser() {
    let work = Work::new("given_up");
    let mut raw = work.begin();
    let mut chrome = super::chrome::Chrome::start();
    chrome.size(1000, 900);
    chrome.open(work.port, "/");
    chrome.until("document.querySelector('#jobs .card')?.innerText.includes('running')");
    // Without the token the button asks for it.
    let press = "[...document.querySelectorAll('#jobs button')].find((b) => b.innerText === 'Cancel').click()";
    chrome.js(press);
    chrome.until("document.querySelector('dialog').open");
    chrome.type_text(TOKEN);
    chrome.press("Enter");
    chrome.until("document.getElementById('unlock').innerText === 'Token is set'");
    chrome.screenshot("jobs");
    chrome.js(press);
    chrome.until("document.getElementById('jobs').innerText.includes('There is no job.')");
    raw.until_ready();
    let state = work.stage.direct("SELECT state FROM lockkeeper.job");
    assert_eq!(state.trim(), "cancelled");
    assert!(chrome.complaints.is_empty(), "{:#?}", chrome.complaints);
}

/// What was put aside and waits to be dropped: the old table of a rewrite, and columns that a change of type or name has left.
#[test]
fn what_is_due_to_be_dropped_is_listed() {
    let policy = "extends = \"standard\"\n\n[rules]\nchange-type = \"rewrite\"\nrename-column = \"rewrite\"\n";
    let work = Work::with("left", policy);
    let stage = &work.stage;
    stage.direct("CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1)");
    let lockkeeper = |command: &str, arguments: &[&str]| {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
            .args([command, "--dsn"])
            .arg(format!(
                "host=127.0.0.1 port={} user=postgres dbname={}",
                stage.cluster.port(),
                stage.database
            ))
            .args(arguments)
            .output()
            .expect("it runs");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    lockkeeper("rewrite", &["small", "--keep-old=0"]);
    stage.psql("ALTER TABLE users RENAME name TO called").ok();
    stage.psql("SELECT name FROM users WHERE id = 1").ok();
    until("its use is known", || {
        let jobs = work.jobs()["rows"].clone();
        let of = |kind: &str| {
            let rows = jobs.as_array().into_iter().flatten();
            rows.clone()
                .find(|row| row["kind"] == kind)
                .cloned()
                .unwrap_or_default()
        };
        let (kept, left) = (of("rewrite"), of("contract"));
        let has = |row: &Value, key: &str, words: &str| row[key].as_str().is_some_and(|text| text.contains(words));
        has(&kept, "state", "due")
            && has(&kept, "unused", "unused since the watch began")
            && has(
                &left,
                "statement",
                "drop the column name of users (it is called called now)",
            )
            && has(&left, "unused", "SELECT name FROM users")
    });
    let console = stage
        .psql_args(&["-d", "lockkeeper", "-At", "-F", ";"], "SHOW JOBS")
        .ok();
    assert!(
        console.contains(";due;") && console.contains("drop the column name of users"),
        "{console}"
    );
    let listed = lockkeeper("jobs", &["list"]);
    assert!(
        listed.contains("job 1: its old table is due to be dropped (jobs finish 1)"),
        "{listed}"
    );
    assert!(listed.contains("contract: drop the column name of users"), "{listed}");
    let refused = work.steer("resume", 409);
    assert!(refused.contains("finish 1"), "{refused}");
}
