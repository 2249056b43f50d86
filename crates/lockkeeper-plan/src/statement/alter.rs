//! An ALTER TABLE taken apart into statements of one action each.

use super::Statement;
use crate::splice::{depth_change, one_statement, significant_tokens, tree_text};
use pg_query::NodeEnum;
use pg_query::protobuf::{ScanToken, Token};

/// An ALTER TABLE taken apart: `head` + space + any of `actions` is a statement of its own that does exactly that action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterText {
    /// Up to the table's name and its optional `*`: `ALTER TABLE IF EXISTS ONLY s.t`.
    pub head: String,
    /// In the order of the tree's `cmds`.
    pub actions: Vec<String>,
    /// Where each stands in the statement's text, in bytes.
    pub spans: Vec<std::ops::Range<usize>>,
}

/// None if it is no ALTER TABLE, or could not be proven to come apart.
pub fn alter_actions(statement: &Statement) -> Option<AlterText> {
    let NodeEnum::AlterTableStmt(alter) = &statement.node else {
        return None;
    };
    let sql = &statement.sql;
    let tokens = significant_tokens(sql)?;
    let body = alter_head(&tokens)?;
    let head = sql.get(tokens[0].start as usize..tokens[body - 1].end as usize)?;
    let mut actions = Vec::with_capacity(alter.cmds.len());
    let mut spans = Vec::with_capacity(alter.cmds.len());
    let mut depth = 0;
    let mut first = body;
    for i in body..=tokens.len() {
        let end = match tokens.get(i) {
            Some(token) => {
                depth += depth_change(token);
                depth == 0 && token.token() == Token::Ascii44
            }
            None => true,
        };
        if end {
            let (from, to) = (tokens.get(first)?, tokens.get(i.checked_sub(1)?)?);
            let span = from.start as usize..to.end as usize;
            actions.push(sql.get(span.clone())?.to_string());
            spans.push(span);
            first = i + 1;
        }
    }
    // Without its actions, of which there may be thousands.
    let bare = pg_query::protobuf::AlterTableStmt {
        relation: alter.relation.clone(),
        cmds: Vec::new(),
        objtype: alter.objtype,
        missing_ok: alter.missing_ok,
    };
    let proven = |(action, command): (&String, &pg_query::Node)| {
        let mut alone = bare.clone();
        alone.cmds = vec![command.clone()];
        let text = format!("{head} {action}");
        one_statement(&text).is_some_and(|node| tree_text(&node) == tree_text(&NodeEnum::AlterTableStmt(alone)))
    };
    // Of one action all tokens are there, in their order.
    let all = actions.len() == alter.cmds.len() && (actions.len() == 1 || actions.iter().zip(&alter.cmds).all(proven));
    all.then(|| AlterText {
        head: head.to_string(),
        actions,
        spans,
    })
}

/// The number of tokens up to the relation's name and its `*`, as far as tokens tell; the caller proves it by parsing.
pub(super) fn alter_head(tokens: &[ScanToken]) -> Option<usize> {
    let is = |at: usize, token: Token| tokens.get(at).is_some_and(|t| t.token() == token);
    let mut at = match tokens.get(1)?.token() {
        Token::Materialized | Token::Foreign => 3,
        _ => 2,
    };
    if is(at, Token::IfP) && is(at + 1, Token::Exists) {
        at += 2;
    }
    at += usize::from(is(at, Token::Only));
    let parenthesis = is(at, Token::Ascii40);
    at += usize::from(parenthesis);
    // U&"…" UESCAPE '!' is one word.
    let name = |at: usize| at + if is(at + 1, Token::Uescape) { 3 } else { 1 };
    at = name(at);
    while is(at, Token::Ascii46) {
        at = name(at + 1);
    }
    at += usize::from(parenthesis);
    at += usize::from(is(at, Token::Ascii42));
    (at < tokens.len()).then_some(at)
}
