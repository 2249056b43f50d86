//! UPDATE and DELETE statements that were found small a moment ago, so that what an application sends all day is not asked about
//! again.
//!
//! A remembered verdict carries its ground, and ends with it: what it rests on is a table's keys, size and statistics, and the
//! meaning of a name. Every session of a database shares what was learnt, by where it stands: role, search_path and no temporary
//! tables of its own ([`Shapes::stands`]). It is forgotten
//! * when a schema change, ANALYZE or VACUUM passes any session, and again when that session's transaction ends;
//! * when what was written through this proxy since then, all of it taken for rows that the statement touches, could bring it
//!   above `rows_max`. What a key bounds does not grow with its table. What the statistics bound grows by what is inserted: an
//!   UPDATE changes them with the next ANALYZE;
//! * for this session, when a function or procedure that is not the server's own has run in it, which may have done anything;
//! * after [`KEEP`], which bounds what is done past this proxy.

use crate::plan::batches;
use crate::plan::batches::bound::{Bound, Ground};
use crate::plan::batches::firing::Firing;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What is done past the proxy is noticed within this time.
const KEEP: Duration = Duration::from_secs(5);
/// So long it is believed which rules (CREATE RULE) there are. Nobody makes one all day long, and every INSERT would pay for it.
const KEEP_RULES: Duration = Duration::from_secs(60);
/// Of a text that asks for the time.
const KEEP_TIMED: Duration = Duration::from_secs(1);
const LEARNED_MAX: usize = 20_000;
const LOCAL_MAX: usize = 1_000;
const DATABASES_MAX: usize = 10_000;
/// What a text's words and literals mean depends on these.
const SURROUNDINGS: [&[u8]; 5] = [
    b"client_encoding",
    b"standard_conforming_strings",
    b"TimeZone",
    b"DateStyle",
    b"IntervalStyle",
];

/// What was learnt, by database.
#[derive(Default)]
pub struct Book(Mutex<HashMap<String, Arc<Database>>>);

impl Book {
    pub fn database(&self, name: &str) -> Arc<Database> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(name) {
            return Arc::clone(known);
        }
        if all.len() >= DATABASES_MAX {
            // Sessions that are open keep theirs.
            all.clear();
        }
        Arc::clone(all.entry(name.to_owned()).or_default())
    }

    /// Another policy decides otherwise.
    pub fn forget(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().for_each(|database| database.changed());
    }
}

#[derive(Default)]
pub struct Database {
    /// Counts what may have taken the ground away.
    epoch: AtomicU64,
    /// Rows that were written through this proxy, and those of them that were not there before.
    written: AtomicU64,
    inserted: AtomicU64,
    learned: RwLock<HashMap<u64, Arc<Learned>>>,
    /// Where sessions of the same startup packet stand when they begin.
    starts: RwLock<HashMap<u64, (u64, u64, Instant)>>,
    /// Rules by which an INSERT changes other rows.
    firing: RwLock<Option<Arc<Fires>>>,
    /// How often a rule may have been made.
    rules: AtomicU64,
    /// A table `lockkeeper.job` was seen.
    jobs: AtomicBool,
    hasher: RandomState,
}

#[derive(Debug)]
struct Fires {
    firing: Arc<Firing>,
    epoch: u64,
    rules: u64,
    since: Instant,
    /// Somebody is asking anew, before it ends.
    renewing: AtomicBool,
}

impl Fires {
    fn holds(&self, database: &Database) -> bool {
        // Where there are none, only a rule that is made changes that; else names may move and views be made.
        let is_same = match self.firing.is_empty() {
            true => self.rules == database.rules.load(Ordering::Acquire),
            false => self.epoch == database.epoch.load(Ordering::Acquire),
        };
        is_same && self.since.elapsed() < KEEP_RULES
    }
}

