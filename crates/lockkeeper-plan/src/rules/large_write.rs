//! An UPDATE or DELETE of many rows at once.

use super::rule::{Found, Remedy, Rule};
use crate::batches::{self, Batches};
use crate::catalog::{Name, Relation};
use crate::facts::Told;
use crate::lock::LockMode;
use crate::mixed;
use crate::remedies::steps;
use crate::statement::Kind;
use crate::step::{Mode, Place};
use crate::subject::{Subject, Table, name_of, sql_name};
use pg_query::NodeEnum;

pub(super) const RULE: Rule = Rule {
    name: "large-write",
    lock: LockMode::RowExclusive,
    what: "An UPDATE, DELETE, MERGE, WITH that changes data or INSERT … SELECT … ON CONFLICT DO UPDATE, also in a DO block, EXECUTE, EXPLAIN ANALYZE or COPY (…) TO, of which the planner expects that it touches more rows than the policy's rows_max.",
    why: "Every touched row stays locked to the end of the one long transaction; vacuum and replicas fall behind meanwhile.",
    versions: "13–18",
    safe: "Batches along the primary key, each its own transaction, with a pause between them and the true total at the end. What cannot be split is refused: a part of the rows at a time.",
    bad: &[
        "UPDATE users SET name = 'x' WHERE name IS NULL",
        "DELETE FROM users WHERE age > 5",
        "WITH old AS (DELETE FROM users WHERE age > 5 RETURNING *) SELECT count(*) FROM old",
    ],
    good: &["UPDATE small SET a = 1", "INSERT INTO users (id) VALUES (1)"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    if matches!(subject.statement.kind, Kind::MixedWrite) {
        return mixed(subject);
    }
    if !matches!(subject.statement.kind, Kind::Write) {
        return None;
    }
    let (verb, range) = match &subject.statement.node {
        NodeEnum::UpdateStmt(update) => ("UPDATE", update.relation.as_ref()?),
        NodeEnum::DeleteStmt(delete) => ("DELETE", delete.relation.as_ref()?),
        _ => return None,
    };
    let asked = name_of(range);
    // What an earlier run has begun is not done all at once, however little is left.
    let job = subject.facts.open_job;
    let rows = subject.facts.estimated_rows.unwrap_or_default();
    if rows <= subject.policy.backfill.rows_max as f64 && job.is_none() {
        return cascading(subject, verb, &subject.table(&asked)?);
    }
    if let Some(found) = by_rule(subject, verb, std::slice::from_ref(&asked), rows) {
        return Some(found);
    }
    let table = match job {
        Some(_) => subject.table(&asked)?,
        None => subject.table(&asked).filter(counts)?,
    };
    let relation = table.known?;
    let message = match job {
        Some(id) => format!(
            "job {id} has done a part of this very {verb} of {} and is not finished",
            table.described()
        ),
        None => format!(
            "this {verb} would lock {} rows of {} until its one transaction ends",
            told(subject, rows, relation.rows),
            table.described()
        ),
    };
    let batches = Batches::new(subject.statement, relation, subject.facts);
    let mut hint = match &batches {
        Ok(_) => format!(
            "{} {verb} … LIMIT {} and repeat it, each time in a transaction of its own, until fewer rows than that are affected.",
            match subject.place {
                Place::Alone => "Write",
                _ => "Run it outside a transaction block, and it is done in batches; or write",
            },
            subject.policy.backfill.batch_rows
        ),
        // Neither would do what the other says.
        Err(_) => by_hand(verb, &table, relation, subject),
    };
    if let Some(id) = job {
        hint = format!(
            "Send it outside a transaction block, and it goes on where it stopped (or: lockkeeper jobs --dsn … resume {id}); to begin \
             anew, give the job up first: lockkeeper jobs --dsn … cancel {id}."
        );
    }
    // Inside the client's transaction the rows could not be let go between the batches.
    let in_transaction = subject.place != Place::Alone;
    let remedy = match batches {
        Ok(batches) if batches.returns && rows > subject.policy.backfill.returning_rows_max as f64 => {
            Remedy::None(Some(format!(
                "RETURNING would deliver {} rows, more than returning_rows_max = {} under [backfill] in the policy",
                told(subject, rows, None),
                subject.policy.backfill.returning_rows_max
            )))
        }
        Ok(batches) => {
            let mode = Mode::Batches(Box::new(batches));
            Remedy::Steps(vec![steps::step(
                "change rows in batches",
                subject.statement.sql.clone(),
                mode,
                LockMode::RowExclusive,
                &table,
            )])
        }
        Err(reason) => Remedy::None(Some(reason)),
    };
    Some(Found {
        message,
        short: "run it in batches, each its own transaction".to_string(),
        hint,
        remedy,
        sqlstate: in_transaction.then_some("25001"),
    })
}

/// Few rows of its own, but many of others with them.
fn cascading(subject: &Subject, verb: &str, table: &Table) -> Option<Found> {
    taken_along(subject, &format!("{verb} of {}", table.described()))
}

fn taken_along(subject: &Subject, statement: &str) -> Option<Found> {
    let with_it = subject.facts.cascaded.as_ref()?;
    let rows = match with_it.told {
        Told::Counted => format!("more than {} rows", subject.policy.backfill.rows_max),
        Told::Expected => format!("about {:.0} rows", with_it.rows),
        Told::Feared => format!("up to {:.0} rows, which could not be counted in time,", with_it.rows),
        Told::Unfollowed => String::new(),
    };
    let what = match with_it.told {
        Told::Unfollowed => format!(
            "rows of {} and of tables that refer to these, over more foreign keys one behind the other than are followed, so that nobody \
             knows how many,",
            with_it.of
        ),
        _ => format!("{rows} of other tables or of its own, most of them of {},", with_it.of),
    };
    let index = match with_it.told {
        Told::Feared => " An index that starts with these columns makes them quick to find.",
        _ => "",
    };
    Some(Found {
        message: format!(
            "this {statement} would by foreign keys change or delete {what} and lock them until its one transaction ends"
        ),
        short: "delete or change the rows that refer to it first".to_string(),
        hint: format!(
            "{}, a part at a time or outside a transaction block, where a large write is done in batches; then send this again.{index}",
            with_it.first
        ),
        remedy: Remedy::None(None),
        sqlstate: None,
    })
}

/// The planner may expect more rows of a join than the table has.
fn told(subject: &Subject, rows: f64, of: Option<f64>) -> String {
    match of {
        _ if subject.facts.more_were_counted => format!("more than {}", subject.policy.backfill.rows_max),
        Some(all) if all < rows && all > subject.policy.backfill.rows_max as f64 => format!("up to {all:.0}"),
        _ => format!("about {rows:.0}"),
    }
}

/// Where it cannot be done in batches, whoever sent it may know how to divide it.
fn by_hand(verb: &str, table: &Table, relation: &Relation, subject: &Subject) -> String {
    let backfill = &subject.policy.backfill;
    let rows = backfill.batch_rows;
    let limit = match (relation.walking_key().is_some(), relation.kind) {
        (true, 'r' | 'p') => format!(
            " With a condition that leaves out the rows already done, {verb} … LIMIT {rows} can be repeated, each time in a transaction of \
             its own, until fewer rows than that are affected."
        ),
        (false, 'r') => return without_key(verb, table, relation, subject),
        _ => String::new(),
    };
    format!("If its rows may be changed by several statements, give each a condition that means a part of them.{limit}")
}

/// What is done to a table that has no key, where it cannot be walked by place either.
fn without_key(verb: &str, table: &Table, relation: &Relation, subject: &Subject) -> String {
    let backfill = &subject.policy.backfill;
    let t = &table.sql;
    let mut ways = Vec::new();
    // What it makes of a row depends on whether the row was made before.
    let counts_on = verb == "UPDATE" && !batches::ends_itself(subject.statement, relation);
    if verb == "UPDATE" && !counts_on && batches::has_places(relation, subject.facts, verb) {
        ways.push(
            "With a condition that no changed row meets any more (AND column IS DISTINCT FROM its new value), it is done in batches."
                .to_string(),
        );
    }
    if !counts_on {
        let done = if verb == "UPDATE" {
            ", with a condition that leaves out the rows already done,"
        } else {
            ""
        };
        ways.push(format!(
            "As WHERE ctid IN (SELECT ctid FROM {t} WHERE … LIMIT {}){done} it can be repeated, each time in a transaction of its own, until \
             no row is left.",
            backfill.batch_rows.min(backfill.rows_max)
        ));
    }
    if batches::silence::needed(relation, subject.facts).is_ok()
        && batches::has_places(relation, subject.facts, "UPDATE")
    {
        let is_free = |name: &&str| relation.column(name).is_none();
        let name = ["id", "row_id", "lockkeeper_id"].into_iter().find(is_free);
        let kind = match relation.indexes.iter().any(|index| index.primary) {
            true => "UNIQUE",
            false => "PRIMARY KEY",
        };
        if let Some(name) = name {
            ways.push(format!(
                "With a key it is done in batches: ALTER TABLE {t} ADD COLUMN {name} bigserial {kind} gives it one."
            ));
        }
    }
    if ways.is_empty() {
        ways.push(
            "With a unique index of NOT NULL columns (CREATE UNIQUE INDEX) it is done in batches along that."
                .to_string(),
        );
    }
    ways.join(" ")
}

/// How large it is, is not known of a view or a foreign table.
fn counts(table: &Table) -> bool {
    !table.small || matches!(table.kind(), 'v' | 'f')
}

/// What the server makes of the statement by a rule (CREATE RULE), which may be about any other table.
fn by_rule(subject: &Subject, verb: &str, names: &[Name], rows: f64) -> Option<Found> {
    let mut ruled = names
        .iter()
        .filter_map(|name| Some((name, subject.facts.relation(name).filter(|relation| relation.ruled)?)));
    // It may be one that nobody else sees.
    let (name, relation) = ruled.next()?;
    let table = Table {
        known: Some(relation),
        sql: sql_name(name),
        small: false,
    };
    let rule = match relation.rules.first() {
        Some(rule) => format!("a rule ({}, CREATE RULE)", rule.name),
        None => "a rule of a table behind it (CREATE RULE)".to_string(),
    };
    Some(Found {
        message: format!(
            "this {verb} would, with what {rule} of {} makes of it, change {} rows and lock them until its one transaction ends, \
             and cannot be split into batches",
            table.described(),
            told(subject, rows, None)
        ),
        short: "change those rows first, by statements of their own".to_string(),
        hint: "EXPLAIN of it shows the statements that the rule makes. An UPDATE or DELETE among these, sent by itself outside a transaction block, \
               is done in batches where it can be split; or drop the rule, and let a trigger change the rows that each row needs."
            .to_string(),
        remedy: Remedy::None(None),
        sqlstate: None,
    })
}

/// As a message calls it.
fn verb_of(node: &NodeEnum) -> &'static str {
    match node {
        NodeEnum::MergeStmt(_) => "MERGE",
        NodeEnum::InsertStmt(insert) if insert.with_clause.is_none() => "INSERT … ON CONFLICT DO UPDATE",
        NodeEnum::ExplainStmt(_) => "EXPLAIN ANALYZE",
        NodeEnum::CopyStmt(_) => "COPY of a statement that changes data",
        NodeEnum::CreateTableAsStmt(_) => "CREATE TABLE AS of a query that changes data",
        NodeEnum::PrepareStmt(_) => "EXECUTE",
        _ => "WITH that changes data",
    }
}

