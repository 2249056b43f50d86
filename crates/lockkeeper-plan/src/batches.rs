//! A large UPDATE or DELETE as keyset batches: which SQL comes next, given how far the work has come. Pure.
//!
//! The table is walked along a unique key in ranges that follow each other without a gap: [`Batches::bounds_sql`] fixes the
//! last key once, [`Batches::end_sql`] finds where the next range ends, and [`Batches::batch_sql`] is the client's statement for
//! that range alone, together with the move of the job's row, so that a row is changed once or not at all. [`limited`] is the
//! other form, for `UPDATE … LIMIT n`. [`place`] is the way through a table that has no key.

pub mod bound;
pub mod by_hand;
pub mod cascade;
pub mod count;
pub mod filled;
pub mod firing;
pub mod guess;
mod judge;
mod key;
pub mod lasting;
pub mod limited;
mod lookup;
mod place;
pub mod shape;
pub mod silence;
pub mod surroundings;
mod text;
mod through;
pub mod watch;

use super::catalog::Relation;
use super::facts::{Facts, planned_rows};
use super::jobs;
use super::mixed;
use super::splice::{qualified, quote_ident, quote_literal};
use super::statement::{Kind, Statement};
use key::{NewRows, exact_text, new_rows, operator, operators, type_sql, walkable_key};
use lookup::pins_a_key;
use place::Places;
use text::{Tree, parts};
use watch::Watch;

/// What does not change between batches.
#[derive(Clone, Debug)]
pub struct Batches {
    /// `UPDATE` or `DELETE`, for the command tag.
    pub verb: &'static str,
    pub relation: String,
    /// Schema and table.
    pub names: (String, String),
    pub relation_oid: u32,
    pub kind: jobs::Kind,
    /// The statement's own text.
    pub statement: String,
    /// How many keys there are to walk along, as far as is known.
    pub keys_estimated: Option<f64>,
    /// The settings that decide which rows the role sees.
    pub seen_by: std::collections::BTreeMap<String, String>,
    /// Err: why it must not be done twice to any row, so that its progress must be kept in a job.
    pub repeatable: Result<(), String>,
    /// What to tell before the first batch.
    pub notes: Vec<String>,
    /// What to tell of rows that others insert meanwhile, if anything.
    pub new_rows: Option<String>,
    pub access: jobs::Access,
    /// The column that is filled was not there when this was planned: an unfinished job of the same text is about another one of that name.
    pub anew: bool,
    /// It goes on with that job, and with no other.
    pub resumes: Option<i64>,
    /// The client hears the rows that were changed.
    pub returns: bool,
    /// So few of the table's rows are meant that their keys are looked for first.
    pub collects: bool,
    /// What is asked of the server when the rows of a batch are changed.
    pub watch: Watch,
    /// No trigger of the owner's fires.
    pub silent: bool,
    /// Triggers may change the key of a row, or by place its condition may go on to hold: that is to be noticed.
    guarded: bool,
    /// By place, a trigger that leaves a row as it is must be noticed.
    counted: bool,
    /// There is no key: it is walked by place.
    places: Option<Places>,
    /// What column names are qualified with.
    qualifier: String,
    /// The key columns, qualified and quoted, with their types.
    key: Vec<KeyColumn>,
    ctes: Option<String>,
    /// The client's text from UPDATE or DELETE to before WHERE.
    head: String,
    /// The client's text of the relation, for FROM.
    from: String,
    condition: Option<String>,
    /// The condition can be kept from choosing an index: nothing in it must be planned together with other tables.
    plain_condition: bool,
    returning: Option<String>,
    /// No other table stands beside it, in FROM or USING.
    plain: bool,
    /// Nothing but its own rows is read.
    alone: bool,
    partitioned: bool,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    name: String,
    /// `"t"."id"`, as it is written where the relation is in reach.
    reference: String,
    type_name: String,
    /// Of the operators by which it is in order.
    operators: String,
    /// Its value as text.
    text: String,
}

/// Values of the key columns as text, as the server printed them.
pub type Key = Vec<String>;

/// The keys after `after` (all, if there is none) up to `end`.
#[derive(Clone, Debug)]
pub struct Range {
    pub after: Option<Key>,
    pub end: Key,
    /// How many keys were there when it was measured.
    pub keys: u64,
    /// No others are meant.
    pub only: Option<Vec<Key>>,
    /// Wherever the rows are, and with the places that others have moved them to: by one statement, as the client's own.
    pub anywhere: bool,
}

/// How a batch moves the row of its job.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    pub job: i64,
    /// Batches before this one.
    pub batches: u64,
    /// With this batch the job is done.
    pub is_last: bool,
}

/// So many keys are held in memory at most.
pub const COLLECTED_MAX: usize = 100_000;

/// How the error begins by which a batch undoes itself whose rows have got other keys.
pub const KEY_MOVED: &str = "lockkeeper: the key was changed in rows: ";

/// By place, the same where a trigger has left rows as they were.
pub const ROWS_LEFT: &str = "lockkeeper: a trigger has left rows as they were: ";

