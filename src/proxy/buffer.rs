//! A [`Buffer`] between two streams.

use super::stream::Stream;
pub use lockkeeper_wire::buffer::Buffer;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub trait Poured {
    fn poll_write(&mut self, to: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once. Zero means the end of the stream.
    fn poll_read(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
}

impl Poured for Buffer {
    fn poll_write(&mut self, to: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten().is_empty() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, self.unwritten()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(n);
        }
        self.reset_if_empty();
        if self.unflushed() {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, from: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(self.room());
        ready!(Pin::new(from).poll_read(cx, &mut room))?;
        let n = room.filled().len();
        self.has_read(n);
        Poll::Ready(Ok(n))
    }
}
