//! The rule table. One danger a file; a rule is its file and one word here.
//!
//! A rule says what a statement would do to a live table and how the same end state is reached safely. It never decides:
//! what a finding means is the policy's, and how findings become one plan is [`super::compose`]'s.

pub mod attach_partition;
mod block_meaning;
mod blocking_refresh;
mod cascade;
mod change_type;
pub(crate) mod clean_restore;
mod column;
pub(super) mod concurrent_in_transaction;
mod constrained_domain;
mod domain_constraint;
mod drop_column;
mod drop_database;
mod drop_default;
mod drop_key;
mod drop_role;
mod drop_table;
mod drop_view;
mod dynamic_sql;
mod exclusion_constraint;
mod expand;
mod large_write;
pub mod lock_queue;
mod names;
mod no_inherit;
pub(super) mod nonconcurrent_drop_index;
pub(super) mod nonconcurrent_index;
mod nonconcurrent_reindex;
mod partition_lock;
mod partitions;
mod refresh_without_data;
mod rename_column;
mod rename_enum_value;
mod rename_table;
mod rename_type;
mod replica_identity;
mod required_column;
mod rewriting_table;
mod row_policy;
mod row_security;
mod scan_under_lock;
mod serial_column;
pub(super) mod server_fault;
mod set_expression;
pub mod set_not_null;
pub(super) mod steps;
mod stored_generated_column;
pub(super) mod taken;
pub mod tried;
mod truncate;
mod unique_constraint;
mod update_limit;
mod validating_check;
mod validating_foreign_key;
mod volatile_default;

#[cfg(test)]
mod tests;

use super::about;
use super::catalog::{Name, Relation};
use super::facts::Facts;
use super::lock::LockMode;
use super::policy::Policy;
use super::request::Request;
use super::splice;
use super::statement::Statement;
use super::step::{Place, Step};
use super::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ColumnDef, ConstrType, Constraint, RangeVar};
use std::borrow::Cow;

/// One danger, as data: the linter, `lockkeeper rules` and the book print it, plan() calls `check`.
pub struct Rule {
    /// Reads well after "allow": `drop-column`.
    pub name: &'static str,
    /// The strongest table lock that the statement takes when it runs as written.
    pub lock: LockMode,
    /// Which statements, in one sentence.
    pub what: &'static str,
    /// What goes wrong on a live table.
    pub why: &'static str,
    /// Where versions differ; else `13–18`.
    pub versions: &'static str,
    /// What is done or advised instead.
    pub safe: &'static str,
    pub bad: &'static [&'static str],
    pub good: &'static [&'static str],
    pub(super) check: fn(&Subject) -> Option<Found>,
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub statement: &'a Statement,
    pub facts: &'a Facts,
    pub policy: &'a Policy,
    pub place: Place,
    /// ALTER TABLE: one action at a time.
    pub action: Option<Action<'a>>,
}

/// One action of an ALTER TABLE: `head text` is a whole statement.
#[derive(Clone, Copy)]
pub(super) struct Action<'a> {
    pub head: &'a str,
    pub text: &'a str,
    pub command: &'a AlterTableCmd,
}

/// What a rule says. The name and lock are the rule's.
pub(super) struct Found {
    /// What it would do, in one clause without a full stop.
    pub message: String,
    /// The remedy in short, for the error's first line.
    pub short: String,
    /// Safe SQL, ready to copy.
    pub hint: String,
    pub remedy: Remedy,
    /// None: the statement is judged a matter of the object's state (55000), not of its syntax.
    pub sqlstate: Option<&'static str>,
}

pub(super) enum Remedy {
    Steps(Vec<Step>),
    /// No safe form that could be proven: what "rewrite" in a policy means then is "reject". The reason, if there is more to say.
    None(Option<String>),
}

impl Found {
    /// With the steps as the remedy and as the hint.
    fn steps(message: String, short: &str, steps: Result<Vec<Step>, String>, otherwise: &str) -> Found {
        match steps {
            Ok(steps) => Found {
                message,
                short: short.to_string(),
                hint: steps::as_script(&steps),
                remedy: Remedy::Steps(steps),
                sqlstate: None,
            },
            Err(reason) => Found {
                message,
                short: short.to_string(),
                hint: otherwise.to_string(),
                remedy: Remedy::None(Some(reason)),
                sqlstate: None,
            },
        }
    }

    /// With no remedy but the advice.
    fn advice(message: String, short: &str, hint: String) -> Found {
        Found {
            message,
            short: short.to_string(),
            hint,
            remedy: Remedy::None(None),
            sqlstate: None,
        }
    }
}

