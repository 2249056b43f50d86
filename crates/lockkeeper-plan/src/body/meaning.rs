//! Whether the statements of a DO block mean what they are judged by. They are judged by the catalog as it is before the block runs; what
//! stands in front of them in the block may have made a name mean another table by then.

use crate::calls::{Calls, calls};
use crate::catalog::Name;
use crate::mentions::Mentions;
use crate::request::Request;
use crate::splice::one_line;
use crate::statement::{Body, Doubt, Kind, Ran, Statement, What};
use crate::words::mentions;
use crate::{mixed, sketch};
use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, DropBehavior, ObjectType, VariableSetKind};
use serde_json::Value;

const ONE_BY_ONE: &str =
    "Send the statements one by one, outside of a DO block: each is then judged when its turn comes.";

impl Doubt {
    pub(super) fn executes(name: &str) -> Doubt {
        Doubt {
            message: format!(
                "the DO block executes the prepared statement {name}, and what that does is not looked at within a block"
            ),
            hint: "Write the statement itself in the block, or send the EXECUTE outside of a DO block.".to_string(),
        }
    }

    pub(super) fn prepares(name: &str) -> Doubt {
        Doubt {
            message: format!(
                "the DO block prepares {name}, which changes rows, and how many it will change is not known from within a block"
            ),
            hint: "Send the PREPARE outside of a DO block: its EXECUTE is then judged with its values.".to_string(),
        }
    }

    pub(super) fn unread(why: &str) -> Doubt {
        let why = why.strip_prefix("Invalid statement: ").unwrap_or(why);
        Doubt {
            message: format!("the DO block cannot be read here ({why}), so that what it does is not known"),
            hint: ONE_BY_ONE.to_string(),
        }
    }

    fn reads() -> Doubt {
        Doubt {
            message: "the DO block may change standard_conforming_strings and has a backslash in it, so that where its strings end is not known"
                .to_string(),
            hint: "Write strings with a backslash as E'…', and leave standard_conforming_strings as it is within the block.".to_string(),
        }
    }
}

/// Whose meaning changes.
enum Moves {
    /// Every name.
    All,
    /// Names without a schema.
    Path,
    /// The same, as far as is known: what a function or a text that is put together does.
    Perhaps,
    /// These names without a schema.
    Bare(Vec<Name>),
    /// These names in any schema.
    Named(Vec<String>),
    /// What is written to under these names.
    Written(Vec<String>),
    /// The same of an INSERT too.
    Ruled(String),
}

/// What a text that is run may do to the settings of the session.
#[derive(Clone, Copy, Default)]
struct Sets {
    names: bool,
    reading: bool,
}

pub(super) fn doubt(body: &Body, text: &str) -> Option<Doubt> {
    if text.contains('\\') && body.ran.iter().any(|ran| sets(&ran.what).reading) {
        return Some(Doubt::reads());
    }
    let movers: Vec<(usize, Moves)> = body
        .ran
        .iter()
        .enumerate()
        .filter_map(|(at, ran)| Some((at, moves(&ran.what)?)))
        .collect();
    if movers.is_empty() {
        return None;
    }
    for (at, ran) in body.ran.iter().enumerate() {
        let What::Statement(statement) = &ran.what else {
            continue;
        };
        for name in acted_on(statement) {
            let moved = movers
                .iter()
                .find(|(first, moves)| body.may_precede(*first, at) && touches(moves, &name, statement));
            if let Some((first, _)) = moved {
                return Some(moved_by(&body.ran[*first], &name, statement));
            }
        }
    }
    None
}

fn moved_by(mover: &Ran, name: &Name, statement: &Statement) -> Doubt {
    let by = match &mover.what {
        What::Statement(by) => format!("{} stands before it or is repeated with it", shortened(&by.sql)),
        What::Expression(_) => "a function that is called before it may do that".to_string(),
        What::Unknown => "SQL that the block puts together may do that before it".to_string(),
    };
    let shown = match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    };
    let hint = match name.schema.is_none()
        && !matches!(
            moves(&mover.what),
            Some(Moves::Named(_) | Moves::Written(_) | Moves::Ruled(_) | Moves::All)
        ) {
        true => format!("Write {shown} with its schema in the block. Or: {ONE_BY_ONE}"),
        false => ONE_BY_ONE.to_string(),
    };
    Doubt {
        message: format!(
            "what {shown} means may change within the DO block ({by}), so that it is not known what this would act on: {}",
            shortened(&statement.sql)
        ),
        hint,
    }
}

