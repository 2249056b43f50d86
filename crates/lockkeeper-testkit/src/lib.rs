//! The stage of the integration tests: a real PostgreSQL (one per test binary and version, a fresh database per test) and a
//! real `lockkeeper serve` in front of it. Start at [`Stage::new`]; what the server really received is in
//! [`Stage::received`], what it held while a statement ran in [`Stage::sample_locks`].

pub mod alike;
pub mod bench;
pub mod encrypted;
pub mod locks;
pub mod pki;
pub mod raw;
pub mod relay;
pub mod table;

use lockkeeper_cluster::{self as cluster, Cluster, Guarded, Options};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// What most tests run on; those about a version's own behaviour name theirs.
pub const MAJOR: u32 = 18;
const PROXY_START_TIMEOUT: Duration = Duration::from_secs(20);

/// Each of these functions of a major version is a test on 15 and one on 18.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_15 { $(#[test] fn $name() { super::$name(15) })* }
        mod on_18 { $(#[test] fn $name() { super::$name(18) })* }
    };
}

/// A short pause between batches and tries, else the `standard` policy: tests should not sleep.
pub const QUICK: &str = "extends = \"standard\"\n\n[backfill]\npause_ms = 1\n";

/// Each setting that a client, or the owner of a database for all of its clients, may set to another value.
pub const SETTINGS: &str = "SELECT pg_catalog.quote_ident(s.name) || ' = ' || pg_catalog.quote_literal(v) FROM pg_catalog.pg_settings s
    CROSS JOIN LATERAL pg_catalog.unnest(CASE s.vartype WHEN 'bool' THEN ARRAY[CASE s.setting WHEN 'on' THEN 'off' ELSE 'on' END]
        WHEN 'enum' THEN pg_catalog.array_remove(s.enumvals, s.setting) END) v
    WHERE s.context = 'user' AND s.name !~ '^transaction_|^exit_on_error|^debug_|^client_min_messages'";

pub struct Stage {
    pub cluster: &'static Cluster,
    pub database: String,
    /// Where the proxy listens, on 127.0.0.1; without a proxy, where the server does.
    pub port: u16,
    proxy: Option<Guarded>,
    dir: tempfile::TempDir,
    log_mark: usize,
}

/// How a client program ended.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// One entry of the server's log; continuation lines belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub pid: i32,
    pub application_name: String,
    /// `LOG`, `ERROR`, `DETAIL`, …
    pub severity: String,
    /// `statement: SELECT 1`, `execute <unnamed>: SELECT $1`, `syntax error at or near "x"`
    pub message: String,
}

/// A tokio-postgres connection and the NOTICEs that came over it.
pub struct Connection {
    pub client: Client,
    pub notices: UnboundedReceiver<DbError>,
}

impl Connection {
    /// The NOTICEs that have come since it was last asked.
    pub fn told(&mut self) -> Vec<String> {
        let mut notices = Vec::new();
        while let Ok(notice) = self.notices.try_recv() {
            notices.push(notice.message().to_owned());
        }
        notices
    }
}

/// The server that the tests of this binary share. It ends with the test process, whatever ends that.
pub fn cluster(major: u32) -> &'static Cluster {
    static V13: OnceLock<Cluster> = OnceLock::new();
    static V15: OnceLock<Cluster> = OnceLock::new();
    static V18: OnceLock<Cluster> = OnceLock::new();
    let shared = match major {
        13 => &V13,
        15 => &V15,
        18 => &V18,
        _ => panic!("the tests share servers of 13, 15 and 18 only; start {major} with own_cluster"),
    };
    shared.get_or_init(|| own_cluster(major, &[]))
}

/// A server for one test alone, which may then stop it, change its settings, or break it.
pub fn own_cluster(major: u32, settings: &[(&str, &str)]) -> Cluster {
    let bin_dir = cluster::find(major).unwrap_or_else(|| {
        panic!("PostgreSQL {major} is not here: run scripts/fetch-postgres {major} (make test does)")
    });
    let options = Options {
        bin_dir: Some(&bin_dir),
        settings,
        log_statements: true,
        ..Options::default()
    };
    Cluster::start(&options).unwrap_or_else(|e| panic!("{e}"))
}

