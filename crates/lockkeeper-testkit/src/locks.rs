//! Watches pg_locks from a session of its own, straight at the server, while a test does something else.

use lockkeeper_cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_postgres::NoTls;

const EVERY: Duration = Duration::from_millis(3);

/// One line of pg_locks on the table at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the sampler's start, by the server's clock.
    pub at_ms: f64,
    pub pid: i32,
    /// `AccessExclusiveLock`, as pg_locks writes it.
    pub mode: String,
    pub granted: bool,
    /// How long it has waited; 0 when granted. None before PostgreSQL 14, which does not tell.
    pub wait_ms: Option<f64>,
    pub application_name: String,
    pub query: String,
}

pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>, tokio_postgres::Error>>,
}

impl Sampler {
    /// Returns when the first look has been taken. Relation locks only: a wait for a row is not a wait for the table.
    pub fn start(cluster: &Cluster, database: &str, table: &str) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let text = format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} application_name=sampler",
            cluster.port()
        );
        let (has_waitstart, table, stopped) = (cluster.version() >= 140_000, table.to_owned(), stop.clone());
        let (ready, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(watch(&text, &table, has_waitstart, &stopped, ready))
        });
        // An error before the first look closes the channel; stop() tells it.
        let _ = started.recv();
        Sampler { stop, thread }
    }

    #[track_caller]
    pub fn stop(self) -> Samples {
        self.stop.store(true, Ordering::Relaxed);
        Samples(
            self.thread
                .join()
                .expect("the sampler's thread")
                .unwrap_or_else(|e| panic!("the sampler: {e:?}")),
        )
    }
}

#[derive(Debug)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// How long that mode was seen granted to one session without a break, at most: from its first sight to its last.
    pub fn longest_held_ms(&self, mode: &str) -> f64 {
        let mut longest: f64 = 0.0;
        let mut since: Vec<(i32, f64, f64)> = Vec::new();
        for sample in self.0.iter().filter(|sample| sample.granted && sample.mode == mode) {
            match since
                .iter_mut()
                .find(|(pid, _, last)| *pid == sample.pid && sample.at_ms - last < 50.0)
            {
                Some((_, first, last)) => {
                    *last = sample.at_ms;
                    longest = longest.max(*last - *first);
                }
                None => since.push((sample.pid, sample.at_ms, sample.at_ms)),
            }
        }
        longest
    }

    /// The longest wait of a session whose application_name this is.
    pub fn longest_wait_ms(&self, application_name: &str) -> f64 {
        let own = self
            .0
            .iter()
            .filter(|sample| !sample.granted && sample.application_name == application_name);
        own.filter_map(|sample| sample.wait_ms).fold(0.0, f64::max)
    }

    pub fn was_granted(&self, mode: &str) -> bool {
        self.0.iter().any(|sample| sample.granted && sample.mode == mode)
    }
}

async fn watch(
    text: &str,
    table: &str,
    has_waitstart: bool,
    stop: &AtomicBool,
    ready: mpsc::Sender<()>,
) -> Result<Vec<Sample>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(text, NoTls).await?;
    tokio::spawn(connection);
    let waited = match has_waitstart {
        true => "coalesce(extract(epoch FROM clock_timestamp() - l.waitstart) * 1000, 0)::float8",
        false => "NULL::float8",
    };
    let oid: u32 = client
        .query_one("SELECT $1::text::regclass::oid", &[&table])
        .await?
        .get(0);
    let look = client
        .prepare(&format!(
            "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000, l.pid, l.mode, l.granted, {waited},
                    a.application_name, a.query
             FROM pg_locks l JOIN pg_stat_activity a USING (pid)
             WHERE l.locktype = 'relation' AND l.relation = $1
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ))
        .await?;
    let mut begin = None;
    let mut samples = Vec::new();
    loop {
        // The last look comes after the order to stop, so that what holds now is in it.
        let last = stop.load(Ordering::Relaxed);
        for row in client.query(&look, &[&oid]).await? {
            let now: f64 = row.get(0);
            samples.push(Sample {
                at_ms: now - *begin.get_or_insert(now),
                pid: row.get(1),
                mode: row.get(2),
                granted: row.get(3),
                wait_ms: row.get(4),
                application_name: row.get(5),
                query: row.get(6),
            });
        }
        if last {
            return Ok(samples);
        }
        let _ = ready.send(());
        tokio::time::sleep(EVERY).await;
    }
}
