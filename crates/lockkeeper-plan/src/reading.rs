//! Reading SQL text: the split into statements, their kinds. The grammar is the server's own (libpg_query).
//!
//! Start at [`read`], which parses what the [`gate`](crate::gate) does not let pass.

mod limited;

use super::body;
use super::cost::{Cost, WORDS_MAX, scanner_cost, words_of};
use super::grammar::{self, Unparsed};
use super::splice::{depth_change, one_statement, significant_tokens};
use super::statement::{Body, Kind, Statement, Unreadable, kind_of};
use crate::gate::{Gate, changes_within, first_word, replaces_within};
use crate::words::{has_word, is_space, skip_space};
use limited::limited_write;
use pg_query::NodeEnum;
use pg_query::protobuf::{ScanToken, Token};
use std::sync::{Arc, OnceLock};

impl Statement {
    /// `node` is that of `sql`.
    pub(crate) fn of(sql: &str, offset: usize, node: NodeEnum, kind: Option<Kind>) -> Statement {
        let is_block = matches!(node, NodeEnum::DoStmt(_));
        let body = if is_block {
            None
        } else {
            body::of(&node, read_code).map(Arc::new)
        };
        let kind = kind.unwrap_or_else(|| kind_of(&node, is_judged(body.as_deref())));
        Statement {
            sql: sql.to_string(),
            offset,
            node,
            kind,
            words: words_of(sql.as_bytes()),
            body,
            all_actions: OnceLock::new(),
        }
    }

    /// A block within a block is read with the one around it, and not by itself too: that would double with each level.
    fn look_inside(&mut self) {
        if let NodeEnum::DoStmt(_) = self.node {
            self.body = body::of(&self.node, read_code).map(Arc::new);
            self.kind = kind_of(&self.node, is_judged(self.body.as_deref()));
        }
    }
}

fn is_judged(body: Option<&Body>) -> bool {
    body.is_some_and(Body::is_judged)
}

/// A text above this is not given to the parser.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Steps of the C scanner, about a quarter of a second's worth: see [`scanner_cost`].
const SCANNER_STEPS_MAX: usize = 64 << 20;

const TOO_DEEP: &str =
    "the statement is nested too deeply to be judged; split its expressions, or run it directly on the server";
const PLAIN_BACKSLASH: &str = "with standard_conforming_strings off a backslash makes the text unsafe to rewrite; \
     SET standard_conforming_strings = on and write the string as E'…'";

const BLOCK_BACKSLASH: &str = "with standard_conforming_strings off a backslash in a DO block may end a string elsewhere than it is read here; \
     SET standard_conforming_strings = on and write the string as E'…'";

/// All statements of a query text, in order. Empty statements are left out.
///
/// The text is taken as UTF-8: under a client_encoding in which a backslash can be half of a character (SJIS, BIG5, GBK, UHC, GB18030,
/// JOHAB) a text with bytes above 127 must not be judged by it.
///
/// With `standard_conforming_strings` off, a text with a backslash is parsed as the server will, but what is not Harmless in it
/// cannot be rewritten safely: its UPDATEs and DELETEs are only counted, as MixedWrite, and other statements are refused as Syntax if the
/// backslash is theirs.
pub fn read(text: &[u8], standard_conforming_strings: bool) -> Result<Vec<Statement>, Unreadable> {
    let mut statements = read_code(text, standard_conforming_strings)?;
    statements.iter_mut().for_each(Statement::look_inside);
    Ok(statements)
}

/// The same of what stands in a DO block or a function. What is in a DO block within it is not looked at.
pub(crate) fn read_code(text: &[u8], standard_conforming_strings: bool) -> Result<Vec<Statement>, Unreadable> {
    if memchr::memchr(0, text).is_some() {
        return Err(Unreadable::Encoding);
    }
    let sql = std::str::from_utf8(text).map_err(|_| Unreadable::Encoding)?;
    // Without a backslash the setting changes nothing.
    let escapes = !standard_conforming_strings && sql.contains('\\');
    let is_costly = |cost: Cost| cost.steps > SCANNER_STEPS_MAX || cost.words > WORDS_MAX;
    if text.len() > TEXT_BYTES_MAX || scanner_cost(text, escapes).is_none_or(is_costly) {
        return Err(Unreadable::TooLarge);
    }
    match parse(sql, escapes) {
        Ok(tree) if escapes => judge_escaped(from_tree(sql, tree)),
        Ok(tree) => Ok(from_tree(sql, tree)),
        Err(Unparsed::TooDeep) if !escapes => too_deep(sql),
        Err(Unparsed::TooDeep) => Err(Unreadable::Syntax(TOO_DEEP.into())),
        Err(Unparsed::Syntax(message)) if !escapes => piecewise(sql, &message),
        Err(Unparsed::Syntax(message)) => Err(Unreadable::Syntax(message)),
    }
}

