//! How many rows an UPDATE or DELETE can touch at most, whatever its literals and parameters are: by a unique key, by the
//! commonest value of an equality's column, by the length of a list, by a LIMIT. What is found holds for every text of the
//! same [shape](super::shape) as long as its [`Ground`] does.

use super::judge::{column_of, conjunction};
use super::text::Tree;
use crate::ascii::decoded;
use crate::catalog::{Name, Relation};
use crate::mentions::Mentions;
use crate::mixed;
use crate::splice::{quote_ident, quote_literal};
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{AExprKind, Node, SelectStmt, SubLinkType};
use serde::Deserialize;

/// The commonest value is known from a sample: so many times more may be.
const SAMPLED: f64 = 2.0;
/// A table that has grown by more than this part since ANALYZE, and by so many rows, is another one than the statistics
/// describe. Autovacuum lets it grow by a tenth.
const GROWN: f64 = 1.25;
const GROWN_ROWS: f64 = 1_000.0;
/// An array in a message has at most one element for so many of its bytes (`1,2,3`); in the binary format it takes more.
const ELEMENT_BYTES: f64 = 2.0;
/// For telling which of two bounds is the narrower: as long as most messages.
const USUAL_BYTES: f64 = 256.0;

/// A foreign key, and the way from the statement's target to it.
#[derive(Clone, Debug, Deserialize)]
pub struct Hop {
    /// `d` or `u`: what happens to the target.
    pub(super) root: char,
    /// As pg_constraint.confdeltype.
    pub(super) action: char,
    /// The foreign keys on the way, itself the last.
    pub(super) path: Vec<u32>,
    pub(super) constraint: String,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) itself: bool,
    /// Foreign keys lead on from its table's rows, further than they are followed.
    pub(super) deeper: bool,
    pub(super) columns: Vec<Pair>,
    pub(super) readable: bool,
    /// Of the table that it is a key of. None: not known.
    pub(super) rows: Option<f64>,
    /// How many of these may have the same key, by the statistics.
    pub(super) fan: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Pair {
    pub(super) refers: String,
    pub(super) name: String,
    /// Of the operator by which the server compares them.
    pub(super) schema: String,
    pub(super) operator: String,
}

/// What a bound rests on: the target of the statement, as the catalog describes it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ground {
    #[serde(flatten)]
    pub relation: Relation,
    /// How many rows it has. None: not known well enough.
    counted: Option<f64>,
    /// A condition may mean other rows than it says.
    opaque: bool,
    /// Which of its rows are meant depends on the session: row security, or a view.
    #[serde(default)]
    seen_by_session: bool,
    statistics: Vec<Statistic>,
    /// What foreign keys delete or change with a row. None: nothing.
    #[serde(default)]
    pub cascades: Option<Vec<Hop>>,
    /// Of a view that is written through: the rows of the table behind it, if they are known.
    #[serde(skip)]
    pub rows_behind: Option<f64>,
}

/// pg_stats, of what does not inherit.
#[derive(Clone, Debug, Deserialize)]
struct Statistic {
    column: String,
    nulls: f64,
    /// As pg_stats.n_distinct.
    distinct: f64,
    commonest: Option<f64>,
}

/// At most `rows`, and `rows_per_byte` more for each byte of the message that brings the values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bound {
    pub rows: f64,
    pub rows_per_byte: f64,
}

impl Bound {
    fn exactly(rows: usize) -> Bound {
        Bound {
            rows: rows as f64,
            rows_per_byte: 0.0,
        }
    }

    /// What the planner expects.
    pub fn about(rows: f64) -> Bound {
        Bound {
            rows: rows.max(1.0),
            rows_per_byte: 0.0,
        }
    }

    /// An array as a parameter or as a string.
    fn of_array() -> Bound {
        Bound {
            rows: 1.0,
            rows_per_byte: 1.0 / ELEMENT_BYTES,
        }
    }

