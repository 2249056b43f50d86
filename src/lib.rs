//! Lockkeeper is a PostgreSQL wire-protocol proxy that makes schema changes safe.
//!
//! The map, in the order of imports (a module uses only what stands before it):
//!
//! * [`plan`] is pure: SQL text, facts and a policy go in, a [`plan::Plan`] comes out. It knows no socket, file, clock or runtime,
//!   and is a crate of its own; so is the wire protocol, `crates/lockkeeper-wire`.
//! * [`audit`] writes what happened, one JSON object a line, and reads it back.
//! * [`live`] is what goes on now and the counts of what went on, written by sessions, read by the admin pages.
//! * [`proxy`] is the I/O shell: one task per session, which forwards frames and carries plans out.
//! * [`rules_page`] prints the rule table.
//! * [`config`] reads the settings of `serve`: flags, environment, file.
//! * [`admin`] serves the metrics and the review page over HTTP.
//! * [`review`] lists and explains audit logs, and verifies that they are whole.
//!   [`rewrite`] is the one kind of it that the program itself carries out.
//! * [`check`] runs the same planner over files, and [`lsp`] over what an editor has open; [`jobs`] is about work that outlives a
//!   session, in `lockkeeper.job`; [`rewrite`] is the one kind of it that the program itself carries out.
//! * [`command_line`] is what the program is told; [`book`] writes the pages of docs/ that are made from the code.
//! * [`demo`] plays the main job on a throwaway server (`crates/lockkeeper-cluster`).
//!
//! Rules describe, the policy decides, `plan()` composes, the session runs. Nothing calls back.

pub mod admin;
pub mod approvals;
pub mod audit;
pub mod book;
pub mod check;
pub mod command_line;
pub mod config;
pub mod demo;
pub mod doctor;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod jobs;
mod lex;
pub mod live;
pub mod lsp;
pub mod plans;
pub use lockkeeper_plan as plan;
pub mod proxy;
pub mod review;
pub mod rewrite;
pub mod rules_page;
pub mod usage;
pub mod webhook;
