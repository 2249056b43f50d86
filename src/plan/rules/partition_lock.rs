//! DETACH PARTITION without CONCURRENTLY, and CREATE TABLE … PARTITION OF.

use super::{Found, Rule, Subject, name_of, sql_name, steps};
use crate::plan::lock::LockMode;
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
    let partition = sql_name(&name_of(detach.name.as_ref()?));
    let message = format!(
        "DETACH PARTITION takes ACCESS EXCLUSIVE on {}, which blocks reads and writes of all partitions",
        table.described()
    );
    let sql = format!("{} DETACH PARTITION {partition} CONCURRENTLY", action.head);
    let step = steps::concurrent("detach partition concurrently", sql, &table);
    Some(Found::steps(
        message,
        "use DETACH PARTITION … CONCURRENTLY, outside a transaction block",
        Ok(vec![step]),
        "",
    ))
}
