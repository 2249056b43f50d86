//! Reads a policy file's text, and says where in it something is wrong and what was meant.

use super::Action;
use super::file::{EMBEDDED, File, STANDARD};
use std::collections::BTreeMap;
use std::fmt::Display;
use toml::de::{DeTable, DeValue};

/// A policy file's text and name, for messages that say where.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) name: &'a str,
}

impl Source<'_> {
    /// The file, checked and completed. `rule_names` are the rules there are; None does not ask.
    pub(super) fn read(&self, rule_names: Option<&[&str]>) -> Result<File, String> {
        let file: File = toml::from_str(self.text).map_err(|error| self.explain(&error))?;
        self.check_numbers(&file)?;
        self.check_rules(&file, rule_names)?;
        self.check_overrides(&file)?;
        self.check_cancels(&file)?;
        let base = match file.extends.as_deref() {
            // What everything else is completed by.
            None if self.text == STANDARD => return Ok(file),
            None => "standard",
            Some(name) => name,
        };
        let Some(base_file) = embedded(base) else {
            let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            let message = format!("extends names no built-in policy: `{base}`, {}", suggest(base, &known));
            return Err(self.at(&["extends"], message));
        };
        Ok(file.over(base_file?))
    }

    /// Refuses what is not a useful number: a lock_timeout of 0 would wait without end, a batch of 0 rows never ends.
    fn check_numbers(&self, file: &File) -> Result<(), String> {
        let backfill = &file.backfill;
        let numbers: [(&str, &str, Option<u64>, u64, u64); 23] = [
            ("lock", "timeout_ms", file.lock.timeout_ms, 1, 60_000),
            ("lock", "pause_ms", file.lock.pause_ms, 1, 600_000),
            ("lock", "give_up_after_s", file.lock.give_up_after_s, 1, 604_800),
            (
                "lock",
                "give_up_in_transaction_s",
                file.lock.give_up_in_transaction_s,
                1,
                3_600,
            ),
            (
                "lock",
                "concurrent_tries",
                file.lock.concurrent_tries.map(u64::from),
                1,
                100,
            ),
            ("lock", "stall_budget_ms", file.lock.stall_budget_ms, 1, 60_000),
            ("lock", "escalate_after_s", file.lock.escalate_after_s, 0, 604_800),
            ("lock", "timeout_max_ms", file.lock.timeout_max_ms, 1, 600_000),
            ("lock", "hold_ms", file.lock.hold_ms, 0, 600_000),
            ("drop", "quiet_for_s", file.drop.quiet_for_s, 0, 315_360_000),
            ("rewrite", "keep_old_s", file.rewrite.keep_old_s, 0, 315_360_000),
            ("approval", "wait_s", file.approval.wait_s, 0, 86_400),
            ("table", "small_bytes", file.table.small_bytes, 0, 1 << 40),
            ("backfill", "rows_max", file.backfill.rows_max, 1, 1_000_000_000),
            ("backfill", "batch_rows", file.backfill.batch_rows, 1, 1_000_000),
            ("backfill", "batch_rows_max", backfill.batch_rows_max, 1, 1_000_000),
            ("backfill", "batch_target_ms", backfill.batch_target_ms, 0, 60_000),
            (
                "backfill",
                "returning_rows_max",
                backfill.returning_rows_max,
                0,
                1_000_000_000,
            ),
            (
                "backfill",
                "replica_lag_max_ms",
                backfill.replica_lag_max_ms,
                0,
                86_400_000,
            ),
            ("backfill", "wal_max_percent", backfill.wal_max_percent, 0, 100_000),
            ("backfill", "lock_waits_max", backfill.lock_waits_max, 0, 1_000_000),
            ("backfill", "pause_ms", backfill.pause_ms, 0, 600_000),
            ("backfill", "notice_s", file.backfill.notice_s, 1, 3_600),
        ];
        for (table, key, value, min, max) in numbers {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                let message = format!("`{key}` in [{table}] is {value}, it must be between {min} and {max}");
                return Err(self.at(&[table, key], message));
            }
        }
        Ok(())
    }

    fn check_rules(&self, file: &File, rule_names: Option<&[&str]>) -> Result<(), String> {
        let Some(known) = rule_names else { return Ok(()) };
        let unknown = |rules: &BTreeMap<String, Action>, path: &[&str], place: &str| {
            let Some(rule) = rules.keys().find(|rule| !known.contains(&rule.as_str())) else {
                return Ok(());
            };
            let path: Vec<&str> = path.iter().copied().chain([rule.as_str()]).collect();
            Err(self.at(
                &path,
                format!("unknown rule `{rule}` in {place}, {}", suggest(rule, known)),
            ))
        };
        unknown(&file.rules, &["rules"], "[rules]")?;
        for (index, special) in file.overrides.iter().enumerate() {
            unknown(
                &special.rules,
                &["override", &index.to_string(), "rules"],
                "[[override]]",
            )?;
        }
        Ok(())
    }

    /// Refuses an `[[override]]` that says nothing, or that holds for everything and so hides what [rules] says.
    fn check_overrides(&self, file: &File) -> Result<(), String> {
        for (index, special) in file.overrides.iter().enumerate() {
            let index = index.to_string();
            let conditions = [
                ("role", &special.role),
                ("database", &special.database),
                ("application_name", &special.application_name),
                ("table", &special.table),
            ];
            if let Some((key, _)) = conditions.iter().find(|(_, pattern)| pattern.as_deref() == Some("")) {
                let message =
                    format!("`{key}` in [[override]] is empty and would match nothing; `*` matches everything");
                return Err(self.at(&["override", &index, key], message));
            }
            if conditions.iter().all(|(_, pattern)| pattern.is_none()) {
                let message = "this [[override]] holds for everything, since it names no role, database, application_name or \
                               table: write it in [rules] and [defaults] instead";
                return Err(self.at(&["override", &index], message));
            }
            if special.rules.is_empty() && special.may_override.is_none() && special.reason_required.is_none() {
                let message = "this [[override]] changes nothing: give it `rules`, `may_override` or `reason_required`";
                return Err(self.at(&["override", &index], message));
            }
        }
        Ok(())
    }

    /// Refuses a `[[lock.cancel]]` that ends nothing, or that holds for everybody.
    fn check_cancels(&self, file: &File) -> Result<(), String> {
        for (index, cancel) in file.lock.cancel.iter().enumerate() {
            let index = index.to_string();
            let refused = |message: &str| Err(self.at(&["lock", "cancel", &index], message));
            if cancel.application.is_none() && cancel.role.is_none() {
                return refused(
                    "this [[lock.cancel]] holds for everybody: give it `application` or `role`; `*` matches all",
                );
            }
            if cancel.idle_in_transaction_s.is_none() && cancel.active_s.is_none() {
                return refused("this [[lock.cancel]] ends nothing: give it `idle_in_transaction_s` or `active_s`");
            }
            if cancel.idle_in_transaction_s == Some(0) || cancel.active_s == Some(0) {
                return refused("`idle_in_transaction_s` and `active_s` in [[lock.cancel]] must be at least 1");
            }
        }
        Ok(())
    }

    /// The TOML reader's error, with the nearest valid word where a word is wrong.
    fn explain(&self, error: &toml::de::Error) -> String {
        let place = error.span().map_or(0, |span| span.start);
        let table = match self.path_at(place).split_last() {
            Some((_, [])) | None => String::new(),
            Some((_, tables)) => match tables
                .iter()
                .filter(|t| t.parse::<usize>().is_err())
                .collect::<Vec<_>>()[..]
            {
                [name] if name == "override" => " in [[override]]".to_string(),
                ref names => format!(
                    " in [{}]",
                    names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(".")
                ),
            },
        };
        // serde says: unknown field `x`, expected one of `a`, `b`
        let words: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        let message = match (error.message(), &words[..]) {
            (text, [word, known @ ..]) if text.starts_with("unknown field ") => {
                format!("unknown key `{word}`{table}, {}", suggest(word, known))
            }
            (text, [word, known @ ..]) if text.starts_with("unknown variant ") => {
                let key = self.path_at(place).pop().unwrap_or_default();
                format!("`{key}`{table} cannot be `{word}`, {}", suggest(word, known))
            }
            (text, _) => match self.path_at(place).pop() {
                Some(key) => format!("`{key}`{table}: {}", text.trim_end()),
                None => text.trim_end().replace('\n', ", "),
            },
        };
        self.line(place, message)
    }

    fn at(&self, path: &[&str], message: impl Display) -> String {
        let place = DeTable::parse(self.text)
            .ok()
            .and_then(|table| place_of(table.get_ref(), path));
        self.line(place.unwrap_or(0), message)
    }

    fn line(&self, place: usize, message: impl Display) -> String {
        let before = self.text.get(..place).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        format!("{}:{line}: {message}", self.name)
    }

    /// The keys that lead to what stands at a byte offset; empty if nothing does.
    fn path_at(&self, place: usize) -> Vec<String> {
        let mut path = Vec::new();
        if let Ok(table) = DeTable::parse(self.text) {
            path_in_table(table.get_ref(), place, &mut path);
        }
        path
    }
}

