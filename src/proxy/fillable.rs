//! Whether the rows that a plan fills in may be updated at all: of a published table without a replica identity they may not.

use super::dialogue::Ask;
use super::end::{Broken, End};
use super::session::Session;
use crate::plan::batches::filled;
use crate::plan::facts::Facts;
use crate::plan::{Place, Plan};

/// object_not_in_prerequisite_state, and invalid_column_reference of a publication's row filter or column list.
const REFUSED: [&str; 2] = ["55000", "42P10"];

impl Session {
    /// What the server says against it, before anything is done.
    pub(super) async fn is_unfillable(
        &mut self,
        plan: &Plan,
        facts: &Facts,
        place: Place,
    ) -> Result<Option<String>, Broken> {
        let Plan::Run(run) = plan else { return Ok(None) };
        let asked = run.steps.iter().find_map(|step| filled::question(step, facts));
        let Some(sql) = asked.filter(|_| place != Place::Pipeline) else {
            return Ok(None);
        };
        match self.ask_harmlessly(Ask::new(sql), place).await {
            Err(End::Refused(report)) if REFUSED.contains(&report.sqlstate().as_str()) => {
                Ok(Some(filled::refusal(&report.message())))
            }
            // The role may lack a right, of which the fill itself tells.
            Ok(_) | Err(End::Refused(_)) => Ok(None),
            Err(End::Broken(broken)) => Err(broken),
        }
    }
}
