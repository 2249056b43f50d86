//! What the event of a plan tells of afterwards: who waited, what was left, how long statements took.

use super::{Admin, LARGE, WATCH, until};
use lockkeeper_testkit::raw::{Raw, frame, rows};
use lockkeeper_testkit::{self, QUICK, cluster};
use serde_json::Value;

/// The end of the statement that begins so.
#[track_caller]
fn ended(admin: &Admin, phase: &str, statement: &str) -> Value {
    let lines = admin.stage.audit_lines();
    let text = |line: &Value| line["statement"].as_str().unwrap_or_default().to_owned();
    let found = lines
        .iter()
        .rev()
        .find(|line| line["event"] == phase && text(line).starts_with(statement));
    found
        .cloned()
        .unwrap_or_else(|| panic!("no {phase} of {statement} in {lines:#?}"))
}

fn who_waited(major: u32) {
    // One try is so long that whoever waits behind it is seen for sure.
    let policy = format!("{QUICK}\n[lock]\ntimeout_ms = 20000\n");
    let admin = Admin::on(
        cluster(major),
        "waited",
        &policy,
        &["--console-users", "postgres", "--control-dsn", WATCH],
    );
    admin.stage.psql(LARGE).ok();
    let direct = || Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    let (mut holder, mut reader) = (direct(), direct());
    holder.query("BEGIN");
    holder.query("SELECT 1 FROM users LIMIT 1");
    let mut client = Raw::connect(admin.stage.port, &admin.stage.database);
    client.send(&frame(b'Q', b"ALTER TABLE users ADD COLUMN a int\0"));
    let waits = |mode: &str| {
        let sql = format!(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = '{mode}' AND relation = 'users'::regclass"
        );
        admin.stage.direct(&sql).trim() == "1"
    };
    until("the change waits", || waits("AccessExclusiveLock"));
    reader.send(&frame(b'Q', b"SELECT 2 FROM users LIMIT 1\0"));
    until("the reader waits behind it", || waits("AccessShareLock"));
    // The console knows.
    let console = |sql: &str| admin.stage.psql_args(&["-d", "lockkeeper", "-At", "-F", ";"], sql).ok();
    let plans = console("SHOW PLANS");
    assert!(
        plans.contains(";1 of 1;") && plans.contains(";ACCESS EXCLUSIVE;1;"),
        "{plans}"
    );
    let locks = console("SHOW LOCKS");
    assert!(
        locks.contains(";AccessShareLock on ") && locks.contains(";AccessExclusiveLock on "),
        "{locks}"
    );
    assert_eq!(locks.lines().count(), 3, "{locks}");
    // Long enough for two looks.
    let looked = std::time::Instant::now();
    until("some looks", || {
        looked.elapsed() > std::time::Duration::from_millis(200)
    });
    holder.query("COMMIT");
    client.until_ready();
    reader.until_ready();
    let waits = &ended(&admin, "statement", "ALTER TABLE users ADD COLUMN a")["after"]["waits"];
    assert_eq!(
        (waits["waits"].as_u64(), waits["behind_plan"].as_u64()),
        (Some(1), Some(1)),
        "{waits}"
    );
    assert!(waits["looks"].as_u64() > Some(2), "{waits}");
    let longest = waits["longest_behind_plan_ms"].as_f64().expect("a number");
    assert!(longest > 100.0 && longest < 60_000.0, "{waits}");
    assert!(
        admin.metrics().contains("lockkeeper_stall_seconds_count 1"),
        "{}",
        admin.metrics()
    );
}

#[test]
fn who_waited_behind_a_plan_is_told_18() {
    who_waited(18);
}

#[test]
fn who_waited_behind_a_plan_is_told_15() {
    who_waited(15);
}

