//! What a plan left and what others noticed of it: asked of the catalog at its end, counted from what passed through, and
//! looked up by the control connection. Start at [`Session::begin_watching`].
//!
//! How long statements take afterwards is known a minute later, by [`super::follow_up`].

use super::dialogue::Ask;
use super::end::{Broken, End};
use super::follow_up::FollowUp;
use super::session::Session;
use crate::audit::after::{After, Table};
use crate::live::traffic::Snapshot;
use crate::plan::ascii::{decoded, encoded};
use crate::plan::catalog::Relation;
use crate::plan::{Place, Run};
use serde::Deserialize;
use std::time::{Duration, Instant};

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
