//! A crash of the server while one of both tables is unlogged: it is then empty, and neither takes the other's place.

use super::finish;
use super::walk::{CRASHED, End, Walk};
use crate::plan::rewrite::persistence::is_unlogged;

/// Of a job whose old table a crash has emptied. What was copied of it stays until the job is cancelled.
pub const PHASE: &str = "crashed";

/// When a session takes the job up: no session lives through a crash.
pub async fn look(walk: &Walk<'_>) -> Result<(), End> {
    let (link, scheme) = (walk.link, walk.scheme);
    if !scheme.is_unlogged {
        return Ok(());
    }
    let phase = format!("SELECT phase FROM {}", walk.state_table());
    let phase = link.one(&phase).await?.unwrap_or_default();
    // What a crash empties after the swap is the table that is to be so, or the one that goes.
    if matches!(phase.as_str(), "swapped" | "validated" | "kept" | "closed") || link.is(&scheme.lasts()).await? {
        return Ok(());
    }
    let (old, fresh) = (scheme.old(), scheme.fresh());
    if is_unlogged(&scheme.described.own) || matches!(phase.as_str(), "built" | "stripped") {
        let why = format!("{CRASHED}: the job is given up, and {old} is not replaced; begin anew");
        finish::cancel(link, scheme, &why).await?;
        return Err(why.into());
    }
    if phase != PHASE {
        let crashed = format!("UPDATE {} SET phase = '{PHASE}'", walk.state_table());
        finish::drop_triggers(link, scheme, &[crashed]).await?;
    }
    Err(format!(
        "{CRASHED}: {old} has lost its rows, and is not replaced; those that were copied before are in {fresh} until the job is cancelled"
    )
    .into())
}
