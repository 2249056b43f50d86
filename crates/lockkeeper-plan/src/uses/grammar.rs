//! The first reader: the server's own grammar.

use super::touched::{Found, Uses};
use crate::grammar::{self, Unparsed};
use crate::sketch;
use pg_query::NodeEnum;
use serde_json::Value;
use std::ops::{Deref, DerefMut};

/// An error: the grammar does not take it, or its tree is too deep.
pub(super) fn read(text: &str) -> Result<Uses, Unparsed> {
    let parsed = grammar::parse(text)?;
    let mut walker = Walker::default();
    for statement in parsed.stmts {
        let node = statement.stmt.and_then(|stmt| stmt.node).ok_or(Unparsed::TooDeep)?;
        // What was prepared by SQL, and what code does, its text does not tell.
        if matches!(
            node,
            NodeEnum::ExecuteStmt(_) | NodeEnum::DoStmt(_) | NodeEnum::CallStmt(_)
        ) {
            return Err(Unparsed::TooDeep);
        }
        if is_query(&node) {
            walker.walk(&sketch::of(&node).ok_or(Unparsed::TooDeep)?, &[]);
        }
    }
    Ok(walker.0.uses())
}

/// It reads or writes rows. What changes the schema uses nothing.
fn is_query(node: &NodeEnum) -> bool {
    matches!(
        node,
        NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_)
            | NodeEnum::CopyStmt(_)
            | NodeEnum::DeclareCursorStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::ExplainStmt(_)
    )
}

#[derive(Default)]
struct Walker(Found);

impl Deref for Walker {
    type Target = Found;

    fn deref(&self) -> &Found {
        &self.0
    }
}

impl DerefMut for Walker {
    fn deref_mut(&mut self) -> &mut Found {
        &mut self.0
    }
}

