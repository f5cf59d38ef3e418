//! The pool: picks tier and free list, trims and tunes.

use crate::buffer::{Home, PooledBuf};
use crate::config::{MemoryPoolConfig, MemoryPoolConfigError};
use crate::stats::{PoolStats, TierChange, TuneReport};
use crate::tier::{Tier, Window};
use crate::topology::{self, Topology};
use bytes::BytesMut;
use msgtrans_lockfree::{Counter, Histogram, HistogramSnapshot};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers in three sizes, leased and returned without a lock.
///
/// A lease takes from the free list of its processor, then from those of the same memory node, then
/// from the others, then allocates. A buffer returns to the list it came from. Clones share one pool.
///
/// # Cost
/// A lease and its return are about ten uncontended atomic operations. Free lists and statistics
/// take some 100 KiB with the default configuration; buffers are allocated when first leased.
///
/// # Limits
/// `trim` and `auto_tune_based_on_workload` act when they are called: call them from a maintenance
/// thread, every few seconds.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    tiers: [Tier; 3],
    // For each free list, the order in which a thread at home there looks through all of them.
    search: Box<[Box<[usize]>]>,
    sizes: Histogram,
    oversized: Counter,
    // The sizes at the last tuning. Locked by tuning alone, never by a lease or a return.
    tuned_at: Mutex<HistogramSnapshot>,
}

impl BufferPool {
    /// Creates a pool, empty unless the configuration says `prewarm`.
    ///
    /// # Errors
    /// The first value of the configuration that is out of bounds.
    pub fn new(config: MemoryPoolConfig) -> Result<Self, MemoryPoolConfigError> {
        config.check()?;
        Ok(Self::unchecked(config))
    }

    /// For a configuration that is known to be right.
    pub(crate) fn unchecked(config: MemoryPoolConfig) -> Self {
        let topology = Topology::machine();
        let shards = config
            .shards
            .unwrap_or_else(|| topology.processors().clamp(1, 256));
        let tier = |len, count| Tier::new(len, count, shards);
        let pool = Self {
            shared: Arc::new(Shared {
                tiers: [
                    tier(config.small_len, config.small_count),
                    tier(config.medium_len, config.medium_count),
                    tier(config.large_len, config.large_count),
                ],
                search: topology.search_orders(shards),
                sizes: Histogram::new(),
                oversized: Counter::new(),
                tuned_at: Mutex::new(HistogramSnapshot::empty()),
            }),
        };
        if config.prewarm {
            pool.prewarm();
        }
        pool
    }

    /// Leases an empty buffer that takes at least `len` bytes.
    ///
    /// It always succeeds: beyond what the pool keeps, and beyond the largest tier, the buffer is
    /// allocated for this lease. Bound what you lease where it comes from a peer.
    pub fn lease(&self, len: usize) -> PooledBuf {
        let shared = &self.shared;
        shared.sizes.record(len as u64);
        let shard = shared.home();
        let tier = shared.tiers.iter().position(|tier| len <= tier.len);
        let (bytes, capacity) = match tier.map(|tier| &shared.tiers[tier]) {
            Some(tier) => (tier.take(len, &shared.search[shard]), tier.len),
            None => {
                shared.oversized.add(1);
                (BytesMut::with_capacity(len), len)
            }
        };
        let pool = Arc::clone(shared);
        PooledBuf::new(
            bytes,
            capacity,
            Home {
                pool,
                tier,
                shard,
                requested: len,
            },
        )
    }

    /// Lends an empty buffer that takes at least `len` bytes and needs no owner to come home: whoever
    /// lends next and finds nothing free looks at the oldest ones, and takes one of which no part is
    /// held any more. Unlike a [`lease`](Self::lease) it can be split and frozen without an allocation.
    ///
    /// Beyond what the pool keeps and beyond the largest tier it is a buffer of its own, of `len` bytes.
    /// Growing it beyond its capacity makes it one, too.
    ///
    /// ```
    /// use msgtrans_mempool::{BufferPool, MemoryPoolConfig};
    ///
    /// let pool = BufferPool::new(MemoryPoolConfig::default())?;
    /// let mut buffer = pool.lend(100_000);
    /// buffer.extend_from_slice(b"two frames");
    /// let first = buffer.split_to(3).freeze();
    /// drop(buffer);
    /// assert_eq!((pool.lend(100_000).len(), pool.stats().tiers[2].misses), (0, 2)); // `first` holds it
    /// drop(first);
    /// assert_eq!((pool.lend(100_000).len(), pool.stats().tiers[2].hits), (0, 1));
    /// # Ok::<(), msgtrans_mempool::MemoryPoolConfigError>(())
    /// ```
    pub fn lend(&self, len: usize) -> BytesMut {
        self.lend_counted(len).0
    }

