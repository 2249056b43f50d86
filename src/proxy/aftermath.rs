//! What a plan left and what others noticed of it: asked of the catalog at its end, counted from what passed through, and
//! looked up by the control connection. Start at [`Session::begin_watching`].
//!
//! How long statements take afterwards is known a minute later: [`follow_up`] writes it as an event of its own.

use super::dialogue::Ask;
use super::end::{Broken, End};
use super::session::Session;
use super::shared::{Shared, Stop};
use crate::audit::after::{After, ShapeTimes, Table};
use crate::audit::{Event, Phase};
use crate::live::traffic::Snapshot;
use crate::plan::ascii::{decoded, encoded};
use crate::plan::catalog::Relation;
use crate::plan::{Place, Run};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

/// How long statements are watched after a plan.
const WATCHED_AFTER: Duration = Duration::from_secs(60);
const STATEMENTS_MAX: usize = 5;
/// Plans that are followed at the same time.
const FOLLOWED_MAX: usize = 500;

/// A plan that is being watched.
pub(super) struct Watched {
    relations: Vec<(u32, Table)>,
    /// Without their schemas.
    names: Vec<String>,
    /// Nothing was half done before, and the plan does nothing by halves.
    is_whole: bool,
    /// Five minutes before the plan, and at its beginning.
    before: Snapshot,
    begun: Snapshot,
}

#[derive(Deserialize)]
pub(super) struct Left {
    invalid: Vec<String>,
    not_valid: Vec<String>,
}

impl Session {
    pub(super) fn begin_watching(&self, found: &[Relation], run: &Run) -> Watched {
        // Of an index its table is among the facts as well.
        let tables = found.iter().filter(|relation| matches!(relation.kind, 'r' | 'p' | 'm'));
        let mut relations: Vec<(u32, Table)> = tables.map(|relation| (relation.oid, table(relation))).collect();
        relations.sort_by_key(|(oid, _)| *oid);
        relations.dedup_by_key(|(oid, _)| *oid);
        self.seat.watch(relations.iter().map(|(oid, _)| *oid).collect());
        let traffic = &self.shared.live.traffic;
        let names = found.iter().map(|relation| relation.name.clone()).collect();
        let partitioned = found.iter().any(|relation| matches!(relation.kind, 'p' | 'I'));
        Watched {
            relations,
            names,
            is_whole: run.is_whole(partitioned) && !found.iter().any(|relation| relation.flawed),
            before: traffic.before(),
            begun: traffic.snapshot(),
        }
    }

    /// What is known at the end of the plan, and what is to be written when more is known.
    pub(super) async fn end_watching(&mut self, watched: Watched, place: Place) -> Result<(After, FollowUp), Broken> {
        let (oids, tables): (Vec<u32>, Vec<Table>) = watched.relations.into_iter().unzip();
        let mut after = After {
            tables,
            ..After::default()
        };
        if let Some((waits, stalls)) = self.seat.watched() {
            let mut ledger = self.shared.live.ledger();
            stalls
                .iter()
                .for_each(|ms| ledger.stall(Duration::from_secs_f64(ms / 1e3)));
            after.waits = Some(waits);
        }
        let ended = self.shared.live.traffic.snapshot();
        // While the client's transaction holds its locks, nothing is asked that can be asked at its end.
        let open = place != Place::Alone && !watched.is_whole;
        if watched.is_whole {
            (after.invalid, after.not_valid) = (Some(Vec::new()), Some(Vec::new()));
        } else if !open && let Some(left) = self.left(&[&oids]).await?.pop() {
            left.tell(&mut after);
        }
        // Many plans may be followed at once: no more is kept than what concerns this one.
        let shapes = self.shared.live.traffic.naming(&watched.names);
        let follow_up = FollowUp {
            open: if open { oids } else { Vec::new() },
            names: watched.names,
            before: watched.before.of(&shapes),
            begun: watched.begun.of(&shapes),
            ended: ended.of(&shapes),
            since: Instant::now(),
        };
        after.statements = follow_up.statements(&self.shared, None);
        Ok((after, follow_up))
    }

    /// What plans have left of the relations of each, in their order; nothing where it cannot be asked.
    pub(super) async fn left(&mut self, plans: &[&[u32]]) -> Result<Vec<Left>, Broken> {
        let place = self.relay.place();
        if plans.iter().all(|oids| oids.is_empty()) || place == Place::Pipeline || self.relay.block_failed() {
            return Ok(Vec::new());
        }
        // 18 can keep a constraint that it never enforces: that is not left over, but meant.
        let left = "pg_catalog.json_agg(pg_catalog.json_build_object('invalid', coalesce((SELECT pg_catalog.json_agg(\
             i.indexrelid::pg_catalog.regclass::text ORDER BY i.indexrelid) FROM pg_catalog.pg_index i \
             WHERE i.indrelid = ANY (p.oids) AND NOT i.indisvalid), '[]'), \
             'not_valid', coalesce((SELECT pg_catalog.json_agg(pg_catalog.format('%s on %s', c.conname, \
             c.conrelid::pg_catalog.regclass) ORDER BY c.oid) FROM pg_catalog.pg_constraint c WHERE c.conrelid = ANY (p.oids) \
             AND NOT c.convalidated AND pg_catalog.to_jsonb(c)->>'conenforced' IS DISTINCT FROM 'false'), '[]')) ORDER BY p.n)";
        let rows: Vec<String> = plans
            .iter()
            .enumerate()
            .map(|(n, oids)| {
                let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
                format!("({n}, '{{{}}}'::pg_catalog.oid[])", oids.join(","))
            })
            .collect();
        let sql = format!("SELECT {} FROM (VALUES {}) p(n, oids)", encoded(left), rows.join(", "));
        match self.ask_harmlessly(Ask::new(sql), place).await {
            Ok(answer) => Ok(answer.value().and_then(|left| decoded(left).ok()).unwrap_or_default()),
            Err(End::Broken(broken)) => Err(broken),
            Err(End::Refused(report)) => {
                let error = report.message();
                tracing::debug!(session = self.who.session, error, "what a plan left is not known");
                Ok(Vec::new())
            }
        }
    }
}

impl Left {
    pub fn tell(&self, after: &mut After) {
        (after.invalid, after.not_valid) = (Some(self.invalid.clone()), Some(self.not_valid.clone()));
    }
}

fn table(relation: &Relation) -> Table {
    Table {
        name: format!("{}.{}", relation.schema, relation.name),
        bytes: Some(relation.bytes),
        rows: relation.rows,
    }
}

/// What is known at a plan's end, to be compared with what comes after it.
pub(super) struct FollowUp {
    /// The relations of a plan in a transaction, whose end is still to come.
    pub open: Vec<u32>,
    names: Vec<String>,
    before: Snapshot,
    begun: Snapshot,
    ended: Snapshot,
    since: Instant,
}

impl FollowUp {
    /// Those timed most often, with their times in the parts that are over.
    fn statements(&self, shared: &Shared, later: Option<&Snapshot>) -> Vec<ShapeTimes> {
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

fn timed(times: &ShapeTimes) -> u64 {
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
