//! What is asked about the relations, functions and types that a statement names: one query with one row and one json column, which cannot
//! raise an error (it may run inside the client's transaction).

use super::catalog::{Name, Relation};
use super::mentions::Mentions;
use super::mixed;
use super::splice::{filled, quote_literal};
use super::statement::{Kind, Statement};
use pg_query::protobuf::{AlterTableCmd, ColumnDef, Constraint as TableConstraint, ObjectType, RangeVar, TypeName};
use pg_query::{Node, NodeEnum};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Where the parent of a new partition stands among the relations asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gains {
    First,
    Second,
}

/// The names to ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub relations: Vec<Name>,
    pub functions: Vec<Name>,
    pub types: Vec<Name>,
    /// Names may be generated for the statement: which ones are taken is asked too, which costs a look at every relation.
    pub names_may_collide: bool,
    /// What inherits from the relations is listed too.
    pub heirs: bool,
    /// Which of the relations gets one more partition, the first or the second: of those it has only the default one counts.
    pub gains_partition: Option<Gains>,
    /// Their columns, indexes, constraints, triggers and rules too.
    pub details: bool,
    /// And what decides about an UPDATE or DELETE of their rows.
    pub rows: bool,
    /// And whether a rule (CREATE RULE), also of a view behind them, makes another statement of a write.
    pub rules: bool,
    /// A domain is changed: which tables have columns of it is asked too.
    pub domain_users: bool,
    /// A column is to be replaced by another: what depends on it is asked too.
    pub column_users: bool,
    /// Whether `lockkeeper.job` can be trusted, not only whether it is there.
    pub jobs: bool,
}

/// The catalog query, PostgreSQL 13 to 18, with the names left open.
const CATALOG_QUERY: &str = include_str!("facts.sql");
const GROUND_QUERY: &str = include_str!("batches/ground.sql");

impl Request {
    /// That relation alone, by its full name.
    pub fn of_table(table: &Relation) -> Request {
        Request {
            relations: vec![Name {
                schema: Some(table.schema.clone()),
                name: table.name.clone(),
            }],
            ..Request::default()
        }
    }

    /// The relations that the statement may lock or change, and the functions and types that decide whether it rewrites one.
    pub fn of(statement: &Statement) -> Request {
        let mut request = Request {
            names_may_collide: matches!(statement.kind, Kind::Ddl)
                && !is_slight(&statement.node)
                && !makes_nothing(&statement.node),
            rows: !matches!(statement.kind, Kind::Ddl) && !is_slight(&statement.node),
            details: !is_slight(&statement.node),
            heirs: matches!(statement.kind, Kind::Ddl) && !leaves_heirs_alone(&statement.node),
            gains_partition: gains_partition(statement),
            rules: writes(statement),
            jobs: true,
            ..Request::default()
        };
        request.statement(&statement.node);
        request.may_be_ruled(statement);
        for inner in statement.body().map_or(&[][..], |body| &body.statements) {
            request.statement(&inner.node);
            request.may_be_ruled(inner);
            request.rules |= writes(inner);
        }
        request
    }

    /// Only the target of an UPDATE or DELETE.
    pub fn target(statement: &Statement) -> Request {
        let mut request = Request {
            details: true,
            rows: true,
            rules: true,
            ..Request::default()
        };
        match &statement.node {
            NodeEnum::UpdateStmt(update) => request.range(&update.relation),
            NodeEnum::DeleteStmt(delete) => request.range(&delete.relation),
            _ => {}
        }
        request
    }

    /// By a rule of these it may change rows.
    fn may_be_ruled(&mut self, statement: &Statement) {
        if matches!(statement.kind, Kind::MixedWrite) {
            let names = mixed::inserted(&statement.node);
            names.into_iter().for_each(|name| self.relation(name));
        }
    }

