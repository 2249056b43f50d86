//! What forwarding costs: pgbench and friends straight at PostgreSQL, through HAProxy (TCP mode), through PgBouncer (session
//! pooling) and through Lockkeeper (policy standard, auditing on), in interleaved rounds, so that a busy machine hurts all alike.
//!
//! `make bench`, or `cargo bench --bench proxy`. Environment: ROUNDS (5), SECONDS_EACH (3), CLIENTS ("8 64"), IDLE (1000), ONLY, a
//! word that a line's name must hold, and JSON, a directory for the figures. A ratio is the median of the rounds' ratios, with the
//! least and the most behind it. Compare ratios of one run: the figures alone mean nothing elsewhere.

use lockkeeper_cluster::{Cluster, Guarded, Options, clean_environment};
use lockkeeper_testkit::bench::{self, Certificate, haproxy, lockkeeper_with, number, pgbouncer, spread};
use lockkeeper_testkit::pki::PKI;
use std::fs::{read_dir, read_to_string};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// In this order: nothing between, and three proxies.
const WAYS: usize = 4;
const NAMES: [&str; WAYS] = ["straight", "haproxy", "pgbouncer", "lockkeeper"];
const OURS: usize = 3;

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
    /// None: it was one thing, or nobody has noted how long each took.
    p99_ms: Option<f64>,
}

/// The values of the rounds, of each way.
type All = [Vec<f64>; WAYS];

struct Bench {
    cluster: Cluster,
    ways: [Way; WAYS],
    rounds: usize,
    seconds: u64,
    only: String,
    /// For pgbench's logs.
    dir: tempfile::TempDir,
    figures: Vec<serde_json::Value>,
}

fn main() {
    bench::main(|| {
        more_files();
        run()
    });
}

fn run() -> Result<(), String> {
    let clients = std::env::var("CLIENTS").unwrap_or_else(|_| "8 64".into());
    let idle = number("IDLE", 1_000) as usize;
    let mut bench = start(idle)?;
    println!(
        "PostgreSQL {}, {} rounds of {} s each. A ratio: the median of the rounds', and their least and most",
        bench.cluster.version(),
        bench.rounds,
        bench.seconds
    );
    println!(
        "{:<46} {:>9} {:>9} {:>9} {:>10}  {:<19} {:<19}",
        "", NAMES[0], NAMES[1], NAMES[2], NAMES[3], "/haproxy", "/pgbouncer"
    );
    for mode in ["simple", "extended", "prepared"] {
        for clients in clients.split_whitespace() {
            let select = ["-S", "-M", mode, "-c", clients];
            bench.row(&format!("{mode}, {clients} clients"), "per second", |bench, way| {
                bench.pgbench(way, &select, Tls::No)
            })?;
        }
    }
    let update = ["-b", "simple-update", "-c", "8"];
    bench.row("update by key, 8 clients", "per second", |bench, way| {
        bench.pgbench(way, &update, Tls::No)
    })?;
    bench.row("new connections", "per second", |bench, way| {
        bench.pgbench(way, &["-S", "-C", "-c", "4"], Tls::No)
    })?;
    // Of HAProxy's the server itself encrypts.
    bench.row("TLS, simple, 8 clients", "per second", |bench, way| {
        bench.pgbench(way, &["-S", "-c", "8"], Tls::Yes)
    })?;
    bench.row("TLS, new connections", "per second", |bench, way| {
        bench.pgbench(way, &["-S", "-C", "-c", "4"], Tls::Yes)
    })?;
    let wide = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT";
    bench.row("COPY of 1 GB, rows of 1,000 B", "MB per second", |bench, way| {
        bench.copy(way, wide, 1_000.0)
    })?;
    let tiny = "COPY (SELECT 1 FROM generate_series(1, 3000000)) TO STDOUT";
    bench.row("COPY of 3 million tiny rows", "1,000 per second", |bench, way| {
        bench.copy(way, tiny, 3_000.0)
    })?;
    let rows = "SELECT 1 FROM generate_series(1, 3000000)";
    bench.row("SELECT of 3 million rows", "1,000 per second", |bench, way| {
        bench.copy(way, rows, 3_000.0)
    })?;
    bench.idle_sessions(idle)?;
    bench::write_figures("proxy", &bench.figures)
}

