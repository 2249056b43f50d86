//! TLS on both legs, with psql, psycopg and rustls as clients, and PostgreSQL as the server except where it must misbehave.

mod authentication;

use lockkeeper_cluster::{Cluster, Guarded, clean_environment};
use lockkeeper_testkit::encrypted::{hangup, stage_with, tls_server, words};
use lockkeeper_testkit::pki::{
    Client, Files, PKI, Pair, SSL_REQUEST, der, handshake, negotiated, server_config, shown, tcp,
};
use lockkeeper_testkit::raw::{self, Raw, c, cancel_request, error_field, frame, rows, startup, startup_version, tags};
use lockkeeper_testkit::{QUICK, Stage, until, until_asleep};
use rustls::{ServerConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const HBA: &str = "local all all trust
host all scram 127.0.0.1/32 scram-sha-256
host all md5 127.0.0.1/32 md5
host all cleartext 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
";
const CERT_HBA: &str = "hostssl all client 127.0.0.1/32 cert\n";
const ROLES: &str = "CREATE ROLE scram LOGIN PASSWORD 'secret';
CREATE ROLE cleartext LOGIN PASSWORD 'secret';
CREATE ROLE client LOGIN;
SET password_encryption = 'md5';
CREATE ROLE md5 LOGIN PASSWORD 'secret';";

/// A server with ssl = on and a role for each way to authenticate.
fn tls_cluster(major: u32) -> &'static Cluster {
    static V15: OnceLock<Cluster> = OnceLock::new();
    static V18: OnceLock<Cluster> = OnceLock::new();
    let slot = if major == 15 { &V15 } else { &V18 };
    slot.get_or_init(|| {
        let hba = format!("{CERT_HBA}{HBA}");
        let cluster = tls_server(major, &[("wal_level", "logical")], &hba, ROLES);
        cluster.write_data_file("root.crt", &PKI.ca).unwrap();
        let set = "ALTER SYSTEM SET ssl_ca_file = 'root.crt'";
        cluster.psql("postgres", set).unwrap();
        cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        until("the server knows the CA", || {
            cluster
                .psql("postgres", "SHOW ssl_ca_file")
                .is_ok_and(|file| file.trim() == "root.crt")
        });
        cluster
    })
}

/// Both legs encrypted.
fn both(name: &str) -> (Stage, Files) {
    let files = Files::new();
    let arguments = [files.offer(&PKI.proxy), words(&["--upstream-tls", "require"])].concat();
    (stage_with(tls_cluster(18), name, &arguments), files)
}

/// Only the client leg; `more` after the certificate's arguments.
fn offering(name: &str, more: &[&str]) -> (Stage, Files) {
    let files = Files::new();
    let arguments = [files.offer(&PKI.proxy), words(more)].concat();
    (stage_with(lockkeeper_testkit::cluster(18), name, &arguments), files)
}

fn session(stage: &Stage, client: Client) -> Raw {
    let mut raw = Raw::over(client);
    raw.start(&startup(&[("user", "postgres"), ("database", &stage.database)]));
    raw
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c(sql))
}

// --- the client leg -----------------------------------------------------------------------------------------------

#[test]
fn a_handshake_without_request_needs_alpn() {
    let (stage, _files) = offering("direct", &[]);
    let mut raw = session(
        &stage,
        handshake(tcp(stage.port), &[b"postgresql"]).expect("a handshake"),
    );
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
    let mut raw = session(
        &stage,
        handshake(tcp(stage.port), &[b"h2", b"postgresql"]).expect("a handshake"),
    );
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);

    let mut without = handshake(tcp(stage.port), &[]).expect("the handshake itself");
    // The startup packet may come too late; what counts is that nothing is said.
    let _ = without.write_all(&startup(&[("user", "postgres")]));
    let mut answer = Vec::new();
    let _ = without.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");

    let error = handshake(tcp(stage.port), &[b"http/1.1"]).expect_err("no handshake");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");

    let ran = stage.python(
        "import psycopg
for sslnegotiation in ('direct', 'postgres'):
    with psycopg.connect(sslmode='require', sslnegotiation=sslnegotiation) as c:
        print(c.pgconn.ssl_in_use, c.execute('SELECT 7').fetchone()[0])",
    );
    assert_eq!(ran.ok(), "True 7\nTrue 7\n");
}

#[test]
fn a_handshake_without_request_where_no_tls_is_offered_just_ends() {
    let stage = Stage::new("direct_off");
    let error = handshake(tcp(stage.port), &[b"postgresql"]).expect_err("no handshake");
    assert!(
        matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        "{error}"
    );
    assert!(stage.psql("SELECT 1").ok().contains('1'));
}

