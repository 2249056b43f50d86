//! Byte edits of the client's text at the scanner's token offsets, and the proof that only the intended change happened.
//!
//! Every function returns None where the change could not be proven: the edited text is parsed again, and its tree must
//! be the old tree plus exactly the intended field. Nothing is ever printed from a tree.

use super::grammar;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableStmt, ConstrType, Constraint, DefElem, DropStmt, IndexStmt, ScanToken, Token};
use std::collections::HashSet;
use std::fmt::Write;

/// `CREATE INDEX`, `DROP INDEX`, `REINDEX` or `REFRESH MATERIALIZED VIEW` in its concurrent form; as it is if it has that already.
pub fn concurrently(sql: &str) -> Option<String> {
    let text = Text::of(sql)?;
    match text.node.clone() {
        NodeEnum::IndexStmt(index) if index.concurrent => Some(sql.to_string()),
        NodeEnum::IndexStmt(index) => {
            let expected = IndexStmt {
                concurrent: true,
                ..*index
            };
            text.insert_after(text.find(Token::Index)?, "CONCURRENTLY")
                .proven(NodeEnum::IndexStmt(Box::new(expected)))
        }
        NodeEnum::DropStmt(drop) if drop.concurrent => Some(sql.to_string()),
        NodeEnum::DropStmt(drop) => {
            let expected = DropStmt {
                concurrent: true,
                ..drop
            };
            text.insert_after(text.word(1, Token::Index)?, "CONCURRENTLY")
                .proven(NodeEnum::DropStmt(expected))
        }
        NodeEnum::RefreshMatViewStmt(refresh) if refresh.concurrent => Some(sql.to_string()),
        NodeEnum::RefreshMatViewStmt(mut refresh) => {
            refresh.concurrent = true;
            text.insert_after(text.word(2, Token::View)?, "CONCURRENTLY")
                .proven(NodeEnum::RefreshMatViewStmt(refresh))
        }
        NodeEnum::ReindexStmt(_) => reindex_concurrently(&text),
        _ => None,
    }
}

/// CREATE INDEX under another name.
pub(super) fn index_named(sql: &str, to: &str) -> Option<String> {
    let text = Text::of(sql)?;
    let NodeEnum::IndexStmt(index) = text.node.clone() else {
        return None;
    };
    let expected = IndexStmt {
        idxname: to.to_string(),
        ..*index
    };
    // CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS name ON …
    let on = text.find(Token::On)?;
    let name = text.tokens.get(on.checked_sub(1)?)?;
    let range = name.start as usize..name.end as usize;
    text.replace(range, &quote_ident(to))
        .proven(NodeEnum::IndexStmt(Box::new(expected)))
}

/// `REINDEX (VERBOSE) TABLE t`: the word goes after TABLE; a `CONCURRENTLY false` in the parentheses becomes plain.
fn reindex_concurrently(text: &Text) -> Option<String> {
    let NodeEnum::ReindexStmt(mut reindex) = text.node.clone() else {
        return None;
    };
    let is_option =
        |node: &pg_query::Node| matches!(&node.node, Some(NodeEnum::DefElem(e)) if e.defname == "concurrently");
    let given: Vec<_> = reindex.params.iter().filter(|node| is_option(node)).cloned().collect();
    let on = |node: &pg_query::Node| matches!(&node.node, Some(NodeEnum::DefElem(element)) if is_true(element));
    match given.as_slice() {
        [] => {
            // The keyword is the first of these outside the parentheses: the options could be called anything.
            let at =
                text.position(|token| matches!(token, Token::Index | Token::Table | Token::Schema | Token::Database))?;
            let edit = text.insert_after(at, "CONCURRENTLY");
            let NodeEnum::ReindexStmt(new) = one_statement(&edit.sql)? else {
                return None;
            };
            // The grammar appends the word to the options.
            let (last, rest) = new.params.split_last()?;
            if !is_option(last) || !on(last) || rest.len() != reindex.params.len() {
                return None;
            }
            reindex.params.push(last.clone());
            edit.proven(NodeEnum::ReindexStmt(reindex))
        }
        [one] if on(one) => Some(text.sql.to_string()),
        [_] => {
            let at = text.tokens.iter().position(|t| t.token() == Token::Concurrently)?;
            let value = text.tokens.get(at + 1)?;
            let edit = text.replace(value.start as usize..value.end as usize, "true");
            let NodeEnum::ReindexStmt(new) = one_statement(&edit.sql)? else {
                return None;
            };
            let new_option = new.params.iter().find(|node| is_option(node))?.clone();
            if !on(&new_option) {
                return None;
            }
            *reindex.params.iter_mut().find(|node| is_option(node))? = new_option;
            edit.proven(NodeEnum::ReindexStmt(reindex))
        }
        // The server takes the last one; too odd to touch.
        _ => None,
    }
}

