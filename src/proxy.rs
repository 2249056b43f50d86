//! The I/O shell: listens, and runs one task per session.
//!
//! A connection is accepted on the main thread and handed to one of several workers, each a thread with a runtime of its
//! own (measured to cost less per transaction than one runtime over all processors). Sessions share nothing but
//! [`Shared`].

mod aftermath;
mod apart;
mod approve;
mod auth_query;
mod away;
mod batch_progress;
mod batches;
mod block;
mod blockers;
mod buffer;
mod by_text;
mod carry;
mod chances;
mod clearing;
mod conduct;
mod connect;
mod console;
mod control;
mod current;
mod deferred;
mod dialogue;
mod dispatch;
mod dry;
mod end;
mod entry;
mod executed;
mod extended;
mod fillable;
mod follow_up;
pub mod forwarded;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod guessed;
mod held;
mod hold;
mod holding;
mod inquire;
mod job_admin;
mod job_watch;
mod jobs;
mod journal;
mod judge;
mod judge_again;
mod known;
mod last_words;
mod lock_holders;
mod login;
mod lookup;
mod pace;
mod parameters;
mod pause;
mod planning;
mod prepared_by_text;
mod read;
mod readiness;
mod reading;
mod rehearse;
mod relay;
mod reply;
mod restores;
mod resume;
mod rewriting;
mod room;
mod script;
mod servers;
mod session;
pub mod settings;
mod shapes;
mod shared;
mod shows;
mod sparing;
mod startup;
mod step_context;
mod stop;
mod stream;
mod surroundings;
mod throttle;
mod time_limits;
pub(crate) mod tls;
mod tries;
mod unheard;
mod unread;
mod unused;
mod usage_kept;
mod verdict;
mod verifiers;
mod weigh;

use crate::audit::Audit;
use crate::audit::sink::{Fsync, Sink};
use crate::live::traffic::SNAPSHOT_EVERY;
use crate::live::{About, Live, Phase};
use crate::plan::grammar::{STACK_BYTES, this_thread_is_deep};
use crate::plan::policy::Policy;
use crate::webhook::Webhook;
use current::Current;
use dashmap::DashMap;
use restores::Restores;
use servers::Servers;
use settings::{Auth, Config, Control, Limits, ServerAt, Target, Upstream, UpstreamTls, Upstreams};
use shared::{Shared, Stop};
use sparing::Sparing;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use stream::Stream;
use tls::{Acceptor, Connector};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use verifiers::Verifiers;

/// How long sessions that are ended in the middle of something have to say so.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;
/// With `reuse_port`: how long connections that came just before SIGTERM are served as ever.
const HAND_OVER_TIME: Duration = Duration::from_millis(500);

impl Config {
    /// Reads the files that TLS and authentication need and says what is wrong with them.
    pub fn check_files(&self) -> Result<(), String> {
        self.client_tls.as_ref().map(Acceptor::load).transpose()?;
        self.servers()?;
        self.webhook.clone().map(Webhook::open).transpose()?;
        self.auth.load(mpsc::channel(1).0)?;
        Ok(())
    }

    /// Whether a server answers at each address, over TLS where that is wanted.
    pub fn reach(&self) -> Result<Vec<Reached>, String> {
        let servers = self.servers()?;
        let each = |server: &servers::Server| {
            let reached = runtime()?.block_on(servers::reach::reach(server, &self.limits));
            Ok(Reached {
                address: server.address.to_string(),
                reached,
            })
        };
        servers.all().iter().map(each).collect()
    }

    fn servers(&self) -> Result<Servers, String> {
        let binds = matches!(self.auth, Auth::Scram { .. });
        Servers::new(&self.upstream, binds)
    }
}

/// A server's address, and what answers there.
pub struct Reached {
    pub address: String,
    pub reached: Result<String, String>,
}

impl Auth {
    fn load(&self, asks: mpsc::Sender<lookup::Ask>) -> Result<Option<Verifiers>, String> {
        match self {
            Auth::PassThrough => Ok(None),
            Auth::Scram { file, query } => Verifiers::load(file.as_deref(), query.as_ref(), asks).map(Some),
        }
    }
}

