//! What the session leaves for after the client's COMMIT: written and proven in the client's own transaction, carried out on the
//! same connection between the server's COMMIT and the client's hearing of it.
//!
//! Start at [`Session::defer`] for the one and at [`after_commit`] for the other. The rows of `lockkeeper.job` are the truth; what is
//! remembered in [`pending`] only tells when to look at them.

pub(super) mod after_commit;
mod exchange;
mod meets;
pub(super) mod pending;
mod prove;
mod rows;
mod run;

use super::end::{Broken, End};
use super::entry::Entry;
use super::session::Session;
use super::step_context::StepContext;
use super::verdict::Verdict;
use crate::plan::batches::Batches;
use crate::plan::deferred::{self, Deferral, New};
use crate::plan::waiting::Details;
use crate::plan::{Place, Run, jobs};
use pending::Pending;
use std::time::Duration;

/// How often a session that waits for another one's lock looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often it looks whether that one waits for it in turn.
const LOOK_FOR_CIRCLES: Duration = Duration::from_secs(1);

impl Session {
    /// Carries out what is brief of a plan and leaves the rest for after COMMIT.
    pub(super) async fn defer(
        &mut self,
        run: &Run,
        setting: StepContext<'_>,
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
        setting: StepContext<'_>,
        role: &str,
        entry: &mut Entry,
    ) -> Result<(), End> {
        self.refuse_read_only(&run.tag).await?;
        let holds_locks = self.asks_true(deferred::HOLDS_LOCKS).await?;
        let table = (new.relation, new.relation_name());
        self.take_table_in_transaction(&table, setting.policy, holds_locks)
            .await?;
        let proven = self.carry_out_proven(run, new, setting, holds_locks, entry).await?;
        let same = |p: &&Pending| p.statement == new.statement && p.relation == new.relation;
        let identity = new.identity(self.deferred.pending.iter().filter(same).count());
        let id = self.insert_job(&new.access, new.sql(&identity), setting.policy).await?;
        self.deferred.pending.push(Pending {
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
        self.relay.explains = self.deferred.explanation();
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
    async fn write_later(&mut self, batches: &Batches, setting: StepContext<'_>, role: &str) -> Result<(), End> {
        self.refuse_read_only(batches.verb).await?;
        let holds_locks = self.asks_true(deferred::HOLDS_LOCKS).await?;
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
        self.deferred.pending.push(Pending {
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
        self.deferred.dropped.clear();
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

    /// It is a job of an earlier transaction's.
    async fn adopt(&mut self, id: i64, role: &str, setting: StepContext<'_>) -> Result<(), End> {
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
        self.deferred.pending.push(pending);
        self.relay.watch = true;
        Ok(())
    }
}