impl Stage {
    /// PostgreSQL 18, the policy [`QUICK`], and a fresh database whose name begins with `name`.
    pub fn new(name: &str) -> Stage {
        Stage::with(MAJOR, name, QUICK)
    }

    pub fn with(major: u32, name: &str, policy: &str) -> Stage {
        Stage::on(cluster(major), name, policy, &[])
    }

    /// `arguments` go to `lockkeeper serve` after its usual ones.
    pub fn on(cluster: &'static Cluster, name: &str, policy: &str, arguments: &[&str]) -> Stage {
        let mut stage = Stage::without_proxy(cluster, name);
        std::fs::write(stage.policy_file(), policy).expect("the policy is written");
        stage.start_proxy(arguments);
        stage.mark();
        stage
    }

    /// Everything goes straight at the server: how the same script behaves there is what a test of the proxy compares with.
    pub fn without_proxy(cluster: &'static Cluster, name: &str) -> Stage {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("{name}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        create_database(cluster, &database);
        let dir = tempfile::tempdir().expect("a temporary directory");
        Stage {
            cluster,
            database,
            port: cluster.port(),
            proxy: None,
            dir,
            log_mark: cluster.log().len(),
        }
    }

    /// To signal it, or to see whether it still runs.
    #[track_caller]
    pub fn proxy(&self) -> &Guarded {
        self.proxy.as_ref().expect("this stage has a proxy")
    }

    /// Stops the proxy at once, as a crash would.
    pub fn kill_proxy(&mut self) {
        self.proxy = None;
    }

    pub fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Starts a proxy whose server is at that port, which may be something between it and the real one.
    pub fn start_proxy_at(&mut self, upstream: u16) {
        let (proxy, port) = start_proxy(self.dir.path(), &format!("127.0.0.1:{upstream}"), &[]);
        (self.proxy, self.port) = (Some(proxy), port);
    }

    /// Starts a proxy with this list of servers.
    pub fn start_proxy_before(&mut self, upstream: &str, arguments: &[&str]) {
        let (proxy, port) = start_proxy(self.dir.path(), upstream, arguments);
        (self.proxy, self.port) = (Some(proxy), port);
    }

    /// Starts a proxy again after [`Stage::kill_proxy`]; on another port, with the same policy file and audit log.
    pub fn start_proxy(&mut self, arguments: &[&str]) {
        let upstream = format!("127.0.0.1:{}", self.cluster.port());
        let (proxy, port) = start_proxy(self.dir.path(), &upstream, arguments);
        (self.proxy, self.port) = (Some(proxy), port);
    }

    /// One more database on the same server.
    pub fn create_database(&self, name: &str) {
        create_database(self.cluster, name);
    }

    /// SQL on stdin of psql through the proxy, every statement a simple Query of its own; command tags are in the output.
    pub fn psql(&self, sql: &str) -> Ran {
        self.psql_args(&["-A", "-t", "-v", "ON_ERROR_STOP=1"], sql)
    }

    /// psql through the proxy with any arguments.
    pub fn psql_args(&self, arguments: &[&str], stdin: &str) -> Ran {
        psql_at(self.cluster, self.port, &self.database, arguments, stdin)
    }

