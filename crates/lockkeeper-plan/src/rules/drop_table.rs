//! DROP TABLE.

use super::nonconcurrent_drop_index::dropped;
use super::rule::{Found, Rule};
use super::taken::{self, UNUSED, Worst};
use crate::depends::{Part, What};
use crate::lock::LockMode;
use crate::subject::{Subject, sql_name};
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

pub(super) const RULE: Rule = Rule {
    name: "drop-table",
    lock: LockMode::AccessExclusive,
    what: "DROP TABLE of a table that others can see, however small; DROP SCHEMA, EXTENSION, OWNED … that takes one with it.",
    why: "The data is gone at once, and applications that still use the table fail; tables that it references are locked too, and a partition's parent.",
    versions: "13–18",
    safe: "Stop reading and writing it, deploy, make sure that nothing uses it, and only then drop it, by an override that says so.",
    bad: &["DROP TABLE users", "DROP TABLE IF EXISTS nowhere, small"],
    good: &["DROP TABLE IF EXISTS nowhere", "DROP VIEW v"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let names = match &subject.statement.node {
        NodeEnum::DropStmt(drop)
            if matches!(
                drop.remove_type(),
                ObjectType::ObjectTable | ObjectType::ObjectForeignTable
            ) =>
        {
            dropped(drop)
        }
        _ => Vec::new(),
    };
    let tables: Vec<_> = names.iter().filter_map(|name| subject.table(name)).collect();
    let going = subject.going(&[What::Table]);
    if tables.is_empty() {
        return with_it(subject, &going);
    }
    let listed = tables.iter().map(|t| t.described()).collect::<Vec<_>>().join(", ");
    let names = tables.iter().map(|t| t.sql.clone()).collect::<Vec<_>>().join(", ");
    let mut referenced: Vec<String> = tables
        .iter()
        .filter_map(|t| t.known)
        .flat_map(|r| r.constraints.iter().filter_map(|c| c.references.as_ref()).map(sql_name))
        .filter(|name| !tables.iter().any(|t| t.sql == *name))
        .collect();
    referenced.sort();
    referenced.dedup();
    let mut message = match tables.iter().all(|t| t.kind() == 'f') {
        true => format!("DROP FOREIGN TABLE breaks every application that still uses {names}"),
        false => format!("DROP TABLE loses the data of {listed} and breaks every application that still uses it"),
    };
    if !referenced.is_empty() {
        message.push_str(&format!("; it takes ACCESS EXCLUSIVE on {} too", referenced.join(", ")));
    }
    if !going.is_empty() {
        message.push_str(&format!(
            "; it takes {} with it",
            taken::listed(&going, |part| taken::described(part))
        ));
    }
    let mut hint = String::new();
    for table in tables.iter().filter(|t| t.known.is_some_and(|r| r.is_partition)) {
        let parent = table
            .known
            .and_then(|r| r.parents.first())
            .map_or("its parent".to_string(), sql_name);
        hint.push_str(&format!(
            "{t} is a partition, and its parent would be locked: first ALTER TABLE {parent} DETACH PARTITION {t} CONCURRENTLY;\n",
            t = table.sql
        ));
    }
    hint.push_str(&format!(
        "1. Deploy what neither reads nor writes {names}.\n\
         2. Wait until the last session with the old code is gone; drop foreign keys one by one; take a backup.\n\
         3. {}",
        subject.let_through("drop-table", UNUSED, subject.whole_text())
    ));
    Some(Found::advice(
        message,
        "stop using it and deploy first, then drop it with an override",
        hint,
    ))
}

/// Tables that go with something else.
fn with_it(subject: &Subject, going: &[&Part]) -> Option<Found> {
    let statement = subject.shown();
    let message = if !going.is_empty() {
        let tables = if going.len() == 1 { "table" } else { "tables" };
        let harm = match going.iter().all(|part| part.is_foreign()) {
            true => "and breaks every application that still uses it",
            false => "whose data is lost",
        };
        format!(
            "{statement} takes {} {tables} with it, {harm}: {}",
            going.len(),
            taken::listed(going, |part| taken::described(part))
        )
    } else if subject.may_take(Worst::Table) {
        format!("{statement} takes every table with it that is in it or depends on it, and the data is lost")
    } else {
        return None;
    };
    Some(Found::advice(
        message,
        "stop using these tables and deploy first, then drop them with an override",
        taken::first_by_itself(subject, RULE.name, "these tables"),
    ))
}
