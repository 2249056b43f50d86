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
    Query,
    Sync,
    FunctionCall,
    /// Is not answered: the end of COPY data that the client sent before the server had asked for data.
    CopyEnd,
}

/// What the server does with extended-query messages after an error: it skips them until the next Sync.
#[derive(Debug, Default)]
pub struct Responses {
    queue: VecDeque<Expect>,
    skipping: bool,
    copy_in: bool,
}

impl Responses {
    /// A frontend message of type `tag` is on its way to the server.
    pub fn sent(&mut self, tag: u8) {
        let expect = match tag {
            b'P' => Expect::Parse,
            b'B' => Expect::Bind,
            b'C' => Expect::Close,
            b'D' => Expect::Describe,
            b'E' => Expect::Execute,
            b'Q' => Expect::Query,
            b'F' => Expect::FunctionCall,
            b'S' => Expect::Sync,
            b'c' | b'f' => {
                if !std::mem::take(&mut self.copy_in) && !self.skipping && !self.queue.is_empty() {
                    self.queue.push_back(Expect::CopyEnd);
                }
                return;
            }
            _ => return,
        };
        // In COPY-in mode the server swallows Sync (manual section 55.2.6), and after an error all but Sync.
        if self.copy_in && expect == Expect::Sync {
            return;
        }
        // Anything else makes the COPY fail: the error is on its way.
        self.copy_in = false;
        if self.skipping {
            if expect != Expect::Sync {
                return;
            }
            self.skipping = false;
        }
        self.queue.push_back(expect);
    }

    /// A backend message of type `tag` came in.
    pub fn received(&mut self, tag: u8) {
        let front = self.queue.front().copied();
        match (tag, front) {
            (b'1', Some(Expect::Parse))
            | (b'2', Some(Expect::Bind))
            | (b'3', Some(Expect::Close))
            | (b'T' | b'n', Some(Expect::Describe))
            | (b'C' | b'I' | b's', Some(Expect::Execute))
            | (b'Z', Some(Expect::Query | Expect::Sync | Expect::FunctionCall)) => {
                self.queue.pop_front();
                if tag == b'Z' || tag == b'C' {
                    self.copy_in = false;
                }
            }
            (b'E', front) => self.failed(front),
            (b'G', _) => self.copy_begins(),
            _ => {}
        }
        // There was no COPY: the server has ignored it.
        while self.queue.front() == Some(&Expect::CopyEnd) {
            self.queue.pop_front();
        }
    }

    /// What was pipelined behind the COPY: a Sync before the end of the data was swallowed, and what comes after the end
    /// is answered after the COPY.
    fn copy_begins(&mut self) {
        if self.queue.front() == Some(&Expect::Execute) {
            while self.queue.get(1) == Some(&Expect::Sync) {
                self.queue.remove(1);
            }
        }
        let end = self.queue.iter().position(|expect| *expect == Expect::CopyEnd);
        // Anything else that was pipelined makes the COPY fail: the error is on its way.
        self.copy_in = end.is_none() && self.queue.len() == 1;
        if let Some(end) = end {
            self.queue.remove(end);
        }
    }

    fn failed(&mut self, front: Option<Expect>) {
        self.copy_in = false;
        match front {
            None | Some(Expect::Query | Expect::Sync | Expect::FunctionCall) => {}
            Some(_) => {
                while let Some(next) = self.queue.front() {
                    if *next == Expect::Sync {
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
        self.queue.is_empty()
    }

    /// A statement of ours failed behind a Flush.
    pub fn skip_to_sync(&mut self) {
        self.skipping = true;
    }

    /// The server ignores everything until the next Sync.
    pub fn skipping(&self) -> bool {
        self.skipping
    }

    /// The server reads COPY data.
    pub fn copy_in(&self) -> bool {
        self.copy_in
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn front(&self) -> Option<Expect> {
        self.queue.front().copied()
    }

    /// The last answers wait in the server until it is asked to flush: no Sync or simple query is behind them.
    pub fn awaits_flush(&self) -> bool {
        !matches!(
            self.queue.back(),
            None | Some(Expect::Query | Expect::FunctionCall | Expect::Sync)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `>X` (sent) and `<X` (received) and tells what is left.
    fn check(script: &str, expect: (usize, bool)) {
        let mut responses = Responses::default();
        for word in script.split_whitespace() {
            let (direction, tag) = (word.as_bytes()[0], word.as_bytes()[1]);
            if direction == b'>' {
                responses.sent(tag)
            } else {
                responses.received(tag)
            }
        }
        assert_eq!((responses.len(), responses.skipping()), expect, "{script}");
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
    fn copy_in_swallows_sync() {
        check(">P >B >E <1 <2 <G >d >S >c >S <C <Z", (0, false));
        check(">P >B >E >S <1 <2 <G >d >c >S <C <Z", (0, false));
        check(">Q <G >d >c <C <Z", (0, false));
        check(">Q <G >d <E <Z", (0, false));
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
