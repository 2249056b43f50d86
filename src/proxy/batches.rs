//! Carries out a large UPDATE or DELETE in batches, each a transaction of its own that moves the job's row with the rows.
//!
//! Start at [`Session::batches`]. What is planned is [`crate::plan::batches`]'s; where the work stands is in `lockkeeper.job`
//! ([`super::jobs`]), so that nothing here is lost with the process. When to wait is [`super::gentle`]'s.

use super::conduct::{Done, Outcome, Setting, Tries, cancelled, is_lock_trouble};
use super::dialogue::{Ask, Closing, Deliver, Hears};
use super::gentle::Gentle;
use super::jobs::Begun;
use super::relay::Broken;
use super::session::Session;
use super::wire::{self, Report};
use crate::plan::Place;
use crate::plan::batches::{Batches, Key, Move, Range};
use crate::plan::jobs;
use crate::plan::policy::Backfill;
use std::time::{Duration, Instant};

/// A row that a batch waits for holds up the rows of that batch, but queues nobody behind a table lock: so it is given more
/// time than a table lock.
const ROW_LOCK_FACTOR: u64 = 10;
/// A batch is not made smaller than this, unless the policy's batch_rows is.
const SIZE_MIN: u64 = 100;
/// After others had to wait, each batch that nobody waits for may be so much larger than the one before.
const GROWTH: f64 = 1.02;

/// One boolean: whether somebody waits for a row that this transaction has changed.
const OTHERS_WAIT: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'transactionid' AND NOT l.granted \
     AND l.transactionid = pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid)";

/// Where the work stands.
pub(super) struct Course {
    /// None: nothing is kept, since the statement may be repeated.
    pub job: Option<i64>,
    /// Changed so far, by earlier runs too.
    pub rows: u64,
    pub batches: u64,
    /// Keys that were passed, changed or not.
    pub keys: u64,
    pub last: Option<Key>,
    /// The greatest key at the start: rows beyond it were inserted later.
    pub upper: Key,
    /// Settings that the job began with and this session has not.
    pub settings: Vec<(String, String)>,
    /// Rows and keys of earlier runs.
    pub earlier: (u64, u64),
    /// Keys of the next batch.
    size: u64,
    /// Others have waited for rows of a batch of twice so many keys: batches grow beyond it only slowly.
    size_max: Option<f64>,
    /// The role may ask who waits.
    sees_waiters: bool,
    started: Instant,
    /// The client of a simple query has heard what columns RETURNING has.
    described: bool,
    /// The batch that is at work, for messages.
    end: Option<Key>,
}

impl Course {
    pub fn new(job: Option<i64>, upper: Key, policy: &Backfill) -> Course {
        Course {
            job,
            rows: 0,
            batches: 0,
            keys: 0,
            last: None,
            upper,
            settings: Vec::new(),
            earlier: (0, 0),
            size: policy.batch_rows.min(policy.batch_rows_max),
            size_max: None,
            sees_waiters: false,
            started: Instant::now(),
            described: false,
            end: None,
        }
    }

    /// The next batch should take as long as the policy says. Half or twice as many keys at most: one slow batch says little.
    /// If somebody had to wait for the rows of this one, half as many, whatever time there is.
    fn adapt(&mut self, took: Took, policy: &Backfill) {
        if policy.batch_target_ms == 0 {
            return;
        }
        let least = SIZE_MIN.min(policy.batch_rows);
        let ratio = policy.batch_target_ms as f64 / (took.time.as_secs_f64() * 1e3).max(0.1);
        let mut wanted = self.size as f64 * ratio.clamp(0.5, 2.0);
        if took.others_waited {
            self.size_max = Some(self.size as f64 / 2.0);
        } else if let Some(size_max) = &mut self.size_max {
            *size_max *= GROWTH;
        }
        if let Some(size_max) = &mut self.size_max {
            *size_max = size_max.max(least as f64);
            wanted = wanted.min(*size_max);
        }
        self.size = (wanted as u64).clamp(least, policy.batch_rows_max.max(1));
    }

