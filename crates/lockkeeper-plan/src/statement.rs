//! Reading SQL text: the split into statements, their kinds. The grammar is the server's own (libpg_query).
//!
//! Start at [`read`], which parses what the [`gate`](crate::gate) does not let pass. The client's text is kept and never
//! printed back from the tree; rewrites are byte edits made by [`super::splice`].

mod actions;
pub mod alter;
mod cost;
mod kind;
mod limited;
pub mod stream;

use self::actions::Actions;
use super::body::{self, Body};
use super::catalog::Name;
use super::grammar::{self, Unparsed};
use super::mixed;
use super::splice::{depth_change, one_statement, significant_tokens, tree_text};
use crate::gate::{Gate, changes_within, first_word, replaces_within};
use crate::words::{block_comment_end, has_word, is_space, line_end, skip_space};
pub use cost::words_of;
use cost::{Cost, scanner_cost};
use kind::kind_of;
use limited::limited_write;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, ScanToken, SelectStmt, Token};
use std::sync::{Arc, OnceLock};

/// One of those that the server runs in a transaction with others. Of the rest, some run only alone (VACUUM, CREATE INDEX
/// CONCURRENTLY).
pub fn is_transactional(statement: &Statement) -> bool {
    match &statement.node {
        NodeEnum::IndexStmt(index) => !index.concurrent,
        NodeEnum::DropStmt(drop) => !drop.concurrent,
        NodeEnum::AlterTableStmt(alter) => !alter.cmds.iter().any(|node| {
            let Some(NodeEnum::AlterTableCmd(command)) = &node.node else {
                return false;
            };
            matches!(
                command.subtype(),
                pg_query::protobuf::AlterTableType::AtDetachPartition
                    | pg_query::protobuf::AlterTableType::AtDetachPartitionFinalize
            )
        }),
        NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::TruncateStmt(_)
        | NodeEnum::RenameStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_)
        | NodeEnum::CommentStmt(_)
        | NodeEnum::ViewStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CreatePolicyStmt(_)
        | NodeEnum::CreateStmt(_)
        | NodeEnum::CreateTableAsStmt(_) => true,
        _ => matches!(statement.kind, Kind::MixedWrite),
    }
}

/// What a statement does with statements that were prepared before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared<'a> {
    Executes(&'a str),
    /// DEALLOCATE name
    Forgets(&'a str),
    /// DEALLOCATE ALL, DISCARD ALL
    ForgetsAll,
}

pub fn prepared(statement: &Statement) -> Option<Prepared<'_>> {
    use pg_query::protobuf::DiscardMode;
    match &statement.node {
        NodeEnum::ExecuteStmt(execute) => Some(Prepared::Executes(&execute.name)),
        NodeEnum::DeallocateStmt(forget) if forget.isall || forget.name.is_empty() => Some(Prepared::ForgetsAll),
        NodeEnum::DeallocateStmt(forget) => Some(Prepared::Forgets(&forget.name)),
        NodeEnum::DiscardStmt(discard) if discard.target() == DiscardMode::DiscardAll => Some(Prepared::ForgetsAll),
        _ => None,
    }
}

#[derive(Clone, Debug)]
pub struct Statement {
    /// The client's text of this one statement: without the `;`, with the comments inside and before it.
    pub sql: String,
    /// Where `sql` starts in the query text, in bytes.
    pub offset: usize,
    pub node: NodeEnum,
    pub kind: Kind,
    /// [`words_of`] the text.
    pub words: usize,
    body: Option<Arc<Body>>,
    all_actions: OnceLock<Actions>,
}

/// In front of the statement that is explained: every option that there is, with its value, a few times over.
const EXPLAIN_TOKENS_MAX: usize = 100;