/// A MERGE, or a WITH that changes data: there is no way to do a part of it that the server would not see as another statement.
fn mixed(subject: &Subject) -> Option<Found> {
    let rows = subject.facts.estimated_rows.unwrap_or_default();
    let node = &subject.statement.node;
    if rows <= subject.policy.backfill.rows_max as f64 {
        return taken_along(subject, verb_of(node));
    }
    let inserted = mixed::inserted(node);
    let names = mixed::all(node).unwrap_or_default();
    if let Some(found) = by_rule(subject, "statement", &[&names[..], &inserted].concat(), rows) {
        return Some(found);
    }
    let is_plain = matches!(node, NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_)) && mixed::changed(node).is_none();
    let tables = names.iter().filter_map(|name| subject.table(name)).filter(counts);
    let mut tables: Vec<String> = tables.map(|table| table.described()).collect();
    if names.is_empty() && matches!(mixed::innermost(node), NodeEnum::PrepareStmt(_)) {
        // Of what the server has prepared the text could not be read.
        tables.push("tables that it does not name".to_string());
    }
    if tables.is_empty() {
        return None;
    }
    let (what, instead) = match subject.statement.node {
        NodeEnum::MergeStmt(_) => (
            verb_of(node),
            "Give it a part of its source at a time (a range of the key in USING (SELECT … WHERE …)), or write it as UPDATE … FROM, which is done \
             in batches, and INSERT … ON CONFLICT.",
        ),
        // In a way of writing that is not taken apart.
        NodeEnum::UpdateStmt(_) | NodeEnum::DeleteStmt(_) if is_plain => (
            if matches!(node, NodeEnum::UpdateStmt(_)) {
                "UPDATE"
            } else {
                "DELETE"
            },
            match !subject.facts.is_masked && subject.statement.sql.is_ascii() && !subject.statement.sql.contains('\\')
            {
                true => {
                    "Its expressions are nested too deeply to be taken apart: written with fewer levels it is done in batches."
                }
                false => {
                    "With client_encoding = 'UTF8', standard_conforming_strings = on and strings with a backslash written as E'…' it is done in batches."
                }
            },
        ),
        NodeEnum::InsertStmt(_) if names.len() == 1 && mixed::replaces(&subject.statement.node) => (
            "INSERT … ON CONFLICT DO UPDATE",
            "Give it a part of its query at a time (a range of the key in its WHERE).",
        ),
        NodeEnum::ExplainStmt(_)
        | NodeEnum::CopyStmt(_)
        | NodeEnum::CreateTableAsStmt(_)
        | NodeEnum::PrepareStmt(_) => (
            verb_of(node),
            "Send the UPDATE or DELETE in it as a statement of its own, which is done in batches; or let it take a part of the rows at a \
             time (WHERE key IN (SELECT key … LIMIT n)).",
        ),
        _ => (
            verb_of(node),
            "Write the UPDATE or DELETE in it as a statement of its own, which is done in batches; or let it take a part of the rows at a \
             time (WHERE key IN (SELECT key … LIMIT n)).",
        ),
    };
    Some(Found {
        message: format!(
            "this {what} would lock {} rows of {} until its one transaction ends, and cannot be split into batches",
            told(subject, rows, None),
            tables.join(" and ")
        ),
        short: "change a part of the rows at a time, each in a transaction of its own".to_string(),
        hint: format!(
            "{instead} Parts of up to rows_max = {} rows, as the planner expects them, pass. In a table that has just been filled, ANALYZE first.",
            subject.policy.backfill.rows_max
        ),
        remedy: Remedy::None(None),
        sqlstate: None,
    })
}
