//! What the planner merely guesses: it has no statistics of an expression, and takes one row in 200 or one in three for granted.

use super::bound::{STEADY, rows_of_select, select_of};
use super::judge::{column_of, conjunction};
use super::key::tells_apart_as_columns_do;
use super::text::Tree;
use crate::catalog::Relation;
use crate::facts::Facts;
use crate::functions::returns_one;
use crate::mentions::Mentions;
use crate::mixed::alone::alone;
use crate::reading::read_code;
use crate::sketch;
use crate::splice::{depth_change, significant_tokens};
use crate::statement::Statement;
use crate::tree;
use crate::words::mentions;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, BoolExprType, Node, ScanToken, SubLink, SubLinkType, Token};
use serde_json::Value;

/// By its default selectivities (DEFAULT_EQ_SEL, DEFAULT_MATCH_SEL, DEFAULT_RANGE_INEQ_SEL) the planner expects one row in so many.
const FACTOR: f64 = 200.0;
/// More of them do not matter.
const GUESSES_MAX: usize = 5;

/// Functions that the planner does not call: their answer changes within the statement.
const VOLATILE: &[&str] = &["clock_timestamp", "nextval", "random"];

/// The planner expects few rows, and there may be too many all the same, since a part of the condition is only guessed.
pub fn may_be_many(statement: &Statement, relation: &Relation, expected: f64, rows_max: f64) -> bool {
    if expected > rows_max {
        return false;
    }
    Tree::of(&statement.node).is_some_and(|tree| {
        let is_large = || relation.rows.is_none_or(|rows| rows > rows_max);
        let times = times(&tree, relation);
        times > 1.0 && expected.max(1.0) * times > rows_max && (times <= FACTOR || is_large())
            || is_large() && (is_unbounded(&tree) || mentions(statement.sql.as_bytes(), "ties"))
    })
}

/// The same of a text with parameters whose values are not known, in a table that has so many rows.
pub fn may_be_many_unvalued(text: &str, facts: &Facts, expected: f64, rows_max: f64) -> bool {
    let statements = read_code(text.as_bytes(), true).unwrap_or_default();
    let [whole] = statements.as_slice() else { return true };
    alone(whole).iter().any(|part| {
        let is_large = |relation: &&Relation| relation.rows.is_none_or(|rows| rows > rows_max);
        let relation = facts.target(part).filter(is_large);
        relation.is_some_and(|relation| is_open(part) || may_be_many(part, relation, expected, rows_max))
    })
}

/// It takes as many rows as an array has elements, which is not known, or as a function gives.
fn is_open(statement: &Statement) -> bool {
    Tree::of(&statement.node).is_some_and(|tree| is_unbounded(&tree)) || takes_array(&statement.sql)
}

/// `= ANY ($1)`, where the value is not known.
fn takes_array(sql: &str) -> bool {
    let Some(tokens) = significant_tokens(sql) else {
        return true;
    };
    let is_open = |at: usize| matches!(tokens[at].token(), Token::Any | Token::Some);
    let opens = |at: usize| tokens.get(at + 1).is_some_and(|token| token.token() == Token::Ascii40);
    (0..tokens.len()).filter(|at| is_open(*at) && opens(*at)).any(|at| {
        let mut depth = 0;
        let within = tokens[at + 1..].iter().take_while(|token| {
            depth += depth_change(token);
            depth > 0
        });
        let within: Vec<Token> = within.skip(1).map(ScanToken::token).collect();
        let asks = |token: &Token| matches!(token, Token::Select | Token::With | Token::Values | Token::Table);
        // ARRAY[…] has as many as are written, where nothing is put to it.
        let is_written = within.starts_with(&[Token::Array, Token::Ascii91]) && !within.contains(&Token::Op);
        !is_written && !within.first().is_some_and(asks) && within.contains(&Token::Param)
    })
}

/// It takes as many rows as an array or a function gives, for which the planner has a fixed number, such as ten.
fn is_unbounded(tree: &Tree) -> bool {
    let terms = tree.condition.map(conjunction).unwrap_or_default();
    let from = tree.from().iter().any(gives_set);
    let is_array = |term: &Node| match term.node.as_ref() {
        Some(NodeEnum::AExpr(expr)) if expr.kind() == AExprKind::AexprOpAny => expr
            .rexpr
            .as_deref()
            .is_some_and(|array| Mentions::within(array).subselect),
        _ => false,
    };
    from || terms.into_iter().any(|term| is_array(term) || gives_set(term))
}

