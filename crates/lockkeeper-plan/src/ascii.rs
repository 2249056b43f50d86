//! Answers in ASCII to questions of our own: the client's encoding may lack characters of names and texts that the client never
//! wrote, and the server would refuse to send them (22P05), or what came would be read as other characters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

/// An expression of type text, for [`decoded`], of one of type json or jsonb.
pub fn encoded(json: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.convert_to(({json})::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' \
         THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64')"
    )
}

pub fn decoded<T: DeserializeOwned>(answer: &str) -> Result<T, String> {
    // encode() breaks it into lines. In a database in SQL_ASCII any bytes may be in it.
    let lines: String = answer.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(lines).map_err(|error| error.to_string())?;
    serde_json::from_str(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string())
}
