//! Looking into expression trees whole: every node of every kind is reached, since the serialized form is walked.

use pg_query::protobuf::{CreateStmt, Node};
use serde_json::Value;

/// Calls `f` with the kind ("FuncCall") and the fields of each node, outermost first.
pub fn each(value: &Value, f: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, f)),
        Value::Object(fields) => {
            for (key, inner) in fields {
                if key == "node"
                    && let Value::Object(kinds) = inner
                {
                    for (kind, node) in kinds {
                        f(kind, node);
                    }
                }
                each(inner, f);
            }
        }
        _ => {}
    }
}

/// The `String` nodes of a list, such as a qualified name.
pub fn strings(list: &Value) -> Vec<String> {
    let text = |item: &Value| {
        item.pointer("/node/String/sval")
            .and_then(Value::as_str)
            .map(str::to_string)
    };
    list.as_array()
        .map(|items| items.iter().filter_map(text).collect())
        .unwrap_or_default()
}

/// The names of all functions that the expression calls, each as its parts.
pub fn functions(expression: &Node) -> Vec<Vec<String>> {
    let mut names = Vec::new();
    if let Some(value) = crate::sketch::of(expression) {
        each(&value, &mut |kind, fields| {
            if kind == "FuncCall" {
                names.push(strings(&fields["funcname"]));
            }
        });
    }
    names
}

pub fn names(nodes: &[Node]) -> Vec<String> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(pg_query::NodeEnum::String(s)) => Some(s.sval.clone()),
            _ => None,
        })
        .collect()
}

/// NULL, also with a cast.
pub fn is_null(expression: &Node) -> bool {
    match &expression.node {
        Some(pg_query::NodeEnum::AConst(constant)) => constant.isnull,
        Some(pg_query::NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_null),
        _ => false,
    }
}

/// The tables that a CREATE TABLE makes, or a CREATE SCHEMA with them.
pub fn tables_made(node: &pg_query::NodeEnum) -> impl Iterator<Item = &CreateStmt> {
    let elements = match node {
        pg_query::NodeEnum::CreateSchemaStmt(schema) => schema.schema_elts.as_slice(),
        _ => &[],
    };
    let within = elements.iter().filter_map(|element| element.node.as_ref());
    std::iter::once(node).chain(within).filter_map(|node| match node {
        pg_query::NodeEnum::CreateStmt(create) => Some(create),
        _ => None,
    })
}

/// Whether the table that is made has a foreign key: its own, or a column's.
pub fn references(create: &CreateStmt) -> bool {
    fn any(nodes: &[Node]) -> bool {
        nodes.iter().any(|node| match &node.node {
            Some(pg_query::NodeEnum::Constraint(constraint)) => constraint.pktable.is_some(),
            Some(pg_query::NodeEnum::ColumnDef(column)) => any(&column.constraints),
            _ => false,
        })
    }
    any(&create.table_elts) || any(&create.constraints)
}

/// A boolean option of a parenthesized list: present without a value counts as on.
pub fn flag(options: &[Node], name: &str) -> bool {
    let value = |node: &Node| match &node.node {
        Some(pg_query::NodeEnum::DefElem(option)) if option.defname.eq_ignore_ascii_case(name) => {
            Some(match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
                None => true,
                Some(pg_query::NodeEnum::String(s)) => {
                    matches!(s.sval.to_ascii_lowercase().as_str(), "on" | "true" | "1")
                }
                Some(pg_query::NodeEnum::Boolean(b)) => b.boolval,
                Some(pg_query::NodeEnum::Integer(i)) => i.ival != 0,
                Some(_) => false,
            })
        }
        _ => None,
    };
    options.iter().filter_map(value).next_back().unwrap_or(false)
}
