//! What forwarding costs: pgbench and friends straight at PostgreSQL, through HAProxy (TCP mode) and through Lockkeeper
//! (policy standard, auditing on, no TLS), in interleaved rounds, so that a busy machine hurts all three alike.
//!
//! `make bench`, or `cargo bench --bench proxy`. Environment: ROUNDS (3), SECONDS_EACH (3), CLIENTS ("1 8 64"), IDLE (1000), and
//! ONLY, a word that a line's name must hold. Ratios against HAProxy are of one run on one machine; the times alone mean
//! nothing elsewhere.

use lockkeeper_cluster::{Cluster, Guarded, Options, clean_environment};
use lockkeeper_testkit::bench::{self, haproxy, lockkeeper, number};
use std::fs::{read_dir, read_to_string};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One way to the server.
struct Way {
    port: u16,
    /// None: there is nothing between.
    proxy: Option<Guarded>,
}

/// What was done in one measurement, and how fast.
struct Done {
    amount: f64,
    per_second: f64,
}

/// One line of the table, of one way: what it says and the proxy's processor time in microseconds for each.
#[derive(Clone, Copy)]
struct Measured {
    value: f64,
    cpu_us_each: f64,
}

struct Bench {
    cluster: Cluster,
    /// Straight, HAProxy, Lockkeeper.
    ways: [Way; 3],
    rounds: usize,
    seconds: u64,
    only: String,
}

fn main() {
    bench::main(|| {
        more_files();
        run()
    });
}

fn run() -> Result<(), String> {
    let clients = std::env::var("CLIENTS").unwrap_or_else(|_| "1 8 64".into());
    let idle = number("IDLE", 1_000) as usize;
    let connections_max = (idle + 200).to_string();
    let settings = [
        ("max_connections", connections_max.as_str()),
        ("shared_buffers", "256MB"),
        ("jit", "off"),
    ];
    let cluster = Cluster::start(&Options {
        settings: &settings,
        ..Options::default()
    })?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let direct = Way {
        port: cluster.port(),
        proxy: None,
    };
    let by = |(proxy, port)| Way {
        port,
        proxy: Some(proxy),
    };
    let bench = Bench {
        ways: [
            direct,
            by(haproxy(&cluster, dir.path())?),
            by(lockkeeper(&cluster, dir.path(), "standard")?),
        ],
        cluster,
        rounds: number("ROUNDS", 3) as usize,
        seconds: number("SECONDS_EACH", 3),
        only: std::env::var("ONLY").unwrap_or_default(),
    };
    bench.cluster.psql("postgres", "CREATE DATABASE bench")?;
    program(
        &bench.cluster,
        "pgbench",
        bench.cluster.port(),
        &["-i", "-s", "10", "-q"],
    )?;
    println!(
        "PostgreSQL {}, {} rounds of {} s each; medians. us: the proxy's processor time for each",
        bench.cluster.version(),
        bench.rounds,
        bench.seconds
    );
    println!(
        "{:<44} {:>9} {:>9} {:>10} {:>9} {:>11} {:>13} {:>9}",
        "", "direct", "haproxy", "lockkeeper", "/haproxy", "haproxy us", "lockkeeper us", "/haproxy"
    );
    for mode in ["simple", "extended", "prepared"] {
        for clients in clients.split_whitespace() {
            let select = ["-S", "-M", mode, "-c", clients];
            bench.row(&format!("{mode}, {clients} clients (per second)"), |way| {
                bench.pgbench(way, &select)
            })?;
        }
    }
    let update = ["-b", "simple-update", "-c", "8"];
    bench.row("update by key, 8 clients (per second)", |way| {
        bench.pgbench(way, &update)
    })?;
    bench.row("connections (per second)", |way| {
        bench.pgbench(way, &["-S", "-C", "-c", "4"])
    })?;
    let wide = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT";
    bench.row("COPY of 1 GB, rows of 1,000 B (MB per second)", |way| {
        bench.copy(way, wide, 1_000.0)
    })?;
    let tiny = "COPY (SELECT 1 FROM generate_series(1, 3000000)) TO STDOUT";
    bench.row("COPY of 3 million tiny rows (1,000 per second)", |way| {
        bench.copy(way, tiny, 3_000.0)
    })?;
    let rows = "SELECT 1 FROM generate_series(1, 3000000)";
    bench.row("SELECT of 3 million rows (1,000 per second)", |way| {
        bench.copy(way, rows, 3_000.0)
    })?;
    bench.idle_sessions(idle)
}

/// As many as may be: idle sessions need one each here and two each in the proxies.
fn more_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls are given a valid structure, and nothing else.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

impl Bench {
    /// Measures one thing over all ways in turn, and prints its line.
    fn row(&self, what: &str, measure: impl Fn(&Way) -> Result<Done, String>) -> Result<(), String> {
        if !what.contains(&self.only) {
            return Ok(());
        }
        let mut all: [Vec<Measured>; 3] = Default::default();
        for round in 0..self.rounds {
            // Another one goes first each time.
            for n in (0..3).map(|n| (n + round) % 3) {
                let before = cpu(&self.ways[n])?;
                let done = measure(&self.ways[n])?;
                let spent = cpu(&self.ways[n])? - before;
                all[n].push(Measured {
                    value: done.per_second,
                    cpu_us_each: spent.as_secs_f64() * 1e6 / done.amount.max(1.0),
                });
            }
        }
        print_line(what, &all);
        Ok(())
    }

