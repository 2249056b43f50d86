//! Cancel requests, wherever they find a session.

use super::common::raw::{Raw, error_field, rows};
use super::common::{QUICK, Stage, on_both};
use super::query;

on_both!(a_cancel_request_reaches_the_server,);

pub fn a_cancel_request_reaches_the_server(major: u32) {
    let stage = Stage::with(major, "cancel", QUICK);
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(&query("SELECT pg_sleep(30)"));
    let key = raw.key.clone();
    let port = stage.port;
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut cancel = Raw::open(port);
        let len = (8 + key.len()) as u32;
        cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &key].concat());
        assert_eq!(cancel.byte(), None);
    });
    let started = std::time::Instant::now();
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57014"));
    assert!(started.elapsed().as_secs() < 20);
    assert_eq!(rows(&raw.query("SELECT 1")), ["1"]);
}