    /// The answer to a query straight at the server, as a number.
    #[track_caller]
    pub fn number(&self, query: &str) -> i64 {
        let answer = self.direct(query);
        answer
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("not a number: {query}: {answer}"))
    }

    /// SQL straight at the server, as the superuser; panics when it fails.
    #[track_caller]
    pub fn direct(&self, sql: &str) -> String {
        self.cluster.psql(&self.database, sql).unwrap_or_else(|e| panic!("{e}"))
    }

    /// psql straight at the server, to compare its behaviour with the proxy's.
    pub fn direct_args(&self, arguments: &[&str], stdin: &str) -> Ran {
        psql_at(self.cluster, self.cluster.port(), &self.database, arguments, stdin)
    }

    pub async fn connect(&self) -> Connection {
        connect_at(self.port, &self.database)
            .await
            .expect("a session through the proxy")
    }

    pub async fn connect_direct(&self) -> Connection {
        connect_at(self.cluster.port(), &self.database)
            .await
            .expect("a session straight at the server")
    }

    pub fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policy.toml")
    }

    pub fn audit_file(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    /// Every event of the audit log, whose lines must all be whole JSON objects; not those about the log itself. Where a killed
    /// proxy left a part of a line, the next one must have said so.
    #[track_caller]
    pub fn audit_lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        // What follows the last end of a line is being written.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let mut events = Vec::new();
        let mut torn = None;
        for line in whole.lines() {
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(event) => {
                    assert!(
                        torn.take().is_none() || event["what"] == "repaired",
                        "not told of: {line}"
                    );
                    events.push(event);
                }
                Err(error) => assert!(torn.replace(line).is_none(), "not JSON ({error}): {line:?}"),
            }
        }
        assert!(torn.is_none(), "not JSON: {torn:?}");
        events.retain(|event| event["event"] != "log");
        events
    }

    /// What the proxy said on stderr and stdout.
    pub fn proxy_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("proxy.log")).unwrap_or_default()
    }

    /// From here on [`Stage::server_log`] begins.
    pub fn mark(&mut self) {
        self.log_mark = self.cluster.log().len();
    }

    /// The server's log of this stage's database since the mark.
    pub fn server_log(&self) -> Vec<Logged> {
        let log = self.cluster.log();
        read_log(log.get(self.log_mark..).unwrap_or_default(), &self.database)
    }

    /// The SQL of the statements that the server received since the mark, without `statement: ` or `execute NAME: `.
    pub fn received(&self) -> Vec<String> {
        self.server_log()
            .iter()
            .filter_map(Logged::sql)
            .map(str::to_owned)
            .collect()
    }

    /// The schema as the catalog has it, on every version.
    pub fn schema(&self) -> String {
        self.direct(SCHEMA)
    }

    /// The schema as pg_dump writes it. Debian's pg_dump refuses servers newer than itself: use [`Stage::schema`] there.
    #[track_caller]
    pub fn pg_dump_schema(&self) -> String {
        let pg_dump = self
            .cluster
            .bin("pg_dump")
            .expect("pg_dump is installed with postgresql-client");
        let mut command = Command::new(pg_dump);
        command.args([
            "--schema-only",
            "--exclude-schema=lockkeeper",
            "--no-owner",
            "-U",
            "postgres",
            "-h",
            "127.0.0.1",
            "-p",
        ]);
        command.arg(self.cluster.port().to_string()).arg(&self.database);
        cluster::clean_environment(&mut command);
        let dump = run(command, "").ok();
        dump.lines().filter_map(lasting).map(|line| line + "\n").collect()
    }

    pub fn sample_locks(&self, table: &str) -> locks::Sampler {
        locks::Sampler::start(self.cluster, &self.database, table)
    }

    /// A Python script with psycopg 3 and asyncpg, whose PG* environment leads to the proxy.
    pub fn python(&self, script: &str) -> Ran {
        self.python_at(self.port, script)
    }

    pub fn python_at(&self, port: u16, script: &str) -> Ran {
        let mut command = Command::new(cached("python/bin/python"));
        command.args(["-u", "-"]);
        self.run_client(command, port, script)
    }

    /// A CommonJS script with node-postgres (`require('pg')`) and postgres.js, whose PG* environment leads to the proxy.
    pub fn node(&self, script: &str) -> Ran {
        self.node_at(self.port, script)
    }

    pub fn node_at(&self, port: u16, script: &str) -> Ran {
        let modules = cached("node/node_modules/pg")
            .parent()
            .map(Path::to_path_buf)
            .expect("node_modules");
        let mut command = Command::new("node");
        command.arg("-").env("NODE_PATH", modules);
        self.run_client(command, port, script)
    }

    /// Runs a program whose PG* environment leads to that port.
    pub fn run_client(&self, mut command: Command, port: u16, script: &str) -> Ran {
        cluster::clean_environment(&mut command);
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", &self.database);
        run(command, script)
    }
}

