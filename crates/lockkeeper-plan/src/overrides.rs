//! What a person has said for one statement: `SET lockkeeper.override = 'drop-column: ticket 42'`, or in front of it a comment
//! `/* lockkeeper: allow=drop-column reason="ticket 42" */`.
//!
//! Only comments before the statement's first token count, and only those that begin with `lockkeeper:`. What libraries
//! append (sqlcommenter) or prepend (`/*application:…*/`), with whatever a request has put into it, is never looked into.
//! Whether an override counts at all is the policy's, see [`super::compose`].

use super::policy::Overridden;
use super::rules::{RULES, find};
use super::statement::Statement;
use super::words::leading_comments;
use crate::rules::rule::Rule;

const MARK: &str = "lockkeeper:";

#[derive(Debug, Default)]
pub(super) struct Overrides<'a> {
    given: Vec<Given<'a>>,
    /// What is wrong with a comment: the statement is refused, since who wrote it wanted something else than what would happen.
    pub wrong_comment: Option<String>,
}

#[derive(Debug)]
struct Given<'a> {
    names: Vec<&'a str>,
    reason: &'a str,
    by: &'static str,
}

impl<'a> Overrides<'a> {
    /// `setting` is the value of `lockkeeper.override`.
    pub fn of(statement: &'a Statement, setting: Option<&'a str>) -> Overrides<'a> {
        let mut overrides = Overrides::default();
        for comment in leading_comments(&statement.sql) {
            // A comment that only asks for a dry run gives no override.
            let given = directive(comment)
                .map(split_dry_run)
                .filter(|(dry, rest)| !dry || !rest.is_empty())
                .map(|(_, rest)| rest);
            match given.map(Given::read_comment) {
                Some(Ok(given)) => overrides.given.push(given),
                Some(Err(wrong)) => overrides.wrong_comment = Some(wrong),
                None => {}
            }
        }
        overrides.given.extend(setting.map(Given::read_setting));
        overrides
    }

    pub fn any(&self) -> bool {
        !self.given.is_empty()
    }

    /// What lets this rule off; with `reason_required` only what says why.
    pub fn lets_off(&self, rule: &str, reason_required: bool) -> Option<Overridden> {
        let counts = |given: &&Given| given.names.contains(&rule) && !(reason_required && given.reason.is_empty());
        self.given.iter().find(counts).map(|given| Overridden {
            by: given.by.to_string(),
            reason: given.reason.to_string(),
        })
    }

    /// Why an override that is there did not help.
    pub fn problem(&self, reason_required: bool) -> Option<String> {
        self.given.iter().find_map(|given| given.problem(reason_required))
    }
}

