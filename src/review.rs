//! `lockkeeper audit`: what happened, from the audit log: as a table, statement by statement, in numbers; and whether the
//! log is whole. It only reads. Start at [`run`].

mod deployments;
mod list;
mod show;
mod stats;
pub mod streams;
pub mod table;

use crate::admin::http;
use crate::audit::again::CONTINUED;
use crate::audit::filter::Filter;
use crate::audit::verify::{Expect, Fault, verify};
use crate::audit::{chain, read, time};
use crate::config::{did_you_mean, rule_names, watching};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use streams::{Failure, Format, Streams, UNFINISHED, wrong};

const LIST_HELP: &str = "\
Times are UTC. --since and --until take 2h or -2h, 02:13 (the last such moment), \"yesterday
02:13\", 2026-03-01, \"2026-03-01 12:30\" or 2026-03-01T12:30:00+01:00. What was going on then is
listed: it began before --until and ended after --since. A statement whose end is not in the log (it still runs, or the process
was killed) comes last, with the outcome `unfinished`; or `continued` where the same statement, sent
again or resumed as a job, was done afterwards.

Examples:
  lockkeeper audit list --since 12h /var/log/lockkeeper/audit.jsonl
  lockkeeper audit list --since 02:05 --until 02:20 audit.jsonl      what went on at 02:13?
  lockkeeper audit list --action reject --table users audit.jsonl*
  lockkeeper audit list --outcome failed --longer-than 5s --format csv audit.jsonl
  lockkeeper audit list --follow audit.jsonl            over rotation, until Ctrl-C
  zcat audit.jsonl.*.gz | lockkeeper audit list \"drop column\" -

Next: `lockkeeper audit show ID FILE` tells a statement's whole story.";

const DEPLOYMENTS_HELP: &str = "\
Statements of one session belong together, and those of sessions of the same user, application,
database and host that follow each other within a minute, as migration tools open them. The outcome
is the worst of all. Filters choose among statements, so that a group has only those that match.

Examples:
  lockkeeper audit deployments --since yesterday audit.jsonl
  lockkeeper audit deployments --since 02:05 --until 02:20 audit.jsonl";

const VERIFY_HELP: &str = "\
Each line holds the hash of the one before and its own, so a line that was changed, removed, moved
or put in shows, and so does a rotated file that is missing or was cut, when its successor is
given too. What the file alone cannot show: lines cut off at its very end, and a log that was
written anew from some line on. For that, keep a hash elsewhere (the proxy's own log names the
last one whenever it leaves a file) and give it with --expect.

Exit code: 0 all is as it was written, 1 a line is wrong (the first one is named), 2 a file cannot
be read.";

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One line per statement: when, who, what, what was done about it, how it ended
    #[command(after_help = LIST_HELP)]
    List(List),
    /// What was deployed: the statements of one program's run together, with the worst of their outcomes
    #[command(after_help = DEPLOYMENTS_HELP)]
    Deployments(Deployments),
    /// One statement's whole story: what was asked, what was found and why, what was run, how it ended, the way back
    Show(Show),
    /// Look whether lines were changed, removed or put in
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// Counts by rule, action, outcome, user, application and table; the slowest and the refused
    Stats(Stats),
    /// Show them in a browser: the page of `serve --admin`, over files alone
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Audit logs, also rotated ones; those that one goes on from are found beside it
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// HOST:PORT; other than on a loopback address a token is needed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:6433")]
    admin: String,
    /// A file with one line, which whoever looks must know
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// A name by which the address is reached, besides localhost and IP addresses; may be given several times
    #[arg(long, value_name = "NAME")]
    admin_host: Vec<String>,
}

