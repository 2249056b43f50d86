//! From a statement to what is done about it. Pure: no socket, file, clock, randomness or global state in this module tree.
//!
//! Start at [`plan`]. A [`Statement`] is read once from the client's text, [`facts`] says which catalog query it
//! needs and decodes the answer, the [`rules`] turn both into findings, the [`policy`] decides what each finding
//! means, and the result is one [`Plan`].

mod about;
pub mod ascii;
pub mod batches;
pub mod body;
pub mod bounds;
pub mod calls;
pub mod catalog;
pub mod compose;
pub mod contracts;
pub mod cost;
pub mod deferred;
pub mod depends;
pub mod dry;
pub mod facts;
pub mod faults;
pub mod finding;
mod functions;
pub mod gate;
pub mod glance;
pub mod grammar;
pub mod jobs;
pub mod lock;
pub mod locks;
pub mod makes;
pub mod mentions;
pub mod mixed;
pub mod outcome;
mod overrides;
pub mod path;
pub mod policy;
pub mod pooled;
mod progress;
pub mod reading;
pub mod rehearsal;
pub mod remedies;

pub mod removals;
pub mod request;
pub mod rewrite;
pub mod rules;
mod sketch;
pub mod splice;
pub mod spot;
pub mod statement;
pub mod step;
mod subject;
pub mod told;
pub mod tool;
pub(crate) mod tree;
pub mod trial;
pub mod usage;
pub mod uses;
pub mod version;
pub mod waiting;
pub mod words;

use facts::Facts;
pub use finding::{Finding, Rejection};
pub use outcome::{Plan, Run};
pub use policy::Overridden;
use policy::Policy;
use statement::Statement;
pub use step::{Cleanup, Mode, Place, Step};

/// What is done about one statement: the only way into this module tree.
pub fn plan(statement: &Statement, facts: &Facts, policy: &Policy, place: Place) -> Plan {
    compose::plan(statement, facts, policy, place)
}
