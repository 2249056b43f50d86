//! Later statements of the same transaction that meet what waits for its COMMIT: they wait behind it, take it back, or are
//! refused. Nothing runs against a schema that is half made.

use crate::catalog::{Name, Relation};
use crate::finding::Rejection;
use crate::rules::{self, nonconcurrent_drop_index};
use crate::splice::one_statement;
use crate::statement::{Kind, Statement};
use crate::step::Place;
use crate::subject::Subject;
use crate::tree;
use crate::waiting::{Stored, Waiting};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType as A, ConstrType, CreateStmt, ObjectType as O, RangeVar};
use serde_json::Value;

/// What such a statement comes to.
pub(crate) enum Met<'a> {
    /// It is that job, left unfinished by an earlier transaction.
    Same(&'a Waiting),
    /// The whole of it waits too, behind that job.
    Behind(&'a Waiting),
    /// What it would have made is waited for: all of its steps come later.
    AllLater,
    Withdraw(Vec<&'a Waiting>),
    /// IF NOT EXISTS, IF EXISTS: the server's notice.
    Skip(String),
    Refuse(Rejection),
}

pub(crate) fn met<'a>(subject: &Subject<'a>) -> Option<Met<'a>> {
    let facts = subject.facts;
    if facts.waiting.is_empty() || subject.place == Place::Pipeline {
        return None;
    }
    let text = subject.statement.sql.trim();
    // An index that is gone already, perhaps by this very job, whose end was not written.
    let removed = |job: &Waiting| match &subject.statement.node {
        NodeEnum::DropStmt(drop) => {
            let names = nonconcurrent_drop_index::dropped(drop);
            !job.details.removes.is_empty() && names.iter().any(|name| facts.relation(name).is_none())
        }
        _ => false,
    };
    let open = |job: &&Waiting| !job.pending && (job.there || removed(job)) && !job.is_paused();
    if matches!(subject.statement.kind, Kind::Write) {
        // Alone it goes on by itself, as any other large write.
        let block = subject.place == Place::Block;
        let same = |job: &&Waiting| job.details.write && Some(job.id) == facts.open_job;
        return facts
            .waiting
            .iter()
            .filter(open)
            .find(same)
            .filter(|_| block)
            .map(Met::Same);
    }
    let same = |job: &&Waiting| !job.details.write && job.statement == text;
    if let Some(job) = facts.waiting.iter().filter(open).find(same) {
        return Some(Met::Same(job));
    }
    let pending: Vec<&Waiting> = facts.waiting.iter().filter(|job| job.pending && job.there).collect();
    if pending.is_empty() || subject.place != Place::Block {
        return None;
    }
    let jobs = Jobs { subject, pending };
    jobs.met().or_else(|| jobs.behind_write())
}

/// The UPDATE or DELETE of that table that waits for this transaction's COMMIT.
pub(crate) fn write_on(waiting: &[Waiting], relation: u32) -> Option<&Waiting> {
    waiting
        .iter()
        .find(|job| job.pending && job.details.write && job.relation == relation)
}

/// Whether the statement reads or writes the rows of that table, as far as its text tells.
pub fn uses_rows(statement: &Statement, schema: &str, table: &str) -> bool {
    match &statement.node {
        NodeEnum::DoStmt(_) => statement.sql.contains(table),
        NodeEnum::SelectStmt(_)
        | NodeEnum::InsertStmt(_)
        | NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::MergeStmt(_)
        | NodeEnum::CopyStmt(_)
        | NodeEnum::CreateTableAsStmt(_)
        | NodeEnum::DeclareCursorStmt(_)
        | NodeEnum::PrepareStmt(_)
        | NodeEnum::ExplainStmt(_) => match serde_json::to_value(&statement.node) {
            Ok(tree) => names_relation(&tree, schema, table),
            Err(_) => true,
        },
        _ => false,
    }
}

