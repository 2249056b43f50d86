//! The parts of an UPDATE's or DELETE's own text, by the scanner's token offsets, so that they can be put into another
//! statement with their comments and spelling.

use crate::splice::one_statement;
use crate::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RangeVar, ScanToken, Token};

/// Each part starts and ends with a token: no comment at its end can swallow what is put behind it.
pub struct Parts {
    /// The client's own CTEs, without the word WITH: `RECURSIVE a AS (…), b AS (…)`.
    pub ctes: Option<String>,
    /// `UPDATE ONLY t AS a SET x = 1 FROM u` or `DELETE FROM t`: everything before WHERE and RETURNING.
    pub head: String,
    /// `ONLY t AS a`, as it can stand behind FROM.
    pub relation: String,
    /// What is behind FROM or USING.
    pub from: Option<String>,
    /// What column names are qualified with: the alias, or the table's name.
    pub qualifier: String,
    /// Without the word WHERE.
    pub condition: Option<String>,
    /// With the word RETURNING.
    pub returning: Option<String>,
}

/// What an UPDATE and a DELETE have in common in the tree.
pub struct Tree<'a> {
    pub verb: &'static str,
    pub relation: &'a RangeVar,
    /// None for a DELETE.
    pub targets: Option<&'a [Node]>,
    pub condition: Option<&'a Node>,
    pub has_with: bool,
    /// FROM or USING.
    pub joins: bool,
    sources: &'a [Node],
    ctes: &'a [Node],
    pub has_returning: bool,
}

impl<'a> Tree<'a> {
    /// None for any other statement.
    pub fn of(node: &'a NodeEnum) -> Option<Tree<'a>> {
        match node {
            NodeEnum::UpdateStmt(update) => Some(Tree {
                verb: "UPDATE",
                relation: update.relation.as_ref()?,
                targets: Some(&update.target_list),
                condition: update.where_clause.as_deref(),
                has_with: update.with_clause.is_some(),
                joins: !update.from_clause.is_empty(),
                sources: &update.from_clause,
                ctes: update.with_clause.as_ref().map_or(&[], |with| &with.ctes),
                has_returning: update.returning_clause.is_some(),
            }),
            NodeEnum::DeleteStmt(delete) => Some(Tree {
                verb: "DELETE",
                relation: delete.relation.as_ref()?,
                targets: None,
                condition: delete.where_clause.as_deref(),
                has_with: delete.with_clause.is_some(),
                joins: !delete.using_clause.is_empty(),
                sources: &delete.using_clause,
                ctes: delete.with_clause.as_ref().map_or(&[], |with| &with.ctes),
                has_returning: delete.returning_clause.is_some(),
            }),
            _ => None,
        }
    }

    /// What else is read: the FROM or USING list and the CTEs, with words for messages.
    pub fn sources(&self) -> impl Iterator<Item = (&'static str, &'a Node)> {
        let word = if self.verb == "UPDATE" { "FROM" } else { "USING" };
        let sources = self.sources.iter().map(move |node| (word, node));
        sources.chain(self.ctes.iter().map(|node| ("WITH", node)))
    }

    /// The FROM or USING list.
    pub fn from(&self) -> &'a [Node] {
        self.sources
    }

    pub fn ctes(&self) -> &'a [Node] {
        self.ctes
    }

    pub fn qualifier(&self) -> &'a str {
        match &self.relation.alias {
            Some(alias) => &alias.aliasname,
            None => &self.relation.relname,
        }
    }
}

