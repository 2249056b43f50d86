//! `audit show`: one statement's whole story, in the order in which a person asks.

use super::streams::{Failure, Streams, UNFINISHED, wrong};
use super::table::{one_line, plain, span};
use crate::audit::after::{After, Times};
use crate::audit::again::{self, CONTINUED};
use crate::audit::filter::{LineKind, kind_and_id};
use crate::audit::read::{Block, blocks, in_parallel, story};
use crate::audit::time::timestamp;
use crate::audit::{Blocker, Event, Phase, StepRecord};
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

const WIDTH: usize = 100;

pub fn run(id: &str, files: &[PathBuf], json: bool, streams: &mut Streams) -> Result<(), Failure> {
    let events = story(files, id).map_err(wrong)?;
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        let some = ids.iter().take(10).copied().collect::<Vec<_>>().join(", ");
        return Err(wrong(format!(
            "several statements end with `{id}`: {some}; give the whole id"
        )));
    }
    let Some(last) = events
        .iter()
        .rev()
        .find(|event| event.phase == Phase::Statement)
        .or(events.last())
    else {
        return Err(Failure::Told(
            1,
            format!("no statement `{id}` in the log; `lockkeeper audit list` shows the ids"),
        ));
    };
    if json {
        for event in &events {
            let line = serde_json::to_string(event).map_err(|error| wrong(error.to_string()))?;
            writeln!(streams.out, "{line}")?;
        }
        return Ok(());
    }
    let again = match last.phase {
        Phase::Statement => None,
        _ => done_again(files, &events).map_err(wrong)?,
    };
    let width = streams.width.unwrap_or(WIDTH).clamp(40, 140);
    Ok(streams.out.write_all(
        Story {
            last,
            events: &events,
            again: again.as_ref(),
            width,
        }
        .tell()
        .as_bytes(),
    )?)
}

/// The first that did what was left of the statement whose lines these are.
fn done_again(files: &[PathBuf], events: &[Event]) -> Result<Option<Event>, String> {
    let Some((first, last)) = events.first().zip(events.last()) else {
        return Ok(None);
    };
    let line = serde_json::to_string(first).map_err(|error| error.to_string())?;
    let Some(asked) = again::asked(line.as_bytes()) else {
        return Ok(None);
    };
    let did = |line: &[u8]| -> Option<Event> {
        let event: Event = match kind_and_id(line).0 {
            LineKind::Event(Phase::Statement) if again::done(line).contains(&asked) => {
                serde_json::from_slice(line).ok()?
            }
            _ => return None,
        };
        (event.time > last.time).then_some(event)
    };
    let mut found = None;
    in_parallel(
        blocks(files)?,
        |block: &Block| block.lines().find_map(|(_, line)| did(line)),
        |event| {
            found = found.take().or(event);
            match found {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        },
    )
    .map_err(|error| error.to_string())?;
    Ok(found)
}

struct Story<'a> {
    /// The end, or the last moment that the log has.
    last: &'a Event,
    events: &'a [Event],
    /// The same statement, sent again and done.
    again: Option<&'a Event>,
    width: usize,
}

