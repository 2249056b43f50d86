//! The end of a transaction that has left something to do: the server commits, the jobs run, the client hears of both.

use super::super::context::Setting;
use super::super::dialogue::{Ask, Closing, Hears};
use super::super::end::{Broken, End, unless_refused};
use super::super::parameters::Parameters;
use super::super::session::Session;
use super::super::verdict::Verdict;
use super::LOOK_AGAIN;
use super::pending::{Ending, Pending};
use crate::plan::catalog::Relation;
use crate::plan::policy::Policy;
use crate::plan::waiting::Waiting;
use crate::plan::{Place, Run, jobs, outbox};
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::responses::OnAnswer;
use std::time::{Duration, Instant};

impl Session {
    /// Outside a transaction what was remembered is either done with or was missed; and a migration tool begins where its last
    /// run has stopped.
    pub(in super::super) async fn at_ease(&mut self) -> Result<(), End> {
        if self.relay.place() != Place::Alone || self.relay.status != b'I' || self.relay.may_be_chained() {
            return Ok(());
        }
        let missed = std::mem::take(&mut self.outbox.pending);
        self.relay.explains = None;
        if !missed.is_empty() {
            self.run_jobs(missed, true).await?;
        }
        if std::mem::take(&mut self.outbox.look) {
            self.go_on_with_unfinished().await?;
        }
        self.relay.watch = self.outbox.looks_on();
        Ok(())
    }

