//! Named portals of what is still to be judged and answers with rows: the server does not have them between Bind and Execute, since FETCH
//! and MOVE, also within code, would run them by their name.
//!
//! So is the unnamed one, which code reaches, before another is executed.
//!
//! The server has taken the Bind, so that the client knows its errors; then the portal is closed there, and made again from the same Bind for
//! a Describe or an Execute.

use super::dialogue::{Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::held;
use super::session::Session;
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, Report};

impl Session {
    /// Behind the Bind, which the server has taken.
    pub(super) async fn put_away(&mut self, portal: &[u8]) -> Result<(), Broken> {
        let mut out = BytesMut::new();
        put_close(&mut out, b'P', portal);
        wire::put_flush(&mut out);
        self.relay.send(&out).await;
        self.hears(b'3').await?;
        self.relay.held.put_away(portal);
        Ok(())
    }

    /// In front of its Execute.
    pub(super) async fn come_back(&mut self, portal: &held::Portal) -> Result<(), Broken> {
        match portal.away && !self.relay.responses.skipping() {
            true => self.bind_again(portal).await,
            false => Ok(()),
        }
    }

    /// Behind a COMMIT without its ReadyForQuery yet, that of a Sync tells whether it had AND CHAIN. Nothing is uncommitted, so that this ends
    /// no more than the portal that is to be executed, which is made again.
    pub(super) async fn ask_chained(&mut self, portal: &held::Portal) -> Result<(), End> {
        if !self.relay.may_be_chained() || self.relay.is_behind_pooler() {
            return Ok(());
        }
        unless_refused(self.relay.ask(&[], Closing::Sync, Hears::Nothing).await)?;
        self.relay.binds_again();
        match portal.away {
            true => Ok(()),
            false => Ok(self.bind_again(portal).await?),
        }
    }

    /// Behind a ROLLBACK, or ROLLBACK TO, the server says whether the portal is still there; its error is then the client's.
    pub(super) async fn ask_portal(&mut self, name: &[u8], portal: &held::Portal) -> Result<(), End> {
        if portal.away {
            let name = String::from_utf8_lossy(name);
            let text = format!(
                "lockkeeper: the portal \"{name}\" may have ended with the ROLLBACK before, and was not executed; bind it again"
            );
            return Err(Report::error("34000", &text).into());
        }
        self.relay.ask_describe(name).await?;
        self.relay.held.is_there(name);
        Ok(())
    }

    /// What the server says of a portal is asked of one that is there for that long.
    pub(super) async fn on_describe(&mut self, len: usize) -> Result<(), End> {
        self.relay.settle().await?;
        let target = wire::close_target(&self.relay.up.unjudged()[..len]);
        let name = target.map(|(_, name)| name.to_vec()).unwrap_or_default();
        let held = self.relay.held.portal(&name).cloned();
        let away = held.filter(|portal| portal.away && !self.relay.responses.skipping() && !self.relay.block_failed());
        if let Some(portal) = &away {
            self.bind_again(portal).await?;
        }
        self.relay.pass_frame(len);
        if away.is_some() {
            self.relay.settle().await?;
            if !self.relay.responses.skipping() {
                self.put_away(&name).await?;
            }
        }
        Ok(())
    }

    /// The portal is made again from the client's own Bind: it was put away, or our Sync has ended it. Should its statement be there no more,
    /// or be another, it is parsed anew for that.
    pub(super) async fn bind_again(&mut self, portal: &held::Portal) -> Result<(), Broken> {
        // Where nothing was asked, it is there still.
        let name = wire::bind_names(&portal.bind).map_or(&[][..], |(name, _)| name);
        let mut out = BytesMut::new();
        put_close(&mut out, b'P', name);
        let parses = !self.relay.held.is_still(portal);
        if parses {
            let ours = self.relay.reserved.clone();
            let values = wire::bind_parameters(&portal.bind).unwrap_or_default();
            let results = wire::bind_results(&portal.bind).unwrap_or_default();
            wire::put_parse(
                &mut out,
                ours.as_bytes(),
                &portal.statement.text,
                &portal.statement.types,
            );
            wire::put_bind(&mut out, name, ours.as_bytes(), values, results);
            wire::put_close(&mut out, b'S', &ours);
        } else {
            out.extend_from_slice(&portal.bind);
        }
        wire::put_flush(&mut out);
        self.relay.send(&out).await;
        // An error of its Bind would leave it behind.
        self.relay.unclosed |= parses;
        self.relay.stop_at_sync |= parses;
        self.hears(b'2').await?;
        if parses && !self.relay.responses.skipping() {
            self.relay.unclosed = false;
            self.hears(b'3').await?;
        }
        Ok(())
    }

    /// The server's answers to messages of ours, up to this one. An error is the client's, as is all else that it is told.
    async fn hears(&mut self, last: u8) -> Result<(), Broken> {
        loop {
            let frame = self.relay.receive().await?;
            match frame[0] {
                tag if tag == last => return Ok(()),
                b'1' | b'2' | b'3' => {}
                b'E' => {
                    self.relay.responses.skip_to_sync();
                    return self.relay.tell(&frame).await;
                }
                _ => self.relay.tell(&frame).await?,
            }
        }
    }
}

fn put_close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    out.extend_from_slice(b"C");
    out.extend_from_slice(&(6 + name.len() as u32).to_be_bytes());
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(name);
    out.extend_from_slice(&[0]);
}
