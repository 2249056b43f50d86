//! From the rules' findings to one plan. ALTER TABLE is judged action by action.
//!
//! [`plan`] judges every part of the statement, asks the policy what each finding means, and puts the parts together: the client's
//! own text where nothing is flagged, else its actions in order, the flagged ones as the steps of their remedies.

mod block;
mod later;
mod locked;
mod queue;
mod refused;

use super::catalog::{Name, Relation};
use super::deferred::behind::{self, Met};
use super::deferred::{self, Deferral, New, Trial};
use super::depends::{Part as Going, What};
use super::facts::Facts;
use super::finding::{Finding, Rejection};
use super::jobs::Access;
use super::locks::strongest;
use super::outcome::{Plan, Run};
use super::overrides::Overrides;
use super::policy::{self, Action, InTransaction, Overridden, Policy};
use super::progress::{Group, Progress};
use super::request::Request;
use super::rules::{self, nonconcurrent_drop_index, nonconcurrent_index, server_fault};
use super::statement::{Kind, Statement};
use super::step::{Mode, Place, Step};
use super::{about, rehearsal, splice, words};
use crate::rules::rule::{Found, Remedy, Rule};
use crate::statement::alter::{AlterText, alter_actions};
use crate::subject::Subject;
use locked::{locked, tag};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ObjectType};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Object not in the prerequisite state: what a rejection says unless the rule knows better.
const REJECTED: &str = "55000";
/// What these rules guard is that running programs go on: with the rows, columns and names that they know.
const OF_USE: [&str; 5] = ["drop-column", "rename-column", "rename-table", "drop-table", "truncate"];
/// Active SQL transaction: what cannot run inside the client's transaction.
const IN_TRANSACTION: &str = "25001";

pub(super) fn plan(statement: &Statement, facts: &Facts, policy: &Policy, place: Place) -> Plan {
    let judged = matches!(
        statement.kind,
        Kind::Ddl | Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite
    );
    if !judged {
        return forward(Vec::new(), Vec::new());
    }
    let whole = Subject {
        statement,
        facts,
        policy,
        place,
        action: None,
    };
    let mut composer = Composer::new(&whole);
    if let Some(rejection) = composer.wrong_comment() {
        return Plan::Reject(rejection);
    }
    if let Some(run) = nonconcurrent_index::repair(&whole) {
        return Plan::Run(run);
    }
    if let Some(body) = statement.body() {
        return composer.code(body, plan);
    }
    match behind::met(&whole) {
        None => {}
        Some(Met::AllLater) => composer.all_later = true,
        Some(met) => return composer.meet(met),
    }
    match actions(statement) {
        Some((text, commands)) => composer.actions(&text, &commands),
        None => {
            let span = composer.whole_span();
            composer.part(&whole, 0, span);
        }
    }
    composer.finish()
}

fn forward(findings: Vec<Finding>, notices: Vec<String>) -> Plan {
    Plan::Forward { findings, notices }
}

/// The actions of an ALTER TABLE, text and tree beside each other.
fn actions(statement: &Statement) -> Option<(AlterText, Vec<&AlterTableCmd>)> {
    let commands: Vec<&AlterTableCmd> = statement.actions().collect();
    let text = alter_actions(statement)?;
    (text.actions.len() == commands.len()).then_some((text, commands))
}

