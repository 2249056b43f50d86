//! How far the batches of an UPDATE or DELETE have come.

use super::dialogue::Ask;
use super::pace::Pace;
use super::planning::Planning;
use crate::plan::batches::{Batches, Key, silence};
use crate::plan::policy::Backfill;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Where the work stands.
pub(super) struct BatchProgress {
    /// None: nothing is kept, since the statement may be repeated.
    pub job: Option<i64>,
    /// Changed so far, by earlier runs too.
    pub rows: u64,
    pub batches: u64,
    /// Keys that were passed, changed or not.
    pub keys: u64,
    pub last: Option<Key>,
    /// The greatest key at the start: rows beyond it were inserted later.
    pub upper: Key,
    /// The keys that are left, where they were looked for first.
    pub(super) listed: Option<VecDeque<Key>>,
    /// These go by one statement, wherever others have moved them.
    pub(super) anywhere: bool,
    /// How many keys there are to pass, as far as is known.
    pub(super) keys_all: Option<f64>,
    /// Settings that the job began with and this session has not.
    pub settings: Vec<(String, String)>,
    /// Rows and keys of earlier runs.
    pub earlier: (u64, u64),
    pub pace: Pace,
    /// Of the question where a batch ends, and of the batch.
    pub(super) ends: Planning,
    pub(super) changes: Planning,
    /// The client's own statement_timeout; zero: none.
    pub(super) statement_timeout: Duration,
    /// The role may ask who waits.
    pub(super) sees_waiters: bool,
    pub(super) started: Instant,
    /// The client of a simple query has heard what columns RETURNING has.
    pub(super) described: bool,
    /// The batch that is at work, for messages.
    pub(super) end: Option<Key>,
    /// The server has told that batches do not do what one statement does, and has undone the last.
    pub(super) unfit: bool,
}

impl BatchProgress {
    pub fn new(job: Option<i64>, upper: Key, policy: &Backfill) -> BatchProgress {
        BatchProgress {
            job,
            rows: 0,
            batches: 0,
            keys: 0,
            last: None,
            upper,
            listed: None,
            anywhere: false,
            keys_all: None,
            settings: Vec::new(),
            earlier: (0, 0),
            pace: Pace::new(policy),
            ends: Planning::default(),
            changes: Planning::default(),
            statement_timeout: Duration::ZERO,
            sees_waiters: false,
            started: Instant::now(),
            described: false,
            end: None,
            unfit: false,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        (self.rows - self.earlier.0) as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    pub(super) fn all(&self, batches: &Batches) -> Option<f64> {
        self.keys_all.or(batches.keys_estimated)
    }

    /// From 0 to 1, by keys that were passed.
    pub(super) fn done(&self, batches: &Batches) -> Option<f64> {
        let all = self.all(batches).filter(|all| *all > 0.0)?;
        Some((self.keys as f64 / all).min(1.0))
    }

    pub(super) fn left_s(&self, batches: &Batches) -> Option<f64> {
        let all = self.all(batches).filter(|all| *all > self.keys as f64)?;
        self.pace.left_s(Instant::now(), self.keys, all - self.keys as f64)
    }

    pub(super) fn done_text(&self, batches: &Batches) -> String {
        let Batches { verb, relation, .. } = batches;
        let job = self.job.map(|id| format!(" (job {id})")).unwrap_or_default();
        format!(
            "{verb} {relation}: {} rows in {} batches, {:.0} rows/s{job}",
            self.rows,
            self.batches,
            self.rate()
        )
    }

    pub(super) fn progress_text(&self, batches: &Batches) -> String {
        let mut text = self.done_text(batches);
        if let (Some(done), Some(all)) = (self.done(batches), self.all(batches)) {
            text.push_str(&format!(", about {:.0} % of {all:.0}", 100.0 * done));
        }
        if let Some(left_s) = self.left_s(batches) {
            text.push_str(&format!(", about {left_s:.0} s left"));
        }
        text
    }
}

/// How long a batch may wait for a row, and how long it may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) lock_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

/// Everything that is set for a transaction of ours, in one statement. One without limits only reads keys, as exact text.
pub(super) fn settings(batches: &Batches, course: &BatchProgress, limits: Option<Limits>) -> Ask {
    let kept = course.settings.iter().map(|(name, value)| match name.as_str() {
        // The batch itself runs with `on`, see there.
        "row_security" if course.job.is_some() && limits.is_some() => ("lockkeeper.row_security", value.clone()),
        name => (name, value.clone()),
    });
    let own = batches
        .settings()
        .iter()
        .map(|(name, value)| (*name, value.to_string()));
    let silence = Some(silence::SETTING).filter(|_| batches.silent && limits.is_some());
    let silence = silence.map(|(name, value)| (name, value.to_string()));
    let ms = |time: Duration| format!("{}ms", time.as_millis().max(1));
    let last = match limits {
        // A statement's time begins with the next one.
        Some(limits) => vec![
            ("lock_timeout", ms(limits.lock_timeout)),
            ("statement_timeout", ms(limits.statement_timeout)),
        ],
        None => vec![("extra_float_digits", "1".into())],
    };
    let all: Vec<(&str, String)> = kept.chain(own).chain(silence).chain(last).collect();
    Ask::set_local_all(&all)
}
