//! Answers in ASCII to questions of our own: the client's encoding may lack characters of names and texts that the client never
//! wrote, and the server would refuse to send them (22P05), or what came would be read as other characters.

use super::facts::json_of;
use serde::de::DeserializeOwned;

/// An expression of type text, for [`decoded`], of one of type json or jsonb.
pub fn encoded(json: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.convert_to(({json})::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' \
         THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64')"
    )
}

pub fn decoded<T: DeserializeOwned>(answer: &str) -> Result<T, String> {
    serde_json::from_str(&json_of(answer)?).map_err(|error| error.to_string())
}
