//! ALTER COLUMN … TYPE.

use super::rule::{Found, Rule};
use super::{rename_column, taken};
use crate::catalog::Name;
use crate::depends::Part;
use crate::grammar::parse;
use crate::lock::LockMode;
use crate::remedies::replace_column::expand::Change;
use crate::remedies::{add_column, names, replace_column, rewrite_table};
use crate::step::Step;
use crate::subject::{Subject, Table};
use crate::trial::Effect;
use crate::{splice, tree};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ColumnDef, DropBehavior, Node, Token, TypeName};

pub(super) const RULE: Rule = Rule {
    name: "change-type",
    lock: LockMode::AccessExclusive,
    what: "ALTER COLUMN … TYPE that rewrites or scans a table that is not small, or rebuilds one of its indexes; ALTER TYPE … ALTER ATTRIBUTE … CASCADE.",
    why: "The table is written anew, or its index, under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18",
    safe: "Expand and contract: a new column of the new type, a trigger, a backfill, a swap of the names, then the old column's end; `rewrite` in the policy has all but the last done, and where a second column cannot take the place of the first (a key with foreign keys on it) has the table rewritten by copy and swap. Widening a varchar, varchar to text and the like are instant and pass.",
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
    if subject.alters_type() {
        return of_typed_tables(subject);
    }
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
    let written = written(&action);
    let new = names::object(name, "new", "");
    let type_sql = written.as_ref().map_or("…", |w| w.type_sql.as_str());
    let using = written.as_ref().and_then(|w| w.using.as_deref());
    let advice = rename_column::steps(&table, name, &new, type_sql, using);
    let short = "add a column of the new type, keep both in step, deploy, then drop the old one";
    // A second column keeps the table; where it cannot be, the whole table is written anew.
    let own = match steps(subject, &table, name, definition, written.as_ref()) {
        Ok(steps) => Ok(steps),
        Err(why) => {
            let rewrite = rewrite_table::of_action(subject, &table, RULE.name);
            match rewrite_table::instead_of("A second column cannot take the first one's place", &why, rewrite) {
                Ok(steps) => return Some(rewrite_table::found(message, short, advice, Ok(steps))),
                Err(why) => Err(why),
            }
        }
    };
    Some(replace_column::found(RULE.name, message, short, advice, own))
}

/// ALTER TYPE … ALTER ATTRIBUTE … CASCADE: the tables that are made of the type are rewritten.
fn of_typed_tables(subject: &Subject) -> Option<Found> {
    let cascades = subject.action?.command.behavior() == DropBehavior::DropCascade;
    let typed: Vec<&Part> = subject.asked().map_or(Vec::new(), |asked| asked.touched().collect());
    let large: Vec<&Part> = typed
        .into_iter()
        .filter(|part| !taken::is_small(subject, part))
        .collect();
    let listed = match large.as_slice() {
        _ if !cascades => return None,
        [] if subject.facts.offline => "every table that is made of the type".to_string(),
        [] => return None,
        large => taken::listed(large, |part| taken::described(part)),
    };
    Some(Found::advice(
        format!(
            "changing the type of an attribute rewrites {listed} under ACCESS EXCLUSIVE, which blocks reads and writes"
        ),
        "take the tables off the type first, and change their columns one by one",
        "ALTER TABLE … NOT OF;  -- each table; then its column by expand and contract, as of any other table"
            .to_string(),
    ))
}

fn steps(
    subject: &Subject,
    table: &Table,
    name: &str,
    definition: &ColumnDef,
    written: Option<&Written>,
) -> Result<Vec<Step>, String> {
    let written = written.ok_or("its text could not be taken apart with certainty")?;
    let given = definition.type_name.as_ref().map(|t| tree::names(&t.names));
    let last = given.iter().flatten().last().cloned().unwrap_or_default();
    if subject.statement.all_actions().count > 1 {
        return Err("it is one of several actions: give it an ALTER TABLE of its own".to_string());
    }
    if subject
        .facts
        .types
        .iter()
        .any(|t| t.kind == 'd' && t.asked.name == last)
    {
        return Err("a column of a domain cannot be added without a look at all rows".to_string());
    }
    if last.contains("serial") {
        return Err("serial is no type".to_string());
    }
    let change = Change::Type {
        type_sql: &written.type_sql,
        using: written.using.as_deref(),
    };
    replace_column::sequence(subject, table, name, change)
}

