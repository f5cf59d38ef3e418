//! libFuzzer on the target `decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("decode", bytes));
