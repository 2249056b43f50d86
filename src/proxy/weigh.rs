//! How many rows an UPDATE or DELETE of an application may touch: what is remembered first, then what the catalog says of its
//! target, then what the planner expects; the whole catalog question is asked only of what may be large.

use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::inquire::{COUNT_MS_MAX, FAR_BELOW, closing_at};
use super::parameters::Parameters;
use super::session::Session;
use super::shapes::{STANDING, Verdict};
use crate::plan::batches::bound::{self, Bound, Ground};
use crate::plan::batches::{self, Target, cascade, count, guess};
use crate::plan::catalog::Relation;
use crate::plan::facts::{Cascaded, Facts, Told};
use crate::plan::mixed::alone::{alone, executed_name};
use crate::plan::policy::Policy;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};
use crate::plan::{Place, deferred, jobs};
use std::sync::Arc;

/// A bound must leave room for what is written while it is remembered.
const ROOM: f64 = 2.0;
/// OIDs below are of the server's own types.
const FIRST_OWN_OID: u32 = 16_384;
/// real and double precision: several large integers and long numerics are equal to one of these.
const INEXACT_OIDS: [u32; 2] = [700, 701];

/// What the target tells.
pub(super) enum Weight {
    /// It may pass.
    Light,
    /// The planner must be asked about this text.
    Estimate(Arc<Ground>),
    /// A job is at work on its table: the whole question is to be asked.
    Unknown,
}

/// What goes with a statement's rows by foreign keys.
pub(super) enum Along {
    Few(f64),
    Many(Cascaded),
    /// The functions in its condition must be known first.
    AskFirst,
}

/// What goes with the rows of a statement's parts.
#[derive(Default)]
pub(super) struct ByParts {
    /// Some foreign key changes or deletes rows with them.
    pub cascades: bool,
    pub many: Option<Cascaded>,
    /// Few are expected, but some values have many.
    pub unsure: bool,
}

/// The rows of the target alone, where the catalog bounds them.
fn of_its_own(statement: &Statement, ground: &Ground, policy: &Policy, types: &[u8], bytes: usize) -> Option<f64> {
    if is_small(statement, ground, policy) {
        return Some(0.0);
    }
    if has_own_types(types) {
        return None;
    }
    let bound = bound::bound(statement, ground)?.of_message(bytes);
    (bound * ROOM <= policy.backfill.rows_max as f64).then_some(bound)
}

/// A parameter's type may have an equality of its own. Behind their number.
fn has_own_types(types: &[u8]) -> bool {
    types.get(2..).unwrap_or_default().chunks_exact(4).any(|oid| {
        let oid = oid.try_into().map_or(u32::MAX, u32::from_be_bytes);
        oid >= FIRST_OWN_OID || INEXACT_OIDS.contains(&oid)
    })
}

fn is_small(statement: &Statement, ground: &Ground, policy: &Policy) -> bool {
    !matches!(
        batches::target(statement, &ground.relation, policy.small_bytes),
        Target::Unknown | Target::Pinned
    )
}

impl Session {
    /// Whether an UPDATE or DELETE may pass. False: the whole question is to be asked. A refusal is about this moment (a
    /// cancel request, a timeout).
    pub(super) async fn is_light(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
    ) -> Result<bool, End> {
        let bytes = statement.sql.len() + parameters.values.len();
        let ground = match self.weigh(statement, policy, &parameters.types, bytes, closing).await? {
            Weight::Light => return Ok(true),
            Weight::Unknown => return Ok(false),
            Weight::Estimate(ground) => ground,
        };
        let before = self.relay.shapes.before();
        let rows_max = policy.backfill.rows_max as f64;
        let (mut own, mut with_it) = (None, 0.0);
        if !cascade::hops(statement, &ground).is_empty() {
            own = of_its_own(statement, &ground, policy, &parameters.types, bytes);
            match self
                .taken_along(statement, &ground, (None, None), policy, place, parameters)
                .await?
            {
                Along::Few(rows) => with_it = rows,
                Along::Many(many) => {
                    self.cascaded = Some(many);
                    return Ok(false);
                }
                Along::AskFirst => {
                    self.cascading = Some(ground);
                    return Ok(false);
                }
            }
        }
        let expected = match own {
            Some(own) => own,
            None => {
                let json = self.explained(statement, place, parameters).await?;
                let expected = json.and_then(|json| batches::explained_rows(statement, &ground.relation, &json));
                // The statement itself will fail in the same way.
                let Some(expected) = expected else { return Ok(true) };
                if expected * FAR_BELOW > rows_max {
                    return Ok(false);
                }
                if guess::may_be_many(statement, &ground.relation, expected, rows_max) {
                    let is_learnt = ground.is_plain() && cascade::hops(statement, &ground).is_empty();
                    self.guessed = is_learnt.then_some(before);
                    return Ok(false);
                }
                expected
            }
        };
        if ground.relation.has_jobs {
            let open = unless_refused(self.has_open_job(&ground, closing_at(place)).await)?;
            if open.unwrap_or(true) {
                return Ok(false);
            }
        }
        if ground.is_plain() && self.is_steady(statement, closing).await? {
            let text = statement.sql.as_bytes();
            self.relay
                .shapes
                .learn_text(text, &parameters.types, before, expected + with_it, rows_max);
        }
        Ok(true)
    }

