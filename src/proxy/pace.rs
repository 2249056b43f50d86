//! How large the next batch is and how long it may take: pure, so that every turn of it can be tested.
//!
//! The first batches are small and grow. A batch that would take several times what the policy wants, or that somebody waits
//! for, is cancelled, undone, and tried again with half as many keys, down to a single one.

use crate::plan::policy::Backfill;
use std::time::{Duration, Instant};

/// Keys of the first batch: what a row costs is not known before (a trigger, a foreign key without an index).
const SIZE_FIRST: u64 = 100;
/// A batch is not made smaller than this because somebody waited for a brief one, unless the policy's batch_rows is.
const SIZE_MIN: u64 = 100;
/// Up to the policy's batch_rows, a batch may be so many times larger than the one before; from there on twice as large.
const GROWTH_FIRST: f64 = 4.0;
/// After others had to wait, each batch that nobody waits for may be so much larger than the one before.
const GROWTH: f64 = 1.02;
/// A batch may take so many times batch_target_ms. Some hundred milliseconds more or less come from the machine alone.
const DEADLINE_FACTOR: u32 = 3;
const DEADLINE_MIN: Duration = Duration::from_millis(300);
/// Where all batches have one size, the policy says nothing of time.
const DEADLINE_FIXED: Duration = Duration::from_secs(5);
/// A single row is given twice as much time with each try, up to this.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// How far back the speed is measured of which the time left is told.
const RECENT: Duration = Duration::from_secs(10);

/// How a batch went.
#[derive(Clone, Copy)]
pub(super) struct Took {
    pub time: Duration,
    /// Of that, what the server took to plan it: with many partitions.
    pub planning: Duration,
    pub others_waited: bool,
}

#[derive(Debug)]
pub(super) struct Pace {
    /// Keys of the next batch.
    pub size: u64,
    /// Others have waited for rows of a batch of twice so many keys: batches grow beyond it only slowly.
    size_max: Option<f64>,
    /// How long the next batch may have to be planned.
    planning: Duration,
    /// How often the one row of a batch has taken too long.
    patience: u32,
    /// When so many keys were passed, back to the last one that is older than [`RECENT`].
    passed: Vec<(Instant, u64)>,
}

impl Pace {
    pub fn new(policy: &Backfill) -> Pace {
        let size = policy.batch_rows.min(policy.batch_rows_max).max(1);
        Pace {
            size: match policy.batch_target_ms {
                0 => size,
                _ => size.min(SIZE_FIRST),
            },
            size_max: None,
            planning: Duration::ZERO,
            patience: 0,
            passed: Vec::new(),
        }
    }

    /// What walks the same table took so long to plan: the next batch may take as long again.
    pub fn planned(&mut self, planning: Duration) {
        self.planning = planning.max(self.planning / 2);
    }

    /// The next batch should take as long as the policy says. One slow batch says little: half as many keys at most, and twice
    /// as many. If somebody had to wait for the rows of this one, half as many, whatever time there is.
    pub fn adapt(&mut self, took: Took, policy: &Backfill) {
        self.patience = 0;
        self.planned(took.planning);
        if policy.batch_target_ms == 0 {
            return;
        }
        let target_s = policy.batch_target_ms as f64 / 1e3;
        let work = took.time.saturating_sub(took.planning);
        let ratio = target_s / work.as_secs_f64().max(1e-4);
        let growth = match self.size < policy.batch_rows {
            true => GROWTH_FIRST.min((policy.batch_rows as f64 / self.size as f64).max(2.0)),
            false => 2.0,
        };
        let mut wanted = self.size as f64 * ratio.clamp(0.5, growth);
        if took.others_waited {
            self.size_max = Some(self.size as f64 / 2.0);
        } else if let Some(size_max) = &mut self.size_max {
            // So that single rows grow too.
            *size_max = (*size_max * GROWTH).max(*size_max + 0.25);
        }
        // What is brief already is not made better by being brief more often.
        let least = match work.as_secs_f64() * 2.0 > target_s {
            true => 1,
            false => SIZE_MIN.min(policy.batch_rows).min(self.size),
        };
        if let Some(size_max) = &mut self.size_max {
            *size_max = size_max.max(least as f64);
            wanted = wanted.min(*size_max);
        }
        self.size = (wanted as u64).clamp(least.max(1), policy.batch_rows_max.max(1));
    }

