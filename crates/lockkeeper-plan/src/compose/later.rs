//! What can be left for after COMMIT, and why something cannot.

use super::{Composer, later_of};
use crate::batches::Batches;
use crate::deferred::{self};
use crate::jobs::Access;
use crate::policy::InTransaction;
use crate::statement::Kind;
use crate::step::{Mode, Place, Step};
use crate::subject::Subject;
use pg_query::NodeEnum;

impl<'a> Composer<'a> {
    /// Inside the client's transaction only what is one brief statement, or one of its own kind, can run.
    pub(super) fn runs_here(&self, steps: &[Step]) -> bool {
        if self.whole.place == Place::Alone {
            return true;
        }
        match steps {
            [one] => matches!(&one.mode, Mode::Rows) || matches!(&one.mode, Mode::Brief { then } if then.is_empty()),
            _ => false,
        }
    }

    /// Whether the steps can be divided: what is brief now, the rest after COMMIT. Rows that are filled in batches would be missed
    /// by the statements in between.
    pub(super) fn defers(&self, subject: &Subject, steps: &[Step]) -> bool {
        self.may_defer() && self.would_defer(subject, steps)
    }

    /// In a pipeline: behind a BEGIN it would be done.
    pub(super) fn begin_helps(&self, subject: &Subject, steps: &[Step]) -> bool {
        self.divides()
            && self.in_transaction() == InTransaction::Defer
            && self.relation().is_some()
            && self.would_defer(subject, steps)
    }

    fn would_defer(&self, subject: &Subject, steps: &[Step]) -> bool {
        if matches!(self.whole.facts.job_access(), Access::None(_)) {
            return false;
        }
        if let Some(batches) = self.write_of(steps) {
            return self.why_not_later(batches).is_none() && self.whole.facts.open_job.is_none();
        }
        steps
            .iter()
            .all(|step| !matches!(step.mode, Mode::Batches(_) | Mode::Rewrite(_) | Mode::Rows))
            && deferred::prove::trials(subject, later_of(steps)).is_some()
    }

    /// The client's own UPDATE or DELETE.
    pub(super) fn write_of<'s>(&self, steps: &'s [Step]) -> Option<&'s Batches> {
        match steps {
            [
                Step {
                    mode: Mode::Batches(batches),
                    ..
                },
            ] if matches!(self.whole.statement.kind, Kind::Write) => Some(batches),
            _ => None,
        }
    }

    /// What keeps the client's own UPDATE or DELETE from being carried out behind its transaction.
    fn why_not_later(&self, batches: &Batches) -> Option<String> {
        let temporary = self.whole.facts.relations.iter().find(|r| r.persistence == 't');
        let view = self
            .whole
            .facts
            .target(self.whole.statement)
            .filter(|target| target.kind == 'v');
        match (&batches.access, temporary) {
            _ if view.is_some() => Some("what reads the view's rows before the COMMIT is not known".to_string()),
            _ if batches.returns => Some("the rows of RETURNING are answered at once".to_string()),
            (Access::None(why), _) => Some(why.clone()),
            (_, Some(table)) => Some(format!("the temporary table {} may be gone by then", table.name)),
            // They may be the transaction's own.
            _ if !batches.seen_by.is_empty() => {
                let settings: Vec<&str> = batches.seen_by.keys().map(String::as_str).collect();
                Some(format!(
                    "by row-level security the settings {} decide which rows it sees",
                    settings.join(", ")
                ))
            }
            _ => None,
        }
    }

    /// What the policy says of such a statement in the client's transaction.
    pub(super) fn in_transaction(&self) -> InTransaction {
        match self.whole.statement.kind {
            Kind::Write => self.whole.policy.backfill.in_transaction,
            _ => self.whole.policy.in_transaction,
        }
    }

    /// In a block, by the policy, and of a kind that is divided without harm: what REFRESH gives is perhaps read right behind it.
    fn divides(&self) -> bool {
        match &self.whole.statement.node {
            NodeEnum::IndexStmt(_) | NodeEnum::AlterTableStmt(_) => true,
            _ => matches!(self.whole.statement.kind, Kind::Write),
        }
    }

    pub(super) fn may_defer(&self) -> bool {
        self.divides()
            && self.whole.place == Place::Block
            && self.in_transaction() == InTransaction::Defer
            && self.relation().is_some()
    }

    /// What keeps it from being deferred, and what would not.
    pub(super) fn why_not_deferred(&self, subject: &Subject, steps: &[Step]) -> String {
        let why = match (self.whole.facts.job_access(), self.write_of(steps)) {
            _ if self.whole.place == Place::Pipeline => {
                return match self.begin_helps(subject, steps) {
                    true => "Several statements before one Sync (a driver's batch or pipeline) are one transaction without a \
                                             BEGIN. Behind a BEGIN of their own, what is long is left for after COMMIT; sent alone, it runs at \
                                             once.\n"
                        .to_string(),
                    false => "Several statements before one Sync (a driver's batch or pipeline) are one transaction without a BEGIN. Sent \
                              alone, it runs at once.\n"
                        .to_string(),
                };
            }
            (_, Some(_)) if self.in_transaction() == InTransaction::Reject => {
                return "The policy can let it wait: with in_transaction = \"defer\" under [backfill] it is carried out in batches right after \
                        the COMMIT.\n"
                    .to_string();
            }
            _ if !self.may_defer() => return String::new(),
            (Access::None(why), _) => why,
            (_, Some(batches)) => match self.why_not_later(batches) {
                Some(why) => why,
                // Its finding says which job it is.
                None => return String::new(),
            },
            _ if steps.iter().any(|step| matches!(step.mode, Mode::Rewrite(_))) => {
                "the table is replaced by a copy, and the statements between it and the COMMIT would meet the old one"
                    .to_string()
            }
            _ if steps.iter().any(|step| matches!(step.mode, Mode::Batches(_))) => {
                "it fills existing rows in batches, and the statements between it and the COMMIT would see them empty"
                    .to_string()
            }
            _ => return String::new(),
        };
        format!("It cannot be left for after COMMIT: {why}.\n")
    }
}
