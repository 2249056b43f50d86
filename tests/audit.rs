//! The audit log of a real proxy in front of a real server, and its review by the program as people call it.

use lockkeeper_cluster::{Guarded, clean_environment};
use lockkeeper_testkit::raw::{Raw, bind_with, command_tags, error_field, execute, parse, rows, startup, sync};
use lockkeeper_testkit::{Ran, Stage, cluster, own_cluster, run, start_proxy, until};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Every table counts as large, and nothing waits long.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\npause_ms = 10\ngive_up_after_s = 1\n\
                      [backfill]\nrows_max = 50\nbatch_rows = 100\npause_ms = 1\n";
const PATIENT: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\npause_ms = 10\ngive_up_after_s = 60\n";
const USERS: &str = "CREATE TABLE users (id bigint PRIMARY KEY, email text, seen boolean);
    INSERT INTO users SELECT n, 'u' || n FROM generate_series(1, 500) n; ANALYZE users;";

fn stage(major: u32, name: &str, policy: &str) -> Stage {
    let stage = Stage::on(cluster(major), name, policy, &[]);
    stage.direct(USERS);
    stage
}

fn named(port: u16, database: &str, application_name: &str) -> Raw {
    let mut raw = Raw::open(port);
    raw.send(&startup(&[
        ("user", "postgres"),
        ("database", database),
        ("application_name", application_name),
    ]));
    raw.until_ready();
    raw
}

/// `lockkeeper audit …` as a user calls it.
fn review(arguments: &[&str], file: &Path, stdin: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.env_remove("COLUMNS").arg("audit").args(arguments).arg(file);
    run(command, stdin)
}

/// The last hash, and what is remarked.
#[track_caller]
fn whole(file: &Path) -> String {
    review(&["verify"], file, "").ok()
}

fn events(stage: &Stage, event: &str) -> Vec<Value> {
    let lines = stage.audit_lines();
    lines.into_iter().filter(|line| line["event"] == event).collect()
}

// --- who holds the lock ------------------------------------------------------------------------------------------------

#[test]
fn who_holds_the_lock_is_named_in_the_error_and_in_the_log() {
    for major in [15, 18] {
        let stage = stage(major, "gave_up", POLICY);
        let mut holder = named(stage.cluster.port(), &stage.database, "nightly report");
        let pid = rows(&holder.query("SELECT pg_backend_pid()"))[0].clone();
        holder.query("BEGIN");
        holder.query("SELECT count(*)\n  FROM users WHERE email = 'mango'");
        let ran = stage.psql_args(&["-c", "ALTER TABLE users ADD COLUMN late int"], "");
        let expect = format!(
            "held by pid {pid} (postgres nightly report, idle in transaction, for 1 s, ACCESS SHARE: \
             SELECT count(*) FROM users WHERE email = 'mango')"
        );
        // How long depends on how busy the machine is.
        let without_age = |text: &str| {
            let (before, after) = text.split_once(", for ").expect("an age");
            let (_, after) = after.split_once(" s, ").expect("seconds");
            format!("{before}{after}")
        };
        let error = ran
            .stderr
            .split("; ")
            .find(|part| part.starts_with("held by"))
            .expect(&ran.stderr);
        assert_eq!(without_age(error), without_age(&expect), "{major}: {}", ran.stderr);
        // With what ends it.
        let ends = format!("End the transaction that holds the lock (SELECT pg_terminate_backend({pid});), or ");
        assert!(ran.stderr.contains(&ends), "{major}: {}", ran.stderr);
        let waiting = events(&stage, "waiting");
        assert_eq!(
            waiting.len(),
            1,
            "{major}: told once as long as it is the same: {waiting:#?}"
        );
        let end = events(&stage, "statement").pop().expect("the end");
        assert_eq!(end["outcome"], "failed");
        for line in [&waiting[0], &end] {
            let blocker = &line["steps"][0]["blockers"][0];
            assert_eq!(blocker["pid"].to_string(), pid, "{major}");
            assert_eq!(
                ["user", "application_name", "state", "lock"].map(|key| blocker[key].as_str()),
                [
                    Some("postgres"),
                    Some("nightly report"),
                    Some("idle in transaction"),
                    Some("ACCESS SHARE")
                ]
            );
            assert!(blocker["age_s"].as_f64().is_some_and(|age| age >= 0.0));
        }
        assert!(
            end["lock_wait_ms"].as_f64().is_some_and(|wait| wait >= 900.0),
            "{end:#}"
        );
        assert_eq!(end["lock_wait_ms"], end["steps"][0]["lock_wait_ms"]);
    }
}

#[test]
fn who_held_the_lock_is_known_also_when_it_was_got_and_inside_a_transaction() {
    let stage = stage(18, "got", PATIENT);
    for block in [false, true] {
        let mut holder = named(
            stage.cluster.port(),
            &stage.database,
            if block { "second" } else { "first" },
        );
        // It reads, and CREATE TRIGGER lets readers through: it holds nobody up, so it is not named.
        let mut bystander = named(stage.cluster.port(), &stage.database, "bystander");
        bystander.query("BEGIN");
        holder.query("BEGIN");
        holder.query("UPDATE users SET seen = true WHERE id = 1");
        bystander.query("SELECT FROM users LIMIT 1");
        let mut raw = named(stage.port, &stage.database, "migration");
        if block {
            raw.query("BEGIN");
        }
        raw.send(&lockkeeper_testkit::raw::frame(b'Q', &lockkeeper_testkit::raw::c("CREATE TRIGGER t AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()")));
        let count = 1 + usize::from(block);
        until("the log names a blocker", || events(&stage, "waiting").len() >= count);
        holder.query("COMMIT");
        let answer = raw.until_ready();
        assert_eq!(command_tags(&answer), ["CREATE TRIGGER"], "{block}: {answer:?}");
        raw.query("ROLLBACK");
        bystander.query("COMMIT");
        let end = events(&stage, "statement").pop().expect("the end");
        let blockers = end["steps"][0]["blockers"].as_array().expect("blockers");
        assert_eq!(blockers.len(), 1, "{end:#}");
        assert_eq!(blockers[0]["application_name"], if block { "second" } else { "first" });
        assert_eq!(blockers[0]["lock"], "ROW EXCLUSIVE");
        if !block {
            stage.direct("DROP TRIGGER t ON users");
        }
    }
}

