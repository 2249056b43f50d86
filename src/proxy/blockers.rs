//! Who holds the lock that a step waits for: asked on the client's own connection between two tries, and where a statement
//! itself waits, by the control connection.

use super::Shared;
use super::dialogue::{Answer, Ask, Closing, Hears, NAMED};
use super::relay::{Broken, unless_refused};
use super::session::Session;
use crate::audit::{Blocker, query_of_another};
use crate::live::{Control, Seat};
use crate::plan::ascii::{decoded, encoded};
use crate::plan::lock::LockMode;
use crate::plan::policy::Literals;
use crate::plan::splice::quote_literal;
use std::sync::Arc;
use std::time::Duration;

/// Of a query, in a NOTICE and in the audit log.
const QUERY_CHARACTERS_MAX: usize = 200;
/// More would not help anybody.
const BLOCKERS_MAX: usize = 5;

/// How long somebody who was seen in the way is told of: between two tries nobody waits.
const TOLD_FOR: Duration = Duration::from_secs(3);

/// Whom a statement of this session waits for, which only the control connection sees while it runs.
#[derive(Clone)]
pub(super) struct Waits {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
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

impl Session {
    pub(super) fn waits(&self) -> Waits {
        Waits {
            shared: Arc::clone(&self.shared),
            seat: self.seat.shared(),
        }
    }

    /// Those that hold a lock on the relation, or on one that inherits from it, which conflicts with that mode; the oldest
    /// transaction first. What the role may not see is left out. A failure of the question means that nobody is named.
    pub(super) async fn blockers(&mut self, relation: &str, wanted: LockMode) -> Result<Vec<Blocker>, Broken> {
        let asked = [Ask::about(question(wanted), relation)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        let answer = answers.and_then(|answers| answers.into_iter().next());
        Ok(answered(answer.as_ref(), self.shared.policy().audit_literals))
    }
}

/// Of [`question`].
pub(super) fn answered(answer: Option<&Answer>, literals: Literals) -> Vec<Blocker> {
    let mut blockers: Vec<Blocker> = answer
        .and_then(Answer::value)
        .and_then(|blockers| decoded(blockers).ok())
        .unwrap_or_default();
    for blocker in &mut blockers {
        blocker.query = blocker.query.as_deref().and_then(|query| shortened(query, literals));
        blocker.lock = mode_name(&blocker.lock);
    }
    blockers
}

pub(super) fn question(wanted: LockMode) -> String {
    let modes: Vec<String> = wanted
        .conflicts()
        .iter()
        .map(|mode| quote_literal(&mode.pg_locks_name()))
        .collect();
    // A prepared transaction has no process. Its locks keep the virtual transaction ID that its session had, and one of them
    // is on its own transaction ID, by which pg_prepared_xacts knows it.
    format!(
        "SELECT {} FROM (\
         SELECT pg_catalog.jsonb_build_object('pid', a.pid, 'prepared', p.gid, 'user', COALESCE(a.usename, p.owner), \
         'application_name', a.application_name, 'client', a.client_addr::text, 'state', CASE WHEN p.gid IS NOT NULL THEN 'prepared' \
         WHEN a.backend_type <> 'client backend' THEN a.backend_type ELSE a.state END, \
         'age_s', pg_catalog.round(t.age::numeric, 1), 'lock', l.mode, 'query', NULLIF(a.query, '<insufficient privilege>')) AS blocker, t.age \
         FROM (SELECT l.pid, l.virtualtransaction, (pg_catalog.array_agg(l.mode ORDER BY pg_catalog.array_position(\
         ARRAY['AccessShareLock','RowShareLock','RowExclusiveLock','ShareUpdateExclusiveLock','ShareLock','ShareRowExclusiveLock',\
         'ExclusiveLock','AccessExclusiveLock'], l.mode) DESC))[1] AS mode FROM pg_catalog.pg_locks l \
         WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND l.mode IN ({}) \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         AND l.relation IN (SELECT r.oid FROM (SELECT {NAMED} AS oid) r UNION ALL \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = {NAMED}) \
         GROUP BY l.pid, l.virtualtransaction) l \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction IN (SELECT x.transactionid \
         FROM pg_catalog.pg_locks x WHERE x.locktype = 'transactionid' AND x.pid IS NULL AND x.granted \
         AND x.virtualtransaction = l.virtualtransaction) \
         CROSS JOIN LATERAL (SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp() \
         - COALESCE(a.xact_start, a.query_start, p.prepared)) AS age) t \
         WHERE a.pid IS NOT NULL OR p.gid IS NOT NULL ORDER BY t.age DESC NULLS LAST LIMIT {BLOCKERS_MAX}) b",
        encoded("pg_catalog.jsonb_agg(b.blocker ORDER BY b.age DESC NULLS LAST)"),
        modes.join(", "),
    )
}

/// One row, or none: of those who wait for a lock of this transaction, perhaps by way of others, one who stands in the way of the lock
/// wanted, or else any: `pid 7 (ann web)`; the relation it waits for and the one that is wanted; whether they wait for each other; and
/// the server's deadlock_timeout.
pub(super) fn circle(wanted: LockMode) -> String {
    let modes: Vec<String> = wanted
        .conflicts()
        .iter()
        .map(|mode| quote_literal(&mode.pg_locks_name()))
        .collect();
    format!(
        "WITH RECURSIVE waits AS MATERIALIZED (SELECT l.pid, l.relation, pg_catalog.pg_blocking_pids(l.pid) AS blockers \
         FROM pg_catalog.pg_locks l WHERE NOT l.granted AND l.pid <> pg_catalog.pg_backend_pid()), \
         us(pid, relation) AS (SELECT w.pid, w.relation FROM waits w WHERE pg_catalog.pg_backend_pid() = ANY (w.blockers) \
         UNION SELECT w.pid, u.relation FROM us u JOIN waits w ON u.pid = ANY (w.blockers)), \
         holders AS (SELECT l.pid, l.relation FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ({}) \
         AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         AND l.relation IN (SELECT r.oid FROM (SELECT {NAMED} AS oid) r UNION ALL \
         SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = {NAMED})) \
         SELECT pg_catalog.format('pid %s (%s%s)', u.pid, a.usename, CASE WHEN a.application_name <> '' \
         THEN ' ' || a.application_name ELSE '' END), u.relation::pg_catalog.regclass::text, h.relation::pg_catalog.regclass::text, \
         h.pid IS NOT NULL, (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout') \
         FROM us u LEFT JOIN holders h ON h.pid = u.pid LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = u.pid \
         ORDER BY h.pid IS NULL LIMIT 1",
        modes.join(", "),
    )
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
fn mode_name(lock: &str) -> String {
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
