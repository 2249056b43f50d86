//! What a statement changes in the catalog, as far as later statements of the files are judged by it. What is not followed
//! here stays as it was: rather too little is taken for new, or for proven.

use super::known::{Known, Table};
use super::objects::type_name;
use crate::plan::catalog::{Column, Constraint, Index, Name, Relation};
use crate::plan::facts::Facts;
use crate::plan::remedies::not_null::proof;
use crate::plan::request::Request;
use crate::plan::statement::{Statement, tables_created};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableType, ColumnDef, ConstrType, Constraint as Added, DropStmt, IndexStmt, Node, NullTestType,
    ObjectType, RenameStmt, SelectStmt,
};

pub fn apply(known: &mut Known, statement: &Statement, facts: &Facts) {
    match &statement.node {
        NodeEnum::AlterTableStmt(alter) => {
            let Some(name) = alter.relation.as_ref().map(Name::of) else {
                return;
            };
            for command in &alter.cmds {
                if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                    alter_table(known, &name, command, facts);
                }
            }
        }
        NodeEnum::IndexStmt(index) => create_index(known, index, facts),
        NodeEnum::DropStmt(drop) => dropped(known, statement, drop, facts),
        NodeEnum::RenameStmt(rename) => renamed(known, rename, facts),
        NodeEnum::AlterObjectSchemaStmt(alter) => {
            let Some(name) = alter.relation.as_ref().map(Name::of) else {
                return;
            };
            if let Some(table) = known_or_found(known, &name, facts).cloned() {
                known.remove(table.relation.schema.clone(), table.relation.name.clone());
                known.add(moved(table, Some(&alter.newschema), None));
            }
        }
        NodeEnum::InsertStmt(insert) => {
            let many = insert.select_stmt.as_ref().and_then(|select| select.node.as_ref());
            let few = match many {
                Some(NodeEnum::SelectStmt(select)) => is_values(select),
                _ => true,
            };
            if let Some(name) = insert.relation.as_ref().map(Name::of) {
                filled(known, &name, few);
            }
        }
        NodeEnum::CopyStmt(copy) if copy.is_from => {
            if let Some(name) = copy.relation.as_ref().map(Name::of) {
                filled(known, &name, false);
            }
        }
        _ => created(known, statement, facts),
    }
}

/// VALUES, and not the rows of a query.
fn is_values(select: &SelectStmt) -> bool {
    !select.values_lists.is_empty() || (select.from_clause.is_empty() && select.larg.is_none())
}

/// Rows come into a table that the files have made.
fn filled(known: &mut Known, name: &Name, few: bool) {
    if let Some(table) = known.find_mut(name).filter(|table| !table.of_server) {
        table.relation.never_filled = false;
        if !few {
            table.relation.bytes = u64::MAX;
        }
    }
}

/// Others see it, and nobody has put a row into it yet, if it is a table.
pub fn is_committed(relation: &mut Relation) {
    relation.created_here = false;
    relation.never_filled = relation.bytes == 0 && relation.kind == 'r';
}

fn created(known: &mut Known, statement: &Statement, facts: &Facts) {
    let (kind, persistence) = kind_of(&statement.node);
    let mut names = tables_created(statement);
    if let NodeEnum::ViewStmt(view) = &statement.node {
        names.extend(view.view.as_ref().map(Name::of).filter(|_| !view.replace));
    }
    for name in names {
        // With IF NOT EXISTS it may be an old and large one; a server knows. What is there already is in use, whichever file makes it.
        if facts.relation(&name).is_some() || facts.offline && may_exist_already(&statement.node) {
            continue;
        }
        let mut relation = new_relation(&name, &known.schema(&name), kind, persistence);
        if let NodeEnum::CreateStmt(create) = &statement.node {
            with_elements(&mut relation, create);
        }
        if has_rows(&statement.node) {
            relation.bytes = u64::MAX;
        }
        known.add(Table {
            relation,
            complete: is_listed(&statement.node),
            of_server: false,
        });
    }
}

/// CREATE TABLE … AS, which does not say how many.
fn has_rows(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::CreateTableAsStmt(create) => {
            create.into.as_ref().is_some_and(|into| !into.skip_data) && !is_of_values(create.query.as_deref())
        }
        NodeEnum::SelectStmt(_) => true,
        _ => false,
    }
}

fn is_of_values(query: Option<&Node>) -> bool {
    match query.and_then(|query| query.node.as_ref()) {
        Some(NodeEnum::SelectStmt(select)) => is_values(select),
        _ => false,
    }
}

/// All columns stand in the statement.
fn is_listed(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::CreateStmt(create) => {
            let like = |element: &Node| matches!(element.node, Some(NodeEnum::TableLikeClause(_)));
            create.inh_relations.is_empty() && create.of_typename.is_none() && !create.table_elts.iter().any(like)
        }
        _ => false,
    }
}

