//! `lockkeeper rules`: the rule table as a list, as one rule's page, and as the table in the README.

use crate::config::{did_you_mean, rule_names};
use crate::plan::rules::{RULES, Rule, find};
use std::fmt::Write;

/// The table stands between these two lines of the README.
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

/// The error names the nearest rule.
pub fn page(name: &str) -> Result<String, String> {
    match find(name) {
        Some(rule) => Ok(of(rule)),
        None => Err(format!(
            "there is no rule `{name}`{}",
            did_you_mean(name, &rule_names())
        )),
    }
}

fn of(rule: &Rule) -> String {
    let mut text = String::new();
    line(&mut text, rule.name);
    line(&mut text, &format!("\n  {}", rule.what));
    for (label, value) in [
        ("Lock", rule.lock.name()),
        ("Blocks", rule.lock.blocks()),
        ("Why", rule.why),
        ("Versions", rule.versions),
        ("Instead", rule.safe),
    ] {
        line(&mut text, &format!("\n  {label}: {value}"));
    }
    line(
        &mut text,
        &format!(
            "\n  Let through: /* lockkeeper: allow={} reason=\"…\" */ in front of the statement",
            rule.name
        ),
    );
    for (label, examples) in [("Bad", rule.bad), ("Good", rule.good)] {
        if !examples.is_empty() {
            line(&mut text, &format!("\n  {label}:"));
        }
        for sql in examples {
            for part in sql.lines() {
                line(&mut text, &format!("    {part}"));
            }
        }
    }
    text
}

/// With the marker lines around it.
pub fn markdown() -> String {
    let mut text = String::new();
    line(&mut text, BEGIN);
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
    line(&mut text, END);
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
