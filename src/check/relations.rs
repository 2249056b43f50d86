//! What the files say of one relation: what a definition in a statement adds to it, and what is believed of one that only a server
//! knows.

use super::objects::type_name;
use crate::plan::catalog::{Column, Constraint, Index, Name, Relation};
use crate::plan::remedies::not_null::proof;
use crate::plan::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableType, ColumnDef, ConstrType, Constraint as Added, CreateStmt, Node, NullTestType,
};

/// Others see it, and nobody has put a row into it yet, if it is a table.
pub fn is_committed(relation: &mut Relation) {
    relation.created_here = false;
    relation.never_filled = relation.bytes == 0 && relation.kind == 'r';
}

pub fn with_elements(relation: &mut Relation, create: &CreateStmt) {
    for element in &create.table_elts {
        match &element.node {
            Some(NodeEnum::ColumnDef(column)) => add_column(relation, column),
            Some(NodeEnum::Constraint(added)) => {
                relation.constraints.extend(constraint(added));
                key(relation, added, &strings(&added.keys));
            }
            _ => {}
        }
    }
}

pub fn add_column(relation: &mut Relation, added: &ColumnDef) {
    let not_null = added.constraints.iter().any(is_not_null);
    relation.columns.push(Column {
        type_name: added.type_name.as_ref().and_then(type_name).unwrap_or_default(),
        ..unknown_column(&added.colname, not_null)
    });
    for node in &added.constraints {
        if let Some(NodeEnum::Constraint(of_column)) = &node.node {
            key(relation, of_column, std::slice::from_ref(&added.colname));
            if let Some(mut constraint) = constraint(of_column) {
                constraint.columns = vec![added.colname.clone()];
                if constraint.name.is_empty() {
                    constraint.name = match constraint.kind {
                        'f' => format!("{}_{}_fkey", relation.name, added.colname),
                        'n' => format!("{}_{}_not_null", relation.name, added.colname),
                        _ => format!("{}_{}_check", relation.name, added.colname),
                    };
                }
                relation.constraints.push(constraint);
            }
        }
    }
}

/// The index of a PRIMARY KEY or UNIQUE constraint.
pub fn key(relation: &mut Relation, added: &Added, columns: &[String]) {
    let primary = added.contype() == ConstrType::ConstrPrimary;
    if !primary && added.contype() != ConstrType::ConstrUnique || !added.indexname.is_empty() {
        return;
    }
    for name in columns.iter().filter(|_| primary) {
        set_not_null(relation, true, name, true);
    }
    let name = match (added.conname.is_empty(), primary) {
        (false, _) => added.conname.clone(),
        (true, true) => format!("{}_pkey", relation.name),
        (true, false) => format!("{}_{}_key", relation.name, columns.join("_")),
    };
    relation.indexes.push(Index {
        schema: relation.schema.clone(),
        name: name.clone(),
        valid: true,
        ready: true,
        unique: true,
        primary,
        immediate: !added.deferrable,
        method: "btree".to_string(),
        mentions: columns.to_vec(),
        columns: columns.iter().cloned().map(Some).collect(),
        constraint: Some(name),
        bytes: relation.bytes,
        ..Index::default()
    });
}

pub fn set_not_null(relation: &mut Relation, complete: bool, column: &str, not_null: bool) {
    match relation.columns.iter_mut().find(|known| known.name == column) {
        Some(known) => known.not_null = not_null,
        None if !complete => relation.columns.push(unknown_column(column, not_null)),
        None => {}
    }
}

fn is_not_null(constraint: &Node) -> bool {
    match &constraint.node {
        Some(NodeEnum::Constraint(constraint)) => {
            matches!(
                constraint.contype(),
                ConstrType::ConstrNotnull | ConstrType::ConstrPrimary
            )
        }
        _ => false,
    }
}

