//! Facts from a live server, for `check --dsn`: the proxy's own catalog query and EXPLAIN, in a transaction that is read only
//! and is rolled back (but for [`super::trials`]). No row of a table is read but to count what goes with a write ([`super::within`]), and no lock is waited for longer
//! than a moment.

use super::conninfo::{Conninfo, Server, Surroundings};
use crate::plan::batches::firing::{self, Firing};
use crate::plan::facts::Facts;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};
use crate::plan::{depends, mixed, path};
use crate::proxy::settings::{UpstreamTls, Verify};
use crate::proxy::tls::{client_config, server_end_point};
use pg_query::NodeEnum;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{self, MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, SimpleQueryMessage, Socket};

/// Where the connection string says nothing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// EXPLAIN waits for a table that is locked, and then goes on without.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
     SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'; SET LOCAL jit = off; SET LOCAL idle_in_transaction_session_timeout = 0";

/// For what makes an empty copy, which is a temporary table.
const BEGIN_APART: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '60s'; SET LOCAL jit = off";

/// Why there is no answer.
pub(super) enum Failed {
    InTime,
    Otherwise,
}

pub struct Live {
    runtime: Runtime,
    client: Client,
    pub schema: String,
    /// What the files have set, as it was sent; empty where nothing was.
    session: String,
    firing: Option<Firing>,
}

impl Live {
    /// `dsn` is a connection string of libpq; the error never tells its password.
    pub fn connect(dsn: &str) -> Result<Live, String> {
        let around = Surroundings {
            variable: &|name| std::env::var(name).ok(),
            home: std::env::var_os("HOME").map(PathBuf::from),
        };
        let conninfo = Conninfo::read(dsn, &around)?;
        let user = conninfo.user(&around)?;
        let servers = conninfo.servers(&user, &around)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut errors = Vec::new();
        for server in &servers {
            match runtime.block_on(connect(&conninfo, server, &user, &around)) {
                Ok(client) => {
                    let mut live = Live {
                        runtime,
                        client,
                        schema: String::new(),
                        session: String::new(),
                        firing: None,
                    };
                    live.simple(BEGIN)?;
                    live.schema = live.value("SELECT pg_catalog.current_schema()")?.unwrap_or_default();
                    return Ok(live);
                }
                Err(error) => errors.push(format!("{}, port {}: {error}", server.host, server.port)),
            }
        }
        Err(errors.join("; "))
    }

    /// What the catalog says now, to a session in which `session` was sent.
    pub fn facts(&mut self, statement: &Statement, session: &str) -> Result<Facts, String> {
        if self.session != session {
            self.simple(session)?;
            session.clone_into(&mut self.session);
        }
        // Only what the path decides is found with it: operators and types of ours are pg_catalog's, whoever has made others.
        let mut request = Request::of(statement);
        // A later statement may be judged by it.
        request.details = true;
        self.simple(&path::to_ours(&request.ahead(), path::CATALOG))?;
        let json = self.value(&request.sql())?.unwrap_or_default();
        self.simple(&path::back(path::CATALOG))?;
        let mut facts = Facts::decode(&json)?;
        // Every operator and type in it is written with its schema.
        if let Some(question) = depends::Question::of(statement) {
            self.simple(&path::to_ours(&question.ahead(), path::CATALOG))?;
            let json = self.value(&question.sql())?.unwrap_or_default();
            self.simple(&path::back(path::CATALOG))?;
            facts.depends = question.decode(&json)?;
        }
        Ok(facts)
    }

    /// Marks an INSERT by which a rule changes other rows, also in a DO block.
    pub fn mark_firing(&mut self, statement: &mut Statement) -> Result<(), String> {
        let is_block = matches!(statement.node, NodeEnum::DoStmt(_));
        if !is_block && (!matches!(statement.kind, Kind::Harmless) || mixed::inserted(&statement.node).is_empty()) {
            return Ok(());
        }
        if self.firing.is_none() {
            self.simple(&path::to_ours(&[], path::CATALOG))?;
            let answer = self.value(firing::SQL)?;
            self.simple(&path::back(path::CATALOG))?;
            self.firing = Some(Firing::decode(answer.as_deref())?);
        }
        let Some(firing) = self
            .firing
            .as_ref()
            .filter(|firing| !firing.is_empty() || firing.has_keys())
        else {
            return Ok(());
        };
        if is_block {
            statement.count_inserts(|inner| firing.concerns(inner));
        } else if firing.concerns(statement) {
            statement.kind = Kind::MixedWrite;
        }
        Ok(())
    }

