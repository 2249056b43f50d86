//! A stream whose arrivals and room are decided beforehand.

use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use tokio::io::ReadBuf;

const PIECES_MAX: usize = 500;

#[derive(Debug, Default)]
pub struct Memory {
    /// What arrives, and in which pieces: behind each the reader must wait once.
    pub arriving: VecDeque<Vec<u8>>,
    /// How much of the first piece was read.
    read: usize,
    /// Behind the last piece the stream ends; else it falls silent.
    pub ends: bool,
    /// How much the peer takes at each try; nothing is a wait. Behind the last it takes everything.
    pub room: VecDeque<usize>,
    pub written: Vec<u8>,
}

impl Memory {
    /// `bytes` in pieces of these lengths, over and over, but not in too many.
    pub fn cut(bytes: &[u8], pieces: &[usize], ends: bool) -> Memory {
        let mut rest = bytes;
        let mut lengths = pieces.iter().cycle();
        let mut arriving = VecDeque::new();
        while !rest.is_empty() {
            let length = match lengths.next() {
                Some(length) if arriving.len() < PIECES_MAX => (*length).clamp(1, rest.len()),
                _ => rest.len(),
            };
            let (piece, after) = rest.split_at(length);
            arriving.push_back(piece.to_vec());
            rest = after;
        }
        Memory {
            arriving,
            ends,
            ..Memory::default()
        }
    }

    /// Some bytes that have arrived are not read yet.
    pub fn has_more(&self) -> bool {
        self.arriving.front().is_some_and(|piece| self.read < piece.len())
    }

    /// How many bytes the reader has not got yet.
    pub fn unread(&self) -> usize {
        self.arriving.iter().map(Vec::len).sum::<usize>() - self.read
    }

    pub fn poll_read(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(piece) = self.arriving.front() else {
            return if self.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if self.read == piece.len() {
            self.arriving.pop_front();
            self.read = 0;
            return Poll::Pending;
        }
        let here = &piece[self.read..];
        let length = here.len().min(buf.remaining());
        buf.put_slice(&here[..length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }

    pub fn poll_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = match self.room.pop_front() {
            Some(0) => return Poll::Pending,
            Some(room) => room.min(bytes.len()),
            None => bytes.len(),
        };
        self.written.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }
}
