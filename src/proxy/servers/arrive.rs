//! A session's way to its server: the servers are tried in order, until one says that it is what is asked for.
//!
//! What a server says without the client's help (up to ReadyForQuery, or to a challenge of authentication) is heard before the client
//! hears any of it, so that another server can still take its place. What has challenged the client can only be refused: the client's
//! proof is for that server alone. PostgreSQL 14 and later say by themselves whether they are standbys; older ones are asked, once.

use super::role::{Fit, Role};
use crate::proxy::end::Broken;
use crate::proxy::login::{self, Asked, CANNOT_CONNECT_NOW, Ended};
use crate::proxy::relay::Relay;
use crate::proxy::shared::Shared;
use crate::proxy::stream::Stream;
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::scram::Keys;
use std::collections::VecDeque;
use tokio::io::AsyncWriteExt;

/// As libpq asks servers before 14.
const ROLE: &[u8] = b"SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')";

/// One session's way.
pub struct Way<'a> {
    shared: &'a Shared,
    packet: &'a [u8],
    left: VecDeque<usize>,
    /// Servers that are only taken where there is no better one.
    put_off: VecDeque<usize>,
    takes_worst: bool,
    /// The server that it has come to.
    pub at: usize,
    /// Why it has not stayed with others.
    passed: Vec<String>,
}

/// Why there is no session.
pub enum Unarrived {
    Report(Report),
    Broken(Broken),
}

impl From<Broken> for Unarrived {
    fn from(broken: Broken) -> Unarrived {
        Unarrived::Broken(broken)
    }
}

/// What a server has said, of which the client has heard nothing.
enum Heard {
    /// It wants something of the client; what it has said before that.
    Challenge(Vec<Vec<u8>>),
    Refused(Vec<u8>),
    Ready(Vec<Vec<u8>>),
}

