//! An index or constraint that takes the place of what the same transaction has just dropped: the new one is built first, and one
//! brief step exchanges them, so that nobody is ever without either. Pure.
//!
//! The removal is done at once, as on the server, behind a savepoint of ours. Only where the very next statement brings what takes its
//! place, it is taken back there and done by the job; and it is done again, in the transaction, as soon as a statement comes that
//! could see the difference ([`is_blind`]).

use super::{New, valid_index};
use crate::catalog::{Name, Relation};
use crate::facts::Facts;
use crate::lock::LockMode;
use crate::policy::{InTransaction, Policy};
use crate::reading::read;
use crate::remedies::steps;
use crate::rules::nonconcurrent_drop_index;
use crate::splice::{self, one_statement, quote_ident};
use crate::statement::{self, Kind, Statement};
use crate::step::{Mode, Step};
use crate::tool;
use crate::waiting::{Dropped, Stored};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType as A, ConstrType, DropBehavior, ObjectType};
use serde_json::Value;

/// None: nothing that a later statement would be likely to replace, or that is not slow to build.
pub fn dropped(statement: &Statement, facts: &Facts, policy: &Policy) -> Option<Dropped> {
    if policy.in_transaction != InTransaction::Defer {
        return None;
    }
    let large = |relation: &&Relation| {
        relation.kind == 'r' && !relation.invisible_to_others() && !relation.is_small(policy.small_bytes)
    };
    let table_sql = |relation: &Relation| splice::qualified(&relation.schema, &relation.name);
    match &statement.node {
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex => {
            let names = nonconcurrent_drop_index::dropped(drop);
            let [name] = names.as_slice() else {
                return None;
            };
            let oid = facts.relation(name)?.oid;
            let owns = |relation: &&Relation| relation.indexes.iter().any(|index| index.oid == oid);
            let table = facts.relations.iter().find(owns).filter(large)?;
            let index = table.indexes.iter().find(|index| index.oid == oid)?;
            if drop.concurrent || drop.behavior() == DropBehavior::DropCascade || index.constraint.is_some() {
                return None;
            }
            Some(Dropped {
                relation: table.oid,
                table: table_sql(table),
                sql: statement.sql.clone(),
                name: index.name.clone(),
                index: index.name.clone(),
                again: format!("DROP INDEX IF EXISTS {}", splice::qualified(&index.schema, &index.name)),
            })
        }
        NodeEnum::AlterTableStmt(alter) => {
            let commands: Vec<&AlterTableCmd> = statement.actions().collect();
            let [command] = commands.as_slice() else {
                return None;
            };
            if command.subtype() != A::AtDropConstraint || command.behavior() == DropBehavior::DropCascade {
                return None;
            }
            let table = facts.relation(&Name::of(alter.relation.as_ref()?)).filter(large)?;
            let backs = |index: &&crate::catalog::Index| index.constraint.as_ref() == Some(&command.name);
            let index = table.indexes.iter().find(backs)?;
            Some(Dropped {
                relation: table.oid,
                table: table_sql(table),
                sql: statement.sql.clone(),
                name: command.name.clone(),
                index: index.name.clone(),
                again: format!(
                    "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
                    table_sql(table),
                    quote_ident(&command.name)
                ),
            })
        }
        _ => None,
    }
}

/// `ALTER TABLE t DROP CONSTRAINT a, ADD CONSTRAINT b UNIQUE (…)` as the two statements that it stands for.
pub fn parts(statement: &Statement) -> Option<[String; 2]> {
    let commands: Vec<&AlterTableCmd> = statement.actions().collect();
    let [first, second] = commands.as_slice() else {
        return None;
    };
    let replaces = first.subtype() == A::AtDropConstraint
        && first.behavior() != DropBehavior::DropCascade
        && constraint(second).is_some_and(|c| c.indexname.is_empty() && is_key(c.contype()));
    if !replaces {
        return None;
    }
    let text = statement::alter::alter_actions(statement)?;
    match text.actions.as_slice() {
        [drop, add] => Some([format!("{} {drop}", text.head), format!("{} {add}", text.head)]),
        _ => None,
    }
}

