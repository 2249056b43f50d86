//! What goes on now, and the counts of what went on: written by the sessions, read by the admin pages and the console.
//!
//! The forwarding path only stores a few relaxed atomics of its own session's [`Flow`]; they are summed when somebody
//! asks. Everything else here is touched once per judged statement or step. Start at [`Live`].

pub mod ledger;
pub mod traffic;

use crate::audit::{Audit, Event, Who};
use dashmap::DashMap;
use ledger::Ledger;
use serde::{Serialize, Serializer};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use traffic::Traffic;

pub struct Live {
    pub started: SystemTime,
    about: OnceLock<About>,
    /// A [`Phase`].
    phase: AtomicU8,
    /// The name of the policy in force.
    policy: Mutex<String>,
    /// Authenticated sessions that are open, by their number.
    seats: DashMap<u64, Arc<Seat>>,
    /// What sessions that have ended had forwarded.
    ended: Flow,
    /// Judged statements; locked once per statement or step.
    ledger: Mutex<Ledger>,
    pub traffic: Traffic,
    sessions: AtomicU64,
    reloaded: AtomicBool,
    /// A [`Control`].
    control: AtomicU8,
}

/// What a proxy was started with.
pub struct About {
    /// `HOST:PORT`, or the path of a socket.
    pub upstream: String,
    pub connections_max: usize,
    pub audit: Audit,
    pub audit_file: Option<PathBuf>,
}

/// The connection of the proxy's own on which other sessions' locks are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Not asked for.
    None,
    Down,
    Up,
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            started: SystemTime::now(),
            about: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            policy: Mutex::default(),
            seats: DashMap::new(),
            ended: Flow::default(),
            ledger: Mutex::default(),
            traffic: Traffic::default(),
            sessions: AtomicU64::new(0),
            reloaded: AtomicBool::new(true),
            control: AtomicU8::new(Control::None as u8),
        }
    }
}

/// What a session does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Idle,
    /// The server works on something, or the client has not taken its answer.
    Active,
    #[serde(rename = "idle in transaction")]
    Transaction,
    /// A plan's steps are carried out.
    Plan,
}

impl State {
    pub const ALL: [State; 4] = [State::Idle, State::Active, State::Transaction, State::Plan];

    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Active => "active",
            State::Transaction => "idle in transaction",
            State::Plan => "in plan",
        }
    }

    fn of(code: u8) -> State {
        match code {
            0 => State::Idle,
            1 => State::Active,
            _ => State::Transaction,
        }
    }
}

/// What one session has forwarded. One task writes it, with plain stores; anybody may read.
#[derive(Debug, Default)]
pub struct Flow {
    statements: AtomicU64,
    from_client: AtomicU64,
    from_server: AtomicU64,
    state: AtomicU8,
}

/// The numbers of a [`Flow`]: statements, and bytes read on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flowed {
    pub statements: u64,
    pub bytes_from_client: u64,
    pub bytes_from_server: u64,
}

impl Flow {
    pub fn publish(&self, flowed: Flowed, idle: bool, in_transaction: bool) {
        self.statements.store(flowed.statements, Ordering::Relaxed);
        self.from_client.store(flowed.bytes_from_client, Ordering::Relaxed);
        self.from_server.store(flowed.bytes_from_server, Ordering::Relaxed);
        let state = match (idle, in_transaction) {
            (false, _) => 1,
            (true, false) => 0,
            (true, true) => 2,
        };
        self.state.store(state, Ordering::Relaxed);
    }

    pub fn flowed(&self) -> Flowed {
        Flowed {
            statements: self.statements.load(Ordering::Relaxed),
            bytes_from_client: self.from_client.load(Ordering::Relaxed),
            bytes_from_server: self.from_server.load(Ordering::Relaxed),
        }
    }

    fn add(&self, flowed: Flowed) {
        self.statements.fetch_add(flowed.statements, Ordering::Relaxed);
        self.from_client.fetch_add(flowed.bytes_from_client, Ordering::Relaxed);
        self.from_server.fetch_add(flowed.bytes_from_server, Ordering::Relaxed);
    }
}

impl std::ops::AddAssign for Flowed {
    fn add_assign(&mut self, other: Flowed) {
        self.statements += other.statements;
        self.bytes_from_client += other.bytes_from_client;
        self.bytes_from_server += other.bytes_from_server;
    }
}

/// One open session.
pub struct Seat {
    pub since: SystemTime,
    who: Mutex<Who>,
    flow: Arc<Flow>,
    plan: Mutex<Option<PlanNow>>,
}

/// A plan that is being carried out.
#[derive(Clone, Debug, Serialize)]
pub struct PlanNow {
    /// As in the audit log.
    pub id: String,
    /// Passwords masked, and cut when it is very long.
    pub statement: String,
    #[serde(serialize_with = "epoch_ms")]
    pub since: SystemTime,
    #[serde(skip)]
    pub started: Instant,
    /// Labels of all steps.
    pub steps: Vec<String>,
    /// The one that runs, counted from 0.
    pub step: usize,
    #[serde(serialize_with = "epoch_ms")]
    pub step_since: SystemTime,
    pub lock: String,
    pub relation: String,
    pub lock_tries: u32,
    /// Of the step's batches: changed so far, and expected in all.
    pub rows: Option<u64>,
    pub rows_expected: Option<f64>,
    #[serde(skip)]
    pub rows_since: Option<Instant>,
    /// Who held the lock when it was last asked.
    pub blocked_by: Option<String>,
    /// What the server tells of a build: its phase and how much of that is done, from 0 to 1.
    pub phase: Option<String>,
    pub phase_done: Option<f64>,
}