#[test]
fn what_stands_behind_a_request_for_encryption_is_refused() {
    let (with, _files) = offering("behind", &[]);
    let without = Stage::new("behind_off");
    let gssenc = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    let packet = startup(&[("user", "postgres"), ("database", &with.database)]);
    for (port, request) in [
        (with.port, SSL_REQUEST),
        (with.port, gssenc),
        (without.port, SSL_REQUEST),
        (without.port, gssenc),
    ] {
        let mut raw = Raw::open(port);
        raw.send(&[&request[..], &packet].concat());
        let messages = raw.until_ready();
        assert_eq!(tags(&messages), "E");
        assert_eq!(error_field(&messages, b'C').as_deref(), Some("08P01"));
        assert!(error_field(&messages, b'M').is_some_and(|m| m.contains("unencrypted data after")));
    }
    // Later than that it is in the handshake's way.
    let mut stream = tcp(with.port);
    stream.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    stream.write_all(&packet).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    // A TLS alert, if anything.
    assert!(rest.is_empty() || rest[0] == 0x15, "{rest:?}");
}

#[test]
fn requests_for_encryption_come_once_and_gss_is_declined() {
    let (stage, _files) = offering("requests", &[]);
    let gssenc = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
    let mut stream = tcp(stage.port);
    let mut answer = [0];
    stream.write_all(&gssenc).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    stream.write_all(&SSL_REQUEST).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    let mut raw = session(&stage, handshake(stream, &[]).expect("a handshake"));
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
    for request in [SSL_REQUEST, gssenc] {
        let mut raw = Raw::over(negotiated(stage.port));
        raw.send(&request);
        assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));
    }
}

#[test]
fn plain_sessions_are_refused_where_tls_is_required_but_cancel_requests_are_not() {
    let sockets = Files::new();
    let (stage, _files) = {
        let socket = format!("{}:7001", sockets.path("").display().to_string().trim_end_matches('/'));
        offering("required", &["--client-tls", "require", "--listen", &socket])
    };
    let refused = stage.psql_args(
        &["-d", &format!("dbname={} sslmode=disable", stage.database)],
        "SELECT 1",
    );
    assert_eq!(refused.status, 2);
    assert!(
        refused
            .stderr
            .contains("FATAL:  lockkeeper: this connection is not encrypted"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("sslmode=require"), "{}", refused.stderr);
    let mut raw = Raw::open(stage.port);
    raw.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("28000"));
    // sslmode=prefer and allow find their way.
    for sslmode in ["prefer", "allow", "require"] {
        let target = format!("dbname={} sslmode={sslmode}", stage.database);
        let ran = stage.psql_args(&["-At", "-d", &target], "\\conninfo");
        assert!(ran.stdout.contains("SSL connection"), "{sslmode}: {ran:?}");
    }
    let older = format!(
        "dbname={} sslmode=require ssl_max_protocol_version=TLSv1.2",
        stage.database
    );
    let ran = stage.psql_args(&["-At", "-d", &older], "\\conninfo\nSELECT 7");
    assert!(
        ran.stdout.contains("TLSv1.2") && ran.stdout.ends_with("\n7\n"),
        "{ran:?}"
    );
    // As hostssl has it, a Unix socket is no network.
    let directory = sockets.path("");
    let target = format!("host={} port=7001 dbname={}", directory.display(), stage.database);
    assert_eq!(stage.psql_args(&["-At", "-d", &target], "SELECT 7").ok(), "7\n");

    // Nor is there TLS on it, for a client that asks all the same.
    let open = || std::os::unix::net::UnixStream::connect(directory.join(".s.PGSQL.7001")).unwrap();
    let mut socket = open();
    socket.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"N");
    let mut raw = Raw::over(socket);
    raw.start(&startup(&[("user", "postgres"), ("database", &stage.database)]));
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
    let mut handshake = open();
    handshake.write_all(&[0x16, 3, 1, 0, 100]).unwrap();
    let mut rest = Vec::new();
    // It may be reset, since it has said more than was read.
    let _ = handshake.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");

    let mut raw = session(&stage, negotiated(stage.port));
    raw.send(&query("SELECT pg_sleep(60)"));
    let pid = u32::from_be_bytes(raw.key[..4].try_into().unwrap());
    until_asleep(&stage, pid);
    // libpq before 17 sends every cancel request in plain text.
    let mut cancel = tcp(stage.port);
    cancel.write_all(&cancel_request(&raw.key)).unwrap();
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57014"));
}

#[test]
fn client_certificates_are_verified() {
    let files = Files::new();
    let ca = files.put("client-ca.crt", &PKI.ca);
    let (stage, _files) = offering("client_certificates", &["--tls-client-ca", &ca]);
    let connect = |pair: Option<&Pair>| {
        let mut target = format!("dbname={} sslmode=require", stage.database);
        if let Some(pair) = pair {
            let (cert, key) = (files.put("c.crt", &pair.cert), files.put("c.key", &pair.key));
            target += &format!(" sslcert={cert} sslkey={key}");
        } else {
            target += " sslcert=/nonexistent";
        }
        stage.psql_args(&["-At", "-d", &target], "SELECT 7")
    };
    assert_eq!(connect(Some(&PKI.client)).ok(), "7\n");
    let refused = connect(Some(&PKI.other_client));
    assert_eq!(refused.status, 2);
    assert!(refused.stderr.contains("alert unknown ca"), "{}", refused.stderr);
    let missing = connect(None);
    assert_eq!(missing.status, 2);
    assert!(
        missing.stderr.contains("alert certificate required"),
        "{}",
        missing.stderr
    );
    // Who does not use TLS shows none: --client-tls require is what keeps him out.
    let plain = format!("dbname={} sslmode=disable", stage.database);
    assert_eq!(stage.psql_args(&["-At", "-d", &plain], "SELECT 7").ok(), "7\n");
}

