//! From an accepted connection to a session: the startup packet, cancel requests, the server's connection, authentication.
//!
//! Authentication is between the client and the server, and its messages are relayed; with `--auth scram` it is done in
//! [`super::login`] before that. None of its messages is kept.

use super::console;
use super::end::Broken;
use super::login::{self, CANNOT_CONNECT_NOW, Ended, User};
use super::relay::{Event, Mode, Relay};
use super::servers::arrive::{Unarrived, Way};
use super::session::Session;
use super::settings::Console;
use super::shared::{CancelFlag, Shared, Stop};
use super::sparing::Sparing;
use super::stream::Stream;
use super::tls::Acceptor;
use crate::audit::Who;
use bytes::BytesMut;
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::startup::{standing_parameters, startup_parameters, user_name};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// As the server has it (MAX_STARTUP_PACKET_LENGTH).
const STARTUP_BYTES_MAX: usize = 10_000;
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Where the server's process and key begin in a cancel request, and how much of that is the process.
const KEY_AT: usize = 8;
const PID_BYTES: usize = 4;

/// The first byte of a TLS handshake; as a startup packet's it would mean 300 MB.
const HANDSHAKE: u8 = 0x16;

/// What a client says first, apart from requests for encryption that are declined.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    Startup(Vec<u8>),
    Cancel(Vec<u8>),
    /// It asked for TLS and was told to go ahead.
    Encrypt,
    /// The peer went away without a word, as a health check does.
    Nothing,
    /// What is no packet at all: as with the server it gets no answer, which would only mislead whatever sent it.
    Malformed(&'static str),
}

/// A client whose first word is heard.
struct Opened {
    client: Stream,
    /// What the client can bind SCRAM to.
    end_point: Option<Vec<u8>>,
    first: First,
}

/// Serves one accepted connection to its end. Errors are told to the client and logged here.
pub async fn serve_connection(mut client: Stream, address: String, shared: Arc<Shared>) {
    let opening = async {
        let behind = shared.trusted.client(&mut client, &address).await?;
        Ok::<_, String>((open(client, &shared).await?, behind))
    };
    let (opened, address) = match timeout(shared.limits.startup_timeout, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            static KIND: Sparing = Sparing::new();
            if let Some(left_out) = KIND.admits() {
                tracing::info!(client = address, error, left_out, "no startup packet that can be read");
            }
            return;
        }
        Err(_) => {
            static KIND: Sparing = Sparing::new();
            if let Some(left_out) = KIND.admits() {
                tracing::info!(client = address, left_out, "no startup packet in time");
            }
            return;
        }
    };
    let mut client = opened.client;
    match opened.first {
        First::Encrypt | First::Nothing | First::Malformed(_) => {}
        First::Cancel(packet) => {
            cancel(&packet, &shared).await;
            client.close().await;
        }
        First::Startup(packet) => {
            let Some(_place) = Place::take(&shared) else {
                let full = Report::fatal("53300", "sorry, too many clients already")
                    .hint("lockkeeper: connections-max is reached; raise it or close sessions.");
                refuse(&mut client, &full).await;
                return;
            };
            start(client, opened.end_point, address, packet, shared).await;
        }
    }
}

/// One of the connections that are allowed at once, given back when dropped.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Place> {
        let place = Place(Arc::clone(shared));
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        (before < shared.limits.connections_max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_waiters();
    }
}

/// Up to the startup packet or cancel request, through the TLS handshake if the client wants one. A client that did
/// something wrong has been told so.
async fn open(mut client: Stream, shared: &Shared) -> Result<Opened, String> {
    let mut end_point = None;
    let acceptor = shared.acceptor.as_ref();
    if let (Stream::Tcp(plain), Some(acceptor)) = (&client, acceptor)
        && starts_handshake(plain).await
    {
        (client, end_point) = encrypt(client, acceptor).await?;
        if !client.agreed_on_protocol() {
            client.close().await;
            return Err("a connection that begins with the TLS handshake must ask for ALPN `postgresql`".into());
        }
    }
    let mut first = first_packet(&mut client, acceptor.is_some()).await?;
    if let (First::Encrypt, Some(acceptor)) = (&first, acceptor) {
        (client, end_point) = encrypt(client, acceptor).await?;
        first = first_packet(&mut client, false).await?;
    }
    // As with PostgreSQL's hostssl, a Unix socket needs no encryption, and a cancel request is served without.
    let required = acceptor.is_some_and(Acceptor::required) && matches!(client, Stream::Tcp(_));
    if required && matches!(first, First::Startup(_)) {
        let plain = Report::fatal("28000", "lockkeeper: this connection is not encrypted, and it must be")
            .hint("Connect with sslmode=require or stronger (the proxy runs with --client-tls require).");
        refuse(&mut client, &plain).await;
        return Err("not encrypted, which --client-tls require asks for".into());
    }
    Ok(Opened {
        client,
        end_point,
        first,
    })
}