impl Logged {
    pub fn sql(&self) -> Option<&str> {
        let message = self.message.as_str();
        message
            .strip_prefix("statement: ")
            .or_else(|| message.strip_prefix("execute ")?.split_once(": ").map(|p| p.1))
    }
}

fn create_database(cluster: &Cluster, name: &str) {
    cluster
        .psql("postgres", &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))
        .unwrap_or_else(|e| panic!("{e}"));
}

/// The `lockkeeper` that was built with this test or bench.
pub fn program() -> PathBuf {
    // Cargo and nextest say so, older ones only at compile time, and nobody where the test's own file is run.
    let said = ["CARGO_BIN_EXE_lockkeeper", "NEXTEST_BIN_EXE_lockkeeper"];
    if let Some(program) = said.iter().find_map(std::env::var_os) {
        return program.into();
    }
    // target/PROFILE/deps/TEST is beside target/PROFILE/lockkeeper.
    let test = std::env::current_exe().expect("the path of this program");
    let program = test.ancestors().nth(2).expect("target/PROFILE").join("lockkeeper");
    assert!(program.exists(), "{} is not built: cargo build", program.display());
    program
}

/// A proxy on a free port; `dir` holds policy.toml and gets audit.jsonl and proxy.log.
pub fn start_proxy(dir: &Path, upstream: &str, arguments: &[&str]) -> (Guarded, u16) {
    start_proxy_in(dir, upstream, arguments, &[])
}

/// With these variables in its environment.
pub fn start_proxy_in(dir: &Path, upstream: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Guarded, u16) {
    for _ in 0..20 {
        let port = cluster::free_port().expect("a free port");
        let mut command = Command::new(program());
        command.args([
            "serve",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--upstream",
            upstream,
            "--policy",
        ]);
        command
            .arg(dir.join("policy.toml"))
            .arg("--audit")
            .arg(dir.join("audit.jsonl"))
            .args(arguments);
        cluster::clean_environment(&mut command);
        command.envs(environment.iter().copied());
        let proxy = Guarded::spawn(&command, &dir.join("proxy.log")).unwrap_or_else(|e| panic!("{e}"));
        let deadline = Instant::now() + PROXY_START_TIMEOUT;
        while proxy.is_alive() && Instant::now() < deadline {
            if proxy.listens_on(port) {
                return (proxy, port);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let log = std::fs::read_to_string(dir.join("proxy.log")).unwrap_or_default();
        // Only a port that was taken in the meantime is worth another try.
        assert!(
            log.contains("in use"),
            "`lockkeeper serve` does not listen. It said:\n{log}"
        );
    }
    panic!("no free port stayed free");
}

fn psql_at(cluster: &Cluster, port: u16, database: &str, arguments: &[&str], stdin: &str) -> Ran {
    let mut command = Command::new(cluster.bin("psql").expect("psql is installed with postgresql-client"));
    cluster::clean_environment(&mut command);
    command
        .args([
            "-X",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            database,
            "-p",
            &port.to_string(),
        ])
        .args(arguments);
    run(command, stdin)
}

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition, and fails the test if it never holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "this never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the server answers the query with `t`, while the test's other tasks go on.
pub async fn until_true(stage: &Stage, query: &str) {
    let deadline = Instant::now() + PATIENCE;
    while stage.direct(query).trim() != "t" {
        assert!(Instant::now() < deadline, "never true: {query}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A future on a runtime of its own.
pub fn runs<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// Waits until the backend sleeps in pg_sleep.
#[track_caller]
pub fn until_asleep(stage: &Stage, pid: u32) {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    until("the backend sleeps", || stage.direct(&sql) == "1");
}

/// Runs a program to its end with that input.
pub fn run(mut command: Command, stdin: &str) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    let text = stdin.to_owned();
    // A program that ends early closes its input: then there is nobody to write to, which its status tells.
    let writer = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let output = child.wait_with_output().expect("the program's output");
    writer.join().expect("the writer of stdin");
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub async fn connect_at(port: u16, database: &str) -> Result<Connection, tokio_postgres::Error> {
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname={database} application_name=test");
    let (client, mut connection) = tokio_postgres::connect(&text, NoTls).await?;
    let (sender, notices) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = sender.send(notice);
            }
        }
    });
    Ok(Connection { client, notices })
}

pub fn cached(what: &str) -> PathBuf {
    let found = cluster::cache_dirs()
        .into_iter()
        .map(|dir| dir.join(what))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{what} is in no cache: run scripts/fetch-clients (make test does)"))
}

/// A line of a dump, without what is another one each time: newer minor versions frame it with a random key (`\restrict KEY`), and keep an
/// option of their own with each column, which an older pg_dump writes.
pub fn lasting(line: &str) -> Option<String> {
    if line.starts_with("\\restrict") || line.starts_with("\\unrestrict") {
        return None;
    }
    let Some((before, option)) = line.split_once("pg_attver=") else {
        return Some(line.to_owned());
    };
    let rest = option.trim_start_matches(|c: char| c.is_ascii_digit());
    let others = rest.trim_start_matches([',', ' ']);
    (!others.starts_with(')')).then(|| format!("{before}{others}"))
}

/// Reads entries of `%m [%p] %q%d/%a SEVERITY:  message` that belong to a session of `database`.
pub fn read_log(text: &str, database: &str) -> Vec<Logged> {
    let mut entries: Vec<Option<Logged>> = Vec::new();
    for line in text.lines() {
        // The server begins continuation lines with a tab.
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(Some(entry)) = entries.last_mut() {
                entry.message.push('\n');
                entry.message.push_str(more);
            }
        } else {
            entries.push(read_log_line(line, database));
        }
    }
    entries.into_iter().flatten().collect()
}

