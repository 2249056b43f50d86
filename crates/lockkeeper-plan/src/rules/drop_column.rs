//! ALTER TABLE … DROP COLUMN.

use super::rule::{Found, Rule};
use super::taken::{self, UNUSED, Worst};
use crate::catalog::Column;
use crate::depends::{Part, What};
use crate::lock::LockMode;
use crate::remedies::replace_column::{BECOMING, REPLACED};
use crate::splice::quote_ident;
use crate::subject::{Action, Subject};
use pg_query::protobuf::{AlterTableType, DropBehavior};

pub(super) const RULE: Rule = Rule {
    name: "drop-column",
    lock: LockMode::AccessExclusive,
    what: "DROP COLUMN of a table that is in use, however small; DROP TYPE, DOMAIN, COLLATION, FUNCTION … CASCADE that takes one with it.",
    why: "The data is gone at once, with every index and constraint that uses the column, and applications that still name it fail.",
    versions: "13–18",
    safe: "Stop reading and writing it, deploy, make sure that nothing names it, and only then drop it, by an override that says so.",
    bad: &[
        "ALTER TABLE users DROP COLUMN name",
        "ALTER TABLE users DROP name, ADD COLUMN b int",
    ],
    good: &[
        "ALTER TABLE users DROP CONSTRAINT users_check",
        "ALTER TABLE users DROP COLUMN IF EXISTS nowhere",
    ],
    check,
};

fn is_ours(column: &Column) -> bool {
    let text = column
        .comment
        .as_deref()
        .and_then(|text| text.strip_prefix("lockkeeper: "));
    text.is_some_and(|text| text.starts_with(BECOMING) || text.starts_with(REPLACED))
}

fn check(subject: &Subject) -> Option<Found> {
    let going = subject.going(&[What::Column]);
    match subject.action_of(AlterTableType::AtDropColumn) {
        Some(action) => named(subject, &action.command.name, &going).or_else(|| with_it(subject, &going)),
        None => with_it(subject, &going),
    }
}

fn named(subject: &Subject, name: &String, going: &[&Part]) -> Option<Found> {
    let table = subject.table(&subject.altered()?)?;
    if table.known.is_some_and(|r| r.column(name).is_none_or(is_ours)) {
        return None;
    }
    let (t, c) = (&table.sql, quote_ident(name));
    let mut also: Vec<&str> = Vec::new();
    if let Some(relation) = table.known {
        also.extend(
            relation
                .indexes
                .iter()
                .filter(|i| i.mentions.contains(name))
                .map(|i| i.name.as_str()),
        );
        let constraints = relation
            .constraints
            .iter()
            .filter(|k| k.kind != 'n' && k.columns.contains(name));
        also.extend(
            constraints
                .map(|k| k.name.as_str())
                .filter(|k| !relation.indexes.iter().any(|i| i.name == *k)),
        );
    }
    let mut message =
        format!("dropping column {c} of {t} loses its data and breaks every application that still uses it");
    if !also.is_empty() {
        message.push_str(&format!("; {} would go with it", also.join(", ")));
    }
    let of_type: Vec<&Part> = subject.asked().map_or(Vec::new(), |asked| asked.touched().collect());
    for (what, parts) in [("it takes", going), ("the column goes from", &of_type)] {
        if !parts.is_empty() {
            message.push_str(&format!(
                "; {what} {} too",
                taken::listed(parts, |part| taken::told(part))
            ));
        }
    }
    let cascades = |action: &Action| action.command.behavior() == DropBehavior::DropCascade;
    let cascade = if subject.action.as_ref().is_some_and(cascades) {
        " CASCADE"
    } else {
        ""
    };
    let hint = format!(
        "1. Deploy what neither reads nor writes {c}; also no SELECT * that depends on it. If it is NOT NULL without a default, first: \
         ALTER TABLE {t} ALTER COLUMN {c} DROP NOT NULL;\n\
         2. Wait until the last session with the old code is gone, and look for views, functions and reports that name it.\n\
         3. {}",
        subject.let_through(
            "drop-column",
            UNUSED,
            &format!("ALTER TABLE {t} DROP COLUMN {c}{cascade}")
        )
    );
    Some(Found::advice(
        message,
        "stop using it and deploy first, then drop it with an override",
        hint,
    ))
}

/// Columns that go with something else.
fn with_it(subject: &Subject, going: &[&Part]) -> Option<Found> {
    let statement = subject.shown();
    let message = if !going.is_empty() {
        let columns = if going.len() == 1 { "column" } else { "columns" };
        format!(
            "{statement} takes {} {columns} with it, whose data is lost: {}",
            going.len(),
            taken::listed(going, |part| taken::told(part))
        )
    } else if subject.may_take(Worst::Column) {
        format!("{statement} takes every column with it that depends on it, and the data is lost")
    } else {
        return None;
    };
    Some(Found::advice(
        message,
        "stop using these columns and deploy first, then drop them with an override",
        taken::first_by_itself(subject, RULE.name, "these columns"),
    ))
}