/// A connection on its way to its worker, in the form that is bound to no runtime.
enum Accepted {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // A socket file that nobody listens on only misleads.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Serves until SIGTERM or SIGINT. SIGHUP calls `load_policy` again and keeps the old policy when that fails, reads the
/// TLS files and the verifiers again in the same way, and opens the audit file anew.
pub fn serve(
    config: Config,
    live: Arc<Live>,
    load_policy: Box<dyn Fn() -> Result<Policy, String> + Send>,
) -> Result<(), String> {
    let policy = load_policy()?;
    let audit = match &config.audit {
        Some(sink) => Audit::open(sink.clone())?,
        None => Audit::off(),
    };
    live.begin(About {
        upstream: config.upstream.to_string(),
        connections_max: config.limits.connections_max,
        audit: audit.clone(),
        audit_file: config.audit.as_ref().map(|sink| sink.path.clone()),
    });
    live.set_policy(&policy.name);
    let (webhook, delivery) = config.webhook.clone().map(Webhook::open).transpose()?.unzip();
    let (reloads, asked_reloads) = mpsc::channel(1);
    let (asks, asked) = mpsc::channel(lookup::ASKS_MAX);
    let shared = Arc::new(Shared {
        servers: config.servers()?,
        limits: config.limits.clone(),
        audit,
        live,
        webhook: webhook.map(Arc::new),
        instance: instance()?,
        policy: Current::new(policy),
        book: Default::default(),
        console: config.console.clone(),
        trusted: config.trusted.clone(),
        reloads,
        acceptor: config.client_tls.as_ref().map(Acceptor::load).transpose()?,
        verifiers: config.auth.load(asks)?,
        cancels: DashMap::new(),
        restores: Restores::default(),
        unheard: Arc::default(),
        connections: AtomicUsize::new(0),
        following: AtomicUsize::new(0),
        sessions: AtomicU64::new(0),
        rates: Default::default(),
        ended: Notify::new(),
        stop: watch::Sender::new(Stop::No),
    });
    let runtime = runtime()?;
    let audit = shared.audit.clone();
    runtime.block_on(async {
        if let (Some(webhook), Some(delivery)) = (shared.webhook.clone(), delivery) {
            let live = Arc::clone(&shared.live);
            tokio::spawn(delivery.run());
            tokio::spawn(async move { webhook.look_for_long(&live).await });
        }
        let ended = run(config, shared, asked_reloads, load_policy, asked).await;
        audit.close().await;
        ended
    })
}

/// Eight characters that no other process is likely to have.
fn instance() -> Result<String, String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(random
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect())
}

/// A proxy within this process, without a port: for commands that work through it.
pub struct InProcess(Arc<Shared>);

impl InProcess {
    pub fn new(
        upstream: Upstream,
        tls: Option<&UpstreamTls>,
        policy: Policy,
        audit: Option<&std::path::Path>,
    ) -> Result<InProcess, String> {
        let server = ServerAt {
            address: upstream,
            tls: tls.cloned(),
        };
        let upstream = Upstreams {
            servers: vec![server],
            target: Target::Any,
        };
        let sink = audit.map(|path| Sink {
            path: path.to_path_buf(),
            fsync: Fsync::default(),
            rotate_bytes: None,
            rotate_after: None,
        });
        Ok(InProcess(Arc::new(Shared {
            servers: Servers::new(&upstream, false)?,
            limits: Limits::default(),
            audit: sink.map_or_else(|| Ok(Audit::off()), Audit::open)?,
            live: Arc::default(),
            webhook: None,
            instance: instance()?,
            console: None,
            trusted: Default::default(),
            reloads: mpsc::channel(1).0,
            policy: Current::new(policy),
            book: Default::default(),
            acceptor: None,
            verifiers: None,
            following: AtomicUsize::new(0),
            cancels: DashMap::new(),
            restores: Restores::default(),
            unheard: Arc::default(),
            connections: AtomicUsize::new(0),
            sessions: AtomicU64::new(0),
            rates: Default::default(),
            ended: Notify::new(),
            stop: watch::Sender::new(Stop::No),
        })))
    }

