//! The thread that owns the audit file. Lines that arrive together go out in one write(2), and each sender hears whether
//! its own line is whole in the file.

use super::chain;
use super::file::Log;
use super::log_event::{LogEvent, What};
use super::sink::{Fsync, Sink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Of lines that wait for the disk; a sender waits for room when there are more.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// What a line counts at least, for what is kept beside its text.
const LINE_BYTES_MIN: usize = 1 << 10;
/// Of one write(2), before the last line is added.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A disk that does not answer must not hold a session for ever: then its event counts as not written.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
const ERROR_LOG_PAUSE: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<(), String>>;

enum Request {
    /// Its room in the queue is given back with it.
    Line(Vec<u8>, Answer, OwnedSemaphorePermit),
    /// Look at `State::reopen`.
    Wake,
    Close(Answer),
}

struct State {
    healthy: AtomicBool,
    reopen: AtomicBool,
    /// Events that are in no file, and that no line tells of yet.
    lost: AtomicU64,
}

/// The sending side.
pub struct Handle {
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    state: Arc<State>,
    /// A line counts once it is on the disk.
    waits_for_disk: bool,
}

/// A line that nobody waits for.
pub struct Posted(oneshot::Receiver<Result<(), String>>);

impl Handle {
    pub fn start(sink: Sink) -> Result<Handle, String> {
        // A file that may not grow further is an error of write(2) like a full disk, not the end of the process.
        // SAFETY: the signal's disposition is set to another of the system's own.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let waits_for_disk = sink.fsync == Fsync::Each;
        let mut log = Log::new(sink);
        let opened = log.start().map_err(|error| log.told(&error))?;
        let state = Arc::new(State {
            healthy: AtomicBool::new(opened.error.is_none()),
            reopen: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        });
        if let Some(error) = &opened.error {
            tracing::error!("{}", log.told(error));
        }
        let (requests, received) = mpsc::channel();
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || Writer::new(log, shared).run(&received))
            .map_err(|error| format!("cannot start the audit log's thread: {error}"))?;
        Ok(Handle {
            requests,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            state,
            waits_for_disk,
        })
    }

    pub async fn write(&self, line: Vec<u8>) -> Result<(), String> {
        let mut queued = false;
        let writing = async {
            let bytes = line.len().clamp(LINE_BYTES_MIN, QUEUE_BYTES_MAX) as u32;
            let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
            let room = room.map_err(|_| stopped())?;
            let (answer, answered) = oneshot::channel();
            queued = true;
            let request = Request::Line(line, answer, room);
            self.requests.send(request).map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())?
        };
        match tokio::time::timeout(ANSWER_WAIT, writing).await {
            Ok(written) => written,
            Err(_) => {
                if !queued {
                    self.state.lost.fetch_add(1, Ordering::AcqRel);
                }
                self.state.healthy.store(false, Ordering::Release);
                Err(hangs())
            }
        }
    }

    /// The line is on its way when this returns, ahead of whatever is written later. The line itself: it must be waited for,
    /// since there is no room, or since it only counts once it is on the disk.
    pub fn post(&self, line: Vec<u8>) -> Result<Posted, Vec<u8>> {
        let bytes = line.len().clamp(LINE_BYTES_MIN, QUEUE_BYTES_MAX) as u32;
        if self.waits_for_disk {
            return Err(line);
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return Err(line);
        };
        let (answer, answered) = oneshot::channel();
        // Without the thread nobody answers, and that is heard.
        let _ = self.requests.send(Request::Line(line, answer, room));
        Ok(Posted(answered))
    }

    /// What has become of a line that was posted.
    pub async fn heard(&self, posted: Posted) -> Result<(), String> {
        match tokio::time::timeout(ANSWER_WAIT, posted.0).await {
            Ok(written) => written.map_err(|_| stopped())?,
            Err(_) => {
                self.state.healthy.store(false, Ordering::Release);
                Err(hangs())
            }
        }
    }

    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        // Without the thread there is nothing to reopen.
        let _ = self.requests.send(Request::Wake);
    }

    /// Everything that was sent before is written and on the disk, and a line says that the log was closed.
    pub async fn close(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Close(answer)).map_err(|_| stopped())?;
        match tokio::time::timeout(ANSWER_WAIT, answered).await {
            Ok(closed) => closed.map_err(|_| stopped())?,
            Err(_) => Err("the audit log's disk does not answer".into()),
        }
    }

    pub fn healthy(&self) -> bool {
        self.state.healthy.load(Ordering::Acquire)
    }

    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Acquire)
    }

    pub fn backlog_bytes(&self) -> usize {
        QUEUE_BYTES_MAX - self.room.available_permits()
    }
}

