//! A relay between two streams that are cut anywhere, against a plain reader of the whole streams: every frame is seen once,
//! whole and in order, what needs a look never passes without, all else passes as it is, and no more is held than may be.

use super::super::buffer::Poured as _;
use super::super::end::Broken;
use super::super::held;
use super::super::relay::{Event, Mode, Relay};
use super::super::settings::Limits;
use super::super::stream::Stream;
use super::memory::Memory;
use crate::fuzz::Input;
use crate::plan::gate::{Gate, gate, may_use_prepared};
use lockkeeper_wire::messages::{self as wire, HEADER};
use lockkeeper_wire::responses::OnAnswer;
use std::task::{Context, Poll, Waker};

const STATEMENT_BYTES_MAX: usize = 100_000;
/// Of what is prepared and bound.
const HELD_BYTES_MAX: usize = 5_000;
/// As in the relay: longer messages of the server are not read.
const READ_MAX: usize = 60 << 10;
const AUTHENTICATION_MAX: usize = 65_535;
/// Of a buffer, above what a frame needs that is held.
const BUFFER_MAX: usize = (64 << 10) + (8 << 10);

const NAMES: [&[u8]; 4] = [b"", b"s", b"t", b"long name of a statement"];
const TEXTS: [&[u8]; 12] = [
    b"SELECT 1",
    b"DROP TABLE t",
    b"",
    b"BEGIN",
    b"UPDATE t SET a = 1",
    b"SELECT 1; DROP TABLE t",
    b"EXECUTE s",
    b"DEALLOCATE ALL",
    b"SET search_path = x",
    b"/* ' */ SELECT 2 -- '",
    b"COMMIT; VACUUM",
    b"\xff'\\",
];

/// Of both streams together, so that no input takes long.
const STREAMS_BYTES_MAX: usize = 300_000;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let mut cuts = || (0..1 + input.below(5)).map(|_| length(&mut input)).collect::<Vec<_>>();
    let (client_cuts, server_cuts, rooms) = (cuts(), cuts(), [cuts(), cuts()]);
    let answers = input.byte();
    let (up, down) = streams(&mut input);
    let stream = |bytes: &[u8], cuts: &[usize], ends: bool, rooms: &[usize]| {
        let mut memory = Memory::cut(bytes, cuts, ends);
        memory.room = rooms.iter().flat_map(|room| [*room, 0]).collect();
        Stream::Memory(memory)
    };
    let client = stream(&up, &client_cuts, flags & 1 != 0, &rooms[0]);
    let server = stream(&down, &server_cuts, flags & 2 != 0, &rooms[1]);
    let limits = Limits {
        statement_bytes_max: STATEMENT_BYTES_MAX,
        held_bytes_max: HELD_BYTES_MAX,
        ..Limits::default()
    };
    let relay = Relay::new(client, server, &limits, Default::default());
    let mut play = Play {
        relay,
        client: &up,
        frames: frames(&up),
        fates: Vec::new(),
        mode: if flags & 8 != 0 {
            Mode::Authenticate
        } else {
            Mode::Forward
        },
        on_answer: if flags & 4 != 0 {
            OnAnswer::Note
        } else {
            OnAnswer::Forward
        },
        choices: u64::from(answers),
        discards: false,
        may_skip: down.contains(&b'E'),
    };
    let to_the_end = play.run();
    play.compare(&down, to_the_end);
}

/// A length that need not be small, from one byte.
fn length(input: &mut Input) -> usize {
    match input.byte() {
        small @ ..=199 => usize::from(small),
        large => usize::from(large - 199) * 1_499,
    }
}

/// The messages of both sides in the order in which the fuzzer thought of them.
fn streams(input: &mut Input) -> (Vec<u8>, Vec<u8>) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    while !input.is_empty() && up.len() + down.len() < STREAMS_BYTES_MAX {
        let choice = input.byte();
        let side = if choice < 128 { &mut up } else { &mut down };
        side.extend(match choice < 128 {
            true => frontend(choice, input),
            false => backend(choice - 128, input),
        });
    }
    (up, down)
}

fn frame(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    wire::put_frame(&mut out, tag, |b| {
        body.iter().for_each(|part| b.extend_from_slice(part))
    });
    out.to_vec()
}

fn text(input: &mut Input) -> Vec<u8> {
    match input.byte() {
        known @ ..=199 => TEXTS[usize::from(known) % TEXTS.len()].to_vec(),
        200..=229 => {
            let length = input.below(40);
            input.bytes(length).to_vec()
        }
        // As long as one may be, and a little longer.
        _ => [
            TEXTS[input.below(2)],
            &vec![b' '; length(input) + input.below(2) * 40_000],
        ]
        .concat(),
    }
}

