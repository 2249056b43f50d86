//! One client and its server connection: takes the frames that need attention, has them judged, and answers.
//!
//! Start at [`Session::run`]. Everything else a client sends is forwarded by [`super::relay`] without coming here.

use super::dialogue::{Ask, Closing, Hears};
use super::held;
use super::journal::{Entry, Uncommitted};
use super::judge::{Parameters, Verdict, parsed};
use super::outbox::{self, Outbox};
use super::relay::{Answered, Broken, End, Event, Mode, Relay};
use super::responses::OnAnswer;
use super::wire::{self, Report};
use super::{CancelFlag, Shared, Stop};
use crate::audit::Who;
use crate::live::Seated;
use crate::plan::batches::bound::Ground;
use crate::plan::facts::Cascaded;
use crate::plan::statement::{
    Gate, Kind, Prepared, Statement, Unreadable, gate, may_insert, may_use_prepared, mentions, prepared,
};
use crate::plan::{self, Place};
use bytes::BytesMut;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use tokio::sync::watch;

pub(super) const SHUTTING_DOWN: &str = "terminating connection: lockkeeper is shutting down";

pub struct Session {
    pub(super) relay: Relay,
    pub(super) shared: Arc<Shared>,
    pub(super) cancel: Arc<CancelFlag>,
    pub(super) who: Who,
    /// What others see of it.
    pub(super) seat: Seated,
    /// Statements that were judged, for the audit events' ids.
    pub(super) judged: u64,
    /// What was asked for the statement before this one, within the same transaction.
    pub(super) before: Option<super::judge::Before>,
    /// The last plan failed, and it had statements of our own.
    pub(super) raced: bool,
    /// What the statement that is being judged takes with it by foreign keys, where that is much; or by which these are to be counted still.
    pub(super) cascaded: Option<Cascaded>,
    pub(super) cascading: Option<Arc<Ground>>,
    /// Before the planner was asked about a statement of which it guesses the rows, and which may be remembered.
    pub(super) guessed: Option<super::shapes::Before>,
    /// Of the statement that is carried out.
    pub(super) limits: super::conduct::Limits,
    /// It has been recognised as a migration tool's.
    pub(super) looked: bool,
    /// What waits for the client's COMMIT.
    pub(super) outbox: Outbox,
    /// Jobs that are done, and whose client is about to hear so.
    pub(super) unanswered: Vec<i64>,
    /// Of jobs that this session runs: the keys of their advisory locks.
    pub(super) job_keys: std::collections::HashMap<i64, i64>,
    /// Statements of the audit log whose transaction is open.
    pub(super) uncommitted: Vec<Uncommitted>,
    /// What is asked about a long statement without its tree.
    pub(super) aside: super::judge::Aside,
    /// The last step of the plan that has just been carried out.
    pub(super) last_step: Option<crate::audit::Event>,
    /// What it knows of its prepared statements in a dry run; and whether the statement that is being judged is for one.
    pub(super) dry: super::dry::Looked,
    pub(super) is_dry: bool,
    /// How many NOTICEs about findings the client has heard, by rule.
    pub(super) notices: HashMap<String, u32>,
}

/// So many NOTICEs of one rule a session hears, and so many of all; the audit log has every finding.
const NOTICES_OF_A_RULE_MAX: u32 = 10;
const NOTICES_MAX: u32 = 100;

