//! What of a client's message is looked at before it goes on: the gate's look at texts, and what is known of prepared statements.

use super::{Event, Growing, Look, Relay};
use crate::live::Live;
use crate::live::traffic::Shaped;
use crate::plan::calls::{Calls, calls};
use crate::plan::gate::{
    Gate, calls_before, executed_plainly, gate, holds_several, may_execute_prepared, may_insert, may_move_names,
    may_prepare_again, may_use_prepared, prepares_insert,
};
use crate::plan::makes::makes_relations;
use crate::plan::statement::stream::Stream as Followed;
use crate::plan::tool::Tool;
use crate::plan::words::mentions;
use crate::plan::{Place, dry, version};
use crate::proxy::end::Broken;
use crate::proxy::held::{self};
use crate::proxy::reading::depends_on_reading;
use crate::proxy::shapes::Learned;
use lockkeeper_wire::messages::{self as wire, HEADER};
use std::sync::Arc;

/// So much of a text that is not held must show what it is.
const FIRST_LOOK: usize = 16 << 10;
/// Statement and portal names of a Bind must come within so many bytes.
const NAMES_MAX: usize = 32 << 10;
/// So far into a Bind a setting's name is looked for.
const BOUND_MAX: usize = 4 << 10;
/// What the unnamed statement may be, in a pipeline.
const FORMER_MAX: usize = 50;

impl Relay {
    pub(super) fn note_bind(&mut self) {
        if let Some((_, statement)) = wire::bind_names(self.up.unjudged()) {
            let application = &self.reported.application_name;
            self.holding.note_bind(&self.live.usage, application, statement);
        }
    }

    /// Of a Bind the names must come first: what it executes is noted.
    pub(super) fn awaits_names(&self, len: usize) -> bool {
        let here = self.up.unjudged();
        here.len() < len.min(NAMES_MAX) && wire::bind_names(here).is_none()
    }

    /// The frame at the front of `up` must be here as a whole, if there is room for it.
    pub(super) fn want(&mut self, len: usize) {
        if self.room.grants(len) {
            self.up.want(len);
        }
    }

    /// What to do with the frame at the front of `up`.
    pub(super) fn look(&mut self, tag: u8, len: usize) -> Result<Look, Broken> {
        if self.responses.countable() && !matches!(tag, b'd' | b'c' | b'f' | b'S' | b'H' | b'X') {
            return Ok(Look::Stop(Event::Uncounted));
        }
        let here = self.up.unjudged();
        let held = self.looks_at_portals();
        let executes = (tag == b'E' && held && here.len() >= len).then(|| wire::portal_name(&here[..len]));
        let is_named = executes.is_some_and(|portal| portal.is_none_or(|portal| !portal.is_empty()));
        let is_held = executes
            .flatten()
            .is_some_and(|portal| self.held.portal(portal).is_some());
        let reaches = is_named && self.held.unnamed_may_be_fetched();
        let looks = (executes.is_some() && self.is_overtaken(is_named)) || is_held || reaches;
        let here = self.up.unjudged();
        // set_config($1, $2, …) with the setting's name.
        self.dry |= tag == b'B' && !self.replication && dry::may_be_bound(&here[..len.min(here.len()).min(BOUND_MAX)]);
        match tag {
            // In skipping state the server throws away everything but Sync, and runs none of it.
            b'Q' | b'P' if !self.responses.skipping() => {
                if len > self.statement_bytes_max {
                    return Ok(self.look_at_large(tag, len));
                }
                if here.len() < len {
                    self.want(len);
                    return Ok(Look::Wait);
                }
                Ok(self.look_at_text(tag, len))
            }
            b'B' if held => match wire::bind_names(here) {
                Some((portal, statement)) => {
                    let calls = self.held.calls(statement);
                    let held = self.watches() || self.held.portal(portal).is_some();
                    let arrived = here.len();
                    let mut name = std::mem::take(&mut self.name);
                    name.clear();
                    name.extend_from_slice(statement);
                    let is_named = !portal.is_empty();
                    self.calls(calls);
                    if !is_named {
                        self.growing = None;
                    }
                    let passes = !held
                        && !self.wants_look(is_named, &name, len)
                        && !self.inserts_may_fire(&name)
                        && !self.may_be_by_text(&name);
                    self.name = name;
                    if passes {
                        return Ok(Look::Pass);
                    }
                    if !self.held.fits(len) {
                        return Ok(Look::Stop(Event::TooLarge(tag, len)));
                    }
                    // However long it is: its parameters are needed.
                    if arrived < len {
                        self.want(len);
                        return Ok(Look::Wait);
                    }
                    Ok(Look::Stop(Event::Bind(len)))
                }
                None if here.len() > NAMES_MAX || here.len() >= len => {
                    Err(Broken::Protocol("a Bind message without a statement name".into()))
                }
                None => Ok(Look::Wait),
            },
            b'E' | b'C' | b'D' if held && here.len() < len => {
                if len > NAMES_MAX {
                    return Err(Broken::Protocol(
                        "an Execute, Close or Describe message of invalid length".into(),
                    ));
                }
                Ok(Look::Wait)
            }
            b'E' if self.watches() || looks => Ok(Look::Stop(Event::Execute(len))),
            b'F' if self.dry && !self.responses.skipping() => Ok(Look::Stop(Event::Call(len))),
            b'F' => {
                // Any function, by its OID.
                self.shapes.called();
                self.growing.iter_mut().for_each(|growing| growing.overtaken = true);
                Ok(Look::Pass)
            }
            b'S' if self.stop_at_sync => Ok(Look::Stop(Event::Sync(len))),
            b'C' if held && self.closes_held(&here[..len]) => Ok(Look::Stop(Event::Close(len))),
            b'D' if held && self.is_away(&here[..len]) => Ok(Look::Stop(Event::Describe(len))),
            _ => Ok(Look::Pass),
        }
    }

