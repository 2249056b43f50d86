//! Statements of a DO block whose values are not known before it runs: those of its variables, and what EXECUTE … USING gives. The planner
//! says how many rows it expects whatever these are: it is asked for a generic plan, with a parameter in the place of each variable.

use super::ranges::{Asked, asked};
use crate::ascii::decoded;
use crate::mixed;
use crate::sketch;
use crate::splice::{filled, one_statement, quote_ident, quote_literal, significant_tokens};
use crate::statement::{Body, Statement};
use pg_query::protobuf::{ScanToken, Token};
use serde_json::Value;

const QUESTION: &str = include_str!("unvalued.sql");

/// One row with one column, for [`decode`].
pub const ANSWER: &str = "SELECT pg_catalog.current_setting('lockkeeper.unvalued', true)";

/// Every block has these.
const ALWAYS: [(&str, &str); 3] = [("found", "bool"), ("sqlstate", "text"), ("sqlerrm", "text")];

/// What is prepared in a statement's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unvalued {
    texts: Texts,
    /// The statement, with parameters in the place of its values.
    pub whole: String,
    /// Of each parameter.
    types: Vec<Option<String>>,
    /// A LIMIT is one of the values: of this the planner knows nothing, and takes a tenth of the rows for it.
    limited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Texts {
    One(String),
    /// With all of a range whose ends are not known, and with none of it.
    Between([String; 2]),
}

impl Texts {
    fn each(&self) -> &[String] {
        match self {
            Texts::One(text) => std::slice::from_ref(text),
            Texts::Between(texts) => texts,
        }
    }
}

/// Of a statement with such values in it. `always`: also of one without any. None: it could not be made.
pub fn of(statement: &Statement, body: &Body, always: bool) -> Option<Unvalued> {
    if body.resolves_names {
        return None;
    }
    let text = statement.explainable()?;
    let tokens = significant_tokens(text)?;
    // Where words stand in it, and not in what it is a part of.
    let tree = sketch::of(&one_statement(&shortened(text, &tokens))?)?;
    let mut found = References::default();
    found.walk(&tree, false);
    let is_value = |reference: &Reference| body.value(&reference.words, &found.relations).is_some();
    if !always && !text.contains('$') && !found.columns.iter().any(is_value) {
        return None;
    }
    let given = tokens
        .iter()
        .filter(|token| token.token() == Token::Param)
        .filter_map(|token| {
            text.get(token.start as usize + 1..token.end as usize)?
                .parse::<usize>()
                .ok()
        })
        .max()
        .unwrap_or(0);
    if given > PARAMETERS_MAX {
        return None;
    }
    let mut types: Vec<Option<String>> = vec![None; given];
    let mut known: Vec<Vec<String>> = Vec::new();
    let mut out = text.to_string();
    let mut limited = found.limited;
    let mut replaced = Vec::new();
    for reference in found.columns {
        let Some(type_name) = body.value(&reference.words, &found.relations) else {
            continue;
        };
        let at = known
            .iter()
            .position(|words| *words == reference.words)
            .unwrap_or_else(|| {
                known.push(reference.words.clone());
                types.push(type_name);
                known.len() - 1
            });
        limited |= reference.limits;
        let start = tokens.iter().position(|token| token.start == reference.location)?;
        let end = tokens.get(start + 2 * (reference.words.len() - 1))?.end;
        replaced.push((
            reference.location as usize..end as usize,
            format!("${}", given + at + 1),
        ));
    }
    if types.is_empty() && !always || types.len() > PARAMETERS_MAX {
        return None;
    }
    replaced.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    for (range, parameter) in replaced {
        out.get(range.clone())?;
        // `v` may stand right behind a word.
        out.replace_range(range, &format!(" {parameter} "));
    }
    let whole = out.clone();
    let texts = match asked(&out)? {
        Asked::AsItIs => Texts::One(out),
        Asked::OneSided(text) => Texts::One(text),
        Asked::Between { all, none } => Texts::Between([all, none]),
    };
    Some(Unvalued {
        texts,
        whole,
        types,
        limited,
    })
}

