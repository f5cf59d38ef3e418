//! Worker buffers and the pool, through the public interface.
#![cfg(not(msgtrans_loom))]

mod pool;
mod worker;