fn path_in_table(table: &DeTable, place: usize, path: &mut Vec<String>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(key.get_ref().to_string());
        let found = key.span().contains(&place) || path_in_value(value, place, path);
        if !found {
            path.pop();
        }
        found
    })
}

fn path_in_value(value: &toml::Spanned<DeValue>, place: usize, path: &mut Vec<String>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => path_in_table(table, place, path),
        DeValue::Array(items) => items.iter().enumerate().any(|(index, item)| {
            path.push(index.to_string());
            let found = path_in_value(item, place, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    };
    inside || value.span().contains(&place)
}

/// Where the last key of `path` is written; array elements are named by their index.
fn place_of(table: &DeTable, path: &[&str]) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    match (value.get_ref(), rest) {
        (_, []) => Some(key.span().start),
        (DeValue::Table(table), rest) => place_of(table, rest),
        (DeValue::Array(items), [index, rest @ ..]) => {
            let item = items.get(index.parse::<usize>().ok()?)?;
            match item.get_ref() {
                DeValue::Table(table) if !rest.is_empty() => place_of(table, rest),
                _ => Some(item.span().start),
            }
        }
        _ => None,
    }
}

/// "did you mean `x`?", or all there are if none is near.
fn suggest(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), k)).min();
    match near {
        Some((distance, near)) if distance <= 2.max(word.len() / 3) => format!("did you mean `{near}`?"),
        _ => format!(
            "valid are {}",
            known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The text of an embedded policy, completed by those that it extends.
pub(super) fn embedded(name: &str) -> Option<Result<File, String>> {
    let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
    Some(Source { text, name }.read(None))
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;
    use crate::policy::tests::RULES;

    #[track_caller]
    fn check_error(text: &str, expect: &str) {
        assert_eq!(
            Policy::parse(text, "p.toml", &RULES).unwrap_err(),
            expect,
            "for: {text}"
        );
    }

    #[test]
    fn unknown_words_name_the_nearest() {
        check_error(
            "[lock]\n\ntmeout_ms = 5",
            "p.toml:3: unknown key `tmeout_ms` in [lock], did you mean `timeout_ms`?",
        );
        check_error(
            "lock = { tmeout_ms = 5 }",
            "p.toml:1: unknown key `tmeout_ms` in [lock], did you mean `timeout_ms`?",
        );
        check_error(
            "\n[loc]\ntimeout_ms = 5",
            "p.toml:2: unknown key `loc`, did you mean `lock`?",
        );
        check_error(
            "[table]\nsize = 5",
            "p.toml:2: unknown key `size` in [table], valid are `small_bytes`",
        );
        check_error(
            "[[override]]\nrol = 'x'",
            "p.toml:2: unknown key `rol` in [[override]], did you mean `role`?",
        );
        check_error(
            "[rules]\ndrop-colum = 'warn'",
            "p.toml:2: unknown rule `drop-colum` in [rules], did you mean `drop-column`?",
        );
        check_error(
            "[[override]]\nrole = 'a'\nrules = { drop_table = 'warn' }",
            "p.toml:3: unknown rule `drop_table` in [[override]], did you mean `drop-table`?",
        );
        check_error(
            "[rules]\ndrop-table = 'rejct'",
            "p.toml:2: `drop-table` in [rules] cannot be `rejct`, did you mean `reject`?",
        );
        check_error(
            "[defaults]\nin_transaction = 'later'",
            "p.toml:2: `in_transaction` in [defaults] cannot be `later`, valid are `defer`, `reject`, `forward`",
        );
        check_error(
            "extends = 'standart'",
            "p.toml:1: extends names no built-in policy: `standart`, did you mean `standard`?",
        );
        check_error(
            "# hm\nextends = 'other.toml'",
            "p.toml:2: extends names no built-in policy: `other.toml`, valid are `observe`, `standard`, `strict`",
        );
    }

    #[test]
    fn values_are_checked() {
        check_error(
            "[lock]\ntimeout_ms = 0",
            "p.toml:2: `timeout_ms` in [lock] is 0, it must be between 1 and 60000",
        );
        check_error(
            "[backfill]\nbatch_rows = 0",
            "p.toml:2: `batch_rows` in [backfill] is 0, it must be between 1 and 1000000",
        );
        check_error(
            "[lock]\ngive_up_after_s = 99999999",
            "p.toml:2: `give_up_after_s` in [lock] is 99999999, it must be between 1 and 604800",
        );
        check_error(
            "[lock]\ntimeout_ms = -1",
            "p.toml:2: `timeout_ms` in [lock]: invalid value: integer `-1`, expected u64",
        );
        check_error(
            "[lock]\ntimeout_ms = '50ms'",
            "p.toml:2: `timeout_ms` in [lock]: invalid type: string \"50ms\", expected u64",
        );
        check_error(
            "lock = 5",
            "p.toml:1: `lock`: invalid type: integer `5`, expected struct LockTable",
        );
        check_error(
            "[[override]]\nrules = { drop-table = 'allow' }",
            "p.toml:1: this [[override]] holds for everything, since it names no role, database, application_name or table: \
             write it in [rules] and [defaults] instead",
        );
        check_error(
            "[[override]]\nrole = 'a'\nmay_override = true\n[[override]]\nrole = 'b'",
            "p.toml:4: this [[override]] changes nothing: give it `rules`, `may_override` or `reason_required`",
        );
        check_error(
            "[lock]\n[[lock.cancel]]\nactive_s = 5",
            "p.toml:2: this [[lock.cancel]] holds for everybody: give it `application` or `role`; `*` matches all",
        );
        check_error(
            "[[lock.cancel]]\napplication = 'a'",
            "p.toml:1: this [[lock.cancel]] ends nothing: give it `idle_in_transaction_s` or `active_s`",
        );
        check_error(
            "[[override]]\nrole = ''\nmay_override = true",
            "p.toml:2: `role` in [[override]] is empty and would match nothing; `*` matches everything",
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        check_error("[lock]\ntimeout_ms 5", "p.toml:2: key with no value, expected `=`");
        check_error("[lock]\ntimeout_ms = 5\ntimeout_ms = 6", "p.toml:3: duplicate key");
    }
}
