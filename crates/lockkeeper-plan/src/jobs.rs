//! The table `lockkeeper.job`, where work that outlives a session is kept: its definition, and the SQL about one job. Pure.
//!
//! A job's row is moved by the transaction that does the work, so that what it says is always what was done. Rows are their
//! owner's alone (row-level security). Each run of a job holds an advisory lock under a key of its own, drawn by lot and kept in
//! the row: it tells a running job from one whose session has died, and nobody can take it first.
//!
//! What is in the table decides what sessions run. So nothing of it is read or written before [`TRUST`] has been asked in the same
//! transaction: that SQL is a [`JobSql`], and whatever sends one puts [`guards`] in front of it.

pub mod stopped;

use super::ascii::{decoded, encoded};
use super::splice::quote_literal;
use super::waiting::Details;
use super::waiting::PAUSED_BY;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Of the table's definition; kept in its comment.
pub(super) const VERSION: &str = "lockkeeper jobs, version 2";

/// What [`upgrade_statements`] brings up to date.
pub(super) const OLD_VERSION: &str = "lockkeeper jobs, version 1";

/// The question about the table as a whole: a [`JobTable`] as JSON, or no row.
pub const TRUST: &str = include_str!("jobs_trust.sql");

/// How the server's complaint about a value begins that [`guards`] makes of a table which must not be used.
const DISTRUST: &str = "lockkeeper.job: ";

/// Why there are none behind a pooler.
pub const NO_JOBS: &str = "there is a connection pooler between Lockkeeper and the server, so that a job's advisory lock would stay on a \
     connection that others use; let Lockkeeper connect to the server itself, and the pooler to Lockkeeper";

/// A statement that reads or writes `lockkeeper.job`: never sent without [`guards`] before it in its transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSql(String);

impl JobSql {
    pub fn new(sql: String) -> JobSql {
        JobSql(sql)
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// With its guards as one simple query, for a connection of our own. Only the statement itself brings rows.
    pub fn guarded(&self) -> String {
        format!("SET LOCAL row_security = on; {}; {}", guard(), self.0)
    }
}

/// How [`guard`] begins.
const GUARD: &str = "SELECT FROM (";

/// No row, or an error: 22P02, which [`distrust_in`] reads.
fn guard() -> String {
    format!(
        "{GUARD}{TRUST}) t(j) WHERE CASE WHEN t.j ->> 'distrust' IS NULL THEN false \
         ELSE pg_catalog.concat('{DISTRUST}', t.j ->> 'distrust')::pg_catalog.bool END"
    )
}

/// What comes before a [`JobSql`] within its transaction. The table's own row-level security holds whatever the client has set:
/// with `row_security = off` the server would refuse every statement. What the client has is kept for [`UNGUARD`].
pub fn guards() -> [String; 2] {
    [
        "SELECT pg_catalog.set_config('lockkeeper.row_security', pg_catalog.current_setting('row_security'), true), \
         pg_catalog.set_config('row_security', 'on', true)"
            .to_string(),
        guard(),
    ]
}

/// Puts back what [`guards`] has set, where the transaction goes on.
pub const UNGUARD: &str =
    "SELECT pg_catalog.set_config('row_security', pg_catalog.current_setting('lockkeeper.row_security'), true)";

/// What a guard's error says of the table.
pub fn distrust_in(sqlstate: &str, message: &str) -> Option<String> {
    let (_, why) = message.split_once(DISTRUST).filter(|_| sqlstate == "22P02")?;
    Some(
        why.trim_end_matches(['"', '\u{bb}', '\u{201c}', '\u{201d}', '\'', '\u{ab}', ' '])
            .to_string(),
    )
}

/// Of the answer to [`TRUST`] of a connection of our own: why the table is of no use.
pub fn out_of_use(answer: Option<&str>, database: &str) -> Option<String> {
    let Some(answer) = answer else {
        return Some(format!(
            "there is no table lockkeeper.job in {database}; lockkeeper init creates it"
        ));
    };
    let table: JobTable = match serde_json::from_str(answer) {
        Ok(table) => table,
        Err(error) => {
            return Some(format!(
                "what the server says of lockkeeper.job cannot be read: {error}"
            ));
        }
    };
    if is_old(&table.comment) {
        return Some("lockkeeper.job is of an older version; lockkeeper init brings it up to date".into());
    }
    if !is_current(&table.comment) {
        return Some(format!("lockkeeper.job is of another version (\"{}\")", table.comment));
    }
    table.distrust.map(|why| distrusted(&why, "…"))
}

/// For people, of a table that this session must not use.
pub fn distrusted(why: &str, database: &str) -> String {
    format!(
        "lockkeeper.job cannot be trusted here: {why}, so that others could have this session do what they want; finish or cancel its jobs, \
         drop it with all of the schema lockkeeper that is not a superuser's, and a superuser runs once: lockkeeper init --dsn 'dbname={database} …'"
    )
}

/// What the role can do about jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    Ready,
    /// It is not there, and the role may create it.
    Create,
    /// Why not, and what to do.
    None(String),
}

