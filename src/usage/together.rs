//! What all proxies in front of a server know together: `lockkeeper.usage`, by a connection of our own.
//!
//! Each adds what it has seen, and asks for what all have seen only when somebody wants to know. `lockkeeper init --control-role` makes the
//! tables; without them a proxy knows what it has seen itself. Every statement that writes or reads them stands behind a look at
//! whose they are, in one transaction.

use super::record::{Record, Stored, TOLD_EVERY_S, Used, Who};
use crate::plan::usage as sql;
use tokio_postgres::{Client, Error, Row};

/// Uses that are added at once.
const ADDED_MAX: usize = 2_000;

/// A use may be told so much later.
pub const LATE_S: u32 = TOLD_EVERY_S + 15;

/// Modes of LOCK TABLE.
pub const READS: &str = "ACCESS SHARE";
pub const WRITES: &str = "ROW EXCLUSIVE";

/// What all proxies have seen.
#[derive(Debug, Default)]
pub struct Together {
    pub record: Record,
    /// Server processes of the other proxies' sessions.
    pub pids: Vec<i32>,
    /// Of the relations that were asked for, as far as they are in the database of this connection.
    pub columns: Vec<Column>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub schema: String,
    pub relation: String,
    pub name: String,
}

/// Whether more than was added is due.
pub struct More(pub bool);

/// Why it is not known.
#[derive(Debug)]
pub enum Unknown {
    /// `lockkeeper init --control-role` has not been run.
    NotThere,
    Failed(String),
}

impl Together {
    /// Who used one of these relations, or a column of them, as all proxies have told.
    pub fn uses(&self, database: &str, relations: &[(String, String)], column: Option<&str>) -> Vec<Used> {
        let mut uses = self.record.uses(database, relations, column);
        uses.iter_mut().for_each(|used| used.late_s = LATE_S);
        uses
    }

    /// Statements that could not be read.
    pub fn unread_in(&self, database: &str) -> Vec<Used> {
        let mut unread = self.record.unread_in(database);
        unread.iter_mut().for_each(|used| used.late_s = LATE_S);
        unread
    }
}

