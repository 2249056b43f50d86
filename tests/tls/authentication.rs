//! Every way to authenticate over every pairing of a plain or encrypted client leg and server leg.

use crate::tls_cluster;
use lockkeeper_testkit::encrypted::{self, login, stage_with, words};
use lockkeeper_testkit::pki::{Files, PKI, Pair};
use lockkeeper_testkit::raw::{Raw, error_field, startup};
use lockkeeper_testkit::{Ran, Stage};

/// A proxy for plain and encrypted clients. With an encrypted server leg if `upstream_tls`.
fn stage(major: u32, name: &str, upstream_tls: bool, pair: &Pair) -> (Stage, Files) {
    let files = Files::new();
    let mut arguments = files.offer(pair);
    if upstream_tls {
        let ca = files.put("ca.crt", &PKI.ca);
        arguments.extend(words(&["--upstream-tls", "verify-full", "--upstream-ca", &ca]));
    }
    (stage_with(tls_cluster(major), name, &arguments), files)
}

/// The client's and the server's leg as they must be, or what the error must say.
#[track_caller]
fn check(ran: Ran, cell: &str, expect: Result<(&str, &str), &str>) {
    match expect {
        Ok((client, server)) => {
            let works = format!("server leg {server}");
            encrypted::check(ran, cell, client == "TLS", Ok(&works));
        }
        Err(text) => encrypted::check(ran, cell, false, Err(text)),
    }
}

fn modes(sslmode: &str, channel_binding: &str) -> String {
    format!("sslmode={sslmode} channel_binding={channel_binding}")
}

const NO_TLS: &str = "channel binding required, but SSL not in use";
const NOT_OFFERED: &str =
    "channel binding is required, but server did not offer an authentication method that supports";
const OTHER_CERTIFICATE: &str = "SCRAM channel binding check failed";

fn scram_over_every_pairing(major: u32) {
    let (plain, _a) = stage(major, "scram_plain", false, &PKI.proxy);
    let (both, _b) = stage(major, "scram_both", true, &PKI.proxy);
    let (same, _c) = stage(major, "scram_same", true, &PKI.server);
    let table = [
        (
            "plain / plain",
            &plain,
            "disable",
            [Ok(("plain", "plain")), Ok(("plain", "plain")), Err(NO_TLS)],
        ),
        (
            "TLS / plain",
            &plain,
            "require",
            [Ok(("TLS", "plain")), Ok(("TLS", "plain")), Err(NOT_OFFERED)],
        ),
        (
            "plain / TLS",
            &both,
            "disable",
            [Ok(("plain", "TLS")), Ok(("plain", "TLS")), Err(NO_TLS)],
        ),
        (
            "TLS / TLS",
            &both,
            "require",
            [Err(OTHER_CERTIFICATE), Ok(("TLS", "TLS")), Err(OTHER_CERTIFICATE)],
        ),
        (
            "TLS / TLS, same certificate",
            &same,
            "require",
            [Ok(("TLS", "TLS")), Ok(("TLS", "TLS")), Ok(("TLS", "TLS"))],
        ),
        (
            "plain / TLS, same certificate",
            &same,
            "disable",
            [Ok(("plain", "TLS")), Ok(("plain", "TLS")), Err(NO_TLS)],
        ),
        // psql itself falls back to plain text after the failure.
        (
            "TLS / TLS, sslmode=prefer",
            &both,
            "prefer",
            [Ok(("plain", "TLS")), Ok(("TLS", "TLS")), Err(NO_TLS)],
        ),
    ];
    for (legs, stage, sslmode, cells) in table {
        for (channel_binding, expect) in ["prefer", "disable", "require"].into_iter().zip(cells) {
            let cell = format!("{major}: {legs}, {channel_binding}");
            check(
                login(stage, "scram", "secret", &modes(sslmode, channel_binding)),
                &cell,
                expect,
            );
        }
        let wrong = login(stage, "scram", "wrong", &modes(sslmode, "disable"));
        assert!(!wrong.stderr.contains("HINT"), "{legs}: {}", wrong.stderr);
        check(wrong, legs, Err("password authentication failed for user \"scram\""));
    }
    let failed = login(&both, "scram", "secret", &modes("require", "prefer"));
    for part in [
        "HINT:  lockkeeper: SCRAM channel binding",
        "channel_binding=disable",
        "--tls-cert",
    ] {
        assert!(failed.stderr.contains(part), "{}", failed.stderr);
    }
}

