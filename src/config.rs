//! Settings of `serve`: flags, then LOCKKEEPER_* variables, then the configuration file, then the defaults.
//!
//! One struct, [`Options`], is the flags and the file alike, so a key is spelled as its flag: `connections-max`.
//! [`Options::resolve`] turns it into what the proxy takes; every error is one sentence that names the setting.

use crate::audit::{Fsync, Sink};
use crate::plan::policy::Policy;
use crate::plan::rules::RULES;
use crate::proxy::{
    Auth, AuthQuery, ClientTls, Config, Console, Control, Limits, Secret, Upstream, UpstreamTls, Verify,
};
use clap::{Args, CommandFactory, Parser, ValueEnum};
use serde::{Deserialize, Deserializer};
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Built in.
pub const POLICIES: [&str; 3] = ["observe", "standard", "strict"];
const LISTEN_DEFAULT: &str = "127.0.0.1:6432";
const LISTEN_PORT: u16 = 6432;
const UPSTREAM_PORT: u16 = 5432;
const ADMIN_PORT: u16 = 6433;
/// A day: nobody waits longer for a connection or a shutdown on purpose.
const TIMEOUT_S_MAX: u64 = 86_400;
const AUDIT_ROTATE_BYTES_MIN: u64 = 4 << 10;
/// The server sends its answers on when they fill 8 KB, also without a Sync; so many are more than that.
const PIPELINE_LEAST: u64 = 10_000;
/// As PgBouncer's default: an expired password is none.
const AUTH_QUERY_DEFAULT: &str = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
    FROM pg_catalog.pg_authid WHERE rolname = $1";
