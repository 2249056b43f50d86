//! From a statement to a verdict: facts are asked on the client's own server connection, the plan is made, and carried out.

use super::apart::{apart, apart_of};
use super::conduct::{Limits, Setting};
use super::dialogue::{Answer, Ask, Closing, Hears};
use super::encoding::Encoding;
use super::journal::Entry;
use super::relay::{Broken, End, PreparedWrite, Reading, unless_refused};
use super::session::Session;
use super::unread::rows_written_to;
use super::weigh::{Along, FAR_BELOW};
use super::wire::Report;
use crate::plan::batches::firing::{self, Firing};
use crate::plan::batches::{self, Target};
use crate::plan::bounds::{self, Bounds, Question};
use crate::plan::catalog::Relation;
use crate::plan::depends::{self, Depends};
use crate::plan::dry;
use crate::plan::facts::Facts;
use crate::plan::glance;
use crate::plan::jobs;
use crate::plan::lock::LockMode;
use crate::plan::mixed;
use crate::plan::outbox::{Deferral, exchange};
use crate::plan::policy::{InTransaction, Policy};
use crate::plan::pooled;
use crate::plan::request::Request;
use crate::plan::rules;
use crate::plan::statement::{
    Kind, Statement, Unreadable, holds_several, is_single, may_insert, may_use_prepared, mentions, misread_name, read,
};
use crate::plan::tool::Tool;
use crate::plan::trial::{self, Tried};
use crate::plan::waiting::Dropped;
use crate::plan::{self, Mode as StepMode, Place, Plan, Rejection, Run};
use bytes::Bytes;
use pg_query::NodeEnum;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

/// Above this a text is parsed away from the worker, whose other sessions would wait.
pub(super) const PARSE_INLINE_MAX: usize = 32 << 10;
/// The same of its plan, for which the text is parsed several times and trees are compared.
const PLAN_INLINE_MAX: usize = 2 << 10;

/// For so long the rows of a statement are counted, before it is refused for what the planner expects.
pub(super) const COUNT_MS_MAX: u64 = 2_000;

/// SQL-level PREPARE of statements that change rows, by session.
const PREPARED_WRITES_MAX: usize = 1_000;

/// The client's parameters of the statement that is being judged, for what is asked in its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub types: Bytes,
    pub values: Bytes,
    /// It came over the extended protocol, where the rows have been described already.
    pub extended: bool,
    /// Formats of the rows, as in its Bind.
    pub results: Vec<u8>,
    /// How many rows it wants at a time; 0 = all.
    pub rows_max: i32,
}

impl Parameters {
    pub fn ask(&self, sql: String) -> Ask {
        Ask {
            types: self.types.clone(),
            parameters: self.values.clone(),
            ..Ask::as_client(sql)
        }
    }
}

/// What the session did about a statement.
pub(super) enum Verdict {
    /// The client's own bytes go on.
    Forward(Option<Entry>),
    /// Done by steps: the command tag.
    Done(String),
    /// Other text goes on and the server's answer with it (UPDATE … LIMIT).
    Instead(String, Entry),
    /// The rows of its plan, as JSON.
    Dry(String),
    Refused(Report),
}

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

/// What was asked for a slight statement that has locked its relation for the rest of the transaction. The next one about the same waits for
/// nobody, and nothing of it can have changed if nothing was sent in between: while others wait for that lock, it is not asked again.
pub(super) struct Before {
    request: Request,
    facts: Facts,
    /// The lock is ACCESS EXCLUSIVE.
    locked: bool,
    /// [`Responses::count`](super::responses::Responses::count)
    sent: u64,
}

type Answered = (Vec<Ask>, Result<Vec<Answer>, Report>);

/// Questions about a long statement that are asked while its tree is not held, and what was answered.
#[derive(Default)]
pub(super) struct Aside {
    is_on: bool,
    wanted: Vec<Vec<Ask>>,
    answered: Vec<Answered>,
}