    /// The planner's plan, as JSON; None if the server cannot say, as where the files have made the table.
    pub fn explain(&mut self, statement: &Statement) -> Result<Option<String>, String> {
        let Some(sql) = statement.explainable() else {
            return Ok(None);
        };
        self.simple("SAVEPOINT lockkeeper_check")?;
        let explained = self.value(&format!("EXPLAIN (FORMAT JSON) {sql}"));
        // With the savepoint EXPLAIN's locks go.
        self.simple("ROLLBACK TO SAVEPOINT lockkeeper_check; RELEASE SAVEPOINT lockkeeper_check")?;
        Ok(explained.ok().flatten())
    }

    /// The first row, without harm to the transaction, and without anything of it that stays.
    pub(super) fn tried(&mut self, ahead: &[String], sql: &str) -> Result<Result<Vec<Option<String>>, Failed>, String> {
        self.simple("SAVEPOINT lockkeeper_check")?;
        let client = &self.client;
        let asked = self.runtime.block_on(async {
            for first in ahead {
                client.batch_execute(first).await?;
            }
            client.simple_query(sql).await
        });
        self.simple("ROLLBACK TO SAVEPOINT lockkeeper_check; RELEASE SAVEPOINT lockkeeper_check")?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(match asked {
            Ok(messages) => Ok(messages.iter().find_map(row).unwrap_or_default()),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Err(Failed::InTime),
            Err(_) => Err(Failed::Otherwise),
        })
    }

    /// The answer to a query behind what is sent ahead, in a transaction that may make temporary tables and is rolled back; or what the
    /// server says instead.
    pub(super) fn apart(&mut self, ahead: &[String], sql: &str) -> Result<Result<Option<String>, String>, String> {
        self.simple("ROLLBACK")?;
        let session = std::mem::take(&mut self.session);
        let asked = self.simple(BEGIN_APART).and_then(|()| {
            self.simple(&session)?;
            for first in ahead {
                self.simple(first)?;
            }
            self.value(sql)
        });
        self.simple("ROLLBACK")?;
        self.simple(BEGIN)?;
        Ok(asked)
    }

    /// With the search_path as it is.
    pub(super) fn facts_as_before(&mut self, statement: &Statement) -> Result<Facts, String> {
        let session = self.session.clone();
        self.facts(statement, &session)
    }

    fn simple(&mut self, sql: &str) -> Result<(), String> {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .map_err(|error| told(&error))
    }

    /// The first column of the first row.
    fn value(&mut self, sql: &str) -> Result<Option<String>, String> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(sql))
            .map_err(|error| told(&error))?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        }))
    }
}

