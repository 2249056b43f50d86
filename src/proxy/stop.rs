//! How far the proxy, or a server of its list, is on its way down.

/// Also of the sessions of one server, where these are to go to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    /// Sessions end when their transaction or plan has.
    Draining,
    /// drain_timeout is over: a plan ends where it is.
    Now,
}
