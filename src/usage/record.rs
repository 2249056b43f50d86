//! What is known of who used which table and column when: bounded, and without values.
//!
//! Pure but for what it is told: the time comes with each use. Asked by [`Record::uses`].

use crate::plan::uses::touched::{How, Uses};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Uses by table, column, application and role. Above it the oldest are forgotten, and counted.
const USES_MAX: usize = 100_000;
/// A watch that was interrupted for longer has a gap.
const GAP_S: u32 = 30;

/// A use that the common table has is told again so often.
pub const TOLD_EVERY_S: u32 = 60;

/// One use as the proxies' common table has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Empty: named without one.
    pub schema: String,
    /// Empty: of a statement that could not be read.
    pub relation: String,
    pub column: String,
    pub who: Who,
    pub first: u32,
    pub last: u32,
    pub written: Option<u32>,
    pub count: u64,
    pub statement: Arc<str>,
}

/// Who executes statements.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Who {
    pub database: String,
    pub application: String,
    pub role: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970. 0: nothing has been watched.
    pub since: u32,
    /// To here the watch goes.
    pub until: u32,
    /// Seconds in between in which nobody watched.
    pub gaps_s: u64,
    tables: Vec<Table>,
    /// Statements that could not be read, by who sent them.
    unread: Vec<(Who, Seen)>,
    /// Uses that were forgotten for want of room.
    pub forgotten: u64,
    #[serde(skip)]
    places: BTreeMap<(String, Option<String>, String), usize>,
    #[serde(skip)]
    uses: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Table {
    database: String,
    /// None: named without one.
    schema: Option<String>,
    name: String,
    /// By column. `*`: the whole row; empty: the table at all.
    columns: BTreeMap<String, Vec<(Who, Seen)>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    first: u32,
    last: u32,
    count: u64,
    /// The last time it was written, where it was.
    written: Option<u32>,
    /// The newest statement.
    statement: Arc<str>,
    #[serde(skip)]
    shared: Shared,
}

/// What the proxies' common table has of it already.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    /// 0: nothing.
    last: u32,
    count: u64,
    /// When it was told.
    at: u32,
}

/// With table, column and who.
type Each<'a> = dyn FnMut(Option<&Table>, &str, &Who, &mut Seen) + 'a;

/// Somebody's use of what is asked about.
#[derive(Clone, Debug)]
pub struct Used {
    pub who: Who,
    pub last: u32,
    pub count: u64,
    pub written: Option<u32>,
    pub statement: Arc<str>,
    /// Of a column.
    pub how: Option<How>,
    /// It may have been used so much later than is known.
    pub late_s: u32,
}

/// One use, and of what.
#[derive(Clone, Debug)]
pub struct Row {
    /// None: named without one.
    pub schema: Option<String>,
    pub relation: String,
    /// Empty: the relation itself. `*`: the whole row.
    pub column: String,
    pub used: Used,
}

impl Record {
    pub(super) fn used(&mut self, uses: &Uses, who: &Who, last: u32, count: u32, statement: &Arc<str>) {
        for (table, with) in &uses.tables {
            let key = (who.database.clone(), table.schema.clone(), table.name.clone());
            let tables = &mut self.tables;
            let at = *self.places.entry(key).or_insert_with_key(|(database, schema, name)| {
                tables.push(Table {
                    database: database.clone(),
                    schema: schema.clone(),
                    name: name.clone(),
                    columns: BTreeMap::new(),
                });
                tables.len() - 1
            });
            let whole = with.whole.then_some("*");
            let columns = with.columns.iter().chain(&uses.columns).map(String::as_str);
            for column in columns.chain(whole).chain([""]) {
                let seen = self.tables[at].columns.entry(column.to_owned()).or_default();
                self.uses += usize::from(add(seen, who, (last, u64::from(count)), with.written, statement));
            }
        }
        if self.uses > USES_MAX {
            self.forget();
        }
    }

    pub(super) fn unread(&mut self, who: &Who, last: u32, count: u32) {
        add(&mut self.unread, who, (last, u64::from(count)), false, &Arc::from(""));
    }

    /// Somebody watches now.
    pub(super) fn watched(&mut self, now: u32) {
        if self.since == 0 {
            self.since = now;
        }
        self.until = self.until.max(now);
    }

