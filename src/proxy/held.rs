//! The prepared statements and portals of a session that must not be executed without a look. Others are not kept.
//!
//! What a client has prepared lives as long as its session, so that all of it together has a bound. Pure.

use super::reading::Reading;
use super::shapes::Learned;
use crate::plan::batches::firing::Firing;
use crate::plan::calls::Calls;
use crate::plan::gate::may_return_rows;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// What an entry takes besides its texts, about.
const OVERHEAD: usize = 256;
const CALLS_MAX: usize = 1_000;

#[derive(Clone, Debug)]
pub struct Statement {
    pub text: Bytes,
    /// Parameter types as the client sent them.
    pub types: Bytes,
    /// How the server has read the text, where there are several ways.
    pub reading: Option<Reading>,
    pub what: Kind,
    /// It was found harmless, whatever its parameters are, and is not looked at while that holds.
    pub quiet: Option<Arc<Learned>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be judged when it is executed.
    Judge,
    /// The server accepts it, the judge cannot read it.
    Unreadable,
    /// `UPDATE … LIMIT`: rewritten at Parse, to be audited when it is executed.
    Rewritten,
    /// Parsed in a dry run: the server has a query for the rows of its plan.
    Dry,
    /// Of a portal: it was carried out by statements of ours. The server runs no such portal twice.
    Done,
    /// DEALLOCATE or DISCARD: when it is executed, others are held no longer.
    Forgets,
}

#[derive(Clone, Debug)]
pub struct Portal {
    /// The name of its statement.
    pub of: Bytes,
    /// What the statement was when it was bound: the server's portal outlives it.
    pub statement: Statement,
    /// The Bind frame as the client sent it.
    pub bind: Bytes,
    /// The server does not have it, see [`super::away`].
    pub away: bool,
    /// It may have ended with a ROLLBACK (TO), whose tag does not tell how far it went.
    pub doubted: bool,
}

impl Portal {
    /// It waits to be judged, and could be fetched from by its name meanwhile.
    pub fn may_be_fetched(&self) -> bool {
        let waits = matches!(self.statement.what, Kind::Judge | Kind::Unreadable) && !self.away;
        waits && may_return_rows(&self.statement.text)
    }
}

pub struct Held {
    statements: HashMap<Bytes, Statement>,
    portals: HashMap<Bytes, Portal>,
    /// Statements that may move names, or do more, when they are executed.
    calls: HashMap<Bytes, Calls>,
    /// More than can be kept.
    all_call: bool,
    /// INSERTs that were let pass, and for which rules (CREATE RULE) that has held: one that is made later may make them change other rows.
    inserts: HashMap<Bytes, Option<Arc<Firing>>>,
    all_insert: bool,
    bytes: usize,
    bytes_max: usize,
}

impl Statement {
    pub fn size(&self) -> usize {
        self.text.len() + self.types.len() + OVERHEAD
    }
}

impl Portal {
    /// With its statement's text, which may be nobody else's any more.
    fn size(&self) -> usize {
        self.bind.len() + self.statement.size()
    }
}

impl Held {
    pub fn new(bytes_max: usize) -> Held {
        Held {
            statements: HashMap::new(),
            portals: HashMap::new(),
            calls: HashMap::new(),
            all_call: false,
            inserts: HashMap::new(),
            all_insert: false,
            bytes: 0,
            bytes_max,
        }
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// So many bytes more are within the bound.
    pub fn fits(&self, more: usize) -> bool {
        self.bytes + more <= self.bytes_max
    }

    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.portals.is_empty() && self.calls.is_empty() && !self.all_call
    }

    pub fn has_statements(&self) -> bool {
        !self.statements.is_empty()
    }

    pub fn statement(&self, name: &[u8]) -> Option<&Statement> {
        self.statements.get(name)
    }

    pub fn portal(&self, name: &[u8]) -> Option<&Portal> {
        self.portals.get(name)
    }

    pub fn prepare(&mut self, name: &[u8], statement: Statement) {
        self.bytes += statement.size();
        if let Some(before) = self.statements.insert(Bytes::copy_from_slice(name), statement) {
            self.bytes -= before.size();
        }
    }

    pub fn bind(&mut self, name: &[u8], portal: Portal) {
        self.bytes += portal.size();
        if let Some(before) = self.portals.insert(Bytes::copy_from_slice(name), portal) {
            self.bytes -= before.size();
        }
    }