async fn connect(
    conninfo: &Conninfo,
    server: &Server,
    user: &str,
    around: &Surroundings<'_>,
) -> Result<Client, String> {
    let config = config(conninfo, server, user)?;
    let tls = Tls {
        config: Arc::new(tls_config(conninfo, server, around)?),
    };
    let (client, connection) = config.connect(tls).await.map_err(|error| told(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

fn config(conninfo: &Conninfo, server: &Server, user: &str) -> Result<Config, String> {
    let mut config = Config::new();
    config
        .user(user)
        .dbname(conninfo.dbname(user))
        .port(server.port)
        .host(&server.host);
    config.application_name(conninfo.get("application_name").unwrap_or("lockkeeper check"));
    if let Some(address) = &server.hostaddr {
        let address = address
            .parse()
            .map_err(|_| format!("hostaddr: `{address}` is no IP address"))?;
        config.hostaddr(address);
    }
    if let Some(password) = &server.password {
        config.password(password);
    }
    if let Some(options) = conninfo.get("options") {
        config.options(options);
    }
    let timeout = match conninfo.get("connect_timeout") {
        Some(seconds) => seconds
            .parse()
            .map_err(|_| format!("connect_timeout: `{seconds}` is no number"))?,
        None => CONNECT_TIMEOUT.as_secs(),
    };
    if timeout > 0 {
        config.connect_timeout(Duration::from_secs(timeout));
    }
    config.ssl_mode(match conninfo.get("sslmode") {
        Some("disable") => SslMode::Disable,
        None | Some("allow" | "prefer") => SslMode::Prefer,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        Some(other) => {
            return Err(format!(
                "sslmode: `{other}` is none of disable, allow, prefer, require, verify-ca, verify-full"
            ));
        }
    });
    config.ssl_negotiation(match conninfo.get("sslnegotiation") {
        None | Some("postgres") => SslNegotiation::Postgres,
        Some("direct") => SslNegotiation::Direct,
        Some(other) => return Err(format!("sslnegotiation: `{other}` is neither postgres nor direct")),
    });
    config.channel_binding(match conninfo.get("channel_binding") {
        Some("disable") => ChannelBinding::Disable,
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("require") => ChannelBinding::Require,
        Some(other) => {
            return Err(format!(
                "channel_binding: `{other}` is none of disable, prefer, require"
            ));
        }
    });
    config.target_session_attrs(match conninfo.get("target_session_attrs") {
        None | Some("any") => TargetSessionAttrs::Any,
        Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
        Some("read-only" | "standby") => TargetSessionAttrs::ReadOnly,
        Some(other) => {
            return Err(format!(
                "target_session_attrs: `{other}` is not supported by lockkeeper check"
            ));
        }
    });
    Ok(config)
}

/// As libpq: `require` verifies too where there is a file of roots.
fn tls_config(conninfo: &Conninfo, server: &Server, around: &Surroundings) -> Result<ClientConfig, String> {
    let of_home = |name: &str| around.home.as_ref().map(|home| home.join(".postgresql").join(name));
    let default = |name: &str| of_home(name).filter(|path| path.is_file());
    let roots = match conninfo.get("sslrootcert") {
        Some("system") => Some(system_roots()?),
        Some(path) => Some(PathBuf::from(path)),
        None => default("root.crt"),
    };
    let verify = match (conninfo.get("sslmode"), roots) {
        (Some("verify-ca" | "verify-full"), None) => {
            return Err("sslmode asks to verify the server: name the file of its CA with sslrootcert=FILE".to_string());
        }
        (Some("verify-full"), Some(roots)) => Verify::Full(roots),
        (Some("verify-ca"), Some(roots)) => Verify::Ca(roots),
        (Some("require"), Some(roots)) if roots.is_file() => Verify::Ca(roots),
        _ => Verify::Nothing,
    };
    let cert = conninfo
        .get("sslcert")
        .map(PathBuf::from)
        .or_else(|| default("postgresql.crt"));
    let key = conninfo
        .get("sslkey")
        .map(PathBuf::from)
        .or_else(|| default("postgresql.key"));
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some(identity(&cert, &key)?),
        _ => None,
    };
    let settings = UpstreamTls {
        verify,
        name: server.host.clone(),
    };
    client_config(&settings, true, identity).map_err(|error| error.replacen("upstream-ca", "sslrootcert", 1))
}

fn system_roots() -> Result<PathBuf, String> {
    let files = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    let found = files.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| "sslrootcert=system: this system has no file of CA certificates".to_string())
}

fn identity(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let told = |setting: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("{setting}: {} cannot be used: {error}", path.display())
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|error| told("sslcert", cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| told("sslkey", key, &error))?;
    Ok((chain, key))
}

/// With what caused it: the server's own message, a certificate that cannot be verified.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_string();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
}

struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

struct Encrypted(tokio_rustls::client::TlsStream<Socket>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = String;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, String> {
        // Over a socket in the file system there is no TLS, and its directory is no name.
        let name = ServerName::try_from(host.to_string()).or_else(|_| ServerName::try_from("localhost"));
        Ok(Handshake {
            config: Arc::clone(&self.config),
            name: name.map_err(|error| error.to_string())?,
        })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            connector.connect(self.name, stream).await.map(Encrypted)
        })
    }
}

impl tls::TlsStream for Encrypted {
    fn channel_binding(&self) -> tls::ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        match certificates.and_then(|certificates| server_end_point(certificates.first()?)) {
            Some(hash) => tls::ChannelBinding::tls_server_end_point(hash),
            None => tls::ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
