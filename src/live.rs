//! What goes on now, and the counts of what went on: written by the sessions, read by the admin pages and the console.
//!
//! The forwarding path only stores a few relaxed atomics of its own session's [`Flow`]; they are summed when somebody
//! asks. Everything else here is touched once per judged statement or step. Start at [`Live`].

pub mod approvals;
mod decide;
pub mod ledger;
pub mod reins;
pub mod shape;
mod steer;
pub mod traffic;

use crate::audit::after::Waits;
use crate::audit::{Audit, Blocker, Event, Who};
use crate::plan::policy::Literals;
use crate::usage::Usage;
use crate::usage::holds::Holds;
use crate::usage::together::Together;
use dashmap::DashMap;
use ledger::Ledger;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc, oneshot};
use traffic::{Runs, Traffic};

const ANSWER_TIME: Duration = Duration::from_secs(5);

pub struct Live {
    pub started: SystemTime,
    about: OnceLock<About>,
    /// A [`Phase`].
    phase: AtomicU8,
    /// The name of the policy in force.
    policy: Mutex<String>,
    /// Authenticated sessions that are open, by their number.
    seats: DashMap<u64, Arc<Seat>>,
    /// What sessions that have ended had forwarded. Locked while one ends and while all are summed, so that no sum is ever
    /// less than the one before.
    ended: Mutex<Flowed>,
    /// Judged statements; locked once per statement or step.
    ledger: Mutex<Ledger>,
    pub traffic: Traffic,
    /// Statements that wait in the proxy while a step waits for their table.
    pub holds: Arc<Holds>,
    /// What statements touch, and who executes them.
    pub usage: Usage,
    sessions: AtomicU64,
    reloaded: AtomicBool,
    /// A [`Control`].
    control: AtomicU8,
    /// A plan is to be watched.
    pub plan_begins: Notify,
    /// Where questions to the control connection go.
    desk: OnceLock<mpsc::Sender<Question>>,
    approvals: Mutex<approvals::Approvals>,
}

/// What a proxy was started with.
pub struct About {
    /// `HOST:PORT`, or the path of a socket; several with commas between them.
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
            ended: Mutex::default(),
            ledger: Mutex::default(),
            traffic: Traffic::default(),
            holds: Arc::default(),
            usage: Usage::default(),
            sessions: AtomicU64::new(0),
            reloaded: AtomicBool::new(true),
            control: AtomicU8::new(Control::None as u8),
            plan_begins: Notify::new(),
            desk: OnceLock::new(),
            approvals: Mutex::default(),
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
    /// Its statement is held, since a schema change waits for a table that it would keep busy.
    Held,
    #[serde(rename = "idle in transaction")]
    Transaction,
    /// A plan's steps are carried out.
    Plan,
}

impl State {
    pub const ALL: [State; 5] = [State::Idle, State::Active, State::Held, State::Transaction, State::Plan];

    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Active => "active",
            State::Held => "held",
            State::Transaction => "idle in transaction",
            State::Plan => "in plan",
        }
    }

    fn of(code: u8) -> State {
        match code {
            0 => State::Idle,
            1 => State::Active,
            3 => State::Held,
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
    /// The timed statement on its way.
    pub runs: Arc<Runs>,
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

    /// Until something moves again.
    pub fn is_held(&self) {
        self.state.store(3, Ordering::Relaxed);
    }

    pub fn flowed(&self) -> Flowed {
        Flowed {
            statements: self.statements.load(Ordering::Relaxed),
            bytes_from_client: self.from_client.load(Ordering::Relaxed),
            bytes_from_server: self.from_server.load(Ordering::Relaxed),
        }
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
    watch: Mutex<Option<Watch>>,
    held: Mutex<Held>,
    pub reins: reins::Reins,
}

/// Whom the session's server process was seen waiting for while a step's statement ran.
#[derive(Debug, Default)]
pub struct Held {
    /// The last time, and when that was.
    pub now: Option<(Instant, Vec<Blocker>)>,
    /// All of the step.
    pub seen: Vec<Blocker>,
}

/// What is looked for while a plan runs, and what was seen.
#[derive(Debug, Default)]
struct Watch {
    /// The plan's tables.
    relations: Vec<u32>,
    looks: u64,
    /// When it was looked last, and how many milliseconds the session that has waited longest for this one had waited then.
    behind: Option<(Instant, f64)>,
    /// By process and the beginning of its wait: milliseconds so far, and whether it was behind the plan.
    seen: HashMap<(i32, String), (f64, bool)>,
}

/// A session that waits for a lock, as the control connection found it.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub pid: i32,
    pub database: String,
    /// 0: not for a relation.
    pub relation: u32,
    /// When its wait began, in the server's words.
    pub since: String,
    pub waited_ms: f64,
    pub blocked_by: Vec<i32>,
}

/// A question to the control connection, and where its answer goes.
pub enum Question {
    Locks(oneshot::Sender<Result<Vec<Blocked>, String>>),
    Jobs(oneshot::Sender<Result<serde_json::Value, String>>),
    Steer(i64, Steer, oneshot::Sender<Result<String, String>>),
    /// What all proxies have seen of these relations; of all where there is none. None: they keep nothing together.
    Usage(Vec<String>, oneshot::Sender<Result<Option<Together>, String>>),
}

/// What can be done about a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    Pause,
    Resume,
    Cancel,
}

