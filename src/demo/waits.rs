//! Watches, straight at the server, how long sessions of the application wait for locks: pg_locks.waitstart, every 5 ms.

use super::load::connect;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(5);

/// What the application waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The table as a whole: behind a schema change.
    Relation,
    /// One row, until the transaction that changed it ends.
    Row,
}

/// One wait of one session, as long as it has been seen.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub target: Target,
    pub began: Instant,
    pub length: Duration,
}

pub struct Watch {
    waits: Arc<Mutex<HashMap<(i32, i64), Wait>>>,
    failure: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub fn start(dsn: &str) -> Watch {
        let waits = Arc::new(Mutex::new(HashMap::new()));
        let failure = Arc::new(Mutex::new(None));
        let (dsn, seen, said) = (format!("{dsn} application_name=watch"), waits.clone(), failure.clone());
        let task = tokio::spawn(async move {
            if let Err(e) = watch(&dsn, &seen).await {
                *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(told(&e));
            }
        });
        Watch { waits, failure, task }
    }

    /// The waits that were going on at some time between `from` and `until`. An error when the watching itself failed:
    /// then "no waits" would mean nothing.
    pub fn waits(&self, from: Instant, until: Instant) -> Result<Vec<Wait>, String> {
        if let Some(failure) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return Err(format!("pg_locks cannot be watched: {failure}"));
        }
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(waits
            .values()
            .filter(|wait| wait.began <= until && wait.began + wait.length >= from)
            .copied()
            .collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(dsn: &str, waits: &Mutex<HashMap<(i32, i64), Wait>>) -> Result<(), tokio_postgres::Error> {
    let client = connect(dsn).await?;
    // waitstart is NULL for a moment after a wait has begun (PostgreSQL's manual, "pg_locks").
    let look = client
        .prepare(
            "SELECT l.pid, (extract(epoch FROM l.waitstart) * 1000000)::int8, l.locktype = 'relation',
                    extract(epoch FROM clock_timestamp() - l.waitstart)::float8
             FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.application_name LIKE 'app-%'
               AND a.datname = current_database()",
        )
        .await?;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let rows = client.query(&look, &[]).await?;
        let now = Instant::now();
        let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let (pid, began_us, relation, seconds): (i32, i64, bool, f64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            let target = if relation { Target::Relation } else { Target::Row };
            let fresh = Wait {
                target,
                began: now.checked_sub(length).unwrap_or(now),
                length,
            };
            let wait = waits.entry((pid, began_us)).or_insert(fresh);
            wait.length = wait.length.max(length);
        }
    }
}

/// The server's message, which tokio-postgres's Display leaves out.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
