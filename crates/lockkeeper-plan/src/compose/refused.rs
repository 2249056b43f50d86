//! What a refusal says.

use super::Composer;
use crate::finding::{Finding, Rejection};
use crate::lock::LockMode;
use crate::policy::Action;
use crate::step::Place;
use crate::tool;

impl Composer<'_> {
    pub(super) fn rejection(self) -> Rejection {
        let first = &self.refusals[0];
        let refused: Vec<&Finding> = self.findings.iter().filter(|f| f.action == Action::Reject).collect();
        let detail = refused
            .iter()
            .map(|f| {
                // What the message says is not said again.
                let message = match f.message == first.message {
                    true => String::new(),
                    false => format!("{}; ", f.message),
                };
                let lock = match f.lock {
                    LockMode::None => "it locks no table".to_owned(),
                    lock => format!("the lock is {}, which blocks {}", lock.name(), lock.blocks()),
                };
                format!("Rule {}: {message}{lock}.", f.rule)
            })
            .collect::<Vec<_>>()
            .join("\n");
        let mut hint = self
            .refusals
            .iter()
            .map(|r| r.hint.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        // What the server itself refuses, nobody can let through.
        if self
            .refusals
            .iter()
            .all(|r| !matches!(r.sqlstate, "42601") && r.rule != "concurrent-in-transaction")
        {
            hint.push('\n');
            hint.push_str(&self.override_hint());
        }
        let message = match first.short.as_str() {
            "" => first.message.clone(),
            short => format!("{}: {short}", first.message),
        };
        Rejection {
            sqlstate: first.sqlstate.to_string(),
            message,
            detail,
            hint: hint.trim().to_string(),
            findings: self.findings,
        }
    }

    fn override_hint(&self) -> String {
        let (policy, subject) = (self.whole.policy, self.policy_subject());
        if !policy.may_override(&subject) {
            return match self.overrides.any() {
                true => format!(
                    "An override is given (lockkeeper.override, or the comment `lockkeeper: allow=…`), but the policy does not let {} use it.",
                    self.whole.facts.role
                ),
                false => String::new(),
            };
        }
        if let Some(problem) = self.overrides.problem(policy.reason_required(&subject)) {
            return problem;
        }
        let facts = self.whole.facts;
        let lost = match facts.override_lost {
            true => {
                "lockkeeper.override is set, but behind a connection pooler it may be another client's, and does not count. "
            }
            false => "",
        };
        let mut names: Vec<&str> = Vec::new();
        for refusal in &self.refusals {
            if !names.contains(&refusal.rule) {
                names.push(refusal.rule);
            }
        }
        let setting = format!("lockkeeper.override = '{}: <why>'", names.join(", "));
        let comment = format!("/* lockkeeper: allow={} reason=\"<why>\" */", names.join(","));
        let how = match facts.tool {
            // Behind a pooler a setting does not count.
            Some(tool) if !facts.pooled => {
                let lasts = match self.whole.place {
                    Place::Block => tool::Lasts::Transaction,
                    _ => tool::Lasts::Session,
                };
                tool.overriding(&setting, &comment, lasts)
            }
            None if !facts.pooled => format!("SET {setting}; or in front of it {comment}"),
            _ => format!("in front of it {comment}"),
        };
        format!("{lost}To run it as it is all the same: {how}")
    }
}
