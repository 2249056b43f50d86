//! The newest statements of an audit log, read from its end backwards, so that a page of a large log costs what the page
//! holds. Which statements are wanted is [`crate::audit::filter`]'s business.

use crate::audit::after::After;
use crate::audit::again::{self, CONTINUED};
use crate::audit::filter::{Filter, LineKind, Selector, kind_and_id};
use crate::audit::{Event, Phase};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 4 << 20;
/// Rotated files that are followed back.
const FILES_MAX: usize = 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A statement as the log has it: its end, or the last that is known of it.
#[derive(Debug, Serialize)]
pub struct Told {
    #[serde(flatten)]
    pub event: Event,
    /// The log has its end.
    pub ended: bool,
    /// It has not, but the same statement was sent again and done.
    pub continued: bool,
}

#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub statements: Vec<Told>,
    /// There are older ones.
    pub more: bool,
}

/// At most `limit` statements. The files are given newest first; a file that goes on from another one leads to that.
pub fn newest(files: &[PathBuf], filter: Filter, limit: usize) -> Result<Found, String> {
    let unfinished = [UNFINISHED, CONTINUED]
        .into_iter()
        .find(|open| filter.outcome.as_deref() == Some(open));
    let filter = Filter {
        outcome: filter.outcome.filter(|_| unfinished.is_none()),
        ..filter
    };
    let mut search = Search {
        selector: Selector::new(filter),
        unfinished,
        limit,
        ended: HashSet::new(),
        done: HashSet::new(),
        told: HashMap::new(),
        later: HashMap::new(),
        hasher: RandomState::new(),
        found: Found::default(),
    };
    let mut waiting: Vec<PathBuf> = files.iter().rev().cloned().collect();
    let mut read = HashSet::new();
    while let Some(path) = waiting.pop() {
        if !read.insert(path.clone()) || read.len() > FILES_MAX {
            continue;
        }
        match search.file(&path) {
            Ok(Some(before)) => waiting.push(before),
            Ok(None) => {}
            // An older file may have been taken away; what was asked for must be there.
            Err(error) if files.contains(&path) => return Err(format!("cannot read {}: {error}", path.display())),
            Err(_) => {}
        }
        if search.found.more {
            break;
        }
    }
    Ok(search.found)
}

/// The outcome to ask for where a statement's end is not in the log.
const UNFINISHED: &str = "unfinished";

struct Search {
    selector: Selector,
    /// Only those without an end: which.
    unfinished: Option<&'static str>,
    limit: usize,
    /// Statements whose end was seen, and those that are in `found` without one.
    ended: HashSet<u64>,
    /// What was done, later than the lines that come now.
    done: HashSet<u64>,
    told: HashMap<u64, usize>,
    /// What was found out about a statement after its end, which comes before it here.
    later: HashMap<u64, After>,
    hasher: RandomState,
    found: Found,
}

impl Search {
    /// The file that this one goes on from, where it says so.
    fn file(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut first = vec![0; 4096.min(length as usize)];
        file.read_exact_at(&mut first, 0)?;
        if first.starts_with(&GZIP) {
            return Err(io::Error::other("it is compressed; gunzip a copy of it"));
        }
        let mut end = length;
        // Of a line whose beginning is before the chunk.
        let mut tail = Vec::new();
        while end > 0 && !self.found.more {
            let start = end.saturating_sub(CHUNK_BYTES as u64);
            let mut chunk = vec![0; (end - start) as usize];
            file.read_exact_at(&mut chunk, start)?;
            chunk.append(&mut tail);
            let whole = match start {
                0 => 0,
                _ => memchr::memchr(b'\n', &chunk).map_or(chunk.len(), |newline| newline + 1),
            };
            let lines = chunk[whole..].split(|byte| *byte == b'\n');
            for line in lines.rev().filter(|line| !line.is_empty()) {
                self.line(line);
                if self.found.more {
                    break;
                }
            }
            chunk.truncate(whole);
            tail = chunk;
            end = start;
        }
        Ok(goes_on_from(&first).map(|name| path.with_file_name(name)))
    }

    /// A line that cannot be read is torn, or of a later version: it is passed over.
    fn line(&mut self, line: &[u8]) {
        let (LineKind::Event(phase), id) = kind_and_id(line) else {
            return;
        };
        let id = self.hasher.hash_one(id);
        match phase {
            Phase::After => {
                if let Ok(Some(Event { after: Some(after), .. })) = self.selector.select(line) {
                    self.later.insert(id, after);
                }
            }
            Phase::Statement => {
                self.ended.insert(id);
                self.done.extend(again::done(line));
                if self.unfinished.is_none()
                    && let Ok(Some(mut event)) = self.selector.select(line)
                {
                    event.after = self.later.remove(&id).or(event.after);
                    self.push(event, true, false);
                }
            }
            Phase::Decided => {}
            Phase::Planned | Phase::Waiting | Phase::Step | Phase::Ran if self.ended.contains(&id) => {}
            Phase::Waiting | Phase::Step | Phase::Ran => {
                // The latest of it; its steps are put together from those before.
                if !self.told.contains_key(&id)
                    && let Some(continued) = self.open(line)
                    && let Ok(Some(event)) = self.selector.select(line)
                {
                    self.told.insert(id, self.found.statements.len());
                    self.push(event, false, continued);
                } else if let Some(told) = self.told.get(&id).and_then(|n| self.found.statements.get_mut(*n))
                    && let Ok(Some(event)) = self.selector.select(line)
                {
                    told.event.steps.splice(0..0, event.steps);
                }
            }
            Phase::Planned => {
                let Some(continued) = self.open(line) else { return };
                let Ok(Some(planned)) = self.selector.select(line) else {
                    return;
                };
                match self.told.get(&id).and_then(|n| self.found.statements.get_mut(*n)) {
                    Some(told) => {
                        let mut steps = planned.steps.clone();
                        for done in told.event.steps.drain(..) {
                            if let Some(step) = steps
                                .iter_mut()
                                .find(|step| step.label == done.label && step.sql == done.sql)
                            {
                                *step = done;
                            }
                        }
                        told.event = Event { steps, ..planned };
                    }
                    None => self.push(planned, false, continued),
                }
            }
        }
    }

