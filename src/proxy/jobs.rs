//! Rows of `lockkeeper.job` as the session meets them: found again, begun, taken over from a session that has died, answered.
//!
//! The SQL is [`crate::plan::jobs`]'s. A job is begun or taken over under an advisory lock of that run, which the server lets go
//! when the session ends, however it ends.

use super::batches::{Course, settings};
use super::context::Setting;
use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::parameters::Parameters;
use super::session::Session;
use super::verdict::Verdict;
use crate::plan::batches::{Batches, Key};
use crate::plan::facts::Facts;
use crate::plan::jobs::{self, Access, Job, Kind};
use crate::plan::lock::LockMode;
use crate::plan::policy::Policy;
use crate::plan::request::Request;
use crate::plan::statement::{Statement, read};
use crate::plan::waiting::Details;
use crate::plan::{Mode, Place, Run, Step, outbox};
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// How often a session that waits for another one's job looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) enum Begun {
    At(Box<Course>),
    /// The table is empty.
    NothingThere,
}

/// What became of an unfinished job that was found.
enum Taken {
    At(Box<Course>),
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
    pub(super) async fn begin_job(&mut self, batches: &Batches, setting: Setting<'_>) -> Result<Begun, End> {
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
    async fn begin(&mut self, batches: &Batches, setting: Setting<'_>, identity: Option<&str>) -> Result<Begun, End> {
        let policy = &setting.policy.backfill;
        let mut course = Course::new(None, Vec::new(), policy);
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
    async fn last_key(&mut self, batches: &Batches, course: &Course) -> Result<Option<Key>, End> {
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
    async fn take_over(&mut self, id: &str, batches: &Batches, setting: Setting<'_>) -> Result<Taken, End> {
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

    pub(super) async fn wait_for_job(&mut self, id: i64, setting: Setting<'_>) -> Result<(), End> {
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
    async fn take_up(&mut self, id: i64, batches: &Batches, setting: Setting<'_>) -> Result<Taken, End> {
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
        let mut course = Course::new(Some(id), Vec::new(), &setting.policy.backfill);
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
                    self.value(&outbox::finish(id, "done")).await?;
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

    /// `CALL lockkeeper.resume(7)`: the job's own statement with its own parameters, as if it had been sent again.
    pub(super) async fn resume_job(
        &mut self,
        id: i64,
        call: &Statement,
        place: Place,
        policy: &Policy,
    ) -> Result<Verdict, End> {
        if place != Place::Alone {
            let report = Report::error(
                "25001",
                "lockkeeper: a job cannot be resumed inside a transaction block",
            );
            return Err(report.into());
        }
        for lends in [outbox::LENDS_NOTHING, outbox::LENDS_NO_SUPERUSER] {
            match self.value(lends).await? {
                Some(is_safe) if is_safe == "t" => break,
                _ if lends == outbox::LENDS_NOTHING => {}
                _ => return Err(super::outbox::pending::lends(id).into()),
            }
        }
        if self.resume_deferred(id).await? {
            return Ok(Verdict::Done("CALL".to_string()));
        }
        self.resume_write(id, call, policy).await
    }

    /// A job that is carried out in batches.
    pub(super) async fn resume_write(&mut self, id: i64, call: &Statement, policy: &Policy) -> Result<Verdict, End> {
        let (batches, parameters, facts) = self.job_to_resume(id, call).await?;
        self.judged += 1;
        let relation = batches.relation.clone();
        let statement = batches.statement.clone();
        let run = Run {
            deferral: None,
            findings: Vec::new(),
            notices: Vec::new(),
            steps: vec![Step {
                label: format!("go on with job {id}"),
                sql: statement.clone(),
                mode: Mode::Batches(Box::new(batches)),
                guard: None,
                lock: LockMode::RowExclusive,
                relation,
                done_when: None,
                cleanup: None,
                null_message: None,
                rollback: None,
                contract: None,
            }],
            tag: String::new(),
            why: Vec::new(),
        };
        let entry = self.entry(call, &facts, &[]).planned(&run);
        self.announce(&entry, policy).await?;
        let setting = Setting {
            policy,
            place: Place::Alone,
            parameters: &parameters,
            statement: &statement,
            position_shift: 0,
            is_held: false,
        };
        Ok(self.carry_out(&run, &facts.relations, setting, entry).await?)
    }

    /// The statement of a job that can go on here, judged anew.
    async fn job_to_resume(&mut self, id: i64, call: &Statement) -> Result<(Batches, Parameters, Facts), End> {
        let wrong = |sqlstate, message: String, hint: &str| {
            let report = Report::error(sqlstate, &format!("lockkeeper: {message}"));
            let report = if hint.is_empty() { report } else { report.hint(hint) };
            Err(report.into())
        };
        let facts = self.facts(Request::of(call), Closing::Sync).await?;
        match facts.job_access() {
            Access::Ready => {}
            Access::Create => {
                return wrong(
                    "42704",
                    "there is no table lockkeeper.job here".into(),
                    "Is this the right database?",
                );
            }
            Access::None(why) => return wrong("55000", why, "Jobs are kept by database."),
        }
        let job = match self.value(&jobs::read(id)).await? {
            Some(json) => Job::decode(&json),
            None => {
                let hint = "A job is resumed by the role that began it: log in as that one.";
                return wrong("42704", format!("the role {} has no job {id}", facts.role), hint);
            }
        };
        let job = match job {
            Ok(job) => job,
            Err(error) => return wrong("XX000", error, ""),
        };
        if matches!(job.state.as_str(), "done" | "cancelled") {
            let rows = match job.kind.as_str() {
                "deferred" => String::new(),
                _ => format!(": {} rows", job.rows_done),
            };
            return wrong(
                "55000",
                format!("job {id} is {}{rows}", job.state),
                "Send its statement itself if it is to be done once more.",
            );
        }
        if self.is_lost(&job.statement) {
            return Err(self.encoding_lacks_names_of(id).into());
        }
        let conforming = job
            .settings
            .get("standard_conforming_strings")
            .is_none_or(|value| value == "on");
        let statements = read(job.statement.as_bytes(), conforming).unwrap_or_default();
        let (Some(kind), Some((types, values)), [statement]) =
            (Kind::of(&job.kind), job.parameters(), statements.as_slice())
        else {
            return wrong(
                "0A000",
                format!("job {id} is of a kind that cannot be resumed here"),
                "",
            );
        };
        let mut facts = self.facts(Request::of(statement), Closing::Sync).await?;
        let parameters = Parameters {
            types: types.into(),
            values: values.into(),
            ..Parameters::default()
        };
        if kind == Kind::Write {
            facts.surroundings = self.surroundings(statement, &facts, Place::Alone, &parameters).await?;
        }
        let Some(relation) = facts.target(statement).filter(|relation| relation.oid == job.relation) else {
            let path = job.settings.get("search_path").cloned().unwrap_or_default();
            return wrong(
                "42P01",
                format!("the table of job {id} is not found under its name any more, or another one is"),
                &format!("It was begun with search_path = {path}."),
            );
        };
        let batches = match Batches::resumed(statement, relation, &facts, (id, kind)) {
            Ok(batches) => batches,
            Err(why) => {
                return wrong(
                    "55000",
                    format!("job {id} cannot go on: {why}"),
                    "Its rows up to the last key stay as they are.",
                );
            }
        };
        let identity = jobs::identity(
            &batches.statement,
            batches.relation_oid,
            &parameters.types,
            &parameters.values,
            &batches.seen_by,
        );
        if identity != job.identity {
            let settings: Vec<&str> = batches.seen_by.keys().map(String::as_str).collect();
            return wrong(
                "55000",
                format!(
                    "job {id} was begun with other values of {}, by which row-level security shows other rows",
                    settings.join(", ")
                ),
                "Set them as they were, or send the statement again in a session that has them.",
            );
        }
        Ok((batches, parameters, facts))
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
    async fn create_job_table(&mut self) -> Result<(), End> {
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
}