    /// As [`lend`](Self::lend), and whether it needed no allocation.
    pub(crate) fn lend_counted(&self, len: usize) -> (BytesMut, bool) {
        let shared = &self.shared;
        shared.sizes.record(len as u64);
        match shared.tiers.iter().find(|tier| len <= tier.len) {
            Some(tier) => tier.lend(len, &shared.search[shared.home()]),
            None => {
                shared.oversized.add(1);
                (BytesMut::with_capacity(len), false)
            }
        }
    }

    /// Leases a buffer that shows `len` zero bytes, for callers that fill a slice.
    pub fn lease_zeroed(&self, len: usize) -> PooledBuf {
        let mut buffer = self.lease(len);
        buffer.resize(len);
        buffer
    }

    /// Allocates and touches buffers until every tier is full. Returns the bytes added.
    pub fn prewarm(&self) -> usize {
        self.shared
            .tiers
            .iter()
            .map(|tier| tier.prewarm() * tier.len)
            .sum()
    }

    /// Frees the free buffers beyond the most that were out at once since the last trim. Returns
    /// the bytes freed. Called twice without a lease in between, it frees everything.
    pub fn trim(&self) -> usize {
        self.shared.bring_home();
        self.shared
            .tiers
            .iter()
            .map(|tier| tier.shrink_to(tier.high_water_since(Window::Trim)) * tier.len)
            .sum()
    }

    /// Fits the number of buffers kept in each tier to what was leased since the last call: a
    /// quarter more than were out at once, between a quarter of what was configured and four times
    /// that. Smaller changes than an eighth are not made, and without a lease nothing is.
    pub fn auto_tune_based_on_workload(&self) -> TuneReport {
        let sizes = self.shared.sizes.snapshot();
        let window = {
            // What a panicking caller left is still a snapshot.
            let tuned_at = self.shared.tuned_at.lock();
            let mut tuned_at = tuned_at.unwrap_or_else(PoisonError::into_inner);
            let window = sizes.since(&tuned_at);
            *tuned_at = sizes;
            window
        };
        let mut report = TuneReport {
            leases: window.count(),
            len_p50: window.quantile(0.5),
            len_p99: window.quantile(0.99),
            len_max: window.max(),
            changes: Vec::new(),
        };
        if report.leases > 0 {
            report
                .changes
                .extend(self.shared.tiers.iter().filter_map(tune));
        }
        report
    }

    /// Frees every free buffer.
    pub(crate) fn free_all(&self) {
        self.shared.bring_home();
        for tier in &self.shared.tiers {
            tier.shrink_to(0);
        }
    }

    /// The tier in the middle, and the order in which this thread looks through its lists.
    pub(crate) fn medium(&self) -> (&Tier, &[usize]) {
        let shared = &self.shared;
        (&shared.tiers[1], &shared.search[shared.home()])
    }

    /// What the pool did and holds. Looks at every lent buffer.
    pub fn stats(&self) -> PoolStats {
        self.shared.bring_home();
        PoolStats {
            tiers: [0, 1, 2].map(|tier| self.shared.tiers[tier].stats()),
            oversized: self.shared.oversized.get(),
        }
    }
}

fn tune(tier: &Tier) -> Option<TierChange> {
    let high_water = tier.high_water_since(Window::Tune);
    let (min, max) = tier.limit_bounds();
    let before = tier.limit();
    let after = (high_water + high_water.div_ceil(4)).clamp(min, max);
    // A change of less than an eighth is noise; chasing it would free and allocate for ever.
    if after.abs_diff(before) <= before / 8 {
        return None;
    }
    tier.set_limit(after);
    let freed = tier.shrink_to(after);
    Some(TierChange {
        len: tier.len,
        limit_before: before,
        limit_after: after,
        leased_high_water: high_water,
        freed_bytes: freed * tier.len,
    })
}

impl Shared {
    /// The free list of this thread.
    fn home(&self) -> usize {
        topology::home_processor() % self.search.len()
    }

    fn bring_home(&self) {
        for tier in &self.tiers {
            tier.bring_home(&self.search[self.home()]);
        }
    }

    pub(crate) fn put(&self, bytes: BytesMut, home: &Home) {
        if let Some(tier) = home.tier {
            self.tiers[tier].put(bytes, home.requested, &self.search[home.shard]);
        }
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("stats", &self.stats())
            .finish()
    }
}