#[derive(Clone, Debug, Deserialize)]
pub struct JobTable {
    /// What tells its version.
    pub comment: String,
    /// Why the session must not use it.
    pub distrust: Option<String>,
    /// The role may read and write it.
    pub usable: bool,
}

impl JobTable {
    /// Of this version, and the role's to use.
    pub fn good() -> JobTable {
        JobTable {
            comment: VERSION.to_owned(),
            distrust: None,
            usable: true,
        }
    }
}

/// The statements that create schema and table, in order, for one transaction.
pub fn create_statements() -> Vec<&'static str> {
    statements(include_str!("jobs.sql")).collect()
}

/// Brings a table of the version before up to date, keeping its jobs.
pub fn upgrade_statements() -> Vec<&'static str> {
    let is_last_half = |sql: &&str| sql.starts_with("GRANT SELECT, INSERT") || sql.starts_with("COMMENT ON");
    statements(include_str!("jobs_upgrade.sql"))
        .chain(statements(include_str!("jobs.sql")).filter(is_last_half))
        .collect()
}

fn statements(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.split(";\n").map(str::trim).filter(|s| !s.is_empty())
}

/// Another session has created the same at the same moment: unique_violation in the catalog, duplicate_schema, duplicate_table.
pub fn was_first(sqlstate: &str) -> bool {
    matches!(sqlstate, "23505" | "42P06" | "42P07")
}

/// One row with the comment, or none if the table is not there.
pub const COMMENT_QUERY: &str = "SELECT coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'lockkeeper' AND c.relname = 'job'";

/// Who asks: whether a superuser, whether the database's owner, that owner, whose the schema is if it is another's who is no superuser.
pub const CREATOR_QUERY: &str = "SELECT r.rolsuper, r.oid = d.datdba, pg_catalog.pg_get_userbyid(d.datdba), (SELECT pg_catalog.pg_get_userbyid(n.nspowner) \
     FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner WHERE n.nspname = 'lockkeeper' AND n.nspowner <> r.oid \
     AND NOT o.rolsuper) FROM pg_catalog.pg_roles r, pg_catalog.pg_database d WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()";

pub fn is_current(comment: &str) -> bool {
    comment == VERSION
}

pub fn is_old(comment: &str) -> bool {
    comment == OLD_VERSION
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The client's own UPDATE or DELETE.
    Write,
    /// One that a schema change of several steps has made.
    Backfill,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Write => "write",
            Kind::Backfill => "backfill",
        }
    }
}

