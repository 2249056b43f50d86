//! Whether a text that is too long to be held is one that nobody judges, told while its bytes go by. Pure.
//!
//! What the gate says of a whole text, this says of one that never is there as a whole: where it is not certain, it says no. A
//! backslash is read both as with standard_conforming_strings on and off, and both must agree. Start at [`Stream::feed`].

/// A longer tag of a dollar quote is not followed.
const TAG_MAX: usize = 128;
/// The longest word that is looked for.
const WORD_MAX: usize = 8;

/// A text of a client encoding in which a byte of a character can be a backslash must not be given to it.
#[derive(Debug)]
pub struct Stream {
    conforming: Reader,
    escaping: Reader,
}

impl Default for Stream {
    fn default() -> Stream {
        Stream {
            conforming: Reader::new(false),
            escaping: Reader::new(true),
        }
    }
}

impl Stream {
    /// The next bytes. False: there may be something in the text that has to be judged, and nothing of it must be run.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        self.conforming.feed(bytes) && self.escaping.feed(bytes)
    }

    /// The first statement is known to be of a kind that can pass.
    pub fn begun(&self) -> bool {
        self.conforming.kind.is_some() && self.escaping.kind.is_some()
    }
}

/// By its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatementKind {
    /// SELECT, VALUES, TABLE
    Query,
    Insert,
    /// COPY, WITH, EXPLAIN: with nothing in it that changes rows.
    Reads,
}

#[derive(Clone, Debug)]
enum In {
    Text,
    Line,
    Block(u32),
    /// `escapes`: a backslash takes the next byte with it.
    String {
        escapes: bool,
    },
    Escaped,
    /// Behind a quote mark in a string: another one makes both a character of it.
    Quote {
        escapes: bool,
    },
    Name,
    Tag(Vec<u8>),
    Dollar {
        tag: Vec<u8>,
        matched: usize,
    },
}

#[derive(Debug)]
struct Reader {
    /// Plain strings are read as with standard_conforming_strings off.
    escaping: bool,
    within: In,
    kind: Option<StatementKind>,
    /// Of the word that is being read, in lower case, as far as words are told apart.
    word: Vec<u8>,
    /// `-`, `/` or `*`: the next byte may make it a comment's mark.
    before: u8,
    /// An escape string has just ended: what follows may belong to it.
    after_escapes: bool,
    changes: bool,
    conflict: bool,
    query: bool,
    /// The text has ended, by a NUL.
    ended: bool,
}

impl Reader {
    fn new(escaping: bool) -> Reader {
        Reader {
            escaping,
            within: In::Text,
            kind: None,
            word: Vec::with_capacity(WORD_MAX + 1),
            before: 0,
            after_escapes: false,
            changes: false,
            conflict: false,
            query: false,
            ended: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            if self.ended {
                return true;
            }
            // What makes such a text long.
            let skipped = match self.within {
                In::String { escapes: false } => memchr::memchr2(b'\'', 0, rest),
                In::String { escapes: true } => memchr::memchr3(b'\'', b'\\', 0, rest),
                _ => Some(0),
            };
            match skipped {
                None => return true,
                Some(0) => {}
                Some(n) => {
                    rest = &rest[n..];
                    continue;
                }
            }
            if byte == 0 {
                self.ended = true;
                return self.end_word();
            }
            if !self.next(byte) {
                return false;
            }
            rest = &rest[1..];
        }
        true
    }

    fn next(&mut self, byte: u8) -> bool {
        match &mut self.within {
            In::Text => return self.text(byte),
            In::Line if matches!(byte, b'\n' | b'\r') => self.within = In::Text,
            In::Line => {}
            In::Block(depth) => match (self.before, byte) {
                (b'/', b'*') => (*depth, self.before) = (*depth + 1, 0),
                (b'*', b'/') if *depth == 1 => (self.within, self.before) = (In::Text, 0),
                (b'*', b'/') => (*depth, self.before) = (*depth - 1, 0),
                _ => self.before = byte,
            },
            In::String { escapes } => match byte {
                b'\\' if *escapes => self.within = In::Escaped,
                b'\'' => self.within = In::Quote { escapes: *escapes },
                _ => {}
            },
            In::Escaped => self.within = In::String { escapes: true },
            In::Quote { escapes } => {
                let escapes = *escapes;
                if byte == b'\'' {
                    self.within = In::String { escapes };
                } else {
                    (self.within, self.after_escapes) = (In::Text, escapes);
                    return self.text(byte);
                }
            }
            In::Name if byte == b'"' => self.within = In::Text,
            In::Name => {}
            In::Tag(tag) => match byte {
                b'$' if tag.first().is_some_and(u8::is_ascii_digit) => return false,
                b'$' => {
                    let tag = [&b"$"[..], tag, b"$"].concat();
                    self.within = In::Dollar { tag, matched: 0 };
                }
                _ if in_word(byte) && tag.len() < TAG_MAX => tag.push(byte),
                // A parameter.
                _ if tag.first().is_some_and(u8::is_ascii_digit) && tag.iter().all(u8::is_ascii_digit) => {
                    self.within = In::Text;
                    return self.text(byte);
                }
                _ => return false,
            },
            In::Dollar { tag, matched } => {
                // A tag has no `$` in it, so that a new one can only begin with this byte.
                *matched = match byte == tag[*matched] {
                    true => *matched + 1,
                    false => usize::from(byte == b'$'),
                };
                if *matched == tag.len() {
                    self.within = In::Text;
                }
            }
        }
        true
    }