    /// For [`Request::sql`]: the names, and what the client's search_path decides, which of the relations, functions and types
    /// that are named without a schema it sees. Names of settings below `lockkeeper.`, and expressions of type text that are safe with any
    /// search_path.
    pub fn ahead(&self) -> Vec<(&'static str, String)> {
        let visible = |names: &[Name], catalog: &str, column: &str, function: &str| {
            let names: Vec<String> = unqualified(names)
                .map(|name| format!("{}::pg_catalog.name", quote_literal(name)))
                .collect();
            match names.as_slice() {
                [] => "'{}'".to_string(),
                names => format!(
                    "ARRAY(SELECT o.oid FROM pg_catalog.{catalog} o WHERE o.{column} OPERATOR(pg_catalog.=) ANY (ARRAY[{}]) \
                     AND pg_catalog.{function}(o.oid))::pg_catalog.text",
                    names.join(", ")
                ),
            }
        };
        // Without a sub-select, which would have to be planned each time.
        let relations: Vec<String> = unqualified(&self.relations)
            .map(|name| {
                let quoted = quote_literal(&format!("\"{}\"", name.replace('"', "\"\"")));
                format!("coalesce(pg_catalog.to_regclass({quoted})::pg_catalog.oid, 0::pg_catalog.oid)")
            })
            .collect();
        let relations = match relations.as_slice() {
            [] => "'{}'".to_string(),
            names => format!("ARRAY[{}]::pg_catalog.text", names.join(", ")),
        };
        let schemas = |names: &[Name]| array(names.iter().map(|name| name.schema.as_deref()));
        let last = |names: &[Name]| array(names.iter().map(|name| Some(name.name.as_str())));
        let mut ahead = vec![
            ("relation_schemas", schemas(&self.relations)),
            ("relation_names", last(&self.relations)),
            ("relations", relations),
        ];
        // The parts of the query that read the others are left out without them.
        if !self.functions.is_empty() {
            ahead.extend([
                ("function_schemas", schemas(&self.functions)),
                ("function_names", last(&self.functions)),
                (
                    "functions",
                    visible(&self.functions, "pg_proc", "proname", "pg_function_is_visible"),
                ),
            ]);
        }
        if !self.types.is_empty() {
            ahead.extend([
                ("type_schemas", schemas(&self.types)),
                ("type_names", last(&self.types)),
                (
                    "types",
                    visible(&self.types, "pg_type", "typname", "pg_type_is_visible"),
                ),
            ]);
        }
        ahead
    }

    /// One row, one json column. Asked with a search_path of `pg_catalog, pg_temp`, so that no operator of somebody else's is called, and
    /// with the settings of [`Request::ahead`].
    ///
    /// It cannot raise an error, so that it may run inside the client's transaction, and waits for no relation lock: definitions and sizes
    /// are left out for a relation on which another session holds or awaits ACCESS EXCLUSIVE, since the functions that tell them open it
    /// (pg_get_expr, pg_get_constraintdef, pg_get_indexdef and pg_relation_size do; tried on 15 and 18). Needs no right on the relations.
    pub fn sql(&self) -> String {
        // There are as many texts as variants, and one of a few is asked with every statement.
        static TEXTS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
        let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
        texts.entry(self.variant()).or_insert_with(|| self.text()).clone()
    }

    fn text(&self) -> String {
        let domain_users = if self.domain_users { "true" } else { "false" };
        let values = [
            ("{domain_users}", domain_users.to_owned()),
            ("{jobs}", super::jobs::TRUST.to_owned()),
        ];
        filled(parts_of(CATALOG_QUERY, &kept(&self.parts())).trim_end(), &values)
    }

