//! A lock-free log-linear histogram: fixed memory, bounded relative error.
//!
//! Values below 64 have a bucket each. Above, every power of two is cut into 32 equal buckets, so a
//! bucket is at most 1/32 of its values wide and its middle at most 1/64 away from any of them.

use crate::primitive::{AtomicU64, Ordering};
use std::fmt;

// 32 buckets per power of two: width ≤ 3.2 %, and 1,920 buckets of 8 bytes in all.
const PRECISION_BITS: u32 = 5;
const LINEAR: usize = 2 << PRECISION_BITS;
#[cfg(not(msgtrans_loom))]
const BUCKETS: usize = LINEAR + (64 - PRECISION_BITS as usize - 1) * (LINEAR / 2);
// Loom tracks every atomic, and a few show the races as well as thousands.
#[cfg(msgtrans_loom)]
const BUCKETS: usize = 4;

/// The distribution of `u64` values such as latencies in nanoseconds or sizes in bytes.
///
/// ```
/// use msgtrans_lockfree::Histogram;
///
/// let latency = Histogram::new();
/// for value in 1..=1000 {
///     latency.record(value);
/// }
/// let snapshot = latency.snapshot();
/// assert_eq!((snapshot.count(), snapshot.min(), snapshot.max()), (1000, 1, 1000));
/// let median = snapshot.quantile(0.5);
/// assert!((485..=515).contains(&median), "{median}");
/// ```
///
/// # Cost
/// `record` is one atomic addition and two loads; 15 KiB of memory, allocated at once and fixed.
///
/// # Limits
/// Quantiles and the mean are within 1.6 % of a recorded value; `count`, `min` and `max` are exact
/// once the recorders are done. A snapshot taken while others record holds each record wholly or
/// not at all, though not the same instant for all buckets. Counts wrap at 2^64.
pub struct Histogram {
    // Written by recorders, summed by `snapshot`. All Relaxed: each count stands alone.
    buckets: Box<[AtomicU64]>,
    // The smallest and largest recorded value; written only when they move, which is soon rare.
    min: AtomicU64,
    max: AtomicU64,
}

impl Histogram {
    /// Creates an empty histogram.
    pub fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }

    /// Records one value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.record_n(value, 1);
    }

    /// Records `value` as if seen `n` times, for a batch whose members share a measurement.
    #[inline]
    pub fn record_n(&self, value: u64, n: u64) {
        if n == 0 {
            return;
        }
        // Looking first keeps the line shared between cores: the extremes hardly ever move.
        if value < self.min.load(Ordering::Relaxed) {
            self.min.fetch_min(value, Ordering::Relaxed);
        }
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
        // Release: a snapshot that counts this record also sees its extremes; pairs with the
        // Acquire in `snapshot`.
        self.buckets[bucket_of(value)].fetch_add(n, Ordering::Release);
    }

    /// Copies the counts out for reading.
    ///
    /// # Cost
    /// Reads all 1,920 buckets, about 1 µs, and allocates 15 KiB.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let buckets: Box<[u64]> = self
            .buckets
            .iter()
            // Acquire: pairs with the Release in `record_n`.
            .map(|bucket| bucket.load(Ordering::Acquire))
            .collect();
        let count = buckets.iter().fold(0u64, |sum, n| sum.wrapping_add(*n));
        HistogramSnapshot {
            buckets,
            count,
            min: self.min.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: Box<[u64]>,
    count: u64,
    min: u64,
    max: u64,
}

impl HistogramSnapshot {
    /// A snapshot of nothing, to merge others into.
    pub fn empty() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest recorded value, exactly; 0 when there is none.
    pub fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// The largest recorded value, exactly; 0 when there is none.
    pub fn max(&self) -> u64 {
        if self.count == 0 { 0 } else { self.max }
    }

    /// The mean, within 1.6 %; 0 when nothing was recorded.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let sum: f64 = self
            .buckets
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(bucket, n)| self.value_of(bucket) as f64 * *n as f64)
            .sum();
        sum / self.count as f64
    }

    /// The value below or at which the share `q` of all values lies, within 1.6 %; 0 when nothing
    /// was recorded. `q` is held to 0..=1; 0 is the minimum, 1 the maximum, not-a-number the maximum.
    pub fn quantile(&self, q: f64) -> u64 {
        if q <= 0.0 {
            return self.min();
        }
        if q >= 1.0 || q.is_nan() {
            return self.max();
        }
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0u64;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen = seen.wrapping_add(*n);
            if seen >= rank {
                return self.value_of(bucket);
            }
        }
        self.max()
    }

    /// Adds what `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = own.wrapping_add(*more);
        }
        self.count = self.count.wrapping_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// What was recorded after `earlier`, an older snapshot of the same histogram. The extremes are
    /// those of the whole time, narrowed to the buckets that grew.
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets: Box<[u64]> = self
            .buckets
            .iter()
            .zip(&earlier.buckets)
            .map(|(now, then)| now.wrapping_sub(*then))
            .collect();
        let first = buckets.iter().position(|n| *n > 0);
        let last = buckets.iter().rposition(|n| *n > 0);
        Self {
            count: self.count.wrapping_sub(earlier.count),
            min: first.map_or(u64::MAX, |bucket| lowest(bucket).max(self.min)),
            max: last.map_or(0, |bucket| highest(bucket).min(self.max)),
            buckets,
        }
    }

    /// The middle of a bucket, kept within what was really recorded.
    fn value_of(&self, bucket: usize) -> u64 {
        let low = lowest(bucket);
        let middle = low + (highest(bucket) - low) / 2;
        // While others record, the extremes may be ahead of or behind the counts.
        middle.min(self.max).max(self.min.min(self.max))
    }
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for HistogramSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistogramSnapshot")
            .field("count", &self.count)
            .field("min", &self.min())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("p999", &self.quantile(0.999))
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

