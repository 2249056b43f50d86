//! Texts cut where a tool cuts them: at a mark of its own, wherever that stands, or at a delimiter that stands in no string or comment.

use crate::lex::{Kind, Token};
use std::ops::Range;

/// Between marks, as a program that knows no SQL cuts.
pub fn at(text: &str, mark: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for (found, _) in text.match_indices(mark) {
        ranges.push(start..found);
        start = found + mark.len();
    }
    ranges.push(start..text.len());
    ranges
}

/// Between delimiters. One that is a word, or a single slash, counts on a line of its own; one that begins with a line break counts at
/// the beginning of a line.
pub fn between(text: &str, range: Range<usize>, delimiter: &str) -> Vec<Range<usize>> {
    let (at_line, wanted) = match delimiter.strip_prefix('\n') {
        Some(wanted) => (true, wanted),
        None => (false, delimiter),
    };
    let alone = wanted == "/" || wanted.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut ranges = Vec::new();
    let (mut start, mut at) = (range.start, range.start);
    while let Some(rest) = text.get(at..range.end)
        && let Some(token) = Token::first(rest)
    {
        let found = rest
            .get(..wanted.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(wanted));
        let before = || text[start..at].rsplit('\n').next().unwrap_or_default();
        let behind = || rest[wanted.len()..].split('\n').next().unwrap_or_default();
        let is_first = || before().trim().is_empty();
        if found
            && !wanted.is_empty()
            && (!at_line || is_first())
            && (!alone || is_first() && behind().trim().is_empty())
        {
            ranges.push(start..at);
            at += wanted.len();
            start = at;
            continue;
        }
        // An end that is missing is not looked for beyond the piece.
        at += match token.kind {
            Kind::Word => token.length,
            _ => token.length.max(1),
        };
    }
    ranges.push(start..range.end);
    ranges
}
