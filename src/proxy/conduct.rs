//! Carries a plan's steps out on the client's server connection: tries for a lock, batches, removal of what failed.
//!
//! Start at [`Session::conduct`]. The outcome is a command tag, or why there is none: an error that the client hears,
//! or the end of the session itself.

use super::blockers::{Waits, merge};
use super::clearing::Clearing;
use super::dialogue::{Answer, Ask, Closing, Hears, NAMED};
use super::end::{Broken, End, unless_refused};
use super::entry::Entry;
use super::session::Session;
use super::step_context::StepContext;
use super::time_limits::{Limits, is_lock_trouble};
use super::tries::{Tries, gave_up};
use crate::plan::path::{self, PRINTED};
use crate::plan::{Cleanup, Mode, Place, Run, Step};
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// A cancel request that was heard comes to the server within this time.
pub(super) const CANCEL_TIME: Duration = Duration::from_millis(100);
/// To remove what a cancelled step has left.
const CLEANUP_TRIES: u32 = 3;

impl Session {
    /// All steps in order, up to the first that fails.
    pub(super) async fn conduct(
        &mut self,
        run: &Run,
        setting: StepContext<'_>,
        entry: &mut Entry,
    ) -> Result<String, End> {
        let mut tag = run.tag.clone();
        for (n, step) in run.steps.iter().enumerate() {
            let started = Instant::now();
            let mut tries = Tries::default();
            self.seat.step_begins(n, step.lock.name(), &step.relation);
            let outcome = match self.waits_while_paused(setting.place).await {
                Ok(()) => self.step(step, setting, &mut tries, (entry, n)).await,
                Err(end) => Err(end),
            };
            let waits = self.waits();
            let record = entry.step(n);
            // A brief step asks itself, between its tries.
            if !matches!(step.mode, Mode::Brief { .. }) {
                merge(&mut tries.seen, &waits.seen());
                record.blockers_unknown = waits.unknown().map(str::to_owned);
            }
            record.blockers = std::mem::take(&mut tries.seen);
            record.duration_ms = started.elapsed().as_secs_f64() * 1e3;
            record.lock_tries = tries.count;
            record.lock_wait_ms = tries.waited.as_secs_f64() * 1e3;
            record.rows = tries.rows;
            match &outcome {
                Ok(None) => record.outcome = "skipped".into(),
                Ok(Some(_)) => record.outcome = "done".into(),
                Err(End::Refused(report)) => {
                    record.outcome = if report.sqlstate() == "57014" {
                        "cancelled"
                    } else {
                        "failed"
                    }
                    .into();
                    record.sqlstate = Some(report.sqlstate());
                    record.error = Some(report.message());
                }
                Err(End::Broken(_)) => record.outcome = "failed".into(),
            }
            match outcome {
                Ok(_) if run.steps.len() == 1 && run.deferral.is_none() => self.record_last_step(entry, n),
                _ => self.record_step(entry, n).await,
            }
            match outcome {
                Ok(Some(done)) => {
                    if let Some(counted) = done.tag.filter(|_| run.steps.len() == 1) {
                        tag = counted;
                    }
                }
                Ok(None) => {}
                Err(End::Refused(report)) => return Err(self.fail(run, n, report, setting).await?.into()),
                Err(broken) => return Err(broken),
            }
        }
        if let Some(contract) = run.contract() {
            self.relay
                .notice(&format!("left to be done by hand, on a later day:\n{contract}"))
                .await?;
        }
        Ok(tag)
    }