/// Whether the statement asks the catalog for an index or constraint of that name, as far as its text tells.
pub fn looks_up(statement: &Statement, name: &str) -> bool {
    const ASKED: &[&str] = &["pg_", "to_reg", "regclass", "information_schema"];
    let asks = matches!(
        statement.node,
        NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_)
            | NodeEnum::CreateTableAsStmt(_)
            | NodeEnum::DeclareCursorStmt(_)
            | NodeEnum::PrepareStmt(_)
            | NodeEnum::DoStmt(_)
            | NodeEnum::CallStmt(_)
    );
    // As a whole constant, or behind a schema: a short name is a part of many words.
    let sql = &statement.sql;
    let constant = [format!("'{name}'"), format!(".{name}'"), format!("\"{name}\"'")];
    let lower = sql.to_ascii_lowercase();
    asks && constant.iter().any(|text| sql.contains(text)) && ASKED.iter().any(|word| lower.contains(word))
}

fn names_relation(tree: &Value, schema: &str, table: &str) -> bool {
    match tree {
        Value::Array(items) => items.iter().any(|item| names_relation(item, schema, table)),
        Value::Object(fields) => {
            let is = |field: &str, wanted: &str| fields.get(field).and_then(Value::as_str) == Some(wanted);
            (is("relname", table) && (is("schemaname", "") || is("schemaname", schema)))
                || fields.values().any(|field| names_relation(field, schema, table))
        }
        _ => false,
    }
}

/// LIKE … INCLUDING INDEXES
const LIKE_INDEXES: u32 = 1 << 6;

struct Jobs<'s, 'a> {
    subject: &'s Subject<'a>,
    pending: Vec<&'a Waiting>,
}

