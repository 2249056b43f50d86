//! What the catalog says about the relations that a statement names: the one question, and its answer decoded.
//!
//! [`Request::of`] collects the names, [`Request::sql`] is a query with one row and one json column that cannot raise an
//! error (it may run inside the client's transaction), [`Facts::decode`] reads the answer.

use super::statement::Statement;
use pg_query::protobuf::RangeVar;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

impl Name {
    /// Without the database, which can only be the current one.
    pub fn of(range: &RangeVar) -> Name {
        Name {
            schema: Some(range.schemaname.clone()).filter(|schema| !schema.is_empty()),
            name: range.relname.clone(),
        }
    }
}

/// The names to ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub relations: Vec<Name>,
    pub functions: Vec<Name>,
    pub types: Vec<Name>,
}

impl Request {
    pub fn of(_statement: &Statement) -> Request {
        Request::default()
    }

    /// One row, one json column; cannot raise an error and waits for no relation lock.
    pub fn sql(&self) -> String {
        String::new()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Facts {
    /// As `server_version_num`: 180004.
    pub server_version: u32,
    pub database: String,
    /// current_user and session_user.
    pub role: String,
    pub session_role: String,
    pub application_name: String,
    /// `current_setting('lockkeeper.override', true)`, empty as null.
    #[serde(rename = "override")]
    pub override_: Option<String>,
    pub time_zone: String,
    pub client_min_messages: String,
    /// Milliseconds, 0 = off.
    pub lock_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    pub relations: Vec<Relation>,
    pub functions: Vec<Function>,
    pub types: Vec<TypeFact>,
    /// What EXPLAIN expects an UPDATE or DELETE to touch; asked separately, None if not asked.
    #[serde(skip)]
    pub estimated_rows: Option<f64>,
    /// No server was asked (`lockkeeper check` without one): relations not listed exist and are large.
    #[serde(skip)]
    pub offline: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Relation {
    /// As the statement named it.
    pub asked: Name,
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// pg_class.relkind: r p i I v m S f t c
    pub kind: char,
    /// pg_class.relpersistence: p u t
    pub persistence: char,
    /// Main fork of the table and its partitions, without indexes.
    pub bytes: u64,
    /// reltuples of the table and its partitions; None if never analyzed.
    pub rows: Option<f64>,
    /// Created by the current transaction: nobody else can see it.
    pub created_here: bool,
    pub is_partition: bool,
    pub owner: String,
    /// For an index: the table it belongs to.
    pub table: Option<Name>,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    pub constraints: Vec<Constraint>,
    pub triggers: Vec<Trigger>,
    /// Names of relations and of constraints in the same schema that begin like this relation's (its first 24 bytes): those
    /// that a name generated from it could collide with.
    #[serde(default)]
    pub taken_relations: Vec<String>,
    #[serde(default)]
    pub taken_constraints: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    pub name: String,
    /// format_type, with typmod: `character varying(10)`.
    pub type_name: String,
    pub not_null: bool,
    pub default: Option<String>,
    /// attidentity: '' a d
    pub identity: String,
    /// attgenerated: '' s v
    pub generated: String,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub valid: bool,
    pub ready: bool,
    pub unique: bool,
    pub primary: bool,
    pub immediate: bool,
    pub partial: bool,
    /// Access method: btree, gin …
    pub method: String,
    /// Key columns in order, null for an expression; without INCLUDE columns.
    pub columns: Vec<Option<String>>,
    /// Every column that the keys, expressions, predicate or INCLUDE mention.
    pub mentions: Vec<String>,
    /// The constraint that it backs.
    pub constraint: Option<String>,
    pub bytes: u64,
    /// pg_get_indexdef
    pub definition: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Constraint {
    pub name: String,
    /// contype: c f p u x n t
    pub kind: char,
    pub validated: bool,
    pub columns: Vec<String>,
    /// pg_get_constraintdef
    pub definition: String,
    /// The table that a foreign key references.
    pub references: Option<Name>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Trigger {
    pub name: String,
    /// tgtype & 1
    pub for_each_row: bool,
    /// Has a transition table (REFERENCING).
    pub transition: bool,
    /// Fires on UPDATE / DELETE.
    pub on_update: bool,
    pub on_delete: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    pub asked: Name,
    /// Any visible function of that name is VOLATILE. A name that was not found is not listed.
    pub volatile: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct TypeFact {
    pub asked: Name,
    /// typtype: b c d e p r m
    pub kind: char,
    /// A domain with a CHECK or NOT NULL, its own or of a domain below it.
    pub constrained: bool,
}

impl Facts {
    /// Reads the answer of [`Request::sql`].
    pub fn decode(json: &[u8]) -> Result<Facts, String> {
        serde_json::from_slice(json).map_err(|e| format!("the catalog query's answer cannot be read: {e}"))
    }

    /// What is known without a server: nothing, so the rules assume that relations exist and are large.
    pub fn offline(server_version: u32) -> Facts {
        Facts {
            server_version,
            offline: true,
            ..Facts::default()
        }
    }

    pub fn relation(&self, name: &Name) -> Option<&Relation> {
        self.relations.iter().find(|r| &r.asked == name)
    }
}

impl Relation {
    /// Smaller than the policy's `small_bytes`, so what is only slow on large tables does not matter.
    pub fn is_small(&self, small_bytes: u64) -> bool {
        self.bytes < small_bytes
    }

    /// Nobody else can see it: created by this transaction, or temporary.
    pub fn invisible_to_others(&self) -> bool {
        self.created_here || self.persistence == 't'
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|i| i.name == name)
    }

    pub fn constraint(&self, name: &str) -> Option<&Constraint> {
        self.constraints.iter().find(|c| c.name == name)
    }

    /// Columns (name, type) by which every row can be told apart and walked in order: the primary key, else a unique,
    /// valid, immediate, whole-table btree index of NOT NULL columns.
    pub fn usable_key(&self) -> Option<Vec<(String, String)>> {
        let usable = |i: &&Index| i.unique && i.valid && i.ready && i.immediate && !i.partial && i.method == "btree";
        let primary_first = self
            .indexes
            .iter()
            .filter(|i| i.primary)
            .chain(self.indexes.iter().filter(|i| !i.primary));
        primary_first.filter(usable).find_map(|index| {
            let of = |name: &Option<String>| {
                let column = self.column(name.as_deref()?)?;
                column.not_null.then(|| (column.name.clone(), column.type_name.clone()))
            };
            index
                .columns
                .iter()
                .map(of)
                .collect::<Option<Vec<_>>>()
                .filter(|key| !key.is_empty())
        })
    }
}
