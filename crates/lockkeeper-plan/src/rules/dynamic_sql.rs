//! EXECUTE of text that is put together by the program, in a DO block.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::subject::Subject;
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "dynamic-sql",
    lock: LockMode::None,
    what: "A DO block with an EXECUTE of anything but a plain string, or in a language that is not read.",
    why: "What it will run is not known before it runs, so that none of the other rules can look at it.",
    versions: "13–18",
    safe: "The statements themselves, written out; static SQL and EXECUTE 'plain string' in a DO block are judged like any other.",
    bad: &["DO $$ BEGIN EXECUTE format('ALTER TABLE %I ADD COLUMN c int', 'users'); END $$"],
    good: &[
        "DO $$ BEGIN PERFORM 1; END $$",
        "DO $$ BEGIN EXECUTE 'COMMENT ON TABLE users IS NULL'; END $$",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let statement = subject.statement;
    if !matches!(statement.node, NodeEnum::DoStmt(_)) || !statement.body()?.dynamic {
        return None;
    }
    let hint = "Send the statements themselves, or write them out in the block: IF … THEN ALTER TABLE … END IF; \
                EXECUTE of a string without variables is read too.";
    Some(Found::advice(
        "the DO block runs SQL that it puts together, which is not judged".to_string(),
        "write the statements out",
        hint.to_string(),
    ))
}
