//! What comes after the swap, or instead of it: foreign keys are validated, and what is left of the job goes away.

use super::link::Link;
use super::swap::{TRY, begin_try, tries};
use super::walk::{End, Walk};
use crate::plan::rewrite::job;
use crate::plan::rewrite::scheme::Scheme;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(600);

/// How a job came to its end.
pub enum Ends {
    Done,
    /// The old table is kept.
    Kept,
    /// The old table is in its place again.
    Back,
}

/// Nobody who reads or writes waits for it.
pub async fn validate(walk: &Walk<'_>) -> Result<(), End> {
    for sql in &walk.scheme.attached.validate {
        tries(walk.link, PATIENCE, async || {
            walk.link.run("BEGIN").await?;
            let validated = validate_one(walk, sql).await;
            if validated.is_err() {
                walk.link.rollback().await;
            }
            validated
        })
        .await?;
    }
    walk.link
        .run(&format!("UPDATE {} SET phase = 'validated'", walk.state_table()))
        .await?;
    Ok(())
}

async fn validate_one(walk: &Walk<'_>, sql: &str) -> Result<(), End> {
    walk.hold().await?;
    // With the rights of the owner, all rows: else it would fail.
    walk.link
        .run(&format!("SET LOCAL lock_timeout = '{TRY}'; {sql}; COMMIT"))
        .await?;
    Ok(())
}

/// The old table and all that is the job's own is dropped, and the job is done, unless the old table is kept.
pub async fn contract(walk: &Walk<'_>) -> Result<Ends, End> {
    let scheme = walk.scheme;
    if scheme.is_back {
        let why = "the old table is in its place again";
        clear(walk.link, scheme, &job::given_up(scheme.job, why)).await?;
        return Ok(Ends::Back);
    }
    if scheme.keep_old {
        return keep(walk).await.map(|()| Ends::Kept);
    }
    clear(walk.link, scheme, &job::done(scheme.job)).await?;
    Ok(Ends::Done)
}

async fn keep(walk: &Walk<'_>) -> Result<(), End> {
    walk.link.run("BEGIN").await?;
    walk.hold().await?;
    walk.link
        .run(&format!("UPDATE {} SET phase = 'kept'", walk.state_table()))
        .await?;
    walk.link.job_row(&job::kept(walk.scheme.job)).await?;
    walk.link.run("COMMIT").await?;
    Ok(())
}

/// Nothing is left of the job: the triggers go first, since without the log every write would fail.
pub async fn cancel(link: &Link, scheme: &Scheme, why: &str) -> Result<(), End> {
    drop_triggers(link, scheme, &[]).await?;
    clear(link, scheme, &job::given_up(scheme.job, why)).await
}

/// Writes are logged no more, and in the same transaction the rest.
pub async fn drop_triggers(link: &Link, scheme: &Scheme, rest: &[String]) -> Result<(), End> {
    let sql = [&[scheme.drop_triggers_anywhere()], rest, &["COMMIT".into()]].concat();
    tries(link, PATIENCE, async || {
        begin_try(link).await?;
        let dropped = link.run_all(&sql).await;
        if dropped.is_err() {
            link.rollback().await;
        }
        Ok(dropped?)
    })
    .await
}

pub async fn clear(link: &Link, scheme: &Scheme, job: &crate::plan::jobs::JobSql) -> Result<(), End> {
    tries(link, PATIENCE, async || {
        begin_try(link).await?;
        let cleared = clear_once(link, scheme, job).await;
        if cleared.is_err() {
            link.rollback().await;
        }
        cleared
    })
    .await
}

async fn clear_once(link: &Link, scheme: &Scheme, job: &crate::plan::jobs::JobSql) -> Result<(), End> {
    link.run_all(&scheme.clear()).await?;
    link.job_row(job).await?;
    link.run("COMMIT").await?;
    Ok(())
}
