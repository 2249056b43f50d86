//! Carries out a large UPDATE or DELETE in batches, each a transaction of its own that moves the job's row with the rows.
//!
//! Start at [`Session::batches`]. What is planned is [`crate::plan::batches`]'s; where the work stands is in `lockkeeper.job`
//! ([`super::jobs`]), so that nothing here is lost with the process. When to wait is [`super::throttle`]'s.

use super::batch_progress::{BatchProgress, Limits, settings};
use super::conduct::Done;
use super::dialogue::{Answer, Ask, Closing, Deliver, Hears};
use super::end::{Broken, End, unless_refused};
use super::jobs::Begun;
use super::last_words;
use super::pace::Took;
use super::parameters::Parameters;
use super::session::Session;
use super::startup::pass_cancel;
use super::step_context::StepContext;
use super::throttle::Throttle;
use super::time_limits::{cancelled, is_lock_trouble};
use super::tries::Tries;
use crate::plan::batches::lasting::Lasting;
use crate::plan::batches::{Batches, COLLECTED_MAX, KEY_MOVED, Key, Move, ROWS_LEFT, Range, watch};
use crate::plan::splice::quote_ident;
use crate::plan::{Place, deferred, jobs};
use lockkeeper_wire::messages::{self as wire, Report};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A row that a batch waits for holds up the rows of that batch, but queues nobody behind a table lock: so it is given more
/// time than a table lock.
const ROW_LOCK_FACTOR: u64 = 10;
/// In milliseconds; 0: none.
const STATEMENT_TIMEOUT: &str = "SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'statement_timeout'";

/// How long a batch that was cancelled leaves its job's row to whoever has cancelled it.
const STEERED_WITHIN: Duration = Duration::from_millis(500);

/// How often rows that others have moved are looked for.
const LOOKS_MAX: usize = 100;

/// So often by the places that a look has found; then, if they are few, by one statement that follows them.
const LOOKS_BY_PLACE: usize = 3;

/// One boolean: whether somebody waits for a row that this transaction has changed.
const OTHERS_WAIT: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'transactionid' AND NOT l.granted \
     AND l.transactionid = pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid)";

/// What came of one try.
enum Tried {
    /// Whether others waited for its rows at its end.
    Done {
        others_waited: bool,
        planning: Duration,
    },
    /// It was cancelled, and nothing of it is left.
    TooLong {
        others_waited: bool,
    },
    Failed(Report),
    /// Nothing was done, by a statement that the server was to keep: it is to be sent as a whole.
    NotKept,
}

/// What goes on from batch to batch besides the work.
struct Pacing {
    throttle: Throttle,
    /// When the client heard of it last.
    told: Instant,
}

impl Pacing {
    fn new() -> Pacing {
        Pacing {
            throttle: Throttle::default(),
            told: Instant::now(),
        }
    }
}