/// There is a function in it that stands in the place of a table, or is what a query selects, and may give many rows.
fn gives_set(node: &Node) -> bool {
    let mut gives = false;
    let Some(whole) = sketch::of(node) else { return true };
    tree::each(&whole, &mut |kind, fields| {
        let target = &fields["val"]["node"]["FuncCall"];
        gives |= kind == "RangeFunction" || kind == "ResTarget" && !target.is_null() && !gives_one(target);
    });
    gives
}

fn gives_one(call: &Value) -> bool {
    match tree::strings(&call["funcname"]).as_slice() {
        [name] => returns_one(None, name),
        [schema, name] => returns_one(Some(schema), name),
        _ => false,
    }
}

/// So many times as many rows as the planner expects there may be, since it multiplies what it guesses of each part of the condition.
fn times(tree: &Tree, relation: &Relation) -> f64 {
    // Of what a function or a query gives the number of rows is guessed too.
    let is_table = |source: &&Node| matches!(source.node, Some(NodeEnum::RangeVar(_)));
    let sources = tree.from().iter().filter(|source| !is_table(source)).count() + usize::from(tree.has_with);
    let terms = tree.condition.map(conjunction).unwrap_or_default();
    let condition: f64 = terms.into_iter().map(|term| times_of(term, tree, relation)).product();
    condition * FACTOR.powi(sources.min(GUESSES_MAX) as i32)
}

fn times_of(term: &Node, tree: &Tree, relation: &Relation) -> f64 {
    let each = |terms: &[Node], join: fn(f64, f64) -> f64| {
        let times = terms.iter().map(|term| times_of(term, tree, relation));
        times.fold(1.0, join)
    };
    match term.node.as_ref() {
        // By the number of its values, whatever another collation makes equal.
        _ if collates(term, relation) => f64::INFINITY,
        _ if is_known(term, tree, relation) => 1.0,
        Some(NodeEnum::BoolExpr(of)) if of.boolop() == BoolExprType::AndExpr => each(&of.args, |a, b| a * b),
        Some(NodeEnum::BoolExpr(of)) => each(&of.args, f64::max),
        Some(NodeEnum::AExpr(expr)) => {
            let sides = [expr.lexpr.as_deref(), expr.rexpr.as_deref()];
            let elements = sides.iter().flatten().map(|side| elements(side)).max();
            let is_equal = matches!(expr.kind(), AExprKind::AexprOp | AExprKind::AexprIn) && names_equality(&expr.name);
            let own = sides
                .iter()
                .flatten()
                .filter(|side| is_own(side, tree, relation))
                .count();
            let follows = |side: &Node| {
                let within = Mentions::within(side);
                !is_own(side, tree, relation) && !within.columns.is_empty() && !within.subselect
            };
            let follows = !tree.joins && sides.iter().flatten().any(|side| follows(side));
            match is_equal && (own > 1 || own == 1 && follows) {
                // By the number of its values, which may be one in a million.
                true => f64::INFINITY,
                // One in three, and of two that are opposite one in 200.
                false if is_range(expr) => FACTOR.sqrt(),
                false => FACTOR.powi(elements.unwrap_or(1).min(GUESSES_MAX) as i32),
            }
        }
        // As many as it says.
        Some(NodeEnum::SubLink(link)) if has_limit(link) => 1.0,
        Some(NodeEnum::SubLink(_)) => FACTOR.powi(guesses_within(term).clamp(1, GUESSES_MAX) as i32),
        _ => FACTOR,
    }
}

/// It compares by a collation that it names, or in a table with a unique index of another collation than its column has.
fn collates(term: &Node, relation: &Relation) -> bool {
    let Some(NodeEnum::AExpr(_)) = &term.node else {
        return false;
    };
    let mut unique = relation.indexes.iter().filter(|index| index.unique);
    let mut collates = unique.any(|index| !tells_apart_as_columns_do(index));
    if let Some(whole) = sketch::of(term) {
        tree::each(&whole, &mut |kind, _| collates |= kind == "CollateClause");
    }
    collates
}

