//! When batches wait: for replicas, for the checkpointer, for others who wait for locks, and for a file that stops them all.

use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End};
use super::session::Session;
use crate::plan::Place;
use crate::plan::policy::Backfill;
use serde::Deserialize;
use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the server is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(200);

/// A replica this far behind is behind whatever its replay_lag says: that tells nothing while no reply comes from it (it hangs,
/// or its line is full), and only since the WAL was sent. Less may be what it has not reported yet.
const BEHIND_BYTES: u64 = 16 << 20;

/// One row: the replicas as JSON (without what the role may not read), where the WAL ends that they can be sent, WAL since the
/// last checkpoint as a percentage of max_wal_size, and how many sessions of this database wait for locks.
const LOOK: &str = "SELECT (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', r.application_name, \
     'at', (r.replay_lsn - '0/0'::pg_catalog.pg_lsn)::int8, 'lag_ms', (EXTRACT(epoch FROM r.replay_lag) * 1000)::int8, \
     'physical', NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))) \
     FROM pg_catalog.pg_stat_replication r WHERE r.replay_lsn IS NOT NULL), \
     (pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_catalog.pg_lsn)::int8, \
     (SELECT (pg_catalog.pg_current_wal_insert_lsn() - c.redo_lsn)::int8 FROM pg_catalog.pg_control_checkpoint() c) * 100 \
     / greatest(pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')), 1), \
     (SELECT pg_catalog.count(DISTINCT l.pid) FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     AND a.datname = pg_catalog.current_database() WHERE NOT l.granted)";

/// One that has told how far it has replayed; pg_receivewal and base backups have not.
#[derive(Deserialize)]
struct Replica {
    name: String,
    /// Bytes of WAL that it has replayed.
    at: u64,
    /// Of the last WAL that it has replayed; stays as it was after the last reply.
    lag_ms: Option<u64>,
    /// A logical one skips what does not concern it, and then seems behind.
    physical: bool,
}

#[derive(Default)]
pub(super) struct Throttle {
    looked: Option<Instant>,
    /// The role may not ask: then it is not asked again.
    blind: bool,
    /// Where the WAL ended at each look, back to the last one that is older than the greatest lag allowed.
    ends: VecDeque<(Instant, u64)>,
}

impl Throttle {
    fn note(&mut self, now: Instant, end: u64, max: Duration) {
        self.ends.push_back((now, end));
        while self
            .ends
            .get(1)
            .is_some_and(|(then, _)| now.duration_since(*then) > max)
        {
            self.ends.pop_front();
        }
    }

    /// What a row of [`LOOK`] says against going on.
    fn reason(&mut self, row: &[Option<String>], now: Instant, policy: &Backfill) -> Option<String> {
        let number = |i: usize| row.get(i)?.as_ref()?.parse::<u64>().ok();
        if let Some(end) = number(1) {
            self.note(now, end, Duration::from_millis(policy.replica_lag_max_ms));
            let replicas = row
                .first()
                .and_then(|json| serde_json::from_str::<Vec<Replica>>(json.as_ref()?).ok());
            let lags = replicas
                .iter()
                .flatten()
                .map(|replica| (self.lag_ms(replica, now, end), &replica.name));
            if let Some((lag, name)) = lags.max()
                && policy.replica_lag_max_ms > 0
                && lag > policy.replica_lag_max_ms
            {
                return Some(format!(
                    "the replica {name} is {lag} ms behind, more than replica_lag_max_ms = {}",
                    policy.replica_lag_max_ms
                ));
            }
        }
        if let Some(percent) = number(2).filter(|n| policy.wal_max_percent > 0 && *n > policy.wal_max_percent) {
            return Some(format!(
                "the WAL since the last checkpoint is {percent} % of max_wal_size, more than wal_max_percent = {}",
                policy.wal_max_percent
            ));
        }
        // 0 is a limit here.
        let waiting = number(3).filter(|n| *n > policy.lock_waits_max)?;
        Some(format!(
            "{waiting} sessions wait for locks, more than lock_waits_max = {}",
            policy.lock_waits_max
        ))
    }

