//! What a statement costs the others, as the server tells it: the locks that each transaction held at its end, and which tables it
//! scanned, rewrote or built an index on, from pg_locks, pg_stat_xact_user_tables and the DEBUG1 lines of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use tokio_postgres::Client;

/// A statement that the server was sent, and the DEBUG1 lines that came of it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub vxid: String,
    pub sql: String,
    /// Tables that were scanned, rewritten or index-built; [`FOREIGN_KEY`] for both tables of one.
    pub touched: Vec<(String, String)>,
    pub failed: bool,
}

pub const FOREIGN_KEY: &str = "(foreign key)";

/// One transaction.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// `AccessExclusiveLock r users`, by the name without its schema.
    pub locks: BTreeSet<String>,
    /// The table, and what was done to it.
    pub touched: Vec<(String, String)>,
}

impl Cost {
    /// What was done to a table with rows while reads or writes of it were blocked.
    pub fn danger(&self, with_rows: &BTreeSet<String>) -> Option<String> {
        let blocking = |table: &str| {
            self.locks.iter().find(|lock| {
                let mut words = lock.splitn(3, ' ');
                let (mode, kind, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                // Nobody writes to a materialized view but REFRESH.
                let blocks = match mode {
                    "AccessExclusiveLock" => true,
                    "ExclusiveLock" | "ShareRowExclusiveLock" | "ShareLock" => kind != "m",
                    _ => false,
                };
                blocks && with_rows.contains(name) && (table == FOREIGN_KEY || table == name)
            })
        };
        // Between an empty table and another there is nothing to compare.
        let empty = |lock: &String| {
            let name = lock.splitn(3, ' ').nth(2).unwrap_or_default();
            lock.starts_with("ShareRowExclusiveLock") && !with_rows.contains(name)
        };
        let nothing_to_compare = self.locks.iter().any(empty);
        self.touched
            .iter()
            .filter(|(table, _)| table != FOREIGN_KEY || !nothing_to_compare)
            .find_map(|(table, what)| blocking(table).map(|lock| format!("{what} under {lock}")))
    }
}

/// The end of the log, to read on from later.
pub fn log_length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |m| m.len())
}

/// What sessions called `test` sent to that database since then. The server writes a line before it answers, so all is there.
pub fn sent(log: &Path, from: u64, database: &str) -> Vec<Sent> {
    let mut file = std::fs::File::open(log).expect("the server's log");
    file.seek(SeekFrom::Start(from)).expect("the log has not shrunk");
    let mut text = Vec::new();
    file.read_to_end(&mut text).expect("the log is read");
    let text = String::from_utf8_lossy(&text);
    let mut all: Vec<Sent> = Vec::new();
    let own = format!("{database}/test/");
    let mut ours = false;
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(last) = all.last_mut().filter(|_| ours) {
                last.sql.push('\n');
                last.sql.push_str(more);
            }
            continue;
        }
        let Some((_, rest)) = line.split_once("] ").filter(|(_, rest)| rest.starts_with(&own)) else {
            ours = false;
            continue;
        };
        let Some((head, message)) = rest.split_once(":  ") else {
            continue;
        };
        let Some((vxid, severity)) = head[own.len()..].split_once(' ') else {
            continue;
        };
        let sql = message
            .strip_prefix("statement: ")
            .or_else(|| message.strip_prefix("execute ")?.split_once(": ").map(|p| p.1));
        ours = severity == "LOG" && sql.is_some();
        if let Some(sql) = sql.filter(|_| severity == "LOG") {
            all.push(Sent {
                vxid: vxid.to_owned(),
                sql: sql.to_owned(),
                touched: Vec::new(),
                failed: false,
            });
        } else if severity == "ERROR" {
            all.last_mut().into_iter().for_each(|last| last.failed = true);
        } else if let (Some(event), Some(last)) = (event(message).filter(|_| severity == "DEBUG"), all.last_mut()) {
            last.touched.push(event);
            // The log's own order is the order of events, and a statement of several transactions has its last one's number here.
            last.vxid = vxid.to_owned();
        }
    }
    all
}

