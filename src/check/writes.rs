//! What is said of an UPDATE or DELETE where no server can say how many rows it touches.

use super::spot::Spot;
use super::verdict::Found;
use crate::plan::Place;
use crate::plan::batches::by_hand::by_hand;
use crate::plan::catalog::Relation;
use crate::plan::facts::Facts;
use crate::plan::policy::{Action, Policy, Subject};
use crate::plan::rules;
use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt, WithClause, a_const::Val};

/// The proxy asks the server how many rows it would be. Without a condition it is all of them; else it can only be said what follows
/// if they are many.
pub fn large_write(
    at: &Spot,
    policy: &Policy,
    place: Place,
    target: Option<&Relation>,
    facts: &Facts,
) -> Option<(&'static str, Found)> {
    let rule = rules::find("large-write")?;
    let anybody = Subject {
        database: "",
        role: "",
        application_name: "",
        tables: &[],
    };
    let rows = policy.backfill.rows_max;
    let (action, follows) = match (policy.decision(rule.name, &anybody).0, place) {
        (Action::Allow, _) => return None,
        (Action::Warn, _) => ("warn", "warned of"),
        (Action::Rewrite, Place::Alone) => ("rewrite", "run in batches"),
        _ => ("reject", "refused"),
    };
    let all = means_every_row(&at.statement.node);
    let action = if all { action } else { "warn" };
    let message = match all {
        true => format!("touches every row, so it is {follows} if the table has more than {rows}"),
        false => format!("is {follows} if the server expects it to touch more than {rows} rows"),
    };
    let key = target.and_then(Relation::usable_key).unwrap_or_default();
    let batches = match key.as_slice() {
        [(key, type_name)] => by_hand(at.statement, (key, type_name)),
        _ => None,
    };
    let hint = match (batches, key.first()) {
        (Some(batches), Some((key, _))) if facts.offline => format!("-- as if the key were {key}\n{batches};"),
        (Some(batches), _) => format!("{batches};"),
        (None, _) => rule.safe.to_string(),
    };
    let found = Found::new(at.source, at.whole(), rule.name, rule.lock, message, hint);
    Some((action, found))
}

fn means_every_row(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::UpdateStmt(update) => update.where_clause.is_none() && update.from_clause.is_empty(),
        NodeEnum::DeleteStmt(delete) => delete.where_clause.is_none() && delete.using_clause.is_empty(),
        _ => false,
    }
}

/// A batch made by hand: the rows are those of a SELECT … LIMIT with no more than `rows_max`.
pub fn is_bounded(node: &NodeEnum, rows_max: u64) -> bool {
    let (condition, from, with) = match node {
        NodeEnum::UpdateStmt(update) => (&update.where_clause, &update.from_clause, &update.with_clause),
        NodeEnum::DeleteStmt(delete) => (&delete.where_clause, &delete.using_clause, &delete.with_clause),
        _ => return false,
    };
    let bounded = Bounded {
        rows_max,
        with: with.as_ref(),
    };
    condition.as_ref().is_some_and(|condition| bounded.condition(condition))
        || from.iter().any(|from| bounded.source(from))
}

struct Bounded<'a> {
    rows_max: u64,
    with: Option<&'a WithClause>,
}

impl Bounded<'_> {
    fn condition(&self, node: &Node) -> bool {
        match &node.node {
            // With OR the other side may mean more.
            Some(NodeEnum::BoolExpr(all)) if all.boolop() == pg_query::protobuf::BoolExprType::AndExpr => {
                all.args.iter().any(|arg| self.condition(arg))
            }
            Some(NodeEnum::SubLink(link)) => {
                let any = link.sub_link_type() == pg_query::protobuf::SubLinkType::AnySublink;
                any && link.subselect.as_ref().is_some_and(|select| self.select(select))
            }
            Some(NodeEnum::AExpr(comparison)) => {
                let of_array = |side: &Option<Box<Node>>| match side.as_ref().and_then(|side| side.node.as_ref()) {
                    Some(NodeEnum::SubLink(link)) => link.subselect.as_ref().is_some_and(|select| self.select(select)),
                    _ => false,
                };
                comparison.kind() == pg_query::protobuf::AExprKind::AexprOpAny && of_array(&comparison.rexpr)
            }
            _ => false,
        }
    }

    fn source(&self, node: &Node) -> bool {
        match &node.node {
            Some(NodeEnum::RangeSubselect(select)) => {
                select.subquery.as_ref().is_some_and(|select| self.select(select))
            }
            Some(NodeEnum::RangeVar(range)) => self.of_with(&range.relname),
            _ => false,
        }
    }

    fn of_with(&self, name: &str) -> bool {
        let all = self.with.iter().flat_map(|with| &with.ctes);
        all.into_iter().any(|cte| match &cte.node {
            Some(NodeEnum::CommonTableExpr(cte)) if cte.ctename == name => {
                cte.ctequery.as_ref().is_some_and(|select| self.select(select))
            }
            _ => false,
        })
    }

    fn select(&self, node: &Node) -> bool {
        let Some(NodeEnum::SelectStmt(select)) = &node.node else {
            return false;
        };
        self.limited(select) || select.from_clause.iter().any(|from| self.source(from))
    }

    fn limited(&self, select: &SelectStmt) -> bool {
        let limit = select.limit_count.as_ref().and_then(|limit| limit.node.as_ref());
        match limit {
            Some(NodeEnum::AConst(constant)) => match &constant.val {
                Some(Val::Ival(number)) => u64::try_from(number.ival).is_ok_and(|rows| rows <= self.rows_max),
                _ => false,
            },
            // A variable of the program's, which is chosen as a batch's size.
            Some(NodeEnum::ColumnRef(_) | NodeEnum::ParamRef(_)) => true,
            _ => false,
        }
    }
}
