//! What a reader has found, and what that comes to: which tables and columns.

use std::collections::{BTreeMap, BTreeSet};

/// A relation as a query names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub schema: Option<String>,
    pub name: String,
}

/// What a query does with one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableUse {
    /// Those that are surely the table's: by its name or alias, or as what is written.
    pub columns: BTreeSet<String>,
    /// `*`, a whole row, or the rows of an INSERT or COPY without a list of columns.
    pub whole: bool,
    pub written: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    pub tables: BTreeMap<Table, TableUse>,
    /// Columns that are named without a table: they may be of any.
    pub columns: BTreeSet<String>,
}

/// How a query uses a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// As part of `*` or of a whole row.
    Whole,
    ByName,
}

impl Uses {
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What the query does with a table of this schema; one that is named without a schema may be it.
    pub fn of<'a>(&'a self, schema: &'a str, name: &'a str) -> impl Iterator<Item = &'a TableUse> {
        let is_it = move |table: &Table| table.name == name && table.schema.as_deref().is_none_or(|s| s == schema);
        self.tables
            .iter()
            .filter(move |(table, _)| is_it(table))
            .map(|(_, with)| with)
    }

    /// Whether the query takes a lock on that table. `alone`: no other schema has one of its name, so that one without a schema is it.
    /// `writes`: only a lock for writing counts.
    pub fn locks(&self, schema: &str, name: &str, alone: bool, writes: bool) -> bool {
        let is_it =
            |table: &Table| table.name == name && table.schema.as_deref().map_or(alone, |named| named == schema);
        self.tables
            .iter()
            .any(|(table, with)| is_it(table) && (with.written || !writes))
    }

    /// How the query uses a column of that table.
    pub fn of_column(&self, schema: &str, table: &str, column: &str) -> Option<How> {
        let how = |with: &TableUse| match with.columns.contains(column) || self.columns.contains(column) {
            true => Some(How::ByName),
            false => with.whole.then_some(How::Whole),
        };
        self.of(schema, table).filter_map(how).max()
    }

    pub(super) fn and(mut self, other: Uses) -> Uses {
        for (table, with) in other.tables {
            let mine = self.tables.entry(table).or_default();
            mine.columns.extend(with.columns);
            mine.whole |= with.whole;
            mine.written |= with.written;
        }
        self.columns.extend(other.columns);
        self
    }

    /// For a comparison: `table`, `table.column`, `table.*`, `.column`.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        let mut all: BTreeSet<String> = self.columns.iter().map(|column| format!(".{column}")).collect();
        for (table, with) in &self.tables {
            let name = match &table.schema {
                Some(schema) => format!("{schema}.{}", table.name),
                None => table.name.clone(),
            };
            all.extend(with.columns.iter().map(|column| format!("{name}.{column}")));
            all.extend(with.whole.then(|| format!("{name}.*")));
            all.insert(name);
        }
        all
    }
}

/// A table where a query names it.
#[derive(Debug)]
pub(super) struct Named {
    pub table: Table,
    pub alias: Option<String>,
    /// How many queries it stands within.
    pub level: usize,
    pub written: bool,
}

/// What a reader collects before it is known which names are tables.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub named: Vec<Named>,
    /// Words of column references.
    pub columns: Vec<Vec<String>>,
    /// Words before `.*`.
    pub whole: Vec<Vec<String>>,
    /// All of these, by their place in `named`.
    pub whole_of: BTreeSet<usize>,
    /// By the place of their table in `named`.
    pub written: Vec<(usize, String)>,
    /// Names of WITH, where they stand for tables.
    pub ctes: Vec<String>,
    pub level: usize,
}

impl Found {
    /// None: it is the name of a WITH.
    pub fn table(&mut self, mut words: Vec<String>, alias: Option<String>, written: bool) -> Option<usize> {
        let name = words.pop()?;
        let schema = words.pop();
        if schema.is_none() && self.ctes.contains(&name) {
            return None;
        }
        self.named.push(Named {
            table: Table { schema, name },
            alias,
            level: self.level,
            written,
        });
        Some(self.named.len() - 1)
    }

    /// Of the tables named since then those that stand in the query itself and in none within it.
    pub fn own(&self, since: usize) -> Vec<usize> {
        (since..self.named.len())
            .filter(|at| self.named[*at].level == self.level)
            .collect()
    }

    pub fn uses(self) -> Uses {
        let mut uses = Uses::default();
        for named in &self.named {
            uses.tables.entry(named.table.clone()).or_default().written |= named.written;
        }
        let mut with = |at: &usize, f: &mut dyn FnMut(&mut TableUse)| {
            if let Some(with) = uses.tables.get_mut(&self.named[*at].table) {
                f(with);
            }
        };
        for at in &self.whole_of {
            with(at, &mut |with| with.whole = true);
        }
        for (at, column) in &self.written {
            with(at, &mut |with| with.columns.extend([column.clone()]));
        }
        for words in &self.whole {
            for at in self.meant(words) {
                with(&at, &mut |with| with.whole = true);
            }
        }
        let mut anywhere = BTreeSet::new();
        for words in &self.columns {
            match words.as_slice() {
                [] => {}
                [column] => {
                    // A table's name alone is its whole row.
                    let rows = self.meant(words);
                    rows.iter().for_each(|at| with(at, &mut |with| with.whole = true));
                    anywhere.insert(column.clone());
                }
                [table @ .., column] => {
                    for at in self.meant(table) {
                        with(&at, &mut |with| with.columns.extend([column.clone()]));
                    }
                }
            }
        }
        uses.columns = anywhere;
        uses
    }

    /// The tables that may be meant in front of a column's name.
    fn meant(&self, words: &[String]) -> Vec<usize> {
        let is_meant = |named: &Named| match words {
            [word] => match &named.alias {
                Some(alias) => alias == word,
                None => named.table.name == *word,
            },
            [.., schema, name] => {
                named.table.name == *name && named.table.schema.as_ref().is_none_or(|own| own == schema)
            }
            [] => false,
        };
        let written_as = matches!(words, [word] if matches!(word.as_str(), "excluded" | "old" | "new"));
        let at = self.named.iter().enumerate();
        at.filter(|(_, named)| is_meant(named) || (written_as && named.written))
            .map(|(at, _)| at)
            .collect()
    }
}
