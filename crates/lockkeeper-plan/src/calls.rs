//! Whether a text may call a function that is not the server's own: such a function can do anything, and nothing tells of it.

use crate::functions::{HARMLESS, SETS};

const WORD_MAX: usize = 32;

/// One row of VALUES may be many: somebody's function, or one of the server's that returns a set.
pub(crate) fn may_return_sets(text: &[u8]) -> bool {
    calls(text) >= Calls::Others || SETS.iter().any(|name| crate::words::mentions(text, name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calls {
    /// The server's own functions, and such as change nothing.
    Harmless,
    /// set_config: a name may mean another table from then on.
    Settings,
    /// Functions that can do anything.
    Others,
    /// A temporary table is made, which the command tag does not tell: CREATE TABLE AS and SELECT INTO.
    MakesTemporary,
    /// The same of a table that others see too.
    Makes,
}

/// Whether a text may make a relation of what a query gives: what has to be read to know it.
pub(crate) fn may_make_relations(text: &[u8], word: &[u8], several: bool) -> bool {
    let is = |known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
    if !several && is(&["insert", "update", "delete", "merge"]) {
        return false;
    }
    let into = memchr::memchr2_iter(b'i', b'I', text).any(|at| {
        let is_into = text
            .get(at..at + 4)
            .is_some_and(|found| found.eq_ignore_ascii_case(b"into"));
        let before = text[..at].trim_ascii_end();
        is_into && {
            let (word, _) = last_word(before);
            !word.eq_ignore_ascii_case(b"insert") && !word.eq_ignore_ascii_case(b"merge")
        }
    });
    into || ((several || is(&["create", "explain"])) && crate::words::mentions(text, "create"))
}

/// Rather too much than too little.
pub fn calls(text: &[u8]) -> Calls {
    let mut found = Calls::Harmless;
    for at in memchr::memchr_iter(b'(', text) {
        found = found.max(called(&text[..at]));
        if found >= Calls::Others {
            break;
        }
    }
    found
}

/// What stands before a parenthesis.
fn called(before: &[u8]) -> Calls {
    let others = |are: bool| if are { Calls::Others } else { Calls::Harmless };
    let before = before.trim_ascii_end();
    let (word, rest) = last_word(before);
    match (word, before.last()) {
        ([], Some(b'"')) => return others(!names_relation(before)),
        // An expression.
        ([], _) => return Calls::Harmless,
        _ => {}
    }
    let mut lower = [0; WORD_MAX];
    let Some(lower) = lower.get_mut(..word.len()) else {
        return others(!names_relation(before));
    };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let qualified = rest.last() == Some(&b'.');
    let known = HARMLESS.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok();
    let ours = !qualified || last_word(&rest[..rest.len() - 1]).0.eq_ignore_ascii_case(b"pg_catalog");
    match ours && *lower == *b"set_config" {
        true => Calls::Settings,
        false => others(!((known && ours) || names_relation(before))),
    }
}

/// `INTO s.t`, `AS v`: a list of columns follows.
fn names_relation(before: &[u8]) -> bool {
    let is_name = |byte: &u8| is_word(*byte) || matches!(*byte, b'.' | b'"');
    let name = before.iter().rev().take_while(|byte| is_name(byte)).count();
    let (word, _) = last_word(before[..before.len() - name].trim_ascii_end());
    [&b"into"[..], b"as", b"with", b"recursive", b"copy"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

fn last_word(text: &[u8]) -> (&[u8], &[u8]) {
    let length = text.iter().rev().take_while(|byte| is_word(**byte)).count();
    let (rest, word) = text.split_at(text.len() - length);
    (word, rest)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called() {
        let check = |sql: &str, expect: Calls| assert_eq!(calls(sql.as_bytes()), expect, "{sql}");
        check(
            "SELECT count(*), max (a) FROM t WHERE (a = 1) AND b IN (1, 2)",
            Calls::Harmless,
        );
        check(
            "INSERT INTO public.orders (a, b) VALUES (1, pg_catalog.now())",
            Calls::Harmless,
        );
        check("INSERT INTO \"Orders\"(a) VALUES ((1))", Calls::Harmless);
        check("WITH v (a) AS (VALUES (1)) SELECT * FROM v AS w(b)", Calls::Harmless);
        check("SELECT f()", Calls::Others);
        check("SELECT F (1)", Calls::Others);
        check("SELECT public.lower('a')", Calls::Others);
        check("SELECT \"f\"(1)", Calls::Others);
        check("SELECT set_config($1, $2, false)", Calls::Settings);
        check("SELECT pg_catalog.set_config($1, $2, false)", Calls::Settings);
        check("SELECT set_config('a', f(1), true)", Calls::Others);
        check("SELECT public.set_config('a', 'b', true)", Calls::Others);
        check("SELECT query_to_xml($1, true, true, '')", Calls::Others);
        check(&format!("SELECT {}()", "a".repeat(40)), Calls::Others);
        check("INSERT INTO t (a) VALUES (f(1))", Calls::Others);
    }
}
