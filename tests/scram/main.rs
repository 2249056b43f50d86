//! `--auth scram`: the proxy ends SCRAM with the client, with psql and a raw client against PostgreSQL 15 and 18. What a
//! client is told is compared with what the server itself would say.

mod auth_query;
mod hostile;

use hostile::{Amy, begin};
use lockkeeper_cluster::{Cluster, clean_environment};
use lockkeeper_testkit::encrypted::{check, hangup, login, stage_with, tls_server, words};
use lockkeeper_testkit::pki::{self, Files, PKI, SSL_REQUEST, negotiated, shown};
use lockkeeper_testkit::raw::{Raw, error_field, frame, startup, tags};
use lockkeeper_testkit::{QUICK, Stage, until};
use postgres_protocol::authentication::sasl::ChannelBinding;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, OnceLock};

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
    slot.get_or_init(|| tls_server(major, &[("log_connections", "on")], HBA, ROLES))
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
    arguments.extend(words(&["--auth", "scram", "--auth-file", &users]));
    if upstream_tls {
        let ca = files.put("ca.crt", &PKI.ca);
        arguments.extend(words(&["--upstream-tls", "verify-full", "--upstream-ca", &ca]));
    }
    (stage_with(cluster, name, &arguments), files)
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
        lockkeeper_testkit::start_proxy(&files.path(""), &between.to_string(), &arguments)
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
    let (_proxy, port) = lockkeeper_testkit::start_proxy(&files.path(""), &address, &arguments);
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
        arguments.extend(words(&["--auth", "scram", "--auth-file", &users]));
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

/// On a Unix socket nobody is trusted more; and the server, which trusts everybody on its own, does not see the client.
#[test]
fn unix_sockets_on_both_sides() {
    let cluster = scram_cluster(18);
    let files = Files::new();
    std::fs::write(files.path("policy.toml"), QUICK).unwrap();
    let users = files.put("users.txt", &auth_file(cluster));
    let directory = files.path("").display().to_string();
    let listen = format!("{}:7002", directory.trim_end_matches('/'));
    let upstream = format!("{}:{}", cluster.socket_dir().display(), cluster.port());
    let arguments = ["--auth", "scram", "--auth-file", &users, "--listen", &listen];
    let (_proxy, port) = lockkeeper_testkit::start_proxy(&files.path(""), &upstream, &arguments);
    let mut stage = Stage::without_proxy(cluster, "unix");
    stage.port = port;
    until("the socket is there", || files.path(".s.PGSQL.7002").exists());
    for host in [&*format!("host={directory} port=7002"), "sslmode=disable"] {
        let try_as = |user, password| login(&stage, user, password, host).status;
        assert_eq!(try_as("amy", "secret"), 0, "{host}");
        assert_eq!(try_as("amy", "wrong"), 2, "{host}");
        assert_eq!(try_as("nobody", "secret"), 2, "{host}");
    }
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
    let wrong = Err("FATAL:  password authentication failed for user \"bea\"");
    let works = Ok("bea, server leg plain");
    let try_with = |password: &str| login(&stage, "bea", password, "sslmode=disable");
    // Not yet in the file that is in use.
    files.put("users.txt", &auth_file(stage.cluster));
    check(try_with("secret"), "before SIGHUP", false, wrong);
    hangup(&stage, "auth file read again");
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
    hangup(&stage, "the auth file is wrong, the old verifiers stay");
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
    hangup(&stage, "auth file read again");
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
            lockkeeper_testkit::start_proxy(&files.path(""), &address, &["--auth", "scram", "--auth-file", &users]);
        let mut raw = begin(Raw::open(port), "amy", "postgres").0;
        let mut amy = Amy::plain();
        raw.send(&amy.first());
        let last = amy.last(&mut raw);
        raw.send(&last);
        let messages = raw.until_ready();
        // Nor has the client got the proxy's signature.
        assert_eq!(tags(&messages), "E", "{expect}");
        // One that hangs up may be going down: the client is told to try the next.
        let hangs_up = expect == "it closed the connection";
        let code = if hangs_up { "57P03" } else { "08006" };
        assert_eq!(error_field(&messages, b'C').as_deref(), Some(code), "{expect}");
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
        let ran = lockkeeper_testkit::run(command, "");
        assert_eq!(ran.status, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&expect) && !ran.stderr.contains("hunter2"),
            "{}",
            ran.stderr
        );
    }
}

/// The proxy's own connection logs in by SCRAM over TLS as any client does; with a wrong password that is said, and nothing else fails.
#[test]
fn the_control_connection_logs_in_over_tls() {
    let files = Files::new();
    for major in [15, 18] {
        let control = |password: &str, name: &str| {
            let ca = files.put("ca.crt", &PKI.ca);
            let dsn = format!("user=amy password={password} dbname=postgres application_name={name}");
            let arguments = [
                "--upstream-tls",
                "verify-ca",
                "--upstream-ca",
                &ca,
                "--control-dsn",
                &dsn,
            ];
            stage_with(scram_cluster(major), "control", &words(&arguments))
        };
        let stage = control("secret", "watching");
        let seen = "SELECT usename, ssl, version FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE application_name = 'watching'";
        until("it is there", || stage.direct(seen) == "amy|t|TLSv1.3");
        let stage = control("wrong", "refused");
        until("it is told", || {
            let log = stage.proxy_log();
            log.contains("no control connection") && log.contains("password authentication failed for user \\\"amy\\\"")
        });
        assert_eq!(stage.psql_args(&["-At", "-U", "trusted"], "SELECT 1").ok(), "1\n");
    }
}
