//! What cannot run inside the client's transaction is left for after its COMMIT: as a row of `lockkeeper.job` that the same
//! transaction writes, so that ROLLBACK takes it away with the rest. Pure.
//!
//! Start at [`Deferral`], which [`super::compose`] makes of a plan's long steps; [`behind`] is about later statements that
//! meet what waits. How a definition and the rows are proven before anything is accepted is in [`prove`].

pub mod behind;
pub mod exchange;
pub mod prove;

use super::ascii::{decoded, encoded};
use super::batches::Batches;
use super::catalog::Relation;
use super::jobs::{self, Access, JobSql, KEPT_SETTINGS, UNFINISHED, kept_settings};
use super::splice::{one_statement, quote_ident, quote_literal};
use super::step::{Cleanup, Mode, Step};
use super::waiting::{Details, Dropped, How, Stored, Waiting};
use pg_query::NodeEnum;
use pg_query::protobuf::AlterTableType;
use std::collections::BTreeMap;

/// The first half of a table's advisory lock, held by whoever defers something on the table until it is done: `lkjt`.
const TABLE_LOCK_CLASS: i32 = 0x6c6b_6a74;
/// The same of a shared one, held by a transaction that waits for a table's lock: `lkjw`. The server does not see that wait.
const TABLE_WAIT_CLASS: i32 = 0x6c6b_6a77;

/// What becomes of a statement that is not carried out at once.
#[derive(Clone, Debug)]
pub enum Deferral {
    New(Box<New>),
    /// A large UPDATE or DELETE in batches.
    Write(Box<Batches>),
    /// It waits already, from an earlier transaction: it is taken up.
    Adopt(i64),
    /// What these jobs were to make is not wanted any more.
    Withdraw(Vec<i64>),
}

/// A definition to be tried on an empty clone of the table, in `pg_temp`.
#[derive(Clone, Debug)]
pub struct Trial {
    pub sql: String,
    /// An error's position counts characters of the client's statement once so many are taken off, behind the first so many.
    pub position: Option<(usize, isize)>,
    /// The index that it brings.
    pub index: String,
    /// A primary key, of which a table has only one.
    pub primary: bool,
    /// Its effect may be there already: one boolean.
    pub done_when: Option<String>,
}

/// A job that is to be written.
#[derive(Clone, Debug)]
pub struct New {
    pub statement: String,
    pub relation: u32,
    pub schema: String,
    /// Its name without the schema.
    pub table: String,
    pub access: Access,
    /// Tried on an empty clone of the table first.
    pub trials: Vec<Trial>,
    /// The constraints that the steps of now add unvalidated.
    pub validates: Vec<Validates>,
    /// The steps of now add columns, so that nothing can be proven before them.
    pub adds_columns: bool,
    /// An UPDATE or DELETE of the table waits too: what is in the rows now proves nothing.
    pub rows_will_change: bool,
    /// Indexes and constraints, all in the table's schema.
    pub brings: Vec<String>,
    pub removes: Vec<String>,
    pub later: Vec<Step>,
    /// What the statement right before has dropped, and these steps take the place of.
    pub replaces: Option<Dropped>,
}

/// A constraint whose rows are looked at before the client is told that it is there.
#[derive(Clone, Debug)]
pub struct Validates {
    pub name: String,
    /// Of a helper for NOT NULL: what the server says of null values.
    pub null_message: Option<String>,
}

impl New {
    /// Of the steps that follow the first long one of a statement's parts. None: they cannot be deferred.
    pub fn of(statement: &str, relation: &Relation, access: Access, later: Vec<Step>, trials: Vec<Trial>) -> New {
        let mut new = New {
            statement: statement.trim().to_string(),
            relation: relation.oid,
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            access,
            trials,
            validates: Vec::new(),
            adds_columns: false,
            rows_will_change: false,
            brings: Vec::new(),
            removes: Vec::new(),
            later,
            replaces: None,
        };
        for step in &mut new.later {
            // The half-made constraint stays, enforced, until the job is done or given up.
            step.cleanup.take_if(|cleanup| cleanup.brief);
            match one_statement(&step.sql) {
                Some(NodeEnum::IndexStmt(index)) => {
                    step.done_when.get_or_insert(valid_index(relation.oid, &index.idxname));
                    new.brings.push(index.idxname);
                }
                Some(NodeEnum::AlterTableStmt(alter)) => {
                    for command in alter.cmds.iter().filter_map(|node| node.node.as_ref()) {
                        if let NodeEnum::AlterTableCmd(command) = command
                            && command.subtype() == AlterTableType::AtValidateConstraint
                        {
                            new.validates.push(Validates {
                                name: command.name.clone(),
                                null_message: step.null_message.clone(),
                            });
                        }
                    }
                }
                _ => {}
            }
        }
        new
    }

