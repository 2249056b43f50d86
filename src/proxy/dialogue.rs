//! The proxy's own statements on the client's server connection, while the session is quiescent.
//!
//! They use the extended protocol with a reserved name, never a simple Query, which would commit the client's
//! implicit transaction and destroy its unnamed statement (measured). Errors of the server are values here.

use super::blockers::Waits;
use super::end::{Broken, End, unless_refused};
use super::relay::Relay;
use crate::plan::jobs::{self, JobSql};
use crate::plan::splice::quote_literal;
use crate::plan::{Place, path};
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::responses::{OnAnswer, Responses};
use std::io;
use std::time::{Duration, Instant};

/// The name of the guard of `lockkeeper.job`, where that is kept prepared.
const GUARD: &str = "jobs_trust";

/// By which search_path a statement's names, operators and types are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// `pg_catalog, pg_temp`: whoever may create in a schema of the client's search_path could otherwise have an operator, function or
    /// type of his own called with the client's rights.
    #[default]
    Ours,
    /// The client's: of text that is the client's own, and of what names no operator, function or type without its schema.
    Client,
}

/// One statement of ours.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub sql: String,
    pub path: Path,
    /// What the client's search_path decides, found before ours is set, for the statement to read by current_setting(): names under
    /// `lockkeeper.`, and expressions of type text in which every name and operator is written with its schema.
    pub ahead: Vec<(&'static str, String)>,
    /// In its place the text as bytes, where it is the client's own in its encoding.
    pub raw: Bytes,
    /// A long question to the catalog, and the name of its text, by which a session keeps it prepared, so that it is planned once. It runs
    /// with the settings of [`path::CATALOG`].
    pub catalog: Option<String>,
    /// A batch's statement that is the same for all batches, and its name: kept prepared in the same way, with one plan for all values.
    pub lasting: Option<String>,
    /// When the server had planned it is to be known, see [`Answer::planning`].
    pub is_timed: bool,
    /// Parameter types and values as a client sent them, where the statement is the client's own.
    pub types: Bytes,
    pub parameters: Bytes,
    pub delivers: Option<Deliver>,
    /// It reads or writes `lockkeeper.job`: whether that can be trusted is asked first, in the same transaction.
    pub of_jobs: bool,
}

impl From<JobSql> for Ask {
    fn from(sql: JobSql) -> Ask {
        (&sql).into()
    }
}

impl From<&JobSql> for Ask {
    fn from(sql: &JobSql) -> Ask {
        Ask {
            of_jobs: true,
            ..Ask::new(sql.text())
        }
    }
}

impl From<&str> for Ask {
    fn from(sql: &str) -> Ask {
        Ask::new(sql)
    }
}

impl From<&String> for Ask {
    fn from(sql: &String) -> Ask {
        Ask::new(sql)
    }
}

/// The rows of a statement are the client's: kept as they came, less our own columns at their end.
#[derive(Clone, Debug, Default)]
pub struct Deliver {
    /// Columns that are not the client's.
    pub cut: usize,
    /// Result formats as in a Bind; empty: text.
    pub formats: Vec<u8>,
    /// RowDescription is wanted too.
    pub described: bool,
}

impl Ask {
    /// The name by which a session keeps it prepared.
    fn kept(&self) -> Option<&String> {
        self.catalog.as_ref().or(self.lasting.as_ref())
    }

    /// The server plans a statement of the client's for it, and may call functions of that meanwhile.
    pub fn explains(&self) -> bool {
        self.sql.contains("EXPLAIN (FORMAT JSON)") || self.raw.starts_with(b"EXPLAIN ")
    }

    /// What a session keeps prepared of a question to the catalog: itself, and the guard that goes before it.
    fn catalogs(&self) -> impl Iterator<Item = &str> {
        let guard = (self.of_jobs && self.catalog.is_some()).then_some(GUARD);
        self.catalog.as_deref().into_iter().chain(guard)
    }

