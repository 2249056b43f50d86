//! What the relay keeps about statements for those who watch what is used, and for those who hold statements back.
//!
//! Each that is executed is noted, by its shape and who executes it: one look-up, and one store.

use crate::live::traffic::Shaped;
use crate::usage::holds::Window;
use crate::usage::record::Who;
use crate::usage::{Noted, Usage};
use std::collections::HashMap;
use std::sync::Arc;

/// Prepared statements that a session's executions are noted by. One with more has them all forgotten: their executions count as
/// unread.
const NAMES_MAX: usize = 16_384;

#[derive(Default)]
pub struct Holding {
    /// The database and role of the session. Empty: nothing is noted, nor ever held.
    pub database: String,
    pub role: String,
    /// The number of the session's application and role, once it was asked for.
    who: Option<u32>,
    unnamed: Noted,
    /// By the names of prepared statements.
    named: HashMap<Box<[u8]>, Noted>,
    pub window: Option<(Arc<Window>, u64)>,
    /// The statement at the front has been held: it goes on.
    pub let_go: bool,
}

impl Holding {
    /// It may be another application from here on.
    pub fn application_changes(&mut self) {
        self.who = None;
    }

    /// A whole Query or Parse. `name`: of a Parse.
    pub fn note_text(&mut self, usage: &Usage, application: &str, name: Option<&[u8]>, text: Shaped<'_>) {
        let Some(who) = self.who_executes(usage, application) else {
            return;
        };
        let noted = usage.note(text.number, who, text.text, name.is_none());
        match name {
            None => {}
            Some(b"") => self.unnamed = noted,
            Some(name) => {
                if let Some(known) = self.named.get_mut(name) {
                    *known = noted;
                    return;
                }
                if self.named.len() >= NAMES_MAX {
                    self.named.clear();
                }
                self.named.insert(name.into(), noted);
            }
        }
    }

    /// A Bind of that statement.
    pub fn note_bind(&mut self, usage: &Usage, application: &str, statement: &[u8]) {
        let Some(who) = self.who_executes(usage, application) else {
            return;
        };
        let noted = match statement {
            b"" => self.unnamed,
            // What SQL has prepared, or more than are kept.
            name => self.named.get(name).copied().unwrap_or_default(),
        };
        usage.again(noted, who);
    }

    /// A text that is not held, and so not read.
    pub fn note_unread(&mut self, usage: &Usage, application: &str) {
        if let Some(who) = self.who_executes(usage, application) {
            self.unnamed = Noted::default();
            usage.note(0, who, b"", true);
        }
    }

    fn who_executes(&mut self, usage: &Usage, application: &str) -> Option<u32> {
        if self.who.is_none() && !self.database.is_empty() {
            let who = Who {
                database: self.database.clone(),
                application: application.to_owned(),
                role: self.role.clone(),
            };
            self.who = Some(usage.who(who));
        }
        self.who
    }
}
