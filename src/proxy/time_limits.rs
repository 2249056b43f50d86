//! How long the client lets a statement take.

use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// How long the client lets a statement take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// For a lock.
    pub(super) lock: Option<Duration>,
    /// For the whole.
    pub(super) until: Option<Instant>,
}

impl Limits {
    pub fn without_end(&mut self) {
        self.until = None;
    }

    /// As the server says it.
    pub fn exceeded(&self) -> Option<Report> {
        self.until
            .is_some_and(|until| Instant::now() >= until)
            .then(|| Report::error("57014", "canceling statement due to statement timeout"))
    }

    pub(super) fn left(&self) -> Duration {
        self.until
            .map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    /// For statement_timeout, where 0 is no end.
    pub(super) fn left_ms(&self) -> u128 {
        self.until.map_or(0, |_| self.left().as_millis().max(1))
    }

    pub(super) fn lock_ms(&self) -> u128 {
        self.lock.map_or(0, |lock| lock.as_millis())
    }
}

/// lock_not_available, deadlock_detected, serialization_failure: it may work in a moment.
pub(super) fn is_lock_trouble(report: &Report) -> bool {
    matches!(report.get(b'C'), Some(b"55P03" | b"40P01" | b"40001"))
}

pub(super) fn cancelled() -> Report {
    Report::error("57014", "canceling statement due to user request")
}
