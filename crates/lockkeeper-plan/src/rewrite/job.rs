//! The row of `lockkeeper.job` of a rewrite. What it is at in detail stands in the job's own schema.

use super::partition::Partitioning;
use crate::jobs::{self, JobSql, RUNNER};
use crate::splice::quote_literal;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "rewrite";

/// What a table's rows are made of depends on these.
pub const SETTINGS: &str = "'TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'lc_numeric', 'lc_time', 'bytea_output', 'extra_float_digits', \
     'xmloption', 'xmlbinary', 'array_nulls', 'transform_null_equals', 'default_text_search_config'";

#[derive(Debug)]
pub struct New<'a> {
    pub statement: &'a str,
    pub table: u32,
    pub name: &'a str,
    pub rows: u64,
    /// The client's own.
    pub search_path: &'a str,
    pub details: &'a Details,
}

/// What else was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Details {
    /// How long the old table is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_old_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioning: Option<Partitioning>,
}

impl New<'_> {
    /// One row: the job's ID. It runs in this session from then on. Fails with 23505 where the table has such a job.
    pub fn sql(&self) -> JobSql {
        let (columns, values) = RUNNER;
        JobSql::new(format!(
            "WITH j AS (INSERT INTO lockkeeper.job (kind, identity, state, statement, settings, relation, relation_name, details, keys_estimated, runs, {columns}, \
             application_name) SELECT '{KIND}', '{KIND} {table}', 'running', {statement}, (SELECT jsonb_object_agg(s.name, s.setting) FROM pg_settings s \
             WHERE s.name IN ({SETTINGS})) || jsonb_build_object('search_path', {path}), {table}, {name}, {details}::jsonb, {rows}, 1, {values}, \
             current_setting('application_name') RETURNING id, run_key) SELECT id, pg_try_advisory_lock(run_key) FROM j",
            table = self.table,
            statement = quote_literal(self.statement),
            path = quote_literal(self.search_path),
            name = quote_literal(self.name),
            details = quote_literal(&serde_json::to_string(self.details).unwrap_or_else(|_| "{}".into())),
            rows = self.rows.max(1),
        ))
    }
}

/// Kind, owner, state, table, statement and settings of a job.
pub fn read(id: i64) -> JobSql {
    JobSql::new(format!(
        "SELECT jsonb_build_object('kind', j.kind, 'owner', j.owner, 'state', j.state, 'relation', j.relation::int8, 'statement', j.statement, \
         'settings', j.settings, 'details', j.details) FROM lockkeeper.job j WHERE j.id = {id}"
    ))
}

/// ID and statement of the rewrite of a table that is not done yet; of one that has been replaced already by its name.
pub fn unfinished(table: u32, name: &str) -> JobSql {
    JobSql::new(format!(
        "SELECT j.id, j.statement FROM lockkeeper.job j WHERE j.kind = '{KIND}' AND j.owner = current_user AND j.state NOT IN ('done', 'cancelled') \
         AND (j.relation = {table} OR j.relation_name = {}) ORDER BY j.relation = {table} DESC, j.id DESC LIMIT 1",
        quote_literal(name)
    ))
}

/// This session runs it no more.
pub fn release(id: i64) -> JobSql {
    JobSql::new(format!(
        "SELECT pg_advisory_unlock(j.run_key) FROM lockkeeper.job j WHERE j.id = {id} AND j.backend_pid = pg_backend_pid() AND j.owner = current_user"
    ))
}

/// Within a step, which holds the row.
pub fn moved(id: i64, cursor: Option<&[String]>, rows: u64) -> JobSql {
    let last = cursor.map_or("NULL".into(), jobs::text_array);
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET last_key = {last}, rows_done = rows_done + {rows}, keys_done = keys_done + {rows}, batches = batches + 1, \
         heartbeat_at = clock_timestamp() WHERE id = {id} AND owner = current_user"
    ))
}

/// The copy begins anew.
pub fn from_the_start(id: i64) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET last_key = NULL, keys_done = 0, heartbeat_at = clock_timestamp() WHERE id = {id} AND owner = current_user"
    ))
}

/// It is done but for the old table, which is kept: paused until somebody goes back or drops it.
pub fn kept(id: i64) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = 'paused', answered = true, error = 'the table is replaced, and the old one is kept', \
         finished_at = clock_timestamp(), heartbeat_at = clock_timestamp() WHERE id = {id} AND owner = current_user"
    ))
}

pub fn done(id: i64) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = 'done', answered = true, finished_at = clock_timestamp(), heartbeat_at = clock_timestamp() \
         WHERE id = {id} AND owner = current_user"
    ))
}

/// Nothing of it is left, by a superuser whose it need not be.
pub fn given_up_by_a_superuser(id: i64, why: &str) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = 'cancelled', error = {}, finished_at = clock_timestamp() WHERE id = {id} AND state <> 'done'",
        quote_literal(why)
    ))
}

/// Nothing of it is left.
pub fn given_up(id: i64, why: &str) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = 'cancelled', error = {}, finished_at = clock_timestamp() WHERE id = {id} AND owner = current_user \
         AND state <> 'done'",
        quote_literal(why)
    ))
}