impl Session {
    pub(super) async fn batches(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        tries: &mut Tries,
    ) -> Result<Done, End> {
        if batches.returns && setting.parameters.rows_max != 0 {
            let report = Report::error(
                "0A000",
                "lockkeeper: the rows of RETURNING are delivered all at once, batch by batch; fetch them without a row limit",
            );
            return Err(report
                .hint("Leave out the fetch size (JDBC: setFetchSize(0)), or use LIMIT in the statement.")
                .into());
        }
        let tag = |rows: u64| {
            Ok(Done {
                tag: Some(format!("{} {rows}", batches.verb)),
            })
        };
        for note in &batches.notes {
            self.relay.notice(note).await?;
        }
        let begun = self.begin_job(batches, setting).await;
        let begun = begun.map_err(|end| end.reworded(|report| first_steps(report, batches)))?;
        let mut course = match begun {
            Begun::At(course) => *course,
            Begun::NothingThere => {
                if batches.returns && !setting.parameters.extended {
                    return Err(Report::error(
                        "55000",
                        &format!(
                            "lockkeeper: {} has become empty, send the statement again",
                            batches.relation
                        ),
                    )
                    .into());
                }
                return tag(0);
            }
        };
        tries.rows = Some(course.rows);
        self.seat.change(|plan| {
            plan.rows = Some(course.rows);
            plan.done = course.done(batches);
        });
        self.relay.stands.push(last_words::of_batches(batches, course.job));
        let walked = self.walk(batches, setting, &mut course, tries).await;
        self.relay.stands.pop();
        let kept: Vec<String> = [course.ends.kept.take(), course.changes.kept.take()]
            .into_iter()
            .flatten()
            .collect();
        if !kept.is_empty() && !matches!(walked, Err(End::Broken(_))) {
            self.relay.forget(&kept).await?;
        }
        let mut ended = match walked {
            Ok(()) => {
                self.relay.notice(&course.done_text(batches)).await?;
                self.unanswered.extend(course.job);
                return tag(course.rows);
            }
            Err(End::Refused(report)) => report,
            Err(End::Broken(broken)) => {
                if let (Some(job), Broken::Client(_)) = (course.job, &broken) {
                    // The server is still there, and whoever looks at the job shall see why it stopped.
                    let stop = jobs::stop(job, "paused", "the client went away").into();
                    let asks: Vec<Ask> = [stop].into_iter().chain(self.unlock_job(job)).collect();
                    let _ = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await;
                }
                return Err(broken.into());
            }
        };
        if let Some(job) = course.job {
            let state = match ended.sqlstate().as_str() {
                "57014" | "57P01" | "55P03" | "40P01" | "40001" => "paused",
                // Nothing is begun.
                _ if course.unfit && course.batches == 0 => "cancelled",
                _ => "failed",
            };
            if ended.sqlstate() == "57014"
                && !self.cancel.take()
                && let Some(state) = self.steered(job).await?
            {
                ended = taken_away(job, &state);
            }
            let stop = jobs::stop(job, state, &ended.message()).into();
            let asks: Vec<Ask> = [stop].into_iter().chain(self.unlock_job(job)).collect();
            let mut written = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await;
            if matches!(&written, Err(End::Refused(report)) if report.sqlstate() == "57014") {
                // A cancel that came late for the batch was meant for nothing that is done now.
                written = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await;
            }
            match written {
                Ok(_) => {}
                Err(End::Refused(report)) => tracing::warn!(
                    session = self.who.session,
                    job,
                    error = report.message(),
                    "a job's end was not written"
                ),
                Err(broken) => return Err(broken),
            }
        }
        Err(interrupted(ended, batches, &course).into())
    }

    /// A batch was cancelled: by whoever steers the job, who is about to write so into its row? What he has written.
    async fn steered(&mut self, job: i64) -> Result<Option<String>, Broken> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        while begun.elapsed() < STEERED_WITHIN {
            let asked = [jobs::state(job).into()];
            let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
            let state = answers.and_then(|answers| Some(answers.first()?.value()?.to_owned()));
            match state.as_deref() {
                Some("running") => tokio::time::sleep(LOOK_EVERY).await,
                Some("paused" | "cancelled") => return Ok(state),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// From where the work stands to the last key.
    async fn walk(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
        tries: &mut Tries,
    ) -> Result<(), End> {
        let ms = self.value(STATEMENT_TIMEOUT).await?;
        course.statement_timeout = Duration::from_millis(ms.and_then(|ms| ms.parse().ok()).unwrap_or_default());
        if batches.collects {
            self.collect(batches, setting, course).await?;
        }
        course.pace.passed(Instant::now(), course.keys);
        let mut pacing = Pacing::new();
        while course.last.as_ref() != Some(&course.upper) {
            self.paced_batch(batches, setting, course, tries, &mut pacing).await?;
        }
        match batches.by_place() {
            true => self.settle(batches, setting, course, tries, &mut pacing).await,
            false => Ok(()),
        }
    }

    /// One batch, and what comes between it and the next.
    async fn paced_batch(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
        tries: &mut Tries,
        pacing: &mut Pacing,
    ) -> Result<(), End> {
        let policy = &setting.policy.backfill;
        self.wait_while_throttled(policy, &mut pacing.throttle, course.job)
            .await?;
        course.sees_waiters = pacing.throttle.sees();
        let rows_before = course.rows;
        let took = self.batch(batches, setting, course, tries).await?;
        tries.rows = Some(course.rows);
        self.shared.live.ledger().batch(course.rows - rows_before);
        course.pace.passed(Instant::now(), course.keys);
        self.tell_seat(batches, course);
        if course.last.as_ref() == Some(&course.upper) && !batches.by_place() {
            // A cancel that came now came too late.
            return Ok(());
        }
        if self.cancel.take() {
            return Err(cancelled().into());
        }
        course.pace.adapt(took, policy);
        if pacing.told.elapsed().as_millis() as u64 >= policy.notice_ms {
            pacing.told = Instant::now();
            self.relay.notice(&course.progress_text(batches)).await?;
        }
        // Where nothing was changed there is nothing for others to keep up with.
        let pause = match course.rows == rows_before {
            true => Duration::ZERO,
            false => course.pace.pause(took, policy),
        };
        self.pause(pause, Place::Alone).await
    }

    /// By place, behind the walk: rows that others have moved meanwhile are looked for and changed, until every row that one
    /// snapshot has found was reached as it was found.
    async fn settle(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
        tries: &mut Tries,
        pacing: &mut Pacing,
    ) -> Result<(), End> {
        for look in 0..LOOKS_MAX {
            let found = self.left_over(batches, setting, course).await?;
            let whole = found.len() <= COLLECTED_MAX;
            let due = course.rows + found.len() as u64;
            course.anywhere = look >= LOOKS_BY_PLACE && found.len() as u64 <= course.pace.size;
            course.listed = Some(found);
            while course.listed.as_ref().is_some_and(|left| !left.is_empty()) {
                self.paced_batch(batches, setting, course, tries, pacing).await?;
            }
            // What goes anywhere goes by a snapshot of its own.
            if whole && (course.anywhere || course.rows == due) {
                if let Some(job) = course.job {
                    let asked = [deferred::finish(job, "done").into()];
                    self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
                }
                return Ok(());
            }
        }
        let message = format!(
            "lockkeeper: other sessions go on changing the rows of {} that this {} means: in {LOOKS_MAX} looks some were never reached",
            batches.relation, batches.verb
        );
        // object_in_use
        Err(Report::error("55006", &message).into())
    }

    /// What one snapshot finds.
    async fn left_over(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &BatchProgress,
    ) -> Result<VecDeque<Key>, End> {
        let own = course
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let set: Vec<(&str, String)> = own.chain([("jit", "off".to_string())]).collect();
        let asks = [Ask::set_local_all(&set), setting.parameters.ask(batches.left_sql())];
        let (answers, _) = self.ask_watched(&asks, Duration::MAX).await;
        let rows = answers?.pop().unwrap_or_default().rows;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().collect()).collect())
    }

