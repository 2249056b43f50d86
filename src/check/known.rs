//! What the files have said so far that a server would know when the next statement runs: the tables that they created, what
//! they changed on others, the override and the search_path that they set, and whether a transaction is open.

use super::effects;
use super::tool::Transaction;
use crate::plan::Place;
use crate::plan::batches::{Target, target};
use crate::plan::catalog::{Name, Relation};
use crate::plan::facts::Facts;
use crate::plan::request::Request;
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::{TransactionStmtKind, VariableSetKind, VariableSetStmt, a_const::Val};

pub struct Known {
    /// Where a name without a schema is taken to be.
    default_schema: String,
    session: State,
    /// What a ROLLBACK goes back to; Some while a transaction block is open.
    before_block: Option<State>,
    /// What COMMIT leaves of the override and the search_path: SET LOCAL ends with the transaction.
    lasting: Settings,
    /// One message of several statements: outside a block there is always an implicit transaction.
    implicit: bool,
}

#[derive(Clone, Default)]
struct State {
    tables: Vec<Table>,
    /// Schema and name of what was dropped or renamed.
    gone: Vec<(String, String)>,
    settings: Settings,
}

#[derive(Clone, Default)]
struct Settings {
    override_: Option<String>,
    /// As it stands behind `SET search_path =`, and its first schema.
    search_path: Option<(String, String)>,
}

/// A relation that the files have created or changed.
#[derive(Clone)]
pub struct Table {
    pub relation: Relation,
    /// All its columns are listed. Else it is an old one that no server was asked about.
    pub complete: bool,
}

impl Known {
    pub fn new(default_schema: String) -> Known {
        Known {
            default_schema,
            session: State::default(),
            before_block: None,
            lasting: Settings::default(),
            implicit: false,
        }
    }

    /// A file begins. `several`: it holds more than one statement.
    pub fn start_file(&mut self, transaction: Transaction, several: bool) {
        match transaction {
            Transaction::Statement => {}
            Transaction::Message => {
                self.implicit = several;
                if several {
                    self.begin();
                }
            }
            Transaction::File | Transaction::All => self.begin(),
        }
    }

    /// Its session ends, or at least must not be counted on.
    pub fn end_file(&mut self, transaction: Transaction) {
        self.implicit = false;
        match transaction {
            Transaction::All => return,
            Transaction::Statement => self.rollback(),
            Transaction::Message | Transaction::File => self.commit(),
        }
        self.session.settings = Settings::default();
    }

    pub fn end_group(&mut self) {
        self.commit();
        self.session.settings = Settings::default();
    }

    pub fn place(&self) -> Place {
        match self.before_block {
            Some(_) => Place::Block,
            None => Place::Alone,
        }
    }

    pub fn search_path(&self) -> Option<&str> {
        self.session
            .settings
            .search_path
            .as_ref()
            .map(|(path, _)| path.as_str())
    }

    /// `base` is what the server says, or the offline facts.
    pub fn facts(&self, statement: &Statement, base: Facts) -> Facts {
        let mut facts = base;
        if self.session.settings.override_.is_some() {
            facts.override_.clone_from(&self.session.settings.override_);
        }
        let mut asked = Request::of(statement).relations;
        let tables_of_indexes = asked.iter().filter_map(|name| self.find(name)?.relation.table.clone());
        asked.extend(tables_of_indexes.collect::<Vec<_>>());
        for name in asked {
            let on_server = facts.relation(&name).map(|relation| relation.schema.clone());
            let schema = on_server.unwrap_or_else(|| self.schema(&name));
            let found = self
                .session
                .tables
                .iter()
                .rev()
                .find(|table| table.is(&schema, &name.name));
            if found.is_some() || self.session.gone.contains(&(schema, name.name.clone())) {
                facts.relations.retain(|relation| relation.asked != name);
            }
            if let Some(table) = found {
                let mut relation = table.relation.clone();
                if !table.complete {
                    effects::add_columns(&mut relation, statement);
                }
                relation.asked = name;
                facts.relations.push(relation);
            }
        }
        // Its form depends on the key, and with none it would be refused.
        let limited = match &statement.kind {
            Kind::LimitedWrite(_) if facts.offline => written(statement)
                .filter(|name| facts.relation(name).is_none_or(|relation| relation.indexes.is_empty())),
            _ => None,
        };
        if let Some(name) = limited.filter(|name| !self.is_new(name)) {
            facts.relations.retain(|relation| relation.asked != name);
            facts.relations.push(effects::old_relation(&name, &self.schema(&name)));
        }
        facts
    }

    /// An UPDATE or DELETE of an old table that is not pinned to single rows. How many it touches only a server can
    /// tell. A column `id` is taken for the key.
    pub fn may_be_large(&self, statement: &Statement, small_bytes: u64) -> bool {
        let Some(name) = written(statement).filter(|_| matches!(statement.kind, Kind::Write)) else {
            return false;
        };
        let old = effects::old_relation(&name, &self.schema(&name));
        !self.is_new(&name) && target(statement, &old, small_bytes) == Target::Unknown
    }

