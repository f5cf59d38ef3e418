//! libFuzzer on the target `meta`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("meta", bytes));
