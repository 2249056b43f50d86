//! What a rewrite sends its statements over: a connection of its own, straight to the server, or the session of a client in the proxy. What is
//! sent is never judged.

use crate::plan::jobs::{self, JobSql};
use crate::plan::splice::{quote_ident, quote_literal};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, SimpleQueryMessage};

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
    way: Way,
    pub pid: i32,
    /// The login's own.
    pub search_path: String,
}

enum Way {
    Own(Client),
    Session(mpsc::UnboundedSender<Request>),
}

/// What the session of a client does for a rewrite.
pub enum Request {
    /// Statements, one behind the other, up to the first error.
    Run(Vec<String>, oneshot::Sender<Result<Answer, Fault>>),
    /// A pause between two steps, which may become longer for others' sake.
    Rest(Duration, oneshot::Sender<Result<Answer, Fault>>),
    /// A pause between two looks or tries for a lock, whether it was a try, and why it was in vain.
    Wait(Duration, bool, String, oneshot::Sender<Result<Answer, Fault>>),
    /// What is done from now on.
    Now(String),
    /// So many rows more are done, of about so many.
    Moved(u64, u64),
}

/// The rows of all statements, and how many the last one changed.
#[derive(Default)]
pub struct Answer {
    pub rows: Vec<Row>,
    pub count: u64,
}

/// What our statements are read with, and what no limit of the role's is to end.
pub const SET_UP: &str = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; \
     SET default_transaction_deferrable = off; SET standard_conforming_strings = on; SET quote_all_identifiers = off; SET client_min_messages = warning; \
     SET max_parallel_workers_per_gather = 0; SET jit = off; \
     SELECT pg_catalog.set_config(s.name, '0', false) FROM pg_catalog.pg_settings s WHERE s.name IN ('transaction_timeout', 'idle_session_timeout')";

/// Its names, and more that a rewrite sets.
pub const CHANGED: &str = "'search_path', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', \
     'default_transaction_read_only', 'default_transaction_isolation', 'default_transaction_deferrable', 'standard_conforming_strings', \
     'quote_all_identifiers', 'client_min_messages', 'max_parallel_workers_per_gather', 'jit', 'transaction_timeout', 'idle_session_timeout', \
     'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin'";

/// The server's words: message, DETAIL and HINT.
fn fault(error: &tokio_postgres::Error) -> Fault {
    let text = error.as_db_error().map_or(error.to_string(), |report| {
        let part = |name: &str, text: Option<&str>| text.map(|text| format!("\n{name}: {text}")).unwrap_or_default();
        let (detail, hint) = (part("DETAIL", report.detail()), part("HINT", report.hint()));
        format!("{}{detail}{hint}", report.message())
    });
    Fault {
        code: error.code().map(|code| code.code().to_owned()),
        text,
    }
}

/// One by one: they end with a semicolon that stands in no parentheses.
fn statements(sql: &str) -> Vec<String> {
    let mut all = Vec::new();
    // The scanner does not take a text without tokens.
    if sql.trim().is_empty() {
        return all;
    }
    let (mut from, mut depth) = (0, 0);
    for token in pg_query::scan_tokens(sql).unwrap_or_default() {
        let (start, end) = (token.start as usize, token.end as usize);
        match sql.get(start..end) {
            Some("(") => depth += 1,
            Some(")") => depth -= 1,
            Some(";") if depth == 0 => {
                all.extend(sql.get(from..start).map(str::to_owned));
                from = end;
            }
            _ => {}
        }
    }
    all.extend(sql.get(from..).map(str::to_owned));
    all.retain(|one| !one.trim().is_empty());
    all
}

impl Link {
    /// Over a connection of our own.
    pub async fn of(client: Client) -> Result<Link, String> {
        let mut link = Link {
            way: Way::Own(client),
            pid: 0,
            search_path: String::new(),
        };
        link.begin().await.map_err(|fault| fault.text)?;
        Ok(link)
    }

    /// None: it is the session of a client.
    pub fn client(&self) -> Option<&Client> {
        match &self.way {
            Way::Own(client) => Some(client),
            Way::Session(_) => None,
        }
    }

    /// Over a client's session, which serves the requests, and has made sure that it can be set back to what it was.
    pub async fn through(session: mpsc::UnboundedSender<Request>) -> Result<Link, Fault> {
        let mut link = Link {
            way: Way::Session(session),
            pid: 0,
            search_path: String::new(),
        };
        link.begin().await?;
        Ok(link)
    }

    async fn begin(&mut self) -> Result<(), Fault> {
        let about = "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('search_path')";
        let mut row = self.rows(about).await?.pop().unwrap_or_default().into_iter();
        let pid = row.next().flatten().and_then(|pid| pid.parse().ok());
        self.pid = pid.ok_or_else(|| "the server does not tell its process".to_owned())?;
        self.search_path = row.next().flatten().unwrap_or_default();
        self.run(SET_UP).await?;
        Ok(())
    }

