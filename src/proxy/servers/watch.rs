//! Watches the servers of a list, so that a session that begins goes to the right one at once, and one that is left ends.
//!
//! With the control connection's role each server is asked once a second what it is. Without one it is only tried whether it can be
//! reached: what it is tells the sessions that begin there.

use super::role::{Role, leaves};
use super::{Server, Servers};
use crate::proxy::control::login;
use crate::proxy::shared::{Shared, Stop};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_secs(1);
/// Without a role to ask with, each look is a connection that the server sees come and go.
const REACH_EVERY: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// A server that cannot be reached for so long has no sessions any more, if another is known to have taken its place.
const GONE_AFTER: Duration = Duration::from_secs(5);

/// Whether its transactions are read-only is what the server's own configuration says; what is set for this role says nothing about others.
const ROLE: &str = "SELECT pg_catalog.pg_is_in_recovery(), coalesce((SELECT s.setting = 'on' AND s.source NOT IN \
     ('user', 'database', 'database user', 'client', 'session') FROM pg_catalog.pg_settings s \
     WHERE s.name = 'default_transaction_read_only'), false)";

/// Begins to watch, where there is a choice.
pub fn begin(shared: &Arc<Shared>, control: Option<&tokio_postgres::Config>) {
    let servers = shared.servers.all.len();
    if servers < 2 && !(shared.servers.are_looked_at() && control.is_some()) {
        return;
    }
    shared.servers.settled.send_replace(false);
    let left = Arc::new(AtomicUsize::new(servers));
    for n in 0..servers {
        let control = control.cloned().map(|mut control| {
            control.application_name("lockkeeper watch");
            control
        });
        tokio::spawn(watch(Arc::clone(shared), n, control, Arc::clone(&left)));
    }
}

/// Until the process ends. `unasked`: how many servers have not been asked yet.
async fn watch(shared: Arc<Shared>, n: usize, control: Option<tokio_postgres::Config>, unasked: Arc<AtomicUsize>) {
    let mut look = interval(if control.is_some() { EVERY } else { REACH_EVERY });
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client = None;
    let mut is_first = true;
    loop {
        look.tick().await;
        let server = shared.servers.get(n);
        match &control {
            Some(control) => ask(&shared, n, control, &mut client).await,
            None => server.reached(reach(&shared, n).await.is_ok()),
        }
        if std::mem::take(&mut is_first) && unasked.fetch_sub(1, Ordering::Relaxed) == 1 {
            shared.servers.settled.send_replace(true);
        }
        if *shared.stop.borrow() == Stop::No {
            end_sessions(&shared, n, server);
        }
    }
}

async fn reach(shared: &Shared, n: usize) -> Result<(), String> {
    let reached = timeout(ANSWER_TIME, shared.servers.reach(n, &shared.limits)).await;
    reached.map_err(|_| "no answer in time".to_owned())?.map(drop)
}

/// What is not known is not guessed: a login that the server refuses leaves everything as it was.
async fn ask(shared: &Shared, n: usize, control: &tokio_postgres::Config, client: &mut Option<Client>) {
    let server = shared.servers.get(n);
    if client.as_ref().is_none_or(Client::is_closed) {
        *client = None;
        let connected = timeout(ANSWER_TIME, shared.servers.reach(n, &shared.limits)).await;
        let Ok(Ok(stream)) = connected else {
            return server.reached(false);
        };
        match timeout(ANSWER_TIME, login(stream, control)).await {
            Ok(Ok(new)) => *client = Some(new),
            Ok(Err(error)) => {
                tracing::debug!(server = %server.address, error, "the server is not asked what it is");
                return server.reached(true);
            }
            Err(_) => return server.reached(false),
        }
    }
    let Some(asked) = client.as_ref() else { return };
    let row = timeout(ANSWER_TIME, asked.query_one(ROLE, &[])).await;
    let is_late = row.is_err();
    let role = row.ok().and_then(Result::ok).and_then(|row| {
        let (standby, read_only) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        Some(Role::of(standby, read_only))
    });
    match (role, is_late) {
        (Some(role), _) => server.says(role),
        (None, is_late) => {
            *client = None;
            server.reached(!is_late);
        }
    }
}

/// Sessions of a server that is no longer theirs: at once where it has gone and another has taken its place, else when their
/// transaction has ended.
fn end_sessions(shared: &Shared, n: usize, server: &Server) {
    let known = *server.known();
    let servers: &Servers = &shared.servers;
    let gone = known.down.is_some_and(|since| since.elapsed() >= GONE_AFTER);
    if gone && leaves(servers.target, Role::Standby) && servers.another_fits(n) {
        shared.unheard.end_all_at(n);
    }
    let stop = match leaves(servers.target, known.role) && servers.another_fits(n) {
        true => Stop::Draining,
        false => Stop::No,
    };
    server.stop.send_if_modified(|now| std::mem::replace(now, stop) != stop);
}
