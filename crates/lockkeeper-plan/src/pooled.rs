//! What can be done where a connection pooler stands between Lockkeeper and the server, which may give each transaction another process of
//! the server's: only what one transaction carries. Settings, advisory locks and prepared statements of a session would stay on
//! connections that others use. Pure.

use super::finding::Rejection;
use super::outcome::Run;
use super::step::{Mode, Step};

const HINT: &str = "Let Lockkeeper connect to the server itself, and the pooler, if there must be one, to Lockkeeper.";

/// The client's own concurrent statement goes as it would without us.
pub fn passes(run: &Run, statement: &str) -> bool {
    let [step] = run.steps.as_slice() else { return false };
    matches!(step.mode, Mode::Concurrent) && run.deferral.is_none() && step.sql.trim() == statement.trim()
}

/// Why a plan is not begun there, if it is not.
pub fn uncarried(run: &Run) -> Option<Rejection> {
    let is_concurrent = |step: &Step| matches!(step.mode, Mode::Concurrent);
    (run.deferral.is_some() || run.steps.iter().any(is_concurrent)).then(|| refused(run))
}

/// A plan that takes more than one transaction, or things that outlast one.
pub fn refused(run: &Run) -> Rejection {
    let concurrent = run.steps.iter().find(|step| matches!(step.mode, Mode::Concurrent));
    let detail = match (concurrent, &run.deferral) {
        (Some(step), _) => format!(
            "This step takes settings that outlast a transaction, and would leave them to others: {}",
            step.sql
        ),
        (None, Some(_)) => {
            "What is left for after COMMIT would be done in other transactions, under an advisory lock that outlasts them.".to_owned()
        }
        (None, None) => {
            let steps: Vec<&str> = run.steps.iter().map(|step| step.sql.as_str()).collect();
            format!("Behind a pooler what was prepared by the extended protocol is there in one transaction only. The steps:\n{}", steps.join(";\n"))
        }
    };
    Rejection {
        // feature_not_supported
        sqlstate: "0A000".to_owned(),
        message: "carrying this out safely takes more than one transaction, and there is a connection pooler between Lockkeeper and the server"
            .to_owned(),
        detail,
        hint: HINT.to_owned(),
        findings: run.findings.clone(),
    }
}

/// With overrides that are given in a comment: what is SET may be another client's, and does not count.
pub fn advised(mut refusal: Rejection) -> Rejection {
    const SET: &str = "SET lockkeeper.override = '";
    const RESET: &str = "; RESET lockkeeper.override;";
    let mut hint = std::mem::take(&mut refusal.hint);
    while let Some(at) = hint.find(SET) {
        let rest = &hint[at + SET.len()..];
        let Some((given, behind)) = rest.split_once("'; ") else {
            break;
        };
        let Some((rule, why)) = given.split_once(": ") else {
            break;
        };
        let behind = match behind.split_once(RESET) {
            Some((statement, behind)) => format!("{statement};{behind}"),
            None => behind.to_owned(),
        };
        hint = format!(
            "{}/* lockkeeper: allow={rule} reason=\"{why}\" */ {behind}",
            &hint[..at]
        );
    }
    refusal.hint = hint;
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_comments() {
        let refusal = Rejection {
            sqlstate: String::new(),
            message: String::new(),
            detail: String::new(),
            hint: "3. SET lockkeeper.override = 'drop-table: unused since <release>'; DROP TABLE t; RESET lockkeeper.override;\nMore.".into(),
            findings: Vec::new(),
        };
        assert_eq!(
            advised(refusal).hint,
            "3. /* lockkeeper: allow=drop-table reason=\"unused since <release>\" */ DROP TABLE t;\nMore."
        );
    }
}
