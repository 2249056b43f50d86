//! `lockkeeper check`: what the proxy would do to the statements of migration files, with or without a server.
//!
//! The same planner as the proxy's. Without a server its facts are pessimistic: a table that the files did not create
//! themselves exists and is large. It never runs anything. Start at [`run`].

mod arguments;
mod conninfo;
mod design;
mod effects;
mod formats;
mod github;
mod globs;
mod history;
mod inputs;
mod journal;
mod known;
mod layouts;
mod live;
mod objects;
mod parts;
mod relations;
mod report;
mod sarif;
mod script;
mod settings;
mod spot;
mod tables;
mod text;
mod tool;
mod transaction;
mod trials;
mod verdict;
mod within;
mod writes;

use crate::plan::batches::{Target, explained_rows, target};
use crate::plan::dry;
use crate::plan::facts::Facts;
use crate::plan::lock::LockMode;
use crate::plan::locks;
use crate::plan::mixed;
use crate::plan::policy::{Action, Policy};
use crate::plan::reading::read;
use crate::plan::rules::lock_queue;
use crate::plan::statement::{Kind, Statement, Unreadable};
use crate::plan::words::first_token;
use crate::plan::{Finding, Mode, Plan, Step, plan};
pub use arguments::Arguments;
pub use design::page_of_own;
use history::History;
use inputs::{File, Group, Selection};
use known::Known;
use live::Live;
use pg_query::NodeEnum;
use report::{FailOn, Report, Told};
pub use report::{Kept, Said, Streams};
use script::{Piece, Script};
use spot::Spot;
use std::io;
use std::ops::Range;
use tool::{Part, Tool};
use verdict::{Found, PlanLine, Remark, Source, StepLine, Verdict};

/// Where nobody says it: what is advised for the oldest version works on all of them.
const OLDEST: u32 = 130_000;
/// What only this one knows is judged as it does.
const NEWEST: u32 = 180_000;

/// The arguments with the settings of the repository, and the policy.
pub fn settle(arguments: Arguments) -> Result<(Arguments, Policy), String> {
    settings::with_file(arguments, std::env::current_dir().ok().as_deref())
}

/// The page of the book about the rules that only `check` has.
pub fn page_of_own_rules() -> String {
    design::page()
}

/// The exit code: 0 if everything would be forwarded, 1 if something would be rewritten or rejected, 2 if an input or the
/// server could not be read; the other inputs are checked all the same. An error is one of `streams.out`.
pub fn run(arguments: &Arguments, policy: &Policy, streams: &mut Streams) -> io::Result<u8> {
    let assumed = arguments.server_version.is_none() && arguments.dsn.is_none();
    let told = Told {
        format: arguments.format,
        fail_on: arguments.fail_on.unwrap_or(FailOn::Rewrite),
        assumed: assumed.then_some("for PostgreSQL 13 to 18, as --server-version was not given"),
        rules_url: arguments.rules_url.as_deref(),
    };
    let mut report = Report::new(told, streams);
    let live = match arguments.dsn.as_deref().map(Live::connect).transpose() {
        Ok(live) => live,
        Err(error) => {
            report.remark(Remark::error(format!("cannot connect: {error}")))?;
            return report.finish();
        }
    };
    let stdin = std::path::Path::new("-");
    if arguments.changed.as_deref() == Some(stdin) && arguments.inputs.iter().any(|input| input == stdin) {
        let message = "standard input can be the SQL or the list of changed files, not both";
        report.remark(Remark::error(message.to_string()))?;
        return report.finish();
    }
    let selection = Selection::of(arguments);
    let (groups, remarks) = inputs::collect(&arguments.inputs, &selection, report.stdin());
    for remark in remarks {
        report.remark(remark)?;
    }
    all(arguments, policy, live, groups, report)?.finish()
}

fn all<'a, 'b>(
    arguments: &Arguments,
    policy: &Policy,
    live: Option<Live>,
    groups: Vec<Group>,
    report: Report<'a, 'b>,
) -> io::Result<Report<'a, 'b>> {
    let schema = live
        .as_ref()
        .map(|live| live.schema.clone())
        .filter(|schema| !schema.is_empty());
    let mut checker = Checker {
        arguments,
        policy,
        live,
        known: Known::new(schema.unwrap_or_else(|| "public".to_string())),
        tool: Tool::Psql,
        of_file: FileComment::default(),
        design: design::State::default(),
        report,
    };
    for group in groups {
        checker.group(group)?;
    }
    Ok(checker.report)
}