    /// What an earlier process has kept.
    pub(super) fn take_over(&mut self, kept: Option<Record>, now: u32) {
        let Some(kept) = kept.filter(|kept| kept.since > 0) else {
            return self.watched(now);
        };
        let before = std::mem::replace(self, kept);
        // They were counted in the common table when they happened, if there was one.
        self.all_seen(&mut |_, _, _, seen| seen.shared.count = seen.count);
        let gap = now.saturating_sub(self.until);
        if gap > GAP_S {
            self.gaps_s += u64::from(gap);
        }
        self.index();
        for table in before.tables {
            self.merge(table);
        }
        self.watched(now);
    }

    /// With table and column; of a statement that could not be read, with neither.
    fn all_seen(&mut self, each: &mut Each<'_>) {
        for table in &mut self.tables {
            let columns = std::mem::take(&mut table.columns);
            let told = |(column, mut all): (String, Vec<(Who, Seen)>)| {
                all.iter_mut()
                    .for_each(|(who, seen)| each(Some(table), &column, who, seen));
                (column, all)
            };
            table.columns = columns.into_iter().map(told).collect();
        }
        for (who, seen) in &mut self.unread {
            each(None, "", who, seen);
        }
    }

    /// What is to be told to the common table, at most so many: what is new, and what has been used since it was told a while ago.
    pub fn due(&mut self, now: u32, max: usize) -> Vec<Stored> {
        let mut due = Vec::new();
        self.all_seen(&mut |table, column, who, seen| {
            let told = seen.shared;
            let is_new = told.last == 0 || now.saturating_sub(told.at) >= TOLD_EVERY_S;
            if due.len() < max && seen.last > told.last && is_new {
                due.push(Stored {
                    schema: table.and_then(|table| table.schema.clone()).unwrap_or_default(),
                    relation: table.map(|table| table.name.clone()).unwrap_or_default(),
                    column: column.to_owned(),
                    who: who.clone(),
                    first: seen.first,
                    last: seen.last,
                    written: seen.written,
                    count: seen.count - told.count,
                    statement: Arc::clone(&seen.statement),
                });
                seen.shared = Shared {
                    last: seen.last,
                    count: seen.count,
                    at: now,
                };
            }
        });
        due
    }

    /// They could not be told.
    pub fn undo(&mut self, due: &[Stored]) {
        let key = |schema: &str, relation: &str, column: &str, who: &Who| {
            (schema.to_owned(), relation.to_owned(), column.to_owned(), who.clone())
        };
        let of = |stored: &Stored| {
            let key = key(&stored.schema, &stored.relation, &stored.column, &stored.who);
            (key, stored.count)
        };
        let counts: BTreeMap<_, u64> = due.iter().map(of).collect();
        self.all_seen(&mut |table, column, who, seen| {
            let schema = table.and_then(|table| table.schema.as_deref()).unwrap_or_default();
            let relation = table.map(|table| table.name.as_str()).unwrap_or_default();
            if let Some(count) = counts.get(&key(schema, relation, column, who)) {
                seen.shared = Shared {
                    count: seen.shared.count.saturating_sub(*count),
                    ..Shared::default()
                };
            }
        });
    }

    /// What all proxies have told together. `watches`: when they watched, from and to, in the order in which they began.
    pub fn of_stored(stored: Vec<Stored>, watches: &[(u32, u32)]) -> Record {
        let mut record = Record::default();
        for &(since, until) in watches {
            if record.since == 0 {
                (record.since, record.until) = (since, since);
            }
            let gap = since.saturating_sub(record.until);
            if gap > GAP_S {
                record.gaps_s += u64::from(gap);
            }
            record.until = record.until.max(until);
        }
        for one in stored {
            let seen = Seen {
                first: one.first,
                last: one.last,
                count: one.count,
                written: one.written,
                statement: one.statement,
                shared: Shared::default(),
            };
            if one.relation.is_empty() {
                record.unread.push((one.who, seen));
                continue;
            }
            let schema = Some(one.schema).filter(|schema| !schema.is_empty());
            let key = (one.who.database.clone(), schema.clone(), one.relation.clone());
            let tables = &mut record.tables;
            let at = *record.places.entry(key).or_insert_with(|| {
                tables.push(Table {
                    database: one.who.database.clone(),
                    schema,
                    name: one.relation,
                    columns: BTreeMap::new(),
                });
                tables.len() - 1
            });
            record.tables[at]
                .columns
                .entry(one.column)
                .or_default()
                .push((one.who, seen));
        }
        record
    }

