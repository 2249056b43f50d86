//! Both directions of one session, polled in one place: bytes in, bytes out, and the frames that need a decision.
//!
//! [`Relay::poll`] forwards until a client's frame needs the session's attention. It knows what the server still owes
//! and the transaction state; it never decides about a statement beyond the gate's look at its bytes.

use super::buffer::{Buffer, Poured as _};
use super::by_text::ByText;
use super::end::{Broken, EndedBy};
use super::held::{self, Held};
use super::holding::Holding;
use super::reading::{Reading, depends_on_reading};
use super::room::Room;
use super::settings::Limits;
use super::shapes::{Learned, Shapes};
use super::stream::Stream;
use crate::live::traffic::{Probe, Shaped};
use crate::live::{Flow, Flowed, Live};
use crate::plan::calls::Calls;
use crate::plan::gate::{
    Gate, calls_before, gate, holds_several, may_execute_prepared, may_insert, may_move_names, may_use_prepared,
    prepares_insert,
};
use crate::plan::makes::makes_relations;
use crate::plan::statement::stream::Stream as Followed;
use crate::plan::tool::Tool;
use crate::plan::words::mentions;
use crate::plan::{Place, dry, version};
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::responses::{Expect, OnAnswer, Position, Responses};
use pg_query::NodeEnum;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

/// A message of the server that is read (not only forwarded) may be so long; a longer one is forwarded unread.
const READ_MAX: usize = 60 << 10;
/// A command tag is no longer.
const TAG_MAX: usize = 64 + HEADER;
/// A migration tool shows itself within so many statements of its session.
const TOOL_LOOKS: u8 = 32;
/// As the server has it (PG_MAX_AUTH_TOKEN_LENGTH).
const AUTHENTICATION_MAX: usize = 65_535;
/// So much of a text that is not held must show what it is.
const FIRST_LOOK: usize = 16 << 10;
/// A driver that writes Flush and Sync together (pg8000) has sent the Sync within so long.
const FLUSH_GRACE: Duration = Duration::from_millis(20);
/// Statement and portal names of a Bind must come within so many bytes.
const NAMES_MAX: usize = 32 << 10;

/// So far into a Bind a setting's name is looked for.
const BOUND_MAX: usize = 4 << 10;
/// What the unnamed statement may be, in a pipeline.
const FORMER_MAX: usize = 50;

/// Behind the server's error when SCRAM failed between two TLS connections, but not for its password.
const CHANNEL_BINDING_HINT: &str = "lockkeeper: SCRAM channel binding ties the login to the server's own certificate, and the \
    client sees the proxy's. Connect with channel_binding=disable, give the proxy the server's certificate and key \
    (--tls-cert, --tls-key), or run it with --auth scram.";

/// A frame of the client's, whole at the front of `up` unless said otherwise, or an end.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Query(usize),
    Parse(usize),
    Bind(usize),
    Execute(usize),
    Close(usize),
    /// Of a portal that the server does not have at the moment.
    Describe(usize),
    /// Behind which something of ours is to be closed.
    Sync(usize),
    /// What the server owes is to be learnt before the next message, see [`Relay::count_answers`].
    Uncounted,
    /// What the server makes of the messages before it decides what the next one replaces.
    Unsettled,
    /// A statement begins that is held for a moment, for the sake of a step that waits for its table.
    Held(usize),
    /// A FunctionCall, in a session that has asked for a dry run.
    Call(usize),
    /// A Query, Parse or held Bind over the limit; only its front is here, with the names of a Bind.
    TooLarge(u8, usize),
    /// A text that was too long to be held goes on in a way that would have to be judged. Its end has not been sent.
    Unexpected,
    /// A transaction has ended, or gone back to a savepoint, that statements of the audit log were run in.
    Ended,
    /// Nothing is owed and everything is written.
    Quiescent,
    /// The proxy is being stopped and this session is idle.
    Stopped,
    ClientGone,
    ServerGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Both directions, until a frame needs attention.
    Forward,
    /// Only what belongs to authentication, until the server is ready.
    Authenticate,
    /// Only what is owed, until the session is quiescent. The client is read only for COPY data.
    Settle,
}

/// The transaction state within an extended-query group, since the last ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    executed: bool,
    /// Portals that were made, also in place of others.
    bound: u32,
    block: Block,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    /// As the last ReadyForQuery said.
    #[default]
    AsBefore,
    Begun,
    Ended,
    /// ROLLBACK and ROLLBACK TO have the same command tag.
    Unknown,
}

/// What must be done about SCRAM's channel binding, which ties a password to one TLS connection. Here there may be two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelBinding {
    /// Nothing: the server offers none, or the client is authenticated.
    AsItIs,
    /// The server offers it to a client without TLS, which would take that for an attack: the offer is taken out.
    Strip,
    /// It works only where proxy and server have the same certificate. `offered`: from now on it can fail.
    Explain { offered: bool },
}

impl ChannelBinding {
    fn between(client: &Stream, server: &Stream) -> ChannelBinding {
        match (client.is_tls(), server.is_tls()) {
            (_, false) => ChannelBinding::AsItIs,
            (false, true) => ChannelBinding::Strip,
            (true, true) => ChannelBinding::Explain { offered: false },
        }
    }
}

/// Which of the server's parameters the session needs, as ParameterStatus reports them.
#[derive(Clone, Debug)]
pub struct Reported {
    pub standard_conforming_strings: bool,
    pub client_encoding: String,
    pub server_encoding: String,
    pub application_name: String,
    pub server_version: String,
    /// Since PostgreSQL 14.
    pub in_hot_standby: Option<bool>,
    pub read_only: Option<bool>,
}

/// What the server has answered, where [`OnAnswer::notes`] says that it is wanted.
#[derive(Debug, Default)]
pub struct Answered {
    /// The last one.
    pub tag: Option<String>,
    /// Its CommandComplete was kept from the client.
    pub is_kept: bool,
    pub error: Option<Report>,
    /// With an error, whether it was noted or not: one of unusual length is forwarded unread.
    pub failed: bool,
}

/// The unnamed statement, while it was let pass for what is remembered of its shape.
#[derive(Default)]
struct Unnamed {
    learned: Option<Arc<Learned>>,
    text: Vec<u8>,
    types: Vec<u8>,
    /// What it may still be instead, with the length of its text: behind an error the server skips the Parse that would replace it.
    former: Vec<(Arc<Learned>, usize)>,
    /// Such an error came, so that it is not known which of them it is.
    is_open: bool,
}

