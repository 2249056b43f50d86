//! `lockkeeper init` and `lockkeeper jobs`: the table `lockkeeper.job` created, its rows listed, paused, given up, and gone on with.
//!
//! Both reach the server through a proxy within this process, so that a job is resumed by the very code that began it. Start at
//! [`init`] and [`run`].

use crate::plan::jobs::{self, JobSql};
use crate::plan::policy::Policy;
use crate::proxy::InProcess;
use crate::proxy::settings::{Upstream, UpstreamTls, Verify};
use crate::usage::left::Left;
use crate::usage::together;
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

/// Where the server is, and as whom to log in.
#[derive(Args)]
pub struct Server {
    /// The database: "host=db.internal dbname=shop user=app" or postgres://app@db.internal/shop; sslmode=require for TLS. A
    /// password may come from PGPASSWORD
    #[arg(long, value_name = "DSN", env = "LOCKKEEPER_DSN", hide_env_values = true)]
    dsn: String,

    /// TLS, with the server's certificate verified by this PEM file and by its name
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Server {
    pub(crate) fn new(dsn: String, ca: Option<PathBuf>) -> Server {
        Server { dsn, ca }
    }
}

#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    server: Server,

    /// The role of the proxy's --control-dsn: makes lockkeeper.usage too, in which all proxies keep together who used what, and
    /// lockkeeper.told, and lets that role keep them. In the database that --control-dsn names
    #[arg(long, value_name = "ROLE")]
    control_role: Option<String>,
}

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,

    /// text for people, json for programs: one object a job and line
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    format: Format,

    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// List the jobs that are not finished
    List {
        /// And those that are done or were given up
        #[arg(long)]
        all: bool,
    },
    /// Show one job
    Show { id: i64 },
    /// Stop a job after the batch or step that it is at; what is done stays done
    Pause { id: i64 },
    /// Go on with a job here, to its end, after those before it on the same table; Ctrl-C pauses it
    Resume {
        id: i64,
        /// observe, standard, strict, or a TOML file: the batches' size and pauses
        #[arg(
            long,
            value_name = "NAME|FILE",
            default_value = "standard",
            env = "LOCKKEEPER_POLICY"
        )]
        policy: String,
        /// Append what is done to this audit log
        #[arg(long, value_name = "FILE", env = "LOCKKEEPER_AUDIT")]
        audit: Option<PathBuf>,
    },
    /// Give a job up: it cannot be resumed, what is done stays done, and its statement sent again begins anew. A constraint that was
    /// to be validated stays, NOT VALID: new rows obey it
    Cancel { id: i64 },
    /// Return to the table that a rewrite with --keep-old has put aside, with the rows written since, in one brief swap
    Back { id: i64 },
    /// Drop the table that a rewrite with --keep-old has put aside: there is no way back then
    Finish {
        id: i64,
        /// Also where the proxies' ledger (lockkeeper.usage) knows of somebody who still names it
        #[arg(long)]
        even_if_used: bool,
    },
}

/// What is done with one job otherwise where it is of another kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    Show,
    Resume,
    Cancel,
    Back,
    Finish { even_if_used: bool },
}

impl Arguments {
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn is_for_people(&self) -> bool {
        self.format == Format::Text
    }

    pub(crate) fn steers(&self) -> Option<(Steer, i64)> {
        match self.action {
            Action::Show { id } => Some((Steer::Show, id)),
            Action::Resume { id, .. } => Some((Steer::Resume, id)),
            Action::Cancel { id } => Some((Steer::Cancel, id)),
            Action::Back { id } => Some((Steer::Back, id)),
            Action::Finish { id, even_if_used } => Some((Steer::Finish { even_if_used }, id)),
            Action::List { .. } | Action::Pause { .. } => None,
        }
    }
}

/// As `lockkeeper.job` has it, with what its lock tells.
#[derive(Deserialize)]
struct Row {
    id: i64,
    kind: String,
    owner: String,
    state: String,
    relation: Option<String>,
    rows_done: i64,
    /// What a job does that a transaction has left for after its COMMIT, and how many of these are done.
    steps: Option<Vec<String>>,
    steps_done: Option<usize>,
    percent: Option<f64>,
    batches: i64,
    runs: i64,
    key_columns: Option<Vec<String>>,
    last_key: Option<Vec<String>>,
    upper_key: Option<Vec<String>>,
    backend_pid: Option<i64>,
    application_name: Option<String>,
    error: Option<String>,
    created_at: String,
    heartbeat_at: String,
    finished_at: Option<String>,
    /// When the table that a rewrite has put aside is to be dropped.
    due_at: Option<String>,
    statement: String,
    settings: std::collections::BTreeMap<String, String>,
}

