//! An allocator that remembers who allocated what is still there, while it is told to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The global allocator of this program.
pub(crate) struct Ledger;

/// An allocation that is still there.
pub(crate) struct Entry {
    /// Bytes asked for.
    pub(crate) size: usize,
    /// Bytes that the heap spends on it, its own word included.
    pub(crate) chunk: usize,
    pub(crate) backtrace: Backtrace,
}

/// What precedes each block of glibc's heap.
const HEAP_WORD: usize = 8;

// Relaxed: the sessions that are counted are opened long after it was set, and the lock orders the entries.
static ON: AtomicBool = AtomicBool::new(false);
static ENTRIES: Mutex<Option<HashMap<usize, Entry>>> = Mutex::new(None);

thread_local! {
    /// Whether this thread is inside the ledger, whose own allocations are nobody's.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Begins to remember.
pub(crate) fn start() {
    outside(|| *entries() = Some(HashMap::new()));
    ON.store(true, Relaxed);
}

/// Stops, and hands over what is there.
pub(crate) fn stop() -> Vec<Entry> {
    ON.store(false, Relaxed);
    outside(|| {
        let entries = entries().take().unwrap_or_default();
        entries.into_values().collect()
    })
}

fn entries() -> std::sync::MutexGuard<'static, Option<HashMap<usize, Entry>>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` with its allocations unrecorded.
fn outside<R>(work: impl FnOnce() -> R) -> R {
    let before = INSIDE.replace(true);
    let result = work();
    INSIDE.set(before);
    result
}

fn recorded() -> bool {
    // A thread that ends frees its last blocks after its thread-locals have gone.
    ON.load(Relaxed) && INSIDE.try_with(|inside| !inside.get()).unwrap_or(false)
}

fn enter(block: *mut u8, size: usize) {
    if block.is_null() || !recorded() {
        return;
    }
    outside(|| {
        // SAFETY: `block` was returned by the system's allocator a moment ago and has not been freed.
        let usable = unsafe { libc::malloc_usable_size(block.cast()) };
        let entry = Entry {
            size,
            chunk: usable + HEAP_WORD,
            backtrace: Backtrace::force_capture(),
        };
        if let Some(entries) = entries().as_mut() {
            entries.insert(block.addr(), entry);
        }
    });
}

fn leave(block: *mut u8) {
    if recorded() {
        outside(|| {
            if let Some(entries) = entries().as_mut() {
                entries.remove(&block.addr());
            }
        });
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the ledger only looks at addresses.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the system's allocator.
        let block = unsafe { System.alloc(layout) };
        enter(block, layout.size());
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        enter(block, layout.size());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Before it is freed: afterwards another thread may have been given the same address.
        leave(block);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        leave(block);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(block, layout, size) };
        enter(moved, size);
        moved
    }
}
