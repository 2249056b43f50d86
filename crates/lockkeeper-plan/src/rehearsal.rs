//! An ALTER TABLE that takes several transactions is rehearsed before the first of them: on an empty table of the same columns, undone at
//! once. What PostgreSQL refuses as a whole is so refused before a part of it is done.
//!
//! Only an error that holds for the real table as well is believed. What the empty table does not have (triggers, indexes by name, parents)
//! is left out of the rehearsal, and where the statement goes on from an earlier run, there is none.

use super::catalog::{Constraint, Name, Relation};
use super::outcome::Rehearsal;
use super::remedies::add_column;
use super::splice::{one_statement, qualified, quote_ident, significant_tokens, tree_text};
use super::statement::alter::alter_actions;
use super::step::{Place, Step};
use super::subject::{Action, Subject};
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ColumnDef, ConstrType, Node, RangeVar};

/// Longer texts are not read once more.
const TEXT_MAX: usize = 64 * 1024;

/// One boolean: somebody's event trigger would see tables made that nobody makes.
pub const IS_WATCHED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D' \
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid OPERATOR(pg_catalog.=) 1255 \
     AND d.objid OPERATOR(pg_catalog.=) e.evtfoid AND d.deptype OPERATOR(pg_catalog.=) 'e'))";

const HEAD: &str = "ALTER TABLE t ";

/// None: one step is the server's own to refuse, or nothing could be told with certainty.
pub(crate) fn of(whole: &Subject, steps: &[Step]) -> Option<Rehearsal> {
    let statement = whole.statement;
    if steps.len() < 2 || whole.place != Place::Alone || whole.facts.offline || statement.sql.len() > TEXT_MAX {
        return None;
    }
    let relation = whole.facts.relation(&whole.altered()?)?;
    let is_ours = |c: &Constraint| c.comment.as_ref().is_some_and(|text| text.starts_with("lockkeeper: "));
    if !has_stand_in(relation) || relation.created_here || relation.constraints.iter().any(is_ours) {
        return None;
    }
    let mut stage = Stage {
        whole,
        relation,
        others: Vec::new(),
        all_known: true,
    };
    let text = alter_actions(statement)?;
    let commands: Vec<_> = whole.actions().collect();
    if commands.len() != text.actions.len() {
        return None;
    }
    let mut played = Vec::new();
    for (command, action) in commands.into_iter().zip(&text.actions) {
        stage.play(command, action, &mut played)?;
    }
    if played.is_empty() {
        return None;
    }
    Some(Rehearsal {
        made: stage.made(),
        sql: format!("ALTER TABLE {} {}", stand_in(relation), played.join(", ")),
        schema: relation.schema.clone(),
        all_known: stage.all_known,
        all_keys: stage
            .others
            .iter()
            .copied()
            .chain([relation])
            .all(has_constraints_for_keys),
    })
}

impl Rehearsal {
    /// Whether an error of this SQLSTATE holds for the real table: one of what the statement says. Not one of rights, which are others on
    /// a table of one's own, nor of a name or key that the empty table need not have.
    pub fn tells(&self, sqlstate: &str) -> bool {
        match sqlstate {
            // insufficient_privilege
            "42501" => false,
            // invalid_foreign_key: no key matches
            "42830" => self.all_keys,
            // invalid_table_definition: also said of a temporary table that refers to another kind
            "42P16" | "42P07" => self.all_known,
            // feature_not_supported
            "0A000" => true,
            _ => sqlstate.starts_with("42") || sqlstate.starts_with("22"),
        }
    }
}

struct Stage<'a> {
    whole: &'a Subject<'a>,
    relation: &'a Relation,
    /// Tables that foreign keys refer to.
    others: Vec<&'a Relation>,
    all_known: bool,
}

fn has_stand_in(relation: &Relation) -> bool {
    matches!(relation.kind, 'r' | 'p') && relation.persistence != 't'
}

/// No unique index is without a constraint, so that the stand-in has all keys.
fn has_constraints_for_keys(relation: &Relation) -> bool {
    let keys = || relation.constraints.iter().filter(|c| matches!(c.kind, 'p' | 'u'));
    let mut unique = relation.indexes.iter().filter(|index| index.unique);
    unique.all(|index| keys().any(|key| key.name == index.name))
        && keys().all(|key| relation.indexes.iter().any(|i| i.name == key.name))
}

