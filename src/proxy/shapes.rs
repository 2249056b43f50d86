//! UPDATE and DELETE shapes that were found harmless a moment ago, so that point updates are not asked about again.
//!
//! Kept by session, since search_path and temporary tables are the session's, and forgotten when these may have changed;
//! forgotten after a minute, since keys can be dropped.

use crate::plan::batches;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

const KEEP: Duration = Duration::from_secs(60);
const SHAPES_MAX: usize = 1_000;

#[derive(Default)]
pub struct Shapes {
    until: HashMap<u64, Instant>,
    /// Names may have another meaning until the transaction ends: nothing is learned before then.
    moved: bool,
    hasher: RandomState,
    scratch: Vec<u8>,
}

impl Shapes {
    /// This text was found harmless in this shape.
    pub fn passes(&mut self, text: &[u8]) -> bool {
        self.until(text).is_some()
    }

    /// The same, and until when that holds.
    pub fn until(&mut self, text: &[u8]) -> Option<Instant> {
        if self.until.is_empty() {
            return None;
        }
        let hash = self.hash(text)?;
        self.until.get(&hash).copied().filter(|until| Instant::now() < *until)
    }

    /// From now on, and once more at the end of the transaction (SET LOCAL), a name may mean another table.
    pub fn names_moved(&mut self) {
        self.until.clear();
        self.moved = true;
    }

    pub fn transaction_ended(&mut self) {
        self.moved = false;
    }

    pub fn learn(&mut self, text: &[u8]) {
        if self.moved {
            return;
        }
        let Some(hash) = self.hash(text) else { return };
        if self.until.len() >= SHAPES_MAX {
            self.until.clear();
        }
        self.until.insert(hash, Instant::now() + KEEP);
    }

    /// Of the statement alone: the semicolon that most clients end a simple query with is no part of it.
    fn hash(&mut self, text: &[u8]) -> Option<u64> {
        let mut text = text.trim_ascii();
        while let Some(before) = text.strip_suffix(b";") {
            text = before.trim_ascii_end();
        }
        self.scratch.clear();
        batches::shape::shape(text, &mut self.scratch).then(|| self.hasher.hash_one(&self.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_forgotten_when_names_move() {
        let mut shapes = Shapes::default();
        let update = b"UPDATE t SET v = 'a' WHERE id = 1";
        shapes.learn(update);
        shapes.names_moved();
        assert!(!shapes.passes(update));
        shapes.learn(update);
        assert!(!shapes.passes(update));
        shapes.transaction_ended();
        shapes.learn(update);
        assert!(shapes.passes(update));
    }

    #[test]
    fn a_shape_is_known_with_other_literals_and_with_a_semicolon() {
        let mut shapes = Shapes::default();
        shapes.learn(b"UPDATE t SET v = 'a' WHERE id = 1");
        assert!(shapes.passes(b"UPDATE t SET v = 'b' WHERE id = 22"));
        assert!(shapes.passes(b"  UPDATE t  SET v = 'b' WHERE id = 22 ; ;\n"));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b'"));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b' WHERE id = 22; DROP TABLE t"));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b' WHERE id = 22 -- ;"));
    }
}
