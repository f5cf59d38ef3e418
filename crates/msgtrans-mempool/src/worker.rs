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
//! 2. nobody holds a slice: made whole, and on the stack, else on the shared stack (17 MiB at most
//!    over all threads), else freed;
//! 3. slices still live: parked on this thread (4 at most, oldest let go first) and looked at again
//!    by later takes. A buffer that is let go is freed by its last slice.
//!
//! Buffers are not zeroed: `BytesMut` shows nobody what he has not written himself.

use bytes::{Buf, BufMut, BytesMut};
use crossbeam_queue::ArrayQueue;
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

// A page: kernel copies into a buffer that is not aligned relative to the source run at 2 to 3 GB/s
// instead of 40, and large blocks of glibc start at page + 16, the worst phase.
const PAGE: usize = 4096;
// Where a read behind another one starts: aligned for the kernel's copy, and no cache line is shared
// with bytes that somebody else may be looking at.
const LINE: usize = 64;
// What small reads may use up of a buffer before it is made whole again: some 100 lone messages, and
// little enough to stay in the nearest cache.
const SMALL_READS_LEN: usize = 16 * 1024;
const ALLOCATED: usize = READ_BUFFER_LEN + SMALL_READS_LEN + PAGE;
// Four nested passes are more than a worker ever has at once; 1 MiB a thread.
const READ_STACK_MAX: usize = 4;
// A parked buffer keeps its memory for as long as its slices live; 1 MiB a thread.
const PARKED_MAX: usize = 4;
const OUT_STACK_MAX: usize = 4;
// What the threads together may leave for one another: 64 buffers, 17 MiB.
const SHARED_MAX: usize = 64;
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
    ReadBuffer {
        bytes: Some(kept.flatten().unwrap_or_else(allocate)),
    }
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
    WorkerStats {
        read_hits: totals.read_hits.get(),
        read_misses: totals.read_misses.get(),
        out_hits: totals.out_hits.get(),
        out_misses: totals.out_misses.get(),
        read_let_go: totals.read_let_go.get(),
        shared_bytes: totals.shared.len() * ALLOCATED,
    }
}

/// Gives memory back: frees this thread's stacks and the shared one at once, and makes every other
/// thread free its own on its next take.
///
/// A thread that never takes again keeps what it holds, at most 2 MiB of read buffers.
pub fn trim() {
    // Relaxed: a thread that sees it later only trims later.
    TRIMS.fetch_add(1, Ordering::Relaxed);
    with_local(Local::trim_if_asked);
    while totals().shared.pop().is_some() {}
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
    // `None` only once dropped.
    bytes: Option<BytesMut>,
}

impl ReadBuffer {
    /// The buffer itself: read into its spare capacity, `split_to` and `freeze` what is complete.
    ///
    /// Bytes that are left in it when it is given back are gone: take a partial frame out first.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        self.bytes.get_or_insert_with(allocate)
    }

    /// Gives the buffer back; the same as dropping it, said aloud.
    #[inline]
    pub fn give_back(self) {}
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if let Some(mut bytes) = self.bytes.take() {
            let fit = renew(&mut bytes);
            // While the thread is torn down its stacks are gone, and the buffer is simply freed.
            with_local(|local| local.put_read(bytes, fit));
        }
    }
}

impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuffer")
            .field("len", &self.bytes.as_ref().map(BytesMut::len))
            .field("capacity", &self.bytes.as_ref().map(BytesMut::capacity))
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
    /// Out buffers taken with capacity.
    pub out_hits: u64,
    /// Out buffers that started empty.
    pub out_misses: u64,
    /// Read buffers freed because every stack was full.
    pub read_let_go: u64,
    /// Bytes on the shared stack now.
    pub shared_bytes: usize,
}

impl WorkerStats {
    /// The share of read buffers taken without allocating, 0 to 1; 1 when none was taken.
    pub fn read_hit_rate(&self) -> f64 {
        let takes = self.read_hits + self.read_misses;
        if takes == 0 {
            1.0
        } else {
            self.read_hits as f64 / takes as f64
        }
    }
}

#[cold]
fn allocate() -> BytesMut {
    let mut bytes = BytesMut::with_capacity(ALLOCATED);
    align_to_page(&mut bytes);
    bytes
}

