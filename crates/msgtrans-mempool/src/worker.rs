//! Read and out buffers from stacks of the thread's own: no lock, no atomic, no allocation.
//!
//! A connection takes a [`ReadBuffer`] once its socket is readable, reads into it, slices frames out
//! of it and lets it go within the same pass, so a thread needs very few of them however many
//! connections it serves.
//!
//! Where a read buffer goes when it is given back:
//!
//! 1. little of it was used: on this thread's stack as it is (4 at most). The next read goes behind
//!    the last one, whoever holds slices of it, so that a lone message costs no look at who does;
//! 2. nobody holds a slice: made whole, and on the stack, else back to the pool;
//! 3. slices still live: parked on this thread (4 at most) and looked at again by later takes. The
//!    oldest one beyond goes to the pool, and is home once its last slice drops.
//!
//! The [pool](stats) behind all threads is a [`BufferPool`] of what is worth keeping: read buffers, and
//! in sizes below and above them the memory in which large frames gather ([`make_room`]).
//!
//! Buffers are not zeroed: `BytesMut` shows nobody what he has not written himself.

use crate::config::MemoryPoolConfig;
use crate::memory::restore;
use crate::pool::BufferPool;
use crate::stats::PoolStats;
use crate::topology::Topology;
use bytes::{Buf, BufMut, BytesMut};
use msgtrans_lockfree::Counter;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The least spare bytes of a [`ReadBuffer`]: 256 KiB, more than the kernel usually has for one
/// socket, so that one system call empties it.
pub const READ_BUFFER_LEN: usize = 256 * 1024;

/// An out buffer that grew beyond this many bytes (1 MiB) is freed instead of kept.
pub const OUT_BUFFER_KEPT_MAX: usize = 1024 * 1024;

// Where a read behind another one starts: aligned for the kernel's copy, and no cache line is shared
// with bytes that somebody else may be looking at.
const LINE: usize = 64;
// What small reads may use up of a buffer before it is made whole again: some 100 lone messages, and
// little enough to stay in the nearest cache.
const SMALL_READS_LEN: usize = 16 * 1024;
const READ_LEN: usize = READ_BUFFER_LEN + SMALL_READS_LEN;
// Four nested passes are more than a worker ever has at once; 1 MiB a thread.
const READ_STACK_MAX: usize = 4;
// A parked buffer keeps its memory for as long as its slices live; 1 MiB a thread.
const PARKED_MAX: usize = 4;
const OUT_STACK_MAX: usize = 4;
// Frames of 64 KiB and of 1 MiB, with a page for their headers.
const SMALL_LEN: usize = 68 * 1024;
const LARGE_LEN: usize = 1028 * 1024;
// What the pool keeps: 4 MiB, 13 MiB and for each processor what a thread may have on its stack and
// parked, 16 MiB.
const SMALL_COUNT: usize = 64;
const READ_COUNT: usize = 48;
const READ_COUNT_EACH: usize = READ_STACK_MAX + PARKED_MAX;
const LARGE_COUNT: usize = 16;
// A frame of which fewer bytes have come gets no more memory than these: a header alone, whatever it
// claims, must not cost its receiver a buffer.
const GATHER_MIN: usize = 16 * 1024;
// How far the memory of a frame may run ahead of what has come: each size is four times the one below.
const GATHER_AHEAD: usize = 4;
// Statistics leave the thread once in so many takes, not on each.
const FLUSH_EVERY: u32 = 64;

/// Takes a read buffer: empty, at least [`READ_BUFFER_LEN`] spare bytes, on a page boundary or, behind
/// small reads, on a cache line.
///
/// # Cost
/// Some 80 instructions together with giving it back, a reclaim and a few hundred once in 16 KiB; when no
/// buffer is at hand, an allocation of 276 KiB.
pub fn take_read_buffer() -> ReadBuffer {
    let kept = with_local(|local| {
        let kept = local.take_read();
        local.count(kept.is_some(), Kind::Read);
        kept
    });
    let bytes = kept.flatten().unwrap_or_else(take_pooled);
    ReadBuffer {
        place: Place::of(&bytes),
        bytes,
    }
}

