//! The I/O shell: listens, and runs one task per session.

use crate::plan::policy::Policy;
use std::path::PathBuf;
use std::time::Duration;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    Tcp {
        host: String,
        port: u16,
    },
    /// The socket's own path: `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT`, or a directory for a Unix socket `.s.PGSQL.PORT` (`/run/lockkeeper:6432`).
    pub listen: Vec<String>,
    pub upstream: Upstream,
    pub audit: Option<PathBuf>,
    pub limits: Limits,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// A Query or Parse that is held to be judged, in bytes.
    pub statement_bytes_max: usize,
    pub startup_timeout: Duration,
    pub authentication_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long SIGTERM waits for sessions in the middle of something.
    pub drain_timeout: Duration,
    /// Worker threads, each with a runtime of its own; 0 = one per processor.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            statement_bytes_max: 16 << 20,
            startup_timeout: Duration::from_secs(15),
            authentication_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(60),
            threads: 0,
        }
    }
}

/// Serves until SIGTERM or SIGINT. SIGHUP calls `load_policy` again and keeps the old policy when that fails.
pub fn serve(_config: Config, _load_policy: Box<dyn Fn() -> Result<Policy, String> + Send>) -> Result<(), String> {
    Err("not built".into())
}