fn filler(input: &mut Input) -> Vec<u8> {
    vec![input.byte(); length(input)]
}

fn frontend(choice: u8, input: &mut Input) -> Vec<u8> {
    let name = |input: &mut Input| input.of(&NAMES);
    match choice % 24 {
        0..=4 => frame(b'Q', &[&text(input), b"\0"]),
        5..=8 => frame(b'P', &[name(input), b"\0", &text(input), b"\0\0\0"]),
        9 | 10 => frame(b'B', &[name(input), b"\0", name(input), b"\0", &filler(input)]),
        11 => frame(b'E', &[name(input), b"\0\0\0\0\0"]),
        12 => frame(b'C', &[&[input.of(b"SP?")], name(input), b"\0"]),
        13 => frame(b'D', &[&[input.of(b"SP")], name(input), b"\0"]),
        14 | 15 => frame(b'S', &[]),
        16 => frame(b'd', &[&filler(input)]),
        17 => frame(input.of(b"cfHpX"), &[&filler(input)]),
        18 => frame(b'F', &[&filler(input)]),
        19 => frame(input.byte(), &[&filler(input)]),
        20 => vec![input.of(b"QPBECDSdX"), 0, 0, 0, input.byte() % 16],
        21 => [&[input.of(b"QPBECDSdX")][..], input.bytes(4)].concat(),
        // Many small ones at once.
        22 => frame(b'S', &[]).repeat(length(input)),
        _ => {
            let length = input.below(60);
            input.bytes(length).to_vec()
        }
    }
}

fn backend(choice: u8, input: &mut Input) -> Vec<u8> {
    match choice % 24 {
        0..=3 => frame(b'Z', &[&[input.of(b"ITE")]]),
        4 => frame(b'1', &[]),
        5 => frame(b'2', &[]),
        6 => frame(b'3', &[]),
        7 => frame(b'T', &[&filler(input)]),
        8 => frame(b'D', &[&vec![b'x'; input.below(200)]]).repeat(input.below(256)),
        9 => frame(b'D', &[&filler(input)]),
        10 => frame(b'd', &[b"1\n"]).repeat(length(input)),
        11 => frame(
            b'C',
            &[input.of(&[&b"SELECT 1\0"[..], b"COMMIT\0", b"ROLLBACK\0", b"BEGIN\0", b"INSERT"])],
        ),
        12 => frame(b'E', &[b"SERROR\0C42601\0Mno\0P7\0\0", &filler(input)]),
        13 => frame(b'N', &[b"SNOTICE\0C00000\0Mhear\0\0"]),
        14 => frame(
            b'S',
            &[input.of(&[
                &b"standard_conforming_strings\0off\0"[..],
                b"standard_conforming_strings\0on\0",
                b"client_encoding\0SJIS\0",
                b"client_encoding",
                b"server_version\x0018.1\0",
            ])],
        ),
        15 => frame(b'K', &[&filler(input)]),
        16 => frame(input.of(b"GHW"), &[&[0, 0, 0]]),
        17 => frame(b'R', &[&u32::from(input.byte() % 13).to_be_bytes(), &filler(input)]),
        18 => frame(input.of(b"Istnc"), &[]),
        19 => frame(input.byte(), &[&filler(input)]),
        20 => vec![input.of(b"ZDTCESK"), 0, 0, 0, input.byte() % 16],
        21 => [&[input.of(b"ZDTCESK")][..], input.bytes(4)].concat(),
        22 => frame(b'Z', &[&filler(input)]),
        _ => {
            let length = input.below(60);
            input.bytes(length).to_vec()
        }
    }
}

/// One message of a stream, or what is there of the last.
struct Frame {
    tag: u8,
    start: usize,
    /// None: no message can have the length that it says.
    end: Option<usize>,
}

/// Of a whole stream, in the simplest way.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(header) = bytes.get(start..start + HEADER) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let end = (4..=0x7fff_ffff).contains(&length).then(|| start + 1 + length as usize);
        found.push(Frame {
            tag: header[0],
            start,
            end,
        });
        match end {
            Some(end) => start = end,
            None => break,
        }
    }
    found
}

/// What became of a frame of the client's.
enum Fate {
    Passed,
    Dropped,
    Replaced(Vec<u8>),
}

