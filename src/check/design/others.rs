//! Names that are cut, triggers and constraints that do not work, and functions that run with another's rights.

use super::own::{Own, told};
use crate::check::known::Known;
use crate::check::spot::Spot;
use crate::check::verdict::Found;
use crate::plan::Place;
use crate::plan::catalog::Name;
use crate::plan::facts::Facts;
use crate::plan::splice::qualified;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ConstrType, Constraint, CreateFunctionStmt, Node};

pub const LONG_NAME: Own = Own {
    name: "long-identifier",
    verdict: "warn",
    what: "A name of more than 63 bytes.",
    why: "The server cuts it, so that two long names can become the same.",
    safe: "A shorter name.",
    bad: &["CREATE INDEX CONCURRENTLY a_very_long_name_for_an_index_on_a_table_that_has_a_very_long_name_too ON t (a)"],
    good: &["CREATE INDEX CONCURRENTLY short ON t (a)"],
};
pub const TRIGGERS_OFF: Own = Own {
    name: "disable-trigger-all",
    verdict: "warn",
    what: "ALTER TABLE … DISABLE TRIGGER ALL.",
    why: "Foreign keys are not checked either, and nothing checks the rows later.",
    safe: "DISABLE TRIGGER USER, or one trigger by its name.",
    bad: &["ALTER TABLE t DISABLE TRIGGER ALL"],
    good: &["ALTER TABLE t DISABLE TRIGGER USER"],
};
pub const NOT_ENFORCED: Own = Own {
    name: "not-enforced",
    verdict: "warn",
    what: "A constraint that is NOT ENFORCED.",
    why: "Rows that break it come in, and ENFORCED cannot be had later without a scan under a lock.",
    safe: "NOT VALID, then VALIDATE CONSTRAINT.",
    bad: &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT ENFORCED"],
    good: &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID"],
};
pub const VOLATILE_CHECK: Own = Own {
    name: "volatile-check",
    verdict: "warn",
    what: "A CHECK that calls what gives another answer later.",
    why: "A row that was right becomes wrong by itself: a dump of it cannot be restored.",
    safe: "A trigger, or a column that holds the time.",
    bad: &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > now()) NOT VALID"],
    good: &["ALTER TABLE t ADD CONSTRAINT c CHECK (a > '2026-01-01') NOT VALID"],
};
pub const DEFINER: Own = Own {
    name: "security-definer",
    verdict: "warn",
    what: "A SECURITY DEFINER function without SET search_path.",
    why: "Whoever calls it chooses which tables and functions its names mean, with its owner's rights.",
    safe: "SET search_path = pg_catalog, pg_temp, and names with their schema.",
    bad: &["CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"],
    good: &["CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'SELECT 1'"],
};

pub const INVALID: Own = Own {
    name: "invalid-index",
    verdict: "warn",
    what: "CREATE INDEX IF NOT EXISTS over an index of that name that is INVALID. Only a server (--dsn) tells.",
    why: "The server skips it and reports success, and no query uses the index that a build has left unfinished.",
    safe: "DROP INDEX CONCURRENTLY before it.",
    bad: &[],
    good: &["DROP INDEX CONCURRENTLY IF EXISTS i; CREATE INDEX CONCURRENTLY i ON t (a)"],
};

/// NAMEDATALEN - 1
const NAME_BYTES_MAX: usize = 63;

pub fn found(at: &Spot, known: &Known, facts: &Facts) -> Vec<Found> {
    let mut all: Vec<Found> = invalid_index(at, known, facts).into_iter().collect();
    if let Some(name) = long_name(&at.statement.sql) {
        let cut = if known.tables.cuts_alike(name) {
            ", as another one of these files is"
        } else {
            ""
        };
        let message = format!(
            "the name {name} has {} bytes and is cut to {NAME_BYTES_MAX}{cut}",
            name.len()
        );
        all.push(told(at, &LONG_NAME, message, LONG_NAME.safe));
    }
    for constraint in constraints(at) {
        let checks = constraint.contype() == ConstrType::ConstrCheck;
        let can_be = checks || constraint.contype() == ConstrType::ConstrForeign;
        if can_be && !constraint.is_enforced {
            let message = "the constraint is NOT ENFORCED: nothing keeps rows that break it out".to_string();
            all.push(told(at, &NOT_ENFORCED, message, NOT_ENFORCED.safe));
        }
        if checks
            && let Some(function) = constraint
                .raw_expr
                .as_deref()
                .and_then(|expression| changing(expression, known))
        {
            let message = format!("the CHECK calls {function}, which gives another answer later");
            all.push(told(at, &VOLATILE_CHECK, message, VOLATILE_CHECK.safe));
        }
    }
    if at
        .statement
        .actions()
        .any(|command| command.subtype() == AlterTableType::AtDisableTrigAll)
    {
        let message = "DISABLE TRIGGER ALL also stops foreign keys from being checked".to_string();
        all.push(told(at, &TRIGGERS_OFF, message, TRIGGERS_OFF.safe));
    }
    if let NodeEnum::CreateFunctionStmt(create) = &at.statement.node
        && is_open_definer(create)
    {
        let message = "a SECURITY DEFINER function without SET search_path finds names by its caller's".to_string();
        all.push(told(at, &DEFINER, message, DEFINER.safe));
    }
    all
}

