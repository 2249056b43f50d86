//! Ranges between values that are not known before a statement runs, as in a loop over the key by batches. For such a range the planner has
//! a fixed guess, half a percent of the table, in the place of an estimate: it is asked what the statement changes with all of the range
//! and with none of it. What is bounded by such a value on one side only is kept apart, so that the planner takes a third for it.

use crate::sketch;
use crate::splice::depth_change;
use crate::splice::{one_statement, significant_tokens};
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, ScanToken, Token};
use serde_json::Value;
use std::ops::Range;

/// What is asked about instead of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    AsItIs,
    /// Values are known on one side.
    OneSided(String),
    Between {
        all: String,
        none: String,
    },
}

/// `sql`: with parameters in the place of what is not known.
pub(super) fn asked(sql: &str) -> Option<Asked> {
    let tokens = significant_tokens(sql)?;
    let text = Text { sql, tokens: &tokens };
    let mut conjunctions = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if matches!(token.token(), Token::Where | Token::On) {
            conjunctions.extend(text.condition(at + 1));
        }
    }
    let with_opposite = |which: fn(&Bound) -> bool| {
        conjunctions.iter().flat_map(move |all: &Vec<Bound>| {
            let is_one =
                move |bound: &&Bound| bound.unknown && all.iter().any(|other| which(other) && other.is_opposite(bound));
            all.iter().filter(is_one)
        })
    };
    let open: Vec<Range<usize>> = with_opposite(|other| other.unknown)
        .map(|bound| bound.whole.clone())
        .collect();
    if !open.is_empty() {
        let wrapped = |with: &str| replaced(sql, &open, |conjunct| format!("(({conjunct}) {with})"));
        return Some(Asked::Between {
            all: wrapped("OR true"),
            none: wrapped("AND false"),
        });
    }
    let apart: Vec<&Bound> = with_opposite(|_| true).collect();
    if apart.is_empty() {
        return Some(Asked::AsItIs);
    }
    let ranges: Vec<Range<usize>> = apart.iter().map(|bound| bound.whole.clone()).collect();
    Some(Asked::OneSided(replaced(sql, &ranges, |conjunct| {
        let of = |bound: &&&Bound| sql.get(bound.whole.clone()) == Some(conjunct);
        apart
            .iter()
            .find(of)
            .map_or_else(String::new, |bound| bound.apart.clone())
    })))
}

fn replaced(sql: &str, ranges: &[Range<usize>], by: impl Fn(&str) -> String) -> String {
    let mut ranges = ranges.to_vec();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
    ranges.dedup();
    let mut out = sql.to_owned();
    for range in ranges {
        let by = by(&sql[range.clone()]);
        out.replace_range(range, &by);
    }
    out
}

/// `id > $1` of a conjunction.
#[derive(Debug)]
struct Bound {
    /// The bytes of the conjunct.
    whole: Range<usize>,
    /// The words of what is bounded.
    of: Vec<String>,
    is_lower: bool,
    unknown: bool,
    /// The conjunct, so that the planner does not see this bound together with another.
    apart: String,
}

impl Bound {
    fn is_opposite(&self, other: &Bound) -> bool {
        let same = match (self.of.as_slice(), other.of.as_slice()) {
            ([column], [.., dot, last]) | ([.., dot, last], [column]) if dot == "." => column == last,
            (one, other) => one == other,
        };
        same && self.is_lower != other.is_lower
    }
}

struct Text<'a> {
    sql: &'a str,
    tokens: &'a [ScanToken],
}

impl<'a> Text<'a> {
    fn bytes(&self, tokens: &Range<usize>) -> Option<Range<usize>> {
        let (first, last) = (self.tokens.get(tokens.start)?, self.tokens[..tokens.end].last()?);
        Some(first.start as usize..last.end as usize).filter(|range| range.start < range.end)
    }

