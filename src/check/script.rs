//! A file of SQL taken apart as psql does it: at the semicolons that end statements, without psql's own commands and
//! without the data after COPY … FROM stdin. The statements' meaning is not looked at.

use crate::lex::{Kind, Token};

pub struct Script<'a> {
    text: &'a str,
    at: usize,
    /// psql commands that were left out.
    pub skipped: Vec<Skipped<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Skipped<'a> {
    pub offset: usize,
    /// The word with its backslash: `\set`.
    pub command: &'a str,
}

impl Skipped<'_> {
    /// What is not known because it was left out.
    pub fn told(&self) -> String {
        let command = self.command;
        let follows = match command.trim_end_matches('+') {
            "\\i" | "\\ir" | "\\include" | "\\include_relative" => "the file that it names is not read: check it too",
            "\\gexec" => "the SQL that the query makes is not known here, so it is not checked",
            "\\if" | "\\elif" | "\\else" | "\\endif" => "both ways are checked",
            "\\c" | "\\connect" => "what follows is for another connection, and is checked as if for the same",
            "\\copy" => "it writes rows, and no schema",
            _ => return format!("{command} is psql's, it is skipped"),
        };
        format!("{command} is psql's, it is skipped: {follows}")
    }
}

/// One statement with the space and comments around it, without its semicolon. psql commands inside are blanked, so
/// that offsets are those of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub sql: String,
    pub offset: usize,
}

/// psql commands that send what stands before them.
const SENDING: [&str; 10] = [
    "\\g",
    "\\gx",
    "\\gset",
    "\\gexec",
    "\\gdesc",
    "\\crosstabview",
    "\\watch",
    "\\bind",
    "\\bind_named",
    "\\sendpipeline",
];

impl<'a> Script<'a> {
    pub fn new(text: &'a str) -> Script<'a> {
        Script {
            text,
            at: 0,
            skipped: Vec::new(),
        }
    }

    /// How far it has been read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// None at the end. A piece may hold nothing but space and comments.
    pub fn next_piece(&mut self) -> Option<Piece> {
        let offset = self.at;
        let mut sql = String::new();
        let mut nesting = Nesting::default();
        while let Some(rest) = self.rest()
            && let Some(token) = Token::first(rest)
        {
            let text = token.text(rest);
            let before = self.at;
            if text == "\\" {
                let (command, length) = meta_command(rest);
                if command != "\\;" {
                    self.skipped.push(Skipped {
                        offset: self.at,
                        command,
                    });
                }
                self.at += length;
                if command == "\\copy" && copies_from_stdin(rest.get(..length).unwrap_or_default()) {
                    self.skip_copy_data();
                }
                if command == "\\;" || SENDING.contains(&command) {
                    return Some(Piece { sql, offset });
                }
                sql.push_str(&" ".repeat(self.at - before));
                continue;
            }
            self.at += token.length;
            if text == ";" && nesting.ended() {
                return Some(Piece { sql, offset });
            }
            nesting.take(token.kind, text);
            sql.push_str(text);
        }
        (!sql.is_empty()).then_some(Piece { sql, offset })
    }

    /// After a COPY … FROM stdin: from the next line to the line `\.` there are rows and no SQL.
    pub fn skip_copy_data(&mut self) {
        self.skip_line();
        while let Some(rest) = self.rest().filter(|rest| !rest.is_empty()) {
            let line = rest.lines().next().unwrap_or_default();
            self.skip_line();
            if line == "\\." {
                return;
            }
        }
    }

    fn skip_line(&mut self) {
        let rest = self.rest().unwrap_or_default();
        self.at += rest.find('\n').map_or(rest.len(), |end| end + 1);
    }

    fn rest(&self) -> Option<&'a str> {
        self.text.get(self.at..)
    }
}

/// The command's word, and how many bytes go up to the end of the line (of `\;`: only itself).
fn meta_command(rest: &str) -> (&str, usize) {
    if rest.starts_with("\\;") {
        return ("\\;", 2);
    }
    let line = rest.split('\n').next().unwrap_or(rest);
    let word = line
        .split(|c: char| c.is_whitespace() || c == ';')
        .next()
        .unwrap_or(line);
    (word, line.len())
}

/// By its words, for what the grammar does not read: `COPY … FROM stdin`, `\copy … from stdin`.
pub fn copies_from_stdin(sql: &str) -> bool {
    let mut words = sql
        .split(|c: char| c.is_whitespace() || c == ';')
        .filter(|word| !word.is_empty());
    let copy = words
        .next()
        .is_some_and(|word| word.trim_start_matches('\\').eq_ignore_ascii_case("copy"));
    let words: Vec<&str> = words.collect();
    let from = |pair: &[&str]| pair[0].eq_ignore_ascii_case("from") && pair[1].eq_ignore_ascii_case("stdin");
    copy && words.windows(2).any(from)
}

