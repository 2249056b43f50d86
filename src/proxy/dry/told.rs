//! The answer of a dry run: the plan's rows, with who is in the way now and how long it takes here, and the audit log's line.

use super::rows::select_of;
use crate::audit::{Blocker, Event};
use crate::plan::Plan;
use crate::plan::dry::Row;
use crate::plan::lock::LockMode;
use crate::proxy::dialogue::{Ask, Closing, Hears};
use crate::proxy::end::{Broken, End};
use crate::proxy::entry::Entry;
use crate::proxy::session::Session;
use crate::proxy::verdict::Verdict;
use crate::proxy::{blockers, lock_holders};
use bytes::BytesMut;
use lockkeeper_wire::messages as wire;
use lockkeeper_wire::responses::OnAnswer;
use serde_json::json;

impl Session {
    /// What would be done is told, and nothing done.
    pub(in crate::proxy) async fn carry_dry(
        &mut self,
        rows: &[Row],
        plan: &Plan,
        entry: Entry,
        closing: Closing,
    ) -> Result<Verdict, End> {
        let (event, notices) = match plan {
            Plan::Forward { findings, notices } => {
                (entry.forwarded(findings, false).event().clone(), notices.as_slice())
            }
            Plan::Run(run) => (entry.planned(run).event().clone(), run.notices.as_slice()),
            Plan::Reject(rejection) => (entry.rejected(rejection), &[][..]),
        };
        let mut told = Vec::new();
        let mut known: Vec<((String, LockMode), Option<String>)> = Vec::new();
        for row in rows {
            let wanted = (row.relation.clone(), row.lock);
            let held_by = match known.iter().find(|(asked, _)| *asked == wanted) {
                Some((_, held_by)) => held_by.clone(),
                None => {
                    let held_by = self.held_by_now(row, closing).await?;
                    known.push((wanted, held_by.clone()));
                    held_by
                }
            };
            told.push(self.row_json(row, held_by));
        }
        for notice in notices {
            self.relay.notice(notice).await?;
        }
        self.relay.notice("dry run: nothing was changed").await?;
        self.record_dry(event).await;
        Ok(Verdict::Dry(serde_json::Value::Array(told).to_string()))
    }

    /// What the log has of it: that its plan was asked for. Nothing was found or refused that metrics should count.
    async fn record_dry(&self, event: Event) {
        let event = Event {
            action: "dry_run".into(),
            outcome: "dry run".into(),
            ..event
        };
        let counted = Event {
            findings: Vec::new(),
            steps: Vec::new(),
            ..event.clone()
        };
        self.shared.live.ledger().take(&counted);
        let literals = self.shared.policy().audit_literals;
        // The audit writer logs its own failures.
        let _ = self.shared.audit.write(&event, literals).await;
    }

    fn row_json(&self, row: &Row, held_by: Option<String>) -> serde_json::Value {
        let time = (row.step != "refused").then(|| self.shared.rates.told(row.work));
        json!({
            "step": row.step, "action": row.action, "sql": row.sql, "lock": row.locks(),
            "blocks": (!row.blocks.is_empty()).then_some(&row.blocks), "rows": row.rows, "time": time,
            "held_by": held_by, "runs": row.runs(), "rollback": row.rollback, "why": row.why,
        })
    }

    /// Who would be waited for now. None: nobody, as far as this role sees.
    async fn held_by_now(&mut self, row: &Row, closing: Closing) -> Result<Option<String>, End> {
        if row.lock < LockMode::ShareUpdateExclusive || row.relation.is_empty() {
            return Ok(None);
        }
        let asked = [
            Ask::new(lock_holders::FRESH),
            Ask::about(lock_holders::question(row.lock), &row.relation),
        ];
        let answers = self.relay.ask(&asked, closing, Hears::Nothing).await?;
        let seen = lock_holders::answered(answers.last(), self.shared.policy().audit_literals);
        let blockers: Vec<Blocker> = seen.into_iter().map(|seen| seen.blocker).collect();
        Ok((!blockers.is_empty()).then(|| {
            format!(
                "{}; to end it: {}",
                blockers::phrase(&blockers),
                blockers::ending(&blockers)
            )
        }))
    }

    /// The client's message is answered by a query for the rows.
    pub(in crate::proxy) async fn answer_dry(&mut self, len: usize, rows: &str) -> Result<(), Broken> {
        let mut frame = BytesMut::new();
        wire::put_query(&mut frame, select_of(rows).as_bytes());
        self.relay.replace_frame(len, &frame, OnAnswer::Rewritten);
        self.relay.settle().await?;
        Ok(())
    }
}