/// Names an unnamed `CREATE INDEX`.
pub fn index_name(sql: &str, name: &str) -> Option<String> {
    let text = Text::of(sql)?;
    let NodeEnum::IndexStmt(mut index) = text.node.clone() else {
        return None;
    };
    if !index.idxname.is_empty() || name.is_empty() {
        return None;
    }
    let mut at = text.find(Token::Index)?;
    at += usize::from(text.word(at + 1, Token::Concurrently).is_some());
    index.idxname = name.to_string();
    text.insert_after(at, &quote_ident(name))
        .proven(NodeEnum::IndexStmt(index))
}

/// A `CREATE INDEX` of the same columns, under that name, on another table: of a partition, or (`only`) of the partitioned table alone.
pub fn index_on(sql: &str, index: &str, (schema, table): (&str, &str), only: bool) -> Option<String> {
    let text = Text::of(sql)?;
    let NodeEnum::IndexStmt(mut expected) = text.node.clone() else {
        return None;
    };
    let on = text.find(Token::On)?;
    // Behind the table's name come USING or the columns.
    let rest = text.tokens[on..]
        .iter()
        .position(|t| matches!(t.token(), Token::Using | Token::Ascii40))?
        + on;
    expected.idxname = index.to_string();
    expected.concurrent = !only;
    expected.if_not_exists = false;
    let relation = expected.relation.as_mut()?;
    relation.schemaname = schema.to_string();
    relation.relname = table.to_string();
    relation.catalogname = String::new();
    relation.inh = !only;
    let head = format!(
        "CREATE {}INDEX {}{} ON {}{} ",
        if expected.unique { "UNIQUE " } else { "" },
        if only { "" } else { "CONCURRENTLY " },
        quote_ident(index),
        if only { "ONLY " } else { "" },
        qualified(schema, table)
    );
    let (first, last) = (text.tokens.get(rest)?, text.tokens.last()?);
    let sql = format!("{head}{}", text.sql.get(first.start as usize..last.end as usize)?);
    Edit { sql, prefix: 0 }.proven(NodeEnum::IndexStmt(expected))
}

/// Appends NOT VALID to the one `ADD … CHECK` or `ADD … FOREIGN KEY` of an ALTER TABLE, or of an action's text (`ADD CHECK (…)`).
pub fn not_valid(sql: &str) -> Option<String> {
    let text = Text::of_alter(sql)?;
    let mut expected = text.node.clone();
    let constraint = added_constraint(&mut expected)?;
    if !matches!(
        constraint.contype(),
        ConstrType::ConstrCheck | ConstrType::ConstrForeign | ConstrType::ConstrNotnull
    ) || constraint.skip_validation
    {
        return None;
    }
    constraint.skip_validation = true;
    // The grammar leaves the rest to the later stages.
    constraint.initially_valid = false;
    text.insert_after(text.tokens.len() - 1, "NOT VALID").proven(expected)
}

