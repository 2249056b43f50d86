//! A large UPDATE or DELETE as keyset batches: which SQL comes next, given what the last one answered. Pure.
//!
//! The session drives it: [`Batches::bounds_sql`] once, then [`Batches::next_sql`] until it gives None, each in its own
//! transaction under [`Batches::settings`]. A batch first reads the keys of its rows without locking, then changes those rows
//! whose newest version still fulfils the client's condition, so that writers meanwhile lose nothing and no row is changed
//! twice. [`limited`] is the other form, for `UPDATE … LIMIT n`.

mod judge;
mod lookup;
mod text;

use super::facts::Relation;
use super::policy::Backfill;
use super::splice::{qualified, quote_ident, quote_literal};
use super::statement::{Kind, Statement};
use lookup::pins_a_key;
use pg_query::NodeEnum;
use pg_query::protobuf::Node;
use text::{Parts, Tree, parts};

/// What does not change between batches.
#[derive(Clone, Debug)]
pub struct Batches {
    /// `UPDATE` or `DELETE`, for the command tag.
    pub verb: &'static str,
    pub relation: String,
    pub estimated_rows: Option<f64>,
    /// The key columns, qualified and quoted, with their types.
    key: Vec<KeyColumn>,
    /// The client's text from UPDATE or DELETE to before WHERE.
    head: String,
    /// The client's text of the relation, for FROM.
    from: String,
    condition: Option<String>,
}

#[derive(Clone, Debug)]
struct KeyColumn {
    /// `"t"."id"`, as it is written where the relation is in reach.
    reference: String,
    type_name: String,
}

/// Values of the key columns as text, as the server printed them.
pub type Key = Vec<String>;

#[derive(Clone, Debug)]
pub struct Progress {
    pub rows: u64,
    pub batches: u64,
    pub last: Option<Key>,
    /// The greatest key at the start: rows beyond it were inserted later.
    upper: Option<Key>,
    done: bool,
}

/// Each batch must walk along the key's index: any other plan reads the whole rest of the table again for every batch.
/// Planners before 18 add huge costs for what is switched off, which would start the JIT compiler.
const SETTINGS: [(&str, &str); 4] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
];

impl Batches {
    /// Why not, as a sentence for the client, if the statement cannot be split so that each row is changed exactly once.
    pub fn new(statement: &Statement, relation: &Relation) -> Result<Batches, String> {
        Batches::build(statement, relation, |key| judge::statement(statement, relation, key))
    }

    /// `UPDATE relation SET set_sql WHERE where_sql`, made by a plan of several steps: `where_sql` must exclude the rows done,
    /// so that volatile functions are allowed in `set_sql`.
    pub fn backfill(relation: &Relation, set_sql: &str, where_sql: &str) -> Result<Batches, String> {
        let table = qualified(&relation.schema, &relation.name);
        let sql = format!("UPDATE {table} SET {set_sql}\nWHERE {where_sql}");
        let parsed =
            pg_query::parse(&sql, pg_query::ParserOptions::default()).map_err(|error| format!("{sql}: {error}"))?;
        let node = match &parsed.protobuf.stmts[..] {
            [one] => one.stmt.as_ref().and_then(|stmt| stmt.node.clone()),
            _ => None,
        };
        let node = node.ok_or_else(|| format!("not one statement: {sql}"))?;
        let statement = Statement {
            sql,
            offset: 0,
            node,
            kind: Kind::Write,
        };
        Batches::build(&statement, relation, |_| Ok(()))
    }

    fn build(
        statement: &Statement,
        relation: &Relation,
        check: impl FnOnce(&[(String, String)]) -> Result<(), String>,
    ) -> Result<Batches, String> {
        let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE can be split into batches")?;
        judge::table(relation, tree.verb)?;
        let key = walkable_key(relation)?;
        check(&key)?;
        if let Some((name, type_name)) = key.iter().find(|(_, type_name)| exact_text("", type_name).is_none()) {
            return Err(format!(
                "the text form of key column {name}, of type {type_name}, is not known to be exact, so that a batch could not \
                 start where the last one ended"
            ));
        }
        let parts = parts(statement).ok_or("its text could not be taken apart")?;
        let column = |(name, type_name): &(String, String)| KeyColumn {
            reference: format!("{}.{}", quote_ident(&parts.qualifier), quote_ident(name)),
            type_name: type_name.clone(),
        };
        Ok(Batches {
            verb: tree.verb,
            relation: qualified(&relation.schema, &relation.name),
            estimated_rows: None,
            key: key.iter().map(column).collect(),
            head: parts.head,
            from: parts.relation,
            condition: parts.condition,
        })
    }