    /// The parts of the query between `-- if` and `-- end`, and whether they are asked. What is left out is not planned.
    fn parts(&self) -> [(&'static str, bool); 12] {
        [
            ("jobs", self.jobs),
            ("names", self.names_may_collide),
            ("rows", self.rows),
            ("schema", !self.rows),
            ("details", self.details),
            ("rules", self.rules),
            ("heirs", self.heirs),
            ("beside_first", self.gains_partition == Some(Gains::First)),
            ("beside_second", self.gains_partition == Some(Gains::Second)),
            ("columns", self.column_users),
            ("functions", !self.functions.is_empty()),
            ("types", !self.types.is_empty()),
        ]
    }

    /// Which of its texts [`Request::sql`] is: there are so few, since the names are told by [`Request::ahead`], that a session plans each once.
    /// Short: of a prepared statement's name the server takes 63 bytes.
    pub fn variant(&self) -> String {
        let domains = [("domains", self.domain_users)];
        let all: Vec<(&str, bool)> = self.parts().into_iter().chain(domains).collect();
        format!("facts_{}", variant_of(&all))
    }

    /// What a remembered verdict on an UPDATE or DELETE can rest on: the target's keys, statistics and size. Asked as [`Request::sql`] is.
    pub fn ground_sql(&self) -> Option<String> {
        let target = self.relations.first()?;
        let visible = match target.schema.as_deref() {
            None => "c.oid = ANY (pg_catalog.current_setting('lockkeeper.relations')::pg_catalog.oid[])".to_owned(),
            Some("pg_temp") => "c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()".to_owned(),
            Some(schema) => format!(
                "c.relnamespace OPERATOR(pg_catalog.=) (SELECT n.oid FROM pg_catalog.pg_namespace n \
                 WHERE n.nspname OPERATOR(pg_catalog.=) {})",
                quote_literal(schema)
            ),
        };
        let (before, after) = GROUND_QUERY.trim_end().split_once("{name}")?;
        let (between, end) = after.split_once("{visible}")?;
        Some([before, &quote_literal(&target.name), between, &visible, end].concat())
    }

    fn relation(&mut self, name: Name) {
        if !name.name.is_empty() && !self.relations.contains(&name) {
            self.relations.push(name);
        }
    }

    fn range(&mut self, range: &Option<RangeVar>) {
        if let Some(range) = range {
            self.relation(Name::of(range));
        }
    }

    fn ranges(&mut self, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::RangeVar(range)) => self.relation(Name::of(range)),
                Some(NodeEnum::VacuumRelation(relation)) => self.range(&relation.relation),
                Some(NodeEnum::PublicationObjSpec(object)) => {
                    if let Some(table) = &object.pubtable {
                        self.range(&table.relation);
                    }
                }
                _ => {}
            }
        }
    }

    /// A relation that a list of names means: `a`, `s.a`, `db.s.a`.
    fn listed(&mut self, names: &[Node]) {
        if let Some(name) = listed_name(names) {
            self.relation(name);
        }
    }

    fn statement(&mut self, node: &NodeEnum) {
        use NodeEnum as N;
        if let Some(changed) = mixed::changed(node) {
            changed.into_iter().for_each(|name| self.relation(name));
            return;
        }
        match node {
            N::UpdateStmt(update) => self.written(&update.relation, node),
            N::DeleteStmt(delete) => self.written(&delete.relation, node),
            N::AlterTableStmt(alter) => {
                self.range(&alter.relation);
                let table = alter.relation.as_ref().map(Name::of);
                for command in &alter.cmds {
                    if let Some(N::AlterTableCmd(command)) = &command.node {
                        self.alter_command(command, table.as_ref());
                    }
                }
            }
            N::IndexStmt(index) => {
                self.range(&index.relation);
                // An index lives in its table's schema.
                let schema = index.relation.as_ref().map(Name::of).and_then(|table| table.schema);
                let name = index.idxname.clone();
                self.relation(Name { schema, name });
                for part in index.index_params.iter().chain(index.where_clause.as_deref()) {
                    self.expression(part);
                }
            }
            N::DropStmt(drop) => self.dropped(drop),
            N::RenameStmt(rename) => {
                self.column_users |= rename.rename_type() == ObjectType::ObjectColumn;
                self.range(&rename.relation);
            }
            N::AlterObjectSchemaStmt(alter) => self.range(&alter.relation),
            N::AlterOwnerStmt(alter) => self.range(&alter.relation),
            N::AlterObjectDependsStmt(alter) => self.range(&alter.relation),
            N::ReindexStmt(reindex) => self.range(&reindex.relation),
            N::ClusterStmt(cluster) => {
                self.range(&cluster.relation);
                self.beside(&cluster.relation, &cluster.indexname);
            }
            N::RefreshMatViewStmt(refresh) => self.range(&refresh.relation),
            N::TruncateStmt(truncate) => self.ranges(&truncate.relations),
            N::VacuumStmt(vacuum) => self.ranges(&vacuum.rels),
            N::CreateStatsStmt(create) => self.ranges(&create.relations),
            N::CreatePublicationStmt(create) => self.ranges(&create.pubobjects),
            N::AlterPublicationStmt(alter) => self.ranges(&alter.pubobjects),
            N::CreateTrigStmt(create) => {
                self.range(&create.relation);
                self.range(&create.constrrel);
            }
            N::RuleStmt(rule) => self.range(&rule.relation),
            N::CreatePolicyStmt(policy) => self.range(&policy.table),
            N::AlterPolicyStmt(policy) => self.range(&policy.table),
            N::AlterSeqStmt(alter) => self.range(&alter.sequence),
            N::AlterDomainStmt(alter) => {
                self.domain_users = true;
                if let Some(name) = listed_name(&alter.type_name) {
                    self.types.push(name);
                }
            }
            N::LockStmt(lock) => self.ranges(&lock.relations),
            N::ViewStmt(view) => self.range(&view.view),
            N::CreateStmt(create) => self.create_table(create),
            N::CreateForeignTableStmt(create) => {
                if let Some(base) = &create.base_stmt {
                    self.create_table(base);
                }
            }
            N::CreateSchemaStmt(schema) => {
                for element in schema.schema_elts.iter().filter_map(|element| element.node.as_ref()) {
                    self.statement(element);
                }
            }
            N::CommentStmt(comment) => self.commented(comment.objtype(), &comment.object),
            N::SecLabelStmt(label) => self.commented(label.objtype(), &label.object),
            _ => {}
        }
    }

    /// The target first, then what the rest of the statement reads and calls.
    fn written(&mut self, target: &Option<RangeVar>, node: &NodeEnum) {
        self.range(target);
        let mentions = Mentions::of(node);
        for name in mentions.relations {
            self.relation(name);
        }
        for name in mentions.functions {
            if !self.functions.contains(&name) {
                self.functions.push(name);
            }
        }
    }

    fn alter_command(&mut self, command: &AlterTableCmd, table: Option<&Name>) {
        use pg_query::protobuf::AlterTableType as A;
        let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
        self.column_users |= command.subtype() == A::AtAlterColumnType;
        match definition {
            Some(NodeEnum::ColumnDef(column)) => self.column(column),
            Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint, table),
            // INHERIT, NO INHERIT
            Some(NodeEnum::RangeVar(parent)) => self.relation(Name::of(parent)),
            Some(NodeEnum::PartitionCmd(partition)) => self.range(&partition.name),
            Some(NodeEnum::TypeName(of)) => self.type_name(of),
            Some(NodeEnum::ReplicaIdentityStmt(identity)) => self.in_schema_of(table, &identity.name),
            Some(_) if command.subtype() == A::AtColumnDefault => {
                if let Some(def) = &command.def {
                    self.expression(def);
                }
            }
            _ => {}
        }
        if command.subtype() == A::AtClusterOn {
            self.in_schema_of(table, &command.name);
        }
    }

    fn column(&mut self, column: &ColumnDef) {
        if let Some(type_name) = &column.type_name {
            self.type_name(type_name);
        }
        // ALTER COLUMN TYPE carries its USING here.
        if let Some(default) = &column.raw_default {
            self.expression(default);
        }
        for constraint in &column.constraints {
            if let Some(NodeEnum::Constraint(constraint)) = &constraint.node {
                self.constraint(constraint, None);
            }
        }
    }

    fn constraint(&mut self, constraint: &TableConstraint, table: Option<&Name>) {
        self.range(&constraint.pktable);
        self.in_schema_of(table, &constraint.indexname);
        if let Some(expression) = &constraint.raw_expr {
            self.expression(expression);
        }
    }

    fn create_table(&mut self, create: &pg_query::protobuf::CreateStmt) {
        self.range(&create.relation);
        self.ranges(&create.inh_relations);
        if let Some(of) = &create.of_typename {
            self.type_name(of);
        }
        for element in create.table_elts.iter().chain(&create.constraints) {
            match &element.node {
                Some(NodeEnum::ColumnDef(column)) => self.column(column),
                Some(NodeEnum::Constraint(constraint)) => self.constraint(constraint, None),
                Some(NodeEnum::TableLikeClause(like)) => self.range(&like.relation),
                _ => {}
            }
        }
    }

    fn dropped(&mut self, drop: &pg_query::protobuf::DropStmt) {
        use ObjectType as O;
        for object in drop.objects.iter().filter_map(|object| object.node.as_ref()) {
            let NodeEnum::List(list) = object else {
                continue;
            };
            match drop.remove_type() {
                O::ObjectTable
                | O::ObjectIndex
                | O::ObjectView
                | O::ObjectMatview
                | O::ObjectSequence
                | O::ObjectForeignTable => self.listed(&list.items),
                // The last name is the trigger's, rule's or policy's own.
                O::ObjectTrigger | O::ObjectRule | O::ObjectPolicy => {
                    if let Some((_, table)) = list.items.split_last() {
                        self.listed(table);
                    }
                }
                _ => {}
            }
        }
    }

    fn commented(&mut self, kind: ObjectType, object: &Option<Box<Node>>) {
        use ObjectType as O;
        let Some(NodeEnum::List(list)) = object.as_ref().and_then(|object| object.node.as_ref()) else {
            return;
        };
        match kind {
            O::ObjectTable
            | O::ObjectIndex
            | O::ObjectView
            | O::ObjectMatview
            | O::ObjectSequence
            | O::ObjectForeignTable => self.listed(&list.items),
            O::ObjectColumn | O::ObjectTabconstraint | O::ObjectTrigger | O::ObjectRule | O::ObjectPolicy => {
                if let Some((_, table)) = list.items.split_last() {
                    self.listed(table);
                }
            }
            _ => {}
        }
    }

    /// An index that is named without a schema, since it can only be in its table's.
    fn beside(&mut self, table: &Option<RangeVar>, name: &str) {
        self.in_schema_of(table.as_ref().map(Name::of).as_ref(), name);
    }

    fn in_schema_of(&mut self, table: Option<&Name>, name: &str) {
        self.relation(Name {
            schema: table.and_then(|table| table.schema.clone()),
            name: name.to_string(),
        });
    }

    fn type_name(&mut self, type_name: &TypeName) {
        if let Some(name) = listed_name(&type_name.names)
            && !is_of_grammar(&name)
            && !self.types.contains(&name)
        {
            self.types.push(name);
        }
    }

    fn expression(&mut self, node: &Node) {
        for name in functions_called(node) {
            if !self.functions.contains(&name) {
                self.functions.push(name);
            }
        }
        for name in named_in(node, "TypeName { names: [") {
            if !is_of_grammar(&name) && !self.types.contains(&name) {
                self.types.push(name);
            }
        }
    }
}

