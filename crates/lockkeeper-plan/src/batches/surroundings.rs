//! What PostgreSQL would call and check for an UPDATE or DELETE beyond what its text says: the server itself tells, by the
//! dependencies of a rule that holds the statement and is undone, and the catalog of its tables. Pure: the questions, and the answer.

use super::key::walkable_key;
use super::text::{Tree, parts};
use super::watch::{Read, Watch};
use crate::ascii::{decoded, encoded};
use crate::catalog::Relation;
use crate::splice::{filled, quote_literal};
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{ScanToken, Token};
use serde::Deserialize;

const QUERY: &str = include_str!("surroundings.sql");

/// Below this a table is read so quickly that nobody notices.
const SLOW_BYTES: u64 = 1 << 20;

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Surroundings {
    /// Neither the server's own nor IMMUTABLE.
    functions: Vec<Called>,
    /// A DEFERRABLE unique or exclusion constraint of a column that is set.
    deferrable: Option<String>,
    /// A foreign key by which what is done to one row concerns others of the same table.
    refers_to_itself: Option<String>,
    constraint_trigger: Option<String>,
    /// A table that the statement reads, and the foreign key by which its rows go along.
    reads_moved: Option<Called>,
    /// The same, and the trigger whose text writes it.
    reads_written: Option<Called>,
    /// A trigger after each row whose text names the table itself, and that table.
    sees_itself: Option<Called>,
    reads: Vec<Read>,
    tree: Vec<u32>,
    after_each: bool,
    /// A trigger, and the key column that it gives a value.
    moves_key: Option<Called>,
    /// The largest table first.
    unindexed: Vec<Unindexed>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Called {
    name: String,
    place: Option<String>,
}

/// A foreign key to the table that no index of the referring table supports.
#[derive(Clone, Debug, Default, Deserialize)]
struct Unindexed {
    table: String,
    constraint: String,
    columns: String,
    bytes: u64,
}

/// The temporary table and the rule, in a transaction that is undone.
pub fn trial(statement: &Statement, types: &[String]) -> Option<Vec<String>> {
    let parts = parts(statement)?;
    let ctes = parts.ctes.map(|ctes| format!("WITH {ctes} ")).unwrap_or_default();
    let condition = parts.condition.map(|c| format!(" WHERE ({c}\n)")).unwrap_or_default();
    let text = without_parameters(&format!("{ctes}{}\n{condition}", parts.head), types)?;
    Some(vec![
        "CREATE TEMPORARY TABLE pg_temp.lockkeeper_trial ()".into(),
        format!("CREATE RULE lockkeeper_trial AS ON INSERT TO pg_temp.lockkeeper_trial DO ALSO ({text}\n)"),
    ])
}

/// A rule has no parameters: a NULL of the same type means the same operators and functions.
fn without_parameters(text: &str, types: &[String]) -> Option<String> {
    let is_parameter = |token: &ScanToken| token.token == Token::Param as i32;
    let tokens: Vec<ScanToken> = pg_query::scan_tokens(text)
        .ok()?
        .into_iter()
        .filter(is_parameter)
        .collect();
    let mut made = text.to_string();
    for token in tokens.iter().rev() {
        let range = token.start as usize..token.end as usize;
        let number: usize = text.get(range.clone())?.strip_prefix('$')?.parse().ok()?;
        let null = match number.checked_sub(1).and_then(|at| types.get(at)) {
            Some(name) if !name.is_empty() => format!("(NULL::{name})"),
            _ => "NULL".into(),
        };
        made.replace_range(range, &null);
    }
    Some(made)
}

/// The names of the parameters' types, in order; empty for those that the client left open. `types` as in a Parse message.
pub fn types_sql(types: &[u8]) -> Option<String> {
    let oids: Vec<String> = types
        .get(2..)?
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]).to_string())
        .collect();
    (!oids.is_empty()).then(|| {
        format!(
            "SELECT CASE WHEN t.oid OPERATOR(pg_catalog.=) ANY ('{{0,705}}'::pg_catalog.oid[]) THEN '' ELSE pg_catalog.format_type(t.oid, NULL) END \
             FROM pg_catalog.unnest('{{{}}}'::pg_catalog.oid[]) WITH ORDINALITY t(oid, at) ORDER BY t.at",
            oids.join(",")
        )
    })
}