const AUTH_DBNAME_DEFAULT: &str = "postgres";
const AUTH_CACHE_DEFAULT: Duration = Duration::from_secs(30);
/// No flag and no key: arguments and configuration files are read by too many.
const AUTH_PASSWORD_VARIABLE: &str = "LOCKKEEPER_AUTH_PASSWORD";
/// sockaddr_un's sun_path, less the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Where clients connect: HOST:PORT, [::1]:PORT, or a directory for a Unix socket (/run/lockkeeper:6432). May be
    /// given several times [default: 127.0.0.1:6432]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKKEEPER_LISTEN",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub listen: Vec<String>,

    /// Let another process listen at the same TCP addresses (SO_REUSEPORT), so that a new one takes over before the old
    /// one is stopped; both must have it
    #[arg(
        long,
        value_name = "true|false",
        env = "LOCKKEEPER_REUSE_PORT",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub reuse_port: Option<bool>,

    /// The PostgreSQL server: HOST:PORT, or a socket directory (/var/run/postgresql, /tmp:5433); the port is 5432 where
    /// none is given
    #[arg(long, value_name = "ADDRESS", env = "LOCKKEEPER_UPSTREAM", hide_env_values = true)]
    pub upstream: Option<String>,

    /// TLS for clients over TCP: disable, allow, or require (whoever does not use it is refused) [default: allow with
    /// --tls-cert, else disable]
    #[arg(
        long,
        value_name = "MODE",
        env = "LOCKKEEPER_CLIENT_TLS",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub client_tls: Option<ClientTlsMode>,

    /// The certificate that clients see, and those that lead to its root, as a PEM file; SIGHUP reads it again
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_TLS_CERT",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, a PEM file without a passphrase; SIGHUP reads it again
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_TLS_KEY",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub tls_key: Option<PathBuf>,

    /// Clients that use TLS must show a certificate that one in this PEM file has signed; SIGHUP reads it again
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_TLS_CLIENT_CA",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub tls_client_ca: Option<PathBuf>,

    /// TLS to the server: disable, require (encrypted, with whoever answers), verify-ca, or verify-full (also the right
    /// name) [default: disable]
    #[arg(
        long,
        value_name = "MODE",
        env = "LOCKKEEPER_UPSTREAM_TLS",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub upstream_tls: Option<UpstreamTlsMode>,

    /// What may sign the server's certificate, for verify-ca and verify-full: a PEM file; SIGHUP reads it again
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_UPSTREAM_CA",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub upstream_ca: Option<PathBuf>,

    /// The name that the server's certificate must have for verify-full [default: the host of --upstream]
    #[arg(
        long,
        value_name = "HOST",
        env = "LOCKKEEPER_UPSTREAM_TLS_NAME",
        hide_env_values = true,
        help_heading = "TLS"
    )]
    pub upstream_tls_name: Option<String>,

    /// Who authenticates clients: passthrough (the server; all messages are relayed) or scram (the proxy, from the
    /// verifiers of --auth-file or --auth-user; it logs in to the server with what the client has proven) [default: passthrough]
    #[arg(
        long,
        value_name = "MODE",
        env = "LOCKKEEPER_AUTH",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth: Option<AuthMode>,

    /// For --auth scram: lines "user" "SCRAM-SHA-256$…" as in PgBouncer's auth_file; SIGHUP reads it again. A line
    /// "user" "password" is allowed for --auth-user alone
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_AUTH_FILE",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth_file: Option<PathBuf>,

    /// For --auth scram: as this role the proxy asks the server for the verifiers of users that are not in --auth-file.
    /// Its password, if the server wants one, is LOCKKEEPER_AUTH_PASSWORD in the environment or stands in --auth-file
    #[arg(
        long,
        value_name = "ROLE",
        env = "LOCKKEEPER_AUTH_USER",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth_user: Option<String>,

    /// What --auth-user asks with the name as $1; one row of two columns, the name and pg_authid.rolpassword, or none. A
    /// role that is no superuser needs a SECURITY DEFINER function: "SELECT * FROM user_lookup($1)" [default: pg_authid]
    #[arg(
        long,
        value_name = "SQL",
        env = "LOCKKEEPER_AUTH_QUERY",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth_query: Option<String>,

    /// The database in which --auth-user asks [default: postgres]
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKKEEPER_AUTH_DBNAME",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth_dbname: Option<String>,

    /// Seconds that an answer is used again; a password that changes meanwhile is noticed at once [default: 30]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_AUTH_CACHE_S",
        hide_env_values = true,
        help_heading = "Authentication"
    )]
    pub auth_cache_s: Option<u64>,

    /// What is done about each danger: observe (warn only), standard, strict, or a TOML file; SIGHUP reads it again
    /// [default: standard]
    #[arg(long, value_name = "NAME|FILE", env = "LOCKKEEPER_POLICY", hide_env_values = true)]
    pub policy: Option<String>,

    /// Append one JSON line per schema change and per step to this file; SIGHUP opens it again [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_AUDIT",
        hide_env_values = true,
        help_heading = "Audit log"
    )]
    pub audit: Option<PathBuf>,

    /// Serve the review page, metrics (/metrics) and health (/healthz, /readyz) over HTTP at this HOST:PORT; other than
    /// on a loopback address a token is needed [default: none]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKKEEPER_ADMIN",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub admin: Option<String>,

    /// The token for what the admin address does not give to everybody: a file with one line
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_ADMIN_TOKEN_FILE",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub admin_token_file: Option<PathBuf>,

    /// A name by which the admin address is reached, besides localhost and IP addresses. May be given several times
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKKEEPER_ADMIN_HOST",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = "Seeing what happens"
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub admin_host: Vec<String>,

    /// Roles that may connect to the console, which is a database of its own for SHOW and RELOAD. May be given several
    /// times [default: nobody, and there is no console]
    #[arg(
        long,
        value_name = "ROLE",
        env = "LOCKKEEPER_CONSOLE_USERS",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = "Seeing what happens"
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub console_users: Vec<String>,

    /// The console's name, where a real database is called lockkeeper [default: lockkeeper]
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKKEEPER_CONSOLE_DATABASE",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub console_database: Option<String>,

    /// The real database at which the server authenticates the console's users [default: postgres]
    #[arg(
        long,
        value_name = "NAME",
        env = "LOCKKEEPER_CONSOLE_AUTH_DATABASE",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub console_auth_database: Option<String>,

    /// A connection of the proxy's own, to see other sessions' locks while a plan runs: user, password and dbname, as
    /// "user=lockkeeper_watch password=… dbname=app"; the host is the upstream's
    #[arg(
        long,
        value_name = "DSN",
        env = "LOCKKEEPER_CONTROL_DSN",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub control_dsn: Option<String>,
    /// When lines are brought to the disk: none (when the system does), interval (within a second), or each (before the
    /// statement goes on) [default: interval]
    #[arg(
        long,
        value_name = "WHEN",
        env = "LOCKKEEPER_AUDIT_FSYNC",
        hide_env_values = true,
        help_heading = "Audit log"
    )]
    pub audit_fsync: Option<Fsync>,

    /// Move the file away (FILE.20260301T120000Z) before it grows beyond so many bytes, and go on in a new one whose first
    /// line names it; 0 is never [default: 0]
    #[arg(
        long,
        value_name = "BYTES",
        env = "LOCKKEEPER_AUDIT_ROTATE_BYTES",
        hide_env_values = true,
        help_heading = "Audit log"
    )]
    pub audit_rotate_bytes: Option<u64>,

    /// The same when its first line is so many seconds old and one more is to be written; 0 is never [default: 0]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_AUDIT_ROTATE_S",
        hide_env_values = true,
        help_heading = "Audit log"
    )]
    pub audit_rotate_s: Option<u64>,

    /// How log lines on stderr look [default: text]
    #[arg(long, value_name = "FORMAT", env = "LOCKKEEPER_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Option<LogFormat>,

    /// off, error, warn, info, debug, trace, or a filter such as info,lockkeeper=debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "LOCKKEEPER_LOG_LEVEL", hide_env_values = true)]
    pub log_level: Option<String>,

    /// Client connections at the same time; one more is refused [default: 10000]
    #[arg(
        long,
        value_name = "N",
        env = "LOCKKEEPER_CONNECTIONS_MAX",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub connections_max: Option<u64>,

    /// The largest statement that is judged, in bytes; a longer one is refused [default: 16777216]
    #[arg(
        long,
        value_name = "BYTES",
        env = "LOCKKEEPER_STATEMENT_BYTES_MAX",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub statement_bytes_max: Option<u64>,

    /// What the prepared statements and bound parameters of one session may take that are judged when they are executed,
    /// in bytes; what comes on top is refused [default: 67108864]
    #[arg(
        long,
        value_name = "BYTES",
        env = "LOCKKEEPER_HELD_BYTES_MAX",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub held_bytes_max: Option<u64>,

    /// Messages that a client may be ahead of the server's answers; one that is further ahead waits [default: 100000]
    #[arg(
        long,
        value_name = "N",
        env = "LOCKKEEPER_PIPELINE_MAX",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub pipeline_max: Option<u64>,

    /// Seconds until a client must have sent its startup packet [default: 15]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_STARTUP_TIMEOUT_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub startup_timeout_s: Option<u64>,

    /// Seconds until client and server must have finished authentication [default: 60]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_AUTHENTICATION_TIMEOUT_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub authentication_timeout_s: Option<u64>,

    /// Seconds to reach the server [default: 15]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_CONNECT_TIMEOUT_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub connect_timeout_s: Option<u64>,

    /// Seconds to pass a cancel request on to the server [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_CANCEL_TIMEOUT_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub cancel_timeout_s: Option<u64>,

    /// Seconds of silence until client and server are asked, by TCP, whether they are still there; after a minute without
    /// an answer their sessions end [default: 60]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_KEEPALIVE_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub keepalive_s: Option<u64>,

    /// Seconds that SIGTERM waits for sessions in the middle of something [default: 60]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_DRAIN_TIMEOUT_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub drain_timeout_s: Option<u64>,

    /// Worker threads; 0 is one per processor [default: 0]
    #[arg(
        long,
        value_name = "N",
        env = "LOCKKEEPER_THREADS",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub threads: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClientTlsMode {
    Disable,
    Allow,
    Require,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTlsMode {
    Disable,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    Passthrough,
    Scram,
}

/// The HTTP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: String,
    pub token_file: Option<PathBuf>,
    pub hosts: Vec<String>,
}

