//! Looks for jobs that stopped and for what is due to be dropped, and tells the webhook, whoever ran the job.
//!
//! On a connection of its own with the control connection's role, so that a slow answer holds up neither the looks at locks nor a
//! client. Start at [`run`].

use super::control::connect;
use super::job_admin;
use super::shared::Shared;
use crate::live::Phase;
use crate::usage::together::Unknown;
use crate::webhook::Webhook;
use crate::webhook::claims;
use crate::webhook::jobs::{Found, Looks};
use crate::webhook::settings::Kind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_secs(5);
const DUE_EVERY: Duration = Duration::from_secs(60);
/// Where the table is missing in which it is kept who has told.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const TIME_MAX: Duration = Duration::from_secs(10);

/// Until the process ends.
pub async fn run(shared: Arc<Shared>, mut config: tokio_postgres::Config) {
    let is_wanted = |webhook: &Arc<Webhook>| webhook.wants(Kind::Stopped) || webhook.wants(Kind::Due);
    let Some(webhook) = shared.webhook.clone().filter(is_wanted) else {
        return;
    };
    config.application_name("lockkeeper jobs");
    let mut said = String::new();
    loop {
        let ended = match connect(&shared, &config).await {
            Ok(connection) => watch(&shared, &webhook, connection).await,
            Err(why) => Unknown::Failed(why),
        };
        let (why, pause) = match ended {
            Unknown::Failed(why) => (why, EVERY),
            Unknown::NotThere => (
                "there is no table lockkeeper.told in the control connection's database; lockkeeper init --control-role creates it".into(),
                LOOK_AGAIN,
            ),
        };
        // Once, as long as it is the same.
        if why != said {
            tracing::warn!(
                why,
                "the webhook does not tell of jobs that stopped, nor of what is due; trying again"
            );
            said = why;
        }
        sleep(pause).await;
    }
}

/// As long as it goes well.
async fn watch(shared: &Shared, webhook: &Webhook, (at, client): (usize, Client)) -> Unknown {
    let late = || Unknown::Failed("the server did not answer in time".into());
    if let Err(unknown) = timeout(TIME_MAX, claims::forget(&client))
        .await
        .unwrap_or_else(|_| Err(late()))
    {
        return unknown;
    }
    let mut looks = Looks::default();
    let mut due_at = Instant::now();
    loop {
        let with_due = webhook.wants(Kind::Due) && Instant::now() >= due_at;
        if with_due {
            due_at = Instant::now() + DUE_EVERY;
        }
        // One that ends now could claim what it does not tell any more.
        if shared.live.phase() == Phase::Serving {
            let look = timeout(TIME_MAX, look(shared, &client, webhook, with_due, &mut looks));
            if let Err(unknown) = look.await.unwrap_or_else(|_| Err(late())) {
                return unknown;
            }
        }
        sleep(EVERY).await;
        if shared.servers.is_left(at) {
            return Unknown::Failed("sessions go to another server now".into());
        }
    }
}

async fn look(
    shared: &Shared,
    client: &Client,
    webhook: &Webhook,
    with_due: bool,
    looks: &mut Looks,
) -> Result<(), Unknown> {
    if webhook.wants(Kind::Stopped) {
        let stopped = job_admin::stopped(client).await.map_err(Unknown::Failed)?;
        let stopped = looks.lasting(stopped.into_iter().filter_map(Found::stopped).collect());
        tell(shared, client, webhook, looks, stopped).await?;
    }
    if with_due {
        let quiet_for_s = shared.policy().quiet_for_s;
        let aside = job_admin::put_aside(shared, client).await.map_err(Unknown::Failed)?;
        let due = aside.into_iter().filter_map(|row| Found::due(row, quiet_for_s));
        tell(shared, client, webhook, looks, due.collect()).await?;
    }
    Ok(())
}

/// All of one kind. What another proxy has told of is left to it.
async fn tell(
    shared: &Shared,
    client: &Client,
    webhook: &Webhook,
    looks: &mut Looks,
    found: Vec<Found>,
) -> Result<(), Unknown> {
    let open = looks.open(found);
    let Some(first) = open.first() else {
        return Ok(());
    };
    let subjects: Vec<&str> = open.iter().map(|one| one.subject.as_str()).collect();
    let claimed = claims::claim(client, first.kind.name(), &subjects).await?;
    let literals = shared.policy().audit_literals;
    for one in open.iter().filter(|one| claimed.contains(&one.subject)) {
        webhook.offer(one.message(literals));
    }
    looks.settle(&open);
    Ok(())
}
