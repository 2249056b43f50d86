//! Row-level security that hides every row.

use super::nonconcurrent_drop_index::dropped as listed;
use super::rule::{Found, Rule};
use super::taken;
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::{Subject, Table};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ObjectType};

pub(super) const RULE: Rule = Rule {
    name: "row-security",
    lock: LockMode::AccessExclusive,
    what: "ENABLE or FORCE ROW LEVEL SECURITY on a table with rows that has no permissive policy, and DROP POLICY of its last one.",
    why: "With no policy that lets them be seen, every row vanishes at once for everybody to whom it applies.",
    versions: "13–18",
    safe: "CREATE POLICY first: policies have no effect until row-level security is enabled.",
    bad: &["ALTER TABLE users FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY"],
    good: &[
        "ALTER TABLE small DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE fresh_here ENABLE ROW LEVEL SECURITY",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    match &subject.statement.node {
        NodeEnum::AlterTableStmt(_) => switched_on(subject),
        NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectPolicy => {
            let policies: Vec<(Name, String)> = listed(drop)
                .into_iter()
                .zip(drop.objects.iter().filter_map(table_of))
                .map(|(policy, table)| (table, policy.name))
                .collect();
            policies
                .iter()
                .find_map(|(table, policy)| last_dropped(subject, table, policy))
        }
        _ => None,
    }
}

/// The table of `table policy`, a list of names.
pub(super) fn table_of(node: &pg_query::Node) -> Option<Name> {
    let Some(NodeEnum::List(list)) = &node.node else {
        return None;
    };
    let mut parts = crate::tree::names(&list.items);
    parts.pop()?;
    let name = parts.pop()?;
    Some(Name {
        schema: parts.pop(),
        name,
    })
}

fn switched_on(subject: &Subject) -> Option<Found> {
    let kind = subject.action?.command.subtype();
    if !matches!(
        kind,
        AlterTableType::AtEnableRowSecurity | AlterTableType::AtForceRowSecurity
    ) {
        return None;
    }
    let table = subject
        .table(&subject.altered()?)
        .filter(|table| !taken::is_empty(table))?;
    if !subject.facts.offline {
        let state = subject.asked()?.state(table.known?.oid)?;
        let all = subject.statement.all_actions();
        let enables = all.any(AlterTableType::AtEnableRowSecurity);
        let hides = match kind {
            // The owner sees all rows, unless it is forced.
            AlterTableType::AtEnableRowSecurity => !state.secured && (state.shared || state.forced),
            _ => !state.forced && (state.secured || enables),
        };
        if !hides || !state.permissive.is_empty() {
            return None;
        }
    }
    let whom = match kind {
        AlterTableType::AtForceRowSecurity => "for its owner too, unless it is a superuser or has BYPASSRLS",
        _ => "for everybody but its owner, superusers and roles with BYPASSRLS",
    };
    Some(hidden(
        subject,
        &table,
        &format!("all rows of {} vanish {whom}", table.described()),
    ))
}

fn last_dropped(subject: &Subject, name: &Name, policy: &str) -> Option<Found> {
    let table = subject.table(name).filter(|table| !taken::is_empty(table))?;
    if !subject.facts.offline {
        let state = subject.asked()?.state(table.known?.oid)?;
        let last = matches!(state.permissive.as_slice(), [only] if only == policy);
        if !state.secured || !last || !(state.shared || state.forced) {
            return None;
        }
    }
    let message = format!(
        "without the policy {} all rows of {} vanish for those to whom row-level security applies",
        quote_ident(policy),
        table.described()
    );
    Some(hidden(subject, &table, &message))
}

fn hidden(subject: &Subject, table: &Table, message: &str) -> Found {
    Found::advice(
        format!("no policy would let rows be seen: {message}"),
        "create the policies first",
        format!(
            "CREATE POLICY … ON {} USING (…);  -- without effect until row-level security is enabled\n{};",
            table.sql,
            subject.whole_text()
        ),
    )
}
