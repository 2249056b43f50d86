//! Asks the server what an UPDATE or DELETE would call and check beyond its text, before it is done in batches.

use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::parameters::Parameters;
use super::session::Session;
use crate::plan::Place;
use crate::plan::batches::surroundings::{self, Surroundings};
use crate::plan::facts::Facts;
use crate::plan::statement::Statement;

impl Session {
    /// The statement is put into a rule of a temporary table, and its dependencies are read; all of that is undone. Where the
    /// server does not take it (no right to temporary tables, a name that a rule has itself), whatever could be called counts.
    pub(super) async fn surroundings(
        &mut self,
        statement: &Statement,
        facts: &Facts,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Option<Surroundings>, End> {
        let Some(relation) = facts.target(statement) else {
            return Ok(None);
        };
        let types = match surroundings::types_sql(&parameters.types) {
            None => Vec::new(),
            Some(sql) => {
                let rows = self.ask_harmlessly(Ask::new(sql), place).await?.rows.into_iter();
                rows.map(|row| row.into_iter().next().flatten().unwrap_or_default())
                    .collect()
            }
        };
        let question = |tried| surroundings::sql(statement, relation, &facts.relations, tried);
        let (Some(tried), Some(untried)) = (question(true), question(false)) else {
            return Ok(None);
        };
        let mut answer = None;
        if let Some(trial) = surroundings::trial(statement, &types) {
            // The statement means what it means with the client's search_path; the question is ours.
            let trial = trial.into_iter().map(Ask::as_client);
            let asks: Vec<Ask> = trial.chain([Ask::new(tried)]).collect();
            answer = self.ask_undone(asks, place).await?;
        }
        let answer = match answer {
            Some(answer) => answer,
            None => self.ask_harmlessly(Ask::new(untried), place).await?,
        };
        match Surroundings::decode(answer.value().unwrap_or_default()) {
            Ok(found) => Ok(Some(found)),
            Err(error) => Err(lockkeeper_wire::messages::Report::error(
                "XX000",
                "lockkeeper: the answer of the catalog cannot be read, so the statement was not run",
            )
            .detail(&error)
            .into()),
        }
    }

    /// The last answer; None: one of them failed.
    async fn ask_undone(&mut self, asks: Vec<Ask>, place: Place) -> Result<Option<Answer>, Broken> {
        if place != Place::Alone {
            let answers = unless_refused(self.ask_all_harmlessly(asks, place).await)?;
            return Ok(answers.and_then(|mut answers| answers.pop()));
        }
        let asks = [vec![Ask::as_client("BEGIN")], asks].concat();
        let answers = unless_refused(self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await)?;
        // Should the ROLLBACK fail too, the next statement tells.
        let back = [Ask::as_client("ROLLBACK")];
        unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
        Ok(answers.and_then(|mut answers| answers.pop()))
    }
}
