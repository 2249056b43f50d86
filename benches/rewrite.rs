//! A table rewritten while an application of seven kinds of transactions reads and writes it: VACUUM FULL straight, by pg_repack and through
//! Lockkeeper, and its key's type changed to bigint straight and through Lockkeeper. For each: the server's CPU, the time that it took, the
//! application's 99th percentile and longest wait, WAL, and the disk that was needed meanwhile.
//!
//! `make bench`, or `cargo bench --bench rewrite`. Environment: ROWS (5000000), ROUNDS (1), RATE (200 transactions a second), ONLY, a word
//! that a line's name must hold, and JSON, a directory for the figures. The ways are interleaved, each in a database of its own. pg_repack is measured where it is
//! installed (postgresql-15-repack). Compare the lines of one run with each other: the times alone mean nothing elsewhere.

use lockkeeper_cluster::{Cluster, Options, clean_environment, find};
use lockkeeper_testkit::bench::{self, lockkeeper, number};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const CLIENTS: u64 = 4;
/// As long the application runs alone before.
const BEFORE: Duration = Duration::from_secs(5);

const POLICY: &str = "extends = \"standard\"\n[rules]\nchange-type = \"rewrite\"\n[table]\nsmall_bytes = 0\n";

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Straight,
    Repack,
    Lockkeeper,
}

struct Case {
    name: &'static str,
    way: Way,
    sql: &'static str,
}

const CASES: [Case; 5] = [
    case("VACUUM FULL, straight", Way::Straight, "VACUUM FULL users"),
    case("VACUUM FULL, pg_repack", Way::Repack, ""),
    case("VACUUM FULL, Lockkeeper", Way::Lockkeeper, "VACUUM FULL users"),
    case("int to bigint, straight", Way::Straight, TO_BIGINT),
    case("int to bigint, Lockkeeper", Way::Lockkeeper, TO_BIGINT),
];

const TO_BIGINT: &str = "ALTER TABLE users ALTER COLUMN id TYPE bigint";

const fn case(name: &'static str, way: Way, sql: &'static str) -> Case {
    Case { name, way, sql }
}

/// Milliseconds of the application's transactions.
#[derive(Default)]
struct Waits(Vec<f64>);