/// As the client wrote it.
struct Written {
    /// With COLLATE.
    type_sql: String,
    /// Without the word.
    using: Option<String>,
}

fn written(action: &crate::subject::Action) -> Option<Written> {
    let text = format!("{} {}", action.head, action.text);
    let command = crate::remedies::steps::parse_action(&text)?;
    let NodeEnum::ColumnDef(again) = command.def?.node? else {
        return None;
    };
    let start = usize::try_from(again.type_name.as_ref()?.location).ok()?;
    let rest = text.get(start..)?;
    let tokens = splice::significant_tokens(rest)?;
    // Neither word can be part of a type; COLLATE may be part of the expression.
    let using = tokens.iter().position(|t| t.token() == Token::Using);
    let at = |n: usize| tokens.get(n).and_then(|t| usize::try_from(t.start).ok());
    let type_end = using.map_or(Some(rest.len()), at)?;
    let expression = match using {
        Some(using) => Some(add_column::tidy(rest.get(at(using + 1)?..)?)?),
        None => None,
    };
    Some(Written {
        type_sql: add_column::tidy(rest.get(..type_end)?)?,
        using: expression,
    })
}

/// What it costs; None if it is instant.
fn cost(subject: &Subject, table: &Table, name: &str, definition: &ColumnDef) -> Option<&'static str> {
    match subject.effect() {
        Some(Effect::Rewrites) => REWRITE,
        Some(Effect::RebuildsIndex) => REBUILD,
        Some(Effect::Scans) => SCAN,
        // A copy has no foreign keys.
        Some(Effect::Instant) if compared_otherwise(table, name, definition) => {
            Some("checks the rows of a foreign key anew")
        }
        Some(Effect::Instant) => None,
        None => cost_of_old(subject, table, name, definition),
    }
}

const REWRITE: Option<&str> = Some("rewrites all rows and indexes");
/// Without a server the present type may not be known.
const UNKNOWN: Option<&str> = Some("may rewrite all rows and indexes");
const REBUILD: Option<&str> = Some("rebuilds an index");
const SCAN: Option<&str> = Some("scans all rows for a CHECK constraint");

/// A foreign key, on whichever side, that may be compared by another operator than before.
fn compared_otherwise(table: &Table, name: &str, definition: &ColumnDef) -> bool {
    let Some(relation) = table.known else { return true };
    let own = |c: &crate::catalog::Constraint| c.kind == 'f' && c.columns.iter().any(|k| k == name);
    let referenced = |u: &crate::catalog::ColumnUser| u.column == name && u.what.starts_with("the constraint ");
    if !relation.constraints.iter().any(own) && !relation.column_users.iter().any(referenced) {
        return false;
    }
    let stored = |c: &crate::catalog::Column| Type::parse(c.base_type.as_ref().unwrap_or(&c.type_name));
    let old = relation.column(name).and_then(stored);
    let new = definition.type_name.as_ref().and_then(Type::of);
    !matches!((old, new), (Some(old), Some(new)) if old.schema.is_none() && new.schema.is_none() && old.family() == new.family())
}

/// The same by what is known of old, where the server could not be asked.
fn cost_of_old(subject: &Subject, table: &Table, name: &str, definition: &ColumnDef) -> Option<&'static str> {
    let Some(relation) = table.known else {
        return UNKNOWN;
    };
    let stored = |c: &crate::catalog::Column| Type::parse(c.base_type.as_ref().unwrap_or(&c.type_name));
    let Some(old) = relation.column(name).and_then(stored) else {
        return if subject.facts.offline { UNKNOWN } else { REWRITE };
    };
    let Some(new) = definition.type_name.as_ref().and_then(Type::of) else {
        return REWRITE;
    };
    let Some(new) = below(subject, new) else {
        return REWRITE;
    };
    let same_values = definition
        .raw_default
        .as_deref()
        .is_none_or(|using| is_plain(using, name, definition));
    if !same_values || new.constrained || !fits(&old, &new.stored, subject) {
        return REWRITE;
    }
    let new = new.stored;
    let own_index = |i: &&crate::catalog::Index| {
        i.mentions.iter().any(|m| m == name) || i.columns.iter().flatten().any(|c| c == name)
    };
    let with_children = || std::iter::once(relation).chain(subject.facts.descendants(relation));
    // Expressions and predicates hide their types, and so are built anew; so is any index if the operators change.
    let rebuilt = |i: &crate::catalog::Index| i.partial || i.columns.iter().any(Option::is_none) || i.method != "btree";
    let operators = definition.coll_clause.is_some() || old.family() != new.family();
    if with_children()
        .flat_map(|r| &r.indexes)
        .filter(own_index)
        .any(|i| operators || rebuilt(i))
    {
        return REBUILD;
    }
    // One that is NOT VALID is made anew as it was.
    let mentions = |c: &crate::catalog::Constraint| c.kind == 'c' && c.validated && c.columns.iter().any(|k| k == name);
    if with_children().flat_map(|r| &r.constraints).any(mentions) {
        return SCAN;
    }
    None
}