impl Database {
    fn changed(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn get(&self, key: u64) -> Option<Arc<Learned>> {
        self.learned
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned()
    }

    fn put(&self, key: u64, learned: Arc<Learned>) {
        let mut all = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= LEARNED_MAX {
            let epoch = self.epoch.load(Ordering::Acquire);
            all.retain(|_, learned| learned.epoch == epoch && learned.since.elapsed() < learned.keep);
            if all.len() >= LEARNED_MAX {
                all.clear();
            }
        }
        all.insert(key, learned);
    }
}

/// The state of the ground when a question about it was sent: what changes from then on is not in its answer.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    epoch: u64,
    rules: u64,
    written: u64,
    inserted: u64,
    at: Instant,
}

/// What is remembered of a shape, or of one text.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// So many rows at most. Of a small table, nothing.
    AtMost(Bound),
    /// Each text is to be estimated anew.
    EachText,
}

/// What may make a statement mean more rows than were told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Grows {
    /// By a key, a list or a LIMIT alone: nothing.
    Never,
    /// By the commonest value of a column.
    WithInserted,
    /// As the planner estimated it.
    WithWritten,
}

#[derive(Debug)]
pub struct Learned {
    key: u64,
    standing: u64,
    verdict: Verdict,
    /// The target of every text of the shape.
    ground: Option<Arc<Ground>>,
    grows: Grows,
    rows_max: f64,
    epoch: u64,
    written: u64,
    inserted: u64,
    since: Instant,
    keep: Duration,
    /// Somebody is asking anew, before it ends.
    renewing: AtomicBool,
}

impl Learned {
    fn new(key: u64, standing: u64, before: Before, verdict: Verdict, rows_max: f64) -> Learned {
        Learned {
            key,
            standing,
            verdict,
            ground: None,
            grows: Grows::WithWritten,
            rows_max,
            epoch: before.epoch,
            written: before.written,
            inserted: before.inserted,
            since: before.at,
            keep: KEEP,
            renewing: AtomicBool::new(false),
        }
    }

    /// The ground is still there, for a message of so many bytes.
    fn holds(&self, database: &Database, bytes: usize) -> bool {
        let rows = match &self.verdict {
            Verdict::AtMost(bound) => bound.of_message(bytes),
            Verdict::EachText => 0.0,
        };
        self.epoch == database.epoch.load(Ordering::Acquire)
            && self.since.elapsed() < self.keep
            && rows + self.written_since(database) <= self.rows_max
    }

    /// What is on its way to the server in front of the statement may make it mean more rows.
    pub fn may_grow(&self) -> bool {
        self.grows != Grows::Never
    }

    fn written_since(&self, database: &Database) -> f64 {
        let since = |now: &AtomicU64, then: u64| now.load(Ordering::Relaxed).wrapping_sub(then) as f64;
        match self.grows {
            Grows::Never => 0.0,
            Grows::WithInserted => since(&database.inserted, self.inserted),
            Grows::WithWritten => since(&database.written, self.written),
        }
    }

    /// Half of its time or of its rows is gone.
    fn ages(&self, database: &Database) -> bool {
        let spare = match &self.verdict {
            Verdict::AtMost(bound) => self.rows_max - bound.rows,
            Verdict::EachText => self.rows_max,
        };
        self.since.elapsed() * 2 > self.keep || self.written_since(database) * 2.0 > spare
    }
}

/// One session's view of it.
#[derive(Default)]
pub struct Shapes {
    database: Arc<Database>,
    /// The startup packet, as far as it decides what names mean.
    start: u64,
    /// Nothing has moved names since the session began.
    pristine: bool,
    standing: Option<(u64, Instant)>,
    /// As asked for this statement alone, in a transaction in which names have moved.
    for_now: Option<u64>,
    /// Names may have another meaning until the transaction ends.
    moved: bool,
    /// This transaction has changed the schema, or has called what may have: it sees what others do not.
    changed: bool,
    /// That is not of this session's temporary tables alone.
    changed_for_all: bool,
    /// The change that is being carried out is to what only this session has.
    pub private: bool,
    /// Counts what may have made or dropped temporary tables of this session, which hide others of their names.
    private_epoch: u64,
    /// What was learnt earlier may have gone by what this session has called.
    not_before: Option<Instant>,
    /// How what a text says depends on the session: what the server reports of it.
    surroundings: BTreeMap<&'static [u8], Vec<u8>>,
    around: Option<u64>,
    /// This session asks anew about that.
    renews: Option<u64>,
    local: HashMap<u64, Arc<Learned>>,
    fires: Option<Arc<Fires>>,
    /// As asked in this transaction, since it has changed the schema.
    fires_here: Option<Arc<Firing>>,
    changed_here: bool,
    /// A rule may have been made in this transaction.
    makes_rules: bool,
    /// A table was made in this transaction.
    makes_tables: bool,
    /// This session asks anew about rules.
    renews_fires: bool,
    scratch: Vec<u8>,
}

