//! `--auth scram`: the proxy ends SCRAM with the client, with psql and a raw client against PostgreSQL 15 and 18. What a
//! client is told is compared with what the server itself would say.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tls/pki.rs"]
#[allow(dead_code)]
mod pki;

use common::raw::{Message, Raw, c, error_field, frame, rows, startup, startup_version, tags};
use common::{QUICK, Ran, Stage, own_cluster};
use lockkeeper::cluster::{Cluster, clean_environment};
use pki::{Files, PKI, SSL_REQUEST, negotiated, shown, tcp};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const HBA: &str = "local all all trust
host all trusted 127.0.0.1/32 trust
host all md5 127.0.0.1/32 md5
host all cleartext 127.0.0.1/32 password
host all rejected 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
";
const ROLES: &str = "CREATE ROLE amy LOGIN PASSWORD 'secret';
CREATE ROLE \"o'd\"\"d\" LOGIN PASSWORD 'secret';
CREATE ROLE trusted LOGIN PASSWORD 'secret';
CREATE ROLE cleartext LOGIN PASSWORD 'secret';
CREATE ROLE rejected LOGIN PASSWORD 'secret';
CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01';
SET password_encryption = 'md5';
CREATE ROLE md5 LOGIN PASSWORD 'secret';";
/// As `serve --help` says to make the file.
const AUTH_FILE: &str = "SELECT format('\"%s\" \"%s\"', replace(rolname, '\"', '\"\"'), rolpassword)
FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256%'";

