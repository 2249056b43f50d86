//! CASCADE: what goes and is no data.

use super::rule::{Found, Rule};
use super::taken::{self, Worst};
use crate::depends::{Others, Part, What};
use crate::lock::LockMode;
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::DropBehavior;

pub(super) const RULE: Rule = Rule {
    name: "cascade",
    lock: LockMode::AccessExclusive,
    what: "CASCADE and DROP OWNED, where they take constraints, triggers, policies, rules, sequences, functions or types with them that are not named.",
    why: "Checks, references and side effects that running code relies on are gone without a word; tables, columns, views, indexes and keys are told by rules of their own.",
    versions: "13–18",
    safe: "Drop them by their own names first, so that the statement itself needs no CASCADE.",
    bad: &["DROP SEQUENCE used_by_default CASCADE"],
    good: &["DROP SEQUENCE IF EXISTS nowhere", "DROP FUNCTION f()"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if !cascades(subject) {
        return None;
    }
    let kinds = [
        What::Constraint,
        What::Trigger,
        What::Policy,
        What::Rule,
        What::Sequence,
        What::Default,
    ];
    let is_key = |part: &&Part| part.what == What::Constraint && matches!(part.detail.as_deref(), Some("p" | "u"));
    let mut told: Vec<String> = subject
        .going(&kinds)
        .iter()
        .filter(|part| !is_key(part))
        .map(|part| format!("the {} {}", called(part), taken::told(part)))
        .collect();
    told.extend(subject.taken().into_iter().flat_map(|taken| &taken.others).map(other));
    let statement = subject.shown();
    let message = match told.as_slice() {
        [] if subject.may_take(Worst::Other) => format!("{statement} takes everything with it that depends on it"),
        [] => return None,
        told => format!(
            "{statement} takes with it what it does not name: {}",
            taken::listed(told, String::clone)
        ),
    };
    Some(Found::advice(
        message,
        "drop what depends on it by name first, without CASCADE",
        "Drop each of these by its own name, once nothing relies on it; then the same statement without CASCADE."
            .to_string(),
    ))
}

fn cascades(subject: &Subject) -> bool {
    match &subject.statement.node {
        NodeEnum::DropStmt(drop) => drop.behavior() == DropBehavior::DropCascade,
        NodeEnum::DropOwnedStmt(_) => true,
        NodeEnum::AlterTableStmt(_) => subject
            .action
            .is_some_and(|action| action.command.behavior() == DropBehavior::DropCascade),
        _ => false,
    }
}

fn called(part: &Part) -> &'static str {
    match (&part.what, part.detail.as_deref()) {
        (What::Constraint, Some("f")) => "foreign key",
        (What::Constraint, _) => "constraint",
        (What::Trigger, _) => "trigger",
        (What::Policy, _) => "policy",
        (What::Rule, _) => "rule",
        (What::Sequence, _) => "sequence",
        _ => "default",
    }
}

fn other(others: &Others) -> String {
    let count = others.more + 1;
    match (&others.name, others.more) {
        // Those of a role whose own objects go.
        _ if others.what == "right" => format!("all rights on {} of the database's objects", count),
        _ if others.what == "policy" => format!("what {count} of its policies say of the role"),
        (Some(name), 0) => format!("the {} {name}", others.what),
        (Some(name), more) => format!("the {} {name} and {more} more", others.what),
        (None, _) => format!("{count} of {}", others.what),
    }
}
