//! What has no concurrent form on a partitioned table, done on its partitions one by one: indexes, unique constraints and, before
//! PostgreSQL 18, foreign keys. The parent comes last (or first, as an index of no rows), and only joins what is there.

use crate::catalog::{Index, Name, Relation};
use crate::lock::LockMode;
use crate::remedies::{by_index, check, names, not_null, steps};
use crate::splice::{self, qualified, quote_ident, quote_literal};
use crate::step::Step;
use crate::subject::{Action, Subject, Table};
use crate::{sketch, tree};
use pg_query::NodeEnum;
use pg_query::protobuf::{ConstrType, Constraint, IndexStmt, Node};

/// More would be a plan that nobody can read, and its facts too.
const PARTITIONS_MAX: usize = 10_000;

pub(crate) fn table_of(relation: &Relation) -> Table<'_> {
    Table {
        known: Some(relation),
        sql: qualified(&relation.schema, &relation.name),
        small: false,
    }
}

/// False where the server refuses a unique key, since the partition key is not a part of it.
pub(crate) fn key_fits(subject: &Subject, table: &Relation, keys: &[String]) -> bool {
    let all = std::iter::once(table).chain(subject.facts.descendants(table));
    all.filter(|r| r.kind == 'p').all(|r| {
        let columns = r.partition_key.as_deref().and_then(names::key_columns);
        columns.is_some_and(|columns| columns.iter().all(|c| keys.contains(c)))
    })
}

fn limited(subject: &Subject, table: &Relation) -> Result<(), String> {
    let all = subject.facts.descendants(table);
    within_limit(all.len())?;
    limited_kinds(subject, table)
}

fn limited_kinds(subject: &Subject, table: &Relation) -> Result<(), String> {
    let all = subject.facts.descendants(table);
    match all.iter().find(|r| !matches!(r.kind, 'r' | 'p')) {
        Some(other) => Err(format!("the partition {} is a foreign table", other.name)),
        None => Ok(()),
    }
}

fn within_limit(partitions: usize) -> Result<(), String> {
    match partitions > PARTITIONS_MAX {
        true => Err(format!("{partitions} partitions are too many for one plan")),
        false => Ok(()),
    }
}

/// In parts and by hand, as the server takes it: it knows no CONCURRENTLY for the parent.
pub(crate) const INDEX_BY_HAND: &str = "CREATE INDEX name ON ONLY the partitioned table (…), which builds nothing; CREATE INDEX CONCURRENTLY on \
    each partition, outside a transaction block; then for each of these ALTER INDEX name ATTACH PARTITION its_index. With the last one \
    the index is valid.";
/// Nor USING INDEX.
pub(crate) const UNIQUE_BY_HAND: &str = "ALTER TABLE ONLY the partitioned table ADD CONSTRAINT name …, which builds nothing (for a PRIMARY KEY its \
    columns are made NOT NULL before); for each partition CREATE UNIQUE INDEX CONCURRENTLY its_index ON it (…), outside a transaction \
    block, ALTER TABLE it ADD CONSTRAINT its_index … USING INDEX its_index, and ALTER INDEX name ATTACH PARTITION its_index. With the last one \
    the constraint is valid.";
/// Nor, before 18, NOT VALID.
pub(crate) const FOREIGN_KEY_BY_HAND: &str = "ALTER TABLE partition ADD CONSTRAINT name FOREIGN KEY … NOT VALID for each partition, and, in a transaction \
    of its own, ALTER TABLE partition VALIDATE CONSTRAINT name; then this statement again, which takes theirs and looks at no row.";

// --- indexes ----------------------------------------------------------------------------------------------------------

/// The parent's index without its partitions first, marked; then an index of each partition, attached as soon as it is there.
pub(crate) fn index(
    subject: &Subject,
    table: &Relation,
    statement: &IndexStmt,
    name: &str,
) -> Result<Vec<Step>, String> {
    limited(subject, table)?;
    let text = subject.statement.sql.as_str();
    if names_a_table(statement) {
        return Err("an index expression names its table, which each partition calls otherwise".to_string());
    }
    let parent = Parent {
        index: name.to_string(),
        mark: steps::mark("partitions to be indexed", text),
    };
    let mut all = vec![parent.only(text, table)?];
    of_partitions(subject, table, statement, &parent, &mut all)?;
    let index = qualified(&table.schema, name);
    let finish = format!("COMMENT ON INDEX {index} IS NULL");
    all.push(steps::brief(
        "mark the index finished",
        finish,
        LockMode::ShareUpdateExclusive,
        &table_of(table),
    ));
    Ok(all)
}

