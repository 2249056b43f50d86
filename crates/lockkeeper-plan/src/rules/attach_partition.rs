//! ATTACH PARTITION, and CREATE TABLE … PARTITION OF beside a default partition.
//!
//! What the rows must be, and whether the server takes a CHECK for the proof, [`Bounds`] tells. Where the server was not asked (the
//! linter) or could not try (a role without TEMPORARY), it is written out here for the plain cases.

use super::rule::{Found, Rule};
use crate::bounds::{self, Bounds, Proof, Question};
use crate::catalog::Relation;
use crate::facts::Facts;
use crate::lock::LockMode;
use crate::policy::Policy;
use crate::remedies::{names, partitions, steps};
use crate::splice::{self, qualified, quote_ident, quote_literal};
use crate::statement::Statement;
use crate::step::{Place, Step};
use crate::subject::{Subject, Table, name_of};
use crate::tree;
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{Node, PartitionBoundSpec, PartitionRangeDatumKind};

pub(super) const RULE: Rule = Rule {
    name: "attach-partition",
    lock: LockMode::AccessExclusive,
    what: "ATTACH PARTITION of a table that is not small, unless a CHECK proves that its rows fit; ATTACH PARTITION and CREATE TABLE … PARTITION OF beside a default partition that is not small.",
    why: "The new partition, and the default partition, are scanned under ACCESS EXCLUSIVE; indexes that the new partition lacks are built under it.",
    versions: "13–18",
    safe: "CHECK constraints that say the same, NOT VALID and then validated, which spare the scans; missing indexes built concurrently before. The server says what they must say, by a trial on empty copies.",
    bad: &[
        "ALTER TABLE parted ATTACH PARTITION orgs FOR VALUES IN (3)",
        "ALTER TABLE parted ATTACH PARTITION orgs DEFAULT",
    ],
    good: &[
        "ALTER TABLE parted ATTACH PARTITION small FOR VALUES IN (3)",
        "CREATE TABLE parted_3 PARTITION OF parted FOR VALUES IN (3)",
    ],
    check,
};

/// The parent, the new partition if there is one yet, and what it is to hold.
struct Attached<'a> {
    parent: Table<'a>,
    /// The new partition, if it has rows that matter.
    child: Option<Table<'a>>,
    /// The default partition, likewise.
    rest: Option<&'a Relation>,
    bound: &'a PartitionBoundSpec,
}

fn check(subject: &Subject) -> Option<Found> {
    let attached = attached(subject)?;
    let (message, scanned) = match (&attached.child, attached.rest) {
        (None, None) => return None,
        (Some(child), _) => (
            format!(
                "ATTACH PARTITION scans {} under ACCESS EXCLUSIVE, which blocks reads and writes",
                child.described()
            ),
            child.sql.clone(),
        ),
        (None, Some(rest)) => {
            let rest = partitions::table_of(rest);
            (
                format!(
                    "a new partition of {} scans its default partition {} under ACCESS EXCLUSIVE, which blocks reads and writes",
                    attached.parent.sql,
                    rest.described()
                ),
                rest.sql,
            )
        }
    };
    let steps = sequence(subject, &attached);
    if steps.as_ref().is_ok_and(|steps| steps.len() == 1) {
        return None;
    }
    let by_hand = advice(subject, &scanned, &attached.parent.sql);
    Some(Found::steps(
        message,
        "prove by a validated CHECK that the rows fit, then attach",
        steps,
        &by_hand,
    ))
}

/// What to ask the server about the statement, if it would scan. Err: why no answer could be relied upon.
pub fn question(statement: &Statement, facts: &Facts, policy: &Policy) -> Option<Result<Question, String>> {
    let subject = Subject {
        statement,
        facts,
        policy,
        place: Place::Alone,
        action: None,
    };
    let attached = attached(&subject)?;
    let parent = attached.parent.known?;
    let child = attached.child.as_ref().and_then(|child| child.known);
    if child.is_none() && attached.rest.is_none() {
        return None;
    }
    let question = |bound| Question {
        parent: parent.oid,
        child: child.map_or(0, |r| r.oid),
        rest: attached.rest.map_or(0, |r| r.oid),
        bound,
    };
    Some(bounds::text(&statement.sql, attached.bound).map(question))
}