struct Play<'a> {
    relay: Relay,
    client: &'a [u8],
    frames: Vec<Frame>,
    /// Of the first of the frames; the one behind them is next to be judged.
    fates: Vec<Fate>,
    mode: Mode,
    /// What is done with the answers to them.
    on_answer: OnAnswer,
    /// What is done with the frames that need a look.
    choices: u64,
    /// The client's messages go nowhere until its Sync.
    discards: bool,
    /// The server has reported an error: after that a statement may be one that it skips.
    may_skip: bool,
}

impl Play<'_> {
    /// Until one side is gone (false), or nothing more can come.
    fn run(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        // Once nothing more comes in, the peers still make room step by step.
        let mut polls_left = 40;
        let mut stuck = 0;
        let mut unsettled = false;
        while polls_left > 0 {
            if unread(&self.relay.client) + unread(&self.relay.server) == 0 {
                polls_left -= 1;
            }
            let polled = self.relay.poll(&mut cx, self.mode);
            self.follow();
            self.bounded();
            stuck = if polled.is_pending() { stuck + 1 } else { 0 };
            match polled {
                // A session would wait for ever.
                Poll::Pending if self.mode == Mode::Settle && stuck > 3 && unsettled => return false,
                Poll::Pending if self.mode == Mode::Settle && stuck > 3 => self.mode = Mode::Forward,
                // Both sides have sent what they had, but one is not read.
                Poll::Pending if stuck > 600 => return true,
                Poll::Pending => {}
                Poll::Ready(Err(Broken::Protocol(what))) => {
                    self.is_violation(&what);
                    return false;
                }
                Poll::Ready(Ok(Event::Quiescent)) => {
                    let relay = &self.relay;
                    assert!(relay.responses.quiescent() && relay.up.written() && relay.down.written());
                    assert!(relay.status != 0 && self.mode != Mode::Forward);
                    self.mode = Mode::Forward;
                    unsettled = false;
                }
                // Of what is owed a session asks the server, which nobody plays here.
                Poll::Ready(Ok(Event::Uncounted)) => return false,
                Poll::Ready(Ok(Event::ClientGone | Event::ServerGone | Event::Stopped) | Err(_)) => return false,
                // As the session does it.
                Poll::Ready(Ok(Event::Unsettled)) => (self.mode, unsettled) = (Mode::Settle, true),
                Poll::Ready(Ok(event)) => {
                    self.check_event(&event);
                    self.answer(&event, &mut cx);
                    // What is done about it takes a poll or two.
                    polls_left = polls_left.max(5);
                }
            }
        }
        true
    }

    fn next(&self) -> Option<&Frame> {
        self.frames.get(self.fates.len())
    }

    /// The bytes of a frame as far as they were sent, and whether that is all of it.
    fn bytes(&self, frame: &Frame) -> (&[u8], bool) {
        let end = frame.end.unwrap_or(frame.start + HEADER);
        (
            &self.client[frame.start..end.min(self.client.len())],
            end <= self.client.len(),
        )
    }

    /// Takes note of the frames that have passed since the last time, none of which may have needed a look.
    fn follow(&mut self) {
        let judged = self.client.len() - unread(&self.relay.client) - self.relay.up.unjudged().len();
        while let Some(frame) = self.next().filter(|frame| frame.start < judged) {
            let (bytes, whole) = self.bytes(frame);
            let shown = || bytes[..bytes.len().min(200)].escape_ascii().to_string();
            let length = frame.end.expect("an impossible length has passed") - frame.start;
            let discarded = self.discards && !matches!(frame.tag, b'S' | b'X');
            if !discarded {
                match self.mode {
                    Mode::Forward => assert!(!self.needs_a_look(frame.tag, bytes, whole), "unseen: {}", shown()),
                    Mode::Authenticate => assert!(
                        matches!(frame.tag, b'p' | b'X') && length <= AUTHENTICATION_MAX,
                        "before authentication: {}",
                        shown()
                    ),
                    Mode::Settle => assert!(
                        matches!(frame.tag, b'd' | b'c' | b'f' | b'S' | b'H' | b'X'),
                        "while the session settles: {}",
                        shown()
                    ),
                }
                self.discards = false;
            }
            self.fates.push(if discarded { Fate::Dropped } else { Fate::Passed });
        }
    }

    /// Whether a frame may not pass unseen, as far as the frame and the names that are held tell.
    fn needs_a_look(&self, tag: u8, bytes: &[u8], whole: bool) -> bool {
        let held = |name: &[u8]| self.relay.held.statement(name).is_some();
        let strings: Vec<&[u8]> = bytes[HEADER..].split(|byte| *byte == 0).collect();
        // Behind the last NUL is no string.
        let strings = &strings[..strings.len() - 1];
        let dangerous =
            |text: &[u8]| gate(text) == Gate::Read || (self.relay.held.has_statements() && may_use_prepared(text));
        match tag {
            b'Q' | b'P' if self.may_skip => false,
            b'Q' | b'P' if !whole => true,
            b'Q' => bytes.ends_with(b"\0") && strings.len() == 1 && dangerous(strings[0]),
            b'P' => {
                let [name, text, ..] = strings else { return false };
                let types = &bytes[HEADER + name.len() + text.len() + 2..];
                let count = types.first_chunk().map(|count| usize::from(u16::from_be_bytes(*count)));
                count.is_some_and(|count| types.len() == 2 + 4 * count) && (held(name) || dangerous(text))
            }
            b'B' => strings.get(1).is_some_and(|name| held(name)),
            b'C' => bytes[HEADER..].first() == Some(&b'S') && strings.first().is_some_and(|name| held(&name[1..])),
            _ => false,
        }
    }

    /// The frame of an event is the next of the stream, and all of it is here.
    fn check_event(&self, event: &Event) {
        let frame = self.next().expect("an event without a frame");
        let (bytes, whole) = self.bytes(frame);
        let here = self.relay.up.unjudged();
        let (tag, length) = match *event {
            Event::Query(length) => (b'Q', length),
            Event::Parse(length) => (b'P', length),
            Event::Bind(length) => (b'B', length),
            Event::Execute(length) => (b'E', length),
            Event::Close(length) => (b'C', length),
            Event::Describe(length) => (b'D', length),
            Event::TooLarge(tag, length) => (tag, length),
            _ => unreachable!("{event:?}"),
        };
        assert_eq!((tag, Some(frame.start + length)), (frame.tag, frame.end));
        match event {
            Event::TooLarge(..) => {
                match tag {
                    b'B' => assert!(!self.relay.held.fits(length)),
                    _ => assert!(length > STATEMENT_BYTES_MAX && matches!(tag, b'Q' | b'P')),
                }
                let some = here.len().min(bytes.len());
                assert_eq!(here[..some], bytes[..some]);
            }
            _ => assert!(whole && here[..length] == *bytes, "another frame"),
        }
    }

    /// As a session might.
    fn answer(&mut self, event: &Event, cx: &mut Context<'_>) {
        let frame = self.next().expect("an event has one");
        let (bytes, _) = self.bytes(frame);
        let length = frame.end.map_or(0, |end| end - frame.start);
        let name = match event {
            Event::Parse(_) => wire::parse_message(bytes).map(|parse| parse.name.to_vec()),
            _ => None,
        };
        self.choices = self
            .choices
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let choice = (self.choices >> 33) % 6;
        let drops = matches!(event, Event::TooLarge(..)) || choice == 0 || choice == 1;
        if drops {
            // A session has settled before.
            while self.relay.up.poll_write(&mut self.relay.server, cx).is_pending() {}
            self.relay.drop_frame(length);
            if choice == 1 {
                self.relay.discard_to_sync();
                self.discards = true;
            }
            return self.fates.push(Fate::Dropped);
        }
        if choice == 2 {
            let mut instead = bytes::BytesMut::new();
            wire::put_query(&mut instead, &vec![b'x'; (self.choices >> 40) as usize % 20_000]);
            self.relay.replace_frame(length, &instead, self.on_answer);
            return self.fates.push(Fate::Replaced(instead.to_vec()));
        }
        self.relay.pass_frame_for(length, self.on_answer);
        self.fates.push(Fate::Passed);
        match choice {
            3 => self.mode = Mode::Settle,
            4 => self.relay.held.forget_statements(),
            _ => {
                let statement = held::Statement {
                    text: bytes::Bytes::new(),
                    types: bytes::Bytes::new(),
                    reading: None,
                    what: held::Kind::Judge,
                    quiet: None,
                };
                if let Some(name) = name {
                    self.relay.held.prepare(&name, statement);
                }
            }
        }
    }

    fn bounded(&self) {
        let (up, down) = (&self.relay.up, &self.relay.down);
        assert!(down.capacity() <= BUFFER_MAX, "{}", down.capacity());
        assert!(
            up.capacity() <= BUFFER_MAX + 2 * STATEMENT_BYTES_MAX,
            "{}",
            up.capacity()
        );
        if up.written() && up.unjudged().is_empty() {
            assert!(up.capacity() <= BUFFER_MAX, "{}", up.capacity());
        }
    }

    /// What the relay calls a violation is one.
    fn is_violation(&self, what: &str) {
        let Some(frame) = self.next() else {
            return assert!(self.relay.responses.lost() && self.mode == Mode::Settle, "{what}");
        };
        let (bytes, _) = self.bytes(frame);
        let length = frame.end.map(|end| end - frame.start);
        let held = self.relay.looks_at_portals();
        let violates = match (self.mode, frame.tag, length) {
            (_, _, None) => true,
            (Mode::Settle, _, _) if self.relay.responses.lost() => true,
            (Mode::Authenticate, _, Some(length)) => length > AUTHENTICATION_MAX,
            (Mode::Settle, tag, _) if !matches!(tag, b'd' | b'c' | b'f' | b'S' | b'H' | b'X') => true,
            (_, b'B', _) => {
                held && bytes[HEADER..].iter().filter(|byte| **byte == 0).count() < 2 || bytes.len() > 32 << 10
            }
            (_, b'E' | b'C' | b'D', Some(length)) => held && length > 32 << 10,
            _ => false,
        };
        assert!(violates, "{what}: {}", bytes.escape_ascii());
    }

    fn compare(&self, down: &[u8], to_the_end: bool) {
        let judged = self.client.len() - unread(&self.relay.client) - self.relay.up.unjudged().len();
        let mut expected = Vec::new();
        for (frame, fate) in self.frames.iter().zip(&self.fates) {
            match fate {
                Fate::Passed => {
                    expected.extend_from_slice(&self.client[frame.start..frame.end.unwrap_or(0).min(judged)])
                }
                Fate::Dropped => {}
                Fate::Replaced(instead) => expected.extend_from_slice(instead),
            }
        }
        let (to_server, to_client) = (written(&self.relay.server), written(&self.relay.client));
        assert!(expected.starts_with(to_server), "the server got something else");
        assert!(down.starts_with(to_client), "the client got something else");
        if !to_the_end {
            return;
        }
        assert_eq!(to_server.len(), expected.len(), "the server did not get all");
        if self.mode == Mode::Forward && self.relay.responses.len() < 100_000 {
            self.nothing_waits();
        }
        self.heard(down, to_client.len());
    }

    /// Only a frame that is not whole may still wait.
    fn nothing_waits(&self) {
        let held = self.relay.looks_at_portals();
        if let Some(frame) = self.next() {
            let (bytes, whole) = self.bytes(frame);
            // What a Bind executes is noted: its names come first.
            let names = frame.tag == b'B' && bytes.len() <= 32 << 10 && wire::bind_names(bytes).is_none();
            let waits =
                matches!(frame.tag, b'Q' | b'P') || names || (held && matches!(frame.tag, b'B' | b'E' | b'C' | b'D'));
            assert!(waits && !whole, "held for no reason: {}", bytes.escape_ascii());
        }
    }

    /// What the relay has understood of the server's stream.
    fn heard(&self, down: &[u8], passed: usize) {
        let (mut status, mut key, mut strings_conform) = (0, &[][..], true);
        for frame in frames(down) {
            let Some(end) = frame.end else {
                panic!("an impossible length went by")
            };
            let Some(bytes) = down.get(frame.start..end) else {
                // It passes in parts, unless it is to be read.
                let reads =
                    matches!(frame.tag, b'Z' | b'S' | b'K' | b'C' | b'E' | b'N') && end - frame.start <= READ_MAX;
                assert!(
                    passed == down.len() || (reads && passed == frame.start),
                    "the client did not get all"
                );
                break;
            };
            assert!(passed >= end, "the client did not get all");
            let body = &bytes[HEADER..];
            match frame.tag {
                _ if bytes.len() > READ_MAX => {}
                b'Z' => status = *body.first().unwrap_or(&b'I'),
                b'K' => key = body,
                b'S' => {
                    let setting = body.strip_prefix(b"standard_conforming_strings\0");
                    strings_conform = setting.map_or(strings_conform, |value| value.starts_with(b"on\0"));
                }
                _ => {}
            }
        }
        let relay = &self.relay;
        assert_eq!(
            (
                relay.status,
                relay.cancel_key.as_slice(),
                relay.reported.standard_conforming_strings
            ),
            (status, key, strings_conform)
        );
    }
}

fn unread(stream: &Stream) -> usize {
    match stream {
        Stream::Memory(memory) => memory.unread(),
        _ => unreachable!(),
    }
}

fn written(stream: &Stream) -> &[u8] {
    match stream {
        Stream::Memory(memory) => &memory.written,
        _ => unreachable!(),
    }
}
