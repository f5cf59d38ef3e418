//! Lock-free map, queue, cells, counters and histogram.
//!
//! | type | one line | who may call it |
//! |---|---|---|
//! | [`LockFreeHashMap`] | sharded hash map, wait-free reads, lock-free writes, grows in place | any thread |
//! | [`LockFreeQueue`] | bounded or unbounded queue with an asynchronous wake for its one consumer | many push, one waits |
//! | [`WakeCell`] | a waker that is registered once and woken at most once per look | many wake, one owner |
//! | [`WriteToken`] | one writer at a time; a loser leaves a note instead of waiting | any thread |
//! | [`OwnerToken`] | an owner's turn, which guests may take while it rests | one owner, many guests |
//! | [`prefetch`] | a cache line asked for before it is needed | any thread |
//! | [`Counter`], [`Tally`], [`Gauge`], [`Histogram`] | numbers that hot paths write and reports read | any thread |
//! | [`SoleCounter`] | the same in 8 bytes | one adds at a time, any thread reads |
//! | [`LockFreeStats`] | the bundle of them that describes message traffic | any thread |
//!
//! Nothing here blocks: no operation waits for another thread that might be preempted. What a type
//! cannot do (shrink, order, exact sums while others write) is said in its own "Limits".
//!
//! The crate stands alone and knows nothing of packets or sessions. Its atomics come through one
//! door (`primitive`), so that the same code runs under `std` and, with `--cfg msgtrans_loom`, under
//! the loom model checker.

mod counter;
mod hash;
mod histogram;
mod map;
mod owner_token;
mod prefetch;
mod primitive;
mod queue;
mod stats;
mod wake_cell;
mod write_token;

#[cfg(all(test, msgtrans_loom))]
mod loom_models;

#[cfg(all(test, msgtrans_shuttle))]
mod shuttle_models;

// The public interface is:
pub use crate::{
    counter::{Counter, Gauge, SoleCounter, Tally},
    hash::{BuildKeyHasher, KeyHasher},
    histogram::{Histogram, HistogramSnapshot},
    map::LockFreeHashMap,
    owner_token::OwnerToken,
    prefetch::prefetch,
    queue::{LockFreeQueue, PushError, Recv},
    stats::{LockFreeStats, StatsSnapshot},
    wake_cell::WakeCell,
    write_token::{WriteToken, WriteTurn},
};
