//! Findings for people: the statement's line with the place underlined, and the safe sequence.

use super::verdict::{Found, Source, Verdict};
use std::io::{self, Write};
use unicode_width::UnicodeWidthChar;

/// As a tab is shown, so that what is below stays below it.
const TAB: &str = "    ";
/// A longer line is cut: some files are one line.
const COLUMNS_MAX: usize = 160;

pub fn tell(out: &mut dyn Write, source: &Source, verdict: &Verdict, colour: bool) -> io::Result<()> {
    let paint = Paint { colour };
    let action = verdict.action;
    let gutter = verdict.findings.iter().map(|found| found.start.line).max().unwrap_or(0);
    let gutter = gutter.to_string().len();
    for found in &verdict.findings {
        if let (Some(reason), Some(by)) = (&found.overridden, &found.overridden_by) {
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            let allowed = paint.of("1;32", &format!("overridden[{}]", found.rule));
            let (line, column) = (found.start.line, found.start.column);
            writeln!(
                out,
                "{allowed}: {}:{line}:{column}: {} (by {})",
                verdict.file,
                clean(reason),
                clean(by)
            )?;
            continue;
        }
        if action == "forward" {
            continue;
        }
        let action = found.action;
        let tone = tone(action);
        writeln!(
            out,
            "{}: {}",
            paint.of(tone, &format!("{action}[{}]", found.rule)),
            clean(&found.message)
        )?;
        excerpt(out, source, found, gutter, paint, tone)?;
        if (verdict.steps.is_empty() || action == "warn") && !found.hint.is_empty() {
            let pad = " ".repeat(gutter);
            writeln!(out, "{pad} {} instead:", paint.of("1;34", "="))?;
            indented(out, &pad, &found.hint)?;
        }
    }
    if action == "forward" {
        return plan(out, verdict, gutter, paint);
    }
    let pad = " ".repeat(gutter);
    if verdict.findings.is_empty() {
        writeln!(out, "{}: would be run in another form", paint.of(tone(action), action))?;
        writeln!(
            out,
            "{pad}{} {}:{}",
            paint.of("1;34", "-->"),
            verdict.file,
            verdict.line
        )?;
    }
    if !verdict.steps.is_empty() && verdict.plan.is_empty() {
        writeln!(
            out,
            "{pad} {} the safe sequence, which the proxy would run:",
            paint.of("1;34", "=")
        )?;
        for (number, step) in verdict.steps.iter().enumerate() {
            writeln!(out, "{pad}     -- {}. {}", number + 1, step.label)?;
            indented(out, &pad, &format!("{};", step.sql.trim_end().trim_end_matches(';')))?;
        }
    }
    plan(out, verdict, gutter, paint)?;
    writeln!(out)
}

fn plan(out: &mut dyn Write, verdict: &Verdict, gutter: usize, paint: Paint) -> io::Result<()> {
    // Why one is refused is told already.
    let lines: Vec<_> = verdict.plan.iter().filter(|line| line.runs != "never").collect();
    if lines.is_empty() {
        return Ok(());
    }
    let pad = " ".repeat(gutter);
    writeln!(
        out,
        "{pad} {} the plan of line {}:",
        paint.of("1;34", "="),
        verdict.line
    )?;
    for line in lines {
        writeln!(out, "{pad}     -- {}: {}", line.step, clean(&line.action))?;
        let rows = line.rows.map(|rows| rows.to_string());
        let told = [
            ("lock", &line.lock),
            ("blocks", &line.blocks),
            ("rows", &rows),
            ("undo", &line.rollback),
            ("why", &line.why),
        ];
        for (name, value) in told
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        {
            writeln!(out, "{pad}     --   {name}: {}", clean(value))?;
        }
        if line.runs != "now" {
            writeln!(out, "{pad}     --   runs {}", line.runs)?;
        }
        if let Some(sql) = &line.sql {
            indented(out, &pad, &format!("{};", sql.trim_end().trim_end_matches(';')))?;
        }
    }
    match verdict.action {
        "forward" => writeln!(out),
        _ => Ok(()),
    }
}

