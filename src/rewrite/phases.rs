//! A rewrite from the phase that it is in to its end, and the job's row that says so.

use super::build::{self, Asked};
use super::finish::{self, Ends};
use super::link::{Fault, Link};
use super::swap::{self, Patience};
use super::walk::{End, Walk};
use super::{alone, anew, crash};
use crate::plan::jobs;
use crate::plan::rewrite::facts::Table;
use crate::plan::rewrite::scheme::Scheme;
use crate::plan::rewrite::{Schemas, job, questions};
use crate::plan::splice::quote_literal;
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A second session, which holds the table at the swap.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Link, Fault>> + 'a>>;
pub type Holder<'a> = &'a dyn Fn() -> Opening<'a>;

/// How gently, and how patiently.
#[derive(Args, Clone, Copy)]
pub struct Pace {
    /// Pause after each step, which takes about 200 ms
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub pause_ms: u64,

    /// Try to swap for so long; then the job fails and can be resumed, and nothing was replaced
    #[arg(long, value_name = "S", default_value_t = 3600)]
    pub give_up_after_s: u64,

    /// Snapshots from before the swap, such as of a long REPEATABLE READ transaction: wait until they are gone, or ignore them, which then see
    /// the new table's rows as they were when copied, or none
    #[arg(long, value_name = "wait|ignore", default_value = "wait")]
    pub old_snapshots: OldSnapshots,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OldSnapshots {
    Wait,
    Ignore,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            pause_ms: 50,
            give_up_after_s: 3600,
            old_snapshots: OldSnapshots::Wait,
        }
    }
}

/// A job's row, as far as a rewrite needs it.
#[derive(Deserialize)]
pub struct Job {
    pub kind: String,
    pub owner: String,
    pub state: String,
    pub relation: u32,
    pub statement: String,
    pub details: job::Details,
    pub settings: BTreeMap<String, String>,
}

pub async fn read_job(link: &Link, id: i64) -> Result<Job, Fault> {
    let row = link
        .job(&job::read(id))
        .await?
        .pop()
        .and_then(|row| row.into_iter().next().flatten());
    let json =
        row.ok_or_else(|| format!("there is no job {id} here, or it belongs to a role whose jobs you may not see"))?;
    serde_json::from_str(&json).map_err(|error| format!("the job's row cannot be read: {error}").into())
}

/// The session runs the job from then on. Err: another one does.
pub async fn take(link: &Link, id: i64) -> Result<(), Fault> {
    let locked = link
        .job(&jobs::lock(id))
        .await?
        .pop()
        .and_then(|row| row.into_iter().next().flatten());
    match locked.as_deref() {
        Some("busy") => Err(format!("job {id} is running, in another session").into()),
        Some(_) => link.job(&jobs::take_up(id)).await.map(|_| ()),
        None => Err(format!("there is no job {id} here").into()),
    }
}

/// The scheme of a job whose new table has been made, from a schema that is nobody else's.
pub async fn kept(link: &Link, id: i64) -> Result<Option<Scheme>, Fault> {
    let schemas = Schemas::of_job(id);
    let owner = format!(
        "SELECT CASE WHEN n.nspowner = (SELECT r.oid FROM pg_roles r WHERE r.rolname = current_user) THEN 'own' ELSE 'other' END FROM pg_namespace n WHERE n.nspname = {}",
        quote_literal(&schemas.fresh())
    );
    match link.one(&owner).await?.as_deref() {
        None => Ok(None),
        Some("own") => link.json(&format!("SELECT scheme FROM {}", schemas.of("state"))).await,
        Some(_) => Err(format!("the schema {} belongs to another role", schemas.fresh()).into()),
    }
}

/// Err: a table that this one is linked with is rewritten now, and each of both would take the other's foreign keys away.
pub async fn take_foreign_keys(link: &Link, table: &Table) -> Result<(), Fault> {
    match link.one(&questions::take_foreign_keys(table.oid)).await? {
        Some(other) => Err(format!(
            "{}.{} is not rewritten now: it is linked with {other}, and that table is being rewritten; begin when that is done (lockkeeper jobs list)",
            table.schema, table.name
        )
        .into()),
        None => Ok(()),
    }
}

/// Whom it tells what it is at.
pub type Tell<'a> = &'a mut dyn FnMut(&str) -> Result<(), Fault>;

