//! The servers of `--upstream`: what is known of each, and in which order they are tried.
//!
//! A list is a primary and its standbys, as libpq's: `--target-session-attrs` says which of them sessions go to. What a server is, it
//! says itself: to each session that begins there ([`arrive`]), and to the watch with the control connection's role ([`watch`]).
//! Nothing of this is on the way of a statement. Start at [`Servers::in_order`].

pub mod arrive;
pub mod reach;
pub mod role;
pub mod watch;

use super::connect::connect;
use super::settings::{Limits, Target, Upstream, Upstreams};
use super::stop::Stop;
use super::stream::Stream;
use super::tls::Connector;
use role::{Fit, Role};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch as channel;

pub(super) struct Servers {
    all: Vec<Server>,
    pub(super) target: Target,
    /// The watch has asked each server once, or there is none.
    settled: channel::Sender<bool>,
}

/// One of them.
pub(super) struct Server {
    pub(super) address: Upstream,
    pub(super) connector: Option<Connector>,
    known: Mutex<Known>,
    /// As `Shared::stop`, and also raised where sessions leave this server.
    stop: channel::Sender<Stop>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    role: Role,
    since: Option<Instant>,
    /// Since then it could not be reached.
    down: Option<Instant>,
}

impl Servers {
    /// `binds`: SCRAM is bound to the server's certificate.
    pub(super) fn new(upstream: &Upstreams, binds: bool) -> Result<Servers, String> {
        let server = |server: &super::settings::ServerAt| {
            let tls = server.tls.as_ref();
            Ok::<_, String>(Server {
                address: server.address.clone(),
                connector: tls.map(|tls| Connector::load(tls, binds)).transpose()?,
                known: Mutex::default(),
                stop: channel::Sender::new(Stop::No),
            })
        };
        Ok(Servers {
            all: upstream.servers.iter().map(server).collect::<Result<_, _>>()?,
            target: upstream.target,
            settled: channel::Sender::new(true),
        })
    }

    pub(super) fn get(&self, n: usize) -> &Server {
        &self.all[n]
    }

    pub(super) fn all(&self) -> &[Server] {
        &self.all
    }

    /// There is a choice, or a demand: a server must say what it is before a session is its own.
    pub(super) fn are_looked_at(&self) -> bool {
        self.target != Target::Any
    }

    /// The order in which a session that begins now tries them. Those that do not fit come last, since they may have changed; the one
    /// first that was asked longest ago.
    pub(super) fn in_order(&self) -> Vec<usize> {
        let known: Vec<Known> = self.all.iter().map(|server| *server.known()).collect();
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|n| {
            let known = known[*n];
            let fit = known.role.fits(self.target);
            let asked = if fit == Fit::No { known.since } else { None };
            (known.down.is_some(), fit, asked, *n)
        });
        order
    }

    /// Until the watch has said what it knows, in the first moment of the proxy.
    pub(super) async fn settle(&self, limit: Duration) {
        let is_settled = *self.settled.borrow();
        if !is_settled {
            let mut settled = self.settled.subscribe();
            let _ = tokio::time::timeout(limit, settled.wait_for(|settled| *settled)).await;
        }
    }

    /// A connection to the first that can be reached, for what is no client's session.
    pub(super) async fn connect(&self, limits: &Limits) -> Result<(usize, Stream), String> {
        self.settle(limits.connect_timeout).await;
        let mut errors = Vec::new();
        for n in self.in_order() {
            match self.reach(n, limits).await {
                Ok(stream) => return Ok((n, stream)),
                Err(error) => errors.push(error),
            }
        }
        Err(errors.join("; "))
    }

    /// A connection to this one.
    pub(super) async fn reach(&self, n: usize, limits: &Limits) -> Result<Stream, String> {
        let server = &self.all[n];
        let connected = connect(&server.address, server.connector.as_ref(), limits).await;
        // Whether it can be reached again is found by the watch, which waits for more than a connection.
        if connected.is_err() {
            server.reached(false);
        }
        connected
    }

    /// Why sessions leave this server.
    pub(super) fn farewell(&self, n: usize) -> String {
        let server = &self.all[n];
        let (why, target) = (server.role().words(), self.target.name());
        format!(
            "terminating connection: the server at {} {why} now, and sessions go to one that is {target}",
            server.address
        )
    }

    /// Sessions at all servers are to end.
    pub(super) fn stop(&self, stop: Stop) {
        for server in &self.all {
            server.stop.send_replace(stop);
        }
    }

    /// Which others are known to be what sessions are to go to.
    fn another_fits(&self, n: usize) -> bool {
        let others = self.all.iter().enumerate().filter(|(other, _)| *other != n);
        let known = others.map(|(_, server)| *server.known());
        let mut known = known.filter(|known| known.down.is_none());
        known.any(|known| known.role.fits(self.target) == Fit::Yes)
    }

    /// The server that sessions are to go to now is another one, and that is known.
    pub(super) fn is_left(&self, n: usize) -> bool {
        let known = *self.all[n].known();
        (known.down.is_some() || known.role.fits(self.target) == Fit::No) && self.another_fits(n)
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.all.iter().map(|server| server.address.to_string()).collect();
        f.write_str(&addresses.join(","))
    }
}

impl Server {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When sessions here are to end.
    pub(super) fn stops(&self) -> channel::Receiver<Stop> {
        self.stop.subscribe()
    }

    pub(super) fn role(&self) -> Role {
        self.known().role
    }

    fn reached(&self, is: bool) {
        let mut known = self.known();
        match (is, known.down) {
            (true, Some(_)) => {
                known.down = None;
                tracing::info!(server = %self.address, "the server is reached again");
            }
            (false, None) => known.down = Some(Instant::now()),
            _ => {}
        }
    }

    /// It has said what it is.
    fn says(&self, role: Role) {
        let mut known = self.known();
        known.since = Some(Instant::now());
        known.down = None;
        if std::mem::replace(&mut known.role, role) != role {
            tracing::info!(server = %self.address, "the server {}", role.words());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::settings::ServerAt;

    fn servers(target: Target) -> Servers {
        let server = |port| ServerAt {
            address: Upstream::Tcp { host: "a".into(), port },
            tls: None,
        };
        let upstream = Upstreams {
            servers: [1, 2, 3].map(server).to_vec(),
            target,
        };
        Servers::new(&upstream, false).expect("no files are needed")
    }

    #[test]
    fn what_fits_comes_first_and_what_does_not_is_tried_again() {
        let servers = servers(Target::ReadWrite);
        assert_eq!(servers.in_order(), [0, 1, 2]);
        servers.all[0].says(Role::Standby);
        servers.all[1].says(Role::Standby);
        assert_eq!(servers.in_order(), [2, 0, 1]);
        servers.all[2].reached(false);
        assert_eq!(servers.in_order(), [0, 1, 2]);
        servers.all[0].says(Role::Standby);
        assert_eq!(servers.in_order(), [1, 0, 2]);
        servers.all[1].says(Role::Primary);
        assert_eq!(servers.in_order(), [1, 0, 2]);
        assert!(servers.is_left(0) && servers.is_left(2) && !servers.is_left(1));
        servers.all[2].reached(true);
        assert_eq!(servers.in_order(), [1, 2, 0]);
    }

    #[test]
    fn a_standby_is_preferred_and_a_primary_is_better_than_none() {
        let servers = servers(Target::PreferStandby);
        servers.all[0].says(Role::Primary);
        servers.all[1].says(Role::Standby);
        assert_eq!(servers.in_order(), [1, 2, 0]);
        servers.all[1].reached(false);
        assert_eq!(servers.in_order(), [2, 0, 1]);
    }
}
