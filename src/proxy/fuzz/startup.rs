//! The first packet, in any pieces, against a reader of the whole.

use super::super::startup::{First, read_first_packet};
use super::super::stream::Stream;
use super::memory::Memory;
use crate::fuzz::Input;
use lockkeeper_wire::messages::{self as wire, HEADER};
use lockkeeper_wire::startup::{Parameters, startup_parameters, user_name};
use std::task::{Context, Poll, Waker};

const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let pieces: Vec<usize> = (0..1 + flags % 4).map(|_| 1 + usize::from(input.byte())).collect();
    let bytes = packets(&mut input);
    let offers_tls = flags & 4 != 0;
    let ends = flags & 8 != 0;
    let memory = Memory::cut(&bytes, &pieces, ends);
    let boundaries: Vec<usize> = memory
        .arriving
        .iter()
        .scan(0, |at, piece| {
            *at += piece.len();
            Some(*at)
        })
        .collect();
    let expected = expect(&bytes, &boundaries, offers_tls, ends);
    let mut client = Stream::Memory(memory);
    let first = first(&mut client, offers_tls);
    let Stream::Memory(client) = client else { unreachable!() };
    assert_eq!(
        (first, client.written),
        (expected.0, expected.1),
        "{bytes:?} in {boundaries:?}"
    );
    parameters(&bytes);
    mechanisms(&bytes);
}

/// Packets whose lengths are right but for a few, so that the fuzzer need not find them.
fn packets(input: &mut Input) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.is_empty() {
        let packet =
            |code: u32, body: &[u8]| [&(8 + body.len() as u32).to_be_bytes(), &code.to_be_bytes(), body].concat();
        let length = usize::from(input.number()) % 300;
        match input.byte() % 8 {
            0 => bytes.extend(packet(SSL, b"")),
            1 => bytes.extend(packet(GSSENC, b"")),
            2 => bytes.extend(packet(CANCEL, input.bytes(length))),
            3 | 4 => bytes.extend(packet(3 << 16 | u32::from(input.byte() % 3), input.bytes(length))),
            5 => bytes.extend(packet(input.of(&[SSL, GSSENC]), input.bytes(length % 4))),
            // Around the limit, and past it.
            6 => bytes.extend(packet(196_608, &vec![b'a'; 9_970 + length])),
            _ => bytes.extend_from_slice(input.bytes(length)),
        }
    }
    bytes
}

/// None: it waits for more.
fn first(client: &mut Stream, offers_tls: bool) -> Option<Result<First, String>> {
    let mut read = std::pin::pin!(read_first_packet(client, offers_tls));
    let mut cx = Context::from_waker(Waker::noop());
    // A piece is at least a byte, and each makes it wait once.
    for _ in 0..30_000 {
        if let Poll::Ready(first) = read.as_mut().poll(&mut cx) {
            return Some(first);
        }
    }
    None
}

type Expected = (Option<Result<First, String>>, Vec<u8>);

fn expect(bytes: &[u8], boundaries: &[usize], offers_tls: bool, ends: bool) -> Expected {
    let mut answered = Vec::new();
    let mut asked = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let short = |in_packet: bool| match (ends, in_packet) {
            (false, _) => None,
            (true, false) => Some(Ok(First::Nothing)),
            (true, true) => Some(Ok(First::Malformed("incomplete startup packet"))),
        };
        let refused = |why: &str| Some(Err(why.to_string()));
        let Some(length) = rest.get(..4) else {
            return (short(false), answered);
        };
        if length[0] == 0x16 {
            return (Some(Ok(First::Nothing)), answered);
        }
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        if !(8..=10_000).contains(&length) {
            let malformed = First::Malformed("invalid length of startup packet");
            return (Some(Ok(malformed)), answered);
        }
        let Some(packet) = rest.get(..length) else {
            return (short(true), answered);
        };
        at += length;
        match u32::from_be_bytes(packet[4..8].try_into().unwrap()) {
            SSL | GSSENC if length != 8 => return (refused("invalid length of a request for encryption"), answered),
            code @ (SSL | GSSENC) => {
                if asked.contains(&code) {
                    return (refused("a second request for encryption"), answered);
                }
                asked.push(code);
                if at < bytes.len() && !boundaries.contains(&at) {
                    let why = "received unencrypted data after a request for encryption";
                    return (refused(why), answered);
                }
                if code == SSL && offers_tls {
                    answered.push(b'S');
                    return (Some(Ok(First::Encrypt)), answered);
                }
                answered.push(b'N');
            }
            CANCEL if length <= 12 => {
                let malformed = First::Malformed("invalid length of a cancel request");
                return (Some(Ok(malformed)), answered);
            }
            CANCEL => return (Some(Ok(First::Cancel(packet.to_vec()))), answered),
            _ => return (Some(Ok(First::Startup(packet.to_vec()))), answered),
        }
    }
}

/// What is read of a startup packet, against pairs of whole strings.
fn parameters(packet: &[u8]) {
    let body = packet.get(8..).unwrap_or_default();
    let mut strings: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
    // Behind the last NUL is no string.
    strings.pop();
    let pairs: Vec<_> = strings
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .take_while(|(name, _)| !name.is_empty())
        .collect();
    let last = |wanted: &[u8]| {
        pairs
            .iter()
            .rev()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    let text = |wanted: &[u8]| String::from_utf8_lossy(last(wanted).unwrap_or_default()).into_owned();
    let user = text(b"user");
    let database = Some(text(b"database")).filter(|name| !name.is_empty());
    let got = startup_parameters(packet);
    let expected = Parameters {
        database: database.unwrap_or_else(|| user.clone()),
        user,
        application_name: text(b"application_name"),
        replication: got.replication,
    };
    assert_eq!(got, expected);
    assert!(last(b"replication").is_some() || !got.replication);
    let mut user = last(b"user").unwrap_or_default().to_vec();
    user.truncate(63);
    assert_eq!(user_name(packet), user);
}

/// The server's offer of mechanisms as it is passed on to a client without TLS.
fn mechanisms(body: &[u8]) {
    let mut frame = bytes::BytesMut::new();
    wire::put_authentication(&mut frame, wire::AUTHENTICATION_SASL, body);
    let offered: Vec<Vec<u8>> = wire::mechanisms(&frame).iter().map(|name| name.to_vec()).collect();
    let read: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
    let whole = &read[..read.len() - 1];
    let expected: Vec<&[u8]> = whole.iter().copied().take_while(|name| !name.is_empty()).collect();
    assert_eq!(offered, expected);
    let kept: Vec<_> = offered.iter().filter(|name| !name.ends_with(b"-PLUS")).collect();
    match wire::without_channel_binding(&frame) {
        Some(stripped) => {
            assert_eq!(
                wire::frame_len(stripped.first_chunk::<HEADER>().unwrap()),
                Some(stripped.len())
            );
            assert_eq!(wire::mechanisms(&stripped), kept);
            assert!(kept.len() < offered.len());
        }
        None => assert!(kept.is_empty() || kept.len() == offered.len()),
    }
}
