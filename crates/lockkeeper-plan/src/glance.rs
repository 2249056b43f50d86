//! Where less than the whole catalog question is enough: what a statement names, how large that is and who sees it.
//!
//! What columns, indexes and constraints a small table has, or one that nobody else can see, decides nothing about an index or a
//! constraint that it is given; nor, of a table that has never held a row, about its removal.
//!
//! [`request`] asks so much, [`decides`] tells whether it was enough; else the whole question is asked.

use super::catalog::{Name, Relation};
use super::facts::Facts;
use super::overrides;
use super::policy::Policy;
use super::request::{Request, is_slight};
use super::splice::quote_literal;
use super::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ConstrType, ObjectType};

/// None: the whole question is asked at once.
pub fn request(statement: &Statement) -> Option<Request> {
    let asks = is_of_size(statement) || drops_tables(statement);
    let whole = asks.then(|| Request::of(statement))?;
    Some(Request {
        relations: whole.relations,
        jobs: whole.jobs,
        ..Request::default()
    })
}

/// The whole question would change nothing: each relation stands for itself, without partitions, parents and children, and none of those
/// that others can see is large.
pub fn decides(statement: &Statement, facts: &Facts, policy: &Policy) -> bool {
    let drops = drops_tables(statement);
    let little = |r: &Relation| match drops {
        true => r.kind == 'r' && r.never_filled && r.bytes == 0,
        false => r.is_small(policy.small_bytes),
    };
    let alone = |r: &Relation| r.alone && !matches!(r.kind, 'p' | 'I' | 'f');
    let relations = &facts.relations;
    relations.iter().all(alone)
        && (relations.iter().all(little) || relations.iter().all(Relation::invisible_to_others))
        && facts.waiting.is_empty()
}

/// Whether all that it locks for is what this transaction has created. One row with one column, `t`: then nobody else can wait for it, and
/// the server alone decides about it. None: it is not to be asked, or it takes more to know.
///
/// It names every operator with its schema, so that it may be asked with the client's search_path, which finds the relations. A relation's row
/// type is written down with it once, in the transaction itself and not in a part that could be undone alone; what inherits from it may be
/// older. 1247 is pg_type, 1259 pg_class.
pub fn created_here(statement: &Statement) -> Option<String> {
    let asked = (is_of_size(statement) || changes_itself(statement)) && !overrides::speaks_to_us(&statement.sql);
    let names = asked.then(|| locked(statement)).filter(|names| !names.is_empty())?;
    let one = |name: &Name| {
        let ident = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let path = match &name.schema {
            Some(schema) => format!("{}.{}", ident(schema), ident(&name.name)),
            None => ident(&name.name),
        };
        quote_literal(&path)
    };
    let named: Vec<String> = names.iter().map(one).collect();
    Some(format!(
        "SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) {} FROM pg_catalog.unnest(ARRAY[{}]) n(name) \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(n.name)::pg_catalog.oid \
         JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 1247 AND d.objid OPERATOR(pg_catalog.=) c.reltype \
         AND d.objsubid OPERATOR(pg_catalog.=) 0 AND d.refclassid OPERATOR(pg_catalog.=) 1259 AND d.refobjid OPERATOR(pg_catalog.=) c.oid \
         AND d.deptype OPERATOR(pg_catalog.=) 'i' \
         WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND NOT c.relispartition AND NOT c.relhassubclass \
         AND d.xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid",
        named.len(),
        named.join(", ")
    ))
}

/// Each of its actions locks the table that it names and nothing besides, if nothing inherits from it and no function runs with a schema change.
pub fn locks_itself(statement: &Statement, facts: &Facts) -> bool {
    use AlterTableType as A;
    let locks_itself = |command: &AlterTableCmd| match command.subtype() {
        // Of a column that loses its default, or of a type that is not of the grammar, more is asked before.
        A::AtColumnDefault | A::AtAddColumn | A::AtSetStatistics | A::AtSetOptions | A::AtResetOptions => true,
        _ => false,
    };
    is_slight(&statement.node)
        && statement.actions().all(locks_itself)
        && !facts.event_triggers
        && matches!(facts.relations.as_slice(), [one] if one.kind == 'r' && one.alone)
}

/// When it is done, its transaction holds ACCESS EXCLUSIVE on the table that it names.
pub fn locks_wholly(statement: &Statement) -> bool {
    use AlterTableType as A;
    let wholly = |command: &AlterTableCmd| matches!(command.subtype(), A::AtColumnDefault | A::AtAddColumn);
    is_slight(&statement.node) && statement.actions().any(wholly)
}

/// The tables that are there before it. An index that it names is made.
fn locked(statement: &Statement) -> Vec<Name> {
    match &statement.node {
        NodeEnum::IndexStmt(index) => index.relation.iter().map(Name::of).collect(),
        NodeEnum::ViewStmt(_) => Vec::new(),
        _ => Request::of(statement).relations,
    }
}

/// What it would do, to the table that it names and to no other.
fn changes_itself(statement: &Statement) -> bool {
    use AlterTableType as A;
    only_action(statement).is_some_and(|command| match command.subtype() {
        A::AtColumnDefault => command.def.is_some(),
        A::AtChangeOwner | A::AtSetStatistics | A::AtSetOptions | A::AtSetStorage | A::AtSetRelOptions => true,
        _ => false,
    })
}

/// An index, a constraint or a view's new text.
fn is_of_size(statement: &Statement) -> bool {
    if !matches!(statement.kind, Kind::Ddl) {
        return false;
    }
    match &statement.node {
        NodeEnum::IndexStmt(index) => !index.concurrent,
        NodeEnum::ViewStmt(view) => view.replace,
        _ => only_action(statement).is_some_and(adds_constraint),
    }
}

fn drops_tables(statement: &Statement) -> bool {
    matches!(&statement.node, NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectTable)
}

fn only_action(statement: &Statement) -> Option<&AlterTableCmd> {
    let NodeEnum::AlterTableStmt(alter) = &statement.node else {
        return None;
    };
    let mut actions = statement.actions();
    let only = actions.next().filter(|_| alter.objtype() == ObjectType::ObjectTable)?;
    actions.next().is_none().then_some(only)
}

/// One that does not take an index that is there.
fn adds_constraint(command: &AlterTableCmd) -> bool {
    use ConstrType as C;
    let Some(NodeEnum::Constraint(added)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
        return false;
    };
    command.subtype() == AlterTableType::AtAddConstraint
        && added.indexname.is_empty()
        && matches!(
            added.contype(),
            C::ConstrCheck | C::ConstrForeign | C::ConstrUnique | C::ConstrPrimary
        )
}
