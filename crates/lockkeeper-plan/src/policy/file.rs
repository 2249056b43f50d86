//! The tables of a policy file as they are written, and what completes them.

use super::{
    Action, Backfill, InTransaction, Literals, Lock, LockCancel, OnAuditFailure, OverrideTable, Policy, Rules,
};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const STANDARD: &str = include_str!("../../../../policies/standard.toml");

/// The built-in policies, by name.
pub(super) const EMBEDDED: [(&str, &str); 3] = [
    ("observe", include_str!("../../../../policies/observe.toml")),
    ("standard", STANDARD),
    ("strict", include_str!("../../../../policies/strict.toml")),
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) extends: Option<String>,
    #[serde(default)]
    pub(super) defaults: DefaultsTable,
    #[serde(default)]
    pub(super) lock: LockTable,
    #[serde(default)]
    pub(super) drop: DropTable,
    #[serde(default)]
    pub(super) rewrite: RewriteTable,
    #[serde(default)]
    pub(super) approval: ApprovalTable,
    #[serde(default)]
    pub(super) table: TableTable,
    #[serde(default)]
    pub(super) backfill: BackfillTable,
    #[serde(default)]
    pub(super) audit: AuditTable,
    #[serde(default)]
    pub(super) rules: BTreeMap<String, Action>,
    #[serde(default, rename = "override")]
    pub(super) overrides: Vec<OverrideTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DefaultsTable {
    pub(super) rule: Option<Action>,
    pub(super) unparsed: Option<Action>,
    pub(super) in_transaction: Option<InTransaction>,
    pub(super) may_override: Option<bool>,
    pub(super) reason_required: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockTable {
    pub(super) timeout_ms: Option<u64>,
    pub(super) pause_ms: Option<u64>,
    pub(super) give_up_after_s: Option<u64>,
    pub(super) give_up_in_transaction_s: Option<u64>,
    pub(super) concurrent_tries: Option<u32>,
    pub(super) stall_budget_ms: Option<u64>,
    pub(super) escalate_after_s: Option<u64>,
    pub(super) timeout_max_ms: Option<u64>,
    pub(super) hold_ms: Option<u64>,
    #[serde(default)]
    pub(super) cancel: Vec<LockCancel>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DropTable {
    pub(super) quiet_for_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RewriteTable {
    pub(super) keep_old_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalTable {
    pub(super) wait_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableTable {
    pub(super) small_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillTable {
    pub(super) rows_max: Option<u64>,
    pub(super) batch_rows: Option<u64>,
    pub(super) batch_rows_max: Option<u64>,
    pub(super) batch_target_ms: Option<u64>,
    pub(super) pause_ms: Option<u64>,
    pub(super) notice_s: Option<u64>,
    pub(super) returning_rows_max: Option<u64>,
    pub(super) replica_lag_max_ms: Option<u64>,
    pub(super) wal_max_percent: Option<u64>,
    pub(super) lock_waits_max: Option<u64>,
    pub(super) stop_file: Option<String>,
    pub(super) in_transaction: Option<InTransaction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditTable {
    pub(super) on_failure: Option<OnAuditFailure>,
    pub(super) literals: Option<Literals>,
}

impl File {
    /// What this file leaves out, from `base`.
    pub(super) fn over(self, base: File) -> File {
        File {
            extends: None,
            defaults: DefaultsTable {
                rule: self.defaults.rule.or(base.defaults.rule),
                unparsed: self.defaults.unparsed.or(base.defaults.unparsed),
                in_transaction: self.defaults.in_transaction.or(base.defaults.in_transaction),
                may_override: self.defaults.may_override.or(base.defaults.may_override),
                reason_required: self.defaults.reason_required.or(base.defaults.reason_required),
            },
            lock: LockTable {
                timeout_ms: self.lock.timeout_ms.or(base.lock.timeout_ms),
                pause_ms: self.lock.pause_ms.or(base.lock.pause_ms),
                give_up_after_s: self.lock.give_up_after_s.or(base.lock.give_up_after_s),
                give_up_in_transaction_s: self
                    .lock
                    .give_up_in_transaction_s
                    .or(base.lock.give_up_in_transaction_s),
                concurrent_tries: self.lock.concurrent_tries.or(base.lock.concurrent_tries),
                stall_budget_ms: self.lock.stall_budget_ms.or(base.lock.stall_budget_ms),
                escalate_after_s: self.lock.escalate_after_s.or(base.lock.escalate_after_s),
                timeout_max_ms: self.lock.timeout_max_ms.or(base.lock.timeout_max_ms),
                hold_ms: self.lock.hold_ms.or(base.lock.hold_ms),
                cancel: self.lock.cancel.into_iter().chain(base.lock.cancel).collect(),
            },
            drop: DropTable {
                quiet_for_s: self.drop.quiet_for_s.or(base.drop.quiet_for_s),
            },
            rewrite: RewriteTable {
                keep_old_s: self.rewrite.keep_old_s.or(base.rewrite.keep_old_s),
            },
            approval: ApprovalTable {
                wait_s: self.approval.wait_s.or(base.approval.wait_s),
            },
            table: TableTable {
                small_bytes: self.table.small_bytes.or(base.table.small_bytes),
            },
            backfill: BackfillTable {
                rows_max: self.backfill.rows_max.or(base.backfill.rows_max),
                batch_rows: self.backfill.batch_rows.or(base.backfill.batch_rows),
                batch_rows_max: self.backfill.batch_rows_max.or(base.backfill.batch_rows_max),
                batch_target_ms: self.backfill.batch_target_ms.or(base.backfill.batch_target_ms),
                pause_ms: self.backfill.pause_ms.or(base.backfill.pause_ms),
                notice_s: self.backfill.notice_s.or(base.backfill.notice_s),
                returning_rows_max: self.backfill.returning_rows_max.or(base.backfill.returning_rows_max),
                replica_lag_max_ms: self.backfill.replica_lag_max_ms.or(base.backfill.replica_lag_max_ms),
                wal_max_percent: self.backfill.wal_max_percent.or(base.backfill.wal_max_percent),
                lock_waits_max: self.backfill.lock_waits_max.or(base.backfill.lock_waits_max),
                stop_file: self.backfill.stop_file.or(base.backfill.stop_file),
                in_transaction: self.backfill.in_transaction.or(base.backfill.in_transaction),
            },
            audit: AuditTable {
                on_failure: self.audit.on_failure.or(base.audit.on_failure),
                literals: self.audit.literals.or(base.audit.literals),
            },
            rules: base.rules.into_iter().chain(self.rules).collect(),
            overrides: self.overrides.into_iter().chain(base.overrides).collect(),
        }
    }

    /// None if a value is missing, which [`File::over`] the standard policy leaves none of.
    pub(super) fn policy(self, name: &str) -> Option<Policy> {
        Some(Policy {
            name: name.to_string(),
            unparsed: self.defaults.unparsed?,
            in_transaction: self.defaults.in_transaction?,
            lock: Lock {
                timeout_ms: self.lock.timeout_ms?,
                pause_ms: self.lock.pause_ms?,
                give_up_after_ms: self.lock.give_up_after_s? * 1000,
                give_up_in_transaction_ms: self.lock.give_up_in_transaction_s? * 1000,
                concurrent_tries: self.lock.concurrent_tries?,
                stall_budget_ms: self.lock.stall_budget_ms?,
                escalate_after_ms: self.lock.escalate_after_s? * 1000,
                timeout_max_ms: self.lock.timeout_max_ms?,
                hold_ms: self.lock.hold_ms?,
                cancels: self.lock.cancel,
            },
            quiet_for_s: self.drop.quiet_for_s?,
            rewrite_keep_old_s: self.rewrite.keep_old_s?,
            approval_wait_s: self.approval.wait_s?,
            small_bytes: self.table.small_bytes?,
            backfill: Backfill {
                rows_max: self.backfill.rows_max?,
                batch_rows: self.backfill.batch_rows?,
                batch_rows_max: self.backfill.batch_rows_max?,
                batch_target_ms: self.backfill.batch_target_ms?,
                pause_ms: self.backfill.pause_ms?,
                notice_ms: self.backfill.notice_s? * 1000,
                returning_rows_max: self.backfill.returning_rows_max?,
                replica_lag_max_ms: self.backfill.replica_lag_max_ms?,
                wal_max_percent: self.backfill.wal_max_percent?,
                lock_waits_max: self.backfill.lock_waits_max?,
                stop_file: self.backfill.stop_file.filter(|file| !file.is_empty()),
                in_transaction: self.backfill.in_transaction?,
            },
            on_audit_failure: self.audit.on_failure?,
            audit_literals: self.audit.literals?,
            rules: Rules {
                default: self.defaults.rule?,
                may_override: self.defaults.may_override?,
                reason_required: self.defaults.reason_required?,
                actions: self.rules,
                overrides: self.overrides,
            },
        })
    }
}
