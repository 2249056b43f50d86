//! What forwarding costs: pgbench and friends straight at PostgreSQL, through HAProxy (TCP mode) and through Lockkeeper
//! (policy standard, auditing on, no TLS), in interleaved rounds, so that a busy machine hurts all three alike.
//!
//! `make bench`, or `cargo bench --bench proxy`. Environment: ROUNDS (3), SECONDS_EACH (3), CLIENTS (1 8 64). Ratios against
//! HAProxy are of one run on one machine; the times alone mean nothing elsewhere.

use lockkeeper::cluster::{Cluster, Guarded, Options, clean_environment, command, free_port};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One way to the server.
struct Way {
    port: u16,
    /// None: there is nothing between.
    proxy: Option<Guarded>,
}

/// One measurement: how much was done, and the proxy's processor time for it.
#[derive(Clone, Copy, Default)]
struct Measured {
    per_second: f64,
    cpu_us_each: f64,
}

fn main() {
    // `cargo test --benches` only wants to know that this builds.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    if let Err(error) = run() {
        eprintln!("bench: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (rounds, seconds) = (number("ROUNDS", 3), number("SECONDS_EACH", 3));
    let clients = std::env::var("CLIENTS").unwrap_or_else(|_| "1 8 64".into());
    let settings = [("max_connections", "300"), ("shared_buffers", "256MB"), ("jit", "off")];
    let cluster = Cluster::start(&Options {
        settings: &settings,
        ..Options::default()
    })?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let ways = [
        Way {
            port: cluster.port(),
            proxy: None,
        },
        haproxy(&cluster, dir.path())?,
        lockkeeper(&cluster, dir.path())?,
    ];
    cluster.psql("postgres", "CREATE DATABASE bench")?;
    program(&cluster, "pgbench", cluster.port(), &["-i", "-s", "10", "-q"])?;
    cluster.psql(
        "bench",
        "CREATE TABLE wide AS SELECT i, repeat('x', 1000) AS v FROM generate_series(1, 200000) i; VACUUM ANALYZE wide",
    )?;

    println!(
        "PostgreSQL {}, {rounds} rounds of {seconds} s each; median of the rounds",
        cluster.version()
    );
    println!(
        "{:<28} {:>10} {:>10} {:>10} {:>9} {:>13} {:>13} {:>9}",
        "", "direct", "haproxy", "lockkeeper", "/haproxy", "haproxy us", "lockkeeper us", "/haproxy"
    );
    for mode in ["simple", "extended", "prepared"] {
        for clients in clients.split_whitespace() {
            row(&format!("{mode}, {clients} clients"), "tps", &ways, rounds, |way| {
                pgbench(
                    &cluster,
                    way.port,
                    &[
                        "-S",
                        "-n",
                        "-M",
                        mode,
                        "-c",
                        clients,
                        "-j",
                        "1",
                        "-T",
                        &seconds.to_string(),
                    ],
                )
            })?;
        }
    }
    row("update by key, 8 clients", "tps", &ways, rounds, |way| {
        pgbench(
            &cluster,
            way.port,
            &[
                "-b",
                "simple-update",
                "-n",
                "-c",
                "8",
                "-j",
                "1",
                "-T",
                &seconds.to_string(),
            ],
        )
    })?;
    row("connections", "per second", &ways, rounds, |way| {
        pgbench(
            &cluster,
            way.port,
            &["-S", "-C", "-n", "-c", "4", "-j", "1", "-T", &seconds.to_string()],
        )
    })?;
    row("COPY out, 1,000 B rows", "MB per second", &ways, rounds, |way| {
        copy(&cluster, way.port, "COPY wide TO STDOUT", 200.0)
    })?;
    row("3 million tiny rows", "rows per ms", &ways, rounds, |way| {
        copy(
            &cluster,
            way.port,
            "COPY (SELECT 1 FROM generate_series(1, 3000000)) TO STDOUT",
            3_000.0,
        )
    })?;
    Ok(())
}

/// Measures one thing over all ways in turn, and prints its line.
fn row(
    what: &str,
    unit: &str,
    ways: &[Way],
    rounds: u64,
    measure: impl Fn(&Way) -> Result<f64, String>,
) -> Result<(), String> {
    let mut all: BTreeMap<usize, Vec<Measured>> = BTreeMap::new();
    for round in 0..rounds {
        // Another one goes first each time.
        for n in 0..ways.len() {
            let n = (n + round as usize) % ways.len();
            let (started, cpu) = (Instant::now(), cpu(&ways[n]));
            let per_second = measure(&ways[n])?;
            let done = per_second * started.elapsed().as_secs_f64();
            let spent = cpu_since(&ways[n], cpu);
            all.entry(n).or_default().push(Measured {
                per_second,
                cpu_us_each: spent.as_secs_f64() * 1e6 / done.max(1.0),
            });
        }
    }
    let median = |n: usize, of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all[&n].iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let rate = |m: &Measured| m.per_second;
    let cpu = |m: &Measured| m.cpu_us_each;
    println!(
        "{:<28} {:>10.0} {:>10.0} {:>10.0} {:>8.2}x {:>13.1} {:>13.1} {:>8.2}x",
        format!("{what} ({unit})").chars().take(40).collect::<String>(),
        median(0, rate),
        median(1, rate),
        median(2, rate),
        median(2, rate) / median(1, rate),
        median(1, cpu),
        median(2, cpu),
        median(2, cpu) / median(1, cpu),
    );
    Ok(())
}

fn program(cluster: &Cluster, name: &str, port: u16, arguments: &[&str]) -> Result<String, String> {
    let path = cluster.bin(name).unwrap_or_else(|| PathBuf::from(name));
    let mut command = Command::new(path);
    clean_environment(&mut command);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"])
        .args(arguments)
        .arg("bench");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn pgbench(cluster: &Cluster, port: u16, arguments: &[&str]) -> Result<f64, String> {
    let output = program(cluster, "pgbench", port, arguments)?;
    let tps = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
    tps.ok_or(format!("pgbench said no tps: {output}"))
}

/// `amount` of something in one COPY whose output is thrown away.
fn copy(cluster: &Cluster, port: u16, sql: &str, amount: f64) -> Result<f64, String> {
    let path = cluster.bin("psql").unwrap_or_else(|| PathBuf::from("psql"));
    let mut command = Command::new(path);
    clean_environment(&mut command);
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-U",
        "postgres",
        "-X",
        "-q",
        "-c",
        sql,
        "bench",
    ]);
    let started = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("psql: {e}"))?;
    if !status.success() {
        return Err(format!("psql failed: {sql}"));
    }
    Ok(amount / started.elapsed().as_secs_f64())
}