impl Session {
    /// Until one of both sides goes away.
    pub async fn run(&mut self) -> Result<(), Broken> {
        let mut stop = self.shared.stop.subscribe();
        let mut glance = stop.clone();
        loop {
            glance.mark_unchanged();
            let stopping = *stop.borrow_and_update();
            self.relay.stopping = stopping != Stop::No;
            if stopping == Stop::Now {
                return self.say_goodbye().await;
            }
            let Some(event) = self.next_event(&mut stop, &glance).await? else {
                continue;
            };
            match event {
                Event::Query(len) => {
                    let done = self.on_query(len).await;
                    self.query_ends(len, done).await?;
                    self.relay.ends_unnamed = false;
                }
                Event::Parse(len) => {
                    let done = self.on_parse(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::Bind(len) => {
                    let done = self.on_bind(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::Execute(len) => {
                    let done = self.on_execute(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::Close(len) => self.on_close(len).await?,
                Event::Describe(len) => {
                    let done = self.on_describe(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::Sync(len) => self.on_sync(len).await?,
                Event::Uncounted => self.relay.count_answers().await?,
                Event::Unsettled => drop(self.relay.settle().await?),
                Event::TooLarge(b'B', len) => {
                    let done = self.on_large_bind(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::TooLarge(tag, len) => self.on_too_large(tag, len).await?,
                Event::Unexpected => return self.on_unexpected().await,
                Event::Ended => {
                    // A server that has ended the session in the same breath can no longer be asked.
                    let settled = self.settle_uncommitted().await;
                    self.relay.tell_end().await?;
                    settled?;
                }
                Event::Quiescent => {}
                Event::Stopped => return self.say_goodbye().await,
                Event::ClientGone | Event::ServerGone => return Ok(()),
            }
        }
    }

    /// Of what is refused the client hears: nothing of its message, of `len` bytes, has been passed on.
    async fn query_ends(&mut self, len: usize, done: Result<(), End>) -> Result<(), Broken> {
        match done {
            Err(End::Refused(report)) => self.refuse_query(len, report).await,
            Err(End::Broken(broken)) => Err(broken),
            Ok(()) => Ok(()),
        }
    }

    async fn extended_ends(&mut self, len: usize, done: Result<(), End>) -> Result<(), Broken> {
        match done {
            Err(End::Refused(report)) => self.refuse_extended(len, report).await,
            Err(End::Broken(broken)) => Err(broken),
            Ok(()) => Ok(()),
        }
    }

    /// None: `stop` has changed. Its wake-up is asked for once and not each time that something moves, since that takes a
    /// lock; `glance`, which sees the same, takes none.
    async fn next_event(
        &mut self,
        stop: &mut watch::Receiver<Stop>,
        glance: &watch::Receiver<Stop>,
    ) -> Result<Option<Event>, Broken> {
        let mut changed = pin!(stop.changed());
        let mut asked: Option<Waker> = None;
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.relay.poll(cx, Mode::Forward) {
                return Poll::Ready(event.map(Some));
            }
            let stopped = match &asked {
                Some(waker) if waker.will_wake(cx.waker()) => glance.has_changed().unwrap_or(false),
                _ => {
                    asked = Some(cx.waker().clone());
                    changed.as_mut().poll(cx).is_ready()
                }
            };
            if stopped { Poll::Ready(Ok(None)) } else { Poll::Pending }
        })
        .await
    }

    async fn on_sync(&mut self, len: usize) -> Result<(), Broken> {
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        self.relay.stop_at_sync = false;
        if self.relay.unclosed {
            self.relay.close_reserved().await?;
        }
        self.jobs_are_answered().await
    }

    /// Not into the middle of a message of the server's.
    async fn say_goodbye(&mut self) -> Result<(), Broken> {
        if !self.relay.down.at_frame() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        Report::fatal("57P01", SHUTTING_DOWN).put_error(&mut out, self.relay.encoding());
        self.relay.tell(&out).await
    }

    async fn on_query(&mut self, len: usize) -> Result<(), End> {
        let Some(text) = wire::query_text(&self.relay.up.unjudged()[..len]).map(<[u8]>::to_vec) else {
            self.relay.pass_frame(len);
            return Ok(());
        };
        self.relay.settle().await?;
        if self.relay.responses.skipping() {
            self.relay.pass_frame(len);
            return Ok(());
        }
        self.ask_reading(&text).await?;
        self.ask_firing(&text, Closing::Sync).await?;
        if self.is_plain_insert(&text) {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if self.relay.watch {
            self.look_around(&text).await?;
        }
        let statements = self.read(&text).await;
        self.may_run_dry(&statements, self.closing_of_question()).await?;
        if self.outbox.is_awake() && self.relay.place() == Place::Block {
            let ending = match statements.as_deref() {
                Ok([statement]) => outbox::ending(statement).map(|ending| (statement.sql.clone(), ending)),
                _ => None,
            };
            if let Some((sql, ending)) = ending {
                return self.commit_query(len, &sql, ending).await;
            }
        }
        let ends_within = self.outbox.is_awake()
            && statements
                .as_ref()
                .is_ok_and(|all| all.iter().any(|s| matches!(s.kind, Kind::Commit { .. })));
        let unjudged = self.executes_held(statements.as_deref().unwrap_or_default()).await;
        let passes = matches!(&statements, Ok(all) if !all.iter().any(needs_judging));
        if self.relay.may_be_chained() && (unjudged.is_some() || !passes) {
            // Nothing is uncommitted, so that a Sync harms nothing and its ReadyForQuery tells whether a block is open.
            self.relay.end_group().await?;
        }
        if let Some(report) = unjudged {
            return Err(report.into());
        }
        // Extended-query messages without a Sync, then a simple query: one implicit transaction.
        let joins = self.relay.place() == Place::Pipeline;
        // What is carried out by statements of ours ends the unnamed statement and portal as the query itself would.
        self.relay.ends_unnamed = !passes || ends_within;
        match statements {
            Ok(statements) if !statements.iter().any(needs_judging) && !ends_within => {
                self.relay.pass_frame(len);
                if let [statement] = statements.as_slice() {
                    self.forget_when_done(statement).await?;
                }
            }
            Ok(_) if self.relay.replication && self.forwards_unread() => {
                self.forward_unjudged(
                    len,
                    &text,
                    "over a replication connection nothing can be asked about it",
                )
                .await?
            }
            Ok(_) if self.relay.replication => {
                let refused = Report::error(
                    "0A000",
                    "lockkeeper: what changes the schema or rows is not judged over a replication connection, so it is refused",
                )
                .hint("Send it over an ordinary connection.");
                return Err(refused.into());
            }
            Ok(mut statements) if statements.len() == 1 && !ends_within => {
                // In a failed transaction block the server refuses it itself.
                if self.relay.block_failed() {
                    self.relay.pass_frame(len);
                    return Ok(());
                }
                let place = self.relay.place();
                let statement = statements.remove(0);
                let shift = characters(&text[..statement.offset]);
                let closing = if joins { Closing::Flush } else { Closing::Sync };
                let verdict = self
                    .verdict(statement, place, &Parameters::default(), closing, shift)
                    .await?;
                self.answer_query(len, verdict).await?;
            }
            Ok(_) if joins && self.relay.keeps_groups() && self.forwards_unread() => {
                let why = "several statements in one message are not divided in the transaction of an extended query";
                self.forward_unjudged(len, &text, why).await?
            }
            // In parts the rest of it might be read otherwise than the server reads the whole.
            Ok(_) if self.forwards_unread() && changes_reading(&text) => {
                let why = "a message that may change how its own text is read is not divided";
                self.forward_unjudged(len, &text, why).await?
            }
            // Behind the message the transaction would still be open, and no block.
            Ok(_) if joins && self.relay.keeps_groups() => {
                let report = Report::error(
                    "0A000",
                    "lockkeeper: several statements in one message, one of them judged, cannot be run in the transaction of an extended query without Sync; send Sync first",
                );
                return Err(report.into());
            }
            Ok(statements) => self.run_script(len, &text, statements, joins).await?,
            Err(unreadable) if self.relay.replication => {
                self.on_unreadable_replication(len, &text, &unreadable).await?
            }
            Err(unreadable) => self.on_unreadable_query(len, &text, unreadable).await?,
        }
        Ok(())
    }

    /// It came here only for the rules that might have fired for it.
    fn is_plain_insert(&mut self, text: &[u8]) -> bool {
        may_insert(text)
            && gate(text) != Gate::Read
            && !self.relay.watch
            && !self.relay.dry
            && !self.outbox.is_awake()
            && !may_use_prepared(text)
            && !self.relay.shapes.may_fire(text)
    }

    /// As the policy lets go on what cannot be judged.
    async fn forward_unjudged(&mut self, len: usize, text: &[u8], why: &str) -> Result<(), Broken> {
        if let Verdict::Forward(Some(entry)) = self.unparsed(text, &Unreadable::Syntax(why.to_owned())).await? {
            self.record(entry.forwarded_unseen()).await;
        }
        self.relay.names_moved();
        self.relay.pass_frame(len);
        Ok(())
    }

    /// Every statement comes by here while something waits for COMMIT, and the one that shows a migration tool.
    pub(super) async fn look_around(&mut self, text: &[u8]) -> Result<(), End> {
        if self.relay.tool.is_some() && !self.looked {
            (self.looked, self.outbox.look) = (true, true);
        }
        self.at_ease().await?;
        self.relay.watch = self.outbox.looks_on();
        self.needs_what_waits(text).await
    }

    /// EXECUTE of what was prepared over the protocol and is judged only when it is executed over the protocol too.
    pub(super) async fn executes_held(&self, statements: &[Statement]) -> Option<Report> {
        if self.forwards_unread() {
            return None;
        }
        let mut unjudged = None;
        for statement in statements {
            let Some(Prepared::Executes(name)) = prepared(statement) else {
                continue;
            };
            let Some(held) = self.relay.held.statement(name.as_bytes()) else {
                continue;
            };
            if matches!(held.what, held::Kind::Rewritten | held::Kind::Forgets) {
                continue;
            }
            let conforming = held.reading.as_ref().is_none_or(|reading| reading.conforming);
            // Of these the rows are counted.
            let is_write = |s: &Statement| matches!(s.kind, Kind::Write | Kind::MixedWrite);
            let read = parsed(&held.text, conforming).await;
            if !read.is_ok_and(|statements| statements.iter().all(is_write)) {
                unjudged = Some(String::from_utf8_lossy(&held.text).into_owned());
                break;
            }
        }
        let sql = unjudged?;
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
    pub(super) async fn forget_when_done(&mut self, statement: &Statement) -> Result<(), Broken> {
        let forgets = match prepared(statement) {
            None | Some(Prepared::Executes(_)) => return Ok(()),
            Some(forgets) => forgets,
        };
        if !self.relay.settle().await?.failed {
            match forgets {
                Prepared::Forgets(name) => {
                    self.relay.held.forget_statement(name.as_bytes());
                    self.relay.prepared_writes.remove(name);
                }
                // The unnamed one and those of the transaction's portals go too, or are replaced before they are used.
                _ => {
                    self.relay.held.forget_statements();
                    self.relay.prepared_writes.clear();
                    self.relay.prepared_others = false;
                    self.relay.by_text.forget();
                }
            }
        }
        Ok(())
    }

    pub(super) async fn answer_query(&mut self, len: usize, verdict: Verdict) -> Result<(), End> {
        if let Verdict::Forward(Some(entry)) | Verdict::Instead(_, entry) = &verdict {
            self.announce(entry, &self.shared.policy()).await?;
        }
        match verdict {
            Verdict::Forward(None) => self.relay.pass_frame(len),
            Verdict::Forward(Some(entry)) => {
                self.relay.pass_frame_for(len, OnAnswer::Note);
                self.observe(entry).await?;
            }
            Verdict::Instead(sql, entry) => {
                let mut frame = BytesMut::new();
                wire::put_query(&mut frame, sql.as_bytes());
                self.relay.replace_frame(len, &frame, OnAnswer::Rewritten);
                self.observe(entry).await?;
            }
            Verdict::Dry(rows) => self.answer_dry(len, &rows).await?,
            Verdict::Done(tag) => {
                self.relay.drop_frame(len);
                let ended = match self.relay.place() {
                    Place::Pipeline => self.relay.ask_as_query().await,
                    _ => Ok(()),
                };
                let mut out = BytesMut::new();
                match ended {
                    Ok(()) => wire::put_command_complete(&mut out, &tag),
                    // What was deferred to the end of the transaction.
                    Err(End::Refused(report)) => report.put_error(&mut out, self.relay.encoding()),
                    Err(broken) => return Err(broken),
                }
                wire::put_ready(&mut out, self.relay.status);
                self.relay.tell(&out).await?;
                self.jobs_are_answered().await?;
            }
            Verdict::Refused(report) => return Err(report.into()),
        }
        Ok(())
    }

    /// What was found in a statement that goes on as it is. A program that sends thousands of them is not told of each.
    pub(super) async fn tell_findings(&mut self, notices: &[String]) -> Result<(), Broken> {
        for notice in notices {
            let rule = notice.split(':').next().unwrap_or_default().to_owned();
            let all: u32 = self.notices.values().sum();
            let of_rule = self.notices.entry(rule).or_default();
            *of_rule = of_rule.saturating_add(1);
            if *of_rule > NOTICES_OF_A_RULE_MAX || all >= NOTICES_MAX {
                continue;
            }
            if *of_rule == NOTICES_OF_A_RULE_MAX || all + 1 == NOTICES_MAX {
                let last = format!("{notice} (this session hears no more of the kind; the audit log has them all)");
                self.relay.notice(&last).await?;
            } else {
                self.relay.notice(notice).await?;
            }
        }
        Ok(())
    }

    /// Waits for the answer to a forwarded statement and writes its audit event.
    pub(super) async fn observe(&mut self, entry: Entry) -> Result<(), Broken> {
        match self.relay.settle().await {
            Ok(answered) => {
                self.observed(entry, &answered).await;
                Ok(())
            }
            Err(broken) => {
                self.record(entry.disconnected(&broken)).await;
                Err(broken)
            }
        }
    }

    /// The same, of an answer that has just gone by.
    pub(super) async fn observed(&mut self, entry: Entry, answered: &Answered) {
        self.record_end(entry.answered(answered.tag.as_deref(), answered.error.as_ref()), None)
            .await;
    }

    /// The client hears an error and, unless the transaction block is open, the server hears nothing.
    pub(super) async fn refuse_query(&mut self, len: usize, report: Report) -> Result<(), Broken> {
        self.fail_on_server(&report, Closing::Sync).await?;
        if self.relay.responses.skipping() {
            // To a Sync, which a client that sends a simple query need not send.
            self.relay.end_group().await?;
        }
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        report.put_error(&mut out, self.relay.encoding());
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
        match self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await {
            Err(End::Refused(_)) => Ok(()),
            Err(End::Broken(broken)) => Err(broken),
            Ok(_) => Err(Broken::Protocol(
                "the server did not fail a statement that raises an error".into(),
            )),
        }
    }

    /// The server has not got the whole message, and so runs nothing of it; it cannot be taken back either.
    async fn on_unexpected(&mut self) -> Result<(), Broken> {
        let limit = self.shared.limits.statement_bytes_max;
        let report = Report::fatal(
            "54000",
            &format!(
                "lockkeeper: a message of more than {limit} bytes began with what is not judged and goes on with what may have to be, so nothing of it was run and the session ends"
            ),
        )
        .hint("Send that statement as a message of its own, or raise --statement-bytes-max.");
        self.record_unread(b"", &report).await;
        let mut out = BytesMut::new();
        report.put_error(&mut out, self.relay.encoding());
        self.relay.tell(&out).await
    }

    async fn on_too_large(&mut self, tag: u8, len: usize) -> Result<(), Broken> {
        self.relay.settle().await?;
        if self.forwards_unread() {
            return self.forward_too_large(tag, len).await;
        }
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
}

/// How many characters a part of the client's text has: error positions count them, not bytes.
pub(super) fn characters(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// A statement of the text may change how strings or letters are read, and some of the text would be read otherwise then.
fn changes_reading(text: &[u8]) -> bool {
    let depends = text.contains(&b'\\') || !text.is_ascii();
    let words = [
        "standard_conforming_strings",
        "encoding",
        "names",
        "set_config",
        "reset",
        "discard",
        "rollback",
    ];
    depends && words.iter().any(|word| mentions(text, word))
}

pub(super) fn needs_judging(statement: &Statement) -> bool {
    matches!(
        statement.kind,
        Kind::Ddl | Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite | Kind::Resume(_)
    )
}
