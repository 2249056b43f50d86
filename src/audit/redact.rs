//! What must not reach the audit log: passwords always, literals on request, and texts of unbounded length. Works on any
//! text, also on one that no parser takes, and rather masks too much than too little.

use crate::lex::{Kind, Token};
use crate::plan::policy::Literals;
use std::collections::HashSet;

/// Of a statement that is logged; what is longer is cut.
const STATEMENT_BYTES_MAX: usize = 64 << 10;
const MASK: &str = "'***'";
/// Bytes of what is said, times literals that are looked for in it: a few tenths of a second.
const PROSE_STEPS_MAX: usize = 256 << 20;
/// Dollar-quoted bodies within bodies that are looked into.
const DEPTH_MAX: u32 = 8;
/// A shorter piece of a password (of a connection string, at its spaces) is a common word.
const PIECE_BYTES_MIN: usize = 3;

/// What is hidden in the texts about one statement: its SQL, the steps', and what is said of them.
pub struct Mask {
    literals: Literals,
    /// Taken out of what is said, the longest first.
    hidden: Vec<String>,
    /// Words and quoted names of the statement, in lower case: no secrets.
    names: HashSet<String>,
    secret: bool,
}

impl Mask {
    pub fn of(statement: &str, parameters: &[Option<String>], literals: Literals) -> Mask {
        let mut walk = Walk::new(literals);
        walk.text(statement, DEPTH_MAX);
        let mut hidden = walk.hidden;
        if literals == Literals::Redact {
            hidden.extend(parameters.iter().flatten().cloned());
        }
        hidden.retain(|text| !text.trim().is_empty());
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        hidden.dedup();
        Mask {
            literals,
            hidden,
            names: walk.names,
            secret: walk.secrets > 0,
        }
    }

    pub fn has_secret(&self) -> bool {
        self.secret
    }

    pub fn sql(&self, sql: &str) -> String {
        let mut walk = Walk::new(self.literals);
        walk.text(sql, DEPTH_MAX);
        cut(walk.out)
    }

    /// What is said of the statement, in words and SQL.
    pub fn prose(&self, text: &str) -> String {
        if self.hidden.len().saturating_mul(text.len()) > PROSE_STEPS_MAX {
            return "(left out: it is too long to be looked through for what is hidden)".into();
        }
        let text = self
            .hidden
            .iter()
            .fold(text.to_owned(), |text, hidden| replace(&text, hidden));
        cut(text)
    }

    /// The server's message: what it quotes may be a piece of a literal, or of the table's data.
    pub fn error(&self, sqlstate: &str, text: &str) -> String {
        let redact = self.literals == Literals::Redact;
        if redact && sqlstate.starts_with("P0") {
            // RAISE says what the function's author wanted.
            return "(a message of the database's own functions)".into();
        }
        let text = self.prose(text);
        // Violated constraints are told by their names only.
        if self.secret || (redact && !sqlstate.starts_with("23")) {
            return self.without_quotes(&text);
        }
        text
    }

    /// The server's DETAIL may show a row; what Lockkeeper adds does not.
    pub fn detail(&self, text: &str) -> Option<String> {
        if self.literals == Literals::Keep && !self.secret {
            return Some(cut(text.to_owned()));
        }
        let own = text
            .split_inclusive('\n')
            .filter(|line| line.starts_with("lockkeeper: "));
        let own = self.prose(&own.collect::<String>());
        (!own.is_empty()).then_some(own)
    }

    /// Between double quotes only names of the statement stay.
    fn without_quotes(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for (n, part) in text.split('"').enumerate() {
            if n > 0 {
                out.push('"');
            }
            let known = part.split('.').all(|part| self.names.contains(&part.to_lowercase()));
            out.push_str(if n % 2 == 0 || known { part } else { "***" });
        }
        out
    }
}

/// One pass over a text.
struct Walk {
    literals: Literals,
    out: String,
    hidden: Vec<String>,
    names: HashSet<String>,
    /// Passwords so far.
    secrets: usize,
}