    fn pgbench(&self, way: &Way, arguments: &[&str]) -> Result<Done, String> {
        let seconds = self.seconds.to_string();
        let all = [arguments, &["-n", "-j", "1", "-T", &seconds]].concat();
        let output = program(&self.cluster, "pgbench", way.port, &all)?;
        // On a very busy machine it may say `tps = NaN`, or nothing, of no transaction at all.
        let number = |before: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(before));
            line.and_then(|rest| rest.split([' ', '/']).next()?.parse::<f64>().ok())
        };
        let amount = number("number of transactions actually processed: ")
            .ok_or_else(|| format!("pgbench has not said what it did: {output}"))?;
        Ok(Done {
            amount,
            per_second: number("tps = ").filter(|tps| tps.is_finite()).unwrap_or(0.0),
        })
    }

    /// `amount` of something in one query whose output is thrown away.
    fn copy(&self, way: &Way, sql: &str, amount: f64) -> Result<Done, String> {
        let started = Instant::now();
        // Else psql keeps all of a SELECT in memory.
        let arguments = ["-X", "-q", "-v", "FETCH_COUNT=0", "-o", "/dev/null", "-c", sql];
        program(&self.cluster, "psql", way.port, &arguments)?;
        Ok(Done {
            amount,
            per_second: amount / started.elapsed().as_secs_f64(),
        })
    }

    /// What sessions cost that do nothing, and what they cost others.
    fn idle_sessions(&self, sessions: usize) -> Result<(), String> {
        let names = [
            format!("memory of an idle session, of {sessions} (KB)"),
            format!("{sessions} idle sessions (processor ms per second)"),
            format!("simple, 8 clients beside {sessions} idle (per second)"),
        ];
        if !names.iter().any(|name| name.contains(&self.only)) {
            return Ok(());
        }
        let mut lines: [[Vec<Measured>; 3]; 3] = Default::default();
        for round in 0..self.rounds {
            for n in (0..3).map(|n| (n + round) % 3) {
                let way = &self.ways[n];
                let before = memory(way)?;
                let idle = (0..sessions).map(|_| open(way.port)).collect::<Result<Vec<_>, _>>()?;
                let each = memory(way)?.saturating_sub(before) as f64 / sessions as f64;
                let (started, spent) = (Instant::now(), cpu(way)?);
                std::thread::sleep(Duration::from_secs(self.seconds));
                let busy = (cpu(way)? - spent).as_secs_f64() / started.elapsed().as_secs_f64();
                let spent = cpu(way)?;
                let done = self.pgbench(way, &["-S", "-c", "8"])?;
                let cpu_us_each = (cpu(way)? - spent).as_secs_f64() * 1e6 / done.amount.max(1.0);
                for (line, (value, cpu_us_each)) in
                    lines
                        .iter_mut()
                        .zip([(each, 0.0), (busy * 1e3, 0.0), (done.per_second, cpu_us_each)])
                {
                    line[n].push(Measured { value, cpu_us_each });
                }
                drop(idle);
                // The next way's sessions need their places.
                let gone = "SELECT count(*) < 10 FROM pg_stat_activity WHERE backend_type = 'client backend'";
                while self.cluster.psql("postgres", gone)?.trim() != "t" {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        names.iter().zip(&lines).for_each(|(name, line)| print_line(name, line));
        Ok(())
    }
}

fn print_line(what: &str, all: &[Vec<Measured>; 3]) {
    let median = |n: usize, of: fn(&Measured) -> f64| {
        let mut values: Vec<f64> = all[n].iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let value = |n| median(n, |m| m.value);
    let cpu = |n| median(n, |m| m.cpu_us_each);
    let number = |value: f64| match value {
        0.0 => "-".to_string(),
        small if small < 100.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    };
    let ratio = |ours: f64, theirs: f64| match theirs > 0.0 {
        true => format!("{:.2}x", ours / theirs),
        false => "-".into(),
    };
    println!(
        "{what:<44} {:>9} {:>9} {:>10} {:>9} {:>11} {:>13} {:>9}",
        number(value(0)),
        number(value(1)),
        number(value(2)),
        ratio(value(2), value(1)),
        number(cpu(1)),
        number(cpu(2)),
        ratio(cpu(2), cpu(1)),
    );
}

/// A session that is ready.
fn open(port: u16) -> Result<TcpStream, String> {
    let open = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let body = b"\0\x03\0\0user\0postgres\0database\0bench\0\0";
        stream.write_all(&[&(body.len() as u32 + 4).to_be_bytes()[..], body].concat())?;
        let mut heard = Vec::new();
        let mut piece = [0; 4_096];
        while !heard.ends_with(b"Z\0\0\0\x05I") {
            match stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => heard.extend_from_slice(&piece[..n]),
            }
        }
        Ok(stream)
    };
    open().map_err(|error| format!("an idle session on port {port}: {error}"))
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

/// Processor time of the proxy so far, of all its threads.
fn cpu(way: &Way) -> Result<Duration, String> {
    let Some(proxy) = &way.proxy else {
        return Ok(Duration::ZERO);
    };
    let tasks = format!("/proc/{}/task", proxy.pid());
    let mut sum = 0;
    for task in read_dir(&tasks).map_err(|e| format!("{tasks}: {e}"))?.flatten() {
        // In nanoseconds, where /proc/PID/stat counts in hundredths of a second.
        let file = task.path().join("schedstat");
        let text = read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        sum += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

/// Resident memory of the proxy, in KB.
fn memory(way: &Way) -> Result<u64, String> {
    let Some(proxy) = &way.proxy else { return Ok(0) };
    let status = read_to_string(format!("/proc/{}/status", proxy.pid())).map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or("no VmRSS".into())
}