    /// One row: the greatest key that exists now (one text column per key column); no row if the table is empty. Takes the
    /// statement's own parameters in no form.
    pub fn bounds_sql(&self) -> String {
        let texts = self.list(|_, column| exact_text(&column.reference, &column.type_name).unwrap_or_default());
        let order = self.list(|_, column| format!("{} DESC", column.reference));
        format!("SELECT {texts} FROM {} ORDER BY {order} LIMIT 1", self.from)
    }

    /// For the transaction of each batch, and for bounds_sql: `set_config(name, value, true)`.
    pub fn settings(&self) -> &[(&'static str, &'static str)] {
        &SETTINGS
    }

    /// The start: `upper` is the row that bounds_sql gave, None for an empty table.
    pub fn start(&self, upper: Option<Key>) -> Progress {
        let upper = upper.filter(|key| key.len() == self.key.len());
        Progress {
            rows: 0,
            batches: 0,
            last: None,
            done: upper.is_none(),
            upper,
        }
    }

    /// The next batch, or None at the end. Uses the client's parameters `$1…` exactly as the client's statement does, and none else.
    /// Answers with one row: rows changed (bigint), rows taken (bigint), then the last key, a text column per key column (null if none).
    pub fn next_sql(&self, progress: &Progress, backfill: &Backfill) -> Option<String> {
        if progress.done {
            return None;
        }
        let columns = self.list(|_, column| column.reference.clone());
        let names = self.list(|i, _| format!("k{i}"));
        let mut within = vec![format!("({columns}) <= ({})", self.values(progress.upper.as_ref()?))];
        if let Some(last) = &progress.last {
            within.push(format!("({columns}) > ({})", self.values(last)));
        }
        // IS TRUE changes nothing for a condition, but no other index can be chosen for it.
        let condition = match &self.condition {
            Some(condition) => format!("\n AND ({condition}\n) IS TRUE"),
            None => String::new(),
        };
        let rows = match &self.key[..] {
            [one] => format!("{} = ANY (ARRAY(SELECT k1 FROM lockkeeper_keys))", one.reference),
            // The same rows: all those up to the last key that fulfil the condition. A join could read the whole table.
            _ => {
                let order = self.list(|i, _| format!("lockkeeper_keys.k{i} DESC"));
                let last = self.list(|i, _| format!("(SELECT k{i} FROM lockkeeper_keys ORDER BY {order} LIMIT 1)"));
                let lower = within.get(1).map(|lower| format!("{lower} AND ")).unwrap_or_default();
                format!("{lower}({columns}) <= ({last})")
            }
        };
        // Qualified, since a bare k1 would be the output column: the key's text, which sorts otherwise.
        let last = self.list(|i, column| {
            let text = exact_text(&format!("k{i}"), &column.type_name).unwrap_or_default();
            let order = self.list(|i, _| format!("lockkeeper_keys.k{i} DESC"));
            format!("(SELECT {text} FROM lockkeeper_keys ORDER BY {order} LIMIT 1)")
        });
        Some(format!(
            "WITH lockkeeper_keys ({names}) AS MATERIALIZED (SELECT {columns} FROM {from}\n WHERE {within}{condition}\n \
             ORDER BY {columns} LIMIT {limit}),\nlockkeeper_changed AS ({head}\n WHERE {rows}{condition}\n RETURNING 1)\n\
             SELECT (SELECT count(*) FROM lockkeeper_changed), (SELECT count(*) FROM lockkeeper_keys), {last}",
            from = self.from,
            head = self.head,
            within = within.join(" AND "),
            limit = backfill.batch_rows,
        ))
    }

