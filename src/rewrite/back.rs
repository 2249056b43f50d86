//! The way back: `lockkeeper jobs back` returns to the table that a swap has put aside, with the rows written since; `jobs finish` drops it.
//!
//! Its phases stand beside the old table, in a state of their own: back, drain, settle, verify, ready, swapped, validated. Up to the swap nothing is
//! lost when it ends: the new table stays in service, and its writes go on being logged.

use super::anew::next;
use super::build::{self, can_follow, describe, oid};
use super::finish::{self, Ends};
use super::link::{Fault, Link};
use super::open::open as connect;
use super::phases::{Opening, Pace, kept, read_job, run_phases, take, take_foreign_keys};
use super::swap::{begin_try, tries};
use super::walk::{End, Walk};
use super::{listen, say};
use crate::jobs::Server;
use crate::plan::jobs;
use crate::plan::rewrite::facts::Table;
use crate::plan::rewrite::scheme::{SETTING, Scheme, WayBack, differences};
use crate::plan::rewrite::{Schemas, job, questions};
use crate::plan::splice::quote_literal;
use std::io::Write;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(600);

/// The job whose old table is kept, and what it is at.
struct Kept {
    link: Link,
    owner: String,
    scheme: Scheme,
    phase: String,
    /// Of the way back, once it has begun.
    back: Option<String>,
}

async fn open(server: &Server, id: i64) -> Result<Kept, Fault> {
    let mut link = connect(server).await?;
    link.may_keep_jobs().await?;
    let job = read_job(&link, id).await?;
    if job.kind != job::KIND {
        return Err(format!("job {id} is no rewrite").into());
    }
    link.become_role(&job.owner).await?;
    link.take_settings(&job.settings).await?;
    link.search_path = job.settings.get("search_path").cloned().unwrap_or_default();
    let scheme = kept(&link, id).await?;
    let scheme = scheme.ok_or_else(|| format!("job {id} is {}, and nothing of it is left", job.state))?;
    let phase = phase(&link, scheme.schemas()).await?.unwrap_or_default();
    let back = match &scheme.way_back {
        WayBack::Open(back) => self::phase(&link, back.schemas()).await?,
        _ => None,
    };
    let owner = job.owner;
    Ok(Kept {
        link,
        owner,
        scheme,
        phase,
        back,
    })
}

async fn phase(link: &Link, schemas: Schemas) -> Result<Option<String>, Fault> {
    link.one(&format!("SELECT phase FROM {}", schemas.of("state"))).await
}

/// Err: the job is not where a way back begins.
fn is_kept(id: i64, phase: &str) -> Result<(), Fault> {
    match phase {
        "kept" => Ok(()),
        "closed" => {
            Err(format!("the old table of job {id} is being dropped: lockkeeper jobs --dsn … finish {id}").into())
        }
        "swapped" | "validated" => {
            Err(format!("job {id} has something left to do first: lockkeeper jobs --dsn … resume {id}").into())
        }
        _ => Err(format!("job {id} has not replaced its table yet: lockkeeper jobs --dsn … cancel {id}").into()),
    }
}

pub async fn back(server: &Server, id: i64, pace: Pace, out: &mut dyn Write) -> Result<(), Fault> {
    let Kept {
        link,
        owner,
        scheme,
        phase,
        back,
    } = open(server, id).await?;
    is_kept(id, &phase)?;
    let way = match &scheme.way_back {
        WayBack::Open(way) => (**way).clone(),
        WayBack::Closed(why) => return Err(format!("there is no way back from job {id}: {why}").into()),
        WayBack::NotAsked => return Err(format!("there is no way back from job {id}: it had no --keep-old").into()),
    };
    if !matches!(back.as_deref(), Some("swapped" | "validated")) {
        take_foreign_keys(&link, &build::facts(&link, way.table).await?).await?;
    }
    take(&link, id).await?;
    let stop = listen();
    let ended = async {
        let way = match back.as_deref() {
            Some("swapped" | "validated") => read_way(&link, &way).await?,
            _ => begin(&link, &scheme, way).await?,
        };
        link.run(&way.make_keys()).await?;
        link.run(&format!("SELECT set_config('{SETTING}', '{id}', false)"))
            .await?;
        let mut walk = Walk::new(&link, &way, Duration::from_millis(pace.pause_ms), &stop);
        walk.there = Some(&scheme);
        let holder = || -> Opening<'_> {
            Box::pin(async {
                let holder = connect(server).await?;
                holder.become_role(&owner).await?;
                Ok(holder)
            })
        };
        run_phases(&mut walk, pace, Some(&holder), &mut |text| say(out, text)).await
    };
    let fault = match ended.await {
        Ok(Ends::Back) => {
            return say(
                out,
                &format!(
                    "job {id} is undone: {} is the old table again, with the rows written since",
                    scheme.old()
                ),
            );
        }
        Ok(_) => return Ok(()),
        Err(End::Fault(fault)) => fault,
        Err(End::Steered(state)) => format!("the way back is {state}").into(),
    };
    link.rollback().await;
    if fault.code.is_some() && !fault.is_the_servers() {
        return Err(fault);
    }
    link.job(&jobs::stop(id, "paused", &fault.text)).await?;
    let at = self::phase(&link, scheme.schemas().turned()).await?.unwrap_or_default();
    let left = match at.as_str() {
        "swapped" | "validated" => {
            format!(
                "{} is the old table again, and what is left is to be done: lockkeeper jobs --dsn … back {id}",
                scheme.old()
            )
        }
        _ => format!("{} is the new table as before; {}", scheme.old(), next(id)),
    };
    Err(format!("{}\n{left}", fault.text).into())
}

