//! A dump that is restored with --clean over what is there.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ObjectType};

pub(crate) const RULE: Rule = Rule {
    name: "clean-restore",
    lock: LockMode::AccessExclusive,
    what: "The first statement by which pg_restore --clean, or psql with a dump made by pg_dump --clean, drops something that is there.",
    why: "It drops and loads every table anew, and goes on after errors: were its tables refused one by one, the keys would be gone and the rows be loaded beside the old ones.",
    versions: "13–18",
    safe: "Restore into a new database, and swap; or let the whole restore through with an override. The refusal ends the session, so that nothing of the rest is run.",
    bad: &["DROP FUNCTION public.restored()"],
    good: &["DROP TABLE IF EXISTS nowhere", "CREATE TABLE restored_anew (id int)"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let asked = subject.asked()?;
    // What the server will not let this role do is no restore that has begun.
    if !asked.restoring || !asked.permitted || !drops(subject) {
        return None;
    }
    let mut hint =
        "createdb new; pg_restore -d new …;  -- then swap the databases' names, or copy what is wanted".to_string();
    if subject.may_override() {
        hint.push_str(
            "\nTo let the whole restore through, with all that it drops: PGOPTIONS=\"-c lockkeeper.override=clean-restore:ticket-42\" pg_restore … (or psql -f …)",
        );
    }
    let mut found = Found::advice(
        format!(
            "this restore would drop what is there and load it anew ({}); nothing of it was run, and the session ends",
            subject.shown()
        ),
        "restore into a new database, or let all of it through with an override",
        hint,
    );
    // object_in_use
    found.sqlstate = Some("55006");
    Some(found)
}

/// Something of others that is there.
fn drops(subject: &Subject) -> bool {
    use AlterTableType as A;
    let Some(asked) = subject.asked() else {
        return false;
    };
    let kinds = [
        A::AtDropConstraint,
        A::AtColumnDefault,
        A::AtDropIdentity,
        A::AtDetachPartition,
    ];
    match &subject.statement.node {
        NodeEnum::DropStmt(drop) => {
            // Without CASCADE only what is empty goes, or the server says what is in the way.
            let empty_only = matches!(
                drop.remove_type(),
                ObjectType::ObjectSchema | ObjectType::ObjectExtension | ObjectType::ObjectLanguage
            );
            let mut named = asked.parts.iter().filter(|part| part.named).peekable();
            !empty_only && asked.found && (named.peek().is_none() || named.any(|part| !part.invisible_to_others()))
        }
        NodeEnum::DropdbStmt(_) => asked.found,
        NodeEnum::AlterTableStmt(_) => {
            let drops = |command: &pg_query::protobuf::AlterTableCmd| {
                kinds.contains(&command.subtype()) && (command.subtype() != A::AtColumnDefault || command.def.is_none())
            };
            let table = || subject.table(&subject.altered()?);
            subject.action.is_some_and(|action| drops(action.command)) && table().is_some()
        }
        _ => false,
    }
}
