//! DROP INDEX without CONCURRENTLY.

use super::rule::{Found, Rule};
use super::taken;
use crate::catalog::Name;
use crate::depends::{Part, What};
use crate::lock::LockMode;
use crate::remedies::steps;
use crate::step::Step;
use crate::subject::{Subject, Table, sql_name};
use crate::{splice, tree};
use pg_query::NodeEnum;
use pg_query::protobuf::{DropBehavior, DropStmt, ObjectType};

pub(super) const RULE: Rule = Rule {
    name: "nonconcurrent-drop-index",
    lock: LockMode::AccessExclusive,
    what: "DROP INDEX without CONCURRENTLY, on a table that is not small; DROP OPERATOR CLASS, FUNCTION … CASCADE that takes an index with it.",
    why: "ACCESS EXCLUSIVE is taken on the index's table: it waits for every running query there, and all queries that come later wait behind it.",
    versions: "13–18",
    safe: "DROP INDEX CONCURRENTLY, one statement an index.",
    bad: &[
        "DROP INDEX users_name_idx",
        "DROP INDEX IF EXISTS users_name_idx, users_low_idx",
    ],
    good: &[
        "DROP INDEX CONCURRENTLY users_name_idx",
        "DROP INDEX users_pkey",
        "DROP INDEX users_name_idx CASCADE",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    named(subject).or_else(|| with_it(subject))
}

/// Indexes that go with something else, while their tables stay.
fn with_it(subject: &Subject) -> Option<Found> {
    match &subject.statement.node {
        // Those of a dropped column are told with it.
        NodeEnum::AlterTableStmt(_) => return None,
        // Those of the partitions, for which there is no other way.
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex => return None,
        _ => {}
    }
    let all = subject.going(&[What::Index]);
    let going: Vec<&Part> = all.into_iter().filter(|part| !taken::is_small(subject, part)).collect();
    let statement = subject.shown();
    if going.is_empty() {
        return None;
    }
    let message = format!(
        "{statement} drops {} under ACCESS EXCLUSIVE, and queries that use an index read the whole table from then on",
        taken::listed(&going, |part| taken::told(part))
    );
    let mut hint: Vec<String> = going
        .iter()
        .filter_map(|part| Some(splice::qualified(&part.schema, part.part.as_deref()?)))
        .map(|index| format!("DROP INDEX CONCURRENTLY {index};  -- once another index serves its queries"))
        .collect();
    hint.push(format!("{};", subject.whole_text()));
    Some(Found::advice(
        message,
        "drop the indexes first, each with DROP INDEX CONCURRENTLY",
        hint.join("\n"),
    ))
}

fn named(subject: &Subject) -> Option<Found> {
    let NodeEnum::DropStmt(drop) = &subject.statement.node else {
        return None;
    };
    if drop.remove_type() != ObjectType::ObjectIndex || drop.concurrent || drop.behavior() == DropBehavior::DropCascade
    {
        return None;
    }
    let names = dropped(drop);
    // With several, those that are left when the run is cut short tell that the others were dropped by it.
    let mark = steps::mark("to be dropped", &subject.statement.sql);
    let begun = names
        .iter()
        .filter_map(|name| subject.facts.relation(name))
        .any(|i| i.comment.as_ref() == Some(&mark));
    let mut notes: Vec<String> = Vec::new();
    let mut steps = Ok(Vec::new());
    let mut tables = Vec::new();
    let mut large = false;
    for name in &names {
        let index = match subject.table(name) {
            Some(index) => index,
            // IF EXISTS: the server skips it, with a notice, whichever way it is dropped.
            None if (drop.missing_ok || begun) && !subject.facts.offline && subject.facts.relation(name).is_none() => {
                continue;
            }
            None => return None,
        };
        if index.kind() == 'I' || backs_constraint(subject, name) {
            return None;
        }
        large |= !index.small;
        notes.push(format!(
            "COMMENT ON INDEX {} IS {}",
            index.sql,
            splice::quote_literal(&mark)
        ));
        tables.push(
            index
                .known
                .and_then(|i| i.table.as_ref())
                .map_or(index.sql.clone(), sql_name),
        );
        let step = one(subject, drop, name, &index, names.len() == 1);
        steps = steps.and_then(|mut steps: Vec<Step>| step.map(|s| steps.push(s)).map(|()| steps));
    }
    if tables.is_empty() || !large {
        return None;
    }
    if notes.len() > 1 {
        let table = names.iter().find_map(|name| subject.table(name))?;
        let first = notes.remove(0);
        let note = steps::brief_then(
            "note what is to be dropped",
            first,
            notes,
            LockMode::ShareUpdateExclusive,
            &table,
        );
        steps.iter_mut().for_each(|steps| steps.insert(0, note.clone()));
    }
    tables.dedup();
    let message = format!(
        "DROP INDEX takes ACCESS EXCLUSIVE on {}, which blocks reads and writes",
        tables.join(", ")
    );
    let otherwise = "DROP INDEX CONCURRENTLY name; one statement for each index, outside a transaction block.";
    Some(Found::steps(
        message,
        "use DROP INDEX CONCURRENTLY, outside a transaction block",
        steps,
        otherwise,
    ))
}

/// Of one that says CONCURRENTLY itself, which takes a single name: in a transaction it is as brief without.
pub(super) fn steps(subject: &Subject, drop: &DropStmt) -> Option<Vec<Step>> {
    let names = dropped(drop);
    let [name] = names.as_slice() else { return None };
    let index = subject.table(name)?;
    index.known.filter(|i| i.kind == 'i')?;
    let sql = without_concurrently(drop)?;
    let definition = index_definition(subject, name);
    Some(vec![Step {
        rollback: definition.and_then(|sql| splice::concurrently(&sql)),
        ..steps::brief("drop index", sql, LockMode::AccessExclusive, &index)
    }])
}

/// Of one that says CONCURRENTLY, which takes a single name, the plain form.
pub(crate) fn without_concurrently(drop: &DropStmt) -> Option<String> {
    let names = dropped(drop);
    let [name] = names.as_slice() else { return None };
    let if_exists = if drop.missing_ok { "IF EXISTS " } else { "" };
    drop.concurrent
        .then(|| format!("DROP INDEX {if_exists}{}", sql_name(name)))
}

fn one(subject: &Subject, drop: &DropStmt, name: &Name, index: &Table, alone: bool) -> Result<Step, String> {
    let sql = if alone {
        splice::concurrently(&subject.statement.sql)
            .ok_or("CONCURRENTLY could not be added to this text with certainty")?
    } else {
        let if_exists = if drop.missing_ok { "IF EXISTS " } else { "" };
        format!("DROP INDEX CONCURRENTLY {if_exists}{}", sql_name(name))
    };
    let definition = index_definition(subject, name);
    Ok(Step {
        rollback: definition.and_then(|sql| splice::concurrently(&sql)),
        ..steps::concurrent("drop index concurrently", sql, index)
    })
}

pub(crate) fn dropped(drop: &DropStmt) -> Vec<Name> {
    let name = |node: &pg_query::protobuf::Node| {
        let Some(NodeEnum::List(list)) = &node.node else {
            return None;
        };
        let mut parts = tree::names(&list.items);
        let name = parts.pop()?;
        Some(Name {
            schema: parts.pop(),
            name,
        })
    };
    drop.objects.iter().filter_map(name).collect()
}

fn backs_constraint(subject: &Subject, name: &Name) -> bool {
    found(subject, name).is_some_and(|index| index.constraint.is_some())
}

fn index_definition(subject: &Subject, name: &Name) -> Option<String> {
    found(subject, name)
        .map(|index| index.definition.clone())
        .filter(|d| !d.is_empty())
}

fn found<'a>(subject: &'a Subject, name: &Name) -> Option<&'a crate::catalog::Index> {
    let oid = subject.facts.relation(name)?.oid;
    subject
        .facts
        .relations
        .iter()
        .flat_map(|r| &r.indexes)
        .find(|index| index.oid == oid)
}
