//! The console's commands: how they are written, which columns they answer with, and their rows.

use super::shared::Shared;
use crate::live::approvals::Request;
use crate::live::{Live, Question, SessionNow, Steer};
use crate::plan::policy::Subject;
use crate::plan::rules::RULES;
use crate::usage::record::{Row, merged_rows};
use lockkeeper_wire::messages::Report;
use std::time::SystemTime;
use tokio::sync::oneshot;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Show(Show),
    /// SHOW USAGE of a table or column.
    Usage(String),
    Reload,
    /// APPROVE (true) or DECLINE, by its number, with the reason.
    Decide(bool, u64, String),
    /// PAUSE, RESUME or CANCEL PLAN, by its ID.
    Steer(Steer, String),
    Begin,
    Commit,
    Rollback,
    /// SET of whatever a driver sets when it connects: there is nothing that it could change.
    Set,
    Discard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Sessions,
    Plans,
    Jobs,
    Approvals,
    Locks,
    Rules,
    Policy,
    Stats,
    Usage,
    Version,
    Help,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    Integer(i64),
    Float(f64),
}

impl Value {
    pub fn text(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) if number.fract() == 0.0 => format!("{number}"),
            Value::Float(number) => format!("{number:.1}"),
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    /// None: only a tag.
    pub columns: &'static [Column],
    pub rows: Vec<Vec<Value>>,
    pub tag: String,
}

impl Reply {
    pub fn tag(tag: &str) -> Reply {
        Reply {
            columns: &[],
            rows: Vec::new(),
            tag: tag.into(),
        }
    }
}

/// Name, what it shows, its columns.
struct Shown {
    show: Show,
    name: &'static str,
    help: &'static str,
    columns: &'static [Column],
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

const fn integer(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Integer,
    }
}

const fn float(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Float,
    }
}

const SHOWS: [Shown; 11] = [
    Shown {
        show: Show::Sessions,
        name: "SESSIONS",
        help: "who is connected, and what they do",
        columns: &[
            integer("session"),
            text("user"),
            text("database"),
            text("application_name"),
            text("client"),
            integer("backend_pid"),
            text("state"),
            integer("since_s"),
            integer("statements"),
            integer("bytes_from_client"),
            integer("bytes_from_server"),
        ],
    },
    Shown {
        show: Show::Plans,
        name: "PLANS",
        help: "statements that are being carried out in steps",
        columns: &[
            text("id"),
            text("user"),
            text("database"),
            integer("backend_pid"),
            integer("running_s"),
            text("step"),
            text("doing"),
            text("relation"),
            text("lock"),
            integer("lock_tries"),
            integer("rows"),
            float("percent"),
            integer("left_s"),
            text("blocked_by"),
            text("paused_by"),
            text("statement"),
        ],
    },
    Shown {
        show: Show::Jobs,
        name: "JOBS",
        help: "work that outlives a session (lockkeeper.job of the control connection's database)",
        columns: &[
            integer("id"),
            text("state"),
            text("owner"),
            text("relation"),
            integer("rows"),
            float("percent"),
            text("error"),
            text("due"),
            text("unused"),
            text("statement"),
        ],
    },
    Shown {
        show: Show::Approvals,
        name: "APPROVALS",
        help: "what waits for a second person, by the policy's action ask, and what was decided",
        columns: &[
            integer("id"),
            text("state"),
            text("user"),
            text("database"),
            text("application_name"),
            integer("asked_s"),
            text("rules"),
            text("decided_by"),
            text("reason"),
            text("statement"),
        ],
    },
    Shown {
        show: Show::Locks,
        name: "LOCKS",
        help: "who waits for a lock, and for whom (needs --control-dsn)",
        columns: &[
            integer("pid"),
            text("blocked_by"),
            text("waits_for"),
            integer("waited_ms"),
            text("user"),
            text("database"),
            text("application_name"),
            text("state"),
            integer("transaction_s"),
            text("query"),
        ],
    },
    Shown {
        show: Show::Rules,
        name: "RULES",
        help: "the rules, and what the policy does about each",
        columns: &[text("rule"), text("action"), text("lock"), text("what")],
    },
    Shown {
        show: Show::Policy,
        name: "POLICY",
        help: "the policy in force: every key, rule and override",
        columns: &[text("key"), text("value")],
    },
    Shown {
        show: Show::Stats,
        name: "STATS",
        help: "counts since the start",
        columns: &[text("what"), text("which"), float("value")],
    },
    Shown {
        show: Show::Usage,
        name: "USAGE",
        help: "who used which table and column; SHOW USAGE users.name: of one alone",
        columns: &[
            text("database"),
            text("relation"),
            text("column"),
            text("application_name"),
            text("user"),
            integer("times"),
            integer("last_s"),
            integer("written_s"),
            text("statement"),
        ],
    },
    Shown {
        show: Show::Version,
        name: "VERSION",
        help: "this program's version",
        columns: &[text("version")],
    },
    Shown {
        show: Show::Help,
        name: "HELP",
        help: "this list",
        columns: &[text("command"), text("what")],
    },
];

