//! What the files have said so far that a server would know when the next statement runs: the tables that they created, what
//! they changed on others, the override and the search_path that they set, and whether a transaction is open.

use super::effects;
use super::journal::Journal;
use super::objects::Objects;
use super::relations::{add_columns, old_relation};
use super::tables::{self, Entry, Key, Tables};
use super::tool::Transaction;
use crate::plan::Place;
use crate::plan::batches::{Target, target};
use crate::plan::catalog::{Name, Relation};
use crate::plan::facts::Facts;
use crate::plan::lock::LockMode;
use crate::plan::locks;
use crate::plan::request::Request;
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::{TransactionStmtKind, VariableSetKind, VariableSetStmt, a_const::Val};
use std::collections::BTreeMap;

pub struct Known {
    pub tables: Tables,
    pub objects: Objects,
    settings: Settings,
    block: Option<Block>,
    /// The strongest lock that the open transaction holds on each table.
    locks: Journal<Key, LockMode>,
    /// What COMMIT leaves of the override and the search_path: SET LOCAL ends with the transaction.
    lasting: Settings,
    /// One message of several statements: outside a block there is always an implicit transaction.
    implicit: bool,
    /// The file's whole session is one transaction of its tool's.
    of_tool: bool,
}

/// A lock that stays until the transaction ends.
#[derive(Clone, Debug)]
pub struct Held {
    /// Schema and name.
    pub table: (String, String),
    pub mode: LockMode,
    pub line: usize,
}

/// A transaction that is open.
#[derive(Default)]
struct Block {
    /// The settings before it.
    settings: Settings,
    /// Table locks, in the order in which they were taken.
    held: Vec<Held>,
    savepoints: Vec<Savepoint>,
    /// The line of the file's own BEGIN; 0 if it is not the file's.
    begun: usize,
    /// Of types that are older than it.
    enum_values: Vec<String>,
}

struct Savepoint {
    name: String,
    tables: tables::Mark,
    locks: usize,
    objects: (usize, usize),
    held: usize,
}

#[derive(Clone, Default)]
struct Settings {
    override_: Option<String>,
    /// As it stands behind `SET search_path =`, and its first schema.
    search_path: Option<(String, String)>,
    /// Milliseconds; None where the files have not set it.
    lock_timeout_ms: Option<u64>,
    statement_timeout_ms: Option<u64>,
    /// Of [`OF_SESSION`], as they stand behind `SET … =`.
    others: BTreeMap<&'static str, String>,
}

/// What the server reads texts and types by.
const OF_SESSION: [&str; 4] = ["timezone", "datestyle", "intervalstyle", "default_tablespace"];

impl Known {
    pub fn new(default_schema: String) -> Known {
        Known {
            tables: Tables::new(default_schema),
            objects: Objects::default(),
            settings: Settings::default(),
            block: None,
            locks: Journal::default(),
            lasting: Settings::default(),
            implicit: false,
            of_tool: false,
        }
    }

    /// A part of it begins. `several`: it holds more than one statement.
    pub fn start_part(&mut self, transaction: Transaction, several: bool) {
        match transaction {
            Transaction::Statement => {}
            Transaction::Message => {
                self.implicit = several;
                if several {
                    self.begin();
                }
            }
            Transaction::File | Transaction::All => {
                self.of_tool = true;
                self.begin();
            }
        }
    }

    pub fn end_part(&mut self, transaction: Transaction) {
        self.implicit = false;
        match transaction {
            Transaction::All => return,
            Transaction::Statement => self.rollback(),
            Transaction::Message | Transaction::File => self.commit(),
        }
        self.of_tool = false;
    }

    /// Its session ends, or at least must not be counted on.
    pub fn end_file(&mut self) {
        if self.block.is_none() {
            self.set_to(Settings::default());
        }
    }

    pub fn end_group(&mut self) {
        self.commit();
        self.of_tool = false;
        self.set_to(Settings::default());
    }

    /// The open transaction is the tool's own, not one that the file has begun.
    pub fn is_of_tool(&self) -> bool {
        self.of_tool && self.block.is_some()
    }

