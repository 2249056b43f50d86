//! What the relay knows of a statement that may be held back.

use crate::usage::holds::Window;
use std::sync::Arc;

/// What is known of it on the way from the relay to the session.
#[derive(Default)]
pub struct Holding {
    /// The database, as windows name it. Empty: nothing is ever held.
    pub database: String,
    pub window: Option<(Arc<Window>, u64)>,
    /// The statement at the front has been held: it goes on.
    pub let_go: bool,
}