/// `CREATE INDEX … ON t` or `ALTER TABLE t …` with the table of that name in `pg_temp` instead: the text, after how many of its
/// characters it differs from the client's, and by how many.
pub fn in_pg_temp(sql: &str) -> Option<(String, usize, isize)> {
    let text = Text::of(sql)?;
    let mut expected = text.node.clone();
    let range = match &mut expected {
        NodeEnum::IndexStmt(index) => index.relation.as_mut()?,
        NodeEnum::AlterTableStmt(alter) => alter.relation.as_mut()?,
        _ => return None,
    };
    let at = text.tokens.iter().position(|t| t.start == range.location)?;
    let start = text.tokens[at].start as usize;
    let end = match range.schemaname.as_str() {
        "" => start,
        _ => text.tokens[at].end as usize,
    };
    let words = if range.schemaname.is_empty() {
        "pg_temp."
    } else {
        "pg_temp"
    };
    range.schemaname = "pg_temp".to_string();
    range.catalogname = String::new();
    let before = sql.get(start..end)?.chars().count();
    let from = sql.get(..start)?.chars().count() + words.len();
    let moved = text.replace(start..end, words).proven(expected)?;
    Some((moved, from, words.len() as isize - before as isize))
}

/// Gives the one unnamed table constraint that an ALTER TABLE (or an action's text) adds a name.
pub fn constraint_name(sql: &str, name: &str) -> Option<String> {
    let text = Text::of_alter(sql)?;
    let mut expected = text.node.clone();
    let constraint = added_constraint(&mut expected)?;
    if !constraint.conname.is_empty() || name.is_empty() {
        return None;
    }
    constraint.conname = name.to_string();
    // A table may be called "add": the right ADD is the one with which the result is proven.
    let adds = text
        .tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.token() == Token::AddP);
    let words = format!("CONSTRAINT {}", quote_ident(name));
    adds.map(|(at, _)| text.insert_after(at, &words))
        .find_map(|edit| edit.proven(expected.clone()))
}

fn only_command(alter: &mut AlterTableStmt) -> Option<&mut pg_query::protobuf::AlterTableCmd> {
    match alter.cmds.as_mut_slice() {
        [
            pg_query::Node {
                node: Some(NodeEnum::AlterTableCmd(command)),
            },
        ] => Some(command),
        _ => None,
    }
}

fn added_constraint(node: &mut NodeEnum) -> Option<&mut Constraint> {
    let NodeEnum::AlterTableStmt(alter) = node else {
        return None;
    };
    match only_command(alter)?.def.as_mut()?.node.as_mut()? {
        NodeEnum::Constraint(constraint) => Some(constraint),
        _ => None,
    }
}

/// One parsed statement and its tokens without comments.
struct Text<'a> {
    sql: std::borrow::Cow<'a, str>,
    /// Bytes at the start of `sql` that are not the caller's.
    prefix: usize,
    tokens: Vec<ScanToken>,
    node: NodeEnum,
}

/// An edited text that is not yet proven.
struct Edit {
    sql: String,
    prefix: usize,
}

