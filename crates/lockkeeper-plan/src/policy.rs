//! A policy file, validated: what each finding means, and the limits of locks, batches and retries.
//!
//! [`Policy::parse`] reads a file's text and [`Policy::embedded`] one of the three that are built in. The tables of the file
//! map one to one onto the `*Table` structs of [`file`], which refuse unknown keys. What a file leaves out comes from the policy
//! that it extends.

mod file;
mod read;
mod shown;
mod source;

use serde::Deserialize;
use std::collections::BTreeMap;

/// From the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Allow,
    Warn,
    Rewrite,
    /// Refused, until a second person has approved it.
    Ask,
    Reject,
}

impl Action {
    /// As a policy writes it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Warn => "warn",
            Action::Rewrite => "rewrite",
            Action::Ask => "ask",
            Action::Reject => "reject",
        }
    }
}

/// What happens to a statement that needs its own transaction when the client is inside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InTransaction {
    /// Its long part runs after COMMIT, as a job.
    Defer,
    Reject,
    Forward,
}

/// When the audit log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAuditFailure {
    /// Go on, and say so in the log and to the client.
    Open,
    /// Refuse every statement that would have been audited.
    Closed,
}

/// What the audit log keeps of constants in statements and of parameters. Passwords it never keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Literals {
    Keep,
    Redact,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// `standard`, or the file's path: for the audit log.
    pub name: String,
    pub unparsed: Action,
    pub in_transaction: InTransaction,
    pub lock: Lock,
    /// What nobody has used for so long may be dropped; 0 = that is never enough.
    pub quiet_for_s: u64,
    /// So long the old table is kept behind an online rewrite that changes what applications see; 0 = it is dropped at once.
    pub rewrite_keep_old_s: u64,
    /// So long a statement waits for the second person whom the action `ask` wants; 0 = it is refused at once.
    pub approval_wait_s: u64,
    pub small_bytes: u64,
    pub backfill: Backfill,
    pub on_audit_failure: OnAuditFailure,
    pub audit_literals: Literals,
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
    /// lock_timeout of one try may grow up to this.
    pub stall_budget_ms: u64,
    /// After so long it may grow beyond; 0 = never.
    pub escalate_after_ms: u64,
    /// But not beyond this.
    pub timeout_max_ms: u64,
    /// How long statements that take long are held while a step waits for their table; 0 = never.
    pub hold_ms: u64,
    /// Sessions in the way that may be ended.
    pub cancels: Vec<LockCancel>,
}

/// `[[lock.cancel]]`: whose statements or sessions a step may end that waits for their locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockCancel {
    pub application: Option<String>,
    pub role: Option<String>,
    /// A transaction in which nothing has happened for so long is ended with its session.
    pub idle_in_transaction_s: Option<u64>,
    /// A statement that has run for so long is cancelled.
    pub active_s: Option<u64>,
}

impl LockCancel {
    /// Whether it speaks of sessions of that application and role.
    pub fn is_about(&self, application: &str, role: &str) -> bool {
        let fits = |pattern: &Option<String>, value: &str| pattern.as_ref().is_none_or(|p| glob(p, value));
        fits(&self.application, application) && fits(&self.role, role)
    }
}

#[derive(Clone, Debug)]
pub struct Backfill {
    pub rows_max: u64,
    /// Keys of the first batch; later ones adapt.
    pub batch_rows: u64,
    pub batch_rows_max: u64,
    /// How long a batch should take; 0 = every batch has batch_rows.
    pub batch_target_ms: u64,
    pub pause_ms: u64,
    /// How often a NOTICE tells the progress.
    pub notice_ms: u64,
    /// Above it a statement with RETURNING is not split.
    pub returning_rows_max: u64,
    /// Batches wait while a replica is further behind; 0 = they do not look.
    pub replica_lag_max_ms: u64,
    /// Batches wait while the WAL since the last checkpoint is more than so much of max_wal_size; 0 = they do not look.
    pub wal_max_percent: u64,
    /// Batches wait while more sessions of the database wait for locks.
    pub lock_waits_max: u64,
    /// Batches wait while this file exists.
    pub stop_file: Option<String>,
    /// What becomes of a large UPDATE or DELETE inside the client's transaction.
    pub in_transaction: InTransaction,
}

