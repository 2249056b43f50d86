//! Whether a WHERE clause names single rows by a unique key, so that the planner need not be asked how many there are.

use super::judge::{column_of, conjunction};
use super::text::Tree;
use crate::plan::facts::Relation;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, Node};

/// At most this many keys in `WHERE key IN (…)` are a lookup.
const KEYS_MAX: usize = 100;

/// The top-level AND compares every column of a unique index with constants or parameters.
pub fn pins_a_key(tree: &Tree, relation: &Relation) -> bool {
    // With other tables in reach, an unqualified column may be theirs.
    let Some(condition) = tree.condition.filter(|_| !tree.joins) else {
        return false;
    };
    let pinned: Vec<(&str, usize)> = conjunction(condition)
        .into_iter()
        .filter_map(|term| pinned_column(term, tree.qualifier()))
        .collect();
    let values_of = |column: &Option<String>| {
        let column = column.as_deref()?;
        pinned
            .iter()
            .filter(|(name, _)| *name == column)
            .map(|(_, values)| *values)
            .min()
    };
    relation
        .indexes
        .iter()
        .filter(|i| i.unique && i.valid && !i.partial && !i.columns.is_empty())
        .any(|index| {
            let keys = index
                .columns
                .iter()
                .map(values_of)
                .try_fold(1usize, |all, one| all.checked_mul(one?));
            keys.is_some_and(|keys| keys <= KEYS_MAX)
        })
}

/// `column = value` or `column IN (values)`: the column and the number of values.
fn pinned_column<'a>(term: &'a Node, qualifier: &str) -> Option<(&'a str, usize)> {
    let Some(NodeEnum::AExpr(expr)) = term.node.as_ref() else {
        return None;
    };
    match &expr.name[..] {
        [
            Node {
                node: Some(NodeEnum::String(operator)),
            },
        ] if operator.sval == "=" => {}
        _ => return None,
    }
    let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
    if expr.kind == AExprKind::AexprOp as i32 {
        let sides = [(left, right), (right, left)];
        let (column, _) = sides
            .into_iter()
            .find(|(c, v)| column_of(c, qualifier).is_some() && is_value(v))?;
        return Some((column_of(column, qualifier)?, 1));
    }
    match right.node.as_ref() {
        Some(NodeEnum::List(list)) if expr.kind == AExprKind::AexprIn as i32 && list.items.iter().all(is_value) => {
            Some((column_of(left, qualifier)?, list.items.len()))
        }
        _ => None,
    }
}

fn is_value(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_value),
        _ => false,
    }
}