    /// Takes in that row.
    pub fn took(&self, progress: &mut Progress, changed: u64, taken: u64, last: Option<Key>) {
        progress.rows += changed;
        progress.batches += 1;
        match last.filter(|key| taken > 0 && key.len() == self.key.len()) {
            Some(last) => {
                progress.done = progress.upper.as_ref() == Some(&last);
                progress.last = Some(last);
            }
            None => progress.done = true,
        }
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

    fn values(&self, key: &Key) -> String {
        let value = |(text, column): (&String, &KeyColumn)| format!("{}::{}", quote_literal(text), column.type_name);
        key.iter().zip(&self.key).map(value).collect::<Vec<_>>().join(", ")
    }
}

/// A key whose index is in the order that `ORDER BY key` asks for and that `(key) > (…)` can start from.
fn walkable_key(relation: &Relation) -> Result<Vec<(String, String)>, String> {
    let name = format!("{}.{}", relation.schema, relation.name);
    let key = relation.usable_key().ok_or_else(|| {
        format!(
            "{name} has no primary key and no unique index of NOT NULL columns, so that its rows cannot be told apart"
        )
    })?;
    let names: Vec<Option<&str>> = key.iter().map(|(name, _)| Some(name.as_str())).collect();
    let plain = |definition: &str| {
        let keys = definition.split_once(" USING btree ").map_or("", |(_, keys)| keys);
        ![" DESC", "_ops", " COLLATE ", " NULLS FIRST"]
            .iter()
            .any(|word| keys.contains(word))
    };
    let fits = relation.indexes.iter().any(|index| {
        index.columns.iter().map(Option::as_deref).eq(names.iter().copied())
            && index.unique
            && index.valid
            && index.ready
            && !index.partial
            && plain(&index.definition)
    });
    match fits {
        true => Ok(key),
        false => Err(format!(
            "the key index of {name} has an order of its own (DESC, an operator class or a collation)"
        )),
    }
}

/// The value as text that reads back as the same value whatever the session's settings are; None if there is no such form.
fn exact_text(value: &str, type_name: &str) -> Option<String> {
    let base = match type_name.split_once('(') {
        Some((base, rest)) => format!(
            "{}{}",
            base.trim_end(),
            rest.split_once(')').map_or("", |(_, tail)| tail)
        ),
        None => type_name.to_string(),
    };
    match base.as_str() {
        "smallint" | "integer" | "bigint" | "numeric" | "oid" | "uuid" | "text" | "character varying" | "character"
        | "name" | "citext" | "public.citext" | "boolean" | "bytea" | "inet" | "cidr" | "macaddr" | "bit"
        | "bit varying" => Some(format!("{value}::text")),
        // JSON holds dates in ISO 8601 whatever DateStyle is.
        "date" | "timestamp without time zone" | "timestamp with time zone" => {
            Some(format!("to_json({value}) #>> '{{}}'"))
        }
        // real and double precision depend on extra_float_digits, interval on IntervalStyle, money on lc_monetary; of other
        // types (enums, domains, arrays) nothing is known here.
        _ => None,
    }
}

/// `UPDATE … LIMIT n` (or DELETE) as one statement that PostgreSQL knows, with the client's parameters and RETURNING; or why
/// it cannot be. At most n rows, in key order or by the client's ORDER BY.
///
/// Rows that others have locked are skipped while there are enough free ones. But a client's loop ends when fewer than n rows
/// came back, so the statement waits for locked rows before it answers with fewer. Only `lockkeeper_waiting` waits, in key
/// order; it is preferred from the start when fewer than n rows are left, because workers that each hold some of the last rows
/// and wait for the others' deadlock. That makes it rare, not impossible: 40P01 is to be tried again.
pub fn limited(statement: &Statement, relation: &Relation) -> Result<String, String> {
    let Kind::LimitedWrite(limit) = &statement.kind else {
        return Err("it has no LIMIT".into());
    };
    let tree = Tree::of(&statement.node).ok_or("only UPDATE and DELETE have this form")?;
    let verb = tree.verb;
    if tree.has_with || tree.joins {
        let word = if tree.has_with {
            "WITH"
        } else if verb == "UPDATE" {
            "FROM"
        } else {
            "USING"
        };
        return Err(format!(
            "{verb} … LIMIT is not carried out together with {word}: select the keys in a sub-select with LIMIT, and {verb} by key"
        ));
    }
    if relation.kind != 'r' && relation.kind != 'p' {
        return Err(format!("{}.{} is not a table", relation.schema, relation.name));
    }
    let key = walkable_key(relation)?;
    if !is_plain_number(&limit.limit) {
        return Err(format!("LIMIT {} is neither a number nor a parameter", limit.limit));
    }
    let Parts {
        head,
        relation: from,
        qualifier,
        condition,
        returning,
    } = parts(statement).ok_or("its text could not be taken apart")?;

    let columns: Vec<String> = key
        .iter()
        .map(|(n, _)| format!("{}.{}", quote_ident(&qualifier), quote_ident(n)))
        .collect();
    let columns = columns.join(", ");
    let names = (1..=key.len()).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", ");
    let order = limit.order_by.as_ref().unwrap_or(&columns);
    // No limit at all (NULL) would change every row in one transaction: the server's "LIMIT must not be negative" instead.
    let n = format!("coalesce(({})::bigint, -1)", limit.limit);
    let condition = condition.map(|c| format!("({c}\n)")).unwrap_or("true".into());
    let of = quote_ident(&qualifier);
    // The rows come to the UPDATE as the value of an uncorrelated sub-select, never by a join: when a row was changed since the
    // statement began, its newest version is checked against the same value, where a join would lose it.
    let rows = match &key[..] {
        [_] => format!("{columns} = ANY (ARRAY(SELECT k1 FROM lockkeeper_taken))"),
        [(first, _), ..] => {
            let first = format!("{}.{}", quote_ident(&qualifier), quote_ident(first));
            let end = |column: &str, direction: &str| {
                let order = (1..=key.len())
                    .map(|i| format!("lockkeeper_taken.k{i} {direction}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                format!("(SELECT {column} FROM lockkeeper_taken ORDER BY {order} LIMIT 1)")
            };
            let ends = |direction: &str| {
                (1..=key.len())
                    .map(|i| end(&format!("k{i}"), direction))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            // Both ranges: the planner trusts only the one of the first column to be narrow, the other may be much narrower.
            format!(
                "{first} >= {} AND {first} <= {} AND ({columns}) >= ({}) AND ({columns}) <= ({}) AND jsonb_exists((SELECT \
                 jsonb_object_agg(ROW({names})::text, true) FROM lockkeeper_taken), ROW({columns})::text)",
                end("k1", "ASC"),
                end("k1", "DESC"),
                ends("ASC"),
                ends("DESC"),
            )
        }
        [] => return Err("the key has no columns".into()),
    };
    let returning = returning.map(|r| format!("\n {r}")).unwrap_or_default();
    Ok(format!(
        "WITH lockkeeper_left (n) AS MATERIALIZED (SELECT count(*) FROM (SELECT FROM {from}\n WHERE {condition} LIMIT {n}) AS l),\n\
         lockkeeper_free ({names}) AS MATERIALIZED (SELECT {columns} FROM {from}\n \
         WHERE (SELECT n FROM lockkeeper_left) >= {n} AND {condition}\n ORDER BY {order}\n LIMIT {n} FOR UPDATE OF {of} SKIP LOCKED),\n\
         lockkeeper_waiting ({names}) AS MATERIALIZED (SELECT {columns} FROM {from}\n \
         WHERE (SELECT count(*) FROM lockkeeper_free) < {n} AND {condition}\n ORDER BY {order}\n LIMIT {n} FOR UPDATE OF {of}),\n\
         lockkeeper_taken ({names}) AS MATERIALIZED (SELECT * FROM lockkeeper_free WHERE (SELECT count(*) FROM lockkeeper_free) >= {n} \
         UNION ALL SELECT * FROM lockkeeper_waiting)\n{head}\n WHERE {rows}{returning}"
    ))
}

/// A number or a parameter, possibly with a cast: it may be written several times without being evaluated differently.
fn is_plain_number(limit: &str) -> bool {
    fn plain(node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(plain),
            _ => false,
        }
    }
    let Ok(parsed) = pg_query::parse(&format!("SELECT {limit}\n"), pg_query::ParserOptions::default()) else {
        return false;
    };
    let select = match &parsed.protobuf.stmts[..] {
        [one] => one.stmt.as_ref().and_then(|s| s.node.as_ref()),
        _ => None,
    };
    match select {
        Some(NodeEnum::SelectStmt(select)) => match &select.target_list[..] {
            [
                Node {
                    node: Some(NodeEnum::ResTarget(target)),
                },
            ] => target.val.as_deref().is_some_and(plain),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the planner is to be asked how many rows an UPDATE or DELETE touches: not for a lookup of one key or of a short
/// list of them, nor where the number would not matter.
pub fn wants_estimate(statement: &Statement, relation: &Relation, small_bytes: u64) -> bool {
    let table = matches!(relation.kind, 'r' | 'p');
    if !table || relation.invisible_to_others() || relation.bytes < small_bytes {
        return false;
    }
    match Tree::of(&statement.node) {
        Some(tree) => !pins_a_key(&tree, relation),
        None => false,
    }
}

/// Other values in the same text mean about as many rows.
pub fn only_equalities(statement: &Statement) -> bool {
    Tree::of(&statement.node).is_some_and(|tree| lookup::only_equalities(&tree))
}

/// How many rows an UPDATE or DELETE touches: what the planner expects, or the whole table where it expects blindly.
pub fn expected_rows(statement: &Statement, relation: &Relation, planned: f64) -> f64 {
    /// Of a row in a table that was never analyzed.
    const BYTES: f64 = 100.0;
    match Tree::of(&statement.node) {
        Some(tree) if lookup::expects_blindly(&tree, relation) => {
            planned.max(relation.rows.unwrap_or(relation.bytes as f64 / BYTES))
        }
        _ => planned,
    }
}

/// The statement's shape, for remembering what was found out about it: the text with `?` for numbers and strings, and single
/// blanks. Texts of one shape give the same answer to [`wants_estimate`]. False, and nothing to remember, for a text with a
/// backslash, a dollar quote or a comment. Allocates nothing but `out`.
pub fn shape(sql: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
    let mut at = 0;
    while let Some(&byte) = sql.get(at) {
        let next = sql.get(at + 1).copied();
        match byte {
            b'\\' => return false,
            b'-' if next == Some(b'-') => return false,
            b'/' if next == Some(b'*') => return false,
            b'$' if !next.is_some_and(|b| b.is_ascii_digit()) => return false,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                if !out.is_empty() && out.last() != Some(&b' ') {
                    out.push(b' ');
                }
                at += 1;
            }
            b'\'' | b'"' => {
                let Some(end) = quoted_end(sql, at) else { return false };
                if byte == b'"' {
                    out.extend_from_slice(&sql[at..end]);
                } else if sql[at..end].contains(&b'\\') {
                    return false;
                } else {
                    out.push(b'?');
                }
                at = end;
            }
            b'0'..=b'9' | b'.' if byte != b'.' || next.is_some_and(|b| b.is_ascii_digit()) => {
                at = number_end(sql, at);
                // `1and`, `0x1f`, `1.2.3`: not worth knowing.
                if sql.get(at).is_some_and(|b| is_word(*b) || *b == b'.') {
                    return false;
                }
                out.push(b'?');
            }
            _ if is_word(byte) => {
                // A word, or a parameter.
                let end = sql[at + 1..]
                    .iter()
                    .position(|b| !is_word(*b))
                    .map_or(sql.len(), |n| at + 1 + n);
                out.extend_from_slice(&sql[at..end]);
                at = end;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    if out.last() == Some(&b' ') {
        out.pop();
    }
    !out.is_empty()
}

/// Behind the closing quote of what opens at `start`; doubled quotes are part of it.
fn quoted_end(sql: &[u8], start: usize) -> Option<usize> {
    let quote = *sql.get(start)?;
    let mut at = start + 1;
    loop {
        at += sql.get(at..)?.iter().position(|b| *b == quote)? + 1;
        if sql.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

fn number_end(sql: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while sql.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(start);
    if sql.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(sql.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(sql.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end > at + 1 + sign {
            at = end;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::{Column, Index, Name, Trigger};
    use crate::plan::statement::read;

    /// (id, tenant, name, n, flag, created) with a primary key.
    fn table(key: &[&str]) -> Relation {
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
            column("f", "double precision"),
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
            owner: "o".into(),
            columns,
            indexes: if key.is_empty() { vec![] } else { vec![index] },
            ..Relation::default()
        }
    }

    fn statement(sql: &str) -> Statement {
        let mut statements = read(sql.as_bytes(), true).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(statements.len(), 1, "{sql}");
        statements.remove(0)
    }

    #[track_caller]
    fn check_refused(sql: &str, expect: &str) {
        let error = Batches::new(&statement(sql), &table(&["id"])).map(|_| ()).unwrap_err();
        assert!(error.contains(expect), "{sql}: {error}");
    }

    #[track_caller]
    fn batches(sql: &str, key: &[&str]) -> Batches {
        Batches::new(&statement(sql), &table(key)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    const BACKFILL: Backfill = Backfill {
        rows_max: 10_000,
        batch_rows: 500,
        pause_ms: 0,
        notice_ms: 5_000,
    };

    #[test]
    fn a_batch() {
        let b = batches(
            "UPDATE ONLY t AS x SET flag = false -- why\n WHERE flag IS NULL -- not yet",
            &["id"],
        );
        assert_eq!(
            b.bounds_sql(),
            "SELECT x.id::text FROM ONLY t AS x ORDER BY x.id DESC LIMIT 1"
        );
        let mut p = b.start(Some(vec!["900".into()]));
        assert_eq!(
            b.next_sql(&p, &BACKFILL).unwrap(),
            "WITH lockkeeper_keys (k1) AS MATERIALIZED (SELECT x.id FROM ONLY t AS x\n WHERE (x.id) <= ('900'::bigint)\n \
             AND (flag IS NULL\n) IS TRUE\n ORDER BY x.id LIMIT 500),\nlockkeeper_changed AS (UPDATE ONLY t AS x SET flag = \
             false\n WHERE x.id = ANY (ARRAY(SELECT k1 FROM lockkeeper_keys))\n AND (flag IS NULL\n) IS TRUE\n RETURNING 1)\n\
             SELECT (SELECT count(*) FROM lockkeeper_changed), (SELECT count(*) FROM lockkeeper_keys), \
             (SELECT k1::text FROM lockkeeper_keys ORDER BY lockkeeper_keys.k1 DESC LIMIT 1)"
        );
        b.took(&mut p, 499, 500, Some(vec!["12".into()]));
        assert!(
            b.next_sql(&p, &BACKFILL)
                .unwrap()
                .contains("WHERE (x.id) <= ('900'::bigint) AND (x.id) > ('12'::bigint)\n")
        );
        b.took(&mut p, 5, 5, Some(vec!["900".into()]));
        assert_eq!((p.rows, p.batches, b.next_sql(&p, &BACKFILL)), (504, 2, None));
    }

    #[test]
    fn it_ends() {
        let b = batches("DELETE FROM t", &["id"]);
        assert_eq!(b.next_sql(&b.start(None), &BACKFILL), None);
        let mut p = b.start(Some(vec!["900".into()]));
        b.took(&mut p, 0, 0, None);
        assert_eq!(b.next_sql(&p, &BACKFILL), None);
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
        ] {
            let b = batches(sql, key);
            let upper: Key = key.iter().map(|_| "a'\\".to_string()).collect();
            let mut p = b.start(Some(upper.clone()));
            p.last = Some(upper);
            for made in [b.bounds_sql(), b.next_sql(&p, &BACKFILL).unwrap()] {
                let parsed = pg_query::parse(&made, pg_query::ParserOptions::default())
                    .unwrap_or_else(|error| panic!("{made}: {error}"));
                assert_eq!(parsed.protobuf.stmts.len(), 1);
            }
        }
        let made = Batches::backfill(&table(&["id"]), "name = gen_random_uuid()", "name IS NULL").unwrap();
        assert_eq!(made.head, "UPDATE public.t SET name = gen_random_uuid()");
    }

    #[test]
    fn what_is_allowed() {
        for sql in [
            "UPDATE t SET flag = false WHERE flag IS NULL",
            "UPDATE t SET name = lower(tenant) || n",
            "UPDATE t SET name = gen_random_uuid() WHERE t.name IS NULL AND n > 3",
            "UPDATE t SET name = 'x', n = n + 1 WHERE name IS NULL",
            "UPDATE t SET name = $1 WHERE name = $2",
            "UPDATE t SET flag = DEFAULT",
            "DELETE FROM t WHERE created < now() - interval '1 year'",
        ] {
            batches(sql, &["id"]);
        }
    }

    #[test]
    fn what_is_refused() {
        check_refused("UPDATE t SET n = n + 1", "the new value of n depends on n");
        check_refused(
            "UPDATE t SET n = 1, flag = t.n > 2",
            "the new value of flag depends on n",
        );
        check_refused("UPDATE t SET name = t::text", "the new value of name depends on name");
        check_refused("UPDATE t SET n = random() * 10", "random(), the new value of n");
        check_refused("UPDATE t SET n = random() WHERE name IS NULL", "random()");
        check_refused("UPDATE t SET n = random() WHERE n IS NULL OR flag", "random()");
        check_refused("UPDATE t SET n = NULL, name = f() WHERE n IS NULL", "f()");
        check_refused("UPDATE t SET name = my.lower(tenant)", "my.lower()");
        check_refused("UPDATE t SET id = 5", "it changes id");
        check_refused("UPDATE t SET (n, id) = (1, 2)", "it changes id");
        check_refused("UPDATE t SET n = u.n FROM u WHERE u.id = t.id", "FROM joins");
        check_refused("DELETE FROM t USING u WHERE u.id = t.id", "USING joins");
        check_refused("WITH x AS (SELECT 1) DELETE FROM t", "WITH");
        check_refused("DELETE FROM t WHERE id IN (SELECT id FROM u)", "sub-select");
        check_refused("UPDATE t SET n = (SELECT max(n) FROM t)", "sub-select");
        check_refused("DELETE FROM t RETURNING id", "RETURNING");
        check_refused("DELETE FROM t WHERE CURRENT OF c", "cursor");
        check_refused("DELETE FROM t WHERE random() < 0.1", "random()");
        check_refused("DELETE FROM t WHERE ctid < '(5,1)'", "ctid");
    }

    #[test]
    fn tables_that_are_refused() {
        let s = statement("UPDATE t SET flag = true");
        let refused = |relation: &Relation| Batches::new(&s, relation).map(|_| ()).unwrap_err();
        assert!(refused(&table(&[])).contains("no primary key"));
        assert!(refused(&table(&["f"])).contains("double precision"));
        for (kind, expect) in [('p', "partitioned"), ('v', "view"), ('f', "foreign table")] {
            assert!(refused(&Relation { kind, ..table(&["id"]) }).contains(expect));
        }
        let mut descending = table(&["id"]);
        descending.indexes[0].definition = "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id DESC)".into();
        assert!(refused(&descending).contains("order of its own"));
        let trigger = |for_each_row, transition, on_update| Relation {
            triggers: vec![Trigger {
                name: "tr".into(),
                for_each_row,
                transition,
                on_update,
                on_delete: !on_update,
            }],
            ..table(&["id"])
        };
        assert!(refused(&trigger(false, false, true)).contains("trigger tr"));
        assert!(refused(&trigger(true, true, true)).contains("trigger tr"));
        assert!(Batches::new(&s, &trigger(true, false, true)).is_ok());
        assert!(Batches::new(&s, &trigger(false, true, false)).is_ok());
    }

    #[test]
    fn limited_writes_parse_and_keep_their_parts() {
        for (sql, key) in [
            ("UPDATE t SET flag = false WHERE flag IS NULL LIMIT 10000", &["id"][..]),
            (
                "UPDATE t AS x SET flag = $2 WHERE x.flag IS NULL -- c\n ORDER BY created LIMIT $1 RETURNING id, x.n AS m",
                &["id"],
            ),
            ("DELETE FROM ONLY t LIMIT $1::int RETURNING *", &["tenant", "id"]),
            ("DELETE FROM t x RETURNING x.id LIMIT 5", &["tenant", "id"]),
        ] {
            let made = limited(&statement(sql), &table(key)).unwrap();
            let parsed = pg_query::parse(&made, pg_query::ParserOptions::default())
                .unwrap_or_else(|error| panic!("{made}: {error}"));
            let node = parsed.protobuf.stmts[0].stmt.clone().unwrap().node.unwrap();
            let (before, after) = (
                statement(sql),
                Statement {
                    sql: made,
                    offset: 0,
                    node,
                    kind: Kind::Write,
                },
            );
            let returning = |s: &Statement| parts_of_with(s);
            assert_eq!(returning(&before), returning(&after));
        }
    }

    fn parts_of_with(statement: &Statement) -> Option<String> {
        let at = statement.sql.rfind("RETURNING")?;
        Some(statement.sql[at..].split(" LIMIT").next()?.to_string())
    }

    #[test]
    fn limited_writes_that_are_refused() {
        let check = |sql: &str, key: &[&str], expect: &str| {
            let error = limited(&statement(sql), &table(key)).unwrap_err();
            assert!(error.contains(expect), "{sql}: {error}");
        };
        check("DELETE FROM t LIMIT 5", &[], "no primary key");
        check("DELETE FROM t LIMIT random()", &["id"], "neither a number");
        check("DELETE FROM t USING u LIMIT 5", &["id"], "USING");
        check("UPDATE t SET n = 1 FROM u LIMIT 5", &["id"], "FROM");
        check("DELETE FROM t", &["id"], "no LIMIT");
    }

    #[test]
    fn estimates_are_asked_for() {
        let check = |sql: &str, expect: bool| {
            assert_eq!(
                wants_estimate(&statement(sql), &table(&["tenant", "id"]), 1 << 20),
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
        assert!(!wants_estimate(&s, &table(&["id"]), 1 << 40));
        assert!(!wants_estimate(
            &s,
            &Relation {
                created_here: true,
                ..table(&["id"])
            },
            0
        ));
        assert!(!wants_estimate(
            &s,
            &Relation {
                kind: 'v',
                ..table(&["id"])
            },
            0
        ));
    }

    #[test]
    fn values_that_may_be_exchanged() {
        let check = |sql: &str, expect: bool| assert_eq!(only_equalities(&statement(sql)), expect, "{sql}");
        check("DELETE FROM t WHERE n = $1", true);
        check("UPDATE t x SET n = 1 WHERE x.n = $1 AND flag AND name IS NULL", true);
        check("DELETE FROM t WHERE n <= $1", false);
        check("DELETE FROM t WHERE n = $1 AND id <= $2", false);
        check("DELETE FROM t WHERE n = $1 OR id = $2", false);
        check("DELETE FROM t WHERE n IN ($1, $2)", false);
        check("DELETE FROM t WHERE n = ANY ($1)", false);
        check("DELETE FROM t WHERE flag", false);
        check("DELETE FROM t", false);
    }

    #[test]
    fn shapes() {
        let check = |sql: &str, expect: Option<&str>| {
            let mut out = b"old".to_vec();
            let known = shape(sql.as_bytes(), &mut out);
            assert_eq!(
                known.then(|| String::from_utf8(out).unwrap()).as_deref(),
                expect,
                "{sql}"
            );
        };
        check(
            " UPDATE  t1\n SET a = 'it''s', b=1.5e-3 WHERE id=$1 ",
            Some("UPDATE t1 SET a = ?, b=? WHERE id=$1"),
        );
        check("UPDATE \"t 1\" SET a=-.5", Some("UPDATE \"t 1\" SET a=-?"));
        check(
            "DELETE FROM t WHERE é1 IN (1,2,34)",
            Some("DELETE FROM t WHERE é1 IN (?,?,?)"),
        );
        for none in [
            "",
            "x -- c",
            "x /* c */",
            "a = E'\\''",
            "a = $$b$$",
            "a = $q$b$q$",
            "'open",
            "\"open",
            "1and 2",
            "0x1f",
            "1.2.3",
        ] {
            check(none, None);
        }
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
        let mut seen: std::collections::HashMap<Vec<u8>, (String, bool)> = Default::default();
        let mut met = 0;
        for form in forms {
            for one in values {
                for two in values {
                    let sql = format!(
                        "DELETE FROM t WHERE {}",
                        form.replacen("{}", one, 1).replacen("{}", two, 1)
                    );
                    let answer = wants_estimate(&statement(&sql), &table(&["tenant", "id"]), 0);
                    let mut out = Vec::new();
                    assert!(shape(sql.as_bytes(), &mut out), "{sql}");
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
