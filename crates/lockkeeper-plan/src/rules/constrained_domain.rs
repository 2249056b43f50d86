//! ADD COLUMN of a domain that has constraints.

use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::{add_column, names, rewrite_table};
use crate::splice::{quote_ident, quote_literal};
use crate::subject::Subject;
use crate::trial::Effect;
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{ConstrType, Node};

pub(super) const RULE: Rule = Rule {
    name: "constrained-domain",
    lock: LockMode::AccessExclusive,
    what: "ADD COLUMN of a domain type with a CHECK or NOT NULL, on a table that is not small.",
    why: "Even without a default the table and all its indexes are rewritten under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "13–18",
    safe: "A column of the base type, with the domain's condition as a CHECK that is NOT VALID at first and then validated. `rewrite` in the policy has the table rewritten by copy and swap.",
    bad: &["ALTER TABLE users ADD COLUMN d positive_int"],
    good: &[
        "ALTER TABLE users ADD COLUMN d plain_domain",
        "ALTER TABLE small ADD COLUMN d positive_int",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let (_, added) = subject.added_column()?;
    let domain = add_column::domain(subject, added)?;
    if !domain.constrained || subject.effect() == Some(Effect::Instant) {
        return None;
    }
    let table = subject.large(&subject.altered()?)?;
    if add_column::skipped(subject, &table) {
        return None;
    }
    let (t, c) = (&table.sql, quote_ident(&added.colname));
    let message = format!(
        "a column of the constrained domain {} rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        crate::subject::sql_name(&domain.asked),
        table.described()
    );
    let mut hint = format!(
        "ALTER TABLE {t} ADD COLUMN {c} {};",
        domain.base.as_deref().unwrap_or("text")
    );
    if let Some(default) = default(&added.constraints) {
        hint = format!("{}{default};", hint.trim_end_matches(';'));
    }
    let check = names::object(&table.bare(), &added.colname, "check");
    for (n, condition) in domain.checks.iter().enumerate() {
        let name = if n == 0 { check.clone() } else { format!("{check}{n}") };
        // VALUE is a key word of domains' conditions; in the server's own text it stands in capitals.
        let condition =
            with_column(condition, &c).unwrap_or_else(|| format!("CHECK (…)  /* as {condition} says of VALUE */"));
        hint.push_str(&format!(
            "\nALTER TABLE {t} ADD CONSTRAINT {name} {condition} NOT VALID;\nALTER TABLE {t} VALIDATE CONSTRAINT {name};",
            name = quote_ident(&name)
        ));
    }
    if domain.not_null {
        hint.push_str(&format!(
            "\nALTER TABLE {t} ALTER COLUMN {c} SET NOT NULL;  -- once no row is without a value"
        ));
    }
    Some(rewrite_table::found(
        message,
        "use the base type and a CHECK constraint",
        hint,
        rewrite_table::of_action(subject, &table, RULE.name),
    ))
}

/// ` DEFAULT …`, if it is a plain constant.
fn default(constraints: &[Node]) -> Option<String> {
    let constant = constraints.iter().find_map(|node| match &node.node {
        Some(NodeEnum::Constraint(c)) if c.contype() == ConstrType::ConstrDefault => c.raw_expr.as_ref()?.node.as_ref(),
        _ => None,
    })?;
    let NodeEnum::AConst(constant) = constant else {
        return None;
    };
    match constant.val.as_ref()? {
        Val::Ival(number) => Some(format!(" DEFAULT {}", number.ival)),
        Val::Sval(text) => Some(format!(" DEFAULT {}", quote_literal(&text.sval))),
        _ => None,
    }
}

/// The domain's condition with the column in the place of VALUE.
fn with_column(condition: &str, column: &str) -> Option<String> {
    let tokens = pg_query::scan(condition).ok()?.tokens;
    let values: Vec<(usize, usize)> = tokens
        .iter()
        .map(|t| (t.start as usize, t.end as usize))
        .filter(|(start, end)| condition.get(*start..*end) == Some("VALUE"))
        .collect();
    let mut text = condition.to_string();
    for (start, end) in values.into_iter().rev() {
        text.replace_range(start..end, column);
    }
    Some(text)
}
