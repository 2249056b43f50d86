//! The queue of responses that the server still owes: what tells when the session is quiescent. Pure.
//!
//! Each frontend message that will be answered is pushed when it is forwarded; each backend message that completes an
//! answer pops. A quiescent session (empty queue) is the only place where statements of our own may be put in.

use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Parse,
    Bind,
    Close,
    Describe,
    Execute,
    /// A Close of ours among the client's own messages: its answer is kept from the client.
    Ours,
    Query,
    Sync,
    FunctionCall,
    /// These two are not answered. Sent before the server has asked for data: they belong to a COPY, if one comes.
    CopyData,
    CopyEnd,
}

/// What is done with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAnswer {
    /// It goes to the client as it is.
    #[default]
    Forward,
    /// The same, and its command tag and its error are noted.
    Note,
    /// Noted. The server was given another text than the client's, so that a position in it would mislead.
    Rewritten,
    /// Noted. It is that to a part of the client's simple query: ReadyForQuery is kept from the client.
    Part {
        position: Position,
        /// So is CommandComplete, which is noted.
        keeps_tag: bool,
    },
    /// Of what may end the client's transaction: the CommandComplete of a COMMIT or ROLLBACK is noted and kept from the client.
    End,
    /// Its ReadyForQuery is kept from the client.
    Swallow,
}

/// Where an error says that it is, in a text that the client does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// So many characters stand before it in the client's text.
    Shifted(u32),
    Hidden,
}

impl OnAnswer {
    /// The command tag and the error are wanted.
    pub fn notes(self) -> bool {
        !matches!(self, OnAnswer::Forward | OnAnswer::Swallow)
    }

    /// None: it holds for the client's text.
    pub fn position(self) -> Option<Position> {
        match self {
            OnAnswer::Rewritten => Some(Position::Hidden),
            OnAnswer::Part { position, .. } => Some(position).filter(|position| *position != Position::Shifted(0)),
            _ => None,
        }
    }

    pub fn keeps_ready(self) -> bool {
        matches!(self, OnAnswer::Part { .. } | OnAnswer::Swallow)
    }

    /// `tag`: the command tag.
    pub fn keeps_complete(self, tag: &[u8]) -> bool {
        match self {
            OnAnswer::Part { keeps_tag, .. } => keeps_tag,
            OnAnswer::End => matches!(tag, b"COMMIT" | b"ROLLBACK"),
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    kind: Expect,
    on_answer: OnAnswer,
}

/// What the server does with extended-query messages after an error: it skips them until the next Sync.
#[derive(Debug, Default)]
pub struct Responses {
    queue: VecDeque<Expected>,
    /// How many messages were sent in all.
    count: u64,
    skipping: bool,
    /// An extended-query message was sent since the last Sync or simple query.
    in_group: bool,
    copy_in: bool,
    /// Syncs among the data of the COPY that goes on. The server swallows them (manual section 55.2.6), unless the COPY
    /// has failed before it came to them.
    swallowed: usize,
    /// A COPY has failed that may have swallowed some Syncs, and some not.
    lost: Option<Lost>,
}

/// How many of the Syncs that stood among the data of a failed COPY are answered, only the server can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lost {
    /// ReadyForQuery messages since the error.
    readies: usize,
    /// More than Syncs stood behind the COPY: answers that cannot be told apart from those to a question.
    more: bool,
}

impl Responses {
    /// How many messages were sent in all: as many as before where nothing was in between.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A frontend message of type `tag` is on its way to the server.
    pub fn sent(&mut self, tag: u8) {
        self.sent_for(tag, OnAnswer::Forward);
    }