    /// A batch that is kept short for others' sake is followed by a pause that is as much shorter.
    fn pause(&self, took: Took, policy: &Backfill) -> Duration {
        let pause = Duration::from_millis(policy.pause_ms);
        let target = Duration::from_millis(policy.batch_target_ms);
        if self.size_max.is_none() || target.is_zero() {
            return pause;
        }
        pause.mul_f64((took.time.as_secs_f64() / target.as_secs_f64()).min(1.0))
    }

    fn rate(&self) -> f64 {
        (self.rows - self.earlier.0) as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    /// From 0 to 1, by keys that were passed.
    fn done(&self, batches: &Batches) -> Option<f64> {
        let all = batches.keys_estimated.filter(|all| *all > 0.0)?;
        Some((self.keys as f64 / all).min(1.0))
    }

    fn left_s(&self, batches: &Batches) -> Option<f64> {
        let all = batches.keys_estimated.filter(|all| *all > self.keys as f64)?;
        let speed = (self.keys - self.earlier.1) as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        Some((all - self.keys as f64) / speed.max(1.0))
    }

    fn done_text(&self, batches: &Batches) -> String {
        let Batches { verb, relation, .. } = batches;
        let job = self.job.map(|id| format!(" (job {id})")).unwrap_or_default();
        format!(
            "{verb} {relation}: {} rows in {} batches, {:.0} rows/s{job}",
            self.rows,
            self.batches,
            self.rate()
        )
    }

    fn progress_text(&self, batches: &Batches) -> String {
        let mut text = self.done_text(batches);
        if let (Some(done), Some(left_s), Some(all)) =
            (self.done(batches), self.left_s(batches), batches.keys_estimated)
        {
            text.push_str(&format!(
                ", about {:.0} % of {all:.0}, about {left_s:.0} s left",
                100.0 * done
            ));
        }
        text
    }
}

/// How a batch went.
#[derive(Clone, Copy)]
struct Took {
    time: Duration,
    others_waited: bool,
}

impl Session {
    pub(super) async fn batches(
        &mut self,
        batches: &Batches,
        setting: Setting<'_>,
        tries: &mut Tries,
    ) -> Outcome<Done> {
        if batches.returns && setting.parameters.rows_max != 0 {
            let report = Report::error(
                "0A000",
                "lockkeeper: the rows of RETURNING are delivered all at once, batch by batch; fetch them without a row limit",
            );
            return Ok(Err(report.hint(
                "Leave out the fetch size (JDBC: setFetchSize(0)), or use LIMIT in the statement.",
            )));
        }
        let tag = |rows: u64| {
            Ok(Ok(Done {
                tag: Some(format!("{} {rows}", batches.verb)),
            }))
        };
        let mut course = match self.begin_job(batches, setting).await? {
            Ok(Begun::At(course)) => *course,
            Ok(Begun::NothingThere) => {
                if batches.returns && !setting.parameters.extended {
                    return Ok(Err(Report::error(
                        "55000",
                        &format!(
                            "lockkeeper: {} has become empty, send the statement again",
                            batches.relation
                        ),
                    )));
                }
                return tag(0);
            }
            Err(report) => return Ok(Err(first_steps(report, batches))),
        };
        tries.rows = Some(course.rows);
        self.seat.change(|plan| {
            plan.rows = Some(course.rows);
            plan.done = course.done(batches);
        });
        let walked = self.walk(batches, setting, &mut course, tries).await;
        let ended = match walked {
            Ok(Ok(())) => {
                self.relay.notice(&course.done_text(batches)).await?;
                self.unanswered.extend(course.job);
                return tag(course.rows);
            }
            Ok(Err(report)) => report,
            Err(broken) => {
                if let (Some(job), Broken::Client(_)) = (course.job, &broken) {
                    // The server is still there, and whoever looks at the job shall see why it stopped.
                    let asks = [
                        Ask::new(jobs::stop(job, "paused", "the client went away")),
                        Ask::new(jobs::unlock(job)),
                    ];
                    let _ = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await;
                }
                return Err(broken);
            }
        };
        if let Some(job) = course.job {
            let state = match ended.sqlstate().as_str() {
                "57014" | "57P01" | "55P03" | "40P01" | "40001" => "paused",
                _ => "failed",
            };
            let asks = [
                Ask::new(jobs::stop(job, state, &ended.message())),
                Ask::new(jobs::unlock(job)),
            ];
            if let Err(report) = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await? {
                tracing::warn!(
                    session = self.who.session,
                    job,
                    error = report.message(),
                    "a job's end was not written"
                );
            }
        }
        Ok(Err(interrupted(ended, batches, &course)))
    }

