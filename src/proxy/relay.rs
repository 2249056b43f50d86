//! Both directions of one session, polled in one place: bytes in, bytes out, and the frames that need a decision.
//!
//! [`Relay::poll`] forwards until a client's frame needs the session's attention. It knows what the server still owes
//! and the transaction state; it never decides about a statement beyond the gate's look at its bytes.

mod answers;
mod look;

use super::buffer::{Buffer, Poured as _};
use super::by_text::ByText;
use super::end::{Broken, EndedBy};
use super::held::Held;
use super::holding::Holding;
use super::reading::{Reading, depends_on_reading};
use super::room::Room;
use super::settings::Limits;
use super::shapes::{Learned, Shapes};
use super::stream::Stream;
use crate::live::traffic::Probe;
use crate::live::{Flow, Flowed, Live};
use crate::plan::Place;
use crate::plan::calls::Calls;
use crate::plan::statement::stream::Stream as Followed;
use crate::plan::tool::Tool;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::responses::{OnAnswer, Responses};
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

/// A migration tool shows itself within so many statements of its session.
const TOOL_LOOKS: u8 = 32;
/// As the server has it (PG_MAX_AUTH_TOKEN_LENGTH).
const AUTHENTICATION_MAX: usize = 65_535;
/// A driver that writes Flush and Sync together (pg8000) has sent the Sync within so long.
const FLUSH_GRACE: Duration = Duration::from_millis(20);

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
    /// Of its parameters, once the server has said them.
    pub types: Option<Vec<String>>,
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
    /// What is committed of the work that goes on, for [`Relay::tell_last`].
    pub stands: Vec<String>,
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

/// What to do with a frame.
enum Look {
    Pass,
    Wait,
    Stop(Event),
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
            stands: Vec::new(),
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

    /// A portal of the client's that a Sync of ours has ended is made again in a group of its own.
    pub fn binds_again(&mut self) {
        self.group.bound = 1;
    }

    /// A plan has run in the client's implicit transaction, in place of its Execute.
    pub fn has_executed(&mut self) {
        self.group.executed = true;
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

    /// A name that is prepared may mean something else from now on.
    pub fn may_be_prepared_again(&mut self) {
        self.by_text.forget_harmless();
        self.prepared_writes.values_mut().for_each(|known| known.types = None);
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
                self.may_be_prepared_again();
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

/// By these a statement needs what is not there: it is neither grouped by a key, nor refers to one, nor names it.
pub(super) const NEEDS_MORE: [&str; 6] = ["42803", "42830", "42P10", "42P01", "42704", "42703"];
