//! The SQL inside code: DO blocks, and the bodies of functions and procedures in PL/pgSQL or SQL.
//!
//! Only statements that are written out are seen, and EXECUTE of a plain string. What a program puts together while it runs is
//! [`Body::dynamic`].

mod declared;
mod meaning;
mod ranges;
pub mod unvalued;

use super::catalog::Name;
use super::cost::{WORDS_MAX, words_of};
use super::mixed;
use super::splice::{one_statement, quote_literal, significant_tokens, tree_text};
use super::statement::{Body, Doubt, Kind, Ran, Statement, Unreadable, Variable, What, When};
use pg_query::protobuf::{AlterTableCmd, RangeVar, Token};
use pg_query::{Node, NodeEnum};
use serde_json::Value;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Locks {
    pub at: usize,
    pub tables: Vec<Name>,
    pub added: Vec<String>,
}

/// How SQL within the code is read: what reads statements looks into the code of each, and so on.
pub type Read = fn(&[u8], bool) -> Result<Vec<Statement>, Unreadable>;

/// Code that is being read.
struct Code {
    body: Body,
    read: Read,
    /// Of its text, and of the blocks within it.
    words: usize,
    /// Blocks within blocks, at the moment.
    depth: usize,
}

/// A block within a block, and so on: of what is deeper nothing is known. Each of them has the text of all that are within it.
const DEPTH_MAX: usize = 8;

/// A text without any of these holds no schema change: most code is then not parsed.
const WORDS: [&str; 9] = [
    "alter", "drop", "create", "truncate", "reindex", "cluster", "refresh", "comment", "execute",
];
/// The same of what changes rows, which only matters in code that runs at once.
const WRITES: [&str; 4] = ["update", "delete", "merge", "insert"];

/// None: no code, or none in which there could be a schema change, or in a block that runs an INSERT.
pub fn of(node: &NodeEnum, read: Read) -> Option<Body> {
    let (options, is_function) = match node {
        NodeEnum::DoStmt(block) => (&block.args, false),
        NodeEnum::CreateFunctionStmt(create) => (&create.options, true),
        _ => return None,
    };
    let (text, language) = code_of(options);
    let text = text?;
    let lower = text.to_ascii_lowercase();
    let writes = !is_function && WRITES.iter().any(|word| lower.contains(word));
    // An escape in a string may hide a word.
    let escapes = lower.contains('\\') || lower.contains("uescape");
    if !writes && !escapes && !WORDS.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let mut code = Code {
        body: Body {
            runs: !is_function,
            resolves_names: lower.contains("variable_conflict"),
            ..Body::default()
        },
        read,
        words: 0,
        depth: 0,
    };
    code.code(&text, &language, When::InTurn);
    let mut body = code.body;
    if body.runs {
        body.doubt = body.doubt.take().or_else(|| meaning::doubt(&body, &text));
    }
    (body.is_judged() || body.ran.iter().any(|ran| ran.inserts())).then_some(body)
}

