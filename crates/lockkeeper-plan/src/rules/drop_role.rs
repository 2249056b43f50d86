//! DROP ROLE of a role by which somebody logs in or has rights.

use super::rule::{Found, Rule};
use super::taken;
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::Subject;
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
    let (each, it) = match names.len() {
        1 => ("", "it"),
        _ => ("one of ", "them"),
    };
    let nologin: Vec<String> = names
        .iter()
        .map(|name| format!("ALTER ROLE {} NOLOGIN;\n", quote_ident(name)))
        .collect();
    Some(Found::advice(
        format!(
            "dropping {} stops whoever logs in as {each}{it}, or has rights through {it}",
            taken::listed(&names, |name| quote_ident(name))
        ),
        "let it log in no more first",
        format!(
            "{}{};  -- once nobody misses {it}",
            nologin.concat(),
            subject.whole_text()
        ),
    ))
}
