//! A column becomes NOT NULL by a constraint that is validated without blocking.

use crate::catalog::Name;
use crate::lock::LockMode;
use crate::remedies::{names, steps};
use crate::splice::quote_ident;
use crate::step::{Mode, Step};
use crate::subject::{Subject, Table};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, BoolExprType, ConstrType, Node, NullTestType};

/// The head, the column, and the constraint's name if one is given (18: ADD CONSTRAINT n NOT NULL c).
pub(crate) fn wanted<'a>(subject: &Subject<'a>) -> Option<(&'a str, String, Option<String>)> {
    if let Some(action) = subject.action_of(AlterTableType::AtSetNotNull) {
        return Some((action.head, action.command.name.clone(), None));
    }
    let (action, constraint) = subject.added_constraint()?;
    if constraint.contype() != ConstrType::ConstrNotnull || constraint.skip_validation || subject.version() < 18 {
        return None;
    }
    let column = crate::tree::names(&constraint.keys).into_iter().next()?;
    Some((
        action.head,
        column,
        Some(constraint.conname.clone()).filter(|name| !name.is_empty()),
    ))
}

/// The steps; every one of them is skipped where an earlier run has done it.
pub(crate) fn sequence(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    head: &str,
    column: &str,
    name: Option<&str>,
) -> Vec<Step> {
    // Of a parent ONLY, the server means the parent's rows and takes no constraint that its children would have to have.
    let has_children = || table.known.is_some_and(|r| !subject.facts.children(r).is_empty());
    let inherits = match subject.only() && has_children() {
        true => " NO INHERIT",
        false => "",
    };
    if subject.version() >= 18 {
        with_not_null_constraint(table, asked, head, column, name, inherits)
    } else {
        with_check(table, head, column, inherits)
    }
}

/// 13–17. The helper constraint has a reserved name, and goes in the transaction that makes it superfluous.
pub(crate) fn with_check(table: &Table, head: &str, column: &str, inherits: &str) -> Vec<Step> {
    let helper = names::object(&format!("lockkeeper_{}", table.bare()), column, "not_null");
    let (constraint, quoted) = (quote_ident(&helper), quote_ident(column));
    let mark = steps::mark("helps to set NOT NULL", &format!("{}.{column}", table.bare()));
    let told = |what: &str| {
        format!(
            "removed the helper constraint {helper}: {what}. Find the rows with SELECT count(*) FROM {} WHERE {quoted} IS NULL",
            table.sql
        )
    };
    let drop = format!("ALTER TABLE {} DROP CONSTRAINT {constraint}", table.sql);
    vec![
        Step {
            done_when: steps::constraint_marked(table, &helper, &mark, ""),
            rollback: Some(format!(
                "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {constraint}",
                table.sql
            )),
            ..steps::brief_then(
                "add check, not validated",
                format!("{head} ADD CONSTRAINT {constraint} CHECK ({quoted} IS NOT NULL){inherits} NOT VALID"),
                vec![steps::comment_on_constraint(&helper, table, Some(&mark))],
                LockMode::AccessExclusive,
                table,
            )
        },
        Step {
            done_when: steps::constraint_marked(table, &helper, &mark, " AND c.convalidated"),
            cleanup: steps::drop_half_made(
                table,
                &helper,
                &mark,
                told("the column cannot be NOT NULL while it contains null values"),
            ),
            null_message: Some(format!(
                "column \"{column}\" of relation \"{}\" contains null values",
                table.bare()
            )),
            ..steps::long(
                "validate check",
                format!("{head} VALIDATE CONSTRAINT {constraint}"),
                Vec::new(),
                table,
            )
        },
        Step {
            cleanup: steps::drop_half_made(table, &helper, &mark, told("SET NOT NULL did not succeed")),
            rollback: Some(format!("ALTER TABLE {} ALTER COLUMN {quoted} DROP NOT NULL", table.sql)),
            ..steps::brief_then(
                "set not null",
                format!("{head} ALTER COLUMN {quoted} SET NOT NULL"),
                vec![drop],
                LockMode::AccessExclusive,
                table,
            )
        },
    ]
}