/// What `check FILE` would say of a text that an editor has open, with the settings of the nearest `.lockkeeper.toml`, in the file's
/// directory or above.
pub fn opened(path: &std::path::Path, text: &str) -> Result<Kept, String> {
    let mut arguments = Arguments::of_text(None);
    arguments.exclude.clear();
    arguments.format = report::Format::Json;
    arguments.policy = std::env::var("LOCKKEEPER_POLICY").ok();
    let here = path
        .parent()
        .filter(|parent| *parent != std::path::Path::new(""))
        .unwrap_or(std::path::Path::new("."));
    let (arguments, policy) = settings::with_file(arguments, Some(here))?;
    let selection = inputs::Selection::of(&arguments);
    let (groups, remarks) = inputs::of_open(path, text, &selection);
    let (mut out, mut err) = (io::sink(), io::sink());
    let mut streams = Streams {
        stdin: &mut io::empty(),
        out: &mut out,
        err: &mut err,
        colour: false,
    };
    let told = Told {
        format: report::Format::Json,
        fail_on: FailOn::Rewrite,
        assumed: None,
        rules_url: None,
    };
    let mut report = Report::new(told, &mut streams);
    report.kept = Some(Kept::default());
    let failed = |error: io::Error| error.to_string();
    for remark in remarks {
        report.remark(remark).map_err(failed)?;
    }
    let mut report = all(&arguments, &policy, None, groups, report).map_err(failed)?;
    let mut kept = report.kept.take().unwrap_or_default();
    kept.rules_url = arguments.rules_url;
    Ok(kept)
}

/// What is said of a text without a server, for people and without the counts at its end.
pub fn answer(sql: &str, server_version: u32, policy: &Policy) -> String {
    let arguments = Arguments::of_text(Some(server_version));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        stdin: &mut sql.as_bytes(),
        out: &mut out,
        err: &mut err,
        colour: false,
    };
    // Writing to memory does not fail.
    let _ = run(&arguments, policy, &mut streams);
    let text = String::from_utf8_lossy(&out);
    let counts = text.trim_end().rfind('\n').unwrap_or(0);
    text[..counts].trim_end().to_owned()
}

struct Checker<'a, 'b, 'c> {
    arguments: &'c Arguments,
    policy: &'c Policy,
    live: Option<Live>,
    known: Known,
    /// Whose files these are.
    tool: Tool,
    /// What the file's own comment leaves out.
    of_file: FileComment,
    /// What the end of the file will tell.
    design: design::State,
    report: Report<'a, 'b>,
}

