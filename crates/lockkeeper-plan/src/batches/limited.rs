//! `UPDATE … LIMIT n` and `DELETE … LIMIT n`, which people write and PostgreSQL does not have, as one statement that it knows.

use super::key::{operator, operators, walkable_key};
use super::text::{Parts, Tree, parts};
use crate::catalog::Relation;
use crate::grammar::parse;
use crate::splice::quote_ident;
use crate::statement::{Kind, Statement};
use pg_query::NodeEnum;
use pg_query::protobuf::Node;

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
        ctes: _,
        from: _,
        head,
        relation: from,
        qualifier,
        condition,
        returning,
    } = parts(statement).ok_or("its text could not be taken apart")?;

    let operators = operators(relation, &key)?;
    // A comparison of rows names one schema for all columns.
    if operators.iter().any(|schema| *schema != operators[0]) {
        return Err("the key's columns are in order by operators of several schemas".into());
    }
    let by = |sign: &str| operator(&operators[0], sign);
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
        [_] => format!("{columns} {} ANY (ARRAY(SELECT k1 FROM lockkeeper_taken))", by("=")),
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
                "{first} {least} {} AND {first} {most} {} AND ({columns}) {least} ({}) AND ({columns}) {most} ({}) AND \
                 pg_catalog.jsonb_exists((SELECT pg_catalog.jsonb_object_agg(ROW({names})::pg_catalog.text, true) FROM lockkeeper_taken), \
                 ROW({columns})::pg_catalog.text)",
                end("k1", "ASC"),
                end("k1", "DESC"),
                ends("ASC"),
                ends("DESC"),
                least = by(">="),
                most = by("<="),
            )
        }
        [] => return Err("the key has no columns".into()),
    };
    let returning = returning.map(|r| format!("\n {r}")).unwrap_or_default();
    Ok(format!(
        "WITH lockkeeper_left (n) AS MATERIALIZED (SELECT pg_catalog.count(*) FROM (SELECT FROM {from}\n WHERE {condition} LIMIT {n}) AS l),\n\
         lockkeeper_free ({names}) AS MATERIALIZED (SELECT {columns} FROM {from}\n \
         WHERE (SELECT n FROM lockkeeper_left) OPERATOR(pg_catalog.>=) {n} AND {condition}\n ORDER BY {order}\n LIMIT {n} FOR UPDATE OF {of} SKIP LOCKED),\n\
         lockkeeper_waiting ({names}) AS MATERIALIZED (SELECT {columns} FROM {from}\n \
         WHERE (SELECT pg_catalog.count(*) FROM lockkeeper_free) OPERATOR(pg_catalog.<) {n} AND {condition}\n ORDER BY {order}\n LIMIT {n} FOR UPDATE OF {of}),\n\
         lockkeeper_taken ({names}) AS MATERIALIZED (SELECT * FROM lockkeeper_free WHERE (SELECT pg_catalog.count(*) FROM lockkeeper_free) OPERATOR(pg_catalog.>=) {n} \
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
    let Ok(parsed) = parse(&format!("SELECT {limit}\n")) else {
        return false;
    };
    let select = match &parsed.stmts[..] {
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

#[cfg(test)]
mod tests {
    use super::super::tests::{statement, table};
    use super::*;

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
            let (before, after) = (statement(sql), Statement::of(&made, 0, node, Some(Kind::Write)));
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
}
