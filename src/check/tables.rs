//! The relations of which the files have said something, by their names. A ROLLBACK sets them back.

use super::journal::Journal;
use super::relations::{is_committed, old_relation};
use crate::plan::catalog::{Name, Relation};
use crate::plan::facts::Facts;

/// Schema and name.
pub type Key = (String, String);

pub struct Tables {
    /// Where a name without a schema is taken to be.
    default_schema: String,
    /// The first schema of the search_path that the files have set.
    pub first_of_path: Option<String>,
    entries: Journal<Key, Entry>,
    /// What the file has made so far.
    made: Vec<Key>,
    /// What the open transaction has made; None outside of one.
    made_here: Option<Vec<Key>>,
}

/// What the files say of a name.
#[derive(Clone)]
pub enum Entry {
    There(Box<Table>),
    /// Dropped or renamed: also what a server still knows by this name.
    Gone,
}

/// A relation that the files have created or changed.
#[derive(Clone)]
pub struct Table {
    pub relation: Relation,
    /// All its columns are listed. Else it is an old one that no server was asked about.
    pub complete: bool,
    /// It is on the server, which tells the rest of it.
    pub of_server: bool,
}

/// A place to go [`Tables::back_to`] within the transaction.
#[derive(Clone, Copy)]
pub struct Mark {
    entries: usize,
    made_here: usize,
}

impl Tables {
    pub fn new(default_schema: String) -> Tables {
        Tables {
            default_schema,
            first_of_path: None,
            entries: Journal::default(),
            made: Vec::new(),
            made_here: None,
        }
    }

    /// A file begins.
    pub fn start_file(&mut self) {
        self.made.clear();
    }

    pub fn begin(&mut self) {
        self.entries.begin();
        self.made_here.get_or_insert_default();
    }

    pub fn commit(&mut self) {
        self.entries.commit();
        for key in self.made_here.take().unwrap_or_default() {
            if let Some(Entry::There(table)) = self.entries.get_mut(&key) {
                is_committed(&mut table.relation);
            }
        }
    }

    pub fn rollback(&mut self) {
        self.entries.rollback();
        self.made_here = None;
    }

    pub fn mark(&self) -> Mark {
        Mark {
            entries: self.entries.mark(),
            made_here: self.made_here.as_ref().map_or(0, Vec::len),
        }
    }

    pub fn back_to(&mut self, mark: Mark) {
        self.entries.back_to(mark.entries);
        if let Some(made) = &mut self.made_here {
            made.truncate(mark.made_here);
        }
    }

    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The files have made it.
    pub fn is_new(&self, name: &Name, facts: &Facts) -> bool {
        let of_files = self.find(name).map(|table| &table.relation);
        of_files
            .or_else(|| facts.relation(name))
            .is_some_and(|relation| relation.created_here || relation.never_filled)
    }

    /// What the file has made is in use: it has rows by now, and others see it.
    pub fn is_in_use(&mut self) {
        for key in std::mem::take(&mut self.made) {
            if let Some(Entry::There(table)) = self.entries.get_mut(&key)
                && matches!(table.relation.kind, 'r' | 'p' | 'm' | 'i' | 'I')
            {
                let relation = &mut table.relation;
                (relation.created_here, relation.never_filled, relation.bytes) = (false, false, u64::MAX);
                relation.rows = None;
                for index in &mut relation.indexes {
                    index.bytes = u64::MAX;
                }
            }
        }
    }

    /// The server cuts both names to the same.
    pub fn cuts_alike(&self, name: &str) -> bool {
        let cut = |name: &str| name.bytes().take(63).collect::<Vec<u8>>();
        let other = |known: &Key| known.1.len() >= 63 && known.1 != name && cut(&known.1) == cut(name);
        self.made.iter().any(other)
    }

    pub fn or_old(&self, name: &Name) -> Relation {
        match self.find(name).filter(|table| table.complete && !table.of_server) {
            Some(table) => table.relation.clone(),
            None => old_relation(name, &self.schema(name)),
        }
    }

    /// One that the files have made, and into which they have put no more than a few rows.
    pub fn is_small(&self, name: &Name) -> bool {
        self.find(name)
            .is_some_and(|table| table.relation.bytes != u64::MAX && !table.of_server)
    }

    pub fn schema(&self, name: &Name) -> String {
        let of_path = self.first_of_path.as_ref();
        name.schema.as_ref().or(of_path).unwrap_or(&self.default_schema).clone()
    }

    fn key(&self, name: &Name) -> Key {
        (self.schema(name), name.name.clone())
    }

    pub fn find(&self, name: &Name) -> Option<&Table> {
        match self.entries.get(&self.key(name))? {
            Entry::There(table) => Some(table),
            Entry::Gone => None,
        }
    }

    pub fn find_mut(&mut self, name: &Name) -> Option<&mut Table> {
        let key = self.key(name);
        match self.entries.get_mut(&key)? {
            Entry::There(table) => Some(table),
            Entry::Gone => None,
        }
    }

    pub fn add(&mut self, mut table: Table) {
        let relation = &mut table.relation;
        let key = (relation.schema.clone(), relation.name.clone());
        if relation.created_here {
            self.made.push(key.clone());
            match &mut self.made_here {
                Some(made) => made.push(key.clone()),
                None => is_committed(relation),
            }
        }
        self.entries.insert(key, Entry::There(Box::new(table)));
    }

    pub fn remove(&mut self, schema: String, name: String) -> Option<Table> {
        let key = (schema, name);
        let table = match self.entries.get(&key) {
            Some(Entry::There(table)) => Some(Table::clone(table)),
            _ => None,
        };
        self.entries.insert(key, Entry::Gone);
        table
    }
}