/// What `serve` runs with.
#[derive(Debug)]
pub struct Settings {
    pub proxy: Config,
    pub admin: Option<Admin>,
    /// An embedded policy's name or a file, for [`load_policy`].
    pub policy: String,
    pub log_format: LogFormat,
    pub log_level: String,
}

impl Options {
    /// Reads a configuration file; the error names the file, the line and, for an unknown key, the nearest valid one.
    pub fn from_file(path: &Path) -> Result<Options, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration file {}: {error}", path.display()))?;
        Options::parse(&text).map_err(|error| format!("{}:{error}", path.display()))
    }

    /// The error starts with the line's number.
    fn parse(text: &str) -> Result<Options, String> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            let message = error.message();
            let unknown = message
                .strip_prefix("unknown field `")
                .and_then(|rest| rest.split('`').next());
            match unknown {
                Some(key) => format!("{line}: unknown key `{key}`{}", did_you_mean(key, &keys())),
                None => format!("{line}: {}", message.replace('\n', " ")),
            }
        })
    }

    /// What is set here wins over `below`.
    pub fn over(self, below: Options) -> Options {
        Options {
            listen: either(self.listen, below.listen),
            reuse_port: self.reuse_port.or(below.reuse_port),
            upstream: self.upstream.or(below.upstream),
            policy: self.policy.or(below.policy),
            audit: self.audit.or(below.audit),
            audit_fsync: self.audit_fsync.or(below.audit_fsync),
            audit_rotate_bytes: self.audit_rotate_bytes.or(below.audit_rotate_bytes),
            audit_rotate_s: self.audit_rotate_s.or(below.audit_rotate_s),
            client_tls: self.client_tls.or(below.client_tls),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
            tls_client_ca: self.tls_client_ca.or(below.tls_client_ca),
            upstream_tls: self.upstream_tls.or(below.upstream_tls),
            upstream_ca: self.upstream_ca.or(below.upstream_ca),
            upstream_tls_name: self.upstream_tls_name.or(below.upstream_tls_name),
            auth: self.auth.or(below.auth),
            auth_file: self.auth_file.or(below.auth_file),
            admin: self.admin.or(below.admin),
            admin_token_file: self.admin_token_file.or(below.admin_token_file),
            admin_host: either(self.admin_host, below.admin_host),
            console_users: either(self.console_users, below.console_users),
            console_database: self.console_database.or(below.console_database),
            console_auth_database: self.console_auth_database.or(below.console_auth_database),
            control_dsn: self.control_dsn.or(below.control_dsn),
            auth_user: self.auth_user.or(below.auth_user),
            auth_query: self.auth_query.or(below.auth_query),
            auth_dbname: self.auth_dbname.or(below.auth_dbname),
            auth_cache_s: self.auth_cache_s.or(below.auth_cache_s),
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
            connections_max: self.connections_max.or(below.connections_max),
            statement_bytes_max: self.statement_bytes_max.or(below.statement_bytes_max),
            held_bytes_max: self.held_bytes_max.or(below.held_bytes_max),
            pipeline_max: self.pipeline_max.or(below.pipeline_max),
            startup_timeout_s: self.startup_timeout_s.or(below.startup_timeout_s),
            authentication_timeout_s: self.authentication_timeout_s.or(below.authentication_timeout_s),
            connect_timeout_s: self.connect_timeout_s.or(below.connect_timeout_s),
            cancel_timeout_s: self.cancel_timeout_s.or(below.cancel_timeout_s),
            keepalive_s: self.keepalive_s.or(below.keepalive_s),
            drain_timeout_s: self.drain_timeout_s.or(below.drain_timeout_s),
            threads: self.threads.or(below.threads),
        }
    }

    /// Validates everything but the policy and the contents of TLS's files.
    pub fn resolve(self) -> Result<Settings, String> {
        let listen = if self.listen.is_empty() {
            vec![LISTEN_DEFAULT.to_string()]
        } else {
            self.listen
        };
        let mut addresses = Vec::new();
        for text in &listen {
            let address = Address::parse("listen", text, LISTEN_PORT)?;
            if addresses.contains(&address) {
                return Err(format!("listen: {text} is given twice"));
            }
            addresses.push(address);
        }
        let upstream = self.upstream.ok_or(
            "upstream is not set: where is the PostgreSQL server? Give --upstream HOST:PORT or --upstream /socket/directory",
        )?;
        let server = Address::parse("upstream", &upstream, UPSTREAM_PORT)?;
        if server.port() == 0 {
            return Err(format!(
                "upstream: {upstream} has port 0; a PostgreSQL server's is 5432 as a rule"
            ));
        }
        if addresses.contains(&server) {
            return Err(format!(
                "upstream: {upstream} is where lockkeeper itself listens; give the PostgreSQL server's address"
            ));
        }
        let client_tls = client_tls(self.client_tls, self.tls_cert, self.tls_key, self.tls_client_ca)?;
        let upstream_tls = upstream_tls(self.upstream_tls, self.upstream_ca, self.upstream_tls_name, &server)?;
        let query = auth_query(self.auth_user, self.auth_query, self.auth_dbname, self.auth_cache_s)?;
        let auth = auth(self.auth, self.auth_file, query)?;
        let admin = admin(self.admin, self.admin_token_file, self.admin_host)?;
        if admin.as_ref().is_some_and(|admin| listen.contains(&admin.listen)) {
            return Err("admin: the same address as in listen; give it a port of its own".into());
        }
        let console = console(self.console_users, self.console_database, self.console_auth_database)?;
        let control = self.control_dsn.as_deref().map(control).transpose()?;
        let audit = audit(
            self.audit,
            self.audit_fsync,
            self.audit_rotate_bytes,
            self.audit_rotate_s,
        )?;
        let default = Limits::default();
        let limits = Limits {
            connections_max: count(
                "connections-max",
                self.connections_max,
                1,
                1_000_000,
                default.connections_max,
            )?,
            statement_bytes_max: count(
                "statement-bytes-max",
                self.statement_bytes_max,
                1 << 10,
                1 << 30,
                default.statement_bytes_max,
            )?,
            held_bytes_max: count(
                "held-bytes-max",
                self.held_bytes_max,
                1 << 10,
                1 << 40,
                default.held_bytes_max,
            )?,
            pipeline_max: count(
                "pipeline-max",
                self.pipeline_max,
                PIPELINE_LEAST,
                1_000_000_000,
                default.pipeline_max,
            )?,
            startup_timeout: timeout("startup-timeout-s", self.startup_timeout_s, 1, default.startup_timeout)?,
            authentication_timeout: timeout(
                "authentication-timeout-s",
                self.authentication_timeout_s,
                1,
                default.authentication_timeout,
            )?,
            connect_timeout: timeout("connect-timeout-s", self.connect_timeout_s, 1, default.connect_timeout)?,
            cancel_timeout: timeout("cancel-timeout-s", self.cancel_timeout_s, 1, default.cancel_timeout)?,
            keepalive: timeout("keepalive-s", self.keepalive_s, 1, default.keepalive)?,
            drain_timeout: timeout("drain-timeout-s", self.drain_timeout_s, 0, default.drain_timeout)?,
            threads: count("threads", self.threads, 0, 1_024, default.threads)?,
        };
        Ok(Settings {
            proxy: Config {
                listen: addresses.iter().map(Address::text).collect(),
                reuse_port: self.reuse_port.unwrap_or(false),
                upstream: server.upstream(),
                audit,
                client_tls,
                upstream_tls,
                auth,
                console,
                control,
                limits,
            },
            admin,
            policy: self.policy.unwrap_or_else(|| "standard".into()),
            log_format: self.log_format.unwrap_or_default(),
            log_level: log_level(self.log_level)?,
        })
    }
}

