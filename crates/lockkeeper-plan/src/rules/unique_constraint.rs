//! ADD CONSTRAINT … UNIQUE or PRIMARY KEY that builds its index.

use super::{Action, Found, Rule, Subject, Table, column, names, partitions, set_not_null, steps};
use crate::catalog::Name;
use crate::lock::LockMode;
use crate::splice::{quote_ident, quote_literal};
use crate::step::Step;
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ConstrType, Constraint, Node};

pub(super) const RULE: Rule = Rule {
    name: "unique-constraint",
    lock: LockMode::AccessExclusive,
    what: "ADD UNIQUE or ADD PRIMARY KEY without USING INDEX, or inline in ADD COLUMN, on a table that is not small.",
    why: "The index is built under ACCESS EXCLUSIVE: all reads and writes wait for the build.",
    versions: "13–18",
    safe: "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX, which is instant; for a primary key the columns are made NOT NULL first.",
    bad: &[
        "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email)",
        "ALTER TABLE users ADD UNIQUE (email, org_id)",
        "ALTER TABLE users ADD COLUMN code text UNIQUE",
    ],
    good: &[
        "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX users_u",
        "ALTER TABLE small ADD UNIQUE (a)",
    ],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let asked = subject.altered()?;
    let table = subject.large(&asked)?;
    let steps = if column::has(subject, ConstrType::ConstrUnique) || column::has(subject, ConstrType::ConstrPrimary) {
        column::sequence(subject, &table, &asked)
    } else {
        let (action, constraint) = subject.added_constraint()?;
        let builds = matches!(
            constraint.contype(),
            ConstrType::ConstrUnique | ConstrType::ConstrPrimary
        );
        // ONLY on a partitioned table makes the parent's entry alone, as pg_dump writes it: no partition is looked at.
        let entry_only = table.kind() == 'p' && subject.only();
        // A second primary key is refused at once.
        let second = constraint.contype() == ConstrType::ConstrPrimary
            && table.known.is_some_and(|r| r.constraints.iter().any(|c| c.kind == 'p'))
            && !subject.statement.all_actions().any(AlterTableType::AtDropConstraint);
        if !builds || entry_only || second || subject.name_is_taken(&table, constraint) {
            return None;
        }
        if !constraint.indexname.is_empty() {
            return not_null_first(subject, &table, &asked, &action, constraint);
        }
        let keys = tree::names(&constraint.keys);
        if table
            .known
            .is_some_and(|r| r.kind == 'p' && !partitions::key_fits(subject, r, &keys))
        {
            return None;
        }
        sequence(subject, &table, &asked, &action, constraint)
    };
    let message = format!(
        "the constraint's index is built under ACCESS EXCLUSIVE on {}, which blocks reads and writes",
        table.described()
    );
    let (short, otherwise) = match table.kind() {
        'p' => ("add it to its partitions one by one", partitions::UNIQUE_BY_HAND),
        _ => (
            "build the index concurrently, then ADD CONSTRAINT … USING INDEX",
            "CREATE UNIQUE INDEX CONCURRENTLY name ON table (…); then ALTER TABLE … ADD CONSTRAINT name UNIQUE USING INDEX name;",
        ),
    };
    Some(Found::steps(message, short, steps, otherwise))
}