impl<'a> Given<'a> {
    /// `drop-column, truncate: ticket 42`
    fn read_setting(setting: &'a str) -> Given<'a> {
        let (names, reason) = setting.split_once(':').unwrap_or((setting, ""));
        Given {
            names: names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .collect(),
            reason: reason.trim(),
            by: "lockkeeper.override",
        }
    }

    /// `allow=drop-column,truncate reason="ticket 42"`
    fn read_comment(text: &'a str) -> Result<Given<'a>, String> {
        let unreadable = || {
            format!(
                "the comment `{MARK} {}` cannot be read: write /* {MARK} allow=RULE reason=\"…\" */",
                shortened(text)
            )
        };
        let (mut names, mut reason) = (None, None);
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=').ok_or_else(unreadable)?;
            let (value, after) = match key {
                "allow" if names.is_none() => list(after),
                "reason" if reason.is_none() => quoted(after).ok_or_else(unreadable)?,
                _ => return Err(unreadable()),
            };
            if key == "allow" {
                names = Some(value);
            } else {
                reason = Some(value.trim());
            }
            rest = after.trim_start();
        }
        let names: Vec<&str> = names.ok_or_else(unreadable)?.split(',').map(str::trim).collect();
        let given = Given {
            names,
            reason: reason.unwrap_or_default(),
            by: "comment",
        };
        match given.unknown() {
            Some(unknown) => Err(unknown),
            None => Ok(given),
        }
    }

    fn unknown(&self) -> Option<String> {
        let name = self.names.iter().find(|name| find(name).is_none())?;
        let distance = |rule: &&Rule| strsim::damerau_levenshtein(rule.name, name);
        let nearest = RULES.iter().min_by_key(distance)?;
        let place = match self.by {
            "comment" => "the comment `lockkeeper: allow=…`",
            setting => setting,
        };
        Some(format!(
            "{place} names no rule `{name}`; the nearest is `{}`",
            nearest.name
        ))
    }

    fn problem(&self, reason_required: bool) -> Option<String> {
        if let Some(unknown) = self.unknown() {
            return Some(format!("{unknown}."));
        }
        if self.names.is_empty() || !self.reason.is_empty() || !reason_required {
            return None;
        }
        let names = self.names.join(", ");
        Some(match self.by {
            "comment" => format!(
                "The comment `lockkeeper: allow={names}` needs a reason: /* {MARK} allow={} reason=\"<why>\" */",
                self.names.join(",")
            ),
            setting => format!("{setting} needs a reason: SET {setting} = '{names}: <why>';"),
        })
    }
}

/// A comment in front of the statement is meant for us.
pub fn speaks_to_us(sql: &str) -> bool {
    leading_comments(sql)
        .into_iter()
        .any(|comment| directive(comment).is_some())
}

/// `/* lockkeeper: dry_run */` is in front of it.
pub fn asks_for_dry_run(sql: &str) -> bool {
    let comments = leading_comments(sql);
    comments
        .into_iter()
        .filter_map(directive)
        .any(|text| split_dry_run(text).0)
}

/// A comment of ours in front of it has this word in it.
pub fn speaks_of(sql: &str, word: &str) -> bool {
    leading_comments(sql).into_iter().any(|comment| {
        let comment = comment.trim().to_ascii_lowercase();
        comment
            .strip_prefix("lockkeeper")
            .is_some_and(|rest| rest.trim_start().starts_with(':') && rest.contains(word))
    })
}

/// The word `dry_run` at the beginning, and what is behind it.
fn split_dry_run(text: &str) -> (bool, &str) {
    let text = text.trim();
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word.eq_ignore_ascii_case("dry_run") {
        true => (true, rest.trim()),
        false => (false, text),
    }
}

/// What stands behind `lockkeeper:` at the very beginning of a comment.
fn directive(comment: &str) -> Option<&str> {
    let comment = comment.trim();
    let mark = comment.get(..MARK.len())?;
    mark.eq_ignore_ascii_case(MARK).then(|| &comment[MARK.len()..])
}

/// Names with commas, and space around these, up to the next key.
fn list(text: &str) -> (&str, &str) {
    let mut end = 0;
    let mut after_comma = true;
    for (at, c) in text.char_indices() {
        match c {
            ',' => (after_comma, end) = (true, at + 1),
            c if c.is_whitespace() => {}
            // A new word where no comma has asked for one.
            _ if at > end && !after_comma => break,
            c => (after_comma, end) = (false, at + c.len_utf8()),
        }
    }
    text.split_at(end)
}

/// `"…"` or `'…'`, without escapes, and what is behind it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, after) = text.get(1..)?.split_once(quote)?;
    Some((inner, after))
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::read;
    use super::*;

