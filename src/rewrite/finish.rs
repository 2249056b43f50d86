//! What comes after the swap, or instead of it: foreign keys are validated, and what is left of the job goes away.

use super::link::Link;
use super::swap::{TRY, begin_try, tries};
use super::walk::{End, Walk};
use crate::plan::rewrite::job;
use crate::plan::rewrite::scheme::Scheme;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(600);

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

/// The old table and all that is the job's own is dropped, and the job is done.
pub async fn contract(walk: &Walk<'_>) -> Result<(), End> {
    let scheme = walk.scheme;
    let done = job::done(scheme.job);
    clear(walk.link, scheme, !scheme.keep_old, &done).await
}

/// Nothing is left of the job: the triggers go first, since without the log every write would fail.
pub async fn cancel(link: &Link, scheme: &Scheme, why: &str) -> Result<(), End> {
    tries(link, PATIENCE, async || {
        begin_try(link).await?;
        let dropped = link.run_all(&[scheme.drop_triggers_anywhere(), "COMMIT".into()]).await;
        if dropped.is_err() {
            link.rollback().await;
        }
        Ok(dropped?)
    })
    .await?;
    clear(link, scheme, true, &job::given_up(scheme.job, why)).await
}

async fn clear(link: &Link, scheme: &Scheme, with_old: bool, job: &crate::plan::jobs::JobSql) -> Result<(), End> {
    tries(link, PATIENCE, async || {
        begin_try(link).await?;
        let cleared = clear_once(link, scheme, with_old, job).await;
        if cleared.is_err() {
            link.rollback().await;
        }
        cleared
    })
    .await
}

async fn clear_once(link: &Link, scheme: &Scheme, with_old: bool, job: &crate::plan::jobs::JobSql) -> Result<(), End> {
    link.run_all(&scheme.clear(with_old)).await?;
    link.job_row(job).await?;
    link.run("COMMIT").await?;
    Ok(())
}
