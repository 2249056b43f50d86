//! `lockkeeper check`: what the proxy would do to the statements of migration files, without a server.
//!
//! The same planner as the proxy's, with pessimistic facts: a table that the file did not create itself exists and is
//! large. It never runs anything. Start at [`run`].

mod known;
mod script;

use crate::plan::policy::{Action, Policy, Subject};
use crate::plan::rules;
use crate::plan::statement::{Statement, Unreadable, read};
use crate::plan::{Finding, Mode, Place, Plan, Step, plan};
use clap::{Args, ValueEnum};
use known::Known;
use pg_query::NodeEnum;
use script::{Piece, Script};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// observe, standard, strict, or a TOML file
    #[arg(
        long,
        value_name = "NAME|FILE",
        default_value = "standard",
        env = "LOCKKEEPER_POLICY"
    )]
    pub policy: String,

    /// text for people, json for programs: one object per statement and line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// The PostgreSQL version that the files are for, 13 to 18, or as server_version_num (150004)
    #[arg(long, value_name = "N", default_value = "18", value_parser = server_version)]
    server_version: u32,

    /// SQL files, directories (their *.sql files, sorted by name, subdirectories too), or - for standard input
    #[arg(value_name = "FILE", required = true)]
    inputs: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Where the results and the remarks go.
pub struct Streams<'a> {
    pub stdin: &'a mut dyn Read,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub colour: bool,
}

/// The exit code: 0 if everything would be forwarded, 1 if something would be rewritten or rejected, 2 if an input could
/// not be read; the others are checked all the same. An error is one of `streams.out`.
pub fn run(arguments: &Arguments, policy: &Policy, streams: &mut Streams) -> io::Result<u8> {
    let mut report = Report {
        arguments,
        policy,
        counts: Counts::default(),
    };
    for input in &arguments.inputs {
        let files = match files(input) {
            Ok(files) => files,
            Err(error) => {
                report.unreadable(&error, streams)?;
                continue;
            }
        };
        for file in files {
            match text(&file, streams.stdin) {
                Ok(text) => report.file(&file.display().to_string(), &text, streams)?,
                Err(error) => report.unreadable(&error, streams)?,
            }
        }
    }
    if arguments.format == Format::Text {
        writeln!(streams.out, "{}", report.counts.summary())?;
    }
    streams.out.flush()?;
    Ok(report.counts.exit_code())
}

/// `18` and `180004` alike become 180000 and 180004.
fn server_version(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    let version = number.map(|number| {
        if number < 1_000 {
            number.saturating_mul(10_000)
        } else {
            number
        }
    });
    match version {
        Some(version) if (130_000..190_000).contains(&version) => Ok(version),
        _ => Err("it is a number from 13 to 18, or a server_version_num such as 150004".into()),
    }
}

/// The files that an argument stands for.
fn files(input: &Path) -> Result<Vec<PathBuf>, String> {
    if input != Path::new("-") && input.is_dir() {
        let mut found = Vec::new();
        sql_files(input, &mut found)?;
        found.sort();
        if found.is_empty() {
            return Err(format!("{}: there is no *.sql file in this directory", input.display()));
        }
        return Ok(found);
    }
    Ok(vec![input.to_path_buf()])
}

/// Symbolic links to directories are not followed, since they can go round in circles.
fn sql_files(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let told = |error: io::Error| format!("{}: {error}", directory.display());
    for entry in std::fs::read_dir(directory).map_err(told)? {
        let entry = entry.map_err(told)?;
        let path = entry.path();
        if entry.file_type().map_err(told)?.is_dir() {
            sql_files(&path, found)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("sql"))
        {
            found.push(path);
        }
    }
    Ok(())
}