/// A type that a word of SQL's own means, as int or timestamp, whatever the search_path: it is no domain, and nobody may put another in its
/// place.
fn is_of_grammar(name: &Name) -> bool {
    const NAMES: [&str; 17] = [
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "bool",
        "bit",
        "varbit",
        "bpchar",
        "varchar",
        "timestamp",
        "timestamptz",
        "time",
        "timetz",
        "interval",
        "json",
    ];
    name.schema.as_deref() == Some("pg_catalog") && NAMES.contains(&name.name.as_str())
}

/// A column of such a type without anything that could rewrite or read the table, or make an object besides it.
fn is_bare_column(command: &AlterTableCmd) -> bool {
    use pg_query::protobuf::ConstrType as C;
    let is_null =
        |constraint: &Node| matches!(&constraint.node, Some(NodeEnum::Constraint(c)) if c.contype() == C::ConstrNull);
    match command.def.as_ref().and_then(|def| def.node.as_ref()) {
        Some(NodeEnum::ColumnDef(column)) => {
            !command.missing_ok
                && column.constraints.iter().all(is_null)
                && column.type_name.as_ref().is_some_and(|type_name| {
                    !type_name.setof && listed_name(&type_name.names).is_some_and(|name| is_of_grammar(&name))
                })
        }
        _ => false,
    }
}

