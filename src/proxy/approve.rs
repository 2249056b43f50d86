//! The policy's action `ask`: a statement waits a while for the second person, and what that person decides goes to the audit log.

use super::end::End;
use super::session::Session;
use super::shared::Shared;
use crate::audit::{Event, FindingRecord, Phase};
use crate::live::approvals::{Asks, Key, Request};
use crate::plan::Place;
use crate::plan::policy::OnAuditFailure;
use crate::webhook::message::Message;
use crate::webhook::settings::Kind;
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// Between two looks whether it has been decided.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Session {
    /// Under which number it waits; who is to hear of it is told, once.
    pub(super) fn asks_approval(&self, asks: Asks) -> u64 {
        let (id, new) = self.shared.live.ask_approval(asks, &self.who);
        if let (Some(webhook), Some(request)) = (&self.shared.webhook, new) {
            webhook.offer(Message::approval(Kind::Asked, &request));
        }
        id
    }

    /// Waits on the server, where a cancel reaches it. Err: it was decided, and the statement is judged once more; or the wait has ended
    /// otherwise than by its time.
    pub(super) async fn waits_for_approval(&mut self, id: u64, key: &Key, seconds: u64) -> Result<(), End> {
        let until = Instant::now() + Duration::from_secs(seconds);
        self.relay
            .notice(&format!(
                "the statement waits up to {seconds} s for the approval of a second person, as number {id}: lockkeeper approvals --dsn … approve \
                 {id} --reason '<why>'"
            ))
            .await?;
        while Instant::now() < until {
            if self.shared.live.approval(key).is_some() {
                self.was_decided = true;
                return Err(Report::error("55000", "lockkeeper: it was decided meanwhile").into());
            }
            self.pause(LOOK_EVERY, Place::Alone).await?;
        }
        Ok(())
    }
}

/// Approves or declines, and writes it down. What cannot be written down under a policy that fails closed is not decided.
pub(super) async fn decide(shared: &Shared, id: u64, approved: bool, by: &str, reason: &str) -> Result<String, Report> {
    let decided = shared.live.decide(id, approved, by, reason);
    let request = decided.map_err(|why| Report::error("55000", &format!("lockkeeper: {why}")))?;
    let policy = shared.policy();
    let written = shared
        .audit
        .write(&event(&request, &policy.name), policy.audit_literals)
        .await;
    if let Err(error) = written {
        tracing::error!(error, id, by, "a decision is not in the audit log");
        if policy.on_audit_failure == OnAuditFailure::Closed {
            shared.live.undecide(id);
            let message = format!("lockkeeper: the audit log cannot be written, so nothing was decided: {error}");
            return Err(Report::error("58030", &message));
        }
    }
    if let Some(webhook) = &shared.webhook {
        webhook.offer(Message::approval(Kind::Decided, &request));
    }
    Ok(match approved {
        true => format!("{id} is approved: {} may send it within an hour", request.user()),
        false => format!("{id} is declined"),
    })
}

fn event(request: &Request, policy: &str) -> Event {
    let (what, by, reason) = match request.decision() {
        Some(decision) if decision.approved => ("approved", decision.by.as_str(), decision.reason.as_str()),
        Some(decision) => ("declined", decision.by.as_str(), decision.reason.as_str()),
        None => ("", "", ""),
    };
    let finding = |rule: &str| FindingRecord {
        rule: rule.to_owned(),
        action: "ask".into(),
        ..FindingRecord::default()
    };
    Event {
        id: request.statement_id.clone(),
        user: request.user().to_owned(),
        database: request.database().to_owned(),
        application_name: request.application_name.clone(),
        policy: policy.to_owned(),
        statement: request.statement.clone(),
        action: "ask".into(),
        findings: request.rules.split(", ").map(finding).collect(),
        outcome: what.into(),
        detail: Some(format!("approval {}: {what} by {by}: {reason}", request.id)),
        ..Event::empty(Phase::Decided)
    }
}