    pub fn of_message(&self, bytes: usize) -> f64 {
        self.rows + self.rows_per_byte * bytes as f64
    }

    /// None where both grow with the message.
    fn times(self, other: Bound) -> Option<Bound> {
        (self.rows_per_byte == 0.0 || other.rows_per_byte == 0.0).then_some(Bound {
            rows: self.rows * other.rows,
            rows_per_byte: self.rows_per_byte * other.rows + other.rows_per_byte * self.rows,
        })
    }

    pub fn many(self, times: f64) -> Bound {
        Bound {
            rows: self.rows * times,
            rows_per_byte: self.rows_per_byte * times,
        }
    }

    pub fn usual(&self) -> f64 {
        self.of_message(USUAL_BYTES as usize)
    }
}

impl Ground {
    /// The answer to [`crate::request::Request::ground_sql`]: None if there is no such relation.
    pub fn decode(answer: Option<&str>) -> Result<Option<Ground>, String> {
        let Some(answer) = answer else { return Ok(None) };
        let grounds: Vec<Ground> = decoded(answer)?;
        Ok(grounds.into_iter().next())
    }

    /// How many rows have the same value of that column at most. NULL is no value.
    fn rows_of_a_value(&self, column: &str) -> Option<f64> {
        if self.is_unique(&[column]) {
            return Some(1.0);
        }
        let rows = self.counted?;
        // rows is of the last ANALYZE or VACUUM.
        let then = self.relation.rows?;
        if rows > then * GROWN + GROWN_ROWS {
            return None;
        }
        let statistic = self.statistics.iter().find(|s| s.column == column)?;
        let distinct = match statistic.distinct {
            d if d < 0.0 => -d * rows,
            d => d,
        };
        if distinct <= 0.0 {
            return Some(0.0).filter(|_| statistic.nulls >= 1.0).map(|_| SAMPLED);
        }
        let average = (1.0 - statistic.nulls) / distinct;
        // Of the rows that are new since then nothing is known: all may have this value.
        let new = (rows - then).max(0.0);
        Some((rows * average.max(statistic.commonest.unwrap_or(0.0)) * SAMPLED).max(1.0) + new)
    }

    /// The same, but for what changes with each row that is written.
    pub fn lasting(&self) -> Ground {
        Ground {
            counted: None,
            ..self.clone()
        }
    }

    /// What a text means that names no other relation depends on the data and on nothing that a session may have set.
    pub fn is_plain(&self) -> bool {
        matches!(self.relation.kind, 'r' | 'p') && !self.opaque && !self.seen_by_session
    }

    /// The bound is by a key, whatever the statistics say.
    pub fn pins(&self, bound: Option<Bound>) -> bool {
        bound.is_some_and(|bound| bound.rows <= 1.0 && bound.rows_per_byte == 0.0)
    }

    fn is_unique(&self, columns: &[&str]) -> bool {
        let within = |name: &Option<String>| name.as_deref().is_some_and(|name| columns.contains(&name));
        let mut unique = self
            .relation
            .indexes
            .iter()
            .filter(|i| i.unique && i.valid && !i.partial);
        unique.any(|i| !i.columns.is_empty() && i.columns.iter().all(within))
    }
}

/// None: something else must tell, for each text anew.
pub fn bound(statement: &Statement, ground: &Ground) -> Option<Bound> {
    let tree = Tree::of(&statement.node)?;
    if !matches!(ground.relation.kind, 'r' | 'p') || ground.opaque {
        return None;
    }
    let scope = Scope { tree: &tree };
    let terms = conjunction(tree.condition?);
    let pinned: Vec<(&str, Bound)> = terms.iter().filter_map(|term| scope.pinned(term)).collect();
    let mut found = pinned
        .iter()
        .filter_map(|(column, values)| Some(values.many(ground.rows_of_a_value(column)?)))
        .collect::<Vec<_>>();
    found.extend(by_key(ground, &pinned));
    found.into_iter().min_by(|a, b| a.usual().total_cmp(&b.usual()))
}

