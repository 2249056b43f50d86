//! What a rule looks at: one statement, or one action of an ALTER TABLE, with what is known of its tables.

use crate::catalog::{Name, Relation};
use crate::facts::Facts;
use crate::policy::Policy;
use crate::request::Request;
use crate::statement::{Kind, Statement};
use crate::step::Place;
use crate::{about, splice};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType, ColumnDef, Constraint, RangeVar};
use std::borrow::Cow;

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub statement: &'a Statement,
    pub facts: &'a Facts,
    pub policy: &'a Policy,
    pub place: Place,
    /// ALTER TABLE: one action at a time.
    pub action: Option<Action<'a>>,
}

/// One action of an ALTER TABLE: `head text` is a whole statement.
#[derive(Clone, Copy)]
pub(crate) struct Action<'a> {
    pub head: &'a str,
    pub text: &'a str,
    pub command: &'a AlterTableCmd,
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
    pub(crate) fn named(&self, asked: &Name) -> Cow<'a, Relation> {
        self.known.map_or_else(|| Cow::Owned(unknown(asked)), Cow::Borrowed)
    }
}

/// A relation of that name of which nothing is known.
pub(crate) fn unknown(asked: &Name) -> Relation {
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

pub(crate) fn name_of(range: &RangeVar) -> Name {
    Name::of(range)
}

pub(crate) fn sql_name(name: &Name) -> String {
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
        let writes = matches!(self.statement.kind, Kind::Write | Kind::MixedWrite);
        let is_private = |relation: &Relation| match writes {
            true => relation.has_rows_of_its_own_only(),
            false => relation.invisible_to_others(),
        };
        match known {
            None if !self.facts.offline => return None,
            Some(relation) if is_private(relation) => return None,
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
