//! The safe forms that rules give in place of a statement, as steps. No rule stands here, and no remedy stands in a rule that another needs.

pub(crate) mod add_column;
pub(crate) mod by_index;
pub(crate) mod check;
pub(crate) mod foreign_key;
pub(crate) mod names;
pub mod not_null;
pub(crate) mod partitions;
pub(crate) mod replace_column;
pub(crate) mod rewrite_table;
pub(crate) mod steps;
pub(crate) mod unique;
