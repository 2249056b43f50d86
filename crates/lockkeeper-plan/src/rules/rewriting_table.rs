//! CLUSTER, VACUUM FULL and the ALTER TABLE actions that write the table anew.

use super::rule::{Found, Rule};
use super::taken;
use crate::depends::Part;
use crate::lock::LockMode;
use crate::remedies::rewrite_table;
use crate::rewrite::online::Order;
use crate::splice::quote_ident;
use crate::step::Step;
use crate::subject::{Subject, Table, name_of};
use crate::tree::flag;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType};

pub(super) const RULE: Rule = Rule {
    name: "rewriting-table",
    lock: LockMode::AccessExclusive,
    what: "CLUSTER, VACUUM FULL, SET LOGGED, SET UNLOGGED, SET TABLESPACE (ALL IN TABLESPACE too) and SET ACCESS METHOD on a table that is not small.",
    why: "The whole table is copied under ACCESS EXCLUSIVE: all reads and writes wait for the copy.",
    versions: "13–18",
    safe: "Copy beside the running table and swap at the end, which Lockkeeper does for VACUUM FULL, CLUSTER by a unique key, SET LOGGED, SET UNLOGGED, SET TABLESPACE and SET ACCESS METHOD; or pg_repack or pg_squeeze.",
    bad: &[
        "CLUSTER users USING users_name_idx",
        "VACUUM FULL users",
        "ALTER TABLE users SET UNLOGGED",
    ],
    good: &[
        "VACUUM users",
        "ALTER TABLE small SET UNLOGGED",
        "VACUUM (FULL false) users",
        "CLUSTER small",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if let NodeEnum::AlterTableMoveAllStmt(_) = &subject.statement.node {
        return moved_all(subject);
    }
    let (what, tables) = rewritten(subject)?;
    let listed = match tables.as_slice() {
        [] => "every table".to_string(),
        some => some.iter().map(Table::described).collect::<Vec<_>>().join(", "),
    };
    let message = format!("{what} copies {listed} under ACCESS EXCLUSIVE, which blocks reads and writes");
    let steps = online(subject, &tables);
    if let NodeEnum::AlterTableStmt(_) = &subject.statement.node {
        let hint = format!(
            "{what} has no form of its own that lets others go on meanwhile. In a quiet hour it can be overridden."
        );
        let short = "have the table rewritten by copy and swap, or choose a quiet hour and override";
        return Some(rewrite_table::found(message, short, hint, steps));
    }
    let (vacuum, repack) = match tables.first() {
        Some(table) => (
            format!("VACUUM {}", table.sql),
            format!("pg_repack --table={}", table.sql),
        ),
        None => ("VACUUM".to_string(), "pg_repack".to_string()),
    };
    let hint = format!(
        "To remove bloat: {vacuum};  -- blocks nobody\n\
         To write a table anew while it is in use: {repack}, or the pg_squeeze extension."
    );
    Some(rewrite_table::found(
        message,
        "use VACUUM, pg_repack or pg_squeeze",
        hint,
        steps,
    ))
}

/// Invisible to whoever reads and writes the table: by copy and swap.
fn online(subject: &Subject, tables: &[Table]) -> Result<Vec<Step>, String> {
    let [table] = tables else {
        return Err("it is done for one table at a time, and each is to be named".to_string());
    };
    let (with, order) = match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => return rewrite_table::of_action(subject, table, RULE.name),
        NodeEnum::ClusterStmt(cluster) if cluster.indexname.is_empty() => (String::new(), Order::Marked),
        NodeEnum::ClusterStmt(cluster) => {
            let index = &cluster.indexname;
            let mark = format!("ALTER TABLE {} CLUSTER ON {}", table.sql, quote_ident(index));
            (mark, Order::By(index.clone()))
        }
        NodeEnum::VacuumStmt(vacuum) if vacuum.rels.len() > 1 => {
            return Err("it is done for one table at a time".to_string());
        }
        _ => (String::new(), Order::Any),
    };
    rewrite_table::steps(subject, table, RULE.name, with, order)
}

