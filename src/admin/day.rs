//! The last 24 hours at a glance: what ended in each half hour, from the newest statements of the log.

use super::log::{self, Told};
use crate::audit::filter::Filter;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const SLOTS: usize = 48;
const SLOT: Duration = Duration::from_secs(1_800);
/// More are not looked at: the page says that there were.
const STATEMENTS_MAX: usize = 2_000;

/// What ended in one half hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Slot {
    /// Carried out in steps.
    plans: u32,
    refused: u32,
    /// Or cancelled, cut off, rolled back by an error.
    failed: u32,
    /// Plans behind which others were seen waiting, and how long at most.
    waits: u32,
    longest_wait_ms: f64,
}

#[derive(Debug, Serialize)]
pub struct Day {
    /// Where the first slot begins.
    from_ms: u64,
    slot_s: u64,
    slots: Vec<Slot>,
    /// There were too many statements to look at all.
    more: bool,
}

pub fn day(files: &[PathBuf], now: SystemTime) -> Result<Day, String> {
    let epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Whole half hours, of which the last one is not over.
    let last = epoch.as_secs() / SLOT.as_secs();
    let first = (last + 1).saturating_sub(SLOTS as u64);
    let begin = Duration::from_secs(first * SLOT.as_secs());
    let filter = Filter {
        since: SystemTime::UNIX_EPOCH.checked_add(begin),
        ..Filter::default()
    };
    let found = log::newest(files, filter, STATEMENTS_MAX)?;
    let mut slots = vec![Slot::default(); SLOTS];
    for told in &found.statements {
        let at = told
            .event
            .time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = (at.as_secs() / SLOT.as_secs()).checked_sub(first);
        if let Some(slot) = at.and_then(|at| slots.get_mut(usize::try_from(at).ok()?)) {
            slot.take(told);
        }
    }
    Ok(Day {
        from_ms: begin.as_millis() as u64,
        slot_s: SLOT.as_secs(),
        slots,
        more: found.more,
    })
}

impl Slot {
    fn take(&mut self, told: &Told) {
        let event = &told.event;
        match event.outcome.as_str() {
            _ if event.action == "dry_run" => return,
            "rejected" => self.refused += 1,
            "failed" | "cancelled" | "disconnected" => self.failed += 1,
            _ if !event.steps.is_empty() => self.plans += 1,
            _ => {}
        }
        let waits = event.after.as_ref().and_then(|after| after.waits.as_ref());
        if let Some(waits) = waits.filter(|waits| waits.behind_plan > 0) {
            self.waits += 1;
            self.longest_wait_ms = self.longest_wait_ms.max(waits.longest_behind_plan_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_in_the_half_hour_in_which_they_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("audit.jsonl");
        let line = |time: &str, id: u32, action: &str, outcome: &str| {
            format!(
                r#"{{"time":"{time}","event":"statement","id":"k-1.{id}","session":1,"backend_pid":1,"user":"u","database":"d","application_name":"","client":"unix","statement":"S","action":"{action}","steps":[{{"label":"s"}}],"outcome":"{outcome}"}}"#
            ) + "\n"
        };
        let text = [
            line("2026-02-27T10:00:00.000000Z", 1, "rewrite", "done"),
            line("2026-03-01T00:29:59.000000Z", 2, "rewrite", "done"),
            line("2026-03-01T00:30:00.000000Z", 3, "reject", "rejected"),
            line("2026-03-01T00:31:00.000000Z", 4, "rewrite", "failed"),
            line("2026-03-01T00:32:00.000000Z", 5, "dry_run", "dry run"),
        ]
        .concat();
        std::fs::write(&file, text).expect("a log");
        let now = crate::audit::time::parse("2026-03-01T00:40:00Z", SystemTime::now()).expect("a time");
        let day = day(&[file], now).expect("it is read");
        assert_eq!(day.slots.len(), SLOTS);
        let filled: Vec<(usize, u32, u32, u32)> = day
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| **slot != Slot::default())
            .map(|(n, slot)| (n, slot.plans, slot.refused, slot.failed))
            .collect();
        assert_eq!(filled, [(46, 1, 0, 0), (47, 0, 1, 1)]);
        assert_eq!(day.from_ms % (SLOT.as_secs() * 1_000), 0);
    }
}
