//! One client and its server connection: takes the frames that need attention, has them judged, and answers.
//!
//! Start at [`Session::run`]. Everything else a client sends is forwarded by [`super::relay`] without coming here.

use super::conduct::Setting;
use super::dialogue::{Answer, Ask, Closing, Hears};
use super::journal::Entry;
use super::relay::{Broken, Event, Held, HeldKind, HeldPortal, Mode, Relay};
use super::wire::{self, Report};
use super::{CancelFlag, Shared, Stop};
use crate::audit::Who;
use crate::plan::facts::{Facts, Request};
use crate::plan::policy::{Action, Policy};
use crate::plan::statement::{Gate, Kind, Prepared, Statement, Unreadable, gate, may_use_prepared, prepared, read};
use crate::plan::{self, Mode as StepMode, Place, Plan, Rejection, batches};
use bytes::BytesMut;
use std::sync::Arc;

/// Above this a text is parsed away from the worker, whose other sessions would wait.
const PARSE_INLINE_MAX: usize = 32 << 10;

/// A parameterised UPDATE that is expected to touch so many times less than `rows_max` is not asked about again for a while.
const FAR_BELOW: f64 = 10.0;

pub(super) const SHUTTING_DOWN: &str = "terminating connection: lockkeeper is shutting down";

pub struct Session {
    pub(super) relay: Relay,
    pub(super) shared: Arc<Shared>,
    pub(super) cancel: Arc<CancelFlag>,
    pub(super) who: Who,
    /// Statements that were judged, for the audit events' ids.
    pub(super) judged: u64,
    /// The last plan failed, and it had statements of our own.
    pub(super) raced: bool,
}

/// The client's parameters of the statement that is being judged, for what is asked in its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub types: Vec<u8>,
    pub values: Vec<u8>,
}

impl Parameters {
    pub fn ask(&self, sql: String) -> Ask {
        Ask {
            sql,
            types: self.types.clone(),
            parameters: self.values.clone(),
        }
    }
}

/// What the session did about a statement.
pub(super) enum Verdict {
    /// The client's own bytes go on.
    Forward(Option<Entry>),
    /// Done by steps: the command tag.
    Done(String),
    /// Other text goes on and the server's answer with it (UPDATE … LIMIT).
    Instead(String, Entry),
    Refused(Report),
}

impl Session {
    /// Until one of both sides goes away.
    pub async fn run(&mut self) -> Result<(), Broken> {
        let mut stop = self.shared.stop.subscribe();
        loop {
            let stopping = *stop.borrow_and_update();
            self.relay.stopping = stopping != Stop::No;
            if stopping == Stop::Now {
                return self.say_goodbye().await;
            }
            let event = tokio::select! {
                biased;
                event = self.relay.run(Mode::Forward) => event?,
                _ = stop.changed() => continue,
            };
            match event {
                Event::Query(len) => self.on_query(len).await?,
                Event::Parse(len) => self.on_parse(len).await?,
                Event::Bind(len) => self.on_bind(len).await?,
                Event::Execute(len) => self.on_execute(len).await?,
                Event::Close(len) => self.on_close(len).await?,
                Event::TooLarge(tag, len) => self.on_too_large(tag, len).await?,
                Event::Quiescent => {}
                Event::Stopped => return self.say_goodbye().await,
                Event::ClientGone | Event::ServerGone => return Ok(()),
            }
        }
    }

    /// Not into the middle of a message of the server's.
    async fn say_goodbye(&mut self) -> Result<(), Broken> {
        if !self.relay.down.at_frame() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        Report::fatal("57P01", SHUTTING_DOWN).put_error(&mut out);
        self.relay.tell(&out).await
    }

    // --- simple query ---------------------------------------------------------------------------------------------

    async fn on_query(&mut self, len: usize) -> Result<(), Broken> {
        let Some(text) = wire::query_text(&self.relay.up.unjudged()[..len]).map(<[u8]>::to_vec) else {
            self.relay.pass_frame(len);
            return Ok(());
        };
        self.relay.settle().await?;
        if self.relay.responses.skipping() {
            self.relay.pass_frame(len);
            return Ok(());
        }
        let statements = self.read(&text).await;
        let unjudged = self.executes_held(statements.as_deref().unwrap_or_default());
        if (self.relay.place() == Place::Pipeline || self.relay.may_be_chained())
            && (unjudged.is_some() || !matches!(&statements, Ok(s) if !s.iter().any(needs_judging)))
        {
            // Extended-query messages without a Sync, then a simple query: what they did is committed first.
            self.relay.end_group().await?;
        }
        if let Some(report) = unjudged {
            return self.refuse_query(len, report).await;
        }
        match statements {
            Ok(statements) if !statements.iter().any(needs_judging) => {
                self.relay.pass_frame(len);
                if let [statement] = statements.as_slice() {
                    self.forget_when_done(statement).await?;
                }
            }
            Ok(_) if self.relay.replication => {
                let refused = Report::error(
                    "0A000",
                    "a schema change over a replication connection is not judged, so it is refused",
                )
                .hint("Send it over an ordinary connection.");
                self.refuse_query(len, refused).await?;
            }
            Ok(statements) if statements.len() == 1 => {
                // In a failed transaction block the server refuses it itself.
                if self.relay.block_failed() {
                    self.relay.pass_frame(len);
                    return Ok(());
                }
                let place = self.relay.place();
                let shift = characters(&text[..statements[0].offset]);
                let verdict = self
                    .verdict(&statements[0], place, &Parameters::default(), Closing::Sync, shift)
                    .await?;
                self.answer_query(len, verdict).await?;
            }
            Ok(statements) => self.run_script(len, &text, statements).await?,
            Err(unreadable) if self.relay.replication => {
                self.on_unreadable_replication(len, &text, &unreadable).await?
            }
            Err(unreadable) => self.on_unreadable_query(len, &text, unreadable).await?,
        }
        Ok(())
    }

