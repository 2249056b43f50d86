//! A plan stopped, paused and resumed by others than its client: from the page, the console and the command line.
//!
//! Whoever steers only leaves word here; the session that carries the plan out reads it between two tries, batches or steps. To cancel is
//! the exception: the server is told to end what runs, as by the client's own cancel request.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Reins {
    /// Ends what the session does at this moment.
    pub(super) stop: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Cancel requests that are on their way to the server.
    pub underway: Arc<AtomicUsize>,
    word: Mutex<Word>,
    /// For how long plans of this session were paused.
    paused_us: AtomicU64,
}

/// Who has asked for what, of the plan that runs now.
#[derive(Debug, Default)]
pub(super) struct Word {
    /// The plan's id. None: it has ended.
    pub plan: Option<String>,
    pub paused_by: Option<String>,
    pub cancelled_by: Option<String>,
    /// It runs within the client's transaction, whose locks would be held for as long as it is paused.
    pub in_transaction: bool,
}

impl std::fmt::Debug for Reins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reins")
            .field("word", &self.word)
            .finish_non_exhaustive()
    }
}

impl Reins {
    pub(super) fn word(&self) -> MutexGuard<'_, Word> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once for a session.
    pub fn stops_by(&self, stop: impl Fn() + Send + Sync + 'static) {
        let _ = self.stop.set(Box::new(stop));
    }

    pub fn begin(&self, plan: &str, in_transaction: bool) {
        *self.word() = Word {
            plan: Some(plan.to_owned()),
            in_transaction,
            ..Word::default()
        };
    }

    /// Nobody steers it any more. True: a cancel request may still be on its way.
    pub fn end(&self) -> bool {
        self.word().plan = None;
        self.is_underway()
    }

    pub fn is_underway(&self) -> bool {
        self.underway.load(Ordering::SeqCst) > 0
    }

    pub fn paused_by(&self) -> Option<String> {
        self.word().paused_by.clone()
    }

    pub fn was_paused(&self, time: Duration) {
        self.paused_us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// In all; what has passed meanwhile is no wait for a lock.
    pub fn paused(&self) -> Duration {
        Duration::from_micros(self.paused_us.load(Ordering::Relaxed))
    }

    pub fn cancelled_by(&self) -> Option<String> {
        self.word().cancelled_by.clone()
    }
}