fn stand_in(relation: &Relation) -> String {
    format!("pg_temp.{}", quote_ident(&relation.name))
}

impl<'a> Stage<'a> {
    /// Adds what is rehearsed of the action.
    fn play(&mut self, command: &AlterTableCmd, action: &str, played: &mut Vec<String>) -> Option<()> {
        use AlterTableType as T;
        match command.subtype() {
            T::AtAddColumn => self.add_column(command, action, played)?,
            T::AtAddConstraint => {
                let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|d| d.node.as_ref()) else {
                    return None;
                };
                // What is not validated yet may be what an earlier run has left.
                let begun = |c: &Constraint| c.name == constraint.conname && !c.validated;
                if !constraint.indexname.is_empty() || self.relation.constraints.iter().any(begun) {
                    return None;
                }
                played.push(self.referring(action)?);
            }
            T::AtAlterConstraint => {
                let name = match command.def.as_ref().and_then(|d| d.node.as_ref()) {
                    Some(NodeEnum::Constraint(constraint)) => &constraint.conname,
                    Some(NodeEnum::AtalterConstraint(constraint)) => &constraint.conname,
                    _ => return Some(()),
                };
                // As much as that it is there.
                if self.relation.constraint(name).is_none() {
                    played.push(format!("VALIDATE CONSTRAINT {}", quote_ident(name)));
                }
            }
            T::AtDropColumn
            | T::AtDropConstraint
            | T::AtValidateConstraint
            | T::AtSetNotNull
            | T::AtDropNotNull
            | T::AtColumnDefault
            | T::AtAlterColumnType
            | T::AtSetStatistics
            | T::AtSetStorage
            | T::AtSetOptions
            | T::AtResetOptions
            | T::AtSetRelOptions
            | T::AtResetRelOptions
            | T::AtChangeOwner => played.push(action.to_string()),
            _ => {}
        }
        Some(())
    }

    /// The column without a value: the server would work out one that is the same for all rows, which takes calling functions.
    fn add_column(&mut self, command: &AlterTableCmd, action: &str, played: &mut Vec<String>) -> Option<()> {
        let column = column(command)?;
        if self.relation.column(&column.colname).is_some() {
            return None;
        }
        let taken = add_column::taken_apart(&Action {
            head: HEAD.trim_end(),
            text: action,
            command,
        })?;
        let Some(default) = taken.default else {
            played.push(self.referring(action)?);
            return Some(());
        };
        let empty = action.replacen(&default, "DEFAULT NULL", 1);
        let proven = match one_statement(&format!("{HEAD}{empty}"))? {
            NodeEnum::AlterTableStmt(alter) => match alter.cmds.first().and_then(|node| node.node.as_ref()) {
                Some(NodeEnum::AlterTableCmd(changed)) if alter.cmds.len() == 1 => {
                    let changed = self::column(changed)?;
                    defaults_to_null(changed) && but_default(changed) == but_default(column)
                }
                _ => false,
            },
            _ => false,
        };
        if !proven {
            return None;
        }
        played.push(self.referring(&empty)?);
        played.push(format!("ALTER COLUMN {} SET {default}", quote_ident(&taken.column)));
        Some(())
    }

    /// The action with the stand-ins of the tables that its foreign keys refer to.
    fn referring(&mut self, action: &str) -> Option<String> {
        let mut sql = format!("{HEAD}{action}");
        let mut expected = one_statement(&sql)?;
        let tokens = significant_tokens(&sql)?;
        let mut places = Vec::new();
        for table in referenced(&mut expected) {
            let known = self.whole.facts.relation(&Name::of(table));
            let Some(known) = known.filter(|r| has_stand_in(r)) else {
                // The server says itself that there is none, or that it is none to refer to.
                self.all_known = false;
                continue;
            };
            self.enters(known)?;
            let first = tokens.iter().position(|t| t.start == table.location)?;
            let dots = usize::from(!table.schemaname.is_empty()) + usize::from(!table.catalogname.is_empty());
            let last = tokens.get(first + 2 * dots)?;
            places.push((tokens[first].start as usize..last.end as usize, stand_in(known)));
            table.catalogname.clear();
            table.schemaname = "pg_temp".to_string();
            table.relname.clone_from(&known.name);
        }
        for (place, name) in places.into_iter().rev() {
            sql.replace_range(place, &name);
        }
        (tree_text(&one_statement(&sql)?) == tree_text(&expected)).then(|| sql[HEAD.len()..].to_string())
    }

    /// Of two tables of one name only one can stand there.
    fn enters(&mut self, relation: &'a Relation) -> Option<()> {
        let mut all = self.others.iter().copied().chain([self.relation]);
        match all.find(|r| r.name == relation.name) {
            Some(same) => (same.oid == relation.oid).then_some(()),
            None => {
                self.others.push(relation);
                Some(())
            }
        }
    }

    fn made(&self) -> Vec<String> {
        let all = self.others.iter().copied().chain([self.relation]);
        all.flat_map(|relation| {
            let name = quote_ident(&relation.name);
            let like = qualified(&relation.schema, &relation.name);
            let table = format!("CREATE TEMPORARY TABLE {name} (LIKE {like})");
            let is_own = relation.oid == self.relation.oid;
            let constraints = relation.constraints.iter().filter_map(|c| constraint(c, is_own));
            let added: Vec<String> = constraints.map(|c| format!("ADD {c}")).collect();
            let added = (!added.is_empty()).then(|| format!("ALTER TABLE {} {}", stand_in(relation), added.join(", ")));
            [Some(table), added].into_iter().flatten()
        })
        .collect()
    }
}