fn hangs() -> String {
    let waited = ANSWER_WAIT.as_secs();
    format!("the audit log's disk has not answered for {waited} s; look whether it hangs")
}

fn stopped() -> String {
    "the audit log's thread has stopped; restart lockkeeper".into()
}

struct Writer {
    log: Log,
    state: Arc<State>,
    complained: Option<Instant>,
    synced: Instant,
}

/// One write's lines and who waits for them.
#[derive(Default)]
struct Batch {
    lines: Vec<Vec<u8>>,
    answers: Vec<(Answer, OwnedSemaphorePermit)>,
    bytes: usize,
    close: Option<Answer>,
}

impl Writer {
    fn new(log: Log, state: Arc<State>) -> Writer {
        Writer {
            log,
            state,
            complained: None,
            synced: Instant::now(),
        }
    }

    /// Ends when the last [`Handle`] is gone and everything is written.
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            let first = match self.log.interval_sync_due() {
                true => requests.recv_timeout(SYNC_INTERVAL.saturating_sub(self.synced.elapsed())),
                false => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut batch = Batch::default();
            let mut next = match first {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            while let Some(request) = next {
                batch.take(request);
                let enough = batch.bytes >= WRITE_BYTES_MAX || batch.close.is_some();
                next = if enough { None } else { requests.try_recv().ok() };
            }
            self.write(batch);
            if self.log.interval_sync_due() && self.synced.elapsed() >= SYNC_INTERVAL {
                self.sync();
            }
        }
        self.sync();
    }

    fn write(&mut self, batch: Batch) {
        if self.state.reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = self.log.reopen()
        {
            let error = self.log.told(&error);
            self.complain(&error);
        }
        if batch.close.is_some() {
            let message = "lockkeeper was stopped and closed the log".into();
            self.log.note(LogEvent::new(What::Closed, message));
        }
        if batch.lines.is_empty() && batch.close.is_none() {
            return;
        }
        let lost = self.state.lost.load(Ordering::Acquire);
        let appended = self.log.append(&batch.lines, lost);
        let error = appended.error.as_ref().map(|error| self.log.told(error));
        if appended.loss_told {
            self.state.lost.fetch_sub(lost, Ordering::AcqRel);
            tracing::warn!(
                lost,
                "the audit log is written again; a line in it says how many events are not"
            );
        }
        if let Some(error) = &error {
            let unwritten = batch.lines.len() - appended.lines;
            let lost = self.state.lost.fetch_add(unwritten as u64, Ordering::AcqRel) + unwritten as u64;
            self.complain(&format!("{error} ({lost} events are lost so far)"));
        }
        self.state.healthy.store(error.is_none(), Ordering::Release);
        for (n, (answer, _room)) in batch.answers.into_iter().enumerate() {
            let result = match &error {
                Some(error) if n >= appended.lines || appended.unsynced => Err(error.clone()),
                _ => Ok(()),
            };
            // A session that has gone does not listen; its line is written all the same.
            let _ = answer.send(result);
        }
        if let Some(answer) = batch.close {
            self.sync();
            let link = self.log.link();
            tracing::info!(
                file = %self.log.path().display(), line = link.seq, hash = chain::hex(&link.hash), "the audit log is closed"
            );
            let _ = answer.send(error.map_or(Ok(()), Err));
        }
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        if let Err(error) = self.log.sync() {
            let error = self.log.told(&error);
            self.complain(&error);
            self.state.healthy.store(false, Ordering::Release);
        }
    }

    fn complain(&mut self, error: &str) {
        if self.complained.is_none_or(|at| at.elapsed() >= ERROR_LOG_PAUSE) {
            self.complained = Some(Instant::now());
            tracing::error!("{error}");
        }
    }
}

impl Batch {
    fn take(&mut self, request: Request) {
        match request {
            Request::Line(line, answer, room) => {
                self.bytes += line.len();
                self.lines.push(line);
                self.answers.push((answer, room));
            }
            Request::Wake => {}
            Request::Close(answer) => self.close = Some(answer),
        }
    }
}
