//! ALTER TABLE … RENAME COLUMN.

use super::rule::{Found, Rule};
use super::taken;
use crate::depends::Part;
use crate::lock::LockMode;
use crate::remedies::replace_column::expand::Change;
use crate::remedies::{names, replace_column};
use crate::splice::quote_ident;
use crate::subject::{Subject, Table, name_of};
use pg_query::NodeEnum;
use pg_query::protobuf::{DropBehavior, ObjectType};

pub(super) const RULE: Rule = Rule {
    name: "rename-column",
    lock: LockMode::AccessExclusive,
    what: "RENAME COLUMN of a table or view that is in use, however small; ALTER TYPE … RENAME ATTRIBUTE … CASCADE.",
    why: "The rename is instant, but every running application still uses the old name and fails from that moment on.",
    versions: "13–18",
    safe: "Expand and contract: a new column, a trigger that keeps both in step, a backfill, the deployment, and only then the old column's end; `rewrite` in the policy has it done up to the deployment.",
    bad: &[
        "ALTER TABLE users RENAME COLUMN name TO full_name",
        "ALTER TABLE small RENAME a TO b2",
    ],
    good: &["ALTER TABLE users RENAME CONSTRAINT users_pkey TO users_pk"],
    check,
};

fn check(subject: &Subject) -> Option<Found> {
    let NodeEnum::RenameStmt(rename) = &subject.statement.node else {
        return None;
    };
    if rename.rename_type() == ObjectType::ObjectAttribute {
        return of_typed_tables(subject, &rename.subname, rename.behavior() == DropBehavior::DropCascade);
    }
    let relations = [
        ObjectType::ObjectTable,
        ObjectType::ObjectView,
        ObjectType::ObjectMatview,
        ObjectType::ObjectForeignTable,
    ];
    if rename.rename_type() != ObjectType::ObjectColumn || !relations.contains(&rename.relation_type()) {
        return None;
    }
    let table = subject.table(&name_of(rename.relation.as_ref()?))?;
    if table.known.is_some_and(|r| r.column(&rename.subname).is_none()) {
        return None;
    }
    if replace_column::name_is_taken(&table, &rename.subname, &rename.newname) {
        return None;
    }
    let message = format!(
        "renaming column {} of {} breaks every application that still uses the old name",
        rename.subname, table.sql
    );
    let steps = replace_column::sequence(subject, &table, &rename.subname, Change::Rename(&rename.newname));
    Some(replace_column::found(
        RULE.name,
        message,
        "add the new column, keep both in step, deploy, then drop the old one",
        expand_contract(&table, &rename.subname, &rename.newname),
        steps,
    ))
}

/// ALTER TYPE … RENAME ATTRIBUTE … CASCADE: the columns of the tables that are made of the type are renamed.
fn of_typed_tables(subject: &Subject, attribute: &str, cascades: bool) -> Option<Found> {
    let typed: Vec<&Part> = subject.asked().map_or(Vec::new(), |asked| asked.touched().collect());
    let listed = match typed.as_slice() {
        _ if !cascades => return None,
        [] if subject.facts.offline => "every table that is made of the type".to_string(),
        [] => return None,
        typed => taken::listed(typed, |part| taken::told(part)),
    };
    Some(Found::advice(
        format!(
            "renaming the attribute {attribute} renames the column of {listed}, and breaks every application that still uses the old name"
        ),
        "take the tables off the type first, and rename their columns by expand and contract",
        "ALTER TABLE … NOT OF;  -- each table; then its column by expand and contract, as of any other table"
            .to_string(),
    ))
}

fn expand_contract(table: &Table, old: &str, new: &str) -> String {
    let known = table.known.and_then(|r| r.column(old));
    let type_name = known.map_or("<its type>", |c| c.type_name.as_str());
    steps(table, old, new, type_name, None)
}

/// Also for a changed type, whose values may be those of an expression.
pub(super) fn steps(table: &Table, old: &str, new: &str, type_name: &str, using: Option<&str>) -> String {
    let function = quote_ident(&names::object(&table.bare(), &format!("{old}_{new}"), "sync"));
    let body = match using.and_then(|using| replace_column::forwards(table.known?, using, old, new)) {
        Some(body) => body,
        None => both_ways(&quote_ident(old), &quote_ident(new)),
    };
    let (t, old, new) = (&table.sql, quote_ident(old), quote_ident(new));
    let value = using.map_or(old.clone(), |using| format!("({using})"));
    let quote = if body.contains("$$") { "$body$" } else { "$$" };
    format!(
        "1. Expand: ALTER TABLE {t} ADD COLUMN {new} {type_name};\n\
         2. Keep both in step:\n\
         CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {quote}\n{body}\n{quote};\n\
         CREATE TRIGGER {function} BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {function}();\n\
         3. Backfill: UPDATE {t} SET {new} = {value} WHERE {new} IS NULL AND {value} IS NOT NULL;\n\
         4. Give {new} the default, NOT NULL, indexes and constraints of {old}; deploy what reads and writes only {new}.\n\
         5. Contract, once nothing uses {old}: DROP TRIGGER {function} ON {t}; DROP FUNCTION {function}(); \
         /* lockkeeper: allow=drop-column reason=\"nothing uses it any more\" */ ALTER TABLE {t} DROP COLUMN {old};"
    )
}

fn both_ways(old: &str, new: &str) -> String {
    format!(
        "BEGIN\n\
         \x20 IF TG_OP = 'INSERT' THEN\n\
         \x20   IF NEW.{new} IS NULL THEN NEW.{new} := NEW.{old}; ELSIF NEW.{old} IS NULL THEN NEW.{old} := NEW.{new}; END IF;\n\
         \x20 ELSIF NEW.{new} IS DISTINCT FROM OLD.{new} THEN NEW.{old} := NEW.{new};\n\
         \x20 ELSIF NEW.{old} IS DISTINCT FROM OLD.{old} THEN NEW.{new} := NEW.{old}; END IF;\n\
         \x20 RETURN NEW;\nEND"
    )
}

/// A column whose values the server would have computed: by a trigger instead.
pub(super) fn filled_by_trigger(table: &Table, column: &str, type_name: &str) -> String {
    let function = quote_ident(&names::object(&table.bare(), column, "fill"));
    let (t, c) = (&table.sql, quote_ident(column));
    format!(
        "ALTER TABLE {t} ADD COLUMN {c} {type_name};  -- plain, instant\n\
         CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.{c} := (…); RETURN NEW; END $$;  -- the expression\n\
         CREATE TRIGGER {function} BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {function}();\n\
         UPDATE {t} SET {c} = (…) WHERE {c} IS NULL;  -- through Lockkeeper it runs in batches"
    )
}
