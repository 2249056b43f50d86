//! The audit log: what was asked, what was found, what was done, as one JSON object a line, each chained to the one before.
//!
//! [`Audit::write`] returns once the kernel has the line, so a session can write before its client hears the result; with
//! [`Audit::post`] it need not wait while a transaction holds locks. The log never decides what a failure means: the policy does,
//! in the session. Passwords are masked here, so nobody has to remember to. Start at [`Event`] for the format
//! (docs/src/reference/audit-log.md explains every key), at [`read`] to read logs.

pub mod after;
pub mod again;
pub mod brief;
pub mod chain;
mod file;
pub mod filter;
mod log_event;
pub mod read;
mod redact;
pub mod sink;
pub mod time;
pub mod verify;
mod writer;

use crate::plan::Finding;
use crate::plan::policy::{Action, Literals};
use redact::Mask;
use serde::{Deserialize, Serialize};
use sink::Sink;
use std::sync::Arc;
use std::time::SystemTime;
use writer::Handle;
pub use writer::Posted;

/// Which moment of a statement's life the event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before anything runs: what is about to be done, so that a crash in the middle leaves a trace.
    Planned,
    /// A step waits for a lock: who holds it, told again when that changes.
    Waiting,
    /// After each step.
    Step,
    /// It has run, and its transaction is open: whether it lasts is not decided.
    Ran,
    /// The result, before the client hears it; in a transaction, that of the transaction.
    Statement,
    /// A minute after a plan: the same again, with how long statements take now.
    After,
    /// A second person has approved or declined what the statement asked for.
    Decided,
}

/// Who sent the statement.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The proxy's own number of the session; it is in the proxy's log too.
    pub session: u64,
    /// The server process, as in pg_stat_activity.
    pub backend_pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// The client's address, `127.0.0.1:53412`, or `unix`.
    pub client: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingRecord {
    pub rule: String,
    pub lock: String,
    pub message: String,
    /// What to do instead.
    pub hint: String,
    /// allow | warn | rewrite | reject
    pub action: String,
    /// The reason that was given with the override, where one let the statement through.
    pub overridden: Option<String>,
    /// What let it through: `lockkeeper.override`, `comment`, or the policy's block.
    pub overridden_by: Option<String>,
}

impl From<&Finding> for FindingRecord {
    fn from(finding: &Finding) -> FindingRecord {
        let action = match finding.action {
            Action::Allow => "allow",
            Action::Warn => "warn",
            Action::Rewrite => "rewrite",
            Action::Ask => "ask",
            Action::Reject => "reject",
        };
        FindingRecord {
            rule: finding.rule.to_string(),
            lock: finding.lock.name().to_string(),
            message: finding.message.clone(),
            hint: finding.hint.clone(),
            action: action.to_string(),
            overridden: finding.overridden.as_ref().map(|overridden| overridden.reason.clone()),
            overridden_by: finding.overridden.as_ref().map(|overridden| overridden.by.clone()),
        }
    }
}

/// Who held a lock that a step waited for. What the server hides from the client's role is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocker {
    /// Null: a prepared transaction, whose session is gone.
    pub pid: Option<i32>,
    /// The name of a prepared transaction, for ROLLBACK PREPARED.
    pub prepared: Option<String>,
    pub user: Option<String>,
    pub application_name: Option<String>,
    pub client: Option<String>,
    /// As in pg_stat_activity, or `prepared`, `autovacuum worker` and the like.
    pub state: Option<String>,
    /// Of its transaction.
    pub age_s: Option<f64>,
    /// The strongest that it holds there, as the manual writes it.
    pub lock: String,
    /// Shortened.
    pub query: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    pub label: String,
    pub sql: String,
    /// The strongest table lock that the step takes, as the manual writes it.
    pub lock: String,
    pub relation: String,
    pub duration_ms: f64,
    pub lock_tries: u32,
    /// Time spent in tries that did not get the lock and in the pauses between them.
    pub lock_wait_ms: f64,
    /// Who was seen holding it meanwhile.
    pub blockers: Vec<Blocker>,
    /// Why nobody could be seen, where nobody looked.
    pub blockers_unknown: Option<String>,
    pub rows: Option<u64>,
    /// done | skipped | failed | cancelled | not run
    pub outcome: String,
    pub sqlstate: Option<String>,
    pub error: Option<String>,
}

