//! What has been asked already: about the statement before, or about a long one while its tree was not held.

use super::dialogue::{Answer, Ask};
use super::end::Broken;
use crate::plan::facts::Facts;
use crate::plan::request::Request;
use lockkeeper_wire::messages::Report;

/// What was asked for a slight statement that has locked its relation for the rest of the transaction. The next one about the same waits for
/// nobody, and nothing of it can have changed if nothing was sent in between: while others wait for that lock, it is not asked again.
pub(super) struct Before {
    pub(super) request: Request,
    pub(super) facts: Facts,
    /// The lock is ACCESS EXCLUSIVE.
    pub(super) locked: bool,
    /// [`Responses::count`](lockkeeper_wire::responses::Responses::count)
    pub(super) sent: u64,
}

pub(super) type Answered = (Vec<Ask>, Result<Vec<Answer>, Report>);

/// Questions about a long statement that are asked while its tree is not held, and what was answered.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) is_on: bool,
    pub(super) wanted: Vec<Vec<Ask>>,
    pub(super) answered: Vec<Answered>,
}

impl Aside {
    /// All of them at once: for each the text would be read again.
    pub(super) fn wants_first(&mut self, wanted: Vec<Vec<Ask>>) -> Result<(), Broken> {
        if !self.is_on || !self.answered.is_empty() || wanted.is_empty() {
            return Ok(());
        }
        self.wanted = wanted;
        Err(Broken::Aside)
    }

    pub(super) fn answer(&self, asks: &[Ask]) -> Option<Result<Vec<Answer>, Report>> {
        let is_same = |(known, _): &&Answered| {
            known.len() == asks.len()
                && known
                    .iter()
                    .zip(asks)
                    .all(|(one, other)| one.sql == other.sql && one.parameters == other.parameters)
        };
        self.answered.iter().find(is_same).map(|(_, answer)| answer.clone())
    }
}
