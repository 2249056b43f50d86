//! The statements of one step: what it takes from the log, which rows it copies, makes anew or compares.

use super::scheme::Scheme;
use crate::splice::{quote_ident, quote_literal};

/// The session's own list of the keys that a step makes anew.
const KEYS: &str = "pg_temp.lockkeeper_keys";

impl Scheme {
    fn key_names(&self, of: &str) -> String {
        let names: Vec<String> = (1..=self.key.len()).map(|n| format!("{of}k{n}")).collect();
        names.join(", ")
    }

    /// `(k1, k2) > (…)`, or `true` from the first row on.
    fn beyond(&self, key: Option<&[String]>, of: [&str; 2], names: &[String]) -> String {
        let Some(key) = key else { return "true".into() };
        let values: Vec<String> = key
            .iter()
            .zip(&self.key)
            .map(|(value, column)| format!("{}::{}", quote_literal(value), column.type_name))
            .collect();
        format!("({}{}) {} ({})", of[0], names.join(", "), of[1], values.join(", "))
    }

    fn range(&self, after: Option<&[String]>, up_to: Option<&[String]>, names: &[String]) -> String {
        format!(
            "{} AND {}",
            self.beyond(after, ["", ">"], names),
            self.beyond(up_to, ["", "<="], names)
        )
    }

    fn numbered(&self) -> Vec<String> {
        (1..=self.key.len()).map(|n| format!("k{n}")).collect()
    }

    fn named(&self) -> Vec<String> {
        self.key.iter().map(|column| quote_ident(&column.name)).collect()
    }

    /// Once in a session.
    pub fn make_keys(&self) -> String {
        format!(
            "CREATE TEMP TABLE IF NOT EXISTS lockkeeper_keys ON COMMIT DELETE ROWS AS SELECT * FROM {} WITH NO DATA",
            self.schemas().of("log")
        )
    }

    /// The key of the row that is so many rows behind that key, as text; no row: there are not so many.
    pub fn bound(&self, after: Option<&[String]>, rows: u64) -> String {
        // Not ::text, which DateStyle has a say in.
        let texts: Vec<String> = (1..=self.key.len())
            .map(|n| format!("to_json(k{n}) #>> '{{}}'"))
            .collect();
        format!(
            "SELECT array_to_json(ARRAY[{}]) FROM {} WHERE {} ORDER BY {} OFFSET {} LIMIT 1",
            texts.join(", "),
            self.schemas().of("f"),
            self.beyond(after, ["", ">"], &self.numbered()),
            self.key_names(""),
            rows.saturating_sub(1)
        )
    }

    fn insert(&self, rest: &str) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quote_ident(&column.name)).collect();
        let values: Vec<String> = (1..=self.columns.len()).map(|n| format!("f.c{n}")).collect();
        format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} f{rest}",
            self.fresh(),
            names.join(", "),
            values.join(", "),
            self.schemas().of("f")
        )
    }

    /// Rows behind one key up to another.
    pub fn copy(&self, after: Option<&[String]>, up_to: Option<&[String]>) -> String {
        let order = match self.is_ordered {
            true => format!(" ORDER BY {}", self.key_names("f.")),
            false => String::new(),
        };
        self.insert(&format!(" WHERE {}{order}", self.range(after, up_to, &self.numbered())))
    }

    /// One row if the table was truncated, as far as this snapshot knows.
    pub fn truncated(&self) -> String {
        format!("SELECT 1 FROM {} WHERE op = 'T' LIMIT 1", self.schemas().of("log"))
    }

    /// Of rows that are still to be copied, by this snapshot or a later one.
    pub fn discard(&self, after: Option<&[String]>) -> String {
        format!(
            "DELETE FROM {} WHERE {}",
            self.schemas().of("log"),
            self.beyond(after, ["", ">"], &self.numbered())
        )
    }

    /// All of the log that this snapshot knows: how many lines it had.
    pub fn take_log(&self) -> String {
        format!(
            "WITH gone AS (DELETE FROM {log} RETURNING *), kept AS (INSERT INTO {KEYS} SELECT DISTINCT * FROM gone) SELECT count(*), \
             count(*) FILTER (WHERE op = 'T') FROM gone",
            log = self.schemas().of("log")
        )
    }

    pub fn empty(&self) -> String {
        format!("TRUNCATE {}", self.fresh())
    }

    /// The rows of the keys that were taken from the log, made anew.
    pub fn make_anew(&self) -> [String; 2] {
        let named = self.named();
        let same = |of: &str, names: &[String]| {
            let each: Vec<String> = names
                .iter()
                .enumerate()
                .map(|(n, name)| format!("{of}.{name} = k.k{}", n + 1))
                .collect();
            each.join(" AND ")
        };
        [
            format!(
                "DELETE FROM {} n USING {KEYS} k WHERE k.op = 'R' AND {}",
                self.fresh(),
                same("n", &named)
            ),
            self.insert(&format!(
                ", {KEYS} k WHERE k.op = 'R' AND {}",
                same("f", &self.numbered())
            )),
        ]
    }

    /// One boolean: both tables have the same rows behind one key up to another.
    pub fn compare(&self, after: Option<&[String]>, up_to: Option<&[String]>) -> String {
        let expected: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(n, column)| format!("(c{})::{}", n + 1, column.type_name))
            .collect();
        let there: Vec<String> = self.columns.iter().map(|column| quote_ident(&column.name)).collect();
        self.compare_sides(&expected, (&there, &self.fresh()), [after, up_to])
    }

    /// What the view makes of the old table's rows against columns of a table, by count and hash.
    pub(super) fn compare_sides(
        &self,
        made: &[String],
        (there, table): (&[String], &str),
        [after, up_to]: [Option<&[String]>; 2],
    ) -> String {
        let side = |columns: &[String], from: &str, names: &[String]| {
            format!(
                "(SELECT ROW(count(*), sum(hashtextextended(ROW({})::text, 0)::numeric)) FROM {from} WHERE {})",
                columns.join(", "),
                self.range(after, up_to, names)
            )
        };
        format!(
            "SELECT {} IS NOT DISTINCT FROM {}",
            side(made, &self.schemas().of("f"), &self.numbered()),
            side(there, table, &self.named())
        )
    }

    /// Some of the keys that were taken from the log, in their order.
    pub(super) fn keys_from(&self, from: u64, count: u64) -> String {
        format!(
            "SELECT * FROM {KEYS} k WHERE k.op = 'R' ORDER BY {} OFFSET {from} LIMIT {count}",
            self.key_names("k.")
        )
    }

    pub(super) fn is_key(&self, of: &str) -> String {
        let each: Vec<String> = self
            .numbered()
            .iter()
            .map(|name| format!("{of}.{name} = k.{name}"))
            .collect();
        each.join(" AND ")
    }
}
