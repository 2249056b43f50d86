//! An application that goes on reading and writing the migrated tables, and what it had to put up with, as the server tells it: in its
//! log who waited for which lock and how long, in samples of pg_locks how long who held a lock that stops others.

use lockkeeper_testkit::{Stage, connect_at};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// lock_timeout of one try for a lock is 50 ms in the policy. Behind one that has it, as part of the tool's own transaction, come that
/// transaction's next statements; a wait that is as long as so many tries is too long.
const LONGEST_MS: f64 = 50.0 * 50.0;

/// What two samples are apart on a machine that has nothing else to do. Where it has, everything takes longer by as much, the tool too.
const SAMPLE_MS: f64 = 15.0;

/// But no machine is so slow as to excuse more than this.
const SLOWEST: f64 = 4.0;

/// Longer than a try, so that the server's log never tells of one.
const DEADLOCK_TIMEOUT: &str = "100ms";

/// Each with the number of its turn for `$`. No value changes.
const STATEMENTS: [&str; 4] = [
    "SELECT count(*) FROM books WHERE id < 100",
    "UPDATE books SET pages = pages WHERE id = 10 + $ % 40",
    "SELECT max(name) FROM authors",
    "UPDATE authors SET email = email WHERE id = 10 + $ % 40",
];

/// A transaction of 150 ms that has written, and a pause: no schema change gets its lock at the first try.
const SLOW: &str = "BEGIN; UPDATE books SET pages = pages WHERE id = 60; UPDATE authors SET email = email WHERE id = 60; SELECT pg_sleep(0.15); COMMIT; SELECT pg_sleep(0.1)";

const SAMPLE: &str = "SELECT l.pid || ' ' || l.mode || ' ' || l.relation::regclass, EXTRACT(epoch FROM clock_timestamp()), a.query FROM pg_locks l \
     JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.granted AND l.locktype = 'relation' AND a.application_name <> 'application' \
     AND l.relation IN (to_regclass('books'), to_regclass('authors')) AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

pub struct Application {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    sessions: Vec<JoinHandle<()>>,
    sampler: JoinHandle<(Vec<Held>, f64)>,
    /// OIDs of the tables, as the log names them.
    tables: Vec<String>,
}

/// A lock that stops others, and how long it was seen.
struct Held {
    what: String,
    query: String,
    ms: f64,
}

impl Application {
    pub fn start(stage: &mut Stage) -> Application {
        stage.mark();
        for setting in [
            "log_lock_waits = on",
            &format!("deadlock_timeout = '{DEADLOCK_TIMEOUT}'"),
        ] {
            stage.direct(&format!("ALTER DATABASE \"{}\" SET {setting}", stage.database));
        }
        let tables = stage.direct("SELECT 'books'::regclass::oid || ' ' || 'authors'::regclass::oid");
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let session = |slow: bool| {
            let (stop, done) = (stop.clone(), done.clone());
            let (port, database) = (stage.cluster.port(), stage.database.clone());
            std::thread::spawn(move || lives(port, &database, slow, &stop, &done))
        };
        let sessions = vec![session(false), session(false), session(true)];
        let (port, database, until) = (stage.cluster.port(), stage.database.clone(), stop.clone());
        Application {
            sessions,
            sampler: std::thread::spawn(move || samples(port, &database, &until)),
            tables: tables.split(' ').map(str::to_owned).collect(),
            stop,
            done,
        }
    }