impl PlanNow {
    /// How much of the running step is done, from 0 to 1; None where nothing tells.
    pub fn done(&self) -> Option<f64> {
        match (self.rows, self.rows_expected) {
            (Some(rows), Some(expected)) if expected > 0.0 => Some((rows as f64 / expected).min(1.0)),
            _ => self.phase_done,
        }
    }

    /// Seconds that the running step's batches will still take at their pace so far.
    pub fn left_s(&self) -> Option<f64> {
        let (rows, expected) = (self.rows? as f64, self.rows_expected?);
        let pace = rows / self.rows_since?.elapsed().as_secs_f64();
        (pace > 0.0 && expected > rows).then(|| (expected - rows) / pace)
    }
}

/// A session as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct SessionNow {
    pub session: u64,
    pub backend_pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client: String,
    #[serde(serialize_with = "epoch_ms")]
    pub since: SystemTime,
    pub state: State,
    #[serde(flatten)]
    pub flowed: Flowed,
    pub plan: Option<PlanNow>,
}

impl Seat {
    fn now(&self) -> SessionNow {
        let plan = lock(&self.plan).clone();
        let who = lock(&self.who).clone();
        let state = match plan {
            Some(_) => State::Plan,
            None => State::of(self.flow.state.load(Ordering::Relaxed)),
        };
        SessionNow {
            session: who.session,
            backend_pid: who.backend_pid,
            user: who.user,
            database: who.database,
            application_name: who.application_name,
            client: who.client,
            since: self.since,
            state,
            flowed: self.flow.flowed(),
            plan,
        }
    }

    pub fn is_known_as(&self, application_name: &str) {
        let mut who = lock(&self.who);
        if who.application_name != application_name {
            who.application_name = application_name.into();
        }
    }

    pub fn plan_begins(&self, event: &Event) {
        let now = SystemTime::now();
        *lock(&self.plan) = Some(PlanNow {
            id: event.id.clone(),
            statement: event.shown_statement(),
            since: now,
            started: Instant::now(),
            steps: event.steps.iter().map(|step| step.label.clone()).collect(),
            step: 0,
            step_since: now,
            lock: String::new(),
            relation: String::new(),
            lock_tries: 0,
            rows: None,
            rows_expected: None,
            rows_since: None,
            blocked_by: None,
            phase: None,
            phase_done: None,
        });
    }

    pub fn step_begins(&self, n: usize, lock_name: &str, relation: &str) {
        self.change(|plan| {
            plan.step = n;
            plan.step_since = SystemTime::now();
            plan.lock = lock_name.into();
            plan.relation = relation.into();
            plan.lock_tries = 0;
            (plan.rows, plan.rows_expected, plan.rows_since) = (None, None, None);
            (plan.blocked_by, plan.phase, plan.phase_done) = (None, None, None);
        });
    }

    /// Does nothing where no plan runs.
    pub fn change(&self, change: impl FnOnce(&mut PlanNow)) {
        if let Some(plan) = lock(&self.plan).as_mut() {
            change(plan);
        }
    }

    pub fn plan_ends(&self) {
        *lock(&self.plan) = None;
    }
}

/// A session's place in [`Live`], given up when dropped.
pub struct Seated {
    live: Arc<Live>,
    session: u64,
    seat: Arc<Seat>,
}

impl std::ops::Deref for Seated {
    type Target = Seat;

    fn deref(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.live.seats.remove(&self.session);
        self.live.ended.add(self.seat.flow.flowed());
    }
}

impl Live {
    pub fn begin(&self, about: About) {
        // A process serves once.
        let _ = self.about.set(about);
    }

    /// None before the proxy has begun.
    pub fn about(&self) -> Option<&About> {
        self.about.get()
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn control(&self) -> Control {
        match self.control.load(Ordering::Relaxed) {
            0 => Control::None,
            1 => Control::Down,
            _ => Control::Up,
        }
    }

    pub fn set_control(&self, control: Control) {
        self.control.store(control as u8, Ordering::Relaxed);
    }

    pub fn policy(&self) -> String {
        lock(&self.policy).clone()
    }

    pub fn set_policy(&self, name: &str) {
        *lock(&self.policy) = name.into();
    }

    pub fn seat(self: &Arc<Live>, who: &Who, flow: Arc<Flow>) -> Seated {
        let seat = Arc::new(Seat {
            since: SystemTime::now(),
            who: Mutex::new(who.clone()),
            flow,
            plan: Mutex::new(None),
        });
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.seats.insert(who.session, Arc::clone(&seat));
        Seated {
            live: Arc::clone(self),
            session: who.session,
            seat,
        }
    }

    /// Open sessions in the order of their numbers.
    pub fn sessions(&self) -> Vec<SessionNow> {
        let mut sessions: Vec<SessionNow> = self.seats.iter().map(|seat| seat.now()).collect();
        sessions.sort_by_key(|session| session.session);
        sessions
    }

    /// The seat of the session with that server process, if it has a plan.
    pub fn change_plan_of(&self, backend_pid: i32, change: impl FnOnce(&mut PlanNow)) {
        let seat = self.seats.iter().find(|seat| lock(&seat.who).backend_pid == backend_pid);
        if let Some(seat) = seat {
            seat.change(change);
        }
    }

    /// Sessions so far.
    pub fn sessions_total(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Of all sessions, also of those that have ended.
    pub fn flowed(&self) -> Flowed {
        let mut all = self.ended.flowed();
        self.seats.iter().for_each(|seat| all += seat.flow.flowed());
        all
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The last reload took everything.
    pub fn reloaded(&self) -> bool {
        self.reloaded.load(Ordering::Relaxed)
    }

    pub fn set_reloaded(&self, well: bool) {
        self.reloaded.store(well, Ordering::Relaxed);
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }
}

fn epoch_ms<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(since.as_millis() as u64)
}

/// What a thread that panicked left is still the best there is to show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
