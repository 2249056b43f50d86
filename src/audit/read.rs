//! Reading logs: files as they are written, rotated ones, gzip's, and standard input, at the speed of the disk.
//!
//! [`events`] is an iterator of the events that a [`Filter`] wants, for whoever serves or prints them. Underneath are
//! [`blocks`] of whole lines, which [`in_parallel`] gives to all processors. Nothing here writes.

use super::chain::{self, Link};
use super::file::{begins_after, siblings};
use super::filter::{Filter, LineKind, Selector, kind_and_id};
use super::{Event, Phase};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

const BLOCK_BYTES: usize = 2 << 20;
/// Of a writer in the middle of a line; should it be stopped there, the last line is not whole.
const LOCK_WAIT: Duration = Duration::from_millis(500);
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Whole lines of one file.
pub struct Block {
    /// With its last newline, unless the file ends without one.
    pub text: Vec<u8>,
    /// Which of the given files, from 0.
    pub file: usize,
    /// The number of its first line, from 1.
    pub line: u64,
}

impl Block {
    /// Each line without its newline, and its number.
    pub fn lines(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let text = self.text.strip_suffix(b"\n").unwrap_or(&self.text);
        (self.line..).zip(text.split(|byte| *byte == b'\n'))
    }
}

/// The end results of the statements that are wanted, in the order of the log. Lines that cannot be read are passed over.
pub fn events(paths: &[PathBuf], filter: Filter) -> Result<impl Iterator<Item = io::Result<Event>>, String> {
    let selector = Selector::new(filter);
    Ok(blocks(paths)?.flat_map(move |block| -> Vec<io::Result<Event>> {
        match block {
            Ok(block) => {
                let ends = block.lines().filter(|(_, line)| is_end(line));
                ends.filter_map(|(_, line)| selector.select(line).ok()?.map(Ok))
                    .collect()
            }
            Err(error) => vec![Err(error)],
        }
    }))
}

fn is_end(line: &[u8]) -> bool {
    kind_and_id(line).0 == LineKind::Event(Phase::Statement)
}

/// Every event of the statement of that id, or of those whose ids end so, in the order of the log.
pub fn story(paths: &[PathBuf], id: &str) -> Result<Vec<Event>, String> {
    let selector = Selector::new(Filter {
        id: Some(id.into()),
        ..Filter::default()
    });
    let mut found = Vec::new();
    let pick = |block: &Block| -> Vec<Event> {
        let events = block
            .lines()
            .filter(|(_, line)| matches!(kind_and_id(line).0, LineKind::Event(_)));
        events.filter_map(|(_, line)| selector.select(line).ok()?).collect()
    };
    in_parallel(blocks(paths)?, pick, |events| {
        found.extend(events);
        ControlFlow::Continue(())
    })
    .map_err(|error| error.to_string())?;
    Ok(found)
}