/// A session that waits for a lock, or that others wait for.
#[derive(Clone, Debug, Serialize)]
pub struct Blocked {
    pub pid: i32,
    pub user: Option<String>,
    pub database: Option<String>,
    pub application_name: Option<String>,
    pub state: Option<String>,
    /// Seconds since its transaction began.
    pub age_s: Option<f64>,
    /// Its statement, shortened, values replaced.
    pub query: Option<String>,
    /// What it waits for, as `AccessExclusiveLock on users`; None: it waits for nothing.
    pub waits_for: Option<String>,
    pub waited_ms: Option<f64>,
    pub blocked_by: Vec<i32>,
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
    /// Labels of all steps.
    pub steps: Vec<String>,
    /// The one that runs, counted from 0.
    pub step: usize,
    #[serde(serialize_with = "epoch_ms")]
    pub step_since: SystemTime,
    pub lock: String,
    pub relation: String,
    pub lock_tries: u32,
    /// Changed by the step's batches so far.
    pub rows: Option<u64>,
    /// Who held the lock when it was last asked.
    pub blocked_by: Option<String>,
    /// What the server tells of a build.
    pub phase: Option<String>,
    /// How much of the step, or of the build's phase, is done, from 0 to 1. None: nothing tells.
    pub done: Option<f64>,
    /// Seconds that the step's batches will still take at their pace so far.
    pub left_s: Option<f64>,
    /// Who has paused it.
    pub paused_by: Option<String>,
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

    pub fn plan_begins(&self, event: &Event, literals: Literals) {
        let now = SystemTime::now();
        *lock(&self.plan) = Some(PlanNow {
            id: event.id.clone(),
            statement: event.shown_statement(literals),
            since: now,
            steps: event.steps.iter().map(|step| step.label.clone()).collect(),
            step: 0,
            step_since: now,
            lock: String::new(),
            relation: String::new(),
            lock_tries: 0,
            rows: None,
            blocked_by: None,
            phase: None,
            done: None,
            left_s: None,
            paused_by: None,
        });
    }

    pub fn step_begins(&self, n: usize, lock_name: &str, relation: &str) {
        *lock(&self.held) = Held::default();
        self.change(|plan| {
            plan.step = n;
            plan.step_since = SystemTime::now();
            plan.lock = lock_name.into();
            plan.relation = relation.into();
            plan.lock_tries = 0;
            (plan.rows, plan.left_s, plan.done) = (None, None, None);
            (plan.blocked_by, plan.phase) = (None, None);
        });
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }

