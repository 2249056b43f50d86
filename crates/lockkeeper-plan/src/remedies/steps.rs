//! The steps that remedies are made of, and the catalog queries that tell how far an earlier run of them came.
//!
//! What is unfinished carries a comment in the catalog, written in the same transaction, with a hash of the action's text: so
//! the same statement sent again continues, and anybody else's object of that name gets the server's own error.

use crate::facts::Facts;
use crate::grammar::parse;
use crate::lock::LockMode;
use crate::path::PRINTED;
use crate::splice::{quote_ident, quote_literal};
use crate::step::{Cleanup, Mode, Step};
use crate::subject::Table;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, ColumnDef};

pub(crate) fn brief(label: &str, sql: String, lock: LockMode, table: &Table) -> Step {
    step(label, sql, Mode::Brief { then: Vec::new() }, lock, table)
}

/// By its full name, which what runs later may not find otherwise.
pub(crate) fn table_of(relation: &crate::catalog::Relation) -> Table<'_> {
    Table {
        known: Some(relation),
        sql: crate::splice::qualified(&relation.schema, &relation.name),
        small: false,
    }
}

/// A statement that names every table with its schema, and holds no text of the client's but what the server has printed of it. The server
/// prints with a search_path of `pg_catalog, pg_temp`, and names no schema that it leaves out then: so it is read with the same.
pub(crate) fn printed(sql: String) -> String {
    format!("{PRINTED}{sql}")
}

/// With further statements in the same transaction.
pub(crate) fn brief_then(label: &str, sql: String, then: Vec<String>, lock: LockMode, table: &Table) -> Step {
    step(label, sql, Mode::Brief { then }, lock, table)
}

/// The step with the rights of the table's owner, whose code it would run: PostgreSQL's own form of the statement does it so too.
pub(crate) fn as_owner(step: Step, facts: &Facts, owner: &str) -> Step {
    if owner == facts.role || owner.is_empty() {
        return step;
    }
    let become_sql = |role: &str| format!("SELECT pg_catalog.set_config('role', {}, true)", quote_literal(role));
    let before = if facts.role == facts.session_role {
        "none"
    } else {
        facts.role.as_str()
    };
    let mut step = step;
    step.guard = Some(become_sql(owner));
    if let Mode::Brief { then } | Mode::Long { then } = &mut step.mode {
        then.push(become_sql(before));
    }
    step
}

pub(crate) fn long(label: &str, sql: String, then: Vec<String>, table: &Table) -> Step {
    step(label, sql, Mode::Long { then }, LockMode::ShareUpdateExclusive, table)
}

pub(crate) fn concurrent(label: &str, sql: String, table: &Table) -> Step {
    step(label, sql, Mode::Concurrent, LockMode::ShareUpdateExclusive, table)
}

pub(crate) fn step(label: &str, sql: String, mode: Mode, lock: LockMode, table: &Table) -> Step {
    Step {
        label: label.to_string(),
        sql,
        mode,
        guard: None,
        lock,
        relation: table.sql.clone(),
        done_when: None,
        cleanup: None,
        null_message: None,
        rollback: None,
        contract: None,
    }
}

/// The comment on what an unfinished statement has made so far.
pub(crate) fn mark(doing: &str, text: &str) -> String {
    marked(doing, &hash(text))
}

pub(crate) fn marked(doing: &str, hash: &str) -> String {
    format!("lockkeeper: {doing} ({hash})")
}

pub(crate) fn hash(text: &str) -> String {
    // FNV-1a: stable between versions of this program, unlike the standard library's hasher.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(crate) fn comment_on_constraint(name: &str, table: &Table, comment: Option<&str>) -> String {
    let text = comment.map_or("NULL".to_string(), quote_literal);
    format!("COMMENT ON CONSTRAINT {} ON {} IS {text}", quote_ident(name), table.sql)
}

pub(crate) fn comment_on_column(column: &str, table: &Table, comment: Option<&str>) -> String {
    let text = comment.map_or("NULL".to_string(), quote_literal);
    format!("COMMENT ON COLUMN {}.{} IS {text}", table.sql, quote_ident(column))
}