/// In the order in which the remedies are taken where several rules find something in one action.
pub static RULES: &[Rule] = &[
    clean_restore::RULE,
    concurrent_in_transaction::RULE,
    server_fault::RULE,
    nonconcurrent_index::RULE,
    nonconcurrent_drop_index::RULE,
    nonconcurrent_reindex::RULE,
    set_not_null::RULE,
    stored_generated_column::RULE,
    constrained_domain::RULE,
    volatile_default::RULE,
    serial_column::RULE,
    validating_check::RULE,
    validating_foreign_key::RULE,
    unique_constraint::RULE,
    exclusion_constraint::RULE,
    scan_under_lock::RULE,
    domain_constraint::RULE,
    change_type::RULE,
    set_expression::RULE,
    rename_column::RULE,
    rename_table::RULE,
    rename_type::RULE,
    rename_enum_value::RULE,
    drop_column::RULE,
    drop_table::RULE,
    drop_database::RULE,
    drop_view::RULE,
    drop_key::RULE,
    drop_default::RULE,
    drop_role::RULE,
    cascade::RULE,
    truncate::RULE,
    rewriting_table::RULE,
    blocking_refresh::RULE,
    refresh_without_data::RULE,
    row_policy::RULE,
    row_security::RULE,
    replica_identity::RULE,
    required_column::RULE,
    no_inherit::RULE,
    partition_lock::RULE,
    attach_partition::RULE,
    dynamic_sql::RULE,
    block_meaning::RULE,
    large_write::RULE,
    update_limit::RULE,
    lock_queue::RULE,
];

/// For the audit log: why an action that looks dangerous is none.
pub(super) fn why_instant(subject: &Subject) -> Option<String> {
    let (_, added) = subject.added_column()?;
    column::constraint(added, ConstrType::ConstrDefault)?;
    (!column::differs_by_row(subject, added))
        .then(|| "no rewrite: PostgreSQL 11 and later keep a non-volatile default in the catalog".to_string())
}

pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// An existing table that others can see, as far as it is known.
pub(crate) struct Table<'a> {
    /// None only offline.
    pub known: Option<&'a Relation>,
    /// As the client called it, quoted where needed: for messages and for SQL.
    pub sql: String,
    pub small: bool,
}

impl<'a> Table<'a> {
    /// "users (211 MB, about 2000000 rows)".
    pub fn described(&self) -> String {
        // Offline a table may be known by what has been done to it, and its size is not.
        // Nor has a view or a foreign table one.
        let sized = |relation: &&Relation| relation.bytes != u64::MAX && !matches!(relation.kind, 'v' | 'f');
        let Some(relation) = self.known.filter(sized) else {
            return self.sql.clone();
        };
        let size = match relation.bytes {
            b if b >= 10 << 30 => format!("{} GB", b >> 30),
            b if b >= 10 << 20 => format!("{} MB", b >> 20),
            b => format!("{} kB", b >> 10),
        };
        match relation.rows {
            Some(rows) => format!("{} ({size}, about {rows:.0} rows)", self.sql),
            None => format!("{} ({size})", self.sql),
        }
    }

    pub fn kind(&self) -> char {
        self.known.map_or('r', |r| r.kind)
    }

    /// The name without its schema.
    pub fn bare(&self) -> String {
        match self.known {
            Some(relation) => relation.name.clone(),
            None => self
                .sql
                .rsplit('.')
                .next()
                .unwrap_or(&self.sql)
                .trim_matches('"')
                .to_string(),
        }
    }

    /// What the naming rules need. Offline nothing is known to be taken.
    fn named(&self, asked: &Name) -> Cow<'a, Relation> {
        self.known.map_or_else(|| Cow::Owned(unknown(asked)), Cow::Borrowed)
    }
}

/// The name that the server will give to the unnamed constraint that this action adds.
pub(super) fn name_to_be(facts: &Facts, table: Option<&Name>, command: &AlterTableCmd) -> Option<String> {
    let relation = facts.relation(table?)?;
    let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|d| d.node.as_ref()) else {
        return None;
    };
    match constraint.contype() {
        _ if !constraint.conname.is_empty() => Some(constraint.conname.clone()),
        ConstrType::ConstrCheck => names::check(relation, constraint),
        ConstrType::ConstrForeign => Some(names::foreign_key(relation, &tree::names(&constraint.fk_attrs))),
        _ => None,
    }
}

/// A relation of that name of which nothing is known.
fn unknown(asked: &Name) -> Relation {
    Relation {
        asked: asked.clone(),
        schema: asked.schema.clone().unwrap_or_else(|| "public".to_string()),
        name: asked.name.clone(),
        kind: 'r',
        persistence: 'p',
        bytes: u64::MAX,
        ..Relation::default()
    }
}