/// A word or quoted name that the server cuts.
fn long_name(sql: &str) -> Option<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    // Hardly any text has such a run.
    let long = |text: &str| {
        text.split(|c: char| !is_word(c))
            .any(|word| word.len() > NAME_BYTES_MAX)
    };
    if !long(sql) && !sql.contains('"') {
        return None;
    }
    let mut rest = sql;
    while let Some(token) = crate::lex::Token::first(rest) {
        let text = token.text(rest);
        let name = match token.kind {
            crate::lex::Kind::Word => text,
            crate::lex::Kind::Other => text.trim_matches('"'),
            _ => "",
        };
        if name.len() > NAME_BYTES_MAX {
            return Some(name);
        }
        rest = rest.get(token.length..)?;
    }
    None
}

/// Those that the statement makes.
/// Left by a build that failed or was killed.
fn invalid_index(at: &Spot, known: &Known, facts: &Facts) -> Option<Found> {
    let NodeEnum::IndexStmt(index) = &at.statement.node else {
        return None;
    };
    let table = facts.relation(&Name::of(index.relation.as_ref()?))?;
    let name = &index.idxname;
    if !index.if_not_exists || table.index(name)?.valid {
        return None;
    }
    let repaired = match index.concurrent && known.place() == Place::Alone {
        true => "; the proxy builds it anew",
        false => "",
    };
    let message = format!(
        "the index {name} on {} exists but is INVALID: the server skips the statement and reports success{repaired}",
        table.name
    );
    let hint = format!(
        "DROP INDEX CONCURRENTLY {};  -- before it, outside a transaction",
        qualified(&table.schema, name)
    );
    Some(told(at, &INVALID, message, &hint))
}

fn constraints<'a>(at: &'a Spot) -> Vec<&'a Constraint> {
    let of = |node: &'a Node| match &node.node {
        Some(NodeEnum::Constraint(constraint)) => vec![&**constraint],
        Some(NodeEnum::ColumnDef(column)) => column
            .constraints
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::Constraint(constraint)) => Some(&**constraint),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match &at.statement.node {
        NodeEnum::CreateStmt(create) => create.table_elts.iter().flat_map(of).collect(),
        _ => at
            .statement
            .actions()
            .filter_map(|command| command.def.as_deref())
            .flat_map(of)
            .collect(),
    }
}

/// Functions whose answer changes with time, or with each call.
const CHANGING: &[&str] = &[
    "age",
    "clock_timestamp",
    "gen_random_uuid",
    "nextval",
    "now",
    "random",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
    "uuid_generate_v4",
];

fn changing(node: &Node, known: &Known) -> Option<String> {
    let of = |nodes: &[Node]| nodes.iter().find_map(|node| changing(node, known));
    let of_one = |node: &Option<Box<Node>>| node.as_deref().and_then(|node| changing(node, known));
    match node.node.as_ref()? {
        NodeEnum::SqlvalueFunction(_) => Some("the present time or user".to_string()),
        NodeEnum::FuncCall(call) => {
            let words: Vec<&str> = call
                .funcname
                .iter()
                .filter_map(|node| match &node.node {
                    Some(NodeEnum::String(word)) => Some(word.sval.as_str()),
                    _ => None,
                })
                .collect();
            let (name, schema) = words.split_last()?;
            let asked = Name {
                schema: schema.last().map(ToString::to_string),
                name: name.to_string(),
            };
            let one_argument = call.args.len() == 1;
            let own = match known.objects.volatile(&asked) {
                Some(volatile) => volatile,
                // age(a, b) is a difference.
                None => CHANGING.contains(name) && (*name != "age" || one_argument),
            };
            if own { Some(format!("{name}()")) } else { of(&call.args) }
        }
        NodeEnum::AExpr(expression) => of_one(&expression.lexpr).or_else(|| of_one(&expression.rexpr)),
        NodeEnum::BoolExpr(expression) => of(&expression.args),
        NodeEnum::TypeCast(cast) => of_one(&cast.arg),
        NodeEnum::NullTest(test) => of_one(&test.arg),
        NodeEnum::CoalesceExpr(all) => of(&all.args),
        NodeEnum::List(list) => of(&list.items),
        _ => None,
    }
}

fn is_open_definer(create: &CreateFunctionStmt) -> bool {
    let mut definer = false;
    for node in &create.options {
        let Some(NodeEnum::DefElem(option)) = &node.node else {
            continue;
        };
        let argument = option.arg.as_ref().and_then(|arg| arg.node.as_ref());
        match (option.defname.as_str(), argument) {
            ("security", Some(NodeEnum::Boolean(yes))) => definer = yes.boolval,
            ("set", Some(NodeEnum::VariableSetStmt(set))) if set.name == "search_path" => return false,
            _ => {}
        }
    }
    definer
}
