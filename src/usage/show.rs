//! `lockkeeper usage`: who used a table or a column, from the file that a proxy keeps in its --state-dir.

use super::record::{Record, Row};
use super::{seconds, store, words};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A table or a column: users, users.name, public.users, public.users.name [default: everything]
    pub name: Option<String>,

    /// Where the proxy keeps its memory: its own --state-dir
    #[arg(long, value_name = "DIR", env = "LOCKKEEPER_STATE_DIR", hide_env_values = true)]
    pub state_dir: PathBuf,

    /// Only of this database
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
}

pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let record = store::read(&arguments.state_dir)?
        .ok_or_else(|| format!("{}: no proxy has kept anything here yet", arguments.state_dir.display()))?;
    let written = print(&record, arguments, seconds(), out);
    written.map_err(|error| error.to_string())
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
