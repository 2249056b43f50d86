//! What to have tried of an ALTER TABLE on an empty copy, and where the rules look the answer up.

use crate::catalog::Relation;
use crate::facts::Facts;
use crate::policy::Policy;
use crate::remedies::{add_column, not_null};
use crate::splice::quote_ident;
use crate::statement::{self, Statement};
use crate::step::Place;
use crate::subject::{Action, Subject, Table};
use crate::tree;
use crate::trial::{Added, Asked, Effect, Question};
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{AlterTableType, ColumnDef, ConstrType, Node};

impl Subject<'_> {
    /// What the server said that this action does. None: it was not asked, or could not say.
    pub fn effect(&self) -> Option<Effect> {
        self.facts.tried.as_ref()?.effect(self.action?.text)
    }
}

/// What to ask the server about the statement, where its rules rest on knowing what PostgreSQL would do.
pub fn question(statement: &Statement, facts: &Facts, policy: &Policy) -> Option<Question> {
    let whole = Subject {
        statement,
        facts,
        policy,
        place: Place::Alone,
        action: None,
    };
    let table = whole.large(&whole.altered()?)?;
    let relation = table.known.filter(|r| matches!(r.kind, 'r' | 'p'))?;
    let text = statement::alter::alter_actions(statement)?;
    let commands: Vec<_> = whole.actions().collect();
    if commands.len() != text.actions.len() {
        return None;
    }
    let actions = commands.iter().zip(&text.actions).filter_map(|(command, action)| {
        let action = Action {
            head: &text.head,
            text: action,
            command,
        };
        let subject = Subject {
            action: Some(action),
            ..whole
        };
        asked(&subject, &table, relation)
    });
    let dropped = commands
        .iter()
        .filter(|c| c.subtype() == AlterTableType::AtDropConstraint)
        .map(|c| c.name.clone());
    let question = Question {
        table: relation.oid,
        only: whole.only(),
        actions: actions.collect(),
        dropped: dropped.collect(),
    };
    (!question.actions.is_empty() && question.is_quotable()).then_some(question)
}

fn asked(subject: &Subject, table: &Table, relation: &Relation) -> Option<Asked> {
    let action = subject.action?;
    let as_it_is = || Asked {
        text: action.text.to_string(),
        sql: action.text.to_string(),
        added: None,
    };
    match action.command.subtype() {
        AlterTableType::AtAlterColumnType => relation.column(&action.command.name).map(|_| as_it_is()),
        AlterTableType::AtAddColumn => {
            let (_, added) = subject.added_column()?;
            if add_column::skipped(subject, table)
                || relation.column(&added.colname).is_some()
                || !is_in_doubt(subject, added)
            {
                return None;
            }
            column_asked(&action)
        }
        _ => {
            let (_, name, _) = not_null::wanted(subject)?;
            let known = relation.column(&name)?;
            // Without any CHECK it scans.
            let with_children = std::iter::once(relation).chain(subject.facts.descendants(relation));
            let mut checks = with_children
                .flat_map(|r| &r.constraints)
                .filter(|c| c.kind == 'c' && c.validated);
            let may_be_proven = !known.not_null && checks.any(|c| c.columns.contains(&name));
            may_be_proven.then(as_it_is)
        }
    }
}

/// Whether the values of the new column may differ from row to row, or be looked at one by one.
fn is_in_doubt(subject: &Subject, added: &ColumnDef) -> bool {
    if [ConstrType::ConstrIdentity, ConstrType::ConstrGenerated]
        .into_iter()
        .any(|kind| add_column::constraint(added, kind).is_some())
        || add_column::serial(added).is_some()
    {
        return false;
    }
    let plain_type = added
        .type_name
        .as_ref()
        .is_some_and(|t| is_plain_type(subject, &tree::names(&t.names)));
    let default = add_column::constraint(added, ConstrType::ConstrDefault).map(|c| c.raw_expr.as_deref());
    match default {
        None => !plain_type,
        Some(expression) => !(plain_type && expression.is_some_and(is_literal)),
    }
}

/// The server's own, of which a literal is a value without a cast.
fn is_plain_type(subject: &Subject, names: &[String]) -> bool {
    const PLAIN: &[&str] = &[
        "bool",
        "bpchar",
        "bytea",
        "date",
        "float4",
        "float8",
        "inet",
        "int2",
        "int4",
        "int8",
        "interval",
        "json",
        "jsonb",
        "numeric",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "uuid",
        "varchar",
    ];
    let [before @ .., name] = names else { return false };
    let hidden = subject
        .facts
        .types
        .iter()
        .any(|t| t.asked.name == *name && t.kind != 'b');
    let of_server = matches!(before, [] | [_]) && before.first().is_none_or(|schema| schema == "pg_catalog");
    of_server && !hidden && PLAIN.contains(&name.as_str())
}

/// Without a type of its own, so that no cast is called.
fn is_literal(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => {
            constant.isnull || matches!(constant.val, Some(Val::Sval(_) | Val::Boolval(_)))
        }
        _ => false,
    }
}

/// The column and its default, without constraints that would look at other tables.
fn column_asked(action: &Action) -> Option<Asked> {
    let taken = add_column::taken_apart(action)?;
    let default = taken.default.as_deref().unwrap_or_default();
    Some(Asked {
        text: action.text.to_string(),
        sql: format!("{} {default}", taken.base),
        added: Some(Added {
            bare: format!("{} DEFAULT NULL", taken.base),
            default: taken
                .default
                .as_ref()
                .map(|default| format!("ALTER COLUMN {} SET {default}", quote_ident(&taken.column))),
            column: taken.column,
        }),
    })
}
