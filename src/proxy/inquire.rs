//! What the server is asked about a statement, harmlessly to the client's transaction.

use super::dialogue::{Answer, Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::parameters::Parameters;
use super::session::Session;
use crate::plan::bounds::{self, Bounds, Question};
use crate::plan::depends::{self, Depends};
use crate::plan::facts::Facts;
use crate::plan::jobs::JobTable;
use crate::plan::policy::Policy;
use crate::plan::request::Request;
use crate::plan::spot;
use crate::plan::statement::Statement;
use crate::plan::trial::{self, Tried};
use crate::plan::waiting::Waiting;
use crate::plan::{Place, batches, deferred};
use lockkeeper_wire::messages::Report;

/// Every operator and type in it is written with its schema.
fn depends_ask(question: &depends::Question) -> Ask {
    Ask {
        ahead: question.ahead(),
        catalog: Some(question.variant()),
        ..Ask::new(question.sql())
    }
}

/// Of the errors of a table that is no good (manual, appendix A): access rule violation, object state, schema name.
const CLASSES: [&str; 3] = ["42", "55", "3F"];

impl Session {
    /// A Flush leaves the question in the client's group, behind which VACUUM and its like are refused.
    pub(super) fn closing_of_question(&self) -> Closing {
        match self.relay.may_sync() {
            true => Closing::Sync,
            false => Closing::Flush,
        }
    }

    pub(super) async fn facts(&mut self, request: Request, closing: Closing) -> Result<Facts, End> {
        Ok(self.facts_and_depends(request, None, closing).await?.0)
    }

    /// And what goes with the statement, asked with it.
    pub(super) async fn facts_and_depends(
        &mut self,
        mut request: Request,
        question: Option<&depends::Question>,
        closing: Closing,
    ) -> Result<(Facts, Option<Depends>), End> {
        // Few databases have such a table, and whether it can be trusted is a long question.
        request.jobs &= self.relay.shapes.have_jobs();
        let known = self.asked_of(&request, question, closing).await?;
        if !known.0.jobs_there || request.jobs {
            return Ok(known);
        }
        self.relay.shapes.saw_jobs();
        request.jobs = true;
        let (facts, _) = self.asked_of(&request, None, closing).await?;
        Ok((facts, known.1))
    }

    async fn asked_of(
        &mut self,
        request: &Request,
        question: Option<&depends::Question>,
        closing: Closing,
    ) -> Result<(Facts, Option<Depends>), End> {
        if question.is_none()
            && let Some(facts) = self.spotted(request, closing).await?
        {
            return Ok((self.known(facts), None));
        }
        let facts = Ask {
            ahead: request.ahead(),
            catalog: Some(request.variant()),
            ..Ask::new(request.sql())
        };
        let asks = std::iter::once(facts).chain(question.map(depends_ask)).collect();
        let answers = self.relay.ask_catalogs(asks, closing).await;
        let mut answers = answers.map_err(|end| end.reworded(|report| self.unanswered_question(report)))?;
        let depends = match question {
            Some(question) => Some(self.depends_in(question, answers.pop().unwrap_or_default())?),
            None => None,
        };
        let answer = answers.pop().unwrap_or_default();
        match Facts::decode(answer.value().unwrap_or_default()) {
            Ok(facts) => Ok((self.known(facts), depends)),
            Err(error) => Err(self.unreadable_answer(&error)),
        }
    }

    /// The answer to a shorter question, where it is enough.
    async fn spotted(&mut self, request: &Request, closing: Closing) -> Result<Option<Facts>, End> {
        let asks_jobs = request.jobs;
        let request = &Request {
            jobs: false,
            ..request.clone()
        };
        let is_alone = closing == Closing::Sync && self.relay.is_outside_block();
        let is_doubtful = asks_jobs && (self.doubts_jobs || self.relay.is_behind_pooler());
        let Some(ahead) = spot::ahead(request).filter(|_| is_alone && !is_doubtful) else {
            return Ok(None);
        };
        let asked = Ask {
            catalog: Some("spot".to_owned()),
            ..Ask::as_client(spot::SQL)
        };
        let answers = self
            .relay
            .ask_catalogs(vec![Ask::as_client(ahead), asked], closing)
            .await;
        let mut answers = answers.map_err(|end| end.reworded(|report| self.unanswered_question(report)))?;
        let answer = answers.pop().unwrap_or_default();
        let facts = answer.value().map(|answer| spot::decode(answer, request)).transpose();
        let Some(mut facts) = facts.map_err(|error| self.unreadable_answer(&error))? else {
            return Ok(None);
        };
        if asks_jobs && facts.jobs_there {
            // What waits is needed next. That it is told proves that the table can be used.
            let unfinished = self.waiting_if_good().await;
            facts.unfinished = unfinished.map_err(|end| end.reworded(|report| self.unanswered_question(report)))?;
            if facts.unfinished.is_none() {
                self.doubts_jobs = true;
                return Ok(None);
            }
            facts.jobs = Some(JobTable::good());
        }
        Ok(Some(facts))
    }

    /// The role's unfinished deferred jobs, all of them, outside of a transaction block and before it is known whether the table can be used; if not, None.
    async fn waiting_if_good(&mut self) -> Result<Option<Vec<Waiting>>, End> {
        let ask = Ask {
            catalog: Some("jobs_waiting_if_good".to_owned()),
            ..deferred::waiting_if_good().into()
        };
        match self.relay.ask_catalog(ask, Closing::Sync).await {
            Ok(answer) => answer.value().map(|answer| self.waiting_in(answer)).transpose(),
            // Not to be trusted, not the role's, not there any more, or of columns of its own.
            Err(End::Refused(report)) if CLASSES.iter().any(|class| report.sqlstate().starts_with(class)) => Ok(None),
            Err(end) => Err(end),
        }
    }

    pub(super) fn waiting_in(&self, answer: &str) -> Result<Vec<Waiting>, End> {
        match deferred::decode(answer) {
            Ok(mut waiting) => {
                for job in &mut waiting {
                    job.pending = self.deferred.pending.iter().any(|p| p.id == job.id);
                }
                Ok(waiting)
            }
            Err(error) => Err(Report::error("XX000", &format!("lockkeeper: {error}")).into()),
        }
    }

    /// What they tell of the session.
    fn known(&mut self, mut facts: Facts) -> Facts {
        self.relay.works_with(facts.backend_pid);
        facts.pooled = self.relay.is_behind_pooler();
        // It may be another client's.
        facts.override_lost = facts.pooled && facts.override_.take().is_some();
        let level = facts.client_min_messages.as_str();
        self.relay.hears_notices = level.starts_with("debug") || matches!(level, "log" | "notice");
        self.who.application_name.clone_from(&facts.application_name);
        self.seat.is_known_as(&facts.application_name);
        facts
    }

    /// What goes with the statement.
    pub(super) async fn depends(&mut self, question: &depends::Question, closing: Closing) -> Result<Depends, End> {
        let answer = self.relay.ask_catalog(depends_ask(question), closing).await;
        let answer = answer.map_err(|end| end.reworded(|report| self.unanswered_question(report)))?;
        self.depends_in(question, answer)
    }

    fn depends_in(&self, question: &depends::Question, answer: Answer) -> Result<Depends, End> {
        let depends = question.decode(answer.value().unwrap_or_default());
        depends.map_err(|error| self.unreadable_answer(&error))
    }

    fn unanswered_question(&self, report: Report) -> Report {
        let error = report.message();
        tracing::error!(session = self.who.session, error, "a question to the catalog failed");
        report.hint("lockkeeper: this was its question to the catalog, asked before your statement, which was not run.")
    }

    fn unreadable_answer(&self, error: &str) -> End {
        let session = self.who.session;
        tracing::error!(session, error, "the answer of the catalog cannot be read");
        let report = Report::error(
            "XX000",
            "lockkeeper: the answer of the catalog cannot be read, so the statement was not run",
        );
        report.detail(error).into()
    }

    /// What the planner expects would decide a refusal: the rows are counted instead, up to the limit and for a short time. True:
    /// the facts say now how many there are, or that there are more.
    pub(super) async fn counts(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
    ) -> Result<bool, Broken> {
        let rows_max = policy.backfill.rows_max;
        let decides = facts.estimated_rows.is_some_and(|rows| rows > rows_max as f64) && facts.open_job.is_none();
        match decides {
            true => self.counts_now(statement, facts, policy, place, parameters).await,
            false => Ok(false),
        }
    }

    /// In a pipeline a question that fails would be the end of the transaction.
    pub(super) async fn counts_now(
        &mut self,
        statement: &Statement,
        facts: &mut Facts,
        policy: &Policy,
        place: Place,
        parameters: &Parameters,
    ) -> Result<bool, Broken> {
        if place == Place::Pipeline {
            return Ok(false);
        }
        let rows_max = policy.backfill.rows_max;
        let max = rows_max.saturating_add(1);
        let counting = match facts.relations.iter().any(|relation| relation.ruled) {
            // Which tables a rule leads to, the server tells by what it locks; each row of these is changed once at most.
            true => statement.explainable().map(|sql| {
                let explain = parameters.ask(format!("EXPLAIN (FORMAT JSON) {sql}"));
                vec![explain, Ask::new(rows_written_to(max))]
            }),
            false => facts
                .target(statement)
                .and_then(|relation| batches::count::sql(statement, relation, facts, rows_max))
                .map(|sql| vec![parameters.ask(sql)]),
        };
        let Some(counting) = counting else {
            return Ok(false);
        };
        let limit_ms = match facts.statement_timeout_ms {
            0 => COUNT_MS_MAX,
            own => own.min(COUNT_MS_MAX),
        };
        let limit = Ask::set_local("statement_timeout", &limit_ms.to_string());
        // Operators, casts and what functions call in turn may write: the statement has not been let run.
        let read_only = Ask::set_local("transaction_read_only", "on");
        let asks = [vec![limit, read_only], counting].concat();
        let answers = match self.ask_all_harmlessly(asks, place).await {
            Ok(answers) => answers,
            Err(End::Broken(broken)) => return Err(broken),
            Err(End::Refused(report)) => {
                tracing::debug!(
                    session = self.who.session,
                    error = report.message(),
                    "the rows could not be counted"
                );
                return Ok(false);
            }
        };
        let rows = answers
            .last()
            .and_then(Answer::value)
            .and_then(|rows| rows.parse::<u64>().ok());
        let Some(rows) = rows else { return Ok(false) };
        facts.more_were_counted = rows > rows_max;
        if rows <= rows_max {
            facts.estimated_rows = Some(rows as f64);
        }
        Ok(true)
    }

    /// What is asked now is asked without the statement's tree.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.is_on
    }

    /// What a new partition may hold. The question fails only where there is no PL/pgSQL, or at the moment.
    pub(super) async fn bounds(&mut self, question: Question, place: Place) -> Result<Bounds, Broken> {
        let asks = vec![Ask::new(question.sql()), Ask::new(bounds::ANSWER)];
        match self.ask_all_harmlessly(asks, place).await {
            Ok(answers) => Ok(question.decode(answers.last().and_then(Answer::value))),
            Err(End::Refused(report)) => Ok(question.failed(&report.message())),
            Err(End::Broken(broken)) => Err(broken),
        }
    }

    /// What the actions of an ALTER TABLE would do.
    pub(super) async fn tried(&mut self, question: trial::Question, place: Place) -> Result<Option<Tried>, Broken> {
        let asks = vec![Ask::new(question.sql()), Ask::new(trial::ANSWER)];
        let tried = match self.ask_all_harmlessly(asks, place).await {
            Ok(answers) => question.decode(answers.last().and_then(Answer::value)),
            Err(End::Refused(report)) => Err(report.message()),
            Err(End::Broken(broken)) => return Err(broken),
        };
        if let Err(why) = &tried {
            tracing::debug!(
                session = self.who.session,
                why,
                "a statement could not be tried on an empty copy"
            );
        }
        Ok(tried.ok())
    }

    /// A question that may fail, without harm to the client's transaction; in a pipeline, where no savepoint can be set, its
    /// failure is the transaction's.
    pub(super) async fn ask_harmlessly(&mut self, ask: Ask, place: Place) -> Result<Answer, End> {
        let mut answers = self.ask_all_harmlessly(vec![ask], place).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Several, in one transaction.
    pub(super) async fn ask_all_harmlessly(&mut self, asks: Vec<Ask>, place: Place) -> Result<Vec<Answer>, End> {
        if self.aside.is_on {
            let Some(answer) = self.aside.answer(&asks) else {
                self.aside.wanted = vec![asks];
                return Err(Broken::Aside.into());
            };
            return answer.map_err(End::from);
        }
        // Functions that are called IMMUTABLE or STABLE and are not would write. In a pipeline nothing else does then, up to its end.
        let plans = self.is_dry && asks.iter().any(Ask::explains);
        let count = asks.len();
        let asks = match plans {
            true => [vec![Ask::set_local("transaction_read_only", "on")], asks].concat(),
            false => asks,
        };
        let before = asks.len() - count;
        if place != Place::Block {
            let mut answers = self.relay.ask(&asks, closing_at(place), Hears::Nothing).await?;
            return Ok(answers.split_off(before.min(answers.len())));
        }
        let point = self.relay.reserved.clone();
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        let asked = [&[Ask::as_client(format!("SAVEPOINT {point}"))], &asks[..], &back[..]].concat();
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await;
        if let Err(End::Refused(_)) = answers {
            unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
        }
        Ok(answers?.into_iter().skip(1 + before).take(count).collect())
    }
}

/// For so long the rows of a statement are counted, before it is refused for what the planner expects.
pub(super) const COUNT_MS_MAX: u64 = 2_000;

pub(super) fn explain(statement: &Statement, parameters: &Parameters) -> Option<Ask> {
    let sql = statement.explainable()?;
    Some(parameters.ask(format!("EXPLAIN (FORMAT JSON) {sql}")))
}

pub(super) fn closing_at(place: Place) -> Closing {
    match place {
        Place::Pipeline => Closing::Flush,
        _ => Closing::Sync,
    }
}

/// Sent again later, the same question may be answered: transaction rollback, resources, object not in prerequisite state,
/// operator intervention, and failures of the system.
pub(super) fn is_of_the_moment(report: &Report) -> bool {
    ["40", "53", "55", "57", "58", "XX"]
        .iter()
        .any(|class| report.sqlstate().starts_with(class))
}

/// What is expected to touch so many times less than `rows_max` is let pass, and remembered for a while.
pub(super) const FAR_BELOW: f64 = 10.0;

/// The rows of the tables that this transaction writes to, up to a number of them each. Their names are known to the server alone: a
/// text that it makes is one that only it need read.
pub(super) fn rows_written_to(max: u64) -> String {
    format!(
        "SELECT pg_catalog.sum(pg_catalog.substring(pg_catalog.query_to_xml(pg_catalog.format(
'SELECT pg_catalog.count(*) AS n FROM (SELECT FROM %s LIMIT {max}) AS t', l.relation::pg_catalog.regclass), false, true, '')
::pg_catalog.text, '<n>([0-9]+)</n>')::pg_catalog.int8)::pg_catalog.int8
FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock'
AND c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p,m}}'::pg_catalog.\"char\"[])
AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
    )
}
