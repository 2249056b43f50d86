//! Who holds a lock that a step waits for: what the server is asked.

use super::blockers::{BLOCKERS_MAX, Waits, mode_name, shortened};
use super::dialogue::{Answer, Ask, Closing, Hears, NAMED};
use super::end::{Broken, unless_refused};
use super::session::Session;
use crate::audit::Blocker;
use crate::plan::ascii::{decoded, encoded};
use crate::plan::lock::LockMode;
use crate::plan::policy::Literals;
use crate::plan::splice::quote_literal;
use serde::Deserialize;
use std::sync::Arc;

impl Session {
    pub(super) fn waits(&self) -> Waits {
        Waits {
            shared: Arc::clone(&self.shared),
            seat: self.seat.shared(),
        }
    }

    /// Those that hold a lock on the relation, or on one that inherits from it, which conflicts with that mode; the oldest
    /// transaction first. What the role may not see is left out. A failure of the question means that nobody is named.
    pub(super) async fn holders(&mut self, relation: &str, wanted: LockMode) -> Result<Vec<Seen>, Broken> {
        let asked = [Ask::new(FRESH), Ask::about(question(wanted), relation)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        let answer = answers.and_then(|answers| answers.into_iter().next_back());
        Ok(answered(answer.as_ref(), self.shared.policy().audit_literals))
    }
}

/// In a transaction block pg_stat_activity stays as it was when it was first read (manual section 27.2, stats_fetch_consistency).
pub(super) const FRESH: &str = "SELECT pg_catalog.pg_stat_clear_snapshot()";

/// Of [`question`].
pub(super) fn answered(answer: Option<&Answer>, literals: Literals) -> Vec<Seen> {
    let mut seen: Vec<Seen> = answer
        .and_then(Answer::value)
        .and_then(|seen| decoded(seen).ok())
        .unwrap_or_default();
    for Seen { blocker, text, .. } in &mut seen {
        *text = blocker.query.take();
        blocker.query = text.as_deref().and_then(|query| shortened(query, literals));
        blocker.lock = mode_name(&blocker.lock);
    }
    seen
}

/// Somebody who holds a lock, and what is known of what it does.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    pub blocker: Blocker,
    /// For how long it has been in its state, or has run its statement.
    #[serde(default)]
    pub state_s: Option<f64>,
    /// Its statement as it stands in pg_stat_activity.
    #[serde(skip)]
    pub text: Option<String>,
}

pub(super) fn question(wanted: LockMode) -> String {
    let modes: Vec<String> = wanted
        .conflicts()
        .iter()
        .map(|mode| quote_literal(&mode.pg_locks_name()))
        .collect();
    // A prepared transaction has no process. Its locks keep the virtual transaction ID that its session had, and one of them
    // is on its own transaction ID, by which pg_prepared_xacts knows it.
    format!(
        "SELECT {} FROM (\
         SELECT pg_catalog.jsonb_build_object('pid', a.pid, 'prepared', p.gid, 'user', COALESCE(a.usename, p.owner), \
         'application_name', a.application_name, 'client', a.client_addr::text, 'state', CASE WHEN p.gid IS NOT NULL THEN 'prepared' \
         WHEN a.backend_type <> 'client backend' THEN a.backend_type ELSE a.state END, \
         'age_s', pg_catalog.round(t.age::numeric, 1), 'state_s', EXTRACT(epoch FROM pg_catalog.clock_timestamp() \
         - CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END), 'lock', l.mode, 'query', NULLIF(a.query, '<insufficient privilege>')) AS blocker, t.age \
         FROM (SELECT l.pid, l.virtualtransaction, (pg_catalog.array_agg(l.mode ORDER BY pg_catalog.array_position(\
         ARRAY['AccessShareLock','RowShareLock','RowExclusiveLock','ShareUpdateExclusiveLock','ShareLock','ShareRowExclusiveLock',\
         'ExclusiveLock','AccessExclusiveLock'], l.mode) DESC))[1] AS mode FROM pg_catalog.pg_locks l \
         WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND l.mode IN ({}) \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         AND l.relation IN (SELECT r.oid FROM (SELECT {NAMED} AS oid) r UNION ALL \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = {NAMED}) \
         GROUP BY l.pid, l.virtualtransaction) l \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction IN (SELECT x.transactionid \
         FROM pg_catalog.pg_locks x WHERE x.locktype = 'transactionid' AND x.pid IS NULL AND x.granted \
         AND x.virtualtransaction = l.virtualtransaction) \
         CROSS JOIN LATERAL (SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp() \
         - COALESCE(a.xact_start, a.query_start, p.prepared)) AS age) t \
         WHERE a.pid IS NOT NULL OR p.gid IS NOT NULL ORDER BY t.age DESC NULLS LAST LIMIT {BLOCKERS_MAX}) b",
        encoded("pg_catalog.jsonb_agg(b.blocker ORDER BY b.age DESC NULLS LAST)"),
        modes.join(", "),
    )
}

/// One row, or none: of those who wait for a lock of this transaction, perhaps by way of others, one who stands in the way of the lock
/// wanted, or else any: `pid 7 (ann web)`; the relation it waits for and the one that is wanted; whether they wait for each other; and
/// the server's deadlock_timeout.
pub(super) fn circle(wanted: LockMode) -> String {
    let modes: Vec<String> = wanted
        .conflicts()
        .iter()
        .map(|mode| quote_literal(&mode.pg_locks_name()))
        .collect();
    format!(
        "WITH RECURSIVE waits AS MATERIALIZED (SELECT l.pid, l.relation, pg_catalog.pg_blocking_pids(l.pid) AS blockers \
         FROM pg_catalog.pg_locks l WHERE NOT l.granted AND l.pid <> pg_catalog.pg_backend_pid()), \
         us(pid, relation) AS (SELECT w.pid, w.relation FROM waits w WHERE pg_catalog.pg_backend_pid() = ANY (w.blockers) \
         UNION SELECT w.pid, u.relation FROM us u JOIN waits w ON u.pid = ANY (w.blockers)), \
         holders AS (SELECT l.pid, l.relation FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ({}) \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         AND l.relation IN (SELECT r.oid FROM (SELECT {NAMED} AS oid) r UNION ALL \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = {NAMED})) \
         SELECT pg_catalog.format('pid %s (%s%s)', u.pid, a.usename, CASE WHEN a.application_name <> '' \
         THEN ' ' || a.application_name ELSE '' END), u.relation::pg_catalog.regclass::text, h.relation::pg_catalog.regclass::text, \
         h.pid IS NOT NULL, (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout') \
         FROM us u LEFT JOIN holders h ON h.pid = u.pid LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = u.pid \
         ORDER BY h.pid IS NULL LIMIT 1",
        modes.join(", "),
    )
}
