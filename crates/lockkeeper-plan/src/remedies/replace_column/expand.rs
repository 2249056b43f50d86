//! What an expansion is about: the table, the column that goes and the one that comes.

use super::super::names;
use crate::catalog::{Column, Relation};
use crate::subject::{Subject, Table};

pub(crate) enum Change<'a> {
    Type {
        /// The type and its COLLATE as the client wrote them.
        type_sql: &'a str,
        using: Option<&'a str>,
    },
    /// The new name.
    Rename(&'a str),
}

/// One column that is to be replaced by another.
pub(crate) struct Expand<'a> {
    pub(crate) subject: &'a Subject<'a>,
    pub(crate) table: &'a Table<'a>,
    pub(crate) relation: &'a Relation,
    pub(crate) column: &'a Column,
    pub(crate) change: Change<'a>,
    /// What is added. A changed type takes over its predecessor's name in the end.
    pub(crate) new: String,
    /// The type of `new`, with COLLATE.
    pub(crate) type_sql: String,
    /// The trigger's name, and its function's.
    pub(crate) helper: String,
    /// What tells this statement's marks from others'.
    pub(crate) text: String,
}

impl Expand<'_> {
    pub(crate) fn renames(&self) -> bool {
        matches!(self.change, Change::Rename(_))
    }

    /// What an old name becomes while both exist.
    pub(crate) fn with(name: &str, label: &str) -> String {
        names::object(name, label, "")
    }
}
