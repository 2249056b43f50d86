//! What waits for the client's COMMIT, as the session remembers it.

use crate::plan::deferred::prove::{Check, Index};
use crate::plan::statement::{Kind, Statement};
use crate::plan::waiting::Dropped;
use lockkeeper_wire::messages::Report;
use pg_query::NodeEnum;
use std::collections::HashMap;

#[derive(Default)]
pub struct DeferredWork {
    /// Written, or taken up, by the transaction that is open.
    pub pending: Vec<Pending>,
    /// The session is a migration tool's: what an earlier run has left unfinished is to be done before anything else.
    pub look: bool,
    /// Prepared statements and portals that end a transaction, as far as they were met since there is something pending.
    pub ending_statements: HashMap<Vec<u8>, Vec<u8>>,
    pub ending_portals: HashMap<Vec<u8>, Vec<u8>>,
    /// What the transaction's last statements have dropped, behind a savepoint: the next may replace it.
    pub dropped: Vec<Dropped>,
    /// Tables whose advisory lock the session holds.
    pub tables: Vec<u32>,
    /// What this session itself has written into rows, where the role could not do all that the session can.
    pub own: HashMap<i64, String>,
}

pub struct Pending {
    pub id: i64,
    /// It runs with this role's rights.
    pub role: String,
    pub relation: u32,
    /// Schema and name of the table.
    pub table: (String, String),
    /// The statement, to tell several of the same text apart.
    pub statement: String,
    /// Unique indexes to come: read again at COMMIT if the transaction has written to the table.
    pub checks: Vec<Check>,
    pub uniques: Vec<Index>,
    /// It is an UPDATE or DELETE: the rows of its table are not yet what the transaction has made of them.
    pub write: bool,
    /// It removes this, which the transaction has dropped and which is there still.
    pub replaces: Option<Dropped>,
    /// Indexes and constraints that it makes.
    pub brings: Vec<String>,
}

impl DeferredWork {
    pub fn is_awake(&self) -> bool {
        !self.pending.is_empty() || self.look
    }

    /// Every statement is to be looked at.
    pub fn looks_on(&self) -> bool {
        self.is_awake() || !self.dropped.is_empty()
    }

    /// An UPDATE or DELETE waits.
    pub fn has_write(&self) -> bool {
        self.pending.iter().any(|p| p.write)
    }

    /// An error of the server's that may come from what is not there yet says so.
    pub fn explanation(&self) -> Option<String> {
        let jobs: Vec<String> = self.pending.iter().filter_map(Pending::told).collect();
        (!jobs.is_empty()).then(|| {
            format!(
                "lockkeeper: what this transaction has left for later is there only after COMMIT, which the statement may need: {}.",
                jobs.join("; ")
            )
        })
    }
}

impl Pending {
    /// Of one that brings something.
    pub fn told(&self) -> Option<String> {
        (!self.brings.is_empty()).then(|| format!("{} (job {})", self.brings.join(", "), self.id))
    }
}

/// COMMIT or ROLLBACK of a transaction block, and whether it is one that jobs cannot follow.
pub enum Ending {
    Commit,
    Rollback,
    Chained,
    Prepared,
}

pub fn ending(statement: &Statement) -> Option<Ending> {
    use pg_query::protobuf::TransactionStmtKind as T;
    match (&statement.kind, &statement.node) {
        (Kind::Commit { .. }, NodeEnum::TransactionStmt(t)) if t.kind() == T::TransStmtPrepare => {
            Some(Ending::Prepared)
        }
        (Kind::Commit { chain: true }, _) => Some(Ending::Chained),
        (Kind::Commit { chain: false }, _) => Some(Ending::Commit),
        (Kind::Rollback { chain: false }, _) => Some(Ending::Rollback),
        _ => None,
    }
}

/// What a role has written is not run in the session of somebody who can do more.
pub fn lends(id: i64) -> Report {
    Report::error(
        "42501",
        &format!(
            "lockkeeper: job {id} is of a role with other rights than the one that has logged in here, so that it is not carried out in this session"
        ),
    )
    .detail("lockkeeper: what it would run stands in its row, and RESET ROLE in it would act with the rights of the login.")
    .hint(&format!(
        "Log in as the role whose job it is, and CALL lockkeeper.resume({id}). Or see lockkeeper jobs --dsn … show {id}: an UPDATE or DELETE goes on \
         where it stopped when it is sent again; of a schema change, cancel the job and send its statement again."
    ))
}