    /// For people: `public.books`.
    pub fn relation_name(&self) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(&self.table))
    }

    /// The hash by which the same statement sent again is known; `nth` of its like within its transaction, from 0.
    pub fn identity(&self, nth: usize) -> String {
        let nth = match nth {
            0 => BTreeMap::new(),
            n => BTreeMap::from([("nth".to_string(), n.to_string())]),
        };
        jobs::identity(&self.statement, self.relation, &[], &[], &nth)
    }

    /// Inserts the row: its ID.
    pub fn sql(&self, identity: &str) -> JobSql {
        let details = Details {
            steps: self.later.iter().filter_map(Stored::of).collect(),
            done: 0,
            schema: self.schema.clone(),
            table: self.table.clone(),
            brings: self.brings.clone(),
            removes: self.removes.clone(),
            write: false,
        };
        let kept = kept_settings(&format!("{KEPT_SETTINGS}, 'default_tablespace', 'backslash_quote'"));
        JobSql::new(format!(
            "INSERT INTO lockkeeper.job (kind, identity, state, runs, statement, settings, relation, relation_name, details, backend_pid, \
             application_name) SELECT 'deferred', {identity}, 'waiting', 0, {statement}, {kept}, {relation}, {name}, {details}::jsonb, pg_catalog.pg_backend_pid(), pg_catalog.current_setting('application_name') RETURNING id",
            identity = quote_literal(identity),
            statement = quote_literal(&self.statement),
            relation = self.relation,
            name = quote_literal(&self.relation_name()),
            details = quote_literal(&serde_json::to_string(&details).unwrap_or_default()),
        ))
    }
}

/// One boolean: whether no relation has that OID any more.
pub fn is_gone(oid: u32) -> String {
    format!("SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = {oid}::pg_catalog.oid)")
}

/// One boolean: whether the table has a valid index of that name.
fn valid_index(relation: u32, name: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = {relation}::pg_catalog.oid AND c.relname = {} AND i.indisvalid)",
        quote_literal(name)
    )
}

impl Stored {
    /// None: of a kind that is never deferred.
    fn of(step: &Step) -> Option<Stored> {
        let (how, then) = match &step.mode {
            Mode::Brief { then } => (How::Brief, then.clone()),
            Mode::Long { then } => (How::Long, then.clone()),
            Mode::Concurrent => (How::Concurrent, Vec::new()),
            Mode::Batches(_) | Mode::Rewrite(_) | Mode::Rows => return None,
        };
        let cleanup = step.cleanup.clone();
        Some(Stored {
            label: step.label.clone(),
            sql: step.sql.clone(),
            how,
            then,
            guard: step.guard.clone(),
            lock: step.lock,
            relation: step.relation.clone(),
            done_when: step.done_when.clone(),
            cleanup: cleanup.map(|c| (c.when, c.sql, c.told)),
            null_message: step.null_message.clone(),
            rollback: step.rollback.clone(),
        })
    }

    /// As it is run. The job's row counts it in the same transaction, or, if it runs in none, behind it: then whether its effect is
    /// there already is asked, but only if an earlier run may have come so far.
    pub fn step(&self, progress: &JobSql, again: bool) -> Step {
        let mut then = self.then.clone();
        then.extend(jobs::guards());
        then.push(progress.text().to_string());
        let transactional = self.how != How::Concurrent;
        Step {
            label: self.label.clone(),
            sql: self.sql.clone(),
            mode: match self.how {
                How::Brief => Mode::Brief { then },
                How::Long => Mode::Long { then },
                How::Concurrent => Mode::Concurrent,
            },
            guard: self.guard.clone(),
            lock: self.lock,
            relation: self.relation.clone(),
            done_when: self.done_when.clone().filter(|_| again && !transactional),
            cleanup: self.cleanup.clone().map(|(when, sql, told)| Cleanup {
                when,
                sql,
                brief: false,
                told,
                also: None,
            }),
            null_message: self.null_message.clone(),
            rollback: self.rollback.clone(),
            contract: None,
        }
    }

