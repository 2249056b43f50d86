//! Any schema change that waits in the lock queue of a table.

use super::rule::{Found, Remedy, Rule};
use crate::lock::LockMode;
use crate::statement::Statement;
use crate::subject::Subject;
use crate::{overrides, tree};
use pg_query::NodeEnum;
use pg_query::protobuf::{CreateStmt, ObjectType};

pub(crate) const RULE: Rule = Rule {
    name: "lock-queue",
    lock: LockMode::AccessExclusive,
    what: "Any other schema change that locks an existing table, view, index or sequence.",
    why: "Even an instant change waits for every running query, and all later queries wait behind it in the lock queue.",
    versions: "13–18",
    safe: "A very short lock_timeout and many quick retries: nobody waits longer than one try.",
    bad: &[
        "ALTER TABLE users ADD COLUMN ok boolean",
        "ALTER TABLE users ADD COLUMN ok boolean NOT NULL DEFAULT false",
        "DROP VIEW v",
    ],
    good: &[
        "CREATE DATABASE d",
        "VACUUM users",
        "CREATE SCHEMA s",
        "CREATE TABLE fresh (a int)",
    ],
    check: |_| None,
};

/// What it says where no other rule has anything to say of (a part of) the statement. It has no remedy of its own: plan() runs
/// the client's text as a brief step.
pub(crate) fn found(relation: &str, lock: LockMode) -> Found {
    let whose = if relation.is_empty() {
        "of what it changes".to_string()
    } else {
        format!("of {relation}")
    };
    let others = match lock {
        LockMode::AccessExclusive => "everything else",
        weaker => weaker.blocks(),
    };
    Found {
        message: format!("the change would wait in the lock queue {whose}, and {others} behind it"),
        short: "run it with a short lock_timeout and retry".to_string(),
        hint: "SET lock_timeout = '50ms'; then the statement, again and again until it gets its lock.".to_string(),
        remedy: Remedy::None(None),
        sqlstate: None,
    }
}

/// Whether the statement locks an existing relation and may run in a transaction block, so that a short lock_timeout helps.
pub(crate) fn locks(subject: &Subject) -> bool {
    use NodeEnum as N;
    // Their partitions are done in a transaction each.
    let partitioned = || {
        subject
            .facts
            .relations
            .iter()
            .any(|relation| matches!(relation.kind, 'p' | 'I'))
    };
    match &subject.statement.node {
        // Cannot run in a transaction block, or take no lock on a relation that anybody waits for.
        N::CreatedbStmt(_)
        | N::DropdbStmt(_)
        | N::AlterDatabaseStmt(_)
        | N::AlterDatabaseSetStmt(_)
        | N::AlterDatabaseRefreshCollStmt(_)
        | N::CreateTableSpaceStmt(_)
        | N::DropTableSpaceStmt(_)
        | N::AlterTableSpaceOptionsStmt(_)
        | N::AlterSystemStmt(_)
        | N::CreateSubscriptionStmt(_)
        | N::AlterSubscriptionStmt(_)
        | N::DropSubscriptionStmt(_)
        | N::VacuumStmt(_)
        | N::CheckPointStmt(_) => false,
        N::CreateSchemaStmt(_) => tree::tables_made(&subject.statement.node).any(meets_others),
        N::CreateRoleStmt(_)
        | N::AlterRoleStmt(_)
        | N::AlterRoleSetStmt(_)
        | N::DropRoleStmt(_)
        | N::GrantStmt(_)
        | N::GrantRoleStmt(_)
        | N::AlterDefaultPrivilegesStmt(_)
        | N::CreateFunctionStmt(_)
        | N::CreateExtensionStmt(_)
        | N::DoStmt(_)
        | N::CallStmt(_)
        | N::DefineStmt(_)
        | N::CreateEnumStmt(_)
        | N::CreateRangeStmt(_)
        | N::CompositeTypeStmt(_)
        | N::CreateDomainStmt(_)
        | N::CreateSeqStmt(_)
        | N::CreateCastStmt(_)
        | N::CreateOpClassStmt(_)
        | N::CreateOpFamilyStmt(_)
        | N::CreatePlangStmt(_)
        | N::CreateConversionStmt(_)
        | N::CreateTransformStmt(_)
        | N::CreateAmStmt(_)
        | N::CreateFdwStmt(_)
        | N::CreateForeignServerStmt(_)
        | N::CreateUserMappingStmt(_)
        | N::CreateTableAsStmt(_)
        | N::CreateEventTrigStmt(_)
        | N::AlterEventTrigStmt(_)
        | N::AlterEnumStmt(_) => false,
        // A rebuild of everything takes its locks table by table over a long time.
        N::ReindexStmt(reindex) => {
            reindex.relation.is_some() && !partitioned() && super::concurrent_in_transaction::command(subject).is_none()
        }
        N::ClusterStmt(cluster) => cluster.relation.is_some() && !partitioned(),
        N::IndexStmt(_) => super::concurrent_in_transaction::command(subject).is_none(),
        N::DropStmt(drop) => {
            let locked = [
                ObjectType::ObjectTable,
                ObjectType::ObjectIndex,
                ObjectType::ObjectView,
                ObjectType::ObjectMatview,
                ObjectType::ObjectSequence,
                ObjectType::ObjectForeignTable,
                ObjectType::ObjectTrigger,
                ObjectType::ObjectPolicy,
                ObjectType::ObjectRule,
                ObjectType::ObjectType,
                ObjectType::ObjectDomain,
                ObjectType::ObjectFunction,
                ObjectType::ObjectSchema,
                ObjectType::ObjectExtension,
            ];
            !drop.concurrent && locked.contains(&drop.remove_type())
        }
        N::CreateStmt(create) => meets_others(create),
        N::AlterTableStmt(_) => super::concurrent_in_transaction::command(subject).is_none(),
        // SHARE UPDATE EXCLUSIVE at most: no reader or writer waits for it, nor behind it.
        N::CommentStmt(_) => false,
        N::ViewStmt(view) => view.replace,
        _ => true,
    }
}

/// Whatever the catalog holds, no rule has anything to say of the statement, and it locks nothing that others could wait for: the server
/// alone decides about it.
pub fn is_free(statement: &Statement) -> bool {
    use NodeEnum as N;
    !overrides::speaks_to_us(&statement.sql)
        && match &statement.node {
            N::CommentStmt(_) | N::CreateFunctionStmt(_) | N::CompositeTypeStmt(_) | N::CreateEnumStmt(_) => true,
            N::CreateSeqStmt(create) => create.options.is_empty(),
            N::CreateSchemaStmt(create) => create.schema_elts.is_empty(),
            N::ViewStmt(create) => !create.replace,
            N::CreateStmt(create) => {
                let is_like = |element: &pg_query::protobuf::Node| matches!(&element.node, Some(N::TableLikeClause(_)));
                create.partbound.is_none()
                    && create.inh_relations.is_empty()
                    && create.of_typename.is_none()
                    && !create.table_elts.iter().any(is_like)
                    && !tree::references(create)
            }
            _ => false,
        }
}

/// A new table locks its parents and what it refers to.
fn meets_others(create: &CreateStmt) -> bool {
    create.partbound.is_some() || !create.inh_relations.is_empty() || tree::references(create)
}
