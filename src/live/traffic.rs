//! How long statements of each shape take, from a sample of what passes through, in a table of fixed size.
//!
//! A session's [`Probe`] decides what is timed: the first few statements of every tenth of a second, and of the rest one
//! in sixteen. A timed statement costs two looks at the clock, a hash of its shape, and one relaxed addition; nothing is
//! locked, and nothing is allocated but for a shape's first appearance. Counts only grow, so what happened between two
//! moments is the difference of two [`Snapshot`]s.

use super::shape::normalise;
use crate::audit::after::Times;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

const SHAPES_MAX: usize = 256;
/// Where a shape's slot is looked for.
const PROBES: usize = 8;
/// Four to each doubling, from 8 µs to 134 s.
const BUCKETS: usize = 96;
const FIRST_OCTAVE: u32 = 3;
/// Of a shape's text so much is kept.
const SHAPE_BYTES_MAX: usize = 1_000;

const ALWAYS: u8 = 2;
const WINDOW: Duration = Duration::from_millis(100);
const ONE_IN: u8 = 16;
/// Prepared statements whose shape a session remembers, a power of two.
const NAMES: usize = 64;

/// How far back "before" goes, and how often a snapshot is kept for that.
pub const BEFORE: Duration = Duration::from_secs(300);
pub const SNAPSHOT_EVERY: Duration = Duration::from_secs(30);

pub struct Traffic {
    slots: Box<[Slot]>,
    /// Texts of the shapes in `slots`; locked when one is new.
    texts: Mutex<HashMap<u64, Box<str>>>,
    /// Oldest first.
    kept: Mutex<VecDeque<(Instant, Snapshot)>>,
    /// Timed statements whose shape found no slot.
    unplaced: AtomicU64,
    hasher: RandomState,
}

struct Slot {
    /// 0: free.
    shape: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

/// How long statements usually take, at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// Three of four take as long.
    pub quarter: Duration,
    /// Two of four.
    pub half: Duration,
}

/// All counts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    shapes: HashMap<u64, [u32; BUCKETS]>,
    unplaced: u64,
}

