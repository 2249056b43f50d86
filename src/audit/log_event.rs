//! What the audit log says of itself.

use super::{chain, time};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// What happened to the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A process began to write.
    Opened,
    /// The lines before these are in another file, whose last one is named.
    Continues,
    /// What stands before this line is torn.
    Repaired,
    /// Lines that had been there are gone.
    Cut,
    /// Events could not be written.
    Lost,
    /// A process ended in order. Where the last line is another, it still runs, was killed, or the end was cut away.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogTag {
    Log,
}

/// A line about the log itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEvent {
    #[serde(with = "time")]
    pub time: SystemTime,
    pub(super) event: LogTag,
    pub what: What,
    /// In words.
    pub message: String,
    /// The process that wrote it, and its version.
    pub pid: u32,
    pub program: String,
    /// Where the lines before are, and the last of them.
    pub file: Option<String>,
    pub last_seq: Option<u64>,
    pub last_hash: Option<String>,
    pub lost: Option<u64>,
    /// Of what is torn; its hash lets `verify` tell it from what was put there later.
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
}

impl LogEvent {
    pub(super) fn new(what: What, message: String) -> LogEvent {
        LogEvent {
            time: SystemTime::now(),
            event: LogTag::Log,
            what,
            message,
            pid: std::process::id(),
            program: concat!("lockkeeper ", env!("CARGO_PKG_VERSION")).into(),
            file: None,
            last_seq: None,
            last_hash: None,
            lost: None,
            bytes: None,
            sha256: None,
        }
    }

    pub(super) fn after(mut self, before: Option<(String, chain::Link)>) -> LogEvent {
        if let Some((file, link)) = before {
            self.file = Some(file).filter(|file| !file.is_empty());
            self.last_seq = Some(link.seq);
            self.last_hash = Some(chain::hex(&link.hash));
        }
        self
    }

    pub(super) fn object(&self) -> Vec<u8> {
        // Strings and numbers only: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
