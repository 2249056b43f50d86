//! DROP DATABASE.

use super::rule::{Found, Rule};
use super::taken::UNUSED;
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::Subject;
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "drop-database",
    lock: LockMode::None,
    what: "DROP DATABASE of a database that exists.",
    why: "All its data is gone at once, and no transaction can take it back.",
    versions: "13–18",
    safe: "Rename it and let nobody connect to it for as long as it may be missed; take a backup; then drop it with an override.",
    bad: &["DROP DATABASE shop"],
    good: &["CREATE DATABASE d", "DROP SCHEMA IF EXISTS nowhere"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::DropdbStmt(drop) = &subject.statement.node else {
        return None;
    };
    if !subject.facts.offline && !subject.asked()?.found {
        return None;
    }
    let name = quote_ident(&drop.dbname);
    Some(Found::advice(
        format!("DROP DATABASE loses all the data of {name}, and cannot be undone"),
        "put it out of use first, then drop it with an override",
        format!(
            "1. ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false; and see who misses it; take a backup.\n\
             2. {}",
            subject.let_through("drop-database", UNUSED, subject.whole_text())
        ),
    ))
}