/// Lends a read buffer to `read`: what [`take_read_buffer`] gives, where it lies. What `read` leaves in it
/// is forgotten; what it splits off lives on.
///
/// # Cost
/// A third of taking the buffer and giving it back.
#[inline]
pub fn with_read_buffer<R>(read: impl FnOnce(&mut BytesMut) -> R) -> R {
    let mut read = Some(read);
    let done = with_local(|local| read.take().map(|read| local.read(read)));
    match (done.flatten(), read) {
        (Some(done), _) => done,
        // Inside another such call, or while the thread is torn down.
        (None, Some(read)) => read(take_read_buffer().bytes_mut()),
        (None, None) => unreachable!("a call that was made has brought something"),
    }
}

/// Splits off all that was read into `buffer`, so that what is left of it begins on a cache line, as the next read wants it.
///
/// # Cost
/// Half of a split behind which the buffer has to be advanced when it is given back.
#[inline]
pub fn split_filled(buffer: &mut BytesMut) -> BytesMut {
    let len = buffer.len();
    let gap = buffer.as_ptr().wrapping_add(len).align_offset(LINE);
    if gap >= LINE || buffer.capacity() - len < LINE {
        return buffer.split();
    }
    // A whole line, which is copied in four steps, where a length that is not known is a call.
    buffer.extend_from_slice(&[0; LINE]);
    let mut filled = buffer.split_to(len + gap);
    filled.truncate(len);
    buffer.clear();
    filled
}

/// Makes room for `more` bytes in `bytes`, which has what has come of a frame of `total` bytes in all.
///
/// Memory: what is needed, where that is less than 16 KiB; then 68 KiB, 272 KiB or 1028 KiB from the
/// pool, at most four times what has come with these bytes, or 68 KiB; beyond, and where the pool has
/// lent all that it keeps, it is allocated, twice that at most. What `total` claims reserves nothing.
///
/// # Cost
/// Nothing where there is room. Else some 100 ns, and a copy of what has come.
pub fn make_room(bytes: &mut BytesMut, more: usize, total: usize) {
    let come = bytes.len();
    if bytes.capacity() - come < more {
        grow(bytes, come.saturating_add(more), total);
    }
}

#[cold]
fn grow(bytes: &mut BytesMut, needed: usize, total: usize) {
    let come = bytes.len();
    if needed < GATHER_MIN {
        return bytes.reserve(needed - come);
    }
    // There is one of at most four times for any need, so this runs only so far ahead of what has come.
    let ahead = needed.saturating_mul(GATHER_AHEAD).max(SMALL_LEN);
    let mut lens = [SMALL_LEN, READ_LEN, LARGE_LEN]
        .into_iter()
        .filter(|len| (needed..=ahead).contains(len));
    let Some(mut len) = lens.next() else {
        totals().frame_misses.add(1);
        // What is larger than all of them grows in place, by remapping.
        return bytes.reserve(needed.max(total.min(needed.saturating_mul(2))) - come);
    };
    if len < total {
        len = lens.next().unwrap_or(len);
    }
    // Where the pool has none left, no more than the frame is allocated.
    let (mut grown, hit) = pool().lend_counted(len.min(total.max(needed)));
    let totals = totals();
    if hit {
        totals.frame_hits.add(1);
    } else {
        totals.frame_misses.add(1);
    }
    grown.extend_from_slice(bytes);
    *bytes = grown;
}

/// Takes an empty out buffer, with the capacity that its last use grew it to.
pub fn take_out_buffer() -> Vec<u8> {
    let kept = with_local(|local| {
        let kept = local.out.pop();
        local.count(kept.is_some(), Kind::Out);
        kept
    });
    kept.flatten().unwrap_or_default()
}

/// Gives an out buffer back; it is cleared here. Kept if its capacity is at most
/// [`OUT_BUFFER_KEPT_MAX`] and the thread holds fewer than 4.
pub fn put_out_buffer(mut buffer: Vec<u8>) {
    buffer.clear();
    let capacity = buffer.capacity();
    if capacity == 0 || capacity > OUT_BUFFER_KEPT_MAX {
        return;
    }
    with_local(|local| {
        if local.out.len() < OUT_STACK_MAX {
            local.out.push(buffer);
        }
    });
}

