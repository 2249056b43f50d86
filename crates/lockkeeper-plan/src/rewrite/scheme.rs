//! All that must be known to carry a rewrite out, or to go on with it: kept in the job's schema from the moment that the new table is there.

use super::Schemas;
use super::alter::Alter;
use super::facts::{KeyColumn, Table};
use super::partition::Part;
use crate::splice::{qualified, quote_ident, quote_literal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scheme {
    pub job: i64,
    pub table: u32,
    pub schema: String,
    pub name: String,
    /// What is copied, in the order of the new table's columns.
    pub columns: Vec<Copied>,
    pub key: Vec<KeyColumn>,
    /// The new table's index of the key.
    pub key_index: String,
    /// Of the new table.
    pub indexes: Vec<Index>,
    pub attached: Attached,
    /// What the new table itself is like, and what is to hang on it in the end.
    pub described: Description,
    /// Of the old table before its triggers.
    pub fingerprint: String,
    /// The old table stays, in its schema of the job.
    pub keep_old: bool,
    #[serde(default)]
    pub way_back: WayBack,
    /// It is the way back itself.
    #[serde(default)]
    pub is_back: bool,
    /// The options of the new table, or of its partitions, in their order.
    #[serde(default)]
    pub options: Vec<String>,
    /// The rows are written in the order of the key.
    #[serde(default)]
    pub is_ordered: bool,
    /// Its partitions, where it is partitioned.
    #[serde(default)]
    pub partitions: Vec<Part>,
    /// A crash of the server empties one of both tables, or both.
    #[serde(default)]
    pub is_unlogged: bool,
}

/// One column of the new table that is not computed by the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it is made of: an expression over the old table's row.
    pub of: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    pub name: String,
    /// The statements that build it, in order.
    pub sql: Vec<String>,
}

/// Empty after a crash of the server, in the job's schema.
pub(super) const MARKER: &str = "crash_marker";

/// Whoever has set it to the job's ID may write the table that is put aside.
pub const SETTING: &str = "lockkeeper.rewrite";

/// Whether there is one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum WayBack {
    /// Nobody asked for it.
    #[default]
    NotAsked,
    /// The old table is kept as of the swap, and why no more can be done.
    Closed(String),
    Open(Box<Scheme>),
}

/// What hangs on the old table, as statements.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attached {
    pub swap: Vec<String>,
    pub lock_views: Vec<String>,
    pub lock_others: Vec<String>,
    pub validate: Vec<String>,
    /// Gives a table in the old one's place the defaults that the old one is moved away without.
    #[serde(default)]
    pub defaults: Vec<String>,
    /// The last of the swap, and no part of its rehearsal: see [`super::persistence`].
    #[serde(default)]
    pub persistence: Vec<String>,
}

/// A table in words that do not depend on its OID.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// What is of the table itself.
    pub own: Map<String, Value>,
    /// What hangs on it.
    pub hangs: Map<String, Value>,
}

/// The names of what differs.
pub fn differences(a: &Map<String, Value>, b: &Map<String, Value>) -> Vec<String> {
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    let differs = |name: &&String| a.get(*name) != b.get(*name);
    names
        .filter(differs)
        .map(|name| {
            let one = |side: Option<&Value>| side.map_or("nothing".into(), Value::to_string);
            format!("{}: {} against {}", name.trim(), one(a.get(name)), one(b.get(name)))
        })
        .collect()
}

/// What new columns are filled with, by their numbers: asked after each statement, since a later one may forget it.
pub type Missing = HashMap<i16, Option<String>>;

