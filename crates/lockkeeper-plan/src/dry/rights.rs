//! Whether the role may do at all what a dry run tells of. An UPDATE or DELETE is explained by the server, which looks at its rights then; of a
//! schema change it is asked who owns the relation. Of other rights nothing is known here.

use crate::catalog::Name;
use crate::facts::Facts;
use crate::request::Request;
use crate::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

/// The server's EXPLAIN of it looks at its rights.
pub fn is_explained(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Write | Kind::MixedWrite)
}

/// A query for the names of those relations that another role owns. None: it takes no ownership, or of nothing that is there.
pub fn owners_sql(statement: &Statement, facts: &Facts) -> Option<String> {
    let (names, drops) = changed(statement)?;
    let oids = names.iter().filter_map(|name| facts.relation(name));
    let oids: Vec<String> = oids.map(|relation| relation.oid.to_string()).collect();
    if oids.is_empty() {
        return None;
    }
    let by_schema = match drops {
        true => " AND NOT pg_catalog.pg_has_role(n.nspowner, 'USAGE')",
        false => "",
    };
    Some(format!(
        "SELECT pg_catalog.quote_ident(c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = ANY ('{{{}}}'::pg_catalog.oid[]) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'){by_schema} ORDER BY c.oid LIMIT 1",
        oids.join(",")
    ))
}

pub fn must_own(relation: &str) -> String {
    format!("your role does not own {relation}")
}

/// The relations that it takes the ownership of, and whether that of their schema is enough.
fn changed(statement: &Statement) -> Option<(Vec<Name>, bool)> {
    let one = |relation: &Option<pg_query::protobuf::RangeVar>| Some((vec![Name::of(relation.as_ref()?)], false));
    match &statement.node {
        NodeEnum::AlterTableStmt(alter) => one(&alter.relation),
        NodeEnum::IndexStmt(index) => one(&index.relation),
        NodeEnum::RenameStmt(rename) => one(&rename.relation),
        NodeEnum::DropStmt(drop) => {
            let kinds = [
                ObjectType::ObjectTable,
                ObjectType::ObjectView,
                ObjectType::ObjectMatview,
                ObjectType::ObjectIndex,
            ];
            kinds
                .contains(&drop.remove_type())
                .then(|| (Request::of(statement).relations, true))
        }
        _ => None,
    }
}
