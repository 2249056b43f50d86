//! All actions of an ALTER TABLE at a glance. Its rules look at each action, and must not look at all others for each: there may be
//! thousands.

use super::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, AlterTableType as A, ColumnDef, ConstrType, Constraint, PartitionCmd};
use std::collections::{HashMap, HashSet};

/// By their numbers in [`Statement::actions`].
#[derive(Clone, Debug, Default)]
pub struct Actions {
    pub count: usize,
    kinds: HashSet<i32>,
    attach: Option<usize>,
    detach: Option<usize>,
    /// The first that drops a column or a constraint.
    takes: Option<usize>,
    added_columns: HashMap<String, usize>,
    dropped_constraints: HashSet<String>,
    /// UNIQUE and PRIMARY KEY.
    added_keys: Vec<usize>,
}

impl Actions {
    pub(super) fn of(statement: &Statement) -> Actions {
        let mut all = Actions::default();
        for (at, command) in statement.actions().enumerate() {
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

impl Statement {
    pub fn all_actions(&self) -> &Actions {
        self.all_actions.get_or_init(|| Actions::of(self))
    }

    fn action(&self, at: usize) -> Option<&AlterTableCmd> {
        let NodeEnum::AlterTableStmt(alter) = &self.node else {
            return None;
        };
        match &alter.cmds.get(at)?.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(command),
            _ => None,
        }
    }

    /// Whether it is the first of its statement's actions that drops a column or a constraint.
    pub fn takes_first(&self, command: &AlterTableCmd) -> bool {
        let first = self.all_actions().takes.and_then(|at| self.action(at));
        first.is_some_and(|first| std::ptr::eq(first, command))
    }

    /// The column that the statement adds under this name.
    pub fn added_column(&self, name: &str) -> Option<&ColumnDef> {
        let at = *self.all_actions().added_columns.get(name)?;
        match self.action(at)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::ColumnDef(column) => Some(column),
            _ => None,
        }
    }

    /// The first ATTACH PARTITION.
    pub fn attached(&self) -> Option<&PartitionCmd> {
        self.partition(self.all_actions().attach)
    }

    /// The first DETACH PARTITION.
    pub fn detached(&self) -> Option<&PartitionCmd> {
        self.partition(self.all_actions().detach)
    }

    fn partition(&self, at: Option<usize>) -> Option<&PartitionCmd> {
        match self.action(at?)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::PartitionCmd(command) => Some(command),
            _ => None,
        }
    }

    /// The UNIQUE and PRIMARY KEY constraints that it adds to the table.
    pub fn added_keys(&self) -> impl Iterator<Item = &Constraint> {
        let keys = self.all_actions().added_keys.iter();
        keys.filter_map(|at| match self.action(*at)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::Constraint(constraint) => Some(constraint.as_ref()),
            _ => None,
        })
    }
}