fn code_of(options: &[Node]) -> (Option<String>, String) {
    let language = option(options, "language")
        .and_then(string)
        .unwrap_or_else(|| "plpgsql".to_string());
    let text = option(options, "as").and_then(|text| match &text.node {
        Some(NodeEnum::List(list)) => string(list.items.first()?),
        _ => string(text),
    });
    (text, language)
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

/// What of the catalog's types cannot be read without one is taken for a record.
fn plpgsql(code: &str) -> Result<Value, String> {
    let parsed = |code: &str| pg_query::parse_plpgsql(&format!("DO {}", quote_literal(code)));
    parsed(code).or_else(|error| {
        let again = declared::as_records(code).map(|code| parsed(&code));
        again.unwrap_or(Err(error)).map_err(|error| error.to_string())
    })
}

/// No server runs such a block.
fn is_the_server_s(error: &str) -> bool {
    let error = error.strip_prefix("Invalid statement: ").unwrap_or(error);
    ["RETURN cannot have", "cannot use RETURN"]
        .iter()
        .any(|known| error.starts_with(known))
}

impl Body {
    /// What locks tables so that their writes are stopped: the tables, the names of the constraints that it adds to them, and its place
    /// in what runs.
    pub(super) fn locks(&self) -> Vec<Locks> {
        let locks = |(at, ran): (usize, &Ran)| match &ran.what {
            What::Statement(statement) => Some(Locks {
                at,
                tables: stops_writes(&statement.node),
                added: constraints(statement),
            }),
            _ => None,
        };
        let all = self.ran.iter().enumerate().filter_map(locks);
        all.filter(|locks| !locks.tables.is_empty()).collect()
    }

    /// The places in what runs of all that counts: a block's statements.
    pub(super) fn places(&self) -> Vec<usize> {
        let counting = self.ran.iter().enumerate().filter(|(_, ran)| ran.counts);
        counting.map(|(at, _)| at).collect()
    }

    /// One of what runs may do so before another, or before itself.
    pub(super) fn may_precede(&self, first: usize, then: usize) -> bool {
        match (self.ran[first].when, self.ran[then].when) {
            (When::Again, When::Again) => true,
            (When::AnyTime, _) | (_, When::AnyTime) => first != then,
            _ => first < then,
        }
    }
}

impl Code {
    fn code(&mut self, text: &str, language: &str, when: When) {
        // With the trees of all its statements, which are kept.
        self.words += words_of(text.as_bytes());
        if self.depth == DEPTH_MAX || self.words > WORDS_MAX {
            return self.unknown(when);
        }
        self.depth += 1;
        self.code_within(text, language, when);
        self.depth -= 1;
    }

    fn code_within(&mut self, text: &str, language: &str, when: When) {
        match language.to_ascii_lowercase().as_str() {
            "plpgsql" => match plpgsql(&in_do(text, !self.body.runs)) {
                Ok(tree) => self.walk(&tree, when),
                // The server refuses the block for the same.
                Err(why) if !self.body.runs || is_the_server_s(&why) => self.unknown(when),
                Err(why) => {
                    self.body.doubt.get_or_insert_with(|| Doubt::unread(&why));
                    self.ran(What::Unknown, when);
                }
            },
            "sql" => self.take(text, when),
            _ => self.unknown(when),
        }
    }

    fn unknown(&mut self, when: When) {
        self.body.dynamic = true;
        self.ran(What::Unknown, when);
    }

    fn ran(&mut self, what: What, when: When) {
        if self.body.runs {
            let counts = matches!(&what, What::Statement(statement) if self.counts(&statement.kind));
            self.body.ran.push(Ran { what, when, counts });
        }
    }

    fn counts(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Ddl) || self.body.runs && matches!(kind, Kind::Write | Kind::MixedWrite)
    }

    fn take(&mut self, sql: &str, when: When) {
        match (self.read)(sql.as_bytes(), true) {
            Ok(statements) => statements.into_iter().for_each(|one| self.statement(one, when)),
            Err(_) => self.unknown(when),
        }
    }

    fn statement(&mut self, statement: Statement, when: When) {
        match &statement.node {
            // What is in a DO block within the code is in the code.
            NodeEnum::DoStmt(block) => {
                let (text, language) = code_of(&block.args);
                // In a function too it runs as a block: nothing is returned from it.
                if let Some(text) = text {
                    let runs = std::mem::replace(&mut self.body.runs, true);
                    let known = self.body.statements.len();
                    self.code(&text, &language, when);
                    self.body.runs = runs;
                    if !runs {
                        let inner = self.body.statements.split_off(known);
                        let kept: Vec<_> = inner.into_iter().filter(|s| self.counts(&s.kind)).collect();
                        self.body.statements.extend(kept);
                    }
                }
            }
            NodeEnum::PrepareStmt(prepare) if self.body.runs && mixed::changes(&statement.node) => {
                self.body.prepares.push(statement.node.clone());
                match prepared(&statement, self.read) {
                    Some(inner) => self.statement(inner, when),
                    None => self.body.doubt = Some(Doubt::prepares(&prepare.name)),
                }
            }
            node if self.body.runs
                && let Some(name) = mixed::executes(node) =>
            {
                self.body.doubt = Some(Doubt::executes(name));
            }
            _ => {
                let statement = Arc::new(statement);
                self.ran(What::Statement(Arc::clone(&statement)), when);
                if self.counts(&statement.kind) {
                    self.body.statements.push(statement);
                }
            }
        }
    }

    /// Whatever has a query is looked at: which kinds of PL/pgSQL statements there are does not matter.
    fn walk(&mut self, value: &Value, when: When) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, when)),
            Value::Object(fields) => {
                for (key, inner) in fields {
                    let when = match when {
                        When::InTurn if key == "datums" => When::AnyTime,
                        When::InTurn if repeats(key) => When::Again,
                        known => known,
                    };
                    match key.as_str() {
                        "PLpgSQL_expr" => self.query(inner["query"].as_str(), when),
                        "PLpgSQL_stmt_dynexecute" | "PLpgSQL_stmt_dynfors" => {
                            self.string(&inner["query"], when);
                            let rest = inner.as_object().into_iter().flatten();
                            rest.filter(|(key, _)| *key != "query")
                                .for_each(|(_, part)| self.walk(part, when));
                        }
                        // OPEN … FOR EXECUTE, RETURN QUERY EXECUTE
                        "dynquery" => self.string(inner, when),
                        _ => {
                            // CALL, and DO as well: a procedure may end the transaction.
                            self.body.ends_transactions |= matches!(
                                key.as_str(),
                                "PLpgSQL_stmt_commit" | "PLpgSQL_stmt_rollback" | "PLpgSQL_stmt_call"
                            );
                            self.names(key, inner);
                            self.walk(inner, when);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Variables and records with their fields, and labels, which may stand before a variable.
    fn names(&mut self, key: &str, value: &Value) {
        let (name, type_name) = match key {
            "PLpgSQL_var" => (&value["refname"], value["datatype"]["PLpgSQL_type"]["typname"].as_str()),
            "PLpgSQL_rec" | "PLpgSQL_row" => (&value["refname"], None),
            "label" => (value, None),
            _ => return,
        };
        // Of what is not looked up when it is read (%TYPE), the type is not told.
        let is_type = |name: &&str| !name.contains('%') && !name.eq_ignore_ascii_case("unknown");
        if let Some(name) = name.as_str() {
            self.body.variables.push(Variable {
                name: name.to_owned(),
                type_name: type_name.filter(is_type).map(str::to_owned),
            });
        }
    }

    /// The text of a statement, or that of an expression.
    fn query(&mut self, sql: Option<&str>, when: When) {
        let Some(sql) = sql else { return };
        if let Ok(statements) = (self.read)(sql.as_bytes(), true)
            && !statements.is_empty()
        {
            statements.into_iter().for_each(|one| self.statement(one, when));
            return;
        }
        if !self.body.runs {
            return;
        }
        let select = |expression: &str| one_statement(&format!("SELECT {expression}"));
        match select(sql).or_else(|| select(assigned(sql)?)) {
            Some(node) => self.ran(What::Expression(Box::new(node)), when),
            None => self.unknown(when),
        }
    }

    /// A string that is run.
    fn string(&mut self, expression: &Value, when: When) {
        let text = expression.pointer("/PLpgSQL_expr/query").and_then(Value::as_str);
        match text.and_then(literal) {
            Some(sql) => self.take(&sql, when),
            None => self.unknown(when),
        }
    }
}

fn constraints(statement: &Statement) -> Vec<String> {
    let added = |command: &AlterTableCmd| match command.def.as_ref()?.node.as_ref()? {
        NodeEnum::Constraint(constraint) => Some(constraint.conname.clone()),
        _ => None,
    };
    statement.actions().filter_map(added).collect()
}

/// The tables that it locks so that nobody else writes to them until the transaction ends.
fn stops_writes(node: &NodeEnum) -> Vec<Name> {
    use pg_query::protobuf::AlterTableType as A;
    // As LOCK TABLE has it in its tree.
    const SHARE: i32 = 5;
    let range = |range: &Option<RangeVar>| range.iter().map(Name::of).collect();
    match node {
        NodeEnum::LockStmt(lock) if lock.mode >= SHARE => lock
            .relations
            .iter()
            .filter_map(|node| match &node.node {
                Some(NodeEnum::RangeVar(range)) => Some(Name::of(range)),
                _ => None,
            })
            .collect(),
        NodeEnum::AlterTableStmt(alter) => {
            let stops = alter.cmds.iter().any(|node| match &node.node {
                Some(NodeEnum::AlterTableCmd(command)) => !matches!(
                    command.subtype(),
                    A::AtValidateConstraint
                        | A::AtSetStatistics
                        | A::AtSetOptions
                        | A::AtResetOptions
                        | A::AtSetRelOptions
                        | A::AtResetRelOptions
                        | A::AtReplaceRelOptions
                        | A::AtClusterOn
                        | A::AtDropCluster
                        | A::AtAttachPartition
                        | A::AtDetachPartitionFinalize
                ),
                _ => false,
            });
            if stops { range(&alter.relation) } else { Vec::new() }
        }
        NodeEnum::IndexStmt(index) => range(&index.relation),
        NodeEnum::CreateTrigStmt(trigger) => range(&trigger.relation),
        NodeEnum::RuleStmt(rule) => range(&rule.relation),
        NodeEnum::CreatePolicyStmt(policy) => range(&policy.table),
        NodeEnum::RenameStmt(rename) => range(&rename.relation),
        _ => Vec::new(),
    }
}

/// LOOP, WHILE, and all that begins with FOR.
fn repeats(key: &str) -> bool {
    ["loop", "while", "for", "dynfor"].iter().any(|word| {
        key.strip_prefix("PLpgSQL_stmt_")
            .is_some_and(|kind| kind.starts_with(word))
    })
}

/// What stands behind `v :=`.
fn assigned(sql: &str) -> Option<&str> {
    let tokens = significant_tokens(sql)?;
    let sign = tokens
        .iter()
        .find(|token| matches!(token.token(), Token::ColonEquals | Token::Ascii61))?;
    sql.get(sign.end as usize..)
}

/// The statement of a PREPARE with its own text. None: it has parameters, so that what it will mean is not known; or the text could
/// not be cut out.
fn prepared(prepare: &Statement, read: Read) -> Option<Statement> {
    let tokens = significant_tokens(&prepare.sql)?;
    if tokens.iter().any(|token| token.token() == Token::Param) {
        return None;
    }
    let text = prepared_text(prepare)?;
    let mut statements = read(text.as_bytes(), true).ok()?;
    (statements.len() == 1).then(|| statements.remove(0))
}

/// The text of the statement that a PREPARE prepares.
pub fn prepared_text(prepare: &Statement) -> Option<&str> {
    let wanted = tree_text(mixed::inner(&prepare.node)?);
    let tokens = significant_tokens(&prepare.sql)?;
    let behind = tokens.iter().filter(|token| token.token() == Token::As);
    let mut texts = behind.filter_map(|token| prepare.sql.get(token.end as usize..));
    texts.find(|text| one_statement(text).is_some_and(|node| tree_text(&node) == wanted))
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
    use crate::reading::read_code;

    /// The schema changes inside, and what else is known.
    #[track_caller]
    fn check(sql: &str, expect: &[&str], dynamic: bool) {
        let statements = read_code(sql.as_bytes(), true).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let body = of(&statements[0].node, read_code).unwrap_or_default();
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
        // What cannot be read is refused.
        check("DO $$ this is no PL/pgSQL, drop $$", &[], false);
        let unread = &read_code(b"DO $$ this is no PL/pgSQL, drop $$", true).unwrap()[0];
        let doubt = of(&unread.node, read_code).unwrap().doubt.unwrap();
        assert!(
            doubt.message.contains("cannot be read here (syntax error"),
            "{}",
            doubt.message
        );
        check(
            "DO $$ DECLARE r t%ROWTYPE; x s.kind[]; BEGIN r.a := 1; DROP TABLE t; END $$",
            &["DROP TABLE t"],
            false,
        );
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
