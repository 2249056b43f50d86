//! Byte edits of the client's text at the scanner's token offsets, and the proof that only the intended change happened.
//!
//! Every function returns None where the change could not be proven: the edited text is parsed again, and its tree must
//! be the old tree plus exactly the intended field. Nothing is ever printed from a tree.

/// `CREATE INDEX`, `DROP INDEX`, `REINDEX` or `REFRESH MATERIALIZED VIEW` in its concurrent form.
pub fn concurrently(_sql: &str) -> Option<String> {
    None
}

/// Names an unnamed `CREATE INDEX`.
pub fn index_name(_sql: &str, _name: &str) -> Option<String> {
    None
}

/// `CREATE INDEX IF NOT EXISTS i` as `CREATE INDEX i`.
pub fn without_if_not_exists(_sql: &str) -> Option<String> {
    None
}

/// Appends NOT VALID to the one `ADD … CHECK` or `ADD … FOREIGN KEY` of an ALTER TABLE, or of an action's text (`ADD CHECK (…)`).
pub fn not_valid(_sql: &str) -> Option<String> {
    None
}

/// Gives the one unnamed table constraint that an ALTER TABLE (or an action's text) adds a name.
pub fn constraint_name(_sql: &str, _name: &str) -> Option<String> {
    None
}

/// The identifier, quoted unless it is lower case and no keyword.
pub fn quote_ident(name: &str) -> String {
    let plain = name
        .bytes()
        .enumerate()
        .all(|(i, b)| b.is_ascii_lowercase() || b == b'_' || (i > 0 && b.is_ascii_digit()));
    let keyword = || match pg_query::scan_tokens(name) {
        Ok(tokens) => tokens.len() != 1 || tokens[0].keyword_kind != 0,
        Err(_) => true,
    };
    if plain && !name.is_empty() && !keyword() {
        return name.to_string();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever standard_conforming_strings is.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// `schema.name`, each quoted where needed.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}
