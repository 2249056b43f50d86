//! The log's file by its name: appended to by several processes at once, moved away by its own rotation or by logrotate,
//! cut by a full disk or a crash; the chain goes on through all of it.
//!
//! Whoever appends holds flock(2) on the file, looks whether the name still leads to it, and reads its end again where
//! another has written. A file is left for the next one only under its own lock, after which nobody appends to it: so its
//! last hash, which the next file's first line names, stays its last. Start at [`Log::append`].

use super::chain::{self, Hash, Link};
use super::log_event::{LogEvent, What};
use super::sink::{Fsync, Sink};
use super::time::{parse, timestamp};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Another process holds the lock for one write(2), as a rule; one that is stopped holds it for ever.
const LOCK_WAIT: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// What is looked through from the file's end for a line of the chain.
const TAIL_BYTES_MAX: u64 = 64 << 20;
const TAIL_BLOCK: u64 = 64 << 10;
/// A name that leads to yet another file each time one is opened.
const OPEN_TRIES: u32 = 10;

pub struct Log {
    sink: Sink,
    file: Option<Open>,
    /// Lines about the log itself that are written before the next event.
    notes: Vec<LogEvent>,
    unsynced: bool,
}

struct Open {
    file: File,
    /// Not a pipe, a terminal or a device: others may write too, and it can be rotated.
    regular: bool,
    /// As it was when `link` was its last line's.
    length: u64,
    link: Link,
    /// Of its first line.
    since: SystemTime,
}

/// What of an append is in the file, whole lines only.
pub struct Appended {
    /// Of the bodies that were given.
    pub lines: usize,
    /// The line about lost events.
    pub loss_told: bool,
    /// What stopped it, and whether it was only the way to the disk.
    pub error: Option<io::Error>,
    pub unsynced: bool,
}

/// The end of a file.
struct Tail {
    link: Link,
    /// What stands behind the last line of the chain: torn by a crash, or no line of ours.
    junk: Option<Junk>,
}

struct Junk {
    bytes: u64,
    sha256: Hash,
    /// The file's end is in the middle of a line.
    open: bool,
}

impl Log {
    pub fn new(sink: Sink) -> Log {
        Log {
            sink,
            file: None,
            notes: Vec::new(),
            unsynced: false,
        }
    }

    /// The first opening, which is told by a line. An error in writing that line is no reason not to start.
    pub fn start(&mut self) -> io::Result<Appended> {
        let lock = self.locked()?;
        let mut note = LogEvent::new(What::Opened, "lockkeeper opened the log".into());
        if let Some(open) = self.file.as_mut().filter(|open| open.regular)
            && open.file.metadata()?.len() == 0
        {
            let before = predecessor(&self.sink.path);
            note.message = match &before {
                Some((name, link)) => {
                    open.link = *link;
                    format!(
                        "lockkeeper opened the log, which goes on from {name}, line {}",
                        link.seq
                    )
                }
                None => "lockkeeper began the log".into(),
            };
            note = note.after(before);
        }
        self.notes.push(note);
        drop(lock);
        Ok(self.append(&[], 0))
    }

