//! One line per statement: a table that fits the terminal, CSV, and texts that cannot do anything to a terminal.

use crate::audit::Phase;
use crate::audit::brief::{Brief, Text};
use crate::audit::time::before;
use std::borrow::Cow;

/// Without a terminal, the columns that a wide one would show, and whole statements.
const WIDE: usize = 200;
/// A statement that is cut shorter tells nothing.
const STATEMENT_WIDTH_MIN: usize = 24;

struct Column {
    head: &'static str,
    width: usize,
    /// Shown where the terminal has at least so many columns.
    from: usize,
    value: for<'a> fn(&'a Brief) -> Cow<'a, str>,
}

const COLUMNS: [Column; 12] = [
    Column {
        head: "BEGAN (UTC)",
        width: 19,
        from: 0,
        value: began,
    },
    Column {
        head: "ENDED",
        width: 8,
        from: 100,
        value: ended,
    },
    Column {
        head: "ID",
        width: 14,
        from: 0,
        value: |event| Cow::Borrowed(&event.id),
    },
    Column {
        head: "USER",
        width: 10,
        from: 100,
        value: |event| Cow::Borrowed(&event.user),
    },
    Column {
        head: "APP",
        width: 12,
        from: 150,
        value: |event| Cow::Borrowed(&event.application_name),
    },
    Column {
        head: "DATABASE",
        width: 10,
        from: 170,
        value: |event| Cow::Borrowed(&event.database),
    },
    Column {
        head: "TABLE",
        width: 16,
        from: 130,
        value: |event| joined(&event.relations),
    },
    Column {
        head: "ACTION",
        width: 7,
        from: 110,
        value: |event| Cow::Borrowed(&event.action),
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
        value: |event| Cow::Borrowed(&event.outcome),
    },
    Column {
        head: "TOOK",
        width: 8,
        from: 90,
        value: |event| span(event.duration_ms).into(),
    },
    Column {
        head: "STATEMENT",
        width: 0,
        from: 0,
        value: |event| Cow::Borrowed(&event.statement),
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

    pub fn head(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.line(|column| column.head.into(), None, &mut out);
        out
    }

    /// Appends the row.
    pub fn row(&self, event: &Brief, out: &mut Vec<u8>) {
        let colour = match &*event.outcome {
            _ if !self.colour => None,
            "failed" | "rejected" | "disconnected" => Some("\x1b[31m"),
            "unfinished" | "cancelled" | "warned" => Some("\x1b[33m"),
            _ => None,
        };
        self.line(|column| (column.value)(event), colour, out);
    }

    fn line<'a>(&self, text: impl Fn(&Column) -> Cow<'a, str>, colour: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(colour.unwrap_or_default().as_bytes());
        let mut used = 0;
        for column in self.columns() {
            let value = text(column);
            let value = one_line(&value);
            let width = match (column.width, self.width) {
                (0, Some(whole)) => whole.saturating_sub(used).max(STATEMENT_WIDTH_MIN),
                (0, None) => usize::MAX,
                (width, _) => width,
            };
            let (shown, columns) = fitted(&value, width);
            used += column.width + 1;
            out.extend_from_slice(shown.as_bytes());
            if column.width > 0 {
                out.resize(out.len() + column.width.saturating_sub(columns) + 1, b' ');
            }
        }
        while out.last() == Some(&b' ') {
            out.pop();
        }
        if colour.is_some() {
            out.extend_from_slice(b"\x1b[0m");
        }
        out.push(b'\n');
    }
}

pub const CSV_HEAD: &str = "time,id,user,application_name,database,client,relations,action,rules,outcome,sqlstate,\
                            duration_ms,lock_tries,lock_wait_ms,rows,statement,error,began\n";

