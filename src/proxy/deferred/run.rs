//! Carries out the jobs that were left for after COMMIT, each as the role that wrote it.

use super::super::dialogue::{Ask, Closing, Hears};
use super::super::end::{Broken, End, unless_refused};
use super::super::last_words;
use super::super::parameters::Parameters;
use super::super::session::Session;
use super::super::step_context::StepContext;
use super::super::verdict::Verdict;
use super::LOOK_AGAIN;
use super::pending::{Pending, lends};
use crate::plan::catalog::Relation;
use crate::plan::policy::Policy;
use crate::plan::statement::Statement;
use crate::plan::waiting::Waiting;
use crate::plan::{Place, Run, deferred, jobs};
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

impl Session {
    /// `CALL lockkeeper.resume(7)`: the job's own statement with its own parameters, as if it had been sent again.
    pub async fn resume_job(
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
        for proof in [deferred::LENDS_NOTHING, deferred::LENDS_NO_SUPERUSER] {
            match self.value(proof).await? {
                Some(is_safe) if is_safe == "t" => break,
                _ if proof == deferred::LENDS_NOTHING => {}
                _ => return Err(lends(id).into()),
            }
        }
        if self.resume_deferred(id).await? {
            return Ok(Verdict::Done("CALL".to_string()));
        }
        self.resume_write(id, call, policy).await
    }

    /// Outside a transaction what was remembered is either done with or was missed; and a migration tool begins where its last
    /// run has stopped.
    pub async fn run_missed_jobs(&mut self) -> Result<(), End> {
        if self.relay.place() != Place::Alone || self.relay.status != b'I' || self.relay.may_be_chained() {
            return Ok(());
        }
        let missed = std::mem::take(&mut self.deferred.pending);
        self.relay.explains = None;
        if !missed.is_empty() {
            self.run_jobs(missed, true).await?;
        }
        if std::mem::take(&mut self.deferred.look) {
            self.go_on_with_unfinished().await?;
        }
        self.relay.watch = self.deferred.looks_on();
        Ok(())
    }

    pub async fn go_on_with_unfinished(&mut self) -> Result<(), End> {
        if !self.asks_true(&deferred::is_usable()).await? {
            return Ok(());
        }
        let jobs = self.waiting(None).await?;
        let jobs: Vec<Waiting> = jobs.into_iter().filter(|job| !job.is_paused()).collect();
        let Some(first) = jobs.first().map(|job| job.id) else {
            return Ok(());
        };
        if !self.asks_true(deferred::LENDS_NOTHING).await? {
            let why = super::pending::lends(first).message();
            let why = why.strip_prefix("lockkeeper: ").unwrap_or(&why);
            self.relay
                .notice(&format!("an earlier migration is not finished: {why}"))
                .await?;
            return Ok(());
        }
        self.relay
            .notice(&format!(
                "{} of an earlier migration is not finished: it goes on before anything else",
                counted(jobs.len())
            ))
            .await?;
        self.run_all_and_let_go(&jobs).await
    }

    /// Those of the jobs that are there, each as the role that wrote it. `committed`: by the client's COMMIT, which it is told of.
    pub async fn run_jobs(&mut self, pending: Vec<Pending>, committed: bool) -> Result<(), End> {
        let mut roles: Vec<String> = Vec::new();
        for p in &pending {
            if !roles.contains(&p.role) {
                roles.push(p.role.clone());
            }
        }
        let told: Told = if committed { after_the_commit } else { unfinished };
        let mut outcome = Ok(());
        if committed {
            self.relay.stands.push(last_words::OF_JOBS.to_owned());
        }
        for role in roles {
            let ids: Vec<i64> = pending.iter().filter(|p| p.role == role).map(|p| p.id).collect();
            outcome = self.run_as(&role, &ids, told).await;
            match outcome {
                Ok(()) => {}
                Err(End::Refused(_)) => break,
                Err(End::Broken(_)) => return outcome,
            }
        }
        self.relay.stands.clear();
        self.let_go_tables().await?;
        outcome
    }

    pub async fn run_as(&mut self, role: &str, ids: &[i64], told: Told) -> Result<(), End> {
        let asked = [Ask::new("SELECT current_user, pg_catalog.current_setting('role')")];
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await;
        let answers = answers.map_err(|end| end.reworded(all_wait))?;
        let row = answers.first().and_then(|answer| answer.rows.first());
        let mut now = row.into_iter().flatten().map(|value| value.clone().unwrap_or_default());
        let (user, setting) = (now.next().unwrap_or_default(), now.next().unwrap_or_default());
        if user == role {
            return self.run_ids(ids, told).await;
        }
        let set = self.value(&set_role(role)).await;
        set.map_err(|end| end.reworded(all_wait))?;
        let outcome = self.run_ids(ids, told).await;
        if let Err(End::Broken(_)) = outcome {
            return outcome;
        }
        match self.value(&set_role(&setting)).await {
            Ok(_) => outcome,
            // The client must not go on with another role's rights.
            Err(End::Refused(report)) => {
                Err(Broken::Protocol(format!("the role could not be set back: {}", report.message())).into())
            }
            Err(broken) => Err(broken),
        }
    }

