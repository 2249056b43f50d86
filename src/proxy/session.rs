//! One client and its server connection: what its methods know.
//!
//! The methods stand in many files, each of which calls only those below it: [`super::dispatch`] is the top.

use super::deferred::pending::DeferredWork;
use super::entry::Uncommitted;
use super::relay::Relay;
use super::shared::{CancelFlag, Shared};
use crate::audit::Who;
use crate::live::Seated;
use crate::plan::batches::bound::Ground;
use crate::plan::facts::Cascaded;
use std::collections::HashMap;
use std::sync::Arc;

pub struct Session {
    pub(super) relay: Relay,
    /// Its server, by its place in the list.
    pub(super) server: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) cancel: Arc<CancelFlag>,
    pub(super) who: Who,
    /// What others see of it.
    pub(super) seat: Seated,
    /// Statements that were judged, for the audit events' ids.
    pub(super) judged: u64,
    /// What was asked for the statement before this one, within the same transaction.
    pub(super) before: Option<super::known::Before>,
    /// The last plan failed, and it had statements of our own.
    pub(super) raced: bool,
    /// What the statement that is being judged takes with it by foreign keys, where that is much; or by which these are to be counted still.
    pub(super) cascaded: Option<Cascaded>,
    pub(super) cascading: Option<Arc<Ground>>,
    /// Before the planner was asked about a statement of which it guesses the rows, and which may be remembered.
    pub(super) guessed: Option<super::shapes::Before>,
    /// Of a statement's parts more rows were counted than it may change.
    pub(super) more_were_counted: bool,
    /// Of the statement that is carried out.
    pub(super) limits: super::time_limits::Limits,
    /// It has been recognised as a migration tool's.
    pub(super) looked: bool,
    /// What waits for the client's COMMIT.
    pub(super) deferred: DeferredWork,
    /// Jobs that are done, and whose client is about to hear so.
    pub(super) unanswered: Vec<i64>,
    /// Of jobs that this session runs: the keys of their advisory locks.
    pub(super) job_keys: std::collections::HashMap<i64, i64>,
    /// `lockkeeper.job` could not be used when it was read without asking first.
    pub(super) doubts_jobs: bool,
    /// Statements of the audit log whose transaction is open.
    pub(super) uncommitted: Vec<Uncommitted>,
    /// What is asked about a long statement without its tree.
    pub(super) aside: super::known::Aside,
    /// The last step of the plan that has just been carried out.
    pub(super) last_step: Option<crate::audit::Event>,
    /// Lines of the audit log that are on their way.
    pub(super) posted: Vec<crate::audit::Posted>,
    /// What it knows of its prepared statements in a dry run; and whether the statement that is being judged is for one.
    pub(super) dry: super::dry::looked::Looked,
    pub(super) is_dry: bool,
    /// A second person has decided while the statement waited: it is judged once more.
    pub(super) was_decided: bool,
    /// How many NOTICEs about findings the client has heard, by rule.
    pub(super) notices: HashMap<String, u32>,
}
