//! libFuzzer on the target `versions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("versions", bytes));
