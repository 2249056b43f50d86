//! The names that PostgreSQL itself gives to unnamed indexes and constraints, so that a plan in several steps ends in the
//! same schema as the statement would have: makeObjectName, ChooseRelationName, ChooseConstraintName and
//! ChooseIndexColumnNames of the server's sources.

use crate::catalog::{Index, Name, Relation};
use crate::facts::Facts;
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, ConstrType, Constraint, IndexElem, IndexStmt, MinMaxOp, Node, SqlValueFunctionOp,
};

/// NAMEDATALEN - 1.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// The name of an unnamed CREATE INDEX; None if a key is an expression whose name the server would derive in a way not known here.
pub(crate) fn index(statement: &IndexStmt, relation: &Relation) -> Option<String> {
    let elements = statement.index_params.iter().chain(&statement.index_including_params);
    let mut columns: Vec<String> = Vec::new();
    for element in elements {
        let Some(NodeEnum::IndexElem(element)) = &element.node else {
            return None;
        };
        let name = element_name(element)?;
        columns.push(distinct(&name, &columns));
    }
    Some(choose_relation(relation, &addition(&columns), "idx", false))
}

/// `t_a_b_key`, `t_pkey`.
pub(crate) fn unique(relation: &Relation, columns: &[String], primary: bool) -> String {
    if primary {
        choose_relation(relation, "", "pkey", true)
    } else {
        choose_relation(relation, &addition(columns), "key", true)
    }
}

/// `t_a_check`, or `t_check` when the expression does not mention exactly one column.
pub(crate) fn check(relation: &Relation, constraint: &Constraint) -> Option<String> {
    let expression = crate::sketch::of(constraint.raw_expr.as_ref()?)?;
    let mut columns: Vec<String> = Vec::new();
    let mut whole_row = false;
    crate::tree::each(&expression, &mut |kind, value| {
        if kind == "ColumnRef" {
            match crate::tree::strings(&value["fields"]).pop() {
                Some(name) if !columns.contains(&name) => columns.push(name),
                Some(_) => {}
                None => whole_row = true,
            }
        }
    });
    if whole_row {
        return None;
    }
    let column = match columns.as_slice() {
        [one] => one.as_str(),
        _ => "",
    };
    Some(choose_constraint(relation, column, "check"))
}

pub(crate) fn foreign_key(relation: &Relation, columns: &[String]) -> String {
    choose_constraint(relation, &addition(columns), "fkey")
}

pub(crate) fn not_null(relation: &Relation, column: &str) -> String {
    choose_constraint(relation, column, "not_null")
}

/// The CHECK that DETACH PARTITION … CONCURRENTLY leaves on the partition; None if the key is not made of plain columns.
pub(crate) fn bounds_check(child: &Relation, partition_key: &str) -> Option<String> {
    let columns = key_columns(partition_key)?;
    let column = match columns.as_slice() {
        [one] => one.as_str(),
        _ => "",
    };
    // A partition no more, it has the copy already.
    match child.is_partition {
        true => Some(choose_constraint(child, column, "check")),
        false => Some(object(&child.name, column, "check")),
    }
}

/// The columns of `RANGE (a, "B")`; None if one is an expression.
pub(crate) fn key_columns(partition_key: &str) -> Option<Vec<String>> {
    let (_, list) = partition_key.split_once('(')?;
    let list = list.strip_suffix(')')?;
    let NodeEnum::IndexStmt(index) = crate::splice::one_statement(&format!("CREATE INDEX ON t ({list})"))? else {
        return None;
    };
    let column = |node: &Node| match &node.node {
        Some(NodeEnum::IndexElem(element)) if element.expr.is_none() => Some(element.name.clone()),
        _ => None,
    };
    index.index_params.iter().map(column).collect()
}

pub(crate) fn sequence(relation: &Relation, column: &str) -> String {
    choose_relation(relation, column, "seq", false)
}

/// `name1_name2_label` in at most 63 bytes: the longer of the two names gives way, the label never.
pub(crate) fn object(name1: &str, name2: &str, label: &str) -> String {
    let overhead = usize::from(!name2.is_empty()) + if label.is_empty() { 0 } else { label.len() + 1 };
    let available = NAME_BYTES_MAX.saturating_sub(overhead);
    let (mut bytes1, mut bytes2) = (name1.len(), name2.len());
    while bytes1 + bytes2 > available {
        if bytes1 > bytes2 { bytes1 -= 1 } else { bytes2 -= 1 }
    }
    let mut name = clip(name1, bytes1).to_string();
    for part in [clip(name2, bytes2), label] {
        if !part.is_empty() {
            name.push('_');
            name.push_str(part);
        }
    }
    name
}

