//! Plays the same schema changes twice on a live table, straight at PostgreSQL and through Lockkeeper, and ends with a table
//! that compares what the application felt. Both runs have the same rows, the same load, and the same worst moment: every
//! statement begins while a report keeps a transaction open that has read the table. Leaves nothing behind. Start at [`run`].

mod load;
mod plays;
mod report;
mod waits;

use load::{Load, connect};
use lockkeeper_cluster::{self as cluster, Cluster, Guarded};
use plays::{Expect, LOOP_BATCH, PLAYS, Play};
use report::{Failure, Measured, Pair};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, SimpleQueryMessage};
use waits::{Target, Watch, told};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(1200);
const PROXY_START_TIMEOUT: Duration = Duration::from_secs(20);
/// The standard policy's small_bytes.
const SMALL_BYTES: i64 = 10_485_760;
const FILL_ROWS: u64 = 50_000;

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the table `users`, at least 1.
    pub rows: u64,
    /// Where `initdb` and `postgres` are; else what is installed.
    pub pg_bin: Option<PathBuf>,
    /// After the table, keeps the servers until Ctrl-C and says how to connect, and where the review page is. On a terminal it does so anyway.
    pub keep: bool,
}

/// The table goes to stdout, the progress to stderr. An error when the demo could not be played, or when Lockkeeper did
/// not keep what it promises.
pub fn run(options: Options) -> Result<(), String> {
    if options.rows == 0 {
        return Err("--rows must be at least 1: the demo needs a table with something in it".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("the demo's runtime does not start: {e}"))?;
    // Whatever is dropped with the losing future stops its server and removes its files.
    runtime.block_on(async {
        tokio::select! {
            outcome = play(&options) => outcome,
            name = interrupted() => Err(format!("{name}: the demo's servers are stopped and its files removed")),
        }
    })
}

async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "terminated",
        _ = hangup.recv() => "hung up",
    }
}

/// One of the two runs: the same statements, on a database of its own.
struct Leg {
    name: &'static str,
    /// As the application and the migration connect: to the server, or to the proxy.
    dsn: String,
    /// Straight at the server.
    direct: String,
    audit: Option<PathBuf>,
    report_holds: Duration,
}

async fn play(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    let cluster = start_cluster(options.pg_bin.clone()).await?;
    if cluster.version() < 140_000 {
        return Err(
            "the demo needs PostgreSQL 14 or newer: older ones do not tell how long a lock is waited for".into(),
        );
    }
    say(&format!(
        "PostgreSQL {}.{} on 127.0.0.1:{}, thrown away afterwards",
        cluster.version() / 10_000,
        cluster.version() % 10_000,
        cluster.port()
    ));
    let is_large = fill(&cluster, options.rows).await? > SMALL_BYTES;
    let audit = cluster.socket_dir().join("audit.jsonl");
    let policy = match is_large {
        true => "standard".into(),
        false => all_tables_are_large(&cluster)?,
    };
    let (proxy, port, page) = start_proxy(&cluster, &policy, &audit)?;

    let dsn = |port: u16, database: &str| format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let report_holds = Duration::from_millis(if options.rows < 500_000 { 400 } else { 1500 });
    let direct = dsn(cluster.port(), "direct");
    let legs = [
        Leg {
            name: "straight at PostgreSQL",
            dsn: direct.clone(),
            direct,
            audit: None,
            report_holds,
        },
        Leg {
            name: "through Lockkeeper",
            dsn: dsn(port, "proxied"),
            direct: dsn(cluster.port(), "proxied"),
            audit: Some(audit),
            report_holds,
        },
    ];
    let (alone, direct) = legs[0].play(options.rows).await?;
    let (alone_proxied, proxied) = legs[1].play(options.rows).await?;
    let pairs: Vec<Pair> = PLAYS
        .iter()
        .zip(direct)
        .zip(proxied)
        .map(|((play, direct), proxied)| Pair {
            play: *play,
            direct,
            proxied,
        })
        .collect();
    print(&format!(
        "\n{}\n{}\n{}\n",
        report::table((&alone, &alone_proxied), &pairs),
        report::explanation(report_holds, &pairs),
        report::summary(&pairs)
    ))?;

    let mut broken = report::broken_promises(&pairs);
    let (wanted, have) = (effects(&legs[0].direct).await?, effects(&legs[1].direct).await?);
    broken.extend(
        wanted
            .iter()
            .filter(|line| !have.contains(line))
            .map(|line| format!("is missing: {line}")),
    );
    broken.extend(
        have.iter()
            .filter(|line| !wanted.contains(line))
            .map(|line| format!("should not be: {line}")),
    );
    if broken.is_empty() {
        let seconds = began.elapsed().as_secs();
        print(&format!(
            "Both databases ended with the same schema and values. {seconds} s in all.\n"
        ))?;
    }
    if options.keep || std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        say(&format!(
            "\nKept until Ctrl-C, which removes everything:\n  psql -h 127.0.0.1 -p {port} -U postgres proxied       through Lockkeeper\n  \
             psql -h 127.0.0.1 -p {} -U postgres proxied       straight at PostgreSQL\n  {}\n\
             What was done, statement by statement, is on the review page:\n  {page}",
            cluster.port(),
            cluster.socket_dir().join("audit.jsonl").display()
        ));
        let _ = interrupted().await;
    } else {
        say(&format!(
            "\nWith --keep the servers stay until Ctrl-C, and with them the review page of what was done: {page} in this run."
        ));
    }
    drop(proxy);
    match broken.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the run through Lockkeeper is not as it should be:\n  {}",
            broken.join("\n  ")
        )),
    }
}

