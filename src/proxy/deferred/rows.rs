//! The rows of `lockkeeper.job` that wait for the client's COMMIT, and the locks that go with them.

use super::super::dialogue::{Ask, Closing, Hears};
use super::super::end::{Broken, End, unless_refused};
use super::super::session::Session;
use super::pending::lends;
use super::{LOOK_AGAIN, LOOK_FOR_CIRCLES};
use crate::plan::facts::Facts;
use crate::plan::jobs::{self, Access, JobSql};
use crate::plan::policy::Policy;
use crate::plan::waiting::Waiting;
use crate::plan::{Place, deferred};
use lockkeeper_wire::messages::Report;
use std::time::Instant;

impl Session {
    /// The role's unfinished deferred jobs.
    pub async fn waiting(&mut self, ids: Option<&[i64]>) -> Result<Vec<Waiting>, End> {
        let ask = Ask {
            catalog: ids.is_none().then(|| "jobs_waiting".to_owned()),
            ..deferred::waiting(ids).into()
        };
        let answer = self.relay.ask_catalog(ask, Closing::Sync).await?;
        self.waiting_in(answer.value().unwrap_or_default())
    }

    /// What they bring counts, where the role has any.
    pub async fn reserve_in(&mut self, facts: &mut Facts) -> Result<(), End> {
        let waiting = match facts.unfinished.take() {
            Some(waiting) => waiting,
            None => self.waiting(None).await?,
        };
        facts.reserve(waiting);
        Ok(())
    }

    /// Its ID.
    pub async fn insert_job(&mut self, access: &Access, sql: JobSql, policy: &Policy) -> Result<i64, End> {
        let could_not_create = |report: Report| {
            let why = match report.sqlstate().as_str() {
                "55P03" => {
                    "which another session is creating in a transaction that is not over: try again later, or once and for all"
                }
                _ => "which could not be created;",
            };
            report.hint(&format!(
                "lockkeeper: what is left for after COMMIT is kept in a table lockkeeper.job, {why} an administrator runs once: \
                 lockkeeper init --dsn …"
            ))
        };
        if *access == Access::Create {
            let created = self.create_job_table_within(policy).await;
            created.map_err(|end| end.reworded(could_not_create))?;
        }
        match self.value(&sql).await {
            Ok(id) => self.keeps(id.and_then(|id| id.parse().ok()).unwrap_or_default()).await,
            Err(End::Refused(report)) if report.sqlstate() == "23505" => Err(Report::error(
                "55000",
                "lockkeeper: the same statement is an unfinished job already, which was paused",
            )
            .hint("See lockkeeper jobs --dsn … list, and resume or cancel it.")
            .into()),
            Err(end) => Err(end),
        }
    }

    /// A row that was just written, which nobody else can see yet.
    pub async fn keeps(&mut self, id: i64) -> Result<i64, End> {
        if self.asks_true(deferred::LENDS_NOTHING).await? {
            return Ok(id);
        }
        let jobs = self.waiting(Some(&[id])).await?;
        self.deferred.own.extend(jobs.iter().map(|job| (id, job.content())));
        Ok(id)
    }

    /// Whether what is in the row can run in this session without lending its rights to whoever wrote it.
    pub async fn lends_nothing(&mut self, job: &Waiting) -> Result<(), End> {
        if self.deferred.own.get(&job.id).is_some_and(|own| *own == job.content()) {
            return Ok(());
        }
        match self.asks_true(deferred::LENDS_NOTHING).await? {
            true => Ok(()),
            false => Err(lends(job.id).into()),
        }
    }

    /// As the server says it of the statement itself.
    pub async fn refuse_read_only(&mut self, tag: &str) -> Result<(), End> {
        let read_only = "SELECT pg_catalog.current_setting('transaction_read_only') = 'on'";
        match self.asks_true(read_only).await? {
            false => Ok(()),
            true => Err(Report::error("25006", &format!("cannot execute {tag} in a read-only transaction")).into()),
        }
    }

    pub async fn withdraw(&mut self, ids: &[i64]) -> Result<(), End> {
        self.value(&deferred::withdraw(ids)).await?;
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        self.relay
            .notice(&format!(
                "job {} is taken back: it was waiting for COMMIT",
                ids.join(", ")
            ))
            .await?;
        Ok(())
    }

    /// Nobody else defers anything on the table until this transaction has ended and its jobs are done.
    pub async fn take_table_in_transaction(
        &mut self,
        (relation, name): &(u32, String),
        policy: &Policy,
        holds_locks: bool,
    ) -> Result<(), End> {
        let limit_ms = match holds_locks {
            true => policy.lock.give_up_in_transaction_ms,
            false => policy.lock.give_up_after_ms,
        };
        let sql = deferred::lock_table_for_transaction(*relation);
        self.wait_for_table(&sql, *relation, name, policy, limit_ms).await
    }