/// Appends the row.
pub fn csv(event: &Brief, out: &mut Vec<u8>) {
    let optional = |value: &'_ Option<Text>| value.as_ref().map(|text| text.to_string()).unwrap_or_default();
    let fields: [Cow<str>; 18] = [
        (&*event.time).into(),
        (&*event.id).into(),
        (&*event.user).into(),
        (&*event.application_name).into(),
        (&*event.database).into(),
        (&*event.client).into(),
        joined(&event.relations),
        (&*event.action).into(),
        rules(event),
        (&*event.outcome).into(),
        optional(&event.sqlstate).into(),
        format!("{:.3}", event.duration_ms).into(),
        event.lock_tries.to_string().into(),
        format!("{:.3}", event.lock_wait_ms).into(),
        event.rows.map(|rows| rows.to_string()).unwrap_or_default().into(),
        (&*event.statement).into(),
        optional(&event.error).into(),
        before(&event.time, event.duration_ms).unwrap_or_default().into(),
    ];
    for field in &fields {
        csv_field(field, out);
        out.push(b',');
    }
    out.pop();
    out.push(b'\n');
}

/// Quoted where it must be (RFC 4180). A spreadsheet takes `=…` for a formula: such a text gets an apostrophe in front.
fn csv_field(text: &str, out: &mut Vec<u8>) {
    let formula = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        "'"
    } else {
        ""
    };
    let quote = if text.contains([',', '"', '\n', '\r']) {
        "\""
    } else {
        ""
    };
    out.extend_from_slice(quote.as_bytes());
    out.extend_from_slice(formula.as_bytes());
    match quote {
        "" => out.extend_from_slice(text.as_bytes()),
        _ => out.extend_from_slice(text.replace('"', "\"\"").as_bytes()),
    }
    out.extend_from_slice(quote.as_bytes());
}

fn joined<'a>(names: &'a [Text]) -> Cow<'a, str> {
    match names {
        [] => "".into(),
        [one] => Cow::Borrowed(one),
        _ => names.iter().map(|name| &**name).collect::<Vec<_>>().join(" ").into(),
    }
}

fn began<'a>(event: &'a Brief) -> Cow<'a, str> {
    let began = before(&event.time, event.duration_ms);
    let text = began.as_deref().unwrap_or(&event.time);
    text.get(..19).unwrap_or(text).replacen('T', " ", 1).into()
}

/// The time of day; what has not ended has none.
fn ended<'a>(event: &'a Brief) -> Cow<'a, str> {
    match event.phase {
        Phase::Statement => event.time.get(11..19).unwrap_or_default().into(),
        _ => Cow::Borrowed(""),
    }
}

fn rules<'a>(event: &'a Brief) -> Cow<'a, str> {
    match event.rules()[..] {
        [one] => one.into(),
        ref rules => rules.join(" ").into(),
    }
}

/// `12 ms`, `1.2 s`, `3m 05s`, `2h 04m`.
pub fn span(ms: f64) -> String {
    // Rounded first: there is no 60.0 s, and nothing below nothing.
    let ms = ms.max(0.0);
    let seconds = ms / 1e3;
    match seconds.round() as u64 {
        _ if ms < 9.95 => format!("{ms:.1} ms"),
        _ if ms < 999.5 => format!("{ms:.0} ms"),
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        whole if whole < 3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        whole => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
    }
}

/// White space is one space, and what could move a terminal's cursor or turn the text's direction is spelled out: the
/// text comes from whoever sent the statement.
pub fn one_line(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match is_plain && !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ") {
        true => Cow::Borrowed(text),
        false => Cow::Owned(plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))),
    }
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

/// Cut to a width, with an ellipsis; and how many columns it takes.
fn fitted(text: &str, width: usize) -> (Cow<'_, str>, usize) {
    let columns = columns_of(text);
    if columns <= width {
        return (Cow::Borrowed(text), columns);
    }
    let (mut used, mut out) = (0, String::new());
    for c in text.chars() {
        let more = columns_of_char(c);
        if used + more + 1 > width {
            break;
        }
        used += more;
        out.push(c);
    }
    out.push('…');
    (Cow::Owned(out), used + 1)
}

fn columns_of(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.chars().map(columns_of_char).sum(),
    }
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
        let check = |text: &str, width: usize, expect: &str| assert_eq!(fitted(&one_line(text), width).0, expect);
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
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            csv_field(text, &mut out);
            assert_eq!(String::from_utf8(out).as_deref(), Ok(expect));
        };
        check("a b", "a b");
        check("a,\"b\"\n", "\"a,\"\"b\"\"\n\"");
        check("=1+1", "'=1+1");
    }
}
