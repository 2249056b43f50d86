//! A large UPDATE or DELETE as keyset batches: which SQL comes next, given what the last one answered. Pure.
//!
//! The session drives it: [`Batches::bounds_sql`] once, then [`Progress::next_sql`] until [`Progress::done`].

use super::policy::Backfill;

/// What does not change between batches.
#[derive(Clone, Debug)]
pub struct Batches {
    /// `UPDATE` or `DELETE`, for the command tag.
    pub verb: &'static str,
    pub relation: String,
    pub estimated_rows: Option<f64>,
}

/// Values of the key columns as text, as the server printed them.
pub type Key = Vec<String>;

#[derive(Clone, Debug)]
pub struct Progress {
    pub rows: u64,
    pub batches: u64,
    pub last: Option<Key>,
}

impl Batches {
    /// One row: the greatest key that exists now (one text column per key column); no row if the table is empty. Takes the
    /// statement's own parameters in no form.
    pub fn bounds_sql(&self) -> String {
        String::new()
    }

    /// The start: `upper` is the row that bounds_sql gave, None for an empty table.
    pub fn start(&self, _upper: Option<Key>) -> Progress {
        Progress {
            rows: 0,
            batches: 0,
            last: None,
        }
    }

    /// The next batch, or None at the end. Uses the client's parameters `$1…` exactly as the client's statement does, and none else.
    /// Answers with one row: rows changed (bigint), rows taken (bigint), then the last key, a text column per key column (null if none).
    pub fn next_sql(&self, _progress: &Progress, _backfill: &Backfill) -> Option<String> {
        None
    }

    /// Takes in that row.
    pub fn took(&self, _progress: &mut Progress, _changed: u64, _taken: u64, _last: Option<Key>) {}
}