/// A server with ssl = on that asks for SCRAM.
fn scram_cluster(major: u32) -> &'static Cluster {
    static V15: OnceLock<Cluster> = OnceLock::new();
    static V18: OnceLock<Cluster> = OnceLock::new();
    let slot = if major == 15 { &V15 } else { &V18 };
    slot.get_or_init(|| {
        let cluster = own_cluster(major, &[("log_connections", "on")]);
        cluster.write_data_file("server.crt", &PKI.server.cert).unwrap();
        cluster.write_data_file("server.key", &PKI.server.key).unwrap();
        cluster.write_data_file("pg_hba.conf", HBA).unwrap();
        cluster.psql("postgres", ROLES).unwrap();
        cluster.psql("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
        cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
        until("the server offers TLS", || {
            let mut stream = tcp(cluster.port());
            stream.write_all(&SSL_REQUEST).unwrap();
            let mut answer = [0];
            stream.read_exact(&mut answer).is_ok() && answer == *b"S"
        });
        cluster
    })
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The users of the server; md5's verifier is amy's.
fn auth_file(cluster: &Cluster) -> String {
    let users = cluster.psql("postgres", AUTH_FILE).unwrap();
    let amy = users.lines().find(|line| line.starts_with("\"amy\"")).expect("amy");
    format!("; made by a test\n{users}\n{}\n", amy.replace("amy", "md5"))
}

/// A proxy for plain and encrypted clients, whose users are those of the server. `upstream_tls`: so is its server leg.
fn stage(major: u32, name: &str, upstream_tls: bool) -> (Stage, Files) {
    let cluster = scram_cluster(major);
    let files = Files::new();
    let mut arguments = files.offer(&PKI.proxy);
    let users = files.put("users.txt", &auth_file(cluster));
    arguments.extend(["--auth", "scram", "--auth-file", &users].map(str::to_owned));
    if upstream_tls {
        let ca = files.put("ca.crt", &PKI.ca);
        arguments.extend(["--upstream-tls", "verify-full", "--upstream-ca", &ca].map(str::to_owned));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    (Stage::on(cluster, name, QUICK, &arguments), files)
}

fn login(stage: &Stage, user: &str, password: &str, more: &str) -> Ran {
    let target = format!("dbname={} user={user} password={password} {more}", stage.database);
    let sql = "\\conninfo\nSELECT current_user || ', server leg ' || CASE WHEN ssl THEN 'TLS' ELSE 'plain' END
        FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    stage.psql_args(&["-At", "-d", &target], sql)
}

/// `expect`: what must be in the output, or what the error must say.
#[track_caller]
fn check(ran: Ran, cell: &str, client_tls: bool, expect: Result<&str, &str>) {
    match expect {
        Ok(works) => {
            assert_eq!(ran.status, 0, "{cell}: {}", ran.stderr);
            let encrypted = ran.stdout.contains("SSL connection (protocol: TLSv1.3");
            assert_eq!(encrypted, client_tls, "{cell}: {}", ran.stdout);
            assert!(ran.stdout.contains(works), "{cell}: {}", ran.stdout);
        }
        Err(text) => {
            assert_eq!(ran.status, 2, "{cell}: {}", ran.stdout);
            assert!(ran.stderr.contains(text), "{cell}: {}", ran.stderr);
        }
    }
}

// --- passwords and channel binding --------------------------------------------------------------------------------

fn every_pairing(major: u32) {
    let no_tls = "channel binding required, but SSL not in use";
    let wrong = "FATAL:  password authentication failed for user";
    let (plain, _a) = stage(major, "pairs_plain", false);
    let (both, _b) = stage(major, "pairs_both", true);
    for (stage, server) in [(&plain, "plain"), (&both, "TLS")] {
        let works = format!("amy, server leg {server}");
        for (sslmode, tls) in [("disable", false), ("prefer", true), ("require", true)] {
            for channel_binding in ["prefer", "disable", "require"] {
                let cell = format!("{major}: {sslmode} / {server}, {channel_binding}");
                let expect = match tls || channel_binding != "require" {
                    true => Ok(works.as_str()),
                    false => Err(no_tls),
                };
                let more = format!("sslmode={sslmode} channel_binding={channel_binding}");
                check(login(stage, "amy", "secret", &more), &cell, tls, expect);
                if expect.is_ok() && sslmode != "prefer" {
                    check(login(stage, "amy", "Secret", &more), &cell, tls, Err(wrong));
                    check(login(stage, "nobody", "secret", &more), &cell, tls, Err(wrong));
                }
            }
        }
    }
    let odd = login(&both, "'o\\'d\"d'", "secret", "sslmode=require channel_binding=require");
    check(odd, "a name with quotes", true, Ok("o'd\"d, server leg TLS"));
    let log = [plain.server_log(), both.server_log()].concat();
    let logins: Vec<&str> = log
        .iter()
        .filter_map(|entry| {
            entry
                .message
                .strip_prefix("connection authenticated: identity=\"amy\" ")
        })
        .collect();
    assert!(logins.len() >= 14, "{log:?}");
    assert!(
        logins.iter().all(|login| login.starts_with("method=scram-sha-256")),
        "{log:?}"
    );
    // Whoever has no password does not get as far as to be refused by the server.
    assert!(
        !log.iter()
            .any(|entry| entry.message.contains("password authentication failed")),
        "{log:?}"
    );
}

#[test]
fn scram_over_every_pairing_18() {
    every_pairing(18);
}

#[test]
fn scram_over_every_pairing_15() {
    every_pairing(15);
}

/// Drivers with a SCRAM of their own.
#[test]
fn psycopg_and_node_postgres_log_in() {
    let (both, _files) = stage(18, "drivers", true);
    let python = both.python(
        "import psycopg
for tls, binding in (('require', 'require'), ('require', 'disable'), ('disable', 'prefer')):
    with psycopg.connect(user='amy', password='secret', sslmode=tls, channel_binding=binding) as c:
        print(c.execute('SELECT current_user').fetchone()[0])",
    );
    assert_eq!(python.ok(), "amy\namy\namy\n");
    let node = both.node(
        "const { Client } = require('pg');
         (async () => {
           for (const enableChannelBinding of [false, true]) {
             const ssl = { rejectUnauthorized: false };
             const client = new Client({ user: 'amy', password: 'secret', ssl, enableChannelBinding });
             await client.connect();
             console.log((await client.query('SELECT current_user')).rows[0].current_user);
             await client.end();
           }
         })().catch(e => { console.error(e); process.exit(1); });",
    );
    assert_eq!(node.ok(), "amy\namy\n");
}

/// Between proxy and server sits somebody with a certificate of his own, and relays.
#[test]
fn the_server_leg_is_bound_to_the_servers_certificate() {
    let cluster = scram_cluster(18);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap();
    let server_port = cluster.port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            for stream in listener.incoming() {
                // The proxy goes away when it has noticed.
                let _ = relay_between(stream.unwrap(), server_port).await;
            }
        });
    });
    let files = Files::new();
    std::fs::write(files.path("policy.toml"), QUICK).unwrap();
    let users = files.put("users.txt", &auth_file(cluster));
    let start = |auth: &[&str]| {
        let arguments = [&["--upstream-tls", "require"], auth].concat();
        common::start_proxy(&files.path(""), &between.to_string(), &arguments)
    };
    let mut stage = Stage::without_proxy(cluster, "between");
    // He is good at it: with `passthrough` and without channel binding nobody notices.
    let (_passthrough, port) = start(&[]);
    stage.port = port;
    check(
        login(&stage, "amy", "secret", "sslmode=disable"),
        "passthrough",
        false,
        Ok("amy, server leg TLS"),
    );
    let (_scram, port) = start(&["--auth", "scram", "--auth-file", &users]);
    stage.port = port;
    let ran = login(&stage, "amy", "secret", "sslmode=disable");
    check(ran, "scram", false, Err("FATAL:  SCRAM channel binding check failed"));
}

