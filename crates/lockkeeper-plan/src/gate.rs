//! The gate: what a text's bytes alone say, without parsing it.
//!
//! Start at [`gate`]. A text that is not proven harmless here is parsed.

use crate::calls::{Calls, calls};
use crate::splice::significant_tokens;
use crate::words::{begins_with, has_word, is_space, mentions, skip_space, skip_space_and_semicolons, word_at};
use pg_query::protobuf::Token;

/// What the bytes alone say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// One statement of a kind that is never touched (SELECT, INSERT, COPY …), or an empty one.
    Forward,
    /// BEGIN / START TRANSACTION, COMMIT / END / ROLLBACK / ABORT …: forwarded too, but a pipeline has to know of them.
    Begin,
    End,
    /// Only [`read`] can tell.
    Read,
}

/// Well under a microsecond for ordinary statements, never allocates, works on any bytes: in every client encoding that
/// PostgreSQL knows, the bytes that matter here (quotes, `;`, `-`, `/`, `*`, `$`) stand only for themselves. A backslash may be
/// half of a character, and is therefore taken as a reason to read.
pub fn gate(text: &[u8]) -> Gate {
    let Some(start) = skip_space_and_semicolons(text, 0) else {
        return Gate::Read;
    };
    if start == text.len() {
        return Gate::Forward;
    }
    let first = first_word(&text[start..]);
    if first == Gate::Read {
        return Gate::Read;
    }
    let Some(semicolon) = memchr::memchr(b';', &text[start..]) else {
        return first;
    };
    // Nothing but blanks and `;` after the first `;`: whatever it stands in, no second statement can follow.
    if text[start + semicolon..].iter().all(|&b| b == b';' || is_space(b)) {
        return first;
    }
    if memchr::memchr(b'\\', text).is_some() {
        return Gate::Read;
    }
    match next_statement(text, start) {
        Some(None) => first,
        Some(Some(second)) if first == Gate::Forward => rest_forwards(text, second),
        _ => Gate::Read,
    }
}

/// All statements from `at` on are of the kinds that are never touched.
pub(crate) fn rest_forwards(text: &[u8], mut at: usize) -> Gate {
    while first_word(&text[at..]) == Gate::Forward {
        match next_statement(text, at) {
            Some(None) => return Gate::Forward,
            Some(Some(next)) => at = next,
            None => return Gate::Read,
        }
    }
    Gate::Read
}

/// From within a statement to the start of the one after it: Some(None) if there is none, None if the bytes alone cannot
/// tell. The text has no backslash, so that a quote ends at the next quote mark whatever standard_conforming_strings is.
pub(crate) fn next_statement(text: &[u8], mut at: usize) -> Option<Option<usize>> {
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\'' | b'"' => at += 2 + memchr::memchr(byte, &text[at + 1..])?,
            // A comment ends an operator that it is glued to, so these two bytes always start one.
            b'-' if text.get(at + 1) == Some(&b'-') => return None,
            b'/' if text.get(at + 1) == Some(&b'*') => return None,
            // A parameter, or the start of a dollar quote (or the middle of a name, which need not be told apart).
            b'$' if text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 2,
            b'$' => return None,
            b';' => {
                let next = skip_space_and_semicolons(text, at)?;
                return Some((next < text.len()).then_some(next));
            }
            _ => at += 1,
        }
    }
    Some(None)
}

/// After this text a table's name may mean another table: `SET search_path`, `SET ROLE` (for `"$user"`), `DISCARD ALL` and the
/// like. Too many texts are better than too few.
pub fn may_move_names(text: &[u8]) -> bool {
    if names_search_path(text) {
        return true;
    }
    let several = memchr::memchr(b';', text.trim_ascii_end().strip_suffix(b";").unwrap_or(text)).is_some();
    let Some(start) = skip_space_and_semicolons(text, 0) else {
        return true;
    };
    let word = word_at(&text[start..]);
    let sets = ["set", "reset", "discard"]
        .iter()
        .any(|w| word.eq_ignore_ascii_case(w.as_bytes()));
    (several || sets)
        && ["search_path", "schema", "role", "authorization", "all"]
            .iter()
            .any(|w| mentions(text, w))
}

