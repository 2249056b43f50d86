//! What people see of a running proxy over HTTP: health, metrics, and the review page with its data. Start at [`http`].

mod api;
mod day;
pub mod http;
mod log;
pub mod metrics;
pub mod site;
mod usage;
