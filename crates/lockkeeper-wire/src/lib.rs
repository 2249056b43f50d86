//! PostgreSQL's protocol (manual chapter 55) as far as Lockkeeper reads and speaks it. Pure: bytes in, bytes and values out; who sends and
//! waits is the proxy.
//!
//! * [`messages`] reads the few messages that are read and builds the few that are built; [`encoding`] is about the texts in them.
//! * [`buffer`] holds one direction's bytes between reading and writing them.
//! * [`responses`] counts what a server still owes.
//! * [`scram`] is both sides of SCRAM-SHA-256; [`startup`] reads the parameters of a startup packet.

pub mod buffer;
pub mod encoding;
pub mod messages;
pub mod responses;
pub mod scram;
pub mod startup;
