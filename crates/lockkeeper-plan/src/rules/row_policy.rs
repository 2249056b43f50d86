//! Row-level security that lets more rows be seen than before, or fewer.

use super::nonconcurrent_drop_index::dropped as listed;
use super::rule::{Found, Rule};
use super::{row_security, taken};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::{Subject, Table, name_of};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ObjectType};

pub(super) const RULE: Rule = Rule {
    name: "row-policy",
    lock: LockMode::AccessExclusive,
    what: "DISABLE or NO FORCE ROW LEVEL SECURITY, and CREATE, ALTER or DROP POLICY of a table with rows where row-level security is enabled.",
    why: "From its commit on others see and change rows that were hidden from them, or miss rows that they saw.",
    versions: "13–18",
    safe: "Look at the rows as one of those to whom it applies (SET ROLE) in a transaction that is rolled back, on a copy of the database; then send it alone.",
    bad: &["ALTER TABLE users DISABLE ROW LEVEL SECURITY"],
    good: &[
        "ALTER TABLE fresh_here DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON small USING (true)",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => switched_off(subject),
        // A permissive one shows more, a restrictive one less.
        NodeEnum::CreatePolicyStmt(create) => {
            let effect = match create.permissive {
                true => "shows and lets change more rows of",
                false => "hides rows of",
            };
            changed(subject, &name_of(create.table.as_ref()?), &create.policy_name, effect)
        }
        NodeEnum::AlterPolicyStmt(alter) => changed(
            subject,
            &name_of(alter.table.as_ref()?),
            &alter.policy_name,
            "shows or hides other rows of",
        ),
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectPolicy => {
            let tables = drop.objects.iter().filter_map(row_security::table_of);
            let mut policies = tables.zip(listed(drop));
            policies.find_map(|(table, policy)| dropped(subject, &table, &policy.name))
        }
        _ => None,
    }
}

fn switched_off(subject: &Subject) -> Option<Found> {
    let kind = subject.action?.command.subtype();
    if !matches!(
        kind,
        AlterTableType::AtDisableRowSecurity | AlterTableType::AtNoForceRowSecurity
    ) {
        return None;
    }
    let table = with_rows(subject, &subject.altered()?)?;
    let disables = kind == AlterTableType::AtDisableRowSecurity;
    if !subject.facts.offline {
        let state = subject.asked()?.state(table.known?.oid)?;
        let shows = match disables {
            true => state.secured && (state.shared || state.forced),
            false => state.secured && state.forced,
        };
        if !shows {
            return None;
        }
    }
    let whom = match disables {
        true => "everybody who has a right on it",
        false => "its owner",
    };
    Some(found(
        subject,
        format!("all rows of {} can be seen and changed by {whom}", table.described()),
    ))
}

fn dropped(subject: &Subject, name: &Name, policy: &str) -> Option<Found> {
    let effect = match subject.facts.relation(name).and_then(|r| subject.asked()?.state(r.oid)) {
        // Without the last one nothing is seen, which row-security says.
        Some(state) if matches!(state.permissive.as_slice(), [only] if only == policy) => return None,
        Some(state) if state.permissive.iter().any(|of| of == policy) => "hides rows of",
        _ => "shows or hides other rows of",
    };
    changed(subject, name, policy, effect)
}

fn changed(subject: &Subject, name: &Name, policy: &str, effect: &str) -> Option<Found> {
    let table = with_rows(subject, name)?;
    // Offline nothing tells whether row-level security is enabled.
    if !subject.facts.offline {
        let state = subject.asked()?.state(table.known?.oid)?;
        if !state.secured || !(state.shared || state.forced) {
            return None;
        }
    }
    let message = format!(
        "this change of the policy {} {effect} {} for those to whom row-level security applies",
        quote_ident(policy),
        table.described()
    );
    Some(found(subject, message))
}

fn with_rows<'a>(subject: &Subject<'a>, name: &Name) -> Option<Table<'a>> {
    subject.table(name).filter(|table| !taken::is_empty(table))
}

fn found(subject: &Subject, message: String) -> Found {
    Found::advice(
        message,
        "look at it as one of those to whom it applies",
        format!(
            "On a copy of the database: BEGIN; {}; SET ROLE …; SELECT count(*) FROM …; ROLLBACK;  -- as one of those to whom it applies",
            subject.whole_text()
        ),
    )
}
