//! Who steers a plan, and what is said to that.

use super::{Live, Steer, lock};

impl Live {
    /// What was done, in words; `by` is who asks. Err: why not.
    pub fn steer_plan(&self, id: &str, steer: Steer, by: &str) -> Result<String, String> {
        let seat = self.seats.iter().find_map(|seat| {
            let plan = lock(&seat.plan);
            let plan = plan.as_ref().filter(|plan| plan.id == id)?;
            let label = plan.steps.get(plan.step).cloned().unwrap_or_default();
            let at = format!("step {} of {} ({label})", plan.step + 1, plan.steps.len().max(1));
            Some((std::sync::Arc::clone(&seat), at))
        });
        let Some((seat, at)) = seat else {
            return Err(format!("there is no plan {id} that runs: SHOW PLANS lists them"));
        };
        let mut word = seat.reins.word();
        if word.plan.as_deref() != Some(id) {
            return Err(format!("plan {id} has just ended"));
        }
        match steer {
            Steer::Pause if word.in_transaction => Err(format!(
                "plan {id} runs in a transaction, whose locks would be held for as long as it is paused; it can be cancelled"
            )),
            Steer::Pause => {
                word.paused_by = Some(by.to_owned());
                Ok(format!(
                    "plan {id} is paused after the batch, try or step that it is at: {at}"
                ))
            }
            Steer::Resume if word.paused_by.take().is_some() => Ok(format!("plan {id} goes on: {at}")),
            Steer::Resume => Err(format!("plan {id} is not paused")),
            Steer::Cancel => {
                word.cancelled_by = Some(by.to_owned());
                word.paused_by = None;
                // Under the word's lock, so that the plan does not end between the two.
                if let Some(stop) = seat.reins.stop.get() {
                    stop();
                }
                Ok(format!(
                    "plan {id} is cancelled: {at}; its client hears what is done and what is left"
                ))
            }
        }
    }
}