    /// What the planner guesses is counted, up to the limit and for a short time; where it turns out to be little, the same text passes for a
    /// while. What cannot be counted without harm is what the planner says.
    pub(super) async fn counts_guessed(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        (parameters, closing): (&Parameters, Closing),
    ) -> Result<(), Broken> {
        let before = self.guessed.take();
        let (Some(expected), Some(relation)) = (facts.estimated_rows, facts.target(statement)) else {
            return Ok(());
        };
        let rows_max = policy.backfill.rows_max as f64;
        let is_plain = !relation.ruled && matches!(relation.kind, 'r' | 'p');
        if facts.open_job.is_some() || !is_plain || !guess::may_be_many(statement, relation, expected, rows_max) {
            return Ok(());
        }
        if !self.counts_now(statement, facts, policy, place, parameters).await? {
            return Ok(());
        }
        if facts.more_were_counted {
            facts.estimated_rows = Some(rows_max + 1.0);
        } else if let (Some(before), Some(rows)) = (before, facts.estimated_rows)
            && rows * FAR_BELOW <= rows_max
            && self.is_steady(statement, closing).await?
        {
            let (text, types) = (statement.sql.as_bytes(), &parameters.types);
            self.relay.shapes.learn_text(text, types, before, rows, rows_max);
        }
        Ok(())
    }

    /// The same of a statement whose parts are no statements of their own, or that stands in a block. What comes first: its rows by the
    /// planner, and whether its values are known, so that its text may be asked about as it is.
    pub(super) async fn taken_along_by_parts(
        &mut self,
        statement: &Statement,
        (rows, counts): (Option<f64>, bool),
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
    ) -> Result<ByParts, End> {
        let mut all = ByParts::default();
        let rows_max = policy.backfill.rows_max as f64;
        let parts = match statement.kind {
            Kind::Write => Vec::new(),
            _ => self.parts_of(statement, closing).await?,
        };
        let whole = matches!(statement.kind, Kind::Write).then_some(statement);
        for part in whole.into_iter().chain(&parts) {
            let bytes = part.sql.len() + parameters.values.len();
            let weight = self.weigh(part, policy, &parameters.types, bytes, closing).await?;
            let Weight::Estimate(ground) = weight else { continue };
            let hops = cascade::hops(part, &ground);
            if hops.is_empty() {
                continue;
            }
            all.cascades = true;
            if !counts {
                let found = cascade::unfollowed(&hops, None).or_else(|| cascade::expected(&hops, &ground, rows));
                all.many = found.filter(|found| found.rows > rows_max);
                if all.many.is_some() {
                    return Ok(all);
                }
                all.unsure |= cascade::at_most(&hops, rows.map(Bound::about)).is_none_or(|most| most.rows > rows_max);
                continue;
            }
            let mut along = self
                .taken_along(part, &ground, (None, rows), policy, place, parameters)
                .await?;
            if let Along::AskFirst = along {
                let facts = self.facts(Request::of(part), closing).await?;
                along = self
                    .taken_along(part, &ground, (Some(&facts), rows), policy, place, parameters)
                    .await?;
            }
            if let Along::Many(many) = along {
                all.many = Some(many);
                return Ok(all);
            }
        }
        Ok(all)
    }

    /// What it changes, as statements of their own.
    pub(super) async fn parts_of(&mut self, statement: &Statement, closing: Closing) -> Result<Vec<Statement>, End> {
        let Some(name) = executed_name(&statement.sql) else {
            return Ok(alone(statement));
        };
        self.parts_executed(statement, &name, closing).await
    }