    /// EXECUTE of what was prepared over the protocol and is judged only when it is executed over the protocol too.
    fn executes_held(&self, statements: &[Statement]) -> Option<Report> {
        let unjudged = |name: &str| {
            let held = self.relay.statements.get(name.as_bytes())?;
            let sql = String::from_utf8_lossy(&held.text).into_owned();
            // As of any other EXECUTE, the rows of an UPDATE or DELETE are not counted.
            let write = match read(&held.text, self.relay.reported.standard_conforming_strings) {
                Ok(statements) => statements.iter().all(|s| matches!(s.kind, Kind::Write)),
                Err(_) => false,
            };
            (held.what != HeldKind::Rewritten && held.what != HeldKind::Forgets && !write).then_some(sql)
        };
        let sql = statements.iter().find_map(|statement| match prepared(statement)? {
            Prepared::Executes(name) => unjudged(name),
            _ => None,
        })?;
        let report = Report::error(
            "0A000",
            "lockkeeper: EXECUTE of a schema change that was prepared over the protocol is not judged, so it is refused",
        );
        Some(
            report
                .detail(&sql)
                .hint("Send the statement itself, or execute it over the protocol."),
        )
    }

    /// The name of a prepared statement may have a new meaning after DEALLOCATE: it is forgotten once the server has done so.
    async fn forget_when_done(&mut self, statement: &Statement) -> Result<(), Broken> {
        let forgets = match prepared(statement) {
            None | Some(Prepared::Executes(_)) => return Ok(()),
            Some(forgets) => forgets,
        };
        self.relay.failed = false;
        self.relay.settle().await?;
        if !self.relay.failed {
            match forgets {
                Prepared::Forgets(name) => drop(self.relay.statements.remove(name.as_bytes())),
                // The unnamed one and those of the transaction's portals go too, or are replaced before they are used.
                _ => self.relay.statements.clear(),
            }
        }
        Ok(())
    }

    async fn answer_query(&mut self, len: usize, verdict: Verdict) -> Result<(), Broken> {
        match verdict {
            Verdict::Forward(None) => self.relay.pass_frame(len),
            Verdict::Forward(Some(entry)) => {
                self.relay.capture = true;
                self.relay.pass_frame(len);
                self.observe(entry).await?;
            }
            Verdict::Instead(sql, entry) => {
                let mut frame = BytesMut::new();
                wire::put_query(&mut frame, sql.as_bytes());
                self.relay.capture = true;
                self.relay.replace_frame(len, &frame);
                self.relay.hide_position = true;
                let observed = self.observe(entry).await;
                self.relay.hide_position = false;
                observed?;
            }
            Verdict::Done(tag) => {
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                wire::put_command_complete(&mut out, &tag);
                wire::put_ready(&mut out, self.relay.status);
                self.relay.tell(&out).await?;
            }
            Verdict::Refused(report) => self.refuse_query(len, report).await?,
        }
        Ok(())
    }

    /// Waits for the answer to a forwarded statement and writes its audit event.
    pub(super) async fn observe(&mut self, entry: Entry) -> Result<(), Broken> {
        self.relay.last_tag = None;
        self.relay.last_error = None;
        let settled = self.relay.settle().await;
        self.relay.capture = false;
        match &settled {
            Ok(()) => self.observed(entry).await,
            Err(broken) => self.record(entry.disconnected(broken)).await,
        }
        settled
    }

    /// The same, of an answer that has just gone by.
    pub(super) async fn observed(&mut self, entry: Entry) {
        let (tag, error) = (self.relay.last_tag.take(), self.relay.last_error.take());
        self.record(entry.answered(tag.as_deref(), error.as_ref())).await;
    }

    /// The client hears an error and, unless the transaction block is open, the server hears nothing.
    async fn refuse_query(&mut self, len: usize, report: Report) -> Result<(), Broken> {
        self.fail_on_server(&report, Closing::Sync).await?;
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        report.put_error(&mut out);
        wire::put_ready(&mut out, self.relay.status);
        self.relay.tell(&out).await
    }