/// PRIMARY KEY USING INDEX makes its columns NOT NULL by a scan under ACCESS EXCLUSIVE, where they are not.
fn not_null_first(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Option<Found> {
    if constraint.contype() != ConstrType::ConstrPrimary {
        return None;
    }
    let index = table.known?.index(&constraint.indexname)?;
    let nullable: Vec<&String> = index
        .columns
        .iter()
        .flatten()
        .filter(|key| !set_not_null::is_not_null(table, key))
        .collect();
    if nullable.is_empty() {
        return None;
    }
    let mut all: Vec<Step> = nullable
        .iter()
        .flat_map(|key| set_not_null::sequence(subject, table, asked, action.head, key, None))
        .collect();
    let sql = format!("{} {}", action.head, action.text);
    all.push(steps::brief(
        "add constraint using the index",
        sql,
        LockMode::AccessExclusive,
        table,
    ));
    let message = format!(
        "PRIMARY KEY USING INDEX scans {} for null values under ACCESS EXCLUSIVE, which blocks reads and writes",
        table.described()
    );
    Some(Found::steps(message, "make its columns NOT NULL first", Ok(all), ""))
}

pub(super) fn sequence(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    action: &Action,
    constraint: &Constraint,
) -> Result<Vec<Step>, String> {
    if constraint.without_overlaps {
        return Err(
            "WITHOUT OVERLAPS is an exclusion constraint, which PostgreSQL cannot add concurrently".to_string(),
        );
    }
    let primary = constraint.contype() == ConstrType::ConstrPrimary;
    let keys = tree::names(&constraint.keys);
    let including = tree::names(&constraint.including);
    let all: Vec<String> = keys.iter().chain(&including).cloned().collect();
    let name = match constraint.conname.as_str() {
        "" => names::unique(&table.named(asked), &all, primary),
        given => given.to_string(),
    };
    if let Some(parent) = table.known.filter(|r| r.kind == 'p') {
        return partitions::unique(subject, parent, asked, action, constraint, &name);
    }
    let mut steps = Vec::new();
    if primary {
        for key in keys.iter().filter(|key| !set_not_null::is_not_null(table, key)) {
            steps.extend(set_not_null::sequence(subject, table, asked, action.head, key, None));
        }
    }
    steps.extend(by_index(table, action.head, constraint, &name)?);
    Ok(steps)
}

/// The index, and the constraint that takes it over.
pub(super) fn by_index(table: &Table, head: &str, constraint: &Constraint, name: &str) -> Result<Vec<Step>, String> {
    let options = options(&constraint.options).ok_or("these options of the index are not known")?;
    let primary = constraint.contype() == ConstrType::ConstrPrimary;
    let (keys, including) = (tree::names(&constraint.keys), tree::names(&constraint.including));
    let mut sql = format!(
        "{head} ADD CONSTRAINT {} {} USING INDEX {}",
        quote_ident(name),
        if primary { "PRIMARY KEY" } else { "UNIQUE" },
        quote_ident(name)
    );
    if constraint.deferrable {
        sql.push_str(" DEFERRABLE");
    }
    if constraint.initdeferred {
        sql.push_str(" INITIALLY DEFERRED");
    }
    let add = Step {
        rollback: Some(format!(
            "ALTER TABLE {} DROP CONSTRAINT {}",
            table.sql,
            quote_ident(name)
        )),
        ..steps::brief("add constraint using the index", sql, LockMode::AccessExclusive, table)
    };
    Ok(vec![build(table, constraint, name, &keys, &including, &options), add])
}

/// `fillfactor=80, …`, as given.
fn options(given: &[Node]) -> Option<String> {
    let option = |node: &Node| {
        let Some(NodeEnum::DefElem(option)) = &node.node else {
            return None;
        };
        let value = match option.arg.as_ref().map(|arg| arg.node.as_ref()) {
            None => None,
            Some(Some(NodeEnum::Integer(number))) => Some(number.ival.to_string()),
            Some(Some(NodeEnum::String(text))) => Some(text.sval.clone()),
            Some(Some(NodeEnum::Float(number))) => Some(number.fval.clone()),
            Some(Some(NodeEnum::TypeName(word))) => tree::names(&word.names).pop(),
            Some(_) => return None,
        };
        let name = quote_ident(&option.defname);
        Some(value.map_or(name.clone(), |value| format!("{name}={value}")))
    };
    let all: Option<Vec<String>> = given.iter().map(option).collect();
    all.map(|all| all.join(", "))
}

fn build(
    table: &Table,
    constraint: &Constraint,
    name: &str,
    keys: &[String],
    including: &[String],
    options: &str,
) -> Step {
    let tail = |quote: fn(&str) -> String| {
        let list = |columns: &[String]| columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", ");
        let mut tail = format!("({})", list(keys));
        if !including.is_empty() {
            tail.push_str(&format!(" INCLUDE ({})", list(including)));
        }
        if constraint.nulls_not_distinct {
            tail.push_str(" NULLS NOT DISTINCT");
        }
        tail
    };
    let tablespace = match constraint.indexspace.as_str() {
        "" => String::new(),
        space => format!(" TABLESPACE {}", quote_ident(space)),
    };
    let with = if options.is_empty() {
        String::new()
    } else {
        format!(" WITH ({options})")
    };
    let sql = format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {} ON {} {}{with}{tablespace}",
        quote_ident(name),
        table.sql,
        tail(quote_ident)
    );
    // Finished by an earlier run, and not anybody's other index of that name: as pg_get_indexdef prints it.
    let done_when = table.known.map(|relation| {
        let printed = format!(
            "CREATE UNIQUE INDEX {} ON {}.{} USING btree {}",
            steps::as_printed(name),
            steps::as_printed(&relation.schema),
            steps::as_printed(&relation.name),
            tail(steps::as_printed)
        );
        let printed = match options {
            "" => printed,
            some => format!("{printed} WITH ({})", printed_options(some)),
        };
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = {}::pg_catalog.oid AND i.indisvalid \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u')) \
             AND pg_catalog.pg_get_indexdef(i.indexrelid) = {})",
            relation.oid,
            quote_literal(&printed)
        )
    });
    let schema = table
        .known
        .map(|r| format!("{}.", quote_ident(&r.schema)))
        .unwrap_or_default();
    Step {
        done_when,
        cleanup: steps::drop_invalid_index(table, name),
        rollback: Some(format!(
            "DROP INDEX CONCURRENTLY IF EXISTS {schema}{}",
            quote_ident(name)
        )),
        ..steps::concurrent("build unique index concurrently", sql, table)
    }
}

/// As pg_get_indexdef prints them: `fillfactor='80'`.
fn printed_options(options: &str) -> String {
    let printed = |option: &str| match option.split_once('=') {
        Some((name, value)) => format!("{name}='{value}'"),
        None => format!("{option}='true'"),
    };
    options.split(", ").map(printed).collect::<Vec<_>>().join(", ")
}
