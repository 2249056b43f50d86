//! `lockkeeper usage`: who used a table or a column, from the file that a proxy keeps in its --state-dir, or from what all keep together.

use super::record::{Record, Row};
use super::together::{Unknown, read};
use super::{seconds, store, words};
use crate::jobs::{Server, Session, quiet_policy, runtime};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A table or a column: users, users.name, public.users, public.users.name [default: everything]
    pub name: Option<String>,

    /// Where the proxy keeps its memory: its own --state-dir
    #[arg(
        long,
        value_name = "DIR",
        env = "LOCKKEEPER_STATE_DIR",
        hide_env_values = true,
        required_unless_present = "dsn"
    )]
    pub state_dir: Option<PathBuf>,

    /// The database in which proxies keep it together: "host=db.internal dbname=shop user=lockkeeper"; sslmode=require for TLS. A password
    /// may come from PGPASSWORD
    #[arg(long, value_name = "DSN", env = "LOCKKEEPER_DSN", hide_env_values = true)]
    pub dsn: Option<String>,

    /// TLS, with the server's certificate verified by this PEM file and by its name
    #[arg(long, value_name = "FILE", requires = "dsn")]
    pub ca: Option<PathBuf>,

    /// Only of this database
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let record = match (&arguments.state_dir, &arguments.dsn) {
        (Some(directory), _) => store::read(directory)?
            .ok_or_else(|| format!("{}: no proxy has kept anything here yet", directory.display()))?,
        (None, Some(dsn)) => runtime()?.block_on(kept_together(&Server::new(dsn.clone(), arguments.ca.clone())))?,
        (None, None) => return Err("name --state-dir or --dsn".into()),
    };
    let written = print(&record, arguments, seconds(), out);
    written.map_err(|error| error.to_string())
}

async fn kept_together(server: &Server) -> Result<Record, String> {
    let session = Session::open(server, quiet_policy()?, None).await?;
    match read(session.client(), &[]).await {
        Ok(together) if together.record.until == 0 => Err("no proxy has kept anything in lockkeeper.usage yet".into()),
        Ok(together) => Ok(together.record),
        Err(Unknown::NotThere) => {
            Err("there is no lockkeeper.usage in this database; lockkeeper init --control-role makes it".into())
        }
        Err(Unknown::Failed(why)) => Err(why),
    }
}

fn print(record: &Record, arguments: &Arguments, now: u32, out: &mut dyn Write) -> std::io::Result<()> {
    let gaps = match record.gaps_s {
        0 => String::new(),
        gaps => format!(", with gaps of {} in all", words::time(gaps)),
    };
    let (since, until) = (now.saturating_sub(record.since), now.saturating_sub(record.until));
    writeln!(
        out,
        "Watched since {} ago until {} ago{gaps}.",
        words::time(u64::from(since)),
        words::time(u64::from(until))
    )?;
    let is_asked = |row: &Row| {
        arguments
            .database
            .as_ref()
            .is_none_or(|database| row.used.who.database == *database)
    };
    let rows: Vec<Row> = record
        .find(arguments.name.as_deref())
        .into_iter()
        .filter(is_asked)
        .collect();
    if rows.is_empty() {
        let what = arguments.name.as_deref().unwrap_or("Any table");
        writeln!(out, "{what} was not used in that time, as far as it was seen.")?;
    }
    for row in &rows {
        let written = match row.used.written {
            Some(at) => format!(" (written {} ago)", words::time(u64::from(now.saturating_sub(at)))),
            None => String::new(),
        };
        writeln!(out, "{}: {}{written}", row.name(), words::used(&row.used, now))?;
    }
    for used in record
        .unread_of_all()
        .filter(|used| arguments.database.as_ref().is_none_or(|d| used.who.database == *d))
    {
        writeln!(out, "(not read): {}", words::used(&used, now))?;
    }
    Ok(())
}