    /// A connection straight to the upstream, for what this proxy would not understand: another one's console.
    pub async fn straight(
        &self,
    ) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, String> {
        self.0.connect().await.map(|(_, stream)| stream)
    }

    /// The process that the server has named to the newest session, as cancel requests name it.
    pub fn process(&self) -> Option<i32> {
        self.0.live.sessions().last().map(|session| session.backend_pid)
    }

    /// The client's end of a new connection. Needs a tokio runtime, which serves the other end.
    pub fn connect(&self) -> io::Result<tokio::net::UnixStream> {
        let (client, served) = tokio::net::UnixStream::pair()?;
        let shared = Arc::clone(&self.0);
        tokio::spawn(startup::serve_connection(
            Stream::Unix(served),
            "this process".into(),
            shared,
        ));
        Ok(client)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(this_thread_is_deep)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))
}

async fn run(
    config: Config,
    shared: Arc<Shared>,
    mut asked_reloads: mpsc::Receiver<oneshot::Sender<Result<(), String>>>,
    load_policy: Box<dyn Fn() -> Result<Policy, String> + Send>,
    asked: mpsc::Receiver<lookup::Ask>,
) -> Result<(), String> {
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    let (mut hangup, mut interrupt, mut terminate) = match (signals.pop(), signals.pop(), signals.pop()) {
        (Some(hangup), Some(interrupt), Some(terminate)) => (hangup, interrupt, terminate),
        _ => return Err("signals cannot be caught".into()),
    };
    let (accepted, mut arriving) = mpsc::channel(256);
    let (hand_over, handed_over) = watch::channel(false);
    servers::watch::begin(&shared, config.control.as_ref().map(|Control(control)| control));
    for listen in &config.listen {
        let listener = bind(listen, config.reuse_port).await?;
        tracing::info!(listen, upstream = %config.upstream, policy = shared.policy().name, "listening");
        tokio::spawn(accept(listener, accepted.clone(), handed_over.clone()));
    }
    drop(accepted);
    let workers = workers(&shared)?;
    tokio::spawn(keep_traffic(Arc::clone(&shared)));
    tokio::spawn(Arc::clone(&shared.unheard).look(shared.limits.unacknowledged));
    if let Some(Control(control)) = config.control.clone() {
        let questions = shared.live.open_desk();
        tokio::spawn(control::run(Arc::clone(&shared), control.clone(), questions));
        tokio::spawn(job_watch::run(Arc::clone(&shared), control.clone()));
        tokio::spawn(usage_kept::run(Arc::clone(&shared), control));
    }
    shared.live.set_phase(Phase::Serving);
    tokio::spawn(auth_query::answer(Arc::clone(&shared), asked));
    readiness::ready();
    let mut turn = 0;
    let deadline = async |shared: Arc<Shared>| {
        // Before the signal this never ends.
        let mut stop = shared.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop != Stop::No).await;
        let until = tokio::time::Instant::now() + shared.limits.drain_timeout;
        ended(&shared, until).await;
        let left = shared.connections.load(Ordering::Relaxed);
        if left > 0 {
            tracing::warn!(
                sessions = left,
                "drain_timeout is over, ending sessions that are not idle"
            );
            shared.stop.send_replace(Stop::Now);
            shared.servers.stop(Stop::Now);
            ended(&shared, tokio::time::Instant::now() + FAREWELL_TIME).await;
        }
    };
    let mut drained = std::pin::pin!(deadline(Arc::clone(&shared)));
    loop {
        tokio::select! {
            Some(connection) = arriving.recv() => {
                // A worker ends only with the process.
                let _ = workers[turn % workers.len()].send(connection);
                turn += 1;
            }
            _ = hangup.recv() => {
                readiness::reloading();
                // The log has told what is wrong.
                let _ = reload(&shared, &load_policy);
                readiness::ready();
            }
            Some(answer) = asked_reloads.recv() => {
                readiness::reloading();
                // A console that has gone does not want to know.
                let _ = answer.send(reload(&shared, &load_policy));
                readiness::ready();
            }
            _ = terminate.recv() => {
                readiness::stopping();
                if config.reuse_port && !hand_over.send_replace(true) {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        tokio::time::sleep(HAND_OVER_TIME).await;
                        stop(&shared);
                    });
                } else if stop(&shared) {
                    return Ok(());
                }
            }
            _ = interrupt.recv() => {
                readiness::stopping();
                if stop(&shared) { return Ok(()) }
            }
            () = &mut drained => return Ok(()),
        }
    }
}

