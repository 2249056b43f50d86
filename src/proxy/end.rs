//! How what was begun for a client ends otherwise than well: refused, which the client is told, or with the connection.

use lockkeeper_wire::messages::Report;
use std::io;

/// Why a session cannot go on.
#[derive(Debug)]
pub enum Broken {
    Client(io::Error),
    Server(io::Error),
    /// The client sent what no client may send.
    Protocol(String),
    /// The session was refused as a whole, for this reason.
    Refused(Box<Report>),
    /// Nothing is broken: what the session wants to know of a long statement is asked when its tree is gone. Caught by
    /// [`Session::verdict_now`](super::session::Session::verdict_now).
    Aside,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Client(error) => write!(f, "connection to the client: {error}"),
            Broken::Server(error) => write!(f, "connection to the server: {error}"),
            Broken::Protocol(what) => write!(f, "protocol violation: {what}"),
            Broken::Refused(report) => write!(f, "refused: {}", report.message()),
            Broken::Aside => write!(f, "a question was left for later"),
        }
    }
}

/// Why something was not done to its end.
#[derive(Debug)]
pub enum End {
    /// The client hears this, and the session goes on.
    Refused(Report),
    /// The session is over.
    Broken(Broken),
}

impl End {
    /// What the client hears, in other words.
    pub fn reworded(self, reword: impl FnOnce(Report) -> Report) -> End {
        match self {
            End::Refused(report) => End::Refused(reword(report)),
            End::Broken(broken) => End::Broken(broken),
        }
    }
}

impl From<Report> for End {
    fn from(report: Report) -> End {
        End::Refused(report)
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> End {
        End::Broken(broken)
    }
}

/// Of what may be refused without harm. None: it was.
pub fn unless_refused<T>(outcome: Result<T, End>) -> Result<Option<T>, Broken> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(End::Refused(_)) => Ok(None),
        Err(End::Broken(broken)) => Err(broken),
    }
}

/// The command that a transaction has ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    Commit,
    Rollback,
}

pub(super) const SHUTTING_DOWN: &str = "terminating connection: lockkeeper is shutting down";
