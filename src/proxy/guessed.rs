//! How many rows a MERGE, a WITH that changes data, or a statement of a DO block changes: what the planner expects of the whole, and where it
//! only guesses, the rows of its parts, counted up to the limit and for a short time.

use super::dialogue::Closing;
use super::end::End;
use super::inquire::FAR_BELOW;
use super::parameters::Parameters;
use super::session::Session;
use super::weigh::Weight;
use crate::plan::Place;
use crate::plan::batches::guess;
use crate::plan::mixed;
use crate::plan::policy::Policy;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};
use crate::plan::words::mentions;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Counted {
    /// Nothing of it is guessed, or it cannot be counted.
    Nothing,
    Rows(f64),
    /// More than `rows_max`.
    TooMany,
}

impl Session {
    /// What the planner expects a MERGE or a WITH that changes data to update and delete. Where that is far too little to matter, the
    /// same text is not asked about again for a while.
    pub(super) async fn rows_changed(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
    ) -> Result<f64, End> {
        self.take_stand(closing).await?;
        let (text, types) = (statement.sql.as_bytes(), &parameters.types);
        if self.relay.shapes.passes_text(text, types) {
            return Ok(0.0);
        }
        if self.executes_harmless(statement, closing).await? {
            return Ok(0.0);
        }
        let before = self.relay.shapes.before();
        let json = self.explained(statement, place, parameters).await?;
        let Some(rows) = json.as_deref().and_then(mixed::changed_rows) else {
            return Ok(0.0);
        };
        let rows_max = policy.backfill.rows_max as f64;
        let mut cascades = false;
        let mut rows = rows;
        if rows <= rows_max {
            let counted = self
                .count_parts(statement, rows, policy, place, parameters, closing)
                .await?;
            match counted {
                Counted::Nothing => {}
                Counted::Rows(counted) => rows = rows.max(counted),
                Counted::TooMany => {
                    self.more_were_counted = true;
                    return Ok(rows_max + 1.0);
                }
            }
        }
        if rows <= rows_max {
            let along = self
                .taken_along_by_parts(statement, (Some(rows), true), policy, place, parameters, closing)
                .await?;
            (cascades, self.cascaded) = (along.cascades, along.many);
        }
        // Another session may have prepared something else under that name.
        let executes = mentions(statement.sql.as_bytes(), "execute");
        if rows * FAR_BELOW < rows_max && !executes && !cascades && self.is_steady(statement, closing).await? {
            self.relay.shapes.learn_text(text, types, before, rows, rows_max);
        }
        Ok(rows)
    }

    /// `expected`: by the planner, of all its parts.
    pub(super) async fn count_parts(
        &mut self,
        statement: &Statement,
        expected: f64,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
    ) -> Result<Counted, End> {
        if place == Place::Pipeline {
            return Ok(Counted::Nothing);
        }
        let rows_max = policy.backfill.rows_max as f64;
        let parts = match statement.kind {
            Kind::Write => vec![statement.clone()],
            _ => self.parts_of(statement, closing).await?,
        };
        let mut all = Counted::Nothing;
        for part in &parts {
            let bytes = part.sql.len() + parameters.values.len();
            let weight = self.weigh(part, policy, &parameters.types, bytes, closing).await?;
            let Weight::Estimate(ground) = weight else { continue };
            let is_plain = !ground.relation.ruled && matches!(ground.relation.kind, 'r' | 'p');
            if !is_plain || !guess::may_be_many(part, &ground.relation, expected, rows_max) {
                continue;
            }
            let mut facts = self.facts(Request::of(part), closing).await?;
            facts.estimated_rows = Some(expected);
            if !self.counts_now(part, &mut facts, policy, place, parameters).await? {
                continue;
            }
            if facts.more_were_counted {
                return Ok(Counted::TooMany);
            }
            let before = if let Counted::Rows(rows) = all { rows } else { 0.0 };
            all = Counted::Rows(before + facts.estimated_rows.unwrap_or_default());
        }
        Ok(all)
    }
}
