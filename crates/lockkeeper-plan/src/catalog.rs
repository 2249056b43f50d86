//! What the server has: names, and relations with their columns, indexes, constraints, triggers and rules, as the catalog says.

use pg_query::protobuf::RangeVar;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Relation {
    /// As the statement named it.
    pub asked: Name,
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// pg_class.relkind: r p i I v m S f t c
    pub kind: char,
    /// pg_class.relpersistence: p u t, or ? where no server says it
    pub persistence: char,
    /// Main fork of the table and its partitions, without indexes; by pg_class.relpages while another session holds or awaits
    /// ACCESS EXCLUSIVE on it.
    pub bytes: u64,
    /// reltuples of the table and its partitions; None if never analyzed.
    pub rows: Option<f64>,
    /// A table whose file is the one that it was made with, and empty, and into which no row was ever put.
    pub never_filled: bool,
    /// Created by the current transaction: nobody else can see it.
    pub created_here: bool,
    pub is_partition: bool,
    /// It inherits from nothing, is no partition, and nothing inherits from it.
    #[serde(default)]
    pub alone: bool,
    /// What it inherits from, or is a partition of.
    #[serde(default)]
    pub parents: Vec<Name>,
    /// FOR VALUES … or DEFAULT; empty where it could not be asked for a lock.
    pub bound: Option<String>,
    /// `RANGE (day)`
    pub partition_key: Option<String>,
    /// DETACH CONCURRENTLY was begun and not finished.
    #[serde(default)]
    pub detach_pending: bool,
    pub comment: Option<String>,
    pub access_method: Option<String>,
    /// By name, the database's own too.
    pub tablespace: Option<String>,
    /// This session holds SHARE or a stronger lock on it.
    pub held: bool,
    /// A DO block takes such a lock before the statement that is judged.
    #[serde(skip)]
    pub held_in_block: bool,
    pub owner: String,
    /// The OIDs of this relation and of all that inherit from it; only asked for an UPDATE or DELETE.
    #[serde(default)]
    pub tree: Vec<u32>,
    /// Of a partitioned table: the columns of unique keys that all its partitions have; only asked for an UPDATE or DELETE.
    #[serde(default)]
    pub leaf_keys: Vec<Vec<String>>,
    /// Of a view; only asked for an UPDATE or DELETE.
    pub view: Option<View>,
    /// CREATE RULE, other than a view's own.
    #[serde(default)]
    pub rules: Vec<RewriteRule>,
    /// An UPDATE, DELETE or INSERT of it may be made another statement by a rule: its own, or of what it shows.
    #[serde(default)]
    pub ruled: bool,
    /// None: every row is seen.
    pub row_security: Option<RowSecurity>,
    /// There is a table `lockkeeper.job` that the role may read; only in the light question's answer.
    pub has_jobs: bool,
    /// For an index: the table it belongs to.
    pub table: Option<Name>,
    /// One of its indexes is invalid, or one of its constraints not validated.
    #[serde(default)]
    pub flawed: bool,
    #[serde(default)]
    pub columns: Vec<Column>,
    #[serde(default)]
    pub indexes: Vec<Index>,
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    #[serde(default)]
    pub triggers: Vec<Trigger>,
    /// What depends on a column other than its default, its table's own indexes and its constraints; only asked where a column may
    /// be replaced by another.
    #[serde(default)]
    pub column_users: Vec<ColumnUser>,
    /// In a publication; asked with column_users.
    #[serde(default)]
    pub published: bool,
    /// Names that the catalog has, shared by all relations whose names begin in the same way.
    #[serde(skip)]
    pub taken: Arc<Taken>,
    /// Names that are not there yet, but will be.
    #[serde(skip)]
    pub taken_relations: HashSet<String>,
    #[serde(skip)]
    pub taken_constraints: HashSet<String>,
    /// How many names like one that is to be made are known as taken.
    #[serde(skip)]
    pub passes: Passes,
}

/// Names of relations, and of constraints with their tables, that begin with a stem: those that a name generated from a relation of
/// that stem could collide with. In every schema of the relations asked about: so that a name may count as taken that is another
/// schema's.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub(super) relations: Vec<String>,
    pub(super) constraints: Vec<(String, u32)>,
}

