//! A connection of the rewrite's own, straight to the server: what it sends is never judged, and never cut into parts.

use crate::jobs::{Server, quiet_policy, target};
use crate::plan::jobs::{self, JobSql};
use crate::plan::splice::{quote_ident, quote_literal};
use crate::proxy::InProcess;
use std::collections::BTreeMap;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Why something was not done.
#[derive(Debug)]
pub struct Fault {
    /// The server's SQLSTATE.
    pub code: Option<String>,
    pub text: String,
}

impl From<String> for Fault {
    fn from(text: String) -> Fault {
        Fault { code: None, text }
    }
}

impl Fault {
    fn is(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }

    /// A value does not fit, or a row violates a constraint.
    pub fn is_of_the_rows(&self) -> bool {
        (self.code.as_deref()).is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }

    /// Another session was in the way: lock_not_available, deadlock_detected, serialization_failure.
    pub fn is_in_the_way(&self) -> bool {
        self.is(&["55P03", "40P01", "40001"])
    }

    /// query_canceled: by a pause, by `jobs cancel`, or by anybody who may.
    pub fn is_cancelled(&self) -> bool {
        self.is(&["57014"])
    }

    /// The server said so; else the connection has gone, and nothing can be written.
    pub fn is_the_servers(&self) -> bool {
        self.code
            .as_deref()
            .is_some_and(|code| !code.starts_with("57P") && !code.starts_with("08"))
    }
}

pub type Row = Vec<Option<String>>;

pub struct Link {
    client: Client,
    pub pid: i32,
    /// The login's own.
    pub search_path: String,
}

/// What our statements are read with, and what no limit of the role's is to end.
const SET_UP: &str = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; \
     SET default_transaction_deferrable = off; SET standard_conforming_strings = on; SET quote_all_identifiers = off; SET client_min_messages = warning; \
     SET max_parallel_workers_per_gather = 0; SET jit = off; \
     SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s WHERE s.name IN ('transaction_timeout', 'idle_session_timeout')";

impl Link {
    pub async fn open(server: &Server) -> Result<Link, String> {
        let (mut config, upstream, tls) = target(server)?;
        let stream = InProcess::new(upstream, tls.as_ref(), quiet_policy()?, None)?
            .straight()
            .await?;
        // Encryption is the stream's.
        config.ssl_mode(SslMode::Disable).application_name("lockkeeper rewrite");
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| crate::jobs::explain(&error))?;
        tokio::spawn(connection);
        let mut link = Link {
            client,
            pid: 0,
            search_path: String::new(),
        };
        let about = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path')";
        let mut row = link
            .rows(about)
            .await
            .map_err(|fault| fault.text)?
            .pop()
            .unwrap_or_default()
            .into_iter();
        link.pid = row
            .next()
            .flatten()
            .and_then(|pid| pid.parse().ok())
            .ok_or("the server does not tell its process")?;
        link.search_path = row.next().flatten().unwrap_or_default();
        link.run(SET_UP).await.map_err(|fault| fault.text)?;
        Ok(link)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All rows of a simple query, which may be several statements.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Row>, Fault> {
        let messages = self.client.simple_query(sql).await.map_err(|error| Fault {
            code: error.code().map(|code| code.code().to_owned()),
            text: crate::jobs::explain(&error),
        })?;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// How many rows the last statement changed.
    pub async fn run(&self, sql: &str) -> Result<u64, Fault> {
        let messages = self.client.simple_query(sql).await.map_err(|error| Fault {
            code: error.code().map(|code| code.code().to_owned()),
            text: crate::jobs::explain(&error),
        })?;
        let count = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(*count),
            _ => None,
        };
        Ok(messages.iter().rev().find_map(count).unwrap_or_default())
    }

    /// All of them in one message.
    pub async fn run_all(&self, statements: &[String]) -> Result<(), Fault> {
        self.run(&statements.join(";\n")).await.map(|_| ())
    }

    /// The first column of the last row.
    pub async fn one(&self, sql: &str) -> Result<Option<String>, Fault> {
        Ok(self
            .rows(sql)
            .await?
            .pop()
            .and_then(|row| row.into_iter().next().flatten()))
    }

    pub async fn is(&self, sql: &str) -> Result<bool, Fault> {
        Ok(self.one(sql).await?.as_deref() == Some("t"))
    }

    /// Decoded from one value of JSON.
    pub async fn json<T: serde::de::DeserializeOwned>(&self, sql: &str) -> Result<Option<T>, Fault> {
        match self.one(sql).await? {
            Some(json) => serde_json::from_str(&json)
                .map(Some)
                .map_err(|error| format!("the server's answer cannot be read: {error}").into()),
            None => Ok(None),
        }
    }

    /// Within a transaction that goes on: the guards of the table of jobs, the statement, and back to what the rows of tables are read with.
    pub async fn job_row(&self, sql: &JobSql) -> Result<Vec<Row>, Fault> {
        let rows = self.rows(&sql.guarded()).await?;
        self.run("SET LOCAL row_security = off").await?;
        Ok(rows)
    }

    /// Outside of one.
    pub async fn job(&self, sql: &JobSql) -> Result<Vec<Row>, Fault> {
        self.rows(&sql.guarded()).await
    }

    pub async fn rollback(&self) {
        // Where the connection has gone, so has the transaction.
        let _ = self.run("ROLLBACK").await;
    }

    /// Err: why this session must not read or write the table of jobs.
    pub async fn may_keep_jobs(&self) -> Result<(), Fault> {
        let table = self.one(jobs::TRUST).await?;
        match jobs::out_of_use(table.as_deref(), "this database") {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }

    /// As the table's owner, with whose rights all is done. Code of the owner's would otherwise run in a superuser's session.
    pub async fn become_role(&self, owner: &str) -> Result<(), Fault> {
        let quoted = quote_literal(owner);
        let sql = format!(
            "SELECT CASE WHEN current_user = {quoted} THEN 'same' WHEN (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) \
             AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = {quoted}) THEN 'above' ELSE 'other' END"
        );
        match self.one(&sql).await?.as_deref() {
            Some("same") => Ok(()),
            Some("above") => Err(format!(
                "the table belongs to {owner}: connect as {owner}, or as a member of {owner} that is no superuser; code of {owner}'s would \
                 otherwise run in a superuser's session"
            )
            .into()),
            _ => self.run(&format!("SET ROLE {}", quote_ident(owner))).await.map(|_| ()),
        }
    }

    /// The login is a superuser, and that role is none, or is not there any more.
    pub async fn is_above(&self, owner: &str) -> Result<bool, Fault> {
        let of = |name: &str| format!("(SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = {name})");
        let sql = format!(
            "SELECT {} AND NOT coalesce({}, false)",
            of("session_user"),
            of(&quote_literal(owner))
        );
        self.is(&sql).await
    }

    /// What rows are made of is read with the settings that the job began with.
    pub async fn take_settings(&self, settings: &BTreeMap<String, String>) -> Result<(), Fault> {
        for (name, value) in settings.iter().filter(|(name, _)| *name != "search_path") {
            let (name, value) = (quote_literal(name), quote_literal(value));
            self.run(&format!(
                "SELECT set_config(s.name, {value}, false) FROM pg_settings s WHERE s.name = {name} AND s.setting <> {value}"
            ))
            .await?;
        }
        Ok(())
    }
}
