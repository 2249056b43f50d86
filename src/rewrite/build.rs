//! From a table's name to a scheme: it is looked at, the new table is built, and compared with the old one.

use super::link::{Fault, Link};
use super::partition;
use crate::plan::rewrite::alter::{Alter, alters};
use crate::plan::rewrite::back::Parts;
use crate::plan::rewrite::facts::Table;
use crate::plan::rewrite::partition::{Part, Partitioning};
use crate::plan::rewrite::persistence::{drop_stand_ins, flush, is_unlogged, of_alters, stand_ins};
use crate::plan::rewrite::scheme::{Description, Missing, Scheme, WayBack, copied, differences};
use crate::plan::rewrite::{Schemas, questions};
use crate::plan::splice::quote_literal;
use serde_json::{Map, Value};

/// What was asked for, and what it is about.
pub struct Asked {
    pub table: Table,
    pub alters: Vec<Alter>,
    /// With which the client's statements are read.
    pub search_path: String,
    pub keep_old: bool,
    /// The index whose order the rows are to be written in.
    pub order: Option<String>,
    pub partitioning: Option<Partitioning>,
}

impl Asked {
    /// ROLLBACK of a new table that may be unlogged.
    pub async fn undo(&self, link: &Link) {
        match self.table.unlogged || !of_alters(&self.alters).is_empty() {
            true => undo_unlogged(link).await,
            false => link.rollback().await,
        }
    }
}

pub async fn facts(link: &Link, table: u32) -> Result<Table, Fault> {
    let facts = link.json(&questions::facts(table)).await?;
    facts.ok_or_else(|| "the table is not there".to_owned().into())
}

/// Looks at the table, as its owner. Err: there is none, or it is refused, with each reason.
pub async fn look(link: &Link, table: u32, with: &str) -> Result<(Table, Vec<Alter>), Fault> {
    let table = facts(link, table).await?;
    let alters = alters(with, &table.schema, &table.name);
    if let Ok(alters) = &alters {
        may_change_persistence(link, &table, alters).await?;
    }
    can_follow(link, &table, Schemas::of_job(0)).await?;
    Ok((table, alters?))
}

/// Err: what the server says of it, tried on empty tables that are linked as this one is.
async fn may_change_persistence(link: &Link, table: &Table, alters: &[Alter]) -> Result<(), Fault> {
    let change = of_alters(alters);
    if change.is_empty() {
        return Ok(());
    }
    link.run("BEGIN; SET LOCAL client_min_messages = error; SET LOCAL lock_timeout = '10s'")
        .await?;
    let made = async {
        let made: Vec<String> = link.json(&stand_ins(table.oid)).await?.unwrap_or_default();
        if !made.is_empty() {
            link.run_all(&made).await?;
            link.run("SAVEPOINT lockkeeper_change").await?;
        }
        Ok::<bool, Fault>(!made.is_empty())
    };
    let made = made.await;
    if !matches!(made, Ok(true)) {
        undo_unlogged(link).await;
        return made.map(|_| ());
    }
    let change: Vec<String> = change.iter().map(|alter| alter.on_stand_in(&table.name)).collect();
    // The server refuses it before it makes a file.
    let changed = link.run_all(&change).await;
    if changed.is_err() {
        link.run("ROLLBACK TO SAVEPOINT lockkeeper_change").await?;
    }
    link.run(&drop_stand_ins()).await?;
    changed
}

/// ROLLBACK of what may have made a file of an unlogged table.
pub async fn undo_unlogged(link: &Link) {
    link.rollback().await;
    // Where the connection has gone, there is nothing that can be done.
    if link.run(&flush()).await.is_err() {
        link.rollback().await;
    }
}

pub async fn can_follow(link: &Link, table: &Table, schemas: Schemas) -> Result<(), Fault> {
    let why: Vec<String> = link
        .json(&questions::refusals(table.oid, schemas))
        .await?
        .unwrap_or_default();
    if why.is_empty() {
        return Ok(());
    }
    let lines: String = why.iter().map(|why| format!("\n  {why}")).collect();
    Err(format!("{}.{} is not rewritten:{lines}", table.schema, table.name).into())
}

/// For [`build`]: what is found of the table, and what is asked whether it may be taken over, is of one moment. What somebody changes
/// afterwards is noticed by the fingerprint, before any of it is run.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = off";

