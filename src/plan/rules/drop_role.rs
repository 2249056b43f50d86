//! DROP ROLE of a role by which somebody logs in or has rights.

use super::{Found, Rule, Subject, taken};
use crate::plan::lock::LockMode;
use crate::plan::splice::quote_ident;
use pg_query::{Node, NodeEnum};

pub(super) const RULE: Rule = Rule {
    name: "drop-role",
    lock: LockMode::None,
    what: "DROP ROLE of a role that may log in, or that others are members of.",
    why: "Applications that log in as it cannot connect any more, and members lose the rights that they had through it.",
    versions: "13–18",
    safe: "ALTER ROLE … NOLOGIN first, which is taken back at once; drop the role once nobody misses it.",
    bad: &["DROP ROLE app"],
    good: &["DROP ROLE IF EXISTS nobody_at_all", "ALTER ROLE app NOLOGIN"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::DropRoleStmt(drop) = &subject.statement.node else {
        return None;
    };
    if !subject.facts.offline && !subject.asked()?.found {
        return None;
    }
    let name = |node: &Node| match node.node.as_ref() {
        Some(NodeEnum::RoleSpec(role)) => Some(role.rolename.clone()),
        _ => None,
    };
    let names: Vec<String> = drop.roles.iter().filter_map(name).collect();
    let names = taken::listed(&names, |name| quote_ident(name));
    Some(Found::advice(
        format!("dropping {names} stops whoever logs in as it, or has rights through it"),
        "let it log in no more first",
        format!(
            "ALTER ROLE {names} NOLOGIN;  -- one statement a role\n{};  -- once nobody misses it",
            subject.whole_text()
        ),
    ))
}
