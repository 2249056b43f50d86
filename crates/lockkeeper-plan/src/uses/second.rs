//! The second reader: sqlparser, which shares nothing with the server's grammar.

use super::touched::{Found, Uses};
use serde_json::Value;
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::ops::{Deref, DerefMut};

/// None: sqlparser does not take it, or takes it for something that is no query.
pub(super) fn read(text: &str) -> Option<Uses> {
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(100)
        .try_with_sql(text)
        .ok()?
        .parse_statements()
        .ok()?;
    if statements.iter().any(tells_nothing) {
        return None;
    }
    let mut walker = Walker::default();
    for statement in statements.iter().filter(|statement| is_query(statement)) {
        walker.walk(&serde_json::to_value(statement).ok()?, &[]);
    }
    Some(walker.0.uses())
}

/// What was prepared by SQL, or what code does.
fn tells_nothing(statement: &Statement) -> bool {
    matches!(statement, Statement::Execute { .. } | Statement::Call(_))
}

fn is_query(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update { .. }
            | Statement::Delete(_)
            | Statement::Merge { .. }
            | Statement::Copy { .. }
            | Statement::Declare { .. }
            | Statement::Prepare { .. }
            | Statement::Explain { .. }
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
    fn walk(&mut self, tree: &Value, from: &[usize]) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, from)),
            Value::Object(fields) => {
                if fields.contains_key("body") {
                    self.query(tree, from);
                    return;
                }
                for (kind, node) in fields {
                    self.node(kind, node, from);
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, kind: &str, node: &Value, from: &[usize]) {
        match kind {
            "Select" => self.select(node),
            "Insert" if !node["table"].is_null() => self.insert(node),
            "Update" if !node["table"].is_null() => self.update(node),
            "Delete" if !node["from"].is_null() => self.delete(node),
            "Merge" => self.merge(node),
            "Copy" => self.copy(node),
            "Table" if node["name"].is_array() => drop(self.factor(node, false)),
            // A row source with arguments is a function.
            "Function" | "TableFunction" => {
                for (key, inner) in node.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
                    self.node(key, inner, from);
                }
            }
            "Identifier" => self
                .columns
                .extend(word(node).filter(|_| !is_default(node)).map(|word| vec![word])),
            "CompoundIdentifier" => {
                let words: Vec<String> = node.as_array().into_iter().flatten().filter_map(word).collect();
                self.columns.push(words);
            }
            "Wildcard" => self.whole_of.extend(from),
            "QualifiedWildcard" => self.whole.push(words(&node[0]["ObjectName"])),
            "Using" if node.is_array() => {
                let columns = node.as_array().into_iter().flatten().map(words);
                self.columns.extend(columns);
            }
            // Names that are no columns.
            "data_type" | "collation" | "alias" | "lock" | "locks" | "named_window" => {}
            _ => self.walk(node, from),
        }
    }

    /// Its WITH, then the rest of it.
    fn query(&mut self, node: &Value, from: &[usize]) {
        let ctes = self.ctes.len();
        let with = &node["with"];
        let all: Vec<&Value> = with["cte_tables"].as_array().into_iter().flatten().collect();
        let name = |cte: &Value| word(&cte["alias"]["name"]);
        if with["recursive"] == true {
            self.ctes.extend(all.iter().filter_map(|cte| name(cte)));
        }
        for cte in all {
            self.walk(&cte["query"], &[]);
            self.ctes.extend(name(cte));
        }
        for (key, inner) in node.as_object().into_iter().flatten().filter(|(key, _)| *key != "with") {
            self.node(key, inner, from);
        }
        self.ctes.truncate(ctes);
    }

    fn select(&mut self, node: &Value) {
        self.level += 1;
        let since = self.named.len();
        self.walk(&node["from"], &[]);
        let own = self.own(since);
        if has_natural(&node["from"]) {
            self.whole_of.extend(&own);
        }
        for (key, inner) in node.as_object().into_iter().flatten().filter(|(key, _)| *key != "from") {
            self.node(key, inner, &own);
        }
        self.level -= 1;
    }

    fn factor(&mut self, node: &Value, written: bool) -> Option<usize> {
        let alias = word(&node["alias"]["name"]);
        if !node["args"].is_null() {
            self.walk(&node["args"], &[]);
            return None;
        }
        let at = self.table(words(&node["name"]), alias, written);
        if node["alias"]["columns"]
            .as_array()
            .is_some_and(|columns| !columns.is_empty())
        {
            self.whole_of.extend(at);
        }
        at
    }

    fn insert(&mut self, node: &Value) {
        self.level += 1;
        let alias = match &node["table_alias"]["alias"] {
            Value::Null => word(&node["table_alias"]),
            alias => word(alias),
        };
        let target = self.table(words(&node["table"]["TableName"]), alias, true);
        let own: Vec<usize> = target.into_iter().collect();
        let columns: Vec<String> = names(&node["columns"]);
        if columns.is_empty() && !node["source"].is_null() {
            self.whole_of.extend(target);
        }
        self.writes(target, columns);
        let conflict = &node["on"]["OnConflict"];
        self.writes(target, names(&conflict["conflict_target"]["Columns"]));
        self.assignments(target, &conflict["action"]["DoUpdate"]["assignments"]);
        self.walk(&conflict["action"]["DoUpdate"]["selection"], &own);
        self.walk(&node["source"], &[]);
        self.walk(&node["returning"], &own);
        self.level -= 1;
    }

    fn update(&mut self, node: &Value) {
        self.level += 1;
        let since = self.named.len();
        let target = self.factor(&node["table"]["relation"]["Table"], true);
        self.walk(&node["table"]["joins"], &[]);
        self.walk(&node["from"], &[]);
        let own = self.own(since);
        self.assignments(target, &node["assignments"]);
        self.walk(&node["selection"], &own);
        self.walk(&node["returning"], &own);
        self.level -= 1;
    }

    fn delete(&mut self, node: &Value) {
        self.level += 1;
        let since = self.named.len();
        self.walk(&node["from"], &[]);
        if let Some(target) = self.named.get_mut(since) {
            target.written = true;
        }
        self.walk(&node["using"], &[]);
        let own = self.own(since);
        self.walk(&node["selection"], &own);
        self.walk(&node["returning"], &own);
        self.level -= 1;
    }

    fn merge(&mut self, node: &Value) {
        self.level += 1;
        let since = self.named.len();
        let target = self.factor(&node["table"]["Table"], true);
        self.walk(&node["source"], &[]);
        let own = self.own(since);
        self.walk(&node["on"], &own);
        for clause in node["clauses"].as_array().into_iter().flatten() {
            self.walk(&clause["predicate"], &own);
            let (update, insert) = (&clause["action"]["Update"], &clause["action"]["Insert"]);
            self.assignments(target, &update["kind"]["Set"]);
            if !insert.is_null() {
                let columns = names(&insert["columns"]);
                if columns.is_empty() {
                    self.whole_of.extend(target);
                }
                self.writes(target, columns);
                self.walk(&insert["kind"], &own);
            }
        }
        self.walk(&node["output"], &own);
        self.level -= 1;
    }

    fn copy(&mut self, node: &Value) {
        let table = &node["source"]["Table"];
        if table.is_null() {
            return self.walk(&node["source"], &[]);
        }
        let target = self.table(words(&table["table_name"]), None, node["to"] == false);
        let columns = names(&table["columns"]);
        if columns.is_empty() {
            self.whole_of.extend(target);
        }
        self.writes(target, columns);
    }

    fn assignments(&mut self, target: Option<usize>, list: &Value) {
        for assignment in list.as_array().into_iter().flatten() {
            let to = &assignment["target"];
            let tuple = to["Tuple"].as_array().into_iter().flatten();
            let columns = tuple.chain([&to["ColumnName"]]).filter_map(|name| words(name).pop());
            let columns: Vec<String> = columns.collect();
            self.writes(target, columns);
            self.walk(&assignment["value"], &[]);
        }
    }

    fn writes(&mut self, target: Option<usize>, columns: Vec<String>) {
        let target = target.into_iter();
        self.written
            .extend(target.flat_map(|at| columns.iter().map(move |column| (at, column.clone()))));
    }
}