fn either(these: Vec<String>, below: Vec<String>) -> Vec<String> {
    if these.is_empty() { below } else { these }
}

/// An embedded policy by its name, else the file of that name.
pub fn load_policy(name: &str) -> Result<Policy, String> {
    let rule_names = rule_names();
    if POLICIES.contains(&name) {
        return Policy::embedded(name, &rule_names)
            .ok_or_else(|| format!("policy: the built-in policy `{name}` does not fit this program's rules"));
    }
    match std::fs::read_to_string(name) {
        Ok(text) => Policy::parse(&text, name, &rule_names),
        Err(error) if error.kind() == ErrorKind::NotFound && !name.contains(['/', '.']) => {
            let near = did_you_mean(name, &POLICIES);
            Err(format!(
                "policy: there is neither a built-in policy nor a file `{name}`{near}"
            ))
        }
        Err(error) => Err(format!("policy: cannot read {name}: {error}")),
    }
}

pub fn rule_names() -> Vec<&'static str> {
    RULES.iter().map(|rule| rule.name).collect()
}

/// `, did you mean `b`?`, or the list of what there is where nothing is near.
pub fn did_you_mean(word: &str, names: &[&str]) -> String {
    let nearest = names
        .iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&word.to_lowercase().replace('_', "-"), name),
                name,
            )
        })
        .min();
    match nearest {
        Some((distance, name)) if distance <= 2.max(name.len() / 3) => format!(", did you mean `{name}`?"),
        _ => format!("; there are: {}", names.join(", ")),
    }
}

fn keys() -> Vec<&'static str> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        options: Options,
    }
    let flags = Flags::command();
    let names = flags.get_arguments().filter_map(|argument| argument.get_long());
    // Names of flags are literals; they are leaked once, on the way to an error that ends the program.
    names.map(|name| &*name.to_string().leak()).collect()
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts, as [\"a\", \"b\"]")]
    enum Listen {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Listen::deserialize(deserializer)? {
        Listen::One(address) => vec![address],
        Listen::Several(addresses) => addresses,
    })
}

fn client_tls(
    mode: Option<ClientTlsMode>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<ClientTls>, String> {
    let required = match mode {
        Some(ClientTlsMode::Disable) => return Ok(None),
        Some(mode) => mode == ClientTlsMode::Require,
        None => false,
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(ClientTls {
            required,
            cert,
            key,
            client_ca,
        })),
        (Some(_), None) => Err("tls-key is not set: tls-cert needs its private key".into()),
        (None, Some(_)) => Err("tls-cert is not set: tls-key is the key of a certificate".into()),
        (None, None) if mode.is_some() => {
            Err("tls-cert and tls-key are not set: client-tls needs a certificate and its key".into())
        }
        (None, None) if client_ca.is_some() => {
            Err("tls-client-ca is set without TLS for clients: give tls-cert and tls-key too".into())
        }
        (None, None) => Ok(None),
    }
}

fn upstream_tls(
    mode: Option<UpstreamTlsMode>,
    ca: Option<PathBuf>,
    name: Option<String>,
    server: &Address,
) -> Result<Option<UpstreamTls>, String> {
    let verify = match (mode, ca) {
        (None, Some(_)) => {
            return Err("upstream-ca is set without upstream-tls: give --upstream-tls verify-full too".into());
        }
        (None | Some(UpstreamTlsMode::Disable), _) => return Ok(None),
        (Some(UpstreamTlsMode::Require), None) => Verify::Nothing,
        (Some(UpstreamTlsMode::Require), Some(_)) => {
            return Err("upstream-ca is not looked at with upstream-tls require; give verify-ca or verify-full".into());
        }
        (Some(UpstreamTlsMode::VerifyCa), Some(ca)) => Verify::Ca(ca),
        (Some(UpstreamTlsMode::VerifyFull), Some(ca)) => Verify::Full(ca),
        (Some(UpstreamTlsMode::VerifyCa | UpstreamTlsMode::VerifyFull), None) => {
            return Err("upstream-ca is not set: verify-ca and verify-full need the certificate to trust".into());
        }
    };
    match server {
        Address::Tcp { host, .. } => Ok(Some(UpstreamTls {
            verify,
            name: name.unwrap_or_else(|| host.clone()),
        })),
        Address::Unix { .. } => {
            Err("upstream-tls: PostgreSQL has no TLS on a Unix socket; give HOST:PORT, or disable".into())
        }
    }
}

