//! What the review page and the console ask about jobs: the list, and pause, resume and cancel, with the control
//! connection's role. Row-level security decides which jobs that role sees.

use super::shared::Shared;
use super::startup;
use super::stream::Stream;
use crate::audit::query_of_another;
use crate::live::Steer;
use crate::plan::jobs::{self, JobSql, stopped};
use crate::plan::splice::{quote_ident, quote_literal};
use crate::usage::left::Left;
use crate::usage::together;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const OUR_DATABASE: &str = "the control connection's database";

/// How long a resumed job is waited for: one that cannot go on says so at once.
const EARLY_END: Duration = Duration::from_secs(2);

/// With what the server said, which `Display` of the error leaves out.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => match error.hint() {
            Some(hint) => format!("{} ({hint})", error.message()),
            None => error.message().to_owned(),
        },
        None => error.to_string(),
    }
}

/// The first column of all rows.
async fn values(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(sql).await.map_err(|error| told(&error))?;
    let first = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(first).collect())
}

/// None: there is no job table.
async fn listed(client: &Client, sql: &JobSql) -> Result<Option<Vec<Value>>, String> {
    let table = values(client, jobs::TRUST).await?;
    let Some(answer) = table.first() else {
        return Ok(None);
    };
    if let Some(why) = jobs::out_of_use(Some(answer), OUR_DATABASE) {
        return Err(why);
    }
    let rows = values(client, &sql.guarded()).await?;
    let read = |row: &String| {
        serde_json::from_str(row).map_err(|error| format!("a row of lockkeeper.job cannot be read: {error}"))
    };
    rows.iter().map(read).collect::<Result<_, _>>().map(Some)
}

async fn rows(client: &Client, id: Option<i64>) -> Result<Vec<Value>, String> {
    let listed = listed(client, &jobs::listing(id, id.is_some())).await?;
    listed.ok_or_else(|| jobs::out_of_use(None, OUR_DATABASE).unwrap_or_default())
}

/// Those that stand still though nobody has paused them.
pub(super) async fn stopped(client: &Client) -> Result<Vec<Value>, String> {
    Ok(listed(client, &stopped::stopped()).await?.unwrap_or_default())
}

/// Those that are not finished, and what was put aside, with all values.
pub(super) async fn put_aside(shared: &Shared, client: &Client) -> Result<Vec<Value>, String> {
    let mut all = listed(client, &jobs::listing(None, false)).await?.unwrap_or_default();
    let database = add_left(shared, client, &mut all).await?;
    all.iter_mut().for_each(|row| row["database"] = json!(database));
    Ok(all)
}

/// What is known of the use of what jobs have put aside, and columns that were; the database's name.
async fn add_left(shared: &Shared, client: &Client, all: &mut Vec<Value>) -> Result<String, String> {
    let left = Left::ask(client).await.map_err(|error| told(&error))?;
    let relations = left.relations(all);
    // What this proxy alone has seen, where nothing is kept together.
    let together = match relations.is_empty() {
        true => None,
        false => together::read(client, &relations).await.ok(),
    };
    match together {
        Some(together) => left.add_to(all, Some(&together.record)),
        None => shared.live.usage.ask(|record| left.add_to(all, Some(record))),
    }
    Ok(left.database)
}

/// Those that are not finished.
pub(super) async fn list(shared: &Shared, client: &Client) -> Result<Value, String> {
    const SHOWN: [&str; 13] = [
        "id",
        "kind",
        "owner",
        "state",
        "relation",
        "rows_done",
        "keys_done",
        "keys_estimated",
        "percent",
        "error",
        "started_at",
        "due_at",
        "unused",
    ];
    let literals = shared.policy().audit_literals;
    let shown = |row: Value| {
        let mut job: serde_json::Map<String, Value> =
            SHOWN.iter().map(|key| ((*key).to_owned(), row[*key].clone())).collect();
        let statement = query_of_another(row["statement"].as_str().unwrap_or_default(), literals);
        job.insert("statement".into(), json!(statement));
        Value::Object(job)
    };
    let mut all = rows(client, None).await?;
    add_left(shared, client, &mut all).await?;
    Ok(all.into_iter().map(shown).collect())
}