/// The order in which split actions run: PostgreSQL's own passes (it drops first, then changes types, then adds columns, then
/// constraints), except that a CHECK which proves a column NOT NULL is dropped after the SET NOT NULL that it proves.
fn order(commands: &[&AlterTableCmd], facts: &Facts, statement: &Statement) -> Vec<usize> {
    let relation = match &statement.node {
        NodeEnum::AlterTableStmt(alter) => alter.relation.as_ref().and_then(|r| facts.relation(&Name::of(r))),
        _ => None,
    };
    let set: Vec<&str> = commands
        .iter()
        .filter(|c| c.subtype() == AlterTableType::AtSetNotNull)
        .map(|c| c.name.as_str())
        .collect();
    let proves = |name: &str| {
        let constraint = relation.and_then(|r| r.constraint(name));
        constraint.is_some_and(|c| c.kind == 'c' && c.columns.iter().any(|column| set.contains(&column.as_str())))
    };
    let name = |c: &&AlterTableCmd| match c.def.as_ref().and_then(|d| d.node.as_ref()) {
        Some(NodeEnum::Constraint(constraint)) => Some(constraint.conname.clone()),
        _ => None,
    };
    let names: HashSet<String> = commands.iter().filter_map(name).collect();
    let added = |name: &str| names.contains(name);
    let pass = |command: &AlterTableCmd| match command.subtype() {
        AlterTableType::AtDropConstraint if proves(&command.name) && !added(&command.name) => 9,
        AlterTableType::AtDropColumn | AlterTableType::AtDropConstraint => 0,
        AlterTableType::AtAlterColumnType => 1,
        AlterTableType::AtAddColumn => 2,
        AlterTableType::AtSetExpression => 3,
        AlterTableType::AtAddConstraint => 5,
        AlterTableType::AtColumnDefault | AlterTableType::AtAddIdentity | AlterTableType::AtSetNotNull => 4,
        _ => 6,
    };
    let mut order: Vec<usize> = (0..commands.len()).collect();
    order.sort_by_key(|&i| pass(commands[i]));
    order
}

/// What becomes of one part of the statement, and which of its actions that is.
struct Part {
    action: usize,
    work: Work,
}

enum Work {
    /// The client's own text.
    Own(String),
    Steps(Vec<Step>),
}

/// A finding that refuses the statement, with all that the error has to say.
struct Refusal {
    sqlstate: &'static str,
    message: String,
    short: String,
    hint: String,
    /// Not an unknown danger's: `SET lockkeeper.override = '<rule>: why'` would let it through.
    rule: &'static str,
}

struct Composer<'a> {
    whole: &'a Subject<'a>,
    request: Request,
    /// [`Composer::never_filled`], once it is known.
    unfilled: OnceCell<Option<String>>,
    /// schema.name of each table that the statement is about, for the policy.
    tables: Vec<String>,
    /// For messages: as the client names it.
    shown: String,
    overrides: Overrides<'a>,
    findings: Vec<Finding>,
    notices: Vec<String>,
    refusals: Vec<Refusal>,
    parts: Vec<Part>,
    head: String,
    why: Vec<String>,
    /// Steps for after COMMIT, and how they are proven.
    later: Vec<Step>,
    trials: Vec<Trial>,
    all_later: bool,
    progress: Option<Progress>,
}

