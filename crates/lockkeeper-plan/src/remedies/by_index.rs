//! A unique constraint's index is built concurrently, and the constraint takes it over.

use crate::lock::LockMode;
use crate::remedies::steps;
use crate::splice::{quote_ident, quote_literal};
use crate::step::Step;
use crate::subject::Table;
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::{ConstrType, Constraint, Node};

/// The index, and the constraint that takes it over.
pub(crate) fn by_index(table: &Table, head: &str, constraint: &Constraint, name: &str) -> Result<Vec<Step>, String> {
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
pub(crate) fn options(given: &[Node]) -> Option<String> {
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

pub(crate) fn build(
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
pub(crate) fn printed_options(options: &str) -> String {
    let printed = |option: &str| match option.split_once('=') {
        Some((name, value)) => format!("{name}='{value}'"),
        None => format!("{option}='true'"),
    };
    options.split(", ").map(printed).collect::<Vec<_>>().join(", ")
}