    async fn go_on_with_unfinished(&mut self) -> Result<(), End> {
        if !self.asks_true(&outbox::is_usable()).await? {
            return Ok(());
        }
        let jobs = self.waiting(None).await?;
        let jobs: Vec<Waiting> = jobs.into_iter().filter(|job| !job.is_paused()).collect();
        let Some(first) = jobs.first().map(|job| job.id) else {
            return Ok(());
        };
        if !self.asks_true(outbox::LENDS_NOTHING).await? {
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

    /// COMMIT, in place of the client's: its tag, once what it has left to do is done.
    pub(in super::super) async fn commit(&mut self, sql: &str) -> Result<String, End> {
        let commit = [Ask::as_client(sql)];
        let committed = match self.before_commit().await {
            Ok(()) => self.relay.ask(&commit, Closing::Sync, Hears::Notices).await,
            Err(End::Refused(report)) => {
                // As a deferred constraint's violation would: the error, and the transaction is over.
                let back = [Ask::as_client("ROLLBACK")];
                unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
                Err(report.into())
            }
            Err(broken) => Err(broken),
        };
        let answers = match committed {
            Ok(answers) => answers,
            Err(End::Refused(report)) => {
                self.record_commit(Err(&report)).await?;
                self.rolled_back().await?;
                return Err(report.into());
            }
            Err(broken) => return Err(broken),
        };
        let tag = answers.into_iter().next().map(|answer| answer.tag).unwrap_or_default();
        self.record_commit(Ok(())).await?;
        if tag != "COMMIT" {
            self.rolled_back().await?;
            self.at_ease().await?;
            return Ok(tag);
        }
        self.committed().await?;
        Ok(tag)
    }

    /// The server has committed.
    pub(in super::super) async fn committed(&mut self) -> Result<(), End> {
        self.settle_uncommitted().await?;
        self.outbox.dropped.clear();
        let pending = std::mem::take(&mut self.outbox.pending);
        self.relay.explains = None;
        let outcome = self.run_jobs(pending, true).await;
        if let Err(End::Refused(_)) = outcome {
            self.relay.watch = self.outbox.looks_on();
        }
        outcome?;
        self.at_ease().await
    }

    /// Nothing of it is there any more.
    pub(in super::super) async fn rolled_back(&mut self) -> Result<(), Broken> {
        self.settle_uncommitted().await?;
        self.outbox.pending.clear();
        self.relay.explains = None;
        self.outbox.dropped.clear();
        self.relay.watch = self.outbox.looks_on();
        if self.relay.place() == Place::Alone && self.relay.status == b'I' {
            self.let_go_tables().await?;
        }
        Ok(())
    }

    /// While the transaction can still fail: the rows that it has written itself since a unique index was left for later, and the
    /// locks that keep others from beginning the same before the jobs are done.
    pub(in super::super) async fn before_commit(&mut self) -> Result<(), End> {
        let policy = self.shared.policy();
        let pending = std::mem::take(&mut self.outbox.pending);
        let outcome = self.look_at_pending(&pending, &policy).await;
        self.outbox.pending = pending;
        outcome
    }

    async fn look_at_pending(&mut self, pending: &[Pending], policy: &Policy) -> Result<(), End> {
        let ids: Vec<i64> = pending.iter().map(|p| p.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        // ROLLBACK TO may have taken the very table away in which they were.
        if !self.asks_true(&outbox::is_usable()).await? {
            return Ok(());
        }
        let there = self.waiting(Some(&ids)).await?;
        for job in there.iter().filter(|job| job.there) {
            let Some(known) = pending.iter().find(|p| p.id == job.id) else {
                continue;
            };
            if !known.checks.is_empty() {
                let bounded = self.asks_true(outbox::HOLDS_LOCKS).await?;
                if self.asks_true(&outbox::has_written(job.relation)).await? {
                    for check in &known.checks {
                        let names = (known.table.0.as_str(), known.table.1.as_str());
                        self.check_rows(check, names, policy, bounded).await?;
                    }
                }
            }
            // The transaction holds it already, unless the job is an earlier one's.
            let locked = unless_refused(self.asks_true(&outbox::lock_table(job.relation)).await)?;
            if locked == Some(true) {
                self.outbox.tables.push(job.relation);
            }
        }
        Ok(())
    }

    async fn let_go_tables(&mut self) -> Result<(), Broken> {
        let tables = std::mem::take(&mut self.outbox.tables);
        let asks: Vec<Ask> = tables
            .iter()
            .map(|table| Ask::new(outbox::unlock_table(*table)))
            .collect();
        if !asks.is_empty() {
            // They go with the session at the latest.
            unless_refused(self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await)?;
        }
        Ok(())
    }

    /// Those of the jobs that are there, each as the role that wrote it. `committed`: by the client's COMMIT, which it is told of.
    pub(super) async fn run_jobs(&mut self, pending: Vec<Pending>, committed: bool) -> Result<(), End> {
        let mut roles: Vec<String> = Vec::new();
        for p in &pending {
            if !roles.contains(&p.role) {
                roles.push(p.role.clone());
            }
        }
        let told: Told = if committed { after_the_commit } else { unfinished };
        let mut outcome = Ok(());
        for role in roles {
            let ids: Vec<i64> = pending.iter().filter(|p| p.role == role).map(|p| p.id).collect();
            outcome = self.run_as(&role, &ids, told).await;
            match outcome {
                Ok(()) => {}
                Err(End::Refused(_)) => break,
                Err(End::Broken(_)) => return outcome,
            }
        }
        self.let_go_tables().await?;
        outcome
    }

    async fn run_as(&mut self, role: &str, ids: &[i64], told: Told) -> Result<(), End> {
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

    async fn run_ids(&mut self, ids: &[i64], told: Told) -> Result<(), End> {
        let usable = self.asks_true(&outbox::is_usable()).await;
        if !usable.map_err(|end| end.reworded(all_wait))? {
            return Ok(());
        }
        let jobs = self.waiting(Some(ids)).await;
        let jobs = jobs.map_err(|end| end.reworded(all_wait))?;
        self.run_all(&jobs, told).await
    }

    /// In order, up to the first that fails.
    async fn run_all(&mut self, jobs: &[Waiting], told: Told) -> Result<(), End> {
        let policy = self.shared.policy();
        for (n, job) in jobs.iter().enumerate() {
            let done = self.run_one(job, &policy).await;
            done.map_err(|end| end.reworded(|report| told(job, report, jobs.len() - n - 1)))?;
        }
        Ok(())
    }

    async fn run_all_and_let_go(&mut self, jobs: &[Waiting]) -> Result<(), End> {
        let outcome = self.run_all(jobs, unfinished).await;
        if let Err(End::Broken(_)) = outcome {
            return outcome;
        }
        self.let_go_tables().await?;
        outcome
    }

    /// `CALL lockkeeper.resume(7)`: first what came before it on the same table and is not done. False: it is no such job.
    pub(in super::super) async fn resume_deferred(&mut self, id: i64) -> Result<bool, End> {
        if !self.asks_true(&outbox::is_usable()).await? {
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
        self.outbox.own.extend(asked);
        self.run_all_and_let_go(&jobs).await?;
        Ok(true)
    }

    async fn run_one(&mut self, job: &Waiting, policy: &Policy) -> Result<(), End> {
        if self.is_lost(&job.statement) || self.is_lost(&serde_json::to_string(&job.details).unwrap_or_default()) {
            return Err(self.encoding_lacks_names_of(job.id).into());
        }
        let name = format!("{}.{}", job.details.schema, job.details.table);
        let held = self.outbox.tables.contains(&job.relation);
        if !held {
            let sql = outbox::lock_table(job.relation);
            let limit = policy.lock.give_up_after_ms;
            if !self.asks_true(&sql).await? {
                // Whoever has it may wait for one of those: they are taken again when their next job comes.
                self.let_go_tables().await?;
                self.wait_for_table(&sql, job.relation, &name, policy, limit).await?;
            }
            self.outbox.tables.push(job.relation);
        }
        // The client is told that it is committed: what has set a limit for its statements does not cut this short.
        self.limits = Default::default();
        let parameters = Parameters::default();
        let setting = Setting {
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
    async fn run_locked(&mut self, id: i64, setting: Setting<'_>) -> Result<(), End> {
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
            self.value(&outbox::finish(id, "cancelled")).await?;
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
                self.value(&outbox::finish(id, "done")).await?;
                Ok(())
            }
            Err(End::Refused(report)) => self.job_failed(id, report).await,
            Err(broken) => Err(broken),
        }
    }

    async fn job_failed(&mut self, id: i64, report: Report) -> Result<(), End> {
        // Should this fail too, the job counts as interrupted.
        unless_refused(self.value(&jobs::stop(id, "failed", &report.message())).await)?;
        Err(report.into())
    }

    async fn run_write(&mut self, job: &Waiting, setting: Setting<'_>) -> Result<(), End> {
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

    async fn run_steps(&mut self, job: &Waiting, setting: Setting<'_>) -> Result<(), End> {
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
            if !self.asks_true(&outbox::goes_on(job.id)).await? {
                let message = format!("lockkeeper: job {} was paused or given up", job.id);
                return Err(Report::error("57014", &message).into());
            }
            if stored.is_concurrent() {
                self.wait_for_idle_holders(job, stored.removes(), setting.policy)
                    .await?;
            }
            let progress = outbox::progress(job.id, n + 1);
            let run = Run {
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
    async fn wait_for_idle_holders(&mut self, job: &Waiting, removes: bool, policy: &Policy) -> Result<(), End> {
        let started = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let asked = [Ask::new(outbox::idle_holders(job.relation, removes))];
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
    async fn apply_settings(&mut self, job: &Waiting) -> Result<Vec<Ask>, End> {
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

    // --- the shapes of COMMIT ---------------------------------------------------------------------------------------

    /// A simple query that ends the transaction, of `len` bytes at the front of `up`.
    pub(in super::super) async fn commit_query(&mut self, len: usize, sql: &str, ending: Ending) -> Result<(), End> {
        if let Some(report) = self.refuses(&ending) {
            return Err(report.into());
        }
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        match self.end_transaction(sql, ending).await {
            Ok(tag) => wire::put_command_complete(&mut out, &tag),
            Err(End::Refused(report)) => report.put_error(&mut out, self.relay.encoding()),
            Err(broken) => return Err(broken),
        }
        wire::put_ready(&mut out, self.relay.status);
        Ok(self.relay.tell(&out).await?)
    }

    pub(in super::super) async fn end_transaction(&mut self, sql: &str, ending: Ending) -> Result<String, End> {
        if matches!(ending, Ending::Rollback) {
            let answers = self
                .relay
                .ask(&[Ask::as_client(sql)], Closing::Sync, Hears::Notices)
                .await?;
            self.rolled_back().await?;
            let tag = answers.into_iter().next().map(|answer| answer.tag).unwrap_or_default();
            self.at_ease().await?;
            return Ok(tag);
        }
        self.commit(sql).await
    }

    /// What cannot be followed by jobs, if there are any.
    pub(in super::super) fn refuses(&self, ending: &Ending) -> Option<Report> {
        if self.outbox.pending.is_empty() {
            return None;
        }
        let (what, why) = match ending {
            Ending::Chained => ("COMMIT AND CHAIN", "begins another transaction at once"),
            Ending::Prepared => ("PREPARE TRANSACTION", "leaves it to another session to commit"),
            _ => return None,
        };
        let message = format!(
            "lockkeeper: {what} {why}, and this transaction has left {} for after its COMMIT: send COMMIT instead",
            counted(self.outbox.pending.len())
        );
        Some(Report::error("0A000", &message).hint("Send COMMIT, then go on."))
    }

    /// Execute of a portal that is not known to need a look, while something waits for COMMIT: the tag of its answer tells.
    pub(in super::super) async fn execute_watched(&mut self, len: usize) -> Result<(), End> {
        let portal = wire::portal_name(&self.relay.up.unjudged()[..len])
            .unwrap_or_default()
            .to_vec();
        let text = self.outbox.ending_portals.get(&portal).cloned();
        if let Some(text) = text
            && self.relay.place() == Place::Block
            && !self.relay.responses.skipping()
        {
            let statements = self.read(&text).await.unwrap_or_default();
            let ending = match statements.as_slice() {
                [statement] => super::pending::ending(statement),
                _ => None,
            };
            if let Some(Ending::Commit) = ending {
                self.before_commit().await?;
            }
            if let Some(report) = ending.and_then(|ending| self.refuses(&ending)) {
                return Err(report.into());
            }
        }
        self.relay.pass_frame_for(len, OnAnswer::End);
        let answered = self.relay.settle().await?;
        let Some(tag) = answered.tag.filter(|_| answered.is_kept) else {
            return Ok(());
        };
        // Nothing is uncommitted, so that a Sync harms nothing.
        unless_refused(self.relay.ask(&[], Closing::Sync, Hears::Nothing).await)?;
        let outcome = match tag == "COMMIT" {
            true => self.committed().await,
            false => {
                self.rolled_back().await?;
                self.at_ease().await
            }
        };
        let mut out = BytesMut::new();
        match outcome {
            Ok(()) => wire::put_command_complete(&mut out, &tag),
            Err(End::Broken(broken)) => return Err(broken.into()),
            Err(End::Refused(report)) => {
                self.relay.discard_to_sync();
                report.put_error(&mut out, self.relay.encoding());
            }
        }
        Ok(self.relay.tell(&out).await?)
    }

    /// A statement that was prepared before an UPDATE or DELETE was left for later, whose rows it would meet.
    pub(in super::super) async fn binds_pending_write(&mut self, name: &[u8]) -> Result<(), End> {
        let exchanges = !name.is_empty() && self.outbox.may_exchange();
        if !(self.outbox.has_write() || exchanges)
            || self.relay.place() != Place::Block
            || self.relay.responses.skipping()
        {
            return Ok(());
        }
        // How the server read what is not held is not known any more.
        let (text, known) = match self.relay.held.statement(name) {
            Some(held) => (
                held.text.to_vec(),
                held.reading.as_ref().map(|reading| reading.conforming),
            ),
            None => (self.prepared_text(name).await?, None),
        };
        let readings = match known {
            Some(conforming) => vec![conforming],
            None if text.contains(&b'\\') => vec![true, false],
            None => vec![true],
        };
        if exchanges {
            self.meets_exchange(&text).await?;
        }
        self.meets_pending_write(&text, &readings).await
    }

    /// Empty: it is not there.
    async fn prepared_text(&mut self, name: &[u8]) -> Result<Vec<u8>, Broken> {
        let sql = format!(
            "SELECT p.statement FROM pg_catalog.pg_prepared_statements p WHERE p.name = {} AND NOT p.from_sql",
            crate::plan::splice::quote_literal(&String::from_utf8_lossy(name))
        );
        let text = unless_refused(self.value(&sql).await)?;
        Ok(text.flatten().unwrap_or_default().into_bytes())
    }

    /// The text of a named statement that was prepared before there was a reason to look, if it ends a transaction.
    pub(in super::super) async fn ending_text(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        if let Some(text) = self.outbox.ending_statements.get(name) {
            return Ok(Some(text.clone()).filter(|text| !text.is_empty()));
        }
        let known = name.is_empty() || self.relay.held.statement(name).is_some();
        if known || self.relay.place() != Place::Block || self.relay.responses.skipping() {
            return Ok(None);
        }
        let text = self.prepared_text(name).await?;
        let text = match crate::plan::statement::gate(&text) {
            crate::plan::statement::Gate::End => text,
            _ => Vec::new(),
        };
        self.outbox.ending_statements.insert(name.to_vec(), text.clone());
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// What the client hears of a job that has failed, with so many behind it.
type Told = fn(&Waiting, Report, usize) -> Report;

/// Not one of them could be begun.
fn all_wait(report: Report) -> Report {
    report.hint(
        "lockkeeper: the transaction IS committed; what was left for after it waits: lockkeeper jobs --dsn … list",
    )
}

fn set_role(role: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('role', {}, false)",
        crate::plan::splice::quote_literal(role)
    )
}

fn counted(jobs: usize) -> String {
    match jobs {
        1 => "1 job".to_string(),
        n => format!("{n} jobs"),
    }
}

/// The client must not take it for a failure of its transaction, nor try that again.
fn after_the_commit(job: &Waiting, report: Report, behind: usize) -> Report {
    failure(job, report, behind, "the transaction IS committed; after it")
}

fn unfinished(job: &Waiting, report: Report, behind: usize) -> Report {
    failure(job, report, behind, "of an earlier transaction, which is committed,")
}

fn failure(job: &Waiting, mut report: Report, behind: usize, which: &str) -> Report {
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
