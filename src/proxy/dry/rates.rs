//! How fast this server is, measured by the steps that plans have run on it: what a dry run tells of the time. Pure but for its lock.

use crate::audit::StepRecord;
use crate::plan::catalog::Relation;
use crate::plan::dry::Work;
use crate::plan::{Mode, Run};
use std::sync::{Mutex, PoisonError};

/// Of less the time is mostly that of beginning and ending.
const BYTES_MIN: u64 = 4 << 20;
const ROWS_MIN: u64 = 1_000;
/// How much of what was measured before still counts, beside a new step.
const KEPT: f64 = 0.5;

/// One rate: so much work in so many seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    amount: f64,
    seconds: f64,
}

impl Measured {
    fn add(&mut self, amount: u64, seconds: f64) {
        self.amount = self.amount * KEPT + amount as f64;
        self.seconds = self.seconds * KEPT + seconds;
    }

    fn seconds(&self, amount: u64) -> Option<f64> {
        (self.amount > 0.0).then(|| amount as f64 * self.seconds / self.amount)
    }
}

#[derive(Default)]
pub struct Rates(Mutex<[Measured; 3]>);

/// What is measured, where there is enough of it, and in which place it is kept.
fn measured(work: Work) -> Option<(usize, u64)> {
    match work {
        Work::Scans(bytes) => (bytes >= BYTES_MIN).then_some((0, bytes)),
        Work::Builds(bytes) => (bytes >= BYTES_MIN).then_some((1, bytes)),
        Work::Changes(rows) => (rows >= ROWS_MIN).then_some((2, rows)),
        Work::Unknown | Work::Moment => None,
    }
}

impl Rates {
    fn learn(&self, work: Work, seconds: f64) {
        if let Some((place, amount)) = measured(work)
            && seconds > 0.0
        {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)[place].add(amount, seconds);
        }
    }

    /// Of a plan that was carried out.
    pub fn learn_plan(&self, run: &Run, relations: &[Relation], records: &[StepRecord]) {
        for (step, record) in run
            .steps
            .iter()
            .zip(records)
            .filter(|(_, record)| record.outcome == "done")
        {
            let bytes = relations
                .iter()
                .find(|r| step.relation == r.name || step.relation == format!("{}.{}", r.schema, r.name))
                .map_or(0, |relation| relation.bytes);
            let work = match step.mode {
                Mode::Long { .. } => Work::Scans(bytes),
                Mode::Concurrent => Work::Builds(bytes),
                Mode::Batches(_) => Work::Changes(record.rows.unwrap_or(0)),
                Mode::Brief { .. } | Mode::Rewrite(_) | Mode::Rows => continue,
            };
            let drops = step.sql.to_ascii_uppercase().contains("DROP INDEX");
            if !drops {
                self.learn(work, (record.duration_ms - record.lock_wait_ms).max(0.0) / 1e3);
            }
        }
    }

    /// In words: how long such work takes here.
    pub fn told(&self, work: Work) -> String {
        let of = |bytes: u64| format!("of a table of {}", size(bytes));
        let known = measured(work)
            .and_then(|(place, amount)| self.0.lock().unwrap_or_else(PoisonError::into_inner)[place].seconds(amount));
        let unmeasured = "nothing like it was measured on this server since Lockkeeper started";
        match (work, known) {
            (_, Some(seconds)) => format!("about {}, as measured on this server", time(seconds)),
            (Work::Moment, _) => "a moment, once it has its lock".into(),
            (Work::Unknown, _) => "not known".into(),
            (Work::Scans(bytes) | Work::Builds(bytes), None) if bytes < BYTES_MIN => "a moment".into(),
            (Work::Changes(rows), None) if rows < ROWS_MIN => "a moment".into(),
            (Work::Scans(bytes), None) => format!("not known: one reading {}; {unmeasured}", of(bytes)),
            (Work::Builds(bytes), None) => format!("not known: two readings {} and a sort; {unmeasured}", of(bytes)),
            (Work::Changes(rows), None) => format!("not known: {rows} rows; {unmeasured}"),
        }
    }
}

/// `850 ms`, `3 s`, `3 min 59 s`, `2 h 5 min`: rounded first, so that there is never a `60 s`.
pub fn time(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.9995 {
        return format!("{:.0} ms", seconds * 1e3);
    }
    let whole = seconds.round() as u64;
    match whole {
        ..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{} kB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MB", bytes >> 20),
        _ => format!("{:.1} GB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_tells_of_more() {
        let rates = Rates::default();
        let gigabytes = |n: u64| Work::Scans(n << 30);
        assert!(
            rates
                .told(gigabytes(2))
                .starts_with("not known: one reading of a table of 2.0 GB")
        );
        // Too little to measure by.
        rates.learn(Work::Scans(1 << 10), 10.0);
        assert!(rates.told(gigabytes(2)).starts_with("not known"));
        rates.learn(gigabytes(1), 100.0);
        assert_eq!(rates.told(gigabytes(2)), "about 3 min 20 s, as measured on this server");
        assert_eq!(rates.told(Work::Moment), "a moment, once it has its lock");
        assert_eq!(rates.told(Work::Changes(12)), "a moment");
    }

    #[test]
    fn times_are_rounded_before_they_are_divided() {
        for (seconds, expect) in [
            (-0.04, "0 ms"),
            (0.25, "250 ms"),
            (0.9999, "1 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (239.7, "4 min 0 s"),
            (7_500.0, "2 h 5 min"),
        ] {
            assert_eq!(time(seconds), expect, "{seconds}");
        }
    }
}
