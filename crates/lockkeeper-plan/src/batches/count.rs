//! How many rows an UPDATE or DELETE means, counted: where what the planner expects would decide a refusal.

use super::text::{Tree, parts};
use crate::catalog::{Name, Relation};
use crate::facts::Facts;
use crate::mentions::Mentions;
use crate::statement::{Kind, Statement};

/// One row: how many rows the statement would touch, or `rows_max` + 1 if there are more. Takes the statement's own parameters.
/// Changes and locks nothing. None: it cannot be told without running it, or calls what may do more than answer.
pub fn sql(statement: &Statement, relation: &Relation, facts: &Facts, rows_max: u64) -> Option<String> {
    // What a rule makes of it are other rows.
    if !matches!(statement.kind, Kind::Write) || relation.ruled {
        return None;
    }
    let tree = Tree::of(&statement.node)?;
    let mentions = Mentions::of(&statement.node);
    if mentions.unreadable
        || mentions.writes
        || mentions.current_of
        || !condition_functions(&tree)
            .iter()
            .all(|name| asks_nothing_else(facts, name))
    {
        return None;
    }
    // What a view calls would be called once more than the statement does, and may answer otherwise then.
    let views = facts.relations.iter().filter_map(|relation| relation.view.as_ref());
    if views.into_iter().any(|view| view.unsteady.is_some()) {
        return None;
    }
    let parts = parts(statement)?;
    let row = match (tree.joins, relation.kind) {
        // A row that is joined to several is touched once.
        (true, 'r' | 'p') => format!(
            "DISTINCT {0}.tableoid, {0}.ctid",
            crate::splice::quote_ident(&parts.qualifier)
        ),
        (false, 'r' | 'p' | 'v') => "1".to_string(),
        _ => return None,
    };
    let with = parts.ctes.map(|ctes| format!("WITH {ctes}\n")).unwrap_or_default();
    let from = parts.from.map(|from| format!(", {from}\n")).unwrap_or_default();
    let condition = parts
        .condition
        .map(|condition| format!(" WHERE {condition}\n"))
        .unwrap_or_default();
    Some(format!(
        "{with}SELECT pg_catalog.count(*) FROM (SELECT {row} FROM {}{from}{condition} LIMIT {}) lockkeeper_counted",
        parts.relation,
        rows_max.saturating_add(1)
    ))
}

/// The function does no more than answer.
pub fn asks_nothing_else(facts: &Facts, name: &Name) -> bool {
    let mut known = facts.functions.iter();
    known.any(|f| f.asked == *name && !f.volatile && (f.built_in || f.immutable))
}

/// What decides which rows are meant calls these.
fn condition_functions(tree: &Tree) -> Vec<Name> {
    let condition = tree.condition.map(Mentions::within).unwrap_or_default();
    let sources = tree
        .sources()
        .flat_map(|(_, source)| Mentions::within(source).functions);
    condition.functions.into_iter().chain(sources).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, statement, table};
    use super::*;

    #[test]
    fn what_is_counted() {
        let table = table(&["id"]);
        let check = |text: &str, expect: Option<&str>| {
            let made = sql(&statement(text), &table, &facts(&table), 9);
            assert_eq!(made.as_deref(), expect, "{text}");
        };
        check(
            "UPDATE t SET flag = n IS DISTINCT FROM 5 WHERE n = $1 RETURNING id",
            Some("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM t WHERE n = $1\n LIMIT 10) lockkeeper_counted"),
        );
        check(
            "WITH x AS (SELECT 1) DELETE FROM t a USING t b, u WHERE a.id < b.id",
            Some(
                "WITH x AS (SELECT 1)\nSELECT pg_catalog.count(*) FROM (SELECT DISTINCT a.tableoid, a.ctid FROM t a, t b, u\n WHERE a.id < b.id\n LIMIT 10) lockkeeper_counted",
            ),
        );
        check(
            "UPDATE t SET flag = true, n = extract(day FROM created) FROM u WHERE u.id = t.id",
            Some(
                "SELECT pg_catalog.count(*) FROM (SELECT DISTINCT t.tableoid, t.ctid FROM t, u\n WHERE u.id = t.id\n LIMIT 10) lockkeeper_counted",
            ),
        );
        check("DELETE FROM t WHERE random() < 0.5", None);
        check("DELETE FROM t WHERE f(n)", None);
        check("DELETE FROM t WHERE CURRENT OF c", None);
    }
}
