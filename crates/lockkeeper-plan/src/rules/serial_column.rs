//! ADD COLUMN serial, or GENERATED … AS IDENTITY.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::add_column;
use crate::subject::Subject;
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "serial-column",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN of type serial or bigserial, or GENERATED … AS IDENTITY, on a table that is not small.",
    why: "The table and all its indexes are rewritten under ACCESS EXCLUSIVE to number the existing rows: all reads and writes wait.",
    versions: "13–18",
    safe: "A sequence, the bare column with nextval as its default, existing rows filled in batches, then NOT NULL and, where asked, IDENTITY.",
    bad: &[
        "ALTER TABLE users ADD COLUMN n bigserial",
        "ALTER TABLE users ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY",
    ],
    good: &[
        "ALTER TABLE small ADD COLUMN n serial",
        "ALTER TABLE users ADD COLUMN n bigint",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    if add_column::serial(added).is_none() && add_column::constraint(added, ConstrType::ConstrIdentity).is_none() {
        return None;
    }
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    if add_column::skipped(subject, &table) {
        return None;
    }
    let message = format!(
        "numbering the rows rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let otherwise = "CREATE SEQUENCE s; ALTER TABLE t ADD COLUMN c bigint, ALTER COLUMN c SET DEFAULT nextval('s'); \
                     ALTER SEQUENCE s OWNED BY t.c; then fill existing rows a few thousand at a time, and set NOT NULL last.";
    let steps = add_column::sequence(subject, &table, &asked);
    Some(Found::steps(
        message,
        "add the column first, then fill it in batches",
        steps,
        otherwise,
    ))
}