impl<'a> Jobs<'_, 'a> {
    fn met(&self) -> Option<Met<'a>> {
        match &self.subject.statement.node {
            NodeEnum::IndexStmt(index) => {
                let name = Name {
                    schema: index
                        .relation
                        .as_ref()
                        .and_then(|r| self.relation(r))
                        .map(|r| r.schema.clone()),
                    name: index.idxname.clone(),
                };
                self.bringing(&name)?;
                Some(self.exists(&name, index.if_not_exists))
            }
            NodeEnum::CreateStmt(create) => {
                let name = Name::of(create.relation.as_ref()?);
                match self.bringing(&name) {
                    Some(_) => Some(self.exists(&name, create.if_not_exists)),
                    None => self.copies(create),
                }
            }
            NodeEnum::DropStmt(drop) if drop.remove_type() == O::ObjectIndex => self.dropped(drop),
            NodeEnum::RenameStmt(rename) if rename.rename_type() == O::ObjectIndex => {
                self.bringing(&Name::of(rename.relation.as_ref()?)).map(Met::Behind)
            }
            NodeEnum::RenameStmt(rename) => {
                let job = self.on(rename.relation.as_ref()?)?;
                let concerns = match rename.rename_type() {
                    O::ObjectColumn => mentions(job, &rename.subname),
                    O::ObjectTabconstraint => mentions(job, &rename.subname),
                    O::ObjectTable => true,
                    _ => false,
                };
                concerns.then(|| self.refuse(job))
            }
            NodeEnum::AlterObjectSchemaStmt(alter) => self.on(alter.relation.as_ref()?).map(|job| self.refuse(job)),
            NodeEnum::CommentStmt(comment) => {
                let Some(NodeEnum::List(list)) = comment.object.as_ref().and_then(|o| o.node.as_ref()) else {
                    return None;
                };
                let mut names = tree::names(&list.items);
                let name = names.pop()?;
                match comment.objtype() {
                    O::ObjectIndex => self
                        .bringing(&Name {
                            schema: names.pop(),
                            name,
                        })
                        .map(Met::Behind),
                    O::ObjectTabconstraint => {
                        let table = Name {
                            name: names.pop()?,
                            schema: names.pop(),
                        };
                        let table = self.subject.facts.relation(&table)?;
                        self.of(table)
                            .find(|job| job.details.brings.contains(&name))
                            .map(Met::Behind)
                    }
                    _ => None,
                }
            }
            NodeEnum::ClusterStmt(cluster) => {
                let job = self.on(cluster.relation.as_ref()?)?;
                job.details
                    .brings
                    .contains(&cluster.indexname)
                    .then(|| self.refuse(job))
            }
            NodeEnum::ReindexStmt(reindex) => {
                let job = self.bringing(&Name::of(reindex.relation.as_ref()?))?;
                Some(self.refuse(job))
            }
            NodeEnum::AlterTableStmt(alter) => {
                let range = alter.relation.as_ref()?;
                if alter.objtype() == O::ObjectIndex {
                    return self.bringing(&Name::of(range)).map(Met::Behind);
                }
                let commands: Vec<&AlterTableCmd> = self.subject.actions().collect();
                commands
                    .iter()
                    .find_map(|command| self.command(range, command, commands.len() == 1))
            }
            _ => None,
        }
    }

    /// A new table that takes from another what that one is still to get.
    fn copies(&self, create: &CreateStmt) -> Option<Met<'a>> {
        let like = create.table_elts.iter().filter_map(|element| match &element.node {
            Some(NodeEnum::TableLikeClause(like)) => {
                let with_indexes = like.options & LIKE_INDEXES != 0;
                self.leaving(like.relation.as_ref()?, with_indexes)
            }
            _ => None,
        });
        let is_partition = create.partbound.is_some();
        let parents = create.inh_relations.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::RangeVar(parent)) => self.leaving(parent, is_partition),
            _ => None,
        });
        let job = like.chain(parents).next()?;
        Some(self.refuse_for(job, "this statement would not find what it brings"))
    }

    /// What waits for that table and would be missed by what is made after it. Indexes alone are not taken over by every statement.
    fn leaving(&self, range: &RangeVar, with_indexes: bool) -> Option<&'a Waiting> {
        let table = self.relation(range)?;
        self.of(table)
            .find(|job| !job.details.write && (with_indexes || !is_one_build(job)))
    }

    /// A schema change of a table whose rows are yet to change: it comes after that, or not at all.
    fn behind_write(&self) -> Option<Met<'a>> {
        let writes = |range: &Option<RangeVar>| {
            let table = self.relation(range.as_ref()?)?;
            self.of(table).find(|job| job.details.write)
        };
        let comes_later = |node: &pg_query::protobuf::Node| {
            let Some(NodeEnum::AlterTableCmd(command)) = &node.node else {
                return false;
            };
            matches!(command.subtype(), A::AtAddColumn | A::AtAddConstraint | A::AtSetNotNull)
        };
        match &self.subject.statement.node {
            NodeEnum::IndexStmt(index) => writes(&index.relation).map(|_| Met::AllLater),
            NodeEnum::AlterTableStmt(alter) => {
                let job = writes(&alter.relation)?;
                Some(match alter.cmds.iter().all(comes_later) {
                    true => Met::AllLater,
                    false => self.refuse(job),
                })
            }
            NodeEnum::CreateTrigStmt(trigger) => writes(&trigger.relation).map(|job| self.refuse(job)),
            NodeEnum::RuleStmt(rule) => writes(&rule.relation).map(|job| self.refuse(job)),
            _ => None,
        }
    }

    /// One action of an ALTER TABLE; `alone` if there is no other.
    fn command(&self, range: &RangeVar, command: &AlterTableCmd, alone: bool) -> Option<Met<'a>> {
        let definition = command.def.as_ref().and_then(|d| d.node.as_ref());
        if let Some(NodeEnum::Constraint(constraint)) = definition
            && constraint.contype() == ConstrType::ConstrForeign
            && let Some(referenced) = constraint.pktable.as_ref().and_then(|r| self.relation(r))
            && let columns = tree::names(&constraint.pk_attrs)
            && !is_unique(referenced, &columns)
            && self.of(referenced).any(|job| brings_key(job, &columns))
        {
            return Some(Met::AllLater);
        }
        let table = self.relation(range)?;
        if makes_primary_key(command) && self.of(table).any(|job| brings_key(job, &[])) {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            return Some(Met::Refuse(rejection("42P16", message, String::new())));
        }
        let needs = |name: &str| self.of(table).find(|job| job.details.brings.iter().any(|b| b == name));
        // The other table of ATTACH, DETACH and INHERIT.
        let other = match definition {
            Some(NodeEnum::PartitionCmd(partition)) => partition.name.as_ref(),
            Some(NodeEnum::RangeVar(parent)) => Some(parent),
            _ => None,
        };
        let with_indexes = !matches!(command.subtype(), A::AtAddInherit | A::AtDropInherit);
        let joins = matches!(
            command.subtype(),
            A::AtAttachPartition | A::AtDetachPartition | A::AtAddInherit | A::AtDropInherit
        );
        if joins
            && let Some(job) = [Some(range), other]
                .into_iter()
                .flatten()
                .find_map(|range| self.leaving(range, with_indexes))
            // One partition takes nothing from another, and each is proven with those before it.
            && !(command.subtype() == A::AtAttachPartition && attaches(job))
        {
            return Some(self.refuse_for(job, "this statement would not find what it brings"));
        }
        let waits = |job: &'a Waiting| if alone { Met::Behind(job) } else { self.refuse(job) };
        match (command.subtype(), definition) {
            (A::AtAddConstraint, Some(NodeEnum::Constraint(constraint))) => match constraint.indexname.as_str() {
                "" if constraint.conname.is_empty() => None,
                "" => needs(&constraint.conname).map(|_| {
                    let message = format!(
                        "constraint \"{}\" for relation \"{}\" already exists",
                        constraint.conname, table.name
                    );
                    Met::Refuse(rejection("42710", message, String::new()))
                }),
                index => needs(index).map(waits),
            },
            (A::AtReplicaIdentity, Some(NodeEnum::ReplicaIdentityStmt(identity))) => needs(&identity.name).map(waits),
            (A::AtClusterOn, _) => needs(&command.name).map(waits),
            (A::AtDropConstraint, _) => {
                let job = self.of(table).find(|job| mentions(job, &command.name))?;
                let only_this = job.details.brings == [command.name.clone()] && is_one_index(job);
                Some(if only_this && alone {
                    Met::Withdraw(vec![job])
                } else {
                    self.refuse(job)
                })
            }
            (A::AtDropColumn | A::AtDropNotNull, _) => {
                let job = self.of(table).find(|job| mentions(job, &command.name))?;
                Some(self.refuse(job))
            }
            _ => None,
        }
    }

    fn dropped(&self, drop: &pg_query::protobuf::DropStmt) -> Option<Met<'a>> {
        let names = nonconcurrent_drop_index::dropped(drop);
        let gone = |name: &&Name| self.pending.iter().any(|job| has(job, name, &job.details.removes));
        if let Some(name) = names.iter().find(gone) {
            let message = format!("index \"{}\" does not exist", name.name);
            return Some(match drop.missing_ok && names.len() == 1 {
                true => Met::Skip(format!("{message}, skipping")),
                false => Met::Refuse(rejection("42704", message, String::new())),
            });
        }
        let jobs: Vec<&Waiting> = names.iter().filter_map(|name| self.bringing(name)).collect();
        let first = *jobs.first()?;
        let all = jobs.len() == names.len();
        match all
            && jobs
                .iter()
                .all(|job| job.details.brings.len() == 1 && is_one_build(job))
        {
            true => Some(Met::Withdraw(jobs)),
            false => Some(self.refuse(first)),
        }
    }

    fn relation(&self, range: &RangeVar) -> Option<&'a Relation> {
        self.subject.facts.relation(&Name::of(range))
    }

    fn of(&self, table: &Relation) -> impl Iterator<Item = &'a Waiting> {
        let oid = table.oid;
        self.pending.iter().copied().filter(move |job| job.relation == oid)
    }

    /// The first job on that table.
    fn on(&self, range: &RangeVar) -> Option<&'a Waiting> {
        self.relation(range).and_then(|table| self.of(table).next())
    }

    /// The job that makes an index or constraint of that name.
    fn bringing(&self, name: &Name) -> Option<&'a Waiting> {
        self.pending
            .iter()
            .copied()
            .find(|job| has(job, name, &job.details.brings))
    }

    fn exists(&self, name: &Name, if_not_exists: bool) -> Met<'a> {
        let message = format!("relation \"{}\" already exists", name.name);
        match if_not_exists {
            true => Met::Skip(format!("{message}, skipping")),
            false => Met::Refuse(rejection("42P07", message, String::new())),
        }
    }

    fn refuse(&self, job: &Waiting) -> Met<'a> {
        self.refuse_for(job, "this statement would change what it needs")
    }

    fn refuse_for(&self, job: &Waiting, why: &str) -> Met<'a> {
        let message = format!(
            "{} waits for COMMIT in this transaction, and {why}: send it in a transaction of its own",
            shortened(&job.statement)
        );
        let hint = format!(
            "COMMIT first, so that job {} is done; then send this statement.\n{}",
            job.id,
            rules::concurrent_in_transaction::outside(self.subject.facts)
        );
        Met::Refuse(rejection("55000", message, hint))
    }
}