impl Command {
    /// Words in any case, with or without a semicolon.
    pub fn parse(sql: &str) -> Result<Command, Report> {
        let words: Vec<String> = sql
            .trim_end_matches([';', ' ', '\n', '\t', '\r'])
            .split_whitespace()
            .map(str::to_ascii_uppercase)
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["SHOW"] => Ok(Command::Show(Show::Help)),
            ["SHOW", name] => match SHOWS.iter().find(|shown| shown.name == *name) {
                Some(shown) => Ok(Command::Show(shown.show)),
                None => Err(unknown(sql)),
            },
            ["SHOW", "USAGE", _] => {
                let name = sql.split_whitespace().nth(2).unwrap_or_default();
                Ok(Command::Usage(name.trim_matches([';', '\'', '"']).to_owned()))
            }
            ["RELOAD"] => Ok(Command::Reload),
            [what @ ("APPROVE" | "DECLINE"), id, ..] => {
                let id = id.parse().map_err(|_| unknown(sql))?;
                let rest = sql.trim().trim_end_matches(';').splitn(3, char::is_whitespace).nth(2);
                let reason = rest.unwrap_or_default().trim().trim_matches('\'').replace("''", "'");
                Ok(Command::Decide(*what == "APPROVE", id, reason))
            }
            [what @ ("PAUSE" | "RESUME" | "CANCEL"), "PLAN", _] => {
                let what = match *what {
                    "PAUSE" => Steer::Pause,
                    "RESUME" => Steer::Resume,
                    _ => Steer::Cancel,
                };
                let id = sql.split_whitespace().nth(2).unwrap_or_default();
                Ok(Command::Steer(what, id.trim_matches([';', '\'', '"']).to_owned()))
            }
            ["BEGIN" | "START", ..] => Ok(Command::Begin),
            ["COMMIT" | "END", ..] => Ok(Command::Commit),
            ["ROLLBACK" | "ABORT", ..] => Ok(Command::Rollback),
            ["DISCARD", "ALL"] | ["DEALLOCATE", ..] => Ok(Command::Discard),
            ["SET", _, ..] => Ok(Command::Set),
            _ => Err(unknown(sql)),
        }
    }
}

fn unknown(sql: &str) -> Report {
    let sql: String = sql.chars().take(60).collect();
    let names: Vec<&str> = SHOWS.iter().map(|shown| shown.name).collect();
    Report::error(
        "42601",
        &format!(
            "lockkeeper: the console does not know this command: {sql}; it has SHOW {}, RELOAD, APPROVE, DECLINE, and PAUSE, RESUME and CANCEL PLAN",
            names.join("|")
        ),
    )
    .hint("This is lockkeeper's console, not a database: SHOW HELP explains its commands.")
}

/// At semicolons outside of quotes, without comments and empty statements.
pub fn split(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let statement = statements.last_mut();
        match (quote, c) {
            (None, '-') if rest.peek() == Some(&'-') => while rest.next_if(|c| *c != '\n').is_some() {},
            (None, ';') => statements.push(String::new()),
            _ => {
                match quote {
                    Some(open) if open == c => quote = None,
                    None if matches!(c, '\'' | '"') => quote = Some(c),
                    _ => {}
                }
                if let Some(statement) = statement {
                    statement.push(c);
                }
            }
        }
    }
    let trimmed = statements.iter().map(|statement| statement.trim().to_owned());
    trimmed.filter(|statement| !statement.is_empty()).collect()
}

/// None for a command without rows.
pub fn columns(command: Command) -> &'static [Column] {
    let show = match command {
        Command::Show(show) => show,
        Command::Usage(_) => Show::Usage,
        Command::Steer(..) | Command::Decide(..) => {
            return &[Column {
                name: "done",
                kind: Kind::Text,
            }];
        }
        _ => return &[],
    };
    SHOWS
        .iter()
        .find(|shown| shown.show == show)
        .map_or(&[], |shown| shown.columns)
}

