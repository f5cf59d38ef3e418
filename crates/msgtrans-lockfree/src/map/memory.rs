//! Memory of nodes: freed blocks wait on the thread for its next inserts.
//!
//! Nodes are freed in bursts, by whichever thread collects the garbage of all, and usually not by
//! the one that allocated them: the case that costs a general allocator its arena lock. A short list
//! per thread and size takes most of that away.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

const STEP: usize = 16;
// Blocks up to 256 bytes are kept; larger ones are rare and the allocator's business.
const CLASSES: usize = 16;
// Garbage comes in bursts, larger ones when a thread is preempted while it reads: 64 KiB hold 2,048
// entries of two words. With 512 of them, eight threads on two cores took a quarter to a half longer.
// A map that only grows keeps none.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A free block; its memory holds the link to the next.
struct Block {
    next: *mut Block,
}

#[derive(Clone, Copy)]
struct List {
    first: *mut Block,
    len: usize,
}

const EMPTY: List = List {
    first: ptr::null_mut(),
    len: 0,
};

struct Kept {
    lists: [Cell<List>; CLASSES],
}

thread_local! {
    static KEPT: Kept = const { Kept { lists: [const { Cell::new(EMPTY) }; CLASSES] } };
}

/// The list and the layout of blocks for `T`; no list when it is too large or oddly aligned.
const fn class<T>() -> (Option<usize>, Layout) {
    let layout = Layout::new::<T>();
    let index = layout.size().div_ceil(STEP);
    // Loom, Miri and the sanitizers look for mistakes that reuse would hide.
    if cfg!(msgtrans_loom)
        || cfg!(msgtrans_shuttle)
        || cfg!(msgtrans_sanitize)
        || cfg!(miri)
        || layout.align() > STEP
        || index > CLASSES
        || index == 0
    {
        return (None, layout);
    }
    match Layout::from_size_align(index * STEP, STEP) {
        Ok(layout) => (Some(index - 1), layout),
        Err(_) => (None, layout),
    }
}

/// Memory for a `T`, not initialised. `T` is not zero-sized.
#[inline]
pub(super) fn take<T>() -> NonNull<T> {
    let (list, layout) = const { class::<T>() };
    let kept = list.and_then(|list| KEPT.try_with(|kept| kept.pop(list)).ok().flatten());
    if let Some(block) = kept {
        return block.cast();
    }
    // SAFETY: a node is never zero-sized, so the layout is not.
    let memory = unsafe { alloc(layout) };
    NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives memory back, after its `T` was dropped or moved out.
///
/// # Safety
/// `memory` came from `take::<T>` and is not used any more.
#[inline]
pub(super) unsafe fn give<T>(memory: NonNull<T>) {
    // Then a reader that comes too late finds what the destructor left, and the model says so.
    if cfg!(msgtrans_shuttle) {
        return;
    }
    let (list, layout) = const { class::<T>() };
    if let Some(list) = list
        // SAFETY: the caller vouches, and blocks of one list have one layout.
        && KEPT.try_with(|kept| unsafe { kept.push(list, memory.cast()) }) == Ok(true)
    {
        return;
    }
    // SAFETY: `take` allocated it with this layout.
    unsafe { dealloc(memory.as_ptr().cast(), layout) };
}

impl Kept {
    #[inline]
    fn pop(&self, list: usize) -> Option<NonNull<Block>> {
        let List { first, len } = self.lists[list].get();
        let block = NonNull::new(first)?;
        // SAFETY: blocks on a list belong to it and hold the link that `push` wrote.
        let next = unsafe { (*first).next };
        self.lists[list].set(List {
            first: next,
            len: len - 1,
        });
        Some(block)
    }

    /// Whether there was room.
    ///
    /// # Safety
    /// `block` is at least as large as this list's layout, aligned to `STEP`, and not used any more.
    #[inline]
    unsafe fn push(&self, list: usize, block: NonNull<Block>) -> bool {
        let List { first, len } = self.lists[list].get();
        if len >= KEPT_BYTES_MAX / ((list + 1) * STEP) {
            return false;
        }
        // SAFETY: the caller vouches for the memory, and a step is larger than a link.
        unsafe { block.write(Block { next: first }) };
        self.lists[list].set(List {
            first: block.as_ptr(),
            len: len + 1,
        });
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for list in 0..CLASSES {
            let layout = Layout::from_size_align((list + 1) * STEP, STEP);
            let layout = layout.expect("small multiples of the step are layouts");
            while let Some(block) = self.pop(list) {
                // SAFETY: every block of this list was allocated with this layout.
                unsafe { dealloc(block.as_ptr().cast(), layout) };
            }
        }
    }
}