#[test]
fn sighup_reads_the_certificate_again_and_old_sessions_live_on() {
    let (stage, files) = offering("reload", &[]);
    let old = negotiated(stage.port);
    assert_eq!(shown(&old), der(&PKI.proxy));
    let mut old = session(&stage, old);

    files.offer(&PKI.proxy_renewed);
    assert_eq!(shown(&negotiated(stage.port)), der(&PKI.proxy));
    hangup(&stage, "TLS files read again");
    assert_eq!(shown(&negotiated(stage.port)), der(&PKI.proxy_renewed));
    assert_eq!(rows(&old.query("SELECT 7")), ["7"]);

    files.put("tls.key", &PKI.proxy.key);
    hangup(&stage, "the TLS files are wrong, the old certificates stay");
    assert!(
        stage.proxy_log().contains("they do not belong together"),
        "{}",
        stage.proxy_log()
    );
    assert_eq!(shown(&negotiated(stage.port)), der(&PKI.proxy_renewed));
    files.put("tls.crt", "garbage");
    hangup(&stage, "the TLS files are wrong, the old certificates stay");
    let mut new = session(&stage, negotiated(stage.port));
    assert_eq!(rows(&new.query("SELECT 7")), ["7"]);
    assert_eq!(rows(&old.query("SELECT 7")), ["7"]);
}

/// What a new connection is accepted with, on each side, is what the files held at the last SIGHUP that found them good.
#[test]
fn sighup_reads_the_authorities_of_both_sides_again() {
    let files = Files::new();
    let client_ca = files.put("client-ca.crt", &PKI.ca);
    let upstream_ca = files.put("upstream-ca.crt", &PKI.ca);
    let mut arguments = files.offer(&PKI.proxy);
    arguments.extend(words(&["--tls-client-ca", &client_ca, "--upstream-tls", "verify-full"]));
    arguments.extend(words(&["--upstream-ca", &upstream_ca]));
    let stage = stage_with(tls_cluster(18), "authorities", &arguments);
    let connect = |pair: &Pair| {
        let (cert, key) = (files.put("c.crt", &pair.cert), files.put("c.key", &pair.key));
        let target = format!("dbname={} sslmode=require sslcert={cert} sslkey={key}", stage.database);
        stage.psql_args(&["-At", "-d", &target], "SELECT 7")
    };
    let wrong = "the TLS files are wrong, the old certificates stay";
    assert_eq!(connect(&PKI.client).ok(), "7\n");
    files.put("client-ca.crt", &PKI.other_ca);
    hangup(&stage, "TLS files read again");
    assert!(connect(&PKI.client).stderr.contains("alert unknown ca"));
    assert_eq!(connect(&PKI.other_client).ok(), "7\n");
    files.put("client-ca.crt", "garbage");
    hangup(&stage, wrong);
    assert_eq!(connect(&PKI.other_client).ok(), "7\n");

    files.put("client-ca.crt", &PKI.other_ca);
    files.put("upstream-ca.crt", &PKI.other_ca);
    hangup(&stage, "TLS files read again");
    assert!(connect(&PKI.other_client).stderr.contains("UnknownIssuer"));
    files.put("upstream-ca.crt", "garbage");
    hangup(&stage, wrong);
    assert!(connect(&PKI.other_client).stderr.contains("UnknownIssuer"));
    files.put("upstream-ca.crt", &PKI.ca);
    let before = stage.proxy_log().matches(wrong).count();
    hangup(&stage, "TLS files read again");
    until("the server is trusted again", || connect(&PKI.other_client).status == 0);
    assert_eq!(stage.proxy_log().matches(wrong).count(), before);
}

#[test]
fn a_handshake_that_does_not_go_on_is_let_go() {
    let (stage, _files) = offering("loris", &["--startup-timeout-s", "1"]);
    for hello in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0]] {
        for asks in [true, false] {
            let mut stream = tcp(stage.port);
            if asks {
                stream.write_all(&SSL_REQUEST).unwrap();
                stream.read_exact(&mut [0]).unwrap();
            }
            stream.write_all(hello).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("an end");
        }
    }
    let mut silent = negotiated(stage.port);
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{rest:?}");
    let mut raw = session(&stage, negotiated(stage.port));
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
}