    fn index(&mut self) {
        self.places = self
            .tables
            .iter()
            .enumerate()
            .map(|(at, table)| ((table.database.clone(), table.schema.clone(), table.name.clone()), at))
            .collect();
        self.uses = self
            .tables
            .iter()
            .flat_map(|table| table.columns.values())
            .map(Vec::len)
            .sum();
    }

    fn merge(&mut self, table: Table) {
        let key = (table.database.clone(), table.schema.clone(), table.name.clone());
        let Some(at) = self.places.get(&key).copied() else {
            self.places.insert(key, self.tables.len());
            self.tables.push(table);
            return;
        };
        for (column, all) in table.columns {
            let mine = self.tables[at].columns.entry(column).or_default();
            for (who, seen) in all {
                add(
                    mine,
                    &who,
                    (seen.last, seen.count),
                    seen.written.is_some(),
                    &seen.statement,
                );
            }
        }
    }

    /// The older half.
    fn forget(&mut self) {
        let all = |table: &Table| {
            table
                .columns
                .values()
                .flatten()
                .map(|(_, seen)| seen.last)
                .collect::<Vec<_>>()
        };
        let mut times: Vec<u32> = self.tables.iter().flat_map(all).collect();
        let middle = times.len() / 2;
        let (_, oldest, _) = times.select_nth_unstable(middle);
        let oldest = *oldest;
        for table in &mut self.tables {
            for seen in table.columns.values_mut() {
                let before = seen.len();
                seen.retain(|(_, seen)| seen.last > oldest);
                self.forgotten += (before - seen.len()) as u64;
            }
            table.columns.retain(|_, seen| !seen.is_empty());
        }
        self.tables.retain(|table| !table.columns.is_empty());
        self.index();
    }

    /// How long it has been watched, without its gaps.
    pub fn watched_s(&self, now: u32) -> u64 {
        match self.since {
            0 => 0,
            since => u64::from(now.saturating_sub(since)).saturating_sub(self.gaps_s),
        }
    }

    fn named<'a>(&'a self, database: &'a str, relations: &'a [(String, String)]) -> impl Iterator<Item = &'a Table> {
        let is_one = |table: &Table| {
            let mut all = relations.iter();
            all.any(|(schema, name)| table.name == *name && table.schema.as_ref().is_none_or(|own| own == schema))
        };
        self.tables
            .iter()
            .filter(move |table| table.database == database && is_one(table))
    }

    /// Who used one of these relations, or a column of them; the newest first.
    pub fn uses(&self, database: &str, relations: &[(String, String)], column: Option<&str>) -> Vec<Used> {
        let mut all: Vec<Used> = Vec::new();
        for table in self.named(database, relations) {
            let asked: &[(&str, Option<How>)] = match column {
                Some(column) => &[(column, Some(How::ByName)), ("*", Some(How::Whole))],
                None => &[("", None)],
            };
            for (column, how) in asked {
                let seen = table.columns.get(*column).into_iter().flatten();
                all.extend(seen.map(|(who, seen)| used(who, seen, *how)));
            }
        }
        all.sort_by_key(|used| std::cmp::Reverse(used.last));
        all
    }

    /// Of a table or column as a person names it: `users`, `users.name`, `public.users`, `public.users.name`. None: all.
    pub fn find(&self, name: Option<&str>) -> Vec<Row> {
        let words: Option<Vec<&str>> = name.map(|name| name.split('.').collect());
        let mut rows = Vec::new();
        for table in &self.tables {
            for (column, seen) in &table.columns {
                let is_asked = words.as_ref().is_none_or(|words| table.is_named(column, words));
                // The table itself is told where it alone is asked for.
                let is_told = column.is_empty() == words.as_ref().is_some_and(|words| table.is_named("", words));
                if is_asked && is_told {
                    rows.extend(table.rows(column, seen));
                }
            }
        }
        rows.sort_by(|a, b| {
            let place = |row: &Row| {
                (
                    row.relation.clone(),
                    row.schema.clone(),
                    row.column.clone(),
                    std::cmp::Reverse(row.used.last),
                )
            };
            place(a).cmp(&place(b))
        });
        rows
    }

    /// Who used each table at all; or of one table, which may be given with its schema, who used it and each of its columns.
    pub fn of_tables(&self, name: Option<&str>) -> Vec<Row> {
        let (schema, wanted) = match name.map(|name| name.split_once('.')) {
            Some(Some((schema, name))) => (Some(schema), Some(name)),
            _ => (None, name),
        };
        let is_asked = |table: &&Table| {
            let is_schema = |asked: &str| table.schema.as_ref().is_none_or(|own| own == asked);
            wanted.is_none_or(|name| table.name == name) && schema.is_none_or(is_schema)
        };
        let mut rows = Vec::new();
        for table in self.tables.iter().filter(is_asked) {
            for (column, seen) in &table.columns {
                if wanted.is_none() && !column.is_empty() {
                    continue;
                }
                rows.extend(table.rows(column, seen));
            }
        }
        rows
    }

    /// Statements that could not be read, by who sent them.
    pub fn unread_of_all(&self) -> impl Iterator<Item = Used> {
        self.unread.iter().map(|(who, seen)| used(who, seen, None))
    }

    /// Statements that could not be read: who sent them, how often, and the last time.
    pub fn unread_in(&self, database: &str) -> Vec<Used> {
        let of_it = self.unread.iter().filter(|(who, _)| who.database == database);
        of_it.map(|(who, seen)| used(who, seen, None)).collect()
    }
}

