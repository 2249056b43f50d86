//! Who used which table and column, for the review page.

use super::api::decoded;
use super::site::{Answer, Site, error, in_json};
use crate::live::Question;
use crate::usage::record::{Row, merged_rows};
use crate::usage::seconds;
use hyper::StatusCode;
use serde_json::{Value, json};

/// Rows of one answer.
const ROWS_MAX: usize = 2_000;

/// Each table and its users; or with `table=users` or `table=public.users` its columns, theirs, and those that nobody has used.
pub async fn usage(site: &Site, query: &str) -> Answer {
    let Some(live) = &site.live else {
        return error(StatusCode::NOT_FOUND, "no proxy runs here");
    };
    let mut table = None;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "table" => table = Some(decoded(value)).filter(|value| !value.is_empty()),
            name => return error(StatusCode::BAD_REQUEST, &format!("there is no filter `{name}`")),
        }
    }
    let relation = table.as_deref().map(|table| table.rsplit('.').next().unwrap_or(table));
    let relations: Vec<String> = relation.into_iter().map(str::to_owned).collect();
    let together = live.ask(|answer| Question::Usage(relations, answer)).await;
    let together = together.ok().flatten();
    let now = seconds();
    let (mut rows, mut watched_s) = live
        .usage
        .ask(|record| (record.of_tables(table.as_deref()), record.watched_s(now)));
    let mut unused = Value::Null;
    if let Some(together) = &together {
        rows = merged_rows(rows, together.record.of_tables(table.as_deref()));
        watched_s = watched_s.max(together.record.watched_s(now));
        let is_used = |name: &str| rows.iter().any(|row| row.column == name);
        let is_asked = |schema: &str| {
            table
                .as_deref()
                .is_none_or(|table| !table.contains('.') || table.starts_with(&format!("{schema}.")))
        };
        if table.is_some() {
            let columns = together
                .columns
                .iter()
                .filter(|column| is_asked(&column.schema) && !is_used(&column.name));
            unused = columns
                .map(|column| json!(format!("{}.{}.{}", column.schema, column.relation, column.name)))
                .collect();
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.used.last));
    let more = rows.len() > ROWS_MAX;
    rows.truncate(ROWS_MAX);
    let answer = json!({
        "now": now,
        "watched_s": watched_s,
        "together": together.is_some(),
        "rows": rows.iter().map(told).collect::<Vec<Value>>(),
        "more": more,
        "unused": unused,
    });
    in_json(StatusCode::OK, &answer)
}

fn told(row: &Row) -> Value {
    let relation = match &row.schema {
        Some(schema) => format!("{schema}.{}", row.relation),
        None => row.relation.clone(),
    };
    json!({
        "database": row.used.who.database,
        "relation": relation,
        "column": row.column,
        "application": row.used.who.application,
        "role": row.used.who.role,
        "count": row.used.count,
        "last": row.used.last,
        "written": row.used.written,
        "statement": &*row.used.statement,
    })
}
