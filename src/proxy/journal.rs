//! What the session tells the audit log about one judged statement, from the plan to the result.

use super::aftermath::Left;
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End, EndedBy};
use super::entry::{Entry, Settled, Uncommitted, fail, moment_of};
use super::follow_up::{self, FollowUp};
use super::inquire::closing_at;
use super::session::Session;
use crate::audit::{Blocker, Event, FindingRecord, Phase};
use crate::plan::Place;
use crate::plan::facts::Facts;
use crate::plan::policy::{OnAuditFailure, Policy};
use crate::plan::statement::Statement;
use bytes::BytesMut;
use lockkeeper_wire::messages::{Report, bind_parameters, bound_values};
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

impl Session {
    pub(super) fn entry(&self, statement: &Statement, facts: &Facts, parameters: &[u8]) -> Entry {
        let mut entry = self.entry_of(&statement.sql);
        entry.event.parameters = bound_values(parameters);
        let named = facts.relations.iter().filter(|relation| relation.oid != 0);
        entry.event.relations = named
            .map(|relation| format!("{}.{}", relation.schema, relation.name))
            .collect();
        entry.event.relations.dedup();
        entry
    }

    /// For an `UPDATE … LIMIT` that was rewritten when it was parsed and is executed now.
    pub(super) fn entry_rewritten(&mut self, text: &[u8], bind: &[u8]) -> Entry {
        self.judged += 1;
        let mut entry = self.entry_of(&String::from_utf8_lossy(text));
        entry.event.parameters = bound_values(bind_parameters(bind).unwrap_or_default());
        entry.event.action = "rewrite".into();
        entry.event.findings = vec![FindingRecord {
            rule: "update-limit".into(),
            lock: "ROW EXCLUSIVE".into(),
            message: "executed as it was rewritten when it was parsed".into(),
            action: "rewrite".into(),
            ..FindingRecord::default()
        }];
        entry
    }

    /// For a statement that the server accepts and the judge cannot read.
    pub(super) fn entry_unparsed(&mut self, text: &[u8], why: &str, action: &str) -> Entry {
        self.judged += 1;
        let mut entry = self.entry_of(&String::from_utf8_lossy(text));
        entry.event.action = action.into();
        entry.event.findings = vec![FindingRecord {
            rule: "unparsed".into(),
            lock: "unknown".into(),
            message: why.into(),
            action: action.into(),
            ..FindingRecord::default()
        }];
        entry
    }

    /// The id of the statement that is being judged, which is counted when it is entered.
    pub(super) fn next_id(&self) -> String {
        format!("{}-{}.{}", self.shared.instance, self.who.session, self.judged + 1)
    }

    pub(super) fn entry_of(&self, statement: &str) -> Entry {
        let (policy, who) = (self.shared.policy(), self.who.clone());
        Entry {
            started: Instant::now(),
            event: Event {
                id: format!("{}-{}.{}", self.shared.instance, who.session, self.judged),
                session: who.session,
                backend_pid: who.backend_pid,
                user: who.user,
                database: who.database,
                application_name: who.application_name,
                client: who.client,
                policy: policy.name.clone(),
                statement: statement.to_owned(),
                action: "forward".into(),
                ..Event::empty(Phase::Statement)
            },
        }
    }

    /// Writes what is about to be run. A report refuses the statement: the policy fails closed.
    pub(super) async fn announce(&mut self, entry: &Entry, policy: &Policy) -> Result<(), End> {
        let mut event = entry.event.clone();
        event.phase = Phase::Planned;
        let written = self.shared.audit.write(&event, policy.audit_literals).await;
        self.hear_posted().await;
        let Err(error) = written else { return Ok(()) };
        match policy.on_audit_failure {
            OnAuditFailure::Open => {
                self.tell_audit_failure(&error).await?;
                Ok(())
            }
            OnAuditFailure::Closed => Err(Report::error(
                "58030",
                &format!("lockkeeper: the audit log cannot be written, so the statement was not run: {error}"),
            )
            .hint("Make room or mend the file; the next statement tries again. The policy's [audit] on_failure = \"open\" would go on without.").into()),
        }
    }