/// ALTER … ALL IN TABLESPACE.
fn moved_all(subject: &Subject) -> Option<Found> {
    let moved: Vec<&Part> = subject.asked().map_or(Vec::new(), |asked| asked.touched().collect());
    let large: Vec<&Part> = moved
        .into_iter()
        .filter(|part| !taken::is_small(subject, part))
        .collect();
    let listed = match large.as_slice() {
        [] if subject.facts.offline => "everything in the tablespace".to_string(),
        [] => return None,
        large => taken::listed(large, |part| taken::described(part)),
    };
    Some(Found::advice(
        format!(
            "{} copies {listed} under ACCESS EXCLUSIVE, which blocks reads and writes",
            subject.shown()
        ),
        "move one at a time, with pg_repack",
        "pg_repack --tablespace=… --table=…;  -- one table at a time, while it is in use\n\
         -- An index: CREATE INDEX CONCURRENTLY … TABLESPACE …; then DROP INDEX CONCURRENTLY the old one."
            .to_string(),
    ))
}

/// The statement's name and its large tables, none named for the whole database; None if nothing large is rewritten.
fn rewritten<'a>(subject: &Subject<'a>) -> Option<(&'static str, Vec<Table<'a>>)> {
    let (what, names) = match &subject.statement.node {
        NodeEnum::ClusterStmt(cluster) => ("CLUSTER", cluster.relation.iter().map(name_of).collect()),
        NodeEnum::VacuumStmt(vacuum) => {
            if !vacuum.is_vacuumcmd || !flag(&vacuum.options, "full") {
                return None;
            }
            let relations = vacuum.rels.iter().filter_map(|node| match &node.node {
                Some(NodeEnum::VacuumRelation(relation)) => relation.relation.as_ref().map(name_of),
                _ => None,
            });
            ("VACUUM FULL", relations.collect::<Vec<_>>())
        }
        NodeEnum::AlterTableStmt(_) => {
            let command = subject.action?.command;
            if already(subject, command) {
                return None;
            }
            let what = match command.subtype() {
                AlterTableType::AtSetLogged => "SET LOGGED",
                AlterTableType::AtSetUnLogged => "SET UNLOGGED",
                AlterTableType::AtSetTableSpace => "SET TABLESPACE",
                AlterTableType::AtSetAccessMethod => "SET ACCESS METHOD",
                _ => return None,
            };
            (what, subject.altered().into_iter().collect())
        }
        _ => return None,
    };
    if names.is_empty() {
        return Some((what, Vec::new()));
    }
    let large: Vec<Table> = names.iter().filter_map(|name| subject.large(name)).collect();
    // SET ACCESS METHOD and SET TABLESPACE of a partitioned table only say what new partitions get. SET LOGGED and SET UNLOGGED do nothing to
    // it, and are refused by PostgreSQL 18.
    let is_alter = matches!(subject.statement.node, NodeEnum::AlterTableStmt(_));
    if large.is_empty() || (is_alter && large.iter().all(|t| matches!(t.kind(), 'p' | 'I'))) {
        return None;
    }
    Some((what, large))
}

/// The table is as the action wants it: the server does nothing.
fn already(subject: &Subject, command: &AlterTableCmd) -> bool {
    let relation = subject.altered().and_then(|name| subject.facts.relation(&name));
    relation.is_some_and(|relation| match command.subtype() {
        AlterTableType::AtSetLogged => relation.persistence == 'p',
        AlterTableType::AtSetUnLogged => relation.persistence == 'u',
        AlterTableType::AtSetTableSpace => relation.tablespace.as_ref() == Some(&command.name),
        // DEFAULT is what default_table_access_method says.
        AlterTableType::AtSetAccessMethod => relation.access_method.as_ref() == Some(&command.name),
        _ => false,
    })
}
