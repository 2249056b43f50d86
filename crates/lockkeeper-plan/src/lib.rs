//! From a statement to what is done about it. Pure: no socket, file, clock, randomness or global state in this module tree.
//!
//! Start at [`plan`]. A [`Statement`] is read once from the client's text, [`facts`] says which catalog query it
//! needs and decodes the answer, the [`rules`] turn both into findings, the [`policy`] decides what each finding
//! means, and the result is one [`Plan`].

pub mod ascii;
pub mod batches;
pub mod body;
pub mod bounds;
pub mod compose;
pub mod depends;
pub mod facts;
pub mod faults;
pub mod glance;
pub mod jobs;
pub mod lock;
pub mod mentions;
pub mod mixed;
pub mod outbox;
mod overrides;
pub mod path;
pub mod policy;
pub mod pooled;
mod progress;
pub mod rules;
mod sketch;
pub mod splice;
pub mod statement;
pub mod tool;
pub mod trial;

use batches::Batches;
use facts::Facts;
use lock::LockMode;
use outbox::Deferral;
use policy::Policy;
use statement::Statement;

/// What is done about one statement: the only way into this module tree.
pub fn plan(statement: &Statement, facts: &Facts, policy: &Policy, place: Place) -> Plan {
    compose::plan(statement, facts, policy, place)
}

/// Where the statement would run, as the session knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// No transaction is open: the statement may become several transactions.
    Alone,
    /// Inside a transaction block that takes savepoints (BEGIN … COMMIT, or one that stands for a multi-statement simple query).
    Block,
    /// Inside the implicit transaction of an extended-query pipeline: neither savepoints nor transactions of our own.
    Pipeline,
}

/// What is done about one statement.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The client's own bytes go on. The findings are those that the policy allows or only warns of; `notices` is their text.
    Forward {
        findings: Vec<Finding>,
        notices: Vec<String>,
    },
    /// The steps are carried out in order, in place of the statement.
    Run(Run),
    Reject(Rejection),
}

#[derive(Clone, Debug)]
pub struct Run {
    pub findings: Vec<Finding>,
    /// Told to the client before the first step (warnings, and overrides that were used).
    pub notices: Vec<String>,
    /// Empty only where everything is deferred.
    pub steps: Vec<Step>,
    /// What is left for after the client's COMMIT.
    pub deferral: Option<Deferral>,
    /// The command tag that the client sees at the end, such as `ALTER TABLE`. A [`Mode::Batches`] or [`Mode::Rows`] step
    /// answers with its own count instead.
    pub tag: String,
    /// Why this is safe, for the audit event (for example "no rewrite: the default is not volatile").
    pub why: Vec<String>,
}

impl Run {
    /// It leaves no invalid index and no constraint that is not validated, whether it succeeds or not. `partitioned`: it is about a
    /// partitioned table, of which an index can be made alone.
    pub fn is_whole(&self, partitioned: bool) -> bool {
        let halves = ["VALID", "ENFORCED", "CONCURRENTLY", "INDEX"];
        let made = self.tag == "CREATE INDEX" && !partitioned;
        let is_whole = |step: &Step| {
            let sql = step.sql.to_ascii_uppercase();
            let mut held = halves.iter().filter(|word| sql.contains(*word));
            matches!(step.mode, Mode::Brief { .. }) && held.all(|word| made && *word == "INDEX")
        };
        self.deferral.is_none() && matches!(self.steps.as_slice(), [step] if is_whole(step))
    }

    /// How to get back to the schema before the plan, one statement each: the steps' `rollback`, last step first.
    pub fn rollback_plan(&self) -> Vec<String> {
        let statements = |text: &str| match statement::read(text.as_bytes(), true) {
            Ok(all) => all.into_iter().map(|statement| statement.sql).collect(),
            Err(_) => vec![text.to_string()],
        };
        let texts = self.steps.iter().rev().filter_map(|step| step.rollback.as_deref());
        texts.flat_map(statements).collect()
    }

    /// What the plan leaves to be done by hand, on a later day.
    pub fn contract(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|s| s.contract.as_deref())
    }
}

