//! What a statement is about, for the policy: the tables that its blocks may name.

use crate::catalog::{Name, Relation};
use crate::facts::Facts;
use crate::policy::Subject;
use crate::statement::Statement;
use pg_query::NodeEnum;

/// `tables`: those of the statement.
pub(super) fn policy_subject<'a>(facts: &'a Facts, tables: &'a [String]) -> Subject<'a> {
    Subject {
        database: &facts.database,
        role: &facts.role,
        application_name: &facts.application_name,
        tables,
    }
}

/// schema.name of the tables that a statement is about, an index standing for its table. All of them count: what the policy
/// says of one is no answer for another. Those that nobody else can see are not asked about.
pub(super) fn tables(statement: &Statement, named: &[Name], facts: &Facts) -> Vec<String> {
    let full = |name: &Name| format!("{}.{}", name.schema.as_deref().unwrap_or("public"), name.name);
    let of_index = |relation: &Relation| relation.table.as_ref().map(full);
    let mut tables: Vec<String> = Vec::new();
    for (at, name) in named.iter().enumerate() {
        let table = match facts.relation(name) {
            Some(relation) if relation.invisible_to_others() => None,
            Some(relation) => {
                Some(of_index(relation).unwrap_or_else(|| format!("{}.{}", relation.schema, relation.name)))
            }
            // Offline a name may also be an index, whose table is not known.
            None => (facts.offline && names_tables(statement, at)).then(|| full(name)),
        };
        tables.extend(table.filter(|table| !tables.contains(table)));
    }
    let taken = facts.depends.of(statement).map_or(&[][..], |taken| &taken.parts);
    for part in taken.iter().filter(|part| !part.invisible_to_others()) {
        let table = full(&part.name());
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    tables
}

/// Whether the relation that a statement names at this place is a table or a view, as far as the grammar tells.
fn names_tables(statement: &Statement, at: usize) -> bool {
    use pg_query::protobuf::{ObjectType, ReindexObjectType};
    match &statement.node {
        NodeEnum::DropStmt(drop) => drop.remove_type() != ObjectType::ObjectIndex,
        NodeEnum::ReindexStmt(reindex) => reindex.kind() == ReindexObjectType::ReindexObjectTable,
        NodeEnum::AlterTableStmt(alter) => at == 0 && alter.objtype() != ObjectType::ObjectIndex,
        NodeEnum::RenameStmt(rename) => at == 0 && rename.rename_type() != ObjectType::ObjectIndex,
        NodeEnum::TruncateStmt(_) | NodeEnum::VacuumStmt(_) => true,
        _ => at == 0,
    }
}