/// SCRAM bound to a certificate that anybody may show would be bound to nothing: also with `--upstream-tls require`, which
/// looks at no name and no issuer, whoever shows it must have its key.
#[test]
fn a_certificate_without_its_key_is_refused() {
    #[derive(Debug)]
    struct Stolen(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Stolen {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(PKI.self_signed.key.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![pki::der(&PKI.server)], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Stolen(Arc::new(certified))));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"S").unwrap();
        let mut connection = rustls::ServerConnection::new(config).unwrap();
        // It gets no further than this.
        while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        let _ = stream.read(&mut [0; 100]);
    });
    let files = Files::new();
    std::fs::write(files.path("policy.toml"), QUICK).unwrap();
    let users = files.put("users.txt", &auth_file(scram_cluster(18)));
    let arguments = ["--upstream-tls", "require", "--auth", "scram", "--auth-file", &users];
    let (_proxy, port) = common::start_proxy(&files.path(""), &address, &arguments);
    let mut raw = Raw::open(port);
    raw.send(&startup(&[("user", "amy"), ("database", "postgres")]));
    let messages = raw.until_ready();
    assert_eq!(tags(&messages), "E");
    let message = error_field(&messages, b'M').unwrap();
    assert!(message.contains("BadSignature"), "{message}");
}

async fn relay_between(client: std::net::TcpStream, server_port: u16) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    client.set_nonblocking(true)?;
    let mut client = tokio::net::TcpStream::from_std(client)?;
    let mut request = [0; 8];
    client.read_exact(&mut request).await?;
    client.write_all(b"S").await?;
    let acceptor = tokio_rustls::TlsAcceptor::from(pki::server_config(&PKI.self_signed));
    let mut client = acceptor.accept(client).await?;
    let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await?;
    server.write_all(&SSL_REQUEST).await?;
    server.read_u8().await?;
    let mut roots = rustls::RootCertStore::empty();
    let ca: rustls::pki_types::CertificateDer =
        rustls::pki_types::pem::PemObject::from_pem_slice(PKI.ca.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut server = connector.connect(name, server).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// libpq takes the hash that it binds to from the certificate; that of a proxy's own certificate must be the same.
#[test]
fn every_kind_of_certificate_has_its_own_binding() {
    let cluster = scram_cluster(18);
    let pair = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap().pem();
        pki::Pair {
            cert,
            key: key.serialize_pem(),
        }
    };
    let not_offered = "channel binding is required, but server did not offer";
    let works = "amy, server leg plain";
    for (name, pair, expect) in [
        ("P-384", pair(&rcgen::PKCS_ECDSA_P384_SHA384), Ok(works)),
        // Its signature has no hash of its own: nothing can be bound to it.
        ("Ed25519", pair(&rcgen::PKCS_ED25519), Err(not_offered)),
    ] {
        let files = Files::new();
        let mut arguments = files.offer(&pair);
        let users = files.put("users.txt", &auth_file(cluster));
        arguments.extend(["--auth", "scram", "--auth-file", &users].map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let stage = Stage::on(cluster, "kinds", QUICK, &arguments);
        let with = |binding: &str| {
            login(
                &stage,
                "amy",
                "secret",
                &format!("sslmode=require channel_binding={binding}"),
            )
        };
        check(with("require"), name, true, expect);
        check(with("prefer"), name, true, Ok(works));
    }
}

/// What counts is the certificate that this client was shown.
#[test]
fn a_new_certificate_does_not_disturb_a_login() {
    let (stage, files) = stage(18, "renewed", false);
    let old = negotiated(stage.port);
    let hash = end_point(&old);
    files.offer(&PKI.proxy_renewed);
    stage.proxy().signal(libc::SIGHUP).unwrap();
    until("the new certificate is shown", || {
        shown(&negotiated(stage.port)) == pki::der(&PKI.proxy_renewed)
    });
    let mut raw = begin(Raw::over(old), "amy", &stage.database).0;
    let mut amy = Amy::new(ChannelBinding::tls_server_end_point(hash), true);
    raw.send(&amy.first());
    let last = amy.last(&mut raw);
    raw.send(&last);
    assert!(tags(&raw.until_ready()).ends_with('Z'));
}

fn end_point(client: &pki::Client) -> Vec<u8> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &shown(client));
    digest.as_ref().to_vec()
}

