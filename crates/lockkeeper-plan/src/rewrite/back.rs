//! The way back after a swap: the same rewrite with the tables' roles exchanged, and no copy, since the old table is whole as of the swap.
//!
//! From the swap on, triggers on the new table log the keys of rows that change, in the schema where the old table stands. The rows of these keys
//! are made anew in the old table, with their columns' former types, and both change places again.

use super::Schemas;
use super::alter::Alter;
use super::facts::{KeyColumn, Table};
use super::scheme::{Attached, Copied, Description, Scheme, WayBack};
use crate::splice::{qualified, quote_ident, quote_literal};
use serde_json::{Map, Value};

/// What a way back is made of.
pub struct Parts<'a> {
    pub schemas: Schemas,
    pub old: &'a Table,
    pub new: &'a Table,
    pub alters: &'a [Alter],
    /// The key of the way there.
    pub key: &'a [KeyColumn],
    pub key_index: &'a str,
    /// The old table as it was.
    pub own: Map<String, Value>,
    pub hangs: Map<String, Value>,
    pub options: Vec<String>,
}

/// A column of the old table that has another type in the new one.
pub struct Retyped {
    pub name: String,
    pub from: String,
    pub to: String,
}

impl Parts<'_> {
    /// Err: why there is none.
    pub fn scheme(self) -> Result<(Scheme, Vec<Retyped>), String> {
        let in_service = qualified(&self.old.schema, &self.old.name);
        let computed = self.alters.iter().flat_map(|alter| &alter.types);
        if let Some(change) = computed.clone().find(|change| change.using.is_some()) {
            return Err(format!(
                "the column {} is made by USING, which has no inverse that is known",
                change.column
            ));
        }
        let (mut columns, mut retyped) = (Vec::new(), Vec::new());
        for column in &self.old.columns {
            let copy = self.old.number_in_copy(column.num);
            let now = self.new.columns.iter().find(|now| Some(now.num) == copy);
            let now = match now {
                Some(now) => now,
                None if column.generated => continue,
                None => {
                    return Err(format!(
                        "the column {} is dropped, so that rows written since have no value for it",
                        column.name
                    ));
                }
            };
            if column.generated {
                continue;
            }
            let value = format!("{in_service}.{}", quote_ident(&column.name));
            let is_same = now.type_oid == column.type_oid && now.type_name == column.type_name;
            columns.push(Copied {
                name: column.name.clone(),
                type_name: column.type_name.clone(),
                of: match is_same {
                    true => value,
                    false => format!("({value})::{}", column.type_name),
                },
            });
            if !is_same {
                retyped.push(Retyped {
                    name: column.name.clone(),
                    from: now.type_name.clone(),
                    to: column.type_name.clone(),
                });
            }
        }
        let now = |key: &KeyColumn| {
            let of = self.new.columns.iter().find(|column| column.name == key.name);
            of.map(|column| KeyColumn {
                name: column.name.clone(),
                type_name: column.type_name.clone(),
                collation: column.collation.clone(),
            })
        };
        let key: Option<Vec<KeyColumn>> = self.key.iter().map(now).collect();
        let scheme = Scheme {
            job: self.schemas.job,
            table: self.new.oid,
            schema: self.old.schema.clone(),
            name: self.old.name.clone(),
            columns,
            key: key.ok_or("a column of the key is gone")?,
            key_index: self.key_index.to_owned(),
            indexes: Vec::new(),
            attached: Attached::default(),
            described: Description {
                own: self.own,
                hangs: self.hangs,
            },
            fingerprint: String::new(),
            keep_old: false,
            way_back: WayBack::NotAsked,
            is_back: true,
            is_ordered: false,
            options: self.options,
            partitions: Vec::new(),
            is_unlogged: false,
        };
        Ok((scheme, retyped))
    }
}

impl Scheme {
    /// One integer: how many of the two triggers that log the table's writes log all of them, or NULL where one is gone.
    pub fn logging(&self) -> String {
        let schemas = self.schemas();
        let names = [schemas.key_trigger(), schemas.truncate_trigger()].map(|name| quote_literal(&name));
        format!(
            "SELECT CASE count(*) WHEN 2 THEN count(*) FILTER (WHERE g.tgenabled = 'A') END FROM pg_catalog.pg_trigger g \
             WHERE g.tgrelid = {} AND g.tgname IN ({})",
            self.table,
            names.join(", ")
        )
    }

    /// What comes back with the new table's, and would fire for rows that are made anew: triggers and policies of the table that is put aside.
    pub fn undress_old(&self) -> String {
        let table = quote_literal(&self.fresh());
        format!(
            "DO $lockkeeper$ DECLARE x text; BEGIN \
             FOR x IN SELECT format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass) FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid \
             JOIN pg_namespace n ON n.oid = p.pronamespace WHERE g.tgrelid = {table}::regclass AND NOT g.tgisinternal AND n.nspname <> {own} LOOP EXECUTE x; END LOOP; \
             FOR x IN SELECT format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass) FROM pg_policy p WHERE p.polrelid = {table}::regclass LOOP EXECUTE x; END LOOP; \
             END $lockkeeper$",
            own = quote_literal(&self.schemas().fresh())
        )
    }

    /// One boolean, on the way back: what the way there makes of the old table's rows is what the new table has, in all columns that both have. So a
    /// value that was cut to fit would be found.
    pub fn compare_back(&self, back: &Scheme, after: Option<&[String]>, up_to: Option<&[String]>) -> String {
        let shared = |column: &&Copied| back.columns.iter().any(|of| of.name == column.name);
        let made: Vec<String> = (self.columns.iter().enumerate())
            .filter(|(_, column)| shared(column))
            .map(|(n, column)| format!("(c{})::{}", n + 1, column.type_name))
            .collect();
        let there: Vec<String> = (self.columns.iter().filter(shared))
            .map(|column| quote_ident(&column.name))
            .collect();
        self.compare_sides(&made, (&there, &format!("ONLY {}", self.old())), [after, up_to])
    }

    /// Some rows of the keys that were taken from the log, as the old table would have them: fails for a value that it cannot hold.
    /// The key at that place, in words.
    pub fn key_at(&self, place: u64) -> String {
        let parts: Vec<String> = (self.key.iter().enumerate())
            .map(|(n, column)| format!("{} || ' = ' || k.k{}", quote_literal(&column.name), n + 1))
            .collect();
        format!(
            "SELECT concat_ws(', ', {}) FROM ({}) k",
            parts.join(", "),
            self.keys_from(place, 1)
        )
    }

    pub fn try_rows(&self, from: u64, count: u64) -> String {
        let columns: Vec<String> = (self.columns.iter().enumerate())
            .map(|(n, column)| format!("(f.c{})::{}::text", n + 1, column.type_name))
            .collect();
        format!(
            "SELECT count(ROW({})::text) FROM {} f JOIN ({}) k ON {}",
            columns.join(", "),
            self.schemas().of("f"),
            self.keys_from(from, count),
            self.is_key("f")
        )
    }
}
