//! Which statement, sent again, did what was left of one whose end the log does not have: told from the raw lines, since most are
//! not wanted.

use memchr::memmem::find;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What `list` and the review page say of it.
pub const CONTINUED: &str = "continued";

/// How a resumed job is called, as the log writes the text.
const RESUME: &[u8] = b"\"CALL lockkeeper.resume(";

/// What an event's line asked for: database, statement and parameters. None where the text was not kept as it was.
pub fn asked(line: &[u8]) -> Option<u64> {
    let (statement, parameters) = statement(line)?;
    whole(statement).then(|| key(line, statement, parameters))?
}

/// What the line of a statement's end says is done: its own statement and, of a resumed job, the job's.
pub fn done(line: &[u8]) -> Vec<u64> {
    if find(line, b"],\"outcome\":\"done\",").is_none() {
        return Vec::new();
    }
    let mut all: Vec<u64> = asked(line).into_iter().collect();
    let Some((resumed, _)) = statement(line).filter(|(statement, _)| statement.starts_with(RESUME)) else {
        return all;
    };
    let mut rest = &line[resumed.as_ptr() as usize - line.as_ptr() as usize..];
    while let Some(sql) = between(rest, b",\"sql\":", b",\"lock\":") {
        if whole(sql) {
            all.extend(key(line, sql, b"[]"));
        }
        rest = &rest[sql.as_ptr() as usize - rest.as_ptr() as usize + sql.len()..];
    }
    all
}

/// As JSON. A quote within a text has a backslash before it, so that no text can hold a key.
fn statement(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let statement = between(line, b",\"statement\":", b",\"parameters\":")?;
    let rest = &line[statement.as_ptr() as usize - line.as_ptr() as usize + statement.len()..];
    Some((statement, between(rest, b",\"parameters\":", b",\"relations\":")?))
}

fn between<'a>(text: &'a [u8], before: &[u8], behind: &[u8]) -> Option<&'a [u8]> {
    let rest = &text[find(text, before)? + before.len()..];
    rest.get(..find(rest, behind)?)
}

/// Nothing in it was hidden or cut.
fn whole(statement: &[u8]) -> bool {
    !statement.contains(&b'?') && find(statement, b"***").is_none() && find(statement, b"[cut by lockkeeper").is_none()
}

fn key(line: &[u8], statement: &[u8], parameters: &[u8]) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    between(line, b",\"database\":", b",\"application_name\":")?.hash(&mut hasher);
    (statement, parameters).hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(database: &str, statement: &str, parameters: &str, sql: &str, outcome: &str) -> String {
        format!(
            r#"{{"v":1,"event":"statement","id":"a","database":"{database}","application_name":"","statement":"{statement}","parameters":[{parameters}],"relations":[],"steps":[{{"label":"x","sql":"{sql}","lock":"","outcome":"done"}}],"outcome":"{outcome}","sqlstate":null}}"#
        )
    }

    #[test]
    fn the_same_statement_or_its_job_did_it() {
        let begun = line("d", "UPDATE t SET a = \\\"b\\\"", "", "", "");
        let key = asked(begun.as_bytes()).unwrap();
        let did = |database: &str, statement: &str, parameters: &str, sql: &str, outcome: &str| {
            done(line(database, statement, parameters, sql, outcome).as_bytes()).contains(&key)
        };
        let same = "UPDATE t SET a = \\\"b\\\"";
        assert!(did("d", same, "", "", "done"));
        assert!(did("d", "CALL lockkeeper.resume(7)", "", same, "done"));
        assert!(!did("d", same, "", "", "failed"));
        assert!(!did("e", same, "", "", "done"));
        assert!(!did("d", same, "\"1\"", "", "done"));
        assert!(!did("d", "UPDATE t SET a = 5", "", same, "done"));
        // What was hidden may have been something else.
        assert_eq!(asked(line("d", "UPDATE t SET a = '?'", "", "", "").as_bytes()), None);
    }
}
