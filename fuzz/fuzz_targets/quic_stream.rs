//! libFuzzer on the target `quic_stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("quic_stream", bytes));
