//! What a transaction, or an earlier one, has left for later: the rows of `lockkeeper.job` of deferred work, and what a statement has dropped
//! that the next one may bring back.

use crate::lock::LockMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the error of a job begins that somebody has paused; others were interrupted.
pub(super) const PAUSED_BY: &str = "paused by ";

/// The column `details` of a deferred job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// It is an UPDATE or DELETE in batches, and a job of that kind.
    pub write: bool,
    pub steps: Vec<Stored>,
    /// How many of them are done: the column `keys_done`, moved in the transaction of each step that has one.
    #[serde(skip_serializing)]
    pub done: usize,
    pub schema: String,
    pub table: String,
    pub brings: Vec<String>,
    pub removes: Vec<String>,
}

/// A step as the row has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    pub(super) label: String,
    pub(super) sql: String,
    pub(super) how: How,
    #[serde(default)]
    pub(super) then: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guard: Option<String>,
    pub(super) lock: LockMode,
    pub(super) relation: String,
    pub(super) done_when: Option<String>,
    /// Of an unfinished concurrent build: when there is something to remove, how, and what is told.
    pub(super) cleanup: Option<(String, String, String)>,
    pub(super) null_message: Option<String>,
    pub(super) rollback: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum How {
    Brief,
    Long,
    Concurrent,
}

/// An unfinished deferred job of the role.
#[derive(Clone, Debug, Deserialize)]
pub struct Waiting {
    pub id: i64,
    pub statement: String,
    pub identity: String,
    pub state: String,
    pub error: Option<String>,
    pub relation: u32,
    /// The table is there still.
    pub there: bool,
    /// As the last VACUUM or ANALYZE left them: to ask for more would wait for the table's lock.
    pub bytes: u64,
    pub rows: Option<f64>,
    pub runs: i32,
    pub settings: BTreeMap<String, String>,
    pub details: Details,
    /// Written by the transaction that is still open.
    #[serde(skip)]
    pub pending: bool,
}

impl Waiting {
    /// All of it that is carried out. A row that is like the one that was written is that one.
    pub fn content(&self) -> String {
        serde_json::to_string(&(&self.statement, self.relation, &self.settings, &self.details)).unwrap_or_default()
    }

    /// Somebody has paused it: only who says so goes on with it.
    pub fn is_paused(&self) -> bool {
        let by_somebody = self.error.as_deref().is_some_and(|error| error.starts_with(PAUSED_BY));
        self.state == "paused" && by_somebody
    }
}

/// What the statement right before has dropped.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The table, and how it is called in SQL.
    pub relation: u32,
    pub table: String,
    /// The client's text.
    pub sql: String,
    /// The constraint, or the index itself.
    pub(super) name: String,
    pub(super) index: String,
    /// Does it again, behind the build.
    pub(super) again: String,
}
