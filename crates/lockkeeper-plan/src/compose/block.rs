//! A DO block or a function: each statement in it is judged as if it were sent alone, by what stands before it.

use super::{Composer, forward};
use super::{REJECTED, shortened};
use crate::body::Locks;
use crate::facts::Facts;
use crate::finding::{Finding, Rejection};
use crate::outcome::Plan;
use crate::policy::{Action, InTransaction, Policy};
use crate::statement::{Body, Kind, Statement};
use crate::step::Place;
use pg_query::NodeEnum;

/// How a statement is judged, and so one within a block.
type Judge = fn(&Statement, &Facts, &Policy, Place) -> Plan;

impl Composer<'_> {
    /// A DO block is as dangerous as the statements in it, which share its one transaction; it cannot be taken apart. A function only
    /// says what it would do.
    pub(super) fn code(mut self, body: &Body, judge: Judge) -> Plan {
        let (whole, span) = (self.whole, self.whole_span());
        self.part(whole, 0, span.clone());
        if !self.refusals.is_empty() {
            return Plan::Reject(self.rejection());
        }
        let is_block = matches!(whole.statement.node, NodeEnum::DoStmt(_));
        let inside = if whole.place == Place::Alone {
            Place::Block
        } else {
            whole.place
        };
        // Nothing of it can be left for later: what comes behind it in the block would not wait.
        let mut policy = whole.policy.clone();
        for choice in [&mut policy.in_transaction, &mut policy.backfill.in_transaction] {
            if *choice == InTransaction::Defer {
                *choice = InTransaction::Reject;
            }
        }
        let mut brief = false;
        let mut then = Then::of(body, whole.facts);
        for (at, inner) in body.statements.iter().enumerate() {
            let writes = matches!(inner.kind, Kind::Write | Kind::MixedWrite);
            let rows = whole.facts.rows_within.get(at).filter(|_| writes);
            if let Some(None) = rows {
                // It has variables of the program, which EXPLAIN does not know.
                self.notices.push(format!(
                    "how many rows this touches is not known before the DO block runs: {}",
                    shortened(&inner.sql)
                ));
                continue;
            }
            if is_block {
                then.comes_to(at);
            }
            then.facts.estimated_rows = match rows {
                Some(rows) => *rows,
                None => whole.facts.estimated_rows,
            };
            then.facts.cascaded = whole.facts.cascaded_within.get(at).cloned().flatten();
            then.facts.more_were_counted = whole.facts.many_within.get(at).is_some_and(|many| *many);
            let facts = &then.facts;
            match judge(inner, facts, &policy, inside) {
                Plan::Reject(mut rejection) if is_block => {
                    rejection.message = format!("in the DO block: {}", rejection.message);
                    rejection
                        .findings
                        .iter_mut()
                        .for_each(|finding| finding.span = span.clone());
                    rejection.hint = format!("Take the statement out of the DO block.\n{}", rejection.hint);
                    return Plan::Reject(rejection);
                }
                Plan::Reject(rejection) => {
                    let notice = format!(
                        "nobody will judge what this function does when it is called: {}",
                        rejection.message
                    );
                    self.notices.push(notice);
                    self.findings
                        .extend(rejection.findings.into_iter().map(|finding| Finding {
                            action: Action::Warn,
                            span: span.clone(),
                            ..finding
                        }));
                }
                // Its own text stays in the block, and is not safe as it is.
                Plan::Run(run) if is_block && run.steps.iter().any(|step| step.sql != inner.sql) => {
                    let found = run.findings.iter().find(|finding| finding.action == Action::Rewrite);
                    let by_hand: Vec<&str> = run.steps.iter().map(|step| step.sql.as_str()).collect();
                    let mut findings = run.findings.clone();
                    findings.iter_mut().for_each(|finding| {
                        finding.span = span.clone();
                        finding.action = Action::Reject;
                    });
                    return Plan::Reject(Rejection {
                        sqlstate: REJECTED.to_string(),
                        message: format!(
                            "in the DO block: {}",
                            found.map_or("a statement is not safe as it is written", |finding| &finding.message)
                        ),
                        detail: String::new(),
                        hint: format!("Write in the block instead: {};", by_hand.join("; ")),
                        findings,
                    });
                }
                Plan::Run(run) if is_block => {
                    brief = true;
                    self.findings.extend(run.findings.into_iter().map(|f| Finding {
                        span: span.clone(),
                        ..f
                    }));
                    self.notices.extend(run.notices);
                }
                Plan::Forward { findings, notices } if is_block => {
                    self.findings.extend(findings.into_iter().map(|f| Finding {
                        span: span.clone(),
                        ..f
                    }));
                    self.notices.extend(notices);
                }
                _ => {}
            }
        }
        if !brief || body.ends_transactions {
            return forward(self.findings, self.notices);
        }
        let own = self.own_step(whole.statement.sql.clone());
        self.run(vec![own])
    }
}

/// The facts as they will be when a statement of a block has its turn: what may run before it holds locks by then.
struct Then<'a> {
    body: &'a Body,
    before: &'a Facts,
    facts: Facts,
    locks: Vec<Locks>,
    /// Of the locks, those that are in `facts`.
    held: Vec<bool>,
    places: Vec<usize>,
}

impl<'a> Then<'a> {
    fn of(body: &'a Body, before: &'a Facts) -> Then<'a> {
        let locks = body.locks();
        Then {
            body,
            before,
            facts: before.clone(),
            held: vec![false; locks.len()],
            locks,
            places: body.places(),
        }
    }

    /// From one statement to the next hardly more than one lock comes to it: all are looked up anew only where a loop ends.
    fn comes_to(&mut self, at: usize) {
        let Some(&place) = self.places.get(at) else { return };
        let holds = |locks: &Locks| self.body.may_precede(locks.at, place);
        let now: Vec<bool> = self.locks.iter().map(holds).collect();
        if self.held.iter().zip(&now).any(|(held, now)| *held && !now) {
            self.facts = self.before.clone();
            self.held.fill(false);
        }
        for ((locks, held), now) in self.locks.iter().zip(&mut self.held).zip(now) {
            if now && !*held {
                locks
                    .tables
                    .iter()
                    .for_each(|table| self.facts.hold(table, &locks.added));
            }
            *held = now;
        }
    }
}
