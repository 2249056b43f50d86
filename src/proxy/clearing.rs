//! What is done between two tries for a lock, so that the next has a chance: the holders are looked at, statements that would
//! keep the table busy are held back, and sessions that the policy gives up are ended.
//!
//! Start at [`Session::clear_the_way`].

use super::blockers::{held_by, merge};
use super::chances::{Chances, Doing, Holder, end_within};
use super::dialogue::{Answer, Ask, Closing, Hears, NAMED};
use super::end::{Broken, End, unless_refused};
use super::entry::Entry;
use super::lock_holders::{self, FRESH, Seen};
use super::session::Session;
use super::step_context::StepContext;
use super::tries::{Tries, gave_up, waiting};
use crate::audit::Blocker;
use crate::plan::ascii::{decoded, encoded};
use crate::plan::lock::LockMode;
use crate::plan::policy::LockCancel;
use crate::plan::splice::quote_literal;
use crate::plan::{Place, Step};
use crate::usage::holds::Opened;
use lockkeeper_wire::messages::Report;
use std::time::{Duration, Instant};

/// So many windows in vain, and the next opens only after a pause that is twice as long as the one before.
const GAP_MAX: Duration = Duration::from_secs(60);
/// A holder that was ended is given so long to go.
const END_TIME: Duration = Duration::from_secs(2);

/// One step's way to its lock.
pub(super) struct Clearing {
    pub chances: Chances,
    /// Schema and name of what a statement may name that keeps the step's table busy; asked once.
    names: Option<Vec<(String, String, bool)>>,
    window: Option<Opened>,
    windows: u32,
    /// From when on another may be opened.
    opens: Instant,
    /// Statements that were held for this step.
    held: u64,
    ended: Vec<(i32, Instant)>,
    /// How many were ended.
    ended_total: u32,
    /// The holders were sure to outlast a try, when they were looked at last.
    in_vain: bool,
    /// When the client was told last.
    pub told: Instant,
}

impl Clearing {
    pub fn new() -> Clearing {
        let now = Instant::now();
        Clearing {
            chances: Chances::new(now),
            names: None,
            window: None,
            windows: 0,
            opens: now,
            held: 0,
            ended: Vec::new(),
            ended_total: 0,
            in_vain: false,
            told: now,
        }
    }

    /// For the NOTICE and the error: what is being done about it.
    pub fn doing(&self) -> String {
        let now = self.window.as_ref().map_or(0, Opened::now);
        let held = self.held + self.window.as_ref().map_or(0, Opened::total);
        let mut told = String::new();
        if now > 0 {
            told.push_str(&format!("; {} held back until it is done", statements(now as u64)));
        } else if held > 0 {
            told.push_str(&format!("; {} held back for a while", statements(held)));
        }
        if self.in_vain {
            told.push_str("; no try is made while a holder is sure to outlast it");
        }
        if self.ended_total > 0 {
            let sessions = if self.ended_total == 1 {
                "session was"
            } else {
                "sessions were"
            };
            told.push_str(&format!("; {} {sessions} ended by [[lock.cancel]]", self.ended_total));
        }
        told
    }

    fn close(&mut self) {
        if let Some(window) = self.window.take() {
            self.held += window.total();
            let gap = window_gap(self.windows, window.opened_for());
            self.opens = Instant::now() + gap;
        }
    }
}

fn statements(n: u64) -> String {
    match n {
        1 => "1 statement was".into(),
        n => format!("{n} statements were"),
    }
}

/// The first pause is as long as a window.
fn window_gap(windows: u32, length: Duration) -> Duration {
    (length * 2u32.saturating_pow(windows.saturating_sub(1))).min(GAP_MAX.max(length))
}

