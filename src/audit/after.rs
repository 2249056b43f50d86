//! What a plan left and what others noticed of it: the `after` part of an event. What was not measured is null, never zero.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct After {
    /// The plan's tables as they were when it began.
    pub tables: Vec<Table>,
    /// Null: there was no control connection, or the plan was shorter than one look.
    pub waits: Option<Waits>,
    /// INVALID indexes of the plan's tables; empty: there is none. Null: it could not be asked.
    pub invalid: Option<Vec<String>>,
    /// Constraints of the plan's tables that are NOT VALID.
    pub not_valid: Option<Vec<String>>,
    /// Statements that name the plan's tables, as they passed through this proxy: those timed most often.
    pub statements: Vec<ShapeTimes>,
    /// How long "after" was watched; null in the statement's own event, which is written at its end.
    pub watched_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Table {
    /// schema.name
    pub name: String,
    /// With its partitions, without indexes.
    pub bytes: Option<u64>,
    /// As the planner knows them; null where the table was never analyzed.
    pub rows: Option<f64>,
}

/// Other sessions' waits for the plan's tables, or behind its locks, as looks at pg_locks every few milliseconds found
/// them: shorter ones may be missing, and each took at least as long as told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waits {
    /// Looks while the plan ran.
    pub looks: u64,
    /// All waits on the plan's tables.
    pub waits: u64,
    pub longest_ms: f64,
    /// Of them, those behind the plan's own locks.
    pub behind_plan: u64,
    pub longest_behind_plan_ms: f64,
}

/// One statement, its values replaced by `?`, and how long it took in the five minutes before the plan, while it ran, and
/// after it. Null: it was not seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShapeTimes {
    pub statement: String,
    pub before: Option<Times>,
    pub during: Option<Times>,
    pub after: Option<Times>,
}

/// Of a sample: the bounds of the buckets that the percentiles fall into, at most a quarter too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    pub timed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}
