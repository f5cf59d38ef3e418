//! libFuzzer on the target `endpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("endpoint", bytes));
