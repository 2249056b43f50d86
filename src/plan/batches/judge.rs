//! Whether an UPDATE or DELETE may be split, and be sent once more after a crash in the middle, without changing any row
//! twice or differently than in one statement. What is not known to be harmless is refused, with the reason.

use super::text::Tree;
use crate::plan::facts::Relation;
use crate::plan::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{BoolExprType, Node, NullTestType};
use serde_json::Value;

/// Functions of pg_catalog that are IMMUTABLE or STABLE and return one value.
const NOT_VOLATILE: &[&str] = &[
    "abs",
    "age",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_replace",
    "array_to_string",
    "ascii",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "decode",
    "div",
    "encode",
    "exp",
    "extract",
    "floor",
    "format",
    "initcap",
    "json_build_array",
    "json_build_object",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_insert",
    "jsonb_set",
    "jsonb_strip_nulls",
    "jsonb_typeof",
    "left",
    "length",
    "like_escape",
    "ln",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "mod",
    "now",
    "octet_length",
    "overlay",
    "position",
    "power",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sign",
    "similar_to_escape",
    "split_part",
    "sqrt",
    "starts_with",
    "statement_timestamp",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "to_tsvector",
    "transaction_timestamp",
    "translate",
    "trim",
    "trunc",
    "upper",
];

/// Never answer NULL.
const NEVER_NULL: &[&str] = &[
    "clock_timestamp",
    "gen_random_uuid",
    "nextval",
    "now",
    "random",
    "statement_timestamp",
    "transaction_timestamp",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
];

/// They name a row's version, which changes under the statement itself.
const VERSION_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax"];

/// What a table must be to be walked in batches. Err is the reason, for the client.
pub fn table(relation: &Relation, verb: &str) -> Result<(), String> {
    let name = format!("{}.{}", relation.schema, relation.name);
    match relation.kind {
        'r' => {}
        'p' => {
            return Err(format!(
                "{name} is partitioned: send the same {verb} for each of its partitions, one after the other"
            ));
        }
        'v' | 'm' => return Err(format!("{name} is a view: name the table behind it")),
        'f' => {
            return Err(format!(
                "{name} is a foreign table: run the {verb} on the server where it lives"
            ));
        }
        other => return Err(format!("{name} is no ordinary table (relkind {other})")),
    }
    let fires = |t: &&crate::plan::facts::Trigger| if verb == "UPDATE" { t.on_update } else { t.on_delete };
    let per_statement = relation
        .triggers
        .iter()
        .filter(fires)
        .find(|t| !t.for_each_row || t.transition);
    match per_statement {
        Some(trigger) => Err(format!(
            "trigger {} of {name} fires once a statement or sees all rows of one statement, so that several statements are not \
             the same as one",
            trigger.name
        )),
        None => Ok(()),
    }
}

/// What the statement must be. `key` are the key columns that the batches walk along.
pub fn statement(statement: &Statement, relation: &Relation, key: &[(String, String)]) -> Result<(), String> {
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
    let verb = tree.verb;
    if tree.has_with {
        return Err("a WITH clause would be evaluated once for every batch".into());
    }
    if tree.joins {
        let word = if verb == "UPDATE" { "FROM" } else { "USING" };
        return Err(format!(
            "{verb} … {word} joins other tables, which batches cannot keep still between them"
        ));
    }
    if tree.has_returning {
        return Err("RETURNING would deliver the rows of all batches as one result".into());
    }
    let wher = tree.condition.map(Mentions::of).unwrap_or_default();
    wher.check("the WHERE clause")?;
    if let Some(function) = wher.unknown_function() {
        return Err(format!(
            "the WHERE clause calls {function}(), which may give another answer for each batch"
        ));
    }
    let Some(targets) = tree.targets else { return Ok(()) };
    let targets = assignments(targets).ok_or("the SET list could not be read")?;
    for (column, value) in &targets {
        if key.iter().any(|(name, _)| name == column) {
            return Err(format!(
                "it changes {column}, by which the batches walk through the table"
            ));
        }
        value.check("the SET list")?;
    }
    repeatable(&tree, relation, &targets)
}

