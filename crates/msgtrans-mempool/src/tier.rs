//! One size of buffer: free lists, the bound on what is kept, and the counts of it.
//!
//! `existing` counts the tier's buffers wherever they are; a lease that finds no free one adds to it
//! and a buffer that is freed takes from it, so `existing - leased` are free. A buffer that comes back
//! while more exist than `limit` allows is freed instead of kept.
//!
//! A lent buffer has no owner that says when it comes back. The tier keeps a handle to its memory, and
//! a later take that finds nothing free looks whether it is the last one.

use crate::memory;
use crate::primitive::{ArrayQueue, AtomicUsize, Ordering};
use crate::stats::TierStats;
use bytes::{BufMut, BytesMut};
use msgtrans_lockfree::{Counter, Gauge};

/// Lent buffers that a take looks at: the oldest ones, so the first is most likely back.
const LOOKS_MAX: usize = 4;

/// Who reads a high-water mark and starts it anew.
#[derive(Clone, Copy)]
pub(crate) enum Window {
    Trim,
    Tune,
}

#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) len: usize,
    // Most buffers to keep. Written by tuning, read by returns.
    limit: AtomicUsize,
    configured: usize,
    shards: Box<[ArrayQueue<BytesMut>]>,
    // Handles of buffers that are lent, oldest first; they count as leased.
    lent: ArrayQueue<BytesMut>,
    // Buffers alive, leased or free. Written by leases that allocate and by whoever frees.
    existing: AtomicUsize,
    // Buffers out now. Written by every lease and return.
    leased: AtomicUsize,
    // Most that were out: since the pool was made, since the last trim, since the last tuning.
    high_water: AtomicUsize,
    windows: [AtomicUsize; 2],
    // Bytes asked for by the leases that are out, beside `leased * len` that they got.
    requested: Gauge,
    hits: Counter,
    misses: Counter,
}

impl Tier {
    pub(crate) fn new(len: usize, count: usize, shards: usize) -> Self {
        // A list takes its share of the most that tuning may allow, and a little for unevenness;
        // what does not fit goes to the next list.
        let capacity = (Self::limit_max(count) / shards).saturating_add(1);
        Self {
            len,
            limit: AtomicUsize::new(count),
            configured: count,
            shards: (0..shards).map(|_| ArrayQueue::new(capacity)).collect(),
            lent: ArrayQueue::new(Self::limit_max(count)),
            existing: AtomicUsize::new(0),
            leased: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
            windows: [AtomicUsize::new(0), AtomicUsize::new(0)],
            requested: Gauge::new(),
            hits: Counter::new(),
            misses: Counter::new(),
        }
    }

    /// Tuning stays between a quarter of what was configured and four times that.
    pub(crate) fn limit_max(configured: usize) -> usize {
        configured.saturating_mul(4)
    }

    pub(crate) fn limit_bounds(&self) -> (usize, usize) {
        (
            (self.configured / 4).max(1),
            Self::limit_max(self.configured),
        )
    }

    /// An empty buffer of at least `len` bytes, for somebody who will [`put`](Self::put) it back.
    pub(crate) fn take(&self, requested: usize, search: &[usize]) -> BytesMut {
        self.take_free(requested, search).unwrap_or_else(|| {
            self.existing.fetch_add(1, Ordering::Relaxed);
            self.count_lease(requested, false);
            memory::allocate(self.len)
        })
    }

    /// As [`take`](Self::take), without allocating.
    pub(crate) fn take_free(&self, requested: usize, search: &[usize]) -> Option<BytesMut> {
        let found = search
            .iter()
            .find_map(|shard| self.shards[*shard].pop())
            .or_else(|| self.reclaim(LOOKS_MAX))?;
        self.count_lease(requested, true);
        Some(found)
    }

    /// An empty buffer of at least `len` bytes that comes back by itself once nobody holds a part of it,
    /// and whether it was at hand. Beyond the limit it is one of its own, no larger than `len`.
    pub(crate) fn lend(&self, len: usize, search: &[usize]) -> (BytesMut, bool) {
        let found = self.take_free(self.len, search);
        let hit = found.is_some();
        let mut buffer = match found {
            Some(buffer) => buffer,
            None if self.existing.load(Ordering::Relaxed) < self.limit() => {
                self.take(self.len, search)
            }
            None => {
                self.misses.add(1);
                return (BytesMut::with_capacity(len), false);
            }
        };
        let handle = buffer.split_off(buffer.capacity());
        self.park(handle);
        (buffer, hit)
    }

    /// Takes back what slices may still hold: a part of a buffer that was taken for its whole length.
    pub(crate) fn park(&self, handle: BytesMut) {
        if self.lent.push(handle).is_err() {
            // Whoever holds the last slice frees it.
            self.forget();
        }
    }