async fn starts_handshake(client: &TcpStream) -> bool {
    let mut first = [0];
    client.peek(&mut first).await.is_ok_and(|n| n == 1) && first[0] == HANDSHAKE
}

async fn encrypt(client: Stream, acceptor: &Acceptor) -> Result<(Stream, Option<Vec<u8>>), String> {
    match client {
        Stream::Tcp(plain) => {
            let (encrypted, end_point) = acceptor.accept(plain).await?;
            Ok((Stream::Tls(Box::new(encrypted)), end_point))
        }
        _ => Err("a request for encryption where there can be none".into()),
    }
}

/// `offers_tls`: over TCP, that is.
async fn first_packet(client: &mut Stream, offers_tls: bool) -> Result<First, String> {
    match read_first_packet(client, offers_tls).await {
        Ok(First::Malformed(what)) => {
            client.close().await;
            Err(what.into())
        }
        Err(error) => {
            refuse(client, &Report::fatal("08P01", &error)).await;
            Err(error)
        }
        first => first,
    }
}

pub(super) async fn read_first_packet(client: &mut Stream, offers_tls: bool) -> Result<First, String> {
    let mut negotiated = (client.is_tls(), client.is_tls());
    loop {
        let mut head = [0; 4];
        match client.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(First::Nothing),
            Err(error) => return Err(error.to_string()),
        }
        if head[0] == HANDSHAKE && !client.is_tls() {
            // No message would reach a client that waits for a handshake. PostgreSQL without TLS ends it like this, too.
            static KIND: Sparing = Sparing::new();
            if let Some(left_out) = KIND.admits() {
                tracing::info!(
                    left_out,
                    "a connection began with a TLS handshake, and TLS is not offered here"
                );
            }
            return Ok(First::Nothing);
        }
        let len = u32::from_be_bytes(head) as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&len) {
            return Ok(First::Malformed("invalid length of startup packet"));
        }
        let mut packet = vec![0; len];
        packet[..4].copy_from_slice(&head);
        if client.read_exact(&mut packet[4..]).await.is_err() {
            return Ok(First::Malformed("incomplete startup packet"));
        }
        match u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]) {
            code @ (SSL_REQUEST | GSSENC_REQUEST) if len == 8 => {
                let asked = if code == SSL_REQUEST {
                    &mut negotiated.0
                } else {
                    &mut negotiated.1
                };
                if std::mem::replace(asked, true) {
                    return Err("a second request for encryption".into());
                }
                if client.has_more() {
                    // Somebody in between could have put it there, to be taken for what was encrypted later.
                    return Err("received unencrypted data after a request for encryption".into());
                }
                let yes = code == SSL_REQUEST && offers_tls && !matches!(client, Stream::Unix(_));
                let answer = if yes { b"S" } else { b"N" };
                client.write_all(answer).await.map_err(|error| error.to_string())?;
                if yes {
                    return Ok(First::Encrypt);
                }
            }
            SSL_REQUEST | GSSENC_REQUEST => return Err("invalid length of a request for encryption".into()),
            CANCEL_REQUEST if len <= KEY_AT + PID_BYTES => {
                return Ok(First::Malformed("invalid length of a cancel request"));
            }
            CANCEL_REQUEST => return Ok(First::Cancel(packet)),
            _ => return Ok(First::Startup(packet)),
        }
    }
}