impl Checker<'_, '_, '_> {
    fn group(&mut self, group: Group) -> io::Result<()> {
        let Group {
            tool,
            guessed,
            place,
            mut files,
        } = group;
        self.tool = tool;
        if guessed {
            let message = format!("taken for files of {}; --tool says otherwise", tool.name());
            let place = if place.is_empty() { "." } else { &place };
            self.report.remark(Remark::note(place, None, message))?;
        }
        let all_pending = self.arguments.from.is_none() && self.arguments.changed.is_none();
        if files.len() > 1 && all_pending && self.live.is_none() && tool != Tool::Rails {
            let message = format!(
                "all {} files are taken as not run yet, so that a table of one is new in the next; --from FILE or --changed \
                 LIST says which ones are",
                files.len()
            );
            self.report.remark(Remark::note(&place, None, message))?;
        }
        let history = match all_pending && !self.arguments.down {
            true => self.leave_out_what_has_run(&mut files, &place)?,
            false => None,
        };
        let mut other_direction = 0;
        for file in files {
            let asked = self.arguments.transaction;
            let parts = match parts::of(tool, &file.text, self.arguments.down, &file.conf, asked) {
                Ok(parts) => parts,
                Err(error) => {
                    let error = format!("cannot read {}: {error}", file.name);
                    self.report.remark(Remark::error(error))?;
                    continue;
                }
            };
            other_direction += usize::from(parts.iter().any(|part| part.other_direction));
            if file.pending {
                self.file(file, parts, history.as_ref())?;
            } else if self.live.is_none() {
                self.read_only(&file, &parts);
            }
        }
        self.known.end_group();
        if other_direction > 0 {
            let (which, how) = match self.arguments.down {
                true => ("up", "without --down it is checked"),
                false => ("down", "--down checks it instead"),
            };
            let files = if other_direction == 1 { "file" } else { "files" };
            let message = format!("the {which} part of {other_direction} {files} is left out: {how}");
            self.report.remark(Remark::note(&place, None, message))?;
        }
        Ok(())
    }

    /// By the tool's own table on the server.
    fn leave_out_what_has_run(&mut self, files: &mut [File], place: &str) -> io::Result<Option<History>> {
        let Some(live) = &mut self.live else { return Ok(None) };
        let history = match live.history(self.tool) {
            Ok(Some(history)) => history,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.report.remark(Remark::error(error))?;
                return Ok(None);
            }
        };
        for file in files.iter_mut() {
            file.pending = !history.has(&file.path, file.recorded.as_deref());
        }
        let ran = files.iter().filter(|file| !file.pending).count();
        if ran == 0 {
            return Ok(Some(history));
        }
        let message = format!(
            "{ran} of {} files have run by {} and are left out; --from FILE or --changed LIST says otherwise",
            files.len(),
            history.table
        );
        self.report.remark(Remark::note(place, None, message))?;
        Ok(Some(history))
    }

    /// One that has run already: what it says of tables and types is so, and what it has made is in use. A server knows better.
    fn read_only(&mut self, file: &File, parts: &[Part]) {
        self.known.tables.start_file();
        for part in parts {
            self.known.start_part(part.transaction, several(&file.text, part));
            for range in &part.ranges {
                self.read_range(&file.text[range.clone()]);
            }
            self.known.end_part(part.transaction);
        }
        self.known.end_file();
        self.known.tables.is_in_use();
    }

    fn read_range(&mut self, text: &str) {
        let mut script = Script::new(text);
        while let Some(piece) = script.next_piece() {
            let mut rows_follow = false;
            for statement in read(piece.sql.as_bytes(), true).unwrap_or_default() {
                let facts = self.known.facts(&statement, self.offline(&statement));
                self.known.ran(&statement, &facts, 0);
                rows_follow |= copies_from_stdin(&statement);
            }
            if rows_follow {
                script.skip_copy_data();
            }
        }
    }

    fn offline(&self, statement: &Statement) -> Facts {
        let version = self.arguments.server_version;
        Facts::offline(version.unwrap_or_else(|| {
            if design::is_of_newest(statement) {
                NEWEST
            } else {
                OLDEST
            }
        }))
    }

    fn file(&mut self, file: File, mut parts: Vec<Part>, history: Option<&History>) -> io::Result<()> {
        self.report.counts.files += 1;
        let all = parts.len();
        let has_run = |part: &Part| history.is_some_and(|history| history.has_part(&file.path, part));
        parts.retain(|part| !has_run(part));
        let source = Source::new(file.name, file.text);
        if parts.len() < all {
            let message = "what of it has run by the tool's own table is left out".to_string();
            self.report.remark(Remark::note(&source.name, None, message))?;
        }
        for remark in parts.iter_mut().filter_map(|part| part.remark.take()) {
            self.report.remark(Remark::note(&source.name, None, remark))?;
        }
        self.of_file = FileComment::of(&source.text);
        if self.of_file.is_off {
            let message = "left out by its own comment (lockkeeper-check: off)".to_string();
            self.report.remark(Remark::note(&source.name, None, message))?;
        }
        self.known.tables.start_file();
        for part in parts {
            self.known.start_part(part.transaction, several(&source.text, &part));
            for range in part.ranges {
                self.range(&source, range)?;
            }
            self.left_open(&source)?;
            self.known.end_part(part.transaction);
        }
        for found in self.design.ended(&self.known) {
            let text = source.text.get(found.span.clone()).unwrap_or_default();
            let verdict = Verdict {
                file: &source.name,
                line: found.start.line,
                statement: text,
                action: "warn",
                findings: vec![found],
                steps: Vec::new(),
                plan: Vec::new(),
            };
            self.tell_more(&source, verdict)?;
        }
        self.known.end_file();
        Ok(())
    }

    fn range(&mut self, source: &Source, range: Range<usize>) -> io::Result<()> {
        let mut script = Script::new(&source.text[range.clone()]);
        while let Some(piece) = script.next_piece() {
            for skipped in script.skipped.drain(..) {
                // Of the piece's own lines, so before anything that comes after it.
                let line = source.place(range.start + skipped.offset).line;
                self.report
                    .remark(Remark::note(&source.name, Some(line), skipped.told()))?;
            }
            let piece = Piece {
                offset: piece.offset + range.start,
                ..piece
            };
            if self.piece(source, &piece)? {
                script.skip_copy_data();
            }
        }
        Ok(())
    }

    /// Of a statement that was told already: only where there is something left to say.
    fn tell_more(&mut self, source: &Source, mut verdict: Verdict) -> io::Result<()> {
        self.leave_out(&mut verdict);
        match verdict.action {
            "forward" => Ok(()),
            _ => self.report.tell_more(source, verdict),
        }
    }

    /// BEGIN without COMMIT: the session's end undoes all of it.
    fn left_open(&mut self, source: &Source) -> io::Result<()> {
        let Some(begun) = self.known.left_open() else {
            return Ok(());
        };
        let start = source.start_of(begun);
        let text = source.line(begun);
        let verdict = Verdict {
            file: &source.name,
            line: begun,
            statement: text,
            action: "reject",
            findings: vec![transaction::left_open(source, start..start + text.len())],
            steps: Vec::new(),
            plan: Vec::new(),
        };
        self.tell_more(source, verdict)
    }

    /// True if rows follow the statement (COPY … FROM stdin).
    fn piece(&mut self, source: &Source, piece: &Piece) -> io::Result<bool> {
        let mut statements = match read(piece.sql.as_bytes(), true) {
            Ok(statements) => statements,
            Err(error) => {
                let start = first_token(&piece.sql);
                let sql = piece.sql[start..].trim_end();
                let start = piece.offset + start;
                let (action, found) = unparsed(&error, source, sql, start, self.policy);
                let verdict = Verdict {
                    file: &source.name,
                    line: source.place(start).line,
                    statement: sql,
                    action,
                    findings: vec![found],
                    steps: Vec::new(),
                    plan: Vec::new(),
                };
                let mut verdict = verdict;
                self.leave_out(&mut verdict);
                self.report.tell(source, verdict)?;
                return Ok(script::copies_from_stdin(sql));
            }
        };
        if let Some(live) = &mut self.live {
            for statement in &mut statements {
                // What the server says of it is told with the statement.
                let _ = live.mark_firing(statement);
            }
        }
        let mut rows_follow = false;
        for statement in &statements {
            let start = piece.offset + statement.offset;
            let facts = match self.facts(statement) {
                Ok(facts) => facts,
                Err(error) => {
                    let line = source.place(start).line;
                    let message = format!("{}:{line}: the server was asked and answers: {error}", source.name);
                    self.report.remark(Remark::error(message))?;
                    continue;
                }
            };
            let (mut verdict, more) = self.statement(source, statement, start, &facts);
            verdict.findings.extend(more);
            self.leave_out(&mut verdict);
            if verdict
                .findings
                .iter()
                .any(|found| found.overridden.as_deref() == Some(""))
            {
                let message =
                    "let through without a reason: say why (reason=\"…\"), for whoever reads it later".to_string();
                self.report
                    .remark(Remark::note(&source.name, Some(verdict.line), message))?;
            }
            self.report.tell(source, verdict)?;
            rows_follow |= copies_from_stdin(statement);
        }
        Ok(rows_follow)
    }

    /// The verdict, and what is known of it once it has run.
    fn statement<'s>(
        &mut self,
        source: &'s Source,
        statement: &'s Statement,
        start: usize,
        facts: &Facts,
    ) -> (Verdict<'s>, Vec<Found>) {
        let place = self.known.place();
        let at = Spot {
            source,
            start,
            statement,
            offline: facts.offline,
        };
        // As the proxy, which does not look at it any further.
        let plan = match lock_queue::is_free(statement) {
            true => Plan::Forward {
                findings: Vec::new(),
                notices: Vec::new(),
            },
            false => plan(statement, facts, self.policy, place),
        };
        let mut lines: Vec<PlanLine> = match self.arguments.plan {
            true => dry::rows(&plan, statement, facts, place)
                .into_iter()
                .map(PlanLine::from)
                .collect(),
            false => Vec::new(),
        };
        let is_refused = matches!(plan, Plan::Reject(_));
        let (mut action, mut findings, steps) = judged(&at, plan, self.tool);
        if action == "forward"
            && findings.is_empty()
            && self.may_be_large(statement, facts)
            && let Some((so, found)) = writes::large_write(
                &at,
                self.policy,
                place,
                self.known.target(statement, facts).as_ref(),
                facts,
            )
        {
            action = so;
            findings.push(found);
        }
        if let Some(found) = transaction::fails(&at, &self.known, facts) {
            (action, findings) = ("reject", vec![found]);
        } else if let Some(found) = transaction::under_locks(&at, &self.known, facts).filter(|_| action == "forward") {
            action = "warn";
            findings.retain(|known| known.overridden.is_some());
            findings.insert(0, found);
        }
        if self.arguments.direct
            && action == "forward"
            && facts.lock_timeout_ms == 0
            && !lock_timeout_by_options()
            && let Some(found) = findings.iter_mut().find(|found| found.rule == "lock-queue")
        {
            action = "warn";
            found.hint = "SET lock_timeout = '2s';  -- before it in the file, and try again when it fails".to_string();
        }
        if action == "reject" && !is_refused {
            // What is known of the file beside it says more.
            lines.clear();
        }
        findings.extend(design::found(&at, &self.known, facts));
        let token = first_token(&statement.sql);
        let verdict = Verdict {
            file: &source.name,
            line: source.place(start + token).line,
            statement: statement.sql[token..].trim_end(),
            action,
            findings,
            steps,
            plan: lines,
        };
        self.known.ran(statement, facts, verdict.line);
        let more = self.design.ran(&at, &self.known, facts);
        (verdict, more)
    }

    /// What --exclude and the file's own comment do not want to hear of.
    fn leave_out(&self, verdict: &mut Verdict) {
        let excluded = |rule: &str| {
            self.of_file.is_off
                || self
                    .arguments
                    .exclude
                    .iter()
                    .chain(&self.of_file.exclude)
                    .any(|known| known == rule)
        };
        let before = verdict.findings.len();
        verdict.findings.retain(|found| !excluded(&found.rule));
        let counts = |found: &&Found| found.overridden.is_none() && found.rule != "lock-queue";
        let says = |found: &&Found| design::find(&found.rule).is_none_or(|own| own.verdict != "warn");
        let left = verdict.findings.iter().filter(counts);
        if verdict.findings.len() < before && left.clone().next().is_none() {
            verdict.action = "forward";
            verdict.steps.clear();
        } else if verdict.findings.len() < before && !left.clone().any(|found| says(&found)) {
            verdict.action = "warn";
            verdict.steps.clear();
        } else if verdict.action == "forward" && left.clone().any(|found| !says(&found)) {
            verdict.action = "warn";
            // That it is brief needs no word.
            verdict
                .findings
                .retain(|found| found.rule != "lock-queue" || found.overridden.is_some());
        }
        for found in &mut verdict.findings {
            let own = design::find(&found.rule).map(|own| own.verdict);
            found.action = match found.overridden {
                Some(_) => "forward",
                None => own.unwrap_or(verdict.action),
            };
        }
    }

    /// An UPDATE or DELETE of which nobody can say how many rows it touches.
    fn may_be_large(&self, statement: &Statement, facts: &Facts) -> bool {
        let small_bytes = self.policy.small_bytes;
        let rows_max = self.policy.backfill.rows_max;
        if writes::is_bounded(&statement.node, rows_max) {
            return false;
        }
        if facts.offline {
            return self.known.may_be_large(statement, small_bytes);
        }
        let wants = |relation| target(statement, relation, small_bytes) == Target::Unknown;
        facts.estimated_rows.is_none()
            && matches!(statement.kind, Kind::Write)
            && facts.target(statement).is_some_and(wants)
    }

    fn facts(&mut self, statement: &Statement) -> Result<Facts, String> {
        let judged = matches!(
            statement.kind,
            Kind::Ddl | Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite
        );
        let place = self.known.place();
        let offline = self.offline(statement);
        let base = match &mut self.live {
            Some(live) if judged => live.facts(statement, &self.known.session_sql())?,
            _ => offline,
        };
        let mut facts = self.known.facts(statement, base);
        let rows_max = self.policy.backfill.rows_max as f64;
        if let Some(live) = &mut self.live
            && matches!(statement.kind, Kind::Write)
            && let Some(relation) = facts.target(statement)
            && target(statement, relation, self.policy.small_bytes) == Target::Unknown
        {
            let json = live.explain(statement)?;
            facts.estimated_rows = json.and_then(|json| explained_rows(statement, relation, &json));
        }
        if let Some(live) = &mut self.live
            && matches!(statement.kind, Kind::MixedWrite)
        {
            facts.estimated_rows = live.explain(statement)?.as_deref().and_then(mixed::changed_rows);
        }
        if let Some(live) = &mut self.live
            && matches!(statement.node, NodeEnum::DoStmt(_))
        {
            live.judge_within(statement, &mut facts, rows_max)?;
        }
        if let Some(live) = &mut self.live
            && matches!(statement.kind, Kind::Write | Kind::MixedWrite)
            && facts.estimated_rows.unwrap_or_default() <= rows_max
        {
            facts.cascaded = live.cascaded(statement, &facts, facts.estimated_rows, rows_max)?;
        }
        if let Some(live) = &mut self.live
            && judged
            // The copy would be of the table as it is, not as the files have left it.
            && !locks::locks(statement).iter().any(|(name, _)| self.known.tables.find(name).is_some())
        {
            live.try_out(statement, &mut facts, self.policy, place)?;
        }
        Ok(facts)
    }
}

