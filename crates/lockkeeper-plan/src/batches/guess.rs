//! What the planner merely guesses: it has no statistics of an expression, and takes one row in 200 or one in three for granted.

use super::bound::STEADY;
use super::judge::{column_of, conjunction};
use super::text::Tree;
use crate::catalog::Relation;
use crate::functions::returns_one;
use crate::mentions::Mentions;
use crate::sketch;
use crate::statement::Statement;
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, Node};
use serde_json::Value;

/// By its default selectivities (DEFAULT_EQ_SEL, DEFAULT_MATCH_SEL, DEFAULT_RANGE_INEQ_SEL) the planner expects one row in so many.
const FACTOR: f64 = 200.0;

/// Functions that the planner does not call: their answer changes within the statement.
const VOLATILE: &[&str] = &["clock_timestamp", "nextval", "random"];

/// The planner expects few rows, and there may be too many all the same, since a part of the condition is only guessed.
pub fn may_be_many(statement: &Statement, relation: &Relation, expected: f64, rows_max: f64) -> bool {
    if expected > rows_max {
        return false;
    }
    Tree::of(&statement.node).is_some_and(|tree| {
        expected * FACTOR > rows_max && is_guessed(&tree, relation)
            || relation.rows.is_none_or(|rows| rows > rows_max) && is_unbounded(&tree)
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

fn is_guessed(tree: &Tree, relation: &Relation) -> bool {
    // Of what a function or a query gives the number of rows is guessed too.
    let is_table = |source: &&Node| matches!(source.node, Some(NodeEnum::RangeVar(_)));
    if tree.has_with || !tree.from().iter().all(|source| is_table(&source)) {
        return true;
    }
    let known = |term: &Node| is_known(term, tree, relation);
    tree.condition
        .is_some_and(|condition| !conjunction(condition).into_iter().all(known))
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
            let side = |column: &Node, value: &Node| analyzed(column) && (is_value(value) || analyzed(value));
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
            "n = tenant",
            "true",
        ] {
            check(known, false);
        }
        for guessed in [
            "n % 2 = 0",
            "lower(name) = 'x'",
            "f(n) = 1",
            "n > random()",
            "name LIKE 'x' || name",
            "n = ANY (ARRAY(SELECT 1))",
            "n = 5 AND n + 0 > 1",
            "n IN (SELECT generate_series(1, 5))",
            "flag IS NULL",
            "flag",
        ] {
            check(guessed, true);
        }
        let mut large = table.clone();
        large.rows = Some(1e6);
        for (condition, expect) in [
            ("id = ANY (ARRAY(SELECT n FROM u))", true),
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
