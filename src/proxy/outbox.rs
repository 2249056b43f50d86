//! What the session leaves for after the client's COMMIT: written and proven in the client's own transaction, carried out on the
//! same connection between the server's COMMIT and the client's hearing of it.
//!
//! Start at [`Session::defer`] for the one and at [`after_commit`](super::outbox::after_commit) for the other. The rows of
//! `lockkeeper.job` are the truth; what is remembered here only tells when to look at them.

pub(super) mod after_commit;
mod exchange;
pub(super) mod pending;
mod prove;

use super::context::Setting;
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End, unless_refused};
use super::entry::Entry;
use super::session::Session;
use super::verdict::Verdict;
use crate::plan::batches::Batches;
use crate::plan::jobs::{self, Access, JobSql};
use crate::plan::outbox::behind::{looks_up, uses_rows};
use crate::plan::outbox::{self, Deferral, New};
use crate::plan::policy::Policy;
use crate::plan::statement::{Statement, read};
use crate::plan::waiting::{Details, Waiting};
use crate::plan::{Place, Run};
use lockkeeper_wire::messages::Report;
use pending::{Pending, lends};
use pg_query::NodeEnum;
use std::time::{Duration, Instant};

/// How often a session that waits for another one's lock looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often it looks whether that one waits for it in turn.
const LOOK_FOR_CIRCLES: Duration = Duration::from_secs(1);

impl Session {
    /// The role's unfinished deferred jobs.
    pub(super) async fn waiting(&mut self, ids: Option<&[i64]>) -> Result<Vec<Waiting>, End> {
        let ask = Ask {
            catalog: ids.is_none().then(|| "jobs_waiting".to_owned()),
            ..outbox::waiting(ids).into()
        };
        let answer = self.relay.ask_catalog(ask, Closing::Sync).await?;
        let answer = answer.value().unwrap_or_default();
        match outbox::decode(answer) {
            Ok(mut waiting) => {
                for job in &mut waiting {
                    job.pending = self.outbox.pending.iter().any(|p| p.id == job.id);
                }
                Ok(waiting)
            }
            Err(error) => Err(Report::error("XX000", &format!("lockkeeper: {error}")).into()),
        }
    }

    /// Carries out what is brief of a plan and leaves the rest for after COMMIT.
    pub(super) async fn defer(
        &mut self,
        run: &Run,
        setting: Setting<'_>,
        role: &str,
        mut entry: Entry,
    ) -> Result<Verdict, Broken> {
        let outcome = match &run.deferral {
            Some(Deferral::New(new)) => self.write_job(run, new, setting, role, &mut entry).await,
            Some(Deferral::Write(batches)) => self.write_later(batches, setting, role).await,
            Some(Deferral::Adopt(id)) => self.adopt(*id, role, setting).await,
            Some(Deferral::Withdraw(ids)) => self.withdraw(ids).await,
            None => Ok(()),
        };
        match outcome {
            Ok(()) => {
                self.record_end(entry.done(&run.tag), None).await;
                Ok(Verdict::Done(run.tag.clone()))
            }
            Err(End::Refused(report)) => {
                self.record(entry.failed(&report)).await;
                Ok(Verdict::Refused(report))
            }
            Err(End::Broken(broken)) => {
                self.record(entry.disconnected(&broken)).await;
                Err(broken)
            }
        }
    }

    async fn write_job(
        &mut self,
        run: &Run,
        new: &New,
        setting: Setting<'_>,
        role: &str,
        entry: &mut Entry,
    ) -> Result<(), End> {
        self.refuse_read_only(&run.tag).await?;
        let holds_locks = self.asks_true(outbox::HOLDS_LOCKS).await?;
        let table = (new.relation, new.relation_name());
        self.take_table_in_transaction(&table, setting.policy, holds_locks)
            .await?;
        let proven = self.carry_out_proven(run, new, setting, holds_locks, entry).await?;
        let same = |p: &&Pending| p.statement == new.statement && p.relation == new.relation;
        let identity = new.identity(self.outbox.pending.iter().filter(same).count());
        let id = self.insert_job(&new.access, new.sql(&identity), setting.policy).await?;
        self.outbox.pending.push(Pending {
            id,
            role: role.to_string(),
            relation: new.relation,
            table: (new.schema.clone(), new.table.clone()),
            statement: new.statement.clone(),
            checks: match new.rows_will_change {
                true => Vec::new(),
                false => proven.iter().map(|(check, _)| check.clone()).collect(),
            },
            uniques: proven.into_iter().map(|(_, unique)| unique).collect(),
            write: false,
            replaces: new.replaces.clone(),
            brings: new.brings.clone(),
        });
        self.relay.explains = self.explanation();
        self.relay.watch = true;
        self.drop_others_again(new, setting).await?;
        let labels: Vec<&str> = new.later.iter().map(|step| step.label.as_str()).collect();
        let told = format!(
            "after COMMIT, as job {id}: {} ({})",
            labels.join(", "),
            new.relation_name()
        );
        self.relay.notice(&told).await?;
        Ok(())
    }

