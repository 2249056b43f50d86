//! SET LOGGED and SET UNLOGGED: what a crash of the server leaves of a rewrite, and whether the server lets a table change at all.
//!
//! A crash empties every unlogged table, and so the marker: an unlogged table of one row, made in the transaction that makes the new table. It is
//! empty, too, on a standby that takes the server's place, and keeps its row when the server is shut down in order.
//!
//! PostgreSQL 15.20 and 18.4 do not start again ("could not create file … File exists") when they crash before the WAL of a transaction is flushed that
//! has made a file of an unlogged table, index or sequence, and was rolled back. A COMMIT that drops a file flushes the WAL before it does. So what
//! is only tried is dropped and committed, and behind what is rolled back comes [`flush`].

use super::alter::Alter;
use super::scheme::{MARKER, Scheme};
use crate::splice::qualified;
use serde_json::{Map, Value};

/// The schema of the stand-in of the table; nobody else ever sees it.
const STAND_IN: &str = "lockkeeper_trial";

/// Of a table, by what it is described as.
pub fn is_unlogged(own: &Map<String, Value>) -> bool {
    let persistence = own.get("table ").and_then(|table| table.get("persistence"));
    persistence.and_then(Value::as_str) == Some("u")
}

impl Scheme {
    pub fn place_marker(&self) -> Vec<String> {
        let marker = self.schemas().of(MARKER);
        vec![
            format!("CREATE UNLOGGED TABLE {marker} (lasts bool NOT NULL)"),
            format!("INSERT INTO {marker} VALUES (true)"),
        ]
    }

    /// One boolean: no crash since the new table was made.
    pub fn lasts(&self) -> String {
        format!("SELECT EXISTS (SELECT FROM {})", self.schemas().of(MARKER))
    }
}

/// SET LOGGED and SET UNLOGGED of one statement.
pub struct Change<'a>(&'a Alter);

pub fn of_alters(alters: &[Alter]) -> Vec<Change<'_>> {
    let changes = |alter: &&Alter| !alter.persistence.is_empty();
    alters.iter().filter(changes).map(Change).collect()
}

/// WAL is flushed up to here. In one transaction, which leaves nothing.
pub fn flush() -> String {
    format!(
        "BEGIN; SET LOCAL client_min_messages = error; CREATE SCHEMA {STAND_IN}; CREATE TABLE {STAND_IN}.t (); DROP SCHEMA {STAND_IN} CASCADE; COMMIT"
    )
}

/// Of what [`stand_ins`] has made.
pub fn drop_stand_ins() -> String {
    format!(
        "DROP SCHEMA IF EXISTS {STAND_IN}, {STAND_IN}_p, {STAND_IN}_u CASCADE; DROP PUBLICATION IF EXISTS {STAND_IN}; COMMIT"
    )
}

impl Change<'_> {
    pub fn on_stand_in(&self, table: &str) -> String {
        let actions = self.0.persistence.join(", ");
        format!("ALTER TABLE {} {actions}", qualified(STAND_IN, table))
    }
}

/// Statements that make an empty table of the table's name and persistence, with others at both ends of its foreign keys, and in a publication as
/// it is: whatever the server says of the change, it says of these. None are locked that others use. Empty: the role may make none.
pub fn stand_ins(table: u32) -> String {
    include_str!("stand_ins.sql")
        .trim_end()
        .replace("{table}", &table.to_string())
        .replace("{schema}", STAND_IN)
}