    /// The statement has run; `facts` are those that it was judged by.
    pub fn ran(&mut self, statement: &Statement, facts: &Facts) {
        match &statement.kind {
            Kind::Begin { .. } => self.begin(),
            Kind::Commit { chain } => {
                self.commit();
                self.chain(*chain);
            }
            Kind::Rollback { chain } => {
                self.rollback();
                self.chain(*chain);
            }
            _ => self.remember(statement, facts),
        }
    }

    fn begin(&mut self) {
        if self.before_block.is_none() {
            self.before_block = Some(self.session.clone());
            self.lasting = self.session.settings.clone();
        }
    }

    fn commit(&mut self) {
        if self.before_block.take().is_some() {
            self.session.settings = std::mem::take(&mut self.lasting);
        }
    }

    fn rollback(&mut self) {
        if let Some(before) = self.before_block.take() {
            self.session = before;
        }
    }

    fn chain(&mut self, chain: bool) {
        if chain || self.implicit {
            self.begin();
        }
    }

    fn remember(&mut self, statement: &Statement, facts: &Facts) {
        match &statement.node {
            NodeEnum::TransactionStmt(transaction)
                if transaction.kind == TransactionStmtKind::TransStmtRollbackTo as i32 =>
            {
                // Savepoints are not followed: rather too little is taken for new, or for proven.
                if let Some(before) = self.before_block.clone() {
                    self.session.tables = before.tables;
                    self.session.gone = before.gone;
                }
            }
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::DiscardStmt(_) => self.session.settings = Settings::default(),
            _ => effects::apply(self, statement, facts),
        }
    }

    fn is_new(&self, name: &Name) -> bool {
        self.find(name).is_some_and(|table| table.relation.created_here)
    }

    pub fn schema(&self, name: &Name) -> String {
        let of_path = self.session.settings.search_path.as_ref().map(|(_, first)| first);
        name.schema.as_ref().or(of_path).unwrap_or(&self.default_schema).clone()
    }

    pub fn find(&self, name: &Name) -> Option<&Table> {
        let schema = self.schema(name);
        self.session
            .tables
            .iter()
            .rev()
            .find(|table| table.is(&schema, &name.name))
    }

    pub fn find_mut(&mut self, name: &Name) -> Option<&mut Table> {
        let schema = self.schema(name);
        self.session
            .tables
            .iter_mut()
            .rev()
            .find(|table| table.is(&schema, &name.name))
    }

    pub fn add(&mut self, table: Table) {
        let relation = &table.relation;
        let place = (relation.schema.clone(), relation.name.clone());
        self.session.gone.retain(|gone| *gone != place);
        self.session.tables.retain(|known| !known.is(&place.0, &place.1));
        self.session.tables.push(table);
    }

    /// Dropped or renamed: also what a server still knows by this name.
    pub fn remove(&mut self, schema: String, name: String) -> Option<Table> {
        let at = self.session.tables.iter().rposition(|table| table.is(&schema, &name));
        let table = at.map(|at| self.session.tables.remove(at));
        self.session.gone.push((schema, name));
        table
    }

    fn set(&mut self, set: &VariableSetStmt) {
        if set.is_local && self.before_block.is_none() {
            return;
        }
        let kind = VariableSetKind::try_from(set.kind).unwrap_or(VariableSetKind::Undefined);
        let change = |settings: &mut Settings| match (kind, set.name.to_ascii_lowercase().as_str()) {
            (VariableSetKind::VarResetAll, _) => *settings = Settings::default(),
            (VariableSetKind::VarSetValue, "lockkeeper.override") => {
                settings.override_ = strings(set).into_iter().next().filter(|text| !text.is_empty());
            }
            (VariableSetKind::VarSetDefault | VariableSetKind::VarReset, "lockkeeper.override") => {
                settings.override_ = None;
            }
            (VariableSetKind::VarSetValue, "search_path") => settings.search_path = search_path(&strings(set)),
            (VariableSetKind::VarSetDefault | VariableSetKind::VarReset, "search_path") => settings.search_path = None,
            _ => {}
        };
        if !set.is_local {
            change(&mut self.lasting);
        }
        change(&mut self.session.settings);
    }
}

impl Table {
    fn is(&self, schema: &str, name: &str) -> bool {
        self.relation.schema == schema && self.relation.name == name
    }
}

/// The text values of a SET.
fn strings(set: &VariableSetStmt) -> Vec<String> {
    let text = |argument: &pg_query::Node| match &argument.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => Some(text.sval.clone()),
            _ => None,
        },
        _ => None,
    };
    set.args.iter().filter_map(text).collect()
}

fn search_path(schemas: &[String]) -> Option<(String, String)> {
    let first = schemas
        .iter()
        .find(|schema| !matches!(schema.as_str(), "$user" | "" | "pg_temp" | "pg_catalog"))?;
    let list: Vec<String> = schemas.iter().map(|schema| quote_literal(schema)).collect();
    Some((list.join(", "), first.clone()))
}

/// The table of an UPDATE or DELETE.
fn written(statement: &Statement) -> Option<Name> {
    match &statement.node {
        NodeEnum::UpdateStmt(update) => update.relation.as_ref().map(Name::of),
        NodeEnum::DeleteStmt(delete) => delete.relation.as_ref().map(Name::of),
        _ => None,
    }
}