    pub async fn run_ids(&mut self, ids: &[i64], told: Told) -> Result<(), End> {
        let usable = self.asks_true(&deferred::is_usable()).await;
        if !usable.map_err(|end| end.reworded(all_wait))? {
            return Ok(());
        }
        let jobs = self.waiting(Some(ids)).await;
        let jobs = jobs.map_err(|end| end.reworded(all_wait))?;
        self.run_all(&jobs, told).await
    }

    /// In order, up to the first that fails.
    pub async fn run_all(&mut self, jobs: &[Waiting], told: Told) -> Result<(), End> {
        let policy = self.shared.policy();
        for (n, job) in jobs.iter().enumerate() {
            let done = self.run_one(job, &policy).await;
            done.map_err(|end| end.reworded(|report| told(job, report, jobs.len() - n - 1)))?;
        }
        Ok(())
    }

    pub async fn run_all_and_let_go(&mut self, jobs: &[Waiting]) -> Result<(), End> {
        let outcome = self.run_all(jobs, unfinished).await;
        if let Err(End::Broken(_)) = outcome {
            return outcome;
        }
        self.let_go_tables().await?;
        outcome
    }

    /// `CALL lockkeeper.resume(7)`: first what came before it on the same table and is not done. False: it is no such job.
    pub async fn resume_deferred(&mut self, id: i64) -> Result<bool, End> {
        if !self.asks_true(&deferred::is_usable()).await? {
            return Ok(false);
        }
        let jobs = self.waiting(None).await?;
        let Some(relation) = jobs.iter().find(|job| job.id == id).map(|job| job.relation) else {
            return Ok(false);
        };
        let before = |job: &Waiting| job.id == id || (job.id < id && job.relation == relation && !job.is_paused());
        let jobs: Vec<Waiting> = jobs.into_iter().filter(before).collect();
        // As they are now, they are what is asked for.
        let asked = jobs.iter().map(|job| (job.id, job.content()));
        self.deferred.own.extend(asked);
        self.run_all_and_let_go(&jobs).await?;
        Ok(true)
    }

    pub async fn run_one(&mut self, job: &Waiting, policy: &Policy) -> Result<(), End> {
        if self.is_lost(&job.statement) || self.is_lost(&serde_json::to_string(&job.details).unwrap_or_default()) {
            return Err(self.encoding_lacks_names_of(job.id).into());
        }
        let name = format!("{}.{}", job.details.schema, job.details.table);
        let held = self.deferred.tables.contains(&job.relation);
        if !held {
            let sql = deferred::lock_table(job.relation);
            let limit = policy.lock.give_up_after_ms;
            if !self.asks_true(&sql).await? {
                // Whoever has it may wait for one of those: they are taken again when their next job comes.
                self.let_go_tables().await?;
                self.wait_for_table(&sql, job.relation, &name, policy, limit).await?;
            }
            self.deferred.tables.push(job.relation);
        }
        // The client is told that it is committed: what has set a limit for its statements does not cut this short.
        self.limits = Default::default();
        let parameters = Parameters::default();
        let setting = StepContext {
            policy,
            place: Place::Alone,
            parameters: &parameters,
            statement: &job.statement,
            position_shift: 0,
            is_held: false,
        };
        self.wait_for_job(job.id, setting).await?;
        let outcome = self.run_locked(job.id, setting).await;
        let unlocked = self.let_go_job(job.id).await;
        if let Err(End::Broken(_)) = outcome {
            return outcome;
        }
        // A lock that stays is let go with the session.
        unless_refused(unlocked)?;
        outcome
    }

