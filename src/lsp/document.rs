//! A document that the editor has open: its text, and what `check` says of it.

use crate::check::{Kept, Said, opened};
use lsp_types::{CodeDescription, Diagnostic, DiagnosticSeverity, NumberOrString, Position, Range, Uri};
use std::path::PathBuf;

/// What editors call it.
const LANGUAGES: [&str; 7] = [
    "sql",
    "pgsql",
    "postgres",
    "postgresql",
    "plpgsql",
    "psql",
    "sql-postgres",
];

pub struct Document {
    pub uri: Uri,
    pub text: String,
    pub version: i32,
    pub is_checked: bool,
    pub kept: Kept,
    path: PathBuf,
    /// Where the lines start, in bytes.
    starts: Vec<usize>,
}

impl Document {
    /// None: it is no SQL.
    pub fn of(uri: &Uri, language: &str, text: String, version: i32) -> Option<Document> {
        let path = path_of(uri.as_str());
        let by_name = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("sql"));
        let by_language = LANGUAGES.iter().any(|known| language.eq_ignore_ascii_case(known));
        if !by_name && !by_language {
            return None;
        }
        let mut document = Document {
            uri: uri.clone(),
            text: String::new(),
            version,
            is_checked: false,
            kept: Kept::default(),
            path,
            starts: Vec::new(),
        };
        document.change(text, version);
        Some(document)
    }

    pub fn change(&mut self, text: String, version: i32) {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        self.starts = [0].into_iter().chain(newlines.map(|(at, _)| at + 1)).collect();
        (self.text, self.version, self.is_checked) = (text, version, false);
    }

    pub fn check(&mut self) {
        self.kept = opened(&self.path, &self.text).unwrap_or_else(|error| Kept {
            errors: vec![error],
            ..Kept::default()
        });
        self.is_checked = true;
    }

    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let errors = self.kept.errors.iter().map(|error| Diagnostic {
            severity: Some(DiagnosticSeverity::ERROR),
            source: Some("lockkeeper".to_owned()),
            message: error.clone(),
            ..Diagnostic::default()
        });
        errors
            .chain(self.kept.said.iter().flat_map(|said| self.of_statement(said)))
            .collect()
    }

    fn of_statement(&self, said: &Said) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        if said.action == "forward" {
            return diagnostics;
        }
        for found in said.findings.iter().filter(|found| found.overridden.is_none()) {
            let severity = match found.action {
                "reject" => DiagnosticSeverity::ERROR,
                "rewrite" => DiagnosticSeverity::WARNING,
                _ => DiagnosticSeverity::INFORMATION,
            };
            let instead = match said.steps.is_empty() {
                true => found.hint.trim_end(),
                false => "",
            };
            let page = self.kept.rules_url.as_ref().and_then(|url| {
                let url = format!("{}/{}.html", url.trim_end_matches('/'), found.rule);
                crate::plan::rules::find(&found.rule)?;
                Some(CodeDescription {
                    href: url.parse().ok()?,
                })
            });
            diagnostics.push(Diagnostic {
                range: self.range(&found.span),
                severity: Some(severity),
                code: Some(NumberOrString::String(found.rule.clone())),
                code_description: page,
                source: Some("lockkeeper".to_owned()),
                message: format!("{}\n{instead}", found.message).trim_end().to_owned(),
                ..Diagnostic::default()
            });
        }
        diagnostics
    }

    pub fn range(&self, span: &std::ops::Range<usize>) -> Range {
        Range::new(self.position(span.start), self.position(span.end))
    }

    /// The protocol counts in UTF-16.
    fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1) - 1;
        let before = self.text.get(self.starts[line]..offset).unwrap_or_default();
        let (line, units) = (line as u32, before.encode_utf16().count() as u32);
        Position::new(line, units)
    }
}

/// Of `file:///a/b%20c.sql`; of what is no file its last name, in the working directory.
fn path_of(uri: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (path, is_file) = match uri.strip_prefix("file://") {
        Some(rest) => (rest.find('/').map_or("", |slash| &rest[slash..]), true),
        None => (uri.rsplit(['/', ':']).next().unwrap_or_default(), false),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    match is_file {
        true => path,
        false => std::env::current_dir().unwrap_or_default().join(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_uri_is_a_path() {
        assert_eq!(path_of("file:///a/b%20%C3%A9.sql"), Path::new("/a/b é.sql"));
        assert_eq!(path_of("file://host/a.sql"), Path::new("/a.sql"));
        assert!(path_of("untitled:Untitled-1").ends_with("Untitled-1"));
        assert_eq!(path_of("file:///100%.sql"), Path::new("/100%.sql"));
    }

    #[test]
    fn places_are_utf_16() {
        let uri: Uri = "file:///a.sql".parse().expect("a URI");
        let document = Document::of(&uri, "", "é\n😀b\r\nc".to_owned(), 1).expect("SQL");
        let check = |found: &str, line: u32, unit: u32| {
            let at = document.text.find(found).expect(found);
            assert_eq!(document.position(at), Position::new(line, unit), "{found}");
        };
        check("é", 0, 0);
        check("b", 1, 2);
        check("c", 2, 0);
        assert!(Document::of(&"file:///a.py".parse().expect("a URI"), "python", String::new(), 1).is_none());
    }
}