impl Story<'_> {
    fn tell(&self) -> String {
        let mut out = String::new();
        self.summary(&mut out);
        self.asked(&mut out);
        self.found(&mut out);
        self.ran(&mut out);
        self.ended(&mut out);
        self.after(&mut out);
        out
    }

    fn has_ended(&self) -> bool {
        self.last.phase == Phase::Statement
    }

    /// It has run, and the log does not have the end of its transaction.
    fn open(&self) -> Option<&Event> {
        let ran = self.events.iter().rev().find(|event| event.phase == Phase::Ran);
        ran.filter(|_| !self.has_ended())
    }

    /// Text within the width, further lines indented.
    fn line(&self, out: &mut String, indent: usize, label: &str, text: &str) {
        let pad = " ".repeat(indent);
        let _ = write!(out, "{pad}{label}");
        let mut used = indent + label.chars().count();
        for (n, line) in plain(text).lines().enumerate() {
            if n > 0 {
                let _ = write!(out, "\n{pad}  ");
                used = indent + 2;
            }
            for (m, word) in line.split(' ').enumerate() {
                let length = word.chars().count();
                if m > 0 && used + 1 + length > self.width {
                    let _ = write!(out, "\n{pad}  ");
                    used = indent + 2;
                } else if m > 0 {
                    out.push(' ');
                    used += 1;
                }
                out.push_str(word);
                used += length;
            }
        }
        out.push('\n');
    }

    /// SQL as it is, to be copied.
    fn sql(&self, out: &mut String, indent: usize, sql: &str) {
        for line in plain(sql).lines() {
            let _ = writeln!(out, "{}{line}", " ".repeat(indent));
        }
    }

    fn summary(&self, out: &mut String) {
        let event = self.last;
        let outcome = match (self.has_ended(), self.open()) {
            (true, _) => event.outcome.as_str(),
            (_, Some(_)) => "open",
            _ if self.again.is_some() => CONTINUED,
            _ => UNFINISHED,
        };
        let took = if self.has_ended() {
            format!(" in {}", span(event.duration_ms))
        } else {
            String::new()
        };
        let _ = writeln!(out, "{}: {}, {outcome}{took}\n", one_line(&event.id), event.action);
        let began = self.events.first().map_or(event.time, |event| event.time);
        let mut times = timestamp(began);
        if event.time != began {
            times.push_str(&format!(" to {}", timestamp(event.time)));
        }
        let _ = writeln!(out, "when      {times}");
        let app = match event.application_name.as_str() {
            "" => String::new(),
            name => format!(" with {}", one_line(name)),
        };
        let _ = writeln!(
            out,
            "who       {}{app} from {}, session {}, server process {}",
            one_line(&event.user),
            one_line(&event.client),
            event.session,
            event.backend_pid
        );
        let _ = writeln!(out, "where     database {}", one_line(&event.database));
        if !event.relations.is_empty() {
            let _ = writeln!(out, "about     {}", one_line(&event.relations.join(", ")));
        }
        let _ = writeln!(out, "policy    {}", one_line(&event.policy));
    }

    fn asked(&self, out: &mut String) {
        out.push_str("\nWhat was asked\n");
        self.sql(out, 2, &self.last.statement);
        for (n, value) in self.last.parameters.iter().enumerate() {
            let value = value
                .as_deref()
                .map_or("NULL".into(), |value| format!("'{}'", one_line(value)));
            let _ = writeln!(out, "  ${} = {value}", n + 1);
        }
    }

    fn found(&self, out: &mut String) {
        if self.last.findings.is_empty() && self.last.why.is_empty() {
            return;
        }
        out.push_str("\nWhat was found, and why it mattered\n");
        for found in &self.last.findings {
            let _ = writeln!(
                out,
                "  {} (as written: {}; the policy says {})",
                found.rule, found.lock, found.action
            );
            self.line(out, 4, "", &found.message);
            if let Some(reason) = &found.overridden {
                self.line(out, 4, "let through by an override: ", reason);
            }
            if !found.hint.is_empty() {
                self.line(out, 4, "instead: ", &found.hint);
            }
        }
        for why in &self.last.why {
            self.line(out, 2, "safe because: ", why);
        }
        for event in self.events.iter().filter(|event| event.phase == Phase::Decided) {
            let decided = event.detail.as_deref().unwrap_or_default();
            self.line(out, 2, "", &format!("{decided} ({})", timestamp(event.time)));
        }
    }

    /// In a log without the end a step that nothing is told of may have run, up to the moment at which the log ends.
    fn outcome<'b>(&self, step: &'b StepRecord) -> &'b str {
        match step.outcome.as_str() {
            "" => "waiting",
            "not run" if self.again.is_some() => "done later",
            "not run" if !self.has_ended() => "not known",
            known => known,
        }
    }

    /// The steps as the end tells them or, without one, as far as the log has them.
    fn steps(&self) -> Vec<&StepRecord> {
        if self.has_ended() {
            return self.last.steps.iter().collect();
        }
        let planned = self.events.iter().find(|event| event.phase == Phase::Planned);
        let mut steps: Vec<&StepRecord> = planned.map(|event| event.steps.iter().collect()).unwrap_or_default();
        let later = self
            .events
            .iter()
            .filter(|event| matches!(event.phase, Phase::Step | Phase::Waiting));
        for told in later.flat_map(|event| &event.steps) {
            if let Some(step) = steps
                .iter_mut()
                .find(|step| step.label == told.label && step.sql == told.sql)
            {
                *step = told;
            }
        }
        steps
    }

    fn ran(&self, out: &mut String) {
        let steps = self.steps();
        if steps.is_empty() {
            out.push_str(match self.last.action.as_str() {
                "reject" => "\nNothing was run.\n",
                _ => "\nIt was run as it was written.\n",
            });
            return;
        }
        out.push_str("\nWhat was run\n");
        for (n, step) in steps.iter().enumerate() {
            let mut facts = vec![self.outcome(step).to_owned()];
            if step.duration_ms > 0.0 {
                facts.push(span(step.duration_ms));
            }
            facts.push(format!("{} on {}", step.lock, one_line(&step.relation)));
            if step.lock_tries > 1 || step.lock_wait_ms > 0.0 {
                facts.push(format!(
                    "{} tries, waited {}",
                    step.lock_tries.max(1),
                    span(step.lock_wait_ms)
                ));
            }
            if let Some(rows) = step.rows {
                facts.push(format!("{rows} rows"));
            }
            let _ = writeln!(out, "  {}. {}: {}", n + 1, one_line(&step.label), facts.join(", "));
            self.sql(out, 5, &step.sql);
            for blocker in &step.blockers {
                self.line(out, 5, "waited for ", &held(blocker));
            }
            if let Some(why) = &step.blockers_unknown {
                self.line(out, 5, "", &format!("whether it waited for others is not known: {why}"));
            }
            if let Some(error) = &step.error {
                let sqlstate = step.sqlstate.as_deref().unwrap_or_default();
                self.line(out, 5, &format!("{sqlstate} "), error);
            }
        }
    }

    fn ended(&self, out: &mut String) {
        let event = self.last;
        out.push_str("\nHow it ended\n");
        if let Some(ran) = self.open() {
            let id = ran.transaction.as_deref().unwrap_or_default();
            let told = format!(
                "It has run, and the log does not have the end of its transaction: that is still open, or lockkeeper or its machine was \
                 stopped before. The server knows: SELECT pg_xact_status('{id}'), where aborted means that it was undone."
            );
            self.line(out, 2, "", &told);
        } else if let Some(again) = self.again {
            let told = format!(
                "The log does not have its end: it still runs, or lockkeeper or its machine was stopped in the middle. What was left of it is \
                 done: {} ended at {} as done ({}).",
                one_line(&again.id),
                timestamp(again.time),
                one_line(&again.statement)
            );
            self.line(out, 2, "", &told);
        } else if !self.has_ended() {
            self.line(
                out,
                2,
                "",
                "The log does not have its end: it still runs, or lockkeeper or its machine was stopped in the middle. \
                 Sent again, the same statement goes on from where it stopped; what its batches have done until then is told by \
                 lockkeeper jobs.",
            );
        }
        match (&event.error, event.rows) {
            (Some(error), _) => {
                let sqlstate = event.sqlstate.as_deref().unwrap_or_default();
                self.line(out, 2, &format!("{} {sqlstate} ", event.outcome), error);
                for (label, text) in [("detail: ", &event.detail), ("hint: ", &event.hint)] {
                    if let Some(text) = text {
                        self.line(out, 2, label, text);
                    }
                }
            }
            (None, Some(rows)) => self.line(out, 2, "", &format!("{}, {rows} rows", event.outcome)),
            (None, None) if self.has_ended() => self.line(out, 2, "", &event.outcome),
            (None, None) => {}
        }
        let not_run: Vec<_> = self
            .steps()
            .iter()
            .filter(|step| step.outcome == "not run")
            .map(|step| one_line(&step.label))
            .collect();
        let done = self.steps().iter().filter(|step| step.outcome == "done").count();
        if !not_run.is_empty() && done > 0 && self.again.is_none() {
            let label = match self.has_ended() {
                true => "left to do: ",
                false => "not known whether done: ",
            };
            self.line(out, 2, label, &not_run.join("; "));
        }
        if let Some(contract) = event.contract.as_ref().filter(|_| event.outcome == "done") {
            out.push_str("\nLeft to be done by hand\n");
            for line in contract.lines() {
                self.sql(out, 2, line);
            }
        }
        if !event.rollback_plan.is_empty() && done > 0 {
            out.push_str("\nThe way back, in this order\n");
            for sql in &event.rollback_plan {
                self.sql(out, 2, &format!("{};", sql.trim_end_matches(';')));
            }
        }
    }
}