fn tone(action: &str) -> &'static str {
    match action {
        "reject" => "1;31",
        "rewrite" => "1;36",
        _ => "1;33",
    }
}

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn of(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

fn excerpt(
    out: &mut dyn Write,
    source: &Source,
    found: &Found,
    gutter: usize,
    paint: Paint,
    tone: &str,
) -> io::Result<()> {
    let (line, column) = (found.start.line, found.start.column);
    let pad = " ".repeat(gutter);
    let bar = paint.of("1;34", "|");
    let arrow = paint.of("1;34", "-->");
    let Underlined { text, before, under } = underlined(source, found);
    let lock = match found.lock {
        "none" => String::new(),
        lock => format!(" {lock}, which blocks {}", found.blocks),
    };
    let mark = paint.of(tone, &format!("{}{lock}", "^".repeat(under)));
    writeln!(out, "{pad}{arrow} {}:{line}:{column}", clean(&source.name))?;
    writeln!(out, "{pad} {bar}")?;
    let number = paint.of("1;34", &format!("{line:>gutter$}"));
    writeln!(out, "{number} {bar} {text}")?;
    writeln!(out, "{pad} {bar} {}{mark}", " ".repeat(before))
}

/// The first line of the place, as it is shown, and the columns before and under it.
struct Underlined {
    text: String,
    before: usize,
    under: usize,
}

fn underlined(source: &Source, found: &Found) -> Underlined {
    let line = source.line(found.start.line);
    let start = found.span.start - source.start_of(found.start.line).min(found.span.start);
    let end = (found.span.end - source.start_of(found.start.line)).clamp(start, line.len());
    let more = if found.end.line > found.start.line { " …" } else { "" };
    let (mut text, mut before, mut under) = (String::new(), 0, 0);
    // Far to the right, the beginning goes rather than the place.
    let skipped = line
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at < start.saturating_sub(COLUMNS_MAX / 2))
        .last()
        .unwrap_or(0);
    if skipped > 0 {
        (text, before) = ("…".to_string(), 1);
    }
    let mut columns = before;
    for (at, c) in line.char_indices().filter(|(at, _)| *at >= skipped) {
        let (shown, width) = shown(c);
        if columns + width > COLUMNS_MAX {
            text.push('…');
            under = under.max(1);
            return Underlined { text, before, under };
        }
        columns += width;
        if at < start {
            before += width;
        } else if at < end {
            under += width;
        }
        text.push_str(&shown);
    }
    text.truncate(text.trim_end().len());
    text.push_str(more);
    Underlined {
        text,
        before,
        under: under.max(1),
    }
}

/// A character and how many columns it takes. What would move the cursor or speak to the terminal is not let through.
fn shown(c: char) -> (String, usize) {
    match c {
        '\t' => (TAB.to_string(), TAB.len()),
        c if c.is_control() || is_invisible(c) => ("\u{fffd}".to_string(), 1),
        c => (c.to_string(), c.width().unwrap_or(0)),
    }
}

/// Characters that change the order in which text is shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// One line, without what would speak to the terminal.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_whitespace() { " ".into() } else { shown(c).0 })
        .collect()
}

fn indented(out: &mut dyn Write, pad: &str, text: &str) -> io::Result<()> {
    for line in text.lines() {
        let line: String = line.trim_end().chars().map(|c| shown(c).0).collect();
        writeln!(out, "{pad}     {line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lock::LockMode;

    /// The line and the underline of `place` in `text`.
    fn check(text: &str, place: &str, expect: &[&str]) {
        let source = Source::new("x.sql".into(), text.into());
        let start = text.find(place).expect(place);
        let found = Found::new(
            &source,
            start..start + place.len(),
            "r",
            LockMode::None,
            "m".into(),
            String::new(),
        );
        let mut out = Vec::new();
        excerpt(&mut out, &source, &found, 1, Paint { colour: false }, "").expect("written");
        let out = String::from_utf8(out).expect("UTF-8");
        let lines: Vec<&str> = out.lines().skip(2).collect();
        assert_eq!(lines, expect, "{out}");
    }

    #[test]
    fn the_place_is_underlined() {
        check(
            "a\nDROP TABLE t;",
            "DROP TABLE t",
            &["2 | DROP TABLE t;", "  | ^^^^^^^^^^^^"],
        );
        check("\tx\tDROP y\r\n", "DROP", &["1 |     x    DROP y", "  |          ^^^^"]);
        check("名前 DROP 表x", "DROP 表", &["1 | 名前 DROP 表x", "  |      ^^^^^^^"]);
        check("e\u{301} DROP", "DROP", &["1 | e\u{301} DROP", "  |   ^^^^"]);
        check(
            "ALTER TABLE t\n  ADD a int",
            "ALTER TABLE t\n  ADD",
            &["1 | ALTER TABLE t …", "  | ^^^^^^^^^^^^^"],
        );
        check("\u{1b}[2J DROP", "DROP", &["1 | \u{fffd}[2J DROP", "  |      ^^^^"]);
        check("\u{202e}a DROP", "DROP", &["1 | \u{fffd}a DROP", "  |    ^^^^"]);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{} DROP {}", "x".repeat(1000), "y".repeat(1000));
        let source = Source::new("x.sql".into(), text.clone());
        let start = text.find("DROP").expect("there");
        let found = Found::new(
            &source,
            start..start + 4,
            "r",
            LockMode::None,
            "m".into(),
            String::new(),
        );
        let Underlined { text, before, under } = underlined(&source, &found);
        assert_eq!((under, text.chars().count()), (4, COLUMNS_MAX + 1));
        assert_eq!(text.chars().skip(before).take(4).collect::<String>(), "DROP");
    }
}
