//! REFRESH MATERIALIZED VIEW without CONCURRENTLY.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::steps;
use crate::splice;
use crate::step::{Place, Step};
use crate::subject::{Subject, name_of};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "blocking-refresh",
    lock: LockMode::AccessExclusive,
    what: "REFRESH MATERIALIZED VIEW without CONCURRENTLY, unless the view is small.",
    why: "ACCESS EXCLUSIVE is held while the query runs: everybody who reads the view waits.",
    versions: "13–18",
    safe: "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on plain columns without WHERE.",
    bad: &["REFRESH MATERIALIZED VIEW totals", "REFRESH MATERIALIZED VIEW bare"],
    good: &[
        "REFRESH MATERIALIZED VIEW CONCURRENTLY totals",
        "REFRESH MATERIALIZED VIEW totals WITH NO DATA",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::RefreshMatViewStmt(refresh) = &subject.statement.node else {
        return None;
    };
    if refresh.concurrent || refresh.skip_data {
        return None;
    }
    let view = subject.large(&name_of(refresh.relation.as_ref()?))?;
    // Nobody reads a view that was never filled, and CONCURRENTLY refuses it.
    if view.known.is_some_and(|relation| relation.bytes == 0) {
        return None;
    }
    let usable = view.known.is_some_and(|relation| {
        let plain = |i: &crate::catalog::Index| {
            i.unique && i.valid && i.immediate && !i.partial && i.columns.iter().all(Option::is_some)
        };
        relation.indexes.iter().any(plain)
    });
    let steps = match splice::concurrently(&subject.statement.sql) {
        _ if !usable => {
            Err("CONCURRENTLY needs a unique index on plain columns of the view, and none is known".to_string())
        }
        None => Err("CONCURRENTLY could not be added to this text with certainty".to_string()),
        // It runs in a transaction as well; only outside can the timeouts be lifted for its query.
        Some(sql) if subject.place != Place::Alone => Ok(vec![steps::brief(
            "refresh concurrently",
            sql,
            LockMode::Exclusive,
            &view,
        )]),
        Some(sql) => Ok(vec![Step {
            lock: LockMode::Exclusive,
            ..steps::long("refresh concurrently", sql, Vec::new(), &view)
        }]),
    };
    let message = format!(
        "REFRESH blocks every reader of {} while its query runs",
        view.described()
    );
    let otherwise = format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {i} ON {v} ({c});  -- once; the columns that tell its rows apart\nREFRESH MATERIALIZED VIEW CONCURRENTLY {v};",
        i = splice::quote_ident(&crate::remedies::names::object(&view.bare(), "key", "")),
        c = view
            .known
            .and_then(|r| r.columns.first())
            .map_or("…".to_string(), |c| splice::quote_ident(&c.name)),
        v = view.sql
    );
    Some(Found::steps(
        message,
        "use REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index",
        steps,
        &otherwise,
    ))
}