    /// Appends one line for each body, which is a JSON object, after those about the log itself; `lost` events could not be
    /// written before.
    pub fn append(&mut self, bodies: &[Vec<u8>], lost: u64) -> Appended {
        let mut appended = Appended {
            lines: 0,
            loss_told: false,
            error: None,
            unsynced: false,
        };
        let _lock = match self.prepare() {
            Ok(lock) => lock,
            Err(error) => {
                appended.error = Some(error);
                return appended;
            }
        };
        let loss = (lost > 0).then(|| {
            let message = format!("{lost} events could not be written before this line");
            LogEvent {
                lost: Some(lost),
                ..LogEvent::new(What::Lost, message)
            }
        });
        let notes: Vec<Vec<u8>> = self.notes.iter().chain(&loss).map(LogEvent::object).collect();
        let Some(open) = &mut self.file else {
            appended.error = Some(io::Error::from_raw_os_error(libc::EBADF));
            return appended;
        };
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(notes.len() + bodies.len());
        let mut link = open.link;
        for object in notes.iter().chain(bodies) {
            link = chain::seal(link, object, &mut text);
            ends.push((text.len(), link));
        }
        if text.is_empty() {
            return appended;
        }
        let (written, error) = write_some(&mut open.file, &text);
        let whole = ends.iter().take_while(|(end, _)| *end <= written).count();
        if let Some((end, link)) = whole.checked_sub(1).and_then(|last| ends.get(last)) {
            (open.link, open.length) = (*link, open.length + *end as u64);
        }
        self.unsynced |= whole > 0;
        appended.error = error;
        if appended.error.is_some() {
            if open.regular {
                // Part of a line; where even this fails it is closed off before the next line.
                let _ = open.file.set_len(open.length);
            }
        } else if self.sink.fsync == Fsync::Each {
            appended.error = self.sync().err();
            appended.unsynced = appended.error.is_some();
        }
        let told = whole.min(self.notes.len());
        self.notes.drain(..told);
        appended.loss_told = loss.is_some() && whole > told;
        appended.lines = whole - told - usize::from(appended.loss_told);
        appended
    }

    /// After logrotate has moved the file away.
    pub fn reopen(&mut self) -> io::Result<()> {
        let _lock = self.locked()?;
        self.follow_name().map(|_| ())
    }