    /// From where the work stands to the last key.
    async fn walk(
        &mut self,
        batches: &Batches,
        setting: Setting<'_>,
        course: &mut Course,
        tries: &mut Tries,
    ) -> Outcome<()> {
        let policy = &setting.policy.backfill;
        let mut told = Instant::now();
        let mut gentle = Gentle::default();
        loop {
            if let Err(report) = self.wait_gently(policy, &mut gentle, course.job).await? {
                return Ok(Err(report));
            }
            course.sees_waiters = gentle.sees();
            let rows_before = course.rows;
            let took = match self.batch(batches, setting, course, tries).await? {
                Ok(took) => took,
                Err(report) => return Ok(Err(report)),
            };
            tries.rows = Some(course.rows);
            self.shared.live.ledger().batch(course.rows - rows_before);
            self.seat.change(|plan| {
                plan.rows = Some(course.rows);
                (plan.done, plan.left_s) = (course.done(batches), course.left_s(batches));
            });
            if course.last.as_ref() == Some(&course.upper) {
                // A cancel that came now came too late.
                return Ok(Ok(()));
            }
            if self.cancel.take() {
                return Ok(Err(cancelled()));
            }
            course.adapt(took, policy);
            if told.elapsed().as_millis() as u64 >= policy.notice_ms {
                told = Instant::now();
                self.relay.notice(&course.progress_text(batches)).await?;
            }
            // Where nothing was changed there is nothing for others to keep up with.
            let pause = match course.rows == rows_before {
                true => Duration::ZERO,
                false => course.pause(took, policy),
            };
            if let Err(report) = self.pause(pause, Place::Alone).await? {
                return Ok(Err(report));
            }
        }
    }

    /// One batch in a transaction of its own, again and again while others hold its rows: then a smaller one, and its rows are
    /// taken before the first is changed. Tells of the one that worked.
    async fn batch(
        &mut self,
        batches: &Batches,
        setting: Setting<'_>,
        course: &mut Course,
        tries: &mut Tries,
    ) -> Outcome<Took> {
        let lock = &setting.policy.lock;
        let started = Instant::now();
        let mut contended = false;
        let mut told = started;
        loop {
            let range = match self.next_range(batches, course).await? {
                Ok(range) => range,
                Err(report) => return Ok(Err(report)),
            };
            course.end = Some(range.end.clone());
            tries.count += 1;
            let begun = Instant::now();
            let report = match self.try_batch(batches, setting, course, &range, contended).await? {
                Ok(others_waited) => {
                    let time = begun.elapsed();
                    return Ok(Ok(Took { time, others_waited }));
                }
                Err(report) => report,
            };
            if !is_lock_trouble(&report) || started.elapsed().as_millis() as u64 >= lock.give_up_after_ms {
                return Ok(Err(report));
            }
            tries.waited += begun.elapsed();
            contended = true;
            if told.elapsed().as_millis() as u64 >= setting.policy.backfill.notice_ms {
                told = Instant::now();
                let held = self.waits().told("; held by ", "; who holds them");
                let Batches { verb, relation, .. } = batches;
                let end = range.end.join(", ");
                let text = format!(
                    "{verb} {relation}: waiting for rows up to ({end}), try {}{held}",
                    tries.count
                );
                self.relay.notice(&text).await?;
            }
            if setting.policy.backfill.batch_target_ms > 0 {
                course.size = (course.size / 2).max(SIZE_MIN.min(course.size));
            }
            if let Err(report) = self.pause(Duration::from_millis(lock.pause_ms), Place::Alone).await? {
                return Ok(Err(report));
            }
        }
    }

    /// Where the next batch ends, read without a lock.
    async fn next_range(&mut self, batches: &Batches, course: &Course) -> Outcome<Range> {
        let sql = batches.end_sql(course.last.as_ref(), &course.upper, course.size);
        let asks = [settings(batches, course, None), Ask::as_client(sql)];
        let row = match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await? {
            Ok(mut answers) => answers.pop().and_then(|answer| answer.rows.into_iter().next()),
            Err(report) => return Ok(Err(report)),
        };
        let end: Option<Key> = row.and_then(|row| row.into_iter().collect());
        if let Some(report) = end.as_ref().and_then(|key| self.garbled(key, batches)) {
            return Ok(Err(report));
        }
        Ok(Ok(Range {
            after: course.last.clone(),
            keys: course.size,
            end: end.unwrap_or_else(|| course.upper.clone()),
        }))
    }