/// `column IN (SELECT … LIMIT 10)`
fn has_limit(link: &SubLink) -> bool {
    let select = link.subselect.as_deref().and_then(select_of);
    let plain = matches!(
        link.testexpr.as_deref().and_then(|node| node.node.as_ref()),
        Some(NodeEnum::ColumnRef(_))
    );
    link.sub_link_type() == SubLinkType::AnySublink
        && plain
        && select.is_some_and(|select| rows_of_select(select).is_some())
}

fn is_range(expr: &AExpr) -> bool {
    let last = expr.name.last().and_then(|node| node.node.as_ref());
    let is_one = |text: &str| matches!(text, "<" | ">" | "<=" | ">=");
    expr.kind() == AExprKind::AexprOp && matches!(last, Some(NodeEnum::String(text)) if is_one(&text.sval))
}

fn names_equality(name: &[Node]) -> bool {
    let last = name.last().and_then(|node| node.node.as_ref());
    matches!(last, Some(NodeEnum::String(text)) if text.sval == "=")
}

/// A column of the target with statistics, which is compared with what follows from the row itself.
fn is_own(node: &Node, tree: &Tree, relation: &Relation) -> bool {
    column_of(node, tree.qualifier()).is_some_and(|name| relation.column(name).is_some_and(|column| column.analyzed))
}

/// Of a row, each is compared.
fn elements(node: &Node) -> usize {
    match node.node.as_ref() {
        Some(NodeEnum::RowExpr(row)) => row.args.len(),
        _ => 1,
    }
}

/// Comparisons in a query, but for those of a column with a value.
fn guesses_within(query: &Node) -> usize {
    let Some(whole) = sketch::of(query) else {
        return GUESSES_MAX;
    };
    let mut guesses = 0;
    tree::each(&whole, &mut |kind, fields| {
        let is = |side: &str, kinds: &[&str]| {
            let node = fields[side]["node"].as_object();
            node.is_some_and(|node| node.keys().any(|kind| kinds.contains(&kind.as_str())))
        };
        let values = ["AConst", "ParamRef", "TypeCast", "List"];
        let plain = is("lexpr", &["ColumnRef"]) && (is("rexpr", &values) || is("rexpr", &["ColumnRef", "FuncCall"]));
        guesses += usize::from(kind == "AExpr" && !plain);
    });
    guesses
}

/// The planner has statistics for it.
fn is_known(term: &Node, tree: &Tree, relation: &Relation) -> bool {
    let analyzed = |node: &Node| match column_of(node, tree.qualifier()) {
        Some(name) => relation.column(name).is_some_and(|column| column.analyzed),
        // Of another table.
        None => tree.joins && matches!(node.node, Some(NodeEnum::ColumnRef(_))),
    };
    match term.node.as_ref() {
        Some(NodeEnum::BoolExpr(of)) => of.args.iter().all(|term| is_known(term, tree, relation)),
        Some(NodeEnum::NullTest(test)) => test.arg.as_deref().is_some_and(analyzed),
        Some(NodeEnum::BooleanTest(test)) => test.arg.as_deref().is_some_and(analyzed),
        Some(NodeEnum::ColumnRef(_)) => analyzed(term),
        Some(NodeEnum::AConst(_)) => true,
        Some(NodeEnum::AExpr(expr)) => {
            let (Some(left), Some(right)) = (expr.lexpr.as_deref(), expr.rexpr.as_deref()) else {
                return false;
            };
            // Of two columns of the row itself it takes as many as one of them has values.
            let other = |node: &Node| analyzed(node) && column_of(node, tree.qualifier()).is_none();
            let side = |column: &Node, value: &Node| {
                analyzed(column) && (is_value(value) || other(value) || other(column) && analyzed(value))
            };
            side(left, right) || side(right, left) && expr.kind() == AExprKind::AexprOp
        }
        _ => false,
    }
}