pub async fn run(command: Command, shared: &Shared, user: &str) -> Result<Reply, Report> {
    let show = match command {
        Command::Show(show) => show,
        Command::Usage(ref name) => {
            return Ok(Reply {
                rows: usage(&shared.live, Some(name)).await?,
                columns: columns(command),
                tag: "SHOW".into(),
            });
        }
        Command::Reload => return reload(shared).await,
        Command::Decide(approved, id, ref reason) => {
            let done = super::approve::decide(shared, id, approved, user, reason).await?;
            return Ok(Reply {
                columns: columns(command),
                rows: vec![vec![string(done)]],
                tag: if approved { "APPROVE".into() } else { "DECLINE".into() },
            });
        }
        Command::Steer(what, ref id) => {
            let by = format!("{user}, at the console");
            let done = shared.live.steer_plan(id, what, &by);
            let done = done.map_err(|why| Report::error("42704", &format!("lockkeeper: {why}")))?;
            return Ok(Reply {
                columns: columns(command),
                rows: vec![vec![string(done)]],
                tag: match what {
                    Steer::Pause => "PAUSE".into(),
                    Steer::Resume => "RESUME".into(),
                    Steer::Cancel => "CANCEL".into(),
                },
            });
        }
        Command::Begin => return Ok(Reply::tag("BEGIN")),
        Command::Commit => return Ok(Reply::tag("COMMIT")),
        Command::Rollback => return Ok(Reply::tag("ROLLBACK")),
        Command::Set => return Ok(Reply::tag("SET")),
        Command::Discard => return Ok(Reply::tag("DISCARD ALL")),
    };
    let live = &shared.live;
    let rows = match show {
        Show::Sessions => live.sessions().iter().map(session).collect(),
        Show::Plans => live.sessions().iter().filter_map(plan).collect(),
        Show::Jobs => jobs(live).await?,
        Show::Approvals => live.approvals().iter().map(approval).collect(),
        Show::Locks => locks(live).await?,
        Show::Rules => rules(shared),
        Show::Policy => policy(shared),
        Show::Stats => stats(live),
        Show::Usage => usage(live, None).await?,
        Show::Version => vec![vec![string(concat!("lockkeeper ", env!("CARGO_PKG_VERSION")))]],
        Show::Help => help(),
    };
    Ok(Reply {
        columns: columns(command),
        rows,
        tag: "SHOW".into(),
    })
}

async fn reload(shared: &Shared) -> Result<Reply, Report> {
    let (answer, answered) = oneshot::channel();
    let asked = shared.reloads.send(answer).await.is_ok();
    match answered.await {
        Ok(Ok(())) if asked => Ok(Reply::tag("RELOAD")),
        Ok(Err(wrong)) => Err(Report::error(
            "F0000",
            &format!("lockkeeper: {wrong}; what was wrong stays as it was before"),
        )),
        _ => Err(Report::error("57P01", super::end::SHUTTING_DOWN)),
    }
}