#[test]
fn wrong_files_end_the_start_with_code_2_and_are_named() {
    let files = Files::new();
    let cert = files.put("a.crt", &PKI.proxy.cert);
    let key = files.put("a.key", &PKI.proxy.key);
    let other = files.put("other.key", &PKI.server.key);
    let garbage = files.put("garbage.pem", "garbage");
    let locked = files.put(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let missing = files.path("missing.pem").display().to_string();
    let check = |arguments: &[&str], expect: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.args(["serve", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1"]);
        command.args(arguments);
        let ran = lockkeeper_testkit::run(command, "");
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.stderr);
        for part in expect {
            assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
        }
    };
    check(
        &["--tls-cert", &missing, "--tls-key", &key],
        &["tls-cert", &missing, "No such file"],
    );
    check(
        &["--tls-cert", &cert, "--tls-key", &missing],
        &["tls-key", &missing, "No such file"],
    );
    check(
        &["--tls-cert", &garbage, "--tls-key", &key],
        &["tls-cert", &garbage, "no certificate"],
    );
    check(
        &["--tls-cert", &cert, "--tls-key", &garbage],
        &["tls-key", &garbage, "no private key"],
    );
    check(
        &["--tls-cert", &cert, "--tls-key", &locked],
        &["tls-key", &locked, "passphrase"],
    );
    check(
        &["--tls-cert", &cert, "--tls-key", &other],
        &[&cert, &other, "do not belong together"],
    );
    check(
        &["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &garbage],
        &["tls-client-ca", &garbage],
    );
    check(
        &["--upstream-tls", "verify-full", "--upstream-ca", &missing],
        &["upstream-ca", &missing, "No such file"],
    );
    check(
        &["--upstream-tls", "require", "--upstream-tls-name", "a b"],
        &["`a b`", "--upstream-tls-name"],
    );
}

// --- the server leg -----------------------------------------------------------------------------------------------

#[test]
fn the_server_s_certificate_is_verified_as_far_as_asked() {
    let files = Files::new();
    let ca = files.put("ca.crt", &PKI.ca);
    let other = files.put("other.crt", &PKI.other_ca);
    let check = |arguments: &[&str], expect: Result<(), &str>| {
        let stage = stage_with(tls_cluster(18), "verify", &words(arguments));
        let ran = stage.psql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        match expect {
            Ok(()) => assert_eq!(ran.ok(), "t\n"),
            Err(text) => {
                assert_eq!(ran.status, 2, "{arguments:?}");
                assert!(ran.stderr.contains(text), "{arguments:?}: {}", ran.stderr);
                assert!(ran.stderr.contains("could not connect to 127.0.0.1:"), "{}", ran.stderr);
                assert_eq!(stage.received(), [""; 0]);
            }
        }
    };
    check(&["--upstream-tls", "require"], Ok(()));
    check(&["--upstream-tls", "verify-ca", "--upstream-ca", &ca], Ok(()));
    check(&["--upstream-tls", "verify-full", "--upstream-ca", &ca], Ok(()));
    check(
        &[
            "--upstream-tls",
            "verify-ca",
            "--upstream-ca",
            &ca,
            "--upstream-tls-name",
            "db.example",
        ],
        Ok(()),
    );
    check(
        &[
            "--upstream-tls",
            "verify-full",
            "--upstream-ca",
            &ca,
            "--upstream-tls-name",
            "db.example",
        ],
        Err("not valid for name"),
    );
    check(
        &["--upstream-tls", "verify-ca", "--upstream-ca", &other],
        Err("UnknownIssuer"),
    );
    check(
        &["--upstream-tls", "verify-full", "--upstream-ca", &other],
        Err("UnknownIssuer"),
    );
}

/// Over IPv6, whose address the certificate has.
#[test]
fn a_server_is_verified_by_its_ipv6_address() {
    // Some machines have no IPv6, and then there is nothing to test.
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let upstream = listener.local_addr().unwrap().to_string();
    let server_port = tls_cluster(18).port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), tcp(server_port));
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
            std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        }
    });
    let files = Files::new();
    files.put("policy.toml", QUICK);
    let ca = files.put("ca.crt", &PKI.ca);
    let arguments = ["--upstream-tls", "verify-full", "--upstream-ca", &ca];
    let (_proxy, port) = lockkeeper_testkit::start_proxy(&files.path(""), &upstream, &arguments);
    let mut raw = Raw::connect(port, "postgres");
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(rows(&raw.query(sql)), ["t"]);
}

#[test]
fn a_server_without_tls_is_told_from_one_that_has_it() {
    let stage = stage_with(
        lockkeeper_testkit::cluster(18),
        "no_tls",
        &words(&["--upstream-tls", "require"]),
    );
    let ran = stage.psql("SELECT 1");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("it offers no TLS (ssl = off"), "{}", ran.stderr);
    assert_eq!(stage.received(), [""; 0]);
}

/// A server of our own that takes one TLS connection at a time, and says in an error what its first packet was.
struct FakeServer {
    port: u16,
    thread: std::thread::JoinHandle<Result<Vec<u8>, std::io::Error>>,
}