fn advice(subject: &Subject, scanned: &str, parent: &str) -> String {
    let proofs = subject
        .facts
        .bounds
        .iter()
        .flat_map(|bounds| [&bounds.child, &bounds.rest]);
    if proofs.flatten().any(|proof| !proof.proven && !proof.provable) {
        return format!(
            "CREATE TABLE … PARTITION OF {parent} FOR VALUES …;  -- empty, and so without a scan of its own\n\
             INSERT INTO {parent} SELECT * FROM …;  -- the rows in parts, each its own transaction\n\
             -- or attach in a maintenance window, where nobody waits for the scan of {scanned}"
        );
    }
    format!(
        "ALTER TABLE {scanned} ADD CONSTRAINT bounds CHECK (…) NOT VALID;  -- the partition's bounds with IS NOT NULL; of the default partition NOT (…)\n\
         ALTER TABLE {scanned} VALIDATE CONSTRAINT bounds;\n\
         -- then the statement itself, which no longer scans; missing indexes of {parent} built concurrently before it\n\
         ALTER TABLE {scanned} DROP CONSTRAINT bounds;"
    )
}

fn attached<'a>(subject: &Subject<'a>) -> Option<Attached<'a>> {
    let (parent, child, bound) = named(subject)?;
    let children = parent.known.map(|parent| subject.facts.children(parent));
    let rest = children
        .into_iter()
        .flatten()
        .find(|r| r.bound.as_deref() == Some("DEFAULT"));
    Some(Attached {
        parent,
        child: child.filter(|child| !child.small),
        rest: rest.filter(|r| !bound.is_default && !r.is_small(subject.policy.small_bytes)),
        bound,
    })
}

/// The parent, the table that is to be its partition, and the bounds.
fn named<'a>(subject: &Subject<'a>) -> Option<(Table<'a>, Option<Table<'a>>, &'a PartitionBoundSpec)> {
    if let Some(command) = subject.statement.attached() {
        let parent = subject.table(&subject.altered()?)?;
        // ALTER INDEX … ATTACH PARTITION looks at no row.
        if parent.kind() == 'I' {
            return None;
        }
        let child = subject.table(&name_of(command.name.as_ref()?))?;
        if child.known.is_some_and(|r| r.is_partition) {
            return None;
        }
        return Some((parent, Some(child), command.bound.as_ref()?));
    }
    let create = tree::tables_made(&subject.statement.node).find(|create| create.partbound.is_some())?;
    let bound = create.partbound.as_ref()?;
    let named = create.relation.as_ref().map(name_of)?;
    // IF NOT EXISTS over one that is there.
    if matches!(subject.statement.node, NodeEnum::CreateStmt(_)) && subject.facts.relation(&named).is_some() {
        return None;
    }
    let parent = match create.inh_relations.first()?.node.as_ref()? {
        NodeEnum::RangeVar(range) => subject.table(&name_of(range))?,
        _ => return None,
    };
    Some((parent.known.map(|_| parent)?, None, bound))
}