/// Which columns are copied, and what each is made of. `new` is the table after the client's statements.
pub fn copied(old: &Table, new: &Table, alters: &[Alter], missing: &Missing) -> Result<Vec<Copied>, String> {
    let dropped = |num: i16| {
        !new.columns
            .iter()
            .any(|column| old.number_in_copy(num) == Some(column.num))
    };
    if let Some(num) = old.serial.iter().find(|num| dropped(**num)) {
        let name = old
            .columns
            .iter()
            .find(|column| column.num == *num)
            .map_or("", |column| &column.name);
        return Err(format!(
            "the column {name} owns a sequence: drop it by a statement of its own"
        ));
    }
    let using = |name: &str| {
        let mut changes = alters.iter().flat_map(|alter| &alter.types);
        changes
            .find(|change| change.column == name)
            .and_then(|change| change.using.clone())
    };
    let retyped = |name: &str| {
        alters
            .iter()
            .flat_map(|alter| &alter.types)
            .any(|change| change.column == name)
    };
    let mut copied = Vec::new();
    for column in new.columns.iter().filter(|column| !column.generated) {
        let of = match (old.origin(column.num), missing.get(&column.num)) {
            (Some(origin), _) if origin.name != column.name => {
                return Err(format!("the column {} changes its name", origin.name));
            }
            (Some(origin), _) => using(&origin.name)
                .unwrap_or_else(|| format!("{}.{}", qualified(&old.schema, &old.name), quote_ident(&origin.name))),
            (None, _) if retyped(&column.name) => {
                return Err(format!("the type of the new column {} is changed again", column.name));
            }
            (None, Some(value)) => {
                let value = value.as_deref().map_or("NULL".into(), quote_literal);
                format!("{value}::{}", column.type_name)
            }
            (None, None) => {
                made_for_each_row(&column.name, column.domain, alters)?;
                continue;
            }
        };
        copied.push(Copied {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            of,
        });
    }
    Ok(copied)
}

/// A new column whose value the server did not keep for the rows that are there: nothing, an identity, or a default that is asked for each row.
fn made_for_each_row(name: &str, domain: bool, alters: &[Alter]) -> Result<(), String> {
    let added = |alter: &&Alter| alter.added.iter().any(|added| added.column == name);
    let Some(alter) = alters.iter().rfind(added) else {
        return Ok(());
    };
    let constant = alter
        .added
        .iter()
        .rfind(|added| added.column == name)
        .and_then(|added| added.default_is_constant);
    let Some(constant) = constant else {
        return Ok(());
    };
    if alters
        .iter()
        .any(|alter| alter.defaults.iter().any(|column| column == name))
    {
        return Err(format!(
            "the default of the new column {name} is changed again: leave that for after the rewrite"
        ));
    }
    if !constant && (domain || !alter.is_of_one_action()) {
        return Err(format!(
            "whether the default of the new column {name} is the same for all rows cannot be told: add it by an ALTER TABLE of its own"
        ));
    }
    Ok(())
}

impl Scheme {
    pub fn schemas(&self) -> Schemas {
        Schemas {
            job: self.job,
            back: self.is_back,
        }
    }

    /// The table that applications see.
    pub fn old(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    pub fn fresh(&self) -> String {
        self.schemas().of(&self.name)
    }

    pub fn parked(&self) -> String {
        qualified(&self.schemas().old(), &self.name)
    }

    /// The view that makes rows of the new table, read by the server in the client's own search_path: c1, c2, … and the key as k1, k2, …
    pub fn view(&self) -> String {
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(n, column)| format!("(\n{}\n) AS c{}", column.of, n + 1));
        let keys = self
            .key
            .iter()
            .enumerate()
            .map(|(n, column)| format!("{}.{} AS k{}", self.old(), quote_ident(&column.name), n + 1));
        let all: Vec<String> = columns.chain(keys).collect();
        format!(
            "CREATE VIEW {} AS SELECT {} FROM ONLY {}",
            self.schemas().of("f"),
            all.join(", "),
            self.old()
        )
    }

    fn log_columns(&self) -> String {
        let column = |(n, column): (usize, &KeyColumn)| {
            let collation = column
                .collation
                .as_ref()
                .map(|name| format!(" COLLATE {name}"))
                .unwrap_or_default();
            format!("k{} {}{collation}", n + 1, column.type_name)
        };
        self.key.iter().enumerate().map(column).collect::<Vec<_>>().join(", ")
    }