/// Sent again after a crash in the middle, the UPDATE must leave the rows alone that are done, or do the same to them again.
fn repeatable(tree: &Tree, relation: &Relation, targets: &[(&str, Mentions)]) -> Result<(), String> {
    if done_rows_are_excluded(tree) {
        return Ok(());
    }
    for (column, value) in targets {
        let reads = targets.iter().find(|(name, _)| value.reads(name, tree));
        let why = if let Some((name, _)) = reads {
            format!("the new value of {column} depends on {name}, which it changes too")
        } else if let Some(function) = value.unknown_function() {
            format!("{function}(), the new value of {column}, may give another answer each time")
        } else if value.default && volatile_default(relation, column) {
            format!("the default of {column} may give another value each time")
        } else {
            continue;
        };
        return Err(format!(
            "{why}: after an interruption in the middle, sending it again would change rows a second time (add a condition that \
             excludes the rows already done, such as `WHERE {column} IS NULL`)"
        ));
    }
    Ok(())
}

/// `SET c = <never NULL> … WHERE c IS NULL`.
fn done_rows_are_excluded(tree: &Tree) -> bool {
    let mut never_null = tree
        .targets
        .unwrap_or_default()
        .iter()
        .filter_map(|target| match target.node.as_ref() {
            Some(NodeEnum::ResTarget(t)) if t.indirection.is_empty() => t
                .val
                .as_deref()
                .filter(|value| is_never_null(value))
                .map(|_| t.name.as_str()),
            _ => None,
        });
    let conditions = tree.condition.map(conjunction).unwrap_or_default();
    let excluded = |column: &str| {
        conditions.iter().any(|c| match c.node.as_ref() {
            Some(NodeEnum::NullTest(test)) if test.nulltesttype == NullTestType::IsNull as i32 => {
                test.arg.as_deref().and_then(|arg| column_of(arg, tree.qualifier())) == Some(column)
            }
            _ => false,
        })
    };
    never_null.any(excluded)
}

fn is_never_null(value: &Node) -> bool {
    match value.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => !constant.isnull,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_never_null),
        Some(NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::FuncCall(call)) => match function_name(&call.funcname) {
            Some(name) => NEVER_NULL.contains(&name),
            None => false,
        },
        _ => false,
    }
}

/// The terms of a top-level AND.
pub fn conjunction(node: &Node) -> Vec<&Node> {
    match node.node.as_ref() {
        Some(NodeEnum::BoolExpr(expr)) if expr.boolop == BoolExprType::AndExpr as i32 => {
            expr.args.iter().flat_map(conjunction).collect()
        }
        _ => vec![node],
    }
}

/// The column's name if the node is a plain reference to one, unqualified or qualified with `qualifier`.
pub fn column_of<'a>(node: &'a Node, qualifier: &str) -> Option<&'a str> {
    let Some(NodeEnum::ColumnRef(column)) = node.node.as_ref() else {
        return None;
    };
    let word = |node: &'a Node| match node.node.as_ref() {
        Some(NodeEnum::String(s)) => Some(s.sval.as_str()),
        _ => None,
    };
    match &column.fields[..] {
        [name] => word(name),
        [table, name] if word(table) == Some(qualifier) => word(name),
        _ => None,
    }
}

/// The unqualified name, for a function without schema or of pg_catalog.
fn function_name(words: &[Node]) -> Option<&str> {
    let word = |node: &'static str, n: &Node| matches!(n.node.as_ref(), Some(NodeEnum::String(s)) if s.sval == node);
    let (name, schema) = words.split_last()?;
    match schema {
        [] => {}
        [schema] if word("pg_catalog", schema) => {}
        _ => return None,
    }
    match name.node.as_ref() {
        Some(NodeEnum::String(s)) => Some(&s.sval),
        _ => None,
    }
}

