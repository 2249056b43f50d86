//! Whether an UPDATE or DELETE may be split without changing any row differently than in one statement, and whether it could
//! be repeated without harm. What is not known to be harmless is refused, with the reason.

use super::text::Tree;
use crate::catalog::{Function, Name, Relation};
use crate::facts::Facts;
use crate::mentions::Mentions;
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{BoolExprType, Node, NullTestType};

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
        'r' | 'p' => {}
        'v' | 'm' => return Err(format!("{name} is a view: name the table behind it")),
        'f' => {
            return Err(format!(
                "{name} is a foreign table: run the {verb} on the server where it lives"
            ));
        }
        other => return Err(format!("{name} is no ordinary table (relkind {other})")),
    }
    let rule = relation.rules.iter().find(|rule| match verb {
        "UPDATE" => rule.on_update,
        _ => rule.on_delete,
    });
    if let Some(rule) = rule {
        return Err(format!(
            "the rule {} of {name} (CREATE RULE) rewrites each {verb}, and PostgreSQL takes no rule within a WITH, which batches are",
            rule.name
        ));
    }
    let fires = |t: &&crate::catalog::Trigger| if verb == "UPDATE" { t.on_update } else { t.on_delete };
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
pub fn statement(
    statement: &Statement,
    relation: &Relation,
    facts: &Facts,
    key: &[(String, String)],
) -> Result<(), String> {
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
    whole(&Mentions::of(&statement.node), relation, facts)?;
    let condition = tree.condition.map(Mentions::within).unwrap_or_default();
    if let Some(function) = unsteady(&condition, facts) {
        return Err(format!(
            "the WHERE clause calls {function}(), which may give another answer for each batch"
        ));
    }
    for (place, part) in tree.sources() {
        let part = Mentions::within(part);
        if let Some(function) = unsteady(&part, facts) {
            return Err(format!(
                "{place} calls {function}(), which may give another answer for each batch"
            ));
        }
    }
    for (column, value) in assignments(tree.targets.unwrap_or_default()).ok_or("the SET list could not be read")? {
        if key.iter().any(|(name, _)| name == column) {
            return Err(format!(
                "it changes {column}, by which the batches walk through the table"
            ));
        }
        // A row is given its value once; but a function of one's own could read the table itself.
        if let Some(function) = value.functions.iter().find(|f| !is_known(f, facts)) {
            return Err(format!(
                "the new value of {column} calls {}(), which is neither PostgreSQL's own nor IMMUTABLE: it could read the rows that \
                 earlier batches changed",
                function.name
            ));
        }
    }
    Ok(())
}

/// What no part of the statement may hold.
fn whole(mentions: &Mentions, relation: &Relation, facts: &Facts) -> Result<(), String> {
    let name = &relation.name;
    let version_column = mentions
        .columns
        .iter()
        .filter_map(|c| c.last())
        .find(|c| VERSION_COLUMNS.contains(&c.as_str()));
    if mentions.unreadable {
        return Err("it could not be read".into());
    } else if mentions.window {
        return Err("it holds a window function, which needs all rows at once".into());
    } else if mentions.current_of {
        return Err("WHERE CURRENT OF names the row of a cursor".into());
    } else if mentions.writes {
        return Err("a part of it writes too, which every batch would do again".into());
    } else if mentions.picks {
        return Err(
            "a query within it has a LIMIT, OFFSET, TABLESAMPLE or FOR UPDATE, by which each batch would pick other rows".into(),
        );
    } else if let Some(column) = version_column {
        return Err(format!("it uses {column}, which changes whenever the row does"));
    }
    for asked in &mentions.relations {
        let is_cte = asked.schema.is_none() && mentions.ctes.contains(&asked.name);
        match facts.relation(asked) {
            Some(other) if other.oid == relation.oid || other.tree.iter().any(|oid| relation.tree.contains(oid)) => {
                return Err(format!(
                    "it reads {name} itself (as {}), where it would see the rows that earlier batches changed",
                    asked.name
                ));
            }
            Some(other) if matches!(other.kind, 'r' | 'p' | 'm' | 'f') => {}
            Some(other) if other.kind == 'v' => {
                return Err(format!(
                    "it reads the view {}, which may read {name} itself",
                    other.name
                ));
            }
            None if is_cte => {}
            _ => return Err(format!("it reads {}, of which nothing is known", asked.name)),
        }
    }
    Ok(())
}

