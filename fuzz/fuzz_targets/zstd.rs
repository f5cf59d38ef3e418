//! libFuzzer on the target `zstd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("zstd", bytes));
