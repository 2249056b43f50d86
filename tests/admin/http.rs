//! The admin address over real sockets: who is let in, health, and what other sites reach.

use super::{Admin, TOKEN, until};
use lockkeeper_cluster::free_port;
use lockkeeper_testkit::{self, QUICK, Stage, cluster};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub fn get(port: u16, path: &str) -> Answer {
    ask(port, &format!("GET {path}"), &[])
}

/// `GET /path`, and headers besides Host, unless that is among them.
pub fn ask(port: u16, request: &str, headers: &[&str]) -> Answer {
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        text.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    headers
        .iter()
        .for_each(|header| text.push_str(&format!("{header}\r\n")));
    text.push_str("\r\n");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the admin address listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    stream.write_all(text.as_bytes()).expect("the request is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.as_str(), ""));
    Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

#[test]
fn whoever_is_elsewhere_gets_nothing_without_the_token() {
    let admin = Admin::new("admission");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let json = "Content-Type: application/json";
    let check = |request: &str, headers: &[&str], status: u16| {
        let answer = ask(admin.port, request, headers);
        assert_eq!(answer.status, status, "{:.60} {headers:?}: {answer:?}", request);
        answer
    };
    for path in [
        "/",
        "/app.js",
        "/app.css",
        "/icon.svg",
        "/metrics",
        "/api/live",
        "/api/statements",
        "/healthz",
        "/readyz",
    ] {
        let answer = check(&format!("GET {path}"), &[], 200);
        for header in [
            "content-security-policy: default-src 'none';",
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(
                answer.head.contains(header),
                "{path}: {header} is not in {}",
                answer.head
            );
        }
        assert!(!answer.head.contains("access-control-allow"), "{}", answer.head);
    }
    check("GET /api/live", &["Host: evil.example"], 421);
    check("GET /metrics", &["Host: evil.example:6433"], 421);
    check("GET /api/live", &["Sec-Fetch-Site: cross-site"], 403);
    let pause = "POST /api/jobs/1/pause";
    check(pause, &[json], 401);
    check(
        pause,
        &[json, "Authorization: Bearer wrong-token-of-the-tests-0123"],
        401,
    );
    check(pause, &[&bearer], 403);
    check(pause, &[json, &bearer, "Origin: http://evil.example"], 403);
    check(pause, &[json, &bearer, "Content-Length: 5000000"], 413);
    check("DELETE /metrics", &[json, &bearer], 405);
    check("GET /nothing", &[], 404);
    check(&format!("GET /{}", "x".repeat(40_000)), &[], 431);
}

#[test]
fn an_address_for_others_wants_a_token_from_the_start() {
    let stage = Stage::without_proxy(cluster(lockkeeper_testkit::MAJOR), "others");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        let upstream = format!("127.0.0.1:{}", stage.port);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream])
            .args(arguments);
        lockkeeper_testkit::run(command, "")
    };
    let ran = run(&["--admin", "0.0.0.0:0"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("a token is needed") && ran.stderr.contains("openssl rand"),
        "{}",
        ran.stderr
    );
    let dir = tempfile::tempdir().expect("a directory");
    let short = dir.path().join("token");
    std::fs::write(&short, "short\n").expect("a file");
    let ran = run(&[
        "--admin",
        "0.0.0.0:0",
        "--admin-token-file",
        &short.display().to_string(),
    ]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(
        ran.stderr.contains("at least 20 printable characters"),
        "{}",
        ran.stderr
    );
}

#[test]
fn data_for_others_wants_the_token() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).expect("the token is written");
    let port = free_port().expect("a free port");
    let (listen, token) = (format!("0.0.0.0:{port}"), token.display().to_string());
    let arguments = ["--admin", &listen, "--admin-token-file", &token];
    let _stage = Stage::on(cluster(lockkeeper_testkit::MAJOR), "elsewhere", QUICK, &arguments);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for path in ["/metrics", "/api/live", "/api/statements", "/api/usage"] {
        assert_eq!(get(port, path).status, 401, "{path}");
        assert_eq!(ask(port, &format!("GET {path}"), &[&bearer]).status, 200, "{path}");
    }
    for path in ["/", "/app.js", "/healthz", "/readyz"] {
        assert_eq!(get(port, path).status, 200, "{path}");
    }
}

#[test]
fn ready_means_that_a_session_would_be_served() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("policy.toml"), QUICK).expect("a policy");
    // Nobody listens there, until somebody does.
    let (server, admin) = (free_port().expect("a free port"), free_port().expect("a free port"));
    let listen = format!("127.0.0.1:{admin}");
    let (proxy, _) = lockkeeper_testkit::start_proxy(dir.path(), &format!("127.0.0.1:{server}"), &["--admin", &listen]);
    let answer = get(admin, "/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        answer.body.contains("upstream: 127.0.0.1:") && answer.body.contains("refused"),
        "{}",
        answer.body
    );
    assert_eq!(get(admin, "/healthz").status, 200);
    let _listener = std::net::TcpListener::bind(("127.0.0.1", server)).expect("the port is still free");
    until("it is ready", || get(admin, "/readyz").status == 200);
    drop(proxy);
}
