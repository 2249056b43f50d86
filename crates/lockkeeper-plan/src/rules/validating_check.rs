//! ADD CONSTRAINT … CHECK that scans the table.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::add_column;
use crate::remedies::check::{sequence, validates};
use crate::subject::Subject;
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "validating-check",
    lock: LockMode::AccessExclusive,
    what: "ADD CONSTRAINT … CHECK, or ADD COLUMN … CHECK, on a table that is not small.",
    why: "The whole table is scanned under ACCESS EXCLUSIVE: all reads and writes wait for the scan.",
    versions: "13–18",
    safe: "ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT under SHARE UPDATE EXCLUSIVE in a transaction of its own.",
    bad: &[
        "ALTER TABLE users ADD CONSTRAINT age_positive CHECK (age > 0)",
        "ALTER TABLE users ADD CHECK (age > 0)",
        "ALTER TABLE users ADD COLUMN score int CHECK (score > 0)",
    ],
    good: &[
        "ALTER TABLE users ADD CONSTRAINT age_positive CHECK (age > 0) NOT VALID",
        "ALTER TABLE small ADD CHECK (a > 0)",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    let steps = if add_column::has(subject, ConstrType::ConstrCheck) {
        add_column::sequence(subject, &table, &asked)
    } else {
        let (action, constraint) = subject.added_constraint()?;
        if constraint.contype() != ConstrType::ConstrCheck
            || !validates(constraint)
            || subject.name_is_taken(&table, constraint)
        {
            return None;
        }
        sequence(&table, &asked, &action, constraint)
    };
    let message = format!(
        "ADD CHECK scans {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let otherwise = "ALTER TABLE … ADD CONSTRAINT name CHECK (…) NOT VALID; then, in its own transaction, ALTER TABLE … VALIDATE CONSTRAINT name;";
    Some(Found::steps(
        message,
        "add it NOT VALID, then VALIDATE CONSTRAINT",
        steps,
        otherwise,
    ))
}
