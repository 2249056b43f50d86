//! Whether a WHERE clause names single rows by a unique key, so that the planner need not be asked how many there are.

use super::judge::{column_of, conjunction};
use super::key::tells_apart_as_columns_do;
use super::text::Tree;
use crate::catalog::Relation;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, Node, NullTestType};

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
        .filter(|i| i.unique && i.valid && !i.partial && !i.columns.is_empty() && tells_apart_as_columns_do(i))
        .any(|index| {
            let keys = index
                .columns
                .iter()
                .map(values_of)
                .try_fold(1usize, |all, one| all.checked_mul(one?));
            keys.is_some_and(|keys| keys <= KEYS_MAX)
        })
}

/// The condition asks for `column IS NULL` of a column that the planner knows nothing about, as the backfill right after
/// an ADD COLUMN does: the planner then expects one row in 200, while it may well be all of them.
pub fn expects_blindly(tree: &Tree, relation: &Relation) -> bool {
    let is_blind = |term: &Node| match term.node.as_ref() {
        Some(NodeEnum::NullTest(test)) if test.nulltesttype == NullTestType::IsNull as i32 => test
            .arg
            .as_deref()
            .and_then(|arg| column_of(arg, tree.qualifier()))
            .and_then(|name| relation.column(name))
            .is_some_and(|column| !column.analyzed && !column.not_null),
        _ => false,
    };
    tree.condition
        .is_some_and(|condition| conjunction(condition).into_iter().any(is_blind))
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
