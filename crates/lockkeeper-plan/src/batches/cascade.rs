//! What foreign keys (ON DELETE CASCADE, SET NULL, SET DEFAULT; ON UPDATE …) delete or change with the rows of an UPDATE or DELETE, through
//! several levels: bounded by the statistics where these are enough ([`at_most`]), else counted ([`count_sql`]).

use super::bound::{Bound, Ground, Hop, Pair};
use super::text::{Tree, parts};
use crate::catalog::{Relation, View};
use crate::facts::{Cascaded, Facts, Told};
use crate::mentions::Mentions;
use crate::splice::{qualified, quote_ident};
use crate::statement::{Kind, Statement};
use pg_query::NodeEnum;

/// The foreign keys that do something when this statement runs: of an UPDATE, where it writes a column that they refer to.
pub fn hops<'a>(statement: &Statement, ground: &'a Ground) -> Vec<&'a Hop> {
    let all = ground.cascades.as_deref().unwrap_or_default();
    let Some(tree) = Tree::of(&statement.node) else {
        return Vec::new();
    };
    let targets: Option<Vec<String>> = tree.targets.map(|targets| {
        let name = |node: &'_ pg_query::Node| match &node.node {
            Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
            _ => None,
        };
        targets.iter().filter_map(name).collect()
    });
    let written = |hop: &Hop| match &targets {
        Some(targets) => hop.columns.iter().any(|pair| targets.contains(&pair.refers)),
        None => true,
    };
    let root = if targets.is_some() { 'u' } else { 'd' };
    let first: Vec<u32> = all
        .iter()
        .filter(|hop| hop.root == root && hop.path.len() == 1 && written(hop))
        .filter_map(|hop| hop.path.first().copied())
        .collect();
    let leads = |hop: &&Hop| hop.root == root && hop.path.first().is_some_and(|key| first.contains(key));
    all.iter().filter(leads).collect()
}

/// Views over views, behind which a table is looked for.
const VIEWS_MAX: usize = 8;

/// The table that the statement's view writes to, and the views in front of it, the outermost first.
pub fn behind<'a>(facts: &'a Facts, ground: &Ground, statement: &Statement) -> Option<(Vec<&'a View>, &'a Relation)> {
    // As in pg_relation_is_updatable.
    let bit = match statement.node {
        NodeEnum::UpdateStmt(_) => 1 << 2,
        _ => 1 << 4,
    };
    let relation = |oid: u32| facts.relations.iter().find(|relation| relation.oid == oid);
    let mut views = Vec::new();
    let mut at = relation(ground.relation.oid);
    while let Some(view) = at.and_then(|relation| relation.view.as_ref())
        && view.writes & bit != 0
        && views.len() < VIEWS_MAX
    {
        views.push(view);
        at = view.base.and_then(relation);
    }
    let table = at.filter(|table| table.view.is_none() && !views.is_empty())?;
    Some((views, table))
}

/// What goes with the rows of the table behind these views.
pub fn through(ground: &mut Ground, base: Ground, views: &[&View]) {
    let seen = views.iter().rev().fold(base, |base, view| {
        let mut seen = Ground::default();
        seen_through(&mut seen, base, view);
        seen
    });
    (ground.cascades, ground.rows_behind) = (seen.cascades, seen.rows_behind);
}

/// What goes with the rows of the table behind a view, by the names that the view's columns have.
fn seen_through(ground: &mut Ground, base: Ground, view: &View) {
    ground.rows_behind = base.relation.rows.or(base.rows_behind);
    ground.cascades = base.cascades;
    for hop in ground.cascades.iter_mut().flatten().filter(|hop| hop.path.len() == 1) {
        for pair in &mut hop.columns {
            let shown = view.columns.iter().find(|(_, of)| *of == pair.refers);
            let name = shown.map(|(name, _)| name.clone()).unwrap_or_default();
            // Rows that refer to others of the same table are followed by its own names; and what is not shown cannot be asked about.
            hop.readable &= !name.is_empty() && (!hop.itself || name == pair.refers);
            pair.refers = name;
        }
    }
}

