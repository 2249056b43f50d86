//! Whether a statement of a walk is planned for each batch, or once for all of them: pure.
//!
//! With many partitions the server takes longer to plan a batch than to carry it out. A plan that is made once knows no values, so
//! that it is given up where it turns out to be worse.

use std::time::Duration;

/// Planning that is briefer is not worth it.
const WORTH: Duration = Duration::from_millis(2);
/// A plan for all values may take so many times as long for a key.
const WORSE: f64 = 2.0;
/// One slow batch says little.
const WORSE_MAX: u32 = 2;

#[derive(Debug, Default)]
pub(super) struct Planning {
    once: bool,
    given_up: bool,
    /// With a plan of its own, in seconds for each key.
    each: Option<f64>,
    /// How often in a row the plan for all values was worse.
    worse: u32,
    /// The server was given a statement to keep.
    pub kept: Option<String>,
}

impl Planning {
    pub fn is_once(&self) -> bool {
        self.once
    }

    /// It took so long to plan, and to run for so many keys. `once`: by the plan for all values.
    pub fn took(&mut self, once: bool, planning: Duration, work: Duration, keys: u64) {
        let each = work.as_secs_f64() / keys.max(1) as f64;
        match once {
            true => {
                let is_worse = self.each.is_some_and(|own| each > own * WORSE);
                self.worse = if is_worse { self.worse + 1 } else { 0 };
                if self.worse >= WORSE_MAX {
                    self.give_up();
                }
            }
            false => {
                self.each = Some(each);
                self.once = !self.given_up && planning >= WORTH;
            }
        }
    }

    /// It cannot be kept.
    pub fn give_up(&mut self) {
        (self.once, self.given_up) = (false, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_to_plan_is_planned_once_unless_that_is_worse() {
        let ms = Duration::from_millis;
        let mut planning = Planning::default();
        planning.took(false, ms(1), ms(10), 100);
        assert!(!planning.is_once());
        planning.took(false, ms(50), ms(10), 100);
        assert!(planning.is_once());
        for (took, is_once) in [(201, true), (199, true), (201, true), (201, false)] {
            planning.took(true, ms(0), ms(took), 1_000);
            assert_eq!(planning.is_once(), is_once, "{took}");
        }
        planning.took(false, ms(50), ms(10), 100);
        assert!(!planning.is_once());
    }
}