/// What comments at the beginning of a file leave out of it: `-- lockkeeper-check: off`, `-- lockkeeper-check: exclude=rule,rule`.
#[derive(Default)]
struct FileComment {
    is_off: bool,
    exclude: Vec<String>,
}

impl FileComment {
    fn of(text: &str) -> FileComment {
        let mut of_file = FileComment::default();
        let comments = text
            .lines()
            .map(str::trim)
            .take_while(|line| line.is_empty() || line.starts_with("--"));
        for comment in comments.filter_map(|line| line.strip_prefix("--")) {
            let Some(said) = comment.trim().strip_prefix("lockkeeper-check:").map(str::trim) else {
                continue;
            };
            let word = said.split_whitespace().next().unwrap_or_default();
            match word.strip_prefix("exclude=") {
                Some(rules) => of_file.exclude.extend(rules.split(',').map(str::to_owned)),
                None => of_file.is_off |= word == "off",
            }
        }
        of_file
    }
}

/// libpq sends these with every connection.
fn lock_timeout_by_options() -> bool {
    std::env::var("PGOPTIONS").is_ok_and(|options| options.contains("lock_timeout"))
}

/// More than one statement, as far as semicolons tell.
fn several(text: &str, part: &Part) -> bool {
    let mut statements = usize::from(part.with_more);
    for range in &part.ranges {
        let mut script = Script::new(&text[range.clone()]);
        while let Some(piece) = script.next_piece() {
            statements += usize::from(first_token(&piece.sql) < piece.sql.len());
            if statements > 1 {
                return true;
            }
        }
    }
    false
}

