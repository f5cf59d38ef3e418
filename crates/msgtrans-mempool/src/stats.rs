//! What a pool did, holds and changed.

/// One tier of a [`BufferPool`](crate::BufferPool) at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Bytes of each buffer.
    pub len: usize,
    /// Most buffers kept.
    pub limit: usize,
    /// Buffers alive: free, leased, and leased beyond the limit.
    pub existing: usize,
    /// Buffers at home.
    pub free: usize,
    /// Buffers out now, as `PooledBuf` or as `Bytes`.
    pub leased: usize,
    /// Most buffers that were out at once.
    pub leased_high_water: usize,
    /// Bytes that the leases which are out asked for.
    pub requested_bytes: usize,
    /// Leases served from a free buffer.
    pub hits: u64,
    /// Leases that had to allocate.
    pub misses: u64,
}

impl TierStats {
    /// Bytes alive in this tier.
    pub fn footprint(&self) -> usize {
        self.existing * self.len
    }
}

/// A [`BufferPool`](crate::BufferPool) at one moment. The numbers are each right, though not of one
/// instant while others lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Small, medium, large.
    pub tiers: [TierStats; 3],
    /// Leases too long for the largest tier, allocated for themselves.
    pub oversized: u64,
}

impl PoolStats {
    /// The share of leases that needed no allocation, 0 to 1; 1 when there was none.
    pub fn hit_rate(&self) -> f64 {
        let hits: u64 = self.tiers.iter().map(|tier| tier.hits).sum();
        let misses: u64 = self.tiers.iter().map(|tier| tier.misses).sum();
        let all = hits + misses + self.oversized;
        if all == 0 {
            1.0
        } else {
            hits as f64 / all as f64
        }
    }

    /// Bytes alive in all tiers, leased or free.
    pub fn footprint(&self) -> usize {
        self.tiers.iter().map(TierStats::footprint).sum()
    }

    /// Bytes at home, waiting to be leased.
    pub fn free_bytes(&self) -> usize {
        self.tiers.iter().map(|tier| tier.free * tier.len).sum()
    }

    /// Buffers out now.
    pub fn leased(&self) -> usize {
        self.tiers.iter().map(|tier| tier.leased).sum()
    }

    /// The largest number of buffers that were out at once, summed over the tiers.
    pub fn leased_high_water(&self) -> usize {
        self.tiers.iter().map(|tier| tier.leased_high_water).sum()
    }

    /// The share of the bytes out now that nobody asked for, 0 to 1: leases are rounded up to their
    /// tier. 0 when nothing is out.
    pub fn fragmentation(&self) -> f64 {
        let out: usize = self.tiers.iter().map(|tier| tier.leased * tier.len).sum();
        let asked: usize = self.tiers.iter().map(|tier| tier.requested_bytes).sum();
        if out == 0 {
            0.0
        } else {
            1.0 - (asked.min(out) as f64 / out as f64)
        }
    }
}

/// What [`auto_tune_based_on_workload`](crate::BufferPool::auto_tune_based_on_workload) saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TuneReport {
    /// Leases since the last tuning.
    pub leases: u64,
    /// Half of them asked for at most this many bytes.
    pub len_p50: u64,
    /// 99 of 100 asked for at most this many bytes.
    pub len_p99: u64,
    /// The largest asked for this many bytes.
    pub len_max: u64,
    /// What was changed; empty when the limits fit.
    pub changes: Vec<TierChange>,
}

/// A limit that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierChange {
    /// Bytes of each buffer of the tier.
    pub len: usize,
    /// Most buffers kept before.
    pub limit_before: usize,
    /// Most buffers kept from now on.
    pub limit_after: usize,
    /// Most buffers that were out at once since the last tuning: the reason.
    pub leased_high_water: usize,
    /// Bytes given back to the system by it.
    pub freed_bytes: usize,
}