#[test]
fn scram_over_every_pairing_with_15() {
    scram_over_every_pairing(15);
}

#[test]
fn scram_over_every_pairing_with_18() {
    scram_over_every_pairing(18);
}

#[test]
fn md5_and_cleartext_passwords_and_trust_over_every_pairing() {
    for major in [15, 18] {
        let (plain, _a) = stage(major, "other_plain", false, &PKI.proxy);
        let (both, _b) = stage(major, "other_both", true, &PKI.proxy);
        for user in ["md5", "cleartext", "postgres"] {
            for (stage, server) in [(&plain, "plain"), (&both, "TLS")] {
                for (sslmode, client) in [("disable", "plain"), ("require", "TLS")] {
                    let cell = format!("{major}: {user}, {client} / {server}");
                    check(
                        login(stage, user, "secret", &modes(sslmode, "prefer")),
                        &cell,
                        Ok((client, server)),
                    );
                    if user != "postgres" {
                        let refused = Err("password authentication failed");
                        check(login(stage, user, "wrong", &modes(sslmode, "prefer")), &cell, refused);
                    }
                }
            }
        }
    }
}

#[test]
fn a_client_that_does_not_answer_the_server_is_let_go() {
    let stage = stage_with(tls_cluster(18), "silent", &words(&["--authentication-timeout-s", "1"]));
    // Nothing, a part of a header, a header alone.
    for sent in [&b""[..], b"p\0", b"p\0\0\0\x20"] {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[("user", "scram"), ("database", &stage.database)]));
        assert_eq!(raw.receive().map(|message| message.0), Some(b'R'));
        raw.send(sent);
        let messages = raw.until_ready();
        assert_eq!(error_field(&messages, b'C').as_deref(), Some("08006"));
        let message = error_field(&messages, b'M').unwrap();
        assert!(
            message.contains("did not finish authentication within 1 s"),
            "{message}"
        );
    }
    let ready = login(&stage, "scram", "secret", "sslmode=disable");
    check(ready, "another", Ok(("plain", "plain")));
}

#[test]
fn a_role_that_is_not_there_gets_no_hint_about_channel_binding() {
    let (both, _files) = stage(18, "no_role", true, &PKI.proxy);
    let ran = login(&both, "nobody_by_this_name", "secret", &modes("require", "prefer"));
    assert_eq!(ran.status, 2);
    assert!(
        ran.stderr.contains("role \"nobody_by_this_name\" does not exist"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("HINT"), "{}", ran.stderr);
}

/// A driver with SCRAM of its own, which knows nothing of channel binding without TLS.
#[test]
fn tokio_postgres_and_node_postgres_log_in_over_an_encrypted_server_leg() {
    let (both, _files) = stage(18, "drivers", true, &PKI.proxy);
    let node = both.node(
        "const { Client } = require('pg');
         (async () => {
           for (const ssl of [false, { rejectUnauthorized: false }]) {
             const client = new Client({ user: 'scram', password: 'secret', ssl });
             await client.connect();
             console.log((await client.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')).rows[0].ssl);
             await client.end();
           }
         })().catch(e => { console.error(e); process.exit(1); });",
    );
    assert_eq!(node.ok(), "true\ntrue\n");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let text = format!(
            "host=127.0.0.1 port={} user=scram password=secret dbname={} sslmode=prefer",
            both.port, both.database
        );
        let (client, connection) = tokio_postgres::connect(&text, tokio_postgres::NoTls)
            .await
            .expect("a login");
        tokio::spawn(connection);
        let row = client
            .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
            .await
            .expect("one row");
        assert!(row.get::<_, bool>(0));
    });
}