    /// Every statement is looked at.
    fn watches(&self) -> bool {
        self.watch || self.dry
    }

    /// Bind, Execute and Close are read too: what they name may need a look.
    pub fn looks_at_portals(&self) -> bool {
        self.watches()
            || !self.held.is_empty()
            || self.unnamed.learned.is_some()
            || !self.unnamed.former.is_empty()
            || self.growing.is_some()
            || !self.prepared_writes.is_empty()
            || !self.by_text.is_empty()
            || (self.held.has_inserts() && !self.shapes.knows_of_no_rules())
    }

    /// A Bind of what may be an INSERT, which a rule may have come to change.
    fn inserts_may_fire(&self, name: &[u8]) -> bool {
        self.held.has_inserts()
            && !self.shapes.knows_of_no_rules()
            && self.held.may_insert(name, self.shapes.known_firing().as_ref())
    }

    /// A Bind of that name may be of what SQL has prepared, and is to be judged.
    pub fn may_be_by_text(&self, name: &[u8]) -> bool {
        if name.is_empty() || self.held.statement(name).is_some() {
            return false;
        }
        let known = |name| self.prepared_writes.contains_key(name);
        self.by_text.may_be(name) || std::str::from_utf8(name).is_ok_and(known)
    }

    /// A question may end with a Sync: nothing of the client's group has run, and no portal of it is there.
    pub fn may_sync(&self) -> bool {
        self.place() == Place::Alone && self.group.bound == 0 && !self.is_behind_pooler()
    }

    /// An Execute that comes behind what may have made the unnamed portal's statement mean more rows.
    fn is_overtaken(&mut self, is_named: bool) -> bool {
        match &mut self.growing {
            Some(growing) if is_named => {
                growing.overtaken = true;
                false
            }
            Some(growing) if growing.overtaken => true,
            _ => {
                self.growing = None;
                false
            }
        }
    }

    /// The unnamed portal's statement was let pass when it was bound, and that does not hold any more.
    pub fn has_outgrown(&mut self, portal: &[u8]) -> bool {
        let growing = self.growing.take_if(|_| portal.is_empty());
        growing.is_some_and(|growing| !self.shapes.still_holds(&growing.learned, growing.bytes))
    }