/// `escapes`: as with standard_conforming_strings off.
fn parse(sql: &str, escapes: bool) -> Result<pg_query::protobuf::ParseResult, Unparsed> {
    if !escapes {
        return grammar::parse(sql);
    }
    let result = grammar::parse_with(sql, pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS);
    // A parse that fails leaves the setting as it was given in this thread's scanner; the next one puts it back.
    let _ = grammar::parse("");
    result
}

fn from_tree(text: &str, tree: pg_query::protobuf::ParseResult) -> Vec<Statement> {
    let mut statements = Vec::with_capacity(tree.stmts.len());
    let mut from = 0;
    for raw in tree.stmts {
        // The parser's location is that of the first token; the comments before it belong to the statement too.
        let end = match raw.stmt_len {
            0 => text.len(),
            length => raw.stmt_location as usize + length as usize,
        };
        let Some(node) = raw.stmt.and_then(|node| node.node) else {
            continue;
        };
        let (sql, offset) = trimmed(text, from, end);
        statements.push(Statement::of(sql, offset, node, None));
        from = end;
    }
    statements
}

/// The text of one statement without the space around it and the `;` of those before it, and where it starts.
fn trimmed(text: &str, from: usize, end: usize) -> (&str, usize) {
    let bytes = text.as_bytes();
    let mut from = from;
    let mut at = from;
    while let Some(next) = skip_space(bytes, at) {
        if next >= end || bytes[next] != b';' {
            break;
        }
        at = next + 1;
        from = at;
    }
    let space = |c: char| c.is_ascii() && is_space(c as u8);
    let piece = text.get(from..end).unwrap_or_default();
    let start = from + (piece.len() - piece.trim_start_matches(space).len());
    (piece.trim_matches(space), start)
}

/// Splices are made by a scanner that knows the default setting only.
fn judge_escaped(statements: Vec<Statement>) -> Result<Vec<Statement>, Unreadable> {
    let mut judged = Vec::with_capacity(statements.len());
    for mut statement in statements {
        if statement.sql.contains('\\') {
            // Within the block the backslash may end a string elsewhere, and hide a statement in what is read as a string.
            if matches!(statement.node, NodeEnum::DoStmt(_)) {
                return Err(Unreadable::Syntax(BLOCK_BACKSLASH.into()));
            }
            match statement.kind {
                Kind::Ddl => return Err(Unreadable::Syntax(PLAIN_BACKSLASH.into())),
                // Counted as it is, by the server; it is not taken apart.
                Kind::Write => statement.kind = Kind::MixedWrite,
                _ => {}
            }
        }
        judged.push(statement);
    }
    Ok(judged)
}

/// The grammar takes the text, but the tree is too deep to be taken over: statement by statement.
fn too_deep(text: &str) -> Result<Vec<Statement>, Unreadable> {
    let pieces = pg_query::split_with_parser(text).map_err(|e| Unreadable::Syntax(parser_message(e)))?;
    let mut statements = Vec::with_capacity(pieces.len());
    let mut from = 0;
    for piece in pieces {
        let end = piece.as_ptr() as usize - text.as_ptr() as usize + piece.len();
        let (sql, offset) = trimmed(text, from, end);
        from = end;
        let (node, kind) = match parse(sql, false) {
            Ok(tree) => {
                let Some(node) = tree.stmts.into_iter().next().and_then(|raw| raw.stmt?.node) else {
                    continue;
                };
                (node, None)
            }
            Err(Unparsed::TooDeep) => match stand_in(sql) {
                Some((node, kind)) => (node, Some(kind)),
                None if is_query(sql.as_bytes()) => (NodeEnum::SelectStmt(Box::default()), Some(Kind::Harmless)),
                None => return Err(Unreadable::Syntax(TOO_DEEP.into())),
            },
            Err(Unparsed::Syntax(message)) => return Err(Unreadable::Syntax(message)),
        };
        statements.push(Statement::of(sql, offset, node, kind));
    }
    Ok(statements)
}