/// A partitioned index that is being put together.
struct Parent {
    index: String,
    mark: String,
}

impl Parent {
    /// `CREATE INDEX … ON ONLY`: of no rows, and not valid until every partition has its own.
    fn only(&self, text: &str, table: &Relation) -> Result<Step, String> {
        let sql = splice::index_on(text, &self.index, (&table.schema, &table.name), true).ok_or(UNPROVEN)?;
        let index = qualified(&table.schema, &self.index);
        let comment = format!("COMMENT ON INDEX {index} IS {}", quote_literal(&self.mark));
        Ok(Step {
            done_when: Some(format!(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
                 WHERE i.indrelid = {}::pg_catalog.oid AND c.relname = {} AND pg_catalog.obj_description(c.oid, 'pg_class') = {})",
                table.oid,
                quote_literal(&self.index),
                quote_literal(&self.mark)
            )),
            rollback: Some(format!("DROP INDEX IF EXISTS {index}")),
            ..steps::brief_then(
                "create the parent's index, of no partition yet",
                sql,
                vec![comment],
                LockMode::Share,
                &table_of(table),
            )
        })
    }
}

const UNPROVEN: &str = "the statement's text could not be changed with certainty";

fn of_partitions(
    subject: &Subject,
    table: &Relation,
    statement: &IndexStmt,
    parent: &Parent,
    all: &mut Vec<Step>,
) -> Result<(), String> {
    let text = subject.statement.sql.as_str();
    for child in subject.facts.children(table) {
        if child.indexes.iter().any(|i| i.parent.as_ref() == Some(&parent.index)) {
            continue;
        }
        let own = table_of(child);
        // As the server does, an index that is there already is taken.
        let found = fitting(child, statement)?;
        let name = match found {
            Some(index) => index.name.clone(),
            None => names::index(statement, child).ok_or(
                "the name that PostgreSQL would choose for this expression's index on a partition is not known",
            )?,
        };
        let finished = found.is_some_and(|index| index.valid);
        if child.kind == 'p' && !finished {
            let below = Parent {
                index: name.clone(),
                mark: parent.mark.clone(),
            };
            all.push(below.only(text, child)?);
            of_partitions(subject, child, statement, &below, all)?;
        } else if !finished {
            let sql = splice::index_on(text, &name, (&child.schema, &child.name), false).ok_or(UNPROVEN)?;
            all.push(Step {
                cleanup: steps::drop_invalid_index(&own, &name),
                rollback: Some(format!(
                    "DROP INDEX CONCURRENTLY IF EXISTS {}",
                    qualified(&child.schema, &name)
                )),
                ..steps::concurrent("build a partition's index concurrently", sql, &own)
            });
        }
        let index = qualified(&child.schema, &name);
        let sql = format!(
            "ALTER INDEX {} ATTACH PARTITION {index}",
            qualified(&table.schema, &parent.index)
        );
        let unmark = if child.kind == 'p' {
            vec![format!("COMMENT ON INDEX {index} IS NULL")]
        } else {
            Vec::new()
        };
        let attach = steps::brief_then(
            "attach a partition's index",
            sql,
            unmark,
            LockMode::AccessExclusive,
            &own,
        );
        // Both indexes' expressions are compared, and what is constant in them is worked out.
        all.push(match has_code(statement) {
            true if child.owner != table.owner => {
                return Err(format!(
                    "the partition {} is {}'s and its parent {}'s, and the functions of the index would run with the rights of either",
                    child.name, child.owner, table.owner
                ));
            }
            true => steps::as_owner(attach, subject.facts, &table.owner),
            false => attach,
        });
    }
    Ok(())
}

/// Expressions, or a condition.
fn has_code(statement: &IndexStmt) -> bool {
    let expression = |node: &Node| matches!(&node.node, Some(NodeEnum::IndexElem(e)) if e.name.is_empty());
    statement.where_clause.is_some() || statement.index_params.iter().any(expression)
}

/// A whole-table column reference such as `t.a`.
fn names_a_table(statement: &IndexStmt) -> bool {
    let mut any = false;
    let parts = sketch::of(&(&statement.index_params, &statement.where_clause)).unwrap_or_default();
    tree::each(&parts, &mut |kind, fields| {
        any |= kind == "ColumnRef" && fields["fields"].as_array().is_some_and(|f| f.len() > 1);
    });
    any
}