    /// What others see of it.
    fn tell_seat(&self, batches: &Batches, course: &BatchProgress) {
        self.seat.change(|plan| {
            plan.rows = Some(course.rows);
            (plan.done, plan.left_s) = (course.done(batches), course.left_s(batches));
        });
    }

    /// One batch in a transaction of its own, again and again while others hold its rows or it takes too long: then a smaller
    /// one; and where others hold them, its rows are taken before the first is changed. Tells of the one that worked.
    async fn batch(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
        tries: &mut Tries,
    ) -> Result<Took, End> {
        let (lock, policy) = (&setting.policy.lock, &setting.policy.backfill);
        let mut contended: Option<Instant> = None;
        let mut told = Instant::now();
        loop {
            let Some(range) = self.next_range(batches, course).await? else {
                continue;
            };
            course.end = Some(range.end.clone());
            tries.count += 1;
            let begun = Instant::now();
            let tried = self
                .try_batch(batches, setting, course, &range, contended.is_some())
                .await?;
            let due = told.elapsed().as_millis() as u64 >= policy.notice_ms;
            let what = match tried {
                Tried::Done {
                    others_waited,
                    planning,
                } => {
                    return Ok(Took {
                        time: begun.elapsed(),
                        planning,
                        others_waited,
                    });
                }
                Tried::NotKept => continue,
                Tried::TooLong { others_waited } => {
                    if self.cancel.take() {
                        return Err(cancelled().into());
                    }
                    course.anywhere = false;
                    if !course.pace.too_long(range.keys, others_waited, policy) {
                        return Err(too_slow(batches, begun.elapsed()).into());
                    }
                    self.tell_seat(batches, course);
                    format!("{} keys take too long", range.keys)
                }
                Tried::Failed(report) => {
                    let since = *contended.get_or_insert(begun);
                    if !is_lock_trouble(&report) || since.elapsed().as_millis() as u64 >= lock.give_up_after_ms {
                        return Err(report.into());
                    }
                    tries.waited += begun.elapsed();
                    course.pace.contended(policy);
                    "waiting for rows".to_owned()
                }
            };
            if due {
                told = Instant::now();
                let held = self.waits().told("; held by ", "; who holds them");
                let Batches { verb, relation, .. } = batches;
                let end = range.end.join(", ");
                let text = format!("{verb} {relation}: {what}, up to ({end}), try {}{held}", tries.count);
                self.relay.notice(&text).await?;
            }
            self.pause(Duration::from_millis(lock.pause_ms), Place::Alone).await?;
        }
    }

