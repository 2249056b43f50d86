//! The table locks that a statement takes, as the manual says (section 13.3.1 and each command's own page). What is not followed here
//! counts as no lock; [`strongest`] takes that for the strongest. A test asks pg_locks.

use crate::catalog::Name;
use crate::lock::LockMode;
use crate::request::Request;
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableStmt, AlterTableType, ConstrType, Constraint, CreateStmt, Node, ObjectType, RangeVar,
    ReindexObjectType, RenameStmt,
};

/// The strongest of them.
pub(crate) fn strongest(statement: &Statement) -> LockMode {
    use LockMode as L;
    match &statement.node {
        NodeEnum::CommentStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::SecLabelStmt(_) => return L::ShareUpdateExclusive,
        NodeEnum::AlterSeqStmt(_) => return L::ShareRowExclusive,
        NodeEnum::ReindexStmt(reindex) if reindex.kind() == ReindexObjectType::ReindexObjectTable => return L::Share,
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectStatisticExt => {
            return L::ShareUpdateExclusive;
        }
        // What a new table brings along is not of those that are there.
        NodeEnum::CreateStmt(create) if create.partbound.is_some() => return L::AccessExclusive,
        NodeEnum::AlterTableStmt(alter) => return of_actions(alter),
        _ => {}
    }
    let strongest = locks(statement).into_iter().map(|(_, mode)| mode).max();
    strongest.unwrap_or(L::AccessExclusive)
}

/// What it locks of what is there before it.
pub fn locks(statement: &Statement) -> Vec<(Name, LockMode)> {
    use LockMode as L;
    let one = |range: &Option<RangeVar>, mode: L| -> Vec<(Name, L)> {
        range.iter().map(|range| (Name::of(range), mode)).collect()
    };
    match &statement.node {
        NodeEnum::AlterTableStmt(alter) => of_alter(alter),
        NodeEnum::RenameStmt(rename) => of_rename(rename),
        NodeEnum::CreateStmt(create) => of_create(create),
        NodeEnum::AlterObjectSchemaStmt(alter) => one(&alter.relation, L::AccessExclusive),
        NodeEnum::IndexStmt(index) if index.concurrent => one(&index.relation, L::ShareUpdateExclusive),
        NodeEnum::IndexStmt(index) => one(&index.relation, L::Share),
        NodeEnum::CreateTrigStmt(trigger) => one(&trigger.relation, L::ShareRowExclusive),
        NodeEnum::RuleStmt(rule) => one(&rule.relation, L::AccessExclusive),
        NodeEnum::CreatePolicyStmt(policy) => one(&policy.table, L::AccessExclusive),
        NodeEnum::AlterPolicyStmt(policy) => one(&policy.table, L::AccessExclusive),
        NodeEnum::LockStmt(lock) => {
            let mode = mode(lock.mode);
            let relations = lock.relations.iter().filter_map(range_of);
            relations.map(|range| (Name::of(range), mode)).collect()
        }
        NodeEnum::TruncateStmt(truncate) => {
            let relations = truncate.relations.iter().filter_map(range_of);
            relations.map(|range| (Name::of(range), L::AccessExclusive)).collect()
        }
        NodeEnum::ClusterStmt(cluster) => one(&cluster.relation, L::AccessExclusive),
        NodeEnum::RefreshMatViewStmt(refresh) if refresh.concurrent => one(&refresh.relation, L::Exclusive),
        NodeEnum::RefreshMatViewStmt(refresh) => one(&refresh.relation, L::AccessExclusive),
        NodeEnum::DropStmt(drop) => of_drop(statement, drop.remove_type(), drop.concurrent),
        NodeEnum::UpdateStmt(update) => one(&update.relation, L::RowExclusive),
        NodeEnum::DeleteStmt(delete) => one(&delete.relation, L::RowExclusive),
        NodeEnum::InsertStmt(insert) => one(&insert.relation, L::RowExclusive),
        _ => Vec::new(),
    }
}

fn range_of(node: &Node) -> Option<&RangeVar> {
    match &node.node {
        Some(NodeEnum::RangeVar(range)) => Some(range),
        _ => None,
    }
}

/// As LOCK TABLE has it in its tree.
fn mode(number: i32) -> LockMode {
    use LockMode as L;
    match number {
        1 => L::AccessShare,
        2 => L::RowShare,
        3 => L::RowExclusive,
        4 => L::ShareUpdateExclusive,
        5 => L::Share,
        6 => L::ShareRowExclusive,
        7 => L::Exclusive,
        _ => L::AccessExclusive,
    }
}

fn of_alter(alter: &AlterTableStmt) -> Vec<(Name, LockMode)> {
    let Some(name) = alter.relation.as_ref().map(Name::of) else {
        return Vec::new();
    };
    if alter.objtype() == ObjectType::ObjectType {
        return Vec::new();
    }
    let mut locks = Vec::new();
    for command in actions(alter) {
        let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
        match definition {
            Some(NodeEnum::Constraint(added)) => locks.extend(referenced(added)),
            Some(NodeEnum::ColumnDef(column)) => locks.extend(column.constraints.iter().filter_map(of_constraint)),
            Some(NodeEnum::PartitionCmd(partition)) => {
                let other = partition.name.as_ref().map(Name::of);
                locks.extend(other.map(|name| (name, LockMode::AccessExclusive)));
            }
            _ => {}
        }
    }
    locks.push((name, of_actions(alter)));
    locks
}

