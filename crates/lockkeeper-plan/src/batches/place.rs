//! A table without a key, walked by where its rows are stored (ctid): which statements that is exactly right for, and the SQL of it.
//!
//! A row that others update gets another place, before or behind where the walk has come to. So a statement must end its own
//! condition: no row that it has changed meets it any more. Then the walk goes through the table once, and afterwards the rows
//! that still meet the condition are looked for by one snapshot, and changed, until a look has found none that was not reached.

use super::judge::{self, assignments};
use super::text::Tree;
use crate::catalog::{Relation, Trigger};
use crate::facts::Facts;
use crate::mentions::Mentions;
use crate::splice::quote_literal;
use crate::statement::Statement;

/// The name and type of the only key column of such a walk.
pub const COLUMN: (&str, &str) = ("ctid", "tid");

/// More rows than any block of up to 32 kB has places for are numbered in none.
const SLOTS: &str = "(pg_catalog.current_setting('block_size')::pg_catalog.int4 OPERATOR(pg_catalog./) 28)";

/// How a table is walked by place.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Rows in a block, about.
    pub per_block: f64,
    /// PostgreSQL 14 and later read a range of places by itself; before, each place must be named.
    pub ranges: bool,
}

impl Places {
    pub fn of(relation: &Relation, facts: &Facts) -> Places {
        const BLOCK: f64 = 8192.0;
        let blocks = (relation.bytes as f64 / BLOCK).max(1.0);
        let rows = relation.rows.unwrap_or(blocks * 20.0);
        Places {
            per_block: (rows / blocks).clamp(1.0, 300.0),
            ranges: facts.server_version >= 140_000,
        }
    }

    /// A place that about so many rows, and never much more, lie before.
    pub fn far_end(&self, after: Option<&str>, upper: &str, keys: u64) -> String {
        let first = after.and_then(block).unwrap_or(0);
        let blocks = (keys as f64 / self.per_block * 4.0).ceil() as u64 + 1;
        match block(upper) {
            Some(last) if first + blocks < last => format!("({},0)", first + blocks),
            _ => upper.to_string(),
        }
    }

    /// Before 14: `and` the places themselves, so that no batch reads the whole table.
    pub fn named(&self, reference: &str, after: Option<&str>, end: &str) -> String {
        if self.ranges {
            return String::new();
        }
        let first = after.and_then(block).unwrap_or(0);
        let last = block(end).unwrap_or(first).max(first);
        format!(
            " AND {reference} OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.format('(%s,%s)', lockkeeper_b, lockkeeper_s)::pg_catalog.tid \
             FROM pg_catalog.generate_series({first}::pg_catalog.int8, {last}::pg_catalog.int8) lockkeeper_b, \
             pg_catalog.generate_series(1, {SLOTS}) lockkeeper_s))"
        )
    }
}

/// `(12,3)`
fn block(place: &str) -> Option<u64> {
    place.strip_prefix('(')?.split(',').next()?.parse().ok()
}

/// Behind the last row that is there now; none where there is none.
pub fn upper_sql(relation: u32) -> String {
    format!(
        "SELECT pg_catalog.concat('(', n.blocks, ',0)') FROM (SELECT pg_catalog.pg_relation_size({relation}::pg_catalog.oid::pg_catalog.regclass) \
         OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::pg_catalog.int8 AS blocks) n WHERE n.blocks OPERATOR(pg_catalog.>) 0::pg_catalog.int8"
    )
}

/// One version of one row: no other row, and no later version of it, has the same.
pub fn version(qualifier: &str) -> String {
    format!("pg_catalog.concat({qualifier}.ctid, ' ', {qualifier}.xmin)")
}

/// Of those versions that were found by one snapshot.
pub fn among(qualifier: &str, versions: &[Vec<String>]) -> String {
    let all = || versions.iter().filter_map(|row| row.first());
    let places: Vec<String> = all()
        .filter_map(|version| Some(quote_literal(version.split(' ').next()?)))
        .collect();
    let whole: Vec<String> = all().map(|version| quote_literal(version)).collect();
    format!(
        "{qualifier}.ctid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.tid[]) AND {} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[])",
        places.join(", "),
        version(qualifier),
        whole.join(", ")
    )
}

/// Why the table cannot be walked by place.
pub fn table(relation: &Relation, facts: &Facts) -> Result<(), String> {
    let name = format!("{}.{}", relation.schema, relation.name);
    if relation.view.is_some() {
        return Err("rows that are seen through a view have no place of their own: name the table behind it".into());
    } else if relation.kind == 'p' {
        return Err(format!(
            "{name} is partitioned, so that a place is not of one row alone: name its partitions one by one"
        ));
    } else if relation.kind != 'r' || relation.tree.len() > 1 || !facts.children(relation).is_empty() {
        return Err(format!(
            "other tables inherit from {name}, so that a place is not of one row alone: name each with ONLY"
        ));
    } else if relation.row_security.is_some() {
        return Err(format!(
            "row-level security decides which rows of {name} may be changed, so that nobody could tell whether all are reached"
        ));
    }
    Ok(())
}

/// A trigger that may leave a row as it is: each batch must count its rows before and afterwards.
pub fn may_leave_rows<'a>(relation: &'a Relation, verb: &str) -> Option<&'a Trigger> {
    let ours = |t: &&Trigger| t.comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: "));
    let fires = |t: &&Trigger| if verb == "UPDATE" { t.on_update } else { t.on_delete };
    let mut before = relation.triggers.iter().filter(|t| t.before && !t.disabled && !ours(t));
    before.find(fires)
}

/// Why the statement cannot be carried out by place. That an UPDATE really ends its condition is told by each batch itself.
pub fn statement(statement: &Statement, relation: &Relation) -> Result<(), String> {
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
    if tree.joins {
        let word = if tree.verb == "UPDATE" { "FROM" } else { "USING" };
        return Err(format!(
            "without one, what {word} reads would have to be read anew for each batch: a sub-select in WHERE would do"
        ));
    }
    let condition = tree.condition.map(Mentions::within).unwrap_or_default();
    if let Some(trigger) = may_leave_rows(relation, tree.verb).filter(|_| tree.has_with || condition.subselect) {
        return Err(format!(
            "trigger {} fires before each row and may leave it as it is, which is not noticed where the condition reads other tables",
            trigger.name
        ));
    }
    let Some(targets) = tree.targets else { return Ok(()) };
    judge::steady_values(&tree, relation)?;
    let targets = assignments(targets).ok_or("the SET list could not be read")?;
    let ends = targets
        .iter()
        .any(|(column, _)| judge::reads(&condition, column, &tree, relation));
    match ends {
        true => Ok(()),
        false => Err("a row that is changed would still meet the condition, so that it could be changed again".into()),
    }
}
