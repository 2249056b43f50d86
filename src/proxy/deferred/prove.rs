//! Carries out the proofs of [`crate::plan::deferred::prove`] and the brief steps, in the client's transaction.

use super::super::dialogue::{Answer, Ask, Closing, Hears};
use super::super::end::End;
use super::super::entry::Entry;
use super::super::session::Session;
use super::super::step_context::StepContext;
use super::super::tries::Tries;
use crate::plan::Run;
use crate::plan::deferred::prove::{Check, Definition, Index};
use crate::plan::deferred::{self, New, Trial};
use crate::plan::policy::Policy;
use lockkeeper_wire::messages::Report;
use std::time::Duration;

/// A check while the transaction holds locks that others wait for may take so long; what it would have found is then found by
/// the job.
const CHECK_UNDER_LOCK_MS: u64 = 1_000;

impl Session {
    /// First the proofs, then the steps: a long read comes before the locks. Columns that the statement adds can only be looked at
    /// afterwards. The unique indexes to come are given back.
    pub async fn carry_out_proven(
        &mut self,
        run: &Run,
        new: &New,
        setting: StepContext<'_>,
        holds_locks: bool,
        entry: &mut Entry,
    ) -> Result<Vec<(Check, Index)>, End> {
        if new.adds_columns {
            self.conduct(run, setting, entry).await?;
            let uniques = self.try_on_clone(new, setting).await?;
            let definitions = self.unvalidated(new).await?;
            self.check_all(new, &uniques, &definitions, setting.policy, true)
                .await?;
            return Ok(uniques);
        }
        let uniques = self.try_on_clone(new, setting).await?;
        // With the old one, its lock goes, under which a long look at the rows would stop everybody.
        let mut holds_locks = holds_locks;
        if new.replaces.is_some() {
            self.take_drop_back(new, setting).await?;
            holds_locks = self.asks_true(deferred::HOLDS_LOCKS).await?;
        }
        let definitions = self.try_steps(run, new, setting, entry).await?;
        self.check_all(new, &uniques, &definitions, setting.policy, holds_locks)
            .await?;
        self.conduct(run, setting, entry).await?;
        Ok(uniques)
    }

    /// Every index on an empty clone of the table. What is unique about it is told by the server's catalog.
    async fn try_on_clone(&mut self, new: &New, setting: StepContext<'_>) -> Result<Vec<(Check, Index)>, End> {
        let mut uniques = Vec::new();
        for trial in &new.trials {
            if let Some(done_when) = &trial.done_when
                && self.asks_true(done_when).await?
            {
                continue;
            }
            if trial.primary && self.asks_true(&new.has_primary_key()).await? {
                let message = format!("multiple primary keys for table \"{}\" are not allowed", new.table);
                return Err(Report::error("42P16", &message).into());
            }
            if self.asks_true(&new.name_is_taken(&trial.index)).await? {
                let message = format!("relation \"{}\" already exists", trial.index);
                return Err(Report::error("42P07", &message).into());
            }
            if let Some(unique) = self.try_one(new, trial, setting).await?
                && let Some(check) = unique.check(new, &trial.index)
            {
                uniques.push((check, unique));
            }
        }
        Ok(uniques)
    }

    async fn try_one(&mut self, new: &New, trial: &Trial, setting: StepContext<'_>) -> Result<Option<Index>, End> {
        let made = [
            Ask::as_client(format!("SAVEPOINT {}", self.try_point())),
            Ask::set_local("lock_timeout", &patience(setting.policy)),
            Ask::new(new.as_owner()),
            Ask::new(new.make_clone()),
        ];
        let no_copy = |report: Report| {
            report.hint(
                "lockkeeper: an index that is built after COMMIT is tried first, on an empty copy of the table in a temporary one; that copy \
                 could not be made. The role needs the right to make temporary tables (GRANT TEMPORARY ON DATABASE …), and no temporary \
                 table may have the same name.",
            )
        };
        let made = self.relay.ask(&made, Closing::Sync, Hears::Nothing).await;
        made.map_err(|end| end.reworded(no_copy))?;
        let tried = [Ask::as_client(&trial.sql), Ask::new(new.index_on_clone())];
        let positioned = |mut report: Report| {
            let position = report.text(b'P').parse::<usize>().ok().zip(trial.position);
            match position {
                Some((at, (from, moved))) => {
                    let at = if at > from {
                        at.saturating_add_signed(-moved)
                    } else {
                        at
                    };
                    report.set(b'P', &(at + setting.position_shift).to_string());
                }
                None => report.remove(b'P'),
            }
            report
        };
        let answers = self.relay.ask(&tried, Closing::Sync, Hears::Notices).await;
        let answers = answers.map_err(|end| end.reworded(positioned))?;
        let json = answers.last().and_then(Answer::value).map(str::to_owned);
        self.back_to_try_point().await?;
        let unique = json.map(|json| serde_json::from_str(&json)).transpose();
        unique.map_err(unreadable)
    }

