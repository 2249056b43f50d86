//! Statements that are held in the proxy for a moment, while a brief step waits for a table that they would keep busy.
//!
//! A step opens a [`Window`] with the shapes that touch its table and take long. It closes when the step has its lock, or when
//! its time is over; then all go on that were held. No statement is held longer than its window is open. The forwarding path
//! pays one relaxed load while no window is open.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[derive(Default)]
pub struct Holds {
    open: AtomicUsize,
    windows: Mutex<Vec<Arc<Window>>>,
    /// By database and relation: until when nobody is held back again.
    rests: Mutex<HashMap<(String, String), Instant>>,
    /// Statements that were held.
    statements: AtomicU64,
    /// All of them together.
    held_us: AtomicU64,
}

/// While one step waits.
pub struct Window {
    database: String,
    /// What the step waits for, for those who look on.
    pub relation: String,
    shapes: Mutex<HashSet<u64>>,
    pub until: Instant,
    closed: watch::Sender<bool>,
    now: AtomicUsize,
    /// Statements that were held.
    total: AtomicU64,
}

/// An open window. It closes when this goes.
pub struct Opened {
    holds: Arc<Holds>,
    window: Arc<Window>,
    time: Duration,
    began: Instant,
}

/// A statement that is held.
pub struct Held {
    holds: Arc<Holds>,
    window: Arc<Window>,
    began: Instant,
}

impl Holds {
    /// Whether any statement is to be looked at.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// None: others were held back for the same relation just now, for whatever step, and go on for as long first.
    pub fn open(self: &Arc<Holds>, database: &str, relation: &str, shapes: Vec<u64>, time: Duration) -> Option<Opened> {
        let key = (database.to_owned(), relation.to_owned());
        {
            let now = Instant::now();
            let mut rests = lock(&self.rests);
            rests.retain(|_, until| *until > now);
            if rests.contains_key(&key) {
                return None;
            }
        }
        let is_it = |window: &&Arc<Window>| window.database == database && window.relation == relation;
        if lock(&self.windows).iter().any(|window| is_it(&window)) {
            return None;
        }
        let window = Arc::new(Window {
            database: database.to_owned(),
            relation: relation.to_owned(),
            shapes: Mutex::new(shapes.into_iter().collect()),
            until: Instant::now() + time,
            closed: watch::Sender::new(false),
            now: AtomicUsize::new(0),
            total: AtomicU64::new(0),
        });
        lock(&self.windows).push(Arc::clone(&window));
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Opened {
            holds: Arc::clone(self),
            window,
            time,
            began: Instant::now(),
        })
    }

    /// The window that holds a statement of this shape; of several the one that closes last.
    pub fn window_for(&self, database: &str, shape: u64) -> Option<Arc<Window>> {
        let now = Instant::now();
        let windows = lock(&self.windows);
        let of_it = windows.iter().filter(|window| {
            window.database == database && window.until > now && lock(&window.shapes).contains(&shape)
        });
        of_it.max_by_key(|window| window.until).cloned()
    }

    /// How many were held so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// For how long in all. One that is held now counts when it goes on.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.held_us.load(Ordering::Relaxed))
    }
}

impl Opened {
    /// More is known by now.
    pub fn add(&self, shapes: Vec<u64>) {
        lock(&self.window.shapes).extend(shapes);
    }

    pub fn is_over(&self) -> bool {
        self.window.until <= Instant::now()
    }

    pub fn opened_for(&self) -> Duration {
        self.time
    }

    /// Statements that are held now.
    pub fn now(&self) -> usize {
        self.window.now.load(Ordering::Relaxed)
    }

    /// That were held at all.
    pub fn total(&self) -> u64 {
        self.window.total.load(Ordering::Relaxed)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        lock(&self.holds.windows).retain(|window| !Arc::ptr_eq(window, &self.window));
        self.holds.open.fetch_sub(1, Ordering::Relaxed);
        let key = (self.window.database.clone(), self.window.relation.clone());
        let now = Instant::now();
        lock(&self.holds.rests).insert(key, now + now.duration_since(self.began));
        self.window.closed.send_replace(true);
    }
}

impl Window {
    /// Until the window closes. Immediately, where it is closed already.
    pub async fn closes(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is the window's own.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

impl Held {
    pub fn begin(holds: &Arc<Holds>, window: &Arc<Window>) -> Held {
        window.now.fetch_add(1, Ordering::Relaxed);
        window.total.fetch_add(1, Ordering::Relaxed);
        holds.statements.fetch_add(1, Ordering::Relaxed);
        Held {
            holds: Arc::clone(holds),
            window: Arc::clone(window),
            began: Instant::now(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.window.now.fetch_sub(1, Ordering::Relaxed);
        let us = self.began.elapsed().as_micros() as u64;
        self.holds.held_us.fetch_add(us, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_window_holds_its_shapes_in_its_database_until_it_closes() {
        let holds = Arc::new(Holds::default());
        assert!(!holds.is_open());
        let opened = holds
            .open("shop", "users", vec![1], Duration::from_secs(3600))
            .expect("opens");
        let later = holds
            .open("shop", "orders", vec![1], Duration::from_secs(7200))
            .expect("opens");
        assert!(holds.is_open());
        // One step at a time.
        assert!(holds.open("shop", "users", vec![1], Duration::ZERO).is_none());
        assert!(holds.window_for("shop", 2).is_none() && holds.window_for("other", 1).is_none());
        opened.add(vec![2]);
        let window = holds.window_for("shop", 2).expect("a window");
        assert_eq!(holds.window_for("shop", 1).expect("a window").relation, "orders");
        let held = Held::begin(&holds, &window);
        assert_eq!((opened.now(), opened.total()), (1, 1));
        drop(held);
        assert_eq!((opened.now(), opened.total()), (0, 1));
        drop(opened);
        window.closes().await;
        assert!(holds.is_open() && holds.window_for("shop", 2).is_none());
        drop(later);
        assert!(!holds.is_open());
        // One whose time is over holds nothing, though nobody has closed it.
        let over = holds.open("shop", "items", vec![1], Duration::ZERO).expect("opens");
        assert!(over.is_over() && holds.window_for("shop", 1).is_none());
    }
}