/// User and system time of the proxy so far, in clock ticks.
fn cpu(way: &Way) -> u64 {
    let Some(proxy) = &way.proxy else { return 0 };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap_or_default();
    // After the command's name, which may hold blanks: utime and stime are fields 14 and 15.
    let after = stat.rsplit(')').next().unwrap_or_default();
    after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|t| t.parse::<u64>().ok())
        .sum()
}

fn cpu_since(way: &Way, before: u64) -> Duration {
    // USER_HZ is 100 on every Linux that Rust knows.
    Duration::from_millis((cpu(way) - before) * 10)
}

fn haproxy(cluster: &Cluster, dir: &Path) -> Result<Way, String> {
    let port = free_port()?;
    let file = dir.join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4096\n  nbthread 2\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         listen pg\n  bind 127.0.0.1:{port}\n  server pg 127.0.0.1:{}\n",
        cluster.port()
    );
    std::fs::write(&file, text).map_err(|e| e.to_string())?;
    let path = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"]
        .iter()
        .map(Path::new)
        .find(|p| p.exists());
    let path = path.ok_or("haproxy is not here: apt-get install haproxy")?;
    let arguments = [std::ffi::OsString::from("-db"), "-f".into(), file.into()];
    let proxy = Guarded::spawn(&command(path, arguments), &dir.join("haproxy.log"))?;
    listening(&proxy, port)?;
    Ok(Way {
        port,
        proxy: Some(proxy),
    })
}

fn lockkeeper(cluster: &Cluster, dir: &Path) -> Result<Way, String> {
    let port = free_port()?;
    let arguments = [
        "serve".into(),
        "--listen".into(),
        format!("127.0.0.1:{port}"),
        "--upstream".into(),
        format!("127.0.0.1:{}", cluster.port()),
        "--policy".into(),
        "standard".into(),
        "--audit".into(),
        dir.join("audit.jsonl").display().to_string(),
    ];
    let mut serve = command(Path::new(env!("CARGO_BIN_EXE_lockkeeper")), arguments);
    clean_environment(&mut serve);
    let proxy = Guarded::spawn(&serve, &dir.join("lockkeeper.log"))?;
    listening(&proxy, port)?;
    Ok(Way {
        port,
        proxy: Some(proxy),
    })
}

fn listening(proxy: &Guarded, port: u16) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(10);
    while !proxy.listens_on(port) {
        if Instant::now() > until {
            return Err(format!("nothing listens on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