    pub fn is_concurrent(&self) -> bool {
        self.how == How::Concurrent
    }

    /// It is an exchange's last step and nothing else.
    fn only_drops(&self) -> bool {
        self.how == How::Brief
            && (self.sql.contains(" DROP CONSTRAINT IF EXISTS ")
                || matches!(one_statement(&self.sql), Some(NodeEnum::DropStmt(_))))
    }

    /// It drops an index.
    pub fn removes(&self) -> bool {
        matches!(one_statement(&self.sql), Some(NodeEnum::DropStmt(_)))
    }
}

/// What [`waiting`] tells of its rows.
const TOLD: &str = "coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('id', id, 'statement', statement, 'identity', identity, 'state', \
     state, 'error', error, 'relation', relation::int8, 'there', EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = relation), 'runs', runs, \
     'bytes', coalesce((SELECT greatest(c.relpages, 0)::int8 * pg_catalog.current_setting('block_size')::int8 FROM pg_catalog.pg_class c \
     WHERE c.oid = relation), 0), 'rows', (SELECT c.reltuples FROM pg_catalog.pg_class c WHERE c.oid = relation AND c.reltuples >= 0 \
     AND c.relpages > 0), \
     'settings', settings, 'details', details || pg_catalog.jsonb_build_object('done', CASE kind WHEN 'deferred' THEN keys_done ELSE 0 END)) ORDER BY id), '[]'::json)";

/// Which rows these are.
const THEIRS: &str = "owner = current_user AND (kind = 'deferred' OR details @> '{\"write\": true}')";

/// One row with one column, for [`decode`]: all of them in order, or those of the list.
pub fn waiting(ids: Option<&[i64]>) -> JobSql {
    let which = match ids {
        None => String::new(),
        Some([]) => " AND false".to_string(),
        Some(ids) => {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!(" AND id IN ({})", ids.join(", "))
        }
    };
    JobSql::new(format!(
        "SELECT {} FROM lockkeeper.job WHERE {THEIRS} AND {UNFINISHED}{which}",
        encoded(TOLD)
    ))
}

/// All of them, or NULL where the table is of another version or the role may not write it: with its guards it says of the table all that
/// [`jobs::TRUST`] does, if that is [good](jobs::JobTable::good).
pub fn waiting_if_good() -> JobSql {
    JobSql::new(format!(
        "SELECT CASE WHEN pg_catalog.obj_description('lockkeeper.job'::regclass, 'pg_class') = {} \
         AND pg_catalog.has_any_column_privilege('lockkeeper.job', 'INSERT') AND pg_catalog.has_any_column_privilege('lockkeeper.job', 'UPDATE') \
         THEN {} END FROM lockkeeper.job WHERE {THEIRS} AND {UNFINISHED}",
        quote_literal(jobs::VERSION),
        encoded(TOLD)
    ))
}

pub fn decode(answer: &str) -> Result<Vec<Waiting>, String> {
    decoded(answer).map_err(|error| format!("a row of lockkeeper.job cannot be read: {error}"))
}

/// One boolean: whether `lockkeeper.job` is there, so that it can be asked, of this version, and nobody's whom the role need not trust.
pub fn is_usable() -> String {
    format!(
        "SELECT EXISTS (SELECT FROM ({}) t(j) WHERE t.j ->> 'comment' = {} AND t.j ->> 'distrust' IS NULL AND t.j ->> 'usable' = 'true')",
        jobs::TRUST,
        quote_literal(jobs::VERSION)
    )
}

/// One boolean: whether whoever is the session's role could do all that the session can. What a role has left in `lockkeeper.job` is code
/// of its own, and SET ROLE is taken back with RESET ROLE: in a session that has logged in as somebody with other rights it would
/// run with these.
pub const LENDS_NOTHING: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles me CROSS JOIN (\
     SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user UNION \
     SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a WHERE a.usesysid IS NOT NULL) s(oid) \
     WHERE me.rolname = current_user AND NOT pg_catalog.pg_has_role(me.oid, s.oid, 'USAGE') \
     AND NOT pg_catalog.pg_has_role(me.oid, s.oid, CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 \
     THEN 'SET' ELSE 'MEMBER' END))";