/// Of what chooses the rows: two texts that are equal mean the same rows in every session of the same role and search_path. Not with
/// a function that reads settings, as `current_setting` does, or may. None: that is so, if these relations are plain ones.
pub fn steady(statement: &Statement) -> Option<Vec<Name>> {
    let (mentions, own) = match Tree::of(&statement.node) {
        Some(tree) => {
            let mut parts = tree.condition.map(Mentions::within).into_iter().collect::<Vec<_>>();
            parts.extend(tree.sources().map(|(_, source)| Mentions::within(source)));
            (parts, Some(Name::of(tree.relation)))
        }
        None => (vec![Mentions::of(&statement.node)], None),
    };
    let is_steady = |name: &Name| name.schema.is_none() && STEADY.binary_search(&name.name.as_str()).is_ok();
    let steady = mentions
        .iter()
        .all(|part| !part.unreadable && !part.current_of && part.functions.iter().all(is_steady));
    let others = mentions.into_iter().flat_map(|part| part.relations);
    let mut others: Vec<Name> = others.filter(|name| Some(name) != own.as_ref()).collect();
    // A MERGE, or a WITH that changes data.
    others.extend(
        mixed::all(&statement.node)
            .unwrap_or_default()
            .into_iter()
            .filter(|name| Some(name) != own.as_ref()),
    );
    others.dedup();
    steady.then_some(others)
}

/// Whether all of these are tables of which every session sees the same rows.
pub fn plain_sql(names: &[Name]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|name| {
            let schema = name.schema.as_ref().map(|schema| format!("{}.", quote_ident(schema)));
            quote_literal(&format!("{}{}", schema.unwrap_or_default(), quote_ident(&name.name)))
        })
        .collect();
    format!(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]) AS n(name) JOIN pg_catalog.pg_class AS c \
         ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(n.name) \
         WHERE c.relkind OPERATOR(pg_catalog.<>) ALL ('{{r,p}}'::pg_catalog.\"char\"[]) OR c.relrowsecurity OR c.relhasrules)",
        names.join(", ")
    )
}

/// Functions whose answer follows from their arguments and the time. Sorted.
pub(super) const STEADY: &[&str] = &[
    "abs",
    "age",
    "array_agg",
    "array_append",
    "array_length",
    "avg",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "clock_timestamp",
    "concat",
    "count",
    "date_part",
    "date_trunc",
    "dense_rank",
    "extract",
    "first_value",
    "floor",
    "generate_series",
    "json_build_object",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_build_object",
    "jsonb_set",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "ltrim",
    "make_date",
    "make_interval",
    "make_timestamptz",
    "max",
    "md5",
    "min",
    "mod",
    "nextval",
    "now",
    "position",
    "random",
    "rank",
    "replace",
    "right",
    "round",
    "row_number",
    "rtrim",
    "split_part",
    "statement_timestamp",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "timezone",
    "to_date",
    "to_timestamp",
    "transaction_timestamp",
    "trunc",
    "unnest",
    "upper",
];

/// Every column of a unique key has a number of values.
fn by_key(ground: &Ground, pinned: &[(&str, Bound)]) -> Option<Bound> {
    let values_of = |column: &Option<String>| {
        let column = column.as_deref()?;
        let all = pinned.iter().filter(|(name, _)| *name == column);
        all.map(|(_, values)| *values)
            .min_by(|a, b| a.usual().total_cmp(&b.usual()))
    };
    let keys = ground.relation.indexes.iter();
    let keys = keys.filter(|i| i.unique && i.valid && !i.partial && !i.columns.is_empty());
    keys.filter_map(|index| {
        let mut columns = index.columns.iter().map(values_of);
        columns.try_fold(Bound::exactly(1), |all, one| all.times(one?))
    })
    .min_by(|a, b| a.usual().total_cmp(&b.usual()))
}

/// Where names are looked for.
struct Scope<'a> {
    tree: &'a Tree<'a>,
}