    /// Removes what the failed step left, and tells what the steps before it did.
    pub(super) async fn fail(
        &mut self,
        run: &Run,
        n: usize,
        mut report: Report,
        setting: StepContext<'_>,
    ) -> Result<Report, Broken> {
        let step = &run.steps[n];
        // What is added at the end of the client's text moves no position in it.
        if step.sql.starts_with(setting.statement.trim_end()) {
            report.shift_position(setting.position_shift);
        } else {
            report.remove(b'P');
            report.append(
                b'D',
                &format!(
                    "lockkeeper: this happened in step {} of {}, \"{}\": {}",
                    n + 1,
                    run.steps.len(),
                    step.label,
                    step.sql
                ),
            );
        }
        if report.sqlstate() == "25006" {
            // As the server says it of the client's own statement; of the command within a DO block it says so itself.
            let tag = match &step.mode {
                Mode::Batches(batches) => batches.verb,
                _ => &run.tag,
            };
            let message = report.message();
            let ends = [" in a read-only transaction", " during recovery"];
            if let Some(end) = ends.into_iter().find(|end| !tag.is_empty() && message.ends_with(end)) {
                report.set(b'M', &format!("cannot execute {tag}{end}"));
            }
        }
        if super::relay::NEEDS_MORE.contains(&report.sqlstate().as_str())
            && let Some(text) = self.deferred.explanation()
        {
            report.append(b'D', &text);
        }
        if let Some(message) = step.null_message.as_ref().filter(|_| report.sqlstate() == "23514") {
            report.set(b'C', "23502");
            report.set(b'M', message);
        }
        // Of those before it, which were there until the clean-up. One that a later step has changed may not be known as its own any more.
        let mut stood = Vec::new();
        if n > 0 && setting.place == Place::Alone && step.cleanup.is_some() {
            for before in &run.steps[..n] {
                stood.push(match &before.done_when {
                    Some(done_when) => unless_refused(self.is_true(done_when, setting.place).await)? == Some(true),
                    None => false,
                });
            }
        }
        let mut removed_any = false;
        let mut next = step.cleanup.as_ref();
        while let Some(cleanup) = next {
            next = cleanup.also.as_deref();
            let removed = match report.sqlstate().as_str() {
                // Who cancels, or has set a limit, does not want to wait on, perhaps for the same that the step has waited for.
                "57014" if !cleanup.brief => self.clean_up_soon(cleanup, setting).await,
                _ => self.clean_up(cleanup, setting).await,
            };
            match removed {
                Ok(true) => {
                    removed_any = true;
                    report.append(b'D', &format!("lockkeeper: {}.", cleanup.told));
                }
                Ok(false) => {}
                Err(End::Broken(broken)) => return Err(broken),
                Err(End::Refused(left)) => report.append(
                    b'D',
                    &format!(
                        "lockkeeper: what the step left behind could not be removed ({}); the same statement sent again removes it first, \
                         and so does: {}",
                        left.message(),
                        cleanup.sql
                    ),
                ),
            }
        }
        if n > 0 && setting.place == Place::Alone {
            let mut lasting: Vec<&Step> = Vec::new();
            for (at, before) in run.steps[..n].iter().enumerate() {
                let was_there = removed_any && stood.get(at).copied().unwrap_or(false);
                // What was removed just now may be what an earlier step had made.
                let gone = match before.done_when.as_ref().filter(|_| was_there) {
                    Some(done_when) => unless_refused(self.is_true(done_when, setting.place).await)? == Some(false),
                    None => false,
                };
                if !gone {
                    lasting.push(before);
                }
            }
            if !lasting.is_empty() {
                let done: Vec<&str> = lasting.iter().map(|step| step.label.as_str()).collect();
                report.append(b'D', &format!("lockkeeper: committed before it: {}.", done.join("; ")));
            }
            let back: Vec<&str> = lasting
                .iter()
                .rev()
                .filter_map(|step| step.rollback.as_deref())
                .collect();
            let mut hint =
                "lockkeeper: once the cause is mended, send the same statement again: it goes on from here.".to_owned();
            if !back.is_empty() {
                hint.push_str(&format!(
                    " To go back instead (IF EXISTS where it is removed already): {}",
                    back.join("; ")
                ));
            }
            report.append(b'H', &hint);
        }
        Ok(report)
    }

    /// None: its effect was there already.
    pub(super) async fn step(
        &mut self,
        step: &Step,
        setting: StepContext<'_>,
        tries: &mut Tries,
        told: (&Entry, usize),
    ) -> Result<Option<Done>, End> {
        if let Some(done_when) = &step.done_when
            && self.is_true(done_when, setting.place).await?
        {
            return Ok(None);
        }
        let done = match &step.mode {
            Mode::Brief { then } => self.brief(step, then, setting, tries, told).await?,
            Mode::Long { then } => self.long(step, then).await?,
            Mode::Concurrent => self.concurrent(step, setting, tries).await?,
            Mode::Batches(batches) => self.batches(batches, setting, tries).await?,
            Mode::Rewrite(online) => self.rewrite(online, step, setting, tries).await?,
            // Answered by the session itself: it is never conducted.
            Mode::Rows => {
                let report = Report::error("XX000", "lockkeeper: a statement with rows cannot be a step");
                return Err(report.into());
            }
        };
        Ok(Some(done))
    }

