//! Carries out the proofs of [`crate::plan::outbox::prove`] and the brief steps, in the client's transaction.

use super::super::conduct::{Outcome, Setting, Tries};
use super::super::dialogue::{Answer, Ask, Closing, Hears};
use super::super::journal::Entry;
use super::super::session::Session;
use super::super::wire::Report;
use crate::plan::Run;
use crate::plan::outbox::prove::{Check, Definition, Index, Trial};
use crate::plan::outbox::{self, New};
use crate::plan::policy::Policy;
use std::time::Duration;

/// A check while the transaction holds locks that others wait for may take so long; what it would have found is then found by
/// the job.
const CHECK_UNDER_LOCK_MS: u64 = 1_000;

impl Session {
    /// First the proofs, then the steps: a long read comes before the locks. Columns that the statement adds can only be looked at
    /// afterwards. The unique indexes to come are given back.
    pub(super) async fn carry_out_proven(
        &mut self,
        run: &Run,
        new: &New,
        setting: Setting<'_>,
        holds_locks: bool,
        entry: &mut Entry,
    ) -> Outcome<Vec<(Check, Index)>> {
        if new.adds_columns {
            if let Err(report) = self.conduct(run, setting, entry).await? {
                return Ok(Err(report));
            }
            let uniques = match self.try_on_clone(new, setting).await? {
                Ok(uniques) => uniques,
                Err(report) => return Ok(Err(report)),
            };
            let definitions = match self.unvalidated(new).await? {
                Ok(definitions) => definitions,
                Err(report) => return Ok(Err(report)),
            };
            let checked = self
                .check_all(new, &uniques, &definitions, setting.policy, true)
                .await?;
            return Ok(checked.map(|()| uniques));
        }
        let uniques = match self.try_on_clone(new, setting).await? {
            Ok(uniques) => uniques,
            Err(report) => return Ok(Err(report)),
        };
        // With the old one, its lock goes, under which a long look at the rows would stop everybody.
        let mut holds_locks = holds_locks;
        if new.replaces.is_some() {
            if let Err(report) = self.take_drop_back(new, setting).await? {
                return Ok(Err(report));
            }
            holds_locks = match self.asks_true(outbox::HOLDS_LOCKS).await? {
                Ok(holds) => holds,
                Err(report) => return Ok(Err(report)),
            };
        }
        let definitions = match self.try_steps(run, new, setting, entry).await? {
            Ok(definitions) => definitions,
            Err(report) => return Ok(Err(report)),
        };
        if let Err(report) = self
            .check_all(new, &uniques, &definitions, setting.policy, holds_locks)
            .await?
        {
            return Ok(Err(report));
        }
        Ok(self.conduct(run, setting, entry).await?.map(|_| uniques))
    }

    /// Every index on an empty clone of the table. What is unique about it is told by the server's catalog.
    async fn try_on_clone(&mut self, new: &New, setting: Setting<'_>) -> Outcome<Vec<(Check, Index)>> {
        let mut uniques = Vec::new();
        for trial in &new.trials {
            if let Some(done_when) = &trial.done_when {
                match self.asks_true(done_when).await? {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(report) => return Ok(Err(report)),
                }
            }
            if trial.primary {
                match self.asks_true(&new.has_primary_key()).await? {
                    Ok(false) => {}
                    Ok(true) => {
                        let message = format!("multiple primary keys for table \"{}\" are not allowed", new.table);
                        return Ok(Err(Report::error("42P16", &message)));
                    }
                    Err(report) => return Ok(Err(report)),
                }
            }
            match self.asks_true(&new.name_is_taken(&trial.index)).await? {
                Ok(false) => {}
                Ok(true) => {
                    let message = format!("relation \"{}\" already exists", trial.index);
                    return Ok(Err(Report::error("42P07", &message)));
                }
                Err(report) => return Ok(Err(report)),
            }
            match self.try_one(new, trial, setting).await? {
                Ok(Some(unique)) => {
                    if let Some(check) = unique.check(new, &trial.index) {
                        uniques.push((check, unique));
                    }
                }
                Ok(None) => {}
                Err(report) => return Ok(Err(report)),
            }
        }
        Ok(Ok(uniques))
    }