async fn refuse(client: &mut Stream, report: &Report) {
    let mut out = BytesMut::new();
    report.put_error(&mut out, Encoding::Ascii);
    // The client may have gone already.
    let _ = send(client, &out).await;
    let _ = client.shutdown().await;
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The plan of this seat ends as by a cancel request of its client's.
fn hand_over(seat: &crate::live::Seat, shared: &Arc<Shared>, flag: &Arc<CancelFlag>, key: &[u8]) {
    let (shared, flag) = (Arc::clone(shared), Arc::clone(flag));
    let packet = wire::cancel_request(key);
    let runtime = tokio::runtime::Handle::current();
    let underway = Arc::clone(&seat.reins.underway);
    let server = flag.server;
    seat.reins.stops_by(move || {
        flag.raise();
        let (shared, packet, underway) = (Arc::clone(&shared), packet.clone(), Arc::clone(&underway));
        underway.fetch_add(1, Ordering::SeqCst);
        runtime.spawn(async move {
            pass_cancel(&packet, &shared, server).await;
            underway.fetch_sub(1, Ordering::SeqCst);
        });
    });
}

/// Passes a cancel request on as it is: the keys are the server's own. A plan that is between two statements hears of
/// it by its flag, since a cancel that reaches an idle backend is lost.
async fn cancel(packet: &[u8], shared: &Shared) {
    let flag = shared.cancels.get(&packet[KEY_AT..]).map(|flag| Arc::clone(&flag));
    if let Some(flag) = flag {
        flag.raise();
        return pass_cancel(packet, shared, flag.server).await;
    }
    // A session of another proxy's, whose server is not known here. A key that is not a server's own does nothing there.
    for server in 0..shared.servers.all().len() {
        pass_cancel(packet, shared, server).await;
    }
}

/// To this server of the list, on a connection of its own; returns when the server has sent the signal.
pub async fn pass_cancel(packet: &[u8], shared: &Shared, server: usize) {
    let send = async {
        let mut server = shared.servers.reach(server, &shared.limits).await?;
        send(&mut server, packet).await.map_err(|error| error.to_string())?;
        // The server closes when it has sent the signal: the client's own wait must mean the same.
        let mut rest = [0; 16];
        while server.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        server.close().await;
        Ok::<(), String>(())
    };
    static KIND: Sparing = Sparing::new();
    match timeout(shared.limits.cancel_timeout, send).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            if let Some(left_out) = KIND.admits() {
                tracing::warn!(error, left_out, "a cancel request was not passed on");
            }
        }
        Err(_) => {
            if let Some(left_out) = KIND.admits() {
                tracing::warn!(left_out, "a cancel request took too long");
            }
        }
    }
}

