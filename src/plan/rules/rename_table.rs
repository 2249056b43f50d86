//! ALTER TABLE … RENAME TO.

use super::{Found, Rule, Subject, name_of};
use crate::plan::lock::LockMode;
use crate::plan::splice::{qualified, quote_ident};
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

pub(super) const RULE: Rule = Rule {
    name: "rename-table",
    lock: LockMode::AccessExclusive,
    what: "ALTER TABLE … RENAME TO for a table or view that is in use, however small.",
    why: "The rename is instant, but every running application still uses the old name and fails from that moment on.",
    versions: "13–18",
    safe: "Rename and leave a view of the old name behind in the same transaction; drop the view once nothing uses it.",
    bad: &[
        "ALTER TABLE users RENAME TO accounts",
        "ALTER TABLE IF EXISTS small RENAME TO tiny",
    ],
    good: &[
        "ALTER INDEX users_name_idx RENAME TO i",
        "ALTER TABLE users_name_idx RENAME TO i",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::RenameStmt(rename) = &subject.statement.node else {
        return None;
    };
    let relations = [
        ObjectType::ObjectTable,
        ObjectType::ObjectView,
        ObjectType::ObjectMatview,
        ObjectType::ObjectForeignTable,
    ];
    if !relations.contains(&rename.rename_type()) {
        return None;
    }
    let asked = name_of(rename.relation.as_ref()?);
    let table = subject.table(&asked)?;
    // ALTER TABLE renames indexes and sequences as well.
    if !matches!(table.kind(), 'r' | 'p' | 'v' | 'm' | 'f') {
        return None;
    }
    let new = match &asked.schema {
        Some(schema) => qualified(schema, &rename.newname),
        None => quote_ident(&rename.newname),
    };
    let message = format!(
        "renaming {} breaks every application that still uses the old name",
        table.sql
    );
    let hint = format!(
        "BEGIN;\n\
         ALTER TABLE {old} RENAME TO {bare};  -- with SET LOCAL lockkeeper.override = 'rename-table: a view takes the old name'\n\
         CREATE VIEW {old} AS SELECT * FROM {new};  -- on 15 and later WITH (security_invoker = true) where row security is used\n\
         COMMIT;\n\
         -- Reads, INSERT, UPDATE and DELETE go on under both names; COPY FROM, TRUNCATE and ALTER TABLE do not work on the view.\n\
         -- Deploy what uses {new}; once nothing uses the old name: DROP VIEW {old};",
        old = table.sql,
        bare = quote_ident(&rename.newname),
    );
    Some(Found::advice(
        message,
        "leave a view of the old name behind in the same transaction",
        hint,
    ))
}
