//! [`Responses`] beside a model of the server's main loop (tcop/postgres.c, commands/copyfromparse.c), which knows what it
//! owes. The fuzzer chooses what the client sends, what the server makes of it, and when each side hears of the other.

use crate::fuzz::Input;
use lockkeeper_wire::responses::Responses;
use std::collections::VecDeque;

const MESSAGES: &[u8] = b"PBDDCEEEQQFSSSSHdcf";
/// Each is one way to answer a simple query; `G` waits for data. `|` is where statements of the text follow each other.
const QUERY_ANSWERS: [&str; 12] = [
    "I Z",
    "C Z",
    "T D C Z",
    "T D D C C Z",
    "E Z",
    "T D E Z",
    "C E Z",
    "G",
    "C G",
    "T H d d c C Z",
    "H d E Z",
    "S C Z",
];
const EXECUTE_ANSWERS: [&str; 10] = ["C", "D C", "D s", "s", "I", "E", "D E", "G", "G", "H d c C"];

/// Where the server is: between two messages, or in the middle of a COPY from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Loop,
    Copy { of_query: bool },
}

struct Server {
    /// Sent by the client, not read yet.
    inbox: VecDeque<u8>,
    /// Written, and not heard yet; what is behind `flushed` is still in the server's own buffer.
    deferred: VecDeque<u8>,
    flushed: usize,
    at: At,
    extended: bool,
    ignore_till_sync: bool,
    /// A message that no COPY takes: the server closes the connection.
    gone: bool,
}

impl Server {
    fn new() -> Server {
        Server {
            inbox: VecDeque::new(),
            deferred: VecDeque::new(),
            flushed: 0,
            at: At::Loop,
            extended: false,
            ignore_till_sync: false,
            gone: false,
        }
    }