/// Only what later statements are judged by: a CHECK that proves a column NOT NULL, and names that can be validated.
pub fn constraint(added: &Added) -> Option<Constraint> {
    let (kind, columns, definition) = match added.contype() {
        ConstrType::ConstrCheck => match proves_not_null(added) {
            Some(column) => ('c', vec![column.clone()], proof(&column)),
            None => ('c', Vec::new(), String::new()),
        },
        ConstrType::ConstrForeign => ('f', strings(&added.fk_attrs), String::new()),
        ConstrType::ConstrNotnull => ('n', strings(&added.keys), String::new()),
        _ => return None,
    };
    Some(Constraint {
        name: added.conname.clone(),
        kind,
        validated: !added.skip_validation && added.is_enforced,
        columns,
        definition,
        references: added.pktable.as_ref().map(Name::of),
        comment: None,
    })
}

/// The column of `CHECK (column IS NOT NULL)`.
fn proves_not_null(added: &Added) -> Option<String> {
    let Some(NodeEnum::NullTest(test)) = added.raw_expr.as_ref()?.node.as_ref() else {
        return None;
    };
    match test.arg.as_ref()?.node.as_ref()? {
        NodeEnum::ColumnRef(column) if test.nulltesttype() == NullTestType::IsNotNull => {
            match strings(&column.fields).as_slice() {
                [column] => Some(column.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Of a table whose columns are not known, those that the statement names: that they are there has to be believed.
pub fn add_columns(relation: &mut Relation, statement: &Statement) {
    let names: Vec<String> = match &statement.node {
        NodeEnum::AlterTableStmt(alter) => {
            let commands = alter.cmds.iter().filter_map(|command| match &command.node {
                Some(NodeEnum::AlterTableCmd(command)) if command.subtype() != AlterTableType::AtAddColumn => {
                    Some(command)
                }
                _ => None,
            });
            commands
                .flat_map(|command| match command.def.as_ref().and_then(|def| def.node.as_ref()) {
                    Some(NodeEnum::Constraint(constraint)) => strings(&constraint.keys),
                    _ => vec![command.name.clone()],
                })
                .collect()
        }
        NodeEnum::RenameStmt(rename) => vec![rename.subname.clone()],
        _ => Vec::new(),
    };
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        if relation.column(&name).is_none() {
            relation.columns.push(unknown_column(&name, false));
        }
    }
    let validated = |command: &&AlterTableCmd| command.subtype() == AlterTableType::AtValidateConstraint;
    for command in statement.actions().filter(validated) {
        if relation.constraint(&command.name).is_none() {
            relation.constraints.push(Constraint {
                name: command.name.clone(),
                kind: 'c',
                validated: false,
                columns: Vec::new(),
                definition: String::new(),
                references: None,
                comment: None,
            });
        }
    }
}

pub fn unknown_column(name: &str, not_null: bool) -> Column {
    Column {
        name: name.to_string(),
        type_name: String::new(),
        not_null,
        default: None,
        identity: String::new(),
        generated: String::new(),
        comment: None,
        base_type: None,
        collation: None,
        analyzed: false,
        is_enum: false,
    }
}

pub fn strings(nodes: &[Node]) -> Vec<String> {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        _ => None,
    };
    nodes.iter().filter_map(text).collect()
}

/// Empty, and of this transaction.
pub fn new_relation(name: &Name, schema: &str, kind: char, persistence: char) -> Relation {
    Relation {
        asked: name.clone(),
        schema: schema.to_string(),
        name: name.name.clone(),
        kind,
        persistence,
        created_here: true,
        ..Relation::default()
    }
}

/// Large, with a primary key on `id`, and logged or not.
pub fn old_relation(name: &Name, schema: &str) -> Relation {
    let new = new_relation(name, schema, 'r', '?');
    let key = Index {
        schema: schema.to_string(),
        name: format!("{}_pkey", name.name),
        valid: true,
        ready: true,
        unique: true,
        primary: true,
        immediate: true,
        method: "btree".to_string(),
        columns: vec![Some("id".to_string())],
        mentions: vec!["id".to_string()],
        bytes: u64::MAX,
        ..Index::default()
    };
    let column = Column {
        type_name: "bigint".to_string(),
        ..unknown_column("id", true)
    };
    Relation {
        columns: vec![column],
        created_here: false,
        bytes: u64::MAX,
        rows: None,
        indexes: vec![key],
        ..new
    }
}