/// What runs in front of other statements and may change what is known of them. Not of a plain UPDATE or DELETE, whose functions
/// compute values. Too many texts are better than too few.
pub fn calls_before(text: &[u8]) -> Calls {
    let word = skip_space_and_semicolons(text, 0).map_or(&[][..], |start| word_at(&text[start..]));
    let is = |known: &str| word.eq_ignore_ascii_case(known.as_bytes());
    if is("update") || is("delete") {
        return Calls::Harmless;
    }
    // Code, which may put any text together.
    if is("do") {
        return Calls::Others;
    }
    // Its command tag does not tell how many rows it brings.
    if (is("with") || is("explain") || is("copy")) && has_word(text, b"insert") {
        return Calls::Others;
    }
    calls(text)
}

/// In any case. The underscore is the rarest of its letters.
pub(crate) fn names_search_path(text: &[u8]) -> bool {
    memchr::memchr_iter(b'_', text).any(|at| {
        let from = at.wrapping_sub("search".len());
        text.get(from..at + 1 + "path".len())
            .is_some_and(|word| word.eq_ignore_ascii_case(b"search_path"))
    })
}

/// EXECUTE, DEALLOCATE or DISCARD may be in it. A column `executed_at` is no reason to look.
pub fn may_use_prepared(text: &[u8]) -> bool {
    let words = ["execute", "deallocate", "discard"];
    let several = || holds_several(text) && words.iter().any(|word| mentions(text, word));
    may_execute_prepared(text) || begins_with(text, &words) || several()
}

/// EXECUTE, also within EXPLAIN or CREATE TABLE … AS, as the only statement of the text.
pub fn may_execute_prepared(text: &[u8]) -> bool {
    begins_with(text, &["execute"]) || begins_with(text, &["explain", "create"]) && mentions(text, "execute")
}

/// The name that an EXECUTE has, and what stands behind it, if it is the only statement of the text and the name is written as the
/// server knows it.
pub fn executed_plainly(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const NAME_BYTES_MAX: usize = 63;
    let start = skip_space_and_semicolons(text, 0)?;
    let word = word_at(&text[start..]);
    if !word.eq_ignore_ascii_case(b"execute") || holds_several(text) {
        return None;
    }
    let rest = &text[skip_space(text, start + word.len())?..];
    let name = word_at(rest);
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    let begins = name.first().is_some_and(|first| !first.is_ascii_digit());
    (begins && name.len() <= NAME_BYTES_MAX && name.iter().all(is_plain)).then(|| rest.split_at(name.len()))
}

/// It may give a name that is prepared another meaning.
pub fn may_prepare_again(text: &[u8]) -> bool {
    let words = ["prepare", "deallocate", "discard"];
    begins_with(text, &words) || holds_several(text) && words.iter().any(|word| mentions(text, word))
}

/// What changes rows or the schema and answers with rows too, so that FETCH can run its portal. Too many texts are better than too few.
pub fn may_return_rows(text: &[u8]) -> bool {
    let start = skip_space_and_semicolons(text, 0);
    start.is_none_or(|start| word_at(&text[start..]).is_empty())
        || begins_with(text, &["with", "explain", "execute", "call", "select"])
        || mentions(text, "returning")
}

/// An INSERT may be in it. Too many texts are better than too few.
pub fn may_insert(text: &[u8]) -> bool {
    let word = skip_space_and_semicolons(text, 0).map_or(&[][..], |start| word_at(&text[start..]));
    let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
    if is(b"insert") {
        return true;
    }
    let holds = [
        &b"with"[..],
        b"explain",
        b"copy",
        b"prepare",
        b"merge",
        b"create",
        b"do",
        b"",
    ]
    .iter()
    .any(|keyword| is(keyword));
    (holds || holds_several(text)) && has_word(text, b"insert")
}

/// It may prepare an INSERT.
pub fn prepares_insert(text: &[u8]) -> bool {
    let prepares = begins_with(text, &["prepare"]) || holds_several(text) && mentions(text, "prepare");
    prepares && mentions(text, "insert")
}

/// By its bytes it may be several statements.
pub fn holds_several(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    memchr::memchr(b';', text.strip_suffix(b";").unwrap_or(text)).is_some()
}

/// A semicolon that [`holds_several`] saw stands in a string, a comment, or the code of a DO block.
pub fn is_single(text: &[u8]) -> bool {
    let Some(tokens) = str::from_utf8(text).ok().and_then(significant_tokens) else {
        return false;
    };
    let end = tokens.iter().rposition(|token| token.token() != Token::Ascii59);
    let within = &tokens[..end.map_or(0, |end| end + 1)];
    within.iter().all(|token| token.token() != Token::Ascii59)
}

