//! What waits for a second person: statements under the policy's action `ask`, and what was decided about each.
//!
//! It is kept in memory: a proxy that was started anew, or another one, asks again. An approval is for one role, database and text with its
//! parameters, and ends with its time.

use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// More do not wait at a time; the oldest is forgotten.
const WAITING_MAX: usize = 1_000;
/// How long what was approved may be sent.
const GOOD_FOR: Duration = Duration::from_secs(3_600);
/// How long what was asked for is kept.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

/// The role, the database, and a digest of the text and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub user: String,
    pub database: String,
    pub digest: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub approved: bool,
    pub by: String,
    pub reason: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Asks {
    pub key: Key,
    /// In the audit log.
    pub statement_id: String,
    /// As the log would have it.
    pub statement: String,
    pub rules: String,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub id: u64,
    pub statement_id: String,
    pub(super) key: Key,
    pub application_name: String,
    /// As the log would have it.
    pub statement: String,
    pub rules: String,
    pub asked: SystemTime,
    pub(super) decided: Option<(SystemTime, Decision)>,
}

#[derive(Debug, Default)]
pub struct Approvals {
    pub(super) last: u64,
    pub(super) requests: BTreeMap<u64, Request>,
}

impl Request {
    pub fn user(&self) -> &str {
        &self.key.user
    }

    pub fn database(&self) -> &str {
        &self.key.database
    }

    pub fn decision(&self) -> Option<&Decision> {
        self.decided.as_ref().map(|(_, decision)| decision)
    }
}

impl Approvals {
    pub(super) fn forget_old(&mut self, now: SystemTime) {
        let since = |then: SystemTime| now.duration_since(then).unwrap_or_default();
        self.requests.retain(|_, request| match &request.decided {
            Some((at, _)) => since(*at) < GOOD_FOR,
            None => since(request.asked) < KEPT_FOR,
        });
        while self.requests.len() >= WAITING_MAX {
            self.requests.pop_first();
        }
    }
}