/// What makes two statements the same: the text, its parameters as they were bound, its table, and what decides which of its
/// rows are seen. Not the settings it runs under, which a job keeps.
pub fn identity(text: &str, relation: u32, types: &[u8], values: &[u8], seen_by: &BTreeMap<String, String>) -> String {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(text.trim().as_bytes());
    part(&relation.to_be_bytes());
    let (types, values) = parameters(types, values);
    part(types);
    part(values);
    for (name, value) in seen_by {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    hash.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A statement without parameters is the same in the simple and in the extended protocol.
pub fn parameters<'a>(types: &'a [u8], values: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let number = |at: usize| Some(u16::from_be_bytes([*values.get(at)?, *values.get(at + 1)?]) as usize);
    // Format codes, then the number of values.
    let count = number(0).and_then(|formats| number(2 + 2 * formats));
    match count {
        None | Some(0) => (&[], &[]),
        Some(_) => (types, values),
    }
}

/// States that the same statement, or `jobs resume`, continues.
pub(super) const UNFINISHED: &str = "state IN ('waiting', 'running', 'paused', 'failed')";

/// The ID of the unfinished job of that statement, as one row or none.
pub fn find(identity: &str) -> JobSql {
    JobSql(format!(
        "SELECT id FROM lockkeeper.job WHERE owner = current_user AND identity = {} AND {UNFINISHED} ORDER BY id LIMIT 1",
        quote_literal(identity)
    ))
}

/// One boolean: whether the role has an unfinished job on that table.
pub fn any_of(relation: u32) -> JobSql {
    JobSql(format!(
        "SELECT EXISTS (SELECT FROM lockkeeper.job WHERE owner = current_user AND relation = {relation} AND {UNFINISHED})"
    ))
}

/// The last job of that statement that was done and whose client was perhaps never told: ID, rows, when.
pub fn find_unanswered(identity: &str) -> JobSql {
    JobSql(format!(
        "SELECT id, rows_done, finished_at FROM lockkeeper.job WHERE owner = current_user AND identity = {} AND state = 'done' \
         AND NOT answered ORDER BY id DESC LIMIT 1",
        quote_literal(identity)
    ))
}

/// What a job begins with.
#[derive(Debug)]
pub struct New<'a> {
    pub kind: Kind,
    pub identity: &'a str,
    pub statement: &'a str,
    pub types: &'a [u8],
    pub values: &'a [u8],
    pub relation: u32,
    pub relation_name: &'a str,
    pub key_columns: Vec<&'a str>,
    /// None: it waits for the client's COMMIT, and the table's last key is looked for when it begins.
    pub upper: Option<&'a [String]>,
    pub details: &'a Details,
    pub keys_estimated: Option<f64>,
}

/// Settings that decide what a statement's text means: a continued job has those that it began with.
pub(super) const KEPT_SETTINGS: &str = "'search_path', 'TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'lc_numeric', 'lc_time', \
     'bytea_output', 'extra_float_digits', 'xmloption', 'xmlbinary', 'array_nulls', 'transform_null_equals', \
     'default_text_search_config', 'session_replication_role', 'row_security', 'standard_conforming_strings'";

/// The client's value of a row `s` of pg_settings, in a statement of ours, which has a search_path of its own.
pub const CLIENTS_SETTING: &str =
    "CASE s.name WHEN 'search_path' THEN pg_catalog.current_setting('lockkeeper.search_path') ELSE s.setting END";

impl New<'_> {
    /// Inserts the row and, if it is to run at once, takes its lock: ID, whether the lock was free, and its key. Fails with 23505 where another
    /// session was first.
    pub fn sql(&self) -> JobSql {
        let New {
            kind,
            identity,
            statement,
            relation,
            ..
        } = self;
        let (types, bound) = parameters(self.types, self.values);
        let estimated = self.keys_estimated.map_or("NULL".into(), |n| format!("{n:.0}"));
        let (columns, values) = RUNNER;
        let (state, runs, lock) = match self.upper {
            Some(_) => ("running", 1, "pg_catalog.pg_try_advisory_lock(j.run_key)"),
            None => ("waiting", 0, "true"),
        };
        JobSql(format!(
            "WITH j AS (INSERT INTO lockkeeper.job (kind, identity, state, statement, parameter_types, parameters, settings, relation, \
             relation_name, details, key_columns, upper_key, keys_estimated, runs, {columns}, application_name) SELECT {kind}, {identity}, \
             {state}, {statement}, {types}, {parameters}, {kept}, {relation}, {name}, {details}::jsonb, {key_columns}, {upper}, {estimated}, {runs}, \
             {values}, pg_catalog.current_setting('application_name') RETURNING id, run_key) \
             SELECT id, {lock}, run_key FROM j",
            kept = kept_settings(KEPT_SETTINGS),
            state = quote_literal(state),
            details = quote_literal(&serde_json::to_string(self.details).unwrap_or_default()),
            kind = quote_literal(kind.name()),
            identity = quote_literal(identity),
            statement = quote_literal(statement),
            types = bytes(types),
            parameters = bytes(bound),
            name = quote_literal(self.relation_name),
            key_columns = array(self.key_columns.iter().copied()),
            upper = match self.upper {
                Some(upper) => array(upper.iter().map(String::as_str)),
                None => "NULL".to_string(),
            },
        ))
    }
}