    /// Before a Parse that may not come to the server.
    pub fn parses(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed.is_open |= !self.unnamed.former.is_empty();
        }
    }

    /// The server has taken it.
    pub fn has_parsed(&mut self, name: &[u8], held: Option<held::Statement>) {
        if name.is_empty() {
            self.unnamed.former.clear();
            self.unnamed.is_open = false;
        }
        match held {
            Some(held) => self.held.prepare(name, held),
            None => self.held.forget_statement(name),
        }
    }

    /// An error has left open which statement the unnamed one is, and of one of them it is not known any more that it is small.
    pub fn is_unnamed_open(&mut self, name: &[u8], len: usize) -> bool {
        name.is_empty() && self.unnamed.is_open && !self.formers_hold(len)
    }

    /// Whichever of those that it may still be the unnamed statement is, a Bind of so many bytes passes.
    fn formers_hold(&self, len: usize) -> bool {
        let alone = self.responses.quiescent();
        let mut formers = self.unnamed.former.iter();
        formers.all(|(former, text)| (alone || !former.may_grow()) && self.shapes.still_holds(former, text + len))
    }

    /// A Bind of this statement, of `len` bytes, makes a portal that must not be executed without a look.
    ///
    /// `is_named`: so is the portal. It may be executed after others, which may write what its statement means.
    pub fn wants_look(&mut self, is_named: bool, name: &[u8], len: usize) -> bool {
        if name.is_empty() && !self.formers_hold(len) {
            return true;
        }
        if name.is_empty()
            && let Some(learned) = &self.unnamed.learned
        {
            let learned = Arc::clone(learned);
            let bytes = self.unnamed.text.len() + len;
            if !(is_named && learned.may_grow()) && self.shapes.holds(&learned, bytes) && self.may_go_on(&learned) {
                self.binds(learned, bytes);
                return false;
            }
            self.unnamed.learned = None;
            let text = std::mem::take(&mut self.unnamed.text);
            let reading = depends_on_reading(&text).then(|| self.reading());
            let statement = held::Statement {
                text: text.into(),
                types: std::mem::take(&mut self.unnamed.types).into(),
                reading,
                what: held::Kind::Judge,
                quiet: None,
            };
            self.held.prepare(b"", statement);
            return true;
        }
        let Some(held) = self.held.statement(name) else {
            return false;
        };
        let bytes = held.text.len() + len;
        if let Some(learned) = &held.quiet
            && self.shapes.holds(learned, bytes)
        {
            let learned = Arc::clone(learned);
            return self.looks_at(is_named, learned, bytes);
        }
        if held.what != held::Kind::Judge {
            return true;
        }
        // Another session, or this one under another name, may have learnt it.
        match self.shapes.known(&held.text, &held.types, bytes) {
            Some(learned) => {
                self.held.quiet(name, Arc::clone(&learned));
                self.looks_at(is_named, learned, bytes)
            }
            None => true,
        }
    }

    fn looks_at(&mut self, is_named: bool, learned: Arc<Learned>, bytes: usize) -> bool {
        if (is_named && learned.may_grow()) || !self.may_go_on(&learned) {
            return true;
        }
        self.binds(learned, bytes);
        false
    }

    fn binds(&mut self, learned: Arc<Learned>, bytes: usize) {
        let growing = |learned| Growing {
            learned,
            bytes,
            overtaken: false,
        };
        self.growing = Some(learned).filter(|learned| learned.may_grow()).map(growing);
    }

    fn calls_of(&self, text: &[u8]) -> Calls {
        // An EXECUTE need not say what it calls.
        if (self.prepared_calls || self.held.any_calls()) && may_use_prepared(text) {
            return Calls::Others.max(makes_relations(text, self.reported.standard_conforming_strings));
        }
        let moves = match may_move_names(text) {
            true => Calls::Settings,
            false => Calls::Harmless,
        };
        let makes = makes_relations(text, self.reported.standard_conforming_strings);
        calls_before(text).max(moves).max(makes)
    }

    /// What is on its way in front of a write may be what makes it large, as an INSERT, of which the server has not told yet how many
    /// rows it brings.
    fn may_go_on(&mut self, learned: &Learned) -> bool {
        if self.responses.quiescent() {
            self.writes_running = 0;
        }
        let running = self.responses.running();
        let goes_on = !learned.may_grow() || running.is_some_and(|running| running <= self.writes_running);
        self.writes_running += usize::from(goes_on);
        goes_on
    }

    /// A Query or Parse that is too long to be held passes all the same if nothing in it is ever judged.
    fn look_at_large(&mut self, tag: u8, len: usize) -> Look {
        let refused = Look::Stop(Event::TooLarge(tag, len));
        // Known encodings in which a backslash is always one; every statement is looked at; names have to be forgotten in order.
        let plain = matches!(self.reading().encoding.as_str(), "UTF8" | "UNICODE" | "SQL_ASCII")
            || self.reading().encoding.starts_with("LATIN")
            || self.reading().encoding.starts_with("WIN")
            || self.reading().encoding.starts_with("EUC_");
        if !plain || self.unreported && self.asked.is_none() || self.watches() || self.replication {
            return refused;
        }
        let here = self.up.unjudged();
        if here.len() < FIRST_LOOK {
            self.up.want(FIRST_LOOK);
            return Look::Wait;
        }
        self.dry |= dry::may_concern(self.up.unjudged());
        if self.dry {
            return refused;
        }
        let here = self.up.unjudged();
        let from = match tag {
            b'P' => match wire::c_string(&here[HEADER..]) {
                Some((name, _)) if name.is_empty() || self.held.statement(name).is_none() => HEADER + name.len() + 1,
                _ => return refused,
            },
            _ => HEADER,
        };
        let mut stream = Followed::default();
        if !stream.feed(&here[from..]) || !stream.begun() {
            return refused;
        }
        if tag == b'P' && here[HEADER] == 0 {
            let surely = self.responses.quiescent();
            if !surely && self.held.statement(b"").is_some() {
                return Look::Stop(Event::Unsettled);
            }
            // The server drops the unnamed statement before it looks at the new one.
            self.held.forget_statement(b"");
            self.unnamed.replaced(surely);
        }
        self.followed = Some(stream);
        self.shapes.called();
        self.probe.give_up();
        self.holding
            .note_unread(&self.live.usage, &self.reported.application_name);
        Look::Pass
    }

    /// Something was prepared whose EXECUTE is to be looked at.
    pub fn executes_what_is_known(&self) -> bool {
        self.held.has_statements()
            || !self.prepared_writes.is_empty()
            || self.prepared_others
            || (self.prepared_inserts && !self.shapes.knows_of_no_rules())
    }

    /// Of an EXECUTE: the server has said what it executes, and nothing since can have prepared something else.
    fn harmless_arguments<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        if !self.by_text.has_harmless() {
            return None;
        }
        let (name, arguments) = executed_plainly(text)?;
        (self.by_text.is_harmless(name) && self.held.statement(name).is_none()).then_some(arguments)
    }

    /// A Bind that passes may begin a statement that is timed.
    pub(super) fn time_bind(&mut self) {
        if self.responses.skipping() || !self.responses.quiescent() || !self.probe.is_due() {
            return;
        }
        if let Some((_, statement)) = wire::bind_names(self.up.unjudged()) {
            let shape = self.probe.of_prepared(&self.live.traffic, statement);
            self.probe.start(shape);
        }
    }

    pub fn shape_of_prepared(&self, statement: &[u8]) -> u64 {
        self.probe.of_prepared(&self.live.traffic, statement)
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    fn closes_held(&self, frame: &[u8]) -> bool {
        match wire::close_target(frame) {
            Some((b'S', name)) => self.held.statement(name).is_some(),
            Some((_, name)) => self.held.portal(name).is_some(),
            None => false,
        }
    }

    fn is_away(&self, frame: &[u8]) -> bool {
        match wire::close_target(frame) {
            Some((b'P', name)) => self.held.portal(name).is_some_and(|portal| portal.away),
            _ => false,
        }
    }

    /// A whole Query or Parse. One whose body does not add up passes: the server refuses it with 08P01 unread.
    fn look_at_text(&mut self, tag: u8, len: usize) -> Look {
        let frame = &self.up.unjudged()[..len];
        let (name, text) = match tag {
            b'Q' => (None, wire::query_text(frame)),
            _ => match wire::parse_message(frame) {
                Some(parse) => (Some(parse.name), Some(parse.text)),
                None => (None, None),
            },
        };
        let Some(text) = text else { return Look::Pass };
        let shaped = Shaped::of(&self.live.traffic, text, self.reported.standard_conforming_strings);
        let application = &self.reported.application_name;
        self.holding.note_text(&self.live.usage, application, name, shaped);
        let surely = self.responses.quiescent();
        let unnamed = name.is_some_and(<[u8]>::is_empty);
        if self.tool_looks > 0 {
            self.tool_looks -= 1;
            if let Some(tool) = Tool::of_text(text) {
                (self.tool, self.tool_looks, self.watch) = (Some(tool), 0, true);
            }
        }
        self.dry |= !self.replication && dry::may_concern(text);
        let asks_version = !self.replication && version::asks_version(text);
        if self.watches() || asks_version {
            let (calls, name) = (self.calls_of(text), name.map(<[u8]>::to_vec));
            if unnamed {
                self.unnamed.replaced(false);
            }
            if let Some(name) = name {
                self.held.prepared_calls(&name, calls, false);
            }
            self.calls(calls);
            return Look::Stop(if tag == b'Q' {
                Event::Query(len)
            } else {
                Event::Parse(len)
            });
        }
        let harmless = gate(text) != Gate::Read && !(may_insert(text) && self.shapes.may_fire(text));
        let types = match name {
            Some(_) => wire::parse_message(frame).map_or(&[][..], |parse| parse.types),
            None => &[][..],
        };
        let learned = match harmless || name.is_some_and(|name| !name.is_empty()) {
            // A named statement may be executed for hours: it is held, and looked at again when what is known of it ends.
            true => None,
            false if self.may_read_otherwise(text) => None,
            false => self.shapes.known(text, types, text.len()),
        };
        // Of an unnamed statement its Bind decides.
        let learned = learned.filter(|learned| tag == b'P' || !learned.may_grow() || self.responses.quiescent());
        let known = harmless || learned.is_some();
        let executed = self.harmless_arguments(text).filter(|_| tag == b'Q');
        // What an EXECUTE is when it is prepared over the protocol, it need not be when it is run.
        let may_execute = match tag {
            b'P' if may_execute_prepared(text) => true,
            // Nor what stands before it in the same message has prepared.
            b'Q' if holds_several(text) && mentions(text, "execute") => true,
            b'Q' if executed.is_some() => false,
            _ => self.executes_what_is_known() && may_use_prepared(text),
        };
        if may_execute {
            self.by_text.learns(tag == b'Q' && executed_plainly(text).is_some());
        }
        let prepares_again = may_prepare_again(text);
        if unnamed && surely && known && !may_execute {
            // The server drops it before it looks at the new one.
            self.held.forget_statement(b"");
        }
        // A name that is held must be taken out of the map only when the server has taken the new statement.
        let held = name.is_some_and(|n| self.held.statement(n).is_some()) || may_execute;
        let pass = known && !held && !(unnamed && self.unnamed.former.len() > FORMER_MAX);
        if unnamed {
            self.unnamed.replaced(surely && pass);
            if learned.is_some() && pass {
                self.unnamed.text.clear();
                self.unnamed.text.extend_from_slice(text);
                self.unnamed.types.clear();
                self.unnamed.types.extend_from_slice(types);
                self.unnamed.learned = learned;
            }
        }
        let called = match executed {
            _ if known && !harmless => Calls::Harmless,
            Some(arguments) => calls(arguments),
            None => self.calls_of(text),
        };
        let prepares = called != Calls::Harmless && mentions(text, "prepare");
        let prepares_later = prepares_insert(text);
        if let Some(name) = name {
            // Where the server does not take it, what it calls is what it called before.
            self.held.prepared_calls(name, called, unnamed && surely);
        }
        if let Some(name) = name
            && may_insert(text)
        {
            self.held.prepared_insert(name);
        }
        if pass {
            // It may begin a statement that is timed.
            let (traffic, alone) = (&self.live.traffic, self.responses.quiescent());
            match name {
                Some(name) => self.probe.parse(traffic, name, shaped, alone),
                None if alone => self.probe.query(traffic, shaped),
                None => {}
            }
        }
        self.calls(called);
        if prepares_again {
            self.may_be_prepared_again();
        }
        self.prepared_calls |= prepares;
        self.prepared_inserts |= prepares_later;
        if pass {
            return Look::Pass;
        }
        Look::Stop(if tag == b'Q' {
            Event::Query(len)
        } else {
            Event::Parse(len)
        })
    }
}
