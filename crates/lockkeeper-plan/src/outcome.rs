//! What is done about one statement: it goes on, is carried out in steps, or is refused.

use crate::deferred::Deferral;
use crate::finding::{Finding, Rejection};
use crate::reading;
use crate::step::{Mode, Step};

/// What is done about one statement.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The client's own bytes go on. The findings are those that the policy allows or only warns of; `notices` is their text.
    Forward {
        findings: Vec<Finding>,
        notices: Vec<String>,
    },
    /// The steps are carried out in order, in place of the statement.
    Run(Run),
    Reject(Rejection),
}

/// An ALTER TABLE on an empty table of the same columns, see [`crate::rehearsal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// What makes the tables; where it fails, nothing is known.
    pub made: Vec<String>,
    pub sql: String,
    /// The real table's, for the error.
    pub schema: String,
    /// Each table that a foreign key refers to has a stand-in.
    pub(crate) all_known: bool,
    /// They have all keys that the real ones have.
    pub(crate) all_keys: bool,
}

#[derive(Clone, Debug)]
pub struct Run {
    pub findings: Vec<Finding>,
    /// Told to the client before the first step (warnings, and overrides that were used).
    pub notices: Vec<String>,
    /// Empty only where everything is deferred.
    pub steps: Vec<Step>,
    /// What comes before the first step, where there are several.
    pub rehearsal: Option<Rehearsal>,
    /// What is left for after the client's COMMIT.
    pub deferral: Option<Deferral>,
    /// The command tag that the client sees at the end, such as `ALTER TABLE`. A [`Mode::Batches`] or [`Mode::Rows`] step
    /// answers with its own count instead.
    pub tag: String,
    /// Why this is safe, for the audit event (for example "no rewrite: the default is not volatile").
    pub why: Vec<String>,
}

impl Run {
    /// It leaves no invalid index and no constraint that is not validated, whether it succeeds or not. `partitioned`: it is about a
    /// partitioned table, of which an index can be made alone.
    pub fn is_whole(&self, partitioned: bool) -> bool {
        let made = self.tag == "CREATE INDEX" && !partitioned;
        let halves = ["VALID", "ENFORCED", "CONCURRENTLY", "INDEX"];
        let is_whole = |step: &Step| {
            let sql = step.sql.to_ascii_uppercase();
            let mut held = halves.iter().filter(|word| sql.contains(*word));
            matches!(step.mode, Mode::Brief { .. }) && held.all(|word| made && *word == "INDEX")
        };
        self.deferral.is_none() && matches!(self.steps.as_slice(), [step] if is_whole(step))
    }

    /// How to get back to the schema before the plan, one statement each: the steps' `rollback`, last step first.
    pub fn rollback_plan(&self) -> Vec<String> {
        let statements = |text: &str| match reading::read(text.as_bytes(), true) {
            Ok(all) => all.into_iter().map(|statement| statement.sql).collect(),
            Err(_) => vec![text.to_string()],
        };
        let texts = self.steps.iter().rev().filter_map(|step| step.rollback.as_deref());
        texts.flat_map(statements).collect()
    }

    /// What the plan leaves to be done by hand, on a later day.
    pub fn contract(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|s| s.contract.as_deref())
    }
}
