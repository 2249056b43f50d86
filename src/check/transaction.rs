//! What a file's transactions make of its statements: those that the server is certain to refuse, and those that are safe alone
//! but run while the transaction holds a lock that others wait for.

use super::known::{Held, Known};
use super::spot::Spot;
use super::verdict::{Found, Source};
use crate::plan::catalog::Name;
use crate::plan::facts::Facts;
use crate::plan::lock::LockMode;
use crate::plan::locks;
use crate::plan::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::{ObjectType, ReindexObjectType, TransactionStmtKind};
use std::ops::Range;

/// The server will refuse it.
pub const FAILS: &str = "certain-failure";
pub const HELD: &str = "held-lock";

pub fn left_open(source: &Source, span: Range<usize>) -> Found {
    Found::new(
        source,
        span,
        FAILS,
        LockMode::None,
        "begins a transaction that the file never commits: all that follows is undone when the session ends"
            .to_string(),
        "COMMIT;  -- at the end of the file".to_string(),
    )
}

/// What the server is certain to answer with an error.
pub fn fails(at: &Spot, known: &Known, facts: &Facts) -> Option<Found> {
    let (message, hint) = failure(at.statement, known, facts)?;
    Some(Found::new(at.source, at.whole(), FAILS, LockMode::None, message, hint))
}

fn failure(statement: &Statement, known: &Known, facts: &Facts) -> Option<(String, String)> {
    if matches!(statement.kind, Kind::Commit { .. }) && known.is_of_tool() {
        let message = "ends the transaction that the migration tool has begun: what follows runs outside of any, and the tool's own \
                       COMMIT finds none";
        return Some((
            message.to_string(),
            "Leave COMMIT to the tool; tell it to run this file without a transaction, if it must commit in between."
                .to_string(),
        ));
    }
    if let Some(value) = known.new_enum_value(&statement.sql).filter(|_| !adds_value(statement)) {
        return Some((
            format!(
                "uses the enum value '{value}', which this transaction has added: the server refuses it before the COMMIT"
            ),
            "COMMIT;  -- after ALTER TYPE … ADD VALUE, before the value is used".to_string(),
        ));
    }
    match &statement.node {
        NodeEnum::DropStmt(drop) if drop.concurrent && drop.objects.len() > 1 => Some((
            "DROP INDEX CONCURRENTLY takes one index: of several the server refuses all".to_string(),
            "DROP INDEX CONCURRENTLY …;  -- a statement for each index".to_string(),
        )),
        NodeEnum::IndexStmt(index) if index.concurrent => {
            let relation = facts.relation(&Name::of(index.relation.as_ref()?))?;
            (relation.kind == 'p').then(|| {
                (
                    format!("the server builds no index concurrently on {}, which is partitioned", relation.name),
                    format!(
                        "CREATE INDEX … ON ONLY {};  -- then CREATE INDEX CONCURRENTLY on each partition, and ALTER INDEX … ATTACH PARTITION",
                        relation.name
                    ),
                )
            })
        }
        NodeEnum::ReindexStmt(reindex)
            if reindex.kind() == ReindexObjectType::ReindexObjectSystem && concurrently(&reindex.params) =>
        {
            Some((
                "the server rebuilds no system catalogs concurrently".to_string(),
                "REINDEX SYSTEM …;  -- in a time without traffic".to_string(),
            ))
        }
        NodeEnum::TransactionStmt(transaction) => {
            let needs_block = matches!(
                TransactionStmtKind::try_from(transaction.kind),
                Ok(TransactionStmtKind::TransStmtSavepoint
                    | TransactionStmtKind::TransStmtRollbackTo
                    | TransactionStmtKind::TransStmtRelease)
            );
            (needs_block && !known.is_open()).then(|| {
                (
                    "a savepoint needs a transaction block, and none is open here".to_string(),
                    "BEGIN;  -- before it".to_string(),
                )
            })
        }
        _ => None,
    }
}

fn adds_value(statement: &Statement) -> bool {
    matches!(statement.node, NodeEnum::AlterEnumStmt(_))
}

fn concurrently(options: &[pg_query::Node]) -> bool {
    options.iter().any(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) => option.defname == "concurrently",
        _ => false,
    })
}

/// It takes a while, or waits for another table's lock, while the transaction keeps others from a table.
pub fn under_locks(at: &Spot, known: &Known, facts: &Facts) -> Option<Found> {
    let statement = at.statement;
    let named = locks::locks(statement);
    let is_own = |table: &(String, String)| {
        named.iter().any(|(name, _)| {
            let schema = facts.relation(name).map(|relation| relation.schema.clone());
            table.1 == name.name && table.0 == schema.unwrap_or_else(|| known.tables.schema(name))
        })
    };
    let strongest = strongest(known, LockMode::Share, |_| true)?;
    let other = self::strongest(known, LockMode::ShareRowExclusive, |held| !is_own(&held.table));
    let work = match &statement.kind {
        // A second table, whose lock is waited for.
        Kind::Ddl if other.is_some() && waits_for_another(statement, known, facts) => {
            "waits for the lock of another table"
        }
        Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite => "changes rows",
        _ if copies_rows(&statement.node) => "reads and writes rows",
        _ => return None,
    };
    let held = other.unwrap_or(strongest);
    let table = &held.table.1;
    let message = format!(
        "{work} while the transaction holds {} on {table} since line {}, which blocks {} until the COMMIT",
        held.mode.name(),
        held.line,
        held.mode.blocks()
    );
    Some(Found::new(
        at.source,
        at.whole(),
        HELD,
        held.mode,
        message,
        format!("COMMIT;  -- first, so that {table} is free\nThen this in a transaction of its own."),
    ))
}

/// The first of the strongest locks that are held; behind ACCESS EXCLUSIVE nothing stronger comes.
fn strongest(known: &Known, least: LockMode, wanted: impl Fn(&Held) -> bool) -> Option<&Held> {
    let mut found: Option<&Held> = None;
    for held in known.held().iter().filter(|held| held.mode >= least) {
        if found.is_none_or(|found| held.mode > found.mode) && wanted(held) {
            found = Some(held);
        }
        if found.is_some_and(|found| found.mode == LockMode::AccessExclusive) {
            break;
        }
    }
    found
}

/// INSERT … SELECT, CREATE TABLE … AS, COPY.
fn copies_rows(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::InsertStmt(insert) => match insert.select_stmt.as_ref().and_then(|select| select.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => select.values_lists.is_empty() && !select.from_clause.is_empty(),
            _ => false,
        },
        NodeEnum::CreateTableAsStmt(create) => create.objtype() == ObjectType::ObjectTable,
        NodeEnum::CopyStmt(_) => true,
        _ => false,
    }
}

fn waits_for_another(statement: &Statement, known: &Known, facts: &Facts) -> bool {
    let mine = locks::locks(statement);
    mine.iter().any(|(name, mode)| {
        let relation = facts.relation(name);
        let schema = relation.map(|relation| relation.schema.clone());
        let key = (schema.unwrap_or_else(|| known.tables.schema(name)), name.name.clone());
        let is_new = relation.is_some_and(|relation| relation.invisible_to_others());
        let is_there = relation.is_some() || facts.offline;
        *mode >= LockMode::ShareRowExclusive && is_there && !is_new && !known.holds(&key, *mode)
    })
}
