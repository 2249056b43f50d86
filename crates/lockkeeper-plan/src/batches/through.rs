//! A view that PostgreSQL itself writes through, seen as the table behind it: its batches still send the client's statement
//! through the view, so that the view's rights, WHERE and CHECK OPTION hold, and walk along the table's key by the view's names.

use super::judge;
use crate::catalog::{Column, Index, Relation, RowSecurity, View};
use crate::facts::Facts;
use std::borrow::Cow;

/// Types whose comparisons are leakproof, so that they come before a security barrier's conditions and can use an index.
const LEAKPROOF: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "oid",
    "boolean",
    "uuid",
    "text",
    "character varying",
    "character",
    "name",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
];

/// A table as it is; a view as a table that has the view's name and columns, and of the table behind it the indexes, triggers
/// and sizes. Err is why an UPDATE or DELETE through the view cannot be split.
pub fn table<'a>(relation: &'a Relation, facts: &'a Facts, verb: &str) -> Result<Cow<'a, Relation>, String> {
    let Some(view) = &relation.view else {
        return Ok(Cow::Borrowed(relation));
    };
    let name = format!("{}.{}", relation.schema, relation.name);
    let refused = |why: String| Err(format!("{name} is a view {why}: name the table behind it"));
    // As in pg_relation_is_updatable.
    let bit = if verb == "UPDATE" { 1 << 2 } else { 1 << 4 };
    let fires = |update: bool, delete: bool| if verb == "UPDATE" { update } else { delete };
    if let Some(trigger) = relation.triggers.iter().find(|t| fires(t.on_update, t.on_delete)) {
        return refused(format!("with a trigger of its own ({})", trigger.name));
    } else if let Some(rule) = relation.rules.iter().find(|r| fires(r.on_update, r.on_delete)) {
        return refused(format!("with a rule of its own ({}, CREATE RULE)", rule.name));
    } else if view.writes & bit == 0 {
        return refused(
            "that PostgreSQL does not write through by itself (or somebody has locked it right now)".into(),
        );
    } else if view.subselect {
        return refused("with a sub-select, which each batch would read anew".into());
    } else if let Some(function) = &view.unsteady {
        return refused(format!(
            "that calls {function}(), which may give another answer for each batch"
        ));
    }
    let Some(base) = facts.relations.iter().find(|other| Some(other.oid) == view.base) else {
        return refused("of several relations".into());
    };
    let base = table(base, facts, verb)?;
    judge::table(&base, verb)?;
    let shown = |column: &str| view.columns.iter().filter(|(_, of)| of == column).count();
    if let Some((_, twice)) = view.columns.iter().find(|(_, of)| shown(of) > 1) {
        return refused(format!("that shows the column {twice} twice"));
    }
    let made = seen_as(relation, view, &base);
    match made.walking_key() {
        None if base.walking_key().is_some() => refused(format!(
            "that does not show a key of {}.{} in plain columns",
            base.schema, base.name
        )),
        Some(key) if view.barrier => match key.iter().find(|(_, of)| !is_leakproof(of)) {
            Some((_, of)) => refused(format!(
                "with security_barrier, behind which a key of type {of} would be compared row by row"
            )),
            None => Ok(Cow::Owned(made)),
        },
        _ => Ok(Cow::Owned(made)),
    }
}

fn is_leakproof(type_name: &str) -> bool {
    let end = type_name.find('(').unwrap_or(type_name.len());
    LEAKPROOF.contains(&&type_name[..end])
}