/// Those of the session as JSON; of `row_security` what it was before [`guards`].
pub(super) fn kept_settings(names: &str) -> String {
    format!(
        "(SELECT pg_catalog.jsonb_object_agg(s.name, CASE s.name WHEN 'row_security' \
         THEN coalesce(nullif(pg_catalog.current_setting('lockkeeper.row_security', true), ''), s.setting) ELSE {CLIENTS_SETTING} END) \
         FROM pg_catalog.pg_settings s WHERE s.name IN ({names}))"
    )
}

/// A job as it is taken up again.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    pub id: i64,
    pub kind: String,
    pub identity: String,
    pub state: String,
    pub statement: String,
    /// In hexadecimal.
    pub parameter_types: String,
    pub parameters: String,
    pub settings: BTreeMap<String, String>,
    pub relation: u32,
    pub key_columns: Vec<String>,
    /// None: it has waited for a COMMIT, and has not begun.
    pub upper_key: Option<Vec<String>>,
    pub last_key: Option<Vec<String>>,
    pub rows_done: u64,
    pub keys_done: u64,
    pub keys_estimated: Option<f64>,
    pub batches: u64,
    pub created_at: String,
    pub backend_pid: Option<i32>,
}

impl Kind {
    pub fn of(name: &str) -> Option<Kind> {
        [Kind::Write, Kind::Backfill]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl Job {
    pub fn decode(answer: &str) -> Result<Job, String> {
        decoded(answer).map_err(|error| format!("a row of lockkeeper.job cannot be read: {error}"))
    }

    /// The parameters as they were bound: types and values.
    pub fn parameters(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        Some((unhex(&self.parameter_types)?, unhex(&self.parameters)?))
    }
}

/// One row with one column, for [`Job::decode`], or none: that job, whatever its state.
pub fn read(id: i64) -> JobSql {
    let job = "pg_catalog.json_build_object('id', id, 'kind', kind, 'identity', identity, 'state', state, 'statement', statement, \
         'parameter_types', coalesce(pg_catalog.encode(parameter_types, 'hex'), ''), 'parameters', \
         coalesce(pg_catalog.encode(parameters, 'hex'), ''), 'settings', settings, 'relation', relation::int8, 'key_columns', \
         coalesce(key_columns, ARRAY[]::text[]), 'upper_key', upper_key, 'last_key', last_key, 'rows_done', rows_done, 'keys_done', keys_done, \
         'keys_estimated', keys_estimated, 'batches', batches, 'created_at', pg_catalog.date_trunc('second', created_at)::text, \
         'backend_pid', backend_pid)";
    JobSql(format!(
        "SELECT {} FROM lockkeeper.job WHERE id = {id} AND owner = current_user",
        encoded(job)
    ))
}

/// What tells that a run goes on, of the row `j`: the process that began it holds its key still, and is the same role's.
fn goes_on(j: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND l.pid = {j}.backend_pid \
         AND l.classid::pg_catalog.int8 = ({j}.run_key >> 32) & 4294967295 AND l.objid::pg_catalog.int8 = {j}.run_key & 4294967295 \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         AND (SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity(coalesce({j}.backend_pid, 0)) a) = {j}.run_by)"
    )
}

/// As columns and their values: this session is the one that runs it, under a key that nobody knows before it is taken.
pub(super) const RUNNER: (&str, &str) = (
    "backend_pid, run_by, run_key",
    "pg_catalog.pg_backend_pid(), (SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a), \
     ('x' || pg_catalog.translate(pg_catalog.right(pg_catalog.gen_random_uuid()::text, 17), '-', ''))::pg_catalog.varbit::bit(64)::pg_catalog.int8",
);