impl Row {
    /// `3 of 4 steps`, or `20000 rows`.
    fn progress(&self) -> String {
        match (&self.steps, self.steps_done) {
            (Some(steps), Some(done)) => format!("{done} of {} steps", steps.len()),
            _ => format!("{} rows", self.rows_done),
        }
    }
}

/// Creates the table where it is missing, or brings it up to date; says what it did.
pub fn init(arguments: &Init, out: &mut dyn Write) -> Result<(), String> {
    runtime()?.block_on(async {
        let session = Session::open(&arguments.server, quiet_policy()?, None).await?;
        let database = session.rows("SELECT pg_catalog.current_database()").await?.join("");
        let version = session.rows(jobs::COMMENT_QUERY).await?;
        let said = match version.first() {
            Some(version) if jobs::is_current(version) => {
                session.may_use().await?;
                "is there already, in the version that this program needs".to_owned()
            }
            Some(version) if jobs::is_old(version) => {
                session.in_one_transaction(&jobs::upgrade_statements()).await?;
                session.may_use().await?;
                "is brought up to date; its jobs are kept".to_owned()
            }
            Some(version) => {
                return Err(format!(
                    "lockkeeper.job is of another version (\"{version}\"); finish or cancel its jobs with the program that made it, drop \
                     it, and try again"
                ));
            }
            None => {
                let who = session.who_creates(&database).await?;
                session.in_one_transaction(&jobs::create_statements()).await?;
                session.may_use().await?;
                format!("is created; {who}")
            }
        };
        tell(out, &format!("lockkeeper.job in database {database} {said}"))?;
        if let Some(role) = &arguments.control_role {
            let statements = crate::plan::usage::create_statements(role);
            let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
            session.in_one_transaction(&statements).await?;
            tell(
                out,
                &format!("lockkeeper.usage in database {database} is there; proxies with role {role} in --control-dsn keep it together"),
            )?;
        }
        Ok(())
    })
}

/// True: everything that was asked for was done.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    runtime()?.block_on(async {
        let server = &arguments.server;
        let (policy, audit) = match &arguments.action {
            Action::Resume { policy, audit, .. } => (crate::config::load_policy(policy)?, audit.as_deref()),
            _ => (quiet_policy()?, None),
        };
        let session = Session::open(server, policy, audit).await?;
        match &arguments.action {
            Action::List { all } => {
                let rows = session.jobs(None, *all).await?;
                let left = session.left(&rows).await?;
                list(&rows, &left, arguments.format, out)
            }
            Action::Show { id } => {
                let rows = session.jobs(Some(*id), true).await?;
                let row = rows.first().ok_or_else(|| unknown(*id))?;
                show(row, arguments.format, out)
            }
            Action::Pause { id } => {
                let row = session
                    .change(*id, &[jobs::pause(*id), jobs::pause_interrupted(*id)], "paused")
                    .await?;
                let done = row.progress();
                tell(
                    out,
                    &format!("job {id} is paused; {done} are done. To go on: lockkeeper jobs --dsn … resume {id}"),
                )
            }
            Action::Cancel { id } => {
                let row = session
                    .change(*id, &[jobs::cancel(*id), jobs::cancel(*id)], "cancelled")
                    .await?;
                let done = match row.steps {
                    Some(_) => format!("{} are done and stay so", row.progress()),
                    None => format!("{} were changed and stay so", row.progress()),
                };
                tell(out, &format!("job {id} is given up; {done}"))
            }
            Action::Back { id } | Action::Finish { id, .. } => Err(format!("job {id} is no rewrite")),
            Action::Resume { id, .. } => {
                if audit.is_none() {
                    let note = "no audit log will have what is done: --audit FILE, or LOCKKEEPER_AUDIT, names the one to append it to";
                    writeln!(io::stderr(), "lockkeeper: {note}").map_err(|error| error.to_string())?;
                }
                session.resume(*id).await?;
                let row = session.job(*id).await?;
                let done = match &row.steps {
                    Some(steps) => format!("{} ({})", shortened(&row.statement, 200), steps.join(", ")),
                    None => format!("{} rows in all", row.rows_done),
                };
                tell(out, &format!("job {id} is {}: {done}", row.state))
            }
        }
    })
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))
}