fn seen_as(relation: &Relation, view: &View, base: &Relation) -> Relation {
    let here = |there: &str| {
        let pair = view.columns.iter().find(|(_, of)| of == there);
        pair.map(|(name, _)| name.clone())
    };
    let column = |own: &Column| {
        let there = view.columns.iter().find(|(name, _)| *name == own.name);
        match there.and_then(|(_, of)| base.column(of)) {
            Some(of) => Column {
                name: own.name.clone(),
                default: own.default.clone().or_else(|| of.default.clone()),
                ..of.clone()
            },
            // Computed from others, as a virtual column is.
            None => Column {
                generated: "v".into(),
                not_null: false,
                ..own.clone()
            },
        }
    };
    let index = |index: &Index| Index {
        columns: index.columns.iter().map(|column| here(column.as_deref()?)).collect(),
        ..index.clone()
    };
    let leaf_key = |key: &Vec<String>| key.iter().map(|column| here(column)).collect::<Option<Vec<_>>>();
    Relation {
        asked: relation.asked.clone(),
        oid: relation.oid,
        schema: relation.schema.clone(),
        name: relation.name.clone(),
        tree: base.tree.iter().copied().chain([relation.oid]).collect(),
        columns: relation.columns.iter().map(column).collect(),
        indexes: base.indexes.iter().map(index).collect(),
        leaf_keys: base.leaf_keys.iter().filter_map(leaf_key).collect(),
        // The policies of the view's owner decide, or of who asks.
        row_security: (view.opaque || base.row_security.is_some()).then(|| RowSecurity {
            settings: Default::default(),
            opaque: true,
        }),
        view: None,
        ..base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Batches;
    use super::super::tests::{facts, statement, table as base_table};
    use super::*;
    use crate::catalog::{Name, Trigger};

    /// `seen (number, label, n, more)` over `t (id, name, n, …)`; `more` is computed.
    fn view() -> Relation {
        let column = |name: &str| Column {
            name: name.into(),
            type_name: "text".into(),
            ..Column::default()
        };
        let pair = |here: &str, there: &str| (here.to_string(), there.to_string());
        Relation {
            asked: Name {
                schema: None,
                name: "seen".into(),
            },
            oid: 99,
            schema: "public".into(),
            name: "seen".into(),
            kind: 'v',
            tree: vec![99],
            columns: ["number", "label", "n", "more"].map(column).to_vec(),
            view: Some(View {
                base: Some(2),
                writes: 28,
                columns: vec![pair("number", "id"), pair("label", "name"), pair("n", "n")],
                ..View::default()
            }),
            ..Relation::default()
        }
    }

    fn made(sql: &str, view: Relation, base: Relation) -> Result<Batches, String> {
        let mut facts = facts(&base);
        facts.relations.push(view.clone());
        Batches::new(&statement(sql), &view, &facts)
    }

    #[test]
    fn batches_go_through_the_view() {
        let batches = made("UPDATE seen SET label = 'x' WHERE n > 3", view(), base_table(&["id"])).unwrap();
        assert_eq!((batches.relation.as_str(), batches.relation_oid), ("public.seen", 99));
        assert_eq!(
            batches.end_sql(Some(&vec!["12".into()]), &vec!["900".into()], 500),
            "SELECT seen.number::pg_catalog.text FROM seen\n WHERE (seen.number) OPERATOR(pg_catalog.>) ('12'::bigint) AND (seen.number) \
             OPERATOR(pg_catalog.<=) ('900'::bigint) ORDER BY seen.number OFFSET 499 LIMIT 1"
        );
        assert!(batches.repeatable.is_ok());
        let repeatable = |sql: &str| made(sql, view(), base_table(&["id"])).unwrap().repeatable.is_ok();
        assert!(!repeatable("UPDATE seen SET n = n + 1"));
        // `more` may be made from n.
        assert!(!repeatable("UPDATE seen SET n = more::int"));
        assert!(repeatable("UPDATE seen SET n = 5 WHERE more = 'x'"));
    }

    #[test]
    fn views_that_are_refused() {
        let check = |change: fn(&mut Relation, &mut View), sql: &str, expect: &str| {
            let mut relation = view();
            let mut inner = relation.view.take().unwrap();
            change(&mut relation, &mut inner);
            relation.view = Some(inner);
            let error = made(sql, relation, base_table(&["id"])).map(|_| ()).unwrap_err();
            assert!(error.contains(expect), "{sql}: {error}");
        };
        let update = "UPDATE seen SET n = 1";
        check(|_, _| (), "UPDATE seen SET number = 1", "it changes number");
        check(
            |_, _| (),
            "UPDATE seen SET n = (SELECT max(n) FROM t)",
            "reads seen itself (as t)",
        );
        check(|_, v| v.writes = 16, update, "does not write through");
        check(|_, v| v.writes = 4, "DELETE FROM seen", "does not write through");
        check(|_, v| v.subselect = true, update, "sub-select");
        check(|_, v| v.unsteady = Some("random".into()), update, "random()");
        check(|_, v| v.base = None, update, "several relations");
        check(
            |_, v| v.columns.push(("more".into(), "id".into())),
            update,
            "shows the column id twice",
        );
        check(
            |_, v| drop(v.columns.remove(0)),
            update,
            "does not show a key of public.t",
        );
        let instead = |r: &mut Relation, _: &mut View| {
            r.triggers.push(Trigger {
                name: "tr".into(),
                for_each_row: true,
                transition: false,
                before: false,
                disabled: false,
                on_replica: false,
                of_columns: false,
                on_update: true,
                on_delete: false,
                comment: None,
            })
        };
        check(instead, update, "trigger of its own (tr)");
        check(
            |_, v| v.opaque = true,
            "UPDATE seen SET n = n + 1",
            "row-level security",
        );
        let mut barrier = view();
        barrier.view.as_mut().unwrap().barrier = true;
        assert!(made(update, barrier.clone(), base_table(&["id"])).is_ok());
        let mut numeric = base_table(&["id"]);
        numeric.columns[0].type_name = "numeric(10,2)".into();
        assert!(
            made(update, barrier, numeric)
                .map(|_| ())
                .unwrap_err()
                .contains("security_barrier")
        );
    }
}
