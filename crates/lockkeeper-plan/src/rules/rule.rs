//! A rule: one danger, as data, and what it says of a statement.

use crate::lock::LockMode;
use crate::remedies::steps;
use crate::step::Step;
use crate::subject::Subject;

/// One danger, as data: the linter, `lockkeeper rules` and the book print it, plan() calls `check`.
pub struct Rule {
    /// Reads well after "allow": `drop-column`.
    pub name: &'static str,
    /// The strongest table lock that the statement takes when it runs as written.
    pub lock: LockMode,
    /// Which statements, in one sentence.
    pub what: &'static str,
    /// What goes wrong on a live table.
    pub why: &'static str,
    /// Where versions differ; else `13–18`.
    pub versions: &'static str,
    /// What is done or advised instead.
    pub safe: &'static str,
    pub bad: &'static [&'static str],
    pub good: &'static [&'static str],
    pub(crate) check: fn(&Subject) -> Option<Found>,
}

/// What a rule says. The name and lock are the rule's.
pub(crate) struct Found {
    /// What it would do, in one clause without a full stop.
    pub message: String,
    /// The remedy in short, for the error's first line.
    pub short: String,
    /// Safe SQL, ready to copy.
    pub hint: String,
    pub remedy: Remedy,
    /// None: the statement is judged a matter of the object's state (55000), not of its syntax.
    pub sqlstate: Option<&'static str>,
}

pub(crate) enum Remedy {
    Steps(Vec<Step>),
    /// No safe form that could be proven: what "rewrite" in a policy means then is "reject". The reason, if there is more to say.
    None(Option<String>),
}

impl Found {
    /// With the steps as the remedy and as the hint.
    pub(crate) fn steps(message: String, short: &str, steps: Result<Vec<Step>, String>, otherwise: &str) -> Found {
        match steps {
            Ok(steps) => Found {
                message,
                short: short.to_string(),
                hint: steps::as_script(&steps),
                remedy: Remedy::Steps(steps),
                sqlstate: None,
            },
            Err(reason) => Found {
                message,
                short: short.to_string(),
                hint: otherwise.to_string(),
                remedy: Remedy::None(Some(reason)),
                sqlstate: None,
            },
        }
    }

    /// With no remedy but the advice.
    pub(crate) fn advice(message: String, short: &str, hint: String) -> Found {
        Found {
            message,
            short: short.to_string(),
            hint,
            remedy: Remedy::None(None),
            sqlstate: None,
        }
    }
}