    /// Looks for the keys that are meant, if these are few and found soon: then the rest of the table is never read.
    async fn collect(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
    ) -> Result<(), End> {
        const TIME_MAX: Duration = Duration::from_secs(5);
        let own = Some(course.statement_timeout).filter(|own| !own.is_zero());
        let timeout = own.map_or(TIME_MAX, |own| own.min(TIME_MAX));
        let mut set: Vec<(&str, String)> = course
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        set.extend([
            ("jit", "off".to_string()),
            ("extra_float_digits", "1".into()),
            ("statement_timeout", format!("{}ms", timeout.as_millis())),
        ]);
        let ask = setting
            .parameters
            .ask(batches.collect_sql(course.last.as_ref(), &course.upper));
        let asks = [Ask::set_local_all(&set), ask];
        let rows = match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Ok(mut answers) => answers.pop().unwrap_or_default().rows,
            // Then the table is walked from end to end.
            Err(End::Refused(report)) if !self.cancel.take() && report.sqlstate() == "57014" => return Ok(()),
            Err(end) => return Err(end),
        };
        if rows.len() > COLLECTED_MAX {
            return Ok(());
        }
        let keys: Option<VecDeque<Key>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
        let Some(keys) = keys else { return Ok(()) };
        if let Some(report) = keys.iter().find_map(|key| self.garbled(key, batches)) {
            return Err(report.into());
        }
        course.keys_all = Some((course.keys + keys.len() as u64) as f64);
        course.listed = Some(keys);
        Ok(())
    }

    /// Where the next batch ends, read without a lock. None: it is to be asked again.
    async fn next_range(&mut self, batches: &Batches, course: &mut BatchProgress) -> Result<Option<Range>, End> {
        if let Some(listed) = &course.listed {
            if course.anywhere {
                return Ok(Some(Range {
                    after: None,
                    end: course.upper.clone(),
                    keys: listed.len() as u64,
                    only: None,
                    anywhere: true,
                }));
            }
            let only: Vec<Key> = listed.iter().take(course.pace.size as usize).cloned().collect();
            let end = match only.last() {
                Some(last) if only.len() < listed.len() && !batches.by_place() => last.clone(),
                _ => course.upper.clone(),
            };
            return Ok(Some(Range {
                after: course.last.clone(),
                end,
                keys: only.len() as u64,
                only: Some(only),
                anywhere: false,
            }));
        }
        let (after, keys) = (course.last.as_ref(), course.pace.size);
        let lasting = batches.lasting_end(after, &course.upper, keys);
        let lasting = lasting.filter(|_| course.ends.is_once());
        let once = lasting
            .as_ref()
            .and_then(|lasting| lasting_ask(lasting, &Default::default()));
        course.ends.kept = once
            .as_ref()
            .and_then(|ask| ask.lasting.clone())
            .or(course.ends.kept.take());
        let is_once = once.is_some();
        let ask = once.unwrap_or_else(|| Ask::as_client(batches.end_sql(after, &course.upper, keys)));
        let ask = Ask { is_timed: true, ..ask };
        let asks = [settings(batches, course, None), ask];
        let mut answers = match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Err(End::Refused(report)) if is_once && is_not_kept(&report) => {
                course.ends.give_up();
                return Ok(None);
            }
            answers => answers?,
        };
        let planning = planning_of(&answers, 1);
        course.pace.planned(planning);
        let work = answers.last().map_or(Duration::ZERO, Answer::running);
        course.ends.took(is_once, planning, work, keys);
        let row = answers.pop().and_then(|answer| answer.rows.into_iter().next());
        let end: Option<Key> = row.and_then(|row| row.into_iter().collect());
        if let Some(report) = end.as_ref().and_then(|key| self.garbled(key, batches)) {
            return Err(report.into());
        }
        Ok(Some(Range {
            after: course.last.clone(),
            keys: course.pace.size,
            end: end.unwrap_or_else(|| course.upper.clone()),
            only: None,
            anywhere: false,
        }))
    }

    async fn try_batch(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        course: &mut BatchProgress,
        range: &Range,
        lock_first: bool,
    ) -> Result<Tried, Broken> {
        let policy = setting.policy;
        let is_last = range.end == course.upper && !batches.by_place();
        let job = course.job.map(|job| Move {
            job,
            batches: course.batches,
            is_last,
        });
        let deadline = course.pace.deadline(&policy.backfill);
        // A row that others hold is to be known as such.
        let lock_timeout = Duration::from_millis(policy.lock.timeout_ms * ROW_LOCK_FACTOR).min(deadline / 2);
        let limits = Limits {
            lock_timeout,
            statement_timeout: match course.statement_timeout {
                Duration::ZERO => deadline,
                own => own.min(deadline),
            },
        };
        let mut asks = vec![settings(batches, course, Some(limits))];
        asks.extend(course.job.map(|job| Ask::from(jobs::hold(job))));
        asks.extend(batches.watch.ahead_sql().map(Ask::new));
        let at = asks.len();
        let once = match course.changes.is_once() && !lock_first {
            true => lasting_batch(batches, range, job, setting.parameters),
            false => None,
        };
        course.changes.kept = once
            .as_ref()
            .and_then(|ask| ask.lasting.clone())
            .or(course.changes.kept.take());
        let is_once = once.is_some();
        let mut ask = once.unwrap_or_else(|| setting.parameters.ask(batches.batch_sql(range, job, lock_first)));
        ask.is_timed = true;
        if batches.returns {
            ask.delivers = Some(Deliver {
                cut: batches.extra_columns(),
                formats: wire::with_more_columns(&setting.parameters.results, batches.extra_columns()),
                described: !setting.parameters.extended && !course.described,
            });
        }
        asks.push(ask);
        if let Some(question) = batches.watch.sql() {
            asks.extend(watch::FIRE.map(Ask::as_client));
            asks.push(Ask::new(question));
        }
        // The job's row is moved under row-level security whatever the client has set. With `off` the server would refuse to leave
        // rows out for it: that it did not is asked of it before the batch is committed.
        let probe = course.job.map(|_| {
            let (schema, table) = &batches.names;
            let table = format!("{}.{}", quote_ident(schema), quote_ident(table));
            [
                Ask::as_client(jobs::UNGUARD),
                // Of no partition.
                Ask::as_client(format!("SELECT FROM {table} WHERE false")),
            ]
        });
        asks.extend(probe.into_iter().flatten());
        if course.sees_waiters {
            asks.push(Ask::new(OTHERS_WAIT));
        }
        let begun = Instant::now();
        let others_wait_max = course.pace.others_wait_max(&policy.backfill);
        let (answers, stopped) = self.ask_watched(&asks, others_wait_max).await;
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(End::Broken(broken)) => return Err(broken),
            Err(End::Refused(report)) if is_once && is_not_kept(&report) => {
                course.changes.give_up();
                return Ok(Tried::NotKept);
            }
            Err(End::Refused(report)) if report.sqlstate() != "57014" => {
                let unfit = unfit(batches, course, &report);
                course.unfit = unfit.is_some();
                return Ok(Tried::Failed(unfit.unwrap_or(report)));
            }
            Err(_) if stopped => return Ok(Tried::TooLong { others_waited: true }),
            Err(_) if begun.elapsed() >= deadline && limits.statement_timeout == deadline => {
                return Ok(Tried::TooLong { others_waited: false });
            }
            Err(End::Refused(report)) => return Ok(Tried::Failed(report)),
        };
        let others_waited = course.sees_waiters && answers.last().is_some_and(|answer| answer.value() == Some("t"));
        let planning = planning_of(&answers, at);
        let work = answers.get(at).map_or(Duration::ZERO, Answer::running);
        course.changes.took(is_once, planning, work, range.keys);
        let answer = answers.get_mut(at).map(std::mem::take).unwrap_or_default();
        if let Some(job) = course.job {
            let columns = answers.get(1).and_then(|held| held.rows.first()).map(Vec::as_slice);
            match columns {
                Some([Some(state), Some(at)]) if state == "running" && *at == course.batches.to_string() => {}
                Some([Some(state), _]) => return Ok(Tried::Failed(taken_away(job, state))),
                _ => return Ok(Tried::Failed(taken_away(job, "gone"))),
            }
        }
        let changed = match batches.returns {
            true => Some(answer.delivered),
            false => answer.value().and_then(|n| n.parse().ok()),
        };
        let Some(changed) = changed else {
            return Ok(Tried::Failed(Report::error(
                "XX000",
                "lockkeeper: a batch answered without its count",
            )));
        };
        course.rows += changed;
        course.batches += 1;
        course.keys += range.keys;
        course.last = Some(range.end.clone());
        if let Some(listed) = &mut course.listed {
            listed.drain(..(range.keys as usize).min(listed.len()));
        }
        if !answer.frames.is_empty() {
            course.described = true;
            self.relay.tell(&answer.frames).await?;
        }
        Ok(Tried::Done {
            others_waited,
            planning,
        })
    }

    /// Asks, and meanwhile looks for a client that goes away and, where there is a control connection, for others who wait for
    /// what this transaction holds: then the server is told to cancel it. True: for the others.
    async fn ask_watched(&mut self, asks: &[Ask], others_wait_max: Duration) -> (Result<Vec<Answer>, End>, bool) {
        /// As often as the control connection looks.
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let shared = Arc::clone(&self.shared);
        let seat = self.seat.shared();
        let left = Arc::clone(&self.relay.left);
        let server = self.server;
        let packet = wire::cancel_request(&self.relay.cancel_key);
        let (mut stopped, mut gone) = (false, self.relay.client_gone());
        let answers = {
            let asked = self.relay.ask(asks, Closing::Sync, Hears::Notices);
            tokio::pin!(asked);
            loop {
                tokio::select! {
                    answers = &mut asked => break answers,
                    () = left.notified(), if !gone => {
                        gone = true;
                        pass_cancel(&packet, &shared, server).await;
                    }
                    () = tokio::time::sleep(LOOK_EVERY), if !stopped && !gone => {
                        if seat.stalls_ms() >= others_wait_max.as_secs_f64() * 1e3 {
                            stopped = true;
                            pass_cancel(&packet, &shared, server).await;
                        }
                    }
                }
            }
        };
        if gone && matches!(answers, Err(End::Refused(_))) {
            let broken = Broken::Client(io::ErrorKind::UnexpectedEof.into());
            return (Err(broken.into()), stopped);
        }
        if stopped && answers.is_ok() {
            // The signal may come late, and is not meant for the next statement.
            let asked = [Ask::as_client("SELECT")];
            if let Err(broken) = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await) {
                return (Err(broken.into()), stopped);
            }
        }
        (answers, stopped)
    }
}