    /// Where the triggers write keys, what is known of the job, and the functions of the triggers.
    pub fn places(&self) -> Vec<String> {
        let schemas = self.schemas();
        let of = |row: &str| {
            let part = |column: &KeyColumn| format!("{row}.{}", quote_ident(&column.name));
            self.key.iter().map(part).collect::<Vec<_>>().join(", ")
        };
        let (log, old, new) = (schemas.of("log"), of("OLD"), of("NEW"));
        let head = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $lockkeeper$ BEGIN";
        // A column that has been renamed is not to fail anybody's write: all is copied anew then. It is asked without a write, so that
        // no subtransaction gets a number.
        let asked = head.replace(" BEGIN", " DECLARE x bool; BEGIN BEGIN");
        let replaced = format!("the table {} was replaced by lockkeeper rewrite, try again", self.old());
        let back = format!(
            "IF pg_catalog.current_setting('{}', true) IS DISTINCT FROM '{}' THEN RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = {}; END IF; \
             IF TG_LEVEL = 'STATEMENT' THEN RETURN NULL; ELSIF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;",
            SETTING,
            self.job,
            quote_literal(&replaced)
        );
        vec![
            format!(
                "CREATE TABLE {log} (op \"char\" NOT NULL, {}) WITH (autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_scale_factor = 0, \
                 vacuum_truncate = off)",
                self.log_columns()
            ),
            format!(
                "CREATE TABLE {} (phase text NOT NULL, cursor text[], fingerprint text, scheme jsonb NOT NULL)",
                schemas.of("state")
            ),
            format!(
                "CREATE FUNCTION {}() RETURNS trigger {asked} \
                 IF TG_OP = 'INSERT' THEN x := ROW({new}) IS NULL; ELSE x := ROW({old}) IS NULL; END IF; \
                 EXCEPTION WHEN undefined_column THEN INSERT INTO {log} (op) VALUES ('T'); RETURN NULL; END; \
                 IF TG_OP = 'INSERT' THEN INSERT INTO {log} VALUES ('R', {new}); \
                 ELSIF TG_OP = 'DELETE' THEN INSERT INTO {log} VALUES ('R', {old}); \
                 ELSE INSERT INTO {log} VALUES ('R', {old}); \
                 IF ROW({new}) IS DISTINCT FROM ROW({old}) THEN INSERT INTO {log} VALUES ('R', {new}); END IF; END IF; \
                 RETURN NULL; END $lockkeeper$",
                schemas.of("log_key")
            ),
            format!(
                "CREATE FUNCTION {}() RETURNS trigger {head} INSERT INTO {log} (op) VALUES ('T'); RETURN NULL; END $lockkeeper$",
                schemas.of("log_truncate")
            ),
            format!(
                "CREATE FUNCTION {}() RETURNS trigger {head} {back} END $lockkeeper$",
                qualified(&schemas.old(), "guard")
            ),
        ]
    }

    /// What default privileges have given to others, of all that is the job's own.
    pub fn revoke(&self) -> String {
        let schemas = self.schemas();
        let names = format!(
            "({}, {})",
            quote_literal(&schemas.fresh()),
            quote_literal(&schemas.old())
        );
        let partitions: String = self
            .partitions
            .iter()
            .map(|part| format!(", {}", quote_literal(&part.name)))
            .collect();
        let to = "CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END";
        format!(
            "DO $lockkeeper$ DECLARE x text; BEGIN FOR x IN \
             SELECT format('REVOKE ALL ON SCHEMA %I FROM %s', n.nspname, {to}) FROM pg_namespace n, aclexplode(n.nspacl) a \
             WHERE n.nspname IN {names} AND a.grantee <> n.nspowner UNION \
             SELECT format('REVOKE ALL ON TABLE %s FROM %s', c.oid::regclass, {to}) FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid, \
             aclexplode(c.relacl) a WHERE n.nspname IN {names} AND c.relname IN ('log', 'state', 'f', '{MARKER}'{partitions}) AND a.grantee <> c.relowner UNION \
             SELECT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure, {to}) FROM pg_namespace n JOIN pg_proc p ON p.pronamespace = n.oid, \
             aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE n.nspname IN {names} AND a.grantee <> p.proowner \
             LOOP EXECUTE x; END LOOP; END $lockkeeper$"
        )
    }

