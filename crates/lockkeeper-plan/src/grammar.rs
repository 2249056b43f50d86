//! The server's own grammar, and the tree that it makes of a text: never decoded before it is known how deep it is. A tree is
//! walked, copied and dropped by recursion, and a stack that overflows ends the process with everybody's sessions.

use pg_query::ParserOptions;
use pg_query::protobuf::ParseResult;
use prost::Message;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};

/// Of a thread that is given deep trees, in bytes. Only what is used takes memory.
pub const STACK_BYTES: usize = 128 << 20;
/// Messages within messages, of which an operator or a cast takes two for each level, CASE and a sub-select four: 2,000 operators one within the
/// other. An unoptimised build takes up to 32 kB of stack for a level, where a tree becomes text. With the `max_stack_depth` that it has as
/// a rule (2 MB) a server takes 4,300 operators.
const LEVELS_MAX: usize = 4_010;
/// On any other thread.
const LEVELS_SHALLOW: usize = 104;

thread_local! {
    static LEVELS: Cell<usize> = const { Cell::new(LEVELS_SHALLOW) };
}

/// To be called at the start of a thread that has a stack of [`STACK_BYTES`]: from here on it may read what is nested as deeply as a server
/// takes it.
pub fn this_thread_is_deep() {
    LEVELS.set(LEVELS_MAX);
}

#[derive(Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// The grammar refuses it, in its words.
    Syntax(String),
    /// The grammar takes it, or may: but its tree is too deep to be looked at.
    TooDeep,
}

/// The tree of a text, with standard_conforming_strings on.
pub fn parse(sql: &str) -> Result<ParseResult, Unparsed> {
    parse_with(sql, ParserOptions::DEFAULT)
}

pub fn parse_with(sql: &str, options: ParserOptions) -> Result<ParseResult, Unparsed> {
    let input = CString::new(sql).map_err(|error| Unparsed::Syntax(error.to_string()))?;
    let answer = Answer::of(&input, options);
    if let Some(message) = answer.error() {
        return Err(match message.as_str() {
            // The C code that writes the tree has gone as deep as it has stack for.
            "stack depth limit exceeded" => Unparsed::TooDeep,
            _ => Unparsed::Syntax(message),
        });
    }
    let bytes = answer.tree();
    if levels(bytes) > LEVELS.get() {
        return Err(Unparsed::TooDeep);
    }
    ParseResult::decode(bytes).map_err(|error| Unparsed::Syntax(error.to_string()))
}

/// How deeply messages are nested in each other, at most: what may be a message is taken for one, also where it is a string.
fn levels(bytes: &[u8]) -> usize {
    let mut ends = vec![bytes.len()];
    let (mut at, mut deepest) = (0, 1);
    while let Some(&end) = ends.last() {
        if at >= end {
            ends.pop();
            continue;
        }
        let field = varint(&bytes[..end], &mut at);
        let length = match field.map(|field| field & 7) {
            Some(0) => varint(&bytes[..end], &mut at).map(|_| 0),
            Some(1) => Some(8),
            Some(5) => Some(4),
            Some(2) => match varint(&bytes[..end], &mut at) {
                Some(length) if length <= (end - at) as u64 => {
                    ends.push(at + length as usize);
                    deepest = deepest.max(ends.len());
                    continue;
                }
                _ => None,
            },
            _ => None,
        };
        // What is no field makes a string of the whole.
        let next = length.map(|length| at + length);
        at = next.filter(|next| *next <= end).unwrap_or(end);
    }
    deepest
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// What the C library gives back, freed with it.
struct Answer(PgQueryProtobufParseResult);

impl Answer {
    fn of(input: &CString, options: ParserOptions) -> Answer {
        // SAFETY: the text ends with a NUL, and outlives the call.
        Answer(unsafe { pg_query_parse_protobuf_opts(input.as_ptr(), options.bits()) })
    }

    fn error(&self) -> Option<String> {
        if self.0.error.is_null() {
            return None;
        }
        // SAFETY: an error that there is has a message that ends with a NUL.
        let message = unsafe { CStr::from_ptr((*self.0.error).message) };
        Some(message.to_string_lossy().into_owned())
    }

    fn tree(&self) -> &[u8] {
        if self.0.parse_tree.data.is_null() {
            return &[];
        }
        // SAFETY: without an error it is that many bytes, until it is freed.
        unsafe { std::slice::from_raw_parts(self.0.parse_tree.data.cast(), self.0.parse_tree.len) }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: it is what the library has given, and is not used any more.
        unsafe { pg_query_free_protobuf_parse_result(self.0) }
    }
}

/// As pg_query.h has it.
#[repr(C)]
#[derive(Clone, Copy)]
struct PgQueryProtobufParseResult {
    parse_tree: PgQueryProtobuf,
    stderr_buffer: *mut c_char,
    error: *mut PgQueryError,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct PgQueryProtobuf {
    len: usize,
    data: *mut c_char,
}

/// Its first field, which is all that is read.
#[repr(C)]
struct PgQueryError {
    message: *mut c_char,
}

unsafe extern "C" {
    fn pg_query_parse_protobuf_opts(input: *const c_char, options: c_int) -> PgQueryProtobufParseResult;
    fn pg_query_free_protobuf_parse_result(result: PgQueryProtobufParseResult);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_deep_a_tree_is() {
        let of = |sql: &str| levels(Answer::of(&CString::new(sql).unwrap(), ParserOptions::DEFAULT).tree());
        let one = of("SELECT a");
        assert_eq!(of(&format!("SELECT a{}", " + a".repeat(10))), one + 20);
        assert_eq!(
            of(&format!("SELECT {}a{}", "abs(".repeat(10), ")".repeat(10))),
            one + 20
        );
        assert_eq!(of(&["SELECT a"; 11].join(" UNION ")), one + 10);
        // A string is never taken for so many levels that it would matter.
        assert!(of(&format!("COMMENT ON TABLE t IS '{}'", "rbzzjj BZ*2:".repeat(100_000))) < 100);
        assert_eq!(levels(&[0xff; 100]), 1);
        assert_eq!(levels(&[0x12, 0x7f, 0x12]), 1);
        assert_eq!(levels(&[]), 1);
    }

    #[test]
    fn a_thread_that_has_not_the_stack_reads_nothing_deep() {
        let deep = format!("SELECT a{}", " + a".repeat(4_000));
        assert_eq!(parse(&deep), Err(Unparsed::TooDeep));
        assert!(parse("SELECT a + a").is_ok());
        assert!(
            matches!(parse("SELECT FROM FROM"), Err(Unparsed::Syntax(message)) if message.contains("syntax error"))
        );
    }
}
