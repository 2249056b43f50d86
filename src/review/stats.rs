//! `audit stats`: how often what happened, what took longest, and what was refused.

use super::streams::{Failure, Streams, UNFINISHED, wrong};
use super::table::{one_line, span};
use crate::audit::Phase;
use crate::audit::again::CONTINUED;
use crate::audit::brief::Brief;
use crate::audit::filter::{Filter, LineKind, Selector, kind_and_id};
use crate::audit::read::{Block, blocks, in_parallel};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Of one name: how many, and how long they took in all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Count {
    statements: u64,
    duration_ms: f64,
    lock_wait_ms: f64,
}

#[derive(Clone, Debug, Serialize)]
struct Short {
    id: String,
    time: String,
    user: String,
    rules: Vec<String>,
    outcome: String,
    duration_ms: f64,
    lock_wait_ms: f64,
    statement: String,
}

#[derive(Default, Serialize)]
struct Numbers {
    first: Option<String>,
    last: Option<String>,
    all: Count,
    by_action: BTreeMap<String, Count>,
    by_outcome: BTreeMap<String, Count>,
    by_rule: BTreeMap<String, Count>,
    by_user: BTreeMap<String, Count>,
    by_application: BTreeMap<String, Count>,
    by_database: BTreeMap<String, Count>,
    by_table: BTreeMap<String, Count>,
    slowest: Vec<Short>,
    /// The latest.
    refused: Vec<Short>,
    /// Lines that should be events and cannot be read.
    unreadable: u64,
}

pub fn run(files: &[PathBuf], filter: Filter, json: bool, top: usize, streams: &mut Streams) -> Result<(), Failure> {
    if let Some(outcome @ (UNFINISHED | CONTINUED)) = filter.outcome.as_deref() {
        return Err(wrong(format!(
            "stats counts what has ended; `audit list --outcome {outcome}` lists what has not"
        )));
    }
    let selector = Selector::new(filter);
    let mut numbers = Numbers::default();
    in_parallel(
        blocks(files).map_err(wrong)?,
        |block| Numbers::of(block, &selector, top),
        |of_block| {
            numbers.merge(of_block, top);
            ControlFlow::Continue(())
        },
    )
    .map_err(|error| wrong(error.to_string()))?;
    if json {
        let line = serde_json::to_string(&numbers).map_err(|error| wrong(error.to_string()))?;
        return Ok(writeln!(streams.out, "{line}")?);
    }
    Ok(numbers.print(streams)?)
}

impl Numbers {
    fn of(block: &Block, selector: &Selector, top: usize) -> Numbers {
        let mut numbers = Numbers::default();
        for (_, line) in block.lines() {
            if kind_and_id(line).0 != LineKind::Event(Phase::Statement) {
                continue;
            }
            match selector.brief(line) {
                Ok(Some(event)) => numbers.count(&event, top),
                Ok(None) => {}
                Err(_) => numbers.unreadable += 1,
            }
        }
        numbers
    }

    fn count(&mut self, event: &Brief, top: usize) {
        let one = Count {
            statements: 1,
            duration_ms: event.duration_ms,
            lock_wait_ms: event.lock_wait_ms,
        };
        self.first.get_or_insert_with(|| event.time.to_string());
        let last = self.last.get_or_insert_default();
        last.clear();
        last.push_str(&event.time);
        self.all.add(one);
        let mut rules = event.rules();
        rules.sort_unstable();
        for (map, name) in [
            (&mut self.by_action, &event.action),
            (&mut self.by_outcome, &event.outcome),
            (&mut self.by_user, &event.user),
            (&mut self.by_application, &event.application_name),
            (&mut self.by_database, &event.database),
        ] {
            add(map, name, one);
        }
        rules.iter().for_each(|rule| add(&mut self.by_rule, rule, one));
        event
            .relations
            .iter()
            .for_each(|table| add(&mut self.by_table, table, one));
        let is_slow = self.slowest.len() < top
            || self
                .slowest
                .last()
                .is_some_and(|last| last.duration_ms < event.duration_ms);
        let is_refused = event.outcome == "rejected";
        if !is_slow && !is_refused {
            return;
        }
        let short = Short {
            id: event.id.to_string(),
            time: event.time.to_string(),
            user: event.user.to_string(),
            rules: rules.into_iter().map(str::to_owned).collect(),
            outcome: event.outcome.to_string(),
            duration_ms: event.duration_ms,
            lock_wait_ms: event.lock_wait_ms,
            statement: event.statement.chars().take(500).collect(),
        };
        if is_refused {
            self.refused.push(short.clone());
        }
        if is_slow {
            self.slowest.push(short);
        }
        self.keep(top);
    }

