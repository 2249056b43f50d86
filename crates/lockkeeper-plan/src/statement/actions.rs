//! All actions of an ALTER TABLE at a glance. Its rules look at each action, and must not look at all others for each: there may be
//! thousands.

use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType as A, ConstrType, Constraint};
use std::collections::{HashMap, HashSet};

/// By their numbers in a statement's list of actions.
#[derive(Clone, Debug, Default)]
pub struct Actions {
    pub count: usize,
    kinds: HashSet<i32>,
    pub(super) attach: Option<usize>,
    pub(super) detach: Option<usize>,
    /// The first that drops a column or a constraint.
    pub(super) takes: Option<usize>,
    pub(super) added_columns: HashMap<String, usize>,
    dropped_constraints: HashSet<String>,
    /// UNIQUE and PRIMARY KEY.
    pub(super) added_keys: Vec<usize>,
}

impl Actions {
    pub(super) fn of<'a>(commands: impl Iterator<Item = &'a AlterTableCmd>) -> Actions {
        let mut all = Actions::default();
        for (at, command) in commands.enumerate() {
            let kind = command.subtype();
            all.count += 1;
            all.kinds.insert(command.subtype);
            match (kind, command.def.as_ref().and_then(|def| def.node.as_ref())) {
                (A::AtAttachPartition, _) => {
                    all.attach.get_or_insert(at);
                }
                (A::AtDetachPartition, Some(NodeEnum::PartitionCmd(_))) => {
                    all.detach.get_or_insert(at);
                }
                (A::AtDropColumn, _) => {
                    all.takes.get_or_insert(at);
                }
                (A::AtDropConstraint, _) => {
                    all.takes.get_or_insert(at);
                    all.dropped_constraints.insert(command.name.clone());
                }
                (A::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => {
                    all.added_columns.entry(column.colname.clone()).or_insert(at);
                }
                (_, Some(NodeEnum::Constraint(constraint))) if is_key(constraint) => all.added_keys.push(at),
                _ => {}
            }
        }
        all
    }

    pub fn any(&self, kind: A) -> bool {
        self.kinds.contains(&(kind as i32))
    }

    pub fn any_but(&self, kind: A) -> bool {
        self.kinds.iter().any(|known| *known != kind as i32)
    }

    pub fn drops_constraint(&self, name: &str) -> bool {
        self.dropped_constraints.contains(name)
    }
}

fn is_key(constraint: &Constraint) -> bool {
    matches!(
        constraint.contype(),
        ConstrType::ConstrPrimary | ConstrType::ConstrUnique
    )
}
