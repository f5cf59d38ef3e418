//! Retired nodes wait on the thread that retired them, and are freed there.
//!
//! crossbeam-epoch would have them freed by whichever thread collects next: every other line of node and value then moves
//! to another core, and comes back to be used again. Here it only says *when*: a batch of nodes is closed with one
//! deferred call, and when that call has run, no guard of the time of the closing is left, whoever ran it.

use super::reclaim::{Guard, pin};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Nodes that are closed together.
const BATCH: usize = 64;

/// Closed batches that wait on a thread at most; with more, readers are slow to leave, and all threads share the work.
const WAITING_MAX: usize = 8;

/// More than one, so that what has gathered while a reader was slow becomes less.
const FREED_PER_RETIRED: usize = 2;

/// A node, and how to free it.
type Retired = (*mut (), unsafe fn(*mut ()));

struct Limbo {
    open: RefCell<Vec<Retired>>,
    // In the order in which they were closed.
    closed: RefCell<VecDeque<Vec<Retired>>>,
    // How many of the closed batches have been taken off the front.
    freed: Cell<usize>,
    // Written by the deferred calls, one each; read by the thread.
    ripe: Arc<AtomicUsize>,
    // Ripe nodes, freed a few at a time: what an allocator keeps for a thread is soon full.
    leaving: RefCell<Vec<Retired>>,
    // A destructor may write to a map, and must not begin to free as well.
    freeing: Cell<bool>,
    // An empty list to be filled again.
    spare: Cell<Vec<Retired>>,
}

thread_local! {
    static LIMBO: Limbo = Limbo {
        open: RefCell::default(),
        closed: RefCell::default(),
        freed: Cell::new(0),
        ripe: Arc::default(),
        leaving: RefCell::default(),
        freeing: Cell::new(false),
        spare: Cell::default(),
    };
}

/// Nodes that nobody can reach any more.
struct Garbage(Vec<Retired>);

// SAFETY: `retire`'s caller vouches that a node may be freed on any thread.
unsafe impl Send for Garbage {}

impl Garbage {
    fn free(&mut self) {
        // A destructor that panics leaks what is left here, nothing else.
        while let Some((node, free)) = self.0.pop() {
            // SAFETY: `retire`'s caller vouched for the node, and each is popped once.
            unsafe { free(node) };
        }
    }
}

/// Frees `node` with `free` after all guards that exist now are gone.
///
/// # Safety
/// `node` is no longer reachable for threads that pin from now on, is retired once, and `free` may
/// run on another thread at any later time.
#[inline]
pub(crate) unsafe fn retire(guard: &Guard, node: *mut (), free: unsafe fn(*mut ())) {
    let retired = LIMBO.try_with(|limbo| {
        let mut open = limbo.open.borrow_mut();
        open.push((node, free));
        let full = open.len() >= BATCH;
        drop(open);
        if full {
            limbo.close(guard);
        }
        limbo.free_some();
    });
    if retired.is_err() {
        // The thread is ending, and its own list is gone.
        defer(guard, vec![(node, free)]);
    }
}

/// Leaves `batch` to whichever thread collects when its time has come.
fn defer(guard: &Guard, batch: Vec<Retired>) {
    let mut garbage = Garbage(batch);
    guard.defer(move || garbage.free());
}

/// Hands what this thread has retired over to all threads, and moves on by one step.
pub(crate) fn flush() {
    let guard = pin();
    let _ = LIMBO.try_with(|limbo| limbo.hand_over(&guard));
    guard.flush();
}

impl Limbo {
    /// Closes the open batch and looks what has become ripe.
    #[cold]
    fn close(&self, guard: &Guard) {
        let batch = self.open.replace(self.spare.take());
        if self.closed.borrow().len() >= WAITING_MAX {
            defer(guard, batch);
        } else {
            self.closed.borrow_mut().push_back(batch);
            let ripe = self.ripe.clone();
            // Release: passes on what the guards that are gone by then did; pairs with the load below.
            guard.defer(move || {
                ripe.fetch_add(1, Ordering::Release);
            });
        }
        // Begins the wait now, instead of with the sixty-fourth batch.
        guard.flush();
        // Acquire: pairs with the Release above. Batches are closed in order, so if the call of a later one was the first
        // to run, those before it are ripe too, and so many are ripe as calls have run.
        let ripe = self.ripe.load(Ordering::Acquire);
        while self.freed.get() < ripe {
            let Some(mut batch) = self.closed.borrow_mut().pop_front() else {
                return;
            };
            self.freed.set(self.freed.get() + 1);
            self.leaving.borrow_mut().append(&mut batch);
            self.spare.set(batch);
        }
    }

    /// Frees more than one retires.
    #[inline]
    fn free_some(&self) {
        if self.leaving.borrow().is_empty() || self.freeing.replace(true) {
            return;
        }
        let _ended = Ended(&self.freeing);
        for _ in 0..FREED_PER_RETIRED {
            // Not borrowed while a destructor runs.
            let next = self.leaving.borrow_mut().pop();
            let Some((node, free)) = next else { return };
            // SAFETY: `retire`'s caller vouched for the node, its batch is ripe, and it is popped once.
            unsafe { free(node) };
        }
    }

    fn hand_over(&self, guard: &Guard) {
        let closed = self.closed.take();
        // Their calls are counted all the same.
        self.freed.set(self.freed.get() + closed.len());
        for batch in closed
            .into_iter()
            .chain([self.open.take(), self.leaving.take()])
        {
            if !batch.is_empty() {
                defer(guard, batch);
            }
        }
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        let guard = pin();
        self.hand_over(&guard);
        guard.flush();
    }
}

struct Ended<'a>(&'a Cell<bool>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