    fn text(&self, tokens: &Range<usize>) -> Option<&'a str> {
        self.sql.get(self.bytes(tokens)?)
    }

    /// The conjunctions of a condition that starts here. Where it ends need not be known well: whatever is found stands in the text, and
    /// both that it is always true and that it never is are asked about.
    fn condition(&self, start: usize) -> Vec<Vec<Bound>> {
        let (mut depth, mut from, mut between) = (0, start, false);
        let (mut found, mut conjunction) = (Vec::new(), Vec::new());
        for at in start..=self.tokens.len() {
            let token = self.tokens.get(at);
            let word = token.map(ScanToken::token);
            depth += token.map_or(0, depth_change)
                + match word {
                    Some(Token::Case) => 1,
                    Some(Token::EndP) => -1,
                    _ => 0,
                };
            match word {
                Some(Token::Between) if depth == 0 => between = true,
                Some(Token::And) if depth == 0 && between => between = false,
                _ if depth < 0 || depth == 0 && word.is_none_or(ends) => {
                    self.conjunct(from..at, &mut conjunction, &mut found);
                    (from, between) = (at + 1, false);
                    match word {
                        Some(Token::And) => {}
                        Some(Token::Or) => found.push(std::mem::take(&mut conjunction)),
                        _ => break,
                    }
                }
                _ => {}
            }
        }
        found.push(conjunction);
        found
    }

    /// `others`: conjunctions that are no part of this one.
    fn conjunct(&self, tokens: Range<usize>, conjunction: &mut Vec<Bound>, others: &mut Vec<Vec<Bound>>) {
        let Some(within) = self.tokens.get(tokens.clone()).filter(|all| !all.is_empty()) else {
            return;
        };
        let mut depth = 0;
        let mut compares = Vec::new();
        let mut closed_at = None;
        for (at, token) in within.iter().enumerate() {
            if depth == 0 && comparison(token).is_some() {
                compares.push(tokens.start + at);
            }
            depth += depth_change(token);
            if depth == 0 && closed_at.is_none() {
                closed_at = Some(at);
            }
        }
        if within[0].token() == Token::Ascii40 && closed_at == Some(within.len() - 1) {
            let mut inner = self.condition(tokens.start + 1);
            match inner.len() {
                1 => conjunction.extend(inner.pop().unwrap_or_default()),
                _ => others.extend(inner),
            }
        }
        if let [at] = compares[..]
            && let Some(bounds) = self.bounds(&tokens, at)
        {
            conjunction.extend(bounds);
        }
    }

    /// `at`: the only operator or BETWEEN of the conjunct.
    fn bounds(&self, tokens: &Range<usize>, at: usize) -> Option<Vec<Bound>> {
        let sides = Sides::of(self.text(tokens)?)?;
        let (left, right) = (tokens.start..at, at + 1..tokens.end);
        let bound = |of: &Range<usize>, is_lower: bool, unknown: bool, apart: String| {
            Some(Bound {
                whole: self.bytes(tokens)?,
                of: self.words(of)?,
                is_lower,
                unknown,
                apart,
            })
        };
        let greater = match comparison(&self.tokens[at])? {
            Comparison::Greater => true,
            Comparison::Less => false,
            Comparison::Between => {
                if self.is_unknown(&left) || !sides.left || sides.right {
                    return None;
                }
                let from = match self.tokens.get(at + 1)?.token() {
                    Token::Symmetric | Token::Asymmetric => at + 2,
                    _ => at + 1,
                };
                let and = from + self.outermost_and(from..tokens.end)?;
                let (low, high) = (from..and, and + 1..tokens.end);
                let unknown = (self.is_unknown(&low), self.is_unknown(&high));
                if sides.symmetric && unknown != (true, true) {
                    return None;
                }
                let (of, low, high) = (self.text(&left)?, self.text(&low)?, self.text(&high)?);
                let apart = match unknown {
                    (true, _) => format!("((({of}) >= {low}) IS TRUE AND ({of}) <= {high})"),
                    _ => format!("(({of}) >= {low} AND (({of}) <= {high}) IS TRUE)"),
                };
                return Some(vec![
                    bound(&left, true, unknown.0, apart.clone())?,
                    bound(&left, false, unknown.1, apart)?,
                ]);
            }
        };
        let (of, value, is_lower) = match (sides.left, sides.right) {
            (true, false) => (left, right, greater),
            (false, true) => (right, left, !greater),
            _ => return None,
        };
        if self.is_unknown(&of) {
            return None;
        }
        let apart = format!("(({}) IS TRUE)", self.text(tokens)?);
        Some(vec![bound(&of, is_lower, self.is_unknown(&value), apart)?])
    }

    fn outermost_and(&self, tokens: Range<usize>) -> Option<usize> {
        let mut depth = 0;
        self.tokens.get(tokens)?.iter().position(|token| {
            let is_it = depth == 0 && token.token() == Token::And;
            depth += depth_change(token);
            is_it
        })
    }

    /// It has parameters, or asks for what it is.
    fn is_unknown(&self, tokens: &Range<usize>) -> bool {
        let is_one = |token: &ScanToken| matches!(token.token(), Token::Param | Token::Select);
        self.tokens[tokens.clone()].iter().any(is_one)
    }

    fn words(&self, tokens: &Range<usize>) -> Option<Vec<String>> {
        let word = |at: usize| {
            let word = self.text(&(at..at + 1))?;
            Some(match word.starts_with(['"', '\'']) {
                true => word.to_owned(),
                false => word.to_ascii_lowercase(),
            })
        };
        tokens.clone().map(word).collect()
    }
}

enum Comparison {
    Less,
    Greater,
    Between,
}

fn comparison(token: &ScanToken) -> Option<Comparison> {
    match token.token() {
        Token::Ascii60 | Token::LessEquals => Some(Comparison::Less),
        Token::Ascii62 | Token::GreaterEquals => Some(Comparison::Greater),
        Token::Between => Some(Comparison::Between),
        _ => None,
    }
}