// --- the raw client -----------------------------------------------------------------------------------------------

/// What a raw client says to be amy with the right password.
struct Amy {
    scram: ScramSha256,
    plus: bool,
}

impl Amy {
    fn new(binding: ChannelBinding, plus: bool) -> Amy {
        Amy {
            scram: ScramSha256::new(b"secret", binding),
            plus,
        }
    }

    fn plain() -> Amy {
        Amy::new(ChannelBinding::unsupported(), false)
    }

    fn first(&self) -> Vec<u8> {
        let mechanism = if self.plus {
            "SCRAM-SHA-256-PLUS"
        } else {
            "SCRAM-SHA-256"
        };
        initial(mechanism, self.scram.message())
    }

    /// After [`Amy::first`] was sent.
    fn last(&mut self, raw: &mut Raw) -> Vec<u8> {
        let (tag, body) = raw.receive().expect("a challenge");
        assert_eq!(
            (tag, &body[..4]),
            (b'R', &[0, 0, 0, 11][..]),
            "{}",
            String::from_utf8_lossy(&body)
        );
        self.scram.update(&body[4..]).expect("a challenge");
        frame(b'p', self.scram.message())
    }
}

fn initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    frame(
        b'p',
        &[&c(mechanism), &(data.len() as u32).to_be_bytes()[..], data].concat(),
    )
}

/// The startup packet is sent and the offer of mechanisms is here.
fn begin(mut raw: Raw, user: &str, database: &str) -> (Raw, Vec<u8>) {
    raw.send(&startup(&[("user", user), ("database", database)]));
    let (tag, body) = raw.receive().expect("an offer");
    assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 10][..]));
    (raw, body[4..].to_vec())
}

const PLAIN_OFFER: &[u8] = b"SCRAM-SHA-256\0\0";
const BOTH_OFFERED: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";

#[test]
fn the_mechanisms_are_offered_as_postgresql_does() {
    for upstream_tls in [false, true] {
        let (stage, _files) = stage(18, "offer", upstream_tls);
        for port in [stage.port, stage.cluster.port()] {
            assert_eq!(begin(Raw::open(port), "amy", &stage.database).1, PLAIN_OFFER);
            assert_eq!(
                begin(Raw::over(negotiated(port)), "amy", &stage.database).1,
                BOTH_OFFERED
            );
        }
    }
}

/// Behind the login everything is the server's: its signature, a query sent ahead, the cancel key, the protocol's version.
#[test]
fn a_session_after_the_login_is_as_any_other() {
    let (stage, _files) = stage(18, "session", true);
    let mut raw = Raw::open(stage.port);
    let parameters = [("user", "amy"), ("database", &stage.database), ("_pq_.nonsense", "1")];
    raw.send(&startup_version((3 << 16) | 9999, &parameters));
    assert_eq!(raw.receive().map(|message| message.0), Some(b'v'));
    assert_eq!(raw.receive(), Some((b'R', [&[0, 0, 0, 10], PLAIN_OFFER].concat())));
    let mut amy = Amy::plain();
    raw.send(&amy.first());
    let last = amy.last(&mut raw);
    raw.send(&[last, frame(b'Q', &c("SELECT 7"))].concat());
    let (tag, body) = raw.receive().expect("an end");
    assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 12][..]));
    amy.scram.finish(&body[4..]).expect("the server's signature");
    let messages = raw.until_ready();
    assert_eq!(messages[0], (b'R', vec![0; 4]));
    let key = messages
        .iter()
        .find(|(tag, _)| *tag == b'K')
        .expect("a cancel key")
        .1
        .clone();
    assert_eq!(rows(&raw.until_ready()), ["7"]);

    raw.send(&frame(b'Q', &c("SELECT pg_sleep(60)")));
    let pid = u32::from_be_bytes(key[..4].try_into().unwrap());
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
    until("the backend sleeps", || stage.direct(&sql) == "1");
    let cancel = [
        &(key.len() as u32 + 8).to_be_bytes()[..],
        &80_877_102_u32.to_be_bytes(),
        &key,
    ]
    .concat();
    tcp(stage.port).write_all(&cancel).unwrap();
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("57014"));
    // The proxy judges what such a session sends.
    let ddl = raw.query("CREATE TEMP TABLE t (id int); ALTER TABLE t ADD COLUMN n int DEFAULT 1");
    assert!(tags(&ddl).contains('C'), "{ddl:?}");
}

