//! ADD CONSTRAINT … CHECK that scans the table.

use super::{Action, Found, Rule, Subject, Table, column, names, steps};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::splice::{self, quote_ident};
use crate::step::Step;
use pg_query::protobuf::{ConstrType, Constraint};

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
    let steps = if column::has(subject, ConstrType::ConstrCheck) {
        column::sequence(subject, &table, &asked)
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

/// NOT VALID and NOT ENFORCED constraints are added without a look at the rows.
pub(super) fn validates(constraint: &Constraint) -> bool {
    !constraint.skip_validation && constraint.is_enforced
}

pub(super) fn sequence(
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Result<Vec<Step>, String> {
    let name = if constraint.conname.is_empty() {
        names::check(&table.named(asked), constraint)
            .ok_or("the constraint has no name, and PostgreSQL's choice is not known: name it")?
    } else {
        constraint.conname.clone()
    };
    not_valid_then_validate(table, action, constraint, &name, LockMode::AccessExclusive)
}

/// Also for foreign keys.
pub(super) fn not_valid_then_validate(
    table: &Table,
    action: &Action,
    constraint: &Constraint,
    name: &str,
    lock: LockMode,
) -> Result<Vec<Step>, String> {
    let unproven = "NOT VALID could not be added to this text with certainty";
    let text = format!("{} {}", action.head, action.text);
    let named = if constraint.conname.is_empty() {
        splice::constraint_name(&text, name).ok_or(unproven)?
    } else {
        text
    };
    let sql = splice::not_valid(&named).ok_or(unproven)?;
    let mark = steps::mark("to be validated", &sql);
    let quoted = quote_ident(name);
    let told = format!(
        "removed the constraint {name}, which existing rows of {} violate",
        table.sql
    );
    Ok(vec![
        Step {
            done_when: steps::constraint_marked(table, name, &mark, ""),
            rollback: Some(format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", table.sql)),
            ..steps::brief_then(
                "add constraint, not validated",
                sql,
                vec![steps::comment_on_constraint(name, table, Some(&mark))],
                lock,
                table,
            )
        },
        Step {
            cleanup: steps::drop_half_made(table, name, &mark, told),
            ..steps::long(
                "validate constraint",
                format!("{} VALIDATE CONSTRAINT {quoted}", action.head),
                vec![steps::comment_on_constraint(name, table, None)],
                table,
            )
        },
    ])
}