    /// What was not as it should be.
    pub fn end(self, stage: &Stage) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        self.sessions
            .into_iter()
            .for_each(|session| session.join().expect("the application"));
        let (held, sample_ms) = self.sampler.join().expect("the sampler");
        let longest = LONGEST_MS * (sample_ms / SAMPLE_MS).clamp(1.0, SLOWEST);
        assert!(
            self.done.load(Ordering::Relaxed) > 20,
            "the application did next to nothing"
        );
        let mut wrong = Vec::new();
        for held in held.iter().filter(|held| held.ms > longest) {
            wrong.push(format!(
                "{} was held for {:.0} ms, last by: {}",
                held.what, held.ms, held.query
            ));
        }
        for line in stage.server_log() {
            let Some(wait) = Wait::of(&line.message).filter(|wait| self.tables.iter().any(|t| *t == wait.relation))
            else {
                continue;
            };
            if line.application_name == "application" && wait.ms > longest {
                wrong.push(format!(
                    "the application waited for {:.0} ms: {}",
                    wait.ms, line.message
                ));
            }
            // Whoever waits for one of these makes everybody wait who comes behind.
            let queues = matches!(
                wait.mode,
                "ShareLock" | "ShareRowExclusiveLock" | "ExclusiveLock" | "AccessExclusiveLock"
            );
            if line.application_name != "application" && queues {
                wrong.push(format!("a schema change queued for {}: {}", wait.mode, line.message));
            }
        }
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("\n")),
        }
    }
}

/// Somebody of the application's has waited too long by now, on any machine.
pub fn waits(stage: &Stage) -> bool {
    let too_long = LONGEST_MS * SLOWEST;
    let waiting = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE NOT l.granted AND a.application_name = 'application' \
         AND a.datname = current_database() AND clock_timestamp() - l.waitstart > interval '{too_long} ms'"
    );
    stage.direct(&waiting) != "0"
}

/// A wait for a lock on a table, as the log tells it.
struct Wait<'a> {
    mode: &'a str,
    relation: &'a str,
    ms: f64,
}

impl Wait<'_> {
    /// `process 7 still waiting for AccessShareLock on relation 16386 of database 16384 after 100.123 ms`, or `acquired` instead.
    fn of(message: &str) -> Option<Wait<'_>> {
        let (_, rest) = message
            .split_once(" still waiting for ")
            .or_else(|| message.split_once(" acquired "))?;
        let (mode, rest) = rest.split_once(" on relation ")?;
        let (relation, rest) = rest.split_once(" of database ")?;
        let (_, rest) = rest.split_once(" after ")?;
        let ms = rest.split_once(" ms")?.0.parse().ok()?;
        Some(Wait { mode, relation, ms })
    }
}

fn lives(port: u16, database: &str, slow: bool, stop: &AtomicBool, done: &AtomicUsize) {
    within(async {
        let session = connect_at(port, database).await.expect("the application's session");
        let name = "SET application_name = 'application'";
        session.client.simple_query(name).await.expect("its name");
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let sql = match slow {
                true => SLOW.to_owned(),
                false => STATEMENTS[turn % 4].replace('$', &turn.to_string()),
            };
            turn += 1;
            match session.client.simple_query(&sql).await {
                Ok(_) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                // A column of it may have another name by now.
                Err(error) => assert!(error.as_db_error().is_some(), "{error:?}"),
            }
            if slow && session.client.simple_query("ROLLBACK").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// And how many milliseconds lay between two of them.
fn samples(port: u16, database: &str, stop: &AtomicBool) -> (Vec<Held>, f64) {
    within(async {
        let session = connect_at(port, database).await.expect("the sampler's session");
        let mut since: HashMap<String, f64> = HashMap::new();
        let mut seen: Vec<Held> = Vec::new();
        let (started, mut taken) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let rows = session.client.simple_query(SAMPLE).await.expect("a sample");
            let mut now = HashMap::new();
            for row in rows.iter() {
                let tokio_postgres::SimpleQueryMessage::Row(row) = row else {
                    continue;
                };
                let column = |n| row.get(n).unwrap_or_default().to_owned();
                let (what, at): (String, f64) = (column(0), column(1).parse().expect("a time"));
                let first = since.get(&what).copied().unwrap_or(at);
                now.insert(what.clone(), first);
                seen.push(Held {
                    what,
                    query: column(2),
                    ms: (at - first) * 1e3,
                });
            }
            since = now;
            taken += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (seen, started.elapsed().as_secs_f64() * 1e3 / f64::from(taken.max(1)))
    })
}

fn within<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}
