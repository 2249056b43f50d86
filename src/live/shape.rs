//! The shape of a statement: its text without values, so that those look the same that differ only in them.

/// A longer text has no shape.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// As statements are shown without their values. None: they cannot be told apart from the rest.
pub fn shape_of(text: &str) -> Option<String> {
    let mut out = Vec::new();
    normalise(text.as_bytes(), false, &mut out).then(|| String::from_utf8_lossy(&out).into_owned())
}

/// The same of a text that a session with standard_conforming_strings on has sent; empty where it cannot be told.
pub fn shape_text(text: &[u8]) -> String {
    let mut out = Vec::new();
    match normalise(text, true, &mut out) {
        true => String::from_utf8_lossy(&out).into_owned(),
        false => String::new(),
    }
}

/// The text with `?` for numbers, strings, parameters and lists of them, single blanks and no comments: statements that
/// differ only in values look the same, and no value is kept. False for one that is very long, and where values are hard to tell
/// from words: with a backslash, unless standard_conforming_strings is `conforming`, and with what does not end.
pub fn normalise(text: &[u8], conforming: bool, out: &mut Vec<u8>) -> bool {
    out.clear();
    if text.len() > TEXT_BYTES_MAX
        || !conforming && memchr::memchr2(b'\\', b'$', text).is_some_and(|at| hides(text, at))
    {
        return false;
    }
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let skip = |end: Option<usize>| end.map_or(rest.len(), |n| n + 1);
        at += match byte {
            b'-' if rest.starts_with(b"--") => skip(memchr::memchr(b'\n', rest)),
            b'/' if rest.starts_with(b"/*") => match memchr::memmem::find(rest, b"*/") {
                // A nested comment's end is not looked for.
                Some(end) if memchr::memmem::find(&rest[2..end], b"/*").is_none() => end + 2,
                _ => return false,
            },
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                if !matches!(out.last(), None | Some(b' ')) {
                    out.push(b' ');
                }
                1
            }
            b'\'' => {
                // E'…' has escapes, in which a quote may be.
                let escapes = matches!(out.as_slice(), [.., b'e' | b'E'])
                    && !matches!(out.as_slice(), [.., before, _] if is_word(*before));
                if escapes {
                    out.pop();
                }
                value(out);
                match end_of_string(rest, escapes) {
                    Some(end) => end,
                    None => return false,
                }
            }
            b'"' => {
                let end = skip(memchr::memchr(b'"', &rest[1..]).map(|n| n + 1));
                out.extend_from_slice(&rest[..end]);
                end
            }
            b'$' if !rest.get(1).is_some_and(u8::is_ascii_digit) => match end_of_dollar_quote(rest) {
                Some(end) => {
                    value(out);
                    end
                }
                None => return false,
            },
            b'$' | b'0'..=b'9' => {
                value(out);
                let end = rest[1..].iter().position(|b| !is_word(*b) && *b != b'.');
                end.map_or(rest.len(), |n| n + 1)
            }
            _ if is_word(byte) => {
                let end = rest.iter().position(|b| !is_word(*b) && *b != b'$');
                let word = &rest[..end.unwrap_or(rest.len())];
                out.extend_from_slice(word);
                word.len()
            }
            _ => {
                out.push(byte);
                if byte == b')' {
                    one_row(out);
                }
                1
            }
        };
    }
    while matches!(out.last(), Some(b' ' | b';')) {
        out.pop();
    }
    !out.is_empty()
}

/// Something that is only plain where strings conform: a backslash, or a `$` that is no parameter's.
fn hides(text: &[u8], first: usize) -> bool {
    let rest = &text[first..];
    memchr::memchr(b'\\', rest).is_some()
        || memchr::memchr_iter(b'$', rest).any(|at| !rest.get(at + 1).is_some_and(u8::is_ascii_digit))
}

/// Of a text that begins with a quote: behind the closing one.
fn end_of_string(text: &[u8], escapes: bool) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'\'', b'\\', text.get(at..)?)?;
        match text[at] {
            b'\'' => return Some(at + 1),
            _ if escapes => at += 2,
            _ => at += 1,
        }
    }
}

/// Of a text that begins with `$`: behind `$tag$…$tag$`.
fn end_of_dollar_quote(text: &[u8]) -> Option<usize> {
    let tag = 2 + memchr::memchr(b'$', text.get(1..)?)?;
    let is_tag = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
    if !text[1..tag - 1].iter().all(is_tag) {
        return None;
    }
    let end = memchr::memmem::find(text.get(tag..)?, &text[..tag])?;
    Some(tag + end + tag)
}

/// Of several rows of values one.
fn one_row(out: &mut Vec<u8>) {
    for rows in [&b"(?),(?)"[..], b"(?), (?)"] {
        if out.ends_with(rows) {
            out.truncate(out.len() - rows.len() + b"(?)".len());
            return;
        }
    }
}

/// One `?` for a value, and for the values of a list together.
fn value(out: &mut Vec<u8>) {
    let list = out.strip_suffix(b" ").unwrap_or(out);
    if let Some(list) = list.strip_suffix(b",").filter(|list| list.ends_with(b"?")) {
        out.truncate(list.len());
    } else if !out.ends_with(b"?") {
        out.push(b'?');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_no_part_of_a_shape() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            let shape = normalise(text.as_bytes(), false, &mut out).then(|| String::from_utf8_lossy(&out).into_owned());
            assert_eq!(shape.unwrap_or_default(), expect, "{text}");
        };
        check(
            "SELECT v  FROM t\n WHERE id = 7 AND n='it''s' ;",
            "SELECT v FROM t WHERE id = ? AND n=?",
        );
        check(
            "select * from \"T 1\" where x in ($1, $2,$3)",
            "select * from \"T 1\" where x in (?)",
        );
        check(
            "INSERT INTO t2 VALUES (1, 'secret', 1.5e3), (2, 'x', 0x1f)",
            "INSERT INTO t2 VALUES (?)",
        );
        check("SELECT 1 /* who=amy */ -- secret", "SELECT ?");
        check("SELECT a$1, b1 FROM c", "SELECT a$1, b1 FROM c");
        for unread in [
            "SELECT E'a\\'b'",
            "SELECT $$x$$",
            "/* /* */ secret */ SELECT 1",
            "",
            " ; ",
        ] {
            check(unread, "");
        }
    }

    #[test]
    fn where_strings_conform_all_values_are_told_apart() {
        let check = |text: &str, expect: &str| assert_eq!(shape_text(text.as_bytes()), expect, "{text}");
        check(r"SELECT E'a\'secret' FROM t", "SELECT ? FROM t");
        check(
            r"SELECT type'a' FROM t WHERE b = 'c\' AND d = 'e'",
            "SELECT type? FROM t WHERE b = ? AND d = ?",
        );
        check("SELECT $$secret$$, $x$se$$cret$x$ FROM t", "SELECT ? FROM t");
        check(
            "INSERT INTO t VALUES (1,'a'),(2,'b') , (3, 'c')",
            "INSERT INTO t VALUES (?) , (?)",
        );
        check("SELECT 'unended", "");
        check("SELECT $x", "");
    }
}
