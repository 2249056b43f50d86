//! From a statement to a verdict: facts are asked on the client's own server connection, the plan is made, and carried out.
//!
//! Start at [`Session::verdict_now`].

use super::apart::apart_of;
use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End};
use super::entry::Entry;
use super::inquire::is_of_the_moment;
use super::known::Before;
use super::parameters::Parameters;
use super::read::{PARSE_INLINE_MAX, PLAN_INLINE_MAX, of};
use super::session::Session;
use super::step_context::StepContext;
use super::time_limits::Limits;
use super::verdict::{Verdict, or_refused};
use super::weigh::Along;
use crate::live::approvals::{Asks, Key};
use crate::plan::bounds::Bounds;
use crate::plan::deferred::exchange;
use crate::plan::facts::Facts;
use crate::plan::lock::LockMode;
use crate::plan::policy::{InTransaction, Policy};
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement};
use crate::plan::tool::Tool;
use crate::plan::waiting::Dropped;
use crate::plan::{
    self, Mode as StepMode, Overridden, Place, Plan, Rejection, depends, dry, glance, jobs, pooled, rules,
};
use lockkeeper_wire::messages::Report;
use pg_query::NodeEnum;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

/// What judging a statement comes to.
enum Judged {
    As(Box<Verdict>),
    Ordered(Box<Ordered>),
}

impl Judged {
    fn forward() -> Judged {
        Judged::As(Box::new(Verdict::Forward(None)))
    }
}

/// A plan, and what carrying it out takes.
struct Ordered {
    plan: Plan,
    facts: Facts,
    /// For [`Before`].
    request: Option<Request>,
    policy: Arc<Policy>,
    entry: Entry,
    dropped: Option<Dropped>,
    is_ddl: bool,
    /// Its transaction has all locks that it takes.
    is_held: bool,
    /// Its transaction will have the table's lock.
    locks_wholly: bool,
    /// What is answered in its place.
    dry: Option<Vec<dry::Row>>,
}

/// A large tree takes a while to be taken apart.
fn let_go(statement: Arc<Statement>) {
    if statement.sql.len() > PARSE_INLINE_MAX {
        tokio::task::spawn_blocking(move || drop(statement));
    }
}

impl Session {
    /// A question that may take long is asked without the tree of a long text, and the text read again when the answer is there.
    pub(super) async fn verdict_now(
        &mut self,
        statement: Statement,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        position_shift: usize,
    ) -> Result<Verdict, Broken> {
        if matches!(statement.kind, Kind::Harmless) {
            // An EXECUTE over the protocol, of what changes no rows.
            return Ok(Verdict::Forward(None));
        }
        self.raced = false;
        self.limits = Limits::default();
        let begun = Instant::now();
        // What comes from here on is meant for this statement.
        self.cancel.clear();
        if let Kind::Resume(job) = statement.kind {
            if self.is_dry {
                return Ok(Verdict::Dry(super::dry::rows::resumes(job)));
            }
            let policy = self.shared.policy();
            return or_refused(self.resume_job(job, &statement, place, &policy).await);
        }
        let is_long = statement.sql.len() > PARSE_INLINE_MAX;
        let mut statement = Arc::new(statement);
        let judged = loop {
            self.aside.is_on = is_long;
            let judged = self.judge(&statement, place, parameters, closing, begun).await;
            self.aside.is_on = false;
            let text = match judged {
                Err(End::Broken(Broken::Aside)) => statement.sql.clone(),
                judged => break judged,
            };
            let_go(statement);
            for asks in std::mem::take(&mut self.aside.wanted) {
                let answers = match self.ask_all_harmlessly(asks.clone(), place).await {
                    Ok(answers) => Ok(answers),
                    Err(End::Refused(report)) => Err(report),
                    Err(End::Broken(broken)) => return Err(broken),
                };
                let is_over = matches!(&answers, Err(report) if is_of_the_moment(report));
                self.aside.answered.push((asks, answers));
                if is_over {
                    break;
                }
            }
            statement = match self.read_again(&text).await {
                Some(again) => Arc::new(again),
                None => {
                    self.aside.answered.clear();
                    return Ok(Verdict::Refused(not_planned()));
                }
            };
        };
        self.aside.answered.clear();
        let text = statement.sql.clone();
        let_go(statement);
        or_refused(match judged {
            Ok(Judged::As(verdict)) => Ok(*verdict),
            Ok(Judged::Ordered(ordered)) => {
                self.carry(*ordered, &text, place, parameters, closing, (begun, position_shift))
                    .await
            }
            Err(end) => Err(end),
        })
    }