fn has_natural(from: &Value) -> bool {
    let tables = from.as_array().into_iter().flatten();
    let mut joins = tables.flat_map(|table| table["joins"].as_array().into_iter().flatten());
    joins.any(|join| {
        let operators = join["join_operator"].as_object().into_iter().flatten();
        operators.into_iter().any(|(_, with)| with == "Natural")
    })
}

/// An identifier as the server has it: in lower case, unless it is quoted.
fn word(ident: &Value) -> Option<String> {
    let text = ident["value"].as_str()?;
    Some(match ident["quote_style"].is_null() {
        true => text.to_lowercase(),
        false => text.to_owned(),
    })
}

/// DEFAULT among the values of a row is read as a name.
fn is_default(ident: &Value) -> bool {
    ident["quote_style"].is_null()
        && ident["value"]
            .as_str()
            .is_some_and(|word| word.eq_ignore_ascii_case("default"))
}

/// The words of a qualified name.
fn words(name: &Value) -> Vec<String> {
    let part = |part: &Value| word(&part["Identifier"]).or_else(|| word(part));
    name.as_array().into_iter().flatten().filter_map(part).collect()
}

/// A list of names, each qualified or not.
fn names(list: &Value) -> Vec<String> {
    let name = |name: &Value| word(name).or_else(|| words(name).pop());
    list.as_array().into_iter().flatten().filter_map(name).collect()
}