impl Waits {
    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() as f64 * part) as usize;
        sorted
            .get(at.min(sorted.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

struct Figures {
    cpu_s: f64,
    wall_s: f64,
    before: Waits,
    during: Waits,
    wal_mb: f64,
    disk_mb: f64,
}

fn main() {
    bench::main(|| bench::blocking(run()));
}

async fn run() -> Result<(), String> {
    let rows = number("ROWS", 5_000_000);
    let only = std::env::var("ONLY").unwrap_or_default();
    let bin = find(15).ok_or("PostgreSQL 15 is not here: apt-get install postgresql-15")?;
    let options = Options {
        bin_dir: Some(&bin),
        settings: &[("fsync", "on"), ("shared_buffers", "256MB"), ("max_wal_size", "4GB")],
        ..Options::default()
    };
    let cluster = Cluster::start(&options)?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY).map_err(|e| e.to_string())?;
    let (_proxy, ours) = lockkeeper(&cluster, dir.path(), &policy.display().to_string())?;
    println!(
        "{:<28}{:>9}{:>9}{:>12}{:>12}{:>12}{:>14}{:>9}{:>9}",
        format!("{rows} rows"),
        "CPU s",
        "wall s",
        "p99 before",
        "p99 ms",
        "longest ms",
        "transactions",
        "WAL MB",
        "disk MB"
    );
    let mut figures = Vec::new();
    for round in 0..number("ROUNDS", 1) {
        for (n, case) in CASES.iter().enumerate().filter(|(_, case)| case.name.contains(&only)) {
            if case.way == Way::Repack && !bin.join("pg_repack").exists() {
                println!(
                    "{:<28}  pg_repack is not here: apt-get install postgresql-15-repack",
                    case.name
                );
                continue;
            }
            let database = format!("r{round}_{n}");
            make(&cluster, &database, rows).await?;
            let measured = measure(&cluster, ours, &database, case, &bin).await?;
            println!("{}", measured.line(case.name));
            figures.push(measured.json(case.name));
            cluster.psql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"))?;
        }
    }
    bench::write_figures("rewrite", &figures)
}

impl Figures {
    fn line(&self, name: &str) -> String {
        format!(
            "{name:<28}{:>9.1}{:>9.1}{:>12.1}{:>12.1}{:>12.1}{:>14}{:>9.0}{:>9.0}",
            self.cpu_s,
            self.wall_s,
            self.before.at(0.99),
            self.during.at(0.99),
            self.during.at(1.0),
            self.during.0.len(),
            self.wal_mb,
            self.disk_mb
        )
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::json!({
            "name": name, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "p99_before_ms": self.before.at(0.99), "p99_ms": self.during.at(0.99),
            "longest_ms": self.during.at(1.0), "transactions": self.during.0.len(), "wal_mb": self.wal_mb, "disk_mb": self.disk_mb,
        })
    }
}

async fn connect(port: u16, database: &str) -> Result<Client, String> {
    let login = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    let (client, connection) = tokio_postgres::connect(&login, NoTls)
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(client)
}

/// Three indexes, and two tables with keys to it.
async fn make(cluster: &Cluster, database: &str, rows: u64) -> Result<(), String> {
    cluster.psql("postgres", &format!("CREATE DATABASE {database}"))?;
    let children = rows / 4;
    let sql = format!(
        "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, score int NOT NULL, changed timestamptz NOT NULL DEFAULT now());
         INSERT INTO users SELECT g, md5(g::text), g % 1000, now() FROM generate_series(1, {rows}) g;
         CREATE INDEX users_name ON users (name); CREATE INDEX users_score ON users (score);
         CREATE TABLE orders (id bigserial PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, n int NOT NULL DEFAULT 0);
         INSERT INTO orders (user_id) SELECT g * 4 FROM generate_series(1, {children}) g; CREATE INDEX ON orders (user_id);
         CREATE TABLE visits (user_id int REFERENCES users ON DELETE SET NULL, at timestamptz DEFAULT now());
         INSERT INTO visits SELECT g * 3 FROM generate_series(1, {children}) g; CREATE INDEX ON visits (user_id);"
    );
    cluster.psql(database, &sql)?;
    cluster.psql(database, "VACUUM ANALYZE")?;
    cluster.psql(database, "CREATE EXTENSION IF NOT EXISTS pg_repack").ok();
    cluster.psql(database, "CHECKPOINT")?;
    Ok(())
}

async fn measure(cluster: &Cluster, ours: u16, database: &str, case: &Case, bin: &Path) -> Result<Figures, String> {
    let port = match case.way {
        Way::Lockkeeper => ours,
        _ => cluster.port(),
    };
    let rows: u64 = cluster
        .psql(database, "SELECT max(id) FROM users")?
        .trim()
        .parse()
        .map_err(|_| "no rows")?;
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = connect(port, database).await?;
        clients.push(tokio::spawn(application(
            client,
            rows,
            Arc::clone(&stop),
            Arc::clone(&next),
        )));
    }
    tokio::time::sleep(BEFORE).await;
    let watch = connect(cluster.port(), database).await?;
    let one = async |sql: &str| -> Result<f64, String> {
        let row = watch.query_one(sql, &[]).await.map_err(|e| e.to_string())?;
        Ok(row.get::<_, f64>(0) / 1e6)
    };
    let wal = "SELECT (pg_current_wal_lsn() - '0/0')::float8";
    let size = "SELECT pg_database_size(current_database())::float8";
    let (wal_before, size_before, cpu_before) = (one(wal).await?, one(size).await?, cpu_s(cluster.pid()));
    let begun = Instant::now();
    let work = rewrite(port, database, case, bin);
    tokio::pin!(work);
    let mut most = size_before;
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(Duration::from_millis(200)) => most = most.max(one(size).await?),
        }
    };
    let ended = Instant::now();
    let (cpu_s, wal_mb) = (cpu_s(cluster.pid()) - cpu_before, one(wal).await? - wal_before);
    stop.store(true, Ordering::Relaxed);
    let (mut before, mut during) = (Waits::default(), Waits::default());
    for client in clients {
        for (at, took) in client.await.map_err(|e| e.to_string())?? {
            let side = match at + took < begun {
                true => &mut before,
                false if at < ended => &mut during,
                false => continue,
            };
            side.0.push(took.as_secs_f64() * 1e3);
        }
    }
    done?;
    Ok(Figures {
        cpu_s,
        wall_s: (ended - begun).as_secs_f64(),
        before,
        during,
        wal_mb,
        disk_mb: most - size_before,
    })
}

