//! What the audit log will say of one statement, as it comes together.

use super::end::Broken;
use super::follow_up::FollowUp;
use crate::audit::after::After;
use crate::audit::{Event, FindingRecord, Phase, StepRecord};
use crate::plan::{Finding, Rejection, Run, Step};
use lockkeeper_wire::messages::Report;
use std::time::{Instant, SystemTime};

/// The event of one statement as it grows.
pub struct Entry {
    pub(super) event: Event,
    pub(super) started: Instant,
}

impl Entry {
    /// What was asked before its plan was made is a part of what the client waits for.
    pub fn since(mut self, begun: Instant) -> Entry {
        self.started = begun;
        self
    }

    pub fn forwarded(mut self, findings: &[Finding], warned: bool) -> Entry {
        self.event.findings = findings.iter().map(FindingRecord::from).collect();
        self.event.action = if warned { "warn" } else { "forward" }.into();
        self
    }

    pub fn rejected(mut self, rejection: &Rejection) -> Event {
        self.event.findings = rejection.findings.iter().map(FindingRecord::from).collect();
        self.event.action = "reject".into();
        self.event.outcome = "rejected".into();
        self.event.sqlstate = Some(rejection.sqlstate.clone());
        self.event.error = Some(rejection.message.clone());
        self.event.detail = said(&rejection.detail);
        self.event.hint = said(&rejection.hint);
        self.finish()
    }

    /// The error of a statement that was refused without a plan.
    pub fn refused(self, report: &Report) -> Event {
        let mut event = self.failed(report);
        event.outcome = "rejected".into();
        event
    }

    pub fn planned(mut self, run: &Run) -> Entry {
        self.event.findings = run.findings.iter().map(FindingRecord::from).collect();
        self.event.action = "rewrite".into();
        self.event.why.clone_from(&run.why);
        self.event.rollback_plan = run.rollback_plan();
        self.event.contract = run.contract().map(str::to_owned);
        self.event.steps = run.steps.iter().map(|step| step_record(step, "not run")).collect();
        self
    }

    /// As far as it is known.
    pub fn event(&self) -> &Event {
        &self.event
    }

    pub fn after(&mut self, after: After) {
        self.event.after = Some(after);
    }

    /// How a step went; `n` counts from 0.
    pub fn step(&mut self, n: usize) -> &mut StepRecord {
        &mut self.event.steps[n]
    }

    /// An event about one of its steps. What the first line has told of the whole plan is not told again with each of them: of many
    /// partitions that would be as much again for every one.
    pub(super) fn moment(&self, phase: Phase, step: StepRecord) -> Event {
        moment_of(&self.event, phase, vec![step])
    }

    pub fn done(mut self, tag: &str) -> Event {
        self.event.outcome = "done".into();
        self.event.rows = rows_of_tag(tag);
        self.finish()
    }

    pub fn failed(mut self, report: &Report) -> Event {
        fail(&mut self.event, report);
        self.finish()
    }

    /// The session ended before the statement did.
    pub fn disconnected(mut self, broken: &Broken) -> Event {
        disconnect(&mut self.event, broken);
        self.finish()
    }

    /// It goes on, and its answer is not looked at.
    pub fn forwarded_unseen(mut self) -> Event {
        self.event.outcome = "warned".into();
        self.finish()
    }

    /// The server's answer to a statement that was forwarded.
    pub fn answered(mut self, tag: Option<&str>, error: Option<&Report>) -> Event {
        if let Some(error) = error {
            return self.failed(error);
        }
        if let [step] = self.event.steps.as_mut_slice() {
            step.outcome = "done".into();
            step.rows = tag.and_then(rows_of_tag);
            step.duration_ms = self.started.elapsed().as_secs_f64() * 1e3;
        }
        let warned = self.event.action == "warn";
        let mut event = self.done(tag.unwrap_or_default());
        if warned {
            event.outcome = "warned".into();
        }
        event
    }

    pub(super) fn finish(mut self) -> Event {
        self.event.time = SystemTime::now();
        self.event.duration_ms = self.started.elapsed().as_secs_f64() * 1e3;
        self.event.lock_tries = self.event.steps.iter().map(|step| step.lock_tries).sum();
        self.event.lock_wait_ms = self
            .event
            .steps
            .iter()
            .map(|step| step.lock_wait_ms)
            .fold(0.0, |all, one| all + one);
        if self.event.rows.is_none() {
            // What was committed before it was stopped.
            self.event.rows = self
                .event
                .steps
                .iter()
                .filter_map(|step| step.rows)
                .reduce(|a, b| a + b);
        }
        self.event
    }
}

/// A statement that has run in a transaction which is open.
pub(super) struct Uncommitted {
    /// What the log has of it once the transaction is committed.
    pub(super) event: Event,
    pub(super) follow_up: Option<FollowUp>,
}

/// An event about one moment of a statement, with no more than tells whose it is.
pub(super) fn moment_of(whole: &Event, phase: Phase, steps: Vec<StepRecord>) -> Event {
    Event {
        id: whole.id.clone(),
        session: whole.session,
        backend_pid: whole.backend_pid,
        user: whole.user.clone(),
        database: whole.database.clone(),
        application_name: whole.application_name.clone(),
        client: whole.client.clone(),
        policy: whole.policy.clone(),
        statement: whole.statement.clone(),
        action: whole.action.clone(),
        steps,
        ..Event::empty(phase)
    }
}

/// How a transaction, or a part of it, has ended.
pub(super) enum Settled<'a> {
    Committed,
    RolledBack(&'a str),
    /// By an error at its COMMIT.
    Failed(&'a Report),
    Prepared,
    Unknown,
}

impl Uncommitted {
    pub(super) fn transaction(&self) -> Option<&str> {
        self.event.transaction.as_deref()
    }
}

pub(super) fn fail(event: &mut Event, report: &Report) {
    let sqlstate = report.sqlstate();
    event.outcome = if sqlstate == "57014" { "cancelled" } else { "failed" }.into();
    event.sqlstate = Some(sqlstate);
    event.error = Some(report.message());
    event.detail = said(&report.text(b'D'));
    event.hint = said(&report.text(b'H'));
}

pub(super) fn disconnect(event: &mut Event, broken: &Broken) {
    event.outcome = "disconnected".into();
    event.error = Some(broken.to_string());
}

pub fn step_record(step: &Step, outcome: &str) -> StepRecord {
    StepRecord {
        label: step.label.clone(),
        sql: step.sql.clone(),
        lock: step.lock.name().into(),
        relation: step.relation.clone(),
        outcome: outcome.into(),
        ..StepRecord::default()
    }
}

pub(super) fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The count in `UPDATE 5`, `SELECT 5`, `INSERT 0 5`.
pub(super) fn rows_of_tag(tag: &str) -> Option<u64> {
    tag.rsplit_once(' ')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_tags() {
        assert_eq!(rows_of_tag("UPDATE 12"), Some(12));
        assert_eq!(rows_of_tag("INSERT 0 3"), Some(3));
        assert_eq!(rows_of_tag("ALTER TABLE"), None);
    }
}
