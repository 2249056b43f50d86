//! Who holds the lock that a step waits for, in words. Who it is, [`super::lock_holders`] asks between two tries and, where a statement itself waits,
//! the control connection.

use super::shared::Shared;
use crate::audit::{Blocker, query_of_another};
use crate::live::{Control, Seat};
use crate::plan::lock::LockMode;
use crate::plan::policy::Literals;
use crate::plan::splice::quote_literal;
use std::sync::Arc;
use std::time::Duration;

/// Of a query, in a NOTICE and in the audit log.
const QUERY_CHARACTERS_MAX: usize = 200;
/// More would not help anybody.
pub(super) const BLOCKERS_MAX: usize = 5;

/// How long somebody who was seen in the way is told of: between two tries nobody waits.
const TOLD_FOR: Duration = Duration::from_secs(3);

/// Whom a statement of this session waits for, which only the control connection sees while it runs.
#[derive(Clone)]
pub(super) struct Waits {
    pub(super) shared: Arc<Shared>,
    pub(super) seat: Arc<Seat>,
}

impl std::fmt::Debug for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waits").finish_non_exhaustive()
    }
}

impl Waits {
    pub fn unknown(&self) -> Option<&'static str> {
        match self.shared.live.control() {
            Control::Up => None,
            Control::Down => Some("the control connection is down"),
            Control::None => Some("there is no control connection (--control-dsn)"),
        }
    }

    /// `known` and who it is, or `unknown` and why; nothing where nobody is in the way.
    pub fn told(&self, known: &str, unknown: &str) -> String {
        if let Some(why) = self.unknown() {
            return format!("{unknown} is not known: {why}");
        }
        let held = self.seat.held();
        let now = held.now.as_ref().filter(|(then, _)| then.elapsed() < TOLD_FOR);
        match now.map(|(_, blockers)| blockers.as_slice()).unwrap_or_default() {
            [] => String::new(),
            blockers => format!("{known}{}", phrase(blockers)),
        }
    }

    /// All that were seen in the step's way.
    pub fn seen(&self) -> Vec<Blocker> {
        self.seat.held().seen.clone()
    }
}

/// The last that the session was seen with was put in by a proxy like this one: it tells nothing of what its client does.
fn is_ours(query: &str) -> bool {
    const PUT_IN: [&str; 6] = [
        "SELECT pg_catalog.set_config('",
        "SELECT pg_catalog.pg_sleep(",
        "SELECT pg_catalog.pg_current_xact_id",
        "SAVEPOINT lockkeeper_",
        "RELEASE SAVEPOINT lockkeeper_",
        "ROLLBACK TO SAVEPOINT lockkeeper_",
    ];
    PUT_IN.iter().any(|text| query.starts_with(text)) || query.contains("'lockkeeper.")
}

/// One line, without passwords and, where the policy says so, without literals.
pub(super) fn shortened(query: &str, literals: Literals) -> Option<String> {
    if is_ours(query) {
        return None;
    }
    let text = query_of_another(query, literals);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.char_indices().nth(QUERY_CHARACTERS_MAX).map(|(end, _)| end);
    let short = match end {
        Some(end) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    };
    (!short.is_empty()).then_some(short)
}

/// `AccessShareLock` as the manual writes it.
pub(super) fn mode_name(lock: &str) -> String {
    let known = LockMode::AccessExclusive
        .conflicts()
        .iter()
        .find(|mode| mode.pg_locks_name() == lock);
    known.map_or_else(|| lock.to_owned(), |mode| mode.name().to_owned())
}

/// For a NOTICE or an error: `; held by …`, or nothing where nobody is known.
pub(super) fn held_by(blockers: &[Blocker]) -> String {
    match blockers {
        [] => String::new(),
        _ => format!("; held by {}", phrase(blockers)),
    }
}

/// The statement that ends the first of them, whose transaction is the oldest.
pub(super) fn ending(blockers: &[Blocker]) -> String {
    match blockers.first() {
        Some(Blocker {
            prepared: Some(gid), ..
        }) => format!("ROLLBACK PREPARED {};", quote_literal(gid)),
        Some(Blocker { pid: Some(pid), .. }) => format!("SELECT pg_terminate_backend({pid});"),
        _ => "pg_terminate_backend".into(),
    }
}