pub(super) fn name_of(range: &RangeVar) -> Name {
    Name::of(range)
}

pub(super) fn sql_name(name: &Name) -> String {
    match &name.schema {
        Some(schema) => splice::qualified(schema, &name.name),
        None => splice::quote_ident(&name.name),
    }
}

impl<'a> Subject<'a> {
    /// As 15, 18.
    pub fn version(&self) -> u32 {
        self.facts.server_version / 10000
    }

    /// None where nothing can go wrong: it does not exist (the server says so itself), or nobody else can see it.
    pub fn table(&self, name: &Name) -> Option<Table<'a>> {
        let known = self.facts.relation(name);
        match known {
            None if !self.facts.offline => return None,
            Some(relation) if relation.invisible_to_others() => return None,
            _ => {}
        }
        Some(Table {
            known,
            sql: sql_name(name),
            small: known.is_some_and(|r| r.is_small(self.policy.small_bytes)),
        })
    }

    /// The same, without small ones: for what only matters on large tables.
    pub fn large(&self, name: &Name) -> Option<Table<'a>> {
        self.table(name).filter(|table| !table.small)
    }

    /// Whether the policy lets this role run it in spite of rules.
    pub fn may_override(&self) -> bool {
        let named = Request::of(self.statement).relations;
        let tables = about::tables(self.statement, &named, self.facts);
        self.policy.may_override(&about::policy_subject(self.facts, &tables))
    }

    /// The way past a rule for what nothing uses any more, in words that count for this session.
    pub fn let_through(&self, rule: &str, why: &str, sql: &str) -> String {
        let role = &self.facts.role;
        match (self.may_override(), self.facts.pooled || self.facts.tool.is_some()) {
            (false, _) => format!("{sql};  -- by a role that the policy lets override {rule}, as {role} is none"),
            // A setting does not count behind a pooler, and a migration tool may send the next statement elsewhere.
            (true, true) => format!("/* lockkeeper: allow={rule} reason=\"{why}\" */ {sql};"),
            (true, false) => {
                format!("SET lockkeeper.override = '{rule}: {why}'; {sql}; RESET lockkeeper.override;")
            }
        }
    }

    /// The table of an ALTER TABLE.
    pub fn altered(&self) -> Option<Name> {
        match &self.statement.node {
            NodeEnum::AlterTableStmt(alter) => alter.relation.as_ref().map(name_of),
            _ => None,
        }
    }

    /// ALTER TYPE … ATTRIBUTE, which the grammar has as an ALTER TABLE.
    pub fn alters_type(&self) -> bool {
        match &self.statement.node {
            NodeEnum::AlterTableStmt(alter) => alter.objtype() == pg_query::protobuf::ObjectType::ObjectType,
            _ => false,
        }
    }

    /// All actions of the ALTER TABLE.
    pub fn actions(&self) -> impl Iterator<Item = &'a AlterTableCmd> {
        self.statement.actions()
    }

    /// ALTER TABLE … ONLY.
    pub fn only(&self) -> bool {
        match &self.statement.node {
            NodeEnum::AlterTableStmt(alter) => alter.relation.as_ref().is_some_and(|r| !r.inh),
            _ => false,
        }
    }

    /// The action, if it is of this type.
    pub fn action_of(&self, wanted: AlterTableType) -> Option<Action<'a>> {
        self.action.filter(|action| action.command.subtype() == wanted)
    }

    /// The column that an ADD COLUMN action adds.
    pub fn added_column(&self) -> Option<(Action<'a>, &'a ColumnDef)> {
        let action = self.action_of(AlterTableType::AtAddColumn)?;
        match action.command.def.as_ref()?.node.as_ref()? {
            NodeEnum::ColumnDef(column) => Some((action, column)),
            _ => None,
        }
    }

    /// The table has a constraint of that name, and not as the trace of an unfinished run: the server says so at once.
    pub fn name_is_taken(&self, table: &Table, constraint: &Constraint) -> bool {
        let there = table.known.and_then(|r| r.constraint(&constraint.conname));
        there.is_some_and(|c| !c.comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: ")))
            && !self.statement.all_actions().drops_constraint(&constraint.conname)
    }

    /// The table constraint that an ADD CONSTRAINT action adds.
    pub fn added_constraint(&self) -> Option<(Action<'a>, &'a Constraint)> {
        let action = self.action_of(AlterTableType::AtAddConstraint)?;
        match action.command.def.as_ref()?.node.as_ref()? {
            NodeEnum::Constraint(constraint) => Some((action, constraint)),
            _ => None,
        }
    }
}