fn shortened(sql: &str) -> String {
    let words = one_line(sql, 60);
    match words.char_indices().nth(60) {
        Some((at, _)) => format!("{} …", &words[..at]),
        None => words,
    }
}

/// The relations that it destroys, changes, or writes to in numbers.
fn acted_on(statement: &Statement) -> Vec<Name> {
    use NodeEnum as N;
    match (&statement.node, &statement.kind) {
        (node, Kind::Write | Kind::MixedWrite) => mixed::all(node).unwrap_or_default(),
        (node, Kind::Harmless) => mixed::inserted(node),
        (
            N::DropStmt(_)
            | N::TruncateStmt(_)
            | N::AlterTableStmt(_)
            | N::RenameStmt(_)
            | N::AlterObjectSchemaStmt(_)
            | N::ClusterStmt(_)
            | N::RefreshMatViewStmt(_)
            | N::ReindexStmt(_)
            | N::VacuumStmt(_),
            Kind::Ddl,
        ) => Request::of(statement).relations,
        _ => Vec::new(),
    }
}

/// Rows or more are lost, or many are written.
fn is_grave(statement: &Statement) -> bool {
    matches!(statement.node, NodeEnum::DropStmt(_) | NodeEnum::TruncateStmt(_))
        || matches!(statement.kind, Kind::Write | Kind::MixedWrite)
}

fn touches(moves: &Moves, name: &Name, statement: &Statement) -> bool {
    let bare = name.schema.is_none();
    match moves {
        Moves::Ruled(ruled) => *ruled == name.name,
        _ if matches!(statement.kind, Kind::Harmless) => false,
        Moves::All => true,
        Moves::Path => bare,
        Moves::Perhaps => bare && is_grave(statement),
        Moves::Bare(names) => bare && names.iter().any(|moved| moved.name == name.name),
        Moves::Named(names) => names.contains(&name.name),
        Moves::Written(names) => matches!(statement.kind, Kind::Write | Kind::MixedWrite) && names.contains(&name.name),
    }
}

fn moves(what: &What) -> Option<Moves> {
    let statement = match what {
        What::Statement(statement) => statement,
        What::Expression(node) => return called(node),
        What::Unknown => return Some(Moves::Perhaps),
    };
    use NodeEnum as N;
    use ObjectType as O;
    match &statement.node {
        N::VariableSetStmt(_) | N::DiscardStmt(_) => sets(what).names.then_some(Moves::Path),
        N::DropStmt(drop) => match drop.remove_type() {
            O::ObjectSchema | O::ObjectExtension => Some(Moves::All),
            // What goes with it may have hidden another.
            _ if drop.behavior() == DropBehavior::DropCascade => Some(Moves::Path),
            _ => Some(Moves::Bare(Request::of(statement).relations)),
        },
        N::DropOwnedStmt(_) => Some(Moves::Path),
        // Without USAGE a schema is passed over.
        N::GrantStmt(grant) if grant.objtype() == O::ObjectSchema => Some(Moves::Path),
        N::AlterOwnerStmt(owner) if owner.object_type() == O::ObjectSchema => Some(Moves::Path),
        N::GrantRoleStmt(_) => Some(Moves::Path),
        N::RenameStmt(rename) => match rename.rename_type() {
            O::ObjectSchema => Some(Moves::All),
            O::ObjectTable
            | O::ObjectView
            | O::ObjectMatview
            | O::ObjectIndex
            | O::ObjectSequence
            | O::ObjectForeignTable => {
                let old = rename.relation.as_ref().map(|range| range.relname.clone());
                Some(Moves::Named(old.into_iter().chain([rename.newname.clone()]).collect()))
            }
            _ => None,
        },
        N::AlterObjectSchemaStmt(alter) => {
            let name = alter.relation.as_ref().map(|range| range.relname.clone());
            Some(Moves::Named(name.into_iter().collect()))
        }
        // Rows that are written to it may be another's.
        N::ViewStmt(view) => Some(Moves::Written(vec![view.view.as_ref()?.relname.clone()])),
        N::RuleStmt(rule) if rule.event() == CmdType::CmdInsert && !rule.actions.is_empty() => {
            Some(Moves::Ruled(rule.relation.as_ref()?.relname.clone()))
        }
        N::RuleStmt(rule) => Some(Moves::Written(vec![rule.relation.as_ref()?.relname.clone()])),
        N::CallStmt(_) => Some(Moves::Perhaps),
        node if matches!(statement.kind, Kind::Harmless) => called(node),
        _ => None,
    }
}

