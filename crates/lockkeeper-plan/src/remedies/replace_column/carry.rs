//! What the old column takes part in, built for the new one: indexes and constraints, under names of their own at first.
//!
//! Their definitions are the server's own text with the column's name changed at the scanner's places, proven by parsing it again.

use super::super::check::{not_valid_then_validate, validates};
use super::expand::Expand;
use crate::catalog::{Constraint, Index};
use crate::lock::LockMode;
use crate::remedies::{names, steps};
use crate::splice::{self, one_statement, qualified, quote_ident, quote_literal, significant_tokens};
use crate::step::Step;
use crate::subject::Action;
use pg_query::NodeEnum;
use pg_query::protobuf::Token;
use serde_json::Value;

pub(crate) struct Carried<'a> {
    indexes: Vec<&'a Index>,
    /// CHECK and FOREIGN KEY.
    constraints: Vec<&'a Constraint>,
    /// Of UNIQUE constraints, whose indexes are among the indexes.
    unique: Vec<&'a Constraint>,
    /// PostgreSQL 18: the NOT NULL constraint.
    not_null: Option<&'a Constraint>,
}

impl<'a> Carried<'a> {
    pub(crate) fn of(expand: &Expand<'a>) -> Result<Carried<'a>, String> {
        let (relation, name) = (expand.relation, &expand.column.name);
        let of_kind = |kinds: &'static str| {
            relation
                .constraints
                .iter()
                .filter(move |c| kinds.contains(c.kind) && c.columns.contains(name))
        };
        let carried = Carried {
            indexes: relation.indexes.iter().filter(|i| i.mentions.contains(name)).collect(),
            constraints: of_kind("cf").collect(),
            unique: of_kind("u").collect(),
            not_null: of_kind("n").find(|c| c.columns == [name.clone()]),
        };
        let mut taken: Vec<String> = Vec::new();
        for name in carried.names() {
            let (new, old) = (Expand::with(name, "new"), Expand::with(name, "old"));
            let others_index = relation.index(&new).is_some_and(|i| !i.mentions.contains(&expand.new));
            let is_there = relation.index(&old).is_some() || relation.constraint(&old).is_some();
            // Long names become alike when they are cut.
            if others_index || is_there || taken.contains(&new) {
                return Err(format!(
                    "the name {new} or {old}, which is needed for a while, is taken"
                ));
            }
            taken.push(new);
        }
        Ok(carried)
    }