impl Statement {
    /// `node` is that of `sql`.
    pub(super) fn of(sql: &str, offset: usize, node: NodeEnum, kind: Option<Kind>) -> Statement {
        let is_block = matches!(node, NodeEnum::DoStmt(_));
        let body = if is_block { None } else { body::of(&node).map(Arc::new) };
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
            self.body = body::of(&self.node).map(Arc::new);
            self.kind = kind_of(&self.node, is_judged(self.body.as_deref()));
        }
    }

    /// Of a DO block: INSERTs in it that change other rows by a rule count with it.
    pub fn count_inserts(&mut self, fires: impl Fn(&Statement) -> bool) {
        if let (NodeEnum::DoStmt(_), Some(body)) = (&self.node, &mut self.body) {
            Arc::make_mut(body).count_inserts(fires);
            self.kind = kind_of(&self.node, is_judged(self.body.as_deref()));
        }
    }

    /// What is to be seen in a DO block or a function: read once, with the statement. None: no code, or none that matters.
    pub fn body(&self) -> Option<&Body> {
        self.body.as_deref()
    }

    /// What EXPLAIN takes in a statement's place: the statement within COPY (…) TO and within another EXPLAIN. None: it could not be cut out.
    pub fn explainable(&self) -> Option<&str> {
        let sql = self.sql.as_str();
        let within = match &self.node {
            NodeEnum::ExplainStmt(_) | NodeEnum::CopyStmt(_) => mixed::inner(&self.node)?,
            _ => return Some(sql),
        };
        let tokens = significant_tokens(sql)?;
        let wanted = tree_text(within);
        // What is prepared stands in the tree in its EXECUTE's place.
        let is_executed = matches!(within, NodeEnum::PrepareStmt(_));
        let is_wanted = |text: &str| {
            one_statement(text).is_some_and(|node| match is_executed {
                true => mixed::executes(&node).is_some(),
                false => tree_text(&node) == wanted,
            })
        };
        if matches!(self.node, NodeEnum::ExplainStmt(_)) {
            // Behind EXPLAIN stand a list in parentheses or a few words.
            let starts = tokens.iter().skip(1).map(|token| token.start as usize);
            let rests = starts.filter_map(|start| sql.get(start..));
            return rests.take(EXPLAIN_TOKENS_MAX).find(|rest| is_wanted(rest));
        }
        let open = tokens.iter().position(|token| token.token() == Token::Ascii40)?;
        let mut depth = 0;
        let close = tokens[open..].iter().find(|token| {
            depth += depth_change(token);
            depth == 0
        })?;
        let text = sql.get(tokens[open].end as usize..close.start as usize)?;
        is_wanted(text).then_some(text)
    }

    /// Its text and its kind, to be read again when it is judged. What begins and ends transactions is kept.
    pub fn without_tree(self) -> Statement {
        match &self.node {
            NodeEnum::TransactionStmt(_) => self,
            _ => Statement {
                node: NodeEnum::SelectStmt(Box::default()),
                body: None,
                ..self
            },
        }
    }

    /// All actions of an ALTER TABLE; of another statement none.
    pub fn actions(&self) -> impl Iterator<Item = &AlterTableCmd> {
        let commands = match &self.node {
            NodeEnum::AlterTableStmt(alter) => alter.cmds.as_slice(),
            _ => &[],
        };
        commands.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(command.as_ref()),
            _ => None,
        })
    }
}

fn is_judged(body: Option<&Body>) -> bool {
    body.is_some_and(Body::is_judged)
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Never judged: forwarded. `node` is a stand-in where the tree is nested too deeply to be taken over.
    Harmless,
    /// BEGIN, START TRANSACTION. `plain` if it has no options (isolation level, read only …).
    Begin { plain: bool },
    /// COMMIT, END, PREPARE TRANSACTION; `chain` for AND CHAIN.
    Commit { chain: bool },
    /// ROLLBACK, ABORT; not ROLLBACK TO, which is Harmless.
    Rollback { chain: bool },
    /// An UPDATE or DELETE, which may be large.
    Write,
    /// `UPDATE … [ORDER BY …] LIMIT n`, which no PostgreSQL has. `node` is that of the statement without its ORDER BY and LIMIT.
    LimitedWrite(LimitedWrite),
    /// MERGE, or a WITH that changes data, which may be large and cannot be split ([`super::mixed`]).
    MixedWrite,
    /// `CALL lockkeeper.resume(7)`: the proxy goes on with that job.
    Resume(i64),
    /// Anything that may lock or break something: judged by the rules.
    Ddl,
}

/// Byte ranges are within `Statement::sql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedWrite {
    /// From ORDER BY or LIMIT to the end of the clause.
    pub clause: std::ops::Range<usize>,
    /// The list after ORDER BY, without these words.
    pub order_by: Option<String>,
    /// The expression after LIMIT: `10000`, `$1`.
    pub limit: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// NUL, or not UTF-8.
    Encoding,
    /// Larger than the parser is given, or comments nested too deeply.
    TooLarge,
    /// The grammar refuses it; the message is the parser's.
    Syntax(String),
    /// The server, whose encoding is another one, takes an identifier for another than is read here.
    Name(String),
}

impl Unreadable {
    pub fn why(&self) -> &str {
        match self {
            Unreadable::Syntax(message) | Unreadable::Name(message) => message,
            Unreadable::Encoding => "not valid UTF-8",
            Unreadable::TooLarge => "too large",
        }
    }
}