/// Each batch must walk along the key's index: any other plan reads the whole rest of the table again for every batch.
/// Planners before 18 add huge costs for what is switched off, which would start the JIT compiler.
const SETTINGS: [(&str, &str); 5] = [
    ("enable_tidscan", "on"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

impl Batches {
    /// Why not, as a sentence for the client, if the statement cannot be split so that each row is changed exactly once.
    pub fn new(statement: &Statement, relation: &Relation, facts: &Facts) -> Result<Batches, String> {
        let verb = Tree::of(&statement.node).map_or("", |tree| tree.verb);
        let table = through::table(relation, facts, verb)?;
        let relation = table.as_ref();
        let original = facts.relation(&relation.asked).filter(|asked| asked.view.is_some());
        let key = match (usable_key(statement, relation), original) {
            (Err(why), Some(_)) => return Err(why),
            (Err(why), None) => Self::place_key(statement, relation, facts, why)?,
            (Ok(key), _) => key,
        };
        judge::statement(statement, relation, facts, &key)?;
        let surroundings = facts.surroundings.as_ref();
        if let Some(why) = surroundings.and_then(|around| around.refusal(verb)) {
            return Err(why);
        }
        let repeatable = match is_place(&key) {
            // What is done does not meet the condition any more.
            true => Ok(()),
            false => judge::repeatable(statement, relation, facts),
        };
        let told = match (&repeatable, new_rows(relation, &key)) {
            (Err(why), NewRows::Anywhere) => {
                let columns: Vec<&str> = key.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "{why}, and rows that are inserted while it runs may lie anywhere in the order of the key ({}): they would be \
                     changed too, though they were not there when it began (a key that begins with a number from a sequence, \
                     or a condition that excludes the rows already done, such as a column that is NULL until then, would do)",
                    columns.join(", ")
                ));
            }
            (Err(_), NewRows::AsGiven) => Some(format!(
                "{} takes its values from no sequence: rows that are inserted below the greatest one while this runs are changed too",
                key[0].0
            )),
            _ => None,
        };
        let mut batches = Batches::build(statement, relation, facts, &key)?;
        batches.repeatable = repeatable;
        batches.new_rows = told;
        batches.notes = surroundings.map(|around| around.notes(verb)).unwrap_or_default();
        batches.watch = surroundings.map(|around| around.watch(verb)).unwrap_or_default();
        batches.access = facts.job_access();
        if let Some(seen) = &relation.row_security {
            batches.seen_by = seen.settings.clone();
            if seen.opaque {
                batches.access = jobs::Access::None(format!(
                    "the row-level security policies of {} ask functions or other tables, so that another session could not tell \
                     whether it would see the same rows",
                    batches.relation
                ));
            }
        }
        let few =
            |rows: f64| rows <= COLLECTED_MAX as f64 && batches.keys_estimated.is_some_and(|all| rows * 4.0 < all);
        batches.collects = batches.plain
            && batches.places.is_none()
            && batches.condition.is_some()
            && facts.estimated_rows.is_some_and(few);
        match (&batches.repeatable, &batches.access) {
            (Err(why), jobs::Access::None(no_job)) => {
                Err(format!("{why}, so that its progress must be kept, and {no_job}"))
            }
            _ => Ok(batches),
        }
    }

    /// `UPDATE relation SET set_sql WHERE where_sql`, made by a plan of several steps: `where_sql` must exclude the rows done,
    /// so that volatile functions are allowed in `set_sql`. `anew`: what an earlier run has filled in is gone.
    pub fn backfill(
        relation: &Relation,
        facts: &Facts,
        set_sql: &str,
        where_sql: &str,
        anew: bool,
    ) -> Result<Batches, String> {
        if let Some(why) = &facts.unfillable {
            return Err(why.clone());
        }
        let table = qualified(&relation.schema, &relation.name);
        let sql = format!("UPDATE {table} SET {set_sql}\nWHERE {where_sql}");
        let parsed =
            pg_query::parse(&sql, pg_query::ParserOptions::default()).map_err(|error| format!("{sql}: {error}"))?;
        let node = match &parsed.protobuf.stmts[..] {
            [one] => one.stmt.as_ref().and_then(|stmt| stmt.node.clone()),
            _ => None,
        };
        let node = node.ok_or_else(|| format!("not one statement: {sql}"))?;
        let statement = Statement::of(&sql, 0, node, Some(Kind::Write));
        let key = Self::backfill_key(&statement, relation, facts)?;
        let mut batches = Batches::build(&statement, relation, facts, &key)?;
        batches.silent = silence::needed(relation, facts)?;
        batches.kind = jobs::Kind::Backfill;
        batches.access = facts.job_access();
        batches.anew = anew;
        Ok(batches)
    }

    /// Of a job's row, where it was judged when it began; its table may have changed since.
    pub fn resumed(
        statement: &Statement,
        relation: &Relation,
        facts: &Facts,
        (id, kind): (i64, jobs::Kind),
    ) -> Result<Batches, String> {
        let mut batches = match kind {
            jobs::Kind::Write => Batches::new(statement, relation, facts)?,
            jobs::Kind::Backfill => Batches::build(
                statement,
                relation,
                facts,
                &Self::backfill_key(statement, relation, facts)?,
            )?,
        };
        batches.silent = kind == jobs::Kind::Backfill && silence::needed(relation, facts)?;
        batches.kind = kind;
        batches.access = facts.job_access();
        batches.resumes = Some(id);
        // Nobody is there to hear them.
        (batches.returns, batches.returning) = (false, None);
        Ok(batches)
    }

    /// The key of a walk by place, where there is no other: `why`.
    fn place_key(
        statement: &Statement,
        relation: &Relation,
        facts: &Facts,
        why: String,
    ) -> Result<Vec<(String, String)>, String> {
        let verb = Tree::of(&statement.node).map_or("", |tree| tree.verb);
        judge::table(relation, verb)?;
        place::table(relation, facts)
            .and_then(|()| place::statement(statement, relation))
            .map_err(|more| format!("{why}; {more}"))?;
        Ok(vec![(place::COLUMN.0.into(), place::COLUMN.1.into())])
    }

    fn backfill_key(
        statement: &Statement,
        relation: &Relation,
        facts: &Facts,
    ) -> Result<Vec<(String, String)>, String> {
        usable_key(statement, relation).or_else(|why| Self::place_key(statement, relation, facts, why))
    }

    fn build(
        statement: &Statement,
        relation: &Relation,
        facts: &Facts,
        key: &[(String, String)],
    ) -> Result<Batches, String> {
        /// Of a row in a table that was never analyzed.
        const BYTES: f64 = 100.0;
        let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
        let parts = parts(statement).ok_or("its text could not be taken apart")?;
        let operators = operators(relation, key)?;
        let column = |((name, type_name), operators): (&(String, String), String)| {
            let reference = format!("{}.{}", quote_ident(&parts.qualifier), quote_ident(name));
            Some(KeyColumn {
                text: exact_text(&reference, type_name, is_enum(relation, name))?,
                name: name.clone(),
                reference,
                type_name: type_sql(type_name),
                operators,
            })
        };
        let named = key;
        let key = key.iter().zip(operators).map(column).collect::<Option<Vec<_>>>();
        let selects = |node| super::mentions::Mentions::within(node).subselect;
        let subselect = tree.condition.is_some_and(selects);
        let assigns = tree.targets.unwrap_or_default().iter().any(selects);
        Ok(Batches {
            verb: tree.verb,
            relation: qualified(&relation.schema, &relation.name),
            names: (relation.schema.clone(), relation.name.clone()),
            relation_oid: relation.oid,
            kind: jobs::Kind::Write,
            statement: statement.sql.clone(),
            keys_estimated: Some(relation.rows.unwrap_or(relation.bytes as f64 / BYTES)),
            seen_by: Default::default(),
            repeatable: Ok(()),
            notes: Vec::new(),
            new_rows: None,
            access: jobs::Access::Ready,
            anew: false,
            resumes: None,
            returns: parts.returning.is_some(),
            collects: false,
            watch: Watch::default(),
            silent: false,
            guarded: tree.verb == "UPDATE"
                && (is_place(named)
                    || relation.kind == 'p'
                    || relation.triggers.iter().any(|t| t.on_update && t.for_each_row)),
            counted: is_place(named) && place::may_leave_rows(relation, tree.verb).is_some(),
            places: is_place(named).then(|| Places::of(relation, facts)),
            qualifier: quote_ident(&parts.qualifier),
            key: key.ok_or("its key has no exact text")?,
            ctes: parts.ctes,
            head: parts.head,
            from: parts.relation,
            condition: parts.condition,
            plain_condition: !tree.joins && !tree.has_with && !subselect,
            returning: parts.returning,
            plain: !tree.joins,
            alone: !tree.joins && !tree.has_with && !subselect && !assigns,
            partitioned: relation.kind == 'p',
        })
    }

    pub fn key_columns(&self) -> Vec<&str> {
        self.key.iter().map(|column| column.name.as_str()).collect()
    }

    /// One row: the greatest key that exists now (one text column per key column); no row if the table is empty. Takes the
    /// statement's own parameters in no form.
    pub fn bounds_sql(&self) -> String {
        if self.places.is_some() {
            return place::upper_sql(self.relation_oid);
        }
        let order = self.list(|_, column| format!("{} DESC", column.reference));
        format!("SELECT {} FROM {} ORDER BY {order} LIMIT 1", self.texts(), self.from)
    }

    /// One row: the key that is `keys` keys further on; no row if there are not so many up to `upper`.
    pub fn end_sql(&self, after: Option<&Key>, upper: &Key, keys: u64) -> String {
        let columns = self.columns();
        if let (Some(places), [upper]) = (&self.places, &upper[..]) {
            let after_place = after.and_then(|key| key.first()).map(String::as_str);
            let far = places.far_end(after_place, upper, keys);
            return format!(
                "SELECT coalesce((SELECT {} FROM {}\n WHERE {} ORDER BY {columns} OFFSET {} LIMIT 1), {})",
                self.texts(),
                self.from,
                self.within(after, &vec![far.clone()]),
                keys.saturating_sub(1),
                quote_literal(&far)
            );
        }
        format!(
            "SELECT {} FROM {}\n WHERE {} ORDER BY {columns} OFFSET {} LIMIT 1",
            self.texts(),
            self.from,
            self.within(after, upper),
            keys.saturating_sub(1)
        )
    }

    /// For the transaction of each batch, for bounds_sql and end_sql: `set_config(name, value, true)`.
    pub fn settings(&self) -> &[(&'static str, &'static str)] {
        &SETTINGS
    }

    /// The client's statement for the rows of one range. Uses the client's parameters `$1…` exactly as the client's statement does,
    /// and none else. Answers with the number of rows changed, or with the rows of RETURNING in the order of the key, each with
    /// [`Batches::extra_columns`] more columns at its end. With a move, nothing is changed unless the job is where it should be,
    /// which a transaction that holds the job's row can rely on.
    ///
    /// `lock_first`: takes all its rows FOR UPDATE in the order of the key before it changes the first, so that a wait that is
    /// given up leaves no dead rows behind.
    pub fn batch_sql(&self, range: &Range, job: Option<Move>, lock_first: bool) -> String {
        let within = match range.anywhere {
            true => "true".into(),
            false => self.within(range.after.as_ref(), &range.end),
        };
        let moves = job.map(|job| jobs::Moves::of(job.job, job.batches, &range.end, range.keys, job.is_last));
        self.changes(&within, range.only.as_deref(), moves.as_ref(), lock_first)
    }

    fn changes(&self, within: &str, only: Option<&[Key]>, job: Option<&jobs::Moves>, lock_first: bool) -> String {
        let first = match only {
            Some(versions) if self.places.is_some() => place::among(&self.qualifier, versions),
            Some(keys) => format!("{within} AND {}", self.among(keys)),
            None => within.to_owned(),
        };
        let mut conditions = vec![first];
        let mut ctes: Vec<String> = self.ctes.iter().cloned().collect();
        match &self.condition {
            // IS TRUE changes nothing for a condition, but no other index can be chosen for it.
            Some(condition) if self.plain_condition => {
                conditions.push(format!("({condition}\n) IS TRUE"));
                // As it is it tells the planner which partitions hold none of the keys: else each would be looked up in all of them.
                conditions.extend((self.partitioned && only.is_some()).then(|| format!("({condition}\n)")));
            }
            Some(condition) => conditions.push(format!("({condition}\n)")),
            None => {}
        }
        conditions.extend(job.map(jobs::Moves::is_at));
        if lock_first || self.counted {
            let columns = self.columns();
            ctes.push(format!(
                "lockkeeper_locked AS MATERIALIZED (SELECT FROM {}\n WHERE {} ORDER BY {columns} FOR UPDATE)",
                self.from,
                conditions[..if self.plain_condition { conditions.len() } else { 1 }].join("\n AND ")
            ));
            conditions.push(
                "(SELECT pg_catalog.count(*) FROM lockkeeper_locked) OPERATOR(pg_catalog.>=) 0::pg_catalog.int8".into(),
            );
        }
        let moved = self.guarded.then(|| match (&self.places, &self.condition) {
            (Some(_), Some(condition)) => format!("(({condition}\n) IS TRUE) AS lockkeeper_moved"),
            _ => format!("NOT ({within}) AS lockkeeper_moved"),
        });
        let returning = match &self.returning {
            Some(returning) => format!(
                "{returning}, {}{}",
                self.list(|i, column| format!("{} AS lockkeeper_k{i}", column.reference)),
                moved.map(|moved| format!(", {moved}")).unwrap_or_default()
            ),
            None => format!("RETURNING {}", moved.unwrap_or("1".into())),
        };
        ctes.push(format!(
            "lockkeeper_changed AS ({}\n WHERE {}\n {returning})",
            self.head,
            conditions.join("\n AND ")
        ));
        if let Some(job) = job {
            let moved = job.advance("(SELECT pg_catalog.count(*) FROM lockkeeper_changed)");
            ctes.push(format!("lockkeeper_moved AS ({moved})"));
        }
        let guard = self.guarded.then(|| {
            format!(
                "(SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.>) 0::pg_catalog.int8 THEN pg_catalog.concat('{KEY_MOVED}', \
                 pg_catalog.count(*))::pg_catalog.int8 ELSE 0 END FROM lockkeeper_changed WHERE lockkeeper_moved)"
            )
        });
        let left = self.counted.then(|| {
            format!(
                "(SELECT CASE WHEN l.n OPERATOR(pg_catalog.>) c.n THEN pg_catalog.concat('{ROWS_LEFT}', l.n OPERATOR(pg_catalog.-) c.n)::pg_catalog.int8 \
                 ELSE 0 END FROM (SELECT pg_catalog.count(*) AS n FROM lockkeeper_locked) l, (SELECT pg_catalog.count(*) AS n FROM lockkeeper_changed) c)"
            )
        });
        // Each is 0.
        let zeros: Vec<String> = guard
            .into_iter()
            .chain(left)
            .chain(self.watch.tally("lockkeeper_changed"))
            .collect();
        let answer = match self.returns {
            true => {
                let all: Vec<String> = zeros
                    .iter()
                    .map(|zero| format!("{zero} OPERATOR(pg_catalog.=) 0::pg_catalog.int8"))
                    .collect();
                format!(
                    "SELECT * FROM lockkeeper_changed{}{} ORDER BY {}",
                    if all.is_empty() { "" } else { " WHERE " },
                    all.join(" AND "),
                    self.list(|i, _| format!("lockkeeper_k{i}"))
                )
            }
            false => {
                let all: String = zeros
                    .iter()
                    .map(|zero| format!(" OPERATOR(pg_catalog.+) {zero}"))
                    .collect();
                format!("SELECT pg_catalog.count(*){all} FROM lockkeeper_changed")
            }
        };
        format!("WITH {}\n{answer}", ctes.join(",\n"))
    }

    /// The keys that the statement means now, in order; more than [`COLLECTED_MAX`] where there are too many to hold. Uses the
    /// client's parameters as its statement does.
    pub fn collect_sql(&self, after: Option<&Key>, upper: &Key) -> String {
        let ctes = self
            .ctes
            .as_ref()
            .map(|ctes| format!("WITH {ctes}\n"))
            .unwrap_or_default();
        let condition = self.condition.as_deref().unwrap_or("true");
        format!(
            "{ctes}SELECT {} FROM {}\n WHERE ({condition}\n) AND {} ORDER BY {} LIMIT {}",
            self.texts(),
            self.from,
            self.within(after, upper),
            self.columns(),
            COLLECTED_MAX + 1
        )
    }

    /// By place, when the walk has come to its end: what meets the condition still, by one snapshot, for [`Range::only`]; at most one
    /// more than [`COLLECTED_MAX`]. Uses the client's parameters as its statement does.
    pub fn left_sql(&self) -> String {
        let ctes = self
            .ctes
            .as_ref()
            .map(|ctes| format!("WITH {ctes}\n"))
            .unwrap_or_default();
        format!(
            "{ctes}SELECT {} FROM {}\n WHERE ({}\n) LIMIT {}",
            place::version(&self.qualifier),
            self.from,
            self.condition.as_deref().unwrap_or("true"),
            COLLECTED_MAX + 1
        )
    }

    /// There is no key: rows may get another place, so that those that are left must be looked for at the end.
    pub fn by_place(&self) -> bool {
        self.places.is_some()
    }

    /// How many columns at the end of each row are not the client's.
    pub fn extra_columns(&self) -> usize {
        if self.returns {
            self.key.len() + usize::from(self.guarded)
        } else {
            0
        }
    }

    fn within(&self, after: Option<&Key>, end: &Key) -> String {
        let literals = |key: &Key| key.iter().map(|text| quote_literal(text)).collect::<Vec<_>>();
        let named = match (&self.places, &end[..]) {
            (Some(places), [end]) => {
                let after = after.and_then(|key| key.first()).map(String::as_str);
                places.named(&self.columns(), after, end)
            }
            _ => String::new(),
        };
        format!(
            "{}{named}",
            self.between(after.map(literals).as_deref(), &literals(end))
        )
    }

    /// Each key as the expressions of its columns' values, of an unknown type.
    fn between(&self, after: Option<&[String]>, end: &[String]) -> String {
        let lower = after.map(|after| format!("{} AND ", self.compared(">", after)));
        format!("{}{}", lower.unwrap_or_default(), self.compared("<=", end))
    }

    /// The key columns compared with a key. Where their operators are in several schemas, of which a comparison of rows names only one, by
    /// the first column and then column by column.
    fn compared(&self, sign: &str, key: &[String]) -> String {
        let is_one = |column: &KeyColumn| column.operators == self.key[0].operators;
        if self.key.iter().all(is_one) {
            let by = operator(&self.key[0].operators, sign);
            return format!("({}) {by} ({})", self.columns(), self.values(key));
        }
        let one = |at: usize, sign: &str| {
            let column = &self.key[at];
            let value = format!("{}::{}", key[at], column.type_name);
            format!("{} {} {value}", column.reference, operator(&column.operators, sign))
        };
        let strict = &sign[..1];
        let last = self.key.len() - 1;
        let all = (0..last).rev().fold(one(last, sign), |rest, at| {
            format!("({} OR ({} AND {rest}))", one(at, strict), one(at, "="))
        });
        format!("({} AND {all})", one(0, &format!("{strict}=")))
    }

    /// Of those keys, as far as the first column tells them apart: an index condition like the range's own.
    fn among(&self, keys: &[Key]) -> String {
        let Some(column) = self.key.first() else {
            return "true".into();
        };
        let mut values: Vec<&String> = keys.iter().filter_map(|key| key.first()).collect();
        values.dedup();
        let values: Vec<String> = values.into_iter().map(|value| quote_literal(value)).collect();
        format!(
            "{} {} ANY (ARRAY[{}]::{}[])",
            column.reference,
            operator(&column.operators, "="),
            values.join(", "),
            column.type_name
        )
    }

    fn columns(&self) -> String {
        self.list(|_, column| column.reference.clone())
    }

    fn texts(&self) -> String {
        self.list(|_, column| column.text.clone())
    }

    /// One item per key column, numbered from 1.
    fn list(&self, item: impl Fn(usize, &KeyColumn) -> String) -> String {
        let items: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(i, column)| item(i + 1, column))
            .collect();
        items.join(", ")
    }

    fn values(&self, key: &[String]) -> String {
        let value = |(value, column): (&String, &KeyColumn)| format!("{value}::{}", column.type_name);
        key.iter().zip(&self.key).map(value).collect::<Vec<_>>().join(", ")
    }
}

