//! ALTER TABLE … RENAME TO and SET SCHEMA, ALTER SCHEMA … RENAME TO.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::splice::{qualified, quote_ident};
use crate::subject::{Subject, name_of};
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

pub(super) const RULE: Rule = Rule {
    name: "rename-table",
    lock: LockMode::AccessExclusive,
    what: "ALTER TABLE (or ALTER INDEX, which renames tables too) … RENAME TO or SET SCHEMA for a table or view that is in use, however small, and ALTER SCHEMA … RENAME TO.",
    why: "The rename is instant, but every running application still uses the old name and fails from that moment on.",
    versions: "13–18",
    safe: "Rename and leave a view of the old name behind in the same transaction; drop the view once nothing uses it.",
    bad: &[
        "ALTER TABLE users RENAME TO accounts",
        "ALTER TABLE IF EXISTS small RENAME TO tiny",
        "ALTER TABLE users SET SCHEMA archive",
        "ALTER SCHEMA archive RENAME TO old",
        "ALTER INDEX users RENAME TO accounts",
    ],
    good: &[
        "ALTER INDEX users_name_idx RENAME TO i",
        "ALTER TABLE users_name_idx RENAME TO i",
    ],
    check,
};

/// Kinds of relations that applications name.
const NAMED: [ObjectType; 5] = [
    // ALTER INDEX renames tables and views as well; what it is the catalog says.
    ObjectType::ObjectIndex,
    ObjectType::ObjectTable,
    ObjectType::ObjectView,
    ObjectType::ObjectMatview,
    ObjectType::ObjectForeignTable,
];

fn check(subject: &Subject) -> Option<Found> {
    let (range, statement, schema, name) = match &subject.statement.node {
        NodeEnum::RenameStmt(rename) if rename.rename_type() == ObjectType::ObjectSchema => {
            return Some(schema(&rename.subname, &rename.newname));
        }
        NodeEnum::RenameStmt(rename) if NAMED.contains(&rename.rename_type()) => {
            let range = rename.relation.as_ref()?;
            (
                range,
                format!("RENAME TO {}", quote_ident(&rename.newname)),
                range.schemaname.clone(),
                rename.newname.clone(),
            )
        }
        NodeEnum::AlterObjectSchemaStmt(alter) if NAMED.contains(&alter.object_type()) => {
            let range = alter.relation.as_ref()?;
            (
                range,
                format!("SET SCHEMA {}", quote_ident(&alter.newschema)),
                alter.newschema.clone(),
                range.relname.clone(),
            )
        }
        _ => return None,
    };
    let table = subject.table(&name_of(range))?;
    let by_index = matches!(&subject.statement.node, NodeEnum::RenameStmt(rename) if rename.rename_type() == ObjectType::ObjectIndex);
    if by_index && table.known.is_none() {
        return None;
    }
    // ALTER TABLE renames indexes and sequences as well.
    if !matches!(table.kind(), 'r' | 'p' | 'v' | 'm' | 'f') {
        return None;
    }
    let new = match schema.as_str() {
        "" => quote_ident(&name),
        schema => qualified(schema, &name),
    };
    let message = format!(
        "renaming {} breaks every application that still uses the old name",
        table.sql
    );
    let hint = format!(
        "BEGIN;\n\
         ALTER TABLE {old} {statement};  -- with SET LOCAL lockkeeper.override = 'rename-table: a view takes the old name'\n\
         CREATE VIEW {old} AS SELECT * FROM {new};  -- on 15 and later WITH (security_invoker = true) where row security is used\n\
         COMMIT;\n\
         -- Reads, INSERT, UPDATE and DELETE go on under both names; COPY FROM, TRUNCATE and ALTER TABLE do not work on the view.\n\
         -- Deploy what uses {new}; once nothing uses the old name: DROP VIEW {old};",
        old = table.sql,
    );
    Some(Found::advice(
        message,
        "leave a view of the old name behind in the same transaction",
        hint,
    ))
}

fn schema(old: &str, new: &str) -> Found {
    let (old, new) = (quote_ident(old), quote_ident(new));
    Found::advice(
        format!("renaming the schema {old} breaks every application that still names it or has it in its search_path"),
        "create the new schema and leave views behind",
        format!(
            "CREATE SCHEMA {new};\n\
             -- For each table: ALTER TABLE {old}.t SET SCHEMA {new}; CREATE VIEW {old}.t AS SELECT * FROM {new}.t; in one transaction.\n\
             -- Deploy what uses {new}; once nothing uses {old}: drop its views, and the schema."
        ),
    )
}
