//! What a statement takes with it that it does not name: the question to the catalog ([`Question`]), and its answer ([`Depends`]).
//!
//! Only what can take something with it is asked about: a DROP, DROP OWNED, CASCADE, and what reaches tables by way of their type or
//! tablespace. The rules then judge each table, column, index and key that goes as if it were named.

mod objects;

use super::ascii::decoded;
use super::catalog::Name;
use super::request::{kept, parts_of, variant_of};
use super::splice::quote_literal;
use super::statement::Statement;
use super::tree;
use objects::{
    Object, PATH, column, command, constraint, found_in, in_schema, listed, object_of, plain, range_var, relation, role,
};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterDomainStmt, AlterPublicationAction, AlterPublicationStmt, AlterTableMoveAllStmt, AlterTableStmt,
    AlterTableType, DropBehavior, DropStmt, Node, ObjectType, PublicationObjSpecType, TruncateStmt,
};
use serde::Deserialize;

const QUERY: &str = include_str!("depends.sql");

/// The schemas of the client's search_path, in their order, as an expression of type name[].
const SCHEMAS: &str = "pg_catalog.current_schemas(true)";

const COLUMN_NONE: &str = "0";

/// So many tables are told of.
const UNIDENTIFIED_MAX: usize = 20;

/// What is asked of the catalog: the statements that may take something with them, and what each names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// In the order of their numbers.
    statements: Vec<String>,
    roots: Vec<String>,
    touched: Vec<String>,
    bare: Vec<String>,
    stripped: Vec<String>,
    states: Vec<String>,
}

/// The answer, for all statements that were asked about: one, or those in a DO block.
#[derive(Clone, Debug, Default)]
pub struct Depends {
    pub taken: Vec<Taken>,
}

/// What one statement takes with it.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The statement's text.
    pub statement: String,
    /// The session restores a dump.
    pub restoring: bool,
    /// Something that it names is there.
    pub found: bool,
    /// The role may change what it names, as an owner.
    pub permitted: bool,
    /// Largest first within each kind.
    pub parts: Vec<Part>,
    pub others: Vec<Others>,
    pub states: Vec<State>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum What {
    #[serde(rename = "r", alias = "p", alias = "f")]
    Table,
    #[serde(rename = "v")]
    View,
    #[serde(rename = "m")]
    MaterializedView,
    #[serde(rename = "S")]
    Sequence,
    #[serde(rename = "i")]
    Index,
    #[serde(rename = "column")]
    Column,
    #[serde(rename = "constraint")]
    Constraint,
    #[serde(rename = "default")]
    Default,
    #[serde(rename = "trigger")]
    Trigger,
    #[serde(rename = "policy")]
    Policy,
    #[serde(rename = "rule")]
    Rule,
    /// It stays, but is changed by way of its type or its tablespace.
    #[serde(rename = "touched")]
    Touched,
    #[default]
    #[serde(other)]
    Other,
}

/// A relation that goes, or a part of one that stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Part {
    pub(crate) statement: usize,
    pub what: What,
    /// The statement itself names it.
    pub named: bool,
    pub oid: u32,
    pub schema: String,
    pub relation: String,
    /// The column, index, constraint … of the relation.
    pub part: Option<String>,
    /// Of a relation its relkind; of a constraint its contype; of a default `n` where the column is NOT NULL.
    pub detail: Option<String>,
    pub persistence: char,
    /// Of the relation, as in [`super::catalog::Relation`].
    pub bytes: u64,
    pub rows: Option<f64>,
    pub created_here: bool,
    /// Of the relation: see [`super::catalog::Relation`].
    pub never_filled: bool,
    /// Of a partition.
    pub parent: Option<u32>,
}

/// Objects of one kind that are no part of a relation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Others {
    pub(crate) statement: usize,
    pub what: String,
    pub name: Option<String>,
    pub more: u64,
}