/// What was done, in words.
pub(super) async fn steer(
    shared: &Arc<Shared>,
    client: &Client,
    config: &tokio_postgres::Config,
    id: i64,
    steer: Steer,
) -> Result<String, String> {
    let found = rows(client, Some(id)).await?;
    let Some(job) = found.first() else {
        return Err(format!(
            "there is no job {id}, or the control connection's role may not see it: it needs to be a superuser, to have \
             BYPASSRLS, or to be the job's owner"
        ));
    };
    let state = job["state"].as_str().unwrap_or_default();
    if job["kind"] == "rewrite" && steer != Steer::Pause {
        if matches!(state, "kept" | "due") {
            return Err(format!(
                "job {id} is done but for its old table: lockkeeper jobs --dsn … back {id}, or finish {id}, which drops it"
            ));
        }
        return Err(format!(
            "job {id} is a rewrite, which the proxy does not carry out: lockkeeper jobs --dsn … resume {id} (or cancel {id})"
        ));
    }
    let ([sql, interrupted], done) = match steer {
        Steer::Pause => ([jobs::pause(id), jobs::pause_interrupted(id)], "paused"),
        Steer::Cancel => ([jobs::cancel(id), jobs::cancel(id)], "cancelled"),
        Steer::Resume if state == "running" => return Err(format!("job {id} is running already")),
        Steer::Resume => return resume(shared, config, id, job).await,
    };
    let changed = match values(client, &jobs::guarded_briefly(&sql)).await {
        Ok(rows) => rows,
        Err(_) => {
            // A batch that takes its time would be waited for, and is undone instead. Where the server does not let us, it is waited for.
            let _ = values(client, &jobs::interrupt(id).guarded()).await;
            values(client, &interrupted.guarded()).await?
        }
    };
    match changed.first() {
        Some(rows) => Ok(format!("job {id} is {done}; {rows} rows are done")),
        None => Err(format!("job {id} is {state}, it cannot be {done}")),
    }
}

/// A superuser does not: code of the owner's, such as the table's triggers, could take its rights back with RESET ROLE.
async fn become_owner(client: &Client, id: i64, owner: &str) -> Result<(), String> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = session_user AND r.rolsuper) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = {} AND r.rolsuper)",
        quote_literal(owner)
    );
    if values(client, &sql).await?.first().is_none_or(|above| above != "f") {
        return Err(format!(
            "job {id} belongs to {owner}, whose code would run in a superuser's session; resume it as {owner}: \
             lockkeeper jobs --dsn 'user={owner} …' resume {id}"
        ));
    }
    let role = values(client, &format!("SET ROLE {}", quote_ident(owner))).await;
    role.map(|_| ()).map_err(|why| {
        format!(
            "job {id} goes on as its owner {owner}, whom the control connection's role cannot be: {why}; \
             resume it with: lockkeeper jobs --dsn 'user={owner} …' resume {id}"
        )
    })
}

/// In a session through this proxy, as the job's owner and with its settings, as if its statement had been sent again.
async fn resume(shared: &Arc<Shared>, config: &tokio_postgres::Config, id: i64, job: &Value) -> Result<String, String> {
    let (ours, served) = tokio::net::UnixStream::pair().map_err(|error| error.to_string())?;
    tokio::spawn(startup::serve_connection(
        Stream::Unix(served),
        "this process".into(),
        Arc::clone(shared),
    ));
    let mut config = config.clone();
    config.ssl_mode(SslMode::Disable).application_name("lockkeeper admin");
    let (client, connection) = config.connect_raw(ours, NoTls).await.map_err(|error| told(&error))?;
    tokio::spawn(connection);
    // What is asked here is looked for in pg_catalog alone, up to the last of the settings.
    values(&client, "SET search_path = pg_catalog, pg_temp").await?;
    let owner = job["owner"].as_str().unwrap_or_default();
    become_owner(&client, id, owner).await?;
    let settings: BTreeMap<String, String> = serde_json::from_value(job["settings"].clone()).unwrap_or_default();
    let (path, others): (Vec<_>, Vec<_>) = settings.iter().partition(|(name, _)| *name == "search_path");
    for (name, value) in others.into_iter().chain(path) {
        // Where the value is the same already, the right to set it is not needed.
        let (name, value) = (quote_literal(name), quote_literal(value));
        let sql = format!(
            "SELECT pg_catalog.set_config(s.name, {value}, false) FROM pg_catalog.pg_settings s WHERE s.name = {name} \
             AND s.setting <> {value}"
        );
        values(&client, &sql).await?;
    }
    let mut running = tokio::spawn(async move { values(&client, &format!("CALL lockkeeper.resume({id})")).await });
    match tokio::time::timeout(EARLY_END, &mut running).await {
        Ok(Ok(Ok(_))) => Ok(format!("job {id} is done")),
        Ok(Ok(Err(why))) => Err(why),
        Ok(Err(_)) => Err(format!("job {id}: the session ended; the log on stderr says why")),
        // It runs on by itself; should it fail, its row says why.
        Err(_) => Ok(format!("job {id} goes on")),
    }
}
