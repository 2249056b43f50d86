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
use crate::webhook::claims::{self, Claims};
use crate::webhook::jobs::{Found, Looks};
use crate::webhook::settings::Kind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};
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
    let (mut claims, mut said) = (Claims::default(), String::new());
    loop {
        let ended = match connect(&shared, &config).await {
            Ok(connection) => watch(&shared, &webhook, connection, &mut claims).await,
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

fn late<T>(_: Elapsed) -> Result<T, Unknown> {
    Err(Unknown::Failed("the server did not answer in time".into()))
}

/// As long as it goes well.
async fn watch(shared: &Shared, webhook: &Webhook, (at, client): (usize, Client), claims: &mut Claims) -> Unknown {
    if let Err(unknown) = timeout(TIME_MAX, claims::forget(&client)).await.unwrap_or_else(late) {
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
            let mut looking = Looking {
                shared,
                client: &client,
                webhook,
                looks: &mut looks,
                claims,
            };
            if let Err(unknown) = timeout(TIME_MAX, looking.look(with_due)).await.unwrap_or_else(late) {
                return unknown;
            }
        }
        let next = Instant::now() + EVERY;
        loop {
            let kept = timeout(TIME_MAX, claims.keep(&client, &webhook.receipts)).await;
            if let Err(unknown) = kept.unwrap_or_else(late) {
                return unknown;
            }
            if timeout_at(next, webhook.receipts.news.notified()).await.is_err() {
                break;
            }
        }
        if shared.servers.is_left(at) {
            return Unknown::Failed("sessions go to another server now".into());
        }
    }
}

struct Looking<'a> {
    shared: &'a Shared,
    client: &'a Client,
    webhook: &'a Webhook,
    looks: &'a mut Looks,
    claims: &'a mut Claims,
}

impl Looking<'_> {
    async fn look(&mut self, with_due: bool) -> Result<(), Unknown> {
        if self.webhook.wants(Kind::Stopped) {
            let stopped = job_admin::stopped(self.client).await.map_err(Unknown::Failed)?;
            let stopped = stopped.into_iter().filter_map(Found::stopped).collect();
            let stopped = self.looks.lasting(stopped);
            self.tell(Kind::Stopped, stopped).await?;
        }
        if with_due {
            let quiet_for_s = self.shared.policy().quiet_for_s;
            let aside = job_admin::put_aside(self.shared, self.client).await;
            let aside = aside.map_err(Unknown::Failed)?.into_iter();
            let due = aside.filter_map(|row| Found::due(row, quiet_for_s)).collect();
            self.tell(Kind::Due, due).await?;
        }
        Ok(())
    }

    /// What another proxy tells of is left to it.
    async fn tell(&mut self, kind: Kind, found: Vec<Found>) -> Result<(), Unknown> {
        let now = Instant::now().into_std();
        let open = self.looks.open(found, now);
        if open.is_empty() {
            return Ok(());
        }
        let subjects: Vec<&str> = open.iter().map(|one| one.subject.as_str()).collect();
        let claimed = self.claims.claim(self.client, kind.name(), &subjects).await?;
        let literals = self.shared.policy().audit_literals;
        for one in open.iter().filter(|one| claimed.contains(&one.subject)) {
            self.webhook.offer(one.message(literals));
        }
        self.looks.settle(&open, now);
        Ok(())
    }
}