impl<'a> Text<'a> {
    fn of(sql: &'a str) -> Option<Text<'a>> {
        Some(Text {
            sql: sql.into(),
            prefix: 0,
            tokens: significant_tokens(sql).filter(|tokens| !tokens.is_empty())?,
            node: one_statement(sql)?,
        })
    }

    /// A whole ALTER TABLE, or one action of it, which is given a head for the time of the edit.
    fn of_alter(sql: &'a str) -> Option<Text<'a>> {
        let first = significant_tokens(sql)?.first()?.token();
        if first == Token::Alter && one_statement(sql).is_some() {
            return Text::of(sql);
        }
        const HEAD: &str = "ALTER TABLE t ";
        let whole = format!("{HEAD}{sql}");
        Some(Text {
            prefix: HEAD.len(),
            tokens: significant_tokens(&whole)?,
            node: one_statement(&whole)?,
            sql: whole.into(),
        })
    }

    fn position(&self, wanted: impl Fn(Token) -> bool) -> Option<usize> {
        let mut depth = 0;
        self.tokens.iter().position(|token| {
            depth += depth_change(token);
            depth == 0 && wanted(token.token())
        })
    }

    /// The first such token outside parentheses.
    fn find(&self, token: Token) -> Option<usize> {
        self.position(|t| t == token)
    }

    /// `at`, if that is the token there.
    fn word(&self, at: usize, token: Token) -> Option<usize> {
        self.tokens.get(at).filter(|t| t.token() == token).map(|_| at)
    }

    fn insert_after(&self, token: usize, words: &str) -> Edit {
        let at = self.tokens[token].end as usize;
        self.replace(at..at, &format!(" {words}"))
    }

    fn replace(&self, range: std::ops::Range<usize>, words: &str) -> Edit {
        let mut sql = self.sql.to_string();
        sql.replace_range(range, words);
        Edit {
            sql,
            prefix: self.prefix,
        }
    }
}

impl Edit {
    fn proven(self, expected: NodeEnum) -> Option<String> {
        let node = one_statement(&self.sql)?;
        if tree_text(&node) != tree_text(&expected) {
            return None;
        }
        self.sql.get(self.prefix..).map(str::to_string)
    }
}

/// +1 for an opening, -1 for a closing parenthesis or bracket.
pub(super) fn depth_change(token: &ScanToken) -> i32 {
    match token.token() {
        Token::Ascii40 | Token::Ascii91 => 1,
        Token::Ascii41 | Token::Ascii93 => -1,
        _ => 0,
    }
}

/// The tokens without comments; None if the scanner refuses the text.
pub(super) fn significant_tokens(sql: &str) -> Option<Vec<ScanToken>> {
    let mut tokens = pg_query::scan_tokens(sql).ok()?;
    tokens.retain(|t| !matches!(t.token(), Token::SqlComment | Token::CComment));
    Some(tokens)
}

/// The numbers of the parameters that stand in a text. None: it cannot be read.
pub fn parameters_of(sql: &str) -> Option<HashSet<usize>> {
    if !sql.contains('$') {
        return Some(HashSet::new());
    }
    let tokens = pg_query::scan_tokens(sql).ok()?;
    let number = |token: &ScanToken| sql.get(token.start as usize + 1..token.end as usize)?.parse().ok();
    let parameters = tokens.iter().filter(|token| token.token() == Token::Param);
    Some(parameters.filter_map(number).collect())
}

/// The tree of a text that holds exactly one statement.
pub(super) fn one_statement(sql: &str) -> Option<NodeEnum> {
    let mut tree = grammar::parse(sql).ok()?;
    match tree.stmts.len() {
        1 => tree.stmts.pop()?.stmt?.node,
        _ => None,
    }
}

/// The tree without its byte positions, so that two texts can be compared: a digest of what it is as text, which would be a hundred
/// times as long as the statement.
pub(super) fn tree_text(node: &NodeEnum) -> [u8; 32] {
    let mut text = Text32(ring::digest::Context::new(&ring::digest::SHA256), Vec::new());
    // Writing to memory cannot fail.
    let _ = write!(Unplaced::new(&mut text), "{node:?}");
    text.0.update(&text.1);
    let mut digest = [0; 32];
    digest.copy_from_slice(text.0.finish().as_ref());
    digest
}

/// A digest, which is fed a few kilobytes at a time.
struct Text32(ring::digest::Context, Vec<u8>);

impl Text32 {
    fn push(&mut self, part: &[u8]) {
        self.1.extend_from_slice(part);
        if self.1.len() > 4_096 {
            self.0.update(&self.1);
            self.1.clear();
        }
    }
}

/// Takes what Debug writes of a tree, and leaves out the numbers behind the names of positions.
struct Unplaced<'a> {
    out: &'a mut Text32,
    /// Within a string, and behind a backslash there.
    quoted: bool,
    escaped: bool,
    /// The word that is being written, as far as it may be the name of a position.
    word: Vec<u8>,
    /// Behind such a name and its colon and space.
    at_number: bool,
}

impl<'a> Unplaced<'a> {
    const POSITIONS: [&'static [u8]; 5] = [
        b"location: ",
        b"list_start: ",
        b"list_end: ",
        b"stmt_len: ",
        b"rexpr_list_start: ",
    ];