    async fn ask(&self, sql: &str) -> Result<Answer, Fault> {
        let client = match &self.way {
            Way::Own(client) => client,
            Way::Session(session) => return asked(session, |reply| Request::Run(statements(sql), reply)).await,
        };
        let messages = client.simple_query(sql).await.map_err(|error| fault(&error))?;
        let mut answer = Answer::default();
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => answer
                    .rows
                    .push((0..row.len()).map(|n| row.get(n).map(str::to_owned)).collect()),
                SimpleQueryMessage::CommandComplete(count) => answer.count = count,
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Between two steps.
    pub async fn rest(&self, time: Duration) -> Result<(), Fault> {
        match &self.way {
            Way::Own(_) => tokio::time::sleep(time).await,
            Way::Session(session) => {
                asked(session, |reply| Request::Rest(time, reply)).await?;
            }
        }
        Ok(())
    }

    /// Between two tries for a lock.
    pub async fn wait(&self, time: Duration, why: &str) -> Result<(), Fault> {
        self.wait_for(time, true, why).await
    }

    /// Between two looks at those who are in the way.
    pub async fn look(&self, time: Duration, why: &str) -> Result<(), Fault> {
        self.wait_for(time, false, why).await
    }

    async fn wait_for(&self, time: Duration, is_try: bool, why: &str) -> Result<(), Fault> {
        match &self.way {
            Way::Own(_) => tokio::time::sleep(time).await,
            Way::Session(session) => {
                asked(session, |reply| Request::Wait(time, is_try, why.to_owned(), reply)).await?;
            }
        }
        Ok(())
    }

    pub fn moved(&self, rows: u64, of: u64) {
        if let Way::Session(session) = &self.way {
            let _ = session.send(Request::Moved(rows, of));
        }
    }

    pub fn now(&self, what: &str) {
        if let Way::Session(session) = &self.way {
            let _ = session.send(Request::Now(what.to_owned()));
        }
    }

    /// All rows of a simple query, which may be several statements.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Row>, Fault> {
        Ok(self.ask(sql).await?.rows)
    }

    /// How many rows the last statement changed.
    pub async fn run(&self, sql: &str) -> Result<u64, Fault> {
        Ok(self.ask(sql).await?.count)
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
        if let Way::Own(_) = &self.way {
            return self.rows(&sql.guarded()).await;
        }
        // Several messages make a transaction without a block, in which SET LOCAL warns.
        let rows = self.rows(&format!("BEGIN; {}; COMMIT", sql.guarded())).await;
        if rows.is_err() {
            self.rollback().await;
        }
        rows
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

    /// As the table's owner, with whose rights all is done. The owner can change the job's objects while it runs, and code of the owner's in
    /// another login's session could go back to that login: so they are the same, or nobody else can be the owner.
    pub async fn become_role(&self, owner: &str) -> Result<(), Fault> {
        let row = self.rows(&who_may_be(owner)).await?.pop().unwrap_or_default();
        let mut row = row.into_iter().flatten();
        match (row.next().as_deref(), row.next()) {
            (Some("same"), _) => Ok(()),
            (Some("authorized"), _) => {
                Err("the session has SET SESSION AUTHORIZATION, which whatever it runs could undo: connect as the table's owner".to_owned().into())
            }
            (Some("above"), _) => Err(format!(
                "the table belongs to {owner}: connect as {owner}; code of {owner}'s would otherwise run in a superuser's session"
            )
            .into()),
            (Some("shared"), others) => Err(format!(
                "the table belongs to {owner}, and {} could change what the rewrite runs while it runs, in the session of another login: connect as {owner}, \
                 or give the table to a role that only this login can be",
                others.unwrap_or_else(|| owner.to_owned())
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

/// How this session's login and that role stand to each other, and which other logins can be that role.
fn who_may_be(owner: &str) -> String {
    let owner = quote_literal(owner);
    format!(
        "SELECT CASE WHEN (SELECT a.usesysid FROM pg_stat_get_activity(pg_backend_pid()) a) <> s.oid THEN 'authorized' \
         WHEN s.oid = o.oid OR o.rolsuper THEN CASE WHEN current_user = o.rolname THEN 'same' ELSE 'other' END \
         WHEN s.rolsuper THEN 'above' WHEN o.rolcanlogin OR m.others IS NOT NULL THEN 'shared' \
         WHEN current_user = o.rolname THEN 'same' ELSE 'other' END, m.others \
         FROM pg_roles o CROSS JOIN pg_roles s CROSS JOIN LATERAL (SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) AS others \
         FROM pg_roles r WHERE r.rolcanlogin AND NOT r.rolsuper AND r.oid <> s.oid AND pg_has_role(r.oid, o.oid, 'MEMBER')) m \
         WHERE o.rolname = {owner} AND s.rolname = session_user"
    )
}

/// Err: the session is over, or says so.
async fn asked(
    session: &mpsc::UnboundedSender<Request>,
    request: impl FnOnce(oneshot::Sender<Result<Answer, Fault>>) -> Request,
) -> Result<Answer, Fault> {
    let over = || Fault {
        code: Some("08006".to_owned()),
        text: "the session is over".to_owned(),
    };
    let (reply, answer) = oneshot::channel();
    session.send(request(reply)).map_err(|_| over())?;
    answer.await.unwrap_or_else(|_| Err(over()))
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn statements_one_by_one() {
        let sql = "BEGIN; SELECT 'a;b', \"c;d\"; DO $x$ BEGIN a; b; END $x$ -- ;\n;; COMMIT";
        let all = [
            "BEGIN",
            " SELECT 'a;b', \"c;d\"",
            " DO $x$ BEGIN a; b; END $x$ -- ;\n",
            " COMMIT",
        ];
        assert_eq!(statements(sql), all);
        assert!(statements(" ").is_empty());
    }
}
