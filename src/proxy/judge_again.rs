//! Statements that are judged in two goes: an ALTER TABLE that drops a key and makes another, and what met another session's change of the
//! same names.

use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::parameters::Parameters;
use super::rehearse::was_rehearsed;
use super::session::Session;
use super::verdict::{Verdict, or_refused};
use crate::plan::Place;
use crate::plan::deferred::exchange::parts;
use crate::plan::policy::InTransaction;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};
use lockkeeper_wire::messages::Report;

impl Session {
    /// Judges one statement and, where that is the verdict, carries its plan out.
    ///
    /// Where another session made the same change meanwhile, the plan's own steps find its names taken or gone: then the
    /// statement is looked at once more, as the catalog is now.
    /// It takes the statement, whose tree is gone before anything of it runs: what runs may take any time.
    pub(super) async fn verdict(
        &mut self,
        statement: Statement,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        position_shift: usize,
    ) -> Result<Verdict, Broken> {
        if self.relay.dry {
            match self.runs_dry(&statement, closing).await {
                Ok(is_dry) => self.is_dry = is_dry,
                Err(end) => return or_refused(Err(end)),
            }
            if self.is_dry {
                return self
                    .verdict_now(statement, place, parameters, closing, position_shift)
                    .await;
            }
        }
        match self.exchange_in_one(&statement, place, parameters).await {
            Ok(None) => {}
            Ok(Some(verdict)) => return Ok(verdict),
            Err(end) => return or_refused(Err(end)),
        }
        let may_race = place == Place::Alone && matches!(statement.kind, Kind::Ddl);
        let may_wait = place == Place::Alone && self.shared.policy().asks();
        let text = (may_race || may_wait).then(|| statement.sql.clone());
        let first = self
            .verdict_now(statement, place, parameters, closing, position_shift)
            .await?;
        let was_decided = std::mem::take(&mut self.was_decided);
        let raced = may_race
            && matches!(&first, Verdict::Refused(report) if self.raced && names_changed(report) && !was_rehearsed(report));
        let Some(text) = text.filter(|_| raced || was_decided) else {
            return Ok(first);
        };
        let Some(statement) = self.read_again(&text).await else {
            return Ok(first);
        };
        let second = self
            .verdict_now(statement, place, parameters, closing, position_shift)
            .await?;
        // It was no other session: what the first go has committed is said with its error.
        Ok(match (&first, &second) {
            (Verdict::Refused(before), Verdict::Refused(now))
                if has_committed(before) && before.message() == now.message() =>
            {
                first
            }
            _ => second,
        })
    }

    /// One ALTER TABLE that drops a key and makes another: as the two statements that it stands for, in one transaction.
    pub(in super::super) async fn exchange_in_one(
        &mut self,
        statement: &Statement,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Option<Verdict>, End> {
        let policy = self.shared.policy();
        if place == Place::Pipeline || policy.in_transaction != InTransaction::Defer {
            return Ok(None);
        }
        let Some(parts) = parts(statement) else {
            return Ok(None);
        };
        let facts = self.facts(Request::of(statement), Closing::Sync).await?;
        let first = self.read(parts[0].as_bytes()).await.unwrap_or_default();
        let drops = first
            .first()
            .and_then(|first| crate::plan::deferred::exchange::dropped(first, &facts, &policy));
        let ready = !matches!(facts.job_access(), crate::plan::jobs::Access::None(_));
        if drops.is_none() || !ready {
            return Ok(None);
        }
        if place == Place::Alone {
            let begin = [Ask::as_client("BEGIN")];
            self.relay.ask(&begin, Closing::Sync, Hears::Nothing).await?;
        }
        let mut verdict = Verdict::Done("ALTER TABLE".to_string());
        for part in &parts {
            let mut statements = self.read(part.as_bytes()).await.unwrap_or_default();
            if statements.is_empty() {
                continue;
            }
            let statement = statements.remove(0);
            verdict = Box::pin(self.verdict_now(statement, Place::Block, parameters, Closing::Sync, 0)).await?;
            if let Verdict::Forward(_) = &verdict {
                // Small, or let through: it runs as it is.
                let asked = [Ask::as_client(part)];
                verdict = match self.relay.ask(&asked, Closing::Sync, Hears::Notices).await {
                    Ok(_) => Verdict::Done("ALTER TABLE".to_string()),
                    Err(End::Refused(report)) => Verdict::Refused(report),
                    Err(broken) => return Err(broken),
                };
            }
            if let Verdict::Refused(report) = &mut verdict {
                report.remove(b'P');
                break;
            }
        }
        if place == Place::Block {
            return Ok(Some(verdict));
        }
        if let Verdict::Refused(_) = &verdict {
            let back = [Ask::as_client("ROLLBACK")];
            unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
            self.rolled_back().await?;
            return Ok(Some(verdict));
        }
        self.commit("COMMIT").await?;
        Ok(Some(verdict))
    }
}

fn has_committed(report: &Report) -> bool {
    report.text(b'D').contains("lockkeeper: committed before it:")
}

/// duplicate_table, duplicate_object, duplicate_column, undefined_object, undefined_column, unique_violation (of the catalog).
pub(super) fn names_changed(report: &Report) -> bool {
    match report.get(b'C') {
        Some(b"42P07" | b"42710" | b"42701" | b"42704" | b"42703") => true,
        Some(b"23505") => report.get(b's') == Some(b"pg_catalog"),
        _ => false,
    }
}
