//! ADD CONSTRAINT … FOREIGN KEY that checks existing rows.

use super::rule::{Found, Rule};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::remedies::check::validates;
use crate::remedies::foreign_key::{name, sequence};
use crate::remedies::{add_column, partitions};
use crate::step::Place;
use crate::subject::{Subject, Table, name_of, sql_name};
use pg_query::protobuf::ConstrType;

pub(super) const RULE: Rule = Rule {
    name: "validating-foreign-key",
    lock: LockMode::ShareRowExclusive,
    what: "ADD CONSTRAINT … FOREIGN KEY, or ADD COLUMN … DEFAULT … REFERENCES, on a table that is not small.",
    why: "SHARE ROW EXCLUSIVE on both tables blocks their writes until every existing row is checked.",
    versions: "13–17: NOT VALID is refused on partitioned tables, so their partitions are given it one by one",
    safe: "ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own.",
    bad: &[
        "ALTER TABLE users ADD CONSTRAINT users_org_fkey FOREIGN KEY (org_id) REFERENCES orgs (id)",
        "ALTER TABLE users ADD FOREIGN KEY (org_id) REFERENCES orgs",
        "ALTER TABLE users ADD COLUMN o int DEFAULT 1 REFERENCES orgs",
    ],
    good: &[
        "ALTER TABLE users ADD FOREIGN KEY (org_id) REFERENCES orgs NOT VALID",
        "ALTER TABLE users ADD COLUMN o int REFERENCES orgs",
        "ALTER TABLE small ADD FOREIGN KEY (a) REFERENCES orgs",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let asked = subject.altered()?;
    let table = subject.large(&asked).or_else(|| filled_here(subject, &asked))?;
    let mut referenced = None;
    let steps =
        if add_column::has(subject, ConstrType::ConstrForeign) && add_column::has(subject, ConstrType::ConstrDefault) {
            add_column::sequence(subject, &table, &asked)
        } else {
            let (action, constraint) = subject.added_constraint()?;
            if constraint.contype() != ConstrType::ConstrForeign
                || !validates(constraint)
                || subject.name_is_taken(&table, constraint)
            {
                return None;
            }
            referenced = constraint.pktable.as_ref().map(|r| sql_name(&name_of(r)));
            match table.known.filter(|r| r.kind == 'p' && subject.version() < 18) {
                Some(_) if subject.only() => Err("ONLY on a partitioned table is left to you".to_string()),
                Some(parent) => {
                    let name = name(&table, &asked, constraint);
                    partitions::foreign_key(subject, parent, &action, constraint, &name)
                }
                None => sequence(&table, &asked, &action, constraint),
            }
        };
    let message = format!(
        "ADD FOREIGN KEY checks every row of {} and blocks writes to it and to {} meanwhile",
        table.described(),
        referenced.as_deref().unwrap_or("the referenced table")
    );
    let (short, otherwise) = match table.kind() == 'p' && subject.version() < 18 {
        true => ("add it to its partitions one by one", partitions::FOREIGN_KEY_BY_HAND),
        false => (
            "add it NOT VALID, then VALIDATE CONSTRAINT",
            "ALTER TABLE … ADD CONSTRAINT name FOREIGN KEY … NOT VALID; then, in its own transaction, ALTER TABLE … VALIDATE CONSTRAINT name;",
        ),
    };
    Some(Found::steps(message, short, steps, otherwise))
}

/// Nobody waits for a table that its own transaction has made and filled; but for the one that is referenced, everybody does.
fn filled_here<'a>(subject: &Subject<'a>, asked: &Name) -> Option<Table<'a>> {
    let known = subject.facts.relation(asked)?;
    let (_, constraint) = subject.added_constraint()?;
    let referenced = subject.facts.relation(&name_of(constraint.pktable.as_ref()?))?;
    let counts = subject.place == Place::Block
        && known.created_here
        && known.kind == 'r'
        && known.persistence != 't'
        && !known.is_small(subject.policy.small_bytes)
        && !referenced.invisible_to_others();
    counts.then(|| Table {
        known: Some(known),
        sql: sql_name(asked),
        small: false,
    })
}
