//! What only the end of a file tells: a key or an index that is made later in it.

use super::own::{Own, told};
use crate::check::known::Known;
use crate::check::spot::Spot;
use crate::check::verdict::Found;
use crate::plan::catalog::{Name, Relation};
use crate::plan::facts::Facts;
use crate::plan::request::Request;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, Constraint, CreateStmt, IndexStmt, Node, ObjectType};

pub const NO_KEY: Own = Own {
    name: "no-primary-key",
    verdict: "warn",
    what: "A table without a primary key.",
    why: "Its rows cannot be told apart: logical replication does not take their changes, and batches have nothing to walk along.",
    safe: "PRIMARY KEY.",
    bad: &["CREATE TABLE t (a int)"],
    good: &[
        "CREATE TABLE t (a bigint PRIMARY KEY)",
        "CREATE TABLE t (a bigint); ALTER TABLE t ADD PRIMARY KEY (a)",
    ],
};
pub const UNINDEXED: Own = Own {
    name: "unindexed-foreign-key",
    verdict: "warn",
    what: "A foreign key without an index that begins with its columns.",
    why: "Each DELETE, and each UPDATE of the key, of the referenced table scans the referencing one.",
    safe: "CREATE INDEX CONCURRENTLY on its columns.",
    bad: &["CREATE TABLE t (id bigint PRIMARY KEY, u bigint REFERENCES users)"],
    good: &["CREATE TABLE t (id bigint PRIMARY KEY, u bigint REFERENCES users); CREATE INDEX ON t (u)"],
};
pub const OTHER_TYPE: Own = Own {
    name: "foreign-key-type",
    verdict: "warn",
    what: "A foreign key of another type than the key that it refers to.",
    why: "Each check converts the value, and the narrower type can be used up before the other.",
    safe: "The same type.",
    bad: &[
        "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, a int REFERENCES a (id)); CREATE INDEX ON t (a)",
    ],
    good: &[
        "CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY, a bigint REFERENCES a (id)); CREATE INDEX ON t (a)",
    ],
};
pub const DROPPED_FIRST: Own = Own {
    name: "index-dropped-first",
    verdict: "warn",
    what: "An index is dropped before the one that takes its place is built.",
    why: "In between, and until the new one is valid, queries have neither.",
    safe: "Build the new one first, by another name; then drop the old one.",
    bad: &["DROP INDEX CONCURRENTLY i; CREATE INDEX CONCURRENTLY i ON t (a, b)"],
    good: &["CREATE INDEX CONCURRENTLY j ON t (a, b); DROP INDEX CONCURRENTLY i"],
};

/// What is waited for up to the end of the file.
#[derive(Default)]
pub struct State {
    keyless: Vec<(Name, Found)>,
    foreign: Vec<(Name, Vec<String>, Found)>,
    dropped: Vec<String>,
}