    fn keep(&mut self, top: usize) {
        self.slowest.sort_by(|a, b| b.duration_ms.total_cmp(&a.duration_ms));
        self.slowest.truncate(top);
        let older = self.refused.len().saturating_sub(top);
        self.refused.drain(..older);
    }

    fn merge(&mut self, other: Numbers, top: usize) {
        self.first = self.first.take().or(other.first);
        self.last = other.last.or(self.last.take());
        self.all.add(other.all);
        for (map, more) in [
            (&mut self.by_action, other.by_action),
            (&mut self.by_outcome, other.by_outcome),
            (&mut self.by_rule, other.by_rule),
            (&mut self.by_user, other.by_user),
            (&mut self.by_application, other.by_application),
            (&mut self.by_database, other.by_database),
            (&mut self.by_table, other.by_table),
        ] {
            more.into_iter().for_each(|(name, count)| add(map, &name, count));
        }
        self.slowest.extend(other.slowest);
        self.refused.extend(other.refused);
        self.unreadable += other.unreadable;
        self.keep(top);
    }

    fn print(&self, streams: &mut Streams) -> io::Result<()> {
        let out = &mut *streams.out;
        let (first, last) = (
            self.first.as_deref().unwrap_or("-"),
            self.last.as_deref().unwrap_or("-"),
        );
        let all = self.all;
        writeln!(
            out,
            "{} statements from {first} to {last}, {} in all, of that {} waiting for locks",
            all.statements,
            span(all.duration_ms),
            span(all.lock_wait_ms)
        )?;
        for (title, map) in [
            ("action", &self.by_action),
            ("outcome", &self.by_outcome),
            ("rule", &self.by_rule),
            ("user", &self.by_user),
            ("application", &self.by_application),
            ("database", &self.by_database),
            ("table", &self.by_table),
        ] {
            let mut counts: Vec<_> = map.iter().collect();
            counts.sort_by_key(|(_, count)| Reverse(count.statements));
            if counts.is_empty() {
                continue;
            }
            writeln!(
                out,
                "\n{:<32} {:>10} {:>10} {:>12}",
                format!("by {title}"),
                "statements",
                "time",
                "lock waits"
            )?;
            for (name, count) in counts {
                let name = if name.is_empty() { "(none)" } else { name };
                let (time, waits) = (span(count.duration_ms), span(count.lock_wait_ms));
                writeln!(
                    out,
                    "  {:<30} {:>10} {time:>10} {waits:>12}",
                    one_line(name),
                    count.statements
                )?;
            }
        }
        let width = streams.width.unwrap_or(usize::MAX);
        for (title, list) in [("slowest", &self.slowest), ("refused, the latest last", &self.refused)] {
            if list.is_empty() {
                continue;
            }
            writeln!(out, "\n{title}")?;
            for short in list {
                let line = format!(
                    "  {:>8}  {}  {}  {}",
                    span(short.duration_ms),
                    short.id,
                    short.rules.join(" "),
                    one_line(&short.statement)
                );
                writeln!(out, "{}", line.chars().take(width).collect::<String>())?;
            }
        }
        if self.unreadable > 0 {
            writeln!(
                streams.err,
                "lockkeeper: {} lines cannot be read; `lockkeeper audit verify` says more",
                self.unreadable
            )?;
        }
        Ok(())
    }
}

impl Count {
    fn add(&mut self, other: Count) {
        self.statements += other.statements;
        self.duration_ms += other.duration_ms;
        self.lock_wait_ms += other.lock_wait_ms;
    }
}

fn add(map: &mut BTreeMap<String, Count>, name: &str, count: Count) {
    match map.get_mut(name) {
        Some(known) => known.add(count),
        None => drop(map.insert(name.to_owned(), count)),
    }
}
