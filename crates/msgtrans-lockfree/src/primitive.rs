//! The one door to atomics, cells and queues: the real ones, or loom's.
//!
//! Every other module of this crate takes them from here and nowhere else. Under
//! `--cfg msgtrans_loom` the model checker then sees each access; a cfg of our own, because the
//! common `loom` cfg would change other crates too. With `--cfg msgtrans_shuttle` the atomics are
//! shuttle's, which runs threads in random orders, and the queues the real ones.

#[cfg(not(msgtrans_loom))]
mod imp {
    pub(crate) use crossbeam_queue::{ArrayQueue, SegQueue};
    pub(crate) use crossbeam_utils::CachePadded;
    #[cfg(msgtrans_shuttle)]
    pub(crate) use shuttle::sync::atomic::{
        AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering,
    };
    #[cfg(not(msgtrans_shuttle))]
    pub(crate) use std::sync::atomic::{
        AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence,
    };

    /// `std`'s cell with the closure interface of loom's, so that both read alike.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    #[cfg(not(msgtrans_shuttle))]
    static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

    #[cfg(not(msgtrans_shuttle))]
    thread_local! {
        // Relaxed: only uniqueness matters, and the addition is atomic.
        static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of shuttle's thread: they all run on one of the system's.
    #[cfg(msgtrans_shuttle)]
    pub(crate) fn thread_index() -> usize {
        shuttle::current::me().into()
    }

    /// A small number that no other thread of the process has or had.
    #[cfg(not(msgtrans_shuttle))]
    #[inline]
    pub(crate) fn thread_index() -> usize {
        // A thread that is being torn down still counts, where threads share.
        THREAD.try_with(|index| *index).unwrap_or(usize::MAX)
    }

    /// How many stripes a striped number has: the cores, rounded up to a power of two, at most 16.
    pub(crate) fn stripe_count() -> usize {
        use std::sync::OnceLock;
        static COUNT: OnceLock<usize> = OnceLock::new();
        *COUNT.get_or_init(|| {
            std::thread::available_parallelism()
                .map_or(4, |cores| cores.get().next_power_of_two().min(16))
        })
    }
}

#[cfg(msgtrans_loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    use loom::sync::Mutex;
    #[cfg(test)]
    pub(crate) use loom::sync::atomic::fence;
    pub(crate) use loom::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::ops::Deref;

    /// Padding costs loom nothing and tells it nothing.
    #[derive(Debug, Default)]
    pub(crate) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(value)
        }
    }

    impl<T> Deref for CachePadded<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    /// Stands for crossbeam's queue, whose own atomics loom cannot see: the models check what this
    /// crate builds around the queue, not the queue itself.
    #[derive(Debug)]
    pub(crate) struct ArrayQueue<T> {
        items: Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self {
                items: Mutex::new(VecDeque::new()),
                capacity,
            }
        }

        pub(crate) fn push(&self, value: T) -> Result<(), T> {
            let mut items = self.items.lock().expect("loom models do not poison locks");
            if items.len() == self.capacity {
                return Err(value);
            }
            items.push_back(value);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items
                .lock()
                .expect("loom models do not poison locks")
                .pop_front()
        }
    }

    /// See [`ArrayQueue`].
    #[derive(Debug)]
    pub(crate) struct SegQueue<T>(ArrayQueue<T>);

    impl<T> SegQueue<T> {
        pub(crate) fn new() -> Self {
            Self(ArrayQueue::new(usize::MAX))
        }

        pub(crate) fn push(&self, value: T) {
            assert!(
                self.0.push(value).is_ok(),
                "an unbounded queue is never full"
            );
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.pop()
        }
    }

    loom::thread_local! {
        static THREAD: Cell<Option<usize>> = Cell::new(None);
    }

    /// Loom's threads are told apart by the address of their own local, unless a model gives them numbers: to count them
    /// would be one more step of each thread in every model.
    pub(crate) fn thread_index() -> usize {
        THREAD.with(|own| {
            own.get()
                .unwrap_or_else(|| std::ptr::from_ref(own).addr() >> 3)
        })
    }

    /// Numbers a thread of a model, which has to be done before it asks; no two have the same number.
    #[cfg(test)]
    pub(crate) fn set_thread_index(index: usize) {
        THREAD.with(|own| own.set(Some(index)));
    }

    pub(crate) fn stripe_count() -> usize {
        2
    }
}

pub(crate) use imp::*;
