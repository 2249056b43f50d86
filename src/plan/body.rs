//! The SQL inside code: DO blocks, and the bodies of functions and procedures in PL/pgSQL or SQL.
//!
//! Only statements that are written out are seen, and EXECUTE of a plain string. What a program puts together while it runs is
//! [`Body::dynamic`].

use super::splice::quote_literal;
use super::statement::{Kind, Statement, read};
use pg_query::{Node, NodeEnum};
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Schema changes, and in a DO block what changes rows, in no order; whether one is reached is not known.
    pub statements: Vec<Statement>,
    /// There is an EXECUTE of something that is not a plain string, or the code could not be read.
    pub dynamic: bool,
    /// A DO block: it runs now, so that what it writes counts too.
    runs: bool,
    /// COMMIT or ROLLBACK: it cannot run as a part of a transaction.
    pub ends_transactions: bool,
}

/// A text without any of these holds no schema change: most code is then not parsed.
const WORDS: [&str; 9] = [
    "alter", "drop", "create", "truncate", "reindex", "cluster", "refresh", "comment", "execute",
];
/// The same of what changes rows, which only matters in code that runs at once.
const WRITES: [&str; 3] = ["update", "delete", "merge"];

/// None: no code, or none in which there could be a schema change.
pub fn of(node: &NodeEnum) -> Option<Body> {
    let (options, is_function) = match node {
        NodeEnum::DoStmt(block) => (&block.args, false),
        NodeEnum::CreateFunctionStmt(create) => (&create.options, true),
        _ => return None,
    };
    let language = option(options, "language")
        .and_then(string)
        .unwrap_or_else(|| "plpgsql".to_string());
    let text = match option(options, "as")? {
        Node {
            node: Some(NodeEnum::List(list)),
        } => string(list.items.first()?)?,
        other => string(other)?,
    };
    let lower = text.to_ascii_lowercase();
    let writes = !is_function && WRITES.iter().any(|word| lower.contains(word));
    // An escape in a string may hide a word.
    let escapes = lower.contains('\\');
    if !writes && !escapes && !WORDS.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let mut body = Body {
        runs: !is_function,
        ..Body::default()
    };
    match language.to_ascii_lowercase().as_str() {
        "plpgsql" => {
            let parsed = pg_query::parse_plpgsql(&format!("DO {}", quote_literal(&in_do(&text, is_function))));
            match parsed {
                Ok(tree) => walk(&tree, &mut body),
                Err(_) => body.dynamic = true,
            }
        }
        "sql" => body.take(&text),
        _ => body.dynamic = true,
    }
    let seen = body.dynamic || !body.statements.is_empty();
    seen.then_some(body)
}

/// A DO block returns nothing: RETURN of a value would be refused, and is replaced by what stays a statement.
fn in_do(text: &str, is_function: bool) -> String {
    if !is_function {
        return text.to_string();
    }
    let mut out = text.to_string();
    let Ok(tokens) = pg_query::scan_tokens(text) else {
        return out;
    };
    for token in tokens.iter().rev() {
        let range = token.start as usize..token.end as usize;
        if text
            .get(range.clone())
            .is_some_and(|word| word.eq_ignore_ascii_case("return"))
        {
            out.replace_range(range, "PERFORM");
        }
    }
    out
}

impl Body {
    fn take(&mut self, sql: &str) {
        let runs = self.runs;
        let counts = |kind: &Kind| matches!(kind, Kind::Ddl) || runs && matches!(kind, Kind::Write | Kind::MixedWrite);
        let Ok(statements) = read(sql.as_bytes(), true) else {
            self.dynamic = true;
            return;
        };
        for statement in statements {
            match &statement.node {
                // What is in a DO block within the code is in the code.
                NodeEnum::DoStmt(_) => {
                    let inner = of(&statement.node).unwrap_or_default();
                    self.dynamic |= inner.dynamic;
                    self.ends_transactions |= inner.ends_transactions;
                    self.statements
                        .extend(inner.statements.into_iter().filter(|s| counts(&s.kind)));
                }
                _ if counts(&statement.kind) => self.statements.push(statement),
                _ => {}
            }
        }
    }
}

fn walk(value: &Value, body: &mut Body) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, body)),
        Value::Object(fields) => {
            for (key, inner) in fields {
                match key.as_str() {
                    "PLpgSQL_stmt_execsql" => {
                        if let Some(sql) = query(&inner["sqlstmt"]) {
                            body.take(sql);
                        }
                    }
                    "PLpgSQL_stmt_dynexecute" | "PLpgSQL_stmt_dynfors" => {
                        match query(&inner["query"]).and_then(literal) {
                            Some(sql) => body.take(&sql),
                            None => body.dynamic = true,
                        }
                    }
                    "PLpgSQL_stmt_commit" | "PLpgSQL_stmt_rollback" => body.ends_transactions = true,
                    // CALL, and DO as well.
                    "PLpgSQL_stmt_call" => {
                        body.ends_transactions = true;
                        if let Some(sql) = query(&inner["expr"]) {
                            body.take(sql);
                        }
                    }
                    _ => {}
                }
                walk(inner, body);
            }
        }
        _ => {}
    }
}

