//! ATTACH PARTITION, and CREATE TABLE … PARTITION OF beside a default partition.

use super::{Found, Rule, Subject, Table, name_of, names, partitions, steps};
use crate::plan::Step;
use crate::plan::facts::Relation;
use crate::plan::lock::LockMode;
use crate::plan::splice::{self, qualified, quote_ident, quote_literal};
use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{AlterTableType, Node, PartitionBoundSpec, PartitionRangeDatumKind};

pub(super) const RULE: Rule = Rule {
    name: "attach-partition",
    lock: LockMode::AccessExclusive,
    what: "ATTACH PARTITION of a table that is not small, unless a CHECK proves that its rows fit; ATTACH PARTITION and CREATE TABLE … PARTITION OF beside a default partition that is not small.",
    why: "The new partition, and the default partition, are scanned under ACCESS EXCLUSIVE; indexes that the new partition lacks are built under it.",
    versions: "13–18",
    safe: "CHECK constraints that say the same, NOT VALID and then validated, which spare the scans; missing indexes built concurrently before.",
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
    child: Option<Table<'a>>,
    bound: &'a PartitionBoundSpec,
    /// The client's own statement.
    sql: String,
}

fn check(subject: &Subject) -> Option<Found> {
    let attached = attached(subject)?;
    let parent = attached.parent.known;
    let default = parent.and_then(|parent| {
        let children = subject.facts.children(parent);
        children.into_iter().find(|r| r.bound.as_deref() == Some("DEFAULT"))
    });
    let default = default.filter(|r| !r.is_small(subject.policy.small_bytes) && !attached.bound.is_default);
    let child = attached.child.as_ref().filter(|child| !child.small);
    let (message, otherwise) = match (child, default) {
        (None, None) => return None,
        (Some(child), _) => (
            format!(
                "ATTACH PARTITION scans {} under ACCESS EXCLUSIVE, which blocks reads and writes",
                child.described()
            ),
            advice(&child.sql, &attached.parent.sql),
        ),
        (None, Some(default)) => (
            format!(
                "a new partition of {} scans its default partition {} under ACCESS EXCLUSIVE, which blocks reads and writes",
                attached.parent.sql,
                partitions::table_of(default).described()
            ),
            advice(&partitions::table_of(default).sql, &attached.parent.sql),
        ),
    };
    let steps = match parent {
        Some(parent) => sequence(&attached, parent, child, default),
        None => Err("the parent is not known".to_string()),
    };
    if steps.as_ref().is_ok_and(|steps| steps.len() == 1) {
        return None;
    }
    Some(Found::steps(
        message,
        "prove by a validated CHECK that the rows fit, then attach",
        steps,
        &otherwise,
    ))
}

fn advice(scanned: &str, parent: &str) -> String {
    format!(
        "ALTER TABLE {scanned} ADD CONSTRAINT bounds CHECK (…) NOT VALID;  -- the partition's bounds with IS NOT NULL; of the default partition NOT (…)\n\
         ALTER TABLE {scanned} VALIDATE CONSTRAINT bounds;\n\
         -- then the statement itself, which no longer scans; missing indexes of {parent} built concurrently before it\n\
         ALTER TABLE {scanned} DROP CONSTRAINT bounds;"
    )
}

fn attached<'a>(subject: &Subject<'a>) -> Option<Attached<'a>> {
    if let Some(action) = subject.action_of(AlterTableType::AtAttachPartition) {
        let NodeEnum::PartitionCmd(command) = action.command.def.as_ref()?.node.as_ref()? else {
            return None;
        };
        let parent = subject.table(&subject.altered()?)?;
        // ALTER INDEX … ATTACH PARTITION looks at no row.
        if parent.kind() == 'I' {
            return None;
        }
        let child = subject.table(&name_of(command.name.as_ref()?))?;
        if child.known.is_some_and(|r| r.is_partition) {
            return None;
        }
        return Some(Attached {
            parent,
            child: Some(child),
            bound: command.bound.as_ref()?,
            sql: format!("{} {}", action.head, action.text),
        });
    }
    let NodeEnum::CreateStmt(create) = &subject.statement.node else {
        return None;
    };
    let bound = create.partbound.as_ref()?;
    let named = create.relation.as_ref().map(name_of)?;
    // IF NOT EXISTS over one that is there.
    if subject.facts.relation(&named).is_some() {
        return None;
    }
    let parent = match create.inh_relations.first()?.node.as_ref()? {
        NodeEnum::RangeVar(range) => subject.table(&name_of(range))?,
        _ => return None,
    };
    Some(Attached {
        parent: parent.known.map(|_| parent)?,
        child: None,
        bound,
        sql: subject.statement.sql.clone(),
    })
}

fn sequence(
    attached: &Attached,
    parent: &Relation,
    child: Option<&Table>,
    default: Option<&Relation>,
) -> Result<Vec<Step>, String> {
    if parent.is_partition {
        return Err("the parent is itself a partition, whose own bounds count too".to_string());
    }
    let inside = condition(parent, attached.bound)?;
    let (mut all, mut then) = (Vec::new(), Vec::new());
    if let Some(child) = child {
        let relation = child.known.ok_or("the table is not known")?;
        if relation.kind != 'r' {
            return Err("it is not an ordinary table".to_string());
        }
        if !proven(relation, &inside) {
            then.push(prove(child, &inside, &mut all));
        }
        completed(parent, relation, &mut all)?;
    }
    if let Some(default) = default {
        let table = partitions::table_of(default);
        then.push(prove(&table, &format!("NOT ({inside})"), &mut all));
    }
    all.push(steps::brief_then(
        "attach, without a scan",
        attached.sql.clone(),
        then,
        LockMode::AccessExclusive,
        &attached.parent,
    ));
    Ok(all)
}

/// The steps to a validated CHECK, and the statement that removes it again.
fn prove(table: &Table, condition: &str, all: &mut Vec<Step>) -> String {
    let name = names::object(&format!("lockkeeper_{}", table.bare()), "bounds", "");
    let mark = steps::mark("proves the bounds", condition);
    let quoted = quote_ident(&name);
    let drop = format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", table.sql);
    all.push(Step {
        done_when: steps::constraint_marked(table, &name, &mark, ""),
        rollback: Some(drop.replace("DROP CONSTRAINT", "DROP CONSTRAINT IF EXISTS")),
        ..steps::brief_then(
            "add the bounds as a check, not validated",
            format!(
                "ALTER TABLE {} ADD CONSTRAINT {quoted} CHECK ({condition}) NOT VALID",
                table.sql
            ),
            vec![steps::comment_on_constraint(&name, table, Some(&mark))],
            LockMode::AccessExclusive,
            table,
        )
    });
    let told = format!(
        "removed the constraint {name}: rows of {} do not fit the bounds",
        table.sql
    );
    all.push(Step {
        done_when: steps::constraint_marked(table, &name, &mark, " AND c.convalidated"),
        cleanup: steps::drop_half_made(table, &name, &mark, told),
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
fn tree_of(definition: &str) -> Option<String> {
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
            ..steps::concurrent("build a missing index concurrently", sql, &own)
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