/// What the first word of a statement says about it.
pub(crate) fn first_word(text: &[u8]) -> Gate {
    if text.first() == Some(&b'(') {
        return if changes_within(text) || replaces_within(text) {
            Gate::Read
        } else {
            Gate::Forward
        };
    }
    let word = word_at(text);
    let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
    let any = |keywords: &[&str]| keywords.iter().any(|k| is(k));
    match word.first().map(u8::to_ascii_lowercase) {
        Some(b's') if any(&["select", "set", "show", "savepoint"]) => Gate::Forward,
        Some(b's') if is("start") => Gate::Begin,
        Some(b'b') if is("begin") => Gate::Begin,
        Some(b'e') if is("end") => Gate::End,
        Some(b'a') if is("abort") => Gate::End,
        Some(b'p') if is("prepare") => prepare(text, word.len()),
        Some(b'c' | b'r') if any(&["commit", "rollback"]) => end_word(text, word.len()),
        Some(b'i') if is("insert") && !replaces_within(text) => Gate::Forward,
        Some(b'v') if is("values") => Gate::Forward,
        Some(b't') if is("table") => Gate::Forward,
        Some(b'f') if is("fetch") => Gate::Forward,
        Some(b'm') if is("move") => Gate::Forward,
        Some(b'd') if any(&["declare", "discard", "deallocate"]) => Gate::Forward,
        Some(b'c') if any(&["close", "checkpoint"]) => Gate::Forward,
        Some(b'c') if is("copy") && !changes_within(text) && !replaces_within(text) => Gate::Forward,
        // Ours: CALL lockkeeper.resume(7).
        Some(b'c') if is("call") && !has_word(text, b"lockkeeper") => Gate::Forward,
        Some(b'l') if any(&["listen", "load"]) => Gate::Forward,
        Some(b'n') if is("notify") => Gate::Forward,
        Some(b'u') if is("unlisten") => Gate::Forward,
        Some(b'r') if any(&["reset", "release"]) => Gate::Forward,
        Some(b'e') if is("execute") => Gate::Forward,
        Some(b'e') if is("explain") && !changes_within(text) && !replaces_within(text) => Gate::Forward,
        Some(b'w') if is("with") && !changes_within(text) && !replaces_within(text) => Gate::Forward,
        Some(b'a') if any(&["analyze", "analyse"]) => Gate::Forward,
        _ => Gate::Read,
    }
}

/// A WITH in it may change data.
pub(crate) fn changes_within(text: &[u8]) -> bool {
    has_word(text, b"update") || has_word(text, b"delete") || has_word(text, b"merge")
}

/// ON CONFLICT DO UPDATE of rows that a query brings; VALUES alone need no look.
pub(crate) fn replaces_within(text: &[u8]) -> bool {
    has_word(text, b"conflict")
        && has_word(text, b"update")
        && (has_word(text, b"select") || has_word(text, b"table") || crate::calls::may_return_sets(text))
}

/// PREPARE TRANSACTION 'id' ends a transaction; PREPARE name AS … does not, and the name may well be `transaction`.
pub(crate) fn prepare(text: &[u8], after: usize) -> Gate {
    let Some(at) = skip_space(text, after) else {
        return Gate::Read;
    };
    let word = word_at(&text[at..]);
    if !word.eq_ignore_ascii_case(b"transaction") {
        return if changes_within(text) || replaces_within(text) {
            Gate::Read
        } else {
            Gate::Forward
        };
    }
    match skip_space(text, at + word.len()).and_then(|at| text.get(at)) {
        Some(b'\'') => Gate::End,
        _ => Gate::Read,
    }
}

/// COMMIT and ROLLBACK, except ROLLBACK TO and COMMIT / ROLLBACK PREPARED, which leave the session's transaction as it is.
pub(crate) fn end_word(text: &[u8], after: usize) -> Gate {
    let Some(mut at) = skip_space(text, after) else {
        return Gate::Read;
    };
    let mut word = word_at(&text[at..]);
    if word.eq_ignore_ascii_case(b"work") || word.eq_ignore_ascii_case(b"transaction") {
        let Some(next) = skip_space(text, at + word.len()) else {
            return Gate::Read;
        };
        at = next;
        word = word_at(&text[at..]);
    }
    if word.eq_ignore_ascii_case(b"to") || word.eq_ignore_ascii_case(b"prepared") {
        Gate::Forward
    } else {
        Gate::End
    }
}