/// Who may see a table's rows, and how they are told apart by those who replicate them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct State {
    pub(crate) statement: usize,
    pub oid: u32,
    pub schema: String,
    pub relation: String,
    pub bytes: u64,
    pub secured: bool,
    pub forced: bool,
    /// Its policies that let rows be seen.
    pub permissive: Vec<String>,
    /// Others than the owner have rights on it.
    pub shared: bool,
    /// Its UPDATE or DELETE is.
    pub published: bool,
    /// pg_class.relreplident: d i f n
    pub replica_identity: char,
    pub identity_index: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    restoring: bool,
    found: Vec<usize>,
    permitted: Vec<usize>,
    #[serde(default)]
    states: Vec<State>,
    parts: Vec<Part>,
    others: Vec<Others>,
}

impl Part {
    /// Nobody else can see it, or the relation that it is a part of.
    pub fn invisible_to_others(&self) -> bool {
        self.created_here || self.persistence == 't'
    }

    /// Its rows are elsewhere, and stay there.
    pub fn is_foreign(&self) -> bool {
        self.what == What::Table && self.detail.as_deref() == Some("f")
    }

    pub fn name(&self) -> Name {
        Name {
            schema: Some(self.schema.clone()),
            name: self.relation.clone(),
        }
    }
}

impl Question {
    /// None: the statement takes nothing with it.
    pub fn of(statement: &Statement) -> Option<Question> {
        let mut question = Question::default();
        question.add(statement);
        if let Some(body) = statement.body() {
            body.statements.iter().for_each(|inner| question.add(inner));
        }
        (!question.statements.is_empty()).then_some(question)
    }

    /// What the statements name, for [`Question::sql`] to read by current_setting(): names below `lockkeeper.`, and expressions of type text
    /// that are safe with any search_path, and mean the client's.
    pub fn ahead(&self) -> Vec<(&'static str, String)> {
        let found = |selects: &[String], columns: &str| {
            let all = selects.join(" UNION ALL ");
            let path = match all.contains(PATH) {
                true => format!(
                    "WITH path(oid, at) AS (SELECT n.oid, s.at FROM pg_catalog.unnest({SCHEMAS}) WITH ORDINALITY s(name, at) \
                     JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) s.name) "
                ),
                false => String::new(),
            };
            format!(
                "({path}SELECT coalesce(pg_catalog.json_agg(r), '[]'::pg_catalog.json)::pg_catalog.text FROM ({all}) r({columns}))"
            )
        };
        let roots = match self.roots.as_slice() {
            [] => "'[]'".to_owned(),
            all => found(all, "statement, class, object, sub, cascades"),
        };
        let mut ahead = vec![
            ("depends_schemas", format!("{SCHEMAS}::pg_catalog.text")),
            ("depends_roots", roots),
        ];
        let others = [
            ("depends_touched", &self.touched),
            ("depends_bare", &self.bare),
            ("depends_stripped", &self.stripped),
            ("depends_states", &self.states),
        ];
        let asked = others.into_iter().filter(|(_, selects)| !selects.is_empty());
        ahead.extend(asked.map(|(name, selects)| (name, found(selects, "statement, oid"))));
        ahead
    }

