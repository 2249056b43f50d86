//! Formats that other programs read: GitLab's code quality report, compilers' messages, and a comment for a pull request.

use super::github::instead;
use super::verdict::Verdict;
use serde_json::{Value, json};
use std::io::{self, Write};

/// GitLab takes one array of all findings.
#[derive(Default)]
pub struct CodeQuality {
    issues: Vec<Value>,
}

impl CodeQuality {
    pub fn add(&mut self, verdict: &Verdict) {
        if verdict.action == "forward" {
            return;
        }
        for found in verdict.findings.iter().filter(|found| found.overridden.is_none()) {
            let severity = match found.action {
                "reject" => "critical",
                "rewrite" => "major",
                _ => "minor",
            };
            let said = format!("{}: {}", found.rule, found.message);
            // The same as long as the statement is, wherever it moves to in its file.
            let alike = self
                .issues
                .iter()
                .filter(|issue| issue["description"] == said.as_str() && issue["location"]["path"] == verdict.file)
                .count();
            let print = fingerprint(&format!(
                "{}\n{}\n{}\n{alike}",
                verdict.file, found.rule, verdict.statement
            ));
            self.issues.push(json!({
                "description": said,
                "check_name": found.rule,
                "fingerprint": print,
                "severity": severity,
                "location": {
                    "path": verdict.file.strip_prefix("./").unwrap_or(verdict.file),
                    "lines": { "begin": found.start.line, "end": found.end.line },
                },
                "content": { "body": instead(verdict, &found.hint) },
            }));
        }
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.issues)?;
        writeln!(out)
    }
}

/// FNV-1a with 64 bits: the same on every machine.
fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// `file:line:column: error: message [rule]`, as editors read compilers.
pub fn gcc(out: &mut dyn Write, verdict: &Verdict) -> io::Result<()> {
    if verdict.action == "forward" {
        return Ok(());
    }
    for found in verdict.findings.iter().filter(|found| found.overridden.is_none()) {
        let level = match found.action {
            "reject" => "error",
            "rewrite" => "warning",
            _ => "note",
        };
        let (line, column) = (found.start.line, found.start.column);
        let message = one_line(&found.message);
        writeln!(
            out,
            "{}:{line}:{column}: {level}: {message} [{}]",
            verdict.file, found.rule
        )?;
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).collect()
}

/// One table, and below it what to write instead.
#[derive(Default)]
pub struct Markdown {
    rows: Vec<String>,
    details: Vec<String>,
}

impl Markdown {
    pub fn add(&mut self, verdict: &Verdict) {
        if verdict.action == "forward" {
            return;
        }
        let shown = verdict.findings.iter().filter(|found| found.overridden.is_none());
        for found in shown.clone() {
            let sign = match found.action {
                "reject" => "🛑 reject",
                "rewrite" => "🔧 rewrite",
                _ => "⚠️ warn",
            };
            self.rows.push(format!(
                "| {sign} | `{}:{}` | {} | {} |",
                cell(verdict.file),
                found.start.line,
                cell(&found.rule),
                cell(&found.message)
            ));
        }
        let hints: Vec<String> = shown.map(|found| instead(verdict, &found.hint)).collect();
        let Some(hint) = hints.first().filter(|hint| !hint.is_empty()) else {
            return;
        };
        // One more than any within it.
        let fence = "`".repeat(3 + longest_run(&format!("{}{hint}", verdict.statement)));
        self.details.push(format!(
            "**`{}:{}`**\n\n{fence}sql\n{}\n{fence}\n\ninstead:\n\n{fence}sql\n{hint}\n{fence}\n",
            verdict.file,
            verdict.line,
            verdict.statement.trim_end()
        ));
    }

    /// The first line tells the action which comment is its own.
    pub fn write(&self, out: &mut dyn Write, summary: &str) -> io::Result<()> {
        writeln!(out, "<!-- lockkeeper check -->\n### Schema changes\n")?;
        if !self.rows.is_empty() {
            writeln!(out, "| | where | rule | what |\n|---|---|---|---|")?;
            for row in &self.rows {
                writeln!(out, "{row}")?;
            }
            writeln!(out)?;
        }
        if !self.details.is_empty() {
            writeln!(out, "<details><summary>What to write instead</summary>\n")?;
            for detail in &self.details {
                writeln!(out, "{detail}")?;
            }
            writeln!(out, "</details>\n")?;
        }
        writeln!(out, "{summary}")
    }
}

/// Nothing of it ends the cell or begins a tag.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_cell_early() {
        assert_eq!(cell("a|b\n<script>"), "a\\|b &lt;script>");
        assert_eq!(longest_run("a ```` b `"), 4);
        assert_ne!(fingerprint("a"), fingerprint("b"));
    }
}
