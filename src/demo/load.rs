//! The application of the demo: sessions that read and write `users` all the time, and a report that now and then keeps a
//! transaction open that has read it (and `events`). That last one is what makes a lock queue: whatever needs ACCESS EXCLUSIVE waits for
//! it, and everybody else waits behind.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Error, NoTls};

const SESSIONS: u64 = 5;
/// Between two queries of a session, so that two processors are left with something to do.
const THINK: Duration = Duration::from_millis(4);
const REPORT: &str =
    "BEGIN; SELECT count(seen_at) FROM users WHERE id <= 1000; SELECT count(*) FROM events WHERE id <= 1000";
const REPORT_EVERY: Duration = Duration::from_secs(3);

/// One query of the application, from its sending to its result.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    pub session: u64,
    pub started: Instant,
    pub ended: Instant,
    pub failed: bool,
}

pub struct Load {
    queries: Arc<Mutex<Vec<Query>>>,
    report: Arc<Notify>,
    reports_begun: watch::Receiver<u64>,
    // Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Load {
    /// `dsn` without application_name. `report_holds` is how long a report keeps its transaction open.
    pub fn start(dsn: &str, rows: u64, report_holds: Duration) -> Load {
        let queries = Arc::new(Mutex::new(Vec::new()));
        let report = Arc::new(Notify::new());
        let (begun, reports_begun) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for session in 0..SESSIONS {
            let dsn = format!("{dsn} application_name=app-{session}");
            tasks.spawn(application(dsn, session, rows, queries.clone()));
        }
        tasks.spawn(reports(
            format!("{dsn} application_name=app-report"),
            report_holds,
            report.clone(),
            begun,
        ));
        Load {
            queries,
            report,
            reports_begun,
            tasks,
        }
    }

    /// Returns just after a report has read `users` and keeps its transaction open: the worst moment for a schema change.
    pub async fn worst_moment(&mut self) -> Result<(), String> {
        let next = *self.reports_begun.borrow() + 1;
        self.report.notify_one();
        let begun = self.reports_begun.wait_for(|count| *count >= next);
        match tokio::time::timeout(Duration::from_secs(120), begun).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err("the demo's report session cannot read users any more; is the server still there?".into()),
        }
    }

    /// The queries that ran at some time between `from` and `until`.
    pub fn queries(&self, from: Instant, until: Instant) -> Vec<Query> {
        let all = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|query| query.started <= until && query.ended >= from)
            .copied()
            .collect()
    }

    /// Waits until no query runs that began before now.
    pub async fn settle(&self) {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(30);
        loop {
            // A newer query of each session shows that its older one has ended; failed ones count too.
            let recent = self.queries(now, Instant::now());
            let is_free = |session| {
                recent
                    .iter()
                    .any(|query| query.session == session && query.started > now)
            };
            if (0..SESSIONS).all(is_free) || Instant::now() > deadline {
                return;
            }
            tokio::time::sleep(THINK).await;
        }
    }

    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

pub async fn connect(dsn: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn application(dsn: String, session: u64, rows: u64, queries: Arc<Mutex<Vec<Query>>>) {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(session + 1);
    let mut number = 0;
    loop {
        let result = converse(&dsn, session, rows, &mut random, &mut number, &queries).await;
        let started = Instant::now();
        if result.is_ok() {
            continue;
        }
        // A session that cannot be had, or whose statements cannot be prepared, is a failed query too.
        record(&queries, session, started, true);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Prepares its statements as an application does, and then queries on and on. Statements that fail are counted, not fatal.
async fn converse(
    dsn: &str,
    session: u64,
    rows: u64,
    random: &mut u64,
    number: &mut u64,
    queries: &Mutex<Vec<Query>>,
) -> Result<(), Error> {
    let client = connect(dsn).await?;
    let read = client
        .prepare("SELECT u.id, u.name, u.email, t.name FROM users u JOIN teams t ON t.id = u.team_id WHERE u.id = $1")
        .await?;
    let touch = client.prepare("UPDATE users SET seen_at = now() WHERE id = $1").await?;
    let join = client
        .prepare("INSERT INTO users (name, email, team_id) VALUES ('new', $1, $2)")
        .await?;
    let note = client.prepare("INSERT INTO events (what) VALUES ('seen')").await?;
    while !client.is_closed() {
        *number += 1;
        let id = (next(random) % rows + 1) as i64;
        let started = Instant::now();
        let result = match *number % 10 {
            0 => client.execute(&note, &[]).await,
            1 => {
                client
                    .execute(
                        &join,
                        &[&format!("new-{session}-{number}@example.com"), &(id % 100 + 1)],
                    )
                    .await
            }
            2 | 5 | 8 => client.execute(&touch, &[&id]).await,
            _ => client.query(&read, &[&id]).await.map(|rows| rows.len() as u64),
        };
        record(queries, session, started, result.is_err());
        tokio::time::sleep(THINK).await;
    }
    Ok(())
}

fn record(queries: &Mutex<Vec<Query>>, session: u64, started: Instant, failed: bool) {
    let query = Query {
        session,
        started,
        ended: Instant::now(),
        failed,
    };
    queries.lock().unwrap_or_else(PoisonError::into_inner).push(query);
}

/// xorshift64: which rows are touched must only be spread, and the same in both runs.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

async fn reports(dsn: String, holds: Duration, wanted: Arc<Notify>, begun: watch::Sender<u64>) {
    loop {
        let Ok(client) = connect(&dsn).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        while !client.is_closed() {
            let _ = tokio::time::timeout(REPORT_EVERY, wanted.notified()).await;
            if client.batch_execute(REPORT).await.is_ok() {
                begun.send_modify(|count| *count += 1);
                tokio::time::sleep(holds).await;
            }
            let _ = client.batch_execute("COMMIT").await;
        }
    }
}
