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
    /// What the server said of these changes nothing and calls nothing that could.
    harmless: HashSet<String>,
    /// The message at hand is one EXECUTE: nothing in it can give a name another meaning behind what is learned.
    learns: bool,
}

impl ByText {
    pub fn may_be_anything(&mut self) {
        self.anything = true;
        self.looked.clear();
        self.harmless.clear();
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

    pub fn has_harmless(&self) -> bool {
        !self.harmless.is_empty()
    }

    pub fn is_harmless(&self, name: &[u8]) -> bool {
        std::str::from_utf8(name).is_ok_and(|name| self.harmless.contains(name))
    }

    /// A name may mean something else from now on.
    pub fn forget_harmless(&mut self) {
        self.harmless.clear();
    }

    pub fn learns(&mut self, learns: bool) {
        self.learns = learns;
    }

    pub fn is_learning(&self) -> bool {
        self.learns
    }

    pub(super) fn found_harmless(&mut self, name: &str) {
        if self.learns && self.harmless.len() < NAMES_MAX {
            self.harmless.insert(name.to_owned());
        }
    }

    pub(super) fn looked_at(&mut self, name: &[u8]) {
        if self.anything && self.looked.len() < NAMES_MAX {
            self.looked.insert(name.to_vec());
        }
    }
}
