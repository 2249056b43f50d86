//! What the statements that pass through touch, and when they were last executed, by whom.
//!
//! The forwarding path looks a shape up and stores the second in which it was executed. All else happens on a thread of its own:
//! each shape is read once, and what was executed is added to the [`Record`] every second. A queue that is full and a table that
//! is full cost no statement anything: it is seen again at its next execution, and counted. Values are not kept. Start at
//! [`Usage::note`].

pub mod holds;
pub mod left;
pub mod record;
pub mod show;
pub mod store;
pub mod together;
pub mod words;

use crate::live::shape::shape_text;
use crate::plan::grammar::{STACK_BYTES, this_thread_is_deep};
use crate::plan::uses;
use crate::plan::uses::touched::Uses;
use record::{Record, Stored, Who};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Texts that wait to be read.
const QUEUE_MAX: usize = 256;
/// Shapes by application and role, a power of two: 16 bytes each.
const SLOTS: usize = 16_384;
/// Where one is looked for.
const PROBES: usize = 8;
/// Shapes whose reading is kept. Above it those are forgotten that no slot has.
const SHAPES_MAX: usize = 32_768;
/// Applications and roles. Further ones are told together.
const WHO_MAX: usize = 4_096;
/// Of a shape's text, for people.
const STATEMENT_CHARACTERS_MAX: usize = 200;
const TICK: Duration = Duration::from_secs(1);
/// Reading takes so much of each second, and so much at once: statements of which each has a shape of its own are not all read.
const READING: Duration = Duration::from_millis(200);
const READING_AT_ONCE: Duration = Duration::from_secs(5);
/// How often the record is written.
const STORE_EVERY: u32 = 5;

#[derive(Default)]
pub struct Usage {
    queue: OnceLock<Option<SyncSender<Text>>>,
    shared: Arc<Watched>,
}

struct Watched {
    slots: Box<[Slot]>,
    /// Seconds since 1970, as the thread has seen them last.
    now: AtomicU32,
    hasher: RandomState,
    state: Mutex<State>,
    counts: Counts,
    differed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    /// Of a shape and who has executed it. 0: free.
    key: AtomicU64,
    last: AtomicU32,
    /// Executions since the slot was taken.
    count: AtomicU32,
}

#[derive(Default)]
struct State {
    record: Record,
    /// What the slots' keys stand for, and how many executions are in the record already.
    keys: HashMap<u64, Key>,
    shapes: HashMap<u64, Shape>,
    who: Vec<Who>,
    store: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Key {
    shape: u64,
    who: u32,
    recorded: u32,
}

struct Shape {
    /// None: not read yet, or not readable.
    uses: Option<Arc<Uses>>,
    is_read: bool,
    /// Without values.
    statement: Arc<str>,
}

/// Since the process began.
#[derive(Debug, Default)]
struct Counts {
    /// Shapes that were read by at least one of the readers.
    read: AtomicU64,
    /// By neither.
    unread: AtomicU64,
    /// Where one has found what the other has not.
    differing: AtomicU64,
    /// Executions that found no place.
    unplaced: AtomicU64,
}

struct Text {
    shape: u64,
    text: Box<[u8]>,
}

/// Where a prepared statement is noted when it is executed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    shape: u64,
    /// 0: nowhere.
    key: u64,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            now: AtomicU32::new(seconds()),
            hasher: RandomState::new(),
            state: Mutex::new(State {
                shapes: HashMap::from([(0, unread())]),
                ..State::default()
            }),
            counts: Counts::default(),
            differed: AtomicBool::new(false),
        }
    }
}

/// What stands for all that have no shape.
fn unread() -> Shape {
    Shape {
        uses: None,
        is_read: true,
        statement: "".into(),
    }
}

/// Since 1970.
pub fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

impl Usage {
    /// The number of an application and role in a database.
    pub fn who(&self, who: Who) -> u32 {
        let mut state = self.shared.lock();
        let known = state.who.iter().position(|known| *known == who);
        let at = known.unwrap_or_else(|| {
            let who = match state.who.len() {
                WHO_MAX.. => Who {
                    application: "(too many applications)".into(),
                    ..who
                },
                _ => who,
            };
            let same = state.who.iter().position(|known| *known == who);
            same.unwrap_or_else(|| {
                state.who.push(who);
                state.who.len() - 1
            })
        });
        at as u32
    }

