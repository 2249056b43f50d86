//! What the benches have in common.

use crate::program;
use lockkeeper_cluster::{Cluster, Guarded, clean_environment, command, free_port};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// From the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
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
