//! Every setting of `serve`, as a flag, a variable and a key of the file; what is said of it here is its help.

use crate::audit::sink::Fsync;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;

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

    /// Load balancers whose connections begin with the PROXY protocol (version 1 or 2), from which the client's address is taken: addresses or
    /// networks, such as 10.0.0.0/8. May be given several times [default: nobody's]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "LOCKKEEPER_PROXY_PROTOCOL_FROM",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub proxy_protocol_from: Vec<String>,

    /// The PostgreSQL server: HOST:PORT, or a socket directory (/var/run/postgresql, /tmp:5433); the port is 5432 where
    /// none is given. Several, separated by commas, are a primary and its standbys
    #[arg(long, value_name = "ADDRESS", env = "LOCKKEEPER_UPSTREAM", hide_env_values = true)]
    pub upstream: Option<String>,

    /// Which of several servers sessions go to, as libpq has it: any, read-write, read-only, primary, standby, or
    /// prefer-standby [default: read-write with several servers, else any]
    #[arg(
        long,
        value_name = "WHICH",
        env = "LOCKKEEPER_TARGET_SESSION_ATTRS",
        hide_env_values = true
    )]
    pub target_session_attrs: Option<TargetName>,

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
    /// role that is no superuser needs a SECURITY DEFINER function: "SELECT * FROM public.user_lookup($1)" [default: pg_authid]
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

    /// A connection of the proxy's own, to see other sessions' locks while a plan runs, and another to keep with other proxies
    /// who uses what: user, password and dbname, as "user=lockkeeper_watch password=… dbname=app"; the host is the
    /// upstream's
    #[arg(
        long,
        value_name = "DSN",
        env = "LOCKKEEPER_CONTROL_DSN",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub control_dsn: Option<String>,

    /// Tell this URL of what people want to hear of at once: POST with JSON, signed, tried again; never in the way of a session
    /// [default: none]
    #[arg(
        long,
        value_name = "URL",
        env = "LOCKKEEPER_WEBHOOK",
        hide_env_values = true,
        help_heading = "Webhook"
    )]
    pub webhook: Option<String>,

    /// A secret of which each message has a signature (HMAC-SHA256), as a file
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_WEBHOOK_SECRET_FILE",
        hide_env_values = true,
        help_heading = "Webhook"
    )]
    pub webhook_secret_file: Option<PathBuf>,

    /// Whom to trust for https, as a PEM file [default: whom the system trusts]
    #[arg(
        long,
        value_name = "FILE",
        env = "LOCKKEEPER_WEBHOOK_CA",
        hide_env_values = true,
        help_heading = "Webhook"
    )]
    pub webhook_ca: Option<PathBuf>,

    /// What is told of: refused, asked, decided, failed, long, contract, stopped, due [default: all]
    #[arg(
        long,
        value_name = "LIST",
        env = "LOCKKEEPER_WEBHOOK_EVENTS",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = "Webhook"
    )]
    #[serde(deserialize_with = "one_or_several")]
    pub webhook_events: Vec<String>,

    /// How it is written: json, or slack for what takes {"text": …} [default: json]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LOCKKEEPER_WEBHOOK_FORMAT",
        hide_env_values = true,
        help_heading = "Webhook"
    )]
    pub webhook_format: Option<WebhookFormat>,

    /// A plan that has run for so long is told of [default: 300]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_WEBHOOK_LONG_S",
        hide_env_values = true,
        help_heading = "Webhook"
    )]
    pub webhook_long_s: Option<u64>,

    /// Keep in this directory what outlasts a restart: who used which table and column, and when. Of one proxy alone
    /// [default: none, and a restart begins anew]
    #[arg(
        long,
        value_name = "DIR",
        env = "LOCKKEEPER_STATE_DIR",
        hide_env_values = true,
        help_heading = "Seeing what happens"
    )]
    pub state_dir: Option<PathBuf>,

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

    /// Seconds without any acknowledgement, by TCP, of what was sent to the server, after which its session ends: a server that
    /// has vanished [default: 30]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "LOCKKEEPER_UNACKNOWLEDGED_S",
        hide_env_values = true,
        help_heading = "Limits"
    )]
    pub unacknowledged_s: Option<u64>,

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
#[serde(rename_all = "kebab-case")]
pub enum TargetName {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    Json,
    Slack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    Passthrough,
    Scram,
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

impl Options {
    /// What is set here wins over `below`.
    pub fn over(self, below: Options) -> Options {
        Options {
            listen: either(self.listen, below.listen),
            reuse_port: self.reuse_port.or(below.reuse_port),
            proxy_protocol_from: either(self.proxy_protocol_from, below.proxy_protocol_from),
            upstream: self.upstream.or(below.upstream),
            target_session_attrs: self.target_session_attrs.or(below.target_session_attrs),
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
            state_dir: self.state_dir.or(below.state_dir),
            webhook: self.webhook.or(below.webhook),
            webhook_secret_file: self.webhook_secret_file.or(below.webhook_secret_file),
            webhook_ca: self.webhook_ca.or(below.webhook_ca),
            webhook_events: either(self.webhook_events, below.webhook_events),
            webhook_format: self.webhook_format.or(below.webhook_format),
            webhook_long_s: self.webhook_long_s.or(below.webhook_long_s),
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
            unacknowledged_s: self.unacknowledged_s.or(below.unacknowledged_s),
            drain_timeout_s: self.drain_timeout_s.or(below.drain_timeout_s),
            threads: self.threads.or(below.threads),
        }
    }
}

fn either(these: Vec<String>, below: Vec<String>) -> Vec<String> {
    if these.is_empty() { below } else { these }
}
