//! The proxy's own statements on the client's server connection, while the session is quiescent.
//!
//! They use the extended protocol with a reserved name, never a simple Query, which would commit the client's
//! implicit transaction and destroy its unnamed statement (measured). Errors of the server are values here.

use super::blockers::Waits;
use super::encoding::Encoding;
use super::relay::{Broken, Relay};
use super::responses::Responses;
use super::wire::{self, HEADER, Report};
use crate::plan::jobs::{self, JobSql};
use crate::plan::splice::quote_literal;
use bytes::{Bytes, BytesMut};
use std::io;
use std::time::{Duration, Instant};

/// One statement of ours.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub sql: String,
    /// In its place the text as bytes, where it is the client's own in its encoding.
    pub raw: Bytes,
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
    pub fn new(sql: impl Into<String>) -> Ask {
        Ask {
            sql: sql.into(),
            ..Ask::default()
        }
    }

    /// Sets a parameter for the rest of the transaction; silent and without effect afterwards, unlike SET LOCAL.
    pub fn set_local(name: &str, value: &str) -> Ask {
        Ask::new(format!("SELECT pg_catalog.set_config('{name}', '{value}', true)"))
    }

    /// Keeps a parameter's value within the client's own transaction, for [`Ask::restore`].
    pub fn stash(name: &str) -> Ask {
        Ask::new(format!(
            "SELECT pg_catalog.set_config('lockkeeper.{name}', pg_catalog.current_setting('{name}'), true)"
        ))
    }

    pub fn restore(name: &str) -> Ask {
        Ask::new(format!(
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
        Ask::new(format!("SELECT {}", all.join(", ")))
    }

    /// The same until it is set again.
    pub fn set_session(name: &str, value: &str) -> Ask {
        Ask::new(format!("SELECT pg_catalog.set_config('{name}', '{value}', false)"))
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
}

impl Answer {
    /// The only column of the only row.
    pub fn value(&self) -> Option<&str> {
        self.rows.first()?.first()?.as_deref()
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
    /// Runs statements one after the other up to the first error. The outer error means that the session is over.
    pub async fn ask(
        &mut self,
        asks: &[Ask],
        closing: Closing,
        hears: Hears<'_>,
    ) -> Result<Result<Vec<Answer>, Report>, Broken> {
        if !asks.iter().any(|ask| ask.of_jobs) {
            return self.ask_all(asks, closing, hears).await;
        }
        let guards = jobs::guards().map(Ask::new);
        let restore = self.status != b'I' || closing == Closing::Flush;
        let restore = restore.then(|| Ask::new(jobs::UNGUARD));
        let guarded: Vec<Ask> = guards.iter().chain(asks).chain(&restore).cloned().collect();
        let answers = self.ask_all(&guarded, closing, hears).await?;
        Ok(match answers {
            Ok(answers) => Ok(answers.into_iter().skip(guards.len()).take(asks.len()).collect()),
            Err(report) => Err(match jobs::distrust_in(&report.sqlstate(), &report.message()) {
                Some(why) => Report::error(
                    "55000",
                    &format!("lockkeeper: lockkeeper.job cannot be trusted here: {why}"),
                ),
                None => report,
            }),
        })
    }

    async fn ask_all(
        &mut self,
        asks: &[Ask],
        closing: Closing,
        hears: Hears<'_>,
    ) -> Result<Result<Vec<Answer>, Report>, Broken> {
        debug_assert!(self.responses.quiescent());
        if self.responses.skipping() {
            // The server would not answer before the client's Sync.
            return Ok(Err(Report::error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            )));
        }
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        if std::mem::take(&mut self.ends_unnamed) {
            // As the client's simple query would have done: its last unnamed portal keeps relations open (55006).
            wire::put_close(&mut out, b'P', "");
            wire::put_close(&mut out, b'S', "");
            b"CC".iter().for_each(|tag| owed.sent(*tag));
        }
        for ask in asks {
            // An error may have left both behind in a transaction block that is still open.
            wire::put_close(&mut out, b'P', &self.reserved);
            wire::put_close(&mut out, b'S', &self.reserved);
            let text = if ask.raw.is_empty() {
                ask.sql.as_bytes()
            } else {
                &ask.raw
            };
            wire::put_parse(&mut out, self.reserved.as_bytes(), text, &ask.types);
            let name = self.reserved.as_bytes();
            let delivers = ask.delivers.as_ref();
            let formats = delivers.map_or(&[][..], |deliver| &deliver.formats);
            wire::put_bind(&mut out, name, name, &ask.parameters, formats);
            let described = delivers.is_some_and(|deliver| deliver.described);
            if described {
                wire::put_describe_portal(&mut out, &self.reserved);
            }
            wire::put_execute(&mut out, &self.reserved);
            wire::put_close(&mut out, b'P', &self.reserved);
            wire::put_close(&mut out, b'S', &self.reserved);
            let sent = if described { &b"CCPBDECC"[..] } else { b"CCPBECC" };
            sent.iter().for_each(|tag| owed.sent(*tag));
        }
        self.end(&mut out, &mut owed, closing);
        self.send(&out).await;
        let cuts: Vec<Option<usize>> = asks.iter().map(|ask| Some(ask.delivers.as_ref()?.cut)).collect();
        let answered = self.collect(&mut owed, hears, &cuts).await?;
        match &answered {
            Err(_) => self.after_error(closing).await?,
            // Whoever asked may then look for each answer in its place.
            Ok(answers) if answers.len() != asks.len() => {
                let what = format!("the server gave {} results to {} statements", answers.len(), asks.len());
                return Err(Broken::Protocol(what));
            }
            Ok(_) => {}
        }
        Ok(answered)
    }

    /// Asks the server to parse a text without running it. Ok: it accepts the text, as one statement.
    pub async fn ask_parse(&mut self, text: &[u8], closing: Closing) -> Result<Result<(), Report>, Broken> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_close(&mut out, b'S', &self.reserved);
        wire::put_parse(&mut out, self.reserved.as_bytes(), text, &[]);
        wire::put_close(&mut out, b'S', &self.reserved);
        b"CPC".iter().for_each(|tag| owed.sent(*tag));
        self.end(&mut out, &mut owed, closing);
        self.send(&out).await;
        let answered = self.collect(&mut owed, Hears::Notices, &[]).await?.map(|_| ());
        if answered.is_err() {
            self.after_error(closing).await?;
        }
        Ok(answered)
    }

    /// An empty simple query: to the transaction of an extended-query group without Sync it does what the client's own query, which
    /// we have carried out in its place, would have done. Before PostgreSQL 18 that ends it.
    pub async fn ask_as_query(&mut self) -> Result<Result<(), Report>, Broken> {
        let mut owed = Responses::default();
        let mut out = BytesMut::new();
        wire::put_query(&mut out, b"");
        owed.sent(b'Q');
        self.send(&out).await;
        Ok(self.collect(&mut owed, Hears::Notices, &[]).await?.map(|_| ()))
    }

    /// Ends an extended-query group that the client left without a Sync.
    pub async fn end_group(&mut self) -> Result<(), Broken> {
        self.responses.sent(b'S');
        let mut out = BytesMut::new();
        wire::put_sync(&mut out);
        self.send(&out).await;
        self.swallow_ready = true;
        let settled = self.settle().await;
        self.swallow_ready = false;
        settled?;
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

    /// A long question to the catalog. In a database of many tables the planner expects it to cost so much that the JIT compiler
    /// would work on it for seconds.
    pub async fn ask_catalog(&mut self, sql: String, closing: Closing) -> Result<Result<Answer, Report>, Broken> {
        // What is set for a transaction of our own ends with it.
        let restore = self.status != b'I' || closing == Closing::Flush;
        let mut asks = vec![Ask::set_local("jit", "off"), Ask::new(sql)];
        if restore {
            asks.insert(0, Ask::stash("jit"));
            asks.push(Ask::restore("jit"));
        }
        let answers = self.ask(&asks, closing, Hears::Nothing).await?;
        let at = 1 + usize::from(restore);
        Ok(answers.map(|answers| answers.into_iter().nth(at).unwrap_or_default()))
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
        self.collect(&mut owed, Hears::Notices, &[]).await.map(|_| ())
    }

    /// `cuts`: for each statement whether its rows are the client's, and how many of their columns are not.
    async fn collect(
        &mut self,
        owed: &mut Responses,
        hears: Hears<'_>,
        cuts: &[Option<usize>],
    ) -> Result<Result<Vec<Answer>, Report>, Broken> {
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
                    current.tag = wire::c_string(&frame[HEADER..])
                        .map(|(tag, _)| String::from_utf8_lossy(tag).into_owned())
                        .unwrap_or_default();
                    answers.push(std::mem::take(&mut current));
                }
                b'I' => answers.push(std::mem::take(&mut current)),
                b'E' => {
                    let report = Report::of_frame(&frame);
                    if matches!(report.get(b'V').or(report.get(b'S')), Some(b"FATAL" | b"PANIC")) {
                        self.tell(&frame).await?;
                        return Err(Broken::Server(io::ErrorKind::ConnectionAborted.into()));
                    }
                    error.get_or_insert(report);
                }
                b'Z' => self.ready(&frame),
                b'N' if matches!(hears, Hears::Nothing) => {
                    current.warnings.push(Report::of_frame(&frame).sqlstate().to_string());
                }
                b'N' | b'A' => self.tell(&frame).await?,
                b'S' => {
                    self.reported.take_in(&frame[HEADER..]);
                    self.tell(&frame).await?;
                }
                _ => {}
            }
            owed.received(tag);
        }
        Ok(error.map_or(Ok(answers), Err))
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