/// For what is not judged: our own statements.
pub(crate) fn quiet_policy() -> Result<Policy, String> {
    Policy::parse("[defaults]\nrule = \"allow\"\n", "jobs", &[])
}

fn unknown(id: i64) -> String {
    format!(
        "there is no job {id} here, or it belongs to a role whose jobs you may not see (lockkeeper jobs --dsn … list --all)"
    )
}

fn tell(out: &mut dyn Write, text: &str) -> Result<(), String> {
    writeln!(out, "{text}").map_err(|error| error.to_string())
}

/// A connection through a proxy of our own.
pub(crate) struct Session {
    client: Client,
    pub(crate) proxy: InProcess,
}

impl Session {
    pub(crate) async fn open(server: &Server, policy: Policy, audit: Option<&Path>) -> Result<Session, String> {
        let (mut config, upstream, tls) = target(server)?;
        let proxy = InProcess::new(upstream, tls.as_ref(), policy, audit)?;
        // Encryption is between the proxy and the server.
        config.ssl_mode(SslMode::Disable).application_name("lockkeeper jobs");
        let stream = proxy.connect().map_err(|error| error.to_string())?;
        let (client, mut connection) = config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|error| explain(&error))?;
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    // Nothing else to do where nobody reads.
                    let _ = writeln!(io::stderr(), "{}", notice.message());
                }
            }
        });
        let session = Session { client, proxy };
        // Nobody who may create in a schema of the path has an operator or function of his own called by what is asked here.
        session.rows("SET search_path = pg_catalog, pg_temp").await?;
        Ok(session)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The first column of all rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<String>, String> {
        let messages = self.client.simple_query(sql).await.map_err(|error| explain(&error))?;
        let first = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(first).collect())
    }

    async fn in_one_transaction(&self, statements: &[&str]) -> Result<(), String> {
        let sql = format!("BEGIN; {}; COMMIT", statements.join("; "));
        self.rows(&sql).await.map(|_| ())
    }

    /// Err: why this session must not read or write the table.
    async fn may_use(&self) -> Result<(), String> {
        let table = self.rows(jobs::TRUST).await?;
        match jobs::out_of_use(table.first().map(String::as_str), "this database") {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// Who will be able to keep jobs in a table of this role's. Err: nobody but itself, or somebody else may replace it.
    async fn who_creates(&self, database: &str) -> Result<String, String> {
        let messages = self.client.simple_query(jobs::CREATOR_QUERY).await;
        let messages = messages.map_err(|error| explain(&error))?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |n| row.and_then(|row| row.get(n)).unwrap_or_default();
        if let Some(other) = row.and_then(|row| row.get(3)) {
            return Err(format!(
                "the schema lockkeeper belongs to {other}, who could put another table in the place of this one: drop it, or let a \
                 superuser run: ALTER SCHEMA lockkeeper OWNER TO …"
            ));
        }
        match (column(0), column(1)) {
            ("t", _) => Ok("every role may keep its own jobs in it".into()),
            (_, "t") => {
                let owner = column(2);
                Ok(format!(
                    "it is {owner}'s, so that only {owner} and roles whose rights {owner} has may keep jobs in it; for every role, drop it \
                     and let a superuser run init"
                ))
            }
            _ => Err(format!(
                "permission denied: a table that this role made would be trusted by nobody else; a superuser runs init, for every role, or {}, who owns \
                 the database {database}, for himself",
                column(2)
            )),
        }
    }

    /// The same as JSON, with what is known of the use of tables that are kept, and columns that are to be dropped.
    async fn left(&self, rows: &[(String, Row)]) -> Result<Vec<Value>, String> {
        let mut all: Vec<Value> = rows
            .iter()
            .filter_map(|(json, _)| serde_json::from_str(json).ok())
            .collect();
        let left = Left::ask(&self.client).await.map_err(|error| explain(&error))?;
        let relations = left.relations(&all);
        // Without the ledger, or the right to read it, nothing is known.
        let together = match relations.is_empty() {
            true => None,
            false => together::read(&self.client, &relations).await.ok(),
        };
        left.add_to(&mut all, together.as_ref().map(|together| &together.record));
        Ok(all)
    }

    /// As JSON and decoded.
    async fn jobs(&self, id: Option<i64>, all: bool) -> Result<Vec<(String, Row)>, String> {
        self.may_use().await?;
        let decode = |json: String| match serde_json::from_str(&json) {
            Ok(row) => Ok((json, row)),
            Err(error) => Err(format!("a row of lockkeeper.job cannot be read: {error}")),
        };
        self.rows(&jobs::listing(id, all).guarded())
            .await?
            .into_iter()
            .map(decode)
            .collect()
    }

    /// The job as it is then.
    async fn change(&self, id: i64, [sql, interrupted]: &[JobSql; 2], state: &str) -> Result<Row, String> {
        let row = self.job(id).await?;
        let changed = match self.rows(&jobs::guarded_briefly(sql)).await {
            Ok(rows) => rows,
            Err(_) => {
                // A batch that takes its time would be waited for, and is undone instead. Where the server does not let us, it is waited for.
                let _ = self.rows(&jobs::interrupt(id).guarded()).await;
                self.rows(&interrupted.guarded()).await?
            }
        };
        match changed.last() {
            Some(_) => self.job(id).await,
            None => Err(format!("job {id} is {}, it cannot be {state}", row.state)),
        }
    }

    async fn job(&self, id: i64) -> Result<Row, String> {
        let mut rows = self.jobs(Some(id), true).await?;
        rows.pop().map(|(_, row)| row).ok_or_else(|| unknown(id))
    }

    async fn resume(&self, id: i64) -> Result<(), String> {
        let row = self.job(id).await?;
        self.become_owner(id, &row.owner).await?;
        // Up to then what is asked here is looked for in pg_catalog alone.
        let last = |(name, _): &(&String, &String)| *name == "search_path";
        let (path, others): (Vec<_>, Vec<_>) = row.settings.iter().partition(last);
        for (name, value) in others.into_iter().chain(path) {
            let quote = crate::plan::splice::quote_literal;
            // Where the value is the same already, the right to set it is not needed.
            let sql = format!(
                "SELECT pg_catalog.set_config(s.name, {value}, false) FROM pg_catalog.pg_settings s WHERE s.name = {name} \
                 AND s.setting <> {value}",
                name = quote(name),
                value = quote(value)
            );
            self.rows(&sql).await?;
        }
        let cancel = self.client.cancel_token();
        let sql = format!("CALL lockkeeper.resume({id})");
        let mut running = std::pin::pin!(self.client.simple_query(&sql));
        loop {
            tokio::select! {
                messages = &mut running => return messages.map(|_| ()).map_err(|error| explain(&error)),
                _ = tokio::signal::ctrl_c() => {
                    let stream: UnixStream = self.proxy.connect().map_err(|error| error.to_string())?;
                    cancel.cancel_query_raw(stream, NoTls).await.map_err(|error| explain(&error))?;
                }
            }
        }
    }

    /// A job is its owner's, and runs with the owner's rights. A trigger of the owner's could take back what SET ROLE gave up, so
    /// that a superuser does not lend himself to a role that is none.
    async fn become_owner(&self, id: i64, owner: &str) -> Result<(), String> {
        let quoted = crate::plan::splice::quote_literal(owner);
        let sql = format!(
            "SELECT CASE WHEN current_user = {quoted} THEN 'same' WHEN (SELECT r.rolsuper FROM pg_catalog.pg_roles r \
             WHERE r.rolname = session_user) AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = {quoted}) \
             THEN 'above' ELSE 'other' END"
        );
        match self.rows(&sql).await?.first().map(String::as_str) {
            Some("same") => Ok(()),
            Some("above") => Err(format!(
                "job {id} belongs to {owner}: connect as {owner}, or as a member of {owner} that is no superuser; code of {owner}'s \
                 would otherwise run in a superuser's session"
            )),
            _ => {
                let sql = format!("SET ROLE {}", crate::plan::splice::quote_ident(owner));
                self.rows(&sql).await.map(|_| ())
            }
        }
    }
}

/// The server's words: message, DETAIL and HINT.
pub(crate) fn explain(error: &tokio_postgres::Error) -> String {
    let Some(report) = error.as_db_error() else {
        return error.to_string();
    };
    let part = |name: &str, text: Option<&str>| text.map(|text| format!("\n{name}: {text}")).unwrap_or_default();
    let message = report.message();
    let message = message.strip_prefix("lockkeeper: ").unwrap_or(message);
    format!(
        "{message}{}{}",
        part("DETAIL", DbError::detail(report)),
        part("HINT", DbError::hint(report))
    )
}

/// What the DSN says, in the proxy's terms.
pub(crate) fn target(server: &Server) -> Result<(Config, Upstream, Option<UpstreamTls>), String> {
    let mut config: Config = server.dsn.parse().map_err(|error| format!("--dsn: {error}"))?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if config.get_user().is_none() {
        let user = variable("PGUSER").or_else(|| variable("USER"));
        config.user(user.ok_or("--dsn: name a user (user=…)")?);
    }
    if config.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        config.password(password);
    }
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let socket = |dir: &Path| Upstream::Unix(dir.join(format!(".s.PGSQL.{port}")));
    let (upstream, name) = match config.get_hosts() {
        [] => (socket(Path::new("/var/run/postgresql")), None),
        [Host::Unix(dir)] => (socket(dir), None),
        [Host::Tcp(host)] => (
            Upstream::Tcp {
                host: host.clone(),
                port,
            },
            Some(host.clone()),
        ),
        _ => return Err("--dsn: name one host".into()),
    };
    let verify = match (&server.ca, config.get_ssl_mode()) {
        (Some(ca), _) => Some(Verify::Full(ca.clone())),
        (None, SslMode::Require) => Some(Verify::Nothing),
        _ => None,
    };
    let tls = match (verify, name) {
        (Some(verify), Some(name)) => Some(UpstreamTls { verify, name }),
        (Some(_), None) => return Err("--dsn: TLS needs a host, not a socket directory".into()),
        (None, _) => None,
    };
    Ok((config, upstream, tls))
}