#[test]
fn a_user_that_is_not_there_looks_like_one_that_is() {
    let (mut stage, files) = stage(18, "mock", false);
    let shape = |port: u16, user: &str| {
        let (mut raw, offer) = begin(Raw::open(port), user, "postgres");
        let mut amy = Amy::plain();
        raw.send(&initial("SCRAM-SHA-256", amy.scram.message()));
        let (_, challenge) = raw.receive().expect("a challenge");
        amy.scram.update(&challenge[4..]).expect("a challenge");
        // Another password than the right one.
        let proof = String::from_utf8_lossy(amy.scram.message()).into_owned();
        let (front, _) = proof.rsplit_once(",p=").unwrap();
        raw.send(&frame(b'p', format!("{front},p={}=", "A".repeat(43)).as_bytes()));
        let end = raw.until_ready();
        let challenge = String::from_utf8_lossy(&challenge[4..]).into_owned();
        let (_, salt) = challenge.split_once(",s=").expect("a salt");
        let fields = [b'S', b'V', b'C', b'M', b'D', b'H'].map(|field| error_field(&end, field));
        (offer, salt.to_owned(), tags(&end), fields)
    };
    let there = shape(stage.port, "amy");
    let absent = shape(stage.port, "nobody");
    assert_eq!((&there.0, &there.2), (&absent.0, &absent.2));
    assert_eq!(there.1.len(), absent.1.len());
    assert!(
        there.1.ends_with("==,i=4096") && absent.1.ends_with("==,i=4096"),
        "{there:?}"
    );
    assert!(shape(stage.port, "nobody").1 == absent.1, "the salt changes");
    assert!(
        shape(stage.port, "nobody2").1 != absent.1,
        "everybody has the same salt"
    );
    assert_eq!(absent.3[2].as_deref(), Some("28P01"));
    // As the server says it.
    assert_eq!(shape(stage.cluster.port(), "amy").3, there.3);
    assert_eq!(shape(stage.cluster.port(), "nobody").3, absent.3);
    // Another process, the same salt: a restart does not tell who is there.
    stage.kill_proxy();
    let users = files.path("users.txt");
    stage.start_proxy(&["--auth", "scram", "--auth-file", users.to_str().unwrap()]);
    assert_eq!(shape(stage.port, "nobody"), absent);
}

// --- hostile clients ----------------------------------------------------------------------------------------------

/// What the peer says to messages that no client should send, up to its end.
fn said(mut raw: Raw, messages: &[Vec<u8>]) -> [Option<String>; 5] {
    let mut answers: Vec<Message> = Vec::new();
    for message in messages {
        raw.send(message);
        answers.extend(raw.receive());
    }
    answers.extend(raw.until_ready());
    assert!(!tags(&answers).contains('Z'), "a login");
    [b'S', b'V', b'C', b'M', b'D'].map(|field| error_field(&answers, field))
}