fn auth(mode: Option<AuthMode>, file: Option<PathBuf>, query: Option<AuthQuery>) -> Result<Auth, String> {
    match mode {
        Some(AuthMode::Scram) if file.is_none() && query.is_none() => Err(
            "auth-file is not set: auth scram needs the users' verifiers; give --auth-file, or --auth-user to ask the server for \
             them"
                .into(),
        ),
        Some(AuthMode::Scram) => Ok(Auth::Scram { file, query }),
        None if file.is_some() => Err("auth-file is set, but not looked at without auth scram: give --auth scram too".into()),
        None if query.is_some() => Err("auth-user is set, but not looked at without auth scram: give --auth scram too".into()),
        None | Some(AuthMode::Passthrough) => Ok(Auth::PassThrough),
    }
}

/// `audit serve` has these as well.
pub fn admin(listen: Option<String>, token_file: Option<PathBuf>, hosts: Vec<String>) -> Result<Option<Admin>, String> {
    let Some(listen) = listen else {
        return match token_file {
            Some(_) => Err("admin-token-file is set without an address: give --admin 127.0.0.1:6433 too".into()),
            None if !hosts.is_empty() => Err("admin-host is set without an address: give --admin too".into()),
            None => Ok(None),
        };
    };
    let address = Address::parse("admin", &listen, ADMIN_PORT)?;
    if matches!(address, Address::Unix { .. }) {
        return Err("admin: browsers reach no Unix socket; give HOST:PORT".into());
    }
    let listen = address.text();
    if token_file.is_none() && !is_loopback(&listen) {
        return Err(format!(
            "admin-token-file is not set: {listen} can be reached from other machines, so a token is needed; \
             make one with: umask 077; openssl rand -hex 32 > token"
        ));
    }
    Ok(Some(Admin {
        listen,
        token_file,
        hosts,
    }))
}

/// True if every address that the name stands for is this machine's own.
pub fn is_loopback(listen: &str) -> bool {
    use std::net::ToSocketAddrs;
    let addresses: Vec<std::net::SocketAddr> = listen.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback())
}

fn console(
    users: Vec<String>,
    database: Option<String>,
    auth_database: Option<String>,
) -> Result<Option<Console>, String> {
    if users.is_empty() {
        return match database.or(auth_database) {
            Some(_) => Err("console-users is not set: without it nobody may connect to the console".into()),
            None => Ok(None),
        };
    }
    let database = database.unwrap_or_else(|| "lockkeeper".into());
    let auth_database = auth_database.unwrap_or_else(|| "postgres".into());
    if database == auth_database {
        return Err(format!(
            "console-auth-database: {database} is the console itself; name a real database that its users may connect to"
        ));
    }
    Ok(Some(Console {
        users,
        database,
        auth_database,
    }))
}

fn control(dsn: &str) -> Result<Control, String> {
    let config: tokio_postgres::Config = dsn.parse().map_err(|error| {
        // Its text may hold the password.
        let _: tokio_postgres::Error = error;
        "control-dsn: it cannot be read; write \"user=… password=… dbname=…\"".to_owned()
    })?;
    if !config.get_hosts().is_empty() || !config.get_ports().is_empty() {
        return Err("control-dsn: leave host and port out; it is always the upstream's".into());
    }
    match (config.get_user(), config.get_dbname()) {
        (None, _) => Err("control-dsn: user is missing".into()),
        (_, None) => Err("control-dsn: dbname is missing".into()),
        _ => Ok(Control(config)),
    }
}

fn audit(
    path: Option<PathBuf>,
    fsync: Option<Fsync>,
    bytes: Option<u64>,
    seconds: Option<u64>,
) -> Result<Option<Sink>, String> {
    let bytes = bytes.filter(|bytes| *bytes > 0);
    if let Some(bytes) = bytes.filter(|bytes| *bytes < AUDIT_ROTATE_BYTES_MIN) {
        return Err(format!(
            "audit-rotate-bytes: {bytes} is less than a few lines need; give {AUDIT_ROTATE_BYTES_MIN} at least, or 0 for never"
        ));
    }
    let seconds = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    match path {
        Some(path) => Ok(Some(Sink {
            path,
            fsync: fsync.unwrap_or_default(),
            rotate_bytes: bytes,
            rotate_after: seconds,
        })),
        None if fsync.is_some() || bytes.is_some() || seconds.is_some() => {
            Err("audit is not set: audit-fsync and audit-rotate-… are about the file that it names".into())
        }
        None => Ok(None),
    }
}

fn auth_query(
    user: Option<String>,
    sql: Option<String>,
    database: Option<String>,
    cache_s: Option<u64>,
) -> Result<Option<AuthQuery>, String> {
    let Some(user) = user else {
        let given = [
            (sql.is_some(), "auth-query"),
            (database.is_some(), "auth-dbname"),
            (cache_s.is_some(), "auth-cache-s"),
        ];
        return match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(format!(
                "{name} is set without auth-user: give --auth-user, the role that asks"
            )),
            None => Ok(None),
        };
    };
    let query = AuthQuery {
        user,
        sql: sql.unwrap_or_else(|| AUTH_QUERY_DEFAULT.into()),
        database: database.unwrap_or_else(|| AUTH_DBNAME_DEFAULT.into()),
        cache_time: timeout("auth-cache-s", cache_s, 0, AUTH_CACHE_DEFAULT)?,
        password: auth_password()?,
    };
    for (name, text) in [
        ("auth-user", &query.user),
        ("auth-query", &query.sql),
        ("auth-dbname", &query.database),
    ] {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{name}: it is empty, or has a NUL byte in it"));
        }
    }
    if !query.sql.contains("$1") {
        return Err("auth-query: it has no $1, which stands for the name that is asked for".into());
    }
    Ok(Some(query))
}