pub async fn phases(
    link: &Link,
    id: i64,
    asked: &Asked,
    pace: Pace,
    stop: &AtomicBool,
    holder: Option<Holder<'_>>,
    tell: Tell<'_>,
) -> Result<Ends, End> {
    let scheme = match kept(link, id).await? {
        Some(scheme) => scheme,
        None => build_new(link, id, asked).await?,
    };
    link.run(&scheme.make_keys()).await?;
    let mut walk = Walk::new(link, &scheme, Duration::from_millis(pace.pause_ms), stop);
    walk.of = asked.table.rows;
    run_phases(&mut walk, pace, holder, tell).await
}

/// From the phase that the job is in, whichever way it goes.
pub async fn run_phases(
    walk: &mut Walk<'_>,
    pace: Pace,
    holder: Option<Holder<'_>>,
    tell: Tell<'_>,
) -> Result<Ends, End> {
    let (link, scheme) = (walk.link, walk.scheme);
    crash::look(walk).await?;
    let mut last = String::new();
    let mut in_the_way = 0;
    loop {
        let sql = format!("SELECT phase FROM {}", walk.state_table());
        let phase = link
            .one(&sql)
            .await?
            .ok_or_else(|| "the job's state is gone".to_owned())?;
        if phase != last {
            link.now(told(&phase));
            tell(told(&phase))?;
            last.clone_from(&phase);
        }
        let stepped = match phase.as_str() {
            "built" => prepare(walk, scheme).await,
            "back" => anew::rehearse(walk).await,
            "stripped" => swap::set_triggers(walk).await,
            "drain" if scheme.is_back => anew::drain(walk).await,
            "ready" => {
                let patience = Patience {
                    give_up_after: Duration::from_secs(pace.give_up_after_s),
                    old_snapshots: pace.old_snapshots == OldSnapshots::Wait,
                };
                match holder {
                    Some(holder) => swap::swap(walk, &holder().await?, &patience).await,
                    None => alone::swap(walk, &patience).await,
                }
            }
            "swapped" => finish::validate(walk).await,
            "validated" => return finish::contract(walk).await,
            phase => walk.step(phase).await,
        };
        match stepped {
            Err(End::Fault(fault))
                if fault.is_in_the_way() && in_the_way < 100 && !matches!(phase.as_str(), "ready") =>
            {
                link.rollback().await;
                in_the_way += 1;
                link.wait(swap::TRY_PAUSE, &fault.text).await?;
            }
            other => {
                other?;
                in_the_way = 0;
            }
        }
    }
}

async fn build_new(link: &Link, id: i64, asked: &Asked) -> Result<Scheme, End> {
    link.run(build::BEGIN).await?;
    let built = build::build(link, asked, id).await;
    if built.is_err() {
        asked.undo(link).await;
    }
    let scheme = built?;
    link.run("COMMIT").await?;
    Ok(scheme)
}

/// The swap is rehearsed, and what the copy is quicker without is taken away. A rehearsal that fails leaves nothing.
async fn prepare(walk: &Walk<'_>, scheme: &Scheme) -> Result<(), End> {
    if let Err(end) = swap::rehearse(walk).await {
        if let End::Fault(fault) = &end
            && fault.code.is_none()
        {
            finish::cancel(walk.link, scheme, &fault.text).await?;
        }
        return Err(end);
    }
    let mut sql = scheme.strip();
    sql.insert(0, "BEGIN".into());
    sql.push(format!("UPDATE {} SET phase = 'stripped'", walk.state_table()));
    sql.push("COMMIT".into());
    Ok(walk.link.run_all(&sql).await?)
}

fn told(phase: &str) -> &'static str {
    match phase {
        "back" => "the swap back is rehearsed",
        "built" => "the new table is built; the swap is rehearsed",
        "stripped" => "waiting for a moment without writes, to log them from then on",
        "copy" => "rows are copied",
        "key" => "the index of the key is built",
        "drain" => "rows that have changed since are made anew",
        "indexes" => "the other indexes are built",
        "settle" => "the new table is vacuumed and analyzed",
        "verify" => "both tables are compared",
        "ready" => "waiting for a moment in which the swap disturbs nobody",
        "swapped" => "the table is replaced; its foreign keys are validated",
        "validated" => "what is left is cleared up",
        _ => "going on",
    }
}