    async fn is_true(&mut self, query: &str, place: Place) -> Result<bool, End> {
        let closing = if place == Place::Pipeline {
            Closing::Flush
        } else {
            Closing::Sync
        };
        let answers = self.relay.ask(&[Ask::new(query)], closing, Hears::Nothing).await?;
        Ok(answers.first().and_then(Answer::value) == Some("t"))
    }

    // --- brief ----------------------------------------------------------------------------------------------------

    /// A very short lock_timeout and many tries: the queue behind us drains between them.
    async fn brief(
        &mut self,
        step: &Step,
        then: &[String],
        setting: StepContext<'_>,
        tries: &mut Tries,
        (entry, n): (&Entry, usize),
    ) -> Result<Done, End> {
        let lock = &setting.policy.lock;
        let (started, paused) = (Instant::now(), self.seat.reins.paused());
        let mut clearing = Clearing::new();
        let mut patience_ms = None;
        let mut patient = true;
        let give_up_ms = match setting.place {
            Place::Alone => lock.give_up_after_ms,
            Place::Block => lock.give_up_in_transaction_ms,
            Place::Pipeline => 0,
        };
        let own = self.limits.lock.filter(|own| own.as_millis() as u64 <= give_up_ms);
        let give_up = own.unwrap_or(Duration::from_millis(give_up_ms));
        loop {
            if let Some(report) = self.limits.exceeded() {
                return Err(report.into());
            }
            tries.count += 1;
            self.seat.change(|plan| plan.lock_tries = tries.count);
            let waited = started.elapsed() - (self.seat.reins.paused() - paused).min(started.elapsed());
            let left = match own {
                Some(own) => own.saturating_sub(waited).max(Duration::from_millis(1)),
                None => Duration::MAX,
            };
            let timeout_ms = clearing.chances.next_timeout_ms(Instant::now(), lock);
            tries.timeout_longest_ms = clearing.chances.timeout_longest_ms;
            let times = (timeout_ms, patience_ms, left);
            let report = match self.try_brief(step, then, setting, times).await {
                Err(End::Refused(report)) => report,
                done => return done,
            };
            // Patience asks for more rights than some statements do (LOCK TABLE): then it goes on without.
            let impatient = patience_ms.is_some() && report.get(b'C') == Some(b"42501");
            if !is_lock_trouble(&report) && !impatient {
                return Err(report.into());
            }
            // As long as somebody has paused the plan, it waits for nobody's lock.
            tries.waited = started.elapsed() - (self.seat.reins.paused() - paused).min(started.elapsed());
            if tries.waited >= give_up || setting.holds_for(step) {
                // In a block the transaction has failed, and no catalog can be asked: those of the try before are told.
                if setting.place == Place::Alone {
                    self.look_for_blockers(step, tries, (entry, n)).await?;
                }
                tries.doing = clearing.doing();
                return Err(gave_up(step, report, tries, setting, own).into());
            }
            if setting.place == Place::Block {
                self.back_to_savepoint().await?;
            }
            let until = Instant::now() + give_up.saturating_sub(tries.waited);
            let told = (&mut *tries, &mut clearing);
            self.clear_the_way(step, setting, told, (entry, n), until).await?;
            patient &= !impatient;
            patience_ms = match patient {
                true => self.autovacuum_patience_ms(&step.relation).await?,
                false => None,
            };
        }
    }

