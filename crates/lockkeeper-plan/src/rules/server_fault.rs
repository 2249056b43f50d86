//! Indexes built concurrently by a server whose concurrent builds are known to be faulty.

use super::nonconcurrent_reindex;
use super::rule::{Found, Rule};
use crate::facts::Facts;
use crate::faults::{self, Fault};
use crate::lock::LockMode;
use crate::step::{Mode, Step};
use crate::subject::Subject;
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "server-fault",
    lock: LockMode::ShareUpdateExclusive,
    what: "CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY on a server of PostgreSQL 14.0 to 14.3.",
    why: "Rows that are updated while such an index is built may be missing from it, so that queries by the index do not find them.",
    versions: "14.0–14.3; mended in 14.4",
    safe: "Upgrade the server. Until then no statement is turned into one of these either, and plain CREATE INDEX is refused as what has no safe way.",
    bad: &["CREATE INDEX CONCURRENTLY users_email_idx ON users (email)"],
    good: &["DROP INDEX CONCURRENTLY users_name_idx"],
    check,
};

/// The version is known, and is of those.
pub(crate) fn of(facts: &Facts) -> Option<&'static Fault> {
    faults::of_concurrent_builds(facts.server_version).filter(|_| !facts.offline)
}

/// One of them builds an index concurrently.
pub(crate) fn concerns(steps: &[Step]) -> bool {
    let builds = |step: &Step| {
        matches!(step.mode, Mode::Concurrent) && !step.sql.trim_start().to_ascii_uppercase().starts_with("DROP ")
    };
    steps.iter().any(builds)
}

fn check(subject: &Subject) -> Option<Found> {
    let fault = of(subject.facts)?;
    let concerns = match &subject.statement.node {
        NodeEnum::IndexStmt(index) => index.concurrent,
        NodeEnum::ReindexStmt(reindex) => nonconcurrent_reindex::is_concurrent(reindex),
        _ => false,
    };
    concerns.then(|| {
        Found::advice(
            fault.what.to_string(),
            "upgrade the server first",
            fault.remedy.to_string(),
        )
    })
}