    /// In a transaction the server must know that it failed, so it is given a statement that does. The status byte is
    /// then its own, never made up.
    pub(super) async fn fail_on_server(&mut self, report: &Report, closing: Closing) -> Result<(), Broken> {
        if self.relay.place() == Place::Alone || self.relay.block_failed() || self.relay.responses.skipping() {
            return Ok(());
        }
        let sql = format!(
            "DO {}",
            plan::splice::quote_literal(&format!(
                "BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}; END",
                plan::splice::quote_literal(&report.sqlstate()),
                plan::splice::quote_literal(&report.message()),
            ))
        );
        // Where PL/pgSQL is missing this fails with another error, which serves as well.
        match self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await? {
            Err(_) => Ok(()),
            Ok(_) => Err(Broken::Protocol(
                "the server did not fail a statement that raises an error".into(),
            )),
        }
    }

    /// A text that the judge cannot read: the server, asked to parse it, says what is wrong in its own words.
    async fn on_unreadable_query(&mut self, len: usize, text: &[u8], unreadable: Unreadable) -> Result<(), Broken> {
        if let Some(report) = self.refusal_unread(text, &unreadable) {
            self.record_unread(text, &report).await;
            return self.refuse_query(len, report).await;
        }
        match self.relay.ask_parse(text, Closing::Sync).await? {
            // Several statements are no error of the client's: told by the server's routine, since messages are translated.
            Err(report) if report.get(b'R') != Some(b"exec_parse_message") => {
                // The transaction, if there is one, has failed on the server by this very error.
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                report.put_error(&mut out);
                wire::put_ready(&mut out, self.relay.status);
                self.relay.tell(&out).await
            }
            Ok(()) if !may_be_ddl(text) => {
                self.relay.pass_frame(len);
                Ok(())
            }
            _ => match self.unparsed(text, &unreadable).await? {
                Verdict::Refused(report) => self.refuse_query(len, report).await,
                verdict => self.answer_query(len, verdict).await,
            },
        }
    }

    /// What the policy says of a text that the server accepts and the judge cannot read.
    async fn unparsed(&mut self, text: &[u8], unreadable: &Unreadable) -> Result<Verdict, Broken> {
        let why = unreadable.why();
        match self.shared.policy().unparsed {
            Action::Allow => Ok(Verdict::Forward(None)),
            Action::Warn => {
                let notice = format!("unparsed: the statement cannot be read and runs as it is: {why}");
                self.relay.notice(&notice).await?;
                Ok(Verdict::Forward(Some(self.entry_unparsed(text, why, "warn"))))
            }
            _ => {
                let report = unparsed_report(unreadable);
                let event = self.entry_unparsed(text, why, "reject").refused(&report);
                self.record(event).await;
                Ok(Verdict::Refused(report))
            }
        }
    }

    async fn record_unread(&mut self, text: &[u8], report: &Report) {
        let event = self.entry_unparsed(text, &report.message(), "reject").refused(report);
        self.record(event).await;
    }

