//! The facade's promises, kept over real connections of every protocol.

mod abuse;
mod churn;
mod closing;
mod events;
mod examples;
mod interop_replay;
mod lifecycle;
mod limits;
mod middleware;
mod pipelined;
mod raw;
mod reentrancy;
mod requests;
mod stalled;
mod support;