/// What columns, indexes and constraints the relation has decides nothing either: one that is not there is the server's to refuse.
pub(crate) fn is_slight(node: &NodeEnum) -> bool {
    use pg_query::protobuf::AlterTableType as A;
    let is_slight = |command: &pg_query::protobuf::Node| match &command.node {
        Some(NodeEnum::AlterTableCmd(command)) => match command.subtype() {
            // Of a column that loses its default it decides whether it is NOT NULL.
            A::AtColumnDefault => command
                .def
                .as_deref()
                .is_some_and(|default| !crate::tree::is_null(default)),
            A::AtSetStatistics
            | A::AtSetOptions
            | A::AtResetOptions
            | A::AtSetStorage
            | A::AtSetRelOptions
            | A::AtResetRelOptions
            | A::AtChangeOwner => true,
            A::AtAddColumn => is_bare_column(command),
            _ => false,
        },
        _ => false,
    };
    matches!(node, NodeEnum::AlterTableStmt(alter) if alter.cmds.iter().all(is_slight))
}

/// Nothing is made by it, nor by what is done in its place, whose name could collide.
fn makes_nothing(node: &NodeEnum) -> bool {
    matches!(node, NodeEnum::DropStmt(_) | NodeEnum::ViewStmt(_))
}

/// Which partitions and children the relation has decides nothing: only how large they are in all, which is told of the relation itself.
fn leaves_heirs_alone(node: &NodeEnum) -> bool {
    use pg_query::protobuf::AlterTableType as A;
    let is_plain = |command: &AlterTableCmd| match command.subtype() {
        A::AtColumnDefault
        | A::AtDropNotNull
        | A::AtSetStatistics
        | A::AtSetOptions
        | A::AtResetOptions
        | A::AtSetStorage
        | A::AtSetCompression
        | A::AtChangeOwner
        | A::AtSetRelOptions
        | A::AtResetRelOptions
        | A::AtReplicaIdentity
        | A::AtClusterOn
        | A::AtDropCluster
        | A::AtEnableTrig
        | A::AtDisableTrig
        | A::AtEnableRowSecurity
        | A::AtDisableRowSecurity
        | A::AtForceRowSecurity
        | A::AtNoForceRowSecurity => true,
        A::AtAddColumn => match command.def.as_ref().and_then(|def| def.node.as_ref()) {
            Some(NodeEnum::ColumnDef(column)) => column.constraints.iter().all(|constraint| {
                use pg_query::protobuf::ConstrType as C;
                matches!(&constraint.node, Some(NodeEnum::Constraint(c))
                    if matches!(c.contype(), C::ConstrDefault | C::ConstrNull | C::ConstrNotnull))
            }),
            _ => false,
        },
        _ => false,
    };
    match node {
        NodeEnum::AlterTableStmt(alter) => alter.cmds.iter().all(|command| match &command.node {
            Some(NodeEnum::AlterTableCmd(command)) => is_plain(command),
            _ => false,
        }),
        NodeEnum::CommentStmt(_) | NodeEnum::SecLabelStmt(_) => true,
        // INHERITS and LIKE lock the parent alone; a foreign key to a partitioned table locks its partitions too, and of a new
        // partition the default one counts.
        NodeEnum::CreateStmt(create) => create.partbound.is_none() && !crate::tree::references(create),
        _ => false,
    }
}

