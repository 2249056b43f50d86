//! CREATE INDEX without CONCURRENTLY.

use super::rule::{Found, Rule};
use crate::catalog::Relation;
use crate::lock::LockMode;
use crate::outcome::Run;
use crate::remedies::{names, partitions, steps};
use crate::splice;
use crate::step::{Place, Step};
use crate::subject::{Subject, Table, name_of};
use pg_query::NodeEnum;
use pg_query::protobuf::{IndexStmt, Node};

pub(super) const RULE: Rule = Rule {
    name: "nonconcurrent-index",
    lock: LockMode::Share,
    what: "CREATE INDEX without CONCURRENTLY on a table that is not small.",
    why: "SHARE is held for the whole build: every INSERT, UPDATE and DELETE on the table waits until the index is finished.",
    versions: "13–18",
    safe: "CREATE INDEX CONCURRENTLY without lock_timeout, under the name that PostgreSQL itself would have chosen; of a partitioned table, partition by partition. What a failed build leaves is removed.",
    bad: &[
        "CREATE INDEX users_email_idx ON users (email)",
        "CREATE UNIQUE INDEX ON users (lower(email))",
        "CREATE INDEX IF NOT EXISTS users_email_idx ON users (email)",
    ],
    good: &[
        "CREATE INDEX CONCURRENTLY users_email_idx ON users (email)",
        "CREATE INDEX i ON ONLY parted (a)",
        "CREATE INDEX ON small (a)",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::IndexStmt(index) = &subject.statement.node else {
        return None;
    };
    if index.concurrent {
        return None;
    }
    let range = index.relation.as_ref()?;
    let table = subject.large(&name_of(range))?;
    if table.kind() == 'p' && !range.inh {
        return None;
    }
    if index.if_not_exists && exists(subject, index) && !exists_invalid(subject, index) {
        return None;
    }
    let message = format!(
        "CREATE INDEX blocks all writes to {} while it builds",
        table.described()
    );
    let built = match table.known.filter(|r| r.kind == 'p') {
        Some(parent) if index.unique && !partitions::key_fits(subject, parent, &columns(index)) => return None,
        Some(parent) => partitioned(subject, parent, index),
        None => concurrent(subject, &table, index),
    };
    let (short, otherwise) = match table.kind() {
        'p' => ("index its partitions one by one", partitions::INDEX_BY_HAND),
        _ => (
            "use CREATE INDEX CONCURRENTLY, outside a transaction block",
            "CREATE INDEX CONCURRENTLY name ON table (…), outside a transaction block, with an explicit name.",
        ),
    };
    Some(Found::steps(message, short, built, otherwise))
}

/// Of one that says CONCURRENTLY itself. None: it is no table of others, or its text is not to be changed.
pub(super) fn steps(subject: &Subject, index: &IndexStmt) -> Option<Vec<Step>> {
    let table = subject.table(&name_of(index.relation.as_ref()?))?;
    let is_table = table.known.is_some_and(|r| matches!(r.kind, 'r' | 'm'));
    (is_table && !exists(subject, index))
        .then(|| concurrent(subject, &table, index).ok())
        .flatten()
}

fn concurrent(subject: &Subject, table: &Table, index: &IndexStmt) -> Result<Vec<Step>, String> {
    let text = subject.statement.sql.as_str();
    let unproven = || "CONCURRENTLY could not be added to this text with certainty".to_string();
    let name = if index.idxname.is_empty() {
        let asked = index.relation.as_ref().map(name_of).ok_or_else(unproven)?;
        names::index(index, &table.named(&asked))
            .ok_or("the index has no name, and the one that PostgreSQL would choose for this expression is not known")?
    } else {
        index.idxname.clone()
    };
    let mut sql = text.to_string();
    if index.idxname.is_empty() {
        sql = splice::index_name(&sql, &name).ok_or_else(unproven)?;
    }
    if !index.concurrent {
        sql = splice::concurrently(&sql).ok_or_else(unproven)?;
    }
    let schema = table.known.map(|r| r.schema.as_str());
    let qualified = schema.map_or(splice::quote_ident(&name), |s| splice::qualified(s, &name));
    Ok(vec![Step {
        cleanup: steps::drop_invalid_index(table, &name),
        rollback: Some(format!("DROP INDEX CONCURRENTLY IF EXISTS {qualified}")),
        ..steps::concurrent("build index concurrently", sql, table)
    }])
}

/// CREATE INDEX CONCURRENTLY IF NOT EXISTS over an INVALID index: PostgreSQL would keep that index, of no use to any query, and
/// report success.
pub(crate) fn repair(subject: &Subject) -> Option<Run> {
    let NodeEnum::IndexStmt(index) = &subject.statement.node else {
        return None;
    };
    if subject.place != Place::Alone || !index.concurrent || !index.if_not_exists || !exists_invalid(subject, index) {
        return None;
    }
    let table = subject.table(&name_of(index.relation.as_ref()?))?;
    Some(Run {
        rehearsal: None,
        deferral: None,
        findings: Vec::new(),
        notices: Vec::new(),
        steps: concurrent(subject, &table, index).ok()?,
        tag: "CREATE INDEX".to_string(),
        why: vec![format!(
            "the index {} exists but is INVALID: it is built anew",
            index.idxname
        )],
    })
}

fn exists(subject: &Subject, index: &IndexStmt) -> bool {
    let asked = crate::catalog::Name {
        schema: index.relation.as_ref().and_then(|r| name_of(r).schema),
        name: index.idxname.clone(),
    };
    subject.facts.relation(&asked).is_some() || on_table(subject, index).is_some()
}

fn exists_invalid(subject: &Subject, index: &IndexStmt) -> bool {
    on_table(subject, index) == Some(false)
}

/// Whether the index of that name on that table is valid.
fn on_table(subject: &Subject, index: &IndexStmt) -> Option<bool> {
    let relation = subject.facts.relation(&name_of(index.relation.as_ref()?))?;
    relation.index(&index.idxname).map(|i| i.valid)
}

fn partitioned(subject: &Subject, parent: &Relation, index: &IndexStmt) -> Result<Vec<Step>, String> {
    let name = if index.idxname.is_empty() {
        names::index(index, parent)
            .ok_or("the index has no name, and the one that PostgreSQL would choose for this expression is not known")?
    } else {
        index.idxname.clone()
    };
    partitions::index(subject, parent, index, &name)
}

/// The key columns; an expression is none.
fn columns(index: &IndexStmt) -> Vec<String> {
    let column = |node: &Node| match &node.node {
        Some(NodeEnum::IndexElem(element)) => Some(element.name.clone()),
        _ => None,
    };
    index.index_params.iter().filter_map(column).collect()
}
