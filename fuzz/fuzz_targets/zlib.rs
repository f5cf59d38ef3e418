//! libFuzzer on the target `zlib`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("zlib", bytes));