/// The functions that a query or an expression calls.
fn called(node: &NodeEnum) -> Option<Moves> {
    if set_by_function(node).names {
        return Some(Moves::Path);
    }
    let unknown = |name: &Name| {
        let is_ours = name.schema.is_none() && (name.name == "set_config" || LOOKS.contains(&name.name.as_str()));
        !is_ours && (name.schema.is_some() || calls(format!("{}(", name.name).as_bytes()) != Calls::Harmless)
    };
    Mentions::of(node)
        .functions
        .iter()
        .any(unknown)
        .then_some(Moves::Perhaps)
}

/// The server's own that blocks ask before they change something.
const LOOKS: [&str; 22] = [
    "clock_timestamp",
    "col_description",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_user",
    "format_type",
    "has_column_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "obj_description",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_indexdef",
    "pg_get_viewdef",
    "pg_relation_size",
    "pg_total_relation_size",
    "quote_ident",
    "quote_literal",
    "to_regclass",
    "to_regnamespace",
    "to_regtype",
];

fn sets(what: &What) -> Sets {
    match what {
        What::Unknown => Sets::default(),
        What::Expression(node) => set_by_function(node),
        What::Statement(statement) => match &statement.node {
            NodeEnum::VariableSetStmt(set) => match set.kind() {
                VariableSetKind::VarResetAll => Sets {
                    names: true,
                    reading: true,
                },
                _ => Sets::of(&set.name),
            },
            NodeEnum::DiscardStmt(_) => Sets {
                names: true,
                reading: true,
            },
            NodeEnum::SelectStmt(_) if !mentions(statement.sql.as_bytes(), "set_config") => Sets::default(),
            node => set_by_function(node),
        },
    }
}

impl Sets {
    fn of(setting: &str) -> Sets {
        let is = |known: &[&str]| known.iter().any(|known| setting.eq_ignore_ascii_case(known));
        Sets {
            names: is(&["search_path", "role", "session_authorization"]),
            // What reads a backslash in plain strings otherwise.
            reading: is(&["standard_conforming_strings", "backslash_quote"]),
        }
    }
}

/// set_config: with a name that is not written out it may be any setting.
fn set_by_function(node: &NodeEnum) -> Sets {
    let mut found = Sets::default();
    match sketch::of(node) {
        Some(tree) => find_set_config(&tree, &mut found),
        None => {
            found = Sets {
                names: true,
                reading: true,
            }
        }
    }
    found
}

fn find_set_config(tree: &Value, found: &mut Sets) {
    match tree {
        Value::Array(items) => items.iter().for_each(|item| find_set_config(item, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let last = value["funcname"].as_array().and_then(|words| words.last());
                if key == "FuncCall" && last.is_some_and(|word| word["node"]["String"]["sval"] == "set_config") {
                    let set = match value["args"][0]["node"]["AConst"]["val"]["Sval"]["sval"].as_str() {
                        Some(setting) => Sets::of(setting),
                        None => Sets {
                            names: true,
                            reading: true,
                        },
                    };
                    found.names |= set.names;
                    found.reading |= set.reading;
                }
                find_set_config(value, found);
            }
        }
        _ => {}
    }
}