    /// To the disk, where that is wanted and something is not there yet.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.unsynced || self.sink.fsync == Fsync::None {
            return Ok(());
        }
        match &self.file {
            Some(open) if open.regular => open.file.sync_data()?,
            _ => {}
        }
        self.unsynced = false;
        Ok(())
    }

    pub fn interval_sync_due(&self) -> bool {
        self.unsynced && self.sink.fsync == Fsync::Interval
    }

    pub fn note(&mut self, note: LogEvent) {
        self.notes.push(note);
    }

    /// The chain's end, for the log of the process.
    pub fn link(&self) -> Link {
        self.file.as_ref().map(|open| open.link).unwrap_or_default()
    }

    pub fn path(&self) -> &Path {
        &self.sink.path
    }

    // --- before a line is written -----------------------------------------------------------------------------------

    /// The file that the name leads to, locked, its end known and whole.
    fn prepare(&mut self) -> io::Result<Option<Lock>> {
        let mut lock = self.locked()?;
        self.catch_up()?;
        if self.moved() {
            match self.follow_name() {
                Ok(new) => lock = new.or(lock),
                // As long as somebody can still find the old one, it is better than none.
                Err(error) if self.removed() => return Err(error),
                Err(error) => tracing::error!("{}; the file that was moved is still written", self.told(&error)),
            }
        }
        if self.full() {
            match self.rotate() {
                Ok(new) => lock = new.or(lock),
                Err(error) => tracing::error!(
                    "cannot rotate the audit log {}: {error}; it goes on growing",
                    self.sink.path.display()
                ),
            }
        }
        Ok(lock)
    }

    /// Opens the file where it is not, and locks it.
    fn locked(&mut self) -> io::Result<Option<Lock>> {
        if self.file.is_none() {
            let opened = self.open()?;
            self.file = Some(opened);
        }
        match &self.file {
            Some(open) if open.regular => Lock::take(&open.file).map(Some),
            _ => Ok(None),
        }
    }

    /// Without the lock: its end may still move.
    fn open(&self) -> io::Result<Open> {
        let path = &self.sink.path;
        let regular = match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::Error::from_raw_os_error(libc::EISDIR)),
            Ok(found) => found.is_file(),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        options.append(true);
        if regular {
            options.read(true).create(true).mode(0o600);
        } else {
            // A pipe that nobody reads is an error (ENXIO) instead of a thread that waits for ever.
            options.custom_flags(libc::O_NONBLOCK);
        }
        let file = options.open(path)?;
        let since = since(&file).unwrap_or_else(SystemTime::now);
        Ok(Open {
            file,
            regular,
            length: 0,
            link: Link::default(),
            since,
        })
    }

    /// What others have written since, or what somebody has cut away.
    fn catch_up(&mut self) -> io::Result<()> {
        let Some(open) = self.file.as_mut().filter(|open| open.regular) else {
            return Ok(());
        };
        let (length, before) = (open.file.metadata()?.len(), open.link);
        if open.is_as_it_was(length) {
            return Ok(());
        }
        if length == 0 {
            // Emptied in place (logrotate's copytruncate): the chain goes on from what was there.
            let note = LogEvent::new(
                What::Continues,
                "the file was emptied; what was in it ended here".into(),
            );
            self.notes.insert(0, note.after(Some((String::new(), before))));
            (open.length, open.since) = (0, SystemTime::now());
            return Ok(());
        }
        let tail = Tail::of(&open.file, length)?;
        let cut = tail.link.seq < before.seq || (tail.link.seq == before.seq && tail.link != before);
        (open.link, open.length) = (tail.link, length);
        if let Some(junk) = tail.junk {
            if junk.open {
                if let (_, Some(error)) = write_some(&mut open.file, b"\n") {
                    open.length = 0;
                    return Err(error);
                }
                open.length += 1;
            }
            self.notes.insert(0, junk.note());
        }
        if cut {
            let message = format!(
                "lines that this process had seen are gone: the last was line {}, and now it is line {}",
                before.seq, tail.link.seq
            );
            let note = LogEvent::new(What::Cut, message).after(Some((String::new(), before)));
            self.notes.insert(0, note);
        }
        Ok(())
    }

    // --- from one file to the next ----------------------------------------------------------------------------------

    /// True: the name leads elsewhere, or nowhere.
    fn moved(&self) -> bool {
        let Some(open) = self.file.as_ref().filter(|open| open.regular) else {
            return false;
        };
        !same(&open.file, &self.sink.path)
    }

    fn removed(&self) -> bool {
        let open = self.file.as_ref();
        open.is_none_or(|open| open.file.metadata().is_ok_and(|found| found.nlink() == 0))
    }

    fn full(&self) -> bool {
        let Some(open) = self.file.as_ref().filter(|open| open.regular && open.length > 0) else {
            return false;
        };
        let old = |after: Duration| open.since.elapsed().is_ok_and(|age| age >= after);
        self.sink.rotate_bytes.is_some_and(|most| open.length >= most) || self.sink.rotate_after.is_some_and(old)
    }

    /// Under the lock of the file that is full.
    fn rotate(&mut self) -> io::Result<Option<Lock>> {
        let stamp = timestamp(SystemTime::now()).replace(['-', ':'], "");
        let stamp = stamp.split('.').next().unwrap_or(&stamp);
        let name = |n: u32| {
            let mut name = OsString::from(&self.sink.path);
            name.push(format!(".{stamp}Z"));
            if n > 1 {
                name.push(format!("-{n}"));
            }
            PathBuf::from(name)
        };
        // Only those who hold the lock give such names.
        let free = (1..).map(name).find(|name| std::fs::symlink_metadata(name).is_err());
        let free = free.ok_or(ErrorKind::AlreadyExists)?;
        std::fs::rename(&self.sink.path, &free)?;
        self.follow_name()
    }

    /// Leaves the open file, which is locked, for the one that the name leads to; gives that one's lock.
    fn follow_name(&mut self) -> io::Result<Option<Lock>> {
        self.catch_up()?;
        let Some(old) = self.file.as_ref().filter(|_| self.moved()) else {
            return Ok(None);
        };
        let (link, name) = (old.link, name_of(&old.file));
        for _ in 0..OPEN_TRIES {
            let mut new = self.open()?;
            let lock = new.regular.then(|| Lock::take(&new.file)).transpose()?;
            if new.regular && !same(&new.file, &self.sink.path) {
                continue;
            }
            // A file that cannot be put on the disk any more is no reason not to use the next one.
            if let Err(error) = self.sync() {
                tracing::error!("{}", self.told(&error));
            }
            self.sync_directory();
            let message = format!("the log goes on from {}, line {}", shown(&name), link.seq);
            let note = LogEvent::new(What::Continues, message).after(Some((name.clone(), link)));
            let empty = !new.regular || new.file.metadata()?.len() == 0;
            let known = !empty && begins_after(&new.file, &link);
            if empty {
                new.link = link;
            }
            tracing::info!(
                file = %self.sink.path.display(), left = shown(&name), line = link.seq, hash = chain::hex(&link.hash),
                "the audit log goes on in a new file"
            );
            self.file = Some(new);
            self.catch_up()?;
            if !known {
                self.notes.insert(0, note);
            }
            return Ok(lock);
        }
        Err(io::Error::other("its name leads to another file again and again"))
    }

    /// So that the new name survives a power cut too; not every file system can.
    fn sync_directory(&self) {
        let parent = self.sink.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if self.sink.fsync != Fsync::None
            && let Ok(directory) = File::open(parent.unwrap_or(Path::new(".")))
        {
            let _ = directory.sync_all();
        }
    }

    pub fn told(&self, error: &io::Error) -> String {
        let path = self.sink.path.display();
        let todo = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => "; make room on that file system, writing goes on by itself",
            Some(libc::EFBIG) => "; raise the limit of file sizes (ulimit -f), or let it rotate (--audit-rotate-bytes)",
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => "; give lockkeeper's user the right to write there",
            Some(libc::EISDIR) => "; name a file inside of it",
            Some(libc::ENOENT) => "; create its directory",
            Some(libc::ENXIO | libc::EAGAIN) => "; nobody reads that pipe",
            _ => "",
        };
        format!("cannot write the audit log {path}: {error}{todo}")
    }
}