impl Shapes {
    /// A table was made in this transaction, as far as was heard.
    pub fn makes_tables(&self) -> bool {
        self.makes_tables
    }

    /// In this database a table `lockkeeper.job` was seen, so that it is asked at once whether that can be trusted.
    pub fn have_jobs(&self) -> bool {
        self.database.jobs.load(Ordering::Relaxed)
    }

    pub fn saw_jobs(&self) {
        self.database.jobs.store(true, Ordering::Relaxed);
    }

    /// `start`: what of the startup packet decides the meaning of names.
    pub fn open(&mut self, database: Arc<Database>, start: &[u8]) {
        self.start = database.hasher.hash_one(start);
        self.database = database;
        self.pristine = true;
        self.around = None;
    }

    /// The server reports a parameter of the session.
    pub fn reported(&mut self, name: &[u8], value: &[u8]) {
        if let Some(known) = SURROUNDINGS.iter().find(|known| **known == name) {
            self.surroundings.insert(known, value.to_vec());
            self.around = None;
        }
    }

    fn around(&mut self) -> u64 {
        let (database, surroundings) = (&self.database, &self.surroundings);
        *self
            .around
            .get_or_insert_with(|| database.hasher.hash_one(surroundings))
    }

    /// This text was found small in this shape, for a message of so many bytes.
    pub fn passes(&mut self, text: &[u8], types: &[u8], bytes: usize) -> bool {
        self.known(text, types, bytes).is_some()
    }

    /// The verdict by which it passes.
    pub fn known(&mut self, text: &[u8], types: &[u8], bytes: usize) -> Option<Arc<Learned>> {
        let standing = self.standing()?;
        let key = self.key(standing, text, types)?;
        // Of a MERGE or WITH only texts are remembered.
        let learned = match self.find(key) {
            Some(learned) if matches!(learned.verdict, Verdict::AtMost(_)) => learned,
            _ => {
                let key = self.text_key(standing, text, types)?;
                self.find(key)?
            }
        };
        self.holds(&learned, bytes).then_some(learned)
    }

    /// This very text was found small, of a statement of which nothing else is remembered.
    pub fn passes_text(&mut self, text: &[u8], types: &[u8]) -> bool {
        let learned = self.standing().and_then(|standing| {
            let key = self.text_key(standing, text, types)?;
            self.find(key)
        });
        learned.is_some_and(|learned| self.holds(&learned, 0))
    }

    /// A verdict that was handed out is still good. False once where this session is to ask anew.
    pub fn holds(&mut self, learned: &Arc<Learned>, bytes: usize) -> bool {
        if self.standing() != Some(learned.standing)
            || self.not_before.is_some_and(|at| learned.since < at)
            || !learned.holds(&self.database, bytes)
        {
            return false;
        }
        if learned.ages(&self.database) && !learned.renewing.swap(true, Ordering::AcqRel) {
            self.renews = Some(learned.key);
        }
        self.renews != Some(learned.key)
    }

    /// The same of one that is not to be asked anew for that.
    pub fn still_holds(&self, learned: &Learned, bytes: usize) -> bool {
        !self.changed
            && !self.moved
            && self
                .standing
                .is_some_and(|(standing, at)| standing == learned.standing && at.elapsed() < KEEP)
            && self.not_before.is_none_or(|at| learned.since >= at)
            && learned.holds(&self.database, bytes)
    }

