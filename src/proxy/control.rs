//! The control connection: the proxy's own, with a role that may see other sessions (pg_monitor).
//!
//! While a plan runs it looks at pg_locks every few milliseconds for those who wait; otherwise it only answers questions
//! of the console and the review page. Without it nothing fails: what it would tell is then unknown. Start at [`run`].

use super::blockers::{merge, shortened};
use super::job_admin::{self, told};
use super::shared::Shared;
use super::stream::Stream;
use crate::audit::Blocker;
use crate::live::{Blocked, Control, Question, Waiter, shape};
use crate::usage::together::{self, Unknown};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two looks for plans, and at the progress of builds.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const CONNECT_TIME: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(4);
const WAITERS_MAX: usize = 200;
const QUERY_CHARACTERS_MAX: usize = 300;

/// Who waits for a lock now. `waitstart` is of 14 and later; before, a wait is told from another by its process alone.
const WAITERS: &str = "SELECT l.pid, coalesce(d.datname::text, ''), coalesce(l.relation::int8, 0), \
     coalesce(to_jsonb(l)->>'waitstart', ''), \
     coalesce(1000 * extract(epoch FROM clock_timestamp() - (to_jsonb(l)->>'waitstart')::timestamptz), 0)::float8, \
     pg_blocking_pids(l.pid) \
     FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database WHERE NOT l.granted LIMIT 200";

/// Those who wait, and those whom they wait for. A prepared transaction blocks as process 0.
const LOCKS: &str = "WITH w AS MATERIALIZED (SELECT l.*, pg_blocking_pids(l.pid) AS blockers, to_jsonb(l)->>'waitstart' AS began \
     FROM pg_locks l WHERE NOT l.granted LIMIT 200), \
     pids(pid) AS (SELECT pid FROM w UNION SELECT unnest(blockers) FROM w) \
     SELECT p.pid, a.usename::text, a.datname::text, a.application_name, \
     CASE WHEN p.pid = 0 THEN 'prepared transaction' ELSE coalesce(a.state, a.backend_type) END, \
     extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::float8, a.query, \
     CASE WHEN w.pid IS NULL THEN NULL WHEN w.relation IS NULL THEN w.mode || ' (' || w.locktype || ')' \
     ELSE w.mode || ' on ' || coalesce(c.oid::regclass::text, 'relation ' || w.relation::int8) END, \
     (1000 * extract(epoch FROM clock_timestamp() - w.began::timestamptz))::float8, coalesce(w.blockers, '{}') \
     FROM pids p LEFT JOIN pg_stat_activity a ON a.pid = p.pid LEFT JOIN w ON w.pid = p.pid \
     LEFT JOIN pg_class c ON c.oid = w.relation \
     AND w.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) ORDER BY p.pid";

/// One row: the sessions with these processes, as [`Blocker`]s.
const HOLDERS: &str = "SELECT jsonb_agg(jsonb_build_object('pid', a.pid, 'user', a.usename, 'application_name', a.application_name, \
     'client', a.client_addr::text, 'state', CASE WHEN a.backend_type <> 'client backend' THEN a.backend_type ELSE a.state END, \
     'age_s', round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::numeric, 1), 'lock', '', \
     'query', nullif(a.query, '<insufficient privilege>')))::text FROM pg_stat_activity a WHERE a.pid = ANY ($1)";

const PROGRESS: &str = "SELECT pid, phase, CASE WHEN blocks_total > 0 THEN blocks_done::float8 / blocks_total \
     WHEN tuples_total > 0 THEN tuples_done::float8 / tuples_total \
     WHEN lockers_total > 0 THEN lockers_done::float8 / lockers_total END \
     FROM pg_stat_progress_create_index WHERE pid = ANY($1)";

/// Until the process ends: connects, looks, answers, and connects again where that ends.
pub async fn run(shared: Arc<Shared>, config: tokio_postgres::Config, mut questions: mpsc::Receiver<Question>) {
    let mut told = false;
    loop {
        match connect(&shared, &config).await {
            Ok((at, client)) => {
                shared.live.set_control(Control::Up);
                tracing::info!("control connection");
                told = false;
                if let Err(error) = serve(&shared, (at, &client), &config, &mut questions).await {
                    tracing::warn!(error, "the control connection ended");
                }
                shared.live.set_control(Control::Down);
            }
            Err(error) => {
                // Once: what it would tell is unknown meanwhile, and said to be.
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(error, "no control connection; trying again every few seconds");
                }
                refuse(&mut questions, &error).await;
            }
        }
    }
}

