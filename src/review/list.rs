//! `audit list`: rows as the log has them, and at the end those statements whose end it does not have.

use super::streams::{Failure, Format, Streams, UNFINISHED, wrong};
use super::table::{CSV_HEAD, Table, csv};
use crate::audit::Phase;
use crate::audit::again::{self, CONTINUED};
use crate::audit::brief::Brief;
use crate::audit::filter::{Filter, LineKind, Selector, kind_and_id};
use crate::audit::read::{Block, Follow, blocks, in_parallel};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// What makes rows of lines.
struct Rows {
    selector: Selector,
    /// Statements that have ended are wanted.
    ended: bool,
    /// Those that have not are, too: which of them.
    unfinished: &'static [&'static str],
    format: Format,
    table: Table,
}

/// What a block has.
#[derive(Default)]
struct Picked {
    text: Vec<u8>,
    planned: Vec<Planned>,
    ends: HashSet<Vec<u8>>,
    /// What was done, and in which line.
    done: Vec<(usize, u64)>,
    /// Lines that should be events and cannot be read.
    unreadable: u64,
}

/// What began, and did not end in the same block.
struct Planned {
    id: Vec<u8>,
    line: usize,
    asked: Option<u64>,
    /// As unfinished, and as continued.
    rows: [Vec<u8>; 2],
}

/// What is told of a statement without an end.
const OPEN: [&str; 2] = [UNFINISHED, CONTINUED];

pub fn run(
    files: &[PathBuf],
    mut filter: Filter,
    format: Format,
    follow: bool,
    streams: &mut Streams,
) -> Result<(), Failure> {
    let only = OPEN.iter().position(|open| filter.outcome.as_deref() == Some(open));
    if only.is_some() {
        filter.outcome = None;
    }
    let rows = Rows {
        ended: only.is_none(),
        unfinished: match (only, &filter.outcome) {
            (Some(at), _) => &OPEN[at..=at],
            (None, None) => &OPEN,
            (None, Some(_)) => &[],
        },
        selector: Selector::new(filter),
        format,
        table: Table::new(streams.width, streams.colour),
    };
    match format {
        Format::Table => streams.out.write_all(&rows.table.head())?,
        Format::Csv => streams.out.write_all(CSV_HEAD.as_bytes())?,
        Format::Json => {}
    }
    let (whole, followed) = match files.split_last() {
        Some((last, before)) if follow => (before, Some(last)),
        _ => (files, None),
    };
    let mut open = Open::default();
    let (mut unreadable, mut output) = (0, Ok(()));
    in_parallel(
        blocks(whole).map_err(wrong)?,
        |block| rows.pick(block),
        |picked| {
            open.take(&picked.done, picked.planned, &picked.ends);
            unreadable += picked.unreadable;
            output = streams.out.write_all(&picked.text);
            if output.is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )
    .map_err(|error| wrong(error.to_string()))?;
    output?;
    for (planned, is_continued) in open.begun.values() {
        let at = usize::from(*is_continued);
        if rows.unfinished.contains(&OPEN[at]) {
            streams.out.write_all(&planned.rows[at])?;
        }
    }
    streams.out.flush()?;
    if unreadable > 0 {
        writeln!(
            streams.err,
            "lockkeeper: {unreadable} lines cannot be read; `lockkeeper audit verify` says more"
        )?;
    }
    match followed {
        Some(path) => rows.follow(path, streams),
        None => Ok(()),
    }
}

/// The statements whose end was not met yet.
#[derive(Default)]
struct Open {
    /// In the order in which they began, and whether the same was done afterwards.
    begun: BTreeMap<u64, (Planned, bool)>,
    by_id: HashMap<Vec<u8>, u64>,
    by_asked: HashMap<u64, Vec<u64>>,
    count: u64,
}

impl Open {
    /// What a block has, behind those before it.
    fn take(&mut self, done: &[(usize, u64)], planned: Vec<Planned>, ends: &HashSet<Vec<u8>>) {
        if !self.by_asked.is_empty() {
            for (_, asked) in done {
                for number in self.by_asked.remove(asked).unwrap_or_default() {
                    if let Some((_, is_continued)) = self.begun.get_mut(&number) {
                        *is_continued = true;
                    }
                }
            }
        }
        for planned in planned {
            self.count += 1;
            let behind = done.iter().filter(|(line, _)| *line > planned.line);
            let is_continued = behind.into_iter().any(|(_, asked)| Some(*asked) == planned.asked);
            if let (Some(asked), false) = (planned.asked, is_continued) {
                self.by_asked.entry(asked).or_default().push(self.count);
            }
            self.by_id.insert(planned.id.clone(), self.count);
            self.begun.insert(self.count, (planned, is_continued));
        }
        for id in ends {
            if let Some(number) = self.by_id.remove(id) {
                self.begun.remove(&number);
            }
        }
    }
}

impl Rows {
    fn pick(&self, block: &Block) -> Picked {
        let mut picked = Picked::default();
        let mut begun = Vec::new();
        for (at, (_, line)) in block.lines().enumerate() {
            match kind_and_id(line) {
                (LineKind::Event(Phase::Statement), id) => {
                    if !self.unfinished.is_empty() {
                        picked.ends.insert(id.to_vec());
                        picked
                            .done
                            .extend(again::done(line).into_iter().map(|asked| (at, asked)));
                    }
                    if self.ended {
                        self.selected(line, UNFINISHED, &mut picked.unreadable, &mut picked.text);
                    }
                }
                (LineKind::Event(Phase::Planned), id) if !self.unfinished.is_empty() => begun.push((id, at, line)),
                _ => {}
            }
        }
        // What begins and ends in the same block, as most do, need not be read.
        for (id, at, line) in begun {
            let mut rows = [Vec::new(), Vec::new()];
            if !picked.ends.contains(id) && self.selected(line, OPEN[0], &mut picked.unreadable, &mut rows[0]) {
                self.selected(line, OPEN[1], &mut picked.unreadable, &mut rows[1]);
                picked.planned.push(Planned {
                    id: id.to_vec(),
                    line: at,
                    asked: again::asked(line),
                    rows,
                });
            }
        }
        picked
    }

    /// Appends the line's row, if it is wanted; `open`: how a statement without an end is called.
    fn selected(&self, line: &[u8], open: &str, unreadable: &mut u64, out: &mut Vec<u8>) -> bool {
        match self.selector.brief(line) {
            Ok(Some(mut event)) => {
                if event.phase == Phase::Planned {
                    event.outcome = open.to_owned().into();
                }
                self.row(&event, line, out);
                true
            }
            Ok(None) => false,
            Err(_) => {
                *unreadable += 1;
                false
            }
        }
    }

    fn row(&self, event: &Brief, line: &[u8], out: &mut Vec<u8>) {
        match self.format {
            Format::Table => self.table.row(event, out),
            Format::Csv => csv(event, out),
            Format::Json => {
                out.extend_from_slice(String::from_utf8_lossy(line).as_bytes());
                out.push(b'\n');
            }
        }
    }

    /// Until the reader goes away or the process is ended.
    fn follow(&self, path: &Path, streams: &mut Streams) -> Result<(), Failure> {
        let unreadable = |error: io::Error| wrong(format!("cannot read {}: {error}", path.display()));
        let mut log = Follow::new(path).map_err(wrong)?;
        loop {
            let text = log.poll().map_err(unreadable)?;
            if text.is_empty() {
                std::thread::sleep(FOLLOW_PAUSE);
                continue;
            }
            let block = Block { text, file: 0, line: 1 };
            streams.out.write_all(&self.pick(&block).text)?;
            streams.out.flush()?;
        }
    }
}
