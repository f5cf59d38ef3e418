//! The one door to atomics and queues: the real ones, or loom's under `--cfg msgtrans_loom`.

#[cfg(not(msgtrans_loom))]
mod imp {
    pub(crate) use crossbeam_queue::ArrayQueue;
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering};
}

#[cfg(msgtrans_loom)]
mod imp {
    use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    use std::collections::VecDeque;

    /// Stands for crossbeam's queue, whose own atomics loom cannot see.
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

        pub(crate) fn len(&self) -> usize {
            self.items
                .lock()
                .expect("loom models do not poison locks")
                .len()
        }
    }
}

pub(crate) use imp::*;