    /// One event for a step that has ended, whichever way.
    pub(super) async fn record_step(&mut self, entry: &Entry, n: usize) {
        let event = Self::step_event(entry, n);
        self.record(event).await;
    }

    /// The same of the last step of a plan, whose own end is written in a moment: both are.
    pub(super) fn record_last_step(&mut self, entry: &Entry, n: usize) {
        self.last_step = Some(Self::step_event(entry, n));
    }

    fn step_event(entry: &Entry, n: usize) -> Event {
        let step = &entry.event.steps[n];
        let mut event = entry.moment(Phase::Step, step.clone());
        event.outcome.clone_from(&step.outcome);
        event.duration_ms = step.duration_ms;
        event.lock_tries = step.lock_tries;
        event.lock_wait_ms = step.lock_wait_ms;
        event
    }

    /// A step waits for a lock that these hold.
    pub(super) async fn record_waiting(&mut self, entry: &Entry, n: usize, waited: Duration, blockers: &[Blocker]) {
        let mut step = entry.event.steps[n].clone();
        step.outcome = String::new();
        step.lock_wait_ms = waited.as_secs_f64() * 1e3;
        step.blockers = blockers.to_vec();
        let waited_ms = step.lock_wait_ms;
        let mut event = entry.moment(Phase::Waiting, step);
        event.lock_wait_ms = waited_ms;
        self.record(event).await;
    }

    /// The policy has let a step end what was in its way.
    pub(super) async fn record_ended(&mut self, entry: &Entry, n: usize, done: &str, blocker: &Blocker) {
        let mut step = entry.event.steps[n].clone();
        step.outcome = String::new();
        step.blockers = vec![blocker.clone()];
        step.error = Some(format!("{done} by [[lock.cancel]]"));
        let event = entry.moment(Phase::Waiting, step);
        self.record(event).await;
    }

    /// Writes the end of a statement. What it did in a transaction that is open may still be undone: its outcome is open until then.
    pub(super) async fn record_end(&mut self, mut event: Event, follow_up: Option<FollowUp>) {
        if matches!(event.outcome.as_str(), "done" | "warned") && self.relay.place() != Place::Alone {
            event.transaction = self.transaction().await;
        }
        if event.transaction.is_none() {
            if let Some(follow_up) = follow_up {
                follow_up::follow_up(&self.shared, event.clone(), follow_up);
            }
            self.record(event).await;
            return;
        }
        let mut ran = moment_of(&event, Phase::Ran, Vec::new());
        ran.outcome = "open".into();
        ran.transaction.clone_from(&event.transaction);
        (ran.rows, ran.duration_ms) = (event.rows, event.duration_ms);
        self.post(ran).await;
        self.uncommitted.push(Uncommitted { event, follow_up });
        (self.relay.notes_ends, self.relay.ended_by) = (true, None);
    }

    /// The innermost transaction or subtransaction of the client's that has changed anything. None: there is nothing to be undone.
    async fn transaction(&mut self) -> Option<String> {
        // Its number stays the same as long as it has no parts.
        if self.relay.is_same_transaction()
            && let Some(known) = self.uncommitted.last().and_then(Uncommitted::transaction)
        {
            return Some(known.to_owned());
        }
        let sql = match self.relay.has_savepoint {
            false => "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text".to_owned(),
            // A subtransaction gets its number behind those around it, and holds the lock on it until it has ended.
            true => "SELECT (t.xid + coalesce(max((l.transactionid::text::bigint - t.xid % 4294967296 + 4294967296) % 4294967296), 0))::text \
                 FROM (SELECT pg_catalog.pg_current_xact_id_if_assigned()::text::bigint) t(xid) LEFT JOIN pg_catalog.pg_locks l \
                 ON l.locktype = 'transactionid' AND l.pid = pg_catalog.pg_backend_pid() AND l.mode = 'ExclusiveLock' AND l.granted \
                 GROUP BY t.xid"
                .to_owned(),
        };
        let closing = closing_at(self.relay.place());
        let answers = self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await;
        // Should the server be gone, what comes next tells.
        answers.ok()?.first()?.value().map(str::to_owned)
    }

