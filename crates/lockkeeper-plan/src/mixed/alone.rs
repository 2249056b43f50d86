//! What a MERGE, a WITH that changes data, or what carries such a statement out changes, as UPDATEs and DELETEs of their own: each means at
//! least the rows that its part does. They are never run. The catalog is asked about them, and rows are counted by them.

use super::{executes, inner, names_of};
use crate::mentions::Mentions;
use crate::reading::read_code;
use crate::splice::{depth_change, one_statement, qualified, quote_ident, significant_tokens, tree_text};
use crate::statement::{Kind, Statement};
use crate::words::mentions as mentions_word;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, InsertStmt, MergeMatchKind, MergeStmt, OnConflictAction, ScanToken, SelectStmt, Token, WithClause,
};

/// None of those that could not be cut out.
pub fn alone(statement: &Statement) -> Vec<Statement> {
    match &statement.node {
        NodeEnum::ExplainStmt(_) | NodeEnum::CopyStmt(_) => statement.explainable().map(of_text).unwrap_or_default(),
        NodeEnum::CreateTableAsStmt(_) => query_of(statement).map(of_text).unwrap_or_default(),
        _ => parts(statement).unwrap_or_default(),
    }
}

/// What changes rows in the statement that an EXECUTE runs, as [`executed_text`] has it.
pub fn executed(execute: &str, prepare: &str, types: &[String]) -> Vec<Statement> {
    executed_text(execute, prepare, types)
        .map(|sql| of_text(&sql))
        .unwrap_or_default()
}

/// Whether the arguments of an EXECUTE compute nothing: to evaluate them once more changes nothing.
pub fn has_constant_arguments(execute: &str) -> bool {
    let constant = |argument: &str| {
        let Some(NodeEnum::SelectStmt(select)) = one_statement(&format!("SELECT ({argument})")) else {
            return false;
        };
        let value = |node: &NodeEnum| match node {
            NodeEnum::ResTarget(target) => target.val.as_ref()?.node.clone(),
            _ => None,
        };
        let target = select.target_list.first().and_then(|target| target.node.as_ref());
        matches!(target.and_then(value), Some(NodeEnum::AConst(_)))
    };
    arguments_of(execute).is_some_and(|arguments| arguments.iter().all(|argument| constant(argument)))
}

/// The prepared statement that this text executes.
pub fn executed_name(sql: &str) -> Option<String> {
    if !mentions_word(sql.as_bytes(), "execute") {
        return None;
    }
    one_statement(sql).as_ref().and_then(executes).map(str::to_owned)
}

fn of_text(sql: &str) -> Vec<Statement> {
    match read_code(sql.as_bytes(), true).unwrap_or_default().as_slice() {
        [one] => alone(one),
        _ => Vec::new(),
    }
}

struct Text<'a> {
    sql: &'a str,
    tokens: Vec<ScanToken>,
}

impl<'a> Text<'a> {
    fn of(sql: &'a str) -> Option<Text<'a>> {
        let tokens = significant_tokens(sql)?;
        Some(Text { sql, tokens })
    }

    fn is(&self, at: usize, word: &str) -> bool {
        let token = self.tokens.get(at);
        let text = token.and_then(|token| self.sql.get(token.start as usize..token.end as usize));
        text.is_some_and(|text| text.eq_ignore_ascii_case(word))
    }

    /// The tokens from one to before another.
    fn between(&self, from: usize, to: usize) -> Option<&'a str> {
        let (first, last) = (self.tokens.get(from)?, self.tokens.get(to.checked_sub(1)?)?);
        self.sql.get(first.start as usize..last.end as usize)
    }

    fn rest(&self, from: usize) -> Option<&'a str> {
        self.between(from, self.tokens.len())
    }

    fn at(&self, location: i32) -> Option<usize> {
        self.tokens.iter().position(|token| token.start == location)
    }

    /// Those that stand in no parentheses that are opened behind `from`, and in no CASE.
    fn outermost(&self, from: usize) -> Vec<usize> {
        let (mut depth, mut found) = (0, Vec::new());
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            let change = depth_change(token)
                + match token.token() {
                    Token::Case => 1,
                    Token::EndP => -1,
                    _ => 0,
                };
            if depth == 0 {
                found.push(at);
            }
            depth += change;
            if depth < 0 {
                break;
            }
        }
        found
    }

    /// Behind an opening parenthesis: where it is closed.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0;
        let closes = |token: &ScanToken| {
            depth += depth_change(token);
            depth == 0
        };
        Some(open + self.tokens.get(open..)?.iter().position(closes)?)
    }

    /// The parts of a list in parentheses, and what stands behind it.
    fn list(&self, open: usize) -> Option<(Vec<&'a str>, usize)> {
        let close = self.closing(open)?;
        let commas = self
            .outermost(open + 1)
            .into_iter()
            .filter(|at| *at < close && self.is(*at, ","));
        let (mut from, mut parts) = (open + 1, Vec::new());
        for to in commas.chain([close]) {
            parts.push(self.between(from, to)?);
            from = to + 1;
        }
        Some((parts, close + 1))
    }
}

