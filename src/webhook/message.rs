//! What is told, as JSON or as Slack has it: pure.

use super::receipts::Account;
use super::settings::{Format, Kind};
use crate::audit::time::timestamp;
use crate::audit::{Event, Phase};
use crate::live::approvals::Request;
use crate::live::{PlanNow, SessionNow};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Longer statements are cut: who wants the whole has the audit log.
const STATEMENT_MAX: usize = 2_000;

/// What the end of a statement is, if it is told of.
pub fn kind_of(event: &Event) -> Option<Kind> {
    match (event.phase, event.outcome.as_str()) {
        (Phase::Statement, "rejected") => Some(Kind::Refused),
        (Phase::Statement, "failed" | "cancelled" | "disconnected") if !event.steps.is_empty() => Some(Kind::Failed),
        (Phase::Statement, "done") if event.contract.is_some() => Some(Kind::Contract),
        _ => None,
    }
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Refused => "refused",
        Kind::Asked => "waits for the approval of a second person",
        Kind::Decided => "was decided by a second person",
        Kind::Failed => "did not end well",
        Kind::Long => "takes long",
        Kind::Contract => "has left something to be done later",
        Kind::Stopped => "has stopped unfinished",
        Kind::Due => "is due",
    }
}

/// One message, without what a receiver may not see: literals are as in the audit log.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub body: Value,
    /// Whoever keeps account of it is told what became of it.
    pub account: Option<Account>,
}

impl Message {
    fn new(kind: Kind, body: Value) -> Message {
        Message {
            kind,
            body,
            account: None,
        }
    }

    pub fn of(kind: Kind, event: &Event) -> Message {
        let rules: Vec<&str> = event.findings.iter().map(|finding| finding.rule.as_str()).collect();
        let body = json!({
            "event": kind.name(),
            "time": timestamp(event.time),
            "id": event.id,
            "user": event.user,
            "database": event.database,
            "application_name": event.application_name,
            "statement": cut(&event.statement),
            "rules": rules,
            "outcome": event.outcome,
            "message": event.error,
            "detail": event.detail,
            "hint": event.hint,
            "duration_ms": event.duration_ms,
            "contract": event.contract,
        });
        Message::new(kind, body)
    }

    /// `kind`: asked or decided.
    pub fn approval(kind: Kind, request: &Request) -> Message {
        let decision = request.decision();
        let body = json!({
            "event": kind.name(),
            "time": timestamp(SystemTime::now()),
            "id": request.statement_id,
            "user": request.user(),
            "database": request.database(),
            "application_name": request.application_name,
            "statement": cut(&request.statement),
            "rules": request.rules.split(", ").collect::<Vec<_>>(),
            "approval": request.id,
            "approved": decision.map(|decision| decision.approved),
            "by": decision.map(|decision| decision.by.clone()),
            "reason": decision.map(|decision| decision.reason.clone()),
        });
        Message::new(kind, body)
    }

    pub fn long(session: &SessionNow, plan: &PlanNow, ran: Duration) -> Message {
        let body = json!({
            "event": Kind::Long.name(),
            "time": timestamp(SystemTime::now()),
            "id": plan.id,
            "user": session.user,
            "database": session.database,
            "application_name": session.application_name,
            "statement": cut(&plan.statement),
            "duration_ms": u64::try_from(ran.as_millis()).unwrap_or(u64::MAX),
            "step": plan.steps.get(plan.step),
            "blocked_by": plan.blocked_by,
        });
        Message::new(Kind::Long, body)
    }

    /// `kind`: stopped or due. Of a row of the list of jobs; `event` has what of its texts may be shown.
    pub fn job(kind: Kind, row: &Value, hint: &str, event: &Event) -> Message {
        let body = json!({
            "event": kind.name(),
            "time": timestamp(SystemTime::now()),
            "job": row["id"],
            "user": row["owner"],
            "database": row["database"],
            "application_name": row["application_name"],
            "relation": row["relation"],
            "column": row["column"],
            "state": row["state"],
            "statement": Some(cut(&event.statement)).filter(|sql| !sql.is_empty()),
            "rows_done": row["rows_done"],
            "message": event.error,
            "unused": row["unused"],
            "hint": hint,
        });
        Message::new(kind, body)
    }

    /// What the message is about.
    fn subject(&self) -> String {
        let text = |key: &str| self.body[key].as_str().map(escaped).unwrap_or_default();
        let (user, database, relation) = (text("user"), text("database"), text("relation"));
        match (self.kind, self.body["job"].as_i64()) {
            (Kind::Due, None) => format!("dropping the column {} of {relation} on {database}", text("column")),
            (Kind::Due, Some(job)) => {
                format!("dropping the old table of {relation} on {database}, which job {job} has kept,")
            }
            (_, Some(job)) => format!("job {job} of {user} on {database}"),
            (_, None) => format!("a statement of {user} on {database}"),
        }
    }

    pub fn written(&self, format: Format) -> Vec<u8> {
        let body = match format {
            Format::Json => self.body.to_string(),
            Format::Slack => json!({ "text": self.slack() }).to_string(),
        };
        body.into_bytes()
    }

    fn slack(&self) -> String {
        let text = |key: &str| self.body[key].as_str().map(escaped).unwrap_or_default();
        let mut lines = vec![format!("*lockkeeper*: {} {}", self.subject(), words(self.kind))];
        if !text("statement").is_empty() {
            lines.push(format!("```{}```", text("statement").replace("```", "'''")));
        }
        for (key, label) in [
            ("message", ""),
            ("detail", ""),
            ("step", "step: "),
            ("blocked_by", "blocked by: "),
            ("unused", ""),
        ] {
            if !text(key).is_empty() {
                lines.push(format!("{label}{}", text(key)));
            }
        }
        if let Some(approval) = self.body["approval"].as_u64() {
            lines.push(match self.body["approved"].as_bool() {
                None => format!("`lockkeeper approvals --dsn … approve {approval} --reason '<why>'`"),
                Some(approved) => format!(
                    "approval {approval}: {} by {}: {}",
                    if approved { "approved" } else { "declined" },
                    text("by"),
                    text("reason")
                ),
            });
        }
        lines.push(match self.kind {
            Kind::Stopped | Kind::Due => text("hint"),
            _ => format!("id {}", text("id")),
        });
        lines.join("\n")
    }
}

/// What Slack reads as markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(statement: &str) -> String {
    match statement.char_indices().nth(STATEMENT_MAX) {
        Some((end, _)) => format!("{}…", &statement[..end]),
        None => statement.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_statement_is_markup() {
        let event = Event {
            user: "<!channel>".into(),
            statement: "SELECT '```' & <b>".into(),
            outcome: "rejected".into(),
            error: Some("no".into()),
            ..Event::empty(Phase::Statement)
        };
        assert_eq!(kind_of(&event), Some(Kind::Refused));
        let body: Value =
            serde_json::from_slice(&Message::of(Kind::Refused, &event).written(Format::Slack)).expect("JSON");
        let text = body["text"].as_str().unwrap_or_default();
        assert!(
            text.contains("&lt;!channel&gt;") && text.contains("```SELECT ''''' &amp; &lt;b&gt;```"),
            "{text}"
        );
    }

    #[test]
    fn what_ends_as_it_should_is_not_told_of() {
        for (outcome, expect) in [("done", None), ("failed", None), ("rejected", Some(Kind::Refused))] {
            let event = Event {
                outcome: outcome.into(),
                ..Event::empty(Phase::Statement)
            };
            assert_eq!(kind_of(&event), expect, "{outcome}");
        }
    }
}
