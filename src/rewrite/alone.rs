//! The swap by one session, where no second one can be had: nothing holds the table while the last step's rows become visible.
//!
//! So the log is brought in, snapshots from before are waited for, and the table is locked only then. Where nothing was written in between, who has
//! taken a snapshot since sees all rows, as ever; else it is tried again. What came in under the lock would be missing for a statement that waits for
//! the lock within a STABLE function, which reads with the snapshot that the statement around it has.

use super::link::{Link, Row};
use super::swap::{Missed, Patience, TRY_PAUSE, begin_try, exchange, lock_all, send_autovacuum_away};
use super::walk::{End, Walk};
use crate::plan::rewrite::questions;
use std::time::{Duration, Instant};

/// As long a try waits for snapshots. Nothing is locked meanwhile.
const SNAPSHOTS: Duration = Duration::from_secs(30);
/// What is written in this time is brought in before the table is locked, else by one more step.
const SOON: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(20);

pub async fn swap(walk: &mut Walk<'_>, patience: &Patience) -> Result<(), End> {
    let begun = Instant::now();
    let mut tried = false;
    loop {
        if tried {
            send_autovacuum_away(walk).await?;
        }
        walk.calm().await?;
        let missed = match try_swap(walk, patience).await {
            Ok(()) => return Ok(()),
            Err(Missed::End(end)) => return Err(end),
            Err(Missed::InTheWay(who)) => who,
        };
        walk.link.rollback().await;
        if begun.elapsed() > patience.give_up_after {
            return Err(format!(
                "{} could not be replaced yet, all else is ready: {missed}",
                walk.scheme.old()
            )
            .into());
        }
        tried = true;
        walk.link.wait(TRY_PAUSE, &missed).await?;
    }
}

async fn try_swap(walk: &mut Walk<'_>, patience: &Patience) -> Result<(), Missed> {
    let link = walk.link;
    if patience.old_snapshots {
        wait_for_snapshots(walk).await?;
    } else {
        walk.drain_once().await?;
    }
    begin_try(link).await?;
    lock_all(link, walk.scheme).await?;
    let written = format!("SELECT EXISTS (SELECT FROM {})", walk.scheme.schemas().of("log"));
    if link.is(&written).await? {
        if patience.old_snapshots {
            return Err(Missed::InTheWay("rows were written in between".into()));
        }
        walk.drain_here().await?;
    }
    exchange(walk, link).await
}

async fn snapshots(walk: &Walk<'_>) -> Result<Vec<Row>, Missed> {
    let link: &Link = walk.link;
    Ok(link
        .rows(&questions::snapshots([link.pid, link.pid], walk.scheme.table))
        .await?)
}

fn is_among(row: &Row, rows: &[Row]) -> bool {
    rows.iter().any(|other| other.first() == row.first())
}

fn has_snapshot(row: &Row) -> Missed {
    let who = row.get(1).cloned().flatten().unwrap_or_default();
    Missed::InTheWay(format!("{who} has a snapshot from before"))
}

/// After it nobody has a snapshot that does not see what the last step has brought in, which was a moment ago.
async fn wait_for_snapshots(walk: &mut Walk<'_>) -> Result<(), Missed> {
    let begun = Instant::now();
    loop {
        walk.drain_once().await?;
        let since = Instant::now();
        let mut old = snapshots(walk).await?;
        while let Some(first) = old.first() {
            if begun.elapsed() > SNAPSHOTS {
                return Err(has_snapshot(first));
            }
            let name = first.get(1).cloned().flatten().unwrap_or_default();
            walk.link
                .look(LOOK, &format!("{name} has a snapshot from before"))
                .await?;
            let now = snapshots(walk).await?;
            old.retain(|row| is_among(row, &now));
        }
        if since.elapsed() < SOON {
            return Ok(());
        }
        if begun.elapsed() > SNAPSHOTS {
            return Err(Missed::InTheWay("statements run all the time".into()));
        }
    }
}