    /// The parts of the query, and whether there is something to ask for. What is left out is not planned.
    fn parts(&self) -> [(&'static str, bool); 4] {
        [
            ("touched", !self.touched.is_empty()),
            ("bare", !self.bare.is_empty()),
            ("stripped", !self.stripped.is_empty()),
            ("states", !self.states.is_empty()),
        ]
    }

    /// Which of its texts [`Question::sql`] is, as [`super::request::Request::variant`].
    pub fn variant(&self) -> String {
        format!("depends_{}", variant_of(&self.parts()))
    }

    /// One row, one column, from which [`Question::decode`] reads, with the settings of [`Question::ahead`]. It cannot raise an error.
    pub fn sql(&self) -> String {
        parts_of(QUERY, &kept(&self.parts())).trim_end().to_owned()
    }

    pub fn decode(&self, answer: &str) -> Result<Depends, String> {
        let answer: Answer =
            decoded(answer).map_err(|error| format!("the answer about dependent objects cannot be read: {error}"))?;
        let taken = |(at, statement): (usize, &String)| Taken {
            statement: statement.clone(),
            restoring: answer.restoring,
            found: answer.found.contains(&at),
            permitted: answer.permitted.contains(&at),
            parts: answer.parts.iter().filter(|p| p.statement == at).cloned().collect(),
            others: answer.others.iter().filter(|o| o.statement == at).cloned().collect(),
            states: answer.states.iter().filter(|s| s.statement == at).cloned().collect(),
        };
        Ok(Depends {
            taken: self.statements.iter().enumerate().map(taken).collect(),
        })
    }

    fn add(&mut self, statement: &Statement) {
        let mut asked = Asked {
            number: self.statements.len(),
            ..Asked::default()
        };
        asked.statement(&statement.node);
        let pairs = [
            (&mut self.roots, &mut asked.roots),
            (&mut self.touched, &mut asked.touched),
            (&mut self.bare, &mut asked.bare),
            (&mut self.stripped, &mut asked.stripped),
            (&mut self.states, &mut asked.states),
        ];
        if pairs.iter().all(|(_, from)| from.is_empty()) {
            return;
        }
        self.statements.push(statement.sql.clone());
        for (to, from) in pairs {
            to.append(from);
        }
    }
}

impl Taken {
    /// What stays and is changed by way of its type or tablespace, as far as others can see it.
    pub fn touched(&self) -> impl Iterator<Item = &Part> {
        let parts = self.parts.iter().filter(|part| part.what == What::Touched);
        parts.filter(|part| !part.invisible_to_others())
    }

    pub fn state(&self, oid: u32) -> Option<&State> {
        self.states.iter().find(|state| state.oid == oid)
    }
}

impl Depends {
    pub fn of(&self, statement: &Statement) -> Option<&Taken> {
        self.taken.iter().find(|taken| taken.statement == statement.sql)
    }

