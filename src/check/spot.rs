//! A statement and where it stands, as what is found in it is told.

use super::verdict::{Found, Source};
use crate::plan::Finding;
use crate::plan::statement::Statement;
use crate::plan::words::first_token;
use std::ops::Range;

/// A statement, and where it starts in its file.
pub struct Spot<'a> {
    pub source: &'a Source,
    pub start: usize,
    pub statement: &'a Statement,
    /// No server was asked.
    pub offline: bool,
}

impl Spot<'_> {
    /// The statement without the comments before it.
    pub fn whole(&self) -> Range<usize> {
        let sql = &self.statement.sql;
        self.start + first_token(sql)..self.start + sql.trim_end().len()
    }

    pub fn found(&self, finding: Finding) -> Found {
        let span = self.start + finding.span.start..self.start + finding.span.end;
        let Finding {
            rule,
            lock,
            message,
            hint,
            overridden,
            ..
        } = finding;
        Found::new(self.source, span, rule, lock, message, hint).overridden(overridden.as_ref())
    }
}
