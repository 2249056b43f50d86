//! How much work a text would make for the C scanner, told from its bytes before it is given to it.

use crate::words::line_end;

/// A text whose tree would have more nodes, each of which takes 608 bytes: more than a gigabyte, is not given to the parser.
pub(crate) const WORDS_MAX: usize = 2_000_000;
const COMMENT_DEPTH_MAX: usize = 32;

/// An upper bound of the steps that the server's C scanner takes over runs of operator characters: for each operator and
/// each `/*` it looks at the whole rest of the run before it steps back, so 80 KB of `/*/*/*` cost it seconds. None if comments are
/// nested deeper than [`COMMENT_DEPTH_MAX`].
pub(crate) fn scanner_cost(text: &[u8], escapes: bool) -> Option<Cost> {
    let (mut at, mut cost, mut run_end, mut depth, mut words) = (0usize, 0usize, 0usize, 0usize, 0usize);
    while let Some(&byte) = text.get(at) {
        let next = text.get(at + 1).copied();
        if is_operator(byte) && at >= run_end {
            run_end = text[at..]
                .iter()
                .position(|&b| !is_operator(b))
                .map_or(text.len(), |n| at + n);
        }
        match (byte, next) {
            (b'/', Some(b'*')) => {
                depth += 1;
                if depth > COMMENT_DEPTH_MAX {
                    return None;
                }
                cost = cost.saturating_add(run_end - at);
                at += 2;
            }
            (b'*', Some(b'/')) if depth > 0 => {
                depth -= 1;
                at += 2;
            }
            _ if depth > 0 => at += 1,
            (b'-', Some(b'-')) => at = line_end(text, at),
            (b'\'' | b'"', _) => {
                let escaped =
                    byte == b'\'' && (escapes || matches!(at.checked_sub(1).map(|i| text[i]), Some(b'e' | b'E')));
                at = quote_end(text, at, escaped);
                words += 1;
            }
            (b'$', _) => {
                let end = dollar_quote_end(text, at);
                words += words_of(&text[at..end]);
                at = end;
            }
            _ if is_operator(byte) => {
                cost = cost.saturating_add(run_end - at);
                words += 1;
                at += 1;
            }
            _ => {
                words += usize::from(begins(text, at));
                at += 1;
            }
        }
    }
    Some(Cost { steps: cost, words })
}

/// What a text costs that is given to the parser.
pub(crate) struct Cost {
    /// Of the C scanner.
    pub steps: usize,
    /// At most so many nodes its tree has, as far as bytes tell: words, operators and opening parentheses outside of strings and comments. What
    /// stands in a dollar quote counts, since it may be code.
    pub words: usize,
}

/// The same of all that stands in the text, be it in strings or in comments.
pub fn words_of(text: &[u8]) -> usize {
    let (mut words, mut before) = (0, 0);
    for byte in text {
        let class = CLASSES[*byte as usize];
        words += usize::from(class == OTHER || (class == WORD && before != WORD));
        before = class;
    }
    words
}

/// A word or a parenthesis begins here.
fn begins(text: &[u8], at: usize) -> bool {
    let class = |at: usize| CLASSES[text[at] as usize];
    match class(at) {
        WORD => at.checked_sub(1).is_none_or(|before| class(before) != WORD),
        class => class == OTHER,
    }
}

const WORD: u8 = 1;
/// What may be a node by itself.
const OTHER: u8 = 2;
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => WORD,
            b'(' | b'[' | b'\'' | b'"' => OTHER,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<'
            | b'>' | b'=' => OTHER,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

fn quote_end(text: &[u8], start: usize, escaped: bool) -> usize {
    let quote = text[start];
    let mut at = start + 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if escaped => at += 2,
            _ if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn dollar_quote_end(text: &[u8], start: usize) -> usize {
    let in_name =
        start > 0 && (text[start - 1].is_ascii_alphanumeric() || matches!(text[start - 1], b'_' | b'$' | 0x80..));
    let tag_end = text[start + 1..]
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80));
    match tag_end {
        Some(length) if !in_name && text[start + 1 + length] == b'$' && !text[start + 1].is_ascii_digit() => {
            let tag = &text[start..start + length + 2];
            let body = start + tag.len();
            memchr::memmem::find(&text[body..], tag).map_or(text.len(), |n| body + n + tag.len())
        }
        _ => start + 1,
    }
}