async fn rewrite(port: u16, database: &str, case: &Case, bin: &Path) -> Result<(), String> {
    if case.way != Way::Repack {
        let client = connect(port, database).await?;
        return client
            .batch_execute(case.sql)
            .await
            .map_err(|e| format!("{}: {e:?}", case.name));
    }
    let mut command = Command::new(bin.join("pg_repack"));
    clean_environment(&mut command);
    let port = port.to_string();
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "postgres",
        "-d",
        database,
        "-t",
        "users",
        "-n",
    ]);
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let ran = ran.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
    }
}

/// One of seven kinds after the other, at a rate: updates, a hot row, an insert with a child, a delete with what goes with it, another key,
/// a read, and a transaction of two statements.
async fn application(
    client: Client,
    rows: u64,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
) -> Result<Vec<(Instant, Duration)>, String> {
    let pause = Duration::from_micros(1_000_000 * CLIENTS / number("RATE", 200).max(1));
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let lot = next.fetch_add(1, Ordering::Relaxed);
        // Spread over the table, and never twice the same.
        let (id, fresh) = (lot.wrapping_mul(7_919) % rows + 1, rows + lot + 1);
        let sql = match lot % 7 {
            0 => format!("UPDATE users SET score = score + 1, changed = now() WHERE id = {id}"),
            1 => format!("UPDATE users SET score = score + 1 WHERE id = {}", lot % 20 + 1),
            2 => format!(
                "BEGIN; INSERT INTO users VALUES ({fresh}, 'new', 1); INSERT INTO orders (user_id) VALUES ({fresh}); COMMIT"
            ),
            3 => format!("DELETE FROM users WHERE id = {id}"),
            4 => format!("UPDATE users SET id = {} WHERE id = {}", fresh + 500_000_000, fresh - 2),
            5 => format!("SELECT count(*) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {id}"),
            _ => format!(
                "BEGIN; SELECT score FROM users WHERE id = {id}; UPDATE orders SET n = n + 1 WHERE user_id = {id}; COMMIT"
            ),
        };
        let begun = Instant::now();
        match client.batch_execute(&sql).await {
            Ok(()) => samples.push((begun, begun.elapsed())),
            // A key may be there, or be referred to.
            Err(error) if error.code().is_some_and(|code| code.code().starts_with("23")) => {
                client.batch_execute("ROLLBACK").await.ok();
            }
            Err(error) => return Err(format!("the application was failed: {error:?}")),
        }
        tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
    }
    Ok(samples)
}

/// Of the server's processes, those that have ended too.
fn cpu_s(server: i32) -> f64 {
    let fields = |pid: i32| -> Option<Vec<u64>> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let rest = stat.rsplit_once(')')?.1;
        Some(
            rest.split_whitespace()
                .map(|field| field.parse().unwrap_or_default())
                .collect(),
        )
    };
    let at = |fields: &[u64], n: usize| fields.get(n).copied().unwrap_or_default();
    // utime, stime, cutime and cstime are the fields 14 to 17 of proc(5), the first behind the name is 3.
    let own = fields(server).unwrap_or_default();
    let mut ticks: u64 = (11..15).map(|n| at(&own, n)).sum();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Some(child) = fields(pid).filter(|child| at(child, 1) == server as u64) else {
            continue;
        };
        ticks += at(&child, 11) + at(&child, 12);
    }
    // SAFETY: sysconf(3) only reads.
    ticks as f64 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}
