//! What is told of the statements, in the format that was asked for. Start at [`Report::tell`].

use super::formats::{self, CodeQuality, Markdown};
use super::verdict::{Found, Remark, Source, Verdict};
use super::{github, sarif, text};
use clap::ValueEnum;
use std::io;
use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: the place underlined, and what to do instead
    Text,
    /// For programs: one object per statement and line
    Json,
    /// For code scanning: one SARIF 2.1.0 log
    Sarif,
    /// Annotations of a GitHub workflow
    Github,
    /// A code quality report of GitLab: one JSON array
    Gitlab,
    /// file:line:column: error: …, as editors read compilers
    Gcc,
    /// One table for a comment on a pull request
    Markdown,
}

/// From which verdict on the exit code is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    Reject,
    Rewrite,
    Warn,
}

/// How it is told.
pub struct Told<'a> {
    pub format: Format,
    pub fail_on: FailOn,
    /// What was assumed of the server, if nobody says which it is.
    pub assumed: Option<&'static str>,
    pub rules_url: Option<&'a str>,
}

/// Where the results and the remarks go.
pub struct Streams<'a> {
    pub stdin: &'a mut dyn io::Read,
    pub out: &'a mut dyn io::Write,
    pub err: &'a mut dyn io::Write,
    pub colour: bool,
}

/// What is said of one statement, with its places, for who asks within the program.
pub struct Said {
    /// The statement without its semicolon. None: it is not in the text as it was read.
    pub statement: Option<Range<usize>>,
    pub action: &'static str,
    pub findings: Vec<Found>,
    /// The safe sequence.
    pub steps: Vec<String>,
}

#[derive(Default)]
pub struct Kept {
    pub said: Vec<Said>,
    /// Why the text cannot be checked as its tool would run it.
    pub errors: Vec<String>,
    /// Where the rules' pages are on the web.
    pub rules_url: Option<String>,
}

#[derive(Default)]
pub struct Counts {
    pub statements: u64,
    pub files: u64,
    pub warned: u64,
    pub rewritten: u64,
    pub rejected: u64,
    pub overridden: u64,
    pub unreadable: u64,
}

pub struct Report<'a, 'b> {
    pub counts: Counts,
    format: Format,
    fail_on: FailOn,
    assumed: Option<&'static str>,
    streams: &'a mut Streams<'b>,
    sarif: sarif::Log,
    quality: CodeQuality,
    markdown: Markdown,
    /// For a caller that wants the places.
    pub kept: Option<Kept>,
}

impl Kept {
    fn keep(&mut self, source: &Source, verdict: &Verdict) {
        let from = source.start_of(verdict.line);
        let rest = source.text.get(from..).unwrap_or_default();
        let start = rest.find(verdict.statement).map(|at| from + at);
        self.said.push(Said {
            statement: start.map(|start| start..start + verdict.statement.len()),
            action: verdict.action,
            findings: verdict.findings.clone(),
            steps: verdict.steps.iter().map(|step| step.sql.clone()).collect(),
        });
    }
}

impl Counts {
    pub fn exit_code(&self, fail_on: FailOn) -> u8 {
        let failed = match fail_on {
            FailOn::Reject => self.rejected,
            FailOn::Rewrite => self.rewritten + self.rejected,
            FailOn::Warn => self.warned + self.rewritten + self.rejected,
        };
        match self.unreadable {
            0 => u8::from(failed > 0),
            _ => 2,
        }
    }

    fn summary(&self) -> String {
        let many = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let Counts {
            warned,
            rewritten,
            rejected,
            ..
        } = self;
        let forwarded = self.statements.saturating_sub(warned + rewritten + rejected);
        let mut summary = format!(
            "{} in {}: {forwarded} forwarded, {warned} warned of, {rewritten} rewritten, {rejected} rejected",
            many(self.statements, "statement"),
            many(self.files, "file"),
        );
        if self.overridden > 0 {
            summary.push_str(&format!("; {} overridden", many(self.overridden, "finding")));
        }
        if self.unreadable > 0 {
            summary.push_str(&format!("; {} could not be read", many(self.unreadable, "input")));
        }
        summary
    }
}