/// Rule actions and overrides, behind [`Policy::action`] and [`Policy::may_override`].
#[derive(Clone, Debug)]
pub struct Rules {
    default: Action,
    may_override: bool,
    reason_required: bool,
    actions: BTreeMap<String, Action>,
    overrides: Vec<OverrideTable>,
}

/// Who and what an `[[override]]` is matched against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub database: &'a str,
    pub role: &'a str,
    pub application_name: &'a str,
    /// schema.name of each table that the statement is about, as far as they are known.
    pub tables: &'a [String],
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideTable {
    role: Option<String>,
    database: Option<String>,
    application_name: Option<String>,
    table: Option<String>,
    #[serde(default)]
    rules: BTreeMap<String, Action>,
    may_override: Option<bool>,
    reason_required: Option<bool>,
    /// For the audit log and the NOTICE.
    reason: Option<String>,
}

/// What let a rule off, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// `lockkeeper.override`, `comment`, or the policy's block: `[[override]] role = "dba"`.
    pub by: String,
    /// Empty where none was given and the policy asks for none.
    pub reason: String,
}

impl Policy {
    /// The action for a finding of `rule`: for each table the first `[[override]]` that matches and names the rule, else
    /// `[rules]`, else `[defaults]`; of several tables' the strictest. With it, which block has eased the action to one that
    /// leaves the statement as it is.
    pub fn decision(&self, rule: &str, subject: &Subject) -> (Action, Option<Overridden>) {
        let rules = &self.rules;
        let usual = *rules.actions.get(rule).unwrap_or(&rules.default);
        let of_table = |table: Option<&str>| match rules.first(subject, table, |block| block.rules.get(rule).copied()) {
            Some((action, block)) => (action, Some(block)),
            None => (usual, None),
        };
        let Some((action, block)) = subject.each(of_table).max_by_key(|(action, _)| *action) else {
            return (usual, None);
        };
        let eased = action < usual && matches!(action, Action::Allow | Action::Warn);
        (action, block.filter(|_| eased).map(OverrideTable::overridden))
    }

    /// Some rule's findings wait for a second person.
    pub fn asks(&self) -> bool {
        let rules = &self.rules;
        let of_blocks = rules.overrides.iter().flat_map(|block| block.rules.values());
        let all = rules.actions.values().chain(of_blocks);
        all.chain([&rules.default]).any(|action| *action == Action::Ask)
    }

    /// Whether `SET lockkeeper.override` and the comment count for this subject: for each table the first `[[override]]` that
    /// matches and says, else `[defaults]`.
    pub fn may_override(&self, subject: &Subject) -> bool {
        let rules = &self.rules;
        let said = |table: Option<&str>| match rules.first(subject, table, |block| block.may_override) {
            Some((may, _)) => may,
            None => rules.may_override,
        };
        subject.each(said).all(|may| may)
    }

    /// Whether they must say why.
    pub fn reason_required(&self, subject: &Subject) -> bool {
        let rules = &self.rules;
        let said = |table: Option<&str>| match rules.first(subject, table, |block| block.reason_required) {
            Some((required, _)) => required,
            None => rules.reason_required,
        };
        subject.each(said).any(|required| required)
    }
}

impl Rules {
    /// The first block that matches and answers, with its answer.
    fn first<T>(
        &self,
        subject: &Subject,
        table: Option<&str>,
        answer: impl Fn(&OverrideTable) -> Option<T>,
    ) -> Option<(T, &OverrideTable)> {
        let mut matching = self.overrides.iter().filter(|block| block.matches(subject, table));
        matching.find_map(|block| Some((answer(block)?, block)))
    }
}

impl<'a> Subject<'a> {
    /// Asked once a table; once without one where none is known.
    fn each<T>(&self, ask: impl Fn(Option<&'a str>) -> T) -> impl Iterator<Item = T> {
        let tables = self.tables;
        let none = tables.is_empty().then_some(None);
        tables.iter().map(|table| Some(table.as_str())).chain(none).map(ask)
    }
}

impl OverrideTable {
    /// As the audit log names it: `[[override]] role = "dba", table = "scratch.*"`.
    fn overridden(&self) -> Overridden {
        let conditions = [
            ("database", &self.database),
            ("role", &self.role),
            ("application_name", &self.application_name),
            ("table", &self.table),
        ];
        let written: Vec<String> = conditions
            .iter()
            .filter_map(|(key, pattern)| pattern.as_ref().map(|pattern| format!("{key} = {pattern:?}")))
            .collect();
        Overridden {
            by: format!("[[override]] {}", written.join(", ")),
            reason: self.reason.clone().unwrap_or_default(),
        }
    }

