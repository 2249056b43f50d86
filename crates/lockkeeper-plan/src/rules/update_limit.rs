//! UPDATE … LIMIT and DELETE … LIMIT, which people write and PostgreSQL does not have.

use super::rule::{Found, Remedy, Rule};
use crate::batches;
use crate::lock::LockMode;
use crate::remedies::steps;
use crate::statement::Kind;
use crate::step::Mode;
use crate::subject::{Subject, name_of};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "update-limit",
    lock: LockMode::RowExclusive,
    what: "UPDATE … [ORDER BY …] LIMIT n, or DELETE … LIMIT n.",
    why: "PostgreSQL has no such statement and answers with a syntax error.",
    versions: "13–18",
    safe: "The same statement over a sub-select that takes and locks at most n rows; the usual loop around it works as written.",
    bad: &[
        "UPDATE users SET name = 'x' WHERE name IS NULL LIMIT 1000",
        "DELETE FROM small LIMIT 5",
    ],
    good: &["UPDATE small SET a = 1"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if !matches!(subject.statement.kind, Kind::LimitedWrite(_)) {
        return None;
    }
    let (verb, range) = match &subject.statement.node {
        NodeEnum::UpdateStmt(update) => ("UPDATE", update.relation.as_ref()?),
        NodeEnum::DeleteStmt(delete) => ("DELETE", delete.relation.as_ref()?),
        _ => return None,
    };
    let asked = name_of(range);
    let unknown = crate::subject::unknown(&asked);
    // Without the relation (offline, or it does not exist) it is still only the text that changes.
    let relation = subject.facts.relation(&asked).unwrap_or(&unknown);
    let table = crate::subject::Table {
        known: subject.facts.relation(&asked),
        sql: crate::subject::sql_name(&asked),
        small: false,
    };
    let steps = batches::limited::limited(subject.statement, relation).map(|sql| {
        vec![steps::step(
            "change a limited number of rows",
            sql,
            Mode::Rows,
            LockMode::RowExclusive,
            &table,
        )]
    });
    // A table without a key.
    let key = match table.known.is_some_and(|r| r.kind == 'r' && r.walking_key().is_none()) {
        true => "ctid",
        false => "key",
    };
    let text = match verb {
        "UPDATE" => format!("UPDATE {} SET …", table.sql),
        _ => format!("DELETE FROM {}", table.sql),
    };
    let hint = format!(
        "{text} WHERE {key} IN (SELECT {key} FROM {t} WHERE … ORDER BY {key} LIMIT n FOR UPDATE)",
        t = table.sql
    );
    let mut found = Found::steps(
        format!("PostgreSQL has no {verb} … LIMIT"),
        "choose the rows by a sub-select with LIMIT",
        steps,
        &hint,
    );
    found.hint = hint;
    if matches!(found.remedy, Remedy::None(_)) {
        // What the server itself would answer.
        found.sqlstate = Some("42601");
    }
    Some(found)
}