    fn new(out: &'a mut Text32) -> Unplaced<'a> {
        Unplaced {
            out,
            quoted: false,
            escaped: false,
            word: Vec::new(),
            at_number: false,
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                // Debug escapes both the quote and the backslash.
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return;
        }
        if byte == b'"' {
            self.quoted = true;
        }
        self.word.push(byte);
        let is_part = byte.is_ascii_lowercase() || matches!(byte, b'_' | b':');
        if byte == b' ' && Unplaced::POSITIONS.iter().any(|name| self.word.ends_with(name)) {
            self.at_number = true;
        }
        if !is_part {
            self.word.clear();
        }
    }
}

impl std::fmt::Write for Unplaced<'_> {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        for byte in part.bytes() {
            if self.at_number && (byte == b'-' || byte.is_ascii_digit()) {
                continue;
            }
            self.at_number = false;
            self.out.push(&[byte]);
            self.byte(byte);
        }
        Ok(())
    }
}

/// As the server's defGetBoolean reads an option: no value means true. Neither is true of a value that it would refuse.
pub(super) fn is_true(element: &DefElem) -> bool {
    matches!(option_value(element), Some(true))
}

pub(super) fn is_false(element: &DefElem) -> bool {
    matches!(option_value(element), Some(false))
}

fn option_value(element: &DefElem) -> Option<bool> {
    let Some(argument) = &element.arg else {
        return Some(true);
    };
    let word = match argument.node.as_ref()? {
        NodeEnum::Integer(number) => number.ival.to_string(),
        NodeEnum::String(text) => text.sval.to_ascii_lowercase(),
        NodeEnum::Boolean(value) => value.boolval.to_string(),
        _ => return None,
    };
    match word.as_str() {
        "1" | "true" | "on" => Some(true),
        "0" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// The identifier, quoted unless it is lower case and no keyword.
pub fn quote_ident(name: &str) -> String {
    let letter = |(i, b): (usize, u8)| b.is_ascii_lowercase() || b == b'_' || (i > 0 && b.is_ascii_digit());
    let is_keyword = || match pg_query::scan_tokens(name) {
        Ok(tokens) => !matches!(tokens.as_slice(), [one] if one.keyword_kind == 0),
        Err(_) => true,
    };
    if !name.is_empty() && name.bytes().enumerate().all(letter) && !is_keyword() {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// A string literal that means the same whatever standard_conforming_strings is.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// The text's beginning with single spaces: so many characters, and more where there are more. For messages.
pub(super) fn one_line(text: &str, chars: usize) -> String {
    let (mut line, mut known) = (String::new(), 0);
    for word in text.split_whitespace() {
        if known > chars + 1 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let part: String = word.chars().take(chars + 1).collect();
        known += part.chars().count() + 1;
        line.push_str(&part);
    }
    line
}

/// The text with its marks, such as `{names}`, replaced: in one pass from left to right, since what is put in may look like a mark.
pub(super) fn filled(text: &str, values: &[(&str, String)]) -> String {
    let mut rest = text;
    let mut filled = String::with_capacity(rest.len() + 256);
    while let Some((at, (mark, value))) = values.iter().filter_map(|part| Some((rest.find(part.0)?, part))).min() {
        filled.push_str(&rest[..at]);
        filled.push_str(value);
        rest = &rest[at + mark.len()..];
    }
    filled.push_str(rest);
    filled
}

/// `schema.name`, each quoted where needed.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_s_clone_is_named_in_its_place() {
        let check = |sql: &str, expect: Option<(&str, usize, isize)>| {
            let found = in_pg_temp(sql);
            let found = found.as_ref().map(|(text, from, moved)| (text.as_str(), *from, *moved));
            assert_eq!(found, expect, "{sql:?}");
        };
        check("CREATE INDEX ON t (a)", Some(("CREATE INDEX ON pg_temp.t (a)", 24, 8)));
        check(
            "/* ü */ ALTER TABLE ONLY \"S\".\"T\" ADD UNIQUE (a)",
            Some(("/* ü */ ALTER TABLE ONLY pg_temp.\"T\" ADD UNIQUE (a)", 32, 4)),
        );
        check("CREATE TABLE t (a int)", None);
    }

    fn check(splice: impl Fn(&str) -> Option<String>, sql: &str, expect: Option<&str>) {
        assert_eq!(splice(sql).as_deref(), expect, "{sql:?}");
    }

    #[test]
    fn concurrent_forms() {
        let check = |sql, expect| check(concurrently, sql, expect);
        check("create index on t(a)", Some("create index CONCURRENTLY on t(a)"));
        check(
            "/* index */ CREATE /* a */ UNIQUE -- index\n INDEX/*b*/IF NOT EXISTS \"index\" ON t(a) -- end",
            Some(
                "/* index */ CREATE /* a */ UNIQUE -- index\n INDEX CONCURRENTLY/*b*/IF NOT EXISTS \"index\" ON t(a) -- end",
            ),
        );
        check(
            "create index index on index(index)",
            Some("create index CONCURRENTLY index on index(index)"),
        );
        check(
            "create index concurrently i on t(a)",
            Some("create index concurrently i on t(a)"),
        );
        check(
            "drop index if exists s.i -- x",
            Some("drop index CONCURRENTLY if exists s.i -- x"),
        );
        check("drop index concurrently i", Some("drop index concurrently i"));
        check("drop table t", None);
        check("reindex index i", Some("reindex index CONCURRENTLY i"));
        check(
            "REINDEX (VERBOSE) TABLE x",
            Some("REINDEX (VERBOSE) TABLE CONCURRENTLY x"),
        );
        check(
            "reindex (tablespace \"table\", verbose off) table \"table\"",
            Some("reindex (tablespace \"table\", verbose off) table CONCURRENTLY \"table\""),
        );
        check(
            "reindex (concurrently false, verbose) schema s",
            Some("reindex (concurrently true, verbose) schema s"),
        );
        check(
            "reindex (verbose, concurrently /*x*/ off) table t",
            Some("reindex (verbose, concurrently /*x*/ true) table t"),
        );
        check(
            "reindex (concurrently 0) table t",
            Some("reindex (concurrently true) table t"),
        );
        check("reindex (concurrently) table t", Some("reindex (concurrently) table t"));
        check("reindex (concurrently on, concurrently off) table t", None);
        check("reindex table concurrently t", Some("reindex table concurrently t"));
        check("reindex database", Some("reindex database CONCURRENTLY"));
        check(
            "refresh materialized view s.v with no data",
            Some("refresh materialized view CONCURRENTLY s.v with no data"),
        );
        check(
            "refresh /*view*/ materialized view view",
            Some("refresh /*view*/ materialized view CONCURRENTLY view"),
        );
        check("select 1", None);
        check("create index on t(a); drop table t", None);
        check("create indx on t(a)", None);
    }

    #[test]
    fn names_of_indexes() {
        let check = |sql, expect| check(|sql| index_name(sql, "T_a_idx"), sql, expect);
        check("create index on t(a)", Some("create index \"T_a_idx\" on t(a)"));
        check(
            "create unique index concurrently/**/on only t(a)",
            Some("create unique index concurrently \"T_a_idx\"/**/on only t(a)"),
        );
        check("create index i on t(a)", None);
        check("drop index i", None);
        assert_eq!(
            index_name("create index on t(a)", "t_a_idx").as_deref(),
            Some("create index t_a_idx on t(a)")
        );
        assert_eq!(
            index_name("create index on t(a)", "on").as_deref(),
            Some("create index \"on\" on t(a)")
        );
    }

    #[test]
    fn not_valid_is_appended() {
        let check = |sql, expect| check(not_valid, sql, expect);
        check(
            "alter table t add check (a > 0)",
            Some("alter table t add check (a > 0) NOT VALID"),
        );
        check(
            "ADD CONSTRAINT c CHECK (a > 0) -- foo",
            Some("ADD CONSTRAINT c CHECK (a > 0) NOT VALID -- foo"),
        );
        check(
            "add foreign key (a) references s (b) on delete cascade deferrable initially deferred /* x */",
            Some(
                "add foreign key (a) references s (b) on delete cascade deferrable initially deferred NOT VALID /* x */",
            ),
        );
        check(
            "add check (a > 0) no inherit",
            Some("add check (a > 0) no inherit NOT VALID"),
        );
        check(
            "alter table t add constraint n not null a",
            Some("alter table t add constraint n not null a NOT VALID"),
        );
        check("alter table t add check (a > 0) not valid", None);
        check("add check (a > 0) not enforced", None);
        check("alter table t add unique (a)", None);
        check("alter table t add check (a > 0), add b int", None);
        check("alter table t add b int check (b > 0)", None);
        check("alter domain d add check (value > 0)", None);
        check("drop column a", None);
        check("add check (a > 0); drop table t", None);
    }

    #[test]
    fn constraints_are_named() {
        let check = |sql, expect| check(|sql| constraint_name(sql, "t_Check"), sql, expect);
        check(
            "alter table t add check (a > 0)",
            Some("alter table t add CONSTRAINT \"t_Check\" check (a > 0)"),
        );
        check(
            "ADD /*x*/ FOREIGN KEY (a) REFERENCES s",
            Some("ADD CONSTRAINT \"t_Check\" /*x*/ FOREIGN KEY (a) REFERENCES s"),
        );
        check(
            "alter table add add unique (a)",
            Some("alter table add add CONSTRAINT \"t_Check\" unique (a)"),
        );
        check(
            "add primary key (a)",
            Some("add CONSTRAINT \"t_Check\" primary key (a)"),
        );
        check(
            "add primary key using index i",
            Some("add CONSTRAINT \"t_Check\" primary key using index i"),
        );
        check(
            "add exclude using gist (a with &&)",
            Some("add CONSTRAINT \"t_Check\" exclude using gist (a with &&)"),
        );
        check("alter table t add constraint c check (a > 0)", None);
        check("alter table t add column a int", None);
    }

    #[test]
    fn quoting() {
        let check = |name: &str, expect: &str| assert_eq!(quote_ident(name), expect);
        check("users", "users");
        check("_a1", "_a1");
        check("1a", "\"1a\"");
        check("Users", "\"Users\"");
        check("select", "\"select\"");
        check("name", "\"name\"");
        check("a\"b", "\"a\"\"b\"");
        check("", "\"\"");
        check("a b", "\"a b\"");
        check("é", "\"é\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(qualified("public", "Order"), "public.\"Order\"");
    }

    #[test]
    fn positions_are_no_difference() {
        let tree = |sql: &str| tree_text(&one_statement(sql).unwrap());
        assert_eq!(
            tree("alter table t add check (a in (1, 2))"),
            tree(" alter  table t /**/ add check (a in (1 , 2))")
        );
        assert_ne!(
            tree("alter table t add check (a = 'location: 1')"),
            tree("alter table t add check (a = 'location: 2')")
        );
        assert_ne!(
            tree("alter table t add check (a = '\"location: 1')"),
            tree("alter table t add check (a = '\"location: 2')")
        );
        assert_ne!(
            tree("alter table t add check (a = '\\')"),
            tree("alter table t add check (a = '\\\\')")
        );
        assert_ne!(tree("select 1"), tree("select 2"));
    }
}
