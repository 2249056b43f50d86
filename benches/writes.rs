//! What an application's UPDATE and DELETE cost: pgbench straight at PostgreSQL, through HAProxy (TCP mode) and through
//! Lockkeeper (policy standard, auditing on), in interleaved rounds, in simple, extended and prepared mode, and with a new
//! connection for each statement.
//!
//! `make bench`, or `cargo bench --bench writes`. Environment: ROUNDS (3), SECONDS_EACH (3), CLIENTS (4), ROWS (400000), ONLY, a
//! word that a line's name must hold, and JSON, a directory for the figures. Compare ratios of one run: the figures alone mean
//! nothing elsewhere.

use lockkeeper_cluster::{Cluster, Options, clean_environment};
use lockkeeper_testkit::bench::{self, haproxy, lockkeeper, number};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A statement that an application sends all day.
struct Case {
    name: &'static str,
    script: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        name: "key",
        script: "\\set id random(1, :rows)\nUPDATE orders SET n = n + 1 WHERE id = :id;\n",
    },
    Case {
        name: "customer",
        script: "\\set c random(1, :rows / 10)\nUPDATE orders SET n = n + 1 WHERE customer = :c;\n",
    },
    Case {
        name: "customer and time",
        script: "\\set c random(1, :rows / 10)\nUPDATE orders SET n = n + 1 WHERE customer = :c AND at < now() - interval '1 day';\n",
    },
    Case {
        name: "job queue",
        script: "UPDATE jobs SET n = n + 1 WHERE id = (SELECT id FROM jobs WHERE state = 'new' ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id;\n",
    },
    Case {
        name: "from values",
        script: "\\set a random(1, :rows)\n\\set b random(1, :rows)\nUPDATE orders o SET n = v.n FROM (VALUES (:a::bigint, 1), (:b, 2)) v(id, n) WHERE o.id = v.id;\n",
    },
    Case {
        name: "older than (no row)",
        script: "DELETE FROM orders WHERE at < now() - interval '30 days';\n",
    },
    Case {
        name: "any array",
        script: "\\set a random(1, :rows)\n\\set b random(1, :rows)\nUPDATE orders SET n = n + 1 WHERE id = ANY(ARRAY[:a, :b]::bigint[]);\n",
    },
    Case {
        name: "delete by customer (no row)",
        script: "\\set c random(1, 1000) + :rows\nDELETE FROM orders WHERE customer = :c;\n",
    },
];

/// pgbench's arguments for a way of sending.
const MODES: [(&str, &[&str]); 4] = [
    ("simple", &["-M", "simple"]),
    ("extended", &["-M", "extended"]),
    ("prepared", &["-M", "prepared"]),
    ("new connections", &["-M", "simple", "-C"]),
];

fn main() {
    bench::main(run);
}

fn run() -> Result<(), String> {
    let (rounds, rows) = (number("ROUNDS", 3).max(1) as usize, number("ROWS", 400_000));
    let only = std::env::var("ONLY").unwrap_or_default();
    let settings = [
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("synchronous_commit", "off"),
        ("autovacuum", "on"),
    ];
    let cluster = Cluster::start(&Options {
        settings: &settings,
        ..Options::default()
    })?;
    cluster.psql("postgres", "CREATE DATABASE bench")?;
    cluster.psql(
        "bench",
        &format!(
            "CREATE TABLE orders (id bigint PRIMARY KEY, customer integer, at timestamptz, n integer NOT NULL DEFAULT 0, note text) WITH (fillfactor = 50);
             INSERT INTO orders SELECT i, i / 10, now() - interval '1 min' * (i % 20000), 0, repeat('x', 50) FROM generate_series(1, {rows}) i;
             CREATE INDEX ON orders (customer); CREATE INDEX ON orders (at);
             CREATE TABLE jobs (id bigint PRIMARY KEY, state text, n integer NOT NULL DEFAULT 0, note text) WITH (fillfactor = 50);
             INSERT INTO jobs SELECT i, 'new', 0, repeat('x', 50) FROM generate_series(1, {rows}) i;
             VACUUM ANALYZE orders; VACUUM ANALYZE jobs; CHECKPOINT"
        ),
    )?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let haproxy = haproxy(&cluster, dir.path())?;
    let ours = lockkeeper(&cluster, dir.path(), "standard")?;
    let ports = [cluster.port(), haproxy.1, ours.1];
    println!(
        "PostgreSQL {}, {rows} rows, {} clients, {rounds} rounds of {} s",
        cluster.version(),
        number("CLIENTS", 4),
        number("SECONDS_EACH", 3)
    );
    println!(
        "{:<28} {:<16} {:>9} {:>9} {:>10} {:>9} {:>15}",
        "transactions per second", "", "straight", "haproxy", "lockkeeper", "ratio", "of each round"
    );
    let mut figures = Vec::new();
    for (n, case) in CASES.iter().enumerate() {
        let file = dir.path().join(format!("{n}.sql"));
        std::fs::write(&file, case.script).map_err(|e| e.to_string())?;
        for (mode, arguments) in MODES {
            if !format!("{} {mode}", case.name).contains(&only) {
                continue;
            }
            let mut all: [Vec<f64>; 3] = Default::default();
            for round in 0..rounds {
                // Another one goes first each time.
                for way in (0..3).map(|n| (n + round) % 3) {
                    all[way].push(pgbench(&cluster, ports[way], &file, rows, arguments)?);
                }
            }
            figures.push(line(case.name, mode, &all));
        }
    }
    bench::write_figures("writes", &figures)
}

/// Prints it, and gives it as JSON.
fn line(name: &str, mode: &str, all: &[Vec<f64>; 3]) -> serde_json::Value {
    // Of each round, as a busy machine hurts both of it.
    let ratios: Vec<f64> = all[2]
        .iter()
        .zip(&all[1])
        .map(|(ours, theirs)| ours / theirs.max(1e-9))
        .collect();
    let (least, most) = ratios
        .iter()
        .fold((f64::MAX, 0.0f64), |(least, most), r| (least.min(*r), most.max(*r)));
    let [straight, haproxy, ours] = [0, 1, 2].map(|way| bench::median(&all[way]));
    let ratio = bench::median(&ratios);
    println!(
        "{name:<28} {mode:<16} {straight:>9.0} {haproxy:>9.0} {ours:>10.0} {ratio:>8.2}x {:>15}",
        format!("{least:.2} to {most:.2}")
    );
    serde_json::json!({ "statement": name, "mode": mode, "straight": straight, "haproxy": haproxy, "lockkeeper": ours, "ratio": ratio, "least": least, "most": most })
}

fn pgbench(cluster: &Cluster, port: u16, script: &Path, rows: u64, arguments: &[&str]) -> Result<f64, String> {
    let path = cluster.bin("pgbench").unwrap_or_else(|| PathBuf::from("pgbench"));
    let mut command = Command::new(path);
    clean_environment(&mut command);
    command
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-n",
            "-j",
            "1",
        ])
        .args([
            "-c",
            &number("CLIENTS", 4).to_string(),
            "-T",
            &number("SECONDS_EACH", 3).to_string(),
        ])
        .args(["-D", &format!("rows={rows}"), "-f"])
        .arg(script)
        .args(arguments)
        .arg("bench");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("pgbench: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let tps = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    tps.filter(|tps| output.status.success() && tps.is_finite())
        .ok_or_else(|| format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