    /// What has become of the statements whose transaction has ended, or gone back to a savepoint, as the server has it.
    pub(super) async fn settle_uncommitted(&mut self) -> Result<(), Broken> {
        if self.uncommitted.is_empty() || !self.relay.between_groups() || self.relay.block_failed() {
            return Ok(());
        }
        let mut ids: Vec<&str> = self.uncommitted.iter().filter_map(Uncommitted::transaction).collect();
        ids.dedup();
        let sql = format!(
            "SELECT x::text, pg_catalog.pg_xact_status(x) FROM pg_catalog.unnest('{{{}}}'::pg_catalog.xid8[]) x",
            ids.join(",")
        );
        let statuses: HashMap<String, String> =
            match self.relay.ask(&[Ask::new(sql)], Closing::Sync, Hears::Nothing).await {
                Ok(answers) => answers
                    .into_iter()
                    .flat_map(|answer| answer.rows)
                    .filter_map(|row| Some((row.first()?.clone()?, row.get(1)?.clone()?)))
                    .collect(),
                Err(End::Broken(broken)) => return Err(broken),
                Err(End::Refused(report)) => {
                    tracing::warn!(
                        session = self.who.session,
                        error = report.message(),
                        "how a transaction ended is not known"
                    );
                    HashMap::new()
                }
            };
        let in_transaction = self.relay.status == b'T';
        let status_of = |one: &Uncommitted| one.transaction().and_then(|id| statuses.get(id)).map(String::as_str);
        // Plans about the same relations have left the same.
        let mut open: Vec<&[u32]> = self
            .uncommitted
            .iter()
            .filter(|one| status_of(one) == Some("committed"))
            .filter_map(|one| Some(one.follow_up.as_ref()?.open.as_slice()))
            .filter(|open| !open.is_empty())
            .collect();
        open.sort_unstable();
        open.dedup();
        let open: Vec<Vec<u32>> = open.into_iter().map(<[u32]>::to_vec).collect();
        let asked: Vec<&[u32]> = open.iter().map(Vec::as_slice).collect();
        let left = self.left(&asked).await;
        let known: HashMap<&[u32], &Left> = asked.into_iter().zip(left.iter().flatten()).collect();
        for mut one in std::mem::take(&mut self.uncommitted) {
            match status_of(&one) {
                Some("committed") => {
                    if let (Some(follow_up), Some(after)) = (&one.follow_up, &mut one.event.after)
                        && let Some(left) = known.get(follow_up.open.as_slice())
                    {
                        left.tell(after);
                    }
                    self.settled(one, Settled::Committed).await
                }
                Some("aborted") => {
                    self.settled(one, Settled::RolledBack("its transaction was rolled back"))
                        .await
                }
                Some("in progress") if in_transaction => self.uncommitted.push(one),
                Some("in progress") => self.settled(one, Settled::Prepared).await,
                _ => self.settled(one, Settled::Unknown).await,
            }
        }
        self.hear_posted().await;
        self.relay.notes_ends = !self.uncommitted.is_empty();
        left.map(|_| ())
    }

    async fn settled(&mut self, one: Uncommitted, how: Settled<'_>) {
        let Uncommitted { mut event, follow_up } = one;
        event.time = SystemTime::now();
        match how {
            Settled::Committed => {
                if let Some(follow_up) = follow_up {
                    follow_up::follow_up(&self.shared, event.clone(), follow_up);
                }
            }
            Settled::RolledBack(why) => {
                event.outcome = "rolled back".into();
                event.detail = Some(why.into());
            }
            Settled::Failed(report) => {
                fail(&mut event, report);
            }
            Settled::Prepared => {
                event.outcome = "prepared".into();
                event.detail = Some("its transaction waits for COMMIT PREPARED or ROLLBACK PREPARED".into());
            }
            Settled::Unknown => {
                let id = event.transaction.clone().unwrap_or_default();
                event.outcome = "disconnected".into();
                event.error = Some(format!(
                    "whether its transaction was committed is not known here; on the server: SELECT pg_xact_status('{id}')"
                ));
            }
        }
        self.post(event).await;
    }

