//! ALTER COLUMN … SET NOT NULL.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::not_null::{is_not_null, proven, sequence, wanted};
use crate::remedies::steps;
use crate::splice::quote_ident;
use crate::subject::Subject;
use crate::trial::Effect;

pub(super) const RULE: Rule = Rule {
    name: "set-not-null",
    lock: LockMode::AccessExclusive,
    what: "ALTER COLUMN … SET NOT NULL on a table that is not small, where no valid CHECK (column IS NOT NULL) proves it.",
    why: "The whole table is scanned under ACCESS EXCLUSIVE: all reads and writes wait for the scan.",
    versions: "13–17: through a CHECK constraint; 18: through a NOT NULL constraint that is not validated at first",
    safe: "A constraint that is NOT VALID at first, VALIDATE CONSTRAINT under SHARE UPDATE EXCLUSIVE, and only then SET NOT NULL, which no longer scans.",
    bad: &[
        "ALTER TABLE users ALTER COLUMN name SET NOT NULL",
        "ALTER TABLE users ADD CONSTRAINT n NOT NULL name",
    ],
    good: &[
        "ALTER TABLE users ALTER COLUMN id SET NOT NULL",
        "ALTER TABLE users ALTER COLUMN proven SET NOT NULL",
        "ALTER TABLE small ALTER COLUMN b SET NOT NULL",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (head, column, own_name) = wanted(subject)?;
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    if table.known.is_some_and(|r| r.column(&column).is_none()) || is_not_null(&table, &column) {
        return None;
    }
    // PostgreSQL carries out the drops of a statement first, and then nothing proves it any more.
    let all = subject.statement.all_actions();
    let scans = match subject.effect() {
        Some(effect) => effect != Effect::Instant,
        None => !proven(&table, &column, |name| all.drops_constraint(name)),
    };
    if !scans {
        return None;
    }
    let message = format!(
        "SET NOT NULL scans {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let steps = if proven(&table, &column, |_| false) {
        let sql = format!("{head} ALTER COLUMN {} SET NOT NULL", quote_ident(&column));
        Ok(vec![steps::brief(
            "set not null",
            sql,
            LockMode::AccessExclusive,
            &table,
        )])
    } else if subject.only() && table.kind() == 'p' {
        Err("ONLY on a partitioned table is left to you".to_string())
    } else {
        Ok(sequence(subject, &table, &asked, head, &column, own_name.as_deref()))
    };
    let otherwise = "ADD CONSTRAINT … NOT VALID, VALIDATE CONSTRAINT and SET NOT NULL, each its own transaction.";
    Some(Found::steps(
        message,
        "add the constraint NOT VALID, validate it, then SET NOT NULL",
        steps,
        otherwise,
    ))
}
