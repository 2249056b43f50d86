//! A table rewritten by copy and swap, online: which statements do it, in which order. Pure.
//!
//! A new, empty table is made by the server itself (CREATE TABLE … LIKE), and the client's ALTER TABLE is run on it. Rows are copied in
//! steps, each one snapshot. A trigger logs the keys of rows that change, and a step makes the rows of the logged keys anew. After each
//! step the new table is what the old one was as of the step's snapshot, up to the key that the copy has come to. Then both tables
//! change places in one short transaction, with everything that hangs on them.
//!
//! Start at [`scheme::Scheme`], which is all that must be known to go on with one. What the catalog is asked stands in [`questions`].

pub mod alter;
pub mod back;
pub mod facts;
pub mod job;
pub mod online;
pub mod partition;
pub mod persistence;
pub mod questions;
pub mod scheme;
pub mod steps;

use super::splice::{qualified, quote_ident, quote_literal};

/// The schemas of one job: objects with their final names are made in one and, after the swap, kept in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemas {
    pub job: i64,
    /// On the way back: the old table stands where the new one did, and the other way round.
    pub back: bool,
}

impl Schemas {
    pub fn of_job(job: i64) -> Schemas {
        Schemas { job, back: false }
    }

    /// Those of the way back, or again those of the way there.
    pub fn turned(self) -> Schemas {
        Schemas {
            back: !self.back,
            ..self
        }
    }

    /// Where the new table, the log of keys and all else of the job stand.
    pub fn fresh(self) -> String {
        match self.back {
            false => format!("lockkeeper_{}", self.job),
            true => format!("lockkeeper_{}_old", self.job),
        }
    }

    /// Where the old table goes.
    pub fn old(self) -> String {
        self.turned().fresh()
    }

    /// An object of the job's own.
    pub fn of(self, name: &str) -> String {
        qualified(&self.fresh(), name)
    }

    /// The trigger that logs keys.
    pub fn key_trigger(self) -> String {
        quote_ident(&format!("lockkeeper_{}_key", self.job))
    }

    pub fn truncate_trigger(self) -> String {
        quote_ident(&format!("lockkeeper_{}_truncate", self.job))
    }

    /// All that a job has made, by what the catalog alone knows: first the triggers, wherever their table is by now, since without the log
    /// every write would fail.
    pub fn drop_all(self) -> String {
        let (fresh, old) = (self.fresh(), self.old());
        format!(
            "DO $lockkeeper$ DECLARE x text; BEGIN FOR x IN SELECT pg_catalog.format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::pg_catalog.regclass) \
             FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname IN ({}, {}) AND NOT g.tgisinternal LOOP EXECUTE x; END LOOP; END $lockkeeper$; \
             DROP SCHEMA IF EXISTS {}, {} CASCADE",
            quote_literal(&fresh),
            quote_literal(&old),
            quote_ident(&fresh),
            quote_ident(&old)
        )
    }
}
