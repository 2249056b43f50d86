//! Fuzz targets about messages: each plays a script that the fuzzer chose against something simple and independent.

mod framing;
pub(super) mod memory;
mod responses;
mod startup;

/// The first packet of a connection, and what is read of it.
pub fn startup(data: &[u8]) {
    startup::check(data);
}

/// A relay between streams that are cut anywhere.
pub fn framing(data: &[u8]) {
    framing::check(data);
}

/// The queue of responses beside a server that knows what it owes.
pub fn responses(data: &[u8]) {
    responses::check(data);
}
