//! ALTER TABLE … NO INHERIT.

use super::rule::{Found, Rule};
use super::taken;
use crate::lock::LockMode;
use crate::subject::{Subject, name_of, sql_name};
use pg_query::NodeEnum;
use pg_query::protobuf::AlterTableType;

pub(super) const RULE: Rule = Rule {
    name: "no-inherit",
    lock: LockMode::AccessExclusive,
    what: "ALTER TABLE … NO INHERIT of a table with rows.",
    why: "Its rows vanish from every query of the parent at once.",
    versions: "13–18",
    safe: "Have the programs that read the parent read both tables first, or a view over both.",
    bad: &["ALTER TABLE users NO INHERIT orgs"],
    good: &["ALTER TABLE users INHERIT orgs"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let action = subject.action_of(AlterTableType::AtDropInherit)?;
    let NodeEnum::RangeVar(parent) = action.command.def.as_ref()?.node.as_ref()? else {
        return None;
    };
    let parent = sql_name(&name_of(parent));
    let table = subject
        .table(&subject.altered()?)
        .filter(|table| !taken::is_empty(table))?;
    Some(Found::advice(
        format!("the rows of {} vanish from every query of {parent}", table.described()),
        "have readers of the parent read both tables first",
        format!(
            "1. Deploy what reads {parent} and {t} each by its name (SELECT … FROM ONLY {parent} UNION ALL SELECT … FROM {t}).\n\
             2. ALTER TABLE {t} NO INHERIT {parent};",
            t = table.sql
        ),
    ))
}
