//! What the statements of a DO block would change: each is asked about before the block runs, whether its values are known by then or not.

use super::dialogue::{Answer, Ask, Closing};
use super::end::End;
use super::guessed::Counted;
use super::inquire::{explain, is_of_the_moment};
use super::parameters::Parameters;
use super::session::Session;
use crate::plan::batches::guess;
use crate::plan::body::unvalued::{self, Unvalued};
use crate::plan::facts::Facts;
use crate::plan::policy::Policy;
use crate::plan::statement::{Kind, Statement};
use crate::plan::{Place, mixed};

fn is_write(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Write | Kind::MixedWrite)
}

/// What is known of one statement.
struct Within {
    /// Some: its values are not known, or it is asked about in a way that cannot fail.
    unvalued: Option<Unvalued>,
    rows: Option<f64>,
}

impl Session {
    /// The rows that each of the block's statements changes, and what goes with these by foreign keys.
    pub(super) async fn judge_within(
        &mut self,
        block: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        closing: Closing,
    ) -> Result<(), End> {
        let all = self.rows_within(block, facts, policy, place).await?;
        let statements = block.body().map_or(&[][..], |body| &body.statements);
        for (inner, within) in statements.iter().zip(all) {
            let (mut cascaded, mut rows, mut many) = (None, within.rows, false);
            let may_pass = within.rows.is_some_and(|rows| rows <= policy.backfill.rows_max as f64);
            if is_write(inner) && may_pass && !self.is_aside() {
                let told = (within.rows, within.unvalued.is_none());
                let parameters = Parameters::default();
                if let (Some(expected), true) = told {
                    let counted = self
                        .count_parts(inner, expected, policy, place, &parameters, closing)
                        .await?;
                    many = counted == Counted::TooMany;
                } else if let (Some(expected), Some(unvalued)) = (within.rows, &within.unvalued)
                    && guess::may_be_many_unvalued(&unvalued.whole, facts, expected, policy.backfill.rows_max as f64)
                {
                    rows = None;
                }
                let along = self
                    .taken_along_by_parts(inner, told, policy, place, &parameters, closing)
                    .await?;
                cascaded = along.many;
                rows = match many {
                    true => Some(policy.backfill.rows_max as f64 + 1.0),
                    false => rows.filter(|_| !along.unsure),
                };
            }
            facts.rows_within.push(rows);
            facts.many_within.push(many);
            facts.cascaded_within.push(cascaded);
        }
        Ok(())
    }

    async fn rows_within(
        &mut self,
        block: &Statement,
        facts: &Facts,
        policy: &Policy,
        place: Place,
    ) -> Result<Vec<Within>, End> {
        let Some(body) = block.body() else {
            return Ok(Vec::new());
        };
        // In a pipeline a question that fails would be the client's failure: all are asked in a way that does not.
        let guarded = place == Place::Pipeline;
        let of = |inner: &Statement| is_write(inner).then(|| unvalued::of(inner, body, guarded)).flatten();
        let made: Vec<Option<Unvalued>> = body.statements.iter().map(|inner| of(inner)).collect();
        let asked: Vec<&Unvalued> = made.iter().flatten().collect();
        let is_plain = |(inner, made): &(&std::sync::Arc<Statement>, &Option<Unvalued>)| {
            is_write(inner) && made.is_none() && !guarded
        };
        let plain = body.statements.iter().zip(&made).filter(is_plain);
        let explains = plain.filter_map(|(inner, _)| explain(inner, &Parameters::default()));
        let wanted: Vec<Vec<Ask>> = explains
            .map(|ask| vec![ask])
            .chain((!asked.is_empty()).then(|| self.about_unvalued(&asked)))
            .collect();
        self.aside.wants_first(wanted)?;
        let rows_max = policy.backfill.rows_max as f64;
        let mut told = self.rows_of_unvalued(&asked, rows_max, place).await?.into_iter();
        let mut all = Vec::with_capacity(made.len());
        for (inner, made) in body.statements.iter().zip(made) {
            let mut rows = None;
            if made.is_some() {
                rows = told.next().flatten();
            } else if is_write(inner) && !guarded {
                let json = self.explained(inner, place, &Parameters::default()).await?;
                rows = json.as_deref().and_then(mixed::changed_rows);
            }
            if is_write(inner) {
                rows = rows.or_else(|| facts.all_rows(&inner.node));
            }
            all.push(Within { unvalued: made, rows });
        }
        Ok(all)
    }

    fn about_unvalued(&self, asked: &[&Unvalued]) -> Vec<Ask> {
        let question = unvalued::question(asked, &format!("{}_unvalued", self.relay.reserved));
        vec![Ask::new(question), Ask::new(unvalued::ANSWER)]
    }

    async fn rows_of_unvalued(
        &mut self,
        asked: &[&Unvalued],
        rows_max: f64,
        place: Place,
    ) -> Result<Vec<Option<f64>>, End> {
        if asked.is_empty() || !unvalued::is_quotable(asked) {
            return Ok(vec![None; asked.len()]);
        }
        let asks = self.about_unvalued(asked);
        match self.ask_all_harmlessly(asks, place).await {
            Ok(answers) => {
                let answer = answers.last().and_then(Answer::value);
                Ok(unvalued::decode(asked, rows_max, answer))
            }
            Err(End::Refused(report)) if place == Place::Pipeline || is_of_the_moment(&report) => Err(report.into()),
            // There is no PL/pgSQL.
            Err(End::Refused(_)) => Ok(vec![None; asked.len()]),
            Err(broken) => Err(broken),
        }
    }
}