/// At the server that sessions go to, by its place in the list.
pub(super) async fn connect(shared: &Arc<Shared>, config: &tokio_postgres::Config) -> Result<(usize, Client), String> {
    let (at, stream) = shared.connect().await?;
    Ok((at, login(stream, config).await?))
}

pub(super) async fn login(stream: Stream, config: &tokio_postgres::Config) -> Result<Client, String> {
    let mut config = config.clone();
    // TLS, where it is asked for, is this proxy's own.
    config.ssl_mode(SslMode::Disable);
    if config.get_application_name().is_none() {
        config.application_name("lockkeeper control");
    }
    let connecting = timeout(CONNECT_TIME, config.connect_raw(stream, NoTls)).await;
    let (client, connection) = connecting
        .map_err(|_| "the server did not finish the login in time".to_owned())?
        .map_err(|error| told(&error))?;
    tokio::spawn(connection);
    let set = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = '3s'; SET lock_timeout = '100ms'; SET idle_in_transaction_session_timeout = 0";
    client.batch_execute(set).await.map_err(|error| told(&error))?;
    Ok(client)
}

/// Meanwhile questions are answered with why there is no answer.
async fn refuse(questions: &mut mpsc::Receiver<Question>, error: &str) {
    let until = Instant::now() + RETRY_AFTER;
    while let Ok(Some(question)) = tokio::time::timeout_at(until, questions.recv()).await {
        let error = format!("the control connection is down: {error}");
        // Whoever asked may have gone.
        match question {
            Question::Locks(answer) => drop(answer.send(Err(error))),
            Question::Jobs(answer) => drop(answer.send(Err(error))),
            Question::Steer(_, _, answer) => drop(answer.send(Err(error))),
            Question::Usage(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    (at, client): (usize, &Client),
    config: &tokio_postgres::Config,
    questions: &mut mpsc::Receiver<Question>,
) -> Result<(), String> {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Instant::now();
    loop {
        let watched = shared.live.watched();
        let plans = async {
            match watched.is_empty() {
                // Nothing to look for: the next plan says so itself.
                true => shared.live.plan_begins.notified().await,
                false => drop(look.tick().await),
            }
        };
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => answer(shared, client, config, question).await?,
                None => return Ok(()),
            },
            () = plans => {}
            () = tokio::time::sleep(RETRY_AFTER) => {
                if client.is_closed() {
                    return Err("the server closed it".into());
                }
            }
        }
        if shared.servers.is_left(at) {
            return Err("sessions go to another server now".into());
        }
        if !watched.is_empty() {
            let waiting = waiters(client).await?;
            shared.live.looked_at(&waiting);
            holders(shared, client, &watched, &waiting).await?;
            if progress.elapsed() >= PROGRESS_EVERY {
                progress = Instant::now();
                builds(shared, client, &watched).await?;
            }
        }
    }
}

async fn waiters(client: &Client) -> Result<Vec<Waiter>, String> {
    let rows = timeout(ANSWER_TIME, client.query(WAITERS, &[]))
        .await
        .map_err(|_| late())?;
    let rows = rows.map_err(|error| told(&error))?;
    let waiter = |row: &tokio_postgres::Row| {
        Some(Waiter {
            pid: row.try_get(0).ok()?,
            database: row.try_get(1).ok()?,
            relation: u32::try_from(row.try_get::<_, i64>(2).ok()?).ok()?,
            since: row.try_get(3).ok()?,
            waited_ms: row.try_get(4).ok()?,
            blocked_by: row.try_get(5).ok()?,
        })
    };
    Ok(rows.iter().take(WAITERS_MAX).filter_map(waiter).collect())
}

/// Whom the plans' own statements wait for.
async fn holders(shared: &Shared, client: &Client, watched: &[i32], waiting: &[Waiter]) -> Result<(), String> {
    let literals = shared.policy().audit_literals;
    for waiter in waiting.iter().filter(|waiter| watched.contains(&waiter.pid)) {
        let Some(seat) = shared.live.seat_of(waiter.pid) else {
            continue;
        };
        let is_fresh = |(then, _): &(std::time::Instant, _)| then.elapsed() < PROGRESS_EVERY;
        if seat.held().now.as_ref().is_some_and(is_fresh) {
            continue;
        }
        let row = client.query_one(HOLDERS, &[&waiter.blocked_by]).await;
        let json: Option<String> = row.and_then(|row| row.try_get(0)).map_err(|error| told(&error))?;
        let mut now: Vec<Blocker> = json
            .and_then(|json| serde_json::from_str(&json).ok())
            .unwrap_or_default();
        for blocker in &mut now {
            blocker.query = blocker.query.as_deref().and_then(|query| shortened(query, literals));
        }
        let mut held = seat.held();
        merge(&mut held.seen, &now);
        held.now = Some((std::time::Instant::now(), now));
    }
    Ok(())
}

async fn builds(shared: &Shared, client: &Client, pids: &[i32]) -> Result<(), String> {
    let rows = client.query(PROGRESS, &[&pids]).await.map_err(|error| told(&error))?;
    for row in rows {
        if let (Ok(pid), Ok(phase), Ok(done)) = (row.try_get(0), row.try_get::<_, String>(1), row.try_get(2))
            && let Some(seat) = shared.live.seat_of(pid)
        {
            seat.change(|plan| (plan.phase, plan.done) = (Some(phase), done));
        }
    }
    Ok(())
}

/// An error of one question is told to who asked; the outer one is the connection's end.
async fn answer(
    shared: &Arc<Shared>,
    client: &Client,
    config: &tokio_postgres::Config,
    question: Question,
) -> Result<(), String> {
    match question {
        Question::Locks(answer) => drop(answer.send(locks(client).await)),
        Question::Jobs(answer) => drop(answer.send(job_admin::list(shared, client).await)),
        Question::Usage(relations, answer) => {
            let read = timeout(ANSWER_TIME, together::read(client, &relations)).await;
            drop(answer.send(match read {
                Ok(Ok(together)) => Ok(Some(together)),
                Ok(Err(Unknown::NotThere)) => Ok(None),
                Ok(Err(Unknown::Failed(why))) => Err(why),
                // Its transaction may be open.
                Err(_) => return Err(late()),
            }));
        }
        Question::Steer(id, steer, answer) => {
            let steered = timeout(ANSWER_TIME, job_admin::steer(shared, client, config, id, steer)).await;
            drop(answer.send(steered.unwrap_or_else(|_| Err(late()))));
        }
    }
    if client.is_closed() {
        Err("the server closed it".into())
    } else {
        Ok(())
    }
}

async fn locks(client: &Client) -> Result<Vec<Blocked>, String> {
    let rows = timeout(ANSWER_TIME, client.query(LOCKS, &[]))
        .await
        .map_err(|_| late())?;
    let rows = rows.map_err(|error| told(&error))?;
    let blocked = |row: &tokio_postgres::Row| -> Result<Blocked, tokio_postgres::Error> {
        Ok(Blocked {
            pid: row.try_get(0)?,
            user: row.try_get(1)?,
            database: row.try_get(2)?,
            application_name: row.try_get(3)?,
            state: row.try_get(4)?,
            age_s: row.try_get(5)?,
            query: row.try_get::<_, Option<String>>(6)?.map(|query| shown(&query)),
            waits_for: row.try_get(7)?,
            waited_ms: row.try_get(8)?,
            blocked_by: row.try_get(9)?,
        })
    };
    rows.iter()
        .map(blocked)
        .collect::<Result<_, _>>()
        .map_err(|error| told(&error))
}

/// Another session's statement: no value of it is shown, whatever the policy says of the audit log.
fn shown(query: &str) -> String {
    let shape = shape::shape_of(query).unwrap_or_else(|| "(a statement with values that cannot be told apart)".into());
    shape.chars().take(QUERY_CHARACTERS_MAX).collect()
}

fn late() -> String {
    "the server did not answer in time".into()
}