impl<'a> Scope<'a> {
    /// A column of the target that the term lets have a bounded number of values.
    fn pinned(&self, term: &'a Node) -> Option<(&'a str, Bound)> {
        match term.node.as_ref()? {
            NodeEnum::AExpr(expr) => {
                match &expr.name[..] {
                    [
                        Node {
                            node: Some(NodeEnum::String(operator)),
                        },
                    ] if operator.sval == "=" => {}
                    _ => return None,
                }
                let (left, right) = (expr.lexpr.as_deref()?, expr.rexpr.as_deref()?);
                match expr.kind() {
                    AExprKind::AexprOp => {
                        let side = |column, value| Some((self.column(column)?, self.values(value)?));
                        side(left, right).or_else(|| side(right, left))
                    }
                    AExprKind::AexprIn => match right.node.as_ref()? {
                        NodeEnum::List(list) if list.items.iter().all(is_value) => {
                            Some((self.column(left)?, Bound::exactly(list.items.len())))
                        }
                        _ => None,
                    },
                    AExprKind::AexprOpAny => {
                        let elements = elements(right).or_else(|| self.selected(right));
                        Some((self.column(left)?, elements?))
                    }
                    _ => None,
                }
            }
            // column IN (SELECT …), column = ANY (SELECT …)
            NodeEnum::SubLink(link) if link.sub_link_type() == SubLinkType::AnySublink => {
                let plain = match &link.oper_name[..] {
                    [] => true,
                    [
                        Node {
                            node: Some(NodeEnum::String(operator)),
                        },
                    ] => operator.sval == "=",
                    _ => false,
                };
                let column = self.column(link.testexpr.as_deref()?)?;
                let select = select_of(link.subselect.as_deref()?).filter(|_| plain)?;
                Some((column, self.uncorrelated(select)?))
            }
            _ => None,
        }
    }

    /// `ARRAY(SELECT …)`
    fn selected(&self, array: &'a Node) -> Option<Bound> {
        match array.node.as_ref()? {
            NodeEnum::SubLink(link) if link.sub_link_type() == SubLinkType::ArraySublink => {
                self.uncorrelated(select_of(link.subselect.as_deref()?)?)
            }
            _ => None,
        }
    }