/// A text above this is not given to the parser.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// Nor is one whose tree would have more nodes, each of which takes 608 bytes: more than a gigabyte.
pub(super) const WORDS_MAX: usize = 2_000_000;
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
pub(super) fn read_code(text: &[u8], standard_conforming_strings: bool) -> Result<Vec<Statement>, Unreadable> {
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

/// The comments in front of a statement's first token, without their marks. The same bytes as the server's scanner skips, so
/// that nothing of the statement itself is ever taken for one.
pub(super) fn leading_comments(sql: &str) -> Vec<&str> {
    let bytes = sql.as_bytes();
    let (mut at, mut comments) = (0, Vec::new());
    loop {
        let (start, end, next) = match (bytes.get(at), bytes.get(at + 1)) {
            (Some(&byte), _) if is_space(byte) => {
                at += 1;
                continue;
            }
            (Some(b'-'), Some(b'-')) => {
                let end = line_end(bytes, at);
                (at + 2, end, end)
            }
            (Some(b'/'), Some(b'*')) => match block_comment_end(bytes, at) {
                Some(end) => (at + 2, end - 2, end),
                None => return comments,
            },
            _ => return comments,
        };
        comments.extend(sql.get(start..end));
        at = next;
    }
}

/// Without the space and comments in front, in bytes: where the first token is.
pub fn first_token(sql: &str) -> usize {
    skip_space(sql.as_bytes(), 0).unwrap_or(sql.len())
}

/// The tables that the statement would create, as it names them: CREATE TABLE, CREATE TABLE AS, SELECT INTO.
pub fn tables_created(statement: &Statement) -> Vec<Name> {
    let into = |select: &SelectStmt| {
        let mut select = select;
        // In a UNION the INTO stands in its first member.
        while let Some(left) = &select.larg {
            select = left;
        }
        select.into_clause.as_ref().and_then(|into| into.rel.clone())
    };
    let relation = match &statement.node {
        NodeEnum::CreateStmt(create) => create.relation.clone(),
        NodeEnum::CreateForeignTableStmt(create) => create.base_stmt.as_ref().and_then(|base| base.relation.clone()),
        NodeEnum::CreateTableAsStmt(create) => create.into.as_ref().and_then(|into| into.rel.clone()),
        NodeEnum::SelectStmt(select) => into(select),
        _ => None,
    };
    relation.iter().map(Name::of).collect()
}

#[cfg(test)]
mod tests {
    use super::alter::{AlterText, alter_actions};
    use super::*;
    use crate::gate::{Gate, gate, may_execute_prepared, may_insert, may_move_names, may_use_prepared};
    use proptest::prelude::*;

    #[test]
    fn what_may_give_names_another_meaning() {
        let check = |text: &str, expect: bool| assert_eq!(may_move_names(text.as_bytes()), expect, "{text:?}");
        for text in [
            "SET search_path = a",
            "SELECT set_config('search_path', 'a', true)",
            "SELECT set_config('SEARCH_Path', 'a', true)",
            "set role a",
            "RESET ALL",
            "SELECT 1; SET SCHEMA 'a'",
            "DISCARD ALL",
        ] {
            check(text, true);
        }
        for text in [
            "",
            "_path",
            "SELECT search, _path FROM t",
            "SELECT 'role'",
            "SELECT 1;",
            "SET work_mem = '1MB'",
            "SELECT _",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn gate_by_first_word() {
        let check = |text: &str, expect: Gate| assert_eq!(gate(text.as_bytes()), expect, "{text:?}");
        for text in [
            "",
            " ",
            ";",
            " ; ;\n",
            "-- only a comment",
            "/* a /* b */ c */",
            "select 1",
            "SeLeCt 1;",
            "insert into t values (1)",
            "values (1)",
            "table t",
            "show all",
            "fetch 1 from c",
            "move c",
            "declare c cursor for select 1",
            "close c",
            "listen c",
            "notify c",
            "unlisten *",
            "savepoint a",
            "release a",
            "set a = 1",
            "reset a",
            "discard all",
            "deallocate a",
            "prepare a as select 1",
            "prepare transactions as select 1",
            "execute a",
            "copy t from stdin",
            "with a as (select 1) select 1",
            "with a as (select up, date from dele_te) select 1",
            "explain analyze create table t as select 1",
            "analyze t",
            "checkpoint",
            "call p()",
            "load 'x'",
            "(select 1)",
            "rollback to a",
            "rollback work to savepoint a",
            "ROLLBACK/**/TRANSACTION--x\nTO a",
            "commit prepared 'a'",
            "rollback prepared 'a'",
            "select ';'",
            "select ';', \"a;b\";",
            "select 'it''s; fine'; -- done",
            "select 1; select 2",
            "select ';'; insert into t values (';') ; ;",
            "select $1; select $2",
            ";;select 1",
            "/* ; ' */ select 1",
            "insert into t values (E'\\'')",
            "select '\\';",
            "select 1;\n /* a; ' */ -- b",
        ] {
            check(text, Gate::Forward);
        }
        for text in ["begin", "BEGIN;", "start transaction read only", "/**/begin"] {
            check(text, Gate::Begin);
        }
        for text in [
            "commit",
            "end;",
            "abort",
            "rollback",
            "rollback work",
            "prepare transaction 'a'",
            "Rollback And Chain ;",
            "commit;-- x",
        ] {
            check(text, Gate::End);
        }
        for text in [
            "with a as (select 1) update t set b = 1",
            "WITH a AS (select 1) DeLeTe from t",
            "with a as (select 1) select 1 from b for update",
            "call LockKeeper.resume(7)",
            "drop table t",
            "update t set a = 1",
            "delete from t",
            "vacuum",
            "do $$ begin end $$",
            "lock t",
            "grant a to b",
            "selecty",
            "select$1",
            "sélect 1",
            "begin; select 1; commit",
            "select 1; begin",
            "select 1; drop table t",
            "select ';' ; drop table t",
            ";drop table t",
            "select 1; /*",
            "/*",
            "select '; x",
            "select \"; x",
            "select '\\'; drop table t; --'",
            "select $$;$$",
            "select $a$;$a$",
            "select 1; /* */ drop table t",
            "select '; -- '; drop table t",
            "select ' ; /* '; drop table t; select ' */'",
            "select 5 >--;\n 2; drop table t --",
            "select 5 >/*;*/ 2",
            "prepare transaction as select 1",
            "copy t from stdin; drop table t",
            "select a$b$;$b$",
            "\u{feff}select 1",
            "select 1; prepare transaction 'a'",
            "explain; drop table t",
            "(select 1); drop table t",
            "select e'a'\n'\\'' ; drop table t; --'",
            "-- a\rdrop table t",
            "-- a\n/* b; */ select 1 -- ; drop table t",
            "create schema a; select 1",
        ] {
            check(text, Gate::Read);
        }
        assert_eq!(gate(b"select '\xff\xfe'; drop table t"), Gate::Read);
        assert_eq!(gate(b"select '\xff;\xfe'"), Gate::Forward);
        assert_eq!(gate(b"\xff"), Gate::Read);
    }

    /// What the gate forwards is of these kinds: the property that the whole proxy rests on.
    fn never_touched(node: &NodeEnum) -> bool {
        use NodeEnum as N;
        match node {
            N::TransactionStmt(transaction) => {
                matches!(kind_of(node, is_judged(body::of(node).as_ref())), Kind::Harmless) && transaction.kind != 0
            }
            N::VacuumStmt(vacuum) => !vacuum.is_vacuumcmd,
            N::SelectStmt(_) | N::InsertStmt(_) => {
                matches!(kind_of(node, is_judged(body::of(node).as_ref())), Kind::Harmless)
            }
            N::CopyStmt(_) | N::ExplainStmt(_) | N::VariableSetStmt(_) => true,
            N::VariableShowStmt(_)
            | N::PrepareStmt(_)
            | N::ExecuteStmt(_)
            | N::DeallocateStmt(_)
            | N::DiscardStmt(_) => true,
            N::ListenStmt(_) | N::UnlistenStmt(_) | N::NotifyStmt(_) | N::DeclareCursorStmt(_) | N::FetchStmt(_) => {
                true
            }
            N::ClosePortalStmt(_)
            | N::ConstraintsSetStmt(_)
            | N::LoadStmt(_)
            | N::CallStmt(_)
            | N::CheckPointStmt(_) => true,
            _ => false,
        }
    }

    fn gate_agrees_with_grammar(text: &str) {
        gate_agrees(text, false);
        gate_agrees(text, true);
    }

    fn gate_agrees(text: &str, escapes: bool) {
        let said = gate(text.as_bytes());
        if said == Gate::Read {
            return;
        }
        let Ok(tree) = parse(text, escapes) else {
            return;
        };
        let nodes: Vec<_> = tree
            .stmts
            .iter()
            .filter_map(|raw| raw.stmt.as_ref()?.node.as_ref())
            .collect();
        let kinds: Vec<_> = nodes
            .iter()
            .map(|node| kind_of(node, is_judged(body::of(node).as_ref())))
            .collect();
        match said {
            Gate::Forward => assert!(nodes.iter().all(|node| never_touched(node)), "{text:?} is {kinds:?}"),
            Gate::Begin => assert!(matches!(kinds[..], [Kind::Begin { .. }]), "{text:?} is {kinds:?}"),
            Gate::End => assert!(
                matches!(kinds[..], [Kind::Commit { .. } | Kind::Rollback { .. }]),
                "{text:?} is {kinds:?}"
            ),
            Gate::Read => {}
        }
    }

    /// Pieces from which texts with hidden statements are made.
    const PIECES: &[&str] = &[
        "select 1",
        "SELECT",
        "drop table t",
        "drop table t",
        "begin",
        "commit",
        "rollback",
        "rollback to",
        "prepare",
        "transaction",
        "as",
        "'a'",
        "1",
        "insert into t values (1)",
        "a",
        "'",
        "''",
        "\"",
        "\"\"",
        ";",
        ";",
        ";",
        " ",
        " ",
        "\n",
        "\r",
        "\t",
        "\u{b}",
        "\u{c}",
        "--",
        "-",
        "/*",
        "*/",
        "/",
        "*",
        "$",
        "$$",
        "$a$",
        "$1",
        "\\",
        "\\'",
        "e'",
        "E'",
        "u&'",
        "U&\"",
        "uescape '!'",
        "n'",
        "x'1'",
        "b'1'",
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "::int",
        "+",
        ">",
        "<",
        "=",
        "@",
        "~",
        "é",
        "\u{a0}",
        "\u{2028}",
        "with a as (",
        "explain",
        "copy t from stdin",
        "analyze",
        "prepared 'a'",
        "work",
        "set a = 1",
        "0x",
        "1e",
        "_",
    ];

    /// Everything that can open or close something, up to three on each side of a second statement.
    #[test]
    fn no_quote_or_comment_hides_a_statement() {
        let marks = ["\\'", "'", "\"", "--", "\n", "/*", "*/", "$$", "\\", "e'"];
        let mut runs = vec![String::new()];
        let mut from = 0;
        for _ in 0..3 {
            let to = runs.len();
            for i in from..to {
                runs.extend(
                    marks
                        .iter()
                        .map(|mark| format!("{}{mark}", runs[i]))
                        .collect::<Vec<_>>(),
                );
            }
            from = to;
        }
        for before in &runs {
            for after in &runs {
                gate_agrees_with_grammar(&format!("select {before};drop table t {after}"));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn gate_never_hides_a_statement(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14)) {
            gate_agrees_with_grammar(&pieces.concat());
        }

        #[test]
        fn gate_never_hides_a_statement_in_a_select(
            before in prop::collection::vec(prop::sample::select(PIECES), 0..5),
            after in prop::collection::vec(prop::sample::select(PIECES), 0..5),
        ) {
            gate_agrees_with_grammar(&format!("select '{}'{}; drop table t", before.concat(), after.concat()));
            gate_agrees_with_grammar(&format!("select 1 {} ; drop table t {}", before.concat(), after.concat()));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(prop::sample::select(b"'\"$;-/*\\eE \nas1(\xff\0".to_vec()), 0..24)) {
            gate(&bytes);
            let _ = read(&bytes, true);
            let _ = read(&bytes, false);
        }

        #[test]
        fn every_offset_is_true(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..10)) {
            let text = pieces.concat();
            for statement in read(text.as_bytes(), true).unwrap_or_default() {
                prop_assert_eq!(text.get(statement.offset..statement.offset + statement.sql.len()), Some(statement.sql.as_str()));
            }
        }
    }

    /// `offset kind sql`, one statement a line.
    fn rendered(text: &str, standard_conforming_strings: bool) -> String {
        match read(text.as_bytes(), standard_conforming_strings) {
            Ok(statements) => {
                let line = |s: &Statement| format!("{} {:?} {}", s.offset, s.kind, s.sql);
                statements.iter().map(line).collect::<Vec<_>>().join("|")
            }
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn read_splits_and_keeps_comments() {
        let check = |text: &str, expect: &str| assert_eq!(rendered(text, true), expect, "{text:?}");
        check("", "");
        check(" ; -- x\n;", "");
        check("  drop table t ; ", "2 Ddl drop table t");
        check("-- a\ndrop table t -- b\n", "0 Ddl -- a\ndrop table t -- b");
        check(
            "select 1; /* x; */ drop table t;;\n-- é\nupdate t set a=1",
            "0 Harmless select 1|10 Ddl /* x; */ drop table t|33 Write \n-- é\nupdate t set a=1"
                .replace("33 Write \n", "34 Write ")
                .as_str(),
        );
        check("begin; commit and chain; rollback; abort and chain; start transaction read only", "0 Begin { plain: true }|7 Commit { chain: true }|25 Rollback { chain: false }|35 Rollback { chain: true }|52 Begin { plain: false }".split('|').zip(["begin", "commit and chain", "rollback", "abort and chain", "start transaction read only"]).map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>().join("|").as_str());
        check(
            "delete from t where current of c",
            "0 Harmless delete from t where current of c",
        );
        check("call lockkeeper.resume(7)", "0 Resume(7) call lockkeeper.resume(7)");
        check(
            "call lockkeeper.resume(x => 7)",
            "0 Harmless call lockkeeper.resume(x => 7)",
        );
        check("vacuum full t", "0 Ddl vacuum full t");
        check(
            "vacuum (full off, analyze) t",
            "0 Harmless vacuum (full off, analyze) t",
        );
        check("vacuum (full 1) t", "0 Ddl vacuum (full 1) t");
        check("create schema a", "0 Harmless create schema a");
        check(
            "create schema a create table t (b int)",
            "0 Ddl create schema a create table t (b int)",
        );
        check(
            "create function f() returns int begin atomic select 1; select 2; end; drop table t",
            "0 Harmless create function f() returns int begin atomic select 1; select 2; end|70 Ddl drop table t",
        );
        check("drop tabel t", "Syntax(\"syntax error at or near \\\"tabel\\\"\")");
        check("asdf; drop table t", "Syntax(\"syntax error at or near \\\"asdf\\\"\")");
        assert_eq!(read(b"a\0", true).unwrap_err(), Unreadable::Encoding);
        assert_eq!(read(b"select '\xff'", true).unwrap_err(), Unreadable::Encoding);
    }

    #[test]
    fn read_takes_update_limit() {
        let check = |text: &str, expect: Option<(&str, Option<&str>, &str)>| {
            let statements = read(text.as_bytes(), true);
            let got = statements
                .as_ref()
                .ok()
                .map(|statements| match &statements.last().unwrap().kind {
                    Kind::LimitedWrite(limited) => {
                        let sql = &statements.last().unwrap().sql;
                        (
                            &sql[limited.clause.clone()],
                            limited.order_by.as_deref(),
                            limited.limit.as_str(),
                        )
                    }
                    other => panic!("{text:?} is {other:?}"),
                });
            assert_eq!(got, expect, "{text:?}");
        };
        check(
            "update t set a = 1 where b is null limit 10000",
            Some(("limit 10000", None, "10000")),
        );
        check(
            "UPDATE t SET a = 1 LIMIT $1 RETURNING id",
            Some(("LIMIT $1", None, "$1")),
        );
        check(
            "UPDATE t SET a = 1 RETURNING id LIMIT $1 -- x",
            Some(("LIMIT $1", None, "$1")),
        );
        check(
            "delete from t where a in (select 1 limit 3) order by b desc, c limit 1 + (2) /* x */;",
            Some(("order by b desc, c limit 1 + (2)", Some("b desc, c"), "1 + (2)")),
        );
        check(
            "update t set a = t.limit limit 5 returning a as limit",
            Some(("limit 5", None, "5")),
        );
        check("select 1; delete from t limit 5", Some(("limit 5", None, "5")));
        check(
            "update t set a = arr[1] order by (select 1 limit 1) limit 2::bigint",
            Some((
                "order by (select 1 limit 1) limit 2::bigint",
                Some("(select 1 limit 1)"),
                "2::bigint",
            )),
        );
        for refused in [
            "update t set a = 1 limit all",
            "update t set a = 1 limit null",
            "update t set a = 1 limit 5 offset 1",
            "update t set a = 1 limit 5, 10",
            "update t set a = 1 fetch first 5 rows only",
            "update t set a = 1 limit 5 where b = 1",
            "update t set a = 1 limit 5 limit 6",
            "update t set a = 1 limit",
            "update t set a = 1 order by a returning b limit 5",
            "update t set a = 1 limit 5 for update",
            "update t set a = 1 order limit 5",
            "update t set a = 1 order by a",
            "insert into t default values limit 5",
            "update t set a = 1 limit 5; asdf",
            "asdf; update t set a = 1 limit 5",
            "update t set a = 1 limit 5 union select 1",
            "update t set a = 1 limit 5) select (1",
            "drop table t limit 5",
            "update t set a = 1 limit 5 returning",
        ] {
            check(refused, None);
        }
    }

    #[test]
    fn read_under_nonstandard_strings() {
        let check = |text: &str, expect: &str| assert_eq!(rendered(text, false), expect, "{text:?}");
        check("select 'a'; drop table t", "0 Harmless select 'a'|12 Ddl drop table t");
        // Here the quote is escaped, so everything is one string.
        check(
            "select '\\'; drop table t; --'",
            "0 Harmless select '\\'; drop table t; --'",
        );
        check(
            "select '\\''; drop table t; --'",
            "0 Harmless select '\\''|13 Ddl drop table t",
        );
        check("update t set a = 'b\\\\c'", "0 MixedWrite update t set a = 'b\\\\c'");
        assert!(rendered("comment on table t is 'a\\'b'", false).contains("standard_conforming_strings"));
        // The setting must not leak into the next text, not even after a failure.
        assert!(rendered("asdf '\\'", false).starts_with("Syntax"));
        assert_eq!(significant_tokens("'\\' ; 'a'").map(|t| t.len()), Some(3));
        assert!(rendered("select '\\'; drop table t; --'", true).contains("Ddl drop table t"));
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "a thread with a small stack")]
    fn hostile_texts_are_refused_quickly() {
        // The stack that a worker thread has: 2 MB.
        let work = || {
            let deep = |open: &str, close: &str, n: usize| format!("select {}1{}", open.repeat(n), close.repeat(n));
            for text in [
                deep("(", ")", 10_000),
                deep("case when ", " then 1 end", 10_000),
                deep("array[", "]", 10_000),
                deep("(select ", ")", 10_000),
                deep("- ", "", 50_000),
                deep("not ", "", 50_000),
            ] {
                let _ = read(text.as_bytes(), true);
            }
            let plus = format!("select 1{}", " + 1".repeat(60));
            assert!(matches!(read(plus.as_bytes(), true).unwrap()[0].kind, Kind::Harmless));
            let mixed = format!("drop table t; -- x\n{plus}; truncate t");
            let kinds: Vec<_> = read(mixed.as_bytes(), true)
                .unwrap()
                .iter()
                .map(|s| format!("{:?} {}", s.kind, s.offset))
                .collect();
            assert_eq!(
                kinds,
                [
                    "Ddl 0".to_string(),
                    "Harmless 14".to_string(),
                    format!("Ddl {}", 14 + 5 + plus.len() + 2)
                ]
            );
            let ddl = format!("alter table t add check (a > 1{})", " + 1".repeat(60));
            assert_eq!(
                read(ddl.as_bytes(), true).unwrap_err(),
                Unreadable::Syntax(TOO_DEEP.into())
            );
            for write in ["update only s.t set a = 1", "delete from s.t where a = 1"] {
                let deep = format!("{write}{}", " + 1".repeat(3000));
                let statements = read(deep.as_bytes(), true).unwrap();
                assert!(matches!(statements[0].kind, Kind::MixedWrite));
                let table = Name {
                    schema: Some("s".into()),
                    name: "t".into(),
                };
                assert_eq!(crate::mixed::all(&statements[0].node), Some(vec![table]));
            }
            let joins = format!(
                "create or replace view v (a) as select 1 from t{}",
                " join t on true".repeat(500)
            );
            let statements = read(joins.as_bytes(), true).unwrap();
            assert!(matches!(&statements[0].node, NodeEnum::ViewStmt(_)));
            assert_eq!(statements[0].sql, joins);
            let writes = format!(
                "create table n as with d as (delete from t returning 1) select 1{}",
                " + 1".repeat(60)
            );
            assert!(read(writes.as_bytes(), true).is_err());
            for text in [
                "/*/".repeat(30_000),
                "/*".repeat(40),
                format!("select {}1", "+".repeat(80_000)),
                "/**/".repeat(60_000),
                format!("select 1 {}", "@-".repeat(40_000)),
            ] {
                assert_eq!(
                    read(text.as_bytes(), true).unwrap_err(),
                    Unreadable::TooLarge,
                    "{}",
                    &text[..20]
                );
            }
            let ordinary = format!(
                "/*{}*/ insert into t values ({}); -- {}\ndrop table t",
                "*".repeat(5000),
                "'/*', $a$/*$a$, E'\\'/*', ".repeat(500) + "1",
                "-=".repeat(5000)
            );
            assert_eq!(read(ordinary.as_bytes(), true).unwrap().len(), 2);
            assert_eq!(
                read(&vec![b' '; TEXT_BYTES_MAX + 1], true).unwrap_err(),
                Unreadable::TooLarge
            );
        };
        std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(work)
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn a_word_within_others_is_no_execute() {
        for text in [
            "EXECUTE p",
            " /* x */ execute p(1);",
            "explain analyze execute p",
            "create table t as execute p",
        ] {
            assert!(
                may_use_prepared(text.as_bytes()) && may_execute_prepared(text.as_bytes()),
                "{text}"
            );
        }
        for text in [
            "deallocate p",
            "DISCARD ALL",
            "select 1; execute p",
            "begin; deallocate all",
        ] {
            assert!(may_use_prepared(text.as_bytes()), "{text}");
        }
        for text in [
            "select executed_at from jobs",
            "insert into t (executed_at) values (now());",
            "update t set execute = 1",
        ] {
            assert!(!may_use_prepared(text.as_bytes()), "{text}");
        }
        for text in [
            "insert into t values (1)",
            "with a as (select 1) insert into t select * from a",
            "select 1; insert into t values (1)",
        ] {
            assert!(may_insert(text.as_bytes()), "{text}");
        }
        assert!(!may_insert(b"select inserted_at from t;") && !may_insert(b"update t set inserted = 1"));
    }

    #[test]
    fn alter_table_comes_apart() {
        let check = |sql: &str, expect: Option<(&str, &[&str])>| {
            let statements = read(sql.as_bytes(), true).unwrap();
            let got = alter_actions(&statements[0]);
            let expect = expect.map(|(head, actions)| AlterText {
                head: head.into(),
                actions: actions.iter().map(|a| a.to_string()).collect(),
                spans: got.as_ref().map(|got| got.spans.clone()).unwrap_or_default(),
            });
            if let Some(text) = &got {
                let at = |(span, action): (&std::ops::Range<usize>, &String)| sql[span.clone()] == **action;
                assert!(text.spans.iter().zip(&text.actions).all(at), "{sql:?}");
            }
            assert_eq!(got, expect, "{sql:?}");
        };
        check("alter table t add a int", Some(("alter table t", &["add a int"])));
        // A name with an escape character of its own is one word.
        for name in [
            r#"U&"t!0061" UESCAPE '!'"#,
            r#"s.U&"t!0061" uescape '!'"#,
            r#"(U&"s" UESCAPE '!' . t)"#,
        ] {
            let only = if name.starts_with('(') { "ONLY " } else { "" };
            let head = format!("ALTER TABLE {only}{name}");
            for actions in [&["ADD a int"][..], &["ADD a int", "DROP b"]] {
                check(&format!("{head} {}", actions.join(", ")), Some((&head, actions)));
            }
        }
        check(
            "-- x\nALTER TABLE IF EXISTS ONLY s.\"t,u\" -- y\n ADD a numeric(1,2) /* z, */ DEFAULT f(1,2), -- w\n DROP COLUMN b, ADD CHECK (a IN (1,2)) -- end",
            Some((
                "ALTER TABLE IF EXISTS ONLY s.\"t,u\"",
                &[
                    "ADD a numeric(1,2) /* z, */ DEFAULT f(1,2)",
                    "DROP COLUMN b",
                    "ADD CHECK (a IN (1,2))",
                ],
            )),
        );
        check(
            "alter table t* alter a set not null, alter a set default array[1,2]",
            Some((
                "alter table t*",
                &["alter a set not null", "alter a set default array[1,2]"],
            )),
        );
        check(
            "alter table only (t) set (fillfactor=1,autovacuum_enabled=off), owner to b",
            Some((
                "alter table only (t)",
                &["set (fillfactor=1,autovacuum_enabled=off)", "owner to b"],
            )),
        );
        check(
            "alter table db.s.t enable trigger all",
            Some(("alter table db.s.t", &["enable trigger all"])),
        );
        check(
            "alter table \"table\" drop a",
            Some(("alter table \"table\"", &["drop a"])),
        );
        check("alter table index drop a", Some(("alter table index", &["drop a"])));
        check(
            "alter materialized view v cluster on i, set (fillfactor=7)",
            Some(("alter materialized view v", &["cluster on i", "set (fillfactor=7)"])),
        );
        check(
            "alter index i attach partition p",
            Some(("alter index i", &["attach partition p"])),
        );
        check("alter table t rename to u", None);
        check("drop table t", None);
    }

    #[test]
    fn created_tables() {
        let check = |sql: &str, expect: &[(Option<&str>, &str)]| {
            let statements = read(sql.as_bytes(), true).unwrap();
            let got: Vec<_> = tables_created(&statements[0])
                .into_iter()
                .map(|n| (n.schema, n.name))
                .collect();
            let expect: Vec<_> = expect
                .iter()
                .map(|(s, n)| (s.map(str::to_string), n.to_string()))
                .collect();
            assert_eq!(got, expect, "{sql:?}");
        };
        check("create table if not exists \"S\".t (a int)", &[(Some("S"), "t")]);
        check("create temp table t as select 1", &[(None, "t")]);
        check("select 1 into a.b union select 2", &[(Some("a"), "b")]);
        check("select 1", &[]);
        check("alter table t add a int", &[]);
    }
}