fn text(file: &Path, stdin: &mut dyn Read) -> Result<String, String> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        stdin.read_to_end(&mut bytes).map_err(told)?;
        bytes
    } else {
        std::fs::read(file).map_err(told)?
    };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(format!("{}: it is UTF-16; save it as UTF-8", file.display()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: it is not UTF-8; save it as UTF-8", file.display())
    })?;
    if let Some(at) = text.find('\0') {
        let line = 1 + text[..at].matches('\n').count();
        return Err(format!(
            "{}:{line}: there is a NUL byte: is this a text file?",
            file.display()
        ));
    }
    // psql skips a byte order mark too.
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

#[derive(Default)]
struct Counts {
    statements: u64,
    files: u64,
    warned: u64,
    rewritten: u64,
    rejected: u64,
    unreadable: u64,
}

impl Counts {
    fn exit_code(&self) -> u8 {
        if self.unreadable > 0 {
            2
        } else {
            u8::from(self.rewritten + self.rejected > 0)
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
        let forwarded = self.statements - warned - rewritten - rejected;
        let mut summary = format!(
            "{} in {}: {forwarded} forwarded, {warned} warned of, {rewritten} rewritten, {rejected} rejected",
            many(self.statements, "statement"),
            many(self.files, "file"),
        );
        if self.unreadable > 0 {
            summary.push_str(&format!("; {} could not be read", many(self.unreadable, "input")));
        }
        summary
    }
}

/// What is said of one statement; the JSON line.
#[derive(Serialize)]
struct Verdict<'a> {
    file: &'a str,
    line: usize,
    statement: &'a str,
    action: &'static str,
    findings: Vec<FindingLine>,
    steps: Vec<StepLine>,
}

#[derive(Serialize)]
struct FindingLine {
    rule: String,
    lock: &'static str,
    message: String,
    hint: String,
}

#[derive(Serialize)]
struct StepLine {
    label: String,
    sql: String,
}

struct Report<'a> {
    arguments: &'a Arguments,
    policy: &'a Policy,
    counts: Counts,
}

impl Report<'_> {
    fn unreadable(&mut self, error: &str, streams: &mut Streams) -> io::Result<()> {
        self.counts.unreadable += 1;
        writeln!(streams.err, "lockkeeper: cannot read {error}")
    }

    fn file(&mut self, name: &str, text: &str, streams: &mut Streams) -> io::Result<()> {
        self.counts.files += 1;
        let mut script = Script::new(text);
        let mut known = Known::default();
        let mut lines = Lines { text, at: 0, line: 1 };
        while let Some(piece) = script.next_piece() {
            for skipped in script.skipped.drain(..) {
                // Of the piece's own lines, so before anything that comes after it.
                let line = 1 + text.get(..skipped.offset).unwrap_or(text).matches('\n').count();
                writeln!(
                    streams.err,
                    "{name}:{line}: note: {} is psql's, it is skipped",
                    skipped.command
                )?;
            }
            if self.piece(name, &piece, &mut known, &mut lines, streams)? {
                script.skip_copy_data();
            }
        }
        Ok(())
    }

    /// True if rows follow the statement (COPY … FROM stdin).
    fn piece(
        &mut self,
        name: &str,
        piece: &Piece,
        known: &mut Known,
        lines: &mut Lines,
        streams: &mut Streams,
    ) -> io::Result<bool> {
        let statements = match read(piece.sql.as_bytes(), true) {
            Ok(statements) => statements,
            Err(error) => {
                let (line, sql) = lines.first(piece.offset, &piece.sql);
                let (action, finding) = unparsed(&error, sql, self.policy);
                let findings = vec![finding];
                let steps = Vec::new();
                self.tell(
                    Verdict {
                        file: name,
                        line,
                        statement: sql,
                        action,
                        findings,
                        steps,
                    },
                    streams,
                )?;
                return Ok(false);
            }
        };
        let mut rows_follow = false;
        for statement in &statements {
            let (line, sql) = lines.first(piece.offset + statement.offset, &statement.sql);
            let facts = known.facts(statement, self.arguments.server_version);
            let (mut action, mut findings, steps) =
                judged(statement, plan(statement, &facts, self.policy, known.place()));
            if action == "forward"
                && findings.is_empty()
                && known.may_be_large(statement, self.policy.small_bytes)
                && let Some(finding) = large_write(self.policy, known.place())
            {
                action = "warn";
                findings.push(finding);
            }
            known.ran(statement);
            rows_follow |= copies_from_stdin(statement);
            self.tell(
                Verdict {
                    file: name,
                    line,
                    statement: sql,
                    action,
                    findings,
                    steps,
                },
                streams,
            )?;
        }
        Ok(rows_follow)
    }

    fn tell(&mut self, verdict: Verdict, streams: &mut Streams) -> io::Result<()> {
        self.counts.statements += 1;
        match verdict.action {
            "warn" => self.counts.warned += 1,
            "rewrite" => self.counts.rewritten += 1,
            "reject" => self.counts.rejected += 1,
            _ => {}
        }
        match self.arguments.format {
            Format::Json => {
                serde_json::to_writer(&mut *streams.out, &verdict)?;
                writeln!(streams.out)
            }
            Format::Text if verdict.action == "forward" => Ok(()),
            Format::Text => tell_text(&verdict, streams),
        }
    }
}

