//! `lockkeeper jobs` with a job that is a rewrite: resumed here, cancelled without leaving anything, shown with its phase.

use super::link::{Fault, Link};
use super::open::open;
use super::phases::{Job, Pace, kept, read_job};
use super::swap::{begin_try, tries};
use super::walk::End;
use super::{back, finish, resume};
use crate::jobs::{self, Arguments, Steer, runtime};
use crate::plan::jobs as sql;
use crate::plan::rewrite::job;
use crate::plan::rewrite::scheme::Scheme;
use crate::plan::rewrite::{Schemas, questions};
use crate::plan::splice::quote_literal;
use std::io::Write;
use std::time::{Duration, Instant};

/// As long the session that runs a job may take to hear that it is to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(60);
/// As long a moment without readers and writers is waited for.
const CLEARED_WITHIN: Duration = Duration::from_secs(600);

/// As [`jobs::run`], which knows of all other kinds.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let Some((steer, id)) = arguments.steers() else {
        return jobs::run(arguments, out);
    };
    let server = arguments.server();
    let taken = runtime()?.block_on(async {
        let link = open(server).await?;
        link.may_keep_jobs().await?;
        let row = link
            .job(&sql::kind(id))
            .await?
            .pop()
            .and_then(|row| row.into_iter().next().flatten());
        if row.as_deref() != Some(job::KIND) {
            return match steer {
                Steer::Back | Steer::Finish { .. } => {
                    Err(format!("there is no rewrite {id} here: lockkeeper jobs --dsn … list --all").into())
                }
                _ => Ok(false),
            };
        }
        match steer {
            Steer::Resume => resume(server, id, Pace::default(), out).await?,
            Steer::Cancel => cancel(&link, id, out).await?,
            Steer::Back => back::back(server, id, Pace::default(), out).await?,
            Steer::Finish { even_if_used } => back::finish(server, id, even_if_used, out).await?,
            Steer::Show => return Ok(false),
        }
        Ok::<_, Fault>(true)
    });
    match taken.map_err(|fault| fault.text)? {
        true => Ok(()),
        false => {
            jobs::run(arguments, out)?;
            match steer {
                Steer::Show if arguments.is_for_people() => runtime()?.block_on(show(arguments, id, out)),
                _ => Ok(()),
            }
        }
    }
}

/// What the job's own schema knows, where this session may look into it.
async fn show(arguments: &Arguments, id: i64, out: &mut dyn Write) -> Result<(), String> {
    let look = async {
        let link = open(arguments.server()).await?;
        let job = read_job(&link, id).await?;
        if job.kind != job::KIND {
            return Ok(None);
        }
        link.become_role(&job.owner).await?;
        let Some(scheme) = kept(&link, id).await? else {
            return Ok(None);
        };
        let at = scheme.schemas();
        let size = |at: Schemas| {
            let log = quote_literal(&at.of("log"));
            format!("coalesce(pg_total_relation_size(to_regclass({log})), 0)")
        };
        let asked = format!(
            "SELECT phase, pg_size_pretty({} + {}) FROM {}",
            size(at),
            size(at.turned()),
            at.of("state")
        );
        Ok::<_, Fault>(link.rows(&asked).await?.pop())
    };
    let text = match look.await {
        Ok(Some(row)) => {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            let (phase, log) = (row.next().unwrap_or_default(), row.next().unwrap_or_default());
            format!("phase       {phase}\nlog         {log}\n")
        }
        _ => String::new(),
    };
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())
}

async fn cancel(link: &Link, id: i64, out: &mut dyn Write) -> Result<(), Fault> {
    let job = read_job(link, id).await?;
    if link.is_above(&job.owner).await? {
        return cancel_from_above(link, id, &job, out).await;
    }
    link.become_role(&job.owner).await?;
    let done = matches!(job.state.as_str(), "done" | "cancelled");
    let scheme = kept(link, id).await?;
    if done && scheme.is_none() {
        return Err(format!("job {id} is {}, it cannot be cancelled", job.state).into());
    }
    stop_whoever_runs(link, id).await?;
    // It may have come further in the meantime.
    match kept(link, id).await? {
        Some(scheme) => clear(link, id, &scheme).await?,
        None => {
            link.job(&job::given_up(id, "cancelled")).await?;
        }
    }
    writeln!(
        out,
        "job {id} is given up; nothing is left of it, and the table is as it was"
    )
    .map_err(|error| error.to_string().into())
}

/// By a superuser, whatever has become of the table's owner: what the job has made is found in the catalog alone, since reading its own
/// tables would run what their owner has made of them.
async fn cancel_from_above(link: &Link, id: i64, job: &Job, out: &mut dyn Write) -> Result<(), Fault> {
    stop_whoever_runs(link, id).await?;
    let cleared = tries(link, CLEARED_WITHIN, async || {
        begin_try(link).await?;
        let cleared = async {
            if link
                .is(&questions::is_replaced(job.relation, Schemas::of_job(id)))
                .await?
            {
                let resume =
                    format!("to have the rest done, its owner resumes it: lockkeeper jobs --dsn … resume {id}");
                return Err(End::from(format!(
                    "the table of job {id} is replaced already; {resume}"
                )));
            }
            link.run(&Schemas::of_job(id).drop_all()).await?;
            link.job_row(&job::given_up_by_a_superuser(id, "cancelled")).await?;
            Ok(link.run("COMMIT").await.map(|_| ())?)
        };
        let cleared = cleared.await;
        if cleared.is_err() {
            link.rollback().await;
        }
        cleared
    });
    match cleared.await {
        Ok(()) => writeln!(
            out,
            "job {id} is given up; nothing is left of it, and the table is as it was"
        )
        .map_err(|error| error.to_string().into()),
        Err(End::Fault(fault)) => Err(fault),
        Err(End::Steered(state)) => Err(format!("job {id} is {state}").into()),
    }
}

async fn clear(link: &Link, id: i64, scheme: &Scheme) -> Result<(), Fault> {
    let phase = link
        .one(&format!("SELECT phase FROM {}", scheme.schemas().of("state")))
        .await?;
    if matches!(phase.as_deref(), Some("kept" | "closed")) {
        let next = super::anew::next(id);
        return Err(format!("the table of job {id} is replaced already, and the old one is kept; {next}").into());
    }
    if matches!(phase.as_deref(), Some("swapped" | "validated")) {
        return Err(format!(
            "the table of job {id} is replaced already; to have the rest done: lockkeeper jobs --dsn … resume {id}"
        )
        .into());
    }
    match finish::cancel(link, scheme, "cancelled").await {
        Ok(()) => Ok(()),
        Err(End::Fault(fault)) => Err(fault),
        Err(End::Steered(state)) => Err(format!("job {id} is {state}").into()),
    }
}

/// After it, this session runs the job, and no other can.
async fn stop_whoever_runs(link: &Link, id: i64) -> Result<(), Fault> {
    let begun = Instant::now();
    loop {
        let locked = link
            .job(&sql::lock(id))
            .await?
            .pop()
            .and_then(|row| row.into_iter().next().flatten());
        if locked.as_deref() != Some("busy") {
            return Ok(());
        }
        if begun.elapsed() > STOPS_WITHIN {
            return Err(
                format!("job {id} is paused, and the session that runs it has not ended yet: cancel it again").into(),
            );
        }
        // A step that takes its time is undone.
        if link.rows(&sql::guarded_briefly(&sql::pause(id))).await.is_err() {
            link.job(&sql::interrupt(id)).await?;
            link.job(&sql::pause_interrupted(id)).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
