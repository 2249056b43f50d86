//! Holding a statement back for a moment, while a brief step waits for a table that it would keep busy.
//!
//! A statement is held before anything of it has been forwarded, by a session that is in no transaction, so that nobody waits
//! for it. Its bytes stay where they are, and all that comes behind them. It goes on as if it had come later: when the window
//! closes, when its client goes away, when the proxy is being stopped. Start at [`Relay::is_held_back`].

use super::conduct::CANCEL_TIME;
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, unless_refused};
use super::relay::{Event, Relay};
use super::session::Session;
use super::shared::Stop;
use super::time_limits::cancelled;
use crate::plan::Place;
use crate::usage::holds::{Held, Window};
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Relay {
    /// The frame at the front of `up`, of `len` bytes, begins a statement that is to be held. Only asked while a window is open.
    pub fn is_held_back(&mut self, tag: u8, len: usize) -> Option<Event> {
        let free = self.responses.quiescent()
            && !self.responses.in_group()
            && self.is_outside_block()
            && self.between_groups()
            && !(self.holding.let_go || self.watch || self.replication || self.stopping || self.client_gone());
        if !free || self.holding.database.is_empty() {
            return None;
        }
        let shape = self.shape_at_front(tag, len)?;
        let window = self.live().holds.window_for(&self.holding.database, shape)?;
        self.holding.window = Some((window, shape));
        Some(Event::Held(len))
    }

    /// Of what the frame executes, or will execute.
    fn shape_at_front(&self, tag: u8, len: usize) -> Option<u64> {
        let here = self.up.unjudged();
        let traffic = &self.live().traffic;
        let conforming = self.reported.standard_conforming_strings;
        match tag {
            b'Q' => Some(traffic.number(wire::query_text(here.get(..len)?)?, conforming)),
            b'P' => {
                let parse = wire::parse_message(here.get(..len)?)?;
                // One that is only prepared is held when it is executed.
                let executes = parse.name.is_empty() || binds_behind(here.get(len..).unwrap_or_default());
                executes.then(|| traffic.number(parse.text, conforming))
            }
            b'B' => {
                let (_, statement) = wire::bind_names(here)?;
                Some(self.shape_of_prepared(statement)).filter(|shape| *shape != 0)
            }
            _ => None,
        }
    }
}

/// Among the frames that are here a Bind comes before the group ends.
fn binds_behind(mut rest: &[u8]) -> bool {
    while let Some(header) = rest.first_chunk::<HEADER>() {
        match header[0] {
            b'B' => return true,
            b'S' | b'Q' => return false,
            _ => {}
        }
        rest = wire::frame_len(header)
            .and_then(|len| rest.get(len..))
            .unwrap_or_default();
    }
    false
}

impl Session {
    /// Holds the statement at the front, of which nothing has been forwarded.
    pub(super) async fn on_held(&mut self, len: usize) -> Result<(), Broken> {
        let Some((window, shape)) = self.relay.holding.window.take() else {
            return Ok(());
        };
        let tag = self.relay.up.unjudged().first().copied();
        // One that came before this statement was for none.
        self.cancel.clear();
        let until = window.until.min(Instant::now() + self.may_be_held(shape).await?);
        let held = Held::begin(&self.shared.live.holds, &window);
        self.relay.flow.is_held();
        let ended = self.wait_until_let_go(&window, until).await;
        drop(held);
        self.relay.holding.let_go = true;
        let Some(report) = ended? else { return Ok(()) };
        self.relay.holding.let_go = false;
        // The request itself is still on its way to the server: it is met here, not by the client's next statement.
        unless_refused(self.sleep_on_server(CANCEL_TIME, Place::Alone).await)?;
        match tag {
            Some(b'Q') => self.refuse_query(len, report).await,
            _ => self.refuse_extended(len, report).await,
        }
    }

    /// So that the client hears within its own statement_timeout, with the time that such statements take, and so that the server
    /// does not take the session for one that has nothing to do.
    async fn may_be_held(&mut self, shape: u64) -> Result<Duration, Broken> {
        let query = "SELECT s.name, s.setting FROM pg_catalog.pg_settings s \
             WHERE s.name IN ('statement_timeout', 'idle_session_timeout') AND s.setting <> '0'";
        let asked = [Ask::new(query)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        let mut longest = Duration::MAX;
        for row in answers.into_iter().flatten().flat_map(|answer| answer.rows) {
            let [Some(name), Some(value)] = row.as_slice() else {
                continue;
            };
            let limit = Duration::from_millis(value.parse().unwrap_or_default());
            let usual = self
                .shared
                .live
                .traffic
                .usual(shape)
                .map_or(limit, |usual| usual.half * 3 / 2);
            longest = longest.min(match name.as_str() {
                "statement_timeout" => limit.saturating_sub(usual),
                _ => limit / 2,
            });
        }
        Ok(longest.min(Duration::from_secs(3600)))
    }

    /// Some: it is to fail with this.
    async fn wait_until_let_go(&mut self, window: &Window, until: Instant) -> Result<Option<Report>, Broken> {
        let mut stop = self.shared.stop.subscribe();
        let left = Arc::clone(&self.relay.left);
        loop {
            if self.cancel.take() {
                return Ok(Some(cancelled()));
            }
            let stopping = *stop.borrow_and_update() != Stop::No;
            if stopping || self.relay.client_gone() {
                return Ok(None);
            }
            let frame = tokio::select! {
                biased;
                () = self.cancel.wake.notified() => continue,
                () = window.closes() => return Ok(None),
                () = tokio::time::sleep_until(until.into()) => return Ok(None),
                _ = stop.changed() => continue,
                () = left.notified() => continue,
                frame = self.relay.receive() => frame?,
            };
            match frame.first() {
                Some(b'S') => self.relay.takes_report(&frame[HEADER..]),
                Some(b'E') => {
                    // Between statements this is the server ending the session.
                    self.relay.tell(&frame).await?;
                    return Err(Broken::Server(io::ErrorKind::ConnectionAborted.into()));
                }
                _ => {}
            }
            self.relay.tell(&frame).await?;
        }
    }
}
