//! Where the audit log goes.

use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Where and how the log is written.
#[derive(Clone, Debug)]
pub struct Sink {
    pub path: PathBuf,
    pub fsync: Fsync,
    /// A file that has reached this size is moved away before the next line.
    pub rotate_bytes: Option<u64>,
    /// The same of a file whose first line is so old.
    pub rotate_after: Option<Duration>,
}

/// When lines are brought to the disk, where a power cut cannot take them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// When the system does so by itself.
    None,
    /// Within a second.
    #[default]
    Interval,
    /// Before the statement goes on.
    Each,
}
