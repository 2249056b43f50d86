//! The steps of a rewrite up to the swap. Each is one transaction that moves the job's rows with the table's, so that a process that is
//! killed between any two goes on exactly where it was.

use super::build::undo_unlogged;
use super::link::{Fault, Link};
use crate::plan::jobs;
use crate::plan::rewrite::scheme::Scheme;
use crate::plan::rewrite::{job, questions};
use crate::plan::splice::quote_literal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a step should take.
const STEP: Duration = Duration::from_millis(200);
/// So many rows at first.
const ROWS_FIRST: u64 = 2_000;
const ROWS_MAX: u64 = 200_000;
/// The log is looked through in every so many steps of the copy.
const DISCARD_EVERY: u64 = 10;
/// So many dead lines of the log are worth a VACUUM.
const DEAD_MAX: u64 = 20_000;

/// Why a job with an unlogged table does not go on.
pub const CRASHED: &str =
    "the server has crashed since the job began, or a standby has taken its place, which empties unlogged tables";

/// What ended a step otherwise than well.
pub enum End {
    Fault(Fault),
    /// Paused or cancelled by somebody.
    Steered(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> End {
        End::Fault(fault)
    }
}

impl From<String> for End {
    fn from(text: String) -> End {
        End::Fault(text.into())
    }
}

pub struct Walk<'a> {
    pub link: &'a Link,
    pub scheme: &'a Scheme,
    /// Ctrl-C.
    pub stop: &'a AtomicBool,
    /// After each step.
    pub pause: Duration,
    pub rows: u64,
    /// As many rows the table has, by the statistics.
    pub of: u64,
    pub steps: u64,
    /// Lines that were taken from the log since it was vacuumed.
    pub dead: u64,
    /// On the way back: the way there.
    pub there: Option<&'a Scheme>,
}

/// As the job's own table has it.
pub struct State {
    pub phase: String,
    pub cursor: Option<Vec<String>>,
}

impl<'a> Walk<'a> {
    pub fn new(link: &'a Link, scheme: &'a Scheme, pause: Duration, stop: &'a AtomicBool) -> Walk<'a> {
        Walk {
            link,
            scheme,
            stop,
            pause,
            rows: ROWS_FIRST,
            of: 0,
            steps: 0,
            dead: 0,
            there: None,
        }
    }

    pub fn state_table(&self) -> String {
        self.scheme.schemas().of("state")
    }

    /// Begins a transaction with one snapshot, in which the table is what it was at the job's beginning, and holds the job.
    async fn begin(&self) -> Result<State, End> {
        self.link
            .run(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
                self.scheme.old()
            ))
            .await?;
        self.hold().await?;
        let state = self.state().await?;
        self.no_crash_since(self.link).await?;
        self.is_as_it_was().await?;
        Ok(state)
    }