/// One boolean: nobody who has logged in here is a superuser. A member of the owner who resumes a job by its number lends its rights
/// knowingly; a superuser's are everybody's.
pub const LENDS_NO_SUPERUSER: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolsuper AND (r.rolname = session_user \
     OR r.oid IN (SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a WHERE a.usesysid IS NOT NULL)))";

/// So many steps are done.
pub fn progress(id: i64, done: usize) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET keys_done = {done}, heartbeat_at = \
         pg_catalog.clock_timestamp() WHERE id = {id} AND owner = current_user"
    ))
}

/// One boolean: whether nobody has paused or cancelled it.
pub fn goes_on(id: i64) -> JobSql {
    JobSql::new(format!(
        "SELECT EXISTS (SELECT FROM lockkeeper.job WHERE id = {id} AND owner = current_user AND state = 'running')"
    ))
}

pub fn finish(id: i64, state: &str) -> JobSql {
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = {}, answered = true, error = NULL, finished_at = pg_catalog.clock_timestamp() \
         WHERE id = {id} AND owner = current_user AND {UNFINISHED}",
        quote_literal(state)
    ))
}

pub fn withdraw(ids: &[i64]) -> JobSql {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    JobSql::new(format!(
        "UPDATE lockkeeper.job SET state = 'cancelled', error = 'taken back by its own transaction', finished_at = pg_catalog.clock_timestamp() \
         WHERE owner = current_user AND kind = 'deferred' AND state = 'waiting' AND id IN ({})",
        ids.join(", ")
    ))
}

/// One boolean: whether the transaction now holds the table's lock. Others that defer something there wait for its end.
pub fn lock_table_for_transaction(relation: u32) -> String {
    lock_or_stranger("pg_try_advisory_xact_lock", relation)
}

/// The same for the session.
pub fn lock_table(relation: u32) -> String {
    lock_or_stranger("pg_try_advisory_lock", relation)
}

/// Anybody may take an advisory lock. One that is held by a role which can neither change the table's definition nor its rows stops
/// nobody.
fn lock_or_stranger(function: &str, relation: u32) -> String {
    format!(
        "SELECT CASE WHEN pg_catalog.{function}({TABLE_LOCK_CLASS}, {}) THEN true ELSE coalesce((SELECT pg_catalog.bool_and(NOT \
         (pg_catalog.pg_has_role(a.usesysid, c.relowner, 'MEMBER') OR pg_catalog.has_any_column_privilege(a.usesysid, c.oid, 'UPDATE') \
         OR pg_catalog.has_table_privilege(a.usesysid, c.oid, 'DELETE'))) FROM pg_catalog.pg_locks l CROSS JOIN LATERAL \
         pg_catalog.pg_stat_get_activity(l.pid) a JOIN pg_catalog.pg_class c ON c.oid = l.objid WHERE l.locktype = 'advisory' AND l.granted \
         AND l.classid = {TABLE_LOCK_CLASS}::pg_catalog.oid AND l.objid = {relation}::pg_catalog.oid AND l.objsubid = 2 AND l.pid IS NOT NULL \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())), false) END",
        relation as i32
    )
}

pub fn unlock_table(relation: u32) -> String {
    format!(
        "SELECT pg_catalog.pg_advisory_unlock({TABLE_LOCK_CLASS}, {})",
        relation as i32
    )
}

/// Who holds it, for people.
pub fn table_lock_holder(relation: u32) -> String {
    format!(
        "SELECT pg_catalog.format('%s (%s)', l.pid, a.application_name) FROM pg_catalog.pg_locks l LEFT JOIN \
         pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.classid = {TABLE_LOCK_CLASS}::oid \
         AND l.objid = {relation}::oid AND l.objsubid = 2 AND l.granted AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d \
         WHERE d.datname = pg_catalog.current_database()) LIMIT 1"
    )
}

/// The transaction says, up to its end, that it waits for the table's lock.
pub fn say_that_it_waits(relation: u32) -> String {
    format!(
        "SELECT pg_catalog.pg_try_advisory_xact_lock_shared({TABLE_WAIT_CLASS}, {})",
        relation as i32
    )
}

