//! DETACH PARTITION without CONCURRENTLY.

use super::rule::{Found, Rule};
use crate::catalog::Relation;
use crate::lock::LockMode;
use crate::remedies::{names, steps};
use crate::splice::{quote_ident, quote_literal};
use crate::step::Step;
use crate::subject::{Subject, name_of, sql_name};
use pg_query::NodeEnum;
use pg_query::protobuf::AlterTableType;

pub(super) const RULE: Rule = Rule {
    name: "partition-lock",
    lock: LockMode::AccessExclusive,
    what: "DETACH PARTITION without CONCURRENTLY, where the server has it and the parent has no default partition.",
    why: "ACCESS EXCLUSIVE is taken on the partitioned table itself: every query of every partition waits for it.",
    versions: "14–18; 13 has no DETACH CONCURRENTLY",
    safe: "DETACH PARTITION … CONCURRENTLY, outside a transaction block.",
    bad: &["ALTER TABLE parted DETACH PARTITION parted_1"],
    good: &[
        "ALTER TABLE parted DETACH PARTITION parted_1 CONCURRENTLY",
        "ALTER TABLE parted DETACH PARTITION parted_1 FINALIZE",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let action = subject.action_of(AlterTableType::AtDetachPartition)?;
    let NodeEnum::PartitionCmd(detach) = action.command.def.as_ref()?.node.as_ref()? else {
        return None;
    };
    if detach.concurrent || subject.version() < 14 {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    let child = subject.facts.relation(&name_of(detach.name.as_ref()?));
    let mark = steps::mark("to be detached", &format!("{} {}", action.head, action.text));
    let begun = child.is_some_and(|c| c.comment.as_ref() == Some(&mark));
    if let Some(parent) = table.known {
        // The server itself says that it is no partition; and beside a default partition there is no concurrent way.
        let is_default = |r: &&Relation| r.bound.as_deref() == Some("DEFAULT");
        let attached = child.is_some_and(|c| c.parents.contains(&parent.qualified()));
        if !(attached || begun) || subject.facts.children(parent).iter().any(is_default) {
            return None;
        }
    }
    let partition = sql_name(&name_of(detach.name.as_ref()?));
    let message = format!(
        "DETACH PARTITION takes ACCESS EXCLUSIVE on {}, which blocks reads and writes of all partitions",
        table.described()
    );
    let pending = child.is_some_and(|c| c.detach_pending);
    let how = if pending { "FINALIZE" } else { "CONCURRENTLY" };
    let mut all = Vec::new();
    let unmarked = child.filter(|c| c.comment.is_none() || begun);
    let comment = |text: &str| format!("COMMENT ON TABLE {partition} IS {text}");
    // So that the same statement sent again knows whose the copy of the bounds is.
    if unmarked.is_some() && !begun {
        let note = comment(&quote_literal(&mark));
        all.push(steps::brief(
            "note what is to be detached",
            note,
            LockMode::ShareUpdateExclusive,
            &table,
        ));
    }
    if child.is_none_or(|c| c.is_partition) {
        let sql = format!("{} DETACH PARTITION {partition} {how}", action.head);
        all.push(steps::concurrent("detach partition concurrently", sql, &table));
    }
    all.extend(
        child
            .zip(table.known)
            .and_then(|(child, parent)| without_copy(child, parent, &partition)),
    );
    if unmarked.is_some() {
        let sql = comment("NULL");
        all.push(steps::brief(
            "remove the note",
            sql,
            LockMode::ShareUpdateExclusive,
            &table,
        ));
    }
    Some(Found::steps(
        message,
        "use DETACH PARTITION … CONCURRENTLY, outside a transaction block",
        Ok(all),
        "",
    ))
}

/// The concurrent form leaves the partition's bounds behind as a CHECK constraint, which the plain one does not.
fn without_copy(child: &Relation, parent: &Relation, partition: &str) -> Option<Step> {
    let name = names::bounds_check(child, parent.partition_key.as_deref()?)?;
    let table = crate::subject::Table {
        known: Some(child),
        sql: partition.to_string(),
        small: false,
    };
    Some(Step {
        done_when: Some(format!(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = {}::pg_catalog.oid AND c.conname = {})",
            child.oid,
            quote_literal(&name)
        )),
        ..steps::brief(
            "remove the copy of the partition's bounds",
            format!("ALTER TABLE {partition} DROP CONSTRAINT {}", quote_ident(&name)),
            LockMode::AccessExclusive,
            &table,
        )
    })
}
