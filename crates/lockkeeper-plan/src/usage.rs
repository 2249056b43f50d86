//! The SQL of `lockkeeper.usage`, in which all proxies in front of a server keep together who used what.
//!
//! It is written by the control connections alone. Every name is written with its schema; they run with our search_path.

use super::splice::{quote_ident, quote_literal};

/// In which it is kept.
pub const TABLES: [&str; 2] = ["usage", "usage_watch"];

/// Creates these and `lockkeeper.told` where they are missing, for one transaction, and lets that role keep them.
pub fn create_statements(role: &str) -> Vec<String> {
    let made = include_str!("usage.sql").split(";\n").map(|sql| sql.trim().to_owned());
    let role = quote_ident(role);
    made.filter(|sql| !sql.is_empty())
        .chain([
            format!("GRANT USAGE ON SCHEMA lockkeeper TO {role}"),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON lockkeeper.usage, lockkeeper.usage_watch, lockkeeper.told TO {role}"),
        ])
        .collect()
}

fn named(tables: &[&str]) -> String {
    let names: Vec<String> = tables.iter().map(|name| quote_literal(name)).collect();
    names.join(", ")
}

/// One boolean: they are all there.
pub fn are_there(tables: &[&str]) -> String {
    format!(
        "SELECT pg_catalog.count(*) = {} FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'lockkeeper' AND c.relname IN ({})",
        tables.len(),
        named(tables)
    )
}

/// Nobody adds a trigger, a rule or a policy to them before the transaction's end. `mode`: what is done then.
pub fn lock(tables: &[&str], mode: &str) -> String {
    let names: Vec<String> = tables.iter().map(|name| format!("lockkeeper.{name}")).collect();
    format!("LOCK TABLE {} IN {mode} MODE", names.join(", "))
}

/// Why the session must not write to them, in one row; NULL: it may. What is written runs the code of whoever owns them, or has put a
/// trigger on them.
pub fn distrust(tables: &[&str]) -> String {
    format!(
        "SELECT min(CASE WHEN c.relkind <> 'r' THEN c.relname || ' is no table' \
         WHEN NOT o.rolsuper AND NOT pg_catalog.pg_has_role(c.relowner, r.oid, 'USAGE') THEN c.relname || ' belongs to ' || o.rolname \
         WHEN c.relhastriggers OR c.relhasrules OR c.relhassubclass OR c.relrowsecurity THEN c.relname || ' has a trigger, rule, child or policy' END) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles o ON o.oid = c.relowner, \
         pg_catalog.pg_roles r WHERE n.nspname = 'lockkeeper' AND c.relname IN ({}) AND r.rolname = current_user",
        named(tables)
    )
}

/// Adds uses, an array a column; what another proxy has added meanwhile stays. In the order of the key, so that two proxies never wait for
/// each other.
pub const ADD: &str = "INSERT INTO lockkeeper.usage AS u SELECT * FROM (SELECT d, s, r, c, a, o, pg_catalog.to_timestamp(f), \
     pg_catalog.to_timestamp(l), pg_catalog.to_timestamp(w), n, t FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), \
     pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]), \
     pg_catalog.unnest($7::float8[]), pg_catalog.unnest($8::float8[]), pg_catalog.unnest($9::float8[]), \
     pg_catalog.unnest($10::int8[]), pg_catalog.unnest($11::text[])) \
     x(d, s, r, c, a, o, f, l, w, n, t) \
     ORDER BY r, s, c, d, a, o) y \
     ON CONFLICT (relation, schema, column_name, database, application, role_name) DO UPDATE SET \
     first_used = LEAST(u.first_used, EXCLUDED.first_used), last_used = GREATEST(u.last_used, EXCLUDED.last_used), \
     last_written = GREATEST(u.last_written, EXCLUDED.last_written), executions = u.executions + EXCLUDED.executions, \
     statement = CASE WHEN EXCLUDED.last_used >= u.last_used THEN EXCLUDED.statement ELSE u.statement END";

/// This proxy watches, since when, and these server processes are its sessions'.
pub const WATCH: &str = "INSERT INTO lockkeeper.usage_watch AS w VALUES ($1, pg_catalog.to_timestamp($2::float8), pg_catalog.now(), $3::int4[]) \
     ON CONFLICT (proxy) DO UPDATE SET until = EXCLUDED.until, pids = EXCLUDED.pids";

/// Uses and watches that nobody asks for any more.
pub const FORGET: [&str; 2] = [
    "DELETE FROM lockkeeper.usage WHERE last_used < pg_catalog.now() - '400 days'::interval",
    "DELETE FROM lockkeeper.usage_watch WHERE until < pg_catalog.now() - '400 days'::interval",
];

/// The uses of these relations (of all, where there is none), and of statements that could not be read, newest first.
pub const USES: &str = "SELECT u.database, u.schema, u.relation, u.column_name, u.application, u.role_name, \
     EXTRACT(epoch FROM u.first_used)::int8, EXTRACT(epoch FROM u.last_used)::int8, EXTRACT(epoch FROM u.last_written)::int8, \
     u.executions, u.statement FROM lockkeeper.usage u \
     WHERE pg_catalog.cardinality($1::text[]) = 0 OR u.relation = '' OR u.relation = ANY ($1::text[]) \
     ORDER BY u.last_used DESC LIMIT 100000";

/// When proxies have watched, in seconds since 1970.
pub const WATCHES: &str = "SELECT EXTRACT(epoch FROM w.since)::int8, EXTRACT(epoch FROM w.until)::int8 FROM lockkeeper.usage_watch w ORDER BY w.since";

/// Server processes of sessions of other proxies that watch now. One that has come since its proxy has told of it is not among them.
pub const OTHERS: &str = "SELECT a.pid FROM lockkeeper.usage_watch w CROSS JOIN LATERAL pg_catalog.unnest(w.pids) p(pid) \
     JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid AND a.backend_start <= w.until \
     WHERE w.until > pg_catalog.now() - '20 seconds'::interval";

/// Columns of tables of these names in this database: schema, table, column.
pub const COLUMNS: &str = "SELECT n.nspname::text, c.relname::text, t.attname::text FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid \
     WHERE c.relname = ANY ($1::text[]::name[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND t.attnum > 0 AND NOT t.attisdropped \
     ORDER BY 1, 2, t.attnum LIMIT 5000";