fn list(rows: &[(String, Row)], left: &[Value], format: Format, out: &mut dyn Write) -> Result<(), String> {
    let mut text = String::new();
    if format == Format::Json {
        left.iter().for_each(|json| text.push_str(&format!("{json}\n")));
    } else if rows.is_empty() {
        text.push_str("no unfinished jobs (--all lists the others too)\n");
    } else {
        let mut lines = vec![
            [
                "ID",
                "STATE",
                "OWNER",
                "TABLE",
                "DONE",
                "ROWS",
                "LAST MOVED",
                "STATEMENT",
            ]
            .map(String::from),
        ];
        lines.extend(rows.iter().map(|(_, row)| {
            [
                row.id.to_string(),
                row.state.clone(),
                row.owner.clone(),
                row.relation.clone().unwrap_or_default(),
                row.percent.map(|percent| format!("{percent:.0} %")).unwrap_or_default(),
                match row.steps {
                    Some(_) => row.progress(),
                    None => row.rows_done.to_string(),
                },
                moment(&row.heartbeat_at),
                shortened(&row.statement, 60),
            ]
        }));
        for line in &lines {
            let mut shown = String::new();
            for (n, cell) in line.iter().enumerate() {
                let width = lines
                    .iter()
                    .map(|line| line[n].chars().count())
                    .max()
                    .unwrap_or_default();
                shown.push_str(&format!("{cell:<width$}  "));
            }
            text.push_str(shown.trim_end());
            text.push('\n');
        }
    }
    if format == Format::Text {
        left.iter().filter_map(left_to_do).for_each(|line| text.push_str(&line));
    }
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())
}

