//! How many entries there are, counted by each thread for itself.
//!
//! One count per shard, written by every insert and remove, was the line that writers met on: two
//! threads on 1,000 entries paid a third of their time for it.

use crate::counter::Counter;

pub(super) struct Entries {
    // Adds one for each new entry and wraps down by one for each removed.
    count: Counter,
    shard_bits: u32,
}

impl Entries {
    pub(super) fn new(shard_bits: u32) -> Self {
        Self {
            count: Counter::new(),
            shard_bits,
        }
    }

    /// While others write, about how many there are.
    pub(super) fn len(&self) -> usize {
        // A sum may see a remove and miss the insert before it.
        usize::try_from(self.count.get() as i64).unwrap_or(0)
    }

    /// Counts a new entry; says whether a shard of `buckets` buckets, a power of two, has become
    /// too full, going by the mean of all shards.
    #[inline]
    pub(super) fn added(&self, buckets: usize) -> bool {
        let own = self.count.add_to_own(1);
        // Summing reads what the other threads write, so it is done once in so many inserts that a
        // shard is at most about an eighth fuller than it should be.
        let every = (buckets / 64).max(1) as u64;
        own & (every - 1) == 0 && self.len() >> self.shard_bits > entries_max(buckets)
    }

    #[inline]
    pub(super) fn removed(&self) {
        self.count.add(1u64.wrapping_neg());
    }
}

/// How many entries so many buckets, a power of two, take before they are doubled. Half: with seven eighths, a lookup
/// met 1.4 nodes at 100,000 entries instead of 1.2, and mispredicted where the bucket ends, a quarter of its time.
pub(super) fn entries_max(buckets: usize) -> usize {
    if cfg!(msgtrans_loom) {
        // The models begin to grow with the first entry.
        buckets / 8 * 7
    } else {
        buckets / 2
    }
}