    /// Nothing goes with it: the files that are checked have made what it names themselves.
    pub fn nothing_with(&mut self, statement: &Statement) {
        self.taken.push(Taken {
            statement: statement.sql.clone(),
            ..Taken::default()
        });
    }
}

/// What one statement asks.
#[derive(Default)]
struct Asked {
    number: usize,
    roots: Vec<String>,
    touched: Vec<String>,
    bare: Vec<String>,
    stripped: Vec<String>,
    states: Vec<String>,
}

impl Asked {
    fn statement(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::DropStmt(drop) => self.dropped(drop),
            NodeEnum::DropOwnedStmt(owned) => {
                let cascades = owned.behavior() == DropBehavior::DropCascade;
                let roles: Vec<String> = owned.roles.iter().filter_map(role).collect();
                // 1260 is pg_authid.
                self.roots.push(format!(
                    "SELECT {}, s.classid, s.objid, s.objsubid, {cascades} FROM pg_catalog.pg_shdepend s \
                     WHERE s.refclassid OPERATOR(pg_catalog.=) 1260 AND s.deptype OPERATOR(pg_catalog.=) 'o' \
                     AND s.dbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
                     AND s.refobjid OPERATOR(pg_catalog.=) ANY (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[]))",
                    self.number,
                    roles.join(", ")
                ));
                self.stripped.push(format!(
                    "SELECT {}, r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[])",
                    self.number,
                    roles.join(", ")
                ));
            }
            NodeEnum::TruncateStmt(truncate) if truncate.behavior() == DropBehavior::DropCascade => {
                self.truncated(truncate)
            }
            NodeEnum::AlterDomainStmt(alter)
                if alter.subtype == "T" && alter.def.as_deref().is_none_or(tree::is_null) =>
            {
                self.domain(alter)
            }
            NodeEnum::DropdbStmt(drop) => self.root(&plain(1262, "pg_database", "dat", &drop.dbname), false),
            NodeEnum::DropRoleStmt(drop) => {
                for name in drop.roles.iter().filter_map(role) {
                    let select = format!(
                        "SELECT x.oid FROM pg_catalog.pg_roles x WHERE x.rolname OPERATOR(pg_catalog.=) {name} AND (x.rolcanlogin \
                         OR x.oid OPERATOR(pg_catalog.=) ANY (SELECT m.roleid FROM pg_catalog.pg_auth_members m))"
                    );
                    self.root(&Object::new(1260, select), false);
                }
            }
            NodeEnum::AlterTableStmt(alter) => self.altered(alter),
            NodeEnum::CreatePolicyStmt(policy) => {
                if let Some(range) = &policy.table {
                    self.state(&Name::of(range));
                }
            }
            NodeEnum::AlterPolicyStmt(policy) => {
                if let Some(range) = &policy.table {
                    self.state(&Name::of(range));
                }
            }
            NodeEnum::CreatePublicationStmt(create) if publishes_changes(&create.options).unwrap_or(true) => {
                self.published(&create.pubobjects, create.for_all_tables, "true")
            }
            NodeEnum::AlterPublicationStmt(alter) => self.republished(alter),
            NodeEnum::AlterTableMoveAllStmt(moved) => self.moved(moved),
            NodeEnum::RenameStmt(rename)
                if rename.rename_type() == ObjectType::ObjectAttribute
                    || rename.relation_type() == ObjectType::ObjectType =>
            {
                if let Some(range) = &rename.relation {
                    self.typed(&Name::of(range));
                }
            }
            _ => {}
        }
    }

    /// The tables that reference those which are named, and those that reference these.
    fn truncated(&mut self, truncate: &TruncateStmt) {
        for range in truncate.relations.iter().filter_map(range_var) {
            self.touched.push(format!(
                "SELECT {}, k.oid FROM (WITH RECURSIVE named(oid) AS ({} UNION SELECT i.inhrelid FROM named n \
                 JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) n.oid), \
                 referencing(oid) AS (SELECT n.oid FROM named n UNION SELECT k.conrelid FROM referencing r \
                 JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) r.oid AND k.contype OPERATOR(pg_catalog.=) 'f') \
                 SELECT r.oid FROM referencing r WHERE r.oid OPERATOR(pg_catalog.<>) ALL (SELECT n.oid FROM named n)) k(oid)",
                self.number,
                found_in(&relation(&Name::of(range)))
            ));
        }
    }

    fn domain(&mut self, alter: &AlterDomainStmt) {
        if let Some(name) = listed(&alter.type_name) {
            let domain = in_schema(1247, "pg_type", "typ", &name, "true");
            let select = format!("SELECT {}, d.oid FROM ({}) d(oid)", self.number, domain.select);
            self.bare.push(select);
        }
    }

    fn dropped(&mut self, drop: &DropStmt) {
        let cascades = drop.behavior() == DropBehavior::DropCascade;
        let kind = drop.remove_type();
        for object in drop.objects.iter().filter_map(|object| object.node.as_ref()) {
            let Some(found) = object_of(kind, object) else {
                continue;
            };
            self.root(&found, cascades);
            if let (ObjectType::ObjectPolicy, NodeEnum::List(list)) = (kind, object)
                && let Some((_, table)) = list.items.split_last()
                && let Some(name) = listed(table)
            {
                self.state(&name);
            }
            if let (ObjectType::ObjectIndex, NodeEnum::List(list)) = (kind, object)
                && let Some(name) = listed(&list.items)
            {
                let of = found_in(&relation(&name));
                self.states.push(format!(
                    "SELECT {}, i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid OPERATOR(pg_catalog.=) {of}",
                    self.number
                ));
            }
        }
    }

    fn altered(&mut self, alter: &AlterTableStmt) {
        use AlterTableType as A;
        let Some(table) = alter.relation.as_ref().map(Name::of) else {
            return;
        };
        if alter.objtype() == ObjectType::ObjectType {
            self.typed(&table);
        }
        for command in alter.cmds.iter().filter_map(command) {
            let cascades = command.behavior() == DropBehavior::DropCascade;
            match command.subtype() {
                A::AtDropColumn => {
                    let with_children = alter.relation.as_ref().is_some_and(|range| range.inh);
                    self.root(&column(&table, &command.name, with_children), cascades)
                }
                A::AtDropConstraint => {
                    self.root(&constraint(&table, &command.name), cascades);
                    self.state(&table);
                }
                A::AtEnableRowSecurity
                | A::AtDisableRowSecurity
                | A::AtForceRowSecurity
                | A::AtNoForceRowSecurity
                | A::AtReplicaIdentity => self.state(&table),
                // By these a dump begins to clean.
                A::AtDropIdentity | A::AtDetachPartition => self.state(&table),
                A::AtColumnDefault if command.def.is_none() => self.state(&table),
                _ => {}
            }
        }
    }

    fn republished(&mut self, alter: &AlterPublicationStmt) {
        let name = quote_literal(&alter.pubname);
        let of_it = format!("p.pubname OPERATOR(pg_catalog.=) {name}");
        if publishes_changes(&alter.options) == Some(true) {
            self.unidentified(&format!(
                "EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE {of_it} AND (p.puballtables \
                 OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid OPERATOR(pg_catalog.=) p.oid \
                   AND r.prrelid OPERATOR(pg_catalog.=) c.oid) \
                 OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_depend e ON e.classid OPERATOR(pg_catalog.=) 6237 \
                   AND e.objid OPERATOR(pg_catalog.=) d.objid AND e.refclassid OPERATOR(pg_catalog.=) 6104 AND e.refobjid OPERATOR(pg_catalog.=) p.oid \
                   WHERE d.classid OPERATOR(pg_catalog.=) 6237 AND d.refclassid OPERATOR(pg_catalog.=) 2615 \
                   AND d.refobjid OPERATOR(pg_catalog.=) c.relnamespace)))"
            ));
        }
        if alter.action() != AlterPublicationAction::ApDropObjects {
            let condition = format!(
                "EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE {of_it} AND (p.pubupdate OR p.pubdelete))"
            );
            self.published(&alter.pubobjects, alter.for_all_tables, &condition);
        }
    }

    fn published(&mut self, objects: &[Node], all: bool, condition: &str) {
        if all {
            return self.unidentified(condition);
        }
        let mut which: Vec<String> = Vec::new();
        for object in objects.iter().filter_map(|object| object.node.as_ref()) {
            let NodeEnum::PublicationObjSpec(object) = object else {
                continue;
            };
            let schema = match object.pubobjtype() {
                PublicationObjSpecType::PublicationobjTablesInSchema => quote_literal(&object.name),
                PublicationObjSpecType::PublicationobjTablesInCurSchema => "pg_catalog.current_schema()".to_string(),
                _ => {
                    let Some(range) = object.pubtable.as_ref().and_then(|table| table.relation.as_ref()) else {
                        continue;
                    };
                    let heirs = match range.inh {
                        true => {
                            "UNION SELECT i.inhrelid FROM named n JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) n.oid"
                        }
                        false => "UNION SELECT 0::pg_catalog.oid WHERE false",
                    };
                    which.push(format!(
                        "c.oid OPERATOR(pg_catalog.=) ANY (WITH RECURSIVE named(oid) AS ({} {heirs}) SELECT n.oid FROM named n)",
                        found_in(&relation(&Name::of(range)))
                    ));
                    continue;
                }
            };
            which.push(format!(
                "c.relnamespace OPERATOR(pg_catalog.=) ANY (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) {schema})"
            ));
        }
        if !which.is_empty() {
            self.unidentified(&format!("({}) AND {condition}", which.join(" OR ")));
        }
    }

    /// Of the tables that can be published, those whose rows nothing tells apart.
    fn unidentified(&mut self, condition: &str) {
        self.states.push(format!(
            "(SELECT {}, c.oid FROM pg_catalog.pg_class c WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}'::pg_catalog.\"char\"[]) \
             AND c.relpersistence OPERATOR(pg_catalog.=) 'p' AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
             AND (c.relreplident OPERATOR(pg_catalog.=) 'n' OR (c.relreplident OPERATOR(pg_catalog.=) 'd' AND NOT EXISTS (\
               SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate))) \
             AND {condition} ORDER BY c.relpages DESC, c.oid LIMIT {UNIDENTIFIED_MAX})",
            self.number
        ));
    }

    /// ALTER … ALL IN TABLESPACE. Of the database's own tablespace pg_class says 0.
    fn moved(&mut self, moved: &AlterTableMoveAllStmt) {
        let kinds = match moved.objtype() {
            ObjectType::ObjectIndex => "{i}",
            ObjectType::ObjectMatview => "{m}",
            _ => "{r,p}",
        };
        let roles: Vec<String> = moved.roles.iter().filter_map(role).collect();
        let owners = match roles.as_slice() {
            [] => String::new(),
            roles => format!(
                " AND c.relowner OPERATOR(pg_catalog.=) ANY (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[]))",
                roles.join(", ")
            ),
        };
        self.touched.push(format!(
            "SELECT {}, c.oid FROM pg_catalog.pg_class c, pg_catalog.pg_tablespace t, pg_catalog.pg_database d \
             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND t.spcname OPERATOR(pg_catalog.=) {} \
             AND c.reltablespace OPERATOR(pg_catalog.=) CASE WHEN d.dattablespace OPERATOR(pg_catalog.=) t.oid THEN 0 ELSE t.oid END AND c.relkind OPERATOR(pg_catalog.=) ANY ('{kinds}'::pg_catalog.\"char\"[]) \
             AND c.relnamespace OPERATOR(pg_catalog.<>) ALL (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) ANY ('{{pg_catalog,pg_toast}}'::pg_catalog.name[])){owners}",
            self.number,
            quote_literal(&moved.orig_tablespacename)
        ));
    }

    /// The tables that are made of a composite type.
    fn typed(&mut self, name: &Name) {
        self.touched.push(format!(
            "SELECT {}, c.oid FROM pg_catalog.pg_class c WHERE c.reloftype OPERATOR(pg_catalog.<>) 0 \
             AND c.reloftype OPERATOR(pg_catalog.=) (SELECT y.reltype FROM pg_catalog.pg_class y WHERE y.oid OPERATOR(pg_catalog.=) {})",
            self.number,
            found_in(&relation(name))
        ));
    }

    fn state(&mut self, table: &Name) {
        self.states.push(format!(
            "SELECT {}, c.oid FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) {}",
            self.number,
            found_in(&relation(table))
        ));
    }

    fn root(&mut self, found: &Object, cascades: bool) {
        self.roots.push(format!(
            "SELECT {}, {}::pg_catalog.oid, o.object, {}, {cascades} FROM ({}) o(object{})",
            self.number,
            found.class,
            if found.has_sub { "o.sub" } else { COLUMN_NONE },
            found.select,
            if found.has_sub { ", sub" } else { "" }
        ));
    }
}

