//! Times on the command line and in the configuration file.

use std::time::Duration;

/// A day: nobody waits longer for a connection or a shutdown on purpose.
const TIMEOUT_S_MAX: u64 = 86_400;

pub(super) fn timeout(name: &str, seconds: Option<u64>, least: u64, default: Duration) -> Result<Duration, String> {
    match seconds {
        None => Ok(default),
        Some(seconds) if (least..=TIMEOUT_S_MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => {
            let range = format!("it goes from {least} to {TIMEOUT_S_MAX} seconds");
            Err(format!("{name}: {seconds} is out of range; {range}"))
        }
    }
}
