//! Restores that were refused at their first statement. pg_restore goes on after an error, with connections of its own for the rows
//! (--jobs) or for the database that it makes anew (--create): these are refused too, for a while.

use super::wire::Report;
use crate::audit::Who;
use crate::plan::statement::Statement;
use pg_query::NodeEnum;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After its connection is gone pg_restore runs through the rest of its list within seconds, and then opens the next ones.
const REFUSED_FOR: Duration = Duration::from_secs(120);
/// As pg_restore names itself in its startup packet.
const APPLICATION: &str = "pg_restore";
const OVERRIDE: &[u8] = b"lockkeeper.override";

#[derive(Debug, Default)]
pub(super) struct Restores {
    /// Databases.
    refused: Mutex<Vec<(String, Instant)>>,
}

impl Restores {
    /// Also the database that the statement would have dropped. Only pg_restore comes again: psql, with whose session a plain dump
    /// ends, is no reason to keep a pg_restore out.
    pub fn was_refused(&self, who: &Who, statement: &Statement) {
        if who.application_name != APPLICATION {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        refused.retain(|(_, until)| *until > now);
        refused.push((who.database.clone(), now + REFUSED_FOR));
        if let NodeEnum::DropdbStmt(drop) = &statement.node {
            refused.push((drop.dbname.clone(), now + REFUSED_FOR));
        }
    }

    /// Why a session must not begin. One that comes with an override in its startup packet means it.
    pub fn refuses(&self, who: &Who, packet: &[u8]) -> Option<Report> {
        if who.application_name != APPLICATION || memchr::memmem::find(packet, OVERRIDE).is_some() {
            return None;
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (_, until) = refused
            .iter()
            .find(|(name, until)| *name == who.database && *until > now)?;
        let seconds = until.duration_since(now).as_secs() + 1;
        let message = "lockkeeper: a restore of this database was just refused at its first statement, and what is left of it must not load its rows beside the old ones";
        Some(Report::fatal("55006", message).hint(&format!(
            "Another pg_restore into this database may begin in {seconds} s, or with PGOPTIONS=\"-c lockkeeper.override=clean-restore:ticket-42\"."
        )))
    }
}
