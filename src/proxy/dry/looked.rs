//! What a session knows of its prepared statements and portals, by name: these were looked at in a dry run and change nothing.

use std::collections::HashSet;

/// Names that are kept; of more, the statement has to be prepared again.
const NAMES_MAX: usize = 10_000;

#[derive(Default)]
pub struct Looked {
    pub statements: HashSet<Vec<u8>>,
    pub portals: HashSet<Vec<u8>>,
    /// default_transaction_read_only before the proxy has set it.
    pub writes_by_default: Option<String>,
}

impl Looked {
    /// DEALLOCATE, DISCARD and PREPARE may have given names to other statements.
    pub fn forget(&mut self) {
        self.statements.clear();
        self.portals.clear();
    }

    pub fn note(names: &mut HashSet<Vec<u8>>, name: &[u8], harmless: bool) {
        match harmless {
            true if names.len() < NAMES_MAX => drop(names.insert(name.to_vec())),
            _ => drop(names.remove(name)),
        }
    }
}
