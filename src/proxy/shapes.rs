//! UPDATE and DELETE shapes that were found harmless a moment ago, so that point updates are not asked about again.
//!
//! Kept by session, since search_path and temporary tables are the session's; forgotten after a minute, since keys can be dropped.

use crate::plan::batches;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

const KEEP: Duration = Duration::from_secs(60);
const SHAPES_MAX: usize = 1_000;

#[derive(Default)]
pub struct Shapes {
    until: HashMap<u64, Instant>,
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

    pub fn learn(&mut self, text: &[u8]) {
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
        batches::shape(text, &mut self.scratch).then(|| self.hasher.hash_one(&self.scratch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