    async fn judge(
        &mut self,
        statement: &Arc<Statement>,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        begun: Instant,
    ) -> Result<Judged, End> {
        (self.cascaded, self.cascading, self.guessed) = (None, None, None);
        self.more_were_counted = false;
        if matches!(statement.kind, Kind::Ddl) {
            // A key may go, a temporary table that hid another too.
            self.relay.names_moved();
        }
        let policy = self.shared.policy();
        let is_dry = self.is_dry;
        if !is_dry
            && matches!(statement.kind, Kind::Ddl)
            && !self.deferred.looks_on()
            && rules::lock_queue::is_free(statement)
        {
            self.relay.shapes.private = is_private(statement, &Facts::default());
            self.judged += 1;
            self.shared.live.ledger().passed();
            return Ok(Judged::forward());
        }
        if !is_dry && matches!(statement.kind, Kind::Write) {
            let light = self.is_light(statement, &policy, place, parameters, closing).await;
            if let Err(End::Broken(broken)) = light {
                return Err(broken.into());
            }
            self.relay.shapes.judged();
            if light? {
                return Ok(Judged::forward());
            }
        }
        let mut expected = None;
        if matches!(statement.kind, Kind::MixedWrite) {
            let rows = self.rows_changed(statement, &policy, place, parameters, closing).await;
            if let Err(End::Broken(broken)) = rows {
                return Err(broken.into());
            }
            self.relay.shapes.judged();
            let rows = rows?;
            if !is_dry && rows <= policy.backfill.rows_max as f64 && self.cascaded.is_none() {
                return Ok(Judged::forward());
            }
            expected = Some(rows);
        }
        let (request, glance) = of(statement, |statement| {
            (Request::of(statement), glance::request(statement))
        })
        .await?;
        let before = self.before.take().filter(|before| {
            place == Place::Block
                && before.request == request
                && before.sent == self.relay.responses.count()
                && self.relay.is_same_transaction()
        });
        if !is_dry && before.is_none() && place == Place::Block && self.is_created_here(statement).await? {
            self.relay.shapes.private = false;
            self.judged += 1;
            self.shared.live.ledger().passed();
            return Ok(Judged::forward());
        }
        let mut is_known = before.is_some();
        let is_locked = before.as_ref().is_some_and(|before| before.locked);
        let glanced = match glance {
            Some(glance) if before.is_none() && !is_dry => {
                self.glance(statement, glance, &policy, place, closing).await?
            }
            _ => None,
        };
        // What goes with it is asked with the facts, where these are asked; of code, once that is known.
        let mut question = match matches!(statement.node, NodeEnum::DoStmt(_)) {
            true => None,
            false => of(statement, depends::Question::of).await?,
        };
        let mut depends = None;
        let (request, mut facts) = match (before, glanced) {
            (Some(before), _) => (Some(before.request), before.facts),
            (None, Some(facts)) => {
                // Nothing waits.
                is_known = true;
                (None, facts)
            }
            (None, None) => {
                let keeps = (!request.details && place == Place::Block).then(|| request.clone());
                let (facts, known) = self.facts_and_depends(request, question.as_ref(), closing).await?;
                depends = known;
                (keeps, facts)
            }
        };
        let (is_held, locks_wholly, known) = of(statement, move |statement| {
            let is_held = is_locked && glance::locks_itself(statement, &facts);
            (is_held, is_locked || glance::locks_wholly(statement), facts)
        })
        .await?;
        facts = known;
        facts.estimated_rows = expected;
        facts.more_were_counted = self.more_were_counted;
        if !self.is_dry && facts.dry_run.as_deref().is_some_and(dry::is_on) {
            // It was set by a role's or database's setting, or within code.
            (self.is_dry, self.relay.dry) = (true, true);
        }
        let (private, known) = of(statement, |statement| (is_private(statement, &facts), facts)).await?;
        (self.relay.shapes.private, facts) = (private, known);
        if matches!(statement.node, NodeEnum::DoStmt(_)) {
            self.judge_within(statement, &mut facts, &policy, place, closing)
                .await?;
        }
        self.estimate(statement, &mut facts, &policy, place, parameters).await?;
        self.counts_guessed(statement, &mut facts, &policy, place, (parameters, closing))
            .await?;
        facts.cascaded = self.cascaded.take();
        if let Some(ground) = self.cascading.take()
            && let Along::Many(many) = self
                .taken_along(statement, &ground, (Some(&facts), None), &policy, place, parameters)
                .await?
        {
            facts.cascaded = Some(many);
        }
        if matches!(statement.node, NodeEnum::DoStmt(_)) {
            question = of(statement, depends::Question::of).await?;
        }
        facts.depends = match (depends, question) {
            (Some(depends), _) => depends,
            (None, Some(question)) => self.depends(&question, closing).await?,
            (None, None) => facts.depends,
        };
        if self.would_be_split(statement, &facts, &policy, place) {
            facts.surroundings = self.surroundings(statement, &facts, place, parameters).await?;
        }
        let shared = Arc::clone(&policy);
        let questions = move |statement: &Statement| {
            let bounds = rules::attach_partition::question(statement, &facts, &shared);
            let tried = rules::tried::question(statement, &facts, &shared);
            (bounds, tried, facts)
        };
        let (bounds, tried, known) = of(statement, questions).await?;
        facts = known;
        match bounds {
            Some(Ok(question)) => facts.bounds = Some(self.bounds(question, place).await?),
            Some(Err(why)) => facts.bounds = Some(Bounds::failed(why)),
            None => {}
        }
        if let Some(question) = tried
            // One that has used temporary tables cannot be prepared any more.
            && !(place == Place::Block && facts.may_prepare)
        {
            facts.tried = self.tried(question, place).await?;
        }
        let looks = match statement.kind {
            Kind::Ddl => place != Place::Pipeline,
            _ => place == Place::Block && facts.open_job.is_some(),
        };
        if looks && !is_known && facts.job_access() == jobs::Access::Ready {
            self.reserve_in(&mut facts).await?;
        }
        facts.tool = self
            .relay
            .tool
            .or_else(|| Tool::of_application(&facts.application_name));
        facts.dropped.clone_from(&self.deferred.dropped);
        let (mut plan, known) = self.planned(statement, facts, &policy, place).await?;
        facts = known;
        if let Plan::Reject(_) = plan
            && self.counts(statement, &mut facts, &policy, place, parameters).await?
        {
            let (again, known) = self.planned(statement, facts, &policy, place).await?;
            (plan, facts) = (again, known);
        }
        facts.unfillable = self.is_unfillable(&plan, &facts, place).await?;
        if facts.unfillable.is_some() {
            let (again, known) = self.planned(statement, facts, &policy, place).await?;
            (plan, facts) = (again, known);
        }
        if let Plan::Reject(rejection) = &mut plan {
            facts.unused = self.is_unused(statement, &facts, rejection, &policy, place).await?;
            if facts.unused.is_some() {
                let (again, known) = self.planned(statement, facts, &policy, place).await?;
                (plan, facts) = (again, known);
            }
        }
        if facts.pooled && matches!(plan, Plan::Reject(_)) {
            // Where it stands alone, and is in a pipeline only for what stands between.
            if place == Place::Pipeline && self.relay.place() == Place::Alone {
                let (again, known) = self.planned(statement, facts, &policy, Place::Alone).await?;
                facts = known;
                plan = match again {
                    Plan::Run(run) => Plan::Reject(pooled::refused(&run)),
                    Plan::Reject(refusal) => Plan::Reject(refusal),
                    Plan::Forward { .. } => plan,
                };
            }
            if let Plan::Reject(refusal) = plan {
                plan = Plan::Reject(pooled::advised(refusal));
            }
        }
        if matches!(plan, Plan::Reject(_)) && policy.asks() {
            let (asked, known) = self
                .asked(statement, (plan, facts), &policy, (place, closing), parameters)
                .await?;
            (plan, facts) = (asked, known);
        }
        self.judged += 1;
        let entry = self.entry(statement, &facts, &parameters.values).since(begun);
        let dropped = match &plan {
            Plan::Run(_) => exchange::dropped(statement, &facts, &policy).filter(|_| place == Place::Block),
            Plan::Reject(rejection) if rejection.ends_session() && !self.is_dry => {
                self.shared.restores.was_refused(&self.who, statement);
                None
            }
            _ => None,
        };
        let is_ddl = matches!(statement.kind, Kind::Ddl);
        if self.is_dry
            && let Plan::Run(run) = &plan
            && let Some(rejection) = self.uncarried(run)
        {
            plan = Plan::Reject(rejection);
        }
        if self.is_dry && !matches!(plan, Plan::Reject(_)) {
            facts.refused = self.refused_by_server(statement, &facts, place, parameters).await?;
        }
        let dry = self.is_dry.then(|| dry::rows(&plan, statement, &facts, place));
        Ok(Judged::Ordered(Box::new(Ordered {
            plan,
            facts,
            request,
            policy,
            entry,
            dropped,
            is_ddl,
            is_held,
            locks_wholly,
            dry,
        })))
    }