    pub fn has_plan(&self) -> bool {
        lock(&self.plan).is_some()
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

    /// The waits that were seen, with their milliseconds and whether they were behind the plan. None: nobody has looked.
    pub fn watched(&self) -> Option<(Waits, Vec<f64>)> {
        let watch = lock(&self.watch).take().filter(|watch| watch.looks > 0)?;
        let mut waits = Waits {
            looks: watch.looks,
            waits: watch.seen.len() as u64,
            ..Waits::default()
        };
        let mut stalls = Vec::new();
        for (ms, behind) in watch.seen.into_values() {
            waits.longest_ms = waits.longest_ms.max(ms);
            if behind {
                waits.behind_plan += 1;
                waits.longest_behind_plan_ms = waits.longest_behind_plan_ms.max(ms);
                stalls.push(ms);
            }
        }
        Some((waits, stalls))
    }

    /// How many milliseconds somebody has waited for this session by now, as far as has been looked.
    pub fn stalls_ms(&self) -> f64 {
        /// What was seen before may be over.
        const FRESH: Duration = Duration::from_millis(100);
        let seen = lock(&self.watch).as_ref().and_then(|watch| watch.behind);
        seen.filter(|(at, _)| at.elapsed() < FRESH).map_or(0.0, |(_, ms)| ms)
    }

    fn looked_at(&self, waiters: &[Waiter]) {
        let (pid, database) = {
            let who = lock(&self.who);
            (who.backend_pid, who.database.clone())
        };
        let mut watch = lock(&self.watch);
        let Some(watch) = watch.as_mut() else { return };
        watch.looks += 1;
        let behind = waiters.iter().filter(|waiter| waiter.blocked_by.contains(&pid));
        watch.behind = Some((
            Instant::now(),
            behind.map(|waiter| waiter.waited_ms).fold(0.0, f64::max),
        ));
        for waiter in waiters.iter().filter(|waiter| waiter.pid != pid) {
            let behind = waiter.blocked_by.contains(&pid);
            if !behind && (waiter.database != database || !watch.relations.contains(&waiter.relation)) {
                continue;
            }
            let seen = watch.seen.entry((waiter.pid, waiter.since.clone())).or_default();
            *seen = (seen.0.max(waiter.waited_ms), seen.1 || behind);
        }
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

impl Seated {
    pub fn shared(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// From now on waits for these relations are noted, if there is a control connection.
    pub fn watch(&self, relations: Vec<u32>) {
        *lock(&self.seat.watch) = Some(Watch {
            relations,
            ..Watch::default()
        });
        self.live.plan_begins.notify_one();
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let mut ended = lock(&self.live.ended);
        self.live.seats.remove(&self.session);
        *ended += self.seat.flow.flowed();
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
            watch: Mutex::new(None),
            held: Mutex::default(),
            reins: reins::Reins::default(),
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

    /// Server processes whose plans are watched.
    pub fn watched(&self) -> Vec<i32> {
        let watched = self.seats.iter().filter(|seat| lock(&seat.watch).is_some());
        watched.map(|seat| lock(&seat.who).backend_pid).collect()
    }

    /// Who waited for a lock at one moment.
    pub fn looked_at(&self, waiters: &[Waiter]) {
        self.seats.iter().for_each(|seat| seat.looked_at(waiters));
    }

    /// Asks the control connection, whose answer may take a moment.
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Question,
    ) -> Result<T, String> {
        const NONE: &str = "not known: there is no control connection; start lockkeeper with --control-dsn";
        let desk = self.desk.get().ok_or(NONE)?;
        let (answer, answered) = oneshot::channel();
        let asked = desk.try_send(question(answer));
        asked.map_err(|_| "the control connection is busy; ask again in a moment")?;
        match tokio::time::timeout(ANSWER_TIME, answered).await {
            Ok(Ok(answer)) => answer,
            _ => Err("the control connection did not answer in time".into()),
        }
    }

    /// From here questions are taken. Once for a process.
    pub fn open_desk(&self) -> mpsc::Receiver<Question> {
        let (desk, questions) = mpsc::channel(16);
        let _ = self.desk.set(desk);
        self.set_control(Control::Down);
        questions
    }

    /// Shapes that sessions of that database have been running for longer than this.
    pub fn running_longer(&self, database: &str, than: Duration) -> Vec<u64> {
        let of_it = self.seats.iter().filter(|seat| lock(&seat.who).database == database);
        let running = of_it.filter_map(|seat| seat.flow.runs.now());
        running
            .filter(|(_, time)| *time > than)
            .map(|(shape, _)| shape)
            .collect()
    }

    /// The seat of the session with that server process.
    pub fn seat_of(&self, backend_pid: i32) -> Option<Arc<Seat>> {
        let mut seats = self.seats.iter();
        let seat = seats.find(|seat| lock(&seat.who).backend_pid == backend_pid);
        seat.map(|seat| Arc::clone(&seat))
    }

    /// Sessions so far.
    pub fn sessions_total(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Of all sessions, also of those that have ended.
    pub fn flowed(&self) -> Flowed {
        let ended = lock(&self.ended);
        let mut all = *ended;
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
