//! INSERTs that change other rows by a rule (CREATE RULE). Only where a database has such a rule is an INSERT looked at.

use crate::ascii::decoded;
use crate::mixed;
use crate::statement::{Statement, mentions};

/// One row. Asked with a search_path of `pg_catalog, pg_temp`; it needs no right on the relations, and waits for no lock.
pub const SQL: &str = include_str!("firing.sql");

/// Names of the relations whose rules do so, whatever their schemas are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firing {
    names: Vec<String>,
}

impl Firing {
    pub fn decode(answer: Option<&str>) -> Result<Firing, String> {
        Ok(Firing {
            names: decoded(answer.unwrap_or_default())?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// One of the names may be in the text. Too many texts are better than too few.
    pub fn may_concern(&self, text: &[u8]) -> bool {
        // A name that is written as it is, and not U&"\0061" or with a quote doubled.
        let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_in = |name: &String| !is_plain(name) || mentions(text, &name.to_ascii_lowercase());
        !self.names.is_empty() && (mentions(text, "u&") || self.names.iter().any(is_in))
    }

    /// The statement inserts into one of them, itself or within what it carries out.
    pub fn concerns(&self, statement: &Statement) -> bool {
        !self.names.is_empty()
            && mixed::inserted(&statement.node)
                .iter()
                .any(|name| self.names.contains(&name.name))
    }
}