async fn start(mut client: Stream, end_point: Option<Vec<u8>>, address: String, packet: Vec<u8>, shared: Arc<Shared>) {
    let parameters = startup_parameters(&packet);
    if *shared.stop.borrow() != Stop::No {
        refuse(&mut client, &Report::fatal("57P03", "lockkeeper is shutting down")).await;
        return;
    }
    let console = shared
        .console
        .as_ref()
        .filter(|console| console.database == parameters.database);
    let packet = match console {
        Some(console) => console::at_database(&packet, &console.auth_database),
        None => packet,
    };
    shared.servers.settle(shared.limits.connect_timeout).await;
    let mut way = Way::new(&shared, &packet);
    let mut server = match way.next().await {
        Ok(server) => server,
        Err(report) => {
            static KIND: Sparing = Sparing::new();
            if let Some(left_out) = KIND.admits() {
                let error = report.message();
                tracing::warn!(client = address, error, left_out, "the server cannot be reached");
            }
            shared.live.ledger().upstream_error("connect");
            refuse(&mut client, &report).await;
            return;
        }
    };
    let deadline = Instant::now() + shared.limits.authentication_timeout;
    let mut keys = None;
    if let Some(verifiers) = &shared.verifiers {
        let user = User {
            name: user_name(&packet),
            end_point,
        };
        let log_in = async {
            let asked = way.asked(&mut client, &mut server).await?;
            login::log_in(&mut client, &mut server, asked, &user, verifiers).await
        };
        let late = |_| {
            let seconds = shared.limits.authentication_timeout.as_secs();
            let message = format!("lockkeeper: authentication was not finished within {seconds} s");
            Err(Ended::Report(Report::fatal("08006", &message)))
        };
        match timeout_at(deadline, log_in).await.unwrap_or_else(late) {
            Ok(proven) => keys = Some(proven),
            Err(ended) => {
                tracing::info!(client = address, user = parameters.user, %ended, "not authenticated");
                let at = &shared.servers.get(way.at).address;
                // A client that does not read keeps nobody.
                let _ = timeout(FAREWELL_TIMEOUT, send(&mut client, &ended.last_words(at))).await;
                tokio::join!(client.close(), server.close());
                return;
            }
        }
    }
    let id = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    let mut relay = Relay::new(client, server, &shared.limits, Arc::clone(&shared.live));
    relay.replication = parameters.replication && console.is_none();
    if shared.verifiers.is_some() {
        relay.authenticated();
    }
    let begins = async {
        if console.is_none() && (shared.servers.are_looked_at() || shared.servers.all().len() > 1) {
            way.arrive(&mut relay, keys.as_ref()).await?;
        }
        let event = relay.run(Mode::Authenticate).await?;
        if matches!(event, Event::Quiescent) && relay.keeps_end() {
            way.confirm(&mut relay).await?;
        }
        Ok(event)
    };
    let begun = match timeout_at(deadline, begins).await {
        Ok(Err(Unarrived::Report(report))) => {
            let mut out = BytesMut::new();
            report.put_error(&mut out, Encoding::Ascii);
            tracing::info!(
                session = id,
                client = address,
                why = report.message(),
                "no server for it"
            );
            let _ = timeout(FAREWELL_TIMEOUT, relay.tell(&out)).await;
            return relay.close().await;
        }
        Ok(Err(Unarrived::Broken(broken))) => Ok(Err(broken)),
        Ok(Ok(event)) => Ok(Ok(event)),
        Err(late) => Err(late),
    };
    let at = way.at;
    match begun {
        Ok(Ok(Event::Quiescent)) => {}
        Ok(Ok(Event::ServerGone) | Err(Broken::Server(_))) if !relay.has_failed() && !relay.client_gone() => {
            static KIND: Sparing = Sparing::new();
            if let Some(left_out) = KIND.admits() {
                tracing::warn!(
                    session = id,
                    client = address,
                    left_out,
                    "the server closed the connection without a word"
                );
            }
            shared.live.ledger().upstream_error("closed");
            let why = "closed the connection during authentication";
            give_up(relay, &shared, at, CANNOT_CONNECT_NOW, why).await;
            return;
        }
        // The server has said why, or the client went away.
        Ok(Ok(_)) => return relay.close().await,
        Ok(Err(broken)) => {
            tracing::info!(session = id, client = address, %broken, "ended before it was authenticated");
            return relay.close().await;
        }
        Err(_) => {
            tracing::info!(session = id, client = address, "not authenticated in time");
            let seconds = shared.limits.authentication_timeout.as_secs();
            give_up(
                relay,
                &shared,
                at,
                "08006",
                &format!("and the client did not finish authentication within {seconds} s"),
            )
            .await;
            return;
        }
    }
    if let Some(console) = console {
        return open_console(relay, &user_name(&packet), console, &shared).await;
    }
    let key = relay.cancel_key.clone();
    let who = Who {
        session: id,
        backend_pid: key.first_chunk::<4>().map_or(0, |pid| i32::from_be_bytes(*pid)),
        user: parameters.user,
        database: parameters.database,
        application_name: parameters.application_name,
        client: address,
    };
    let cancel = Arc::new(CancelFlag {
        server: at,
        ..CancelFlag::default()
    });
    let database = shared.book.database(&who.database);
    relay.shapes.open(database, &standing_parameters(&packet));
    // A server without keys, or with nothing in them: anybody could send that.
    if key
        .get(PID_BYTES..)
        .is_some_and(|secret| secret.iter().any(|byte| *byte != 0))
    {
        shared.cancels.insert(key.clone(), Arc::clone(&cancel));
    }
    relay.holding.database.clone_from(&who.database);
    relay.holding.role.clone_from(&who.user);
    relay.dry = !relay.replication && crate::plan::dry::may_concern(&packet);
    let seat = shared.live.seat(&who, Arc::clone(&relay.flow));
    hand_over(&seat, &shared, &cancel, &key);
    let mut session = Session {
        relay,
        server: at,
        seat,
        shared: Arc::clone(&shared),
        cancel,
        who,
        judged: 0,
        before: None,
        raced: false,
        cascaded: None,
        cascading: None,
        guessed: None,
        more_were_counted: false,
        limits: Default::default(),
        unanswered: Vec::new(),
        job_keys: Default::default(),
        doubts_jobs: false,
        uncommitted: Vec::new(),
        aside: Default::default(),
        notices: Default::default(),
        last_step: None,
        posted: Vec::new(),
        looked: false,
        deferred: Default::default(),
        dry: Default::default(),
        is_dry: false,
        was_decided: false,
    };
    let heard = shared.unheard.over(&session.relay.server, at);
    let ran = match shared.restores.refuses(&session.who, &packet) {
        Some(report) => Err(Broken::Refused(Box::new(report))),
        None => session.run().await,
    };
    let lost = heard.as_ref().is_some_and(|heard| heard.lost());
    let left = heard.as_ref().is_some_and(|heard| heard.left());
    drop(heard);
    if lost || left {
        tell_lost(&mut session, left).await;
    }
    if let Err(broken) = &ran {
        end_broken(&mut session, broken).await;
    }
    session.leave_uncommitted(ran.err().as_ref()).await;
    shared.cancels.remove(&key);
    session.relay.close().await;
}