fn query(expression: &Value) -> Option<&str> {
    expression.pointer("/PLpgSQL_expr/query")?.as_str()
}

/// The text of an expression that is one string constant.
fn literal(expression: &str) -> Option<String> {
    let NodeEnum::SelectStmt(select) = super::splice::one_statement(&format!("SELECT {expression}"))? else {
        return None;
    };
    let [target] = select.target_list.as_slice() else {
        return None;
    };
    match target.node.as_ref()? {
        NodeEnum::ResTarget(target) => string(target.val.as_deref()?),
        _ => None,
    }
}

fn option<'a>(options: &'a [Node], name: &str) -> Option<&'a Node> {
    options.iter().find_map(|node| match &node.node {
        Some(NodeEnum::DefElem(option)) if option.defname == name => option.arg.as_deref(),
        _ => None,
    })
}

fn string(node: &Node) -> Option<String> {
    use pg_query::protobuf::a_const::Val;
    match node.node.as_ref()? {
        NodeEnum::String(text) => Some(text.sval.clone()),
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(text.sval.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema changes inside, and what else is known.
    #[track_caller]
    fn check(sql: &str, expect: &[&str], dynamic: bool) {
        let statements = read(sql.as_bytes(), true).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let body = of(&statements[0].node).unwrap_or_default();
        let found: Vec<&str> = body.statements.iter().map(|s| s.sql.as_str()).collect();
        assert_eq!((found.as_slice(), body.dynamic), (expect, dynamic), "{sql}");
    }

    #[test]
    fn schema_changes_inside_code() {
        check("DO $$ BEGIN PERFORM 1; END $$", &[], false);
        check(
            "DO $$ BEGIN ALTER TABLE t ADD a int; UPDATE t SET a = 1; END $$",
            &["ALTER TABLE t ADD a int", "UPDATE t SET a = 1"],
            false,
        );
        check("DO $$ BEGIN UPDATE t SET a = 1; END $$", &["UPDATE t SET a = 1"], false);
        check("DO $$ BEGIN EXECUTE 'DELETE FROM t'; END $$", &["DELETE FROM t"], false);
        check(
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'UPDATE t SET a = 1; DROP TABLE u'",
            &["DROP TABLE u"],
            false,
        );
        check(
            "DO $$ BEGIN IF true THEN DROP TABLE t; ELSE LOOP EXECUTE 'DROP TABLE u'; END LOOP; END IF; END $$",
            &["DROP TABLE u", "DROP TABLE t"],
            false,
        );
        check(
            "DO $a$ BEGIN DO $b$ BEGIN DROP TABLE t; UPDATE t SET a = 1; END $b$; END $a$",
            &["DROP TABLE t", "UPDATE t SET a = 1"],
            false,
        );
        check(
            "DO $a$ BEGIN EXECUTE 'DO $b$ BEGIN EXECUTE ''DROP TABLE t''; END $b$'; END $a$",
            &["DROP TABLE t"],
            false,
        );
        check(
            r"DO $a$ BEGIN DO E'BEGIN \x44ROP TABLE t; END'; END $a$",
            &["DROP TABLE t"],
            false,
        );
        check("DO $a$ BEGIN DO $b$ BEGIN EXECUTE a || b; END $b$; END $a$", &[], true);
        check(
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $a$ DO $b$ BEGIN DROP TABLE t; UPDATE t SET a = 1; END $b$ $a$",
            &["DROP TABLE t"],
            false,
        );
        check("DO $$ BEGIN EXECUTE format('DROP TABLE %I', 'x'); END $$", &[], true);
        check("DO $$ BEGIN EXECUTE 'DROP ' || 'TABLE x'; END $$", &[], true);
        check("DO $$ this is no PL/pgSQL, drop $$", &[], true);
        check("DO LANGUAGE plpython3u $$ plpy.execute('drop table x') $$", &[], true);
        check(
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DROP TABLE t; RETURN 1; END $$",
            &["DROP TABLE t"],
            false,
        );
        check(
            "CREATE PROCEDURE p() LANGUAGE sql AS 'DROP TABLE t; SELECT 1'",
            &["DROP TABLE t"],
            false,
        );
        check("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", &[], false);
    }
}
