//! What the server says is followed, as far as the session must know it, and what it still owes is waited for.

use super::{Answered, Block, ChannelBinding, Event, Group, Mode, NEEDS_MORE, Relay, Reported};
use crate::proxy::end::{Broken, EndedBy};
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::responses::{Expect, Position};
use std::io;
use std::task::{Poll, ready};

/// A message of the server that is read (not only forwarded) may be so long; a longer one is forwarded unread.
const READ_MAX: usize = 60 << 10;
/// A command tag is no longer.
const TAG_MAX: usize = 64 + HEADER;
/// Behind the server's error when SCRAM failed between two TLS connections, but not for its password.
const CHANNEL_BINDING_HINT: &str = "lockkeeper: SCRAM channel binding ties the login to the server's own certificate, and the \
    client sees the proxy's. Connect with channel_binding=disable, give the proxy the server's certificate and key \
    (--tls-cert, --tls-key), or run it with --auth scram.";

impl Relay {
    /// Follows the server's messages that are here.
    pub(super) fn scan_down(&mut self) -> Result<(), Broken> {
        loop {
            if !self.down.at_frame() && !self.down.pass_body() {
                return Ok(());
            }
            self.down.pass_rows();
            let here = self.down.unjudged();
            let Some(header) = here.first_chunk::<HEADER>() else {
                return Ok(());
            };
            let tag = header[0];
            let len = wire::frame_len(header)
                .ok_or_else(|| Broken::Server(io::Error::other("the server sent a message of invalid length")))?;
            self.streaming = (self.streaming && tag != b'c' && tag != b'E' && tag != b'C') || tag == b'W';
            if tag == b'C' {
                if here.len() < len && len <= TAG_MAX {
                    self.down.want(len);
                    return Ok(());
                }
                let told = &here[HEADER..len.min(here.len())];
                if matches!(told.first(), Some(b'U' | b'D')) {
                    self.writes_running = self.writes_running.saturating_sub(1);
                }
                self.shapes.heard(told);
                if told == b"ROLLBACK\0" {
                    self.held.doubt_portals();
                }
                if told == b"SAVEPOINT\0" {
                    self.has_savepoint = true;
                } else if self.notes_ends {
                    match told {
                        b"COMMIT\0" => (self.ended, self.ended_by) = (true, Some(EndedBy::Commit)),
                        b"ROLLBACK\0" => (self.ended, self.ended_by) = (true, Some(EndedBy::Rollback)),
                        b"PREPARE TRANSACTION\0" => (self.ended, self.ended_by) = (true, None),
                        _ => {}
                    }
                }
            }
            let read = match tag {
                b'D' | b'd' => {
                    self.down.pass(len);
                    continue;
                }
                b'Z' | b'S' | b'K' => true,
                b'3' => self.responses.front() == Some(Expect::Ours),
                b'C' => self.responses.front() == Some(Expect::Execute) || self.responses.on_answer().notes(),
                b'E' | b'N' => {
                    self.responses.on_answer().notes()
                        || self.explains.is_some() && tag == b'E'
                        || self.channel_binding == ChannelBinding::Explain { offered: true }
                }
                b'R' => self.channel_binding != ChannelBinding::AsItIs,
                _ => false,
            };
            if read && len <= READ_MAX {
                if here.len() < len {
                    self.down.want(len);
                    return Ok(());
                }
                if !self.take_in(tag, len) {
                    continue;
                }
            } else {
                if tag == b'E' {
                    self.answered.failed = true;
                    self.unnamed.is_open |= !self.unnamed.former.is_empty();
                    self.probe.give_up();
                }
                // A suspended portal has done its work (INSERT … RETURNING) or a part of it.
                if tag == b's' && self.responses.front() == Some(Expect::Execute) {
                    self.group.executed = true;
                    (self.unreported, self.asked) = (true, None);
                }
                self.group.bound += u32::from(tag == b'2');
                self.responses.received(tag);
            }
            self.down.pass(len);
        }
    }