impl<'a, 'b> Report<'a, 'b> {
    pub fn new(told: Told, streams: &'a mut Streams<'b>) -> Report<'a, 'b> {
        Report {
            counts: Counts::default(),
            format: told.format,
            fail_on: told.fail_on,
            assumed: told.assumed,
            streams,
            sarif: sarif::Log::new(told.rules_url),
            quality: CodeQuality::default(),
            markdown: Markdown::default(),
            kept: None,
        }
    }

    fn summary(&self) -> String {
        let counts = self.counts.summary();
        match self.assumed {
            Some(assumed) => format!("{counts} ({assumed})"),
            None => counts,
        }
    }

    pub fn stdin(&mut self) -> &mut dyn io::Read {
        self.streams.stdin
    }

    pub fn tell(&mut self, source: &Source, verdict: Verdict) -> io::Result<()> {
        self.counts.statements += 1;
        self.tell_more(source, verdict)
    }

    /// Of a statement that was counted already.
    pub fn tell_more(&mut self, source: &Source, verdict: Verdict) -> io::Result<()> {
        match verdict.action {
            "warn" => self.counts.warned += 1,
            "rewrite" => self.counts.rewritten += 1,
            "reject" => self.counts.rejected += 1,
            _ => {}
        }
        self.counts.overridden += verdict
            .findings
            .iter()
            .filter(|found| found.overridden.is_some())
            .count() as u64;
        if let Some(kept) = &mut self.kept {
            kept.keep(source, &verdict);
        }
        let out = &mut *self.streams.out;
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut *out, &verdict)?;
                writeln!(out)
            }
            Format::Text => text::tell(out, source, &verdict, self.streams.colour),
            Format::Github => github::tell(out, &verdict),
            Format::Gcc => formats::gcc(out, &verdict),
            Format::Gitlab => {
                self.quality.add(&verdict);
                Ok(())
            }
            Format::Markdown => {
                self.markdown.add(&verdict);
                Ok(())
            }
            Format::Sarif => {
                self.sarif.add(&verdict);
                Ok(())
            }
        }
    }

    pub fn remark(&mut self, remark: Remark) -> io::Result<()> {
        self.counts.unreadable += u64::from(remark.is_error);
        if let Some(kept) = self.kept.as_mut().filter(|_| remark.is_error) {
            kept.errors.push(remark.message.clone());
        }
        match self.format {
            Format::Github => github::remark(self.streams.out, &remark)?,
            Format::Sarif => self.sarif.remark(&remark),
            Format::Text | Format::Json | Format::Gitlab | Format::Gcc | Format::Markdown => {}
        }
        // To see on the terminal, whatever reads the output. A workflow has it as an annotation.
        match (&remark.file, remark.line) {
            _ if self.format == Format::Github => Ok(()),
            _ if remark.is_error => writeln!(self.streams.err, "lockkeeper: {}", remark.message),
            (Some(file), Some(line)) => writeln!(self.streams.err, "{file}:{line}: note: {}", remark.message),
            (Some(file), None) => writeln!(self.streams.err, "{file}: note: {}", remark.message),
            (None, _) => writeln!(self.streams.err, "note: {}", remark.message),
        }
    }

    pub fn finish(mut self) -> io::Result<u8> {
        match self.format {
            Format::Text | Format::Github => {
                let summary = self.summary();
                writeln!(self.streams.out, "{summary}")?;
            }
            Format::Sarif => self.sarif.write(self.streams.out, self.counts.unreadable == 0)?,
            Format::Gitlab => self.quality.write(self.streams.out)?,
            Format::Markdown => {
                let summary = self.summary();
                self.markdown.write(self.streams.out, &summary)?;
            }
            Format::Json | Format::Gcc => {}
        }
        self.streams.out.flush()?;
        Ok(self.counts.exit_code(self.fail_on))
    }
}