    /// In one transaction: from its end on, every write is logged.
    pub fn triggers(&self) -> Vec<String> {
        let (schemas, old) = (self.schemas(), self.old());
        let (key, truncate) = (schemas.key_trigger(), schemas.truncate_trigger());
        [
            format!(
                "CREATE TRIGGER {key} AFTER INSERT OR UPDATE OR DELETE ON {old} FOR EACH ROW EXECUTE FUNCTION {}()",
                schemas.of("log_key")
            ),
            format!(
                "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {old} FOR EACH STATEMENT EXECUTE FUNCTION {}()",
                schemas.of("log_truncate")
            ),
        ]
        .into_iter()
        .chain(self.enable_triggers())
        .collect()
    }

    /// ALWAYS: else a replica's apply, and session_replication_role, would pass them.
    pub fn enable_triggers(&self) -> [String; 2] {
        let (schemas, old) = (self.schemas(), self.old());
        [schemas.key_trigger(), schemas.truncate_trigger()]
            .map(|name| format!("ALTER TABLE ONLY {old} ENABLE ALWAYS TRIGGER {name}"))
    }

    pub fn drop_triggers(&self) -> Vec<String> {
        let (schemas, old) = (self.schemas(), self.old());
        [schemas.key_trigger(), schemas.truncate_trigger()]
            .map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {old}"))
            .to_vec()
    }

    /// The same, wherever the table is by now and whatever it is called.
    pub fn drop_triggers_anywhere(&self) -> String {
        let schemas = self.schemas();
        let names = [schemas.key_trigger(), schemas.truncate_trigger()].map(|name| quote_literal(&name));
        format!(
            "DO $lockkeeper$ DECLARE x text; BEGIN FOR x IN SELECT pg_catalog.format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::pg_catalog.regclass) \
             FROM pg_catalog.pg_trigger g WHERE g.tgrelid = {} AND g.tgname IN ({}) LOOP EXECUTE x; END LOOP; END $lockkeeper$",
            self.table,
            names.join(", ")
        )
    }

    /// The tables that have the new table's rows.
    fn stored(&self) -> Vec<String> {
        match self.partitions.is_empty() {
            true => vec![self.fresh()],
            false => self
                .partitions
                .iter()
                .map(|part| self.schemas().of(&part.name))
                .collect(),
        }
    }

    /// What the copy is quicker without.
    pub fn strip(&self) -> Vec<String> {
        let new = self.fresh();
        let off = |table: &String| format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        let mut all: Vec<String> = self.stored().iter().map(off).collect();
        all.push(format!(
            "DO $lockkeeper$ DECLARE x text; BEGIN \
             FOR x IN SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', {new}, k.conname) FROM pg_catalog.pg_constraint k \
             WHERE k.conrelid = {new}::pg_catalog.regclass AND k.contype IN ('p', 'u', 'x') LOOP EXECUTE x; END LOOP; \
             FOR x IN SELECT pg_catalog.format('DROP INDEX %s', i.indexrelid::pg_catalog.regclass) FROM pg_catalog.pg_index i \
             WHERE i.indrelid = {new}::pg_catalog.regclass LOOP EXECUTE x; END LOOP; END $lockkeeper$",
            new = quote_literal(&new)
        ));
        all
    }

    /// As it was before [`Scheme::strip`], whose other half the indexes are: the options in the order that they had.
    pub fn restore_autovacuum(&self) -> Vec<String> {
        let (name, value) = (
            |option: &String| {
                option
                    .split_once('=')
                    .map_or(option.clone(), |(name, _)| name.to_owned())
            },
            |option: &String| {
                option
                    .split_once('=')
                    .map_or(String::new(), |(_, value)| value.to_owned())
            },
        );
        let reset: Vec<String> = self.options.iter().map(|option| quote_ident(&name(option))).collect();
        let set: Vec<String> = self
            .options
            .iter()
            .map(|option| format!("{} = {}", quote_ident(&name(option)), quote_literal(&value(option))))
            .collect();
        let mut all = Vec::new();
        for table in self.stored() {
            all.push(format!("ALTER TABLE {table} RESET (autovacuum_enabled)"));
            if !set.is_empty() {
                all.push(format!("ALTER TABLE {table} RESET ({})", reset.join(", ")));
                all.push(format!("ALTER TABLE {table} SET ({})", set.join(", ")));
            }
        }
        all
    }