    /// Autovacuum gives way only to one who has waited for deadlock_timeout (manual section 25.1.6), which no short try
    /// does. Some: it holds the relation, and so long a wait for a lock that stops neither readers nor writers ends it.
    async fn autovacuum_patience_ms(&mut self, relation: &str) -> Result<Option<u64>, Broken> {
        let sql = format!(
            "SELECT s.setting::int + 500 FROM pg_catalog.pg_settings s JOIN pg_catalog.pg_class c \
             ON c.oid = {NAMED} AND c.relkind IN ('r', 'p') \
             WHERE s.name = 'deadlock_timeout' AND EXISTS (SELECT FROM pg_catalog.pg_locks l \
             JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid AND a.usesysid IS NULL \
             WHERE l.locktype = 'relation' AND l.relation = c.oid AND l.granted AND l.mode = 'ShareUpdateExclusiveLock' \
             AND a.datname = pg_catalog.current_database())"
        );
        let asked = [Ask::about(sql, relation)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        Ok(answers.and_then(|answers| answers.first()?.value()?.parse().ok()))
    }

    async fn try_brief(
        &mut self,
        step: &Step,
        then: &[String],
        setting: StepContext<'_>,
        (timeout_ms, patience_ms, left): (u64, Option<u64>, Duration),
    ) -> Result<Done, End> {
        let timeout_ms = left.as_millis().min(u128::from(timeout_ms));
        let timeout = format!("{timeout_ms}ms");
        let patience_ms = patience_ms.filter(|patience| u128::from(*patience) < left.as_millis());
        let then = then.iter().map(|sql| Ask::step(sql));
        let mut asks = Vec::with_capacity(7 + then.len());
        let (closing, savepoint) = match setting.place {
            Place::Alone => (Closing::Sync, false),
            Place::Block => (Closing::Sync, !setting.holds_for(step)),
            Place::Pipeline => (Closing::Flush, false),
        };
        // The client's own value comes back with the end of the transaction, or here where the transaction is the client's.
        let restore = setting.place != Place::Alone;
        if savepoint {
            asks.push(Ask::as_client(format!("SAVEPOINT {}", self.relay.reserved)));
        }
        if restore && patience_ms.is_some() {
            asks.push(Ask::stash("lock_timeout"));
        }
        // LOCK TABLE needs a transaction block.
        let own_block = patience_ms.is_some() && setting.place == Place::Alone;
        if own_block {
            asks.push(Ask::as_client("BEGIN"));
        }
        if let Some(patience_ms) = patience_ms {
            asks.push(Ask::set_local("lock_timeout", &format!("{patience_ms}ms")));
            asks.push(Ask::as_client(format!(
                "LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE",
                step.relation
            )));
        }
        asks.push(match restore && patience_ms.is_none() {
            true => Ask::stash_and_set("lock_timeout", &timeout),
            false => Ask::set_local("lock_timeout", &timeout),
        });
        asks.extend(step.guard.as_deref().map(Ask::guard));
        let at = asks.len();
        asks.push(Ask::step(&step.sql));
        asks.extend(then);
        if restore {
            asks.push(Ask::restore("lock_timeout"));
        }
        if savepoint {
            asks.push(Ask::as_client(format!("RELEASE SAVEPOINT {}", self.relay.reserved)));
        }
        if own_block {
            asks.push(Ask::as_client("COMMIT"));
        }
        let answers = self.relay.ask(&asks, closing, Hears::Notices).await;
        if own_block && matches!(answers, Err(End::Refused(_))) {
            // Should the ROLLBACK fail too, the next statement tells.
            let back = [Ask::as_client("ROLLBACK")];
            unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
        }
        Ok(Done {
            tag: Some(answers?.swap_remove(at).tag),
        })
    }

    // --- long and concurrent --------------------------------------------------------------------------------------

    /// Its lock lets readers and writers through, so that it may take its time.
    async fn long(&mut self, step: &Step, then: &[String]) -> Result<Done, End> {
        let mut asks = vec![
            Ask::set_local("statement_timeout", &self.limits.left_ms().to_string()),
            Ask::set_local("lock_timeout", &self.limits.lock_ms().to_string()),
            Ask::step(&step.sql),
        ];
        asks.extend(then.iter().map(|sql| Ask::step(sql)));
        let waits = self.waits();
        let hears = self.progress(&step.label, &waits);
        let mut answers = self.relay.ask(&asks, Closing::Sync, hears).await?;
        Ok(Done {
            tag: Some(answers.swap_remove(2).tag),
        })
    }

    fn progress<'a>(&self, what: &'a str, waits: &'a Waits) -> Hears<'a> {
        Hears::Progress {
            what,
            waits: Some(waits),
            every: Duration::from_millis(self.shared.policy().backfill.notice_ms),
        }
    }

    async fn concurrent(&mut self, step: &Step, setting: StepContext<'_>, tries: &mut Tries) -> Result<Done, End> {
        let waits = self.waits();
        self.left_behind(step, setting).await?;
        loop {
            if let Some(report) = self.limits.exceeded() {
                return Err(report.into());
            }
            tries.count += 1;
            let limit_ms = self.limits.left_ms();
            let report = match self
                .without_timeouts(&step.sql, limit_ms, self.progress(&step.label, &waits))
                .await
            {
                Ok(answer) => match self.left_behind(step, setting).await? {
                    // IF NOT EXISTS has met what another session's build has left meanwhile.
                    true if tries.count < setting.policy.lock.concurrent_tries => continue,
                    _ => return Ok(Done { tag: Some(answer.tag) }),
                },
                Err(End::Refused(report)) => report,
                Err(broken) => return Err(broken),
            };
            if !is_lock_trouble(&report) || tries.count >= setting.policy.lock.concurrent_tries {
                return Err(report.into());
            }
            self.relay
                .notice(&format!(
                    "{}: try {} failed ({}), trying again",
                    step.label,
                    tries.count,
                    report.message()
                ))
                .await?;
            if let Some(cleanup) = step.cleanup.as_ref().filter(|c| !c.brief) {
                self.clean_up(cleanup, setting).await?;
            }
            // What it has built until then was no wait for a lock.
            let paused = Duration::from_millis(setting.policy.lock.pause_ms);
            tries.waited += paused;
            self.pause(paused, Place::Alone).await?;
        }
    }

    /// True: an unfinished build had left something, which is removed and told.
    async fn left_behind(&mut self, step: &Step, setting: StepContext<'_>) -> Result<bool, End> {
        let Some(cleanup) = step.cleanup.as_ref().filter(|c| !c.brief) else {
            return Ok(false);
        };
        let removed = self.clean_up(cleanup, setting).await?;
        if removed {
            self.relay.notice(&cleanup.told).await?;
        }
        Ok(removed)
    }

    /// lock_timeout would cover every internal wait of a concurrent build and leave an INVALID index behind; such a
    /// statement runs in no transaction block, so the timeouts are set on the session and put back as they were.
    /// `limit_ms` is what is left of the time that the client allows the whole; 0: no end.
    async fn without_timeouts(&mut self, sql: &str, limit_ms: u128, hears: Hears<'_>) -> Result<Answer, End> {
        let its_path = if sql.starts_with(PRINTED) {
            ", 'search_path'"
        } else {
            ""
        };
        let query = format!(
            "SELECT name, setting, source OPERATOR(pg_catalog.=) 'session'::pg_catalog.text FROM pg_catalog.pg_settings \
             WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY['lock_timeout', 'statement_timeout', 'transaction_timeout'{its_path}]::pg_catalog.text[]) \
             AND setting OPERATOR(pg_catalog.<>) '0'::pg_catalog.text"
        );
        let asked = [Ask::as_client(query)];
        let mut answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
        let before = answers.swap_remove(0).rows;
        let mut set = Vec::new();
        let mut put_back = Vec::new();
        for row in &before {
            let [Some(name), Some(value), session] = row.as_slice() else {
                continue;
            };
            set.push(match name.as_str() {
                "statement_timeout" => Ask::set_session(name, &limit_ms.to_string()),
                "search_path" => Ask::set_session(name, path::OURS),
                _ => Ask::set_session(name, "0"),
            });
            put_back.push(if session.as_deref() == Some("t") {
                Ask::set_session(name, value)
            } else {
                Ask::as_client(format!("RESET {name}"))
            });
        }
        if !set.is_empty() {
            self.relay.ask(&set, Closing::Sync, Hears::Nothing).await?;
        }
        let answer = self.relay.ask(&[Ask::as_client(sql)], Closing::Sync, hears).await;
        if let Err(End::Broken(broken)) = answer {
            return Err(broken.into());
        }
        let names: Vec<&str> = before.iter().filter_map(|row| row.first()?.as_deref()).collect();
        if !put_back.is_empty() {
            match self.relay.ask(&put_back, Closing::Sync, Hears::Nothing).await {
                Ok(_) => {}
                Err(End::Refused(report)) => {
                    self.relay
                        .notice(&format!(
                            "what was set for the time of the build could not be put back ({}): {}",
                            names.join(", "),
                            report.message()
                        ))
                        .await?;
                }
                Err(broken) => return Err(broken),
            }
        }
        Ok(answer?.swap_remove(0))
    }

    /// True: something was there and is removed.
    async fn clean_up(&mut self, cleanup: &Cleanup, setting: StepContext<'_>) -> Result<bool, End> {
        if setting.place != Place::Alone {
            return Ok(false);
        }
        if !self.is_true(&cleanup.when, setting.place).await? {
            return Ok(false);
        }
        if !cleanup.brief {
            self.without_timeouts(&cleanup.sql, 0, Hears::Nothing).await?;
            return Ok(true);
        }
        let lock = &setting.policy.lock;
        let started = Instant::now();
        loop {
            let asks = [
                Ask::set_local("lock_timeout", &format!("{}ms", lock.timeout_ms)),
                Ask::as_client(&cleanup.sql),
            ];
            match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
                Ok(_) => return Ok(true),
                Err(End::Refused(report))
                    if is_lock_trouble(&report) && started.elapsed().as_millis() as u64 <= lock.give_up_after_ms =>
                {
                    // A cancel has been heard already: the removal is finished all the same.
                    tokio::time::sleep(Duration::from_millis(lock.pause_ms)).await;
                }
                Err(end) => return Err(end),
            }
        }
    }