    /// The job's lock is held: nobody else moves its row.
    pub async fn run_locked(&mut self, id: i64, setting: StepContext<'_>) -> Result<(), End> {
        let Some(job) = self.waiting(Some(&[id])).await?.pop() else {
            // Another session has finished it, or somebody has given it up.
            return Ok(());
        };
        self.lends_nothing(&job).await?;
        // Of several indexes that are to go some may be there still.
        if !job.there && job.details.removes.is_empty() {
            self.relay
                .notice(&format!(
                    "job {id}: {} is gone, so that nothing is left to do",
                    job.details.table
                ))
                .await?;
            self.value(&deferred::finish(id, "cancelled")).await?;
            return Ok(());
        }
        if !job.details.write {
            self.value(&jobs::take_up(id)).await?;
        }
        let put_back = match self.apply_settings(&job).await {
            Ok(put_back) => put_back,
            Err(End::Refused(report)) => return self.job_failed(id, report).await,
            Err(broken) => return Err(broken),
        };
        let outcome = match job.details.write {
            true => self.run_write(&job, setting).await,
            false => self.run_steps(&job, setting).await,
        };
        if let Err(End::Broken(_)) = outcome {
            return outcome;
        }
        if !put_back.is_empty() {
            match self.relay.ask(&put_back, Closing::Sync, Hears::Nothing).await {
                Ok(_) => {}
                Err(End::Refused(report)) => {
                    let what = format!("settings could not be put back: {}", report.message());
                    return Err(Broken::Protocol(what).into());
                }
                Err(broken) => return Err(broken),
            }
        }
        match outcome {
            // Its row is moved by its batches.
            outcome if job.details.write => outcome,
            Ok(()) => {
                self.relay.notice(&format!("job {id} is done")).await?;
                self.value(&deferred::finish(id, "done")).await?;
                Ok(())
            }
            Err(End::Refused(report)) => self.job_failed(id, report).await,
            Err(broken) => Err(broken),
        }
    }

    pub async fn job_failed(&mut self, id: i64, report: Report) -> Result<(), End> {
        // Should this fail too, the job counts as interrupted.
        unless_refused(self.value(&jobs::stop(id, "failed", &report.message())).await)?;
        Err(report.into())
    }

    pub async fn run_write(&mut self, job: &Waiting, setting: StepContext<'_>) -> Result<(), End> {
        let call = format!("CALL lockkeeper.resume({})", job.id);
        let statements = self.read(call.as_bytes()).await.unwrap_or_default();
        let Some(call) = statements.first() else {
            return Ok(());
        };
        let verdict = self.resume_write(job.id, call, setting.policy).await;
        if let Err(End::Broken(broken)) = verdict {
            return Err(broken.into());
        }
        self.jobs_are_answered().await?;
        match verdict? {
            Verdict::Refused(report) => Err(report.into()),
            _ => Ok(()),
        }
    }

    pub async fn run_steps(&mut self, job: &Waiting, setting: StepContext<'_>) -> Result<(), End> {
        let steps = &job.details.steps;
        let relation = [Relation {
            oid: job.relation,
            schema: job.details.schema.clone(),
            name: job.details.table.clone(),
            kind: 'r',
            bytes: job.bytes,
            rows: job.rows,
            ..Relation::default()
        }];
        for (n, stored) in steps.iter().enumerate().skip(job.details.done) {
            if !self.asks_true(&deferred::goes_on(job.id)).await? {
                let message = format!("lockkeeper: job {} was paused or given up", job.id);
                return Err(Report::error("57014", &message).into());
            }
            if stored.is_concurrent() {
                self.wait_for_idle_holders(job, stored.removes(), setting.policy)
                    .await?;
            }
            let progress = deferred::progress(job.id, n + 1);
            let run = Run {
                rehearsal: None,
                deferral: None,
                findings: Vec::new(),
                notices: Vec::new(),
                steps: vec![stored.step(&progress, job.runs > 0 || stored.removes())],
                tag: String::new(),
                why: vec![format!(
                    "job {}, step {} of {}, after COMMIT",
                    job.id,
                    n + 1,
                    steps.len()
                )],
            };
            let label = &run.steps[0].label;
            self.relay
                .notice(&format!(
                    "job {}, step {} of {}: {label} ({})",
                    job.id,
                    n + 1,
                    steps.len(),
                    run.steps[0].relation
                ))
                .await?;
            self.judged += 1;
            let entry = self.entry_of(&job.statement).planned(&run);
            if let Verdict::Refused(report) = self.carry_out(&run, &relation, setting, entry).await? {
                return Err(report.into());
            }
            if stored.is_concurrent() {
                self.value(&progress).await?;
            }
        }
        Ok(())
    }