impl Open {
    /// Nobody else has written, cut or changed its end.
    fn is_as_it_was(&self, length: u64) -> bool {
        let hash = chain::hex(&self.link.hash);
        let mut end = [0; 67];
        length == self.length
            && (length == 0
                || length
                    .checked_sub(end.len() as u64)
                    .is_some_and(|at| self.file.read_exact_at(&mut end, at).is_ok())
                    && end.starts_with(hash.as_bytes())
                    && end.ends_with(b"\"}\n"))
    }
}

/// flock(2), given back with the drop: of a descriptor of its own, so that the number is not another file's by then.
struct Lock(File);

impl Lock {
    fn take(file: &File) -> io::Result<Lock> {
        let lock = Lock(file.try_clone()?);
        let until = Instant::now() + LOCK_WAIT;
        loop {
            // SAFETY: flock(2) takes no memory; the file outlives the call.
            if unsafe { libc::flock(lock.0.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Ok(lock);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EWOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_PAUSE),
                Some(libc::EWOULDBLOCK) => {
                    return Err(io::Error::other(
                        "another process has held its lock for 3 s; is one stopped?",
                    ));
                }
                _ => return Err(error),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

impl Tail {
    /// Of the file's first `length` bytes.
    fn of(file: &File, length: u64) -> io::Result<Tail> {
        let mut block = TAIL_BLOCK;
        loop {
            let start = length.saturating_sub(block);
            let mut text = vec![0; (length - start) as usize];
            file.read_exact_at(&mut text, start)?;
            if let Some(tail) = Tail::within(&text, start == 0 || block >= TAIL_BYTES_MAX) {
                return Ok(tail);
            }
            block *= 8;
        }
    }

    /// None: more of the file must be seen. `all`: there is no more.
    fn within(text: &[u8], all: bool) -> Option<Tail> {
        let mut end = memchr::memrchr(b'\n', text).map(|at| at + 1);
        while let Some(after) = end {
            let line = &text[..after - 1];
            let start = match memchr::memrchr(b'\n', line) {
                Some(at) => at + 1,
                None if all => 0,
                None => return None,
            };
            if let Some(line) = chain::read(&line[start..]) {
                return Some(Tail {
                    link: line.link,
                    junk: Junk::of(&text[after..]),
                });
            }
            end = (start > 0).then_some(start);
        }
        all.then(|| Tail {
            link: Link::default(),
            junk: Junk::of(text),
        })
    }
}

impl Junk {
    fn note(&self) -> LogEvent {
        let message = format!(
            "{} bytes before this line are no line of the log: cut by a crash, or put there by somebody else",
            self.bytes
        );
        LogEvent {
            bytes: Some(self.bytes),
            sha256: Some(chain::hex(&self.sha256)),
            ..LogEvent::new(What::Repaired, message)
        }
    }

    fn of(text: &[u8]) -> Option<Junk> {
        let closed = text.strip_suffix(b"\n");
        (!text.is_empty()).then(|| Junk {
            bytes: closed.unwrap_or(text).len() as u64,
            sha256: chain::sha256(closed.unwrap_or(text)),
            open: closed.is_none(),
        })
    }
}

/// The time of its first line.
fn since(file: &File) -> Option<SystemTime> {
    let mut start = [0; 512];
    let read = file.read_at(&mut start, 0).ok()?;
    let text = start.get(..read)?;
    let at = memchr::memmem::find(text, b"\"time\":\"")? + 8;
    let end = at + memchr::memchr(b'"', text.get(at..)?)?;
    parse(std::str::from_utf8(text.get(at..end)?).ok()?, SystemTime::now()).ok()
}

/// Whether the file's first line follows that one.
pub(super) fn begins_after(file: &File, link: &Link) -> bool {
    first_line(file).is_some_and(|line| chain::read(&line).is_some_and(|line| line.prev == link.hash))
}

fn first_line(mut file: &File) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut block = vec![0; 64 << 10];
    io::Seek::rewind(&mut file).ok()?;
    while line.len() < TAIL_BYTES_MAX as usize {
        let read = file.read(&mut block).ok().filter(|read| *read > 0)?;
        match memchr::memchr(b'\n', &block[..read]) {
            Some(end) => {
                line.extend_from_slice(&block[..end]);
                return Some(line);
            }
            None => line.extend_from_slice(&block[..read]),
        }
    }
    None
}

/// Files beside it whose names begin with its name, as rotation gives them.
pub(super) fn siblings(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| {
        let found = entry.file_name();
        let rest = found.to_str().and_then(|found| found.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['.', '-']))
    });
    named.map(|entry| entry.path()).collect()
}

/// The newest file that was moved away under a longer name, and the chain's end in it: where a process ended between
/// moving and going on, or logrotate came while none ran.
fn predecessor(path: &Path) -> Option<(String, Link)> {
    let moved = siblings(path).into_iter().filter_map(|path| {
        let meta = std::fs::metadata(&path)
            .ok()
            .filter(|meta| meta.is_file() && meta.len() > 0)?;
        Some((meta.modified().ok()?, path))
    });
    let mut moved: Vec<_> = moved.collect();
    moved.sort();
    moved.into_iter().rev().find_map(|(_, path)| {
        let file = File::open(&path).ok()?;
        let tail = Tail::of(&file, file.metadata().ok()?.len()).ok()?;
        let name = path.file_name()?.to_string_lossy().into_owned();
        (tail.link.seq > 0).then_some((name, tail.link))
    })
}

/// What an open file is called now; empty where it has no name.
fn name_of(file: &File) -> String {
    let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| !name.ends_with(" (deleted)")).unwrap_or_default()
}

fn shown(name: &str) -> &str {
    if name.is_empty() {
        "a file that was removed"
    } else {
        name
    }
}

fn same(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
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
    let mut poll = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, of a file that is open for the whole call.
    let ready = unsafe { libc::poll(&mut poll, 1, 5_000) };
    ready == 1 && poll.revents & libc::POLLOUT != 0
}
