//! A raw client that proves a password step by step: what it is told at each step, and what it is told when it does what no
//! client should.

use crate::{auth_file, end_point, scram_cluster, stage};
use lockkeeper_testkit::pki::{Files, negotiated, tcp};
use lockkeeper_testkit::raw::{
    Message, Raw, c, cancel_request, error_field, frame, rows, startup, startup_version, tags,
};
use lockkeeper_testkit::{QUICK, Stage, until_asleep};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::io::Write;

/// What a raw client says to be amy with the right password.
pub struct Amy {
    scram: ScramSha256,
    plus: bool,
}

impl Amy {
    pub fn new(binding: ChannelBinding, plus: bool) -> Amy {
        Amy {
            scram: ScramSha256::new(b"secret", binding),
            plus,
        }
    }

    pub fn plain() -> Amy {
        Amy::new(ChannelBinding::unsupported(), false)
    }

    pub fn first(&self) -> Vec<u8> {
        let mechanism = if self.plus {
            "SCRAM-SHA-256-PLUS"
        } else {
            "SCRAM-SHA-256"
        };
        initial(mechanism, self.scram.message())
    }

    /// After [`Amy::first`] was sent.
    pub fn last(&mut self, raw: &mut Raw) -> Vec<u8> {
        let (tag, body) = raw.receive().expect("a challenge");
        self.answer(tag, &body)
    }

    /// The proof, for this challenge.
    pub fn answer(&mut self, tag: u8, body: &[u8]) -> Vec<u8> {
        let told = String::from_utf8_lossy(body);
        assert_eq!((tag, &body[..4]), (b'R', &[0, 0, 0, 11][..]), "{told}");
        self.scram.update(&body[4..]).expect("a challenge");
        frame(b'p', self.scram.message())
    }
}

pub fn initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    frame(
        b'p',
        &[&c(mechanism), &(data.len() as u32).to_be_bytes()[..], data].concat(),
    )
}

/// The startup packet is sent and the offer of mechanisms is here.
pub fn begin(mut raw: Raw, user: &str, database: &str) -> (Raw, Vec<u8>) {
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
    until_asleep(&stage, u32::from_be_bytes(key[..4].try_into().unwrap()));
    tcp(stage.port).write_all(&cancel_request(&key)).unwrap();
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

/// What was overheard once is worth nothing: the nonce is another.
#[test]
fn a_login_cannot_be_replayed() {
    let (stage, _files) = stage(18, "replayed", false);
    for port in [stage.port, stage.cluster.port()] {
        let mut raw = begin(Raw::open(port), "amy", &stage.database).0;
        let mut amy = Amy::plain();
        let first = amy.first();
        raw.send(&first);
        let last = amy.last(&mut raw);
        raw.send(&last);
        assert!(tags(&raw.until_ready()).ends_with('Z'));
        let told = said(begin(Raw::open(port), "amy", &stage.database).0, &[first, last]);
        let [_, _, sqlstate, message, detail] = told.map(Option::unwrap_or_default);
        assert_eq!(
            (sqlstate.as_str(), message.as_str(), detail.as_str()),
            ("08P01", "invalid SCRAM response", "Nonce does not match.")
        );
    }
}

/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` of `secret`.
pub fn verifier(iterations: u32) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use ring::{digest, hmac, pbkdf2};
    let mut salted = [0; 32];
    let rounds = std::num::NonZeroU32::new(iterations).unwrap();
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        b"salt of a test",
        b"secret",
        &mut salted,
    );
    let key = |name: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), name);
    let stored = digest::digest(&digest::SHA256, key(b"Client Key").as_ref());
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode("salt of a test"),
        STANDARD.encode(stored),
        STANDARD.encode(key(b"Server Key"))
    )
}

/// The work is the client's. Few iterations are what PostgreSQL takes too; more than a client can do harm nobody else.
#[test]
fn verifiers_of_few_and_of_absurdly_many_iterations() {
    let cluster = scram_cluster(18);
    let few = verifier(1);
    // Nobody can compute the keys of this one, so they are of another.
    let many = few.replacen("$1:", "$2147483647:", 1);
    for (role, verifier) in [("few", &few), ("many", &many)] {
        // CREATE ROLE would try whether it is that of an empty password.
        let sql = format!(
            "CREATE ROLE {role} LOGIN; UPDATE pg_authid SET rolpassword = '{verifier}' WHERE rolname = '{role}'"
        );
        cluster.psql("postgres", &sql).unwrap();
    }
    let (stage, _files) = stage(18, "iterations", false);
    for port in [stage.port, stage.cluster.port()] {
        let mut raw = begin(Raw::open(port), "few", &stage.database).0;
        let mut amy = Amy::plain();
        raw.send(&amy.first());
        let last = amy.last(&mut raw);
        raw.send(&last);
        assert!(tags(&raw.until_ready()).ends_with('Z'));
        let mut raw = begin(Raw::open(port), "many", &stage.database).0;
        raw.send(&initial("SCRAM-SHA-256", b"n,,n=,r=abc"));
        let (_, challenge) = raw.receive().expect("a challenge");
        assert!(
            challenge.ends_with(b",i=2147483647"),
            "{}",
            String::from_utf8_lossy(&challenge)
        );
        let nonce = String::from_utf8_lossy(&challenge[4..])
            .split(',')
            .next()
            .unwrap()
            .to_owned();
        raw.send(&frame(b'p', format!("c=biws,{nonce},p={}=", "A".repeat(43)).as_bytes()));
        assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("28P01"));
    }
}

/// Whatever it was that a client had to say next, and however slowly it says it; nobody else waits for it.
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
    let mut amy = Amy::plain();
    let first = amy.first();
    let mut waiting: Vec<Raw> = [0, 1, 4, 5, first.len() - 1]
        .into_iter()
        .map(|len| {
            let mut raw = begin(Raw::open(stage.port), "amy", &stage.database).0;
            raw.send(&first[..len]);
            raw
        })
        .collect();
    for cut in [usize::MAX, 1, 10] {
        let mut raw = begin(Raw::open(stage.port), "amy", &stage.database).0;
        amy = Amy::plain();
        raw.send(&amy.first());
        let last = amy.last(&mut raw);
        raw.send(&last[..last.len().saturating_sub(cut)]);
        waiting.push(raw);
    }
    for raw in &mut waiting {
        let messages = raw.until_ready();
        assert_eq!(tags(&messages), "E");
        let message = error_field(&messages, b'M').unwrap();
        assert!(
            message.contains("authentication was not finished within 1 s"),
            "{message}"
        );
    }
    // One byte now and then does not prolong it.
    let mut drip = begin(Raw::open(stage.port), "amy", &stage.database).0;
    let mut writer = drip.writer();
    let dripping = std::thread::spawn(move || {
        first.iter().all(|byte| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writer.write_all(&[*byte]).is_ok()
        })
    });
    let heard = drip.byte();
    assert!(matches!(heard, Some(b'E') | None), "{heard:?}");
    assert!(!dripping.join().unwrap(), "it was heard to its end");
}
