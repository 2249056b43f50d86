//! What PREPARE of SQL has prepared, when it is bound over the protocol: both have the same names.

use std::collections::HashSet;

/// Names of which it is known that they are harmless.
const NAMES_MAX: usize = 1_000;

/// Names that SQL may have given to what changes rows.
#[derive(Default)]
pub struct ByText {
    /// Code, or a text that could not be read, may have prepared anything.
    anything: bool,
    looked: HashSet<Vec<u8>>,
}

impl ByText {
    pub fn may_be_anything(&mut self) {
        self.anything = true;
        self.looked.clear();
    }

    pub fn forget(&mut self) {
        *self = ByText::default();
    }

    pub fn is_empty(&self) -> bool {
        !self.anything
    }

    pub fn may_be(&self, name: &[u8]) -> bool {
        self.anything && !self.looked.contains(name)
    }

    pub(super) fn looked_at(&mut self, name: &[u8]) {
        if self.anything && self.looked.len() < NAMES_MAX {
            self.looked.insert(name.to_vec());
        }
    }
}
