//! What was put aside and is to be dropped one day: since when nobody has used it, in words.

use super::record::{Record, Row, Used};
use super::together::LATE_S;
use super::{seconds, words};
use crate::plan::contracts::{Contract, contracts, question};
use crate::plan::rewrite::Schemas;
use crate::plan::splice::qualified;
use serde_json::{Value, json};
use tokio_postgres::{Client, SimpleQueryMessage};

/// What the words are about.
pub enum Aside<'a> {
    /// A table that nothing but its whole name leads to.
    Table { schema: &'a str, name: &'a str },
    Column {
        schema: &'a str,
        table: &'a str,
        column: &'a str,
    },
}

impl Aside<'_> {
    /// The newest first.
    pub fn uses(&self, record: &Record, database: &str) -> Vec<Used> {
        match self {
            Aside::Column { schema, table, column } => {
                record.uses(database, &[((*schema).to_owned(), (*table).to_owned())], Some(column))
            }
            Aside::Table { schema, name } => {
                let its = |row: &Row| {
                    row.schema.as_deref() == Some(schema) && row.relation == *name && row.used.who.database == database
                };
                // By its name it is told as a whole, and without one by its columns.
                let whole = record.find(Some(&format!("{schema}.{name}")));
                let rows = whole.into_iter().chain(record.find(None));
                let mut used: Vec<Used> = rows.filter(its).map(|row| row.used).collect();
                used.sort_by_key(|used| std::cmp::Reverse(used.last));
                used
            }
        }
    }

    /// None: nobody has watched.
    pub fn told(&self, record: &Record, database: &str, now: u32) -> Option<String> {
        let watched_s = record.watched_s(now);
        match self.uses(record, database).first() {
            Some(last) => Some(format!("last used {}", words::used(last, now))),
            None if watched_s == 0 => None,
            None => Some(format!("unused since the watch began {} ago", words::time(watched_s))),
        }
    }

    /// For so many seconds it is known that nobody has used it.
    fn unused_s(&self, record: &Record, database: &str, now: u32) -> u64 {
        let used = self
            .uses(record, database)
            .into_iter()
            .chain(record.unread_in(database));
        let last = used.map(|used| used.last.saturating_add(LATE_S)).max();
        let since = last.map_or(u64::MAX, |last| u64::from(now.saturating_sub(last)));
        record.watched_s(now).min(since)
    }
}

/// What is to be dropped in the database of a connection, by hand or by `lockkeeper jobs finish`.
pub struct Left {
    pub database: String,
    contracts: Vec<Contract>,
}

async fn value(client: &Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let first = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(first.unwrap_or_default())
}

impl Left {
    /// Of the tables of this connection's role.
    pub async fn ask(client: &Client) -> Result<Left, tokio_postgres::Error> {
        Ok(Left {
            database: value(client, "SELECT pg_catalog.current_database()").await?,
            contracts: contracts(&value(client, &question()).await?),
        })
    }

    /// Of which relations a record must know: these, and tables that jobs have put aside.
    pub fn relations(&self, jobs: &[Value]) -> Vec<String> {
        let aside = jobs.iter().filter_map(|job| job["aside"].as_str());
        let columns = self.contracts.iter().map(|contract| contract.relation.as_str());
        aside.chain(columns).map(str::to_owned).collect()
    }

    /// Tells of each job whose old table is kept since when nobody has used that, and lists the columns behind the jobs.
    pub fn add_to(&self, jobs: &mut Vec<Value>, record: Option<&Record>) {
        let told = |aside: Aside<'_>| record.and_then(|record| aside.told(record, &self.database, seconds()));
        for job in jobs.iter_mut() {
            let id = job["id"].as_i64().unwrap_or_default();
            if let Some(name) = job["aside"].as_str() {
                let schema = Schemas::of_job(id).old();
                job["unused"] = json!(told(Aside::Table { schema: &schema, name }));
            }
        }
        for contract in &self.contracts {
            let aside = Aside::Column {
                schema: &contract.schema,
                table: &contract.relation,
                column: &contract.column,
            };
            let unused_s = record.map(|record| aside.unused_s(record, &self.database, seconds()));
            jobs.push(json!({
                "id": null,
                "trigger": contract.trigger,
                "kind": "contract",
                "state": "due",
                "owner": contract.owner,
                "relation": qualified(&contract.schema, &contract.relation),
                "column": contract.column,
                "statement": contract.statement(),
                "unused": told(aside),
                "unused_s": unused_s,
            }));
        }
    }
}
