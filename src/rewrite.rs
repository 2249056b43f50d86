//! `lockkeeper rewrite`: a table is rewritten by copy and swap, while applications read and write it.
//!
//! The command runs over connections of its own, straight at the server, with the rights of the table's owner. Start at [`run`]; [`through`] is
//! the same over the session of a client in the proxy. `phases.rs` has the order: `build.rs` looks at the table and makes the new one, `walk.rs`
//! copies in steps, `swap.rs` exchanges both, or `alone.rs` where there is one session only, and `finish.rs` clears up. `back.rs` is the way back,
//! and `steer.rs` is what `lockkeeper jobs` does with such a job.

mod alone;
mod anew;
mod back;
mod build;
mod crash;
mod finish;
mod ledger;
pub mod link;
mod open;
mod partition;
pub mod phases;
pub mod steer;
mod swap;
pub mod through;
mod walk;

use crate::jobs::{Server, runtime};
use crate::plan::jobs::{self, stopped::BY_HAND};
use crate::plan::rewrite::partition::read;
use crate::plan::rewrite::scheme::WayBack;
use crate::plan::rewrite::{Schemas, job};
use crate::plan::splice::quote_literal;
use build::Asked;
use clap::Args;
use finish::Ends;
use link::{Fault, Link};
use open::open;
use phases::{Opening, Pace, kept, phases, read_job, take, take_foreign_keys};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use walk::End;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,

    /// The table: users, or app.users
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    table: Option<String>,

    /// What is to change, as ALTER TABLE statements; without them the rows are only written anew, without what deleted rows have left
    #[arg(long, value_name = "SQL", conflicts_with = "resume")]
    with: Option<String>,

    /// Build the new table, say what would be done, and roll back: no row is copied
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,

    /// Go on with a job that was interrupted, paused, or has failed
    #[arg(long, value_name = "ID")]
    resume: Option<i64>,

    /// Keep the old table after the swap, in its schema lockkeeper_ID_old, and log what is written, so that `lockkeeper jobs back ID` returns to
    /// it. After so many seconds it is listed as due: `lockkeeper jobs finish` drops it [default: 86400, a day]
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "86400", require_equals = true, conflicts_with = "resume")]
    keep_old: Option<u64>,

    /// Partition it by RANGE (column) or HASH (column, …); a DEFAULT partition takes rows that no range has
    #[arg(long, value_name = "SQL", conflicts_with = "resume", requires = "partitions")]
    partition_by: Option<String>,

    /// Which partitions are made: daily, weekly, monthly, yearly, or for integers the width of a range; of a hash how many
    #[arg(long, value_name = "SIZE", requires = "partition_by")]
    partitions: Option<String>,

    /// So many ranges beyond the last row and today
    #[arg(long, value_name = "N", requires = "partition_by", default_value_t = 3)]
    partitions_ahead: u32,

    /// No DEFAULT partition: a row that no range has ends the rewrite, and after it fails
    #[arg(long, requires = "partition_by")]
    no_default_partition: bool,

    #[command(flatten)]
    pace: Pace,
}

impl Arguments {
    fn details(&self) -> Result<job::Details, String> {
        let partitioning = match (&self.partition_by, &self.partitions) {
            (Some(by), Some(parts)) => Some(read(by, parts, self.partitions_ahead, !self.no_default_partition)?),
            _ => None,
        };
        Ok(job::Details {
            keep_old_s: self.keep_old,
            partitioning,
        })
    }
}

pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    runtime()?.block_on(async {
        let done = match (&arguments.table, arguments.resume) {
            (_, Some(id)) => resume(&arguments.server, id, arguments.pace, out).await,
            (Some(table), _) => begin(arguments, table, out).await,
            (None, None) => Err("name a table".to_owned().into()),
        };
        done.map_err(|fault| fault.text)
    })
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Fault> {
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| error.to_string().into())
}

