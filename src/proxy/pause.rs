//! Waits between two tries or two batches, on the server, where a cancel reaches them.

use super::conduct::CANCEL_TIME;
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End, SHUTTING_DOWN};
use super::session::Session;
use super::shared::Stop;
use super::time_limits::cancelled;
use crate::plan::Place;
use lockkeeper_wire::messages::{HEADER, Report};
use std::io;
use std::time::{Duration, Instant};

impl Session {
    /// Waits on the server, so that whatever ends a statement there ends the wait: pg_cancel_backend, pg_terminate_backend, a cancel
    /// request that came by another process. An idle server process would ignore the first. A client that went away ends the
    /// session.
    pub(super) async fn pause(&mut self, pause: Duration, place: Place) -> Result<(), End> {
        let until = Instant::now() + pause;
        let mut told = false;
        loop {
            if self.cancel.take() {
                // The request itself is still on its way to the server: it is met here, not by the client's next statement.
                self.sleep_on_server(CANCEL_TIME, place).await?;
                return Err(cancelled().into());
            }
            if *self.shared.stop.subscribe().borrow() == Stop::Now {
                return Err(Report::error("57P01", SHUTTING_DOWN).into());
            }
            if self.relay.client_gone() {
                return Err(Broken::Client(io::ErrorKind::UnexpectedEof.into()).into());
            }
            if let Some(report) = self.limits.exceeded() {
                return Err(report.into());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                match self.is_kept_waiting(place, &mut told).await? {
                    true => continue,
                    false => return Ok(()),
                }
            }
            let left = left.min(SLEEP_MAX).min(self.limits.left());
            let slept = self.sleep_on_server(left, place).await;
            if let Err(End::Refused(_)) = slept {
                self.cancel.clear();
            }
            slept?;
        }
    }

    /// Between two steps, tries or batches: true, and a moment has passed, while somebody has paused the plan. It waits on the server,
    /// where a cancel reaches it, and holds no lock.
    pub(super) async fn is_kept_waiting(&mut self, place: Place, told: &mut bool) -> Result<bool, End> {
        if place != Place::Alone {
            return Ok(false);
        }
        let Some(by) = self.seat.reins.paused_by() else {
            if std::mem::take(told) {
                self.seat.change(|plan| plan.paused_by = None);
                self.relay.notice("the plan goes on").await?;
            }
            return Ok(false);
        };
        if !std::mem::replace(told, true) {
            self.seat.change(|plan| plan.paused_by = Some(by.clone()));
            self.relay
                .notice(&format!(
                    "the plan is paused by {by}; it goes on when it is resumed, and a cancel ends it"
                ))
                .await?;
        }
        let since = Instant::now();
        let slept = self.sleep_on_server(SLEEP_MAX, place).await;
        self.seat.reins.was_paused(since.elapsed());
        if let Err(End::Refused(_)) = slept {
            self.cancel.clear();
        }
        slept?;
        Ok(true)
    }

    /// Before a step.
    pub(super) async fn waits_while_paused(&mut self, place: Place) -> Result<(), End> {
        match place == Place::Alone && self.seat.reins.paused_by().is_some() {
            true => self.pause(std::time::Duration::ZERO, place).await,
            false => Ok(()),
        }
    }

    /// The same without a statement, whose snapshot every concurrent build would wait for up to the end of the client's transaction. A
    /// cancel request is heard, pg_cancel_backend is not.
    pub(super) async fn pause_without_snapshot(&mut self, pause: Duration) -> Result<(), End> {
        let until = tokio::time::Instant::now() + pause;
        let mut stop = self.shared.stop.subscribe();
        loop {
            if self.cancel.take() {
                return Err(cancelled().into());
            }
            if *stop.borrow_and_update() == Stop::Now {
                return Err(Report::error("57P01", SHUTTING_DOWN).into());
            }
            if self.relay.client_gone() {
                return Err(Broken::Client(io::ErrorKind::UnexpectedEof.into()).into());
            }
            let frame = tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = self.cancel.wake.notified() => continue,
                _ = stop.changed() => continue,
                frame = self.relay.receive() => frame?,
            };
            match frame.first() {
                Some(b'S') => self.relay.takes_report(&frame[HEADER..]),
                Some(b'E') => {
                    // Between statements this is the server ending the session.
                    self.relay.tell_last(&frame).await?;
                    return Err(Broken::Server(io::ErrorKind::ConnectionAborted.into()).into());
                }
                _ => {}
            }
            self.relay.tell(&frame).await?;
        }
    }

    pub(super) async fn sleep_on_server(&mut self, time: Duration, place: Place) -> Result<(), End> {
        let mut asks = Vec::with_capacity(4);
        if place != Place::Alone {
            asks.push(Ask::stash("statement_timeout"));
        }
        asks.push(Ask::set_local("statement_timeout", "0"));
        asks.push(Ask::as_client(format!(
            "SELECT pg_catalog.pg_sleep({})",
            time.as_secs_f64()
        )));
        if place != Place::Alone {
            asks.push(Ask::restore("statement_timeout"));
        }
        self.relay.ask(&asks, Closing::Sync, Hears::Notices).await?;
        Ok(())
    }
}

/// A sleep of the server's is so long at most: a client that went away and the end of the proxy are noticed after it.
pub(super) const SLEEP_MAX: Duration = Duration::from_millis(200);