/// One boolean: whether whoever holds the table's lock waits in turn, perhaps by way of others, for this transaction. Of several
/// transactions in such a circle that wait for tables the one with the greatest PID is told.
pub fn is_waited_for(relation: u32) -> String {
    format!(
        "WITH RECURSIVE told AS MATERIALIZED (SELECT l.pid, l.classid::int8 AS class, l.objid FROM pg_catalog.pg_locks l \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid IN ({TABLE_LOCK_CLASS}::oid, \
         {TABLE_WAIT_CLASS}::oid) AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d \
         WHERE d.datname = pg_catalog.current_database())), \
         chain(pid) AS (SELECT h.pid FROM told h WHERE h.class = {TABLE_LOCK_CLASS} AND h.objid = {relation}::oid \
         AND h.pid <> pg_catalog.pg_backend_pid() \
         UNION SELECT n.pid FROM chain c CROSS JOIN LATERAL (SELECT pg_catalog.unnest(pg_catalog.pg_blocking_pids(c.pid)) AS pid \
         UNION ALL SELECT h.pid FROM told w JOIN told h ON h.objid = w.objid AND h.class = {TABLE_LOCK_CLASS} AND h.pid <> w.pid \
         WHERE w.class = {TABLE_WAIT_CLASS} AND w.pid = c.pid) n) \
         SELECT pg_catalog.pg_backend_pid() IN (SELECT c.pid FROM chain c) AND pg_catalog.pg_backend_pid() >= \
         (SELECT max(w.pid) FROM chain c JOIN told w ON w.pid = c.pid AND w.class = {TABLE_WAIT_CLASS})"
    )
}

/// Sessions that are idle in a transaction which a concurrent step on the table waits for: `pid 7 (ann psql, …)`, and whether one of
/// them holds a lock on the table, not only an old snapshot. A build waits for writers and for old snapshots, a removal also for
/// readers. Whoever waits for the table's lock is left out: that one gives way ([`is_waited_for`]).
pub fn idle_holders(relation: u32, removes: bool) -> String {
    let (reads, snapshots) = match removes {
        true => ("'AccessShareLock', 'RowShareLock', ", "false"),
        false => ("", "a.backend_xmin IS NOT NULL"),
    };
    format!(
        "SELECT pg_catalog.string_agg(pg_catalog.format('pid %s (%s%s, idle in its transaction for %s s)', a.pid, a.usename, \
         CASE WHEN a.application_name <> '' THEN ' ' || a.application_name ELSE '' END, \
         pg_catalog.round(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.state_change))), ', '), pg_catalog.bool_or(x.locks) \
         FROM pg_catalog.pg_stat_activity a CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l \
         WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted AND l.relation = {relation}::oid AND l.database = a.datid \
         AND l.mode IN ({reads}'RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', \
         'ExclusiveLock', 'AccessExclusiveLock')) AS locks) x \
         WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() \
         AND a.state LIKE 'idle in transaction%' AND (x.locks OR {snapshots}) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks w WHERE w.pid = a.pid AND w.locktype = 'advisory' AND w.granted \
         AND w.classid = {TABLE_WAIT_CLASS}::oid AND w.objid = {relation}::oid AND w.objsubid = 2 AND w.database = a.datid)"
    )
}

/// One boolean: whether the transaction holds a lock that stops others on a relation that it has not made itself. The row of a
/// system column is written when the relation is created and never again.
pub const HOLDS_LOCKS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_attribute a ON a.attrelid = l.relation \
     AND a.attnum = -1 WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.granted AND l.relation >= 16384 \
     AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
     AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
     AND a.xmin::text::int8 < (pg_catalog.pg_current_xact_id()::text::int8 & 4294967295))";

/// One boolean: whether the transaction has written to the table.
pub fn has_written(relation: u32) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() \
         AND l.relation = {relation}::oid AND l.mode = 'RowExclusiveLock')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_one_statement() {
        let all = [
            waiting(None).text().to_string(),
            waiting(Some(&[1, 2])).text().to_string(),
            is_usable(),
            progress(7, 2).text().to_string(),
            goes_on(7).text().to_string(),
            finish(7, "done").text().to_string(),
            withdraw(&[7]).text().to_string(),
            lock_table_for_transaction(u32::MAX),
            lock_table(5),
            unlock_table(5),
            table_lock_holder(5),
            say_that_it_waits(5),
            is_waited_for(5),
            idle_holders(5, true),
            idle_holders(5, false),
            HOLDS_LOCKS.to_string(),
            has_written(5),
        ];
        for sql in all {
            assert!(one_statement(&sql).is_some(), "{sql}");
        }
    }
}
