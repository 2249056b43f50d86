//! REFRESH MATERIALIZED VIEW … WITH NO DATA.

use super::rule::{Found, Rule};
use super::taken::{self, UNUSED};
use crate::lock::LockMode;
use crate::subject::{Subject, name_of};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "refresh-without-data",
    lock: LockMode::AccessExclusive,
    what: "REFRESH MATERIALIZED VIEW … WITH NO DATA of a view that is filled.",
    why: "Its rows are gone, and every query of it fails (it has not been populated) until it is refreshed as a whole.",
    versions: "13–18",
    safe: "REFRESH MATERIALIZED VIEW CONCURRENTLY; or drop the view once nothing reads it.",
    bad: &["REFRESH MATERIALIZED VIEW totals WITH NO DATA"],
    good: &["REFRESH MATERIALIZED VIEW CONCURRENTLY totals"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::RefreshMatViewStmt(refresh) = &subject.statement.node else {
        return None;
    };
    let view = subject.table(&name_of(refresh.relation.as_ref()?))?;
    if !refresh.skip_data || !matches!(view.kind(), 'm' | 'r') || taken::is_empty(&view) {
        return None;
    }
    Some(Found::advice(
        format!(
            "WITH NO DATA empties {}, and every query of it fails until it is refreshed",
            view.described()
        ),
        "refresh it CONCURRENTLY, or drop it once nothing reads it",
        format!(
            "REFRESH MATERIALIZED VIEW CONCURRENTLY {v};  -- it needs a unique index on plain columns without WHERE\n\
             -- Where its rows are to go: {}",
            subject.let_through("refresh-without-data", UNUSED, subject.whole_text()),
            v = view.sql
        ),
    ))
}