/// The query of a CREATE TABLE … AS.
fn query_of(statement: &Statement) -> Option<&str> {
    let within = inner(&statement.node)?;
    if executes(within).is_some() {
        return None;
    }
    let wanted = tree_text(within);
    let text = Text::of(&statement.sql)?;
    let starts = text.outermost(0).into_iter().filter(|at| text.is(*at, "as"));
    let end = text.tokens.len();
    let mut queries = starts.flat_map(|at| [end, end.saturating_sub(2), end.saturating_sub(3)].map(|to| (at + 1, to)));
    queries.find_map(|(from, to)| {
        let query = text.between(from, to).filter(|_| from < to)?;
        (tree_text(&one_statement(query)?) == wanted).then_some(query)
    })
}

fn parts(statement: &Statement) -> Option<Vec<Statement>> {
    use NodeEnum as N;
    if matches!(statement.kind, Kind::Write) {
        return Some(vec![statement.clone()]);
    }
    // Where words stand in it, and not in what it is a part of.
    let node = one_statement(&statement.sql)?;
    let with = match &node {
        N::SelectStmt(select) => &select.with_clause,
        N::InsertStmt(insert) => &insert.with_clause,
        N::UpdateStmt(update) => &update.with_clause,
        N::DeleteStmt(delete) => &delete.with_clause,
        N::MergeStmt(merge) => &merge.with_clause,
        _ => return None,
    };
    let text = Text::of(&statement.sql)?;
    let (mut all, mut queries, mut behind) = (Vec::new(), String::new(), 0);
    if let Some(with) = with {
        let ctes = ctes(&text, with)?;
        queries = ctes.queries;
        behind = ctes.behind;
        for change in ctes.changes {
            match ctes.names.iter().any(|name| mentions(change, name)) {
                true => all.extend(of_text(&format!("{queries} {change}"))),
                false => all.extend(of_text(change)),
            }
        }
    }
    let main = text.rest(behind)?;
    match &node {
        N::UpdateStmt(_) | N::DeleteStmt(_) => all.extend(write(&format!("{queries} {main}"))),
        N::InsertStmt(insert) => all.extend(replacing(main, insert)),
        N::MergeStmt(merge) => all.extend(merged(main, merge, &queries).unwrap_or_default()),
        _ => {}
    }
    Some(all)
}

fn write(sql: &str) -> Option<Statement> {
    let mut statements = read_code(sql.trim().as_bytes(), true).ok()?;
    let one = statements.pop().filter(|_| statements.is_empty())?;
    matches!(one.kind, Kind::Write).then_some(one)
}

struct Ctes<'a> {
    /// `WITH a AS (…), b AS (…)` of those that only ask, or nothing.
    queries: String,
    /// Their names.
    names: Vec<&'a str>,
    /// The others' statements.
    changes: Vec<&'a str>,
    /// The token behind all of them.
    behind: usize,
}

fn ctes<'a>(text: &Text<'a>, with: &'a WithClause) -> Option<Ctes<'a>> {
    let (mut queries, mut names, mut changes, mut behind) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for node in &with.ctes {
        let Some(NodeEnum::CommonTableExpr(cte)) = &node.node else {
            return None;
        };
        if cte.search_clause.is_some() || cte.cycle_clause.is_some() {
            return None;
        }
        let start = text.at(cte.location)?;
        let word = text.outermost(start).into_iter().find(|at| text.is(*at, "as"))?;
        let open = (word..text.tokens.len()).find(|at| text.is(*at, "("))?;
        let close = text.closing(open)?;
        behind = close + 1;
        match cte.ctequery.as_ref()?.node.as_ref()? {
            NodeEnum::SelectStmt(_) => {
                queries.push(text.between(start, behind)?);
                names.push(cte.ctename.as_str());
            }
            _ => changes.push(text.between(open + 1, close)?),
        }
    }
    let recursive = if with.recursive { "RECURSIVE " } else { "" };
    Some(Ctes {
        queries: match queries.is_empty() {
            true => String::new(),
            false => format!("WITH {recursive}{}", queries.join(", ")),
        },
        names,
        changes,
        behind,
    })
}

