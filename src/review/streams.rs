//! Where a command's answer goes, and how it fails.

use clap::ValueEnum;
use std::io::{self, Write};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
}

/// Where results and remarks go.
pub struct Streams<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub colour: bool,
    /// Columns of the terminal; None: no terminal, and nothing is cut.
    pub width: Option<usize>,
}

/// Why it ended without a result: the exit code and what is said.
pub enum Failure {
    Told(u8, String),
    /// Of `Streams::out`.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// A wrong argument, or a log that cannot be read.
pub(super) fn wrong(message: impl Into<String>) -> Failure {
    Failure::Told(2, message.into())
}

/// What `list` says of a statement whose end is not in the log.
pub(super) const UNFINISHED: &str = "unfinished";