    /// Of our own text: it runs with a search_path of `pg_catalog, pg_temp`.
    pub fn new(sql: impl Into<String>) -> Ask {
        let sql = sql.into();
        // A setting of ours must not outlive a transaction's beginning, nor come back with a savepoint.
        let controls = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"];
        let path = match controls.iter().any(|word| sql.starts_with(word)) {
            true => Path::Client,
            false => Path::Ours,
        };
        Ask {
            sql,
            path,
            ..Ask::default()
        }
    }

    /// Of the client's text, or of a command that looks for nothing by name, as BEGIN: it runs with the client's search_path.
    pub fn as_client(sql: impl Into<String>) -> Ask {
        Ask {
            sql: sql.into(),
            path: Path::Client,
            ..Ask::default()
        }
    }

    /// Of a plan's text: what moves a job's row is ours, and what is asked before that, and what the server has printed.
    pub fn step(sql: &str) -> Ask {
        match jobs::is_ours(sql) || sql.starts_with(path::PRINTED) {
            true => Ask::new(sql),
            false => Ask::as_client(sql),
        }
    }

    /// Of what comes before a step in its transaction: a question of ours, or else a command that is the client's own, as a DROP, or that
    /// only sets a role.
    pub fn guard(sql: &str) -> Ask {
        match sql.starts_with("DO $lockkeeper$") {
            true => Ask::new(sql),
            false => Ask::as_client(sql),
        }
    }

    /// With the relation that a name means to the client, for [`NAMED`].
    pub fn about(sql: impl Into<String>, relation: &str) -> Ask {
        let oid = format!(
            "coalesce(pg_catalog.to_regclass({})::pg_catalog.oid::pg_catalog.text, '0')",
            quote_literal(relation)
        );
        Ask {
            ahead: vec![("named", oid)],
            ..Ask::new(sql)
        }
    }

    /// Sets a parameter for the rest of the transaction; silent and without effect afterwards, unlike SET LOCAL.
    pub fn set_local(name: &str, value: &str) -> Ask {
        Ask::as_client(format!("SELECT pg_catalog.set_config('{name}', '{value}', true)"))
    }

    /// Keeps a parameter's value within the client's own transaction, for [`Ask::restore`].
    pub fn stash(name: &str) -> Ask {
        Ask::as_client(format!(
            "SELECT pg_catalog.set_config('lockkeeper.{name}', pg_catalog.current_setting('{name}'), true)"
        ))
    }

    /// Both at once.
    pub fn stash_and_set(name: &str, value: &str) -> Ask {
        Ask::as_client(format!(
            "SELECT pg_catalog.set_config('lockkeeper.{name}', pg_catalog.current_setting('{name}'), true), \
             pg_catalog.set_config('{name}', '{value}', true)"
        ))
    }

    pub fn restore(name: &str) -> Ask {
        Ask::as_client(format!(
            "SELECT pg_catalog.set_config('{name}', pg_catalog.current_setting('lockkeeper.{name}'), true)"
        ))
    }

    /// Several at once.
    pub fn set_local_all(settings: &[(&str, String)]) -> Ask {
        let set = |(name, value): &(&str, String)| {
            format!(
                "pg_catalog.set_config({}, {}, true)",
                quote_literal(name),
                quote_literal(value)
            )
        };
        let all: Vec<String> = settings.iter().map(set).collect();
        Ask::as_client(format!("SELECT {}", all.join(", ")))
    }

    /// The same until it is set again.
    pub fn set_session(name: &str, value: &str) -> Ask {
        let value = quote_literal(value);
        Ask::as_client(format!("SELECT pg_catalog.set_config('{name}', {value}, false)"))
    }
}

