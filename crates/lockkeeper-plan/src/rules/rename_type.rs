//! ALTER TYPE, ALTER DOMAIN … RENAME TO and SET SCHEMA.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::splice::{qualified, quote_ident};
use crate::subject::Subject;
use crate::tree;
use pg_query::protobuf::ObjectType;
use pg_query::{Node, NodeEnum};

pub(super) const RULE: Rule = Rule {
    name: "rename-type",
    lock: LockMode::None,
    what: "ALTER TYPE or ALTER DOMAIN … RENAME TO and SET SCHEMA.",
    why: "Columns keep it, but every cast to it, every function that names it in its body, and drivers that look it up by its name fail from that moment on.",
    versions: "13–18",
    safe: "Keep the name; or let applications understand both names first.",
    bad: &[
        "ALTER TYPE mood RENAME TO feeling",
        "ALTER DOMAIN plain_domain SET SCHEMA archive",
    ],
    good: &["ALTER TYPE mood ADD VALUE 'fine'"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let types = [ObjectType::ObjectType, ObjectType::ObjectDomain];
    let (object, new) = match &subject.statement.node {
        NodeEnum::RenameStmt(rename) if types.contains(&rename.rename_type()) => {
            (rename.object.as_deref()?, quote_ident(&rename.newname))
        }
        NodeEnum::AlterObjectSchemaStmt(alter) if types.contains(&alter.object_type()) => {
            (alter.object.as_deref()?, format!("{}.…", quote_ident(&alter.newschema)))
        }
        _ => return None,
    };
    let old = name_of(object)?;
    Some(Found::advice(
        format!("renaming the type {old} to {new} breaks every cast and function of running code that names it"),
        "keep the name until nothing uses it",
        format!(
            "1. Look for what names {old}: casts ('…'::{old}), function bodies, type registrations of drivers.\n\
             2. Deploy what asks the server for the type instead of naming it; then {};",
            subject.whole_text()
        ),
    ))
}

fn name_of(object: &Node) -> Option<String> {
    let names = match object.node.as_ref()? {
        NodeEnum::List(list) => tree::names(&list.items),
        NodeEnum::TypeName(name) => tree::names(&name.names),
        _ => return None,
    };
    match names.as_slice() {
        [name] => Some(quote_ident(name)),
        [.., schema, name] => Some(qualified(schema, name)),
        [] => None,
    }
}