    /// The target of a text that must be estimated.
    pub fn ground(&mut self, text: &[u8], types: &[u8]) -> Option<Arc<Ground>> {
        let standing = self.standing()?;
        let key = self.key(standing, text, types)?;
        let learned = self.find(key)?;
        if !self.holds(&learned, 0) {
            return None;
        }
        learned.ground.clone()
    }

    fn find(&mut self, key: u64) -> Option<Arc<Learned>> {
        if let Some(learned) = self.local.get(&key).filter(|learned| learned.holds(&self.database, 0)) {
            // Somebody may have asked anew.
            if !learned.renewing.load(Ordering::Relaxed) {
                return Some(Arc::clone(learned));
            }
        }
        let learned = self
            .database
            .get(key)
            .filter(|learned| learned.holds(&self.database, 0));
        match &learned {
            Some(learned) => {
                if self.local.len() >= LOCAL_MAX {
                    self.local.clear();
                }
                self.local.insert(key, Arc::clone(learned));
            }
            None => drop(self.local.remove(&key)),
        }
        learned
    }

    /// Where this session stands: two that stand alike give every name the same meaning. None: it has to be asked.
    pub fn standing(&mut self) -> Option<u64> {
        if self.changed {
            return None;
        }
        if self.for_now.is_some() || self.moved {
            return self.for_now;
        }
        if let Some((standing, at)) = self.standing
            && at.elapsed() < KEEP
        {
            return Some(standing);
        }
        self.standing = None;
        if self.pristine {
            let starts = self.database.starts.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((standing, epoch, at)) = starts.get(&self.start)
                && at.elapsed() < KEEP
                && *epoch == self.database.epoch.load(Ordering::Acquire)
            {
                self.standing = Some((*standing, *at));
                return Some(*standing);
            }
        }
        None
    }

    /// Whether it is worth asking where the session stands.
    pub fn wants_standing(&mut self) -> bool {
        !self.changed && self.standing().is_none()
    }

    /// The server's answer to [`STANDING`]. `own`: what tells this session from all others, where it has temporary tables, which
    /// hide others of their names.
    pub fn stands(&mut self, answer: &str, own: Option<&[u8]>) {
        let own = own.map(|own| (own, self.private_epoch));
        let standing = self.database.hasher.hash_one((answer, own));
        if self.moved {
            self.for_now = Some(standing);
            return;
        }
        let now = Instant::now();
        self.standing = Some((standing, now));
        if self.pristine && own.is_none() {
            let epoch = self.database.epoch.load(Ordering::Acquire);
            let mut starts = self.database.starts.write().unwrap_or_else(PoisonError::into_inner);
            if starts.len() >= LEARNED_MAX {
                starts.clear();
            }
            starts.insert(self.start, (standing, epoch, now));
        }
    }

    /// The statement for which that was asked has been judged.
    pub fn judged(&mut self) {
        (self.for_now, self.renews) = (None, None);
    }

    /// From now on, and once more at the end of the transaction (SET LOCAL), a name may mean another table.
    pub fn names_moved(&mut self) {
        (self.standing, self.for_now) = (None, None);
        (self.pristine, self.moved) = (false, true);
        self.private_epoch += 1;
    }

    /// A function or procedure is called that is not the server's own: it may load rows, drop keys and temporary tables, or move
    /// names. Until the transaction ends, nobody else sees what it did.
    pub fn called(&mut self) {
        self.names_moved();
        self.changed = true;
    }

    /// A relation is made by a statement whose tag does not tell. `for_all`: others see it too, at the latest when the transaction ends.
    pub fn makes(&mut self, for_all: bool) {
        self.called();
        if for_all {
            self.changed_for_all = true;
            self.database.changed();
        }
    }