/// The batch as a statement that the server keeps, if it has such a form.
fn lasting_batch(batches: &Batches, range: &Range, job: Option<Move>, parameters: &Parameters) -> Option<Ask> {
    let clients = wire::parameter_count(&parameters.values)?;
    lasting_ask(&batches.lasting_batch(range, job, clients)?, parameters)
}

/// None: it would have too many parameters.
fn lasting_ask(lasting: &Lasting, parameters: &Parameters) -> Option<Ask> {
    let mut hash = std::hash::DefaultHasher::new();
    lasting.sql.hash(&mut hash);
    let ask = parameters.ask(lasting.sql.clone());
    Some(Ask {
        lasting: Some(format!("walk_{:016x}", hash.finish())),
        parameters: wire::with_more_parameters(&ask.parameters, &lasting.values)?.into(),
        ..ask
    })
}

/// A statement that was kept is gone (invalid_sql_statement_name), or another is in its place: [`path::guard`] divides by zero.
fn is_not_kept(report: &Report) -> bool {
    matches!(report.sqlstate().as_str(), "26000" | "22012")
}

fn planning_of(answers: &[Answer], at: usize) -> Duration {
    let both = at
        .checked_sub(1)
        .and_then(|before| Some((answers.get(at)?, answers.get(before)?)));
    both.map_or(Duration::ZERO, |(answer, before)| answer.planning(before))
}

