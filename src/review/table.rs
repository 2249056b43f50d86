//! One line per statement: a table that fits the terminal, CSV, and texts that cannot do anything to a terminal.

use crate::audit::Event;
use crate::audit::time::timestamp;

/// Without a terminal, the columns that a wide one would show, and whole statements.
const WIDE: usize = 200;
/// A statement that is cut shorter tells nothing.
const STATEMENT_WIDTH_MIN: usize = 24;

struct Column {
    head: &'static str,
    width: usize,
    /// Shown where the terminal has at least so many columns.
    from: usize,
    value: fn(&Event) -> String,
}

const COLUMNS: [Column; 11] = [
    Column {
        head: "TIME (UTC)",
        width: 19,
        from: 0,
        value: when,
    },
    Column {
        head: "ID",
        width: 14,
        from: 0,
        value: |event| event.id.clone(),
    },
    Column {
        head: "USER",
        width: 10,
        from: 100,
        value: |event| event.user.clone(),
    },
    Column {
        head: "APP",
        width: 12,
        from: 150,
        value: |event| event.application_name.clone(),
    },
    Column {
        head: "DATABASE",
        width: 10,
        from: 170,
        value: |event| event.database.clone(),
    },
    Column {
        head: "TABLE",
        width: 16,
        from: 130,
        value: |event| event.relations.join(" "),
    },
    Column {
        head: "ACTION",
        width: 7,
        from: 110,
        value: |event| event.action.clone(),
    },
    Column {
        head: "RULE",
        width: 20,
        from: 140,
        value: rules,
    },
    Column {
        head: "OUTCOME",
        width: 10,
        from: 0,
        value: |event| event.outcome.clone(),
    },
    Column {
        head: "TOOK",
        width: 8,
        from: 90,
        value: |event| span(event.duration_ms),
    },
    Column {
        head: "STATEMENT",
        width: 0,
        from: 0,
        value: |event| event.statement.clone(),
    },
];

pub struct Table {
    width: Option<usize>,
    colour: bool,
}

impl Table {
    pub fn new(width: Option<usize>, colour: bool) -> Table {
        Table { width, colour }
    }

    fn columns(&self) -> impl Iterator<Item = &'static Column> {
        let width = self.width.unwrap_or(WIDE);
        COLUMNS.iter().filter(move |column| column.from <= width)
    }

    pub fn head(&self) -> String {
        self.line(|column| column.head.to_owned(), None)
    }

    pub fn row(&self, event: &Event) -> String {
        let colour = match event.outcome.as_str() {
            _ if !self.colour => None,
            "failed" | "rejected" | "disconnected" => Some("\x1b[31m"),
            "unfinished" | "cancelled" | "warned" => Some("\x1b[33m"),
            _ => None,
        };
        self.line(|column| (column.value)(event), colour)
    }

    fn line(&self, text: impl Fn(&Column) -> String, colour: Option<&str>) -> String {
        let mut line = String::new();
        let mut used = 0;
        for column in self.columns() {
            let value = one_line(&text(column));
            let width = match (column.width, self.width) {
                (0, Some(whole)) => whole.saturating_sub(used).max(STATEMENT_WIDTH_MIN),
                (0, None) => usize::MAX,
                (width, _) => width,
            };
            let shown = fitted(&value, width);
            used += column.width + 1;
            line.push_str(&shown);
            if column.width > 0 {
                let pad = column.width.saturating_sub(columns_of(&shown)) + 1;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        let line = line.trim_end();
        match colour {
            Some(colour) => format!("{colour}{line}\x1b[0m\n"),
            None => format!("{line}\n"),
        }
    }
}

pub const CSV_HEAD: &str = "time,id,user,application_name,database,client,relations,action,rules,outcome,sqlstate,\
                            duration_ms,lock_tries,lock_wait_ms,rows,statement,error\n";

pub fn csv(event: &Event) -> String {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    let fields = [
        timestamp(event.time),
        event.id.clone(),
        event.user.clone(),
        event.application_name.clone(),
        event.database.clone(),
        event.client.clone(),
        event.relations.join(" "),
        event.action.clone(),
        rules(event),
        event.outcome.clone(),
        optional(&event.sqlstate),
        format!("{:.3}", event.duration_ms),
        event.lock_tries.to_string(),
        format!("{:.3}", event.lock_wait_ms),
        event.rows.map(|rows| rows.to_string()).unwrap_or_default(),
        event.statement.clone(),
        optional(&event.error),
    ];
    let line = fields.map(|field| csv_field(&field)).join(",");
    line + "\n"
}

/// Quoted where it must be (RFC 4180). A spreadsheet takes `=…` for a formula: such a text gets an apostrophe in front.
fn csv_field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

fn when(event: &Event) -> String {
    let text = timestamp(event.time);
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// Each once, in the order of the findings.
fn rules(event: &Event) -> String {
    let mut rules: Vec<&str> = Vec::new();
    for finding in &event.findings {
        if !rules.contains(&finding.rule.as_str()) {
            rules.push(&finding.rule);
        }
    }
    rules.join(" ")
}

/// `12 ms`, `1.2 s`, `3m 05s`, `2h 04m`.
pub fn span(ms: f64) -> String {
    let seconds = ms / 1e3;
    match seconds as u64 {
        _ if ms < 10.0 => format!("{ms:.1} ms"),
        0 => format!("{ms:.0} ms"),
        1..=59 => format!("{seconds:.1} s"),
        whole if whole < 3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        whole => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
    }
}

/// White space is one space, and what could move a terminal's cursor or turn the text's direction is spelled out: the
/// text comes from whoever sent the statement.
pub fn one_line(text: &str) -> String {
    plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same, with its line breaks.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        match c {
            '\n' => out.push(c),
            '\t' => out.push_str("    "),
            '\r' => {}
            c if c.is_control() || turns => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Cut to a width, with an ellipsis.
fn fitted(text: &str, width: usize) -> String {
    if columns_of(text) <= width {
        return text.to_owned();
    }
    let (mut used, mut out) = (0, String::new());
    for c in text.chars() {
        used += columns_of_char(c);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// East Asian wide characters and emoji take two columns, combining marks none.
fn columns_of_char(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fit_and_are_harmless() {
        let check = |text: &str, width: usize, expect: &str| assert_eq!(fitted(&one_line(text), width), expect);
        check("a\n  b\tc", 9, "a b c");
        check("abcdef", 6, "abcdef");
        check("abcdef", 5, "abcd…");
        check("表表表", 6, "表表表");
        check("表表表", 5, "表表…");
        check("表表表", 4, "表…");
        check("\x1b[2J\u{202e}x", 99, "\\u{1b}[2J\\u{202e}x");
        assert_eq!(plain("a\r\n\tb\x07"), "a\n    b\\u{7}");
    }

    #[test]
    fn spans_are_short() {
        let check = |ms: f64, expect: &str| assert_eq!(span(ms), expect);
        check(0.0, "0.0 ms");
        check(1.25, "1.2 ms");
        check(999.0, "999 ms");
        check(1_500.0, "1.5 s");
        check(65_000.0, "1m 05s");
        check(3_720_000.0, "1h 02m");
    }

    #[test]
    fn csv_is_quoted_and_no_formula() {
        let check = |text: &str, expect: &str| assert_eq!(csv_field(text), expect);
        check("a b", "a b");
        check("a,\"b\"\n", "\"a,\"\"b\"\"\n\"");
        check("=1+1", "'=1+1");
    }
}