    /// Reads a whole message of the server's. False if it was taken out of the stream or replaced.
    fn take_in(&mut self, tag: u8, len: usize) -> bool {
        let frame = &self.down.unjudged()[..len];
        let on_answer = self.responses.on_answer();
        match tag {
            b'Z' => {
                let status = frame.get(HEADER).copied();
                self.ready_with(status);
                self.responses.received(tag);
                if self.responses.quiescent() {
                    self.probe.done(&self.live.traffic);
                }
                if std::mem::take(&mut self.keeps_ready) {
                    self.kept_ready = Some(self.down.unjudged()[..len].to_vec());
                    self.down.cut(len);
                    return false;
                }
                if on_answer.keeps_ready() {
                    self.down.cut(len);
                    return false;
                }
                // While the session waits for something else, what it says must not come before this.
                if self.forwarding && self.ended_now() {
                    self.kept_ready = Some(self.down.unjudged()[..len].to_vec());
                    self.down.cut(len);
                    return false;
                }
            }
            b'C' => {
                let mut moved = false;
                let body = &frame[HEADER..];
                if self.responses.front() == Some(Expect::Execute) {
                    self.group.executed = true;
                    (self.unreported, self.asked) = (true, None);
                    if body.starts_with(b"BEGIN\0") || body.starts_with(b"START TRANSACTION\0") {
                        self.group.block = Block::Begun;
                    } else if body.starts_with(b"COMMIT\0") || body.starts_with(b"PREPARE TRANSACTION\0") {
                        self.group = Group {
                            block: Block::Ended,
                            ..Group::default()
                        };
                        self.held.forget_portals();
                    } else if body.starts_with(b"ROLLBACK\0") {
                        self.group.block = Block::Unknown;
                    } else if [&b"SET\0"[..], b"RESET\0", b"DISCARD ALL\0"].contains(&body) {
                        // Also by a statement that was prepared long ago.
                        moved = true;
                    }
                }
                let named = wire::c_string(body).map(|(named, _)| named).unwrap_or_default();
                let kept = on_answer.keeps_complete(named);
                if on_answer.notes() {
                    self.answered.tag = Some(String::from_utf8_lossy(named).into_owned());
                    self.answered.is_kept = kept;
                }
                self.responses.received(tag);
                if kept {
                    self.down.cut(len);
                }
                if moved {
                    self.names_moved();
                }
                return !kept;
            }
            b'E' | b'N' => {
                let mut report = Report::of_frame(frame);
                if tag == b'E' {
                    self.probe.give_up();
                    self.answered.failed = true;
                    self.unnamed.is_open |= !self.unnamed.former.is_empty();
                    self.responses.received(tag);
                    if on_answer.notes() {
                        self.answered.error = Some(report.clone());
                    }
                }
                if tag == b'E'
                    && self.channel_binding == (ChannelBinding::Explain { offered: true })
                    && report.sqlstate() == "28000"
                {
                    report.append(b'H', CHANNEL_BINDING_HINT);
                    let mut hinted = bytes::BytesMut::new();
                    report.put(&mut hinted, tag, Encoding::Ascii);
                    self.down.replace(len, &hinted);
                    return false;
                }
                let explained = match &self.explains {
                    Some(text) if tag == b'E' && NEEDS_MORE.contains(&report.sqlstate().as_str()) => {
                        report.append(b'D', text);
                        true
                    }
                    _ => false,
                };
                let moves = on_answer.position().filter(|_| report.get(b'P').is_some());
                if moves.is_some() || explained {
                    match moves {
                        Some(Position::Hidden) => report.remove(b'P'),
                        Some(Position::Shifted(by)) => report.shift_position(by as usize),
                        None => {}
                    }
                    let mut moved = bytes::BytesMut::new();
                    let encoding = match explained {
                        true => self.encoding(),
                        false => Encoding::Ascii,
                    };
                    report.put(&mut moved, tag, encoding);
                    self.down.replace(len, &moved);
                    return false;
                }
            }
            b'R' => return self.take_in_authentication(len),
            b'S' => {
                let body = frame[HEADER..].to_vec();
                self.takes_report(&body);
            }
            b'K' => self.cancel_key = frame[HEADER..].to_vec(),
            b'3' => {
                self.responses.received(tag);
                self.down.cut(len);
                return false;
            }
            _ => {}
        }
        true
    }

    /// A whole message of authentication. False if another was put in its place.
    fn take_in_authentication(&mut self, len: usize) -> bool {
        let frame = &self.down.unjudged()[..len];
        match (wire::authentication(frame), self.channel_binding) {
            (Some(wire::AUTHENTICATION_OK), _) => self.channel_binding = ChannelBinding::AsItIs,
            (Some(wire::AUTHENTICATION_SASL), ChannelBinding::Strip) => {
                if let Some(offer) = wire::without_channel_binding(frame) {
                    self.down.replace(len, &offer);
                    return false;
                }
            }
            (Some(wire::AUTHENTICATION_SASL), ChannelBinding::Explain { .. }) => {
                self.channel_binding = ChannelBinding::Explain { offered: true };
            }
            _ => {}
        }
        true
    }

    /// Since [`Relay::notes_ends`] the client's transaction has neither ended nor begun a part that can be undone alone.
    pub fn is_same_transaction(&self) -> bool {
        self.notes_ends && !self.ended && self.status == b'T' && !self.has_savepoint
    }

    /// A whole ReadyForQuery that answered a dialogue.
    pub fn ready(&mut self, frame: &[u8]) {
        self.ready_with(frame.get(HEADER).copied());
    }

