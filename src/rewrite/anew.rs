//! The steps of a way back: the swap is rehearsed, and rows that were written since are made anew in the old table.

use super::link::Fault;
use super::swap;
use super::walk::{End, Walk};

/// What becomes of a job that is done, and whose old table is kept.
pub fn next(id: i64) -> String {
    format!("to go back to it: lockkeeper jobs --dsn … back {id}; to drop it: lockkeeper jobs --dsn … finish {id}")
}

/// The swap back is rehearsed.
pub async fn rehearse(walk: &Walk<'_>) -> Result<(), End> {
    swap::rehearse(walk).await?;
    let next = format!("UPDATE {} SET phase = 'drain'", walk.state_table());
    Ok(walk.link.run(&next).await.map(|_| ())?)
}

/// All rows written since are made anew in the old table. Err: it cannot hold one, which is named.
pub async fn drain(walk: &mut Walk<'_>) -> Result<(), End> {
    match walk.drain(Some("settle")).await {
        Err(End::Fault(fault)) if fault.is_of_the_rows() => {
            walk.link.rollback().await;
            let row = name_row(walk).await.unwrap_or_default();
            walk.link.rollback().await;
            let row = match row {
                Some(key) => format!(" (the row with {key})"),
                None => String::new(),
            };
            let text = format!("the old table cannot hold what was written since{row}: {}", fault.text);
            Err(End::Fault(Fault { text, ..fault }))
        }
        other => other.map(|_| ()),
    }
}

/// By halves, the first row that the old table cannot hold.
async fn name_row(walk: &Walk<'_>) -> Result<Option<String>, Fault> {
    let (link, way) = (walk.link, walk.scheme);
    link.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = off")
        .await?;
    let lines = link
        .rows(&way.take_log())
        .await?
        .pop()
        .and_then(|row| row.into_iter().next().flatten());
    let (mut from, mut count) = (0, lines.and_then(|lines| lines.parse::<u64>().ok()).unwrap_or_default());
    link.run("SAVEPOINT lockkeeper_row").await?;
    let fails = async |from, count| match link.run(&way.try_rows(from, count)).await {
        Ok(_) => Ok(false),
        Err(fault) if fault.is_of_the_rows() => {
            link.run("ROLLBACK TO SAVEPOINT lockkeeper_row").await?;
            Ok(true)
        }
        Err(fault) => Err(fault),
    };
    if !fails(from, count).await? {
        return Ok(None);
    }
    while count > 1 {
        let half = count / 2;
        if fails(from, half).await? {
            count = half;
        } else {
            from += half;
            count -= half;
        }
    }
    link.one(&way.key_at(from)).await
}