fn read_log_line(line: &str, database: &str) -> Option<Logged> {
    let (_, rest) = line.split_once(" [")?;
    let (pid, rest) = rest.split_once("] ")?;
    let rest = rest.strip_prefix(database)?.strip_prefix('/')?;
    let (head, message) = rest.split_once(":  ")?;
    let (application_name, severity) = head.rsplit_once(' ')?;
    Some(Logged {
        pid: pid.parse().ok()?,
        application_name: application_name.to_owned(),
        severity: severity.to_owned(),
        message: message.to_owned(),
    })
}

/// One line per column, constraint, index, trigger and view outside the system's schemas and Lockkeeper's own.
pub const SCHEMA: &str = "
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'lockkeeper'))
SELECT line FROM (
  SELECT format('%s column %s %s%s%s%s', attrelid::regclass, attname, format_type(atttypid, atttypmod),
                CASE WHEN attnotnull THEN ' NOT NULL' END, ' DEFAULT ' || pg_get_expr(adbin, adrelid),
                CASE attidentity WHEN 'a' THEN ' ALWAYS AS IDENTITY' WHEN 'd' THEN ' BY DEFAULT AS IDENTITY' END) AS line
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT format('%s constraint %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE conrelid <> 0 AND connamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT format('%s index %s%s', indrelid::regclass, pg_get_indexdef(indexrelid), CASE WHEN NOT indisvalid THEN ' INVALID' END)
  FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relnamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT format('%s trigger %s', tgrelid::regclass, pg_get_triggerdef(t.oid))
  FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
  WHERE NOT tgisinternal AND c.relnamespace IN (SELECT oid FROM own)
  UNION ALL
  SELECT format('%s is %s %s', oid::regclass, relkind, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
  FROM pg_class WHERE relkind NOT IN ('i', 'I', 't') AND relnamespace IN (SELECT oid FROM own)
) lines ORDER BY line COLLATE \"C\"";
