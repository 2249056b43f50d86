//! DROP VIEW, DROP MATERIALIZED VIEW, and what takes a view with it.

use super::nonconcurrent_drop_index::dropped;
use super::rule::{Found, Rule};
use super::taken::{self, Worst};
use crate::depends::What;
use crate::lock::LockMode;
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

pub(super) const RULE: Rule = Rule {
    name: "drop-view",
    lock: LockMode::AccessExclusive,
    what: "DROP VIEW and DROP MATERIALIZED VIEW of a view that others can see, and what takes one with it by CASCADE.",
    why: "Applications that read it fail until it is made again, with its rights; a materialized view must be filled again, too.",
    versions: "13–18",
    safe: "CREATE OR REPLACE VIEW, which adds columns at the end; or DROP and CREATE in one transaction, with the GRANTs.",
    bad: &["DROP VIEW v", "DROP MATERIALIZED VIEW IF EXISTS totals"],
    good: &[
        "DROP VIEW IF EXISTS nowhere",
        "CREATE OR REPLACE VIEW v AS SELECT 1 AS one",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let names = match &subject.statement.node {
        NodeEnum::DropStmt(drop)
            if matches!(drop.remove_type(), ObjectType::ObjectView | ObjectType::ObjectMatview) =>
        {
            dropped(drop)
        }
        _ => Vec::new(),
    };
    let mut views: Vec<String> = names
        .iter()
        .filter_map(|name| subject.table(name))
        .map(|v| v.sql)
        .collect();
    let going = subject.going(&[What::View, What::MaterializedView]);
    views.extend(going.iter().map(|part| taken::told(part)));
    let message = match views.as_slice() {
        [] if subject.may_take(Worst::View) => {
            format!("{} takes every view with it that depends on it", subject.shown())
        }
        [] => return None,
        views => format!(
            "{} drops {}: what reads it fails until it is made again",
            subject.shown(),
            taken::listed(views, String::clone)
        ),
    };
    Some(Found::advice(
        message,
        "make the view again in the same transaction, with its rights",
        "BEGIN; DROP VIEW …; CREATE VIEW … AS …; GRANT …; COMMIT;  -- in one transaction nobody sees it missing\n\
         -- CREATE OR REPLACE VIEW keeps the view and its rights where columns are only added at the end."
            .to_string(),
    ))
}
