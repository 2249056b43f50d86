//! A rewrite over the session of a client in the proxy, with that client's rights: begun, or gone on with where an earlier run has stopped.

use super::anew;
use super::build::{self, Asked};
use super::crash;
use super::finish::Ends;
use super::link::{Fault, Link, Request};
use super::phases::{self, Pace};
use super::walk::End;
use crate::plan::jobs;
use crate::plan::rewrite::facts::Table;
use crate::plan::rewrite::online::{Online, Order, has_rights_of, marked};
use crate::plan::rewrite::{Schemas, job, questions};
use crate::plan::splice::qualified;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc::UnboundedSender;

/// Why it has not come to its end, and what is left.
pub struct Left {
    pub fault: Fault,
    /// What became of the table and the job, for people.
    pub state: String,
    pub hint: String,
}

impl From<Fault> for Left {
    fn from(fault: Fault) -> Left {
        Left {
            fault,
            state: "Nothing was changed.".into(),
            hint: String::new(),
        }
    }
}

/// The session serves the requests until all is said. Whatever comes of it, what is left in the session is what was there before, apart from
/// settings and role, which are its own to set back.
pub async fn run(session: UnboundedSender<Request>, online: &Online, pace: Pace) -> Result<(), Left> {
    let link = Link::through(session).await?;
    let mut id = None;
    let done = begin(&link, online, pace, &mut id).await;
    if done.is_err() {
        link.rollback().await;
    }
    // Where the session has gone, so have its locks.
    let _ = link.run(&questions::let_foreign_keys_go()).await;
    if let Some(id) = id {
        let _ = link.job(&job::release(id)).await;
        let _ = link.run("DROP TABLE IF EXISTS pg_temp.lockkeeper_keys").await;
    }
    done
}

async fn begin(link: &Link, online: &Online, pace: Pace, running: &mut Option<i64>) -> Result<(), Left> {
    let table = build::facts(link, online.relation).await?;
    if !link.is(&has_rights_of(&table.owner)).await? {
        return Err(Left::from(Fault {
            code: Some("42501".into()),
            text: format!("must be owner of table {}", table.name),
        }));
    }
    if link
        .is("SELECT to_regclass('pg_temp.lockkeeper_keys') IS NOT NULL")
        .await?
    {
        let text = "the session has a temporary table lockkeeper_keys, whose name is needed: drop it";
        return Err(Fault::from(text.to_owned()).into());
    }
    link.become_role(&table.owner).await?;
    link.may_keep_jobs().await?;
    let name = qualified(&table.schema, &table.name);
    let order = match &online.order {
        Order::Any => None,
        Order::By(index) => Some(index.clone()),
        Order::Marked => match link.one(&marked(table.oid)).await? {
            Some(index) => Some(index),
            None => {
                return Err(Left::from(Fault {
                    code: Some("42704".into()),
                    text: format!("there is no previously clustered index for table {}", table.name),
                }));
            }
        },
    };
    let there = link.job(&job::unfinished(table.oid, &name)).await?.pop();
    let mut there = there.into_iter().flatten().map(Option::unwrap_or_default);
    if let (Some(id), Some(statement)) = (there.next(), there.next()) {
        let id: i64 = id
            .parse()
            .map_err(|_| Fault::from("the job's ID cannot be read".to_owned()))?;
        if phase_of(link, id).await?.as_deref() == Some("kept") {
            return Err(Left::from(Fault {
                code: Some("55006".into()),
                text: format!("the table that {name} was before job {id} is kept; {}", anew::next(id)),
            }));
        }
        if statement != online.with {
            return Err(other_job(id, &name, &statement).into());
        }
        return resume(link, id, (&table, order), pace, running).await;
    }
    let search_path = link.search_path.clone();
    let (table, alters) = build::look(link, table.oid, &online.with).await?;
    let asked = Asked {
        table,
        alters,
        search_path,
        keep_old: online.keep_old_s.is_some(),
        order,
        partitioning: None,
    };
    let new = job::New {
        statement: &online.with,
        table: asked.table.oid,
        name: &name,
        rows: asked.table.rows,
        search_path: &asked.search_path,
        details: &job::Details {
            keep_old_s: online.keep_old_s,
            partitioning: None,
        },
    };
    phases::take_foreign_keys(link, &asked.table).await?;
    let row = link.job(&new.sql()).await?.pop();
    let id = row.and_then(|row| row.first()?.as_deref()?.parse().ok());
    let id: i64 = id.ok_or_else(|| Fault::from("the server does not tell the job's ID".to_owned()))?;
    *running = Some(id);
    link.now(&format!("job {id}: a new table is made, to take the place of {name}"));
    go_on(link, id, &asked, pace).await
}