fn auth_password() -> Result<Option<Secret>, String> {
    let password = std::env::var_os(AUTH_PASSWORD_VARIABLE).filter(|password| !password.is_empty());
    let text = password.map(std::ffi::OsString::into_string).transpose();
    let text = text.map_err(|_| format!("{AUTH_PASSWORD_VARIABLE}: it is not UTF-8"))?;
    Ok(text.map(Secret::new))
}

fn count(name: &str, value: Option<u64>, least: u64, most: u64, default: usize) -> Result<usize, String> {
    match value {
        None => Ok(default),
        Some(value) if (least..=most).contains(&value) => {
            usize::try_from(value).map_err(|_| format!("{name}: {value} is too large for this machine"))
        }
        Some(value) => Err(format!(
            "{name}: {value} is out of range; it goes from {least} to {most}"
        )),
    }
}

fn timeout(name: &str, seconds: Option<u64>, least: u64, default: Duration) -> Result<Duration, String> {
    match seconds {
        None => Ok(default),
        Some(seconds) if (least..=TIMEOUT_S_MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => {
            let range = format!("it goes from {least} to {TIMEOUT_S_MAX} seconds");
            Err(format!("{name}: {seconds} is out of range; {range}"))
        }
    }
}

fn log_level(level: Option<String>) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = level.unwrap_or_else(|| "info".into());
    // A filter takes any word as the name of a module, so that `inof` would silence everything.
    if !level.contains('=') && !LEVELS.contains(&level.as_str()) {
        return Err(format!(
            "log-level: unknown level `{level}`{}",
            did_you_mean(&level, &LEVELS)
        ));
    }
    tracing_subscriber::EnvFilter::try_new(&level).map_err(|error| format!("log-level: {level}: {error}"))?;
    Ok(level)
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// The directory of the socket.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

impl Address {
    fn parse(name: &str, text: &str, default_port: u16) -> Result<Address, String> {
        let wrong = |why: &str| format!("{name}: `{text}` {why}");
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("is empty; write HOST:PORT or a socket directory"));
        }
        if text.contains("://") || text.contains('@') {
            return Err(wrong(
                "looks like a connection URL; write only HOST:PORT (user and password come from the client)",
            ));
        }
        if text.starts_with('/') {
            return Address::unix(text, default_port).map_err(|why| wrong(&why));
        }
        if text.parse::<u16>().is_ok() {
            return Err(wrong(&format!("is only a port; write 127.0.0.1:{text}")));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Address::tcp(text, default_port));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| wrong("has no closing `]`"))?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| wrong("has no IPv6 address between `[` and `]`"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(wrong("has something other than `:PORT` after the `]`")),
                }
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let bracketed = text.starts_with('[');
        if host.is_empty() {
            return Err(wrong(
                "has no host; write 127.0.0.1 for this machine only, 0.0.0.0 for every interface",
            ));
        }
        if host == "*" {
            return Err(wrong(
                "has `*` as the host; write 0.0.0.0, or [::], for every interface",
            ));
        }
        if !bracketed && host.contains(':') {
            return Err(wrong("has several colons; write an IPv6 address as [::1]:PORT"));
        }
        let letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !bracketed && !host.chars().all(letter) {
            return Err(wrong("is not HOST:PORT, and a socket directory starts with `/`"));
        }
        let port = match port {
            Some(port) => port_number(port).map_err(|why| wrong(&why))?,
            None => default_port,
        };
        Ok(Address::tcp(host, port))
    }

    fn tcp(host: &str, port: u16) -> Address {
        let host = host.to_ascii_lowercase();
        Address::Tcp { host, port }
    }

    fn unix(text: &str, default_port: u16) -> Result<Address, String> {
        // The socket itself is understood too: people copy it from an error message.
        let (directory, port) = match text.rsplit_once("/.s.PGSQL.").or_else(|| text.rsplit_once(':')) {
            Some((directory, port)) => (directory, port_number(port)?),
            None => (text, default_port),
        };
        if port == 0 {
            return Err("has port 0; a socket's name needs a number, such as :5432".into());
        }
        let directory = PathBuf::from(if directory.is_empty() { "/" } else { directory });
        let length = socket(&directory, port).as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "makes a socket path of {length} bytes; the system takes {SOCKET_PATH_BYTES_MAX} at most"
            ));
        }
        Ok(Address::Unix { directory, port })
    }

    fn port(&self) -> u16 {
        match self {
            Address::Tcp { port, .. } | Address::Unix { port, .. } => *port,
        }
    }

    fn upstream(self) -> Upstream {
        match self {
            Address::Tcp { host, port } => Upstream::Tcp { host, port },
            Address::Unix { directory, port } => Upstream::Unix(socket(&directory, port)),
        }
    }

    fn text(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix { directory, port } => format!("{}:{port}", directory.display()),
        }
    }
}

fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn port_number(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("has `{text}` for a port; a port is a number up to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Result<String, String> {
        Address::parse("listen", text, LISTEN_PORT).map(|address| address.text())
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| assert_eq!(listen(text).as_deref(), Ok(expect), "{text}");
        check("127.0.0.1:6433", "127.0.0.1:6433");
        check("LOCALHOST", "localhost:6432");
        check("[::1]:6433", "[::1]:6433");
        check("[::1]", "[::1]:6432");
        check("::1", "[::1]:6432");
        check("db-1.example_x.com:1", "db-1.example_x.com:1");
        check("/run/lockkeeper", "/run/lockkeeper:6432");
        check("/run/lockkeeper:7000", "/run/lockkeeper:7000");
        check("/run/lockkeeper/.s.PGSQL.7000", "/run/lockkeeper:7000");
        check("127.0.0.1:0", "127.0.0.1:0");
    }

    #[test]
    fn wrong_addresses_say_what_to_write() {
        let check = |text: &str, expect: &str| {
            let error = listen(text).expect_err(text);
            assert!(error.starts_with("listen: `") && error.contains(expect), "{error}");
        };
        check("", "is empty");
        check("6432", "write 127.0.0.1:6432");
        check(":6432", "no host");
        check("*:6432", "0.0.0.0");
        check("a:b", "`b` for a port");
        check("a:+1", "`+1` for a port");
        check("a:65536", "up to 65535");
        check("a:", "`` for a port");
        check("::1:x", "several colons");
        check("[::1", "no closing `]`");
        check("[x]:1", "no IPv6 address");
        check("[::1]x", "other than `:PORT`");
        check("postgres://u@h/db", "connection URL");
        check("a b:1", "not HOST:PORT");
        check("run/lockkeeper", "starts with `/`");
        check("/run:0", "port 0");
        check(&format!("/{}", "x".repeat(100)), "107");
    }

    #[test]
    fn upstreams() {
        let check = |text: &str, expect: Upstream| {
            let address = Address::parse("upstream", text, UPSTREAM_PORT).expect(text);
            assert_eq!(address.upstream(), expect);
        };
        let tcp = |host: &str, port| Upstream::Tcp {
            host: host.into(),
            port,
        };
        check("db", tcp("db", 5432));
        check("[2001:db8::1]:7000", tcp("2001:db8::1", 7000));
        check("/tmp", Upstream::Unix("/tmp/.s.PGSQL.5432".into()));
        check("/tmp:5433", Upstream::Unix("/tmp/.s.PGSQL.5433".into()));
        check("/tmp/.s.PGSQL.5433", Upstream::Unix("/tmp/.s.PGSQL.5433".into()));
    }

    #[test]
    fn a_file_is_read_and_flags_win() {
        let file = Options::parse(
            "listen = [\"a:1\", \"b:2\"]\nupstream = \"db\"\nconnections-max = 7\nconnect-timeout-s = 3\nlog-format = \"json\"",
        )
        .expect("a good file");
        let flags = Options {
            upstream: Some("other:9".into()),
            connections_max: Some(8),
            ..Options::default()
        };
        let settings = flags.over(file).resolve().expect("settings");
        assert_eq!(settings.proxy.listen, ["a:1", "b:2"]);
        assert_eq!(settings.proxy.limits.connections_max, 8);
        assert_eq!(settings.proxy.limits.connect_timeout, Duration::from_secs(3));
        assert_eq!(settings.proxy.limits.drain_timeout, Duration::from_secs(60));
        assert_eq!(settings.log_format, LogFormat::Json);
        assert_eq!(settings.policy, "standard");
        let Upstream::Tcp { host, port } = settings.proxy.upstream else {
            panic!("an address");
        };
        assert_eq!((host.as_str(), port), ("other", 9));
    }

    #[test]
    fn a_wrong_file_names_the_line_and_the_nearest_key() {
        let check = |text: &str, expect: &str| {
            let error = Options::parse(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        check(
            "upstream = \"a\"\nlisten_ = \"b\"",
            "2: unknown key `listen_`, did you mean `listen`?",
        );
        check(
            "\n\nconnections_max = 1",
            "3: unknown key `connections_max`, did you mean `connections-max`?",
        );
        check(
            "zzzzzzzzz = 1",
            "1: unknown key `zzzzzzzzz`; there are: listen, reuse-port, upstream",
        );
        check("# c\n[serve]\nlisten = \"a\"", "2: unknown key `serve`");
        check("threads = \"two\"", "1: invalid type: string \"two\"");
        check("threads = -1", "1: invalid value: integer `-1`");
        check("a = 1\nlisten = ", "2: ");
        check("log-format = \"xml\"", "1: unknown variant `xml`");
        check("listen = 1", "1: a text or a list of texts");
        check("threads = 1\nthreads = 2", "2: duplicate key");
    }

    #[test]
    fn every_flag_is_a_key_of_the_file() {
        assert_eq!(keys().len(), 41);
        for key in keys() {
            // No setting is a table: the key is known, its value is not.
            let error = Options::parse(&format!("{key} = {{}}")).expect_err(key);
            assert!(!error.contains("unknown key"), "{error}");
        }
    }

    /// The help says what the defaults are, and each setting from the file arrives in its place.
    #[test]
    fn every_limit_has_its_default_and_can_be_set() {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            options: Options,
        }
        let limits = |text: &str| {
            let text = format!("upstream = \"db\"\n{text}");
            Options::parse(&text).unwrap().resolve().unwrap().proxy.limits
        };
        let seconds = |time: Duration| time.as_secs() as usize;
        let check = |key: &str, of: &dyn Fn(&Limits) -> usize, default: usize| {
            assert_eq!(of(&limits("")), default, "{key}");
            assert_eq!(of(&limits(&format!("{key} = 12345"))), 12_345, "{key}");
            let flags = Flags::command();
            let flag = flags.get_arguments().find(|flag| flag.get_long() == Some(key));
            let help = flag.and_then(|flag| flag.get_help()).unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {default}]")), "{key}: {help}");
        };
        check("connections-max", &|l| l.connections_max, 10_000);
        check("statement-bytes-max", &|l| l.statement_bytes_max, 16 << 20);
        check("held-bytes-max", &|l| l.held_bytes_max, 64 << 20);
        check("pipeline-max", &|l| l.pipeline_max, 100_000);
        check("startup-timeout-s", &|l| seconds(l.startup_timeout), 15);
        check("authentication-timeout-s", &|l| seconds(l.authentication_timeout), 60);
        check("connect-timeout-s", &|l| seconds(l.connect_timeout), 15);
        check("cancel-timeout-s", &|l| seconds(l.cancel_timeout), 10);
        check("keepalive-s", &|l| seconds(l.keepalive), 60);
        check("drain-timeout-s", &|l| seconds(l.drain_timeout), 60);
    }

    #[test]
    fn wrong_settings_are_told() {
        let check = |change: fn(&mut Options), expect: &str| {
            let mut options = Options {
                upstream: Some("db".into()),
                ..Options::default()
            };
            change(&mut options);
            let error = options.resolve().expect_err(expect);
            assert!(error.contains(expect), "{error}");
        };
        check(|o| o.upstream = None, "upstream is not set");
        check(|o| o.upstream = Some("db:0".into()), "port 0");
        check(
            |o| o.upstream = Some("127.0.0.1:6432".into()),
            "lockkeeper itself listens",
        );
        check(|o| o.listen = vec!["a".into(), "A:6432".into()], "given twice");
        check(
            |o| o.connections_max = Some(0),
            "connections-max: 0 is out of range; it goes from 1 to 1000000",
        );
        check(|o| o.statement_bytes_max = Some(1), "statement-bytes-max: 1 ");
        check(|o| o.held_bytes_max = Some(1), "held-bytes-max: 1 ");
        check(|o| o.pipeline_max = Some(9_999), "pipeline-max: 9999 ");
        check(|o| o.keepalive_s = Some(0), "keepalive-s: 0 ");
        check(|o| o.connect_timeout_s = Some(0), "connect-timeout-s: 0 ");
        check(|o| o.drain_timeout_s = Some(u64::MAX), "drain-timeout-s: ");
        check(
            |o| o.log_level = Some("inof".into()),
            "unknown level `inof`, did you mean `info`?",
        );
        check(|o| o.log_level = Some("a=b=c".into()), "log-level: a=b=c: ");
    }

    #[test]
    fn tls_is_as_the_settings_say() {
        let resolve = |text: &str| {
            let text = format!("upstream = \"DB\"\n{}", text.replace("; ", "\n"));
            let proxy = Options::parse(&text).expect("a good file").resolve()?.proxy;
            Ok::<_, String>((proxy.client_tls, proxy.upstream_tls))
        };
        let client = |required| ClientTls {
            required,
            cert: "c".into(),
            key: "k".into(),
            client_ca: None,
        };
        let files = "tls-cert = 'c'; tls-key = 'k'";
        assert_eq!(resolve(""), Ok((None, None)));
        assert_eq!(resolve(files), Ok((Some(client(false)), None)));
        assert_eq!(resolve(&format!("{files}; client-tls = 'disable'")), Ok((None, None)));
        let required = resolve(&format!("{files}; client-tls = 'require'"));
        assert_eq!(required, Ok((Some(client(true)), None)));
        let upstream = |verify, name: &str| {
            let name = name.into();
            Ok((None, Some(UpstreamTls { verify, name })))
        };
        assert_eq!(resolve("upstream-tls = 'require'"), upstream(Verify::Nothing, "db"));
        assert_eq!(
            resolve("upstream-tls = 'verify-full'; upstream-ca = 'a'; upstream-tls-name = 'n'"),
            upstream(Verify::Full("a".into()), "n")
        );
        let wrong = |text: &str, expect: &str| {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        wrong("tls-cert = 'c'", "tls-key is not set");
        wrong("tls-key = 'k'", "tls-cert is not set");
        wrong("client-tls = 'allow'", "tls-cert and tls-key are not set");
        wrong("tls-client-ca = 'a'", "tls-client-ca is set without TLS");
        wrong("upstream-tls = 'verify-ca'", "upstream-ca is not set");
        wrong("upstream-tls = 'require'; upstream-ca = 'a'", "not looked at");
        wrong("upstream-ca = 'a'", "without upstream-tls");
        let socket = Options::parse("upstream = '/tmp'\nupstream-tls = 'require'").expect("a good file");
        assert!(socket.resolve().is_err_and(|error| error.contains("Unix socket")));
    }

    #[test]
    fn who_authenticates_is_as_the_settings_say() {
        let resolve = |text: &str| {
            let text = format!("upstream = 'db'\n{}", text.replace("; ", "\n"));
            Ok::<_, String>(Options::parse(&text).expect("a good file").resolve()?.proxy.auth)
        };
        assert_eq!(resolve(""), Ok(Auth::PassThrough));
        assert_eq!(resolve("auth = 'passthrough'; auth-file = 'f'"), Ok(Auth::PassThrough));
        let file = Some("f".into());
        assert_eq!(
            resolve("auth = 'scram'; auth-file = 'f'"),
            Ok(Auth::Scram { file, query: None })
        );
        let query = |sql: &str, database: &str, cache_s| AuthQuery {
            user: "asker".into(),
            sql: sql.into(),
            database: database.into(),
            cache_time: Duration::from_secs(cache_s),
            password: None,
        };
        let scram = |file, query| {
            Ok(Auth::Scram {
                file,
                query: Some(query),
            })
        };
        assert_eq!(
            resolve("auth = 'scram'; auth-user = 'asker'"),
            scram(None, query(AUTH_QUERY_DEFAULT, "postgres", 30))
        );
        let all = "auth-file = 'f'; auth-user = 'asker'; auth-query = 'SELECT * FROM f($1)'; auth-dbname = 'd'; auth-cache-s = 0";
        assert_eq!(
            resolve(&format!("auth = 'scram'; {all}")),
            scram(Some("f".into()), query("SELECT * FROM f($1)", "d", 0))
        );
        assert_eq!(resolve(&format!("auth = 'passthrough'; {all}")), Ok(Auth::PassThrough));
        let wrong = |text: &str, expect: &str| {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        wrong("auth = 'scram'", "auth-file is not set");
        wrong("auth-file = 'f'", "--auth scram");
        wrong("auth-user = 'asker'", "--auth scram");
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-query = 'SELECT $1'",
            "auth-query is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-dbname = 'd'",
            "auth-dbname is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-cache-s = 1",
            "auth-cache-s is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-user = 'a'; auth-query = 'SELECT 1'",
            "it has no $1",
        );
        wrong("auth = 'scram'; auth-user = ''", "auth-user: it is empty");
        wrong(
            "auth = 'scram'; auth-user = 'a'; auth-cache-s = 86401",
            "auth-cache-s: 86401 is out of range",
        );
    }

    #[test]
    fn policies_are_found_by_name_and_by_file() {
        for name in POLICIES {
            assert_eq!(load_policy(name).map(|policy| policy.name), Ok(name.to_string()));
        }
        let error = load_policy("standrad").expect_err("no such policy");
        assert!(error.contains("did you mean `standard`?"), "{error}");
        let error = load_policy("./none.toml").expect_err("no such file");
        assert!(error.contains("cannot read ./none.toml: No such file"), "{error}");
    }
}