/// What the unnamed portal was let pass by, until it is executed.
struct Growing {
    learned: Arc<Learned>,
    /// Of the statement and the Bind.
    bytes: usize,
    /// Something else was executed since.
    overtaken: bool,
}

/// An SQL-level PREPARE of what changes rows.
#[derive(Debug)]
pub struct PreparedWrite {
    pub node: NodeEnum,
    /// Empty: within another statement.
    pub sql: String,
}

impl Unnamed {
    /// The next one is on its way. `surely`: the server waits for it, and takes or refuses it.
    fn replaced(&mut self, surely: bool) {
        let old = self.learned.take();
        if surely {
            self.former.clear();
            self.is_open = false;
        } else if let Some(old) = old
            && !self.former.iter().any(|(former, _)| Arc::ptr_eq(former, &old))
        {
            self.former.push((old, self.text.len()));
        }
    }
}

pub struct Relay {
    pub client: Stream,
    pub server: Stream,
    pub up: Buffer,
    room: Room,
    pub down: Buffer,
    pub responses: Responses,
    /// Transaction status of the last ReadyForQuery; 0 before the first.
    pub status: u8,
    pub reported: Reported,
    /// The next ReadyForQuery is kept until [`Relay::tell_end`]: the session may not stay with its server.
    pub keeps_ready: bool,
    /// Something was executed since the last ReadyForQuery, with which the server reports what has changed.
    unreported: bool,
    /// What the server, asked since then, has said of itself.
    asked: Option<Reading>,
    /// The server's process and cancel key, as the client got it.
    pub cancel_key: Vec<u8>,
    /// Whether a connection pooler stands between us and the server, once the server was asked.
    pooled: Option<bool>,
    pub held: Held,
    pub shapes: Shapes,
    unnamed: Unnamed,
    growing: Option<Growing>,
    /// Of the statement of a Bind, to be written again.
    name: Vec<u8>,
    /// UPDATEs and DELETEs on their way that were let pass for what is remembered.
    writes_running: usize,
    /// SQL-level PREPARE has prepared what may move names, or do more.
    prepared_calls: bool,
    /// What SQL-level PREPARE has prepared of what changes rows.
    pub prepared_writes: HashMap<String, PreparedWrite>,
    /// The same, where it is not known what was prepared.
    pub by_text: ByText,
    /// Others may be prepared that change rows: more than are kept, or in a text that could not be read.
    pub prepared_others: bool,
    /// SQL-level PREPARE has prepared an INSERT: a rule (CREATE RULE) that is made later may make it change other rows.
    pub prepared_inserts: bool,
    /// A physical or logical replication connection: its own commands are not SQL.
    pub replication: bool,
    /// The name of our own statements and portals, with a random part.
    pub reserved: String,
    /// Long questions of ours that the session has prepared, under names that begin with the reserved one.
    pub prepared: HashSet<String>,
    /// A statement of ours failed in a group of the client's, and is to be closed behind the client's Sync.
    pub unclosed: bool,
    /// Something is to be done behind the client's next Sync.
    pub stop_at_sync: bool,
    /// A simple query of the client's is carried out by statements of ours, the first of which end its unnamed statement and portal.
    pub ends_unnamed: bool,
    /// client_min_messages lets a NOTICE through.
    pub hears_notices: bool,
    /// Something waits for the end of the client's transaction, so that every statement is looked at.
    pub watch: bool,
    /// The session has named `lockkeeper.dry_run`: so is every statement from then on.
    pub dry: bool,
    /// The migration tool that the session is, as its first statements have shown.
    pub tool: Option<Tool>,
    /// How many more statements are looked at for that.
    tool_looks: u8,
    /// The proxy is being stopped.
    pub stopping: bool,
    /// Statements of the audit log have run in a transaction that is open: its end is told to the session before the client's
    /// ReadyForQuery.
    pub notes_ends: bool,
    ended: bool,
    /// By which command, as the server has said.
    pub ended_by: Option<EndedBy>,
    forwarding: bool,
    /// The server streams its WAL, both ways, until one of both ends that.
    streaming: bool,
    kept_ready: Option<Vec<u8>>,
    /// The client has set a savepoint in the transaction.
    pub has_savepoint: bool,
    /// What errors are told with that may come from what the transaction has left for after its COMMIT.
    pub explains: Option<String>,
    /// What the server has answered since [`Relay::settle`] began.
    answered: Answered,
    /// What others see of this session's traffic.
    pub flow: Arc<Flow>,
    live: Arc<Live>,
    probe: Probe,
    /// Of a statement that may be held back.
    pub holding: Holding,
    /// Query and Execute messages that went on.
    pub executed: u64,
    statement_bytes_max: usize,
    /// So many answers may be owed; above it the client is not read until some came.
    pipeline_max: usize,
    channel_binding: ChannelBinding,
    group: Group,
    client_eof: bool,
    /// Woken when the client is seen to have gone while this proxy itself waits for the server.
    pub left: Arc<Notify>,
    /// The server has heard that the client sends nothing more.
    server_told: bool,
    server_eof: bool,
    /// The server takes nothing any more. What it said before is still to be read, and ends with its end.
    server_deaf: bool,
    /// The client's messages are thrown away until its Sync: it was told of an error that the server knows nothing of.
    discard_to_sync: bool,
    /// What is left of a frame that is thrown away.
    discarding: usize,
    /// A text that is not held is followed while it passes.
    followed: Option<Followed>,
}