/// One value: the key under which this session runs the job from now on, `busy` while another one does, or null without such a job.
pub fn lock(id: i64) -> JobSql {
    let (columns, values) = RUNNER;
    JobSql(format!(
        "WITH taken AS (UPDATE lockkeeper.job j SET ({columns}) = (SELECT {values}) WHERE j.id = {id} AND j.owner = current_user \
         AND NOT {runs} RETURNING j.run_key, pg_catalog.pg_try_advisory_lock(j.run_key) AS locked) \
         SELECT coalesce((SELECT t.run_key::text FROM taken t WHERE t.locked), (SELECT 'busy' FROM lockkeeper.job j WHERE j.id = {id} \
         AND j.owner = current_user))",
        runs = goes_on("j"),
    ))
}

/// Who runs it, for people.
pub fn runner(id: i64) -> JobSql {
    JobSql(format!(
        "SELECT backend_pid FROM lockkeeper.job WHERE id = {id} AND owner = current_user"
    ))
}

/// The run with that key is over.
pub fn unlock(key: i64) -> String {
    format!("SELECT pg_catalog.pg_advisory_unlock({key}::pg_catalog.int8)")
}

/// An unfinished job is running again, in this session.
pub fn take_up(id: i64) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET state = 'running', error = NULL, runs = runs + 1, backend_pid = pg_catalog.pg_backend_pid(), \
         application_name = pg_catalog.current_setting('application_name'), started_at = pg_catalog.clock_timestamp(), \
         heartbeat_at = pg_catalog.clock_timestamp() WHERE id = {id} AND owner = current_user AND {UNFINISHED}"
    ))
}

/// The last key of a job that has waited for a COMMIT.
pub fn begin(id: i64, upper: &[String]) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET upper_key = {} WHERE id = {id} AND owner = current_user AND upper_key IS NULL",
        array(upper.iter().map(String::as_str))
    ))
}

/// Takes the row for the rest of the transaction and tells its state and how many batches it counts.
pub fn hold(id: i64) -> JobSql {
    JobSql(format!(
        "SELECT state, batches FROM lockkeeper.job WHERE id = {id} AND owner = current_user FOR UPDATE"
    ))
}

/// Whether a statement within a plan is Lockkeeper's own: it moves a job's row, or is the [`guards`]' question before that.
pub fn is_ours(sql: &str) -> bool {
    sql.starts_with("UPDATE lockkeeper.job SET ") || (sql.starts_with(GUARD) && sql == guard())
}

/// How a batch moves the row of its job, as expressions: part of a client's statement, which has the client's search_path.
#[derive(Debug)]
pub struct Moves {
    pub job: i64,
    /// Batches before this one.
    pub batches: String,
    /// The key that it comes to, of type text[].
    pub last: String,
    /// How many keys it passes.
    pub keys: String,
    pub ends: Ends,
}

/// Whether the job is done with it.
#[derive(Debug)]
pub enum Ends {
    No,
    Yes,
    /// An expression of type boolean tells.
    If(String),
}

impl Moves {
    pub fn of(job: i64, batches: u64, last: &[String], keys: u64, is_last: bool) -> Moves {
        Moves {
            job,
            batches: format!("{batches}::pg_catalog.int8"),
            last: array(last.iter().map(String::as_str)),
            keys: format!("{keys}::pg_catalog.int8"),
            ends: if is_last { Ends::Yes } else { Ends::No },
        }
    }

    /// True as long as the job is as this session left it; within a transaction that holds the row.
    pub fn is_at(&self) -> String {
        let Moves { job, batches, .. } = self;
        format!(
            "(SELECT j.state OPERATOR(pg_catalog.=) 'running' AND j.batches OPERATOR(pg_catalog.=) {batches} \
             FROM lockkeeper.job j WHERE j.id OPERATOR(pg_catalog.=) {job}::pg_catalog.int8 AND j.owner OPERATOR(pg_catalog.=) current_user)"
        )
    }