/// Moves the start of an empty buffer to the next page boundary.
fn align_to_page(bytes: &mut BytesMut) {
    let gap = bytes.as_ptr().align_offset(PAGE);
    if gap > 0 {
        // Splitting within the spare capacity writes nothing; filling the gap and advancing over it
        // cost 4 KiB of cache at each turn.
        *bytes = bytes.split_off(gap);
    }
}

/// Makes a used buffer fit for the next read; `false` where there is too little left of it and slices
/// still live.
#[inline]
fn renew(bytes: &mut BytesMut) -> bool {
    bytes.clear();
    let gap = bytes.as_ptr().align_offset(LINE);
    if bytes.capacity() < READ_BUFFER_LEN.saturating_add(gap) {
        return restore(bytes);
    }
    if gap > 0 {
        // Cheaper than a split, which counts a reference up and down.
        bytes.put_bytes(0, gap);
        bytes.advance(gap);
    }
    true
}

/// Makes an empty buffer whole, unless slices of it still live.
fn restore(bytes: &mut BytesMut) -> bool {
    // Reclaiming moves the start back to that of the allocation, which is not aligned.
    if !bytes.try_reclaim(ALLOCATED) {
        return false;
    }
    align_to_page(bytes);
    true
}

#[derive(Clone, Copy)]
enum Kind {
    Read,
    Out,
}

/// What one thread keeps.
struct Local {
    read: Vec<BytesMut>,
    parked: VecDeque<BytesMut>,
    out: Vec<Vec<u8>>,
    hits: [u32; 2],
    misses: [u32; 2],
    trims: usize,
}

impl Local {
    const fn new() -> Self {
        Self {
            read: Vec::new(),
            parked: VecDeque::new(),
            out: Vec::new(),
            hits: [0; 2],
            misses: [0; 2],
            trims: 0,
        }
    }

    #[inline]
    fn take_read(&mut self) -> Option<BytesMut> {
        self.trim_if_asked();
        match self.read.pop() {
            Some(bytes) => Some(bytes),
            None => self.find_read(),
        }
    }

    #[cold]
    fn find_read(&mut self) -> Option<BytesMut> {
        self.reclaim_parked().or_else(|| totals().shared.pop())
    }

    /// The first parked buffer whose slices are gone. Looks at 4 at most.
    fn reclaim_parked(&mut self) -> Option<BytesMut> {
        let free = self.parked.iter_mut().position(restore)?;
        self.parked.remove(free)
    }

    fn put_read(&mut self, bytes: BytesMut, fit: bool) {
        let surplus = if !fit {
            // A buffer that was swapped for a small one by the user has nothing to wait for.
            if bytes.capacity() == 0 {
                return;
            }
            self.parked.push_back(bytes);
            if self.parked.len() <= PARKED_MAX {
                return;
            }
            let oldest = self.parked.pop_front();
            match oldest.map(|mut oldest| (restore(&mut oldest), oldest)) {
                Some((true, oldest)) => oldest,
                _ => return totals().read_let_go.add(1),
            }
        } else {
            bytes
        };
        if self.read.len() < READ_STACK_MAX {
            self.read.push(surplus);
        } else if totals().shared.push(surplus).is_err() {
            totals().read_let_go.add(1);
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
        self.read = Vec::new();
        self.parked = VecDeque::new();
        self.out = Vec::new();
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
    }
}

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local::new()) };
}

/// `None` while the thread is being torn down.
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
    out_hits: Counter,
    out_misses: Counter,
    read_let_go: Counter,
    shared: ArrayQueue<BytesMut>,
}

/// Raised by `trim`, compared by every thread on its takes.
static TRIMS: AtomicUsize = AtomicUsize::new(0);

fn totals() -> &'static Totals {
    static TOTALS: OnceLock<Totals> = OnceLock::new();
    TOTALS.get_or_init(|| Totals {
        read_hits: Counter::new(),
        read_misses: Counter::new(),
        out_hits: Counter::new(),
        out_misses: Counter::new(),
        read_let_go: Counter::new(),
        shared: ArrayQueue::new(SHARED_MAX),
    })
}
