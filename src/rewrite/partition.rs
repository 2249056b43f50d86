//! The new table of a rewrite becomes partitioned: made like a plain one that stands aside for the moment, which then goes.

use super::link::{Fault, Link};
use crate::plan::rewrite::facts::Table;
use crate::plan::rewrite::partition::{Part, Partitioning, Range, divided};
use crate::plan::rewrite::scheme::Index;
use crate::plan::rewrite::{Schemas, questions};
use crate::plan::splice::{qualified, quote_ident};
use serde_json::{Map, Value};

/// The partitions that hold the table's rows, and some beyond.
pub async fn parts(link: &Link, table: &Table, by: &Partitioning) -> Result<Vec<Part>, Fault> {
    let ranges: Vec<Range> = match by.ranges(table)? {
        Some(sql) => link.json(&sql).await?.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(by.parts(&table.name, &ranges)?)
}

/// Like the plain table of that OID, which stands in the other schema of the job, and goes.
pub async fn build(
    link: &Link,
    plain: u32,
    table: &Table,
    schemas: Schemas,
    by: &Partitioning,
    parts: &[Part],
) -> Result<(), Fault> {
    let new = schemas.of(&table.name);
    let made = async {
        let like: Vec<String> = link.json(&questions::like(plain, schemas)).await?.unwrap_or_default();
        let (of_parent, of_each) = divided(&like, &new, &by.by);
        link.run_all(&of_parent).await?;
        let indexes: Vec<Index> = link
            .json(&questions::indexes_whole(plain, schemas))
            .await?
            .unwrap_or_default();
        for index in &indexes {
            link.run_all(&index.sql).await?;
        }
        let statistics: Vec<String> = link
            .json(&questions::statistics(plain, schemas))
            .await?
            .unwrap_or_default();
        if !statistics.is_empty() {
            link.run_all(&statistics).await?;
        }
        let space = format!(
            "SELECT set_config('default_tablespace', coalesce((SELECT s.spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = {plain}), ''), true), \
             set_config('default_table_access_method', (SELECT m.amname FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE c.oid = {plain}), true)"
        );
        link.run(&space).await?;
        for part in parts {
            let name = schemas.of(&part.name);
            link.run(&format!("CREATE TABLE {name} PARTITION OF {new} {}", part.bound))
                .await?;
            for sql in &of_each {
                link.run(&sql.replacen("{}", &name, 1)).await?;
            }
        }
        link.run("SET LOCAL default_tablespace = ''").await?;
        foreign_keys(link, table, schemas).await
    };
    made.await.map_err(|fault| match fault.is_the_servers() {
        true => {
            let (schema, name) = (&table.schema, &table.name);
            let mut text = format!("{schema}.{name} cannot be partitioned by {}: {}", by.by, fault.text);
            if fault.code.as_deref() == Some("0A000") {
                text.push_str(&format!(
                    "\nA key without the column of the partitions can be changed in the same go: --with 'ALTER TABLE {name} DROP CONSTRAINT …, ADD PRIMARY KEY (…, {})'",
                    quote_ident(&by.column)
                ));
            }
            Fault::from(text)
        }
        false => fault,
    })
}

/// Whether foreign keys can lead to it and from it, tried between empty tables, so that nobody is locked out.
async fn foreign_keys(link: &Link, table: &Table, schemas: Schemas) -> Result<(), Fault> {
    let sql = format!(
        "SELECT coalesce(jsonb_agg(jsonb_build_array(k.conname, pg_get_constraintdef(k.oid), k.conrelid::int8, k.confrelid::int8, o.nspname, c.relname) ORDER BY k.oid), '[]') \
         FROM pg_constraint k JOIN pg_class c ON c.oid = CASE k.conrelid WHEN {oid} THEN k.confrelid ELSE k.conrelid END JOIN pg_namespace o ON o.oid = c.relnamespace \
         WHERE k.contype = 'f' AND (k.conrelid = {oid} OR k.confrelid = {oid})",
        oid = table.oid
    );
    let keys: Vec<(String, String, u32, u32, String, String)> = link.json(&sql).await?.unwrap_or_default();
    let new = schemas.of(&table.name);
    let aside = schemas.of("lockkeeper_other");
    for (name, definition, from, to, schema, other) in keys {
        let definition = definition.trim_end_matches(" NOT VALID");
        let is_self = from == to;
        let (child, parent) = match (is_self, from == table.oid) {
            (true, _) => (&new, &new),
            (_, true) => (&new, &aside),
            (_, false) => (&aside, &new),
        };
        let to_name = match from == table.oid && !is_self {
            true => qualified(&schema, &other),
            false => qualified(&table.schema, &table.name),
        };
        let there = format!(" REFERENCES {to_name}(");
        let definition = definition.replacen(&there, &format!(" REFERENCES {parent}("), 1);
        if !is_self {
            let like = qualified(&schema, &other);
            link.run(&format!("CREATE TABLE {aside} (LIKE {like} INCLUDING INDEXES)"))
                .await?;
        }
        let name = quote_ident(&name);
        link.run(&format!(
            "ALTER TABLE {child} ADD CONSTRAINT {name} {definition} NOT VALID; ALTER TABLE {child} DROP CONSTRAINT {name}; DROP TABLE IF EXISTS {aside}"
        ))
        .await
        .map_err(|fault| Fault {
            text: format!("the foreign key {name}: {}", fault.text),
            ..fault
        })?;
    }
    Ok(())
}

/// What a plain table and a partitioned one are told to have alike.
pub fn comparable(own: &Map<String, Value>) -> Map<String, Value> {
    let without: fn(&str) -> &'static [&'static str] = |name| match name.split_once(' ').map(|(kind, _)| kind) {
        Some("table") => &["options", "toast", "am", "tablespace"],
        Some("index") => &["tablespace", "clustered", "targets"],
        Some("column") => &["options"],
        _ => &[],
    };
    let part = |(name, what): (&String, &Value)| {
        let mut what = what.clone();
        if let Value::Object(fields) = &mut what {
            without(name).iter().for_each(|field| drop(fields.remove(*field)));
        }
        (name.clone(), what)
    };
    own.iter().map(part).collect()
}

/// Err: views that read the table without its children would be empty.
pub fn reads_only(views: &[String], table: &Table) -> Result<(), Fault> {
    let only = format!("ONLY {}", qualified(&table.schema, &table.name));
    let of_view = |sql: &&String| sql.starts_with("CREATE OR REPLACE VIEW ") && sql.contains(&only);
    match views.iter().find(of_view) {
        Some(sql) => {
            let name = sql.split_whitespace().nth(4).unwrap_or_default();
            Err(
                format!("the view {name} reads FROM {only}, which would be empty then: write it without ONLY first")
                    .into(),
            )
        }
        None => Ok(()),
    }
}

/// Where the plain table stands no longer.
pub fn drop_plain(schemas: Schemas, table: &Table) -> String {
    format!("DROP TABLE {}", schemas.turned().of(&table.name))
}