/// Of a name that is generated from another the server leaves so much at least. As in the catalog query.
pub(super) fn stem(name: &str) -> &str {
    let is_plain = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let characters = if is_plain { 24 } else { 6 };
    name.char_indices()
        .nth(characters)
        .map_or(name, |(end, _)| &name[..end])
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Column {
    pub name: String,
    /// format_type, with typmod: `character varying(10)`.
    pub type_name: String,
    /// Of a domain: the type below all domains.
    #[serde(default)]
    pub base_type: Option<String>,
    #[serde(default)]
    pub is_enum: bool,
    /// Proven: a NOT VALID constraint does not count.
    pub not_null: bool,
    /// Of a generated column its expression. Empty where it could not be asked for a lock.
    pub default: Option<String>,
    /// attidentity: '' a d
    pub identity: String,
    /// attgenerated: '' s v
    pub generated: String,
    #[serde(default)]
    pub comment: Option<String>,
    /// As SQL, where it is not the type's own; asked with column_users.
    #[serde(default)]
    pub collation: Option<String>,
    /// The planner has statistics of it; only asked for an UPDATE or DELETE, else true.
    #[serde(default)]
    pub analyzed: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
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
    /// The schemas of the operators by which a btree's keys are in order; only asked for an UPDATE or DELETE.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Every column that the keys, expressions, predicate or INCLUDE mention.
    pub mentions: Vec<String>,
    /// The partitioned index that it is a part of.
    pub parent: Option<String>,
    /// The constraint that it backs.
    pub constraint: Option<String>,
    pub bytes: u64,
    /// What its definition does not say, as a clause of a sentence; asked with column_users.
    pub special: Option<String>,
    /// pg_get_indexdef; empty where it could not be asked for a lock.
    pub definition: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Constraint {
    pub name: String,
    /// contype: c f p u x n t
    pub kind: char,
    pub validated: bool,
    pub columns: Vec<String>,
    /// pg_get_constraintdef; empty where it could not be asked for a lock.
    pub definition: String,
    /// The table that a foreign key references.
    pub references: Option<Name>,
    pub comment: Option<String>,
}

/// Of names that are numbered because others have them, the first number that was not taken: thousands of them in one statement are
/// not each counted from the beginning. What is taken never becomes free again, but in another copy of the facts, which counts anew.
#[derive(Debug, Default)]
pub struct Passes(Mutex<HashMap<(&'static str, String, String), usize>>);

impl Clone for Passes {
    fn clone(&self) -> Passes {
        Passes::default()
    }
}

impl Passes {
    /// The first number from 0 on whose name is free.
    pub fn first(&self, key: (&'static str, String, String), is_free: impl Fn(usize) -> bool) -> usize {
        let mut passes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pass = passes.entry(key).or_default();
        while !is_free(*pass) {
            *pass += 1;
        }
        *pass
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Trigger {
    pub name: String,
    /// tgtype & 1
    pub for_each_row: bool,
    /// Has a transition table (REFERENCING).
    pub transition: bool,
    #[serde(default)]
    pub before: bool,
    /// By ALTER TABLE … DISABLE TRIGGER, or by session_replication_role.
    #[serde(default)]
    pub disabled: bool,
    /// ENABLE ALWAYS or ENABLE REPLICA: fires where session_replication_role is replica.
    #[serde(default)]
    pub on_replica: bool,
    /// UPDATE OF …: of some columns only.
    #[serde(default)]
    pub of_columns: bool,
    /// Fires on UPDATE / DELETE.
    pub on_update: bool,
    pub on_delete: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ColumnUser {
    pub column: String,
    /// `the view totals`
    pub what: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct RewriteRule {
    pub name: String,
    pub on_update: bool,
    pub on_delete: bool,
}

/// What a view is made of, as far as it decides whether an UPDATE or DELETE through it can be split.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct View {
    /// The only relation that it reads.
    pub base: Option<u32>,
    /// pg_relation_is_updatable without triggers: 4 is UPDATE, 16 DELETE. 0 where it could not be asked for a lock.
    pub writes: i32,
    /// Its columns that are plain columns of the base: their names here and there.
    pub columns: Vec<(String, String)>,
    /// security_barrier
    pub barrier: bool,
    pub subselect: bool,
    /// A function that it calls which may answer otherwise from batch to batch.
    pub unsteady: Option<String>,
    /// Which rows it shows may depend on the session, not only on the role.
    pub opaque: bool,
}

/// The policies that decide which rows the role may see and change.
#[derive(Clone, Debug, Deserialize)]
pub struct RowSecurity {
    /// The settings that the policies read, and what they are now.
    pub settings: BTreeMap<String, String>,
    /// They also ask functions or other tables, which may decide by something else of the session.
    pub opaque: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    pub asked: Name,
    /// Any visible function of that name is VOLATILE. A name that was not found is not listed.
    pub volatile: bool,
    /// All of them are IMMUTABLE.
    #[serde(default)]
    pub immutable: bool,
    /// All of them are the server's own.
    #[serde(default)]
    pub built_in: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TypeFact {
    pub asked: Name,
    /// typtype: b c d e p r m
    pub kind: char,
    /// A domain with a CHECK or NOT NULL, its own or of a domain below it.
    pub constrained: bool,
    /// Of a domain: the type below all domains.
    pub base: Option<String>,
    pub not_null: bool,
    /// Of a domain: it has a default, its own or of a domain below it.
    pub has_default: bool,
    /// pg_get_constraintdef: `CHECK ((VALUE > 0))`
    pub checks: Vec<String>,
    /// Tables with columns of it, qualified and quoted, and their size; only asked when the domain is changed.
    pub used_by: Vec<String>,
    pub used_bytes: u64,
}

/// Also where nothing counts as small, what is empty is.
pub fn is_small(bytes: u64, small_bytes: u64) -> bool {
    bytes < small_bytes.max(1)
}

impl Relation {
    /// Empty, or smaller than the policy's `small_bytes`, so what is only slow on large tables does not matter.
    pub fn is_small(&self, small_bytes: u64) -> bool {
        is_small(self.bytes, small_bytes)
    }

    /// A relation other than its own indexes has that name, or will have it.
    pub fn relation_is_taken(&self, name: &str) -> bool {
        let is_own = || {
            self.indexes
                .iter()
                .any(|index| index.name == name && index.schema == self.schema)
        };
        self.taken_relations.contains(name) || (self.taken.relations.iter().any(|taken| taken == name) && !is_own())
    }

    /// A constraint of another table has that name, or one will have it.
    pub fn constraint_is_taken(&self, name: &str) -> bool {
        let elsewhere = |(taken, of): &(String, u32)| taken == name && *of != self.oid;
        self.taken_constraints.contains(name) || self.taken.constraints.iter().any(elsewhere)
    }

    pub fn qualified(&self) -> Name {
        Name {
            schema: Some(self.schema.clone()),
            name: self.name.clone(),
        }
    }

    /// Nobody else can see it: created by this transaction, or temporary.
    pub fn invisible_to_others(&self) -> bool {
        self.created_here || self.persistence == 't'
    }

    /// So are the rows that are written by it: those behind a view, or of another server, may be everybody's.
    pub fn has_rows_of_its_own_only(&self) -> bool {
        self.invisible_to_others() && !matches!(self.kind, 'v' | 'f')
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

    /// Columns (name, type below all domains) by which every row can be told apart and walked in order: the primary key, else
    /// a unique, valid, immediate, whole-table btree index of NOT NULL columns.
    pub fn usable_key(&self) -> Option<Vec<(String, String)>> {
        let usable = |i: &&Index| i.unique && i.valid && i.ready && i.immediate && !i.partial && i.method == "btree";
        let primary_first = self
            .indexes
            .iter()
            .filter(|i| i.primary)
            .chain(self.indexes.iter().filter(|i| !i.primary));
        primary_first.filter(usable).find_map(|index| {
            let not_null = |name: &str| self.column(name).is_some_and(|column| column.not_null);
            let names = index
                .columns
                .iter()
                .map(|name| name.as_deref().filter(|name| not_null(name)));
            self.typed(&names.collect::<Option<Vec<_>>>()?)
        })
    }

    /// The same, or of a partitioned table without one a key that each of its partitions has: a row of another partition
    /// may have the same.
    pub fn walking_key(&self) -> Option<Vec<(String, String)>> {
        let of = |key: &Vec<String>| self.typed(&key.iter().map(String::as_str).collect::<Vec<_>>());
        self.usable_key().or_else(|| self.leaf_keys.first().and_then(of))
    }

    fn typed(&self, names: &[&str]) -> Option<Vec<(String, String)>> {
        let of = |name: &&str| {
            let column = self.column(name)?;
            Some((
                column.name.clone(),
                column.base_type.as_ref().unwrap_or(&column.type_name).clone(),
            ))
        };
        names
            .iter()
            .map(of)
            .collect::<Option<Vec<_>>>()
            .filter(|key| !key.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_counted_from_the_beginning() {
        let (passes, looks) = (Passes::default(), std::cell::Cell::new(0));
        let mut taken = HashSet::new();
        for expect in 0..1_000 {
            let pass = passes.first(("constraint", "a".into(), "check".into()), |pass| {
                looks.set(looks.get() + 1);
                !taken.contains(&pass)
            });
            assert_eq!(pass, expect);
            taken.insert(pass);
        }
        assert!(looks.get() <= 2_000, "{}", looks.get());
        // Another copy counts anew, and others' names by themselves.
        assert_eq!(
            passes
                .clone()
                .first(("constraint", "a".into(), "check".into()), |_| true),
            0
        );
        assert_eq!(passes.first(("constraint", "b".into(), "check".into()), |_| true), 0);
    }
}