    /// A concurrent step waits for transactions that have used the table, without end. One that is idle, perhaps the tool's own second
    /// connection, which waits for this very COMMIT, is named instead.
    pub async fn wait_for_idle_holders(&mut self, job: &Waiting, removes: bool, policy: &Policy) -> Result<(), End> {
        let started = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let asked = [Ask::new(deferred::idle_holders(job.relation, removes))];
            let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
            let row = answers
                .into_iter()
                .next()
                .and_then(|answer| answer.rows.into_iter().next());
            let Some([Some(holders), locks]) = row.as_deref() else {
                return Ok(());
            };
            let table = &job.details.table;
            // A report's snapshot may be kept for a while and then go.
            let (what, limit_ms) = match locks.as_deref() {
                Some("t") => (format!("the lock on {table}"), policy.lock.give_up_in_transaction_ms),
                _ => ("the snapshot".to_string(), policy.lock.give_up_after_ms),
            };
            if started.elapsed().as_millis() as u64 >= limit_ms {
                let message = format!("lockkeeper: job {} waits for {what} of {holders}", job.id);
                return Err(Report::error("55P03", &message).into());
            }
            if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
                told = Some(Instant::now());
                self.relay
                    .notice(&format!("job {} waits for {what} of {holders}", job.id))
                    .await?;
            }
            self.pause(LOOK_AGAIN, Place::Alone).await?;
        }
    }

    /// The settings that the statement was written under; what puts the session's own back.
    pub async fn apply_settings(&mut self, job: &Waiting) -> Result<Vec<Ask>, End> {
        let json = serde_json::to_string(&job.settings).unwrap_or_default();
        let sql = format!(
            "SELECT k.key, k.value, {setting}, s.source = 'session' FROM pg_catalog.jsonb_each_text({}::jsonb) k \
             JOIN pg_catalog.pg_settings s ON s.name = k.key WHERE {setting} <> k.value",
            crate::plan::splice::quote_literal(&json),
            setting = jobs::CLIENTS_SETTING
        );
        let answers = self.relay.ask(&[Ask::new(sql)], Closing::Sync, Hears::Nothing).await?;
        let (mut set, mut put_back) = (Vec::new(), Vec::new());
        let quote = crate::plan::splice::quote_literal;
        let sets = |name: &str, value: &str| {
            Ask::as_client(format!(
                "SELECT pg_catalog.set_config({}, {}, false)",
                quote(name),
                quote(value)
            ))
        };
        for row in answers.into_iter().next().unwrap_or_default().rows {
            let [Some(name), Some(value), Some(before), session] = row.as_slice() else {
                continue;
            };
            set.push(sets(name, value));
            put_back.push(match session.as_deref() {
                Some("t") => sets(name, before),
                _ => Ask::as_client(format!("RESET {}", crate::plan::splice::quote_ident(name))),
            });
        }
        if !set.is_empty() {
            self.relay.ask(&set, Closing::Sync, Hears::Nothing).await?;
        }
        Ok(put_back)
    }
}

/// What the client hears of a job that has failed, with so many behind it.
pub(super) type Told = fn(&Waiting, Report, usize) -> Report;

/// Not one of them could be begun.
pub fn all_wait(report: Report) -> Report {
    report.hint(
        "lockkeeper: the transaction IS committed; what was left for after it waits: lockkeeper jobs --dsn … list",
    )
}

pub fn set_role(role: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('role', {}, false)",
        crate::plan::splice::quote_literal(role)
    )
}

pub fn counted(jobs: usize) -> String {
    match jobs {
        1 => "1 job".to_string(),
        n => format!("{n} jobs"),
    }
}

/// The client must not take it for a failure of its transaction, nor try that again.
pub fn after_the_commit(job: &Waiting, report: Report, behind: usize) -> Report {
    failure(job, report, behind, "the transaction IS committed; after it")
}

pub fn unfinished(job: &Waiting, report: Report, behind: usize) -> Report {
    failure(job, report, behind, "of an earlier transaction, which is committed,")
}

pub fn failure(job: &Waiting, mut report: Report, behind: usize, which: &str) -> Report {
    let id = job.id;
    let message = report.message();
    let cause = message.strip_prefix("lockkeeper: ").unwrap_or(&message);
    let statement = job.statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if message == super::pending::lends(id).message() {
        report.set(
            b'M',
            &format!("lockkeeper: {which} job {id} ({statement}) waits: {cause}"),
        );
        return report;
    }
    let text = format!(
        "lockkeeper: {which} job {id} ({statement}) failed: {cause}; to go on: lockkeeper jobs --dsn … resume {id}"
    );
    report.set(b'M', &text);
    if report.sqlstate().starts_with("40") {
        // By these a client may take the liberty to run its transaction again.
        report.set(b'C', "55000");
    }
    report.remove(b'P');
    report.remove(b'H');
    if behind > 0 {
        report.append(
            b'D',
            &format!("lockkeeper: {} behind it did not run yet.", counted(behind)),
        );
    }
    report.append(
        b'H',
        &format!(
            "Mend the cause. Then send the same statement again, or CALL lockkeeper.resume({id}) through Lockkeeper, or run lockkeeper jobs \
             --dsn … resume {id}; the migration tool's next start goes on with it too. To give it up: lockkeeper jobs --dsn … cancel {id}."
        ),
    );
    report
}