    /// With other tables in reach, an unqualified column may be theirs.
    fn column(&self, node: &'a Node) -> Option<&'a str> {
        if self.tree.joins && !matches!(node.node.as_ref()?, NodeEnum::ColumnRef(c) if c.fields.len() == 2) {
            return None;
        }
        column_of(node, self.tree.qualifier())
    }

    /// How many values the other side of an equality has, for all rows of the target together.
    fn values(&self, node: &'a Node) -> Option<Bound> {
        if is_value(node) {
            return Some(Bound::exactly(1));
        }
        match node.node.as_ref()? {
            NodeEnum::SubLink(link) if link.sub_link_type() == SubLinkType::ExprSublink => {
                // Of more than one row it fails.
                self.is_uncorrelated(select_of(link.subselect.as_deref()?)?)
                    .then(|| Bound::exactly(1))
            }
            NodeEnum::ColumnRef(column) if self.tree.joins => {
                let [
                    Node {
                        node: Some(NodeEnum::String(table)),
                    },
                    Node {
                        node: Some(NodeEnum::String(_)),
                    },
                ] = &column.fields[..]
                else {
                    return None;
                };
                // The rows of one source are at most as many values, whatever else they are joined with.
                let mut named = self
                    .tree
                    .from()
                    .iter()
                    .filter(|item| alias_of(item) == Some(table.sval.as_str()));
                let source = named.next().filter(|_| table.sval != self.tree.qualifier())?;
                named.next().is_none().then(|| self.rows_of_source(source))?
            }
            _ => None,
        }
    }

    fn rows_of_source(&self, item: &'a Node) -> Option<Bound> {
        match item.node.as_ref()? {
            NodeEnum::RangeSubselect(sub) if !sub.lateral => rows_of_select(select_of(sub.subquery.as_deref()?)?),
            NodeEnum::RangeFunction(function) => unnested(function),
            NodeEnum::RangeVar(range) if range.schemaname.is_empty() => {
                let mut ctes = self.tree.ctes().iter().filter_map(|node| match node.node.as_ref()? {
                    NodeEnum::CommonTableExpr(cte) if cte.ctename == range.relname => Some(cte),
                    _ => None,
                });
                rows_of_select(select_of(ctes.next_back()?.ctequery.as_deref()?)?)
            }
            _ => None,
        }
    }

    fn uncorrelated(&self, select: &'a SelectStmt) -> Option<Bound> {
        rows_of_select(select).filter(|_| self.is_uncorrelated(select))
    }

    /// Nothing within can be a column of the target, whose value would be another for each row: each name is qualified with a
    /// relation of its own, or is one of the target's and found in the same table within first.
    fn is_uncorrelated(&self, select: &SelectStmt) -> bool {
        let within = Mentions::within(select);
        if within.unreadable || within.writes || !within.ctes.is_empty() || !select.values_lists.is_empty() {
            return false;
        }
        let only = |node: &Node| match node.node.as_ref() {
            Some(NodeEnum::RangeVar(range)) => Some(range.clone()),
            _ => None,
        };
        let Some(ranges) = select.from_clause.iter().map(only).collect::<Option<Vec<_>>>() else {
            return false;
        };
        // A query within the query has names of its own, which are not looked into here.
        if within.subselect || within.relations.len() != ranges.len() || select.larg.is_some() {
            return false;
        }
        let target = Name::of(self.tree.relation);
        let plain =
            |range: &&pg_query::protobuf::RangeVar| range.alias.as_ref().is_none_or(|alias| alias.colnames.is_empty());
        let same = ranges.iter().filter(plain).any(|range| Name::of(range) == target) && self.tree.ctes().is_empty();
        let aliases: Vec<&str> = ranges
            .iter()
            .map(|range| {
                range
                    .alias
                    .as_ref()
                    .map_or(range.relname.as_str(), |alias| alias.aliasname.as_str())
            })
            .collect();
        within.columns.iter().all(|words| match &words[..] {
            [table, _] => aliases.contains(&table.as_str()),
            // `*`, or a whole row by the name of its relation.
            [one] => same || one == "*",
            _ => false,
        })
    }
}

/// The rows that a query can have whatever its values are.
pub(super) fn rows_of_select(select: &SelectStmt) -> Option<Bound> {
    if !select.values_lists.is_empty() {
        return Some(Bound::exactly(select.values_lists.len()));
    }
    let limit = select
        .limit_count
        .as_deref()
        .filter(|_| select.limit_option() != pg_query::protobuf::LimitOption::WithTies);
    match limit?.node.as_ref()? {
        // Kept in the shape, as it stands behind its word.
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Ival(number) => Some(Bound::exactly(usize::try_from(number.ival).ok()?)),
            _ => None,
        },
        _ => None,
    }
}

/// `unnest($1::int[], $2::text[])`
fn unnested(function: &pg_query::protobuf::RangeFunction) -> Option<Bound> {
    let [item] = &function.functions[..] else { return None };
    let NodeEnum::List(list) = item.node.as_ref()? else {
        return None;
    };
    let NodeEnum::FuncCall(call) = list.items.first()?.node.as_ref()? else {
        return None;
    };
    let name: Vec<&str> = call
        .funcname
        .iter()
        .filter_map(|word| match word.node.as_ref()? {
            NodeEnum::String(word) => Some(word.sval.as_str()),
            _ => None,
        })
        .collect();
    if !matches!(&name[..], ["unnest"] | ["pg_catalog", "unnest"]) || function.lateral || function.is_rowsfrom {
        return None;
    }
    // As long as the longest of them.
    let each = call.args.iter().map(elements).collect::<Option<Vec<_>>>()?;
    each.into_iter().reduce(|a, b| Bound {
        rows: a.rows.max(b.rows),
        rows_per_byte: a.rows_per_byte.max(b.rows_per_byte),
    })
}