/// Waits until no connection and no event is left, at most until then.
async fn ended(shared: &Shared, until: tokio::time::Instant) {
    let left = || shared.connections.load(Ordering::Relaxed) + shared.following.load(Ordering::Relaxed);
    while left() > 0 && tokio::time::Instant::now() < until {
        let _ = tokio::time::timeout(Duration::from_millis(50), shared.ended.notified()).await;
    }
}

/// True if it was asked for a second time.
fn stop(shared: &Shared) -> bool {
    let again = shared.stop.send_replace(Stop::Draining) != Stop::No;
    shared.servers.stop(Stop::Draining);
    shared.live.set_phase(Phase::Stopping);
    let sessions = shared.connections.load(Ordering::Relaxed);
    tracing::info!(
        sessions,
        again,
        "stopping: idle sessions end now, others when their transaction ends"
    );
    again
}

/// The error says what was wrong; what was right is in use all the same.
fn reload(shared: &Shared, load_policy: &(dyn Fn() -> Result<Policy, String> + Send)) -> Result<(), String> {
    shared.audit.reopen();
    let mut wrong = Vec::new();
    match load_policy() {
        Ok(policy) => {
            tracing::info!(policy = policy.name, "policy read again");
            shared.live.set_policy(&policy.name);
            shared.policy.set(policy);
            shared.book.forget();
        }
        Err(error) => {
            let policy = shared.policy().name.clone();
            tracing::error!(error, policy, "the policy is wrong, the old one stays");
            wrong.push(error);
        }
    }
    let client = shared.acceptor.as_ref().map(Acceptor::reload);
    let servers = shared.servers.all().iter();
    let upstream = servers.filter_map(|server| server.connector.as_ref().map(Connector::reload));
    for reloaded in client.into_iter().chain(upstream) {
        match reloaded {
            Ok(()) => tracing::info!("TLS files read again"),
            Err(error) => {
                tracing::error!(error, "the TLS files are wrong, the old certificates stay");
                wrong.push(error);
            }
        }
    }
    match shared.verifiers.as_ref().map(Verifiers::reload) {
        None => {}
        Some(Ok(())) => tracing::info!("auth file read again"),
        Some(Err(error)) => {
            tracing::error!(error, "the auth file is wrong, the old verifiers stay");
            wrong.push(error);
        }
    }
    shared.live.set_reloaded(wrong.is_empty());
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// So that a plan can tell how long statements took before it.
async fn keep_traffic(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(SNAPSHOT_EVERY);
    loop {
        every.tick().await;
        shared.live.traffic.keep();
    }
}

async fn bind(listen: &str, reuse_port: bool) -> Result<Listener, String> {
    if let Some(path) = unix_path(listen) {
        if std::os::unix::net::UnixStream::connect(&path).is_err() {
            // Left by a process that was killed; one that listens would have answered.
            let _ = std::fs::remove_file(&path);
        }
        return UnixListener::bind(&path)
            .map(|listener| Listener::Unix(listener, path.clone()))
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()));
    }
    bind_tcp(listen, reuse_port)
        .await
        .map(Listener::Tcp)
        .map_err(|error| format!("cannot listen on {listen}: {error}"))
}

