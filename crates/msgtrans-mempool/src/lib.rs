//! Tiered buffer pool whose buffers come home when the last slice drops.
//!
//! [`worker`] is what the data path uses: page-aligned read buffers and out buffers from stacks of
//! the thread's own.
#![forbid(unsafe_code)]

pub mod worker;