    fn matches(&self, subject: &Subject, table: Option<&str>) -> bool {
        let fits = |pattern: &Option<String>, value: &str| pattern.as_ref().is_none_or(|p| glob(p, value));
        fits(&self.role, subject.role)
            && fits(&self.database, subject.database)
            && fits(&self.application_name, subject.application_name)
            && self.table.as_ref().is_none_or(|pattern| match table {
                Some(table) if pattern.contains('.') => glob(pattern, table),
                Some(table) => glob(pattern, table.rsplit_once('.').map_or(table, |(_, name)| name)),
                None => false,
            })
    }
}

/// `*` stands for any text, everything else for itself.
fn glob(pattern: &str, value: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == value;
    };
    let Some(mut value) = value.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    // The leftmost place for each part leaves the most text to the parts after it.
    for part in parts {
        match value.find(part) {
            Some(at) => value = &value[at + part.len()..],
            None => return false,
        }
    }
    value.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::file::EMBEDDED;
    use super::*;

    pub(super) const RULES: [&str; 46] = [
        "server-fault",
        "nonconcurrent-index",
        "nonconcurrent-drop-index",
        "nonconcurrent-reindex",
        "validating-check",
        "validating-foreign-key",
        "set-not-null",
        "volatile-default",
        "serial-column",
        "stored-generated-column",
        "constrained-domain",
        "rename-column",
        "rename-table",
        "rename-enum-value",
        "set-expression",
        "domain-constraint",
        "scan-under-lock",
        "attach-partition",
        "dynamic-sql",
        "block-meaning",
        "drop-column",
        "drop-table",
        "drop-database",
        "drop-view",
        "drop-key",
        "drop-default",
        "drop-role",
        "rename-type",
        "no-inherit",
        "cascade",
        "clean-restore",
        "refresh-without-data",
        "row-security",
        "row-policy",
        "replica-identity",
        "required-column",
        "truncate",
        "change-type",
        "unique-constraint",
        "exclusion-constraint",
        "rewriting-table",
        "blocking-refresh",
        "partition-lock",
        "large-write",
        "update-limit",
        "lock-queue",
    ];

    const SOMEBODY: Subject = Subject {
        database: "shop",
        role: "app",
        application_name: "psql",
        tables: &[],
    };

    fn action(policy: &Policy, rule: &str, subject: &Subject) -> Action {
        policy.decision(rule, subject).0
    }

    fn policy(text: &str) -> Policy {
        Policy::parse(text, "p.toml", &RULES).unwrap()
    }

    #[test]
    fn embedded_policies_are_whole() {
        for (name, _) in EMBEDDED {
            let policy = Policy::embedded(name, &RULES).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert_eq!(policy.name, name);
            assert_eq!((policy.lock.timeout_ms, policy.lock.give_up_after_ms), (50, 300_000));
            assert_eq!((policy.backfill.batch_rows, policy.backfill.notice_ms), (5_000, 5_000));
        }
        assert!(Policy::embedded("lenient", &RULES).is_none());
    }

    #[test]
    fn embedded_policies_decide() {
        let actions = |name: &str| {
            let policy = Policy::embedded(name, &RULES).unwrap();
            let action = |rule| action(&policy, rule, &SOMEBODY);
            (
                [
                    action("drop-column"),
                    action("nonconcurrent-index"),
                    action("lock-queue"),
                    action("large-write"),
                ],
                policy.may_override(&SOMEBODY),
                policy.on_audit_failure,
                policy.in_transaction,
            )
        };
        use Action::*;
        let standard = (
            [Reject, Rewrite, Rewrite, Rewrite],
            true,
            OnAuditFailure::Open,
            InTransaction::Defer,
        );
        assert_eq!(actions("standard"), standard);
        let strict = (
            [Reject, Reject, Rewrite, Rewrite],
            false,
            OnAuditFailure::Closed,
            InTransaction::Reject,
        );
        assert_eq!(actions("strict"), strict);
        assert_eq!(
            actions("observe"),
            ([Warn; 4], true, OnAuditFailure::Open, InTransaction::Forward)
        );
        let observe = Policy::embedded("observe", &RULES).unwrap();
        assert!(RULES.iter().all(|rule| action(&observe, rule, &SOMEBODY) == Warn));
        assert_eq!(observe.unparsed, Warn);
    }