    /// How long a batch may hold its rows.
    pub fn deadline(&self, policy: &Backfill) -> Duration {
        let target = Duration::from_millis(policy.batch_target_ms);
        let once = match (policy.batch_target_ms, self.size_max) {
            (0, _) => DEADLINE_FIXED,
            (_, None) => (target * DEADLINE_FACTOR).max(DEADLINE_MIN),
            // Somebody has waited for rows of this table lately.
            (_, Some(_)) => target.max(DEADLINE_MIN),
        };
        (once * 2u32.saturating_pow(self.patience)).min(DEADLINE_MAX.max(once)) + self.planning * 2
    }

    /// A batch is cancelled when somebody has waited for it so long, whatever time it has left.
    pub fn others_wait_max(&self, policy: &Backfill) -> Duration {
        match policy.batch_target_ms {
            0 => DEADLINE_FIXED,
            ms => Duration::from_millis(ms) * 2u32.saturating_pow(self.patience),
        }
    }

    /// A batch of so many keys has taken too long and is undone. False: it was a single one, which has had all the time there is.
    pub fn too_long(&mut self, keys: u64, others_waited: bool, policy: &Backfill) -> bool {
        if others_waited {
            self.size_max = Some((keys as f64 / 2.0).max(1.0));
        }
        if keys > 1 {
            self.size = keys / 2;
            return true;
        }
        let had = self.deadline(policy);
        self.patience += 1;
        self.size = 1;
        self.deadline(policy) > had
    }

    /// Others hold its rows.
    pub fn contended(&mut self, policy: &Backfill) {
        if policy.batch_target_ms > 0 {
            self.size = (self.size / 2).max(SIZE_MIN.min(self.size));
        }
    }

    /// A batch that is kept short for others' sake is followed by a pause that is as much shorter.
    pub fn pause(&self, took: Took, policy: &Backfill) -> Duration {
        let pause = Duration::from_millis(policy.pause_ms);
        let target = Duration::from_millis(policy.batch_target_ms);
        // So are the small ones at the beginning.
        if target.is_zero() || (self.size_max.is_none() && took.time * 2 > target) {
            return pause;
        }
        pause.mul_f64((took.time.as_secs_f64() / target.as_secs_f64()).min(1.0))
    }

    /// So many keys were passed by now.
    pub fn passed(&mut self, now: Instant, keys: u64) {
        self.passed.push((now, keys));
        let old = |(at, _): &(Instant, u64)| now.duration_since(*at) > RECENT;
        let last_old = self.passed.iter().rposition(old).unwrap_or_default();
        self.passed.drain(..last_old);
    }