fn ends(token: Token) -> bool {
    use Token as T;
    matches!(
        token,
        T::And | T::Or | T::Where | T::On | T::When | T::Returning | T::GroupP | T::Having | T::Window | T::Order
    ) || matches!(
        token,
        T::Limit | T::Offset | T::Fetch | T::For | T::Union | T::Intersect | T::Except | T::Ascii44 | T::Ascii59
    ) || matches!(
        token,
        T::Join | T::Left | T::Right | T::Full | T::InnerP | T::Cross | T::Natural
    )
}

/// Which sides of a comparison have columns.
struct Sides {
    left: bool,
    right: bool,
    symmetric: bool,
}

impl Sides {
    fn of(conjunct: &str) -> Option<Sides> {
        let NodeEnum::SelectStmt(select) = one_statement(&format!("SELECT WHERE {conjunct}"))? else {
            return None;
        };
        let Some(NodeEnum::AExpr(compared)) = &select.where_clause.as_ref()?.node else {
            return None;
        };
        let has = |side: &Option<Box<pg_query::Node>>| sketch::of(side).is_some_and(|side| has_columns(&side));
        match compared.kind() {
            AExprKind::AexprOp | AExprKind::AexprBetween | AExprKind::AexprBetweenSym => Some(Sides {
                left: has(&compared.lexpr),
                right: has(&compared.rexpr),
                symmetric: compared.kind() == AExprKind::AexprBetweenSym,
            }),
            _ => None,
        }
    }
}

/// Outside of a sub-select.
fn has_columns(tree: &Value) -> bool {
    match tree {
        Value::Array(items) => items.iter().any(has_columns),
        Value::Object(fields) => fields
            .iter()
            .any(|(key, value)| key == "ColumnRef" || key != "SubLink" && has_columns(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn between(condition: &str, expect: &str) {
        let expect = format!("DELETE FROM t WHERE {expect}");
        let made = asked(&format!("DELETE FROM t WHERE {condition}"));
        let wanted = match (expect.contains('{'), expect.contains('[') || expect.contains("IS TRUE")) {
            (true, _) => Asked::Between {
                all: expect.replace('{', "((").replace('}', ") OR true)"),
                none: expect.replace('{', "((").replace('}', ") AND false)"),
            },
            (_, true) => Asked::OneSided(expect.replace('[', "((").replace(']', ") IS TRUE)")),
            _ => Asked::AsItIs,
        };
        assert_eq!(made, Some(wanted), "{condition}");
    }

    #[test]
    fn ranges_between_what_is_not_known() {
        between("id > $1 AND id <= $1 + 1000", "{id > $1} AND {id <= $1 + 1000}");
        between("id BETWEEN $1 AND $2 AND a = 1", "{id BETWEEN $1 AND $2} AND a = 1");
        between("$1 < id AND ((t.id < $2))", "{$1 < id} AND (({t.id < $2}))");
        between(
            "a = CASE WHEN b THEN 1 END AND id >= $1 AND id < (SELECT max(id) FROM x) RETURNING id",
            "a = CASE WHEN b THEN 1 END AND {id >= $1} AND {id < (SELECT max(id) FROM x)} RETURNING id",
        );
        between(
            "id IN (SELECT id FROM t WHERE id > $1 AND id < $2 ORDER BY id)",
            "id IN (SELECT id FROM t WHERE {id > $1} AND {id < $2} ORDER BY id)",
        );
        between(
            "(a, b) > ($1, $2) AND (a, b) <= ($3, 9)",
            "{(a, b) > ($1, $2)} AND {(a, b) <= ($3, 9)}",
        );
        between("id > 0 AND id > $1 AND id < $2", "id > 0 AND {id > $1} AND {id < $2}");
        between("id BETWEEN SYMMETRIC $1 AND $2", "{id BETWEEN SYMMETRIC $1 AND $2}");
        between("a > 1 OR id > $1 AND id < $2", "a > 1 OR {id > $1} AND {id < $2}");
    }

    #[test]
    fn ranges_with_a_side_that_is_known() {
        between("id > 0 AND id <= $1", "id > 0 AND [id <= $1]");
        between("id BETWEEN $1 AND 9", "(((id) >= $1) IS TRUE AND (id) <= 9)");
        between("id BETWEEN 1 AND $1", "((id) >= 1 AND ((id) <= $1) IS TRUE)");
    }

    #[test]
    fn no_such_ranges() {
        for condition in [
            "id > $1",
            "id > $1 AND a <= $2",
            "id > $1 OR id <= $2",
            "id > $1 AND (id <= $2 OR a = 1)",
            "NOT (id > $1 AND id <= $2)",
            "NOT id > $1 AND id <= $2",
            "t.id > $1 AND u.id <= $2",
            "id > $1 AND id <= a + $2",
            "id > 1 AND id <= 2 AND a = $1",
            "id NOT BETWEEN $1 AND $2",
        ] {
            between(condition, condition);
        }
    }
}
