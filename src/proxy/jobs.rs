//! Rows of `lockkeeper.job` as the session meets them: found again, begun, taken over from a session that has died, answered.
//!
//! The SQL is [`crate::plan::jobs`]'s. A job is begun or taken over under an advisory lock of that run, which the server lets go
//! when the session ends, however it ends.

use super::batch_progress::{BatchProgress, settings};
use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::session::Session;
use super::step_context::StepContext;
use crate::plan::batches::{Batches, Key};
use crate::plan::jobs::{self, Access, Job};
use crate::plan::waiting::Details;
use crate::plan::{Place, deferred};
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// How often a session that waits for another one's job looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) enum Begun {
    At(Box<BatchProgress>),
    /// The table is empty.
    NothingThere,
}

/// What became of an unfinished job that was found.
enum Taken {
    At(Box<BatchProgress>),
    /// It had not begun, and the table is empty.
    NothingThere,
    /// It was finished or given up meanwhile.
    Over,
}

fn over(id: Option<i64>) -> Report {
    let id = id.unwrap_or_default();
    Report::error(
        "55000",
        &format!("lockkeeper: job {id} was finished or given up meanwhile"),
    )
}

impl Session {
    /// Where the work begins: anew, or where an earlier run of the same statement has stopped.
    pub(super) async fn begin_job(&mut self, batches: &Batches, setting: StepContext<'_>) -> Result<Begun, End> {
        match &batches.access {
            Access::Ready => {}
            Access::Create => match self.create_job_table().await {
                Ok(()) => {}
                Err(End::Refused(report)) => {
                    if let Err(why) = &batches.repeatable {
                        return Err(report.hint(&format!(
                            "lockkeeper: {why}, so that the progress must be kept in a table lockkeeper.job, which could not be \
                             created; an administrator runs once: lockkeeper init --dsn …"
                        )).into());
                    }
                    return self.begin(batches, setting, None).await;
                }
                Err(broken) => return Err(broken),
            },
            Access::None(_) => return self.begin(batches, setting, None).await,
        }
        let parameters = setting.parameters;
        let identity = jobs::identity(
            &batches.statement,
            batches.relation_oid,
            &parameters.types,
            &parameters.values,
            &batches.seen_by,
        );
        loop {
            match self.value(&jobs::find(&identity)).await? {
                found if batches.resumes.is_some_and(|id| found != Some(id.to_string())) => {
                    return Err(over(batches.resumes).into());
                }
                Some(id) => match self.take_over(&id, batches, setting).await? {
                    Taken::At(course) => return Ok(Begun::At(course)),
                    Taken::NothingThere => return Ok(Begun::NothingThere),
                    Taken::Over if batches.resumes.is_some() => return Err(over(batches.resumes).into()),
                    Taken::Over => {
                        self.was_just_done(&identity, batches).await?;
                    }
                },
                None => {
                    self.was_just_done(&identity, batches).await?;
                    match self.begin(batches, setting, Some(&identity)).await {
                        // unique_violation: another session has begun the same at the same moment.
                        Err(End::Refused(report)) if report.sqlstate() == "23505" => {}
                        begun => return begun,
                    }
                }
            }
        }
    }

    /// The work begins anew; with an identity, as a job.
    async fn begin(
        &mut self,
        batches: &Batches,
        setting: StepContext<'_>,
        identity: Option<&str>,
    ) -> Result<Begun, End> {
        let policy = &setting.policy.backfill;
        let mut course = BatchProgress::new(None, Vec::new(), policy);
        course.upper = match self.last_key(batches, &course).await? {
            Some(upper) => upper,
            None => return Ok(Begun::NothingThere),
        };
        if let Some(told) = &batches.new_rows {
            self.relay.notice(told).await?;
        }
        let details = Details::default();
        let Some(identity) = identity else {
            return Ok(Begun::At(Box::new(course)));
        };
        let new = jobs::New {
            kind: batches.kind,
            identity,
            statement: &batches.statement,
            types: &setting.parameters.types,
            values: &setting.parameters.values,
            relation: batches.relation_oid,
            relation_name: &batches.relation,
            key_columns: batches.key_columns(),
            upper: Some(&course.upper),
            details: &details,
            keys_estimated: batches.keys_estimated,
        };
        let asked = [new.sql().into()];
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
        let answer = answers.into_iter().next().unwrap_or_default();
        match answer.rows.first().map(Vec::as_slice) {
            Some([Some(id), Some(locked), Some(key)]) if locked == "t" => {
                course.job = id.parse().ok();
                self.keep_key(course.job, key);
                Ok(Begun::At(Box::new(course)))
            }
            _ => Err(Report::error("XX000", "lockkeeper: a new job answered without its lock").into()),
        }
    }