/// The files one after the other, the oldest first. The error names a file that cannot be opened.
pub fn blocks(paths: &[PathBuf]) -> Result<impl Iterator<Item = io::Result<Block>> + Send, String> {
    let sources = paths
        .iter()
        .map(|path| Source::open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let names = paths.to_vec();
    Ok(sources.into_iter().enumerate().flat_map(move |(file, source)| {
        let name = names
            .get(file)
            .map(|name| name.display().to_string())
            .unwrap_or_default();
        Blocks::new(file, source).map(move |block| {
            block.map_err(|error| io::Error::new(error.kind(), format!("cannot read {name}: {error}")))
        })
    }))
}

/// By the time of their first lines, so that they may be given as a shell lists them. Those without one come first.
pub fn in_order(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut timed = Vec::new();
    for path in paths {
        let mut first = String::new();
        // Standard input can be read only once.
        if paths.len() > 1 && path != Path::new("-") {
            let source = Source::open(path)?;
            let mut start = Vec::new();
            source
                .take(512)
                .read_to_end(&mut start)
                .map_err(|error| cannot(path, &error))?;
            let text = String::from_utf8_lossy(&start);
            first = text
                .split("\"time\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap_or("")
                .to_owned();
        }
        timed.push((first, path.clone()));
    }
    timed.sort();
    Ok(timed.into_iter().map(|(_, path)| path).collect())
}

/// Gives blocks to all processors and takes what they make of them, in the blocks' order, until `take` breaks.
pub fn in_parallel<T: Send>(
    blocks: impl Iterator<Item = io::Result<Block>> + Send,
    work: impl Fn(&Block) -> T + Sync,
    mut take: impl FnMut(T) -> ControlFlow<()>,
) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (to_work, arriving) = mpsc::sync_channel::<(usize, io::Result<Block>)>(threads);
        let arriving = std::sync::Arc::new(Mutex::new(arriving));
        let (done, results) = mpsc::sync_channel(threads);
        scope.spawn(move || {
            for numbered in blocks.enumerate() {
                let last = numbered.1.is_err();
                if to_work.send(numbered).is_err() || last {
                    return;
                }
            }
        });
        for _ in 0..threads {
            let (arriving, done, work) = (arriving.clone(), done.clone(), &work);
            scope.spawn(move || {
                loop {
                    let next = arriving.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((n, block)) = next else { return };
                    if done.send((n, block.map(|block| work(&block)))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((arriving, done));
        let (mut due, mut early) = (0, BTreeMap::new());
        for (n, result) in results {
            early.insert(n, result);
            while let Some(result) = early.remove(&due) {
                due += 1;
                if take(result?).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

/// Where a log's bytes come from.
enum Source {
    /// Up to where it was whole when it was opened.
    File(io::Take<File>),
    Stdin(io::Stdin),
    Gzip(Child, ChildStdout),
}

impl Source {
    fn open(path: &Path) -> Result<Source, String> {
        if path == Path::new("-") {
            return Ok(Source::Stdin(io::stdin()));
        }
        let file = File::open(path).map_err(|error| cannot(path, &error))?;
        let meta = file.metadata().map_err(|error| cannot(path, &error))?;
        if meta.is_dir() {
            return Err(cannot(path, &io::Error::from_raw_os_error(libc::EISDIR)));
        }
        if !meta.is_file() {
            return Ok(Source::File(file.take(u64::MAX)));
        }
        let mut magic = [0; 2];
        let is_gzip = std::os::unix::fs::FileExt::read_exact_at(&file, &mut magic, 0).is_ok() && magic == GZIP;
        if !is_gzip {
            let length = whole_length(&file).map_err(|error| cannot(path, &error))?;
            return Ok(Source::File(file.take(length)));
        }
        let mut command = Command::new("gzip");
        command.arg("-dc").stdin(file).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("{} is compressed, and gzip cannot be run: {error}", path.display()))?;
        match child.stdout.take() {
            Some(stdout) => Ok(Source::Gzip(child, stdout)),
            None => Err(format!("{}: gzip has no output", path.display())),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::File(file) => file.read(buffer),
            Source::Stdin(stdin) => stdin.read(buffer),
            Source::Gzip(child, stdout) => match stdout.read(buffer)? {
                0 if !child.wait()?.success() => {
                    Err(io::Error::new(ErrorKind::InvalidData, "gzip could not read all of it"))
                }
                count => Ok(count),
            },
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Gzip(child, _) = self {
            // Who stops early needs no more of it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// The file's length between two lines: no writer is in the middle of one.
fn whole_length(file: &File) -> io::Result<u64> {
    let until = Instant::now() + LOCK_WAIT;
    // SAFETY: flock(2) takes no memory; the file outlives the call.
    while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } != 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    let length = file.metadata().map(|meta| meta.len());
    // SAFETY: as above; without a lock it does nothing.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
    length
}

struct Blocks {
    file: usize,
    source: Option<Source>,
    line: u64,
    /// The beginning of a line whose end is not read yet.
    rest: Vec<u8>,
}

impl Blocks {
    fn new(file: usize, source: Source) -> Blocks {
        Blocks {
            file,
            source: Some(source),
            line: 1,
            rest: Vec::new(),
        }
    }

    fn block(&mut self, text: Vec<u8>, lines: usize) -> Block {
        let line = self.line;
        self.line += lines as u64;
        Block {
            text,
            file: self.file,
            line,
        }
    }
}

impl Iterator for Blocks {
    type Item = io::Result<Block>;

    fn next(&mut self) -> Option<io::Result<Block>> {
        let mut text = std::mem::take(&mut self.rest);
        loop {
            let start = text.len();
            text.resize(start + BLOCK_BYTES, 0);
            let read = match self.source.as_mut()?.read(&mut text[start..]) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => {
                    self.source = None;
                    return Some(Err(error));
                }
            };
            text.truncate(start + read);
            if read == 0 {
                self.source = None;
                return (!text.is_empty()).then(|| Ok(self.block(text, 1)));
            }
            if let Some(end) = memchr::memrchr(b'\n', &text[start..]) {
                self.rest = text.split_off(start + end + 1);
                let lines = memchr::memchr_iter(b'\n', &text).count();
                return Some(Ok(self.block(text, lines)));
            }
        }
    }
}

/// A log that is still written, over its rotations.
pub struct Follow {
    path: PathBuf,
    file: Option<File>,
    read: u64,
    rest: Vec<u8>,
    /// The last line's.
    link: Link,
}

impl Follow {
    /// From the file's beginning.
    pub fn new(path: &Path) -> Result<Follow, String> {
        let file = File::open(path).map_err(|error| cannot(path, &error))?;
        Ok(Follow {
            path: path.to_path_buf(),
            file: Some(file),
            read: 0,
            rest: Vec::new(),
            link: Link::default(),
        })
    }

    /// Whole lines that have come since; empty: nothing for now, ask again in a while.
    pub fn poll(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let text = self.more()?;
            if !text.is_empty() || !self.moved()? {
                return Ok(text);
            }
            // What was written between the last look and the move.
            let text = self.more()?;
            if !text.is_empty() {
                return Ok(text);
            }
            self.file = self.successor();
            (self.read, self.rest) = (0, Vec::new());
        }
    }

    /// The name leads to another file now.
    fn moved(&mut self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Ok(named) = std::fs::metadata(&self.path) else {
            return Ok(false);
        };
        let Some(file) = &self.file else { return Ok(true) };
        let open = file.metadata()?;
        if open.len() < self.read {
            // Emptied in place.
            (self.read, self.rest) = (0, Vec::new());
        }
        Ok((open.dev(), open.ino()) != (named.dev(), named.ino()))
    }

    fn more(&mut self) -> io::Result<Vec<u8>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let mut text = std::mem::take(&mut self.rest);
        let start = text.len();
        text.resize(start + BLOCK_BYTES, 0);
        let count = std::os::unix::fs::FileExt::read_at(file, &mut text[start..], self.read)?;
        self.read += count as u64;
        text.truncate(start + count);
        let end = memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1);
        self.rest = text.split_off(end);
        let whole = text.strip_suffix(b"\n").unwrap_or(&text);
        let last = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        if let Some(line) = chain::read(last) {
            self.link = line.link;
        }
        Ok(text)
    }

    /// The file that goes on from the last line: where it was rotated twice meanwhile, not the one of the name.
    fn successor(&self) -> Option<File> {
        use std::os::unix::fs::MetadataExt;
        let left = self
            .file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(|meta| meta.ino());
        let named = std::iter::once(self.path.clone());
        let next = named.chain(siblings(&self.path)).find_map(|path| {
            let file = File::open(path).ok()?;
            let is_other = Some(file.metadata().ok()?.ino()) != left;
            (is_other && begins_after(&file, &self.link)).then_some(file)
        });
        next.or_else(|| File::open(&self.path).ok())
    }
}