    /// The same, with what is done with its answer.
    pub fn sent_for(&mut self, tag: u8, on_answer: OnAnswer) {
        self.count += 1;
        let expect = match tag {
            b'P' => Expect::Parse,
            b'B' => Expect::Bind,
            b'C' => Expect::Close,
            b'D' => Expect::Describe,
            b'E' => Expect::Execute,
            b'Q' => Expect::Query,
            b'F' => Expect::FunctionCall,
            b'S' => Expect::Sync,
            b'd' => Expect::CopyData,
            b'c' | b'f' => Expect::CopyEnd,
            _ => return,
        };
        match expect {
            Expect::Query | Expect::Sync | Expect::FunctionCall => self.in_group = false,
            Expect::CopyData | Expect::CopyEnd => {}
            _ => self.in_group = true,
        }
        if let Some(lost) = &mut self.lost {
            lost.more |= !matches!(expect, Expect::Sync | Expect::CopyData | Expect::CopyEnd);
            return;
        }
        if self.copy_in {
            match expect {
                Expect::CopyData => return,
                Expect::Sync => {
                    self.swallowed += 1;
                    return;
                }
                // Anything but the end makes the COPY fail: the error is on its way.
                _ => self.copy_in = false,
            }
            if expect == Expect::CopyEnd {
                return;
            }
        }
        if self.skipping {
            if expect != Expect::Sync {
                return;
            }
            self.skipping = false;
        }
        match (expect, self.back()) {
            // No COPY can come, or it is known that there is data.
            (Expect::CopyData | Expect::CopyEnd, None) | (Expect::CopyData, Some(Expect::CopyData)) => {}
            _ => self.push(expect, on_answer),
        }
    }

    /// A Close of ours is on its way, for [`Expect::Ours`].
    pub fn sent_ours(&mut self) {
        if !self.skipping && self.lost.is_none() {
            self.push(Expect::Ours, OnAnswer::Forward);
        }
    }

    fn push(&mut self, kind: Expect, on_answer: OnAnswer) {
        self.queue.push_back(Expected { kind, on_answer });
    }

    /// A backend message of type `tag` came in.
    pub fn received(&mut self, tag: u8) {
        let front = self.front();
        if let Some(lost) = &mut self.lost {
            lost.readies += usize::from(tag == b'Z');
        }
        match (tag, front) {
            (b'1', Some(Expect::Parse))
            | (b'2', Some(Expect::Bind))
            | (b'3', Some(Expect::Close | Expect::Ours))
            | (b'T' | b'n', Some(Expect::Describe))
            | (b'I' | b's', Some(Expect::Execute))
            | (b'Z', Some(Expect::Query | Expect::Sync | Expect::FunctionCall)) => {
                self.queue.pop_front();
            }
            (b'C', Some(Expect::Execute)) => {
                self.queue.pop_front();
                self.copy_ended();
            }
            (b'C', Some(Expect::Query)) => self.copy_ended(),
            // Unexpected, and a server that says so skips nothing.
            (b'Z', None) => self.skipping = false,
            (b'E', front) => self.failed(front),
            (b'G', Some(Expect::Execute | Expect::Query)) => self.copy_begins(),
            _ => {}
        }
        // There was no COPY: the server has ignored them.
        while let Some(Expect::CopyData | Expect::CopyEnd) = self.front() {
            self.queue.pop_front();
        }
    }

    /// The server takes what was pipelined behind the front as the COPY's, up to the end of the data.
    fn copy_begins(&mut self) {
        self.copy_ended();
        let mut data = false;
        while let Some(next) = self.queue.get(1) {
            match next.kind {
                Expect::Sync => self.swallowed += usize::from(data),
                Expect::CopyData => data = true,
                Expect::CopyEnd => {}
                // Makes the COPY fail: the error is on its way.
                _ => return,
            }
            if self
                .queue
                .remove(1)
                .is_some_and(|removed| removed.kind == Expect::CopyEnd)
            {
                return;
            }
        }
        self.copy_in = true;
    }

    fn copy_ended(&mut self) {
        self.copy_in = false;
        self.swallowed = 0;
    }

    fn failed(&mut self, front: Option<Expect>) {
        if self.swallowed > 0 {
            let uncounted =
                |expected: &Expected| !matches!(expected.kind, Expect::Sync | Expect::CopyData | Expect::CopyEnd);
            self.lost = Some(Lost {
                readies: 0,
                more: self.queue.iter().skip(1).any(uncounted),
            });
            self.skipping = false;
            self.queue.clear();
        }
        self.copy_ended();
        match front {
            // Of a group whose messages are answered so far: statement_timeout goes on until its Sync.
            None if self.in_group && self.lost.is_none() => self.skipping = true,
            None | Some(Expect::Query | Expect::Sync | Expect::FunctionCall) => {}
            Some(_) if self.lost.is_some() => {}
            Some(_) => {
                while let Some(next) = self.front() {
                    if next == Expect::Sync {
                        return;
                    }
                    self.queue.pop_front();
                }
                self.skipping = true;
            }
        }
    }

