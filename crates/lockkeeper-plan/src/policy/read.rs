//! From a file's text, or a name, to a policy.

use super::Policy;
use super::file::EMBEDDED;
use super::source::Source;

impl Policy {
    /// Reads a policy file. `name` is its path, for messages and the audit log. The error names the file, the line and, for an
    /// unknown key, value or rule, the nearest one that exists.
    pub fn parse(text: &str, name: &str, rule_names: &[&str]) -> Result<Policy, String> {
        let file = Source { text, name }.read(Some(rule_names))?;
        file.policy(name)
            .ok_or_else(|| format!("{name}: the built-in policy `standard` is incomplete"))
    }

    /// `observe`, `standard` or `strict`; None for any other name.
    pub fn embedded(name: &str, rule_names: &[&str]) -> Option<Policy> {
        let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        // An error would be a mistake in a file that is compiled in; the tests read all three.
        Policy::parse(text, name, rule_names).ok()
    }
}