fn writes(statement: &Statement) -> bool {
    !matches!(statement.kind, Kind::Ddl | Kind::Harmless)
}

fn gains_partition(statement: &Statement) -> Option<Gains> {
    match &statement.node {
        // By a foreign key of its own it locks what it refers to, with all its partitions.
        NodeEnum::CreateStmt(create) if create.partbound.is_some() && !crate::tree::references(create) => {
            Some(Gains::Second)
        }
        _ => statement.attached().map(|_| Gains::First),
    }
}

/// A letter for each part that is asked, whatever it is called: no two choices have the same.
pub(crate) fn variant_of(parts: &[(&str, bool)]) -> String {
    let asked = (b'a'..).zip(parts).filter(|(_, (_, is))| *is);
    asked.map(|(letter, _)| char::from(letter)).collect()
}

pub(crate) fn kept<'a>(parts: &[(&'a str, bool)]) -> Vec<&'a str> {
    parts.iter().filter(|(_, is)| *is).map(|(part, _)| *part).collect()
}

/// The text with those of its parts that are kept.
pub(crate) fn parts_of(text: &str, kept: &[&str]) -> String {
    let mut all = String::with_capacity(text.len());
    // Of the parts around a line, whether each is left out.
    let mut around = Vec::new();
    for line in text.lines() {
        if let Some(part) = line.strip_prefix("-- if ") {
            around.push(!kept.contains(&part));
        } else if line == "-- end" {
            around.pop();
        } else if !around.contains(&true) {
            all.push_str(line);
            all.push('\n');
        }
    }
    all
}

/// Those that the search_path finds.
fn unqualified(names: &[Name]) -> impl Iterator<Item = &str> {
    let without = names.iter().filter(|name| name.schema.is_none());
    without.map(|name| name.name.as_str())
}

/// An array of type text[] as it is written, as a literal.
fn array<'a>(items: impl Iterator<Item = Option<&'a str>>) -> String {
    let item = |item: Option<&str>| match item {
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        // A client with array_nulls off has NULL read as a name; an empty one is nobody's.
        None => "\"\"".to_string(),
    };
    quote_literal(&format!("{{{}}}", items.map(item).collect::<Vec<_>>().join(",")))
}

/// The functions that an expression calls by name, anywhere in it. CURRENT_TIMESTAMP and the like are no functions; operators are not
/// looked into.
pub fn functions_called(expression: &Node) -> Vec<Name> {
    named_in(expression, "FuncCall { funcname: [")
}