    #[test]
    fn what_is_not_written_comes_from_the_extended_policy() {
        let p = policy("[lock]\ntimeout_ms = 20\n[rules]\ndrop-table = 'allow'");
        assert_eq!((p.lock.timeout_ms, p.lock.pause_ms), (20, 200));
        assert_eq!(action(&p, "drop-table", &SOMEBODY), Action::Allow);
        assert_eq!(action(&p, "drop-column", &SOMEBODY), Action::Reject);
        assert_eq!(action(&p, "set-not-null", &SOMEBODY), Action::Rewrite);
        assert_eq!(p.name, "p.toml");
        let p = policy("extends = 'strict'\n[defaults]\nmay_override = true");
        assert_eq!(
            (action(&p, "set-not-null", &SOMEBODY), p.may_override(&SOMEBODY)),
            (Action::Reject, true)
        );
        assert_eq!(policy("").on_audit_failure, OnAuditFailure::Open);
    }

    #[test]
    fn a_file_may_be_called_like_an_embedded_policy() {
        let p = Policy::parse("[lock]\ntimeout_ms = 20", "standard", &RULES).unwrap();
        assert_eq!((p.lock.timeout_ms, p.lock.pause_ms), (20, 200));
    }

    #[test]
    fn the_first_override_that_answers_wins() {
        let p = policy(
            "extends = 'strict'
             [[override]]
             role = 'dba'
             may_override = true
             reason_required = false
             [[override]]
             role = 'd*'
             table = 'scratch.*'
             may_override = false
             reason = 'nobody reads it'
             rules = { drop-table = 'allow' }
             [[override]]
             application_name = 'nightly-*-job'
             database = 'shop'
             table = 'users'
             rules = { drop-table = 'warn' }",
        );
        let of = |tables: &'static [&str]| -> Vec<String> { tables.iter().map(|table| table.to_string()).collect() };
        let (scratch, users, users2) = (of(&["scratch.t"]), of(&["public.users"]), of(&["public.users2"]));
        let dba = Subject {
            role: "dba",
            tables: &scratch,
            ..SOMEBODY
        };
        let decided = p.decision("drop-table", &dba);
        let by = "[[override]] role = \"d*\", table = \"scratch.*\"".to_string();
        let reason = "nobody reads it".to_string();
        assert_eq!(
            (decided, p.may_override(&dba)),
            ((Action::Allow, Some(Overridden { by, reason })), true)
        );
        let dev = Subject { role: "dev", ..dba };
        assert_eq!(
            (action(&p, "drop-table", &dev), p.may_override(&dev)),
            (Action::Allow, false)
        );
        assert!(p.reason_required(&dev) && !p.reason_required(&dba));
        let nightly = Subject {
            application_name: "nightly-7-job",
            tables: &users,
            ..SOMEBODY
        };
        assert_eq!(action(&p, "drop-table", &nightly), Action::Warn);
        assert_eq!(action(&p, "drop-column", &nightly), Action::Reject);
        for tables in [&[][..], &users2, &of(&["public.users", "public.users2"])] {
            assert_eq!(action(&p, "drop-table", &Subject { tables, ..nightly }), Action::Reject);
        }
        // A table that is let off says nothing about the others, nor one that is guarded.
        let both = of(&["scratch.t", "public.users"]);
        let dba = Subject { tables: &both, ..dba };
        assert_eq!(p.decision("drop-table", &dba), (Action::Reject, None));
        assert!(!p.may_override(&SOMEBODY));
    }

    #[test]
    fn globs() {
        for (pattern, value, expect) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*b", "ab", false),
            ("*é*", "caféx", true),
            ("A*", "ab", false),
        ] {
            assert_eq!(glob(pattern, value), expect, "{pattern} {value}");
        }
    }
}
