//! What changes of columns have left to be done by hand: columns that are kept in step until nothing uses them any more.
//!
//! The catalog has it, by the marks that a plan leaves on its trigger and column. Pure: the question, and its answer read.

use crate::remedies::replace_column::REPLACED;
use crate::splice::quote_literal;
use serde::Deserialize;

const AWAITS: &str = "expanded, awaits the contract of ";

/// One column that is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    pub schema: String,
    pub relation: String,
    pub owner: String,
    pub column: String,
    /// The OID of the trigger that keeps it in step.
    pub trigger: i64,
    /// What it is called now, if it was renamed.
    pub renamed_to: Option<String>,
}

#[derive(Deserialize)]
struct Row {
    schema: String,
    relation: String,
    owner: String,
    mark: String,
    #[serde(default)]
    trigger: i64,
    replaced: Option<String>,
}

/// One row with one value: rows of JSON.
pub fn question() -> String {
    format!(
        "SELECT coalesce(pg_catalog.jsonb_agg(x ORDER BY x.schema, x.relation, x.mark), '[]') FROM (SELECT n.nspname AS schema, c.relname AS relation, \
         pg_catalog.pg_get_userbyid(c.relowner) AS owner, d.description AS mark, g.oid::pg_catalog.int8 AS trigger, (SELECT a.attname FROM pg_catalog.pg_description p \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = p.objoid AND a.attnum = p.objsubid AND NOT a.attisdropped \
         WHERE p.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.objoid = c.oid AND p.objsubid > 0 AND p.description LIKE {replaced} \
         AND pg_catalog.right(p.description, 18) = pg_catalog.right(d.description, 18)) AS replaced \
         FROM pg_catalog.pg_description d JOIN pg_catalog.pg_trigger g ON g.oid = d.objoid AND NOT g.tgisinternal \
         JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE d.classoid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND d.description LIKE {awaits} \
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE')) x",
        replaced = quote_literal(&format!("lockkeeper: {REPLACED} (%")),
        awaits = quote_literal(&format!("lockkeeper: {AWAITS}%")),
    )
}

/// What the answer tells. A mark that is not read is left out.
pub fn contracts(answer: &str) -> Vec<Contract> {
    let rows: Vec<Row> = serde_json::from_str(answer).unwrap_or_default();
    rows.into_iter().filter_map(contract).collect()
}

fn contract(row: Row) -> Option<Contract> {
    let (_, names) = row.mark.split_once(AWAITS)?;
    let (names, _) = names.rsplit_once(" (")?;
    // As Rust writes a text, which for most names is as JSON does.
    let name = |text: &str| serde_json::from_str::<String>(text).ok();
    let (column, renamed_to) = match names.split_once("\" and \"") {
        Some((old, new)) => (name(&format!("{old}\""))?, Some(name(&format!("\"{new}"))?)),
        None => (row.replaced?, None),
    };
    Some(Contract {
        schema: row.schema,
        relation: row.relation,
        owner: row.owner,
        column,
        trigger: row.trigger,
        renamed_to,
    })
}

impl Contract {
    /// What is to be done, for people.
    pub fn statement(&self) -> String {
        let Contract { relation, column, .. } = self;
        let why = match &self.renamed_to {
            Some(to) => format!("it is called {to} now"),
            None => "it has the former values of a column whose type was changed".to_owned(),
        };
        format!(
            "contract: drop the column {column} of {relation} ({why}); the audit log has the script, and the statement sent again tells it"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read() {
        let answer = r#"[{"schema": "s", "relation": "t", "owner": "o", "replaced": null, "mark": "lockkeeper: expanded, awaits the contract of \"a\" and \"b\" (0123456789abcdef)"},
            {"schema": "s", "relation": "t", "owner": "o", "replaced": "c_old", "mark": "lockkeeper: expanded, awaits the contract of \"c\" (0123456789abcdef)"},
            {"schema": "s", "relation": "t", "owner": "o", "replaced": null, "mark": "lockkeeper: expanded, awaits the contract of \"d\" (0123456789abcdef)"}]"#;
        let read: Vec<_> = contracts(answer)
            .into_iter()
            .map(|c| (c.column, c.renamed_to))
            .collect();
        assert_eq!(
            read,
            [("a".to_owned(), Some("b".to_owned())), ("c_old".to_owned(), None)]
        );
    }
}