/// What the workers' buffers did and hold.
///
/// Takes of other threads that are not yet flushed (fewer than 64 a thread) are missing.
pub fn stats() -> WorkerStats {
    with_local(Local::flush);
    let totals = totals();
    let pool = pool().stats();
    WorkerStats {
        read_hits: totals.read_hits.get(),
        read_misses: totals.read_misses.get(),
        frame_hits: totals.frame_hits.get(),
        frame_misses: totals.frame_misses.get(),
        out_hits: totals.out_hits.get(),
        out_misses: totals.out_misses.get(),
        shared_bytes: pool.free_bytes(),
        pool,
    }
}

/// Gives memory back: frees this thread's stacks and what is free in the pool at once, and makes every
/// other thread free its own on its next take.
///
/// A thread that never takes again keeps what it holds, at most 2 MiB of read buffers.
pub fn trim() {
    // Relaxed: a thread that sees it later only trims later.
    TRIMS.fetch_add(1, Ordering::Relaxed);
    with_local(Local::trim_if_asked);
    pool().free_all();
}

/// A buffer to read a socket into. Dropping it gives it back.
///
/// ```
/// use bytes::BufMut;
/// use msgtrans_mempool::worker;
///
/// let mut buffer = worker::take_read_buffer();
/// assert!(buffer.bytes_mut().capacity() >= worker::READ_BUFFER_LEN);
/// buffer.bytes_mut().put_slice(b"two frames"); // in real life: a read
/// let first = buffer.bytes_mut().split_to(3).freeze();
/// buffer.give_back(); // `first` lives on; the memory is reclaimed after it
/// assert_eq!(&first[..], b"two");
/// ```
pub struct ReadBuffer {
    bytes: BytesMut,
    place: Place,
}

impl ReadBuffer {
    /// The buffer itself: read into its spare capacity, `split_to` and `freeze` what is complete.
    ///
    /// Bytes that are left in it when it is given back are gone: take a partial frame out first.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Gives the buffer back; the same as dropping it, said aloud.
    #[inline]
    pub fn give_back(self) {}
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if !self.place.holds(&bytes) {
            return pool().medium().0.forget();
        }
        let fit = renew(&mut bytes);
        let mut left = Some(bytes);
        with_local(|local| left = left.take().and_then(|bytes| local.put_read(bytes, fit)));
        // What the thread has no place for; all of it while the thread is torn down.
        if let Some(bytes) = left {
            put_pooled(bytes);
        }
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuffer")
            .field("len", &self.bytes.len())
            .field("capacity", &self.bytes.capacity())
            .finish()
    }
}

/// See [`stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Read buffers taken without allocating.
    pub read_hits: u64,
    /// Read buffers that had to be allocated.
    pub read_misses: u64,
    /// Times that a large frame in progress got memory without allocating.
    pub frame_hits: u64,
    /// Times that memory for one had to be allocated.
    pub frame_misses: u64,
    /// Out buffers taken with capacity.
    pub out_hits: u64,
    /// Out buffers that started empty.
    pub out_misses: u64,
    /// Bytes that lie free in the pool.
    pub shared_bytes: usize,
    /// The pool behind all threads: buffers for frames of 64 KiB, read buffers, buffers for frames of
    /// 1 MiB. A read buffer counts as leased while it is on a thread's stack.
    pub pool: PoolStats,
}

impl WorkerStats {
    /// The share of read buffers taken without allocating, 0 to 1; 1 when none was taken.
    pub fn read_hit_rate(&self) -> f64 {
        share(self.read_hits, self.read_misses)
    }

    /// The share of times that a large frame in progress got memory without allocating, 0 to 1; 1 when
    /// none did.
    pub fn frame_hit_rate(&self) -> f64 {
        share(self.frame_hits, self.frame_misses)
    }
}

fn share(hits: u64, misses: u64) -> f64 {
    let all = hits + misses;
    if all == 0 {
        1.0
    } else {
        hits as f64 / all as f64
    }
}