impl FakeServer {
    /// `before` is sent together with the answer to the SSLRequest.
    fn start(pair: &'static Pair, before: &'static [u8]) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let mut asked = [0; 8];
            stream.read_exact(&mut asked)?;
            assert_eq!(asked, SSL_REQUEST);
            stream.write_all(&[b"S", before].concat())?;
            let mut tls = StreamOwned::new(ServerConnection::new(server_config(pair)).unwrap(), stream);
            let mut len = [0; 4];
            tls.read_exact(&mut len)?;
            let mut packet = vec![0; u32::from_be_bytes(len) as usize];
            packet[..4].copy_from_slice(&len);
            tls.read_exact(&mut packet[4..])?;
            tls.write_all(&frame(b'E', b"SFATAL\0CXX000\0Mit came through\0\0"))?;
            tls.conn.send_close_notify();
            tls.flush()?;
            // The proxy takes leave as well.
            let mut rest = Vec::new();
            tls.read_to_end(&mut rest)?;
            Ok(packet)
        });
        FakeServer { port, thread }
    }
}

fn proxy_at(files: &Files, upstream: u16, arguments: &[&str]) -> (Guarded, u16) {
    files.put("policy.toml", QUICK);
    lockkeeper_testkit::start_proxy(&files.path(""), &format!("127.0.0.1:{upstream}"), arguments)
}

#[test]
fn a_self_signed_certificate_is_taken_where_it_is_itself_the_trusted_one() {
    let check = |pair: &'static Pair, mode: &str, listed: &Pair, name: &str, expect: Result<(), &str>| {
        let files = Files::new();
        let server = FakeServer::start(pair, b"");
        let ca = files.put("listed.crt", &listed.cert);
        let (_proxy, port) = proxy_at(
            &files,
            server.port,
            &[
                "--upstream-tls",
                mode,
                "--upstream-ca",
                &ca,
                "--upstream-tls-name",
                name,
            ],
        );
        let packet = startup(&[("user", "amy")]);
        let mut raw = Raw::open(port);
        raw.send(&packet);
        let message = error_field(&raw.until_ready(), b'M').expect("an error");
        match expect {
            Ok(()) => {
                assert_eq!(message, "it came through");
                drop(raw);
                assert_eq!(server.thread.join().unwrap().expect("an orderly end"), packet);
            }
            Err(text) => {
                assert!(message.contains(text), "{message}");
                assert!(server.thread.join().unwrap().is_err());
            }
        }
    };
    check(&PKI.self_signed, "verify-full", &PKI.self_signed, "localhost", Ok(()));
    check(&PKI.self_signed, "verify-ca", &PKI.self_signed, "elsewhere", Ok(()));
    check(
        &PKI.self_signed,
        "verify-full",
        &PKI.self_signed,
        "elsewhere",
        Err("not valid for name"),
    );
    check(
        &PKI.self_signed,
        "verify-ca",
        &PKI.proxy,
        "localhost",
        Err("certificate"),
    );
    check(
        &PKI.self_signed_expired,
        "verify-ca",
        &PKI.self_signed_expired,
        "localhost",
        Err("expired"),
    );
}

#[test]
fn what_a_server_sends_before_the_handshake_is_not_taken_for_its_own() {
    let files = Files::new();
    let server = FakeServer::start(&PKI.server, b"E\0\0\0\x0eMinjected\0\0");
    let (_proxy, port) = proxy_at(&files, server.port, &["--upstream-tls", "require"]);
    let mut raw = Raw::open(port);
    raw.send(&startup(&[("user", "amy")]));
    let messages = raw.until_ready();
    assert_eq!(error_field(&messages, b'C').as_deref(), Some("57P03"));
    assert!(error_field(&messages, b'M').is_some_and(|m| m.contains("no TLS connection")));
}

#[test]
fn a_cancel_request_goes_to_the_server_encrypted_and_whole() {
    for len in [8, 36] {
        let files = Files::new();
        let server = FakeServer::start(&PKI.server, b"");
        let (_proxy, port) = proxy_at(&files, server.port, &["--upstream-tls", "require"]);
        let request = cancel_request(&vec![7; len]);
        tcp(port).write_all(&request).unwrap();
        assert_eq!(server.thread.join().unwrap().expect("an orderly end"), request);
    }
}

// --- sessions over both legs --------------------------------------------------------------------------------------