/// The names that stand behind `mark` in the tree's Debug text. No walker of the library visits every kind of node, and a function
/// that is overlooked would count as not volatile; the Debug text has them all.
fn named_in(node: &Node, mark: &str) -> Vec<Name> {
    let debug = format!("{node:?}");
    let mut names = Vec::new();
    let mut rest = debug.as_str();
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            rest = &rest[quoted(rest).1..];
        } else if let Some(list) = rest.strip_prefix(mark) {
            let mut parts = Vec::new();
            rest = list;
            while let Some(at) = rest.find(['"', ']']).filter(|&at| rest[at..].starts_with('"')) {
                let (part, length) = quoted(&rest[at..]);
                parts.push(part);
                rest = &rest[at + length..];
            }
            if let Some(name) = parts.pop() {
                names.push(Name {
                    schema: parts.pop(),
                    name,
                });
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    names
}

/// A string as Debug writes it, read back, and its length in the text.
fn quoted(text: &str) -> (String, usize) {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, at + 1),
            '\\' => match chars.next().map(|(_, escape)| escape) {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some('0') => value.push('\0'),
                Some('u') => {
                    let digits: String = chars
                        .by_ref()
                        .map(|(_, c)| c)
                        .skip(1)
                        .take_while(|&c| c != '}')
                        .collect();
                    value.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                Some(other) => value.push(other),
                None => {}
            },
            c => value.push(c),
        }
    }
    (value, text.len())
}

