//! Dropping a primary key, a unique constraint or a unique index.

use super::nonconcurrent_drop_index::dropped;
use super::rule::{Found, Rule};
use super::taken;
use crate::catalog::Index;
use crate::depends::{Part, State, What};
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::{Subject, Table};
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ObjectType};

pub(super) const RULE: Rule = Rule {
    name: "drop-key",
    lock: LockMode::AccessExclusive,
    what: "DROP CONSTRAINT of a primary key or a unique constraint, DROP INDEX of a unique index, and what takes one with it, on a table with rows, unless another key of the same columns stays.",
    why: "INSERT … ON CONFLICT on its columns fails from that moment on, duplicates come in, and of a published table whose replica identity it is every UPDATE and DELETE fails.",
    versions: "13–18",
    safe: "Build the key that replaces it first, CREATE UNIQUE INDEX CONCURRENTLY, and put it in place with the same ALTER TABLE that drops the old one.",
    bad: &[
        "ALTER TABLE users DROP CONSTRAINT users_pkey",
        "DROP INDEX CONCURRENTLY users_u",
    ],
    good: &[
        "ALTER TABLE users DROP CONSTRAINT users_check",
        "ALTER TABLE users DROP CONSTRAINT users_pkey, ADD PRIMARY KEY (id)",
        "DROP INDEX CONCURRENTLY users_name_idx",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let mut lost = match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => by_constraint(subject),
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex => by_index(subject),
        _ => Vec::new(),
    };
    let key = |part: &&Part| matches!(part.detail.as_deref(), Some("p" | "u")) && part.bytes > 0;
    let going = subject.going(&[What::Constraint]);
    lost.extend(going.into_iter().filter(key).map(taken::told));
    if lost.is_empty() {
        return None;
    }
    let mut message = format!(
        "dropping {} makes INSERT … ON CONFLICT on its columns fail, and lets duplicates in",
        taken::listed(&lost, String::clone)
    );
    let states = subject.asked().map_or(&[][..], |asked| &asked.states);
    if let Some(index) = states.iter().find_map(|state| identity_lost(subject, state)) {
        message.push_str(&format!(
            "; {index} is the replica identity of a published table, whose every UPDATE and DELETE fails without it"
        ));
    }
    Some(Found::advice(
        message,
        "build the key that replaces it first, and drop it in the same ALTER TABLE",
        "CREATE UNIQUE INDEX CONCURRENTLY new_key ON …;\n\
         ALTER TABLE … DROP CONSTRAINT old_key, ADD CONSTRAINT new_key UNIQUE USING INDEX new_key;  -- one brief statement\n\
         -- Of a published table also: ALTER TABLE … REPLICA IDENTITY USING INDEX new_key; before."
            .to_string(),
    ))
}

/// The index that tells the rows of a published table apart, if the statement drops it.
fn identity_lost(subject: &Subject, state: &State) -> Option<String> {
    let index = state.identity_index.as_ref().filter(|_| state.published)?;
    let dropped_here = match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => subject.action.is_some_and(|action| action.command.name == *index),
        NodeEnum::DropStmt(drop) => dropped(drop).iter().any(|name| name.name == *index),
        _ => false,
    };
    dropped_here.then(|| quote_ident(index))
}

fn by_constraint(subject: &Subject) -> Vec<String> {
    let lost = || {
        let action = subject.action_of(AlterTableType::AtDropConstraint)?;
        let table = subject.table(&subject.altered()?)?;
        if taken::is_empty(&table) {
            return None;
        }
        let name = &action.command.name;
        if subject.facts.offline && table.known.is_none_or(|relation| relation.constraint(name).is_none()) {
            return Some(format!("{} of {}, which may be a key,", quote_ident(name), table.sql));
        }
        let relation = table.known?;
        let index = relation.indexes.iter().find(|i| i.constraint.as_ref() == Some(name))?;
        is_lost(subject, &table, index, relation.indexes.iter())
            .then(|| format!("{} of {}", quote_ident(name), table.sql))
    };
    lost().into_iter().collect()
}

fn by_index(subject: &Subject) -> Vec<String> {
    let NodeEnum::DropStmt(drop) = &subject.statement.node else {
        return Vec::new();
    };
    let lost = |name| {
        let found = subject.facts.relation(&name)?;
        let of = found.table.as_ref()?;
        let is_it = |i: &&Index| i.oid == found.oid && i.unique && i.valid;
        let mut relations = subject.facts.relations.iter();
        let (relation, index) = relations.find_map(|r| Some((r, r.indexes.iter().find(is_it)?)))?;
        let table = Table {
            known: Some(relation),
            sql: crate::subject::sql_name(of),
            small: false,
        };
        if relation.invisible_to_others() || taken::is_empty(&table) {
            return None;
        }
        is_lost(subject, &table, index, relation.indexes.iter())
            .then(|| format!("{} of {}", quote_ident(&index.name), table.sql))
    };
    dropped(drop).into_iter().filter_map(lost).collect()
}

/// No other key of the same columns stays, and the same ALTER TABLE adds none.
fn is_lost<'a>(subject: &Subject, table: &Table, index: &Index, mut all: impl Iterator<Item = &'a Index>) -> bool {
    let same = |columns: &mut Vec<Option<String>>| {
        columns.sort();
        std::mem::take(columns)
    };
    let wanted = same(&mut index.columns.clone());
    let stays = all.any(|other| {
        other.name != index.name
            && other.unique
            && other.valid
            && other.immediate
            && other.partial <= index.partial
            && same(&mut other.columns.clone()) == wanted
    });
    let added = subject.statement.added_keys().any(|constraint| {
        let mut columns: Vec<Option<String>> = tree::names(&constraint.keys).into_iter().map(Some).collect();
        if let Some(using) = table.known.and_then(|r| r.index(&constraint.indexname)) {
            columns.clone_from(&using.columns);
        }
        same(&mut columns) == wanted
    });
    !(stays || added)
}