/// Within a transaction: schemas, the new table with all of its own, the log. Nothing is locked that others need.
pub async fn build(link: &Link, asked: &Asked, job: i64) -> Result<Scheme, Fault> {
    let Asked { table, alters, .. } = asked;
    let schemas = Schemas::of_job(job);
    // Under this lock its definition stays.
    let name = crate::plan::splice::qualified(&table.schema, &table.name);
    link.run(&format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE"))
        .await?;
    link.run(&format!(
        "CREATE SCHEMA {}; CREATE SCHEMA {}",
        schemas.fresh(),
        schemas.old()
    ))
    .await?;
    let fingerprint = link
        .one(&questions::fingerprint(table.oid, schemas))
        .await?
        .unwrap_or_default();
    can_follow(link, table, schemas).await?;
    let before = describe(link, table.oid, schemas).await?;
    // What becomes partitioned is made like a plain table, which stands aside for the moment.
    let at = match asked.partitioning {
        Some(_) => schemas.turned(),
        None => schemas,
    };
    make_like(link, table.oid, at).await?;
    let new = oid(link, &at.of(&table.name)).await?;
    let made = describe(link, new, at).await?;
    let differs = differences(&before.own, &made.own);
    if !differs.is_empty() {
        return Err(format!(
            "the new table would not be like the old one:\n  {}",
            differs.join("\n  ")
        )
        .into());
    }
    let missing = run_alters(link, asked, new, at).await?;
    let changed = facts(link, new).await?;
    let columns = copied(table, &changed, alters, &missing)?;
    let computed: Vec<&str> = alters
        .iter()
        .flat_map(|alter| &alter.types)
        .filter(|change| change.using.is_some())
        .map(|change| change.column.as_str())
        .collect();
    let only = asked.order.as_deref();
    let (key, key_index) = table.key_with(&changed, &computed, only).ok_or_else(|| match only {
        Some(index) => format!(
            "rows can be written in the order of a primary key, or of a unique index whose columns are NOT NULL and of types of PostgreSQL's own, \
             and {index} is none"
        ),
        None => "no primary key, and no unique index whose columns are NOT NULL, of types of PostgreSQL's own, and keep their values".to_owned(),
    })?;
    let (new, partitions) = match &asked.partitioning {
        Some(by) => divide(link, table, new, schemas, by).await?,
        None => (new, Vec::new()),
    };
    let described = Description {
        own: describe(link, new, schemas).await?.own,
        hangs: before.hangs,
    };
    let stored = describe(link, table.oid, schemas).await?.own;
    let is_unlogged = is_unlogged(&before.own) || is_unlogged(&described.own);
    let way_back = match (asked.keep_old, partitions.is_empty()) {
        (false, _) => WayBack::NotAsked,
        (true, false) => WayBack::Closed("the new table is partitioned".into()),
        (true, true) if is_unlogged => {
            WayBack::Closed("rows of an unlogged table do not outlast a crash of the server".into())
        }
        (true, true) => {
            let parts = Parts {
                schemas,
                old: table,
                new: &changed,
                alters,
                key: &key,
                key_index: &key_index,
                options: options(&before.own),
                own: before.own,
                hangs: described.hangs.clone(),
            };
            way_back_from(link, parts).await?
        }
    };
    let scheme = Scheme {
        job,
        table: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        columns,
        key,
        key_index,
        indexes: link.json(&questions::indexes(new, schemas)).await?.unwrap_or_default(),
        attached: attached(link, table.oid, schemas).await?,
        options: match partitions.is_empty() {
            true => options(&described.own),
            false => options(&stored),
        },
        partitions,
        described,
        fingerprint,
        keep_old: asked.keep_old,
        way_back,
        is_back: false,
        is_ordered: only.is_some(),
        is_unlogged,
    };
    if !scheme.partitions.is_empty() {
        partition::reads_only(&scheme.attached.swap, table)?;
    }
    place(link, asked, &scheme).await?;
    Ok(scheme)
}

/// The partitioned table in the place of the plain one: its OID, and its partitions.
async fn divide(
    link: &Link,
    table: &Table,
    plain: u32,
    schemas: Schemas,
    by: &Partitioning,
) -> Result<(u32, Vec<Part>), Fault> {
    if is_unlogged(&describe(link, plain, schemas).await?.own) {
        let name = &table.name;
        return Err(
            format!("partitions of an unlogged table are not made: --with 'ALTER TABLE {name} SET LOGGED'").into(),
        );
    }
    let parts = partition::parts(link, table, by).await?;
    partition::build(link, plain, table, schemas, by, &parts).await?;
    let new = oid(link, &schemas.of(&table.name)).await?;
    let (was, is) = (
        describe(link, plain, schemas).await?.own,
        describe(link, new, schemas).await?.own,
    );
    let differs = differences(&partition::comparable(&was), &partition::comparable(&is));
    if !differs.is_empty() {
        return Err(format!(
            "the partitioned table would not be like the old one:\n  {}",
            differs.join("\n  ")
        )
        .into());
    }
    link.run(&partition::drop_plain(schemas, table)).await?;
    Ok((new, parts))
}

/// While the new table is built: what a way back from it needs, or why there is none.
async fn way_back_from(link: &Link, parts: Parts<'_>) -> Result<WayBack, Fault> {
    let (scheme, retyped) = match parts.scheme() {
        Ok(made) => made,
        Err(why) => return Ok(WayBack::Closed(why)),
    };
    for column in retyped {
        link.run("SAVEPOINT lockkeeper_cast").await?;
        match link
            .one(&format!("SELECT (NULL::{})::{}", column.from, column.to))
            .await
        {
            Ok(_) => link.run("RELEASE SAVEPOINT lockkeeper_cast").await?,
            Err(fault) if fault.is_the_servers() => {
                link.run("ROLLBACK TO SAVEPOINT lockkeeper_cast").await?;
                return Ok(WayBack::Closed(format!(
                    "values of {} have no way back from {} to {}: {}",
                    column.name, column.from, column.to, fault.text
                )));
            }
            Err(fault) => return Err(fault),
        };
    }
    Ok(WayBack::Open(Box::new(scheme)))
}

pub async fn attached(
    link: &Link,
    table: u32,
    schemas: Schemas,
) -> Result<crate::plan::rewrite::scheme::Attached, Fault> {
    let attached = link.json(&questions::attached(table, schemas)).await?;
    attached.ok_or_else(|| "the table is not there".to_owned().into())
}

pub async fn describe(link: &Link, table: u32, schemas: Schemas) -> Result<Description, Fault> {
    let described = link.json(&questions::describe(table, schemas)).await?;
    described.ok_or_else(|| "the table cannot be described".to_owned().into())
}

pub async fn oid(link: &Link, name: &str) -> Result<u32, Fault> {
    let oid = link
        .one(&format!("SELECT to_regclass({})::oid", quote_literal(name)))
        .await?;
    oid.and_then(|oid| oid.parse().ok())
        .ok_or_else(|| format!("the table {name} is not there").into())
}

async fn make_like(link: &Link, table: u32, schemas: Schemas) -> Result<(), Fault> {
    let like: Vec<String> = link.json(&questions::like(table, schemas)).await?.unwrap_or_default();
    link.run_all(&like).await?;
    let indexes: Vec<crate::plan::rewrite::scheme::Index> = link
        .json(&questions::indexes(table, schemas))
        .await?
        .unwrap_or_default();
    for index in &indexes {
        link.run_all(&index.sql).await?;
    }
    let statistics: Vec<String> = link
        .json(&questions::statistics(table, schemas))
        .await?
        .unwrap_or_default();
    if !statistics.is_empty() {
        link.run_all(&statistics).await?;
    }
    link.run("SET LOCAL default_tablespace = ''").await?;
    Ok(())
}

/// The client's statements on the empty table: what the server keeps for rows of new columns.
async fn run_alters(link: &Link, asked: &Asked, new: u32, schemas: Schemas) -> Result<Missing, Fault> {
    let mut missing = Missing::new();
    let name = schemas.of(&asked.table.name);
    for alter in &asked.alters {
        let sql = alter.on(&name);
        with_path(link, &asked.search_path, &[sql]).await?;
        for column in facts(link, new).await?.columns {
            let is_new = asked.table.origin(column.num).is_none();
            if let Some(value) = column.missing.filter(|_| is_new) {
                missing.entry(column.num).or_insert(value.into_iter().next().flatten());
            }
        }
    }
    Ok(missing)
}

/// What the client has written is read as the client's session would read it.
async fn with_path(link: &Link, path: &str, statements: &[String]) -> Result<(), Fault> {
    let set = format!(
        "SELECT pg_catalog.set_config('search_path', {}, true)",
        quote_literal(path)
    );
    link.run(&set).await?;
    link.run_all(statements).await?;
    link.run("SET LOCAL search_path = pg_catalog, pg_temp").await?;
    Ok(())
}

/// Of the table, in their order.
fn options(own: &Map<String, Value>) -> Vec<String> {
    let options = own.get("table ").and_then(|table| table.get("options"));
    let options = options.and_then(Value::as_array).into_iter().flatten();
    options.filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn place(link: &Link, asked: &Asked, scheme: &Scheme) -> Result<(), Fault> {
    link.run_all(&scheme.places()).await?;
    if scheme.is_unlogged {
        link.run_all(&scheme.place_marker()).await?;
    }
    if !scheme.places_back().is_empty() {
        link.run_all(&scheme.places_back()).await?;
    }
    with_path(link, &asked.search_path, &[scheme.view()]).await?;
    if let Some(functions) = link.one(&questions::volatile(scheme.schemas())).await? {
        return Err(format!(
            "USING calls what has another value each time: {functions}; a row that changes meanwhile would be made with another one. Write the \
             values by an UPDATE, before or after"
        )
        .into());
    }
    // That the values go into the new columns, the server says now, and not hours later.
    link.rows(&format!("EXPLAIN {}", scheme.copy(None, None))).await?;
    link.run(&scheme.revoke()).await?;
    let kept = serde_json::to_string(scheme).map_err(|error| error.to_string())?;
    link.run(&format!(
        "INSERT INTO {} (phase, scheme) VALUES ('built', {})",
        scheme.schemas().of("state"),
        quote_literal(&kept)
    ))
    .await?;
    Ok(())
}
