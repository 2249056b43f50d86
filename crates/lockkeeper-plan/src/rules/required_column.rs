//! ADD COLUMN … NOT NULL without a default.

use super::rule::{Found, Rule};
use super::taken;
use crate::lock::LockMode;
use crate::remedies::add_column;
use crate::splice::quote_ident;
use crate::subject::Subject;
use crate::tree;
use pg_query::protobuf::{ColumnDef, ConstrType, TypeName};

pub(super) const RULE: Rule = Rule {
    name: "required-column",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN … NOT NULL (or PRIMARY KEY) without a default, on a table with rows.",
    why: "It fails on the first row, after waiting for the lock; and on a table whose rows are just gone, every INSERT of running code, which does not know the column, fails from then on.",
    versions: "13–18",
    safe: "Add it with a DEFAULT, or without NOT NULL, deploy what writes it, fill the rows, and then SET NOT NULL.",
    bad: &["ALTER TABLE users ADD COLUMN must int NOT NULL"],
    good: &[
        "ALTER TABLE users ADD COLUMN must int NOT NULL DEFAULT 0",
        "ALTER TABLE fresh_here ADD COLUMN must int NOT NULL",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    if !is_required(added) || has_default(added) || has_own_default(subject, added.type_name.as_ref()) {
        return None;
    }
    let table = subject
        .table(&subject.altered()?)
        .filter(|table| !taken::is_empty(table))?;
    if table
        .known
        .is_some_and(|relation| relation.column(&added.colname).is_some())
        || !matches!(table.kind(), 'r' | 'p')
    {
        return None;
    }
    let (t, c) = (&table.sql, quote_ident(&added.colname));
    Some(Found::advice(
        format!(
            "adding {c} as NOT NULL without a default fails where {} has rows, and the INSERTs of running code, which does not write it, fail after it",
            table.described()
        ),
        "add it with a default, or fill it before SET NOT NULL",
        format!(
            "1. ALTER TABLE {t} ADD COLUMN {c} … DEFAULT …;  -- or without a default, until the code that writes it is deployed\n\
             2. Deploy what writes {c}; UPDATE {t} SET {c} = … WHERE {c} IS NULL;  -- through Lockkeeper in batches\n\
             3. ALTER TABLE {t} ALTER COLUMN {c} SET NOT NULL;  -- through Lockkeeper without a scan under the lock"
        ),
    ))
}

pub(super) fn is_required(added: &ColumnDef) -> bool {
    let is = |kind| add_column::constraint(added, kind).is_some();
    is(ConstrType::ConstrNotnull) || is(ConstrType::ConstrPrimary)
}

fn has_default(added: &ColumnDef) -> bool {
    let is = |kind| add_column::constraint(added, kind).is_some();
    let null = add_column::constraint(added, ConstrType::ConstrDefault)
        .and_then(|c| c.raw_expr.as_deref())
        .is_some_and(tree::is_null);
    (is(ConstrType::ConstrDefault) && !null)
        || is(ConstrType::ConstrIdentity)
        || is(ConstrType::ConstrGenerated)
        || added.raw_default.is_some()
}

/// serial; and a domain may have a default of its own.
fn has_own_default(subject: &Subject, type_name: Option<&TypeName>) -> bool {
    let Some(name) = type_name.map(|name| tree::names(&name.names)) else {
        return true;
    };
    let last = name.last().map(String::as_str).unwrap_or_default();
    let serial = matches!(
        last,
        "serial" | "serial2" | "serial4" | "serial8" | "smallserial" | "bigserial"
    );
    serial
        || subject
            .facts
            .types
            .iter()
            .any(|t| t.asked.name == last && t.kind == 'd')
}