impl<'a> Way<'a> {
    pub fn new(shared: &'a Shared, packet: &'a [u8]) -> Way<'a> {
        Way {
            shared,
            packet,
            left: shared.servers.in_order().into(),
            put_off: VecDeque::new(),
            takes_worst: false,
            at: 0,
            passed: Vec::new(),
        }
    }

    /// A connection to the next server, which has got the startup packet; none: why.
    pub async fn next(&mut self) -> Result<Stream, Report> {
        loop {
            if self.left.is_empty() {
                self.left = std::mem::take(&mut self.put_off);
                self.takes_worst = true;
            }
            let Some(n) = self.left.pop_front() else {
                return Err(self.nowhere());
            };
            self.at = n;
            let reached = self.shared.servers.reach(n, &self.shared.limits).await;
            let mut server = match reached {
                Ok(server) => server,
                Err(error) => {
                    self.passed.push(error);
                    continue;
                }
            };
            match login::send_server(&mut server, self.packet).await {
                Ok(()) => return Ok(server),
                Err(error) => {
                    let address = &self.shared.servers.get(n).address;
                    self.passed.push(format!(
                        "the server at {address} closed the connection at once: {error}"
                    ));
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        !self.left.is_empty() || !self.put_off.is_empty()
    }

    fn passes(&mut self, why: &str) {
        let address = &self.shared.servers.get(self.at).address;
        self.passed.push(format!("the server at {address} {why}"));
    }

    fn nowhere(&self) -> Report {
        let servers = &self.shared.servers;
        let passed = self.passed.join("; ");
        if servers.all().len() == 1 && !servers.are_looked_at() {
            let message =
                format!("lockkeeper: {passed}; check that PostgreSQL runs there and that --upstream names it");
            return Report::fatal(CANNOT_CONNECT_NOW, &message);
        }
        let wanted = match servers.are_looked_at() {
            true => format!("no server of --upstream is {} now", servers.target.name()),
            false => "no server of --upstream can be reached now".to_owned(),
        };
        let hint = "Connect again in a moment: the servers are tried anew each time.";
        Report::fatal(CANNOT_CONNECT_NOW, &format!("lockkeeper: {wanted}: {passed}")).hint(hint)
    }

    /// The servers' first words where the proxy authenticates: those that take nobody now are passed by.
    pub async fn asked(&mut self, client: &mut Stream, server: &mut Stream) -> Result<Asked, Ended> {
        loop {
            let ended = match login::asked(client, server).await {
                Err(ended) if self.has_more() && ended.is_for_now() => ended,
                asked => return asked,
            };
            self.passes(&ended.to_string());
            *server = self.next().await.map_err(Ended::Report)?;
        }
    }

    /// Until a server is right as far as it can be heard without the client. `keys`: the client has logged in at the proxy with these.
    pub async fn arrive(&mut self, relay: &mut Relay, keys: Option<&Keys>) -> Result<(), Unarrived> {
        loop {
            match hear(relay).await {
                Ok(Heard::Challenge(before)) => {
                    relay.keeps_ready = self.shared.servers.are_looked_at();
                    relay.tell(&before.concat()).await?;
                    return Ok(relay.takes_challenge()?);
                }
                Ok(Heard::Refused(frame)) => {
                    let report = Report::of_frame(&frame);
                    if report.sqlstate() != CANNOT_CONNECT_NOW || !self.has_more() {
                        relay.failed();
                        relay.tell(&frame).await?;
                        return Err(Broken::Refused(Box::new(report)).into());
                    }
                    self.passes(&format!("refuses: {}", report.message()));
                }
                Ok(Heard::Ready(frames)) => {
                    let role = role_of(relay, &frames).await?;
                    if self.stays(role) {
                        return Ok(relay.takes_arrival(&frames).await?);
                    }
                }
                Err(Broken::Server(_)) if self.has_more() => self.passes("closed the connection during authentication"),
                Err(broken) => return Err(broken.into()),
            }
            let mut next = self.next().await.map_err(Unarrived::Report)?;
            if let Some(keys) = keys {
                login::again(&mut next, keys).await.map_err(|ended| match ended {
                    Ended::Report(report) => Unarrived::Report(report),
                    other => Unarrived::Report(Report::fatal(CANNOT_CONNECT_NOW, &format!("lockkeeper: {other}"))),
                })?;
            }
            leave(relay.moves_to(next)).await;
        }
    }

    fn stays(&mut self, role: Role) -> bool {
        let servers = &self.shared.servers;
        if role != Role::Unknown {
            servers.get(self.at).says(role);
        }
        match role.fits(servers.target) {
            Fit::Yes | Fit::Perhaps => true,
            Fit::AtWorst if self.takes_worst || !self.has_more() => true,
            fit => {
                if fit == Fit::AtWorst {
                    self.put_off.push_back(self.at);
                }
                self.passes(role.words());
                false
            }
        }
    }

    /// A client that has proven itself to this server, and waits for it: whether it is the right one.
    pub async fn confirm(&mut self, relay: &mut Relay) -> Result<(), Unarrived> {
        let said = Said {
            standby: relay.reported.in_hot_standby,
            read_only: relay.reported.read_only,
        };
        let role = match said.role() {
            Some(role) => role,
            None => ask(relay).await?,
        };
        // What would be better wants another proof.
        self.takes_worst = true;
        match self.stays(role) {
            true => Ok(relay.tell_end().await?),
            false => Err(Unarrived::Report(self.nowhere())),
        }
    }
}

/// What a server reports of itself, 14 and later.
#[derive(Default)]
struct Said {
    standby: Option<bool>,
    read_only: Option<bool>,
}

impl Said {
    fn role(&self) -> Option<Role> {
        Some(Role::of(self.standby?, self.read_only?))
    }
}

async fn hear(relay: &mut Relay) -> Result<Heard, Broken> {
    let mut frames = Vec::new();
    loop {
        let Some(frame) = relay.receive_unless_challenge().await? else {
            return Ok(Heard::Challenge(frames));
        };
        match frame[0] {
            b'E' => return Ok(Heard::Refused(frame)),
            b'Z' => {
                frames.push(frame);
                return Ok(Heard::Ready(frames));
            }
            _ => frames.push(frame),
        }
    }
}

async fn role_of(relay: &mut Relay, frames: &[Vec<u8>]) -> Result<Role, Broken> {
    let mut said = Said::default();
    for frame in frames.iter().filter(|frame| frame[0] == b'S') {
        let Some((name, rest)) = wire::c_string(&frame[HEADER..]) else {
            continue;
        };
        let is_on = Some(rest.starts_with(b"on\0"));
        match name {
            b"in_hot_standby" => said.standby = is_on,
            b"default_transaction_read_only" => said.read_only = is_on,
            _ => {}
        }
    }
    match said.role() {
        Some(role) => Ok(role),
        None => ask(relay).await,
    }
}

/// One question and its answer, while the session is idle and the client waits for it to begin.
async fn ask(relay: &mut Relay) -> Result<Role, Broken> {
    if relay.replication {
        // No SELECT there.
        return Ok(Role::Unknown);
    }
    let mut question = BytesMut::new();
    wire::put_query(&mut question, ROLE);
    relay.send(&question).await;
    let mut role = Role::Unknown;
    loop {
        let frame = relay.receive().await?;
        match frame[0] {
            b'D' => {
                if let Some([Some(standby), Some(read_only)]) = wire::data_row(&frame).as_deref() {
                    role = Role::of(standby == "t", read_only == "on");
                }
            }
            b'Z' => return Ok(role),
            _ => {}
        }
    }
}

/// Takes leave of a server that a session has not stayed with.
async fn leave(mut server: Stream) {
    let mut terminate = BytesMut::new();
    wire::put_frame(&mut terminate, b'X', |_| {});
    // It may have gone.
    let _ = server.write_all(&terminate).await;
    let _ = server.flush().await;
    server.close().await;
}
