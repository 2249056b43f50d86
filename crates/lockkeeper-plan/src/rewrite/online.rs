//! A statement that is carried out as a rewrite by copy and swap: what is asked of it.

use crate::jobs::Access;
use crate::splice::quote_literal;

#[derive(Clone, Debug)]
pub struct Online {
    /// 0: it was not known when the plan was made.
    pub relation: u32,
    /// Its schema and name, quoted; without a server as the client wrote it.
    pub name: String,
    /// ALTER TABLE statements for the new table; empty where it stays as it is.
    pub with: String,
    pub order: Order,
    /// How long the old table is kept, if it is.
    pub keep_old_s: Option<u64>,
    /// Whether there is a place to keep the job in.
    pub access: Access,
    /// Why it is not done in another way, in a sentence; empty where there is none.
    pub instead_of: String,
    /// By which it came to this.
    pub rule: &'static str,
}

/// In which order the rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Of whichever key they are copied by.
    Any,
    /// Of the index that bears the mark of CLUSTER.
    Marked,
    /// Of this index, which then bears it.
    By(String),
}

impl Online {
    /// What a person would type in a shell to have the same done.
    pub fn command(&self) -> String {
        let shell = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let table = match self.name.chars().all(|c| c.is_alphanumeric() || "._".contains(c)) {
            true => self.name.clone(),
            false => shell(&self.name),
        };
        match self.with.as_str() {
            "" => format!("lockkeeper rewrite --dsn … {table}"),
            with => format!("lockkeeper rewrite --dsn … {table} --with {}", shell(with)),
        }
    }
}

/// Names of indexes that bear the mark.
pub fn marked(table: u32) -> String {
    format!(
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = {table} AND i.indisclustered"
    )
}

/// Whether the session has the owner's rights, as that of ALTER TABLE asks.
pub fn has_rights_of(owner: &str) -> String {
    format!("SELECT pg_has_role(current_user, {}, 'USAGE')", quote_literal(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_for_a_shell() {
        let online = |name: &str, with: &str| Online {
            relation: 1,
            name: name.into(),
            with: with.into(),
            order: Order::Any,
            keep_old_s: None,
            access: Access::Ready,
            instead_of: String::new(),
            rule: "change-type",
        };
        assert_eq!(
            online("app.users", "").command(),
            "lockkeeper rewrite --dsn … app.users"
        );
        assert_eq!(
            online(r#""Us ers""#, "ALTER TABLE u ADD c text DEFAULT 'x'").command(),
            r#"lockkeeper rewrite --dsn … '"Us ers"' --with 'ALTER TABLE u ADD c text DEFAULT '\''x'\'''"#
        );
    }
}