    /// A block that the file itself has begun is open: the line of its BEGIN.
    pub fn left_open(&self) -> Option<usize> {
        self.block.as_ref().map(|block| block.begun).filter(|line| *line > 0)
    }

    pub fn is_open(&self) -> bool {
        self.block.is_some()
    }

    /// A value that ALTER TYPE … ADD VALUE has put into an enum in this transaction, by a text that a statement has.
    pub fn new_enum_value(&self, sql: &str) -> Option<&str> {
        let values = self.block.as_ref()?.enum_values.iter().map(String::as_str);
        values.into_iter().find(|value| sql.contains(&quote_literal(value)))
    }

    /// The locks that the open transaction holds.
    pub fn held(&self) -> &[Held] {
        self.block.as_ref().map_or(&[], |block| &block.held)
    }

    pub fn place(&self) -> Place {
        match self.block {
            Some(_) => Place::Block,
            None => Place::Alone,
        }
    }

    /// As SET LOCAL, what the files have set that the server reads their statements by.
    pub fn session_sql(&self) -> String {
        let path = self.settings.search_path.as_ref().map_or("DEFAULT", |(path, _)| path);
        let mut sql = format!("SET LOCAL search_path = {path}");
        for name in OF_SESSION {
            let value = self.settings.others.get(name).map_or("DEFAULT", String::as_str);
            sql.push_str(&format!("; SET LOCAL {name} = {value}"));
        }
        sql
    }

    /// `base` is what the server says, or the offline facts.
    pub fn facts(&self, statement: &Statement, base: Facts) -> Facts {
        let mut facts = base;
        if self.settings.override_.is_some() {
            facts.override_.clone_from(&self.settings.override_);
        }
        if let Some(ms) = self.settings.lock_timeout_ms {
            facts.lock_timeout_ms = ms;
        }
        if let Some(ms) = self.settings.statement_timeout_ms {
            facts.statement_timeout_ms = ms;
        }
        let judged = matches!(
            statement.kind,
            Kind::Ddl | Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite
        );
        if !judged {
            return facts;
        }
        let request = Request::of(statement);
        let mut asked = request.relations;
        let tables_of_indexes = asked
            .iter()
            .filter_map(|name| self.tables.find(name)?.relation.table.clone());
        asked.extend(tables_of_indexes.collect::<Vec<_>>());
        for name in asked {
            self.relation(&mut facts, name, statement);
        }
        self.objects.facts(&mut facts, (&request.functions, &request.types));
        // Its form depends on the key, and with none it would be refused.
        let limited = match &statement.kind {
            Kind::LimitedWrite(_) if facts.offline => written(statement)
                .filter(|name| facts.relation(name).is_none_or(|relation| relation.indexes.is_empty())),
            _ => None,
        };
        if let Some(name) = limited.filter(|name| !self.tables.is_small(name)) {
            facts.relations.retain(|relation| relation.asked != name);
            facts.relations.push(old_relation(&name, &self.tables.schema(&name)));
        }
        facts
    }

    /// As the files have left it.
    fn relation(&self, facts: &mut Facts, name: Name, statement: &Statement) {
        let on_server = facts.relation(&name).cloned();
        let schema = on_server.as_ref().map(|relation| relation.schema.clone());
        let key = (schema.unwrap_or_else(|| self.tables.schema(&name)), name.name.clone());
        let held = self.holds(&key, LockMode::Share);
        let relation = match (self.tables.get(&key), on_server) {
            (Some(Entry::Gone), _) => {
                facts.relations.retain(|relation| relation.asked != name);
                return;
            }
            (Some(Entry::There(table)), on_server) => {
                let now = &table.relation;
                let mut relation = match on_server {
                    Some(server) if table.of_server => Relation {
                        columns: now.columns.clone(),
                        indexes: now.indexes.clone(),
                        constraints: now.constraints.clone(),
                        persistence: now.persistence,
                        bytes: server.bytes.max(now.bytes),
                        never_filled: server.never_filled && now.never_filled,
                        ..server
                    },
                    _ => now.clone(),
                };
                if !table.complete {
                    add_columns(&mut relation, statement);
                }
                relation
            }
            (None, Some(server)) if held => server,
            (None, None) if held && facts.offline => {
                let mut relation = old_relation(&name, &key.0);
                add_columns(&mut relation, statement);
                relation
            }
            (None, _) => return,
        };
        facts.relations.retain(|relation| relation.asked != name);
        facts.relations.push(Relation {
            asked: name,
            held,
            ..relation
        });
    }

