//! Work on long texts: away from the worker, whose other sessions would wait, and within a bound over all sessions.
//!
//! A share of that bound is taken by [`weighing`] alone and moves into the work itself, so that nobody can hold one while the server runs
//! a statement, while a lock is waited for, or while a client does not read.

use crate::plan::cost::words_of;
use crate::plan::statement::Statement;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What long texts that are read or planned at the same time take in all sessions together, as [`weight`] has it. One that is larger than
/// all of it goes alone.
const WEIGHT_MAX: usize = 1 << 30;
const UNIT: usize = 64 << 10;
/// So that the small ones among them do not stand behind the large.
const LANES: [(usize, usize); 3] = [(8 << 20, 4), (64 << 20, 4), (usize::MAX, 2)];
static SHARES: [Semaphore; LANES.len()] = [lane(0), lane(1), lane(2)];

const fn lane(n: usize) -> Semaphore {
    Semaphore::const_new(WEIGHT_MAX / LANES[n].1 / UNIT)
}

/// A tree takes 608 bytes for each of its nodes, and is there twice while a change of it is proven; a string is there many times over while its
/// statement is read.
const OF_WORD: usize = 1_024;
const OF_BYTE: usize = 18;

/// What reading a text and walking its tree may take, in bytes, be it long words or many short ones. What stands within quotes counts as what
/// stands outside: it may be code.
fn weight(bytes: usize, words: usize) -> usize {
    bytes * OF_BYTE + words * OF_WORD
}

/// Does work that is about that text.
pub(super) async fn apart<T: Send + 'static>(text: &[u8], work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    weighing(weight(text.len(), words_of(text)), work).await
}

/// Does work that is about that statement.
pub(super) async fn apart_of<T: Send + 'static>(
    statement: &Arc<Statement>,
    work: impl FnOnce(&Statement) -> T + Send + 'static,
) -> Option<T> {
    let shared = Arc::clone(statement);
    weighing(weight(statement.sql.len(), statement.words), move || work(&shared)).await
}

/// None: it has panicked, or the process ends.
async fn weighing<T: Send + 'static>(weight: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let lane = LANES.iter().position(|(below, _)| weight < *below).unwrap_or_default();
    let units = (weight / UNIT + 1).min(WEIGHT_MAX / LANES[lane].1 / UNIT);
    let share = SHARES[lane].acquire_many(units as u32).await.ok()?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(share);
        done
    });
    done.await.ok()
}