    /// `all`: no other statement is on its way.
    pub fn transaction_ended(&mut self, all: bool) {
        if self.changed_for_all {
            // From now on others see it.
            self.database.changed();
        }
        if !all || (!self.moved && !self.changed) {
            return;
        }
        if self.changed {
            self.not_before = Some(Instant::now());
        }
        (self.moved, self.changed) = (false, false);
        (self.changed_for_all, self.private) = (false, false);
        (self.fires_here, self.changed_here, self.makes_tables) = (None, false, false);
        if std::mem::take(&mut self.makes_rules) {
            self.database.rules.fetch_add(1, Ordering::AcqRel);
        }
        (self.standing, self.for_now) = (None, None);
        self.private_epoch += 1;
    }

    /// A command tag of the server's.
    pub fn heard(&mut self, tag: &[u8]) {
        let rows = match tag.first() {
            Some(b'I') => tag.strip_prefix(b"INSERT 0 "),
            Some(b'U') => tag.strip_prefix(b"UPDATE "),
            Some(b'D') => tag.strip_prefix(b"DELETE "),
            Some(b'M') => tag.strip_prefix(b"MERGE "),
            Some(b'C') => tag.strip_prefix(b"COPY "),
            _ => None,
        };
        if let Some(rows) = rows {
            let digits = rows.iter().take_while(|byte| byte.is_ascii_digit());
            let rows = digits.fold(0u64, |sum, digit| {
                sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
            });
            if rows > 0 {
                self.database.written.fetch_add(rows, Ordering::Relaxed);
                if matches!(tag[0], b'I' | b'M' | b'C') {
                    self.database.inserted.fetch_add(rows, Ordering::Relaxed);
                }
            }
            return;
        }
        const CHANGES: [&[u8]; 13] = [
            b"ALTER",
            b"ANALYZE",
            b"CLUSTER",
            b"COMMENT",
            b"CREATE",
            b"DO",
            b"DROP",
            b"GRANT",
            b"IMPORT",
            b"REFRESH",
            b"REINDEX",
            b"TRUNCATE",
            b"VACUUM",
        ];
        let word = tag.split(|byte| matches!(byte, b' ' | 0)).next().unwrap_or_default();
        if CHANGES.contains(&word) || tag.starts_with(b"COMMIT PREPARED") {
            self.schema_changed(matches!(word, b"ANALYZE" | b"VACUUM"));
            self.makes_tables |= tag.starts_with(b"CREATE TABLE");
            const MAKE_RULES: [&[u8]; 4] = [b"CREATE RULE", b"CREATE EXTENSION", b"DO", b"COMMIT PREPARED"];
            let makes_rules = MAKE_RULES.iter().any(|command| tag.starts_with(command));
            if makes_rules {
                self.makes_rules = true;
                self.database.rules.fetch_add(1, Ordering::AcqRel);
            }
            if makes_rules || !self.knows_of_no_rules() {
                (self.fires_here, self.changed_here) = (None, true);
            }
        } else if matches!(word, b"CALL" | b"DISCARD") {
            self.called();
        }
    }

    /// What a plan has left when it failed is not known.
    pub fn much_has_changed(&self) {
        self.database.changed();
    }

    fn schema_changed(&mut self, for_all: bool) {
        self.changed = true;
        self.private_epoch += 1;
        (self.standing, self.for_now, self.pristine) = (None, None, false);
        if for_all || !self.private {
            self.changed_for_all = true;
            self.database.changed();
        }
    }

    /// No INSERT changes other rows, as far as is known and not too old.
    pub fn knows_of_no_rules(&self) -> bool {
        if self.changed_here {
            return self.fires_here.as_ref().is_some_and(|firing| firing.is_empty());
        }
        let known = self.database.firing.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .is_some_and(|known| known.firing.is_empty() && known.holds(&self.database))
    }