fn mentions(sql: &str, relation: &str) -> bool {
    let relations = one_statement(sql).map(|node| Mentions::of(&node).relations);
    relations.is_none_or(|all| all.iter().any(|name| name.schema.is_none() && name.name == relation))
}

/// Of ON CONFLICT DO UPDATE the rows that are there, by the values that VALUES writes for the key.
fn replacing(main: &str, insert: &InsertStmt) -> Option<Statement> {
    let (relation, clause) = (insert.relation.as_ref()?, insert.on_conflict_clause.as_ref()?);
    let columns = names_of(&clause.target_list);
    if clause.action() != OnConflictAction::OnconflictUpdate || columns.is_empty() {
        return None;
    }
    let set: Vec<String> = columns
        .iter()
        .map(|name| format!("{} = DEFAULT", quote_ident(name)))
        .collect();
    let table = match relation.schemaname.as_str() {
        "" => quote_ident(&relation.relname),
        schema => qualified(schema, &relation.relname),
    };
    let of = |condition: &str| write(&format!("UPDATE {table} SET {} WHERE {condition}", set.join(", ")));
    let rows = rows_of_values(main, insert).and_then(|rows| of(&rows.join(" OR ")));
    // Which rows these are cannot be asked: they are as many as the planner says.
    rows.or_else(|| of("pg_catalog.random() IS NULL"))
}

/// As many rows as are looked for by what is written of their keys.
const ROWS_MAX: usize = 100;

/// A condition for each of the rows that VALUES writes.
fn rows_of_values(main: &str, insert: &InsertStmt) -> Option<Vec<String>> {
    let (text, into) = (Text::of(main)?, names_of(&insert.cols));
    let infer = insert.on_conflict_clause.as_ref()?.infer.as_ref()?;
    let key: Option<Vec<(String, usize)>> = infer
        .index_elems
        .iter()
        .map(|node| match &node.node {
            Some(NodeEnum::IndexElem(element)) => {
                let at = into.iter().position(|column| *column == element.name)?;
                Some((quote_ident(&element.name), at))
            }
            _ => None,
        })
        .collect();
    let key = key.filter(|key| !key.is_empty())?;
    let mut at = text.outermost(0).into_iter().find(|at| text.is(*at, "values"))? + 1;
    let mut rows = Vec::new();
    loop {
        let (values, behind) = text.list(at).filter(|_| text.is(at, "("))?;
        let equal = |(column, at): &(String, usize)| {
            let value = values.get(*at).filter(|value| !is_default(value))?;
            Some(format!("{column} OPERATOR(pg_catalog.=) ({value})"))
        };
        let all: Option<Vec<String>> = key.iter().map(equal).collect();
        rows.push(format!("({})", all?.join(" AND ")));
        if !text.is(behind, ",") {
            return Some(rows);
        }
        if rows.len() == ROWS_MAX {
            return None;
        }
        at = behind + 1;
    }
}

/// What the server fills in, which only VALUES and SET may ask for.
fn is_default(value: &str) -> bool {
    let target = |select: &SelectStmt| match select.target_list.first()?.node.as_ref()? {
        NodeEnum::ResTarget(target) => target.val.as_ref()?.node.clone(),
        _ => None,
    };
    match one_statement(&format!("SELECT ({value})")) {
        Some(NodeEnum::SelectStmt(select)) => matches!(target(&select), Some(NodeEnum::SetToDefault(_))),
        _ => false,
    }
}