fn string(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn number(number: impl TryInto<i64>) -> Value {
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn maybe<T>(value: Option<T>, show: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, show)
}

fn seconds_since(time: SystemTime) -> Value {
    number(time.elapsed().unwrap_or_default().as_secs())
}

fn session(session: &SessionNow) -> Vec<Value> {
    vec![
        number(session.session),
        string(&session.user),
        string(&session.database),
        string(&session.application_name),
        string(&session.client),
        number(session.backend_pid),
        string(session.state.name()),
        seconds_since(session.since),
        number(session.flowed.statements),
        number(session.flowed.bytes_from_client),
        number(session.flowed.bytes_from_server),
    ]
}

fn plan(session: &SessionNow) -> Option<Vec<Value>> {
    let plan = session.plan.as_ref()?;
    Some(vec![
        string(&plan.id),
        string(&session.user),
        string(&session.database),
        number(session.backend_pid),
        seconds_since(plan.since),
        string(format!("{} of {}", plan.step + 1, plan.steps.len())),
        string(plan.steps.get(plan.step).map_or("", String::as_str)),
        string(&plan.relation),
        string(&plan.lock),
        number(plan.lock_tries),
        maybe(plan.rows, number),
        maybe(plan.done, |done| Value::Float(100.0 * done)),
        maybe(plan.left_s, |left| number(left as i64)),
        maybe(plan.blocked_by.as_deref(), string),
        maybe(plan.paused_by.as_deref(), string),
        string(one_line(&plan.statement)),
    ])
}

fn approval(request: &Request) -> Vec<Value> {
    let decision = request.decision();
    let state = match decision {
        None => "waiting",
        Some(decision) if decision.approved => "approved",
        Some(_) => "declined",
    };
    vec![
        number(request.id),
        string(state),
        string(request.user()),
        string(request.database()),
        string(&request.application_name),
        seconds_since(request.asked),
        string(&request.rules),
        maybe(decision, |decision| string(&decision.by)),
        maybe(decision, |decision| string(&decision.reason)),
        string(one_line(&request.statement)),
    ]
}

fn one_line(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(CHARACTERS_MAX).collect()
}

async fn locks(live: &Live) -> Result<Vec<Vec<Value>>, Report> {
    let locks = live.ask(Question::Locks).await.map_err(|why| unknown_yet(&why))?;
    let row = |lock: &crate::live::Blocked| {
        let pids: Vec<String> = lock.blocked_by.iter().map(i32::to_string).collect();
        vec![
            number(lock.pid),
            if pids.is_empty() {
                Value::Null
            } else {
                string(pids.join(", "))
            },
            maybe(lock.waits_for.as_deref(), string),
            maybe(lock.waited_ms, |ms| number(ms as i64)),
            maybe(lock.user.as_deref(), string),
            maybe(lock.database.as_deref(), string),
            maybe(lock.application_name.as_deref(), string),
            maybe(lock.state.as_deref(), string),
            maybe(lock.age_s, |age| number(age as i64)),
            maybe(lock.query.as_deref(), |query| string(one_line(query))),
        ]
    };
    Ok(locks.iter().map(row).collect())
}

async fn jobs(live: &Live) -> Result<Vec<Vec<Value>>, Report> {
    let jobs = live.ask(Question::Jobs).await.map_err(|why| unknown_yet(&why))?;
    let row = |job: &serde_json::Value| {
        let text = |key: &str| maybe(job[key].as_str(), string);
        let whole = |key: &str| maybe(job[key].as_i64(), number);
        vec![
            whole("id"),
            text("state"),
            text("owner"),
            text("relation"),
            whole("rows_done"),
            maybe(job["percent"].as_f64(), Value::Float),
            text("error"),
            text("due_at"),
            text("unused"),
            maybe(job["statement"].as_str(), |sql| string(one_line(sql))),
        ]
    };
    Ok(jobs
        .as_array()
        .map(|jobs| jobs.iter().map(row).collect())
        .unwrap_or_default())
}

fn unknown_yet(why: &str) -> Report {
    Report::error("55000", &format!("lockkeeper: {why}"))
}

/// For nobody in particular: overrides by role, database or table are not in it.
fn rules(shared: &Shared) -> Vec<Vec<Value>> {
    let policy = shared.policy();
    let anybody = Subject {
        database: "",
        role: "",
        application_name: "",
        tables: &[],
    };
    let row = |rule: &crate::plan::rules::rule::Rule| {
        vec![
            string(rule.name),
            string(policy.decision(rule.name, &anybody).0.name()),
            string(rule.lock.name()),
            string(rule.what),
        ]
    };
    RULES.iter().map(row).collect()
}

fn policy(shared: &Shared) -> Vec<Vec<Value>> {
    let shown = shared.policy().shown();
    shown
        .into_iter()
        .map(|(key, value)| vec![string(key), string(value)])
        .collect()
}

fn stats(live: &Live) -> Vec<Vec<Value>> {
    let flowed = live.flowed();
    let ledger = live.ledger();
    let row = |what: &str, which: String, value: f64| vec![string(what), string(which), Value::Float(value)];
    let mut rows = vec![
        row("uptime_s", String::new(), live.uptime().as_secs_f64()),
        row("sessions", String::new(), live.sessions_total() as f64),
        row("forwarded_statements", String::new(), flowed.statements as f64),
        row("read_bytes", "client".into(), flowed.bytes_from_client as f64),
        row("read_bytes", "server".into(), flowed.bytes_from_server as f64),
    ];
    for ((action, outcome), count) in &ledger.statements {
        rows.push(row("judged_statements", format!("{action}, {outcome}"), *count as f64));
    }
    for ((rule, action), count) in &ledger.findings {
        rows.push(row("findings", format!("{rule}, {action}"), *count as f64));
    }
    rows.push(row("lock_tries", String::new(), ledger.lock_tries as f64));
    let holds = &live.holds;
    rows.push(row("held_statements", String::new(), holds.statements() as f64));
    rows.push(row("held_s", String::new(), holds.time().as_secs_f64()));
    rows.push(row("batches", String::new(), ledger.batches as f64));
    rows.push(row("batch_rows", String::new(), ledger.rows as f64));
    for (kind, count) in &ledger.upstream_errors {
        rows.push(row("upstream_errors", (*kind).into(), *count as f64));
    }
    rows
}

/// How many seconds ago is told.
/// Of what all proxies keep together, where they do, and of what this one has seen since.
async fn usage(live: &Live, name: Option<&str>) -> Result<Vec<Vec<Value>>, Report> {
    let now = crate::usage::seconds();
    let ago = |at: u32| Value::Integer(i64::from(now.saturating_sub(at)));
    let relations: Vec<String> = name
        .iter()
        .flat_map(|name| name.split('.'))
        .map(str::to_owned)
        .collect();
    let together = live.ask(|answer| Question::Usage(relations, answer)).await;
    let mut rows = live.usage.ask(|record| record.find(name));
    if let Ok(Some(together)) = together {
        rows = merged_rows(rows, together.record.find(name));
    }
    let row = |row: Row| {
        let relation = match &row.schema {
            Some(schema) => format!("{schema}.{}", row.relation),
            None => row.relation,
        };
        vec![
            string(row.used.who.database),
            string(relation),
            string(row.column),
            string(row.used.who.application),
            string(row.used.who.role),
            Value::Integer(row.used.count as i64),
            ago(row.used.last),
            row.used.written.map_or(Value::Null, ago),
            string(row.used.statement.to_string()),
        ]
    };
    Ok(rows.into_iter().map(row).collect())
}

fn help() -> Vec<Vec<Value>> {
    let shows = SHOWS
        .iter()
        .map(|shown| vec![string(format!("SHOW {}", shown.name)), string(shown.help)]);
    let reload = vec![
        string("RELOAD"),
        string("reads the policy, TLS files and verifiers again and opens the audit log again, as SIGHUP does"),
    ];
    let steer = [
        (
            "PAUSE PLAN id",
            "holds a plan after the batch, try or step that it is at; its client waits",
        ),
        ("RESUME PLAN id", "lets it go on"),
        (
            "APPROVE id 'why'",
            "lets what waits in SHOW APPROVALS be sent within an hour; not by who has asked",
        ),
        ("DECLINE id 'why'", "refuses it"),
        ("CANCEL PLAN id", "ends it, as its client's own cancel request would"),
    ];
    let steer = steer.map(|(command, what)| vec![string(command), string(what)]);
    shows.chain([reload]).chain(steer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case() {
        let check = |sql: &str, expect: Option<Command>| assert_eq!(Command::parse(sql).ok(), expect, "{sql}");
        check("show sessions;", Some(Command::Show(Show::Sessions)));
        check("  SHOW\n Version ; ", Some(Command::Show(Show::Version)));
        check("show", Some(Command::Show(Show::Help)));
        check("RELOAD", Some(Command::Reload));
        check("begin", Some(Command::Begin));
        check("SET extra_float_digits = 3", Some(Command::Set));
        check("SELECT 1", None);
        check("SHOW transaction_isolation", None);
        check("RELOAD now", None);
        let cancel = Command::Steer(Steer::Cancel, "abc-1.2".into());
        check("cancel plan 'abc-1.2';", Some(cancel));
        check("CANCEL PLAN", None);
        let decide = Command::Decide(true, 7, "it's ticket 42".into());
        check("approve 7 'it''s ticket 42';", Some(decide));
        check("DECLINE x 'no'", None);
    }

    #[test]
    fn statements_are_split_outside_of_quotes() {
        assert_eq!(split("show help; -- a; b\nshow ';x' ;;"), ["show help", "show ';x'"]);
        assert!(split(" ; -- nothing").is_empty());
    }

    #[test]
    fn every_command_is_in_the_help_and_has_columns() {
        assert_eq!(help().len(), SHOWS.len() + 6);
        for shown in &SHOWS {
            assert!(!columns(Command::Show(shown.show)).is_empty(), "{}", shown.name);
        }
    }
}
