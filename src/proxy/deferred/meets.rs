//! Later statements of a transaction that meet what waits for its COMMIT.

use super::super::end::End;
use super::super::session::Session;
use super::pending::Pending;
use crate::plan::Place;
use crate::plan::deferred::behind::{looks_up, uses_rows};
use crate::plan::reading::read;
use crate::plan::statement::Statement;
use lockkeeper_wire::messages::Report;
use pg_query::NodeEnum;

impl Session {
    /// A statement that would run against what is not there yet.
    pub async fn needs_what_waits(&mut self, text: &[u8]) -> Result<(), End> {
        self.meets_exchange(text).await?;
        let readings = [self.relay.reading().conforming];
        self.meets_pending_write(text, &readings).await?;
        self.looks_up_pending(text, &readings).await?;
        match self.conflicts_with_pending(text, &readings) {
            Some(report) => Err(report.into()),
            None => Ok(()),
        }
    }

    /// What would read or write the rows of a table that an UPDATE or DELETE has still to change. `readings`: values of
    /// standard_conforming_strings that the server may read the text under.
    pub async fn meets_pending_write(&mut self, text: &[u8], readings: &[bool]) -> Result<(), End> {
        if !self.deferred.has_write() || self.relay.place() != Place::Block {
            return Ok(());
        }
        let read = read_as(text, readings);
        let uses = |p: &&Pending| {
            p.write
                && read.iter().any(|read| match read {
                    Some(statements) => statements.iter().any(|s| uses_rows(s, &p.table.0, &p.table.1)),
                    None => may_name(text, &p.table.1),
                })
        };
        let Some((id, table)) = self
            .deferred
            .pending
            .iter()
            .find(uses)
            .map(|p| (p.id, p.table.1.clone()))
        else {
            return Ok(());
        };
        if !self.still_waits(id).await? {
            return Ok(());
        }
        let message = format!(
            "lockkeeper: an earlier UPDATE or DELETE of {table} waits for COMMIT, as job {id}, and this statement would meet rows that it has \
             not changed yet: COMMIT first"
        );
        let hint = match self.relay.tool {
            Some(tool) => format!(
                "Put the UPDATE or DELETE into a migration of its own, before this one. {}.",
                tool.outside()
            ),
            None => "Put the UPDATE or DELETE into a transaction of its own, before this one.".to_string(),
        };
        Err(Report::error("55000", &message).hint(&hint).into())
    }

    /// INSERT … ON CONFLICT that would go by a unique index which is not there yet.
    pub fn conflicts_with_pending(&self, text: &[u8], readings: &[bool]) -> Option<Report> {
        let uniques = self.deferred.pending.iter().any(|p| !p.uniques.is_empty());
        let lower = text.to_ascii_lowercase();
        if !uniques || memchr::memmem::find(&lower, b"conflict").is_none() {
            return None;
        }
        let read = read_as(text, readings);
        let statements = read.iter().flatten().flatten();
        let unread = || {
            let named = |p: &&Pending| !p.uniques.is_empty() && may_name(text, &p.table.1);
            self.deferred
                .pending
                .iter()
                .find(named)
                .filter(|_| read.iter().any(Option::is_none))
        };
        let pending = statements.clone().find_map(|statement| {
            let NodeEnum::InsertStmt(insert) = &statement.node else {
                return None;
            };
            let range = insert.relation.as_ref()?;
            let conflict = insert.on_conflict_clause.as_ref()?;
            let keys: Option<Vec<String>> = conflict.infer.as_ref().map(|infer| {
                let name = |node: &pg_query::Node| match &node.node {
                    Some(NodeEnum::IndexElem(element)) => element.name.clone(),
                    _ => String::new(),
                };
                infer.index_elems.iter().map(name).collect()
            });
            let named = conflict
                .infer
                .as_ref()
                .map(|infer| infer.conname.clone())
                .filter(|name| !name.is_empty());
            self.deferred.pending.iter().find(|p| {
                let same_table =
                    p.table.1 == range.relname && (range.schemaname.is_empty() || range.schemaname == p.table.0);
                let meant = match (&named, &keys) {
                    (Some(name), _) => p.checks.iter().any(|check| check.name == *name),
                    (None, Some(keys)) => p.uniques.iter().any(|unique| unique.is_on(keys)),
                    (None, None) => !p.uniques.is_empty(),
                };
                same_table && meant
            })
        });
        let pending = pending.or_else(unread)?;
        let message = format!(
            "lockkeeper: ON CONFLICT would need the unique index that job {} builds after COMMIT: send this INSERT in a later transaction",
            pending.id
        );
        Some(Report::error("55000", &message).hint(&self.outside_hint()))
    }

    /// A question to the catalog for an index or constraint that is not there yet, by its name.
    pub async fn looks_up_pending(&mut self, text: &[u8], readings: &[bool]) -> Result<(), End> {
        let brings = |p: &Pending| p.brings.iter().any(|name| may_name(text, name));
        if self.relay.place() != Place::Block || !self.deferred.pending.iter().any(brings) {
            return Ok(());
        }
        let read = read_as(text, readings);
        let asked = |name: &&String| {
            read.iter()
                .flatten()
                .flatten()
                .any(|statement| looks_up(statement, name))
        };
        let found = self
            .deferred
            .pending
            .iter()
            .find_map(|p| Some((p.id, p.brings.iter().find(asked)?.clone())));
        let Some((id, name)) = found else { return Ok(()) };
        if !self.still_waits(id).await? {
            return Ok(());
        }
        let message = format!(
            "lockkeeper: {name} is built only after COMMIT, as job {id}, and the catalog, which this statement asks for it, does not have it \
             before: COMMIT first"
        );
        Err(Report::error("55000", &message).hint(&self.outside_hint()).into())
    }

    pub fn outside_hint(&self) -> String {
        match self.relay.tool {
            Some(tool) => format!(
                "Put the index into a migration of its own, before this one. {}.",
                tool.outside()
            ),
            None => "Put the index into a migration of its own, before this one.".to_string(),
        }
    }

    /// Every statement comes by here while something waits for COMMIT, and the one that shows a migration tool.
    pub async fn compare_with_deferred(&mut self, text: &[u8]) -> Result<(), End> {
        if self.relay.tool.is_some() && !self.looked {
            (self.looked, self.deferred.look) = (true, true);
        }
        self.run_missed_jobs().await?;
        self.relay.watch = self.deferred.looks_on();
        self.needs_what_waits(text).await
    }
}

/// The statements under each of these readings; None: they cannot be read.
pub fn read_as(text: &[u8], readings: &[bool]) -> Vec<Option<Vec<Statement>>> {
    readings.iter().map(|conforming| read(text, *conforming).ok()).collect()
}

/// A text that cannot be read may use whatever it has the name of, also in escapes.
pub fn may_name(text: &[u8], name: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    [name.as_bytes(), b"u&\""]
        .iter()
        .any(|part| memchr::memmem::find(&text, part).is_some())
}