    /// The body of a CTE that moves the row; `rows` is an expression of type bigint.
    pub fn advance(&self, rows: &str) -> String {
        let Moves {
            job,
            batches,
            last,
            keys,
            ..
        } = self;
        let end = match &self.ends {
            Ends::No => String::new(),
            Ends::Yes => ", state = 'done', finished_at = pg_catalog.clock_timestamp()".to_owned(),
            Ends::If(told) => format!(
                ", state = CASE WHEN {told} THEN 'done' ELSE state END, \
                 finished_at = CASE WHEN {told} THEN pg_catalog.clock_timestamp() ELSE finished_at END"
            ),
        };
        format!(
            "UPDATE lockkeeper.job SET last_key = {last}, rows_done = rows_done OPERATOR(pg_catalog.+) {rows}, \
             keys_done = keys_done OPERATOR(pg_catalog.+) {keys}, batches = batches OPERATOR(pg_catalog.+) 1::pg_catalog.int8, \
             heartbeat_at = pg_catalog.clock_timestamp(){end} WHERE id OPERATOR(pg_catalog.=) {job}::pg_catalog.int8 \
             AND owner OPERATOR(pg_catalog.=) current_user AND state OPERATOR(pg_catalog.=) 'running' \
             AND batches OPERATOR(pg_catalog.=) {batches}"
        )
    }
}

/// The run has ended before the job was done.
pub fn stop(id: i64, state: &str, error: &str) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET state = {}, error = {}, heartbeat_at = pg_catalog.clock_timestamp() \
         WHERE id = {id} AND owner = current_user AND state = 'running'",
        quote_literal(state),
        quote_literal(error)
    ))
}

/// One value, if it is there.
pub fn state(id: i64) -> JobSql {
    JobSql(format!(
        "SELECT state FROM lockkeeper.job WHERE id = {id} AND owner = current_user"
    ))
}

/// One value, if it is there.
pub fn kind(id: i64) -> JobSql {
    JobSql(format!("SELECT kind FROM lockkeeper.job WHERE id = {id}"))
}

/// It is about what is no longer there.
pub fn give_up(id: i64) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET state = 'cancelled', error = 'the column was added anew', finished_at = pg_catalog.clock_timestamp() \
         WHERE id = {id} AND owner = current_user AND {UNFINISHED}"
    ))
}

/// The client has been told.
pub fn answered(id: i64) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET answered = true WHERE id = {id} AND owner = current_user AND state = 'done'"
    ))
}

/// When the old table of a rewrite is due to be dropped.
const DUE_AT: &str = "(j.finished_at + pg_catalog.make_interval(secs => (j.details ->> 'keep_old_s')::float8))";

/// Rows of JSON for people and programs, the newest last: all unfinished ones and, if asked, the others; or one.
pub fn listing(id: Option<i64>, all: bool) -> JobSql {
    let which = match id {
        Some(id) => format!("j.id = {id}"),
        None if all => "true".into(),
        None => UNFINISHED.replace("state", "j.state"),
    };
    JobSql(format!(
        "SELECT pg_catalog.row_to_json(x)::text FROM (SELECT j.id, j.kind, j.owner, CASE WHEN j.state = 'running' AND NOT {runs} \
         THEN 'interrupted' WHEN j.kind = 'rewrite' AND j.state = 'paused' AND j.answered THEN CASE WHEN {DUE_AT} <= pg_catalog.clock_timestamp() \
         THEN 'due' ELSE 'kept' END ELSE j.state END AS state, CASE WHEN j.kind = 'rewrite' AND j.answered AND j.state <> 'done' THEN {DUE_AT} END AS due_at, \
         CASE WHEN j.kind = 'rewrite' AND j.answered AND j.state <> 'done' THEN (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = j.relation) END AS aside, j.relation_name AS relation, j.rows_done, j.keys_done, j.keys_estimated, \
         CASE WHEN j.state = 'done' THEN 100 ELSE least(99, round(100.0 * CASE WHEN j.kind = 'deferred' \
         THEN j.keys_done::numeric / nullif(pg_catalog.jsonb_array_length(j.details -> 'steps'), 0) \
         ELSE j.keys_done::numeric / nullif(j.keys_estimated, 0) END)) END AS percent, \
         CASE WHEN j.kind = 'deferred' THEN pg_catalog.jsonb_path_query_array(j.details, '$.steps[*].label') END AS steps, \
         CASE WHEN j.kind = 'deferred' THEN j.keys_done END AS steps_done, \
         j.batches, j.runs, j.key_columns, j.last_key, j.upper_key, j.backend_pid, j.application_name, j.error, j.answered, \
         j.created_at, j.started_at, j.heartbeat_at, j.finished_at, j.settings, \
         CASE WHEN j.kind = 'rewrite' AND j.statement = '' THEN pg_catalog.concat('VACUUM FULL ', j.relation_name) ELSE j.statement END AS statement, \
         pg_catalog.encode(j.parameters, 'hex') AS parameters FROM lockkeeper.job j WHERE {which} ORDER BY j.id) x",
        runs = goes_on("j"),
    ))
}