    /// A large UPDATE or DELETE, which is a job like any other that is carried out in batches, but for when it begins.
    async fn write_later(&mut self, batches: &Batches, setting: Setting<'_>, role: &str) -> Result<(), End> {
        self.refuse_read_only(batches.verb).await?;
        let holds_locks = self.asks_true(outbox::HOLDS_LOCKS).await?;
        let table = (batches.relation_oid, batches.relation.clone());
        self.take_table_in_transaction(&table, setting.policy, holds_locks)
            .await?;
        let parameters = setting.parameters;
        let (types, values) = (&parameters.types, &parameters.values);
        let identity = jobs::identity(
            &batches.statement,
            batches.relation_oid,
            types,
            values,
            &batches.seen_by,
        );
        let (schema, name) = batches.names.clone();
        let details = Details {
            write: true,
            schema,
            table: name,
            ..Details::default()
        };
        let new = jobs::New {
            kind: batches.kind,
            identity: &identity,
            statement: &batches.statement,
            types,
            values,
            relation: batches.relation_oid,
            relation_name: &batches.relation,
            key_columns: batches.key_columns(),
            upper: None,
            details: &details,
            keys_estimated: batches.keys_estimated,
        };
        let id = self.insert_job(&batches.access, new.sql(), setting.policy).await?;
        self.outbox.pending.push(Pending {
            id,
            role: role.to_string(),
            relation: batches.relation_oid,
            table: (details.schema, details.table),
            statement: batches.statement.clone(),
            checks: Vec::new(),
            uniques: Vec::new(),
            write: true,
            replaces: None,
            brings: Vec::new(),
        });
        self.outbox.dropped.clear();
        self.relay.watch = true;
        self.relay
            .notice(&format!(
                "after COMMIT, as job {id}: this {} of {} in batches; its rows change only then, and until then this transaction can neither \
                 read nor write that table",
                batches.verb, batches.relation
            ))
            .await?;
        Ok(())
    }

    /// Its ID.
    async fn insert_job(&mut self, access: &Access, sql: JobSql, policy: &Policy) -> Result<i64, End> {
        let could_not_create = |report: Report| {
            let why = match report.sqlstate().as_str() {
                "55P03" => {
                    "which another session is creating in a transaction that is not over: try again later, or once and for all"
                }
                _ => "which could not be created;",
            };
            report.hint(&format!(
                "lockkeeper: what is left for after COMMIT is kept in a table lockkeeper.job, {why} an administrator runs once: \
                 lockkeeper init --dsn …"
            ))
        };
        if *access == Access::Create {
            let created = self.create_job_table_within(policy).await;
            created.map_err(|end| end.reworded(could_not_create))?;
        }
        match self.value(&sql).await {
            Ok(id) => self.keeps(id.and_then(|id| id.parse().ok()).unwrap_or_default()).await,
            Err(End::Refused(report)) if report.sqlstate() == "23505" => Err(Report::error(
                "55000",
                "lockkeeper: the same statement is an unfinished job already, which was paused",
            )
            .hint("See lockkeeper jobs --dsn … list, and resume or cancel it.")
            .into()),
            Err(end) => Err(end),
        }
    }

    /// A row that was just written, which nobody else can see yet.
    async fn keeps(&mut self, id: i64) -> Result<i64, End> {
        if self.asks_true(outbox::LENDS_NOTHING).await? {
            return Ok(id);
        }
        let jobs = self.waiting(Some(&[id])).await?;
        self.outbox.own.extend(jobs.iter().map(|job| (id, job.content())));
        Ok(id)
    }