#[test]
fn a_cancel_request_over_tls_is_carried_out_and_ends_orderly() {
    let (stage, _files) = both("cancel");
    let mut raw = session(&stage, negotiated(stage.port));
    raw.send(&query("SELECT pg_sleep(60)"));
    until_asleep(&stage, u32::from_be_bytes(raw.key[..4].try_into().unwrap()));
    let mut cancel = negotiated(stage.port);
    cancel.write_all(&cancel_request(&raw.key)).unwrap();
    // Without close_notify this is an error.
    assert_eq!(cancel.read(&mut [0]).expect("an orderly end"), 0);
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57014"));
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
    // libpq 18 encrypts its cancel request and tells when the end is not orderly.
    let ran = stage.python(
        "import psycopg, threading, time
for sslmode in ('require', 'disable'):
    with psycopg.connect(sslmode=sslmode, autocommit=True) as c:
        def cancel():
            with psycopg.connect(sslmode='disable', autocommit=True) as watch:
                sql = \"SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'\"
                while watch.execute(sql, [c.info.backend_pid]).fetchone()[0] == 0: time.sleep(0.01)
            c.cancel_safe(timeout=10)
        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            c.execute('SELECT pg_sleep(60)')
        except psycopg.errors.QueryCanceled:
            print('cancelled', sslmode)
        thread.join()",
    );
    assert_eq!(ran.stderr, "");
    assert_eq!(ran.ok(), "cancelled require\ncancelled disable\n");
}

#[test]
fn large_transfers_pass_both_ways() {
    let (stage, _files) = both("large");
    stage.direct("CREATE TABLE t (id int, v text); CREATE TABLE copy (LIKE t)");
    stage.direct("INSERT INTO t SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 20000) i");
    let ran = stage.python(
        "import psycopg
with psycopg.connect(sslmode='require') as c, psycopg.connect(sslmode='require') as d:
    size = 0
    with c.cursor().copy('COPY t TO STDOUT') as out, d.cursor().copy('COPY copy FROM STDIN') as into:
        for block in out:
            size += len(block)
            into.write(block)
    print(size)
    row = d.execute(\"SELECT repeat('x', 30000000)\").fetchone()[0]
    print(len(row), d.execute('SELECT length(%s)', [row]).fetchone()[0])",
    );
    assert_eq!(ran.ok(), "25728894\n30000000 30000000\n");
    let digest = |table: &str| stage.direct(&format!("SELECT md5(string_agg(v, ',' ORDER BY id)) FROM {table}"));
    assert_eq!(digest("t"), digest("copy"));
}

/// Everything is sent before anything is read: both directions must keep moving, and nothing may be left in a buffer.
#[test]
fn a_deep_pipeline_of_large_answers_comes_through() {
    let (stage, _files) = both("pipeline");
    let mut raw = session(&stage, negotiated(stage.port));
    let one = [
        raw::parse("", "SELECT repeat('x', 10000)"),
        raw::bind("", ""),
        raw::execute("", 0),
        raw::sync(),
    ]
    .concat();
    raw.send(&one.repeat(2000));
    for _ in 0..2000 {
        let messages = raw.until_ready();
        assert_eq!(tags(&messages), "12DCZ");
        assert_eq!(rows(&messages)[0].len(), 10_000);
    }
}

/// Where a client reads late, the end of an answer may wait within the proxy's TLS with nothing behind it to push it out.
/// How much the sockets take is not known, so many sizes are tried.
#[test]
fn the_end_of_an_answer_comes_even_if_the_client_reads_late() {
    let (stage, _files) = both("late");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address: std::net::SocketAddr = ([127, 0, 0, 1], stage.port).into();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&SSL_REQUEST).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let mut raw = session(&stage, handshake(stream, &[]).expect("a handshake"));
    let pid = u32::from_be_bytes(raw.key[..4].try_into().unwrap());
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let sent = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event IN ('ClientRead', 'ClientWrite')"
    );
    for size in (0..3_000_000).step_by(40_000) {
        raw.send(&query(&format!("/* {size} */ SELECT repeat('x', {size})")));
        let mark = format!("{sent} AND query LIKE '/* {size} */%'");
        until("the server has sent it or cannot", || {
            rows(&watch.query(&mark)) == ["1"]
        });
        assert_eq!(rows(&raw.until_ready())[0].len(), size);
    }
}