/// Nobody runs it any further until it is resumed; a row if it was running.
pub fn pause(id: i64) -> JobSql {
    pause_in("'waiting', 'running'", id)
}

/// Behind [`interrupt`], which the run may have heard first.
pub fn pause_interrupted(id: i64) -> JobSql {
    pause_in("'waiting', 'running', 'paused'", id)
}

fn pause_in(states: &str, id: i64) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET state = 'paused', error = '{PAUSED_BY}' || session_user WHERE id = {id} AND state IN ({states}) \
         RETURNING rows_done"
    ))
}

/// It is given up: what is done stays done; a row if it was unfinished. A rewrite has triggers and a schema of its own, and is cancelled with these.
pub fn cancel(id: i64) -> JobSql {
    JobSql(format!(
        "UPDATE lockkeeper.job SET state = 'cancelled', error = 'cancelled by ' || session_user, \
         finished_at = pg_catalog.clock_timestamp() WHERE id = {id} AND kind <> 'rewrite' AND {UNFINISHED} RETURNING rows_done"
    ))
}

/// Whoever steers a job waits so long for the batch that is at work; then it is to be cancelled, see [`interrupt`].
const BATCH_MAX: &str = "300ms";

/// As [`JobSql::guarded`], for what steers a job: 55P03 where a batch holds its row for longer.
pub fn guarded_briefly(sql: &JobSql) -> String {
    format!("SET LOCAL lock_timeout = '{BATCH_MAX}'; {}", sql.guarded())
}

/// Cancels what the run of a job is doing, by the right to do so that the server gives; a row if there was one.
pub fn interrupt(id: i64) -> JobSql {
    JobSql(format!(
        "SELECT pg_catalog.pg_cancel_backend(j.backend_pid) FROM lockkeeper.job j WHERE j.id = {id} AND j.state = 'running' AND {}",
        goes_on("j")
    ))
}

/// As a literal.
pub(super) fn text_array(items: &[String]) -> String {
    array(items.iter().map(String::as_str))
}

fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.map(quote_literal).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", items.join(", "))
}

fn bytes(bytes: &[u8]) -> String {
    match bytes {
        [] => "NULL".into(),
        _ => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("pg_catalog.decode('{hex}', 'hex')")
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |i: usize| u8::from_str_radix(text.get(i..i + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_statement_has_the_same_identity() {
        let of = |text: &str, relation, types: &[u8], values: &[u8]| {
            identity(text, relation, types, values, &BTreeMap::new())
        };
        let simple = of("DELETE FROM t", 7, &[], &[]);
        assert_eq!(simple, of(" DELETE FROM t ", 7, &[0, 0], &[0, 0, 0, 0]));
        assert_ne!(simple, of("DELETE FROM t", 8, &[], &[]));
        assert_ne!(
            of("DELETE FROM t WHERE a = $1", 7, &[], &[0, 0, 0, 1, 0, 0, 0, 1, b'5']),
            of("DELETE FROM t WHERE a = $1", 7, &[], &[0, 0, 0, 1, 0, 0, 0, 1, b'6'])
        );
        let tenant = BTreeMap::from([("app.tenant".to_string(), "1".to_string())]);
        assert_ne!(simple, identity("DELETE FROM t", 7, &[], &[], &tenant));
    }

    #[test]
    fn every_statement_of_the_definition_parses() {
        let statements = create_statements();
        assert!(statements.len() > 10);
        for sql in statements {
            let parsed = pg_query::parse(sql, pg_query::ParserOptions::default())
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}");
        }
        assert!(create_statements().iter().any(|sql| sql.contains(VERSION)));
    }
}