fn sequence(subject: &Subject, attached: &Attached) -> Result<Vec<Step>, String> {
    if matches!(subject.statement.node, NodeEnum::CreateSchemaStmt(_)) {
        return Err("the partition is made within CREATE SCHEMA; make the schema first".to_string());
    }
    let parent = attached.parent.known.ok_or("the parent is not known")?;
    let bounds = match &subject.facts.bounds {
        Some(bounds) if bounds.trial_failed() => written_out(parent, attached).unwrap_or_else(|_| bounds.clone()),
        Some(bounds) => bounds.clone(),
        None => written_out(parent, attached)?,
    };
    if let Some(failure) = bounds.failure {
        return Err(failure);
    }
    let mut helpers = Helpers {
        alone: subject.place == Place::Alone && subject.facts.waiting.is_empty(),
        ..Helpers::default()
    };
    if let Some(child) = &attached.child {
        let relation = child.known.ok_or("the table is not known")?;
        helpers.prove(child, bounds.child.as_ref())?;
        completed(parent, relation, &mut helpers.steps)?;
    }
    if let Some(rest) = attached.rest {
        helpers.prove(&partitions::table_of(rest), bounds.rest.as_ref())?;
    }
    let mut all = helpers.steps;
    all.push(Step {
        guard: bounds.guard(&helpers.hold),
        ..steps::brief_then(
            "attach, without a scan",
            subject.statement.sql.clone(),
            helpers.drop,
            LockMode::AccessExclusive,
            &attached.parent,
        )
    });
    Ok(all)
}

/// The same as the server would answer, for what it is known of without it.
fn written_out(parent: &Relation, attached: &Attached) -> Result<Bounds, String> {
    if parent.is_partition {
        return Err("the parent is itself a partition, whose own bounds count too".to_string());
    }
    let inside = condition(parent, attached.bound)?;
    let proof = |relation: Option<&Relation>, condition: String| Proof {
        proven: relation.is_some_and(|relation| proven(relation, &condition)),
        condition: Some(condition),
        provable: true,
    };
    let outside = format!("NOT ({inside})");
    let child = attached.child.as_ref().map(|child| proof(child.known, inside));
    Ok(Bounds::known(
        child,
        attached.rest.map(|rest| proof(Some(rest), outside)),
    ))
}

/// The constraints that prove the bounds for the time of the attachment.
#[derive(Default)]
struct Helpers {
    steps: Vec<Step>,
    /// One boolean each: it is there and validated.
    hold: Vec<String>,
    /// What removes them.
    drop: Vec<String>,
    /// Nothing waits for a COMMIT.
    alone: bool,
}

impl Helpers {
    /// A validated CHECK, unless the table's own constraints prove as much.
    fn prove(&mut self, table: &Table, proof: Option<&Proof>) -> Result<(), String> {
        let proof = proof.ok_or("what its rows must be is not known")?;
        if proof.proven {
            return Ok(());
        }
        let condition = proof.condition.as_deref().filter(|_| proof.provable).ok_or_else(|| {
            format!(
                "no CHECK is known that PostgreSQL would take for the proof that the rows of {} fit (there is none where the hash of a key \
                 depends on a collation)",
                table.sql
            )
        })?;
        let mark = steps::mark(PROVES, condition);
        let name = helper_name(table, &mark);
        // What an attachment with other bounds, or beside other partitions, has left unfinished; unless it waits for a COMMIT.
        let left = table.known.filter(|_| self.alone).map(|r| &r.constraints);
        let left = left.into_iter().flatten().filter(|c| {
            c.name != name
                && c.comment
                    .as_deref()
                    .is_some_and(|comment| comment.starts_with(&format!("lockkeeper: {PROVES} (")))
        });
        let drop = |name: &str| {
            format!(
                "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
                table.sql,
                quote_ident(name)
            )
        };
        self.drop.extend(left.map(|c| drop(&c.name)));
        self.drop
            .push(validated(table, &name, condition, &mark, &mut self.steps));
        self.hold
            .extend(steps::constraint_marked(table, &name, &mark, " AND c.convalidated"));
        Ok(())
    }
}

/// Two attachments may be under way at once, beside the same default partition.
fn helper_name(table: &Table, mark: &str) -> String {
    let hash: String = mark.chars().filter(char::is_ascii_hexdigit).rev().take(8).collect();
    names::object(&format!("lockkeeper_{}", table.bare()), "bounds", &hash)
}

const PROVES: &str = "proves the bounds";

