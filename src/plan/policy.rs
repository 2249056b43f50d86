//! A policy file, validated: what each finding means, and the limits of locks, batches and retries.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Warn,
    Rewrite,
    Reject,
}

/// What happens to a statement that needs its own transaction when the client is inside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTransaction {
    Reject,
    Forward,
}

/// When the audit log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnAuditFailure {
    /// Go on, and say so in the log and to the client.
    Open,
    /// Refuse every statement that would have been audited.
    Closed,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// `standard`, or the file's path: for the audit log.
    pub name: String,
    pub unparsed: Action,
    pub in_transaction: InTransaction,
    pub lock: Lock,
    pub small_bytes: u64,
    pub backfill: Backfill,
    pub on_audit_failure: OnAuditFailure,
    pub rules: Rules,
}

#[derive(Clone, Debug)]
pub struct Lock {
    /// lock_timeout of one try.
    pub timeout_ms: u64,
    /// Between tries, so that the queue behind us drains.
    pub pause_ms: u64,
    pub give_up_after_ms: u64,
    /// Within the client's transaction, where its earlier locks stay held while we wait.
    pub give_up_in_transaction_ms: u64,
    /// How often a failed concurrent build is tried.
    pub concurrent_tries: u32,
}

#[derive(Clone, Debug)]
pub struct Backfill {
    pub rows_max: u64,
    pub batch_rows: u64,
    pub pause_ms: u64,
    /// How often a NOTICE tells the progress.
    pub notice_ms: u64,
}

/// Rule actions and overrides, behind [`Policy::action`] and [`Policy::may_override`].
#[derive(Clone, Debug, Default)]
pub struct Rules {}

/// Who and what an `[[override]]` is matched against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub database: &'a str,
    pub role: &'a str,
    pub application_name: &'a str,
    /// schema.name of the table, where known.
    pub table: Option<&'a str>,
}

impl Policy {
    /// The action for a finding of `rule`: the first `[[override]]` that matches and names the rule, else `[rules]`, else `[defaults]`.
    pub fn action(&self, _rule: &str, _subject: &Subject) -> Action {
        Action::Rewrite
    }

    /// Whether `SET lockkeeper.override` counts for this subject.
    pub fn may_override(&self, _subject: &Subject) -> bool {
        false
    }
}