/// One row, one column, for [`Surroundings::decode`]. `tried`: the trial's rule is there.
pub fn sql(statement: &Statement, relation: &Relation, known: &[Relation], tried: bool) -> Option<String> {
    let tree = Tree::of(&statement.node)?;
    let (base, shown) = behind(relation, known);
    let real = |column: &str| shown(column).unwrap_or_else(|| column.to_string());
    let name = |column: &str| format!("{}::pg_catalog.name", quote_literal(&real(column)));
    let mut columns = vec!["(NULL::pg_catalog.name, false)".to_string()];
    for target in tree.targets.unwrap_or_default() {
        if let Some(NodeEnum::ResTarget(target)) = &target.node {
            let is_default = crate::mentions::Mentions::within(&target.val).default;
            columns.push(format!("({}, {is_default})", name(&target.name)));
        }
    }
    let key = walkable_key(base).unwrap_or_default();
    let mut key: Vec<String> = key
        .iter()
        .map(|(name, _)| format!("({}::text)", quote_literal(name)))
        .collect();
    if key.is_empty() {
        key.push("(NULL::text)".into());
    }
    let deletes = tree.verb == "DELETE";
    let oids = |oids: Vec<u32>| {
        let rows: Vec<String> = oids.iter().map(|oid| format!("({oid}::pg_catalog.oid)")).collect();
        match rows.is_empty() {
            true => "(NULL::pg_catalog.oid)".to_string(),
            false => rows.join(", "),
        }
    };
    // The trial's rule depends on them too; without it, the names are all there is.
    let mentions = crate::mentions::Mentions::of(&statement.node);
    let reads = mentions
        .relations
        .iter()
        .filter_map(|asked| known.iter().find(|relation| relation.asked == *asked));
    let values = [
        ("{reads}", oids(reads.map(|other| other.oid).collect())),
        ("{views}", oids(vec![relation.oid])),
        ("{relation}", base.oid.to_string()),
        ("{columns}", columns.join(", ")),
        ("{key}", key.join(", ")),
        ("{tried}", tried.to_string()),
        ("{deletes}", deletes.to_string()),
        ("{encoded}", encoded("answer.json")),
    ];
    Some(filled(QUERY.trim_end(), &values))
}

/// The table behind a view, and how it calls the view's columns.
fn behind<'a>(relation: &'a Relation, known: &'a [Relation]) -> (&'a Relation, impl Fn(&str) -> Option<String> + 'a) {
    let mut line = vec![relation];
    while let Some(view) = &line[line.len() - 1].view
        && let Some(base) = known.iter().find(|other| Some(other.oid) == view.base)
        && !line.iter().any(|seen| seen.oid == base.oid)
    {
        line.push(base);
    }
    let table = line[line.len() - 1];
    let shown = move |column: &str| {
        let mut name = column.to_string();
        for view in line.iter().filter_map(|relation| relation.view.as_ref()) {
            name = view.columns.iter().find(|(here, _)| *here == name)?.1.clone();
        }
        Some(name)
    };
    (table, shown)
}

impl Surroundings {
    pub fn decode(answer: &str) -> Result<Surroundings, String> {
        decoded(answer)
    }

