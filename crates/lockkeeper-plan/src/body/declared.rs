//! Declarations of a PL/pgSQL block in a form that can be read without a catalog: where a type is one of a schema, of a table or a column, or
//! an array of such, it is taken for a record. What the block runs stays as it is.

use crate::splice::significant_tokens;
use pg_query::protobuf::{ScanToken, Token};
use std::ops::Range;

/// None: there is nothing of that kind.
pub(super) fn as_records(code: &str) -> Option<String> {
    let tokens = significant_tokens(code)?;
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].token() != Token::Declare {
            at += 1;
            continue;
        }
        at += 1;
        while at < tokens.len() && tokens[at].token() != Token::BeginP {
            let end = end_of(&tokens, at, &[Token::Ascii59]);
            found.extend(type_of(code, &tokens[..end], at));
            at = end + 1;
        }
    }
    if found.is_empty() {
        return None;
    }
    let mut out = code.to_owned();
    for range in found.into_iter().rev() {
        out.replace_range(range, "record");
    }
    Some(out)
}

/// The first of these outside of parentheses, or the end.
fn end_of(tokens: &[ScanToken], from: usize, words: &[Token]) -> usize {
    let mut depth = 0;
    let ends = |token: &ScanToken| {
        match token.token() {
            Token::Ascii40 => depth += 1,
            Token::Ascii41 => depth -= 1,
            _ => {}
        }
        depth == 0 && words.contains(&token.token())
    };
    let rest = tokens.get(from..).unwrap_or_default();
    from + rest.iter().position(ends).unwrap_or(rest.len())
}

/// `name [CONSTANT] type [COLLATE …] [NOT NULL] [:= …]`
fn type_of(code: &str, tokens: &[ScanToken], name: usize) -> Option<Range<usize>> {
    let text = |at: usize| code.get(tokens.get(at)?.start as usize..tokens[at].end as usize);
    let is = |at: usize, word: &str| text(at).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let from = if is(name + 1, "constant") { name + 2 } else { name + 1 };
    if ["cursor", "no", "scroll", "alias"].iter().any(|word| is(from, word)) {
        return None;
    }
    let behind = [
        Token::ColonEquals,
        Token::Ascii61,
        Token::Default,
        Token::Not,
        Token::Collate,
    ];
    let end = end_of(tokens, from, &behind);
    let within = tokens.get(from..end).filter(|within| !within.is_empty())?;
    let needs_catalog = |token: &ScanToken| {
        matches!(
            token.token(),
            Token::Ascii46 | Token::Ascii37 | Token::Ascii91 | Token::Array
        )
    };
    let (first, last) = (within.first()?, within.last()?);
    within
        .iter()
        .any(needs_catalog)
        .then_some(first.start as usize..last.end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_need_a_catalog() {
        let check = |code: &str, expect: Option<&str>| assert_eq!(as_records(code).as_deref(), expect, "{code}");
        check("DECLARE a int; b numeric(3, 1) := 2; BEGIN NULL; END", None);
        check("BEGIN UPDATE t SET a = b.c; END", None);
        check(
            "DECLARE r t%rowtype; k CONSTANT s.t.a%TYPE NOT NULL := s.f(1, 2); c CURSOR FOR SELECT s.a FROM s.t; BEGIN r.a := 1; END",
            Some(
                "DECLARE r record; k CONSTANT record NOT NULL := s.f(1, 2); c CURSOR FOR SELECT s.a FROM s.t; BEGIN r.a := 1; END",
            ),
        );
        check(
            "<<b>> DECLARE a mine[] DEFAULT '{}'; BEGIN DECLARE x s.t ARRAY; y text COLLATE s.c; BEGIN x[1] := 2; END; END",
            Some(
                "<<b>> DECLARE a record DEFAULT '{}'; BEGIN DECLARE x record; y text COLLATE s.c; BEGIN x[1] := 2; END; END",
            ),
        );
    }
}
