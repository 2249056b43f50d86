//! What the proxy is told when it starts: where it listens, where the server is, who authenticates, and every limit.

use crate::audit::sink::Sink;
use std::fmt;
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

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Upstream::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Upstream::Tcp { host, port } => write!(f, "{host}:{port}"),
            Upstream::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Which server sessions go to, as libpq's target_session_attrs has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl Target {
    /// As libpq writes it.
    pub fn name(self) -> &'static str {
        match self {
            Target::Any => "any",
            Target::ReadWrite => "read-write",
            Target::ReadOnly => "read-only",
            Target::Primary => "primary",
            Target::Standby => "standby",
            Target::PreferStandby => "prefer-standby",
        }
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAt {
    pub address: Upstream,
    /// None: it is reached without TLS. Never used over a Unix socket.
    pub tls: Option<UpstreamTls>,
}

/// All servers, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    pub servers: Vec<ServerAt>,
    pub target: Target,
}

impl fmt::Display for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.servers.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}", server.address)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT`, or a directory for a Unix socket `.s.PGSQL.PORT` (`/run/lockkeeper:6432`).
    pub listen: Vec<String>,
    /// Another process may listen at the same TCP addresses.
    pub reuse_port: bool,
    /// Whose connections begin with the PROXY protocol.
    pub trusted: super::forwarded::Trusted,
    pub upstream: Upstreams,
    pub audit: Option<Sink>,
    /// None: clients that ask for TLS hear that there is none.
    pub client_tls: Option<ClientTls>,
    pub auth: Auth,
    pub console: Option<Console>,
    pub control: Option<Control>,
    pub webhook: Option<crate::webhook::settings::Settings>,
    pub limits: Limits,
}

/// A database that is not the server's: SHOW and RELOAD for people with psql.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    pub database: String,
    /// Who may.
    pub users: Vec<String>,
    /// Where the server authenticates them.
    pub auth_database: String,
}

/// User, password and database of a connection of the proxy's own to the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Control(pub tokio_postgres::Config);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({:?})", self.0.get_user())
    }
}

/// Who authenticates clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// The server: the messages are relayed.
    #[default]
    PassThrough,
    /// The proxy, with SCRAM verifiers of the file, else of the query; what the client proves then logs in to the server.
    Scram {
        file: Option<PathBuf>,
        query: Option<AuthQuery>,
    },
}

/// How to ask the server for the verifiers of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthQuery {
    /// Who asks.
    pub user: String,
    /// With the name as $1; it gives name and verifier.
    pub sql: String,
    pub database: String,
    /// How long an answer is used, if nothing speaks against it.
    pub cache_time: Duration,
    /// Of `user`. None: it stands in the file, or the server needs none.
    pub password: Option<Secret>,
}

/// A password, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// TLS for clients; the files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// A session over TCP must use it.
    pub required: bool,
    /// The server's certificate, then those up to, not necessarily with, the root.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients must show a certificate that one of these has signed.
    pub client_ca: Option<PathBuf>,
}

/// TLS to the server, which must offer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    pub verify: Verify,
    /// The host name or IP address to ask for and, with [`Verify::Full`], to find in the certificate.
    pub name: String,
}

/// How much the server's certificate must prove, as libpq's sslmode has it; with the PEM file of those that may sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    Nothing,
    Ca(PathBuf),
    Full(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub connections_max: usize,
    /// A Query or Parse that is held to be judged, in bytes.
    pub statement_bytes_max: usize,
    /// What a session has prepared and bound to be judged when it is executed, in bytes.
    pub held_bytes_max: usize,
    /// Messages of a client that the server has not answered yet.
    pub pipeline_max: usize,
    pub startup_timeout: Duration,
    pub authentication_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long a cancel request may take to be passed on.
    pub cancel_timeout: Duration,
    /// After so long a silence a TCP peer is asked whether it is still there.
    pub keepalive: Duration,
    /// What was sent to the server may be unacknowledged for so long.
    pub unacknowledged: Duration,
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
            held_bytes_max: 64 << 20,
            pipeline_max: 100_000,
            startup_timeout: Duration::from_secs(15),
            authentication_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(15),
            cancel_timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(60),
            unacknowledged: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(60),
            threads: 0,
        }
    }
}