async fn start_cluster(bin_dir: Option<PathBuf>) -> Result<Cluster, String> {
    say("starting a PostgreSQL");
    let start = move || {
        Cluster::start(&cluster::Options {
            bin_dir: bin_dir.as_deref(),
            settings: &[
                ("shared_buffers", "256MB"),
                ("max_wal_size", "2GB"),
                ("checkpoint_timeout", "30min"),
            ],
            ..cluster::Options::default()
        })
    };
    tokio::task::spawn_blocking(start)
        .await
        .map_err(|e| format!("starting PostgreSQL: {e}"))?
}

/// With few rows `users` is one of the small tables, which the standard policy lets be changed in one go: the demo shows
/// what happens to large ones.
fn all_tables_are_large(cluster: &Cluster) -> Result<OsString, String> {
    let path = cluster.socket_dir().join("policy.toml");
    std::fs::write(&path, "extends = \"standard\"\n\n[table]\nsmall_bytes = 0\n")
        .map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.into_os_string())
}

/// This very program as the proxy, on a free port. Its log and audit log lie in the cluster's directory and go with it.
fn start_proxy(cluster: &Cluster, policy: &OsStr, audit: &Path) -> Result<(Guarded, u16, String), String> {
    let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    let log = cluster.socket_dir().join("proxy.log");
    for _ in 0..20 {
        let (port, admin) = (cluster::free_port()?, cluster::free_port()?);
        let admin = format!("127.0.0.1:{admin}");
        let (listen, upstream) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", cluster.port()));
        let mut command = std::process::Command::new(&program);
        command.args(["serve", "--listen", &listen, "--upstream", &upstream, "--policy"]);
        command.arg(policy).arg("--audit").arg(audit).args(["--admin", &admin]);
        cluster::clean_environment(&mut command);
        let proxy = Guarded::spawn(&command, &log)?;
        let deadline = Instant::now() + PROXY_START_TIMEOUT;
        while proxy.is_alive() && Instant::now() < deadline {
            if proxy.listens_on(port) {
                let page = format!("http://{admin}/");
                say(&format!(
                    "Lockkeeper listens on {listen}, policy {}, review page {page}",
                    policy.display()
                ));
                return Ok((proxy, port, page));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if !said.contains("in use") {
            return Err(format!(
                "`lockkeeper serve` does not listen on {listen}. It said:\n{said}"
            ));
        }
    }
    Err("no free port on 127.0.0.1 stayed free for the proxy".into())
}

/// Two databases that are the same to the last page: `direct` and `proxied`. Answers the size of `users` in bytes.
async fn fill(cluster: &Cluster, rows: u64) -> Result<i64, String> {
    let dsn = |database: &str| format!("host=127.0.0.1 port={} user=postgres dbname={database}", cluster.port());
    let failed = |e: tokio_postgres::Error| format!("filling users: {}", told(&e));
    let admin = connect(&dsn("postgres")).await.map_err(failed)?;
    admin.batch_execute("CREATE DATABASE direct").await.map_err(failed)?;
    let client = connect(&dsn("direct")).await.map_err(failed)?;
    client
        .batch_execute(
            "CREATE TABLE teams (id bigint PRIMARY KEY, name text NOT NULL);
             INSERT INTO teams SELECT n, 'team ' || n FROM generate_series(1, 100) n;
             CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, at timestamptz DEFAULT now());
             CREATE TABLE users (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text, email text NOT NULL,
               team_id bigint NOT NULL, newsletter boolean, created_at timestamptz NOT NULL DEFAULT now(),
               seen_at timestamptz)",
        )
        .await
        .map_err(failed)?;
    let mut filled = 0;
    while filled < rows {
        let upto = (filled + FILL_ROWS).min(rows);
        client
            .batch_execute(&format!(
                "INSERT INTO users (name, email, team_id)
                 SELECT 'user ' || n, 'user' || n || '@example.com', n % 100 + 1 FROM generate_series({}, {upto}) n",
                filled + 1
            ))
            .await
            .map_err(failed)?;
        filled = upto;
        progress(&format!("filling users: {filled} of {rows} rows"), filled == rows);
    }
    client.batch_execute("VACUUM ANALYZE").await.map_err(failed)?;
    let bytes = client
        .query_one("SELECT pg_relation_size('users')", &[])
        .await
        .map_err(failed)?
        .get(0);
    // A database that is copied must have no sessions; the server closes them a moment after we do.
    drop(client);
    say("copying the database, for the second run");
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(e) = admin.batch_execute("CREATE DATABASE proxied TEMPLATE direct").await {
        if Instant::now() > deadline {
            return Err(failed(e));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin.batch_execute("CHECKPOINT").await.map_err(failed)?;
    Ok(bytes)
}

impl Leg {
    /// The load alone, and every statement in turn.
    async fn play(&self, rows: u64) -> Result<(Measured, Vec<Measured>), String> {
        say(&format!("\n{}:", self.name));
        let mut load = Load::start(&self.dsn, rows, self.report_holds);
        let watch = Watch::start(&self.direct);
        load.worst_moment().await?;
        // Connections and first plans are not what is measured.
        load.settle().await;
        load.worst_moment().await?;
        let from = Instant::now();
        tokio::time::sleep(self.report_holds * 2).await;
        let alone = measure(&load, &watch, from, Instant::now()).await?;
        if alone.failed_queries > 0 {
            return Err(format!(
                "{}: {} queries of the application failed before any schema change",
                self.name, alone.failed_queries
            ));
        }
        let mut all = Vec::new();
        for (index, play) in PLAYS.iter().enumerate() {
            progress(&format!("{:>3}/{} {}", index + 1, PLAYS.len(), play.sql), false);
            let measured = self.play_one(&mut load, &watch, play).await?;
            let outcome = measured.error.as_ref().map_or("done", |failure| &failure.state);
            let sql: String = play.sql.chars().take(90).collect();
            progress(
                &format!(
                    "{:>3}/{} {sql}: {outcome}, {:.1} s",
                    index + 1,
                    PLAYS.len(),
                    measured.took.as_secs_f64()
                ),
                true,
            );
            all.push(measured);
        }
        load.stop().await;
        Ok((alone, all))
    }

    async fn play_one(&self, load: &mut Load, watch: &Watch, play: &Play) -> Result<Measured, String> {
        let failed = |e: tokio_postgres::Error| format!("{}: {}: {}", self.name, play.sql, told(&e));
        let client = connect(&format!("{} application_name=migration", self.dsn))
            .await
            .map_err(failed)?;
        if !play.before.is_empty() {
            client.batch_execute(play.before).await.map_err(failed)?;
        }
        load.settle().await;
        let audit_before = self.audit_lines()?.len();
        load.worst_moment().await?;
        let from = Instant::now();
        let outcome = tokio::time::timeout(STATEMENT_TIMEOUT, execute(&client, play)).await;
        let took = from.elapsed();
        let outcome = outcome.map_err(|_| format!("{}: no end after {took:?}: {}", self.name, play.sql))?;
        if play.expect == Expect::Refused && outcome.is_ok() {
            // What breaks the application breaks it afterwards; give it the time to notice.
            tokio::time::sleep(self.report_holds).await;
        }
        let mut measured = measure(load, watch, from, Instant::now()).await?;
        measured.took = took;
        match outcome {
            Ok(rows) => measured.rows = rows,
            Err(e) => {
                let of = |text: fn(&tokio_postgres::error::DbError) -> Option<&str>| {
                    e.as_db_error().and_then(text).map(str::to_owned)
                };
                measured.error = Some(Failure {
                    state: e.code().map_or("connection lost", |code| code.code()).to_owned(),
                    message: told(&e),
                    detail: of(|e| e.detail()),
                    hint: of(|e| e.hint()),
                });
            }
        }
        if measured.error.is_none() && !play.restore.is_empty() {
            let admin = connect(&self.direct).await.map_err(failed)?;
            admin.batch_execute(play.restore).await.map_err(failed)?;
        }
        measured.audit = self.audit_lines()?.split_off(audit_before);
        Ok(measured)
    }

    fn audit_lines(&self) -> Result<Vec<Value>, String> {
        let Some(path) = &self.audit else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let read = |line| serde_json::from_str(line).map_err(|e| format!("the audit log has no JSON ({e}): {line}"));
        text.lines().map(read).collect()
    }
}

/// Sends the statement as a client would, and answers the rows of its command tag.
async fn execute(client: &Client, play: &Play) -> Result<u64, tokio_postgres::Error> {
    let mut rows = 0;
    if !play.is_loop {
        for message in client.simple_query(play.sql).await? {
            if let SimpleQueryMessage::CommandComplete(count) = message {
                rows += count;
            }
        }
        return Ok(rows);
    }
    // The loop as it stands in many a migration.
    loop {
        let batch = client.query(play.sql, &[&LOOP_BATCH]).await?.len() as u64;
        rows += batch;
        if batch < LOOP_BATCH as u64 {
            return Ok(rows);
        }
    }
}

async fn measure(load: &Load, watch: &Watch, from: Instant, until: Instant) -> Result<Measured, String> {
    load.settle().await;
    let queries = load.queries(from, until);
    let waits = watch.waits(from, until)?;
    let of = |target| {
        waits
            .iter()
            .filter(move |wait| wait.target == target)
            .map(|wait| wait.length)
    };
    Ok(Measured {
        took: until - from,
        stall: queries
            .iter()
            .map(|query| query.ended - query.started)
            .max()
            .unwrap_or_default(),
        lock_wait: of(Target::Relation).max().unwrap_or_default(),
        blocked: of(Target::Relation).sum(),
        row_wait: of(Target::Row).max().unwrap_or_default(),
        failed_queries: queries.iter().filter(|query| query.failed).count(),
        ..Measured::default()
    })
}

/// What the statements leave behind. NOT NULL constraints are compared by the column, since only their names may differ.
async fn effects(dsn: &str) -> Result<Vec<String>, String> {
    const QUERY: &str = "
        SELECT format('column %s %s%s%s', attname, format_type(atttypid, atttypmod),
                      CASE WHEN attnotnull THEN ' NOT NULL' END, ' DEFAULT ' || pg_get_expr(adbin, adrelid))
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype <> 'n'
        UNION ALL
        SELECT pg_get_indexdef(indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' INVALID' END
        FROM pg_index WHERE indrelid = 'users'::regclass
        UNION ALL
        SELECT format('users.%s is NULL in %s rows', name, rows) FROM (
          SELECT 'email_verified' AS name, count(*) FILTER (WHERE email_verified IS NULL) AS rows FROM users
          UNION ALL SELECT 'active', count(*) FILTER (WHERE active IS NULL) FROM users
          UNION ALL SELECT 'public_id', count(*) FILTER (WHERE public_id IS NULL) FROM users) AS empty";
    let failed = |e: tokio_postgres::Error| format!("comparing the two databases: {}", told(&e));
    let client = connect(dsn).await.map_err(failed)?;
    Ok(client
        .query(QUERY, &[])
        .await
        .map_err(failed)?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| format!("cannot write the table: {e}"))
}

/// Not eprintln!, which panics where stderr is closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// On a terminal a line that the next one overwrites, unless it is the last of its kind; elsewhere only that one is worth a line.
fn progress(text: &str, last: bool) {
    if !std::io::stderr().is_terminal() {
        if last {
            say(text);
        }
        return;
    }
    let text: String = text.chars().take(118).collect();
    let _ = write!(std::io::stderr(), "\r\x1b[K{text}{}", if last { "\n" } else { "" });
}
