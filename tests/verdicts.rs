//! `check --dsn` says of every statement what the proxy does with it: the catalogue's statements one by one, and whole scripts with
//! their transactions (`verdicts.txt`). Both are run through a real proxy, and what its audit log tells is compared.
//!
//! `LOCKKEEPER_CASES=text` chooses the statements and scripts that contain that text.

use lockkeeper::plan::rules::RULES;
use lockkeeper_cluster::{Cluster, clean_environment};
use lockkeeper_testkit::{Stage, own_cluster, run, table};
use serde_json::Value;
use std::collections::VecDeque;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// As the catalogue's: nothing counts as small, and no table is rewritten.
const POLICY: &str = "extends = \"standard\"
[rules]
rewriting-table = \"reject\"
[table]
small_bytes = 0
[lock]
pause_ms = 20
give_up_after_s = 20
[backfill]
rows_max = 50
batch_rows = 100
pause_ms = 1
";
/// What the linter warns of, where the proxy has nothing to say.
const OF_CHECK: &[&str] = &["warn:held-lock", "warn:invalid-index"];
/// What is about the schema itself.
const DESIGN: &str = "int-primary-key,json-column,timestamp-without-zone,drop-not-null,no-primary-key,unindexed-foreign-key,\
                      foreign-key-type,index-dropped-first,long-identifier,disable-trigger-all,not-enforced,volatile-check,security-definer";
const WORKERS: usize = 2;
const LATE: Duration = Duration::from_secs(60);

/// One session: its statements one after the other.
struct Script {
    line: usize,
    name: String,
    /// Straight at the server, before it.
    setup: Vec<String>,
    statements: Vec<Line>,
}

struct Line {
    sql: String,
    /// What both must say; None: only that they say the same.
    expect: Option<String>,
}

/// `## name` begins a script, `+ SQL` is its setup; every other line is `VERDICT  STATEMENT`, the verdict `forward`, `warn:RULE`,
/// `rewrite:RULE` or `reject:RULE`. What is behind a reject is not sent.
fn scripts(text: &str, major: u32) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("## ") {
            scripts.push(Script {
                line: at + 1,
                name: name.to_owned(),
                setup: Vec::new(),
                statements: Vec::new(),
            });
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            let script = scripts.last_mut().expect("a script begins with ##");
            if let Some(sql) = line.strip_prefix("+ ") {
                script.setup.push(sql.to_owned());
                continue;
            }
            let (expect, sql) = line
                .split_once(char::is_whitespace)
                .unwrap_or_else(|| panic!("verdicts.txt:{}: no statement", at + 1));
            script.statements.push(Line {
                sql: sql.trim().to_owned(),
                expect: Some(expect.to_owned()),
            });
        }
    }
    scripts.retain(|script| match script.name.split_once("=") {
        Some((version, _)) => version.split('-').any(|one| one.parse() == Ok(major)),
        None => true,
    });
    scripts
}

fn of_catalogue(major: u32) -> Vec<Script> {
    let cases = table::cases(include_str!("catalogue/table.txt"), major);
    let script = |case: table::Case| {
        let session = case.session.iter().flat_map(|sql| sql.split("; "));
        let all = session.chain([case.sql.as_str()]);
        Script {
            line: case.line,
            name: case.group,
            setup: case.setup,
            statements: all
                .map(|sql| Line {
                    sql: sql.to_owned(),
                    expect: None,
                })
                .collect(),
        }
    };
    // What is alike on both versions is run on one of them.
    let shared =
        |case: &table::Case| case.expect != table::Expect::Brief || case.line.is_multiple_of(2) == (major == 18);
    cases.into_iter().filter(shared).map(script).collect()
}

struct Ground {
    stage: Stage,
    cluster: &'static Cluster,
    template: String,
}

impl Ground {
    fn new(major: u32, name: &str, fixture: &str, policy: &str) -> Ground {
        let cluster: &'static Cluster = Box::leak(Box::new(own_cluster(major, &[("autovacuum", "off")])));
        let stage = Stage::on(cluster, name, policy, &[]);
        let template = format!("{name}_template");
        stage.create_database(&template);
        cluster
            .psql(&template, &format!("CREATE SCHEMA watch; {fixture}"))
            .unwrap_or_else(|error| panic!("the fixture on {major}: {error}"));
        Ground {
            stage,
            cluster,
            template,
        }
    }