/// What the literals that follow mean.
#[derive(Default)]
struct Position {
    /// The word before was PASSWORD or the like; strings that follow each other are one.
    secret: bool,
    /// CREATE USER MAPPING …: every option's value is.
    mapping: bool,
    /// A text that is put together ended with the word PASSWORD.
    built: bool,
    user: bool,
}

impl Walk {
    fn new(literals: Literals) -> Walk {
        Walk {
            literals,
            out: String::new(),
            hidden: Vec::new(),
            names: HashSet::new(),
            secrets: 0,
        }
    }

    fn text(&mut self, sql: &str, depth: u32) {
        let redact = self.literals == Literals::Redact;
        let mut rest = sql;
        let mut at = Position::default();
        while let Some(token) = Token::first(rest) {
            let text = token.text(rest);
            match token.kind {
                Kind::Space if redact && !text.trim().is_empty() => {
                    self.out.push_str(if text.starts_with("--") { "--" } else { "/* */" });
                }
                Kind::Space => self.out.push_str(text),
                Kind::Literal { ambiguous } => {
                    self.literal(text, &mut at, depth);
                    // Where it ends is not known: the rest may be part of it.
                    if ambiguous && (at.secret || redact) {
                        return self.hide(rest.get(token.length..).unwrap_or_default());
                    }
                }
                Kind::Dollar { tag } => {
                    let (open, body) = text.split_at(tag);
                    let (body, close) = body.split_at(body.len().saturating_sub(tag));
                    if at.secret || at.mapping || at.built {
                        self.secret(body);
                    } else if redact {
                        self.hide(body);
                        self.out.push_str(&format!("{open}?{close}"));
                    } else {
                        self.out.push_str(open);
                        match depth.checked_sub(1) {
                            Some(depth) => self.text(body, depth),
                            None => self.out.push_str("***"),
                        }
                        self.out.push_str(close);
                    }
                }
                Kind::Other => {
                    self.out.push_str(text);
                    match text.strip_prefix('"') {
                        Some(name) => {
                            let name = name.trim_end_matches('"').to_lowercase();
                            at.secret = is_secret(&name);
                            self.names.insert(name);
                        }
                        None => at.secret = false,
                    }
                    if text == ";" {
                        (at.mapping, at.user) = (false, false);
                    }
                }
                Kind::Word if redact && text.starts_with(|c: char| c.is_ascii_digit()) => {
                    self.hidden.push(text.to_owned());
                    self.out.push('?');
                    at.secret = false;
                }
                Kind::Word => {
                    self.out.push_str(text);
                    let word = text.to_lowercase();
                    at.secret = is_secret(&word);
                    at.mapping |= at.user && word == "mapping";
                    at.user = word == "user";
                    self.names.insert(word);
                }
            }
            rest = rest.get(token.length..).unwrap_or_default();
        }
    }

    fn literal(&mut self, text: &str, at: &mut Position, depth: u32) {
        let content = content(text);
        if at.secret || at.mapping || at.built {
            return self.secret(&content);
        }
        // SQL within a string: DO '…', EXECUTE '…', format('… PASSWORD %L', …); and connection strings.
        let lower = content.to_lowercase();
        let names_one = SECRETS
            .iter()
            .chain(&["connection", "program"])
            .any(|word| lower.contains(word));
        if names_one {
            let mut within = Walk::new(Literals::Keep);
            if let Some(depth) = depth.checked_sub(1) {
                within.text(&content, depth);
            }
            at.built |= ends_before_a_secret(&lower);
            if within.secrets > 0 || has_assignment(&lower) || depth == 0 {
                self.hidden.append(&mut within.hidden);
                return self.secret(&content);
            }
        }
        if has_url_password(&lower) {
            return self.secret(&content);
        }
        if self.literals == Literals::Redact {
            self.hide(&content);
            self.hidden.push(text.to_owned());
            self.out.push_str("'?'");
        } else {
            self.out.push_str(text);
        }
    }