/// Where a buffer began and what it had room for: what lies somewhere else at the end is not ours.
struct Place {
    start: usize,
    len: usize,
}

impl Place {
    #[inline]
    fn of(bytes: &BytesMut) -> Self {
        Self {
            start: bytes.as_ptr().addr(),
            len: bytes.capacity(),
        }
    }

    #[inline]
    fn holds(&self, bytes: &BytesMut) -> bool {
        bytes.as_ptr().addr().wrapping_sub(self.start) <= self.len
    }
}

/// A read buffer from the pool, allocated if it has none.
#[cold]
fn take_pooled() -> BytesMut {
    let (tier, search) = pool().medium();
    tier.take(tier.len, search)
}

/// Back to the pool with a read buffer, or what is left of it while slices of it live.
#[cold]
fn put_pooled(mut bytes: BytesMut) {
    let (tier, search) = pool().medium();
    if restore(&mut bytes, tier.len) {
        tier.put(bytes, tier.len, search);
    } else {
        tier.park(bytes);
    }
}

/// Makes a used buffer fit for the next read; `false` where there is too little left of it and slices
/// still live.
#[inline]
fn renew(bytes: &mut BytesMut) -> bool {
    bytes.clear();
    let gap = bytes.as_ptr().align_offset(LINE);
    if bytes.capacity() < READ_BUFFER_LEN.saturating_add(gap) {
        return restore(bytes, READ_LEN);
    }
    if gap > 0 {
        // Cheaper than a split, which counts a reference up and down.
        bytes.put_bytes(0, gap);
        bytes.advance(gap);
    }
    true
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Out,
}

/// What one thread keeps.
struct Local {
    // The read buffer at hand, of no capacity if there is none.
    current: BytesMut,
    // Those beneath it.
    read: Vec<BytesMut>,
    parked: VecDeque<BytesMut>,
    out: Vec<Vec<u8>>,
    hits: [u32; 2],
    misses: [u32; 2],
    trims: usize,
}

impl Local {
    fn new() -> Self {
        Self {
            current: BytesMut::new(),
            read: Vec::new(),
            parked: VecDeque::new(),
            out: Vec::new(),
            hits: [0; 2],
            misses: [0; 2],
            trims: 0,
        }
    }

    #[inline]
    fn read<R>(&mut self, read: impl FnOnce(&mut BytesMut) -> R) -> R {
        self.trim_if_asked();
        let hit = self.current.capacity() > 0 || self.find_read();
        if !hit {
            self.current = take_pooled();
        }
        self.count(hit, Kind::Read);
        // Of an earlier `read` that panicked: nobody may see another connection's bytes.
        self.current.clear();
        let place = Place::of(&self.current);
        let done = read(&mut self.current);
        if !place.holds(&self.current) {
            self.current = BytesMut::new();
            pool().medium().0.forget();
        } else if !renew(&mut self.current) {
            let used = std::mem::take(&mut self.current);
            if let Some(oldest) = self.park(used) {
                put_pooled(oldest);
            }
        }
        done
    }

    #[inline]
    fn take_read(&mut self) -> Option<BytesMut> {
        self.trim_if_asked();
        (self.current.capacity() > 0 || self.find_read()).then(|| std::mem::take(&mut self.current))
    }

    /// Makes one the current buffer: of the stack, the first parked one whose slices are gone, or a free
    /// one of the pool.
    #[cold]
    fn find_read(&mut self) -> bool {
        let mut parked = self.parked.iter_mut();
        let found = if let Some(bytes) = self.read.pop() {
            Some(bytes)
        } else if let Some(free) = parked.position(|bytes| restore(bytes, READ_LEN)) {
            self.parked.remove(free)
        } else {
            let (tier, search) = pool().medium();
            tier.take_free(tier.len, search)
        };
        let hit = found.is_some();
        self.current = found.unwrap_or_default();
        hit
    }

    /// Keeps a buffer, and says which one goes to the pool for it.
    #[inline]
    fn put_read(&mut self, bytes: BytesMut, fit: bool) -> Option<BytesMut> {
        if !fit {
            return self.park(bytes);
        }
        if self.current.capacity() == 0 {
            self.current = bytes;
            return None;
        }
        if self.read.len() + 1 == READ_STACK_MAX {
            return Some(bytes);
        }
        self.read.push(bytes);
        None
    }

