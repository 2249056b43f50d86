//! The first packets of a connection.

use lockkeeper_testkit::raw::{Raw, error_field, rows, startup, startup_version, status};
use lockkeeper_testkit::{QUICK, Stage, on_both};

on_both!(startup_packets_of_all_kinds,);

pub fn startup_packets_of_all_kinds(major: u32) {
    let stage = Stage::with(major, "startup", QUICK);
    // Requests for encryption are declined, each once.
    let mut raw = Raw::open(stage.port);
    for code in [80_877_104u32, 80_877_103] {
        raw.send(&[&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat());
        assert_eq!(raw.byte(), Some(b'N'));
    }
    raw.send(&startup(&[
        ("user", "postgres"),
        ("database", &stage.database),
        ("options", "-c geqo=off"),
    ]));
    assert_eq!(status(&raw.until_ready()), Some('I'));
    assert_eq!(rows(&raw.query("SHOW geqo")), ["off"]);

    let mut raw = Raw::open(stage.port);
    raw.send(&[&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat());
    assert_eq!(raw.byte(), Some(b'N'));
    raw.send(&[&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));

    // What stands behind a request for encryption could have been put there by somebody in between.
    let mut raw = Raw::open(stage.port);
    let request = [&8u32.to_be_bytes()[..], &80_877_103u32.to_be_bytes()].concat();
    raw.send(&[request, startup(&[("user", "postgres"), ("database", &stage.database)])].concat());
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("08P01"));
    assert!(raw.receive().is_none());

    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 7, 0, 3, 0, 0]] {
        let mut raw = Raw::open(stage.port);
        raw.send(junk);
        // As the server does: what is no packet gets no answer, which would only mislead whatever sent it.
        assert_eq!(raw.byte(), None);
        let mut raw = Raw::open(stage.cluster.port());
        raw.send(junk);
        assert_eq!(raw.byte(), None);
    }
    for port in [stage.port, stage.cluster.port()] {
        // Half of a packet, and a cancel request without a key.
        let mut raw = Raw::open(port);
        raw.send(&[0, 0, 1, 0, 0, 3, 0, 0, b'u']);
        raw.writer().shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(raw.byte(), None);
        let mut raw = Raw::open(port);
        raw.send(&[&8u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes()].concat());
        assert_eq!(raw.byte(), None);
    }

    // A newer protocol and unknown options are negotiated by the server itself.
    for version in [196_610, 196_608 + 9_999] {
        let packet = startup_version(
            version,
            &[
                ("user", "postgres"),
                ("database", &stage.database),
                ("_pq_.wobble", "1"),
            ],
        );
        let play = |port| {
            let mut raw = Raw::open(port);
            raw.send(&packet);
            let mut answer = raw.until_ready();
            answer.retain(|(tag, _)| *tag != b'K');
            answer
        };
        assert_eq!(play(stage.port), play(stage.cluster.port()));
    }
    // An unknown database and an unknown role: the server's own words.
    for (user, database) in [("postgres", "nowhere"), ("nobody_here", "postgres")] {
        let mut raw = Raw::open(stage.port);
        raw.send(&startup(&[("user", user), ("database", database)]));
        assert!(matches!(
            error_field(&raw.until_ready(), b'C').as_deref(),
            Some("3D000" | "28000")
        ));
    }
}
