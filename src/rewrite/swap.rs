//! The swap: both tables change places in one short transaction, when nobody is in the way and no snapshot is left that would see the new
//! table as it was before. And its rehearsal with the empty table, which is rolled back.

use super::build::{describe, oid};
use super::link::{Fault, Link, Row};
use super::walk::{End, Walk};
use crate::plan::rewrite::questions;
use crate::plan::rewrite::scheme::{Scheme, differences};
use crate::plan::splice::quote_literal;
use std::time::{Duration, Instant};

/// As long a try may wait for a lock, and so long others may wait behind it.
pub const TRY: &str = "50ms";
pub const TRY_PAUSE: Duration = Duration::from_millis(200);
/// As long writers may be held up by the wait for old snapshots.
const HOLD: Duration = Duration::from_millis(50);

/// As long nobody is let in who waits to write, and has a snapshot from before the last step.
pub const STRICT_FOR: Duration = Duration::from_secs(5);

/// Should we hang while we hold what others need, the server ends us.
const IDLE_MAX: &str = "2s";

/// BEGIN, with what a try needs.
pub async fn begin_try(link: &Link) -> Result<(), Fault> {
    link.run(&format!(
        "BEGIN; SET LOCAL lock_timeout = '{TRY}'; SET LOCAL row_security = off; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_MAX}'"
    ))
    .await?;
    Ok(())
}