    /// Nothing is owed.
    pub fn quiescent(&self) -> bool {
        self.queue.is_empty() && self.lost.is_none()
    }

    /// What the server owes is not known: Syncs stood in the middle of the data of a COPY that has failed.
    pub fn lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The same, and the server can be asked: nothing but Syncs can be unanswered.
    pub fn countable(&self) -> bool {
        self.lost.is_some_and(|lost| !lost.more)
    }

    /// All is answered. False: not one Sync since the error, so that the server has been skipping.
    pub fn counted(&mut self) -> bool {
        self.lost.take().is_none_or(|lost| lost.readies > 0)
    }

    /// A statement of ours failed behind a Flush.
    pub fn skip_to_sync(&mut self) {
        self.skipping = true;
    }

    /// The server ignores everything until the next Sync.
    pub fn skipping(&self) -> bool {
        self.skipping
    }

    /// Extended-query messages were sent whose Sync was not.
    pub fn in_group(&self) -> bool {
        self.in_group
    }

    /// The server reads COPY data.
    pub fn copy_in(&self) -> bool {
        self.copy_in
    }

    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many statements are not answered yet. None: too many to count for each message.
    pub fn running(&self) -> Option<usize> {
        const COUNTED_MAX: usize = 64;
        let runs =
            |expected: &&Expected| matches!(expected.kind, Expect::Execute | Expect::Query | Expect::FunctionCall);
        (self.queue.len() <= COUNTED_MAX && self.lost.is_none()).then(|| self.queue.iter().filter(runs).count())
    }

    pub fn front(&self) -> Option<Expect> {
        self.queue.front().map(|expected| expected.kind)
    }

    fn back(&self) -> Option<Expect> {
        self.queue.back().map(|expected| expected.kind)
    }

    /// What is done with what comes next.
    pub fn on_answer(&self) -> OnAnswer {
        self.queue
            .front()
            .map_or(OnAnswer::Forward, |expected| expected.on_answer)
    }