    /// Why batches would not do what one statement does, if they would not.
    pub fn refusal(&self, verb: &str) -> Option<String> {
        if let Some(function) = self.functions.first() {
            let place = function
                .place
                .as_deref()
                .map(|place| format!(" (by {place})"))
                .unwrap_or_default();
            return Some(format!(
                "it calls {}(){place}, which is neither PostgreSQL's own nor IMMUTABLE: it could read the rows that earlier batches changed",
                function.name
            ));
        } else if let Some(trigger) = &self.moves_key {
            return Some(format!(
                "the trigger {} changes {}, by which the batches walk through the table: rows would be changed more than once",
                trigger.name,
                trigger.place.as_deref().unwrap_or("a column")
            ));
        } else if let Some(read) = self.reads_moved.as_ref().or(self.reads_written.as_ref()) {
            return Some(format!(
                "it reads {}, which may change with its rows (by {}): one statement sees that as it was at its start, but each batch as those \
                 before it have left it",
                read.name,
                read.place.as_deref().unwrap_or_default()
            ));
        } else if let Some(constraint) = &self.deferrable {
            return Some(format!(
                "the constraint {constraint} is DEFERRABLE: one statement is checked at its end, when all rows have their new values, but \
                 each batch at its own"
            ));
        } else if let Some(trigger) = &self.constraint_trigger {
            return Some(format!(
                "the constraint trigger {trigger} checks the rows when all of them are changed, but would see those of each batch alone"
            ));
        } else if let Some(trigger) = &self.sees_itself {
            return Some(format!(
                "the function of the trigger {} names {} itself: within one statement, and after each batch, it would find other rows \
                 changed",
                trigger.name,
                trigger.place.as_deref().unwrap_or_default()
            ));
        }
        self.refers_to_itself.as_ref().map(|constraint| match verb {
            "DELETE" => format!(
                "by the foreign key {constraint} rows of this table go with others of it, or are referred to by them: one statement is \
                 checked when all of them are gone, but each batch at its own end"
            ),
            _ => format!(
                "the foreign key {constraint} refers from this table to itself: one statement is checked when all rows have their new \
                 values, but each batch at its own end"
            ),
        })
    }

    /// What each batch is to ask the server.
    pub fn watch(&self, verb: &str) -> Watch {
        Watch {
            reads: self.reads.clone(),
            tree: self.tree.clone(),
            after_each: self.after_each,
            deletes: verb == "DELETE",
        }
    }

    /// What makes each row slow, for a NOTICE before the first batch.
    pub fn notes(&self, verb: &str) -> Vec<String> {
        let note = |key: &Unindexed| {
            format!(
                "each row of this {verb} reads all of {} ({} MB), since its foreign key {} has no index to find the rows that refer to \
                 it; much quicker after: CREATE INDEX CONCURRENTLY ON {} ({})",
                key.table,
                key.bytes.div_ceil(1 << 20),
                key.constraint,
                key.table,
                key.columns
            )
        };
        let slow = self.unindexed.iter().filter(|key| key.bytes >= SLOW_BYTES);
        slow.map(note).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, statement, table};
    use super::*;

    #[test]
    fn the_questions_parse() {
        let table = table(&["id"]);
        for sql_text in [
            "UPDATE t SET n = DEFAULT, name = $2 WHERE id = $1 RETURNING *",
            "WITH a AS (SELECT 1) DELETE FROM t USING u WHERE u.id = t.id AND t.n = $1",
        ] {
            let statement = statement(sql_text);
            let mut asked = trial(&statement, &["bigint".into()]).unwrap();
            asked.extend(sql(&statement, &table, &facts(&table).relations, true));
            asked.extend(types_sql(&[0, 2, 0, 0, 0, 20, 0, 0, 0, 0]));
            assert_eq!(asked.len(), 4);
            for made in asked {
                assert!(!made.contains('$') && !made.contains("{relation}"), "{made}");
                let parsed = pg_query::parse(&made, pg_query::ParserOptions::default())
                    .unwrap_or_else(|error| panic!("{made}: {error}"));
                assert_eq!(parsed.protobuf.stmts.len(), 1);
            }
        }
        let made = trial(&statement("UPDATE t SET n = $1 WHERE name = $2"), &["integer".into()]).unwrap();
        assert!(
            made[1].contains("n = (NULL::integer)") && made[1].contains("name = NULL"),
            "{made:?}"
        );
    }
}
