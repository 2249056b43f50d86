//! What a file has said so far that a server would know when the next statement runs: the tables that it created itself,
//! the override that it set, and whether a transaction is open.

use crate::plan::Place;
use crate::plan::batches::{Target, target};
use crate::plan::facts::{Facts, Name, Relation, Request};
use crate::plan::statement::{Kind, Statement, tables_created};
use pg_query::NodeEnum;
use pg_query::protobuf::{ObjectType, TransactionStmtKind, VariableSetKind, VariableSetStmt, a_const::Val};

/// Where a table without a schema is taken to be.
const SCHEMA: &str = "public";

#[derive(Default)]
pub struct Known {
    session: State,
    /// What a ROLLBACK goes back to; Some while a transaction block is open.
    before_block: Option<State>,
    /// What COMMIT leaves of the override: SET LOCAL ends with the transaction.
    lasting_override: Option<String>,
}

#[derive(Clone, Default)]
struct State {
    created: Vec<Relation>,
    override_: Option<String>,
}

impl Known {
    pub fn place(&self) -> Place {
        match self.before_block {
            Some(_) => Place::Block,
            None => Place::Alone,
        }
    }

    pub fn facts(&self, statement: &Statement, server_version: u32) -> Facts {
        let mut facts = Facts::offline(server_version);
        facts.override_ = self.session.override_.clone();
        for asked in Request::of(statement).relations {
            let found = self.session.created.iter().rev().find(|relation| is(relation, &asked));
            facts
                .relations
                .extend(found.cloned().map(|relation| Relation { asked, ..relation }));
        }
        // Its form depends on the key, and with none it would be refused.
        let limited = match &statement.kind {
            Kind::LimitedWrite(_) => written(statement).filter(|name| facts.relation(name).is_none()),
            _ => None,
        };
        facts.relations.extend(limited.as_ref().and_then(old_relation));
        facts
    }

    /// An UPDATE or DELETE of an old table that is not pinned to single rows. How many it touches only a server can
    /// tell. A column `id` is taken for the key.
    pub fn may_be_large(&self, statement: &Statement, small_bytes: u64) -> bool {
        let Some(name) = written(statement).filter(|_| matches!(statement.kind, Kind::Write)) else {
            return false;
        };
        let new = self.session.created.iter().any(|relation| is(relation, &name));
        !new && old_relation(&name).is_some_and(|relation| target(statement, &relation, small_bytes) == Target::Unknown)
    }

    /// The statement has run.
    pub fn ran(&mut self, statement: &Statement) {
        match &statement.kind {
            Kind::Begin { .. } => self.begin(),
            Kind::Commit { chain } => {
                self.session.override_ = match self.before_block.take() {
                    Some(_) => self.lasting_override.take(),
                    None => self.session.override_.take(),
                };
                self.chain(*chain);
            }
            Kind::Rollback { chain } => {
                if let Some(before) = self.before_block.take() {
                    self.session = before;
                }
                self.chain(*chain);
            }
            _ => self.remember(statement),
        }
    }

    fn begin(&mut self) {
        if self.before_block.is_none() {
            self.before_block = Some(self.session.clone());
            self.lasting_override = self.session.override_.clone();
        }
    }

    fn chain(&mut self, chain: bool) {
        if chain {
            self.begin();
        }
    }

    fn remember(&mut self, statement: &Statement) {
        match &statement.node {
            NodeEnum::TransactionStmt(transaction)
                if transaction.kind == TransactionStmtKind::TransStmtRollbackTo as i32 =>
            {
                // Savepoints are not followed: rather too little is taken for new.
                if let Some(before) = &self.before_block {
                    self.session.created.clone_from(&before.created);
                }
            }
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::DiscardStmt(_) => self.session.override_ = None,
            NodeEnum::IndexStmt(index) => {
                let table = index.relation.as_ref().map(Name::of);
                let Some(table) = table.filter(|table| self.session.created.iter().any(|relation| is(relation, table)))
                else {
                    return;
                };
                if !index.idxname.is_empty() && !index.if_not_exists {
                    let name = Name {
                        schema: table.schema.clone(),
                        name: index.idxname.clone(),
                    };
                    let index = new_relation(&name, 'i', 'p').map(|index| Relation {
                        table: Some(table),
                        ..index
                    });
                    self.session.created.extend(index);
                }
            }
            NodeEnum::RenameStmt(rename) if rename.rename_type == ObjectType::ObjectTable as i32 => {
                let Some(old) = rename.relation.as_ref().map(Name::of) else {
                    return;
                };
                for relation in self.session.created.iter_mut().filter(|relation| is(relation, &old)) {
                    relation.name.clone_from(&rename.newname);
                }
            }
            node if !may_exist_already(node) => {
                let (kind, persistence) = kind_of(node);
                let names = tables_created(statement);
                let new = names.iter().filter_map(|name| new_relation(name, kind, persistence));
                self.session.created.extend(new);
            }
            _ => {}
        }
    }

