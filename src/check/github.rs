//! Workflow commands of GitHub Actions, which become annotations of the changed lines.

use super::verdict::{Remark, Verdict};
use std::io::{self, Write};

pub fn tell(out: &mut dyn Write, verdict: &Verdict) -> io::Result<()> {
    let level_of = |action: &str| match action {
        "reject" => "error",
        "rewrite" => "warning",
        _ => "notice",
    };
    let level = level_of(verdict.action);
    if verdict.action == "forward" {
        return Ok(());
    }
    for found in verdict.findings.iter().filter(|found| found.overridden.is_none()) {
        // A column is only taken together with an end on the same line.
        let place = if found.start.line == found.end.line {
            format!(",col={},endColumn={}", found.start.column, found.end.column)
        } else {
            String::new()
        };
        let level = level_of(found.action);
        writeln!(
            out,
            "::{level} file={},line={},endLine={}{place},title={}::{}",
            property(verdict.file),
            found.start.line,
            found.end.line,
            property(&format!("{} {}", found.action, found.rule)),
            data(format!("{}\n{}", found.message, instead(verdict, &found.hint)).trim_end())
        )?;
    }
    if verdict.findings.is_empty() {
        let (file, line) = (property(verdict.file), verdict.line);
        writeln!(out, "::{level} file={file},line={line}::would be run in another form")?;
    }
    Ok(())
}

/// The safe sequence where there is one, else the hint.
pub fn instead(verdict: &Verdict, hint: &str) -> String {
    if verdict.steps.is_empty() {
        return hint.to_string();
    }
    let steps = verdict.steps.iter();
    let lines: Vec<String> = steps
        .map(|step| format!("{};", step.sql.trim_end().trim_end_matches(';')))
        .collect();
    lines.join("\n")
}

pub fn remark(out: &mut dyn Write, remark: &Remark) -> io::Result<()> {
    let level = if remark.is_error { "error" } else { "notice" };
    let place = match (&remark.file, remark.line) {
        (Some(file), Some(line)) => format!(" file={},line={line}", property(file)),
        (Some(file), None) => format!(" file={}", property(file)),
        (None, _) => String::new(),
    };
    writeln!(out, "::{level}{place}::{}", data(&remark.message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_early() {
        assert_eq!(data("100%\r\n::error::x"), "100%25%0D%0A::error::x");
        assert_eq!(property("a,b:c\n%"), "a%2Cb%3Ac%0A%25");
    }
}
