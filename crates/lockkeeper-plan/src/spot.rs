//! A short question before the long one ([`Request::sql`]): about ordinary tables that stand for themselves, outside of a transaction block,
//! it tells the same, for a small part of the cost.
//!
//! Every name and operator in it is written with its schema, so that it is asked with the client's search_path and nothing has to be put
//! back behind it. What it does not know it leaves to the long question.

use super::catalog::Name;
use super::facts::Facts;
use super::path::CATALOG;
use super::request::Request;
use super::splice::quote_literal;
use std::collections::HashMap;

/// One row with one column, NULL where the long question is needed.
pub const SQL: &str = include_str!("spot.sql");

/// Sets what [`SQL`] reads, and how it is planned, for the transaction. Safe with any path. None: it would not tell enough.
pub fn ahead(request: &Request) -> Option<String> {
    let asks_more = Request {
        relations: Vec::new(),
        jobs: false,
        heirs: false,
        ..request.clone()
    };
    // A name of the server's own temporary schema is another one in each session.
    let is_known = |name: &Name| name.schema.as_deref() != Some("pg_temp");
    let names = &request.relations;
    if asks_more != Request::default() || request.jobs || names.is_empty() || !names.iter().all(is_known) {
        return None;
    }
    let item = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let array = |items: Vec<String>| quote_literal(&format!("{{{}}}", items.join(",")));
    let schema = |name: &Name| item(name.schema.as_deref().unwrap_or_default());
    // The one is for to_regclass(), which reads it as SQL.
    let last = |name: &Name| match name.schema {
        Some(_) => item(&name.name),
        None => item(&format!("\"{}\"", name.name.replace('"', "\"\""))),
    };
    let values = [
        ("lockkeeper.relation_schemas", array(names.iter().map(schema).collect())),
        ("lockkeeper.relation_names", array(names.iter().map(last).collect())),
        (
            "lockkeeper.statement_timeout",
            "pg_catalog.current_setting('statement_timeout')".to_owned(),
        ),
    ];
    let needed = |(name, _): &&(&str, &str)| *name != "work_mem";
    let others = CATALOG
        .iter()
        .filter(needed)
        .map(|(name, value)| (*name, (*value).to_owned()));
    let set = |(name, value): (&str, String)| format!("pg_catalog.set_config('{name}', {value}, true)");
    let all: Vec<String> = values.into_iter().chain(others).map(set).collect();
    Some(format!("SELECT {}", all.join(", ")))
}

/// The answer to what was asked for `request`.
pub fn decode(answer: &str, request: &Request) -> Result<Facts, String> {
    let mut facts = Facts::decode(answer)?;
    let at: HashMap<String, &Name> = (1..).map(|at: usize| at.to_string()).zip(&request.relations).collect();
    for relation in &mut facts.relations {
        let asked = at.get(&relation.asked.name);
        relation.asked = (*asked.ok_or("the answer names a relation that was not asked about")?).clone();
    }
    for setting in [&mut facts.override_, &mut facts.dry_run] {
        *setting = setting.take().filter(|value| !value.is_empty());
    }
    Ok(facts)
}