/// What a semicolon does not end: parentheses (CREATE RULE) and the bodies of SQL-standard functions (BEGIN ATOMIC).
#[derive(Default)]
struct Nesting {
    parentheses: u32,
    begins: u32,
    /// The first words, of which four tell a CREATE [OR REPLACE] FUNCTION.
    words: Vec<String>,
}

impl Nesting {
    fn ended(&self) -> bool {
        self.parentheses == 0 && self.begins == 0
    }

    /// The same counting as psql's, so that a file comes apart as psql would send it.
    fn take(&mut self, kind: Kind, text: &str) {
        match text {
            "(" => self.parentheses += 1,
            ")" => self.parentheses = self.parentheses.saturating_sub(1),
            _ if kind == Kind::Word => {
                let word = text.to_ascii_lowercase();
                if self.parentheses == 0 && self.creates_function() {
                    match word.as_str() {
                        "begin" => self.begins += 1,
                        "case" if self.begins > 0 => self.begins += 1,
                        "end" => self.begins = self.begins.saturating_sub(1),
                        _ => {}
                    }
                }
                if self.words.len() < 4 {
                    self.words.push(word);
                }
            }
            _ => {}
        }
    }

    fn creates_function(&self) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        matches!(
            words.as_slice(),
            ["create", "function" | "procedure", ..] | ["create", "or", "replace", "function" | "procedure"]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces trimmed, and the psql commands.
    fn check(text: &str, pieces: &[&str], commands: &[&str]) {
        let mut script = Script::new(text);
        let mut found = Vec::new();
        while let Some(piece) = script.next_piece() {
            if piece.sql.starts_with("COPY") {
                script.skip_copy_data();
            }
            let trimmed = piece.sql.trim().to_string();
            if !piece.sql.contains("   ") {
                assert!(text[piece.offset..].starts_with(piece.sql.as_str()), "{piece:?}");
            }
            found.push(trimmed);
        }
        assert_eq!(found, pieces, "{text}");
        let skipped: Vec<_> = script.skipped.iter().map(|skipped| skipped.command).collect();
        assert_eq!(skipped, commands, "{text}");
    }

    #[test]
    fn semicolons_that_end_a_statement() {
        check("a;b", &["a", "b"], &[]);
        check(
            "a ';' \";\" $$;$$ $x$;$$;$x$ -- ;\n/* ; /* ; */ ; */ b; c;",
            &["a ';' \";\" $$;$$ $x$;$$;$x$ -- ;\n/* ; /* ; */ ; */ b", "c"],
            &[],
        );
        check(
            "CREATE RULE r AS ON INSERT TO t DO (a; b); c",
            &["CREATE RULE r AS ON INSERT TO t DO (a; b)", "c"],
            &[],
        );
        check("a ';", &["a ';"], &[]);
        check("", &[], &[]);
        check(";;", &["", ""], &[]);
    }

    #[test]
    fn bodies_of_standard_functions_stay_whole() {
        for head in ["CREATE FUNCTION f() RETURNS int", "create or replace procedure p()"] {
            let body = format!("{head} BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN b END; END");
            check(&format!("{body}; x;"), &[&body, "x"], &[]);
        }
        check("BEGIN; a; END; b", &["BEGIN", "a", "END", "b"], &[]);
    }

    #[test]
    fn psql_commands_are_left_out() {
        check("\\set x ';'\na;\n  \\i b.sql ; c\nd;", &["a", "d"], &["\\set", "\\i"]);
        check("a \\gset x_\nb \\g\nc \\; d", &["a", "b", "c", "d"], &["\\gset", "\\g"]);
        check("a\n\\echo 'x\nb;", &["a\n        \nb"], &["\\echo"]);
        check(
            "E'\\\\' '\\' \"\\\" $$\\x$$ -- \\y\n",
            &["E'\\\\' '\\' \"\\\" $$\\x$$ -- \\y"],
            &[],
        );
    }

    #[test]
    fn copy_data_is_left_out() {
        check("COPY t FROM stdin;\n1\ta;b'\n\\.\nc;", &["COPY t FROM stdin", "c"], &[]);
        check(
            "COPY t FROM stdin;\r\n\\N\r\n\\.\r\nc;",
            &["COPY t FROM stdin", "c"],
            &[],
        );
        check("COPY t FROM stdin;\nDROP TABLE t;", &["COPY t FROM stdin"], &[]);
        check("\\copy t from stdin\n1;DROP TABLE t\n\\.\nc;", &["c"], &["\\copy"]);
        check("\\copy t from x.csv\nc;", &["c"], &["\\copy"]);
        assert!(copies_from_stdin("COPY :t FROM STDIN WITH CSV") && !copies_from_stdin("COPY t TO stdout"));
    }
}
