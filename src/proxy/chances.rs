//! Whether a try for a lock has a chance now, and how long it may take: pure, so that every turn of it can be tested.
//!
//! A try makes everybody behind it wait. It is not made while somebody holds the lock who is sure to outlast it, and may take
//! longer only as far as the policy allows the application to wait.

use crate::plan::policy::Lock;
use std::time::{Duration, Instant};

/// Who has been idle in a transaction for so long will hardly end it within a try.
const IDLE_LONG_S: f64 = 1.0;
/// One try is made in so long, whatever is known of the holders: what is known may be wrong.
const TRY_AT_LEAST: Duration = Duration::from_secs(3);
/// So many tries of timeout_ms are made before longer ones.
const SHORT_TRIES: u32 = 3;
/// Between two looks at holders that are sure to outlast a try.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Somebody who holds the lock, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Holder {
    pub doing: Doing,
    /// Its transaction's age in seconds. None: hidden from this role.
    pub age_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Doing {
    /// Also what is hidden from this role.
    #[default]
    Unknown,
    /// For so many seconds, without a statement.
    Idle(f64),
    /// A statement for so many seconds, which usually takes so many, if that is known.
    Active(f64, Option<f64>),
    /// PREPARE TRANSACTION: until somebody ends it.
    Prepared,
}

impl Holder {
    /// How much longer it will surely hold the lock. None: nothing is known, or it may end at any moment.
    fn lasts_s(&self) -> Option<f64> {
        match self.doing {
            Doing::Prepared => Some(f64::INFINITY),
            Doing::Idle(for_s) if for_s >= IDLE_LONG_S => Some(for_s),
            Doing::Active(for_s, Some(usual_s)) => Some(usual_s - for_s).filter(|left| *left > 0.0),
            _ => None,
        }
    }
}

/// The tries of one step for its lock.
#[derive(Debug)]
pub(super) struct Chances {
    started: Instant,
    tries: u32,
    tried: Instant,
    /// lock_timeout of the last try.
    timeout_ms: u64,
    /// Of them all.
    pub timeout_longest_ms: u64,
    pub looks: u32,
}

impl Chances {
    pub fn new(now: Instant) -> Chances {
        Chances {
            started: now,
            tries: 0,
            tried: now,
            timeout_ms: 0,
            timeout_longest_ms: 0,
            looks: 0,
        }
    }

    /// lock_timeout of the next try.
    pub fn next_timeout_ms(&mut self, now: Instant, lock: &Lock) -> u64 {
        let waited_ms = now.duration_since(self.started).as_millis() as u64;
        let within = match self.tries < SHORT_TRIES {
            true => lock.timeout_ms,
            false => lock.timeout_ms.max(lock.stall_budget_ms),
        };
        let escalates = lock.escalate_after_ms > 0 && waited_ms >= lock.escalate_after_ms;
        self.timeout_ms = match escalates {
            true => (self.timeout_ms * 2).min(lock.timeout_max_ms).max(within),
            false => within,
        };
        self.timeout_longest_ms = self.timeout_longest_ms.max(self.timeout_ms);
        (self.tries, self.tried) = (self.tries + 1, now);
        self.timeout_ms
    }

    /// Between two tries, so that the queue behind a longer one drains as well.
    pub fn pause(&self, lock: &Lock) -> Duration {
        Duration::from_millis(lock.pause_ms.saturating_mul(self.timeout_ms.max(1)) / lock.timeout_ms.max(1))
            .max(Duration::from_millis(lock.pause_ms))
    }

    /// None: a try has a chance. Some: it would be in vain, and the holders are to be looked at again after so long.
    pub fn in_vain(&mut self, now: Instant, holders: &[Holder], lock: &Lock) -> Option<Duration> {
        if now.duration_since(self.tried) >= TRY_AT_LEAST {
            return None;
        }
        let timeout_s = lock.timeout_ms.max(lock.stall_budget_ms) as f64 / 1e3;
        let lasts = holders
            .iter()
            .filter_map(Holder::lasts_s)
            .filter(|left| *left > timeout_s);
        let longest = lasts.fold(None, |longest: Option<f64>, left| {
            Some(longest.map_or(left, |l| l.max(left)))
        })?;
        self.looks += 1;
        let pause = LOOK_PAUSE.min(Duration::from_millis(lock.pause_ms));
        // What runs to its usual end is met there.
        Some(pause.min(Duration::from_secs_f64((longest - timeout_s).clamp(0.01, 1.0))))
    }
}

