//! What the statements that pass through touch: each shape is read once, away from the sessions, and kept while it is in use.
//!
//! The forwarding path only hands a shape's first text over, and never waits: where the queue is full, the shape is read at a
//! later appearance. Values are not kept. Start at [`Usage`].

pub mod holds;

use crate::plan::grammar::{STACK_BYTES, this_thread_is_deep};
use crate::plan::uses;
use crate::plan::uses::touched::Uses;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Texts that wait to be read.
const QUEUE_MAX: usize = 256;

/// What shapes touch, by their number in [`crate::live::traffic`].
#[derive(Default)]
pub struct Usage {
    queue: OnceLock<Option<SyncSender<Text>>>,
    shared: Arc<Read>,
}

#[derive(Default)]
struct Read {
    shapes: Mutex<HashMap<u64, Arc<Uses>>>,
    counts: Counts,
    differed: AtomicBool,
}

/// Since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    /// Shapes that were read by at least one of the readers.
    pub read: AtomicU64,
    /// By neither.
    pub unread: AtomicU64,
    /// Where one has found what the other has not.
    pub differing: AtomicU64,
}

struct Text {
    shape: u64,
    text: Box<[u8]>,
}

impl Usage {
    /// A shape that is seen for the first time. False: there are too many at the moment.
    pub fn is_new(&self, shape: u64, text: &[u8]) -> bool {
        let queue = self.queue.get_or_init(|| begin(&self.shared));
        let text = Text {
            shape,
            text: text.into(),
        };
        // Without a thread nothing is known, and all else goes on.
        queue.as_ref().is_none_or(|queue| queue.try_send(text).is_ok())
    }

    /// Shapes that are not seen any more.
    pub fn forget(&self, shape: u64) {
        lock(&self.shared.shapes).remove(&shape);
    }

    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// By which readers, and how many.
    pub fn counted(&self) -> [(&'static str, u64); 3] {
        let Counts {
            read,
            unread,
            differing,
        } = &self.shared.counts;
        [("either", read), ("none", unread), ("differing", differing)]
            .map(|(readers, count)| (readers, count.load(Ordering::Relaxed)))
    }

    /// Shapes that touch one of these relations, each given with its schema.
    pub fn touching(&self, relations: &[(String, String)]) -> Vec<u64> {
        let shapes = lock(&self.shared.shapes);
        let touches = |uses: &Uses| {
            relations
                .iter()
                .any(|(schema, name)| uses.of(schema, name).next().is_some())
        };
        shapes
            .iter()
            .filter(|(_, uses)| touches(uses))
            .map(|(shape, _)| *shape)
            .collect()
    }
}

/// None: the system gives no thread.
fn begin(shared: &Arc<Read>) -> Option<SyncSender<Text>> {
    let (queue, texts) = sync_channel(QUEUE_MAX);
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("usage".into()).stack_size(STACK_BYTES);
    let begun = thread.spawn(move || shared.read_all(&texts));
    begun
        .inspect_err(|error| tracing::error!(%error, "no thread to read statements"))
        .ok()?;
    Some(queue)
}

impl Read {
    fn read_all(&self, texts: &Receiver<Text>) {
        this_thread_is_deep();
        while let Ok(text) = texts.recv() {
            let sql = String::from_utf8_lossy(&text.text);
            let read = uses::read(&sql);
            if read.differ {
                self.counts.differing.fetch_add(1, Ordering::Relaxed);
                if !self.differed.swap(true, Ordering::Relaxed) {
                    // Once: the metric counts the others.
                    let (grammar, second) = (read.only_grammar.join(" "), read.only_second.join(" "));
                    tracing::info!(
                        grammar,
                        second,
                        "the two readers of statements differ; a use that either finds counts"
                    );
                }
            }
            match read.uses {
                Some(uses) => {
                    self.counts.read.fetch_add(1, Ordering::Relaxed);
                    lock(&self.shapes).insert(text.shape, Arc::new(uses));
                }
                None => drop(self.counts.unread.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_aside_and_found_by_what_they_touch() {
        let usage = Usage::default();
        assert!(usage.is_new(1, b"SELECT v FROM users"));
        assert!(usage.is_new(2, b"SELECT v FROM other.users"));
        assert!(usage.is_new(3, b"SELEC"));
        while usage.counts().unread.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        let touching = |schema: &str| {
            let mut shapes = usage.touching(&[(schema.to_owned(), "users".to_owned())]);
            shapes.sort_unstable();
            shapes
        };
        assert_eq!((touching("public"), touching("other")), (vec![1], vec![1, 2]));
        usage.forget(1);
        assert_eq!(touching("public"), Vec::<u64>::new());
    }
}