    /// Whether others waited for its rows at its end.
    async fn try_batch(
        &mut self,
        batches: &Batches,
        setting: Setting<'_>,
        course: &mut Course,
        range: &Range,
        lock_first: bool,
    ) -> Outcome<bool> {
        let is_last = range.end == course.upper;
        let job = course.job.map(|job| Move {
            job,
            batches: course.batches,
            is_last,
        });
        let lock_timeout_ms = setting.policy.lock.timeout_ms * ROW_LOCK_FACTOR;
        let mut asks = vec![settings(batches, course, Some(lock_timeout_ms))];
        asks.extend(course.job.map(|job| Ask::new(jobs::hold(job))));
        let mut ask = setting.parameters.ask(batches.batch_sql(range, job, lock_first));
        if batches.returns {
            ask.delivers = Some(Deliver {
                cut: batches.extra_columns(),
                formats: wire::with_more_columns(&setting.parameters.results, batches.extra_columns()),
                described: !setting.parameters.extended && !course.described,
            });
        }
        asks.push(ask);
        if course.sees_waiters {
            asks.push(Ask::new(OTHERS_WAIT));
        }
        let mut answers = match self.relay.ask(&asks, Closing::Sync, Hears::Notices).await? {
            Ok(answers) => answers,
            Err(report) => return Ok(Err(report)),
        };
        let others_waited = course.sees_waiters && answers.pop().is_some_and(|answer| answer.value() == Some("t"));
        let answer = answers.pop().unwrap_or_default();
        if let Some(job) = course.job {
            let held = answers.pop().unwrap_or_default();
            let columns = held.rows.first().map(Vec::as_slice);
            match columns {
                Some([Some(state), Some(at)]) if state == "running" && *at == course.batches.to_string() => {}
                Some([Some(state), _]) => return Ok(Err(taken_away(job, state))),
                _ => return Ok(Err(taken_away(job, "gone"))),
            }
        }
        let changed = match batches.returns {
            true => Some(answer.delivered),
            false => answer.value().and_then(|n| n.parse().ok()),
        };
        let Some(changed) = changed else {
            return Ok(Err(Report::error(
                "XX000",
                "lockkeeper: a batch answered without its count",
            )));
        };
        course.rows += changed;
        course.batches += 1;
        course.keys += range.keys;
        course.last = Some(range.end.clone());
        if !answer.frames.is_empty() {
            course.described = true;
            self.relay.tell(&answer.frames).await?;
        }
        Ok(Ok(others_waited))
    }

    /// A key goes back to the server in the next batch's text. In another encoding than the one it is read in here it would be
    /// another key, and rows would be left out.
    pub(super) fn garbled(&self, key: &[String], batches: &Batches) -> Option<Report> {
        let encoding = self.relay.reported.client_encoding.as_str();
        let is_whole = |text: &String| match encoding {
            "UTF8" | "UNICODE" | "SQL_ASCII" => !text.contains(char::REPLACEMENT_CHARACTER),
            _ => text.is_ascii(),
        };
        (!key.iter().all(is_whole)).then(|| {
            let message = format!(
                "lockkeeper: a key of {} has characters that cannot be carried over from batch to batch in client_encoding {encoding}; set it to UTF8",
                batches.relation
            );
            Report::error("0A000", &message).hint("SET client_encoding = 'UTF8', and send the statement again.")
        })
    }
}

/// Everything that is set for a transaction of ours, in one statement. One without a lock_timeout only reads keys, as exact text.
pub(super) fn settings(batches: &Batches, course: &Course, lock_timeout_ms: Option<u64>) -> Ask {
    let kept = course
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let own = batches
        .settings()
        .iter()
        .map(|(name, value)| (*name, value.to_string()));
    let last = match lock_timeout_ms {
        Some(ms) => ("lock_timeout", format!("{ms}ms")),
        None => ("extra_float_digits", "1".into()),
    };
    let all: Vec<(&str, String)> = kept.chain(own).chain([last]).collect();
    Ask::set_local_all(&all)
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
        report.append(
            b'H',
            &format!("lockkeeper: batches read the key of {relation}: the role needs SELECT on its key columns too."),
        );
    }
    report.append(
        b'D',
        &format!("lockkeeper: this happened before the first batch; nothing in {relation} was changed by this run."),
    );
    report
}

