//! The facade's promises, kept over real connections of every protocol.

mod abuse;
mod closing;
mod examples;
mod interop_replay;
mod pipelined;
mod raw;
mod reentrancy;
mod requests;
mod support;
