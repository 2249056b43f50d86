//! VALIDATE CONSTRAINT that scans under a stronger lock than its own, and ALTER CONSTRAINT … ENFORCED, which has no weaker one.

use super::concurrent_in_transaction;
use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::steps;
use crate::splice::quote_ident;
use crate::step::Place;
use crate::subject::{Subject, Table};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType};

pub(super) const RULE: Rule = Rule {
    name: "scan-under-lock",
    lock: LockMode::AccessExclusive,
    what: "VALIDATE CONSTRAINT beside another action of the same ALTER TABLE, or in a transaction that already holds a lock on the table that stops writes; ALTER CONSTRAINT … ENFORCED.",
    why: "The strongest lock wins: the whole table is scanned while its writes, or all reads and writes, wait.",
    versions: "13–18; NOT ENFORCED only in 18",
    safe: "VALIDATE CONSTRAINT as a statement and a transaction of its own, under SHARE UPDATE EXCLUSIVE.",
    bad: &[
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_later, ADD COLUMN c int",
        "ALTER TABLE users ALTER CONSTRAINT users_org_off ENFORCED",
    ],
    good: &[
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_later",
        "ALTER TABLE small VALIDATE CONSTRAINT c, ADD COLUMN c int",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if let Some(action) = subject.action_of(AlterTableType::AtAlterConstraint) {
        return enforced(subject, action.command);
    }
    let action = subject.action_of(AlterTableType::AtValidateConstraint)?;
    let table = subject.large(&subject.altered()?)?;
    let name = &action.command.name;
    let constraint = table.known.and_then(|r| r.constraint(name));
    let held_in_block = table.known.is_some_and(|r| r.held_in_block);
    // What is not known yet the block adds itself.
    if table.known.is_some() && constraint.map_or(!held_in_block, |c| c.validated) {
        return None;
    }
    let quoted = quote_ident(name);
    let step = || {
        let sql = format!("{} VALIDATE CONSTRAINT {quoted}", action.head);
        steps::long("validate constraint", sql, Vec::new(), &table)
    };
    if held_in_block && table.known.is_some_and(|r| !r.held) {
        let message = format!(
            "the block locks {} against writes before, and VALIDATE CONSTRAINT would scan the table under that lock",
            table.described()
        );
        return Some(Found {
            sqlstate: Some("25001"),
            ..Found::advice(
                message,
                "validate behind the block, in a transaction of its own",
                format!(
                    "ALTER TABLE {} VALIDATE CONSTRAINT {quoted};  -- behind the block, in a transaction of its own",
                    table.sql
                ),
            )
        });
    }
    if subject.place != Place::Alone && table.known.is_some_and(|r| r.held) {
        let message = format!(
            "this transaction holds a lock on {} that stops its writes, and VALIDATE CONSTRAINT would scan the table under it",
            table.described()
        );
        return Some(Found {
            sqlstate: Some("25001"),
            ..Found::advice(
                message,
                "commit first, then validate in a transaction of its own",
                format!(
                    "COMMIT;\nALTER TABLE {} VALIDATE CONSTRAINT {quoted};\n{}",
                    table.sql,
                    concurrent_in_transaction::outside(subject.facts)
                ),
            )
        });
    }
    let all = subject.statement.all_actions();
    if !all.any_but(AlterTableType::AtValidateConstraint) {
        return None;
    }
    let message = format!(
        "VALIDATE CONSTRAINT beside other actions scans {} under their lock, which blocks reads and writes",
        table.described()
    );
    Some(Found::steps(
        message,
        "validate in a statement of its own",
        Ok(vec![step()]),
        "",
    ))
}

/// There is no NOT VALID on the way to ENFORCED.
fn enforced(subject: &Subject, command: &AlterTableCmd) -> Option<Found> {
    let NodeEnum::AtalterConstraint(alter) = command.def.as_ref()?.node.as_ref()? else {
        return None;
    };
    if !alter.alter_enforceability || !alter.is_enforced {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    let constraint = table.known.and_then(|r| r.constraint(&alter.conname));
    // What is enforced already is left as it is.
    if table.known.is_some() && constraint.is_none_or(|c| c.validated || !c.definition.ends_with("NOT ENFORCED")) {
        return None;
    }
    let message = format!(
        "ENFORCED checks every row of {} at once, which blocks reads and writes",
        table.described()
    );
    Some(Found::advice(
        message,
        "drop the constraint and add it NOT VALID, then VALIDATE it",
        again(&table, &alter.conname, constraint.map(|c| c.definition.as_str())),
    ))
}

fn again(table: &Table, name: &str, definition: Option<&str>) -> String {
    let (t, c) = (&table.sql, quote_ident(name));
    let definition = definition.map_or("…", |d| d.trim_end_matches(" NOT ENFORCED"));
    format!(
        "ALTER TABLE {t} DROP CONSTRAINT {c}, ADD CONSTRAINT {c} {definition} NOT VALID;\n\
         ALTER TABLE {t} VALIDATE CONSTRAINT {c};  -- in a transaction of its own"
    )
}
