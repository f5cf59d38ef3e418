//! The numbers that describe message traffic, as one bundle.

use crate::counter::{Counter, Gauge};
use crate::histogram::{Histogram, HistogramSnapshot};

/// Traffic in and out, errors, a level of things open, and a latency distribution.
///
/// Hot paths should add once per batch: `messages_in.add(batch.len())`.
///
/// # Cost
/// Five striped counters and a histogram: about 16 KiB plus 640 bytes per stripe. One per server,
/// not one per session.
#[derive(Debug, Default)]
pub struct LockFreeStats {
    /// Messages received.
    pub messages_in: Counter,
    /// Messages sent.
    pub messages_out: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Bytes sent.
    pub bytes_out: Counter,
    /// Operations that failed.
    pub errors: Counter,
    /// How many of whatever the owner counts are open now.
    pub open: Gauge,
    /// Latency in nanoseconds.
    pub latency: Histogram,
}

impl LockFreeStats {
    /// Creates a bundle at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `messages` received, `bytes` long together.
    #[inline]
    pub fn record_in(&self, messages: u64, bytes: u64) {
        self.messages_in.add(messages);
        self.bytes_in.add(bytes);
    }

    /// Counts `messages` sent, `bytes` long together.
    #[inline]
    pub fn record_out(&self, messages: u64, bytes: u64) {
        self.messages_out.add(messages);
        self.bytes_out.add(bytes);
    }

    /// Reads everything. The numbers are each right, though not of one instant.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            messages_in: self.messages_in.get(),
            messages_out: self.messages_out.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            errors: self.errors.get(),
            open: self.open.get(),
            latency: self.latency.snapshot(),
        }
    }
}

/// What a [`LockFreeStats`] held at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Messages received.
    pub messages_in: u64,
    /// Messages sent.
    pub messages_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Operations that failed.
    pub errors: u64,
    /// How many of whatever the owner counts were open.
    pub open: i64,
    /// Latency in nanoseconds.
    pub latency: HistogramSnapshot,
}
