//! What a statement changes in the catalog, as far as later statements of the files are judged by it. What is not followed
//! here stays as it was: rather too little is taken for new, or for proven.

use super::objects::type_name;
use super::relations::{
    add_column, constraint, key, new_relation, old_relation, set_not_null, strings, unknown_column, with_elements,
};
use super::tables::{Table, Tables};
use crate::plan::catalog::{Column, Index, Name, Relation};
use crate::plan::facts::Facts;
use crate::plan::request::Request;
use crate::plan::statement::{Statement, tables_created};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableType, ConstrType, DropStmt, IndexStmt, Node, ObjectType, RenameStmt, SelectStmt,
};

pub fn apply(tables: &mut Tables, statement: &Statement, facts: &Facts) {
    match &statement.node {
        NodeEnum::AlterTableStmt(alter) => {
            let Some(name) = alter.relation.as_ref().map(Name::of) else {
                return;
            };
            for command in &alter.cmds {
                if let Some(NodeEnum::AlterTableCmd(command)) = &command.node {
                    alter_table(tables, &name, command, facts);
                }
            }
        }
        NodeEnum::IndexStmt(index) => create_index(tables, index, facts),
        NodeEnum::DropStmt(drop) => dropped(tables, statement, drop, facts),
        NodeEnum::RenameStmt(rename) => renamed(tables, rename, facts),
        NodeEnum::AlterObjectSchemaStmt(alter) => {
            let Some(name) = alter.relation.as_ref().map(Name::of) else {
                return;
            };
            if let Some(table) = known_or_found(tables, &name, facts).cloned() {
                tables.remove(table.relation.schema.clone(), table.relation.name.clone());
                tables.add(moved(table, Some(&alter.newschema), None));
            }
        }
        NodeEnum::InsertStmt(insert) => {
            let many = insert.select_stmt.as_ref().and_then(|select| select.node.as_ref());
            let few = match many {
                Some(NodeEnum::SelectStmt(select)) => is_values(select),
                _ => true,
            };
            if let Some(name) = insert.relation.as_ref().map(Name::of) {
                filled(tables, &name, few);
            }
        }
        NodeEnum::CopyStmt(copy) if copy.is_from => {
            if let Some(name) = copy.relation.as_ref().map(Name::of) {
                filled(tables, &name, false);
            }
        }
        _ => created(tables, statement, facts),
    }
}

/// VALUES, and not the rows of a query.
fn is_values(select: &SelectStmt) -> bool {
    !select.values_lists.is_empty() || (select.from_clause.is_empty() && select.larg.is_none())
}

/// Rows come into a table that the files have made.
fn filled(tables: &mut Tables, name: &Name, few: bool) {
    if let Some(table) = tables.find_mut(name).filter(|table| !table.of_server) {
        table.relation.never_filled = false;
        if !few {
            table.relation.bytes = u64::MAX;
        }
    }
}

fn created(tables: &mut Tables, statement: &Statement, facts: &Facts) {
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
        let mut relation = new_relation(&name, &tables.schema(&name), kind, persistence);
        if let NodeEnum::CreateStmt(create) = &statement.node {
            with_elements(&mut relation, create);
            relation.is_partition = create.partbound.is_some();
            let parents = create.inh_relations.iter().filter_map(|parent| match &parent.node {
                Some(NodeEnum::RangeVar(range)) => Some(Name::of(range)),
                _ => None,
            });
            relation.parents = parents
                .map(|parent| Name {
                    schema: Some(tables.schema(&parent)),
                    name: parent.name,
                })
                .collect();
        }
        if has_rows(&statement.node) {
            relation.bytes = u64::MAX;
        }
        tables.add(Table {
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

/// The relation as it is known so far: by the files, or by the server.
fn known_or_found<'a>(tables: &'a mut Tables, name: &Name, facts: &Facts) -> Option<&'a mut Table> {
    if tables.find(name).is_none()
        && let Some(relation) = facts.relation(name).filter(|_| !facts.offline)
    {
        tables.add(Table {
            relation: relation.clone(),
            complete: true,
            of_server: true,
        });
        // A name that the server finds by its search_path.
        let full = Name {
            schema: Some(relation.schema.clone()),
            name: relation.name.clone(),
        };
        return tables.find_mut(&full);
    }
    tables.find_mut(name)
}

fn alter_table(tables: &mut Tables, name: &Name, command: &AlterTableCmd, facts: &Facts) {
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
    if proves && facts.offline && tables.find(name).is_none() {
        let relation = old_relation(name, &tables.schema(name));
        tables.add(Table {
            relation,
            complete: false,
            of_server: false,
        });
    }
    let Some(Table { relation, complete, .. }) = known_or_found(tables, name, facts) else {
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
        // Of a partitioned table they change nothing.
        (A::AtSetLogged, _) if relation.kind == 'r' => relation.persistence = 'p',
        (A::AtSetUnLogged, _) if relation.kind == 'r' => relation.persistence = 'u',
        (A::AtDropConstraint, _) => relation.constraints.retain(|known| known.name != command.name),
        _ => {}
    }
}

fn create_index(tables: &mut Tables, index: &IndexStmt, facts: &Facts) {
    let Some(name) = index.relation.as_ref().map(Name::of) else {
        return;
    };
    let Some(table) = known_or_found(tables, &name, facts) else {
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
    tables.add(Table {
        relation: of_index,
        complete: true,
        of_server: false,
    });
}

fn dropped(tables: &mut Tables, statement: &Statement, drop: &DropStmt, facts: &Facts) {
    use ObjectType as O;
    if !matches!(
        drop.remove_type(),
        O::ObjectTable | O::ObjectIndex | O::ObjectView | O::ObjectMatview | O::ObjectSequence | O::ObjectForeignTable
    ) {
        return;
    }
    for name in Request::of(statement).relations {
        let found = facts.relation(&name).map(|relation| relation.schema.clone());
        let schema = found.unwrap_or_else(|| tables.schema(&name));
        if let Some(Table { relation, .. }) = tables.remove(schema, name.name)
            && let Some(table) = relation.table.as_ref().and_then(|table| tables.find_mut(table))
        {
            table.relation.indexes.retain(|index| index.name != relation.name);
        }
    }
}

fn renamed(tables: &mut Tables, rename: &RenameStmt, facts: &Facts) {
    use ObjectType as O;
    let Some(name) = rename.relation.as_ref().map(Name::of) else {
        return;
    };
    let Some(table) = known_or_found(tables, &name, facts) else {
        return;
    };
    match rename.rename_type() {
        O::ObjectTable | O::ObjectView | O::ObjectMatview | O::ObjectIndex | O::ObjectForeignTable => {
            let table = table.clone();
            tables.remove(table.relation.schema.clone(), table.relation.name.clone());
            tables.add(moved(table, None, Some(&rename.newname)));
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