    /// By looking again and again: whoever waited within a statement would have a snapshot, for whose end every concurrent build
    /// waits. So the server does not see the wait, and that nobody waits in a circle has to be seen to here.
    pub async fn wait_for_table(
        &mut self,
        sql: &str,
        relation: u32,
        name: &str,
        policy: &Policy,
        limit_ms: u64,
    ) -> Result<(), End> {
        let place = self.relay.place();
        let started = Instant::now();
        let (mut told, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if self.asks_true(sql).await? {
                return Ok(());
            }
            let holder = unless_refused(self.value(&deferred::table_lock_holder(relation)).await)?;
            let holder = holder.flatten().unwrap_or_else(|| "another session".into());
            if place == Place::Block && looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_CIRCLES) {
                if looked.is_none() {
                    self.value(&deferred::say_that_it_waits(relation)).await?;
                }
                looked = Some(Instant::now());
                if self.asks_true(&deferred::is_waited_for(relation)).await? {
                    let message = format!(
                        "lockkeeper: {holder} is changing {name} in a migration of its own, and waits for a lock of this transaction, which waits \
                         for it: this one gives way; nothing was done here, try again when the other is done"
                    );
                    return Err(Report::error("40P01", &message).into());
                }
            }
            if started.elapsed().as_millis() as u64 >= limit_ms {
                let message = format!(
                    "lockkeeper: {holder} is changing {name} in a migration of its own, which is not done; nothing was done here, try again later"
                );
                return Err(Report::error("55P03", &message).into());
            }
            if told.is_none_or(|told| told.elapsed().as_millis() as u64 >= policy.backfill.notice_ms) {
                told = Some(Instant::now());
                self.relay
                    .notice(&format!(
                        "waiting for {holder}, which is changing {name} in a migration of its own"
                    ))
                    .await?;
            }
            match place {
                Place::Block => self.pause_without_snapshot(LOOK_AGAIN).await?,
                _ => self.pause(LOOK_AGAIN, place).await?,
            }
        }
    }

    /// In the client's transaction: if that is rolled back, the table is gone again.
    pub async fn create_job_table_within(&mut self, policy: &Policy) -> Result<(), End> {
        let before = self.value("SELECT pg_catalog.current_setting('lock_timeout')").await?;
        let before = before.unwrap_or_default();
        let limit = format!("{}ms", policy.lock.give_up_in_transaction_ms);
        // Another session may have begun to make it: then the wait is for that one's end, and what it has made is found.
        let mut asks = vec![
            Ask::set_local("lock_timeout", &limit),
            Ask::as_client("SAVEPOINT lockkeeper_job"),
        ];
        asks.extend(jobs::create_statements().into_iter().map(Ask::new));
        asks.push(Ask::as_client("RELEASE SAVEPOINT lockkeeper_job"));
        match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Ok(_) => {}
            Err(End::Refused(report)) if jobs::was_first(&report.sqlstate()) => {
                let back = [
                    Ask::as_client("ROLLBACK TO SAVEPOINT lockkeeper_job"),
                    Ask::as_client("RELEASE SAVEPOINT lockkeeper_job"),
                ];
                self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
                self.job_table_is_there().await?;
            }
            Err(end) => return Err(end),
        }
        self.value(Ask::set_local("lock_timeout", &before)).await?;
        Ok(())
    }

    pub async fn asks_true(&mut self, sql: impl Into<Ask>) -> Result<bool, End> {
        Ok(self.value(sql).await?.as_deref() == Some("t"))
    }

    /// ROLLBACK TO may have taken the job away, and the table in which it was.
    pub async fn still_waits(&mut self, id: i64) -> Result<bool, End> {
        if !self.asks_true(&deferred::is_usable()).await? {
            return Ok(false);
        }
        let jobs = self.waiting(Some(&[id])).await?;
        Ok(jobs.iter().any(|job| job.there))
    }

    pub async fn let_go_tables(&mut self) -> Result<(), Broken> {
        let tables = std::mem::take(&mut self.deferred.tables);
        let asks: Vec<Ask> = tables
            .iter()
            .map(|table| Ask::new(deferred::unlock_table(*table)))
            .collect();
        if !asks.is_empty() {
            // They go with the session at the latest.
            unless_refused(self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await)?;
        }
        Ok(())
    }
}