/// The proxy asks the server how many rows it would be; here it can only be said what follows if they are many.
fn large_write(policy: &Policy, place: Place) -> Option<FindingLine> {
    let rule = rules::find("large-write")?;
    let anybody = Subject {
        database: "",
        role: "",
        application_name: "",
        tables: &[],
    };
    let rows = policy.backfill.rows_max;
    let follows = match (policy.decision(rule.name, &anybody).0, place) {
        (Action::Allow, _) => return None,
        (Action::Warn, _) => "warned of",
        (Action::Rewrite, Place::Alone) => "run in batches",
        _ => "refused",
    };
    Some(FindingLine {
        rule: rule.name.to_string(),
        lock: rule.lock.name(),
        message: format!("is {follows} if the server expects it to touch more than {rows} rows"),
        hint: rule.safe.to_string(),
    })
}

fn copies_from_stdin(statement: &Statement) -> bool {
    match &statement.node {
        NodeEnum::CopyStmt(copy) => copy.is_from && !copy.is_program && copy.filename.is_empty(),
        _ => false,
    }
}

/// Text that the grammar refuses.
fn unparsed(error: &Unreadable, sql: &str, policy: &Policy) -> (&'static str, FindingLine) {
    let message = match error {
        Unreadable::Encoding => "is not valid UTF-8".to_string(),
        Unreadable::TooLarge => "is too large or too deeply nested to be judged".to_string(),
        Unreadable::Syntax(message) => format!("cannot be read: {message}"),
    };
    let hint = if has_psql_variable(sql) {
        "it has a psql variable (:name), whose value is not known here: check what psql would send"
    } else {
        "correct the statement; what cannot be read cannot be judged, so the proxy refuses it where it may be a schema change"
    };
    let action = match policy.unparsed {
        Action::Allow => "forward",
        Action::Warn => "warn",
        Action::Rewrite | Action::Reject => "reject",
    };
    let finding = FindingLine {
        rule: "unparsed".into(),
        lock: crate::plan::lock::LockMode::None.name(),
        message,
        hint: hint.into(),
    };
    (action, finding)
}

/// `:name`, `:'name'` or `:"name"`, and no `::type` or `:=`.
fn has_psql_variable(sql: &str) -> bool {
    let mut before = ' ';
    for (at, c) in sql.char_indices() {
        let next = sql.get(at + 1..).and_then(|rest| rest.chars().next());
        let name = next.is_some_and(|next| next.is_alphabetic() || matches!(next, '_' | '\'' | '"'));
        if c == ':' && before != ':' && name {
            return true;
        }
        before = c;
    }
    false
}

