//! An entry of the list, and what owns it before it is there.

use super::memory;
use crate::primitive::AtomicPtr;
use std::ptr::{self, NonNull};

#[repr(C)]
pub(super) struct Link {
    // Written by exchange only, once its owner is in the list. See the table in `shard`.
    pub(super) next: AtomicPtr<Link>,
}

#[repr(C)]
pub(super) struct Node<K, V> {
    // First, so that a pointer to the node is a pointer to its link.
    pub(super) link: Link,
    // The order is not kept: it is one multiplication away, and without it an entry of two words fits the allocator's
    // smallest block.
    pub(super) key: K,
    pub(super) value: V,
}

/// A node that is not in a list yet.
pub(super) struct Fresh<K, V>(pub(super) NonNull<Node<K, V>>);

impl<K, V> Fresh<K, V> {
    #[inline]
    pub(super) fn new(key: K, value: V) -> Self {
        let link = Link {
            next: AtomicPtr::new(ptr::null_mut()),
        };
        let node = memory::take();
        // SAFETY: `take` returned memory for a node, ours alone.
        unsafe { node.write(Node { link, key, value }) };
        Self(node)
    }

    pub(super) fn into_value(self) -> V {
        let memory = self.0;
        std::mem::forget(self);
        // SAFETY: the node is ours alone, and its memory is not read again before it is given back.
        let node = unsafe { memory.read() };
        // SAFETY: it came from `take`, and the node was moved out.
        unsafe { memory::give(memory) };
        node.value
    }

    /// Hands the node over to the list.
    pub(super) fn into_raw(self) -> *mut Node<K, V> {
        let node = self.0;
        std::mem::forget(self);
        node.as_ptr()
    }
}

impl<K, V> Drop for Fresh<K, V> {
    fn drop(&mut self) {
        // SAFETY: never published, so nobody else uses it.
        unsafe { free_node::<K, V>(self.0.as_ptr().cast()) };
    }
}

/// # Safety
/// `node` is a `Node<K, V>` in memory of `take` and nobody uses it any more.
pub(super) unsafe fn free_node<K, V>(node: *mut ()) {
    let node = node.cast::<Node<K, V>>();
    // A destructor that panics leaks the memory, nothing else.
    // SAFETY: the caller vouches.
    unsafe { node.drop_in_place() };
    // SAFETY: a node is never at address 0.
    let memory = unsafe { NonNull::new_unchecked(node) };
    // SAFETY: the caller vouches.
    unsafe { memory::give(memory) };
}
