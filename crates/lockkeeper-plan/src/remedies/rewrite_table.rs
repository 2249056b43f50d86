//! A table rewritten by copy and swap, while applications read and write it: the remedy of what has no concurrent form.
//!
//! Whether all that hangs on the table can follow is asked when it is carried out.

use crate::jobs::Access;
use crate::lock::LockMode;
use crate::remedies::replace_column::LAST;
use crate::rewrite::online::{Online, Order};
use crate::rules::rule::{Found, Remedy};
use crate::splice::qualified;
use crate::step::{Mode, Step};
use crate::subject::{Subject, Table};
use pg_query::protobuf::{AlterTableCmd, AlterTableType};

/// Err: why it cannot be.
pub(crate) fn steps(
    subject: &Subject,
    table: &Table,
    rule: &'static str,
    with: String,
    order: Order,
) -> Result<Vec<Step>, String> {
    let known = table.known;
    if let Some(relation) = known {
        let why = match (relation.kind, relation.persistence) {
            ('p', _) => "is partitioned",
            ('r', 't') => "is temporary",
            ('r', _) if relation.is_partition || !relation.parents.is_empty() => {
                "is a partition, or inherits from a table"
            }
            ('r', _) => "",
            _ => "is no table",
        };
        if !why.is_empty() {
            return Err(format!("{} {why}", table.sql));
        }
    }
    if subject.facts.pooled {
        return Err("behind a connection pooler it would have no session of its own".to_string());
    }
    let access = subject.facts.job_access();
    if let Access::None(why) = &access {
        return Err(format!("it would be a job, and there is no place for it: {why}"));
    }
    let name = known.map_or(table.sql.clone(), |relation| {
        qualified(&relation.schema, &relation.name)
    });
    let keep_old_s = Some(subject.policy.rewrite_keep_old_s).filter(|seconds| *seconds > 0 && is_seen(subject));
    let online = Online {
        relation: known.map_or(0, |relation| relation.oid),
        name: name.clone(),
        with,
        order,
        keep_old_s,
        access,
        instead_of: String::new(),
        rule,
    };
    Ok(vec![Step {
        label: match keep_old_s {
            Some(seconds) => format!("rewrite the table by copy and swap, and keep the old one for {seconds} s"),
            None => "rewrite the table by copy and swap".to_string(),
        },
        sql: subject.statement.sql.clone(),
        mode: Mode::Rewrite(Box::new(online)),
        guard: None,
        lock: LockMode::AccessExclusive,
        relation: name,
        done_when: None,
        cleanup: None,
        null_message: None,
        rollback: None,
        contract: None,
    }])
}

/// Of the action that is judged, as an ALTER TABLE of its own.
pub(crate) fn of_action(subject: &Subject, table: &Table, rule: &'static str) -> Result<Vec<Step>, String> {
    let action = subject
        .action
        .as_ref()
        .ok_or("its text could not be taken apart with certainty")?;
    let with = format!("{} {}", action.head.trim(), action.text.trim());
    // Where not even its text could be carried out, nothing is promised.
    if let Some(relation) = table.known {
        let half_way = relation.triggers.iter().find(|trigger| trigger.name.starts_with(LAST));
        if let Some(trigger) = half_way {
            return Err(format!(
                "another column of it awaits its contract (the trigger {})",
                trigger.name
            ));
        }
        crate::rewrite::alter::alters(&with, &relation.schema, &relation.name)?;
    }
    steps(subject, table, rule, with, Order::Any)
}

/// The same in the place of another remedy, which is told where neither can be.
pub(crate) fn instead_of(what: &str, why: &str, steps: Result<Vec<Step>, String>) -> Result<Vec<Step>, String> {
    let mut steps = steps.map_err(|why_not| format!("{why}; and the table cannot be rewritten online: {why_not}"))?;
    for step in &mut steps {
        if let Mode::Rewrite(online) = &mut step.mode {
            online.instead_of = format!("{what}: {why}.");
        }
    }
    Ok(steps)
}

/// With the rewrite as the remedy, and how to ask for it where the policy refuses.
pub(crate) fn found(message: String, short: &str, advice: String, steps: Result<Vec<Step>, String>) -> Found {
    let (remedy, hint) = match steps {
        Ok(steps) => {
            let hint = format!("{advice}\n{}", asked_for(&steps));
            (Remedy::Steps(steps), hint)
        }
        Err(why) => (
            Remedy::None(Some(format!("Lockkeeper does not rewrite it online: {why}"))),
            advice,
        ),
    };
    Found {
        message,
        short: short.to_string(),
        hint,
        remedy,
        sqlstate: None,
    }
}

fn asked_for(steps: &[Step]) -> String {
    let told = steps.iter().find_map(|step| match &step.mode {
        Mode::Rewrite(online) => Some(format!(
            "Or Lockkeeper rewrites the table while it is in use: {} = \"rewrite\" under [rules] in the policy, or in a shell:\n{}",
            online.rule,
            online.command()
        )),
        _ => None,
    });
    told.unwrap_or_default()
}

/// Applications see what it changes, and may need the way back. Of the others the old table has only what they were sent to get rid of.
fn is_seen(subject: &Subject) -> bool {
    use AlterTableType as A;
    let moves = |action: &AlterTableCmd| {
        matches!(
            action.subtype(),
            A::AtSetTableSpace | A::AtSetAccessMethod | A::AtSetLogged | A::AtSetUnLogged
        )
    };
    subject.statement.actions().any(|action| !moves(action))
}