    /// A statement of this shape is executed, or will be where it is only prepared. 0: it has none, and is not read.
    pub fn note(&self, shape: u64, who: u32, text: &[u8], executes: bool) -> Noted {
        let noted = Noted {
            shape,
            key: self.shared.hasher.hash_one((shape, who)).max(1),
        };
        if self.shared.executed(noted.key, executes) || self.shared.claim(noted, who, executes) {
            return noted;
        }
        // Known before it is read: it may be read at once.
        if self.shared.know(shape, text) && !self.read(shape, text) {
            self.shared.lock().shapes.remove(&shape);
        }
        if !self.shared.claim(noted, who, executes) && executes {
            self.unplaced_of(who);
        }
        noted
    }

    /// What was noted before is executed again.
    pub fn again(&self, noted: Noted, who: u32) {
        if noted.key == 0 {
            self.note(0, who, b"", true);
        } else if !self.shared.executed(noted.key, true) && !self.shared.claim(noted, who, true) {
            self.unplaced_of(who);
        }
    }

    /// It is not known what it touches: it counts as one that could not be read.
    fn unplaced_of(&self, who: u32) {
        self.shared.counts.unplaced.fetch_add(1, Ordering::Relaxed);
        self.note(0, who, b"", true);
    }

    /// False: there is no room at the moment.
    fn read(&self, shape: u64, text: &[u8]) -> bool {
        let queue = self.queue.get_or_init(|| begin(&self.shared));
        let text = Text {
            shape,
            text: text.into(),
        };
        queue.as_ref().is_some_and(|queue| queue.try_send(text).is_ok())
    }

