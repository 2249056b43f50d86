//! ALTER TYPE … RENAME VALUE.

use super::rule::{Found, Rule};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::splice::quote_literal;
use crate::subject::{Subject, sql_name};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "rename-enum-value",
    lock: LockMode::None,
    what: "ALTER TYPE … RENAME VALUE of an enum.",
    why: "It locks no table, but every running application still writes and compares the old label and fails from that moment on.",
    versions: "13–18",
    safe: "ADD VALUE for the new label, let applications understand both, change the rows in batches, and leave the old label unused.",
    bad: &["ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'"],
    good: &["ALTER TYPE mood ADD VALUE 'fine'"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::AlterEnumStmt(alter) = &subject.statement.node else {
        return None;
    };
    if alter.old_val.is_empty() {
        return None;
    }
    let mut parts = crate::tree::names(&alter.type_name);
    let name = Name {
        name: parts.pop()?,
        schema: parts.pop(),
    };
    let (t, old, new) = (
        sql_name(&name),
        quote_literal(&alter.old_val),
        quote_literal(&alter.new_val),
    );
    let message = format!("renaming {old} of {t} breaks every application that still uses the old label");
    let hint = format!(
        "ALTER TYPE {t} ADD VALUE {new} AFTER {old};  -- instant; in its own transaction\n\
         -- Deploy what reads both and writes {new}; change the rows that hold {old} (through Lockkeeper a large UPDATE runs in batches);\n\
         -- an enum's label cannot be dropped: leave {old} unused."
    );
    Some(Found::advice(
        message,
        "add the new label and deploy, then change the rows",
        hint,
    ))
}
