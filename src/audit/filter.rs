//! Which events of a log are wanted: told from the raw line where that is possible, since most lines are not wanted and
//! reading JSON is what costs. Start at [`Filter`]; [`Selector::select`] takes a line.

use super::brief::Brief;
use super::time::{TIMESTAMP_BYTES, before, timestamp};
use super::{Event, Phase};
use memchr::memmem::{Finder, find};
use std::time::{Duration, SystemTime};

/// All that is given must match. Names are matched as they are, texts without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A statement's, or only its end: `7.3` of `k7f2m9qa-7.3`.
    pub id: Option<String>,
    pub action: Option<String>,
    /// Of any of its findings.
    pub rule: Option<String>,
    pub user: Option<String>,
    pub application_name: Option<String>,
    pub database: Option<String>,
    /// `users` or `public.users`.
    pub table: Option<String>,
    pub outcome: Option<String>,
    /// What was going on from then on: it ended then or later.
    pub since: Option<SystemTime>,
    /// And before then: it began earlier.
    pub until: Option<SystemTime>,
    /// A rule was let off.
    pub overridden: bool,
    /// It was undone with its transaction.
    pub rolled_back: bool,
    /// It waited for a lock, or others waited behind it.
    pub waited: bool,
    pub longer_than: Option<Duration>,
    /// In the statement, the steps, the messages, the reasons and the names.
    pub text: Option<String>,
}

/// What a line is, by its raw text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Event(Phase),
    Log,
    /// Torn, foreign, or of a later version.
    Unknown,
}

/// A filter made ready to look at many lines.
pub struct Selector {
    filter: Filter,
    /// Each must be in the line's text.
    needles: Vec<Finder<'static>>,
    outcome: Option<Finder<'static>>,
    since: Option<String>,
    until: Option<String>,
    /// In lower case.
    text: Option<String>,
}

/// The chain's keys and the time stand before the kind and the id.
const HEAD_BYTES: usize = 320;
const TIME_KEY: &[u8] = b"\"time\":\"";
const KIND_KEY: &[u8] = b"\"event\":\"";
const ID_KEY: &[u8] = b"\"id\":\"";

/// Behind a key: usually right where it is expected, as the log itself writes it.
fn behind<'a>(head: &'a [u8], key: &[u8], expected: usize) -> Option<&'a [u8]> {
    let there = head.get(expected..).and_then(|rest| rest.strip_prefix(key));
    there.or_else(|| head.get(find(head, key)? + key.len()..))
}

fn offset(head: &[u8], rest: &[u8]) -> usize {
    head.len() - rest.len()
}

