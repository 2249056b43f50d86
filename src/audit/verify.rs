//! Whether a log is as it was written: every line's own hash, and every line's place behind the one before.
//!
//! What cannot be seen in a file alone: lines cut off at its very end, and a log that was written anew from some line on
//! by somebody who knows the format. Against both helps a hash kept elsewhere: the proxy's own log names the last one
//! whenever a file is left, and [`Expect::hash`] looks for it. Start at [`verify`].

use super::chain::{self, Hash, Link};
use super::filter::{LineKind, kind_and_id};
use super::log_event::{LogEvent, What};
use super::read::{Block, blocks, in_parallel};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What is right.
#[derive(Debug, Default)]
pub struct Verified {
    pub lines: u64,
    pub link: Link,
    /// A process has closed the log with the last line.
    pub closed: bool,
    /// What is no fault, and should be known.
    pub remarks: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A file that cannot be opened or read.
    Unreadable(String),
    /// `file:line: what is wrong`.
    Broken(String),
}

/// What is known of the log from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Of a line that must be there.
    pub hash: Option<Hash>,
    /// Of the last line before the first file, where older files are kept elsewhere or were given up.
    pub after: Option<Hash>,
}

/// Looks at the files, the oldest first, and stops at the first line that is wrong.
pub fn verify(paths: &[PathBuf], expect: &Expect) -> Result<Verified, Fault> {
    let mut state = State {
        paths,
        expected: expect.hash,
        after: expect.after,
        ..State::default()
    };
    let mut fault = None;
    let blocks = blocks(paths).map_err(Fault::Unreadable)?;
    in_parallel(blocks, checks, |(file, checks)| {
        for (line, check) in checks {
            if let Err(what) = state.line(file, line, check) {
                fault = Some(Fault::Broken(what));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| Fault::Unreadable(error.to_string()))?;
    match fault {
        Some(fault) => Err(fault),
        None => state.end().map_err(Fault::Broken),
    }
}

/// What one line says of itself.
enum Check {
    Good(Link, Hash, Option<Box<LogEvent>>),
    /// Its hash is not that of its text.
    Changed,
    Foreign(Vec<u8>),
}

fn checks(block: &Block) -> (usize, Vec<(u64, Check)>) {
    let check = |line: &[u8]| match chain::read(line) {
        None => Check::Foreign(line.to_vec()),
        Some(found) if !found.holds() => Check::Changed,
        Some(found) => {
            let log = (kind_and_id(line).0 == LineKind::Log).then(|| serde_json::from_slice(line).ok());
            Check::Good(found.link, found.prev, log.flatten())
        }
    };
    let mut found: Vec<_> = block.lines().map(|(number, line)| (number, check(line))).collect();
    // A last line without its newline is not whole, whatever it looks like.
    if !block.text.ends_with(b"\n")
        && let (Some((_, check)), Some((_, line))) = (found.last_mut(), block.lines().last())
    {
        *check = Check::Foreign(line.to_vec());
    }
    (block.file, found)
}

#[derive(Default)]
struct State<'a> {
    paths: &'a [PathBuf],
    /// The file that is looked at.
    file: Option<usize>,
    verified: Verified,
    /// Lines of no form so far, and the number of the first.
    junk: Option<(u64, Vec<u8>)>,
    /// How the files before ended.
    ends: Vec<(usize, Link)>,
    expected: Option<Hash>,
    after: Option<Hash>,
}

impl State<'_> {
    fn line(&mut self, file: usize, number: u64, check: Check) -> Result<(), String> {
        if self.file != Some(file) {
            self.end_of_file()?;
            self.file = Some(file);
            self.verified.closed = false;
        }
        let at = self.at(number);
        match check {
            Check::Changed => Err(format!("{at}: this line was changed: its text does not have its hash")),
            Check::Foreign(text) => {
                match &mut self.junk {
                    Some((_, junk)) => {
                        junk.push(b'\n');
                        junk.extend_from_slice(&text);
                    }
                    None => self.junk = Some((number, text)),
                }
                Ok(())
            }
            Check::Good(link, prev, log) => {
                self.place(&at, number, link, prev, log.as_deref())?;
                self.verified.lines += 1;
                self.verified.link = link;
                if self.expected == Some(link.hash) {
                    self.expected = None;
                }
                self.verified.closed = log.as_ref().is_some_and(|log| log.what == What::Closed);
                match log {
                    Some(log) => self.heed(&at, &log),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether a line stands where it belongs.
    fn place(&mut self, at: &str, number: u64, link: Link, prev: Hash, log: Option<&LogEvent>) -> Result<(), String> {
        if let Some((line, junk)) = self.junk.take() {
            let is_known = log.is_some_and(|log| log.sha256.as_deref() == Some(&chain::hex(&chain::sha256(&junk))));
            if !is_known {
                let line = self.at(line);
                return Err(format!(
                    "{line}: this is no line of the log, and the one after does not tell of it"
                ));
            }
            let line = self.at(line);
            let remark = format!(
                "{line}: {} bytes of a line that a crash cut short; the next line tells of it",
                junk.len()
            );
            self.verified.remarks.push(remark);
        }
        let begins = self.file.is_some_and(|file| self.ends.len() < file + 1) && number == 1;
        let before = if begins || self.verified.lines == 0 {
            return self.first(at, link, prev, log);
        } else {
            self.verified.link
        };
        if link.seq == before.seq + 1 && prev == before.hash {
            return Ok(());
        }
        Err(if link.seq == before.seq + 1 {
            format!("{at}: the line before it is another than when this one was written")
        } else if link.seq > before.seq + 1 {
            let missing = link.seq - before.seq - 1;
            format!(
                "{at}: {missing} lines before it are missing (this is number {}, the last was {})",
                link.seq, before.seq
            )
        } else {
            format!(
                "{at}: it stands in the wrong place (this is number {}, the last was {})",
                link.seq, before.seq
            )
        })
    }

    /// A file's first line begins the log, or names the last one of the file before.
    fn first(&mut self, at: &str, link: Link, prev: Hash, log: Option<&LogEvent>) -> Result<(), String> {
        if link.seq == 1 && prev == Hash::default() {
            return match self.ends.last() {
                Some((file, end)) => {
                    let remark = format!(
                        "{at}: a new log begins here; it does not go on from {} (line {})",
                        self.name(*file),
                        end.seq
                    );
                    self.verified.remarks.push(remark);
                    Ok(())
                }
                None => Ok(()),
            };
        }
        let told = log.and_then(|log| log.last_hash.as_deref());
        if told != Some(&chain::hex(&prev)) {
            let missing = link.seq - 1;
            return Err(format!(
                "{at}: the file's beginning is missing: its first line is number {} of the log, {missing} are before it",
                link.seq
            ));
        }
        if self.ends.iter().any(|(_, end)| end.hash == prev) {
            return Ok(());
        }
        let (file, last) = (
            log.and_then(|log| log.file.as_deref()).unwrap_or("a file"),
            link.seq - 1,
        );
        match self.ends.last() {
            Some((before, end)) => Err(format!(
                "{at}: it goes on from line {last} ({file}), but {} ends with line {} and another hash: lines are missing",
                self.name(*before),
                end.seq
            )),
            None if self.after == Some(prev) => {
                self.verified.remarks.push(format!(
                    "{at}: the log goes on from line {last} in {file}, which was not given; its hash is the expected one"
                ));
                Ok(())
            }
            None => Err(format!(
                "{at}: the log goes on from line {last} in {file}, which was not given: give it too, or, if it is kept elsewhere, \
                 --after with its last line's hash (here: {})",
                chain::hex(&prev)
            )),
        }
    }

    /// What a line about the log tells of what is missing.
    fn heed(&mut self, at: &str, log: &LogEvent) -> Result<(), String> {
        match log.what {
            What::Cut => Err(format!("{at}: {}", log.message)),
            What::Lost => {
                self.verified.remarks.push(format!("{at}: {}", log.message));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end_of_file(&mut self) -> Result<(), String> {
        if let Some((line, junk)) = self.junk.take() {
            return Err(format!(
                "{}: {} bytes at the end are no whole line; after a crash the next start closes them off",
                self.at(line),
                junk.len()
            ));
        }
        if let Some(file) = self.file {
            self.ends.push((file, self.verified.link));
        }
        Ok(())
    }

    fn end(mut self) -> Result<Verified, String> {
        self.end_of_file()?;
        if let Some(hash) = self.expected {
            return Err(format!(
                "{}: no line has the expected hash {}: the end was cut away, or the log was written anew",
                self.name(self.file.unwrap_or(0)),
                chain::hex(&hash)
            ));
        }
        if !self.verified.closed && self.verified.lines > 0 {
            let remark = "the last line does not close the log: it is still written, its process was killed, or lines were cut off at the end";
            self.verified.remarks.push(remark.into());
        }
        Ok(self.verified)
    }

    fn name(&self, file: usize) -> String {
        let path = self.paths.get(file).map_or(Path::new("-"), PathBuf::as_path);
        path.display().to_string()
    }

    fn at(&self, line: u64) -> String {
        format!("{}:{line}", self.name(self.file.unwrap_or(0)))
    }
}