#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub rows: Vec<Vec<Option<String>>>,
    pub tag: String,
    /// Of a statement that delivers: RowDescription, if wanted, and DataRows, ready for the client.
    pub frames: BytesMut,
    /// How many DataRows these are.
    pub delivered: u64,
    /// SQLSTATEs of the notices that came with it, where the client does not hear them.
    pub warnings: Vec<String>,
    /// When its end came, and what came before its first row.
    ended: Option<Instant>,
    began: Option<Instant>,
}

impl Answer {
    /// The only column of the only row.
    pub fn value(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
    }

    /// How long it ran, once it was planned; of a statement that [is timed](Ask::is_timed).
    pub fn running(&self) -> Duration {
        match (self.began, self.ended) {
            (Some(began), Some(ended)) => ended.saturating_duration_since(began),
            _ => Duration::ZERO,
        }
    }

    /// How long the server took to plan it, behind the answer before; of a statement that [is timed](Ask::is_timed).
    pub fn planning(&self, before: &Answer) -> Duration {
        match (self.began, before.ended) {
            (Some(began), Some(ended)) => began.saturating_duration_since(ended),
            _ => Duration::ZERO,
        }
    }
}

/// How the exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Commits where no transaction block is open.
    Sync,
    /// Leaves the client's implicit transaction open. After an error the server skips to the client's own Sync.
    Flush,
}

/// The OID that [`Ask::about`] has found, 0 if none.
pub const NAMED: &str = "pg_catalog.current_setting('lockkeeper.named')::pg_catalog.oid";

/// Settings that differ while it runs, besides the search_path.
fn others(ask: &Ask) -> &'static [(&'static str, &'static str)] {
    match ask.catalog {
        Some(_) => path::CATALOG,
        None => path::ANY,
    }
}

/// With what sets our search_path and puts the client's back between them; for each whether it is one of `asks`. `ends`: our search_path
/// ends with the transaction, which is not the client's.
fn with_paths(asks: &[Ask], ends: bool) -> (Vec<Ask>, Vec<bool>) {
    let mut all = Vec::with_capacity(asks.len() + 2);
    let mut asked = Vec::with_capacity(asks.len() + 2);
    // What is ours now besides the search_path, if that is.
    let mut ours: Option<&'static [(&'static str, &'static str)]> = None;
    let mut put = |ask: Ask, is_asked: bool| {
        all.push(ask);
        asked.push(is_asked);
    };
    for ask in asks {
        // Names are looked for with the client's path.
        if let Some(set) = ours
            && (ask.path == Path::Client || !ask.ahead.is_empty() || others(ask) != set)
        {
            put(Ask::as_client(path::back(set)), false);
            ours = None;
        }
        if ours.is_none() && ask.path == Path::Ours {
            put(Ask::as_client(path::to_ours(&ask.ahead, others(ask))), false);
            ours = Some(others(ask));
        }
        put(ask.clone(), true);
    }
    if let Some(set) = ours.filter(|_| !ends) {
        put(Ask::as_client(path::back(set)), false);
    }
    (all, asked)
}

/// What the client hears meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Hears<'a> {
    /// The server's notices are kept from it: they are about statements of ours.
    Nothing,
    /// The server's notices.
    Notices,
    /// Also, about every so long, that `what` is still running, and whom it waits for, if it takes a lock.
    Progress {
        what: &'a str,
        every: Duration,
        waits: Option<&'a Waits>,
    },
}