/// True if the constraint is there, carries this comment, and `and` holds.
pub(crate) fn constraint_marked(table: &Table, name: &str, mark: &str, and: &str) -> Option<String> {
    let relation = table.known?;
    Some(format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = {}::pg_catalog.oid AND c.conname = {} \
         AND pg_catalog.obj_description(c.oid, 'pg_constraint') = {}{and})",
        relation.oid,
        quote_literal(name),
        quote_literal(mark)
    ))
}

/// As the server prints a name in definitions: without quotes also for an unreserved key word, such as `name`.
pub(crate) fn as_printed(name: &str) -> String {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let plain = first
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let unreserved = pg_query::protobuf::KeywordKind::UnreservedKeyword as i32;
    let kind = pg_query::scan(name)
        .ok()
        .and_then(|scan| scan.tokens.first().map(|t| t.keyword_kind));
    if plain && kind.is_some_and(|kind| kind <= unreserved) {
        return name.to_string();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(crate) fn column_marked(table: &Table, column: &str, mark: &str) -> Option<String> {
    let relation = table.known?;
    Some(format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = {}::pg_catalog.oid AND a.attname = {} \
         AND pg_catalog.col_description(a.attrelid, a.attnum) = {})",
        relation.oid,
        quote_literal(column),
        quote_literal(mark)
    ))
}

/// Removes a half-made constraint of ours once the step has failed for good.
pub(crate) fn drop_half_made(table: &Table, name: &str, mark: &str, told: String) -> Option<Cleanup> {
    Some(Cleanup {
        when: constraint_marked(table, name, mark, "")?,
        sql: format!(
            "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
            table.sql,
            quote_ident(name)
        ),
        brief: true,
        told,
        also: None,
    })
}

/// The INVALID index that a failed or killed build has left. Not while somebody builds it: a build holds SHARE UPDATE EXCLUSIVE
/// on the table from its start to its end, as vacuum does too, which is told apart by having no user.
pub(crate) fn drop_invalid_index(table: &Table, name: &str) -> Option<Cleanup> {
    let relation = table.known?;
    let index = format!("{}.{}", quote_ident(&relation.schema), quote_ident(name));
    Some(Cleanup {
        when: format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = {oid}::pg_catalog.oid AND c.relname = {name} AND NOT i.indisvalid) \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.relation = {oid}::pg_catalog.oid AND l.mode = 'ShareUpdateExclusiveLock' \
             AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
             AND l.granted AND l.pid <> pg_catalog.pg_backend_pid() AND a.usesysid IS NOT NULL)",
            oid = relation.oid,
            name = quote_literal(name)
        ),
        sql: format!("DROP INDEX CONCURRENTLY IF EXISTS {index}"),
        brief: false,
        told: format!(
            "removed the INVALID index {name} that an unfinished build on {} had left",
            table.sql
        ),
        also: None,
    })
}

/// What a person would type to do the same.
pub(crate) fn as_script(steps: &[Step]) -> String {
    let mut script = String::new();
    for statement in steps.iter().flat_map(Step::by_hand) {
        script.push_str(&statement);
        script.push_str(";\n");
    }
    script.trim_end().to_string()
}

/// The one action of an ALTER TABLE.
pub(crate) fn parse_action(sql: &str) -> Option<AlterTableCmd> {
    let mut parsed = parse(sql).ok()?.stmts;
    if parsed.len() != 1 {
        return None;
    }
    match parsed.pop()?.stmt?.node? {
        NodeEnum::AlterTableStmt(mut alter) if alter.cmds.len() == 1 => match alter.cmds.pop()?.node? {
            NodeEnum::AlterTableCmd(command) => Some(*command),
            _ => None,
        },
        _ => None,
    }
}

pub(crate) fn added(command: &AlterTableCmd) -> Option<&ColumnDef> {
    match command.def.as_ref()?.node.as_ref()? {
        NodeEnum::ColumnDef(column) => Some(column),
        _ => None,
    }
}