/// An index of the partition that the server would attach instead of building another: CompareIndexInfo of its sources.
pub(crate) fn fitting<'a>(child: &'a Relation, wanted: &IndexStmt) -> Result<Option<&'a Index>, String> {
    let mut doubt = None;
    for index in child.indexes.iter().filter(|i| i.parent.is_none()) {
        let Some(NodeEnum::IndexStmt(there)) = splice::one_statement(&index.definition) else {
            continue;
        };
        match alike(&there, wanted) {
            Alike::Yes if index.valid || child.kind == 'p' => return Ok(Some(index)),
            Alike::Perhaps => doubt = Some(&index.name),
            _ => {}
        }
    }
    match doubt {
        Some(name) => Err(format!(
            "the index {name} of the partition {} may or may not be the same: attach it by hand, or rename the columns' order",
            child.name
        )),
        None => Ok(None),
    }
}

enum Alike {
    Yes,
    No,
    /// The same but for expressions, which the server prints in its own way.
    Perhaps,
}

fn alike(there: &IndexStmt, wanted: &IndexStmt) -> Alike {
    let method = |index: &IndexStmt| match index.access_method.as_str() {
        "" => "btree".to_string(),
        other => other.to_string(),
    };
    let same_kind = there.unique == wanted.unique
        && there.nulls_not_distinct == wanted.nulls_not_distinct
        && method(there) == method(wanted)
        && there.where_clause.is_some() == wanted.where_clause.is_some()
        && there.index_params.len() == wanted.index_params.len()
        && keys(&there.index_including_params) == keys(&wanted.index_including_params);
    if !same_kind || keys(&there.index_params) != keys(&wanted.index_params) {
        return Alike::No;
    }
    let expression = keys(&wanted.index_params).iter().any(|(name, ..)| name.is_empty());
    if expression || wanted.where_clause.is_some() {
        let parts = |index: &IndexStmt| splice::tree_text(&NodeEnum::IndexStmt(Box::new(bare(index))));
        return if parts(there) == parts(wanted) {
            Alike::Yes
        } else {
            Alike::Perhaps
        };
    }
    Alike::Yes
}

/// Only the expressions and the condition.
fn bare(index: &IndexStmt) -> IndexStmt {
    IndexStmt {
        index_params: index.index_params.clone(),
        where_clause: index.where_clause.clone(),
        ..IndexStmt::default()
    }
}

/// The columns with their collations and operator classes; the order within them does not matter to the server.
fn keys(elements: &[Node]) -> Vec<(String, Vec<String>, Vec<String>)> {
    let key = |node: &Node| match &node.node {
        Some(NodeEnum::IndexElem(e)) => Some((e.name.clone(), tree::names(&e.collation), tree::names(&e.opclass))),
        _ => None,
    };
    elements.iter().filter_map(key).collect()
}

// --- unique constraints -----------------------------------------------------------------------------------------------

/// Each partition gets the constraint by way of a concurrent index; the parent's finds them all there.
pub(crate) fn unique(
    subject: &Subject,
    table: &Relation,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
    name: &str,
) -> Result<Vec<Step>, String> {
    limited(subject, table)?;
    let primary = constraint.contype() == ConstrType::ConstrPrimary;
    let keys = tree::names(&constraint.keys);
    let including = tree::names(&constraint.including);
    let all_columns: Vec<String> = keys.iter().chain(&including).cloned().collect();
    let whole = table_of(table);
    let mut all = Vec::new();
    if primary {
        for key in keys.iter().filter(|key| !not_null::is_not_null(&whole, key)) {
            all.extend(not_null::sequence(subject, &whole, asked, action.head, key, None));
        }
    }
    for leaf in subject.facts.descendants(table).into_iter().filter(|r| r.kind == 'r') {
        let kind = if primary { 'p' } else { 'u' };
        let there = leaf.constraints.iter().any(|c| c.kind == kind && c.columns == keys);
        if there {
            continue;
        }
        let own = table_of(leaf);
        let own_name = names::unique(leaf, &all_columns, primary);
        all.extend(by_index::by_index(
            &own,
            &format!("ALTER TABLE {}", own.sql),
            constraint,
            &own_name,
        )?);
    }
    let sql = named(&format!("{} {}", action.head, action.text), constraint, name)?;
    all.push(Step {
        rollback: Some(format!(
            "ALTER TABLE {} DROP CONSTRAINT {}",
            whole.sql,
            quote_ident(name)
        )),
        ..steps::brief(
            "add the parent's constraint over them",
            sql,
            LockMode::AccessExclusive,
            &whole,
        )
    });
    Ok(all)
}