fn interrupted(mut report: Report, batches: &Batches, course: &Course) -> Report {
    let relation = &batches.relation;
    report.remove(b'P');
    if report.sqlstate() == "42501" {
        report.append(
            b'H',
            &format!("lockkeeper: batches read the key of {relation}: the role needs SELECT on its key columns too."),
        );
    }
    let key = |key: &Option<Key>| key.as_ref().map(|key| format!("({})", key.join(", ")));
    let at_work = key(&course.end).filter(|_| course.end != course.last);
    let at_work = at_work
        .map(|end| format!(" It was at work on the keys up to {end}, which is undone."))
        .unwrap_or_default();
    if course.batches == 0 {
        report.append(
            b'D',
            &format!("lockkeeper: this happened in the first batch; nothing in {relation} was changed.{at_work}"),
        );
        return report.hint(&go_on(course));
    }
    let up_to = key(&course.last)
        .map(|last| format!(", keys up to {last}"))
        .unwrap_or_default();
    report.append(
        b'D',
        &format!(
            "lockkeeper: {} rows of {relation} were changed and committed in {} batches{up_to}; the rest is as it was.{at_work}",
            course.rows, course.batches
        ),
    );
    report.hint(&go_on(course))
}

fn go_on(course: &Course) -> String {
    match course.job {
        Some(id) => format!(
            "lockkeeper: send the same statement again to go on with what is left, or: lockkeeper jobs --dsn … resume {id} \
             (to give it up: cancel {id})."
        ),
        None => "lockkeeper: send the same statement again to go on with what is left.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backfill() -> Backfill {
        Backfill {
            rows_max: 0,
            batch_rows: 5_000,
            batch_rows_max: 50_000,
            batch_target_ms: 200,
            pause_ms: 20,
            notice_ms: 0,
            returning_rows_max: 0,
            replica_lag_max_ms: 0,
            wal_max_percent: 0,
            lock_waits_max: 0,
            stop_file: None,
            in_transaction: crate::plan::policy::InTransaction::Reject,
        }
    }

    #[test]
    fn batches_adapt_to_their_time() {
        let mut policy = backfill();
        let mut course = Course::new(None, vec![], &policy);
        let mut check = |policy: &Backfill, took_ms: u64, expect: u64| {
            let time = Duration::from_millis(took_ms);
            let others_waited = false;
            course.adapt(Took { time, others_waited }, policy);
            assert_eq!(course.size, expect);
        };
        check(&policy, 10, 10_000);
        check(&policy, 160, 12_500);
        check(&policy, 4_000, 6_250);
        check(&policy, 0, 12_500);
        for expect in [25_000, 50_000, 50_000] {
            check(&policy, 1, expect);
        }
        for expect in [25_000, 12_500, 6_250, 3_125, 1_562, 781, 390, 195, 100, 100] {
            check(&policy, 60_000, expect);
        }
        policy.batch_target_ms = 0;
        check(&policy, 1, 100);
    }

    #[test]
    fn batches_shrink_while_others_wait() {
        let policy = backfill();
        let mut course = Course::new(None, vec![], &policy);
        let mut check = |took_ms: u64, others_waited: bool, expect: (u64, u64)| {
            let time = Duration::from_millis(took_ms);
            let took = Took { time, others_waited };
            course.adapt(took, &policy);
            assert_eq!((course.size, course.pause(took, &policy).as_millis() as u64), expect);
        };
        check(100, false, (10_000, 20));
        check(200, true, (5_000, 20));
        check(100, false, (5_100, 10));
        check(100, false, (5_202, 10));
        check(500, false, (2_601, 20));
        check(50, true, (1_300, 5));
        for _ in 0..10 {
            course.adapt(
                Took {
                    time: Duration::ZERO,
                    others_waited: true,
                },
                &policy,
            );
        }
        assert_eq!(course.size, SIZE_MIN);
    }
}