    /// A buffer that was taken for its whole length is no longer the tier's.
    pub(crate) fn forget(&self) {
        self.existing.fetch_sub(1, Ordering::Relaxed);
        self.end_lease(self.len);
    }

    /// The first of at most `looks` lent buffers that nobody holds any more; it is leased no longer.
    fn reclaim(&self, looks: usize) -> Option<BytesMut> {
        for _ in 0..looks {
            let mut handle = self.lent.pop()?;
            if memory::restore(&mut handle, self.len) {
                self.end_lease(self.len);
                return Some(handle);
            }
            self.park(handle);
        }
        None
    }

    /// Brings every lent buffer home that nobody holds any more.
    pub(crate) fn bring_home(&self, search: &[usize]) {
        for _ in 0..self.lent.len() {
            if let Some(buffer) = self.reclaim(1) {
                self.keep(buffer, search);
            }
        }
    }

    fn count_lease(&self, requested: usize, hit: bool) {
        // Relaxed: counts. A buffer itself passes through the queue, which orders its contents.
        let out = self.leased.fetch_add(1, Ordering::Relaxed) + 1;
        for mark in [&self.high_water, &self.windows[0], &self.windows[1]] {
            // Looking first keeps the line shared: a mark hardly ever moves.
            if mark.load(Ordering::Relaxed) < out {
                mark.fetch_max(out, Ordering::Relaxed);
            }
        }
        self.requested.add(requested as i64);
        if hit {
            self.hits.add(1);
        } else {
            self.misses.add(1);
        }
    }

    fn end_lease(&self, requested: usize) {
        self.requested.sub(requested as i64);
        self.leased.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a buffer back: to the list it came from if that has room, else the next.
    pub(crate) fn put(&self, mut buffer: BytesMut, requested: usize, search: &[usize]) {
        // What was written is not shown to the next one: only what he writes is within the length.
        buffer.clear();
        self.keep(buffer, search);
        // Last, so that `existing` never lags behind what is out.
        self.end_lease(requested);
    }

    fn keep(&self, buffer: BytesMut, search: &[usize]) {
        if self.give_up_one_beyond(self.limit.load(Ordering::Relaxed)) {
            return;
        }
        let mut buffer = buffer;
        for shard in search {
            match self.shards[*shard].push(buffer) {
                Ok(()) => return,
                Err(back) => buffer = back,
            }
        }
        self.existing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes one from `existing` if there are more than `most`.
    fn give_up_one_beyond(&self, most: usize) -> bool {
        let mut existing = self.existing.load(Ordering::Relaxed);
        while existing > most {
            match self.existing.compare_exchange_weak(
                existing,
                existing - 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => existing = now,
            }
        }
        false
    }

    /// Allocates and touches buffers until as many exist as may be kept. Returns how many it made.
    pub(crate) fn prewarm(&self) -> usize {
        let mut made = 0;
        loop {
            let existing = self.existing.load(Ordering::Relaxed);
            if existing >= self.limit.load(Ordering::Relaxed) {
                return made;
            }
            let claimed = self.existing.compare_exchange(
                existing,
                existing + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if claimed.is_err() {
                continue;
            }
            // Writing it all makes the kernel back it with memory now instead of at first use; ones,
            // because a compiler may turn zeroes into an allocation that is not touched.
            let mut buffer = memory::allocate(self.len);
            buffer.put_bytes(1, self.len);
            buffer.clear();
            let shard = made % self.shards.len();
            if self.shards[shard].push(buffer).is_err() {
                self.existing.fetch_sub(1, Ordering::Relaxed);
                return made;
            }
            made += 1;
        }
    }

    /// Frees free buffers until at most `most` exist. Returns how many it freed.
    pub(crate) fn shrink_to(&self, most: usize) -> usize {
        let mut freed = 0;
        for shard in &self.shards {
            while self.existing.load(Ordering::Relaxed) > most {
                let Some(buffer) = shard.pop() else { break };
                drop(buffer);
                self.existing.fetch_sub(1, Ordering::Relaxed);
                freed += 1;
            }
        }
        freed
    }

    /// The most that were out since this was last asked for the same window, which starts anew.
    pub(crate) fn high_water_since(&self, window: Window) -> usize {
        let now = self.leased.load(Ordering::Relaxed);
        self.windows[window as usize]
            .swap(now, Ordering::Relaxed)
            .max(now)
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> TierStats {
        let leased = self.leased.load(Ordering::Relaxed);
        TierStats {
            len: self.len,
            limit: self.limit(),
            existing: self.existing.load(Ordering::Relaxed),
            free: self.shards.iter().map(ArrayQueue::len).sum(),
            leased,
            leased_high_water: self.high_water.load(Ordering::Relaxed),
            requested_bytes: usize::try_from(self.requested.get()).unwrap_or(0),
            hits: self.hits.get(),
            misses: self.misses.get(),
        }
    }
}