/// The key to walk along, of a table that can be walked.
fn usable_key(statement: &Statement, relation: &Relation) -> Result<Vec<(String, String)>, String> {
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
    judge::table(relation, tree.verb)?;
    let key = walkable_key(relation)?;
    let is_exact = |(name, type_name): &&(String, String)| exact_text("", type_name, is_enum(relation, name)).is_some();
    match key.iter().find(|column| !is_exact(column)) {
        Some((name, type_name)) => Err(format!(
            "the text form of key column {name}, of type {type_name}, is not known to be exact, so that a batch could not start \
             where the last one ended"
        )),
        None => Ok(key),
    }
}

fn is_place(key: &[(String, String)]) -> bool {
    matches!(key, [(name, type_name)] if (name.as_str(), type_name.as_str()) == place::COLUMN)
}

fn is_enum(relation: &Relation, column: &str) -> bool {
    relation.column(column).is_some_and(|column| column.is_enum)
}

/// A table without a key may be walked by place, if the statement allows it.
pub fn has_places(relation: &Relation, facts: &Facts, verb: &str) -> bool {
    judge::table(relation, verb)
        .and_then(|()| place::table(relation, facts))
        .is_ok()
}

/// An UPDATE that does not count on what it changes: with a fitting condition no row that it has changed is changed again.
pub fn ends_itself(statement: &Statement, relation: &Relation) -> bool {
    Tree::of(&statement.node).is_some_and(|tree| judge::steady_values(&tree, relation).is_ok())
}

