//! Words, space and comments in a text's bytes, without parsing it.

pub(crate) fn begins_with(text: &[u8], words: &[&str]) -> bool {
    match skip_space_and_semicolons(text, 0) {
        Some(start) => {
            let word = word_at(&text[start..]);
            words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
        }
        None => true,
    }
}

/// `word` in lower case, anywhere and in any case.
pub fn mentions(text: &[u8], word: &str) -> bool {
    let word = word.as_bytes();
    let (lower, upper) = (word[0], word[0].to_ascii_uppercase());
    memchr::memchr2_iter(lower, upper, text).any(|at| {
        text.get(at..at + word.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(word))
    })
}

/// In any case, and be it as a part of another word: then only the grammar can tell what it is.
pub(crate) fn has_word(text: &[u8], word: &[u8]) -> bool {
    let first = word[0];
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), text).any(|at| {
        text[at..]
            .get(..word.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(word))
    })
}

/// The identifier or keyword that the text starts with, as far as the server's scanner would read it.
pub(crate) fn word_at(text: &[u8]) -> &[u8] {
    let in_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'$' || *b >= 0x80;
    let length = text.iter().position(|b| !in_word(b)).unwrap_or(text.len());
    &text[..length]
}

/// As the server's scanner has it; `\v` since PostgreSQL 16, an error before.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Skips white space and comments; None for a comment that does not end.
pub(crate) fn skip_space(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match (text.get(at), text.get(at + 1)) {
            (Some(&byte), _) if is_space(byte) => at += 1,
            (Some(b'-'), Some(b'-')) => at = line_end(text, at),
            (Some(b'/'), Some(b'*')) => at = block_comment_end(text, at)?,
            _ => return Some(at),
        }
    }
}

pub(crate) fn skip_space_and_semicolons(text: &[u8], at: usize) -> Option<usize> {
    let mut at = skip_space(text, at)?;
    while text.get(at) == Some(&b';') {
        at = skip_space(text, at + 1)?;
    }
    Some(at)
}

pub(crate) fn line_end(text: &[u8], at: usize) -> usize {
    memchr::memchr2(b'\n', b'\r', &text[at..]).map_or(text.len(), |n| at + n)
}

pub(crate) fn block_comment_end(text: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = at;
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                at += 2;
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}

/// The comments in front of a statement's first token, without their marks. The same bytes as the server's scanner skips, so
/// that nothing of the statement itself is ever taken for one.
pub(crate) fn leading_comments(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut at, mut comments) = (0, Vec::new());
    loop {
        let (start, end, next) = match (bytes.get(at), bytes.get(at + 1)) {
            (Some(&byte), _) if is_space(byte) => {
                at += 1;
                continue;
            }
            (Some(b'-'), Some(b'-')) => {
                let end = line_end(bytes, at);
                (at + 2, end, end)
            }
            (Some(b'/'), Some(b'*')) => match block_comment_end(bytes, at) {
                Some(end) => (at + 2, end - 2, end),
                None => return comments,
            },
            _ => return comments,
        };
        comments.extend(sql.get(start..end));
        at = next;
    }
}

/// Without the space and comments in front, in bytes: where the first token is.
pub fn first_token(sql: &str) -> usize {
    skip_space(sql.as_bytes(), 0).unwrap_or(sql.len())
}
