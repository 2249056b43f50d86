//! A table that becomes partitioned by its rewrite: by what, and which partitions are made.

use super::facts::Table;
use crate::splice::{one_statement, qualified, quote_ident, quote_literal};
use pg_query::NodeEnum;
use pg_query::protobuf::PartitionStrategy;
use serde::{Deserialize, Serialize};

/// More are not made at once.
const PARTITIONS_MAX: u64 = 1_000;
const NAME_BYTES_MAX: usize = 63;

const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitioning {
    /// `RANGE (created_at)`, as it was written.
    pub by: String,
    pub column: String,
    pub parts: Parts,
    /// Ranges beyond the last row and today.
    pub ahead: u32,
    pub with_default: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parts {
    Each(Unit),
    /// Of a number's range.
    Width(u64),
    Hash(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Day,
    Week,
    Month,
    Year,
}

impl Unit {
    fn read(word: &str) -> Option<Unit> {
        match word {
            "daily" => Some(Unit::Day),
            "weekly" => Some(Unit::Week),
            "monthly" => Some(Unit::Month),
            "yearly" => Some(Unit::Year),
            _ => None,
        }
    }

    /// PostgreSQL's word, and how a partition of it is called.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Unit::Day => ("day", "\"p\"YYYY_MM_DD"),
            Unit::Week => ("week", "\"p\"IYYY_\"w\"IW"),
            Unit::Month => ("month", "\"p\"YYYY_MM"),
            Unit::Year => ("year", "\"p\"YYYY"),
        }
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    /// `FOR VALUES …`, or `DEFAULT`.
    pub bound: String,
}

/// How it is called, from where and to where.
pub type Range = (String, Option<String>, Option<String>);

/// Err: what is not understood.
pub fn read(by: &str, parts: &str, ahead: u32, with_default: bool) -> Result<Partitioning, String> {
    let refused = || format!("--partition-by is not understood: write RANGE (column) or HASH (column, …), not {by}");
    let node = one_statement(&format!("CREATE TABLE t (c int) PARTITION BY {by}")).ok_or_else(refused)?;
    let NodeEnum::CreateStmt(create) = &node else {
        return Err(refused());
    };
    let is_plain = create.tablespacename.is_empty() && create.access_method.is_empty() && create.options.is_empty();
    let spec = create.partspec.as_ref().filter(|_| is_plain).ok_or_else(refused)?;
    let name = |node: &pg_query::Node| match &node.node {
        Some(NodeEnum::PartitionElem(element)) if element.expr.is_none() => Some(element.name.clone()),
        _ => None,
    };
    let columns: Option<Vec<String>> = spec.part_params.iter().map(name).collect();
    let columns = columns.ok_or_else(|| format!("--partition-by names columns, not expressions: {by}"))?;
    let number = parts.parse::<u64>().ok().filter(|number| *number > 0);
    let parts = match (spec.strategy(), Unit::read(parts), number) {
        (PartitionStrategy::Range, Some(unit), _) => Parts::Each(unit),
        (PartitionStrategy::Range, _, Some(width)) => Parts::Width(width),
        (PartitionStrategy::Hash, _, Some(count)) if count <= PARTITIONS_MAX => Parts::Hash(count),
        (PartitionStrategy::Range | PartitionStrategy::Hash, ..) => {
            return Err(format!(
                "--partitions {parts} is not understood: daily, weekly, monthly, yearly or a width for RANGE, a number up to {PARTITIONS_MAX} for HASH"
            ));
        }
        _ => return Err(refused()),
    };
    match (parts, columns.as_slice()) {
        (Parts::Hash(_), [column, ..]) | (_, [column]) => Ok(Partitioning {
            by: by.trim().to_owned(),
            column: column.clone(),
            parts,
            ahead,
            with_default,
        }),
        _ => Err(format!("a range over several columns is not carried out: {by}")),
    }
}

impl Partitioning {
    /// One value: the ranges as JSON, from where the rows begin to beyond where they end; or none, where the table's rows decide nothing.
    pub fn ranges(&self, table: &Table) -> Result<Option<String>, String> {
        let column = table.columns.iter().find(|column| column.name == self.column);
        let column = column.ok_or_else(|| format!("there is no column {} in {}", self.column, table.name))?;
        let (name, from) = (quote_ident(&self.column), qualified(&table.schema, &table.name));
        let (ahead, type_name) = (self.ahead, &column.type_name);
        let is_time = matches!(column.type_oid, DATE | TIMESTAMP | TIMESTAMPTZ);
        let is_number = matches!(column.type_oid, INT2 | INT4 | INT8);
        match self.parts {
            Parts::Hash(_) => Ok(None),
            Parts::Each(unit) if is_time => {
                let (word, called) = unit.words();
                let at = match column.type_oid {
                    TIMESTAMPTZ => "timestamptz",
                    _ => "timestamp",
                };
                Ok(Some(format!(
                    "WITH x AS (SELECT min({name})::{at} AS low, max({name})::{at} AS high FROM ONLY {from} WHERE isfinite({name})), \
                     y AS (SELECT date_trunc('{word}', coalesce(x.low, now()::{at})) AS a, \
                     date_trunc('{word}', greatest(x.high, now()::{at})) + {ahead} * interval '1 {word}' AS b FROM x) \
                     SELECT jsonb_agg(jsonb_build_array(to_char(g, '{called}'), g::{type_name}::text, (g + interval '1 {word}')::{type_name}::text) ORDER BY g) \
                     FROM (SELECT g FROM y, generate_series(y.a, y.b, interval '1 {word}') g LIMIT {max}) g",
                    max = PARTITIONS_MAX + 1
                )))
            }
            Parts::Width(width) if is_number => {
                // Beyond its type's values there are none.
                let (least, most) = match column.type_oid {
                    INT2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
                    INT4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                    _ => (i64::MIN, i64::MAX),
                };
                Ok(Some(format!(
                    "WITH x AS (SELECT coalesce(min({name}), 0)::numeric AS low, coalesce(max({name}), 0)::numeric AS high FROM ONLY {from}) \
                     SELECT jsonb_agg(jsonb_build_array('p' || replace(g::text, '-', 'm'), CASE WHEN g >= {least} THEN g::text END, \
                     CASE WHEN g + {width} <= {most} THEN (g + {width})::text END) ORDER BY g) FROM (SELECT g FROM x, \
                     generate_series(floor(x.low / {width}) * {width}, (floor(x.high / {width}) + {ahead}) * {width}, {width}) g WHERE g <= {most} LIMIT {max}) g",
                    max = PARTITIONS_MAX + 1
                )))
            }
            Parts::Each(_) => Err(format!(
                "{} is no date and no timestamp: give the width of a partition as a number",
                self.column
            )),
            Parts::Width(_) => Err(format!(
                "{} is no integer: daily, weekly, monthly or yearly",
                self.column
            )),
        }
    }

    /// The partitions, by what the table's rows have told.
    pub fn parts(&self, table: &str, ranges: &[Range]) -> Result<Vec<Part>, String> {
        if ranges.len() as u64 > PARTITIONS_MAX {
            return Err(format!(
                "that would be more than {PARTITIONS_MAX} partitions: make them larger"
            ));
        }
        let mut parts: Vec<Part> = match self.parts {
            Parts::Hash(count) => (0..count)
                .map(|n| Part {
                    name: format!("{table}_p{n}"),
                    bound: format!("FOR VALUES WITH (MODULUS {count}, REMAINDER {n})"),
                })
                .collect(),
            _ => (ranges.iter())
                .map(|(suffix, from, to)| Part {
                    name: format!("{table}_{suffix}"),
                    bound: format!(
                        "FOR VALUES FROM ({}) TO ({})",
                        bound(from, "MINVALUE"),
                        bound(to, "MAXVALUE")
                    ),
                })
                .collect(),
        };
        if self.with_default && !matches!(self.parts, Parts::Hash(_)) {
            parts.push(Part {
                name: format!("{table}_default"),
                bound: "DEFAULT".into(),
            });
        }
        match parts.iter().find(|part| part.name.len() > NAME_BYTES_MAX) {
            Some(part) => Err(format!(
                "the name of the partition {} is too long: rename the table first",
                part.name
            )),
            None => Ok(parts),
        }
    }
}

/// None: that is the end of all values.
fn bound(value: &Option<String>, end: &str) -> String {
    value.as_deref().map_or(end.to_owned(), quote_literal)
}

/// Of the statements that make a table like another: those of the partitioned one, and those of each partition, with `{}` for its name.
pub fn divided(like: &[String], new: &str, by: &str) -> (Vec<String>, Vec<String>) {
    let (mut of_parent, mut of_each) = (Vec::new(), Vec::new());
    for sql in like {
        let (column, option, identity) = (
            format!("ALTER TABLE ONLY {new} ALTER COLUMN "),
            format!("ALTER TABLE {new} SET ("),
            format!("ALTER TABLE {new} REPLICA IDENTITY "),
        );
        if let Some(rest) = sql.strip_prefix(&format!("CREATE TABLE {new} ")) {
            // Its access method is that of each partition.
            let rest = rest.rsplit_once(" USING ").map_or(rest, |(rest, _)| rest);
            of_parent.push(format!("CREATE TABLE {new} {rest} PARTITION BY {by}"));
        } else if let Some(rest) = sql.strip_prefix(&option) {
            of_each.push(format!("ALTER TABLE {{}} SET ({rest}"));
        } else if let Some(rest) = sql.strip_prefix(&column) {
            of_each.push(format!("ALTER TABLE {{}} ALTER COLUMN {rest}"));
            if rest.contains(" SET STATISTICS ") {
                of_parent.push(sql.clone());
            }
        } else if let Some(rest) = sql.strip_prefix(&identity) {
            of_each.push(format!("ALTER TABLE {{}} REPLICA IDENTITY {rest}"));
            of_parent.push(sql.clone());
        } else {
            of_parent.push(sql.clone());
        }
    }
    (of_parent, of_each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let months = read("RANGE (created_at)", "monthly", 3, true).expect("it is understood");
        assert_eq!(
            (months.column.as_str(), months.parts),
            ("created_at", Parts::Each(Unit::Month))
        );
        let ranges = [("p2026_11".to_owned(), Some("2026-11-01".to_owned()), None)];
        let parts = months.parts("t", &ranges).expect("partitions");
        let bounds: Vec<_> = parts
            .iter()
            .map(|part| (part.name.as_str(), part.bound.as_str()))
            .collect();
        assert_eq!(
            bounds,
            [
                ("t_p2026_11", "FOR VALUES FROM ('2026-11-01') TO (MAXVALUE)"),
                ("t_default", "DEFAULT")
            ]
        );
        let hash = read("hash (id, \"B\")", "2", 3, true).expect("it is understood");
        assert_eq!(hash.parts("t", &[]).expect("partitions").len(), 2);
        for (by, parts) in [
            ("LIST (a)", "monthly"),
            ("RANGE (a, b)", "monthly"),
            ("RANGE (lower(a))", "monthly"),
            ("RANGE (a)", "often"),
            ("HASH (a)", "monthly"),
            ("RANGE (a) WITH (fillfactor = 10)", "monthly"),
            ("RANGE (a); DROP TABLE t", "monthly"),
        ] {
            assert!(read(by, parts, 3, true).is_err(), "{by} {parts}");
        }
    }
}
