//! `UPDATE … LIMIT n` and `DELETE … LIMIT n`, which the grammar refuses: found by tokens, proven by parsing both halves.

use crate::splice::{depth_change, one_statement, significant_tokens, tree_text};
use crate::statement::LimitedWrite;
use pg_query::NodeEnum;
use pg_query::protobuf::{LimitOption, Token};

/// Cuts `[ORDER BY …] LIMIT n` out of an UPDATE or DELETE. What remains must be an UPDATE or DELETE, and what was cut must
/// be what a SELECT may end with.
pub(super) fn limited_write(sql: &str) -> Option<(NodeEnum, LimitedWrite)> {
    let tokens = significant_tokens(sql)?;
    if !matches!(tokens.first()?.token(), Token::Update | Token::DeleteP) {
        return None;
    }
    let (mut order, mut limit, mut stop) = (None, None, tokens.len());
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate() {
        depth += depth_change(token);
        // After a dot or AS these words are names.
        let name = i > 0 && matches!(tokens[i - 1].token(), Token::Ascii46 | Token::As);
        if depth != 0 || name {
            continue;
        }
        match token.token() {
            Token::Order if order.is_none() && limit.is_none() => order = Some(i),
            Token::Limit if limit.is_none() => limit = Some(i),
            Token::Limit | Token::Order | Token::Offset | Token::Fetch => return None,
            Token::Returning if limit.is_some() => {
                stop = i;
                break;
            }
            Token::Returning if order.is_some() => return None,
            _ => {}
        }
    }
    let limit = limit?;
    let text = |from: usize, to: usize| {
        let (first, last) = (tokens.get(from)?, tokens.get(to.checked_sub(1)?)?);
        sql.get(first.start as usize..last.end as usize).filter(|_| from < to)
    };
    let order_by = match order {
        Some(at) => Some(text(at + 2, limit)?.to_string()),
        None => None,
    };
    let expression = text(limit + 1, stop)?;
    let first = order.unwrap_or(limit);
    let clause = tokens[first].start as usize..tokens[stop - 1].end as usize;
    if !is_limit_clause(&sql[clause.clone()], order_by.is_some()) {
        return None;
    }
    let rest = format!("{} {}", &sql[..clause.start], &sql[clause.end..]);
    let node = one_statement(&rest)?;
    matches!(node, NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_)).then(|| {
        let limit = expression.to_string();
        (
            node,
            LimitedWrite {
                clause,
                order_by,
                limit,
            },
        )
    })
}

/// Nothing but a sort order and a count: no LIMIT ALL, OFFSET, FETCH FIRST or locking clause.
fn is_limit_clause(clause: &str, ordered: bool) -> bool {
    let Some(NodeEnum::SelectStmt(mut select)) = one_statement(&format!("SELECT 1 {clause}")) else {
        return false;
    };
    let counted = match select.limit_count.take().and_then(|node| node.node) {
        Some(NodeEnum::AConst(constant)) => !constant.isnull,
        Some(_) => true,
        None => false,
    };
    let sorted = !std::mem::take(&mut select.sort_clause).is_empty();
    let plain = select.limit_option == LimitOption::Count as i32;
    select.limit_option = LimitOption::Default as i32;
    let bare =
        one_statement("SELECT 1").is_some_and(|node| tree_text(&node) == tree_text(&NodeEnum::SelectStmt(select)));
    counted && plain && sorted == ordered && bare
}
