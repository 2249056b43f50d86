//! TRUNCATE.

use super::{Found, Rule, Subject, name_of, taken};
use crate::plan::depends::Part;
use crate::plan::lock::LockMode;
use pg_query::NodeEnum;
use pg_query::protobuf::DropBehavior;

pub(super) const RULE: Rule = Rule {
    name: "truncate",
    lock: LockMode::AccessExclusive,
    what: "TRUNCATE of a table that others can see, however small, unless it is empty.",
    why: "All rows are gone at once under ACCESS EXCLUSIVE; with CASCADE also those of every table that references it, and of those that reference these.",
    versions: "13–18",
    safe: "DELETE in batches where the table stays in use; TRUNCATE by an override that says why.",
    bad: &["TRUNCATE users", "TRUNCATE TABLE small CASCADE"],
    good: &["DELETE FROM small"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::TruncateStmt(truncate) = &subject.statement.node else {
        return None;
    };
    let ranges = truncate.relations.iter().filter_map(|node| match &node.node {
        Some(NodeEnum::RangeVar(range)) => Some(name_of(range)),
        _ => None,
    });
    let tables: Vec<_> = ranges.filter_map(|name| subject.table(&name)).collect();
    let first = tables.first()?;
    // As pg_restore -j and pgbench -i do before they fill it: nothing can be lost.
    let empty = |table: &super::Table| table.known.is_some_and(|r| r.kind == 'r' && r.bytes == 0);
    if truncate.behavior() != DropBehavior::DropCascade && tables.iter().all(empty) {
        return None;
    }
    let listed = tables.iter().map(|t| t.described()).collect::<Vec<_>>().join(", ");
    let referencing: Vec<&Part> = subject.asked().map_or(Vec::new(), |asked| asked.touched().collect());
    let cascade = match truncate.behavior() {
        DropBehavior::DropCascade if subject.asked().is_none() => " and of every table that references it".to_string(),
        DropBehavior::DropCascade if !referencing.is_empty() => {
            let told = taken::listed(&referencing, |part| taken::described(part));
            format!(", and of {told}, which by references hang on it,")
        }
        _ => String::new(),
    };
    let message =
        format!("TRUNCATE removes all rows of {listed}{cascade} under ACCESS EXCLUSIVE, which blocks reads and writes");
    let hint = format!(
        "DELETE FROM {t};  -- through Lockkeeper a large DELETE runs in batches\n\
         -- or, if nothing uses the table: SET lockkeeper.override = 'truncate: <why>'; {}; RESET lockkeeper.override;",
        subject.whole_text(),
        t = first.sql
    );
    Some(Found::advice(
        message,
        "use DELETE, or an override if nothing uses it",
        hint,
    ))
}