/// The rows that its condition joins, whatever its actions' own conditions leave of them.
fn merged(main: &str, merge: &MergeStmt, queries: &str) -> Option<Vec<Statement>> {
    let text = Text::of(main)?;
    let outermost = text.outermost(0);
    let first = |word: &str| outermost.iter().copied().find(|at| text.is(*at, word));
    let (into, using) = (first("into")?, first("using")?);
    let when = outermost
        .iter()
        .copied()
        .find(|at| text.is(*at, "when") && (text.is(at + 1, "matched") || text.is(at + 1, "not")))?;
    let on = outermost.iter().copied().rfind(|at| *at < when && text.is(*at, "on"))?;
    let relation = text.between(into + 1, using)?;
    let (source, condition) = (text.between(using + 1, on)?, text.between(on + 1, when)?);
    let mut all = Vec::new();
    for node in &merge.merge_when_clauses {
        let Some(NodeEnum::MergeWhenClause(clause)) = &node.node else {
            return None;
        };
        let set = || {
            let columns = clause.target_list.iter().filter_map(|target| match &target.node {
                Some(NodeEnum::ResTarget(target)) => Some(format!("{} = DEFAULT", quote_ident(&target.name))),
                _ => None,
            });
            columns.collect::<Vec<_>>().join(", ")
        };
        let (head, from) = match clause.command_type() {
            CmdType::CmdUpdate => (format!("UPDATE {relation} SET {}", set()), "FROM"),
            CmdType::CmdDelete => (format!("DELETE FROM {relation}"), "USING"),
            _ => continue,
        };
        let which = match clause.match_kind() {
            MergeMatchKind::MergeWhenNotMatchedBySource => {
                format!("WHERE NOT EXISTS (SELECT FROM {source} WHERE {condition})")
            }
            _ => format!("{from} {source} WHERE {condition}"),
        };
        all.extend(write(&format!("{queries} {head} {which}")));
    }
    Some(all)
}

fn arguments_of(execute: &str) -> Option<Vec<&str>> {
    let run = Text::of(execute)?;
    let word = (0..run.tokens.len()).rfind(|at| run.is(*at, "execute") && is_execute(&run, *at))?;
    match run.is(word + 2, "(") {
        true => Some(run.list(word + 2)?.0),
        false => Some(Vec::new()),
    }
}

/// What an EXECUTE runs, with its arguments in the place of the parameters, each in the type that the server has given the parameter.
/// `prepare`: the text of the PREPARE, or of what was prepared over the protocol.
pub fn executed_text(execute: &str, prepare: &str, types: &[String]) -> Option<String> {
    let arguments = arguments_of(execute)?;
    let all = Text::of(prepare)?;
    let mut start = 0;
    if all.is(0, "prepare") {
        start = 2;
        if all.is(start, "(") {
            start = all.list(start)?.1;
        }
        start += usize::from(all.is(start, "as"));
    }
    let mut sql = all.rest(start)?.to_string();
    let shift = all.tokens.get(start)?.start as usize;
    for token in all.tokens[start..]
        .iter()
        .rev()
        .filter(|token| token.token() == Token::Param)
    {
        let range = token.start as usize - shift..token.end as usize - shift;
        let number = sql
            .get(range.start + 1..range.end)?
            .parse::<usize>()
            .ok()?
            .checked_sub(1)?;
        let argument = arguments.get(number)?;
        sql.replace_range(range, &format!(" CAST(({argument}) AS {}) ", types.get(number)?));
    }
    Some(sql)
}

