//! The extended query protocol: which prepared statements and portals must not be executed without a look, and what
//! happens when they are.

use super::dialogue::{Closing, Hears};
use super::judge::{Parameters, Verdict};
use super::relay::{Broken, Held, HeldKind, HeldPortal};
use super::session::{Session, characters, needs_judging};
use super::unread::{may_be_ddl, unparsed_report};
use super::wire::{self, Report};
use crate::plan::Place;
use crate::plan::statement::{Gate, Kind, Prepared, Statement, Unreadable, gate, may_use_prepared, prepared};
use bytes::BytesMut;

impl Session {
    pub(super) async fn on_parse(&mut self, len: usize) -> Result<(), Broken> {
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
    pub(super) async fn parse_as(&mut self, len: usize, name: &[u8], held: Option<Held>) -> Result<(), Broken> {
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

    pub(super) async fn parse_limited(
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

    pub(super) async fn on_bind(&mut self, len: usize) -> Result<(), Broken> {
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

    pub(super) async fn on_close(&mut self, len: usize) -> Result<(), Broken> {
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

    pub(super) async fn on_execute(&mut self, len: usize) -> Result<(), Broken> {
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

    pub(super) async fn execute_judged(&mut self, len: usize, portal: HeldPortal) -> Result<(), Broken> {
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
    pub(super) fn quiet(&mut self, name: &[u8], text: &[u8]) {
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
    pub(super) async fn bind_again(&mut self, portal: &HeldPortal) -> Result<(), Broken> {
        let mut out = BytesMut::from(portal.bind.as_slice());
        wire::put_flush(&mut out);
        self.relay.send(&out).await;
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
    pub(super) async fn refuse_extended(&mut self, len: usize, report: Report) -> Result<(), Broken> {
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
}