    /// What is refused only because a second person must approve it waits under a number, and passes once that person has.
    async fn asked(
        &mut self,
        statement: &Arc<Statement>,
        (plan, mut facts): (Plan, Facts),
        policy: &Arc<Policy>,
        (place, closing): (Place, Closing),
        parameters: &Parameters,
    ) -> Result<(Plan, Facts), End> {
        let Plan::Reject(mut refusal) = plan else {
            return Ok((plan, facts));
        };
        let meant = self.what_is_meant(&facts, place).await?;
        let text = statement.sql.as_bytes();
        let key = Key {
            user: self.who.user.clone(),
            database: self.who.database.clone(),
            digest: digest(&[text, &parameters.types, &parameters.values, meant.as_bytes()]),
        };
        let decided = self.shared.live.approval(&key);
        let approved = decided.as_ref().filter(|(_, decision)| decision.approved);
        facts.approved = Some(match approved {
            Some((id, decision)) => Overridden {
                by: format!("approval {id} of {}", decision.by),
                reason: decision.reason.clone(),
            },
            None => Overridden {
                by: "an approval".into(),
                reason: String::new(),
            },
        });
        let (would, mut facts) = self.planned(statement, facts, policy, place).await?;
        if matches!(would, Plan::Reject(_)) || approved.is_some() {
            // An approval would not help, or has helped.
            facts.approved = None;
            return Ok((would, facts));
        }
        facts.approved = None;
        if let Some((id, decision)) = decided {
            refusal.message = format!(
                "{}; {} has declined it: {} (approval {id})",
                refusal.message, decision.by, decision.reason
            );
        } else if self.is_dry {
            refusal.message = format!("{}; it needs the approval of a second person", refusal.message);
        } else {
            let rules: Vec<&str> = refusal.findings.iter().map(|finding| finding.rule).collect();
            let entry = self.entry_of(&statement.sql);
            let shown = entry.event().shown_statement(policy.audit_literals);
            let asks = Asks {
                key: key.clone(),
                // As its own lines of the log will have it.
                statement_id: self.next_id(),
                statement: shown,
                rules: rules.join(", "),
            };
            let id = self.asks_approval(asks);
            if place == Place::Alone && closing == Closing::Sync && policy.approval_wait_s > 0 {
                self.waits_for_approval(id, &key, policy.approval_wait_s).await?;
            }
            refusal.message = format!(
                "{}; it needs the approval of a second person, asked for as number {id}",
                refusal.message
            );
            refusal.hint = format!(
                "One of --console-users other than {} runs: lockkeeper approvals --dsn … approve {id} --reason '<why>'. Then send it again, \
                 within an hour.\n{}",
                self.who.user, refusal.hint
            );
        }
        Ok((Plan::Reject(refusal), facts))
    }

