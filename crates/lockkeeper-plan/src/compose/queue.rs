//! Whether the statement's lock makes others wait, and what the rule lock-queue says of it.

use super::REJECTED;
use super::{Composer, Refusal, told};
use crate::finding::Finding;
use crate::locks::strongest;
use crate::policy::Action;
use crate::rules::lock_queue;

impl Composer<'_> {
    /// Any lock that another session could wait for: not if everything named was created here, or does not exist.
    pub(super) fn locks_others(&self) -> bool {
        if !lock_queue::locks(self.whole) {
            return false;
        }
        let facts = self.whole.facts;
        let named = &self.request.relations;
        if facts.offline || named.is_empty() {
            return true;
        }
        named
            .iter()
            .filter_map(|name| facts.relation(name))
            .any(|relation| !relation.invisible_to_others())
    }

    pub(super) fn judge_lock_queue(&mut self) -> Action {
        let rule = &lock_queue::RULE;
        let found = lock_queue::found(&self.shown, strongest(self.whole.statement));
        let (action, overridden) = self.action(rule.name);
        // An override of the other rules lets the statement run, but still not wait in the queue.
        match action {
            Action::Allow if overridden.is_none() => return action,
            Action::Warn => self.notices.push(format!("{}: {}", rule.name, found.message)),
            Action::Reject => self.refusals.push(Refusal {
                sqlstate: REJECTED,
                message: found.message.clone(),
                short: found.short.clone(),
                hint: found.hint.clone(),
                rule: rule.name,
            }),
            _ => {}
        }
        self.notices.extend(told(rule.name, &overridden));
        self.findings.push(Finding {
            rule: rule.name,
            lock: strongest(self.whole.statement),
            message: found.message,
            hint: found.hint,
            action,
            overridden,
            span: self.whole_span(),
        });
        action
    }
}
