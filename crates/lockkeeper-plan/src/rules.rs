//! The rule table. One danger a file; a rule is its file and one word here.
//!
//! A rule says what a statement would do to a live table and how the same end state is reached safely. It never decides:
//! what a finding means is the policy's, and how findings become one plan is [`super::compose`]'s.

pub mod attach_partition;
mod block_meaning;
mod blocking_refresh;
mod cascade;
mod change_type;
pub(crate) mod clean_restore;
pub(super) mod concurrent_in_transaction;
mod constrained_domain;
mod domain_constraint;
mod drop_column;
mod drop_database;
mod drop_default;
mod drop_key;
mod drop_role;
mod drop_table;
mod drop_view;
mod dynamic_sql;
mod exclusion_constraint;
mod large_write;
pub mod lock_queue;
mod no_inherit;
pub(super) mod nonconcurrent_drop_index;
pub(super) mod nonconcurrent_index;
mod nonconcurrent_reindex;
mod partition_lock;
mod refresh_without_data;
mod rename_column;
mod rename_enum_value;
mod rename_table;
mod rename_type;
mod replica_identity;
mod required_column;
mod rewriting_table;
mod row_policy;
mod row_security;
pub mod rule;
mod scan_under_lock;
mod serial_column;
pub(super) mod server_fault;
mod set_expression;
pub mod set_not_null;
mod stored_generated_column;
pub(super) mod taken;
pub mod tried;
mod truncate;
mod unique_constraint;
mod update_limit;
mod validating_check;
mod validating_foreign_key;
mod volatile_default;

#[cfg(test)]
mod tests;

use crate::remedies::add_column;
use crate::subject::Subject;
use pg_query::protobuf::ConstrType;
use rule::Rule;

/// In the order in which the remedies are taken where several rules find something in one action.
pub static RULES: &[Rule] = &[
    clean_restore::RULE,
    concurrent_in_transaction::RULE,
    server_fault::RULE,
    nonconcurrent_index::RULE,
    nonconcurrent_drop_index::RULE,
    nonconcurrent_reindex::RULE,
    set_not_null::RULE,
    stored_generated_column::RULE,
    constrained_domain::RULE,
    volatile_default::RULE,
    serial_column::RULE,
    validating_check::RULE,
    validating_foreign_key::RULE,
    unique_constraint::RULE,
    exclusion_constraint::RULE,
    scan_under_lock::RULE,
    domain_constraint::RULE,
    change_type::RULE,
    set_expression::RULE,
    rename_column::RULE,
    rename_table::RULE,
    rename_type::RULE,
    rename_enum_value::RULE,
    drop_column::RULE,
    drop_table::RULE,
    drop_database::RULE,
    drop_view::RULE,
    drop_key::RULE,
    drop_default::RULE,
    drop_role::RULE,
    cascade::RULE,
    truncate::RULE,
    rewriting_table::RULE,
    blocking_refresh::RULE,
    refresh_without_data::RULE,
    row_policy::RULE,
    row_security::RULE,
    replica_identity::RULE,
    required_column::RULE,
    no_inherit::RULE,
    partition_lock::RULE,
    attach_partition::RULE,
    dynamic_sql::RULE,
    block_meaning::RULE,
    large_write::RULE,
    update_limit::RULE,
    lock_queue::RULE,
];

/// For the audit log: why an action that looks dangerous is none.
pub(super) fn why_instant(subject: &Subject) -> Option<String> {
    let (_, added) = subject.added_column()?;
    add_column::constraint(added, ConstrType::ConstrDefault)?;
    (!add_column::differs_by_row(subject, added))
        .then(|| "no rewrite: PostgreSQL 11 and later keep a non-volatile default in the catalog".to_string())
}

pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
