//! How far an ALTER TABLE that was split into its actions has come: kept in the catalog by the transactions that do the actions.

use super::catalog::Relation;
use super::lock::LockMode;
use super::splice::quote_literal;
use super::statement::Statement;
use super::step::{Cleanup, Mode, Step};
use std::collections::HashSet;

/// Steps that belong together, and the actions that are done with the last of them.
pub(super) struct Group {
    pub actions: Vec<usize>,
    pub steps: Vec<Step>,
}

/// How far an ALTER TABLE that is split has come: a constraint that constrains nothing holds the numbers of the actions that are
/// done, in its comment. Each is written in the transaction that does it, so that the same statement sent again goes on.
pub(super) struct Progress {
    /// As SQL.
    table: String,
    oid: u32,
    partitioned: bool,
    pub begun: bool,
    done: Vec<usize>,
    is_done: HashSet<usize>,
    /// Of the statement's text.
    hash: String,
}

impl Progress {
    const NAME: &str = "lockkeeper_progress";

    pub fn of(relation: &Relation, statement: &Statement) -> Progress {
        let mut progress = Progress {
            table: crate::subject::sql_name(&relation.asked),
            oid: relation.oid,
            partitioned: relation.kind == 'p',
            begun: false,
            done: Vec::new(),
            is_done: HashSet::new(),
            hash: crate::remedies::steps::hash(&statement.sql),
        };
        let comment = relation.constraint(Progress::NAME).and_then(|c| c.comment.as_deref());
        if let Some(comment) = comment {
            // Actions that are done, in the words of `mark`; with another hash it is another statement's.
            let listed = comment
                .strip_prefix("lockkeeper: done:")
                .and_then(|rest| rest.split_once('('))
                .map(|p| p.0);
            let done: Vec<usize> = listed
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect();
            progress.begun = progress.mark(&done) == comment;
            progress.done = if progress.begun { done } else { Vec::new() };
            progress.is_done = progress.done.iter().copied().collect();
        }
        progress
    }

    pub fn is_done(&self, action: usize) -> bool {
        self.is_done.contains(&action)
    }

    fn mark(&self, done: &[usize]) -> String {
        let listed: String = done.iter().map(|n| format!(" {n}")).collect();
        crate::remedies::steps::marked(&format!("done:{listed}"), &self.hash)
    }

    fn note(&self, done: &[usize]) -> String {
        format!(
            "COMMENT ON CONSTRAINT {} ON {} IS {}",
            Progress::NAME,
            self.table,
            quote_literal(&self.mark(done))
        )
    }

    fn step(&self, label: &str, sql: String, then: Vec<String>) -> Step {
        Step {
            label: label.to_string(),
            sql,
            mode: Mode::Brief { then },
            guard: None,
            lock: LockMode::AccessExclusive,
            relation: self.table.clone(),
            done_when: None,
            cleanup: None,
            null_message: None,
            rollback: None,
            contract: None,
        }
    }

    /// If nothing is done when the step has failed for good, there is nothing to remember.
    fn forget_with(&self, step: &mut Step) {
        let drop = format!("DROP CONSTRAINT IF EXISTS {}", Progress::NAME);
        let forget = || Cleanup {
            when: format!(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = {}::pg_catalog.oid AND c.conname = {})",
                self.oid,
                quote_literal(Progress::NAME)
            ),
            sql: format!("ALTER TABLE {} {drop}", self.table),
            brief: true,
            told: "nothing of the statement was done".to_string(),
            also: None,
        };
        match &mut step.cleanup {
            Some(own) if own.brief => own.sql.push_str(&format!(", {drop}")),
            Some(own) => own.also = Some(Box::new(forget())),
            None => step.cleanup = Some(forget()),
        }
    }

    pub fn steps(&self, groups: Vec<Group>) -> Vec<Step> {
        let mut steps = Vec::new();
        let drop = format!("ALTER TABLE {} DROP CONSTRAINT {}", self.table, Progress::NAME);
        if !self.begun {
            let scope = if self.partitioned { "" } else { " NO INHERIT" };
            let add = format!(
                "ALTER TABLE {} ADD CONSTRAINT {} CHECK (true){scope} NOT VALID",
                self.table,
                Progress::NAME
            );
            steps.push(Step {
                rollback: Some(drop.replace("DROP CONSTRAINT", "DROP CONSTRAINT IF EXISTS")),
                ..self.step("note what is done", add, vec![self.note(&[])])
            });
        }
        let mut done = self.done.clone();
        for mut group in groups {
            if !self.begun && done.is_empty() {
                group.steps.iter_mut().for_each(|step| self.forget_with(step));
            }
            done.extend(group.actions);
            steps.extend(group.steps);
            match steps.last_mut().map(|step| (step.done_when.is_some(), &mut step.mode)) {
                Some((false, Mode::Brief { then } | Mode::Long { then })) => then.push(self.note(&done)),
                _ => steps.push(self.step("note what is done", self.note(&done), Vec::new())),
            }
        }
        steps.push(self.step("remove the note", drop, Vec::new()));
        steps
    }
}