impl Walker {
    /// `from`: the tables that a `*` stands for.
    fn walk(&mut self, tree: &Value, from: &[usize]) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, from)),
            Value::Object(fields) => {
                if fields.contains_key("relname") {
                    self.range(tree, false);
                    return;
                }
                for (kind, node) in fields {
                    match kind.as_str() {
                        "SelectStmt" => self.query(node, &["from_clause"]),
                        "InsertStmt" => self.write(node, &[], "cols"),
                        "UpdateStmt" => self.write(node, &["from_clause"], "target_list"),
                        "DeleteStmt" => self.write(node, &["using_clause"], ""),
                        "MergeStmt" => self.write(node, &["source_relation"], ""),
                        "CopyStmt" => self.copy(node),
                        "ColumnRef" => self.column(node, from),
                        "JoinExpr" => {
                            self.columns
                                .extend(strings(&node["using_clause"]).into_iter().map(|c| vec![c]));
                            let since = self.named.len();
                            self.walk(node, from);
                            // Which columns it compares only the catalog knows.
                            let own = if node["is_natural"].is_null() {
                                Vec::new()
                            } else {
                                self.own(since)
                            };
                            self.whole_of.extend(own);
                        }
                        // FOR UPDATE OF an alias.
                        "LockingClause" => {}
                        _ => self.walk(node, from),
                    }
                }
            }
            _ => {}
        }
    }

    fn range(&mut self, range: &Value, written: bool) -> Option<usize> {
        let word = |value: &Value| value.as_str().filter(|word| !word.is_empty()).map(str::to_owned);
        let words = [word(&range["schemaname"]), word(&range["relname"])];
        let alias = word(&range["alias"]["aliasname"]);
        let at = self.table(words.into_iter().flatten().collect(), alias, written);
        // Its columns have other names in the query.
        if !range["alias"]["colnames"].is_null() {
            self.whole_of.extend(at);
        }
        at
    }

    /// Its WITH, then what it reads, then the rest of it.
    fn query(&mut self, node: &Value, first: &[&str]) {
        self.within(node, None, first, &[]);
    }

    fn within(&mut self, node: &Value, written: Option<&Value>, first: &[&str], skip: &[&str]) -> Option<usize> {
        self.level += 1;
        let ctes = self.ctes.len();
        let with = &node["with_clause"];
        let recursive = !with["recursive"].is_null();
        let all: Vec<&Value> = with["ctes"].as_array().into_iter().flatten().collect();
        let name = |cte: &Value| cte["node"]["CommonTableExpr"]["ctename"].as_str().map(str::to_owned);
        if recursive {
            self.ctes.extend(all.iter().filter_map(|cte| name(cte)));
        }
        for cte in all {
            self.walk(cte, &[]);
            self.ctes.extend(name(cte));
        }
        let since = self.named.len();
        let target = written.and_then(|range| self.range(range, true));
        for key in first {
            self.walk(&node[*key], &[]);
        }
        let own = self.own(since);
        for (key, inner) in node.as_object().into_iter().flatten() {
            let done = key == "with_clause" || first.contains(&key.as_str()) || skip.contains(&key.as_str());
            // UNION and its kin.
            if !done && matches!(key.as_str(), "larg" | "rarg") {
                self.query(inner, &["from_clause"]);
            } else if !done {
                self.walk(inner, &own);
            }
        }
        self.ctes.truncate(ctes);
        self.level -= 1;
        target
    }

    /// `names`: where its targets are named.
    fn write(&mut self, node: &Value, first: &[&str], names: &str) {
        let target = self.within(node, Some(&node["relation"]), first, &["relation"]);
        let Some(target) = target else { return };
        let mut written = targets(&node[names]);
        let conflict = &node["on_conflict_clause"];
        written.extend(targets(&conflict["target_list"]));
        for element in conflict["infer"]["index_elems"].as_array().into_iter().flatten() {
            let name = element["node"]["IndexElem"]["name"].as_str();
            written.extend(name.map(str::to_owned));
        }
        for clause in node["merge_when_clauses"].as_array().into_iter().flatten() {
            let clause = &clause["node"]["MergeWhenClause"];
            let names = targets(&clause["target_list"]);
            if names.is_empty() && !clause["values"].is_null() {
                self.whole_of.insert(target);
            }
            written.extend(names);
        }
        if names == "cols" && node["cols"].is_null() && !node["select_stmt"].is_null() {
            self.whole_of.insert(target);
        }
        self.written.extend(written.into_iter().map(|column| (target, column)));
    }

    fn copy(&mut self, node: &Value) {
        if !node["relation"].is_null() {
            // sketch leaves false out.
            let target = self.range(&node["relation"], !node["is_from"].is_null());
            let columns = strings(&node["attlist"]);
            if columns.is_empty() {
                self.whole_of.extend(target);
            }
            self.written.extend(
                target
                    .into_iter()
                    .flat_map(|at| columns.clone().into_iter().map(move |c| (at, c))),
            );
        }
        self.walk(&node["where_clause"], &[]);
        self.walk(&node["query"], &[]);
    }

    fn column(&mut self, node: &Value, from: &[usize]) {
        let word = |item: &Value| item["node"]["String"]["sval"].as_str().map(str::to_owned);
        let fields = node["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let words: Vec<Option<String>> = fields.iter().map(word).collect();
        match words.as_slice() {
            [None] => self.whole_of.extend(from),
            [table @ .., None] => self.whole.push(table.iter().flatten().cloned().collect()),
            words => self.columns.push(words.iter().flatten().cloned().collect()),
        }
    }
}

fn strings(list: &Value) -> Vec<String> {
    let word = |item: &Value| item["node"]["String"]["sval"].as_str().map(str::to_owned);
    list.as_array().into_iter().flatten().filter_map(word).collect()
}

/// Names of the columns that are set.
fn targets(list: &Value) -> Vec<String> {
    let name = |item: &Value| item["node"]["ResTarget"]["name"].as_str().map(str::to_owned);
    list.as_array().into_iter().flatten().filter_map(name).collect()
}