impl Aside {
    /// All of them at once: for each the text would be read again.
    pub(super) fn wants_first(&mut self, wanted: Vec<Vec<Ask>>) -> Result<(), Broken> {
        if !self.is_on || !self.answered.is_empty() || wanted.is_empty() {
            return Ok(());
        }
        self.wanted = wanted;
        Err(Broken::Aside)
    }

    fn answer(&self, asks: &[Ask]) -> Option<Result<Vec<Answer>, Report>> {
        let is_same = |(known, _): &&Answered| {
            known.len() == asks.len()
                && known
                    .iter()
                    .zip(asks)
                    .all(|(one, other)| one.sql == other.sql && one.parameters == other.parameters)
        };
        self.answered.iter().find(is_same).map(|(_, answer)| answer.clone())
    }
}

/// A large tree takes a while to be taken apart.
fn let_go(statement: Arc<Statement>) {
    if statement.sql.len() > PARSE_INLINE_MAX {
        tokio::task::spawn_blocking(move || drop(statement));
    }
}

/// Long texts away from the worker.
pub(super) async fn parsed(text: &[u8], conforming: bool) -> Result<Vec<Statement>, Unreadable> {
    if text.len() <= PARSE_INLINE_MAX {
        return read(text, conforming);
    }
    let copy = text.to_vec();
    apart(text, move || read(&copy, conforming))
        .await
        .unwrap_or(Err(Unreadable::TooLarge))
}

/// What takes the statement's tree: away from the worker where it is long.
async fn of<T: Send + 'static>(
    statement: &Arc<Statement>,
    work: impl FnOnce(&Statement) -> T + Send + 'static,
) -> Result<T, Broken> {
    if statement.sql.len() <= PLAN_INLINE_MAX {
        return Ok(work(statement));
    }
    let done = apart_of(statement, work).await;
    done.ok_or_else(|| Broken::Protocol("the statement could not be judged".into()))
}

impl Session {
    pub(super) async fn read(&mut self, text: &[u8]) -> Result<Vec<Statement>, Unreadable> {
        let reading = self.relay.reading();
        let conforming = reading.conforming;
        // In some encodings a byte of a character can be a quote or a backslash.
        if !text.is_ascii() && !matches!(reading.encoding.as_str(), "UTF8" | "UNICODE" | "SQL_ASCII") {
            return Err(Unreadable::Encoding);
        }
        let statements = parsed(text, conforming).await?;
        let server = self.relay.reported.server_encoding.as_str();
        if let Some(name) = statements
            .iter()
            .find_map(|statement| misread_name(&statement.sql, server))
        {
            return Err(Unreadable::Name(name));
        }
        let mut statements = self.with_what_they_execute(statements).await;
        statements.iter_mut().for_each(|statement| self.mark_firing(statement));
        if self.relay.encoding() == Encoding::Utf8 {
            return Ok(statements);
        }
        // Written as U&"\00e9" a name is the same in every encoding; but a question about it would not be.
        let names_lost = |statement: &Statement| {
            let ahead = Request::of(statement).ahead();
            ahead.iter().any(|(_, expression)| !expression.is_ascii())
        };
        let escapes = text.is_ascii() || text.windows(2).any(|two| two.eq_ignore_ascii_case(b"u&"));
        match escapes && statements.iter().any(names_lost) {
            true => Err(Unreadable::Encoding),
            false => Ok(statements),
        }
    }

