//! When a node may be freed: once every thread that could still read it has moved on.
//!
//! `grace` decides that, and `limbo` who frees it. Under loom nodes are kept until the map is dropped, and retiring one
//! twice is an error that ends the model: these models check the list, and others `grace` by itself. Under shuttle a node is
//! freed as soon as it may be: when the last of the guards that stood at its retirement is gone.

#[cfg(not(any(msgtrans_loom, msgtrans_shuttle)))]
pub(super) use super::{
    grace::Guard,
    limbo::{flush, pin, retire},
};

#[cfg(msgtrans_shuttle)]
pub(super) use eager::{Guard, flush, pin, retire};
#[cfg(msgtrans_loom)]
pub(super) use model::{Guard, collect, flush, pin, retire};

#[cfg(msgtrans_loom)]
mod model {
    use crate::primitive::thread_index;
    use std::cell::RefCell;

    /// Loom runs all threads of a model on one thread of the system, so this is the model's own.
    type Garbage = Vec<(usize, Box<dyn FnOnce()>)>;

    thread_local! {
        static GARBAGE: RefCell<Garbage> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) struct Guard;

    impl Guard {
        pub(crate) fn thread(&self) -> usize {
            thread_index()
        }
    }

    pub(crate) fn pin() -> Guard {
        Guard
    }

    pub(crate) fn flush() {}

    /// # Safety
    /// As for the real one.
    pub(crate) unsafe fn retire(_: &Guard, node: *mut (), free: unsafe fn(*mut ())) {
        GARBAGE.with_borrow_mut(|garbage| {
            assert!(
                garbage.iter().all(|(address, _)| *address != node.addr()),
                "a node was retired twice"
            );
            // SAFETY: the caller vouches for `node`.
            garbage.push((node.addr(), Box::new(move || unsafe { free(node) })));
        });
    }

    /// Frees everything; called when the map is dropped.
    pub(crate) fn collect() {
        let garbage = GARBAGE.with_borrow_mut(std::mem::take);
        for (_, free) in garbage {
            free();
        }
    }
}

#[cfg(msgtrans_shuttle)]
mod eager {
    use crate::primitive::thread_index;
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::mem;

    struct Garbage {
        // The guards that stood when it was retired and still stand.
        guards: BTreeSet<u64>,
        free: Box<dyn FnOnce()>,
    }

    #[derive(Default)]
    struct State {
        last: u64,
        guards: BTreeSet<u64>,
        garbage: Vec<Garbage>,
    }

    thread_local! {
        // Shuttle runs all threads of a schedule on one thread of the system.
        static STATE: RefCell<State> = RefCell::default();
    }

    pub(crate) struct Guard(u64);

    impl Guard {
        pub(crate) fn thread(&self) -> usize {
            thread_index()
        }
    }

    pub(crate) fn pin() -> Guard {
        STATE.with_borrow_mut(|state| {
            state.last += 1;
            state.guards.insert(state.last);
            Guard(state.last)
        })
    }

    pub(crate) fn flush() {}

    impl Drop for Guard {
        fn drop(&mut self) {
            let ripe = STATE.with_borrow_mut(|state| {
                state.guards.remove(&self.0);
                let (ripe, rest) = mem::take(&mut state.garbage)
                    .into_iter()
                    .map(|mut garbage| {
                        garbage.guards.remove(&self.0);
                        garbage
                    })
                    .partition::<Vec<_>, _>(|garbage| garbage.guards.is_empty());
                state.garbage = rest;
                ripe
            });
            // Not while borrowed: a destructor may write to a map.
            for garbage in ripe {
                (garbage.free)();
            }
        }
    }

    /// # Safety
    /// As for the real one.
    pub(crate) unsafe fn retire(_: &Guard, node: *mut (), free: unsafe fn(*mut ())) {
        STATE.with_borrow_mut(|state| {
            state.garbage.push(Garbage {
                guards: state.guards.clone(),
                // SAFETY: the caller vouches for `node`.
                free: Box::new(move || unsafe { free(node) }),
            });
        });
    }
}