/// A server with TLS, and all ways to it.
fn start(idle: usize) -> Result<Bench, String> {
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
    cluster.write_data_file("server.crt", &PKI.server.cert)?;
    cluster.write_data_file("server.key", &PKI.server.key)?;
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = on")?;
    cluster.restart()?;
    cluster.psql("postgres", "CREATE DATABASE bench")?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let certificate = Certificate::write(dir.path())?;
    let tls = [
        "--tls-cert".into(),
        certificate.cert.display().to_string(),
        "--tls-key".into(),
        certificate.key.display().to_string(),
        "--upstream-tls".into(),
        "disable".into(),
    ];
    let way = |(proxy, port)| Way {
        port,
        proxy: Some(proxy),
    };
    let bench = Bench {
        ways: [
            Way {
                port: cluster.port(),
                proxy: None,
            },
            way(haproxy(&cluster, dir.path())?),
            way(pgbouncer(&cluster, dir.path(), Some(&certificate))?),
            way(lockkeeper_with(&cluster, dir.path(), "standard", &tls)?),
        ],
        cluster,
        rounds: number("ROUNDS", 5).max(1) as usize,
        seconds: number("SECONDS_EACH", 3),
        only: std::env::var("ONLY").unwrap_or_default(),
        dir,
        figures: Vec::new(),
    };
    bench.program("pgbench", bench.cluster.port(), &["-i", "-s", "10", "-q"], Tls::No)?;
    Ok(bench)
}

/// Whether the client asks for it.
#[derive(Clone, Copy)]
enum Tls {
    No,
    Yes,
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
    /// Measures one thing over all ways in turn, and prints its lines: how fast, the proxy's processor time for each, and the slowest.
    fn row(
        &mut self,
        what: &str,
        unit: &str,
        measure: impl Fn(&Bench, &Way) -> Result<Done, String>,
    ) -> Result<(), String> {
        if !what.contains(&self.only) {
            return Ok(());
        }
        let (mut fast, mut spent, mut slow) = (All::default(), All::default(), All::default());
        for round in 0..self.rounds {
            // Another one goes first each time.
            for n in (0..WAYS).map(|n| (n + round) % WAYS) {
                let before = cpu(&self.ways[n])?;
                let done = measure(self, &self.ways[n])?;
                let each = (cpu(&self.ways[n])? - before).as_secs_f64() * 1e6 / done.amount.max(1.0);
                fast[n].push(done.per_second);
                spent[n].push(each);
                slow[n].extend(done.p99_ms);
            }
        }
        self.line(&format!("{what} ({unit})"), &fast);
        self.line("  the proxy's processor time, us each", &spent);
        if slow.iter().all(|values| values.len() == self.rounds) {
            self.line("  99 of 100 within, ms", &slow);
        }
        Ok(())
    }

    fn line(&mut self, what: &str, all: &All) {
        let ratio = |theirs: usize| -> Vec<f64> {
            // Of each round, as a busy machine hurts both of it.
            let both = all[OURS].iter().zip(&all[theirs]).filter(|(_, theirs)| **theirs > 0.0);
            both.map(|(ours, theirs)| ours / theirs).collect()
        };
        let number = |value: f64| match value {
            0.0 => "-".to_string(),
            small if small < 10.0 => format!("{small:.2}"),
            small if small < 100.0 => format!("{small:.1}"),
            large => format!("{large:.0}"),
        };
        let told = |ratios: &[f64]| {
            let [median, least, most] = spread(ratios);
            match ratios {
                [] => String::new(),
                _ => format!("{median:.2}x {least:.2} to {most:.2}"),
            }
        };
        let values = [0, 1, 2, 3].map(|n| number(spread(&all[n])[0]));
        let ratios = [ratio(1), ratio(2)];
        println!(
            "{what:<46} {:>9} {:>9} {:>9} {:>10}  {:<19} {:<19}",
            values[0],
            values[1],
            values[2],
            values[3],
            told(&ratios[0]),
            told(&ratios[1])
        );
        // Lines of the same thing follow each other.
        let subject = what.strip_prefix("  ").map_or(what.to_owned(), |more| {
            let of = self.figures.iter().rev().find(|figure| figure["of"].is_null());
            format!(
                "{}: {more}",
                of.and_then(|figure| figure["name"].as_str()).unwrap_or_default()
            )
        });
        let of = what.starts_with("  ").then_some(true);
        self.figures.push(serde_json::json!({
            "name": subject, "of": of, "rounds": NAMES.iter().zip(all).collect::<std::collections::BTreeMap<_, _>>(),
            "medians": values, "to_haproxy": spread(&ratios[0]), "to_pgbouncer": spread(&ratios[1]),
        }));
    }

