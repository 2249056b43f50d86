//! What the actions of an ALTER TABLE would do to the rows: tried on an empty copy of the table and undone.
//!
//! [`Question::sql`] copies the table, with its indexes and constraints, into a temporary one that belongs to the same owner, has each
//! action carried out on it, and looks for the signs: another file, another index's file, a scan. It raises no error, holds no lock but
//! ACCESS SHARE, and leaves its answer for [`ANSWER`]. What the server says so is believed; where it says nothing, the rules go by what
//! they know of old, and in doubt take a statement for the worse.

use super::ascii::decoded;
use super::splice::{filled, quote_literal};
use serde::Deserialize;
use std::collections::HashMap;

const TRIAL: &str = include_str!("trial.sql");

/// One row with one column, for [`Question::decode`].
pub const ANSWER: &str = "SELECT pg_catalog.current_setting('lockkeeper.trial', true)";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub table: u32,
    /// ALTER TABLE ONLY.
    pub only: bool,
    pub actions: Vec<Asked>,
    /// Constraints that the same statement drops, which PostgreSQL does first.
    pub dropped: Vec<String>,
}

/// One action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As the client wrote it.
    pub text: String,
    /// As it is tried: without what would reach for other tables.
    pub sql: String,
    pub added: Option<Added>,
}

/// ADD COLUMN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    pub column: String,
    /// `ADD COLUMN c type DEFAULT NULL`
    pub bare: String,
    /// `ALTER COLUMN c SET DEFAULT …`
    pub default: Option<String>,
}

/// The server's answer.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    actions: HashMap<String, Effect>,
}

/// What one action does to the table, or to one of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that takes longer on a larger table.
    Instant,
    Rewrites,
    RebuildsIndex,
    Scans,
}

#[derive(Deserialize)]
struct Answer {
    failure: Option<String>,
    rewrites: Vec<bool>,
    rebuilds: Vec<bool>,
    scans: Vec<bool>,
    failures: Vec<Option<String>>,
}

impl Question {
    pub fn sql(&self) -> String {
        let array = |all: Vec<Option<&str>>| {
            let one = |text: &Option<&str>| text.map_or("NULL".to_string(), quote_literal);
            let listed: Vec<String> = all.iter().map(one).collect();
            format!("ARRAY[{}]::text[]", listed.join(", "))
        };
        let of = |part: fn(&Asked) -> Option<&str>| array(self.actions.iter().map(part).collect());
        let values = [
            ("{table}", self.table.to_string()),
            ("{only}", if self.only { "true" } else { "false" }.to_string()),
            ("{count}", self.actions.len().to_string()),
            ("{actions}", of(|a| Some(&a.sql))),
            ("{bare}", of(|a| Some(&a.added.as_ref()?.bare))),
            ("{columns}", of(|a| Some(&a.added.as_ref()?.column))),
            ("{defaults}", of(|a| a.added.as_ref()?.default.as_deref())),
            (
                "{dropped}",
                array(self.dropped.iter().map(|name| Some(name.as_str())).collect()),
            ),
            ("{path}", "NULL::text".to_string()),
        ];
        filled(TRIAL.trim_end(), &values)
    }

    /// None of the texts can end the quotation that they are put into.
    pub fn is_quotable(&self) -> bool {
        !self.actions.iter().any(|a| a.text.contains("$lockkeeper"))
    }

    /// Err: nothing is known.
    pub fn decode(self, answer: Option<&str>) -> Result<Tried, String> {
        let answer = answer.map_or(Err("no answer".to_string()), decoded::<Answer>)?;
        if let Some(failure) = answer.failure {
            return Err(failure);
        }
        let at = |all: &[bool], n: usize| all.get(n).copied().unwrap_or(true);
        let effect = |n: usize| match () {
            () if at(&answer.rewrites, n) => Effect::Rewrites,
            () if at(&answer.rebuilds, n) => Effect::RebuildsIndex,
            () if at(&answer.scans, n) => Effect::Scans,
            () => Effect::Instant,
        };
        let known = |n: &usize| answer.failures.get(*n).is_some_and(Option::is_none);
        // Of two with the same text the first counts, which comes last here.
        let actions = self.actions.into_iter().enumerate().rev();
        Ok(Tried {
            actions: actions
                .filter(|(n, _)| known(n))
                .map(|(n, asked)| (asked.text, effect(n)))
                .collect(),
        })
    }
}

impl Tried {
    /// Of the action with this text.
    pub fn effect(&self, text: &str) -> Option<Effect> {
        self.actions.get(text).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let asked = |text: &str, added| Asked {
            text: text.to_string(),
            sql: text.to_string(),
            added,
        };
        Question {
            table: 5,
            only: false,
            actions: vec![
                asked(
                    "ADD c text DEFAULT 'it''s {path}'",
                    Some(Added {
                        column: "c".to_string(),
                        bare: "ADD c text DEFAULT NULL".to_string(),
                        default: Some("ALTER COLUMN c SET DEFAULT 'it''s {path}'".to_string()),
                    }),
                ),
                asked("ALTER a TYPE text", None),
                asked("ALTER b SET NOT NULL", None),
            ],
            dropped: vec!["k".to_string()],
        }
    }

    #[test]
    fn the_question_is_one_statement() {
        let sql = question().sql();
        let parsed = pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).unwrap();
        assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}");
        assert!(sql.contains("it''''s {path}"), "{sql}");
        assert!(question().is_quotable());
    }

    #[test]
    fn only_what_was_said_is_known() {
        use base64::Engine;
        let answer = |json: &str| base64::engine::general_purpose::STANDARD.encode(json);
        let tried = question()
            .decode(Some(&answer(
                r#"{"failure": null, "rewrites": [false, true, false], "rebuilds": [false, true, false], "scans": [false, true, false],
                    "failures": ["no", null, null]}"#,
            )))
            .unwrap();
        assert_eq!(tried.effect("ADD c text DEFAULT 'it''s {path}'"), None);
        assert_eq!(tried.effect("ALTER a TYPE text"), Some(Effect::Rewrites));
        assert_eq!(tried.effect("ALTER b SET NOT NULL"), Some(Effect::Instant));
        assert!(question().decode(None).is_err());
        let failed = r#"{"failure": "permission denied", "rewrites": [], "rebuilds": [], "scans": [], "failures": []}"#;
        assert!(question().decode(Some(&answer(failed))).is_err());
    }
}