    /// Until [`Session::unlock_job`].
    fn keep_key(&mut self, id: Option<i64>, key: &str) {
        if let (Some(id), Ok(key)) = (id, key.parse()) {
            self.job_keys.insert(id, key);
        }
    }

    /// Ends the run in the server's eyes; nothing where this session has none of that job.
    pub(super) fn unlock_job(&mut self, id: i64) -> Option<Ask> {
        self.job_keys.remove(&id).map(|key| Ask::new(jobs::unlock(key)))
    }

    pub(super) async fn let_go_job(&mut self, id: i64) -> Result<(), End> {
        let Some(unlock) = self.unlock_job(id) else {
            return Ok(());
        };
        self.relay.ask(&[unlock], Closing::Sync, Hears::Nothing).await?;
        Ok(())
    }

    /// None: the table is empty.
    async fn last_key(&mut self, batches: &Batches, course: &BatchProgress) -> Result<Option<Key>, End> {
        let asks = [settings(batches, course, None), Ask::as_client(batches.bounds_sql())];
        let mut answers = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await?;
        let upper = answers.pop().and_then(|answer| answer.rows.into_iter().next());
        let upper: Option<Key> = upper.and_then(|row| row.into_iter().collect());
        match upper.as_ref().and_then(|upper| self.garbled(upper, batches)) {
            Some(report) => Err(report.into()),
            None => Ok(upper),
        }
    }

    /// Waits until nobody runs that job, and takes it up where it stands.
    async fn take_over(&mut self, id: &str, batches: &Batches, setting: StepContext<'_>) -> Result<Taken, End> {
        let Ok(id) = id.parse::<i64>() else {
            return Ok(Taken::Over);
        };
        self.wait_for_job(id, setting).await?;
        let taken = self.take_up(id, batches, setting).await;
        if !matches!(taken, Ok(Taken::At(_)) | Err(End::Broken(_))) {
            self.let_go_job(id).await?;
        }
        taken
    }