    async fn try_one(&mut self, new: &New, trial: &Trial, setting: Setting<'_>) -> Outcome<Option<Index>> {
        let made = [
            Ask::as_client(format!("SAVEPOINT {}", self.try_point())),
            Ask::set_local("lock_timeout", &patience(setting.policy)),
            Ask::new(new.as_owner()),
            Ask::new(new.make_clone()),
        ];
        if let Err(report) = self.relay.ask(&made, Closing::Sync, Hears::Nothing).await? {
            let report = report.hint(
                "lockkeeper: an index that is built after COMMIT is tried first, on an empty copy of the table in a temporary one; that copy \
                 could not be made. The role needs the right to make temporary tables (GRANT TEMPORARY ON DATABASE …), and no temporary \
                 table may have the same name.",
            );
            return Ok(Err(report));
        }
        let tried = [Ask::as_client(&trial.sql), Ask::new(new.index_on_clone())];
        let answers = match self.relay.ask(&tried, Closing::Sync, Hears::Notices).await? {
            Ok(answers) => answers,
            Err(mut report) => {
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
                return Ok(Err(report));
            }
        };
        let json = answers.last().and_then(Answer::value).map(str::to_owned);
        if let Err(report) = self.back_to_try_point().await? {
            return Ok(Err(report));
        }
        Ok(match json.map(|json| serde_json::from_str(&json)).transpose() {
            Ok(unique) => Ok(unique),
            Err(error) => Err(Report::error(
                "XX000",
                &format!("lockkeeper: the catalog cannot be read: {error}"),
            )),
        })
    }

    /// The brief steps themselves, undone at once, with their locks: their errors are the server's, and the constraints that they
    /// make are read back from the catalog.
    async fn try_steps(
        &mut self,
        run: &Run,
        new: &New,
        setting: Setting<'_>,
        entry: &Entry,
    ) -> Outcome<Vec<Definition>> {
        if new.validates.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let point = [Ask::as_client(format!("SAVEPOINT {}", self.try_point()))];
        if let Err(report) = self.relay.ask(&point, Closing::Sync, Hears::Nothing).await? {
            return Ok(Err(report));
        }
        for (n, step) in run.steps.iter().enumerate() {
            if let Err(report) = self.step(step, setting, &mut Tries::default(), (entry, n)).await? {
                return Ok(Err(self.fail(run, n, report, setting).await?));
            }
        }
        let definitions = match self.unvalidated(new).await? {
            Ok(definitions) => definitions,
            Err(report) => return Ok(Err(report)),
        };
        Ok(self.back_to_try_point().await?.map(|()| definitions))
    }

    async fn unvalidated(&mut self, new: &New) -> Outcome<Vec<Definition>> {
        if new.validates.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        Ok(match self.value(&new.definitions()).await? {
            Ok(json) => serde_json::from_str(&json.unwrap_or_default())
                .map_err(|error| Report::error("XX000", &format!("lockkeeper: the catalog cannot be read: {error}"))),
            Err(report) => Err(report),
        })
    }

    async fn check_all(
        &mut self,
        new: &New,
        uniques: &[(Check, Index)],
        definitions: &[Definition],
        policy: &Policy,
        bounded: bool,
    ) -> Outcome<()> {
        let definitions = definitions.iter().filter_map(|definition| definition.check(new));
        for check in uniques.iter().map(|(check, _)| check.clone()).chain(definitions) {
            if new.rows_will_change {
                break;
            }
            let names = (new.schema.as_str(), new.table.as_str());
            if let Err(report) = self.check_rows(&check, names, policy, bounded).await? {
                return Ok(Err(report));
            }
        }
        Ok(Ok(()))
    }

    /// The error, if a row violates what is to come.
    pub(super) async fn check_rows(
        &mut self,
        check: &Check,
        table: (&str, &str),
        policy: &Policy,
        bounded: bool,
    ) -> Outcome<()> {
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
        let answered = self.relay.ask(&asks, Closing::Sync, hears).await?;
        if let Err(report) = self.back_to_try_point().await? {
            return Ok(Err(report));
        }
        let skipped = match answered {
            Ok(answers) => match answers.last().and_then(Answer::value) {
                Some(values) => return Ok(Err(violation(check, table, values))),
                None => return Ok(Ok(())),
            },
            Err(report) if report.sqlstate() == "57014" && bounded && !self.cancel.take() => {
                "the transaction holds locks that others wait for, and reading them takes longer than a second"
            }
            Err(report) if report.sqlstate() == "42501" => "the role may not read them",
            Err(report) => return Ok(Err(report)),
        };
        self.relay
            .notice(&format!(
                "the rows of {} are not checked for {} before COMMIT: {skipped}",
                table.1, check.name
            ))
            .await?;
        Ok(Ok(()))
    }

    fn try_point(&self) -> String {
        format!("{}_try", self.relay.reserved)
    }

    async fn back_to_try_point(&mut self) -> Outcome<()> {
        let point = self.try_point();
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        Ok(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?.map(|_| ()))
    }
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