/// 18 and later. An unvalidated NOT NULL constraint that is there already is only validated: SET NOT NULL would scan under
/// ACCESS EXCLUSIVE to do the same.
pub(crate) fn with_not_null_constraint(
    table: &Table,
    asked: &Name,
    head: &str,
    column: &str,
    name: Option<&str>,
    inherits: &str,
) -> Vec<Step> {
    let name = match unvalidated(table, column) {
        Some((there, false)) => {
            let sql = format!("{head} VALIDATE CONSTRAINT {}", quote_ident(&there));
            return vec![steps::long("validate not null", sql, Vec::new(), table)];
        }
        Some((ours, true)) => ours,
        None => name.map_or_else(|| names::not_null(&table.named(asked), column), str::to_string),
    };
    let (constraint, quoted) = (quote_ident(&name), quote_ident(column));
    let mark = steps::mark("to be validated", &format!("{}.{column}", table.bare()));
    let told = format!(
        "removed the constraint {name}: the column cannot be NOT NULL while it contains null values. \
         Find the rows with SELECT count(*) FROM {} WHERE {quoted} IS NULL",
        table.sql
    );
    vec![
        Step {
            done_when: steps::constraint_marked(table, &name, &mark, ""),
            rollback: Some(format!("ALTER TABLE {} ALTER COLUMN {quoted} DROP NOT NULL", table.sql)),
            ..steps::brief_then(
                "add not null, not validated",
                format!("{head} ADD CONSTRAINT {constraint} NOT NULL {quoted}{inherits} NOT VALID"),
                vec![steps::comment_on_constraint(&name, table, Some(&mark))],
                LockMode::AccessExclusive,
                table,
            )
        },
        Step {
            cleanup: steps::drop_half_made(table, &name, &mark, told),
            ..steps::step(
                "validate not null",
                format!("{head} VALIDATE CONSTRAINT {constraint}"),
                Mode::Long {
                    then: vec![steps::comment_on_constraint(&name, table, None)],
                },
                LockMode::ShareUpdateExclusive,
                table,
            )
        },
    ]
}

/// Already NOT NULL, with nothing left to validate.
pub(crate) fn is_not_null(table: &Table, column: &str) -> bool {
    let Some(known) = table.known.and_then(|r| r.column(column)) else {
        return false;
    };
    known.not_null && unvalidated(table, column).is_none()
}

/// An unvalidated NOT NULL constraint: its name, and whether an unfinished run of ours made it.
pub(crate) fn unvalidated(table: &Table, column: &str) -> Option<(String, bool)> {
    let of_column = |c: &&crate::catalog::Constraint| c.kind == 'n' && !c.validated && c.columns == [column];
    let constraint = table.known?.constraints.iter().find(of_column)?;
    let ours = constraint
        .comment
        .as_deref()
        .is_some_and(|c| c.starts_with("lockkeeper: "));
    Some((constraint.name.clone(), ours))
}

/// The definition of a CHECK that proves it, as the server prints it.
pub fn proof(column: &str) -> String {
    format!("CHECK (({} IS NOT NULL))", steps::as_printed(column))
}

/// A validated CHECK of which this is a part lets SET NOT NULL skip its scan. Our own helper does not count: it has to go.
pub(crate) fn proven(table: &Table, column: &str, dropped: impl Fn(&str) -> bool) -> bool {
    let ours = |comment: &Option<String>| comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: "));
    table.known.is_some_and(|relation| {
        relation.constraints.iter().any(|c| {
            let counts = c.kind == 'c' && c.validated && !ours(&c.comment) && !dropped(&c.name);
            // With NO INHERIT it says nothing of the children.
            counts && !c.definition.ends_with("NO INHERIT") && says_not_null(&c.definition, column)
        })
    })
}

/// `CHECK ((c IS NOT NULL))`, or with more that is joined by AND.
pub(crate) fn says_not_null(definition: &str, column: &str) -> bool {
    fn any(node: &Node, column: &str) -> bool {
        match &node.node {
            Some(NodeEnum::BoolExpr(all)) if all.boolop() == BoolExprType::AndExpr => {
                all.args.iter().any(|arg| any(arg, column))
            }
            Some(NodeEnum::NullTest(test)) if test.nulltesttype() == NullTestType::IsNotNull => {
                match test.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
                    Some(NodeEnum::ColumnRef(reference)) => crate::tree::names(&reference.fields) == [column],
                    _ => false,
                }
            }
            _ => false,
        }
    }
    let added = super::steps::parse_action(&format!("ALTER TABLE t ADD {definition}"));
    match added.and_then(|command| command.def?.node) {
        Some(NodeEnum::Constraint(constraint)) => {
            constraint.raw_expr.is_some_and(|expression| any(&expression, column))
        }
        _ => false,
    }
}