fn copies_from_stdin(statement: &Statement) -> bool {
    match &statement.node {
        NodeEnum::CopyStmt(copy) => copy.is_from && !copy.is_program && copy.filename.is_empty(),
        _ => false,
    }
}

/// Text that the grammar refuses.
fn unparsed(error: &Unreadable, source: &Source, sql: &str, start: usize, policy: &Policy) -> (&'static str, Found) {
    let message = match error {
        Unreadable::Encoding => "is not valid UTF-8".to_string(),
        Unreadable::TooLarge => "is too large or too deeply nested to be judged".to_string(),
        Unreadable::Syntax(message) => format!("cannot be read: {message}"),
        Unreadable::Name(name) => format!("has an identifier that the server reads otherwise: {name}"),
    };
    let hint = if has_psql_variable(sql) {
        "it has a psql variable (:name), whose value is not known here: check what psql would send"
    } else if sql.contains("${") || sql.contains("{{") {
        "it has a placeholder, whose value is not known here: check what the tool would send"
    } else {
        "correct the statement; what cannot be read cannot be judged, so the proxy refuses it where it may be a schema change"
    };
    let action = match policy.unparsed {
        Action::Allow => "forward",
        Action::Warn => "warn",
        Action::Rewrite | Action::Ask | Action::Reject => "reject",
    };
    let span = start..start + sql.len();
    (
        action,
        Found::new(source, span, "unparsed", LockMode::None, message, hint.into()),
    )
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

fn judged(at: &Spot, plan: Plan, tool: Tool) -> (&'static str, Vec<Found>, Vec<StepLine>) {
    let warns = |findings: &[Finding]| findings.iter().any(|finding| finding.action == Action::Warn);
    let all = |findings: Vec<Finding>| findings.into_iter().map(|finding| at.found(finding)).collect();
    match plan {
        Plan::Forward { findings, .. } => {
            let action = if warns(&findings) { "warn" } else { "forward" };
            (action, all(findings), Vec::new())
        }
        Plan::Run(run) => {
            let action = match run.steps.as_slice() {
                [step] if is_unchanged(step, at.statement) && warns(&run.findings) => "warn",
                [step] if is_unchanged(step, at.statement) => "forward",
                _ => "rewrite",
            };
            let mut findings = run.findings;
            let findings_alone = findings.iter().all(|finding| finding.rule == "lock-queue");
            // With a danger beside it, that the rest is brief needs no word.
            if action == "rewrite" && findings.iter().any(|finding| finding.rule != "lock-queue") {
                findings.retain(|finding| finding.rule != "lock-queue" || finding.overridden.is_some());
            }
            // The client's own text needs no second look.
            let own = action != "rewrite";
            if own {
                findings.retain(|finding| finding.rule != "lock-queue" || findings_alone);
            }
            let steps = run
                .steps
                .iter()
                .filter(|_| !own)
                .filter_map(|step| step_line(step, at.offline))
                .collect();
            (action, all(findings), steps)
        }
        Plan::Reject(rejection) => {
            let mut findings: Vec<Found> = all(rejection.findings);
            // What the server says of what is inside a transaction and must not be.
            if rejection.sqlstate == "25001" {
                for found in &mut findings {
                    found.hint = format!("{}\n{}", tool.outside(), found.hint);
                }
            }
            if findings.is_empty() {
                let (message, hint) = (rejection.message, rejection.hint);
                findings.push(Found::new(
                    at.source,
                    at.whole(),
                    "override",
                    LockMode::None,
                    message,
                    hint,
                ));
            }
            ("reject", findings, Vec::new())
        }
    }
}

/// As a person would do it. None: it is only about a mark of the proxy's own.
fn step_line(step: &Step, offline: bool) -> Option<StepLine> {
    let mut sql = step.by_hand().join(";\n");
    if offline && matches!(step.mode, Mode::Batches(_)) && sql.starts_with("DO ") {
        sql.insert_str(0, "-- as if the key were id\n");
    }
    let label = match step.mode {
        Mode::Rows if !sql.starts_with("-- as if") => format!("{}, as if the key were id", step.label),
        _ => step.label.clone(),
    };
    (!sql.is_empty()).then_some(StepLine { label, sql })
}

/// Only when and how often it is tried is the proxy's: the statement is the client's own.
fn is_unchanged(step: &Step, statement: &Statement) -> bool {
    matches!(step.mode, Mode::Brief { .. } | Mode::Concurrent) && step.sql.trim() == statement.sql.trim()
}
