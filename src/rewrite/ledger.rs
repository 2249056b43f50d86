//! What the proxies' ledger knows of a table that was put aside: whoever still names it is told before it is dropped.

use super::link::Fault;
use super::open::open;
use super::say;
use crate::jobs::Server;
use crate::plan::rewrite::scheme::Scheme;
use crate::usage::left::Aside;
use crate::usage::together::{Unknown, read};
use crate::usage::{seconds, words};
use std::io::Write;

/// Err: somebody has used it, by its own name, since it was put aside. Without a ledger nothing is known, and nothing said.
pub async fn is_unused(server: &Server, scheme: &Scheme, out: &mut dyn Write) -> Result<(), Fault> {
    let link = open(server).await?;
    let database = link.one("SELECT current_database()").await?.unwrap_or_default();
    let Some(client) = link.client() else { return Ok(()) };
    let together = match read(client, std::slice::from_ref(&scheme.name)).await {
        Ok(together) => together,
        Err(Unknown::NotThere) => return Ok(()),
        Err(Unknown::Failed(why)) => return say(out, &format!("whether the old table is used is not known: {why}")),
    };
    let aside = scheme.schemas().old();
    let table = Aside::Table {
        schema: &aside,
        name: &scheme.name,
    };
    let used = table.uses(&together.record, &database);
    match used.first() {
        Some(last) => Err(format!(
            "{} is still used, {}; drop it all the same: lockkeeper jobs --dsn … finish {} --even-if-used",
            scheme.parked(),
            words::used(last, seconds()),
            scheme.job
        )
        .into()),
        None => Ok(()),
    }
}
