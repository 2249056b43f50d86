//! How many rows an UPDATE or DELETE of an application may touch: what is remembered first, then what the catalog says of its
//! target, then what the planner expects; the whole catalog question is asked only of what may be large.

use super::dialogue::{Answer, Ask, Closing, Hears};
use super::judge::{Parameters, closing_at};
use super::relay::Broken;
use super::session::Session;
use super::shapes::{STANDING, Verdict};
use super::wire::Report;
use crate::plan::Place;
use crate::plan::batches::bound::{self, Bound, Ground};
use crate::plan::batches::{self, Target};
use crate::plan::facts::{Request, planned_rows};
use crate::plan::jobs;
use crate::plan::outbox;
use crate::plan::policy::Policy;
use crate::plan::statement::Statement;
use std::sync::Arc;

/// What is expected to touch so many times less than `rows_max` is let pass, and remembered for a while.
pub(super) const FAR_BELOW: f64 = 10.0;
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

impl Session {
    /// Whether an UPDATE or DELETE may pass. False: the whole question is to be asked. The inner error is about this moment (a
    /// cancel request, a timeout).
    pub(super) async fn is_light(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
    ) -> Result<Result<bool, Report>, Broken> {
        let bytes = statement.sql.len() + parameters.values.len();
        let ground = match self.weigh(statement, policy, &parameters.types, bytes, closing).await? {
            Ok(Weight::Light) => return Ok(Ok(true)),
            Ok(Weight::Unknown) => return Ok(Ok(false)),
            Ok(Weight::Estimate(ground)) => ground,
            Err(report) => return Ok(Err(report)),
        };
        let before = self.relay.shapes.before();
        let planned = match self.explained(statement, place, parameters).await? {
            Ok(json) => json.as_deref().and_then(planned_rows),
            Err(report) => return Ok(Err(report)),
        };
        // The statement itself will fail in the same way.
        let Some(planned) = planned else { return Ok(Ok(true)) };
        let expected = batches::expected_rows(statement, &ground.relation, planned);
        let rows_max = policy.backfill.rows_max as f64;
        if expected * FAR_BELOW > rows_max {
            return Ok(Ok(false));
        }
        if ground.relation.has_jobs && self.has_open_job(&ground, closing_at(place)).await?.unwrap_or(true) {
            return Ok(Ok(false));
        }
        if ground.is_plain() && self.is_steady(statement, closing).await? {
            self.relay
                .shapes
                .learn_text(statement.sql.as_bytes(), &parameters.types, before, expected, rows_max);
        }
        Ok(Ok(true))
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
        Ok(match self.relay.ask(&asked, closing, Hears::Nothing).await? {
            Ok(answers) => answers.first().and_then(Answer::value) == Some("t"),
            Err(_) => false,
        })
    }

    /// `bytes`: of the message that brings the values.
    pub(super) async fn weigh(
        &mut self,
        statement: &Statement,
        policy: &Policy,
        types: &[u8],
        bytes: usize,
        closing: Closing,
    ) -> Result<Result<Weight, Report>, Broken> {
        let text = statement.sql.as_bytes();
        if let Err(report) = self.take_stand(closing).await? {
            return Ok(Err(report));
        }
        if self.relay.shapes.passes(text, types, bytes) {
            return Ok(Ok(Weight::Light));
        }
        if let Some(ground) = self.relay.shapes.ground(text, types) {
            return Ok(Ok(Weight::Estimate(ground)));
        }
        let target = Request::target(statement);
        let Some(sql) = target.ground_sql() else {
            return Ok(Ok(Weight::Unknown));
        };
        let asked = Ask {
            ahead: target.ahead(),
            ..Ask::new(sql)
        };
        let before = self.relay.shapes.before();
        let answers = match self.relay.ask(&[asked], closing, Hears::Nothing).await? {
            Ok(answers) => answers,
            Err(report) => return Ok(Err(report)),
        };
        let ground = match Ground::decode(answers.first().and_then(Answer::value)) {
            Ok(Some(ground)) => Arc::new(ground),
            // The server says itself that there is no such relation.
            Ok(None) => return Ok(Ok(Weight::Light)),
            Err(error) => {
                tracing::error!(
                    session = self.who.session,
                    error,
                    "the question about a write's target was answered with what cannot be read"
                );
                return Ok(Ok(Weight::Unknown));
            }
        };
        let rows_max = policy.backfill.rows_max as f64;
        // Behind their number.
        let own_types = types.get(2..).unwrap_or_default().chunks_exact(4).any(|oid| {
            let oid = oid.try_into().map_or(u32::MAX, u32::from_be_bytes);
            oid >= FIRST_OWN_OID || INEXACT_OIDS.contains(&oid)
        });
        let within = |bound: &Bound| !own_types && bound.rows * ROOM <= rows_max;
        let lasting = bound::bound(statement, &ground.lasting()).filter(within);
        let bound = lasting.or_else(|| bound::bound(statement, &ground).filter(within));
        let small = !matches!(
            batches::target(statement, &ground.relation, policy.small_bytes),
            Target::Unknown | Target::Pinned
        );
        let verdict = match bound {
            Some(bound) => Verdict::AtMost(bound),
            // Whatever it touches does not matter.
            None if small => Verdict::AtMost(Bound::default()),
            None => Verdict::EachText,
        };
        // The table may have become small while a job was at work on it: what it has begun is not done all at once.
        if ground.relation.has_jobs && !ground.pins(bound) {
            match self.has_open_job(&ground, closing).await? {
                Ok(false) => {}
                Ok(true) => return Ok(Ok(Weight::Unknown)),
                Err(report) => return Ok(Err(report)),
            }
        }
        self.relay
            .shapes
            .learn(text, types, before, (verdict, lasting.is_some()), &ground, rows_max);
        let light = match verdict {
            Verdict::AtMost(bound) => bound.of_message(bytes) <= rows_max,
            Verdict::EachText => false,
        };
        Ok(Ok(match light {
            true => Weight::Light,
            false => Weight::Estimate(ground),
        }))
    }

    /// Asks where the session stands, where that may have changed.
    pub(super) async fn take_stand(&mut self, closing: Closing) -> Result<Result<(), Report>, Broken> {
        if !self.relay.shapes.wants_standing() {
            return Ok(Ok(()));
        }
        let answers = match self
            .relay
            .ask(&[Ask::as_client(STANDING)], closing, Hears::Nothing)
            .await?
        {
            Ok(answers) => answers,
            Err(report) => return Ok(Err(report)),
        };
        if let Some([Some(stand), Some(temporary)]) = answers.first().and_then(|a| a.rows.first()).map(Vec::as_slice) {
            let own = (temporary != "0").then(|| self.relay.reserved.clone());
            self.relay.shapes.stands(stand, own.as_deref().map(str::as_bytes));
        }
        Ok(Ok(()))
    }

    async fn has_open_job(&mut self, ground: &Ground, closing: Closing) -> Result<Result<bool, Report>, Broken> {
        for asked in [Ask::new(outbox::is_usable()), jobs::any_of(ground.relation.oid).into()] {
            match self.relay.ask(&[asked], closing, Hears::Nothing).await? {
                Ok(answers) if answers.first().and_then(Answer::value) == Some("t") => {}
                Ok(_) => return Ok(Ok(false)),
                Err(report) => return Ok(Err(report)),
            }
        }
        Ok(Ok(true))
    }
}