async fn begin(arguments: &Arguments, name: &str, out: &mut dyn Write) -> Result<(), Fault> {
    let link = open(&arguments.server).await?;
    let details = arguments.details()?;
    let with = arguments.with.as_deref().unwrap_or_default().trim();
    let table = find(&link, name).await?;
    link.become_role(&build::facts(&link, table).await?.owner).await?;
    if !arguments.dry_run {
        link.may_keep_jobs().await?;
    }
    let (table, alters) = build::look(&link, table, with).await?;
    let asked = Asked {
        table,
        alters,
        search_path: link.search_path.clone(),
        keep_old: details.keep_old_s.is_some(),
        order: None,
        partitioning: details.partitioning.clone(),
    };
    if arguments.dry_run {
        return dry_run(&link, &asked, out).await;
    }
    take_foreign_keys(&link, &asked.table).await?;
    let new = job::New {
        statement: with,
        table: asked.table.oid,
        name: &crate::plan::splice::qualified(&asked.table.schema, &asked.table.name),
        rows: asked.table.rows,
        search_path: &asked.search_path,
        details: &details,
    };
    let row = link
        .job(&new.sql())
        .await
        .map_err(|fault| match fault.code.as_deref() {
            Some("23505") => "there is a rewrite of this table already: lockkeeper jobs --dsn … list"
                .to_owned()
                .into(),
            _ => fault,
        })?;
    let id = row.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    let id: i64 = id.ok_or_else(|| "the server does not tell the job's ID".to_owned())?;
    say(out, &format!("job {id}: {} is rewritten", new.name))?;
    go_on(&arguments.server, link, id, &asked, arguments.pace, out).await
}

/// As the login would find it.
async fn find(link: &Link, name: &str) -> Result<u32, Fault> {
    let path = quote_literal(&link.search_path);
    let sql = format!(
        "BEGIN; SELECT pg_catalog.set_config('search_path', {path}, true); SELECT pg_catalog.to_regclass({})::pg_catalog.oid; COMMIT",
        quote_literal(name)
    );
    let oid = link.one(&sql).await;
    if oid.is_err() {
        link.rollback().await;
    }
    let oid = oid?.and_then(|oid| oid.parse().ok());
    oid.ok_or_else(|| format!("there is no table {name}").into())
}

async fn dry_run(link: &Link, asked: &Asked, out: &mut dyn Write) -> Result<(), Fault> {
    link.run(&format!("{}; SET LOCAL lock_timeout = '1s'", build::BEGIN))
        .await?;
    let built = build::build(link, asked, 0).await;
    asked.undo(link).await;
    let scheme = built?;
    let key: Vec<&str> = scheme.key.iter().map(|column| column.name.as_str()).collect();
    let mut text = format!(
        "{} would be rewritten: about {} rows, {} MB with indexes.\nAs much again is needed on disk, and WAL for it.\nKey: {}\n\nOn the empty new table, besides what makes it like the \
         old one:\n",
        scheme.old(),
        asked.table.rows,
        asked.table.bytes >> 20,
        key.join(", ")
    );
    for alter in &asked.alters {
        text.push_str(&format!("  {}\n", alter.on(&scheme.fresh())));
    }
    if let Some(by) = &asked.partitioning {
        text.push_str(&format!(
            "\nPartitioned by {}, in {} partitions:\n",
            by.by,
            scheme.partitions.len()
        ));
        for part in &scheme.partitions {
            text.push_str(&format!("  {} {}\n", part.name, part.bound));
        }
    }
    text.push_str("\nIndexes that are built on it:\n");
    for index in &scheme.indexes {
        text.push_str(&format!("  {}\n", index.name));
    }
    text.push_str("\nLocked for the swap, which is tried for 50 ms at a time:\n");
    text.push_str(&format!(
        "  LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE\n",
        scheme.old()
    ));
    for sql in scheme.attached.lock_views.iter().chain(&scheme.attached.lock_others) {
        text.push_str(&format!("  {sql}\n"));
    }
    text.push_str("\nThe swap:\n");
    for sql in scheme.swap().iter().chain(&scheme.attached.persistence) {
        text.push_str(&format!("  {sql}\n"));
    }
    match &scheme.way_back {
        WayBack::NotAsked => {}
        WayBack::Open(_) => text.push_str("\nThe old table is kept, and there is a way back to it.\n"),
        WayBack::Closed(why) => text.push_str(&format!(
            "\nThe old table is kept as it is at the swap. There is no way back: {why}.\n"
        )),
    }
    if !scheme.attached.validate.is_empty() {
        text.push_str("\nAfterwards, without holding anybody up:\n");
        for sql in &scheme.attached.validate {
            text.push_str(&format!("  {sql}\n"));
        }
    }
    say(out, text.trim_end())
}