    fn secret(&mut self, content: &str) {
        self.secrets += 1;
        self.out.push_str(MASK);
        self.hide(content);
        let pieces = content.split(|c: char| c.is_whitespace() || matches!(c, '=' | '\'' | '"' | ':' | '@' | '/'));
        let long = pieces.filter(|piece| piece.len() >= PIECE_BYTES_MIN && !is_secret(piece));
        self.hidden.extend(long.map(str::to_owned));
    }

    fn hide(&mut self, text: &str) {
        self.hidden.push(text.to_owned());
    }
}

const SECRETS: [&str; 5] = ["password", "passwd", "passphrase", "secret", "token"];

/// The word before a literal that must not be seen; COPY … PROGRAM's command line may hold anything.
fn is_secret(word: &str) -> bool {
    let word = word.to_lowercase();
    word == "connection" || word == "program" || SECRETS.iter().any(|secret| word.contains(secret))
}

/// `'it''s'` and its kin without prefix and quotes; doubled quotes are one.
fn content(literal: &str) -> String {
    let body = literal.split_once('\'').map_or("", |(_, body)| body);
    let body = body.strip_suffix('\'').unwrap_or(body);
    body.replace("''", "'").replace("\\'", "'")
}

/// `ALTER ROLE a PASSWORD `, `… PASSWORD %L`, `… PASSWORD '`: what is put in there comes later.
fn ends_before_a_secret(text: &str) -> bool {
    SECRETS.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let after = text.get(at + word.len()..).unwrap_or_default();
            let open = after.trim_start_matches(|c: char| c.is_whitespace() || c == '\'' || c == '=');
            open.len() < after.len() && (open.is_empty() || open.starts_with('%'))
        })
    })
}

/// `password=x`, as connection strings have it.
fn has_assignment(text: &str) -> bool {
    SECRETS.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let after = text.get(at + word.len()..).unwrap_or_default().trim_start();
            after.starts_with('=') && !after.trim_start_matches('=').trim().is_empty()
        })
    })
}