/// The last two of a list of names; a database before them can only be the current one.
fn listed_name(names: &[Node]) -> Option<Name> {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        _ => None,
    };
    let (last, before) = names.split_last()?;
    Some(Name {
        schema: match before.last() {
            Some(schema) => Some(text(schema)?),
            None => None,
        },
        name: text(last)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::reading::read;
    use super::*;

    fn request(sql: &str) -> Request {
        let statements = read(sql.as_bytes(), true).unwrap();
        assert_eq!(statements.len(), 1, "{sql:?}");
        Request::of(&statements[0])
    }

    fn list(names: &[Name]) -> String {
        let text = |n: &Name| n.schema.as_ref().map_or(n.name.clone(), |s| format!("{s}.{}", n.name));
        names.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn relations_that_statements_name() {
        let check = |sql: &str, expect: &str| assert_eq!(list(&request(sql).relations), expect, "{sql:?}");
        check("select * from t", "");
        check("update only s.t set a = 1", "s.t");
        check("delete from db.s.t as x using u", "s.t u");
        check(
            "with c as (select 1 from s.a) update t set a = 1 from c where b in (select 1 from d)",
            "t c d s.a",
        );
        check("update t set a = 1 order by b limit 5", "t");
        check("alter table t add a int, add b int", "t");
        check("alter table s.t add foreign key (a) references r", "s.t r");
        check("alter table t add a int references x.r unique", "t x.r");
        check("alter table s.t add constraint c unique using index i", "s.t s.i");
        check(
            "alter table s.t replica identity using index i, cluster on j",
            "s.t s.i s.j",
        );
        check("alter table t attach partition s.p for values in (1)", "t s.p");
        check("alter table t detach partition p", "t p");
        check("alter table t inherit u, no inherit v", "t u v");
        check("alter table t rename a to b", "t");
        check("alter index s.i rename to j", "s.i");
        check("alter table t set schema s", "t");
        check("create index i on s.t(a)", "s.t s.i");
        check("create unique index on t(a)", "t");
        check("drop table a, s.b, db.s.c cascade", "a s.b s.c");
        check("drop index concurrently s.i", "s.i");
        check("drop view v", "v");
        check("drop function f()", "");
        check("drop type t", "");
        check("drop trigger x on s.t", "s.t");
        check("drop policy x on t", "t");
        check("reindex table t", "t");
        check("reindex schema t", "");
        check("cluster s.t using i", "s.t s.i");
        check("cluster", "");
        check("truncate a, only s.b", "a s.b");
        check("vacuum full a, s.b(c)", "a s.b");
        check("refresh materialized view concurrently v", "v");
        check(
            "create table t (a int references r, like l including all) inherits (p)",
            "t p r l",
        );
        check("create table t partition of s.p for values in (1)", "t s.p");
        check(
            "create trigger x before insert on s.t for each row execute function f()",
            "s.t",
        );
        check(
            "create constraint trigger x after insert on s.t from u for each row execute function f()",
            "s.t u",
        );
        check("create rule x as on insert to t do nothing", "t");
        check("create policy p on t", "t");
        check("comment on column s.t.a is 'x'", "s.t");
        check("comment on table t is 'x'", "t");
        check("comment on constraint c on s.t is 'x'", "s.t");
        check("alter sequence s.q owned by none", "s.q");
        check("create or replace view v as select 1", "v");
        check("create schema s create table s.t (a int references r)", "s.t r");
        check("create statistics x on a, b from s.t", "s.t");
        check("alter publication p add table s.t", "s.t");
    }

    #[test]
    fn functions_and_types_that_statements_name() {
        let check = |sql: &str, functions: &str, types: &str| {
            let request = request(sql);
            assert_eq!(
                (list(&request.functions).as_str(), list(&request.types).as_str()),
                (functions, types),
                "{sql:?}"
            );
        };
        check("alter table t add a int default random()", "random", "");
        check("alter table t add a s.d default current_timestamp", "", "s.d");
        check("alter table t add a serial", "", "serial");
        check(
            "alter table t add a x default case when coalesce(s.f(1), array[g('FuncCall { funcname: [')]) is null then (nextval('q'))::y.z end",
            "s.f g nextval",
            "x y.z",
        );
        check(
            "alter table t alter a set default gen_random_uuid()",
            "gen_random_uuid",
            "",
        );
        check(
            "alter table t alter a type text using \"F\\x\"(a)",
            "F\\x",
            "pg_catalog.text".trim_start_matches("pg_catalog."),
        );
        check(
            "alter table t add a int generated always as (f(b)) stored check (g(a) > h.i(1))",
            "f g h.i",
            "",
        );
        check(
            "alter table t add check (xmlconcat(f(a)) is null and g(row(h(1))) > all (array[j()]))",
            "f g h j",
            "",
        );
        check("create index on t (lower(a)) where f(b)", "lower f", "");
        check("alter table t alter a drop default", "", "");
    }

    #[test]
    fn the_query_is_one_select() {
        let names = |names: &[(Option<&str>, &str)]| -> Vec<Name> {
            let name = |(schema, name): &(Option<&str>, &str)| Name {
                schema: schema.map(str::to_string),
                name: name.to_string(),
            };
            names.iter().map(name).collect()
        };
        let odd = names(&[
            (None, "t"),
            (Some("S'; drop table t; --"), "We'ird\\'x"),
            (Some("{types}"), "{functions}"),
        ]);
        let full = Request {
            names_may_collide: true,
            heirs: true,
            gains_partition: Some(Gains::First),
            details: true,
            rows: true,
            rules: true,
            domain_users: true,
            column_users: true,
            jobs: true,
            relations: odd.clone(),
            functions: odd.clone(),
            types: odd,
        };
        let second = Request {
            gains_partition: Some(Gains::Second),
            ..full.clone()
        };
        // Of a prepared statement's name the server takes 63 bytes, of which ours has 28 before this.
        assert!(full.variant().len() < 30, "{}", full.variant());
        assert_ne!(full.variant(), second.variant());
        for request in [&Request::default(), &full, &second] {
            let statements = read(request.sql().as_bytes(), true).unwrap();
            assert!(matches!(
                &statements[..],
                [Statement {
                    node: NodeEnum::SelectStmt(_),
                    ..
                }]
            ));
        }
        let ahead: Vec<String> = full.ahead().into_iter().map(|(_, expression)| expression).collect();
        let ahead = format!("SELECT {}", ahead.join(", "));
        assert!(ahead.contains("\"S''; drop table t; --\""), "{ahead}");
        // The escape form means the same with standard_conforming_strings off.
        for conforming in [true, false] {
            assert_eq!(
                read(ahead.as_bytes(), conforming).map(|all| all.len()).ok(),
                Some(1),
                "{ahead}"
            );
        }
        // What opens a relation, and so could wait or fail, stands behind the question whether it is busy.
        for function in [
            "pg_relation_size(",
            "pg_get_expr(",
            "pg_get_indexdef(",
            "pg_get_constraintdef(",
            "pg_relation_is_updatable(",
        ] {
            let guarded = CATALOG_QUERY.lines().collect::<Vec<_>>();
            let uses: Vec<_> = (0..guarded.len()).filter(|&i| guarded[i].contains(function)).collect();
            assert!(!uses.is_empty());
            assert!(
                uses.iter()
                    .all(|&i| guarded[i - 1..=i].iter().any(|line| line.contains("busy"))),
                "{function}"
            );
        }
        assert!(!CATALOG_QUERY.contains("regclass"));
    }
}
