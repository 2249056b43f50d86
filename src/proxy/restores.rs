//! Restores that were refused at their first statement. pg_restore goes on after an error, with connections of its own for the rows
//! (--jobs) or for the database that it makes anew (--create): these are refused too, for a while.

use crate::audit::Who;
use crate::plan::statement::Statement;
use lockkeeper_wire::messages::Report;
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
    refused: Mutex<Vec<(Restorer, Instant)>>,
}

/// Whose restore it is. The connections of one pg_restore tell nothing else that they have in common, and that others have not.
#[derive(Debug, PartialEq, Eq)]
struct Restorer {
    user: String,
    host: String,
    database: String,
}

impl Restorer {
    fn of(who: &Who, database: &str) -> Restorer {
        // Of a Unix socket there is no port.
        let host = who
            .client
            .rsplit_once(':')
            .map_or(who.client.as_str(), |(host, _)| host);
        Restorer {
            user: who.user.clone(),
            host: host.to_owned(),
            database: database.to_owned(),
        }
    }
}

impl Restores {
    /// Also in the database that the statement would have dropped. Only pg_restore comes again: psql, with whose session a plain dump
    /// ends, is no reason to keep a pg_restore out.
    pub fn was_refused(&self, who: &Who, statement: &Statement) {
        if who.application_name != APPLICATION {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut these = vec![Restorer::of(who, &who.database)];
        if let NodeEnum::DropdbStmt(drop) = &statement.node {
            these.push(Restorer::of(who, &drop.dbname));
        }
        refused.retain(|(restorer, until)| *until > now && !these.contains(restorer));
        refused.extend(these.into_iter().map(|restorer| (restorer, now + REFUSED_FOR)));
    }

    /// Why a session must not begin. One that comes with an override in its startup packet means it.
    pub fn refuses(&self, who: &Who, packet: &[u8]) -> Option<Report> {
        if who.application_name != APPLICATION || memchr::memmem::find(packet, OVERRIDE).is_some() {
            return None;
        }
        let this = Restorer::of(who, &who.database);
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (_, until) = refused
            .iter()
            .find(|(restorer, until)| *restorer == this && *until > now)?;
        let seconds = until.duration_since(now).as_secs() + 1;
        let message = "lockkeeper: a restore of this database was just refused at its first statement, and what is left of it must not load its rows beside the old ones";
        Some(Report::fatal("55006", message).hint(&format!(
            "Another pg_restore into this database may begin in {seconds} s, by another role or from another machine at once; or with PGOPTIONS=\"-c lockkeeper.override=clean-restore:ticket-42\"."
        )))
    }
}
