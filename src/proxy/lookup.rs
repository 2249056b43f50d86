//! What logins hold of the server's answers about its users' verifiers, and how they ask for more.
//!
//! What tells that an answer is out of date is the server itself: it shows every client the salt of its verifier, which
//! changes with the password, and something fixed where there is no verifier. So a new password works at once, and wrong
//! ones do not make the proxy ask again and again.

use super::settings::AuthQuery;
use lockkeeper_wire::messages::Report;
use lockkeeper_wire::scram::{Salting, Verifier};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Logins that may wait for an answer; more wait for their turn to ask.
pub const ASKS_MAX: usize = 256;

/// A wrong password makes the proxy ask again after this time, and not before.
pub(super) const DOUBT_PAUSE: Duration = Duration::from_secs(1);

pub(super) const CACHED_MAX: usize = 10_000;

/// A login's question.
pub struct Ask {
    pub(super) user: Vec<u8>,
    pub(super) shown: Option<Salting>,
    pub(super) reply: oneshot::Sender<Result<Option<Verifier>, Failed>>,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The server is not reached, is late, or goes away.
    Unreachable(String),
    /// The server does not let the proxy ask, or the query's answer is none.
    Unanswered(String),
}

impl Failed {
    /// What clients hear; the reason is for the log.
    pub fn report(&self) -> Report {
        let sqlstate = match self {
            Failed::Unreachable(_) => "08006",
            Failed::Unanswered(_) => "28000",
        };
        Report::fatal(
            sqlstate,
            "lockkeeper: passwords cannot be verified now, since the auth_query fails",
        )
        .hint("The proxy's log says why.")
    }
}

/// What logins hold of the answers.
pub struct Lookup {
    pub settings: AuthQuery,
    asks: mpsc::Sender<Ask>,
    cache: Mutex<HashMap<Vec<u8>, Cached>>,
}

pub(super) struct Cached {
    /// None: the user has none, or is not there.
    pub(super) verifier: Option<Verifier>,
    /// What the server showed the client whose login asked.
    pub(super) shown: Option<Salting>,
    pub(super) asked: Instant,
    /// Somebody has failed with it since.
    pub(super) doubted: bool,
}

impl Cached {
    pub(super) fn holds(&self, shown: Option<&Salting>, time: Duration) -> bool {
        let age = self.asked.elapsed();
        let contradicted = shown.is_some() && shown != self.shown.as_ref();
        age < time && !contradicted && !(self.doubted && age >= DOUBT_PAUSE)
    }
}

impl Lookup {
    /// `asks` leads to [`answer`].
    pub fn new(settings: AuthQuery, asks: mpsc::Sender<Ask>) -> Lookup {
        let cache = Mutex::default();
        Lookup { settings, asks, cache }
    }

    /// `shown`: what the server shows this very client, unless it lets the user in without a password.
    pub async fn find(&self, user: &[u8], shown: Option<&Salting>) -> Result<Option<Verifier>, Failed> {
        if let Some(verifier) = self.cached(user, shown) {
            return Ok(verifier);
        }
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            user: user.to_vec(),
            shown: shown.cloned(),
            reply,
        };
        let stopping = |_| Err(Failed::Unreachable("the proxy is stopping".into()));
        match self.asks.send(ask).await {
            Ok(()) => answer.await.unwrap_or_else(|_| stopping(())),
            Err(_) => stopping(()),
        }
    }

    /// Somebody could not prove the password: it may be a new one.
    pub fn doubt(&self, user: &[u8]) {
        if let Some(cached) = self.cache().get_mut(user) {
            cached.doubted = true;
        }
    }

    pub fn forget(&self) {
        self.cache().clear();
    }

    pub(super) fn cached(&self, user: &[u8], shown: Option<&Salting>) -> Option<Option<Verifier>> {
        let cache = self.cache();
        let cached = cache.get(user)?;
        let holds = cached.holds(shown, self.settings.cache_time);
        holds.then(|| cached.verifier.clone())
    }

    pub(super) fn keep(&self, user: Vec<u8>, shown: Option<Salting>, verifier: Option<Verifier>) {
        let time = self.settings.cache_time;
        let mut cache = self.cache();
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, cached| cached.asked.elapsed() < time);
        }
        if cache.len() >= CACHED_MAX {
            // Somebody tries names: whoever is there is asked for once more.
            cache.clear();
        }
        let cached = Cached {
            verifier,
            shown,
            asked: Instant::now(),
            doubted: false,
        };
        cache.insert(user, cached);
    }

    pub(super) fn cache(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_somebody_tries_do_not_fill_the_memory() {
        let settings = AuthQuery {
            user: "asker".into(),
            sql: "SELECT $1".into(),
            database: "postgres".into(),
            cache_time: Duration::from_secs(3600),
            password: None,
        };
        let lookup = Lookup::new(settings, mpsc::channel(1).0);
        for n in 0..3 * CACHED_MAX {
            lookup.keep(n.to_string().into(), None, None);
            assert!(lookup.cache().len() <= CACHED_MAX);
        }
        assert!(
            lookup
                .cached((3 * CACHED_MAX - 1).to_string().as_bytes(), None)
                .is_some()
        );
    }

    #[test]
    fn an_answer_holds_until_the_server_shows_another_salt() {
        let salting = |salt: &str| Salting {
            salt: salt.into(),
            iterations: 4096,
        };
        let cached = |doubted: bool, age: u64| Cached {
            verifier: None,
            shown: Some(salting("a")),
            asked: Instant::now() - Duration::from_millis(age),
            doubted,
        };
        let hour = Duration::from_secs(3600);
        assert!(cached(false, 5000).holds(Some(&salting("a")), hour));
        assert!(cached(false, 5000).holds(None, hour));
        assert!(!cached(false, 0).holds(Some(&salting("b")), hour));
        assert!(!cached(false, 0).holds(Some(&salting("a")), Duration::ZERO));
        assert!(!cached(false, 5000).holds(Some(&salting("a")), Duration::from_secs(5)));
        assert!(!cached(true, 5000).holds(Some(&salting("a")), hour));
        assert!(cached(true, 0).holds(Some(&salting("a")), hour));
    }
}
