//! What a transaction drops and makes anew right behind: the removal is taken back, and done by the job that builds the new one.

use super::super::dialogue::{Ask, Closing, Hears};
use super::super::end::End;
use super::super::parameters::Parameters;
use super::super::session::Session;
use super::super::step_context::StepContext;
use super::super::tries::Tries;
use super::pending::DeferredWork;
use crate::plan::deferred::exchange::{is_blind, may_belong, without_removal};
use crate::plan::deferred::{self, New};
use crate::plan::lock::LockMode;
use crate::plan::waiting::Dropped;
use crate::plan::{Mode, Place, Step};

impl DeferredWork {
    /// Whether what comes next matters for an exchange.
    pub fn may_exchange(&self) -> bool {
        !self.dropped.is_empty() || self.pending.iter().any(|p| p.replaces.is_some())
    }
}

impl Session {
    fn drop_point(&self) -> String {
        format!("{}_drop", self.relay.reserved)
    }

    /// Before a removal that the next statement may make up for.
    pub async fn before_drop(&mut self) -> Result<(), End> {
        if !self.deferred.dropped.is_empty() {
            return Ok(());
        }
        let point = [Ask::as_client(format!("SAVEPOINT {}", self.drop_point()))];
        self.relay.ask(&point, Closing::Sync, Hears::Nothing).await?;
        Ok(())
    }

    pub fn after_drop(&mut self, dropped: Dropped, done: bool) {
        match done {
            true => self.deferred.dropped.push(dropped),
            false => self.deferred.dropped.clear(),
        }
        self.relay.watch = self.deferred.looks_on();
    }

    /// The new one is proven with the old one gone; then that comes back. What else was dropped stays to be dropped again.
    pub async fn take_drop_back(&mut self, new: &New, setting: StepContext<'_>) -> Result<(), End> {
        let point = self.drop_point();
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
        let replaced = new.replaces.as_ref().map(|dropped| dropped.sql.clone());
        let others = &mut self.deferred.dropped;
        if let Some(at) = others
            .iter()
            .position(|dropped| Some(&dropped.sql) == replaced.as_ref())
        {
            others.remove(at);
        }
        // The savepoint has taken it with it.
        let table = (new.relation, new.relation_name());
        self.take_table_in_transaction(&table, setting.policy, false).await
    }

    /// Behind the job's row, so that what is taken back next does not take that.
    pub async fn drop_others_again(&mut self, new: &New, setting: StepContext<'_>) -> Result<(), End> {
        let others = std::mem::take(&mut self.deferred.dropped);
        if new.replaces.is_none() {
            // They are dropped, and too much has happened since to take that back.
            return Ok(());
        }
        for other in others {
            self.before_drop().await?;
            self.drop_again(&other, setting).await?;
            self.deferred.dropped.push(other);
        }
        Ok(())
    }

    /// In short tries, as the first time.
    async fn drop_again(&mut self, dropped: &Dropped, setting: StepContext<'_>) -> Result<(), End> {
        let step = Step {
            label: "drop what was replaced".to_string(),
            sql: dropped.sql.clone(),
            mode: Mode::Brief { then: Vec::new() },
            guard: None,
            lock: LockMode::AccessExclusive,
            relation: dropped.table.clone(),
            done_when: None,
            cleanup: None,
            null_message: None,
            rollback: None,
            contract: None,
        };
        let statements = self.read(dropped.sql.as_bytes()).await.unwrap_or_default();
        let Some(statement) = statements.first() else {
            return Ok(());
        };
        let entry = self.entry_of(&statement.sql);
        let mut tries = Tries::default();
        self.step(&step, setting, &mut tries, (&entry, 0)).await?;
        Ok(())
    }

    /// Any other statement ends the chance of an exchange; and one that could see that the old one is there still has it dropped first.
    pub async fn meets_exchange(&mut self, text: &[u8]) -> Result<(), End> {
        if !self.deferred.may_exchange() {
            return Ok(());
        }
        if self.relay.place() != Place::Block {
            self.deferred.dropped.clear();
            return Ok(());
        }
        let conforming = self.relay.reading().conforming;
        if !self.deferred.dropped.is_empty() && !may_belong(text, conforming) {
            self.deferred.dropped.clear();
        }
        let sees = |dropped: &Dropped| !is_blind(text, conforming, dropped);
        let seen: Vec<(i64, Dropped)> = self
            .deferred
            .pending
            .iter()
            .filter_map(|p| Some((p.id, p.replaces.clone().filter(sees)?)))
            .collect();
        if seen.is_empty() {
            return Ok(());
        }
        // ROLLBACK TO may have taken it all back.
        if !self.asks_true(&deferred::is_usable()).await? {
            return Ok(());
        }
        let policy = self.shared.policy();
        let parameters = Parameters::default();
        for (id, dropped) in seen {
            let jobs = self.waiting(Some(&[id])).await?;
            if let Some(job) = jobs.first() {
                let setting = StepContext {
                    policy: &policy,
                    place: Place::Block,
                    parameters: &parameters,
                    statement: &dropped.sql,
                    position_shift: 0,
                    is_held: false,
                };
                self.drop_again(&dropped, setting).await?;
                self.value(&without_removal(id, &job.details.steps)).await?;
            }
            if let Some(pending) = self.deferred.pending.iter_mut().find(|p| p.id == id) {
                pending.replaces = None;
            }
        }
        Ok(())
    }
}