/// As TcpListener::bind, but for SO_REUSEPORT.
async fn bind_tcp(listen: &str, reuse_port: bool) -> io::Result<TcpListener> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in tokio::net::lookup_host(listen).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(reuse_port)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// `/run/lockkeeper:6432` is the socket `/run/lockkeeper/.s.PGSQL.6432`, where libpq looks for it.
fn unix_path(listen: &str) -> Option<PathBuf> {
    if !listen.starts_with('/') {
        return None;
    }
    let (directory, port) = match listen.rsplit_once(':') {
        Some((directory, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (directory, port),
        _ => (listen, "6432"),
    };
    Some(PathBuf::from(directory).join(format!(".s.PGSQL.{port}")))
}

/// Until the address is handed over to another process, which only TCP allows.
async fn accept(listener: Listener, accepted: mpsc::Sender<Accepted>, mut handed_over: watch::Receiver<bool>) {
    loop {
        let connection = match &listener {
            Listener::Tcp(listener) => {
                let connection = tokio::select! {
                    connection = listener.accept() => connection,
                    _ = handed_over.changed() => return accept_last(listener, &accepted).await,
                };
                connection.and_then(|(stream, address)| Ok(Accepted::Tcp(stream.into_std()?, address)))
            }
            Listener::Unix(listener, _) => match listener.accept().await {
                Ok((stream, _)) => stream.into_std().map(Accepted::Unix),
                Err(error) => Err(error),
            },
        };
        match connection {
            Ok(connection) => {
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: they come back as sessions end.
                static KIND: Sparing = Sparing::new();
                if let Some(left_out) = KIND.admits() {
                    tracing::error!(%error, left_out, "a connection could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What the system has queued for a listener would be reset with its end.
async fn accept_last(listener: &TcpListener, accepted: &mpsc::Sender<Accepted>) {
    while let Ok((socket, address)) = socket2::SockRef::from(listener).accept() {
        let Some(address) = address.as_socket() else { continue };
        if socket.set_nonblocking(true).is_ok() {
            let _ = accepted.send(Accepted::Tcp(socket.into(), address)).await;
        }
    }
}

/// Starts the worker threads, and gives the end of each one's channel.
fn workers(shared: &Arc<Shared>) -> Result<Vec<mpsc::UnboundedSender<Accepted>>, String> {
    let count = match shared.limits.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    (0..count)
        .map(|n| {
            let (send, receive) = mpsc::unbounded_channel();
            let shared = Arc::clone(shared);
            let runtime = runtime()?;
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .name(format!("worker-{n}"))
                .spawn(move || {
                    this_thread_is_deep();
                    runtime.block_on(work(receive, shared))
                })
                .map_err(|error| format!("a worker thread cannot be started: {error}"))?;
            Ok(send)
        })
        .collect()
}

async fn work(mut arriving: mpsc::UnboundedReceiver<Accepted>, shared: Arc<Shared>) {
    while let Some(connection) = arriving.recv().await {
        let (stream, address) = match connection {
            Accepted::Tcp(stream, address) => (
                tokio::net::TcpStream::from_std(stream).and_then(|stream| Stream::tcp(stream, &shared.limits)),
                address.to_string(),
            ),
            Accepted::Unix(stream) => (
                tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
                "unix".to_owned(),
            ),
        };
        match stream {
            Ok(stream) => {
                tokio::spawn(startup::serve_connection(stream, address, Arc::clone(&shared)));
            }
            Err(error) => {
                static KIND: Sparing = Sparing::new();
                if let Some(left_out) = KIND.admits() {
                    tracing::warn!(%error, client = address, left_out, "a connection was gone before it was served");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_sockets_are_named_as_libpq_looks_for_them() {
        assert_eq!(
            unix_path("/run/lockkeeper:7000"),
            Some(PathBuf::from("/run/lockkeeper/.s.PGSQL.7000"))
        );
        assert_eq!(
            unix_path("/run/lockkeeper"),
            Some(PathBuf::from("/run/lockkeeper/.s.PGSQL.6432"))
        );
        assert_eq!(unix_path("127.0.0.1:6432"), None);
    }
}