/// The steps to a validated CHECK, and the statement that removes it again.
fn validated(table: &Table, name: &str, condition: &str, mark: &str, all: &mut Vec<Step>) -> String {
    let quoted = quote_ident(name);
    let drop = format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", table.sql);
    let add = |t: &str| format!("ALTER TABLE {t} ADD CONSTRAINT {quoted} CHECK ({condition}) NOT VALID");
    let add = match table.known {
        Some(relation) => steps::printed(add(&splice::qualified(&relation.schema, &relation.name))),
        None => add(&table.sql),
    };
    all.push(Step {
        done_when: steps::constraint_marked(table, name, mark, ""),
        rollback: Some(drop.replace("DROP CONSTRAINT", "DROP CONSTRAINT IF EXISTS")),
        ..steps::brief_then(
            "add the bounds as a check, not validated",
            add,
            vec![steps::comment_on_constraint(name, table, Some(mark))],
            LockMode::AccessExclusive,
            table,
        )
    });
    let told = format!(
        "removed the constraint {name}: rows of {} do not fit the bounds",
        table.sql
    );
    all.push(Step {
        done_when: steps::constraint_marked(table, name, mark, " AND c.convalidated"),
        cleanup: steps::drop_half_made(table, name, mark, told),
        ..steps::long(
            "validate the bounds",
            format!("ALTER TABLE {} VALIDATE CONSTRAINT {quoted}", table.sql),
            Vec::new(),
            table,
        )
    });
    drop
}

/// A CHECK of somebody else's that says the same as we would.
fn proven(relation: &Relation, condition: &str) -> bool {
    let wanted = tree_of(&format!("CHECK ({condition})"));
    let says = |definition: &str| wanted.is_some() && tree_of(definition) == wanted;
    let mut checks = relation
        .constraints
        .iter()
        .filter(|c| c.kind == 'c' && c.validated && c.comment.is_none());
    checks.any(|c| says(&c.definition))
}

/// The tree of a CHECK, in which parentheses and spaces do not count.
fn tree_of(definition: &str) -> Option<[u8; 32]> {
    splice::one_statement(&format!("ALTER TABLE t ADD {definition}")).map(|node| splice::tree_text(&node))
}

/// What the server would otherwise make under its lock: indexes of the parent that the new partition lacks, and foreign keys.
fn completed(parent: &Relation, child: &Relation, all: &mut Vec<Step>) -> Result<(), String> {
    let own = partitions::table_of(child);
    for index in parent.indexes.iter().filter(|i| i.valid) {
        let Some(NodeEnum::IndexStmt(wanted)) = splice::one_statement(&index.definition) else {
            return Err(format!("the index {} of the parent cannot be read", index.name));
        };
        let found = partitions::fitting(child, &wanted)?;
        match (&index.constraint, found) {
            (None, Some(_)) => continue,
            (Some(_), Some(there)) if there.constraint.is_some() => continue,
            (Some(name), _) => {
                return Err(format!(
                    "{} lacks the constraint {name} of the parent: add it first, which Lockkeeper does by way of a concurrent index",
                    own.sql
                ));
            }
            (None, None) if child.kind == 'p' => {
                return Err(format!(
                    "{} lacks the index {} of the parent: build one like it first, which Lockkeeper does partition by partition ({})",
                    own.sql, index.name, index.definition
                ));
            }
            (None, None) => {}
        }
        let unnamed = pg_query::protobuf::IndexStmt {
            idxname: String::new(),
            ..*wanted
        };
        let name =
            names::index(&unnamed, child).ok_or("the name that PostgreSQL would choose for an index is not known")?;
        let sql = splice::index_on(&index.definition, &name, (&child.schema, &child.name), false)
            .ok_or("the text of an index could not be changed with certainty")?;
        all.push(Step {
            cleanup: steps::drop_invalid_index(&own, &name),
            rollback: Some(format!(
                "DROP INDEX CONCURRENTLY IF EXISTS {}",
                qualified(&child.schema, &name)
            )),
            ..steps::concurrent("build a missing index concurrently", steps::printed(sql), &own)
        });
    }
    for key in parent.constraints.iter().filter(|c| c.kind == 'f') {
        let there = child
            .constraints
            .iter()
            .any(|c| c.kind == 'f' && c.definition == key.definition && c.validated);
        if !there {
            return Err(format!(
                "{t} lacks the foreign key {n} of the parent: first ALTER TABLE {t} ADD CONSTRAINT {n} {}",
                key.definition,
                t = own.sql,
                n = quote_ident(&key.name)
            ));
        }
    }
    Ok(())
}

