//! The swap by one session, where no second one can be had: nothing holds the table while the last step's rows become visible.
//!
//! So the log is brought in, snapshots from before are waited for, and the table is locked only then. Where nothing was written in between, who has
//! taken a snapshot since sees all rows, as ever. Where rows are written all the time, the last ones come in under the lock.

use super::link::{Link, Row};
use super::swap::{Missed, Patience, STRICT_FOR, TRY_PAUSE, begin_try, exchange, lock_all, send_autovacuum_away};
use super::walk::{End, Walk};
use crate::plan::rewrite::questions;
use std::time::{Duration, Instant};

/// As long a try waits for snapshots. Nothing is locked meanwhile.
const SNAPSHOTS: Duration = Duration::from_secs(30);
/// What is written in this time is brought in before the table is locked, else by one more step.
const SOON: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(20);
/// So many lines of the log are brought in under the lock.
const LINES_MAX: u64 = 1_000;
/// As long no session is let in that has held its snapshot since before the lock.
const LASTING_FOR: Duration = Duration::from_secs(60);

pub async fn swap(walk: &mut Walk<'_>, patience: &Patience) -> Result<(), End> {
    let begun = Instant::now();
    let mut tried = false;
    loop {
        if tried {
            send_autovacuum_away(walk).await?;
        }
        walk.calm().await?;
        let missed = match try_swap(walk, patience, begun.elapsed()).await {
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

async fn try_swap(walk: &mut Walk<'_>, patience: &Patience, since: Duration) -> Result<(), Missed> {
    let link = walk.link;
    if patience.old_snapshots {
        wait_for_snapshots(walk).await?;
    } else {
        walk.drain_once().await?;
    }
    let before = match patience.old_snapshots && since < LASTING_FOR {
        true => snapshots(walk).await?,
        false => Vec::new(),
    };
    begin_try(link).await?;
    lock_all(link, walk.scheme).await?;
    let log = walk.scheme.schemas().of("log");
    let lines = link
        .one(&format!(
            "SELECT count(*) FROM (SELECT FROM {log} LIMIT {}) x",
            LINES_MAX + 1
        ))
        .await?;
    let lines: u64 = lines.and_then(|lines| lines.parse().ok()).unwrap_or(u64::MAX);
    let is_strict = patience.old_snapshots && since < STRICT_FOR;
    if lines > LINES_MAX || (lines > 0 && is_strict) {
        return Err(Missed::InTheWay("rows were written in between".into()));
    }
    if lines > 0 {
        let now = snapshots(walk).await?;
        // Who waits for the table takes a new one when it goes on.
        if let Some(who) = now.iter().find(|row| !waits(row) && is_among(row, &before)) {
            return Err(has_snapshot(who));
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

fn waits(row: &Row) -> bool {
    row.get(2).cloned().flatten().as_deref() == Some("t")
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