/// A line for what waits to be dropped.
fn left_to_do(job: &Value) -> Option<String> {
    let unused = job["unused"]
        .as_str()
        .map(|unused| format!(": {unused}"))
        .unwrap_or_default();
    if job["kind"] == "contract" {
        let statement = job["statement"].as_str().unwrap_or_default();
        return Some(format!("{statement}{unused}\n"));
    }
    let (id, due) = (job["id"].as_i64()?, moment(job["due_at"].as_str()?));
    Some(match job["state"] == "due" {
        true => format!("job {id}: its old table is due to be dropped (jobs finish {id}){unused}\n"),
        false => format!(
            "job {id}: its old table is kept until {due}, and there may be a way back (jobs back {id}){unused}\n"
        ),
    })
}

fn show((json, row): &(String, Row), format: Format, out: &mut dyn Write) -> Result<(), String> {
    if format == Format::Json {
        return tell(out, json);
    }
    let key = |key: &Option<Vec<String>>| key.as_ref().map(|key| format!("({})", key.join(", ")));
    let done = match row.percent {
        _ if row.steps.is_some() => format!("{} in {} runs", row.progress(), row.runs),
        Some(percent) => format!(
            "{} rows in {} batches and {} runs, about {percent:.0} %",
            row.rows_done, row.batches, row.runs
        ),
        None => format!(
            "{} rows in {} batches and {} runs",
            row.rows_done, row.batches, row.runs
        ),
    };
    let runner = match (row.state.as_str(), row.backend_pid) {
        ("running", Some(pid)) => Some(format!(
            "server process {pid} ({})",
            row.application_name.as_deref().unwrap_or_default()
        )),
        _ => None,
    };
    let next = match row.state.as_str() {
        "running" => Some(format!("lockkeeper jobs --dsn … pause {}", row.id)),
        "done" | "cancelled" => None,
        "kept" | "due" => Some(format!(
            "lockkeeper jobs --dsn … back {id}, or finish {id}, which drops the old table",
            id = row.id
        )),
        _ => Some(format!(
            "send the statement again, or lockkeeper jobs --dsn … resume {id} (or cancel {id})",
            id = row.id
        )),
    };
    let lines = [
        ("job", Some(format!("{} ({})", row.id, row.kind))),
        ("state", Some(row.state.clone())),
        ("owner", Some(row.owner.clone())),
        ("table", row.relation.clone()),
        ("key", row.key_columns.as_ref().map(|columns| columns.join(", "))),
        ("done", Some(done)),
        ("up to key", key(&row.last_key)),
        ("last key", key(&row.upper_key)),
        ("run by", runner),
        ("error", row.error.clone()),
        ("steps", row.steps.as_ref().map(|steps| steps.join(", "))),
        ("begun", Some(moment(&row.created_at))),
        ("last moved", Some(moment(&row.heartbeat_at))),
        ("ended", row.finished_at.as_deref().map(moment)),
        ("due", row.due_at.as_deref().map(moment)),
        ("statement", Some(row.statement.clone())),
        ("next", next),
    ];
    let lines = lines
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name:<11} {}\n", value?)));
    let text: String = lines.collect();
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())
}

