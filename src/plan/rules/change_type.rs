//! ALTER COLUMN … TYPE.

use super::{Found, Rule, Subject, Table, names, rename_column, tree};
use crate::plan::lock::LockMode;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ColumnDef, Node, TypeName};

pub(super) const RULE: Rule = Rule {
    name: "change-type",
    lock: LockMode::AccessExclusive,
    what: "ALTER COLUMN … TYPE that rewrites or scans a table that is not small, or rebuilds one of its indexes.",
    why: "The table is written anew, or its index, under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18",
    safe: "Expand and contract: a new column of the new type, a trigger, a backfill, the deployment, then the old column's end. Widening a varchar, varchar to text and the like are instant and pass.",
    bad: &[
        "ALTER TABLE users ALTER COLUMN age TYPE bigint",
        "ALTER TABLE users ALTER COLUMN name TYPE varchar(5)",
    ],
    good: &[
        "ALTER TABLE users ALTER COLUMN label TYPE varchar(20)",
        "ALTER TABLE users ALTER COLUMN label TYPE text",
        "ALTER TABLE small ALTER COLUMN a TYPE bigint",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let action = subject.action_of(AlterTableType::AtAlterColumnType)?;
    let NodeEnum::ColumnDef(definition) = action.command.def.as_ref()?.node.as_ref()? else {
        return None;
    };
    let table = subject.large(&subject.altered()?)?;
    let name = &action.command.name;
    if table.known.is_some_and(|r| r.column(name).is_none()) {
        return None;
    }
    let cost = cost(subject, &table, name, definition)?;
    let message = format!(
        "changing the type of {name} {cost} of {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    let new = names::object(name, "new", "");
    let new_type = written(&action, definition).unwrap_or_else(|| "<the new type>".to_string());
    let hint = rename_column::steps(&table, name, &new, &new_type);
    Some(Found::advice(
        message,
        "add a column of the new type, keep both in step, deploy, then drop the old one",
        hint,
    ))
}

/// The new type as the client wrote it.
fn written(action: &super::Action, definition: &ColumnDef) -> Option<String> {
    let text = format!("{} {}", action.head, action.text);
    let command = super::column::parse_action(&text)?;
    let NodeEnum::ColumnDef(again) = command.def?.node? else {
        return None;
    };
    let start = usize::try_from(again.type_name.as_ref()?.location).ok()?;
    let plain = definition.raw_default.is_none() && definition.coll_clause.is_none();
    plain.then(|| text.get(start..).map(|t| t.trim().to_string()))?
}

/// What it costs; None if it is instant.
fn cost(subject: &Subject, table: &Table, name: &str, definition: &ColumnDef) -> Option<&'static str> {
    const REWRITE: Option<&str> = Some("rewrites all rows and indexes");
    let Some(relation) = table.known else {
        return REWRITE;
    };
    let Some(old) = relation.column(name).and_then(|c| Type::parse(&c.type_name)) else {
        return REWRITE;
    };
    let Some(new) = definition.type_name.as_ref().and_then(Type::of) else {
        return REWRITE;
    };
    if definition.raw_default.is_some() || !fits(&old, &new, subject) {
        return REWRITE;
    }
    let own_index = |i: &crate::plan::facts::Index| {
        i.mentions.iter().any(|m| m == name) || i.columns.iter().flatten().any(|c| c == name)
    };
    let mut indexes = relation.indexes.iter().filter(|i| own_index(i));
    // Expressions and predicates hide their types, and so are built anew; so is any index if the operators change.
    let rebuilt =
        |i: &crate::plan::facts::Index| i.partial || i.columns.iter().any(Option::is_none) || i.method != "btree";
    let operators = definition.coll_clause.is_some() || old.family() != new.family();
    if indexes.any(|i| operators || rebuilt(i)) {
        return Some("rebuilds an index");
    }
    if relation
        .constraints
        .iter()
        .any(|c| c.kind == 'c' && c.columns.iter().any(|k| k == name))
    {
        return Some("scans all rows for a CHECK constraint");
    }
    None
}

/// As the grammar names it: `int4`, `varchar` with 10.
#[derive(PartialEq, Debug)]
struct Type {
    schema: Option<String>,
    name: String,
    modifiers: Vec<i32>,
    array: bool,
}

impl Type {
    fn parse(printed: &str) -> Option<Type> {
        let parsed = pg_query::parse(&format!("SELECT NULL::{printed}"), pg_query::ParserOptions::DEFAULT)
            .ok()?
            .protobuf
            .stmts;
        let NodeEnum::SelectStmt(select) = parsed.into_iter().next()?.stmt?.node? else {
            return None;
        };
        let NodeEnum::ResTarget(target) = select.target_list.into_iter().next()?.node? else {
            return None;
        };
        match target.val?.node? {
            NodeEnum::TypeCast(cast) => Type::of(cast.type_name.as_ref()?),
            _ => None,
        }
    }

    fn of(type_name: &TypeName) -> Option<Type> {
        let mut parts = tree::names(&type_name.names);
        let name = parts.pop()?;
        let modifier = |node: &Node| match &node.node {
            Some(NodeEnum::AConst(c)) => match c.val {
                Some(pg_query::protobuf::a_const::Val::Ival(ref i)) => Some(i.ival),
                _ => None,
            },
            _ => None,
        };
        // Interval fields and the like come as modifiers that are no plain numbers, or as -1.
        let modifiers: Option<Vec<i32>> = type_name.typmods.iter().map(modifier).collect();
        if type_name.setof || type_name.pct_type {
            return None;
        }
        Some(Type {
            schema: parts.pop().filter(|s| s != "pg_catalog"),
            name,
            modifiers: modifiers?,
            array: !type_name.array_bounds.is_empty(),
        })
    }

    /// Types that share their operators, so that an index is kept.
    fn family(&self) -> &str {
        match self.name.as_str() {
            "varchar" | "text" => "text",
            "cidr" | "inet" => "inet",
            other => other,
        }
    }
}

/// Whether every stored value is a value of the new type as it is: measured on servers 12 to 18, and nothing else is believed.
fn fits(old: &Type, new: &Type, subject: &Subject) -> bool {
    if old.schema.is_some() || new.schema.is_some() {
        return old == new;
    }
    if old.array || new.array {
        return old == new
            || (old.array && new.array && old.name == "varchar" && new.name == "varchar" && new.modifiers.is_empty());
    }
    // Without a length the new type takes everything; with one it has to be as long.
    let wider = match (old.modifiers.as_slice(), new.modifiers.as_slice()) {
        (_, []) => true,
        ([old], [new]) => new >= old,
        _ => false,
    };
    match (old.name.as_str(), new.name.as_str()) {
        _ if old == new => true,
        ("varchar", "varchar")
        | ("varbit", "varbit")
        | ("timestamp", "timestamp")
        | ("timestamptz", "timestamptz")
        | ("time", "time")
        | ("timetz", "timetz") => wider,
        ("numeric", "numeric") => match (old.modifiers.as_slice(), new.modifiers.as_slice()) {
            (_, []) => true,
            ([p, rest @ ..], [wide, wide_rest @ ..]) => {
                wide >= p && rest.first().copied().unwrap_or(0) == wide_rest.first().copied().unwrap_or(0)
            }
            ([], _) => false,
        },
        ("varchar", "text") | ("cidr", "inet") | ("xml", "text") => new.modifiers.is_empty(),
        ("text", "varchar") => new.modifiers.is_empty(),
        ("int4", "oid") | ("oid", "int4") => true,
        ("timestamp", "timestamptz") | ("timestamptz", "timestamp") => {
            old.modifiers == new.modifiers && matches!(subject.facts.time_zone.as_str(), "UTC" | "Etc/UTC")
        }
        _ => false,
    }
}