fn with_elements(relation: &mut Relation, create: &pg_query::protobuf::CreateStmt) {
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

fn add_column(relation: &mut Relation, added: &ColumnDef) {
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
fn key(relation: &mut Relation, added: &Added, columns: &[String]) {
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

/// The relation as it is known so far: by the files, or by the server.
fn known_or_found<'a>(known: &'a mut Known, name: &Name, facts: &Facts) -> Option<&'a mut Table> {
    if known.find(name).is_none()
        && let Some(relation) = facts.relation(name).filter(|_| !facts.offline)
    {
        known.add(Table {
            relation: relation.clone(),
            complete: true,
            of_server: true,
        });
        // A name that the server finds by its search_path.
        let full = Name {
            schema: Some(relation.schema.clone()),
            name: relation.name.clone(),
        };
        return known.find_mut(&full);
    }
    known.find_mut(name)
}

fn alter_table(known: &mut Known, name: &Name, command: &AlterTableCmd, facts: &Facts) {
    use AlterTableType as A;
    let proves = matches!(
        command.subtype(),
        A::AtSetNotNull
            | A::AtDropNotNull
            | A::AtAddConstraint
            | A::AtValidateConstraint
            | A::AtAddColumn
            | A::AtAlterColumnType
    );
    if proves && facts.offline && known.find(name).is_none() {
        let relation = old_relation(name, &known.schema(name));
        known.add(Table {
            relation,
            complete: false,
            of_server: false,
        });
    }
    let Some(Table { relation, complete, .. }) = known_or_found(known, name, facts) else {
        return;
    };
    let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
    let column = command.name.as_str();
    match (command.subtype(), definition) {
        (A::AtAddColumn, Some(NodeEnum::ColumnDef(added))) if relation.column(&added.colname).is_none() => {
            add_column(relation, added);
        }
        (A::AtDropColumn, _) => {
            relation.columns.retain(|known| known.name != column);
            relation
                .constraints
                .retain(|known| !known.columns.iter().any(|known| known == column));
            relation
                .indexes
                .retain(|known| !known.mentions.iter().any(|known| known == column));
        }
        (A::AtSetNotNull, _) => set_not_null(relation, *complete, column, true),
        (A::AtDropNotNull, _) => set_not_null(relation, *complete, column, false),
        (A::AtAlterColumnType, Some(NodeEnum::ColumnDef(given))) => {
            let new = given.type_name.as_ref().and_then(type_name).unwrap_or_default();
            match relation.columns.iter_mut().find(|known| known.name == column) {
                Some(known) => (known.type_name, known.base_type) = (new, None),
                None if !*complete => relation.columns.push(Column {
                    type_name: new,
                    ..unknown_column(column, false)
                }),
                None => {}
            }
        }
        (A::AtAddConstraint, Some(NodeEnum::Constraint(added))) => {
            relation.constraints.extend(constraint(added));
            key(relation, added, &strings(&added.keys));
            if added.contype() == ConstrType::ConstrNotnull && !added.skip_validation {
                for column in strings(&added.keys) {
                    set_not_null(relation, *complete, &column, true);
                }
            }
        }
        (A::AtValidateConstraint, _) => {
            let validated = relation.constraints.iter_mut().find(|known| known.name == command.name);
            let Some(constraint) = validated else { return };
            constraint.validated = true;
            if constraint.kind == 'n' {
                for column in constraint.columns.clone() {
                    set_not_null(relation, *complete, &column, true);
                }
            }
        }
        (A::AtDropConstraint, _) => relation.constraints.retain(|known| known.name != command.name),
        _ => {}
    }
}

fn set_not_null(relation: &mut Relation, complete: bool, column: &str, not_null: bool) {
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
fn constraint(added: &Added) -> Option<Constraint> {
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

fn create_index(known: &mut Known, index: &IndexStmt, facts: &Facts) {
    let Some(name) = index.relation.as_ref().map(Name::of) else {
        return;
    };
    let Some(table) = known_or_found(known, &name, facts) else {
        return;
    };
    let relation = &mut table.relation;
    if relation.index(&index.idxname).is_some() {
        return;
    }
    let column = |node: &Node| match &node.node {
        Some(NodeEnum::IndexElem(element)) => Some(element.name.clone()).filter(|name| !name.is_empty()),
        _ => None,
    };
    let columns: Vec<Option<String>> = index.index_params.iter().map(column).collect();
    // The server gives such a name, numbered where it is taken.
    let named: Vec<&str> = columns
        .iter()
        .map(|column| column.as_deref().unwrap_or("expr"))
        .collect();
    let given = match index.idxname.as_str() {
        "" => format!("{}_{}_idx", relation.name, named.join("_")),
        given => given.to_string(),
    };
    relation.indexes.push(Index {
        schema: relation.schema.clone(),
        name: given.clone(),
        valid: true,
        ready: true,
        unique: index.unique,
        immediate: true,
        partial: index.where_clause.is_some(),
        method: index.access_method.clone(),
        mentions: columns.iter().flatten().cloned().collect(),
        columns,
        ..Index::default()
    });
    let name = Name {
        schema: Some(relation.schema.clone()),
        name: given,
    };
    let of_index = Relation {
        table: Some(Name {
            schema: Some(relation.schema.clone()),
            name: relation.name.clone(),
        }),
        created_here: relation.created_here,
        bytes: relation.bytes,
        ..new_relation(&name, &relation.schema, 'i', 'p')
    };
    known.add(Table {
        relation: of_index,
        complete: true,
        of_server: false,
    });
}

fn dropped(known: &mut Known, statement: &Statement, drop: &DropStmt, facts: &Facts) {
    use ObjectType as O;
    if !matches!(
        drop.remove_type(),
        O::ObjectTable | O::ObjectIndex | O::ObjectView | O::ObjectMatview | O::ObjectSequence | O::ObjectForeignTable
    ) {
        return;
    }
    for name in Request::of(statement).relations {
        let found = facts.relation(&name).map(|relation| relation.schema.clone());
        let schema = found.unwrap_or_else(|| known.schema(&name));
        if let Some(Table { relation, .. }) = known.remove(schema, name.name)
            && let Some(table) = relation.table.as_ref().and_then(|table| known.find_mut(table))
        {
            table.relation.indexes.retain(|index| index.name != relation.name);
        }
    }
}

fn renamed(known: &mut Known, rename: &RenameStmt, facts: &Facts) {
    use ObjectType as O;
    let Some(name) = rename.relation.as_ref().map(Name::of) else {
        return;
    };
    let Some(table) = known_or_found(known, &name, facts) else {
        return;
    };
    match rename.rename_type() {
        O::ObjectTable | O::ObjectView | O::ObjectMatview | O::ObjectIndex | O::ObjectForeignTable => {
            let table = table.clone();
            known.remove(table.relation.schema.clone(), table.relation.name.clone());
            known.add(moved(table, None, Some(&rename.newname)));
        }
        O::ObjectColumn => {
            let (old, new) = (&rename.subname, &rename.newname);
            let relation = &mut table.relation;
            let names = relation.columns.iter_mut().map(|column| &mut column.name);
            let constrained = relation.constraints.iter_mut().flat_map(|constraint| {
                if constraint.columns.contains(old) && constraint.kind == 'c' {
                    // Its text would have to be written anew.
                    constraint.definition = String::new();
                }
                &mut constraint.columns
            });
            for name in names.chain(constrained).filter(|name| *name == old) {
                name.clone_from(new);
            }
        }
        O::ObjectTabconstraint => {
            for constraint in table
                .relation
                .constraints
                .iter_mut()
                .filter(|known| known.name == rename.subname)
            {
                constraint.name.clone_from(&rename.newname);
            }
        }
        _ => {}
    }
}

fn moved(mut table: Table, schema: Option<&str>, name: Option<&str>) -> Table {
    let relation = &mut table.relation;
    relation.schema = schema.unwrap_or(&relation.schema).to_string();
    relation.name = name.unwrap_or(&relation.name).to_string();
    table
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

fn unknown_column(name: &str, not_null: bool) -> Column {
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

fn strings(nodes: &[Node]) -> Vec<String> {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        _ => None,
    };
    nodes.iter().filter_map(text).collect()
}

/// With IF NOT EXISTS the table may be an old and large one, so it is not taken for new.
fn may_exist_already(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::CreateStmt(create) => create.if_not_exists,
        NodeEnum::CreateTableAsStmt(create) => create.if_not_exists,
        NodeEnum::CreateForeignTableStmt(create) => create.base_stmt.as_ref().is_none_or(|base| base.if_not_exists),
        _ => false,
    }
}

/// pg_class.relkind and relpersistence.
fn kind_of(node: &NodeEnum) -> (char, char) {
    let persistence = |relation: Option<&pg_query::protobuf::RangeVar>| {
        relation
            .and_then(|relation| relation.relpersistence.chars().next())
            .unwrap_or('p')
    };
    match node {
        NodeEnum::CreateStmt(create) => {
            let kind = if create.partspec.is_some() { 'p' } else { 'r' };
            (kind, persistence(create.relation.as_ref()))
        }
        NodeEnum::CreateTableAsStmt(create) => {
            let into = create.into.as_ref().and_then(|into| into.rel.as_ref());
            let view = create.objtype == ObjectType::ObjectMatview as i32;
            (if view { 'm' } else { 'r' }, persistence(into))
        }
        NodeEnum::CreateForeignTableStmt(_) => ('f', 'p'),
        _ => ('r', 'p'),
    }
}

/// Empty, and of this transaction.
fn new_relation(name: &Name, schema: &str, kind: char, persistence: char) -> Relation {
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

/// Large, with a primary key on `id`.
pub fn old_relation(name: &Name, schema: &str) -> Relation {
    let new = new_relation(name, schema, 'r', 'p');
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
