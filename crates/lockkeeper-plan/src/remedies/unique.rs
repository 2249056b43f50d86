//! UNIQUE and PRIMARY KEY by an index that is built first.

use crate::catalog::Name;
use crate::remedies::by_index::by_index;
use crate::remedies::{names, not_null, partitions};
use crate::step::Step;
use crate::subject::{Action, Subject, Table};
use crate::tree;
use pg_query::protobuf::{ConstrType, Constraint};

pub(crate) fn sequence(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Result<Vec<Step>, String> {
    if constraint.without_overlaps {
        return Err(
            "WITHOUT OVERLAPS is an exclusion constraint, which PostgreSQL cannot add concurrently".to_string(),
        );
    }
    let primary = constraint.contype() == ConstrType::ConstrPrimary;
    let keys = tree::names(&constraint.keys);
    let including = tree::names(&constraint.including);
    let all: Vec<String> = keys.iter().chain(&including).cloned().collect();
    let name = match constraint.conname.as_str() {
        "" => names::unique(&table.named(asked), &all, primary),
        given => given.to_string(),
    };
    if let Some(parent) = table.known.filter(|r| r.kind == 'p') {
        return partitions::unique(subject, parent, asked, action, constraint, &name);
    }
    let mut steps = Vec::new();
    if primary {
        for key in keys.iter().filter(|key| !not_null::is_not_null(table, key)) {
            steps.extend(not_null::sequence(subject, table, asked, action.head, key, None));
        }
    }
    steps.extend(by_index(table, action.head, constraint, &name)?);
    Ok(steps)
}