/// All that the swap locks: the views, the table, and NOWAIT the tables of its foreign keys, so that an application which has locked one of
/// them and waits for the table wins.
pub async fn lock_all(link: &Link, scheme: &Scheme) -> Result<(), Fault> {
    let mut locks = scheme.attached.lock_views.clone();
    locks.push(format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", scheme.old()));
    locks.extend(scheme.attached.lock_others.iter().cloned());
    link.run_all(&locks).await
}

/// The server itself proves every statement of the swap, before hours of copying: the whole swap with the empty table, rolled back.
pub async fn rehearse(walk: &Walk<'_>) -> Result<(), End> {
    let link = walk.link;
    let tried = tries(link, Duration::from_secs(600), async || {
        begin_try(link).await?;
        let rehearsed = rehearse_once(walk).await;
        link.rollback().await;
        rehearsed
    });
    match tried.await {
        Err(end) if is_in_the_way(&end) => Err(name_blockers(end, walk.scheme)),
        Err(End::Fault(fault)) if !fault.is_cancelled() => {
            Err(format!("the swap was rehearsed and rolled back, and fails:\n{}", fault.text).into())
        }
        other => other,
    }
}

async fn rehearse_once(walk: &Walk<'_>) -> Result<(), End> {
    let (link, scheme) = (walk.link, walk.scheme);
    walk.hold().await?;
    lock_all(link, scheme).await?;
    walk.is_as_it_was().await?;
    link.run_all(&scheme.swap()).await?;
    compare(link, scheme).await?;
    Ok(())
}

/// The table in place is what it was, apart from what was asked for.
async fn compare(link: &Link, scheme: &Scheme) -> Result<(), Fault> {
    let found = describe(link, oid(link, &scheme.old()).await?, scheme.schemas()).await?;
    let mut differs = differences(&scheme.described.own, &found.own);
    differs.extend(differences(&scheme.described.hangs, &found.hangs));
    match differs.is_empty() {
        true => Ok(()),
        false => Err(format!("the table would not be as before:\n  {}", differs.join("\n  ")).into()),
    }
}

/// Again and again, with pauses, while others are in the way.
pub async fn tries<T>(
    link: &Link,
    give_up_after: Duration,
    mut work: impl AsyncFnMut() -> Result<T, End>,
) -> Result<T, End> {
    let begun = Instant::now();
    loop {
        match work().await {
            Err(End::Fault(fault)) if fault.is_in_the_way() && begun.elapsed() < give_up_after => {
                link.wait(TRY_PAUSE, &fault.text).await?;
            }
            other => return other,
        }
    }
}

/// From then on every write is logged.
pub async fn set_triggers(walk: &Walk<'_>) -> Result<(), End> {
    let (link, scheme) = (walk.link, walk.scheme);
    tries(link, Duration::from_secs(600), async || {
        begin_try(link).await?;
        let set = set_triggers_once(walk).await;
        if set.is_err() {
            link.rollback().await;
        }
        set
    })
    .await
    .map_err(|end| name_blockers(end, scheme))
}

fn is_in_the_way(end: &End) -> bool {
    matches!(end, End::Fault(fault) if fault.is_in_the_way())
}

fn name_blockers(end: End, scheme: &Scheme) -> End {
    match end {
        End::Fault(fault) if fault.is_in_the_way() => {
            let text = format!("{} was never free for a try of {TRY}: {}", scheme.old(), fault.text);
            End::Fault(Fault { text, ..fault })
        }
        end => end,
    }
}

async fn set_triggers_once(walk: &Walk<'_>) -> Result<(), End> {
    let (link, scheme) = (walk.link, walk.scheme);
    walk.hold().await?;
    link.run(&format!("LOCK TABLE ONLY {} IN SHARE ROW EXCLUSIVE MODE", scheme.old()))
        .await?;
    walk.is_as_it_was().await?;
    link.run_all(&scheme.triggers()).await?;
    let now = questions::fingerprint(scheme.table, scheme.schemas());
    link.run(&format!(
        "UPDATE {} SET phase = 'copy', fingerprint = ({now})",
        walk.state_table()
    ))
    .await?;
    link.run("COMMIT").await?;
    Ok(())
}

/// When to end a swap that is not gotten, and whether old snapshots are waited for.
pub struct Patience {
    pub give_up_after: Duration,
    pub old_snapshots: bool,
}

/// A swap that was not made, and why, for people.
pub enum Missed {
    End(End),
    InTheWay(String),
}

impl<T: Into<End>> From<T> for Missed {
    fn from(end: T) -> Missed {
        match end.into() {
            End::Fault(fault) if fault.is_in_the_way() => Missed::InTheWay(fault.text),
            end => Missed::End(end),
        }
    }
}

pub async fn swap(walk: &mut Walk<'_>, holder: &Link, patience: &Patience) -> Result<(), End> {
    let begun = Instant::now();
    let mut tried = false;
    loop {
        if tried {
            send_autovacuum_away(walk).await?;
        }
        walk.calm().await?;
        let older = match patience.old_snapshots && begun.elapsed() > STRICT_FOR {
            true => Some(
                walk.link
                    .rows(&questions::snapshots([walk.link.pid, holder.pid], walk.scheme.table))
                    .await?,
            ),
            false => None,
        };
        let missed = match try_swap(walk, holder, patience, older.as_deref()).await {
            Ok(()) => return Ok(()),
            Err(Missed::End(end)) => {
                holder.rollback().await;
                return Err(end);
            }
            Err(Missed::InTheWay(who)) => who,
        };
        holder.rollback().await;
        walk.link.rollback().await;
        if begun.elapsed() > patience.give_up_after {
            return Err(format!(
                "{} could not be replaced yet, all else is ready; resume the job: {missed}",
                walk.scheme.old()
            )
            .into());
        }
        tried = true;
        walk.link.wait(TRY_PAUSE, &missed).await?;
    }
}

/// It gives way to whoever has waited for longer than deadlock_timeout, and nobody who reads or writes waits behind this.
pub async fn send_autovacuum_away(walk: &Walk<'_>) -> Result<(), End> {
    let sql = format!(
        "BEGIN; SET LOCAL lock_timeout = '3s'; LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE; COMMIT",
        walk.scheme.old()
    );
    match walk.link.run(&sql).await {
        Err(fault) if fault.is_in_the_way() => walk.link.rollback().await,
        other => {
            other?;
        }
    }
    Ok(())
}

/// Whatever the other session waits for while this one holds the table may wait for this one, which the server does not see: it waits no
/// longer than a try, and then both let go.
async fn try_swap(
    walk: &mut Walk<'_>,
    holder: &Link,
    patience: &Patience,
    older: Option<&[Row]>,
) -> Result<(), Missed> {
    walk.link.run(&format!("SET lock_timeout = '{TRY}'")).await?;
    let tried = try_swap_briefly(walk, holder, patience, older).await;
    if tried.is_err() {
        holder.rollback().await;
        walk.link.rollback().await;
    }
    walk.link.run("SET lock_timeout = 0").await?;
    tried
}

async fn try_swap_briefly(
    walk: &mut Walk<'_>,
    holder: &Link,
    patience: &Patience,
    older: Option<&[Row]>,
) -> Result<(), Missed> {
    let scheme = walk.scheme;
    begin_try(holder).await?;
    // Readers go on; writers wait, so that the log is empty after one more step, for snapshots that are taken from then on too.
    holder
        .run(&format!("LOCK TABLE ONLY {} IN EXCLUSIVE MODE", scheme.old()))
        .await?;
    walk.drain_once().await?;
    if patience.old_snapshots {
        wait_for_snapshots(walk, holder, older).await?;
    }
    lock_all(holder, scheme).await?;
    exchange(walk, holder).await
}

/// Under the lock: nobody is in the way, the log is empty, the table is what it was; then both change places.
pub async fn exchange(walk: &Walk<'_>, holder: &Link) -> Result<(), Missed> {
    let scheme = walk.scheme;
    let in_the_way = format!(
        "SELECT CASE WHEN EXISTS (SELECT FROM pg_locks l WHERE l.mode = 'SIReadLock' AND l.relation = {} AND l.database = (SELECT d.oid FROM pg_database d \
         WHERE d.datname = current_database())) THEN 'serializable transactions have read the table' \
         WHEN EXISTS (SELECT FROM {}) THEN 'rows were written in between' END",
        scheme.table,
        scheme.schemas().of("log")
    );
    if let Some(why) = holder.one(&in_the_way).await? {
        return Err(Missed::InTheWay(why));
    }
    let now = questions::fingerprint(scheme.table, scheme.schemas());
    let as_it_was = format!("SELECT ({now}) = fingerprint FROM {}", walk.state_table());
    if !holder.is(&as_it_was).await? {
        let text = format!(
            "the definition of {} has changed since the job began: cancel the job, and begin anew",
            scheme.old()
        );
        return Err(Missed::End(text.into()));
    }
    walk.no_crash_since(holder).await?;
    let mut all = scheme.swap();
    all.extend(scheme.attached.persistence.iter().cloned());
    all.push(format!(
        "UPDATE {} SET phase = {}",
        walk.state_table(),
        quote_literal("swapped")
    ));
    all.push("COMMIT".into());
    holder.run_all(&all).await?;
    Ok(())
}

/// A snapshot from before the last step would see the new table's rows as they were when they were copied, or not at all. Who waits to write the
/// table has taken one to read its statement, and as long as we hold the table keeps it: READ COMMITTED takes a new one when it goes on. So it
/// is let in after a while, unless its snapshot is older than the step before the last.
async fn wait_for_snapshots(walk: &Walk<'_>, holder: &Link, older: Option<&[Row]>) -> Result<(), Missed> {
    let sql = questions::snapshots([walk.link.pid, holder.pid], walk.scheme.table);
    let begun = Instant::now();
    let mut old = walk.link.rows(&sql).await?;
    let same = |a: &Row, b: &Row| a.first() == b.first();
    let waits = |row: &Row| row.get(2).cloned().flatten().as_deref() == Some("t");
    loop {
        old.retain(|row| !older.is_some_and(|older| waits(row) && !older.iter().any(|other| same(row, other))));
        if old.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > HOLD {
            let who = old
                .first()
                .and_then(|row| row.get(1).cloned().flatten())
                .unwrap_or_default();
            return Err(Missed::InTheWay(format!("{who} has a snapshot from before")));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut now = walk.link.rows(&sql).await?;
        now.retain(|row| old.iter().any(|other| same(row, other)));
        old = now;
    }
}
