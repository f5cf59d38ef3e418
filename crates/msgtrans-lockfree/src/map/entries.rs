//! How many entries there are, counted by each thread for itself.
//!
//! One count per shard, written by every insert and remove, was the line that writers met on: two
//! threads on 1,000 entries paid a third of their time for it.

use super::reclaim::Guard;
use crate::primitive::{AtomicU64, CachePadded, Ordering, stripe_count};

/// Stripes of a thread's own, for each that is shared.
const OWN_PER_SHARED: usize = if cfg!(msgtrans_loom) { 1 } else { 4 };

#[derive(Default)]
struct Stripe {
    // One more for each new entry, one less for each removed.
    count: AtomicU64,
    // What it was when the sum was last looked at, or less.
    checked: AtomicU64,
}

pub(super) struct Entries {
    // The first ones have one writer at a time each, see `Guard::thread`; the others are for all threads beyond.
    stripes: Box<[CachePadded<Stripe>]>,
    own: usize,
    shard_bits: u32,
}

impl Entries {
    pub(super) fn new(shard_bits: u32) -> Self {
        let shared = stripe_count();
        let own = shared * OWN_PER_SHARED;
        let stripes = (0..own + shared).map(|_| CachePadded::default()).collect();
        Self {
            stripes,
            own,
            shard_bits,
        }
    }

    /// While others write, about how many there are.
    pub(super) fn len(&self) -> usize {
        // Relaxed, as everything here: a number for reports and for growing, which orders nothing.
        let sum = self.stripes.iter().fold(0u64, |sum, stripe| {
            sum.wrapping_add(stripe.count.load(Ordering::Relaxed))
        });
        // A sum may see a remove and miss the insert before it.
        usize::try_from(sum as i64).unwrap_or(0)
    }

    /// Adds, and tells this thread's stripe and what it holds now.
    #[inline]
    fn add(&self, guard: &Guard, n: u64) -> (&Stripe, u64) {
        let thread = guard.thread();
        if thread < self.own {
            // Nobody else has this number while this thread has it.
            let stripe = &self.stripes[thread];
            let now = stripe.count.load(Ordering::Relaxed).wrapping_add(n);
            stripe.count.store(now, Ordering::Relaxed);
            return (stripe, now);
        }
        let shared = self.stripes.len() - self.own;
        let stripe = &self.stripes[self.own + thread % shared];
        let before = stripe.count.fetch_add(n, Ordering::Relaxed);
        (stripe, before.wrapping_add(n))
    }

    /// Counts a new entry; says whether a shard of `buckets` buckets, a power of two, has become
    /// too full, going by the mean of all shards.
    #[inline]
    pub(super) fn added(&self, guard: &Guard, buckets: usize) -> bool {
        let (stripe, now) = self.add(guard, 1);
        // Summing reads what the other threads write, so it is done once for so many entries by which a stripe has grown
        // that a shard is at most about an eighth fuller than it should be. Inserts that take the place of what the same
        // thread has removed do not grow it.
        let every = (buckets / 64) as i64;
        if every > 1 {
            let grown = now.wrapping_sub(stripe.checked.load(Ordering::Relaxed)) as i64;
            if (0..every).contains(&grown) {
                return false;
            }
            stripe.checked.store(now, Ordering::Relaxed);
            if grown < 0 {
                return false;
            }
        }
        self.len() >> self.shard_bits > entries_max(buckets)
    }

    #[inline]
    pub(super) fn removed(&self, guard: &Guard) {
        self.add(guard, 1u64.wrapping_neg());
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