    /// All read buffers that the thread has.
    fn drain_read(&mut self) -> impl Iterator<Item = BytesMut> {
        let current = std::mem::take(&mut self.current);
        let current = (current.capacity() > 0).then_some(current);
        current
            .into_iter()
            .chain(self.read.drain(..))
            .chain(self.parked.drain(..))
    }

    #[cold]
    fn park(&mut self, bytes: BytesMut) -> Option<BytesMut> {
        self.parked.push_back(bytes);
        if self.parked.len() > PARKED_MAX {
            self.parked.pop_front()
        } else {
            None
        }
    }

    #[inline]
    fn trim_if_asked(&mut self) {
        // Relaxed: see `trim`.
        let asked = TRIMS.load(Ordering::Relaxed);
        if self.trims != asked {
            self.trim(asked);
        }
    }

    #[cold]
    fn trim(&mut self, asked: usize) {
        self.trims = asked;
        self.out = Vec::new();
        let (tier, _) = pool().medium();
        for bytes in self.drain_read() {
            // Before it is counted as gone: the pool never has less than exists.
            drop(bytes);
            tier.forget();
        }
    }

    #[inline]
    fn count(&mut self, hit: bool, kind: Kind) {
        let counts = if hit {
            &mut self.hits
        } else {
            &mut self.misses
        };
        counts[kind as usize] += 1;
        if counts[kind as usize] >= FLUSH_EVERY {
            self.flush();
        }
    }

    #[cold]
    fn flush(&mut self) {
        let totals = totals();
        let [read_hits, out_hits] = std::mem::take(&mut self.hits);
        let [read_misses, out_misses] = std::mem::take(&mut self.misses);
        totals.read_hits.add(u64::from(read_hits));
        totals.out_hits.add(u64::from(out_hits));
        totals.read_misses.add(u64::from(read_misses));
        totals.out_misses.add(u64::from(out_misses));
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.flush();
        self.drain_read().for_each(put_pooled);
    }
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::new());
}

/// `None` inside another such call, and while the thread is being torn down.
#[inline]
fn with_local<R>(f: impl FnOnce(&mut Local) -> R) -> Option<R> {
    LOCAL
        .try_with(|local| local.try_borrow_mut().ok().map(|mut local| f(&mut local)))
        .ok()
        .flatten()
}

/// What all threads share.
struct Totals {
    read_hits: Counter,
    read_misses: Counter,
    frame_hits: Counter,
    frame_misses: Counter,
    out_hits: Counter,
    out_misses: Counter,
}

/// Raised by `trim`, compared by every thread on its takes.
static TRIMS: AtomicUsize = AtomicUsize::new(0);

fn totals() -> &'static Totals {
    static TOTALS: OnceLock<Totals> = OnceLock::new();
    TOTALS.get_or_init(|| Totals {
        read_hits: Counter::new(),
        read_misses: Counter::new(),
        frame_hits: Counter::new(),
        frame_misses: Counter::new(),
        out_hits: Counter::new(),
        out_misses: Counter::new(),
    })
}

fn pool_config(processors: usize) -> MemoryPoolConfig {
    MemoryPoolConfig::new()
        .small_len(SMALL_LEN)
        .small_count(SMALL_COUNT)
        .medium_len(READ_LEN)
        .medium_count(READ_COUNT + READ_COUNT_EACH * processors.min(1024))
        .large_len(LARGE_LEN)
        .large_count(LARGE_COUNT)
}

fn pool() -> &'static BufferPool {
    static SHARED: OnceLock<BufferPool> = OnceLock::new();
    SHARED.get_or_init(|| BufferPool::unchecked(pool_config(Topology::machine().processors())))
}

#[cfg(all(test, not(msgtrans_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_pool_is_legal() {
        for processors in [1, 2, 64, usize::MAX] {
            assert_eq!(pool_config(processors).check(), Ok(()));
        }
    }
}