    pub fn put_away(&mut self, name: &[u8]) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.away = true;
        }
    }

    pub fn doubt_portals(&mut self) {
        self.portals.values_mut().for_each(|portal| portal.doubted = true);
    }

    /// The server has it.
    pub fn is_there(&mut self, name: &[u8]) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.doubted = false;
        }
    }

    pub fn done(&mut self, name: &[u8]) {
        if let Some(portal) = self.portals.get_mut(name) {
            portal.statement.what = Kind::Done;
        }
    }

    /// The unnamed portal, by what is executed under another name.
    pub fn unnamed_may_be_fetched(&self) -> bool {
        self.portals.get(&b""[..]).is_some_and(Portal::may_be_fetched)
    }

    /// Its statement can be bound again.
    pub fn is_still(&self, portal: &Portal) -> bool {
        let now = self.statements.get(&portal.of);
        now.is_some_and(|now| now.text == portal.statement.text && now.types == portal.statement.types)
    }

    /// Not looked at while that holds.
    pub fn quiet(&mut self, name: &[u8], learned: Arc<Learned>) {
        if let Some(held) = self.statements.get_mut(name) {
            held.quiet = Some(learned);
        }
    }

    /// What the statement of that name calls. `surely`: whatever it was before is gone.
    pub fn prepared_calls(&mut self, name: &[u8], calls: Calls, surely: bool) {
        let calls = match surely {
            true => calls,
            false => calls.max(self.calls(name)),
        };
        if calls == Calls::Harmless {
            self.calls.remove(name);
        } else if self.calls.len() < CALLS_MAX || self.calls.contains_key(name) {
            self.calls.insert(Bytes::copy_from_slice(name), calls);
        } else {
            self.all_call = true;
        }
    }

    pub fn calls(&self, name: &[u8]) -> Calls {
        match self.all_call {
            true => Calls::Others,
            false => self.calls.get(name).copied().unwrap_or(Calls::Harmless),
        }
    }

    /// The statement of that name is an INSERT. The unnamed one is sent anew, and looked at then.
    pub fn prepared_insert(&mut self, name: &[u8]) {
        if name.is_empty() {
            return;
        }
        match self.inserts.len() < CALLS_MAX || self.inserts.contains_key(name) {
            true => drop(self.inserts.insert(Bytes::copy_from_slice(name), None)),
            false => self.all_insert = true,
        }
    }

    pub fn has_inserts(&self) -> bool {
        !self.inserts.is_empty()
    }

    /// It may be an INSERT that is not held, and was not looked at under these rules.
    pub fn may_insert(&self, name: &[u8], firing: Option<&Arc<Firing>>) -> bool {
        let looked = match self.inserts.get(name) {
            Some(looked) => looked.as_ref(),
            None if !self.all_insert || name.is_empty() => return false,
            None => None,
        };
        let is_same = looked
            .zip(firing)
            .is_some_and(|(looked, firing)| Arc::ptr_eq(looked, firing));
        !is_same && !self.statements.contains_key(name)
    }

    pub fn looked_at_insert(&mut self, name: &[u8], firing: &Arc<Firing>) {
        if let Some(looked) = self.inserts.get_mut(name) {
            *looked = Some(Arc::clone(firing));
        }
    }

    /// Some statement that was prepared over the protocol does more than answer.
    pub fn any_calls(&self) -> bool {
        self.all_call || !self.calls.is_empty()
    }

    pub fn forget_statement(&mut self, name: &[u8]) {
        self.bytes -= self.statements.remove(name).map_or(0, |held| held.size());
    }

    pub fn forget_statements(&mut self) {
        self.bytes -= self.statements.drain().map(|(_, held)| held.size()).sum::<usize>();
    }

    pub fn forget_portal(&mut self, name: &[u8]) {
        self.bytes -= self.portals.remove(name).map_or(0, |held| held.size());
    }

    pub fn forget_portals(&mut self) {
        if !self.portals.is_empty() {
            self.bytes -= self.portals.drain().map(|(_, held)| held.size()).sum::<usize>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &'static str) -> Statement {
        Statement {
            text: Bytes::from_static(text.as_bytes()),
            types: Bytes::new(),
            reading: None,
            what: Kind::Judge,
            quiet: None,
        }
    }

    fn portal(text: &'static str, bind: usize) -> Portal {
        Portal {
            of: Bytes::new(),
            statement: statement(text),
            bind: vec![0; bind].into(),
            away: false,
            doubted: false,
        }
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_forgotten() {
        let mut held = Held::new(10_000);
        held.prepare(b"a", statement("DROP TABLE t"));
        held.prepare(b"a", statement("DROP TABLE another"));
        assert_eq!(held.bytes, OVERHEAD + 18);
        held.bind(b"", portal("DROP TABLE t", 5_000));
        held.bind(b"", portal("DROP TABLE t", 6_000));
        held.bind(b"p", portal("DROP TABLE t", 1_000));
        assert_eq!(held.bytes, 3 * OVERHEAD + 18 + 7_024);
        assert!(held.fits(2_190) && !held.fits(2_191));
        held.forget_portal(b"p");
        held.forget_portal(b"p");
        held.forget_statement(b"a");
        held.forget_statement(b"nothing");
        assert_eq!(held.bytes, OVERHEAD + 6_012);
        held.prepare(b"b", statement("DROP TABLE t"));
        held.forget_statements();
        held.forget_portals();
        assert!(held.bytes == 0 && held.is_empty());
    }
}
