//! ADD COLUMN with a default that differs from row to row.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::add_column;
use crate::subject::{Subject, sql_name};
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "volatile-default",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN … DEFAULT that is VOLATILE (random(), gen_random_uuid(), clock_timestamp(), nextval()), or of a domain whose own default is, on a table that is not small.",
    why: "The table and all its indexes are rewritten under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18; now() and current_user are not volatile and rewrite nothing",
    safe: "ADD COLUMN and SET DEFAULT in one instant statement, existing rows filled in batches, then NOT NULL by a constraint validated on its own.",
    bad: &[
        "ALTER TABLE users ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    ],
    good: &[
        "ALTER TABLE users ADD COLUMN seen timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE users ADD COLUMN ok boolean NOT NULL DEFAULT false",
        "ALTER TABLE users ALTER COLUMN name SET DEFAULT random()::text",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    let has = |kind| add_column::constraint(added, kind).is_some();
    // Those are other rules' matter.
    if add_column::serial(added).is_some() || has(ConstrType::ConstrIdentity) || has(ConstrType::ConstrGenerated) {
        return None;
    }
    let domain = add_column::domain(subject, added);
    if domain.is_some_and(|domain| domain.constrained) || add_column::skipped(subject, &table) {
        return None;
    }
    if !add_column::differs_by_row(subject, added) {
        return None;
    }
    let default = match domain.filter(|_| !has(ConstrType::ConstrDefault)) {
        Some(domain) => format!(
            "the default of the domain {}, which is not the same for each row,",
            sql_name(&domain.asked)
        ),
        None => "the volatile default".to_string(),
    };
    let message = format!(
        "{default} rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let otherwise = format!(
        "ALTER TABLE {t} ADD COLUMN {c} …, ALTER COLUMN {c} SET DEFAULT …;  -- instant\n\
         -- then fill existing rows a few thousand at a time (UPDATE {t} SET {c} = … WHERE {c} IS NULL AND …), and set NOT NULL last.",
        t = table.sql,
        c = crate::splice::quote_ident(&added.colname)
    );
    let steps = add_column::sequence(subject, &table, &asked);
    Some(Found::steps(
        message,
        "add the column first, then fill it in batches",
        steps,
        &otherwise,
    ))
}
