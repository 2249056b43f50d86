//! Proofs that a deferred definition can be carried out: it is tried on an empty clone of the table, and the rows are read for
//! what would violate it, so that it fails now, in the server's words, while the client can still roll back.

use super::{New, Trial};
use crate::splice::{in_pg_temp, one_statement, quote_ident, quote_literal};
use crate::step::{Mode, Step};
use crate::subject::Subject;
use pg_query::NodeEnum;
use pg_query::protobuf::{ConstrType, Token};
use serde::Deserialize;

/// One trial for each index that is to be built later. None: what is tried could not be told with certainty.
pub(crate) fn trials(subject: &Subject, later: &[Step]) -> Option<Vec<Trial>> {
    let builds = later.iter().filter(|step| matches!(step.mode, Mode::Concurrent));
    let mut trials = Vec::new();
    for step in builds {
        let Some(NodeEnum::IndexStmt(index)) = one_statement(&step.sql) else {
            continue;
        };
        let whole = &subject.statement.sql;
        let (sql, position) = match (&subject.statement.node, subject.added_constraint()) {
            (NodeEnum::IndexStmt(own), _) if own.concurrent => (in_pg_temp(&not_concurrently(whole)?)?.0, None),
            (NodeEnum::IndexStmt(_), _) => {
                let (sql, from, moved) = in_pg_temp(whole)?;
                (sql, Some((from, moved)))
            }
            (NodeEnum::AlterTableStmt(alter), Some(_)) if alter.cmds.len() == 1 => {
                let (sql, from, moved) = in_pg_temp(whole)?;
                (sql, Some((from, moved)))
            }
            (_, Some((action, _))) => (in_pg_temp(&format!("{} {}", action.head, action.text))?.0, None),
            // A column's own constraint: the index as it is built.
            _ => (in_pg_temp(&step.sql)?.0.replacen(" CONCURRENTLY", "", 1), None),
        };
        trials.push(Trial {
            sql,
            position,
            index: index.idxname,
            primary: subject
                .added_constraint()
                .is_some_and(|(_, constraint)| constraint.contype() == ConstrType::ConstrPrimary),
            done_when: step.done_when.clone(),
        });
    }
    Some(trials)
}

/// The form that runs in a transaction.
fn not_concurrently(text: &str) -> Option<String> {
    let tokens = pg_query::scan(text).ok()?.tokens;
    let word = tokens.iter().find(|t| t.token() == Token::Concurrently)?;
    let (start, end) = (usize::try_from(word.start).ok()?, usize::try_from(word.end).ok()?);
    Some([text.get(..start)?, text.get(end..)?].concat())
}

impl New {
    fn clone_name(&self) -> String {
        format!("pg_temp.{}", quote_ident(&self.table))
    }

    /// The table's columns, without rows, indexes and constraints.
    pub fn make_clone(&self) -> String {
        format!(
            "CREATE TEMPORARY TABLE {} (LIKE {} INCLUDING GENERATED)",
            quote_ident(&self.table),
            self.relation_name()
        )
    }

    /// With the rights of the table's owner, as the server itself runs the functions of an index; until the savepoint is gone back to.
    pub fn as_owner(&self) -> String {
        format!(
            "SELECT pg_catalog.set_config('role', CASE pg_catalog.pg_get_userbyid(c.relowner)::text WHEN current_user::text THEN \
             pg_catalog.current_setting('role') ELSE pg_catalog.pg_get_userbyid(c.relowner)::text END, true), \
             pg_catalog.set_config('row_security', 'off', true) FROM pg_catalog.pg_class c WHERE c.oid = {}::pg_catalog.oid",
            self.relation
        )
    }

    /// After a trial: one json column, null or what of the index that it has made on the clone the rows have to be looked at for.
    pub fn index_on_clone(&self) -> String {
        format!(
            "SELECT pg_catalog.json_build_object('keys', (SELECT pg_catalog.json_agg(pg_catalog.pg_get_indexdef(i.indexrelid, k, true) ORDER BY k) \
             FROM pg_catalog.generate_series(1, i.indnkeyatts) k), 'predicate', pg_catalog.pg_get_expr(i.indpred, i.indrelid), \
             'nulls_not_distinct', coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false), \
             'unique', i.indisunique, \
             'plain', NOT EXISTS (SELECT FROM pg_catalog.pg_opclass o WHERE o.oid = ANY (i.indclass::oid[]) AND NOT o.opcdefault)) \
             FROM pg_catalog.pg_index i WHERE i.indrelid = pg_catalog.to_regclass({})::oid AND (i.indisunique OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)",
            quote_literal(&self.clone_name())
        )
    }