    pub(super) async fn wait_for_job(&mut self, id: i64, setting: StepContext<'_>) -> Result<(), End> {
        // What was left for after COMMIT is taken when its turn comes, and once more by the batches that it consists of.
        if self.job_keys.contains_key(&id) {
            return Ok(());
        }
        let started = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            match self.value(&jobs::lock(id)).await? {
                Some(busy) if busy == "busy" => {}
                key => {
                    self.keep_key(Some(id), &key.unwrap_or_default());
                    return Ok(());
                }
            }
            let runner = unless_refused(self.value(&jobs::runner(id)).await)?;
            let runner = runner.flatten().unwrap_or_default();
            if started.elapsed().as_millis() as u64 >= setting.policy.lock.give_up_after_ms {
                let message = format!(
                    "lockkeeper: the same statement is being run as job {id} by the server process {runner}; nothing was done here"
                );
                let hint = format!(
                    "Wait for it (lockkeeper jobs --dsn … show {id}); once it is done, send the statement again if it is to be done once more."
                );
                return Err(Report::error("55P03", &message).hint(&hint).into());
            }
            if told.is_none_or(|told| told.elapsed().as_millis() as u64 >= setting.policy.backfill.notice_ms) {
                told = Some(Instant::now());
                self.relay
                    .notice(&format!(
                        "the same statement is being run as job {id} by the server process {runner}: waiting for it"
                    ))
                    .await?;
            }
            self.pause(LOOK_AGAIN, Place::Alone).await?;
        }
    }

    /// The job's lock is held: nobody else moves its row.
    async fn take_up(&mut self, id: i64, batches: &Batches, setting: StepContext<'_>) -> Result<Taken, End> {
        let json = match self.value(&jobs::read(id)).await? {
            Some(json) => json,
            None => return Ok(Taken::Over),
        };
        let job = match Job::decode(&json) {
            Ok(job) => job,
            Err(error) => return Err(Report::error("XX000", &format!("lockkeeper: {error}")).into()),
        };
        if matches!(job.state.as_str(), "done" | "cancelled") {
            return Ok(Taken::Over);
        }
        if batches.anew {
            self.value(&jobs::give_up(id)).await?;
            return Ok(Taken::Over);
        }
        if job.key_columns != batches.key_columns() {
            let message = format!(
                "lockkeeper: job {id} walks along the key ({}) of {}, which is now ({})",
                job.key_columns.join(", "),
                batches.relation,
                batches.key_columns().join(", ")
            );
            let hint = format!(
                "{} rows are done. Make that key again, or give the job up (lockkeeper jobs --dsn … cancel {id}) and see to the rest by hand.",
                job.rows_done
            );
            return Err(Report::error("55000", &message).hint(&hint).into());
        }
        let mut keys = job.upper_key.iter().chain(&job.last_key);
        if let Some(report) = keys.find_map(|key| self.garbled(key, batches)) {
            return Err(report.into());
        }
        let settings = self.other_settings(&job).await?;
        self.value(&jobs::take_up(id)).await?;
        let mut course = BatchProgress::new(Some(id), Vec::new(), &setting.policy.backfill);
        course.settings = settings.clone();
        course.upper = match job.upper_key {
            Some(upper) => upper,
            None => match self.last_key(batches, &course).await? {
                Some(upper) => {
                    self.value(&jobs::begin(id, &upper)).await?;
                    if let Some(told) = &batches.new_rows {
                        self.relay.notice(told).await?;
                    }
                    course.upper = upper;
                    return Ok(Taken::At(Box::new(course)));
                }
                None => {
                    self.value(&deferred::finish(id, "done")).await?;
                    return Ok(Taken::NothingThere);
                }
            },
        };
        let mut told = format!(
            "{} {}: continues job {id}, which was begun at {}: {} rows are done already, and the count at the end includes them",
            batches.verb, batches.relation, job.created_at, job.rows_done
        );
        if batches.returns && job.rows_done > 0 {
            told.push_str("; RETURNING delivers the others only");
        }
        if !settings.is_empty() {
            let settings: Vec<String> = settings
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect();
            told.push_str(&format!(
                "; with the settings that it began with: {}",
                settings.join(", ")
            ));
        }
        self.relay.notice(&told).await?;
        course.rows = job.rows_done;
        course.keys = job.keys_done;
        course.earlier = (job.rows_done, job.keys_done);
        course.batches = job.batches;
        course.last = job.last_key;
        Ok(Taken::At(Box::new(course)))
    }

    /// The settings that the job began with, where this session has others.
    async fn other_settings(&mut self, job: &Job) -> Result<Vec<(String, String)>, End> {
        let json = serde_json::to_string(&job.settings).unwrap_or_default();
        let sql = format!(
            "SELECT k.key, k.value FROM pg_catalog.jsonb_each_text({}::jsonb) k JOIN pg_catalog.pg_settings s ON s.name = k.key \
             WHERE {} <> k.value",
            crate::plan::splice::quote_literal(&json),
            jobs::CLIENTS_SETTING
        );
        let answers = self.relay.ask(&[Ask::new(sql)], Closing::Sync, Hears::Nothing).await?;
        let rows = answers.into_iter().next().unwrap_or_default().rows;
        let pair = |row: Vec<Option<String>>| {
            let mut row = row.into_iter();
            Some((row.next()??, row.next()??))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    /// Where a statement must not be done twice: an error if a job for it was finished without anybody having been told.
    async fn was_just_done(&mut self, identity: &str, batches: &Batches) -> Result<(), End> {
        let Err(why) = &batches.repeatable else {
            return Ok(());
        };
        let asked = [jobs::find_unanswered(identity).into()];
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
        let answer = answers.into_iter().next().unwrap_or_default();
        let Some([Some(id), Some(rows), Some(when)]) = answer.rows.first().map(Vec::as_slice) else {
            return Ok(());
        };
        let id: i64 = id.parse().unwrap_or_default();
        self.value(&jobs::answered(id)).await?;
        let message = format!(
            "lockkeeper: this very statement was done at {when} (job {id}, {rows} rows), and it is not known that its client has \
             heard so; nothing was done now, since {why}"
        );
        Err(Report::error("55000", &message)
            .hint("If it is to be done once more, send it again: you have been told now.")
            .into())
    }

    /// The client has been sent all of the answer, ReadyForQuery too, of jobs that are done. One that had gone before has not
    /// heard it.
    pub(super) async fn jobs_are_answered(&mut self) -> Result<(), Broken> {
        if self.unanswered.is_empty() {
            return Ok(());
        }
        if self.relay.status != b'I' {
            // Noted in the client's own transaction, it would go with it.
            self.relay.stop_at_sync = true;
            return Ok(());
        }
        self.relay.watch_client().await;
        for id in std::mem::take(&mut self.unanswered) {
            let answered = (!self.relay.client_gone()).then(|| jobs::answered(id).into());
            let asks: Vec<Ask> = answered.into_iter().chain(self.unlock_job(id)).collect();
            match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
                Ok(_) => {}
                Err(End::Refused(report)) => tracing::warn!(
                    session = self.who.session,
                    job = id,
                    error = report.message(),
                    "a job's answer was not noted"
                ),
                Err(End::Broken(broken)) => return Err(broken),
            }
        }
        Ok(())
    }

    /// The ID of an unfinished job for that statement, if the role can keep jobs.
    pub(super) async fn open_job(&mut self, identity: &str, closing: Closing) -> Result<Option<i64>, End> {
        let asked = [jobs::find(identity).into()];
        let answers = self.relay.ask(&asked, closing, Hears::Nothing).await?;
        Ok(answers.first().and_then(Answer::value).and_then(|id| id.parse().ok()))
    }

    pub(super) fn encoding_lacks_names_of(&self, id: i64) -> Report {
        let message = format!(
            "lockkeeper: job {id} takes names that cannot be sent in client_encoding {}: SET client_encoding = 'UTF8' first",
            self.relay.reported.client_encoding
        );
        // feature_not_supported
        Report::error("0A000", &message)
    }

    /// Of two sessions that do it at once the second waits for the first, and finds it done.
    pub(super) async fn create_job_table(&mut self) -> Result<(), End> {
        let mut asks = vec![Ask::as_client("BEGIN"), Ask::set_local("lock_timeout", "10s")];
        asks.extend(jobs::create_statements().into_iter().map(Ask::new));
        let created = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await;
        let end = match created {
            Ok(_) => "COMMIT",
            Err(End::Refused(_)) => "ROLLBACK",
            Err(broken) => return Err(broken),
        };
        let end = [Ask::as_client(end)];
        let ended = self.relay.ask(&end, Closing::Sync, Hears::Nothing).await;
        if let Err(End::Refused(report)) = created {
            unless_refused(ended)?;
            return match jobs::was_first(&report.sqlstate()) {
                true => self.job_table_is_there().await,
                false => Err(report.into()),
            };
        }
        ended.map(|_| ())
    }

    /// Another session has made it.
    pub(super) async fn job_table_is_there(&mut self) -> Result<(), End> {
        match self.value(jobs::COMMENT_QUERY).await? {
            Some(comment) if jobs::is_current(&comment) => Ok(()),
            comment => Err(Report::error(
                "55000",
                &format!(
                    "lockkeeper: lockkeeper.job is of another version (\"{}\")",
                    comment.unwrap_or_default()
                ),
            )
            .into()),
        }
    }

    /// The only column of the only row of a query of ours.
    pub(super) async fn value(&mut self, sql: impl Into<Ask>) -> Result<Option<String>, End> {
        let answers = self.relay.ask(&[sql.into()], Closing::Sync, Hears::Nothing).await?;
        Ok(answers.first().and_then(Answer::value).map(str::to_owned))
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