#[test]
fn schema_changes_are_made_safe_over_tls() {
    let files = Files::new();
    let mut arguments = files.offer(&PKI.proxy);
    arguments.extend(words(&["--upstream-tls", "require"]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let policy = format!("{QUICK}batch_rows = 500\n\n[table]\nsmall_bytes = 0\n");
    let mut stage = Stage::on(tls_cluster(18), "ddl", &policy, &arguments);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i FROM generate_series(1, 2000) i; ANALYZE t",
    );
    stage.mark();
    let target = format!("dbname={} sslmode=require", stage.database);
    let ran = stage.psql_args(
        &["-d", &target, "-v", "ON_ERROR_STOP=1"],
        "CREATE INDEX by_v ON t (v);\nUPDATE t SET v = 0 WHERE v IS NULL;\nDROP TABLE t;",
    );
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(ran.stdout.contains("CREATE INDEX\nUPDATE 2000"), "{ran:?}");
    assert!(
        ran.stderr.contains("lockkeeper") && ran.stderr.contains("drop-table"),
        "{ran:?}"
    );
    let received = stage.received();
    assert!(
        received.iter().any(|sql| sql.contains("CREATE INDEX CONCURRENTLY")),
        "{received:?}"
    );
    assert!(!received.iter().any(|sql| sql.contains("DROP TABLE")), "{received:?}");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE v = 0"), "2000");
    assert_eq!(
        stage.direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_v'::regclass"),
        "t"
    );
}

/// On 15, which knows no protocol but 3.0, and on 18: what the server answers to the startup packet comes as it is, and its
/// cancel key works whatever its length.
#[test]
fn every_protocol_is_negotiated_by_the_server_over_tls() {
    let files = Files::new();
    let arguments = [files.offer(&PKI.proxy), words(&["--upstream-tls", "require"])].concat();
    for major in [15, 18] {
        let stage = stage_with(tls_cluster(major), "protocols", &arguments);
        for (version, option) in [
            (196_608, "application_name"),
            (196_610, "application_name"),
            (196_608, "_pq_.wobble"),
            (196_608 + 9_999, "_pq_.wobble"),
        ] {
            let packet = startup_version(
                version,
                &[
                    ("user", "postgres"),
                    ("database", &stage.database),
                    (option, "1"),
                    ("options", "-c statement_timeout=77s -c geqo=off"),
                    ("DateStyle", "German"),
                ],
            );
            let play = |port| {
                let mut raw = Raw::over(negotiated(port));
                let mut told = raw.start(&packet);
                told.retain(|(tag, _)| *tag != b'K');
                (raw, told)
            };
            let ((mut raw, told), (direct, expect)) = (play(stage.port), play(stage.cluster.port()));
            assert_eq!(told, expect, "{major}, {version}, {option}");
            assert_eq!(raw.key.len(), direct.key.len());
            assert_eq!(raw.key.len(), if major == 18 && version > 196_608 { 36 } else { 8 });
            assert_eq!(rows(&raw.query("SHOW statement_timeout")), ["77s"]);
            assert_eq!(rows(&raw.query("SHOW DateStyle")), ["German, DMY"]);
            raw.send(&query("SELECT pg_sleep(60)"));
            until_asleep(&stage, u32::from_be_bytes(raw.key[..4].try_into().unwrap()));
            let mut cancel = negotiated(stage.port);
            cancel.write_all(&cancel_request(&raw.key)).unwrap();
            assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57014"));
        }
    }
}

#[test]
fn replication_and_notifications_work_over_tls() {
    let (stage, _files) = both("startup");
    let target = format!("dbname={} sslmode=require replication=database", stage.database);
    let ran = stage.psql_args(&["-At", "-d", &target], "IDENTIFY_SYSTEM");
    assert!(ran.ok().contains(&stage.database));
    let ran = stage.python(
        "import psycopg
c = psycopg.connect(sslmode='require', autocommit=True)
c.execute('LISTEN a')
with psycopg.connect(sslmode='require', autocommit=True) as d: d.execute(\"NOTIFY a, 'hello'\")
print(next(c.notifies(timeout=10)).payload)",
    );
    assert_eq!(ran.ok(), "hello\n");
}

/// `printf … | nc`, so to speak: all is sent, then the client only listens.
#[test]
fn a_client_that_only_listens_any_more_gets_its_answers() {
    let (stage, _files) = both("listens");
    let sent = |key: &str| {
        [
            startup(&[("user", "postgres"), ("database", &stage.database)]),
            query(&format!(
                "CREATE TABLE {key} AS SELECT 'seven ' || pg_sleep(0.1)::text AS v"
            )),
            query(&format!("CREATE INDEX ON {key} (v)")),
            query(&format!("TABLE {key}")),
        ]
        .concat()
    };
    let check = |answer: &[u8], what: &str| {
        let text = String::from_utf8_lossy(answer);
        assert!(
            text.contains("CREATE INDEX") && text.contains("seven"),
            "{what}: {text}"
        );
    };
    for (what, port) in [("direct", stage.cluster.port()), ("proxy", stage.port)] {
        let mut answer = Vec::new();
        let mut plain = tcp(port);
        plain.write_all(&sent(&format!("{what}_plain"))).unwrap();
        plain.shutdown(std::net::Shutdown::Write).unwrap();
        plain.read_to_end(&mut answer).unwrap();
        check(&answer, what);
        let mut answer = Vec::new();
        let mut tls = negotiated(port);
        tls.write_all(&sent(&format!("{what}_tls"))).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
        tls.read_to_end(&mut answer).expect("an orderly end");
        check(&answer, what);
    }
    // What is cut off in the middle of a message ends without being run.
    let mut cut = tcp(stage.port);
    let whole = sent("cut");
    cut.write_all(&whole[..whole.len() - 3]).unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    cut.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("CREATE INDEX") && !text.contains("seven"), "{text}");
}

#[test]
fn connections_end_orderly_and_an_abrupt_end_is_an_end_too() {
    let (stage, _files) = both("ends");
    let sessions = || {
        stage.direct(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ends'",
        )
    };
    let start = |client: &mut Client| {
        let parameters = [
            ("user", "postgres"),
            ("database", stage.database.as_str()),
            ("application_name", "ends"),
        ];
        client.write_all(&startup(&parameters)).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"Z\0\0\0\x05I") {
            let mut more = [0; 1024];
            let n = client.read(&mut more).unwrap();
            assert!(n > 0);
            seen.extend_from_slice(&more[..n]);
        }
    };
    // Terminate: the proxy says goodbye after the server has closed.
    let mut client = negotiated(stage.port);
    start(&mut client);
    client.write_all(&frame(b'X', b"")).unwrap();
    assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    // close_notify alone.
    let mut client = negotiated(stage.port);
    start(&mut client);
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    // Not even that.
    let mut client = negotiated(stage.port);
    start(&mut client);
    assert_eq!(sessions(), "1");
    drop(client);
    until("the server's session ends", || sessions() == "0");
    // The server goes away in the middle.
    let mut client = negotiated(stage.port);
    start(&mut client);
    stage.direct("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ends'");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an orderly end");
    assert!(rest.windows(6).any(|code| code == b"C57P01"), "{rest:?}");
    // A bare connection, a bare handshake, and garbage within TLS.
    drop(TcpStream::connect(("127.0.0.1", stage.port)));
    drop(negotiated(stage.port));
    let mut client = negotiated(stage.port);
    client.write_all(&[0xff; 16]).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an orderly end");
    // As the server does: what is no startup packet is not answered.
    assert!(rest.is_empty(), "{rest:?}");
    assert!(
        !stage.server_log().iter().any(|entry| entry.message.contains("SSL")),
        "{:?}",
        stage.server_log()
    );
    assert!(!stage.proxy_log().contains("ERROR"), "{}", stage.proxy_log());
}