    fn names(&self) -> impl Iterator<Item = &'a str> {
        let indexes = self.indexes.iter().map(|i| i.name.as_str());
        indexes.chain(self.constraints.iter().map(|c| c.name.as_str()))
    }

    fn constraint_of(&self, index: &Index) -> Option<&'a Constraint> {
        let name = index.constraint.as_deref()?;
        self.unique.iter().find(|c| c.name == name).copied()
    }

    /// The indexes concurrently, the constraints NOT VALID and then validated.
    pub(crate) fn steps(&self, expand: &Expand) -> Result<Vec<Step>, String> {
        let mut all = Vec::new();
        for index in &self.indexes {
            all.push(self.build(expand, index)?);
            if let Some(constraint) = self.constraint_of(index).filter(|_| expand.renames()) {
                all.push(self.unique_beside(expand, index, constraint));
            }
        }
        for constraint in &self.constraints {
            all.extend(constrain(expand, constraint)?);
        }
        Ok(all)
    }

    fn build(&self, expand: &Expand, index: &Index) -> Result<Step, String> {
        let (relation, name) = (expand.relation, Expand::with(&index.name, "new"));
        let sql = splice::index_on(&index.definition, &name, (&relation.schema, &relation.name), false)
            .and_then(|sql| renamed(&sql, &expand.column.name, &expand.new))
            .ok_or_else(|| {
                format!(
                    "the definition of the index {} could not be changed with certainty",
                    index.name
                )
            })?;
        let done = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attname = {column} AND NOT a.attisdropped \
             WHERE i.indrelid = {oid}::pg_catalog.oid AND c.relname = {name} AND i.indisvalid AND (a.attnum = ANY (i.indkey::pg_catalog.int2[]) \
             OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 1259 AND d.objid = i.indexrelid AND d.refclassid = 1259 \
             AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)))",
            column = quote_literal(&expand.new),
            oid = relation.oid,
            name = quote_literal(&name)
        );
        Ok(Step {
            done_when: Some(done),
            cleanup: steps::drop_invalid_index(expand.table, &name),
            rollback: Some(format!(
                "DROP INDEX CONCURRENTLY IF EXISTS {}",
                qualified(&relation.schema, &name)
            )),
            ..steps::concurrent("build index concurrently", steps::printed(sql), expand.table)
        })
    }

    /// Of a rename: both columns have the constraint.
    fn unique_beside(&self, expand: &Expand, index: &Index, constraint: &Constraint) -> Step {
        let name = Expand::with(&index.name, "new");
        let done = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = {}::pg_catalog.oid AND c.conname = {} AND c.contype = 'u')",
            expand.relation.oid,
            quote_literal(&name)
        );
        let drop = format!(
            "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
            expand.table.sql,
            quote_ident(&name)
        );
        Step {
            done_when: Some(done),
            rollback: Some(drop),
            ..steps::brief(
                "add constraint using the index",
                using_index(expand, &name, &name, constraint),
                LockMode::AccessExclusive,
                expand.table,
            )
        }
    }

    /// Within the swap: the old ones step aside, the new ones take their names.
    pub(crate) fn change_hands(&self, expand: &Expand) -> Vec<String> {
        let (t, schema) = (&expand.table.sql, &expand.relation.schema);
        let mut all = Vec::new();
        for index in &self.indexes {
            let (old, new) = (Expand::with(&index.name, "old"), Expand::with(&index.name, "new"));
            match self.constraint_of(index) {
                Some(constraint) => {
                    all.push(rename_constraint(t, &constraint.name, &old));
                    all.push(using_index(expand, &constraint.name, &new, constraint));
                }
                None => {
                    all.push(rename_index(schema, &index.name, &old));
                    all.push(rename_index(schema, &new, &index.name));
                }
            }
        }
        for constraint in &self.constraints {
            let name = &constraint.name;
            all.push(rename_constraint(t, name, &Expand::with(name, "old")));
            all.push(rename_constraint(t, &Expand::with(name, "new"), name));
        }
        all
    }

    /// Within the swap: what is the old column's alone.
    pub(crate) fn drop_old(&self, expand: &Expand) -> Vec<String> {
        let drop_constraint = |name: &str| {
            format!(
                "ALTER TABLE {} DROP CONSTRAINT {}",
                expand.table.sql,
                quote_ident(&Expand::with(name, "old"))
            )
        };
        let mut all: Vec<String> = self.constraints.iter().map(|c| drop_constraint(&c.name)).collect();
        for index in &self.indexes {
            all.push(match self.constraint_of(index) {
                Some(constraint) => drop_constraint(&constraint.name),
                None => format!(
                    "DROP INDEX {}",
                    qualified(&expand.relation.schema, &Expand::with(&index.name, "old"))
                ),
            });
        }
        all
    }

    /// For the contract of a rename: the names that the constraints and indexes would have had.
    pub(crate) fn names_back(&self, expand: &Expand) -> Vec<String> {
        let t = &expand.table.sql;
        let mut all = Vec::new();
        for index in &self.indexes {
            let new = Expand::with(&index.name, "new");
            all.push(match self.constraint_of(index) {
                Some(constraint) => rename_constraint(t, &new, &constraint.name),
                None => rename_index(&expand.relation.schema, &new, &index.name),
            });
        }
        for constraint in &self.constraints {
            all.push(rename_constraint(
                t,
                &Expand::with(&constraint.name, "new"),
                &constraint.name,
            ));
        }
        if let Some(constraint) = self.not_null {
            all.push(rename_constraint(t, &not_null_name(expand), &constraint.name));
        }
        all.iter().map(|sql| format!("{sql};")).collect()
    }

    /// One statement that gives the column, its indexes and its constraints what no definition holds: comments, rights,
    /// the statistics target. `pair` tells the former and the present name.
    pub(crate) fn dress(
        &self,
        expand: &Expand,
        from: &str,
        to: &str,
        pair: impl Fn(&str) -> (String, String),
    ) -> String {
        let (oid, t, schema) = (
            expand.relation.oid,
            quote_literal(&expand.qualified()),
            quote_literal(&expand.relation.schema),
        );
        let mut body = format!(
            "DECLARE\n  a pg_catalog.pg_attribute;\n  g record;\n  target int;\n  options text;\nBEGIN\n  \
             SELECT x.* INTO STRICT a FROM pg_catalog.pg_attribute x WHERE x.attrelid = {oid}::pg_catalog.oid AND x.attname = {};\n  \
             EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', {t}, {to}, pg_catalog.col_description(a.attrelid, a.attnum));\n  \
             target := a.attstattarget;\n  \
             IF target >= 0 THEN EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', {t}, {to}, target); END IF;\n  \
             options := (SELECT pg_catalog.string_agg(o, ', ') FROM pg_catalog.unnest(a.attoptions) o WHERE pg_catalog.left(o, 3) <> 'pg_');\n  \
             IF options IS NOT NULL THEN EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', {t}, {to}, options); END IF;\n  \
             FOR g IN SELECT x.privilege_type AS what, x.is_grantable, CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END AS who \
             FROM pg_catalog.aclexplode(a.attacl) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee WHERE x.grantee = 0 OR r.oid IS NOT NULL LOOP\n    \
             EXECUTE pg_catalog.format('GRANT %s (%I) ON %s TO %s%s', g.what, {to}, {t}, g.who, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);\n  \
             END LOOP;\n",
            quote_literal(from),
            to = quote_literal(to),
        );
        if expand.renames() {
            // A new type has its own.
            body.push_str(&format!(
                "  EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', {t}, {to}, CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' \
                 WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END);\n  \
                 IF coalesce(pg_catalog.to_jsonb(a) ->> 'attcompression', '') <> '' THEN EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', \
                 {t}, {to}, CASE pg_catalog.to_jsonb(a) ->> 'attcompression' WHEN 'l' THEN 'lz4' ELSE 'pglz' END); END IF;\n",
                to = quote_literal(to)
            ));
        }
        for index in &self.indexes {
            let (former, present) = pair(&index.name);
            body.push_str(&format!(
                "  EXECUTE pg_catalog.format('COMMENT ON INDEX %I.%I IS %L', {schema}, {}, (SELECT pg_catalog.obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_index i \
                 JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = {oid}::pg_catalog.oid AND c.relname = {}));\n",
                quote_literal(&present),
                quote_literal(&former)
            ));
        }
        for constraint in self.constraints.iter().chain(&self.unique) {
            let (former, present) = pair(&constraint.name);
            body.push_str(&format!(
                "  EXECUTE pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', {}, {t}, (SELECT pg_catalog.obj_description(c.oid, 'pg_constraint') \
                 FROM pg_catalog.pg_constraint c WHERE c.conrelid = {oid}::pg_catalog.oid AND c.conname = {}));\n",
                quote_literal(&present),
                quote_literal(&former)
            ));
        }
        if let Some(constraint) = self.not_null {
            body.push_str(&self.not_null_sql(expand, constraint, from, to));
        }
        body.push_str("END");
        steps::printed(format!("DO {}", quote_literal(&body)))
    }

    /// The NOT NULL constraint's comment, and of a changed type its name.
    fn not_null_sql(&self, expand: &Expand, constraint: &Constraint, from: &str, to: &str) -> String {
        let (oid, t) = (expand.relation.oid, quote_literal(&expand.qualified()));
        let of = |column: &str| {
            format!(
                "SELECT c.conname AS name, pg_catalog.obj_description(c.oid, 'pg_constraint') AS comment FROM pg_catalog.pg_constraint c \
                 JOIN pg_catalog.pg_attribute x ON x.attrelid = c.conrelid AND c.conkey = ARRAY[x.attnum] \
                 WHERE c.conrelid = {oid}::pg_catalog.oid AND c.contype = 'n' AND x.attname = {}",
                quote_literal(column)
            )
        };
        let name = quote_literal(&constraint.name);
        let rename = match expand.renames() {
            true => String::new(),
            false => format!(
                "    EXECUTE pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', {t}, {});\n    \
                 EXECUTE pg_catalog.format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', {t}, h.name, {name});\n    \
                 h.name := {name};\n",
                quote_literal(from)
            ),
        };
        format!(
            "  DECLARE h record; BEGIN\n    \
             {};\n    SELECT x.* INTO g FROM ({}) x;\n{rename}    \
             EXECUTE pg_catalog.format('COMMENT ON CONSTRAINT %I ON %s IS %L', h.name, {t}, g.comment);\n  END;\n",
            of(to).replacen(" AS comment FROM", " AS comment INTO STRICT h FROM", 1),
            of(from)
        )
    }
}