/// `scheme://user:password@host`.
fn has_url_password(text: &str) -> bool {
    let after = text.match_indices("://").filter_map(|(at, _)| text.get(at + 3..));
    after.into_iter().any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

/// Every occurrence; of a short text only where it stands alone, lest words lose letters.
fn replace(text: &str, hidden: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(hidden) {
        let (before, found) = rest.split_at(at);
        let after = found.get(hidden.len()..).unwrap_or_default();
        let glued = |c: Option<char>, edge: Option<char>| {
            c.is_some_and(|c| c.is_alphanumeric() || c == '_') && edge.is_some_and(|c| c.is_alphanumeric() || c == '_')
        };
        let last = before.chars().next_back().or_else(|| out.chars().next_back());
        let word = glued(last, hidden.chars().next()) || glued(after.chars().next(), hidden.chars().next_back());
        out.push_str(before);
        out.push_str(if word && hidden.len() < 2 * PIECE_BYTES_MIN {
            hidden
        } else {
            "***"
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn cut(mut text: String) -> String {
    if text.len() > STATEMENT_BYTES_MAX {
        let whole = text.len();
        let end = (0..=STATEMENT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(&format!(" … [cut by lockkeeper: {whole} bytes in all]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str) -> String {
        Mask::of(sql, &[], Literals::Keep).sql(sql)
    }

    fn check(sql: &str, expect: &str) {
        assert_eq!(statement(sql), expect);
    }

    #[test]
    fn passwords_are_masked() {
        check("ALTER ROLE a PASSWORD 'x'", "ALTER ROLE a PASSWORD '***'");
        check(
            "create user a encrypted password E'x\\'y' login",
            "create user a encrypted password '***' login",
        );
        check(
            "ALTER USER a PASSWORD/* c '/*n*/ */\n'it''s' ; SELECT 'x'",
            "ALTER USER a PASSWORD/* c '/*n*/ */\n'***' ; SELECT 'x'",
        );
        check("ALTER USER a PASSWORD $$x$$ LOGIN", "ALTER USER a PASSWORD '***' LOGIN");
        check("ALTER USER a PASSWORD $q$x$$y$q$", "ALTER USER a PASSWORD '***'");
        check(
            "ALTER USER a PASSWORD U&'x' UESCAPE '!'",
            "ALTER USER a PASSWORD '***' UESCAPE '!'",
        );
        check(
            "DO $b$ BEGIN ALTER ROLE a PASSWORD 'x'; END $b$",
            "DO $b$ BEGIN ALTER ROLE a PASSWORD '***'; END $b$",
        );
        check(
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'b', password 'x')",
            "CREATE USER MAPPING FOR a SERVER s OPTIONS (user '***', password '***')",
        );
        check(
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=x' PUBLICATION p",
            "CREATE SUBSCRIPTION s CONNECTION '***' PUBLICATION p",
        );
    }

    #[test]
    fn an_unclear_end_masks_the_rest() {
        check("ALTER ROLE a PASSWORD 'x\\' y'", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD 'x", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD $$x", "ALTER ROLE a PASSWORD '***'");
        check("ALTER ROLE a PASSWORD E'x\\", "ALTER ROLE a PASSWORD '***'");
    }

    #[test]
    fn everything_else_stays() {
        for sql in [
            "",
            "ALTER TABLE t ADD COLUMN password text DEFAULT 'x'",
            "ALTER TABLE t ADD \"password\" text -- password 'x'",
            "SELECT 'password', $1, $2::text, 'ü\n', e'\\'', \"a''b\"",
            "/* password */ 'x' /* open",
            "ALTER ROLE a PASSWORD NULL; SELECT 'x'",
            "$é$ x $é$ -",
        ] {
            check(sql, sql);
        }
    }

    #[test]
    fn a_long_statement_is_cut_between_characters() {
        let text = statement(&"ü".repeat(40_000));
        assert!(text.len() < STATEMENT_BYTES_MAX + 100);
        assert!(
            text.ends_with("ü … [cut by lockkeeper: 80000 bytes in all]"),
            "{}",
            &text[text.len() - 60..]
        );
        assert_eq!(statement(&"x".repeat(STATEMENT_BYTES_MAX)).len(), STATEMENT_BYTES_MAX);
    }

    #[test]
    fn nested_bodies_are_masked_and_end() {
        let mut sql = "ALTER ROLE a PASSWORD 'secret'".to_string();
        for level in 0..100 {
            sql = format!("$t{level}$ {sql} $t{level}$");
        }
        assert!(!statement(&sql).contains("secret"));
    }

    #[test]
    fn passwords_within_texts_and_options_are_masked() {
        check(
            "ALTER ROLE a PASSWORD 'x'\n'y' LOGIN",
            "ALTER ROLE a PASSWORD '***'\n'***' LOGIN",
        );
        check(
            r#"CREATE USER MAPPING FOR a SERVER s OPTIONS ("user" 'b', "password" 'x', sslkey '/k', "X" $$y$$)"#,
            r#"CREATE USER MAPPING FOR a SERVER s OPTIONS ("user" '***', "password" '***', sslkey '***', "X" '***')"#,
        );
        check(
            "ALTER USER MAPPING FOR a SERVER s OPTIONS (SET sslpassword 'x'); SELECT 'y'",
            "ALTER USER MAPPING FOR a SERVER s OPTIONS (SET sslpassword '***'); SELECT 'y'",
        );
        check(
            r#"ALTER SERVER s OPTIONS (ADD "Password" 'x', host 'h')"#,
            r#"ALTER SERVER s OPTIONS (ADD "Password" '***', host 'h')"#,
        );
        check("DO 'BEGIN ALTER ROLE a PASSWORD ''x''; END'", "DO '***'");
        check(
            "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''x'''; EXECUTE 'y'; END $$",
            "DO $$ BEGIN EXECUTE '***'; EXECUTE 'y'; END $$",
        );
        check(
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', 'a', 'x'); END $$",
            "DO $$ BEGIN EXECUTE format('ALTER ROLE %I PASSWORD %L', '***', '***'); END $$",
        );
        check(
            "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ' || quote_literal('x'); END $$",
            "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ' || quote_literal('***'); END $$",
        );
        check(
            "SELECT dblink_connect('host=h password=x')",
            "SELECT dblink_connect('***')",
        );
        check(
            "SELECT f('postgres://u:x@h/d'), 'http://h/a:b@c'",
            "SELECT f('***'), 'http://h/a:b@c'",
        );
        check("COPY t FROM PROGRAM 'PGPASSWORD=x psql'", "COPY t FROM PROGRAM '***'");
        check(
            "ALTER SYSTEM SET primary_conninfo = 'user=a password=x'",
            "ALTER SYSTEM SET primary_conninfo = '***'",
        );
        check(
            "ALTER SUBSCRIPTION s CONNECTION E'password=\\'x\\''",
            "ALTER SUBSCRIPTION s CONNECTION '***'",
        );
    }

    #[test]
    fn errors_do_not_give_them_away() {
        let check = |sql: &str, literals, sqlstate: &str, error: &str, expect: &str| {
            let mask = Mask::of(sql, &[Some("par".into())], literals);
            assert_eq!(mask.error(sqlstate, error), expect);
        };
        let keep = Literals::Keep;
        let role = "ALTER ROLE a PASSWORD 'x y' 'geheim'";
        let error = r#"syntax error at or near "'geheim'""#;
        check(role, keep, "42601", error, r#"syntax error at or near "***""#);
        let error = r#"role "a" does not exist"#;
        check(role, keep, "42704", error, error);
        check(
            "CREATE SUBSCRIPTION s CONNECTION 'host=h pass word' PUBLICATION p",
            keep,
            "42601",
            r#"missing "=" after "word" in connection info string: word"#,
            r#"missing "***" after "***" in connection info string: ***"#,
        );
        let redact = Literals::Redact;
        let table = "ALTER TABLE t ALTER c TYPE int USING ('abc' || 12)";
        let error = r#"bad: "abc" "row" "t""#;
        check(table, keep, "22P02", error, error);
        check(table, redact, "22P02", error, r#"bad: "***" "***" "t""#);
        check(
            table,
            redact,
            "23514",
            r#"check "t_c" of 12, par"#,
            r#"check "t_c" of ***, ***"#,
        );
        check(
            table,
            redact,
            "P0001",
            "row",
            "(a message of the database's own functions)",
        );
        let mask = Mask::of(table, &[], redact);
        let detail = mask.detail("Key (a)=(x)\nlockkeeper: done: 12.");
        assert_eq!(detail.as_deref(), Some("lockkeeper: done: ***."));
        assert_eq!(mask.detail("Key (a)=(x)"), None);
    }

    #[test]
    fn literals_are_redacted_on_request() {
        let check = |sql: &str, expect: &str| {
            assert_eq!(Mask::of(sql, &[], Literals::Redact).sql(sql), expect);
        };
        check(
            "UPDATE t1 SET a = 'x', \"b 1\" = 12.5, c = $1 /* y */ WHERE d = E'z\\'' -- w\nAND e = $$v$$",
            "UPDATE t1 SET a = '?', \"b 1\" = ?.?, c = $1 /* */ WHERE d = '?' --\nAND e = $$?$$",
        );
        check(
            "ALTER ROLE a PASSWORD 'x' VALID UNTIL 'y'",
            "ALTER ROLE a PASSWORD '***' VALID UNTIL '?'",
        );
        check(
            "ALTER TABLE t ADD c varchar(20) DEFAULT B'1'",
            "ALTER TABLE t ADD c varchar(?) DEFAULT '?'",
        );
        check("SELECT 'open", "SELECT '?'");
        check("SELECT 'a\\' b' c", "SELECT '?'");
    }
}