impl Default for Traffic {
    fn default() -> Traffic {
        let slot = || Slot {
            shape: AtomicU64::new(0),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
        };
        Traffic {
            slots: (0..SHAPES_MAX).map(|_| slot()).collect(),
            texts: Mutex::default(),
            kept: Mutex::default(),
            unplaced: AtomicU64::new(0),
            hasher: RandomState::new(),
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Traffic {
    /// The number of a text's shape. 0: it has none.
    pub fn number(&self, text: &[u8], conforming: bool) -> u64 {
        SCRATCH.with_borrow_mut(|scratch| match normalise(text, conforming, scratch) {
            true => self.hasher.hash_one(scratch.as_slice()).max(1),
            false => 0,
        })
    }

    /// A shape that is to be timed; its first appearance takes a slot. 0: it is not.
    fn place(&self, shape: u64, text: &[u8], conforming: bool) -> u64 {
        if shape == 0 {
            return 0;
        }
        match self.slot(shape) {
            Some(_) => shape,
            None if self.claim(shape, text, conforming) => shape,
            None => {
                self.unplaced.fetch_add(1, Ordering::Relaxed);
                0
            }
        }
    }

    #[cfg(test)]
    fn shape(&self, text: &[u8]) -> u64 {
        self.place(self.number(text, true), text, true)
    }

    fn slot(&self, shape: u64) -> Option<&Slot> {
        self.near(shape)
            .find(|slot| slot.shape.load(Ordering::Relaxed) == shape)
    }

    fn near(&self, shape: u64) -> impl Iterator<Item = &Slot> {
        let first = shape as usize;
        (0..PROBES).map(move |n| &self.slots[first.wrapping_add(n) % SHAPES_MAX])
    }

    fn claim(&self, shape: u64, text: &[u8], conforming: bool) -> bool {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.slot(shape).is_some() {
            return true;
        }
        let Some(free) = self.near(shape).find(|slot| slot.shape.load(Ordering::Relaxed) == 0) else {
            return false;
        };
        let mut normal = Vec::new();
        normalise(text, conforming, &mut normal);
        normal.truncate(SHAPE_BYTES_MAX);
        texts.insert(shape, String::from_utf8_lossy(&normal).into());
        free.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        free.shape.store(shape, Ordering::Relaxed);
        true
    }

    fn record(&self, shape: u64, took: Duration) {
        if let Some(slot) = self.slot(shape) {
            slot.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long statements of a shape usually take, at least: all but the fastest quarter, and half of them. None: none was timed.
    pub fn usual(&self, shape: u64) -> Option<Usual> {
        let slot = self.slot(shape)?;
        let counts: [u32; BUCKETS] = std::array::from_fn(|n| slot.counts[n].load(Ordering::Relaxed));
        let timed: u64 = counts.iter().map(|n| u64::from(*n)).sum();
        let at = |part: f64| {
            let mut seen = 0;
            let rank = (timed as f64 * part).floor() as u64;
            let n = counts.iter().position(|count| {
                seen += u64::from(*count);
                seen > rank
            });
            Duration::from_secs_f64(lower_bound_ms(n.unwrap_or_default()) / 1e3)
        };
        (timed > 0).then(|| Usual {
            quarter: at(0.25),
            half: at(0.5),
        })
    }

    pub fn snapshot(&self) -> Snapshot {
        let counted = self.slots.iter().filter_map(|slot| {
            let shape = slot.shape.load(Ordering::Relaxed);
            let counts = || std::array::from_fn(|n| slot.counts[n].load(Ordering::Relaxed));
            (shape != 0).then(|| (shape, counts()))
        });
        Snapshot {
            shapes: counted.collect(),
            unplaced: self.unplaced.load(Ordering::Relaxed),
        }
    }

    /// To be called every [`SNAPSHOT_EVERY`]: keeps what "before" is measured from, and frees the slots of shapes that
    /// have not been seen since then.
    pub fn keep(&self) {
        let now = self.snapshot();
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.front().is_some_and(|(at, _)| at.elapsed() > BEFORE) {
            let Some((_, old)) = kept.pop_front() else { break };
            for slot in &self.slots {
                let shape = slot.shape.load(Ordering::Relaxed);
                if shape != 0 && now.shapes.get(&shape) == old.shapes.get(&shape) {
                    slot.shape.store(0, Ordering::Relaxed);
                    texts.remove(&shape);
                }
            }
        }
        kept.push_back((Instant::now(), now));
    }

    /// The oldest snapshot that is kept, about five minutes old; the beginning where there is none.
    pub fn before(&self) -> Snapshot {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.front().map(|(_, snapshot)| snapshot.clone()).unwrap_or_default()
    }

    /// Shapes that have one of the words in them, with their texts.
    pub fn naming(&self, words: &[String]) -> Vec<(u64, String)> {
        let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let named = texts.iter().filter(|(_, text)| {
            let text = text.to_lowercase();
            words.iter().any(|word| has_word(&text, word))
        });
        named.map(|(shape, text)| (*shape, text.to_string())).collect()
    }
}

impl Snapshot {
    /// Of these shapes alone.
    pub fn of(&self, shapes: &[(u64, String)]) -> Snapshot {
        let kept = shapes
            .iter()
            .filter_map(|(shape, _)| Some((*shape, *self.shapes.get(shape)?)));
        Snapshot {
            shapes: kept.collect(),
            unplaced: self.unplaced,
        }
    }

    /// What was timed of a shape from `earlier` to here; None: nothing was.
    pub fn since(&self, earlier: &Snapshot, shape: u64) -> Option<Times> {
        let now = self.shapes.get(&shape)?;
        let counts: Vec<u64> = match earlier.shapes.get(&shape) {
            None => now.iter().map(|n| u64::from(*n)).collect(),
            // A slot may have been freed and taken again in between: then its counts begin anew.
            Some(then) if now.iter().zip(then).any(|(now, then)| now < then) => return None,
            Some(then) => now.iter().zip(then).map(|(now, then)| u64::from(now - then)).collect(),
        };
        let timed: u64 = counts.iter().sum();
        let percentile = |part: f64| {
            let rank = ((timed as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let n = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            upper_bound_ms(n.unwrap_or(BUCKETS - 1))
        };
        (timed > 0).then(|| Times {
            timed,
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
        })
    }
}

/// By octave, and within it by quarter.
fn bucket(took: Duration) -> usize {
    let us = (took.as_micros() as u64).max(1 << FIRST_OCTAVE);
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    (((octave - FIRST_OCTAVE) * 4) as usize + quarter as usize).min(BUCKETS - 1)
}

fn upper_bound_ms(bucket: usize) -> f64 {
    let octave = (1_u64 << (FIRST_OCTAVE as usize + bucket / 4)) as f64;
    octave * (1.0 + (bucket % 4 + 1) as f64 / 4.0) / 1e3
}

fn lower_bound_ms(bucket: usize) -> f64 {
    let octave = (1_u64 << (FIRST_OCTAVE as usize + bucket / 4)) as f64;
    octave * (1.0 + (bucket % 4) as f64 / 4.0) / 1e3
}

/// The timed statement that a session runs, for others to see.
#[derive(Debug, Default)]
pub struct Runs {
    /// 0: none.
    shape: AtomicU64,
    /// Microseconds since the process began to count.
    since: AtomicU64,
}

impl Runs {
    /// Its shape, and for how long.
    pub fn now(&self) -> Option<(u64, Duration)> {
        let shape = self.shape.load(Ordering::Relaxed);
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        (shape != 0).then(|| (shape, began().elapsed().saturating_sub(since)))
    }

    fn begins(&self, shape: u64, now: Instant) {
        let since = now.saturating_duration_since(began());
        self.since.store(since.as_micros() as u64, Ordering::Relaxed);
        self.shape.store(shape, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.shape.store(0, Ordering::Relaxed);
    }
}

fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

/// Which of a session's statements are timed. One at a time, from a quiescent session to the next.
#[derive(Default)]
pub struct Probe {
    runs: Arc<Runs>,
    running: Option<Running>,
    /// Of the unnamed statement; 0: unknown.
    unnamed: u64,
    /// Shapes of prepared statements by a hash of their name. Another of the same place takes it over.
    named: Option<Box<[(u64, u64); NAMES]>>,
    window: Option<Instant>,
    always: u8,
    skipped: u8,
}

/// A text and the number of its shape.
#[derive(Clone, Copy)]
pub struct Shaped<'a> {
    pub text: &'a [u8],
    pub conforming: bool,
    pub number: u64,
}

impl<'a> Shaped<'a> {
    pub fn of(traffic: &Traffic, text: &'a [u8], conforming: bool) -> Shaped<'a> {
        Shaped {
            text,
            conforming,
            number: traffic.number(text, conforming),
        }
    }

    fn placed(self, traffic: &Traffic) -> u64 {
        traffic.place(self.number, self.text, self.conforming)
    }
}

struct Running {
    shape: u64,
    started: Instant,
    executed: bool,
}

impl Probe {
    pub fn new(runs: Arc<Runs>) -> Probe {
        Probe {
            runs,
            ..Probe::default()
        }
    }

    /// A simple query is about to go to a server that owes nothing.
    pub fn query(&mut self, traffic: &Traffic, text: Shaped<'_>) {
        if self.is_due() {
            self.start(text.placed(traffic));
        }
    }

    /// A Parse; `alone`: the server owes nothing.
    pub fn parse(&mut self, traffic: &Traffic, name: &[u8], text: Shaped<'_>, alone: bool) {
        let due = alone && self.is_due();
        if !due && name.is_empty() {
            self.unnamed = 0;
            return;
        }
        let shape = text.placed(traffic);
        if name.is_empty() {
            self.unnamed = shape;
        } else {
            let name = traffic.hasher.hash_one(name);
            let named = self.named.get_or_insert_with(|| Box::new([(0, 0); NAMES]));
            named[name as usize % NAMES] = (name, shape);
        }
        if due {
            self.start(shape);
        }
    }

    /// True: the next statement is to be timed, if its shape is known.
    pub fn is_due(&mut self) -> bool {
        if self.always > 0 {
            self.always -= 1;
            return true;
        }
        self.skipped += 1;
        if self.skipped < ONE_IN && self.window.is_some() {
            return false;
        }
        self.skipped = 0;
        true
    }

    /// The shape of a prepared statement.
    pub fn of_prepared(&self, traffic: &Traffic, name: &[u8]) -> u64 {
        if name.is_empty() {
            return self.unnamed;
        }
        let name = traffic.hasher.hash_one(name);
        match &self.named {
            Some(named) if named[name as usize % NAMES].0 == name => named[name as usize % NAMES].1,
            _ => 0,
        }
    }

    pub fn start(&mut self, shape: u64) {
        if shape == 0 {
            return;
        }
        let now = Instant::now();
        if self.window.is_none_or(|window| now - window >= WINDOW) {
            (self.window, self.always) = (Some(now), ALWAYS);
        }
        self.runs.begins(shape, now);
        self.running = Some(Running {
            shape,
            started: now,
            executed: false,
        });
    }

    /// A Query or Execute goes on. Of several in a row none can be timed.
    pub fn executes(&mut self) {
        match &mut self.running {
            Some(running) if !running.executed => running.executed = true,
            _ => self.give_up(),
        }
    }

    /// It takes another way, or failed.
    pub fn give_up(&mut self) {
        if self.running.take().is_some() {
            self.runs.ends();
        }
    }

    /// The server owes nothing any more.
    pub fn done(&mut self, traffic: &Traffic) {
        let Some(running) = self.running.take() else { return };
        self.runs.ends();
        if running.executed {
            traffic.record(running.shape, running.started.elapsed());
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word) && !word.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_known_to_a_quarter() {
        for us in [8, 9, 100, 1_000, 12_345, 1_000_000, 60_000_000_u64] {
            let bound = upper_bound_ms(bucket(Duration::from_micros(us))) * 1e3;
            assert!(bound >= us as f64 && bound <= us as f64 * 1.26, "{us} µs: {bound}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_secs(100_000)), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_of_what_was_between() {
        let traffic = Traffic::default();
        let shape = traffic.shape(b"SELECT 1");
        traffic.record(shape, Duration::from_secs(9));
        let before = traffic.snapshot();
        assert_eq!(traffic.snapshot().since(&before, shape), None);
        for n in 0..100 {
            traffic.record(shape, Duration::from_millis(if n < 98 { 1 } else { 50 }));
        }
        let times = traffic.snapshot().since(&before, shape).expect("timed");
        assert_eq!(times.timed, 100);
        assert!(
            (1.0..1.3).contains(&times.p50_ms) && (50.0..60.0).contains(&times.p99_ms),
            "{times:?}"
        );
    }

    #[test]
    fn the_usual_time_is_told_too_short_rather_than_too_long() {
        let traffic = Traffic::default();
        let shape = traffic.shape(b"SELECT 1");
        assert_eq!(traffic.usual(shape), None);
        for ms in [1, 1, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000] {
            traffic.record(shape, Duration::from_millis(ms));
        }
        let usual = traffic.usual(shape).expect("timed");
        let is_near = |took: Duration| (1_500..=2_000).contains(&(took.as_millis() as u64));
        assert!(is_near(usual.quarter) && is_near(usual.half), "{usual:?}");
        assert_eq!(traffic.number(b"SELECT 2", true), shape);
    }

    #[test]
    fn the_table_is_bounded_and_frees_what_is_not_used() {
        let traffic = Traffic::default();
        let shapes: Vec<u64> = (0..1_000)
            .map(|n| traffic.shape(format!("SELECT c{n}").as_bytes()))
            .collect();
        let placed = shapes.iter().filter(|shape| **shape != 0).count();
        assert!((SHAPES_MAX / 2..=SHAPES_MAX).contains(&placed), "{placed}");
        assert_eq!(traffic.snapshot().unplaced, 1_000 - placed as u64);
        assert_eq!(traffic.naming(&["c0".into()]).len(), 1);
    }

    #[test]
    fn a_statement_is_timed_from_quiet_to_quiet() {
        let (traffic, mut probe) = (Traffic::default(), Probe::default());
        let timed = |traffic: &Traffic| {
            let snapshot = traffic.snapshot();
            traffic
                .naming(&["t".into()])
                .first()
                .and_then(|(shape, _)| snapshot.since(&Snapshot::default(), *shape))
        };
        probe.query(&traffic, Shaped::of(&traffic, b"SELECT 1 FROM t", true));
        probe.done(&traffic);
        assert_eq!(timed(&traffic), None, "nothing was executed");
        probe.parse(&traffic, b"s", Shaped::of(&traffic, b"SELECT 1 FROM t", true), true);
        probe.executes();
        probe.executes();
        probe.done(&traffic);
        assert_eq!(timed(&traffic), None, "two at once");
        probe.start(probe.of_prepared(&traffic, b"s"));
        probe.executes();
        probe.done(&traffic);
        assert_eq!(timed(&traffic).map(|times| times.timed), Some(1));
        assert_eq!(probe.of_prepared(&traffic, b"other"), 0);
    }

    #[test]
    fn a_busy_session_is_timed_one_time_in_sixteen() {
        let (traffic, mut probe) = (Traffic::default(), Probe::default());
        let shape = traffic.shape(b"SELECT 1");
        probe.start(shape);
        // As long as the window lasts.
        probe.window = Some(Instant::now() + Duration::from_secs(3600));
        probe.always = ALWAYS;
        let due = (0..ALWAYS as usize + 160).filter(|_| probe.is_due()).count();
        assert_eq!(due, ALWAYS as usize + 10);
    }
}
