//! Numbers that hot paths write and reports read: a striped counter, several of them side by side, and a gauge.

use crate::primitive::{AtomicI64, AtomicU64, CachePadded, Ordering, stripe_count, thread_index};
use std::fmt;

/// A monotonic count, written by many threads without sharing a cache line.
///
/// The first threads of a process that count have a stripe of their own each, the others share as
/// many more, and [`get`](Self::get) sums them.
///
/// # Cost
/// `add` to a stripe of one's own is a load and a store, about 1 ns; to a shared one an atomic
/// addition, about 5 ns. Memory: 128 bytes per stripe, twice as many stripes as cores rounded up to a
/// power of two, at most 32.
///
/// # Limits
/// A sum taken while others add lies between the counts before and after; two sums taken one after
/// the other by the same thread never decrease. Wraps at 2^64.
pub struct Counter {
    // The first half: each written by the thread of its index alone. The second half: written by
    // the threads that hash to the stripe. Read by `get`.
    stripes: Box<[CachePadded<AtomicU64>]>,
}

impl Counter {
    /// Creates a counter at zero.
    pub fn new() -> Self {
        let stripes = (0..2 * stripe_count())
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect();
        Self { stripes }
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        let (thread, half) = (thread_index(), self.stripes.len() / 2);
        // Relaxed: summed for reports only; orders nothing.
        if thread < half {
            // No other thread ever has this index.
            let stripe = &self.stripes[thread];
            let own = stripe.load(Ordering::Relaxed).wrapping_add(n);
            stripe.store(own, Ordering::Relaxed);
            return;
        }
        self.stripes[half + (thread & (half - 1))].fetch_add(n, Ordering::Relaxed);
    }

    /// The sum of everything added so far.
    pub fn get(&self) -> u64 {
        // Relaxed: pairs with nothing, see "Limits". Per-location coherence keeps it monotonic.
        self.stripes.iter().fold(0, |sum, stripe| {
            sum.wrapping_add(stripe.load(Ordering::Relaxed))
        })
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.get()).finish()
    }
}

/// A monotonic count with one writer at a time, read by anybody.
///
/// # Cost
/// `add` is a load and a store: nothing that others could interrupt, which would cost some 20 instructions' time. 8 bytes.
///
/// # Limits
/// Two that add at once lose what one of them added, and nothing else. Wraps at 2^64.
///
/// ```
/// let sent = msgtrans_lockfree::SoleCounter::new();
/// sent.add(64);
/// sent.add(3);
/// assert_eq!(sent.get(), 67);
/// ```
#[derive(Debug, Default)]
pub struct SoleCounter(AtomicU64);

impl SoleCounter {
    /// Creates a count at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        // Relaxed: as in `Counter`.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(n), Ordering::Relaxed);
    }

    /// What was added so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Several monotonic counts that are written together: a [`Counter`] each, side by side in a stripe, so that adding to
/// all of them costs little more than adding to one.
///
/// # Cost
/// `add` to a stripe of one's own is a load and a store a count and about 1 ns more; to a shared one an atomic addition
/// for each that is not zero. Memory: that of one counter, while there are at most 16 counts.
///
/// # Limits
/// Those of [`Counter`], for each count by itself.
///
/// ```
/// let tally = msgtrans_lockfree::Tally::<2>::new();
/// tally.add([1, 64]);
/// tally.add([0, 3]);
/// assert_eq!(tally.get(), [1, 67]);
/// ```
pub struct Tally<const N: usize> {
    // As those of a counter.
    stripes: Box<[CachePadded<[AtomicU64; N]>]>,
}

impl<const N: usize> Tally<N> {
    /// Creates counts at zero.
    pub fn new() -> Self {
        let stripes = (0..2 * stripe_count())
            .map(|_| CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))))
            .collect();
        Self { stripes }
    }

    /// Adds a number to each count.
    #[inline]
    pub fn add(&self, more: [u64; N]) {
        let (thread, half) = (thread_index(), self.stripes.len() / 2);
        // Relaxed, and no locked instruction: as in `Counter::add`.
        if thread < half {
            for (count, more) in self.stripes[thread].iter().zip(more) {
                let own = count.load(Ordering::Relaxed).wrapping_add(more);
                count.store(own, Ordering::Relaxed);
            }
            return;
        }
        let shared = &self.stripes[half + (thread & (half - 1))];
        for (count, more) in shared.iter().zip(more) {
            if more != 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// The sums of everything added so far.
    pub fn get(&self) -> [u64; N] {
        std::array::from_fn(|index| {
            let counts = self.stripes.iter().map(|stripe| &stripe[index]);
            counts.fold(0_u64, |sum, count| {
                sum.wrapping_add(count.load(Ordering::Relaxed))
            })
        })
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Tally<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tally").field(&self.get()).finish()
    }
}

/// A level that goes up and down: sessions open, bytes queued.
///
/// One atomic, not striped, because `set` and an exact `get` must mean something.
///
/// # Cost
/// One atomic operation, 8 bytes. Wraps at the ends of `i64`.
#[derive(Debug)]
pub struct Gauge {
    // Written and read by anybody; each value stands alone, so everything is Relaxed.
    value: AtomicI64,
}

impl Gauge {
    /// Creates a gauge at zero.
    pub fn new() -> Self {
        Self {
            value: AtomicI64::new(0),
        }
    }

    /// Adds `n`, which may be negative, and returns the new level.
    #[inline]
    pub fn add(&self, n: i64) -> i64 {
        self.value.fetch_add(n, Ordering::Relaxed).wrapping_add(n)
    }

    /// Subtracts `n` and returns the new level.
    #[inline]
    pub fn sub(&self, n: i64) -> i64 {
        self.value.fetch_sub(n, Ordering::Relaxed).wrapping_sub(n)
    }

    /// Sets the level.
    #[inline]
    pub fn set(&self, level: i64) {
        self.value.store(level, Ordering::Relaxed);
    }

    /// The level now.
    #[inline]
    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}