impl Relay {
    /// Runs statements one after the other up to the first error, which is what they are refused with.
    pub async fn ask(&mut self, asks: &[Ask], closing: Closing, hears: Hears<'_>) -> Result<Vec<Answer>, End> {
        if !asks.iter().any(|ask| ask.of_jobs) {
            return self.ask_all(asks, closing, hears).await;
        }
        let [own, guard] = jobs::guards();
        // Where what is asked is kept prepared, so is what is asked before.
        let is_kept = asks.iter().any(|ask| ask.of_jobs && ask.catalog.is_some());
        let guard = Ask {
            catalog: is_kept.then(|| GUARD.to_owned()),
            ..Ask::new(guard)
        };
        let guards = [Ask::as_client(own), guard];
        let restore = self.status != b'I' || closing == Closing::Flush;
        let restore = restore.then(|| Ask::as_client(jobs::UNGUARD));
        // An error of theirs is undone with what they guard.
        let at = usize::from(asks.first().is_some_and(|ask| ask.sql.starts_with("SAVEPOINT ")));
        let (before, behind) = asks.split_at(at);
        let guarded: Vec<Ask> = [before, &guards, behind, restore.as_slice()].concat();
        let distrust = |report: Report| match jobs::distrust_in(&report.sqlstate(), &report.message()) {
            Some(why) => Report::error(
                "55000",
                &format!("lockkeeper: lockkeeper.job cannot be trusted here: {why}"),
            ),
            None => report,
        };
        let answers = self.ask_all(&guarded, closing, hears).await;
        let mut answers = answers.map_err(|end| end.reworded(distrust))?;
        answers.drain(at..at + guards.len());
        answers.truncate(asks.len());
        Ok(answers)
    }

