//! What the catalog is asked about a table that is to be rewritten, each a query with one row and one column.

use super::Schemas;
use crate::splice::{filled, quote_literal};

/// The class of the advisory locks on foreign keys: `lkfk`.
const FOREIGN_KEYS: i32 = 0x6c6b_666b;

fn of(text: &str, table: u32, schemas: Schemas) -> String {
    in_schema(text, table, &schemas.fresh(), &schemas.old())
}

fn in_schema(text: &str, table: u32, new: &str, old: &str) -> String {
    let values = [
        ("{table}", table.to_string()),
        ("{new}", quote_literal(new)),
        ("{old}", quote_literal(old)),
    ];
    filled(text.trim_end(), &values)
}

/// A [`super::facts::Table`] as JSON.
pub fn facts(table: u32) -> String {
    in_schema(include_str!("facts.sql"), table, "", "")
}

/// Texts for people: why it is not rewritten. None: it can be.
pub fn refusals(table: u32, schemas: Schemas) -> String {
    of(include_str!("refusals.sql"), table, schemas)
}

/// Statements that make the new table.
pub fn like(table: u32, schemas: Schemas) -> String {
    of(include_str!("like.sql"), table, schemas)
}

/// A [`super::scheme::Index`] for each index.
pub fn indexes(table: u32, schemas: Schemas) -> String {
    indexes_of(table, schemas, false)
}

/// The same for a partitioned table, whose constraints are added whole.
pub fn indexes_whole(table: u32, schemas: Schemas) -> String {
    indexes_of(table, schemas, true)
}

fn indexes_of(table: u32, schemas: Schemas, whole: bool) -> String {
    of(
        &include_str!("indexes.sql").replace("{whole}", &whole.to_string()),
        table,
        schemas,
    )
}

/// Statements that make the extended statistics.
pub fn statistics(table: u32, schemas: Schemas) -> String {
    of(include_str!("statistics.sql"), table, schemas)
}

/// A [`super::scheme::Attached`].
pub fn attached(table: u32, schemas: Schemas) -> String {
    of(include_str!("attached.sql"), table, schemas)
}

/// A [`super::scheme::Description`].
pub fn describe(table: u32, schemas: Schemas) -> String {
    of(include_str!("describe.sql"), table, schemas)
}

/// One text, that of another moment as long as nothing of the table's definition has changed.
pub fn fingerprint(table: u32, schemas: Schemas) -> String {
    of(include_str!("fingerprint.sql"), table, schemas)
}

/// Sessions that hold a snapshot now, apart from those two: what can be compared at the next look, who it is, and whether it waits for a lock on
/// the table. Of others' sessions a plain role is told the snapshot, and not what they are.
pub fn snapshots(own: [i32; 2], table: u32) -> String {
    format!(
        "SELECT format('%s %s %s', a.pid, a.backend_xmin, a.xact_start), format('process %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), a.usename::text)), \
         EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted AND l.relation = {table}) \
         FROM pg_stat_activity a WHERE a.backend_xmin IS NOT NULL AND a.datname = current_database() AND a.pid NOT IN ({}, {}) \
         AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'autovacuum launcher')",
        own[0], own[1]
    )
}

/// Volatile functions that the rows of the new table are made with, as the server itself has read them: names, or no value.
pub fn volatile(schemas: Schemas) -> String {
    format!(
        "SELECT string_agg(DISTINCT p.oid::regprocedure::text, ', ') FROM pg_rewrite r, regexp_matches(r.ev_action::text, ':[a-z]*(?:funcid|fnoid) ([0-9]+)', 'g') m \
         JOIN pg_proc p ON p.oid = m[1]::oid WHERE r.ev_class = to_regclass({}) AND p.provolatile = 'v'",
        quote_literal(&schemas.of("f"))
    )
}

/// Takes what only one rewrite at a time may have, for as long as the session lasts: the foreign keys of the table, each of which is one of another
/// table too. The other table of the first that another session has, or no row.
pub fn take_foreign_keys(table: u32) -> String {
    format!(
        "SELECT format('%s, by the foreign key %s', CASE k.conrelid WHEN {table} THEN k.confrelid ELSE k.conrelid END::regclass, k.conname) \
         FROM (SELECT k.* FROM pg_constraint k WHERE k.contype = 'f' AND (k.conrelid = {table} OR k.confrelid = {table}) ORDER BY k.oid OFFSET 0) k \
         WHERE NOT pg_try_advisory_lock({FOREIGN_KEYS}, k.oid::int8::bit(32)::int4) LIMIT 1"
    )
}

/// Lets go what [`take_foreign_keys`] has taken in this session, for a session that lives on.
pub fn let_foreign_keys_go() -> String {
    format!(
        "SELECT pg_advisory_unlock({FOREIGN_KEYS}, l.objid::int8::bit(32)::int4) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 2 \
         AND l.granted AND l.pid = pg_backend_pid() AND l.classid = {FOREIGN_KEYS}::int8::oid"
    )
}

/// Whether the table stands where a swap has put it.
pub fn is_replaced(table: u32, schemas: Schemas) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table} AND n.nspname = {})",
        quote_literal(&schemas.old())
    )
}
