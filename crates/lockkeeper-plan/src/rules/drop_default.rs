//! A NOT NULL column that loses its default.

use super::required_column::is_required;
use super::rule::{Found, Rule};
use super::taken::{self, Worst};
use crate::depends::What;
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::Subject;
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ColumnDef};

pub(super) const RULE: Rule = Rule {
    name: "drop-default",
    lock: LockMode::AccessExclusive,
    what: "DROP DEFAULT, SET DEFAULT NULL, DROP IDENTITY or DROP EXPRESSION of a NOT NULL column of a table with rows, DROP DEFAULT of its domain, and DROP SEQUENCE, FUNCTION … CASCADE that takes such a default.",
    why: "Every INSERT of running code that does not write the column fails from that moment on; of a column that was just added, that is all code that does not know it yet.",
    versions: "13–18",
    safe: "Keep the default until no program is left that does not write the column (in Django: db_default).",
    bad: &["ALTER TABLE users ADD COLUMN kind text DEFAULT 'new' NOT NULL, ALTER COLUMN kind DROP DEFAULT"],
    good: &[
        "ALTER TABLE users ALTER COLUMN name DROP DEFAULT",
        "ALTER TABLE users ALTER COLUMN id SET DEFAULT 1",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let mut lost: Vec<String> = named(subject).into_iter().collect();
    let going = subject.going(&[What::Default]);
    let required = going.iter().filter(|part| part.detail.is_some() && part.bytes > 0);
    lost.extend(required.map(|part| taken::told(part)));
    let message = match lost.as_slice() {
        [] if subject.may_take(Worst::Default) && matches!(subject.statement.node, NodeEnum::AlterDomainStmt(_)) => {
            "without the domain's default INSERTs fail that do not write its columns where these are NOT NULL"
                .to_string()
        }
        [] if subject.may_take(Worst::Default) => format!(
            "{} takes every default with it that uses it, and INSERTs that rely on one fail",
            subject.shown()
        ),
        [] => return None,
        lost => format!(
            "without a default of {}, which is NOT NULL, every INSERT of running code that does not write it fails",
            taken::listed(lost, String::clone)
        ),
    };
    Some(Found::advice(
        message,
        "keep the default until every program writes the column",
        "Leave the default in place until what does not write the column is gone (Django: db_default instead of default); \
         it costs nothing. Or let the column be NULL meanwhile: ALTER TABLE … ALTER COLUMN … DROP NOT NULL;"
            .to_string(),
    ))
}

fn named(subject: &Subject) -> Option<String> {
    let command = subject.action?.command;
    let loses = match command.subtype() {
        AlterTableType::AtColumnDefault => command.def.as_deref().is_none_or(tree::is_null),
        AlterTableType::AtDropIdentity | AlterTableType::AtDropExpression => true,
        _ => false,
    };
    let table = subject
        .table(&subject.altered()?)
        .filter(|table| loses && !taken::is_empty(table))?;
    let name = &command.name;
    let added = subject.statement.added_column(name);
    let required = match (added, table.known.and_then(|relation| relation.column(name))) {
        (Some(added), _) => is_required(added) && has_value(added),
        (None, Some(column)) => {
            column.not_null && (subject.facts.offline || column.default.is_some() || !column.identity.is_empty())
        }
        // Nothing is known of it.
        (None, None) => subject.facts.offline,
    };
    required.then(|| format!("{} of {}", quote_ident(name), table.described()))
}

fn has_value(added: &ColumnDef) -> bool {
    !added.constraints.is_empty()
}
