//! libFuzzer on the target `upgrade_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("upgrade_client", bytes));