async fn resume(server: &Server, id: i64, pace: Pace, out: &mut dyn Write) -> Result<(), Fault> {
    let mut link = open(server).await?;
    link.may_keep_jobs().await?;
    let job = read_job(&link, id).await?;
    if job.kind != job::KIND {
        return Err(format!("job {id} is no rewrite: lockkeeper jobs --dsn … resume {id}").into());
    }
    link.become_role(&job.owner).await?;
    link.take_settings(&job.settings).await?;
    link.search_path = job.settings.get("search_path").cloned().unwrap_or_default();
    if kept(&link, id).await?.is_some() && matches!(phase(&link, id).await?.as_str(), "kept" | "closed") {
        return Err(format!("job {id} is done, but for the old table; {}", anew::next(id)).into());
    }
    take_foreign_keys(&link, &build::facts(&link, job.relation).await?).await?;
    take(&link, id).await?;
    if link
        .job(&jobs::state(id))
        .await?
        .first()
        .and_then(|row| row.first()?.clone())
        .as_deref()
        != Some("running")
    {
        return Err(format!("job {id} is {}, it cannot be resumed", job.state).into());
    }
    say(out, &format!("job {id} goes on"))?;
    // What is kept in the job's schema counts, if it is there; else nothing was done yet.
    let (table, alters) = match kept(&link, id).await? {
        Some(_) => (build::facts(&link, job.relation).await?, Vec::new()),
        None => build::look(&link, job.relation, &job.statement).await?,
    };
    let asked = Asked {
        table,
        alters,
        search_path: link.search_path.clone(),
        keep_old: job.details.keep_old_s.is_some(),
        order: None,
        partitioning: job.details.partitioning.clone(),
    };
    go_on(server, link, id, &asked, pace, out).await
}

/// Ctrl-C, from now on.
fn listen() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            // Whoever insists does not wait for a build to end. The server undoes what it was at.
            if heard.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        }
    });
    stop
}

async fn phase(link: &Link, id: i64) -> Result<String, Fault> {
    let sql = format!("SELECT phase FROM {}", Schemas::of_job(id).of("state"));
    Ok(link.one(&sql).await?.unwrap_or_default())
}

/// To its end, or to where it is stopped; what that means for the job is written to its row.
async fn go_on(
    server: &Server,
    link: Link,
    id: i64,
    asked: &Asked,
    pace: Pace,
    out: &mut dyn Write,
) -> Result<(), Fault> {
    let stop = listen();
    let holder = || -> Opening<'_> {
        Box::pin(async {
            let holder = open(server).await?;
            holder.become_role(&asked.table.owner).await?;
            Ok(holder)
        })
    };
    let mut tell = |text: &str| say(out, text);
    let ended = phases(&link, id, asked, pace, &stop, Some(&holder), &mut tell).await;
    let fault = match ended {
        Ok(Ends::Kept) => {
            return say(
                out,
                &format!("job {id} is done, and the old table is kept; {}", anew::next(id)),
            );
        }
        Ok(_) => return say(out, &format!("job {id} is done")),
        Err(End::Steered(state)) => {
            link.rollback().await;
            // Nothing where somebody else has said so.
            link.job(&jobs::stop(id, "paused", BY_HAND)).await?;
            return Err(format!(
                "job {id} is {state}; to go on: lockkeeper jobs --dsn … resume {id}, to leave nothing: … cancel {id}"
            )
            .into());
        }
        Err(End::Fault(fault)) => fault,
    };
    link.rollback().await;
    if fault.code.is_some() && !fault.is_the_servers() {
        return Err(fault);
    }
    let state = link
        .job(&jobs::state(id))
        .await?
        .first()
        .and_then(|row| row.first()?.clone());
    let state = match state.as_deref() {
        Some("running") if fault.is_cancelled() => "paused",
        Some("running") => "failed",
        _ => return Err(format!("job {id} is {}: {}", state.unwrap_or_default(), fault.text).into()),
    };
    if kept(&link, id).await?.is_none() {
        link.job(&job::given_up(id, &fault.text)).await?;
        return Err(format!("{}\nNothing was changed.", fault.text).into());
    }
    link.job(&jobs::stop(id, state, &fault.text)).await?;
    let phase = phase(&link, id).await?;
    let table = &asked.table.name;
    let next = format!("to go on: lockkeeper jobs --dsn … resume {id}");
    let cancel = format!("to leave nothing of it: lockkeeper jobs --dsn … cancel {id}");
    let left = match phase.as_str() {
        "swapped" | "validated" => format!("{table} is replaced, and what is left is to be done; {next}"),
        "built" | "stripped" => format!("{table} is as it was; {next}, {cancel}"),
        crash::PHASE => format!("{table} is not replaced; {cancel}"),
        _ => format!("{table} is as it was, and a trigger goes on logging its writes; {next}, {cancel}"),
    };
    Err(format!("{}\njob {id} is {state}: {left}", fault.text).into())
}
