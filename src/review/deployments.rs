//! `audit deployments`: statements of one run of a program, together, with one outcome: what was deployed, and did it work?

use super::streams::{Failure, Streams, wrong};
use super::table::{one_line, span};
use crate::audit::Phase;
use crate::audit::brief::Brief;
use crate::audit::filter::{Filter, LineKind, Selector, kind_and_id};
use crate::audit::read::blocks;
use crate::audit::time::before;
use serde::Serialize;
use std::path::PathBuf;

/// A tool that opens several connections, one behind the other, pauses no longer between them.
const GAP_MS: f64 = 60_000.0;

/// The statements of one session, or of several of the same program close together.
#[derive(Debug, Serialize)]
struct Deployment {
    began: String,
    ended: String,
    duration_ms: f64,
    user: String,
    database: String,
    application_name: String,
    client: String,
    sessions: Vec<String>,
    statements: Vec<Statement>,
    /// The worst of all.
    outcome: String,
    lock_wait_ms: f64,
}

#[derive(Debug, Serialize)]
struct Statement {
    id: String,
    action: String,
    outcome: String,
    duration_ms: f64,
    statement: String,
    error: Option<String>,
}

/// From the worst: what was not done, or is not known to be.
const WORST: [&str; 10] = [
    "failed",
    "disconnected",
    "rejected",
    "cancelled",
    "rolled back",
    "open",
    "prepared",
    "warned",
    "dry run",
    "done",
];

fn badness(outcome: &str) -> usize {
    WORST.iter().position(|known| *known == outcome).unwrap_or(0)
}

pub fn run(files: &[PathBuf], filter: Filter, json: bool, streams: &mut Streams) -> Result<(), Failure> {
    let selector = Selector::new(filter);
    let mut all: Vec<Deployment> = Vec::new();
    let mut unreadable = 0;
    for block in blocks(files).map_err(wrong)? {
        let block = block.map_err(|error| wrong(error.to_string()))?;
        for (_, line) in block.lines() {
            if kind_and_id(line).0 != LineKind::Event(Phase::Statement) {
                continue;
            }
            match selector.brief(line) {
                Ok(Some(event)) => take(&mut all, &event),
                Ok(None) => {}
                Err(_) => unreadable += 1,
            }
        }
    }
    for deployment in &all {
        match json {
            true => {
                let line = serde_json::to_string(deployment).map_err(|error| wrong(error.to_string()))?;
                writeln!(streams.out, "{line}")?;
            }
            false => deployment.print(streams)?,
        }
    }
    if all.is_empty() && !json {
        writeln!(streams.out, "no statement matches")?;
    }
    if unreadable > 0 {
        writeln!(
            streams.err,
            "lockkeeper: {unreadable} lines cannot be read; `lockkeeper audit verify` says more"
        )?;
    }
    Ok(())
}

/// `k7f2m9qa-7` of `k7f2m9qa-7.3`.
fn session_of(id: &str) -> &str {
    id.rsplit_once('.').map_or(id, |(session, _)| session)
}

fn take(all: &mut Vec<Deployment>, event: &Brief) {
    let began = before(&event.time, event.duration_ms).unwrap_or_else(|| event.time.to_string());
    let session = session_of(&event.id);
    let goes_on = |known: &&mut Deployment| {
        let is_same = known.sessions.iter().any(|known| known == session);
        let same_program = known.user == event.user
            && known.database == event.database
            && known.application_name == event.application_name
            && host(&known.client) == host(&event.client);
        // Times as the log writes them sort as they are.
        let latest = before(&began, GAP_MS).unwrap_or_default();
        is_same || (same_program && known.ended >= latest)
    };
    // One that began long ago may go on in its session; most go on with the last.
    let found = all.iter_mut().rev().find(goes_on);
    let statement = Statement {
        id: event.id.to_string(),
        action: event.action.to_string(),
        outcome: event.outcome.to_string(),
        duration_ms: event.duration_ms,
        statement: event.statement.to_string(),
        error: event.error.as_ref().map(|error| error.to_string()),
    };
    match found {
        Some(known) => {
            if !known.sessions.iter().any(|known| known == session) {
                known.sessions.push(session.to_owned());
            }
            if began < known.began {
                known.began = began;
            }
            known.ended = event.time.to_string();
            if badness(&event.outcome) < badness(&known.outcome) {
                known.outcome = event.outcome.to_string();
            }
            known.duration_ms += event.duration_ms;
            known.lock_wait_ms += event.lock_wait_ms;
            known.statements.push(statement);
        }
        None => all.push(Deployment {
            began,
            ended: event.time.to_string(),
            duration_ms: event.duration_ms,
            user: event.user.to_string(),
            database: event.database.to_string(),
            application_name: event.application_name.to_string(),
            client: event.client.to_string(),
            sessions: vec![session.to_owned()],
            outcome: event.outcome.to_string(),
            lock_wait_ms: event.lock_wait_ms,
            statements: vec![statement],
        }),
    }
}

/// Without the port, which is another for each connection.
fn host(client: &str) -> &str {
    client.rsplit_once(':').map_or(client, |(host, _)| host)
}

impl Deployment {
    fn print(&self, streams: &mut Streams) -> Result<(), Failure> {
        let clock = |time: &str| time.get(11..19).unwrap_or_default().to_owned();
        let day = self.began.get(..10).unwrap_or_default();
        let colour = match (streams.colour, badness(&self.outcome)) {
            (true, ..=2) => ("\x1b[31m", "\x1b[0m"),
            (true, 3..=7) => ("\x1b[33m", "\x1b[0m"),
            _ => ("", ""),
        };
        let who = match self.application_name.as_str() {
            "" => format!("{}@{}", self.user, self.database),
            application => format!("{}@{} with {application}", self.user, self.database),
        };
        writeln!(
            streams.out,
            "{day} {} to {}  {}{}{}  {}, {} from {}",
            clock(&self.began),
            clock(&self.ended),
            colour.0,
            self.outcome,
            colour.1,
            one_line(&who),
            match self.statements.len() {
                1 => "1 statement".to_owned(),
                n => format!("{n} statements"),
            },
            one_line(host(&self.client)),
        )?;
        for statement in &self.statements {
            let text = one_line(&statement.statement);
            let room = streams
                .width
                .map_or(usize::MAX, |width| width.saturating_sub(40).max(24));
            let short: String = match text.chars().count() > room {
                true => text.chars().take(room - 1).chain(['…']).collect(),
                false => text.into_owned(),
            };
            writeln!(
                streams.out,
                "    {:14} {:11} {:>9}  {short}",
                statement.id.as_str(),
                statement.outcome,
                span(statement.duration_ms)
            )?;
            if let Some(error) = &statement.error {
                writeln!(streams.out, "        {}", one_line(error))?;
            }
        }
        Ok(())
    }
}
