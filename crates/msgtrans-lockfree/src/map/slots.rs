//! Arrays of slots, and which of them is the last.

use super::node::Link;
use crate::primitive::AtomicPtr;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr;

/// The array of a level with the level in the bits that its alignment leaves free: on the way from a hash to its slot one
/// load tells both.
#[derive(Clone, Copy)]
pub(super) struct Last(pub(super) *mut Link);

/// No level is as high.
const ARRAY_ALIGN: usize = 64;

impl Last {
    pub(super) fn new(array: *mut Link, level: usize) -> Self {
        Self(array.map_addr(|address| address | level))
    }

    #[inline(always)]
    pub(super) fn level(self) -> usize {
        self.0.addr() % ARRAY_ALIGN
    }

    #[inline(always)]
    pub(super) fn array(self) -> *mut Link {
        self.0.map_addr(|address| address & !(ARRAY_ALIGN - 1))
    }
}

/// The memory of so many slots.
fn array_layout(len: usize) -> Layout {
    let layout = Layout::array::<Link>(len).and_then(|layout| layout.align_to(ARRAY_ALIGN));
    layout.expect("as many slots as have addresses")
}

/// So many slots that have never been used.
pub(super) fn new_array(len: usize) -> *mut Link {
    let layout = array_layout(len);
    // SAFETY: a level has two slots at least, so the layout is not empty.
    let array: *mut Link = unsafe { alloc(layout) }.cast();
    if array.is_null() {
        handle_alloc_error(layout);
    }
    for index in 0..len {
        // SAFETY: below the length of the array.
        let slot = unsafe { array.add(index) };
        let next = AtomicPtr::new(ptr::null_mut());
        // SAFETY: nobody else knows the array, and a slot fits there.
        unsafe { slot.write(Link { next }) };
    }
    array
}

/// # Safety
/// `array` came from `new_array(len)` and nobody else uses it any more.
pub(super) unsafe fn free_array(array: *mut Link, len: usize) {
    // SAFETY: the caller vouches; `new_array` has written every slot.
    unsafe { ptr::slice_from_raw_parts_mut(array, len).drop_in_place() };
    // SAFETY: the caller vouches, and this is the layout it was allocated with.
    unsafe { dealloc(array.cast(), array_layout(len)) };
}