fn has(job: &Waiting, name: &Name, list: &[String]) -> bool {
    name.schema.as_ref().is_none_or(|schema| *schema == job.details.schema) && list.contains(&name.name)
}

/// The name is in one of the steps' texts, perhaps as something else.
fn mentions(job: &Waiting, name: &str) -> bool {
    job.details.brings.iter().any(|b| b == name)
        || (job.details.write && job.statement.contains(name))
        || job.details.steps.iter().any(|step: &Stored| step.sql.contains(name))
}

/// CREATE INDEX.
fn is_one_build(job: &Waiting) -> bool {
    matches!(job.details.steps.as_slice(), [one] if one.is_concurrent())
}

/// ATTACH PARTITION of a table, and nothing that others would take over.
fn attaches(job: &Waiting) -> bool {
    let last = job.details.steps.last().map(|step| step.sql.to_ascii_uppercase());
    last.is_some_and(|sql| sql.starts_with("ALTER TABLE") && sql.contains(" ATTACH PARTITION "))
}

/// ADD UNIQUE: the index, and the constraint that uses it.
fn is_one_index(job: &Waiting) -> bool {
    matches!(job.details.steps.as_slice(), [build, add] if build.is_concurrent() && !add.is_concurrent())
}

fn makes_primary_key(command: &AlterTableCmd) -> bool {
    let is_primary = |node: Option<&NodeEnum>| matches!(node, Some(NodeEnum::Constraint(c)) if c.contype() == ConstrType::ConstrPrimary);
    match command.def.as_ref().and_then(|definition| definition.node.as_ref()) {
        Some(NodeEnum::ColumnDef(column)) => column.constraints.iter().any(|node| is_primary(node.node.as_ref())),
        definition => is_primary(definition),
    }
}

