//! The thread that owns the audit file. Lines that arrive together go out in one write(2), and each sender hears whether
//! its own line is whole in the file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Lines that wait for the disk; a sender waits when there are more.
const QUEUE_LINES_MAX: usize = 1_024;
/// Of one write(2), before the last line is added.
const WRITE_BYTES_MAX: usize = 1 << 20;
const ERROR_LOG_PAUSE: Duration = Duration::from_secs(1);

type Answer = oneshot::Sender<Result<(), String>>;

enum Request {
    Line(Vec<u8>, Answer),
    /// Look at `State::reopen`.
    Wake,
}

struct State {
    healthy: AtomicBool,
    reopen: AtomicBool,
}

/// The sending side.
pub struct Handle {
    requests: mpsc::Sender<Request>,
    state: Arc<State>,
}

impl Handle {
    pub fn start(path: &Path) -> Result<Handle, String> {
        let mut log = Log::new(path);
        log.open().map_err(|error| log.told(&error))?;
        let (requests, received) = mpsc::channel(QUEUE_LINES_MAX);
        let state = Arc::new(State {
            healthy: AtomicBool::new(true),
            reopen: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || run(log, received, &shared))
            .map_err(|error| format!("cannot start the audit log's thread: {error}"))?;
        Ok(Handle { requests, state })
    }

    pub async fn write(&self, line: Vec<u8>) -> Result<(), String> {
        let stopped = || "the audit log's thread has stopped; restart lockkeeper".to_string();
        let (answer, answered) = oneshot::channel();
        let request = Request::Line(line, answer);
        self.requests.send(request).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        // With a full queue the thread is awake and looks at the flag anyway.
        let _ = self.requests.try_send(Request::Wake);
    }

    pub fn healthy(&self) -> bool {
        self.state.healthy.load(Ordering::Acquire)
    }
}

/// Ends when the last [`Handle`] is gone and everything is written.
fn run(mut log: Log, mut requests: mpsc::Receiver<Request>, state: &State) {
    let mut logged: Option<Instant> = None;
    let mut complain = |error: &str| {
        if logged.is_none_or(|at| at.elapsed() >= ERROR_LOG_PAUSE) {
            logged = Some(Instant::now());
            tracing::error!("{error}");
        }
    };
    while let Some(first) = requests.blocking_recv() {
        let mut text = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            if let Request::Line(line, answer) = request {
                text.extend_from_slice(&line);
                waiting.push((text.len(), answer));
            }
            next = if text.len() < WRITE_BYTES_MAX {
                requests.try_recv().ok()
            } else {
                None
            };
        }
        if state.reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = log.open()
        {
            complain(&log.told(&error));
        }
        if waiting.is_empty() {
            continue;
        }
        let (written, error) = log.append(&text);
        let error = error.map(|error| log.told(&error));
        if let Some(error) = &error {
            complain(error);
        }
        state.healthy.store(error.is_none(), Ordering::Release);
        for (end, answer) in waiting {
            let result = match &error {
                Some(error) if end > written => Err(error.clone()),
                _ => Ok(()),
            };
            // A session that has gone does not listen; its line is written all the same.
            let _ = answer.send(result);
        }
    }
}

/// The file by its name. Whatever goes wrong, the next append opens it again.
struct Log {
    path: PathBuf,
    file: Option<File>,
    /// The file's end is in the middle of a line, left by a crash or by a full disk.
    torn: bool,
}

impl Log {
    fn new(path: &Path) -> Log {
        Log {
            path: path.to_path_buf(),
            file: None,
            torn: false,
        }
    }

    /// Keeps the file that is open where this fails.
    fn open(&mut self) -> io::Result<()> {
        let regular = match std::fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(found) => found.is_file(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        options.append(true);
        if regular {
            // Read too: its last byte tells whether its last line is whole.
            options.read(true).create(true).mode(0o600);
        } else {
            // A pipe that nobody reads is an error (ENXIO) instead of a thread that waits for ever.
            options.custom_flags(libc::O_NONBLOCK);
        }
        let file = options.open(&self.path)?;
        if regular {
            self.torn = ends_within_a_line(&file)?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Appends whole lines. Gives how many bytes of `lines` are in the file, and the error that stopped it there.
    fn append(&mut self, lines: &[u8]) -> (usize, Option<io::Error>) {
        // A file that was removed is still there to write to, but nobody would ever read it.
        let removed = self
            .file
            .as_ref()
            .is_some_and(|file| file.metadata().is_ok_and(|found| found.nlink() == 0));
        if (self.file.is_none() || removed)
            && let Err(error) = self.open()
        {
            return (0, Some(error));
        }
        let Some(file) = self.file.as_mut() else {
            return (0, Some(io::Error::from_raw_os_error(libc::EBADF)));
        };
        if self.torn {
            if let (_, Some(error)) = write_some(file, b"\n") {
                self.file = None;
                return (0, Some(error));
            }
            self.torn = false;
        }
        let (written, error) = write_some(file, lines);
        if error.is_some() {
            self.torn = written > 0 && lines.get(written - 1) != Some(&b'\n');
            self.file = None;
        }
        (written, error)
    }

    fn told(&self, error: &io::Error) -> String {
        let path = self.path.display();
        let todo = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => "; make room on that file system, writing goes on by itself",
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => "; give lockkeeper's user the right to write there",
            Some(libc::EISDIR) => "; name a file inside of it",
            Some(libc::ENOENT) => "; create its directory",
            Some(libc::ENXIO | libc::EAGAIN) => "; nobody reads that pipe",
            _ => "",
        };
        format!("cannot write the audit log {path}: {error}{todo}")
    }
}

fn ends_within_a_line(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(false);
    }
    let mut last = [0];
    let read = file.read_at(&mut last, length - 1)?;
    Ok(read == 1 && last != *b"\n")
}

/// As `write_all`, and tells how far it came.
fn write_some(file: &mut File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && drains(file) => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

/// Whether a full pipe or terminal takes bytes again within five seconds.
fn drains(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, of a file that is open for the whole call.
    let ready = unsafe { libc::poll(&mut poll, 1, 5_000) };
    ready == 1 && poll.revents & libc::POLLOUT != 0
}