/// `2026-11-22 16:54:14+00` of what JSON has.
fn moment(json: &str) -> String {
    let (date, time) = json.split_once('T').unwrap_or((json, ""));
    let zone = time.rfind(['+', '-']).map(|at| &time[at..]).unwrap_or_default();
    let seconds = time.get(..8).unwrap_or(time);
    format!("{date} {seconds}{}", zone.strip_suffix(":00").unwrap_or(zone))
}

/// On one line, and not longer than that.
fn shortened(text: &str, length: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(length) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dsn_means() {
        let of = |dsn: &str, ca: Option<&str>| {
            let server = Server {
                dsn: dsn.into(),
                ca: ca.map(PathBuf::from),
            };
            target(&server).map(|(_, upstream, tls)| (upstream.to_string(), tls))
        };
        assert_eq!(of("host=db port=7 user=u", None).unwrap(), ("db:7".into(), None));
        assert_eq!(of("host=/tmp user=u", None).unwrap().0, "/tmp/.s.PGSQL.5432");
        let tls = of("postgres://u@db/shop?sslmode=require", None).unwrap().1.unwrap();
        assert_eq!((tls.verify, tls.name.as_str()), (Verify::Nothing, "db"));
        let tls = of("host=db user=u", Some("ca.pem")).unwrap().1.unwrap();
        assert_eq!(tls.verify, Verify::Full("ca.pem".into()));
        assert!(of("host=a,b user=u", None).is_err());
        assert!(of("nonsense", None).is_err());
    }

    #[test]
    fn cells_are_short() {
        assert_eq!(moment("2026-11-22T16:54:14.093250+00:00"), "2026-11-22 16:54:14+00");
        assert_eq!(moment("2026-11-22T16:54:14+05:45"), "2026-11-22 16:54:14+05:45");
        assert_eq!(shortened("UPDATE t\n  SET a = 1", 60), "UPDATE t SET a = 1");
        assert_eq!(shortened("UPDATE täglich", 9), "UPDATE tä…");
    }
}