    /// One boolean.
    pub fn has_primary_key(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = {}::oid AND i.indisprimary)",
            self.relation
        )
    }

    /// One boolean: whether a relation of that name is in the way of the index. What an unfinished build of ours has left is not.
    pub fn name_is_taken(&self, index: &str) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relname = {} AND c.relnamespace = (SELECT t.relnamespace FROM \
             pg_catalog.pg_class t WHERE t.oid = {rel}::oid) AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid \
             AND i.indrelid = {rel}::oid AND NOT i.indisvalid))",
            quote_literal(index),
            rel = self.relation
        )
    }

    /// After the steps of now: one json column with the constraints that are still to be validated.
    pub fn definitions(&self) -> String {
        let names: Vec<String> = self.validates.iter().map(|v| quote_literal(&v.name)).collect();
        let columns = |table: &str, keys: &str, quoted: bool| {
            let name = if quoted {
                "pg_catalog.quote_ident(a.attname)"
            } else {
                "a.attname"
            };
            format!(
                "(SELECT pg_catalog.json_agg({name} ORDER BY k.at) FROM pg_catalog.unnest(c.{keys}) WITH ORDINALITY k(n, at) \
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.{table} AND a.attnum = k.n)"
            )
        };
        format!(
            "SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('name', c.conname, 'kind', c.contype, 'no_inherit', \
             c.connoinherit, 'expression', pg_catalog.pg_get_expr(c.conbin, c.conrelid), 'columns', {columns}, 'shown', {shown}, \
             'partitioned', (SELECT t.relkind = 'p' FROM pg_catalog.pg_class t WHERE t.oid = c.conrelid), 'references', \
             (SELECT pg_catalog.json_build_object('table', pg_catalog.format('%I.%I', n.nspname, r.relname), 'name', r.relname, \
             'partitioned', r.relkind = 'p', 'columns', {referenced}, 'full', c.confmatchtype = 'f', 'operators', \
             (SELECT pg_catalog.json_agg(pg_catalog.format('OPERATOR(%I.%s)', m.nspname, o.oprname) ORDER BY k.at) \
             FROM pg_catalog.unnest(c.conpfeqop) WITH ORDINALITY k(oid, at) JOIN pg_catalog.pg_operator o ON o.oid = k.oid \
             JOIN pg_catalog.pg_namespace m ON m.oid = o.oprnamespace)) FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n \
             ON n.oid = r.relnamespace WHERE r.oid = c.confrelid), 'hidden', pg_catalog.row_security_active(c.conrelid) \
             OR CASE WHEN c.confrelid = 0 THEN false ELSE pg_catalog.row_security_active(c.confrelid) END) ORDER BY c.oid), '[]'::json) \
             FROM pg_catalog.pg_constraint c WHERE c.conrelid = {}::oid AND NOT c.convalidated AND c.conname IN ({})",
            self.relation,
            names.join(", "),
            columns = columns("conrelid", "conkey", true),
            shown = columns("conrelid", "conkey", false),
            referenced = columns("confrelid", "confkey", true),
        )
    }
}

/// An index that a trial has made, and that rows may be in the way of: as it is unique, or by an expression that fails for them.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    unique: bool,
    keys: Vec<String>,
    predicate: Option<String>,
    nulls_not_distinct: bool,
    /// Equal is what `GROUP BY` takes for equal.
    plain: bool,
}

/// A constraint that is not validated yet.
#[derive(Clone, Debug, Deserialize)]
pub struct Definition {
    name: String,
    kind: char,
    no_inherit: bool,
    expression: Option<String>,
    columns: Option<Vec<String>>,
    shown: Option<Vec<String>>,
    partitioned: bool,
    references: Option<Referenced>,
    /// Row-level security would hide rows.
    hidden: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Referenced {
    table: String,
    name: String,
    partitioned: bool,
    columns: Vec<String>,
    full: bool,
    operators: Vec<String>,
}

/// A read that finds a row which violates a definition, and what the server says of such a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One row, or none: the key's values where the DETAIL shows them.
    pub sql: String,
    pub sqlstate: &'static str,
    pub message: String,
    /// With `{}` for the values.
    pub detail: Option<String>,
    /// The constraint or index.
    pub name: String,
    /// What makes it run with the rights of the table's owner.
    pub as_owner: Option<String>,
}

impl Index {
    /// Its keys are these columns, in any order.
    pub fn is_on(&self, columns: &[String]) -> bool {
        let mut wanted: Vec<String> = columns.iter().map(|c| quote_ident(c)).collect();
        let mut keys = self.keys.clone();
        wanted.sort_unstable();
        keys.sort_unstable();
        self.unique && wanted == keys
    }

