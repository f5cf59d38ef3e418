//! Retired nodes wait on the thread that retired them, and are freed there.
//!
//! Freed by whichever thread comes next, every other line of node and value would move to another core, and come back
//! to be used again. `grace` says when a batch may go. What a thread leaves behind, and what is more than it keeps,
//! is freed by whoever finds it.

use super::grace::{Guard, Since};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Nodes that are closed together, because each batch asks the kernel once.
const BATCH: usize = 128;

/// Closed batches that wait on a thread at most; with more, readers are slow to leave, and all threads share the work.
const WAITING_MAX: usize = 8;

/// So often does a reader look for what others have left behind.
const LOOKS_PER_VISIT: u64 = 1024;

/// How often `flush` looks whether the readers of the moment have left.
const FLUSH_LOOKS: usize = 64;

/// A node, and how to free it.
type Retired = (*mut (), unsafe fn(*mut ()));

/// Nodes that were retired before a moment.
struct Batch {
    since: Since,
    nodes: Vec<Retired>,
}

struct Limbo {
    open: RefCell<Vec<Retired>>,
    // In the order in which they were closed.
    closed: RefCell<VecDeque<Batch>>,
    // Nodes whose time has come, freed a few at a time: what an allocator keeps for a thread is soon full.
    leaving: RefCell<Vec<Retired>>,
    // A destructor may write to a map, and must not begin to free as well.
    freeing: Cell<bool>,
    // An empty list to be filled again.
    spare: Cell<Vec<Retired>>,
}

thread_local! {
    static LIMBO: Limbo = const {
        Limbo {
            open: RefCell::new(Vec::new()),
            closed: RefCell::new(VecDeque::new()),
            leaving: RefCell::new(Vec::new()),
            freeing: Cell::new(false),
            spare: Cell::new(Vec::new()),
        }
    };
}

/// Begins a look at a map.
#[inline(always)]
pub(crate) fn pin() -> Guard {
    let guard = super::grace::pin();
    if guard.is_one_in(LOOKS_PER_VISIT) {
        left::visit();
    }
    guard
}

/// Frees `node` with `free` after all guards that exist now are gone.
///
/// # Safety
/// `node` is no longer reachable for threads that pin from now on, is retired once, and `free` may
/// run on another thread at any later time.
#[inline]
pub(crate) unsafe fn retire(_: &Guard, node: *mut (), free: unsafe fn(*mut ())) {
    let retired = LIMBO.try_with(|limbo| {
        let mut open = limbo.open.borrow_mut();
        open.push((node, free));
        let full = open.len() >= BATCH;
        drop(open);
        if full {
            limbo.close();
        }
        limbo.free_some();
    });
    if retired.is_err() {
        // The thread is ending, and its own list is gone.
        left::leave(Batch {
            since: Since::now(),
            nodes: vec![(node, free)],
        });
    }
}

/// Frees what this thread has retired, and leaves to all threads what somebody may still look at.
pub(crate) fn flush() {
    let _ = LIMBO.try_with(Limbo::hand_over);
    Since::hurry();
    left::visit();
}

/// Frees all of them.
///
/// # Safety
/// `retire`'s caller vouched for the nodes, and their time has come.
unsafe fn free_all(mut nodes: Vec<Retired>) {
    // A destructor that panics leaks what is left here, nothing else.
    while let Some((node, free)) = nodes.pop() {
        // SAFETY: the caller vouches, and each is popped once.
        unsafe { free(node) };
    }
}

impl Limbo {
    /// Closes the open batch.
    #[cold]
    fn close(&self) {
        let nodes = self.open.replace(self.spare.take());
        // Not borrowed: crossbeam-epoch may run somebody's destructor here.
        let since = Since::now();
        let mut closed = self.closed.borrow_mut();
        closed.push_back(Batch { since, nodes });
        if closed.len() > WAITING_MAX {
            closed.pop_front().into_iter().for_each(left::leave);
        }
    }

    /// Moves the next batch on, if its time has come; says whether there is something to free.
    fn ripen(&self) -> bool {
        let mut closed = self.closed.borrow_mut();
        if !closed
            .front_mut()
            .is_some_and(|batch| batch.since.is_over())
        {
            return false;
        }
        if let Some(Batch { mut nodes, .. }) = closed.pop_front() {
            self.leaving.borrow_mut().append(&mut nodes);
            self.spare.set(nodes);
        }
        true
    }

    /// Frees as many as one retires; more when some have gathered while a reader was slow.
    #[inline]
    fn free_some(&self) {
        if (self.leaving.borrow().is_empty() && !self.ripen()) || self.freeing.replace(true) {
            return;
        }
        let _ended = Ended(&self.freeing);
        let gathered = !self.closed.borrow().is_empty();
        for _ in 0..1 + usize::from(gathered) {
            // Not borrowed while a destructor runs.
            let next = self.leaving.borrow_mut().pop();
            let Some((node, free)) = next else { return };
            // SAFETY: `retire`'s caller vouched for the node, its batch's time has come, and it is popped once.
            unsafe { free(node) };
        }
    }

    fn hand_over(&self) {
        let open = self.open.take();
        if !open.is_empty() {
            let since = Since::now();
            let batch = Batch { since, nodes: open };
            self.closed.borrow_mut().push_back(batch);
        }
        let leaving = self.leaving.take();
        let closed = self.closed.take();
        // SAFETY: these were taken from batches whose time had come.
        unsafe { free_all(leaving) };
        for mut batch in closed {
            if (0..FLUSH_LOOKS).any(|_| batch.since.is_over()) {
                // SAFETY: the time has come.
                unsafe { free_all(batch.nodes) };
            } else {
                left::leave(batch);
            }
        }
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        self.hand_over();
    }
}

struct Ended<'a>(&'a Cell<bool>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Batches that no thread keeps any more.
mod left {
    use super::*;

    struct Left {
        batch: Batch,
        next: *mut Left,
    }

    // A stack; taken as a whole, so that no address can come back while somebody exchanges it.
    static LEFT: AtomicPtr<Left> = AtomicPtr::new(ptr::null_mut());

    /// Leaves `batch` to whoever visits when its time has come.
    pub(super) fn leave(batch: Batch) {
        push(Box::new(Left {
            batch,
            next: ptr::null_mut(),
        }));
    }

    fn push(left: Box<Left>) {
        let left = Box::into_raw(left);
        let mut next = LEFT.load(Ordering::Relaxed);
        loop {
            // SAFETY: ours alone until the exchange below has succeeded.
            unsafe { (*left).next = next };
            // Release: publishes the batch; pairs with the Acquire in `visit`.
            match LEFT.compare_exchange_weak(next, left, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// Frees what was left and whose time has come.
    #[cold]
    pub(super) fn visit() {
        if LEFT.load(Ordering::Relaxed).is_null() {
            return;
        }
        // Acquire: pairs with the Release in `push`.
        let mut next = LEFT.swap(ptr::null_mut(), Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: it came from `into_raw` in `push`, and with the swap it became ours.
            let mut left = unsafe { Box::from_raw(next) };
            next = left.next;
            if left.batch.since.is_over() {
                // SAFETY: the time has come.
                unsafe { free_all(left.batch.nodes) };
            } else {
                push(left);
            }
        }
    }
}