impl Session {
    /// Between two tries, until the next has a chance or `give_up` is over. Some: the wait ends with this.
    pub(super) async fn clear_the_way(
        &mut self,
        step: &Step,
        setting: StepContext<'_>,
        (tries, clearing): (&mut Tries, &mut Clearing),
        (entry, n): (&Entry, usize),
        until: Instant,
    ) -> Result<(), End> {
        let lock = &setting.policy.lock;
        let mut is_first = true;
        loop {
            if setting.place == Place::Block
                && let Some(report) = self.stands_in_the_way(step, tries, setting).await?
            {
                return Err(report.into());
            }
            let seen = self.holders(&step.relation, step.lock).await?;
            let holders: Vec<Holder> = seen.iter().map(|seen| self.holder(seen)).collect();
            self.end_blockers(&seen, setting, clearing, (entry, n)).await?;
            self.hold_others(step, setting, clearing, &holders).await?;
            let vain = clearing.chances.in_vain(Instant::now(), &holders, lock);
            clearing.in_vain = vain.is_some();
            let seen = seen.into_iter().map(|seen| seen.blocker).collect();
            self.tell_waiting((step, setting), (tries, clearing), seen, (entry, n))
                .await?;
            let pause = match (is_first, vain) {
                (true, _) => clearing.chances.pause(lock),
                (false, Some(pause)) => pause,
                (false, None) => return Ok(()),
            };
            let left = until.saturating_duration_since(Instant::now());
            self.pause(pause.min(left), setting.place).await?;
            tries.waited += pause.min(left);
            if vain.is_none() || Instant::now() >= until {
                return Ok(());
            }
            is_first = false;
        }
    }

    /// The same, once, for what makes its tries itself.
    pub(super) async fn clear_for_rewrite(
        &mut self,
        step: &Step,
        setting: StepContext<'_>,
        clearing: &mut Clearing,
    ) -> Result<(), End> {
        let seen = self.holders(&step.relation, step.lock).await?;
        let holders: Vec<Holder> = seen.iter().map(|seen| self.holder(seen)).collect();
        Ok(self.hold_others(step, setting, clearing, &holders).await?)
    }

    fn holder(&self, seen: &Seen) -> Holder {
        let blocker = &seen.blocker;
        let doing = match (blocker.state.as_deref(), seen.state_s) {
            (Some("prepared"), _) => Doing::Prepared,
            (Some("idle in transaction" | "idle in transaction (aborted)"), Some(for_s)) => Doing::Idle(for_s),
            (Some("active"), Some(for_s)) => Doing::Active(for_s, self.usual_s(seen)),
            _ => Doing::Unknown,
        };
        Holder {
            doing,
            age_s: blocker.age_s,
        }
    }

    /// How long three of four such statements take.
    fn usual_s(&self, seen: &Seen) -> Option<f64> {
        let traffic = &self.shared.live.traffic;
        let shape = traffic.number(seen.text.as_deref()?.as_bytes(), true);
        Some(traffic.usual(shape)?.quarter.as_secs_f64())
    }

    /// Who holds the lock now. The audit log hears of it when it is somebody else than before.
    pub(super) async fn look_for_blockers(
        &mut self,
        step: &Step,
        tries: &mut Tries,
        (entry, n): (&Entry, usize),
    ) -> Result<(), Broken> {
        let seen = self.holders(&step.relation, step.lock).await?;
        let now = seen.into_iter().map(|seen| seen.blocker).collect();
        self.note_blockers(now, tries, (entry, n)).await;
        Ok(())
    }

    async fn note_blockers(&mut self, now: Vec<Blocker>, tries: &mut Tries, (entry, n): (&Entry, usize)) {
        let same = now.len() == tries.blockers.len()
            && now
                .iter()
                .zip(&tries.blockers)
                .all(|(now, before)| now.pid == before.pid && now.prepared == before.prepared);
        merge(&mut tries.seen, &now);
        let told = held_by(&now);
        self.seat
            .change(|plan| plan.blocked_by = told.strip_prefix("; held by ").map(str::to_owned));
        tries.blockers = now;
        if !same {
            self.record_waiting(entry, n, tries.waited, &tries.blockers).await;
        }
    }