    /// What an UPDATE or DELETE changes; where nothing is known of it, an old table.
    pub fn target(&self, statement: &Statement, facts: &Facts) -> Option<Relation> {
        let name = written(statement)?;
        Some(
            facts
                .relation(&name)
                .cloned()
                .unwrap_or_else(|| self.tables.or_old(&name)),
        )
    }

    /// The open transaction holds that lock on it, or a stronger one.
    pub fn holds(&self, key: &Key, mode: LockMode) -> bool {
        self.locks.get(key).is_some_and(|held| *held >= mode)
    }

    /// An UPDATE or DELETE of an old table that is not pinned to single rows. How many it touches only a server can
    /// tell. A column `id` is taken for the key.
    pub fn may_be_large(&self, statement: &Statement, small_bytes: u64) -> bool {
        let Some(name) = written(statement).filter(|_| matches!(statement.kind, Kind::Write)) else {
            return false;
        };
        let old = self.tables.or_old(&name);
        !self.tables.is_small(&name) && target(statement, &old, small_bytes) == Target::Unknown
    }

    /// The statement has run; `facts` are those that it was judged by.
    pub fn ran(&mut self, statement: &Statement, facts: &Facts, line: usize) {
        match &statement.kind {
            Kind::Begin { .. } => {
                self.begin();
                if let Some(block) = &mut self.block
                    && !self.of_tool
                {
                    block.begun = line;
                }
            }
            Kind::Commit { chain } => {
                self.commit();
                self.chain(*chain);
            }
            Kind::Rollback { chain } => {
                self.rollback();
                self.chain(*chain);
            }
            _ => {
                self.take_locks(statement, facts, line);
                self.remember(statement, facts);
            }
        }
    }

    fn begin(&mut self) {
        if self.block.is_none() {
            self.tables.begin();
            self.objects.begin();
            self.locks = Journal::default();
            self.locks.begin();
            self.lasting = self.settings.clone();
            self.block = Some(Block {
                settings: self.settings.clone(),
                ..Block::default()
            });
        }
    }

    fn commit(&mut self) {
        self.of_tool = false;
        if self.block.take().is_none() {
            return;
        }
        self.locks = Journal::default();
        let lasting = std::mem::take(&mut self.lasting);
        self.set_to(lasting);
        self.tables.commit();
        self.objects.commit();
    }

    fn rollback(&mut self) {
        self.of_tool = false;
        if let Some(block) = self.block.take() {
            self.locks = Journal::default();
            self.tables.rollback();
            self.objects.rollback();
            self.set_to(block.settings);
        }
    }

    fn chain(&mut self, chain: bool) {
        if chain || self.implicit {
            self.begin();
        }
    }

    fn take_locks(&mut self, statement: &Statement, facts: &Facts, line: usize) {
        if self.block.is_none() {
            return;
        }
        let mut taken = Vec::new();
        for (name, mode) in locks::locks(statement) {
            let of_files = || self.tables.find(&name).map(|table| &table.relation);
            let relation = facts.relation(&name).or_else(of_files);
            if mode == LockMode::None || relation.is_some_and(Relation::invisible_to_others) {
                continue;
            }
            // Of an index its table's readers and writers wait.
            let named = relation.and_then(|index| index.table.as_ref()).unwrap_or(&name);
            let schema = relation.map(|relation| relation.schema.clone());
            let key = match relation {
                Some(index) if index.table.is_some() => (self.tables.schema(named), named.name.clone()),
                _ => (schema.unwrap_or_else(|| self.tables.schema(&name)), name.name.clone()),
            };
            // What does not exist is not locked.
            if relation.is_some() || facts.offline {
                taken.push(Held { table: key, mode, line });
            }
        }
        for held in taken {
            if self.holds(&held.table, held.mode) {
                continue;
            }
            self.locks.insert(held.table.clone(), held.mode);
            if let Some(block) = &mut self.block {
                block.held.push(held);
            }
        }
    }