/// How many elements an array has.
fn elements(node: &Node) -> Option<Bound> {
    match node.node.as_ref()? {
        NodeEnum::AArrayExpr(array) => {
            let each = array.elements.iter().map(|element| match element.node.as_ref() {
                Some(NodeEnum::AArrayExpr(_)) => elements(element),
                _ => is_value(element).then(|| Bound::exactly(1)),
            });
            let each = each.collect::<Option<Vec<_>>>()?;
            Some(Bound {
                rows: each.iter().map(|one| one.rows).sum(),
                rows_per_byte: each.iter().map(|one| one.rows_per_byte).sum(),
            })
        }
        NodeEnum::TypeCast(cast) if is_plain_type(cast) => elements(cast.arg.as_deref()?),
        NodeEnum::ParamRef(_) | NodeEnum::AConst(_) => Some(Bound::of_array()),
        _ => None,
    }
}

pub(super) fn select_of(node: &Node) -> Option<&SelectStmt> {
    match node.node.as_ref()? {
        NodeEnum::SelectStmt(select) => Some(select),
        _ => None,
    }
}

fn alias_of(item: &Node) -> Option<&str> {
    match item.node.as_ref()? {
        NodeEnum::RangeVar(range) => Some(
            range
                .alias
                .as_ref()
                .map_or(range.relname.as_str(), |alias| &alias.aliasname),
        ),
        NodeEnum::RangeSubselect(sub) => Some(&sub.alias.as_ref()?.aliasname),
        NodeEnum::RangeFunction(function) => Some(&function.alias.as_ref()?.aliasname),
        _ => None,
    }
}

/// One value, the same for each row; and of no type whose `=` could be another than the column's.
fn is_value(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => is_plain_type(cast) && cast.arg.as_deref().is_some_and(is_value),
        _ => false,
    }
}

/// A type of the server's own, whose equality with a column's type tells as many values apart as the column's own.
fn is_plain_type(cast: &pg_query::protobuf::TypeCast) -> bool {
    const PLAIN: &[&str] = &[
        "int2",
        "int4",
        "int8",
        "text",
        "varchar",
        "bpchar",
        "uuid",
        "date",
        "timestamp",
        "timestamptz",
        "numeric",
        "bool",
        "oid",
        "bytea",
        "inet",
        "name",
    ];
    let Some(type_name) = &cast.type_name else { return false };
    let words: Option<Vec<&str>> = type_name
        .names
        .iter()
        .map(|word| match word.node.as_ref() {
            Some(NodeEnum::String(word)) => Some(word.sval.as_str()),
            _ => None,
        })
        .collect();
    match words.as_deref() {
        Some([name] | ["pg_catalog", name]) => PLAIN.contains(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::statement;
    use super::*;

    #[test]
    fn what_depends_on_the_session() {
        assert!(STEADY.is_sorted());
        let check = |sql: &str, expect: Option<&[&str]>| {
            let others = steady(&statement(sql));
            let names: Option<Vec<String>> = others.map(|all| all.into_iter().map(|name| name.name).collect());
            let expect = expect.map(|all| all.iter().map(|name| name.to_string()).collect::<Vec<_>>());
            assert_eq!(names, expect, "{sql}");
        };
        check("DELETE FROM t WHERE at < now() - interval '1 day'", Some(&[]));
        check(
            "UPDATE t SET n = f(n) WHERE id IN (SELECT id FROM t WHERE n = 1)",
            Some(&[]),
        );
        check("DELETE FROM t USING u WHERE u.id = t.id", Some(&["u"]));
        check("DELETE FROM t WHERE tenant = current_setting('app.tenant')", None);
        check("DELETE FROM t WHERE public.lower(a) = 'x'", None);
        check("DELETE FROM t WHERE CURRENT OF c", None);
    }
}
