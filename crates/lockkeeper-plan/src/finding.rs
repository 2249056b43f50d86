//! What a rule found, and the error that the client gets for it.

use crate::lock::LockMode;
use crate::policy::{Action, Overridden};

/// What a rule found. A value, not an error.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static str,
    pub lock: LockMode,
    /// What it would do, in one sentence, with the table's name and size where known.
    pub message: String,
    /// What to do instead: safe SQL for these very names, ready to copy.
    pub hint: String,
    pub action: Action,
    /// Set where an override let the statement through.
    pub overridden: Option<Overridden>,
    /// The part of the statement that was found, in bytes of [`Statement::sql`](crate::statement::Statement::sql).
    pub span: std::ops::Range<usize>,
}

/// The error that the client gets instead of the statement's execution.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub findings: Vec<Finding>,
    /// Five characters, as in the manual's appendix A.
    pub sqlstate: String,
    /// Holds the remedy in short too: several clients never show the hint.
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Rejection {
    /// The session must not go on: what comes next of the same program would do harm, and it does not stop at an error.
    pub fn ends_session(&self) -> bool {
        let is = |finding: &Finding| finding.rule == "clean-restore" && finding.action == Action::Reject;
        self.findings.iter().any(is)
    }
}
