//! Memory of nodes: freed blocks wait on the thread for its next inserts.
//!
//! Nodes are freed in bursts, by whichever thread collects the garbage of all, and usually not by
//! the one that allocated them: the case that costs a general allocator its arena lock. A short list
//! per thread and size takes most of that away.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};

// An entry of two words is three with its link: what a general allocator has in its smallest block of 32 bytes, which
// rounding up to 16 would miss.
const STEP: usize = 8;
// Blocks up to 256 bytes are kept; larger ones are rare and the allocator's business.
const CLASSES: usize = 32;
// Garbage comes in bursts, larger ones when a thread is preempted while it reads: 64 KiB hold 2,730
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
    /// Blocks that found no room since one was last taken.
    refused: usize,
}

const EMPTY: List = List {
    first: ptr::null_mut(),
    len: 0,
    refused: 0,
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
        let List { first, len, .. } = self.lists[list].get();
        let Some(block) = NonNull::new(first) else {
            self.lists[list].set(EMPTY);
            return None;
        };
        // SAFETY: blocks on a list belong to it and hold the link that `push` wrote.
        let next = unsafe { (*first).next };
        self.lists[list].set(List {
            first: next,
            len: len - 1,
            refused: 0,
        });
        Some(block)
    }

    /// Whether there was room.
    ///
    /// # Safety
    /// `block` is at least as large as this list's layout, aligned to `STEP`, and not used any more.
    #[inline]
    unsafe fn push(&self, list: usize, block: NonNull<Block>) -> bool {
        let List {
            first,
            len,
            refused,
        } = self.lists[list].get();
        let most = KEPT_BYTES_MAX / ((list + 1) * STEP);
        if len >= most || refused >= most {
            self.refuse(list, most);
            return false;
        }
        // SAFETY: the caller vouches for the memory, and a step is larger than a link.
        unsafe { block.write(Block { next: first }) };
        self.lists[list].set(List {
            first: block.as_ptr(),
            len: len + 1,
            refused,
        });
        true
    }

    /// Counts a block that is not kept. When as many have come as the list holds, and none was taken meanwhile, the map
    /// is emptying: what was kept for its next inserts lies scattered among what was freed with it, and each block
    /// would hold a page of that. From then on nothing is kept until a block is asked for.
    #[cold]
    fn refuse(&self, list: usize, most: usize) {
        let refused = self.lists[list].get().refused + 1;
        if refused == most {
            self.empty(list);
        }
        let refused = refused.min(most);
        self.lists[list].set(List {
            refused,
            ..self.lists[list].get()
        });
    }

    fn empty(&self, list: usize) {
        let layout = Layout::from_size_align((list + 1) * STEP, STEP);
        let layout = layout.expect("small multiples of the step are layouts");
        while let Some(block) = self.pop(list) {
            // SAFETY: every block of this list was allocated with this layout.
            unsafe { dealloc(block.as_ptr().cast(), layout) };
        }
    }
}

/// Frees what the thread keeps.
pub(super) fn release() {
    // Where the thread is torn down, that frees it.
    let _ = KEPT.try_with(|kept| (0..CLASSES).for_each(|list| kept.empty(list)));
}

impl Drop for Kept {
    fn drop(&mut self) {
        (0..CLASSES).for_each(|list| self.empty(list));
    }
}

#[cfg(all(
    test,
    not(any(msgtrans_loom, msgtrans_shuttle, msgtrans_sanitize, miri))
))]
mod tests {
    use super::*;

    type Entry = [u64; 4];

    fn kept() -> usize {
        let (list, _) = class::<Entry>();
        KEPT.with(|kept| kept.lists[list.expect("small")].get().len)
    }

    fn come_and_go(entries: usize) {
        let taken: Vec<NonNull<Entry>> = (0..entries).map(|_| take()).collect();
        for memory in taken {
            // SAFETY: it was taken above, and is given back once.
            unsafe { give(memory) };
        }
    }

    #[test]
    fn a_thread_keeps_what_its_next_inserts_need_and_nothing_of_a_map_that_empties() {
        let most = KEPT_BYTES_MAX / size_of::<Entry>();
        come_and_go(100);
        assert_eq!(kept(), 100);
        come_and_go(most + 1);
        assert_eq!(kept(), most);
        come_and_go(2 * most);
        assert_eq!(kept(), 0);
        // Who comes back finds room again.
        come_and_go(100);
        assert_eq!(kept(), 100);
        release();
        assert_eq!(kept(), 0);
    }
}
