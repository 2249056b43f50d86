//! INSERTs that change other rows by a rule (CREATE RULE), or by ON CONFLICT DO UPDATE of a key that foreign keys follow (ON UPDATE
//! CASCADE). Only where a database has such a rule or key is an INSERT looked at.

use crate::ascii::decoded;
use crate::mixed;
use crate::statement::Statement;
use crate::words::mentions;
use serde::Deserialize;
use std::collections::HashMap;

/// One row. Asked with a search_path of `pg_catalog, pg_temp`; it needs no right on the relations, and waits for no lock.
pub const SQL: &str = include_str!("firing.sql");

/// Names of the relations whose rules do so, whatever their schemas are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Firing {
    names: Vec<String>,
    /// Of tables, whatever their schemas are: the columns that such foreign keys refer to.
    keys: HashMap<String, Vec<String>>,
}

impl Firing {
    pub fn decode(answer: Option<&str>) -> Result<Firing, String> {
        decoded(answer.unwrap_or_default())
    }

    /// There are no such rules.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// One of the names may be in the text. Too many texts are better than too few.
    pub fn may_concern(&self, text: &[u8]) -> bool {
        // A name that is written as it is, and not U&"\0061" or with a quote doubled.
        let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_in = |name: &String| !is_plain(name) || mentions(text, &name.to_ascii_lowercase());
        let may_replace = || self.has_keys() && mentions(text, "conflict");
        !self.names.is_empty() && (mentions(text, "u&") || self.names.iter().any(is_in))
            || may_replace() && (mentions(text, "u&") || self.keys.keys().any(is_in))
    }

    /// The statement inserts into one of them, itself or within what it carries out.
    pub fn concerns(&self, statement: &Statement) -> bool {
        let by_rule = || {
            mixed::inserted(&statement.node)
                .iter()
                .any(|name| self.names.contains(&name.name))
        };
        let writes_key = |(table, columns): (String, Vec<String>)| {
            self.keys
                .get(&table)
                .is_some_and(|keys| columns.iter().any(|column| keys.contains(column)))
        };
        !self.names.is_empty() && by_rule()
            || self.has_keys() && mixed::written_by_inserts(&statement.node).into_iter().any(writes_key)
    }
}
