//! [`CountingAllocator`]: how many blocks a program takes from the heap, and how many bytes it holds of it.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The system's allocator, and a count of what is taken from it. Meant for tests that state what a
/// piece of code allocates, or that nothing of it is left.
///
/// ```
/// use msgtrans_mempool::CountingAllocator;
///
/// #[global_allocator]
/// static HEAP: CountingAllocator = CountingAllocator::new();
///
/// let before = HEAP.allocations();
/// drop(vec![0_u8; 100]);
/// assert!(HEAP.allocations() > before);
/// let block = vec![0_u8; 100];
/// assert!(HEAP.held_bytes() >= block.len());
/// ```
///
/// # Cost
/// Two atomic additions an allocation, and one when it is given back.
#[derive(Debug, Default)]
pub struct CountingAllocator {
    allocations: AtomicU64,
    held_bytes: AtomicUsize,
}

impl CountingAllocator {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self {
            allocations: AtomicU64::new(0),
            held_bytes: AtomicUsize::new(0),
        }
    }

    /// Blocks taken so far by all threads; one that grew or shrank counts again.
    pub fn allocations(&self) -> u64 {
        self.allocations.load(Ordering::Relaxed)
    }

    /// Bytes that were asked for and not given back yet, by all threads.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    fn took(&self, bytes: usize) {
        // Relaxed: numbers, nothing is ordered by them.
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn gave_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting does not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.took(new_size);
        self.gave_back(layout.size());
        // SAFETY: `block` came from the methods above, so from the system's allocator, with `layout`.
        unsafe { System.realloc(block, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.gave_back(layout.size());
        // SAFETY: `block` came from the methods above, so from the system's allocator, with `layout`.
        unsafe { System.dealloc(block, layout) }
    }
}
