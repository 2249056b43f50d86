//! An UPDATE or DELETE of many rows at once.

use super::{Found, Remedy, Rule, Subject, name_of, steps};
use crate::plan::batches::Batches;
use crate::plan::lock::LockMode;
use crate::plan::statement::Kind;
use crate::plan::{Mode, Place, Step};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "large-write",
    lock: LockMode::RowExclusive,
    what: "An UPDATE or DELETE that the planner expects to touch more rows than the policy's rows_max.",
    why: "Every touched row stays locked to the end of the one long transaction; vacuum and replicas fall behind meanwhile.",
    versions: "13–18",
    safe: "Batches along the primary key, each its own transaction, with a pause between them and the true total at the end.",
    bad: &[
        "UPDATE users SET name = 'x' WHERE name IS NULL",
        "DELETE FROM users WHERE age > 5",
    ],
    good: &["UPDATE small SET a = 1", "INSERT INTO users (id) VALUES (1)"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if !matches!(subject.statement.kind, Kind::Write) {
        return None;
    }
    let (verb, range) = match &subject.statement.node {
        NodeEnum::UpdateStmt(update) => ("UPDATE", update.relation.as_ref()?),
        NodeEnum::DeleteStmt(delete) => ("DELETE", delete.relation.as_ref()?),
        _ => return None,
    };
    let rows = subject.facts.estimated_rows?;
    if rows <= subject.policy.backfill.rows_max as f64 {
        return None;
    }
    let table = subject.large(&name_of(range))?;
    let relation = table.known?;
    let message = format!(
        "this {verb} would lock about {rows:.0} rows of {} until its one transaction ends",
        table.described()
    );
    let hint = format!(
        "Run it outside a transaction block, and it is done in batches; or write {verb} … LIMIT {} and repeat it, each time in a \
         transaction of its own, until fewer rows than that are affected.",
        subject.policy.backfill.batch_rows
    );
    // Inside the client's transaction the rows could not be let go between the batches.
    let in_transaction = subject.place != Place::Alone;
    let remedy = match Batches::new(subject.statement, relation) {
        Ok(mut batches) => {
            batches.estimated_rows = Some(rows);
            let mode = Mode::Batches(Box::new(batches));
            Remedy::Steps(vec![Step {
                ..steps::step(
                    "change rows in batches",
                    subject.statement.sql.clone(),
                    mode,
                    LockMode::RowExclusive,
                    &table,
                )
            }])
        }
        Err(reason) => Remedy::None(Some(reason)),
    };
    Some(Found {
        message,
        short: "run it in batches, each its own transaction".to_string(),
        hint,
        remedy,
        sqlstate: in_transaction.then_some("25001"),
    })
}