fn other_job(id: i64, name: &str, statement: &str) -> Fault {
    let what = match statement {
        "" => "as it is".to_owned(),
        sql => format!("with: {sql}"),
    };
    Fault {
        code: Some("55006".into()),
        text: format!("job {id} rewrites {name} already, {what}"),
    }
}

/// None: it has not begun to make anything.
async fn phase_of(link: &Link, id: i64) -> Result<Option<String>, Fault> {
    match phases::kept(link, id).await? {
        Some(_) => {
            link.one(&format!("SELECT phase FROM {}", Schemas::of_job(id).of("state")))
                .await
        }
        None => Ok(None),
    }
}

async fn resume(
    link: &Link,
    id: i64,
    (now, order): (&Table, Option<String>),
    pace: Pace,
    running: &mut Option<i64>,
) -> Result<(), Left> {
    let job = phases::read_job(link, id).await?;
    link.take_settings(&job.settings).await?;
    let kept = phases::kept(link, id).await?;
    let name = qualified(&now.schema, &now.name);
    let phase = phase_of(link, id).await?;
    // After the swap the new table has the name. Before, it is another table's.
    if job.relation != now.oid && !matches!(phase.as_deref(), Some("swapped" | "validated")) {
        return Err(Left::from(Fault {
            code: Some("55006".into()),
            text: format!(
                "job {id} rewrites a table that was {name} when it began, and is not any more; to leave nothing of it: lockkeeper jobs --dsn … cancel {id}"
            ),
        }));
    }
    // CLUSTER and VACUUM FULL have the same new table, but not the same order of rows.
    let is_other = kept.as_ref().is_some_and(|scheme| scheme.is_ordered != order.is_some());
    if is_other || job.details.partitioning.is_some() {
        return Err(other_job(id, &name, &job.statement).into());
    }
    phases::take_foreign_keys(link, &build::facts(link, job.relation).await?).await?;
    phases::take(link, id).await?;
    *running = Some(id);
    let search_path = job.settings.get("search_path").cloned().unwrap_or_default();
    let (table, alters) = match kept {
        Some(_) => (build::facts(link, job.relation).await?, Vec::new()),
        None => build::look(link, job.relation, &job.statement).await?,
    };
    let asked = Asked {
        table,
        alters,
        search_path,
        keep_old: job.details.keep_old_s.is_some(),
        order,
        partitioning: job.details.partitioning.clone(),
    };
    link.now(&format!("job {id} goes on"));
    go_on(link, id, &asked, pace).await
}

/// To its end, or to where it is stopped; what that means for the job is written to its row.
async fn go_on(link: &Link, id: i64, asked: &Asked, pace: Pace) -> Result<(), Left> {
    let stop = AtomicBool::new(false);
    let ended = phases::phases(link, id, asked, pace, &stop, None, &mut |_| Ok(())).await;
    let (fault, steered) = match ended {
        Ok(Ends::Kept) => {
            link.now(&format!("job {id}: the old table is kept; {}", anew::next(id)));
            return Ok(());
        }
        Ok(_) => return Ok(()),
        Err(End::Steered(state)) => (
            Fault::from(format!("somebody else says that it is {state}")),
            Some(state),
        ),
        Err(End::Fault(fault)) => (fault, None),
    };
    link.rollback().await;
    if fault.code.is_some() && !fault.is_the_servers() {
        return Err(fault.into());
    }
    let row = link.job(&jobs::state(id)).await?.pop();
    let there = row.and_then(|row| row.into_iter().next().flatten()).unwrap_or_default();
    let state = match there.as_str() {
        "running" if fault.is_cancelled() => "paused",
        "running" => "failed",
        other => other,
    };
    if phases::kept(link, id).await?.is_none() {
        link.job(&job::given_up(id, &fault.text)).await?;
        return Err(fault.into());
    }
    let error = match steered {
        Some(_) => "stopped".to_owned(),
        None => fault.text.clone(),
    };
    link.job(&jobs::stop(id, state, &error)).await?;
    let phase = link
        .one(&format!("SELECT phase FROM {}", Schemas::of_job(id).of("state")))
        .await?
        .unwrap_or_default();
    Err(left(fault, id, state, &phase, &asked.table.name))
}

fn left(fault: Fault, id: i64, state: &str, phase: &str, table: &str) -> Left {
    let next = format!("To go on, send the same statement again, or: lockkeeper jobs --dsn … resume {id}");
    let to_cancel = format!("To leave nothing of it: lockkeeper jobs --dsn … cancel {id}");
    let cancel = format!("{next}\n{to_cancel}");
    let (left, hint) = match phase {
        "swapped" | "validated" => ("is replaced, and what is left is to be done", next),
        "built" | "stripped" => ("is as it was", cancel),
        crash::PHASE => ("is not replaced", to_cancel),
        _ => ("is as it was, and a trigger goes on logging its writes", cancel),
    };
    Left {
        fault,
        state: format!("Job {id} is {state}: {table} {left}."),
        hint,
    }
}