    /// Whether a statement without an end was done afterwards; None: such are not wanted.
    fn open(&self, line: &[u8]) -> Option<bool> {
        let continued = again::asked(line).is_some_and(|asked| self.done.contains(&asked));
        let is_wanted = |wanted: &str| continued == (wanted == CONTINUED);
        self.unfinished.is_none_or(is_wanted).then_some(continued)
    }

    fn push(&mut self, event: Event, ended: bool, continued: bool) {
        match self.found.statements.len() < self.limit {
            true => self.found.statements.push(Told {
                event,
                ended,
                continued,
            }),
            false => self.found.more = true,
        }
    }
}

/// From a file's first line, if that says that the lines before it are in another.
fn goes_on_from(first: &[u8]) -> Option<String> {
    let line = first.split(|byte| *byte == b'\n').next()?;
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let name = Path::new(value["file"].as_str()?).file_name()?.to_str()?;
    (value["event"] == "log" && value["what"] == "continues").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// `STATEMENT phase outcome`, one a line; what such a log's newest statements are.
    fn check(script: &str, filter: Filter, limit: usize, expect: &[&str], more: bool) {
        let mut text = String::new();
        for (n, line) in script.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (id, phase, outcome) = (words[0], words[1], words.get(2).copied().unwrap_or_default());
            let after = if phase == "after" {
                r#"{"watched_s":60}"#
            } else {
                "null"
            };
            let _ = writeln!(
                text,
                r#"{{"time":"2026-01-01T00:00:{n:02}.000000Z","event":"{phase}","id":"{id}","session":1,"backend_pid":1,"user":"u","database":"d","application_name":"","client":"unix","statement":"S {id}","action":"rewrite","outcome":"{outcome}","after":{after}}}"#
            );
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, format!("{text}{{\"time\":\"torn")).expect("a log");
        let found = newest(&[path], filter, limit).expect("it can be read");
        let told = |told: &Told| {
            let watched = told.event.after.as_ref().and_then(|after| after.watched_s).is_some();
            let marks = format!(
                "{}{}",
                if told.ended { "" } else { "…" },
                if watched { "+" } else { "" }
            );
            format!("{}{marks}", told.event.id)
        };
        let ids: Vec<String> = found.statements.iter().map(told).collect();
        assert_eq!(
            (ids, found.more),
            (expect.iter().map(|id| id.to_string()).collect(), more),
            "{script}"
        );
    }

    const LOG: &str = "a planned\na step done\na statement done\nb planned\nb step done\nb waiting\nc planned\na after done\nc statement failed\nd planned";

    #[test]
    fn the_newest_come_first_with_what_is_known_of_each() {
        check(LOG, Filter::default(), 10, &["d…", "c", "b…", "a+"], false);
        check(LOG, Filter::default(), 2, &["d…", "c"], true);
        let of = |outcome: &str| Filter {
            outcome: Some(outcome.into()),
            ..Filter::default()
        };
        check(LOG, of("failed"), 10, &["c"], false);
        check(LOG, of("unfinished"), 10, &["d…", "b…"], false);
        check("", Filter::default(), 10, &[], false);
    }

    #[test]
    fn lines_across_chunks_are_whole() {
        let mut text = String::new();
        let long = "x".repeat(700_000);
        for n in 0..20 {
            let _ = writeln!(
                text,
                r#"{{"time":"2026-01-01T00:00:{n:02}.000000Z","event":"statement","id":"{n}","session":1,"backend_pid":1,"user":"u","database":"d","application_name":"","client":"unix","statement":"{long}","action":"rewrite","outcome":"done"}}"#
            );
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, text).expect("a log");
        let found = newest(&[path], Filter::default(), 100).expect("it can be read");
        let ids: Vec<usize> = found
            .statements
            .iter()
            .filter_map(|told| told.event.id.parse().ok())
            .collect();
        assert_eq!(ids, (0..20).rev().collect::<Vec<_>>());
    }

    #[test]
    fn rotated_files_are_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = |id: &str| {
            format!(
                r#"{{"time":"2026-01-01T00:00:00.000000Z","event":"statement","id":"{id}","session":1,"backend_pid":1,"user":"u","database":"d","application_name":"","client":"unix","statement":"S","action":"rewrite","outcome":"done"}}"#
            )
        };
        let continues = r#"{"time":"2026-01-01T00:00:00.000000Z","event":"log","what":"continues","file":"log.1"}"#;
        std::fs::write(dir.path().join("log.1"), line("old")).expect("a log");
        std::fs::write(dir.path().join("log"), format!("{continues}\n{}\n", line("new"))).expect("a log");
        let found = newest(&[dir.path().join("log")], Filter::default(), 9).expect("it can be read");
        let ids: Vec<&str> = found.statements.iter().map(|told| told.event.id.as_str()).collect();
        assert_eq!(ids, ["new", "old"]);
        assert!(newest(&[dir.path().join("none")], Filter::default(), 9).is_err());
    }
}