/// One statement at one moment: a line of the log. Every key is always there; what does not apply is null, empty or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    #[serde(with = "time")]
    pub time: SystemTime,
    #[serde(rename = "event")]
    pub phase: Phase,
    /// The same for every event of one statement, and for no other's.
    pub id: String,
    pub session: u64,
    pub backend_pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client: String,
    /// The policy's name or file.
    #[serde(default)]
    pub policy: String,
    /// The client's text: passwords masked, and cut when it is very long.
    pub statement: String,
    /// What was bound to $1, $2, …: text as it is, binary as `\\x…`, long ones cut; empty where literals are redacted.
    #[serde(default)]
    pub parameters: Vec<Option<String>>,
    /// schema.name of what the statement names and is there.
    #[serde(default)]
    pub relations: Vec<String>,
    /// forward | warn | rewrite | reject
    pub action: String,
    #[serde(default)]
    pub findings: Vec<FindingRecord>,
    /// Why what was done is safe.
    #[serde(default)]
    pub why: Vec<String>,
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// done | failed | rejected | cancelled | warned | rolled back | prepared | disconnected; `open` while its transaction is, and empty
    /// while planned.
    pub outcome: String,
    /// What it has changed is in this transaction or subtransaction, of which `pg_xact_status` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    #[serde(default)]
    pub sqlstate: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
    /// The error's DETAIL: also what was committed before it and what is left.
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub hint: Option<String>,
    #[serde(default)]
    pub rows: Option<u64>,
    #[serde(default)]
    pub duration_ms: f64,
    #[serde(default)]
    pub lock_tries: u32,
    #[serde(default)]
    pub lock_wait_ms: f64,
    /// Statements that lead back to the schema before, in the order to run them.
    #[serde(default)]
    pub rollback_plan: Vec<String>,
    /// What the plan leaves to be done by hand once programs have followed: a script that begins with a comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// What a plan left and what others noticed of it.
    #[serde(default)]
    pub after: Option<after::After>,
}

impl Event {
    /// Nothing is known of it yet.
    pub fn empty(phase: Phase) -> Event {
        Event {
            time: SystemTime::now(),
            phase,
            id: String::new(),
            session: 0,
            backend_pid: 0,
            user: String::new(),
            database: String::new(),
            application_name: String::new(),
            client: String::new(),
            policy: String::new(),
            statement: String::new(),
            parameters: Vec::new(),
            relations: Vec::new(),
            action: String::new(),
            findings: Vec::new(),
            why: Vec::new(),
            steps: Vec::new(),
            outcome: String::new(),
            transaction: None,
            sqlstate: None,
            error: None,
            detail: None,
            hint: None,
            rows: None,
            duration_ms: 0.0,
            lock_tries: 0,
            lock_wait_ms: 0.0,
            rollback_plan: Vec::new(),
            contract: None,
            after: None,
        }
    }

    /// The client's text as the log has it.
    pub fn shown_statement(&self, literals: Literals) -> String {
        // What is cut off would be left out in the end.
        let mut end = self.statement.len().min(SHOWN_BYTES_MAX);
        while !self.statement.is_char_boundary(end) {
            end -= 1;
        }
        Mask::of("", &self.parameters, literals).sql(&self.statement[..end])
    }

    /// Most of what masking has to walk through.
    fn is_long(&self) -> bool {
        let steps: usize = self.steps.iter().map(|step| step.sql.len()).sum();
        self.statement.len() + steps > LINE_INLINE_MAX
    }
}

/// More of a statement is not shown while it runs.
const SHOWN_BYTES_MAX: usize = 96 << 10;
/// Above this an event is masked and written out away from the worker, whose other sessions would wait.
const LINE_INLINE_MAX: usize = 32 << 10;

impl Event {
    /// Without passwords, and without literals where they are not wanted.
    pub fn masked(&self, literals: Literals) -> Event {
        let mask = Mask::of(&self.statement, &self.parameters, literals);
        let mut event = self.clone();
        let error = |sqlstate: &Option<String>, text: &mut Option<String>| {
            if let Some(text) = text {
                *text = mask.error(sqlstate.as_deref().unwrap_or_default(), text);
            }
        };
        error(&event.sqlstate, &mut event.error);
        event.detail = event.detail.and_then(|text| mask.detail(&text));
        event.hint = event.hint.map(|text| mask.prose(&text));
        event.statement = mask.sql(&event.statement);
        if literals == Literals::Redact || mask.has_secret() {
            event.parameters.clear();
        }
        for finding in &mut event.findings {
            finding.message = mask.prose(&finding.message);
            finding.hint = mask.prose(&finding.hint);
        }
        for text in &mut event.why {
            *text = mask.prose(text);
        }
        for step in &mut event.steps {
            step.label = mask.prose(&step.label);
            step.sql = mask.sql(&step.sql);
            error(&step.sqlstate, &mut step.error);
            for blocker in &mut step.blockers {
                blocker.query = blocker.query.as_ref().map(|query| query_of_another(query, literals));
            }
        }
        for sql in &mut event.rollback_plan {
            *sql = mask.sql(sql);
        }
        event.contract = event.contract.map(|script| mask.sql(&script));
        event
    }
}

