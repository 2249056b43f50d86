//! What a plan fills in itself, where PostgreSQL would have written the table anew and fired no trigger: the owner's triggers must not
//! fire either.

use crate::catalog::{Relation, Trigger};
use crate::facts::Facts;

/// The setting under which only what is ENABLE ALWAYS or ENABLE REPLICA fires. A superuser's.
pub const SETTING: (&str, &str) = ("session_replication_role", "replica");

/// Whether triggers must be kept from firing. Err: nobody could, with this role.
pub fn needed(relation: &Relation, facts: &Facts) -> Result<bool, String> {
    let ours = |t: &Trigger| t.comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: "));
    // UPDATE OF … names columns that were there before.
    let concerned = |t: &&Trigger| t.on_update && !t.of_columns && !ours(t);
    let tables = || std::iter::once(relation).chain(facts.descendants(relation));
    let all = || tables().flat_map(|table| table.triggers.iter().filter(concerned).map(move |t| (table, t)));
    let Some(fires) = all().find(|(_, trigger)| !trigger.disabled) else {
        return Ok(false);
    };
    let (table, trigger) = match all().find(|(_, trigger)| trigger.on_replica) {
        Some(always) => always,
        None if facts.superuser => return Ok(true),
        None => fires,
    };
    Err(format!(
        "filling in existing rows is an UPDATE, for which the trigger {} of {}.{} would fire; PostgreSQL itself fires none",
        trigger.name, table.schema, table.name
    ))
}
