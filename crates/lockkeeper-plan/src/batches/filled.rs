//! The rows that a plan fills in: whether the server lets them be updated is asked of it before the first step, by an EXPLAIN.

use crate::facts::Facts;
use crate::jobs::Kind;
use crate::splice::{qualified, quote_ident};
use crate::step::{Mode, Step};

/// An UPDATE of nothing new, which is planned and not run. None: the step fills nothing, or there is no column to say it with.
pub fn question(step: &Step, facts: &Facts) -> Option<String> {
    let Mode::Batches(batches) = &step.mode else {
        return None;
    };
    let (schema, name) = &batches.names;
    let mut known = facts.relations.iter();
    let relation = known
        .find(|relation| relation.schema == *schema && relation.name == *name)
        .filter(|_| batches.kind == Kind::Backfill)?;
    let mut plain = relation.columns.iter();
    let plain = plain.find(|column| column.generated.trim().is_empty() && column.identity.trim() != "a")?;
    let column = quote_ident(&plain.name);
    Some(format!(
        "EXPLAIN UPDATE {} SET {column} = {column}",
        qualified(schema, name)
    ))
}

/// `message`: the server's.
pub fn refusal(message: &str) -> String {
    format!(
        "its rows would be filled in by UPDATE, and the server refuses that: {message}; ALTER TABLE … REPLICA IDENTITY FULL lets them be filled, \
         and REPLICA IDENTITY DEFAULT takes it back once there is a primary key"
    )
}