/// What is known of an UPDATE's or DELETE's size before the planner is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A lookup of one key or of a short list of them.
    Pinned,
    /// A table that is small or nobody else's: the number would not matter.
    Small,
    /// Only the planner can tell.
    Unknown,
}

pub fn target(statement: &Statement, relation: &Relation, small_bytes: u64) -> Target {
    if relation.ruled {
        return Target::Unknown;
    }
    if relation.has_rows_of_its_own_only() {
        return Target::Small;
    }
    match (relation.kind, Tree::of(&statement.node)) {
        ('r' | 'p', Some(tree)) if pins_a_key(&tree, relation) => Target::Pinned,
        ('r' | 'p', Some(_)) if relation.is_small(small_bytes) => Target::Small,
        // What is behind a view has a size too.
        ('r' | 'p' | 'v' | 'f', Some(_)) => Target::Unknown,
        _ => Target::Small,
    }
}

/// The same from EXPLAIN (FORMAT JSON). None: it could not be read.
pub fn explained_rows(statement: &Statement, relation: &Relation, json: &str) -> Option<f64> {
    if relation.ruled {
        return mixed::changed_rows(json);
    }
    planned_rows(json).map(|planned| expected_rows(statement, relation, planned))
}

/// How many rows an UPDATE or DELETE touches: what the planner expects, or the whole table where it expects blindly.
fn expected_rows(statement: &Statement, relation: &Relation, planned: f64) -> f64 {
    /// Of a row in a table that was never analyzed.
    const BYTES: f64 = 100.0;
    match Tree::of(&statement.node) {
        Some(tree) if lookup::expects_blindly(&tree, relation) => {
            planned.max(relation.rows.unwrap_or(relation.bytes as f64 / BYTES))
        }
        _ => planned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, Function, Index, Name, RewriteRule, Trigger};
    use crate::reading::read;

    /// (id, tenant, name, n, flag, created) with a primary key.
    pub fn table(key: &[&str]) -> Relation {
        let column = |name: &str, type_name: &str| Column {
            analyzed: name != "flag",
            name: name.into(),
            type_name: type_name.into(),
            not_null: key.contains(&name),
            ..Column::default()
        };
        let columns = vec![
            column("id", "bigint"),
            column("tenant", "text"),
            column("name", "text"),
            column("n", "integer"),
            column("flag", "boolean"),
            column("created", "timestamp with time zone"),
            column("f", "interval"),
        ];
        let index = Index {
            oid: 1,
            schema: "public".into(),
            name: "t_pkey".into(),
            valid: true,
            ready: true,
            unique: true,
            primary: true,
            immediate: true,
            partial: false,
            method: "btree".into(),
            columns: key.iter().map(|k| Some(k.to_string())).collect(),
            mentions: vec![],
            parent: None,
            constraint: None,
            bytes: 0,
            special: None,
            operators: vec![],
            definition: format!(
                "CREATE UNIQUE INDEX t_pkey ON public.t USING btree ({})",
                key.join(", ")
            ),
        };
        Relation {
            asked: Name {
                schema: None,
                name: "t".into(),
            },
            oid: 2,
            schema: "public".into(),
            name: "t".into(),
            kind: 'r',
            persistence: 'p',
            bytes: 1 << 30,
            tree: vec![2],
            owner: "o".into(),
            columns,
            indexes: if key.is_empty() { vec![] } else { vec![index] },
            ..Relation::default()
        }
    }

    pub fn statement(sql: &str) -> Statement {
        let mut statements = read(sql.as_bytes(), true).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(statements.len(), 1, "{sql}");
        statements.remove(0)
    }

    /// Where `u` and the view `v` are there too, and some functions are known.
    pub fn facts(target: &Relation) -> Facts {
        let other = |name: &str, kind, oid| Relation {
            asked: Name {
                schema: None,
                name: name.into(),
            },
            name: name.into(),
            kind,
            oid,
            tree: vec![oid],
            ..target.clone()
        };
        let function = |name: &str, volatile, immutable, built_in| Function {
            asked: Name {
                schema: name.split_once('.').map(|(schema, _)| schema.into()),
                name: name.rsplit('.').next().unwrap_or_default().into(),
            },
            volatile,
            immutable,
            built_in,
        };
        let mut functions: Vec<Function> = ["lower", "max", "count", "generate_series", "row_number"]
            .iter()
            .map(|name| function(name, false, true, true))
            .collect();
        functions.extend(["now", "table_to_xml"].map(|name| function(name, false, false, true)));
        functions.extend(["random", "gen_random_uuid"].map(|name| function(name, true, false, true)));
        functions.extend([
            function("f", false, false, false),
            function("my.pure", false, true, false),
        ]);
        Facts {
            relations: vec![target.clone(), other("u", 'r', 30), other("v", 'v', 31)],
            functions,
            jobs: Some(crate::jobs::JobTable {
                comment: "lockkeeper jobs, version 2".into(),
                distrust: None,
                usable: true,
            }),
            ..Facts::default()
        }
    }

    #[track_caller]
    fn check_refused(sql: &str, expect: &str) {
        let table = table(&["id"]);
        let error = Batches::new(&statement(sql), &table, &facts(&table))
            .map(|_| ())
            .unwrap_err();
        assert!(error.contains(expect), "{sql}: {error}");
    }

    #[track_caller]
    fn batches(sql: &str, key: &[&str]) -> Batches {
        let table = table(key);
        Batches::new(&statement(sql), &table, &facts(&table)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn range(after: Option<&str>, end: &str) -> Range {
        Range {
            after: after.map(|key| vec![key.into()]),
            end: vec![end.into()],
            keys: 500,
            only: None,
            anywhere: false,
        }
    }

    #[test]
    fn a_batch() {
        let b = batches(
            "UPDATE ONLY t AS x SET flag = false -- why\n WHERE flag IS NULL -- not yet",
            &["id"],
        );
        assert_eq!(
            b.bounds_sql(),
            "SELECT x.id::pg_catalog.text FROM ONLY t AS x ORDER BY x.id DESC LIMIT 1"
        );
        assert_eq!(
            b.end_sql(Some(&vec!["12".into()]), &vec!["900".into()], 500),
            "SELECT x.id::pg_catalog.text FROM ONLY t AS x\n WHERE (x.id) OPERATOR(pg_catalog.>) ('12'::bigint) AND (x.id) \
             OPERATOR(pg_catalog.<=) ('900'::bigint) ORDER BY x.id \
             OFFSET 499 LIMIT 1"
        );
        assert_eq!(
            b.batch_sql(&range(None, "900"), None, false),
            "WITH lockkeeper_changed AS (UPDATE ONLY t AS x SET flag = false\n WHERE (x.id) OPERATOR(pg_catalog.<=) ('900'::bigint)\n \
             AND (flag IS NULL\n) IS TRUE\n RETURNING 1)\nSELECT pg_catalog.count(*) FROM lockkeeper_changed"
        );
        let moved = Move {
            job: 7,
            batches: 3,
            is_last: true,
        };
        let made = b.batch_sql(&range(Some("12"), "900"), Some(moved), true);
        for part in [
            "(x.id) OPERATOR(pg_catalog.>) ('12'::bigint) AND (x.id) OPERATOR(pg_catalog.<=) ('900'::bigint)",
            "ORDER BY x.id FOR UPDATE",
            "j.state OPERATOR(pg_catalog.=) 'running' AND j.batches OPERATOR(pg_catalog.=) 3",
            "SET last_key = ARRAY['900']::pg_catalog.text[]",
            "batches = batches OPERATOR(pg_catalog.+) 1",
            "state = 'done'",
        ] {
            assert!(made.contains(part), "{part}: {made}");
        }
    }

    #[test]
    fn what_stays_the_same_has_its_parameters_behind_the_client_s() {
        let b = batches("UPDATE t SET flag = $2 WHERE name = $1", &["tenant", "id"]);
        let key = |one: &str, two: &str| vec![one.to_owned(), two.to_owned()];
        let end = b.lasting_end(Some(&key("a", "1")), &key("b", "2"), 500).unwrap();
        assert!(
            end.sql.contains("($3::") && end.sql.contains("OFFSET $5 LIMIT 1"),
            "{}",
            end.sql
        );
        assert_eq!(end.values, ["a", "1", "b", "2", "499"]);
        let between = |after: Option<Key>, only| Range {
            after,
            end: key("\"\\", "2"),
            keys: 500,
            only,
            anywhere: false,
        };
        let moved = |batches, is_last| Move {
            job: 7,
            batches,
            is_last,
        };
        let made = |job| b.lasting_batch(&between(Some(key("a", "1")), None), job, 2).unwrap();
        let first = made(Some(moved(3, false)));
        assert_eq!(
            first.values,
            ["a", "1", "\"\\", "2", "3", r#"{"\"\\","2"}"#, "500", "false"]
        );
        assert_eq!(first.sql, made(Some(moved(4, true))).sql);
        for part in ["flag = $2", "($3::", "$7::pg_catalog.int8", "$10::pg_catalog.bool"] {
            assert!(first.sql.contains(part), "{part}: {}", first.sql);
        }
        let parsed = pg_query::parse(&first.sql, pg_query::ParserOptions::default());
        assert_eq!(
            parsed.map(|parsed| parsed.protobuf.stmts.len()).ok(),
            Some(1),
            "{}",
            first.sql
        );
        // There is nothing to begin behind, or it depends on what the values are.
        assert!(b.lasting_batch(&between(None, None), None, 2).is_none());
        assert!(
            b.lasting_batch(&between(Some(key("a", "1")), Some(Vec::new())), None, 2)
                .is_none()
        );
        let more = batches("UPDATE t SET flag = (SELECT true) WHERE name = 'a'", &["id"]);
        assert!(more.lasting_batch(&range(Some("1"), "2"), None, 0).is_none());
    }

    #[test]
    fn what_is_made_parses() {
        for (sql, key) in [
            ("UPDATE t SET flag = false", &["id"][..]),
            (
                "update public.t as \"set\" set flag = (\"set\".n > 3), name = 'set' where n = $1 /* c */ or flag",
                &["tenant", "id"],
            ),
            (
                "UPDATE t x SET (flag, name) = (true, 'a') WHERE created < now() - interval '1 day'",
                &["created", "id"],
            ),
            (
                "DELETE FROM ONLY (t) AS d WHERE d.n BETWEEN 1 AND $2 -- end",
                &["tenant", "id"],
            ),
            (
                "with recursive update as (select 1 as id), \"delete\" as (select 2) update t set n = 1 from u, update where u.id = t.id \
                 returning t.*, u.id as k",
                &["id"],
            ),
            (
                "WITH a AS (SELECT 1) DELETE FROM t USING u WHERE u.id = t.id RETURNING *",
                &["id"],
            ),
            (
                "DELETE FROM t AS x USING u WHERE EXISTS (SELECT FROM u WHERE true)",
                &["tenant", "id"],
            ),
        ] {
            let b = batches(sql, key);
            let some: Key = key.iter().map(|_| "a'\\".to_string()).collect();
            let range = Range {
                after: Some(some.clone()),
                end: some.clone(),
                keys: 1,
                only: None,
                anywhere: false,
            };
            let moved = Move {
                job: 1,
                batches: 0,
                is_last: false,
            };
            for made in [
                b.bounds_sql(),
                b.end_sql(Some(&some), &some, 9),
                b.batch_sql(&range, None, false),
                b.batch_sql(&range, Some(moved), true),
            ] {
                let parsed = pg_query::parse(&made, pg_query::ParserOptions::default())
                    .unwrap_or_else(|error| panic!("{made}: {error}"));
                assert_eq!(parsed.protobuf.stmts.len(), 1);
            }
        }
        let table = table(&["id"]);
        let made = Batches::backfill(&table, &facts(&table), "name = gen_random_uuid()", "name IS NULL", true).unwrap();
        assert_eq!(made.head, "UPDATE public.t SET name = gen_random_uuid()");
    }

    #[test]
    fn what_is_allowed() {
        let check = |sql: &str, repeatable: bool| {
            assert_eq!(batches(sql, &["id"]).repeatable.is_ok(), repeatable, "{sql}");
        };
        check("UPDATE t SET flag = false WHERE flag IS NULL", true);
        check("UPDATE t SET name = lower(tenant) || n", true);
        check(
            "UPDATE t SET name = gen_random_uuid() WHERE t.name IS NULL AND n > 3",
            true,
        );
        check("UPDATE t SET name = 'x', n = n + 1 WHERE name IS NULL", true);
        check("UPDATE t SET name = $1 WHERE name = $2", true);
        check("UPDATE t SET flag = DEFAULT", true);
        check("DELETE FROM t WHERE created < now() - interval '1 year'", true);
        check("DELETE FROM t WHERE id IN (SELECT id FROM u) RETURNING *", true);
        check("UPDATE t SET n = (SELECT max(id) FROM u)", true);
        check("UPDATE t SET name = my.pure(tenant)", true);
        check(
            "UPDATE t SET n = 1 FROM u, generate_series(1, 3) g WHERE u.id = t.id",
            true,
        );
        check("UPDATE t SET n = n + 1", false);
        check("UPDATE t SET n = 1, flag = t.n > 2", false);
        check("UPDATE t SET name = t::text", false);
        check("UPDATE t SET n = random() * 10", false);
        check("UPDATE t SET n = random() WHERE name IS NULL", false);
        check("UPDATE t SET n = random() WHERE n IS NULL OR flag", false);
        // A column of the table's name is no whole row.
        let mut same = table(&["id"]);
        same.columns[4].name = "t".into();
        let of = |sql: &str| Batches::new(&statement(sql), &same, &facts(&same)).unwrap().repeatable;
        assert!(of("UPDATE t SET name = t").is_ok());
        assert!(of("UPDATE t SET t = NOT t").is_err());
    }

    #[test]
    fn what_is_refused() {
        check_refused("UPDATE t SET n = NULL, name = f() WHERE n IS NULL", "f()");
        check_refused("UPDATE t SET name = my.lower(tenant)", "lower()");
        check_refused(
            "UPDATE t SET name = table_to_xml('t', true, true, '')",
            "table_to_xml()",
        );
        check_refused("UPDATE t SET id = 5", "it changes id");
        check_refused("UPDATE t SET (n, id) = (1, 2)", "it changes id");
        check_refused("UPDATE t SET n = t2.n FROM t t2 WHERE t2.id = t.n", "reads t itself");
        check_refused("UPDATE t SET n = (SELECT max(n) FROM t)", "reads t itself");
        check_refused("DELETE FROM t USING v WHERE v.id = t.id", "the view v");
        check_refused("DELETE FROM t WHERE id IN (SELECT id FROM nowhere)", "nothing is known");
        check_refused("DELETE FROM t WHERE id IN (SELECT id FROM u LIMIT 5)", "LIMIT");
        check_refused(
            "WITH x AS (SELECT id FROM u FOR UPDATE) DELETE FROM t USING x",
            "FOR UPDATE",
        );
        check_refused(
            "WITH x AS (DELETE FROM u RETURNING id) DELETE FROM t USING x",
            "writes too",
        );
        check_refused(
            "UPDATE t SET n = x.r FROM (SELECT id, row_number() OVER () r FROM u) x WHERE x.id = t.id",
            "window function",
        );
        check_refused("DELETE FROM t WHERE CURRENT OF c", "cursor");
        check_refused("DELETE FROM t WHERE random() < 0.1", "random()");
        check_refused("DELETE FROM t USING (SELECT random() r) x WHERE x.r > 1", "random()");
        check_refused("DELETE FROM t WHERE ctid < '(5,1)'", "ctid");
    }

    #[test]
    fn new_rows_must_be_behind() {
        let check = |key: &[&str], default: Option<&str>, type_name: &str, expect: Result<bool, &str>| {
            let mut table = table(key);
            table.columns[0].default = default.map(str::to_string);
            table.columns[0].type_name = type_name.to_string();
            let made = Batches::new(&statement("UPDATE t SET n = n + 1"), &table, &facts(&table));
            match (made, expect) {
                (Ok(made), Ok(told)) => assert_eq!(made.new_rows.is_some(), told),
                (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}"),
                (made, _) => panic!("{key:?} {default:?}: {made:?}"),
            }
            assert!(Batches::new(&statement("UPDATE t SET n = 5"), &table, &facts(&table)).is_ok());
        };
        check(&["id"], Some("nextval('s'::regclass)"), "bigint", Ok(false));
        check(&["id", "tenant"], Some("nextval('s'::regclass)"), "bigint", Ok(false));
        check(&["id"], Some("uuidv7()"), "uuid", Ok(false));
        check(&["id"], None, "bigint", Ok(true));
        check(
            &["id"],
            Some("gen_random_uuid()"),
            "uuid",
            Err("anywhere in the order of the key (id)"),
        );
        check(&["id"], None, "text", Err("anywhere"));
        check(&["tenant", "id"], None, "bigint", Err("(tenant, id)"));
    }

    #[test]
    fn progress_must_be_kept_where_it_counts() {
        let table = table(&["id"]);
        let none = Facts {
            jobs: None,
            ..facts(&table)
        };
        let made = |sql: &str| Batches::new(&statement(sql), &table, &none);
        assert!(made("UPDATE t SET n = n + 1").unwrap_err().contains("lockkeeper init"));
        assert!(matches!(
            made("UPDATE t SET n = 5").unwrap().access,
            jobs::Access::None(_)
        ));
        let hidden = Relation {
            row_security: Some(crate::catalog::RowSecurity {
                settings: Default::default(),
                opaque: true,
            }),
            ..table.clone()
        };
        let facts = facts(&table);
        let made = |sql: &str| Batches::new(&statement(sql), &hidden, &facts);
        assert!(
            made("UPDATE t SET n = n + 1")
                .unwrap_err()
                .contains("row-level security")
        );
        assert!(made("UPDATE t SET n = 5").is_ok());
    }

    #[test]
    fn tables_that_are_refused() {
        let s = statement("UPDATE t SET flag = true");
        let refused = |relation: &Relation| Batches::new(&s, relation, &facts(relation)).map(|_| ()).unwrap_err();
        assert!(refused(&table(&[])).contains("no primary key"));
        let keyless = |sql: &str| {
            Batches::new(&statement(sql), &table(&[]), &facts(&table(&[]))).map(|batches| batches.by_place())
        };
        for sql in [
            "DELETE FROM t",
            "DELETE FROM t WHERE n IN (SELECT id FROM u)",
            "UPDATE t SET flag = true WHERE flag IS NULL",
            "UPDATE t SET n = random() * 5 WHERE n < 0",
        ] {
            assert_eq!(keyless(sql), Ok(true), "{sql}");
        }
        for (sql, expect) in [
            ("UPDATE t SET flag = true WHERE n = 5", "still meet the condition"),
            ("UPDATE t SET n = n + 1 WHERE n < 5", "depends on n"),
            ("UPDATE t SET flag = true, n = n + 1 WHERE flag IS NULL", "depends on n"),
            ("DELETE FROM t USING u WHERE u.id = t.id", "a sub-select in WHERE"),
        ] {
            assert!(keyless(sql).unwrap_err().contains(expect), "{sql}");
        }
        assert!(refused(&table(&["f"])).contains("interval"));
        for (kind, expect) in [('v', "view"), ('f', "foreign table")] {
            assert!(refused(&Relation { kind, ..table(&["id"]) }).contains(expect));
        }
        let mut descending = table(&["id"]);
        descending.indexes[0].definition = "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id DESC)".into();
        assert!(refused(&descending).contains("order of its own"));
        let trigger = |for_each_row, transition, on_update| Relation {
            triggers: vec![Trigger {
                name: "tr".into(),
                for_each_row,
                before: false,
                disabled: false,
                on_replica: false,
                of_columns: false,
                transition,
                on_update,
                on_delete: !on_update,
                comment: None,
            }],
            ..table(&["id"])
        };
        assert!(refused(&trigger(false, false, true)).contains("trigger tr"));
        assert!(refused(&trigger(true, true, true)).contains("trigger tr"));
        let allowed = |relation: &Relation| Batches::new(&s, relation, &facts(relation)).is_ok();
        assert!(allowed(&trigger(true, false, true)));
        assert!(allowed(&trigger(false, true, false)));
        assert!(allowed(&Relation {
            kind: 'p',
            ..table(&["id"])
        }));
        let rule = |on_update| Relation {
            rules: vec![RewriteRule {
                name: "ru".into(),
                on_update,
                on_delete: !on_update,
            }],
            ..table(&["id"])
        };
        assert!(refused(&rule(true)).contains("the rule ru"));
        assert!(allowed(&rule(false)));
    }

    #[test]
    fn estimates_are_asked_for() {
        let check = |sql: &str, expect: bool| {
            assert_eq!(
                target(&statement(sql), &table(&["tenant", "id"]), 1 << 20) == Target::Unknown,
                expect,
                "{sql}"
            );
        };
        check("UPDATE t SET n = n + 1 WHERE id = 5 AND tenant = $1", false);
        check(
            "UPDATE t x SET n = 1 WHERE $1::bigint = x.id AND (tenant = 'a' AND flag)",
            false,
        );
        check("DELETE FROM t WHERE id IN (1, 2, $3) AND tenant IN ('a', 'b')", false);
        check("DELETE FROM t WHERE id = 5", true);
        check("DELETE FROM t WHERE id = 5 OR tenant = 'a'", true);
        check("DELETE FROM t WHERE id = n AND tenant = 'a'", true);
        check("DELETE FROM t WHERE id >= 5 AND tenant = 'a'", true);
        check("DELETE FROM t WHERE id NOT IN (5) AND tenant = 'a'", true);
        check("DELETE FROM t WHERE id = ANY ($1) AND tenant = 'a'", true);
        check("DELETE FROM t USING u WHERE id = 5 AND tenant = 'a'", true);
        check("DELETE FROM t WHERE tenant = 'a' AND u.id = 5", true);
        check("DELETE FROM t", true);
        let long: Vec<String> = (0..101).map(|n| n.to_string()).collect();
        check(
            &format!("DELETE FROM t WHERE tenant = 'a' AND id IN ({})", long.join(", ")),
            true,
        );
        let s = statement("DELETE FROM t");
        assert_eq!(target(&s, &table(&["id"]), 1 << 40), Target::Small);
        let of = |relation: Relation| target(&s, &relation, 0);
        assert_eq!(
            of(Relation {
                created_here: true,
                ..table(&["id"])
            }),
            Target::Small
        );
        assert_eq!(
            of(Relation {
                kind: 'v',
                ..table(&["id"])
            }),
            Target::Unknown
        );
    }

    #[test]
    fn texts_of_one_shape_get_one_answer() {
        let values = [
            "1",
            "-7",
            "'a'",
            "'it''s'",
            "1.5",
            "1e3",
            "$1",
            "NULL",
            "n",
            "'a'::text",
            "(1 + 2)",
        ];
        let forms = [
            "id = {} AND tenant = {}",
            "tenant = 'k' AND id IN ({}, {})",
            "id = {}\n AND  tenant={}",
        ];
        let mut seen: std::collections::HashMap<Vec<u8>, (String, Target)> = Default::default();
        let mut met = 0;
        for form in forms {
            for one in values {
                for two in values {
                    let sql = format!(
                        "DELETE FROM t WHERE {}",
                        form.replacen("{}", one, 1).replacen("{}", two, 1)
                    );
                    let answer = target(&statement(&sql), &table(&["tenant", "id"]), 0);
                    let mut out = Vec::new();
                    assert!(shape::shape(sql.as_bytes(), &mut out), "{sql}");
                    match seen.get(&out) {
                        Some((other, expect)) => {
                            met += 1;
                            assert_eq!(*expect, answer, "{sql} and {other}");
                        }
                        None => drop(seen.insert(out, (sql, answer))),
                    }
                }
            }
        }
        assert!(met > 50, "only {met} texts shared a shape");
    }
}