    fn say(&mut self, answer: &str) {
        for tag in answer.bytes().filter(|tag| *tag != b' ') {
            self.deferred.push_back(tag);
            if matches!(tag, b'Z' | b'E' | b'G') {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        self.flushed = self.deferred.len();
    }

    /// As the error handler of PostgresMain.
    fn fail(&mut self) {
        self.at = At::Loop;
        self.say("E");
        if self.extended {
            self.ignore_till_sync = true;
        } else {
            self.say("Z");
        }
    }

    /// Reads one message; `input` says what comes of it.
    fn step(&mut self, input: &mut Input) {
        let Some(tag) = self.inbox.pop_front() else {
            // Cancelled, or out of time. That this is before it has come to the Sync right behind the Execute is left out: only
            // an interrupt in that very instant could tell.
            if self.at != At::Loop && self.flushed == 0 && input.below(8) == 7 {
                self.fail();
            }
            return;
        };
        match self.at {
            At::Copy { of_query } => self.copy(tag, of_query, input),
            At::Loop => self.read(tag, input),
        }
    }

    fn copy(&mut self, tag: u8, of_query: bool, input: &mut Input) {
        match tag {
            b'd' if input.below(8) == 7 => self.fail(),
            b'd' | b'S' | b'H' => {}
            b'c' if input.below(4) == 3 => self.fail(),
            b'c' => {
                self.at = At::Loop;
                let rest = if of_query {
                    input.of(&["C Z", "C T D C Z", "C E Z", "C G"])
                } else {
                    "C"
                };
                self.answer(rest, of_query);
            }
            b'f' => self.fail(),
            _ => {
                self.say("E");
                self.gone = true;
            }
        }
    }

    fn answer(&mut self, answer: &str, of_query: bool) {
        // An error is the handler's business.
        let (before, fails) = match answer.find('E') {
            Some(at) => (&answer[..at], true),
            None => (answer, false),
        };
        self.say(before);
        if before.ends_with('G') {
            self.at = At::Copy { of_query };
        }
        if fails {
            self.fail();
        }
    }

    fn read(&mut self, tag: u8, input: &mut Input) {
        // SocketBackend
        match tag {
            b'S' => (self.extended, self.ignore_till_sync) = (false, false),
            b'P' | b'B' | b'D' | b'C' | b'E' | b'H' => self.extended = true,
            _ => self.extended = false,
        }
        if self.ignore_till_sync {
            return;
        }
        let fails = |input: &mut Input| input.below(6) == 5;
        match tag {
            b'Q' => self.answer(input.of(&QUERY_ANSWERS), true),
            b'E' => self.answer(input.of(&EXECUTE_ANSWERS), false),
            b'S' | b'F' if fails(input) => self.fail(),
            b'S' => self.say("Z"),
            b'F' => self.say("V Z"),
            b'P' | b'B' | b'C' | b'D' if fails(input) => self.fail(),
            b'P' => self.say("1"),
            b'B' => self.say("2"),
            b'C' => self.say("3"),
            b'D' => self.say(input.of(&["t T", "t n", "T", "n"])),
            b'H' => self.flush(),
            // COPY data behind a COPY that has failed.
            _ => {}
        }
    }

    fn hear(&mut self) -> Option<u8> {
        if self.flushed == 0 {
            return None;
        }
        self.flushed -= 1;
        self.deferred.pop_front()
    }

    /// Everything was read and, as far as it was flushed, heard.
    fn waits(&self) -> bool {
        self.inbox.is_empty() && self.flushed == 0
    }

    /// A message that was sent will be answered, or may be.
    fn owes(&self) -> bool {
        let unread = self.inbox.iter();
        !self.deferred.is_empty()
            || self.at != At::Loop
            || match self.ignore_till_sync {
                true => unread.clone().any(|tag| *tag == b'S'),
                false => unread.clone().any(|tag| !matches!(tag, b'H' | b'd' | b'c' | b'f')),
            }
    }
}

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mut server = Server::new();
    let mut responses = Responses::default();
    let mut story = String::new();
    while !input.is_empty() && !server.gone {
        let choice = input.byte();
        match choice % 4 {
            0 | 1 => {
                let tag = MESSAGES[usize::from(choice / 4) % MESSAGES.len()];
                story.extend([" >", char::from(tag).encode_utf8(&mut [0])]);
                responses.sent(tag);
                server.inbox.push_back(tag);
            }
            2 => {
                let read = server.inbox.front().copied();
                server.step(&mut input);
                story.extend(read.map(|tag| format!(" ({})", char::from(tag))));
            }
            _ => {
                // NotificationResponse, NoticeResponse and ParameterStatus come at any time.
                let heard = match choice / 4 {
                    61.. => Some(b"ANS"[usize::from(choice / 4) - 61]),
                    _ => server.hear(),
                };
                if let Some(tag) = heard {
                    story.extend([" <", char::from(tag).encode_utf8(&mut [0])]);
                    responses.received(tag);
                }
            }
        }
        if responses.lost() {
            // Allowed, but not for nothing.
            assert!(story.contains(" <G") && story.contains(" >S"), "lost:{story}");
            return;
        }
        if !server.gone {
            compare(&responses, &server, &story);
        }
    }
}

fn compare(responses: &Responses, server: &Server, story: &str) {
    let unread: String = server.inbox.iter().map(|tag| char::from(*tag)).collect();
    let unheard: String = server.deferred.iter().map(|tag| char::from(*tag)).collect();
    let told = || {
        format!(
            "{story}\nunread {unread:?}, unheard {unheard:?}, {:?}, {responses:?}",
            server.at
        )
    };
    if responses.quiescent() {
        // Else a statement of ours would take an answer that is not its own.
        assert!(!server.owes(), "believed quiescent:{}", told());
    }
    if responses.skipping() {
        // Else a statement would be run that nobody looked at.
        assert!(
            server.ignore_till_sync && server.at == At::Loop && !server.inbox.contains(&b'S'),
            "believed to skip:{}",
            told()
        );
    }
    if responses.copy_in() {
        let ended = server.inbox.iter().any(|tag| !matches!(tag, b'd' | b'S' | b'H'));
        let reads = matches!(server.at, At::Copy { .. }) || server.deferred.contains(&b'E');
        assert!(reads && !ended, "believed to read COPY data:{}", told());
    }
    if !server.waits() {
        return;
    }
    match server.at {
        // Nothing more will come of itself.
        At::Copy { .. } => assert!(responses.copy_in(), "data is awaited:{}", told()),
        At::Loop if server.deferred.is_empty() => {
            assert!(responses.quiescent(), "waits for ever:{}", told());
            assert_eq!(responses.skipping(), server.ignore_till_sync, "skips:{}", told());
        }
        At::Loop => assert!(
            !responses.quiescent() && responses.awaits_flush(),
            "waits for a flush that nobody asks for:{}",
            told()
        ),
    }
}
