//! CREATE INDEX CONCURRENTLY and its kin inside a transaction block or a pipeline.

use super::rule::{Found, Remedy, Rule};
use crate::lock::LockMode;
use crate::policy::InTransaction;
use crate::step::Place;
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

pub(super) const RULE: Rule = Rule {
    name: "concurrent-in-transaction",
    lock: LockMode::ShareUpdateExclusive,
    what: "CREATE INDEX, DROP INDEX, REINDEX or DETACH PARTITION with CONCURRENTLY inside a transaction block or a pipeline.",
    why: "PostgreSQL refuses it: the concurrent forms commit several transactions of their own.",
    versions: "13–18",
    safe: "Run it alone, outside the transaction that the migration tool opens.",
    bad: &[
        "CREATE INDEX CONCURRENTLY users_email_idx ON users (email)",
        "DROP INDEX CONCURRENTLY users_name_idx",
    ],
    good: &["REFRESH MATERIALIZED VIEW CONCURRENTLY totals"],
    check,
};

/// How the common migration tools are told to open no transaction.
const OUTSIDE: &str = "Run it outside the transaction. Django: atomic = False; Rails: disable_ddl_transaction!; \
    Alembic: with op.get_context().autocommit_block(); Flyway: executeInTransaction=false; Liquibase: runInTransaction=\"false\"; \
    Knex: config = { transaction: false }; goose: -- +goose NO TRANSACTION; psql: no BEGIN, no -1, one statement per -c.";

/// In the words of the tool that the session was recognised as, if it was.
pub(crate) fn outside(facts: &crate::facts::Facts) -> String {
    match facts.tool {
        Some(tool) => format!("Run it outside the transaction. {}.", tool.outside()),
        None => OUTSIDE.to_string(),
    }
}

fn check(subject: &Subject) -> Option<Found> {
    let command = command(subject)?;
    let message = match subject.place {
        Place::Alone => return None,
        Place::Block => format!("{command} cannot run inside a transaction block"),
        Place::Pipeline => format!("{command} cannot be executed within a pipeline"),
    };
    // The plain forms are left for after COMMIT, where the policy says so; so are these.
    let later = (subject.place == Place::Block && subject.policy.in_transaction == InTransaction::Defer)
        .then(|| match &subject.statement.node {
            NodeEnum::IndexStmt(index) => super::nonconcurrent_index::steps(subject, index),
            NodeEnum::DropStmt(drop) => super::nonconcurrent_drop_index::steps(subject, drop),
            _ => None,
        })
        .flatten();
    Some(Found {
        message,
        short: String::new(),
        hint: outside(subject.facts),
        remedy: later.map_or(Remedy::None(None), Remedy::Steps),
        sqlstate: Some("25001"),
    })
}

/// What PostgreSQL calls the statement, if it is one that must run alone.
pub(crate) fn command(subject: &Subject) -> Option<&'static str> {
    match &subject.statement.node {
        NodeEnum::IndexStmt(index) if index.concurrent => Some("CREATE INDEX CONCURRENTLY"),
        NodeEnum::DropStmt(drop) if drop.concurrent && drop.remove_type() == ObjectType::ObjectIndex => {
            Some("DROP INDEX CONCURRENTLY")
        }
        NodeEnum::ReindexStmt(reindex) if super::nonconcurrent_reindex::is_concurrent(reindex) => {
            Some("REINDEX CONCURRENTLY")
        }
        NodeEnum::AlterTableStmt(_) => {
            let detach = subject.statement.detached()?;
            detach.concurrent.then_some("ALTER TABLE ... DETACH CONCURRENTLY")
        }
        _ => None,
    }
}