    /// The expressions are worked out for every row, so that one that fails does so now.
    pub fn check(&self, new: &New, index: &str) -> Option<Check> {
        let table = new.relation_name();
        // Whether two are equal is a matter of the operator class.
        if !self.unique || !self.plain {
            let condition = self
                .predicate
                .as_ref()
                .map_or(String::new(), |p| format!(" WHERE ({p})"));
            let counts: Vec<String> = self
                .keys
                .iter()
                .map(|key| format!("pg_catalog.count(({key})) < 0"))
                .collect();
            return Some(Check {
                sql: format!("SELECT '' FROM ONLY {table}{condition} HAVING {}", counts.join(" OR ")),
                sqlstate: "XX000",
                message: "lockkeeper: a count is below zero".to_string(),
                detail: None,
                name: index.to_string(),
                as_owner: Some(new.as_owner()),
            });
        }
        let mut conditions: Vec<String> = self.predicate.iter().map(|p| format!("({p})")).collect();
        if !self.nulls_not_distinct {
            conditions.extend(self.keys.iter().map(|key| format!("({key}) IS NOT NULL")));
        }
        let condition = match conditions.as_slice() {
            [] => String::new(),
            all => format!(" WHERE {}", all.join(" AND ")),
        };
        let keys = self.keys.join(", ");
        let sql = format!(
            "SELECT {} FROM ONLY {table}{condition} GROUP BY {keys} HAVING pg_catalog.count(*) > 1 LIMIT 1",
            values(self.keys.iter().map(String::as_str))
        );
        Some(Check {
            sql,
            sqlstate: "23505",
            message: format!("could not create unique index \"{index}\""),
            detail: Some(format!("Key ({keys})=({{}}) is duplicated.")),
            name: index.to_string(),
            as_owner: Some(new.as_owner()),
        })
    }
}

impl Definition {
    /// None where it cannot be told by a read.
    pub fn check(&self, new: &New) -> Option<Check> {
        if self.hidden {
            return None;
        }
        let table = new.relation_name();
        let check = |sql, sqlstate, message, detail| {
            Some(Check {
                sql,
                sqlstate,
                message,
                detail,
                name: self.name.clone(),
                as_owner: None,
            })
        };
        match (self.kind, &self.expression, &self.references) {
            ('c', Some(expression), _) => {
                let only = if self.no_inherit { "ONLY " } else { "" };
                let helps = new.validates.iter().find(|v| v.name == self.name)?.null_message.clone();
                let sqlstate = if helps.is_some() { "23502" } else { "23514" };
                let message = helps.unwrap_or_else(|| {
                    format!(
                        "check constraint \"{}\" of relation \"{}\" is violated by some row",
                        self.name, new.table
                    )
                });
                let sql = format!("SELECT '' FROM {only}{table} WHERE NOT ({expression}) LIMIT 1");
                check(sql, sqlstate, message, None)
            }
            ('n', ..) => {
                let column = self.columns.as_ref()?.first()?;
                let shown = self.shown.as_ref()?.first()?;
                let message = format!("column \"{shown}\" of relation \"{}\" contains null values", new.table);
                let sql = format!("SELECT '' FROM {table} WHERE {column} IS NULL LIMIT 1");
                check(sql, "23502", message, None)
            }
            ('f', _, Some(referenced)) => {
                let columns = self.columns.as_ref()?;
                let only = |partitioned: bool| if partitioned { "" } else { "ONLY " };
                let join: Vec<String> = columns
                    .iter()
                    .zip(&referenced.columns)
                    .zip(&referenced.operators)
                    .map(|((fk, pk), operator)| format!("pk.{pk} {operator} fk.{fk}"))
                    .collect();
                if join.is_empty() || join.len() != columns.len() {
                    return None;
                }
                let glue = if referenced.full { " OR " } else { " AND " };
                let given: Vec<String> = columns.iter().map(|c| format!("fk.{c} IS NOT NULL")).collect();
                let shown: Vec<String> = columns.iter().map(|c| format!("fk.{c}")).collect();
                let sql = format!(
                    "SELECT {} FROM {}{table} fk LEFT JOIN {}{} pk ON {} WHERE pk.{} IS NULL AND ({}) LIMIT 1",
                    values(shown.iter().map(String::as_str)),
                    only(self.partitioned),
                    only(referenced.partitioned),
                    referenced.table,
                    join.join(" AND "),
                    referenced.columns.first()?,
                    given.join(glue),
                );
                let message = format!(
                    "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
                    new.table, self.name
                );
                let detail = format!(
                    "Key ({})=({{}}) is not present in table \"{}\".",
                    self.shown.as_ref()?.join(", "),
                    referenced.name
                );
                check(sql, "23503", message, Some(detail))
            }
            _ => None,
        }
    }
}

fn values<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<String> = keys.map(|key| format!("coalesce(({key})::text, 'null')")).collect();
    format!("pg_catalog.concat_ws(', ', {})", shown.join(", "))
}