    /// Whether what is in the row can run in this session without lending its rights to whoever wrote it.
    async fn lends_nothing(&mut self, job: &Waiting) -> Result<(), End> {
        if self.outbox.own.get(&job.id).is_some_and(|own| *own == job.content()) {
            return Ok(());
        }
        match self.asks_true(outbox::LENDS_NOTHING).await? {
            true => Ok(()),
            false => Err(lends(job.id).into()),
        }
    }

    /// As the server says it of the statement itself.
    async fn refuse_read_only(&mut self, tag: &str) -> Result<(), End> {
        let read_only = "SELECT pg_catalog.current_setting('transaction_read_only') = 'on'";
        match self.asks_true(read_only).await? {
            false => Ok(()),
            true => Err(Report::error("25006", &format!("cannot execute {tag} in a read-only transaction")).into()),
        }
    }

    /// It is a job of an earlier transaction's.
    async fn adopt(&mut self, id: i64, role: &str, setting: Setting<'_>) -> Result<(), End> {
        let pending = Pending {
            id,
            role: role.to_string(),
            relation: 0,
            table: Default::default(),
            statement: String::new(),
            checks: Vec::new(),
            uniques: Vec::new(),
            write: false,
            replaces: None,
            brings: Vec::new(),
        };
        if setting.place == Place::Alone {
            return self.run_jobs(vec![pending], false).await;
        }
        self.relay
            .notice(&format!("job {id} was left unfinished: it goes on after COMMIT"))
            .await?;
        self.outbox.pending.push(pending);
        self.relay.watch = true;
        Ok(())
    }

    async fn withdraw(&mut self, ids: &[i64]) -> Result<(), End> {
        self.value(&outbox::withdraw(ids)).await?;
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        self.relay
            .notice(&format!(
                "job {} is taken back: it was waiting for COMMIT",
                ids.join(", ")
            ))
            .await?;
        Ok(())
    }

    /// Nobody else defers anything on the table until this transaction has ended and its jobs are done.
    async fn take_table_in_transaction(
        &mut self,
        (relation, name): &(u32, String),
        policy: &Policy,
        holds_locks: bool,
    ) -> Result<(), End> {
        let limit_ms = match holds_locks {
            true => policy.lock.give_up_in_transaction_ms,
            false => policy.lock.give_up_after_ms,
        };
        let sql = outbox::lock_table_for_transaction(*relation);
        self.wait_for_table(&sql, *relation, name, policy, limit_ms).await
    }