/// How many rows the statement and what goes with it touch at most, by the statistics. `rows`: of its target. None: they do not tell.
pub fn at_most(hops: &[&Hop], rows: Option<Bound>) -> Option<Bound> {
    let mut sum = rows.unwrap_or_default();
    for hop in hops {
        let fan = fan(hops, hop);
        let by_keys = rows.zip(fan).map(|(rows, fan)| rows.many(fan));
        let all = hop.rows.map(|rows| Bound {
            rows,
            rows_per_byte: 0.0,
        });
        let least = match (by_keys, all) {
            (Some(one), Some(other)) if other.usual() < one.usual() => other,
            (Some(one), _) => one,
            (None, all) => all?,
        };
        sum.rows += least.rows;
        sum.rows_per_byte += least.rows_per_byte;
    }
    Some(sum)
}

/// How many rows go with one of the target's.
fn fan(hops: &[&Hop], hop: &Hop) -> Option<f64> {
    (1..=hop.path.len())
        .map(|length| {
            let on_the_way = hops.iter().find(|other| other.path[..] == hop.path[..length])?;
            on_the_way.fan.filter(|_| !on_the_way.itself)
        })
        .product()
}

/// What `rows` of the target's take with them on the average, from tables whose sizes are known.
pub fn expected(hops: &[&Hop], ground: &Ground, rows: Option<f64>) -> Option<Cascaded> {
    let of_all = match (rows, ground.relation.rows.or(ground.rows_behind)) {
        (Some(rows), Some(all)) if all > 0.0 => (rows / all).min(1.0),
        _ => 1.0,
    };
    let counts: Vec<f64> = hops.iter().map(|hop| hop.rows.unwrap_or_default() * of_all).collect();
    cascaded(hops, &counts, Told::Expected)
}

/// The worst that there may be.
pub fn feared(hops: &[&Hop], rows: Option<Bound>) -> Option<Cascaded> {
    let counts: Option<Vec<f64>> = hops.iter().map(|hop| Some(at_most(&[hop], rows)?.usual())).collect();
    cascaded(hops, &counts?, Told::Feared)
}

/// What leads on further than it is followed. `counts`: of each of the hops, where they are known.
pub fn unfollowed(hops: &[&Hop], counts: Option<&[f64]>) -> Option<Cascaded> {
    let reached = |at: usize| counts.is_none_or(|counts| counts.get(at).is_none_or(|rows| *rows > 0.0));
    let (_, hop) = hops.iter().enumerate().find(|(at, hop)| hop.deeper && reached(*at))?;
    cascaded(&[hop], &[f64::INFINITY], Told::Unfollowed)
}

/// `counts`: of each of the hops.
pub fn cascaded(hops: &[&Hop], counts: &[f64], told: Told) -> Option<Cascaded> {
    let (most, _) = hops.iter().zip(counts).max_by(|a, b| a.1.total_cmp(b.1))?;
    let action = match most.action {
        'c' => "CASCADE",
        'n' => "SET NULL",
        _ => "SET DEFAULT",
    };
    let table = qualified(&most.schema, &most.table);
    let columns: Vec<String> = most.columns.iter().map(|pair| quote_ident(&pair.name)).collect();
    let columns = columns.join(", ");
    let on = if most.root == 'd' && most.action == 'c' {
        "DELETE"
    } else {
        "UPDATE"
    };
    Some(Cascaded {
        rows: counts.iter().sum(),
        told,
        of: format!(
            "{table} ({action} of the foreign key {})",
            quote_ident(&most.constraint)
        ),
        first: match on {
            "DELETE" => format!("Delete those rows of {table} first, by {columns}"),
            _ => format!("Change {columns} of those rows of {table} first"),
        },
    })
}

