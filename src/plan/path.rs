//! The search_path of what is ours. Whoever may create in a schema of the client's could otherwise have an operator, function or type of his
//! own called with the client's rights.

/// Temporary objects are named last, since they would be looked for first.
pub const OURS: &str = "pg_catalog, pg_temp";

/// In front of a step's statement: it is run with our search_path instead of the client's.
pub const PRINTED: &str = "/* search_path = pg_catalog, pg_temp */ ";

/// Keeps the client's search_path, finds what it decides, and sets ours, for the transaction. `ahead`: names below `lockkeeper.`, and
/// expressions of type text that are safe with any path.
pub fn to_ours(ahead: &[(&'static str, String)]) -> String {
    let mut set = vec![
        "pg_catalog.set_config('lockkeeper.search_path', pg_catalog.current_setting('search_path'), true)".to_string(),
    ];
    let found =
        |(name, expression): &(&str, String)| format!("pg_catalog.set_config('lockkeeper.{name}', {expression}, true)");
    set.extend(ahead.iter().map(found));
    set.push(format!("pg_catalog.set_config('search_path', '{OURS}', true)"));
    format!("SELECT {}", set.join(", "))
}

/// Puts the client's back.
pub const BACK: &str =
    "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('lockkeeper.search_path'), true)";