impl Relay {
    pub fn new(client: Stream, server: Stream, limits: &Limits, live: Arc<Live>) -> Relay {
        let channel_binding = ChannelBinding::between(&client, &server);
        let flow = Arc::<Flow>::default();
        Relay {
            client,
            server,
            up: Buffer::new(),
            room: Room::default(),
            down: Buffer::new(),
            responses: Responses::default(),
            status: 0,
            reported: Reported {
                standard_conforming_strings: true,
                client_encoding: "UTF8".into(),
                server_encoding: String::new(),
                application_name: String::new(),
                server_version: String::new(),
                in_hot_standby: None,
                read_only: None,
            },
            keeps_ready: false,
            unreported: false,
            asked: None,
            cancel_key: Vec::new(),
            pooled: None,
            held: Held::new(limits.held_bytes_max),
            shapes: Shapes::default(),
            unnamed: Unnamed::default(),
            growing: None,
            name: Vec::new(),
            writes_running: 0,
            prepared_calls: false,
            prepared_writes: HashMap::new(),
            by_text: ByText::default(),
            prepared_others: false,
            prepared_inserts: false,
            replication: false,
            reserved: format!("lockkeeper_{:016x}", RandomState::new().hash_one(0)),
            prepared: HashSet::new(),
            unclosed: false,
            stop_at_sync: false,
            ends_unnamed: false,
            hears_notices: true,
            watch: false,
            dry: false,
            tool: None,
            tool_looks: TOOL_LOOKS,
            stopping: false,
            notes_ends: false,
            ended: false,
            ended_by: None,
            forwarding: false,
            streaming: false,
            kept_ready: None,
            has_savepoint: false,
            explains: None,
            answered: Answered::default(),
            probe: Probe::new(Arc::clone(&flow.runs)),
            holding: Holding::default(),
            flow,
            live,
            executed: 0,
            statement_bytes_max: limits.statement_bytes_max,
            pipeline_max: limits.pipeline_max,
            channel_binding,
            group: Group::default(),
            client_eof: false,
            left: Arc::new(Notify::new()),
            server_told: false,
            server_eof: false,
            server_deaf: false,
            discard_to_sync: false,
            discarding: 0,
            followed: None,
        }
    }

    /// The client has logged in before this relay began: nothing is to be done about channel binding any more.
    pub fn authenticated(&mut self) {
        self.channel_binding = ChannelBinding::AsItIs;
    }

    /// How the server would read a text now, if [`Relay::may_read_otherwise`] does not say that it has to be asked.
    pub fn reading(&self) -> Reading {
        self.asked.clone().unwrap_or_else(|| Reading {
            conforming: self.reported.standard_conforming_strings,
            encoding: self.reported.client_encoding.clone(),
        })
    }

    /// Whether the server reads this text as [`Relay::reading`] says is not known.
    pub fn may_read_otherwise(&self, text: &[u8]) -> bool {
        self.unreported && self.asked.is_none() && depends_on_reading(text)
    }

    pub fn reads(&mut self, reading: Reading) {
        self.asked = Some(reading);
    }

    /// Where a statement executed now would run. Only meaningful when quiescent.
    pub fn place(&self) -> Place {
        match (self.group.block, self.status) {
            (Block::Begun, _) => Place::Block,
            (Block::Unknown, _) => Place::Pipeline,
            (Block::AsBefore, b'T') => Place::Block,
            // A Sync would commit what was done, and end portals that are still to be executed.
            _ if self.group.executed || self.group.bound > 1 => Place::Pipeline,
            _ => Place::Alone,
        }
    }

    /// The process of the server that the login named, if it named one.
    fn named_process(&self) -> Option<i32> {
        let four = self.cancel_key.first_chunk::<4>()?;
        Some(i32::from_be_bytes(*four))
    }

    /// The server has told which of its processes does our work. Behind a pooler it is another than the login has named, and may be
    /// another again in the next transaction.
    pub fn works_with(&mut self, process: i32) {
        self.pooled = self.named_process().map(|named| named != process);
    }

    pub fn knows_process(&self) -> bool {
        self.pooled.is_some() || self.cancel_key.is_empty()
    }

    /// What is not of one transaction may then meet another process of the server's, with other clients' settings and statements. Until the
    /// server was asked: a pooler names any number, PostgreSQL one that Linux has for a process.
    pub fn is_behind_pooler(&self) -> bool {
        const PID_MAX: i32 = 1 << 22;
        let named = || {
            self.named_process()
                .is_some_and(|named| !(1..=PID_MAX).contains(&named))
        };
        self.pooled.unwrap_or_else(named)
    }

    /// For certain: nor has the client sent a BEGIN that is not answered by a ReadyForQuery yet.
    pub fn is_outside_block(&self) -> bool {
        self.status == b'I' && self.group.block == Block::AsBefore
    }

    /// The transaction block has failed, as far as is known: a ROLLBACK since then is not in `status` yet.
    pub fn block_failed(&self) -> bool {
        self.status == b'E' && self.group.block == Block::AsBefore
    }

    /// A COMMIT since the last ReadyForQuery: whether it had AND CHAIN, and so left a block open, is not known.
    pub fn may_be_chained(&self) -> bool {
        self.group.block == Block::Ended && self.place() != Place::Pipeline
    }

    /// Since PostgreSQL 18 the transaction of an extended-query group without Sync outlasts a simple query.
    pub fn keeps_groups(&self) -> bool {
        let major = self.reported.server_version.split(|c: char| !c.is_ascii_digit()).next();
        major
            .and_then(|major| major.parse::<u32>().ok())
            .is_none_or(|major| major >= 18)
    }

    /// What was found harmless is to be looked at again.
    pub fn names_moved(&mut self) {
        self.shapes.names_moved();
    }

    /// A statement on its way calls these.
    fn calls(&mut self, calls: Calls) {
        match calls {
            Calls::Harmless => {}
            Calls::Settings => self.names_moved(),
            Calls::Others => {
                self.shapes.called();
                // Also PREPARE.
                self.prepared_others = true;
            }
            Calls::MakesTemporary => self.shapes.makes(false),
            Calls::Makes => self.shapes.makes(true),
        }
    }

    /// The body of a ParameterStatus.
    pub fn takes_report(&mut self, body: &[u8]) {
        self.reported.take_in(body);
        self.holding.application_changes();
        if let Some((name, rest)) = wire::c_string(body)
            && let Some((value, _)) = wire::c_string(rest)
        {
            self.shapes.reported(name, value);
            // Since PostgreSQL 18. By whatever means, also by a trigger.
            if name == b"search_path" && self.status != 0 {
                self.shapes.names_moved();
            }
        }
    }

    pub fn client_gone(&self) -> bool {
        self.client_eof
    }

    /// The client heard of an error that the server does not know: its messages are dropped until Sync.
    pub fn discard_to_sync(&mut self) {
        self.discard_to_sync = true;
    }