/// The server's connection was ended, since nothing was heard of it.
async fn tell_lost(session: &mut Session, left: bool) {
    let seconds = session.shared.limits.unacknowledged.as_secs();
    let why = match left {
        true => "cannot be reached any more, and another has taken its place".to_owned(),
        false => format!("has acknowledged nothing for {seconds} s"),
    };
    static KIND: Sparing = Sparing::new();
    if let Some(left_out) = KIND.admits() {
        tracing::warn!(session = session.who.session, why, left_out, "the server has vanished");
    }
    session.shared.live.ledger().upstream_error("vanished");
    if !session.relay.down.at_frame() {
        return;
    }
    let mut out = BytesMut::new();
    let message = format!(
        "lockkeeper: the server at {} {why}, so that the session ends; what became of its last statement is not known",
        session.shared.servers.get(session.server).address
    );
    Report::fatal("08006", &message).put_error(&mut out, session.relay.encoding());
    let _ = timeout(FAREWELL_TIMEOUT, session.relay.tell(&out)).await;
}

/// The server has let the user in, and is needed no more.
async fn open_console(mut relay: Relay, user: &[u8], console: &Console, shared: &Arc<Shared>) {
    let mut terminate = BytesMut::new();
    wire::put_frame(&mut terminate, b'X', |_| {});
    relay.send(&terminate).await;
    relay.server.close().await;
    let ended = if console.users.iter().any(|known| known.as_bytes() == user) {
        console::converse(&mut relay, shared, &String::from_utf8_lossy(user)).await
    } else {
        let mut out = BytesMut::new();
        Report::fatal(
            "42501",
            &format!("lockkeeper: {} may not use the console", String::from_utf8_lossy(user)),
        )
        .hint("--console-users names who may.")
        .put_error(&mut out, Encoding::Ascii);
        relay.tell(&out).await
    };
    if let Err(Broken::Protocol(what)) = ended {
        let mut out = BytesMut::new();
        Report::fatal("08P01", &format!("lockkeeper: {what}")).put_error(&mut out, Encoding::Ascii);
        let _ = timeout(FAREWELL_TIMEOUT, relay.tell(&out)).await;
    }
    relay.client.close().await;
}

/// Authentication has not come to its end; `why` is about the server.
async fn give_up(mut relay: Relay, shared: &Shared, at: usize, sqlstate: &str, why: &str) {
    let mut out = BytesMut::new();
    Report::fatal(
        sqlstate,
        &format!("lockkeeper: the server at {} {why}", shared.servers.get(at).address),
    )
    .put_error(&mut out, Encoding::Ascii);
    // A client that does not read keeps nobody.
    let _ = timeout(FAREWELL_TIMEOUT, relay.tell(&out)).await;
    relay.close().await;
}

/// Says why a session ends, to the log and, if it is still there, to the client.
async fn end_broken(session: &mut Session, broken: &Broken) {
    match broken {
        Broken::Protocol(what) => {
            tracing::warn!(
                session = session.who.session,
                client = session.who.client,
                what,
                "protocol violation"
            );
            let mut out = BytesMut::new();
            Report::fatal("08P01", &format!("lockkeeper: {what}")).put_error(&mut out, Encoding::Ascii);
            let _ = session.relay.tell(&out).await;
        }
        Broken::Refused(report) => {
            let mut out = BytesMut::new();
            report.put_error(&mut out, session.relay.encoding());
            let _ = session.relay.tell(&out).await;
        }
        _ => tracing::debug!(session = session.who.session, %broken, "session ended"),
    }
}