/// Known to the planner when it plans.
fn is_value(node: &Node) -> bool {
    let within = Mentions::within(node);
    let steady = |name: &str| STEADY.binary_search(&name).is_ok() && !VOLATILE.contains(&name);
    within.columns.is_empty()
        && !within.subselect
        && !within.unreadable
        && within.functions.iter().all(|f| f.schema.is_none() && steady(&f.name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{statement, table};
    use super::*;

    #[test]
    fn what_is_guessed() {
        let table = table(&["id"]);
        let check = |condition: &str, expect: bool| {
            let statement = statement(&format!("DELETE FROM t WHERE {condition}"));
            assert_eq!(may_be_many(&statement, &table, 60.0, 10_000.0), expect, "{condition}");
            let few = may_be_many(&statement, &table, 40.0, 10_000.0);
            assert_eq!(few, condition.contains("SELECT"), "{condition}: far below");
        };
        for known in [
            "n = 5",
            "n IN (1, 2) AND tenant = $1",
            "created < now() - interval '1 day' OR n IS NULL",
            "NOT (n BETWEEN 1 AND 5)",
            "5 > t.n",
            "name LIKE 'x%'",
            "n = ANY ($1)",
            "true",
        ] {
            check(known, false);
        }
        for guessed in [
            "n % 2 = 0",
            "lower(name) = 'x'",
            "f(n) = 1",
            "n + 0 > 5 AND n + 0 < 9",
            "name LIKE 'x' || name",
            "n = ANY (ARRAY(SELECT 1))",
            "n IN (SELECT generate_series(1, 5))",
            "flag IS NULL",
            "flag",
        ] {
            check(guessed, true);
        }
        // However few are expected.
        for several in [
            "n = tenant",
            "lower(name) = 'x' AND n % 2 = 0",
            "NOT (lower(name) = 'x' AND n % 2 = 0)",
            "n = 5 OR lower(name) = 'x' AND (n % 2 = 0 OR f(n) = 1)",
            "(lower(name), n + 0) = ('x', 1)",
            "n IN (SELECT a FROM u WHERE lower(b) = 'x' AND c + 1 = 2)",
        ] {
            let statement = statement(&format!("DELETE FROM t WHERE {several}"));
            assert!(may_be_many(&statement, &table, 1.0, 10_000.0), "{several}");
        }
        for one in [
            "n > random()",
            "n = 5 AND n + 0 > 1",
            "lower(name) = 'x' OR n % 2 = 0",
            "n IN (SELECT a FROM u WHERE b = 5 AND c > $1)",
        ] {
            let statement = statement(&format!("DELETE FROM t WHERE {one}"));
            assert!(!may_be_many(&statement, &table, 40.0, 10_000.0), "{one}");
        }
        let mut large = table.clone();
        large.rows = Some(1e6);
        for (condition, expect) in [
            ("id = ANY (ARRAY(SELECT n FROM u))", true),
            ("id IN (SELECT id FROM t ORDER BY n FETCH FIRST ROW WITH TIES)", true),
            ("id IN (SELECT unnest(a) FROM u)", true),
            ("id IN (SELECT s FROM generate_series(1, 9) s)", true),
            ("id IN (SELECT own_function(a) FROM u)", true),
            ("id IN (SELECT n FROM u WHERE at < now())", false),
            ("id = (SELECT max(n) FROM u)", false),
            ("id = ANY ('{1,2}')", false),
            ("id = ANY ($1)", false),
        ] {
            let statement = statement(&format!("DELETE FROM t WHERE {condition}"));
            assert_eq!(may_be_many(&statement, &large, 10.0, 10_000.0), expect, "{condition}");
        }
        large.rows = Some(9e3);
        let few = statement("DELETE FROM t WHERE id = ANY (ARRAY(SELECT n FROM u))");
        assert!(!may_be_many(&few, &large, 10.0, 10_000.0), "the table has no more");
        let joined = statement("UPDATE t SET n = 1 FROM u WHERE u.id = t.id AND u.x = 5");
        assert!(!may_be_many(&joined, &table, 60.0, 10_000.0));
        let series = statement("UPDATE t SET n = 1 FROM generate_series(1, (SELECT 9)) s WHERE s = t.id");
        assert!(may_be_many(&series, &table, 60.0, 10_000.0));
    }
}