    fn remember(&mut self, statement: &Statement, facts: &Facts) {
        match &statement.node {
            NodeEnum::TransactionStmt(transaction) => {
                let name = &transaction.savepoint_name;
                match TransactionStmtKind::try_from(transaction.kind) {
                    Ok(TransactionStmtKind::TransStmtSavepoint) => self.savepoint(name),
                    Ok(TransactionStmtKind::TransStmtRollbackTo) => self.back_to(name),
                    _ => {}
                }
            }
            NodeEnum::AlterEnumStmt(alter) if alter.old_val.is_empty() => {
                let is_new = self.objects.made_here(&alter.type_name);
                if let Some(block) = self.block.as_mut().filter(|_| !is_new) {
                    block.enum_values.push(alter.new_val.clone());
                }
            }
            NodeEnum::VariableSetStmt(set) => self.set(set),
            NodeEnum::DiscardStmt(_) => self.set_to(Settings::default()),
            _ => {
                let default = self.tables.schema(&Name::default());
                self.objects.apply(statement, facts, &default);
                effects::apply(&mut self.tables, statement, facts);
            }
        }
    }

    fn savepoint(&mut self, name: &str) {
        let (tables, objects, locks) = (self.tables.mark(), self.objects.mark(), self.locks.mark());
        if let Some(block) = &mut self.block {
            block.savepoints.push(Savepoint {
                name: name.to_owned(),
                tables,
                locks,
                objects,
                held: block.held.len(),
            });
        }
    }

    fn back_to(&mut self, name: &str) {
        let Some(block) = &mut self.block else { return };
        let Some(at) = block.savepoints.iter().rposition(|point| point.name == name) else {
            return;
        };
        block.savepoints.truncate(at + 1);
        let point = &block.savepoints[at];
        block.held.truncate(point.held);
        self.locks.back_to(point.locks);
        self.tables.back_to(point.tables);
        self.objects.back_to(point.objects);
    }

    fn set_to(&mut self, settings: Settings) {
        self.tables.first_of_path = settings.search_path.as_ref().map(|(_, first)| first.clone());
        self.settings = settings;
    }

    fn set(&mut self, set: &VariableSetStmt) {
        if set.is_local && self.block.is_none() {
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
            (VariableSetKind::VarSetValue, "lock_timeout") => settings.lock_timeout_ms = milliseconds(set),
            (VariableSetKind::VarSetValue, "statement_timeout") => settings.statement_timeout_ms = milliseconds(set),
            (VariableSetKind::VarSetValue, name) if OF_SESSION.contains(&name) => {
                let value: Vec<String> = strings(set).iter().map(|value| quote_literal(value)).collect();
                if let Some(name) = OF_SESSION
                    .iter()
                    .find(|known| **known == name)
                    .filter(|_| !value.is_empty())
                {
                    settings.others.insert(name, value.join(", "));
                }
            }
            (VariableSetKind::VarSetDefault | VariableSetKind::VarReset, name) if OF_SESSION.contains(&name) => {
                settings.others.remove(name);
            }
            (_, "lock_timeout") => settings.lock_timeout_ms = None,
            (_, "statement_timeout") => settings.statement_timeout_ms = None,
            _ => {}
        };
        if !set.is_local {
            change(&mut self.lasting);
        }
        let mut settings = std::mem::take(&mut self.settings);
        change(&mut settings);
        self.set_to(settings);
    }
}

/// `SET lock_timeout = 500`, `= '2s'`.
fn milliseconds(set: &VariableSetStmt) -> Option<u64> {
    let NodeEnum::AConst(constant) = set.args.first()?.node.as_ref()? else {
        return None;
    };
    match constant.val.as_ref()? {
        Val::Ival(number) => u64::try_from(number.ival).ok(),
        Val::Sval(text) => {
            let text = text.sval.trim();
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let unit = match text[end..].trim() {
                "" | "ms" => 1,
                "s" => 1_000,
                "min" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            text[..end].parse::<u64>().ok()?.checked_mul(unit)
        }
        _ => None,
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