    /// By which readers, and how many.
    pub fn counted(&self) -> [(&'static str, u64); 3] {
        let Counts {
            read,
            unread,
            differing,
            ..
        } = &self.shared.counts;
        [("either", read), ("none", unread), ("differing", differing)]
            .map(|(readers, count)| (readers, count.load(Ordering::Relaxed)))
    }

    /// Executions that found no place to be noted.
    pub fn unplaced(&self) -> u64 {
        self.shared.counts.unplaced.load(Ordering::Relaxed)
    }

    /// Shapes that touch one of these relations, each given with its schema.
    pub fn locking(&self, relations: &[(String, String, bool)], writes: bool) -> Vec<u64> {
        let touches = |shape: &Shape| {
            let uses = shape.uses.as_ref();
            uses.is_some_and(|uses| {
                relations
                    .iter()
                    .any(|(schema, name, alone)| uses.locks(schema, name, *alone, writes))
            })
        };
        let state = self.shared.lock();
        state
            .shapes
            .iter()
            .filter(|(_, shape)| touches(shape))
            .map(|(shape, _)| *shape)
            .collect()
    }

    /// Asks the record, with all that was executed by now.
    pub fn ask<T>(&self, ask: impl FnOnce(&Record) -> T) -> T {
        let mut state = self.shared.lock();
        self.shared.fold(&mut state);
        state.record.watched(seconds());
        ask(&state.record)
    }

    /// What is to be told to the proxies' common table, at most so many uses; [`Usage::undo`] where that fails.
    pub fn due(&self, max: usize) -> Vec<Stored> {
        let mut state = self.shared.lock();
        self.shared.fold(&mut state);
        state.record.due(seconds(), max)
    }

    pub fn undo(&self, due: &[Stored]) {
        self.shared.lock().record.undo(due);
    }

    /// From here on the record is kept in that directory; what it has from before is taken over.
    pub fn keep_in(&self, directory: PathBuf) -> Result<(), String> {
        let kept = store::read(&directory)?;
        {
            let mut state = self.shared.lock();
            state.record.take_over(kept, seconds());
            state.store = Some(directory);
        }
        self.queue.get_or_init(|| begin(&self.shared));
        self.store()
    }

    /// Now, too.
    pub fn store(&self) -> Result<(), String> {
        self.shared.store()
    }
}

/// None: the system gives no thread.
fn begin(shared: &Arc<Watched>) -> Option<SyncSender<Text>> {
    let (queue, texts) = sync_channel(QUEUE_MAX);
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("usage".into()).stack_size(STACK_BYTES);
    let begun = thread.spawn(move || shared.watch(&texts));
    begun
        .inspect_err(|error| tracing::error!(%error, "no thread to read statements"))
        .ok()?;
    Some(queue)
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn near(&self, key: u64) -> impl Iterator<Item = &Slot> {
        (0..PROBES).map(move |n| &self.slots[(key as usize).wrapping_add(n) % SLOTS])
    }

    /// False: it has no slot.
    fn executed(&self, key: u64, executes: bool) -> bool {
        let Some(slot) = self.near(key).find(|slot| slot.key.load(Ordering::Relaxed) == key) else {
            return false;
        };
        if executes {
            slot.last.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
            slot.count.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Takes a slot, if the shape is known. What the slot had goes into the record first.
    fn claim(&self, noted: Noted, who: u32, executes: bool) -> bool {
        let mut state = self.lock();
        if !state.shapes.contains_key(&noted.shape) {
            return false;
        }
        let oldest = self
            .near(noted.key)
            .min_by_key(|slot| match slot.key.load(Ordering::Relaxed) {
                0 => 0,
                _ => slot.last.load(Ordering::Relaxed).max(1),
            });
        let Some(slot) = oldest else { return false };
        let before = slot.key.load(Ordering::Relaxed);
        if before != 0 {
            let lost = fold_one(&mut state, before, slot);
            self.counts.unplaced.fetch_add(u64::from(lost), Ordering::Relaxed);
            state.keys.remove(&before);
        }
        let key = Key {
            shape: noted.shape,
            who,
            recorded: 0,
        };
        state.keys.insert(noted.key, key);
        slot.count.store(u32::from(executes), Ordering::Relaxed);
        slot.last.store(
            if executes { self.now.load(Ordering::Relaxed) } else { 0 },
            Ordering::Relaxed,
        );
        slot.key.store(noted.key, Ordering::Relaxed);
        true
    }

    /// False: it was known.
    fn know(&self, shape: u64, text: &[u8]) -> bool {
        let statement = shape_text(text)
            .chars()
            .take(STATEMENT_CHARACTERS_MAX)
            .collect::<String>();
        let mut state = self.lock();
        if state.shapes.len() >= SHAPES_MAX {
            let State { shapes, keys, .. } = &mut *state;
            let used: std::collections::HashSet<u64> = keys.values().map(|key| key.shape).collect();
            shapes.retain(|shape, _| *shape == 0 || used.contains(shape));
        }
        let is_new = !state.shapes.contains_key(&shape);
        state.shapes.entry(shape).or_insert_with(|| Shape {
            uses: None,
            is_read: false,
            statement: statement.into(),
        });
        is_new
    }

    /// All that was executed since the last time goes into the record.
    fn fold(&self, state: &mut State) {
        for slot in &self.slots {
            let key = slot.key.load(Ordering::Relaxed);
            if key != 0 {
                // What is not read yet is taken the next time.
                let _ = fold_one(state, key, slot);
            }
        }
    }

    fn watch(&self, texts: &Receiver<Text>) {
        this_thread_is_deep();
        let mut ticks = 0_u32;
        let mut budget = READING_AT_ONCE;
        let mut next = std::time::Instant::now() + TICK;
        loop {
            let left = next.saturating_duration_since(std::time::Instant::now());
            if budget.is_zero() {
                std::thread::sleep(left);
            } else {
                match texts.recv_timeout(left) {
                    Ok(text) => {
                        let began = std::time::Instant::now();
                        self.read(&text);
                        budget = budget.saturating_sub(began.elapsed());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            if std::time::Instant::now() < next {
                continue;
            }
            next = std::time::Instant::now() + TICK;
            budget = (budget + READING).min(READING_AT_ONCE);
            self.now.store(seconds(), Ordering::Relaxed);
            {
                let mut state = self.lock();
                self.fold(&mut state);
                state.record.watched(seconds());
            }
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(STORE_EVERY)
                && let Err(error) = self.store()
            {
                tracing::error!(error, "what was used cannot be kept");
            }
        }
    }

    fn store(&self) -> Result<(), String> {
        let (directory, text) = {
            let mut state = self.lock();
            let Some(directory) = state.store.clone() else {
                return Ok(());
            };
            self.fold(&mut state);
            state.record.watched(seconds());
            (directory, store::text_of(&state.record)?)
        };
        store::write(&directory, &text)
    }

    fn read(&self, text: &Text) {
        let sql = String::from_utf8_lossy(&text.text);
        let read = uses::read(&sql);
        if read.differ {
            self.counts.differing.fetch_add(1, Ordering::Relaxed);
            if !self.differed.swap(true, Ordering::Relaxed) {
                // Once: the metric counts the others.
                let (grammar, second) = (read.only_grammar.join(" "), read.only_second.join(" "));
                tracing::info!(
                    grammar,
                    second,
                    "the two readers of statements differ; a use that either finds counts"
                );
            }
        }
        match read.uses {
            Some(_) => self.counts.read.fetch_add(1, Ordering::Relaxed),
            None => self.counts.unread.fetch_add(1, Ordering::Relaxed),
        };
        if let Some(shape) = self.lock().shapes.get_mut(&text.shape) {
            let nothing = || read.refused.then(Uses::default);
            (shape.uses, shape.is_read) = (read.uses.or_else(nothing).map(Arc::new), true);
        }
    }
}

/// One slot's new executions. Those of a shape that is not read yet wait until it is: so many are left.
fn fold_one(state: &mut State, key: u64, slot: &Slot) -> u32 {
    let State {
        record,
        keys,
        shapes,
        who,
        ..
    } = state;
    let Some(key) = keys.get_mut(&key) else { return 0 };
    let (last, count) = (slot.last.load(Ordering::Relaxed), slot.count.load(Ordering::Relaxed));
    let new = count.wrapping_sub(key.recorded);
    let (Some(shape), Some(who)) = (shapes.get(&key.shape), who.get(key.who as usize)) else {
        return new;
    };
    if new == 0 || !shape.is_read {
        return new;
    }
    key.recorded = count;
    match &shape.uses {
        Some(uses) => record.used(uses, who, last, new, &shape.statement),
        None => record.unread(who, last, new),
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::uses::touched::How;

    fn who(application: &str) -> Who {
        Who {
            database: "shop".into(),
            application: application.into(),
            role: "ann".into(),
        }
    }

    fn settled(usage: &Usage, shapes: u64) {
        let read = || usage.counted()[0].1 + usage.counted()[1].1;
        while read() < shapes {
            std::thread::yield_now();
        }
    }

    #[test]
    fn shapes_are_read_aside_and_found_by_what_they_touch() {
        let usage = Usage::default();
        let web = usage.who(who("web"));
        assert_eq!(usage.who(who("web")), web);
        usage.note(1, web, b"SELECT v FROM users", true);
        usage.note(2, web, b"SELECT v FROM other.users", true);
        usage.note(3, web, b"SELEC", true);
        settled(&usage, 3);
        let touching = |schema: &str| {
            let mut shapes = usage.locking(&[(schema.to_owned(), "users".to_owned(), true)], false);
            shapes.sort_unstable();
            shapes
        };
        assert_eq!((touching("public"), touching("other")), (vec![1], vec![1, 2]));
        assert_eq!(usage.counted(), [("either", 2), ("none", 1), ("differing", 0)]);
    }

    #[test]
    fn executions_are_counted_by_application_also_of_what_was_prepared_before() {
        let usage = Usage::default();
        let (web, report) = (usage.who(who("web")), usage.who(who("report")));
        let prepared = usage.note(1, web, b"SELECT name FROM users WHERE id = $1", false);
        settled(&usage, 1);
        let uses = || {
            usage.ask(|record| {
                let of = record.uses("shop", &[("public".into(), "users".into())], Some("name"));
                let of: Vec<_> = of
                    .iter()
                    .map(|used| (used.who.application.clone(), used.count, used.how))
                    .collect();
                of
            })
        };
        assert_eq!(uses(), [], "it was only prepared");
        usage.again(prepared, web);
        usage.again(prepared, web);
        assert_eq!(uses(), [("web".to_owned(), 2, Some(How::ByName))]);
        usage.note(2, report, b"SELECT * FROM users", true);
        settled(&usage, 2);
        let mut all = uses();
        all.sort();
        assert_eq!(
            all,
            [
                ("report".to_owned(), 1, Some(How::Whole)),
                ("web".to_owned(), 2, Some(How::ByName))
            ]
        );
    }

    #[test]
    fn a_full_table_loses_no_use() {
        let usage = Usage::default();
        let all: Vec<u32> = (0..400).map(|n| usage.who(who(&format!("web {n}")))).collect();
        let text = |n: u64| format!("SELECT c FROM t{n}");
        for n in 0..50 {
            usage.note(n + 1, all[0], text(n).as_bytes(), true);
        }
        settled(&usage, 50);
        // More than there are slots, twice.
        for _ in 0..2 {
            for who in &all {
                for n in 0..50 {
                    usage.note(n + 1, *who, text(n).as_bytes(), true);
                }
            }
        }
        let of = |n: u64| {
            let relation = [("public".to_owned(), format!("t{n}"))];
            let count = |record: &Record| {
                record
                    .uses("shop", &relation, None)
                    .iter()
                    .map(|used| used.count)
                    .sum::<u64>()
            };
            usage.ask(count)
        };
        assert_eq!((0..50).map(of).sum::<u64>(), 50 + 2 * 400 * 50);
        assert_eq!(usage.unplaced(), 0);
    }
}
