//! Which table a statement locks, and what its command tag is.

use crate::catalog::Name;
use crate::facts::Facts;
use crate::request::Request;
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

/// Whose lock the statement waits for: the first that it names, or of a table that is made the first that is there, as its parent or
/// what it refers to.
pub(super) fn locked<'a>(statement: &Statement, request: &'a Request, facts: &Facts) -> Option<&'a Name> {
    let made = matches!(
        statement.node,
        NodeEnum::CreateStmt(_) | NodeEnum::CreateForeignTableStmt(_) | NodeEnum::CreateSchemaStmt(_)
    );
    // Within a new schema it is none that is there.
    let first = usize::from(!matches!(statement.node, NodeEnum::CreateSchemaStmt(_)));
    let there = request
        .relations
        .iter()
        .skip(first)
        .find(|name| facts.relation(name).is_some());
    there.filter(|_| made).or(request.relations.first())
}

/// The command tag of a statement that runs in steps. A brief step's own tag is the server's.
pub(super) fn tag(statement: &Statement) -> &'static str {
    match &statement.node {
        NodeEnum::IndexStmt(_) => "CREATE INDEX",
        NodeEnum::DropStmt(drop) if drop.remove_type() == pg_query::protobuf::ObjectType::ObjectIndex => "DROP INDEX",
        NodeEnum::ReindexStmt(_) => "REINDEX",
        NodeEnum::VacuumStmt(_) => "VACUUM",
        NodeEnum::ClusterStmt(_) => "CLUSTER",
        NodeEnum::RefreshMatViewStmt(_) => "REFRESH MATERIALIZED VIEW",
        // Batches tell their own count.
        NodeEnum::UpdateStmt(_) => "UPDATE 0",
        NodeEnum::DeleteStmt(_) => "DELETE 0",
        NodeEnum::CreateStmt(_) => "CREATE TABLE",
        NodeEnum::AlterTableStmt(_) => "ALTER TABLE",
        NodeEnum::AlterDomainStmt(_) => "ALTER DOMAIN",
        NodeEnum::RenameStmt(rename) if rename.relation_type() == ObjectType::ObjectTable => "ALTER TABLE",
        _ => "",
    }
}