/// One statement of the plan and how it is to be run.
#[derive(Clone, Debug)]
pub struct Step {
    /// Two or three words for progress and the audit log: "add constraint, not validated".
    pub label: String,
    pub sql: String,
    pub mode: Mode,
    /// Of a brief step: a statement before `sql` in the same transaction, which fails where what the step relies on no longer holds.
    pub guard: Option<String>,
    /// The strongest table lock that `sql` takes, and how the table is called, for messages.
    pub lock: LockMode,
    pub relation: String,
    /// A query with one boolean column: true if the step's effect is already there, so that the step is skipped.
    pub done_when: Option<String>,
    /// What a failure of this step leaves behind and how it is removed.
    pub cleanup: Option<Cleanup>,
    /// Where the step checks by a helper constraint of ours: what the server itself says of null values (SQLSTATE 23502).
    pub null_message: Option<String>,
    /// What takes the step's effect back on a later day, for the rollback plan: a statement, or several with `;` between them.
    pub rollback: Option<String>,
    /// What is left to do by hand once the step is done: a script whose comment says when.
    pub contract: Option<String>,
}

/// Removal of what a step may have left behind, before a retry or before the error is told.
#[derive(Clone, Debug)]
pub struct Cleanup {
    /// A query with one boolean column: true if there is something to remove.
    pub when: String,
    pub sql: String,
    /// False: `sql` is run outside a transaction block, without lock_timeout, and also before the first try, since an earlier
    /// run may have been killed. True: it is run as a [`Mode::Brief`] step, and only once the step has failed for good
    /// (before the first try there is nothing to remove: an earlier step has just made it).
    pub brief: bool,
    /// What is told to the client: "removed the INVALID index users_email_idx".
    pub told: String,
    /// Removed too, once the step has failed for good.
    pub also: Option<Box<Cleanup>>,
}

#[derive(Clone, Debug)]
pub enum Mode {
    /// Instant once it has its lock: run with a very short lock_timeout and tried again and again. The statements of `then`
    /// run after it in the same transaction; what rows they answer is ignored.
    Brief { then: Vec<String> },
    /// A transaction of its own that scans under a weak lock (VALIDATE CONSTRAINT): statement_timeout is lifted for it.
    /// Several statements may be given in `sql` only through `then`, run in the same transaction.
    Long { then: Vec<String> },
    /// Cannot run inside a transaction block (CREATE INDEX CONCURRENTLY): lock_timeout and statement_timeout are lifted
    /// on the session and put back.
    Concurrent,
    /// A large UPDATE or DELETE in keyset batches, each its own transaction.
    Batches(Box<Batches>),
    /// The client's statement with its text changed, answered as the server answers it (rows, tag): UPDATE … LIMIT.
    Rows,
}

/// What a rule found. A value, not an error.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: &'static str,
    pub lock: LockMode,
    /// What it would do, in one sentence, with the table's name and size where known.
    pub message: String,
    /// What to do instead: safe SQL for these very names, ready to copy.
    pub hint: String,
    pub action: policy::Action,
    /// Set where an override let the statement through.
    pub overridden: Option<Overridden>,
    /// The part of the statement that was found, in bytes of [`Statement::sql`].
    pub span: std::ops::Range<usize>,
}

/// What let a rule off, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// `lockkeeper.override`, `comment`, or the policy's block: `[[override]] role = "dba"`.
    pub by: String,
    /// Empty where none was given and the policy asks for none.
    pub reason: String,
}

impl Rejection {
    /// The session must not go on: what comes next of the same program would do harm, and it does not stop at an error.
    pub fn ends_session(&self) -> bool {
        let is = |finding: &Finding| finding.rule == "clean-restore" && finding.action == policy::Action::Reject;
        self.findings.iter().any(is)
    }
}

/// The error that the client gets instead of the statement's execution.
#[derive(Clone, Debug)]
pub struct Rejection {
    pub findings: Vec<Finding>,
    /// Five characters, as in the manual's appendix A.
    pub sqlstate: String,
    /// Holds the remedy in short too: several clients never show the hint.
    pub message: String,
    pub detail: String,
    pub hint: String,
}