/// Another session's query, as it may be shown to this one's client and in the log.
pub fn query_of_another(sql: &str, literals: Literals) -> String {
    Mask::of("", &[], literals).sql(sql)
}

/// The log, shared by all sessions; cloning is cheap. With [`Audit::off`] every write succeeds and goes nowhere.
#[derive(Clone)]
pub struct Audit {
    writer: Option<Arc<Handle>>,
}

impl Audit {
    /// Opens the file for appending, creating it with mode 0600 (not its directory), and starts the writer's thread.
    /// The error names the file and the cause.
    pub fn open(sink: Sink) -> Result<Audit, String> {
        let writer = Some(Arc::new(Handle::start(sink)?));
        Ok(Audit { writer })
    }

    pub fn off() -> Audit {
        Audit { writer: None }
    }

    /// Returns once the line is written (with [`Fsync::Each`](sink::Fsync::Each), on the disk), or after five seconds. After an error the next
    /// write tries again from the opening of the file on, so the log recovers by itself when there is room again; a line
    /// then says how many events are missing. A caller that stops waiting does not take its line back.
    pub async fn write(&self, event: &Event, literals: Literals) -> Result<(), String> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let line = match event.is_long() {
            false => serde_json::to_vec(&event.masked(literals)),
            true => {
                let event = event.clone();
                let masked = move || serde_json::to_vec(&event.masked(literals));
                match tokio::task::spawn_blocking(masked).await {
                    Ok(line) => line,
                    Err(error) => return Err(format!("cannot write an audit event: {error}")),
                }
            }
        };
        writer
            .write(line.map_err(|error| format!("cannot write an audit event: {error}"))?)
            .await
    }

    /// The line is on its way when this returns, and ahead of every later one of this caller's; [`Audit::heard`] tells what has become
    /// of it. None: nothing needs to be heard, or it was waited for here.
    pub async fn post(&self, event: &Event, literals: Literals) -> Result<Option<Posted>, String> {
        let Some(writer) = &self.writer else { return Ok(None) };
        if event.is_long() {
            return self.write(event, literals).await.map(|()| None);
        }
        let line = serde_json::to_vec(&event.masked(literals));
        match writer.post(line.map_err(|error| format!("cannot write an audit event: {error}"))?) {
            Ok(posted) => Ok(Some(posted)),
            Err(line) => writer.write(line).await.map(|()| None),
        }
    }

    pub async fn heard(&self, posted: Posted) -> Result<(), String> {
        match &self.writer {
            Some(writer) => writer.heard(posted).await,
            None => Ok(()),
        }
    }

    /// Writes two, one behind the other: the writer's thread is waited for once.
    pub async fn write_both(&self, first: &Event, second: &Event, literals: Literals) -> Result<(), String> {
        if first.is_long() || second.is_long() {
            let written = self.write(first, literals).await;
            return self.write(second, literals).await.and(written);
        }
        let (first, second) = tokio::join!(biased; self.write(first, literals), self.write(second, literals));
        first.and(second)
    }

    /// Opens the file by its name again, since logrotate has moved the old one away. Where that fails, the file that is
    /// open stays in use, and the error is logged.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen();
        }
    }

    /// At the end of the process: everything is on the disk, and the last line says so.
    pub async fn close(&self) {
        if let Some(writer) = &self.writer
            && let Err(error) = writer.close().await
        {
            tracing::error!("{error}");
        }
    }

    /// False after a write that failed, until one succeeds.
    pub fn healthy(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.healthy())
    }

    /// Events that could not be written, and that no line tells of yet.
    pub fn lost(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.lost())
    }

    /// What waits for the disk.
    pub fn backlog_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.backlog_bytes())
    }
}

#[cfg(test)]
mod tests;
