//! Tries for a lock so far, and what is said of them.

use super::blockers::{ending, held_by};
use super::step_context::StepContext;
use crate::audit::Blocker;
use crate::plan::{Place, Step};
use lockkeeper_wire::messages::Report;
use std::time::Duration;

/// Tries for a lock so far, and what came of them.
#[derive(Default)]
pub(super) struct Tries {
    pub count: u32,
    pub waited: Duration,
    /// Who was seen holding the lock, so far and the last time.
    pub seen: Vec<Blocker>,
    pub blockers: Vec<Blocker>,
    /// Changed and committed, by batches.
    pub rows: Option<u64>,
    /// lock_timeout of the longest.
    pub timeout_longest_ms: u64,
    /// What was done so that one could succeed, for the error.
    pub doing: String,
}

pub(super) fn waiting(step: &Step, tries: &Tries, doing: &str) -> String {
    let held = held_by(&tries.blockers);
    format!(
        "{}: waiting for {} on {}, try {}, {:.0} s{held}{}",
        step.label,
        step.lock.name(),
        step.relation,
        tries.count,
        tries.waited.as_secs_f64(),
        doing,
    )
}

/// `own`: it was the client's lock_timeout that ended the tries.
pub(super) fn gave_up(
    step: &Step,
    mut report: Report,
    tries: &Tries,
    setting: StepContext<'_>,
    own: Option<Duration>,
) -> Report {
    let held = held_by(&tries.blockers);
    let nothing = match setting.place {
        Place::Alone => "nothing was changed, try again when it is free",
        _ => "the transaction has failed, try it again when it is free",
    };
    let within = match own {
        Some(own) => format!("the session's lock_timeout of {} ms", own.as_millis()),
        None => format!("{:.0} s", tries.waited.as_secs_f64()),
    };
    let timeout_ms = setting.policy.lock.timeout_ms;
    let of = match tries.timeout_longest_ms {
        longest if longest > timeout_ms => format!("tries of {timeout_ms} to {longest} ms"),
        _ => format!("tries of {timeout_ms} ms"),
    };
    report.set(
        b'M',
        &format!(
            "lockkeeper: could not get {} on {} in {} {of} within {within}{held}{}; {nothing}",
            step.lock.name(),
            step.relation,
            tries.count,
            tries.doing,
        ),
    );
    let raise = match (own, setting.place) {
        (Some(_), _) => "raise the session's lock_timeout",
        (None, Place::Alone) => "raise give_up_after_s under [lock] in the policy",
        (None, Place::Block) => "raise give_up_in_transaction_s under [lock] in the policy",
        (None, Place::Pipeline) => {
            "send the statement behind a BEGIN or alone, where more than one try is made, or raise timeout_ms under [lock] in the policy"
        }
    };
    report.append(
        b'H',
        &format!(
            "End the transaction that holds the lock ({}), or {raise}.",
            ending(&tries.blockers)
        ),
    );
    report
}