    /// The same without waiting for anybody: a plain DROP INDEX in a few short tries, for which an old snapshot is no obstacle.
    async fn clean_up_soon(&mut self, cleanup: &Cleanup, setting: StepContext<'_>) -> Result<bool, End> {
        if setting.place != Place::Alone {
            return Ok(false);
        }
        if !self.is_true(&cleanup.when, setting.place).await? {
            return Ok(false);
        }
        let lock = &setting.policy.lock;
        let mut tries = 0;
        loop {
            tries += 1;
            let asks = [
                Ask::set_local("lock_timeout", &format!("{}ms", lock.timeout_ms)),
                Ask::set_local("statement_timeout", "0"),
                Ask::as_client(cleanup.sql.replacen(" CONCURRENTLY", "", 1)),
            ];
            match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
                Ok(_) => return Ok(true),
                Err(End::Refused(report)) if is_lock_trouble(&report) && tries < CLEANUP_TRIES => {
                    tokio::time::sleep(Duration::from_millis(lock.pause_ms)).await;
                }
                Err(end) => return Err(end),
            }
        }
    }

    // --- what the client itself allows --------------------------------------------------------------------------------

    /// The lock_timeout and statement_timeout that the client has set, or its role or database for it: they bound the whole of what is
    /// done in its name, as they bound its statement on the server. What stands in the server's configuration is everybody's.
    pub(super) async fn ask_limits(&mut self, begun: Instant, closing: Closing) -> Result<(), End> {
        let query = "SELECT s.name, s.setting FROM pg_catalog.pg_settings s WHERE s.name IN ('lock_timeout', 'statement_timeout') \
             AND s.setting <> '0' AND s.source NOT IN ('default', 'configuration file', 'command line', 'environment variable')";
        let answers = self.relay.ask(&[Ask::new(query)], closing, Hears::Nothing).await?;
        self.limits = Limits::default();
        for row in answers.into_iter().flat_map(|answer| answer.rows) {
            let [Some(name), Some(value)] = row.as_slice() else {
                continue;
            };
            let time = Duration::from_millis(value.parse().unwrap_or_default());
            match name.as_str() {
                "lock_timeout" => self.limits.lock = Some(time),
                _ => self.limits.until = Some(begun + time),
            }
        }
        Ok(())
    }
}

/// What a step gave.
pub(super) struct Done {
    /// The server's command tag, or a batch run's with its true total.
    pub tag: Option<String>,
}
