//! A large UPDATE or DELETE as keyset batches: which SQL comes next, given what the last one answered. Pure.
//!
//! The session drives it: [`Batches::bounds_sql`] once, then [`Progress::next_sql`] until [`Progress::done`].

use super::facts::Relation;
use super::policy::Backfill;
use super::statement::Statement;

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
    /// Why not, as a sentence for the client, if the statement cannot be split so that each row is changed exactly once.
    pub fn new(_statement: &Statement, _relation: &Relation) -> Result<Batches, String> {
        Err("not built".into())
    }

    /// `UPDATE relation SET set_sql WHERE where_sql`, made by a plan of several steps: `where_sql` must exclude the rows done.
    pub fn backfill(_relation: &Relation, _set_sql: &str, _where_sql: &str) -> Result<Batches, String> {
        Err("not built".into())
    }

    /// Settings for the transaction of each batch (set_config(name, value, true)).
    pub fn settings(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

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

/// `UPDATE … LIMIT n` as SQL that PostgreSQL knows, or why it cannot be.
pub fn limited(_statement: &Statement, _relation: &Relation) -> Result<String, String> {
    Err("not built".into())
}

/// Whether the planner is to be asked how many rows an UPDATE or DELETE touches.
pub fn wants_estimate(_statement: &Statement, _relation: &Relation, _small_bytes: u64) -> bool {
    true
}

/// The statement's shape, for remembering what was found out about it; false if it has none (then nothing is remembered).
pub fn shape(_sql: &[u8], _out: &mut Vec<u8>) -> bool {
    false
}