    fn copy(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}_{}", self.template, NUMBER.fetch_add(1, Ordering::Relaxed));
        let sql = format!("CREATE DATABASE {name} TEMPLATE {}", self.template);
        self.cluster.psql("postgres", &sql).expect("a copy");
        name
    }

    /// Of each statement of the script; empty where none was read.
    fn checked(&self, database: &str, script: &Script) -> Vec<String> {
        let text: String = script
            .statements
            .iter()
            .map(|line| format!("{};\n", line.sql))
            .collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        let dsn = format!(
            "host=127.0.0.1 port={} user=postgres dbname={database}",
            self.cluster.port()
        );
        command.args([
            "check",
            "--exclude",
            DESIGN,
            "--format",
            "json",
            "--tool",
            "psql",
            "--dsn",
            &dsn,
            "--policy",
        ]);
        command.arg(self.stage.policy_file()).arg("-");
        let ran = run(command, &text);
        let verdicts = ran.stdout.lines().map(|line| serde_json::from_str(line).expect(line));
        let mut told: Vec<String> = verdicts.map(|verdict: Value| of_check(&verdict)).collect();
        if !ran.stderr.is_empty() && told.len() < script.statements.len() {
            told.push(ran.stderr);
        }
        told
    }

    async fn connect(&self, database: &str) -> Client {
        let text = format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} application_name=test",
            self.stage.port
        );
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await.expect("a session");
        tokio::spawn(connection);
        client
    }

    /// Of each statement up to the first that is refused, or that the server refuses in a transaction: what was done, and whether the
    /// server took it.
    async fn carried_out(&self, database: &str, script: &Script) -> Vec<(String, bool)> {
        let client = self.connect(database).await;
        let mark = std::fs::metadata(self.stage.audit_file()).map_or(0, |file| file.len());
        let (mut took, mut in_block) = (Vec::new(), false);
        for line in &script.statements {
            let ran = tokio::time::timeout(LATE, client.batch_execute(&line.sql)).await;
            let ran = ran.unwrap_or_else(|_| panic!("it hangs: {}", line.sql));
            match line.sql.as_str() {
                "BEGIN" => in_block = true,
                "COMMIT" | "ROLLBACK" => in_block = false,
                _ => {}
            }
            took.push(ran.is_ok());
            if ran.is_err() && in_block {
                break;
            }
        }
        if in_block {
            let _ = client.batch_execute("COMMIT").await;
        }
        // What comes last is written when all before it is.
        let marker = "DROP DATABASE postgres";
        let _ = client.batch_execute(marker).await;
        let mut events = self.events(mark, database, marker);
        let mut told = Vec::new();
        for (line, took) in script.statements.iter().zip(took) {
            let at = events.iter().position(|event| event["statement"] == line.sql.as_str());
            let done = at.map_or("forward".to_owned(), |at| {
                of_proxy(&events.remove(at).expect("it is there"), &line.sql)
            });
            told.push((done, took));
        }
        told
    }

    fn events(&self, mark: u64, database: &str, last: &str) -> VecDeque<Value> {
        let deadline = Instant::now() + LATE;
        loop {
            let text = std::fs::read(self.stage.audit_file()).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(mark as usize..).unwrap_or_default()).into_owned();
            let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut own: VecDeque<Value> = all
                .filter(|event| event["event"] == "statement" && event["database"] == database)
                .filter(|event| !event["why"].to_string().contains("after COMMIT"))
                .collect();
            if own.iter().any(|event| event["statement"] == last) {
                own.retain(|event| event["statement"] != last);
                return own;
            }
            assert!(Instant::now() < deadline, "the audit log does not tell of {last}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn first_rule(findings: &Value, action: &str) -> String {
    let all = findings.as_array().map(Vec::as_slice).unwrap_or_default();
    let with = |wanted: &str| all.iter().find(|found| found["action"] == wanted);
    let found = with(action).or(all.iter().find(|found| found["overridden"].is_null()));
    found
        .and_then(|found| found["rule"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn short(action: &str, rule: &str) -> String {
    match action {
        "forward" => "forward".to_owned(),
        _ if rule.is_empty() => action.to_owned(),
        _ => format!("{action}:{rule}"),
    }
}

fn of_check(verdict: &Value) -> String {
    let action = verdict["action"].as_str().expect("an action");
    short(action, &first_rule(&verdict["findings"], action))
}

fn of_proxy(event: &Value, sql: &str) -> String {
    let findings = &event["findings"];
    let action = event["action"].as_str().expect("an action");
    let steps = event["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().trim().to_owned();
    let own = matches!(steps, [one] if text(one, "sql") == sql.trim() && !text(one, "label").contains("batches"));
    let warned = || {
        let all = findings.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().any(|found| found["action"] == "warn")
    };
    match action {
        "rewrite" if own && warned() => short("warn", &first_rule(findings, "warn")),
        "rewrite" if own => "forward".to_owned(),
        _ => short(action, &first_rule(findings, action)),
    }
}

/// What differs, if anything.
async fn compared(ground: &Ground, script: &Script) -> Option<String> {
    let database = ground.copy();
    for sql in &script.setup {
        ground
            .cluster
            .psql(&database, sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let checked = ground.checked(&database, script);
    let carried_out = ground.carried_out(&database, script).await;
    let drop = format!("DROP DATABASE {database} WITH (FORCE)");
    ground.cluster.psql("postgres", &drop).expect("dropped");
    for (at, line) in script.statements.iter().enumerate() {
        let said = checked.get(at).map_or("nothing", String::as_str);
        let expect = line.expect.as_deref();
        let done = carried_out.get(at);
        // What only the linter says is forwarded; and what it is certain of happens.
        let same = |(done, took): &(String, bool)| match said {
            "reject:certain-failure" => done == "forward" && !took,
            _ if OF_CHECK.contains(&said) => done == "forward",
            _ => done == said,
        };
        if done.is_some_and(|done| !same(done)) || expect.is_some_and(|expect| expect != said) {
            return Some(format!(
                "{}: {}: check says {said}, the proxy {}{}",
                script.name,
                line.sql,
                done.map_or("was not asked", |(done, _)| done),
                expect.map_or(String::new(), |expect| format!(", expected {expect}"))
            ));
        }
    }
    None
}

#[track_caller]
fn all_alike(major: u32, name: &str, file: &str, scripts: Vec<Script>) {
    all_alike_on(
        major,
        name,
        file,
        (include_str!("catalogue/fixture.sql"), POLICY),
        scripts,
    );
}

#[track_caller]
fn all_alike_on(major: u32, name: &str, file: &str, (fixture, policy): (&str, &str), mut scripts: Vec<Script>) {
    let only = std::env::var("LOCKKEEPER_CASES").unwrap_or_default();
    scripts
        .retain(|script| script.name.contains(&only) || script.statements.iter().any(|line| line.sql.contains(&only)));
    let ground = Ground::new(major, name, fixture, policy);
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .expect("a runtime");
                while let Some(script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(difference) = runtime.block_on(compared(&ground, script)) {
                        let text = format!("{file}:{} {difference}", script.line);
                        wrong.lock().expect("unpoisoned").push((script.line, text));
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("unpoisoned");
    wrong.sort();
    let told: Vec<&str> = wrong.iter().map(|(_, text)| text.as_str()).collect();
    assert!(
        told.is_empty(),
        "PostgreSQL {major}: {} of {} differ:\n{}",
        told.len(),
        scripts.len(),
        told.join("\n")
    );
}

#[test]
fn every_statement_of_the_catalogue_on_15() {
    all_alike(15, "verdicts15", "table.txt", of_catalogue(15));
}

#[test]
fn every_statement_of_the_catalogue_on_18() {
    all_alike(18, "verdicts18", "table.txt", of_catalogue(18));
}

/// What the rules call bad and good.
fn examples(major: u32) -> Vec<Script> {
    let since = |versions: &str| {
        let end = versions.find(|c: char| !c.is_ascii_digit()).unwrap_or(versions.len());
        versions[..end].parse::<u32>().unwrap_or(0)
    };
    // Databases and roles are the server's, not the copy's; and a restore's refusal ends the session.
    // An exchange of keys is taken apart by the proxy, and each half has an event of its own.
    let of_copy = |sql: &str| {
        let is_exchange = sql.contains("DROP CONSTRAINT users_pkey, ADD PRIMARY KEY");
        !is_exchange
            && ![" DATABASE ", " ROLE ", "restored"]
                .iter()
                .any(|word| sql.contains(word))
    };
    let mut scripts = Vec::new();
    for rule in RULES.iter().filter(|rule| since(rule.versions) <= major) {
        for sql in rule.bad.iter().chain(rule.good).filter(|sql| of_copy(sql)) {
            let begin = (rule.name == "concurrent-in-transaction").then_some("BEGIN");
            let statements = begin.into_iter().chain([*sql]).map(|sql| Line {
                sql: sql.to_owned(),
                expect: None,
            });
            scripts.push(Script {
                line: scripts.len() + 1,
                name: rule.name.to_owned(),
                setup: Vec::new(),
                statements: statements.collect(),
            });
        }
    }
    scripts
}

#[test]
fn the_rules_own_examples_on_18() {
    let policy = POLICY.replace("small_bytes = 0", "small_bytes = 20000");
    let ground = (include_str!("catalogue/examples.sql"), policy.as_str());
    all_alike_on(18, "examples18", "rule", ground, examples(18));
}

#[test]
fn scripts_on_15() {
    all_alike(
        15,
        "scripts15",
        "verdicts.txt",
        scripts(include_str!("verdicts.txt"), 15),
    );
}

#[test]
fn scripts_on_18() {
    all_alike(
        18,
        "scripts18",
        "verdicts.txt",
        scripts(include_str!("verdicts.txt"), 18),
    );
}
