//! Servers that have vanished: nothing of what was sent to them is acknowledged, by TCP, and no more is heard.
//!
//! TCP_USER_TIMEOUT would end the connection to a server that is well, too, where that takes no more data for a while (COPY into a table
//! that is locked): since Linux 5.11 a closed window counts as silence. So it is asked here whether an acknowledgement has come.

use super::stream::Stream;
use dashmap::DashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often it is looked, at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The connections of all sessions.
#[derive(Default)]
pub struct Watch {
    next: AtomicU64,
    watched: DashMap<u64, Watched>,
}

struct Watched {
    fd: RawFd,
    /// Something was unacknowledged whenever it was looked since then.
    since: Option<Instant>,
    lost: Arc<AtomicBool>,
    /// Its server's place in the list.
    server: usize,
    left: Arc<AtomicBool>,
}

/// While it lives, the connection is watched. It must go before the connection does.
pub struct Guard {
    watch: Arc<Watch>,
    id: u64,
    lost: Arc<AtomicBool>,
    left: Arc<AtomicBool>,
}

impl Guard {
    /// The connection was ended because nothing came any more.
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The connection was ended because another server has taken this one's place.
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch.watched.remove(&self.id);
    }
}

impl Watch {
    /// None: not over TCP.
    pub fn over(self: &Arc<Watch>, server: &Stream, place: usize) -> Option<Guard> {
        let fd = server.tcp_fd()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let lost = Arc::new(AtomicBool::new(false));
        let left = Arc::new(AtomicBool::new(false));
        self.watched.insert(
            id,
            Watched {
                fd,
                since: None,
                lost: Arc::clone(&lost),
                server: place,
                left: Arc::clone(&left),
            },
        );
        Some(Guard {
            watch: Arc::clone(self),
            id,
            lost,
            left,
        })
    }

    /// All connections to this server of the list end now.
    pub fn end_all_at(&self, place: usize) {
        for one in self.watched.iter().filter(|one| one.server == place) {
            one.left.store(true, Ordering::Relaxed);
            // SAFETY: shutdown(2) has no memory effects, and the descriptor is open as long as its guard waits for this entry.
            unsafe { libc::shutdown(one.fd, libc::SHUT_RDWR) };
        }
    }

    /// Without end.
    pub async fn look(self: Arc<Watch>, limit: Duration) {
        let mut every = tokio::time::interval((limit / 4).min(LOOK_EVERY));
        loop {
            every.tick().await;
            let now = Instant::now();
            // What is looked at cannot be closed meanwhile: its guard waits for this entry.
            for mut one in self.watched.iter_mut() {
                let silence = silence(one.fd);
                let Some(silence) = silence else {
                    one.since = None;
                    continue;
                };
                let waiting = now.duration_since(*one.since.get_or_insert(now));
                if waiting >= limit && silence >= limit {
                    one.lost.store(true, Ordering::Relaxed);
                    // SAFETY: shutdown(2) has no memory effects, and the descriptor is open, see above.
                    unsafe { libc::shutdown(one.fd, libc::SHUT_RDWR) };
                }
            }
        }
    }
}

/// Some: data is on its way, and the last acknowledgement came so long ago.
fn silence(fd: RawFd) -> Option<Duration> {
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, of which `info` has room.
    let got = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    (got == 0 && info.tcpi_unacked > 0).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
}