    /// By which the same text means the same: the role, the schemas that are looked through, and which relations its names are now.
    async fn what_is_meant(&mut self, facts: &Facts, place: Place) -> Result<String, End> {
        let asked = Ask::as_client("SELECT pg_catalog.current_schemas(false), CURRENT_USER");
        let answer = self.ask_harmlessly(asked, place).await?;
        let mut relations: Vec<u32> = facts.relations.iter().map(|relation| relation.oid).collect();
        relations.sort_unstable();
        Ok(format!("{:?} {relations:?}", answer.rows))
    }

    /// All that it locks for was made by this transaction: nobody waits for it.
    async fn is_created_here(&mut self, statement: &Arc<Statement>) -> Result<bool, End> {
        // Where jobs are kept, one of this statement may wait.
        let may_be = self.relay.shapes.makes_tables()
            && matches!(statement.kind, Kind::Ddl)
            && !self.deferred.looks_on()
            && !self.relay.shapes.have_jobs();
        if !may_be {
            return Ok(false);
        }
        let Some(sql) = of(statement, glance::created_here).await? else {
            return Ok(false);
        };
        let asked = [Ask::as_client(sql)];
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await?;
        Ok(answers.first().and_then(Answer::value) == Some("t"))
    }

    /// What little is enough, if it is.
    async fn glance(
        &mut self,
        statement: &Arc<Statement>,
        request: Request,
        policy: &Arc<Policy>,
        place: Place,
        closing: Closing,
    ) -> Result<Option<Facts>, End> {
        if self.deferred.looks_on() {
            return Ok(None);
        }
        let shared = Arc::clone(policy);
        let decides = move |facts: Facts| {
            move |statement: &Statement| glance::decides(statement, &facts, &shared).then_some(facts)
        };
        let facts = self.facts(request, closing).await?;
        let Some(mut facts) = of(statement, decides(facts)).await? else {
            return Ok(None);
        };
        if place != Place::Pipeline && facts.job_access() == jobs::Access::Ready {
            self.reserve_in(&mut facts).await?;
        }
        Ok(Some(facts).filter(|facts| facts.waiting.is_empty()))
    }

