//! Keeps what has been used in `lockkeeper.usage`, together with all other proxies in front of the server.
//!
//! On a connection of its own, so that a disk that is slow there holds up neither the looks at locks nor a client. Where the table is
//! missing or not to be trusted nothing fails: this proxy then knows what it has seen itself. Start at [`run`].

use super::control::connect;
use super::shared::Shared;
use crate::usage::seconds;
use crate::usage::together::{More, Unknown, add, forget};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_secs(5);
/// Where the table is missing.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
const TIME_MAX: Duration = Duration::from_secs(10);

/// Until the process ends.
pub async fn run(shared: Arc<Shared>, mut config: tokio_postgres::Config) {
    config.application_name("lockkeeper usage");
    let since = seconds();
    let mut said = String::new();
    loop {
        let ended = match connect(&shared, &config).await {
            Ok((_, client)) => keep(&shared, &client, since).await,
            Err(why) => Unknown::Failed(why),
        };
        let pause = match ended {
            Unknown::NotThere => LOOK_AGAIN,
            // Once, as long as it is the same.
            Unknown::Failed(why) if why != said => {
                tracing::warn!(why, "what is used is not kept in lockkeeper.usage; trying again");
                said = why;
                EVERY
            }
            Unknown::Failed(_) => EVERY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// As long as it goes well.
async fn keep(shared: &Shared, client: &Client, since: u32) -> Unknown {
    let mut forgotten: Option<Instant> = None;
    loop {
        let sessions = shared.live.sessions();
        let pids: Vec<i32> = sessions.iter().map(|session| session.backend_pid).collect();
        let usage = &shared.live.usage;
        let watch = (shared.instance.as_str(), since, pids.as_slice());
        let mut taken = Vec::new();
        let adding = add(client, watch, |max| {
            taken = usage.due(max);
            taken.clone()
        });
        let added = match timeout(TIME_MAX, adding).await {
            Ok(added) => added,
            Err(_) => Err(Unknown::Failed("the server did not answer in time".into())),
        };
        let More(is_more) = match added {
            Ok(more) => more,
            Err(unknown) => {
                usage.undo(&taken);
                return unknown;
            }
        };
        if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
            forgotten = Some(Instant::now());
            if let Ok(Err(Unknown::Failed(why))) = timeout(TIME_MAX, forget(client)).await {
                return Unknown::Failed(why);
            }
        }
        if !is_more {
            tokio::time::sleep(EVERY).await;
        }
    }
}