impl Serve {
    /// Until the process ends.
    fn run(self, streams: &mut Streams) -> Result<(), Failure> {
        let mut files = read::in_order(&self.files).map_err(wrong)?;
        files.reverse();
        for file in &files {
            std::fs::File::open(file).map_err(|error| wrong(format!("cannot read {}: {error}", file.display())))?;
        }
        let admin = watching::admin(Some(self.admin), self.admin_token_file, self.admin_host).map_err(wrong)?;
        let admin = admin.ok_or_else(|| wrong("--admin is empty"))?;
        let (listener, site) =
            http::open(&admin, None, files, false).map_err(|(code, error)| Failure::Told(code, error))?;
        let address = listener.local_addr().map_err(|error| wrong(error.to_string()))?;
        writeln!(streams.out, "http://{address}/  (Ctrl-C ends it)")?;
        streams.out.flush()?;
        http::serve(listener, site).map_err(|error| Failure::Told(1, error))
    }
}

#[derive(Args)]
struct List {
    /// A text to look for in statements, steps, messages, reasons and names; give it before the files
    #[arg(value_name = "TEXT", num_args = 0..)]
    words: Vec<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    /// table, json (the log's own lines) or csv
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// Go on as the log grows, over rotation
    #[arg(long, short)]
    follow: bool,
}

#[derive(Args)]
struct Show {
    /// As `list` prints it; its end after the dash is enough
    id: String,
    /// Audit logs, in any order, also gzip's; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// text, or json: every event of the statement, one object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ShowFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    Text,
    Json,
}

#[derive(Args)]
struct Verify {
    /// Audit logs, in any order, also gzip's; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A line with this hash must be there
    #[arg(long, value_name = "HASH")]
    expect: Option<String>,
    /// The files before the first one are kept elsewhere, and their last line has this hash
    #[arg(long, value_name = "HASH")]
    after: Option<String>,
}

#[derive(Args)]
struct Deployments {
    /// Audit logs, in any order, also gzip's; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    /// text, or json: one object a deployment and line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ShowFormat,
}

#[derive(Args)]
struct Stats {
    /// Audit logs, in any order, also gzip's; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
    /// text, or json: one object
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ShowFormat,
    /// How many of the slowest and of the refused
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,
}

/// Which statements; all that is given must match.
#[derive(Args)]
#[command(next_help_heading = "Which statements")]
struct Wanted {
    /// forward, warn, rewrite, reject or dry_run
    #[arg(long)]
    action: Option<String>,
    /// A rule that found something, by its name in `lockkeeper rules`
    #[arg(long)]
    rule: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// application_name
    #[arg(long)]
    app: Option<String>,
    #[arg(long)]
    database: Option<String>,
    /// A table or another relation, with or without its schema
    #[arg(long)]
    table: Option<String>,
    /// done, failed, rejected, cancelled, warned, rolled back, prepared, disconnected, dry run, unfinished or continued
    #[arg(long)]
    outcome: Option<String>,
    /// What went on from then on: 2h (ago), 02:13, "yesterday 02:13", 2026-03-01, …
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// What had begun before then
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only what somebody let through, with a reason
    #[arg(long)]
    overridden: bool,
    /// Only what was undone with its transaction
    #[arg(long)]
    rolled_back: bool,
    /// Only what waited for a lock, or had others wait behind it
    #[arg(long)]
    waited: bool,
    /// 500ms, 5s, 2m
    #[arg(long, value_name = "TIME")]
    longer_than: Option<String>,
    /// This text in statements, steps, messages, reasons or names
    #[arg(long = "grep", value_name = "TEXT")]
    text: Option<String>,
}

pub fn run(arguments: Arguments, streams: &mut Streams) -> Result<(), Failure> {
    match arguments.command {
        Command::List(list) => list.run(streams),
        Command::Show(show) => {
            let files = read::in_order(&show.files).map_err(wrong)?;
            show::run(&show.id, &files, show.format == ShowFormat::Json, streams)
        }
        Command::Serve(serve) => serve.run(streams),
        Command::Deployments(arguments) => {
            let files = read::in_order(&arguments.files).map_err(wrong)?;
            let json = arguments.format == ShowFormat::Json;
            deployments::run(&files, arguments.wanted.filter()?, json, streams)
        }
        Command::Verify(arguments) => run_verify(arguments, streams),
        Command::Stats(stats) => {
            let files = read::in_order(&stats.files).map_err(wrong)?;
            let json = stats.format == ShowFormat::Json;
            stats::run(&files, stats.wanted.filter()?, json, stats.top, streams)
        }
    }
}