    /// What COMMIT, sent by us in place of the client's, has made of the transaction's statements.
    pub(super) async fn record_commit(&mut self, committed: Result<(), &Report>) -> Result<(), Broken> {
        let Err(report) = committed else {
            return self.settle_uncommitted().await;
        };
        for one in std::mem::take(&mut self.uncommitted) {
            self.settled(one, Settled::Failed(report)).await;
        }
        self.hear_posted().await;
        self.relay.notes_ends = false;
        Ok(())
    }

    /// The session is over. Without an answer to what may have been its COMMIT it is not known what has become of them.
    pub(super) async fn leave_uncommitted(&mut self, broken: Option<&Broken>) {
        let asks = !self.relay.responses.quiescent() || matches!(broken, Some(Broken::Server(_)));
        // Behind an answer that has come.
        let by = self
            .relay
            .ended_by
            .filter(|_| self.relay.status == b'I' && self.relay.responses.quiescent());
        for one in std::mem::take(&mut self.uncommitted) {
            let how = match by {
                Some(EndedBy::Commit) => Settled::Committed,
                Some(EndedBy::Rollback) => Settled::RolledBack("its transaction was rolled back"),
                None if asks => Settled::Unknown,
                None => Settled::RolledBack("the session ended before its transaction was committed"),
            };
            self.settled(one, how).await;
        }
        self.hear_posted().await;
    }

    /// Writes an event of something that has happened already. Where that fails, the client is told.
    pub(super) async fn record(&mut self, event: Event) {
        let step = self.last_step.take();
        step.iter().for_each(|step| self.shared.live.ledger().take(step));
        self.shared.live.ledger().take(&event);
        let literals = self.shared.policy().audit_literals;
        if let Some(webhook) = &self.shared.webhook {
            webhook.offer_event(&event, || event.masked(literals));
        }
        let written = match &step {
            Some(step) => self.shared.audit.write_both(step, &event, literals).await,
            None => self.shared.audit.write(&event, literals).await,
        };
        self.hear_posted().await;
        self.tell_unwritten(written).await;
    }

    /// The same without waiting: of what may still be undone, and holds locks. Whoever writes the next line hears what has become of it.
    async fn post(&mut self, event: Event) {
        let literals = self.shared.policy().audit_literals;
        for event in self.last_step.take().into_iter().chain([event]) {
            self.shared.live.ledger().take(&event);
            match self.shared.audit.post(&event, literals).await {
                Ok(posted) => self.posted.extend(posted),
                Err(error) => self.tell_unwritten(Err(error)).await,
            }
        }
    }

    /// The first that could not be written is told of, and the others are not waited for: a disk that hangs is waited for once.
    async fn hear_posted(&mut self) {
        for posted in std::mem::take(&mut self.posted) {
            let written = self.shared.audit.heard(posted).await;
            if written.is_err() {
                return self.tell_unwritten(written).await;
            }
        }
    }

    /// Should the client be gone too, the log has it: the audit writer logs its own failures.
    async fn tell_unwritten(&mut self, written: Result<(), String>) {
        if let Err(error) = written {
            let _ = self.tell_audit_failure(&error).await;
        }
    }

    async fn tell_audit_failure(&mut self, error: &str) -> Result<(), Broken> {
        let mut out = BytesMut::new();
        Report::warning(
            "58030",
            &format!("lockkeeper: the audit log cannot be written: {error}"),
        )
        .put_notice(&mut out, self.relay.encoding());
        self.relay.tell(&out).await
    }
}
