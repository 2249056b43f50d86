//! A rule that only `check` has, as data, and what it says.

use crate::check::spot::Spot;
use crate::check::verdict::Found;
use crate::plan::lock::LockMode;

/// A rule as data, as the proxy's are.
pub struct Own {
    pub name: &'static str,
    /// warn | reject
    pub verdict: &'static str,
    pub what: &'static str,
    pub why: &'static str,
    pub safe: &'static str,
    pub bad: &'static [&'static str],
    pub good: &'static [&'static str],
}

pub fn told(at: &Spot, rule: &Own, message: String, hint: &str) -> Found {
    Found::new(
        at.source,
        at.whole(),
        rule.name,
        LockMode::None,
        message,
        hint.to_string(),
    )
}
