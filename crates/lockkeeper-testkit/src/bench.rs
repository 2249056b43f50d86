//! What the benches have in common.

use crate::pki::PKI;
use crate::program;
use lockkeeper_cluster::{Cluster, Guarded, clean_environment, command, free_port};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// From the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The whole of a bench's main.
pub fn main(run: impl FnOnce() -> Result<(), String>) {
    // `cargo test --benches` only wants to know that this builds.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    if let Err(error) = run() {
        eprintln!("bench: {error}");
        std::process::exit(1);
    }
}

/// For [`main`], on two threads.
pub fn blocking(run: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.map_err(|e| e.to_string())?.block_on(run)
}

/// The figures of one bench, as NAME.json in the directory that the variable JSON names, if it does: with the machine and the command.
pub fn write_figures(name: &str, figures: &[serde_json::Value]) -> Result<(), String> {
    let Ok(dir) = std::env::var("JSON") else { return Ok(()) };
    let path = Path::new(&dir).join(format!("{name}.json"));
    let all = serde_json::json!({ "bench": name, "machine": machine(), "command": asked(name), "figures": figures });
    let text = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Processors, memory and kernel, as far as Linux says.
fn machine() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    serde_json::json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// The command that measures the same again.
fn asked(name: &str) -> String {
    const KNOWN: [&str; 16] = [
        "ROUNDS",
        "SECONDS_EACH",
        "CLIENTS",
        "ROWS",
        "IDLE",
        "ONLY",
        "TABLES",
        "RESTORES",
        "RESTORED",
        "APPLICATIONS",
        "RATE",
        "WAYS",
        "POLICY",
        "LOCKKEEPER_BIN",
        "FILES",
        "SQUAWK",
    ];
    let set = KNOWN
        .iter()
        .filter_map(|name| Some(format!("{name}='{}' ", std::env::var(name).ok()?)));
    format!("{}cargo bench --bench {name}", set.collect::<String>())
}

/// Median, least and most.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let ends = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(*v), most.max(*v)));
    match values {
        [] => [0.0; 3],
        _ => [median(values), ends.0, ends.1],
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// With the port at which it listens.
pub fn haproxy(cluster: &Cluster, dir: &Path) -> Result<(Guarded, u16), String> {
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
    let proxy = Guarded::spawn(
        &command(path, [std::ffi::OsString::from("-db"), "-f".into(), file.into()]),
        &dir.join("haproxy.log"),
    )?;
    listening(&proxy, port)?;
    Ok((proxy, port))
}

/// Each client has a server connection of its own, as with the others. With a certificate it speaks TLS to those clients that ask for it.
pub fn pgbouncer(cluster: &Cluster, dir: &Path, certificate: Option<&Certificate>) -> Result<(Guarded, u16), String> {
    let port = free_port()?;
    let tls = certificate.map_or(String::new(), |files| {
        format!(
            "client_tls_sslmode = allow\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
            files.cert.display(),
            files.key.display()
        )
    });
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = session\nmax_client_conn = 4096\ndefault_pool_size = 2000\nserver_tls_sslmode = disable\n\
         ignore_startup_parameters = extra_float_digits,options\nlog_connections = 0\nlog_disconnections = 0\n{tls}",
        cluster.port()
    );
    let file = dir.join("pgbouncer.ini");
    std::fs::write(&file, text).map_err(|e| e.to_string())?;
    let path = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
        .iter()
        .map(Path::new)
        .find(|p| p.exists());
    let path = path.ok_or("pgbouncer is not here: apt-get install pgbouncer")?;
    let mut program = command(path, [file.into_os_string()]);
    clean_environment(&mut program);
    // SAFETY: geteuid(2) cannot fail and touches no memory.
    if unsafe { libc::geteuid() } == 0 {
        program.args(["-u", "nobody"]);
    }
    let proxy = Guarded::spawn(&program, &dir.join("pgbouncer.log"))?;
    listening(&proxy, port)?;
    Ok((proxy, port))
}

/// Files with a certificate and its key that anybody may read.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Certificate {
    /// The tests' own.
    pub fn write(dir: &Path) -> Result<Certificate, String> {
        let put = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(path)
        };
        Ok(Certificate {
            cert: put("proxy.crt", &PKI.proxy.cert)?,
            key: put("proxy.key", &PKI.proxy.key)?,
        })
    }
}

/// Auditing is on.
pub fn lockkeeper(cluster: &Cluster, dir: &Path, policy: &str) -> Result<(Guarded, u16), String> {
    lockkeeper_with(cluster, dir, policy, &[])
}

/// With more arguments.
pub fn lockkeeper_with(cluster: &Cluster, dir: &Path, policy: &str, more: &[String]) -> Result<(Guarded, u16), String> {
    let port = free_port()?;
    let arguments = [
        "serve".into(),
        "--listen".into(),
        format!("127.0.0.1:{port}"),
        "--upstream".into(),
        format!("127.0.0.1:{}", cluster.port()),
        "--policy".into(),
        policy.into(),
        "--audit".into(),
        dir.join("audit.jsonl").display().to_string(),
    ];
    // Another build may be measured without building the bench again.
    let program = std::env::var_os("LOCKKEEPER_BIN").map_or_else(program, PathBuf::from);
    let mut serve = command(&program, arguments.into_iter().chain(more.iter().cloned()));
    clean_environment(&mut serve);
    let proxy = Guarded::spawn(&serve, &dir.join("lockkeeper.log"))?;
    listening(&proxy, port)?;
    Ok((proxy, port))
}

fn listening(proxy: &Guarded, port: u16) -> Result<(), String> {
    let until = Instant::now() + Duration::from_secs(10);
    while !proxy.listens_on(port) {
        if !proxy.is_alive() || Instant::now() > until {
            return Err(format!("nothing listens on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