    /// Takes the job's row for the transaction. Err: somebody wants it to stop.
    pub async fn hold(&self) -> Result<(), End> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(End::Steered("paused".into()));
        }
        let row = self
            .link
            .job_row(&jobs::hold(self.scheme.job))
            .await?
            .pop()
            .unwrap_or_default();
        match row.first().cloned().flatten() {
            Some(state) if state == "running" => Ok(()),
            state => Err(End::Steered(state.unwrap_or_else(|| "gone".into()))),
        }
    }

    pub async fn state(&self) -> Result<State, End> {
        let sql = format!(
            "SELECT phase, array_to_json(cursor) FROM {} FOR UPDATE",
            self.state_table()
        );
        let mut row = self.link.rows(&sql).await?.pop().unwrap_or_default().into_iter();
        let phase = row
            .next()
            .flatten()
            .ok_or_else(|| format!("{} is empty", self.state_table()))?;
        let cursor = match row.next().flatten() {
            Some(json) => serde_json::from_str(&json).map_err(|error| error.to_string())?,
            None => None,
        };
        Ok(State { phase, cursor })
    }

    pub async fn is_as_it_was(&self) -> Result<(), End> {
        let now = questions::fingerprint(self.scheme.table, self.scheme.schemas());
        let sql = format!(
            "SELECT ({now}) = coalesce(fingerprint, scheme ->> 'fingerprint') FROM {}",
            self.state_table()
        );
        match self.link.is(&sql).await? {
            true => Ok(()),
            false => Err(format!(
                "the definition of {} has changed since the job began, or what hangs on it: cancel the job, and begin anew",
                self.scheme.old()
            )
            .into()),
        }
    }

    /// Before the swap: unlogged tables, of which one is the old one or the new one, have their rows.
    pub async fn no_crash_since(&self, link: &Link) -> Result<(), End> {
        match !self.scheme.is_unlogged || link.is(&self.scheme.lasts()).await? {
            true => Ok(()),
            false => Err(format!("{CRASHED}: nothing was replaced; resume the job").into()),
        }
    }

    async fn move_to(&self, phase: &str, cursor: Option<&[String]>) -> Result<(), End> {
        let cursor = match cursor {
            Some(key) => format!(
                "ARRAY(SELECT json_array_elements_text({}))",
                quote_literal(&serde_json::json!(key).to_string())
            ),
            None => "NULL".into(),
        };
        let sql = format!(
            "UPDATE {} SET phase = {}, cursor = {cursor}",
            self.state_table(),
            quote_literal(phase)
        );
        self.link.run(&sql).await?;
        Ok(())
    }

    async fn commit(&self) -> Result<(), End> {
        self.link.run("COMMIT").await?;
        Ok(())
    }

    /// Goes on from the phase that it is in up to `ready`.
    pub async fn step(&mut self, phase: &str) -> Result<(), End> {
        let begun = Instant::now();
        let done = match phase {
            "copy" => self.copy().await,
            "key" => self.build_key().await,
            "drain" => self.first_drain().await,
            "indexes" => self.build_indexes().await,
            "settle" => self.settle().await,
            "verify" => self.verify().await,
            other => Err(format!("a rewrite has no phase {other}").into()),
        };
        if done.is_err() {
            self.undo().await;
        }
        done?;
        self.steps += 1;
        self.pace(begun.elapsed());
        self.rest().await
    }

    /// ROLLBACK of a step.
    async fn undo(&self) {
        match self.scheme.is_unlogged {
            true => undo_unlogged(self.link).await,
            false => self.link.rollback().await,
        }
    }

    /// The pause, in which somebody may want it to stop.
    async fn rest(&self) -> Result<(), End> {
        let begun = Instant::now();
        loop {
            let left = self.pause.saturating_sub(begun.elapsed());
            self.link.rest(left.min(STEP)).await?;
            if left <= STEP || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let state = self
                .link
                .job(&jobs::state(self.scheme.job))
                .await?
                .pop()
                .and_then(|row| row.into_iter().next().flatten());
            if state.as_deref() != Some("running") {
                return Err(End::Steered(state.unwrap_or_else(|| "gone".into())));
            }
        }
    }

    fn pace(&mut self, took: Duration) {
        let wanted = STEP.as_secs_f64() / took.as_secs_f64().max(0.001);
        let rows = self.rows as f64 * wanted.clamp(0.5, 2.0);
        self.rows = (rows as u64).clamp(100, ROWS_MAX);
    }

    /// Another session has gone on with it: this one must not, whatever it has read before.
    fn is_in(&self, state: &State, phase: &str) -> Result<(), End> {
        match state.phase == phase {
            true => Ok(()),
            false => Err(format!(
                "the job is in the phase {}, no longer in {phase}: resume it",
                state.phase
            )
            .into()),
        }
    }

    async fn copy(&mut self) -> Result<(), End> {
        let mut state = self.begin().await?;
        self.is_in(&state, "copy")?;
        let link = self.link;
        if self.steps.is_multiple_of(DISCARD_EVERY) {
            if link.one(&self.scheme.truncated()).await?.is_some() {
                link.run(&self.scheme.empty()).await?;
                link.job_row(&job::from_the_start(self.scheme.job)).await?;
                state.cursor = None;
            }
            self.dead += link.run(&self.scheme.discard(state.cursor.as_deref())).await?;
        }
        link.run("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
            .await?;
        let bound: Option<Vec<String>> = link
            .json(&self.scheme.bound(state.cursor.as_deref(), self.rows))
            .await?;
        let copied = link
            .run(&self.scheme.copy(state.cursor.as_deref(), bound.as_deref()))
            .await?;
        match &bound {
            Some(key) => self.move_to("copy", Some(key)).await?,
            None => self.move_to("key", None).await?,
        }
        link.job_row(&job::moved(self.scheme.job, bound.as_deref(), copied))
            .await?;
        self.commit().await?;
        link.moved(copied, self.of);
        self.vacuum_log().await
    }

    async fn vacuum_log(&mut self) -> Result<(), End> {
        if self.dead > DEAD_MAX {
            self.link
                .run(&format!("VACUUM {}", self.scheme.schemas().of("log")))
                .await?;
            self.dead = 0;
        }
        Ok(())
    }

    /// A transaction that only builds: the job's row is held, so that who pauses it cancels the build.
    async fn build(&self, sql: &[String], next: Option<&str>) -> Result<(), End> {
        self.link.run("BEGIN").await?;
        self.hold().await?;
        self.no_crash_since(self.link).await?;
        self.link.run_all(sql).await?;
        if let Some(next) = next {
            self.move_to(next, None).await?;
        }
        self.commit().await
    }

    async fn is_there(&self, index: &str) -> Result<bool, End> {
        let name = crate::plan::splice::qualified(&self.scheme.schemas().fresh(), index);
        Ok(self
            .link
            .is(&format!("SELECT to_regclass({}) IS NOT NULL", quote_literal(&name)))
            .await?)
    }

    async fn build_key(&self) -> Result<(), End> {
        let key = self
            .scheme
            .indexes
            .iter()
            .find(|index| index.name == self.scheme.key_index);
        let key = key.ok_or_else(|| format!("the index {} is not known", self.scheme.key_index))?;
        self.build(&key.sql, Some("drain")).await
    }

    /// Before it, rows of one key may be there twice under other unique indexes.
    async fn first_drain(&mut self) -> Result<(), End> {
        self.drain(Some("indexes")).await.map(|_| ())
    }

    async fn build_indexes(&mut self) -> Result<(), End> {
        for index in &self.scheme.indexes {
            if !self.is_there(&index.name).await? {
                self.build(&index.sql, None).await?;
                self.drain(None).await?;
            }
        }
        self.build(&self.scheme.restore_autovacuum(), Some("settle")).await
    }

    /// Else the first plans after the swap are made blind.
    async fn settle(&mut self) -> Result<(), End> {
        self.link
            .run(&format!("VACUUM (ANALYZE) {}", self.scheme.fresh()))
            .await?;
        self.calm().await?;
        self.build(&[], Some("verify")).await
    }

    /// Until the log has little left.
    pub async fn calm(&mut self) -> Result<(), End> {
        for _ in 0..1_000 {
            let begun = Instant::now();
            if self.drain(None).await? < 1_000 && begun.elapsed() < Duration::from_millis(50) {
                return Ok(());
            }
        }
        // More comes in than goes out: the swap tries all the same, and what it may take is bounded.
        Ok(())
    }

    /// Takes the whole log, and makes the rows of its keys anew: how many lines it had.
    pub async fn drain(&mut self, next: Option<&str>) -> Result<u64, End> {
        let mut tries = 0;
        loop {
            match self.try_drain(next).await {
                Err(End::Fault(fault)) if fault.is_in_the_way() && tries < 100 => {
                    self.undo().await;
                    tries += 1;
                }
                Ok(lines) => {
                    self.dead += lines;
                    self.vacuum_log().await?;
                    return Ok(lines);
                }
                Err(end) => return Err(end),
            }
        }
    }

    /// The same, and what is in the way is not tried again.
    pub async fn drain_once(&mut self) -> Result<(), End> {
        self.dead += self.try_drain(None).await?;
        Ok(())
    }

    async fn try_drain(&self, next: Option<&str>) -> Result<u64, End> {
        self.begin().await?;
        let lines = self.drain_within().await?;
        if let Some(next) = next {
            self.move_to(next, None).await?;
        }
        self.commit().await?;
        Ok(lines)
    }

    /// Within a transaction that has locked the table: nobody writes it meanwhile.
    pub async fn drain_here(&mut self) -> Result<(), End> {
        self.dead += self.drain_within().await?;
        Ok(())
    }

    /// The new table is, for the rest of the transaction, what the old one is for its snapshot.
    async fn drain_within(&self) -> Result<u64, End> {
        let mut row = self
            .link
            .rows(&self.scheme.take_log())
            .await?
            .pop()
            .unwrap_or_default()
            .into_iter();
        let mut number = || {
            row.next()
                .flatten()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or_default()
        };
        let (lines, truncated) = (number(), number());
        if truncated > 0 {
            self.link.run(&self.scheme.empty()).await?;
        }
        if lines > 0 {
            self.link
                .run(
                    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
                )
                .await?;
            for sql in self.scheme.make_anew() {
                self.link.run(&sql).await?;
            }
            self.link
                .run("RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin")
                .await?;
        }
        Ok(lines)
    }

    /// The next range of keys has the same rows in both tables, by one snapshot.
    async fn verify(&mut self) -> Result<(), End> {
        let state = self.begin().await?;
        self.is_in(&state, "verify")?;
        self.dead += self.drain_within().await?;
        let link = self.link;
        link.run("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            .await?;
        let bound: Option<Vec<String>> = link
            .json(&self.scheme.bound(state.cursor.as_deref(), self.rows))
            .await?;
        let (after, up_to) = (state.cursor.as_deref(), bound.as_deref());
        let compared = match self.there {
            Some(there) => there.compare_back(self.scheme, after, up_to),
            None => self.scheme.compare(after, up_to),
        };
        if !link.is(&compared).await? {
            return Err(self.differ(after, up_to).into());
        }
        match &bound {
            Some(key) => self.move_to("verify", Some(key)).await?,
            None => self.move_to("ready", None).await?,
        }
        self.commit().await
    }

    fn differ(&self, after: Option<&[String]>, up_to: Option<&[String]>) -> String {
        let key = |key: &[String]| key.join(", ");
        let place = match (after, up_to) {
            (None, None) => String::new(),
            (None, Some(to)) => format!(" up to the key {}", key(to)),
            (Some(from), None) => format!(" behind the key {}", key(from)),
            (Some(from), Some(to)) => format!(" between the keys {} and {}", key(from), key(to)),
        };
        let then = match self.there {
            Some(_) => {
                "a value there does not fit its former type, or was written while the job's triggers were off: write these rows anew, and go \
                 back then"
            }
            None => "cancel the job",
        };
        format!("the rows of both tables differ{place}: nothing was replaced; {then}")
    }
}
