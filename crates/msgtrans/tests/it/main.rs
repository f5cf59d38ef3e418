//! The facade's promises: the conformance suite over every protocol, and what only raw peers, the clock or one protocol
//! can show.

mod abuse;
mod broadcast;
mod burst;
mod cancelled;
mod churn;
mod closing;
mod conformance;
mod events;
mod examples;
mod interop_replay;
mod lifecycle;
mod limits;
mod middleware;
mod panics;
mod pipelined;
mod raw;
mod requests;
mod shutdown;
mod stalled;
mod support;
mod thread_per_core;
mod timerless;