#[test]
fn a_prepared_transaction_is_named_with_the_way_to_end_it() {
    for major in [15, 18] {
        let server = own_cluster(major, &[("max_prepared_transactions", "2")]);
        // The stage wants a server for as long as the tests run; this one ends with the process.
        let server = Box::leak(Box::new(server));
        let stage = Stage::on(server, "prepared", POLICY, &[]);
        stage.direct(USERS);
        stage.direct("BEGIN; UPDATE users SET seen = true WHERE id = 1; PREPARE TRANSACTION 'left behind'");
        let ran = stage.psql_args(&["-c", "ALTER TABLE users ADD COLUMN late int"], "");
        assert!(
            ran.stderr
                .contains("held by the prepared transaction 'left behind' (postgres, for "),
            "{major}: {}",
            ran.stderr
        );
        let end = events(&stage, "statement").pop().expect("the end");
        let blocker = &end["steps"][0]["blockers"][0];
        assert_eq!(
            (blocker["prepared"].as_str(), &blocker["pid"]),
            (Some("left behind"), &Value::Null)
        );
        assert_eq!(blocker["lock"], "ROW EXCLUSIVE");
        stage.direct("ROLLBACK PREPARED 'left behind'");
        stage.psql("ALTER TABLE users ADD COLUMN late int").ok();
        // What another session may still undo is not done.
        let mut raw = Raw::connect(stage.port, &stage.database);
        for sql in [
            "BEGIN",
            "ALTER TABLE users ADD COLUMN parked int",
            "PREPARE TRANSACTION 'parked'",
        ] {
            raw.query(sql);
        }
        let end = events(&stage, "statement").pop().expect("the end");
        assert_eq!(end["outcome"], "prepared", "{end:#}");
        stage.direct("ROLLBACK PREPARED 'parked'");
    }
}

// --- how it ended ------------------------------------------------------------------------------------------------------