fn constraint(command: &AlterTableCmd) -> Option<&pg_query::protobuf::Constraint> {
    match command.def.as_ref()?.node.as_ref()? {
        NodeEnum::Constraint(constraint) if command.subtype() == A::AtAddConstraint => Some(constraint),
        _ => None,
    }
}

fn is_key(kind: ConstrType) -> bool {
    matches!(kind, ConstrType::ConstrUnique | ConstrType::ConstrPrimary)
}

/// Whether a text may belong to such an exchange: anything else that comes first ends the chance of it.
pub fn may_belong(text: &[u8], conforming: bool) -> bool {
    let Ok(statements) = read(text, conforming) else {
        return false;
    };
    let one = |statement: &Statement| match &statement.node {
        NodeEnum::IndexStmt(_) | NodeEnum::AlterTableStmt(_) => true,
        NodeEnum::DropStmt(drop) => drop.remove_type() == ObjectType::ObjectIndex,
        _ => false,
    };
    matches!(statements.as_slice(), [statement] if one(statement))
}

/// Whether a text cannot tell that the old one is there still: what ends or divides the transaction, settings, a migration tool's own
/// books, and the building of other indexes and keys.
pub fn is_blind(text: &[u8], conforming: bool, dropped: &Dropped) -> bool {
    let Ok(statements) = read(text, conforming) else {
        return false;
    };
    let other = |name: &str| !name.is_empty() && name != dropped.name && name != dropped.index;
    statements.iter().all(|statement| match &statement.node {
        NodeEnum::TransactionStmt(_) | NodeEnum::VariableSetStmt(_) | NodeEnum::VariableShowStmt(_) => true,
        NodeEnum::IndexStmt(index) => other(&index.idxname),
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex => {
            nonconcurrent_drop_index::dropped(drop)
                .iter()
                .all(|name| other(&name.name))
        }
        NodeEnum::AlterTableStmt(_) => statement.actions().all(|command| {
            (command.subtype() == A::AtDropConstraint && other(&command.name))
                || constraint(command).is_some_and(|c| is_key(c.contype()) && other(&c.conname))
        }),
        NodeEnum::InsertStmt(_) | NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) | NodeEnum::SelectStmt(_) => {
            !matches!(statement.kind, Kind::MixedWrite)
                && serde_json::to_value(&statement.node).is_ok_and(|tree| only_books(&tree))
        }
        _ => false,
    })
}

/// Every relation is one of a tool's own, and nothing is called.
fn only_books(tree: &Value) -> bool {
    match tree {
        Value::Array(items) => items.iter().all(only_books),
        Value::Object(fields) => fields.iter().all(|(kind, value)| match (kind.as_str(), value) {
            ("FuncCall", Value::Object(call)) => is_clock(call),
            ("relname", Value::String(name)) => tool::is_book(name),
            (_, value) => only_books(value),
        }),
        _ => true,
    }
}

/// now(), without arguments.
fn is_clock(call: &serde_json::Map<String, Value>) -> bool {
    let text = call.get("funcname").map(Value::to_string).unwrap_or_default();
    let no_arguments = call.get("args").and_then(Value::as_array).is_none_or(Vec::is_empty);
    no_arguments && text.contains("\"now\"") && !text.contains("schema")
}

