//! Tiered buffer pool whose buffers come home when the last slice drops.
//!
//! Two things, one behind the other, and what the heap below them keeps ([`heap`]) and the
//! kernel's table of descriptors has room for ([`descriptors`]):
//!
//! - [`worker`]: read buffers and out buffers from stacks of the thread's own. A buffer is taken and
//!   given back within one pass of one thread, without a lock or an atomic.
//! - [`BufferPool`]: three tiers of buffers that travel, from the thread that fills one to whichever
//!   thread drops the last [`Bytes`](bytes::Bytes) slice of it. Lock-free, sharded by processor,
//!   counted, prewarmed, trimmed and tuned by use. One of them stands behind the workers: for read
//!   buffers whose slices live on, and for large frames in progress.
//!
//! Beside them [`CountingAllocator`], with which tests state what a piece of code allocates.
//!
//! ```
//! use msgtrans_mempool::{BufferPool, MemoryPoolConfig};
//!
//! let pool = BufferPool::new(MemoryPoolConfig::default())?;
//! let mut buffer = pool.lease(5);
//! buffer.put(b"hello");
//! let whole = buffer.freeze(5);
//! let tail = whole.slice(1..);
//! drop(whole);
//! assert_eq!(pool.stats().leased(), 1); // `tail` still holds it
//! drop(tail);
//! assert_eq!(pool.stats().leased(), 0);
//! # Ok::<(), msgtrans_mempool::MemoryPoolConfigError>(())
//! ```
#![deny(unsafe_code)]

mod buffer;
mod config;
mod counting;
pub mod descriptors;
pub mod heap;
mod memory;
mod pool;
mod primitive;
mod stats;
mod tier;
mod topology;
pub mod worker;

#[cfg(all(test, msgtrans_loom))]
mod loom_models;

// The public interface is:
pub use crate::{
    buffer::PooledBuf,
    config::{MemoryPoolConfig, MemoryPoolConfigError},
    counting::CountingAllocator,
    pool::BufferPool,
    stats::{PoolStats, TierChange, TierStats, TuneReport},
};