/// `rewriting table "users"`, `building index "i" on table "users" serially`.
fn event(message: &str) -> Option<(String, String)> {
    let quoted = |text: &str, end: &str| text.split_once(end).map(|(name, _)| name.to_owned());
    let table = if let Some(rest) = message
        .strip_prefix("rewriting table \"")
        .or(message.strip_prefix("verifying table \""))
    {
        rest.strip_suffix('"').map(str::to_owned)?
    } else if message.starts_with("validating foreign key constraint ") {
        FOREIGN_KEY.to_owned()
    } else {
        let (_, rest) = message
            .strip_prefix("building index \"")?
            .split_once("\" on table \"")?;
        quoted(rest, "\" serially").or_else(|| quoted(rest, "\" with request"))?
    };
    (!table.starts_with("pg_toast")).then(|| (table, message.to_owned()))
}

/// How often each table was scanned; PostgreSQL counts on through the transactions of a session.
pub type Scans = BTreeMap<String, u64>;

pub async fn scans(client: &Client) -> Result<Scans, tokio_postgres::Error> {
    let text: String = client.query_one("SELECT scans FROM watch.scans", &[]).await?.get(0);
    Ok(serde_json::from_str(&text).expect("names and counts"))
}

fn scanned(before: &Scans, after: &Scans) -> impl Iterator<Item = (String, String)> {
    let more = |(table, n): (&String, &u64)| {
        (before.get(table).unwrap_or(&0) < n).then(|| (table.clone(), format!("sequential scan of {table}")))
    };
    after.iter().filter_map(more).collect::<Vec<_>>().into_iter()
}

/// The file of each table and materialized view, by `oid name`.
pub type Files = BTreeMap<String, u32>;

pub async fn files(client: &Client) -> Result<Files, tokio_postgres::Error> {
    let sql = "SELECT oid::text || ' ' || relname, pg_relation_filenode(oid) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'm') AND relnamespace <> 'watch'::regnamespace";
    Ok(client
        .query(sql, &[])
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect())
}

/// What this transaction has done since these looks, read in itself.
pub async fn in_transaction(
    client: &Client,
    before: &Scans,
    files_before: &Files,
) -> Result<Cost, tokio_postgres::Error> {
    let mut cost = Cost::default();
    for (table, file) in files(client).await? {
        if files_before.get(&table).is_some_and(|before| *before != file) {
            let name = table.split_once(' ').map_or(table.as_str(), |(_, name)| name);
            cost.touched.push((name.to_owned(), format!("a new file for {name}")));
        }
    }
    for row in client.query("SELECT lock FROM watch.locks", &[]).await? {
        cost.locks.insert(row.get(0));
    }
    cost.touched.extend(scanned(before, &scans(client).await?));
    Ok(cost)
}

/// What the event triggers saw, transaction by transaction, and the log's events with it. The inner error: something was done that
/// nobody watched.
pub async fn by_transaction(watch: &Client, sent: &[Sent], known: &str) -> Result<BTreeMap<String, Cost>, String> {
    let rows = watch
        .query("SELECT vxid, locks, scans FROM watch.ddl ORDER BY n", &[])
        .await
        .map_err(|e| e.to_string())?;
    let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
    let mut begun: BTreeMap<String, Scans> = BTreeMap::new();
    for row in rows {
        let (vxid, locks, scans): (String, Vec<String>, String) = (row.get(0), row.get(1), row.get(2));
        let scans: Scans = serde_json::from_str(&scans).expect("names and counts");
        let cost = costs.entry(vxid.clone()).or_default();
        cost.locks.extend(locks);
        let before = begun.entry(vxid).or_insert_with(|| scans.clone());
        cost.touched.extend(scanned(before, &scans));
    }
    for statement in sent.iter().filter(|s| !s.touched.is_empty()) {
        match costs.get_mut(&statement.vxid) {
            Some(cost) => cost.touched.extend(statement.touched.clone()),
            // The transactions within a concurrent command; PostgreSQL gives these SHARE UPDATE EXCLUSIVE.
            None if statement.sql.to_ascii_uppercase().contains("CONCURRENTLY") => {}
            // No event trigger knows it; what it costs was measured straight.
            None if statement.sql == known => {}
            // What was rolled back has left no trace of its locks.
            None if statement.failed => {}
            // On empty copies of the tables, and undone within itself.
            None if statement.sql.starts_with("DO $lockkeeper_trial$") => {}
            None => {
                return Err(format!(
                    "nobody watched what this did ({:?}): {}",
                    statement.touched, statement.sql
                ));
            }
        }
    }
    Ok(costs)
}