    fn text(&mut self, byte: u8) -> bool {
        let before = std::mem::take(&mut self.before);
        if in_word(byte) && (!self.word.is_empty() || !(byte.is_ascii_digit() || byte == b'$')) {
            self.after_escapes = false;
            if self.word.len() <= WORD_MAX {
                self.word.push(byte.to_ascii_lowercase());
            }
            return true;
        }
        let is_escape = self.word == b"e";
        if byte == b'\'' {
            self.word.clear();
            if self.after_escapes {
                return false;
            }
            let escapes = is_escape || self.escaping;
            self.within = In::String { escapes };
            // Of a statement that begins with a string the server will not take anything.
            return self.kind.is_some();
        }
        if !self.end_word() {
            return false;
        }
        match (before, byte) {
            (b'-', b'-') => self.within = In::Line,
            (b'/', b'*') => self.within = In::Block(1),
            (_, b'"') => self.within = In::Name,
            (_, b'$') => self.within = In::Tag(Vec::new()),
            (_, b';') => {
                self.after_escapes = false;
                if !self.end_statement() {
                    return false;
                }
            }
            (_, b'-' | b'/') => self.before = byte,
            _ => self.after_escapes &= byte.is_ascii_whitespace() || byte == 0x0b,
        }
        // Only blanks and comments come before the first word.
        self.kind.is_some() || matches!(byte, b';' | b'-' | b'/' | b'*') || byte.is_ascii_whitespace() || byte == 0x0b
    }

    /// False: with this word the statement is one that is judged.
    fn end_word(&mut self) -> bool {
        if self.word.is_empty() {
            return true;
        }
        let word = std::mem::take(&mut self.word);
        let Some(kind) = self.kind else {
            self.kind = match word.as_slice() {
                b"select" | b"values" | b"table" => Some(StatementKind::Query),
                b"insert" => Some(StatementKind::Insert),
                b"copy" | b"with" | b"explain" => Some(StatementKind::Reads),
                _ => None,
            };
            return self.kind.is_some();
        };
        match word.as_slice() {
            b"update" | b"delete" | b"merge" => self.changes = true,
            b"conflict" => self.conflict = true,
            b"select" | b"table" => self.query = true,
            _ => return true,
        }
        match kind {
            StatementKind::Query => true,
            StatementKind::Insert => !(self.changes && self.conflict && self.query),
            StatementKind::Reads => !self.changes,
        }
    }

    fn end_statement(&mut self) -> bool {
        (self.kind, self.changes, self.conflict, self.query) = (None, false, false, false);
        true
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::read;
    use crate::statement::Kind;
    use proptest::prelude::*;

    /// In pieces of every size it must say the same.
    #[track_caller]
    fn check(text: &str, passes: bool) {
        for size in [1, 2, 7, text.len().max(1)] {
            let mut stream = Stream::default();
            let all = text.as_bytes().chunks(size).all(|piece| stream.feed(piece));
            assert_eq!(all && stream.feed(b"\0"), passes, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn what_nobody_judges_passes() {
        for text in [
            "select 1",
            "INSERT INTO t VALUES ('a;b', 'it''s', E'\\'; drop table t', $$;drop$$, $a$ $$; x $a$) ;; -- done",
            "insert into t values (1); insert into t values (2); select 'update'",
            "insert into t values ('\\x00ff'::bytea)",
            "/* /* ; */ */ select \"a;\"\"b\"; values (1)",
            "insert into t values (1) on conflict (a) do update set a = 1",
            "with a as (select 'delete') select * from a",
            "copy t from stdin",
            "select $1 + $22",
            "",
        ] {
            check(text, true);
        }
    }

    #[test]
    fn what_may_have_to_be_judged_does_not() {
        for text in [
            "update t set a = 1",
            "drop table t",
            "select 1; drop table t",
            "select 1;/**/drop table t",
            "select '\\'; drop table t; --'",
            "select '\\''; drop table t; --'",
            "select E'a'\n'\\'; drop table t; --'",
            "select $$a$$; drop table t",
            "select $a$ $a$; drop table t",
            "select \"a\"; delete from t",
            "select 1--x\n; truncate t",
            "select 5>--\n2; drop table t",
            "with a as (delete from t returning 1) select 1",
            "explain analyze update t set a = 1",
            "insert into t select * from u on conflict (a) do update set a = 1",
            "(with a as (delete from t returning 1) select 1)",
            "begin; drop table t",
            "set a = 1",
            "call lockkeeper.resume(7)",
            "execute a",
        ] {
            check(text, false);
        }
    }

    const PIECES: &[&str] = &[
        "select ",
        "insert into t values (",
        ")",
        "1",
        "'",
        "''",
        "\"",
        "\\",
        "E'",
        "e",
        "u&'",
        "n'",
        "$",
        "$$",
        "$a$",
        "a",
        "--",
        "\n",
        "/*",
        "*/",
        "-",
        "/",
        "*",
        ";",
        " ",
        "drop table t",
        "update t set a=1",
        "é",
        "x'",
        "b'",
        "1e",
        "$1",
        "_",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8192, failure_persistence: None, ..ProptestConfig::default() })]

        /// What passes holds, as the grammar reads it, nothing that is judged, whichever way a backslash is taken.
        #[test]
        fn nothing_judged_passes(
            start in prop::sample::select(&["select ", "insert into t values ('", "values (E'", "copy t from stdin "][..]),
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12),
        ) {
            let text = format!("{start}{}", pieces.concat());
            let mut stream = Stream::default();
            if stream.feed(text.as_bytes()) && stream.feed(b"\0") {
                for conforming in [true, false] {
                    let statements = read(text.as_bytes(), conforming).unwrap_or_default();
                    prop_assert!(statements.iter().all(|s| matches!(s.kind, Kind::Harmless)), "{text:?}");
                }
            }
        }
    }
}