    /// By looking again and again: whoever waited within a statement would have a snapshot, for whose end every concurrent build
    /// waits. So the server does not see the wait, and that nobody waits in a circle has to be seen to here.
    async fn wait_for_table(
        &mut self,
        sql: &str,
        relation: u32,
        name: &str,
        policy: &Policy,
        limit_ms: u64,
    ) -> Result<(), End> {
        let place = self.relay.place();
        let started = Instant::now();
        let (mut told, mut looked): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            if self.asks_true(sql).await? {
                return Ok(());
            }
            let holder = unless_refused(self.value(&outbox::table_lock_holder(relation)).await)?;
            let holder = holder.flatten().unwrap_or_else(|| "another session".into());
            if place == Place::Block && looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_CIRCLES) {
                if looked.is_none() {
                    self.value(&outbox::say_that_it_waits(relation)).await?;
                }
                looked = Some(Instant::now());
                if self.asks_true(&outbox::is_waited_for(relation)).await? {
                    let message = format!(
                        "lockkeeper: {holder} is changing {name} in a migration of its own, and waits for a lock of this transaction, which waits \
                         for it: this one gives way; nothing was done here, try again when the other is done"
                    );
                    return Err(Report::error("40P01", &message).into());
                }
            }
            if started.elapsed().as_millis() as u64 >= limit_ms {
                let message = format!(
                    "lockkeeper: {holder} is changing {name} in a migration of its own, which is not done; nothing was done here, try again later"
                );
                return Err(Report::error("55P03", &message).into());
            }
            if told.is_none_or(|told| told.elapsed().as_millis() as u64 >= policy.backfill.notice_ms) {
                told = Some(Instant::now());
                self.relay
                    .notice(&format!(
                        "waiting for {holder}, which is changing {name} in a migration of its own"
                    ))
                    .await?;
            }
            match place {
                Place::Block => self.pause_without_snapshot(LOOK_AGAIN).await?,
                _ => self.pause(LOOK_AGAIN, place).await?,
            }
        }
    }

    /// In the client's transaction: if that is rolled back, the table is gone again.
    async fn create_job_table_within(&mut self, policy: &Policy) -> Result<(), End> {
        let before = self.value("SELECT pg_catalog.current_setting('lock_timeout')").await?;
        let before = before.unwrap_or_default();
        let limit = format!("{}ms", policy.lock.give_up_in_transaction_ms);
        // Another session may have begun to make it: then the wait is for that one's end, and what it has made is found.
        let mut asks = vec![
            Ask::set_local("lock_timeout", &limit),
            Ask::as_client("SAVEPOINT lockkeeper_job"),
        ];
        asks.extend(jobs::create_statements().into_iter().map(Ask::new));
        asks.push(Ask::as_client("RELEASE SAVEPOINT lockkeeper_job"));
        match self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await {
            Ok(_) => {}
            Err(End::Refused(report)) if jobs::was_first(&report.sqlstate()) => {
                let back = [
                    Ask::as_client("ROLLBACK TO SAVEPOINT lockkeeper_job"),
                    Ask::as_client("RELEASE SAVEPOINT lockkeeper_job"),
                ];
                self.relay.ask(&back, Closing::Sync, Hears::Nothing).await?;
                self.job_table_is_there().await?;
            }
            Err(end) => return Err(end),
        }
        self.value(Ask::set_local("lock_timeout", &before)).await?;
        Ok(())
    }

    async fn asks_true(&mut self, sql: impl Into<Ask>) -> Result<bool, End> {
        Ok(self.value(sql).await?.as_deref() == Some("t"))
    }

    /// A statement that would run against what is not there yet.
    pub(super) async fn needs_what_waits(&mut self, text: &[u8]) -> Result<(), End> {
        self.meets_exchange(text).await?;
        let readings = [self.relay.reading().conforming];
        self.meets_pending_write(text, &readings).await?;
        self.looks_up_pending(text, &readings).await?;
        match self.conflicts_with_pending(text, &readings) {
            Some(report) => Err(report.into()),
            None => Ok(()),
        }
    }

    /// What would read or write the rows of a table that an UPDATE or DELETE has still to change. `readings`: values of
    /// standard_conforming_strings that the server may read the text under.
    pub(super) async fn meets_pending_write(&mut self, text: &[u8], readings: &[bool]) -> Result<(), End> {
        if !self.outbox.has_write() || self.relay.place() != Place::Block {
            return Ok(());
        }
        let read = read_as(text, readings);
        let uses = |p: &&Pending| {
            p.write
                && read.iter().any(|read| match read {
                    Some(statements) => statements.iter().any(|s| uses_rows(s, &p.table.0, &p.table.1)),
                    None => may_name(text, &p.table.1),
                })
        };
        let Some((id, table)) = self.outbox.pending.iter().find(uses).map(|p| (p.id, p.table.1.clone())) else {
            return Ok(());
        };
        if !self.still_waits(id).await? {
            return Ok(());
        }
        let message = format!(
            "lockkeeper: an earlier UPDATE or DELETE of {table} waits for COMMIT, as job {id}, and this statement would meet rows that it has \
             not changed yet: COMMIT first"
        );
        let hint = match self.relay.tool {
            Some(tool) => format!(
                "Put the UPDATE or DELETE into a migration of its own, before this one. {}.",
                tool.outside()
            ),
            None => "Put the UPDATE or DELETE into a transaction of its own, before this one.".to_string(),
        };
        Err(Report::error("55000", &message).hint(&hint).into())
    }

    /// INSERT … ON CONFLICT that would go by a unique index which is not there yet.
    fn conflicts_with_pending(&self, text: &[u8], readings: &[bool]) -> Option<Report> {
        let uniques = self.outbox.pending.iter().any(|p| !p.uniques.is_empty());
        let lower = text.to_ascii_lowercase();
        if !uniques || memchr::memmem::find(&lower, b"conflict").is_none() {
            return None;
        }
        let read = read_as(text, readings);
        let statements = read.iter().flatten().flatten();
        let unread = || {
            let named = |p: &&Pending| !p.uniques.is_empty() && may_name(text, &p.table.1);
            self.outbox
                .pending
                .iter()
                .find(named)
                .filter(|_| read.iter().any(Option::is_none))
        };
        let pending = statements.clone().find_map(|statement| {
            let NodeEnum::InsertStmt(insert) = &statement.node else {
                return None;
            };
            let range = insert.relation.as_ref()?;
            let conflict = insert.on_conflict_clause.as_ref()?;
            let keys: Option<Vec<String>> = conflict.infer.as_ref().map(|infer| {
                let name = |node: &pg_query::Node| match &node.node {
                    Some(NodeEnum::IndexElem(element)) => element.name.clone(),
                    _ => String::new(),
                };
                infer.index_elems.iter().map(name).collect()
            });
            let named = conflict
                .infer
                .as_ref()
                .map(|infer| infer.conname.clone())
                .filter(|name| !name.is_empty());
            self.outbox.pending.iter().find(|p| {
                let same_table =
                    p.table.1 == range.relname && (range.schemaname.is_empty() || range.schemaname == p.table.0);
                let meant = match (&named, &keys) {
                    (Some(name), _) => p.checks.iter().any(|check| check.name == *name),
                    (None, Some(keys)) => p.uniques.iter().any(|unique| unique.is_on(keys)),
                    (None, None) => !p.uniques.is_empty(),
                };
                same_table && meant
            })
        });
        let pending = pending.or_else(unread)?;
        let message = format!(
            "lockkeeper: ON CONFLICT would need the unique index that job {} builds after COMMIT: send this INSERT in a later transaction",
            pending.id
        );
        Some(Report::error("55000", &message).hint(&self.outside_hint()))
    }

    /// ROLLBACK TO may have taken the job away, and the table in which it was.
    async fn still_waits(&mut self, id: i64) -> Result<bool, End> {
        if !self.asks_true(&outbox::is_usable()).await? {
            return Ok(false);
        }
        let jobs = self.waiting(Some(&[id])).await?;
        Ok(jobs.iter().any(|job| job.there))
    }

    /// A question to the catalog for an index or constraint that is not there yet, by its name.
    async fn looks_up_pending(&mut self, text: &[u8], readings: &[bool]) -> Result<(), End> {
        let brings = |p: &Pending| p.brings.iter().any(|name| may_name(text, name));
        if self.relay.place() != Place::Block || !self.outbox.pending.iter().any(brings) {
            return Ok(());
        }
        let read = read_as(text, readings);
        let asked = |name: &&String| {
            read.iter()
                .flatten()
                .flatten()
                .any(|statement| looks_up(statement, name))
        };
        let found = self
            .outbox
            .pending
            .iter()
            .find_map(|p| Some((p.id, p.brings.iter().find(asked)?.clone())));
        let Some((id, name)) = found else { return Ok(()) };
        if !self.still_waits(id).await? {
            return Ok(());
        }
        let message = format!(
            "lockkeeper: {name} is built only after COMMIT, as job {id}, and the catalog, which this statement asks for it, does not have it \
             before: COMMIT first"
        );
        Err(Report::error("55000", &message).hint(&self.outside_hint()).into())
    }

    /// An error of the server's that may come from what is not there yet says so.
    pub(super) fn explanation(&self) -> Option<String> {
        let jobs: Vec<String> = self.outbox.pending.iter().filter_map(Pending::told).collect();
        (!jobs.is_empty()).then(|| {
            format!(
                "lockkeeper: what this transaction has left for later is there only after COMMIT, which the statement may need: {}.",
                jobs.join("; ")
            )
        })
    }

    fn outside_hint(&self) -> String {
        match self.relay.tool {
            Some(tool) => format!(
                "Put the index into a migration of its own, before this one. {}.",
                tool.outside()
            ),
            None => "Put the index into a migration of its own, before this one.".to_string(),
        }
    }
}

/// The statements under each of these readings; None: they cannot be read.
fn read_as(text: &[u8], readings: &[bool]) -> Vec<Option<Vec<Statement>>> {
    readings.iter().map(|conforming| read(text, *conforming).ok()).collect()
}

/// A text that cannot be read may use whatever it has the name of, also in escapes.
fn may_name(text: &[u8], name: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    [name.as_bytes(), b"u&\""]
        .iter()
        .any(|part| memchr::memmem::find(&text, part).is_some())
}