/// The bounds as a condition that the server takes for a proof (manual, section 5.12.2.2): of these types and forms only.
fn condition(parent: &Relation, bound: &PartitionBoundSpec) -> Result<String, String> {
    let key = parent
        .partition_key
        .as_deref()
        .ok_or("the partition key is not known")?;
    let columns = names::key_columns(key).ok_or("the partition key is an expression")?;
    if bound.is_default {
        return Err("what a default partition holds depends on all the others: give the table a CHECK with the bounds of none of them".to_string());
    }
    if bound.strategy == "h" {
        let listed: Vec<String> = columns.iter().map(|c| quote_ident(c)).collect();
        return Ok(format!(
            "satisfies_hash_partition({}::oid, {}, {}, {})",
            parent.oid,
            bound.modulus,
            bound.remainder,
            listed.join(", ")
        ));
    }
    let [column] = columns.as_slice() else {
        return Err("the partition key has several columns".to_string());
    };
    let known = parent.column(column).ok_or("the key's column is not known")?;
    if !PLAIN.contains(&known.type_name.as_str()) {
        return Err(format!("of a key of type {} no proof was tried", known.type_name));
    }
    let c = quote_ident(column);
    let value =
        |node: &Node| constant(node, &known.type_name).ok_or_else(|| "a bound is no plain constant".to_string());
    if bound.strategy == "l" {
        let values: Result<Vec<String>, String> = bound.listdatums.iter().map(value).collect();
        return Ok(match values?.as_slice() {
            [one] => format!("{c} IS NOT NULL AND {c} = {one}"),
            several => format!("{c} IS NOT NULL AND {c} = ANY (ARRAY[{}])", several.join(", ")),
        });
    }
    let edge = |data: &[Node], operator: &str| match data {
        [one] => match &one.node {
            Some(NodeEnum::PartitionRangeDatum(datum)) => match (datum.kind(), &datum.value) {
                (PartitionRangeDatumKind::PartitionRangeDatumValue, Some(node)) => {
                    Ok(Some(format!("{c} {operator} {}", value(node)?)))
                }
                _ => Ok(None),
            },
            // MINVALUE and MAXVALUE are names to the grammar.
            Some(NodeEnum::ColumnRef(_)) => Ok(None),
            _ => Ok(Some(format!("{c} {operator} {}", value(one)?))),
        },
        _ => Err("a bound has several values".to_string()),
    };
    let parts = [
        Some(format!("{c} IS NOT NULL")),
        edge(&bound.lowerdatums, ">=")?,
        edge(&bound.upperdatums, "<")?,
    ];
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(" AND "))
}

/// As format_type prints them. Others may be compared through casts that a proof does not see through.
const PLAIN: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "text",
    "date",
    "uuid",
    "timestamp without time zone",
    "timestamp with time zone",
];

/// A literal as one of that type.
fn constant(node: &Node, type_name: &str) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Ival(number) => Some(format!("'{}'::{type_name}", number.ival)),
            Val::Fval(number) => Some(format!("'{}'::{type_name}", number.fval)),
            Val::Sval(text) => Some(format!("{}::{type_name}", quote_literal(&text.sval))),
            _ => None,
        },
        NodeEnum::TypeCast(cast) => constant(cast.arg.as_deref()?, type_name),
        _ => None,
    }
}