    /// Of each statement the rules and the reason that its comments give, or what is wrong with them.
    #[track_caller]
    fn check(text: &str, expect: &[&str]) {
        let statements = read(text.as_bytes(), true).unwrap();
        let found: Vec<String> = statements
            .iter()
            .map(|statement| {
                let overrides = Overrides::of(statement, None);
                match overrides.wrong_comment {
                    Some(wrong) => wrong,
                    None => overrides
                        .given
                        .iter()
                        .map(|given| format!("{}: {}", given.names.join("+"), given.reason))
                        .collect::<Vec<_>>()
                        .join("; "),
                }
            })
            .collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn comments_in_front_are_read() {
        check(
            "/* lockkeeper: allow=drop-table reason=\"ticket 42\" */ DROP TABLE a",
            &["drop-table: ticket 42"],
        );
        check(
            "-- lockkeeper: allow=drop-table reason='it\"s'\r\nDROP TABLE a",
            &["drop-table: it\"s"],
        );
        check(
            "-- a\n/*LOCKKEEPER:reason=\" x \"allow=drop-table*/ -- b\nDROP TABLE a",
            &["drop-table: x"],
        );
        check(
            "/* lockkeeper: allow=drop-table, truncate ,drop-column  reason=\"x\" */ DROP TABLE a",
            &["drop-table+truncate+drop-column: x"],
        );
        check("/* lockkeeper: allow=drop-table */ DROP TABLE a", &["drop-table: "]);
        check(
            "/* lockkeeper: allow=truncate reason=\"1\" */ /* lockkeeper: allow=drop-table reason=\"2\" */ DROP TABLE a",
            &["truncate: 1; drop-table: 2"],
        );
    }

    #[test]
    fn each_statement_has_its_own() {
        check(
            "DROP TABLE a; /* lockkeeper: allow=drop-table reason=\"b\" */ DROP TABLE b; DROP TABLE c",
            &["", "drop-table: b", ""],
        );
    }

    #[test]
    fn nothing_else_is_a_comment_in_front() {
        for text in [
            "DROP TABLE a /* lockkeeper: allow=drop-table reason=\"x\" */",
            "DROP TABLE a -- lockkeeper: allow=drop-table reason=\"x\"",
            "DROP /* lockkeeper: allow=drop-table reason=\"x\" */ TABLE a",
            "/*application:a,path:/?q=lockkeeper: allow=drop-table reason=\"x\"*/ DROP TABLE a",
            "/* /* lockkeeper: allow=drop-table reason=\"x\" */ */ DROP TABLE a",
            "-- x lockkeeper: allow=drop-table reason=\"x\"\nDROP TABLE a",
            "/* * lockkeeper: allow=drop-table reason=\"x\" */ DROP TABLE a",
        ] {
            check(text, &[""]);
        }
        let in_string = "COMMENT ON TABLE a IS '/* lockkeeper: allow=drop-table reason=\"x\" */'; DROP TABLE a";
        check(in_string, &["", ""]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        check(
            "/* lockkeeper: allow=drop-tabel reason=\"x\" */ DROP TABLE a",
            &["the comment `lockkeeper: allow=…` names no rule `drop-tabel`; the nearest is `drop-table`"],
        );
        for text in [
            "alow=drop-table",
            "drop-table",
            "allow=drop-table because=\"x\"",
            "allow=drop-table reason=x",
            "allow=drop-table reason=\"x",
            "reason=\"x\"",
            "",
            "allow=drop-table allow=truncate reason=\"x\"",
            "allow=drop-table reason=\"x\" y",
        ] {
            let wrong = format!(
                "the comment `lockkeeper: {text}` cannot be read: write /* lockkeeper: allow=RULE reason=\"…\" */"
            );
            check(&format!("/* lockkeeper: {text} */ DROP TABLE a"), &[&wrong]);
        }
        for name in ["*", "all", "", "drop-table,", "DROP-TABLE"] {
            let statements = read(format!("/* lockkeeper: allow={name} */ DROP TABLE a").as_bytes(), true).unwrap();
            let wrong = Overrides::of(&statements[0], None).wrong_comment;
            assert!(
                wrong.as_ref().is_some_and(|wrong| wrong.contains("names no rule")),
                "{name}: {wrong:?}"
            );
        }
    }

    #[test]
    fn a_reason_counts_where_it_is_required() {
        let statements = read(b"/* lockkeeper: allow=truncate */ TRUNCATE a", true).unwrap();
        let overrides = Overrides::of(&statements[0], Some("drop-table, drop-column: why"));
        assert!(overrides.lets_off("truncate", true).is_none());
        assert_eq!(
            overrides.lets_off("truncate", false).map(|o| o.by).as_deref(),
            Some("comment")
        );
        assert_eq!(
            overrides.lets_off("drop-column", true).map(|o| o.reason).as_deref(),
            Some("why")
        );
        assert!(overrides.lets_off("change-type", false).is_none());
        assert!(
            overrides
                .problem(true)
                .is_some_and(|problem| problem.contains("needs a reason"))
        );
        assert!(overrides.problem(false).is_none());
    }
}
