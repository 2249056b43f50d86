//! Webhooks: what people want to hear of at once is sent to a URL, signed and tried again, and never in the way of a session.
//!
//! A session puts a message into a bounded queue and goes on; where the queue is full, the message is left out, and that is logged. One
//! task delivers them in order. Start at [`Webhook::offer`].

pub mod claims;
pub mod deliver;
pub mod jobs;
pub mod message;
pub mod receipts;
pub mod settings;
pub mod target;

use crate::audit::Event;
use crate::live::Live;
use message::Message;
use receipts::Receipts;
use settings::{Kind, Settings};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// More do not wait to be delivered.
const QUEUE_MAX: usize = 1_000;
/// How often it is looked for plans that take long.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where sessions put what is to be told.
pub struct Webhook {
    settings: Settings,
    queue: mpsc::Sender<Message>,
    left_out: Arc<AtomicU64>,
    pub receipts: Arc<Receipts>,
}

impl Webhook {
    /// Reads the files; the task that delivers is to be run.
    pub fn open(settings: Settings) -> Result<(Webhook, deliver::Delivery), String> {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let receipts = Arc::default();
        let delivery = deliver::Delivery::new(&settings, queued, Arc::clone(&receipts))?;
        let left_out = Arc::default();
        Ok((
            Webhook {
                settings,
                queue,
                left_out,
                receipts,
            },
            delivery,
        ))
    }

    pub fn wants(&self, kind: Kind) -> bool {
        self.settings.kinds.contains(&kind)
    }

    /// Returns at once, whatever the receiver does.
    pub fn offer(&self, message: Message) {
        if !self.wants(message.kind) {
            return;
        }
        if let Err(left) = self.queue.try_send(message) {
            if let Some(account) = left.into_inner().account {
                self.receipts.add(account, false);
            }
            let left_out = self.left_out.fetch_add(1, Ordering::Relaxed) + 1;
            // One line for the first of many.
            if left_out.is_power_of_two() {
                tracing::warn!(left_out, "the webhook's queue is full, messages are left out");
            }
        }
    }

    /// The end of a statement, if it is one to be told of.
    pub fn offer_event(&self, event: &Event, masked: impl FnOnce() -> Event) {
        if let Some(kind) = message::kind_of(event)
            && self.wants(kind)
        {
            self.offer(Message::of(kind, &masked()));
        }
    }

    /// Without end: plans that have run for long are told of, once each.
    pub async fn look_for_long(&self, live: &Live) {
        let mut told = HashSet::new();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = SystemTime::now();
            let mut running = HashSet::new();
            for session in live.sessions() {
                let Some(plan) = &session.plan else { continue };
                running.insert(plan.id.clone());
                let ran = now.duration_since(plan.since).unwrap_or_default();
                if ran >= self.settings.long && told.insert(plan.id.clone()) {
                    self.offer(Message::long(&session, plan, ran));
                }
            }
            told.retain(|id| running.contains(id));
        }
    }
}
