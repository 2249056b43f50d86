//! ADD COLUMN … GENERATED ALWAYS AS (…) STORED.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::{add_column, rewrite_table};
use crate::subject::Subject;
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "stored-generated-column",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN … GENERATED ALWAYS AS (…) STORED on a table that is not small.",
    why: "The table and all its indexes are rewritten under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18; a VIRTUAL column (18) is instant",
    safe: "A plain column that a trigger keeps up to date, existing rows filled in batches; on 18 a VIRTUAL column. `rewrite` in the policy has the table rewritten by copy and swap.",
    bad: &["ALTER TABLE users ADD COLUMN lower_name text GENERATED ALWAYS AS (lower(name)) STORED"],
    good: &["ALTER TABLE small ADD COLUMN d int GENERATED ALWAYS AS (a * 2) STORED"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    let generated = add_column::constraint(added, ConstrType::ConstrGenerated)?;
    if generated.generated_kind == "v" {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    if add_column::skipped(subject, &table) {
        return None;
    }
    let mut hint = super::rename_column::filled_by_trigger(&table, &added.colname, "…");
    if subject.version() >= 18 {
        hint.push_str("\n-- or, without storage: GENERATED ALWAYS AS (…) VIRTUAL, which is instant");
    }
    let message = format!(
        "a STORED generated column rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    Some(rewrite_table::found(
        message,
        "use a plain column kept up to date by a trigger",
        hint,
        rewrite_table::of_action(subject, &table, RULE.name),
    ))
}