impl Story<'_> {
    /// What was not measured is said to be unknown.
    fn after(&self, out: &mut String) {
        let later = self.events.iter().rev().find(|event| event.phase == Phase::After);
        let Some(after) = later.unwrap_or(self.last).after.as_ref() else {
            return;
        };
        out.push_str("\nAfterwards\n");
        self.line(out, 2, "tables: ", &tables(after));
        self.line(out, 2, "who waited: ", &waited(after));
        self.line(out, 2, "left: ", &left(after));
        if after.statements.is_empty() {
            self.line(
                out,
                2,
                "query times: ",
                "unknown, no statement on these tables was timed",
            );
        }
        for shape in &after.statements {
            self.line(out, 2, "query: ", &shape.statement);
            let times = [
                ("before", shape.before),
                ("while it ran", shape.during),
                ("after", shape.after),
            ];
            let told = times.map(|(when, times)| format!("{when} {}", times.map_or("not seen".into(), p50_p99)));
            self.line(out, 4, "p50/p99: ", &told.join(", "));
        }
    }
}

fn p50_p99(times: Times) -> String {
    format!("{}/{} ({} timed)", span(times.p50_ms), span(times.p99_ms), times.timed)
}

fn tables(after: &After) -> String {
    let told = after.tables.iter().map(|table| {
        let size = table
            .bytes
            .map_or("size unknown".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        let rows = table
            .rows
            .map_or("rows unknown".into(), |rows| format!("about {rows:.0} rows"));
        format!("{} ({size}, {rows})", table.name)
    });
    match after.tables.is_empty() {
        true => "unknown".into(),
        false => told.collect::<Vec<_>>().join(", "),
    }
}

fn waited(after: &After) -> String {
    match &after.waits {
        None => "unknown, no control connection looked".into(),
        Some(waits) if waits.behind_plan == 0 => {
            format!(
                "nobody was seen behind it in {} looks, {} behind others",
                waits.looks, waits.waits
            )
        }
        Some(waits) => format!(
            "{} sessions behind it, the longest at least {}, in {} looks",
            waits.behind_plan,
            span(waits.longest_behind_plan_ms),
            waits.looks
        ),
    }
}

fn left(after: &After) -> String {
    let (Some(invalid), Some(not_valid)) = (&after.invalid, &after.not_valid) else {
        return "unknown, the catalog could not be asked".into();
    };
    let names = |names: &[String]| match names {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    format!(
        "{} INVALID indexes{}, {} NOT VALID constraints{}",
        invalid.len(),
        names(invalid),
        not_valid.len(),
        names(not_valid)
    )
}

fn held(blocker: &Blocker) -> String {
    let name = match (&blocker.prepared, blocker.pid) {
        (Some(gid), _) => format!("the prepared transaction {gid}"),
        (None, pid) => format!("process {}", pid.unwrap_or_default()),
    };
    let mut facts: Vec<String> = [
        &blocker.user,
        &blocker.application_name,
        &blocker.client,
        &blocker.state,
    ]
    .into_iter()
    .flatten()
    .filter(|fact| !fact.is_empty())
    .cloned()
    .collect();
    facts.extend(blocker.age_s.map(|age| format!("for {}", span(age * 1e3))));
    facts.push(blocker.lock.clone());
    let query = blocker
        .query
        .as_ref()
        .map(|query| format!(": {query}"))
        .unwrap_or_default();
    format!("{name} ({}){query}", facts.join(", "))
}
