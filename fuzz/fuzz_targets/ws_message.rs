//! libFuzzer on the target `ws_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("ws_message", bytes));
