//! What is found of a statement and where, as every format tells it.

use crate::plan::Overridden;
use crate::plan::dry::Row;
use crate::plan::lock::LockMode;
use serde::Serialize;
use std::ops::Range;

/// A text that is checked, and where its lines start.
pub struct Source {
    pub name: String,
    pub text: String,
    starts: Vec<usize>,
}

/// Counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// What is said of one statement; the JSON line.
#[derive(Serialize)]
pub struct Verdict<'a> {
    pub file: &'a str,
    pub line: usize,
    pub statement: &'a str,
    /// forward | warn | rewrite | reject
    pub action: &'static str,
    pub findings: Vec<Found>,
    pub steps: Vec<StepLine>,
    /// Where --plan asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanLine>,
}

#[derive(Clone, Serialize)]
pub struct Found {
    pub rule: String,
    /// Its own verdict: the statement's, or less. Set when it is told.
    pub action: &'static str,
    /// The lock and what it blocks, as the manual says.
    pub lock: &'static str,
    #[serde(skip)]
    pub blocks: &'static str,
    pub message: String,
    pub hint: String,
    pub start: Place,
    pub end: Place,
    /// In bytes of the file.
    #[serde(skip)]
    pub span: Range<usize>,
    pub overridden: Option<String>,
    pub overridden_by: Option<String>,
}

#[derive(Serialize)]
pub struct StepLine {
    pub label: String,
    pub sql: String,
}

/// What the proxy would do in this place, as a dry run answers.
#[derive(Serialize)]
pub struct PlanLine {
    pub step: String,
    pub action: String,
    pub sql: Option<String>,
    pub lock: Option<String>,
    pub blocks: Option<String>,
    pub rows: Option<u64>,
    pub runs: &'static str,
    pub rollback: Option<String>,
    pub why: Option<String>,
}

impl From<Row> for PlanLine {
    fn from(row: Row) -> PlanLine {
        let (lock, runs) = (row.locks(), row.runs());
        PlanLine {
            lock,
            runs,
            step: row.step,
            action: row.action,
            sql: row.sql,
            blocks: Some(row.blocks).filter(|blocks| !blocks.is_empty()),
            rows: row.rows,
            rollback: row.rollback,
            why: row.why,
        }
    }
}

/// Something that is no statement's: a file that cannot be read, a line that is skipped.
pub struct Remark {
    pub file: Option<String>,
    pub line: Option<usize>,
    pub message: String,
    /// The input could not be checked.
    pub is_error: bool,
}

impl Source {
    pub fn new(name: String, text: String) -> Source {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = [0].into_iter().chain(newlines.map(|(at, _)| at + 1)).collect();
        Source { name, text, starts }
    }

    pub fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Place {
            line,
            column: before.chars().count() + 1,
        }
    }

    /// Without its end.
    pub fn line(&self, line: usize) -> &str {
        let start = self.starts.get(line - 1).copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }

    /// Where a line starts, in bytes.
    pub fn start_of(&self, line: usize) -> usize {
        self.starts.get(line - 1).copied().unwrap_or(self.text.len())
    }
}

impl Found {
    pub fn new(
        source: &Source,
        span: Range<usize>,
        rule: &str,
        lock: LockMode,
        message: String,
        hint: String,
    ) -> Found {
        Found {
            rule: rule.to_string(),
            action: "",
            lock: lock.name(),
            blocks: lock.blocks(),
            message,
            hint,
            start: source.place(span.start),
            end: source.place(span.end),
            span,
            overridden: None,
            overridden_by: None,
        }
    }

    pub fn overridden(self, overridden: Option<&Overridden>) -> Found {
        Found {
            overridden: overridden.map(|overridden| overridden.reason.clone()),
            overridden_by: overridden.map(|overridden| overridden.by.clone()),
            ..self
        }
    }
}

impl Remark {
    pub fn note(file: &str, line: Option<usize>, message: String) -> Remark {
        Remark {
            file: Some(file.to_string()).filter(|file| !file.is_empty()),
            line,
            message,
            is_error: false,
        }
    }

    /// `message` says which input it is.
    pub fn error(message: String) -> Remark {
        Remark {
            file: None,
            line: None,
            message,
            is_error: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters() {
        let source = Source::new("x".into(), "a\r\n\tüb\n\nlast".into());
        let check = |offset: usize, line: usize, column: usize| {
            assert_eq!(source.place(offset), Place { line, column }, "{offset}");
        };
        check(0, 1, 1);
        check(3, 2, 1);
        check(source.text.find('b').unwrap_or_default(), 2, 3);
        check(source.text.len(), 4, 5);
        assert_eq!(
            (source.line(1), source.line(2), source.line(3), source.line(9)),
            ("a", "\tüb", "", "")
        );
    }
}