fn quoted(rest: &[u8]) -> Option<&[u8]> {
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// A line's kind, and its id where it is an event.
pub fn kind_and_id(line: &[u8]) -> (LineKind, &[u8]) {
    let head = line.get(..HEAD_BYTES).unwrap_or(line);
    // `{"v":1,"seq":42,"prev":"…","time":"…","event":"statement","id":"…"`: only the number's length differs.
    let time = time_of(line).map_or(0, |time| time.as_ptr() as usize - line.as_ptr() as usize);
    let kind = behind(head, KIND_KEY, time + TIMESTAMP_BYTES + 2);
    let id_at = |kind: &[u8]| offset(head, kind) + quoted(kind).map_or(0, <[u8]>::len) + 2;
    let id = kind.map_or(0, id_at);
    let phase = match kind.and_then(quoted) {
        Some(b"statement") => Phase::Statement,
        Some(b"step") => Phase::Step,
        Some(b"planned") => Phase::Planned,
        Some(b"waiting") => Phase::Waiting,
        Some(b"ran") => Phase::Ran,
        Some(b"after") => Phase::After,
        Some(b"decided") => Phase::Decided,
        Some(b"log") => return (LineKind::Log, b""),
        _ => return (LineKind::Unknown, b""),
    };
    let id = behind(head, ID_KEY, id).and_then(quoted);
    (LineKind::Event(phase), id.unwrap_or_default())
}

/// The `time` of a line, as it is written.
fn time_of(line: &[u8]) -> Option<&[u8]> {
    /// `{"v":1,"seq":` and, behind the number, `,"prev":"`, the hash and `",`.
    const BEFORE: usize = 13;
    const AFTER: usize = 9 + 64 + 2;
    let head = line.get(..HEAD_BYTES).unwrap_or(line);
    let digits = head
        .iter()
        .skip(BEFORE)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    behind(head, TIME_KEY, BEFORE + digits + AFTER)?.get(..TIMESTAMP_BYTES)
}

impl Selector {
    pub fn new(filter: Filter) -> Selector {
        let mut needles = Vec::new();
        let pair = |key: &str, value: &str| {
            let value = serde_json::Value::from(value);
            Finder::new(&format!("\"{key}\":{value}")).into_owned()
        };
        for (key, value) in [
            ("action", &filter.action),
            ("rule", &filter.rule),
            ("user", &filter.user),
            ("application_name", &filter.application_name),
            ("database", &filter.database),
        ] {
            needles.extend(value.as_ref().map(|value| pair(key, value)));
        }
        if filter.overridden {
            needles.push(Finder::new("\"overridden\":\"").into_owned());
        }
        if filter.rolled_back {
            needles.push(pair("outcome", "rolled back"));
        }
        for text in filter.table.iter().chain(&filter.id) {
            let name = serde_json::Value::from(text.rsplit('.').next().unwrap_or(text)).to_string();
            needles.push(Finder::new(name.trim_matches('"')).into_owned());
        }
        Selector {
            needles,
            outcome: filter.outcome.as_ref().map(|outcome| pair("outcome", outcome)),
            since: filter.since.map(timestamp),
            until: filter.until.map(timestamp),
            text: filter.text.as_ref().map(|text| text.to_lowercase()),
            filter,
        }
    }

    /// The event of a line that is wanted. Err: it should be one, and cannot be read.
    pub fn select(&self, line: &[u8]) -> Result<Option<Event>, serde_json::Error> {
        if !self.may_match(line) {
            return Ok(None);
        }
        let event: Event = serde_json::from_slice(line)?;
        Ok(self.matches(&event).then_some(event))
    }

    /// The same, of which only what lists show is read where that is enough to tell.
    pub fn brief<'a>(&self, line: &'a [u8]) -> Result<Option<Brief<'a>>, serde_json::Error> {
        if !self.may_match(line) {
            return Ok(None);
        }
        if self.filter.table.is_some() || self.text.is_some() || self.filter.overridden || self.filter.waited {
            let event: Event = serde_json::from_slice(line)?;
            if !self.matches(&event) {
                return Ok(None);
            }
        }
        let brief: Brief = serde_json::from_slice(line)?;
        Ok(self.fits(&brief).then_some(brief))
    }

    /// What the raw text can tell: false is certain.
    fn may_match(&self, line: &[u8]) -> bool {
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = time_of(line) else { return false };
            let early = self.since.as_ref().is_some_and(|since| time < since.as_bytes());
            // It may have begun before.
            let late = self
                .until
                .as_ref()
                .is_some_and(|until| time >= until.as_bytes() && began(line, time) >= Some(until.clone()));
            if early || late {
                return false;
            }
        }
        self.needles
            .iter()
            .chain(&self.outcome)
            .all(|needle| needle.find(line).is_some())
            && self.text.as_ref().is_none_or(|text| may_say(line, text))
    }

    pub fn matches(&self, event: &Event) -> bool {
        let filter = &self.filter;
        self.fits(&Brief::from(event))
            && (!filter.overridden || event.findings.iter().any(|found| found.overridden.is_some()))
            && (!filter.waited || has_waited(event))
            && filter.table.as_ref().is_none_or(|table| names_table(event, table))
            && self.text.as_ref().is_none_or(|text| says(event, text))
    }

    /// All but the table and the text.
    fn fits(&self, event: &Brief) -> bool {
        let filter = &self.filter;
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        is(&filter.action, &event.action)
            && is(&filter.user, &event.user)
            && is(&filter.application_name, &event.application_name)
            && is(&filter.database, &event.database)
            && is(&filter.outcome, &event.outcome)
            && filter.id.as_ref().is_none_or(|id| has_id(&event.id, id))
            && self.since.as_ref().is_none_or(|since| *event.time >= **since)
            && self
                .until
                .as_ref()
                .is_none_or(|until| before(&event.time, event.duration_ms).is_none_or(|began| began < *until))
            && (!filter.rolled_back || event.outcome == "rolled back")
            && filter
                .longer_than
                .is_none_or(|least| event.duration_ms > least.as_secs_f64() * 1e3)
            && filter
                .rule
                .as_ref()
                .is_none_or(|rule| event.findings.iter().any(|found| found.rule == *rule))
    }
}

fn has_waited(event: &Event) -> bool {
    let behind = event.after.as_ref().and_then(|after| after.waits.as_ref());
    event.lock_wait_ms > 0.0 || behind.is_some_and(|waits| waits.behind_plan > 0)
}

/// When the statement of a line began that has this time: its own duration is the last of the line's, behind those of its steps.
fn began(line: &[u8], time: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"duration_ms\":";
    let at = memchr::memmem::rfind(line, KEY)? + KEY.len();
    let number = line[at..].split(|byte| matches!(byte, b',' | b'}')).next()?;
    let duration_ms: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    before(std::str::from_utf8(time).ok()?, duration_ms)
}

/// Whether the text may be in the line, in whatever case. Other letters than ASCII's have cases of their own, and what JSON
/// escapes looks otherwise: there the event must be read.
fn may_say(line: &[u8], text: &str) -> bool {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let (Some(first), true) = (text.bytes().next(), text.bytes().all(is_plain)) else {
        return true;
    };
    let begins = |at: usize| {
        let there = line.get(at..at + text.len());
        there.is_some_and(|there| there.eq_ignore_ascii_case(text.as_bytes()))
    };
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), line).any(begins) || !line.is_ascii()
}

fn has_id(id: &str, wanted: &str) -> bool {
    id == wanted || id.strip_suffix(wanted).is_some_and(|before| before.ends_with('-'))
}

fn names_table(event: &Event, table: &str) -> bool {
    let steps = event.steps.iter().map(|step| &step.relation);
    event
        .relations
        .iter()
        .chain(steps)
        .any(|name| name == table || name.strip_suffix(table).is_some_and(|before| before.ends_with('.')))
}

fn says(event: &Event, text: &str) -> bool {
    let findings = event.findings.iter();
    let findings = findings.flat_map(|found| [Some(&found.rule), Some(&found.message), found.overridden.as_ref()]);
    let steps = event.steps.iter();
    let steps = steps.flat_map(|step| [Some(&step.label), Some(&step.sql), step.error.as_ref()]);
    [Some(&event.statement), event.error.as_ref(), event.detail.as_ref()]
        .into_iter()
        .chain([Some(&event.user), Some(&event.application_name), Some(&event.database)])
        .chain(findings)
        .chain(steps)
        .flatten()
        .chain(&event.relations)
        .any(|found| found.to_lowercase().contains(text))
}