    /// 0 where it has replayed everything, whatever the lag was that it reported last.
    fn lag_ms(&self, replica: &Replica, now: Instant, end: u64) -> u64 {
        if replica.at >= end {
            return 0;
        }
        let is_far = replica.physical && end - replica.at > BEHIND_BYTES;
        let missed = self.ends.iter().find(|(_, end)| is_far && *end > replica.at);
        let missed_ms = missed.map_or(0, |(then, _)| now.duration_since(*then).as_millis() as u64);
        replica.lag_ms.unwrap_or_default().max(missed_ms)
    }
}

impl Throttle {
    /// The role may look at others' locks.
    pub fn sees(&self) -> bool {
        self.looked.is_some() && !self.blind
    }
}

impl Session {
    /// Returns when nothing speaks against the next batch, or the error that ends the statement.
    pub(super) async fn wait_while_throttled(
        &mut self,
        policy: &Backfill,
        throttle: &mut Throttle,
        job: Option<i64>,
    ) -> Result<(), End> {
        let mut told: Option<Instant> = None;
        loop {
            let Some(reason) = self.obstacle(policy, throttle).await? else {
                return Ok(());
            };
            if told.is_none_or(|told| told.elapsed().as_millis() as u64 >= policy.notice_ms) {
                told = Some(Instant::now());
                let job = job.map(|id| format!("job {id}")).unwrap_or("the next batch".into());
                self.relay.notice(&format!("{job} waits: {reason}")).await?;
            }
            self.pause(WAIT, Place::Alone).await?;
            throttle.looked = None;
        }
    }

    async fn obstacle(&mut self, policy: &Backfill, throttle: &mut Throttle) -> Result<Option<String>, Broken> {
        if let Some(file) = policy.stop_file.as_deref().filter(|file| Path::new(file).exists()) {
            return Ok(Some(format!("the file {file} is there; remove it to go on")));
        }
        if throttle.blind || throttle.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(None);
        }
        throttle.looked = Some(Instant::now());
        let answers = match self.relay.ask(&[Ask::new(LOOK)], Closing::Sync, Hears::Nothing).await {
            Ok(answers) => answers,
            Err(End::Broken(broken)) => return Err(broken),
            Err(End::Refused(report)) => {
                tracing::info!(
                    session = self.who.session,
                    error = report.message(),
                    "batches go on without a look at the load"
                );
                throttle.blind = true;
                return Ok(None);
            }
        };
        let row = answers
            .into_iter()
            .next()
            .and_then(|answer| answer.rows.into_iter().next());
        Ok(throttle.reason(&row.unwrap_or_default(), Instant::now(), policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::policy::Policy;

    #[test]
    fn replicas_that_lag() {
        const END: u64 = 1 << 40;
        let policy = Policy::embedded("standard", &crate::config::rule_names())
            .expect("a policy")
            .backfill;
        let begin = Instant::now();
        // Since the first look the WAL has grown by 64 MB, half of it before the second.
        let check = |at: u64, lag_ms: &str, physical: bool, expect: Option<&str>| {
            let mut throttle = Throttle::default();
            let mut said = None;
            for (seconds, end) in [(0, END - (64 << 20)), (5, END - (32 << 20)), (16, END)] {
                let json = format!(r#"[{{"name":"r1","at":{at},"lag_ms":{lag_ms},"physical":{physical}}}]"#);
                let row = [json, end.to_string(), "1".into(), "0".into()].map(Some);
                said = throttle.reason(&row, begin + Duration::from_secs(seconds), &policy);
            }
            assert_eq!(throttle.ends.len(), 2);
            match (&said, expect) {
                (Some(said), Some(expect)) => assert!(said.contains(expect), "{said}"),
                (said, expect) => assert_eq!(said.as_deref(), expect),
            }
        };
        check(END, "null", true, None);
        // What it said last is old.
        check(END, "60000", true, None);
        check(END - 1, "60000", true, Some("the replica r1 is 60000 ms behind"));
        check(END - 1, "60000", false, Some("60000 ms"));
        check(END - 1, "null", true, None);
        check(END - (31 << 20), "300", true, None);
        check(END - (33 << 20), "300", true, Some("11000 ms"));
        check(END - (33 << 20), "null", false, None);
        check(END - (15 << 20), "null", true, None);
    }
}