/// USING that says no more than the type does: `c`, `c::type`.
fn is_plain(using: &Node, name: &str, definition: &ColumnDef) -> bool {
    match &using.node {
        Some(NodeEnum::ColumnRef(column)) => tree::names(&column.fields).last().is_some_and(|last| last == name),
        Some(NodeEnum::TypeCast(cast)) => {
            let (wanted, given) = (
                definition.type_name.as_ref().and_then(Type::of),
                cast.type_name.as_ref().and_then(Type::of),
            );
            let inner = cast.arg.as_deref();
            wanted.is_some() && wanted == given && inner.is_some_and(|inner| is_plain(inner, name, definition))
        }
        _ => false,
    }
}

/// A type as it is stored, without the domains over it.
struct Below {
    stored: Type,
    constrained: bool,
}

/// None for a domain whose base is not known.
fn below(subject: &Subject, given: Type) -> Option<Below> {
    let asked = Name {
        schema: given.schema.clone(),
        name: given.name.clone(),
    };
    match subject.facts.types.iter().find(|t| t.asked == asked && t.kind == 'd') {
        None => Some(Below {
            stored: given,
            constrained: false,
        }),
        Some(_) if given.array => Some(Below {
            stored: given,
            constrained: true,
        }),
        Some(domain) => Some(Below {
            stored: Type::parse(domain.base.as_deref()?)?,
            constrained: domain.constrained,
        }),
    }
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
        let parsed = parse(&format!("SELECT NULL::{printed}")).ok()?.stmts;
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

/// Zones in which a timestamp and a timestamptz are the same number.
const ALWAYS_UTC: &[&str] = &[
    "UTC",
    "Etc/UTC",
    "GMT",
    "Etc/GMT",
    "UCT",
    "Etc/UCT",
    "Zulu",
    "Etc/Zulu",
    "Universal",
    "Etc/Universal",
    "Greenwich",
];

/// The modifiers are the fields (0x7FFF: all) and the precision, both or none.
fn wider_interval(old: &[i32], new: &[i32]) -> bool {
    match (old, new) {
        (_, []) => true,
        ([old_fields, old_precision], [new_fields, new_precision]) => {
            old_fields == new_fields && new_precision >= old_precision
        }
        _ => false,
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
        ("interval", "interval") => wider_interval(&old.modifiers, &new.modifiers),
        // A bpchar without a length keeps all blanks, as does what it comes from.
        ("varchar", "bpchar") => new.modifiers.is_empty(),
        ("numeric", "numeric") => match (old.modifiers.as_slice(), new.modifiers.as_slice()) {
            (_, []) => true,
            ([p, rest @ ..], [wide, wide_rest @ ..]) => {
                wide >= p && rest.first().copied().unwrap_or(0) == wide_rest.first().copied().unwrap_or(0)
            }
            ([], _) => false,
        },
        ("varchar", "text") | ("cidr", "inet") | ("xml", "text") => new.modifiers.is_empty(),
        ("text", "varchar") => new.modifiers.is_empty(),
        ("int4", "oid" | "regclass") | ("oid" | "regclass", "int4") | ("oid", "regclass") | ("regclass", "oid") => true,
        ("timestamp", "timestamptz") | ("timestamptz", "timestamp") => {
            old.modifiers == new.modifiers && ALWAYS_UTC.contains(&subject.facts.time_zone.as_str())
        }
        _ => false,
    }
}
