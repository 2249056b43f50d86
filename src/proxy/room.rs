//! Room for messages that must be held whole and are longer than what every session may have: one bound over all sessions.
//!
//! A share is taken for the whole message before more of it is read, and given back when the message has gone on. Who has taken one and does
//! not send the rest keeps it only as long as nobody else needs it.

use super::end::Broken;
use lockkeeper_wire::messages::Report;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::{Sleep, sleep};

/// Of all sessions together. A message that is longer than all of it goes alone.
const BYTES_MAX: usize = 256 << 20;
/// What nobody asks for.
const FREE: usize = 256 << 10;
const UNIT: usize = 64 << 10;
static UNITS: Semaphore = Semaphore::const_new(BYTES_MAX / UNIT);
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// So long the rest of a message may take while others wait.
const ARRIVAL: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 20_000 });
/// So long a message waits for room.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 60_000 });

type Permit = SemaphorePermit<'static>;

#[derive(Default)]
pub struct Room {
    /// The length that it is for.
    share: Option<(usize, Permit)>,
    arrives: Option<Pin<Box<Sleep>>>,
    waits: Option<Waits>,
}

struct Waits {
    len: usize,
    permit: Pin<Box<dyn Future<Output = Result<Permit, AcquireError>> + Send + Sync>>,
    patience: Pin<Box<Sleep>>,
}

impl Waits {
    fn new(len: usize) -> Waits {
        WAITING.fetch_add(1, Ordering::Relaxed);
        Waits {
            len,
            permit: Box::pin(UNITS.acquire_many(units(len))),
            patience: Box::pin(sleep(PATIENCE)),
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn units(len: usize) -> u32 {
    (len.min(BYTES_MAX) / UNIT) as u32
}

impl Room {
    /// Whether a message of that length may be held. Else it is asked for, see [`Room::poll`].
    pub fn grants(&mut self, len: usize) -> bool {
        if len <= FREE || self.share.as_ref().is_some_and(|(of, _)| *of >= len) {
            return true;
        }
        // That of a message before it, which has gone on.
        self.share = None;
        match UNITS.try_acquire_many(units(len)) {
            Ok(permit) => {
                self.takes(len, permit);
                true
            }
            Err(_) => {
                if self.waits.as_ref().is_none_or(|waits| waits.len != len) {
                    self.waits = Some(Waits::new(len));
                }
                false
            }
        }
    }

    fn takes(&mut self, len: usize, permit: Permit) {
        self.waits = None;
        self.share = Some((len, permit));
        self.arrives = Some(Box::pin(sleep(ARRIVAL)));
    }

    /// `missing`: the rest of the message is to come, to a buffer of that size. Ready: what was waited for is granted.
    pub fn poll(&mut self, cx: &mut Context<'_>, missing: bool, buffer: usize) -> Poll<Result<(), Broken>> {
        if !missing {
            self.arrives = None;
            if buffer <= FREE {
                self.share = None;
            }
        }
        if let Some(arrives) = &mut self.arrives
            && arrives.as_mut().poll(cx).is_ready()
        {
            if WAITING.load(Ordering::Relaxed) > 0 {
                return Poll::Ready(Err(refused(
                    "lockkeeper: the rest of a large message has not come in time, and others wait for its room",
                )));
            }
            *arrives = Box::pin(sleep(ARRIVAL));
            // It is to be woken.
            let _ = arrives.as_mut().poll(cx);
        }
        let Some(waits) = &mut self.waits else {
            return Poll::Pending;
        };
        let len = waits.len;
        if let Poll::Ready(Ok(permit)) = waits.permit.as_mut().poll(cx) {
            self.takes(len, permit);
            return Poll::Ready(Ok(()));
        }
        match waits.patience.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(refused(
                "lockkeeper: the large messages of other sessions leave no room for this one",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn refused(message: &str) -> Broken {
    let report =
        Report::fatal("53200", message).hint("Send it again, or in smaller parts: rows by COPY, values as parameters.");
    Broken::Refused(Box::new(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// All other tests' messages are short.
    #[test]
    fn who_does_not_send_the_rest_gives_its_room_to_others() {
        const LEN: usize = BYTES_MAX / 2;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let cx = &mut Context::from_waker(Waker::noop());
        let ends = |room: &mut Room, missing| runtime.block_on(std::future::poll_fn(|cx| room.poll(cx, missing, LEN)));
        let (mut one, mut two, mut three) = (Room::default(), Room::default(), Room::default());
        assert!(one.grants(FREE) && one.grants(LEN) && one.grants(LEN) && two.grants(LEN));
        // All of the second one's is here: it may take any time to be carried out.
        assert!(two.poll(cx, false, LEN).is_pending() && two.arrives.is_none());
        assert!(!three.grants(LEN) && !three.grants(LEN) && three.poll(cx, false, 0).is_pending());
        assert!(matches!(ends(&mut one, true), Err(Broken::Refused(_))));
        drop(one);
        assert!(ends(&mut three, false).is_ok() && three.grants(LEN));
        let mut four = Room::default();
        assert!(!four.grants(LEN));
        assert!(matches!(ends(&mut four, false), Err(Broken::Refused(_))));
        drop(four);
        // The second one's has gone on; nobody waits for that of the third.
        assert!(two.poll(cx, false, FREE).is_pending());
        let mut five = Room::default();
        assert!(five.grants(LEN));
        assert_eq!(WAITING.load(Ordering::Relaxed), 0);
    }
}