    /// What was decided, without the statement's tree.
    async fn carry(
        &mut self,
        ordered: Ordered,
        text: &str,
        place: Place,
        parameters: &Parameters,
        closing: Closing,
        (begun, position_shift): (Instant, usize),
    ) -> Result<Verdict, End> {
        let Ordered {
            plan,
            facts,
            request,
            policy,
            entry,
            dropped,
            is_ddl,
            is_held,
            locks_wholly,
            dry,
        } = ordered;
        if let Some(rows) = dry {
            return self.carry_dry(&rows, &plan, entry, closing).await;
        }
        match plan {
            Plan::Forward { findings, notices } => {
                self.tell_findings(&notices).await?;
                if findings.is_empty() && is_ddl {
                    self.shared.live.ledger().passed();
                }
                Ok(Verdict::Forward(
                    (!findings.is_empty()).then(|| entry.forwarded(&findings, !notices.is_empty())),
                ))
            }
            Plan::Reject(rejection) => {
                self.record(entry.rejected(&rejection)).await;
                if rejection.ends_session() {
                    return Err(Broken::Refused(Box::new(report_of(&rejection).made_fatal())).into());
                }
                Err(report_of(&rejection).into())
            }
            Plan::Run(run) => {
                if facts.pooled && pooled::passes(&run, text) {
                    return Ok(Verdict::Forward(Some(entry.forwarded(&run.findings, false))));
                }
                if let Some(rejection) = self.uncarried(&run) {
                    self.record(entry.rejected(&rejection)).await;
                    return Err(report_of(&rejection).into());
                }
                let entry = entry.planned(&run);
                if let [step] = run.steps.as_slice()
                    && matches!(step.mode, StepMode::Rows)
                {
                    for notice in &run.notices {
                        self.relay.notice(notice).await?;
                    }
                    return Ok(Verdict::Instead(step.sql.clone(), entry));
                }
                if (facts.lock_timeout_ms, facts.statement_timeout_ms) != (0, 0) {
                    self.ask_limits(begun, closing).await?;
                }
                // The statement_timeout counts for each batch, and a rewrite is made of steps.
                if run
                    .steps
                    .iter()
                    .any(|step| matches!(step.mode, StepMode::Batches(_) | StepMode::Rewrite(_)))
                {
                    self.limits.without_end();
                }
                self.announce(&entry, &policy).await?;
                for notice in &run.notices {
                    self.relay.notice(notice).await?;
                }
                let setting = StepContext {
                    policy: &policy,
                    place,
                    parameters,
                    statement: text,
                    position_shift,
                    is_held,
                };
                if run.deferral.is_some() {
                    return Ok(self.defer(&run, setting, &facts.role, entry).await?);
                }
                if dropped.is_some() {
                    self.before_drop().await?;
                }
                let verdict = self.carry_out(&run, &facts.relations, setting, entry).await?;
                match dropped {
                    Some(dropped) => self.after_drop(dropped, matches!(verdict, Verdict::Done(_))),
                    None => self.deferred.dropped.clear(),
                }
                self.raced = matches!(verdict, Verdict::Refused(_)) && run.steps.iter().any(|step| step.sql != text);
                if let (Some(request), Verdict::Done(_), [step]) = (request, &verdict, run.steps.as_slice())
                    && step.lock == LockMode::AccessExclusive
                {
                    self.before = Some(Before {
                        request,
                        facts,
                        locked: locks_wholly,
                        sent: self.relay.responses.count(),
                    });
                }
                Ok(verdict)
            }
        }
    }