/// As it is called, or is going to be.
fn not_null_name(expand: &Expand) -> String {
    let is_it = |c: &&Constraint| c.kind == 'n' && c.columns == [expand.new.clone()];
    match expand.relation.constraints.iter().find(is_it) {
        Some(there) => there.name.clone(),
        None => names::not_null(expand.relation, &expand.new),
    }
}

fn rename_index(schema: &str, from: &str, to: &str) -> String {
    format!("ALTER INDEX {} RENAME TO {}", qualified(schema, from), quote_ident(to))
}

fn rename_constraint(table: &str, from: &str, to: &str) -> String {
    format!(
        "ALTER TABLE {table} RENAME CONSTRAINT {} TO {}",
        quote_ident(from),
        quote_ident(to)
    )
}

fn using_index(expand: &Expand, name: &str, index: &str, constraint: &Constraint) -> String {
    let definition = constraint.definition.as_str();
    // At its end, as the server prints it.
    let deferred = definition.ends_with(" INITIALLY DEFERRED");
    let deferrable = deferred || definition.ends_with(" DEFERRABLE");
    format!(
        "ALTER TABLE {} ADD CONSTRAINT {} UNIQUE USING INDEX {}{}{}",
        expand.table.sql,
        quote_ident(name),
        quote_ident(index),
        if deferrable { " DEFERRABLE" } else { "" },
        if deferred { " INITIALLY DEFERRED" } else { "" }
    )
}