pub(super) fn phrase(blockers: &[Blocker]) -> String {
    let told: Vec<String> = blockers.iter().map(one).collect();
    told.join(" and ")
}

fn one(blocker: &Blocker) -> String {
    let age = blocker.age_s.map(|age| format!(", for {age:.0} s")).unwrap_or_default();
    let user = blocker.user.as_deref().unwrap_or("");
    if let Some(gid) = &blocker.prepared {
        return format!(
            "the prepared transaction {} ({user}{age}; end it with ROLLBACK PREPARED)",
            quote_literal(gid)
        );
    }
    let mut who = vec![user.to_owned()];
    who.extend(blocker.application_name.clone());
    who.retain(|name| !name.is_empty());
    let state = blocker.state.as_deref().unwrap_or("its state is hidden from this role");
    let query = blocker
        .query
        .as_ref()
        .map(|query| format!(": {query}"))
        .unwrap_or_default();
    let pid = blocker.pid.unwrap_or_default();
    let who = who.join(" ");
    let comma = if who.is_empty() { "" } else { ", " };
    // Of who stands in the way of a concurrent build, no lock is known: the end of its transaction is what counts.
    let lock = match blocker.lock.as_str() {
        "" => String::new(),
        lock => format!(", {lock}"),
    };
    format!("pid {pid} ({who}{comma}{state}{age}{lock}{query})")
}

/// Adds those seen now to those seen before, with what is known of them now.
pub(super) fn merge(seen: &mut Vec<Blocker>, now: &[Blocker]) {
    for blocker in now {
        let same = |other: &Blocker| other.pid == blocker.pid && other.prepared == blocker.prepared;
        match seen.iter().position(same) {
            Some(at) => seen[at].clone_from(blocker),
            None if seen.len() < 2 * BLOCKERS_MAX => seen.push(blocker.clone()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_told_in_one_phrase() {
        let mut blocker = Blocker {
            pid: Some(7),
            user: Some("amy".into()),
            application_name: Some("report".into()),
            state: Some("idle in transaction".into()),
            age_s: Some(12.4),
            lock: "ACCESS SHARE".into(),
            query: Some("SELECT 1".into()),
            ..Blocker::default()
        };
        let check = |blocker: &Blocker, expect: &str| assert_eq!(held_by(std::slice::from_ref(blocker)), expect);
        check(
            &blocker,
            "; held by pid 7 (amy report, idle in transaction, for 12 s, ACCESS SHARE: SELECT 1)",
        );
        (blocker.state, blocker.age_s, blocker.query) = (None, None, None);
        check(
            &blocker,
            "; held by pid 7 (amy report, its state is hidden from this role, ACCESS SHARE)",
        );
        (blocker.pid, blocker.prepared) = (None, Some("x'y".into()));
        check(
            &blocker,
            "; held by the prepared transaction 'x''y' (amy; end it with ROLLBACK PREPARED)",
        );
        assert_eq!(ending(std::slice::from_ref(&blocker)), "ROLLBACK PREPARED 'x''y';");
        (blocker.pid, blocker.prepared) = (Some(7), None);
        assert_eq!(ending(&[blocker]), "SELECT pg_terminate_backend(7);");
        assert_eq!(ending(&[]), "pg_terminate_backend");
        assert_eq!(held_by(&[]), "");
    }

    #[test]
    fn queries_are_short_and_hide_what_must_be_hidden() {
        let long = format!("SELECT\n  '{}'", "é".repeat(300));
        let short = shortened(&long, Literals::Keep).expect("text");
        assert!(
            short.starts_with("SELECT 'éé") && short.ends_with(" …") && short.chars().count() == 202,
            "{short}"
        );
        let redacted = shortened("UPDATE t SET a = 'x' WHERE b = 12", Literals::Redact);
        assert_eq!(redacted.as_deref(), Some("UPDATE t SET a = '?' WHERE b = ?"));
        let masked = shortened("ALTER ROLE a PASSWORD 'x'", Literals::Keep);
        assert_eq!(masked.as_deref(), Some("ALTER ROLE a PASSWORD '***'"));
        assert_eq!(shortened("", Literals::Keep), None);
        assert_eq!(mode_name("ShareUpdateExclusiveLock"), "SHARE UPDATE EXCLUSIVE");
    }
}
