//! What is published without a replica identity: its UPDATE and DELETE fail.

use super::rule::{Found, Rule};
use super::taken;
use crate::depends::{self, State};
use crate::lock::LockMode;
use crate::splice::qualified;
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterPublicationAction, AlterTableType};

pub(super) const RULE: Rule = Rule {
    name: "replica-identity",
    lock: LockMode::AccessExclusive,
    what: "ALTER TABLE … REPLICA IDENTITY that leaves a published table without one, and CREATE or ALTER PUBLICATION of UPDATE or DELETE of a table with rows that has none: no primary key, and nothing that takes its place.",
    why: "Every UPDATE and DELETE of the table fails from that moment on (55000), whoever sends it and whether anybody subscribes or not.",
    versions: "13–18",
    safe: "Give the table a primary key first, or a unique index of NOT NULL columns by REPLICA IDENTITY USING INDEX; REPLICA IDENTITY FULL where it has neither, which writes the whole old row to the WAL.",
    bad: &["ALTER TABLE users REPLICA IDENTITY NOTHING"],
    good: &[
        "ALTER TABLE users REPLICA IDENTITY FULL",
        "CREATE PUBLICATION empty_handed",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => given_up(subject),
        NodeEnum::CreatePublicationStmt(_) | NodeEnum::AlterPublicationStmt(_) => published(subject),
        _ => None,
    }
}

fn given_up(subject: &Subject) -> Option<Found> {
    let action = subject.action_of(AlterTableType::AtReplicaIdentity)?;
    let Some(NodeEnum::ReplicaIdentityStmt(new)) = action.command.def.as_ref()?.node.as_ref() else {
        return None;
    };
    let table = subject
        .table(&subject.altered()?)
        // Of a partitioned table each partition has its own.
        .filter(|table| !taken::is_empty(table) && table.kind() != 'p')?;
    let is_key = |index: &crate::catalog::Index| index.primary && index.valid && index.immediate;
    let is_lost = match new.identity_type.as_str() {
        "n" => true,
        "d" => table.known.is_none_or(|relation| !relation.indexes.iter().any(is_key)),
        _ => false,
    };
    if !is_lost || (!subject.facts.offline && !subject.asked()?.state(table.known?.oid)?.published) {
        return None;
    }
    let table_and_why = match subject.facts.offline {
        true => format!("{}, should it be published,", table.described()),
        false => format!("{}, which is published,", table.described()),
    };
    let message = format!("without a replica identity every UPDATE and DELETE of {table_and_why} fails");
    Some(Found::advice(
        message,
        "leave it the one that it has",
        format!(
            "ALTER TABLE {} REPLICA IDENTITY USING INDEX …;  -- of a unique index of NOT NULL columns; where there is none, FULL",
            table.sql
        ),
    ))
}

fn published(subject: &Subject) -> Option<Found> {
    let Some(asked) = subject.asked() else {
        return may_be_published(subject);
    };
    let states: Vec<&State> = asked.states.iter().filter(|state| state.bytes > 0).collect();
    if states.is_empty() {
        return None;
    }
    let name = |state: &&State| qualified(&state.schema, &state.relation);
    let keys: Vec<String> = states
        .iter()
        .map(|state| {
            format!(
                "ALTER TABLE {} REPLICA IDENTITY FULL;  -- or give it a primary key",
                name(state)
            )
        })
        .collect();
    Some(found(subject, &taken::listed(&states, name), &keys.join("\n")))
}

/// Without a server.
fn may_be_published(subject: &Subject) -> Option<Found> {
    let publishes = match &subject.statement.node {
        NodeEnum::CreatePublicationStmt(create) => {
            let some = create.for_all_tables || !create.pubobjects.is_empty();
            some && depends::publishes_changes(&create.options).unwrap_or(true)
        }
        NodeEnum::AlterPublicationStmt(alter) => {
            let some = alter.for_all_tables || !alter.pubobjects.is_empty();
            (some && alter.action() != AlterPublicationAction::ApDropObjects)
                || depends::publishes_changes(&alter.options) == Some(true)
        }
        _ => false,
    };
    (subject.facts.offline && publishes).then(|| {
        found(
            subject,
            "every table of it that has no primary key",
            "ALTER TABLE … REPLICA IDENTITY FULL;  -- of each that has no primary key",
        )
    })
}

fn found(subject: &Subject, tables: &str, first: &str) -> Found {
    Found::advice(
        format!(
            "{tables} would be published without a replica identity: every UPDATE and DELETE of such a table fails from that moment on"
        ),
        "give it a replica identity first",
        format!(
            "{first}\n{};\n-- Or publish what needs none: WITH (publish = 'insert, truncate').",
            subject.whole_text()
        ),
    )
}
