//! What the session did about a statement.

use super::end::{Broken, End};
use super::entry::Entry;
use lockkeeper_wire::messages::Report;

/// What the session did about a statement.
pub(super) enum Verdict {
    /// The client's own bytes go on.
    Forward(Option<Entry>),
    /// Done by steps: the command tag.
    Done(String),
    /// Other text goes on and the server's answer with it (UPDATE … LIMIT).
    Instead(String, Entry),
    /// The rows of its plan, as JSON.
    Dry(String),
    Refused(Report),
}

/// What is refused on the way to a verdict is the verdict.
pub(super) fn or_refused(verdict: Result<Verdict, End>) -> Result<Verdict, Broken> {
    match verdict {
        Err(End::Refused(report)) => Ok(Verdict::Refused(report)),
        Err(End::Broken(broken)) => Err(broken),
        Ok(verdict) => Ok(verdict),
    }
}
