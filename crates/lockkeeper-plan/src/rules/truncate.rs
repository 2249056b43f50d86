//! TRUNCATE.

use super::rule::{Found, Rule};
use super::taken;
use crate::batches;
use crate::catalog::Relation;
use crate::depends::Part;
use crate::facts::Facts;
use crate::lock::LockMode;
use crate::subject::{Subject, name_of, sql_name};
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
    tables.first()?;
    // As pg_restore -j and pgbench -i do before they fill it: nothing can be lost.
    let empty = |table: &crate::subject::Table| table.known.is_some_and(|r| r.kind == 'r' && r.bytes == 0);
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
        "{}-- or, if nothing uses the table: {}",
        instead(&tables, &referencing, subject.facts, subject.policy.backfill.rows_max),
        subject.let_through("truncate", "<why>", subject.whole_text()),
    );
    Some(Found::advice(
        message,
        "use DELETE, or an override if nothing uses it",
        hint,
    ))
}

/// What removes the same rows, a line for each table. What refers to others comes first.
fn instead(tables: &[crate::subject::Table], referencing: &[&Part], facts: &Facts, rows_max: u64) -> String {
    let parts = referencing.iter().map(|part| sql_name(&part.name()));
    let mut lines: Vec<String> = parts.map(|name| format!("DELETE FROM {name};")).collect();
    for table in tables.iter().rev() {
        let t = &table.sql;
        let in_batches =
            |relation: &Relation| relation.walking_key().is_some() || batches::has_places(relation, facts, "DELETE");
        lines.push(match table.known.is_none_or(in_batches) {
            true => format!("DELETE FROM {t};"),
            // Batches go along a key, or by place.
            false => format!(
                "DELETE FROM {t} WHERE ctid IN (SELECT ctid FROM {t} LIMIT {rows_max});  -- until it deletes none"
            ),
        });
    }
    if let Some(first) = lines.first_mut().filter(|line| line.ends_with(';')) {
        first.push_str("  -- through Lockkeeper a large DELETE runs in batches");
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
