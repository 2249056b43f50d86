//! Counts of judged statements, for the metrics and SHOW STATS: kept from the same events that the audit log is given.

use crate::audit::{Event, Phase};
use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds in seconds of plans and steps, which take milliseconds or hours.
pub const DURATION_BOUNDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
];
/// Upper bounds in seconds of waits.
pub const WAIT_BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

#[derive(Debug, Default)]
pub struct Ledger {
    /// Judged statements by action and outcome.
    pub statements: BTreeMap<(String, String), u64>,
    /// Findings by rule and action.
    pub findings: BTreeMap<(String, String), u64>,
    /// Plans by outcome.
    pub plans: BTreeMap<String, Histogram>,
    /// Steps by outcome.
    pub steps: BTreeMap<String, Histogram>,
    pub lock_tries: u64,
    /// Of steps that did not get their lock at once.
    pub lock_waits: Histogram,
    pub batches: u64,
    pub rows: u64,
    /// Waits of other sessions behind a plan's lock that the control connection has seen.
    pub stalls: Histogram,
    /// By kind: connect, closed, login, vanished.
    pub upstream_errors: BTreeMap<&'static str, u64>,
}

/// Counts by upper bound; the bounds are the caller's, the same at every call.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Not cumulative; what is above the last bound is only in `count`.
    pub buckets: Vec<u64>,
    pub count: u64,
    pub sum_s: f64,
}

impl Histogram {
    pub fn observe(&mut self, seconds: f64, bounds: &[f64]) {
        self.buckets.resize(bounds.len(), 0);
        if let Some(n) = bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets[n] += 1;
        }
        self.count += 1;
        self.sum_s += seconds;
    }
}

impl Ledger {
    /// One event of the audit log, whether or not there is a log.
    pub fn take(&mut self, event: &Event) {
        match event.phase {
            Phase::Planned | Phase::Waiting | Phase::Ran | Phase::After | Phase::Decided => {}
            Phase::Step => {
                for step in &event.steps {
                    let steps = self.steps.entry(step.outcome.clone()).or_default();
                    steps.observe(step.duration_ms / 1e3, &DURATION_BOUNDS);
                    self.lock_tries += u64::from(step.lock_tries);
                    if step.lock_wait_ms > 0.0 {
                        self.lock_waits.observe(step.lock_wait_ms / 1e3, &WAIT_BOUNDS);
                    }
                }
            }
            Phase::Statement => {
                let key = (event.action.clone(), event.outcome.clone());
                *self.statements.entry(key).or_default() += 1;
                for finding in &event.findings {
                    let key = (finding.rule.clone(), finding.action.clone());
                    *self.findings.entry(key).or_default() += 1;
                }
                if !event.steps.is_empty() {
                    let plans = self.plans.entry(event.outcome.clone()).or_default();
                    plans.observe(event.duration_ms / 1e3, &DURATION_BOUNDS);
                }
            }
        }
    }

    /// A schema change that no rule has anything to say about: there is no event of it.
    pub fn passed(&mut self) {
        *self.statements.entry(("forward".into(), "passed".into())).or_default() += 1;
    }

    pub fn batch(&mut self, rows: u64) {
        self.batches += 1;
        self.rows += rows;
    }

    pub fn stall(&mut self, waited: Duration) {
        self.stalls.observe(waited.as_secs_f64(), &WAIT_BOUNDS);
    }

    pub fn upstream_error(&mut self, kind: &'static str) {
        *self.upstream_errors.entry(kind).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_by_upper_bound() {
        let mut histogram = Histogram::default();
        for seconds in [0.005, 0.01, 0.011, 400.0] {
            histogram.observe(seconds, &WAIT_BOUNDS);
        }
        assert_eq!(histogram.buckets[..3], [2, 1, 0]);
        assert_eq!((histogram.count, histogram.buckets.iter().sum::<u64>()), (4, 3));
        assert!((histogram.sum_s - 400.026).abs() < 1e-9);
    }
}
