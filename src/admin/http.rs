//! The admin address: a small HTTP/1.1 server on a thread of its own, so that no page holds up a session.
//!
//! Who may do what is decided in one place, [`Site::admit`]: a loopback address is open for reading to whoever is on this
//! machine, every other one wants the token for everything but the probes and the page's own files (which hold no data),
//! and a request that changes something always wants it. The token travels in a header that no browser adds by itself,
//! and names other than the known ones are refused in Host, so that another site's page reaches nothing.

use super::site::{Access, Answer, Site, Token, error, in_json, text};
use super::{api, metrics, usage};
use crate::config::watching::{Admin, is_loopback};
use crate::live::{Live, Phase};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

const CONNECTIONS_MAX: usize = 64;
/// To send the request's head, also the next one's on a connection that is kept.
const HEAD_TIME: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(60);
const CONNECTION_TIME: Duration = Duration::from_secs(3600);
const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 4 << 10;
/// How long an answer about the server is good for.
const REACHED_FOR: Duration = Duration::from_secs(1);
const REACH_TIME: Duration = Duration::from_secs(2);

const HTML: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/app.js");
const STYLE: &str = include_str!("page/app.css");
const ICON: &str = include_str!("page/icon.svg");
/// The page's own files, which hold no data.
const FILES: [&str; 4] = ["/", "/app.js", "/app.css", "/icon.svg"];

/// Whether a token is the right one: it is asked for there even where reading is open.
const TOKEN_PATH: &str = "/api/token";
/// Which rights a request has shown, or why it is refused.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Host,
    Site,
    Token { known: bool },
}

impl Site {
    pub fn new(live: Option<Arc<Live>>, log: Vec<PathBuf>, access: Access) -> Site {
        Site {
            live,
            log,
            access,
            // Logs can be large: two are read at a time.
            reading: Semaphore::new(2),
            reached: Mutex::new(None),
            day: tokio::sync::Mutex::new(None),
        }
    }