    /// Whether the client's group ends behind the frame at the front of `up`, of `len` bytes, but for Close and Flush messages. Waits
    /// for what it sends next; one that goes away or asks for the answer first has more to say.
    pub async fn ends_group(&mut self, len: usize) -> Result<bool, Broken> {
        let mut grace = std::pin::pin!(tokio::time::sleep(FLUSH_GRACE));
        std::future::poll_fn(|cx| {
            loop {
                let mut rest = self.up.unjudged().get(len..).unwrap_or_default();
                let mut asks = false;
                while let Some(header) = rest.first_chunk::<HEADER>().filter(|h| matches!(h[0], b'C' | b'H')) {
                    asks |= header[0] == b'H';
                    rest = wire::frame_len(header)
                        .and_then(|len| rest.get(len..))
                        .unwrap_or_default();
                }
                if let Some(tag) = rest.first().filter(|tag| !matches!(**tag, b'C' | b'H')) {
                    return Poll::Ready(Ok(*tag == b'S'));
                }
                if self.client_eof || self.server_eof || !self.up.has_room() {
                    return Poll::Ready(Ok(false));
                }
                let down = self.poll_down(cx)?;
                match self.up.poll_read(&mut self.client, cx).map_err(Broken::Client)? {
                    Poll::Ready(n) => self.client_eof = n == 0,
                    // It waits for the answer.
                    Poll::Pending if asks && grace.as_mut().poll(cx).is_ready() => return Poll::Ready(Ok(false)),
                    Poll::Pending if down.is_pending() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
        })
        .await
    }

    /// The frame at the front of `up`, of `len` bytes and not more than what is here, is not for the server.
    pub fn drop_frame(&mut self, len: usize) {
        self.discarding = self.up.discard(len);
    }

    /// The frame at the front of `up` goes on.
    pub fn pass_frame(&mut self, len: usize) {
        self.pass_frame_for(len, OnAnswer::Forward);
    }

    pub fn pass_frame_for(&mut self, len: usize, on_answer: OnAnswer) {
        if let Some(&tag) = self.up.unjudged().first() {
            self.responses.sent_for(tag, on_answer);
            if matches!(tag, b'Q' | b'E') {
                self.executed += 1;
                self.probe.executes();
            }
            self.up.pass(len);
        }
    }

    /// Other bytes go on in its place.
    pub fn replace_frame(&mut self, len: usize, frame: &[u8], on_answer: OnAnswer) {
        self.responses.sent_for(frame[0], on_answer);
        self.executed += 1;
        self.up.replace(len, frame);
    }

    pub async fn run(&mut self, mode: Mode) -> Result<Event, Broken> {
        std::future::poll_fn(|cx| self.poll(cx, mode)).await
    }

    pub fn poll(&mut self, cx: &mut Context<'_>, mode: Mode) -> Poll<Result<Event, Broken>> {
        let polled = self.poll_both(cx, mode);
        let flowed = Flowed {
            statements: self.executed,
            bytes_from_client: self.up.bytes_read(),
            bytes_from_server: self.down.bytes_read(),
        };
        let idle = self.responses.quiescent() && self.down.written();
        self.flow.publish(flowed, idle, self.status != b'I');
        polled
    }

    fn poll_both(&mut self, cx: &mut Context<'_>, mode: Mode) -> Poll<Result<Event, Broken>> {
        self.forwarding = mode == Mode::Forward;
        loop {
            if mode == Mode::Forward && self.ended_now() {
                return Poll::Ready(Ok(Event::Ended));
            }
            let up = self.poll_up(cx, mode)?;
            // What the server says may let go on what the client has sent.
            let waits = !self.reads_client(mode) || !self.up.unjudged().is_empty();
            let heard = self.down.bytes_read();
            let down = self.poll_down(cx)?;
            if let Poll::Ready(Some(event)) = up {
                return Poll::Ready(Ok(event));
            }
            if mode == Mode::Forward && self.ended_now() {
                return Poll::Ready(Ok(Event::Ended));
            }
            if mode == Mode::Settle && self.responses.countable() {
                return Poll::Ready(Ok(Event::Uncounted));
            }
            if mode == Mode::Settle && self.responses.lost() {
                let what = "Sync among the data of a COPY that failed: what the server still answers is not known";
                return Poll::Ready(Err(Broken::Protocol(what.into())));
            }
            if mode != Mode::Forward && self.settled() {
                return Poll::Ready(Ok(Event::Quiescent));
            }
            if self.server_eof && self.down.written() {
                return Poll::Ready(Ok(Event::ServerGone));
            }
            // Else the server is told, answers what it has got, and ends the session.
            let client_gone = self.client_eof && mode == Mode::Settle && self.responses.copy_in();
            if client_gone && self.up.written() {
                return Poll::Ready(Ok(Event::ClientGone));
            }
            // A replication stream has no end to wait for, and is begun again elsewhere.
            let streams = self.streaming && self.down.at_frame() && self.down.written();
            if self.stopping && mode == Mode::Forward && (streams || self.idle()) {
                return Poll::Ready(Ok(Event::Stopped));
            }
            if up.is_pending() && down.is_pending() && !(waits && self.down.bytes_read() > heard) {
                return Poll::Pending;
            }
        }
    }

    fn ended_now(&self) -> bool {
        self.ended && self.responses.quiescent() && self.status != b'E' && self.between_groups()
    }

    /// A Sync of ours ends nothing of the client's: neither a portal nor what it has begun to do.
    pub fn between_groups(&self) -> bool {
        self.group == Group::default()
    }

    fn settled(&self) -> bool {
        self.responses.quiescent() && self.status != 0 && self.up.written() && self.down.written()
    }

    /// Neither a transaction nor anything in flight.
    fn idle(&self) -> bool {
        self.settled() && self.status == b'I' && self.up.unjudged().is_empty() && self.group == Group::default()
    }

    /// The client is read, and what it sends is judged.
    fn reads_client(&self, mode: Mode) -> bool {
        (mode != Mode::Settle || self.responses.copy_in()) && self.responses.len() < self.pipeline_max
    }

    /// Client to server: what is here, what comes, and what comes right behind it. Ready(None): there may be more.
    fn poll_up(&mut self, cx: &mut Context<'_>, mode: Mode) -> Poll<Result<Option<Event>, Broken>> {
        for _ in 0..2 {
            let reading = self.reads_client(mode);
            if reading && let Some(event) = self.scan_up(mode)? {
                return Poll::Ready(Ok(Some(event)));
            }
            ready!(self.poll_write_up(cx));
            if let Poll::Ready(granted) = self.room.poll(cx, self.up.is_missing(), self.up.capacity()) {
                granted?;
                continue;
            }
            if self.server_deaf {
                return Poll::Pending;
            }
            // Queries wait here until the client is authenticated.
            let all_sent = mode == Mode::Forward || mode == Mode::Authenticate && self.up.unjudged().is_empty();
            if self.client_eof && reading && all_sent && !self.server_told {
                // An error means that the server is gone as well, which reading from it will show.
                let _ = ready!(Pin::new(&mut self.server).poll_shutdown(cx));
                self.server_told = true;
                break;
            }
            if !reading || self.client_eof || !self.up.has_room() {
                return Poll::Pending;
            }
            if ready!(self.up.poll_read(&mut self.client, cx)).map_err(Broken::Client)? == 0 {
                self.client_eof = true;
                break;
            }
        }
        Poll::Ready(Ok(None))
    }

    /// A server that has ended the session may have said why before: its end is told by reading, not by writing.
    fn poll_write_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.server_deaf && ready!(self.up.poll_write(&mut self.server, cx)).is_err() {
            self.server_deaf = true;
        }
        if self.server_deaf {
            self.up.give_up();
        }
        Poll::Ready(())
    }

    /// Server to client, in the same way. Ready: there may be more, or the server has gone.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        for _ in 0..2 {
            ready!(self.down.poll_write(&mut self.client, cx)).map_err(Broken::Client)?;
            if self.server_eof {
                return Poll::Pending;
            }
            match ready!(self.down.poll_read(&mut self.server, cx)) {
                // A server that closes with something of ours unread resets the connection.
                Ok(0) | Err(_) => {
                    self.server_eof = true;
                    break;
                }
                Ok(_) => self.scan_down()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Judges the client's frames that are here. None: all passed, or the rest of one must come first.
    fn scan_up(&mut self, mode: Mode) -> Result<Option<Event>, Broken> {
        loop {
            if self.discarding > 0 {
                self.discarding = self.up.discard(self.discarding);
            }
            if let Some(followed) = &mut self.followed {
                if self.up.at_frame() {
                    self.followed = None;
                } else if !followed.feed(self.up.body_here()) {
                    return Ok(Some(Event::Unexpected));
                }
            }
            if self.discarding > 0 || (!self.up.at_frame() && !self.up.pass_body()) {
                return Ok(None);
            }
            let Some(header) = self.up.unjudged().first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let tag = header[0];
            let len = wire::frame_len(header).ok_or_else(|| {
                Broken::Protocol(format!("invalid length of a message of type {:?}", char::from(tag)))
            })?;
            let expected = match mode {
                Mode::Forward => true,
                // While the server reads COPY data, which is when the client is read here, it takes nothing else either.
                Mode::Settle if !matches!(tag, b'd' | b'c' | b'f' | b'S' | b'H' | b'X') => {
                    let what = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                    return Err(Broken::Protocol(what));
                }
                Mode::Settle => true,
                Mode::Authenticate => matches!(tag, b'p' | b'X'),
            };
            if !expected {
                return Ok(None);
            }
            if mode == Mode::Authenticate && len > AUTHENTICATION_MAX {
                return Err(Broken::Protocol("a message of authentication is too long".into()));
            }
            if self.discard_to_sync {
                if !matches!(tag, b'S' | b'X') {
                    self.discarding = self.up.discard(len);
                    continue;
                }
                self.discard_to_sync = false;
            }
            if mode == Mode::Forward
                && matches!(tag, b'Q' | b'P' | b'B')
                && self.live.holds.is_open()
                && let Some(event) = self.is_held_back(tag, len)
            {
                return Ok(Some(event));
            }
            if tag == b'B' && self.awaits_names(len) {
                return Ok(None);
            }
            let look = self.look(tag, len)?;
            self.holding.let_go &= matches!(look, Look::Wait);
            if tag == b'B' && !matches!(look, Look::Wait) && !self.responses.skipping() {
                self.note_bind();
            }
            match look {
                Look::Pass => {
                    if tag == b'B' {
                        self.time_bind();
                    }
                    self.pass_frame(len);
                }
                Look::Wait => return Ok(None),
                Look::Stop(event) => {
                    self.probe.give_up();
                    return Ok(Some(event));
                }
            }
        }
    }

    fn note_bind(&mut self) {
        if let Some((_, statement)) = wire::bind_names(self.up.unjudged()) {
            let application = &self.reported.application_name;
            self.holding.note_bind(&self.live.usage, application, statement);
        }
    }

    /// Of a Bind the names must come first: what it executes is noted.
    fn awaits_names(&self, len: usize) -> bool {
        let here = self.up.unjudged();
        here.len() < len.min(NAMES_MAX) && wire::bind_names(here).is_none()
    }

    /// The frame at the front of `up` must be here as a whole, if there is room for it.
    fn want(&mut self, len: usize) {
        if self.room.grants(len) {
            self.up.want(len);
        }
    }

    /// What to do with the frame at the front of `up`.
    fn look(&mut self, tag: u8, len: usize) -> Result<Look, Broken> {
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

    /// A Bind that passes may begin a statement that is timed.
    fn time_bind(&mut self) {
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
        // What an EXECUTE is when it is prepared over the protocol, it need not be when it is run.
        let may_execute = match tag {
            b'P' if may_execute_prepared(text) => true,
            // Nor what stands before it in the same message has prepared.
            b'Q' if holds_several(text) && mentions(text, "execute") => true,
            _ => self.executes_what_is_known() && may_use_prepared(text),
        };
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
        let calls = match known && !harmless {
            true => Calls::Harmless,
            false => self.calls_of(text),
        };
        let prepares = calls != Calls::Harmless && mentions(text, "prepare");
        let prepares_later = prepares_insert(text);
        if let Some(name) = name {
            // Where the server does not take it, what it calls is what it called before.
            self.held.prepared_calls(name, calls, unnamed && surely);
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
        self.calls(calls);
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

    /// Follows the server's messages that are here.
    fn scan_down(&mut self) -> Result<(), Broken> {
        loop {
            if !self.down.at_frame() && !self.down.pass_body() {
                return Ok(());
            }
            self.down.pass_rows();
            let here = self.down.unjudged();
            let Some(header) = here.first_chunk::<HEADER>() else {
                return Ok(());
            };
            let tag = header[0];
            let len = wire::frame_len(header)
                .ok_or_else(|| Broken::Server(io::Error::other("the server sent a message of invalid length")))?;
            self.streaming = (self.streaming && tag != b'c' && tag != b'E' && tag != b'C') || tag == b'W';
            if tag == b'C' {
                if here.len() < len && len <= TAG_MAX {
                    self.down.want(len);
                    return Ok(());
                }
                let told = &here[HEADER..len.min(here.len())];
                if matches!(told.first(), Some(b'U' | b'D')) {
                    self.writes_running = self.writes_running.saturating_sub(1);
                }
                self.shapes.heard(told);
                if told == b"SAVEPOINT\0" {
                    self.has_savepoint = true;
                } else if self.notes_ends {
                    match told {
                        b"COMMIT\0" => (self.ended, self.ended_by) = (true, Some(EndedBy::Commit)),
                        b"ROLLBACK\0" => (self.ended, self.ended_by) = (true, Some(EndedBy::Rollback)),
                        b"PREPARE TRANSACTION\0" => (self.ended, self.ended_by) = (true, None),
                        _ => {}
                    }
                }
            }
            let read = match tag {
                b'D' | b'd' => {
                    self.down.pass(len);
                    continue;
                }
                b'Z' | b'S' | b'K' => true,
                b'3' => self.responses.front() == Some(Expect::Ours),
                b'C' => self.responses.front() == Some(Expect::Execute) || self.responses.on_answer().notes(),
                b'E' | b'N' => {
                    self.responses.on_answer().notes()
                        || self.explains.is_some() && tag == b'E'
                        || self.channel_binding == ChannelBinding::Explain { offered: true }
                }
                b'R' => self.channel_binding != ChannelBinding::AsItIs,
                _ => false,
            };
            if read && len <= READ_MAX {
                if here.len() < len {
                    self.down.want(len);
                    return Ok(());
                }
                if !self.take_in(tag, len) {
                    continue;
                }
            } else {
                if tag == b'E' {
                    self.answered.failed = true;
                    self.unnamed.is_open |= !self.unnamed.former.is_empty();
                    self.probe.give_up();
                }
                // A suspended portal has done its work (INSERT … RETURNING) or a part of it.
                if tag == b's' && self.responses.front() == Some(Expect::Execute) {
                    self.group.executed = true;
                    (self.unreported, self.asked) = (true, None);
                }
                self.group.bound += u32::from(tag == b'2');
                self.responses.received(tag);
            }
            self.down.pass(len);
        }
    }

    /// Reads a whole message of the server's. False if it was taken out of the stream or replaced.
    fn take_in(&mut self, tag: u8, len: usize) -> bool {
        let frame = &self.down.unjudged()[..len];
        let on_answer = self.responses.on_answer();
        match tag {
            b'Z' => {
                let status = frame.get(HEADER).copied();
                self.ready_with(status);
                self.responses.received(tag);
                if self.responses.quiescent() {
                    self.probe.done(&self.live.traffic);
                }
                if std::mem::take(&mut self.keeps_ready) {
                    self.kept_ready = Some(self.down.unjudged()[..len].to_vec());
                    self.down.cut(len);
                    return false;
                }
                if on_answer.keeps_ready() {
                    self.down.cut(len);
                    return false;
                }
                // While the session waits for something else, what it says must not come before this.
                if self.forwarding && self.ended_now() {
                    self.kept_ready = Some(self.down.unjudged()[..len].to_vec());
                    self.down.cut(len);
                    return false;
                }
            }
            b'C' => {
                let mut moved = false;
                let body = &frame[HEADER..];
                if self.responses.front() == Some(Expect::Execute) {
                    self.group.executed = true;
                    (self.unreported, self.asked) = (true, None);
                    if body.starts_with(b"BEGIN\0") || body.starts_with(b"START TRANSACTION\0") {
                        self.group.block = Block::Begun;
                    } else if body.starts_with(b"COMMIT\0") || body.starts_with(b"PREPARE TRANSACTION\0") {
                        self.group = Group {
                            block: Block::Ended,
                            ..Group::default()
                        };
                    } else if body.starts_with(b"ROLLBACK\0") {
                        self.group.block = Block::Unknown;
                    } else if [&b"SET\0"[..], b"RESET\0", b"DISCARD ALL\0"].contains(&body) {
                        // Also by a statement that was prepared long ago.
                        moved = true;
                    }
                }
                let named = wire::c_string(body).map(|(named, _)| named).unwrap_or_default();
                let kept = on_answer.keeps_complete(named);
                if on_answer.notes() {
                    self.answered.tag = Some(String::from_utf8_lossy(named).into_owned());
                    self.answered.is_kept = kept;
                }
                self.responses.received(tag);
                if kept {
                    self.down.cut(len);
                }
                if moved {
                    self.names_moved();
                }
                return !kept;
            }
            b'E' | b'N' => {
                let mut report = Report::of_frame(frame);
                if tag == b'E' {
                    self.probe.give_up();
                    self.answered.failed = true;
                    self.unnamed.is_open |= !self.unnamed.former.is_empty();
                    self.responses.received(tag);
                    if on_answer.notes() {
                        self.answered.error = Some(report.clone());
                    }
                }
                if tag == b'E'
                    && self.channel_binding == (ChannelBinding::Explain { offered: true })
                    && report.sqlstate() == "28000"
                {
                    report.append(b'H', CHANNEL_BINDING_HINT);
                    let mut hinted = bytes::BytesMut::new();
                    report.put(&mut hinted, tag, Encoding::Ascii);
                    self.down.replace(len, &hinted);
                    return false;
                }
                let explained = match &self.explains {
                    Some(text) if tag == b'E' && NEEDS_MORE.contains(&report.sqlstate().as_str()) => {
                        report.append(b'D', text);
                        true
                    }
                    _ => false,
                };
                let moves = on_answer.position().filter(|_| report.get(b'P').is_some());
                if moves.is_some() || explained {
                    match moves {
                        Some(Position::Hidden) => report.remove(b'P'),
                        Some(Position::Shifted(by)) => report.shift_position(by as usize),
                        None => {}
                    }
                    let mut moved = bytes::BytesMut::new();
                    let encoding = match explained {
                        true => self.encoding(),
                        false => Encoding::Ascii,
                    };
                    report.put(&mut moved, tag, encoding);
                    self.down.replace(len, &moved);
                    return false;
                }
            }
            b'R' => return self.take_in_authentication(len),
            b'S' => {
                let body = frame[HEADER..].to_vec();
                self.takes_report(&body);
            }
            b'K' => self.cancel_key = frame[HEADER..].to_vec(),
            b'3' => {
                self.responses.received(tag);
                self.down.cut(len);
                return false;
            }
            _ => {}
        }
        true
    }

    /// A whole message of authentication. False if another was put in its place.
    fn take_in_authentication(&mut self, len: usize) -> bool {
        let frame = &self.down.unjudged()[..len];
        match (wire::authentication(frame), self.channel_binding) {
            (Some(wire::AUTHENTICATION_OK), _) => self.channel_binding = ChannelBinding::AsItIs,
            (Some(wire::AUTHENTICATION_SASL), ChannelBinding::Strip) => {
                if let Some(offer) = wire::without_channel_binding(frame) {
                    self.down.replace(len, &offer);
                    return false;
                }
            }
            (Some(wire::AUTHENTICATION_SASL), ChannelBinding::Explain { .. }) => {
                self.channel_binding = ChannelBinding::Explain { offered: true };
            }
            _ => {}
        }
        true
    }

    /// Since [`Relay::notes_ends`] the client's transaction has neither ended nor begun a part that can be undone alone.
    pub fn is_same_transaction(&self) -> bool {
        self.notes_ends && !self.ended && self.status == b'T' && !self.has_savepoint
    }

    /// A whole ReadyForQuery that answered a dialogue.
    pub fn ready(&mut self, frame: &[u8]) {
        self.ready_with(frame.get(HEADER).copied());
    }

    fn ready_with(&mut self, status: Option<u8>) {
        self.status = status.unwrap_or(b'I');
        self.group = Group::default();
        (self.unreported, self.asked) = (false, None);
        if !self.unnamed.is_open && self.responses.len() <= 1 {
            self.unnamed.former.clear();
        }
        if self.status == b'I' {
            self.shapes.transaction_ended(self.responses.len() <= 1);
            self.has_savepoint = false;
            self.ended |= self.notes_ends;
        }
        // Portals end with their transaction.
        if self.status == b'I' {
            self.held.forget_portals();
            self.growing = None;
        }
    }

    /// The session has seen to the end of a transaction: the client hears of it.
    pub async fn tell_end(&mut self) -> Result<(), Broken> {
        self.ended = false;
        match self.kept_ready.take() {
            Some(frame) => self.tell(&frame).await,
            None => Ok(()),
        }
    }

    /// A ReadyForQuery that the client waits for.
    pub fn keeps_end(&self) -> bool {
        self.kept_ready.is_some()
    }

    /// Since [`Relay::settle`] began, or at all.
    pub fn has_failed(&self) -> bool {
        self.answered.failed
    }

    /// Waits until nothing is owed. In an unfinished extended-query group the server is asked to flush.
    pub async fn settle(&mut self) -> Result<Answered, Broken> {
        self.answered = Answered::default();
        loop {
            if self.responses.countable() {
                self.count_answers().await?;
            }
            if self.responses.awaits_flush() && !self.responses.copy_in() {
                let mut flush = bytes::BytesMut::new();
                if self.is_behind_pooler() {
                    // PgBouncer answers a Parse of what it has prepared itself, but only with the next answer of the server's.
                    wire::put_close(&mut flush, b'P', &self.reserved);
                    self.responses.sent_ours();
                }
                wire::put_flush(&mut flush);
                self.send(&flush).await;
            }
            match self.run(Mode::Settle).await? {
                Event::Quiescent => return Ok(std::mem::take(&mut self.answered)),
                Event::ServerGone => return Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())),
                Event::ClientGone => return Err(Broken::Client(io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
    }

    /// Syncs stood among the data of a COPY that has failed: the server has swallowed those that came before the error. What it
    /// still answers comes before the answer to a question of ours.
    pub async fn count_answers(&mut self) -> Result<(), Broken> {
        self.forwarding = false;
        std::future::poll_fn(|cx| {
            while !self.down.at_frame() {
                ready!(self.poll_down(cx))?;
                if self.server_eof {
                    return Poll::Ready(Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())));
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        let mut out = bytes::BytesMut::new();
        // The first ends the skipping, should the server have swallowed all. An empty statement is parsed in a failed block too.
        wire::put_sync(&mut out);
        wire::put_parse(&mut out, self.reserved.as_bytes(), b"", &[]);
        wire::put_close(&mut out, b'S', &self.reserved);
        wire::put_sync(&mut out);
        self.send(&out).await;
        let mut last: Option<Vec<u8>> = None;
        loop {
            let frame = self.receive().await?;
            match frame[0] {
                b'Z' => {
                    if let Some(before) = last.replace(frame) {
                        self.responses.received(b'Z');
                        self.ready(&before);
                        self.tell(&before).await?;
                    }
                }
                b'1' => break,
                b'S' => {
                    self.takes_report(&frame[HEADER..]);
                    self.tell(&frame).await?;
                }
                _ => self.tell(&frame).await?,
            }
        }
        loop {
            let frame = self.receive().await?;
            match frame[0] {
                b'Z' => {
                    self.ready(&frame);
                    break;
                }
                b'3' => {}
                _ => self.tell(&frame).await?,
            }
        }
        // Else the server would go on skipping, up to the client's next Sync.
        self.discard_to_sync |= !self.responses.counted();
        Ok(())
    }

    /// Bytes of our own to the server, behind what was judged before. If it is gone, what is read next tells so.
    pub async fn send(&mut self, bytes: &[u8]) {
        use tokio::io::AsyncWriteExt;
        std::future::poll_fn(|cx| self.poll_write_up(cx)).await;
        if !self.server_deaf {
            let written = self.server.write_all(bytes).await;
            self.server_deaf = written.is_err() || self.server.flush().await.is_err();
        }
    }

    /// Bytes of our own to the client, behind what the server said before. The server may not be in the middle of a message.
    pub async fn tell(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        use tokio::io::AsyncWriteExt;
        std::future::poll_fn(|cx| self.down.poll_write(&mut self.client, cx))
            .await
            .map_err(Broken::Client)?;
        self.client.write_all(bytes).await.map_err(Broken::Client)?;
        self.client.flush().await.map_err(Broken::Client)
    }

    /// Takes leave of both sides.
    pub async fn close(&mut self) {
        tokio::join!(self.client.close_after_hearing(), self.server.close());
    }

    /// The next whole message of the server's, taken out of the stream. Meanwhile the client's bytes are read as far as
    /// there is room, so that its going away is noticed.
    pub async fn receive(&mut self) -> Result<Vec<u8>, Broken> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// The same before the session has begun. None: what comes next asks the client to authenticate itself, and stays where it is.
    pub async fn receive_unless_challenge(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        const CODE: usize = 4;
        let is_challenge = std::future::poll_fn(|cx| {
            loop {
                self.poll_watch_client(cx);
                let here = self.down.unjudged();
                if here.first().is_some_and(|tag| *tag != b'R') {
                    return Poll::Ready(Ok(false));
                }
                if here.len() >= HEADER + CODE {
                    return Poll::Ready(Ok(wire::authentication(here) != Some(wire::AUTHENTICATION_OK)));
                }
                if ready!(self.down.poll_read(&mut self.server, cx)).map_err(Broken::Server)? == 0 {
                    return Poll::Ready(Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())));
                }
            }
        })
        .await?;
        match is_challenge {
            true => Ok(None),
            false => self.receive().await.map(Some),
        }
    }

    /// The challenge that is here is the client's.
    pub fn takes_challenge(&mut self) -> Result<(), Broken> {
        self.scan_down()
    }

    /// All that a server says before a session begins: the client hears it.
    pub async fn takes_arrival(&mut self, frames: &[Vec<u8>]) -> Result<(), Broken> {
        self.channel_binding = ChannelBinding::AsItIs;
        for frame in frames {
            match frame[0] {
                b'S' => self.takes_report(&frame[HEADER..]),
                b'K' => self.cancel_key = frame[HEADER..].to_vec(),
                b'Z' => {
                    self.ready(frame);
                    self.responses.received(b'Z');
                }
                _ => {}
            }
        }
        self.tell(&frames.concat()).await
    }

    /// The client has heard an error of the server's.
    pub fn failed(&mut self) {
        self.answered.failed = true;
    }

    /// The client has heard nothing of the server that it came to first, which is given back.
    pub fn moves_to(&mut self, server: Stream) -> Stream {
        let left = std::mem::replace(&mut self.server, server);
        self.down.discard(self.down.unjudged().len());
        self.server_eof = false;
        self.server_deaf = false;
        self.channel_binding = ChannelBinding::between(&self.client, &self.server);
        left
    }

    /// The client's next whole message, where this proxy itself answers it. None: the client has gone.
    pub async fn client_frame(&mut self, bytes_max: usize) -> Result<Option<Vec<u8>>, Broken> {
        std::future::poll_fn(|cx| {
            loop {
                let here = self.up.unjudged();
                if let Some(header) = here.first_chunk::<HEADER>() {
                    let len = wire::frame_len(header).filter(|len| *len <= bytes_max);
                    let len = len.ok_or_else(|| Broken::Protocol("a message of invalid length".into()))?;
                    if here.len() >= len {
                        let frame = here[..len].to_vec();
                        self.up.discard(len);
                        return Poll::Ready(Ok(Some(frame)));
                    }
                    self.want(len);
                }
                if ready!(self.up.poll_read(&mut self.client, cx)).map_err(Broken::Client)? == 0 {
                    return Poll::Ready(Ok(None));
                }
            }
        })
        .await
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, Broken>> {
        loop {
            self.poll_watch_client(cx);
            let here = self.down.unjudged();
            if let Some(header) = here.first_chunk::<HEADER>() {
                let len = wire::frame_len(header)
                    .ok_or_else(|| Broken::Server(io::Error::other("the server sent a message of invalid length")))?;
                if here.len() >= len {
                    let frame = here[..len].to_vec();
                    self.down.discard(len);
                    return Poll::Ready(Ok(frame));
                }
                self.down.want(len);
            }
            if ready!(self.down.poll_read(&mut self.server, cx)).map_err(Broken::Server)? == 0 {
                return Poll::Ready(Err(Broken::Server(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// Looks once whether the client is still there.
    pub async fn watch_client(&mut self) {
        std::future::poll_fn(|cx| {
            self.poll_watch_client(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Reads what the client sends ahead, within the buffer, only to learn that it is still there.
    pub fn poll_watch_client(&mut self, cx: &mut Context<'_>) {
        while !self.client_eof && self.up.has_room() {
            match self.up.poll_read(&mut self.client, cx) {
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.client_eof = true;
                    self.left.notify_one();
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return,
            }
        }
    }
}

enum Look {
    Pass,
    Wait,
    Stop(Event),
}

impl Reported {
    /// The body of a ParameterStatus.
    pub fn take_in(&mut self, body: &[u8]) {
        let Some((name, rest)) = wire::c_string(body) else {
            return;
        };
        let Some((value, _)) = wire::c_string(rest) else { return };
        let value = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"standard_conforming_strings" => self.standard_conforming_strings = value() == "on",
            b"client_encoding" => self.client_encoding = value(),
            b"server_encoding" => self.server_encoding = value(),
            b"application_name" => self.application_name = value(),
            b"in_hot_standby" => self.in_hot_standby = Some(value() == "on"),
            b"default_transaction_read_only" => self.read_only = Some(value() == "on"),
            b"server_version" => {
                self.server_version = value();
                tell_fault(&self.server_version);
            }
            _ => {}
        }
    }
}

/// Once in a process: every session is told the same version.
fn tell_fault(version: &str) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if let Some(fault) = crate::plan::faults::of_reported(version) {
        TOLD.call_once(|| tracing::warn!(version, "{}. {}", fault.what, fault.remedy));
    }
}

/// By these a statement needs what is not there: it is neither grouped by a key, nor refers to one, nor names it.
pub(super) const NEEDS_MORE: [&str; 6] = ["42803", "42830", "42P10", "42P01", "42704", "42703"];