impl Table {
    /// Who used that column of it.
    fn rows<'a>(&'a self, column: &'a str, seen: &'a [(Who, Seen)]) -> impl Iterator<Item = Row> + 'a {
        let how = Some(if column == "*" { How::Whole } else { How::ByName }).filter(|_| !column.is_empty());
        seen.iter().map(move |(who, seen)| Row {
            schema: self.schema.clone(),
            relation: self.name.clone(),
            column: column.to_owned(),
            used: used(who, seen, how),
        })
    }

    fn is_named(&self, column: &str, words: &[&str]) -> bool {
        let schema = |word: &str| self.schema.as_ref().is_none_or(|schema| schema == word);
        let is_column = |word: &str| column == word || column == "*";
        match words {
            [table] => self.name == *table && column.is_empty(),
            [schema_name, table] if self.name == *table && schema(schema_name) && column.is_empty() => true,
            [table, word] => self.name == *table && !column.is_empty() && is_column(word),
            [schema_name, table, word] => {
                self.name == *table && schema(schema_name) && !column.is_empty() && is_column(word)
            }
            _ => false,
        }
    }
}

impl Row {
    /// `schema.relation.column`, as far as it is known.
    pub fn name(&self) -> String {
        let schema = self.schema.iter().map(String::as_str);
        let column = Some(self.column.as_str()).filter(|column| !column.is_empty());
        let words: Vec<&str> = schema.chain([self.relation.as_str()]).chain(column).collect();
        words.join(".")
    }
}

fn used(who: &Who, seen: &Seen, how: Option<How>) -> Used {
    Used {
        who: who.clone(),
        last: seen.last,
        count: seen.count,
        written: seen.written,
        statement: Arc::clone(&seen.statement),
        how,
        late_s: 0,
    }
}

/// Both lists, each use of each table and column once.
pub fn merged_rows(rows: Vec<Row>, others: Vec<Row>) -> Vec<Row> {
    let mut all: BTreeMap<_, (Row, Vec<Used>, Vec<Used>)> = BTreeMap::new();
    let key = |row: &Row| (row.relation.clone(), row.schema.clone(), row.column.clone());
    for row in rows {
        let (_, uses, _) = all
            .entry(key(&row))
            .or_insert_with(|| (row.clone(), Vec::new(), Vec::new()));
        uses.push(row.used);
    }
    for row in others {
        let (_, _, uses) = all
            .entry(key(&row))
            .or_insert_with(|| (row.clone(), Vec::new(), Vec::new()));
        uses.push(row.used);
    }
    let of_one = |(row, uses, others): (Row, Vec<Used>, Vec<Used>)| {
        let uses = merged(uses, others).into_iter();
        uses.map(|used| Row { used, ..row.clone() }).collect::<Vec<Row>>()
    };
    all.into_values().flat_map(of_one).collect()
}

/// Both lists, each user once, the newest first.
pub fn merged(mut uses: Vec<Used>, others: Vec<Used>) -> Vec<Used> {
    for other in others {
        match uses
            .iter_mut()
            .find(|used| used.who == other.who && used.how == other.how)
        {
            Some(used) => {
                used.count = used.count.max(other.count);
                used.written = used.written.max(other.written);
                if other.last + other.late_s > used.last + used.late_s {
                    (used.last, used.late_s) = (other.last, other.late_s);
                    used.statement = other.statement;
                }
            }
            None => uses.push(other),
        }
    }
    uses.sort_by_key(|used| std::cmp::Reverse(used.last));
    uses
}