/// The server has undone the batch, since batches do not do what one statement does.
fn unfit(batches: &Batches, course: &BatchProgress, told: &Report) -> Option<Report> {
    let Batches { verb, relation, .. } = batches;
    let told = told.message();
    let why = match told.contains(KEY_MOVED) {
        _ if told.contains(ROWS_LEFT) => format!(
            "{relation} has no key to walk along, and a trigger has left rows as they were, so that nobody could tell whether all are reached"
        ),
        true if batches.by_place() => format!(
            "{relation} has no key to walk along, and rows that were changed still meet the condition, so that they could be changed again"
        ),
        true => format!(
            "a trigger of {relation} changes the key ({}), by which the batches walk through the table: rows could be changed more than once",
            batches.key_columns().join(", ")
        ),
        false => batches.watch.told(&told, relation)?,
    };
    let further = if course.batches == 0 { "" } else { " further" };
    // feature_not_supported
    Some(Report::error(
        "0A000",
        &format!("lockkeeper: this {verb} of {relation} cannot be done in batches{further}: {why}"),
    ))
}

/// A single row has had all the time there is.
fn too_slow(batches: &Batches, time: Duration) -> Report {
    let message = format!(
        "lockkeeper: the {} of a single row of {} took more than {:.0} s and was cancelled",
        batches.verb,
        batches.relation,
        time.as_secs_f64()
    );
    // query_canceled
    Report::error("57014", &message)
}

