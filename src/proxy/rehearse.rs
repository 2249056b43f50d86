//! Has the server say that it would refuse a statement as a whole, before the first of its transactions.

use super::dialogue::{Ask, Closing, Hears};
use super::end::{End, unless_refused};
use super::session::Session;
use super::step_context::StepContext;
use crate::plan::Run;
use crate::plan::outcome::Rehearsal;
use crate::plan::rehearsal::IS_WATCHED;
use lockkeeper_wire::messages::Report;

const REFUSED: &str =
    "lockkeeper: nothing of the statement was done. The server refused it on an empty table of the same columns.";

/// It is what the server said of the empty table, which was like the real one a moment ago.
pub(super) fn was_rehearsed(report: &Report) -> bool {
    report.text(b'D').ends_with(REFUSED)
}

impl Session {
    /// The server's error, where that is what the statement would end with. Where nothing is known, the steps begin.
    pub(super) async fn rehearse(
        &mut self,
        rehearsal: &Rehearsal,
        run: &Run,
        setting: StepContext<'_>,
    ) -> Result<(), End> {
        // What an earlier run has done is there already, which the statement as it was sent would stumble over.
        for done_when in run.steps.iter().filter_map(|step| step.done_when.as_ref()) {
            if self.asks_true(done_when).await? {
                return Ok(());
            }
        }
        if self.asks_true(IS_WATCHED).await? {
            return Ok(());
        }
        let played = self.play(rehearsal, setting).await;
        let back = [Ask::as_client("ROLLBACK")];
        unless_refused(self.relay.ask(&back, Closing::Sync, Hears::Nothing).await)?;
        played
    }

    async fn play(&mut self, rehearsal: &Rehearsal, setting: StepContext<'_>) -> Result<(), End> {
        let patience = format!("{}ms", setting.policy.lock.timeout_ms);
        let mut made = vec![Ask::as_client("BEGIN"), Ask::set_local("lock_timeout", &patience)];
        made.extend(rehearsal.made.iter().map(Ask::new));
        match self.relay.ask(&made, Closing::Sync, Hears::Nothing).await {
            Ok(_) => {}
            Err(End::Refused(report)) if report.sqlstate() != "57014" => {
                tracing::debug!(session = self.who.session, why = report.message(), "no rehearsal");
                return Ok(());
            }
            Err(end) => return Err(end),
        }
        let played = [Ask::as_client(&rehearsal.sql)];
        match self.relay.ask(&played, Closing::Sync, Hears::Nothing).await {
            Ok(_) => Ok(()),
            Err(End::Refused(mut report)) if rehearsal.tells(&report.sqlstate()) => {
                // Of the text that was played, and of the schema that it was played in.
                report.remove(b'P');
                if report.get(b's').is_some() {
                    report.set(b's', &rehearsal.schema);
                }
                Err(report.detail(REFUSED).into())
            }
            Err(End::Refused(report)) if report.sqlstate() != "57014" => Ok(()),
            Err(end) => Err(end),
        }
    }
}