impl<'a> Composer<'a> {
    fn new(whole: &'a Subject<'a>) -> Composer<'a> {
        let request = Request::of(whole.statement);
        let (tables, shown) = (
            about::tables(whole.statement, &request.relations, whole.facts),
            locked(whole.statement, &request, whole.facts)
                .map(crate::subject::sql_name)
                .unwrap_or_default(),
        );
        Composer {
            whole,
            request,
            unfilled: OnceCell::new(),
            tables,
            shown,
            overrides: Overrides::of(whole.statement, whole.facts.override_.as_deref()),
            findings: Vec::new(),
            notices: Vec::new(),
            refusals: Vec::new(),
            parts: Vec::new(),
            head: String::new(),
            why: Vec::new(),
            progress: None,
            later: Vec::new(),
            trials: Vec::new(),
            all_later: false,
        }
    }

    /// The statement meets what waits for COMMIT.
    fn meet(mut self, met: Met) -> Plan {
        let deferral = match met {
            Met::Refuse(rejection) => return Plan::Reject(rejection),
            Met::Skip(notice) => {
                self.notices.push(notice);
                return self.run(Vec::new());
            }
            Met::AllLater => return self.finish(),
            Met::Same(job) => Deferral::Adopt(job.id),
            Met::Withdraw(jobs) => Deferral::Withdraw(jobs.iter().map(|job| job.id).collect()),
            Met::Behind(job) => {
                let relation = Relation {
                    oid: job.relation,
                    schema: job.details.schema.clone(),
                    name: job.details.table.clone(),
                    ..Relation::default()
                };
                let own = Step {
                    relation: splice::qualified(&relation.schema, &relation.name),
                    ..self.own_step(self.whole.statement.sql.clone())
                };
                let statement = &self.whole.statement.sql;
                Deferral::New(Box::new(New::of(
                    statement,
                    &relation,
                    Access::Ready,
                    vec![own],
                    Vec::new(),
                )))
            }
        };
        match self.run(Vec::new()) {
            Plan::Run(run) => Plan::Run(Run {
                deferral: Some(deferral),
                ..run
            }),
            other => other,
        }
    }

    /// Action by action, without those that an earlier run of the same statement has done.
    fn actions(&mut self, text: &AlterText, commands: &[&AlterTableCmd]) {
        let (statement, facts) = (self.whole.statement, self.whole.facts);
        self.head = text.head.clone();
        if let ([command], [action]) = (commands, text.actions.as_slice()) {
            let action = Some(crate::subject::Action {
                head: &text.head,
                text: action,
                command,
            });
            let span = text.spans[0].clone();
            self.part(&Subject { action, ..*self.whole }, 0, span);
            return;
        }
        let asked = self.whole.altered();
        let relation = asked.as_ref().and_then(|name| facts.relation(name));
        self.progress = relation.map(|relation| Progress::of(relation, statement));
        // The names that earlier actions have taken by then.
        let mut later = facts.clone();
        for i in order(commands, facts, statement) {
            if facts
                .given_up
                .as_ref()
                .is_some_and(|given_up| given_up.load(Ordering::Relaxed))
            {
                break;
            }
            if self.progress.as_ref().is_some_and(|p| p.is_done(i)) {
                continue;
            }
            let action = Some(crate::subject::Action {
                head: &text.head,
                text: &text.actions[i],
                command: commands[i],
            });
            let facts = &later;
            let deferred = self.later.len();
            self.part(
                &Subject {
                    action,
                    facts,
                    ..*self.whole
                },
                i,
                text.spans[i].clone(),
            );
            let given = match self.parts.last().map(|part| &part.work) {
                Some(Work::Steps(steps)) => {
                    let all = steps.iter().chain(&self.later[deferred..]);
                    all.filter_map(|step| given_name(&step.sql)).collect()
                }
                _ => crate::remedies::names::name_to_be(&later, asked.as_ref(), commands[i])
                    .into_iter()
                    .collect::<Vec<_>>(),
            };
            for relation in later.relations.iter_mut().filter(|r| Some(&r.asked) == asked.as_ref()) {
                relation.taken_constraints.extend(given.iter().cloned());
                relation.taken_relations.extend(given.iter().cloned());
            }
        }
    }

    fn part(&mut self, subject: &Subject, action: usize, span: Range<usize>) {
        let mut remedy: Option<Vec<Step>> = None;
        for rule in rules::RULES {
            let Some(found) = (rule.check)(subject) else {
                continue;
            };
            if let Some(steps) = self.decide(rule, found, subject, span.clone()) {
                remedy.get_or_insert(steps);
            }
        }
        let own = subject
            .action
            .map_or(subject.statement.sql.as_str(), |action| action.text);
        self.why.extend(rules::why_instant(subject));
        let work = match remedy {
            Some(mut steps) => {
                if !self.runs_here(&steps) && self.may_defer() {
                    let later = later_of(&steps);
                    self.trials
                        .extend(deferred::prove::trials(subject, later).unwrap_or_default());
                    let first = steps.len() - later.len();
                    if !self.all_later {
                        self.later.extend(steps.split_off(first));
                    }
                }
                Work::Steps(steps)
            }
            None => Work::Own(own.to_string()),
        };
        self.parts.push(Part { action, work });
    }

    /// Records the finding; the steps if they are to be run.
    fn decide(
        &mut self,
        rule: &'static Rule,
        found: Found,
        subject: &Subject,
        span: Range<usize>,
    ) -> Option<Vec<Step>> {
        if OF_USE.contains(&rule.name)
            && let Some(table) = self.never_filled()
        {
            let notice = format!("{}: let through, since {table} has never held a row", rule.name);
            if !self.notices.contains(&notice) {
                self.notices.push(notice);
            }
            return None;
        }
        let mut found = found;
        if let (Remedy::Steps(steps), Some(fault)) = (&found.remedy, server_fault::of(self.whole.facts))
            && server_fault::concerns(steps)
        {
            found = Found {
                remedy: Remedy::None(Some(format!("There is no safe way on this server: {}", fault.what))),
                short: "upgrade the server first".to_string(),
                hint: fault.remedy.to_string(),
                ..found
            };
        }
        let (action, overridden) = match self.action(rule.name) {
            // What was approved is done in a safe way where there is one, else as it is.
            (Action::Rewrite, Some(approved)) if !matches!(found.remedy, Remedy::Steps(_)) => {
                (Action::Allow, Some(approved))
            }
            decided => decided,
        };
        let mut finding = Finding {
            rule: rule.name,
            lock: rule.lock,
            message: found.message.clone(),
            hint: found.hint.clone(),
            action,
            overridden,
            span,
        };
        let steps = match (action, found.remedy) {
            (Action::Rewrite, Remedy::Steps(_)) if self.drops_now() => Some(vec![self.drop_step()]),
            (Action::Rewrite, Remedy::Steps(steps)) if self.runs_here(&steps) && !self.all_later => Some(steps),
            (Action::Rewrite, Remedy::Steps(steps)) if self.defers(subject, &steps) => Some(steps),
            (Action::Rewrite, Remedy::Steps(_))
                if self.in_transaction() == InTransaction::Forward && !self.all_later =>
            {
                finding.action = Action::Warn;
                None
            }
            (Action::Rewrite, Remedy::Steps(steps)) => {
                let (place, short) = match self.whole.place {
                    Place::Pipeline => (
                        "in a pipeline, which is one transaction",
                        match self.begin_helps(subject, &steps) {
                            true => "send BEGIN before it, or a Sync right before and behind it".to_string(),
                            false => "send a Sync right before and behind it".to_string(),
                        },
                    ),
                    _ => ("inside a transaction", found.short),
                };
                finding.message = format!("{}, and the safe way cannot run {place}", found.message);
                self.refusals.push(Refusal {
                    sqlstate: IN_TRANSACTION,
                    message: finding.message.clone(),
                    short,
                    hint: format!(
                        "{}{}\nBy hand:\n{}",
                        self.why_not_deferred(subject, &steps),
                        rules::concurrent_in_transaction::outside(self.whole.facts),
                        found.hint
                    ),
                    rule: rule.name,
                });
                finding.action = Action::Reject;
                None
            }
            (Action::Rewrite | Action::Ask | Action::Reject, remedy) => {
                let reason = match remedy {
                    Remedy::None(Some(reason)) => format!("{reason}.\n"),
                    _ => String::new(),
                };
                self.refusals.push(Refusal {
                    sqlstate: found.sqlstate.unwrap_or(REJECTED),
                    message: found.message,
                    short: found.short,
                    hint: format!("{reason}{}", found.hint),
                    rule: rule.name,
                });
                finding.action = Action::Reject;
                None
            }
            (Action::Warn | Action::Allow, _) => None,
        };
        if finding.action == Action::Warn {
            self.notices.push(format!("{}: {}", finding.rule, finding.message));
        }
        self.notices.extend(told(finding.rule, &finding.overridden));
        if finding.action != Action::Allow || finding.overridden.is_some() {
            self.findings.push(finding);
        }
        steps
    }

    /// The table that the statement is about, or the first of several, if none of them can be in use yet.
    fn never_filled(&self) -> Option<&str> {
        self.unfilled.get_or_init(|| self.find_unfilled()).as_deref()
    }

    fn find_unfilled(&self) -> Option<String> {
        let known = self
            .request
            .relations
            .iter()
            .filter_map(|name| self.whole.facts.relation(name));
        // With the bytes come those of its children.
        let named = known
            .filter(|r| matches!(r.kind, 'r' | 'p' | 'f' | 'v' | 'm') && !r.invisible_to_others())
            .map(|r| (r.qualified(), r.never_filled && r.bytes == 0 && r.parents.is_empty()));
        let holds_rows = |part: &&Going| matches!(part.what, What::Table | What::Column | What::Touched);
        let parts = self.whole.facts.depends.taken.iter().flat_map(|taken| &taken.parts);
        let taken = parts
            .filter(holds_rows)
            .filter(|part| !part.invisible_to_others())
            .map(|part| (part.name(), part.never_filled && part.parent.is_none()));
        let tables: Vec<(Name, bool)> = named.chain(taken).collect();
        let (first, _) = tables.first()?;
        let all = tables.iter().all(|(_, unused)| *unused);
        // Without a server only the files tell of tables, and of those that they have made.
        let facts = self.whole.facts;
        let is_known = |name: &Name| facts.relation(name).is_some();
        (all && (!facts.offline || self.request.relations.iter().all(is_known)))
            .then(|| crate::subject::sql_name(first))
    }

    /// What the policy says, unless an override that counts lets it through.
    fn action(&self, rule: &str) -> (Action, Option<Overridden>) {
        let (policy, subject) = (self.whole.policy, self.policy_subject());
        let (action, eased) = policy.decision(rule, &subject);
        if action == Action::Ask {
            // Nobody overrides alone what two decide.
            return match &self.whole.facts.approved {
                Some(approved) => (Action::Rewrite, Some(approved.clone())),
                None => (Action::Reject, None),
            };
        }
        if matches!(action, Action::Rewrite | Action::Reject)
            && let Some(overridden) = self.lets_off(rule, policy.reason_required(&subject))
            && policy.may_override(&subject)
        {
            return (Action::Allow, Some(overridden));
        }
        // What would be made safe in another way is.
        if action == Action::Reject
            && let Some(unused) = self
                .whole
                .facts
                .unused
                .as_ref()
                .filter(|unused| unused.rules.contains(&rule))
        {
            let overridden = Overridden {
                by: "[drop] quiet_for_s".to_owned(),
                reason: unused.reason.clone(),
            };
            return (Action::Allow, Some(overridden));
        }
        (action, eased)
    }

    /// An override of a whole restore is one of everything that it drops: half of it would be worse.
    fn lets_off(&self, rule: &str, reason_required: bool) -> Option<Overridden> {
        let restoring = self
            .whole
            .facts
            .depends
            .of(self.whole.statement)
            .is_some_and(|asked| asked.restoring);
        let whole = || {
            self.overrides
                .lets_off(rules::clean_restore::RULE.name, reason_required)
        };
        self.overrides
            .lets_off(rule, reason_required)
            .or_else(|| restoring.then(whole).flatten())
    }

    /// Without the comments before it.
    fn whole_span(&self) -> Range<usize> {
        let sql = &self.whole.statement.sql;
        words::first_token(sql)..sql.len()
    }

    /// A comment that is meant to override something and cannot: refused, unless what cannot be read is let through.
    fn wrong_comment(&mut self) -> Option<Rejection> {
        let wrong = self.overrides.wrong_comment.clone()?;
        if matches!(self.whole.policy.unparsed, Action::Allow | Action::Warn) {
            self.notices.push(wrong);
            return None;
        }
        Some(Rejection {
            // invalid_parameter_value
            sqlstate: "22023".to_string(),
            message: format!("{wrong}; the statement was not run"),
            detail: String::new(),
            hint: "`lockkeeper rules` lists the rules. Without the comment the statement is judged as every other."
                .to_string(),
            findings: Vec::new(),
        })
    }

    fn policy_subject(&self) -> policy::Subject<'_> {
        about::policy_subject(self.whole.facts, &self.tables)
    }

    /// A removal is brief: it is done in the client's transaction, in short tries, so that whatever comes later there, and names or
    /// looks at what is gone, meets what it would meet on the server.
    fn drops_now(&self) -> bool {
        matches!(&self.whole.statement.node, NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex)
            && self.whole.place == Place::Block
            && self.in_transaction() == InTransaction::Defer
            && !self.all_later
    }

    /// What is locked is the index's table.
    fn drop_step(&self) -> Step {
        let index = self.relation();
        let table = index
            .and_then(|index| index.table.as_ref())
            .map(crate::subject::sql_name);
        let plain = match &self.whole.statement.node {
            NodeEnum::DropStmt(drop) => nonconcurrent_drop_index::without_concurrently(drop),
            _ => None,
        };
        let own = self.own_step(plain.unwrap_or_else(|| self.whole.statement.sql.clone()));
        Step {
            relation: table.unwrap_or_else(|| own.relation.clone()),
            ..own
        }
    }

    /// The table that the job is about; of a dropped index its own.
    fn relation(&self) -> Option<&'a Relation> {
        let facts = self.whole.facts;
        self.request
            .relations
            .iter()
            .filter_map(|name| facts.relation(name))
            .next()
    }

    fn finish(mut self) -> Plan {
        if !self.refusals.is_empty() {
            return Plan::Reject(self.rejection());
        }
        let flagged = self.parts.iter().any(|part| matches!(part.work, Work::Steps(_)));
        let own = self.parts.iter().any(|part| matches!(part.work, Work::Own(_)));
        let mut queue = Action::Allow;
        if own && matches!(self.whole.statement.kind, Kind::Ddl) && self.locks_others() {
            queue = self.judge_lock_queue();
        }
        if !self.refusals.is_empty() {
            return Plan::Reject(self.rejection());
        }
        let resumed = self.progress.as_ref().is_some_and(|p| p.begun);
        if !flagged && !resumed && queue != Action::Rewrite {
            return forward(self.findings, self.notices);
        }
        if !flagged && !resumed {
            let own = self.own_step(self.whole.statement.sql.clone());
            return self.run(vec![own]);
        }
        if !resumed && let Some(whole) = self.rewritten_at_once() {
            return self.run(vec![whole]);
        }
        let groups = self.groups();
        let steps = match (&self.progress, self.whole.place) {
            (Some(progress), Place::Alone) if groups.len() > 1 || resumed => progress.steps(groups),
            (_, Place::Alone) => groups.into_iter().flat_map(|group| group.steps).collect(),
            _ if !self.later.is_empty() => {
                let now = groups.into_iter().flat_map(|group| group.steps).collect();
                return self.deferred(now);
            }
            _ => one_after_the_other(groups),
        };
        self.run(steps)
    }

    /// Where one of several actions has the table rewritten, the others are done on the new table too, as far as a rewrite can do them.
    fn rewritten_at_once(&self) -> Option<Step> {
        let statement = self.whole.statement;
        let mut steps = self.parts.iter().flat_map(|part| match &part.work {
            Work::Steps(steps) => steps.as_slice(),
            Work::Own(_) => &[],
        });
        let step = steps.find(|step| matches!(step.mode, Mode::Rewrite(_)))?;
        let relation = self.relation().filter(|_| self.parts.len() > 1)?;
        crate::rewrite::alter::alters(&statement.sql, &relation.schema, &relation.name).ok()?;
        let mut whole = step.clone();
        if let Mode::Rewrite(online) = &mut whole.mode {
            online.with = statement.sql.trim().to_owned();
        }
        whole.sql.clone_from(&statement.sql);
        Some(whole)
    }

    /// The steps of now, and a job for the others.
    fn deferred(mut self, steps: Vec<Step>) -> Plan {
        let later = std::mem::take(&mut self.later);
        let trials = std::mem::take(&mut self.trials);
        if let Some(batches) = self.write_of(&later) {
            let deferral = Some(Deferral::Write(Box::new(batches.clone())));
            return match self.run(steps) {
                Plan::Run(run) => Plan::Run(Run { deferral, ..run }),
                other => other,
            };
        }
        let Some(relation) = self.relation() else {
            return self.run(steps);
        };
        let statement = self.whole.statement;
        let mut new = New::of(&statement.sql, relation, self.whole.facts.job_access(), later, trials);
        match &statement.node {
            NodeEnum::DropStmt(drop) => {
                let names = nonconcurrent_drop_index::dropped(drop);
                for (step, name) in new.later.iter_mut().zip(&names) {
                    let oid = self.whole.facts.relation(name).map_or(0, |index| index.oid);
                    step.done_when = Some(deferred::is_gone(oid));
                }
                new.removes = names.into_iter().map(|name| name.name).collect();
            }
            NodeEnum::AlterTableStmt(alter) => {
                new.adds_columns = alter.cmds.iter().any(|node| {
                    matches!(&node.node, Some(NodeEnum::AlterTableCmd(c)) if c.subtype() == AlterTableType::AtAddColumn)
                });
            }
            _ => {}
        }
        if self.all_later {
            // What they are to be proven against waits as well; but for the rows of the table an index can be tried.
            let waiting = &self.whole.facts.waiting;
            new.rows_will_change = behind::write_on(waiting, new.relation).is_some();
            if !new.rows_will_change || new.adds_columns {
                new.trials.clear();
            }
            new.validates.clear();
        }
        if !self.all_later && !new.adds_columns {
            new.exchange(relation, &self.whole.facts.dropped);
        }
        match self.run(steps) {
            Plan::Run(run) => Plan::Run(Run {
                deferral: Some(Deferral::New(Box::new(new))),
                ..run
            }),
            other => other,
        }
    }

    fn run(self, steps: Vec<Step>) -> Plan {
        Plan::Run(Run {
            rehearsal: rehearsal::of(self.whole, &steps),
            deferral: None,
            tag: tag(self.whole.statement).to_string(),
            findings: self.findings,
            notices: self.notices,
            steps,
            why: self.why,
        })
    }

    fn own_step(&self, sql: String) -> Step {
        Step {
            label: "run with a short lock_timeout".to_string(),
            sql,
            mode: Mode::Brief { then: Vec::new() },
            guard: None,
            lock: strongest(self.whole.statement),
            relation: self.shown.clone(),
            done_when: None,
            cleanup: None,
            null_message: None,
            rollback: None,
            contract: None,
        }
    }

    /// In order; neighbouring unflagged actions stay one statement.
    fn groups(&mut self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut own: (Vec<usize>, Vec<String>) = Default::default();
        for part in std::mem::take(&mut self.parts) {
            match part.work {
                Work::Own(text) => {
                    own.0.push(part.action);
                    own.1.push(text);
                }
                Work::Steps(steps) => {
                    groups.extend(self.joined(std::mem::take(&mut own)));
                    if self.all_later {
                        self.later.extend(steps);
                    } else {
                        groups.push(Group {
                            actions: vec![part.action],
                            steps,
                        });
                    }
                }
            }
        }
        groups.extend(self.joined(own));
        groups
    }

    fn joined(&self, (actions, texts): (Vec<usize>, Vec<String>)) -> Option<Group> {
        let sql = match self.head.as_str() {
            _ if texts.is_empty() => return None,
            "" => texts.join(", "),
            head => format!("{head} {}", texts.join(", ")),
        };
        let steps = vec![self.own_step(sql)];
        Some(Group { actions, steps })
    }
}

