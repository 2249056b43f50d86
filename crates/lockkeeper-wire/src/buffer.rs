//! One direction's bytes: judged ones that are still to be written, and those behind them that are not judged yet.

use crate::messages;

/// What an idle session holds, in bytes.
const SMALL: usize = 8 << 10;
/// What a streaming session grows to, unless a frame must be held whole.
const LARGE: usize = 64 << 10;
/// So many reads in a row that a small buffer would have held, and the buffer shrinks.
const SHRINK_AFTER: u32 = 32;

/// `start..forward` may be written to the peer, `forward..end` waits to be judged.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    forward: usize,
    end: usize,
    /// What is left of the body of a frame that passes unread.
    body: usize,
    /// The frame at `forward` is held until it has this length, which may exceed LARGE.
    wanted: usize,
    small_reads: u32,
    /// Bytes that were read so far.
    read: u64,
    /// Bytes were written that may still wait in the stream.
    unflushed: bool,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl Buffer {
    pub fn new() -> Buffer {
        Buffer {
            bytes: empty(SMALL),
            start: 0,
            forward: 0,
            end: 0,
            body: 0,
            wanted: 0,
            small_reads: 0,
            read: 0,
            unflushed: false,
        }
    }

    /// Bytes that were read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The bytes that are not judged yet, from the start of a frame.
    pub fn unjudged(&self) -> &[u8] {
        &self.bytes[self.forward..self.end]
    }

    /// Nothing waits to be written, here or in the stream.
    pub fn written(&self) -> bool {
        self.start == self.forward && !self.unflushed
    }

    /// The next unjudged byte is the first of a frame.
    pub fn at_frame(&self) -> bool {
        self.body == 0
    }

    /// Lets a frame of `len` bytes pass, as much as is here now and the rest when it comes.
    pub fn pass(&mut self, len: usize) {
        self.body = len;
        self.wanted = 0;
        self.pass_body();
    }

    /// What is here of the body of a frame that passes, and has not passed yet.
    pub fn body_here(&self) -> &[u8] {
        &self.bytes[self.forward..self.forward + self.body.min(self.end - self.forward)]
    }

    /// Continues a frame that passes. True if it is through.
    pub fn pass_body(&mut self) -> bool {
        let here = self.body.min(self.end - self.forward);
        self.forward += here;
        self.body -= here;
        self.body == 0
    }

    /// Lets rows pass, as many as are here as a whole.
    pub fn pass_rows(&mut self) {
        self.forward += messages::rows_len(self.unjudged());
    }

    /// Throws away `len` bytes from the front of what is not judged, as much as is here; returns what is still to be thrown away.
    /// Only when everything before was written.
    pub fn discard(&mut self, len: usize) -> usize {
        debug_assert!(self.start == self.forward);
        let here = len.min(self.end - self.forward);
        self.forward += here;
        self.start = self.forward;
        self.wanted = 0;
        self.reset_if_empty();
        len - here
    }

    /// What was to be written has nobody to go to.
    pub fn give_up(&mut self) {
        self.start = self.forward;
        self.unflushed = false;
        self.reset_if_empty();
    }

    /// Removes one whole frame of `len` bytes from between judged and unjudged bytes.
    pub fn cut(&mut self, len: usize) {
        self.bytes.copy_within(self.forward + len..self.end, self.forward);
        self.end -= len;
        self.wanted = 0;
    }

    /// Puts `frame` in place of the whole frame of `len` bytes that is next to be judged, and lets it pass.
    pub fn replace(&mut self, len: usize, frame: &[u8]) {
        let tail = self.bytes[self.forward + len..self.end].to_vec();
        let end = self.forward + frame.len() + tail.len();
        if end > self.bytes.len() {
            self.resize(end);
        }
        self.bytes[self.forward..self.forward + frame.len()].copy_from_slice(frame);
        self.bytes[self.forward + frame.len()..end].copy_from_slice(&tail);
        self.end = end;
        self.pass(frame.len());
    }

    /// The frame at the front must be here as a whole before it is judged.
    pub fn want(&mut self, len: usize) {
        self.wanted = len;
    }

    /// The rest of the frame at the front is to come.
    pub fn is_missing(&self) -> bool {
        self.end - self.forward < self.wanted
    }

    /// What it holds of memory.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// What may be written now.
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.start..self.forward]
    }

    /// The stream has taken `n` bytes of what may be written.
    pub fn wrote(&mut self, n: usize) {
        self.start += n;
        self.unflushed = true;
    }

    /// Bytes were written that may still wait in the stream.
    pub fn unflushed(&self) -> bool {
        self.unflushed
    }

    pub fn flushed(&mut self) {
        self.unflushed = false;
    }

    /// Where to read to.
    pub fn room(&mut self) -> &mut [u8] {
        self.make_room();
        &mut self.bytes[self.end..]
    }

    /// A read has put `n` bytes into the room.
    pub fn has_read(&mut self, n: usize) {
        let space = self.bytes.len() - self.end;
        self.end += n;
        self.read += n as u64;
        if n == space && self.bytes.len() < LARGE {
            self.resize((self.bytes.len() * 4).min(LARGE));
            self.small_reads = 0;
        } else if n <= SMALL / 2 {
            self.small_reads += 1;
        } else {
            self.small_reads = 0;
        }
    }

    /// There is room to read into, or it can be made without growing past what the frame at the front needs.
    pub fn has_room(&self) -> bool {
        self.end - self.start < LARGE.max(self.wanted)
    }

    fn make_room(&mut self) {
        if self.end < self.bytes.len() && self.forward + self.wanted <= self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.forward -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        let needed = (self.forward + self.wanted).max(if self.end == self.bytes.len() {
            self.end + SMALL
        } else {
            0
        });
        if needed > self.bytes.len() {
            // Doubling keeps the copying of a frame that arrives in pieces linear; never more than one frame is held.
            self.resize(needed.min((self.bytes.len() * 2).max(LARGE)).max(self.end + SMALL));
        }
    }

    /// Where nothing is held, begins at the front again, in less memory if less is enough.
    pub fn reset_if_empty(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.forward = 0;
            self.end = 0;
            if self.bytes.len() > LARGE || (self.bytes.len() > SMALL && self.small_reads > SHRINK_AFTER) {
                self.bytes = empty(SMALL);
                self.small_reads = 0;
            }
        }
    }

    fn resize(&mut self, len: usize) {
        let mut bytes = empty(len);
        bytes[..self.end].copy_from_slice(&self.bytes[..self.end]);
        self.bytes = bytes;
    }
}

fn empty(len: usize) -> Box<[u8]> {
    vec![0; len].into_boxed_slice()
}