fn actions(alter: &AlterTableStmt) -> impl Iterator<Item = &AlterTableCmd> {
    alter.cmds.iter().filter_map(|node| match &node.node {
        Some(NodeEnum::AlterTableCmd(command)) => Some(&**command),
        _ => None,
    })
}

/// Of the relation itself.
fn of_actions(alter: &AlterTableStmt) -> LockMode {
    actions(alter).map(of_action).max().unwrap_or(LockMode::AccessExclusive)
}

/// The manual's page of ALTER TABLE.
fn of_action(command: &AlterTableCmd) -> LockMode {
    use AlterTableType as A;
    let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
    match command.subtype() {
        A::AtValidateConstraint
        | A::AtSetStatistics
        | A::AtSetOptions
        | A::AtResetOptions
        | A::AtClusterOn
        | A::AtDropCluster
        | A::AtAttachPartition
        | A::AtDetachPartitionFinalize => LockMode::ShareUpdateExclusive,
        A::AtDetachPartition => match definition {
            Some(NodeEnum::PartitionCmd(partition)) if partition.concurrent => LockMode::ShareUpdateExclusive,
            _ => LockMode::AccessExclusive,
        },
        A::AtSetRelOptions | A::AtResetRelOptions => match definition {
            Some(NodeEnum::List(options)) if options.items.iter().all(is_weak) => LockMode::ShareUpdateExclusive,
            _ => LockMode::AccessExclusive,
        },
        A::AtEnableTrig
        | A::AtEnableAlwaysTrig
        | A::AtEnableReplicaTrig
        | A::AtEnableTrigAll
        | A::AtEnableTrigUser
        | A::AtDisableTrig
        | A::AtDisableTrigAll
        | A::AtDisableTrigUser => LockMode::ShareRowExclusive,
        A::AtAddConstraint => match definition {
            Some(NodeEnum::Constraint(added)) if added.contype() == ConstrType::ConstrForeign => {
                LockMode::ShareRowExclusive
            }
            _ => LockMode::AccessExclusive,
        },
        _ => LockMode::AccessExclusive,
    }
}

/// A storage parameter (manual, CREATE TABLE and CREATE INDEX) for which nobody who reads or writes has to wait.
fn is_weak(option: &Node) -> bool {
    const WEAK: [&str; 5] = [
        "fillfactor",
        "toast_tuple_target",
        "parallel_workers",
        "deduplicate_items",
        "log_autovacuum",
    ];
    match &option.node {
        Some(NodeEnum::DefElem(option)) => {
            let name = option.defname.as_str();
            ["autovacuum_", "vacuum_"]
                .into_iter()
                .chain(WEAK)
                .any(|start| name.starts_with(start))
        }
        _ => false,
    }
}

fn of_constraint(node: &Node) -> Option<(Name, LockMode)> {
    match &node.node {
        Some(NodeEnum::Constraint(constraint)) => referenced(constraint),
        _ => None,
    }
}

fn referenced(constraint: &Constraint) -> Option<(Name, LockMode)> {
    let table = constraint.pktable.as_ref()?;
    Some((Name::of(table), LockMode::ShareRowExclusive))
}

fn of_rename(rename: &RenameStmt) -> Vec<(Name, LockMode)> {
    use ObjectType as O;
    if rename.rename_type() == O::ObjectIndex {
        let index = rename.relation.iter().map(Name::of);
        return index.map(|name| (name, LockMode::ShareUpdateExclusive)).collect();
    }
    let locks = matches!(
        rename.rename_type(),
        O::ObjectTable
            | O::ObjectColumn
            | O::ObjectTabconstraint
            | O::ObjectView
            | O::ObjectMatview
            | O::ObjectForeignTable
            | O::ObjectTrigger
            | O::ObjectPolicy
            | O::ObjectRule
    );
    let named = rename.relation.iter().filter(|_| locks).map(Name::of);
    named.map(|name| (name, LockMode::AccessExclusive)).collect()
}

fn of_create(create: &CreateStmt) -> Vec<(Name, LockMode)> {
    let mut locks: Vec<(Name, LockMode)> = Vec::new();
    for element in &create.table_elts {
        match &element.node {
            Some(NodeEnum::Constraint(constraint)) => locks.extend(referenced(constraint)),
            Some(NodeEnum::ColumnDef(column)) => locks.extend(column.constraints.iter().filter_map(of_constraint)),
            _ => {}
        }
    }
    let parents = create.inh_relations.iter().filter_map(range_of);
    let mode = match create.partbound {
        Some(_) => LockMode::AccessExclusive,
        None => LockMode::ShareUpdateExclusive,
    };
    locks.extend(parents.map(|parent| (Name::of(parent), mode)));
    locks
}

fn of_drop(statement: &Statement, kind: ObjectType, concurrent: bool) -> Vec<(Name, LockMode)> {
    use ObjectType as O;
    let locks = matches!(
        kind,
        O::ObjectTable
            | O::ObjectIndex
            | O::ObjectView
            | O::ObjectMatview
            | O::ObjectForeignTable
            | O::ObjectTrigger
            | O::ObjectPolicy
            | O::ObjectRule
    );
    if !locks {
        return Vec::new();
    }
    let mode = match concurrent {
        true => LockMode::ShareUpdateExclusive,
        false => LockMode::AccessExclusive,
    };
    let named = Request::of(statement).relations.into_iter();
    named.map(|name| (name, mode)).collect()
}
