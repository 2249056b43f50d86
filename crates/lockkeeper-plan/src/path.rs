//! The search_path of what is ours. Whoever may create in a schema of the client's could otherwise have an operator, function or type of his
//! own called with the client's rights.

use super::splice::quote_literal;

/// Temporary objects are named last, since they would be looked for first.
pub const OURS: &str = "pg_catalog, pg_temp";

/// In front of a step's statement: it is run with our search_path instead of the client's.
pub const PRINTED: &str = "/* search_path = pg_catalog, pg_temp */ ";

/// What every question of ours is asked with besides. Of a table of many partitions the planner expects so much that the JIT compiler would
/// work for seconds on a question that takes milliseconds. And what the server prints is read here: names are quoted only where they must be.
pub const ANY: &[(&str, &str)] = &[("jit", "'off'"), ("quote_all_identifiers", "'off'")];

/// What a long question to the catalog is asked with besides, and why. In a database of many tables the planner expects far more rows of it
/// than come: the JIT compiler would work on it for seconds, and hash tables of the size of work_mem would be laid out for nothing. Its plan
/// is kept, and may have been made while the catalogs were small enough to be read whole. And a client that gives its own statements little
/// time does not mean our questions.
///
/// The expressions are safe with any path; CASE x WHEN y would look for its operator by the client's.
pub const CATALOG: &[(&str, &str)] = &[
    ("jit", "'off'"),
    ("quote_all_identifiers", "'off'"),
    ("work_mem", "'64kB'"),
    ("enable_seqscan", "'off'"),
    (
        "statement_timeout",
        "CASE WHEN pg_catalog.current_setting('statement_timeout') OPERATOR(pg_catalog.=) '0' THEN '0' ELSE '60s' END",
    ),
];

/// A prepared statement that is bound now gets the plan that is made once for all values. Safe with any path.
pub const ONE_PLAN: &str = "SELECT pg_catalog.set_config('lockkeeper.plan_cache_mode', pg_catalog.current_setting('plan_cache_mode'), true), \
     pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)";

/// Puts the client's way back.
pub const ANY_PLAN: &str =
    "SELECT pg_catalog.set_config('plan_cache_mode', pg_catalog.current_setting('lockkeeper.plan_cache_mode'), true)";

/// Keeps the client's search_path, finds what it decides, and sets ours, for the transaction. `ahead`: names below `lockkeeper.`, and
/// expressions of type text that are safe with any path. `others`: further settings, kept and set in the same way.
pub fn to_ours(ahead: &[(&'static str, String)], others: &[(&str, &str)]) -> String {
    let set = |name: &str, expression: &str| format!("pg_catalog.set_config('{name}', {expression}, true)");
    let keep = |name: &str| {
        set(
            &format!("lockkeeper.{name}"),
            &format!("pg_catalog.current_setting('{name}')"),
        )
    };
    let mut all = vec![keep("search_path")];
    all.extend(others.iter().map(|(name, _)| keep(name)));
    all.extend(
        ahead
            .iter()
            .map(|(name, expression)| set(&format!("lockkeeper.{name}"), expression)),
    );
    all.extend(others.iter().map(|(name, expression)| set(name, expression)));
    all.push(set("search_path", &format!("'{OURS}'")));
    format!("SELECT {}", all.join(", "))
}

/// It sets what a question of ours reads, as [`to_ours`] does: more can be put to its end, if it is safe with any path.
pub fn is_ahead(sql: &str) -> bool {
    sql.starts_with("SELECT pg_catalog.set_config('lockkeeper.")
}

/// Divides by zero where a statement of that name was prepared in SQL. Safe with any path.
pub fn guard(name: &str) -> String {
    format!(
        "1 OPERATOR(pg_catalog./) CASE WHEN (SELECT p.from_sql FROM pg_catalog.pg_prepared_statements p \
         WHERE p.name OPERATOR(pg_catalog.=) {}) THEN 0 ELSE 1 END",
        quote_literal(name)
    )
}

/// Puts the client's back.
pub fn back(others: &[(&str, &str)]) -> String {
    let put =
        |name: &str| format!("pg_catalog.set_config('{name}', pg_catalog.current_setting('lockkeeper.{name}'), true)");
    let all: Vec<String> = std::iter::once("search_path")
        .chain(others.iter().map(|(name, _)| *name))
        .map(put)
        .collect();
    format!("SELECT {}", all.join(", "))
}