    fn admit(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refused> {
        if matches!(path, "/healthz" | "/readyz") {
            return Ok(());
        }
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if !self.access.knows(host) {
            return Err(Refused::Host);
        }
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let page = FILES.contains(&path);
        // A link from elsewhere may open the page; its scripts, forms and images may reach nothing.
        let from = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        if from.is_some_and(|from| !matches!(from, "same-origin" | "none")) && !(page && reads) {
            return Err(Refused::Site);
        }
        if !reads {
            let origin = text(header::ORIGIN);
            let same = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| from == host);
            let json = text(header::CONTENT_TYPE) == Some("application/json");
            if !json || origin.is_some_and(|origin| !same(origin)) {
                return Err(Refused::Site);
            }
        } else if page || (self.access.loopback && path != TOKEN_PATH) {
            return Ok(());
        }
        let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        match &self.access.token {
            Some(token) if given.is_some_and(|given| token.is(given.as_bytes())) => Ok(()),
            token => Err(Refused::Token { known: token.is_some() }),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if let Err(refused) = self.admit(&parts.method, path, &parts.headers) {
            return refused.answer();
        }
        let query = parts.uri.query().unwrap_or_default();
        match (parts.method.as_str(), path) {
            ("GET" | "HEAD", "/") => text(StatusCode::OK, "text/html; charset=utf-8", HTML),
            ("GET" | "HEAD", "/app.js") => text(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
            ("GET" | "HEAD", "/app.css") => text(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            ("GET" | "HEAD", "/icon.svg") => text(StatusCode::OK, "image/svg+xml", ICON),
            ("GET" | "HEAD", "/healthz") => text(StatusCode::OK, "text/plain", "ok\n"),
            ("GET" | "HEAD", "/readyz") => self.ready().await,
            ("GET" | "HEAD", "/metrics") => match &self.live {
                Some(live) => text(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    metrics::text(live),
                ),
                None => not_found(),
            },
            ("GET", "/api/live") => api::live(self).await,
            ("GET", "/api/day") => api::day(self).await,
            ("GET", "/api/usage") => usage::usage(self, query).await,
            // Who comes here has shown the token.
            ("GET", TOKEN_PATH) => in_json(StatusCode::OK, &serde_json::json!({ "right": true })),
            ("GET", "/api/statements") => api::statements(self, query).await,
            ("POST", path) if path.starts_with("/api/jobs/") || path.starts_with("/api/plans/") => {
                // Nothing is read from it, but a long body is not waited for.
                if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
                    return error(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too long");
                }
                match Limited::new(body, BODY_BYTES_MAX).collect().await {
                    Ok(_) if path.starts_with("/api/plans/") => api::steer_plan(self, path),
                    Ok(_) => api::steer_job(self, path).await,
                    Err(_) => error(StatusCode::PAYLOAD_TOO_LARGE, "the request's body is too long"),
                }
            }
            (_, path)
                if FILES.contains(&path)
                    || matches!(
                        path,
                        "/metrics" | "/api/live" | "/api/statements" | "/api/day" | "/api/usage" | TOKEN_PATH
                    ) =>
            {
                error(StatusCode::METHOD_NOT_ALLOWED, "only GET is understood here")
            }
            _ => not_found(),
        }
    }

    /// 200 if a session that comes now would be served.
    async fn ready(&self) -> Answer {
        let Some(live) = &self.live else { return not_found() };
        let phase = match live.phase() {
            Phase::Starting => Err("not listening yet".to_owned()),
            Phase::Serving => Ok(()),
            Phase::Stopping => Err("being stopped".to_owned()),
        };
        let checks = [("listening", phase), ("upstream", self.reached(live).await)];
        let status = match checks.iter().all(|(_, check)| check.is_ok()) {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let line = |(name, check): &(&str, Result<(), String>)| match check {
            Ok(()) => format!("{name}: ok\n"),
            Err(error) => format!("{name}: {error}\n"),
        };
        text(
            status,
            "text/plain; charset=utf-8",
            checks.iter().map(line).collect::<String>(),
        )
    }

    async fn reached(&self, live: &Live) -> Result<(), String> {
        let known = self.reached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, result)) = known.filter(|(at, _)| at.elapsed() < REACHED_FOR) {
            return result;
        }
        let Some(about) = live.about() else {
            return Err("not known yet".into());
        };
        // One of several is enough.
        let mut result = Err("no server".to_owned());
        for address in about.upstream.split(',') {
            result = reach(address).await;
            if result.is_ok() {
                break;
            }
        }
        let now = (Instant::now(), result.clone());
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        result
    }
}

impl Access {
    /// A name that somebody else's DNS may point here is not known. A number cannot be pointed elsewhere.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

impl Refused {
    fn answer(&self) -> Answer {
        match self {
            Refused::Host => error(
                StatusCode::MISDIRECTED_REQUEST,
                "lockkeeper is not known by this name; use its IP address or localhost, or start it with --admin-host NAME",
            ),
            Refused::Site => error(StatusCode::FORBIDDEN, "this request comes from another site's page"),
            Refused::Token { known: true } => {
                let mut answer = error(
                    StatusCode::UNAUTHORIZED,
                    "the token of --admin-token-file is needed, as the header Authorization: Bearer TOKEN",
                );
                let bearer = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
                answer
            }
            Refused::Token { known: false } => error(
                StatusCode::FORBIDDEN,
                "nothing can be changed here: lockkeeper was started without --admin-token-file",
            ),
        }
    }
}

fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "there is no such page; the review page is at /")
}

/// The address bound and what it serves. The error comes with the exit code: 2 for a wrong setting.
pub fn open(
    admin: &Admin,
    live: Option<&Arc<Live>>,
    log: Vec<PathBuf>,
    reuse_port: bool,
) -> Result<(std::net::TcpListener, Arc<Site>), (u8, String)> {
    let access = Access {
        loopback: is_loopback(&admin.listen),
        token: admin
            .token_file
            .as_deref()
            .map(Token::load)
            .transpose()
            .map_err(|error| (2, error))?,
        hosts: admin.hosts.clone(),
    };
    let listener = bind(&admin.listen, reuse_port).map_err(|error| (1, error))?;
    Ok((listener, Arc::new(Site::new(live.map(Arc::clone), log, access))))
}

/// `reuse_port`: a new process may listen at the same address before the old one has ended.
fn bind(listen: &str, reuse_port: bool) -> Result<std::net::TcpListener, String> {
    use socket2::{Domain, Socket, Type};
    use std::net::ToSocketAddrs;
    let told = |error: std::io::Error| format!("admin: cannot listen on {listen}: {error}");
    let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in listen.to_socket_addrs().map_err(told)? {
        let bound = Socket::new(Domain::for_address(address), Type::STREAM, None).and_then(|socket| {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(reuse_port)?;
            socket.bind(&address.into())?;
            socket.listen(CONNECTIONS_MAX as i32)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(told(failed))
}

/// Serves until the process ends.
pub fn serve(listener: std::net::TcpListener, site: Arc<Site>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the admin runtime cannot be started: {error}"))?;
    runtime.block_on(accept(listener, site))
}

async fn accept(listener: std::net::TcpListener, site: Arc<Site>) -> Result<(), String> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|error| format!("admin: {error}"))?;
    let mut guests: Vec<Guest> = Vec::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut guests);
                let state = Arc::new(State::default());
                let task = tokio::spawn(converse(stream, Arc::clone(&site), Arc::clone(&state)));
                let task = task.abort_handle();
                guests.push(Guest { task, state });
            }
            Err(error) => {
                tracing::error!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A connection, in the order in which they came.
struct Guest {
    task: AbortHandle,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Requests that it has sent so far.
    requests: AtomicU64,
    answering: AtomicBool,
}

/// Whoever comes is let in, or connections that send nothing would silence the probes. For it the oldest goes that has asked for
/// nothing yet; else the oldest that waits for its next request; else the oldest of all.
fn make_room(guests: &mut Vec<Guest>) {
    guests.retain(|guest| !guest.task.is_finished());
    if guests.len() < CONNECTIONS_MAX {
        return;
    }
    let rank = |guest: &Guest| {
        let answering = guest.state.answering.load(Ordering::Relaxed);
        (answering, guest.state.requests.load(Ordering::Relaxed) > 0)
    };
    let leaves = (0..guests.len()).min_by_key(|at| rank(&guests[*at]));
    if let Some(at) = leaves {
        guests.remove(at).task.abort();
    }
}

async fn converse(stream: tokio::net::TcpStream, site: Arc<Site>, state: Arc<State>) {
    let service = service_fn(move |request| {
        let (site, state) = (Arc::clone(&site), Arc::clone(&state));
        async move {
            state.requests.fetch_add(1, Ordering::Relaxed);
            state.answering.store(true, Ordering::Relaxed);
            let answer = match tokio::time::timeout(ANSWER_TIME, site.answer(request)).await {
                Ok(answer) => answer,
                Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "this took too long"),
            };
            state.answering.store(false, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that goes away or talks nonsense is its own affair.
    let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
}

async fn reach(address: &str) -> Result<(), String> {
    let connected = async {
        match address.starts_with('/') {
            true => tokio::net::UnixStream::connect(address).await.map(drop),
            false => tokio::net::TcpStream::connect(address).await.map(drop),
        }
    };
    match tokio::time::timeout(REACH_TIME, connected).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {} s", REACH_TIME.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::site::digest;
    use super::*;

    fn site(loopback: bool, token: Option<&str>) -> Site {
        let access = Access {
            loopback,
            token: token.map(|token| Token(digest(token.as_bytes()))),
            hosts: vec!["db-admin.internal".into()],
        };
        Site::new(None, Vec::new(), access)
    }

    fn check(site: &Site, request: &str, expect: Result<(), Refused>) {
        let mut lines = request.split("; ");
        let (method, path) = lines
            .next()
            .and_then(|line| line.split_once(' '))
            .expect("a request line");
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        assert_eq!(site.admit(&method, path, &headers), expect, "{request}");
    }

    #[test]
    fn loopback_is_open_for_reading_alone() {
        let open = site(true, Some("a-token-of-some-length"));
        let post = "POST /api/jobs/1/pause; Content-Type: application/json; Host: localhost:6433";
        check(&open, "GET /api/live; Host: 127.0.0.1:6433", Ok(()));
        check(&open, "GET /metrics; Host: [::1]:6433", Ok(()));
        check(&open, post, Err(Refused::Token { known: true }));
        check(
            &open,
            &format!("{post}; Authorization: Bearer a-token-of-some-lengtH"),
            Err(Refused::Token { known: true }),
        );
        check(
            &open,
            &format!("{post}; Authorization: Bearer "),
            Err(Refused::Token { known: true }),
        );
        check(
            &open,
            &format!("{post}; Authorization: Bearer a-token-of-some-length"),
            Ok(()),
        );
        check(&site(true, None), post, Err(Refused::Token { known: false }));
    }

    #[test]
    fn elsewhere_all_data_wants_the_token() {
        let open = site(false, Some("a-token-of-some-length"));
        for path in ["/api/live", "/api/statements", "/metrics"] {
            let get = format!("GET {path}; Host: 10.0.0.1:6433");
            check(&open, &get, Err(Refused::Token { known: true }));
            check(
                &open,
                &format!("{get}; Authorization: Bearer a-token-of-some-length"),
                Ok(()),
            );
        }
        check(&open, "GET /; Host: db-admin.internal:6433", Ok(()));
        check(&open, "GET /healthz; Host: anything", Ok(()));
    }

    #[test]
    fn other_sites_reach_nothing() {
        let open = site(true, Some("a-token-of-some-length"));
        let post = "POST /api/jobs/1/pause; Host: localhost:6433; Authorization: Bearer a-token-of-some-length";
        let json = "Content-Type: application/json";
        check(&open, "GET /api/live; Host: evil.example:6433", Err(Refused::Host));
        check(&open, "GET /; Host: evil.example", Err(Refused::Host));
        check(&open, "GET /api/live", Err(Refused::Host));
        check(
            &open,
            "GET /api/live; Host: localhost; Sec-Fetch-Site: cross-site",
            Err(Refused::Site),
        );
        check(&open, "GET /; Host: localhost; Sec-Fetch-Site: cross-site", Ok(()));
        check(
            &open,
            "GET /api/live; Host: localhost; Sec-Fetch-Site: same-origin",
            Ok(()),
        );
        check(&open, post, Err(Refused::Site));
        check(&open, &format!("{post}; Content-Type: text/plain"), Err(Refused::Site));
        check(
            &open,
            &format!("{post}; {json}; Origin: http://evil.example"),
            Err(Refused::Site),
        );
        check(&open, &format!("{post}; {json}; Origin: null"), Err(Refused::Site));
        check(&open, &format!("{post}; {json}; Origin: http://localhost:6433"), Ok(()));
    }
}