/// Whether holding new statements back for `hold_ms` can help: nobody who holds the lock now is known to hold it for longer.
pub(super) fn end_within(holders: &[Holder], hold_ms: u64) -> bool {
    let mut lasts = holders.iter().filter_map(Holder::lasts_s);
    !lasts.any(|left| left * 1e3 > hold_ms as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        Lock {
            timeout_ms: 50,
            pause_ms: 200,
            give_up_after_ms: 0,
            give_up_in_transaction_ms: 0,
            concurrent_tries: 1,
            stall_budget_ms: 100,
            escalate_after_ms: 0,
            timeout_max_ms: 1_000,
            hold_ms: 5_000,
            cancels: Vec::new(),
        }
    }

    fn timeouts(lock: &Lock, at_s: &[u64]) -> Vec<u64> {
        let begin = Instant::now();
        let mut chances = Chances::new(begin);
        let at = |s: &u64| chances.next_timeout_ms(begin + Duration::from_secs(*s), lock);
        at_s.iter().map(at).collect()
    }

    #[test]
    fn tries_grow_within_the_budget_and_beyond_it_only_where_the_policy_says_so() {
        assert_eq!(timeouts(&lock(), &[0, 0, 1, 1, 9, 999]), [50, 50, 50, 100, 100, 100]);
        let mut small = lock();
        small.stall_budget_ms = 20;
        assert_eq!(timeouts(&small, &[0, 0, 0, 0, 9]), [50; 5]);
        let mut escalates = lock();
        escalates.escalate_after_ms = 10_000;
        assert_eq!(
            timeouts(&escalates, &[0, 1, 2, 9, 10, 11, 12, 13, 14]),
            [50, 50, 50, 100, 200, 400, 800, 1_000, 1_000]
        );
        let begin = Instant::now();
        let mut chances = Chances::new(begin);
        for _ in 0..9 {
            chances.next_timeout_ms(begin + Duration::from_secs(20), &escalates);
        }
        assert_eq!(chances.pause(&escalates).as_millis(), 4_000);
    }

    #[test]
    fn no_try_is_made_while_somebody_is_sure_to_outlast_it() {
        let begin = Instant::now();
        let mut chances = Chances::new(begin);
        let mut check = |doing: Doing, expect: Option<u64>| {
            let holder = Holder {
                doing,
                age_s: Some(2.0),
            };
            let pause = chances.in_vain(begin, &[Holder::default(), holder], &lock());
            assert_eq!(pause.map(|pause| pause.as_millis() as u64), expect);
        };
        check(Doing::Unknown, None);
        check(Doing::Prepared, Some(100));
        check(Doing::Idle(0.5), None);
        check(Doing::Idle(1.5), Some(100));
        check(Doing::Active(2.0, None), None);
        check(Doing::Active(0.5, Some(2.0)), Some(100));
        check(Doing::Active(1.86, Some(2.0)), Some(40));
        check(Doing::Active(1.95, Some(2.0)), None);
        check(Doing::Active(9.0, Some(2.0)), None);
        let prepared = Holder {
            doing: Doing::Prepared,
            age_s: None,
        };
        assert_eq!(chances.in_vain(begin + TRY_AT_LEAST, &[prepared], &lock()), None);
    }

    #[test]
    fn nothing_is_held_for_those_who_stay_anyway() {
        let holder = |doing| [Holder { doing, age_s: None }];
        assert!(end_within(&holder(Doing::Active(1.0, Some(5.0))), 5_000));
        assert!(!end_within(&holder(Doing::Active(1.0, Some(30.0))), 5_000));
        assert!(!end_within(&holder(Doing::Idle(6.0)), 5_000));
        assert!(!end_within(&holder(Doing::Prepared), 5_000));
        assert!(end_within(&holder(Doing::Unknown), 5_000));
    }
}