fn malformed(major: u32) {
    let (stage, _files) = stage(major, "malformed", false);
    let mut bystander = begin(Raw::open(stage.port), "amy", &stage.database).0;
    let mut amy = Amy::plain();
    bystander.send(&amy.first());
    let last = amy.last(&mut bystander);

    let scram = |data: &str| initial("SCRAM-SHA-256", data.as_bytes());
    let plus = |data: &str| initial("SCRAM-SHA-256-PLUS", data.as_bytes());
    let no_data = frame(b'p', &[&c("SCRAM-SHA-256")[..], &[0xff; 4]].concat());
    let first = [
        frame(b'Q', &c("SELECT 1")),
        initial("SCRAM-SHA-1", b"n,,n=,r=a"),
        plus("p=tls-server-end-point,,n=,r=a"),
        frame(b'p', b"SCRAM-SHA-256"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n"),
        frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x01nn"),
        scram(""),
        scram("n,,n=,r=a\0"),
        scram("x,,n=,r=a"),
        scram("n;"),
        scram("n,a=root,n=,r=a"),
        scram("n,x"),
        scram("p=tls-server-end-point,,n=,r=a"),
        scram("n,,m=1,n=,r=a"),
        scram("n,,r=a"),
        scram("n,,n,"),
        scram("n,,n=amy"),
        scram("n,,n=amy,r=a\u{1}"),
        scram("n,,n=amy,r=a,1=2"),
    ];
    for message in &first {
        let run = |port| {
            said(
                begin(Raw::open(port), "amy", &stage.database).0,
                std::slice::from_ref(message),
            )
        };
        let ours = run(stage.port);
        assert_eq!(
            ours,
            run(stage.cluster.port()),
            "{:?}",
            String::from_utf8_lossy(message)
        );
        assert!(ours[2].is_some(), "{:?}", String::from_utf8_lossy(message));
    }
    for last in [
        "",
        "c=biws",
        "c=biws,r=other,p=AAAA",
        "c=biws,r=NONCE",
        "c=biws,r=NONCE,p=!!!!",
        "c=biws,r=NONCE,p=AAAA",
        "c=biws,r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,x=1",
        "c=biws,r=other,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=eSws,r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "c=biws,r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "r=NONCE,c=biws,p=AAAA",
    ] {
        // With the first message sent at once, and as the answer to an empty challenge.
        for ahead in [true, false] {
            let run = |port| {
                let mut raw = begin(Raw::open(port), "amy", &stage.database).0;
                if ahead {
                    raw.send(&scram("n,,n=,r=abc"));
                } else {
                    raw.send(&no_data);
                    assert_eq!(raw.receive(), Some((b'R', vec![0, 0, 0, 11])));
                    raw.send(&frame(b'p', b"n,,n=,r=abc"));
                }
                let (_, challenge) = raw.receive().expect("a challenge");
                let challenge = String::from_utf8_lossy(&challenge[4..]).into_owned();
                let nonce = challenge.split(',').next().unwrap().trim_start_matches("r=").to_owned();
                said(raw, &[frame(b'p', last.replace("NONCE", &nonce).as_bytes())])
            };
            let ours = run(stage.port);
            assert_eq!(ours, run(stage.cluster.port()), "{last}");
            assert!(ours[2].is_some(), "{last}");
        }
    }
    // PostgreSQL ends these without a word.
    for message in [
        scram(&format!("n,,n=,r={}", "a".repeat(2_000))),
        vec![b'p', 0x7f, 0xff, 0xff, 0xff],
        vec![b'p', 0, 0, 0, 3],
        vec![b'p', 0xff, 0xff, 0xff, 0xff],
    ] {
        let [.., sqlstate, told, _] = said(begin(Raw::open(stage.port), "amy", &stage.database).0, &[message]);
        assert_eq!(
            (sqlstate.as_deref(), told.as_deref()),
            (Some("08P01"), Some("invalid message length"))
        );
    }
    // Of all that nobody else has noticed anything.
    bystander.send(&last);
    let messages = tags(&bystander.until_ready());
    assert!(messages.starts_with("RRS") && messages.ends_with("KZ"), "{messages}");
    assert_eq!(rows(&bystander.query("SELECT 7")), ["7"]);
    assert!(stage.proxy().is_alive());
}

#[test]
fn malformed_messages_harm_only_their_session_18() {
    malformed(18);
}

#[test]
fn malformed_messages_harm_only_their_session_15() {
    malformed(15);
}

#[test]
fn tampering_with_channel_binding_is_refused_as_postgresql_does() {
    let (stage, _files) = stage(18, "tampering", true);
    let other = b"the hash of somebody's certificate".to_vec();
    for (binding, plus, expect) in [
        // Who sees no PLUS in the offer, and could do it, is told a lie by somebody in between.
        (
            ChannelBinding::unrequested(),
            false,
            "SCRAM channel binding negotiation error",
        ),
        (ChannelBinding::unsupported(), true, "malformed SCRAM message"),
        (
            ChannelBinding::tls_server_end_point(other.clone()),
            false,
            "malformed SCRAM message",
        ),
        (
            ChannelBinding::tls_server_end_point(other),
            true,
            "SCRAM channel binding check failed",
        ),
    ] {
        let first = Amy::new(binding, plus);
        let run = |port| {
            let raw = begin(Raw::over(negotiated(port)), "amy", &stage.database).0;
            // Every run starts from the same first message; the challenge differs.
            (raw, first.first())
        };
        let mut told = Vec::new();
        for port in [stage.port, stage.cluster.port()] {
            let (mut raw, message) = run(port);
            raw.send(&message);
            let (tag, body) = raw.receive().expect("an answer");
            let messages = if tag == b'E' {
                vec![(tag, body)]
            } else {
                let challenge = String::from_utf8_lossy(&body[4..]).into_owned();
                let nonce = challenge.split(',').next().unwrap().to_owned();
                raw.send(&frame(
                    b'p',
                    format!("c=cD10bHM=,{nonce},p={}=", "A".repeat(43)).as_bytes(),
                ));
                raw.until_ready()
            };
            told.push([b'C', b'M', b'D'].map(|field| error_field(&messages, field)));
        }
        assert_eq!(told[0], told[1]);
        assert_eq!(told[0][1].as_deref(), Some(expect));
    }
    // The hash of the proxy's own certificate is what a client must send.
    let encrypted = negotiated(stage.port);
    let hash = end_point(&encrypted);
    let mut raw = begin(Raw::over(encrypted), "amy", &stage.database).0;
    let mut amy = Amy::new(ChannelBinding::tls_server_end_point(hash), true);
    raw.send(&amy.first());
    let last = amy.last(&mut raw);
    raw.send(&last);
    assert!(tags(&raw.until_ready()).ends_with('Z'));
}

#[test]
fn a_client_that_does_not_answer_is_told() {
    let files = Files::new();
    let cluster = scram_cluster(18);
    let users = files.put("users.txt", &auth_file(cluster));
    let arguments = [
        "--auth",
        "scram",
        "--auth-file",
        &users,
        "--authentication-timeout-s",
        "1",
    ];
    let stage = Stage::on(cluster, "slow", QUICK, &arguments);
    let mut raw = begin(Raw::open(stage.port), "amy", &stage.database).0;
    let messages = raw.until_ready();
    assert_eq!(tags(&messages), "E");
    let message = error_field(&messages, b'M').unwrap();
    assert!(
        message.contains("authentication was not finished within 1 s"),
        "{message}"
    );
}

// --- the server's side --------------------------------------------------------------------------------------------

#[test]
fn what_the_server_asks_for_instead() {
    let (stage, files) = stage(18, "asks", false);
    for user in ["md5", "cleartext"] {
        let ran = login(&stage, user, "secret", "");
        check(ran, user, false, Err("and --auth scram can answer SCRAM-SHA-256 only"));
        assert!(
            login(&stage, user, "secret", "")
                .stderr
                .contains("HINT:  Let pg_hba.conf say scram-sha-256")
        );
    }
    // The server lets him in; the proxy wants his password all the same.
    let trusted = login(&stage, "trusted", "secret", "sslmode=disable");
    check(trusted, "trust", false, Ok("trusted, server leg plain"));
    let wrong = login(&stage, "trusted", "wrong", "");
    check(
        wrong,
        "trust",
        false,
        Err("password authentication failed for user \"trusted\""),
    );
    // The server's own errors come as they are, before and after the login.
    let rejected = login(&stage, "rejected", "secret", "");
    check(rejected, "reject", false, Err("FATAL:  pg_hba.conf rejects connection"));
    let no_database = login(&stage, "amy", "secret", "dbname=none_such");
    check(
        no_database,
        "database",
        false,
        Err("FATAL:  database \"none_such\" does not exist"),
    );
    let expired = login(&stage, "expired", "secret", "sslmode=disable");
    assert!(
        expired.stderr.contains("password has expired there"),
        "{}",
        expired.stderr
    );
    drop(files);
}

/// The same password set twice makes two verifiers.
#[test]
fn a_verifier_that_is_not_the_servers_is_explained() {
    let (stage, files) = stage(18, "differs", false);
    stage.direct("CREATE ROLE bea LOGIN PASSWORD 'secret'");
    let hangup = |told: &str| {
        let before = stage.proxy_log().matches(told).count();
        stage.proxy().signal(libc::SIGHUP).unwrap();
        until(told, || stage.proxy_log().matches(told).count() > before);
    };
    let wrong = Err("FATAL:  password authentication failed for user \"bea\"");
    let works = Ok("bea, server leg plain");
    let try_with = |password: &str| login(&stage, "bea", password, "sslmode=disable");
    // Not yet in the file that is in use.
    files.put("users.txt", &auth_file(stage.cluster));
    check(try_with("secret"), "before SIGHUP", false, wrong);
    hangup("auth file read again");
    check(try_with("secret"), "after SIGHUP", false, works);

    stage.direct("ALTER ROLE bea PASSWORD 'secret'");
    let ran = try_with("secret");
    assert!(
        ran.stderr.contains("HINT:  lockkeeper: the password is right"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("pg_authid.rolpassword"), "{}", ran.stderr);
    check(ran, "another verifier", false, wrong);
    let ran = try_with("wrong");
    assert!(!ran.stderr.contains("HINT"), "{}", ran.stderr);
    check(ran, "a wrong password", false, wrong);

    // A wrong file changes nothing.
    files.put("users.txt", "\"bea\" \"hunter2\"\n");
    hangup("the auth file is wrong, the old verifiers stay");
    assert!(
        stage
            .proxy_log()
            .contains("user \\\"bea\\\" has a password in plain text")
            || stage.proxy_log().contains("user \"bea\" has a password in plain text"),
        "{}",
        stage.proxy_log()
    );
    assert!(!stage.proxy_log().contains("hunter2"));
    check(
        login(&stage, "amy", "secret", "sslmode=disable"),
        "the old file",
        false,
        Ok("amy, server leg plain"),
    );
    files.put("users.txt", &auth_file(stage.cluster));
    hangup("auth file read again");
    check(try_with("secret"), "copied again", false, works);
}

/// Somebody in the server's place who does not know the verifier.
#[test]
fn a_server_that_cannot_prove_itself_is_refused() {
    let cluster = scram_cluster(18);
    let files = Files::new();
    std::fs::write(files.path("policy.toml"), QUICK).unwrap();
    let users = files.put("users.txt", &auth_file(cluster));
    let ok = frame(b'R', &[0; 4]);
    let sasl = |code: u8, data: &str| frame(b'R', &[&[0, 0, 0, code], data.as_bytes()].concat());
    for (end, expect) in [
        (ok.clone(), "it breaks off the SCRAM exchange"),
        (
            sasl(12, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            "its signature is wrong",
        ),
        (sasl(12, ""), "its server-final-message cannot be read"),
        (frame(b'R', &[0, 0]), "it breaks off the SCRAM exchange"),
        (vec![b'R', 0, 0, 0, 1], "it sent a message of invalid length"),
        (vec![], "it closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ok, offer) = (ok.clone(), sasl(10, "SCRAM-SHA-256\0\0"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4];
            stream.read_exact(&mut head).unwrap();
            let mut rest = vec![0; u32::from_be_bytes(head) as usize - 4];
            stream.read_exact(&mut rest).unwrap();
            stream.write_all(&offer).unwrap();
            let mut raw = Raw::over(stream);
            let (_, first) = raw.receive().expect("a first message");
            let first = String::from_utf8_lossy(&first).into_owned();
            let (_, nonce) = first.split_once(",r=").unwrap();
            let challenge = format!("r={nonce}more,s=c2FsdA==,i=1");
            raw.send(&frame(b'R', &[&[0, 0, 0, 11], challenge.as_bytes()].concat()));
            raw.receive().expect("a proof");
            // The proxy may be gone before the second.
            raw.send(&end);
            if end.len() > 5 {
                raw.send(&[ok, frame(b'Z', b"I")].concat());
            }
        });
        let (_proxy, port) =
            common::start_proxy(&files.path(""), &address, &["--auth", "scram", "--auth-file", &users]);
        let mut raw = begin(Raw::open(port), "amy", "postgres").0;
        let mut amy = Amy::plain();
        raw.send(&amy.first());
        let last = amy.last(&mut raw);
        raw.send(&last);
        let messages = raw.until_ready();
        // Nor has the client got the proxy's signature.
        assert_eq!(tags(&messages), "E", "{expect}");
        assert_eq!(error_field(&messages, b'C').as_deref(), Some("08006"));
        let message = error_field(&messages, b'M').unwrap();
        assert!(message.contains(expect), "{message}");
    }
}

#[test]
fn wrong_files_end_the_program() {
    let files = Files::new();
    let plain = files.put("plain.txt", "; users\n\"amy\" \"hunter2\"\n");
    let none = files.path("none.txt").to_str().unwrap().to_owned();
    for (arguments, expect) in [
        (vec!["--auth", "scram"], "auth-file is not set".to_owned()),
        (vec!["--auth-file", &plain], "give --auth scram too".to_owned()),
        (
            vec!["--auth", "scram", "--auth-file", &none],
            format!("auth-file: cannot read {none}: No such file"),
        ),
        (
            vec!["--auth", "scram", "--auth-file", &plain],
            format!("auth-file: {plain}:2: user \"amy\" has a password in plain text"),
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command
            .args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0"])
            .args(arguments);
        let ran = common::run(command, "");
        assert_eq!(ran.status, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&expect) && !ran.stderr.contains("hunter2"),
            "{}",
            ran.stderr
        );
    }
}