fn named(text: &str, constraint: &Constraint, name: &str) -> Result<String, String> {
    match constraint.conname.as_str() {
        "" => splice::constraint_name(text, name).ok_or(UNPROVEN.to_string()),
        _ => Ok(text.to_string()),
    }
}

/// A foreign key that is there says the same as one that is asked for.
fn same_key(subject: &Subject, there: &crate::catalog::Constraint, wanted: &Constraint) -> bool {
    let parsed = super::steps::parse_action(&format!("ALTER TABLE t ADD {}", there.definition));
    let Some(NodeEnum::Constraint(own)) = parsed.and_then(|command| command.def?.node) else {
        return false;
    };
    let Some(asked) = wanted.pktable.as_ref().map(crate::subject::name_of) else {
        return false;
    };
    let Some(referenced) = subject.facts.relation(&asked) else {
        return false;
    };
    let names = |nodes: &[Node]| tree::names(nodes);
    // Without columns the primary key is meant.
    let primary = || {
        let index = referenced.indexes.iter().find(|i| i.primary);
        index.map_or(Vec::new(), |i| i.columns.iter().flatten().cloned().collect::<Vec<_>>())
    };
    let keys = match names(&wanted.pk_attrs) {
        none if none.is_empty() => primary(),
        given => given,
    };
    there.kind == 'f'
        && there.references.as_ref() == Some(&referenced.qualified())
        && names(&own.fk_attrs) == names(&wanted.fk_attrs)
        && names(&own.pk_attrs) == keys
        && own.fk_matchtype == wanted.fk_matchtype
        && own.fk_upd_action == wanted.fk_upd_action
        && own.fk_del_action == wanted.fk_del_action
        && names(&own.fk_del_set_cols) == names(&wanted.fk_del_set_cols)
        && own.deferrable == wanted.deferrable
        && own.initdeferred == wanted.initdeferred
}

// --- foreign keys, before PostgreSQL 18 ---------------------------------------------------------------------------------

/// NOT VALID and VALIDATE on each partition; the parent's constraint finds them all valid.
pub(crate) fn foreign_key(
    subject: &Subject,
    table: &Relation,
    action: &Action,
    constraint: &Constraint,
    name: &str,
) -> Result<Vec<Step>, String> {
    limited_kinds(subject, table)?;
    let columns = tree::names(&constraint.fk_attrs);
    let mut all = Vec::new();
    let leaves: Vec<&Relation> = subject
        .facts
        .descendants(table)
        .into_iter()
        .filter(|r| r.kind == 'r')
        .collect();
    // Whatever its name, the server takes a partition's own into the parent's.
    let there = |leaf: &&Relation, _: &str| {
        leaf.constraints
            .iter()
            .any(|c| c.validated && c.comment.is_none() && same_key(subject, c, constraint))
    };
    // Those that have it are only taken in.
    within_limit(leaves.iter().filter(|leaf| !there(leaf, name)).count())?;
    // An earlier run that was cut short has given its name away.
    let first = match constraint.conname.as_str() {
        "" => names::object(&table.name, &columns.join("_"), "fkey"),
        given => given.to_string(),
    };
    let name = if leaves.iter().any(|leaf| {
        leaf.constraint(&first)
            .is_some_and(|c| c.kind == 'f' && c.columns == columns)
    }) {
        first
    } else {
        name.to_string()
    };
    let text = named(&format!("{} {}", action.head, action.text), constraint, &name)?;
    let added = text.get(action.head.len()..).ok_or(UNPROVEN)?.trim();
    for leaf in leaves.iter().filter(|leaf| !there(leaf, &name)) {
        let own = table_of(leaf);
        let head = format!("ALTER TABLE {}", own.sql);
        let command = super::steps::parse_action(&format!("{head} {added}")).ok_or(UNPROVEN)?;
        let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|d| d.node.as_ref()) else {
            return Err(UNPROVEN.to_string());
        };
        let action = Action {
            head: &head,
            text: added,
            command: &command,
        };
        all.extend(check::not_valid_then_validate(
            &own,
            &action,
            constraint,
            &name,
            LockMode::ShareRowExclusive,
        )?);
    }
    let whole = table_of(table);
    all.push(Step {
        rollback: Some(format!(
            "ALTER TABLE {} DROP CONSTRAINT {}",
            whole.sql,
            quote_ident(&name)
        )),
        // The referenced table is locked too, and as strongly.
        ..steps::brief(
            "add the parent's constraint over them",
            text,
            LockMode::AccessExclusive,
            &whole,
        )
    });
    Ok(all)
}
