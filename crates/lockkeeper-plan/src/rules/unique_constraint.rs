//! ADD CONSTRAINT … UNIQUE or PRIMARY KEY that builds its index.

use super::rule::{Found, Rule};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::remedies::unique::sequence;
use crate::remedies::{add_column, not_null, partitions, steps};
use crate::step::Step;
use crate::subject::{Action, Subject, Table};
use crate::tree;
use pg_query::protobuf::{AlterTableType, ConstrType, Constraint};

pub(super) const RULE: Rule = Rule {
    name: "unique-constraint",
    lock: LockMode::AccessExclusive,
    what: "ADD UNIQUE or ADD PRIMARY KEY without USING INDEX, or inline in ADD COLUMN, on a table that is not small.",
    why: "The index is built under ACCESS EXCLUSIVE: all reads and writes wait for the build.",
    versions: "13–18",
    safe: "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX, which is instant; for a primary key the columns are made NOT NULL first.",
    bad: &[
        "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email)",
        "ALTER TABLE users ADD UNIQUE (email, org_id)",
        "ALTER TABLE users ADD COLUMN code text UNIQUE",
    ],
    good: &[
        "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX users_u",
        "ALTER TABLE small ADD UNIQUE (a)",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    let steps =
        if add_column::has(subject, ConstrType::ConstrUnique) || add_column::has(subject, ConstrType::ConstrPrimary) {
            add_column::sequence(subject, &table, &asked)
        } else {
            let (action, constraint) = subject.added_constraint()?;
            let builds = matches!(
                constraint.contype(),
                ConstrType::ConstrUnique | ConstrType::ConstrPrimary
            );
            // ONLY on a partitioned table makes the parent's entry alone, as pg_dump writes it: no partition is looked at.
            let entry_only = table.kind() == 'p' && subject.only();
            // A second primary key is refused at once.
            let second = constraint.contype() == ConstrType::ConstrPrimary
                && table.known.is_some_and(|r| r.constraints.iter().any(|c| c.kind == 'p'))
                && !subject.statement.all_actions().any(AlterTableType::AtDropConstraint);
            if !builds || entry_only || second || subject.name_is_taken(&table, constraint) {
                return None;
            }
            if !constraint.indexname.is_empty() {
                return not_null_first(subject, &table, &asked, &action, constraint);
            }
            let keys = tree::names(&constraint.keys);
            if table
                .known
                .is_some_and(|r| r.kind == 'p' && !partitions::key_fits(subject, r, &keys))
            {
                return None;
            }
            sequence(subject, &table, &asked, &action, constraint)
        };
    let message = format!(
        "the constraint's index is built under ACCESS EXCLUSIVE on {}, which blocks reads and writes",
        table.described()
    );
    let (short, otherwise) = match table.kind() {
        'p' => ("add it to its partitions one by one", partitions::UNIQUE_BY_HAND),
        _ => (
            "build the index concurrently, then ADD CONSTRAINT … USING INDEX",
            "CREATE UNIQUE INDEX CONCURRENTLY name ON table (…); then ALTER TABLE … ADD CONSTRAINT name UNIQUE USING INDEX name;",
        ),
    };
    Some(Found::steps(message, short, steps, otherwise))
}

/// PRIMARY KEY USING INDEX makes its columns NOT NULL by a scan under ACCESS EXCLUSIVE, where they are not.
fn not_null_first(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Option<Found> {
    if constraint.contype() != ConstrType::ConstrPrimary {
        return None;
    }
    let index = table.known?.index(&constraint.indexname)?;
    let nullable: Vec<&String> = index
        .columns
        .iter()
        .flatten()
        .filter(|key| !not_null::is_not_null(table, key))
        .collect();
    if nullable.is_empty() {
        return None;
    }
    let mut all: Vec<Step> = nullable
        .iter()
        .flat_map(|key| not_null::sequence(subject, table, asked, action.head, key, None))
        .collect();
    let sql = format!("{} {}", action.head, action.text);
    all.push(steps::brief(
        "add constraint using the index",
        sql,
        LockMode::AccessExclusive,
        table,
    ));
    let message = format!(
        "PRIMARY KEY USING INDEX scans {} for null values under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    Some(Found::steps(message, "make its columns NOT NULL first", Ok(all), ""))
}
