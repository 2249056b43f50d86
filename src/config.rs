//! Settings of `serve`: flags, then LOCKKEEPER_* variables, then the configuration file, then the defaults.
//!
//! One struct, [`Options`], is the flags and the file alike, so a key is spelled as its flag: `connections-max`.
//! [`Options::resolve`] turns it into what the proxy takes; every error is one sentence that names the setting.

mod address;
mod auth;
mod file;
pub mod options;
mod timeout;
mod tls;
mod upstream;
pub mod watching;
mod webhook;

use crate::audit::sink::{Fsync, Sink};
use crate::plan::policy::Policy;
use crate::plan::rules::RULES;
use crate::proxy::forwarded::Trusted;
use crate::proxy::settings::{Config, Limits};
use address::Address;
use auth::{auth, auth_query};
use options::{LogFormat, Options};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use timeout::timeout;
use tls::{client_tls, upstream_tls};
use watching::{Admin, admin, console, control};

/// Built in.
pub const POLICIES: [&str; 3] = ["observe", "standard", "strict"];
const LISTEN_DEFAULT: &str = "127.0.0.1:6432";
const LISTEN_PORT: u16 = 6432;
const AUDIT_ROTATE_BYTES_MIN: u64 = 4 << 10;
/// The server sends its answers on when they fill 8 KB, also without a Sync; so many are more than that.
const PIPELINE_LEAST: u64 = 10_000;

/// What `serve` runs with.
#[derive(Debug)]
pub struct Settings {
    pub proxy: Config,
    pub admin: Option<Admin>,
    /// Where what was used is kept.
    pub state_dir: Option<PathBuf>,
    /// An embedded policy's name or a file, for [`load_policy`].
    pub policy: String,
    pub log_format: LogFormat,
    pub log_level: String,
}

impl Options {
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
        let servers = upstream::servers(&upstream, &addresses)?;
        let client_tls = client_tls(self.client_tls, self.tls_cert, self.tls_key, self.tls_client_ca)?;
        let tls = |server: &Address| {
            upstream_tls(
                self.upstream_tls,
                self.upstream_ca.clone(),
                self.upstream_tls_name.clone(),
                server,
            )
        };
        let upstream = upstream::upstreams(servers, self.target_session_attrs, tls)?;
        let query = auth_query(self.auth_user, self.auth_query, self.auth_dbname, self.auth_cache_s)?;
        let auth = auth(self.auth, self.auth_file, query)?;
        let admin = admin(self.admin, self.admin_token_file, self.admin_host)?;
        if admin.as_ref().is_some_and(|admin| listen.contains(&admin.listen)) {
            return Err("admin: the same address as in listen; give it a port of its own".into());
        }
        let console = console(self.console_users, self.console_database, self.console_auth_database)?;
        let control = self.control_dsn.as_deref().map(control).transpose()?;
        let webhook = webhook::webhook(webhook::Given {
            url: self.webhook,
            secret_file: self.webhook_secret_file,
            ca: self.webhook_ca,
            events: self.webhook_events,
            format: self.webhook_format,
            long_s: self.webhook_long_s,
        })?;
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
            unacknowledged: timeout("unacknowledged-s", self.unacknowledged_s, 1, default.unacknowledged)?,
            drain_timeout: timeout("drain-timeout-s", self.drain_timeout_s, 0, default.drain_timeout)?,
            threads: count("threads", self.threads, 0, 1_024, default.threads)?,
        };
        Ok(Settings {
            state_dir: self.state_dir,
            proxy: Config {
                listen: addresses.iter().map(Address::text).collect(),
                reuse_port: self.reuse_port.unwrap_or(false),
                trusted: Trusted::parse(&self.proxy_protocol_from)?,
                upstream,
                audit,
                client_tls,
                auth,
                console,
                control,
                webhook,
                limits,
            },
            admin,
            policy: self.policy.unwrap_or_else(|| "standard".into()),
            log_format: self.log_format.unwrap_or_default(),
            log_level: log_level(self.log_level)?,
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::settings::Upstream;
    use clap::{CommandFactory, Parser};

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
        let Upstream::Tcp { host, port } = &settings.proxy.upstream.servers[0].address else {
            panic!("an address");
        };
        assert_eq!((host.as_str(), *port), ("other", 9));
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
        check("unacknowledged-s", &|l| seconds(l.unacknowledged), 30);
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