    /// An UPDATE or DELETE that is carried out in batches, now or after the COMMIT, if that does the same.
    fn would_be_split(&self, statement: &Statement, facts: &Facts, policy: &Policy, place: Place) -> bool {
        let backfill = &policy.backfill;
        let may = match place {
            Place::Alone => true,
            Place::Block => backfill.in_transaction == InTransaction::Defer,
            Place::Pipeline => false,
        };
        let is_large = facts.estimated_rows.is_some_and(|rows| rows > backfill.rows_max as f64);
        may && matches!(statement.kind, Kind::Write) && (is_large || facts.open_job.is_some())
    }
}

impl Session {
    /// Long texts away from the worker, whose other sessions would wait, and not for a client that has gone.
    async fn planned(
        &mut self,
        statement: &Arc<Statement>,
        mut facts: Facts,
        policy: &Arc<Policy>,
        place: Place,
    ) -> Result<(Plan, Facts), End> {
        if statement.sql.len() <= PLAN_INLINE_MAX {
            return Ok((plan::plan(statement, &facts, policy, place), facts));
        }
        let policy = Arc::clone(policy);
        let given_up = Arc::new(AtomicBool::new(false));
        facts.given_up = Some(Arc::clone(&given_up));
        let planning = apart_of(statement, move |statement| {
            (plan::plan(statement, &facts, &policy, place), facts)
        });
        tokio::pin!(planning);
        let relay = &mut self.relay;
        let gone = std::future::poll_fn(|cx| {
            relay.poll_watch_client(cx);
            match relay.client_gone() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        tokio::select! {
            biased;
            planned = &mut planning => planned.ok_or_else(|| not_planned().into()),
            () = gone => {
                given_up.store(true, Ordering::Relaxed);
                Err(Broken::Client(std::io::ErrorKind::UnexpectedEof.into()).into())
            }
        }
    }
}

/// Of several parts, each with its length, so that they cannot be divided otherwise.
fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

pub(super) fn not_planned() -> Report {
    Report::error(
        "XX000",
        "lockkeeper: the statement could not be judged, and was not run",
    )
}

/// The change is to temporary tables alone, so that no other session knows of it.
fn is_private(statement: &Statement, facts: &Facts) -> bool {
    use pg_query::NodeEnum as N;
    let is_temporary = |range: Option<&pg_query::protobuf::RangeVar>| range.is_some_and(|r| r.relpersistence == "t");
    match &statement.node {
        N::CreateStmt(create) => is_temporary(create.relation.as_ref()),
        N::ViewStmt(view) => is_temporary(view.view.as_ref()),
        N::CreateTableAsStmt(create) => is_temporary(create.into.as_ref().and_then(|into| into.rel.as_ref())),
        N::DropStmt(_) | N::AlterTableStmt(_) | N::IndexStmt(_) | N::TruncateStmt(_) => {
            let names = Request::of(statement).relations;
            let mut found = names.iter().map(|name| facts.relation(name));
            // An index that is to be made is found nowhere yet.
            let made = usize::from(matches!(statement.node, N::IndexStmt(_)));
            let temporary = found
                .by_ref()
                .filter(|r| r.is_some_and(|r| r.persistence == 't'))
                .count();
            temporary > 0 && temporary + made >= names.len()
        }
        _ => false,
    }
}

pub(super) fn report_of(rejection: &Rejection) -> Report {
    // Whoever reads it in a log knows whose it is.
    let message = match rejection.message.strip_prefix("lockkeeper: ") {
        Some(_) => rejection.message.clone(),
        None => format!("lockkeeper: {}", rejection.message),
    };
    let mut report = Report::error(&rejection.sqlstate, &message);
    if !rejection.detail.is_empty() {
        report = report.detail(&rejection.detail);
    }
    if !rejection.hint.is_empty() {
        report = report.hint(&rejection.hint);
    }
    report
}
