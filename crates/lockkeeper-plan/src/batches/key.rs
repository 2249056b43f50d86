//! The key that batches walk along: which index orders it, how its values travel as text, and whether rows that are
//! inserted later lie behind all that exist.

use crate::catalog::{Index, Relation};
use crate::splice::quote_ident;

/// A key whose index is in the order that `ORDER BY key` asks for and that `(key) > (…)` can start from.
///
/// A partitioned table without one of its own is walked along one that all its partitions have. That is the whole table in the
/// order of that key all the same, not partition after partition: so a row that another session moves to another partition
/// stays where it is in that order, and is neither left out nor changed twice.
pub fn walkable_key(relation: &Relation) -> Result<Vec<(String, String)>, String> {
    let name = format!("{}.{}", relation.schema, relation.name);
    let Some(key) = relation.usable_key() else {
        let parts = match relation.kind {
            'p' => ", nor have all its partitions one in common",
            _ => "",
        };
        return relation.walking_key().ok_or_else(|| {
            format!(
                "{name} has no primary key and no unique index of NOT NULL columns{parts}, so that its rows cannot be told apart"
            )
        });
    };
    let names: Vec<Option<&str>> = key.iter().map(|(name, _)| Some(name.as_str())).collect();
    let plain = |definition: &str| is_plain(definition, &[" DESC", "_ops", " COLLATE ", " NULLS FIRST"]);
    let fits = relation.indexes.iter().any(|index| {
        index.columns.iter().map(Option::as_deref).eq(names.iter().copied())
            && index.unique
            && index.valid
            && index.ready
            && !index.partial
            && plain(&index.definition)
    });
    match fits {
        true => Ok(key),
        false => Err(format!(
            "the key index of {name} has an order of its own (DESC, an operator class or a collation)"
        )),
    }
}

fn is_plain(definition: &str, words: &[&str]) -> bool {
    let keys = definition.split_once(" USING btree ").map_or("", |(_, keys)| keys);
    !words.iter().any(|word| keys.contains(word))
}

/// Its keys are told apart as the columns' own `=` does, as far as its definition says.
pub fn tells_apart_as_columns_do(index: &Index) -> bool {
    is_plain(&index.definition, &["_ops", " COLLATE "])
}

/// The schemas of the operators by which the columns of a key are in order: what is put into a client's statement is found with the
/// client's search_path, in which somebody else's operator may come first. Err: the column of which it is not known.
pub fn operators(relation: &Relation, key: &[(String, String)]) -> Result<Vec<String>, String> {
    let known = |column: &str| {
        relation.indexes.iter().filter(|index| index.valid).find_map(|index| {
            let at = index.columns.iter().position(|c| c.as_deref() == Some(column))?;
            index.operators.get(at).cloned()
        })
    };
    let of = |(name, type_name): &(String, String)| {
        let is_ours = !type_name.contains(['.', '"']) || relation.column(name).is_some_and(|column| column.is_enum);
        known(name)
            .or_else(|| is_ours.then(|| "pg_catalog".to_string()))
            .ok_or_else(|| format!("the operators of key column {name}, of type {type_name}, are not known"))
    };
    key.iter().map(of).collect()
}

/// `OPERATOR(pg_catalog.<=)`
pub fn operator(schema: &str, name: &str) -> String {
    format!("OPERATOR({}.{name})", quote_ident(schema))
}

/// A type as format_type prints it with our search_path, so that it is the same with every other one: the grammar's own names, such as
/// `bigint` and `timestamp with time zone`, are pg_catalog's always.
pub fn type_sql(type_name: &str) -> String {
    match type_name {
        "text" | "uuid" | "oid" | "tid" | "name" | "inet" | "cidr" | "macaddr" | "bytea" | "date" => {
            format!("pg_catalog.{type_name}")
        }
        _ => type_name.to_string(),
    }
}

/// The value as text that reads back as the same value whatever the session's settings are, but for extra_float_digits, which
/// must be 1; None if there is no such form.
pub fn exact_text(value: &str, type_name: &str, is_enum: bool) -> Option<String> {
    if is_enum {
        return Some(format!("{value}::pg_catalog.text"));
    }
    let base = match type_name.split_once('(') {
        Some((base, rest)) => format!(
            "{}{}",
            base.trim_end(),
            rest.split_once(')').map_or("", |(_, tail)| tail)
        ),
        None => type_name.to_string(),
    };
    // The extension may be in any schema.
    match base
        .rsplit_once('.')
        .map_or(base.as_str(), |(_, name)| if name == "citext" { name } else { "" })
    {
        "smallint" | "integer" | "bigint" | "numeric" | "oid" | "uuid" | "text" | "character varying" | "character"
        | "real" | "double precision" | "name" | "citext" | "boolean" | "bytea" | "inet" | "cidr" | "macaddr"
        | "bit" | "bit varying" | "tid" => Some(format!("{value}::pg_catalog.text")),
        // JSON holds dates in ISO 8601 whatever DateStyle is.
        "date" | "timestamp without time zone" | "timestamp with time zone" => {
            Some(format!("pg_catalog.to_json({value}) OPERATOR(pg_catalog.#>>) '{{}}'"))
        }
        // interval depends on IntervalStyle, money on lc_monetary; of other types (arrays, ranges, rows) nothing is known here.
        _ => None,
    }
}

/// Where new rows lie in the order of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRows {
    /// Behind all that exist: the key's first column takes its value from a sequence or from the time.
    Behind,
    /// A single whole number that the application gives: as a rule behind, but nothing makes sure of it.
    AsGiven,
    Anywhere,
}

pub fn new_rows(relation: &Relation, key: &[(String, String)]) -> NewRows {
    let Some((first, type_name)) = key.first() else {
        return NewRows::Anywhere;
    };
    let whole = matches!(type_name.as_str(), "smallint" | "integer" | "bigint");
    let column = relation.column(first);
    let default = column.and_then(|c| c.default.as_deref()).unwrap_or_default();
    let fed = match type_name.as_str() {
        "uuid" => default.starts_with("uuidv7("),
        _ => whole && (default.starts_with("nextval(") || column.is_some_and(|c| !c.identity.trim().is_empty())),
    };
    match key.len() {
        _ if fed => NewRows::Behind,
        1 if whole => NewRows::AsGiven,
        _ => NewRows::Anywhere,
    }
}
