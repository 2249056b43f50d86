//! Jobs that stopped, and what is due to be dropped: what is told of each, and what tells it from all others. Pure.

use super::message::Message;
use super::settings::Kind;
use crate::audit::{Event, Phase};
use crate::plan::policy::Literals;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So long it is not asked again who tells of one.
const SETTLED_FOR: Duration = Duration::from_secs(300);

/// What may be told of.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: Kind,
    /// The same, whoever finds it: of a job's stop the run that ended, and of what is due the job or the trigger.
    pub subject: String,
    /// As a row of the list of jobs.
    pub row: Value,
    /// What can be done about it, for people.
    pub hint: String,
}

impl Found {
    pub fn stopped(row: Value) -> Option<Found> {
        let (id, run) = (row["id"].as_i64()?, row["run"].as_str()?);
        let hint = format!("lockkeeper jobs --dsn … resume {id} goes on where it stopped; cancel {id} gives it up.");
        Some(Found {
            kind: Kind::Stopped,
            subject: format!("job {id} run {run}"),
            row,
            hint,
        })
    }

    /// None: it is no old table whose time has come, nor a column that has been unused for as long as the policy asks.
    pub fn due(mut row: Value, quiet_for_s: u64) -> Option<Found> {
        if row["state"] != "due" {
            return None;
        }
        let (subject, hint) = match row["id"].as_i64() {
            Some(id) => (
                format!("job {id}"),
                format!("lockkeeper jobs --dsn … finish {id} drops the old table; until then back {id} returns to it."),
            ),
            None => {
                let unused_s = row["unused_s"].as_u64()?;
                if quiet_for_s == 0 || unused_s < quiet_for_s {
                    return None;
                }
                // What is to be done is no statement, but words.
                let words = row["statement"].take();
                (
                    format!("trigger {}", row["trigger"].as_i64()?),
                    words.as_str()?.to_owned(),
                )
            }
        };
        Some(Found {
            kind: Kind::Due,
            subject,
            row,
            hint,
        })
    }

    /// Values in statement and error are as in the audit log.
    pub fn message(&self, literals: Literals) -> Message {
        let text = |key: &str| self.row[key].as_str().map(str::to_owned);
        let event = Event {
            statement: text("statement").unwrap_or_default(),
            // Its SQLSTATE, which decides what of it may be told, is not kept.
            error: text("error").filter(|_| literals == Literals::Keep),
            ..Event::empty(Phase::Statement)
        };
        let message = Message::job(self.kind, &self.row, &self.hint, &event.masked(literals));
        Message {
            account: Some((self.kind.name(), self.subject.clone())),
            ..message
        }
    }
}

/// The looks of one watcher, one after the other.
#[derive(Default)]
pub struct Looks {
    before: BTreeMap<String, Value>,
    /// Since when.
    settled: BTreeMap<String, Instant>,
}

impl Looks {
    /// Of jobs that stand still those that stood so at the look before: in between a run ends or begins, and a pause by a person is written.
    pub fn lasting(&mut self, stopped: Vec<Found>) -> Vec<Found> {
        let state = |one: &Found| (one.subject.clone(), one.row["state"].clone());
        let now = stopped.iter().map(state).collect();
        let before = std::mem::replace(&mut self.before, now);
        let lasts = |one: &Found| before.get(&one.subject) == Some(&one.row["state"]);
        stopped.into_iter().filter(lasts).collect()
    }

    /// Without those of which it was asked a moment ago who tells.
    pub fn open(&mut self, found: Vec<Found>, now: Instant) -> Vec<Found> {
        self.settled
            .retain(|_, at| now.saturating_duration_since(*at) < SETTLED_FOR);
        let is_open = |one: &Found| !self.settled.contains_key(&one.subject);
        found.into_iter().filter(is_open).collect()
    }

    pub fn settle(&mut self, found: &[Found], now: Instant) {
        self.settled.extend(found.iter().map(|one| (one.subject.clone(), now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::settings::Format;
    use serde_json::json;

    fn stop(run: &str, state: &str) -> Found {
        Found::stopped(json!({"id": 1, "run": run, "state": state})).expect("a job")
    }

    #[test]
    fn only_what_lasts_has_stopped() {
        let mut looks = Looks::default();
        let mut look = |run, state| looks.lasting(vec![stop(run, state)]).len();
        assert_eq!(look("a", "interrupted"), 0);
        assert_eq!(look("b", "interrupted"), 0);
        assert_eq!(look("b", "failed"), 0);
        assert_eq!(look("b", "failed"), 1);
    }

    #[test]
    fn what_is_settled_is_not_asked_at_once_and_the_next_run_is() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        assert_eq!(looks.open(vec![stop("a", "failed")], now).len(), 1);
        looks.settle(&[stop("a", "failed")], now);
        assert_eq!(looks.open(vec![stop("a", "failed")], now).len(), 0);
        assert_eq!(looks.open(vec![stop("b", "failed")], now).len(), 1);
        assert_eq!(looks.open(vec![stop("a", "failed")], now + SETTLED_FOR).len(), 1);
    }

    #[test]
    fn a_column_is_due_once_it_has_been_unused_for_long() {
        let row =
            |unused_s| json!({"id": null, "trigger": 7, "state": "due", "statement": "words", "unused_s": unused_s});
        for (unused_s, quiet_for_s, expect) in [
            (json!(60), 60, true),
            (json!(59), 60, false),
            (json!(null), 60, false),
            (json!(60), 0, false),
        ] {
            assert_eq!(Found::due(row(unused_s), quiet_for_s).is_some(), expect);
        }
        let kept = |state| Found::due(json!({"id": 7, "state": state}), 0).is_some();
        assert_eq!(["kept", "due", "paused"].map(kept), [false, true, false]);
    }

    #[test]
    fn values_are_as_in_the_audit_log() {
        let row = json!({"id": 1, "run": "2", "state": "failed", "statement": "UPDATE t SET a = 'geheim'", "error": "not geheim"});
        let found = Found::stopped(row).expect("a job");
        let told = |literals| found.message(literals).body.to_string();
        assert_eq!(told(Literals::Keep).matches("geheim").count(), 2);
        assert_eq!(told(Literals::Redact).matches("geheim").count(), 0);
    }

    #[test]
    fn a_job_is_told_of_with_what_can_be_done() {
        let slack = |found: Option<Found>| {
            let written = found.expect("found").message(Literals::Keep).written(Format::Slack);
            let body: Value = serde_json::from_slice(&written).expect("JSON");
            body["text"].as_str().unwrap_or_default().to_owned()
        };
        let job = json!({"id": 7, "run": "1", "owner": "app", "database": "shop", "state": "failed", "statement": "DELETE FROM t", "error": "no"});
        let text = slack(Found::stopped(job));
        let begin = "*lockkeeper*: job 7 of app on shop has stopped unfinished\n```DELETE FROM t```\nno\n";
        assert!(
            text.starts_with(begin) && text.contains("resume 7") && !text.contains("\nid "),
            "{text}"
        );
        let column = json!({"id": null, "trigger": 1, "state": "due", "database": "shop", "relation": "public.t", "column": "a", "statement": "drop it",
            "unused": "unused since", "unused_s": 60});
        let text = slack(Found::due(column, 60));
        assert_eq!(
            text,
            "*lockkeeper*: dropping the column a of public.t on shop is due\nunused since\ndrop it"
        );
    }
}
