//! A DO block whose statements may do something else than they are judged by.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::subject::Subject;
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "block-meaning",
    lock: LockMode::None,
    what: "A DO block in which a name that is dropped, changed or written to may come to mean another table, that executes a prepared statement, or prepares one that changes rows and has parameters; or whose PL/pgSQL cannot be read.",
    why: "Its statements are judged by what their names mean before it runs: DROP TABLE t twice drops the temporary t first, and then the one that it hid.",
    versions: "13–18",
    safe: "Names with their schema, or the statements one by one.",
    bad: &[
        "DO $$ BEGIN SET LOCAL search_path = public; DROP TABLE users; END $$",
        "DO $$ BEGIN DROP TABLE users; DROP TABLE users; END $$",
    ],
    good: &[
        "DO $$ BEGIN SET LOCAL lock_timeout = '1s'; CREATE TYPE mood AS ENUM ('ok'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "DO $$ BEGIN DROP TABLE IF EXISTS nowhere; END $$",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if !matches!(subject.statement.node, NodeEnum::DoStmt(_)) {
        return None;
    }
    let doubt = subject.statement.body()?.doubt.clone()?;
    Some(Found::advice(
        doubt.message,
        "send the statements one by one, outside of a DO block",
        doubt.hint,
    ))
}
