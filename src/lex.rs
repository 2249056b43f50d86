//! The outermost lexical structure of SQL: what is a comment, a string, a quoted name or a word. For text that no parser
//! takes (psql scripts, broken statements); what is judged goes through the server's own scanner instead.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// White space or a comment.
    Space,
    /// A keyword, an identifier without quotes, a number or a parameter.
    Word,
    /// `'…'` with its prefix. Ambiguous where its end depends on standard_conforming_strings, or is missing.
    Literal { ambiguous: bool },
    /// `$tag$ … $tag$`; `tag` is the length of `$tag$`.
    Dollar { tag: usize },
    /// A quoted identifier, or one character of an operator or punctuation.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: Kind,
    /// In bytes.
    pub length: usize,
}

impl Token {
    fn new(kind: Kind, length: usize) -> Option<Token> {
        Some(Token { kind, length })
    }

    pub fn text<'a>(&self, rest: &'a str) -> &'a str {
        rest.get(..self.length).unwrap_or(rest)
    }

    /// Of a text; None for an empty one.
    pub fn first(rest: &str) -> Option<Token> {
        let first = rest.chars().next()?;
        if first.is_whitespace() {
            return Token::new(Kind::Space, first.len_utf8());
        }
        if rest.starts_with("--") {
            return Token::new(Kind::Space, rest.find('\n').unwrap_or(rest.len()));
        }
        if rest.starts_with("/*") {
            return Token::new(Kind::Space, comment(rest.as_bytes()));
        }
        for prefix in ["'", "e'", "n'", "b'", "x'", "u&'"] {
            let start = rest.get(..prefix.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                return Some(literal(rest.as_bytes(), prefix));
            }
        }
        if first == '"' {
            let end = rest.get(1..).and_then(|inner| inner.find('"'));
            return Token::new(Kind::Other, end.map_or(rest.len(), |end| end + 2));
        }
        if first == '$'
            && let Some(tag) = dollar_tag(rest)
        {
            let close = rest.get(tag..).and_then(|body| body.find(rest.get(..tag)?));
            return match close {
                Some(at) => Token::new(Kind::Dollar { tag }, tag + at + tag),
                None => Token::new(Kind::Literal { ambiguous: true }, rest.len()),
            };
        }
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
        match word.unwrap_or(rest.len()) {
            0 => Token::new(Kind::Other, first.len_utf8()),
            length => Token::new(Kind::Word, length),
        }
    }
}

/// The length of a comment, which may hold others.
fn comment(bytes: &[u8]) -> usize {
    let (mut at, mut open) = (0, 0u32);
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => (open, at) = (open + 1, at + 2),
            b"*/" => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return at;
        }
    }
    bytes.len()
}

fn literal(bytes: &[u8], prefix: &str) -> Token {
    let escapes = prefix.eq_ignore_ascii_case("e'");
    let mut ambiguous = false;
    let mut at = prefix.len();
    while let Some(byte) = bytes.get(at) {
        let doubled = bytes.get(at + 1) == Some(&b'\'');
        match byte {
            b'\\' if escapes => at += 2,
            b'\'' if doubled => at += 2,
            b'\'' => {
                let kind = Kind::Literal { ambiguous };
                return Token { kind, length: at + 1 };
            }
            _ => {
                ambiguous |= *byte == b'\\' && doubled;
                at += 1;
            }
        }
    }
    Token {
        kind: Kind::Literal { ambiguous: true },
        length: bytes.len(),
    }
}

/// The length of `$$` or `$tag$` at the start, None for `$1` and the like.
fn dollar_tag(rest: &str) -> Option<usize> {
    let tag = rest.get(1..)?;
    let end = tag.find('$')?;
    let name = tag.get(..end)?;
    let good = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    good.then_some(end + 2)
}

/// How many bytes of white space and comments stand before the first token.
pub fn leading_space(sql: &str) -> usize {
    let mut at = 0;
    while let Some(rest) = sql.get(at..)
        && let Some(token) = Token::first(rest)
        && token.kind == Kind::Space
    {
        at += token.length;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_servers() {
        let check = |sql: &str, expect: &[&str]| {
            let (mut rest, mut found) = (sql, Vec::new());
            while let Some(token) = Token::first(rest) {
                if token.kind != Kind::Space {
                    found.push(token.text(rest));
                }
                rest = &rest[token.length..];
            }
            assert_eq!(found, expect);
        };
        check("a$b$ 'it''s' x", &["a$b$", "'it''s'", "x"]);
        check("$$ ; $x$ ; $$ $1", &["$$ ; $x$ ; $$", "$1"]);
        check("E'\\' ;' n'x' \"a\"\"b\"", &["E'\\' ;'", "n'x'", "\"a\"", "\"b\""]);
        check("5 >-- x\n- /* /* */ ; */ y", &["5", ">", "-", "y"]);
        check("'\\' z", &["'\\'", "z"]);
        check("é_1 'open", &["é_1", "'open"]);
    }

    #[test]
    fn leading_space_ends_at_the_first_token() {
        assert_eq!(leading_space(" -- a\n/* b */ c -- d"), 14);
        assert_eq!(leading_space("/* open"), 7);
        assert_eq!(leading_space(""), 0);
    }
}