    fn set(&mut self, set: &VariableSetStmt) {
        let named = set.name.eq_ignore_ascii_case("lockkeeper.override");
        let value = match VariableSetKind::try_from(set.kind) {
            Ok(VariableSetKind::VarSetValue) if named => set.args.first().and_then(|argument| match &argument.node {
                Some(NodeEnum::AConst(constant)) => match &constant.val {
                    Some(Val::Sval(text)) => Some(text.sval.clone()).filter(|text| !text.is_empty()),
                    _ => None,
                },
                _ => None,
            }),
            Ok(VariableSetKind::VarSetDefault | VariableSetKind::VarReset) if named => None,
            Ok(VariableSetKind::VarResetAll) => None,
            _ => return,
        };
        if set.is_local && self.before_block.is_none() {
            return;
        }
        if !set.is_local {
            self.lasting_override.clone_from(&value);
        }
        self.session.override_ = value;
    }
}

/// The table of an UPDATE or DELETE.
fn written(statement: &Statement) -> Option<Name> {
    match &statement.node {
        NodeEnum::UpdateStmt(update) => update.relation.as_ref().map(Name::of),
        NodeEnum::DeleteStmt(delete) => delete.relation.as_ref().map(Name::of),
        _ => None,
    }
}

/// A name without a schema is taken for the table in `public`, or for one that was created without a schema too.
fn is(relation: &Relation, asked: &Name) -> bool {
    let schema = asked.schema.as_deref().unwrap_or(SCHEMA);
    relation.name == asked.name && relation.schema == schema
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

/// Decoded as an answer of the server would be, so that what is not said here has the same meaning as there.
fn new_relation(name: &Name, kind: char, persistence: char) -> Option<Relation> {
    let empty: [(); 0] = [];
    let answer = serde_json::json!({
        "asked": { "schema": name.schema, "name": name.name },
        "oid": 0,
        "schema": name.schema.as_deref().unwrap_or(SCHEMA),
        "name": name.name,
        "kind": kind,
        "persistence": persistence,
        "bytes": 0,
        "rows": 0.0,
        "created_here": true,
        "is_partition": false,
        "owner": "",
        "columns": empty,
        "indexes": empty,
        "constraints": empty,
        "triggers": empty,
    });
    serde_json::from_value(answer).ok()
}

/// Large, with a primary key on `id`.
fn old_relation(name: &Name) -> Option<Relation> {
    let new = new_relation(name, 'r', 'p')?;
    let key = serde_json::json!({
        "oid": 0,
        "schema": new.schema,
        "name": format!("{}_pkey", new.name),
        "valid": true,
        "ready": true,
        "unique": true,
        "primary": true,
        "immediate": true,
        "partial": false,
        "method": "btree",
        "columns": ["id"],
        "mentions": ["id"],
        "bytes": u64::MAX,
        "definition": "",
    });
    let column = serde_json::json!({
        "name": "id",
        "type_name": "bigint",
        "not_null": true,
        "identity": "",
        "generated": "",
    });
    Some(Relation {
        columns: vec![serde_json::from_value(column).ok()?],
        created_here: false,
        tree: Vec::new(),
        rules: Vec::new(),
        row_security: None,
        has_jobs: false,
        bytes: u64::MAX,
        rows: None,
        indexes: vec![serde_json::from_value(key).ok()?],
        ..new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_relation_is_complete() {
        let name = Name {
            schema: None,
            name: "t".into(),
        };
        let relation = new_relation(&name, 'r', 't').expect("every field is there");
        assert_eq!(
            (relation.schema.as_str(), relation.kind, relation.persistence),
            ("public", 'r', 't')
        );
        assert!(relation.created_here && relation.invisible_to_others());
        assert!(is(&relation, &name));
        let old = old_relation(&name).expect("every field is there");
        assert!(!old.created_here && old.indexes.len() == 1);
    }
}
