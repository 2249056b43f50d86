#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockkeeper::proxy::fuzz::responses(data));