    /// The last answers wait in the server until it is asked to flush: no Sync or simple query is behind them.
    pub fn awaits_flush(&self) -> bool {
        let kinds = self.queue.iter().map(|expected| expected.kind);
        let answered = |expect: &Expect| !matches!(expect, Expect::CopyData | Expect::CopyEnd);
        !matches!(
            kinds.rev().find(answered),
            None | Some(Expect::Query | Expect::FunctionCall | Expect::Sync)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `>X` (sent) and `<X` (received) and tells what is left.
    fn check(script: &str, expect: (usize, bool)) {
        let responses = played(script);
        assert_eq!((responses.len(), responses.skipping()), expect, "{script}");
    }

    fn played(script: &str) -> Responses {
        let mut responses = Responses::default();
        for word in script.split_whitespace() {
            let (direction, tag) = (word.as_bytes()[0], word.as_bytes()[1]);
            if direction == b'>' {
                responses.sent(tag)
            } else {
                responses.received(tag)
            }
        }
        responses
    }

    #[test]
    fn answers_pop_what_was_asked() {
        check(">Q <T <D <C <Z", (0, false));
        check(">Q <C <C <I <Z", (0, false));
        check(">P >B >D >E >S <1 <2 <n <C <Z", (0, false));
        check(">P >D >S <1 <t <T <Z", (0, false));
        check(">B >E >E >S <2 <D <s <D <C <Z", (0, false));
        check(">F <V <Z", (0, false));
        check(">Q", (1, false));
        // Between the messages of a group (statement_timeout), and where there is none.
        check(">P >B <1 <2 <E", (0, true));
        check(">P >B <1 <2 <E >E >S <Z", (0, false));
        check(">Q <C <Z <E", (0, false));
        check(">P >S <1 <Z <E", (0, false));
        check("<Z <N <A", (0, false));
    }

    #[test]
    fn an_error_skips_to_sync() {
        check(">P >B >E >S <1 <E <Z", (0, false));
        check(">P >B >E <1 <E", (0, true));
        check(">P >B >E <1 <E >P >B >Q >S <Z", (0, false));
        check(">P >S >P >B >S <E <Z <1 <2", (1, false));
        check(">Q <E <Z", (0, false));
        check(">S <E <Z", (0, false));
    }

    #[test]
    fn what_is_done_stays_with_its_answer() {
        let mut responses = Responses::default();
        responses.sent(b'P');
        responses.sent_for(b'E', OnAnswer::End);
        responses.sent_for(b'S', OnAnswer::Swallow);
        responses.sent(b'Q');
        assert_eq!(responses.on_answer(), OnAnswer::Forward);
        responses.received(b'1');
        assert!(responses.on_answer().keeps_complete(b"COMMIT") && !responses.on_answer().keeps_complete(b"SET"));
        // What an error makes the server skip takes its own with it.
        responses.received(b'E');
        assert!(responses.on_answer().keeps_ready() && !responses.on_answer().notes());
        responses.received(b'Z');
        assert_eq!(responses.on_answer(), OnAnswer::Forward);
        responses.received(b'Z');
        assert_eq!(responses.on_answer(), OnAnswer::Forward);
        let part = |position| OnAnswer::Part {
            position,
            keeps_tag: false,
        };
        assert_eq!(part(Position::Shifted(0)).position(), None);
        assert_eq!(part(Position::Hidden).position(), Some(Position::Hidden));
    }

    #[test]
    fn only_what_no_sync_or_query_follows_awaits_a_flush() {
        let awaits = |sent: &[u8]| {
            let mut responses = Responses::default();
            sent.iter().for_each(|tag| responses.sent(*tag));
            responses.awaits_flush()
        };
        assert!(!awaits(b"") && !awaits(b"Q") && !awaits(b"PBES") && !awaits(b"PQ"));
        assert!(awaits(b"P") && awaits(b"QP") && awaits(b"PBESP"));
    }

    #[test]
    fn a_copy_that_fails_among_syncs_leaves_nothing_known() {
        let lost = |script: &str| {
            let responses = played(script);
            assert!(!responses.quiescent() && !responses.skipping(), "{script}");
            responses.lost()
        };
        assert!(lost(">P >B >E <1 <2 <G >d >S >d <E"));
        // Only Syncs can be unanswered, or other messages too.
        assert!(played(">P >B >E <1 <2 <G >d >S >d >c >S <E <Z").countable());
        assert!(!played(">P >B >E <1 <2 <G >d >S >d >c >P >S <E <Z").countable());
        assert!(!played(">P >B >E <1 <2 <G >d >S >d <E <Z >Q").countable());
        assert!(played(">P >B >E <1 <2 <G >d >S >d >c >S <E <Z").counted());
        assert!(!played(">P >B >E <1 <2 <G >d >S >d >c <E").counted());
        assert!(lost(">P >B >E >d >S >d >c >S <1 <2 <G <E <Z"));
        // A Sync right behind the Execute is swallowed before there is data that could be wrong.
        check(">P >B >E >S >d >c >S <1 <2 <G <E <Z", (0, false));
        check(">P >B >E <1 <2 <G >d >S >c <C >S <Z", (0, false));
    }

    #[test]
    fn copy_in_swallows_sync() {
        check(">P >B >E <1 <2 <G >d >S >c >S <C <Z", (0, false));
        check(">P >B >E >S <1 <2 <G >d >c >S <C <Z", (0, false));
        check(">Q <G >d >c <C <Z", (0, false));
        check(">Q <G >d <E <Z", (0, false));
        check(">Q <C >S <G >d >c <C <Z", (0, false));
        check(">Q <G >d >c <C <G >c <C <Z", (0, false));
        check(">Q >c >d >c <G <C <G <C <Z", (0, false));
        // Everything at once, before the server has said anything.
        check(">P >B >E >d >c >S <1 <2 <G <C", (1, false));
        check(">P >B >E >d >c >S <1 <2 <G <C <Z", (0, false));
        check(">Q >d >c >Q <G <C <Z", (1, false));
        // A Sync in front of the data is swallowed all the same; the error then skips to the next one.
        check(">P >B >E >S >d >c >Q >P >S <1 <2 <G <E <Z", (0, false));
        check(">P >B >E >S >d >c >Q <1 <2 <G <E", (0, true));
        check(">P >B >E >S >c >S <1 <2 <E <Z <Z", (0, false));
        check(">Q >c >Q <C <Z <C <Z", (0, false));
    }
}