fn volatile_default(relation: &Relation, column: &str) -> bool {
    let default = relation.columns.iter().find(|c| c.name == column);
    // A default without a call is a constant; identity columns have no default expression.
    default.is_none_or(|c| !c.identity.trim().is_empty() || c.default.as_deref().is_some_and(|d| d.contains('(')))
}

fn assignments(targets: &[Node]) -> Option<Vec<(&str, Mentions)>> {
    let one = |target: &'_ Node| match target.node.as_ref() {
        Some(NodeEnum::ResTarget(t)) => Some(t.val.as_deref().map(Mentions::of).unwrap_or_default()),
        _ => None,
    };
    targets
        .iter()
        .map(|target| match target.node.as_ref() {
            Some(NodeEnum::ResTarget(t)) => Some((t.name.as_str(), one(target)?)),
            _ => None,
        })
        .collect()
}

/// Everything in an expression that matters here, found by walking the whole tree: no kind of node can hide from it.
#[derive(Default)]
struct Mentions {
    /// Each column reference's words; `*` for a star.
    columns: Vec<Vec<String>>,
    /// Schema-qualified names have a dot.
    functions: Vec<String>,
    subselect: bool,
    window: bool,
    current_of: bool,
    default: bool,
    /// The tree could not be walked.
    unreadable: bool,
}

impl Mentions {
    fn of(node: &Node) -> Mentions {
        let mut found = Mentions::default();
        match serde_json::to_value(node) {
            Ok(tree) => found.walk(&tree),
            Err(_) => found.unreadable = true,
        }
        found
    }

    fn walk(&mut self, tree: &Value) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "ColumnRef" => self.columns.push(words(&value["fields"])),
                        "FuncCall" => {
                            let name = words(&value["funcname"]);
                            self.functions.push(
                                name.strip_prefix(&["pg_catalog".to_string()])
                                    .unwrap_or(&name)
                                    .join("."),
                            );
                            self.window |= !value["over"].is_null();
                        }
                        "SubLink" => self.subselect = true,
                        "CurrentOfExpr" => self.current_of = true,
                        "SetToDefault" => self.default = true,
                        _ => {}
                    }
                    self.walk(value);
                }
            }
            _ => {}
        }
    }

    /// What neither SET nor WHERE may hold.
    fn check(&self, place: &str) -> Result<(), String> {
        let version_column = self
            .columns
            .iter()
            .filter_map(|c| c.last())
            .find(|c| VERSION_COLUMNS.contains(&c.as_str()));
        if self.unreadable {
            Err(format!("{place} could not be read"))
        } else if self.subselect {
            Err(format!(
                "{place} holds a sub-select, which could see the rows that earlier batches changed"
            ))
        } else if self.window {
            Err(format!("{place} holds a window function, which needs all rows at once"))
        } else if self.current_of {
            Err("WHERE CURRENT OF names the row of a cursor".into())
        } else if let Some(column) = version_column {
            Err(format!("{place} uses {column}, which changes whenever the row does"))
        } else {
            Ok(())
        }
    }

    fn unknown_function(&self) -> Option<&str> {
        self.functions
            .iter()
            .map(String::as_str)
            .find(|name| !NOT_VOLATILE.contains(name))
    }

    /// Reads the column, itself or within the whole row.
    fn reads(&self, column: &str, tree: &Tree) -> bool {
        self.columns.iter().any(|words| {
            words
                .last()
                .is_some_and(|last| last == column || last == "*" || (words.len() == 1 && last == tree.qualifier()))
        })
    }
}

/// The words of a list of String nodes, `*` for a star.
fn words(list: &Value) -> Vec<String> {
    let word = |item: &Value| item["node"]["String"]["sval"].as_str().unwrap_or("*").to_string();
    list.as_array().into_iter().flatten().map(word).collect()
}