impl New {
    /// Builds under another name where the old one has it, and drops the old one in the step that brings the new. False: the steps are not
    /// such as can be exchanged.
    pub(crate) fn exchange(&mut self, relation: &Relation, dropped: &[Dropped]) -> bool {
        let on_table: Vec<&Dropped> = dropped.iter().filter(|d| d.relation == relation.oid).collect();
        let builds: Vec<usize> = (0..self.later.len())
            .filter(|&at| matches!(self.later[at].mode, Mode::Concurrent))
            .collect();
        let [at] = builds[..] else {
            return false;
        };
        let Some(NodeEnum::IndexStmt(index)) = one_statement(&self.later[at].sql) else {
            return false;
        };
        let name = index.idxname;
        let Some(old) = on_table
            .iter()
            .find(|d| d.index == name || d.name == name)
            .or(on_table.first())
        else {
            return false;
        };
        let taken = on_table.iter().any(|d| d.index == name);
        let meanwhile = match taken {
            true => free_name(&name, relation),
            false => name.clone(),
        };
        let Some(last) = self.exchanged(at, &name, &meanwhile, relation, old) else {
            return false;
        };
        if taken {
            let Some(sql) = splice::index_named(&self.later[at].sql, &meanwhile) else {
                return false;
            };
            let table = steps::table_of(relation);
            let build = &mut self.later[at];
            build.sql = sql;
            build.done_when = Some(valid_index(relation.oid, &meanwhile));
            build.cleanup = steps::drop_invalid_index(&table, &meanwhile);
        }
        if at + 1 == self.later.len() {
            self.later.push(last);
        } else {
            let at = self.later.len() - 1;
            self.later[at] = last;
        }
        self.replaces = Some((*old).clone());
        true
    }

    /// The last step: the constraint that takes the index over, or the index under its own name.
    fn exchanged(&self, at: usize, name: &str, meanwhile: &str, relation: &Relation, old: &Dropped) -> Option<Step> {
        let table = steps::table_of(relation);
        let steps = &self.later[at + 1..];
        match steps {
            [] if meanwhile == name => Some(steps::brief(
                "drop the index that is replaced",
                old.again.clone(),
                LockMode::AccessExclusive,
                &table,
            )),
            [] => {
                let sql = format!(
                    "ALTER INDEX {} RENAME TO {}",
                    splice::qualified(&relation.schema, meanwhile),
                    quote_ident(name)
                );
                Some(Step {
                    guard: Some(old.again.clone()),
                    ..steps::brief(
                        "put the index in the other's place",
                        sql,
                        LockMode::AccessExclusive,
                        &table,
                    )
                })
            }
            [add] if add.guard.is_none() => {
                let using = |name: &str| format!(" USING INDEX {}", quote_ident(name));
                let sql = add.sql.replacen(&using(name), &using(meanwhile), 1);
                let Some(NodeEnum::AlterTableStmt(alter)) = one_statement(&sql) else {
                    return None;
                };
                let takes = |node: &pg_query::protobuf::Node| match &node.node {
                    Some(NodeEnum::AlterTableCmd(command)) => {
                        constraint(command).is_some_and(|c| c.indexname == meanwhile)
                    }
                    _ => false,
                };
                alter.cmds.iter().all(takes).then(|| Step {
                    sql,
                    guard: Some(old.again.clone()),
                    ..add.clone()
                })
            }
            _ => None,
        }
    }
}

fn free_name(name: &str, relation: &Relation) -> String {
    (0..)
        .map(|n| {
            let suffix = match n {
                0 => "_new".to_string(),
                n => format!("_new{n}"),
            };
            let mut end = name.len().min(63 - suffix.len());
            while !name.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}{suffix}", &name[..end])
        })
        .find(|name| !relation.relation_is_taken(name))
        .unwrap_or_default()
}

/// The old one is gone, by the transaction itself: the job does not remove it, nor another one of its name.
pub fn without_removal(job: i64, steps: &[Stored]) -> String {
    let steps: Vec<Stored> = steps
        .iter()
        .filter(|stored| !stored.only_drops())
        .map(|stored| Stored {
            guard: None,
            ..stored.clone()
        })
        .collect();
    format!(
        "UPDATE lockkeeper.job SET details = pg_catalog.jsonb_set(details, '{{steps}}', {}::jsonb) WHERE id = {job} AND owner = current_user",
        splice::quote_literal(&serde_json::to_string(&steps).unwrap_or_default())
    )
}
