//! ADD CONSTRAINT … EXCLUDE.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::rewrite_table;
use crate::subject::Subject;
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "exclusion-constraint",
    lock: LockMode::AccessExclusive,
    what: "ADD CONSTRAINT … EXCLUDE on a table that is not small.",
    why: "Its index is built under ACCESS EXCLUSIVE, and PostgreSQL has no concurrent way: all reads and writes wait for the build.",
    versions: "13–18",
    safe: "A new table with the constraint, filled beside the old one and swapped with it; `rewrite` in the policy has it done.",
    bad: &["ALTER TABLE users ADD CONSTRAINT x EXCLUDE USING gist (name WITH =)"],
    good: &["ALTER TABLE small ADD CONSTRAINT x EXCLUDE USING gist (a WITH =)"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, constraint) = subject.added_constraint()?;
    if constraint.contype() != ConstrType::ConstrExclusion {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    let message = format!(
        "EXCLUDE builds its index on {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let hint = format!(
        "PostgreSQL cannot add an exclusion constraint concurrently. CREATE TABLE {new} (LIKE {t} INCLUDING ALL); add the constraint to \
         it while it is empty, copy the rows in batches behind a trigger, and swap the names by an override of rename-table; or choose a quiet hour and override.",
        new = crate::splice::quote_ident(&crate::remedies::names::object(&table.bare(), "new", "")),
        t = table.sql
    );
    Some(rewrite_table::found(
        message,
        "there is no concurrent way: use a new table or a quiet hour with an override",
        hint,
        rewrite_table::of_action(subject, &table, RULE.name),
    ))
}