/// A unique index of these columns; without columns, a primary key.
fn brings_key(job: &Waiting, columns: &[String]) -> bool {
    let upper = |step: &Stored| step.sql.to_ascii_uppercase();
    if columns.is_empty() {
        return job.details.steps.iter().any(|step| upper(step).contains("PRIMARY KEY"));
    }
    let mut wanted: Vec<&str> = columns.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    let builds = |step: &Stored| step.is_concurrent() && upper(step).contains("UNIQUE");
    job.details.steps.iter().filter(|step| builds(step)).any(|step| {
        let Some(NodeEnum::IndexStmt(index)) = one_statement(&step.sql) else {
            return true;
        };
        let elements = index.index_params.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::IndexElem(element)) => Some(element.name.as_str()),
            _ => None,
        });
        let mut keys: Vec<&str> = elements.collect();
        keys.sort_unstable();
        keys == wanted && index.where_clause.is_none()
    })
}

/// There is an index that a foreign key to these columns can use; without columns, a primary key.
fn is_unique(relation: &Relation, columns: &[String]) -> bool {
    let same = |i: &crate::catalog::Index| {
        let mut keys: Vec<&str> = i.columns.iter().flatten().map(String::as_str).collect();
        let mut wanted: Vec<&str> = columns.iter().map(String::as_str).collect();
        keys.sort_unstable();
        wanted.sort_unstable();
        i.unique && i.immediate && !i.partial && keys == wanted && i.columns.iter().all(Option::is_some)
    };
    relation
        .indexes
        .iter()
        .any(|i| if columns.is_empty() { i.primary } else { same(i) })
}

fn shortened(text: &str) -> String {
    let flat: Vec<&str> = text.split_whitespace().collect();
    let flat = flat.join(" ");
    match flat.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &flat[..end]),
        None => flat,
    }
}

fn rejection(sqlstate: &str, message: String, hint: String) -> Rejection {
    Rejection {
        findings: Vec::new(),
        sqlstate: sqlstate.to_string(),
        message,
        detail: String::new(),
        hint,
    }
}