/// Whole characters, as pg_mbcliplen.
fn clip(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn choose_relation(relation: &Relation, name2: &str, label: &str, for_constraint: bool) -> String {
    // Of constraints and of what is none different names are taken.
    let kind = if for_constraint { "both" } else { "relation" };
    choose(relation, name2, label, kind, |name| {
        relation_taken(relation, name, for_constraint) || (for_constraint && constraint_taken(relation, name))
    })
}

fn choose_constraint(relation: &Relation, name2: &str, label: &str) -> String {
    choose(relation, name2, label, "constraint", |name| {
        constraint_taken(relation, name)
    })
}

fn choose(relation: &Relation, name2: &str, label: &str, kind: &'static str, taken: impl Fn(&str) -> bool) -> String {
    let name = |pass: usize| match pass {
        0 => object(&relation.name, name2, label),
        _ => object(&relation.name, name2, &format!("{label}{pass}")),
    };
    let key = (kind, name2.to_string(), label.to_string());
    name(relation.passes.first(key, |pass| !taken(&name(pass))))
}

fn relation_taken(relation: &Relation, name: &str, for_constraint: bool) -> bool {
    relation.name == name
        || relation.relation_is_taken(name)
        || relation
            .indexes
            .iter()
            .any(|i| i.name == name && i.schema == relation.schema && !unfinished(i, for_constraint))
}

/// What an earlier run of the same statement may have left: an INVALID index, which is removed first, or the unique index of a
/// constraint that is still to be added.
fn unfinished(index: &Index, for_constraint: bool) -> bool {
    !index.valid || (for_constraint && index.unique && index.constraint.is_none())
}

fn constraint_taken(relation: &Relation, name: &str) -> bool {
    relation.constraint_is_taken(name)
        // One that carries our comment is continued.
        || relation.constraint(name).is_some_and(|c| !c.comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: ")))
}

/// ChooseIndexNameAddition: joined with `_`, cut where the server's buffer ends.
fn addition(columns: &[String]) -> String {
    let mut joined = String::new();
    for column in columns {
        if !joined.is_empty() {
            joined.push('_');
        }
        joined.push_str(column);
        if joined.len() > NAME_BYTES_MAX {
            break;
        }
    }
    joined
}

/// Tells equal column names apart by a number, as ChooseIndexColumnNames.
fn distinct(name: &str, earlier: &[String]) -> String {
    let mut candidate = name.to_string();
    let mut number = 0;
    while earlier.contains(&candidate) {
        number += 1;
        let digits = number.to_string();
        candidate = format!("{}{digits}", clip(name, NAME_BYTES_MAX - digits.len()));
    }
    candidate
}

fn element_name(element: &IndexElem) -> Option<String> {
    if !element.name.is_empty() {
        return Some(element.name.clone());
    }
    match figure(element.expr.as_deref()?) {
        Figure::Name(name, _) => Some(name),
        Figure::Nothing => Some("expr".to_string()),
        Figure::Unknown => None,
    }
}

/// FigureColname's answer: a name and how good it is (2 = a real one, 1 = only a type's or CASE).
enum Figure {
    Name(String, u8),
    Nothing,
    Unknown,
}

fn figure(node: &Node) -> Figure {
    let name = |text: &str| Figure::Name(text.to_string(), 2);
    let Some(node) = &node.node else {
        return Figure::Nothing;
    };
    match node {
        NodeEnum::ColumnRef(column) => last_string(&column.fields).map_or(Figure::Nothing, |n| Figure::Name(n, 2)),
        NodeEnum::AIndirection(part) => match last_string(&part.indirection) {
            Some(field) => Figure::Name(field, 2),
            None => part.arg.as_deref().map_or(Figure::Nothing, figure),
        },
        NodeEnum::FuncCall(call) => last_string(&call.funcname).map_or(Figure::Unknown, |n| Figure::Name(n, 2)),
        NodeEnum::AExpr(expression) if expression.kind() == pg_query::protobuf::AExprKind::AexprNullif => {
            name("nullif")
        }
        NodeEnum::AExpr(_)
        | NodeEnum::BoolExpr(_)
        | NodeEnum::NullTest(_)
        | NodeEnum::BooleanTest(_)
        | NodeEnum::AConst(_) => Figure::Nothing,
        NodeEnum::TypeCast(cast) => match cast.arg.as_deref().map_or(Figure::Nothing, figure) {
            Figure::Name(name, 2) => Figure::Name(name, 2),
            Figure::Unknown => Figure::Unknown,
            weaker => match cast.type_name.as_ref().and_then(|t| last_string(&t.names)) {
                Some(type_name) => Figure::Name(type_name, 1),
                None => weaker,
            },
        },
        NodeEnum::CollateClause(clause) => clause.arg.as_deref().map_or(Figure::Nothing, figure),
        NodeEnum::CaseExpr(case) => match case.defresult.as_deref().map_or(Figure::Nothing, figure) {
            Figure::Name(name, 2) => Figure::Name(name, 2),
            Figure::Unknown => Figure::Unknown,
            _ => Figure::Name("case".to_string(), 1),
        },
        NodeEnum::AArrayExpr(_) => name("array"),
        NodeEnum::RowExpr(_) => name("row"),
        NodeEnum::CoalesceExpr(_) => name("coalesce"),
        NodeEnum::MinMaxExpr(e) if e.op() == MinMaxOp::IsGreatest => name("greatest"),
        NodeEnum::MinMaxExpr(e) if e.op() == MinMaxOp::IsLeast => name("least"),
        NodeEnum::SqlvalueFunction(f) if f.op() == SqlValueFunctionOp::SvfopCurrentDate => name("current_date"),
        _ => Figure::Unknown,
    }
}

fn last_string(nodes: &[Node]) -> Option<String> {
    nodes.iter().rev().find_map(|node| match &node.node {
        Some(NodeEnum::String(s)) => Some(s.sval.clone()),
        _ => None,
    })
}

/// The name that the server will give to the unnamed constraint that this action adds.
pub(crate) fn name_to_be(facts: &Facts, table: Option<&Name>, command: &AlterTableCmd) -> Option<String> {
    let relation = facts.relation(table?)?;
    let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|d| d.node.as_ref()) else {
        return None;
    };
    match constraint.contype() {
        _ if !constraint.conname.is_empty() => Some(constraint.conname.clone()),
        ConstrType::ConstrCheck => check(relation, constraint),
        ConstrType::ConstrForeign => Some(foreign_key(relation, &tree::names(&constraint.fk_attrs))),
        _ => None,
    }
}