/// What a transaction does is done when it is committed, and told before the client hears of its end.
#[test]
fn a_change_is_done_when_its_transaction_is() {
    for major in [15, 18] {
        let stage = stage(major, "settled", POLICY);
        stage.direct("CREATE TABLE later (id bigint REFERENCES users DEFERRABLE INITIALLY DEFERRED)");
        let outcome = |column: &str| {
            let about = |line: &&Value| {
                let text = line["statement"].as_str().unwrap_or_default();
                text.contains(&format!("COLUMN {column} "))
            };
            let lines = stage.audit_lines();
            let told = lines.iter().rev().filter(about);
            let mut last = told.filter(|line| line["event"] == "ran" || line["event"] == "statement");
            last.next()
                .and_then(|line| line["outcome"].as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let add = |column: &str| format!("ALTER TABLE users ADD COLUMN {column} int");
        let mut raw = Raw::connect(stage.port, &stage.database);
        let run = |raw: &mut Raw, texts: &[&str]| {
            for text in texts {
                raw.query(text);
            }
        };
        run(&mut raw, &["BEGIN", &add("a")]);
        // On its way when the client hears of it.
        until("it is told", || outcome("a") == "open");
        run(&mut raw, &["ROLLBACK"]);
        assert_eq!(outcome("a"), "rolled back", "{major}");

        run(
            &mut raw,
            &[
                "SAVEPOINT none",
                "BEGIN",
                "SAVEPOINT s",
                &add("b"),
                "SAVEPOINT t",
                &add("c"),
                "RELEASE t",
            ],
        );
        run(&mut raw, &["SAVEPOINT s", &add("d"), "SELECT 1/0", "ROLLBACK TO s"]);
        let now = ["b", "c", "d"].map(&outcome);
        assert_eq!(now, ["open", "open", "rolled back"], "{major}");
        run(
            &mut raw,
            &["COMMIT AND CHAIN", &add("e"), "ROLLBACK AND CHAIN", &add("f"), "COMMIT"],
        );
        let now = ["b", "c", "d", "e", "f"].map(&outcome);
        assert_eq!(now, ["done", "done", "rolled back", "rolled back", "done"], "{major}");

        // One message is one transaction; what fails at COMMIT, or has failed before it, is not done.
        run(&mut raw, &[&format!("{}; SELECT 1/0", add("g"))]);
        run(&mut raw, &[&format!("{}; SELECT 1", add("h"))]);
        run(
            &mut raw,
            &["BEGIN", &add("i"), "INSERT INTO later VALUES (-1)", "COMMIT"],
        );
        run(&mut raw, &["BEGIN", &add("j"), "SELECT 1/0", "COMMIT"]);
        // Over the extended protocol, ended by what was prepared long before.
        raw.send(&[parse("back", "ROLLBACK"), sync()].concat());
        raw.until_ready();
        raw.query("BEGIN");
        raw.send(&[parse("", &add("k")), bind_with("", "", &[]), execute("", 0), sync()].concat());
        raw.until_ready();
        // On its way when the client hears of it.
        until("it is told", || outcome("k") == "open");
        raw.send(&[bind_with("", "back", &[]), execute("", 0), sync()].concat());
        raw.until_ready();
        run(&mut raw, &[&add("l")]);
        let now = ["g", "h", "i", "j", "k", "l"].map(&outcome);
        let expect = [
            "rolled back",
            "done",
            "rolled back",
            "rolled back",
            "rolled back",
            "done",
        ];
        assert_eq!(now, expect, "{major}");

        run(&mut raw, &["BEGIN", &add("m")]);
        drop(raw);
        until("the end of the session is told", || outcome("m") == "rolled back");
        let there = "SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'users'::regclass \
                     AND length(attname) = 1 AND NOT attisdropped";
        assert_eq!(stage.direct(there), "b c f h l", "{major}");
        let list = review(
            &["list", "--outcome", "done", "--format", "csv"],
            &stage.audit_file(),
            "",
        )
        .ok();
        assert_eq!(list.matches("ADD COLUMN").count(), 5, "{list}");
        assert_eq!(
            review(
                &["list", "--outcome", "unfinished", "--format", "csv"],
                &stage.audit_file(),
                ""
            )
            .ok()
            .lines()
            .count(),
            1
        );
        whole(&stage.audit_file());
    }
}

/// The client's locks are held meanwhile: of a transaction's changes nothing is asked that its end can tell as well.
#[test]
fn a_transaction_is_asked_about_at_its_end() {
    for major in [15, 18] {
        let mut stage = stage(major, "at_end", POLICY);
        stage.direct("ALTER TABLE users ADD CHECK (id > 0) NOT VALID; CREATE TABLE others (id int)");
        let change = |table: &str, n: u32| format!("ALTER TABLE {table} ALTER COLUMN id SET DEFAULT {n}");
        let mut raw = Raw::connect(stage.port, &stage.database);
        let round_trips = |received: &[String]| {
            let ours = |text: &&String| text.contains("indisvalid") || text.contains("xact_id_if_assigned()::text");
            let short: Vec<&String> = received.iter().filter(ours).filter(|text| text.len() < 3_000).collect();
            short.len()
        };
        raw.query("BEGIN");
        raw.query(&change("users", 1));
        stage.mark();
        raw.query(&change("users", 2));
        raw.query(&change("others", 3));
        let received = stage.received();
        assert_eq!(round_trips(&received), 0, "{major}: {received:#?}");
        assert!(
            !received.iter().any(|text| text.contains("pg_settings")),
            "{received:#?}"
        );
        stage.mark();
        raw.query("COMMIT");
        assert_eq!(round_trips(&stage.received()), 1, "{major}: {:#?}", stage.received());
        raw.query("BEGIN");
        raw.query(&change("users", 4));
        raw.query("ROLLBACK");
        raw.query("BEGIN");
        raw.query(&change("users", 5));
        raw.query("COMMIT");
        let ended = events(&stage, "statement");
        let told: Vec<(&str, &Value)> = ended
            .iter()
            .filter(|line| line["statement"].as_str().unwrap_or_default().contains("SET DEFAULT"))
            .map(|line| (line["outcome"].as_str().unwrap(), &line["after"]["not_valid"]))
            .collect();
        let (of_users, of_others) = (
            serde_json::json!(["users_id_check on public.users"]),
            serde_json::json!([]),
        );
        let expect = [
            ("done", &of_users),
            ("done", &of_users),
            ("done", &of_others),
            ("rolled back", &Value::Null),
            ("done", &of_users),
        ];
        assert_eq!(told, expect, "{major}");
        let numbers: Vec<&str> = ended.iter().filter_map(|line| line["transaction"].as_str()).collect();
        let of_first = numbers.iter().filter(|number| **number == numbers[0]).count();
        assert_eq!((numbers.len(), of_first), (5, 3), "{major}: {numbers:?}");
        whole(&stage.audit_file());
    }
}

/// A build that fails has waited for nobody, and a step that is taken back is not told as committed.
#[test]
fn what_a_failed_plan_says_is_true() {
    for major in [15, 18] {
        let stage = stage(major, "failed", POLICY);
        stage.direct("INSERT INTO users SELECT n, 'twice' FROM generate_series(1001, 60000) n");
        stage.psql_args(&["-c", "CREATE UNIQUE INDEX u ON users (email)"], "");
        let end = events(&stage, "statement").pop().expect("the end");
        assert_eq!(end["sqlstate"], "23505", "{major}: {end:#}");
        assert_eq!(
            (end["lock_wait_ms"].as_f64(), end["steps"][0]["lock_wait_ms"].as_f64()),
            (Some(0.0), Some(0.0))
        );
        assert!(end["steps"][0]["duration_ms"].as_f64() > Some(0.0));

        let add = "ALTER TABLE users ADD CONSTRAINT short CHECK (email <> 'twice')";
        let ran = stage.psql_args(&["-c", add], "");
        let end = events(&stage, "statement").pop().expect("the end");
        let detail = end["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("removed the constraint"), "{major}: {end:#}");
        assert!(!detail.contains("committed before it"), "{major}: {end:#}");
        assert!(!ran.stderr.contains("committed before it"), "{}", ran.stderr);
        assert_eq!(
            stage.direct("SELECT count(*) FROM pg_constraint WHERE conname = 'short'"),
            "0"
        );
    }
}

/// A table that is made waits for others: its parent, or what it refers to.
#[test]
fn who_is_in_the_way_of_a_new_table_is_named() {
    let make = [
        (
            "parent",
            "ACCESS EXCLUSIVE",
            "CREATE TABLE p2 PARTITION OF parent FOR VALUES FROM (10) TO (20)",
            "LOCK TABLE parent IN ACCESS SHARE MODE",
        ),
        (
            "users",
            "SHARE UPDATE EXCLUSIVE",
            "CREATE TABLE heir () INHERITS (users)",
            "LOCK TABLE users IN SHARE MODE",
        ),
        (
            "users",
            "SHARE ROW EXCLUSIVE",
            "CREATE TABLE refers (id bigint REFERENCES users)",
            "UPDATE users SET seen = true WHERE id = 1",
        ),
    ];
    for major in [15, 18] {
        let stage = stage(major, "made", POLICY);
        stage.direct("CREATE TABLE parent (id int) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF parent FOR VALUES FROM (0) TO (10)");
        for (table, lock, sql, held) in make {
            let mut holder = named(stage.cluster.port(), &stage.database, "in the way");
            holder.query("BEGIN");
            holder.query(held);
            let ran = stage.psql_args(&["-c", sql], "");
            let expect = format!("could not get {lock} on {table} in ");
            assert!(
                ran.stderr.contains(&expect) && ran.stderr.contains("in the way"),
                "{major} {sql}: {}",
                ran.stderr
            );
            let end = events(&stage, "statement").pop().expect("the end");
            assert_eq!(
                end["steps"][0]["blockers"][0]["application_name"], "in the way",
                "{end:#}"
            );
            holder.query("ROLLBACK");
            stage.psql(sql).ok();
        }
    }
}

/// The holder came through the proxy as well, whose own statement was the last that the server saw of it.
#[test]
fn a_blocker_s_query_is_not_one_of_lockkeeper_s_own() {
    for major in [15, 18] {
        let stage = stage(major, "own", POLICY);
        for savepoint in [false, true] {
            let mut holder = named(stage.port, &stage.database, "migration");
            holder.query("BEGIN");
            if savepoint {
                holder.query("SAVEPOINT s");
            }
            holder.query("ALTER TABLE users ADD COLUMN held int");
            let ran = stage.psql_args(&["-c", "ALTER TABLE users ADD COLUMN late int"], "");
            assert!(
                ran.stderr.contains("(postgres migration, idle in transaction, "),
                "{}",
                ran.stderr
            );
            for own in ["pg_catalog.", "lockkeeper_", "lockkeeper."] {
                let held = ran
                    .stderr
                    .split("held by")
                    .nth(1)
                    .and_then(|text| text.split(';').next());
                assert!(held.is_some_and(|held| !held.contains(own)), "{major}: {}", ran.stderr);
            }
            let end = events(&stage, "statement").pop().expect("the end");
            assert_eq!(end["steps"][0]["blockers"][0]["query"], Value::Null, "{end:#}");
            holder.query("ROLLBACK");
        }
    }
}

/// What is asked before the plan is made is a part of what the client waits for.
#[test]
fn a_statement_s_time_begins_when_it_comes() {
    let stage = stage(18, "times", POLICY);
    stage.psql("BEGIN; CREATE INDEX i ON users (email); COMMIT").ok();
    let mut holder = named(stage.cluster.port(), &stage.database, "holder");
    holder.query("BEGIN");
    holder.query("LOCK TABLE lockkeeper.job IN ACCESS EXCLUSIVE MODE");
    let mut raw = named(stage.port, &stage.database, "migration");
    raw.send(&lockkeeper_testkit::raw::frame(
        b'Q',
        &lockkeeper_testkit::raw::c("ALTER TABLE users ADD COLUMN late int"),
    ));
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'lockkeeper.job'::regclass";
    until("the question waits", || stage.direct(waits) == "t");
    std::thread::sleep(Duration::from_millis(1500));
    holder.query("COMMIT");
    raw.until_ready();
    let end = events(&stage, "statement").pop().expect("the end");
    assert_eq!(
        (end["outcome"].as_str(), end["statement"].as_str()),
        (Some("done"), Some("ALTER TABLE users ADD COLUMN late int"))
    );
    assert!(end["duration_ms"].as_f64() >= Some(1500.0), "{end:#}");
}

/// A log that ends before its statement does cannot say that a step was not run.
#[test]
fn what_the_log_does_not_tell_of_is_not_called_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("cut.log");
    let line = |event: &str, steps: &[(&str, &str)]| {
        let steps: Vec<Value> = steps
            .iter()
            .map(|(label, outcome)| serde_json::json!({"label": label, "sql": label, "outcome": outcome}))
            .collect();
        let line = serde_json::json!({"time": "2026-01-01T00:00:00.000000Z", "event": event, "id": "x-1.1", "session": 1, "backend_pid": 1,
            "user": "u", "database": "d", "application_name": "", "client": "unix", "statement": "S", "action": "rewrite", "steps": steps,
            "outcome": ""});
        format!("{line}\n")
    };
    let lines = line("planned", &[("first", "not run"), ("second", "not run")]) + &line("step", &[("first", "done")]);
    std::fs::write(&log, lines).unwrap();
    let story = review(&["show", "x-1.1"], &log, "").ok();
    assert!(
        story.contains("1. first: done") && story.contains("2. second: not known"),
        "{story}"
    );
    assert!(
        story.contains("not known whether done: second") && !story.contains("not run"),
        "{story}"
    );
}

// --- what is kept ------------------------------------------------------------------------------------------------------

#[test]
fn parameters_are_kept_and_literals_are_redacted_when_the_policy_says_so() {
    for redact in [false, true] {
        let literals = if redact { "redact" } else { "keep" };
        let stage = stage(18, "literals", &format!("{POLICY}[audit]\nliterals = \"{literals}\"\n"));
        let mut holder = named(stage.cluster.port(), &stage.database, "holder");
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("ALTER TABLE users ADD COLUMN fruit text DEFAULT 'mango'");
        raw.send(
            &[
                parse("s", "UPDATE users SET fruit = $1 WHERE id > $2::int"),
                bind_with("", "s", &["papaya", "1"]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(command_tags(&raw.until_ready()), ["UPDATE 499"]);
        raw.query("ALTER TABLE users ALTER COLUMN fruit TYPE int USING fruit::int -- lime");
        holder.query("BEGIN");
        holder.query("SELECT FROM users WHERE fruit = 'kiwi'");
        let notices = raw.query("ALTER TABLE users ADD COLUMN more text");
        let error = error_field(&notices, b'M').expect("an error");
        assert_eq!(error.contains("kiwi"), !redact, "{error}");
        holder.query("ROLLBACK");
        let log = std::fs::read_to_string(stage.audit_file()).expect("the log");
        for fruit in ["mango", "papaya", "kiwi", "lime"] {
            assert_eq!(log.contains(fruit), !redact, "{fruit}: {log}");
        }
        let ends = events(&stage, "statement");
        let update = ends.iter().find(|line| {
            line["statement"]
                .as_str()
                .is_some_and(|text| text.starts_with("UPDATE"))
        });
        let expect = if redact {
            serde_json::json!([])
        } else {
            serde_json::json!(["papaya", "1"])
        };
        assert_eq!(update.expect("the UPDATE")["parameters"], expect);
        whole(&stage.audit_file());
    }
}

// --- the file ----------------------------------------------------------------------------------------------------------

#[test]
fn two_processes_hand_over_and_a_kill_in_the_middle_of_a_line_is_mended() {
    let mut stage = stage(18, "hand_over", POLICY);
    // A second proxy that writes the same file, by another name.
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("policy.toml"), POLICY).unwrap();
    std::os::unix::fs::symlink(stage.audit_file(), other.path().join("audit.jsonl")).unwrap();
    let upstream = format!("127.0.0.1:{}", stage.cluster.port());
    let (second, port) = start_proxy(other.path(), &upstream, &["--audit-fsync", "each"]);
    let (mut one, mut two) = (
        Raw::connect(stage.port, &stage.database),
        Raw::connect(port, &stage.database),
    );
    for n in 0..5 {
        assert_eq!(
            command_tags(&one.query(&format!("ALTER TABLE users ADD COLUMN a{n} int"))),
            ["ALTER TABLE"]
        );
        assert_eq!(
            command_tags(&two.query(&format!("ALTER TABLE users ADD COLUMN b{n} int"))),
            ["ALTER TABLE"]
        );
    }
    let ids: std::collections::HashSet<String> = events(&stage, "statement")
        .iter()
        .map(|line| line["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 10, "no two statements have the same id");
    whole(&stage.audit_file());
    stage.kill_proxy();
    let mut file = std::fs::File::options().append(true).open(stage.audit_file()).unwrap();
    std::io::Write::write_all(&mut file, b"{\"v\":1,\"seq\":33,\"prev\":\"0123").unwrap();
    let torn = review(&["verify"], &stage.audit_file(), "");
    assert_eq!(torn.status, 1);
    assert!(torn.stderr.contains("are no whole line"), "{torn:?}");
    // The one that still runs mends it; so would the next start.
    assert_eq!(
        command_tags(&two.query("ALTER TABLE users ADD COLUMN c int")),
        ["ALTER TABLE"]
    );
    assert!(whole(&stage.audit_file()).contains("a crash cut short"));
    stage.start_proxy(&[]);
    assert_eq!(
        stage.psql("ALTER TABLE users ADD COLUMN d int").ok().trim(),
        "ALTER TABLE"
    );
    second.signal(libc::SIGTERM).unwrap();
    drop(two);
    assert!(second.ends_within(Duration::from_secs(20)));
    let last = std::fs::read_to_string(stage.audit_file()).unwrap();
    assert!(last.lines().last().unwrap().contains("\"what\":\"closed\""), "{last}");
    assert!(!whole(&stage.audit_file()).contains("does not close the log"));
}

/// The soft limit of the sizes of files that a process writes.
fn limit_file_size(proxy: &Guarded, bytes: libc::rlim_t) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the struct is only read; the old limit is not asked for.
    let set = unsafe { libc::prlimit(proxy.pid(), libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_file_that_may_not_grow_is_survived_and_what_is_lost_is_counted() {
    for closed in [false, true] {
        let on_failure = if closed { "closed" } else { "open" };
        let stage = stage(
            18,
            "fsize",
            &format!("{POLICY}[audit]\non_failure = \"{on_failure}\"\n"),
        );
        let mut raw = Raw::connect(stage.port, &stage.database);
        assert_eq!(
            command_tags(&raw.query("ALTER TABLE users ADD COLUMN a int")),
            ["ALTER TABLE"]
        );
        let length = std::fs::metadata(stage.audit_file()).unwrap().len();
        limit_file_size(stage.proxy(), length + 100);
        let answer = raw.query("ALTER TABLE users ADD COLUMN b int");
        let sqlstate = error_field(&answer, b'C');
        assert_eq!(sqlstate.as_deref(), closed.then_some("58030"), "{answer:?}");
        assert_eq!(stage.schema().contains("users column b "), !closed);
        // What is overridden runs as it was written, and is audited all the same.
        raw.query("SET lockkeeper.override = 'drop-column: nobody reads it'");
        let answer = raw.query("ALTER TABLE users DROP COLUMN a");
        assert_eq!(
            error_field(&answer, b'C').as_deref(),
            closed.then_some("58030"),
            "{answer:?}"
        );
        assert_eq!(rows(&raw.query("SELECT count(*) FROM users")), ["500"]);
        assert_eq!(
            command_tags(&raw.query("UPDATE users SET seen = true WHERE id = 7")),
            ["UPDATE 1"]
        );
        // Of a line that did not fit nothing is left.
        assert_eq!(std::fs::metadata(stage.audit_file()).unwrap().len(), length);
        limit_file_size(stage.proxy(), libc::RLIM_INFINITY);
        assert_eq!(
            command_tags(&raw.query("ALTER TABLE users ADD COLUMN c int")),
            ["ALTER TABLE"]
        );
        let remarks = whole(&stage.audit_file());
        assert!(
            remarks.contains("events could not be written before this line"),
            "{remarks}"
        );
        let text = std::fs::read_to_string(stage.audit_file()).unwrap();
        let lost = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|line| line["what"] == "lost");
        // Closed: only the two plans. Open: of each the plan, the step and the end.
        assert_eq!(lost.expect("a line")["lost"], if closed { 2 } else { 6 });
    }
}

#[test]
fn a_proxy_rotates_its_log_and_the_review_reads_all_of_it() {
    let stage = Stage::on(cluster(18), "rotate", POLICY, &["--audit-rotate-bytes", "20000"]);
    stage.direct(USERS);
    let mut raw = Raw::connect(stage.port, &stage.database);
    for n in 0..20 {
        assert_eq!(
            command_tags(&raw.query(&format!("ALTER TABLE users ADD COLUMN a{n} int"))),
            ["ALTER TABLE"]
        );
    }
    let directory = stage.audit_file().parent().unwrap().to_path_buf();
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names
        .filter(|path| path.to_string_lossy().contains("audit.jsonl"))
        .collect();
    assert!(files.len() > 2, "{files:?}");
    files.sort();
    // The shell's order, in which the newest comes first.
    let (last, others) = files.split_last().unwrap();
    let others: Vec<&str> = others.iter().map(|path| path.to_str().unwrap()).collect();
    let found = review(&[&["verify"], others.as_slice()].concat(), last, "").ok();
    assert!(found.contains(&format!("lines in {} files", files.len())), "{found}");
    let listed = review(&[&["list", "--format", "json"], others.as_slice()].concat(), last, "").ok();
    let statements = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["statement"].to_string());
    let expect = (0..20).map(|n| format!("\"ALTER TABLE users ADD COLUMN a{n} int\""));
    assert!(statements.eq(expect), "{listed}");
}

// --- review ------------------------------------------------------------------------------------------------------------

#[test]
fn the_morning_after() {
    let stage = stage(18, "review", POLICY);
    for sql in [
        "ALTER TABLE users DROP COLUMN email",
        "CREATE INDEX users_email ON users (email)",
        "ALTER TABLE users ADD COLUMN note text CHECK (note <> '=1+1')",
        "ALTER TABLE users ALTER COLUMN seen SET NOT NULL",
        "SET lockkeeper.override = 'drop-column: ticket 42';\nALTER TABLE users DROP COLUMN note",
    ] {
        stage.psql(sql);
    }
    let log = stage.audit_file();
    let list = |arguments: &[&str]| review(&[&["list"], arguments].concat(), &log, "").ok();
    let statements = |arguments: &[&str]| -> Vec<String> {
        let json = list(&[&["--format", "json"], arguments].concat());
        let lines = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .map(|line| line["statement"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(statements(&[]).len(), 5);
    let check = |arguments: &[&str], expect: &[&str]| {
        let found = statements(arguments);
        let begins = found.iter().zip(expect).all(|(found, expect)| found.contains(expect));
        assert!(found.len() == expect.len() && begins, "{arguments:?}: {found:?}");
    };
    check(&["--action", "reject"], &["DROP COLUMN email"]);
    check(&["--outcome", "failed"], &["SET NOT NULL"]);
    check(&["--rule", "nonconcurrent-index"], &["users_email"]);
    check(&["--rule", "drop-column"], &["DROP COLUMN email", "DROP COLUMN note"]);
    check(&["--table", "users", "--outcome", "rejected"], &["DROP COLUMN email"]);
    check(
        &["--table", "public.users", "--outcome", "rejected"],
        &["DROP COLUMN email"],
    );
    check(&["--table", "ers", "--outcome", "rejected"], &[]);
    check(&["--user", "nobody"], &[]);
    check(
        &["--app", "psql", "--database", &stage.database, "--action", "reject"],
        &["DROP COLUMN email"],
    );
    check(&["--grep", "TICKET 42"], &["DROP COLUMN note"]);
    check(&["ticket 42"], &["DROP COLUMN note"]);
    check(&["--since", "1h", "--action", "reject"], &["DROP COLUMN email"]);
    check(&["--until", "1h"], &[]);
    check(&["--longer-than", "1h"], &[]);
    check(&["--outcome", "unfinished"], &[]);

    // The table fits, and says what happened in each line.
    let table = review_in_columns(80, &["list"], &log);
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.lines().nth(1).unwrap().contains(" rejected "), "{table}");
    let csv = list(&["--format", "csv"]);
    assert!(csv.lines().count() == 6 && csv.starts_with("time,id,user,"), "{csv}");

    // One statement's story.
    let ids: Vec<String> = stage
        .audit_lines()
        .iter()
        .filter(|line| line["event"] == "statement")
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    let show = |id: &str| review(&["show", id], &log, "").ok();
    let story = show(&ids[1]);
    for expect in [
        "rewrite, done",
        "who       postgres with psql from 127.0.0.1:",
        "about     public.users",
        "CREATE INDEX users_email ON users (email)",
        "nonconcurrent-index (as written: SHARE;",
        "CREATE INDEX CONCURRENTLY",
        "SHARE UPDATE EXCLUSIVE on ",
        "The way back",
        "DROP INDEX CONCURRENTLY",
    ] {
        assert!(story.contains(expect), "{expect}:\n{story}");
    }
    let failed = show(&ids[3]);
    assert!(
        failed.contains("23502") && failed.contains("removed the constraint"),
        "{failed}"
    );
    let refused = show(&ids[0]);
    assert!(
        refused.contains("Nothing was run.") && refused.contains("instead: "),
        "{refused}"
    );
    assert!(
        show(&ids[4]).contains("let through by an override: ticket 42"),
        "{}",
        show(&ids[4])
    );
    let missing = review(&["show", "none-0.0"], &log, "");
    assert_eq!(
        (missing.status, missing.stderr.contains("no statement `none-0.0`")),
        (1, true),
        "{missing:?}"
    );

    let stats: Value = serde_json::from_str(&review(&["stats", "--format", "json"], &log, "").ok()).unwrap();
    assert_eq!(stats["all"]["statements"], 5);
    assert_eq!(stats["by_rule"]["drop-column"]["statements"], 2);
    assert_eq!(stats["by_table"]["public.users"]["statements"], 5);
    assert_eq!(stats["refused"][0]["id"], ids[0].as_str());
    assert!(review(&["stats"], &log, "").ok().contains("refused, the latest last"));

    // From a pipe it is the same.
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(review(&["list", "--format", "csv"], Path::new("-"), &text).ok(), csv);
    assert!(review(&["verify"], Path::new("-"), &text).ok().contains("whole: "));
}

fn review_in_columns(columns: u32, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command
        .env("COLUMNS", columns.to_string())
        .arg("audit")
        .args(arguments)
        .arg(file);
    run(command, "").ok()
}

#[test]
fn a_statement_whose_end_is_missing_is_listed_last_and_its_story_says_so() {
    let mut stage = stage(18, "unfinished", PATIENT);
    let mut holder = named(stage.cluster.port(), &stage.database, "holder");
    holder.query("BEGIN");
    holder.query("SELECT FROM users");
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&lockkeeper_testkit::raw::frame(
        b'Q',
        &lockkeeper_testkit::raw::c("ALTER TABLE users ADD COLUMN a int"),
    ));
    until("it waits", || !events(&stage, "waiting").is_empty());
    stage.kill_proxy();
    let listed = review(
        &["list", "--outcome", "unfinished", "--format", "csv"],
        &stage.audit_file(),
        "",
    )
    .ok();
    assert!(
        listed.lines().count() == 2 && listed.contains("ADD COLUMN a int"),
        "{listed}"
    );
    let id = events(&stage, "planned")[0]["id"].as_str().unwrap().to_owned();
    let story = review(&["show", id.split_once('-').unwrap().1], &stage.audit_file(), "").ok();
    assert!(
        story.contains("unfinished") && story.contains(", holder, ") && story.contains("does not have its end"),
        "{story}"
    );
}

#[test]
fn what_was_done_afterwards_is_not_unfinished_on_15() {
    what_was_done_afterwards_is_not_unfinished(15);
}

#[test]
fn what_was_done_afterwards_is_not_unfinished_on_18() {
    what_was_done_afterwards_is_not_unfinished(18);
}

/// The work of a proxy that was killed, done by the same statement or by its job resumed: it is not unfinished for ever.
fn what_was_done_afterwards_is_not_unfinished(major: u32) {
    const SLOW: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 150\n";
    let mut stage = stage(major, "continued", SLOW);
    stage.direct("CREATE TABLE n (id bigint PRIMARY KEY, n int DEFAULT 0); INSERT INTO n SELECT generate_series(1, 3000); ANALYZE n");
    let outcomes = |stage: &Stage, outcome: &str| {
        let listed = review(
            &["list", "--outcome", outcome, "--format", "csv"],
            &stage.audit_file(),
            "",
        );
        listed.ok().lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let killed = |stage: &mut Stage, sql: &str| {
        let mut raw = Raw::connect(stage.port, &stage.database);
        let before = stage.number("SELECT count(*) FROM n WHERE n > 0");
        raw.send(&lockkeeper_testkit::raw::frame(b'Q', &lockkeeper_testkit::raw::c(sql)));
        until("a batch is done", || {
            stage.number("SELECT count(*) FROM n WHERE n > 0") > before
        });
        stage.kill_proxy();
        until("the server has noticed", || {
            let others =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
            stage.number(others) == 0
        });
        stage.start_proxy(&[]);
        assert_eq!(outcomes(stage, "unfinished").len(), 1, "{sql}");
        let listed = outcomes(stage, "unfinished").remove(0);
        assert!(listed.contains(sql), "{listed}");
    };
    let again = "UPDATE n SET n = n + 1";
    killed(&mut stage, again);
    // Another one of the same table, or one that fails, does nothing for it.
    stage.psql("UPDATE n SET n = n + 1 WHERE id < 5;\nUPDATE n SET n = 1 / 0 WHERE id = 1;\n");
    assert_eq!(outcomes(&stage, "unfinished").len(), 1);
    stage.psql(&format!("{again};\n")).ok();
    assert!(outcomes(&stage, "unfinished").is_empty());
    assert!(outcomes(&stage, "continued")[0].contains(again));
    let id = events(&stage, "planned")[0]["id"].as_str().unwrap().to_owned();
    let story = review(&["show", &id], &stage.audit_file(), "").ok();
    let joined = story.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        joined.contains("rewrite, continued") && joined.contains("What was left of it is done"),
        "{story}"
    );

    stage.direct("UPDATE n SET n = 0");
    let resumed = "UPDATE n SET n = n + 2";
    killed(&mut stage, resumed);
    let job = stage.number("SELECT max(id) FROM lockkeeper.job");
    stage.psql(&format!("CALL lockkeeper.resume({job});\n")).ok();
    assert_eq!(stage.number("SELECT sum(n) FROM n"), 6000);
    assert!(outcomes(&stage, "unfinished").is_empty());
    assert_eq!(outcomes(&stage, "continued").len(), 2);
}

#[test]
fn following_shows_what_comes_over_rotation() {
    let stage = Stage::on(cluster(18), "follow", POLICY, &["--audit-rotate-bytes", "10000"]);
    stage.direct(USERS);
    let out = stage.audit_file().with_file_name("followed");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command
        .args(["audit", "list", "--follow", "--format", "json"])
        .arg(stage.audit_file());
    let _follower = Guarded::spawn(&command, &out).unwrap();
    let mut raw = Raw::connect(stage.port, &stage.database);
    let seen = || std::fs::read_to_string(&out).unwrap_or_default();
    for n in 0..12 {
        raw.query(&format!("ALTER TABLE users ADD COLUMN a{n} int"));
        if n == 0 {
            // It follows from the beginning of the file that it has found.
            until("the first one is seen", || seen().ends_with('\n'));
        }
    }
    until("the last one is seen", || {
        seen().contains("ADD COLUMN a11 int") && seen().ends_with('\n')
    });
    assert_eq!(seen().lines().count(), 12);
}

#[test]
fn what_cannot_be_reviewed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.jsonl");
    std::fs::write(&file, "").unwrap();
    let check = |arguments: &[&str], file: &Path, code: i32, expect: &str| {
        let ran = review(arguments, file, "");
        assert_eq!(ran.status, code, "{ran:?}");
        assert!(ran.stderr.contains(expect), "{ran:?}");
    };
    check(
        &["list", "--rule", "drop-colum"],
        &file,
        2,
        "did you mean `drop-column`?",
    );
    check(
        &["list", "--action", "refuse"],
        &file,
        2,
        "--action: there is no `refuse`",
    );
    check(&["list", "--outcome", "don"], &file, 2, "did you mean `done`?");
    check(
        &["list", "--since", "some day"],
        &file,
        2,
        "--since: `some day` is no time",
    );
    check(
        &["list", "--longer-than", "5"],
        &file,
        2,
        "--longer-than: `5` is no time",
    );
    check(&["list"], &dir.path().join("none"), 2, "none: No such file");
    check(&["verify"], dir.path(), 2, "Is a directory");
    check(&["verify", "--expect", "abc"], &file, 2, "`abc` is no hash");
    check(
        &["stats", "--outcome", "unfinished"],
        &file,
        2,
        "stats counts what has ended",
    );
    std::fs::write(&file, "{\"event\":\"statement\"}\n").unwrap();
    check(&["list"], &file, 0, "1 lines cannot be read");
    check(&["verify"], &file, 1, "audit.jsonl:1: ");
}

/// However many children there are: a new one locks the parent alone, so that the others are neither asked for nor told of.
#[test]
fn a_new_child_is_judged_by_its_parent_alone() {
    for major in [15, 18] {
        let stage = stage(major, "new_child", POLICY);
        stage.direct("CREATE TABLE older () INHERITS (users); CREATE TABLE grandchild () INHERITS (older)");
        for (sql, expected) in [
            ("CREATE TABLE younger () INHERITS (users)", vec!["public.users"]),
            (
                "CREATE TABLE younger_still (LIKE users, CHECK (id > 0)) INHERITS (users)",
                vec!["public.users"],
            ),
            // This one locks them all.
            (
                "ALTER TABLE users ADD CHECK (id > 0)",
                vec![
                    "public.grandchild",
                    "public.older",
                    "public.users",
                    "public.younger",
                    "public.younger_still",
                ],
            ),
        ] {
            stage.psql(sql).ok();
            let events = stage.audit_lines();
            let told = events
                .iter()
                .rfind(|e| e["event"] == "statement" && e["statement"] == sql)
                .expect("the statement is audited");
            let mut relations: Vec<&str> = told["relations"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            relations.sort_unstable();
            assert_eq!(relations, expected, "{major}: {sql}");
        }
    }
}

/// Of the partitions that are there only the default one can stand in a new one's way.
#[test]
fn a_new_partition_is_judged_by_its_parent_and_the_default_one() {
    for major in [15, 18] {
        let stage = stage(major, "new_partition", POLICY);
        stage.direct(
            "CREATE TABLE m (id int, k int) PARTITION BY RANGE (id);
             CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10);
             CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20);
             CREATE TABLE rest PARTITION OF m DEFAULT PARTITION BY RANGE (id);
             CREATE TABLE rest1 PARTITION OF rest FOR VALUES FROM (50) TO (60);
             CREATE TABLE whole (LIKE m) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM (30) TO (40);
             INSERT INTO m VALUES (55, 1)",
        );
        for (sql, expected) in [
            (
                "CREATE TABLE m3 PARTITION OF m FOR VALUES FROM (20) TO (30)",
                vec!["public.m", "public.rest", "public.rest1"],
            ),
            (
                "ALTER TABLE m ATTACH PARTITION whole FOR VALUES FROM (30) TO (40)",
                vec!["public.m", "public.part", "public.rest", "public.rest1", "public.whole"],
            ),
        ] {
            stage.psql(sql).ok();
            let events = stage.audit_lines();
            let told = events
                .iter()
                .rfind(|e| e["event"] == "statement" && e["statement"] == sql);
            let relations = told.expect("the statement is audited")["relations"]
                .as_array()
                .expect("a list");
            let mut relations: Vec<&str> = relations.iter().filter_map(Value::as_str).collect();
            relations.sort_unstable();
            assert_eq!(relations, expected, "{major}: {sql}");
        }
        let attached = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'm'::regclass";
        assert_eq!(stage.direct(attached), "m1 m2 m3 rest whole", "{major}");
        // A row that the default partition holds is found behind it.
        let ran = stage.psql("CREATE TABLE m5 PARTITION OF m FOR VALUES FROM (50) TO (60)");
        assert!(
            ran.status != 0 && ran.stderr.contains("of relation \"rest1\" is violated by some row"),
            "{major}: {}",
            ran.stderr
        );
    }
}
