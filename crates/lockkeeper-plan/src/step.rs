//! One statement of a plan: how it is run, how its effect is recognised, and how it is taken back.

use crate::batches::{Batches, by_hand};
use crate::lock::LockMode;
use crate::rewrite::online::Online;

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

/// The label of a step that fills a new column.
pub(super) const FILL: &str = "fill in existing rows";

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
    /// The table is rewritten by copy and swap, as a job.
    Rewrite(Box<Online>),
    /// The client's statement with its text changed, answered as the server answers it (rows, tag): UPDATE … LIMIT.
    Rows,
}

impl Step {
    /// What a person would type to do the same, one statement each; nothing where it only sets or removes a mark of ours.
    pub fn by_hand(&self) -> Vec<String> {
        let in_batches = || {
            format!(
                "-- in batches of a few thousand rows, each its own transaction:\n{}",
                self.sql.trim()
            )
        };
        let own = match &self.mode {
            Mode::Batches(batches) => batches.by_hand().unwrap_or_else(in_batches),
            // Offline its key is not known.
            Mode::Rewrite(online) => format!("-- in a shell: {}", online.command()),
            Mode::Rows if self.label == FILL => by_hand::as_if_by_id(&self.sql).unwrap_or_else(in_batches),
            _ => self.sql.trim().to_string(),
        };
        let then = match &self.mode {
            Mode::Brief { then } | Mode::Long { then } => then.as_slice(),
            _ => &[],
        };
        // The marks are for this program only.
        let is_mark = |sql: &String| {
            sql.starts_with("COMMENT ON ") && (sql.contains(" IS 'lockkeeper: ") || sql.ends_with(" IS NULL"))
        };
        let all = std::iter::once(own).chain(then.iter().map(|sql| sql.trim().to_string()));
        all.filter(|sql| !is_mark(sql)).collect()
    }
}
