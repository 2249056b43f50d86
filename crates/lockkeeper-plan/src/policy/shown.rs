//! The whole policy as keys and values, as its file would have them.

use super::{InTransaction, Literals, LockCancel, OnAuditFailure, OverrideTable, Policy};

impl Policy {
    /// Every key with its value, in the order of the file; each `[[override]]` with what it says.
    pub fn shown(&self) -> Vec<(String, String)> {
        let lock = &self.lock;
        let backfill = &self.backfill;
        let seconds = |ms: u64| match ms % 1_000 {
            0 => (ms / 1_000).to_string(),
            _ => (ms as f64 / 1_000.0).to_string(),
        };
        let in_transaction = |what: InTransaction| match what {
            InTransaction::Defer => "defer",
            InTransaction::Reject => "reject",
            InTransaction::Forward => "forward",
        };
        let mut pairs = vec![
            ("name", self.name.clone()),
            ("defaults.rule", self.rules.default.name().to_owned()),
            ("defaults.unparsed", self.unparsed.name().to_owned()),
            (
                "defaults.in_transaction",
                in_transaction(self.in_transaction).to_owned(),
            ),
            ("defaults.may_override", self.rules.may_override.to_string()),
            ("defaults.reason_required", self.rules.reason_required.to_string()),
            ("lock.timeout_ms", lock.timeout_ms.to_string()),
            ("lock.pause_ms", lock.pause_ms.to_string()),
            ("lock.give_up_after_s", seconds(lock.give_up_after_ms)),
            ("lock.give_up_in_transaction_s", seconds(lock.give_up_in_transaction_ms)),
            ("lock.concurrent_tries", lock.concurrent_tries.to_string()),
            ("lock.stall_budget_ms", lock.stall_budget_ms.to_string()),
            ("lock.escalate_after_s", seconds(lock.escalate_after_ms)),
            ("lock.timeout_max_ms", lock.timeout_max_ms.to_string()),
            ("lock.hold_ms", lock.hold_ms.to_string()),
            ("lock.cancel", format!("{} blocks", lock.cancels.len())),
            ("drop.quiet_for_s", self.quiet_for_s.to_string()),
            ("rewrite.keep_old_s", self.rewrite_keep_old_s.to_string()),
            ("approval.wait_s", self.approval_wait_s.to_string()),
            ("table.small_bytes", self.small_bytes.to_string()),
            ("backfill.rows_max", backfill.rows_max.to_string()),
            ("backfill.batch_rows", backfill.batch_rows.to_string()),
            ("backfill.batch_rows_max", backfill.batch_rows_max.to_string()),
            ("backfill.batch_target_ms", backfill.batch_target_ms.to_string()),
            ("backfill.pause_ms", backfill.pause_ms.to_string()),
            ("backfill.notice_s", seconds(backfill.notice_ms)),
            ("backfill.returning_rows_max", backfill.returning_rows_max.to_string()),
            ("backfill.replica_lag_max_ms", backfill.replica_lag_max_ms.to_string()),
            ("backfill.wal_max_percent", backfill.wal_max_percent.to_string()),
            ("backfill.lock_waits_max", backfill.lock_waits_max.to_string()),
            ("backfill.stop_file", backfill.stop_file.clone().unwrap_or_default()),
            (
                "backfill.in_transaction",
                in_transaction(backfill.in_transaction).to_owned(),
            ),
            (
                "audit.on_failure",
                match self.on_audit_failure {
                    OnAuditFailure::Open => "open",
                    OnAuditFailure::Closed => "closed",
                }
                .to_owned(),
            ),
            (
                "audit.literals",
                match self.audit_literals {
                    Literals::Keep => "keep",
                    Literals::Redact => "redact",
                }
                .to_owned(),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<Vec<_>>();
        pairs.extend(
            self.rules
                .actions
                .iter()
                .map(|(rule, action)| (format!("rules.{rule}"), action.name().to_owned())),
        );
        pairs.extend(
            lock.cancels
                .iter()
                .map(|block| ("lock.cancel".to_owned(), block.says())),
        );
        pairs.extend(
            self.rules
                .overrides
                .iter()
                .map(|block| (block.overridden().by, block.says())),
        );
        pairs
    }
}

impl LockCancel {
    fn says(&self) -> String {
        let text = |key: &str, value: &Option<String>| value.as_ref().map(|value| format!("{key} = {value}"));
        let time = |key: &str, value: Option<u64>| value.map(|value| format!("{key} = {value}"));
        let all = [
            text("application", &self.application),
            text("role", &self.role),
            time("idle_in_transaction_s", self.idle_in_transaction_s),
            time("active_s", self.active_s),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl OverrideTable {
    fn says(&self) -> String {
        let rules = self
            .rules
            .iter()
            .map(|(rule, action)| format!("{rule} = {}", action.name()));
        let flags = [
            ("may_override", self.may_override),
            ("reason_required", self.reason_required),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| format!("{key} = {value}")));
        let reason = self.reason.iter().map(|reason| format!("reason: {reason}"));
        rules.chain(flags).chain(reason).collect::<Vec<_>>().join(", ")
    }
}
