//! ALTER COLUMN … SET EXPRESSION of a stored generated column.

use super::rename_column;
use super::rule::{Found, Rule};
use crate::lock::LockMode;
use crate::remedies::rewrite_table;
use crate::splice::quote_ident;
use crate::subject::Subject;
use pg_query::protobuf::AlterTableType;

pub(super) const RULE: Rule = Rule {
    name: "set-expression",
    lock: LockMode::AccessExclusive,
    what: "ALTER COLUMN … SET EXPRESSION of a STORED generated column of a table that is not small.",
    why: "The table and all its indexes are rewritten under ACCESS EXCLUSIVE: all reads and writes wait.",
    versions: "17–18; of a VIRTUAL column (18) it is instant",
    safe: "A plain column with the new values that a trigger keeps up to date, existing rows filled in batches; on 18 a VIRTUAL column. `rewrite` in the policy has the table rewritten by copy and swap.",
    bad: &["ALTER TABLE users ALTER COLUMN doubled SET EXPRESSION AS (age * 3)"],
    good: &["ALTER TABLE small ALTER COLUMN a SET EXPRESSION AS (b * 3)"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let action = subject.action_of(AlterTableType::AtSetExpression)?;
    let table = subject.large(&subject.altered()?)?;
    let name = &action.command.name;
    let known = table.known.and_then(|r| r.column(name));
    // The server says itself that a column is not there or not generated.
    if table.known.is_some() && known.is_none_or(|c| c.generated != "s") {
        return None;
    }
    let new = crate::remedies::names::object(name, "new", "");
    let message = format!(
        "SET EXPRESSION of the stored column {} rewrites {} under ACCESS EXCLUSIVE, which blocks reads and writes",
        quote_ident(name),
        table.described()
    );
    let type_name = known.map_or("…", |c| c.type_name.as_str());
    let mut hint = rename_column::filled_by_trigger(&table, &new, type_name);
    if subject.version() >= 18 {
        hint.push_str("\n-- or, without storage: GENERATED ALWAYS AS (…) VIRTUAL, which is instant");
    }
    Some(rewrite_table::found(
        message,
        "use a new column that a trigger keeps up to date",
        hint,
        rewrite_table::of_action(subject, &table, RULE.name),
    ))
}