    /// How long so many keys will take, at the speed of the last seconds: what was passed before may have had nothing to do.
    /// None where nothing was passed in them.
    pub fn left_s(&self, now: Instant, keys: u64, left: f64) -> Option<f64> {
        let (at, before) = self.passed.first()?;
        let speed = keys.checked_sub(*before)? as f64 / now.duration_since(*at).as_secs_f64().max(1e-3);
        (speed > 0.0).then(|| left / speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backfill() -> Backfill {
        Backfill {
            rows_max: 0,
            batch_rows: 5_000,
            batch_rows_max: 50_000,
            batch_target_ms: 200,
            pause_ms: 20,
            notice_ms: 0,
            returning_rows_max: 0,
            replica_lag_max_ms: 0,
            wal_max_percent: 0,
            lock_waits_max: 0,
            stop_file: None,
            in_transaction: crate::plan::policy::InTransaction::Reject,
        }
    }

    fn took(ms: u64, others_waited: bool) -> Took {
        Took {
            time: Duration::from_millis(ms),
            planning: Duration::ZERO,
            others_waited,
        }
    }

    #[test]
    fn batches_adapt_to_their_time() {
        let mut policy = backfill();
        let mut pace = Pace::new(&policy);
        assert_eq!(pace.size, 100);
        let mut check = |policy: &Backfill, ms: u64, expect: u64| {
            pace.adapt(took(ms, false), policy);
            assert_eq!(pace.size, expect);
        };
        for (ms, expect) in [(1, 400), (2, 1_600), (10, 5_000)] {
            check(&policy, ms, expect);
        }
        check(&policy, 10, 10_000);
        check(&policy, 160, 12_500);
        check(&policy, 4_000, 6_250);
        check(&policy, 0, 12_500);
        for expect in [25_000, 50_000, 50_000] {
            check(&policy, 1, expect);
        }
        for expect in [
            25_000, 12_500, 6_250, 3_125, 1_562, 781, 390, 195, 97, 48, 24, 12, 6, 3, 1, 1,
        ] {
            check(&policy, 60_000, expect);
        }
        policy.batch_target_ms = 0;
        check(&policy, 1, 1);
    }

    #[test]
    fn batches_shrink_while_others_wait() {
        let policy = backfill();
        let mut pace = Pace::new(&policy);
        pace.size = 5_000;
        let mut check = |ms: u64, others_waited: bool, expect: (u64, u64)| {
            pace.adapt(took(ms, others_waited), &policy);
            let pause = pace.pause(took(ms, others_waited), &policy);
            assert_eq!((pace.size, pause.as_millis() as u64), expect);
        };
        check(101, false, (9_900, 20));
        check(200, true, (4_950, 20));
        check(100, false, (5_049, 10));
        check(500, false, (2_524, 20));
        check(50, true, (1_262, 5));
        for _ in 0..10 {
            pace.adapt(took(0, true), &policy);
        }
        assert_eq!(pace.size, SIZE_MIN);
    }

    #[test]
    fn what_takes_too_long_is_halved_down_to_a_single_row() {
        let policy = backfill();
        let mut pace = Pace::new(&policy);
        assert_eq!(pace.deadline(&policy).as_millis(), 600);
        let mut sizes = Vec::new();
        while pace.size > 1 {
            assert!(pace.too_long(pace.size, sizes.len() == 2, &policy));
            sizes.push(pace.size);
        }
        assert_eq!(sizes, [50, 25, 12, 6, 3, 1]);
        assert_eq!(pace.deadline(&policy).as_millis(), 300);
        let mut tries = 0;
        while pace.too_long(1, false, &policy) {
            tries += 1;
        }
        assert_eq!((tries, pace.deadline(&policy)), (8, DEADLINE_MAX));
        pace.adapt(took(20_000, false), &policy);
        assert_eq!((pace.size, pace.deadline(&policy).as_millis()), (1, 300));
    }

    #[test]
    fn planning_is_no_work() {
        let policy = backfill();
        let mut pace = Pace::new(&policy);
        pace.size = 5_000;
        let planning = Duration::from_millis(180);
        let planned = Took {
            planning,
            ..took(200, false)
        };
        pace.adapt(planned, &policy);
        assert_eq!(pace.size, 10_000);
        // It may have to be planned anew.
        assert_eq!(pace.deadline(&policy).as_millis(), 960);
        pace.adapt(took(100, false), &policy);
        assert_eq!(pace.deadline(&policy).as_millis(), 780);
    }

    #[test]
    fn the_time_left_is_told_of_the_last_seconds() {
        let begin = Instant::now();
        let mut pace = Pace::new(&backfill());
        pace.passed(begin, 0);
        pace.passed(begin + Duration::from_secs(1), 480_000);
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(pace.left_s(at(1), 480_000, 20_000.0).map(|s| s.round()), Some(0.0));
        // What is left is slower: known a few seconds later.
        for second in 2..30 {
            pace.passed(at(second), 480_000 + 2 * second);
        }
        let left = pace.left_s(at(29), 480_058, 20_000.0).unwrap();
        assert!((9_000.0..11_000.0).contains(&left), "{left}");
    }
}
