//! `audit list`: rows as the log has them, and at the end those statements whose end it does not have.

use super::table::{CSV_HEAD, Table, csv};
use super::{Failure, Format, Streams, UNFINISHED, wrong};
use crate::audit::Phase;
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
    /// Those that have not are, too.
    unfinished: bool,
    format: Format,
    table: Table,
}

/// What a block has.
#[derive(Default)]
struct Picked {
    text: Vec<u8>,
    planned: Vec<(Vec<u8>, Vec<u8>)>,
    ends: HashSet<Vec<u8>>,
    /// Lines that should be events and cannot be read.
    unreadable: u64,
}

pub fn run(
    files: &[PathBuf],
    mut filter: Filter,
    format: Format,
    follow: bool,
    streams: &mut Streams,
) -> Result<(), Failure> {
    let only_unfinished = filter.outcome.as_deref() == Some(UNFINISHED);
    if only_unfinished {
        filter.outcome = None;
    }
    let rows = Rows {
        ended: !only_unfinished,
        unfinished: only_unfinished || filter.outcome.is_none(),
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
    let mut unfinished = BTreeMap::new();
    let (mut numbers, mut begun) = (HashMap::new(), 0u64);
    let (mut unreadable, mut output) = (0, Ok(()));
    in_parallel(
        blocks(whole).map_err(wrong)?,
        |block| rows.pick(block),
        |picked| {
            for (id, row) in picked.planned {
                // In the order in which they began.
                begun += 1;
                numbers.insert(id, begun);
                unfinished.insert(begun, row);
            }
            for id in &picked.ends {
                if let Some(number) = numbers.remove(id) {
                    unfinished.remove(&number);
                }
            }
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
    for row in unfinished.values() {
        streams.out.write_all(row)?;
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

impl Rows {
    fn pick(&self, block: &Block) -> Picked {
        let mut picked = Picked::default();
        let mut begun = Vec::new();
        for (_, line) in block.lines() {
            match kind_and_id(line) {
                (LineKind::Event(Phase::Statement), id) => {
                    if self.unfinished {
                        picked.ends.insert(id.to_vec());
                    }
                    if self.ended {
                        self.selected(line, &mut picked.unreadable, &mut picked.text);
                    }
                }
                (LineKind::Event(Phase::Planned), id) if self.unfinished => begun.push((id, line)),
                _ => {}
            }
        }
        // What begins and ends in the same block, as most do, need not be read.
        for (id, line) in begun {
            let mut row = Vec::new();
            if !picked.ends.contains(id) && self.selected(line, &mut picked.unreadable, &mut row) {
                picked.planned.push((id.to_vec(), row));
            }
        }
        picked
    }

    /// Appends the line's row, if it is wanted.
    fn selected(&self, line: &[u8], unreadable: &mut u64, out: &mut Vec<u8>) -> bool {
        match self.selector.brief(line) {
            Ok(Some(mut event)) => {
                if event.phase == Phase::Planned {
                    event.outcome = UNFINISHED.into();
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