/// None if the text does not fall into these parts, which it always should.
pub fn parts(statement: &Statement) -> Option<Parts> {
    let mut sql = statement.sql.clone();
    if let Kind::LimitedWrite(limited) = &statement.kind {
        // Blanks of the same length, so that the offsets stay.
        let blanks = " ".repeat(limited.clause.len());
        sql.get(limited.clause.clone())?;
        sql.replace_range(limited.clause.clone(), &blanks);
    }
    // Behind others in a message the words' places are those in all of it.
    let again = match statement.offset {
        0 => None,
        _ => Some(one_statement(&sql)?),
    };
    let tree = Tree::of(again.as_ref().unwrap_or(&statement.node))?;
    let tokens: Vec<ScanToken> = pg_query::scan_tokens(&sql)
        .ok()?
        .into_iter()
        .filter(|t| ![Token::SqlComment as i32, Token::CComment as i32, Token::Ascii59 as i32].contains(&t.token))
        .collect();

    let top = top_level(&tokens);
    let first_after =
        |word: Token, start: usize| (start..tokens.len()).find(|i| top[*i] && tokens[*i].token == word as i32);
    // A CTE may be called "update" too: the verb is the last one before its relation.
    let verbs = [Token::Update as i32, Token::DeleteP as i32];
    let verb = (0..tokens.len())
        .take_while(|i| tokens[*i].start < tree.relation.location)
        .filter(|i| top[*i] && verbs.contains(&tokens[*i].token))
        .last()?;
    if (verb > 0) != tree.has_with {
        return None;
    }
    // Where the relation's text starts, and the first token that is no more part of it.
    let (relation_start, relation_end) = if tree.verb == "UPDATE" {
        let first_target = match tree.targets?.first()?.node.as_ref()? {
            NodeEnum::ResTarget(target) => target.location,
            _ => return None,
        };
        // The last SET before the first column: an alias or a column may be called "set" too.
        let set = (0..tokens.len())
            .take_while(|i| tokens[*i].start < first_target)
            .filter(|i| tokens[*i].token == Token::Set as i32)
            .last()?;
        (verb + 1, set)
    } else {
        let end = [Token::Using, Token::Where, Token::Returning]
            .into_iter()
            .filter_map(|word| first_after(word, verb + 2))
            .min();
        (verb + 2, end.unwrap_or(tokens.len()))
    };
    let wher = first_after(Token::Where, relation_end);
    let returning = first_after(Token::Returning, wher.unwrap_or(relation_end));
    let end = returning.unwrap_or(tokens.len());
    let word = if tree.verb == "UPDATE" {
        Token::From
    } else {
        Token::Using
    };
    let is_from = |i: &usize| {
        // Not that of IS DISTINCT FROM.
        top[*i] && tokens[*i].token == word as i32 && tokens[*i - 1].token != Token::Distinct as i32
    };
    let from = (relation_end..wher.unwrap_or(end)).find(is_from);
    let text = |from: usize, to: usize| -> Option<String> {
        let (first, last) = (tokens.get(from)?, tokens.get(to.checked_sub(1)?)?);
        Some(sql.get(first.start as usize..last.end as usize)?.to_string())
    };
    if from.is_some() != tree.joins
        || wher.is_some() != tree.condition.is_some()
        || returning.is_some() != tree.has_returning
    {
        return None;
    }
    Some(Parts {
        ctes: match verb {
            0 => None,
            _ => Some(text(1, verb)?),
        },
        head: text(verb, wher.unwrap_or(end))?,
        relation: text(relation_start, relation_end)?,
        from: match from {
            Some(from) => Some(text(from + 1, wher.unwrap_or(end))?),
            None => None,
        },
        qualifier: tree.qualifier().to_string(),
        condition: match wher {
            Some(wher) => Some(text(wher + 1, end)?),
            None => None,
        },
        returning: match returning {
            Some(returning) => Some(text(returning, tokens.len())?),
            None => None,
        },
    })
}

/// For each token, whether it stands outside all parentheses and brackets.
fn top_level(tokens: &[ScanToken]) -> Vec<bool> {
    let mut depth = 0usize;
    let open = [Token::Ascii40 as i32, Token::Ascii91 as i32];
    let close = [Token::Ascii41 as i32, Token::Ascii93 as i32];
    tokens
        .iter()
        .map(|t| {
            if open.contains(&t.token) {
                depth += 1;
            } else if close.contains(&t.token) {
                depth = depth.saturating_sub(1);
            }
            depth == 0
        })
        .collect()
}
