//! The rows as a query for them, which the server describes, formats and encodes; and what is said where nothing runs.

use crate::plan::statement::Statement;
use crate::plan::words::first_token;
use lockkeeper_wire::messages::Report;
use serde_json::json;

/// Where the rows of a statement that was prepared are kept while it is executed.
pub const ROWS_SETTING: &str = "lockkeeper.dry_rows";

/// `CALL lockkeeper.resume(7)`
pub fn resumes(job: i64) -> String {
    let action = format!("job {job} goes on where it stopped");
    json!([{ "step": "1 of 1", "action": action, "runs": "now" }]).to_string()
}

const COLUMNS: &str = "step pg_catalog.text, action pg_catalog.text, sql pg_catalog.text, lock pg_catalog.text, blocks pg_catalog.text, \
     rows pg_catalog.int8, time pg_catalog.text, held_by pg_catalog.text, runs pg_catalog.text, rollback pg_catalog.text, why pg_catalog.text";

/// In ASCII, whatever the client's encoding and quotes are.
pub fn text_of(rows: &str) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(rows.len() * 2);
    for byte in rows.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')")
}

pub fn select_of(rows: &str) -> String {
    format!(
        "SELECT * FROM pg_catalog.json_to_recordset({}::pg_catalog.json) AS plan({COLUMNS})",
        text_of(rows)
    )
}

pub fn select_of_setting() -> String {
    format!(
        "SELECT * FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('{ROWS_SETTING}', true)::pg_catalog.json) AS plan({COLUMNS})"
    )
}

/// read_only_sql_transaction: what the server itself says of a write where none may be.
pub fn not_run(statement: &Statement) -> Report {
    let words: Vec<&str> = statement.sql[first_token(&statement.sql)..]
        .split_whitespace()
        .take(2)
        .collect();
    let named = match words.as_slice() {
        [verb, ..]
            if matches!(
                verb.to_ascii_uppercase().as_str(),
                "SELECT" | "WITH" | "EXPLAIN" | "COPY" | "DECLARE"
            ) =>
        {
            "this statement may change something".to_owned()
        }
        [verb, ..] => format!("{} may change something", verb.to_ascii_uppercase()),
        [] => "this statement may change something".to_owned(),
    };
    Report::error("25006", &format!("lockkeeper: dry_run is on and {named}, so it was not run"))
        .detail("In a dry run only judged statements, which answer with their plan, and statements that change nothing are taken.")
        .hint("SET lockkeeper.dry_run = off; and send it again.")
}

/// The server plans the statement for its plan to be told, and calls a function of it that writes. None: `report` is about something else.
pub fn planning_writes(report: &Report) -> Option<Report> {
    let text =
        "lockkeeper: dry_run is on and to plan this statement calls a function that writes, so its plan is not known";
    (report.sqlstate() == "25006").then(|| {
        Report::error("25006", text)
            .detail(&report.message())
            .hint("A function that writes is to be declared VOLATILE: the server does not call such a one before the statement runs.")
    })
}

pub fn no_call() -> Report {
    Report::error(
        "25006",
        "lockkeeper: dry_run is on and a function called by its number may change something, so it was not run",
    )
    .hint("SET lockkeeper.dry_run = off; and call it again.")
}

/// Whoever writes it wants nothing changed.
pub fn misspelt() -> Report {
    Report::error(
        "42601",
        "lockkeeper: the comment in front of the statement cannot be read, so it was not run",
    )
    .hint("For a dry run write /* lockkeeper: dry_run */ in front of it.")
}

pub fn unread() -> Report {
    Report::error(
        "25006",
        "lockkeeper: dry_run is on and the statement cannot be read, so it was not run",
    )
    .hint("SET lockkeeper.dry_run = off; and send it again.")
}

/// feature_not_supported, as the server says of a plan whose rows would be others: drivers prepare it again.
pub fn prepared_before() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: dry_run is on and this statement was prepared before, so it was not run",
    )
    .hint("Prepare it again: it then answers with its plan.")
}

pub fn prepared_in_dry_run() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: this statement was prepared in a dry run, which is over, so it was not run",
    )
    .hint("Prepare it again.")
}

pub fn behind_pooler() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: there is a connection pooler between Lockkeeper and the server, behind which a setting may be another client's",
    )
    .hint("Ask for one statement with a comment in front of it: /* lockkeeper: dry_run */")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_travel_in_ascii() {
        let sql = select_of("[{\"sql\": \"é'\\\\\"}]");
        assert!(
            sql.is_ascii() && !sql.contains('\\') && sql.matches('\'').count() == 6,
            "{sql}"
        );
    }
}
