//! Jobs that stand still though nobody has paused them: they have failed, or whoever ran them has gone.

use super::{JobSql, PAUSED_BY, UNFINISHED, goes_on};

/// Why `lockkeeper rewrite` has paused a job whose user has stopped it.
pub const BY_HAND: &str = "Ctrl-C";

/// More are not told of at once.
const ROWS_MAX: u32 = 1_000;

/// Rows of JSON, the last that have moved. One that a session is just taking up or giving back may be among them: it is not, a moment later.
pub fn stopped() -> JobSql {
    // One that waits is begun by the session that has written it, right after its COMMIT.
    let waits = "EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity(coalesce(j.backend_pid, 0)) a WHERE a.usesysid = j.run_by \
         AND coalesce(a.backend_start <= j.created_at, true))";
    let runs = goes_on("j");
    JobSql::new(format!(
        "SELECT pg_catalog.row_to_json(x)::text FROM (SELECT j.id, j.run_key::text AS run, pg_catalog.current_database() AS database, j.owner, \
         j.application_name, j.relation_name AS relation, j.rows_done, \
         CASE WHEN j.state IN ('paused', 'failed') THEN j.state ELSE 'interrupted' END AS state, \
         CASE WHEN j.state IN ('paused', 'failed') THEN j.error END AS error, \
         CASE WHEN j.kind = 'rewrite' AND j.statement = '' THEN pg_catalog.concat('VACUUM FULL ', j.relation_name) ELSE j.statement END AS statement \
         FROM lockkeeper.job j WHERE j.{UNFINISHED} AND CASE j.state WHEN 'waiting' THEN NOT {waits} WHEN 'running' THEN NOT {runs} WHEN 'failed' THEN NOT {runs} \
         WHEN 'paused' THEN NOT {runs} AND NOT (j.kind = 'rewrite' AND j.answered) AND coalesce(j.error, '') NOT LIKE '{PAUSED_BY}%' \
         AND coalesce(j.error, '') <> '{BY_HAND}' ELSE false END ORDER BY j.heartbeat_at DESC LIMIT {ROWS_MAX}) x"
    ))
}
