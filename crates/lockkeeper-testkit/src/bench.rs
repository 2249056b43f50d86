//! What the benches have in common.

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

/// The figures, where the variable JSON names a file for them.
pub fn write_figures(figures: &[serde_json::Value]) -> Result<(), String> {
    let Ok(path) = std::env::var("JSON") else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).map_err(|e| e.to_string())?;
    std::fs::write(&path, text).map_err(|e| format!("{path}: {e}"))
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

/// Auditing is on.
pub fn lockkeeper(cluster: &Cluster, dir: &Path, policy: &str) -> Result<(Guarded, u16), String> {
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
    let mut serve = command(&program, arguments);
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