    /// Which INSERTs change other rows by a rule. None: that is to be asked.
    pub fn firing(&mut self) -> Option<Arc<Firing>> {
        if self.changed_here {
            return self.fires_here.clone();
        }
        if !self.fires.as_ref().is_some_and(|known| known.holds(&self.database)) {
            self.fires = self
                .database
                .firing
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
        }
        let known = self.fires.as_ref().filter(|known| known.holds(&self.database))?;
        if known.since.elapsed() * 2 > KEEP_RULES && !known.renewing.swap(true, Ordering::AcqRel) {
            self.renews_fires = true;
        }
        (!self.renews_fires).then(|| Arc::clone(&known.firing))
    }

    /// The same, as it was known last.
    pub fn known_firing(&self) -> Option<Arc<Firing>> {
        match self.changed_here {
            true => self.fires_here.clone(),
            false => self.fires.as_ref().map(|known| Arc::clone(&known.firing)),
        }
    }

    /// The text has an INSERT in it, which is to be looked at.
    pub fn may_fire(&mut self, text: &[u8]) -> bool {
        self.firing().is_none_or(|firing| firing.may_concern(text))
    }

    pub fn learn_firing(&mut self, before: Before, firing: Firing) {
        let firing = Arc::new(firing);
        self.renews_fires = false;
        if self.changed_here {
            self.fires_here = Some(firing);
            return;
        }
        let fires = Arc::new(Fires {
            firing,
            epoch: before.epoch,
            rules: before.rules,
            since: before.at,
            renewing: AtomicBool::new(false),
        });
        self.fires = Some(Arc::clone(&fires));
        *self.database.firing.write().unwrap_or_else(PoisonError::into_inner) = Some(fires);
    }

    /// To be taken before what is learnt is asked.
    pub fn before(&self) -> Before {
        Before {
            epoch: self.database.epoch.load(Ordering::Acquire),
            rules: self.database.rules.load(Ordering::Acquire),
            written: self.database.written.load(Ordering::Relaxed),
            inserted: self.database.inserted.load(Ordering::Relaxed),
            at: Instant::now(),
        }
    }

    /// Of every text of this shape; with the verdict, whether it is by a key, a list or a LIMIT alone.
    pub fn learn(
        &mut self,
        text: &[u8],
        types: &[u8],
        before: Before,
        (verdict, lasting): (Verdict, bool),
        ground: &Arc<Ground>,
        rows_max: f64,
    ) -> Option<Arc<Learned>> {
        let standing = self.standing()?;
        let key = self.key(standing, text, types)?;
        let ground = Some(Arc::clone(ground));
        let grows = if lasting { Grows::Never } else { Grows::WithInserted };
        let learned = Learned {
            ground,
            grows,
            ..Learned::new(key, standing, before, verdict, rows_max)
        };
        Some(self.remember(learned))
    }

    /// Of this text alone, which has no parameters.
    pub fn learn_text(
        &mut self,
        text: &[u8],
        types: &[u8],
        before: Before,
        rows: f64,
        rows_max: f64,
    ) -> Option<Arc<Learned>> {
        let standing = self.standing()?;
        let key = self.text_key(standing, text, types)?;
        let keep = if may_ask_the_time(text) { KEEP_TIMED } else { KEEP };
        let bound = Bound {
            rows,
            rows_per_byte: 0.0,
        };
        let learned = Learned {
            keep,
            ..Learned::new(key, standing, before, Verdict::AtMost(bound), rows_max)
        };
        Some(self.remember(learned))
    }

    fn remember(&mut self, learned: Learned) -> Arc<Learned> {
        let learned = Arc::new(learned);
        self.renews = self.renews.filter(|renewed| *renewed != learned.key);
        self.local.insert(learned.key, Arc::clone(&learned));
        self.database.put(learned.key, Arc::clone(&learned));
        learned
    }

    /// Of the statement alone: the semicolon that most clients end a simple query with is no part of it.
    fn key(&mut self, standing: u64, text: &[u8], types: &[u8]) -> Option<u64> {
        self.scratch.clear();
        let known = batches::shape::shape(alone(text), &mut self.scratch);
        let around = self.around();
        known.then(|| self.database.hasher.hash_one((standing, around, types, &self.scratch)))
    }