    /// The client and the audit log hear of what is waited for, not more often than the policy says.
    async fn tell_waiting(
        &mut self,
        (step, setting): (&Step, StepContext<'_>),
        (tries, clearing): (&mut Tries, &mut Clearing),
        blockers: Vec<Blocker>,
        (entry, n): (&Entry, usize),
    ) -> Result<(), Broken> {
        let due = clearing.told.elapsed() >= Duration::from_millis(setting.policy.backfill.notice_ms);
        // At once too, so that whoever held it briefly is known as well.
        if due || tries.count == 1 && tries.blockers.is_empty() {
            self.note_blockers(blockers, tries, (entry, n)).await;
        }
        if due {
            clearing.told = Instant::now();
            let text = waiting(step, tries, &clearing.doing());
            self.relay.notice(&text).await?;
        }
        Ok(())
    }

    /// Between two tries nobody sees this transaction wait, so that the server's deadlock detector is blind: whether those that it waits
    /// for wait for it in turn is asked here. Others who wait for its locks are not kept for long either.
    async fn stands_in_the_way(
        &mut self,
        step: &Step,
        tries: &Tries,
        setting: StepContext<'_>,
    ) -> Result<Option<Report>, Broken> {
        let asked = [Ask::about(lock_holders::circle(step.lock), &step.relation)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        let row = answers.and_then(|answers| answers.into_iter().next()?.rows.into_iter().next());
        let Some([Some(waiter), wants, needs, in_circle, patience_ms]) = row.as_deref() else {
            return Ok(None);
        };
        let (wants, waits_for) = match wants.as_deref() {
            Some(table) => (table, format!("{table}, which this transaction holds")),
            None => ("what it waits for", "the end of this transaction".to_string()),
        };
        let needs = needs.as_deref().unwrap_or(&step.relation);
        if in_circle.as_deref() == Some("t") {
            let report = Report::error(
                "40P01",
                &format!(
                    "lockkeeper: deadlock detected: {waiter} holds a lock on {needs} that this statement needs, and waits for {waits_for}; \
                     this one gives way"
                ),
            );
            let order = format!(
                "Take the locks in the order in which the application does, {needs} before {wants}: put the statements about {needs} first, or \
                 each table's change into a transaction of its own. ROLLBACK, then try again."
            );
            return Ok(Some(report.hint(&order)));
        }
        let patience = patience_ms.as_deref().and_then(|ms| ms.parse().ok()).unwrap_or(1_000);
        if tries.waited < Duration::from_millis(patience) {
            return Ok(None);
        }
        let report = Report::error("55P03", "");
        let mut report = gave_up(step, report, tries, setting, None);
        report.append(
            b'D',
            &format!("lockkeeper: {waiter} waits for {waits_for}, and is not kept waiting for longer."),
        );
        Ok(Some(report))
    }

    pub(super) async fn back_to_savepoint(&mut self) -> Result<(), End> {
        let point = &self.relay.reserved;
        let back = [
            Ask::as_client(format!("ROLLBACK TO SAVEPOINT {point}")),
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
        Ok(())
    }

    // --- holding others back ----------------------------------------------------------------------------------------------

    async fn hold_others(
        &mut self,
        step: &Step,
        setting: StepContext<'_>,
        clearing: &mut Clearing,
        holders: &[Holder],
    ) -> Result<(), Broken> {
        let hold_ms = setting.policy.lock.hold_ms;
        if clearing.window.as_ref().is_some_and(Opened::is_over) {
            clearing.close();
        }
        if hold_ms == 0 || clearing.window.is_none() && Instant::now() < clearing.opens {
            return Ok(());
        }
        // Who waits for nobody's sake is not held back.
        let writes = match step.lock {
            LockMode::AccessExclusive => false,
            LockMode::Exclusive | LockMode::ShareRowExclusive | LockMode::Share => true,
            _ => return Ok(()),
        };
        if clearing.names.is_none() {
            clearing.names = Some(self.names_of(&step.relation).await?);
        }
        let names = clearing.names.as_deref().unwrap_or_default();
        let shapes = self.long_shapes(names, writes, setting.policy.lock.timeout_ms);
        match &clearing.window {
            Some(window) => window.add(shapes),
            // They are there for longer: holding others back would only delay them.
            None if shapes.is_empty() || !end_within(holders, hold_ms) => {}
            None => {
                let holds = &self.shared.live.holds;
                let time = Duration::from_millis(hold_ms);
                clearing.window = holds.open(&self.who.database, &step.relation, shapes, time);
                clearing.windows += u32::from(clearing.window.is_some());
            }
        }
        Ok(())
    }

    /// Shapes that lock one of these relations, and usually take longer than a try or have done so since they run.
    fn long_shapes(&self, names: &[(String, String, bool)], writes: bool, timeout_ms: u64) -> Vec<u64> {
        let traffic = &self.shared.live.traffic;
        let try_time = Duration::from_millis(timeout_ms);
        let running = self.shared.live.running_longer(&self.who.database, try_time);
        let mut shapes = self.shared.live.usage.locking(names, writes);
        shapes.retain(|shape| {
            running.contains(shape) || traffic.usual(*shape).is_some_and(|usual| usual.half > try_time)
        });
        shapes
    }

    /// What a statement may name that locks the relation: itself, what inherits from it and what it inherits from, and views of these; and
    /// whether no other schema has a relation of that name. Nothing where the relation is somebody else's: PostgreSQL looks at rights only
    /// when it has the lock, and nobody is to be held back by who may change nothing.
    async fn names_of(&mut self, relation: &str) -> Result<Vec<(String, String, bool)>, Broken> {
        let sql = format!(
            "WITH RECURSIVE base(oid) AS (SELECT {NAMED} UNION SELECT x.indrelid FROM pg_catalog.pg_index x WHERE x.indexrelid = {NAMED}), \
             down(oid) AS (SELECT b.oid FROM base b UNION SELECT i.inhrelid FROM down d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid), \
             up(oid) AS (SELECT b.oid FROM base b UNION SELECT i.inhparent FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.oid), \
             seen(oid) AS (SELECT d.oid FROM down d UNION SELECT u.oid FROM up u UNION SELECT v.oid FROM seen s \
             JOIN pg_catalog.pg_depend p ON p.refobjid = s.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND p.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass JOIN pg_catalog.pg_rewrite r ON r.oid = p.objid \
             JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind = 'v') \
             SELECT {} FROM seen s JOIN pg_catalog.pg_class c ON c.oid = s.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE NOT EXISTS (SELECT FROM base b JOIN pg_catalog.pg_class o ON o.oid = b.oid WHERE NOT pg_catalog.pg_has_role(o.relowner, 'USAGE'))",
            encoded(
                "pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(n.nspname, c.relname, \
                 NOT EXISTS (SELECT FROM pg_catalog.pg_class other JOIN pg_catalog.pg_namespace m ON m.oid = other.relnamespace \
                 WHERE other.relname = c.relname AND other.oid <> c.oid AND m.nspname !~ '^lockkeeper_[0-9]+(_old)?$')))"
            )
        );
        let asked = [Ask::about(sql, relation)];
        let answers = unless_refused(self.relay.ask(&asked, Closing::Sync, Hears::Nothing).await)?;
        let answer = answers.and_then(|answers| answers.into_iter().next());
        let names = answer.as_ref().and_then(Answer::value);
        Ok(names.and_then(|names| decoded(names).ok()).unwrap_or_default())
    }

    // --- ending those who stay ---------------------------------------------------------------------------------------------

    /// As `[[lock.cancel]]` says. A session that is asked for is asked once, and again when it is still there after a while.
    async fn end_blockers(
        &mut self,
        seen: &[Seen],
        setting: StepContext<'_>,
        clearing: &mut Clearing,
        (entry, n): (&Entry, usize),
    ) -> Result<(), End> {
        clearing.ended.retain(|(_, at)| at.elapsed() < END_TIME);
        for seen in seen {
            let blocker = &seen.blocker;
            let Some(pid) = blocker
                .pid
                .filter(|pid| clearing.ended.iter().all(|(ended, _)| ended != pid))
            else {
                continue;
            };
            let Some((how, function)) = may_end(seen, &setting.policy.lock.cancels) else {
                continue;
            };
            clearing.ended.push((pid, Instant::now()));
            // One that carries a plan of this proxy ends when its plan does.
            if self.shared.live.seat_of(pid).is_some_and(|seat| seat.has_plan()) {
                continue;
            }
            // Its transaction is looked at again in the same breath: it may be another by now.
            let sql = format!(
                "SELECT pg_catalog.{function}(a.pid) FROM pg_catalog.pg_stat_activity a \
                 WHERE a.pid = {pid} AND a.state = '{}' AND a.state_change <= pg_catalog.clock_timestamp() - '{} s'::pg_catalog.interval \
                 AND a.usename = {} AND a.application_name = {} \
                 AND EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted)",
                how.state,
                how.after_s,
                quote_literal(blocker.user.as_deref().unwrap_or_default()),
                quote_literal(blocker.application_name.as_deref().unwrap_or_default()),
            );
            // In a transaction block the server shows what it has shown before.
            self.ask_apart(Ask::new(FRESH), setting.place).await?;
            let told = held_by(std::slice::from_ref(blocker));
            let who = told.strip_prefix("; held by ").unwrap_or(&told);
            match self.ask_apart(Ask::new(sql), setting.place).await {
                Ok(answer) if answer.value() == Some("t") => {
                    clearing.ended_total += 1;
                    tracing::warn!(pid, function, "a session was in the way of a schema change");
                    self.relay
                        .notice(&format!("{} by [[lock.cancel]]: {who}", how.done))
                        .await?;
                    self.record_ended(entry, n, how.done, blocker).await;
                }
                Ok(_) => {}
                Err(End::Refused(report)) => {
                    let why = format!(
                        "could not be ended as [[lock.cancel]] says ({}): {who}",
                        report.message()
                    );
                    self.relay.notice(&why).await?;
                    clearing.ended.push((pid, Instant::now() + Duration::from_secs(3600)));
                }
                Err(broken) => return Err(broken),
            }
        }
        Ok(())
    }
}

impl Session {
    /// What may fail: within the client's transaction it must not fail that.
    async fn ask_apart(&mut self, ask: Ask, place: Place) -> Result<Answer, End> {
        if place != Place::Block {
            return Ok(self
                .relay
                .ask(&[ask], Closing::Sync, Hears::Nothing)
                .await?
                .swap_remove(0));
        }
        let point = self.relay.reserved.clone();
        let asks = [
            Ask::as_client(format!("SAVEPOINT {point}")),
            ask,
            Ask::as_client(format!("RELEASE SAVEPOINT {point}")),
        ];
        match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Err(End::Refused(report)) => {
                self.back_to_savepoint().await?;
                Err(report.into())
            }
            answers => Ok(answers?.swap_remove(1)),
        }
    }
}

/// What is done to a session, and what must still be true of it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ending {
    state: &'static str,
    after_s: u64,
    done: &'static str,
}

/// By the first block that speaks of it.
fn may_end(seen: &Seen, cancels: &[LockCancel]) -> Option<(Ending, &'static str)> {
    let blocker = &seen.blocker;
    let application = blocker.application_name.as_deref()?;
    let role = blocker.user.as_deref()?;
    let for_s = seen.state_s?;
    let cancel = cancels.iter().find(|cancel| cancel.is_about(application, role))?;
    let after = |limit: Option<u64>| limit.filter(|limit| for_s >= *limit as f64);
    match blocker.state.as_deref()? {
        "active" => {
            let ending = |after_s| Ending {
                state: "active",
                after_s,
                done: "a statement was cancelled",
            };
            after(cancel.active_s).map(|after_s| (ending(after_s), "pg_cancel_backend"))
        }
        state @ ("idle in transaction" | "idle in transaction (aborted)") => {
            let state = if state == "idle in transaction" {
                "idle in transaction"
            } else {
                "idle in transaction (aborted)"
            };
            let ending = |after_s| Ending {
                state,
                after_s,
                done: "a session was terminated",
            };
            after(cancel.idle_in_transaction_s).map(|after_s| (ending(after_s), "pg_terminate_backend"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whom_a_block_speaks_of_is_ended() {
        let cancels = [LockCancel {
            application: Some("report*".into()),
            role: None,
            idle_in_transaction_s: Some(60),
            active_s: Some(600),
        }];
        let check = |application: &str, state: &str, for_s: f64, expect: Option<&str>| {
            let seen = Seen {
                blocker: crate::audit::Blocker {
                    application_name: Some(application.into()),
                    user: Some("ann".into()),
                    state: Some(state.into()),
                    ..Default::default()
                },
                state_s: Some(for_s),
                text: None,
            };
            assert_eq!(
                may_end(&seen, &cancels).map(|(_, function)| function),
                expect,
                "{application} {state}"
            );
        };
        check("reports", "idle in transaction", 61.0, Some("pg_terminate_backend"));
        check("reports", "idle in transaction", 59.0, None);
        check("reports", "active", 61.0, None);
        check("reports", "active", 601.0, Some("pg_cancel_backend"));
        check("web", "idle in transaction", 999.0, None);
        check("reports", "autovacuum worker", 999.0, None);
    }

    #[test]
    fn windows_in_vain_come_less_often() {
        let gaps: Vec<u64> = (1..7)
            .map(|n| window_gap(n, Duration::from_secs(5)).as_secs())
            .collect();
        assert_eq!(gaps, [5, 10, 20, 40, 60, 60]);
    }
}