    /// An EXECUTE is judged as what was prepared, where that changes rows. Whether the server took a PREPARE or a DEALLOCATE is not
    /// waited for: a name that is remembered in vain costs a question.
    pub(super) async fn with_what_they_execute(&mut self, mut statements: Vec<Statement>) -> Vec<Statement> {
        // What stands before it in the message may prepare it, as a function can.
        let is_one_of_several = statements.len() > 1;
        for statement in &mut statements {
            if matches!(statement.node, NodeEnum::PrepareStmt(_)) {
                let firing = self.relay.shapes.known_firing();
                if mixed::changed(&statement.node).is_some() || firing.is_some_and(|firing| firing.concerns(statement))
                {
                    self.has_prepared(&statement.node, &statement.sql);
                }
                continue;
            }
            if matches!(statement.node, NodeEnum::DoStmt(_)) {
                // It may put the text of one together.
                self.relay.prepared_others = true;
                self.relay.by_text.may_be_anything();
                let prepares = statement.body().map(|body| body.prepares.clone()).unwrap_or_default();
                for prepare in &prepares {
                    self.has_prepared(prepare, "");
                }
                continue;
            }
            let Some(name) = mixed::executes(&statement.node).map(str::to_owned) else {
                continue;
            };
            let prepared = match self.relay.prepared_writes.get(&name) {
                Some(known) => Some(known.node.clone()),
                None if self.relay.held.statement(name.as_bytes()).is_some() => {
                    self.prepared_over_the_protocol(&name).await
                }
                // The server tells what it is, when its turn has come.
                None => (self.relay.prepared_others || is_one_of_several || self.inserts_may_fire())
                    .then(|| NodeEnum::PrepareStmt(Box::default())),
            };
            if let Some(prepared) = prepared {
                statement.kind = Kind::MixedWrite;
                mixed::put_prepared(&mut statement.node, prepared);
            }
        }
        statements
    }

    /// An INSERT was prepared in SQL, perhaps before there was a rule by which it changes other rows.
    fn inserts_may_fire(&self) -> bool {
        let firing = self.relay.shapes.known_firing();
        self.relay.prepared_inserts && firing.is_none_or(|firing| !firing.is_empty())
    }

    /// An INSERT that changes other rows by a rule is judged by what the server makes of it.
    pub(super) fn mark_firing(&self, statement: &mut Statement) {
        if matches!(statement.node, NodeEnum::DoStmt(_))
            && let Some(firing) = self
                .relay
                .shapes
                .known_firing()
                .filter(|firing| !firing.is_empty() || firing.has_keys())
        {
            statement.count_inserts(|inner| firing.concerns(inner));
            return;
        }
        if matches!(statement.kind, Kind::Harmless)
            && !matches!(statement.node, NodeEnum::PrepareStmt(_))
            && let Some(firing) = self.relay.shapes.known_firing()
            && firing.concerns(statement)
        {
            statement.kind = Kind::MixedWrite;
        }
    }

    fn has_prepared(&mut self, prepare: &NodeEnum, sql: &str) {
        let NodeEnum::PrepareStmt(prepared) = prepare else {
            return;
        };
        let known = &mut self.relay.prepared_writes;
        let write = PreparedWrite {
            node: prepare.clone(),
            sql: sql.to_owned(),
        };
        match known.len() < PREPARED_WRITES_MAX || known.contains_key(&prepared.name) {
            true => drop(known.insert(prepared.name.clone(), write)),
            false => {
                self.relay.prepared_others = true;
                self.relay.by_text.may_be_anything();
            }
        }
    }

    async fn prepared_over_the_protocol(&self, name: &str) -> Option<NodeEnum> {
        let held = self.relay.held.statement(name.as_bytes())?;
        let conforming = held.reading.as_ref().is_none_or(|reading| reading.conforming);
        let [statement] = &parsed(&held.text, conforming).await.ok()?[..] else {
            return None;
        };
        let query = Some(Box::new(pg_query::Node {
            node: Some(statement.node.clone()),
        }));
        let prepare = NodeEnum::PrepareStmt(Box::new(pg_query::protobuf::PrepareStmt {
            query,
            ..Default::default()
        }));
        mixed::changed(&prepare).is_some().then_some(prepare)
    }

    /// Asks the server how it reads a text, where that may have changed and is not reported yet. A question that fails has failed
    /// in a group that has failed with it.
    pub(super) async fn ask_reading(&mut self, text: &[u8]) -> Result<(), End> {
        if !self.relay.may_read_otherwise(text) || self.relay.responses.skipping() {
            return Ok(());
        }
        let sql = "SELECT pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding')";
        let answers = self
            .relay
            .ask(&[Ask::as_client(sql)], Closing::Flush, Hears::Nothing)
            .await?;
        if let [answer] = answers.as_slice()
            && let [row] = answer.rows.as_slice()
            && let [Some(conforming), Some(encoding)] = row.as_slice()
        {
            self.relay.reads(Reading {
                conforming: conforming == "on",
                encoding: encoding.clone(),
            });
        }
        Ok(())
    }