/// Whether UPDATE or DELETE is among what a publication publishes. None: it is not said.
pub(super) fn publishes_changes(options: &[Node]) -> Option<bool> {
    options.iter().rev().find_map(|option| {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            return None;
        };
        let value = option
            .arg
            .as_ref()?
            .node
            .as_ref()
            .filter(|_| option.defname == "publish")?;
        let NodeEnum::String(list) = value else { return None };
        Some(list.sval.contains("update") || list.sval.contains("delete"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading;
    use pg_query::protobuf::Token;

    /// One of each kind of question.
    const ASKED: &[&str] = &[
        "DROP SCHEMA a, b CASCADE",
        "DROP TABLE pg_temp.t",
        "DROP INDEX s.i, i",
        "DROP TYPE mood[] CASCADE",
        "DROP FUNCTION s.f(int, text), g CASCADE",
        "DROP PROCEDURE p(int)",
        "DROP OPERATOR + (int, s.money)",
        "DROP OPERATOR - (NONE, int)",
        "DROP OPERATOR CLASS o USING btree",
        "DROP OPERATOR FAMILY s.o USING hash CASCADE",
        "DROP CAST (int AS s.money) CASCADE",
        "DROP TRANSFORM FOR int LANGUAGE plpgsql",
        "DROP TRIGGER a ON t",
        "DROP POLICY a ON s.t",
        "CREATE POLICY a ON s.t USING (true)",
        "ALTER POLICY a ON s.t USING (true)",
        "ALTER TABLE s.t DISABLE ROW LEVEL SECURITY",
        "DROP RULE a ON t",
        "DROP EXTENSION citext",
        "DROP OWNED BY a, CURRENT_USER, SESSION_USER CASCADE",
        "DROP DATABASE d",
        "DROP ROLE a, b",
        "ALTER TABLE t DROP COLUMN a CASCADE, DROP CONSTRAINT b, ENABLE ROW LEVEL SECURITY, ALTER c DROP DEFAULT",
        "ALTER TYPE s.pair RENAME ATTRIBUTE x TO y CASCADE",
        "ALTER TYPE pair DROP ATTRIBUTE x CASCADE",
        "ALTER TABLE ALL IN TABLESPACE a OWNED BY b, CURRENT_USER SET TABLESPACE c",
        "ALTER INDEX ALL IN TABLESPACE a SET TABLESPACE c",
        "DO $$ BEGIN DROP SCHEMA a CASCADE; DROP VIEW v; END $$",
        "TRUNCATE s.t, u CASCADE",
        "ALTER DOMAIN s.d DROP DEFAULT",
    ];

    /// By its name a session keeps each of its texts prepared.
    #[test]
    fn each_choice_of_parts_has_a_text_and_a_name_of_its_own() {
        let mut known = std::collections::BTreeMap::new();
        for choice in 0..16 {
            let some = |bit: u32| vec![String::new(); (choice >> bit & 1) as usize];
            let question = Question {
                touched: some(0),
                bare: some(1),
                stripped: some(2),
                states: some(3),
                ..Question::default()
            };
            let sql = question.sql();
            pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).unwrap_or_else(|e| panic!("{e}: {sql}"));
            assert!(question.variant().len() < 20);
            assert!(known.insert(question.variant(), sql).is_none());
        }
    }

    /// A stranger's operator or type in the search_path is called by none of it.
    #[test]
    fn only_operators_and_types_of_pg_catalog_are_meant() {
        for asked in ASKED {
            let statements = reading::read(asked.as_bytes(), true).unwrap_or_else(|e| panic!("{asked}: {e:?}"));
            let question = Question::of(&statements[0]).unwrap_or_else(|| panic!("{asked}: nothing is asked"));
            let ahead: Vec<String> = question.ahead().into_iter().map(|(_, expression)| expression).collect();
            let sql = format!("SELECT ({}), ({})", ahead.join("), ("), question.sql());
            pg_query::parse(&sql, pg_query::ParserOptions::DEFAULT).unwrap_or_else(|e| panic!("{asked}: {e}\n{sql}"));
            let tokens: Vec<(Token, &str)> = pg_query::scan(&sql)
                .expect("it is scanned")
                .tokens
                .iter()
                .map(|t| (t.token(), &sql[t.start as usize..t.end as usize]))
                .filter(|(token, _)| *token != Token::SqlComment)
                .collect();
            let text = |at: usize| tokens.get(at).map_or("", |(_, text)| *text);
            for (at, (token, it)) in tokens.iter().enumerate() {
                let around = (at.saturating_sub(4)..at + 5).map(text).collect::<Vec<_>>().join(" ");
                let qualified = || text(at - 1) == "." && text(at - 2) == "pg_catalog" && text(at - 4) == "OPERATOR";
                match (token, *it) {
                    // count(*), p.*, and the sign of a number.
                    (_, "*") if matches!(text(at - 1), "(" | ".") && text(at + 1) != "x" => {}
                    (_, "-") if text(at + 1).parse::<u32>().is_ok() && text(at - 1) == "," => {}
                    (Token::Op | Token::NotEquals | Token::LessEquals | Token::GreaterEquals, _)
                    | (_, "=" | "<" | ">" | "+" | "-" | "*" | "/" | "%") => {
                        assert!(qualified(), "{asked}: {it} in: {around}");
                    }
                    (Token::Typecast, _) => {
                        let after = (text(at + 1), text(at + 2));
                        assert_eq!(after, ("pg_catalog", "."), "{asked}: in: {around}");
                    }
                    // These look for an operator by its bare name.
                    (Token::InP | Token::Between | Token::Like | Token::Ilike | Token::Similar | Token::Nullif, _) => {
                        panic!("{asked}: {it} in: {around}")
                    }
                    (Token::Case, _) => assert_eq!(text(at + 1), "WHEN", "{asked}: in: {around}"),
                    (Token::Distinct, _) => assert_ne!(text(at + 1), "FROM", "{asked}: in: {around}"),
                    _ => {}
                }
            }
        }
    }
}