/// A statement whose expressions are too deep to be taken over, known by what stands before them. An UPDATE or DELETE names its
/// table there, and the server counts its rows; of a view it is the name that matters, not the query.
fn stand_in(sql: &str) -> Option<(NodeEnum, Kind)> {
    let tokens = significant_tokens(sql)?;
    let mut depth = 0;
    let outermost: Vec<&ScanToken> = tokens
        .iter()
        .filter(|token| {
            depth += depth_change(token);
            depth == 0
        })
        .collect();
    let until = |ends: &[Token]| {
        let end = outermost.iter().find(|token| ends.contains(&token.token()));
        end.map_or(sql.len(), |token| token.start as usize)
    };
    let shorter = match tokens.first()?.token() {
        Token::Update => format!("{} SET a = NULL", sql.get(..until(&[Token::Set]))?),
        Token::DeleteP => sql
            .get(..until(&[Token::Using, Token::Where, Token::Returning]))?
            .to_string(),
        // What a query changes by its WITH is not known.
        Token::Create if !changes_within(sql.as_bytes()) && !replaces_within(sql.as_bytes()) => {
            format!("{} AS SELECT 1", sql.get(..until(&[Token::As]))?)
        }
        _ => return None,
    };
    let node = one_statement(&shorter)?;
    let kind = match &node {
        NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) => Kind::MixedWrite,
        NodeEnum::ViewStmt(_) | NodeEnum::CreateTableAsStmt(_) => kind_of(&node, false),
        _ => return None,
    };
    Some((node, kind))
}

/// By its first word one of the kinds that are never touched.
fn is_query(sql: &[u8]) -> bool {
    skip_space(sql, 0).is_some_and(|start| first_word(&sql[start..]) == Gate::Forward)
}

fn parser_message(error: pg_query::Error) -> String {
    match error {
        pg_query::Error::Parse(message) | pg_query::Error::Split(message) | pg_query::Error::Scan(message) => message,
        other => other.to_string(),
    }
}

/// The whole is refused: every statement must be one that the grammar takes, or an UPDATE or DELETE with a LIMIT.
fn piecewise(text: &str, message: &str) -> Result<Vec<Statement>, Unreadable> {
    let refused = || Unreadable::Syntax(message.to_string());
    let tokens = significant_tokens(text).ok_or_else(refused)?;
    let mut statements = Vec::new();
    let mut depth = 0i32;
    let mut from = 0;
    let mut any = false;
    let end_of_text = ScanToken {
        start: text.len() as i32,
        token: Token::Ascii59 as i32,
        ..ScanToken::default()
    };
    for token in tokens.iter().chain([&end_of_text]) {
        depth += depth_change(token);
        let end = token.start as usize;
        if token.token() != Token::Ascii59 || (depth != 0 && end < text.len()) {
            any = true;
            continue;
        }
        if any {
            let (sql, offset) = trimmed(text, from, end);
            statements.push(piece(sql, offset)?);
        }
        any = false;
        from = end;
    }
    // Without a LIMIT among them the grammar refuses the text for a reason that the pieces do not show.
    if statements.iter().any(|s| matches!(s.kind, Kind::LimitedWrite(_))) {
        Ok(statements)
    } else {
        Err(refused())
    }
}

fn piece(sql: &str, offset: usize) -> Result<Statement, Unreadable> {
    let error = match parse(sql, false) {
        Ok(mut tree) if tree.stmts.len() == 1 => {
            if let Some(node) = tree.stmts.pop().and_then(|raw| raw.stmt?.node) {
                return Ok(Statement::of(sql, offset, node, None));
            }
            TOO_DEEP.to_string()
        }
        Ok(_) => TOO_DEEP.to_string(),
        Err(Unparsed::TooDeep) => TOO_DEEP.to_string(),
        Err(Unparsed::Syntax(message)) => message,
    };
    match limited_write(sql) {
        Some((node, limited)) => Ok(Statement::of(sql, offset, node, Some(Kind::LimitedWrite(limited)))),
        None => Err(Unreadable::Syntax(error)),
    }
}

/// An identifier that a server of this encoding reads otherwise than the grammar does here, in UTF-8: it is cut at 63 bytes of its own,
/// and where a character is one byte, capital letters beyond ASCII become small ones.
pub fn misread_name(sql: &str, server_encoding: &str) -> Option<String> {
    const NAME_BYTES: usize = 63;
    if matches!(server_encoding, "UTF8" | "") || (sql.is_ascii() && !has_word(sql.as_bytes(), b"u&")) {
        return None;
    }
    let single = ["LATIN", "WIN", "ISO_8859", "KOI8"]
        .iter()
        .any(|family| server_encoding.starts_with(family));
    significant_tokens(sql)?.iter().find_map(|token| {
        let text = sql.get(token.start as usize..token.end as usize)?;
        let is_name = match token.token() {
            // Its escapes stand for up to as many characters.
            Token::Uident => return (text.len() > NAME_BYTES).then(|| text.to_string()),
            Token::Ident => !text.is_ascii(),
            _ => false,
        };
        let folds = single && !text.starts_with('"') && text.chars().any(|c| !c.is_ascii() && c.to_lowercase().ne([c]));
        (is_name && (folds || text.len() > NAME_BYTES)).then(|| text.to_string())
    })
}

#[cfg(test)]
mod tests;
