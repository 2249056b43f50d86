//! ALTER DOMAIN … ADD CHECK, SET NOT NULL and VALIDATE CONSTRAINT.

use super::rule::{Found, Rule};
use crate::catalog::is_small;
use crate::catalog::{Name, TypeFact};
use crate::lock::LockMode;
use crate::splice::quote_ident;
use crate::subject::{Subject, sql_name};
use pg_query::NodeEnum;
use pg_query::protobuf::AlterDomainStmt;

pub(super) const RULE: Rule = Rule {
    name: "domain-constraint",
    lock: LockMode::Share,
    what: "ALTER DOMAIN … ADD CONSTRAINT, VALIDATE CONSTRAINT and SET NOT NULL, where tables that are not small have columns of the domain.",
    why: "SHARE is held on every table with such a column until all of them are scanned: their writes wait.",
    versions: "13–18",
    safe: "ADD CONSTRAINT … NOT VALID binds new values at once; existing rows are checked by a CHECK constraint of each table, NOT VALID and then validated.",
    bad: &[
        "ALTER DOMAIN plain_domain ADD CONSTRAINT filled CHECK (VALUE <> '')",
        "ALTER DOMAIN plain_domain SET NOT NULL",
    ],
    good: &[
        "ALTER DOMAIN plain_domain ADD CONSTRAINT filled CHECK (VALUE <> '') NOT VALID",
        "ALTER DOMAIN plain_domain DROP NOT NULL",
        "ALTER DOMAIN positive_int SET NOT NULL",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::AlterDomainStmt(alter) = &subject.statement.node else {
        return None;
    };
    let what = scans(alter)?;
    let mut parts = crate::tree::names(&alter.type_name);
    let asked = Name {
        name: parts.pop()?,
        schema: parts.pop(),
    };
    let domain = subject.facts.types.iter().find(|t| t.asked == asked);
    if !subject.facts.offline {
        let small = |domain: &TypeFact| is_small(domain.used_bytes, subject.policy.small_bytes);
        if domain.is_none_or(small) {
            return None;
        }
    }
    let tables = match domain.map(|d| d.used_by.as_slice()).unwrap_or_default() {
        [] => "every table with a column of it".to_string(),
        some => some.join(", "),
    };
    let d = sql_name(&asked);
    let message = format!("{what} scans {tables} and blocks writes to all of them until the last is done");
    let hint = match alter.subtype.as_str() {
        "C" => format!(
            "ALTER DOMAIN {d} ADD CONSTRAINT … CHECK (…) NOT VALID;  -- instant: binds new values\n\
             -- Existing rows: give {tables} a CHECK constraint of its own on the column, NOT VALID, and VALIDATE it, which stops nobody.\n\
             -- Only ALTER DOMAIN … VALIDATE CONSTRAINT in a quiet hour, by an override, makes the domain's own constraint valid."
        ),
        "V" => format!(
            "The constraint {c} already binds new values. Check existing rows of {tables} by a CHECK constraint on the column, NOT VALID and \
             then validated, which stops nobody; validate the domain's own in a quiet hour, by an override.",
            c = quote_ident(&alter.name)
        ),
        _ => format!(
            "A domain has no NOT NULL that is NOT VALID. Make the columns of {tables} NOT NULL instead: ALTER TABLE … ALTER COLUMN … SET NOT NULL, \
             which Lockkeeper carries out without blocking."
        ),
    };
    Some(Found::advice(
        message,
        "add it NOT VALID, and check existing rows by constraints of the tables",
        hint,
    ))
}

/// What the statement is called, if it looks at rows.
fn scans(alter: &AlterDomainStmt) -> Option<&'static str> {
    match alter.subtype.as_str() {
        "C" => match alter.def.as_ref()?.node.as_ref()? {
            NodeEnum::Constraint(constraint) if constraint.skip_validation => None,
            _ => Some("ALTER DOMAIN … ADD CONSTRAINT"),
        },
        "V" => Some("ALTER DOMAIN … VALIDATE CONSTRAINT"),
        "O" => Some("ALTER DOMAIN … SET NOT NULL"),
        _ => None,
    }
}