    /// The brief steps themselves, undone at once, with their locks: their errors are the server's, and the constraints that they
    /// make are read back from the catalog.
    async fn try_steps(
        &mut self,
        run: &Run,
        new: &New,
        setting: StepContext<'_>,
        entry: &Entry,
    ) -> Result<Vec<Definition>, End> {
        if new.validates.is_empty() {
            return Ok(Vec::new());
        }
        let point = [Ask::as_client(format!("SAVEPOINT {}", self.try_point()))];
        self.relay.ask(&point, Closing::Sync, Hears::Nothing).await?;
        for (n, step) in run.steps.iter().enumerate() {
            match self.step(step, setting, &mut Tries::default(), (entry, n)).await {
                Ok(_) => {}
                Err(End::Refused(report)) => return Err(self.fail(run, n, report, setting).await?.into()),
                Err(broken) => return Err(broken),
            }
        }
        let definitions = self.unvalidated(new).await?;
        self.back_to_try_point().await?;
        Ok(definitions)
    }

    async fn unvalidated(&mut self, new: &New) -> Result<Vec<Definition>, End> {
        if new.validates.is_empty() {
            return Ok(Vec::new());
        }
        let json = self.value(&new.definitions()).await?.unwrap_or_default();
        serde_json::from_str(&json).map_err(unreadable)
    }

    async fn check_all(
        &mut self,
        new: &New,
        uniques: &[(Check, Index)],
        definitions: &[Definition],
        policy: &Policy,
        bounded: bool,
    ) -> Result<(), End> {
        let definitions = definitions.iter().filter_map(|definition| definition.check(new));
        for check in uniques.iter().map(|(check, _)| check.clone()).chain(definitions) {
            if new.rows_will_change {
                break;
            }
            let names = (new.schema.as_str(), new.table.as_str());
            self.check_rows(&check, names, policy, bounded).await?;
        }
        Ok(())
    }

    /// The error, if a row violates what is to come.
    pub async fn check_rows(
        &mut self,
        check: &Check,
        table: (&str, &str),
        policy: &Policy,
        bounded: bool,
    ) -> Result<(), End> {
        let limit = if bounded { CHECK_UNDER_LOCK_MS } else { 0 };
        let point = self.try_point();
        let mut asks = vec![
            Ask::as_client(format!("SAVEPOINT {point}")),
            Ask::set_local_all(&[
                ("statement_timeout", limit.to_string()),
                ("lock_timeout", patience(policy)),
            ]),
        ];
        asks.extend(check.as_owner.as_ref().map(Ask::new));
        // Read with our search_path, run with the client's, which functions in it may rely on.
        asks.push(Ask::new(format!("DECLARE {point} NO SCROLL CURSOR FOR {}", check.sql)));
        asks.push(Ask::as_client(format!("FETCH FROM {point}")));
        let label = format!("checking the rows of {} for {}", table.1, check.name);
        let hears = Hears::Progress {
            what: &label,
            every: Duration::from_millis(policy.backfill.notice_ms),
            waits: None,
        };
        let answered = self.relay.ask(&asks, Closing::Sync, hears).await;
        if let Err(End::Broken(broken)) = answered {
            return Err(broken.into());
        }
        self.back_to_try_point().await?;
        let skipped = match answered {
            Ok(answers) => match answers.last().and_then(Answer::value) {
                Some(values) => return Err(violation(check, table, values).into()),
                None => return Ok(()),
            },
            Err(End::Refused(report)) if report.sqlstate() == "57014" && bounded && !self.cancel.take() => {
                "the transaction holds locks that others wait for, and reading them takes longer than a second"
            }
            Err(End::Refused(report)) if report.sqlstate() == "42501" => "the role may not read them",
            Err(end) => return Err(end),
        };
        self.relay
            .notice(&format!(
                "the rows of {} are not checked for {} before COMMIT: {skipped}",
                table.1, check.name
            ))
            .await?;
        Ok(())
    }

    fn try_point(&self) -> String {
        format!("{}_try", self.relay.reserved)
    }

    async fn back_to_try_point(&mut self) -> Result<(), End> {
        let point = self.try_point();
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
        Ok(())
    }
}

fn unreadable(error: serde_json::Error) -> End {
    Report::error("XX000", &format!("lockkeeper: the catalog cannot be read: {error}")).into()
}

fn patience(policy: &Policy) -> String {
    format!("{}ms", policy.lock.give_up_in_transaction_ms)
}

/// As the server says it, so that tools that know its errors know this one.
fn violation(check: &Check, table: (&str, &str), values: &str) -> Report {
    let mut report = Report::error(check.sqlstate, &check.message);
    if let Some(detail) = &check.detail {
        report = report.detail(&detail.replacen("{}", values, 1));
    }
    report.set(b's', table.0);
    report.set(b't', table.1);
    if check.sqlstate != "23502" {
        report.set(b'n', &check.name);
    }
    report
}