    fn ready_with(&mut self, status: Option<u8>) {
        self.status = status.unwrap_or(b'I');
        self.group = Group::default();
        (self.unreported, self.asked) = (false, None);
        if !self.unnamed.is_open && self.responses.len() <= 1 {
            self.unnamed.former.clear();
        }
        if self.status == b'I' {
            self.shapes.transaction_ended(self.responses.len() <= 1);
            self.has_savepoint = false;
            self.ended |= self.notes_ends;
        }
        // Portals end with their transaction.
        if self.status == b'I' {
            self.held.forget_portals();
            self.growing = None;
        }
    }

    /// The session has seen to the end of a transaction: the client hears of it.
    pub async fn tell_end(&mut self) -> Result<(), Broken> {
        self.ended = false;
        match self.kept_ready.take() {
            Some(frame) => self.tell(&frame).await,
            None => Ok(()),
        }
    }

    /// A ReadyForQuery that the client waits for.
    pub fn keeps_end(&self) -> bool {
        self.kept_ready.is_some()
    }

    /// Since [`Relay::settle`] began, or at all.
    pub fn has_failed(&self) -> bool {
        self.answered.failed
    }

    /// Waits until nothing is owed. In an unfinished extended-query group the server is asked to flush.
    pub async fn settle(&mut self) -> Result<Answered, Broken> {
        self.answered = Answered::default();
        loop {
            if self.responses.countable() {
                self.count_answers().await?;
            }
            if self.responses.awaits_flush() && !self.responses.copy_in() {
                let mut flush = bytes::BytesMut::new();
                if self.is_behind_pooler() {
                    // PgBouncer answers a Parse of what it has prepared itself, but only with the next answer of the server's.
                    wire::put_close(&mut flush, b'P', &self.reserved);
                    self.responses.sent_ours();
                }
                wire::put_flush(&mut flush);
                self.send(&flush).await;
            }
            match self.run(Mode::Settle).await? {
                Event::Quiescent => return Ok(std::mem::take(&mut self.answered)),
                Event::ServerGone => return Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())),
                Event::ClientGone => return Err(Broken::Client(io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
    }

    /// Syncs stood among the data of a COPY that has failed: the server has swallowed those that came before the error. What it
    /// still answers comes before the answer to a question of ours.
    pub async fn count_answers(&mut self) -> Result<(), Broken> {
        self.forwarding = false;
        std::future::poll_fn(|cx| {
            while !self.down.at_frame() {
                ready!(self.poll_down(cx))?;
                if self.server_eof {
                    return Poll::Ready(Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())));
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        let mut out = bytes::BytesMut::new();
        // The first ends the skipping, should the server have swallowed all. An empty statement is parsed in a failed block too.
        wire::put_sync(&mut out);
        wire::put_parse(&mut out, self.reserved.as_bytes(), b"", &[]);
        wire::put_close(&mut out, b'S', &self.reserved);
        wire::put_sync(&mut out);
        self.send(&out).await;
        let mut last: Option<Vec<u8>> = None;
        loop {
            let frame = self.receive().await?;
            match frame[0] {
                b'Z' => {
                    if let Some(before) = last.replace(frame) {
                        self.responses.received(b'Z');
                        self.ready(&before);
                        self.tell(&before).await?;
                    }
                }
                b'1' => break,
                b'S' => {
                    self.takes_report(&frame[HEADER..]);
                    self.tell(&frame).await?;
                }
                _ => self.tell(&frame).await?,
            }
        }
        loop {
            let frame = self.receive().await?;
            match frame[0] {
                b'Z' => {
                    self.ready(&frame);
                    break;
                }
                b'3' => {}
                _ => self.tell(&frame).await?,
            }
        }
        // Else the server would go on skipping, up to the client's next Sync.
        self.discard_to_sync |= !self.responses.counted();
        Ok(())
    }
}

impl Reported {
    /// The body of a ParameterStatus.
    pub fn take_in(&mut self, body: &[u8]) {
        let Some((name, rest)) = wire::c_string(body) else {
            return;
        };
        let Some((value, _)) = wire::c_string(rest) else { return };
        let value = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"standard_conforming_strings" => self.standard_conforming_strings = value() == "on",
            b"client_encoding" => self.client_encoding = value(),
            b"server_encoding" => self.server_encoding = value(),
            b"application_name" => self.application_name = value(),
            b"in_hot_standby" => self.in_hot_standby = Some(value() == "on"),
            b"default_transaction_read_only" => self.read_only = Some(value() == "on"),
            b"server_version" => {
                self.server_version = value();
                tell_fault(&self.server_version);
            }
            _ => {}
        }
    }
}

/// Once in a process: every session is told the same version.
fn tell_fault(version: &str) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if let Some(fault) = crate::plan::faults::of_reported(version) {
        TOLD.call_once(|| tracing::warn!(version, "{}. {}", fault.what, fault.remedy));
    }
}