    /// None: its parameters are not in the text, or it may be read in two ways.
    fn text_key(&mut self, standing: u64, text: &[u8], types: &[u8]) -> Option<u64> {
        let text = alone(text);
        let around = self.around();
        let whole = !text.iter().any(|byte| matches!(byte, b'$' | b'\\'));
        whole.then(|| self.database.hasher.hash_one((standing, around, types, text, "text")))
    }
}

impl Drop for Shapes {
    /// The server may have taken the COMMIT of a session that did not live to hear of it.
    fn drop(&mut self) {
        if self.changed_for_all {
            self.database.changed();
        }
    }
}

fn alone(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let Some(before) = text.strip_suffix(b";") {
        text = before.trim_ascii_end();
    }
    text
}

/// A later time may mean other rows: now(), current_date, localtimestamp, 'yesterday', any function of somebody's own.
fn may_ask_the_time(text: &[u8]) -> bool {
    let holds = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    text.contains(&b'(') || holds(b"current") || holds(b"local") || holds(b"day") || holds(b"tomorrow") || holds(b"now")
}

/// One row: what decides the meaning of names, and the session's temporary schema, 0 if it has none.
pub const STANDING: &str = "SELECT pg_catalog.concat_ws(' ', pg_catalog.quote_ident(CURRENT_USER::pg_catalog.text), pg_catalog.quote_ident(SESSION_USER::pg_catalog.text), pg_catalog.current_setting('search_path')), pg_catalog.pg_my_temp_schema()::pg_catalog.text";

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &[u8] = b"UPDATE t SET v = 'a' WHERE id = 1";

    fn session(book: &Book) -> Shapes {
        let mut shapes = Shapes::default();
        shapes.open(book.database("d"), b"user\0amy\0");
        shapes
    }

    fn at_most(rows: f64) -> Verdict {
        Verdict::AtMost(Bound {
            rows,
            rows_per_byte: 0.0,
        })
    }

    fn learn(shapes: &mut Shapes, text: &[u8], rows: f64) {
        let before = shapes.before();
        shapes.learn(text, b"", before, (at_most(rows), false), &Arc::default(), 1_000.0);
        shapes.judged();
    }

    #[test]
    fn others_of_the_same_standing_know_it_too() {
        let book = Book::default();
        let (mut one, mut two) = (session(&book), session(&book));
        one.stands("amy public", None);
        learn(&mut one, UPDATE, 1.0);
        assert!(two.passes(b"UPDATE t SET v = 'b' WHERE id = 22;", b"", 0));
        let mut three = session(&book);
        three.names_moved();
        three.transaction_ended(true);
        assert!(!three.passes(UPDATE, b"", 0));
        three.stands("amy other", None);
        assert!(!three.passes(UPDATE, b"", 0));
        let mut four = session(&book);
        four.stands("amy public", Some(b"its temporary tables"));
        assert!(!four.passes(UPDATE, b"", 0));
        let mut elsewhere = Shapes::default();
        elsewhere.open(book.database("e"), b"user\0amy\0");
        elsewhere.stands("amy public", None);
        assert!(!elsewhere.passes(UPDATE, b"", 0));
    }

    #[test]
    fn a_schema_change_takes_the_ground_away_twice() {
        let book = Book::default();
        let (mut one, mut two) = (session(&book), session(&book));
        one.stands("amy public", None);
        two.stands("amy public", None);
        learn(&mut one, UPDATE, 1.0);
        assert!(two.passes(UPDATE, b"", 0));
        two.heard(b"ALTER TABLE\0");
        assert!(!one.passes(UPDATE, b"", 0) && !two.passes(UPDATE, b"", 0));
        // What others ask meanwhile is from before its commit.
        learn(&mut one, UPDATE, 1.0);
        assert!(one.passes(UPDATE, b"", 0) && !two.passes(UPDATE, b"", 0));
        two.transaction_ended(true);
        assert!(!one.passes(UPDATE, b"", 0));
        learn(&mut one, UPDATE, 1.0);
        two.private = true;
        two.heard(b"CREATE TABLE\0");
        assert!(one.passes(UPDATE, b"", 0) && !two.passes(UPDATE, b"", 0));
        let before = one.before();
        book.forget();
        one.learn(UPDATE, b"", before, (at_most(1.0), false), &Arc::default(), 1_000.0);
        assert!(!one.passes(UPDATE, b"", 0), "asked before it changed");
    }

    #[test]
    fn what_is_written_uses_up_the_margin() {
        let book = Book::default();
        let mut shapes = session(&book);
        shapes.stands("amy public", None);
        learn(&mut shapes, UPDATE, 100.0);
        shapes.heard(b"COPY 410\0");
        shapes.heard(b"INSERT 0 50\0");
        assert!(!shapes.passes(UPDATE, b"", 0), "one asks anew");
        shapes.judged();
        assert!(shapes.passes(UPDATE, b"", 0), "and others go on");
        shapes.heard(b"UPDATE 5000\0");
        assert!(
            shapes.passes(UPDATE, b"", 0),
            "of what is there, no more have one value than ANALYZE will find"
        );
        shapes.heard(b"MERGE 451\0");
        assert!(!shapes.passes(UPDATE, b"", 0));
        let estimated = b"DELETE FROM t WHERE n > 5";
        let before = shapes.before();
        shapes.learn_text(estimated, b"", before, 100.0, 1_000.0);
        assert!(shapes.passes(estimated, b"", 0));
        shapes.heard(b"UPDATE 901\0");
        assert!(!shapes.passes(estimated, b"", 0));
        let bound = Verdict::AtMost(Bound {
            rows: 1.0,
            rows_per_byte: 0.5,
        });
        let before = shapes.before();
        shapes.learn(UPDATE, b"", before, (bound, false), &Arc::default(), 1_000.0);
        assert!(shapes.passes(UPDATE, b"", 1_900) && !shapes.passes(UPDATE, b"", 2_100));
    }

    #[test]
    fn names_move_within_a_transaction_and_at_its_end() {
        let book = Book::default();
        let mut shapes = session(&book);
        shapes.stands("amy public", None);
        learn(&mut shapes, UPDATE, 1.0);
        shapes.names_moved();
        assert!(!shapes.passes(UPDATE, b"", 0));
        shapes.stands("amy public", None);
        assert!(shapes.passes(UPDATE, b"", 0));
        // Each statement of this transaction is to be asked for.
        shapes.judged();
        assert!(!shapes.passes(UPDATE, b"", 0));
        shapes.transaction_ended(true);
        assert!(!shapes.passes(UPDATE, b"", 0));
        shapes.stands("amy public", None);
        assert!(shapes.passes(UPDATE, b"", 0));
    }

    #[test]
    fn a_shape_is_known_with_other_literals_and_a_text_alone() {
        let book = Book::default();
        let mut shapes = session(&book);
        shapes.stands("amy public", None);
        learn(&mut shapes, UPDATE, 1.0);
        assert!(shapes.passes(b"  UPDATE t  SET v = 'b' WHERE id = 22 ; ;\n", b"", 0));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b'", b"", 0));
        assert!(!shapes.passes(UPDATE, b"\0\0\0\x19", 0));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b' WHERE id = 22; DROP TABLE t", b"", 0));
        assert!(!shapes.passes(b"UPDATE t SET v = 'b' WHERE id = 22 -- ;", b"", 0));
        let (range, other) = (b"DELETE FROM t WHERE n > 5", b"DELETE FROM t WHERE n > 4");
        let before = shapes.before();
        shapes.learn(range, b"", before, (Verdict::EachText, false), &Arc::default(), 1_000.0);
        assert!(!shapes.passes(range, b"", 0) && shapes.ground(other, b"").is_some());
        shapes.learn_text(range, b"", before, 3.0, 1_000.0);
        assert!(shapes.passes(range, b"", 0) && !shapes.passes(other, b"", 0));
    }
}
