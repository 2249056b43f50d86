//! What an expression or a statement mentions, found by walking the whole tree: no kind of node can hide it.

use super::catalog::Name;
use super::sketch;
use pg_query::NodeEnum;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Default)]
pub struct Mentions {
    /// Each column reference's words; `*` for a star.
    pub columns: Vec<Vec<String>>,
    pub functions: Vec<Name>,
    /// Tables, views and CTEs, but for an UPDATE's or DELETE's own target.
    pub relations: Vec<Name>,
    pub ctes: Vec<String>,
    pub subselect: bool,
    pub window: bool,
    pub current_of: bool,
    pub default: bool,
    /// LIMIT, FOR UPDATE or TABLESAMPLE within a query: another answer each time.
    pub picks: bool,
    /// INSERT, UPDATE, DELETE or MERGE within.
    pub writes: bool,
    /// The tree could not be walked.
    pub unreadable: bool,
}

impl Mentions {
    /// Of a statement, which is not itself among what it mentions.
    pub fn of(statement: &NodeEnum) -> Mentions {
        let mut found = Mentions::default();
        match sketch::of(statement) {
            Some(Value::Object(tree)) => tree.values().for_each(|body| found.walk(body)),
            _ => found.unreadable = true,
        }
        found
    }

    /// Of any part of a tree.
    pub fn within(part: &impl Serialize) -> Mentions {
        let mut found = Mentions::default();
        match sketch::of(part) {
            Some(tree) => found.walk(&tree),
            None => found.unreadable = true,
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
                            self.functions.extend(function_name(words(&value["funcname"])));
                            self.window |= !value["over"].is_null();
                        }
                        "RangeVar" => self.relations.push(Name {
                            schema: value["schemaname"]
                                .as_str()
                                .filter(|s| !s.is_empty())
                                .map(str::to_owned),
                            name: value["relname"].as_str().unwrap_or_default().to_owned(),
                        }),
                        "CommonTableExpr" => self.ctes.push(value["ctename"].as_str().unwrap_or_default().to_owned()),
                        "SubLink" => self.subselect = true,
                        "CurrentOfExpr" => self.current_of = true,
                        "SetToDefault" => self.default = true,
                        "LockingClause" | "RangeTableSample" => self.picks = true,
                        "limit_count" | "limit_offset" => self.picks |= !value.is_null(),
                        "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => self.writes = true,
                        _ => {}
                    }
                    self.walk(value);
                }
            }
            _ => {}
        }
    }
}

/// Without pg_catalog, which is always found.
fn function_name(mut words: Vec<String>) -> Option<Name> {
    let name = words.pop()?;
    let schema = words.pop().filter(|schema| schema != "pg_catalog");
    Some(Name { schema, name })
}

/// The words of a list of String nodes, `*` for a star.
fn words(list: &Value) -> Vec<String> {
    let word = |item: &Value| item["node"]["String"]["sval"].as_str().unwrap_or("*").to_string();
    list.as_array().into_iter().flatten().map(word).collect()
}
