//! Lines of the proxy's own log that anybody can cause at will: one of a kind in ten seconds, with how many were left out.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const EVERY_MS: u64 = 10_000;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One kind of line.
pub struct Sparing {
    due_ms: AtomicU64,
    left_out: AtomicU64,
}

impl Sparing {
    pub const fn new() -> Sparing {
        Sparing {
            due_ms: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Some: the line is to be written, and so many were not since the last.
    pub fn admits(&self) -> Option<u64> {
        self.admits_at(STARTED.elapsed().as_millis() as u64)
    }

    fn admits_at(&self, now_ms: u64) -> Option<u64> {
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now_ms + EVERY_MS;
        let first = now_ms >= due && {
            let taken = self
                .due_ms
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        };
        if !first {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_seconds_tells_of_the_others() {
        let kind = Sparing::new();
        assert_eq!(kind.admits_at(0), Some(0));
        assert_eq!((1..=50).filter_map(|ms| kind.admits_at(ms)).count(), 0);
        assert_eq!(kind.admits_at(10_000), Some(50));
        assert_eq!(kind.admits_at(30_000), Some(0));
    }
}
