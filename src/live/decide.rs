//! Who asks for approval, and who decides.

use super::approvals::{Asks, Decision, Key, Request};
use super::{Live, lock};
use crate::audit::Who;
use std::time::SystemTime;

impl Live {
    /// What was decided about such a statement, and under which number.
    pub fn approval(&self, key: &Key) -> Option<(u64, Decision)> {
        let mut approvals = lock(&self.approvals);
        approvals.forget_old(SystemTime::now());
        let request = approvals.requests.values().rev().find(|request| request.key == *key)?;
        Some((request.id, request.decision()?.clone()))
    }

    /// The number under which it waits, and the request if it is a new one.
    pub fn ask_approval(&self, asks: Asks, who: &Who) -> (u64, Option<Request>) {
        let mut approvals = lock(&self.approvals);
        approvals.forget_old(SystemTime::now());
        let same = |request: &&Request| request.key == asks.key && request.decided.is_none();
        if let Some(known) = approvals.requests.values().find(same) {
            return (known.id, None);
        }
        approvals.last += 1;
        let id = approvals.last;
        let request = Request {
            id,
            statement_id: asks.statement_id,
            key: asks.key,
            application_name: who.application_name.clone(),
            statement: asks.statement,
            rules: asks.rules,
            asked: SystemTime::now(),
            decided: None,
        };
        approvals.requests.insert(id, request.clone());
        (id, Some(request))
    }

    pub fn approvals(&self) -> Vec<Request> {
        let mut approvals = lock(&self.approvals);
        approvals.forget_old(SystemTime::now());
        approvals.requests.values().cloned().collect()
    }

    /// What could not be written down was not decided.
    pub fn undecide(&self, id: u64) {
        if let Some(request) = lock(&self.approvals).requests.get_mut(&id) {
            request.decided = None;
        }
    }

    /// What was decided. Err: why not.
    pub fn decide(&self, id: u64, approved: bool, by: &str, reason: &str) -> Result<Request, String> {
        let mut approvals = lock(&self.approvals);
        approvals.forget_old(SystemTime::now());
        let Some(request) = approvals.requests.get_mut(&id) else {
            return Err(format!(
                "nothing waits for approval under number {id}: SHOW APPROVALS lists what does"
            ));
        };
        if request.key.user == by {
            return Err(format!("{by} has asked for it: somebody else decides, as another role"));
        }
        if let Some((_, known)) = &request.decided {
            let what = if known.approved { "approved" } else { "declined" };
            return Err(format!("{} has {what} it already", known.by));
        }
        if reason.trim().is_empty() {
            return Err("say why: whoever has asked is told".into());
        }
        let decision = Decision {
            approved,
            by: by.to_owned(),
            reason: reason.trim().to_owned(),
        };
        request.decided = Some((SystemTime::now(), decision));
        tracing::info!(id, approved, by, reason, statement = request.statement, "decided");
        Ok(request.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_else_decides_once_and_says_why() {
        let live = Live::default();
        let key = |user: &str, digest: u8| Key {
            user: user.into(),
            database: "d".into(),
            digest: vec![digest],
        };
        let ask = |key: Key| {
            let asks = Asks {
                key,
                statement_id: String::new(),
                statement: "DROP TABLE t".into(),
                rules: "drop-table".into(),
            };
            live.ask_approval(asks, &Who::default()).0
        };
        let id = ask(key("amy", 1));
        assert_eq!(ask(key("amy", 1)), id);
        assert_ne!(ask(key("bob", 1)), id);
        assert!(live.approval(&key("amy", 1)).is_none());
        assert!(live.decide(id, true, "amy", "mine").is_err());
        assert!(live.decide(id, true, "dba", " ").is_err());
        assert!(live.decide(99, true, "dba", "x").is_err());
        assert!(live.decide(id, true, "dba", "ticket 7").is_ok());
        assert!(live.decide(id, false, "eve", "no").is_err());
        let (known, decision) = live.approval(&key("amy", 1)).expect("a decision");
        assert!(known == id && decision.approved && decision.by == "dba");
        assert!(live.approval(&key("amy", 2)).is_none() && live.approval(&key("bob", 1)).is_none());
    }
}
