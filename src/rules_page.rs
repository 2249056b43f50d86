//! `lockkeeper rules`: the rule table as a list, as one rule's page, and as a table; the book has the same pages and table.

use crate::check;
use crate::config::{POLICIES, did_you_mean, rule_names};
use crate::plan::lock::LockMode;
use crate::plan::policy::{Policy, Subject};
use crate::plan::rules::rule::Rule;
use crate::plan::rules::{RULES, find};
use std::fmt::Write;

/// The table stands between these two lines, so that it can be put into a page of somebody's own.
const BEGIN: &str = "<!-- rules: begin (lockkeeper rules --markdown) -->";
const END: &str = "<!-- rules: end -->";

/// One line a rule.
pub fn list() -> String {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for rule in RULES {
        line(&mut text, &format!("{:width$}  {}", rule.name, rule.what));
    }
    line(&mut text, "\nlockkeeper rules NAME shows one with bad and good SQL.");
    text
}

/// As in docs/src/rules. The error names the nearest rule.
pub fn page(name: &str) -> Result<String, String> {
    match find(name) {
        Some(rule) => Ok(of(rule)),
        None => Err(format!(
            "there is no rule `{name}`{}",
            did_you_mean(name, &rule_names())
        )),
    }
}

pub fn of(rule: &Rule) -> String {
    let mut text = format!("# {}\n\n{}\n\n| | |\n|---|---|\n", rule.name, rule.what);
    let lock = match rule.lock {
        LockMode::None => "none on a table".to_owned(),
        lock => format!("{}, which blocks {}", lock.name(), lock.blocks()),
    };
    line(&mut text, &format!("| Lock of the statement as written | {lock} |"));
    line(&mut text, &format!("| PostgreSQL | {} |", cell(rule.versions)));
    for policy in POLICIES {
        line(
            &mut text,
            &format!("| Policy `{policy}` | {} |", decision(policy, rule)),
        );
    }
    line(&mut text, &format!("\n## Why\n\n{}", rule.why));
    line(&mut text, &format!("\n## Instead\n\n{}", rule.safe));
    line(&mut text, "\n## Statements that it finds");
    for sql in rule.bad {
        line(&mut text, &format!("\n{}", block(sql)));
    }
    answers(&mut text, rule);
    line(
        &mut text,
        "\n## Statements that it does not find\n\nIn the tests' schema, where `small` is a small table, and `users` a large one in use:",
    );
    for sql in rule.good {
        line(&mut text, &format!("\n{}", block(sql)));
    }
    line(&mut text, "\n## Let one through\n");
    let statement = rule.bad.first().copied().unwrap_or_default();
    let allowed = format!("/* lockkeeper: allow={} reason=\"ticket 42\" */ {statement}", rule.name);
    line(&mut text, &block(&allowed));
    text
}

/// For nobody in particular.
fn decision(policy: &str, rule: &Rule) -> &'static str {
    let anybody = Subject {
        database: "",
        role: "",
        application_name: "",
        tables: &[],
    };
    let policy = Policy::embedded(policy, &rule_names());
    policy.map_or("", |policy| policy.decision(rule.name, &anybody).0.name())
}

/// What `check` says of the first statement that it can judge without a server: once where two versions agree.
fn answers(text: &mut String, rule: &Rule) {
    let Some(policy) = Policy::embedded("standard", &rule_names()) else {
        return;
    };
    let marked = format!("[{}]", rule.name);
    let of = |sql: &str| [15, 18].map(|major| check::answer(sql, major * 10_000, &policy));
    let judged = rule.bad.iter().map(|sql| of(sql));
    let Some([old, new]) = judged
        .into_iter()
        .find(|answers| answers.iter().any(|a| a.contains(&marked)))
    else {
        return;
    };
    line(text, "\n## What `lockkeeper check` says");
    line(text, "\nOf a table that counts as large, in the policy `standard`:");
    let mut one = |answer: &str| {
        let answer = if answer.is_empty() { "no finding" } else { answer };
        line(text, &format!("\n```text\n{}\n```", answer.trim_end()));
    };
    if old == new {
        one(&new);
        return;
    }
    one(&format!("PostgreSQL 15\n\n{old}"));
    one(&format!("PostgreSQL 18\n\n{new}"));
}

fn block(sql: &str) -> String {
    format!("```sql\n{sql};\n```")
}

/// The table with the marker lines around it.
pub fn markdown() -> String {
    format!("{BEGIN}\n{}{END}\n", table())
}

pub fn table() -> String {
    let mut text = String::new();
    line(
        &mut text,
        "| rule | what | lock as written | what Lockkeeper does or advises |",
    );
    line(&mut text, "|---|---|---|---|");
    for rule in RULES {
        let (what, safe) = (cell(rule.what), cell(rule.safe));
        line(
            &mut text,
            &format!("| `{}` | {what} | {} | {safe} |", rule.name, rule.lock.name()),
        );
    }
    text
}

/// A `|` would end the cell, also within backticks.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn line(text: &mut String, line: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_in_the_list_and_in_the_table_and_has_a_page() {
        let (list, table) = (list(), markdown());
        assert_eq!(list.lines().count(), RULES.len() + 2);
        assert_eq!(table.lines().count(), RULES.len() + 4);
        for rule in RULES {
            assert!(list.contains(rule.name) && table.contains(&format!("| `{}` |", rule.name)));
            let page = page(rule.name).expect(rule.name);
            assert!(page.contains(rule.why) && page.contains(rule.lock.name()), "{page}");
        }
        for row in table.lines().filter(|row| row.starts_with('|')) {
            let bars = row.replace("\\|", "").matches('|').count();
            assert_eq!(bars, 5, "{row}");
        }
        assert!(table.starts_with(BEGIN) && table.trim_end().ends_with(END));
    }

    #[test]
    fn every_rule_has_its_docs() {
        for rule in RULES {
            for text in [rule.what, rule.why, rule.safe] {
                assert!(text.len() > 20 && text.ends_with('.'), "{}: {text}", rule.name);
            }
            let numbers = |text: &str| text.chars().any(|c| c.is_ascii_digit());
            assert!(numbers(rule.versions), "{}: {}", rule.name, rule.versions);
            assert!(!rule.bad.is_empty() && !rule.good.is_empty(), "{}", rule.name);
            // These are not about a table's lock: names that programs know, databases and roles, and code whose locks nobody can tell.
            let lockless = [
                "rename-enum-value",
                "rename-type",
                "drop-database",
                "drop-role",
                "dynamic-sql",
                "block-meaning",
            ]
            .contains(&rule.name);
            assert_eq!(
                rule.lock == crate::plan::lock::LockMode::None,
                lockless,
                "{}",
                rule.name
            );
        }
    }

    #[test]
    fn an_unknown_rule_is_told() {
        assert!(page("no-such-thing-at-all").is_err_and(|error| error.contains("`no-such-thing-at-all`")));
    }
}
