//! Carries out a plan's steps, and says of them what is to be said.

use super::end::{Broken, End};
use super::entry::Entry;
use super::session::Session;
use super::step_context::StepContext;
use super::verdict::Verdict;
use crate::plan::catalog::Relation;
use crate::plan::deferred::Deferral;
use crate::plan::{Place, Rejection, Run, pooled};
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

impl Session {
    /// In the client's encoding the server would take this text of ours for another one.
    pub(super) fn is_lost(&self, text: &str) -> bool {
        match self.relay.reported.client_encoding.as_str() {
            "UTF8" | "UNICODE" => false,
            "SQL_ASCII" => text.contains(char::REPLACEMENT_CHARACTER),
            _ => !text.is_ascii(),
        }
    }

    /// Names from the catalog that the client did not write would be others in its encoding.
    pub(super) fn uncarried(&self, run: &Run) -> Option<Rejection> {
        if self.relay.is_behind_pooler()
            && let Some(rejection) = pooled::uncarried(run)
        {
            return Some(rejection);
        }
        let deferred = match &run.deferral {
            Some(Deferral::New(new)) => new.later.as_slice(),
            _ => &[],
        };
        let encoding = self.relay.reported.client_encoding.as_str();
        let step = run.steps.iter().chain(deferred).find(|step| self.is_lost(&step.sql))?;
        Some(Rejection {
            // feature_not_supported
            sqlstate: "0A000".to_owned(),
            message: format!(
                "carrying this out safely takes names that cannot be sent in client_encoding {encoding}; SET client_encoding = 'UTF8' and send it again"
            ),
            detail: format!("The step: {}", step.sql),
            hint: String::new(),
            findings: run.findings.clone(),
        })
    }

    /// An error of a plan that somebody else has cancelled says so.
    pub(super) fn by_whom(&self, report: Report) -> Report {
        match self.seat.reins.cancelled_by() {
            Some(by) if report.sqlstate() == "57014" => report.detail(&format!("The plan was cancelled by {by}.")),
            _ => report,
        }
    }

    /// The steps, and what is told of them: to whoever looks while they run, and to the audit log at their end.
    pub(super) async fn carry_out(
        &mut self,
        run: &Run,
        relations: &[Relation],
        setting: StepContext<'_>,
        mut entry: Entry,
    ) -> Result<Verdict, Broken> {
        self.seat.reins.begin(&entry.event().id, setting.place != Place::Alone);
        self.seat.plan_begins(entry.event(), setting.policy.audit_literals);
        let watched = self.begin_watching(relations, run);
        let rehearsal = run.rehearsal.as_ref().filter(|rehearsal| !self.is_lost(&rehearsal.sql));
        let rehearsed = match rehearsal {
            Some(rehearsal) => self.rehearse(rehearsal, run, setting).await,
            None => Ok(()),
        };
        let conducted = match rehearsed {
            Ok(()) => self.conduct(run, setting, &mut entry).await,
            Err(end) => Err(end),
        };
        let conducted = match conducted {
            Ok(tag) => Ok(tag),
            Err(End::Refused(report)) => Err(self.by_whom(report)),
            Err(End::Broken(broken)) => {
                self.seat.reins.end();
                self.seat.plan_ends();
                self.record(entry.disconnected(&broken)).await;
                return Err(broken);
            }
        };
        // Of batches and steps only the whole has a tag.
        match &conducted {
            Ok(tag) => self.relay.shapes.heard(tag.as_bytes()),
            Err(_) => self.relay.shapes.much_has_changed(),
        }
        // Should the session end right here, the statement was carried out all the same.
        let after = self.end_watching(watched, setting.place).await;
        self.seat.plan_ends();
        self.meet_late_cancel().await;
        let (follow_up, broken) = match after {
            Ok((after, follow_up)) => {
                entry.after(after);
                (Some(follow_up), None)
            }
            Err(broken) => (None, Some(broken)),
        };
        let (event, verdict) = match conducted {
            Ok(tag) => (entry.done(&tag), Verdict::Done(tag)),
            Err(report) => (entry.failed(&report), Verdict::Refused(report)),
        };
        self.shared.rates.learn_plan(run, relations, &event.steps);
        self.record_end(event, follow_up).await;
        if let Some(broken) = broken {
            return Err(broken);
        }
        Ok(verdict)
    }

    /// A cancel request for this plan that is still on its way finds the session idle, and not in the client's next statement.
    async fn meet_late_cancel(&self) {
        if !self.seat.reins.end() {
            return;
        }
        let until = Instant::now() + self.shared.limits.cancel_timeout;
        while self.seat.reins.is_underway() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.cancel.clear();
    }
}
