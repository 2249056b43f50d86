//! What a plan fills in itself, where PostgreSQL would have written the table anew and fired no trigger: the owner's triggers must not
//! fire either, nor may code of the owner's run as somebody else that PostgreSQL would have run as the owner, or not at all.

use crate::catalog::{Relation, Trigger};
use crate::facts::Facts;
use crate::sketch;
use crate::splice::{one_statement, quote_ident};
use serde_json::Value;

/// The setting under which only what is ENABLE ALWAYS or ENABLE REPLICA fires. A superuser's.
pub const SETTING: (&str, &str) = ("session_replication_role", "replica");

/// Whether triggers must be kept from firing. Err: nobody could, with this role.
pub fn needed(relation: &Relation, facts: &Facts) -> Result<bool, String> {
    let ours = |t: &Trigger| t.comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: "));
    // UPDATE OF … names columns that were there before.
    let concerned = |t: &&Trigger| t.on_update && !t.of_columns && !ours(t);
    let tables = || std::iter::once(relation).chain(facts.descendants(relation));
    let foreign = |table: &&Relation| table.owner != facts.role && runs_code(table);
    if let Some(table) = tables().find(foreign) {
        return Err(format!(
            "filling in existing rows is an UPDATE, by which expressions of {}.{} would call functions as {}; PostgreSQL itself calls them as the owner, or not at all. SET ROLE {} first",
            table.schema,
            table.name,
            facts.role,
            quote_ident(&table.owner)
        ));
    }
    let all = || tables().flat_map(|table| table.triggers.iter().filter(concerned).map(move |t| (table, t)));
    let Some(fires) = all().find(|(_, trigger)| !trigger.disabled) else {
        return Ok(false);
    };
    let (table, trigger) = match all().find(|(_, trigger)| trigger.on_replica) {
        Some(always) => always,
        None if facts.superuser => return Ok(true),
        None => fires,
    };
    Err(format!(
        "filling in existing rows is an UPDATE, for which the trigger {} of {}.{} would fire; PostgreSQL itself fires none",
        trigger.name, table.schema, table.name
    ))
}

/// An UPDATE evaluates an expression of the table's that calls what is not the server's own. What cannot be read may do so.
fn runs_code(table: &Relation) -> bool {
    let indexes = table
        .indexes
        .iter()
        .filter(|index| index.partial || index.columns.contains(&None));
    let checks = table
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == 'c' && !constraint.definition.ends_with("NOT ENFORCED"));
    let generated = table.columns.iter().filter(|column| !column.generated.is_empty());
    let texts = indexes
        .map(|index| index.definition.clone())
        .chain(checks.map(|check| format!("ALTER TABLE t ADD {}", check.definition)))
        .chain(generated.map(|column| format!("SELECT {}", column.default.as_deref().unwrap_or_default())))
        .chain(
            table
                .partition_key
                .iter()
                .map(|key| format!("CREATE TABLE t () PARTITION BY {key}")),
        );
    texts.into_iter().any(|text| calls_others(&text))
}

/// Our questions are answered with pg_catalog alone in the search_path: what is of another schema is written with it.
fn calls_others(text: &str) -> bool {
    let tree = one_statement(text).and_then(|node| sketch::of(&node));
    tree.is_none_or(|tree| names_others(&tree))
}

/// A function, an operator or a type of another schema than pg_catalog.
fn names_others(tree: &Value) -> bool {
    let word = |name: &Value| name["node"]["String"]["sval"].as_str().map(str::to_owned);
    match tree {
        Value::Array(items) => items.iter().any(names_others),
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let words: Vec<String> = match (key.as_str(), value) {
                ("funcname" | "name" | "names", Value::Array(items)) => items.iter().filter_map(word).collect(),
                _ => Vec::new(),
            };
            words.len() > 1 && words[0] != "pg_catalog" || names_others(value)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_server_s_own_is_found() {
        for (text, others) in [
            ("CREATE INDEX i ON s.t USING btree (lower(a), ((a)::text))", false),
            ("CREATE INDEX i ON s.t USING btree (s.lower(a))", true),
            ("CREATE INDEX i ON s.t USING btree (a) WHERE (a OPERATOR(s.=) 1)", true),
            ("ALTER TABLE t ADD CHECK ((a > 0) AND (b)::text = 'x'::text)", false),
            ("ALTER TABLE t ADD CHECK (((a)::s.d IS NOT NULL)) NOT VALID", true),
            (
                "CREATE TABLE t () PARTITION BY RANGE (date_trunc('day'::text, a))",
                false,
            ),
            ("CREATE TABLE t () PARTITION BY RANGE (s.f(a))", true),
            ("SELECT ", false),
            ("ALTER TABLE t ADD ", true),
        ] {
            assert_eq!(calls_others(text), others, "{text}");
        }
    }
}