#[inline]
fn bucket_of(value: u64) -> usize {
    let index = if value < LINEAR as u64 {
        value as usize
    } else {
        let shift = 63 - value.leading_zeros() - PRECISION_BITS;
        // The top PRECISION_BITS + 1 bits, of which the first is always 1.
        (shift as usize) * (LINEAR / 2) + (value >> shift) as usize
    };
    if cfg!(msgtrans_loom) {
        index.min(BUCKETS - 1)
    } else {
        index
    }
}

fn lowest(bucket: usize) -> u64 {
    if bucket < LINEAR {
        return bucket as u64;
    }
    let shift = bucket / (LINEAR / 2) - 1;
    ((bucket - shift * (LINEAR / 2)) as u64) << shift
}

fn highest(bucket: usize) -> u64 {
    if bucket < LINEAR {
        return bucket as u64;
    }
    let shift = bucket / (LINEAR / 2) - 1;
    lowest(bucket) + ((1u64 << shift) - 1)
}

#[cfg(all(test, not(msgtrans_loom)))]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_value_once_in_order() {
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(highest(BUCKETS - 1), u64::MAX);
        let mut next = 0u64;
        for bucket in 0..BUCKETS {
            assert_eq!(lowest(bucket), next, "bucket {bucket}");
            assert_eq!(bucket_of(lowest(bucket)), bucket);
            assert_eq!(bucket_of(highest(bucket)), bucket);
            let width = highest(bucket) - lowest(bucket);
            assert!(
                width as f64 <= lowest(bucket) as f64 / 32.0,
                "bucket {bucket} is too wide"
            );
            next = highest(bucket).wrapping_add(1);
        }
        assert_eq!(next, 0);
    }

    #[test]
    fn quantiles_stay_within_the_promised_error() {
        let histogram = Histogram::new();
        let mut value = 1u64;
        let mut all = Vec::new();
        for step in 0..5_000u64 {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1 + step);
            let sample = value >> (value % 60);
            histogram.record(sample);
            all.push(sample);
        }
        all.sort_unstable();
        let snapshot = histogram.snapshot();
        for q in [0.0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let exact = all[rank - 1] as f64;
            let got = snapshot.quantile(q) as f64;
            assert!(
                (got - exact).abs() <= exact / 60.0 + 1.0,
                "q {q}: {got} for {exact}"
            );
        }
        let exact_mean = all.iter().map(|v| *v as f64).sum::<f64>() / all.len() as f64;
        assert!((snapshot.mean() - exact_mean).abs() <= exact_mean / 60.0);
    }

    #[test]
    fn merge_equals_recording_into_one() {
        let (a, b, both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in [0, 7, 63, 64, 1_000, 1 << 40] {
            a.record(value);
            both.record(value);
        }
        b.record_n(5_000_000, 17);
        both.record_n(5_000_000, 17);
        let mut merged = HistogramSnapshot::empty();
        merged.merge(&a.snapshot());
        merged.merge(&b.snapshot());
        assert_eq!(merged, both.snapshot());
    }

    #[test]
    fn since_holds_only_what_came_after() {
        let histogram = Histogram::new();
        histogram.record_n(10, 100);
        let earlier = histogram.snapshot();
        histogram.record_n(1_000, 3);
        let delta = histogram.snapshot().since(&earlier);
        assert_eq!(delta.count(), 3);
        assert_eq!(delta.max(), 1_000);
        assert!((985..=1_015).contains(&delta.quantile(0.5)));
        assert_eq!(earlier.since(&earlier).quantile(0.5), 0);
    }

    #[test]
    fn empty_histogram_reads_as_zero() {
        let snapshot = Histogram::new().snapshot();
        assert_eq!(
            (snapshot.count(), snapshot.min(), snapshot.max()),
            (0, 0, 0)
        );
        assert_eq!(snapshot.quantile(0.99), 0);
        assert_eq!(snapshot.mean(), 0.0);
    }
}