    /// Asks the server which INSERTs change other rows by a rule, where that is not known. A question that fails has failed in a group that
    /// has failed with it.
    pub(super) async fn ask_firing(&mut self, text: &[u8], closing: Closing) -> Result<(), End> {
        let executes = self.relay.prepared_inserts && may_use_prepared(text);
        let is_asked = (may_insert(text) || executes) && self.relay.shapes.firing().is_none();
        // In a transaction a question fixes its snapshot, which SET TRANSACTION or LOCK in the same message would come in front of.
        let comes_first = self.relay.place() == Place::Alone || !holds_several(text) || is_single(text);
        if !is_asked
            || !comes_first
            || self.relay.replication
            || self.relay.responses.skipping()
            || self.relay.block_failed()
        {
            return Ok(());
        }
        // A Sync may end what the client has not ended: 18 says of such a transaction what it says of a block.
        let closing = match self.relay.place() {
            Place::Alone if closing == Closing::Sync => Closing::Sync,
            _ => Closing::Flush,
        };
        let before = self.relay.shapes.before();
        // With a time of its own, whatever the client's statement has.
        let ask = Ask {
            catalog: Some("rules".into()),
            ..Ask::new(firing::SQL.trim_end().to_owned())
        };
        let answer = match self.relay.ask_catalog(ask, closing).await {
            Ok(answer) => answer,
            // It harms nothing that this is not known.
            Err(End::Refused(_)) if self.relay.place() == Place::Alone && self.forwards_unread() => return Ok(()),
            Err(end) => return Err(end),
        };
        match Firing::decode(answer.value()) {
            Ok(firing) => self.relay.shapes.learn_firing(before, firing),
            Err(error) => tracing::error!(
                session = self.who.session,
                error,
                "the question about rules was answered with what cannot be read"
            ),
        }
        Ok(())
    }

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
        let text = may_race.then(|| statement.sql.clone());
        let first = self
            .verdict_now(statement, place, parameters, closing, position_shift)
            .await?;
        let raced = matches!(&first, Verdict::Refused(report) if self.raced && names_changed(report));
        let Some(text) = text.filter(|_| raced) else {
            return Ok(first);
        };
        match self.read_again(&text).await {
            Some(statement) => {
                self.verdict_now(statement, place, parameters, closing, position_shift)
                    .await
            }
            None => Ok(first),
        }
    }

    /// One statement, of which only the text was kept.
    pub(super) async fn read_again(&mut self, text: &str) -> Option<Statement> {
        let mut statements = self.read(text.as_bytes()).await.ok()?;
        (statements.len() == 1).then(|| statements.remove(0))
    }

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
                return Ok(Verdict::Dry(super::dry::resumes(job)));
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
        if matches!(statement.kind, Kind::Ddl) {
            // A key may go, a temporary table that hid another too.
            self.relay.names_moved();
        }
        let policy = self.shared.policy();
        let is_dry = self.is_dry;
        if !is_dry
            && matches!(statement.kind, Kind::Ddl)
            && !self.outbox.looks_on()
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
        let (request, mut facts) = match (before, glanced) {
            (Some(before), _) => (Some(before.request), before.facts),
            (None, Some(facts)) => {
                // Nothing waits.
                is_known = true;
                (None, facts)
            }
            (None, None) => {
                let keeps = (!request.details && place == Place::Block).then(|| request.clone());
                (keeps, self.facts(request, closing).await?)
            }
        };
        let (is_held, locks_wholly, known) = of(statement, move |statement| {
            let is_held = is_locked && glance::locks_itself(statement, &facts);
            (is_held, is_locked || glance::locks_wholly(statement), facts)
        })
        .await?;
        facts = known;
        facts.estimated_rows = expected;
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
        if let Some(question) = of(statement, depends::Question::of).await? {
            facts.depends = self.depends(&question, closing).await?;
        }
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
            facts.reserve(self.waiting(None).await?);
        }
        facts.tool = self
            .relay
            .tool
            .or_else(|| Tool::of_application(&facts.application_name));
        facts.dropped.clone_from(&self.outbox.dropped);
        let (mut plan, known) = self.planned(statement, facts, &policy, place).await?;
        facts = known;
        if let Plan::Reject(_) = plan
            && self.counts(statement, &mut facts, &policy, place, parameters).await?
        {
            let (again, known) = self.planned(statement, facts, &policy, place).await?;
            (plan, facts) = (again, known);
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

    /// All that it locks for was made by this transaction: nobody waits for it.
    async fn is_created_here(&mut self, statement: &Arc<Statement>) -> Result<bool, End> {
        // Where jobs are kept, one of this statement may wait.
        let may_be = self.relay.shapes.makes_tables()
            && matches!(statement.kind, Kind::Ddl)
            && !self.outbox.looks_on()
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
        if self.outbox.looks_on() {
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
            facts.reserve(self.waiting(None).await?);
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
                // The statement_timeout counts for each batch.
                if run.steps.iter().any(|step| matches!(step.mode, StepMode::Batches(_))) {
                    self.limits.without_end();
                }
                self.announce(&entry, &policy).await?;
                for notice in &run.notices {
                    self.relay.notice(notice).await?;
                }
                let setting = Setting {
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
                    None => self.outbox.dropped.clear(),
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

    /// In the client's encoding the server would take this text of ours for another one.
    pub(super) fn is_lost(&self, text: &str) -> bool {
        match self.relay.reported.client_encoding.as_str() {
            "UTF8" | "UNICODE" => false,
            "SQL_ASCII" => text.contains(char::REPLACEMENT_CHARACTER),
            _ => !text.is_ascii(),
        }
    }

    /// Names from the catalog that the client did not write would be others in its encoding.
    fn uncarried(&self, run: &Run) -> Option<Rejection> {
        if self.relay.is_behind_pooler()
            && let Some(rejection) = pooled::uncarried(run)
        {
            return Some(rejection);
        }
        let deferred = match &run.deferral {
            Some(Deferral::New(new)) => new.later.as_slice(),
            _ => &[],
        };
        let encoding = self.relay.reported.client_encoding.as_str();
        let step = run.steps.iter().chain(deferred).find(|step| self.is_lost(&step.sql))?;
        Some(Rejection {
            // feature_not_supported
            sqlstate: "0A000".to_owned(),
            message: format!(
                "carrying this out safely takes names that cannot be sent in client_encoding {encoding}; SET client_encoding = 'UTF8' and send it again"
            ),
            detail: format!("The step: {}", step.sql),
            hint: String::new(),
            findings: run.findings.clone(),
        })
    }

    /// The steps, and what is told of them: to whoever looks while they run, and to the audit log at their end.
    pub(super) async fn carry_out(
        &mut self,
        run: &Run,
        relations: &[Relation],
        setting: Setting<'_>,
        mut entry: Entry,
    ) -> Result<Verdict, Broken> {
        self.seat.plan_begins(entry.event(), setting.policy.audit_literals);
        let watched = self.begin_watching(relations, run);
        let conducted = match self.conduct(run, setting, &mut entry).await {
            Ok(tag) => Ok(tag),
            Err(End::Refused(report)) => Err(report),
            Err(End::Broken(broken)) => {
                self.seat.plan_ends();
                self.record(entry.disconnected(&broken)).await;
                return Err(broken);
            }
        };
        // Of batches and steps only the whole has a tag.
        match &conducted {
            Ok(tag) => self.relay.shapes.heard(tag.as_bytes()),
            Err(_) => self.relay.shapes.much_has_changed(),
        }
        // Should the session end right here, the statement was carried out all the same.
        let after = self.end_watching(watched, setting.place).await;
        self.seat.plan_ends();
        let (follow_up, broken) = match after {
            Ok((after, follow_up)) => {
                entry.after(after);
                (Some(follow_up), None)
            }
            Err(broken) => (None, Some(broken)),
        };
        let (event, verdict) = match conducted {
            Ok(tag) => (entry.done(&tag), Verdict::Done(tag)),
            Err(report) => (entry.failed(&report), Verdict::Refused(report)),
        };
        self.shared.rates.learn_plan(run, relations, &event.steps);
        self.record_end(event, follow_up).await;
        if let Some(broken) = broken {
            return Err(broken);
        }
        Ok(verdict)
    }

    pub(super) async fn facts(&mut self, mut request: Request, closing: Closing) -> Result<Facts, End> {
        // Few databases have such a table, and whether it can be trusted is a long question.
        request.jobs &= self.relay.shapes.have_jobs();
        let facts = self.facts_of(&request, closing).await?;
        if !facts.jobs_there || request.jobs {
            return Ok(facts);
        }
        self.relay.shapes.saw_jobs();
        request.jobs = true;
        self.facts_of(&request, closing).await
    }

    async fn facts_of(&mut self, request: &Request, closing: Closing) -> Result<Facts, End> {
        let ask = Ask {
            ahead: request.ahead(),
            catalog: Some(request.variant()),
            ..Ask::new(request.sql())
        };
        let session = self.who.session;
        let failed = |report: Report| {
            tracing::error!(session, error = report.message(), "the facts query failed");
            report.hint(
                "lockkeeper: this was its question to the catalog, asked before your statement, which was not run.",
            )
        };
        let answer = self.relay.ask_catalog(ask, closing).await;
        let answer = answer.map_err(|end| end.reworded(failed))?;
        match Facts::decode(answer.value().unwrap_or_default()) {
            Ok(mut facts) => {
                self.relay.works_with(facts.backend_pid);
                facts.pooled = self.relay.is_behind_pooler();
                // It may be another client's.
                facts.override_lost = facts.pooled && facts.override_.take().is_some();
                let level = facts.client_min_messages.as_str();
                self.relay.hears_notices = level.starts_with("debug") || matches!(level, "log" | "notice");
                self.who.application_name.clone_from(&facts.application_name);
                self.seat.is_known_as(&facts.application_name);
                Ok(facts)
            }
            Err(error) => {
                tracing::error!(
                    session = self.who.session,
                    error,
                    "the facts query answered what cannot be read"
                );
                Err(Report::error(
                    "XX000",
                    "lockkeeper: the answer of the catalog cannot be read, so the statement was not run",
                )
                .detail(&error)
                .into())
            }
        }
    }

    /// What goes with the statement.
    async fn depends(&mut self, question: &depends::Question, closing: Closing) -> Result<Depends, End> {
        // Every operator and type in it is written with its schema.
        let session = self.who.session;
        let failed = |report: Report| {
            let error = report.message();
            tracing::error!(session, error, "the question about dependent objects failed");
            report.hint(
                "lockkeeper: this was its question to the catalog, asked before your statement, which was not run.",
            )
        };
        let ask = Ask {
            ahead: question.ahead(),
            catalog: Some(question.variant()),
            ..Ask::new(question.sql())
        };
        let answer = self.relay.ask_catalog(ask, closing).await;
        let answer = answer.map_err(|end| end.reworded(failed))?;
        question.decode(answer.value().unwrap_or_default()).map_err(|error| {
            tracing::error!(session, error, "the answer about dependent objects cannot be read");
            Report::error(
                "XX000",
                "lockkeeper: the answer of the catalog cannot be read, so the statement was not run",
            )
            .detail(&error)
            .into()
        })
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
            _ if relation.invisible_to_others() && !relation.ruled => return Ok(()),
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

    /// What the planner expects would decide a refusal: the rows are counted instead, up to the limit and for a short time. True:
    /// the facts say now how many there are, or that there are more.
    async fn counts(
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
        let asks = [vec![limit], counting].concat();
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

    /// What the planner expects a MERGE or a WITH that changes data to update and delete. Where that is far too little to matter, the
    /// same text is not asked about again for a while.
    async fn rows_changed(
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
        let before = self.relay.shapes.before();
        let json = self.explained(statement, place, parameters).await?;
        let Some(rows) = json.as_deref().and_then(mixed::changed_rows) else {
            return Ok(0.0);
        };
        let rows_max = policy.backfill.rows_max as f64;
        let mut cascades = false;
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

    /// What is asked now is asked without the statement's tree.
    pub(super) fn is_aside(&self) -> bool {
        self.aside.is_on
    }

    /// The plan, as JSON. None: the statement itself will fail in the same way, in the server's words.
    pub(super) async fn explained(
        &mut self,
        statement: &Statement,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Option<String>, End> {
        let Some(explain) = explain(statement, parameters) else {
            return Ok(None);
        };
        match self.ask_harmlessly(explain, place).await {
            Ok(answer) => Ok(answer.value().map(str::to_owned)),
            Err(End::Refused(mut report)) if place == Place::Pipeline || is_of_the_moment(&report) => {
                report.remove(b'P');
                Err(report.into())
            }
            Err(End::Refused(_)) => Ok(None),
            Err(broken) => Err(broken),
        }
    }

    /// What a new partition may hold. The question fails only where there is no PL/pgSQL, or at the moment.
    async fn bounds(&mut self, question: Question, place: Place) -> Result<Bounds, Broken> {
        let asks = vec![Ask::new(question.sql()), Ask::new(bounds::ANSWER)];
        match self.ask_all_harmlessly(asks, place).await {
            Ok(answers) => Ok(question.decode(answers.last().and_then(Answer::value))),
            Err(End::Refused(report)) => Ok(question.failed(&report.message())),
            Err(End::Broken(broken)) => Err(broken),
        }
    }

    /// What the actions of an ALTER TABLE would do.
    async fn tried(&mut self, question: trial::Question, place: Place) -> Result<Option<Tried>, Broken> {
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
        if place != Place::Block {
            return self.relay.ask(&asks, closing_at(place), Hears::Nothing).await;
        }
        let point = self.relay.reserved.clone();
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        let count = asks.len();
        let asked = [&[Ask::as_client(format!("SAVEPOINT {point}"))], &asks[..], &back[..]].concat();
        let answers = self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await;
        if let Err(End::Refused(_)) = answers {
            unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
        }
        Ok(answers?.into_iter().skip(1).take(count).collect())
    }
}

/// What is refused on the way to a verdict is the verdict.
pub(super) fn or_refused(verdict: Result<Verdict, End>) -> Result<Verdict, Broken> {
    match verdict {
        Err(End::Refused(report)) => Ok(Verdict::Refused(report)),
        Err(End::Broken(broken)) => Err(broken),
        Ok(verdict) => Ok(verdict),
    }
}

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

fn identity(statement: &Statement, relation: &Relation, parameters: &Parameters) -> String {
    let seen_by = relation.row_security.as_ref().map(|seen| seen.settings.clone());
    jobs::identity(
        &statement.sql,
        relation.oid,
        &parameters.types,
        &parameters.values,
        &seen_by.unwrap_or_default(),
    )
}

/// Sent again later, the same question may be answered: transaction rollback, resources, object not in prerequisite state,
/// operator intervention, and failures of the system.
pub(super) fn is_of_the_moment(report: &Report) -> bool {
    ["40", "53", "55", "57", "58", "XX"]
        .iter()
        .any(|class| report.sqlstate().starts_with(class))
}

/// duplicate_table, duplicate_object, duplicate_column, undefined_object, undefined_column, unique_violation (of the catalog).
fn names_changed(report: &Report) -> bool {
    match report.get(b'C') {
        Some(b"42P07" | b"42710" | b"42701" | b"42704" | b"42703") => true,
        Some(b"23505") => report.get(b's') == Some(b"pg_catalog"),
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