    /// With all locks held: both tables change places, with what hangs on them.
    pub fn swap(&self) -> Vec<String> {
        let mut all = self.drop_triggers();
        all.extend(self.attached.swap.iter().cloned());
        all.extend(self.partitions.iter().map(|part| {
            let (part, schema) = (self.schemas().of(&part.name), quote_ident(&self.schema));
            format!("ALTER TABLE {part} SET SCHEMA {schema}")
        }));
        all.extend(self.back_in_service());
        let (parked, guard) = (self.parked(), qualified(&self.schemas().old(), "guard"));
        for (name, events, each) in [
            ("guard", "INSERT OR UPDATE OR DELETE", "ROW"),
            ("guard_truncate", "TRUNCATE", "STATEMENT"),
        ] {
            all.push(format!(
                "CREATE TRIGGER lockkeeper_{name} BEFORE {events} ON {parked} FOR EACH {each} EXECUTE FUNCTION {guard}()"
            ));
            all.push(format!("ALTER TABLE {parked} ENABLE ALWAYS TRIGGER lockkeeper_{name}"));
        }
        all.push(self.same_privileges());
        if let WayBack::Open(back) = &self.way_back {
            all.extend(back.triggers());
        }
        all
    }

    /// Within the transaction that makes the job's places: what the triggers on the new table will write to.
    pub fn places_back(&self) -> Vec<String> {
        match &self.way_back {
            WayBack::Open(back) => back.places(),
            _ => Vec::new(),
        }
    }

    /// On the way back: the old table is no longer guarded, and has again the defaults that would have held sequences.
    fn back_in_service(&self) -> Vec<String> {
        if !self.is_back {
            return Vec::new();
        }
        let drop = |name| format!("DROP TRIGGER lockkeeper_{name} ON {}", self.old());
        let mut all = ["guard", "guard_truncate"].map(drop).to_vec();
        all.extend(self.attached.defaults.iter().cloned());
        all
    }

    /// GRANT takes no lock on the table: one that came in the last moment is not to be lost. 40001, and all is tried again.
    fn same_privileges(&self) -> String {
        let table = "SELECT coalesce(jsonb_agg(a::text ORDER BY a::text), '[]') FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a";
        let columns = "SELECT coalesce(jsonb_agg(x.attname || a::text ORDER BY x.attname, a::text), '[]') FROM pg_attribute x, aclexplode(x.attacl) a";
        let (parked, new) = (quote_literal(&self.parked()), quote_literal(&self.old()));
        format!(
            "DO $lockkeeper$ BEGIN IF ({table} WHERE c.oid = {parked}::regclass) IS DISTINCT FROM ({table} WHERE c.oid = {new}::regclass) \
             OR ({columns} WHERE x.attrelid = {parked}::regclass AND x.attname IN (SELECT y.attname FROM pg_attribute y WHERE y.attrelid = {new}::regclass)) \
             IS DISTINCT FROM ({columns} WHERE x.attrelid = {new}::regclass) \
             THEN RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'the privileges have changed'; END IF; END $lockkeeper$"
        )
    }

    /// Before the swap or after it, whichever way: all that is left of the job. The table that applications see stands elsewhere.
    pub fn clear(&self) -> Vec<String> {
        let places = [self.schemas(), self.schemas().turned()];
        let mut all: Vec<String> = places.map(|at| format!("DROP VIEW IF EXISTS {}", at.of("f"))).to_vec();
        all.extend(places.map(|at| format!("DROP TABLE IF EXISTS {}", at.of(&self.name))));
        for at in places {
            let own = ["log", "state", MARKER].map(|name| at.of(name)).join(", ");
            all.push(format!("DROP TABLE IF EXISTS {own}"));
            all.extend(
                ["log_key", "log_truncate", "guard"].map(|name| format!("DROP FUNCTION IF EXISTS {}()", at.of(name))),
            );
            all.push(format!("DROP SCHEMA {}", at.fresh()));
        }
        all
    }
}