fn judged(statement: &Statement, plan: Plan) -> (&'static str, Vec<FindingLine>, Vec<StepLine>) {
    let warns = |findings: &[Finding]| findings.iter().any(|finding| finding.action == Action::Warn);
    match plan {
        Plan::Forward { findings, .. } => {
            let action = if warns(&findings) { "warn" } else { "forward" };
            (action, finding_lines(findings), Vec::new())
        }
        Plan::Run(run) => {
            let action = match run.steps.as_slice() {
                [step] if is_unchanged(step, statement) && warns(&run.findings) => "warn",
                [step] if is_unchanged(step, statement) => "forward",
                _ => "rewrite",
            };
            let step_line = |step: Step| StepLine {
                label: match step.mode {
                    Mode::Rows => format!("{}, as if the key were id", step.label),
                    _ => step.label,
                },
                sql: match step.mode {
                    // One transaction with the step's own statement.
                    Mode::Brief { then } | Mode::Long { then } => [vec![step.sql], then].concat().join(";\n"),
                    _ => step.sql,
                },
            };
            let steps = run.steps.into_iter().map(step_line).collect();
            (action, finding_lines(run.findings), steps)
        }
        Plan::Reject(rejection) => {
            let mut findings = finding_lines(rejection.findings);
            if findings.is_empty() {
                findings.push(FindingLine {
                    rule: "rejected".into(),
                    lock: crate::plan::lock::LockMode::None.name(),
                    message: rejection.message,
                    hint: rejection.hint,
                });
            }
            ("reject", findings, Vec::new())
        }
    }
}

/// Only when and how often it is tried is the proxy's: the statement is the client's own.
fn is_unchanged(step: &Step, statement: &Statement) -> bool {
    matches!(step.mode, Mode::Brief { .. } | Mode::Concurrent) && step.sql.trim() == statement.sql.trim()
}

fn finding_lines(findings: Vec<Finding>) -> Vec<FindingLine> {
    let line = |finding: Finding| FindingLine {
        rule: finding.rule.to_string(),
        lock: finding.lock.name(),
        message: finding.message,
        hint: finding.hint,
    };
    findings.into_iter().map(line).collect()
}

fn tell_text(verdict: &Verdict, streams: &mut Streams) -> io::Result<()> {
    let Verdict { file, line, action, .. } = verdict;
    let (on, off) = match *action {
        _ if !streams.colour => ("", ""),
        "reject" => ("\x1b[1;31m", "\x1b[0m"),
        "rewrite" => ("\x1b[1;36m", "\x1b[0m"),
        _ => ("\x1b[1;33m", "\x1b[0m"),
    };
    let out = &mut *streams.out;
    for finding in &verdict.findings {
        writeln!(
            out,
            "{file}:{line}: {on}{action}{off} {}: {}",
            finding.rule, finding.message
        )?;
    }
    if verdict.findings.is_empty() {
        writeln!(out, "{file}:{line}: {on}{action}{off}: would be run in another form")?;
    }
    let mut statement = verdict.statement.lines();
    let first = statement.next().unwrap_or_default().trim_end();
    writeln!(out, "    {first}{}", if statement.next().is_some() { " …" } else { "" })?;
    for (number, step) in verdict.steps.iter().enumerate() {
        writeln!(out, "    step {}, {}:", number + 1, step.label)?;
        indented(out, &step.sql)?;
    }
    for finding in verdict.findings.iter().filter(|finding| !finding.hint.is_empty()) {
        writeln!(out, "    hint:")?;
        indented(out, &finding.hint)?;
    }
    Ok(())
}

fn indented(out: &mut dyn Write, text: &str) -> io::Result<()> {
    for line in text.lines() {
        writeln!(out, "      {}", line.trim_end())?;
    }
    Ok(())
}

/// Line numbers of offsets that only grow, each line being counted once.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line on which a statement at `offset` starts, and its text, without the comments before it.
    fn first<'s>(&mut self, offset: usize, sql: &'s str) -> (usize, &'s str) {
        let space = crate::lex::leading_space(sql);
        let start = offset + space;
        let passed = self.text.get(self.at..start).unwrap_or_default();
        self.line += passed.matches('\n').count();
        self.at = self.at.max(start);
        (self.line, sql.get(space..).unwrap_or(sql).trim_end())
    }
}