#[test]
fn what_nobody_looked_at_is_unknown() {
    let admin = Admin::on(
        cluster(lockkeeper_testkit::MAJOR),
        "unknown",
        QUICK,
        &["--console-users", "postgres"],
    );
    admin
        .stage
        .psql(&format!("{LARGE};\nCREATE INDEX ON users (name)"))
        .ok();
    let after = ended(&admin, "statement", "CREATE INDEX")["after"].clone();
    assert!(after["waits"].is_null(), "{after}");
    assert_eq!(
        (after["invalid"].to_string(), after["not_valid"].to_string()),
        ("[]".into(), "[]".into())
    );
    assert!(
        !admin.metrics().contains("lockkeeper_stall_seconds"),
        "{}",
        admin.metrics()
    );
    let live = admin.live();
    assert_eq!(live["locks"]["known"], false);
    assert!(
        live["locks"]["why"]
            .as_str()
            .is_some_and(|why| why.contains("--control-dsn")),
        "{live}"
    );
    let console = admin.stage.psql_args(&["-d", "lockkeeper"], "SHOW LOCKS");
    assert!(console.stderr.contains("--control-dsn"), "{console:?}");
}

/// Whom a concurrent build and a batch wait for is told while they wait, and in the audit log; or that it is not known.
fn whom_steps_wait_for(major: u32, control: bool) {
    let policy = format!("{QUICK}notice_s = 1\nrows_max = 100\nbatch_rows = 1000\n");
    let arguments: &[&str] = if control { &["--control-dsn", WATCH] } else { &[] };
    let admin = Admin::on(cluster(major), "whom", &policy, arguments);
    admin.stage.psql(LARGE).ok();
    let mut holder = Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    let pid = rows(&holder.query("SELECT pg_backend_pid()")).remove(0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let unknown = "is not known: there is no control connection (--control-dsn)";
    for (sql, known, not_known) in [
        (
            "CREATE INDEX ON users (name)",
            "; it waits for pid ",
            "; whether it waits for others ",
        ),
        ("UPDATE users SET pad = 'y'", "; held by pid ", "; who holds them "),
    ] {
        holder.query("BEGIN");
        holder.query("UPDATE users SET pad = pad WHERE id = 500");
        let expect = match control {
            true => format!("{known}{pid} (postgres"),
            false => format!("{not_known}{unknown}"),
        };
        runtime.block_on(async {
            let mut connection = admin.stage.connect().await;
            let client = connection.client;
            let done = tokio::spawn(async move { client.batch_execute(sql).await });
            loop {
                let notice = tokio::time::timeout(std::time::Duration::from_secs(30), connection.notices.recv());
                let notice = notice.await.expect("it is told in time").expect("a notice");
                if notice.message().contains(&expect) {
                    break;
                }
            }
            holder.query("COMMIT");
            done.await.expect("a task").expect("done");
        });
        let step = ended(&admin, "statement", sql)["steps"][0].clone();
        let seen = step["blockers"][0]["pid"].as_i64().map(|pid| pid.to_string());
        assert_eq!(seen, control.then(|| pid.clone()), "{step}");
        assert_eq!(step["blockers_unknown"].is_null(), control, "{step}");
        let id = ended(&admin, "statement", sql)["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let mut show = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        show.args(["audit", "show", &id]).arg(admin.stage.audit_file());
        let shown = lockkeeper_testkit::run(show, "").ok();
        let expect = match control {
            true => format!("waited for process {pid}"),
            false => "whether it waited for others is not known".into(),
        };
        assert!(shown.contains(&expect), "{shown}");
    }
}

#[test]
fn whom_steps_wait_for_is_told_15() {
    whom_steps_wait_for(15, true);
}

#[test]
fn whom_steps_wait_for_is_told_18() {
    whom_steps_wait_for(18, true);
}

#[test]
fn whom_steps_wait_for_may_be_unknown() {
    whom_steps_wait_for(lockkeeper_testkit::MAJOR, false);
}

#[test]
fn what_is_left_is_counted() {
    let admin = Admin::new("left");
    let sql = format!(
        "{LARGE};\nALTER TABLE users ADD CONSTRAINT later CHECK (id > 0) NOT VALID;\n\
         CREATE INDEX gone ON users (pad);\n"
    );
    admin.stage.psql(&sql).ok();
    // As a build that was killed leaves it.
    admin
        .stage
        .direct("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'gone'::regclass");
    admin.stage.psql("ALTER TABLE users ADD COLUMN b int").ok();
    let event = ended(&admin, "statement", "ALTER TABLE users ADD COLUMN b");
    let after = &event["after"];
    assert_eq!(after["invalid"].to_string(), "[\"public.gone\"]", "{after}");
    assert_eq!(after["not_valid"].to_string(), "[\"later on public.users\"]", "{after}");
    let table = &after["tables"][0];
    assert!(
        table["name"] == "public.users" && table["bytes"].as_u64() > Some(10_000_000),
        "{after}"
    );
    // Within a block too, where a question that fails would be the client's failure.
    admin
        .stage
        .psql("BEGIN;\nALTER TABLE users ADD COLUMN c int;\nCOMMIT;")
        .ok();
    assert_eq!(
        ended(&admin, "statement", "ALTER TABLE users ADD COLUMN c")["after"]["invalid"].to_string(),
        "[\"public.gone\"]"
    );
    let story = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["audit", "show", event["id"].as_str().expect("an ID")])
        .arg(admin.stage.audit_file())
        .output()
        .expect("it runs");
    let story = String::from_utf8_lossy(&story.stdout).into_owned();
    assert!(
        story.contains("left: 1 INVALID indexes (public.gone), 1 NOT VALID constraints (later on public.users)"),
        "{story}"
    );
    assert!(
        story.contains("who waited: nobody was seen behind it") || story.contains("who waited: unknown"),
        "{story}"
    );
}

#[test]
fn how_long_statements_take_is_known_before_and_after() {
    let mut admin = Admin::new("times");
    admin.stage.psql(LARGE).ok();
    let mut app = Raw::connect(admin.stage.port, &admin.stage.database);
    let work = |app: &mut Raw| {
        for n in 0..50 {
            app.query(&format!("SELECT name FROM users WHERE id = {n} AND 'a secret' <> ''"));
        }
    };
    work(&mut app);
    admin.stage.psql("CREATE INDEX ON users (name)").ok();
    let times = |event: &Value| {
        let statements = event["after"]["statements"].as_array().cloned().unwrap_or_default();
        let shape = "SELECT name FROM users WHERE id = ? AND ? <> ?";
        statements.into_iter().find(|times| times["statement"] == shape)
    };
    let event = ended(&admin, "statement", "CREATE INDEX");
    let now = times(&event).unwrap_or_else(|| panic!("{event}"));
    let timed = now["before"]["timed"].as_u64().expect("timed");
    assert!((3..=50).contains(&timed), "{now}");
    let (p50, p99) = (now["before"]["p50_ms"].as_f64(), now["before"]["p99_ms"].as_f64());
    assert!(p50 > Some(0.0) && p50 <= p99 && p99 < Some(30_000.0), "{now}");
    assert!(now["after"].is_null(), "{now}");
    // What comes after it is written when the proxy stops, at the latest.
    work(&mut app);
    drop(app);
    admin.stage.proxy().signal(libc::SIGTERM).expect("the signal is sent");
    assert!(admin.stage.proxy().ends_within(std::time::Duration::from_secs(20)));
    let event = ended(&admin, "after", "CREATE INDEX");
    let later = times(&event).unwrap_or_else(|| panic!("{event}"));
    assert_eq!(later["before"], now["before"]);
    assert!(later["after"]["timed"].as_u64() >= Some(3), "{later}");
    assert!(event["after"]["watched_s"].as_f64() > Some(0.0), "{event}");
    // The page and the command line read both as one statement.
    admin.stage.kill_proxy();
    let verify = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["audit", "verify"])
        .arg(admin.stage.audit_file())
        .output()
        .expect("it runs");
    assert!(verify.status.success(), "{verify:?}");
    assert!(
        !std::fs::read_to_string(admin.stage.audit_file())
            .expect("the log")
            .contains("a secret")
    );
}

#[test]
fn a_control_connection_that_ends_comes_back() {
    let dsn = format!("{WATCH} application_name=again");
    let admin = Admin::on(
        cluster(lockkeeper_testkit::MAJOR),
        "again",
        QUICK,
        &["--control-dsn", &dsn],
    );
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'again'";
    until("it is seen", || admin.stage.direct(kill).trim() != "0");
    until("the end is noticed", || {
        admin.metrics().contains("lockkeeper_control_up 0") || admin.live()["locks"]["known"] == true
    });
    until("it is back", || admin.live()["locks"]["known"] == true);
    assert!(admin.metrics().contains("lockkeeper_control_up 1"));
}