fn is_execute(text: &Text, at: usize) -> bool {
    text.rest(at)
        .and_then(one_statement)
        .is_some_and(|node| matches!(node, NodeEnum::ExecuteStmt(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::read;

    #[track_caller]
    fn check(sql: &str, expect: &[&str]) {
        let statements = read(sql.as_bytes(), true).unwrap();
        let found: Vec<String> = alone(&statements[0]).into_iter().map(|one| one.sql).collect();
        assert_eq!(found, expect, "{sql}");
    }

    #[test]
    fn what_is_changed_alone() {
        check("DELETE FROM p WHERE id = 1", &["DELETE FROM p WHERE id = 1"]);
        check(
            "EXPLAIN (ANALYZE) DELETE FROM p WHERE id = 1",
            &["DELETE FROM p WHERE id = 1"],
        );
        check(
            "COPY (DELETE FROM p WHERE id = 1 RETURNING id) TO STDOUT",
            &["DELETE FROM p WHERE id = 1 RETURNING id"],
        );
        check(
            "WITH x AS (SELECT 1 AS id), d (i) AS (DELETE FROM p WHERE id = 1 RETURNING id), u AS (UPDATE q SET a = 1) SELECT * FROM d",
            &["DELETE FROM p WHERE id = 1 RETURNING id", "UPDATE q SET a = 1"],
        );
        check(
            "WITH d AS (DELETE FROM p RETURNING id), x AS NOT MATERIALIZED (SELECT 1) UPDATE q SET a = 1 FROM x",
            &[
                "DELETE FROM p RETURNING id",
                "WITH x AS NOT MATERIALIZED (SELECT 1) UPDATE q SET a = 1 FROM x",
            ],
        );
        check(
            "CREATE TABLE n AS WITH d AS (DELETE FROM p RETURNING id) SELECT * FROM d WITH NO DATA",
            &["DELETE FROM p RETURNING id"],
        );
        check(
            "MERGE INTO ONLY p AS x USING a JOIN b USING (id) ON x.id = CASE WHEN true THEN a.id END WHEN MATCHED AND a.n > 1 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET n = 1, \"M\" = 2 WHEN NOT MATCHED THEN INSERT VALUES (1)",
            &[
                "DELETE FROM ONLY p AS x USING a JOIN b USING (id) WHERE x.id = CASE WHEN true THEN a.id END",
                "UPDATE ONLY p AS x SET n = DEFAULT, \"M\" = DEFAULT FROM a JOIN b USING (id) WHERE x.id = CASE WHEN true THEN a.id END",
            ],
        );
        check(
            "WITH s AS (SELECT 1 AS id) MERGE INTO p USING s ON p.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE",
            &["WITH s AS (SELECT 1 AS id) DELETE FROM p WHERE NOT EXISTS (SELECT FROM s WHERE p.id = s.id)"],
        );
    }

    #[test]
    fn what_is_replaced() {
        check(
            "INSERT INTO s.p AS x (n, id) VALUES (1, 2 + $1), ('a', (3)) ON CONFLICT (id) DO UPDATE SET id = 7",
            &[
                "UPDATE s.p SET id = DEFAULT WHERE (id OPERATOR(pg_catalog.=) (2 + $1)) OR (id OPERATOR(pg_catalog.=) ((3)))",
            ],
        );
        for sql in [
            "INSERT INTO p VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 7",
            "INSERT INTO p (id) SELECT 1 ON CONFLICT (id) DO UPDATE SET id = 7",
            "INSERT INTO p (id) VALUES (DEFAULT) ON CONFLICT (id) DO UPDATE SET id = 7",
            "INSERT INTO p (id) VALUES (1) ON CONFLICT ON CONSTRAINT p_pkey DO UPDATE SET id = 7",
        ] {
            check(sql, &["UPDATE p SET id = DEFAULT WHERE pg_catalog.random() IS NULL"]);
        }
        check("INSERT INTO p (id) VALUES (1) ON CONFLICT (id) DO NOTHING", &[]);
    }

    #[test]
    fn what_stands_behind_something() {
        for before in ["SELECT 1; ", "\n", "/* x */ "] {
            let sql = format!("{before}WITH d AS (DELETE FROM p WHERE id = 1 RETURNING id) SELECT * FROM d");
            let statements = read(sql.as_bytes(), true).unwrap();
            let found = alone(statements.last().unwrap());
            assert_eq!(found.len(), 1, "{sql}");
            assert_eq!(found[0].sql, "DELETE FROM p WHERE id = 1 RETURNING id", "{sql}");
        }
    }

    #[test]
    fn what_is_executed_alone() {
        let check = |execute: &str, prepare: &str, expect: &[&str]| {
            let types = ["bigint".to_owned(), "text".to_owned()];
            let found: Vec<String> = executed(execute, prepare, &types)
                .into_iter()
                .map(|one| one.sql)
                .collect();
            assert_eq!(found, expect, "{execute}");
        };
        check(
            "EXECUTE q (1, 'a, $1')",
            "PREPARE q (bigint) AS DELETE FROM p WHERE id = $1 AND b = $2",
            &["DELETE FROM p WHERE id =  CAST((1) AS bigint)  AND b =  CAST(('a, $1') AS text)"],
        );
        check(
            "EXPLAIN ANALYZE EXECUTE q",
            "PREPARE q AS DELETE FROM p",
            &["DELETE FROM p"],
        );
        check(
            "CREATE TABLE n AS EXECUTE q (5)",
            "WITH d AS (DELETE FROM p WHERE id = $1 RETURNING id) SELECT * FROM d",
            &["DELETE FROM p WHERE id =  CAST((5) AS bigint)  RETURNING id"],
        );
        // As many parameters as it has.
        check("EXECUTE q (1)", "PREPARE q AS DELETE FROM p WHERE id = $2", &[]);
    }

    #[test]
    fn what_may_be_evaluated_once_more() {
        let check = |execute: &str, expect: bool| assert_eq!(has_constant_arguments(execute), expect, "{execute}");
        check("EXECUTE q", true);
        check("EXECUTE q (1, 'a', NULL, -2)", true);
        check("EXPLAIN ANALYZE EXECUTE q (1)", true);
        check("EXECUTE q (nextval('s'))", false);
        check("EXECUTE q (1, a || b)", false);
        check("EXECUTE q ('a'::domain_of_mine)", false);
    }
}