/// Keys as they are; of what else the table itself has its name, which can be dropped, validated, and is taken.
fn constraint(constraint: &Constraint, is_own: bool) -> Option<String> {
    let columns: Vec<String> = constraint.columns.iter().map(|c| quote_ident(c)).collect();
    let name = quote_ident(&constraint.name);
    match constraint.kind {
        'p' => Some(format!("CONSTRAINT {name} PRIMARY KEY ({})", columns.join(", "))),
        'u' => Some(format!("CONSTRAINT {name} UNIQUE ({})", columns.join(", "))),
        // LIKE has taken them over.
        'n' => None,
        _ => is_own.then(|| format!("CONSTRAINT {name} CHECK (true) NOT VALID")),
    }
}

fn column(command: &AlterTableCmd) -> Option<&ColumnDef> {
    match command.def.as_ref()?.node.as_ref()? {
        NodeEnum::ColumnDef(column) => Some(column),
        _ => None,
    }
}

fn is_default(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::Constraint(c)) if c.contype() == ConstrType::ConstrDefault)
}

fn defaults_to_null(column: &ColumnDef) -> bool {
    let mut defaults = column.constraints.iter().filter(|node| is_default(node));
    defaults.all(|node| match &node.node {
        Some(NodeEnum::Constraint(constraint)) => match constraint.raw_expr.as_ref().and_then(|e| e.node.as_ref()) {
            Some(NodeEnum::AConst(value)) => value.isnull && !matches!(value.val, Some(Val::Sval(_))),
            _ => false,
        },
        _ => false,
    })
}

fn but_default(column: &ColumnDef) -> [u8; 32] {
    let mut column = column.clone();
    column.constraints.retain(|node| !is_default(node));
    tree_text(&NodeEnum::ColumnDef(Box::new(column)))
}

/// The tables that foreign keys of one action refer to.
fn referenced(node: &mut NodeEnum) -> Vec<&mut RangeVar> {
    let NodeEnum::AlterTableStmt(alter) = node else {
        return Vec::new();
    };
    let defs = alter.cmds.iter_mut().filter_map(|node| match node.node.as_mut() {
        Some(NodeEnum::AlterTableCmd(command)) => command.def.as_mut()?.node.as_mut(),
        _ => None,
    });
    defs.flat_map(|def| match def {
        NodeEnum::Constraint(constraint) => constraint.pktable.as_mut().into_iter().collect::<Vec<_>>(),
        NodeEnum::ColumnDef(column) => {
            let constraints = column
                .constraints
                .iter_mut()
                .filter_map(|node| match node.node.as_mut() {
                    Some(NodeEnum::Constraint(constraint)) => constraint.pktable.as_mut(),
                    _ => None,
                });
            constraints.collect()
        }
        _ => Vec::new(),
    })
    .collect()
}