/// With blanks in the place of a list's constants but for the first: the tree of a long list takes hundreds of times its text, and the
/// statement's own is there already.
fn shortened(text: &str, tokens: &[ScanToken]) -> String {
    let is_constant = |token: Token| matches!(token, Token::Iconst | Token::Fconst | Token::Sconst);
    let mut out = text.as_bytes().to_vec();
    for four in tokens.windows(4) {
        let words = [four[0].token(), four[1].token(), four[2].token(), four[3].token()];
        if let [first, Token::Ascii44, next, Token::Ascii44 | Token::Ascii41] = words
            && is_constant(first)
            && is_constant(next)
        {
            out[four[1].start as usize..four[2].end as usize].fill(b' ');
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The server takes 65,535; a block hardly has so many variables.
const PARAMETERS_MAX: usize = 1_000;

/// Each of them with the types that are declared, and with those that the server infers. `name`: under which nothing is prepared.
pub fn question(all: &[&Unvalued], name: &str) -> String {
    let (mut prepares, mut executes) = (Vec::new(), Vec::new());
    for (one, text) in all
        .iter()
        .flat_map(|one| one.texts.each().iter().map(move |text| (one, text)))
    {
        for is_typed in [true, false] {
            let type_of = |known: &Option<String>| match known {
                Some(known) if is_typed => known.clone(),
                _ => "pg_catalog.unknown".to_owned(),
            };
            let types: Vec<String> = one.types.iter().map(type_of).collect();
            let nulls = vec!["NULL"; types.len()].join(", ");
            let in_parentheses = |list: &str| match list {
                "" => String::new(),
                list => format!(" ({list})"),
            };
            let name = quote_ident(name);
            prepares.push(quote_literal(&format!(
                "PREPARE {name}{} AS {}",
                in_parentheses(&types.join(", ")),
                text
            )));
            executes.push(quote_literal(&format!(
                "EXPLAIN (FORMAT JSON) EXECUTE {name}{}",
                in_parentheses(&nulls)
            )));
        }
    }
    let array = |all: &[String]| format!("ARRAY[{}]::text[]", all.join(", "));
    let values = [
        ("{prepares}", array(&prepares)),
        ("{executes}", array(&executes)),
        ("{count}", prepares.len().to_string()),
        ("{literal}", quote_literal(name)),
        ("{name}", quote_ident(name)),
    ];
    filled(QUESTION.trim_end(), &values)
}

/// None of the texts can end the quotation that they are put into.
pub fn is_quotable(all: &[&Unvalued]) -> bool {
    all.iter()
        .flat_map(|one| one.texts.each())
        .all(|text| !text.contains("$lockkeeper"))
}

/// The rows that each of them is expected to change. None: the planner cannot tell whether they are more than `rows_max`.
pub fn decode(all: &[&Unvalued], rows_max: f64, answer: Option<&str>) -> Vec<Option<f64>> {
    let plans: Vec<Option<String>> = answer.and_then(|answer| decoded(answer).ok()).unwrap_or_default();
    let rows = |at: usize| mixed::changed_rows(plans.get(at)?.as_deref()?);
    let mut at = 0;
    let mut next = || {
        at += 2;
        rows(at - 2).or_else(|| rows(at - 1))
    };
    let mut one = |one: &&Unvalued| match &one.texts {
        Texts::One(_) => next(),
        Texts::Between(_) => {
            let (most, least) = (next(), next());
            least
                .filter(|least| *least > rows_max)
                .or(most.filter(|most| *most <= rows_max))
        }
    };
    let rows = all.iter().map(|unvalued| (unvalued.limited, one(unvalued)));
    // How many a LIMIT leaves, the planner guesses.
    rows.map(|(limited, rows)| rows.filter(|rows| !limited || *rows <= rows_max))
        .collect()
}

impl Body {
    /// The type of a value, where it is one of the block's and no column. `relations`: what the statement's own columns may be of.
    fn value(&self, words: &[String], relations: &[String]) -> Option<Option<String>> {
        let (first, rest) = words.split_first()?;
        if !rest.is_empty() && relations.contains(first) {
            return None;
        }
        if rest.is_empty()
            && let Some((_, type_name)) = ALWAYS.iter().find(|(name, _)| name == first)
        {
            return Some(Some(format!("pg_catalog.{type_name}")));
        }
        let mut named = self.variables.iter().filter(|variable| variable.name == *first);
        let one = named.next()?;
        let is_certain = rest.is_empty() && named.all(|other| other.type_name == one.type_name);
        Some(one.type_name.clone().filter(|_| is_certain))
    }
}

#[derive(Debug)]
struct Reference {
    words: Vec<String>,
    location: i32,
    /// In a LIMIT.
    limits: bool,
}

/// Column references as the grammar sees them, and the names of relations.
#[derive(Default)]
struct References {
    columns: Vec<Reference>,
    relations: Vec<String>,
    /// A parameter of the statement's own stands in a LIMIT.
    limited: bool,
}

impl References {
    fn walk(&mut self, tree: &Value, limits: bool) {
        match tree {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item, limits)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match key.as_str() {
                        "ColumnRef" => self.column(value, limits),
                        "ParamRef" => self.limited |= limits,
                        "relname" | "aliasname" | "ctename" => {
                            self.relations.extend(value.as_str().map(str::to_owned));
                        }
                        _ => {}
                    }
                    // What a sub-select within it is about is no LIMIT.
                    let limits = match key.as_str() {
                        "limit_count" => true,
                        "SelectStmt" => false,
                        _ => limits,
                    };
                    self.walk(value, limits);
                }
            }
            _ => {}
        }
    }

    fn column(&mut self, column: &Value, limits: bool) {
        let fields = column["fields"].as_array().into_iter().flatten();
        let words: Option<Vec<String>> = fields
            .map(|word| word["node"]["String"]["sval"].as_str().map(str::to_owned))
            .collect();
        if let (Some(words), Some(location)) = (words, column["location"].as_i64()) {
            self.columns.push(Reference {
                words,
                location: location as i32,
                limits,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::read;

    fn made(code: &str) -> Vec<Option<Unvalued>> {
        let statements = read(format!("DO $x$ {code} $x$").as_bytes(), true).unwrap();
        let body = statements[0].body().unwrap();
        body.statements.iter().map(|inner| of(inner, body, false)).collect()
    }

    #[track_caller]
    fn check(code: &str, expect: &[Option<(&str, &str)>]) {
        let made = made(code);
        let shown: Vec<Option<(String, String)>> = made
            .iter()
            .map(|one| {
                let one = one.as_ref()?;
                let types: Vec<&str> = one.types.iter().map(|t| t.as_deref().unwrap_or("-")).collect();
                Some((one.texts.each().join(" | "), types.join(" ")))
            })
            .collect();
        let expect: Vec<Option<(String, String)>> = expect
            .iter()
            .map(|one| one.map(|(text, types)| (text.to_string(), types.to_string())))
            .collect();
        assert_eq!(shown, expect, "{code}");
    }

    #[test]
    fn variables_become_parameters() {
        check("BEGIN UPDATE t SET a = 1 WHERE b > 2; END", &[None]);
        check(
            "DECLARE v int; w text; BEGIN UPDATE t SET w = w WHERE a > v AND b = v; END",
            &[Some(("UPDATE t SET w =  $1  WHERE a >  $2  AND b =  $2 ", "text int4"))],
        );
        check(
            "DECLARE r record; BEGIN FOR r IN SELECT 1 AS id LOOP DELETE FROM t WHERE t.id = r.id; END LOOP; END",
            &[Some(("DELETE FROM t WHERE t.id =  $1 ", "-"))],
        );
        check(
            "<<b>> DECLARE v int; BEGIN DELETE FROM t WHERE a = b.v; END",
            &[Some(("DELETE FROM t WHERE a =  $1 ", "-"))],
        );
        check(
            "DECLARE v int; BEGIN EXECUTE 'DELETE FROM t WHERE a > $1' USING v; END",
            &[Some(("DELETE FROM t WHERE a > $1", "-"))],
        );
        // The columns of a table that has a variable's name.
        check("DECLARE t int; BEGIN DELETE FROM t WHERE t.a = 1; END", &[None]);
        check(
            "DECLARE v int; BEGIN DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT v); END",
            &[Some((
                "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT  $1 )",
                "int4",
            ))],
        );
        let limited = |code: &str| made(code)[0].as_ref().unwrap().limited;
        assert!(limited(
            "DECLARE v int; BEGIN DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT v); END"
        ));
        assert!(!limited("DECLARE v int; BEGIN DELETE FROM t WHERE id = v; END"));
    }

    #[test]
    fn long_lists_are_shortened() {
        let text = "DELETE FROM t WHERE a IN (1, -2, 3,4 , 5.0) AND b IN ('6', 'é') OR f(7, a)";
        let tokens = significant_tokens(text).unwrap();
        let expect = "DELETE FROM t WHERE a IN (1, -2           ) AND b IN ('6'      ) OR f(7, a)";
        assert_eq!(shortened(text, &tokens), expect);
        check(
            "DECLARE v int; BEGIN DELETE FROM t WHERE a IN (1, 2, 3) AND b = v; END",
            &[Some(("DELETE FROM t WHERE a IN (1, 2, 3) AND b =  $1 ", "int4"))],
        );
    }

    #[test]
    fn the_question_is_one_statement() {
        let made = made("DECLARE v text; BEGIN DELETE FROM t WHERE a > v || 'it''s {name}'; END");
        let all: Vec<&Unvalued> = made.iter().flatten().collect();
        let sql = question(&all, "p");
        let parsed = pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).unwrap();
        assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}");
        assert!(
            sql.contains("PREPARE p (text) AS DELETE") && sql.contains("''''s {name}"),
            "{sql}"
        );
        assert!(is_quotable(&all));
        assert_eq!(decode(&all, 9.0, None), [None]);
    }
}