impl State {
    /// After the statement; what is certain by now.
    pub fn ran(&mut self, at: &Spot, known: &Known, facts: &Facts) -> Vec<Found> {
        let mut all = Vec::new();
        match &at.statement.node {
            NodeEnum::CreateStmt(create) => {
                if let Some(name) = create.relation.as_ref().map(Name::of) {
                    if is_keyless(create) && known.tables.find(&name).is_some() {
                        let message = format!("{} has no primary key", name.name);
                        self.keyless
                            .push((name.clone(), told(at, &NO_KEY, message, NO_KEY.safe)));
                    }
                    for (columns, constraint) in of_table(create) {
                        all.extend(self.foreign_key(at, known, facts, (&name, columns, constraint)));
                    }
                }
            }
            NodeEnum::AlterTableStmt(alter) => {
                let Some(name) = alter.relation.as_ref().map(Name::of) else {
                    return all;
                };
                for command in at.statement.actions() {
                    let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
                    let found = match (command.subtype(), definition) {
                        (AlterTableType::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => {
                            foreign(&column.constraints).map(|constraint| (vec![column.colname.clone()], constraint))
                        }
                        (AlterTableType::AtAddConstraint, Some(NodeEnum::Constraint(constraint))) => {
                            let columns = strings(&constraint.fk_attrs);
                            (constraint.pktable.is_some()).then_some((columns, &**constraint))
                        }
                        _ => None,
                    };
                    if let Some((columns, constraint)) = found {
                        all.extend(self.foreign_key(at, known, facts, (&name, columns, constraint)));
                    }
                }
            }
            NodeEnum::DropStmt(drop) if drop.remove_type() == ObjectType::ObjectIndex => {
                self.dropped
                    .extend(Request::of(at.statement).relations.into_iter().map(|name| name.name));
            }
            NodeEnum::IndexStmt(index) => all.extend(self.dropped_first(at, index)),
            _ => {}
        }
        all
    }

    fn foreign_key(
        &mut self,
        at: &Spot,
        known: &Known,
        facts: &Facts,
        (name, columns, constraint): (&Name, Vec<String>, &Constraint),
    ) -> Option<Found> {
        let message = format!(
            "no index begins with the foreign key's columns ({})",
            columns.join(", ")
        );
        let hint = format!("CREATE INDEX CONCURRENTLY ON {} ({});", name.name, columns.join(", "));
        self.foreign
            .push((name.clone(), columns.clone(), told(at, &UNINDEXED, message, &hint)));
        let other = Name::of(constraint.pktable.as_ref()?);
        let relation = |name: &Name| {
            known
                .tables
                .find(name)
                .map(|table| &table.relation)
                .or_else(|| facts.relation(name))
        };
        let (own, other) = (relation(name)?, relation(&other)?);
        let theirs = match strings(&constraint.pk_attrs) {
            named if !named.is_empty() => named,
            _ => primary(other)?,
        };
        for (mine, its) in columns.iter().zip(&theirs) {
            let (mine, its) = (own.column(mine)?, other.column(its)?);
            let (from, to) = (plain(&mine.type_name), plain(&its.type_name));
            if !from.is_empty() && !to.is_empty() && from != to {
                let message = format!(
                    "{} is {from}, and refers to {} of {}, which is {to}",
                    mine.name, its.name, other.name
                );
                return Some(told(at, &OTHER_TYPE, message, OTHER_TYPE.safe));
            }
        }
        None
    }

    fn dropped_first(&self, at: &Spot, index: &IndexStmt) -> Option<Found> {
        let same = self.dropped.iter().find(|name| **name == index.idxname)?;
        let message = format!("{same} was dropped before it is built anew: in between queries have no index");
        Some(told(at, &DROPPED_FIRST, message, DROPPED_FIRST.safe))
    }

    /// What is still so at the end of the file.
    pub fn ended(&mut self, known: &Known) -> Vec<Found> {
        let mut all = Vec::new();
        for (name, found) in self.keyless.drain(..) {
            let has_none = |relation: &Relation| !relation.indexes.iter().any(|index| index.primary);
            if known.tables.find(&name).is_some_and(|table| has_none(&table.relation)) {
                all.push(found);
            }
        }
        for (name, columns, found) in self.foreign.drain(..) {
            // Of an old table that nobody was asked about its indexes are not known.
            let Some(table) = known.tables.find(&name).filter(|table| table.complete) else {
                continue;
            };
            let begins = |index: &crate::plan::catalog::Index| {
                let first: Vec<&String> = index.columns.iter().take(columns.len()).flatten().collect();
                !index.partial && first.len() == columns.len() && columns.iter().all(|column| first.contains(&column))
            };
            if !table.relation.indexes.iter().any(begins) {
                all.push(found);
            }
        }
        self.dropped.clear();
        all.sort_by_key(|found| found.span.start);
        all
    }
}

fn is_keyless(create: &CreateStmt) -> bool {
    let temporary = create
        .relation
        .as_ref()
        .is_some_and(|relation| relation.relpersistence == "t");
    let like = |element: &Node| matches!(element.node, Some(NodeEnum::TableLikeClause(_)));
    !temporary
        && create.partbound.is_none()
        && create.inh_relations.is_empty()
        && create.of_typename.is_none()
        && !create.table_elts.iter().any(like)
}

fn foreign(constraints: &[Node]) -> Option<&Constraint> {
    constraints.iter().find_map(|node| match &node.node {
        Some(NodeEnum::Constraint(constraint)) if constraint.pktable.is_some() => Some(&**constraint),
        _ => None,
    })
}

fn of_table(create: &CreateStmt) -> Vec<(Vec<String>, &Constraint)> {
    let mut all = Vec::new();
    for element in &create.table_elts {
        match &element.node {
            Some(NodeEnum::Constraint(constraint)) if constraint.pktable.is_some() => {
                all.push((strings(&constraint.fk_attrs), &**constraint));
            }
            Some(NodeEnum::ColumnDef(column)) => {
                all.extend(foreign(&column.constraints).map(|constraint| (vec![column.colname.clone()], constraint)));
            }
            _ => {}
        }
    }
    all
}

fn strings(nodes: &[Node]) -> Vec<String> {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        _ => None,
    };
    nodes.iter().filter_map(text).collect()
}

fn primary(relation: &Relation) -> Option<Vec<String>> {
    let index = relation.indexes.iter().find(|index| index.primary)?;
    index.columns.iter().cloned().collect()
}

/// The type as it is stored, without its length: a server and the grammar have two names for it.
fn plain(type_name: &str) -> &str {
    let name = type_name.split('(').next().unwrap_or_default().trim();
    match name.strip_prefix("pg_catalog.").unwrap_or(name) {
        "int4" | "serial" | "serial4" => "integer",
        "int8" | "bigserial" | "serial8" => "bigint",
        "int2" | "smallserial" | "serial2" => "smallint",
        "varchar" => "character varying",
        other => other,
    }
}
