//! When batches wait: for replicas, for the checkpointer, for others who wait for locks, and for a file that stops them all.

use super::conduct::Outcome;
use super::dialogue::{Ask, Closing, Hears};
use super::session::Session;
use crate::plan::Place;
use crate::plan::policy::Backfill;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the server is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(200);

/// One row: the replicas' greatest lag in milliseconds (null where the role may not read it), WAL since the last checkpoint as a
/// percentage of max_wal_size, and how many sessions of this database wait for locks.
const LOOK: &str = "SELECT (SELECT pg_catalog.max(EXTRACT(epoch FROM r.replay_lag) * 1000)::int8 FROM pg_catalog.pg_stat_replication r), \
     (SELECT (pg_catalog.pg_current_wal_insert_lsn() - c.redo_lsn)::int8 FROM pg_catalog.pg_control_checkpoint() c) * 100 \
     / greatest(pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')), 1), \
     (SELECT pg_catalog.count(DISTINCT l.pid) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     AND a.datname = pg_catalog.current_database() WHERE NOT l.granted)";

#[derive(Default)]
pub(super) struct Gentle {
    looked: Option<Instant>,
    /// The role may not ask: then it is not asked again.
    blind: bool,
}

impl Gentle {
    /// The role may look at others' locks.
    pub fn sees(&self) -> bool {
        self.looked.is_some() && !self.blind
    }
}

impl Session {
    /// Returns when nothing speaks against the next batch, or the error that ends the statement.
    pub(super) async fn wait_gently(
        &mut self,
        policy: &Backfill,
        gentle: &mut Gentle,
        job: Option<i64>,
    ) -> Outcome<()> {
        let mut told: Option<Instant> = None;
        loop {
            let Some(reason) = self.obstacle(policy, gentle).await? else {
                return Ok(Ok(()));
            };
            if told.is_none_or(|told| told.elapsed().as_millis() as u64 >= policy.notice_ms) {
                told = Some(Instant::now());
                let job = job.map(|id| format!("job {id}")).unwrap_or("the next batch".into());
                self.relay.notice(&format!("{job} waits: {reason}")).await?;
            }
            if let Err(report) = self.pause(WAIT, Place::Alone).await? {
                return Ok(Err(report));
            }
            gentle.looked = None;
        }
    }

    async fn obstacle(
        &mut self,
        policy: &Backfill,
        gentle: &mut Gentle,
    ) -> Result<Option<String>, super::relay::Broken> {
        if let Some(file) = policy.stop_file.as_deref().filter(|file| Path::new(file).exists()) {
            return Ok(Some(format!("the file {file} is there; remove it to go on")));
        }
        if gentle.blind || gentle.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(None);
        }
        gentle.looked = Some(Instant::now());
        let answers = match self.relay.ask(&[Ask::new(LOOK)], Closing::Sync, Hears::Nothing).await? {
            Ok(answers) => answers,
            Err(report) => {
                tracing::info!(
                    session = self.who.session,
                    error = report.message(),
                    "batches go on without a look at the load"
                );
                gentle.blind = true;
                return Ok(None);
            }
        };
        let row = answers
            .into_iter()
            .next()
            .and_then(|answer| answer.rows.into_iter().next());
        Ok(reason(&row.unwrap_or_default(), policy))
    }
}

/// What a row of [`LOOK`] says against going on.
fn reason(row: &[Option<String>], policy: &Backfill) -> Option<String> {
    let number = |i: usize| row.get(i)?.as_ref()?.parse::<u64>().ok();
    let over = |i: usize, max: u64| number(i).filter(|n| max > 0 && *n > max);
    if let Some(lag) = over(0, policy.replica_lag_max_ms) {
        return Some(format!(
            "a replica is {lag} ms behind, more than replica_lag_max_ms = {}",
            policy.replica_lag_max_ms
        ));
    }
    if let Some(percent) = over(1, policy.wal_max_percent) {
        return Some(format!(
            "the WAL since the last checkpoint is {percent} % of max_wal_size, more than wal_max_percent = {}",
            policy.wal_max_percent
        ));
    }
    // 0 is a limit here.
    let waiting = number(2).filter(|n| *n > policy.lock_waits_max)?;
    Some(format!(
        "{waiting} sessions wait for locks, more than lock_waits_max = {}",
        policy.lock_waits_max
    ))
}
