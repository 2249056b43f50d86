//! What became of messages of which somebody keeps account: each was delivered, or given up.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The event, and what it is about.
pub type Account = (&'static str, String);

#[derive(Default)]
pub struct Receipts {
    ended: Mutex<Vec<(Account, bool)>>,
    /// There is one more.
    pub news: Notify,
}

impl Receipts {
    pub fn add(&self, account: Account, delivered: bool) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push((account, delivered));
        drop(ended);
        self.news.notify_one();
    }

    /// True: it was delivered.
    pub fn take(&self) -> Vec<(Account, bool)> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
