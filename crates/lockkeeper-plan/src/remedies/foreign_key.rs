//! A foreign key is added NOT VALID and validated in a transaction of its own.

use super::check::not_valid_then_validate;
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::remedies::names;
use crate::step::Step;
use crate::subject::{Action, Table};
use crate::tree;
use pg_query::protobuf::Constraint;

pub(crate) fn sequence(
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Result<Vec<Step>, String> {
    let name = name(table, asked, constraint);
    not_valid_then_validate(table, action, constraint, &name, LockMode::ShareRowExclusive)
}

pub(crate) fn name(table: &Table, asked: &Name, constraint: &Constraint) -> String {
    match constraint.conname.as_str() {
        "" => names::foreign_key(&table.named(asked), &tree::names(&constraint.fk_attrs)),
        given => given.to_string(),
    }
}
