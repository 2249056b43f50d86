//! A CHECK constraint or a foreign key is added NOT VALID and validated in a transaction of its own.

use crate::catalog::Name;
use crate::lock::LockMode;
use crate::remedies::{names, steps};
use crate::splice::{self, quote_ident};
use crate::step::Step;
use crate::subject::{Action, Table};
use pg_query::protobuf::Constraint;

/// NOT VALID and NOT ENFORCED constraints are added without a look at the rows.
pub(crate) fn validates(constraint: &Constraint) -> bool {
    !constraint.skip_validation && constraint.is_enforced
}

pub(crate) fn sequence(
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Result<Vec<Step>, String> {
    let name = if constraint.conname.is_empty() {
        names::check(&table.named(asked), constraint)
            .ok_or("the constraint has no name, and PostgreSQL's choice is not known: name it")?
    } else {
        constraint.conname.clone()
    };
    not_valid_then_validate(table, action, constraint, &name, LockMode::AccessExclusive)
}

/// Also for foreign keys.
pub(crate) fn not_valid_then_validate(
    table: &Table,
    action: &Action,
    constraint: &Constraint,
    name: &str,
    lock: LockMode,
) -> Result<Vec<Step>, String> {
    let unproven = "NOT VALID could not be added to this text with certainty";
    let text = format!("{} {}", action.head, action.text);
    let named = if constraint.conname.is_empty() {
        splice::constraint_name(&text, name).ok_or(unproven)?
    } else {
        text
    };
    let sql = splice::not_valid(&named).ok_or(unproven)?;
    let mark = steps::mark("to be validated", &sql);
    let quoted = quote_ident(name);
    let told = format!(
        "removed the constraint {name}, which existing rows of {} violate",
        table.sql
    );
    Ok(vec![
        Step {
            done_when: steps::constraint_marked(table, name, &mark, ""),
            rollback: Some(format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", table.sql)),
            ..steps::brief_then(
                "add constraint, not validated",
                sql,
                vec![steps::comment_on_constraint(name, table, Some(&mark))],
                lock,
                table,
            )
        },
        Step {
            cleanup: steps::drop_half_made(table, name, &mark, told),
            ..steps::long(
                "validate constraint",
                format!("{} VALIDATE CONSTRAINT {quoted}", action.head),
                vec![steps::comment_on_constraint(name, table, None)],
                table,
            )
        },
    ])
}
