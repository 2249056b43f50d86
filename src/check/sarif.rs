//! One SARIF 2.1.0 log, as code scanning takes it.

use super::design;
use super::github::instead;
use super::verdict::{Remark, Verdict};
use crate::plan::rules::RULES;
use crate::plan::rules::rule::Rule;
use serde_json::{Value, json};
use std::io::{self, Write};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

#[derive(Default)]
pub struct Log {
    results: Vec<Value>,
    notifications: Vec<Value>,
    /// Where the rules' pages are.
    rules_url: Option<String>,
}

impl Log {
    pub fn new(rules_url: Option<&str>) -> Log {
        Log {
            rules_url: rules_url.map(|url| url.trim_end_matches('/').to_string()),
            ..Log::default()
        }
    }

    pub fn add(&mut self, verdict: &Verdict) {
        // What is brief is nothing to report, unless somebody let it off.
        let forwarded = verdict.action == "forward";
        for found in verdict
            .findings
            .iter()
            .filter(|found| !forwarded || found.overridden.is_some())
        {
            let level = match found.action {
                "reject" => "error",
                "rewrite" => "warning",
                _ => "note",
            };
            let mut result = json!({
                "ruleId": found.rule,
                "level": level,
                "message": { "text": text(&format!("{}\n{}", sentence(&found.message), instead(verdict, &found.hint))) },
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": { "uri": uri(verdict.file) },
                        "region": {
                            "startLine": found.start.line,
                            "startColumn": found.start.column,
                            "endLine": found.end.line,
                            "endColumn": found.end.column,
                            "snippet": { "text": text(verdict.statement) },
                        },
                    },
                }],
                "properties": { "action": found.action, "lock": found.lock },
            });
            if let Some(index) = ids().iter().position(|id| *id == found.rule) {
                result["ruleIndex"] = index.into();
            }
            if let (Some(reason), Some(by)) = (&found.overridden, &found.overridden_by) {
                let kind = if by.starts_with("[[override]]") {
                    "external"
                } else {
                    "inSource"
                };
                result["suppressions"] = json!([{ "kind": kind, "justification": format!("{reason} (by {by})") }]);
            }
            self.results.push(result);
        }
    }

    pub fn remark(&mut self, remark: &Remark) {
        let mut notification = json!({
            "level": if remark.is_error { "error" } else { "note" },
            "message": { "text": text(&remark.message) },
        });
        if let Some(file) = &remark.file {
            let mut place = json!({ "artifactLocation": { "uri": uri(file) } });
            if let Some(line) = remark.line {
                place["region"] = json!({ "startLine": line });
            }
            notification["locations"] = json!([{ "physicalLocation": place }]);
        }
        self.notifications.push(notification);
    }

    /// Each rule of the proxy's has a page.
    fn rules(&self) -> Vec<Value> {
        let mut all = rules();
        if let Some(url) = &self.rules_url {
            for rule in &mut all {
                let id = rule["id"].as_str().unwrap_or_default();
                if RULES.iter().any(|known| known.name == id) {
                    rule["helpUri"] = format!("{url}/{id}.html").into();
                }
            }
        }
        all
    }

    pub fn write(&mut self, out: &mut dyn Write, successful: bool) -> io::Result<()> {
        let log = json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {
                    "driver": {
                        "name": "lockkeeper",
                        "version": env!("CARGO_PKG_VERSION"),
                        "semanticVersion": env!("CARGO_PKG_VERSION"),
                        "rules": self.rules(),
                    },
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [{
                    "executionSuccessful": successful,
                    "toolExecutionNotifications": self.notifications,
                }],
                "results": self.results,
            }],
        });
        serde_json::to_writer_pretty(&mut *out, &log)?;
        writeln!(out)
    }
}

/// What a verdict can name beside the rules.
const OTHERS: [(&str, &str); 2] = [
    ("unparsed", "A statement that cannot be read."),
    (
        "override",
        "A comment `lockkeeper: allow=…` that cannot be read, or names no rule.",
    ),
];

fn ids() -> Vec<&'static str> {
    RULES
        .iter()
        .map(|rule| rule.name)
        .chain(OTHERS.iter().map(|(id, _)| *id))
        .chain(design::RULES.iter().map(|rule| rule.name))
        .collect()
}

fn rules() -> Vec<Value> {
    let of_rule = |rule: &Rule| {
        let code = |label: &str, examples: &[&str]| match examples {
            [] => String::new(),
            examples => format!("\n\n{label}:\n\n```sql\n{};\n```", examples.join(";\n")),
        };
        let help = format!(
            "{}\n\nLock: {}, which blocks {}.\n\nInstead: {}",
            rule.why,
            rule.lock.name(),
            rule.lock.blocks(),
            rule.safe
        );
        let markdown = format!("{help}{}{}", code("Bad", rule.bad), code("Good", rule.good));
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.what },
            "fullDescription": { "text": rule.why },
            "help": { "text": help, "markdown": markdown },
            "defaultConfiguration": { "level": "warning" },
            "properties": { "lock": rule.lock.name(), "versions": rule.versions },
        })
    };
    let other = |(id, what): &(&str, &str)| json!({ "id": id, "shortDescription": { "text": what } });
    let own = |rule: &design::Own| {
        json!({
            "id": rule.name,
            "shortDescription": { "text": rule.what },
            "fullDescription": { "text": rule.why },
            "help": { "text": rule.safe },
            "defaultConfiguration": { "level": "note" },
        })
    };
    let proxys = RULES.iter().map(of_rule);
    proxys
        .chain(OTHERS.iter().map(other))
        .chain(design::RULES.iter().map(own))
        .collect()
}

fn sentence(message: &str) -> String {
    format!("{}.", message.trim_end_matches('.'))
}

/// Empty texts are not allowed.
fn text(text: &str) -> &str {
    match text.trim() {
        "" => "-",
        text => text,
    }
}

/// A relative or a file: URI reference, with `/` between its parts.
fn uri(file: &str) -> String {
    if file == "-" {
        return "stdin".to_string();
    }
    let path = file.strip_prefix("./").unwrap_or(file);
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    } else if path.split('/').next().is_some_and(|first| first.contains(':')) {
        // Else it would be a scheme.
        uri.push_str("./");
    }
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => uri.push(byte as char),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_uris() {
        let check = |file: &str, expect: &str| assert_eq!(uri(file), expect);
        check("-", "stdin");
        check("./a/b c.sql", "a/b%20c.sql");
        check("/m/ü.sql", "file:///m/%C3%BC.sql");
        check("x:y/100%.sql", "./x%3Ay/100%25.sql");
    }
}
