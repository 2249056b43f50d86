//! REINDEX without CONCURRENTLY.

use super::rule::{Found, Rule};
use crate::catalog::Relation;
use crate::lock::LockMode;
use crate::remedies::{names, steps};
use crate::splice;
use crate::step::Step;
use crate::subject::{Subject, name_of};
use pg_query::NodeEnum;
use pg_query::protobuf::{ReindexObjectType, ReindexStmt};

pub(super) const RULE: Rule = Rule {
    name: "nonconcurrent-reindex",
    lock: LockMode::AccessExclusive,
    what: "REINDEX of an index, table, schema or database without CONCURRENTLY.",
    why: "SHARE on the table blocks its writes, and ACCESS EXCLUSIVE on the index blocks every query that would plan with it, for the whole rebuild.",
    versions: "13–18",
    safe: "REINDEX … CONCURRENTLY, without lock_timeout. What an earlier failed one left (name_ccnew) is removed first.",
    bad: &[
        "REINDEX INDEX users_name_idx",
        "REINDEX TABLE users",
        "REINDEX (VERBOSE) TABLE users",
    ],
    good: &[
        "REINDEX TABLE CONCURRENTLY users",
        "REINDEX TABLE small",
        "REINDEX (CONCURRENTLY) INDEX users_name_idx",
    ],
    check,
};

pub(super) fn is_concurrent(reindex: &ReindexStmt) -> bool {
    crate::tree::flag(&reindex.params, "concurrently")
}

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::ReindexStmt(reindex) = &subject.statement.node else {
        return None;
    };
    if is_concurrent(reindex) || reindex.kind() == ReindexObjectType::ReindexObjectSystem {
        return None;
    }
    let concurrently = splice::concurrently(&subject.statement.sql)
        .ok_or("CONCURRENTLY could not be added to this text with certainty".to_string());
    let (message, steps) = match &reindex.relation {
        None if reindex.kind() == ReindexObjectType::ReindexObjectSchema && reindex.name == "pg_catalog" => {
            let hint =
                "PostgreSQL rebuilds no index of a system catalog concurrently: choose a quiet hour and override.";
            return Some(Found::advice(
                "REINDEX blocks writes to every system catalog in turn".to_string(),
                "indexes of system catalogs have no concurrent way",
                hint.to_string(),
            ));
        }
        None => {
            let all = crate::subject::Table {
                known: None,
                sql: format!("everything in {}", reindex.name),
                small: false,
            };
            let message = format!("REINDEX blocks writes to every table in {} in turn", reindex.name);
            (
                message,
                concurrently.map(|sql| vec![steps::concurrent("rebuild indexes concurrently", sql, &all)]),
            )
        }
        Some(range) => {
            let object = subject.table(&name_of(range))?;
            let table = match object.known.and_then(|i| i.table.as_ref()) {
                Some(name) => subject.facts.relation(name).or(object.known),
                None => object.known,
            };
            if table.is_some_and(|t| t.is_small(subject.policy.small_bytes)) {
                return None;
            }
            let message = format!(
                "REINDEX blocks writes to the table of {} and queries that use the index",
                object.described()
            );
            let schema = table.or(object.known).map(|t| t.schema.as_str());
            if matches!(schema, Some("pg_catalog" | "pg_toast")) {
                let hint =
                    "PostgreSQL rebuilds no index of a system catalog concurrently: choose a quiet hour and override.";
                return Some(Found::advice(
                    message,
                    "indexes of system catalogs have no concurrent way",
                    hint.to_string(),
                ));
            }
            let exclusion = object
                .known
                .filter(|o| o.kind == 'i' && table.is_some_and(|t| excludes(t, o)));
            if exclusion.is_some() {
                let hint = format!(
                    "PostgreSQL cannot rebuild the index of an exclusion constraint concurrently. To remove its bloat: VACUUM {}; else choose a \
                     quiet hour and override.",
                    table.map_or(object.sql.clone(), |t| crate::subject::sql_name(&t.qualified()))
                );
                return Some(Found::advice(
                    message,
                    "the index of an exclusion constraint has no concurrent way",
                    hint,
                ));
            }
            let steps = concurrently.map(|sql| {
                let mut all = leftovers(&object, reindex.kind() == ReindexObjectType::ReindexObjectIndex);
                all.push(steps::concurrent("rebuild index concurrently", sql, &object));
                all
            });
            (message, steps)
        }
    };
    let otherwise = "REINDEX … CONCURRENTLY, outside a transaction block.";
    Some(Found::steps(
        message,
        "use REINDEX CONCURRENTLY, outside a transaction block",
        steps,
        otherwise,
    ))
}

fn excludes(table: &Relation, index: &Relation) -> bool {
    table.constraints.iter().any(|c| c.kind == 'x' && c.name == index.name)
}

/// Removal of the `_ccnew` indexes of an earlier failed REINDEX CONCURRENTLY, each skipped when it is not there (any more).
fn leftovers(object: &crate::subject::Table, index: bool) -> Vec<Step> {
    let Some(relation) = object.known else {
        return Vec::new();
    };
    let left: Vec<(String, String)> = if index {
        vec![(relation.schema.clone(), names::object(&relation.name, "", "ccnew"))]
    } else {
        let ours = |i: &&crate::catalog::Index| {
            !i.valid
                && i.name
                    .trim_end_matches(|c: char| c.is_ascii_digit())
                    .ends_with("_ccnew")
        };
        relation
            .indexes
            .iter()
            .filter(ours)
            .map(|i| (i.schema.clone(), i.name.clone()))
            .collect()
    };
    let removal = |(schema, name): &(String, String)| Step {
        done_when: Some(format!(
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {} AND NOT i.indisvalid)",
            splice::quote_literal(schema),
            splice::quote_literal(name)
        )),
        ..steps::concurrent(
            "remove the leftover of an earlier REINDEX",
            format!("DROP INDEX CONCURRENTLY IF EXISTS {}", splice::qualified(schema, name)),
            object,
        )
    };
    left.iter().map(removal).collect()
}