/// Inside the client's transaction only brief statements are left: one step, whose savepoint holds them all.
fn one_after_the_other(groups: Vec<Group>) -> Vec<Step> {
    let mut steps = groups.into_iter().flat_map(|group| group.steps);
    let Some(mut first) = steps.next() else {
        return Vec::new();
    };
    if let Mode::Brief { then } = &mut first.mode {
        then.extend(steps.by_ref().map(|step| step.sql));
    }
    vec![first]
}

/// The name that a step gives to a constraint, an index or a sequence.
fn given_name(sql: &str) -> Option<String> {
    match splice::one_statement(sql)? {
        NodeEnum::IndexStmt(index) => Some(index.idxname),
        NodeEnum::CreateSeqStmt(create) => create.sequence.map(|s| s.relname),
        NodeEnum::AlterTableStmt(alter) => match alter.cmds.first()?.node.as_ref()? {
            NodeEnum::AlterTableCmd(command) => match command.def.as_ref()?.node.as_ref()? {
                NodeEnum::Constraint(constraint) => Some(constraint.conname.clone()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
    .filter(|name| !name.is_empty())
}

/// For the client: that a rule was let off, by what, and why.
fn told(rule: &str, overridden: &Option<Overridden>) -> Option<String> {
    let Overridden { by, reason } = overridden.as_ref()?;
    Some(match reason.as_str() {
        "" => format!("{rule} is overridden by {by}"),
        reason => format!("{rule} is overridden: {reason} (by {by})"),
    })
}

/// From the first step on that is more than brief.
fn later_of(steps: &[Step]) -> &[Step] {
    let first = steps.iter().position(|step| !matches!(step.mode, Mode::Brief { .. }));
    &steps[first.unwrap_or(steps.len())..]
}

/// On one line, for a notice.
fn shortened(sql: &str) -> String {
    let words = splice::one_line(sql, 80);
    match words.char_indices().nth(80) {
        Some((at, _)) => format!("{} …", &words[..at]),
        None => words,
    }
}
