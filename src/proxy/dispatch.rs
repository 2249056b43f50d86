//! Takes the frames of a client that need attention, has them judged, and answers.
//!
//! Start at [`Session::run`]. Everything else a client sends is forwarded by [`super::relay`] without coming here.

use super::deferred::pending::ending;
use super::dialogue::Closing;
use super::end::{Broken, End, SHUTTING_DOWN};
use super::parameters::Parameters;
use super::relay::{Event, Mode};
use super::session::Session;
use super::shared::Stop;
use super::verdict::Verdict;
use crate::plan::gate::{Gate, gate, may_insert, may_use_prepared};
use crate::plan::statement::{Kind, Statement, Unreadable};
use crate::plan::words::mentions;
use crate::plan::{Place, version};
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, Report};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};
use tokio::sync::watch;

impl Session {
    /// Until one of both sides goes away.
    pub async fn run(&mut self) -> Result<(), Broken> {
        let mut stop = self.shared.servers.get(self.server).stops();
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
                Event::Held(len) => self.on_held(len).await?,
                Event::Uncounted => self.relay.count_answers().await?,
                Event::Unsettled => drop(self.relay.settle().await?),
                Event::TooLarge(b'B', len) => {
                    let done = self.on_large_bind(len).await;
                    self.extended_ends(len, done).await?;
                }
                Event::TooLarge(tag, len) => self.on_too_large(tag, len).await?,
                Event::Call(len) => {
                    let done = self.may_call(len).await;
                    self.query_ends(len, done).await?;
                }
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
    pub(super) async fn query_ends(&mut self, len: usize, done: Result<(), End>) -> Result<(), Broken> {
        match done {
            Err(End::Refused(report)) => self.refuse_query(len, report).await,
            Err(End::Broken(broken)) => Err(broken),
            Ok(()) => Ok(()),
        }
    }

    pub(super) async fn extended_ends(&mut self, len: usize, done: Result<(), End>) -> Result<(), Broken> {
        match done {
            Err(End::Refused(report)) => self.refuse_extended(len, report).await,
            Err(End::Broken(broken)) => Err(broken),
            Ok(()) => Ok(()),
        }
    }

    /// None: `stop` has changed. Its wake-up is asked for once and not each time that something moves, since that takes a
    /// lock; `glance`, which sees the same, takes none.
    pub(super) async fn next_event(
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

    pub(super) async fn on_sync(&mut self, len: usize) -> Result<(), Broken> {
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        self.relay.stop_at_sync = false;
        if self.relay.unclosed {
            self.relay.close_reserved().await?;
        }
        self.jobs_are_answered().await
    }

    /// Not into the middle of a message of the server's.
    pub(super) async fn say_goodbye(&mut self) -> Result<(), Broken> {
        if !self.relay.down.at_frame() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        let message = match *self.shared.stop.borrow() {
            Stop::No => self.shared.servers.farewell(self.server),
            _ => SHUTTING_DOWN.to_owned(),
        };
        Report::fatal("57P01", &message).put_error(&mut out, self.relay.encoding());
        self.relay.tell(&out).await
    }

    pub(super) async fn on_query(&mut self, len: usize) -> Result<(), End> {
        let Some(text) = wire::query_text(&self.relay.up.unjudged()[..len]).map(<[u8]>::to_vec) else {
            self.relay.pass_frame(len);
            return Ok(());
        };
        self.relay.settle().await?;
        if self.relay.responses.skipping() {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if version::asks_version(&text) {
            self.tells_version(self.closing_of_question()).await?;
        }
        self.ask_reading(&text).await?;
        self.ask_firing(&text, Closing::Sync).await?;
        if self.is_plain_insert(&text) {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if self.relay.watch {
            self.compare_with_deferred(&text).await?;
        }
        let statements = self.read(&text).await;
        self.may_run_dry(&text, &statements, self.closing_of_question()).await?;
        if self.deferred.is_awake() && self.relay.place() == Place::Block {
            let ending = match statements.as_deref() {
                Ok([statement]) => ending(statement).map(|ending| (statement.sql.clone(), ending)),
                _ => None,
            };
            if let Some((sql, ending)) = ending {
                return self.commit_query(len, &sql, ending).await;
            }
        }
        let ends_within = self.deferred.is_awake()
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
    pub(super) fn is_plain_insert(&mut self, text: &[u8]) -> bool {
        may_insert(text)
            && gate(text) != Gate::Read
            && !self.relay.watch
            && !self.relay.dry
            && !self.deferred.is_awake()
            && !may_use_prepared(text)
            && !self.relay.shapes.may_fire(text)
    }

    /// As the policy lets go on what cannot be judged.
    pub(super) async fn forward_unjudged(&mut self, len: usize, text: &[u8], why: &str) -> Result<(), Broken> {
        if let Verdict::Forward(Some(entry)) = self.unparsed(text, &Unreadable::Syntax(why.to_owned())).await? {
            self.record(entry.forwarded_unseen()).await;
        }
        self.relay.names_moved();
        self.relay.pass_frame(len);
        Ok(())
    }

    /// The server has not got the whole message, and so runs nothing of it; it cannot be taken back either.
    pub(super) async fn on_unexpected(&mut self) -> Result<(), Broken> {
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

    pub(super) async fn on_too_large(&mut self, tag: u8, len: usize) -> Result<(), Broken> {
        self.relay.settle().await?;
        let is_dry = self.is_large_dry().await?;
        if self.forwards_unread() && !is_dry {
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
pub(super) fn changes_reading(text: &[u8]) -> bool {
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