    async fn ask_all(&mut self, asks: &[Ask], closing: Closing, hears: Hears<'_>) -> Result<Vec<Answer>, End> {
        debug_assert!(self.responses.quiescent());
        if self.responses.skipping() {
            // The server would not answer before the client's Sync.
            return Err(Report::error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )
            .into());
        }
        // A block that has failed takes nothing but its end, which looks for nothing by name.
        let ends = closing == Closing::Sync
            && (self.block_failed() || (self.is_outside_block() && asks.iter().all(|ask| ask.path == Path::Ours)));
        let (asks, asked) = self.with_guards(with_paths(asks, ends), closing);
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        if std::mem::take(&mut self.ends_unnamed) {
            // As the client's simple query would have done: its last unnamed portal keeps relations open (55006).
            wire::put_close(&mut out, b'P', "");
            wire::put_close(&mut out, b'S', "");
            b"CC".iter().for_each(|tag| owed.sent(*tag));
        }
        // A pooler would have the next transaction look for it elsewhere, and others stumble over it.
        let pooled = self.is_behind_pooler();
        let keeps = closing == Closing::Sync && !pooled;
        // Nor is it named where an error would leave it.
        let own = match pooled && closing == Closing::Sync && self.is_outside_block() {
            true => String::new(),
            false => self.reserved.clone(),
        };
        // Of each answer whether it is one of those that were asked for, and how many of its columns are not the client's.
        let mut expected: Vec<(bool, Option<usize>)> = Vec::with_capacity(asks.len());
        for (ask, is_asked) in asks.iter().zip(asked) {
            if ask.is_timed {
                wire::put_flush(&mut out);
            }
            // An error may have left both behind in a transaction block that is still open.
            wire::put_close(&mut out, b'P', &self.reserved);
            let kept = ask.kept().filter(|_| keeps);
            let statement = match kept {
                Some(text) => self.kept_name(text),
                None => own.clone(),
            };
            if let Some(text) = kept
                && self.prepared.contains(text)
            {
                owed.sent(b'C');
            } else {
                let text = if ask.raw.is_empty() {
                    ask.sql.as_bytes()
                } else {
                    &ask.raw
                };
                wire::put_close(&mut out, b'S', &statement);
                wire::put_parse(&mut out, statement.as_bytes(), text, &ask.types);
                b"CCP".iter().for_each(|tag| owed.sent(*tag));
            }
            let delivers = ask.delivers.as_ref();
            let formats = delivers.map_or(&[][..], |deliver| &deliver.formats);
            let portal = self.reserved.as_bytes();
            // The server chooses between its plans when it binds; what the statement calls is planned as ever.
            let is_lasting = kept.is_some() && ask.lasting.is_some();
            if is_lasting {
                self.put_setting(&mut out, &mut owed, path::ONE_PLAN);
                expected.push((false, None));
            }
            wire::put_bind(&mut out, portal, statement.as_bytes(), &ask.parameters, formats);
            owed.sent(b'B');
            if is_lasting {
                self.put_setting(&mut out, &mut owed, path::ANY_PLAN);
                expected.push((false, None));
            }
            expected.push((is_asked, ask.delivers.as_ref().map(|deliver| deliver.cut)));
            if ask.is_timed {
                wire::put_flush(&mut out);
            }
            let described = delivers.is_some_and(|deliver| deliver.described);
            if described {
                wire::put_describe_portal(&mut out, self.reserved.as_bytes());
            }
            wire::put_execute(&mut out, &self.reserved);
            wire::put_close(&mut out, b'P', &self.reserved);
            let sent = if described { &b"DEC"[..] } else { b"EC" };
            sent.iter().for_each(|tag| owed.sent(*tag));
            if kept.is_none() {
                wire::put_close(&mut out, b'S', &own);
                owed.sent(b'C');
            }
        }
        self.end(&mut out, &mut owed, closing);
        self.send(&out).await;
        let (asked, cuts): (Vec<bool>, Vec<Option<usize>>) = expected.into_iter().unzip();
        let answered = self.collect(&mut owed, hears, &cuts).await;
        if let Err(End::Broken(_)) = answered {
            return answered;
        }
        // What an error has left of them is not known; what has been answered is prepared.
        let kept = asks.iter().filter_map(Ask::kept);
        match (closing, &answered) {
            (Closing::Sync, Ok(_)) if keeps => self.prepared.extend(kept.cloned()),
            (_, Err(_)) => kept.for_each(|text| {
                self.prepared.remove(text);
            }),
            (_, Ok(_)) => {}
        }
        match &answered {
            Err(_) => self.after_error(closing).await?,
            // Whoever asked may then look for each answer in its place.
            Ok(answers) if answers.len() != asked.len() => {
                let what = format!(
                    "the server gave {} results to {} statements",
                    answers.len(),
                    asked.len()
                );
                return Err(Broken::Protocol(what).into());
            }
            Ok(_) => {}
        }
        let is_asked = |(answer, asked): (Answer, bool)| asked.then_some(answer);
        Ok(answered?.into_iter().zip(asked).filter_map(is_asked).collect())
    }

    /// A setting of ours, while another portal of ours is bound.
    fn put_setting(&self, out: &mut BytesMut, owed: &mut Responses, sql: &str) {
        let name = format!("{}_set", self.reserved);
        wire::put_close(out, b'P', &name);
        wire::put_close(out, b'S', &name);
        wire::put_parse(out, name.as_bytes(), sql.as_bytes(), &[]);
        wire::put_bind(out, name.as_bytes(), name.as_bytes(), &[], &[]);
        wire::put_execute(out, &name);
        wire::put_close(out, b'P', &name);
        wire::put_close(out, b'S', &name);
        b"CCPBECC".iter().for_each(|tag| owed.sent(*tag));
    }

    /// Is not kept prepared any more. Only where a Sync harms nothing.
    pub async fn forget(&mut self, names: &[String]) -> Result<(), Broken> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        for name in names {
            self.prepared.remove(name);
            wire::put_close(&mut out, b'S', &self.kept_name(name));
            owed.sent(b'C');
        }
        self.end(&mut out, &mut owed, Closing::Sync);
        self.send(&out).await;
        // Closing cannot fail.
        unless_refused(self.collect(&mut owed, Hears::Notices, &[]).await).map(|_| ())
    }

    /// The name of a question that the session keeps prepared.
    fn kept_name(&self, text: &str) -> String {
        format!("{}_{text}", self.reserved)
    }

    /// In front of what is kept: nobody has put a statement of his own in its place, as a SECURITY DEFINER function could, to have it run
    /// with the session's rights. What was prepared by the protocol is ours. Nothing of the client's runs in between.
    fn with_guards(&self, (asks, asked): (Vec<Ask>, Vec<bool>), closing: Closing) -> (Vec<Ask>, Vec<bool>) {
        let relies = |text: &&String| closing == Closing::Sync && self.prepared.contains(*text);
        if !asks.iter().filter_map(Ask::kept).any(|text| relies(&text)) {
            return (asks, asked);
        }
        let mut all = (Vec::with_capacity(asks.len()), Vec::with_capacity(asks.len()));
        for (ask, is_asked) in asks.into_iter().zip(asked) {
            if let Some(text) = ask.kept().filter(relies) {
                let guard = path::guard(&self.kept_name(text));
                match all.0.last_mut().filter(|before: &&mut Ask| path::is_ahead(&before.sql)) {
                    Some(before) => before.sql.push_str(&format!(", {guard}")),
                    None => {
                        all.0.push(Ask::new(format!("SELECT {guard}")));
                        all.1.push(false);
                    }
                }
            }
            all.0.push(ask);
            all.1.push(is_asked);
        }
        all
    }

    /// Asks the server to parse a text without running it. Ok: it accepts the text, as one statement.
    pub async fn ask_parse(&mut self, text: &[u8], closing: Closing) -> Result<(), End> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_close(&mut out, b'S', &self.reserved);
        wire::put_parse(&mut out, self.reserved.as_bytes(), text, &[]);
        wire::put_close(&mut out, b'S', &self.reserved);
        b"CPC".iter().for_each(|tag| owed.sent(*tag));
        self.end(&mut out, &mut owed, closing);
        self.send(&out).await;
        let answered = self.collect(&mut owed, Hears::Notices, &[]).await;
        if let Err(End::Refused(_)) = answered {
            self.after_error(closing).await?;
        }
        answered.map(|_| ())
    }

    /// Ok: the client's portal of that name is there.
    pub async fn ask_describe(&mut self, portal: &[u8]) -> Result<(), End> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_describe_portal(&mut out, portal);
        owed.sent(b'D');
        self.end(&mut out, &mut owed, Closing::Flush);
        self.send(&out).await;
        let answered = self.collect(&mut owed, Hears::Nothing, &[]).await;
        if let Err(End::Refused(_)) = answered {
            self.after_error(Closing::Flush).await?;
        }
        answered.map(|_| ())
    }

    /// An empty simple query: to the transaction of an extended-query group without Sync it does what the client's own query, which
    /// we have carried out in its place, would have done. Before PostgreSQL 18 that ends it.
    pub async fn ask_as_query(&mut self) -> Result<(), End> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_query(&mut out, b"");
        owed.sent(b'Q');
        self.send(&out).await;
        self.collect(&mut owed, Hears::Notices, &[]).await?;
        Ok(())
    }

    /// Ends an extended-query group that the client left without a Sync.
    pub async fn end_group(&mut self) -> Result<(), Broken> {
        self.responses.sent_for(b'S', OnAnswer::Swallow);
        let mut out = BytesMut::new();
        wire::put_sync(&mut out);
        self.send(&out).await;
        self.settle().await?;
        match self.unclosed {
            true => self.close_reserved().await,
            false => Ok(()),
        }
    }

    fn end(&self, out: &mut BytesMut, owed: &mut Responses, closing: Closing) {
        match closing {
            Closing::Sync => {
                wire::put_sync(out);
                owed.sent(b'S');
            }
            Closing::Flush => wire::put_flush(out),
        }
    }

    /// A long question to the catalog, with [`Ask::catalog`]. The session keeps it prepared, unless the client or its functions have meanwhile
    /// thrown away all that is, or put something else in its place: then it is asked again, and the client's transaction is none the worse.
    pub async fn ask_catalog(&mut self, ask: Ask, closing: Closing) -> Result<Answer, End> {
        let answers = self.ask_catalogs(vec![ask], closing).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    /// Several at once, an answer each. What the client's search_path decides is found for all of them at the beginning.
    pub async fn ask_catalogs(&mut self, mut questions: Vec<Ask>, closing: Closing) -> Result<Vec<Answer>, End> {
        if let Some((first, others)) = questions.split_first_mut() {
            others.iter_mut().for_each(|other| first.ahead.append(&mut other.ahead));
        }
        let is_guarded = self.place() == Place::Block;
        if !is_guarded && !self.is_outside_block() {
            // Whether a savepoint can be set is not known.
            for text in questions.iter().flat_map(Ask::catalogs) {
                self.prepared.remove(text);
            }
        }
        let kept = |ask: &Ask| ask.catalogs().any(|text| self.prepared.contains(text));
        let relies = closing == Closing::Sync && questions.iter().any(kept);
        let is_guarded = relies && is_guarded;
        let point = self.reserved.clone();
        let command = |command: &str| Ask::as_client(format!("{command} {point}"));
        let asks = match is_guarded {
            true => {
                let mut asks = vec![command("SAVEPOINT")];
                asks.extend(questions.iter().cloned());
                asks.push(command("RELEASE SAVEPOINT"));
                asks
            }
            false => questions.clone(),
        };
        let (before, many) = (usize::from(is_guarded), questions.len());
        let report = match self.ask(&asks, closing, Hears::Nothing).await {
            Ok(answers) => return Ok(answers.into_iter().skip(before).take(many).collect()),
            Err(End::Refused(report)) => report,
            Err(broken) => return Err(broken),
        };
        // invalid_sql_statement_name, and division_by_zero of the guard.
        if !relies || !matches!(report.get(b'C'), Some(b"26000" | b"22012")) {
            return Err(report.into());
        }
        if is_guarded {
            let back = [command("ROLLBACK TO SAVEPOINT"), command("RELEASE SAVEPOINT")];
            self.ask(&back, Closing::Sync, Hears::Nothing).await?;
        }
        self.ask(&questions, closing, Hears::Nothing).await
    }

    /// The reserved statement is closed behind an error too, so that the client never finds it.
    async fn after_error(&mut self, closing: Closing) -> Result<(), Broken> {
        if closing == Closing::Flush {
            self.responses.skip_to_sync();
            self.unclosed = true;
            self.stop_at_sync = true;
            return Ok(());
        }
        self.close_reserved().await
    }

    /// Only where a Sync harms nothing.
    pub async fn close_reserved(&mut self) -> Result<(), Broken> {
        self.unclosed = false;
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_close(&mut out, b'P', &self.reserved);
        wire::put_close(&mut out, b'S', &self.reserved);
        b"CC".iter().for_each(|tag| owed.sent(*tag));
        self.end(&mut out, &mut owed, Closing::Sync);
        self.send(&out).await;
        // Closing cannot fail.
        unless_refused(self.collect(&mut owed, Hears::Notices, &[]).await).map(|_| ())
    }

    /// `cuts`: for each statement whether its rows are the client's, and how many of their columns are not.
    async fn collect(
        &mut self,
        owed: &mut Responses,
        hears: Hears<'_>,
        cuts: &[Option<usize>],
    ) -> Result<Vec<Answer>, End> {
        let started = Instant::now();
        let mut answers = Vec::new();
        let mut current = Answer::default();
        let mut error = None;
        while !owed.quiescent() {
            let frame = match hears {
                Hears::Progress { what, every, waits } => match tokio::time::timeout(every, self.receive()).await {
                    Ok(frame) => frame?,
                    Err(_) => {
                        let waits = waits.map(|waits| waits.told("; it waits for ", "; whether it waits for others"));
                        let waits = waits.unwrap_or_default();
                        self.notice(&format!("{what}: running for {} s{waits}", started.elapsed().as_secs()))
                            .await?;
                        continue;
                    }
                },
                _ => self.receive().await?,
            };
            let tag = frame[0];
            let cut = cuts.get(answers.len()).copied().flatten();
            match (tag, cut) {
                (b'D' | b'T', Some(cut)) => {
                    current.delivered += u64::from(tag == b'D');
                    wire::put_without_last_columns(&mut current.frames, &frame, cut)
                        .ok_or_else(|| Broken::Protocol("the server sent a row that cannot be read".into()))?;
                }
                (b'D', None) => current.rows.extend(wire::data_row(&frame)),
                _ => {}
            }
            match tag {
                b'C' => {
                    self.shapes.heard(&frame[HEADER..]);
                    current.tag = wire::c_string(&frame[HEADER..])
                        .map(|(tag, _)| String::from_utf8_lossy(tag).into_owned())
                        .unwrap_or_default();
                    current.ended = Some(Instant::now());
                    answers.push(std::mem::take(&mut current));
                    current.began = Some(Instant::now());
                }
                b'2' => current.began = Some(Instant::now()),
                b'I' => answers.push(std::mem::take(&mut current)),
                b'E' => {
                    let report = Report::of_frame(&frame);
                    if matches!(report.get(b'V').or(report.get(b'S')), Some(b"FATAL" | b"PANIC")) {
                        self.tell_last(&frame).await?;
                        return Err(Broken::Server(io::ErrorKind::ConnectionAborted.into()).into());
                    }
                    error.get_or_insert(report);
                }
                b'Z' => self.ready(&frame),
                b'N' if matches!(hears, Hears::Nothing) => {
                    current.warnings.push(Report::of_frame(&frame).sqlstate().to_string());
                }
                b'N' | b'A' => self.tell(&frame).await?,
                b'S' => {
                    self.takes_report(&frame[HEADER..]);
                    self.tell(&frame).await?;
                }
                _ => {}
            }
            owed.received(tag);
        }
        error.map_or(Ok(answers), |report| Err(report.into()))
    }

    /// In which the client reads what is written here.
    pub fn encoding(&self) -> Encoding {
        Encoding::of(&self.reading().encoding, &self.reported.server_encoding)
    }

    /// A NOTICE of Lockkeeper's own, unless the client's client_min_messages hides notices. A client that has gone
    /// away hears nothing, and that is no error here: what is running is brought to a named end first.
    pub async fn notice(&mut self, text: &str) -> Result<(), Broken> {
        if !self.hears_notices || self.client_gone() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        Report::notice(&format!("lockkeeper: {text}")).put_notice(&mut out, self.encoding());
        self.tell(&out).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_runs_with_our_path_and_nothing_else_does() {
        let check = |asks: &[Ask], ends: bool, expect: &str| {
            let (all, asked) = with_paths(asks, ends);
            let told = |(ask, asked): (&Ask, &bool)| match (asked, ask.path) {
                (false, _) if ask.sql.contains("'search_path', 'pg_catalog, pg_temp'") => '>',
                (false, _) => '<',
                (true, Path::Ours) => 'o',
                (true, Path::Client) => 'c',
            };
            let told: String = all.iter().zip(&asked).map(told).collect();
            assert_eq!(told, expect);
        };
        let (ours, client) = (Ask::new("SELECT 1"), Ask::as_client("SELECT 2"));
        let about = Ask::about("SELECT 3", "t");
        check(&[], true, "");
        check(&[Ask::new("BEGIN"), ours.clone()], false, "c>o<");
        check(std::slice::from_ref(&client), false, "c");
        check(&[ours.clone(), ours.clone()], true, ">oo");
        check(std::slice::from_ref(&ours), false, ">o<");
        check(&[client.clone(), ours.clone(), client.clone()], false, "c>o<c");
        check(&[ours.clone(), about.clone(), ours], false, ">o<>oo<");
        let (all, _) = with_paths(&[about], true);
        assert!(all[0].sql.contains("to_regclass('t')"), "{}", all[0].sql);
    }
}
