//! What all sessions share.

use super::current::Current;
use super::restores::Restores;
use super::servers::Servers;
use super::settings::{Console, Limits};
pub(super) use super::stop::Stop;
use super::stream::Stream;
use super::tls::Acceptor;
use super::verifiers::Verifiers;
use super::{shapes, unheard};
use crate::audit::Audit;
use crate::live::Live;
use crate::plan::policy::Policy;
use crate::webhook::Webhook;
use dashmap::DashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc, oneshot, watch};

/// What all sessions share.
pub(crate) struct Shared {
    pub(super) servers: Servers,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) live: Arc<Live>,
    pub(super) webhook: Option<Arc<Webhook>>,
    /// This process among all that write the same audit log, now and later: part of a statement's id there.
    pub(super) instance: String,
    pub(super) policy: Current<Policy>,
    /// What is remembered of the statements of applications.
    pub(super) book: shapes::Book,
    pub(super) console: Option<Console>,
    /// Whose connections tell of the client behind them.
    pub(super) trusted: super::forwarded::Trusted,
    /// The console asks for a reload and waits for what came of it.
    pub(super) reloads: mpsc::Sender<oneshot::Sender<Result<(), String>>>,
    pub(super) acceptor: Option<Acceptor>,
    /// None: the server authenticates clients.
    pub(super) verifiers: Option<Verifiers>,
    /// By the server's process ID and cancel key, as a CancelRequest carries them.
    pub(super) cancels: DashMap<Vec<u8>, Arc<CancelFlag>>,
    pub(super) restores: Restores,
    pub(super) unheard: Arc<unheard::Watch>,
    /// Connections that are open now.
    pub(super) connections: AtomicUsize,
    /// Events that will be written a little after their plans.
    pub(super) following: AtomicUsize,
    /// Sessions so far.
    pub(super) sessions: AtomicU64,
    /// How fast the server has carried plans out.
    pub(super) rates: super::dry::rates::Rates,
    /// Some connection has ended.
    pub(super) ended: Notify,
    pub(super) stop: watch::Sender<Stop>,
}

impl Shared {
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.get()
    }

    /// A connection to the server, encrypted as the settings say; of several to the one that sessions go to now, by its place in the list.
    pub(super) async fn connect(&self) -> Result<(usize, Stream), String> {
        self.servers.connect(&self.limits).await
    }
}

/// A cancel request came for a session whose plan may be between two statements.
#[derive(Default)]
pub(super) struct CancelFlag {
    /// The server of the session, by its place in the list.
    pub(super) server: usize,
    pub(super) raised: AtomicBool,
    pub(super) wake: Notify,
}

impl CancelFlag {
    pub(super) fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.raised.store(false, Ordering::Relaxed);
    }
}
