//! What the proxy is told of its webhook when it starts.

use super::target::Target;
use std::path::PathBuf;
use std::time::Duration;

/// What can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A statement was refused.
    Refused,
    /// A statement needs a second person.
    Asked,
    /// That person has decided.
    Decided,
    /// A plan has failed, was cancelled, or lost its client or server.
    Failed,
    /// A plan runs for long.
    Long,
    /// A plan has left something to be done on a later day.
    Contract,
    /// A job stands still unfinished, and nobody has paused it.
    Stopped,
    /// What was put aside can be dropped now.
    Due,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Refused,
        Kind::Asked,
        Kind::Decided,
        Kind::Failed,
        Kind::Long,
        Kind::Contract,
        Kind::Stopped,
        Kind::Due,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Refused => "refused",
            Kind::Asked => "asked",
            Kind::Decided => "decided",
            Kind::Failed => "failed",
            Kind::Long => "long",
            Kind::Contract => "contract",
            Kind::Stopped => "stopped",
            Kind::Due => "due",
        }
    }
}

/// How the messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    /// As Slack's incoming webhooks take them, and what speaks like them.
    Slack,
}

/// What the proxy is told of it when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    pub secret_file: Option<PathBuf>,
    /// Whom to trust over TLS; none: whom the system trusts.
    pub ca: Option<PathBuf>,
    pub kinds: Vec<Kind>,
    pub format: Format,
    /// A plan that runs for so long is told of.
    pub long: Duration,
}