async fn read_way(link: &Link, way: &Scheme) -> Result<Scheme, Fault> {
    let kept = link
        .json(&format!("SELECT scheme FROM {}", way.schemas().of("state")))
        .await?;
    kept.ok_or_else(|| "the state of the way back is gone".to_owned().into())
}

/// From the beginning, whatever an earlier try has left: nothing of it takes long but the rows that have changed, which are kept.
async fn begin(link: &Link, there: &Scheme, mut way: Scheme) -> Result<Scheme, End> {
    log_again(link, &way).await?;
    let begun = tries(link, PATIENCE, async || {
        link.run(&format!("{}; SET LOCAL lock_timeout = '1s'", build::BEGIN))
            .await?;
        let begun = begin_once(link, there, &mut way).await;
        if begun.is_err() {
            link.rollback().await;
        }
        Ok(begun?)
    });
    begun.await?;
    Ok(way)
}

/// Where somebody has switched the triggers off that log the writes, they log again before anything is compared: what was written without them
/// is found then, and what is written later is not lost.
async fn log_again(link: &Link, way: &Scheme) -> Result<(), End> {
    let logging = link.one(&way.logging()).await?;
    match logging.as_deref() {
        Some("2") => return Ok(()),
        Some(_) => {}
        None => {
            let text = format!(
                "there is no way back: the triggers that log the writes to {} are gone",
                way.old()
            );
            return Err(Fault::from(text).into());
        }
    }
    tries(link, PATIENCE, async || {
        begin_try(link).await?;
        let enable = [&way.enable_triggers()[..], &["COMMIT".to_owned()]].concat();
        let enabled = link.run_all(&enable).await;
        if enabled.is_err() {
            link.rollback().await;
        }
        Ok(enabled?)
    })
    .await
}

async fn begin_once(link: &Link, there: &Scheme, way: &mut Scheme) -> Result<(), Fault> {
    let schemas = way.schemas();
    link.run(&format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", way.old()))
        .await?;
    if oid(link, &way.old()).await? != way.table {
        return Err(format!("{} is another table than the one that the job has made", way.old()).into());
    }
    way.fingerprint = link
        .one(&questions::fingerprint(way.table, schemas))
        .await?
        .unwrap_or_default();
    // From here on the fingerprint tells when they are switched off.
    if link.one(&way.logging()).await?.as_deref() != Some("2") {
        return Err(format!(
            "the triggers of {} have been switched off at this moment: try again",
            way.old()
        )
        .into());
    }
    let table: Table = build::facts(link, way.table).await?;
    can_follow(link, &table, schemas).await?;
    let now = describe(link, way.table, there.schemas()).await?;
    let mut differs = differences(&there.described.own, &now.own);
    differs.extend(differences(&there.described.hangs, &now.hangs));
    if !differs.is_empty() {
        return Err(format!(
            "{} has changed since it was replaced, which the old table would not have:\n  {}",
            way.old(),
            differs.join("\n  ")
        )
        .into());
    }
    way.attached = build::attached(link, way.table, schemas).await?;
    way.attached.defaults = there.attached.defaults.clone();
    link.run(&format!("DROP VIEW IF EXISTS {}", schemas.of("f"))).await?;
    link.run_all(&[way.undress_old(), way.view(), way.revoke()]).await?;
    let scheme = serde_json::to_string(way).map_err(|error| error.to_string())?;
    let state = schemas.of("state");
    link.run(&format!(
        "DELETE FROM {state}; INSERT INTO {state} (phase, fingerprint, scheme) VALUES ('back', {}, {}); COMMIT",
        quote_literal(&way.fingerprint),
        quote_literal(&scheme)
    ))
    .await?;
    Ok(())
}

/// The old table is dropped, and with it the way back.
pub async fn finish(server: &Server, id: i64, even_if_used: bool, out: &mut dyn Write) -> Result<(), Fault> {
    let Kept {
        link,
        scheme,
        phase,
        back,
        ..
    } = open(server, id).await?;
    if phase != "closed" {
        is_kept(id, &phase)?;
    }
    if matches!(back.as_deref(), Some("swapped" | "validated")) {
        return Err(format!("job {id} has gone back already: lockkeeper jobs --dsn … back {id}").into());
    }
    if !even_if_used {
        super::ledger::is_unused(server, &scheme, out).await?;
    }
    take(&link, id).await?;
    let closed = close(&link, &scheme).await;
    if let Err(end) = closed {
        link.rollback().await;
        let text = match end {
            End::Fault(fault) => fault.text,
            End::Steered(state) => format!("job {id} is {state}"),
        };
        link.job(&jobs::stop(id, "paused", &text)).await?;
        return Err(text.into());
    }
    say(
        out,
        &format!("job {id} is finished: the old table of {} is dropped", scheme.old()),
    )
}

/// First what logs the writes, briefly; the rest holds nobody up.
async fn close(link: &Link, scheme: &Scheme) -> Result<(), End> {
    if let WayBack::Open(way) = &scheme.way_back {
        let closed = format!("UPDATE {} SET phase = 'closed'", scheme.schemas().of("state"));
        tries(link, PATIENCE, async || {
            begin_try(link).await?;
            let sql = [way.drop_triggers_anywhere(), closed.clone(), "COMMIT".into()];
            let dropped = link.run_all(&sql).await;
            if dropped.is_err() {
                link.rollback().await;
            }
            Ok(dropped?)
        })
        .await?;
    }
    finish::clear(link, scheme, &job::done(scheme.job)).await
}