/// True: it is a new one.
fn add(all: &mut Vec<(Who, Seen)>, who: &Who, (last, count): (u32, u64), written: bool, statement: &Arc<str>) -> bool {
    let at = match all.iter().position(|(known, _)| known == who) {
        Some(at) => at,
        None => {
            let seen = Seen {
                first: last,
                last: 0,
                count: 0,
                written: None,
                statement: Arc::clone(statement),
                shared: Shared::default(),
            };
            all.push((who.clone(), seen));
            all.len() - 1
        }
    };
    let seen = &mut all[at].1;
    let is_new = seen.count == 0;
    if last >= seen.last {
        seen.last = last;
        seen.statement = Arc::clone(statement);
    }
    if written {
        seen.written = seen.written.max(Some(last));
    }
    seen.count += count;
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::uses;

    fn who(application: &str) -> Who {
        Who {
            database: "shop".into(),
            application: application.into(),
            role: "ann".into(),
        }
    }

    fn uses_of(record: &mut Record, application: &str, at: u32, sql: &str) {
        let read = uses::read(sql).uses.expect(sql);
        record.used(&read, &who(application), at, 1, &Arc::from(sql));
    }

    #[test]
    fn a_column_s_uses_are_told_newest_first() {
        let mut record = Record::default();
        uses_of(&mut record, "web", 100, "SELECT name FROM users");
        uses_of(&mut record, "report", 200, "SELECT * FROM users");
        uses_of(&mut record, "web", 150, "UPDATE users SET name = 'x'");
        uses_of(&mut record, "other", 300, "SELECT name FROM other.users");
        uses_of(&mut record, "other", 300, "SELECT id FROM users");
        let users = [("public".to_owned(), "users".to_owned())];
        let told: Vec<(String, u32, Option<How>, u64)> = record
            .uses("shop", &users, Some("name"))
            .into_iter()
            .map(|used| (used.who.application, used.last, used.how, used.count))
            .collect();
        assert_eq!(
            told,
            [
                ("report".to_owned(), 200, Some(How::Whole), 1),
                ("web".to_owned(), 150, Some(How::ByName), 2)
            ]
        );
        assert!(record.uses("elsewhere", &users, Some("name")).is_empty());
        assert_eq!(record.uses("shop", &users, None).len(), 3);
        let names = |asked: Option<&str>| {
            let mut names: Vec<String> = record.find(asked).iter().map(Row::name).collect();
            names.dedup();
            names
        };
        assert_eq!(names(None), ["users.*", "users.id", "users.name", "other.users.name"]);
        assert_eq!(names(Some("users")), ["users", "other.users"]);
        assert_eq!(names(Some("users.name")), ["users.*", "users.name", "other.users.name"]);
        assert_eq!(names(Some("public.users.id")), ["users.*", "users.id"]);
    }

    #[test]
    fn a_watch_that_was_interrupted_has_a_gap() {
        let mut record = Record::default();
        record.watched(1_000);
        record.watched(2_000);
        uses_of(&mut record, "web", 1_500, "SELECT a FROM t");
        let kept: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        let mut later = Record::default();
        uses_of(&mut later, "web", 5_000, "SELECT a FROM t");
        later.take_over(Some(kept), 5_000);
        assert_eq!(
            (later.since, later.gaps_s, later.watched_s(5_100)),
            (1_000, 3_000, 1_100)
        );
        let used = later.uses("shop", &[("public".to_owned(), "t".to_owned())], Some("a"));
        assert_eq!((used.len(), used[0].count, used[0].last), (1, 2, 5_000));
    }

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let mut record = Record::default();
        for n in 0..1_200 {
            let columns: Vec<String> = (0..100).map(|c| format!("c{}", n * 100 + c)).collect();
            uses_of(&mut record, "web", n, &format!("SELECT {} FROM t", columns.join(", ")));
        }
        assert!(
            record.uses <= USES_MAX && record.forgotten > 0,
            "{} {}",
            record.uses,
            record.forgotten
        );
        let t = [("public".to_owned(), "t".to_owned())];
        assert_eq!(record.uses("shop", &t, Some("c119999")).len(), 1);
        assert_eq!(record.uses("shop", &t, Some("c0")).len(), 0);
    }
}