    /// A replication command, as a rule. A server that is asked to parse over such a connection refuses to, and it runs
    /// SQL there too: so what is neither a command nor one query goes no further.
    async fn on_unreadable_replication(
        &mut self,
        len: usize,
        text: &[u8],
        unreadable: &Unreadable,
    ) -> Result<(), Broken> {
        if is_replication_command(text) {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if let Some(report) = self.refusal_unread(text, unreadable) {
            self.record_unread(text, &report).await;
            return self.refuse_query(len, report).await;
        }
        if !may_be_ddl(text) && !text.contains(&b';') {
            self.relay.pass_frame(len);
            return Ok(());
        }
        let report = unparsed_report(unreadable);
        self.record_unread(text, &report).await;
        self.refuse_query(len, report).await
    }

    /// Some: it is refused without asking the server.
    fn refusal_unread(&self, text: &[u8], unreadable: &Unreadable) -> Option<Report> {
        match unreadable {
            Unreadable::Syntax(_) => None,
            Unreadable::TooLarge => Some(
                Report::error(
                    "54000",
                    "lockkeeper: the statement is too large or its comments are nested too deeply to be judged",
                )
                .hint("Send it in parts, or connect to the server directly."),
            ),
            Unreadable::Encoding => {
                // Only what may change the schema has to be read; bytes above 127 are letters in every encoding.
                let ascii: Vec<u8> = text.iter().map(|b| if *b < 0x80 { *b } else { b'x' }).collect();
                match read(&ascii, self.relay.reported.standard_conforming_strings) {
                    Ok(statements)
                        if !statements
                            .iter()
                            .any(|s| matches!(s.kind, Kind::Ddl | Kind::LimitedWrite(_))) =>
                    {
                        None
                    }
                    _ => Some(
                        Report::error(
                            "22021",
                            "lockkeeper: a schema change must be valid UTF-8 to be judged, and this one is not",
                        )
                        .hint("Set client_encoding to UTF8 for schema changes."),
                    ),
                }
            }
        }
    }

    // --- extended query -------------------------------------------------------------------------------------------

    async fn on_parse(&mut self, len: usize) -> Result<(), Broken> {
        let frame = self.relay.up.unjudged()[..len].to_vec();
        let Some(parse) = wire::parse_message(&frame) else {
            self.relay.pass_frame(len);
            return Ok(());
        };
        self.relay.settle().await?;
        if self.relay.responses.skipping() {
            self.relay.pass_frame(len);
            return Ok(());
        }
        let uses_prepared = !self.relay.statements.is_empty() && may_use_prepared(parse.text);
        if gate(parse.text) != Gate::Read && !uses_prepared {
            return self.parse_as(len, parse.name, None).await;
        }
        let held = |what| Held {
            text: parse.text.to_vec(),
            types: parse.types.to_vec(),
            what,
            quiet_until: None,
        };
        match self.read(parse.text).await {
            Ok(statements) => match statements.as_slice() {
                [statement] if matches!(statement.kind, Kind::LimitedWrite(_)) && !self.relay.block_failed() => {
                    self.parse_limited(len, &parse, statement).await
                }
                [statement] if needs_judging(statement) => {
                    self.parse_as(len, parse.name, Some(held(HeldKind::Judge))).await
                }
                [statement] if prepared(statement).is_some() => {
                    if let Some(report) = self.executes_held(&statements) {
                        return self.refuse_extended(len, report).await;
                    }
                    let forgets = !matches!(prepared(statement), Some(Prepared::Executes(_)));
                    let held = forgets.then(|| held(HeldKind::Forgets));
                    self.parse_as(len, parse.name, held).await
                }
                [] | [_] => self.parse_as(len, parse.name, None).await,
                // The server takes only one; should it think otherwise, it is not run unread.
                _ => self.parse_as(len, parse.name, Some(held(HeldKind::Unreadable))).await,
            },
            Err(unreadable) => match self.refusal_unread(parse.text, &unreadable) {
                Some(report) => {
                    self.record_unread(parse.text, &report).await;
                    self.refuse_extended(len, report).await
                }
                None => {
                    let held = may_be_ddl(parse.text).then(|| held(HeldKind::Unreadable));
                    self.parse_as(len, parse.name, held).await
                }
            },
        }
    }

    /// Forwards a Parse and, once the server has taken it, remembers what it holds.
    async fn parse_as(&mut self, len: usize, name: &[u8], held: Option<Held>) -> Result<(), Broken> {
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if !self.relay.responses.skipping() {
            match held {
                Some(held) => {
                    self.relay.statements.insert(name.to_vec(), held);
                }
                None => {
                    self.relay.statements.remove(name);
                }
            }
        }
        Ok(())
    }

    async fn parse_limited(
        &mut self,
        len: usize,
        parse: &wire::ParseMessage<'_>,
        statement: &Statement,
    ) -> Result<(), Broken> {
        let place = self.relay.place();
        let shift = characters(&parse.text[..statement.offset]);
        match self
            .verdict(statement, place, &Parameters::default(), Closing::Flush, shift)
            .await?
        {
            Verdict::Instead(sql, _) => {
                let mut frame = BytesMut::new();
                wire::put_parse(&mut frame, parse.name, sql.as_bytes(), parse.types);
                self.relay.replace_frame(len, &frame);
                self.relay.hide_position = true;
                let settled = self.relay.settle().await;
                self.relay.hide_position = false;
                settled?;
                if !self.relay.responses.skipping() {
                    let held = Held {
                        text: parse.text.to_vec(),
                        types: parse.types.to_vec(),
                        what: HeldKind::Rewritten,
                        quiet_until: None,
                    };
                    self.relay.statements.insert(parse.name.to_vec(), held);
                }
                Ok(())
            }
            Verdict::Refused(report) => self.refuse_extended(len, report).await,
            // No PostgreSQL accepts it: its own syntax error is the answer.
            Verdict::Forward(_) | Verdict::Done(_) => self.parse_as(len, parse.name, None).await,
        }
    }

    async fn on_bind(&mut self, len: usize) -> Result<(), Broken> {
        let frame = self.relay.up.unjudged()[..len].to_vec();
        self.relay.settle().await?;
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if let Some((portal, statement)) = wire::bind_names(&frame)
            && !self.relay.responses.skipping()
        {
            match self.relay.statements.get(statement) {
                Some(held) if self.relay.is_held(statement) => {
                    let bound = HeldPortal {
                        statement: statement.to_vec(),
                        held: held.clone(),
                        bind: frame.clone(),
                    };
                    self.relay.portals.insert(portal.to_vec(), bound);
                }
                _ => drop(self.relay.portals.remove(portal)),
            }
        }
        Ok(())
    }

    async fn on_close(&mut self, len: usize) -> Result<(), Broken> {
        let frame = self.relay.up.unjudged()[..len].to_vec();
        self.relay.settle().await?;
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if !self.relay.responses.skipping() {
            match wire::close_target(&frame) {
                Some((b'S', name)) => self.relay.statements.remove(name).map(|_| ()),
                Some((_, name)) => self.relay.portals.remove(name).map(|_| ()),
                None => None,
            };
        }
        Ok(())
    }

    async fn on_execute(&mut self, len: usize) -> Result<(), Broken> {
        self.relay.settle().await?;
        let name = wire::portal_name(&self.relay.up.unjudged()[..len])
            .unwrap_or_default()
            .to_vec();
        let held = self.relay.portals.get(&name).cloned();
        let Some(portal) = held.filter(|_| !self.relay.responses.skipping() && !self.relay.block_failed()) else {
            // A failed transaction, or a Bind that failed.
            self.relay.pass_frame(len);
            return Ok(());
        };
        match portal.held.what {
            HeldKind::Rewritten => {
                let entry = self.entry_rewritten(&portal.held.text);
                self.relay.capture = true;
                self.relay.pass_frame(len);
                self.observe(entry).await
            }
            HeldKind::Unreadable => {
                let unreadable = Unreadable::Syntax("the server accepts it, Lockkeeper's grammar does not".into());
                match self.unparsed(&portal.held.text, &unreadable).await? {
                    Verdict::Refused(report) => self.refuse_extended(len, report).await,
                    Verdict::Forward(Some(entry)) => {
                        self.relay.capture = true;
                        self.relay.pass_frame(len);
                        self.observe(entry).await
                    }
                    _ => {
                        self.relay.pass_frame(len);
                        Ok(())
                    }
                }
            }
            HeldKind::Judge => self.execute_judged(len, portal).await,
            HeldKind::Forgets => {
                self.relay.pass_frame(len);
                match self.read(&portal.held.text).await.as_deref() {
                    Ok([statement]) => self.forget_when_done(statement).await,
                    _ => Ok(()),
                }
            }
        }
    }

    async fn execute_judged(&mut self, len: usize, portal: HeldPortal) -> Result<(), Broken> {
        let held = &portal.held;
        let statements = self.read(&held.text).await.unwrap_or_default();
        let [statement] = statements.as_slice() else {
            let unreadable = Unreadable::Syntax("it cannot be read again".into());
            return self.refuse_extended(len, unparsed_report(&unreadable)).await;
        };
        if self.relay.may_be_chained() {
            // Nothing is uncommitted, so that a Sync harms nothing and its ReadyForQuery tells.
            let _ = self.relay.ask(&[], Closing::Sync, Hears::Nothing).await?;
        }
        // A Sync of ours would end the portal, which can be bound again only while its statement is there.
        let now = self.relay.statements.get(&portal.statement);
        let lasts = now.is_some_and(|now| now.text == held.text && now.types == held.types);
        let place = match self.relay.place() {
            Place::Alone if !lasts => Place::Pipeline,
            place => place,
        };
        // In a pipeline a Sync of ours would commit the client's implicit transaction.
        let closing = if place == Place::Pipeline {
            Closing::Flush
        } else {
            Closing::Sync
        };
        let values = wire::bind_parameters(&portal.bind).unwrap_or_default().to_vec();
        let parameters = Parameters {
            types: held.types.clone(),
            values,
        };
        let shift = characters(&held.text[..statement.offset]);
        match self.verdict(statement, place, &parameters, closing, shift).await? {
            Verdict::Forward(entry) => {
                if matches!(statement.kind, Kind::Write) {
                    self.quiet(&portal.statement, &held.text);
                }
                if place == Place::Alone && !self.relay.responses.skipping() {
                    self.bind_again(&portal).await?;
                }
                self.relay.capture = entry.is_some();
                self.relay.pass_frame(len);
                match entry {
                    Some(entry) => self.observe(entry).await,
                    None => Ok(()),
                }
            }
            Verdict::Done(tag) => {
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                wire::put_command_complete(&mut out, &tag);
                self.relay.tell(&out).await
            }
            Verdict::Refused(report) => self.refuse_extended(len, report).await,
            Verdict::Instead(..) => {
                self.refuse_extended(
                    len,
                    Report::error("0A000", "lockkeeper: the statement was rewritten too late"),
                )
                .await
            }
        }
    }

    /// A prepared statement whose shape is known to be harmless is left alone as long as that holds. The unnamed one is
    /// sent anew each time.
    fn quiet(&mut self, name: &[u8], text: &[u8]) {
        let Some(until) = self.relay.shapes.until(text) else {
            return;
        };
        if name.is_empty() {
            self.relay.statements.remove(name);
        } else if let Some(held) = self.relay.statements.get_mut(name) {
            held.quiet_until = Some(until);
        }
    }

    /// Our Sync ended the client's portal: it is made again from the client's own Bind.
    async fn bind_again(&mut self, portal: &HeldPortal) -> Result<(), Broken> {
        let mut out = BytesMut::from(portal.bind.as_slice());
        wire::put_flush(&mut out);
        self.relay.send(&out).await?;
        loop {
            let frame = self.relay.receive().await?;
            match frame[0] {
                b'2' => return Ok(()),
                b'E' => {
                    self.relay.responses.skip_to_sync();
                    return self.relay.tell(&frame).await;
                }
                _ => self.relay.tell(&frame).await?,
            }
        }
    }

    /// The client hears an error; what it has sent up to its Sync is skipped, by the server or here.
    async fn refuse_extended(&mut self, len: usize, report: Report) -> Result<(), Broken> {
        let closing = if self.relay.place() == Place::Pipeline {
            Closing::Flush
        } else {
            Closing::Sync
        };
        self.fail_on_server(&report, closing).await?;
        if !self.relay.responses.skipping() {
            self.relay.discard_to_sync();
        }
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        report.put_error(&mut out);
        self.relay.tell(&out).await
    }

    async fn on_too_large(&mut self, tag: u8, len: usize) -> Result<(), Broken> {
        self.relay.settle().await?;
        let limit = self.shared.limits.statement_bytes_max;
        let report = Report::error(
            "54000",
            &format!("lockkeeper: a statement of {len} bytes is over the limit of {limit} bytes, so it cannot be judged and is refused"),
        )
        .hint("Send the data by COPY or as parameters, or raise --statement-bytes-max.");
        let front = self.relay.up.unjudged();
        let front = front[wire::HEADER.min(front.len())..front.len().min(1_000)].to_vec();
        self.record_unread(&front, &report).await;
        if tag == b'Q' {
            self.refuse_query(len, report).await
        } else {
            self.refuse_extended(len, report).await
        }
    }

    // --- judging --------------------------------------------------------------------------------------------------

    pub(super) async fn read(&mut self, text: &[u8]) -> Result<Vec<Statement>, Unreadable> {
        let conforming = self.relay.reported.standard_conforming_strings;
        // In some encodings a byte of a character can be a quote or a backslash.
        if !text.is_ascii()
            && !matches!(
                self.relay.reported.client_encoding.as_str(),
                "UTF8" | "UNICODE" | "SQL_ASCII"
            )
        {
            return Err(Unreadable::Encoding);
        }
        if text.len() <= PARSE_INLINE_MAX {
            return read(text, conforming);
        }
        let text = text.to_vec();
        tokio::task::spawn_blocking(move || read(&text, conforming))
            .await
            .unwrap_or(Err(Unreadable::TooLarge))
    }

    /// Judges one statement and, where that is the verdict, carries its plan out.
    ///
    /// Where another session made the same change meanwhile, the plan's own steps find its names taken or gone: then the
    /// statement is looked at once more, as the catalog is now.
    pub(super) async fn verdict(
        &mut self,
        statement: &Statement,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        position_shift: usize,
    ) -> Result<Verdict, Broken> {
        let first = self
            .verdict_now(statement, place, parameters, closing, position_shift)
            .await?;
        if place != Place::Alone || !matches!(&first, Verdict::Refused(report) if self.raced && names_changed(report)) {
            return Ok(first);
        }
        self.relay
            .notice("another session has changed the same: looking at it again")
            .await?;
        self.verdict_now(statement, place, parameters, closing, position_shift)
            .await
    }

    async fn verdict_now(
        &mut self,
        statement: &Statement,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        position_shift: usize,
    ) -> Result<Verdict, Broken> {
        self.raced = false;
        // What comes from here on is meant for this statement.
        self.cancel.clear();
        if matches!(statement.kind, Kind::Ddl) {
            // A key may go, a temporary table that hid another too.
            self.relay.names_moved();
        }
        let policy = self.shared.policy();
        if matches!(statement.kind, Kind::Write) {
            match self.pins_a_key(statement, &policy, closing).await? {
                Ok(true) => return Ok(Verdict::Forward(None)),
                Ok(false) => {}
                Err(report) => return Ok(Verdict::Refused(report)),
            }
        }
        let mut facts = match self.facts(statement, closing).await? {
            Ok(facts) => facts,
            Err(report) => return Ok(Verdict::Refused(report)),
        };
        let estimated = self.estimate(statement, &mut facts, &policy, place, parameters);
        if let Err(report) = estimated.await? {
            return Ok(Verdict::Refused(report));
        }
        self.judged += 1;
        let entry = self.entry(statement);
        match plan::plan(statement, &facts, &policy, place) {
            Plan::Forward { findings, notices } => {
                for notice in &notices {
                    self.relay.notice(notice).await?;
                }
                Ok(Verdict::Forward(
                    (!findings.is_empty()).then(|| entry.forwarded(&findings, !notices.is_empty())),
                ))
            }
            Plan::Reject(rejection) => {
                self.record(entry.rejected(&rejection)).await;
                Ok(Verdict::Refused(report_of(&rejection)))
            }
            Plan::Run(run) => {
                let mut entry = entry.planned(&run);
                if let Err(report) = self.announce(&mut entry, &policy).await? {
                    return Ok(Verdict::Refused(report));
                }
                for notice in &run.notices {
                    self.relay.notice(notice).await?;
                }
                if let [step] = run.steps.as_slice()
                    && matches!(step.mode, StepMode::Rows)
                {
                    return Ok(Verdict::Instead(step.sql.clone(), entry));
                }
                let setting = Setting {
                    policy: &policy,
                    place,
                    parameters,
                    statement: &statement.sql,
                    position_shift,
                };
                match self.conduct(&run, setting, &mut entry).await {
                    Ok(Ok(tag)) => {
                        self.record(entry.done(&tag)).await;
                        Ok(Verdict::Done(tag))
                    }
                    Ok(Err(report)) => {
                        self.record(entry.failed(&report)).await;
                        self.raced = run.steps.iter().any(|step| step.sql != statement.sql);
                        Ok(Verdict::Refused(report))
                    }
                    Err(broken) => {
                        self.record(entry.disconnected(&broken)).await;
                        Err(broken)
                    }
                }
            }
        }
    }

    /// An UPDATE or DELETE of single rows or of a small table, as most are: remembered by its shape. The inner error is about
    /// this moment (a cancel request, a timeout).
    async fn pins_a_key(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        closing: Closing,
    ) -> Result<Result<bool, Report>, Broken> {
        let Some(sql) = Request::of(statement).keys_sql() else {
            return Ok(Ok(false));
        };
        let answers = match self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await? {
            Ok(answers) => answers,
            Err(report) => return Ok(Err(report)),
        };
        let json = answers.first().and_then(Answer::value).unwrap_or("[]");
        let harmless = match Request::decode_keys(json.as_bytes()) {
            Ok(Some(target)) => !batches::wants_estimate(statement, &target, policy.small_bytes),
            // The server says itself that there is no such relation.
            Ok(None) => return Ok(Ok(true)),
            Err(error) => {
                tracing::error!(
                    session = self.who.session,
                    error,
                    "the light facts query answered what cannot be read"
                );
                false
            }
        };
        if harmless {
            self.relay.shapes.learn(statement.sql.as_bytes());
        }
        Ok(Ok(harmless))
    }

    async fn facts(&mut self, statement: &Statement, closing: Closing) -> Result<Result<Facts, Report>, Broken> {
        let sql = Request::of(statement).sql();
        let answers = match self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await? {
            Ok(answers) => answers,
            Err(report) => {
                tracing::error!(
                    session = self.who.session,
                    error = report.message(),
                    "the facts query failed"
                );
                return Ok(Err(report.hint(
                    "lockkeeper: this was its question to the catalog, asked before your statement, which was not run.",
                )));
            }
        };
        let json = answers.first().and_then(Answer::value).unwrap_or_default();
        Ok(match Facts::decode(json.as_bytes()) {
            Ok(facts) => {
                let level = facts.client_min_messages.as_str();
                self.relay.hears_notices = level.starts_with("debug") || matches!(level, "log" | "notice");
                self.who.application_name.clone_from(&facts.application_name);
                Ok(facts)
            }
            Err(error) => {
                tracing::error!(
                    session = self.who.session,
                    error,
                    "the facts query answered what cannot be read"
                );
                Err(Report::error(
                    "XX000",
                    "lockkeeper: the answer of the catalog cannot be read, so the statement was not run",
                )
                .detail(&error))
            }
        })
    }

    /// What the planner expects an UPDATE or DELETE to touch, unless a unique key pins it. The inner error is about this moment
    /// (a cancel request, a timeout, a deadlock), so that the statement must not go on in the belief that it is small.
    async fn estimate(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Result<(), Report>, Broken> {
        if !matches!(statement.kind, Kind::Write) {
            return Ok(Ok(()));
        }
        let Some(relation) = facts.relations.first() else {
            return Ok(Ok(()));
        };
        if !batches::wants_estimate(statement, relation, policy.small_bytes) {
            return Ok(Ok(()));
        }
        let explain = parameters.ask(format!("EXPLAIN (FORMAT JSON) {}", statement.sql));
        let planned = match self.ask_harmlessly(explain, place).await? {
            Ok(answer) => answer.value().and_then(planned_rows),
            Err(mut report) if place == Place::Pipeline || is_of_the_moment(&report) => {
                report.remove(b'P');
                return Ok(Err(report));
            }
            // The statement itself will fail in the same way, in the server's words.
            Err(_) => None,
        };
        let Some(planned) = planned else { return Ok(Ok(())) };
        let expected = batches::expected_rows(statement, relation, planned);
        facts.estimated_rows = Some(expected);
        // With literals instead of parameters, or with a range, the next text of this shape may mean other rows altogether.
        if expected * FAR_BELOW < policy.backfill.rows_max as f64
            && !parameters.values.is_empty()
            && batches::only_equalities(statement)
        {
            self.relay.shapes.learn(statement.sql.as_bytes());
        }
        Ok(Ok(()))
    }

    /// A question that may fail, without harm to the client's transaction; in a pipeline, where no savepoint can be set, its
    /// failure is the transaction's.
    async fn ask_harmlessly(&mut self, ask: Ask, place: Place) -> Result<Result<Answer, Report>, Broken> {
        if place != Place::Block {
            let closing = match place {
                Place::Pipeline => Closing::Flush,
                _ => Closing::Sync,
            };
            let answers = self.relay.ask(&[ask], closing, Hears::Nothing).await?;
            return Ok(answers.map(|mut answers| answers.pop().unwrap_or_default()));
        }
        let point = self.relay.reserved.clone();
        let back = [
            Ask::new(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::new(format!("RELEASE SAVEPOINT {point}")),
        ];
        let asked = [&[Ask::new(format!("SAVEPOINT {point}")), ask][..], &back[..]].concat();
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
        if answers.is_err() {
            let _ = self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
        }
        Ok(answers.map(|answers| answers.into_iter().nth(1).unwrap_or_default()))
    }
}

/// Sent again later, the same question may be answered: transaction rollback, resources, object not in prerequisite state,
/// operator intervention, and failures of the system.
fn is_of_the_moment(report: &Report) -> bool {
    ["40", "53", "55", "57", "58", "XX"]
        .iter()
        .any(|class| report.sqlstate().starts_with(class))
}

/// Rows that the ModifyTable node is expected to be given, from EXPLAIN (FORMAT JSON). What CTEs and uncorrelated sub-selects
/// read is not among them.
fn planned_rows(json: &str) -> Option<f64> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let children = value.get(0)?.get("Plan")?.get("Plans")?.as_array()?;
    children
        .iter()
        .filter(|child| {
            child
                .get("Parent Relationship")
                .is_none_or(|is| is != "InitPlan" && is != "SubPlan")
        })
        .filter_map(|child| child.get("Plan Rows")?.as_f64())
        .reduce(f64::max)
}

/// How many characters a part of the client's text has: error positions count them, not bytes.
pub(super) fn characters(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// duplicate_table, duplicate_object, duplicate_column, undefined_object, undefined_column, unique_violation (of the catalog).
fn names_changed(report: &Report) -> bool {
    match report.get(b'C') {
        Some(b"42P07" | b"42710" | b"42701" | b"42704" | b"42703") => true,
        Some(b"23505") => report.get(b's') == Some(b"pg_catalog"),
        _ => false,
    }
}

fn needs_judging(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Ddl | Kind::Write | Kind::LimitedWrite(_))
}

/// By its first word, a text that only the server can read may be more than a query.
fn may_be_ddl(text: &[u8]) -> bool {
    !matches!(
        first_word(text).as_slice(),
        b"select" | b"insert" | b"update" | b"delete" | b"values" | b"table" | b"merge" | b"with" | b"copy" | b"show"
    )
}

/// The commands of the streaming replication protocol (manual section 55.4) that are not SQL as well. The server tells
/// them by their first word, and reads nothing behind them as SQL.
fn is_replication_command(text: &[u8]) -> bool {
    matches!(
        first_word(text).as_slice(),
        b"identify_system"
            | b"timeline_history"
            | b"create_replication_slot"
            | b"alter_replication_slot"
            | b"drop_replication_slot"
            | b"read_replication_slot"
            | b"start_replication"
            | b"base_backup"
            | b"upload_manifest"
    )
}

/// In lower case.
fn first_word(text: &[u8]) -> Vec<u8> {
    text.iter()
        .skip_while(|b| b.is_ascii_whitespace() || **b == b'(')
        .take_while(|b| b.is_ascii_alphabetic() || **b == b'_')
        .map(u8::to_ascii_lowercase)
        .collect()
}

fn unparsed_report(unreadable: &Unreadable) -> Report {
    Report::error(
        "0A000",
        "lockkeeper: the statement cannot be read, so it is not known to be safe and was not run; send it in a form that PostgreSQL 18 reads, or directly to the server",
    )
    .detail(unreadable.why())
    .hint("The policy's `unparsed` decides about such statements (reject, warn or allow).")
}

pub(super) fn report_of(rejection: &Rejection) -> Report {
    let mut report = Report::error(&rejection.sqlstate, &rejection.message);
    if !rejection.detail.is_empty() {
        report = report.detail(&rejection.detail);
    }
    if !rejection.hint.is_empty() {
        report = report.hint(&rejection.hint);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planner_s_estimate_is_read() {
        let json = r#"[{"Plan":{"Node Type":"ModifyTable","Plan Rows":0,"Plans":[{"Node Type":"Seq Scan","Plan Rows":1234}]}}]"#;
        assert_eq!(planned_rows(json), Some(1234.0));
        let json = r#"[{"Plan":{"Plans":[{"Parent Relationship":"InitPlan","Plan Rows":9},{"Parent Relationship":"Outer","Plan Rows":3}]}}]"#;
        assert_eq!(planned_rows(json), Some(3.0));
        assert_eq!(planned_rows("[]"), None);
        assert_eq!(planned_rows("no json"), None);
    }

    #[test]
    fn only_queries_are_taken_for_queries() {
        assert!(!may_be_ddl(b" (SELECT 5 !)"));
        assert!(may_be_ddl(b"ALTER TABLE t WOBBLE"));
        assert!(may_be_ddl(b"/* x */ SELECT 5 !"));
        assert!(may_be_ddl(b"CREATE TABLE t () WITH OIDS"));
    }
}
