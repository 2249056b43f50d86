//! The rule table. One danger a file; a rule is its file and one word here.
//!
//! A rule says what a statement would do to a live table and how the same end state is reached safely. It never decides:
//! what a finding means is the policy's, and how findings become one plan is [`super::compose`]'s.

use super::facts::Facts;
use super::lock::LockMode;
use super::policy::Policy;
use super::statement::Statement;
use super::{Place, Step};
use pg_query::protobuf::AlterTableCmd;

/// One danger, as data: the linter, `lockkeeper rules` and the README print it, plan() calls `check`.
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
    pub(super) check: fn(&Subject) -> Option<Found>,
}

/// What a rule looks at.
pub(super) struct Subject<'a> {
    pub statement: &'a Statement,
    pub facts: &'a Facts,
    pub policy: &'a Policy,
    pub place: Place,
    /// ALTER TABLE: one action at a time.
    pub action: Option<Action<'a>>,
}

/// One action of an ALTER TABLE: `head text` is a whole statement.
#[derive(Clone, Copy)]
pub(super) struct Action<'a> {
    pub head: &'a str,
    pub text: &'a str,
    pub command: &'a AlterTableCmd,
}

/// What a rule says. The name and lock are the rule's.
pub(super) struct Found {
    /// What it would do, one clause without a full stop: "builds the index under SHARE, which blocks writes on …".
    pub message: String,
    /// The remedy in short, for the error's first line.
    pub short: String,
    /// Safe SQL, ready to copy.
    pub hint: String,
    pub remedy: Remedy,
}

pub(super) enum Remedy {
    Steps(Vec<Step>),
    /// No safe form that could be proven: what "rewrite" in a policy means then is "reject".
    None,
}

/// In the order in which the remedies are taken where several rules find something in one action.
pub static RULES: &[Rule] = &[];

pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
