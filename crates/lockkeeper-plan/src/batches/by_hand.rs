//! An UPDATE or DELETE in batches as SQL for psql: what a person runs where no proxy stands in between.

use super::Batches;
use super::text::parts;
use crate::reading::read;
use crate::splice::quote_ident;
use crate::statement::Statement;

/// As the standard policy's `batch_rows`.
const ROWS: u32 = 5_000;

impl Batches {
    /// None: its rows are walked by more than one column or by place, or it answers with rows.
    pub fn by_hand(&self) -> Option<String> {
        let [key] = self.key.as_slice() else { return None };
        let statement = read(self.statement.as_bytes(), true).ok()?.pop()?;
        (self.places.is_none()).then(|| by_hand(&statement, (&key.name, &key.type_name)))?
    }
}

/// A loop along a key of one column, by its name and type, which commits each batch. None: it has a WITH, or answers with rows.
pub fn by_hand(statement: &Statement, (key, type_name): (&str, &str)) -> Option<String> {
    let parts = parts(statement)?;
    // A DO block quotes all of it.
    if parts.returning.is_some() || parts.ctes.is_some() || statement.sql.contains("$batches$") {
        return None;
    }
    let k = format!("{}.{}", quote_ident(&parts.qualifier), quote_ident(key));
    let (from, head) = (&parts.relation, &parts.head);
    let condition = match &parts.condition {
        Some(condition) => format!(" AND ({condition})"),
        None => String::new(),
    };
    Some(format!(
        "DO $batches$  -- outside of a transaction: it commits each batch\n\
         DECLARE\n  batch_after {type_name};\n  batch_end {type_name};\n\
         BEGIN\n  LOOP\n    \
         SELECT k INTO batch_end FROM (SELECT {k} FROM {from}\n        \
         WHERE batch_after IS NULL OR {k} > batch_after ORDER BY {k} LIMIT {ROWS}) b(k)\n      \
         ORDER BY k DESC LIMIT 1;\n    \
         EXIT WHEN batch_end IS NULL;\n    \
         {head}\n      WHERE (batch_after IS NULL OR {k} > batch_after) AND {k} <= batch_end{condition};\n    \
         COMMIT;\n    \
         batch_after := batch_end;\n  \
         END LOOP;\nEND $batches$"
    ))
}

/// The same of a text, where nothing is known of the table: with a key `id`, as most tables have.
pub fn as_if_by_id(sql: &str) -> Option<String> {
    let statement = read(sql.as_bytes(), true).ok()?.pop()?;
    let looped = by_hand(&statement, ("id", "bigint"))?;
    Some(format!("-- as if the key were id\n{looped}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splice::quote_literal;

    #[test]
    fn it_is_one_statement() {
        let sql = as_if_by_id("UPDATE t SET a = 1 WHERE a IS NULL -- those").expect("it can be written");
        let parsed = pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).expect("it is read");
        assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}");
        assert!(sql.contains("batch_end AND (a IS NULL)"), "{sql}");
        let quoted = format!(
            "DO {}",
            quote_literal(sql.split("$batches$").nth(1).unwrap_or_default())
        );
        assert!(pg_query::parse_plpgsql(&quoted).is_ok(), "{sql}");
        assert!(as_if_by_id("UPDATE t SET a = '$batches$'").is_none());
        assert!(as_if_by_id("DELETE FROM t RETURNING a").is_none());
    }
}