/// One row, with a column for each of the hops: how many rows it takes with it, up to `rows_max` + 1. Takes the statement's own parameters,
/// changes and locks nothing. None: it cannot be told without running the statement, or the role may not read them.
/// `is_harmless`: whether a function in its condition does no more than answer.
pub fn count_sql(
    statement: &Statement,
    hops: &[&Hop],
    rows_max: u64,
    is_harmless: impl Fn(&crate::catalog::Name) -> bool,
) -> Option<String> {
    if !matches!(statement.kind, Kind::Write) || hops.iter().any(|hop| !hop.readable) {
        return None;
    }
    let tree = Tree::of(&statement.node)?;
    let whole = Mentions::of(&statement.node);
    if whole.unreadable || whole.writes || whole.current_of {
        return None;
    }
    let condition = tree.condition.map(Mentions::within).unwrap_or_default();
    let sources = tree
        .sources()
        .flat_map(|(_, source)| Mentions::within(source).functions);
    if !condition
        .functions
        .into_iter()
        .chain(sources)
        .all(|name| is_harmless(&name))
    {
        return None;
    }
    let parts = parts(statement)?;
    let limit = rows_max.saturating_add(1);
    let with = parts.ctes.map_or("WITH ".to_string(), |ctes| format!("WITH {ctes},\n"));
    let from = parts.from.map(|from| format!(", {from}\n")).unwrap_or_default();
    let condition = parts
        .condition
        .map(|condition| format!(" WHERE {condition}\n"))
        .unwrap_or_default();
    let qualifier = quote_ident(&parts.qualifier);
    let keys = referred(hops, &[])
        .iter()
        .map(|key| format!("{qualifier}.{key}"))
        .collect::<Vec<_>>()
        .join(", ");
    // A row that is joined to several is touched once.
    let distinct = if tree.joins { "DISTINCT " } else { "" };
    let mut ctes = vec![format!(
        "lockkeeper_0 AS (SELECT {distinct}{keys} FROM {}{from}{condition} LIMIT {limit})",
        parts.relation
    )];
    for (n, hop) in hops.iter().enumerate() {
        let above = match hop.path.len() {
            1 => 0,
            length => 1 + hops.iter().position(|other| other.path[..] == hop.path[..length - 1])?,
        };
        ctes.push(format!(
            "lockkeeper_{} AS ({})",
            n + 1,
            hop.rows_sql(hops, above, limit)
        ));
    }
    let counts: Vec<String> = (1..=hops.len())
        .map(|n| format!("(SELECT pg_catalog.count(*) FROM lockkeeper_{n})"))
        .collect();
    Some(format!("{with}{}\nSELECT {}", ctes.join(",\n"), counts.join(", ")))
}

/// The columns that the foreign keys right behind this way refer to, quoted.
fn referred(hops: &[&Hop], way: &[u32]) -> Vec<String> {
    let behind = hops
        .iter()
        .filter(|hop| hop.path.len() == way.len() + 1 && hop.path.starts_with(way));
    let mut names: Vec<String> = behind
        .flat_map(|hop| &hop.columns)
        .map(|pair| quote_ident(&pair.refers))
        .collect();
    names.sort();
    names.dedup();
    names
}

impl Hop {
    /// The rows that have a key of those that went before.
    fn rows_sql(&self, hops: &[&Hop], above: usize, limit: u64) -> String {
        let mut columns = referred(hops, &self.path);
        if self.itself {
            columns.extend(self.columns.iter().map(|pair| quote_ident(&pair.refers)));
            columns.sort();
            columns.dedup();
        }
        let columns = columns
            .iter()
            .map(|column| format!("c.{column}"))
            .collect::<Vec<_>>()
            .join(", ");
        let join = |above: &str| {
            let equal = |pair: &Pair| {
                format!(
                    "p.{} OPERATOR({}.{}) c.{}",
                    quote_ident(&pair.refers),
                    quote_ident(&pair.schema),
                    pair.operator,
                    quote_ident(&pair.name)
                )
            };
            let on: Vec<String> = self.columns.iter().map(equal).collect();
            let table = qualified(&self.schema, &self.table);
            format!(
                "SELECT {columns} FROM {above} AS p JOIN {table} AS c ON {}",
                on.join(" AND ")
            )
        };
        let first = join(&format!("lockkeeper_{above}"));
        match self.itself {
            // UNION ends where rows refer to each other in a circle.
            true => format!(
                "WITH RECURSIVE lockkeeper_r AS ({first} UNION {}) SELECT * FROM lockkeeper_r LIMIT {limit}",
                join("lockkeeper_r")
            ),
            false => format!("{first} LIMIT {limit}"),
        }
    }
}
