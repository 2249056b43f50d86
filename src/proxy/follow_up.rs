//! How long an application's statements take after a plan, compared with the time before it.

use super::shared::{Shared, Stop};
use crate::audit::after::ShapeTimes;
use crate::audit::{Event, Phase};
use crate::live::traffic::Snapshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// How long statements are watched after a plan.
pub(super) const WATCHED_AFTER: Duration = Duration::from_secs(60);

pub(super) const STATEMENTS_MAX: usize = 5;

/// Plans that are followed at the same time.
pub(super) const FOLLOWED_MAX: usize = 500;

/// What is known at a plan's end, to be compared with what comes after it.
pub(super) struct FollowUp {
    /// The relations of a plan in a transaction, whose end is still to come.
    pub open: Vec<u32>,
    pub(super) names: Vec<String>,
    pub(super) before: Snapshot,
    pub(super) begun: Snapshot,
    pub(super) ended: Snapshot,
    pub(super) since: Instant,
}

impl FollowUp {
    /// Those timed most often, with their times in the parts that are over.
    pub(super) fn statements(&self, shared: &Shared, later: Option<&Snapshot>) -> Vec<ShapeTimes> {
        let shapes = shared.live.traffic.naming(&self.names);
        let times = shapes.into_iter().map(|(shape, statement)| ShapeTimes {
            statement,
            before: self.begun.since(&self.before, shape),
            during: self.ended.since(&self.begun, shape),
            after: later.and_then(|later| later.since(&self.ended, shape)),
        });
        let mut times: Vec<ShapeTimes> = times.filter(|times| timed(times) > 0).collect();
        times.sort_by_key(|times| std::cmp::Reverse(timed(times)));
        times.truncate(STATEMENTS_MAX);
        times
    }
}

pub(super) fn timed(times: &ShapeTimes) -> u64 {
    [times.before, times.during, times.after]
        .iter()
        .flatten()
        .map(|times| times.timed)
        .sum()
}

/// Writes, a minute later or when the proxy stops, how long statements take after the plan whose event this is.
pub(super) fn follow_up(shared: &Arc<Shared>, mut event: Event, follow_up: FollowUp) {
    if shared.following.fetch_add(1, Ordering::Relaxed) >= FOLLOWED_MAX {
        // A storm of changes: their own events have told the rest.
        shared.following.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut stop = shared.stop.subscribe();
        let stopped = async {
            let _ = stop.wait_for(|stop| *stop != Stop::No).await;
        };
        tokio::select! {
            () = tokio::time::sleep(WATCHED_AFTER) => {}
            () = stopped => {}
        }
        let now = shared.live.traffic.snapshot();
        let mut after = event.after.take().unwrap_or_default();
        after.statements = follow_up.statements(&shared, Some(&now));
        after.watched_s = Some(follow_up.since.elapsed().as_secs_f64());
        event.after = Some(after);
        event.phase = Phase::After;
        event.time = SystemTime::now();
        // The writer's thread logs its own failures, and nobody waits for this line.
        let literals = shared.policy().audit_literals;
        let _ = shared.audit.write(&event, literals).await;
        shared.following.fetch_sub(1, Ordering::Relaxed);
        shared.ended.notify_waiters();
    });
}