    fn pgbench(&self, way: &Way, arguments: &[&str], tls: Tls) -> Result<Done, String> {
        let seconds = self.seconds.to_string();
        let log = self.dir.path().join("latencies");
        let prefix = format!("--log-prefix={}", log.display());
        let own = ["-n", "-j", "1", "-T", &seconds, "-l", "--sampling-rate=0.1", &prefix];
        let output = self.program("pgbench", way.port, &[arguments, &own].concat(), tls)?;
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
            p99_ms: self.latencies()?,
        })
    }

    /// What pgbench has noted, as the time within which 99 of 100 were done, and takes its notes away.
    fn latencies(&self) -> Result<Option<f64>, String> {
        let mut all = Vec::new();
        for entry in read_dir(self.dir.path()).map_err(|e| e.to_string())?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with("latencies") {
                continue;
            }
            let text = read_to_string(entry.path()).map_err(|e| e.to_string())?;
            all.extend(
                text.lines()
                    .filter_map(|line| line.split(' ').nth(2)?.parse::<f64>().ok()),
            );
            std::fs::remove_file(entry.path()).map_err(|e| e.to_string())?;
        }
        all.sort_by(f64::total_cmp);
        Ok(all.get(all.len() * 99 / 100).map(|us| us / 1e3))
    }

    /// `amount` of something in one query whose output is thrown away.
    fn copy(&self, way: &Way, sql: &str, amount: f64) -> Result<Done, String> {
        let started = Instant::now();
        // Else psql keeps all of a SELECT in memory.
        let arguments = ["-X", "-q", "-v", "FETCH_COUNT=0", "-o", "/dev/null", "-c", sql];
        self.program("psql", way.port, &arguments, Tls::No)?;
        Ok(Done {
            amount,
            per_second: amount / started.elapsed().as_secs_f64(),
            p99_ms: None,
        })
    }

    /// What sessions cost that do nothing, and what they cost others.
    fn idle_sessions(&mut self, sessions: usize) -> Result<(), String> {
        let names = [
            format!("memory of an idle session, of {sessions} (KB)"),
            format!("{sessions} idle sessions (processor ms per second)"),
            format!("simple, 8 clients beside {sessions} idle (per second)"),
            "  the proxy's processor time, us each".to_owned(),
            "  99 of 100 within, ms".to_owned(),
        ];
        if !names.iter().any(|name| name.contains(&self.only)) {
            return Ok(());
        }
        let mut lines: [All; 5] = Default::default();
        let mut empty = [None; WAYS];
        for round in 0..self.rounds {
            for n in (0..WAYS).map(|n| (n + round) % WAYS) {
                let way = &self.ways[n];
                // What a proxy got in the first round it may keep for the next.
                let before = match empty[n] {
                    Some(before) => before,
                    None => *empty[n].insert(memory(way)?),
                };
                let idle = (0..sessions).map(|_| open(way.port)).collect::<Result<Vec<_>, _>>()?;
                let each = memory(way)?.saturating_sub(before) as f64 / sessions as f64;
                let (started, spent) = (Instant::now(), cpu(way)?);
                std::thread::sleep(Duration::from_secs(self.seconds));
                let busy = (cpu(way)? - spent).as_secs_f64() / started.elapsed().as_secs_f64();
                let spent = cpu(way)?;
                let done = self.pgbench(way, &["-S", "-c", "8"], Tls::No)?;
                let us_each = (cpu(way)? - spent).as_secs_f64() * 1e6 / done.amount.max(1.0);
                let all = [
                    each,
                    busy * 1e3,
                    done.per_second,
                    us_each,
                    done.p99_ms.unwrap_or_default(),
                ];
                lines.iter_mut().zip(all).for_each(|(line, value)| line[n].push(value));
                drop(idle);
                // The next way's sessions need their places.
                let gone = "SELECT count(*) < 10 FROM pg_stat_activity WHERE backend_type = 'client backend'";
                while self.cluster.psql("postgres", gone)?.trim() != "t" {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        names.iter().zip(&lines).for_each(|(name, line)| self.line(name, line));
        Ok(())
    }

    fn program(&self, name: &str, port: u16, arguments: &[&str], tls: Tls) -> Result<String, String> {
        let path = self.cluster.bin(name).unwrap_or_else(|| PathBuf::from(name));
        let mut command = Command::new(path);
        clean_environment(&mut command);
        let mode = match tls {
            Tls::No => "disable",
            Tls::Yes => "require",
        };
        command
            .env("PGSSLMODE", mode)
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