/// A function that may answer differently in each batch.
fn unsteady<'a>(mentions: &'a Mentions, facts: &Facts) -> Option<&'a str> {
    let steady = |name: &&Name| match function(name, facts) {
        Some(known) => known.immutable || (known.built_in && !known.volatile && is_known(name, facts)),
        None => false,
    };
    let found = mentions.functions.iter().find(|name| !steady(name));
    found.map(|name| name.name.as_str())
}

/// PostgreSQL's own, or IMMUTABLE: it reads no table. (Those that turn tables and queries into XML do, and those that take a query as text.)
fn is_known(name: &Name, facts: &Facts) -> bool {
    let known = function(name, facts).is_some_and(|f| f.immutable || f.built_in);
    known && !name.name.contains("_to_xml") && !["ts_stat", "ts_rewrite"].contains(&name.name.as_str())
}

fn function<'a>(name: &Name, facts: &'a Facts) -> Option<&'a Function> {
    facts.functions.iter().find(|known| known.asked == *name)
}

/// Sent again after a crash in the middle, the statement leaves the rows alone that are done, or does the same to them again;
/// and a row that is inserted meanwhile may be changed or not.
pub fn repeatable(statement: &Statement, relation: &Relation, facts: &Facts) -> Result<(), String> {
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be repeated")?;
    let Some(targets) = tree.targets else { return Ok(()) };
    if done_rows_are_excluded(&tree) {
        return Ok(());
    }
    steady_values(&tree, relation)?;
    let targets = assignments(targets).ok_or("the SET list could not be read")?;
    for (column, value) in &targets {
        let unsteady = value
            .functions
            .iter()
            .find(|name| function(name, facts).is_none_or(|f| f.volatile));
        if let Some(function) = unsteady {
            return Err(format!(
                "{}(), the new value of {column}, may give another answer each time",
                function.name
            ));
        } else if value.default && volatile_default(relation, column) {
            return Err(format!("the default of {column} may give another value each time"));
        }
    }
    Ok(())
}

/// No new value is made of one that the statement changes: done twice, it is the same as done once, later.
pub fn steady_values(tree: &Tree, relation: &Relation) -> Result<(), String> {
    let targets = assignments(tree.targets.unwrap_or_default()).ok_or("the SET list could not be read")?;
    for (column, value) in &targets {
        let reads = targets.iter().find(|(name, _)| reads(value, name, tree, relation));
        if let Some((name, _)) = reads {
            return Err(format!(
                "the new value of {column} depends on {name}, which it changes too"
            ));
        }
    }
    Ok(())
}

/// Reads the column, itself, within the whole row, or perhaps by a column that is computed.
pub fn reads(value: &Mentions, column: &str, tree: &Tree, relation: &Relation) -> bool {
    value.columns.iter().any(|words| {
        let whole_row = words.len() == 1 && words[0] == tree.qualifier() && relation.column(&words[0]).is_none();
        let is_computed = |name: &String| relation.column(name).is_some_and(|c| !c.generated.trim().is_empty());
        let last = words.last();
        last.is_some_and(|last| last == column || last == "*" || is_computed(last)) || whole_row
    })
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

pub fn assignments(targets: &[Node]) -> Option<Vec<(&str, Mentions)>> {
    let one = |target: &'_ Node| match target.node.as_ref() {
        Some(NodeEnum::ResTarget(t)) => Some(t.val.as_deref().map(Mentions::within).unwrap_or_default()),
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
