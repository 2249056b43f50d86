//! The function that keeps two columns in step, as a trigger before each row's insert and update.
//!
//! It runs with the rights of whoever writes, and with settings of its own, so that every writer's values are converted alike.

use crate::catalog::Relation;
use crate::mentions::Mentions;
use crate::splice::{one_statement, quote_ident, quote_literal};

/// Where the new column's values come from.
pub(crate) enum Values {
    /// The old column's, by assignment.
    Same,
    /// `USING`, over columns of the row: the name in the expression, and the field of NEW.
    Expression {
        table: String,
        using: String,
        reads: Vec<(String, String)>,
    },
}

impl Values {
    pub(crate) fn of(using: &str, relation: &Relation) -> Values {
        let mut reads: Vec<(String, String)> = Vec::new();
        let mentions = one_statement(&format!("SELECT ({using}\n)")).map(|node| Mentions::of(&node));
        for name in mentions
            .into_iter()
            .flat_map(|m| m.columns)
            .filter_map(|mut words| words.pop())
        {
            if !reads.iter().any(|(read, _)| *read == name) {
                reads.push((name.clone(), name));
            }
        }
        Values::Expression {
            table: relation.name.clone(),
            using: using.to_string(),
            reads,
        }
    }

    /// Once the column that is read is called otherwise.
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Values {
        if let Values::Expression { reads, .. } = &mut self {
            for (_, field) in reads.iter_mut().filter(|(_, field)| field == from) {
                *field = to.to_string();
            }
        }
        self
    }

    /// `NEW.target := …;`
    fn assign(&self, source: &str, target: &str) -> String {
        let target = quote_ident(target);
        match self {
            Values::Same => format!("NEW.{target} := NEW.{};", quote_ident(source)),
            Values::Expression { using, reads, .. } if reads.is_empty() => {
                format!("SELECT ({using}\n) INTO NEW.{target};")
            }
            Values::Expression { table, using, reads } => {
                let fields: Vec<String> = reads
                    .iter()
                    .map(|(name, field)| format!("NEW.{} AS {}", quote_ident(field), quote_ident(name)))
                    .collect();
                format!(
                    "SELECT ({using}\n) INTO NEW.{target} FROM (SELECT {}) AS {};",
                    fields.join(", "),
                    quote_ident(table)
                )
            }
        }
    }
}

/// What such an expression must not be, to be evaluated for one row at a time.
pub(crate) fn wrong_using(using: &str, relation: &Relation) -> Option<String> {
    let Some(node) = one_statement(&format!("SELECT ({using}\n)")) else {
        return Some("could not be read".to_string());
    };
    let mentions = Mentions::of(&node);
    if mentions.unreadable || mentions.subselect || mentions.window || mentions.writes || !mentions.relations.is_empty()
    {
        return Some("reads more than its row".to_string());
    }
    let plain = |words: &Vec<String>| match words.as_slice() {
        [name] => relation.column(name).is_some(),
        [table, name] => *table == relation.name && relation.column(name).is_some(),
        _ => false,
    };
    let other = mentions.columns.iter().find(|words| !plain(words))?;
    Some(format!(
        "names {}, which is no column of the table by itself",
        other.join(".")
    ))
}

/// From the old column to the new one, whoever writes.
pub(crate) fn forwards(values: &Values, old: &str, new: &str) -> String {
    format!(
        "#variable_conflict use_column\nBEGIN\n  {}\n  RETURN NEW;\nEND",
        values.assign(old, new)
    )
}

/// Whichever was written decides; of both the new one.
pub(crate) fn both_ways(old: &str, new: &str) -> String {
    let (old, new) = (quote_ident(old), quote_ident(new));
    format!(
        "BEGIN\n  \
         IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n    \
         IF NEW.{new} IS NULL THEN NEW.{new} := NEW.{old}; ELSE NEW.{old} := NEW.{new}; END IF;\n  \
         ELSIF pg_catalog.record_image_ne(ROW(NEW.{new}), ROW(OLD.{new})) THEN NEW.{old} := NEW.{new};\n  \
         ELSE NEW.{new} := NEW.{old};\n  \
         END IF;\n  \
         RETURN NEW;\nEND"
    )
}

/// After the swap: whoever writes the old column, though nobody knows it by its name, has left out the list of columns. What he
/// meant is done, or he is told.
pub(crate) fn afterwards(values: &Values, kept: &str, column: &str, table: &str) -> String {
    let (kept_sql, column_sql) = (quote_ident(kept), quote_ident(column));
    let message =
        format!("column {kept} of {table} is what is left of {column} before its type was changed, and contradicts it");
    let hint = "The columns have changed their order: give INSERT and COPY a list of columns.";
    let assign = values.assign(kept, column);
    format!(
        "#variable_conflict use_column\n\
         DECLARE\n  given record;\n\
         BEGIN\n  \
         IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n    \
         IF NEW.{kept_sql} IS NULL THEN RETURN NEW; END IF;\n    \
         given := NEW;\n    \
         {assign}\n    \
         IF given.{column_sql} IS NOT NULL AND pg_catalog.record_image_ne(ROW(given.{column_sql}), ROW(NEW.{column_sql})) THEN\n      \
         RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = {}, HINT = {};\n    \
         END IF;\n  \
         ELSIF pg_catalog.record_image_ne(ROW(NEW.{kept_sql}), ROW(OLD.{kept_sql})) THEN\n    \
         {assign}\n  \
         END IF;\n  \
         RETURN NEW;\nEND",
        quote_literal(&message),
        quote_literal(hint)
    )
}

/// Settings that decide how a value is converted: those of the session that changes the type.
const SETTINGS: &str = "SET search_path FROM CURRENT SET \"TimeZone\" FROM CURRENT SET \"DateStyle\" FROM CURRENT \
     SET \"IntervalStyle\" FROM CURRENT SET extra_float_digits FROM CURRENT SET bytea_output FROM CURRENT SET lc_monetary FROM CURRENT";

/// The schemas as they are found now: what "$user" means differs from writer to writer, and nobody's temporary objects come first.
const PATH: &str = "SELECT pg_catalog.set_config('search_path', coalesce((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.at) \
     FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY s(name, at) WHERE s.name OPERATOR(pg_catalog.!~) '^pg_temp'), 'pg_catalog') OPERATOR(pg_catalog.||) ', pg_temp', true)";

/// The statements that make it.
pub(crate) fn create(function: &str, body: &str, converts: bool) -> Vec<String> {
    define("CREATE FUNCTION", function, body, converts)
}

pub(crate) fn replace(function: &str, body: &str) -> Vec<String> {
    define("CREATE OR REPLACE FUNCTION", function, body, true)
}

fn define(create: &str, function: &str, body: &str, converts: bool) -> Vec<String> {
    let settings = if converts {
        SETTINGS
    } else {
        "SET search_path = pg_catalog, pg_temp"
    };
    let path = converts.then(|| PATH.to_string());
    let own = format!(
        "{create} {function}() RETURNS trigger LANGUAGE plpgsql SECURITY INVOKER {settings} AS {}",
        quote_literal(body)
    );
    path.into_iter().chain([own]).collect()
}