// --- lockkeeper check ---------------------------------------------------------------------------------------------

/// `lockkeeper check --dsn` logs in as libpq would with the same string: what it says on stderr, nothing if it worked.
fn checked(files: &Files, dsn: &str, environment: &[(&str, &str)]) -> String {
    let sql = files.put("a.sql", "DROP TABLE IF EXISTS nowhere;");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.env("HOME", files.path("")).envs(environment.iter().copied());
    let output = command.args(["check", "--dsn", dsn, &sql]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(if told.is_empty() { 0 } else { 2 }),
        "{dsn}: {told}"
    );
    told
}

#[test]
fn check_logs_in_as_libpq_does() {
    for major in [15, 18] {
        let port = tls_cluster(major).port();
        let files = Files::new();
        let (ca, other_ca) = (files.put("ca.crt", &PKI.ca), files.put("other.crt", &PKI.other_ca));
        let (cert, key) = (
            files.put("client.crt", &PKI.client.cert),
            files.put("client.key", &PKI.client.key),
        );
        let pgpass = files.put("pgpass", "*:*:*:*:secret\n");
        let good = |dsn: &str, environment: &[(&str, &str)]| {
            let dsn = format!("host=localhost hostaddr=127.0.0.1 port={port} dbname=postgres {dsn}");
            assert_eq!(checked(&files, &dsn, environment), "", "{dsn}");
        };
        for user in ["scram", "md5", "cleartext"] {
            good(&format!("user={user} password=secret sslmode=require"), &[]);
            good(&format!("user={user} sslmode=disable"), &[("PGPASSWORD", "secret")]);
        }
        good(
            "user=scram",
            &[
                ("PGPASSFILE", &pgpass),
                ("PGSSLMODE", "verify-full"),
                ("PGSSLROOTCERT", &ca),
            ],
        );
        good(
            "user=scram password=secret sslmode=require channel_binding=require",
            &[],
        );
        good(
            &format!("user=client sslmode=verify-ca sslrootcert={ca} sslcert={cert} sslkey={key}"),
            &[],
        );
        let bad = |dsn: &str, expect: &str| {
            let told = checked(&files, &format!("port={port} dbname=postgres {dsn}"), &[]);
            assert!(told.contains(expect) && !told.contains("wrong"), "{dsn}: {told}");
        };
        bad("host=127.0.0.1 user=scram password=wrong", "authentication failed");
        bad("host=127.0.0.1 user=scram sslmode=disable", "password");
        bad(
            "host=127.0.0.1 user=scram password=secret sslmode=disable channel_binding=require",
            "channel binding",
        );
        let full =
            format!("host=localhost.example hostaddr=127.0.0.1 user=postgres sslmode=verify-full sslrootcert={ca}");
        bad(&full, "certificate not valid for name");
        // As libpq: with a file of roots `require` verifies too.
        for sslmode in ["require", "verify-ca", "verify-full"] {
            bad(
                &format!("host=127.0.0.1 user=postgres sslmode={sslmode} sslrootcert={other_ca}"),
                "certificate",
            );
        }
        bad("host=127.0.0.1 user=client sslmode=require", "certificate");
    }
}