/// The steps to the same constraint on the new column.
fn constrain(expand: &Expand, constraint: &Constraint) -> Result<Vec<Step>, String> {
    let head = &format!("ALTER TABLE {}", expand.qualified());
    let name = Expand::with(&constraint.name, "new");
    let text = format!("{head} ADD CONSTRAINT {} {}", quote_ident(&name), constraint.definition);
    let unproven = || format!("the constraint {} could not be changed with certainty", constraint.name);
    let sql = renamed(&text, &expand.column.name, &expand.new).ok_or_else(unproven)?;
    let command = steps::parse_action(&sql).ok_or_else(unproven)?;
    let Some(NodeEnum::Constraint(parsed)) = command.def.as_ref().and_then(|def| def.node.as_ref()) else {
        return Err(unproven());
    };
    let lock = match constraint.kind {
        'f' => LockMode::ShareRowExclusive,
        _ => LockMode::AccessExclusive,
    };
    if validates(parsed) {
        let action = Action {
            head,
            text: sql.get(head.len()..).map(str::trim).ok_or_else(unproven)?,
            command: &command,
        };
        let mut both = not_valid_then_validate(expand.table, &action, parsed, &name, lock)?;
        both[0].sql = steps::printed(std::mem::take(&mut both[0].sql));
        return Ok(both);
    }
    let mark = steps::mark("not to be validated", &sql);
    Ok(vec![Step {
        done_when: steps::constraint_marked(expand.table, &name, &mark, ""),
        rollback: Some(format!(
            "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
            expand.table.sql,
            quote_ident(&name)
        )),
        ..steps::brief_then(
            "add constraint, not validated",
            sql,
            vec![steps::comment_on_constraint(&name, expand.table, Some(&mark))],
            lock,
            expand.table,
        )
    }])
}

