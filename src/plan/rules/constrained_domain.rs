//! ADD COLUMN of a domain that has constraints.

use super::{Found, Rule, Subject, column, tree};
use crate::plan::facts::Name;
use crate::plan::lock::LockMode;
use crate::plan::splice::quote_ident;

pub(super) const RULE: Rule = Rule {
    name: "constrained-domain",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN of a domain type with a CHECK or NOT NULL, on a table that is not small.",
    why: "Even without a default the table and all its indexes are rewritten under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18",
    safe: "A column of the base type, with the domain's condition as a CHECK that is NOT VALID at first and then validated.",
    bad: &["ALTER TABLE users ADD COLUMN d positive_int"],
    good: &[
        "ALTER TABLE users ADD COLUMN d plain_domain",
        "ALTER TABLE small ADD COLUMN d positive_int",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    let mut parts = tree::names(&added.type_name.as_ref()?.names);
    let asked = Name {
        name: parts.pop()?,
        schema: parts.pop(),
    };
    let domain = subject.facts.types.iter().find(|t| t.asked == asked)?;
    if domain.kind != 'd' || !domain.constrained {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    if column::skipped(subject, &table) {
        return None;
    }
    let (t, c) = (&table.sql, quote_ident(&added.colname));
    let message = format!(
        "a column of the constrained domain {} rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        super::sql_name(&asked),
        table.described()
    );
    let hint = format!(
        "ALTER TABLE {t} ADD COLUMN {c} <the domain's base type>;\n\
         ALTER TABLE {t} ADD CONSTRAINT {check} CHECK (<the domain's condition on {c}>) NOT VALID;\n\
         ALTER TABLE {t} VALIDATE CONSTRAINT {check};",
        check = quote_ident(&super::names::object(&table.bare(), &added.colname, "check"))
    );
    Some(Found::advice(message, "use the base type and a CHECK constraint", hint))
}