impl From<Error> for Unknown {
    fn from(error: Error) -> Unknown {
        Unknown::Failed(match error.as_db_error() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        })
    }
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> Result<T, Unknown> {
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// In a transaction of its own, in which these tables are locked and may be used.
pub async fn within<T>(
    client: &Client,
    (tables, mode): (&[&str], &str),
    done: impl Future<Output = Result<T, Unknown>>,
) -> Result<T, Unknown> {
    let begin = match mode {
        READS => "BEGIN READ ONLY",
        _ => "BEGIN",
    };
    client.batch_execute(begin).await?;
    let done = async {
        trusted(client, tables, mode).await?;
        done.await
    };
    match done.await {
        Ok(done) => client
            .batch_execute("COMMIT")
            .await
            .map(|()| done)
            .map_err(Unknown::from),
        Err(unknown) => {
            // The connection may be gone.
            drop(client.batch_execute("ROLLBACK").await);
            Err(unknown)
        }
    }
}

async fn trusted(client: &Client, tables: &[&str], mode: &str) -> Result<(), Unknown> {
    if !one::<bool>(client, &sql::are_there(tables)).await? {
        return Err(Unknown::NotThere);
    }
    client.batch_execute(&sql::lock(tables, mode)).await?;
    match one::<Option<String>>(client, &sql::distrust(tables)).await? {
        Some(why) => {
            let table = tables.first().copied().unwrap_or_default();
            Err(Unknown::Failed(format!(
                "lockkeeper.{table} cannot be trusted: lockkeeper.{why}"
            )))
        }
        None => Ok(()),
    }
}

/// Adds what is taken, and says that this proxy watches, since when. Unless it is done, what was taken is to be added again.
pub async fn add(
    client: &Client,
    (proxy, since, pids): (&str, u32, &[i32]),
    take: impl FnOnce(usize) -> Vec<Stored>,
) -> Result<More, Unknown> {
    let added = async {
        let due = take(ADDED_MAX);
        if !due.is_empty() {
            written(client, &due).await?;
        }
        client.execute(sql::WATCH, &[&proxy, &f64::from(since), &pids]).await?;
        Ok(More(due.len() >= ADDED_MAX))
    };
    within(client, (&sql::TABLES, WRITES), added).await
}

async fn written(client: &Client, due: &[Stored]) -> Result<(), Unknown> {
    // A database of another encoding may lack characters of another database's texts.
    let is_wide: bool = one(client, "SELECT pg_catalog.current_setting('server_encoding') = 'UTF8'").await?;
    let text = |text: &str| match is_wide {
        true => text.to_owned(),
        false => text.replace(|c: char| !c.is_ascii(), "?"),
    };
    let texts = |of: &dyn Fn(&Stored) -> &str| due.iter().map(|one| text(of(one))).collect::<Vec<String>>();
    let times = |of: &dyn Fn(&Stored) -> Option<u32>| due.iter().map(|one| of(one).map(f64::from)).collect::<Vec<_>>();
    let counts: Vec<i64> = due
        .iter()
        .map(|one| i64::try_from(one.count).unwrap_or(i64::MAX))
        .collect();
    client
        .execute(
            sql::ADD,
            &[
                &texts(&|one| &one.who.database),
                &texts(&|one| &one.schema),
                &texts(&|one| &one.relation),
                &texts(&|one| &one.column),
                &texts(&|one| &one.who.application),
                &texts(&|one| &one.who.role),
                &times(&|one| Some(one.first)),
                &times(&|one| Some(one.last)),
                &times(&|one| one.written),
                &counts,
                &texts(&|one| &one.statement),
            ],
        )
        .await?;
    Ok(())
}

/// Forgets what is older than anybody asks for.
pub async fn forget(client: &Client) -> Result<(), Unknown> {
    let forgotten = async { Ok(client.batch_execute(&sql::FORGET.join("; ")).await?) };
    within(client, (&sql::TABLES, WRITES), forgotten).await
}

/// What all have seen of these relations; of all where there is none.
pub async fn read(client: &Client, relations: &[String]) -> Result<Together, Unknown> {
    let read = async {
        let uses = client.query(sql::USES, &[&relations]).await?;
        let watches = client.query(sql::WATCHES, &[]).await?;
        let pids = client.query(sql::OTHERS, &[]).await?;
        let columns = client.query(sql::COLUMNS, &[&relations]).await?;
        let stored: Result<Vec<Stored>, Error> = uses.iter().map(stored).collect();
        let watches: Result<Vec<(u32, u32)>, Error> =
            watches.iter().map(|row| Ok((time(row, 0)?, time(row, 1)?))).collect();
        let pids: Result<Vec<i32>, Error> = pids.iter().map(|row| row.try_get(0)).collect();
        Ok(Together {
            record: Record::of_stored(stored?, &watches?),
            pids: pids?,
            columns: columns.iter().map(column).collect::<Result<_, Error>>()?,
        })
    };
    within(client, (&sql::TABLES, READS), read).await
}

fn time(row: &Row, at: usize) -> Result<u32, Error> {
    let seconds: i64 = row.try_get(at)?;
    Ok(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX))
}

fn column(row: &Row) -> Result<Column, Error> {
    Ok(Column {
        schema: row.try_get(0)?,
        relation: row.try_get(1)?,
        name: row.try_get(2)?,
    })
}

fn stored(row: &Row) -> Result<Stored, Error> {
    let count: i64 = row.try_get(9)?;
    let written: Option<i64> = row.try_get(8)?;
    Ok(Stored {
        schema: row.try_get(1)?,
        relation: row.try_get(2)?,
        column: row.try_get(3)?,
        who: Who {
            database: row.try_get(0)?,
            application: row.try_get(4)?,
            role: row.try_get(5)?,
        },
        first: time(row, 6)?,
        last: time(row, 7)?,
        written: written.and_then(|at| u32::try_from(at).ok()),
        count: count.max(0) as u64,
        statement: row.try_get::<_, String>(10)?.into(),
    })
}