fn run_verify(arguments: Verify, streams: &mut Streams) -> Result<(), Failure> {
    let hash = |flag: &str, text: &Option<String>| match text {
        Some(text) => chain::hash_of_hex(text.to_ascii_lowercase().as_bytes())
            .map(Some)
            .ok_or_else(|| wrong(format!("--{flag}: `{text}` is no hash; it has 64 hexadecimal digits"))),
        None => Ok(None),
    };
    let expect = Expect {
        hash: hash("expect", &arguments.expect)?,
        after: hash("after", &arguments.after)?,
    };
    let files = read::in_order(&arguments.files).map_err(wrong)?;
    match verify(&files, &expect) {
        Ok(verified) => {
            for remark in &verified.remarks {
                writeln!(streams.out, "note: {remark}")?;
            }
            let (lines, link) = (verified.lines, verified.link);
            let hash = chain::hex(&link.hash);
            let files = if files.len() == 1 {
                "1 file".into()
            } else {
                format!("{} files", files.len())
            };
            Ok(writeln!(
                streams.out,
                "whole: {lines} lines in {files}, the last is number {}, its hash {hash}",
                link.seq
            )?)
        }
        Err(Fault::Broken(what)) => Err(Failure::Told(1, what)),
        Err(Fault::Unreadable(what)) => Err(wrong(what)),
    }
}

impl List {
    fn run(self, streams: &mut Streams) -> Result<(), Failure> {
        let mut filter = self.wanted.filter()?;
        let mut files = self.words;
        // A first word that is no file is what is looked for.
        if files.len() > 1
            && filter.text.is_none()
            && let Some(first) = files.first()
            && first != &PathBuf::from("-")
            && !first.exists()
        {
            filter.text = Some(files.remove(0).display().to_string());
        }
        if files.is_empty() {
            return Err(wrong(
                "which log? Give the file of `serve --audit`, or - for standard input",
            ));
        }
        let files = read::in_order(&files).map_err(wrong)?;
        list::run(&files, filter, self.format, self.follow, streams)
    }
}

impl Wanted {
    fn filter(&self) -> Result<Filter, Failure> {
        let one_of = |flag: &str, value: &Option<String>, known: &[&str]| match value {
            Some(value) if !known.contains(&value.as_str()) => {
                let near = did_you_mean(value, known);
                Err(wrong(format!("--{flag}: there is no `{value}`{near}")))
            }
            _ => Ok(value.clone()),
        };
        let now = SystemTime::now();
        let when = |flag: &str, text: &Option<String>| match text {
            Some(text) => time::parse(text, now)
                .map(Some)
                .map_err(|error| wrong(format!("--{flag}: {error}"))),
            None => Ok(None),
        };
        let longer_than: Option<Duration> = match &self.longer_than {
            Some(text) => match time::duration(text) {
                Some(duration) => Some(duration),
                None => {
                    return Err(wrong(format!(
                        "--longer-than: `{text}` is no time; write 500ms, 5s or 2m"
                    )));
                }
            },
            None => None,
        };
        let mut rules = rule_names();
        rules.push("unparsed");
        Ok(Filter {
            id: None,
            action: one_of(
                "action",
                &self.action,
                &["forward", "warn", "rewrite", "reject", "dry_run"],
            )?,
            rule: one_of("rule", &self.rule, &rules)?,
            user: self.user.clone(),
            application_name: self.app.clone(),
            database: self.database.clone(),
            table: self.table.clone(),
            outcome: one_of("outcome", &self.outcome, &OUTCOMES)?,
            overridden: self.overridden,
            rolled_back: self.rolled_back,
            waited: self.waited,
            since: when("since", &self.since)?,
            until: when("until", &self.until)?,
            longer_than,
            text: self.text.clone(),
        })
    }
}

const OUTCOMES: [&str; 11] = [
    "done",
    "failed",
    "rejected",
    "cancelled",
    "warned",
    "rolled back",
    "prepared",
    "dry run",
    "disconnected",
    UNFINISHED,
    CONTINUED,
];
