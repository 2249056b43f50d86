//! The shape of an UPDATE's or DELETE's text: what is remembered about one text holds for others that differ in their
//! literals alone.

/// The statement's shape, for remembering what was found out about it: the text with `?` for numbers and strings, and single
/// blanks. Texts of one shape give the same answer to [`super::target`]. False, and nothing to remember, for a text with a
/// backslash, a dollar quote or a comment. The number behind LIMIT stays. Allocates nothing but `out`.
pub fn shape(sql: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let (mut at, mut behind_limit) = (0, false);
    while let Some(&byte) = sql.get(at) {
        let next = sql.get(at + 1).copied();
        match byte {
            b'\\' => return false,
            b'-' if next == Some(b'-') => return false,
            b'/' if next == Some(b'*') => return false,
            b'$' if !next.is_some_and(|b| b.is_ascii_digit()) => return false,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                if !out.is_empty() && out.last() != Some(&b' ') {
                    out.push(b' ');
                }
                at += 1;
            }
            b'\'' | b'"' => {
                let Some(end) = quoted_end(sql, at) else { return false };
                behind_limit = false;
                if byte == b'"' {
                    out.extend_from_slice(&sql[at..end]);
                } else if sql[at..end].contains(&b'\\') {
                    return false;
                } else {
                    out.push(b'?');
                }
                at = end;
            }
            b'0'..=b'9' | b'.' if byte != b'.' || next.is_some_and(|b| b.is_ascii_digit()) => {
                let start = at;
                at = number_end(sql, at);
                // `1and`, `0x1f`, `1.2.3`: not worth knowing.
                if sql.get(at).is_some_and(|b| is_word(*b) || *b == b'.') {
                    return false;
                }
                match std::mem::take(&mut behind_limit) {
                    true => out.extend_from_slice(&sql[start..at]),
                    false => out.push(b'?'),
                }
            }
            _ if is_word(byte) => {
                // A word, or a parameter.
                let end = sql[at + 1..]
                    .iter()
                    .position(|b| !is_word(*b))
                    .map_or(sql.len(), |n| at + 1 + n);
                let word = &sql[at..end];
                behind_limit = [&b"limit"[..], b"first", b"next"]
                    .iter()
                    .any(|w| word.eq_ignore_ascii_case(w));
                out.extend_from_slice(word);
                at = end;
            }
            _ => {
                behind_limit &= byte == b'(';
                out.push(byte);
                at += 1;
            }
        }
    }
    if out.last() == Some(&b' ') {
        out.pop();
    }
    !out.is_empty()
}

/// Behind the closing quote of what opens at `start`; doubled quotes are part of it.
fn quoted_end(sql: &[u8], start: usize) -> Option<usize> {
    let quote = *sql.get(start)?;
    let mut at = start + 1;
    loop {
        at += sql.get(at..)?.iter().position(|b| *b == quote)? + 1;
        if sql.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn number_end(sql: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while sql.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(start);
    if sql.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(sql.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(sql.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let check = |sql: &str, expect: Option<&str>| {
            let mut out = b"old".to_vec();
            let known = shape(sql.as_bytes(), &mut out);
            assert_eq!(
                known.then(|| String::from_utf8(out).unwrap()).as_deref(),
                expect,
                "{sql}"
            );
        };
        check(
            " UPDATE  t1\n SET a = 'it''s', b=1.5e-3 WHERE id=$1 ",
            Some("UPDATE t1 SET a = ?, b=? WHERE id=$1"),
        );
        check(
            "x IN (SELECT 1 FROM t Limit (50)) AND a = 5 fetch first 7 rows",
            Some("x IN (SELECT ? FROM t Limit (50)) AND a = ? fetch first 7 rows"),
        );
        check("UPDATE \"t 1\" SET a=-.5", Some("UPDATE \"t 1\" SET a=-?"));
        check(
            "DELETE FROM t WHERE é1 IN (1,2,34)",
            Some("DELETE FROM t WHERE é1 IN (?,?,?)"),
        );
        for none in [
            "",
            "x -- c",
            "x /* c */",
            "a = E'\\''",
            "a = $$b$$",
            "a = $q$b$q$",
            "'open",
            "\"open",
            "1and 2",
            "0x1f",
            "1.2.3",
        ] {
            check(none, None);
        }
    }
}
