//! libFuzzer on the target `upgrade_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| msgtrans_fuzz::run("upgrade_server", bytes));