/// Somebody else has the job now, or has ended it.
fn taken_away(job: i64, state: &str) -> Report {
    let message = match state {
        "paused" => format!("lockkeeper: job {job} was paused by another session"),
        "cancelled" => format!("lockkeeper: job {job} was cancelled by another session"),
        "gone" => format!("lockkeeper: the row of job {job} is no longer in lockkeeper.job"),
        _ => format!("lockkeeper: job {job} was taken over by another session"),
    };
    Report::error("57014", &message)
}

/// An error before the first batch.
fn first_steps(mut report: Report, batches: &Batches) -> Report {
    let relation = &batches.relation;
    report.remove(b'P');
    if report.sqlstate() == "42501" {
        report.append(b'H', &rights_needed(batches));
    }
    report.append(
        b'D',
        &format!("lockkeeper: this happened before the first batch; nothing in {relation} was changed by this run."),
    );
    report
}

fn rights_needed(batches: &Batches) -> String {
    let relation = &batches.relation;
    match batches.by_place() {
        true => format!(
            "lockkeeper: {relation} has no key, so that batches read where its rows are (ctid): the role needs SELECT on the table."
        ),
        false => {
            format!("lockkeeper: batches read the key of {relation}: the role needs SELECT on its key columns too.")
        }
    }
}

fn interrupted(mut report: Report, batches: &Batches, course: &BatchProgress) -> Report {
    let relation = &batches.relation;
    report.remove(b'P');
    if report.sqlstate() == "42501" {
        report.append(b'H', &rights_needed(batches));
    }
    let key = |key: &Option<Key>| key.as_ref().map(|key| format!("({})", key.join(", ")));
    let at_work = key(&course.end).filter(|_| course.end != course.last);
    let keys = if batches.by_place() { "places" } else { "keys" };
    let at_work = at_work
        .map(|end| format!(" It was at work on the {keys} up to {end}, which is undone."))
        .unwrap_or_default();
    if course.batches == 0 {
        report.append(
            b'D',
            &format!("lockkeeper: this happened in the first batch; nothing in {relation} was changed.{at_work}"),
        );
        return report.hint(&go_on(batches, course));
    }
    let up_to = key(&course.last)
        .filter(|_| !batches.by_place())
        .map(|last| format!(", keys up to {last}"))
        .unwrap_or_default();
    report.append(
        b'D',
        &format!(
            "lockkeeper: {} rows of {relation} were changed and committed in {} batches{up_to}; the rest is as it was.{at_work}",
            course.rows, course.batches
        ),
    );
    report.hint(&go_on(batches, course))
}

fn go_on(batches: &Batches, course: &BatchProgress) -> String {
    if course.unfit {
        let of_job = course
            .job
            .filter(|_| course.batches > 0)
            .map(|id| format!(" (the job: lockkeeper jobs --dsn … cancel {id})"))
            .unwrap_or_default();
        let rest = match &course.last {
            Some(_) if batches.by_place() => format!("lockkeeper: the rest must be done by one statement{of_job}."),
            Some(last) => format!(
                "lockkeeper: the rest must be done by one statement, which leaves out what is done, keys up to ({}){of_job}.",
                last.join(", ")
            ),
            None => format!("lockkeeper: it can only be done by one statement{of_job}."),
        };
        return format!(
            "{rest} That locks its rows until it ends: SET lockkeeper.override = 'large-write: <why>' lets it run."
        );
    }
    match course.job {
        Some(id) => format!(
            "lockkeeper: send the same statement again to go on with what is left, or: lockkeeper jobs --dsn … resume {id} \
             (to give it up: cancel {id})."
        ),
        None => "lockkeeper: send the same statement again to go on with what is left.".into(),
    }
}