    /// What foreign keys delete or change with the statement's rows. Of the functions that choose these is known what the facts say;
    /// of how many they are, where the catalog does not bound them, what the planner expects.
    pub(super) async fn taken_along(
        &mut self,
        statement: &Statement,
        ground: &Ground,
        (facts, expected): (Option<&Facts>, Option<f64>),
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Along, Broken> {
        let hops = cascade::hops(statement, ground);
        let rows_max = policy.backfill.rows_max;
        let own = bound::bound(statement, ground);
        let many = |found: Option<Cascaded>| match found.filter(|found| found.rows > rows_max as f64) {
            Some(found) => Along::Many(found),
            None => Along::Few(0.0),
        };
        let sql = |trusts: bool| {
            cascade::count_sql(statement, &hops, rows_max, |name| {
                trusts || facts.is_some_and(|facts| count::asks_nothing_else(facts, name))
            })
        };
        // In a pipeline a question that fails would be the end of the transaction.
        if place != Place::Pipeline {
            if let Some(sql) = sql(false) {
                let asks = vec![
                    Ask::set_local("statement_timeout", &COUNT_MS_MAX.to_string()),
                    parameters.ask(sql),
                ];
                let answers = self.ask_all_harmlessly(asks, place).await;
                let counts = answers.map(|answers| {
                    let row = answers.last().and_then(|answer| answer.rows.first()).cloned();
                    row.unwrap_or_default()
                        .iter()
                        .flatten()
                        .filter_map(|count| count.parse().ok())
                        .collect::<Vec<f64>>()
                });
                match counts {
                    Ok(counts) => {
                        if let Some(unknown) = cascade::unfollowed(&hops, Some(&counts)) {
                            return Ok(Along::Many(unknown));
                        }
                        let sum = counts.iter().sum::<f64>();
                        return Ok(match sum > rows_max as f64 {
                            true => many(cascade::cascaded(&hops, &counts, Told::Counted)),
                            false => Along::Few(sum),
                        });
                    }
                    Err(End::Broken(broken)) => return Err(broken),
                    Err(End::Refused(report)) if report.sqlstate() == "57014" => {
                        let unknown = cascade::unfollowed(&hops, None);
                        return Ok(many(unknown.or_else(|| cascade::feared(&hops, own))));
                    }
                    // The statement itself may fail in the same way; or a parameter has no type where it is not used.
                    Err(End::Refused(_)) => {}
                }
            }
            if facts.is_none() && sql(false).is_none() && sql(true).is_some() {
                return Ok(Along::AskFirst);
            }
        }
        let rows = own.map(|own| own.of_message(statement.sql.len() + parameters.values.len()));
        let rows = rows.or(expected);
        let unknown = cascade::unfollowed(&hops, None);
        Ok(many(unknown.or_else(|| cascade::expected(&hops, ground, rows))))
    }

    /// The planner's answer about this text holds for all sessions of the same standing: nothing that one of them may have set
    /// decides which rows it means.
    pub(super) async fn is_steady(&mut self, statement: &Statement, closing: Closing) -> Result<bool, Broken> {
        // It would not be remembered.
        if statement.sql.contains(['$', '\\']) || self.relay.shapes.standing().is_none() {
            return Ok(false);
        }
        let others = match bound::steady(statement) {
            Some(others) if others.is_empty() => return Ok(true),
            Some(others) => others,
            None => return Ok(false),
        };
        let asked = [Ask::as_client(bound::plain_sql(&others))];
        let answers = unless_refused(self.relay.ask(&asked, closing, Hears::Nothing).await)?;
        Ok(answers.is_some_and(|answers| answers.first().and_then(Answer::value) == Some("t")))
    }

    /// `bytes`: of the message that brings the values.
    pub(super) async fn weigh(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        types: &[u8],
        bytes: usize,
        closing: Closing,
    ) -> Result<Weight, End> {
        let text = statement.sql.as_bytes();
        self.take_stand(closing).await?;
        if self.relay.shapes.passes(text, types, bytes) {
            return Ok(Weight::Light);
        }
        if let Some(ground) = self.relay.shapes.ground(text, types) {
            return Ok(Weight::Estimate(ground));
        }
        let target = Request::target(statement);
        let Some(sql) = target.ground_sql() else {
            return Ok(Weight::Unknown);
        };
        let asked = Ask {
            ahead: target.ahead(),
            ..Ask::new(sql)
        };
        let before = self.relay.shapes.before();
        let answers = self.relay.ask(&[asked], closing, Hears::Nothing).await?;
        let ground = match Ground::decode(answers.first().and_then(Answer::value)) {
            Ok(Some(mut ground)) => {
                if ground.relation.kind == 'v' {
                    self.look_through(&mut ground, target, statement, closing).await?;
                }
                Arc::new(ground)
            }
            // The server says itself that there is no such relation.
            Ok(None) => return Ok(Weight::Light),
            Err(error) => {
                tracing::error!(
                    session = self.who.session,
                    error,
                    "the question about a write's target was answered with what cannot be read"
                );
                return Ok(Weight::Unknown);
            }
        };
        let rows_max = policy.backfill.rows_max as f64;
        let own_types = has_own_types(types);
        let within = |bound: &Bound| !own_types && bound.rows * ROOM <= rows_max;
        let lasting = bound::bound(statement, &ground.lasting()).filter(within);
        let bound = lasting.or_else(|| bound::bound(statement, &ground).filter(within));
        let small = is_small(statement, &ground, policy);
        let hops = cascade::hops(statement, &ground);
        let lasting = lasting.filter(|_| hops.is_empty());
        let verdict = match bound {
            None if !small => Verdict::EachText,
            // Whatever a small table's rows are, they do not matter; but what goes with them may.
            _ => match cascade::at_most(&hops, bound).filter(within) {
                Some(bound) => Verdict::AtMost(bound),
                None => Verdict::EachText,
            },
        };
        // The table may have become small while a job was at work on it: what it has begun is not done all at once.
        if ground.relation.has_jobs && !ground.pins(bound) && self.has_open_job(&ground, closing).await? {
            return Ok(Weight::Unknown);
        }
        self.relay
            .shapes
            .learn(text, types, before, (verdict, lasting.is_some()), &ground, rows_max);
        let light = match verdict {
            Verdict::AtMost(bound) => bound.of_message(bytes) <= rows_max,
            Verdict::EachText => false,
        };
        Ok(match light {
            true => Weight::Light,
            false => Weight::Estimate(ground),
        })
    }

    /// What goes with the rows of the table behind a view that PostgreSQL writes through.
    async fn look_through(
        &mut self,
        ground: &mut Ground,
        view: Request,
        statement: &Statement,
        closing: Closing,
    ) -> Result<(), End> {
        let facts = self.facts(view, closing).await?;
        let Some((views, table)) = cascade::behind(&facts, ground, statement) else {
            return Ok(());
        };
        let Some(sql) = Request::of_table(table).ground_sql() else {
            return Ok(());
        };
        let answers = self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await?;
        if let Ok(Some(base)) = Ground::decode(answers.first().and_then(Answer::value)) {
            cascade::through(ground, base, &views);
        }
        Ok(())
    }

    /// Asks where the session stands, where that may have changed.
    pub(super) async fn take_stand(&mut self, closing: Closing) -> Result<(), End> {
        if !self.relay.shapes.wants_standing() {
            return Ok(());
        }
        let answers = self
            .relay
            .ask(&[Ask::as_client(STANDING)], closing, Hears::Nothing)
            .await?;
        if let Some([Some(stand), Some(temporary)]) = answers.first().and_then(|a| a.rows.first()).map(Vec::as_slice) {
            let own = (temporary != "0").then(|| self.relay.reserved.clone());
            self.relay.shapes.stands(stand, own.as_deref().map(str::as_bytes));
        }
        Ok(())
    }

    async fn has_open_job(&mut self, ground: &Ground, closing: Closing) -> Result<bool, End> {
        for asked in [
            Ask::new(deferred::is_usable()),
            jobs::any_of(ground.relation.oid).into(),
        ] {
            let answers = self.relay.ask(&[asked], closing, Hears::Nothing).await?;
            if answers.first().and_then(Answer::value) != Some("t") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the planner expects an UPDATE or DELETE to touch, unless a unique key pins it. A refusal is about this moment
    /// (a cancel request, a timeout, a deadlock), so that the statement must not go on in the belief that it is small.
    pub(super) async fn estimate(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
    ) -> Result<(), End> {
        if !matches!(statement.kind, Kind::Write) {
            return Ok(());
        }
        let Some(relation) = facts.target(statement).cloned() else {
            return Ok(());
        };
        match batches::target(statement, &relation, policy.small_bytes) {
            // That a key pins it was not believed before.
            _ if relation.has_rows_of_its_own_only() && !relation.ruled => return Ok(()),
            kind => {
                if facts.job_access() == jobs::Access::Ready {
                    let closing = closing_at(place);
                    let identity = identity(statement, &relation, parameters);
                    facts.open_job = self.open_job(&identity, closing).await?;
                }
                if kind == Target::Small {
                    return Ok(());
                }
            }
        }
        let json = self.explained(statement, place, parameters).await?;
        facts.estimated_rows = json.and_then(|json| batches::explained_rows(statement, &relation, &json));
        Ok(())
    }
}

pub(super) fn identity(statement: &Statement, relation: &Relation, parameters: &Parameters) -> String {
    let seen_by = relation.row_security.as_ref().map(|seen| seen.settings.clone());
    jobs::identity(
        &statement.sql,
        relation.oid,
        &parameters.types,
        &parameters.values,
        &seen_by.unwrap_or_default(),
    )
}
