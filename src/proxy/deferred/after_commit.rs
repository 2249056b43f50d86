//! The end of a transaction that has left something to do: the server commits, the jobs run, the client hears of both.

use super::super::dialogue::{Ask, Closing, Hears};
use super::super::end::{Broken, End, unless_refused};
use super::super::session::Session;
use super::pending::{Ending, Pending};
use super::run::counted;
use crate::plan::policy::Policy;
use crate::plan::{Place, deferred};
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::responses::OnAnswer;

impl Session {
    /// COMMIT, in place of the client's: its tag, once what it has left to do is done.
    pub async fn commit(&mut self, sql: &str) -> Result<String, End> {
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
            self.run_missed_jobs().await?;
            return Ok(tag);
        }
        self.committed().await?;
        Ok(tag)
    }

    /// The server has committed.
    pub async fn committed(&mut self) -> Result<(), End> {
        self.settle_uncommitted().await?;
        self.deferred.dropped.clear();
        let pending = std::mem::take(&mut self.deferred.pending);
        self.relay.explains = None;
        let outcome = self.run_jobs(pending, true).await;
        if let Err(End::Refused(_)) = outcome {
            self.relay.watch = self.deferred.looks_on();
        }
        outcome?;
        self.run_missed_jobs().await
    }

    /// Nothing of it is there any more.
    pub async fn rolled_back(&mut self) -> Result<(), Broken> {
        self.settle_uncommitted().await?;
        self.deferred.pending.clear();
        self.relay.explains = None;
        self.deferred.dropped.clear();
        self.relay.watch = self.deferred.looks_on();
        if self.relay.place() == Place::Alone && self.relay.status == b'I' {
            self.let_go_tables().await?;
        }
        Ok(())
    }

    /// While the transaction can still fail: the rows that it has written itself since a unique index was left for later, and the
    /// locks that keep others from beginning the same before the jobs are done.
    pub async fn before_commit(&mut self) -> Result<(), End> {
        let policy = self.shared.policy();
        let pending = std::mem::take(&mut self.deferred.pending);
        let outcome = self.look_at_pending(&pending, &policy).await;
        self.deferred.pending = pending;
        outcome
    }

    async fn look_at_pending(&mut self, pending: &[Pending], policy: &Policy) -> Result<(), End> {
        let ids: Vec<i64> = pending.iter().map(|p| p.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        // ROLLBACK TO may have taken the very table away in which they were.
        if !self.asks_true(&deferred::is_usable()).await? {
            return Ok(());
        }
        let there = self.waiting(Some(&ids)).await?;
        for job in there.iter().filter(|job| job.there) {
            let Some(known) = pending.iter().find(|p| p.id == job.id) else {
                continue;
            };
            if !known.checks.is_empty() {
                let bounded = self.asks_true(deferred::HOLDS_LOCKS).await?;
                if self.asks_true(&deferred::has_written(job.relation)).await? {
                    for check in &known.checks {
                        let names = (known.table.0.as_str(), known.table.1.as_str());
                        self.check_rows(check, names, policy, bounded).await?;
                    }
                }
            }
            // The transaction holds it already, unless the job is an earlier one's.
            let locked = unless_refused(self.asks_true(&deferred::lock_table(job.relation)).await)?;
            if locked == Some(true) {
                self.deferred.tables.push(job.relation);
            }
        }
        Ok(())
    }

    // --- the shapes of COMMIT ---------------------------------------------------------------------------------------

    /// A simple query that ends the transaction, of `len` bytes at the front of `up`.
    pub async fn commit_query(&mut self, len: usize, sql: &str, ending: Ending) -> Result<(), End> {
        if let Some(report) = self.refuses(&ending).await? {
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

    pub async fn end_transaction(&mut self, sql: &str, ending: Ending) -> Result<String, End> {
        if matches!(ending, Ending::Rollback) {
            let answers = self
                .relay
                .ask(&[Ask::as_client(sql)], Closing::Sync, Hears::Notices)
                .await?;
            self.rolled_back().await?;
            let tag = answers.into_iter().next().map(|answer| answer.tag).unwrap_or_default();
            self.run_missed_jobs().await?;
            return Ok(tag);
        }
        self.commit(sql).await
    }

    /// What cannot be followed by jobs, if there are any.
    pub async fn refuses(&mut self, ending: &Ending) -> Result<Option<Report>, End> {
        let (what, why) = match ending {
            Ending::Chained => ("COMMIT AND CHAIN", "begins another transaction at once"),
            Ending::Prepared => ("PREPARE TRANSACTION", "leaves it to another session to commit"),
            _ => return Ok(None),
        };
        // ROLLBACK TO may have taken them away.
        let mut left = Vec::new();
        for pending in std::mem::take(&mut self.deferred.pending) {
            if self.relay.block_failed() || self.still_waits(pending.id).await? {
                left.push(pending);
            }
        }
        self.deferred.pending = left;
        if self.deferred.pending.is_empty() {
            return Ok(None);
        }
        let message = format!(
            "lockkeeper: {what} {why}, and this transaction has left {} for after its COMMIT: send COMMIT instead",
            counted(self.deferred.pending.len())
        );
        Ok(Some(Report::error("0A000", &message).hint("Send COMMIT, then go on.")))
    }

    /// Execute of a portal that is not known to need a look, while something waits for COMMIT: the tag of its answer tells.
    pub async fn execute_watched(&mut self, len: usize) -> Result<(), End> {
        let portal = wire::portal_name(&self.relay.up.unjudged()[..len])
            .unwrap_or_default()
            .to_vec();
        let text = self.deferred.ending_portals.get(&portal).cloned();
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
            if let Some(ending) = ending
                && let Some(report) = self.refuses(&ending).await?
            {
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
                self.run_missed_jobs().await
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
    pub async fn binds_pending_write(&mut self, name: &[u8]) -> Result<(), End> {
        let exchanges = !name.is_empty() && self.deferred.may_exchange();
        if !(self.deferred.has_write() || exchanges)
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
    pub async fn ending_text(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, Broken> {
        if let Some(text) = self.deferred.ending_statements.get(name) {
            return Ok(Some(text.clone()).filter(|text| !text.is_empty()));
        }
        let known = name.is_empty() || self.relay.held.statement(name).is_some();
        if known || self.relay.place() != Place::Block || self.relay.responses.skipping() {
            return Ok(None);
        }
        let text = self.prepared_text(name).await?;
        let text = match crate::plan::gate::gate(&text) {
            crate::plan::gate::Gate::End => text,
            _ => Vec::new(),
        };
        self.deferred.ending_statements.insert(name.to_vec(), text.clone());
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}
