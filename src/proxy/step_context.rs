//! What is the same for all steps of a plan.

use super::parameters::Parameters;
use crate::plan::policy::Policy;
use crate::plan::{Place, Step};

/// What is the same for all steps of a plan.
#[derive(Clone, Copy)]
pub(super) struct StepContext<'a> {
    pub policy: &'a Policy,
    pub place: Place,
    pub parameters: &'a Parameters,
    /// The client's statement, and how many characters of its message came before it.
    pub statement: &'a str,
    pub position_shift: usize,
    /// Its transaction has all locks that a brief step takes.
    pub is_held: bool,
}

impl StepContext<'_> {
    /// There is no lock to be tried for again, and so nothing to go back to. It has a lock_timeout all the same: a name may have come to mean
    /// another table, which somebody has just made in front of it.
    pub(super) fn holds_for(&self, step: &Step) -> bool {
        self.is_held && self.place == Place::Block && step.guard.is_none()
    }
}