/// The statement with another column in place of `old`: only references to that column may change, which parsing it again proves.
fn renamed(sql: &str, old: &str, new: &str) -> Option<String> {
    /// Each further place doubles the work.
    const PLACES_MAX: usize = 10;
    let expected = {
        let mut tree = tree_of(sql)?;
        let mut references = 0;
        rename(&mut tree, old, new, &mut references);
        if references == 0 {
            return None;
        }
        tree
    };
    let places: Vec<std::ops::Range<usize>> = significant_tokens(sql)?
        .iter()
        .filter_map(|token| {
            let range = usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?;
            let text = sql.get(range.clone())?;
            let name = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(quoted) => quoted.replace("\"\"", "\""),
                None if token.token() == Token::Sconst => return None,
                None => text.to_ascii_lowercase(),
            };
            (name == old).then_some(range)
        })
        .collect();
    if places.len() > PLACES_MAX {
        return None;
    }
    // All of them is what it mostly is.
    (1..1usize << places.len()).rev().find_map(|chosen| {
        let mut text = sql.to_string();
        for (at, place) in places.iter().enumerate().rev() {
            if chosen & (1 << at) != 0 {
                text.replace_range(place.clone(), &quote_ident(new));
            }
        }
        (tree_of(&text)? == expected).then_some(text)
    })
}

/// Without positions.
fn tree_of(sql: &str) -> Option<Value> {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(fields) => {
                fields.retain(|key, _| {
                    !key.ends_with("location")
                        && !matches!(
                            key.as_str(),
                            "list_start" | "list_end" | "rexpr_list_start" | "rexpr_list_end"
                        )
                });
                fields.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(one_statement(sql)?).ok()?;
    strip(&mut value);
    Some(value)
}

/// All references to the table's own column.
fn rename(tree: &mut Value, old: &str, new: &str, references: &mut usize) {
    match tree {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, old, new, references)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "ColumnRef" => {
                        if let Some(last) = value["fields"].as_array_mut().and_then(|fields| fields.last_mut()) {
                            rename_string(last, old, new, references);
                        }
                    }
                    "IndexElem" if value["name"] == old => {
                        value["name"] = new.into();
                        *references += 1;
                    }
                    // Not those of the referenced table.
                    "fk_attrs" | "fk_del_set_cols" => {
                        for name in value.as_array_mut().into_iter().flatten() {
                            rename_string(name, old, new, references);
                        }
                    }
                    _ => {}
                }
                rename(value, old, new, references);
            }
        }
        _ => {}
    }
}

fn rename_string(node: &mut Value, old: &str, new: &str, references: &mut usize) {
    if let Some(text) = node.pointer_mut("/node/String/sval").filter(|text| *text == old) {
        *text = new.into();
        *references += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: Option<&str>) {
        assert_eq!(renamed(sql, "age", "age new").as_deref(), expect, "{sql}");
    }

    #[test]
    fn only_the_column_is_renamed() {
        check(
            "CREATE INDEX i ON s.t (age)",
            Some("CREATE INDEX i ON s.t (\"age new\")"),
        );
        check(
            "CREATE INDEX age ON age.age USING btree (age DESC, age(age), (age + 1)) INCLUDE (age) WHERE 'age' <> \"age\"",
            Some(
                "CREATE INDEX age ON age.age USING btree (\"age new\" DESC, age(\"age new\"), (\"age new\" + 1)) INCLUDE (\"age new\") WHERE 'age' <> \"age new\"",
            ),
        );
        check(
            "ALTER TABLE t ADD CONSTRAINT age FOREIGN KEY (age) REFERENCES r(age)",
            Some("ALTER TABLE t ADD CONSTRAINT age FOREIGN KEY (\"age new\") REFERENCES r(age)"),
        );
        check("CREATE INDEX i ON t (b) WHERE b::age IS NULL", None);
        check("CREATE INDEX i ON t (\"AGE\")", None);
    }
}
